//! Threads that read and seal, and what is handed to them.
//!
//! Must stay true: however a batch ends, whoever waits for it gets an answer; memory is [`BATCHES_MAX`] batches, and per
//! worker one read buffer, one open region of each kind, one compressor.
//!
//! Read next: [`super::tree_source`], which feeds them.

use super::content::{ContentWriter, Failure};
use super::hint::Earlier;
use super::queue::{BATCHES_MAX, Work, WorkQueue};
use super::reading::{ATTEMPTS, Unread, is_of_overlay, read_entry, stream_entry};
use super::{Pass, Run, SourceName};
use crate::source::compose::MemoryFile;
use crate::source::walk::Met;
use lifeboat_format::{Entry, LinkGroup, Node, TreePath};
use lifeboat_repo::{Error, Result};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// A batch is closed at so many entries to read, so many bytes, or so many entries in all.
const BATCH_READS: usize = 64;
const BATCH_BYTES: u64 = 4 << 20;
const BATCH_ENTRIES: usize = 1024;

/// Each entry that waits to be read may hold a directory open: where the system grants few descriptors, fewer wait.
pub(super) fn reads_per_batch() -> usize {
    let granted = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let share = granted.saturating_sub(128) / (2 * (BATCHES_MAX as u64 + 2));
    usize::try_from(share).unwrap_or(BATCH_READS).clamp(1, BATCH_READS)
}

pub(super) enum Planned {
    /// Complete already: taken over from the parent, or without content.
    Ready(TreePath, Entry),
    /// To be read; what a parent had there says where to look.
    Read(Box<Met>, Option<LinkGroup>, Option<Box<Earlier>>),
    /// To be stored from memory.
    Store(Box<MemoryFile>),
}

type Finished = Vec<(TreePath, Entry)>;

/// Where a batch's entries come back.
#[derive(Default)]
pub(super) struct Slot {
    entries: Mutex<Option<Result<Finished>>>,
    done: Condvar,
}

/// Entries that are read together.
pub(crate) struct Batch {
    source: Arc<SourceName>,
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
    pub(super) fn new(source: &Arc<SourceName>) -> Self {
        let source = source.clone();
        Self { source, planned: Vec::new(), reads: 0, bytes: 0, answer: Answer::default() }
    }

    pub(super) fn is_full(&self, reads_max: usize) -> bool {
        self.reads >= reads_max || self.bytes >= BATCH_BYTES || self.planned.len() >= BATCH_ENTRIES
    }

    /// Adds an entry of which `bytes` have to be read.
    pub(super) fn push(&mut self, planned: Planned, bytes: u64) {
        if !matches!(planned, Planned::Ready(..)) {
            self.reads += 1;
            self.bytes = self.bytes.saturating_add(bytes);
        }
        self.planned.push(planned);
    }

    /// Hands it to the workers, unless there is nothing to read in it.
    pub(super) fn submit(self, queue: &WorkQueue<Self>) -> Arc<Slot> {
        let slot = self.answer.0.clone();
        if self.reads > 0 {
            queue.submit(self);
            return slot;
        }
        let ready = self.planned.into_iter().filter_map(|planned| match planned {
            Planned::Ready(path, entry) => Some((path, entry)),
            Planned::Read(..) | Planned::Store(_) => None,
        });
        slot.fill(Ok(ready.collect()));
        slot
    }
}

impl Slot {
    pub(super) fn is_done(&self) -> bool {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// The first answer counts.
    fn fill(&self, entries: Result<Finished>) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(entries);
        self.done.notify_all();
    }

    pub(super) fn wait(&self) -> Result<Finished> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match entries.take() {
                Some(result) => return result,
                None => entries = self.done.wait(entries).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// Runs workers beside `lead`. Afterwards they are gone, and everything they read is in packs.
pub(super) fn with_crew<T>(
    run: &Run<'_>,
    queue: &WorkQueue<Batch>,
    lead: impl FnOnce() -> Result<T>,
) -> Result<T> {
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..run.threads).map(|_| scope.spawn(|| work(run, queue))).collect();
        let result = lead();
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
    let mut waiting = Vec::new();
    // What will be looked at again, or mended, need not be whole now.
    let attempts = if run.pass == Pass::Last { ATTEMPTS } else { 1 };
    for planned in batch.planned {
        match planned {
            Planned::Ready(path, entry) => entries.push((path, entry)),
            Planned::Store(file) => entries.push(store_file(writer, *file)?),
            Planned::Read(met, link, earlier) => {
                match read_entry(writer, &met, link, earlier.as_deref(), attempts) {
                    Ok((mut entry, is_waiting)) => {
                        waiting.extend(is_waiting.then_some(entries.len()));
                        if batch.source.is_layer {
                            entry.metadata.xattrs.retain(|xattr| !is_of_overlay(&xattr.name));
                        }
                        entries.push((met.path, entry));
                    }
                    Err(Unread::Problem(problem)) => run.problem(&batch.source, &problem),
                    Err(Unread::Repository(error)) => return Err(error),
                }
            }
        }
    }
    writer.store_buffered()?;
    for number in waiting {
        if let Node::File { content, .. } = &mut entries[number].1.node {
            writer.redeem(content);
        }
    }
    writer.forget_tickets();
    batch.answer.0.fill(Ok(entries));
    Ok(())
}

fn store_file(writer: &mut ContentWriter<'_, Batch>, file: MemoryFile) -> Result<(TreePath, Entry)> {
    let stored = writer.stream(&mut &file.bytes[..], None);
    let stored = stored.map_err(|failure| match failure {
        Failure::Repository(error) => error,
        Failure::File(error) => Error::io("memory cannot be read")(error),
    })?;
    Ok((file.at, stream_entry(stored.content, stored.bytes, file.metadata)))
}
