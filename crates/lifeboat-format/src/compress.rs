//! How regions are compressed. What comes out is a plain zstd frame: these choices are the writer's, readers need none.
//!
//! Must stay true: one context a thread, used again for each region; no buffer is zeroed only to be written over.

use crate::{Error, Result};
use std::io::Cursor;
use zstd::zstd_safe::{CParameter, Strategy, compress_bound};

/// The level whose parameters are chosen by [`Effort`] instead.
const LEVEL_TUNED: i32 = 3;

/// What holds for every region at level 3.
const ALWAYS: [CParameter; 3] = [
    CParameter::MinMatch(5),
    CParameter::WindowLog(22),
    // The region's head knows it.
    CParameter::ContentSizeFlag(false),
];

/// How matches are looked for at level 3, chosen for each region by what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effort {
    /// zstd's own level 3 fills tables of 512 and 256 KiB, which compete with the region for the processor's second-level
    /// cache. Tables of 128 and 32 KiB, and regions of 2 MiB instead of 1, take a sixth less time for about the same size
    /// (`docs/decisions/0009-regions-of-two-mebibytes.md`, `docs/decisions/0032-smaller-tables.md`).
    Text,
    /// One table only, of 64 KiB, which takes more than a quarter less time than two: a PostgreSQL cluster becomes 2 %
    /// smaller, programs and libraries 3 % larger (`docs/decisions/0021-effort-by-content.md`, `0032-smaller-tables.md`).
    Binary,
}

impl Effort {
    /// Tables, programs and page files are full of zero bytes; text has none, and nor has what is compressed already.
    fn of(plain: &[u8]) -> Self {
        let (mut zeros, mut bytes) = (0, 0);
        for line in plain.chunks(LINE_BYTES).step_by(SAMPLE_LINES) {
            // In a byte: what compilers add sixty-four at a time.
            zeros += usize::from(line.iter().map(|byte| u8::from(*byte == 0)).sum::<u8>());
            bytes += line.len();
        }
        if zeros * ZEROS_PER > bytes { Self::Binary } else { Self::Text }
    }

    fn parameters(self) -> [CParameter; 3] {
        let (strategy, hash_log, chain_log) = match self {
            Self::Text => (Strategy::ZSTD_dfast, 15, 13),
            Self::Binary => (Strategy::ZSTD_fast, 14, 12),
        };
        [CParameter::Strategy(strategy), CParameter::HashLog(hash_log), CParameter::ChainLog(chain_log)]
    }
}

/// A processor's cache line: each that is looked at costs a wait for memory.
const LINE_BYTES: usize = 64;

/// One line in so many is looked at: 129, so that it is not the same place of every page.
const SAMPLE_LINES: usize = 129;

/// One zero byte in so many makes a region binary.
const ZEROS_PER: usize = 10;

/// Compresses regions; holds a zstd context of about 1 MiB.
pub(crate) struct Compressor {
    zstd: zstd::bulk::Compressor<'static>,
    /// What is set; `None` where the level alone decides.
    effort: Option<Effort>,
}

impl Compressor {
    /// With zstd's level; at level 3 with an effort chosen for each region.
    pub(crate) fn new(level: i32) -> Result<Self> {
        let failed = |error: std::io::Error| Error::limit("compression level", error.to_string());
        let mut zstd = zstd::bulk::Compressor::new(level).map_err(failed)?;
        let effort = (level == LEVEL_TUNED).then_some(Effort::Text);
        for parameter in effort.into_iter().flat_map(|effort| ALWAYS.into_iter().chain(effort.parameters())) {
            zstd.set_parameter(parameter).map_err(failed)?;
        }
        Ok(Self { zstd, effort })
    }

    fn choose(&mut self, plain: &[u8]) -> std::io::Result<()> {
        let wanted = self.effort.map(|_| Effort::of(plain));
        if wanted != self.effort {
            for parameter in wanted.into_iter().flat_map(Effort::parameters) {
                self.zstd.set_parameter(parameter)?;
            }
            self.effort = wanted;
        }
        Ok(())
    }

    /// Appends the frame to `output`; gives its length. On an error `output` is as it was.
    pub(crate) fn append(&mut self, plain: &[u8], output: &mut Vec<u8>) -> Option<usize> {
        self.choose(plain).ok()?;
        let start = output.len();
        output.reserve(compress_bound(plain.len()));
        let mut cursor = Cursor::new(&mut *output);
        cursor.set_position(start as u64);
        match self.zstd.compress_to_buffer(plain, &mut cursor) {
            Ok(length) => Some(length),
            Err(_) => {
                output.truncate(start);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_takes_more_effort_than_tables() {
        let text = b"static int probe(struct device *dev)\n".repeat(1000);
        let table: Vec<u8> = (0u32..50_000).flat_map(u32::to_le_bytes).collect();
        assert_eq!(Effort::of(&text), Effort::Text);
        assert_eq!(Effort::of(&table), Effort::Binary);
        assert_eq!(Effort::of(&[]), Effort::Text);
    }

    #[test]
    fn one_compressor_goes_from_one_effort_to_the_other_and_back() {
        let text = b"static int probe(struct device *dev)\n".repeat(1000);
        let table: Vec<u8> = (0u32..50_000).flat_map(u32::to_le_bytes).collect();
        let mut compressor = Compressor::new(LEVEL_TUNED).unwrap();
        for plain in [&text, &table, &text, &table, &table] {
            let mut frame = Vec::new();
            let length = compressor.append(plain, &mut frame).unwrap();
            assert_eq!(length, frame.len());
            assert_eq!(&zstd::bulk::decompress(&frame, plain.len()).unwrap(), plain);
        }
    }
}
