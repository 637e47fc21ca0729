//! What can go wrong with a bundle or a copy.

use lifeboat_format::{SnapshotId, Timestamp};

/// Why a bundle could not be made or taken in.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A repository failed.
    #[error(transparent)]
    Repository(#[from] lifeboat_repo::Error),
    /// The receiver lacks what the bundle is the difference to.
    #[error("it is the difference to snapshot {id} of host {host}, which this repository does not have")]
    MissingBase {
        /// The base.
        id: SnapshotId,
        /// Its host's name.
        host: String,
        /// When it was taken.
        started: Timestamp,
    },
    /// The receiver's base is another one under the same id.
    #[error("snapshot {id} is not in this repository what it was where the difference to it was made")]
    OtherBase {
        /// The base.
        id: SnapshotId,
    },
    /// The parent that a bundle was asked since is gone.
    #[error("snapshot {parent}, the parent of {id}, is not in this repository any more")]
    ParentGone {
        /// What was to be exported.
        id: SnapshotId,
        /// Its parent.
        parent: SnapshotId,
    },
    /// It is not what was written.
    #[error("the bundle is damaged: {0}")]
    Damaged(String),
    /// It was cut off.
    #[error("the bundle ends too early, after {0} whole frames: it was cut off")]
    CutOff(u64),
    /// Its bytes could not be decoded, or a value not be encoded.
    #[error("{doing}")]
    Format {
        /// What was being done.
        doing: &'static str,
        /// What is wrong.
        source: lifeboat_format::Error,
    },
    /// The bundle opens with another secret.
    #[error("wrong password or key: the bundle does not open with it")]
    WrongKey,
    /// The bundle or a scratch file could not be read or written.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The other side of a transfer ended first, and said why.
    #[error("the other side of the transfer ended")]
    Stopped,
}

impl Error {
    /// A function for `map_err` that says what was being done.
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }

    /// A function for `map_err` that says what was being done.
    pub(crate) fn format(doing: &'static str) -> impl FnOnce(lifeboat_format::Error) -> Self {
        move |source| match source {
            lifeboat_format::Error::WrongKey => Self::WrongKey,
            source => Self::Format { doing, source },
        }
    }

    /// Whether the user asked for this.
    pub fn is_interrupted(&self) -> bool {
        matches!(self, Self::Repository(lifeboat_repo::Error::Interrupted))
    }
}

/// The result of work on a bundle.
pub type Result<T, E = Error> = std::result::Result<T, E>;
