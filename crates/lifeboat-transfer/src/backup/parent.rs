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
