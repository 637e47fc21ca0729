//! What a restore would do, without doing it.
//!
//! Must stay true: nothing is created, changed or deleted; files are compared by kind, size and time only.

use super::beneath::{self, Mounts};
use super::remove::{Listing, Remover};
use super::report::{Count, Ledger, Problem, ProblemKind};
use super::walk::Walk;
use super::{Error, Options, Overwrite, Result, existing};
use lifeboat_format::{Entry, LinkGroup, Node, TreePath};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::collections::HashSet;
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
) -> Result<()> {
    let base = walk.base();
    let mut plan = Plan {
        remover: Remover { options, ledger, base },
        levels: vec![Level { listing: None, directory: target }],
        groups: HashSet::new(),
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
    groups: HashSet<LinkGroup>,
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
        if let Some(parent) = parent
            && let Ok(stat) = beneath::stat(parent, name)
        {
            let is_kept = match options.overwrite {
                Overwrite::Always => false,
                Overwrite::IfChanged => existing::is_same(parent, name, entry, &stat),
                Overwrite::Never => true,
            };
            if is_kept {
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
        if entry.link.is_some_and(|group| !self.groups.insert(group)) {
            return ledger.one(Count::Links);
        }
        ledger.one(match entry.node {
            Node::File { .. } => Count::Files,
            Node::Symlink { .. } => Count::Symlinks,
            _ => Count::Others,
        });
        ledger.add(Count::Bytes, entry.size());
    }

    fn failed(&self, path: &TreePath, kind: ProblemKind, error: Errno) {
        let path = path.strip(self.remover.base).unwrap_or_else(|| path.clone());
        self.remover.ledger.one(Count::Failed);
        self.remover.ledger.problem(Problem { path, kind, detail: error.to_string() });
    }
}
