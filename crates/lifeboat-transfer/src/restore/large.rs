//! A large file, compared and written by several workers.
//!
//! The walking thread cuts it into spans. Where a file is there already, workers compare it span by span first, and the
//! walking thread waits for them: they have nothing better to do. Then nothing is written, or what differs in place, or
//! everything. Whoever gives back the last share of what is written finishes the file.

use super::compare::{Comparer, Findings};
use super::content::{Buffer, Trouble};
use super::directory::Directory;
use super::existing::Old;
use super::link::Duty;
use super::patch::Patch;
use super::run::Run;
use super::spans::{Span, Spans};
use super::unfinished::Unfinished;
use super::work::{Gone, Queue};
use crate::pieces::Pieces;
use lifeboat_format::{Entry, Node};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Restores a large file. Later links to it wait for spans that stand before them in the channel.
pub(super) fn restore(
    run: &Run<'_>,
    queue: &Queue,
    directory: Arc<Directory>,
    name: Vec<u8>,
    entry: Entry,
    duty: Option<Duty>,
) -> Result<(), Gone> {
    let mut old = None;
    if let Some(found) = Old::open(run, &directory, &name, &entry) {
        let (found, findings) = compare(run, queue, found, &entry)?;
        let path = || directory.path_of(&name);
        if !findings.is_different && found.keep(run, &entry, &path) {
            run.found(&directory, &name, duty, &found, findings.bytes_equal);
            run.release(directory);
            return Ok(());
        }
        match Patch::begin(run, &directory, &name, &entry, found, findings) {
            Ok((patch, staged)) => {
                let file = Unfinished::patching(directory, name, entry, duty, patch, staged);
                return write(run, queue, Large::new(file, None));
            }
            Err(found) => old = Some(found),
        }
    }
    match Unfinished::create(run, directory, name, entry, duty) {
        Some(file) => write(run, queue, Large::new(file, old)),
        None => Ok(()),
    }
}

/// Hands out the spans of a file.
fn write(run: &Run<'_>, queue: &Queue, file: Arc<Large>) -> Result<(), Gone> {
    let mut sent = Ok(());
    if let Node::File { size, content } = &file.file.entry.node {
        for span in Spans::new(Pieces::new(run.reader, content, *size)) {
            match span {
                Ok(span) => sent = queue.write(Arc::clone(&file), file.file.only_differing(span)),
                Err(error) => file.add(Err(error.into())),
            }
            if sent.is_err() || file.has_failed() || run.is_interrupted() {
                break;
            }
        }
    }
    if run.is_interrupted() {
        file.add(Err(Trouble::Interrupted));
    }
    file.release(run, &mut Buffer::new());
    sent
}

/// Lets the workers compare a file, and waits for them.
fn compare(run: &Run<'_>, queue: &Queue, old: Old, entry: &Entry) -> Result<(Arc<Old>, Findings), Gone> {
    let comparison =
        Arc::new(Comparison { old: Arc::new(old), state: Mutex::default(), changed: Condvar::new() });
    let mut spans = 0;
    let mut is_readable = true;
    if let Node::File { size, content } = &entry.node {
        for span in Spans::new(Pieces::new(run.reader, content, *size)) {
            match span {
                Ok(span) if !run.is_interrupted() => {
                    spans += 1;
                    queue.compare(Stretch { share: comparison.share(), span })?;
                }
                // Whoever writes meets the same error, and reports it.
                _ => {
                    is_readable = false;
                    break;
                }
            }
        }
    }
    let mut findings = comparison.wait();
    let old = Arc::clone(&comparison.old);
    let is_complete = is_readable && findings.are_complete(spans);
    findings.is_different |= !is_complete || u64::try_from(old.stat.st_size) != Ok(entry.size());
    if !is_complete {
        findings.bytes_differing = u64::MAX;
    }
    Ok((old, findings))
}

/// A file that is being compared.
struct Comparison {
    old: Arc<Old>,
    state: Mutex<(usize, Findings)>,
    changed: Condvar,
}

impl Comparison {
    fn share(self: &Arc<Self>) -> Share {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0 += 1;
        Share(Some(Arc::clone(self)))
    }

    fn wait(&self) -> Findings {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.0 > 0 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::take(&mut state.1)
    }
}

/// One worker's part of a comparison. Dropped by a panic or with the channel, it still counts as given back.
struct Share(Option<Arc<Comparison>>);

impl Drop for Share {
    fn drop(&mut self) {
        let Some(comparison) = self.0.take() else { return };
        let mut state = comparison.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 -= 1;
        comparison.changed.notify_all();
    }
}

/// A stretch of a file to compare.
pub(super) struct Stretch {
    share: Share,
    span: Span,
}

impl Stretch {
    pub(super) fn compare(self, run: &Run<'_>, buffer: &mut Buffer) {
        let Some(comparison) = &self.share.0 else { return };
        let old = &comparison.old;
        let mut comparer = Comparer::new(run.reader, run.options.interrupt, old.fd.as_fd(), &old.stat);
        let compared = comparer.span(buffer, &self.span);
        comparison.state.lock().unwrap_or_else(PoisonError::into_inner).1.add(self.span.number, compared);
    }
}

/// A large file that is being written.
pub(super) struct Large {
    pub(super) file: Unfinished,
    /// The file that it replaces: equal pieces are taken from there.
    pub(super) old: Option<Arc<Old>>,
    bytes: AtomicU64,
    trouble: Mutex<Option<Trouble>>,
}

impl Large {
    /// Takes on a file; its length is set at once, so that spans and holes may come in any order.
    fn new(file: Unfinished, old: Option<Arc<Old>>) -> Arc<Self> {
        let trouble = rustix::fs::ftruncate(&file.fd, file.entry.size()).err().map(Trouble::Write);
        Arc::new(Self { file, old, bytes: AtomicU64::new(0), trouble: Mutex::new(trouble) })
    }

    /// Whether there is no point in writing more of it.
    pub(super) fn has_failed(&self) -> bool {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// A share of it is done; the first trouble decides.
    pub(super) fn add(&self, written: Result<u64, Trouble>) {
        match written {
            Ok(bytes) => {
                self.bytes.fetch_add(bytes, Ordering::Relaxed);
            }
            Err(trouble) => {
                let mut first = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert(trouble);
            }
        }
    }

    /// Gives back a share.
    pub(super) fn release(self: Arc<Self>, run: &Run<'_>, buffer: &mut Buffer) {
        if let Some(large) = Arc::into_inner(self) {
            let trouble = large.trouble.into_inner().unwrap_or_else(PoisonError::into_inner);
            let written = trouble.map_or(Ok(large.bytes.into_inner()), Err);
            large.file.finish(run, buffer, written);
        }
    }
}
