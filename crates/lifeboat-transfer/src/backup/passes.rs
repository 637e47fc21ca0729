//! Reading the sources of a snapshot: once as they are, or twice, the second time while their services hold still.
//!
//! Must stay true: whoever was made to hold still is released as soon as the last byte is read, and in any case; and the
//! second pass takes over only what the first one read after it had the file systems' dirty pages written back.
//!
//! Both passes are one session: what the first one stored counts as stored for the second one, and its trees are read
//! like those of a pinned parent, because a collector that wanted to delete any of it would have to end this session
//! first. `docs/decisions/0016-two-passes.md`

use super::archive_source::ArchiveSource;
use super::attempt::{Attempt, Member, State};
use super::content::Failure;
use super::crew::{Batch, with_crew};
use super::parent::{Comparison, Parent, ParentCursor};
use super::queue::WorkQueue;
use super::quiesce::{Holding, Quiesce, ROUNDS_MAX, Verdict};
use super::taking::Entries;
use super::tree_source::{TreeOutcome, TreeSource};
use super::{ArchiveSpec, Pass, Run, SourceName, SourceSpec, now, open_source};
use crate::error::{Error, Result};
use crate::snapshot_source::entries_below;
use lifeboat_format::snapshot::{Snapshot, Source, SourceKind};
use lifeboat_format::{Timestamp, TreePath};
use lifeboat_repo::cursor::TreeCursor;
use lifeboat_repo::sink::ChunkSink;
use std::sync::Arc;
use std::time::Duration;

/// How often a running backup leaves a checkpoint.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(300);

/// A source that is read while the services hold still.
struct Held {
    number: usize,
    source: Source,
    /// The first pass's tree; for an archive what the parent had.
    parent: Option<Parent>,
    began: Timestamp,
}

/// A source that is read, and whose tree is not finished.
enum Unfinished<'r, 'q> {
    Walked(Box<TreeSource<'r>>),
    Streamed(Box<ArchiveSource<'r, 'q>>),
}

impl Attempt<'_> {
    /// Reads every source as it is.
    pub(super) fn read_once(&mut self) -> Result<()> {
        (0..self.members.len()).try_for_each(|number| self.read(number, Pass::Last))
    }

    /// Reads every source, and again while `quiesce` holds the services, until nothing went wrong in that.
    pub(super) fn read_twice(&mut self, quiesce: &dyn Quiesce) -> Result<()> {
        for round in 1..=ROUNDS_MAX {
            quiesce.prepare(round).map_err(Error::Quiesce)?;
            (0..self.members.len()).try_for_each(|number| {
                let part = quiesce.mended(self.members[number].spec);
                self.read(number, part.map_or(Pass::Rehearsal, Pass::Mended))
            })?;
            // The second pass reads the first one's trees, and the machine may fail while the services are held.
            self.session.settle()?;
            self.warn_of_unreadable_trees();
            self.counters.begin_second_pass();
            match self.read_held(quiesce, round)? {
                Verdict::Kept => break,
                Verdict::Again(why) if round < ROUNDS_MAX => {
                    self.progress.notice(&format!("{why}; reading again"));
                }
                Verdict::Again(why) => {
                    self.progress.notice(&format!("{why}; after {round} times it is taken as it is"));
                }
            }
        }
        self.counters.end_second_pass();
        let claims = quiesce.claims();
        (self.snapshot.unhealthy, self.snapshot.consistency) = (claims.unhealthy, claims.consistency);
        for (number, detail) in claims.details {
            if let Some(State::Read(source, _)) = self.members.get_mut(number).map(|member| &mut member.state)
            {
                source.detail = detail;
            }
        }
        Ok(())
    }

    /// The first or only pass over one source. Streams are read at the first call only, and so is what cannot change;
    /// other archives not before they are held.
    fn read(&mut self, number: usize, pass: Pass) -> Result<()> {
        let member = &self.members[number];
        let result = match (&member.state, member.spec) {
            (State::Failed, _) => return Ok(()),
            (_, SourceSpec::Path(_) | SourceSpec::Tree(_)) => self.walk(number, pass),
            (_, SourceSpec::Archive(archive)) if pass != Pass::Last && !archive.is_told_by_detail => {
                return Ok(());
            }
            (State::Waiting, SourceSpec::Archive(archive)) => self.archive(number, archive),
            (State::Waiting, SourceSpec::Stdin(_) | SourceSpec::Command(..)) => self.stream(number),
            (State::Read(..), _) => return Ok(()),
        };
        self.or_problem(number, result)
    }

    /// Reads an archive as it is.
    fn archive(&mut self, number: usize, spec: &ArchiveSpec) -> Result<()> {
        let errors = self.counters.errors();
        let (mut source, is_pinned) = self.begin(number)?;
        let parent = self.parents(number, is_pinned).pop();
        let same = parent.as_ref().filter(|parent| is_told(spec, parent)).map(|parent| parent.source.clone());
        if let Some(same) = same {
            self.counters.add_kept(same.bytes);
            let Source { root, bytes, users, groups, .. } = same;
            let source = Source { root, bytes, users, groups, ..source };
            self.members[number].state = State::Read(source, now());
            return Ok(());
        }
        let run = self.run(Pass::Last);
        let queue = WorkQueue::new(run.threads);
        let mut sink = ChunkSink::new(&self.session)?;
        let outcome =
            with_crew(&run, &queue, || match self.stream_archive(&run, &queue, number, spec, parent)? {
                Ok(archive) => Ok(Ok(archive.finish(&mut sink)?)),
                Err(error) => Ok(Err(error)),
            })?;
        sink.flush()?;
        take_over(&mut source, outcome?, &self.members[number])?;
        source.errors = self.counters.errors() - errors;
        self.members[number].state = State::Read(source, now());
        Ok(())
    }

    /// Reads an archive to its end. The inner error is the archive's own: others may still be read.
    fn stream_archive<'r, 'q>(
        &self,
        run: &'r Run<'r>,
        queue: &'q WorkQueue<Batch>,
        number: usize,
        spec: &ArchiveSpec,
        parent: Option<Parent>,
    ) -> lifeboat_repo::Result<Result<Box<ArchiveSource<'r, 'q>>>>
    where
        'r: 'q,
    {
        let name = &self.members[number].name;
        let failed = |doing| move |source| Error::Source { path: name.shown.clone(), doing, source };
        let mut stream = match spec.opener.open() {
            Ok(stream) => stream,
            Err(error) => return Ok(Err(failed("cannot be opened")(error))),
        };
        let mut archive = ArchiveSource::new(run, queue, name, &spec.strip, parent)?;
        match archive.feed(&mut stream) {
            Ok(()) => Ok(Ok(Box::new(archive))),
            Err(Failure::Repository(error)) => Err(error),
            Err(Failure::File(error)) => {
                archive.flush()?;
                let doing = match spec.kind {
                    SourceKind::Image => "cannot be stored",
                    _ => "cannot be read as a tar archive",
                };
                Ok(Err(failed(doing)(error)))
            }
        }
    }

    /// Walks a source that is a tree.
    fn walk(&mut self, number: usize, pass: Pass) -> Result<()> {
        let began = now();
        let errors = self.counters.errors();
        let (mut source, is_pinned) = self.begin(number)?;
        // In a further round the last one is the better parent.
        let parents = match &self.members[number].state {
            State::Read(source, began) => vec![Parent::of_this_session(source, *began)],
            State::Waiting | State::Failed => self.parents(number, is_pinned),
        };
        let member = &self.members[number];
        let Some(entries) = open_source(member.spec, Vec::new(), self.options, true)? else { return Ok(()) };
        let parents = parents.iter().map(|parent| ParentCursor::new(&self.reader, parent)).collect();
        let run = self.run(pass);
        let tree = TreeSource::new(&run, &member.name, entries, parents, self.options.comparison);
        let interval = self.options.checkpoint_interval.unwrap_or(CHECKPOINT_INTERVAL);
        let read: Vec<Source> = self.members.iter().filter_map(Member::source).cloned().collect();
        let mut checkpoint = |root, bytes| {
            let mut snapshot = Snapshot { complete: false, finished: now(), ..self.snapshot.clone() };
            snapshot.sources = read.clone();
            snapshot.sources.push(Source { root, bytes, ..source.clone() });
            snapshot.statistics = self.counters.statistics(Some(&self.session));
            self.session.checkpoint(&snapshot)
        };
        let outcome = tree.run(interval, &mut checkpoint)?;
        take_over(&mut source, outcome, member)?;
        source.errors = self.counters.errors() - errors;
        self.members[number].state = State::Read(source, began);
        Ok(())
    }

    /// The second pass over everything that is walked, and the only one over archives.
    fn read_held(&mut self, quiesce: &dyn Quiesce, round: u32) -> Result<Verdict> {
        let mut held = Vec::new();
        for (number, member) in self.members.iter().enumerate() {
            match (&member.state, member.spec) {
                (State::Failed, _) | (_, SourceSpec::Stdin(_) | SourceSpec::Command(..)) => {}
                (State::Read(..), SourceSpec::Archive(archive)) if archive.is_told_by_detail => {}
                (_, SourceSpec::Archive(_)) => {
                    let (source, is_pinned) = self.begin(number)?;
                    let parent = self.parents(number, is_pinned).pop();
                    held.push(Held { number, source, parent, began: now() });
                }
                (State::Read(source, began), _) => {
                    let parent = Some(Parent::of_this_session(source, *began));
                    held.push(Held { number, source: source.clone(), parent, began: *began });
                }
                (State::Waiting, _) => {}
            }
        }
        let mut holding = Holding::begin(quiesce, round).map_err(Error::Quiesce)?;
        let read = self.read_all_held(&mut held, quiesce, &mut holding);
        let verdict = holding.release();
        for (number, failure) in read? {
            self.or_problem(number, Err(failure))?;
        }
        for held in held {
            let state = &mut self.members[held.number].state;
            if !matches!(state, State::Failed) {
                *state = State::Read(held.source, held.began);
            }
        }
        Ok(verdict)
    }

    /// Reads everything with one crew, and lets the services go when the last byte is read. Gives the sources that cannot
    /// be read at all.
    fn read_all_held(
        &self,
        held: &mut [Held],
        quiesce: &dyn Quiesce,
        holding: &mut Holding<'_>,
    ) -> Result<Vec<(usize, Error)>> {
        let run = self.run(Pass::Last);
        let queue = WorkQueue::deferring(run.threads);
        let mut sink = ChunkSink::new(&self.session)?;
        let mut failed = Vec::new();
        let read = with_crew(&run, &queue, || {
            let mut unfinished = Vec::new();
            let fed = held.iter_mut().enumerate().try_for_each(|(place, held)| {
                match self.read_one_held(&run, &queue, held, quiesce, &mut sink)? {
                    Ok(tree) => unfinished.push((place, tree)),
                    Err(error) => failed.push((held.number, error)),
                }
                Ok(())
            });
            holding.release();
            queue.defer_no_more();
            fed?;
            let finish = |(place, tree)| {
                let errors = self.counters.errors();
                let outcome = match tree {
                    Unfinished::Walked(tree) => tree.finish(&mut sink)?,
                    Unfinished::Streamed(archive) => archive.finish(&mut sink)?,
                };
                Ok((place, outcome, self.counters.errors() - errors))
            };
            unfinished.into_iter().map(finish).collect::<lifeboat_repo::Result<Vec<_>>>()
        });
        for (place, outcome, errors) in read? {
            let held = &mut held[place];
            held.source.errors += errors;
            if let Err(error) = take_over(&mut held.source, outcome, &self.members[held.number]) {
                failed.push((held.number, error));
            }
        }
        sink.flush()?;
        Ok(failed)
    }

    fn read_one_held<'r, 'q>(
        &'r self,
        run: &'r Run<'r>,
        queue: &'q WorkQueue<Batch>,
        held: &mut Held,
        quiesce: &dyn Quiesce,
        sink: &mut ChunkSink,
    ) -> lifeboat_repo::Result<Result<Unfinished<'r, 'q>>>
    where
        'r: 'q,
    {
        let member = &self.members[held.number];
        let errors = self.counters.errors();
        if let SourceSpec::Archive(spec) = member.spec {
            let archive = self.stream_archive(run, queue, held.number, spec, held.parent.take())?;
            held.source.errors = self.counters.errors() - errors;
            return Ok(archive.map(Unfinished::Streamed));
        }
        let part = quiesce.mended(member.spec);
        let remainder = part.as_ref().map(|_| quiesce.remainder(member.spec)).unwrap_or_default();
        let entries = match open_source(member.spec, remainder.files.clone(), self.options, false) {
            Ok(entries) => entries.unwrap_or_default(),
            Err(error) => return Ok(Err(error)),
        };
        let (entries, known) = match held.parent.as_ref().zip(part) {
            Some((first, part)) => {
                let taken = TreeCursor::new(&self.reader, first.source.root);
                (Entries::merged(taken, entries, part, &remainder), first.source.errors)
            }
            None => (entries.into(), 0),
        };
        let parents = held.parent.iter().map(|parent| ParentCursor::new(&self.reader, parent)).collect();
        // A change of the inode's time is the only sign of some changes: whatever was asked for, it counts here.
        let comparison = Comparison { ignore_ctime: false, ..self.options.comparison };
        let name = SourceName { written_on: remainder.again, ..SourceName::clone(&member.name) };
        let mut tree = TreeSource::new(run, &Arc::new(name), entries, parents, comparison);
        tree.feed(queue, None, sink)?;
        held.source.errors = known + self.counters.errors() - errors;
        Ok(Ok(Unfinished::Walked(Box::new(tree))))
    }

    /// A tree that cannot be read back makes the second pass read everything: better said before.
    fn warn_of_unreadable_trees(&self) {
        for member in &self.members {
            let Some(source) = member.source() else { continue };
            let first = entries_below(&self.reader, source.root, &TreePath::root());
            let is_readable =
                first.is_ok_and(|mut entries| entries.next().is_some_and(|entry| entry.is_ok()));
            if !is_readable {
                let name = member.name.shown.display();
                self.progress.notice(&format!(
                    "{name}: what was just stored cannot be read back, so all of it is read again while its services hold"
                ));
            }
        }
    }
}

/// Whether a parent has all of an archive, so that it need not be read.
fn is_told(spec: &ArchiveSpec, parent: &Parent) -> bool {
    let source = &parent.source;
    spec.is_told_by_detail && parent.is_pinned && source.errors == 0 && source.detail == spec.detail
}

impl Parent {
    /// What this session stored: it is deleted only after the session was ended.
    fn of_this_session(source: &Source, began: Timestamp) -> Self {
        Self { source: source.clone(), started: began, is_pinned: true }
    }
}

fn take_over(source: &mut Source, outcome: TreeOutcome, member: &Member<'_>) -> Result<()> {
    if outcome.root.entries == 0 {
        let nothing = std::io::Error::other("not even its own entry");
        let path = member.name.shown.clone();
        return Err(Error::Source { path, doing: "cannot be read", source: nothing });
    }
    (source.root, source.bytes) = (outcome.root, outcome.bytes);
    [source.users, source.groups] = outcome.owners.names();
    Ok(())
}
