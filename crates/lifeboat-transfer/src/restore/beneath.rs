//! Opening things below a directory that is held open, never through a symbolic link.
//!
//! Must stay true: whatever another process does to the target meanwhile, nothing here resolves a name outside the
//! directory given. `tests/race.rs` swaps directories for symbolic links while a restore runs.

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set once the kernel (before 5.6) or a seccomp filter (old container engines) turned out not to know `openat2`.
static OPENAT2_IS_MISSING: AtomicBool = AtomicBool::new(false);

const CONFINED: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Whether a search may go on into another mounted file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mounts {
    Cross,
    Stay,
}

/// Opens one name for reading or as a path only; `flags` must not create.
pub(super) fn open(
    directory: impl AsFd,
    name: &[u8],
    flags: OFlags,
    mounts: Mounts,
) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if !OPENAT2_IS_MISSING.load(Ordering::Relaxed) {
        let resolve = match mounts {
            Mounts::Cross => CONFINED,
            Mounts::Stay => CONFINED | ResolveFlags::NO_XDEV,
        };
        // `NO_SYMLINKS` refuses a link as the last name too, even with `O_PATH | O_NOFOLLOW`, and those we do want to
        // hold. One name that is neither followed nor `..` cannot leave its directory by any other way.
        let resolve = if flags.contains(OFlags::PATH) && !flags.contains(OFlags::DIRECTORY) {
            resolve - ResolveFlags::NO_SYMLINKS
        } else {
            resolve
        };
        match rustix::fs::openat2(&directory, name, flags, Mode::empty(), resolve) {
            Err(Errno::NOSYS | Errno::PERM) => {
                OPENAT2_IS_MISSING.store(openat2_is_missing(), Ordering::Relaxed);
            }
            result => return result,
        }
    }
    let opened = rustix::fs::openat(&directory, name, flags, Mode::empty())?;
    // Without `openat2` a mount point can only be told by its device number.
    if mounts == Mounts::Stay && rustix::fs::fstat(&opened)?.st_dev != rustix::fs::fstat(&directory)?.st_dev {
        return Err(Errno::XDEV);
    }
    Ok(opened)
}

/// `EPERM` is also what an immutable file answers, so the call is tried where only its absence can fail it.
fn openat2_is_missing() -> bool {
    rustix::fs::openat2(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::empty())
        .is_err()
}

/// Opens a directory to hold: listing it, changing its metadata and working below it.
pub(super) fn open_directory(directory: impl AsFd, name: &[u8], mounts: Mounts) -> Result<OwnedFd, Errno> {
    open(directory, name, OFlags::RDONLY | OFlags::DIRECTORY, mounts)
}

/// Holds whatever has this name without touching it: a link or special file that must not be opened.
pub(super) fn hold(directory: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    open(directory, name, OFlags::PATH, Mounts::Cross)
}

/// Opens the directory at a tree key (names joined by NUL), name by name, so that its length does not matter.
pub(super) fn open_key(root: impl AsFd, key: &[u8]) -> Result<OwnedFd, Errno> {
    let mut here = open(&root, b".", OFlags::PATH | OFlags::DIRECTORY, Mounts::Cross)?;
    for name in key.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        here = open(&here, name, OFlags::PATH | OFlags::DIRECTORY, Mounts::Cross)?;
    }
    Ok(here)
}

/// What has this name; a link is not followed.
pub(super) fn stat(directory: impl AsFd, name: &[u8]) -> Result<Stat, Errno> {
    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// Makes `target` and what is missing above it, and opens it. The user named this path, so links in it are followed.
pub(super) fn open_target(target: &Path, mode: Mode) -> std::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, target, flags, Mode::empty()) {
        Err(Errno::NOENT) => {}
        result => return Ok(result?),
    }
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match rustix::fs::mkdirat(CWD, target, mode) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(rustix::fs::openat(CWD, target, flags, Mode::empty())?)
}
