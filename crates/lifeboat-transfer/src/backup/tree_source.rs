//! Backs up one directory tree: walks it in order, reads what changed on all cores, and builds its tree of nodes.
//!
//! The walk and the tree are on one thread, because both are in path order; between them, batches of entries are read by
//! workers and come back in order. Must stay true: memory is [`BATCHES_MAX`] batches, and per worker one read buffer, one
//! open region of each kind, one compressor.

use super::Run;
use super::content::ContentWriter;
use super::hint::Earlier;
use super::parent::{Comparison, ParentCursor};
use super::queue::{BATCHES_MAX, Work, WorkQueue};
use super::reading::{Unread, read_entry};
use crate::source::file::Status;
use crate::source::owners::Owners;
use crate::source::walk::{Met, Walk};
use lifeboat_format::region::ChunkKind;
use lifeboat_format::snapshot::TreeRoot;
use lifeboat_format::{Entry, LinkGroup, TreePath};
use lifeboat_repo::sink::ChunkSink;
use lifeboat_repo::tree::TreeBuilder;
use lifeboat_repo::{Error, Result};
use rustix::fs::FileType;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A batch is closed at so many entries to read, so many bytes, or so many entries in all.
const BATCH_READS: usize = 64;
const BATCH_BYTES: u64 = 4 << 20;
const BATCH_ENTRIES: usize = 1024;

/// Each entry that waits to be read may hold a directory open: where the system grants few descriptors, fewer wait.
fn reads_per_batch() -> usize {
    let granted = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let share = granted.saturating_sub(128) / (2 * (BATCHES_MAX as u64 + 2));
    usize::try_from(share).unwrap_or(BATCH_READS).clamp(1, BATCH_READS)
}

enum Planned {
    /// Taken over from the parent.
    Kept(TreePath, Entry),
    /// To be read; what a parent had there says where to look.
    Read(Box<Met>, Option<LinkGroup>, Option<Box<Earlier>>),
}

type Finished = Vec<(TreePath, Entry)>;

/// Where a batch's entries come back.
#[derive(Default)]
struct Slot {
    entries: Mutex<Option<Result<Finished>>>,
    done: Condvar,
}

struct Batch {
    planned: Vec<Planned>,
    reads: usize,
    bytes: u64,
    answer: Answer,
}

/// The worker's end of a slot. However a batch ends, the feeder that waits for it gets an answer.
#[derive(Default)]
struct Answer(Arc<Slot>);

impl Drop for Answer {
    fn drop(&mut self) {
        self.0.fill(Err(Error::Interrupted));
    }
}

impl Batch {
    fn new() -> Self {
        Self { planned: Vec::new(), reads: 0, bytes: 0, answer: Answer::default() }
    }

    fn is_full(&self, reads_max: usize) -> bool {
        self.reads >= reads_max || self.bytes >= BATCH_BYTES || self.planned.len() >= BATCH_ENTRIES
    }
}

/// How an epoch ended.
enum End {
    Finished,
    CheckpointDue,
    Interrupted,
}

/// What came of one tree.
pub(crate) struct TreeOutcome {
    pub(crate) root: TreeRoot,
    pub(crate) owners: Owners,
    pub(crate) bytes: u64,
}

/// One tree being backed up.
pub(crate) struct TreeSource<'r> {
    run: &'r Run<'r>,
    walk: Walk,
    parents: Vec<ParentCursor<'r>>,
    comparison: Comparison,
    builder: TreeBuilder,
    links: HashMap<(u32, u32, u64), LinkGroup>,
    owners: Owners,
    bytes: u64,
}

impl<'r> TreeSource<'r> {
    pub(crate) fn new(
        run: &'r Run<'r>,
        walk: Walk,
        parents: Vec<ParentCursor<'r>>,
        comparison: Comparison,
    ) -> Self {
        Self {
            run,
            walk,
            parents,
            comparison,
            builder: TreeBuilder::new(run.session.repository().keys()),
            links: HashMap::new(),
            owners: Owners::default(),
            bytes: 0,
        }
    }

    /// Backs the tree up; `checkpoint` is called with the tree so far at every interval, and before an interruption.
    pub(crate) fn run(
        mut self,
        interval: Duration,
        checkpoint: &mut dyn FnMut(TreeRoot, u64) -> Result<()>,
    ) -> Result<TreeOutcome> {
        loop {
            let mut sink = ChunkSink::new(&self.run.session)?;
            let end = match self.epoch(Instant::now() + interval, &mut sink) {
                Err(Error::Interrupted) => End::Interrupted,
                result => result?,
            };
            let root = self.builder.clone().finish(&mut |node| sink.add(ChunkKind::Tree, &node))?;
            sink.flush()?;
            if matches!(end, End::Finished) {
                return Ok(TreeOutcome { root, owners: self.owners, bytes: self.bytes });
            }
            self.run.session.settle()?;
            checkpoint(root, self.bytes)?;
            if matches!(end, End::Interrupted) {
                return Err(Error::Interrupted);
            }
        }
    }

    /// Runs workers until the walk ends, a checkpoint is due or the user interrupts. Afterwards the workers are gone,
    /// and everything they read is in packs.
    fn epoch(&mut self, until: Instant, sink: &mut ChunkSink) -> Result<End> {
        let queue = WorkQueue::new();
        let run = self.run;
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..run.threads).map(|_| scope.spawn(|| work(run, &queue))).collect();
            let result = self.feed(&queue, until, sink);
            match &result {
                Ok(_) => queue.close(),
                Err(_) => queue.cancel(),
            }
            let joined = workers.into_iter().map(|worker| worker.join().expect("a worker does not panic"));
            let mut failures: Vec<Error> = joined.filter_map(Result::err).collect();
            // One thread's error interrupts the others: it is the cause, their interruptions are its echo.
            failures.sort_by_key(|error| matches!(error, Error::Interrupted));
            match (result, failures.into_iter().next()) {
                (Err(Error::Interrupted) | Ok(_), Some(error)) => Err(error),
                (result, _) => result,
            }
        })
    }

    fn feed(&mut self, queue: &WorkQueue<Batch>, until: Instant, sink: &mut ChunkSink) -> Result<End> {
        let mut out: VecDeque<Arc<Slot>> = VecDeque::new();
        let reads_max = reads_per_batch();
        let mut batch = Batch::new();
        let mut end = End::Finished;
        loop {
            while out.len() >= BATCHES_MAX || out.front().is_some_and(|slot| slot.is_done()) {
                self.take_in(out.pop_front(), sink)?;
            }
            if self.run.counters.interrupted.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            if Instant::now() >= until {
                end = End::CheckpointDue;
                break;
            }
            let Some(met) = self.walk.next() else { break };
            match met {
                Ok(met) => self.plan(met, &mut batch),
                Err(problem) => self.run.problem(&problem),
            }
            if batch.is_full(reads_max) {
                out.push_back(submit(queue, std::mem::replace(&mut batch, Batch::new())));
            }
        }
        out.push_back(submit(queue, batch));
        while let Some(slot) = out.pop_front() {
            self.take_in(Some(slot), sink)?;
        }
        Ok(end)
    }

    /// Decides whether an entry is read.
    fn plan(&mut self, met: Met, batch: &mut Batch) {
        let status = &met.status;
        self.owners.add(status.uid, status.gid);
        if status.kind == FileType::RegularFile {
            self.bytes += status.size;
        }
        let link = self.link_group(&met.path, status);
        let found: Vec<Option<Entry>> = self.parents.iter_mut().map(|parent| parent.at(&met.path)).collect();
        let kept = self.parents.iter().zip(&found).find_map(|(parent, entry)| {
            entry
                .as_ref()
                .filter(|entry| parent.still_holds(entry, status, self.comparison, &self.run.session))
        });
        self.run.counters.classify(status, found.iter().any(Option::is_some), kept.is_some());
        let planned = match kept {
            Some(entry) => {
                if status.kind == FileType::RegularFile {
                    self.run.counters.bytes_done.fetch_add(status.size, Ordering::Relaxed);
                }
                let mut entry = Entry { link, ..entry.clone() };
                // What was ignored in the comparison is still recorded as it is now.
                (entry.metadata.inode, entry.metadata.ctime) = (status.inode, status.ctime);
                Planned::Kept(met.path, entry)
            }
            None => {
                batch.reads += 1;
                batch.bytes += if status.kind == FileType::RegularFile { status.size } else { 0 };
                let earlier = self.parents.iter().zip(&found).find_map(|(parent, entry)| {
                    entry.as_ref().and_then(|entry| parent.earlier(entry)).map(Box::new)
                });
                Planned::Read(Box::new(met), link, earlier)
            }
        };
        batch.planned.push(planned);
    }

    /// The group of an inode with several names: a hash of the path where it was met first.
    fn link_group(&mut self, path: &TreePath, status: &Status) -> Option<LinkGroup> {
        if status.links < 2 || status.kind == FileType::Directory {
            return None;
        }
        let keys = self.run.session.repository().keys();
        let inode = (status.device.0, status.device.1, status.inode);
        let group =
            self.links.entry(inode).or_insert_with(|| LinkGroup(keys.key_hash("link group", path.as_key())));
        Some(*group)
    }

    fn take_in(&mut self, slot: Option<Arc<Slot>>, sink: &mut ChunkSink) -> Result<()> {
        let Some(slot) = slot else { return Ok(()) };
        for (path, entry) in slot.wait()? {
            if entry.torn {
                self.run.torn(&path);
            }
            self.builder.push(&path, &entry, &mut |node| sink.add(ChunkKind::Tree, &node))?;
        }
        Ok(())
    }
}

impl Slot {
    fn is_done(&self) -> bool {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// The first answer counts.
    fn fill(&self, entries: Result<Finished>) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(entries);
        self.done.notify_all();
    }

    fn wait(&self) -> Result<Finished> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match entries.take() {
                Some(result) => return result,
                None => entries = self.done.wait(entries).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// Hands a batch to the workers, unless there is nothing to read in it.
fn submit(queue: &WorkQueue<Batch>, batch: Batch) -> Arc<Slot> {
    let slot = batch.answer.0.clone();
    if batch.reads > 0 {
        queue.submit(batch);
        return slot;
    }
    let kept = batch.planned.into_iter().filter_map(|planned| match planned {
        Planned::Kept(path, entry) => Some((path, entry)),
        Planned::Read(..) => None,
    });
    slot.fill(Ok(kept.collect()));
    slot
}

/// A worker: reads batches and seals regions until the queue is closed.
fn work(run: &Run<'_>, queue: &WorkQueue<Batch>) -> Result<()> {
    let result = work_on(run, queue);
    if result.is_err() {
        // The others stop too; their batches are answered with an interruption.
        run.counters.interrupted.store(true, Ordering::Relaxed);
        queue.cancel();
    }
    result
}

fn work_on(run: &Run<'_>, queue: &WorkQueue<Batch>) -> Result<()> {
    let mut writer = ContentWriter::new(&run.session, &run.cutter, queue, run.reader, run.counters)?;
    let mut result = Ok(());
    while let Some(work) = queue.take() {
        match work {
            Work::Region(region) => writer.sink().seal(region)?,
            Work::Batch(batch) => match read_batch(run, &mut writer, batch) {
                // What was read before the interruption is in the tree already, so it is stored below.
                Err(Error::Interrupted) => result = Err(Error::Interrupted),
                batch_result => batch_result?,
            },
        }
    }
    writer.flush()?;
    result
}

fn read_batch(run: &Run<'_>, writer: &mut ContentWriter<'_, Batch>, batch: Batch) -> Result<()> {
    let mut entries = Vec::with_capacity(batch.planned.len());
    for planned in batch.planned {
        match planned {
            Planned::Kept(path, entry) => entries.push((path, entry)),
            Planned::Read(met, link, earlier) => match read_entry(writer, &met, link, earlier.as_deref()) {
                Ok(entry) => entries.push((met.path, entry)),
                Err(Unread::Problem(problem)) => run.problem(&problem),
                Err(Unread::Repository(error)) => return Err(error),
            },
        }
    }
    writer.store_buffered()?;
    batch.answer.0.fill(Ok(entries));
    Ok(())
}
