//! What can go wrong between sources, repository and targets.

use std::path::PathBuf;

/// Why a transfer failed as a whole.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The repository failed.
    #[error(transparent)]
    Repository(#[from] lifeboat_repo::Error),
    /// A source could not be read at all.
    #[error("{} {doing}", path.display())]
    Source {
        /// The source.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A command whose output was to be stored failed.
    #[error("the command of `command:{name}` failed: {detail}")]
    Command {
        /// The source's name.
        name: String,
        /// How it failed.
        detail: String,
    },
    /// Services could not be made to hold still.
    #[error("the services cannot be made to hold still")]
    Quiesce(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The request makes no sense.
    #[error("{0}")]
    Usage(String),
}

impl Error {
    /// Whether the user asked for this.
    pub fn is_interrupted(&self) -> bool {
        matches!(self, Self::Repository(lifeboat_repo::Error::Interrupted))
    }
}

/// The result of a transfer.
pub type Result<T, E = Error> = std::result::Result<T, E>;
