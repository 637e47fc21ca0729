//! What a snapshot says of a project: `project.json`. `docs/format/project.md`

use super::Error;
use super::drift::Drift;
use super::files::FileRecord;
use crate::versioned;
use serde::{Deserialize, Serialize};

/// A description longer than this is no description.
pub const DESCRIPTION_BYTES_MAX: u64 = 16 << 20;

/// A project, as it was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// 1; greater ones are refused.
    pub version: u32,
    /// Its name.
    pub name: String,
    /// The folder in which compose was run, on the host.
    pub folder: String,
    /// Compose's files, the first one first.
    pub compose_files: Vec<String>,
    /// Files that were given to compose for the values of variables.
    pub environment_files: Vec<String>,
    /// Its containers, in the order in which they are started.
    pub containers: Vec<Member>,
    /// The image of each container.
    pub images: Vec<ImageOf>,
    /// Volumes that its containers mount.
    pub volumes: Vec<External>,
    /// Networks that they are in.
    pub networks: Vec<External>,
    /// Files that compose read, and those that it could not.
    pub files: Vec<FileRecord>,
    /// Whether compose would have changed something then.
    pub drift: Drift,
}

/// One container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its id then.
    pub id: String,
    /// The service that it is of.
    pub service: String,
    /// Whether it ran.
    pub ran: bool,
}

/// The image of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageOf {
    /// The container's name.
    pub container: String,
    /// What the image is called in the snapshot: `image:NAME`.
    pub name: String,
    /// Its id then.
    pub id: String,
}

/// A volume or network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct External {
    /// Its name.
    pub name: String,
    /// Whether somebody else made it: it is made only where it is missing.
    pub external: bool,
}

impl Description {
    /// What this program writes.
    pub const VERSION: u32 = 1;

    /// Reads one.
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        versioned::read(bytes, Self::VERSION).map_err(Error::Record)
    }
}
