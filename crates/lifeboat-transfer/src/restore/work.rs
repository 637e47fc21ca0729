//! What the walking thread hands to the workers.

use super::directory::Directory;
use super::large::{Large, Stretch};
use super::link::{Duty, Group};
use super::spans::Span;
use super::window::WINDOW_FILES;
use lifeboat_format::Entry;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Entries of one batch: handing over costs a few microseconds, an entry takes tens of them.
pub(super) const BATCH_FILES: usize = 64;
/// Content of one batch. Neighbours share regions, so a batch should be a few of them, and one region is 1 MiB.
pub(super) const BATCH_BYTES: u64 = 4 << 20;
/// Files above this are cut into spans of this size, so that several workers share them.
pub(super) const SPAN_BYTES: u64 = 8 << 20;
/// Pieces of one span, so that its list stays small where chunks are.
pub(super) const SPAN_PIECES: usize = 4096;
/// Jobs that wait for each worker: enough to bridge a slow directory, and few enough to hold few descriptors.
pub(super) const BATCHES_PER_WORKER: usize = 2;

/// An entry that is not a directory.
pub(super) struct Item {
    pub(super) directory: Arc<Directory>,
    pub(super) name: Vec<u8>,
    pub(super) entry: Entry,
    pub(super) link: Link,
}

/// An entry's part in a set of hard links.
pub(super) enum Link {
    None,
    First(Duty),
    Later(Arc<Group>),
}

/// One hand-over.
pub(super) enum Job {
    Batch(Vec<Item>),
    Compare(Stretch),
    Write(Arc<Large>, Span),
}

/// All workers are gone: one of them panicked, and joining it tells so.
#[derive(Debug)]
pub(super) struct Gone;

/// The walking thread's end.
pub(super) struct Queue {
    jobs: SyncSender<Job>,
    batch: Vec<Item>,
    batch_bytes: u64,
}

impl Queue {
    pub(super) fn new(workers: usize) -> (Self, Receiver<Job>) {
        // A whole window fits, so that the workers have something to do while the next one is gathered.
        let (jobs, receiver) = sync_channel(workers * BATCHES_PER_WORKER + WINDOW_FILES / BATCH_FILES);
        (Self { jobs, batch: Vec::with_capacity(BATCH_FILES), batch_bytes: 0 }, receiver)
    }

    /// Hands over an entry, together with others.
    pub(super) fn push(&mut self, item: Item) -> Result<(), Gone> {
        // A later hard link is made, not filled.
        let bytes = if matches!(item.link, Link::Later(_)) { 0 } else { item.entry.size() };
        if self.batch_bytes + bytes > BATCH_BYTES {
            self.flush()?;
        }
        self.batch_bytes += bytes;
        self.batch.push(item);
        if self.batch.len() == BATCH_FILES { self.flush() } else { Ok(()) }
    }

    /// Hands over what waits for company.
    pub(super) fn flush(&mut self) -> Result<(), Gone> {
        self.batch_bytes = 0;
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH_FILES));
        self.jobs.send(Job::Batch(batch)).map_err(|_| Gone)
    }

    pub(super) fn compare(&self, stretch: Stretch) -> Result<(), Gone> {
        self.jobs.send(Job::Compare(stretch)).map_err(|_| Gone)
    }

    pub(super) fn write(&self, file: Arc<Large>, span: Span) -> Result<(), Gone> {
        self.jobs.send(Job::Write(file, span)).map_err(|_| Gone)
    }
}
