//! A throw-away folder that outlives no process: who holds the lock on its file owns it.
//!
//! Must stay true: a folder whose lock is held is never removed by somebody else. Process ids say nothing here, since
//! containers that share a cache do not share them; the kernel drops a lock with its process, whatever its id was.

use crate::{Error, Result};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const PREFIX: &str = "lifeboat-spill-";
const SUFFIX: &str = ".lock";

/// The folder; removed when dropped.
pub(crate) struct Spill {
    path: PathBuf,
    lock_path: PathBuf,
    // Held until both are removed.
    lock: File,
}

impl Spill {
    /// Makes a folder of our own, and removes those whose owners are gone.
    pub(crate) fn create_in(parent: &Path) -> Result<Self> {
        let io = |action| Error::io(action, parent);
        // A sweep by another process may take the file between its creation and its lock: then another one is made.
        loop {
            let file = tempfile::Builder::new().prefix(PREFIX).suffix(SUFFIX).tempfile_in(parent);
            let (lock, lock_path) =
                file.and_then(|file| Ok(file.keep()?)).map_err(io("create a temporary file in"))?;
            if lock.try_lock().is_ok() && is_at(&lock, &lock_path) {
                let spill = Self { path: lock_path.with_extension(""), lock_path, lock };
                fs::create_dir(&spill.path).map_err(io("create a temporary folder in"))?;
                if let Ok(own) = spill.lock.metadata() {
                    remove_stale(parent, own.uid());
                }
                return Ok(spill);
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Removes the folders of dead processes of user `uid`.
///
/// Trouble is ignored: somebody else may sweep at the same time, and what is left costs only room.
pub(crate) fn remove_stale(parent: &Path, uid: u32) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_lock = name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX));
        // In a folder that is shared with other users, only what is ours and no link.
        if is_lock && entry.metadata().is_ok_and(|found| found.is_file() && found.uid() == uid) {
            remove_if_stale(&entry.path());
        }
    }
}

fn remove_if_stale(lock_path: &Path) {
    let Ok(lock) = OpenOptions::new().read(true).write(true).open(lock_path) else { return };
    if lock.try_lock().is_ok() && is_at(&lock, lock_path) {
        let _ = fs::remove_dir_all(lock_path.with_extension(""));
        let _ = fs::remove_file(lock_path);
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(held), Ok(found)) => (held.dev(), held.ino()) == (found.dev(), found.ino()),
        _ => false,
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        // The lock file goes last: without it nobody would ever find the folder again.
        let _ = fs::remove_dir_all(&self.path);
        if !self.path.exists() {
            let _ = fs::remove_file(&self.lock_path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_removed_by_its_owner_or_after_its_owner() {
        let parent = tempfile::tempdir().unwrap();
        let held = Spill::create_in(parent.path()).unwrap();
        fs::write(held.path().join("file"), b"x").unwrap();
        let dead = Spill::create_in(parent.path()).unwrap();
        let dead_path = dead.path().to_path_buf();
        // As after a kill: the lock goes, the folder stays.
        dead.lock.unlock().unwrap();
        std::mem::forget(dead);
        assert!(dead_path.exists());
        let other = Spill::create_in(parent.path()).unwrap();
        assert!(!dead_path.exists() && held.path().join("file").exists());
        drop(held);
        drop(other);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
