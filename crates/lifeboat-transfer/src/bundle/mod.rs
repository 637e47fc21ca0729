//! Snapshots on their way from one repository to another: as a bundle in a file or pipe, or copied directly.
//!
//! Both are one stream of parts: [`export`] makes it, [`import`] takes it in. Must stay true: a snapshot arrives
//! identical, id included, or not at all; what the receiver has in the base is not sent. Read next: `export`, `follow`,
//! `import`, and `docs/format/bundle.md`.

mod copy;
mod error;
mod export;
mod file;
mod follow;
mod import;
mod numbers;
mod table;

pub use copy::{Copied, copy, mend};
pub use error::{Error, Result};
pub use file::{BundleFile, BundleReader, BundleWriter};
pub use lifeboat_format::bundle::{Base, Part, Totals};

use follow::{Checker, Follower};
use lifeboat_format::SnapshotId;
use lifeboat_format::bundle::Manifest;
use lifeboat_format::snapshot::{Snapshot, SnapshotKind, Source};
use lifeboat_repo::Repository;
use lifeboat_repo::session::SessionOptions;
use lifeboat_repo::snapshots::ListedSnapshot;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use table::ChunkTable;

/// Parts that wait between the one who makes them and the one who takes them.
const PARTS_WAITING: usize = 2;

/// The parts of a bundle in their order.
type Parts<'p> = dyn Iterator<Item = Result<Part>> + 'p;

/// How far a transfer is, and whether it shall stop.
#[derive(Debug, Default)]
pub struct Counters {
    /// Bytes of chunks that went over.
    pub bytes: AtomicU64,
    /// Entries that went over.
    pub entries: AtomicU64,
    /// The user asked to stop.
    pub interrupted: Arc<AtomicBool>,
}

impl Counters {
    fn add_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn add_entry(&self) {
        self.entries.fetch_add(1, Ordering::Relaxed);
    }

    fn check_interrupted(&self) -> Result<()> {
        match self.interrupted.load(Ordering::Relaxed) {
            true => Err(lifeboat_repo::Error::Interrupted.into()),
            false => Ok(()),
        }
    }
}

/// What a bundle leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// Nothing.
    Nothing,
    /// What this snapshot has.
    Snapshot(SnapshotId),
    /// What the snapshot's parent has.
    Parent,
    /// What the last full snapshot of the same sources has.
    LastFull,
}

/// What a bundle will hold.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// What it is the difference to.
    pub base: Option<Snapshot>,
    /// What this is called.
    pub kind: SnapshotKind,
}

/// What came of an import.
#[derive(Debug, Clone)]
pub struct Imported {
    /// The snapshot, as this repository has it.
    pub snapshot: Snapshot,
    /// What it came as the difference to.
    pub base: Option<Base>,
    /// What its bundle was called.
    pub kind: SnapshotKind,
    /// What the bundle held.
    pub totals: Totals,
    /// Bytes that were added to packs.
    pub stored_bytes: u64,
    /// The repository had the snapshot already: nothing was done.
    pub was_there: bool,
}

impl Imported {
    fn there_already(manifest: Manifest) -> Self {
        Self {
            snapshot: manifest.snapshot,
            base: manifest.base,
            kind: manifest.kind,
            totals: Totals::default(),
            stored_bytes: 0,
            was_there: true,
        }
    }
}

fn same_source(one: &Source, other: &Source) -> bool {
    (one.kind, &one.name) == (other.kind, &other.name)
}

impl Plan {
    /// Finds the base of a bundle of `snapshot` among what is listed.
    ///
    /// # Errors
    /// [`Error::ParentGone`], or that there is no snapshot of that id. A snapshot that was read without a parent needs
    /// no base, and its bundle is a full one, whatever was asked for.
    pub fn new(listed: &[ListedSnapshot], snapshot: &Snapshot, since: Since) -> Result<Self> {
        let find =
            |id: SnapshotId| listed.iter().map(|listed| &listed.snapshot).find(|snapshot| snapshot.id == id);
        let none = |id: SnapshotId| lifeboat_repo::Error::NoSnapshot(id.to_string());
        let (base, kind) = match since {
            Since::Nothing => (None, SnapshotKind::Full),
            Since::Snapshot(id) => (Some(find(id).ok_or_else(|| none(id))?), SnapshotKind::Incremental),
            Since::Parent => {
                let parents = || snapshot.sources.iter().filter_map(|source| source.parent);
                let newest = parents().filter_map(find).max_by_key(|parent| parent.started);
                if let (None, Some(parent)) = (newest, parents().next()) {
                    return Err(Error::ParentGone { id: snapshot.id, parent });
                }
                (newest, SnapshotKind::Incremental)
            }
            Since::LastFull => (last_full(listed, snapshot), SnapshotKind::Differential),
        };
        let base = base.filter(|base| base.id != snapshot.id);
        let kind = if base.is_some() { kind } else { SnapshotKind::Full };
        Ok(Self { snapshot: snapshot.clone(), base: base.cloned(), kind })
    }
}

fn is_full(snapshot: &Snapshot) -> bool {
    snapshot.sources.iter().all(|source| source.snapshot_kind == SnapshotKind::Full)
}

/// The newest full snapshot before `snapshot` on the same host that shares a source with it; none where it is full itself.
fn last_full<'l>(listed: &'l [ListedSnapshot], snapshot: &Snapshot) -> Option<&'l Snapshot> {
    if is_full(snapshot) {
        return None;
    }
    listed
        .iter()
        .map(|listed| &listed.snapshot)
        .filter(|other| other.started <= snapshot.started && other.host == snapshot.host && is_full(other))
        .filter(|other| {
            other.sources.iter().any(|one| snapshot.sources.iter().any(|other| same_source(one, other)))
        })
        .max_by_key(|other| other.started)
}

/// What a bundle of `plan` would hold. Reads trees, no data.
pub fn weigh(repository: &Repository, plan: &Plan, counters: &Counters) -> Result<Totals> {
    export::export(repository, plan, false, counters, &mut |_| Ok(()))
}

/// Writes the bundle of `plan`.
pub fn export<W: Write>(
    repository: &Repository,
    plan: &Plan,
    counters: &Counters,
    mut writer: BundleWriter<W>,
) -> Result<(Totals, BundleWriter<W>)> {
    let totals = piped(
        |send| export::export(repository, plan, true, counters, send),
        |parts| {
            for part in parts {
                writer.write(&part?)?;
            }
            Ok(())
        },
    )?;
    Ok((totals.0.ok_or(Error::Stopped)?, writer))
}

/// Takes a bundle in, or says that its snapshot is here already.
///
/// # Errors
/// [`Error::MissingBase`] names what the repository lacks. After any error the same bundle may be imported again; what was
/// stored until then is not stored twice.
pub fn import<R: Read + Send>(
    repository: &Repository,
    options: SessionOptions,
    counters: &Counters,
    reader: BundleReader<R>,
) -> Result<Imported> {
    let (_, imported) = piped(
        |send| {
            let mut reader = reader;
            reader.try_for_each(|part| send(part?))
        },
        |parts| import::import(repository, options, import::Goal::List, counters, parts),
    )?;
    Ok(imported)
}

/// Reads a whole bundle and sees that it is one. Needs no repository; of a difference, its base is not looked at.
pub fn check<R: Read>(
    counters: &Counters,
    mut reader: BundleReader<R>,
) -> Result<(Snapshot, Option<Base>, Totals)> {
    let manifest = next_manifest(&mut reader)?;
    let mut follower = Follower::new(&manifest, ChunkTable::new(), counters);
    for part in reader {
        follower.take(part?, &mut Checker)?;
    }
    let totals = follower.finish()?;
    Ok((manifest.snapshot, manifest.base, totals))
}

fn next_manifest(parts: &mut Parts<'_>) -> Result<Manifest> {
    match parts.next().transpose()? {
        Some(Part::Manifest(manifest)) => Ok(*manifest),
        _ => Err(Error::Damaged("it does not begin with its manifest".to_owned())),
    }
}

/// Runs the two sides of a transfer at once. Where both fail, the one that failed first says why.
fn piped<M: Send, T>(
    make: impl FnOnce(&mut export::Send<'_>) -> Result<M> + Send,
    take: impl FnOnce(&mut Parts<'_>) -> Result<T>,
) -> Result<(Option<M>, T)> {
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel::<Result<Part>>(PARTS_WAITING);
        let maker = scope.spawn(move || {
            let mut send = |part| sender.send(Ok(part)).map_err(|_| Error::Stopped);
            let made = make(&mut send);
            match made {
                Ok(made) => Ok(Some(made)),
                Err(Error::Stopped) => Ok(None),
                // The taker must not think that the parts ended in order.
                Err(error) => {
                    let _ = sender.send(Err(Error::Stopped));
                    Err(error)
                }
            }
        });
        let taken = take(&mut receiver.into_iter());
        // What the maker made is nothing where the taker had enough before its end.
        let made = maker.join().expect("the maker of parts does not panic")?;
        Ok((made, taken?))
    })
}
