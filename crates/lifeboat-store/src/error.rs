//! What can go wrong with a store, and what the caller may do about it.

use lifeboat_format::ObjectKey;
use rustix::io::Errno;
use std::io;
use std::path::PathBuf;

/// What a caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// It is not there.
    NotFound,
    /// The name is taken, by other bytes.
    Exists,
    /// What is stored is not what was written: repair.
    Damaged,
    /// Get the permission, or do not write to a read-only place.
    Denied,
    /// Make room.
    Full,
    /// Try again.
    Unavailable,
    /// Ask for something else.
    Usage,
}

/// Why a call of a store failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The object is not there.
    #[error("{object} is not in {location}")]
    NotFound {
        /// Which object.
        object: ObjectKey,
        /// The store.
        location: String,
    },
    /// Objects are never replaced.
    #[error("{object} exists in {location} already, with other bytes")]
    Exists {
        /// Which object.
        object: ObjectKey,
        /// The store.
        location: String,
    },
    /// The object cannot be what was put.
    #[error("{object} in {location} is damaged: {detail}")]
    Damaged {
        /// Which object.
        object: ObjectKey,
        /// The store.
        location: String,
        /// What is wrong with it.
        detail: String,
    },
    /// No reader would accept the object.
    #[error("{object} would be {bytes} bytes long, and {} are the most", object.kind().bytes_max())]
    TooLong {
        /// Which object.
        object: ObjectKey,
        /// Its length.
        bytes: u64,
    },
    /// The path is not what was expected.
    #[error("{} {problem}", path.display())]
    Repository {
        /// The repository's path.
        path: PathBuf,
        /// What is wrong with it.
        problem: RepositoryProblem,
    },
    /// The operating system refused.
    #[error("{}", io_message(act, object.as_ref(), path, *kind))]
    Io {
        /// What was tried: a verb.
        act: &'static str,
        /// The object that it was for, where there is one.
        object: Option<ObjectKey>,
        /// The file or folder.
        path: PathBuf,
        /// What the caller can do about it.
        kind: ErrorKind,
        /// The system's answer.
        source: io::Error,
    },
    /// Anything else; for stores outside this crate, too.
    #[error("{message}")]
    Other {
        /// What the caller can do about it.
        kind: ErrorKind,
        /// What failed, naming object and place.
        message: String,
        /// Why.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

/// What is wrong with a path that should hold, or take, a repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RepositoryProblem {
    /// Nothing is there.
    #[error("does not exist")]
    Missing,
    /// Something else is there.
    #[error("is not a directory")]
    NotDirectory,
    /// A directory without any part of a repository.
    #[error("is not a repository: it has no config")]
    NotRepository,
    /// Its making was interrupted; nothing was stored in it yet.
    #[error("is an unfinished repository: it has a folder for keys but no config")]
    HalfCreated,
    /// It held data and has lost its config.
    #[error("is a repository without its config: there are objects in `{folder}`")]
    ConfigLost {
        /// A folder that has objects.
        folder: &'static str,
    },
    /// Other people's files are there.
    #[error("is not empty: it has `{entry}`")]
    NotEmpty {
        /// One of its entries.
        entry: String,
    },
    /// A repository is there already.
    #[error("is a repository already")]
    Repository,
}

/// The result of a store's call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Exists { .. } => ErrorKind::Exists,
            Self::Damaged { .. } => ErrorKind::Damaged,
            Self::TooLong { .. } => ErrorKind::Usage,
            Self::Repository { problem, .. } => problem.kind(),
            Self::Io { kind, .. } | Self::Other { kind, .. } => *kind,
        }
    }

    /// An error without a cause below it.
    pub(crate) fn plain(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self::Other { kind, message: message.into(), source: None }
    }

    /// The object ends before what was asked of it.
    pub(crate) fn short(object: &ObjectKey, location: String, found: u64, expected: u128) -> Self {
        let detail = format!("it ends after {found} of {expected} bytes");
        Self::Damaged { object: object.clone(), location, detail }
    }
}

impl RepositoryProblem {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Missing => ErrorKind::NotFound,
            Self::NotDirectory | Self::NotRepository | Self::NotEmpty { .. } => ErrorKind::Usage,
            Self::HalfCreated | Self::ConfigLost { .. } => ErrorKind::Damaged,
            Self::Repository => ErrorKind::Exists,
        }
    }
}

fn io_message(
    act: &str,
    object: Option<&ObjectKey>,
    path: &std::path::Path,
    kind: ErrorKind,
) -> impl std::fmt::Display + use<> {
    let what = object.map(|object| format!(" {object}")).unwrap_or_default();
    let path = path.display();
    match kind {
        ErrorKind::Full => format!("there is no room left to {act}{what} at {path}"),
        ErrorKind::Denied => format!("no permission to {act}{what} at {path}"),
        _ => format!("cannot {act}{what} at {path}"),
    }
}

/// What a caller can do about the operating system's answer.
pub(crate) fn kind_of(error: &io::Error) -> ErrorKind {
    match Errno::from_io_error(error) {
        Some(Errno::NOENT) => ErrorKind::NotFound,
        Some(Errno::EXIST) => ErrorKind::Exists,
        Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => ErrorKind::Denied,
        Some(Errno::NOSPC | Errno::DQUOT) => ErrorKind::Full,
        Some(Errno::NOTDIR | Errno::ISDIR | Errno::LOOP) => ErrorKind::Damaged,
        Some(Errno::NAMETOOLONG | Errno::FBIG | Errno::XDEV) => ErrorKind::Usage,
        // EIO among them: a disk that was unplugged answers it for everything, and is not damaged.
        _ => ErrorKind::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_a_read_only_one_and_a_failing_one_are_told_apart() {
        let kind = |errno: Errno| kind_of(&errno.into());
        assert_eq!(kind(Errno::NOSPC), ErrorKind::Full);
        assert_eq!(kind(Errno::DQUOT), ErrorKind::Full);
        assert_eq!(kind(Errno::ACCESS), ErrorKind::Denied);
        assert_eq!(kind(Errno::ROFS), ErrorKind::Denied);
        assert_eq!(kind(Errno::NOENT), ErrorKind::NotFound);
        assert_eq!(kind(Errno::IO), ErrorKind::Unavailable);
        assert_eq!(kind_of(&io::Error::other("something")), ErrorKind::Unavailable);
    }

    #[test]
    fn a_message_names_object_and_path_and_leaves_the_cause_to_its_source() {
        let source = io::Error::from(Errno::NOSPC);
        let object = Some(ObjectKey::config());
        let path = PathBuf::from("/srv/backup/tmp");
        let error = Error::Io { act: "write", object, path, kind: kind_of(&source), source };
        assert_eq!(error.to_string(), "there is no room left to write config at /srv/backup/tmp");
        let source = std::error::Error::source(&error).unwrap();
        assert_eq!(source.to_string(), "No space left on device (os error 28)");
    }
}
