//! What a restore would do, without doing it.
//!
//! Must stay true: nothing is created, changed or deleted. Files are compared as a restore compares them,
//! on this one thread.

use super::beneath::{self, Mounts};
use super::compare::{Comparer, Findings};
use super::content::Buffer;
use super::existing::Old;
use super::link::Inode;
use super::remove::{Listing, Remover};
use super::report::{Count, Ledger, Problem, ProblemKind};
use super::run::User;
use super::spans::Spans;
use super::walk::Walk;
use super::work::SPAN_BYTES;
use super::{Error, Options, Overwrite, Result, existing, patch};
use crate::pieces::{ChunkReader, Pieces};
use lifeboat_format::{Entry, LinkGroup, Node, TreePath};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Opens the target; `None` where it is missing.
pub(super) fn open_target(target: &Path) -> std::io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, target, flags, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Counts what would be done.
pub(super) fn run(
    mut walk: Walk<'_>,
    first: Entry,
    ledger: &Ledger<'_>,
    target: Option<OwnedFd>,
    options: &Options<'_>,
    reader: &dyn ChunkReader,
) -> Result<()> {
    let base = walk.base();
    let mut plan = Plan {
        remover: Remover { options, ledger, base },
        levels: vec![Level { listing: None, directory: target }],
        groups: HashMap::new(),
        reader,
        buffer: Buffer::new(),
    };
    if first.is_directory() {
        plan.levels[0].list(options);
        plan.count_directory();
    } else if let Some(name) = base.name() {
        plan.other(base, name, &first);
    }
    let result = plan.walk(&mut walk);
    ledger.add(Count::Excluded, walk.excluded);
    ledger.add(Count::Unreached, walk.unreached);
    result
}

/// A directory that we are in; without a descriptor, one that would be made.
struct Level {
    directory: Option<OwnedFd>,
    listing: Option<Listing>,
}

impl Level {
    fn list(&mut self, options: &Options<'_>) {
        if let (Some(directory), true) = (&self.directory, options.delete) {
            self.listing = Listing::read(directory).ok();
        }
    }
}

struct Plan<'p> {
    remover: Remover<'p>,
    levels: Vec<Level>,
    /// Sets of hard links met, and the file of each that would stay.
    groups: HashMap<LinkGroup, Option<Inode>>,
    reader: &'p dyn ChunkReader,
    buffer: Buffer,
}

impl Plan<'_> {
    fn walk(&mut self, walk: &mut Walk<'_>) -> Result<()> {
        let mut here = walk.here();
        while let Some(step) = walk.next()? {
            if self.remover.options.interrupt.load(std::sync::atomic::Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            for _ in 0..step.leave {
                self.leave(&mut here);
            }
            let Some(name) = step.path.name() else { continue };
            self.delete(&here, Some(name));
            match step.entry {
                None => {}
                Some(entry) if entry.is_directory() => {
                    if self.enter(&step.path, name) {
                        here = step.path;
                    } else {
                        walk.pass_over();
                    }
                }
                Some(entry) => self.other(&step.path, name, &entry),
            }
        }
        while !self.levels.is_empty() {
            self.leave(&mut here);
        }
        Ok(())
    }

    fn leave(&mut self, here: &mut TreePath) {
        self.delete(here, None);
        self.levels.pop();
        *here = here.parent().unwrap_or_default();
    }

    fn delete(&mut self, here: &TreePath, limit: Option<&[u8]>) {
        if let Some(Level { directory: Some(directory), listing: Some(listing) }) = self.levels.last_mut() {
            self.remover.sweep(listing, directory.as_fd(), here, limit);
        }
    }

    fn enter(&mut self, path: &TreePath, name: &[u8]) -> bool {
        let parent = self.levels.last().and_then(|level| level.directory.as_ref());
        let opened = parent.map(|parent| beneath::open_directory(parent, name, Mounts::Cross));
        let may_overwrite = self.remover.options.overwrite != Overwrite::Never;
        let directory = match opened {
            None | Some(Err(Errno::NOENT)) => None,
            Some(Err(Errno::LOOP | Errno::NOTDIR)) if may_overwrite => None,
            Some(Err(error)) => {
                self.failed(path, ProblemKind::Exists, error);
                return false;
            }
            Some(Ok(directory)) => Some(directory),
        };
        let mut level = Level { directory, listing: None };
        level.list(self.remover.options);
        self.levels.push(level);
        self.count_directory();
        true
    }

    fn count_directory(&self) {
        let exists = self.levels.last().is_some_and(|level| level.directory.is_some());
        let is_kept = exists && self.remover.options.overwrite == Overwrite::Never;
        self.remover.ledger.one(if is_kept { Count::Kept } else { Count::Directories });
    }

    fn other(&mut self, path: &TreePath, name: &[u8], entry: &Entry) {
        let (options, ledger) = (self.remover.options, self.remover.ledger);
        let parent = self.levels.last().and_then(|level| level.directory.as_ref());
        let first = entry.link.and_then(|group| self.groups.get(&group).copied());
        let mut foreseen = Foreseen::Whole;
        let mut kept = None;
        if let Some(parent) = parent
            && let Ok(stat) = beneath::stat(parent, name)
        {
            let is_linked = first.flatten() == Some(Inode::of(&stat));
            let is_kept = match options.overwrite {
                Overwrite::Always => is_linked,
                Overwrite::IfChanged => is_linked || existing::is_same(parent, name, entry, &stat),
                Overwrite::Never => true,
            };
            if !is_kept && first.is_none() {
                foreseen = foresee(options, self.reader, &mut self.buffer, parent, name, entry);
            }
            if let Foreseen::Same(bytes) = foreseen {
                ledger.add(Count::Unchanged, bytes);
            }
            if is_kept || matches!(foreseen, Foreseen::Same(_)) {
                kept = Some(Inode::of(&stat));
            }
            if kept.is_some() {
                if let Some(group) = entry.link {
                    self.groups.entry(group).or_insert(kept);
                }
                return ledger.one(Count::Kept);
            }
            let is_in_the_way = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            let is_empty = || Listing::read_directory(parent, name).is_ok_and(|listing| listing.is_empty());
            if is_in_the_way && !options.delete && !is_empty() {
                return self.failed(path, ProblemKind::Exists, Errno::NOTEMPTY);
            }
            if is_in_the_way && !self.remover.remove(parent.as_fd(), name, FileType::Directory, path.clone())
            {
                return self.failed(path, ProblemKind::Exists, Errno::NOTEMPTY);
            }
        }
        if let Some(group) = entry.link
            && self.groups.insert(group, first.flatten()).is_some()
        {
            return ledger.one(Count::Links);
        }
        ledger.one(match entry.node {
            Node::File { .. } => Count::Files,
            Node::Symlink { .. } => Count::Symlinks,
            _ => Count::Others,
        });
        match foreseen {
            Foreseen::Patch(findings) => {
                ledger.one(Count::Patched);
                ledger.add(Count::Bytes, findings.bytes_differing);
                ledger.add(Count::Unchanged, findings.bytes_equal);
            }
            Foreseen::Same(_) | Foreseen::Whole => ledger.add(Count::Bytes, entry.size()),
        }
    }

    fn failed(&self, path: &TreePath, kind: ProblemKind, error: Errno) {
        let path = path.strip(self.remover.base).unwrap_or_else(|| path.clone());
        self.remover.ledger.one(Count::Failed);
        self.remover.ledger.problem(Problem { path, kind, detail: error.to_string() });
    }
}

/// What would become of a regular file.
enum Foreseen {
    /// It stays; so many bytes were compared.
    Same(u64),
    /// It is changed in its place.
    Patch(Findings),
    /// It is written as a whole.
    Whole,
}

fn foresee(
    options: &Options<'_>,
    reader: &dyn ChunkReader,
    buffer: &mut Buffer,
    parent: &OwnedFd,
    name: &[u8],
    entry: &Entry,
) -> Foreseen {
    let Node::File { size, content } = &entry.node else { return Foreseen::Whole };
    let Some(old) = Old::find(options, parent, name, entry) else { return Foreseen::Whole };
    let mut comparer = Comparer::new(reader, options.interrupt, old.fd.as_fd(), &old.stat);
    let pieces = Pieces::new(reader, content, *size);
    if *size <= SPAN_BYTES {
        let same = comparer.whole(buffer, *size, pieces).filter(|_| old.may_stay(reader, entry));
        return same.map_or(Foreseen::Whole, Foreseen::Same);
    }
    let mut findings = Findings::of_length(&old.stat, *size);
    for span in Spans::new(pieces) {
        let Some(compared) = span.ok().map(|span| (span.number, comparer.span(buffer, &span))) else {
            return Foreseen::Whole;
        };
        findings.add(compared.0, compared.1);
    }
    if !findings.is_different && old.may_stay(reader, entry) {
        Foreseen::Same(findings.bytes_equal)
    } else if patch::is_fit(reader, User::current(), entry, &old, &findings) {
        Foreseen::Patch(findings)
    } else {
        Foreseen::Whole
    }
}
