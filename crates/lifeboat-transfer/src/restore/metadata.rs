//! Owner, attributes, permissions and time of one file, in the order in which they do not undo each other.
//!
//! Must stay true: all of it goes to the inode that is held open, never to a name. Owner first, because changing it
//! clears setuid and file capabilities; then attributes, with ACLs and capabilities among them; then permissions; the
//! time last. A file that could not get its owner does not get setuid or setgid either: it would lend out rights of
//! somebody else than the snapshot says.

use super::report::{Problem, ProblemKind};
use super::run::Run;
use super::xattr;
use lifeboat_format::{Metadata, Timestamp, TreePath};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Stat, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// What the system gave a file when it was created.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fresh {
    /// Owner and group, where they are certain.
    pub(super) owner: Option<(u32, u32)>,
    /// Whether it may have attributes already, inherited ones for example.
    pub(super) has_xattrs: bool,
}

impl Fresh {
    /// A file that we did not create.
    pub(super) const UNKNOWN: Self = Self { owner: None, has_xattrs: true };
}

/// An inode in our hands.
#[derive(Clone, Copy)]
pub(super) enum Handle<'f> {
    /// Open for reading or writing.
    Open(BorrowedFd<'f>),
    /// A special file, held by `O_PATH`.
    Special(BorrowedFd<'f>),
    /// A symbolic link, held by `O_PATH`, and the directory and name through which alone its attributes can be set.
    Symlink(BorrowedFd<'f>, BorrowedFd<'f>, &'f [u8]),
}

/// Applies everything to a regular file or directory. Shortcomings are reported.
pub(super) fn apply(
    run: &Run<'_>,
    fd: impl AsFd,
    kind: FileType,
    metadata: &Metadata,
    fresh: Fresh,
    path: &dyn Fn() -> TreePath,
) {
    apply_to(run, Handle::Open(fd.as_fd()), kind, metadata, fresh, path);
}

/// Applies everything to any file.
pub(super) fn apply_to(
    run: &Run<'_>,
    handle: Handle<'_>,
    kind: FileType,
    metadata: &Metadata,
    fresh: Fresh,
    path: &dyn Fn() -> TreePath,
) {
    let report = |kind, detail: String| run.ledger.problem(Problem { path: path(), kind, detail });
    let mut mode = metadata.mode;
    if fresh.owner != Some((metadata.uid, metadata.gid))
        && let Err(error) = set_owner(handle, metadata.uid, metadata.gid)
    {
        report(ProblemKind::Owner, format!("{}:{}: {error}", metadata.uid, metadata.gid));
        mode &= !0o6000;
    }
    if fresh.has_xattrs || !metadata.xattrs.is_empty() {
        xattr::apply(run, handle, kind, &metadata.xattrs, fresh.has_xattrs, &report);
    }
    if !matches!(handle, Handle::Symlink(..))
        && let Err(error) = set_mode(handle, mode)
    {
        report(ProblemKind::Mode, format!("{mode:04o}: {error}"));
    }
    if let Err(error) = set_time(handle, metadata.mtime) {
        report(ProblemKind::Time, error.to_string());
    } else if !is_ordinary(metadata.mtime) && time_of(handle) != Some(metadata.mtime) {
        report(ProblemKind::Time, "the file system cannot hold it".to_owned());
    }
}

fn set_owner(handle: Handle<'_>, uid: u32, gid: u32) -> Result<(), Errno> {
    // The system reads the highest number as "leave it"; a snapshot's owner must not silently become ours.
    if uid == u32::MAX || gid == u32::MAX {
        return Err(Errno::INVAL);
    }
    let change = |uid: Option<Uid>, gid: Option<Gid>| match handle {
        Handle::Open(fd) => rustix::fs::fchown(fd, uid, gid),
        Handle::Special(fd) | Handle::Symlink(fd, ..) => {
            rustix::fs::chownat(fd, c"", uid, gid, AtFlags::EMPTY_PATH)
        }
    };
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    change(Some(uid), Some(gid)).inspect_err(|_| {
        // An ordinary user may at least choose among the own groups. The failure is reported either way.
        let _ = change(None, Some(gid));
    })
}

fn set_mode(handle: Handle<'_>, mode: u16) -> Result<(), Errno> {
    match handle {
        Handle::Open(fd) => rustix::fs::fchmod(fd, Mode::from_raw_mode(u32::from(mode))),
        Handle::Special(fd) => set_mode_of_held(fd, mode),
        Handle::Symlink(..) => Ok(()),
    }
}

/// Sets the mode of what is held by `O_PATH`, which must not be a symbolic link.
pub(super) fn set_mode_of_held(fd: impl AsFd, mode: u16) -> Result<(), Errno> {
    rustix::fs::chmodat(CWD, link_to(fd), Mode::from_raw_mode(u32::from(mode)), AtFlags::empty())
}

/// The kernel's own link to an open file; following it needs no name of the file.
pub(super) fn link_to(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

fn set_time(handle: Handle<'_>, mtime: Timestamp) -> Result<(), Errno> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanos.into() },
    };
    match handle {
        Handle::Open(fd) => rustix::fs::futimens(fd, &times),
        Handle::Special(fd) => match rustix::fs::utimensat(fd, c"", &times, AtFlags::EMPTY_PATH) {
            // Kernels before 5.8.
            Err(Errno::INVAL) => rustix::fs::utimensat(CWD, link_to(fd), &times, AtFlags::empty()),
            result => result,
        },
        Handle::Symlink(fd, ..) => rustix::fs::utimensat(fd, c"", &times, AtFlags::EMPTY_PATH),
    }
}

/// Between 1970 and 2038: every file system holds that. The kernel cuts others off without an error.
fn is_ordinary(time: Timestamp) -> bool {
    (0..1 << 31).contains(&time.seconds)
}

fn time_of(handle: Handle<'_>) -> Option<Timestamp> {
    let (Handle::Open(fd) | Handle::Special(fd) | Handle::Symlink(fd, ..)) = handle;
    rustix::fs::fstat(fd).ok().map(|stat| mtime_of(&stat))
}

/// The time of a file's last change.
pub(super) fn mtime_of(stat: &Stat) -> Timestamp {
    Timestamp { seconds: stat.st_mtime, nanos: stat.st_mtime_nsec as u32 }
}

/// Whether children of this directory inherit an ACL.
pub(super) fn has_default_acl(directory: impl AsFd) -> bool {
    match rustix::fs::fgetxattr_query(directory, xattr::DEFAULT_ACL) {
        Ok(_) => true,
        Err(error) => !matches!(error, Errno::NODATA | Errno::OPNOTSUPP),
    }
}

/// Makes a directory's children inherit nothing.
pub(super) fn remove_default_acl(directory: impl AsFd) -> Result<(), Errno> {
    match rustix::fs::fremovexattr(directory, xattr::DEFAULT_ACL) {
        Err(Errno::NODATA) => Ok(()),
        result => result,
    }
}
