//! What a directory tree is, down to nanoseconds and holes, so that two can be compared.
//!
//! Must stay true: everything that a restore promises is in [`Facts`]. Paths longer than the system takes are reached
//! through the open directories above them.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A tree by path below its root; the root itself is the empty path.
pub type Survey = BTreeMap<Vec<u8>, Facts>;

/// Everything about one entry that must come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Type, setuid, permissions.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Time of the last change, in nanoseconds.
    pub mtime: (i64, i64),
    /// Length, for files and links.
    pub size: u64,
    /// Number of a device.
    pub device: Option<u64>,
    /// Extended attributes: ACLs and capabilities are among them.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first path of the same inode, for files with several names in the tree.
    pub link: Option<Vec<u8>>,
    /// Target of a symbolic link.
    pub target: Option<OsString>,
    /// Hash of the content.
    pub content: Option<String>,
    /// Where the data lies between the holes: begin and end.
    pub data: Vec<(u64, u64)>,
}

/// All regular files below a directory.
pub fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.file_type().unwrap().is_dir() {
                true => open.push(entry.path()),
                false => found.push(entry.path()),
            }
        }
    }
    found
}

struct Level {
    directory: File,
    path: Vec<u8>,
    names: Vec<OsString>,
}

impl Level {
    fn open(path: &Path, name: Vec<u8>) -> Self {
        let directory = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let names = std::fs::read_dir(reach(&directory, OsStr::new("."))).unwrap();
        let mut names: Vec<OsString> = names.map(|entry| entry.unwrap().file_name()).collect();
        names.sort_by(|left, right| right.cmp(left));
        Self { directory, path: name, names }
    }
}

/// A short path to a name in an open directory.
fn reach(directory: &File, name: &OsStr) -> PathBuf {
    Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name)
}

/// Looks at a whole tree.
pub fn survey(root: &Path) -> Survey {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
    let mut found = Survey::new();
    let mut inodes: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
    found.insert(Vec::new(), facts(root, b"", &mut inodes));
    if !root.is_dir() {
        return found;
    }
    let mut levels = vec![Level::open(root, Vec::new())];
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.names.pop() else {
            levels.pop();
            continue;
        };
        let path =
            [&level.path[..], if level.path.is_empty() { b"" } else { b"/" }, name.as_bytes()].concat();
        let place = reach(&level.directory, &name);
        let facts = facts(&place, &path, &mut inodes);
        let is_directory = facts.mode & 0o170_000 == 0o040_000;
        found.insert(path.clone(), facts);
        if is_directory {
            levels.push(Level::open(&place, path));
        }
    }
    // A group of one was a file whose other names are elsewhere.
    let mut members: HashMap<Vec<u8>, u32> = HashMap::new();
    found
        .values()
        .filter_map(|facts| facts.link.clone())
        .for_each(|link| *members.entry(link).or_default() += 1);
    for facts in found.values_mut() {
        facts.link = facts.link.take().filter(|link| members[link] > 1);
    }
    found
}

fn facts(place: &Path, path: &[u8], inodes: &mut HashMap<(u64, u64), Vec<u8>>) -> Facts {
    let status =
        std::fs::symlink_metadata(place).unwrap_or_else(|error| panic!("{}: {error}", place.display()));
    let kind = status.file_type();
    let is_device = kind.is_block_device() || kind.is_char_device();
    let several = status.nlink() > 1 && !kind.is_dir();
    let inode = (status.dev(), status.ino());
    let (content, data) = if kind.is_file() { content(place) } else { (None, Vec::new()) };
    Facts {
        mode: status.mode(),
        owner: (status.uid(), status.gid()),
        mtime: (status.mtime(), status.mtime_nsec()),
        size: if kind.is_file() || kind.is_symlink() { status.size() } else { 0 },
        device: is_device.then(|| status.rdev()),
        xattrs: xattrs(place),
        link: several.then(|| inodes.entry(inode).or_insert_with(|| path.to_vec()).clone()),
        target: kind.is_symlink().then(|| std::fs::read_link(place).unwrap().into_os_string()),
        content,
        data,
    }
}

fn content(place: &Path) -> (Option<String>, Vec<(u64, u64)>) {
    use rustix::fs::SeekFrom;
    let file = File::open(place).unwrap_or_else(|error| panic!("{}: {error}", place.display()));
    let mut data = Vec::new();
    let mut position = 0;
    let mut hasher = blake3::Hasher::new();
    // Holes are not read: they may be larger than any disk.
    while let Ok(begin) = rustix::fs::seek(file.as_fd(), SeekFrom::Data(position)) {
        position = rustix::fs::seek(file.as_fd(), SeekFrom::Hole(begin)).unwrap();
        data.push((begin, position));
        rustix::fs::seek(file.as_fd(), SeekFrom::Start(begin)).unwrap();
        std::io::copy(&mut (&file).take(position - begin), &mut hasher).unwrap();
    }
    (Some(hasher.finalize().to_hex().to_string()), data)
}

fn xattrs(place: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    // On the stack: the names of one file are few, and a large buffer for each entry costs more than the test.
    let mut names = [0; 4096];
    let length = match rustix::fs::llistxattr(place, &mut names[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::NOTSUP) => 0,
        Err(error) => panic!("{}: {error}", place.display()),
    };
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 64 << 10];
            let length = rustix::fs::lgetxattr(place, name, &mut value[..]).unwrap();
            value.truncate(length);
            (name.to_vec(), value)
        })
        .collect()
}

/// Demands that two trees are the same, and shows the first differences.
#[track_caller]
pub fn assert_same(expected: &Survey, found: &Survey) {
    let mut differences = Vec::new();
    for (path, facts) in expected {
        let shown = shorten(path);
        match found.get(path) {
            None => differences.push(format!("{shown} is missing")),
            Some(other) if other != facts => {
                differences.push(format!("{shown} was\n    {facts:?}\n  and is\n    {other:?}"))
            }
            Some(_) => {}
        }
    }
    for path in found.keys().filter(|path| !expected.contains_key(*path)) {
        differences.push(format!("{} is too much", shorten(path)));
    }
    let count = differences.len();
    differences.truncate(10);
    assert!(count == 0, "{count} differences; the first:\n{}", differences.join("\n"));
}

fn shorten(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    let tail: String = text.chars().rev().take(120).collect();
    tail.chars().rev().collect()
}
