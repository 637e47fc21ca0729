//! Where files are cut.
//!
//! Content is cut by FastCDC (Xia et al., USENIX ATC 2016; normalization level 0) through the `fastcdc` crate, with a
//! gear table that only the repository's key holders know: cut points do not tell which public file was stored.
//!
//! Must stay true: the same bytes under the same key are cut at the same places, for ever. A change here stores
//! everything again; the golden test below pins it.
//!
//! Files that are made of pages are cut at pages: [`pages`] recognises them.
//!
//! Read next: `docs/format/config.md#cutting`.

pub mod pages;

use lifeboat_format::config::CutParameters;
use lifeboat_format::keys::Keys;

/// Finds the ends of chunks.
#[derive(Clone)]
pub struct Cutter {
    gear: Box<[u64; 256]>,
    gear_shifted: Box<[u64; 256]>,
    mask: u64,
    parameters: CutParameters,
}

impl Cutter {
    /// A cutter for one repository.
    pub fn new(keys: &Keys, parameters: CutParameters) -> Self {
        let mut bytes = vec![0; 256 * 8];
        keys.cut_bytes("gear table", &mut bytes);
        let mut gear = Box::new([0; 256]);
        for (value, bytes) in gear.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *value = u64::from_le_bytes(*bytes);
        }
        let gear_shifted = Box::new(gear.map(|value| value << 1));
        let mask = fastcdc::v2020::MASKS[parameters.bytes_mask.ilog2() as usize];
        Self { gear, gear_shifted, mask, parameters }
    }

    /// No chunk is longer than this; [`Self::cut`] needs to see as many bytes unless the data ends earlier.
    pub fn bytes_max(&self) -> usize {
        self.parameters.bytes_max as usize
    }

    /// Length of the first chunk of `data`, which is the rest of the file or at least [`Self::bytes_max`] of it.
    ///
    /// 0 for no data; otherwise at least the repository's least size, unless the data is shorter.
    pub fn cut(&self, data: &[u8]) -> usize {
        let CutParameters { bytes_min, bytes_mask, bytes_max } = self.parameters;
        if data.len() <= bytes_min as usize {
            return data.len();
        }
        let (_, end) = fastcdc::v2020::cut_gear(
            data,
            bytes_min as usize,
            // At level 0 both masks are equal, so the average only moves the point at which nothing changes.
            bytes_mask.max(bytes_min) as usize,
            bytes_max as usize,
            self.mask,
            self.mask,
            self.mask << 1,
            self.mask << 1,
            self.gear.as_slice(),
            self.gear_shifted.as_slice(),
        );
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_format::RepositoryId;
    use lifeboat_format::config::Parameters;
    use lifeboat_format::seal::{Key, Suite};
    use proptest::prelude::*;

    fn keys(master: u8) -> Keys {
        Keys::derive(&Key::new([master; 32]), RepositoryId([1; 16]), Suite::XChaCha20Poly1305)
    }

    fn noise(bytes: usize) -> Vec<u8> {
        let mut noise = vec![0; bytes];
        keys(9).cut_bytes("test data", &mut noise);
        noise
    }

    fn lengths(cutter: &Cutter, mut data: &[u8]) -> Vec<usize> {
        let mut lengths = Vec::new();
        while !data.is_empty() {
            let length = cutter.cut(data);
            lengths.push(length);
            data = &data[length..];
        }
        lengths
    }

    #[test]
    fn cut_points_never_move() {
        let cutter = Cutter::new(&keys(3), Parameters::default().cut);
        let golden = lengths(&cutter, &noise(200_000));
        assert_eq!(golden, GOLDEN);
    }

    const GOLDEN: [usize; 12] =
        [10327, 19562, 12502, 21847, 8544, 13878, 10325, 23218, 14970, 47134, 9444, 8249];

    #[test]
    fn another_key_cuts_elsewhere() {
        let data = noise(500_000);
        let [first, second] =
            [3, 4].map(|master| lengths(&Cutter::new(&keys(master), Parameters::default().cut), &data));
        assert_ne!(first, second);
    }

    #[test]
    fn an_insertion_moves_few_cuts() {
        let cutter = Cutter::new(&keys(3), Parameters::default().cut);
        let data = noise(2_000_000);
        let mut longer = b"inserted".to_vec();
        longer.extend_from_slice(&data);
        let pieces = |data: &[u8]| {
            let mut start = 0;
            lengths(&cutter, data)
                .into_iter()
                .map(|length| {
                    start += length;
                    blake3::hash(&data[start - length..start])
                })
                .collect::<std::collections::HashSet<_>>()
        };
        let (old, new) = (pieces(&data), pieces(&longer));
        assert!(
            new.difference(&old).count() <= 3,
            "{} of {} chunks are new",
            new.difference(&old).count(),
            new.len()
        );
    }

    proptest! {
        #[test]
        fn cuts_respect_their_bounds(length in 0usize..400_000, seed: u8) {
            let cutter = Cutter::new(&keys(seed), Parameters::default().cut);
            let data = &noise(400_000)[..length];
            let lengths = lengths(&cutter, data);
            prop_assert_eq!(lengths.iter().sum::<usize>(), length);
            prop_assert!(lengths.iter().all(|length| *length <= 65536));
            prop_assert!(lengths.iter().rev().skip(1).all(|length| *length >= 8192));
        }
    }
}
