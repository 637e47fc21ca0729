//! Every byte that lifeboat leaves behind, and the cryptography that protects it.
//!
//! The layouts are written down once, in `docs/format/`; this crate is their reference implementation. It knows no
//! clock, no file and no network: bytes go in and values come out, or an [`Error`] that says what is wrong.
//!
//! Must stay true: every decoder is total. Whatever the bytes, it returns; it never panics, and it never allocates more
//! than the limit stated in [`limits`]. The fuzz targets in `fuzz/` and the property tests here rely on nothing else.
//!
//! Read next: [`object`] for how objects are framed, [`keys`] for who can open what, [`pack`] for where data lives.

pub mod bundle;
mod compress;
pub mod condemned;
pub mod config;
pub mod entry;
mod error;
mod id;
pub mod index;
pub mod intent;
pub mod keys;
pub mod limits;
pub mod list;
mod many;
pub mod node;
pub mod object;
pub mod pack;
pub mod path;
pub mod region;
pub mod seal;
pub mod skeleton;
pub mod slot;
pub mod snapshot;
pub mod wire;

pub use entry::{Content, Entry, LinkGroup, Metadata, Node, Timestamp, Xattr, XattrValue};
pub use error::{Error, ErrorKind, Result};
pub use id::{
    AuthorId, BundleId, ChunkId, EnvelopeId, HostId, IndexName, PackName, RegionId, RepositoryId, SessionId,
    SlotId, SnapshotId, hex,
};
pub use object::{ObjectKey, ObjectKind};
pub use path::TreePath;
