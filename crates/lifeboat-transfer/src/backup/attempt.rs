//! One session's try at a snapshot: choose parents, run each source, commit.

use super::counters::Counters;
use super::hint::Earlier;
use super::parent::{Parent, ParentCursor};
use super::tree_source::TreeSource;
use super::{Options, Outcome, Progress, Run, SourceSpec, now, open_walk, stream};
use crate::error::{Error, Result};
use lifeboat_chunker::Cutter;
use lifeboat_format::snapshot::{Snapshot, SnapshotKind, Source, Statistics, TreeRoot};
use lifeboat_format::{AuthorId, ObjectKey, ObjectKind, SnapshotId, Timestamp, TreePath};
use lifeboat_repo::Repository;
use lifeboat_repo::reader::ChunkReader;
use lifeboat_repo::session::{Session, SessionOptions};
use lifeboat_repo::snapshots::ListedSnapshot;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often a running backup leaves a checkpoint.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(300);

pub(super) fn attempt(
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
pub(super) fn first_lines(listed: &[ListedSnapshot], options: &Options, started: Timestamp) -> Snapshot {
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

pub(super) fn source_of<'s>(snapshot: &'s Snapshot, spec: &SourceSpec) -> Option<&'s Source> {
    let wanted = spec.kind_and_name();
    snapshot.sources.iter().find(|source| (source.kind, &source.name[..]) == wanted)
}

/// The newest snapshot of the same source on the same host; for differential ones, the newest that was full.
pub(super) fn choose_parent<'s>(
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
            Some(listed) => {
                let repository = self.session.repository();
                Some((listed, repository.is_listed(listed.session)? && repository.lookup()?.is_whole()))
            }
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
            reader: &self.reader,
            progress: self.progress,
            name: match spec {
                SourceSpec::Path(path) => path.clone(),
                SourceSpec::Stdin(name) | SourceSpec::Command(name, _) => PathBuf::from(name),
            },
        };
        match spec {
            SourceSpec::Path(path) => {
                let parents = self.parents(spec, parent);
                let walk = open_walk(path, self.options)?.syncing();
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
            SourceSpec::Stdin(_) => {
                let earlier = self.earlier_stream(spec, parent);
                (source.root, source.bytes) = stream::stdin(&run, earlier.as_ref())?
            }
            SourceSpec::Command(name, command) => {
                let earlier = self.earlier_stream(spec, parent);
                (source.root, source.bytes) = stream::command(&run, name, command, earlier.as_ref())?
            }
        }
        source.errors = self.counters.errors() - errors;
        self.snapshot.sources.push(source);
        Ok(())
    }

    /// How the parent had a stream: the one entry of its tree. A parent that cannot be read is given up.
    fn earlier_stream(&self, spec: &SourceSpec, parent: Option<(&ListedSnapshot, bool)>) -> Option<Earlier> {
        let (listed, is_pinned) = parent?;
        let source = source_of(&listed.snapshot, spec)?.clone();
        let parent = Parent { source, started: listed.snapshot.started, is_pinned };
        let mut cursor = ParentCursor::new(&self.reader, &parent);
        cursor.at(&TreePath::root()).and_then(|entry| cursor.earlier(&entry))
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
        if let Err(error) = self.session.commit(&self.snapshot) {
            self.session.abandon();
            return Err(error.into());
        }
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
                let kind = ObjectKind::Checkpoint;
                let _ = store.delete(&ObjectKey::new(kind, &listed.session.0));
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
