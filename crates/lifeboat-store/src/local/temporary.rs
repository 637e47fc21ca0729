//! Files that have no object's name yet.
//!
//! Must stay true: one is unlinked when it is dropped without a name, and it is named only after a sync that succeeded.

use super::root::{Root, TMP, is_regular, length};
use crate::memory::past_the_end;
use crate::store::check_length;
use crate::{Error, ErrorKind, Result, Spool};
use lifeboat_format::ObjectKey;
use rustix::fs::{
    Advice, AtFlags, FlockOperation, Mode, OFlags, RenameFlags, fadvise, flock, fstat, linkat, openat,
    renameat_with, statat, unlinkat,
};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What temporary names begin with; 32 hexadecimal digits follow.
pub(super) const PREFIX: &str = "spool-";
/// Bytes after which a spool's pages are sent on their way to the disk, so that the sync at its end is short.
const WRITE_BACK_BYTES: u64 = 8 << 20;
/// Bytes compared at a time when a name turns out to be taken.
const COMPARE_BYTES: usize = 1 << 20;
/// How often a name may turn out to be taken by an object that is gone when it is looked at.
const PLACE_ATTEMPTS: u32 = 8;

/// A file in `tmp/`, locked while its writer lives.
#[derive(Debug)]
pub(super) struct Temporary {
    root: Arc<Root>,
    path: String,
    /// What it is for, where that is known: for messages.
    object: Option<ObjectKey>,
    file: File,
    synced: bool,
    placed: bool,
}

/// Whether a file got its name.
enum Naming {
    Named,
    Taken,
    FolderMissing,
}

impl Temporary {
    /// A new empty file. Its mode is the object's, and that is never changed: objects are read-only.
    pub(super) fn create(root: &Arc<Root>, object: Option<&ObjectKey>) -> Result<Self> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let (path, file) = loop {
            let path = random_path().map_err(|errno| root.error("name a file", TMP, object, errno))?;
            match openat(&root.fd, &path, flags, Mode::RUSR) {
                Ok(fd) => break (path, File::from(fd)),
                // Tools that copy repositories leave empty folders out. Nothing in this one must last, nor its name.
                Err(Errno::NOENT) => {
                    root.check_present(TMP)?;
                    root.make_folder(TMP)?;
                }
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(root.error("write", &path, object, errno)),
            }
        };
        // Tells `stale.rs` that the writer lives. Where locks are not known, age alone decides.
        let _ = flock(&file, FlockOperation::NonBlockingLockExclusive);
        let root = Arc::clone(root);
        Ok(Self { root, path, object: object.cloned(), file, synced: false, placed: false })
    }

    fn error(&self, act: &'static str, source: impl Into<io::Error>) -> Error {
        self.root.error(act, &self.path, self.object.as_ref(), source)
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.synced = false;
        (&self.file).write_all(bytes).map_err(|error| self.error("write", error))
    }

    /// Makes the bytes durable. After an error the file must be dropped.
    pub(super) fn sync(&mut self) -> Result<()> {
        rustix::fs::fsync(&self.file).map_err(|errno| self.error("sync", errno))?;
        self.synced = true;
        Ok(())
    }

    /// Gives the file its name, durably; an object with the same bytes in its place is as good.
    pub(super) fn place(mut self, key: &ObjectKey) -> Result<()> {
        assert!(self.synced, "a file is named only when its bytes are durable");
        for _ in 0..PLACE_ATTEMPTS {
            match self.name(key)? {
                Naming::Named => {
                    self.placed = true;
                    return self.root.sync_folder_of(key);
                }
                Naming::Taken => match self.equals(key)? {
                    // Whoever named it may have died before its sync: the name is made durable here in any case.
                    Some(true) => return self.root.sync_folder_of(key),
                    Some(false) => {
                        let location = self.root.path.display().to_string();
                        return Err(Error::Exists { object: key.clone(), location });
                    }
                    // Deleted in between: the name is free again.
                    None => {}
                },
                Naming::FolderMissing => self.root.make_folder_of(key)?,
            }
        }
        let message = format!("{key} comes and goes in {}", self.root.path.display());
        Err(Error::plain(ErrorKind::Unavailable, message))
    }

    fn name(&self, key: &ObjectKey) -> Result<Naming> {
        let (fd, target) = (&self.root.fd, key.path());
        let mut named = if self.root.link_only.load(Ordering::Relaxed) {
            Err(Errno::INVAL)
        } else {
            renameat_with(fd, &self.path, fd, &target, RenameFlags::NOREPLACE)
        };
        if matches!(named, Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)) {
            // NFS, and FUSE in its older versions. A link never replaces either; the second name is dropped behind it.
            self.root.link_only.store(true, Ordering::Relaxed);
            named = linkat(fd, &self.path, fd, &target, AtFlags::empty());
            if named.is_ok() {
                // Left behind, it is only a stale file.
                let _ = unlinkat(fd, &self.path, AtFlags::empty());
            }
            if let Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) = named {
                let path = self.root.path.display();
                let message =
                    format!("the file system of {path} can neither link nor rename without replacing");
                return Err(Error::plain(ErrorKind::Usage, message));
            }
        }
        match named {
            Ok(()) => Ok(Naming::Named),
            Err(Errno::EXIST) => Ok(Naming::Taken),
            Err(Errno::NOENT) => {
                // Either end may be what is missing. An object that was not found would be another matter.
                match statat(fd, &self.path, AtFlags::empty()) {
                    Ok(_) => Ok(Naming::FolderMissing),
                    Err(Errno::NOENT) => Err(self.error("name", io::Error::other("somebody removed it"))),
                    Err(errno) => Err(self.error("name", errno)),
                }
            }
            Err(errno) => Err(self.root.error("name", &target, Some(key), errno)),
        }
    }

    /// Whether the object has the same bytes; `None` when it is gone.
    fn equals(&self, key: &ObjectKey) -> Result<Option<bool>> {
        let error = |errno: io::Error| self.root.error("compare", &key.path(), Some(key), errno);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let other = match openat(&self.root.fd, key.path(), flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(error(errno.into())),
        };
        let own = fstat(&self.file).map_err(|errno| error(errno.into()))?;
        let found = fstat(&other).map_err(|errno| error(errno.into()))?;
        if !is_regular(&found) || length(&found) != length(&own) {
            return Ok(Some(false));
        }
        let (mut left, mut right) = (vec![0; COMPARE_BYTES], vec![0; COMPARE_BYTES]);
        for offset in (0..length(&own)).step_by(COMPARE_BYTES) {
            let take = (length(&own) - offset).min(COMPARE_BYTES as u64) as usize;
            let (left, right) = (&mut left[..take], &mut right[..take]);
            let whole = read_exact_at(&self.file, offset, left).map_err(error)?
                && read_exact_at(&other, offset, right).map_err(error)?;
            if !whole || left != right {
                return Ok(Some(false));
            }
        }
        Ok(Some(true))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.placed {
            // Nobody to tell; what stays is stale and can be removed later.
            let _ = unlinkat(&self.root.fd, &self.path, AtFlags::empty());
        }
    }
}

fn random_path() -> Result<String, Errno> {
    let mut random = [0; 16];
    let filled = getrandom(&mut random, GetRandomFlags::empty())?;
    // A short answer is only less random: creation is exclusive in any case.
    debug_assert_eq!(filled, random.len());
    Ok(format!("{TMP}/{PREFIX}{}", lifeboat_format::hex(&random)))
}

/// Fills `buffer`; false when the file ends before.
pub(super) fn read_exact_at(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact_at(buffer, offset) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// A temporary file as a [`Spool`].
#[derive(Debug)]
pub(super) struct LocalSpool {
    temporary: Temporary,
    bytes: u64,
    write_back_started: u64,
    failed: bool,
}

impl LocalSpool {
    pub(super) fn new(temporary: Temporary) -> Self {
        Self { temporary, bytes: 0, write_back_started: 0, failed: false }
    }

    fn check(&self) -> Result<()> {
        if self.failed {
            let message = format!("the spool {} failed before", self.temporary.path);
            return Err(Error::plain(ErrorKind::Usage, message));
        }
        Ok(())
    }

    fn start_write_back(&mut self) {
        let Some(bytes) = NonZeroU64::new(self.bytes - self.write_back_started) else { return };
        // `sync_file_range` would say it outright, but no safe wrapper has it. This advice starts the same write-back of
        // dirty pages, without waiting; it drops clean pages only, and these are dirty. Failing, it costs time alone.
        let _ = fadvise(&self.temporary.file, self.write_back_started, Some(bytes), Advice::DontNeed);
        self.write_back_started = self.bytes;
    }
}

impl Spool for LocalSpool {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.check()?;
        // Part of the bytes may have been written when it fails.
        self.failed = true;
        self.temporary.write(bytes)?;
        self.failed = false;
        self.bytes += bytes.len() as u64;
        if self.bytes - self.write_back_started >= WRITE_BACK_BYTES {
            self.start_write_back();
        }
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.bytes) {
            return Err(past_the_end(self.bytes, offset, buffer.len()));
        }
        let error = |source: io::Error| self.temporary.error("read", source);
        if read_exact_at(&self.temporary.file, offset, buffer).map_err(error)? {
            Ok(())
        } else {
            Err(error(io::Error::other("somebody truncated it")))
        }
    }

    fn commit(mut self: Box<Self>, key: &ObjectKey) -> Result<()> {
        self.check()?;
        check_length(key, self.bytes)?;
        self.temporary.object = Some(key.clone());
        self.temporary.sync()?;
        self.temporary.place(key)
    }
}
