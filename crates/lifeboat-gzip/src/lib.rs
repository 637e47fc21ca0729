//! Gzip streams, taken apart into plain bytes and a recipe that makes the very same stream of them again.
//!
//! A layer of a container image is known by the digest of its gzip stream. Stored as it is, nothing in it is found twice;
//! stored as files, it cannot come back, as compressing them again gives other bytes. So an [`Analyzer`] predicts what the
//! program that wrote the stream would have written next, and notes down where it errs; a [`Recreator`] makes the same
//! predictions, and the same bytes.
//!
//! Predicted is Go's `compress/gzip` at its default level, which is what container engines and builders write layers with: up
//! to Go 1.26, and from 1.27 on, where it became another one. Other streams are told early, and have no recipe.
//!
//! # Guarantees
//!
//! Whatever was analyzed comes back bit by bit, also if it is cut off, damaged, several streams, or no stream at all behind
//! a good beginning: what cannot be predicted at a reasonable cost goes into the recipe as it is. Nobody checks a digest
//! here: who recreates a stream compares it with the one that is expected.
//!
//! # Cost
//!
//! A byte or two for each block that is predicted wholly, a few more where Go 1.27 chose codes that go on: 0.005 to 0.03 % of
//! the stream. Less than 4 MiB of memory for either direction, whatever the stream. About as much time as compressing.
//!
//! # Example
//!
//! ```
//! use lifeboat_gzip::{Analyzer, Fit, Recreator};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let stream = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/tar.gz"))?;
//! let (mut plain, mut recipe) = (Vec::new(), Vec::new());
//! let mut analyzer = Analyzer::new();
//! for part in stream.chunks(1000) {
//!     if analyzer.push(part, &mut plain, &mut recipe)? == Fit::NotPredictable {
//!         break;
//!     }
//! }
//! if analyzer.finish(&mut plain, &mut recipe)? == Fit::NotPredictable {
//!     // Nothing was written; store `analyzer.into_pushed()` and what was not pushed as they are.
//!     return Ok(());
//! }
//!
//! let mut again = Vec::new();
//! let mut recreator = Recreator::new(recipe.as_slice())?;
//! for part in plain.chunks(999) {
//!     recreator.push(part, &mut again)?;
//! }
//! recreator.finish(&mut again)?;
//! assert_eq!(again, stream);
//! # Ok(())
//! # }
//! ```
//!
//! Read next: `docs/format/gzip-recipe.md`.

mod analyze;
mod bits;
mod fast;
mod head;
mod huffman;
mod inflate;
mod predict;
mod recipe;
mod recreate;
mod symbols;

pub use analyze::{Analyzer, Fit};
pub use recreate::Recreator;

use std::io;

/// What a caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Recipe or plain bytes are not what was written.
    Damaged,
    /// A newer lifeboat wrote this recipe.
    Unsupported,
    /// Reading or writing failed: see the cause.
    Unavailable,
}

/// Why a stream cannot be recreated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The recipe contradicts itself or the plain bytes.
    #[error("the recipe of a gzip stream is damaged: {0}")]
    Damaged(&'static str),
    /// The recipe is newer than this program.
    #[error("the recipe of a gzip stream has {what} {number}, which this lifeboat does not know")]
    Unsupported {
        /// What is unknown.
        what: &'static str,
        /// Its number.
        number: u8,
    },
    /// The recipe cannot be read.
    #[error("the recipe of a gzip stream cannot be read")]
    Recipe(#[source] io::Error),
    /// The stream cannot be written.
    #[error("the gzip stream cannot be written")]
    Stream(#[source] io::Error),
}

impl Error {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Damaged(_) => ErrorKind::Damaged,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::Recipe(_) | Self::Stream(_) => ErrorKind::Unavailable,
        }
    }
}
