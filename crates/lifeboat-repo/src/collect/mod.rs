//! Collection: deletes the packs that nothing reaches, while others write and read.
//!
//! Must stay true: the steps, their order and their names are those of `docs/format/session.md#collection`, which are
//! explored exhaustively in `tests/collection_model/`. A change here is a change there first. Whatever happens to a
//! collection, the next one finishes it.
//!
//! Read next: `mark.rs` for what is garbage, `sweep.rs` for how it goes.

mod choose;
mod condemned;
mod copies;
mod mark;
mod objects;
mod salvage;
mod survey;
mod sweep;
mod wait;

pub use choose::Room;
pub(crate) use condemned::Condemned;
pub(crate) use objects::name_of;
pub(crate) use salvage::salvage;

use crate::announcement::Announcement;
use crate::error::{Error, Result};
use crate::repository::Repository;
use crate::session::SessionOptions;
use choose::{Choice, choose};
use condemned::{read_list, session_of};
use copies::Unreadable;
use lifeboat_format::condemned::Sentence;
use lifeboat_format::object::frame;
use lifeboat_format::{HostId, ObjectKey, ObjectKind, PackName, SessionId};
use mark::{Mark, Reached};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use survey::Survey;

/// What a collection may be told.
#[derive(Debug, Clone)]
pub struct CollectOptions {
    /// Whose collection it is.
    pub host: HostId,
    /// A session that shows no progress for so long is ended. If it was alive after all, it starts over.
    pub grace: Duration,
    /// What may stay unused, and how much may be rewritten to get there.
    pub room: Room,
    /// zstd level of what is rewritten.
    pub compression_level: i32,
}

/// Progress of a collection, for a display.
#[derive(Debug, Default)]
pub struct Progress {
    /// Snapshots, drafts and checkpoints marked, in both markings.
    pub snapshots_done: AtomicU64,
    /// Sessions that are waited for.
    pub sessions_waited_for: AtomicU64,
    /// Set to stop.
    pub interrupted: Arc<AtomicBool>,
}

impl Progress {
    fn check_interrupted(&self) -> Result<()> {
        if self.interrupted.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }
}

/// What a collection would delete, or has deleted.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Collected {
    /// Packs that go, with their lengths.
    pub packs: BTreeMap<PackName, u64>,
    /// How many of them are partly used, or small: what is needed of them is copied first.
    pub packs_moved: u64,
    /// Bytes that this copies; of a plan, about so many.
    pub moved_bytes: u64,
    /// Bytes of packs that were read, to mark and to copy.
    pub read_bytes: u64,
    /// Bytes of the packs that stay, copies included.
    pub live_bytes: u64,
    /// Bytes in them that nobody needs.
    pub unused_bytes: u64,
    /// Snapshots that were marked.
    pub snapshots: u64,
    /// Sessions that were ended because they stood still.
    pub sessions_ended: u64,
    /// Index objects that were replaced.
    pub index_objects: u64,
}

impl Collected {
    /// Bytes of the packs that go.
    pub fn bytes(&self) -> u64 {
        self.packs.values().sum()
    }
}

/// Shows others that a collection is alive.
trait Heart {
    fn beat(&self) -> Result<()>;
}

/// The heart of a plan, which nobody waits for.
struct Still;

impl Heart for Still {
    fn beat(&self) -> Result<()> {
        Ok(())
    }
}

struct Pulse<'r> {
    repository: &'r Repository,
    announcement: Mutex<Announcement>,
}

impl Heart for Pulse<'_> {
    fn beat(&self) -> Result<()> {
        let mut announcement = self.announcement.lock().unwrap_or_else(PoisonError::into_inner);
        announcement.progress(self.repository.store(), self.repository.keys())
    }
}

/// Finds what a collection would delete if nobody else wrote. Changes nothing.
pub fn plan(repository: &Repository, room: &Room, progress: &Progress) -> Result<Collected> {
    let mut mark = Mark::new(repository, progress, &Still);
    mark.all()?;
    let survey = Survey::new(repository, &mark)?;
    let pack_bytes = u64::from(repository.config().parameters.pack_bytes);
    let choice = choose(&survey.packs, &BTreeSet::new(), room, pack_bytes);
    let live_bytes = survey.live_bytes() - choice.moved.values().sum::<u64>() + choice.moved_bytes;
    Ok(Collected {
        packs_moved: choice.moved.len() as u64,
        moved_bytes: choice.moved_bytes,
        read_bytes: mark.bytes_read(),
        live_bytes,
        unused_bytes: choice.unused_bytes,
        packs: choice.packs(),
        snapshots: mark.snapshots,
        ..Collected::default()
    })
}

/// Deletes the packs that nothing reaches, and rewrites those of which little is needed.
///
/// # Errors
/// [`Error::Fenced`] when another collection ended this one; it does the work. Damage to anything that is reached stops a
/// collection before it deletes anything.
pub fn collect(repository: &Repository, options: &CollectOptions, progress: &Progress) -> Result<Collected> {
    as_collector(repository, options, progress, |collector| collector.run())
}

/// Announces a collector, and lets it `work`.
fn as_collector(
    repository: &Repository,
    options: &CollectOptions,
    progress: &Progress,
    work: impl FnOnce(&mut Collector<'_>) -> Result<()>,
) -> Result<Collected> {
    repository.config().check_writable().map_err(Error::format("this repository cannot be written to"))?;
    // `PutIntent`
    let announcement = Announcement::begin(repository.store(), repository.keys(), options.host, Vec::new())?;
    let id = announcement.session();
    let heart = Pulse { repository, announcement: Mutex::new(announcement) };
    let mut collector = Collector {
        repository,
        options,
        progress,
        heart: &heart,
        id,
        ended: BTreeSet::new(),
        fenced: BTreeSet::new(),
        collected: Collected::default(),
    };
    let result = work(&mut collector);
    let collected = collector.collected;
    // `RemoveIntent`
    let announcement = heart.announcement.into_inner().unwrap_or_else(PoisonError::into_inner);
    let _ = repository.store().delete_many(&announcement.keys());
    result.map(|()| collected)
}

struct Collector<'r> {
    repository: &'r Repository,
    options: &'r CollectOptions,
    progress: &'r Progress,
    heart: &'r Pulse<'r>,
    id: SessionId,
    /// Collectors that had lists when this one began; each has a fence now.
    ended: BTreeSet<SessionId>,
    /// Sessions that have a fence but whose intents are still there.
    fenced: BTreeSet<SessionId>,
    collected: Collected,
}

fn fence(session: SessionId) -> ObjectKey {
    ObjectKey::new(ObjectKind::Fence, &session.0)
}

impl Collector<'_> {
    fn run(&mut self) -> Result<()> {
        self.end_collectors()?;
        let forced = self.verdicts_of_the_ended()?;
        // `Mark`
        let mut mark = Mark::new(self.repository, self.progress, self.heart);
        mark.all()?;
        let survey = Survey::new(self.repository, &mark)?;
        let pack_bytes = u64::from(self.repository.config().parameters.pack_bytes);
        let choice = choose(&survey.packs, &forced, &self.options.room, pack_bytes);
        (self.collected.snapshots, self.collected.read_bytes) = (mark.snapshots, mark.bytes_read());
        self.collected.unused_bytes = choice.unused_bytes;
        self.collected.live_bytes = survey.live_bytes();
        if choice.is_empty() {
            self.sweep(&survey, &BTreeMap::new())?;
            return self.put_away_the_ended();
        }
        let verdict = self.judge(&mut mark, &survey, &choice);
        self.execute(&survey, verdict)
    }

    /// Does what was judged.
    fn execute(&mut self, survey: &Survey, verdict: Result<BTreeMap<PackName, u64>>) -> Result<()> {
        let verdict = verdict.inspect_err(|_| {
            // This collector deletes nothing any more, so its lists mean nothing: the verdict first.
            let _ = self.remove_lists(self.id);
        })?;
        self.sweep(survey, &verdict)?;
        self.remove_lists(self.id)?;
        self.put_away_the_ended()
    }

    /// `ListCollectors`, `EndCollector`
    fn end_collectors(&mut self) -> Result<()> {
        for kind in [ObjectKind::Condemned, ObjectKind::Verdict] {
            let listed =
                self.repository.store().list(kind).map_err(Error::store("the lists cannot be listed"))?;
            self.ended.extend(listed.iter().map(|object| session_of(&object.key)));
        }
        self.ended.iter().try_for_each(|session| self.put_fence(*session))
    }

    fn put_fence(&self, session: SessionId) -> Result<()> {
        self.repository
            .store()
            .put(&fence(session), &frame(ObjectKind::Fence, &[]))
            .map_err(Error::store("a session cannot be ended"))
    }

    fn is_fenced(&self, session: SessionId) -> Result<bool> {
        match self.repository.store().bytes(&fence(session)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == lifeboat_store::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(Error::Store { doing: "a fence cannot be looked for".into(), source }),
        }
    }

    /// What collectors that were ended may still delete: where it is needed, it has to be copied, or their lists would
    /// stay for ever.
    fn verdicts_of_the_ended(&self) -> Result<BTreeSet<PackName>> {
        let mut packs = BTreeSet::new();
        for session in &self.ended {
            packs.extend(self.verdict_of(*session)?);
        }
        Ok(packs)
    }

    /// From the candidates to the verdict, which nobody can rely on once the condemned list is there and the sessions
    /// from before are over.
    fn judge(
        &mut self,
        mark: &mut Mark<'_>,
        survey: &Survey,
        choice: &Choice,
    ) -> Result<BTreeMap<PackName, u64>> {
        // `PutCondemned`
        self.put_list(Sentence::Condemned, &choice.packs())?;
        // `ListIntents`, `WaitOrFence`
        self.wait_for_sessions()?;
        mark.all()?;
        (self.collected.snapshots, self.collected.read_bytes) = (mark.snapshots, mark.bytes_read());
        let mut verdict = survey.still_dead(self.repository, mark, &choice.dead)?;
        if !choice.moved.is_empty() {
            let moved_bytes = self.copy((mark, Unreadable::Stops), survey, &choice.moved)?;
            self.collected.packs_moved = choice.moved.len() as u64;
            self.collected.moved_bytes = moved_bytes;
            self.collected.live_bytes += moved_bytes;
            self.collected.live_bytes -= choice.moved.values().sum::<u64>();
            verdict.extend(&choice.moved);
        }
        // `PutVerdict`
        self.put_list(Sentence::Verdict, &verdict)?;
        // `ReadFence`
        if self.is_fenced(self.id)? { Err(Error::Fenced) } else { Ok(verdict) }
    }

    /// `ReadLists2` to `PutIndexOfCopy`
    fn copy(
        &mut self,
        what: (&dyn Reached, Unreadable),
        survey: &Survey,
        packs: &BTreeMap<PackName, u64>,
    ) -> Result<u64> {
        let options =
            SessionOptions { compression_level: self.options.compression_level, host: self.options.host };
        let copied = copies::copy(self.repository, options, what, survey, packs, self.heart)?;
        self.collected.read_bytes += copied.bytes_read;
        Ok(copied.bytes)
    }

    fn put_list(&self, sentence: Sentence, packs: &BTreeMap<PackName, u64>) -> Result<()> {
        let names: Vec<PackName> = packs.keys().copied().collect();
        let bytes = sentence
            .encode(self.repository.keys(), self.id, &names)
            .map_err(Error::format("a list of packs cannot be made"))?;
        self.repository
            .store()
            .put(&sentence.key(self.id), &bytes)
            .map_err(Error::store("a list of packs cannot be stored"))
    }

    /// `RemoveVerdict`, `RemoveCondemned`; `RemoveListsOfTheEnded`
    fn remove_lists(&self, session: SessionId) -> Result<()> {
        let lists = [Sentence::Verdict.key(session), Sentence::Condemned.key(session)];
        self.repository.store().delete_many(&lists).map_err(Error::store("a list of packs cannot be deleted"))
    }

    /// Removes what ended sessions left. A collector's lists stay as long as it might wake and delete packs that are
    /// still there: it passed its fence with a verdict. `ReadVerdictOfTheEnded`
    fn put_away_the_ended(&self) -> Result<()> {
        let store = self.repository.store();
        for session in &self.ended {
            if !self.is_any_stored(&self.verdict_of(*session)?)? {
                self.remove_lists(*session)?;
            }
        }
        let intents =
            store.list(ObjectKind::Intent).map_err(Error::store("the sessions cannot be listed"))?;
        let over = intents.into_iter().map(|listed| listed.key).filter(|key| {
            let session = lifeboat_format::intent::Intent::parse_key(key).map(|(session, _)| session);
            session.is_some_and(|session| self.fenced.contains(&session) || self.ended.contains(&session))
        });
        let over: Vec<ObjectKey> = over.collect();
        store.delete_many(&over).map_err(Error::store("what an ended session left cannot be deleted"))
    }

    /// What an ended collector may delete when it wakes.
    fn verdict_of(&self, session: SessionId) -> Result<Vec<PackName>> {
        let verdict = read_list(self.repository, Sentence::Verdict, session)?;
        // A verdict without a condemned list came too late to count.
        let condemned = read_list(self.repository, Sentence::Condemned, session)?;
        Ok(condemned.and(verdict).unwrap_or_default())
    }

    fn is_any_stored(&self, packs: &[PackName]) -> Result<bool> {
        if packs.is_empty() {
            return Ok(false);
        }
        let stored = self
            .repository
            .store()
            .list(ObjectKind::Pack)
            .map_err(Error::store("the packs cannot be listed"))?;
        let stored: BTreeSet<&[u8]> = stored.iter().map(|listed| listed.key.name()).collect();
        Ok(packs.iter().any(|pack| stored.contains(&pack.0[..])))
    }
}
