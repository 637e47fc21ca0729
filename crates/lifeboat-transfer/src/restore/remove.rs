//! Deletes what the snapshot does not have.
//!
//! Must stay true: nothing that the filter excludes is deleted, nothing on another mounted file system, and no symbolic
//! link is followed. Counts only, in a dry run.

use super::Options;
use super::beneath::{self, Mounts};
use super::report::{Count, Ledger, Problem, ProblemKind};
use lifeboat_format::TreePath;
use rustix::fs::{AtFlags, Dir, FileType};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;

/// The names that a directory had before we touched it, sorted downwards.
pub(super) struct Listing(Vec<(Vec<u8>, FileType)>);

impl Listing {
    pub(super) fn read(directory: impl AsFd) -> Result<Self, Errno> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push((name.to_vec(), kind_of(&directory, name, entry.file_type())));
            }
        }
        names.sort_unstable_by(|one, other| other.0.cmp(&one.0));
        Ok(Self(names))
    }

    /// The names of a directory inside another.
    pub(super) fn read_directory(parent: impl AsFd, name: &[u8]) -> Result<Self, Errno> {
        Self::read(beneath::open_directory(parent, name, Mounts::Cross)?)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next name below `limit`, which the snapshot has; it is passed over itself. `None` is no limit.
    pub(super) fn next_below(&mut self, limit: Option<&[u8]>) -> Option<(Vec<u8>, FileType)> {
        match (self.0.last(), limit) {
            (Some((name, _)), Some(limit)) if name.as_slice() == limit => {
                self.0.pop();
                None
            }
            (Some((name, _)), Some(limit)) if name.as_slice() > limit => None,
            _ => self.0.pop(),
        }
    }
}

/// Deletes, by the rules of one restore.
pub(super) struct Remover<'r> {
    pub(super) options: &'r Options<'r>,
    pub(super) ledger: &'r Ledger<'r>,
    pub(super) base: &'r TreePath,
}

struct Level {
    directory: Dir,
    name: Vec<u8>,
    path: TreePath,
    /// Whether something in it stays.
    is_kept: bool,
}

/// What became of one name.
enum Taken {
    Gone,
    Stays,
    /// It is a directory, to be emptied first.
    Inside(Level),
}

impl Remover<'_> {
    /// Removes the names below `limit` that a directory had, or all that are left; `here` is its path in the tree.
    pub(super) fn sweep(
        &self,
        listing: &mut Listing,
        directory: BorrowedFd<'_>,
        here: &TreePath,
        limit: Option<&[u8]>,
    ) {
        while let Some((name, kind)) = listing.next_below(limit) {
            match here.join(&name) {
                Ok(path) => {
                    self.remove(directory, &name, kind, path);
                }
                Err(_) => self.report(here, Errno::NAMETOOLONG),
            }
        }
    }

    /// Removes a directory that is in the way of something else. What is in it goes only with `delete`.
    pub(super) fn clear_the_way(
        &self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: TreePath,
    ) -> Result<(), Errno> {
        match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) => {
                self.ledger.one(Count::Deleted);
                Ok(())
            }
            Err(Errno::NOTEMPTY | Errno::EXIST) if self.options.delete => {
                if self.remove(parent, name, FileType::Directory, path) {
                    Ok(())
                } else {
                    Err(Errno::NOTEMPTY)
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Removes a name and everything below it; `path` is its path in the tree. Whether it is gone.
    pub(super) fn remove(&self, parent: BorrowedFd<'_>, name: &[u8], kind: FileType, path: TreePath) -> bool {
        let mut levels = match self.take(parent, name, kind, path) {
            Taken::Gone => return true,
            Taken::Stays => return false,
            Taken::Inside(level) => vec![level],
        };
        while let Some(level) = levels.last_mut() {
            if self.options.interrupt.load(Ordering::Relaxed) {
                return false;
            }
            match self.take_next(level) {
                Some(Taken::Gone) => {}
                Some(Taken::Stays) => level.is_kept = true,
                Some(Taken::Inside(inner)) => levels.push(inner),
                None => {
                    let Some(level) = levels.pop() else { return false };
                    let above = levels.last().and_then(|above| above.directory.fd().ok()).unwrap_or(parent);
                    let is_gone =
                        !level.is_kept && self.unlink(above, &level.name, AtFlags::REMOVEDIR, &level.path);
                    match levels.last_mut() {
                        Some(above) => above.is_kept |= !is_gone,
                        None => return is_gone,
                    }
                }
            }
        }
        false
    }

    /// Takes the next name of a directory; `None` at its end.
    fn take_next(&self, level: &mut Level) -> Option<Taken> {
        loop {
            let (name, kind) = match level.directory.read()? {
                Ok(entry) => (entry.file_name().to_bytes().to_vec(), entry.file_type()),
                Err(error) => {
                    // It might give the same error for ever.
                    self.report(&level.path, error);
                    level.is_kept = true;
                    return None;
                }
            };
            if name == b"." || name == b".." {
                continue;
            }
            let taken = match (level.path.join(&name), level.directory.fd()) {
                (Ok(path), Ok(directory)) => {
                    self.take(directory, &name, kind_of(directory, &name, kind), path)
                }
                _ => {
                    self.report(&level.path, Errno::NAMETOOLONG);
                    Taken::Stays
                }
            };
            return Some(taken);
        }
    }

    /// Unlinks a name, or goes into it where it is a directory.
    fn take(&self, above: BorrowedFd<'_>, name: &[u8], kind: FileType, path: TreePath) -> Taken {
        let is_directory = kind == FileType::Directory;
        if self.options.filter.is_some_and(|filter| !filter(&path, is_directory)) {
            return Taken::Stays;
        }
        if is_directory {
            match beneath::open_directory(above, name, Mounts::Stay).and_then(Dir::new) {
                Ok(directory) => {
                    return Taken::Inside(Level { directory, name: name.to_vec(), path, is_kept: false });
                }
                Err(Errno::NOTDIR | Errno::LOOP) => {}
                Err(Errno::NOENT) => return Taken::Gone,
                Err(error) => {
                    self.report(&path, error);
                    return Taken::Stays;
                }
            }
        }
        if self.unlink(above, name, AtFlags::empty(), &path) { Taken::Gone } else { Taken::Stays }
    }

    fn unlink(&self, above: BorrowedFd<'_>, name: &[u8], flags: AtFlags, path: &TreePath) -> bool {
        let result = if self.options.dry_run { Ok(()) } else { rustix::fs::unlinkat(above, name, flags) };
        match result {
            Ok(()) => self.ledger.one(Count::Deleted),
            Err(Errno::NOENT) => {}
            Err(error) => {
                self.report(path, error);
                return false;
            }
        }
        true
    }

    fn report(&self, path: &TreePath, error: Errno) {
        let path = path.strip(self.base).unwrap_or_else(|| path.clone());
        self.ledger.problem(Problem { path, kind: ProblemKind::Delete, detail: error.to_string() });
    }
}

/// Some file systems do not say what a name is when they list it.
fn kind_of(directory: impl AsFd, name: &[u8], listed: FileType) -> FileType {
    if listed != FileType::Unknown {
        return listed;
    }
    beneath::stat(directory, name).map_or(listed, |stat| FileType::from_raw_mode(stat.st_mode))
}
