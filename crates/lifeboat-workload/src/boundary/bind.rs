//! One bind mount of a container, and what this host has at its source.
//!
//! Must stay true: a path is judged by where it leads, so symbolic links are resolved here, before anybody decides.

use std::path::{Path, PathBuf};

/// What a bind's source is on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// A folder.
    Folder,
    /// A regular file.
    File,
    /// A socket.
    Socket,
    /// A character or block device.
    Device,
    /// A named pipe.
    Pipe,
    /// There is nothing, or nothing that this process may look at.
    Missing,
}

/// One bind of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// The container's name.
    pub container: String,
    /// Where the bind is seen in it.
    pub destination: String,
    /// The path on the host, as the engine says it.
    pub source: PathBuf,
    /// Where that leads: without symbolic links. The same as `source` where there is nothing.
    pub resolved: PathBuf,
    /// What is there.
    pub nature: Nature,
    /// What labels or the policy file say of this mount.
    pub wish: Wish,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wish {
    /// Nothing: the boundary decides.
    #[default]
    None,
    /// To be captured.
    Include,
    /// To be left out.
    Exclude,
}

impl Bind {
    /// A bind of a container, with what this host has at its source.
    pub fn of(container: &str, destination: &str, source: &Path, wish: Wish) -> Self {
        let resolved = std::fs::canonicalize(source).unwrap_or_else(|_| source.to_owned());
        Self {
            container: container.to_owned(),
            destination: destination.to_owned(),
            source: source.to_owned(),
            nature: nature_of(&resolved),
            resolved,
            wish,
        }
    }
}

fn nature_of(path: &Path) -> Nature {
    use std::os::unix::fs::FileTypeExt;
    let Ok(status) = std::fs::symlink_metadata(path) else { return Nature::Missing };
    match status.file_type() {
        kind if kind.is_dir() => Nature::Folder,
        kind if kind.is_file() => Nature::File,
        kind if kind.is_socket() => Nature::Socket,
        kind if kind.is_char_device() || kind.is_block_device() => Nature::Device,
        kind if kind.is_fifo() => Nature::Pipe,
        // A link that leads nowhere.
        _ => Nature::Missing,
    }
}
