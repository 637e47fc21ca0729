//! Walks a tree of nodes in order, reading a node when it is reached and not before.
//!
//! Must stay true: memory is one node per level, whatever the tree holds, and a tree that contradicts itself is an
//! error. Keys are compared across nodes too, so nothing appears twice.

use crate::error::{Error, Result};
use lifeboat_format::node::{Child, Item, NodeReader};
use lifeboat_format::region::ChunkKind;
use lifeboat_format::snapshot::TreeRoot;
use lifeboat_format::{ChunkId, Entry, TreePath};

/// Gives the verified bytes of tree and list nodes.
pub trait NodeSource: Send + Sync {
    /// Reads one node.
    fn read_node(&self, kind: ChunkKind, id: &ChunkId) -> Result<Vec<u8>>;
}

/// What stands next in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// An entry.
    Entry(TreePath, Entry),
    /// A node that was not read yet, and its height.
    Child(Child, u8),
}

impl Next {
    /// The first key in it.
    pub fn key(&self) -> &TreePath {
        match self {
            Self::Entry(key, _) => key,
            Self::Child(child, _) => &child.first,
        }
    }
}

/// Walks one tree.
pub struct TreeCursor<'s> {
    source: &'s dyn NodeSource,
    stack: Vec<Frame>,
    next: Option<Next>,
    last: Option<TreePath>,
}

/// A node being read, one item ahead.
struct Frame {
    reader: NodeReader<'static>,
    ahead: Option<Next>,
    /// Entries that its parent says are below it, and those counted so far.
    expected: u64,
    counted: u64,
}

impl Frame {
    fn advance(&mut self) -> Result<Option<Next>> {
        let item = self.reader.next_item().map_err(Error::format("a tree cannot be read"))?;
        let ahead = item.map(|item| match item {
            Item::Entry(key, entry) => {
                self.counted = self.counted.saturating_add(1);
                Next::Entry(key, entry)
            }
            // A child's own height is checked when it is read.
            Item::Child(child) => {
                self.counted = self.counted.saturating_add(child.entries);
                Next::Child(child, self.reader.height() - 1)
            }
        });
        if ahead.is_none() && self.counted != self.expected {
            let detail = format!("a node has {} entries below it instead of {}", self.counted, self.expected);
            return Err(Error::Damaged { what: "tree".into(), detail });
        }
        Ok(std::mem::replace(&mut self.ahead, ahead))
    }
}

impl<'s> TreeCursor<'s> {
    /// Stands before the first entry; nothing is read yet.
    pub fn new(source: &'s dyn NodeSource, root: TreeRoot) -> Self {
        let child = Child { first: TreePath::root(), id: root.id, entries: root.entries };
        Self { source, stack: Vec::new(), next: Some(Next::Child(child, root.height)), last: None }
    }

    /// What stands next; `None` at the end.
    pub fn peek(&self) -> Option<&Next> {
        self.next.as_ref()
    }

    /// Steps over what stands next without reading it.
    pub fn step_over(&mut self) -> Result<()> {
        self.next = None;
        while let Some(frame) = self.stack.last_mut() {
            self.next = frame.advance()?;
            if let Some(Next::Entry(key, _)) = &self.next {
                if self.last.as_ref().is_some_and(|last| last >= key) {
                    return Err(Error::Damaged {
                        what: "tree".into(),
                        detail: "keys are not in order".into(),
                    });
                }
                self.last = Some(key.clone());
            }
            if self.next.is_some() {
                return Ok(());
            }
            self.stack.pop();
        }
        Ok(())
    }

    /// Reads the node that stands next, so that its first item does.
    pub fn descend(&mut self) -> Result<()> {
        let Some(Next::Child(child, height)) = self.next.take() else {
            return Ok(());
        };
        let bytes = self.source.read_node(ChunkKind::Tree, &child.id)?;
        let reader = NodeReader::new(bytes)
            .map_err(Error::format(format!("tree node {} cannot be read", child.id)))?;
        // Heights go down by one from node to node, so a cycle is impossible.
        if reader.height() != height {
            let detail = format!("a node of height {} stands where {height} is expected", reader.height());
            return Err(Error::Damaged { what: format!("tree node {}", child.id), detail });
        }
        let mut frame = Frame { reader, ahead: None, expected: child.entries, counted: 0 };
        frame.advance()?;
        // Seeking and comparing trust what a parent says of its child; the root's own parent says nothing.
        let is_as_told = frame.ahead.as_ref().is_none_or(|ahead| *ahead.key() == child.first);
        if !self.stack.is_empty() && !is_as_told {
            let detail = format!("it does not begin with `{}`", child.first);
            return Err(Error::Damaged { what: format!("tree node {}", child.id), detail });
        }
        self.stack.push(frame);
        self.step_over()
    }

    /// The next entry; reads nodes as needed.
    pub fn next_entry(&mut self) -> Result<Option<(TreePath, Entry)>> {
        while matches!(self.next, Some(Next::Child(..))) {
            self.descend()?;
        }
        match self.next.take() {
            Some(Next::Entry(key, entry)) => {
                self.step_over()?;
                Ok(Some((key, entry)))
            }
            _ => Ok(None),
        }
    }

    /// Steps to the first entry at or after `key`, reading one node per level.
    pub fn seek(&mut self, key: &TreePath) -> Result<()> {
        while self.next.as_ref().is_some_and(|next| next.key() < key) {
            let ahead = self.stack.last().and_then(|frame| frame.ahead.as_ref());
            let lies_further = ahead.is_some_and(|ahead| ahead.key() <= key);
            match self.next {
                Some(Next::Child(..)) if !lies_further => self.descend()?,
                _ => self.step_over()?,
            }
        }
        Ok(())
    }
}

impl Iterator for TreeCursor<'_> {
    type Item = Result<(TreePath, Entry)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_entry().transpose()
    }
}
