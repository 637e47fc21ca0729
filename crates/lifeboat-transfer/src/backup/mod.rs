//! The backup engine: from sources to a listed snapshot.
//!
//! [`backup`] reads sources as they are; [`backup_quiesced`] reads them twice, the second time while a [`Quiesce`] makes
//! their services hold still. Must stay true: `Ok` means that the snapshot is listed and durable, and everything that
//! could not be read is counted in it. Read next: `attempt`, `passes`, `tree_source`, then
//! `lifeboat_repo::session`.

mod archive_source;
mod attempt;
mod content;
mod counters;
mod crew;
mod cutting;
mod hard_links;
mod hint;
mod parent;
mod passes;
mod queue;
mod quiesce;
mod reading;
mod silent;
mod sorter;
mod spec;
mod stream;
mod taking;
mod tree_source;

pub use crate::source::compose::{Folder, MemoryFile};
pub use counters::Counters;
pub use parent::Comparison;
pub use quiesce::{Claims, Quiesce, ROUNDS_MAX, Remainder, Verdict};
pub use spec::{ArchiveSpec, Opener, SourceSpec, TreeSpec};

use crate::error::{Error, Result};
use crate::source::compose::{CannotBegin, Composition, Found};
use crate::source::exclude::Excludes;
use crate::source::file::Status;
use crate::source::walk::Problem;
use attempt::{Job, attempt, choose_parent, first_lines, source_of};
use lifeboat_chunker::Cutter;
use lifeboat_format::snapshot::{Snapshot, SnapshotKind, SourceKind};
use lifeboat_format::{HostId, Timestamp, TreePath};
use lifeboat_repo::Repository;
use lifeboat_repo::reader::ChunkReader;
use lifeboat_repo::session::Session;
use parent::{Parent, ParentCursor};
use rustix::fs::FileType;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often a session that a collection ended is started over.
const SESSIONS_MAX: u32 = 3;

/// How to back up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Full, incremental or differential.
    pub kind: SnapshotKind,
    /// The user's words.
    pub tags: Vec<String>,
    /// Name of the host.
    pub host: String,
    /// Identity of the host.
    pub host_id: HostId,
    /// Name of the user.
    pub user: String,
    /// What is left out.
    pub excludes: Excludes,
    /// How unchanged files are recognised.
    pub comparison: Comparison,
    /// zstd level; 0 stores everything raw.
    pub compression_level: i32,
    /// Threads that read and compress.
    pub threads: usize,
    /// Version of the program.
    pub program: String,
    /// How often a checkpoint is left; `None` for the default of five minutes.
    pub checkpoint_interval: Option<Duration>,
}

/// Told what happens while it happens.
pub trait Progress: Sync {
    /// Something of a source could not be read. The rest goes on.
    fn unreadable(&self, path: &std::ffi::OsStr, detail: &str);
    /// Something to know that is no failure.
    fn notice(&self, text: &str);
    /// A full snapshot found other content under the size and times that the file had in the one before: silent
    /// corruption, or tampering. What was found is stored.
    fn silent_change(&self, path: &std::ffi::OsStr) {
        self.notice(&format!("{}: its content changed under unchanged size and times", path.display()));
    }
}

/// What came of a backup.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The snapshot, listed unless this was a dry run.
    pub snapshot: Snapshot,
    /// Files that were gone when it was their turn.
    pub vanished: u64,
    /// Files that were still changing when they were read for the last time.
    pub torn: u64,
    /// Sources that could not be read at all, while others could.
    pub sources_failed: u64,
    /// Files whose content changed under unchanged size and times, as a full snapshot found.
    pub silent_changes: u64,
}

/// What the threads of one source share.
pub(crate) struct Run<'r> {
    pub(crate) session: Arc<Session>,
    pub(crate) cutter: Cutter,
    pub(crate) threads: usize,
    pub(crate) counters: &'r Counters,
    /// Reads what parents say.
    pub(crate) reader: &'r ChunkReader,
    progress: &'r dyn Progress,
    pub(crate) pass: Pass,
}

/// What reading is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pass {
    /// What is read is what is stored.
    Last,
    /// Everything is looked at again, and what goes wrong now may go well then.
    Rehearsal,
    /// The same, but for one part that is not looked at again, and may be a mix of moments: a database mends it by its log.
    Mended(TreePath),
}

/// What a source is called in messages.
#[derive(Debug, Clone)]
pub(crate) struct SourceName {
    pub(crate) shown: PathBuf,
    /// Whether it holds what overlayfs keeps: see [`reading::is_of_overlay`].
    pub(crate) is_layer: bool,
    /// What of it a database goes on writing while it is read, behind what is needed of it: nobody is told of that.
    pub(crate) written_on: Vec<TreePath>,
}

impl SourceName {
    fn of(spec: &SourceSpec) -> Self {
        let is_layer = spec.kind_and_name().0 == SourceKind::Container;
        Self { shown: spec.shown(), is_layer, written_on: Vec::new() }
    }

    fn plain(name: &(impl AsRef<std::ffi::OsStr> + ?Sized)) -> Self {
        Self { shown: name.into(), is_layer: false, written_on: Vec::new() }
    }

    fn is_written_on(&self, path: &TreePath) -> bool {
        self.written_on.iter().any(|part| path.starts_with(part))
    }

    fn full_path(&self, path: &TreePath) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        if path.is_root() {
            self.shown.clone()
        } else {
            self.shown.join(std::ffi::OsStr::from_bytes(&path.to_slashes()))
        }
    }
}

impl Run<'_> {
    pub(crate) fn problem(&self, source: &SourceName, problem: &Problem) {
        match &self.pass {
            Pass::Last => {}
            Pass::Rehearsal => return,
            // What is gone while a database works is in its log.
            Pass::Mended(part) if problem.vanished || !problem.path.starts_with(part) => return,
            Pass::Mended(_) => {}
        }
        if problem.vanished && source.is_written_on(&problem.path) {
            return;
        }
        let path = source.full_path(&problem.path);
        if problem.vanished {
            self.counters.vanished.fetch_add(1, Ordering::Relaxed);
            self.progress.notice(&format!("{}: vanished while it was its turn", path.display()));
        } else {
            self.counters.errors.fetch_add(1, Ordering::Relaxed);
            self.progress.unreadable(path.as_os_str(), &format!("{}: {}", problem.doing, problem.error));
        }
    }

    pub(crate) fn classify(&self, status: &Status, existed: bool, kept: bool) {
        self.counters.classify(status, existed, kept);
    }

    pub(crate) fn torn(&self, source: &SourceName, path: &TreePath) {
        if self.pass != Pass::Last || source.is_written_on(path) {
            return;
        }
        self.counters.torn.fetch_add(1, Ordering::Relaxed);
        let path = source.full_path(path);
        self.progress.notice(&format!(
            "{}: kept changing while it was read; its copy may mix two moments",
            path.display()
        ));
    }
}

/// Backs up `specs` into one snapshot.
///
/// # Errors
/// When nothing could be stored, the repository failed, a command failed, or the user interrupted. Unreadable files are
/// no error: they are reported and counted in the snapshot's sources.
pub fn backup(
    repository: &Repository,
    specs: &[SourceSpec],
    options: &Options,
    counters: &Counters,
    progress: &dyn Progress,
) -> Result<Outcome> {
    run(&Job { repository, specs, options, counters, progress, quiesce: None })
}

/// Backs up `specs` into one snapshot that shows one moment, in which `quiesce` makes the services hold still.
///
/// # Errors
/// As [`backup`], and [`Error::Quiesce`] where the services cannot be made to hold still.
///
/// # Cost
/// Reads what changed between the passes twice, and stores both where the content differs.
pub fn backup_quiesced(
    repository: &Repository,
    specs: &[SourceSpec],
    options: &Options,
    counters: &Counters,
    progress: &dyn Progress,
    quiesce: &dyn Quiesce,
) -> Result<Outcome> {
    run(&Job { repository, specs, options, counters, progress, quiesce: Some(quiesce) })
}

fn run(job: &Job<'_>) -> Result<Outcome> {
    crate::descriptors::raise_limit();
    for _ in 1..SESSIONS_MAX {
        match attempt(job) {
            Err(Error::Repository(lifeboat_repo::Error::Fenced)) => {
                job.progress.notice(
                    "a garbage collection ended this session; starting over with what is stored already",
                );
                job.counters.reset();
            }
            result => return result,
        }
    }
    attempt(job)
}

/// Walks `specs` and says what a backup would read; nothing is read or stored.
pub fn dry_run(
    repository: &Repository,
    specs: &[SourceSpec],
    options: &Options,
    counters: &Counters,
    progress: &dyn Progress,
) -> Result<Outcome> {
    crate::descriptors::raise_limit();
    let started = now();
    let history = repository.history()?;
    let reader = ChunkReader::new(repository);
    let mut snapshot = first_lines(&history, options, started);
    for spec in specs {
        let Some(found) = open_source(spec, Vec::new(), options, false)? else { continue };
        let name = SourceName::of(spec);
        let parent = choose_parent(&history, spec, options).and_then(|listed| {
            let source = source_of(&listed.snapshot, spec)?.clone();
            Some(Parent { source, started: listed.snapshot.started, is_pinned: true })
        });
        let mut parent = parent.as_ref().map(|parent| ParentCursor::new(&reader, parent));
        for found in found {
            let (path, status) = match found {
                Ok(Found::Met(met)) => (met.path, met.status),
                Ok(Found::File(file)) => {
                    (file.at, Status::of_memory(&file.metadata, file.bytes.len() as u64))
                }
                Ok(Found::Made(..)) => continue,
                Err(problem) => {
                    let path = name.full_path(&problem.path);
                    let detail = format!("{}: {}", problem.doing, problem.error);
                    progress.unreadable(path.as_os_str(), &detail);
                    continue;
                }
            };
            let found = parent.as_mut().and_then(|parent| parent.at(&path));
            let kept = found
                .as_ref()
                .zip(parent.as_ref())
                .is_some_and(|(entry, parent)| parent.seems_unchanged(entry, &status, options.comparison));
            counters.classify(&status, found.is_some(), kept);
            if status.kind == FileType::RegularFile {
                counters.add_read(status.size);
            }
        }
    }
    snapshot.statistics = counters.statistics(None);
    Ok(Outcome { snapshot, vanished: 0, torn: 0, sources_failed: 0, silent_changes: 0 })
}

/// Opens a source that is walked; `None` for one that is streamed.
fn open_source(
    spec: &SourceSpec,
    more: Vec<MemoryFile>,
    options: &Options,
    is_syncing: bool,
) -> Result<Option<Composition>> {
    let Some((folders, mut files)) = spec.parts() else { return Ok(None) };
    files.extend(more);
    let found = Composition::begin(folders, files, &options.excludes, is_syncing);
    found.map(Some).map_err(|error| match error {
        CannotBegin::Pattern(pattern) => Error::Usage(pattern),
        CannotBegin::Folder(path, source) => Error::Source { path, doing: "cannot be opened", source },
        CannotBegin::Overlap(at) => {
            Error::Usage(format!("{}: its part `{at}` lies inside another one", spec.shown().display()))
        }
    })
}

/// The current time.
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp { seconds: since.as_secs() as i64, nanos: since.subsec_nanos() }
}
