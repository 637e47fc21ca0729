//! Which chunk lies where: a local cache in RocksDB that can always be rebuilt.
//!
//! [`Index`] takes in the index objects of a repository and answers where chunks lie. It knows no runtime and no
//! store: the caller lists the store's index objects, compares the list with [`Index::covered`], hands what is new to
//! [`Index::apply`], and only then what is gone to [`Index::retire`].
//!
//! Must stay true:
//! - **Never a wrong answer.** A change is one atomic, durable edit of the database: entries, the live packs and the
//!   record that an index object is covered come together or not at all. A foreign, half-written or corrupt cache is
//!   thrown away or reported as [`ErrorKind::Corrupt`]. Numbers of packs are never used twice.
//! - **Never a false miss.** While any live pack holds a chunk, the chunk is found: copies are kept as duplicates, and
//!   take the place of the entry whose pack dies.
//! - **Memory is bounded**: the block cache (32 MiB; a byte for each chunk where more than 32 million are there when it is
//!   opened, up to 112 MiB: [`Options::cache_bytes_max`]), some bits a pack, some kilobytes per 64 MiB of tables, and up to 48 MiB while changes
//!   are applied.
//!
//! Several processes work at once. The first one holds the lock and writes; the others read what is durable when they
//! open the cache, and keep what is new in a throw-away database of their own.
//!
//! Read next: `index` for looking up, `apply` and `retire` for what changes, `record` for what is stored.

mod apply;
mod blocks;
#[cfg(test)]
mod bounds_tests;
mod database;
mod error;
mod index;
mod live;
mod open;
mod packs;
mod record;
mod retire;
mod sort;
mod spill;
mod tables;

pub use error::{Error, ErrorKind, Result};
pub use index::{Counts, Index, RegionLocation};
pub use open::{Opening, Options};
pub use packs::{Pack, Packs};
pub use record::{ChunkLocation, PackNumber};
