//! Walks a directory tree in the order of [`TreePath`]: depth first, names sorted.
//!
//! Must stay true: nothing is followed. Every name is looked up in an open directory, so a directory that is moved or
//! swapped for a link while the walk is in it changes nothing about where the walk is. One descriptor per level is open:
//! the caller raises the limit for very deep trees.

use super::exclude::ExcludeSet;
use super::file::{Directory, Status, open_directory};
use lifeboat_format::TreePath;
use rustix::fs::{FileType, OFlags, RawDir};
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// Bytes of directory entries that one system call fetches.
const LISTING_BYTES: usize = 64 << 10;

/// Something that the walk met.
#[derive(Debug)]
pub struct Met {
    /// Where, relative to the source.
    pub path: TreePath,
    /// The directory that holds it.
    pub directory: Arc<Directory>,
    /// Its name in there.
    pub name: CString,
    /// Its status.
    pub status: Status,
    /// A directory, opened.
    pub own: Option<Arc<Directory>>,
}

/// Something that could not be read.
#[derive(Debug)]
pub struct Problem {
    /// Where, relative to the source.
    pub path: TreePath,
    /// What was tried.
    pub doing: &'static str,
    /// Why it failed.
    pub error: std::io::Error,
    /// Whether it was simply gone when it was its turn.
    pub vanished: bool,
}

impl Problem {
    /// A failed system call.
    pub fn new(path: &TreePath, doing: &'static str, errno: Errno) -> Self {
        Self { path: path.clone(), doing, error: errno.into(), vanished: errno == Errno::NOENT }
    }
}

/// A walk over one source.
pub struct Walk {
    stack: Vec<Frame>,
    excludes: ExcludeSet,
    device: (u32, u32),
    /// File systems whose dirty pages were written back; `None` where that is not wanted.
    synced: Option<HashSet<(u32, u32)>>,
    start: Option<Met>,
    listing: Vec<MaybeUninit<u8>>,
}

/// A directory being walked: its names, sorted, end to end in one buffer.
struct Frame {
    path: TreePath,
    directory: Arc<Directory>,
    names: Vec<u8>,
    /// Where each name begins, in order, last one first.
    starts: Vec<u32>,
}

impl Frame {
    fn next_name(&mut self) -> Option<CString> {
        let start = self.starts.pop()? as usize;
        CStr::from_bytes_until_nul(&self.names[start..]).ok().map(CStr::to_owned)
    }
}

impl Walk {
    /// A walk over `source`, an absolute path without links in it: a directory, or any single file.
    pub fn new(source: &Path, excludes: ExcludeSet) -> std::io::Result<Self> {
        let (parent, name) = match (source.parent(), source.file_name()) {
            (Some(parent), Some(name)) => (parent, CString::new(name.as_bytes())?),
            _ => (source, CString::from(c".")),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = Arc::new(Directory(rustix::fs::open(parent, flags, rustix::fs::Mode::empty())?));
        let status = Status::of(&directory.0, &name)?;
        let own = match status.kind {
            FileType::Directory => Some(open_directory(&directory.0, &name)?),
            _ => None,
        };
        let start = Met { path: TreePath::root(), directory, name, status, own };
        Ok(Self {
            stack: Vec::new(),
            excludes,
            device: status.device,
            synced: None,
            start: Some(start),
            listing: vec![MaybeUninit::uninit(); LISTING_BYTES],
        })
    }

    /// Writes dirty pages back before a file system is entered. A store through a mapping into a page that is dirty
    /// already changes content without changing times; into a clean page it does, so the next snapshot notices.
    #[must_use]
    pub fn syncing(mut self) -> Self {
        self.synced = Some(HashSet::new());
        self
    }

    fn sync_once(&mut self, met: &Met) {
        let Some(synced) = &mut self.synced else { return };
        if synced.insert(met.status.device) {
            // File systems without write-back refuse; there is nothing to write back then. A single file is opened for
            // it: the directory that holds it is only a path.
            let _ = match &met.own {
                Some(own) => rustix::fs::syncfs(&own.0),
                None => super::file::open_file(&met.directory, &met.name).and_then(rustix::fs::syncfs),
            };
        }
    }

    fn step(&mut self) -> Option<Result<Met, Problem>> {
        if let Some(start) = self.start.take() {
            return Some(self.enter(start));
        }
        loop {
            let frame = self.stack.last_mut()?;
            let Some(name) = frame.next_name() else {
                self.stack.pop();
                continue;
            };
            let path = match frame.path.join(name.to_bytes()) {
                Ok(path) => path,
                // Deeper or longer than the format holds.
                Err(_) => {
                    return Some(Err(Problem::new(
                        &frame.path,
                        "its entries' paths are too long",
                        Errno::NAMETOOLONG,
                    )));
                }
            };
            let directory = frame.directory.clone();
            let status = match Status::of(&directory.0, &name) {
                Ok(status) => status,
                Err(errno) => return Some(Err(Problem::new(&path, "cannot be looked at", errno))),
            };
            let is_directory = status.kind == FileType::Directory;
            let is_file = status.kind == FileType::RegularFile;
            let is_left_out = is_directory && self.excludes.is_left_out(status.device, status.inode);
            if is_left_out
                || self.excludes.matches(&path, is_directory, if is_file { status.size } else { 0 })
            {
                continue;
            }
            let own = if is_directory {
                match open_directory(&directory.0, &name) {
                    Ok(own) => Some(own),
                    Err(errno) => return Some(Err(Problem::new(&path, "cannot be opened", errno))),
                }
            } else {
                None
            };
            return Some(self.enter(Met { path, directory, name, status, own }));
        }
    }

    /// Lists a directory before it is handed out, so that one that cannot be read is a problem, not an empty directory.
    fn enter(&mut self, met: Met) -> Result<Met, Problem> {
        self.sync_once(&met);
        let Some(own) = &met.own else { return Ok(met) };
        let mut frame =
            Frame { path: met.path.clone(), directory: own.clone(), names: Vec::new(), starts: Vec::new() };
        let other_file_system = self.excludes.one_file_system() && met.status.device != self.device;
        // A mount point stays as an empty directory, so that the tree can be mounted on again.
        if !other_file_system {
            self.list(&mut frame).map_err(|errno| Problem::new(&met.path, "cannot be listed", errno))?;
        }
        self.stack.push(frame);
        Ok(met)
    }

    fn list(&mut self, frame: &mut Frame) -> rustix::io::Result<()> {
        let mut listing = RawDir::new(&frame.directory.0, &mut self.listing);
        while let Some(entry) = listing.next() {
            let name = entry?.file_name().to_bytes_with_nul().to_vec();
            if name != b".\0" && name != b"..\0" {
                frame.starts.push(frame.names.len() as u32);
                frame.names.extend_from_slice(&name);
            }
        }
        let names = &frame.names;
        // The NUL behind a name sorts before every byte of a longer one, as in a path's key.
        let name_at = |start: &u32| {
            CStr::from_bytes_until_nul(&names[*start as usize..]).map(CStr::to_bytes).unwrap_or(b"")
        };
        frame.starts.sort_unstable_by(|left, right| name_at(right).cmp(name_at(left)));
        let all = frame.starts.iter().map(name_at);
        let directory = &frame.directory;
        if self.excludes.skips_content(all, |name| read_start(directory, name)) {
            frame.starts.clear();
        }
        Ok(())
    }
}

fn read_start(directory: &Directory, name: &[u8]) -> Option<Vec<u8>> {
    let file = super::file::open_file(directory, &CString::new(name).ok()?).ok()?;
    let mut start = vec![0; 64];
    let length = rustix::io::read(&file, &mut start).ok()?;
    start.truncate(length);
    Some(start)
}

impl Iterator for Walk {
    type Item = Result<Met, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step()
    }
}

#[cfg(test)]
mod tests {
    use super::super::exclude::Excludes;
    use super::*;

    fn walk(path: &Path, excludes: Excludes) -> Vec<String> {
        Walk::new(path, excludes.compile().unwrap())
            .unwrap()
            .map(|met| met.unwrap().path.to_string())
            .collect()
    }

    #[test]
    fn the_walk_is_in_the_order_of_paths() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b/x/y", "b!", "a", "b/a", "c/CACHEDIR.TAG", "c/data", "d/.nobackup", "d/data"] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "Signature: 8a477f597d28d172789f06886806bc55").unwrap();
        }
        let all = walk(folder.path(), Excludes::default());
        assert_eq!(all[..7], ["", "a", "b", "b/a", "b/x", "b/x/y", "b!"]);
        let mut sorted: Vec<TreePath> =
            all.iter().map(|path| TreePath::from_slashes(path.as_bytes()).unwrap()).collect();
        sorted.sort();
        assert_eq!(sorted.iter().map(ToString::to_string).collect::<Vec<_>>(), all);
        let excludes = Excludes {
            caches: true,
            if_present: vec![".nobackup".into()],
            patterns: vec!["x/".into()],
            ..Excludes::default()
        };
        assert_eq!(walk(folder.path(), excludes), ["", "a", "b", "b/a", "b!", "c", "d"]);
        assert_eq!(walk(&folder.path().join("a"), Excludes::default()), [""]);
    }
}
