//! A regular file between its creation and its completion.

use super::beneath::{self, Mounts};
use super::content::{self, Buffer, Trouble};
use super::directory::Directory;
use super::link::{Duty, Inode};
use super::place::{Placed, Placement, abandon, commit, place};
use super::report::{Count, ProblemKind};
use super::run::Run;
use super::{existing, metadata};
use crate::pieces::Pieces;
use lifeboat_format::{Entry, Node};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A file that has a name but not yet all of its content.
pub(super) struct Unfinished {
    pub(super) directory: Arc<Directory>,
    pub(super) name: Vec<u8>,
    pub(super) entry: Entry,
    pub(super) duty: Option<Duty>,
    pub(super) fd: OwnedFd,
    temporary: Option<Vec<u8>>,
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
                return Some(Self { directory, name, entry, duty, fd, temporary });
            }
            Placement::Kept(verdict, stat) => run.kept(&directory, &name, duty, verdict, &stat),
            Placement::Refused(kind, error) => run.failed(directory.path_of(&name), kind, error),
        }
        run.release(directory);
        None
    }

    /// Gives the file its metadata and its name, or removes it.
    pub(super) fn finish(mut self, run: &Run<'_>, buffer: &mut Buffer, written: Result<u64, Trouble>) {
        let duty = self.duty.take();
        let result = written.and_then(|bytes| {
            if run.options.verify {
                self.verify(run, buffer)?;
            }
            let fresh = self.directory.children;
            let path = || self.directory.path_of(&self.name);
            metadata::apply(run, &self.fd, FileType::RegularFile, &self.entry.metadata, fresh, &path);
            let inode = match duty {
                Some(_) => Some(Inode::of(&rustix::fs::fstat(&self.fd)?)),
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
                run.ledger.one(Count::Files);
                run.ledger.add(Count::Bytes, bytes);
                run.ledger.advanced(1, bytes);
            }
            Err(trouble) => {
                abandon(&self.directory, &self.name, self.temporary.as_deref());
                let path = self.directory.path_of(&self.name);
                match trouble {
                    Trouble::Content(detail) => run.failed(path, ProblemKind::Content, detail),
                    Trouble::Write(error) => run.failed(path, ProblemKind::Create, error),
                    Trouble::Interrupted => {}
                }
            }
        }
        drop(self.fd);
        run.release(self.directory);
    }

    /// Reads the file again through a descriptor of its own.
    fn verify(&self, run: &Run<'_>, buffer: &mut Buffer) -> Result<(), Trouble> {
        let Node::File { size, content } = &self.entry.node else { return Ok(()) };
        let name = self.temporary.as_deref().unwrap_or(&self.name);
        let again = beneath::open(&self.directory, name, OFlags::RDONLY | OFlags::NONBLOCK, Mounts::Cross)?;
        if Inode::of(&rustix::fs::fstat(&again)?) != Inode::of(&rustix::fs::fstat(&self.fd)?) {
            return Err(Trouble::Content("somebody put another file in its place".to_owned()));
        }
        content::compare(run, buffer, again.as_fd(), *size, Pieces::new(run.reader, content, *size))
    }
}

/// A large file, written by several workers. Whoever gives back the last share finishes it.
pub(super) struct Large {
    pub(super) file: Unfinished,
    bytes: AtomicU64,
    trouble: Mutex<Option<Trouble>>,
}

impl Large {
    /// Takes on a file; its length is set at once, so that spans and holes may come in any order.
    pub(super) fn new(file: Unfinished) -> Arc<Self> {
        let trouble = rustix::fs::ftruncate(&file.fd, file.entry.size()).err().map(Trouble::Write);
        Arc::new(Self { file, bytes: AtomicU64::new(0), trouble: Mutex::new(trouble) })
    }

    /// Whether there is no point in writing more of it.
    pub(super) fn has_failed(&self) -> bool {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// A share of it is done; the first trouble decides.
    pub(super) fn add(&self, written: Result<u64, Trouble>) {
        match written {
            Ok(bytes) => {
                self.bytes.fetch_add(bytes, Ordering::Relaxed);
            }
            Err(trouble) => {
                let mut first = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert(trouble);
            }
        }
    }

    /// Gives back a share.
    pub(super) fn release(self: Arc<Self>, run: &Run<'_>, buffer: &mut Buffer) {
        if let Some(large) = Arc::into_inner(self) {
            let trouble = large.trouble.into_inner().unwrap_or_else(PoisonError::into_inner);
            let written = trouble.map_or(Ok(large.bytes.into_inner()), Err);
            large.file.finish(run, buffer, written);
        }
    }
}

/// A refusal of the system, in words that name what is missing.
pub(super) fn refusal(node: &Node, kind: ProblemKind, error: Errno) -> ProblemKind {
    match node {
        Node::CharDevice { .. } | Node::BlockDevice { .. } if error == Errno::PERM => ProblemKind::Device,
        _ => kind,
    }
}
