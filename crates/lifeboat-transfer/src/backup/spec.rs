//! What a backup is asked to read.
//!
//! A source is known by its kind and name: by them a later snapshot finds its parent, and a restore finds the source.
//! Where its bytes come from is the business of one run: a volume is read from its folder today, as a tar stream
//! tomorrow, and stays the same source.

use crate::source::compose::{Folder, MemoryFile};
use lifeboat_format::TreePath;
use lifeboat_format::snapshot::SourceKind;
use std::fmt;
use std::io::{Read, Result};
use std::path::PathBuf;
use std::sync::Arc;

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
    /// What a tar archive holds.
    Archive(ArchiveSpec),
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

/// A tree that comes as a tar archive.
///
/// The archive has to be sound to its end, and whole: see [`crate::source::archive`]. One that is not fails its source.
///
/// ```
/// use lifeboat_format::snapshot::SourceKind;
/// use lifeboat_transfer::backup::ArchiveSpec;
///
/// let mut volume = ArchiveSpec::new(SourceKind::Volume, "pgdata", || Ok(Box::new(std::io::stdin())));
/// volume.detail = r#"{"driver":"nfs","read":"through the engine"}"#.into();
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveSpec {
    /// What sort of thing it is.
    pub kind: SourceKind,
    /// Its name.
    pub name: String,
    /// A JSON object of at most 64 KiB, or empty. `docs/format/snapshot.md#details`
    pub detail: String,
    /// What all names in the archive begin with, and the source's do not: `data` for a member `data/file`.
    pub strip: TreePath,
    /// Whether the detail tells all of it: an earlier snapshot with the same detail has the same content, so it is not
    /// read again, and what is read cannot change meanwhile.
    pub is_told_by_detail: bool,
    /// Opens the archive.
    pub opener: Opener,
}

impl ArchiveSpec {
    /// What the archive that `open` opens holds, under this name.
    pub fn new(
        kind: SourceKind,
        name: impl Into<String>,
        open: impl Fn() -> Result<Box<dyn Read + Send>> + Send + Sync + 'static,
    ) -> Self {
        let opener = Opener(Arc::new(open));
        let (detail, strip) = (String::new(), TreePath::root());
        Self { kind, name: name.into(), detail, strip, is_told_by_detail: false, opener }
    }
}

type Open = dyn Fn() -> Result<Box<dyn Read + Send>> + Send + Sync;

/// Opens an archive each time that it is read: more than once where a backup has to start over.
#[derive(Clone)]
pub struct Opener(Arc<Open>);

impl Opener {
    pub(crate) fn open(&self) -> Result<Box<dyn Read + Send>> {
        (self.0)()
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Opener")
    }
}

impl PartialEq for Opener {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Opener {}

impl SourceSpec {
    pub(crate) fn kind_and_name(&self) -> (SourceKind, &[u8]) {
        match self {
            Self::Path(path) => (SourceKind::Path, path.as_os_str().as_encoded_bytes()),
            Self::Stdin(name) => (SourceKind::Stdin, name.as_bytes()),
            Self::Command(name, _) => (SourceKind::Command, name.as_bytes()),
            Self::Tree(tree) => (tree.kind, tree.name.as_bytes()),
            Self::Archive(archive) => (archive.kind, archive.name.as_bytes()),
        }
    }

    pub(crate) fn detail(&self) -> &str {
        match self {
            Self::Tree(tree) => &tree.detail,
            Self::Archive(archive) => &archive.detail,
            Self::Path(_) | Self::Stdin(_) | Self::Command(..) => "",
        }
    }

    /// What it is called in messages.
    pub(crate) fn shown(&self) -> PathBuf {
        match self {
            Self::Path(path) => path.clone(),
            Self::Stdin(name) | Self::Command(name, _) => PathBuf::from(name),
            Self::Tree(tree) if tree.kind == SourceKind::Path => PathBuf::from(&tree.name),
            Self::Tree(TreeSpec { kind, name, .. }) | Self::Archive(ArchiveSpec { kind, name, .. }) => {
                PathBuf::from(format!("{}:{name}", kind.word()))
            }
        }
    }

    /// Its folders and files, where it is walked and not streamed.
    pub(crate) fn parts(&self) -> Option<(Vec<Folder>, Vec<MemoryFile>)> {
        match self {
            Self::Path(path) => Some((vec![Folder::new(path)], Vec::new())),
            Self::Tree(tree) => Some((tree.folders.clone(), tree.files.clone())),
            Self::Stdin(_) | Self::Command(..) | Self::Archive(_) => None,
        }
    }
}
