//! Objects as files: `packs/4/4f1c…`, `snapshots/9ae0…`, `config`.
//!
//! How a name becomes durable: write to a temporary name in `tmp/`, fsync the file, rename it into place without
//! replacing, fsync the folder, and the parent of a folder that is new. `tests/syscalls.rs` checks this order and what
//! happens when one of the steps fails.
//!
//! Must stay true:
//! - A file gets its name only after its fsync succeeded. A file whose fsync failed is abandoned: the kernel marks its
//!   pages clean, so that a second fsync would succeed without having written them.
//! - Opening and reading change nothing, so that read-only media work.
//! - What is in `tmp/` belongs to whoever writes it: only [`LocalStore::remove_stale_spools`] takes it away.
//!
//! Read next: `local/temporary.rs` for files without a name, `local/root.rs` for folders, `local/layout.rs` for `init`.

mod layout;
mod root;
mod stale;
mod temporary;

pub use stale::StaleSpool;

use crate::shares::in_shares;
use crate::store::check_length;
use crate::{Error, Listed, RepositoryProblem, Result, Spool, Store};
use layout::Found;
use lifeboat_format::{ObjectKey, ObjectKind};
use root::{Root, fan_of, folder_of, is_regular, length};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, openat, statat, unlinkat};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use temporary::{LocalSpool, Temporary};

/// Threads that list, where there are as many processors.
const LISTING_THREADS_MAX: usize = 8;
/// Names that are worth a thread.
const NAMES_PER_THREAD: usize = 256;

/// A folder of a local or mounted file system. Clones share it; several processes may use it at once.
///
/// # Cost
/// A put is two fsyncs: one of the file and one of its folder. A pack that is the first in its folder costs one more,
/// and so does the first pack that a process writes.
#[derive(Debug, Clone)]
pub struct LocalStore {
    root: Arc<Root>,
}

impl LocalStore {
    /// Opens the repository at `path` without changing anything.
    ///
    /// # Errors
    /// [`Error::Repository`] when there is none, and in which way: nothing there, something else, an unfinished one, or
    /// one that lost its config.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let root = Root::open(path.as_ref())?;
        match layout::inspect(&root)? {
            Found::Repository => Ok(Self { root: Arc::new(root) }),
            Found::HalfCreated => Err(root.problem(RepositoryProblem::HalfCreated)),
            Found::ConfigLost(folder) => Err(root.problem(RepositoryProblem::ConfigLost { folder })),
            Found::Empty | Found::Foreign(_) => Err(root.problem(RepositoryProblem::NotRepository)),
        }
    }

    /// Makes the folders of a repository at `path`, durably; it becomes one when its config is put.
    ///
    /// `path` may be missing (its parent may not), empty, or left half-created by an earlier call.
    ///
    /// # Errors
    /// [`Error::Repository`] when a repository, or anything else, is there already.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        layout::create(path.as_ref()).map(|root| Self { root: Arc::new(root) })
    }

    /// The repository's folder.
    pub fn path(&self) -> &Path {
        &self.root.path
    }

    fn open_object(&self, key: &ObjectKey) -> Result<File> {
        // NONBLOCK: a pipe under an object's name must not stop us. It means nothing to regular files.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = openat(&self.root.fd, key.path(), flags, Mode::empty());
        opened.map(File::from).map_err(|errno| self.read_error(key, errno))
    }

    fn read_error(&self, key: &ObjectKey, error: impl Into<std::io::Error>) -> Error {
        let error = error.into();
        match Errno::from_io_error(&error) {
            Some(Errno::NOENT) => Error::NotFound { object: key.clone(), location: self.location() },
            // What reading a link, a folder, a pipe or a socket gives.
            Some(Errno::LOOP | Errno::ISDIR | Errno::NOTDIR | Errno::SPIPE | Errno::NXIO) => {
                self.damaged(key, "it is not a regular file")
            }
            _ => self.root.error("read", &key.path(), Some(key), error),
        }
    }

    fn damaged(&self, key: &ObjectKey, detail: impl Into<String>) -> Error {
        Error::Damaged { object: key.clone(), location: self.location(), detail: detail.into() }
    }

    /// Length of an open object, or what is wrong with it.
    fn length_of(&self, key: &ObjectKey, file: &File) -> Result<u64> {
        let stat = fstat(file).map_err(|errno| self.read_error(key, errno))?;
        if is_regular(&stat) { Ok(length(&stat)) } else { Err(self.damaged(key, "it is not a regular file")) }
    }

    /// Unlinks without a sync; says which folder needs one.
    fn unlink(&self, key: &ObjectKey) -> Result<String> {
        let path = key.path();
        match unlinkat(&self.root.fd, &path, AtFlags::empty()) {
            // Absent counts as deleted, and its folder is synced all the same: whoever unlinked it may have died before
            // its sync.
            Ok(()) | Err(Errno::NOENT) => Ok(folder_of(key)),
            Err(Errno::ISDIR) => Err(self.damaged(key, "it is not a regular file")),
            Err(errno) => Err(self.root.error("delete", &path, Some(key), errno)),
        }
    }

    /// Syncs folders that objects were deleted from.
    fn sync_deleted(&self, folders: &BTreeSet<String>) -> Result<()> {
        for folder in folders {
            match self.root.sync_folder(folder) {
                Err(Error::Io { source, .. }) if Errno::from_io_error(&source) == Some(Errno::NOENT) => {
                    self.root.check_present(folder)?;
                }
                other => other?,
            }
        }
        Ok(())
    }

    /// Gives `visit` each object in the folder of a kind, or in one of those of packs, with what the file system says it is.
    /// `None` when the folder is missing.
    fn each_key(
        &self,
        kind: ObjectKind,
        fan: Option<u8>,
        mut visit: impl FnMut(ObjectKey, FileType),
    ) -> Result<Option<OwnedFd>> {
        let folder = fan.map_or_else(|| kind.folder().to_owned(), root::fan_folder);
        self.root.each_entry(&folder, |name, file_type| {
            let key = name.to_str().ok().and_then(|name| ObjectKey::from_hex(kind, name));
            // A pack in another pack's folder would not be found by its key.
            if let Some(key) = key.filter(|key| fan.is_none_or(|fan| fan_of(key) == fan)) {
                visit(key, file_type);
            }
        })
    }

    /// The object `key`, in the folder that is open as `fd`; `name` is room for its name. `None`: it was deleted since the
    /// folder was read.
    fn listed(&self, fd: &OwnedFd, key: &ObjectKey, name: &mut String) -> Option<Result<Listed>> {
        key.write_hex(name);
        match statat(fd, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if is_regular(&stat) => Some(Ok(Listed { key: key.clone(), bytes: length(&stat) })),
            // Skipping it would turn what somebody moved away and linked here into something absent.
            Ok(_) => Some(Err(self.damaged(key, "it is not a regular file"))),
            Err(Errno::NOENT) => None,
            Err(errno) => Some(Err(self.root.error("list", &key.path(), Some(key), errno))),
        }
    }
}

/// How many threads list. Asking takes reading three files.
fn listing_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(LISTING_THREADS_MAX)
}

impl Store for LocalStore {
    fn put(&self, key: &ObjectKey, bytes: &[u8]) -> Result<()> {
        check_length(key, bytes.len() as u64)?;
        let mut temporary = Temporary::create(&self.root, Some(key))?;
        temporary.write(bytes)?;
        if temporary.sync().is_err() {
            // The bytes are still here: a new file gets one chance. The old one is never synced again.
            drop(temporary);
            temporary = Temporary::create(&self.root, Some(key))?;
            temporary.write(bytes)?;
            temporary.sync()?;
        }
        temporary.place(key)
    }

    fn spool(&self) -> Result<Box<dyn Spool>> {
        Ok(Box::new(LocalSpool::new(Temporary::create(&self.root, None)?)))
    }

    fn get(&self, key: &ObjectKey) -> Result<Vec<u8>> {
        let file = self.open_object(key)?;
        let bytes = self.length_of(key, &file)?;
        let bytes_max = u64::from(key.kind().bytes_max());
        if bytes > bytes_max {
            return Err(self.damaged(key, format!("it is {bytes} bytes long, and {bytes_max} are the most")));
        }
        // The limit again, below: the file may grow while it is read. One byte more spares `read_to_end` a look past it.
        let mut content = Vec::with_capacity(bytes as usize + 1);
        let read = file.take(bytes_max + 1).read_to_end(&mut content);
        read.map_err(|error| self.read_error(key, error))?;
        if content.len() as u64 == bytes {
            Ok(content)
        } else {
            Err(self.damaged(key, format!("it has {} bytes and says {bytes}", content.len())))
        }
    }

    fn get_range(&self, key: &ObjectKey, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let file = self.open_object(key)?;
        // The kernel takes no larger offsets; no file has them.
        let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= i64::MAX as u64);
        let filled = match end {
            Some(_) if !buffer.is_empty() => temporary::read_exact_at(&file, offset, buffer)
                .map_err(|error| self.read_error(key, error))?,
            _ => false,
        };
        if filled {
            return Ok(());
        }
        let found = self.length_of(key, &file)?;
        let expected = u128::from(offset) + buffer.len() as u128;
        if buffer.is_empty() && u128::from(found) >= expected {
            Ok(())
        } else {
            Err(Error::short(key, self.location(), found, expected))
        }
    }

    fn bytes(&self, key: &ObjectKey) -> Result<u64> {
        match statat(&self.root.fd, key.path(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if is_regular(&stat) => Ok(length(&stat)),
            Ok(_) => Err(self.damaged(key, "it is not a regular file")),
            Err(errno) => Err(self.read_error(key, errno)),
        }
    }

    fn list(&self, kind: ObjectKind) -> Result<Vec<Listed>> {
        let fans = match kind {
            ObjectKind::Config => {
                let key = ObjectKey::config();
                return match self.bytes(&key) {
                    Ok(bytes) => Ok(vec![Listed { key, bytes }]),
                    Err(Error::NotFound { .. }) => self.root.check_present("config").map(|()| Vec::new()),
                    Err(error) => Err(error),
                };
            }
            ObjectKind::Pack => self.root.fans()?.into_iter().map(Some).collect(),
            _ => vec![None],
        };
        let (mut fds, mut keys) = (Vec::with_capacity(fans.len()), Vec::new());
        for fan in fans {
            let number = fds.len();
            fds.extend(self.each_key(kind, fan, |key, _| keys.push((number, key)))?);
        }
        let list = |keys: &[(usize, ObjectKey)]| -> Vec<Result<Listed>> {
            let mut name = String::new();
            keys.iter().filter_map(|(number, key)| self.listed(&fds[*number], key, &mut name)).collect()
        };
        let listed = in_shares(&keys, NAMES_PER_THREAD, listing_threads, list);
        let mut listed = listed.into_iter().collect::<Result<Vec<_>>>()?;
        listed.sort_unstable();
        Ok(listed)
    }

    fn names(&self, kind: ObjectKind) -> Result<Vec<ObjectKey>> {
        let listed = || Ok(self.list(kind)?.into_iter().map(|listed| listed.key).collect());
        // One file, and many folders: nobody asks for those without their lengths.
        if matches!(kind, ObjectKind::Config | ObjectKind::Pack) {
            return listed();
        }
        let (mut keys, mut are_files) = (Vec::new(), true);
        self.each_key(kind, None, |key, file_type| {
            are_files &= file_type.is_file();
            keys.push(key);
        })?;
        // What is no regular file is an error, and some file systems do not say what is one: each is looked at then.
        if !are_files {
            return listed();
        }
        keys.sort_unstable();
        Ok(keys)
    }

    fn delete(&self, key: &ObjectKey) -> Result<()> {
        let folder = self.unlink(key)?;
        self.sync_deleted(&BTreeSet::from([folder]))
    }

    fn delete_many(&self, keys: &[ObjectKey]) -> Result<()> {
        let mut folders = BTreeSet::new();
        let unlinked = keys.iter().try_for_each(|key| {
            folders.insert(self.unlink(key)?);
            Ok(())
        });
        // What was unlinked before an error becomes durable, too; the first error is the one to tell.
        let synced = self.sync_deleted(&folders);
        unlinked.and(synced)
    }

    fn location(&self) -> String {
        self.root.path.display().to_string()
    }
}
