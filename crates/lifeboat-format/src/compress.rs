//! How regions are compressed. What comes out is a plain zstd frame: these choices are the writer's, readers need none.
//!
//! Must stay true: one context a thread, used again for each region; no buffer is zeroed only to be written over.

use crate::{Error, Result};
use std::io::Cursor;
use zstd::zstd_safe::{CParameter, Strategy, compress_bound};

/// The level whose parameters are replaced by [`TUNED`].
const LEVEL_TUNED: i32 = 3;

/// zstd's own level 3 fills tables of 512 and 256 KiB, which compete with the region for the processor's second-level
/// cache. Smaller ones, and regions of 2 MiB instead of 1, take a tenth less time for the same size: on the sources of
/// Linux 6.12, 237.6 instead of 238.3 MB (`docs/decisions/0009-regions-of-two-mebibytes.md`).
const TUNED: [CParameter; 6] = [
    CParameter::Strategy(Strategy::ZSTD_dfast),
    CParameter::HashLog(16),
    CParameter::ChainLog(13),
    CParameter::MinMatch(5),
    CParameter::WindowLog(22),
    // The region's head knows it.
    CParameter::ContentSizeFlag(false),
];

/// Compresses regions; holds a zstd context of about 1 MiB.
pub(crate) struct Compressor(zstd::bulk::Compressor<'static>);

impl Compressor {
    /// With zstd's level, or with [`TUNED`] at level 3.
    pub(crate) fn new(level: i32) -> Result<Self> {
        let failed = |error: std::io::Error| Error::limit("compression level", error.to_string());
        let mut compressor = zstd::bulk::Compressor::new(level).map_err(failed)?;
        if level == LEVEL_TUNED {
            TUNED
                .into_iter()
                .try_for_each(|parameter| compressor.set_parameter(parameter))
                .map_err(failed)?;
        }
        Ok(Self(compressor))
    }

    /// Appends the frame to `output`; gives its length. On an error `output` is as it was.
    pub(crate) fn append(&mut self, plain: &[u8], output: &mut Vec<u8>) -> Option<usize> {
        let start = output.len();
        output.reserve(compress_bound(plain.len()));
        let mut cursor = Cursor::new(&mut *output);
        cursor.set_position(start as u64);
        match self.0.compress_to_buffer(plain, &mut cursor) {
            Ok(length) => Some(length),
            Err(_) => {
                output.truncate(start);
                None
            }
        }
    }
}
