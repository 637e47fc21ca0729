//! Mounts that engines and bootstrapping leave behind when they are killed.
//!
//! Must stay true: before a folder is removed nothing is mounted below it, and the removal does not leave its file
//! system; a chroot may have had the machine's own /proc or /sys in it.

use crate::failure::{Failure, Result, While};
use crate::step;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where something is mounted, in the order in which it was.
fn mount_points() -> Result<Vec<PathBuf>> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").while_doing("read the mounts")?;
    Ok(table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescaped).collect())
}

/// The kernel writes blanks and backslashes in octal.
fn unescaped(word: &str) -> PathBuf {
    let bytes = word.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = word.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (bytes[at], octal) {
            (b'\\', Some(byte)) => {
                plain.push(byte);
                at += 4;
            }
            (byte, _) => {
                plain.push(byte);
                at += 1;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(plain))
}

/// Takes down whatever is mounted at or below `folder`, the last first.
pub(crate) fn unmount_below(folder: &Path) -> Result<()> {
    for point in mount_points()?.iter().rev().filter(|point| point.starts_with(folder)) {
        let _ = Command::new("umount").arg("-l").arg(point).status();
    }
    match mount_points()?.iter().find(|point| point.starts_with(folder)) {
        None => Ok(()),
        Some(point) => Err(Failure::new(format!("{} is still mounted", point.display()))),
    }
}

/// Removes a folder that may have had mounts in it.
pub(crate) fn remove(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    unmount_below(folder)?;
    let status = Command::new("rm")
        .args(["-rf", "--one-file-system", "--"])
        .arg(folder)
        .status()
        .while_doing("start `rm`")?;
    if status.success() { Ok(()) } else { Err(Failure::new(format!("cannot remove {}", folder.display()))) }
}

/// Removes whatever can be removed from a folder. What a killed run left may resist, because a child of it still writes
/// there; it goes the next time.
pub(crate) fn remove_all_in(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if let Err(failure) = remove(&entry.path()) {
            println!("    left for later: {failure}");
        }
    }
}

/// Engines need control groups. Where neither systemd nor anybody else mounted them, we do.
pub(crate) fn ensure_control_groups() -> Result<()> {
    let folder = Path::new("/sys/fs/cgroup");
    if mount_points()?.iter().any(|point| point.starts_with(folder)) {
        return Ok(());
    }
    let mut mount = Command::new("mount");
    mount.args(["-t", "cgroup2", "cgroup2"]).arg(folder);
    step::run("mount the control groups, which nobody did", &mut mount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_as_the_kernel_escapes_them() {
        assert_eq!(unescaped(r"/a\040b\134c"), Path::new(r"/a b\c"));
        assert_eq!(unescaped(r"/plain\0"), Path::new(r"/plain\0"));
        assert!(mount_points().unwrap().iter().any(|point| point == Path::new("/proc")));
    }
}
