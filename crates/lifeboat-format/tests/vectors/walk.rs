//! Walks whole trees and chunk lists. Walking is the next crate's work; this shows that the vectors are right.

use lifeboat_format::list::{ListNode, Piece};
use lifeboat_format::node::{Child, Item, NodeReader};
use lifeboat_format::{ChunkId, Error, Result, TreePath};
use std::collections::HashMap;

/// Walks a whole tree as `tree.md#walking` says.
pub(crate) struct Walk {
    pub(crate) nodes: HashMap<ChunkId, Vec<u8>>,
    pub(crate) keys: Vec<TreePath>,
    pub(crate) directories: Vec<TreePath>,
}

impl Walk {
    pub(crate) fn node(&mut self, child: &Child, height: u8, is_root: bool) -> Result<()> {
        let bytes = self.nodes.get(&child.id).cloned().ok_or_else(|| wrong("a node is missing"))?;
        let mut reader = NodeReader::new(&bytes)?;
        require(reader.height() == height, "a height")?;
        let (mut count, mut first) = (0, None);
        while let Some(item) = reader.next_item()? {
            let key = match item {
                Item::Entry(key, entry) => {
                    self.entry(&key, entry.is_directory())?;
                    count += 1;
                    key
                }
                Item::Child(child) => {
                    self.node(&child, height - 1, false)?;
                    count += child.entries;
                    child.first
                }
            };
            first.get_or_insert(key);
        }
        require(is_root || first.as_ref() == Some(&child.first), "a first key")?;
        require(count == child.entries, "a count")
    }

    fn entry(&mut self, key: &TreePath, is_directory: bool) -> Result<()> {
        require(self.keys.last().is_none_or(|last| last < key), "the order")?;
        match key.parent() {
            None => {}
            Some(parent) => require(self.directories.contains(&parent), "a parent directory")?,
        }
        if is_directory {
            self.directories.push(key.clone());
        }
        self.keys.push(key.clone());
        Ok(())
    }
}

pub(crate) fn walk_list(
    nodes: &HashMap<ChunkId, Vec<u8>>,
    id: &ChunkId,
    height: u8,
    expected: u64,
    pieces: &mut Vec<Piece>,
) -> Result<()> {
    let bytes = nodes.get(id).ok_or_else(|| wrong("a node is missing"))?;
    let node = ListNode::decode(bytes, expected)?;
    require(node.height() == height, "a height")?;
    match node {
        ListNode::Leaf(leaf) => pieces.extend(leaf),
        ListNode::Inner(_, children) => {
            for child in children {
                walk_list(nodes, &child.id, height - 1, child.bytes, pieces)?;
            }
        }
    }
    Ok(())
}

pub(crate) fn wrong(detail: &str) -> Error {
    Error::Damaged { what: "tree", detail: detail.into() }
}

pub(crate) fn require(holds: bool, detail: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(wrong(detail)) }
}
