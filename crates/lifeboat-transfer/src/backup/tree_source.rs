//! Backs up one tree: meets it in order, has what changed read on all cores, and builds its tree of nodes.
//!
//! The walk and the tree are on one thread, because both are in path order; between them, batches of entries are read by
//! workers and come back in order. Must stay true: in the second of two passes nothing is taken over but what the first
//! one has with the same status, and with times that lie before its begin.
//!
//! Read next: [`super::crew`], [`super::passes`].

use super::crew::{Batch, Planned, Slot, reads_per_batch, with_crew};
use super::parent::{Comparison, ParentCursor};
use super::queue::{BATCHES_MAX, WorkQueue};
use super::taking::{Entries, Next};
use super::{Run, SourceName};
use crate::source::compose::{Found, MemoryFile};
use crate::source::file::Status;
use crate::source::owners::Owners;
use crate::source::walk::Met;
use lifeboat_format::region::ChunkKind;
use lifeboat_format::snapshot::TreeRoot;
use lifeboat_format::{Entry, LinkGroup, TreePath};
use lifeboat_repo::sink::ChunkSink;
use lifeboat_repo::tree::TreeBuilder;
use lifeboat_repo::{Error, Result};
use rustix::fs::FileType;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How an epoch ended.
pub(super) enum End {
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
    name: Arc<SourceName>,
    entries: Entries<'r>,
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
        name: &Arc<SourceName>,
        entries: impl Into<Entries<'r>>,
        parents: Vec<ParentCursor<'r>>,
        comparison: Comparison,
    ) -> Self {
        Self {
            run,
            name: name.clone(),
            entries: entries.into(),
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
            let run = self.run;
            let (queue, until) = (WorkQueue::new(run.threads), Instant::now() + interval);
            let end = match with_crew(run, &queue, || self.feed(&queue, Some(until), &mut sink)) {
                Err(Error::Interrupted) => End::Interrupted,
                result => result?,
            };
            if matches!(end, End::Finished) {
                let outcome = self.finish(&mut sink)?;
                sink.flush()?;
                return Ok(outcome);
            }
            let root = self.builder.clone().finish(&mut |node| sink.add(ChunkKind::Tree, &node))?;
            sink.flush()?;
            self.run.session.settle()?;
            checkpoint(root, self.bytes)?;
            if matches!(end, End::Interrupted) {
                return Err(Error::Interrupted);
            }
        }
    }

    /// Ends the tree. The caller flushes `sink`.
    pub(super) fn finish(self, sink: &mut ChunkSink) -> Result<TreeOutcome> {
        let root = self.builder.finish(&mut |node| sink.add(ChunkKind::Tree, &node))?;
        Ok(TreeOutcome { root, owners: self.owners, bytes: self.bytes })
    }

    /// Has everything read and takes the entries in, until the walk ends or a checkpoint is due.
    pub(super) fn feed(
        &mut self,
        queue: &WorkQueue<Batch>,
        until: Option<Instant>,
        sink: &mut ChunkSink,
    ) -> Result<End> {
        let mut out: VecDeque<Arc<Slot>> = VecDeque::new();
        let reads_max = reads_per_batch();
        let mut batch = Batch::new(&self.name);
        let mut end = End::Finished;
        loop {
            while out.len() >= BATCHES_MAX || out.front().is_some_and(|slot| slot.is_done()) {
                self.take_in(out.pop_front(), sink)?;
            }
            if self.run.counters.interrupted.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                end = End::CheckpointDue;
                break;
            }
            match self.entries.next()? {
                None => break,
                Some(Next::Taken(path, entry)) => self.take(path, entry, &mut batch),
                Some(Next::Found(Ok(found))) => match found {
                    Found::Met(met) => self.plan(met, &mut batch),
                    Found::File(file) => self.plan_file(file, &mut batch),
                    Found::Made(path, metadata) => {
                        batch.push(Planned::Ready(path, Entry::directory(metadata)), 0)
                    }
                },
                Some(Next::Found(Err(problem))) => self.run.problem(&self.name, &problem),
            }
            if batch.is_full(reads_max) {
                out.push_back(std::mem::replace(&mut batch, Batch::new(&self.name)).submit(queue));
            }
        }
        out.push_back(batch.submit(queue));
        while let Some(slot) = out.pop_front() {
            self.take_in(Some(slot), sink)?;
        }
        Ok(end)
    }

    /// Decides whether an entry is read.
    fn plan(&mut self, met: Box<Met>, batch: &mut Batch) {
        let status = &met.status;
        let bytes = if status.kind == FileType::RegularFile { status.size } else { 0 };
        self.owners.add(status.uid, status.gid);
        self.bytes += bytes;
        let link = self.link_group(&met.path, status);
        let found: Vec<Option<Entry>> = self.parents.iter_mut().map(|parent| parent.at(&met.path)).collect();
        let kept = self.parents.iter().zip(&found).find_map(|(parent, entry)| {
            entry
                .as_ref()
                .filter(|entry| parent.still_holds(entry, status, self.comparison, &self.run.session))
        });
        self.run.classify(status, found.iter().any(Option::is_some), kept.is_some());
        let planned = match kept {
            Some(entry) => {
                self.run.counters.add_kept(bytes);
                let mut entry = Entry { link, ..entry.clone() };
                // What was ignored in the comparison is still recorded as it is now.
                (entry.metadata.inode, entry.metadata.ctime) = (status.inode, status.ctime);
                Planned::Ready(met.path, entry)
            }
            None => {
                let earlier = self.parents.iter().zip(&found).find_map(|(parent, entry)| {
                    entry.as_ref().and_then(|entry| parent.earlier(entry)).map(Box::new)
                });
                Planned::Read(met, link, earlier)
            }
        };
        batch.push(planned, bytes);
    }

    /// An entry that is as the first pass read it.
    fn take(&mut self, path: TreePath, entry: Entry, batch: &mut Batch) {
        self.owners.add(entry.metadata.uid, entry.metadata.gid);
        self.bytes += entry.size();
        batch.push(Planned::Ready(path, entry), 0);
    }

    /// A file in memory is stored again each time: it costs less than asking.
    fn plan_file(&mut self, file: MemoryFile, batch: &mut Batch) {
        self.owners.add(file.metadata.uid, file.metadata.gid);
        let bytes = file.bytes.len() as u64;
        self.bytes += bytes;
        let found: Vec<Entry> = self.parents.iter_mut().filter_map(|parent| parent.at(&file.at)).collect();
        let is_alike =
            found.iter().any(|entry| entry.size() == bytes && entry.metadata.mtime == file.metadata.mtime);
        self.run.classify(&Status::of_memory(&file.metadata, bytes), !found.is_empty(), is_alike);
        batch.push(Planned::Store(Box::new(file)), bytes);
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
                self.run.torn(&self.name, &path);
            }
            self.builder.push(&path, &entry, &mut |node| sink.add(ChunkKind::Tree, &node))?;
        }
        Ok(())
    }
}
