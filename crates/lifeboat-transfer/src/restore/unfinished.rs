//! A regular file between its creation and its completion.

use super::beneath::{self, Mounts};
use super::content::{self, Buffer, Trouble};
use super::directory::Directory;
use super::existing::Old;
use super::link::{Duty, Inode};
use super::metadata::Fresh;
use super::patch::Patch;
use super::place::{Placed, Placement, abandon, commit, place};
use super::report::{Count, ProblemKind};
use super::run::Run;
use super::spans::Span;
use super::{existing, metadata};
use crate::pieces::Pieces;
use lifeboat_format::list::Piece;
use lifeboat_format::{Entry, Node};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// A file that has a name but not yet all of its content.
pub(super) struct Unfinished {
    pub(super) directory: Arc<Directory>,
    pub(super) name: Vec<u8>,
    pub(super) entry: Entry,
    pub(super) duty: Option<Duty>,
    pub(super) fd: OwnedFd,
    temporary: Option<Vec<u8>>,
    /// What is changed in its place; `fd` holds what differs then.
    patch: Option<Patch>,
}

impl Unfinished {
    /// Creates the file. `None` where there is nothing more to do: the file stays, or cannot be had.
    pub(super) fn create(
        run: &Run<'_>,
        directory: Arc<Directory>,
        name: Vec<u8>,
        entry: Entry,
        duty: Option<Duty>,
    ) -> Option<Self> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let placement = place(
            run,
            &directory,
            &name,
            |stat| existing::judge(run, &directory, &name, &entry, stat, &|| directory.path_of(&name)),
            |name| rustix::fs::openat(&directory, name, flags, Mode::RUSR | Mode::WUSR),
        );
        match placement {
            Placement::New(Placed { made: fd, temporary }) => {
                return Some(Self { directory, name, entry, duty, fd, temporary, patch: None });
            }
            Placement::Kept(verdict, stat) => run.kept(&directory, &name, duty, verdict, &stat),
            Placement::Refused(kind, error) => run.failed(directory.path_of(&name), kind, error),
        }
        run.release(directory);
        None
    }

    /// A file that is there and is changed in its place, once `staged` holds what differs.
    pub(super) fn patching(
        directory: Arc<Directory>,
        name: Vec<u8>,
        entry: Entry,
        duty: Option<Duty>,
        patch: Patch,
        staged: OwnedFd,
    ) -> Self {
        Self { directory, name, entry, duty, fd: staged, temporary: None, patch: Some(patch) }
    }

    /// The span with holes for the pieces that need not be written.
    pub(super) fn only_differing(&self, mut span: Span) -> Span {
        if let Some(patch) = &self.patch {
            for (number, piece) in span.pieces.iter_mut().enumerate() {
                if !patch.findings.differs(span.number, number) {
                    *piece = Piece::Hole(piece.bytes());
                }
            }
        }
        span
    }

    /// Writes the whole content.
    pub(super) fn write(self, run: &Run<'_>, buffer: &mut Buffer, old: Option<&Old>) {
        let Node::File { size, content } = &self.entry.node else { return };
        let pieces = Pieces::new(run.reader, content, *size);
        let written = content::write(run, buffer, &self.fd, 0, pieces, old).and_then(|written| {
            if written.ends_in_hole {
                rustix::fs::ftruncate(&self.fd, *size)?;
            }
            Ok(written.bytes)
        });
        self.finish(run, buffer, written);
    }

    /// Gives the file its metadata and its name, or removes it.
    pub(super) fn finish(mut self, run: &Run<'_>, buffer: &mut Buffer, written: Result<u64, Trouble>) {
        let is_touched =
            |patch: &mut Patch| written.is_ok() && !patch.is_untouched(&self.directory, &self.name);
        if let Some(patch) = self.patch.take_if(is_touched) {
            // Somebody changed it meanwhile: it is replaced as a whole.
            let Self { directory, name, entry, duty, .. } = self;
            if let Some(file) = Self::create(run, directory, name, entry, duty) {
                file.write(run, buffer, Some(&patch.into_old()));
            }
            return;
        }
        let duty = self.duty.take();
        let result = written.and_then(|bytes| {
            if let Some(patch) = &self.patch {
                patch.apply(run, buffer, &self.fd, &self.entry)?;
            }
            let (fd, fresh) = match &self.patch {
                Some(patch) => (&patch.target, Fresh::UNKNOWN),
                None => (&self.fd, self.directory.children),
            };
            if run.options.verify {
                self.verify(run, fd, buffer)?;
            }
            let path = || self.directory.path_of(&self.name);
            metadata::apply(run, fd, FileType::RegularFile, &self.entry.metadata, fresh, &path);
            let inode = match duty {
                Some(_) => Some(Inode::of(&rustix::fs::fstat(fd)?)),
                None => None,
            };
            commit(&self.directory, &self.name, self.temporary.as_deref())?;
            Ok((bytes, inode))
        });
        match result {
            Ok((bytes, inode)) => {
                if let (Some(duty), Some(inode)) = (duty, inode) {
                    duty.fulfil(&self.directory, &self.name, inode);
                }
                let unchanged = self.patch.as_ref().map_or(0, |patch| patch.findings.bytes_equal);
                run.ledger.one(Count::Files);
                run.ledger.add(Count::Patched, self.patch.is_some().into());
                run.ledger.add(Count::Bytes, bytes);
                run.ledger.add(Count::Unchanged, unchanged);
                run.ledger.advanced(1, bytes + unchanged);
            }
            Err(trouble) => {
                if self.patch.is_none() {
                    abandon(&self.directory, &self.name, self.temporary.as_deref());
                }
                let path = self.directory.path_of(&self.name);
                match trouble {
                    Trouble::Content(detail) => run.failed(path, ProblemKind::Content, detail),
                    Trouble::Write(error) => run.failed(path, ProblemKind::of_creating(error), error),
                    mixed @ Trouble::Mixed(_) => run.failed(path, ProblemKind::Mixed, mixed),
                    Trouble::Interrupted => {}
                }
            }
        }
        drop(self.fd);
        run.release(self.directory);
    }

    /// Reads the file again through a descriptor of its own.
    fn verify(&self, run: &Run<'_>, fd: &OwnedFd, buffer: &mut Buffer) -> Result<(), Trouble> {
        let Node::File { size, content } = &self.entry.node else { return Ok(()) };
        let name = self.temporary.as_deref().unwrap_or(&self.name);
        let again = beneath::open(&self.directory, name, OFlags::RDONLY | OFlags::NONBLOCK, Mounts::Cross)?;
        if Inode::of(&rustix::fs::fstat(&again)?) != Inode::of(&rustix::fs::fstat(fd)?) {
            return Err(Trouble::Content("somebody put another file in its place".to_owned()));
        }
        content::compare(run, buffer, again.as_fd(), *size, Pieces::new(run.reader, content, *size))
    }
}

/// A refusal of the system, in words that name what is missing.
pub(super) fn refusal(node: &Node, kind: ProblemKind, error: Errno) -> ProblemKind {
    match node {
        Node::CharDevice { .. } | Node::BlockDevice { .. } if error == Errno::PERM => ProblemKind::Device,
        _ => kind,
    }
}
