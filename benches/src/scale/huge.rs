//! A huge file on a small disk: btrfs in a file, which compresses what is written.

use crate::tools::quietly;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The disk's length is that of the file divided by this, and some gigabytes for btrfs itself: unused room of it is
/// never written.
const COMPRESSION_LEAST: u64 = 4;
const ROOM_BYTES: u64 = 4 << 30;
/// Every block begins with bytes that no other has; the rest repeats.
const BLOCK_BYTES: usize = 8 << 10;
const UNIQUE_BYTES: usize = 64;

/// A mounted file system; unmounted and removed when dropped.
pub(crate) struct Disk {
    image: PathBuf,
    folder: PathBuf,
}

impl Disk {
    /// Makes and mounts room for `bytes` of compressible data; takes root.
    pub(crate) fn mount(work: &Path, bytes: u64) -> Result<Self> {
        let disk = Self { image: work.join("disk"), folder: work.join("mounted") };
        File::create(&disk.image)?.set_len(bytes / COMPRESSION_LEAST + ROOM_BYTES)?;
        std::fs::create_dir_all(&disk.folder)?;
        quietly(Command::new("mkfs.btrfs").arg("--quiet").arg(&disk.image))
            .context("cannot make a file system")?;
        let mut mount = Command::new("mount");
        mount.args(["--types", "btrfs", "--options", "loop,compress-force=zstd:1"]);
        quietly(mount.arg(&disk.image).arg(&disk.folder))
            .context("cannot mount a file system; it takes root")?;
        Ok(disk)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What cannot be unmounted now is found by whoever empties the folder: it fails there, in words.
        let _ = quietly(Command::new("umount").arg(&self.folder));
        let _ = std::fs::remove_file(&self.image);
    }
}

/// A file without two equal chunks that compresses well.
pub(crate) fn write(path: &Path, bytes: u64) -> Result<()> {
    let mut unique = blake3::Hasher::new().finalize_xof();
    let mut buffer: Vec<u8> = (0..1 << 20).map(|position: u32| (position % 251) as u8).collect();
    let mut file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut left = bytes;
    while left > 0 {
        for block in buffer.chunks_mut(BLOCK_BYTES) {
            unique.fill(&mut block[..UNIQUE_BYTES]);
        }
        let length = left.min(buffer.len() as u64) as usize;
        file.write_all(&buffer[..length])?;
        left -= length as u64;
    }
    Ok(())
}
