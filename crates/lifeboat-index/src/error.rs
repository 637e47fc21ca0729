//! What can go wrong with the cache, and what the caller does about it.

use std::io;
use std::path::{Path, PathBuf};

/// What a caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The cache cannot be trusted: [`crate::Index::discard`] it and open it again, or work with a temporary one.
    Corrupt,
    /// No room is left where the cache lies: go on with [`crate::Index::open_spilling`], which writes elsewhere.
    Full,
    /// Another process writes this cache.
    Busy,
    /// The operating system refuses: no permission, too many open files, a failing disk.
    Unavailable,
    /// The caller's index object contradicts itself.
    Usage,
}

/// Why the cache could not answer or take something in.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What RocksDB reports.
    #[error("RocksDB fails in the index cache {}", directory.display())]
    Database {
        /// Where it lies.
        directory: PathBuf,
        /// What RocksDB's message means.
        kind: ErrorKind,
        /// What it says.
        source: rocksdb::Error,
    },
    /// RocksDB is content, but what it returns makes no sense.
    #[error("the index cache {} cannot be trusted: {detail}", directory.display())]
    Corrupt {
        /// Where it lies.
        directory: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// A change failed halfway, so that this instance takes no further ones; looking up still works.
    #[error("the index cache {} stopped taking changes after an earlier failure", directory.display())]
    Stopped {
        /// Where it lies.
        directory: PathBuf,
        /// The kind of that failure.
        kind: ErrorKind,
    },
    /// The operating system refused something besides RocksDB.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried: "create", "lock".
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
    /// Another process holds the lock.
    #[error("another process writes the index cache {}", directory.display())]
    Busy {
        /// Where it lies.
        directory: PathBuf,
    },
    /// An index object that no decoder would have returned.
    #[error("pack {pack} has {detail}")]
    Inconsistent {
        /// The pack that it describes.
        pack: lifeboat_format::PackName,
        /// The contradiction.
        detail: &'static str,
    },
}

impl Error {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Database { kind, .. } | Self::Stopped { kind, .. } => *kind,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                    ErrorKind::Full
                }
                _ => ErrorKind::Unavailable,
            },
            Self::Busy { .. } => ErrorKind::Busy,
            Self::Inconsistent { .. } => ErrorKind::Usage,
        }
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_path_buf(), source }
    }

    pub(crate) fn database(directory: &Path, source: rocksdb::Error) -> Self {
        Self::Database { directory: directory.to_path_buf(), kind: classify(&source), source }
    }

    pub(crate) fn corrupt(directory: &Path, detail: impl Into<String>) -> Self {
        Self::Corrupt { directory: directory.to_path_buf(), detail: detail.into() }
    }
}

/// RocksDB's C interface reports text only, and its I/O errors differ by the operating system's words alone.
fn classify(error: &rocksdb::Error) -> ErrorKind {
    const FULL: [&str; 3] = ["No space left on device", "Disk quota exceeded", "File too large"];
    let message: &str = error.as_ref();
    if FULL.iter().any(|words| message.contains(words)) {
        return ErrorKind::Full;
    }
    match error.kind() {
        // A file that RocksDB counts on is gone, or is no database at all.
        rocksdb::ErrorKind::IOError if message.contains("No such file") => ErrorKind::Corrupt,
        rocksdb::ErrorKind::Corruption
        | rocksdb::ErrorKind::NotFound
        | rocksdb::ErrorKind::NotSupported
        | rocksdb::ErrorKind::InvalidArgument => ErrorKind::Corrupt,
        _ => ErrorKind::Unavailable,
    }
}

/// The result of asking the cache.
pub type Result<T, E = Error> = std::result::Result<T, E>;
