//! A file system that nothing was deleted from, for what is restored.
//!
//! On a disk that is used, ext4 makes 86,583 files where as many were just deleted, and that takes longer than the
//! restore: `cp -a` and every backup program are drowned alike. So each run gets a file system of its own, in memory
//! where there is enough of it, else a new ext4 in a file.
//!
//! Must stay true: it is empty, and gone when dropped. Mounting takes root.

use crate::tools::{quietly, remove};
use anyhow::{Context, Result};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// So many bytes of free memory for each byte of files: they are there twice with the page cache of what is read, and
/// the program wants some too.
const MEMORY_LEAST: u64 = 4;
/// Length of the image for each byte of files: blocks, inodes, journal. Holes until written.
const IMAGE_BYTES: u64 = 3;
const IMAGE_BYTES_LEAST: u64 = 1 << 30;

/// See the module.
pub(crate) struct Room {
    folder: PathBuf,
    image: Option<PathBuf>,
}

impl Room {
    /// Mounts room for `bytes` of files in a folder below `work`.
    pub(crate) fn make(work: &Path, bytes: u64) -> Result<Self> {
        Self::mount(work, bytes, is_in_memory(bytes))
    }

    fn mount(work: &Path, bytes: u64, in_memory: bool) -> Result<Self> {
        let folder = work.join("room");
        std::fs::create_dir_all(&folder)?;
        let image = (!in_memory).then(|| work.join("room.image"));
        let mut mount = Command::new("mount");
        match &image {
            None => mount.args(["--types", "tmpfs", "--options", "size=75%,nr_inodes=0", "lifeboat-bench"]),
            Some(image) => {
                remove(image)?;
                File::create(image)?.set_len((bytes * IMAGE_BYTES).max(IMAGE_BYTES_LEAST))?;
                quietly(Command::new("mkfs.ext4").args(["-q", "-F", "-E", "lazy_itable_init=0"]).arg(image))
                    .context("cannot make a file system")?;
                mount.args(["--options", "loop"]).arg(image)
            }
        };
        quietly(mount.arg(&folder)).context("cannot mount a file system; it takes root")?;
        Ok(Self { folder, image })
    }

    /// What it is, for the row's text.
    pub(crate) fn describe(bytes: u64) -> &'static str {
        if is_in_memory(bytes) { "an empty tmpfs" } else { "a new ext4 in a file" }
    }

    /// A folder in it that does not exist yet.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.join("restored")
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // What cannot be unmounted now is found by whoever empties the folder: it fails there, in words.
        let _ = quietly(Command::new("umount").arg(&self.folder));
        if let Some(image) = &self.image {
            let _ = std::fs::remove_file(image);
        }
    }
}

/// Whether there is memory for so many bytes of files; the page cache counts as free.
fn is_in_memory(bytes: u64) -> bool {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    available(&text).is_some_and(|available| available / MEMORY_LEAST >= bytes)
}

fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_answer_is_read() {
        let text = "MemTotal:  24000 kB\nMemFree:  1 kB\nMemAvailable:    16000 kB\n";
        assert_eq!(available(text), Some(16_384_000));
        assert_eq!(available("MemTotal: 5 kB\n"), None);
    }

    #[test]
    fn each_kind_is_empty_each_time_and_gone_afterwards() {
        let work = tempfile::tempdir().unwrap();
        for in_memory in [true, true, false, false] {
            let room = Room::mount(work.path(), 1 << 20, in_memory).unwrap();
            assert!(!room.folder().exists());
            std::fs::create_dir(room.folder()).unwrap();
            drop(room);
            assert!(!work.path().join("room/restored").exists());
        }
    }
}
