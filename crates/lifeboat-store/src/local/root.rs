//! The repository's folder, held open, and the folders in it.

use crate::error::kind_of;
use crate::{Error, RepositoryProblem, Result};
use lifeboat_format::{ObjectKey, ObjectKind};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, Stat, fstat, fsync, mkdirat, openat, statat};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::ffi::CStr;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Names of a folder that are read at once.
const NAMES_BYTES: usize = 32 << 10;
/// Folders of packs, one for each first digit. They keep a folder below some ten thousand names in a repository of some
/// terabytes; more of them would cost whoever lists the packs more than listing these.
const FANS: usize = 16;
/// Where objects are written before they have a name.
pub(super) const TMP: &str = "tmp";

pub(super) fn folder_mode() -> Mode {
    Mode::RWXU
}

/// The repository's folder. All paths are relative to its descriptor: a folder that is renamed stays the same one.
pub(super) struct Root {
    pub(super) path: PathBuf,
    pub(super) fd: OwnedFd,
    /// Set when the file system turned out to know no rename without replacing.
    pub(super) link_only: AtomicBool,
    folders: Mutex<Folders>,
}

struct Folders {
    /// Folders below `packs/` whose names are known to be durable.
    durable_fans: [bool; FANS],
    /// Folders whose fsync failed. A later fsync may succeed without having written what the first one lost.
    failed: BTreeSet<String>,
}

impl fmt::Debug for Root {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Root").field(&self.path).finish()
    }
}

impl Root {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::NOENT => problem(path, RepositoryProblem::Missing),
            Errno::NOTDIR => problem(path, RepositoryProblem::NotDirectory),
            errno => io_error("open", path.to_owned(), None, errno),
        })?;
        let folders = Mutex::new(Folders { durable_fans: [false; FANS], failed: BTreeSet::new() });
        Ok(Self { path: path.to_owned(), fd, link_only: AtomicBool::new(false), folders })
    }

    pub(super) fn problem(&self, problem: RepositoryProblem) -> Error {
        self::problem(&self.path, problem)
    }

    pub(super) fn error(
        &self,
        act: &'static str,
        relative: &str,
        object: Option<&ObjectKey>,
        source: impl Into<io::Error>,
    ) -> Error {
        io_error(act, self.path.join(relative), object.cloned(), source)
    }

    fn folders(&self) -> MutexGuard<'_, Folders> {
        // Every change is one store into it: a thread that panicked left nothing half done.
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_folder(&self, folder: &str) -> Result<OwnedFd, Errno> {
        // An empty path names nothing, so the root is `.` to itself.
        let path = if folder.is_empty() { "." } else { folder };
        openat(&self.fd, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    }

    /// Makes the names in a folder durable; the root's own folder is the empty path.
    pub(super) fn sync_folder(&self, folder: &str) -> Result<()> {
        if self.folders().failed.contains(folder) {
            let source = io::Error::other("an earlier sync of it failed, and what it lost is unknown");
            return Err(self.error("sync folder", folder, None, source));
        }
        let fd = self.open_folder(folder).map_err(|errno| self.error("sync folder", folder, None, errno))?;
        match fsync(&fd) {
            // CIFS and some FUSE file systems have no sync of folders; there is nothing more to ask of them.
            Ok(()) | Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(()),
            Err(errno) => {
                self.folders().failed.insert(folder.to_owned());
                Err(self.error("sync folder", folder, None, errno))
            }
        }
    }

    /// Makes the folder durable that an object was just named in, its own name included.
    pub(super) fn sync_folder_of(&self, key: &ObjectKey) -> Result<()> {
        self.sync_folder(&folder_of(key))?;
        let ObjectKind::Pack = key.kind() else { return Ok(()) };
        if self.folders().durable_fans[usize::from(fan_of(key))] {
            return Ok(());
        }
        // Whoever made it may have died before its sync. One sync covers all that are there now, so that a process pays
        // once for the folders that it finds, and then only for new ones.
        let present = self.fans()?;
        self.sync_folder(ObjectKind::Pack.folder())?;
        let mut folders = self.folders();
        present.iter().for_each(|fan| folders.durable_fans[usize::from(*fan)] = true);
        Ok(())
    }

    /// Makes the folder that an object belongs in, if it is missing. A folder of packs is synced by
    /// [`Self::sync_folder_of`].
    pub(super) fn make_folder_of(&self, key: &ObjectKey) -> Result<()> {
        let kind = key.kind();
        if kind == ObjectKind::Config {
            return Ok(());
        }
        if self.make_folder(kind.folder())? {
            self.sync_folder("")?;
        }
        if kind == ObjectKind::Pack {
            self.make_folder(&folder_of(key))?;
        }
        Ok(())
    }

    /// Makes a folder; false when it was there.
    pub(super) fn make_folder(&self, folder: &str) -> Result<bool> {
        match mkdirat(&self.fd, folder, folder_mode()) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(self.error("make folder", folder, None, errno)),
        }
    }

    /// The folder and its entries' names, for messages where they are not UTF-8: none of ours is. `None` when it is missing.
    pub(super) fn names(&self, folder: &str) -> Result<Option<(OwnedFd, Vec<String>)>> {
        let mut names = Vec::new();
        let fd = self.each_entry(folder, |name, _| names.push(name.to_string_lossy().into_owned()))?;
        Ok(fd.map(|fd| (fd, names)))
    }

    /// Gives `visit` each entry's name and, where the file system says it, what it is. `None` when the folder is missing.
    pub(super) fn each_entry(
        &self,
        folder: &str,
        mut visit: impl FnMut(&CStr, FileType),
    ) -> Result<Option<OwnedFd>> {
        let error = |errno: Errno| self.error("list", folder, None, errno);
        let fd = match self.open_folder(folder) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return self.check_present(folder).map(|()| None),
            Err(errno) => return Err(error(errno)),
        };
        let mut buffer = Vec::with_capacity(NAMES_BYTES);
        let mut entries = RawDir::new(&fd, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(error)?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                visit(entry.file_name(), entry.file_type());
            }
        }
        Ok(Some(fd))
    }

    /// The folders below `packs/`, as the digits that their packs' names begin with.
    pub(super) fn fans(&self) -> Result<Vec<u8>> {
        let names = self.names(ObjectKind::Pack.folder())?.map(|(_, names)| names).unwrap_or_default();
        Ok(names.iter().filter_map(|name| read_fan(name)).collect())
    }

    /// Fails when the root itself was removed: then what is missing says nothing about what is in it.
    pub(super) fn check_present(&self, missing: &str) -> Result<()> {
        match fstat(&self.fd) {
            Ok(stat) if stat.st_nlink > 0 => Ok(()),
            Ok(_) => Err(self.problem(RepositoryProblem::Missing)),
            Err(errno) => Err(self.error("list", missing, None, errno)),
        }
    }

    /// Whether a file or folder of that name is there.
    pub(super) fn has(&self, relative: &str) -> Result<bool> {
        match statat(&self.fd, relative, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.error("look at", relative, None, errno)),
        }
    }
}

pub(super) fn problem(path: &Path, problem: RepositoryProblem) -> Error {
    Error::Repository { path: path.to_owned(), problem }
}

pub(super) fn io_error(
    act: &'static str,
    path: PathBuf,
    object: Option<ObjectKey>,
    source: impl Into<io::Error>,
) -> Error {
    let source = source.into();
    Error::Io { act, object, path, kind: kind_of(&source), source }
}

/// The folder that an object's name is in, relative to the root; the root itself is the empty path.
pub(super) fn folder_of(key: &ObjectKey) -> String {
    match key.kind() {
        ObjectKind::Config => String::new(),
        ObjectKind::Pack => fan_folder(fan_of(key)),
        kind => kind.folder().to_owned(),
    }
}

/// The folder of the packs whose names begin with the digit `fan`.
pub(super) fn fan_folder(fan: u8) -> String {
    format!("{}/{fan:x}", ObjectKind::Pack.folder())
}

/// The digit that a pack's name begins with.
pub(super) fn fan_of(key: &ObjectKey) -> u8 {
    key.name()[0] >> 4
}

/// The digit that the packs in a folder called `name` begin with; `None` for strays.
pub(super) fn read_fan(name: &str) -> Option<u8> {
    match name.as_bytes() {
        [digit @ b'0'..=b'9'] => Some(digit - b'0'),
        [digit @ b'a'..=b'f'] => Some(digit - b'a' + 10),
        _ => None,
    }
}

pub(super) fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

/// A regular file's length.
pub(super) fn length(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}
