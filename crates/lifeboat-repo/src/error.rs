//! What can go wrong with a repository, and what the caller may do about it.

use lifeboat_format::{ChunkId, ErrorKind as FormatKind, PackName, SnapshotId};
use lifeboat_store::ErrorKind as StoreKind;

/// What a caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Ask for something else.
    Usage,
    /// There is no repository, or no snapshot of that name.
    NotFound,
    /// Something is there already.
    Exists,
    /// Wrong password or key, or the operating system refuses.
    Denied,
    /// No space is left.
    Full,
    /// Try again later.
    Unavailable,
    /// Bytes are not what was written.
    Damaged,
    /// A newer lifeboat is needed.
    Unsupported,
    /// A collector ended this session: start over.
    Fenced,
    /// The user asked to stop.
    Interrupted,
    /// The local index cannot be used: rebuild it.
    Index,
}

/// Why an operation on a repository failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no repository at that place.
    #[error("there is no repository at {location}")]
    NoRepository {
        /// Where it was looked for.
        location: String,
    },
    /// `init` found a repository.
    #[error("there is a repository at {location} already")]
    RepositoryExists {
        /// Where.
        location: String,
    },
    /// `init` was interrupted before it wrote the config.
    #[error("the repository at {location} was never finished: it has keys but no config")]
    HalfCreated {
        /// Where.
        location: String,
    },
    /// No slot opens with the given secret.
    #[error("wrong password or key: none of the repository's {slots} key slots opens with it")]
    WrongKey {
        /// How many were tried.
        slots: usize,
    },
    /// A key file is not one.
    #[error(
        "{file} is not a lifeboat key file: it should be one line, `lifeboat-key-1` and 64 hexadecimal digits"
    )]
    KeyFile {
        /// The file.
        file: String,
    },
    /// Storage failed.
    #[error("{doing}")]
    Store {
        /// What was being done.
        doing: String,
        /// Why it failed.
        source: lifeboat_store::Error,
    },
    /// Bytes could not be decoded.
    #[error("{doing}")]
    Format {
        /// What was being done, with the object's name.
        doing: String,
        /// What is wrong with them.
        source: lifeboat_format::Error,
    },
    /// The local index failed, and rebuilding it did not help.
    #[error("the local index failed")]
    Index(#[source] lifeboat_index::Error),
    /// A file of the machine's own state failed.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A chunk that a snapshot needs is nowhere in the index.
    #[error("chunk {0} is in no pack")]
    MissingChunk(ChunkId),
    /// A pack that the index names is not stored.
    #[error("pack {0} is missing")]
    MissingPack(PackName),
    /// What was decoded is not what its name says.
    #[error("{what} is damaged: {detail}")]
    Damaged {
        /// The object.
        what: String,
        /// What is wrong.
        detail: String,
    },
    /// No snapshot has that name.
    #[error("no snapshot matches `{0}`")]
    NoSnapshot(String),
    /// Several snapshots begin with that prefix.
    #[error("`{prefix}` is not unique: it matches {matches}")]
    AmbiguousSnapshot {
        /// What was asked for.
        prefix: String,
        /// Some of what matches.
        matches: String,
    },
    /// Others keep changing the same snapshot.
    #[error("snapshot {0} is being changed by others; try again")]
    Contended(SnapshotId),
    /// The request makes no sense.
    #[error("{0}")]
    Usage(String),
    /// A collector ended this session.
    #[error("a garbage collection ended this session while it stood still")]
    Fenced,
    /// A collection is at work, or was cut off: what it may delete cannot be relied on unseen.
    #[error("a garbage collection runs on this repository, or was cut off; try again when one is through")]
    Collecting,
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoRepository { .. } | Self::HalfCreated { .. } | Self::NoSnapshot(_) => ErrorKind::NotFound,
            Self::RepositoryExists { .. } => ErrorKind::Exists,
            Self::WrongKey { .. } | Self::KeyFile { .. } => ErrorKind::Denied,
            Self::Store { source, .. } => match source.kind() {
                StoreKind::NotFound => ErrorKind::NotFound,
                StoreKind::Exists => ErrorKind::Exists,
                StoreKind::Denied => ErrorKind::Denied,
                StoreKind::Full => ErrorKind::Full,
                StoreKind::Damaged => ErrorKind::Damaged,
                StoreKind::Usage => ErrorKind::Usage,
                _ => ErrorKind::Unavailable,
            },
            Self::Format { source, .. } => match source.kind() {
                FormatKind::Damaged => ErrorKind::Damaged,
                FormatKind::Denied => ErrorKind::Denied,
                FormatKind::Unsupported => ErrorKind::Unsupported,
                FormatKind::Usage => ErrorKind::Usage,
            },
            Self::Index(_) => ErrorKind::Index,
            Self::Io { .. } | Self::Contended(_) | Self::Collecting => ErrorKind::Unavailable,
            Self::MissingChunk(_) | Self::MissingPack(_) | Self::Damaged { .. } => ErrorKind::Damaged,
            Self::AmbiguousSnapshot { .. } | Self::Usage(_) => ErrorKind::Usage,
            Self::Fenced => ErrorKind::Fenced,
            Self::Interrupted => ErrorKind::Interrupted,
        }
    }

    /// A function for `map_err` that says what was being done.
    pub fn format(doing: impl Into<String>) -> impl FnOnce(lifeboat_format::Error) -> Self {
        move |source| Self::Format { doing: doing.into(), source }
    }

    /// A function for `map_err` that says what was being done.
    pub fn store(doing: impl Into<String>) -> impl FnOnce(lifeboat_store::Error) -> Self {
        move |source| Self::Store { doing: doing.into(), source }
    }

    /// A function for `map_err` that says what was being done.
    pub fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { doing: doing.into(), source }
    }
}

/// The result of an operation on a repository.
pub type Result<T, E = Error> = std::result::Result<T, E>;
