//! What the index diff of two snapshots weighs: chunks and plaintext bytes that are new, shared and gone.
//!
//! Must stay true: a chunk counts once, however often it is used, and as shared wherever in the other snapshot it stands:
//! what is new is what a bundle from the first to the second has to carry. Only tree and list nodes are read, each
//! distinct one once a snapshot. Memory is that of two [`SeenNodes`]; where their file finds no room, a chunk may be
//! called new, or count twice.

use crate::check::seen::SeenNodes;
use crate::cursor::NodeSource;
use crate::error::{Error, Result};
use crate::lists::read_list_node;
use lifeboat_format::entry::{ListRoot, XattrValue};
use lifeboat_format::list::{ListChild, ListNode, Piece};
use lifeboat_format::node::{Item, NodeReader};
use lifeboat_format::region::ChunkKind;
use lifeboat_format::snapshot::TreeRoot;
use lifeboat_format::{ChunkId, Content, Entry, Node};
use std::path::Path;

/// Chunks of all kinds, and their plaintext bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weight {
    /// How many.
    pub chunks: u64,
    /// Bytes in them.
    pub bytes: u64,
}

impl Weight {
    fn add(&mut self, bytes: u64) {
        self.chunks += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn less(self, other: Self) -> Self {
        Self {
            chunks: self.chunks.saturating_sub(other.chunks),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

/// What two snapshots have of their own and in common.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IndexDiff {
    /// Only the second needs it.
    pub new: Weight,
    /// Both need it.
    pub shared: Weight,
    /// Only the first needs it.
    pub gone: Weight,
}

/// Weighs the trees of two snapshots; what does not fit in memory goes to a file without a name in `scratch`.
pub fn weigh(
    source: &dyn NodeSource,
    scratch: &Path,
    first: &[TreeRoot],
    second: &[TreeRoot],
) -> Result<IndexDiff> {
    let mut old = Walk::new(source, scratch, None);
    first.iter().try_for_each(|root| old.tree(*root))?;
    let mut new = Walk::new(source, scratch, Some(&old.seen));
    second.iter().try_for_each(|root| new.tree(*root))?;
    let shared = new.shared;
    Ok(IndexDiff { new: new.all.less(shared), shared, gone: old.all.less(shared) })
}

struct Walk<'w> {
    source: &'w dyn NodeSource,
    seen: SeenNodes,
    all: Weight,
    other: Option<&'w SeenNodes>,
    shared: Weight,
}

impl<'w> Walk<'w> {
    fn new(source: &'w dyn NodeSource, scratch: &Path, other: Option<&'w SeenNodes>) -> Self {
        let (all, shared) = (Weight::default(), Weight::default());
        Self { source, seen: SeenNodes::new(scratch.to_owned()), all, other, shared }
    }

    fn count(&mut self, id: &ChunkId, bytes: u64) {
        if self.seen.contains(id) {
            return;
        }
        self.seen.insert(id);
        self.all.add(bytes);
        if self.other.is_some_and(|other| other.contains(id)) {
            self.shared.add(bytes);
        }
    }

    fn tree(&mut self, root: TreeRoot) -> Result<()> {
        if self.seen.contains(&root.id) {
            return Ok(());
        }
        let bytes = self.source.read_node(ChunkKind::Tree, &root.id)?;
        self.count(&root.id, bytes.len() as u64);
        let what = || format!("tree node {} cannot be read", root.id);
        let mut reader = NodeReader::new(bytes).map_err(Error::format(what()))?;
        if reader.height() != root.height {
            let detail = "it has another height".into();
            return Err(Error::Damaged { what: format!("tree node {}", root.id), detail });
        }
        while let Some(item) = reader.next_item().map_err(Error::format(what()))? {
            match item {
                Item::Child(child) => {
                    // A node that has children says that it is higher than 0; the minimum keeps that from the caller.
                    let height = root.height.saturating_sub(1);
                    self.tree(TreeRoot { id: child.id, height, entries: child.entries })?;
                }
                Item::Entry(_, entry) => self.entry(&entry)?,
            }
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry) -> Result<()> {
        for xattr in &entry.metadata.xattrs {
            if let XattrValue::Chunk(id, bytes) = &xattr.value {
                self.count(id, u64::from(*bytes));
            }
        }
        match &entry.node {
            Node::File { content: Content::Chunk(id), size } => self.count(id, *size),
            Node::File { content: Content::Pieces(_, pieces), .. } => self.pieces(pieces),
            Node::File { content: Content::List(ListRoot { id, height, .. }), size } => {
                self.list(ListChild { id: *id, bytes: *size }, *height)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn pieces(&mut self, pieces: &[Piece]) {
        for piece in pieces {
            if let Piece::Chunk(id, bytes) = piece {
                self.count(id, u64::from(*bytes));
            }
        }
    }

    fn list(&mut self, child: ListChild, height: u8) -> Result<()> {
        if self.seen.contains(&child.id) {
            return Ok(());
        }
        let node = read_list_node(self.source, &child, height)?;
        self.count(&child.id, node.encode().len() as u64);
        match node {
            ListNode::Leaf(pieces) => self.pieces(&pieces),
            ListNode::Inner(height, children) => {
                for child in children {
                    self.list(child, height.saturating_sub(1))?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::{Nodes, build, entry, wide};

    #[test]
    fn equal_trees_share_everything_and_one_new_file_weighs_itself_and_its_path_of_nodes() {
        let nodes = Nodes::default();
        let mut entries = wide(20_000);
        let first = build(&nodes, &entries);
        let scratch = std::env::temp_dir();
        let same = weigh(&nodes, &scratch, &[first], &[first]).unwrap();
        assert_eq!((same.new, same.gone), (Weight::default(), Weight::default()));
        assert!(same.shared.chunks > 20);
        let path = entries.keys().nth(12_345).unwrap().clone();
        entries.insert(path, entry(1 << 40));
        let second = build(&nodes, &entries);
        let diff = weigh(&nodes, &scratch, &[first], &[second]).unwrap();
        let levels = u64::from(second.height) + 1;
        assert!(diff.new.chunks >= levels && diff.new.chunks <= levels + 3, "{diff:?}");
        let back = weigh(&nodes, &scratch, &[second], &[first]).unwrap();
        assert_eq!((diff.new, diff.shared, diff.gone), (back.gone, back.shared, back.new));
        let nothing = weigh(&nodes, &scratch, &[], &[first]).unwrap();
        assert_eq!(
            (nothing.new, nothing.shared, nothing.gone),
            (same.shared, Weight::default(), Weight::default())
        );
    }
}
