//! Decides whether what is there may stay.
//!
//! Must stay true: nothing is decided about a file that is then changed by its name. Other metadata is set only on an
//! inode that has no second name: a second one may lie outside of the target.

use super::metadata::{self, Handle};
use super::run::Run;
use super::{Overwrite, beneath, xattr};
use lifeboat_format::{Entry, Node, TreePath};
use rustix::fs::{FileType, OFlags, Stat};
use std::os::fd::AsFd;

/// What happens to what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It stays, and is what the snapshot has.
    Same,
    /// It stays, although it may be something else.
    Spared,
    /// It is replaced.
    Replaced,
}

/// What happens to a file that has the entry's name. Sets the metadata of what stays.
pub(super) fn judge(
    run: &Run<'_>,
    directory: impl AsFd,
    name: &[u8],
    entry: &Entry,
    stat: &Stat,
    path: &dyn Fn() -> TreePath,
) -> Verdict {
    let directory = directory.as_fd();
    let is_same = || is_same(directory, name, entry, stat);
    match run.options.overwrite {
        Overwrite::Never if is_same() => Verdict::Same,
        Overwrite::Never => Verdict::Spared,
        Overwrite::IfChanged
            if is_same() && is_brought_up_to_date(run, directory, name, entry, stat, path) =>
        {
            Verdict::Same
        }
        Overwrite::IfChanged | Overwrite::Always => Verdict::Replaced,
    }
}

/// Whether kind, size and time, or whatever else makes its content, are the entry's.
pub(super) fn is_same(directory: impl AsFd, name: &[u8], entry: &Entry, stat: &Stat) -> bool {
    let device = |major, minor| stat.st_rdev == rustix::fs::makedev(major, minor);
    let kind = FileType::from_raw_mode(stat.st_mode);
    let is_kind = match &entry.node {
        Node::Directory => kind == FileType::Directory,
        Node::File { size, .. } => kind == FileType::RegularFile && u64::try_from(stat.st_size) == Ok(*size),
        Node::Symlink { target } => {
            kind == FileType::Symlink
                && rustix::fs::readlinkat(directory, name, Vec::new())
                    .is_ok_and(|found| found.as_bytes() == target.as_slice())
        }
        Node::Fifo => kind == FileType::Fifo,
        Node::Socket => kind == FileType::Socket,
        Node::CharDevice { major, minor } => kind == FileType::CharacterDevice && device(*major, *minor),
        Node::BlockDevice { major, minor } => kind == FileType::BlockDevice && device(*major, *minor),
    };
    is_kind
        && metadata::mtime_of(stat) == entry.metadata.mtime
        && (stat.st_nlink == 1 || entry.link.is_some())
}

fn is_brought_up_to_date(
    run: &Run<'_>,
    directory: impl AsFd,
    name: &[u8],
    entry: &Entry,
    stat: &Stat,
    path: &dyn Fn() -> TreePath,
) -> bool {
    if !matches!(entry.node, Node::File { .. }) {
        // Made anew where anything differs: that costs no more than looking closer.
        let is_mode_equal = matches!(entry.node, Node::Symlink { .. }) || has_mode(stat, entry);
        return is_mode_equal && has_owner(stat, entry) && entry.metadata.xattrs.is_empty();
    }
    // Not blocking: in this instant it may have become a pipe.
    let Ok(file) = beneath::open(&directory, name, OFlags::RDONLY | OFlags::NONBLOCK, beneath::Mounts::Cross)
    else {
        return false;
    };
    let Ok(stat) = rustix::fs::fstat(&file) else { return false };
    if !is_same(&directory, name, entry, &stat) {
        return false;
    }
    let is_equal = has_mode(&stat, entry)
        && has_owner(&stat, entry)
        && xattr::are_equal(run.reader, Handle::Open(file.as_fd()), &entry.metadata.xattrs);
    if !is_equal && stat.st_nlink == 1 {
        let unknown = metadata::Fresh::UNKNOWN;
        metadata::apply(run, &file, FileType::RegularFile, &entry.metadata, unknown, path);
    }
    is_equal || stat.st_nlink == 1
}

fn has_mode(stat: &Stat, entry: &Entry) -> bool {
    stat.st_mode & 0o7777 == u32::from(entry.metadata.mode)
}

fn has_owner(stat: &Stat, entry: &Entry) -> bool {
    (stat.st_uid, stat.st_gid) == (entry.metadata.uid, entry.metadata.gid)
}
