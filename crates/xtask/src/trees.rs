//! Compares two folders the way a suspicious user would: names, kinds, permissions, owners, times, links, bytes.
//!
//! Must stay true: this shares no code with lifeboat, or a restore would be judged by the program that made it.

use crate::failure::{Result, While};
use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What was found on both sides.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    /// Files, folders, links and others that were compared.
    pub(crate) entries: u64,
    /// Bytes of file content that were compared.
    pub(crate) bytes: u64,
    /// What differs, in words.
    pub(crate) differences: Vec<String>,
}

/// Every entry below a folder by its relative path, the folder itself being the empty one.
pub(crate) fn list(folder: &Path) -> Result<BTreeMap<PathBuf, Metadata>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(relative) = waiting.pop() {
        let path = folder.join(&relative);
        let metadata = path.symlink_metadata().while_doing(format_args!("look at {}", path.display()))?;
        if metadata.is_dir() {
            for entry in std::fs::read_dir(&path).while_doing(format_args!("read {}", path.display()))? {
                let entry = entry.while_doing(format_args!("read {}", path.display()))?;
                waiting.push(relative.join(entry.file_name()));
            }
        }
        found.insert(relative, metadata);
    }
    Ok(found)
}

/// Bytes of the regular files below a folder.
pub(crate) fn bytes_below(folder: &Path) -> Result<u64> {
    Ok(list(folder)?.values().filter(|metadata| metadata.is_file()).map(Metadata::len).sum())
}

/// Compares everything below two folders, and the folders themselves.
pub(crate) fn compare(expected: &Path, found: &Path) -> Result<Comparison> {
    let (left, right) = (list(expected)?, list(found)?);
    let mut comparison = Comparison::default();
    for relative in right.keys().filter(|relative| !left.contains_key(*relative)) {
        comparison.differences.push(format!("{} should not be there", relative.display()));
    }
    let (left_links, right_links) = (link_groups(&left), link_groups(&right));
    for (relative, metadata) in &left {
        let Some(other) = right.get(relative) else {
            comparison.differences.push(format!("{} is missing", relative.display()));
            continue;
        };
        comparison.entries += 1;
        let mut complain = |what: String| {
            comparison.differences.push(format!("{}: {what}", relative.display()));
        };
        for (aspect, expected, found) in aspects(metadata, other) {
            if expected != found {
                complain(format!("{aspect} is {found} instead of {expected}"));
            }
        }
        if left_links.get(relative) != right_links.get(relative) {
            complain("is not linked to the same names".to_owned());
        }
        let (left_path, right_path) = (expected.join(relative), found.join(relative));
        if metadata.is_symlink() && other.is_symlink() {
            let target =
                |path: &Path| std::fs::read_link(path).while_doing(format_args!("read {}", path.display()));
            if target(&left_path)? != target(&right_path)? {
                complain("points elsewhere".to_owned());
            }
        }
        if metadata.is_file() && other.is_file() {
            if !same_bytes(&left_path, &right_path)? {
                complain("has other bytes".to_owned());
            }
            comparison.bytes += metadata.len();
        }
    }
    Ok(comparison)
}

/// What two entries have in common when nothing was lost. Lengths of folders are the file system's own business.
fn aspects(expected: &Metadata, found: &Metadata) -> Vec<(&'static str, String, String)> {
    let time = |metadata: &Metadata| format!("{}.{:09}", metadata.mtime(), metadata.mtime_nsec());
    let length = |metadata: &Metadata| if metadata.is_dir() { 0 } else { metadata.len() };
    let device = |metadata: &Metadata| {
        let special = metadata.file_type().is_char_device() || metadata.file_type().is_block_device();
        if special { metadata.rdev() } else { 0 }
    };
    let owner = |metadata: &Metadata| format!("{}:{}", metadata.uid(), metadata.gid());
    vec![
        ("kind and mode", format!("{:o}", expected.mode()), format!("{:o}", found.mode())),
        ("owner", owner(expected), owner(found)),
        ("modification time", time(expected), time(found)),
        ("length", length(expected).to_string(), length(found).to_string()),
        ("device", device(expected).to_string(), device(found).to_string()),
    ]
}

/// For each file with several names inside the folder: the first of them.
fn link_groups(entries: &BTreeMap<PathBuf, Metadata>) -> BTreeMap<&PathBuf, &PathBuf> {
    let mut first = BTreeMap::new();
    let linked = entries.iter().filter(|(_, metadata)| !metadata.is_dir() && metadata.nlink() > 1);
    linked
        .map(|(path, metadata)| (path, *first.entry((metadata.dev(), metadata.ino())).or_insert(path)))
        .collect()
}

fn same_bytes(left: &Path, right: &Path) -> Result<bool> {
    let open = |path: &Path| File::open(path).while_doing(format_args!("open {}", path.display()));
    let (mut left, mut right) = (open(left)?, open(right)?);
    let (mut left_buffer, mut right_buffer) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let length = left.read(&mut left_buffer).while_doing("read a file")?;
        if length == 0 {
            return Ok(right.read(&mut right_buffer).while_doing("read a file")? == 0);
        }
        if right.read_exact(&mut right_buffer[..length]).is_err()
            || left_buffer[..length] != right_buffer[..length]
        {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// Two equal folders in a scratch folder that goes with the guard.
    struct Pair(PathBuf);

    impl Drop for Pair {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn pair(name: &str) -> Pair {
        let scratch = std::env::temp_dir().join(format!("lifeboat-trees-{name}-{}", std::process::id()));
        for side in ["left", "right"] {
            let folder = scratch.join(side);
            fs::create_dir_all(folder.join("sub")).unwrap();
            fs::write(folder.join("sub/file"), b"content").unwrap();
            fs::hard_link(folder.join("sub/file"), folder.join("sub/twin")).unwrap();
            symlink("sub/file", folder.join("link")).unwrap();
        }
        let status = std::process::Command::new("sh")
            .args(["-c", "find . -exec touch -h -d @1000000000.123456789 {} +"])
            .current_dir(&scratch)
            .status();
        assert!(status.unwrap().success());
        Pair(scratch)
    }

    fn differences(pair: &Pair) -> Vec<String> {
        compare(&pair.0.join("left"), &pair.0.join("right")).unwrap().differences
    }

    #[test]
    fn equal_folders_have_no_difference_and_everything_in_them_was_looked_at() {
        let pair = pair("equal");
        let comparison = compare(&pair.0.join("left"), &pair.0.join("right")).unwrap();
        assert_eq!(comparison.differences, [""; 0]);
        assert_eq!((comparison.entries, comparison.bytes), (5, 14));
    }

    #[test]
    fn every_kind_of_difference_is_found() {
        type Change = fn(&Path);
        let changes: [(&str, Change); 6] = [
            ("other bytes", |right| {
                let file = File::options().write(true).open(right.join("sub/file")).unwrap();
                let times = file.metadata().unwrap().modified().unwrap();
                std::io::Write::write_all(&mut &file, b"CONTENT").unwrap();
                file.set_modified(times).unwrap();
            }),
            ("kind and mode", |right| {
                fs::set_permissions(right.join("sub/file"), fs::Permissions::from_mode(0o600)).unwrap();
            }),
            ("modification time", |right| {
                File::open(right.join("sub")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
            }),
            ("points elsewhere", |right| {
                fs::remove_file(right.join("link")).unwrap();
                symlink("sub/twin", right.join("link")).unwrap();
            }),
            ("linked to the same names", |right| {
                fs::remove_file(right.join("sub/twin")).unwrap();
                fs::copy(right.join("sub/file"), right.join("sub/twin")).unwrap();
            }),
            ("should not be there", |right| fs::write(right.join("more"), b"").unwrap()),
        ];
        for (index, (expected, change)) in changes.into_iter().enumerate() {
            let pair = pair(&format!("changed-{index}"));
            change(&pair.0.join("right"));
            let found = differences(&pair);
            assert!(found.iter().any(|difference| difference.contains(expected)), "{expected}: {found:?}");
        }
    }
}
