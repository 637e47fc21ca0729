//! The repository: sessions, packs, trees, snapshots, check.
//!
//! A [`Repository`] is opened over a [`lifeboat_store::Store`]. Writers run a [`session::Session`] and feed it through
//! [`sink::ChunkSink`]s; readers use a [`reader::ChunkReader`] and walk trees with [`cursor::TreeCursor`].
//!
//! Must stay true: nothing here knows where files come from or go to; that is `lifeboat-transfer`.

pub mod amend;
mod announcement;
pub mod chains;
pub mod check;
mod claimed;
pub mod collect;
pub mod cursor;
pub mod diff;
mod error;
pub mod history;
pub mod host;
pub mod lists;
pub mod lookup;
mod packer;
pub mod reader;
mod remembered;
pub mod repair;
mod repository;
pub mod retention;
pub mod scrub;
pub mod session;
pub mod sink;
pub mod snapshots;
pub mod tree;
pub mod weigh;

pub use error::{Error, ErrorKind, Result};
pub use repository::{Repository, SlotInfo};
