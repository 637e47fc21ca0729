//! What an earlier snapshot had at each path: entries that did not change are taken over without reading.
//!
//! Must stay true: an entry is taken over without asking the index only from a parent that is pinned: listed after this
//! session's intent was written. From any other (a checkpoint), each of its chunks is looked up, and a miss means that
//! the file is read. `docs/format/session.md#carrying-over`

use super::hint::Earlier;
use crate::pieces::Pieces;
use crate::source::file::Status;
use lifeboat_format::list::Piece;
use lifeboat_format::snapshot::{Source, TreeRoot};
use lifeboat_format::{ChunkId, Entry, Node, Timestamp, TreePath, XattrValue};
use lifeboat_repo::cursor::TreeCursor;
use lifeboat_repo::reader::ChunkReader;
use lifeboat_repo::session::Session;
use rustix::fs::FileType;

/// File systems give files the time of the last timer tick: up to 10 ms ago. A change within that of the parent's start
/// may have come after the file was read and carry the same time.
const CLOCK_TICK_NANOS: i128 = 20_000_000;
/// The same for file systems that keep whole or even seconds only.
const COARSE_CLOCK_NANOS: i128 = 2_000_000_000;

/// How entries are compared.
#[derive(Debug, Clone, Copy, Default)]
pub struct Comparison {
    /// Do not compare inode numbers (they are unstable on some network file systems).
    pub ignore_inode: bool,
    /// Do not compare times of inode changes.
    pub ignore_ctime: bool,
}

/// An earlier snapshot of one source.
#[derive(Debug, Clone)]
pub(crate) struct Parent {
    pub(crate) source: Source,
    pub(crate) started: Timestamp,
    pub(crate) is_pinned: bool,
}

/// Walks a parent beside the source.
pub(crate) struct ParentCursor<'r> {
    reader: &'r ChunkReader,
    tree: TreeCursor<'r>,
    started: Timestamp,
    is_pinned: bool,
    next: Option<(TreePath, Entry)>,
    began: bool,
}

impl<'r> ParentCursor<'r> {
    pub(crate) fn new(reader: &'r ChunkReader, parent: &Parent) -> Self {
        let root: TreeRoot = parent.source.root;
        Self {
            reader,
            tree: TreeCursor::new(reader, root),
            started: parent.started,
            is_pinned: parent.is_pinned,
            next: None,
            began: false,
        }
    }

    /// The parent's entry at `path`; paths are asked for in ascending order.
    ///
    /// A parent that cannot be read is given up: everything below is then read from the source.
    pub(crate) fn at(&mut self, path: &TreePath) -> Option<Entry> {
        while !self.began || self.next.as_ref().is_some_and(|(next, _)| next < path) {
            self.began = true;
            self.next = self.tree.next_entry().ok().flatten();
        }
        self.next.as_ref().filter(|(next, _)| next == path).map(|(_, entry)| entry.clone())
    }

    /// Whether `entry` still describes the file with this status, and everything it needs is stored.
    pub(crate) fn still_holds(
        &self,
        entry: &Entry,
        status: &Status,
        comparison: Comparison,
        session: &Session,
    ) -> bool {
        self.seems_unchanged(entry, status, comparison) && (self.is_pinned || self.is_stored(entry, session))
    }

    /// What an entry says for reading its file again.
    pub(crate) fn earlier(&self, entry: &Entry) -> Option<Earlier> {
        Earlier::of(entry, self.is_pinned)
    }

    /// Whether a file's status gives no reason to read it.
    pub(crate) fn seems_unchanged(&self, entry: &Entry, status: &Status, comparison: Comparison) -> bool {
        is_unchanged(entry, status, comparison) && !is_racy(entry, self.started)
    }

    fn is_stored(&self, entry: &Entry, session: &Session) -> bool {
        let has =
            |ids: &[ChunkId]| session.has(ids).is_ok_and(|present| present.iter().all(|present| *present));
        let values = entry.metadata.xattrs.iter().filter_map(|xattr| match xattr.value {
            XattrValue::Chunk(id, _) => Some(id),
            XattrValue::Inline(_) => None,
        });
        let values: Vec<ChunkId> = values.collect();
        let content = match &entry.node {
            Node::File { content, size } => {
                // The nodes of its list are chunks as well: what can be read may be condemned.
                let mut pieces = Pieces::new(self.reader, content, *size).with_nodes();
                loop {
                    let piece = pieces.next();
                    let nodes = pieces.take_nodes();
                    let is_there = match piece {
                        None => break nodes.is_empty() || has(&nodes),
                        Some(Ok(Piece::Chunk(id, _))) => has(&[id]),
                        Some(Ok(_)) => true,
                        Some(Err(_)) => false,
                    };
                    if !is_there || !(nodes.is_empty() || has(&nodes)) {
                        break false;
                    }
                }
            }
            _ => true,
        };
        content && (values.is_empty() || has(&values))
    }
}

/// Whether the file may have been changed after it was read, by the snapshot that `started` then, without its times
/// showing it.
pub(super) fn is_racy(entry: &Entry, started: Timestamp) -> bool {
    let nanos = |time: Timestamp| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    let metadata = &entry.metadata;
    let is_coarse = metadata.mtime.nanos == 0 && metadata.ctime.nanos == 0;
    let margin = if is_coarse { COARSE_CLOCK_NANOS } else { CLOCK_TICK_NANOS };
    // A time that the user set to the future says nothing; the inode's own time cannot be set.
    nanos(metadata.ctime) >= nanos(started) - margin
}

fn is_unchanged(entry: &Entry, status: &Status, comparison: Comparison) -> bool {
    let metadata = &entry.metadata;
    let same_kind = match &entry.node {
        Node::Directory => status.kind == FileType::Directory,
        Node::File { size, .. } => status.kind == FileType::RegularFile && *size == status.size,
        Node::Symlink { target } => status.kind == FileType::Symlink && target.len() as u64 == status.size,
        Node::Fifo => status.kind == FileType::Fifo,
        Node::Socket => status.kind == FileType::Socket,
        Node::CharDevice { major, minor } => {
            status.kind == FileType::CharacterDevice && (*major, *minor) == status.special
        }
        Node::BlockDevice { major, minor } => {
            status.kind == FileType::BlockDevice && (*major, *minor) == status.special
        }
    };
    same_kind
        && !entry.torn
        && metadata.mtime == status.mtime
        && (metadata.mode, metadata.uid, metadata.gid) == (status.mode, status.uid, status.gid)
        && (comparison.ignore_ctime || metadata.ctime == status.ctime)
        && (comparison.ignore_inode || metadata.inode == status.inode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_format::config::Parameters;
    use lifeboat_format::entry::{Chunker, Content, ListRoot, Xattr};
    use lifeboat_format::list::{ListChild, ListNode};
    use lifeboat_format::region::ChunkKind;
    use lifeboat_format::seal::Key;
    use lifeboat_format::slot::Secret;
    use lifeboat_format::snapshot::{Snapshot, SourceKind};
    use lifeboat_format::{HostId, Metadata, SnapshotId};
    use lifeboat_repo::Repository;
    use lifeboat_repo::session::SessionOptions;
    use lifeboat_repo::sink::ChunkSink;
    use lifeboat_repo::tree::TreeBuilder;
    use lifeboat_store::MemoryStore;
    use std::sync::Arc;

    const HOST: HostId = HostId([7; 16]);
    const BYTES: usize = 1_000;

    /// What a repository holds: a chunk, a list of it, and a list whose leaf is there and whose chunk is not.
    struct Held {
        repository: Repository,
        root: TreeRoot,
        chunk: ChunkId,
        list: ChunkId,
        lost: ChunkId,
    }

    fn begin(repository: &Repository) -> Arc<Session> {
        let options = SessionOptions { compression_level: 3, host: HOST };
        Session::begin(repository, options, vec![]).unwrap()
    }

    fn held() -> Held {
        let key = Key::new([5; 32]);
        let (store, key) = (Arc::new(MemoryStore::new()), Secret::KeyFile(&key));
        let repository =
            Repository::init(store, Parameters::default(), &key, "key", Timestamp::default()).unwrap();
        let session = begin(&repository);
        let mut sink = ChunkSink::new(&session).unwrap();
        let chunk = sink.add(ChunkKind::Data, &[b'x'; BYTES]).unwrap();
        let mut list = |chunk: ChunkId| {
            let leaf = ListNode::Leaf(vec![Piece::Chunk(chunk, BYTES as u32)]).encode();
            let leaf = ListChild { id: sink.add(ChunkKind::List, &leaf).unwrap(), bytes: BYTES as u64 };
            sink.add(ChunkKind::List, &ListNode::Inner(1, vec![leaf]).encode()).unwrap()
        };
        let (list, lost) = (list(chunk), list(absent()));
        let tree = TreeBuilder::new(repository.keys());
        let root = tree.finish(&mut |node| sink.add(ChunkKind::Tree, &node)).unwrap();
        sink.flush().unwrap();
        session.commit(&Snapshot::new(SnapshotId::random(), HOST)).unwrap();
        Held { repository, root, chunk, list, lost }
    }

    fn absent() -> ChunkId {
        ChunkId([9; ChunkId::BYTES])
    }

    fn file(content: Content, values: &[ChunkId]) -> Entry {
        let value = |id: &ChunkId| Xattr {
            name: b"user.large".to_vec(),
            value: XattrValue::Chunk(*id, BYTES as u32),
        };
        let xattrs = values.iter().map(value).collect();
        let metadata = Metadata { mode: 0o644, xattrs, ..Metadata::default() };
        let node = Node::File { size: BYTES as u64, content };
        Entry { node, metadata, link: None, torn: false }
    }

    fn list(id: ChunkId) -> Content {
        Content::List(ListRoot { id, height: 1, chunker: Chunker::Content })
    }

    fn unchanged() -> Status {
        Status {
            kind: FileType::RegularFile,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: BYTES as u64,
            blocks: 2,
            links: 1,
            inode: 0,
            device: (8, 1),
            special: (0, 0),
            mtime: Timestamp::default(),
            ctime: Timestamp::default(),
        }
    }

    #[test]
    fn an_entry_is_carried_over_from_a_pinned_parent_or_with_all_its_chunks() {
        let held = held();
        let (reader, session) = (ChunkReader::new(&held.repository), begin(&held.repository));
        let cursor = |is_pinned| {
            let source = Source::new(SourceKind::Path, b"/srv", held.root);
            let started = Timestamp { seconds: 1_000, nanos: 0 };
            ParentCursor::new(&reader, &Parent { source, started, is_pinned })
        };
        let carries = |is_pinned, entry: &Entry| {
            cursor(is_pinned).still_holds(entry, &unchanged(), Comparison::default(), &session)
        };
        for (entry, is_stored) in [
            (file(Content::Chunk(held.chunk), &[]), true),
            (file(Content::Chunk(absent()), &[]), false),
            (file(list(held.list), &[]), true),
            (file(list(held.lost), &[]), false),
            (file(list(absent()), &[]), false),
            (file(Content::Chunk(held.chunk), &[held.chunk]), true),
            (file(Content::Chunk(held.chunk), &[absent()]), false),
        ] {
            assert_eq!(carries(false, &entry), is_stored, "{entry:?}");
            assert!(carries(true, &entry), "{entry:?}");
        }
        let mut torn = file(Content::Chunk(held.chunk), &[]);
        torn.torn = true;
        assert!(!carries(true, &torn));
    }
}
