//! Why a restore ends early. Trouble with one file is a [`super::Problem`] instead and ends nothing.

use crate::pieces::ChunkError;
use lifeboat_format::TreePath;
use std::io;
use std::path::PathBuf;

/// What a caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// There is nothing at that path of the snapshot.
    NotFound,
    /// The snapshot's tree is not what was written, or cannot be read.
    Damaged,
    /// The target cannot be used.
    Target,
    /// The machine gave no thread.
    Unavailable,
    /// The caller asked for it.
    Interrupted,
}

/// Why a restore ended before its last entry. What was restored until then stays.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tree has no entry at the path to restore.
    #[error("the snapshot has nothing at `{base}`")]
    NotFound {
        /// What was to be restored.
        base: TreePath,
    },
    /// The next entry could not be read.
    #[error("the snapshot's tree cannot be read after `{after}`")]
    Tree {
        /// The last entry that was read.
        after: TreePath,
        /// What the repository says.
        #[source]
        source: ChunkError,
    },
    /// The tree is not one: nothing of it is trusted from here on.
    #[error("the snapshot's tree is refused at `{path}`: {detail}")]
    Damaged {
        /// The entry that does not fit.
        path: TreePath,
        /// What is wrong with it.
        detail: &'static str,
    },
    /// The target directory cannot be made or opened.
    #[error("cannot restore to {}", target.display())]
    Target {
        /// The directory.
        target: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// No thread could be started, or one died.
    #[error("a thread of the restore cannot be started")]
    Thread {
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The caller's flag was raised. Directories that were open at that moment lack their metadata.
    #[error("the restore was interrupted")]
    Interrupted,
}

impl Error {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Tree { .. } | Self::Damaged { .. } => ErrorKind::Damaged,
            Self::Target { .. } => ErrorKind::Target,
            Self::Thread { .. } => ErrorKind::Unavailable,
            Self::Interrupted => ErrorKind::Interrupted,
        }
    }
}

/// The result of a restore.
pub type Result<T, E = Error> = std::result::Result<T, E>;
