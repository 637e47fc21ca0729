//! Takes a name: by creating it, or by creating a temporary beside it that takes its place when it is complete.
//!
//! Must stay true: an existing file is never opened for writing here. It may have a second name elsewhere, or be a symbolic
//! link; replaced by a rename, neither matters.

use super::beneath;
use super::directory::Directory;
use super::existing::Verdict;
use super::remove::Remover;
use super::report::ProblemKind;
use super::run::{Run, temporary_name};
use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;

/// Attempts to take a name while somebody else makes and removes it again and again.
const ATTEMPTS: usize = 8;

/// A new file, and the temporary name that it still has.
pub(super) struct Placed<T> {
    pub(super) made: T,
    pub(super) temporary: Option<Vec<u8>>,
}

/// What became of a name.
pub(super) enum Placement<T> {
    /// It is ours, or will be with [`commit`].
    New(Placed<T>),
    /// What was there stays.
    Kept(Verdict, Stat),
    /// It cannot be had.
    Refused(ProblemKind, Errno),
}

/// Creates a file under its own name, or under a temporary one where something replaceable is there.
pub(super) fn place<T>(
    run: &Run<'_>,
    directory: &Directory,
    name: &[u8],
    judge: impl Fn(&Stat) -> Verdict,
    create: impl Fn(&[u8]) -> Result<T, Errno>,
) -> Placement<T> {
    let refused = |error| Placement::Refused(ProblemKind::of_creating(error), error);
    for _ in 0..ATTEMPTS {
        match create(name) {
            Ok(made) => return Placement::New(Placed { made, temporary: None }),
            Err(Errno::EXIST) => {}
            Err(error) => return refused(error),
        }
        let stat = match beneath::stat(directory, name) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(error) => return refused(error),
        };
        let verdict = judge(&stat);
        if verdict != Verdict::Replaced {
            return Placement::Kept(verdict, stat);
        }
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            match clear_the_way(run, directory, name) {
                Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => continue,
                Err(error) => return Placement::Refused(ProblemKind::Exists, error),
            }
        }
        let temporary = match temporary_name() {
            Ok(temporary) => temporary,
            Err(error) => return refused(error),
        };
        match create(&temporary) {
            Ok(made) => return Placement::New(Placed { made, temporary: Some(temporary) }),
            Err(Errno::EXIST) => {}
            Err(error) => return refused(error),
        }
    }
    Placement::Refused(ProblemKind::Raced, Errno::EXIST)
}

/// Gives a complete file its own name. Where that fails, the temporary is removed.
pub(super) fn commit(directory: &Directory, name: &[u8], temporary: Option<&[u8]>) -> Result<(), Errno> {
    let Some(temporary) = temporary else { return Ok(()) };
    rustix::fs::renameat(directory, temporary, directory, name)
        .inspect_err(|_| abandon(directory, name, Some(temporary)))
}

/// Removes an unfinished file.
pub(super) fn abandon(directory: &Directory, name: &[u8], temporary: Option<&[u8]>) {
    // A failure leaves an incomplete file, but its reason was reported already.
    let _ = rustix::fs::unlinkat(directory, temporary.unwrap_or(name), AtFlags::empty());
}

fn clear_the_way(run: &Run<'_>, directory: &Directory, name: &[u8]) -> Result<(), Errno> {
    use std::os::fd::AsFd;
    let path = directory.path_of(name);
    let in_tree = path.components().try_fold(run.base.clone(), |above, name| above.join(name));
    let remover = Remover { options: run.options, ledger: &run.ledger, base: run.base };
    remover.clear_the_way(directory.as_fd(), name, in_tree.map_err(|_| Errno::NAMETOOLONG)?)
}
