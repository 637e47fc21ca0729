//! Sources and sinks, backup and restore engines.
//!
//! [`backup::backup`] takes sources into a repository, [`restore`] writes them back. Must stay true: what was read is
//! verified before it is acknowledged, what is written is verified before it is written.

pub mod backup;
pub mod bundle;
mod descriptors;
pub mod dump;
mod error;
pub mod pieces;
pub mod restore;
pub mod snapshot_source;
pub mod source;

pub use error::{Error, Result};
