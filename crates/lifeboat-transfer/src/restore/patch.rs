//! Changes a large file in its place: only the pieces that differ are written.
//!
//! What differs is first fetched into a file without a name beside it, and only when all of it is there and the room
//! for it is reserved is it copied over. So damage in the repository, an interruption or a full disk leaves the file as
//! it was, and what a kill can hit is a local copy.
//!
//! Must stay true:
//! - The inode has one name, is not more widely open than the snapshot says, and neither setuid nor setgid: nothing
//!   outside of the target is changed, and whoever may read the file may read what it becomes. Nobody runs it: the
//!   system refuses to open it for writing then.
//! - From before the first byte changes until after the last one is on disk, the file's time is that of the attempt.
//!   So a mixture of old and new never looks like the snapshot's file, not even after a power cut.
//!
//! Who has the file open or mapped sees it change. Anything that is not fit for this is replaced as a whole.

use super::beneath::{self, Mounts};
use super::compare::{Comparer, Findings, read};
use super::content::{Buffer, Trouble, WRITE_BYTES, write_all};
use super::directory::Directory;
use super::existing::Old;
use super::link::Inode;
use super::run::{Run, User, temporary_name};
use super::spans::Spans;
use crate::pieces::{ChunkReader, Pieces};
use lifeboat_format::list::Piece;
use lifeboat_format::{Entry, Node};
use rustix::fs::{
    Advice, AtFlags, FallocateFlags, Mode, OFlags, SeekFrom, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT,
};
use rustix::io::Errno;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// Where more than one byte in so many differs, patching saves nothing: each of them is written twice.
const SHARE_MAX: u64 = 2;

/// A file that is to be changed in its place.
pub(super) struct Patch {
    pub(super) target: OwnedFd,
    pub(super) findings: Findings,
    old: Arc<Old>,
}

impl Patch {
    /// Opens the file for writing, and makes the file without a name. Gives the old one back where it is not fit.
    pub(super) fn begin(
        run: &Run<'_>,
        directory: &Directory,
        name: &[u8],
        entry: &Entry,
        old: Arc<Old>,
        findings: Findings,
    ) -> Result<(Self, OwnedFd), Arc<Old>> {
        if !is_fit(run.reader, run.user, entry, &old, &findings) {
            return Err(old);
        }
        let opened =
            open_for_writing(directory, name, &old).and_then(|target| Ok((target, nameless(directory)?)));
        match opened {
            Ok((target, staged)) => Ok((Self { target, findings, old }, staged)),
            Err(_) => Err(old),
        }
    }

    /// Whether the file is still the one that was compared, and still has this name.
    pub(super) fn is_untouched(&self, directory: &Directory, name: &[u8]) -> bool {
        let has_name = beneath::stat(directory, name).is_ok_and(|stat| Inode::of(&stat) == self.old.inode());
        has_name && self.old.is_untouched()
    }

    /// The file that was there, for whoever replaces it after all.
    pub(super) fn into_old(self) -> Arc<Old> {
        self.old
    }

    /// Copies what was fetched to where it belongs.
    pub(super) fn apply(
        &self,
        run: &Run<'_>,
        buffer: &mut Buffer,
        staged: &OwnedFd,
        entry: &Entry,
    ) -> Result<(), Trouble> {
        self.reserve(run, entry)?;
        let mixed = |error: Errno| Trouble::Mixed(error.to_string());
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        rustix::fs::futimens(&self.target, &Timestamps { last_access: omit, last_modification: now })?;
        // On disk before any byte changes: pages may be written back in any order.
        rustix::fs::fsync(&self.target)?;
        if u64::try_from(self.old.stat.st_size) != Ok(entry.size()) {
            rustix::fs::ftruncate(&self.target, entry.size())?;
        }
        let block = u64::try_from(self.old.stat.st_blksize).unwrap_or(1).max(1);
        self.each(run, entry, &mut |stretch, is_hole| {
            if is_hole {
                self.punch(stretch, entry.size(), block)
            } else {
                self.copy(staged, buffer, stretch)
            }
            .map_err(mixed)
        })
        .map_err(|trouble| match trouble {
            Trouble::Content(detail) => Trouble::Mixed(detail),
            trouble => trouble,
        })?;
        // On disk before the snapshot's time is set.
        rustix::fs::fdatasync(&self.target).map_err(mixed)
    }

    /// Makes sure that there is room where the file has holes or ends; nothing that can be read changes.
    fn reserve(&self, run: &Run<'_>, entry: &Entry) -> Result<(), Trouble> {
        let mut comparer =
            Comparer::new(run.reader, run.options.interrupt, self.target.as_fd(), &self.old.stat);
        let reserved = self.each(run, entry, &mut |stretch, is_hole| {
            let bytes = stretch.end - stretch.start;
            if is_hole || comparer.is_data(stretch.start, bytes) {
                return Ok(());
            }
            match rustix::fs::fallocate(&self.target, FallocateFlags::KEEP_SIZE, stretch.start, bytes) {
                // Where nothing can be reserved, a full disk is noticed when it is too late.
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
                Err(error) => Err(error.into()),
            }
        });
        reserved.inspect_err(|_| self.give_back(run, entry))
    }

    /// Frees what was reserved, and sets the time that the file had: its content is what it was. A failure here only
    /// makes the next run look closer.
    fn give_back(&self, run: &Run<'_>, entry: &Entry) {
        let stat = &self.old.stat;
        let (bytes, block) = (stat.st_size as u64, u64::try_from(stat.st_blksize).unwrap_or(1).max(1));
        // What is reserved counts as data while zeros that were read there are in the page cache.
        let _ = rustix::fs::fadvise(&self.target, 0, None, Advice::DontNeed);
        let _ = self.each(run, entry, &mut |stretch, is_hole| {
            let end = stretch.end.next_multiple_of(block).min(bytes);
            let mut at = stretch.start / block * block;
            // Freed, it reads as before.
            while !is_hole && at < end {
                let hole = rustix::fs::seek(&self.target, SeekFrom::Hole(at))?.min(end);
                at = rustix::fs::seek(&self.target, SeekFrom::Data(hole)).unwrap_or(end).min(end);
                if hole < at {
                    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                    rustix::fs::fallocate(&self.target, flags, hole, at - hole)?;
                }
            }
            Ok(())
        });
        // Behind its end.
        let _ = rustix::fs::ftruncate(&self.target, bytes);
        let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let before = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ };
        let _ =
            rustix::fs::futimens(&self.target, &Timestamps { last_access: omit, last_modification: before });
    }

    /// Calls `act` with every stretch that differs, and whether it is to be a hole. Neighbours are one stretch.
    fn each(
        &self,
        run: &Run<'_>,
        entry: &Entry,
        act: &mut dyn FnMut(Range<u64>, bool) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        let Node::File { size, content } = &entry.node else { return Ok(()) };
        let mut open: Option<(Range<u64>, bool)> = None;
        for span in Spans::new(Pieces::new(run.reader, content, *size)) {
            let span = span?;
            let mut offset = span.offset;
            for (number, piece) in span.pieces.iter().enumerate() {
                let stretch = offset..offset + piece.bytes();
                offset = stretch.end;
                if !self.findings.differs(span.number, number) {
                    continue;
                }
                let is_hole = matches!(piece, Piece::Hole(_));
                match &mut open {
                    Some((last, kind)) if last.end == stretch.start && *kind == is_hole => {
                        last.end = stretch.end;
                    }
                    _ => {
                        if let Some((last, kind)) = open.replace((stretch, is_hole)) {
                            act(last, kind)?;
                        }
                    }
                }
            }
        }
        open.map_or(Ok(()), |(last, is_hole)| act(last, is_hole))
    }

    fn copy(&self, staged: &OwnedFd, buffer: &mut Buffer, mut stretch: Range<u64>) -> Result<(), Errno> {
        while !stretch.is_empty() {
            let now = (stretch.end - stretch.start).min(WRITE_BYTES as u64);
            if !read(staged.as_fd(), stretch.start, now as usize, &mut buffer.found)? {
                return Err(Errno::IO);
            }
            write_all(&self.target, &mut stretch.start, &buffer.found)?;
        }
        Ok(())
    }

    /// Makes a hole. The last one reaches to the end of its block, or the file system would keep the block.
    fn punch(&self, stretch: Range<u64>, size: u64, block: u64) -> Result<(), Errno> {
        let end = if stretch.end == size { size.next_multiple_of(block) } else { stretch.end };
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.target, flags, stretch.start, end - stretch.start) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                // A file system without holes has zeros there.
                let zeros = vec![0; WRITE_BYTES];
                let mut offset = stretch.start;
                while offset < stretch.end {
                    let now = (stretch.end - offset).min(WRITE_BYTES as u64) as usize;
                    write_all(&self.target, &mut offset, &zeros[..now])?;
                }
                Ok(())
            }
            result => result,
        }
    }
}

/// Whether a file may be changed in its place, and whether that saves anything. It was longer than
/// [`super::work::SPAN_BYTES`] in the snapshot, or nobody would ask.
pub(super) fn is_fit(
    reader: &dyn ChunkReader,
    user: User,
    entry: &Entry,
    old: &Old,
    findings: &Findings,
) -> bool {
    let is_worth_it = findings.bytes_differing.saturating_mul(SHARE_MAX) <= entry.size();
    let is_plain = entry.metadata.mode & 0o6000 == 0 && old.stat.st_nlink == 1;
    is_worth_it && is_plain && old.is_untouched() && old.is_as_open_as(reader, user, entry)
}

/// `NONBLOCK`: a file that somebody holds a lease on is replaced rather than waited for.
fn open_for_writing(directory: &Directory, name: &[u8], old: &Old) -> Result<OwnedFd, Errno> {
    let target = beneath::open(directory, name, OFlags::RDWR | OFlags::NONBLOCK, Mounts::Cross)?;
    let stat = rustix::fs::fstat(&target)?;
    // The number of names is looked at again through the descriptor that is written to.
    if Inode::of(&stat) == old.inode() && stat.st_nlink == 1 { Ok(target) } else { Err(Errno::EXIST) }
}

/// Room for what is fetched: whatever ends this process, nothing is left of it.
fn nameless(directory: &Directory) -> Result<OwnedFd, Errno> {
    let mode = Mode::RUSR | Mode::WUSR;
    if let Ok(file) =
        rustix::fs::openat(directory, c".", OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC, mode)
    {
        return Ok(file);
    }
    // A file system that makes none without a name, such as NFS: only a kill between these two calls leaves one.
    let name = temporary_name()?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, &name, flags, mode)?;
    rustix::fs::unlinkat(directory, &name, AtFlags::empty())?;
    Ok(file)
}
