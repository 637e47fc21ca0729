//! Reading the sources of a snapshot: once as they are, or twice, the second time while their services hold still.
//!
//! Must stay true: whoever was made to hold still is released as soon as the last byte is read, and in any case; and the
//! second pass takes over only what the first one read after it had the file systems' dirty pages written back.
//!
//! Both passes are one session: what the first one stored counts as stored for the second one, and its trees are read
//! like those of a pinned parent, because a collector that wanted to delete any of it would have to end this session
//! first. `docs/decisions/0016-two-passes.md`

use super::attempt::{Attempt, Member, State};
use super::crew::with_crew;
use super::parent::{Comparison, Parent, ParentCursor};
use super::queue::WorkQueue;
use super::quiesce::{Holding, Quiesce, ROUNDS_MAX, Verdict};
use super::tree_source::{TreeOutcome, TreeSource};
use super::{now, open_source};
use crate::error::{Error, Result};
use crate::snapshot_source::entries_below;
use lifeboat_format::snapshot::{Snapshot, Source};
use lifeboat_format::{Timestamp, TreePath};
use lifeboat_repo::sink::ChunkSink;
use std::time::Duration;

/// How often a running backup leaves a checkpoint.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(300);

/// A source that the second pass goes through.
struct Again {
    number: usize,
    source: Source,
    parent: Parent,
    began: Timestamp,
}

impl Attempt<'_> {
    /// Reads every source as it is.
    pub(super) fn read_once(&mut self) -> Result<()> {
        (0..self.members.len()).try_for_each(|number| self.read(number, false))
    }

    /// Reads every source, and again while `quiesce` holds the services, until nothing went wrong in that.
    pub(super) fn read_twice(&mut self, quiesce: &dyn Quiesce) -> Result<()> {
        for round in 1..=ROUNDS_MAX {
            (0..self.members.len()).try_for_each(|number| self.read(number, true))?;
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

    /// The first or only pass over one source. Streams are read at the first call only.
    fn read(&mut self, number: usize, is_rehearsal: bool) -> Result<()> {
        let is_walked = self.members[number].spec.parts().is_some();
        let result = match (&self.members[number].state, is_walked) {
            (State::Failed, _) | (State::Read(..), false) => return Ok(()),
            (_, true) => self.walk(number, is_rehearsal),
            (State::Waiting, false) => self.stream(number),
        };
        self.or_problem(number, result)
    }

    /// Walks a source that is a tree.
    fn walk(&mut self, number: usize, is_rehearsal: bool) -> Result<()> {
        let began = now();
        let errors = self.counters.errors();
        let (mut source, is_pinned) = self.begin(number)?;
        // In a further round the last one is the better parent.
        let parents = match &self.members[number].state {
            State::Read(source, began) => vec![Parent::of_this_session(source, *began)],
            State::Waiting | State::Failed => self.parents(number, is_pinned),
        };
        let member = &self.members[number];
        let Some(entries) = open_source(member.spec, self.options, true)? else { return Ok(()) };
        let parents = parents.iter().map(|parent| ParentCursor::new(&self.reader, parent)).collect();
        let run = self.run(is_rehearsal);
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

    /// The second pass, over everything that is walked.
    fn read_held(&mut self, quiesce: &dyn Quiesce, round: u32) -> Result<Verdict> {
        let again = self.members.iter().enumerate().filter_map(|(number, member)| {
            let source = member.source().filter(|_| member.spec.parts().is_some())?.clone();
            let State::Read(_, began) = member.state else { return None };
            let parent = Parent::of_this_session(&source, began);
            Some(Again { number, source, parent, began })
        });
        let mut again: Vec<Again> = again.collect();
        let mut holding = Holding::begin(quiesce, round).map_err(Error::Quiesce)?;
        let read = self.walk_again(&mut again, &mut holding);
        let verdict = holding.release();
        for (number, failure) in read? {
            self.or_problem(number, Err(failure))?;
        }
        for again in again {
            let state = &mut self.members[again.number].state;
            if !matches!(state, State::Failed) {
                *state = State::Read(again.source, again.began);
            }
        }
        Ok(verdict)
    }

    /// Goes through all trees with one crew, and lets the services go when the last of them is read. Gives the sources that
    /// cannot be read at all any more.
    fn walk_again(&self, again: &mut [Again], holding: &mut Holding<'_>) -> Result<Vec<(usize, Error)>> {
        let run = self.run(false);
        let queue = WorkQueue::deferring();
        let mut sink = ChunkSink::new(&self.session)?;
        let mut failed = Vec::new();
        // A change of the inode's time is the only sign of some changes: whatever was asked for, it counts here.
        let comparison = Comparison { ignore_ctime: false, ..self.options.comparison };
        let read = with_crew(&run, &queue, || {
            let mut trees = Vec::new();
            let fed = again.iter_mut().enumerate().try_for_each(|(place, again)| {
                let member = &self.members[again.number];
                let entries = match open_source(member.spec, self.options, false) {
                    Ok(Some(entries)) => entries,
                    Ok(None) => return Ok(()),
                    Err(error) => {
                        failed.push((again.number, error));
                        return Ok(());
                    }
                };
                let parent = ParentCursor::new(&self.reader, &again.parent);
                let mut tree = TreeSource::new(&run, &member.name, entries, vec![parent], comparison);
                let errors = self.counters.errors();
                tree.feed(&queue, None, &mut sink)?;
                again.source.errors = self.counters.errors() - errors;
                trees.push((place, tree));
                Ok(())
            });
            holding.release();
            queue.defer_no_more();
            fed?;
            let finish = |(place, tree): (usize, TreeSource<'_>)| Ok((place, tree.finish(&mut sink)?));
            trees.into_iter().map(finish).collect::<lifeboat_repo::Result<Vec<(usize, TreeOutcome)>>>()
        });
        for (place, outcome) in read? {
            let again = &mut again[place];
            if let Err(error) = take_over(&mut again.source, outcome, &self.members[again.number]) {
                failed.push((again.number, error));
            }
        }
        sink.flush()?;
        Ok(failed)
    }

    /// A tree that cannot be read back makes the second pass read everything: better said before.
    fn warn_of_unreadable_trees(&self) {
        for member in &self.members {
            let Some(source) = member.source() else { continue };
            let first = entries_below(&self.reader, source.root, &TreePath::root());
            let is_readable =
                first.is_ok_and(|mut entries| entries.next().is_some_and(|entry| entry.is_ok()));
            if !is_readable {
                let name = member.name.0.display();
                self.progress.notice(&format!(
                    "{name}: what was just stored cannot be read back, so all of it is read again while its services hold"
                ));
            }
        }
    }
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
        let path = member.name.0.clone();
        return Err(Error::Source { path, doing: "cannot be read", source: nothing });
    }
    (source.root, source.bytes) = (outcome.root, outcome.bytes);
    [source.users, source.groups] = outcome.owners.names();
    Ok(())
}
