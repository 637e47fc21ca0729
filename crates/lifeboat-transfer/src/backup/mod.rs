//! The backup engine: from sources to a listed snapshot.
//!
//! Must stay true: `Ok` means that the snapshot is listed and durable, and everything that could not be read is counted
//! in it. Read next: [`tree_source`], then `lifeboat_repo::session`.

mod attempt;
mod content;
mod counters;
mod cutting;
mod hint;
mod parent;
mod queue;
mod reading;
mod stream;
mod tree_source;

pub use counters::Counters;
pub use parent::Comparison;

use crate::error::{Error, Result};
use crate::source::exclude::Excludes;
use crate::source::walk::{Problem, Walk};
use attempt::{attempt, choose_parent, first_lines, source_of};
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

/// What to back up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceSpec {
    /// A directory tree or a single file.
    Path(PathBuf),
    /// Standard input, under a name.
    Stdin(String),
    /// What a command writes to its standard output, under a name. No snapshot unless it exits with 0.
    Command(String, Vec<std::ffi::OsString>),
}

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
    name: PathBuf,
}

impl Run<'_> {
    pub(crate) fn problem(&self, problem: &Problem) {
        let path = self.full_path(&problem.path);
        if problem.vanished {
            self.counters.vanished.fetch_add(1, Ordering::Relaxed);
            self.progress.notice(&format!("{}: vanished while it was its turn", path.display()));
        } else {
            self.counters.errors.fetch_add(1, Ordering::Relaxed);
            self.progress.unreadable(path.as_os_str(), &format!("{}: {}", problem.doing, problem.error));
        }
    }

    pub(crate) fn torn(&self, path: &TreePath) {
        self.counters.torn.fetch_add(1, Ordering::Relaxed);
        let path = self.full_path(path);
        self.progress.notice(&format!(
            "{}: kept changing while it was read; its copy may mix two moments",
            path.display()
        ));
    }

    fn full_path(&self, path: &TreePath) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        if path.is_root() {
            self.name.clone()
        } else {
            self.name.join(std::ffi::OsStr::from_bytes(&path.to_slashes()))
        }
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
    crate::descriptors::raise_limit();
    for _ in 1..SESSIONS_MAX {
        match attempt(repository, specs, options, counters, progress) {
            Err(Error::Repository(lifeboat_repo::Error::Fenced)) => {
                progress.notice(
                    "a garbage collection ended this session; starting over with what is stored already",
                );
                counters.reset();
            }
            result => return result,
        }
    }
    attempt(repository, specs, options, counters, progress)
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
    let listed = repository.snapshots()?.snapshots;
    let reader = ChunkReader::new(repository);
    let mut snapshot = first_lines(&listed, options, started);
    for spec in specs {
        let SourceSpec::Path(path) = spec else { continue };
        let parent = choose_parent(&listed, spec, options).and_then(|listed| {
            let source = source_of(&listed.snapshot, spec)?.clone();
            Some(Parent { source, started: listed.snapshot.started, is_pinned: true })
        });
        let mut parent = parent.as_ref().map(|parent| ParentCursor::new(&reader, parent));
        for met in open_walk(path, options)? {
            match met {
                Ok(met) => {
                    let found = parent.as_mut().and_then(|parent| parent.at(&met.path));
                    let kept = found.as_ref().zip(parent.as_ref()).is_some_and(|(entry, parent)| {
                        parent.seems_unchanged(entry, &met.status, options.comparison)
                    });
                    counters.classify(&met.status, found.is_some(), kept);
                    if met.status.kind == FileType::RegularFile {
                        counters.bytes_done.fetch_add(met.status.size, Ordering::Relaxed);
                    }
                }
                Err(problem) => progress.unreadable(
                    path.as_os_str(),
                    &format!("{}: {}: {}", problem.path, problem.doing, problem.error),
                ),
            }
        }
    }
    snapshot.statistics = counters.statistics(None);
    Ok(Outcome { snapshot, vanished: 0, torn: 0, sources_failed: 0 })
}

fn open_walk(path: &std::path::Path, options: &Options) -> Result<Walk> {
    let excludes = options.excludes.compile().map_err(Error::Usage)?;
    Walk::new(path, excludes).map_err(|source| Error::Source {
        path: path.to_owned(),
        doing: "cannot be opened",
        source,
    })
}

impl SourceSpec {
    fn kind_and_name(&self) -> (SourceKind, &[u8]) {
        match self {
            Self::Path(path) => (SourceKind::Path, path.as_os_str().as_encoded_bytes()),
            Self::Stdin(name) => (SourceKind::Stdin, name.as_bytes()),
            Self::Command(name, _) => (SourceKind::Command, name.as_bytes()),
        }
    }
}

/// The current time.
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp { seconds: since.as_secs() as i64, nanos: since.subsec_nanos() }
}
