//! Reads tar archives strictly: ustar, old tar, GNU and pax, with extended attributes, holes and large numbers.
//!
//! Must stay true:
//! - An archive that ends early is an error, wherever it ends: every member has all of its bytes, and two blocks of zeros
//!   follow the last one. Engines end archives early and call it success.
//! - What is not understood is refused by name, never guessed at, and never taken for something else.
//! - Memory is one block, one extended header of at most [`EXTENDED_BYTES_MAX`], as much of extended attributes for the
//!   member, and for all members that follow, and one map of holes of at most [`STRETCHES_MAX`] stretches, whatever the
//!   archive says.
//!
//! Names are given as they stand there; who makes entries of them decides which ones are fit.
//!
//! Read next: [`header`], [`pax`], [`members`]; [`split`] takes an archive apart without asking whether it is sound.

mod header;
mod members;
mod pax;
mod sparse;
pub mod split;

#[cfg(test)]
mod tests;

pub use members::Members;

use lifeboat_format::Timestamp;

/// The unit of a tar archive.
const BLOCK_BYTES: usize = 512;
/// Longest extended header or long name. Linux grants 64 KiB of attribute names and 64 KiB for each value.
pub const EXTENDED_BYTES_MAX: u64 = 8 << 20;
/// Most stretches of data in one sparse file: 4 MiB of memory.
pub const STRETCHES_MAX: usize = 1 << 18;

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link to this.
    Symlink(Vec<u8>),
    /// Another name of the member of this name.
    HardLink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice(u32, u32),
    /// A block device.
    BlockDevice(u32, u32),
}

/// One member of an archive, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name, as it stands there.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permissions: 12 bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Length of the file, holes included.
    pub size: u64,
    /// Bytes of it that are in the archive.
    pub stored_bytes: u64,
    /// Where its data is, if it has holes: offset and length, ascending; the rest is holes.
    pub stretches: Option<Vec<(u64, u64)>>,
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Why an archive could not be read on.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The stream failed.
    #[error("it cannot be read")]
    Stream(#[source] std::io::Error),
    /// It ends inside something.
    #[error("it ends early, at byte {at}: {within}")]
    Short {
        /// Where.
        at: u64,
        /// What is not complete.
        within: &'static str,
    },
    /// What is there is no tar archive.
    #[error("it is no sound tar archive, at byte {at}: {detail}")]
    Damaged {
        /// Where the header begins that is at fault.
        at: u64,
        /// What is wrong.
        detail: &'static str,
    },
    /// It uses what this program does not know.
    #[error("it has a member that this program cannot read, at byte {at}: {what}")]
    Unsupported {
        /// Where its header begins.
        at: u64,
        /// What it is.
        what: String,
    },
}

impl From<ArchiveError> for std::io::Error {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Stream(error) => error,
            other => Self::new(std::io::ErrorKind::InvalidData, other),
        }
    }
}
