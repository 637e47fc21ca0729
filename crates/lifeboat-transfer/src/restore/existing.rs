//! Decides whether what is there may stay.
//!
//! Must stay true: nothing is decided about a file that is then changed by its name. Other metadata is set only on an
//! inode that has no second name: a second one may lie outside of the target.

use super::beneath::{self, Mounts};
use super::directory::Directory;
use super::link::Inode;
use super::metadata::{self, Handle};
use super::run::{Run, User};
use super::{Options, Overwrite, xattr};
use crate::pieces::ChunkReader;
use lifeboat_format::{Entry, Node, TreePath};
use rustix::fs::{FileType, OFlags, Stat};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};

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
    Old::read(&directory, name)
        .is_some_and(|old| is_same(&directory, name, entry, &old.stat) && old.keep(run, entry, path))
}

/// A regular file in an entry's place, open for reading.
pub(super) struct Old {
    pub(super) fd: OwnedFd,
    /// What it was when it was opened.
    pub(super) stat: Stat,
}

impl Old {
    /// Opens the file whose content may already be, or nearly be, the entry's. `None` where there is none, and where
    /// the policy decides without looking at content.
    pub(super) fn open(run: &Run<'_>, directory: &Directory, name: &[u8], entry: &Entry) -> Option<Self> {
        // A directory that we made is empty: a fresh restore asks nothing.
        if directory.existed { Self::find(run.options, directory, name, entry) } else { None }
    }

    /// The same without a restore that runs.
    pub(super) fn find(
        options: &Options<'_>,
        directory: impl AsFd,
        name: &[u8],
        entry: &Entry,
    ) -> Option<Self> {
        if !options.may_overwrite() || !matches!(entry.node, Node::File { .. }) {
            return None;
        }
        let stat = beneath::stat(&directory, name).ok()?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let is_trusted = options.overwrite == Overwrite::IfChanged && is_same(&directory, name, entry, &stat);
        if is_file && !is_trusted { Self::read(directory, name) } else { None }
    }

    fn read(directory: impl AsFd, name: &[u8]) -> Option<Self> {
        // Not blocking: in this instant it may have become a pipe.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let fd = match beneath::open(&directory, name, flags | OFlags::NOATIME, Mounts::Cross) {
            // Only the owner may read without leaving a trace.
            Err(Errno::PERM) => beneath::open(&directory, name, flags, Mounts::Cross),
            result => result,
        };
        let fd = fd.ok()?;
        let stat = rustix::fs::fstat(&fd).ok()?;
        (FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile).then_some(Self { fd, stat })
    }

    pub(super) fn inode(&self) -> Inode {
        Inode::of(&self.stat)
    }

    /// Whether nobody changed it since it was opened.
    pub(super) fn is_untouched(&self) -> bool {
        let of = |stat: &Stat| {
            (stat.st_size, stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec)
        };
        rustix::fs::fstat(&self.fd).is_ok_and(|now| of(&now) == of(&self.stat))
    }

    /// Whether it may stay as the entry's file once its content is, perhaps with its metadata mended.
    pub(super) fn may_stay(&self, reader: &dyn ChunkReader, entry: &Entry) -> bool {
        self.is_untouched()
            && (self.stat.st_nlink == 1 || entry.link.is_some() && self.has_metadata(reader, entry))
    }

    /// Lets it stay, its content being the entry's, and mends its metadata. `false` where it may not.
    pub(super) fn keep(&self, run: &Run<'_>, entry: &Entry, path: &dyn Fn() -> TreePath) -> bool {
        let may_stay = self.may_stay(run.reader, entry);
        if may_stay && !self.has_metadata(run.reader, entry) {
            let unknown = metadata::Fresh::UNKNOWN;
            metadata::apply(run, &self.fd, FileType::RegularFile, &entry.metadata, unknown, path);
        }
        may_stay
    }

    /// Whether nobody can read or change it who may not by the entry. Its owner is the entry's, or us where we may not
    /// give files away.
    pub(super) fn is_as_open_as(&self, reader: &dyn ChunkReader, user: User, entry: &Entry) -> bool {
        let is_ours = (self.stat.st_uid, self.stat.st_gid) == (user.uid, user.gid);
        has_mode(&self.stat, entry)
            && (has_owner(&self.stat, entry) || is_ours)
            && self.has_xattrs(reader, entry)
    }

    fn has_metadata(&self, reader: &dyn ChunkReader, entry: &Entry) -> bool {
        metadata::mtime_of(&self.stat) == entry.metadata.mtime
            && has_mode(&self.stat, entry)
            && has_owner(&self.stat, entry)
            && self.has_xattrs(reader, entry)
    }

    fn has_xattrs(&self, reader: &dyn ChunkReader, entry: &Entry) -> bool {
        xattr::are_equal(reader, Handle::Open(self.fd.as_fd()), &entry.metadata.xattrs)
    }
}

fn has_mode(stat: &Stat, entry: &Entry) -> bool {
    stat.st_mode & 0o7777 == u32::from(entry.metadata.mode)
}

fn has_owner(stat: &Stat, entry: &Entry) -> bool {
    (stat.st_uid, stat.st_gid) == (entry.metadata.uid, entry.metadata.gid)
}
