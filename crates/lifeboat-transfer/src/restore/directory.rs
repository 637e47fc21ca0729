//! A directory that is being filled.
//!
//! Must stay true: a directory gets its metadata after everything below it is done, and exactly once. Everyone who
//! still works in it holds an `Arc` of it, and so does each directory below it; whoever gives back the last one with
//! [`Run::release`] finishes it. A directory that we make is 0700 until then.

use super::beneath::{self, Mounts};
use super::metadata::{self, Fresh};
use super::report::{Count, ProblemKind};
use super::run::Run;
use lifeboat_format::{Metadata, TreePath};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Attempts to make a directory where somebody else puts something in its place again and again.
const ATTEMPTS: usize = 8;

/// A directory of the target, held open.
pub(super) struct Directory {
    fd: OwnedFd,
    /// Its last name; the root's is empty.
    name: Vec<u8>,
    parent: Option<Arc<Directory>>,
    /// What it gets in the end; `None` where it stays as it is.
    metadata: Option<Metadata>,
    /// Whether it was there before.
    pub(super) existed: bool,
    /// What it has itself before it gets its metadata.
    own: Fresh,
    /// What files created in it get from the system.
    pub(super) children: Fresh,
}

impl Directory {
    /// The target itself.
    pub(super) fn root(run: &Run<'_>, fd: OwnedFd, metadata: Option<Metadata>) -> Result<Arc<Self>, Errno> {
        let stat = rustix::fs::fstat(&fd)?;
        run.let_owner_in(&fd, &stat);
        let children = Fresh { owner: None, has_xattrs: metadata::has_default_acl(&fd) };
        Ok(Arc::new(Self {
            fd,
            name: Vec::new(),
            parent: None,
            metadata,
            existed: true,
            own: Fresh::UNKNOWN,
            children,
        }))
    }

    pub(super) fn parent(&self) -> Option<&Arc<Self>> {
        self.parent.as_ref()
    }

    /// Its path relative to the target. Put together when needed: kept per directory, deep trees would cost gigabytes.
    pub(super) fn path(&self) -> TreePath {
        let mut names = Vec::new();
        let mut next = Some(self);
        while let Some(directory) = next.filter(|directory| directory.parent.is_some()) {
            names.push(directory.name.as_slice());
            next = directory.parent.as_deref();
        }
        names.reverse();
        TreePath::from_key(names.join(&0)).unwrap_or_default()
    }

    /// The path of something in it, relative to the target.
    pub(super) fn path_of(&self, name: &[u8]) -> TreePath {
        let path = self.path();
        path.join(name).unwrap_or(path)
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Takes a chain of 4,096 parents apart in a loop; the compiler's own way would be 4,096 nested calls.
impl Drop for Directory {
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some(directory) = next {
            next = Arc::into_inner(directory).and_then(|mut directory| directory.parent.take());
        }
    }
}

/// Why a directory cannot be entered.
pub(super) struct Refused {
    pub(super) kind: ProblemKind,
    pub(super) detail: String,
}

impl Refused {
    fn new(kind: ProblemKind, detail: impl ToString) -> Self {
        Self { kind, detail: detail.to_string() }
    }
}

impl Run<'_> {
    /// Makes the directory, or opens the one that is there.
    pub(super) fn enter(
        &self,
        parent: &Arc<Directory>,
        name: &[u8],
        metadata: Metadata,
    ) -> Result<Arc<Directory>, Refused> {
        for _ in 0..ATTEMPTS {
            match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
                Ok(()) => match beneath::open_directory(parent, name, Mounts::Cross) {
                    Ok(fd) => return self.created(parent, name, fd, metadata),
                    Err(Errno::LOOP | Errno::NOTDIR | Errno::NOENT) => continue,
                    Err(error) => return Err(Refused::new(ProblemKind::of_creating(error), error)),
                },
                Err(Errno::EXIST) => {}
                Err(error) => return Err(Refused::new(ProblemKind::of_creating(error), error)),
            }
            match self.open_existing(parent, name) {
                Ok(fd) => return self.existing(parent, name, fd, metadata),
                Err(Errno::LOOP | Errno::NOTDIR) if self.options.may_overwrite() => {
                    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
                        Ok(()) | Err(Errno::NOENT | Errno::ISDIR) => {}
                        Err(error) => return Err(Refused::new(ProblemKind::Exists, error)),
                    }
                }
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    return Err(Refused::new(ProblemKind::Exists, "it is not a directory"));
                }
                Err(Errno::NOENT) => {}
                Err(error) => return Err(Refused::new(ProblemKind::of_creating(error), error)),
            }
        }
        Err(Refused::new(ProblemKind::Raced, "somebody keeps replacing it"))
    }

    fn created(
        &self,
        parent: &Arc<Directory>,
        name: &[u8],
        fd: OwnedFd,
        metadata: Metadata,
    ) -> Result<Arc<Directory>, Refused> {
        let stat = rustix::fs::fstat(&fd).map_err(|error| Refused::new(ProblemKind::Create, error))?;
        let mut has_xattrs = parent.children.has_xattrs;
        if has_xattrs {
            // What it inherited would go on to its children; it gets the snapshot's own in the end.
            has_xattrs = metadata::remove_default_acl(&fd).is_err();
        }
        let own = Fresh { owner: Some((stat.st_uid, stat.st_gid)), has_xattrs: parent.children.has_xattrs };
        let children = Fresh { owner: self.owner_of_children(&stat), has_xattrs };
        let (name, parent, metadata) = (name.to_vec(), Some(Arc::clone(parent)), Some(metadata));
        Ok(Arc::new(Directory { fd, name, parent, metadata, existed: false, own, children }))
    }

    fn existing(
        &self,
        parent: &Arc<Directory>,
        name: &[u8],
        fd: OwnedFd,
        metadata: Metadata,
    ) -> Result<Arc<Directory>, Refused> {
        let stat = rustix::fs::fstat(&fd).map_err(|error| Refused::new(ProblemKind::Create, error))?;
        self.let_owner_in(&fd, &stat);
        let metadata = self.options.may_overwrite().then_some(metadata);
        if metadata.is_none() {
            self.ledger.kept();
        }
        let children = Fresh { owner: None, has_xattrs: metadata::has_default_acl(&fd) };
        let (name, parent, own) = (name.to_vec(), Some(Arc::clone(parent)), Fresh::UNKNOWN);
        Ok(Arc::new(Directory { fd, name, parent, metadata, existed: true, own, children }))
    }

    /// Opens a directory that is there; an ordinary user's own one also where its mode keeps even its owner out.
    fn open_existing(&self, parent: &Directory, name: &[u8]) -> Result<OwnedFd, Errno> {
        match beneath::open_directory(parent, name, Mounts::Cross) {
            Err(Errno::ACCESS) => {
                let held = beneath::open(parent, name, OFlags::PATH | OFlags::DIRECTORY, Mounts::Cross)?;
                metadata::set_mode_of_held(&held, 0o700)?;
                beneath::open_directory(parent, name, Mounts::Cross)
            }
            result => result,
        }
    }

    /// Lets an ordinary user write into an own directory whose mode forbids it; the mode is set again in the end.
    fn let_owner_in(&self, fd: &OwnedFd, stat: &Stat) {
        let mode = stat.st_mode & 0o7777;
        if self.user.uid != 0
            && stat.st_uid == self.user.uid
            && mode & 0o700 != 0o700
            && self.options.may_overwrite()
        {
            // Where it fails, so does the first file, and that is reported.
            let _ = rustix::fs::fchmod(fd, Mode::from_raw_mode(mode | 0o700));
        }
    }

    /// Who owns what is created in a directory that we just made, if that is certain.
    ///
    /// A setgid directory hands its group down. Without the bit and with a foreign group it may be a file system
    /// mounted with `grpid`, and a foreign owner means that a server maps us to somebody else.
    fn owner_of_children(&self, stat: &Stat) -> Option<(u32, u32)> {
        let hands_down = stat.st_mode & 0o2000 != 0;
        let is_certain = stat.st_uid == self.user.uid && (hands_down || stat.st_gid == self.user.gid);
        is_certain.then_some((stat.st_uid, stat.st_gid))
    }

    /// Gives back a directory; the last one to do so finishes it, and then perhaps its parent.
    pub(super) fn release(&self, directory: Arc<Directory>) {
        let mut next = Some(directory);
        while let Some(directory) = next {
            next = Arc::into_inner(directory).and_then(|mut directory| {
                self.finish(&mut directory);
                directory.parent.take()
            });
        }
    }

    fn finish(&self, directory: &mut Directory) {
        // Interrupted, it is not complete and must not look as if it were.
        let Some(metadata) = directory.metadata.take().filter(|_| !self.is_interrupted()) else { return };
        metadata::apply(self, &directory.fd, FileType::Directory, &metadata, directory.own, &|| {
            directory.path()
        });
        self.ledger.one(Count::Directories);
        self.ledger.advanced(1, 0);
    }
}
