//! Containers come back: from the descriptions in a snapshot to a container of the same configuration.
//!
//! Must stay true: everything that speaks against it is said before anything is made; what is made is under another name
//! until it is whole, and gone again if it does not become so; a container that is there is never touched; no value of an
//! environment reaches a plan, a message or an error. What is not as it was stands in `docs/containers.md`, whose table a
//! test compares with real engines.
//!
//! Descriptions come from a repository that somebody else may have written: they are read as bytes of limited size, and
//! what is missing or odd in them is an error or is left to the engine.
//!
//! Read next: [`recorded`]; [`request`] and [`network`], which are pure; [`plan`]; [`carry_out`]; [`layer`]; [`derived`].

pub mod carry_out;
pub mod derived;
pub mod layer;
pub mod network;
pub mod plan;
pub mod recorded;
pub mod request;
pub mod same;

#[cfg(test)]
mod tests;

use crate::engine;
use crate::volume;

/// Why a container cannot be made anew.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// A volume failed.
    #[error(transparent)]
    Volume(#[from] volume::Error),
    /// The layer cannot be reached.
    #[error(transparent)]
    Layer(#[from] crate::layer::LayerError),
    /// The image without what was deleted of it cannot be made.
    #[error("an image without what was deleted of it cannot be made")]
    Image(#[from] crate::image::Error),
    /// A description in the snapshot is not one.
    #[error("{file} of the snapshot {detail}")]
    Record {
        /// Which.
        file: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// It cannot be a container's name.
    #[error("`{0}` cannot be the name of a container")]
    Name(String),
    /// There is one.
    #[error("there is a container {name} already")]
    Exists {
        /// Its name.
        name: String,
    },
    /// Its image is not on the engine.
    #[error("its image {name} ({id}) is not on the engine")]
    NoImage {
        /// As it was asked for.
        name: String,
        /// Its id.
        id: String,
        /// `NAME@sha256:…`, by which a registry gives it.
        digests: Vec<String>,
        /// Whether another image has the name there.
        is_other: bool,
    },
    /// A volume that it mounts is not there.
    #[error("volume {name} is not on the engine: the container would begin with an empty one")]
    NoVolume {
        /// Its name.
        name: String,
        /// Whether the snapshot has it.
        is_in_snapshot: bool,
    },
    /// A network that it is in is not there, and cannot be made.
    #[error("network {name} is not on the engine, and the snapshot does not say how to make it")]
    NoNetwork {
        /// Its name.
        name: String,
    },
    /// It uses what another container has, and that is not there.
    #[error("it uses the {what} of container {other}, which is not on the engine")]
    NoOther {
        /// `network`, `volumes` and so on.
        what: &'static str,
        /// Its name, or its id where no name is known.
        other: String,
    },
    /// The layer was written by a later lifeboat.
    #[error("the layer in the snapshot has version {0}, which this lifeboat does not know")]
    NewerLayer(u64),
    /// The repository cannot give what is to be restored.
    #[error("the layer cannot be read from the repository")]
    Content(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The layer could not be written on disk.
    #[error("the layer cannot be written")]
    Write(#[source] lifeboat_transfer::restore::Error),
}

impl Error {
    /// What to type next, where that can be said.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Engine(error) => return error.hint(),
            Self::Volume(error) => return error.hint(),
            Self::Exists { name } => {
                format!("--to container:{name}-restored    # or docker rename {name} {name}-old")
            }
            Self::NoImage { digests, name, is_other, .. } => match digests.first() {
                Some(digest) if *is_other || digest.split('@').next() == Some(name) => {
                    format!("docker pull {digest}")
                }
                Some(digest) => format!("docker pull {digest} && docker tag {digest} {name}"),
                None => format!(
                    "lifeboat restore ID:image:{name} --to image:    # if a snapshot has it; or docker load -i FILE"
                ),
            },
            Self::NoVolume { is_in_snapshot: true, .. } => "--with-volumes".to_owned(),
            Self::NoVolume { name, .. } => format!("docker volume create {name}    # if it may be empty"),
            Self::NoNetwork { name } => format!("docker network create {name}"),
            Self::NoOther { other, .. } => format!("lifeboat restore ID:container:{other} --to container:"),
            Self::NewerLayer(_) => "install a newer lifeboat".to_owned(),
            _ => return None,
        })
    }
}
