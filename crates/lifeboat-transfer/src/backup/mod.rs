//! The backup engine: from sources to a listed snapshot.
//!
//! Must stay true: `Ok` means that the snapshot is listed and durable, and everything that could not be read is counted
//! in it. Read next: [`tree_source`], then `lifeboat_repo::session`.

mod content;
mod parent;
mod queue;
mod reading;
mod stream;
mod tree_source;

pub use parent::Comparison;

use crate::error::{Error, Result};
use crate::source::exclude::Excludes;
use crate::source::file::Status;
use crate::source::walk::{Problem, Walk};
use lifeboat_chunker::Cutter;
use lifeboat_format::snapshot::{Snapshot, SnapshotKind, Source, SourceKind, Statistics, TreeRoot};
use lifeboat_format::{AuthorId, HostId, SnapshotId, Timestamp, TreePath};
use lifeboat_repo::Repository;
use lifeboat_repo::reader::ChunkReader;
use lifeboat_repo::session::{Session, SessionOptions};
use lifeboat_repo::snapshots::ListedSnapshot;
use parent::{Parent, ParentCursor};
use rustix::fs::FileType;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tree_source::TreeSource;

/// How often a running backup leaves a checkpoint.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(300);
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

/// What a display shows, and how a backup is stopped.
#[derive(Debug, Default)]
pub struct Counters {
    /// Bytes of regular files met or read.
    pub bytes_done: AtomicU64,
    /// Set it to stop: the backup leaves a checkpoint and returns [`Error::is_interrupted`].
    pub interrupted: Arc<AtomicBool>,
    /// Files that differ from the parent's, are new, or as before.
    files: [AtomicU64; 3],
    directories: [AtomicU64; 3],
    others: AtomicU64,
    errors: AtomicU64,
    vanished: AtomicU64,
    torn: AtomicU64,
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

impl Counters {
    /// Counters of a backup that stops when `interrupted` is set.
    pub fn new(interrupted: Arc<AtomicBool>) -> Self {
        Self { interrupted, ..Self::default() }
    }

    /// Files met so far, directories and others included.
    pub fn files_done(&self) -> u64 {
        let all = self.files.iter().chain(&self.directories);
        all.map(|count| count.load(Ordering::Relaxed)).sum::<u64>() + self.others.load(Ordering::Relaxed)
    }

    /// Files and directories that could not be read so far.
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    fn classify(&self, status: &Status, existed: bool, kept: bool) {
        let slot = match (existed, kept) {
            (_, true) => 2,
            (true, false) => 1,
            (false, false) => 0,
        };
        let counts = match status.kind {
            FileType::Directory => &self.directories[slot],
            FileType::RegularFile => &self.files[slot],
            _ => &self.others,
        };
        counts.fetch_add(1, Ordering::Relaxed);
    }

    fn statistics(&self, session: Option<&Session>) -> Statistics {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let mut statistics = Statistics {
            files_new: get(&self.files[0]),
            files_changed: get(&self.files[1]),
            files_unmodified: get(&self.files[2]),
            dirs_new: get(&self.directories[0]),
            dirs_changed: get(&self.directories[1]),
            dirs_unmodified: get(&self.directories[2]),
            total_files_processed: self.files.iter().map(get).sum(),
            total_bytes_processed: get(&self.bytes_done),
            ..Statistics::default()
        };
        if let Some(session) = session {
            let stored = &session.stored;
            statistics.data_blobs = get(&stored.chunks[0]);
            statistics.tree_blobs = get(&stored.chunks[1]) + get(&stored.chunks[2]);
            statistics.data_added = get(&stored.plain_bytes);
            statistics.data_added_packed = get(&stored.stored_bytes);
        }
        statistics
    }

    fn reset(&self) {
        let all = self.files.iter().chain(&self.directories);
        all.chain([&self.bytes_done, &self.others, &self.errors, &self.vanished, &self.torn])
            .for_each(|count| count.store(0, Ordering::Relaxed));
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

fn attempt(
    repository: &Repository,
    specs: &[SourceSpec],
    options: &Options,
    counters: &Counters,
    progress: &dyn Progress,
) -> Result<Outcome> {
    let started = now();
    let listed = repository.snapshots()?;
    for (key, error) in &listed.damaged {
        progress.notice(&format!("{key} is damaged and cannot be a parent: {error}"));
    }
    let chosen: Vec<Option<&ListedSnapshot>> =
        specs.iter().map(|spec| choose_parent(&listed.snapshots, spec, options)).collect();
    let roots = chosen
        .iter()
        .zip(specs)
        .filter_map(|(parent, spec)| Some(source_of(&parent.as_ref()?.snapshot, spec)?.root.id));
    let session_options =
        SessionOptions { compression_level: options.compression_level, host: options.host_id };
    let session = Session::begin(repository, session_options, roots.collect())?;
    let mut attempt = Attempt {
        session,
        options,
        counters,
        progress,
        reader: ChunkReader::new(repository),
        snapshot: first_lines(&listed.snapshots, options, started),
        checkpoints: repository.checkpoints().map(|list| list.snapshots).unwrap_or_default(),
        sources_failed: 0,
        sources_left: specs.len(),
    };
    let result =
        specs.iter().zip(&chosen).try_for_each(|(spec, parent)| attempt.source_or_problem(spec, *parent));
    repository.take_notices().iter().for_each(|text| progress.notice(text));
    if let Err(error) = result {
        attempt.session.abandon();
        return Err(error);
    }
    attempt.finish()
}

/// Everything of a snapshot that is known before the first source is read.
fn first_lines(listed: &[ListedSnapshot], options: &Options, started: Timestamp) -> Snapshot {
    let own = listed.iter().filter(|listed| listed.snapshot.host_id == options.host_id);
    let last = own.max_by_key(|listed| listed.snapshot.sequence).map(|listed| &listed.snapshot);
    let mut tags = options.tags.clone();
    tags.sort();
    tags.dedup();
    Snapshot {
        id: SnapshotId::random(),
        complete: true,
        host_id: options.host_id,
        host: options.host.clone(),
        user: options.user.clone(),
        sequence: last.map_or(1, |last| last.sequence + 1),
        previous: last.map(|last| last.id),
        started,
        finished: started,
        tags,
        program: options.program.clone(),
        sources: Vec::new(),
        statistics: Statistics::default(),
        author: AuthorId::NONE,
        signature: Vec::new(),
    }
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

fn source_of<'s>(snapshot: &'s Snapshot, spec: &SourceSpec) -> Option<&'s Source> {
    let wanted = spec.kind_and_name();
    snapshot.sources.iter().find(|source| (source.kind, &source.name[..]) == wanted)
}

/// The newest snapshot of the same source on the same host; for differential ones, the newest that was full.
fn choose_parent<'s>(
    listed: &'s [ListedSnapshot],
    spec: &SourceSpec,
    options: &Options,
) -> Option<&'s ListedSnapshot> {
    listed.iter().rev().filter(|listed| listed.snapshot.host == options.host).find(|listed| {
        source_of(&listed.snapshot, spec).is_some_and(|source| match options.kind {
            SnapshotKind::Full => false,
            SnapshotKind::Incremental => true,
            SnapshotKind::Differential => source.snapshot_kind == SnapshotKind::Full,
        })
    })
}

/// One session's try at a snapshot.
struct Attempt<'r> {
    session: Arc<Session>,
    options: &'r Options,
    counters: &'r Counters,
    progress: &'r dyn Progress,
    reader: ChunkReader,
    snapshot: Snapshot,
    checkpoints: Vec<ListedSnapshot>,
    sources_failed: u64,
    sources_left: usize,
}

impl Attempt<'_> {
    /// A source that cannot be read at all is a problem like any other, as long as another one can be.
    fn source_or_problem(&mut self, spec: &SourceSpec, parent: Option<&ListedSnapshot>) -> Result<()> {
        self.sources_left -= 1;
        match self.source(spec, parent) {
            Err(Error::Source { path, doing, source })
                if self.sources_left > 0 || !self.snapshot.sources.is_empty() =>
            {
                self.sources_failed += 1;
                self.progress.unreadable(path.as_os_str(), &format!("{doing}: {source}"));
                Ok(())
            }
            result => result,
        }
    }

    fn source(&mut self, spec: &SourceSpec, parent: Option<&ListedSnapshot>) -> Result<()> {
        let errors = self.counters.errors();
        // Pinned means: still listed now, after the intent that names its root was written.
        let parent = match parent {
            Some(listed) => Some((listed, self.session.repository().is_listed(listed.session)?)),
            None => None,
        };
        let snapshot_kind = if parent.is_some() { self.options.kind } else { SnapshotKind::Full };
        let (kind, name) = spec.kind_and_name();
        let mut source = Source {
            kind,
            name: name.to_vec(),
            root: TreeRoot { id: lifeboat_format::ChunkId([0; 32]), height: 0, entries: 0 },
            parent: parent.map(|(listed, _)| listed.snapshot.id),
            snapshot_kind,
            errors: 0,
            bytes: 0,
            users: Vec::new(),
            groups: Vec::new(),
        };
        let run = Run {
            session: self.session.clone(),
            cutter: Cutter::new(
                self.session.repository().keys(),
                self.session.repository().config().parameters.cut,
            ),
            threads: self.options.threads.max(1),
            counters: self.counters,
            progress: self.progress,
            name: match spec {
                SourceSpec::Path(path) => path.clone(),
                SourceSpec::Stdin(name) | SourceSpec::Command(name, _) => PathBuf::from(name),
            },
        };
        match spec {
            SourceSpec::Path(path) => {
                let parents = self.parents(spec, parent);
                let walk = open_walk(path, self.options)?;
                let parents = parents.iter().map(|parent| ParentCursor::new(&self.reader, parent)).collect();
                let tree = TreeSource::new(&run, walk, parents, self.options.comparison);
                let interval = self.options.checkpoint_interval.unwrap_or(CHECKPOINT_INTERVAL);
                let (session, snapshot, counters) = (&self.session, &self.snapshot, self.counters);
                let mut checkpoint = |root, bytes| {
                    let mut snapshot = Snapshot { complete: false, finished: now(), ..snapshot.clone() };
                    snapshot.sources.push(Source { root, bytes, ..source.clone() });
                    snapshot.statistics = counters.statistics(Some(session));
                    session.checkpoint(&snapshot)
                };
                let outcome = tree.run(interval, &mut checkpoint)?;
                if outcome.root.entries == 0 {
                    let nothing = std::io::Error::other("not even its own entry");
                    return Err(Error::Source {
                        path: path.clone(),
                        doing: "cannot be read",
                        source: nothing,
                    });
                }
                (source.root, source.bytes) = (outcome.root, outcome.bytes);
                [source.users, source.groups] = outcome.owners.names();
            }
            SourceSpec::Stdin(_) => (source.root, source.bytes) = stream::stdin(&run)?,
            SourceSpec::Command(name, command) => {
                (source.root, source.bytes) = stream::command(&run, name, command)?
            }
        }
        source.errors = self.counters.errors() - errors;
        self.snapshot.sources.push(source);
        Ok(())
    }

    /// Where unchanged entries come from: checkpoints that are newer than the parent, then the parent.
    fn parents(&self, spec: &SourceSpec, parent: Option<(&ListedSnapshot, bool)>) -> Vec<Parent> {
        let of = |snapshot: &Snapshot, is_pinned| {
            let source = source_of(snapshot, spec)?.clone();
            Some(Parent { source, started: snapshot.started, is_pinned })
        };
        let parent_started = parent.map(|(listed, _)| listed.snapshot.started);
        let newer = self.checkpoints.iter().rev().map(|listed| &listed.snapshot).filter(|checkpoint| {
            checkpoint.host == self.options.host
                && Some(checkpoint.started) > parent_started
                && self.options.kind != SnapshotKind::Full
        });
        let newest = newer.filter_map(|checkpoint| of(checkpoint, false)).next();
        newest
            .into_iter()
            .chain(parent.and_then(|(listed, is_pinned)| of(&listed.snapshot, is_pinned)))
            .collect()
    }

    fn finish(mut self) -> Result<Outcome> {
        self.snapshot.finished = now();
        self.snapshot.statistics = self.counters.statistics(Some(&self.session));
        self.session.commit(&self.snapshot)?;
        // Checkpoints of this host and these sources have served.
        let store = self.session.repository().store();
        for listed in &self.checkpoints {
            let served = listed.snapshot.host == self.snapshot.host
                && listed.snapshot.sources.iter().all(|source| {
                    self.snapshot
                        .sources
                        .iter()
                        .any(|ours| (ours.kind, &ours.name) == (source.kind, &source.name))
                });
            if served {
                let kind = lifeboat_format::ObjectKind::Checkpoint;
                let _ = store.delete(&lifeboat_format::ObjectKey::new(kind, &listed.session.0));
            }
        }
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Ok(Outcome {
            snapshot: self.snapshot,
            vanished: get(&self.counters.vanished),
            torn: get(&self.counters.torn),
            sources_failed: self.sources_failed,
        })
    }
}

/// The current time.
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp { seconds: since.as_secs() as i64, nanos: since.subsec_nanos() }
}
