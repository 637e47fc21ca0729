//! What restore promises, tried against a repository in memory and real directories on ext4 and tmpfs.

mod fidelity;
mod hostile;
mod in_place;
mod links;
mod ordinary;
mod policy;
mod race;
mod trouble;

use super::*;
use lifeboat_format::entry::{Chunker, Content, ListRoot, Xattr, XattrValue};
use lifeboat_format::list::{ListChild, ListNode, Piece};
use lifeboat_format::region::ChunkKind;
use lifeboat_format::{ChunkId, LinkGroup, Metadata, Node, Timestamp};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use tempfile::TempDir;

/// A repository in memory.
#[derive(Default)]
struct Chunks(HashMap<(ChunkKind, ChunkId), Vec<u8>>);

impl Chunks {
    fn put(&mut self, kind: ChunkKind, bytes: Vec<u8>) -> ChunkId {
        let mut id = ChunkId([kind as u8; ChunkId::BYTES]);
        id.0[..8].copy_from_slice(&(self.0.len() as u64).to_le_bytes());
        self.0.insert((kind, id), bytes);
        id
    }

    fn list(&mut self, pieces: &[Piece], leaf_pieces: usize) -> Content {
        let leaves: Vec<ListChild> = pieces
            .chunks(leaf_pieces)
            .map(|pieces| ListChild {
                id: self.put(ChunkKind::List, ListNode::Leaf(pieces.to_vec()).encode()),
                bytes: pieces.iter().map(Piece::bytes).sum(),
            })
            .collect();
        let id = self.put(ChunkKind::List, ListNode::Inner(1, leaves).encode());
        Content::List(ListRoot { id, height: 1, chunker: Chunker::Content })
    }
}

impl ChunkReader for Chunks {
    fn read_chunk(&self, kind: ChunkKind, id: &ChunkId, output: &mut Vec<u8>) -> Result<(), ChunkError> {
        output.extend_from_slice(self.0.get(&(kind, *id)).ok_or("there is no such chunk")?);
        Ok(())
    }

    fn is_chunk(&self, id: &ChunkId, bytes: &[u8]) -> bool {
        self.0.get(&(ChunkKind::Data, *id)).is_some_and(|chunk| chunk == bytes)
    }
}

/// A snapshot in memory.
struct Tree {
    entries: BTreeMap<TreePath, Entry>,
    chunks: Chunks,
    made: u32,
}

fn path(text: &str) -> TreePath {
    TreePath::from_slashes(text.as_bytes()).unwrap()
}

impl Tree {
    fn new() -> Self {
        let mut tree = Self { entries: BTreeMap::new(), chunks: Chunks::default(), made: 0 };
        tree.directory("");
        tree
    }

    /// Metadata of which no two are equal.
    fn metadata(&mut self, mode: u16) -> Metadata {
        self.made += 1;
        let mtime =
            Timestamp { seconds: 1_500_000_000 + i64::from(self.made), nanos: 123_456_789 + self.made };
        let user = User::current();
        Metadata { mode, uid: user.uid, gid: user.gid, mtime, ..Metadata::default() }
    }

    fn put(&mut self, at: &str, node: Node, mode: u16) -> &mut Entry {
        let entry = Entry { node, metadata: self.metadata(mode), link: None, torn: false };
        self.entries.entry(path(at)).insert_entry(entry).into_mut()
    }

    fn directory(&mut self, at: &str) -> &mut Entry {
        self.put(at, Node::Directory, 0o755)
    }

    fn file(&mut self, at: &str, bytes: &[u8]) -> &mut Entry {
        let content = match bytes {
            [] => Content::Empty,
            bytes => Content::Chunk(self.chunks.put(ChunkKind::Data, bytes.to_vec())),
        };
        self.put(at, Node::File { size: bytes.len() as u64, content }, 0o644)
    }

    fn pieces(&mut self, at: &str, pieces: &[Piece]) -> &mut Entry {
        let content = self.chunks.list(pieces, 3);
        self.put(at, Node::File { size: pieces.iter().map(Piece::bytes).sum(), content }, 0o644)
    }

    fn chunk(&mut self, byte: u8, bytes: usize) -> Piece {
        let content = (0..bytes).map(|number| byte ^ (number / 4096) as u8 | 1).collect();
        Piece::Chunk(self.chunks.put(ChunkKind::Data, content), bytes as u32)
    }

    fn symlink(&mut self, at: &str, target: &[u8]) -> &mut Entry {
        self.put(at, Node::Symlink { target: target.to_vec() }, 0o777)
    }

    /// A further member of a hard link set.
    fn link(&mut self, first: &str, at: &str) {
        let group = LinkGroup(first.len() as u64 ^ u64::from(first.bytes().map(u32::from).sum::<u32>()) << 8);
        let entry = self.entries.get_mut(&path(first)).unwrap();
        entry.link = Some(group);
        let entry = entry.clone();
        self.entries.insert(path(at), entry);
    }

    fn stream(&self, base: &TreePath) -> Vec<EntryResult> {
        let below = self.entries.iter().filter(|(path, _)| path.starts_with(base));
        below.map(|(path, entry)| Ok((path.clone(), entry.clone()))).collect()
    }

    fn restore(&self, target: &Path, options: &Options<'_>) -> Result<Report> {
        self.restore_from("", target, options)
    }

    fn restore_from(&self, base: &str, target: &Path, options: &Options<'_>) -> Result<Report> {
        let base = path(base);
        restore(&mut self.stream(&base).into_iter(), &base, &self.chunks, target, options, &Quiet)
    }

    /// Restores everything and expects everything.
    fn restore_exactly(&self, target: &Path, options: &Options<'_>) -> Report {
        let report = self.restore(target, options).unwrap();
        assert!(report.is_exact(), "{:?}", report.problems);
        self.assert_restored(target);
        report
    }

    fn content(&self, entry: &Entry) -> Vec<u8> {
        let Node::File { size, content } = &entry.node else { panic!("not a file") };
        let mut bytes = Vec::new();
        for piece in crate::pieces::Pieces::new(&self.chunks, content, *size) {
            match piece.unwrap() {
                Piece::Chunk(id, _) => self.chunks.read_chunk(ChunkKind::Data, &id, &mut bytes).unwrap(),
                Piece::Hole(length) | Piece::Zeros(length) => bytes.resize(bytes.len() + length as usize, 0),
            }
        }
        bytes
    }

    /// `target` is this tree: nothing missing, nothing else, nothing different.
    fn assert_restored(&self, target: &Path) {
        let mut inodes = HashMap::new();
        for (path, entry) in &self.entries {
            let place = place_of(target, path);
            let found = std::fs::symlink_metadata(&place).unwrap_or_else(|error| panic!("{path}: {error}"));
            self.assert_equal(&place, path, entry, &found);
            let expected = *inodes.entry(entry.link).or_insert(found.ino());
            assert!(entry.link.is_none() || expected == found.ino(), "{path} is not linked");
        }
        assert_eq!(count_below(target), self.entries.len(), "there is more than the snapshot has");
    }

    fn assert_equal(&self, place: &Path, path: &TreePath, entry: &Entry, found: &std::fs::Metadata) {
        let metadata = &entry.metadata;
        let kind = found.file_type();
        let device = |major: u32, minor: u32| found.rdev() == rustix::fs::makedev(major, minor);
        let is_kind = match &entry.node {
            Node::Directory => kind.is_dir(),
            Node::File { .. } => kind.is_file() && std::fs::read(place).unwrap() == self.content(entry),
            Node::Symlink { target } => {
                kind.is_symlink() && std::fs::read_link(place).unwrap().as_os_str().as_bytes() == target
            }
            Node::Fifo => kind.is_fifo(),
            Node::Socket => kind.is_socket(),
            Node::CharDevice { major, minor } => kind.is_char_device() && device(*major, *minor),
            Node::BlockDevice { major, minor } => kind.is_block_device() && device(*major, *minor),
        };
        assert!(is_kind, "{path} is of another kind or content");
        if !kind.is_symlink() {
            assert_eq!(found.mode() & 0o7777, u32::from(metadata.mode), "mode of {path}");
        }
        assert_eq!((found.uid(), found.gid()), (metadata.uid, metadata.gid), "owner of {path}");
        let mtime = (metadata.mtime.seconds, i64::from(metadata.mtime.nanos));
        assert_eq!((found.mtime(), found.mtime_nsec()), mtime, "time of {path}");
        assert_eq!(xattrs_of(place), self.xattrs(metadata), "attributes of {path}");
    }

    fn xattrs(&self, metadata: &Metadata) -> Vec<(Vec<u8>, Vec<u8>)> {
        let value = |value: &XattrValue| match value {
            XattrValue::Inline(bytes) => bytes.clone(),
            XattrValue::Chunk(id, _) => self.chunks.0[&(ChunkKind::Data, *id)].clone(),
        };
        metadata.xattrs.iter().map(|xattr| (xattr.name.clone(), value(&xattr.value))).collect()
    }
}

fn xattr(name: &str, value: &[u8]) -> Xattr {
    Xattr { name: name.as_bytes().to_vec(), value: XattrValue::Inline(value.to_vec()) }
}

fn place_of(target: &Path, path: &TreePath) -> PathBuf {
    if path.is_root() { target.to_owned() } else { target.join(OsStr::from_bytes(&path.to_slashes())) }
}

fn count_below(target: &Path) -> usize {
    let is_directory = std::fs::symlink_metadata(target).unwrap().is_dir();
    let below = || std::fs::read_dir(target).unwrap().map(|entry| count_below(&entry.unwrap().path()));
    1 + if is_directory { below().sum() } else { 0 }
}

fn xattrs_of(place: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut names = vec![0u8; 65536];
    let length = rustix::fs::llistxattr(place, &mut names).unwrap();
    let mut xattrs: Vec<_> = names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0u8; 65536];
            let length = rustix::fs::lgetxattr(place, name, &mut value).unwrap();
            (name.to_vec(), value[..length].to_vec())
        })
        .collect();
    xattrs.sort();
    xattrs
}

static NEVER: AtomicBool = AtomicBool::new(false);

fn options() -> Options<'static> {
    Options { threads: NonZeroUsize::new(3).unwrap(), ..Options::new(&NEVER) }
}

fn temporary() -> TempDir {
    TempDir::new().unwrap()
}

/// On a tmpfs too where there is one: it answers differently in several places.
fn on_each_file_system(test: impl Fn(&Path)) {
    let disk = temporary();
    test(disk.path());
    match TempDir::new_in("/dev/shm") {
        Ok(memory) => test(memory.path()),
        Err(error) => eprintln!("not tried on tmpfs: {error}"),
    }
}

use super::run::User;
