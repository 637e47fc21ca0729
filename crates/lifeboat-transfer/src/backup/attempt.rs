//! One session's try at a snapshot: choose parents, run each source, commit.
//!
//! Read next: [`super::passes`], which reads the sources.

use super::counters::Counters;
use super::hint::Earlier;
use super::parent::{Parent, ParentCursor};
use super::quiesce::Quiesce;
use super::{Options, Outcome, Pass, Progress, Run, SourceName, SourceSpec, now, silent, stream};
use crate::error::{Error, Result};
use lifeboat_chunker::Cutter;
use lifeboat_format::snapshot::{Snapshot, SnapshotKind, Source, TreeRoot};
use lifeboat_format::{ChunkId, ObjectKey, ObjectKind, SnapshotId, Timestamp, TreePath};
use lifeboat_repo::Repository;
use lifeboat_repo::history::History;
use lifeboat_repo::reader::ChunkReader;
use lifeboat_repo::session::{Session, SessionOptions};
use lifeboat_repo::snapshots::ListedSnapshot;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a backup is asked for.
#[derive(Clone, Copy)]
pub(super) struct Job<'j> {
    pub(super) repository: &'j Repository,
    pub(super) specs: &'j [SourceSpec],
    pub(super) options: &'j Options,
    pub(super) counters: &'j Counters,
    pub(super) progress: &'j dyn Progress,
    pub(super) quiesce: Option<&'j dyn Quiesce>,
}

pub(super) fn attempt(job: &Job<'_>) -> Result<Outcome> {
    let Job { repository, specs, options, counters, progress, .. } = *job;
    let started = now();
    repository.open_lookup_ahead();
    let history = repository.history()?;
    let chosen: Vec<Option<&ListedSnapshot>> =
        specs.iter().map(|spec| choose_parent(&history, spec, options)).collect();
    for (key, error) in history.take_damaged() {
        progress.notice(&format!("{key} is damaged and cannot be a parent: {error}"));
    }
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
        snapshot: first_lines(&history, options, started),
        checkpoints: repository.checkpoints().map(|list| list.snapshots).unwrap_or_default(),
        members: specs.iter().zip(&chosen).map(|(spec, parent)| Member::new(spec, *parent)).collect(),
    };
    let result = match job.quiesce {
        None => attempt.read_once(),
        Some(quiesce) => attempt.read_twice(quiesce),
    };
    repository.take_notices().iter().for_each(|text| progress.notice(text));
    if let Err(error) = result {
        attempt.session.abandon();
        return Err(error);
    }
    let mut outcome = attempt.finish()?;
    if options.kind == SnapshotKind::Full {
        outcome.silent_changes = silent::report(job, &history, &outcome.snapshot);
    }
    Ok(outcome)
}

/// Everything of a snapshot that is known before the first source is read.
pub(super) fn first_lines(history: &History, options: &Options, started: Timestamp) -> Snapshot {
    let last = history.last_of(options.host_id);
    let mut tags = options.tags.clone();
    tags.sort();
    tags.dedup();
    Snapshot {
        complete: true,
        host: options.host.clone(),
        user: options.user.clone(),
        sequence: last.map_or(1, |last| last.sequence + 1),
        previous: last.map(|last| last.id),
        started,
        finished: started,
        tags,
        program: options.program.clone(),
        ..Snapshot::new(SnapshotId::random(), options.host_id)
    }
}

pub(super) fn source_of<'s>(snapshot: &'s Snapshot, spec: &SourceSpec) -> Option<&'s Source> {
    let wanted = spec.kind_and_name();
    snapshot.sources.iter().find(|source| (source.kind, &source.name[..]) == wanted)
}

/// The newest snapshot of the same source on the same host; for differential ones, the newest that was full.
pub(super) fn choose_parent<'s>(
    history: &'s History,
    spec: &SourceSpec,
    options: &Options,
) -> Option<&'s ListedSnapshot> {
    let is_wanted: fn(&Source) -> bool = match options.kind {
        SnapshotKind::Full => return None,
        SnapshotKind::Incremental => |_| true,
        SnapshotKind::Differential => |source| source.snapshot_kind == SnapshotKind::Full,
    };
    history
        .newest(|snapshot| snapshot.host == options.host && source_of(snapshot, spec).is_some_and(is_wanted))
}

/// One source on its way into the snapshot.
pub(super) struct Member<'s> {
    pub(super) spec: &'s SourceSpec,
    pub(super) name: Arc<SourceName>,
    /// The snapshot whose unchanged entries are trusted.
    parent: Option<&'s ListedSnapshot>,
    pub(super) state: State,
}

/// How far a source is.
pub(super) enum State {
    /// Not read yet.
    Waiting,
    /// Read to its end; for the next pass also when that began.
    Read(Source, Timestamp),
    /// It cannot be read at all, which was said.
    Failed,
}

impl<'s> Member<'s> {
    fn new(spec: &'s SourceSpec, parent: Option<&'s ListedSnapshot>) -> Self {
        Self { spec, name: Arc::new(SourceName::of(spec)), parent, state: State::Waiting }
    }

    pub(super) fn source(&self) -> Option<&Source> {
        match &self.state {
            State::Read(source, _) => Some(source),
            State::Waiting | State::Failed => None,
        }
    }
}

/// One session's try at a snapshot.
pub(super) struct Attempt<'r> {
    pub(super) session: Arc<Session>,
    pub(super) options: &'r Options,
    pub(super) counters: &'r Counters,
    pub(super) progress: &'r dyn Progress,
    pub(super) reader: ChunkReader,
    pub(super) snapshot: Snapshot,
    checkpoints: Vec<ListedSnapshot>,
    pub(super) members: Vec<Member<'r>>,
}

impl Attempt<'_> {
    /// A source that cannot be read at all is a problem like any other, as long as another one can be.
    pub(super) fn or_problem(&mut self, number: usize, result: Result<()>) -> Result<()> {
        let others = self.members.iter().enumerate().filter(|(other, _)| *other != number);
        let has_others = others.into_iter().any(|(_, member)| !matches!(member.state, State::Failed));
        match result {
            Err(Error::Source { path, doing, source }) if has_others => {
                self.members[number].state = State::Failed;
                self.progress.unreadable(path.as_os_str(), &format!("{doing}: {source}"));
                Ok(())
            }
            result => result,
        }
    }

    /// What reading shares.
    pub(super) fn run(&self, pass: Pass) -> Run<'_> {
        let repository = self.session.repository();
        Run {
            session: self.session.clone(),
            cutter: Cutter::new(repository.keys(), repository.config().parameters.cut),
            threads: self.options.threads.max(1),
            counters: self.counters,
            reader: &self.reader,
            progress: self.progress,
            pass,
        }
    }

    /// A source as it is before anything of it was read, and whether its parent is pinned.
    ///
    /// Pinned means: still listed now, after the intent that names its root was written.
    pub(super) fn begin(&self, number: usize) -> Result<(Source, bool)> {
        let member = &self.members[number];
        let is_pinned = match member.parent {
            Some(listed) => {
                let repository = self.session.repository();
                self.session.may_pin()
                    && !listed.snapshot.lacking
                    && repository.is_listed(listed.session)?
                    && repository.lookup()?.is_whole()
            }
            None => false,
        };
        let (kind, name) = member.spec.kind_and_name();
        let nothing = TreeRoot { id: ChunkId([0; ChunkId::BYTES]), height: 0, entries: 0 };
        let source = Source {
            parent: member.parent.map(|listed| listed.snapshot.id),
            snapshot_kind: if member.parent.is_some() { self.options.kind } else { SnapshotKind::Full },
            detail: member.spec.detail().to_owned(),
            ..Source::new(kind, name, nothing)
        };
        Ok((source, is_pinned))
    }

    /// Reads a source that is one stream.
    pub(super) fn stream(&mut self, number: usize) -> Result<()> {
        let (mut source, is_pinned) = self.begin(number)?;
        let member = &self.members[number];
        let earlier = self.earlier_stream(member, is_pinned);
        let run = self.run(Pass::Last);
        (source.root, source.bytes) = match member.spec {
            SourceSpec::Stdin(_) => stream::stdin(&run, &member.name, earlier.as_ref())?,
            SourceSpec::Command(name, command) => stream::command(&run, name, command, earlier.as_ref())?,
            SourceSpec::Path(_) | SourceSpec::Tree(_) | SourceSpec::Archive(_) => return Ok(()),
        };
        self.members[number].state = State::Read(source, now());
        Ok(())
    }

    /// How the parent had a stream: the one entry of its tree. A parent that cannot be read is given up.
    fn earlier_stream(&self, member: &Member<'_>, is_pinned: bool) -> Option<Earlier> {
        let listed = member.parent?;
        let source = source_of(&listed.snapshot, member.spec)?.clone();
        let parent = Parent { source, started: listed.snapshot.started, is_pinned };
        let mut cursor = ParentCursor::new(&self.reader, &parent);
        cursor.at(&TreePath::root()).and_then(|entry| cursor.earlier(&entry))
    }

    /// Where unchanged entries come from: checkpoints that are newer than the parent, then the parent.
    pub(super) fn parents(&self, number: usize, is_pinned: bool) -> Vec<Parent> {
        let member = &self.members[number];
        let of = |snapshot: &Snapshot, is_pinned| {
            let source = source_of(snapshot, member.spec)?.clone();
            Some(Parent { source, started: snapshot.started, is_pinned })
        };
        let parent_started = member.parent.map(|listed| listed.snapshot.started);
        let newer = self.checkpoints.iter().rev().map(|listed| &listed.snapshot).filter(|checkpoint| {
            checkpoint.host == self.options.host
                && Some(checkpoint.started) > parent_started
                && self.options.kind != SnapshotKind::Full
        });
        let newest = newer.filter_map(|checkpoint| of(checkpoint, false)).next();
        newest.into_iter().chain(member.parent.and_then(|listed| of(&listed.snapshot, is_pinned))).collect()
    }

    fn finish(mut self) -> Result<Outcome> {
        self.snapshot.finished = now();
        let failed = self.members.iter().filter(|member| matches!(member.state, State::Failed)).count();
        self.snapshot.sources = self.members.iter().filter_map(Member::source).cloned().collect();
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
            sources_failed: failed as u64,
            silent_changes: 0,
        })
    }
}
