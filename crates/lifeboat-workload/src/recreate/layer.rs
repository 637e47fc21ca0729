//! A writable layer into a container that was made and has not run.
//!
//! Must stay true: what the engine says about unpacking is not believed: the layer is read back through the engine and
//! compared. On this machine's disk the layer's own folder is restored instead, deletions included, while nothing has it
//! mounted; what goes through the engine finds the deletions made already, by an image of its own ([`super::derived`]). Where
//! that could not be, they are counted and named.
//!
//! What overlayfs notes for itself in a layer is of the old one and of no use to the new one: of `trusted.overlay.*` only
//! what hides a folder of the image's comes back.

use super::{Error, derived};
use crate::engine::Engine;
use crate::engine::views::Container;
use crate::layer::reach::{LayerWay, ReachedLayer};
use crate::layer::{LAYER_FOLDER, OPAQUE};
use crate::volume::sending::{self, DESCRIBED_MAX};
use lifeboat_format::{Entry, Node, TreePath};
use lifeboat_transfer::dump::TarStream;
use lifeboat_transfer::pieces::ChunkReader;
use lifeboat_transfer::restore::{EntryResult, Options, Overwrite, Progress, restore};
use std::path::Path;

/// The beginning of names that overlayfs keeps for itself.
const OVERLAY: &[u8] = b"trusted.overlay.";

/// How many folders of a read-only container are looked for one by one.
const FOLDERS_MAX: usize = 4096;
/// How many deletions are.
const LOOKS_MAX: usize = 4096;

/// What came of a layer.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Filled {
    /// Entries that are in the container as in the snapshot.
    pub restored: u64,
    /// Entries that are missing or different.
    pub failed: u64,
    /// Files of the image that the snapshot says were deleted.
    pub deleted: u64,
    /// Those of them that are there all the same, folders that should hide the image's among them.
    pub not_deleted: u64,
    /// Sockets: no archive can hold them.
    pub sockets: u64,
    /// The first differences, described.
    pub described: Vec<String>,
}

impl Filled {
    fn differs(&mut self, what: String) {
        self.failed += 1;
        if self.described.len() < DESCRIBED_MAX {
            self.described.push(what);
        }
    }

    /// Whether the layer is as it was.
    pub fn is_whole(&self) -> bool {
        self.failed + self.not_deleted + self.sockets == 0
    }
}

/// The entries of the layer, as often as they are needed: at and below `layer`, in order.
pub type Entries<'e> = dyn Fn() -> Result<Listed<'e>, Error> + 'e;
/// The entries once.
pub type Listed<'e> = Box<dyn Iterator<Item = EntryResult> + 'e>;

/// Restores a layer into a container, by the way that was found to it.
pub fn fill(
    engine: &Engine,
    reached: ReachedLayer,
    entries: &Entries<'_>,
    reader: &dyn ChunkReader,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Filled, Error> {
    match &reached.way {
        LayerWay::Direct(upper) => on_disk(upper, entries, reader, options, progress),
        LayerWay::Engine(_) => through_engine(engine, reached, entries, reader),
    }
}

pub(super) fn base() -> Result<TreePath, Error> {
    TreePath::from_slashes(LAYER_FOLDER.as_bytes()).map_err(|error| Error::Content(Box::new(error)))
}

pub(super) fn is_deletion(entry: &Entry) -> bool {
    entry.node == Node::CharDevice { major: 0, minor: 0 }
}

pub(super) fn is_opaque(entry: &Entry) -> bool {
    entry.metadata.xattrs.iter().any(|xattr| xattr.name == OPAQUE)
}

fn on_disk(
    upper: &Path,
    entries: &Entries<'_>,
    reader: &dyn ChunkReader,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Filled, Error> {
    let mut filled = Filled::default();
    let mut all = entries()?.map(|entry| {
        entry.map(|(path, mut entry)| {
            filled.deleted += u64::from(is_deletion(&entry));
            entry.metadata.xattrs.retain(|xattr| !xattr.name.starts_with(OVERLAY) || xattr.name == OPAQUE);
            (path, entry)
        })
    });
    let options = Options {
        overwrite: Overwrite::Always,
        delete: false,
        dry_run: false,
        verify: true,
        filter: None,
        ..*options
    };
    let report = restore(&mut all, &base()?, reader, upper, &options, progress).map_err(Error::Write)?;
    drop(all);
    filled.restored = report.files + report.directories + report.symlinks + report.others + report.links;
    filled.failed = report.failed;
    Ok(filled)
}

fn through_engine(
    engine: &Engine,
    reached: ReachedLayer,
    entries: &Entries<'_>,
    reader: &dyn ChunkReader,
) -> Result<Filled, Error> {
    let container = reached.container().clone();
    let additions = || -> Result<_, Error> {
        Ok(entries()?.filter_map(|entry| match entry {
            Ok((_, entry)) if is_deletion(&entry) => None,
            Ok((path, mut entry)) => {
                entry.metadata.xattrs.retain(|xattr| !xattr.name.starts_with(OVERLAY));
                Some(Ok((path, entry)))
            }
            Err(error) => Some(Err(error)),
        }))
    };
    let there = deletions(engine, &container, entries)?;
    let mut filled = match is_read_only(&container) {
        true => checked(engine, &container, refused(&mut additions()?)?)?,
        false => {
            put(engine, &container, additions()?, reader)?;
            let archive = reached.archive().map_err(crate::layer::LayerError::Stream)?;
            checked(engine, &container, sending::look_at_layer(archive, &mut additions()?, reader)?)?
        }
    };
    filled.deleted = there.deleted;
    filled.not_deleted = there.paths.len() as u64;
    for path in there.paths.into_iter().take(DESCRIBED_MAX.saturating_sub(filled.described.len())) {
        filled.described.push(format!("/{path}: was deleted; the image has it again"));
    }
    Ok(filled)
}

/// What was deleted, or hid the image's.
#[derive(Default)]
struct Deletions {
    deleted: u64,
    /// Those that the image has all the same.
    paths: Vec<String>,
}

/// Looks for what should be gone, before anything is put there anew: one by one up to [`LOOKS_MAX`], beyond that only where
/// the image was not made for it.
fn deletions(engine: &Engine, container: &Container, entries: &Entries<'_>) -> Result<Deletions, Error> {
    let (base, mut found, mut looks) = (base()?, Deletions::default(), 0);
    let is_derived = derived::run_of(&container.image).is_some();
    for entry in entries()? {
        let (path, entry) = entry.map_err(Error::Content)?;
        let is_hidden = is_opaque(&entry) && path != base;
        if !is_deletion(&entry) && !is_hidden {
            continue;
        }
        found.deleted += u64::from(is_deletion(&entry));
        let inner = path.strip(&base).unwrap_or_default().to_slashes();
        let text = String::from_utf8_lossy(&inner).into_owned();
        let is_there = match looks < LOOKS_MAX {
            true => engine.path_stat(&container.id, &format!("/{text}"))?.is_some(),
            false => !is_derived,
        };
        looks += 1;
        if is_there {
            found.paths.push(text);
        }
    }
    Ok(found)
}

fn is_read_only(container: &Container) -> bool {
    container.raw.pointer("/HostConfig/ReadonlyRootfs").and_then(serde_json::Value::as_bool) == Some(true)
}

/// An engine unpacks nothing into a container whose root is read-only. Such a layer rarely holds more than folders in
/// which the engine put something, so folders only have to be there.
fn refused(additions: &mut dyn Iterator<Item = EntryResult>) -> Result<sending::Look, Error> {
    let (mut look, base) = (sending::Look::default(), base()?);
    for entry in additions {
        let (path, entry) = entry.map_err(Error::Content)?;
        if entry.is_directory() && look.unseen.len() < FOLDERS_MAX {
            look.unseen.push(path);
            continue;
        }
        look.different += 1;
        if look.described.len() < DESCRIBED_MAX {
            let path = path.strip(&base).unwrap_or_default();
            look.described.push(format!("/{path}: the engine writes nothing into a read-only root"));
        }
    }
    Ok(look)
}

/// What a look at the layer came to. Folders that it did not show are looked for one by one.
fn checked(engine: &Engine, container: &Container, look: sending::Look) -> Result<Filled, Error> {
    let mut filled = Filled {
        restored: look.equal,
        failed: look.different,
        sockets: look.sockets,
        described: look.described,
        ..Filled::default()
    };
    for path in look.unseen {
        let inner = path.strip(&base()?).unwrap_or_default().to_slashes();
        let text = String::from_utf8_lossy(&inner).into_owned();
        match engine.path_stat(&container.id, &format!("/{text}"))? {
            Some(stat) if stat.is_directory() => filled.restored += 1,
            _ => filled.differs(format!("/{text}: is missing")),
        }
    }
    Ok(filled)
}

fn put<'r>(
    engine: &Engine,
    container: &Container,
    entries: impl Iterator<Item = EntryResult> + 'r,
    reader: &'r dyn ChunkReader,
) -> Result<(), Error> {
    Ok(engine.put_archive(&container.id, "/", TarStream::new(entries, &base()?, reader))?)
}
