//! What a backup counts while it runs.

use crate::source::file::Status;
use lifeboat_format::snapshot::Statistics;
use lifeboat_format::{Entry, Node};
use lifeboat_repo::session::Session;
use rustix::fs::FileType;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What a display shows, and how a backup is stopped.
#[derive(Debug, Default)]
pub struct Counters {
    /// Bytes of regular files met or read.
    pub bytes_done: AtomicU64,
    /// Set it to stop: the backup leaves a checkpoint and returns an error that says so (`is_interrupted`).
    pub interrupted: Arc<AtomicBool>,
    /// Bytes of larger files and of streams in which the end of a chunk was searched, for want of a hint.
    pub bytes_scanned: AtomicU64,
    /// Data chunks that the index was asked about.
    pub chunks_asked: AtomicU64,
    /// Regular files that the second of two passes read, because they changed or may have.
    pub files_reread: AtomicU64,
    /// Their bytes.
    pub bytes_reread: AtomicU64,
    is_second_pass: AtomicBool,
    /// Files that differ from the parent's, are new, or as before.
    files: [AtomicU64; 3],
    directories: [AtomicU64; 3],
    others: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) vanished: AtomicU64,
    pub(super) torn: AtomicU64,
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

    /// From now on, what is read was read before: it counts apart. Troubles of the first pass count no more.
    pub(super) fn begin_second_pass(&self) {
        self.is_second_pass.store(true, Ordering::Relaxed);
        [&self.errors, &self.vanished, &self.torn].iter().for_each(|count| count.store(0, Ordering::Relaxed));
    }

    /// From now on, what is read counts as it does at first.
    pub(super) fn end_second_pass(&self) {
        self.is_second_pass.store(false, Ordering::Relaxed);
    }

    /// Bytes were read.
    pub(super) fn add_read(&self, bytes: u64) {
        self.read_in_this_pass().fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that were counted as read are read again: a file is processed once, however often it changes meanwhile.
    pub(super) fn take_back_read(&self, bytes: u64) {
        self.read_in_this_pass().fetch_sub(bytes, Ordering::Relaxed);
    }

    fn read_in_this_pass(&self) -> &AtomicU64 {
        let is_second = self.is_second_pass.load(Ordering::Relaxed);
        if is_second { &self.bytes_reread } else { &self.bytes_done }
    }

    /// Bytes need not be read: a parent has them.
    pub(super) fn add_kept(&self, bytes: u64) {
        if !self.is_second_pass.load(Ordering::Relaxed) {
            self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    pub(super) fn classify(&self, status: &Status, existed: bool, kept: bool) {
        if self.is_second_pass.load(Ordering::Relaxed) {
            let is_read = !kept && status.kind == FileType::RegularFile;
            self.files_reread.fetch_add(u64::from(is_read), Ordering::Relaxed);
            return;
        }
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

    /// The same for an entry that comes from a stream. Streams are read once, also where other sources are read twice.
    pub(super) fn classify_entry(&self, entry: &Entry, existed: bool, is_alike: bool) {
        let slot = match (existed, is_alike) {
            (true, true) => 2,
            (true, false) => 1,
            (false, _) => 0,
        };
        let counts = match entry.node {
            Node::Directory => &self.directories[slot],
            Node::File { .. } => &self.files[slot],
            _ => &self.others,
        };
        counts.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn statistics(&self, session: Option<&Session>) -> Statistics {
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

    pub(super) fn reset(&self) {
        let all = self.files.iter().chain(&self.directories);
        let work = [
            &self.bytes_done,
            &self.bytes_scanned,
            &self.chunks_asked,
            &self.files_reread,
            &self.bytes_reread,
        ];
        self.end_second_pass();
        all.chain(work)
            .chain([&self.others, &self.errors, &self.vanished, &self.torn])
            .for_each(|count| count.store(0, Ordering::Relaxed));
    }

    /// A stream was read to its end: one new file.
    pub(super) fn stream(&self) {
        self.files[0].fetch_add(1, Ordering::Relaxed);
    }
}
