//! How much a check reads.

use lifeboat_format::PackName;
use std::str::FromStr;

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Depth {
    /// Everything but file contents: index objects, pack lengths and directories, trees, and that each chunk is stored.
    Structure,
    /// The same, and all stored bytes of some packs.
    Part(Part),
    /// All stored bytes: pack names, seals and chunk ids too.
    Data,
}

/// Which packs are read whole, in restic's words.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Part {
    /// `2/7`: every pack is in exactly one of seven slices, by its name, and this is the second.
    Slice {
        /// Which slice, from 1.
        number: u32,
        /// How many there are.
        of: u32,
    },
    /// `5%`: so many of all packs, others in every run.
    Percent(f64),
    /// `10G`: about so many bytes of packs, others in every run.
    Bytes(u64),
}

impl FromStr for Part {
    type Err = String;

    /// Reads `2/7`, `5%`, `2.5%`; or bytes as a number, to which a suffix is the caller's to add.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no part of the data; try 1/10, 5% or 500M");
        if let Some((number, of)) = text.split_once('/') {
            let (number, of) = (number.parse().map_err(|_| wrong())?, of.parse().map_err(|_| wrong())?);
            return if (1..=of).contains(&number) { Ok(Self::Slice { number, of }) } else { Err(wrong()) };
        }
        if let Some(percent) = text.strip_suffix('%') {
            let percent: f64 = percent.parse().map_err(|_| wrong())?;
            return if percent > 0.0 && percent <= 100.0 { Ok(Self::Percent(percent)) } else { Err(wrong()) };
        }
        text.parse().map(Self::Bytes).map_err(|_| wrong())
    }
}

/// Which packs one run reads whole.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chosen {
    depth: Depth,
    /// Other in every run that chooses by chance.
    salt: [u8; 16],
    stored_bytes: u64,
}

impl Chosen {
    pub(super) fn new(depth: Depth, salt: [u8; 16], stored_bytes: u64) -> Self {
        Self { depth, salt, stored_bytes }
    }

    /// What is read of this pack.
    pub(super) fn of(&self, pack: &PackName) -> Depth {
        let Depth::Part(part) = self.depth else { return self.depth };
        let share = match part {
            Part::Slice { number, of } => {
                let mut first = [0; 8];
                first.copy_from_slice(&pack.0[..8]);
                let is_in = u64::from_le_bytes(first) % u64::from(of) == u64::from(number - 1);
                return if is_in { Depth::Data } else { Depth::Structure };
            }
            Part::Percent(percent) => percent / 100.0,
            Part::Bytes(bytes) => bytes as f64 / (self.stored_bytes as f64).max(1.0),
        };
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.salt).update(&pack.0);
        let mut number = [0; 4];
        number.copy_from_slice(&hasher.finalize().as_bytes()[..4]);
        let is_in = f64::from(u32::from_le_bytes(number)) < share * f64::from(u32::MAX);
        if is_in || share >= 1.0 { Depth::Data } else { Depth::Structure }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packs() -> Vec<PackName> {
        (0u32..1000).map(|number| PackName(*blake3::hash(&number.to_le_bytes()).as_bytes())).collect()
    }

    fn read(depth: Depth, salt: u8) -> Vec<PackName> {
        let chosen = Chosen::new(depth, [salt; 16], 1_000_000);
        packs().into_iter().filter(|pack| chosen.of(pack) == Depth::Data).collect()
    }

    #[test]
    fn slices_are_all_packs_and_none_twice() {
        let mut all: Vec<PackName> =
            (1..=7).flat_map(|number| read(Depth::Part(Part::Slice { number, of: 7 }), 0)).collect();
        assert_eq!(all.len(), 1000);
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 1000);
    }

    #[test]
    fn shares_are_about_as_large_as_they_say_and_others_each_time() {
        for depth in [Depth::Part(Part::Percent(10.0)), Depth::Part(Part::Bytes(100_000))] {
            let (one, other) = (read(depth, 1), read(depth, 2));
            assert!((60..150).contains(&one.len()) && one != other, "{}", one.len());
        }
        assert_eq!(read(Depth::Part(Part::Percent(100.0)), 3).len(), 1000);
        assert_eq!(read(Depth::Part(Part::Bytes(u64::MAX)), 3).len(), 1000);
        assert_eq!((read(Depth::Structure, 0).len(), read(Depth::Data, 0).len()), (0, 1000));
    }

    #[test]
    fn parts_are_read_in_the_usual_words_and_nonsense_is_refused() {
        assert_eq!("2/7".parse(), Ok(Part::Slice { number: 2, of: 7 }));
        assert_eq!("2.5%".parse(), Ok(Part::Percent(2.5)));
        assert_eq!("1000".parse(), Ok(Part::Bytes(1000)));
        for wrong in ["0/7", "8/7", "1/0", "0%", "101%", "NaN%", "-5%", "x", "", "/"] {
            assert!(wrong.parse::<Part>().is_err(), "{wrong}");
        }
    }
}
