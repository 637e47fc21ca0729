//! Turns sketches into chunks, chunk lists and tree nodes. Nodes are tiny here, so that there are several.

use crate::sketch::{Kind, Part, Sketch};
use lifeboat_format::entry::{Content, Entry, ListRoot, Node, Xattr, XattrValue};
use lifeboat_format::keys::Keys;
use lifeboat_format::limits::XATTR_INLINE_BYTES_MAX;
use lifeboat_format::list::{ListChild, ListNode, Piece};
use lifeboat_format::node::{Child, NodeBuilder};
use lifeboat_format::region::ChunkKind;
use lifeboat_format::snapshot::TreeRoot;
use lifeboat_format::{ChunkId, Result, TreePath};
use std::collections::HashSet;

const LEAF_ENTRIES: usize = 8;
const LEAF_PIECES: usize = 3;

/// Chunks on their way into packs; each is kept once.
pub(crate) struct Writer {
    known: HashSet<ChunkId>,
    waiting: Vec<(ChunkKind, Vec<u8>)>,
}

impl Writer {
    pub(crate) fn new() -> Self {
        Self { known: HashSet::new(), waiting: Vec::new() }
    }

    /// The chunks of `kind` that wait for a pack.
    pub(crate) fn take(&mut self, kind: ChunkKind) -> Vec<Vec<u8>> {
        let (taken, left) = std::mem::take(&mut self.waiting).into_iter().partition(|(of, _)| *of == kind);
        self.waiting = left;
        let taken: Vec<(ChunkKind, Vec<u8>)> = taken;
        taken.into_iter().map(|(_, chunk)| chunk).collect()
    }

    fn add(&mut self, keys: &Keys, kind: ChunkKind, chunk: &[u8]) -> ChunkId {
        let id = keys.chunk_id(kind, chunk);
        if self.known.insert(id) {
            self.waiting.push((kind, chunk.to_vec()));
        }
        id
    }

    /// Writes a source's tree.
    pub(crate) fn tree(&mut self, keys: &Keys, sketches: &[Sketch]) -> Result<TreeRoot> {
        let mut entries = Vec::new();
        for sketch in sketches {
            entries.push((TreePath::from_slashes(&sketch.path)?, self.entry(keys, sketch)?));
        }
        entries.sort_by(|one, other| one.0.cmp(&other.0));
        let mut children = Vec::new();
        for leaf in entries.chunks(LEAF_ENTRIES) {
            let mut builder = NodeBuilder::new(0);
            leaf.iter().for_each(|(key, entry)| builder.push_entry(key, entry));
            children.push(self.node(keys, &mut builder)?);
        }
        let mut height = 0;
        while children.len() > 1 {
            height += 1;
            let mut parents = Vec::new();
            for group in children.chunks(2) {
                let mut builder = NodeBuilder::new(height);
                group.iter().for_each(|child| builder.push_child(child));
                parents.push(self.node(keys, &mut builder)?);
            }
            children = parents;
        }
        Ok(TreeRoot { id: children[0].id, height, entries: children[0].entries })
    }

    fn node(&mut self, keys: &Keys, builder: &mut NodeBuilder) -> Result<Child> {
        let (bytes, first, entries) = builder.finish()?;
        Ok(Child { first, id: self.add(keys, ChunkKind::Tree, &bytes), entries })
    }

    fn entry(&mut self, keys: &Keys, sketch: &Sketch) -> Result<Entry> {
        let node = match &sketch.kind {
            Kind::Other(node) => node.clone(),
            Kind::File(parts) => {
                Node::File { size: sketch.bytes(), content: self.content(keys, sketch, parts) }
            }
        };
        let mut metadata = sketch.metadata.clone();
        for (name, value) in &sketch.xattrs {
            let value = if value.len() > XATTR_INLINE_BYTES_MAX as usize {
                XattrValue::Chunk(self.add(keys, ChunkKind::Data, value), value.len() as u32)
            } else {
                XattrValue::Inline(value.clone())
            };
            metadata.xattrs.push(Xattr { name: name.as_bytes().to_vec(), value });
        }
        Ok(Entry { node, metadata, link: sketch.link, torn: false })
    }

    fn content(&mut self, keys: &Keys, sketch: &Sketch, parts: &[Part]) -> Content {
        match parts {
            [] => return Content::Empty,
            [Part::Bytes(bytes)] => return Content::Chunk(self.add(keys, ChunkKind::Data, bytes)),
            _ => {}
        }
        let mut pieces = Vec::new();
        for part in parts {
            pieces.push(match part {
                Part::Bytes(bytes) => {
                    Piece::Chunk(self.add(keys, ChunkKind::Data, bytes), bytes.len() as u32)
                }
                Part::Hole(bytes) => Piece::Hole(*bytes),
                Part::Zeros(bytes) => Piece::Zeros(*bytes),
            });
        }
        let mut children: Vec<ListChild> = pieces
            .chunks(LEAF_PIECES)
            .map(|leaf| ListChild {
                id: self.add(keys, ChunkKind::List, &ListNode::Leaf(leaf.to_vec()).encode()),
                bytes: leaf.iter().map(Piece::bytes).sum(),
            })
            .collect();
        let mut height = 0;
        while children.len() > 1 {
            height += 1;
            children = children
                .chunks(2)
                .map(|group| ListChild {
                    id: self.add(keys, ChunkKind::List, &ListNode::Inner(height, group.to_vec()).encode()),
                    bytes: group.iter().map(|child| child.bytes).sum(),
                })
                .collect();
        }
        Content::List(ListRoot { id: children[0].id, height, chunker: sketch.chunker })
    }
}
