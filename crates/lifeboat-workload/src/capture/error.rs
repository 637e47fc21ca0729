//! Why a group cannot be captured.

use crate::engine;
use crate::hooks;
use crate::quiesce::order;
use crate::quiesce::session;
use crate::recipes::at_work;

/// Why a group cannot be captured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// A volume.
    #[error(transparent)]
    Volume(#[from] crate::volume::Error),
    /// A writable layer.
    #[error(transparent)]
    Layer(#[from] crate::layer::LayerError),
    /// The engine describes something that is not a container.
    #[error(transparent)]
    Facts(#[from] crate::facts::NotAContainer),
    /// There is none of that name.
    #[error("there is no container {0}")]
    NoContainer(String),
    /// It has to be healthy and is not.
    #[error("container {name} is captured only while it is healthy, and {why}")]
    NotHealthy {
        /// Which.
        name: String,
        /// What it is instead.
        why: String,
    },
    /// A command before the capture.
    #[error("a command before the capture failed")]
    Hook(#[source] Box<hooks::Error>),
    /// A database.
    #[error(transparent)]
    Recipe(#[from] at_work::Error),
    /// Containers could not be made quiet.
    #[error("the containers could not be made quiet")]
    Session(#[source] Box<session::Error>),
    /// The user wants no more.
    #[error("interrupted")]
    Interrupted,
}

impl From<session::Error> for Error {
    fn from(error: session::Error) -> Self {
        match error {
            session::Error::Interrupted => Self::Interrupted,
            error => Self::Session(Box::new(error)),
        }
    }
}

impl Error {
    /// Whether another run works with the same containers.
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Session(error) if matches!(**error, session::Error::Busy { .. }))
    }

    /// Whether a container changed between the plan and its turn: another plan may fit.
    pub(super) fn is_stale_plan(&self) -> bool {
        let Self::Session(error) = self else { return false };
        matches!(**error, session::Error::Order(order::Error::Changed { .. }))
    }
}
