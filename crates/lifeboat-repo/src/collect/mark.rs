//! Marking: which chunks snapshots reach.
//!
//! Must stay true: what is reached and cannot be read stops a collection; nothing is taken for garbage because it was
//! not found. Each distinct node is read once, also over several markings with one [`Mark`]: what the first reached
//! counts as reached in the second. Memory is bounded by [`SeenNodes`].

use super::{Heart, Progress};
use crate::check::seen::SeenNodes;
use crate::cursor::NodeSource;
use crate::error::{Error, ErrorKind, Result};
use crate::lists::read_list_node;
use crate::reader::ChunkReader;
use crate::repository::Repository;
use crate::snapshots::{ListedSnapshot, SnapshotList};
use lifeboat_format::entry::{ListRoot, XattrValue};
use lifeboat_format::list::{ListChild, ListNode, Piece};
use lifeboat_format::node::{Item, NodeReader};
use lifeboat_format::region::ChunkKind;
use lifeboat_format::snapshot::TreeRoot;
use lifeboat_format::{ChunkId, Content, Entry, Node, ObjectKind};
use std::sync::atomic::Ordering;

/// What is reached, as far as it was looked for.
pub(super) struct Mark<'r> {
    repository: &'r Repository,
    progress: &'r Progress,
    heart: &'r dyn Heart,
    reader: ChunkReader,
    /// Reached chunks of data, and nodes that were read together with everything below them.
    reached: SeenNodes,
    /// Whether something missing is an error. Drafts and checkpoints of sessions that were ended may lack something.
    is_strict: bool,
    /// Snapshots in the last marking.
    pub(super) snapshots: u64,
}

/// Tells which chunks have to stay.
pub(super) trait Reached {
    /// Whether a chunk has to stay. Nodes above something that is missing may not be, if only drafts reach them.
    fn is_reached(&self, id: &ChunkId) -> Result<bool>;
}

/// Whatever can be read stays: for who does not know what is reached.
pub(super) struct Everything;

impl Reached for Everything {
    fn is_reached(&self, _: &ChunkId) -> Result<bool> {
        Ok(true)
    }
}

impl Reached for Mark<'_> {
    fn is_reached(&self, id: &ChunkId) -> Result<bool> {
        self.reached.try_contains(id).map_err(no_room)
    }
}

fn damaged(what: String, detail: &str) -> Error {
    Error::Damaged { what, detail: detail.into() }
}

fn no_room(source: std::io::Error) -> Error {
    Error::Io { doing: "there is no room to remember what is in use".into(), source }
}

impl<'r> Mark<'r> {
    /// Nothing is marked yet.
    pub(super) fn new(repository: &'r Repository, progress: &'r Progress, heart: &'r dyn Heart) -> Self {
        let scratch = repository.cache_directory().filter(|folder| folder.is_dir()).cloned();
        Self {
            repository,
            progress,
            heart,
            reader: ChunkReader::new(repository),
            reached: SeenNodes::new(scratch.unwrap_or_else(std::env::temp_dir)),
            is_strict: false,
            snapshots: 0,
        }
    }

    /// Marks what drafts and checkpoints reach, then what snapshots reach. In this order: a session removes its draft
    /// after its snapshot is there. `MarkDrafts`, `MarkSnapshots`
    pub(super) fn all(&mut self) -> Result<()> {
        let lookup = self.repository.lookup()?;
        lookup.sync()?;
        lookup.drop_missing_packs()?;
        if let Some(name) = lookup.damaged_objects().first() {
            let detail = "nothing is collected until it is repaired";
            return Err(damaged(format!("index object {name}"), detail));
        }
        self.is_strict = false;
        for kind in [ObjectKind::Draft, ObjectKind::Checkpoint] {
            self.roots(self.repository.unfinished(kind)?)?;
        }
        self.is_strict = true;
        let list = self.repository.stored_snapshots()?;
        self.snapshots = list.snapshots.len() as u64;
        self.roots(list)
    }

    /// Bytes of packs that were read, in all markings.
    pub(super) fn bytes_read(&self) -> u64 {
        self.reader.bytes_read()
    }

    fn roots(&mut self, list: SnapshotList) -> Result<()> {
        if let Some((_, error)) = list.damaged.into_iter().next() {
            return Err(error);
        }
        for ListedSnapshot { snapshot, .. } in &list.snapshots {
            for source in &snapshot.sources {
                self.tree(source.root)?;
            }
            self.progress.snapshots_done.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// What a damaged node means: the end, or that nothing above it counts as read.
    fn unless_strict(&self, error: Error) -> Result<bool> {
        let is_damage = matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound);
        if is_damage && !self.is_strict { Ok(false) } else { Err(error) }
    }

    /// Marks a subtree; `false` when something below it is missing. Only a whole one is not read again.
    fn tree(&mut self, root: TreeRoot) -> Result<bool> {
        self.progress.check_interrupted()?;
        if self.is_reached(&root.id)? {
            return Ok(true);
        }
        self.heart.beat()?;
        let mut reader = match self.open_node(&root) {
            Ok(reader) => reader,
            Err(error) => return self.unless_strict(error),
        };
        let (mut is_whole, mut chunks) = (true, Vec::new());
        loop {
            is_whole &= match reader.next_item() {
                Ok(None) => break,
                Ok(Some(Item::Child(child))) => {
                    self.tree(TreeRoot { id: child.id, height: root.height - 1, entries: child.entries })?
                }
                Ok(Some(Item::Entry(_, entry))) => self.entry(&entry, &mut chunks)?,
                Err(source) => {
                    let doing = format!("tree node {} cannot be read", root.id);
                    return self.unless_strict(Error::Format { doing, source });
                }
            };
        }
        self.reach(chunks, root.id, is_whole)
    }

    fn open_node(&self, root: &TreeRoot) -> Result<NodeReader<'static>> {
        let bytes = self.reader.read_node(ChunkKind::Tree, &root.id)?;
        let reader = NodeReader::new(bytes).map_err(Error::format("a tree node cannot be read"))?;
        if reader.height() == root.height {
            Ok(reader)
        } else {
            Err(damaged(format!("tree node {}", root.id), "it has another height"))
        }
    }

    fn entry(&mut self, entry: &Entry, chunks: &mut Vec<ChunkId>) -> Result<bool> {
        chunks.extend(entry.metadata.xattrs.iter().filter_map(|xattr| match xattr.value {
            XattrValue::Chunk(id, _) => Some(id),
            XattrValue::Inline(_) => None,
        }));
        match &entry.node {
            Node::File { content: Content::Chunk(id), .. } => chunks.push(*id),
            Node::File { content: Content::Pieces(_, pieces), .. } => {
                chunks.extend(pieces.iter().filter_map(Piece::chunk));
            }
            Node::File { content: Content::List(ListRoot { id, height, .. }), size } => {
                return self.list(ListChild { id: *id, bytes: *size }, *height);
            }
            _ => {}
        }
        Ok(true)
    }

    fn list(&mut self, child: ListChild, height: u8) -> Result<bool> {
        if self.is_reached(&child.id)? {
            return Ok(true);
        }
        let (mut chunks, mut is_whole) = (Vec::new(), true);
        match read_list_node(&self.reader, &child, height) {
            Err(error) => return self.unless_strict(error),
            Ok(ListNode::Leaf(pieces)) => chunks.extend(pieces.iter().filter_map(Piece::chunk)),
            Ok(ListNode::Inner(_, children)) => {
                for child in children {
                    is_whole &= self.list(child, height - 1)?;
                }
            }
        }
        self.reach(chunks, child.id, is_whole)
    }

    /// Marks the chunks of a node, and then the node itself if everything below it is there.
    fn reach(&mut self, mut chunks: Vec<ChunkId>, node: ChunkId, mut is_whole: bool) -> Result<bool> {
        let mut is_new = Ok(true);
        chunks.retain(|id| match self.is_reached(id) {
            Ok(is_reached) => !is_reached,
            Err(error) => {
                is_new = Err(error);
                false
            }
        });
        is_new?;
        chunks.push(node);
        let present = self.repository.lookup()?.contains(&chunks)?;
        for (id, _) in chunks.iter().zip(present).filter(|(_, present)| !present) {
            is_whole &= self.unless_strict(Error::MissingChunk(*id))?;
        }
        let marked = if is_whole { &chunks[..] } else { &chunks[..chunks.len() - 1] };
        marked.iter().try_for_each(|id| self.reached.try_insert(id)).map_err(no_room)?;
        Ok(is_whole)
    }
}
