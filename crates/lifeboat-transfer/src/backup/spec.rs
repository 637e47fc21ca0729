//! What a backup is asked to read.
//!
//! A source is known by its kind and name: by them a later snapshot finds its parent, and a restore finds the source.
//! Where its bytes come from is the business of one run: a volume is read from its folder today, as a tar stream
//! tomorrow, and stays the same source.

use crate::source::compose::{Folder, MemoryFile};
use lifeboat_format::snapshot::SourceKind;
use std::path::PathBuf;

/// What to back up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceSpec {
    /// A directory tree or a single file.
    Path(PathBuf),
    /// Standard input, under a name.
    Stdin(String),
    /// What a command writes to its standard output, under a name. No snapshot unless it exits with 0.
    Command(String, Vec<std::ffi::OsString>),
    /// A tree under a name of its own: a volume, a container, or a path that has a detail.
    Tree(TreeSpec),
}

/// A tree that is put together from folders on disk and files in memory.
///
/// ```
/// use lifeboat_format::snapshot::SourceKind;
/// use lifeboat_transfer::backup::TreeSpec;
///
/// let folder = "/var/lib/docker/volumes/pgdata/_data";
/// let mut volume = TreeSpec::folder(SourceKind::Volume, "pgdata", folder);
/// volume.detail = r#"{"driver":"local"}"#.into();
/// assert_eq!(volume.folders[0].root.as_os_str(), folder);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeSpec {
    /// What sort of thing it is.
    pub kind: SourceKind,
    /// Its name; for [`SourceKind::Path`] the canonical absolute path.
    pub name: String,
    /// A JSON object of at most 64 KiB, or empty. `docs/format/snapshot.md#details`
    pub detail: String,
    /// Folders on disk, none inside another.
    pub folders: Vec<Folder>,
    /// Files in memory; one takes the place of what a folder has there.
    pub files: Vec<MemoryFile>,
}

impl TreeSpec {
    /// The tree that is the folder `root`.
    pub fn folder(kind: SourceKind, name: impl Into<String>, root: impl Into<PathBuf>) -> Self {
        let folders = vec![Folder::new(root)];
        Self { kind, name: name.into(), detail: String::new(), folders, files: Vec::new() }
    }
}

impl SourceSpec {
    pub(crate) fn kind_and_name(&self) -> (SourceKind, &[u8]) {
        match self {
            Self::Path(path) => (SourceKind::Path, path.as_os_str().as_encoded_bytes()),
            Self::Stdin(name) => (SourceKind::Stdin, name.as_bytes()),
            Self::Command(name, _) => (SourceKind::Command, name.as_bytes()),
            Self::Tree(tree) => (tree.kind, tree.name.as_bytes()),
        }
    }

    pub(crate) fn detail(&self) -> &str {
        match self {
            Self::Tree(tree) => &tree.detail,
            Self::Path(_) | Self::Stdin(_) | Self::Command(..) => "",
        }
    }

    /// What it is called in messages.
    pub(crate) fn shown(&self) -> PathBuf {
        match self {
            Self::Path(path) => path.clone(),
            Self::Stdin(name) | Self::Command(name, _) => PathBuf::from(name),
            Self::Tree(tree) if tree.kind == SourceKind::Path => PathBuf::from(&tree.name),
            Self::Tree(tree) => PathBuf::from(format!("{}:{}", tree.kind.word(), tree.name)),
        }
    }

    /// Its folders and files, where it is walked and not streamed.
    pub(crate) fn parts(&self) -> Option<(Vec<Folder>, Vec<MemoryFile>)> {
        match self {
            Self::Path(path) => Some((vec![Folder::new(path)], Vec::new())),
            Self::Tree(tree) => Some((tree.folders.clone(), tree.files.clone())),
            Self::Stdin(_) | Self::Command(..) => None,
        }
    }
}
