//! A large file's chunk list, read one node at a time.
//!
//! Must stay true: whatever the nodes contain, the pieces handed out never exceed the file's length, and memory stays
//! at one node per level: at most [`NODE_DEPTH_MAX`] nodes of [`ListNode::ITEMS_MAX`] items, and a few kilobytes with
//! what writers really write. Restore, mounts and exports rely on nothing else.

use lifeboat_format::ChunkId;
use lifeboat_format::entry::{Content, ListRoot};
use lifeboat_format::limits::NODE_DEPTH_MAX;
use lifeboat_format::list::{ListChild, ListNode, Piece};
use lifeboat_format::region::ChunkKind;
use std::collections::VecDeque;

/// Why a chunk could not be had: the repository's own error.
pub type ChunkError = Box<dyn std::error::Error + Send + Sync>;

/// Gives the verified plaintext of chunks. It may cache what it decodes.
pub trait ChunkReader: Send + Sync {
    /// Appends the chunk's plaintext to `output`, authenticated and checked against its id.
    ///
    /// After an error the end of `output` is undefined; what was there before the call is untouched.
    fn read_chunk(&self, kind: ChunkKind, id: &ChunkId, output: &mut Vec<u8>) -> Result<(), ChunkError>;

    /// Whether these are the bytes of that piece of data. Computed from the bytes alone: nothing is read.
    fn is_chunk(&self, id: &ChunkId, bytes: &[u8]) -> bool;

    /// Numbers that are equal, or near each other, where chunks of data are cheaper to read one after the other. Only a
    /// hint: where nothing is known, all are equal.
    fn places(&self, ids: &[ChunkId]) -> Vec<u64> {
        vec![0; ids.len()]
    }
}

/// Why a chunk list could not be followed to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The repository does not give the node.
    #[error("chunk list node {id} cannot be read")]
    Unreadable {
        /// The node.
        id: ChunkId,
        /// What the repository says.
        #[source]
        source: ChunkError,
    },
    /// The node is not one, or not as long as its parent says.
    #[error("chunk list node {id} cannot be decoded")]
    Damaged {
        /// The node.
        id: ChunkId,
        /// What is wrong with it.
        #[source]
        source: lifeboat_format::Error,
    },
    /// The node is not at the height that its parent says; following it might never end.
    #[error("chunk list node {id} has height {found} instead of {expected}")]
    Height {
        /// The node.
        id: ChunkId,
        /// Height by its place in the list.
        expected: u8,
        /// Height by its own account.
        found: u8,
    },
}

impl Error {
    /// What the caller can do about it: all of these are damage, unless `source` says otherwise.
    pub fn kind(&self) -> lifeboat_format::ErrorKind {
        match self {
            Self::Damaged { source, .. } => source.kind(),
            Self::Unreadable { .. } | Self::Height { .. } => lifeboat_format::ErrorKind::Damaged,
        }
    }
}

/// The pieces of one file in order; their lengths add up to the file's. Ends after the first error.
///
/// # Cost
/// One `read_chunk` for each node, when its first piece is asked for.
pub struct Pieces<'r> {
    reader: &'r dyn ChunkReader,
    /// Inner nodes above the current leaf with the height of what they point to, topmost first.
    inner: Vec<(u8, std::vec::IntoIter<ListChild>)>,
    leaf: std::vec::IntoIter<Piece>,
    node: Vec<u8>,
    /// The nodes of each height that were read last.
    recent: Vec<VecDeque<ChunkId>>,
    /// Nodes that were read and not given by [`Self::take_nodes`] yet, if somebody wants them.
    new_nodes: Option<Vec<ChunkId>>,
}

/// Nodes of one height that are remembered.
const RECENT_NODES: usize = 64;

impl<'r> Pieces<'r> {
    /// The pieces of a regular file of `size` bytes.
    pub fn new(reader: &'r dyn ChunkReader, content: &Content, size: u64) -> Self {
        let mut pieces = Self {
            reader,
            inner: Vec::new(),
            leaf: Vec::new().into_iter(),
            node: Vec::new(),
            recent: Vec::new(),
            new_nodes: None,
        };
        match content {
            Content::Empty => {}
            // A file of one chunk fits a chunk; if a hostile entry says otherwise, the reader of the piece finds a
            // chunk that is too short.
            Content::Chunk(id) => {
                let bytes = u32::try_from(size).unwrap_or(u32::MAX);
                pieces.leaf = vec![Piece::Chunk(*id, bytes)].into_iter();
            }
            Content::Pieces(_, few) => pieces.leaf = few.clone().into_iter(),
            Content::List(root) => pieces.start(root, size),
        }
        pieces
    }

    /// Whether a node of this list was read a short while ago.
    pub(crate) fn has_recent_node(&self, id: &ChunkId) -> bool {
        self.recent.iter().any(|nodes| nodes.contains(id))
    }

    /// Remembers the nodes that are read from now on, until they are taken.
    pub(crate) fn with_nodes(mut self) -> Self {
        self.new_nodes = Some(Vec::new());
        self
    }

    /// The nodes that were read since the last call: few, when called for each piece.
    pub(crate) fn take_nodes(&mut self) -> Vec<ChunkId> {
        self.new_nodes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn remember(&mut self, height: u8, id: ChunkId) {
        if let Some(nodes) = &mut self.new_nodes {
            nodes.push(id);
        }
        let height = usize::from(height);
        if self.recent.len() <= height {
            self.recent.resize_with(height + 1, VecDeque::new);
        }
        let nodes = &mut self.recent[height];
        if nodes.len() == RECENT_NODES {
            nodes.pop_front();
        }
        nodes.push_back(id);
    }

    fn start(&mut self, root: &ListRoot, size: u64) {
        // Decoders refuse higher roots already; the minimum keeps the promise about memory for roots made by hand.
        let height = root.height.min(NODE_DEPTH_MAX - 1);
        self.inner.push((height, vec![ListChild { id: root.id, bytes: size }].into_iter()));
    }

    fn descend(&mut self, expected: u8, child: ListChild) -> Result<(), Error> {
        let id = child.id;
        self.node.clear();
        self.reader
            .read_chunk(ChunkKind::List, &id, &mut self.node)
            .map_err(|source| Error::Unreadable { id, source })?;
        let node =
            ListNode::decode(&self.node, child.bytes).map_err(|source| Error::Damaged { id, source })?;
        if node.height() != expected {
            return Err(Error::Height { id, expected, found: node.height() });
        }
        self.remember(expected, id);
        match node {
            ListNode::Leaf(pieces) => self.leaf = pieces.into_iter(),
            ListNode::Inner(height, children) => self.inner.push((height - 1, children.into_iter())),
        }
        Ok(())
    }
}

impl Iterator for Pieces<'_> {
    type Item = Result<Piece, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(piece) = self.leaf.next() {
                return Some(Ok(piece));
            }
            let (height, children) = self.inner.last_mut()?;
            let height = *height;
            match children.next() {
                None => {
                    self.inner.pop();
                }
                Some(child) => {
                    if let Err(error) = self.descend(height, child) {
                        self.inner.clear();
                        return Some(Err(error));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_format::entry::Chunker;
    use std::collections::HashMap;

    #[derive(Default)]
    struct Nodes(HashMap<ChunkId, Vec<u8>>);

    impl Nodes {
        fn put(&mut self, number: u8, node: &ListNode) -> ChunkId {
            self.0.insert(ChunkId([number; ChunkId::BYTES]), node.encode());
            ChunkId([number; ChunkId::BYTES])
        }
    }

    impl ChunkReader for Nodes {
        fn read_chunk(&self, _: ChunkKind, id: &ChunkId, output: &mut Vec<u8>) -> Result<(), ChunkError> {
            output.extend_from_slice(self.0.get(id).ok_or("there is no such node")?);
            Ok(())
        }

        fn is_chunk(&self, id: &ChunkId, bytes: &[u8]) -> bool {
            self.0.get(id).is_some_and(|node| node == bytes)
        }
    }

    fn list(id: ChunkId, height: u8) -> Content {
        Content::List(ListRoot { id, height, chunker: Chunker::Content })
    }

    #[test]
    fn the_nodes_of_a_list_are_given_as_they_are_read() {
        let mut nodes = Nodes::default();
        let leaf = |nodes: &mut Nodes, number| {
            let leaf = ListNode::Leaf(vec![Piece::Zeros(1), Piece::Hole(1)]);
            ListChild { id: nodes.put(number, &leaf), bytes: 2 }
        };
        let leaves = vec![leaf(&mut nodes, 1), leaf(&mut nodes, 2)];
        let root = nodes.put(3, &ListNode::Inner(1, leaves));
        let mut pieces = Pieces::new(&nodes, &list(root, 1), 4).with_nodes();
        let mut given = Vec::new();
        while pieces.next().is_some() {
            given.push(pieces.take_nodes().iter().map(|id| id.0[0]).collect::<Vec<u8>>());
        }
        assert_eq!(given, [vec![3, 1], vec![], vec![2], vec![]]);
        let mut unasked = Pieces::new(&nodes, &list(root, 1), 4);
        assert!(unasked.next().is_some() && unasked.take_nodes().is_empty());
    }

    #[test]
    fn pieces_of_all_leaves_come_in_order() {
        let mut nodes = Nodes::default();
        let leaves: Vec<ListChild> = (0..10u8)
            .map(|number| {
                let leaf = ListNode::Leaf(vec![Piece::Hole(u64::from(number) + 1), Piece::Zeros(1)]);
                ListChild { id: nodes.put(number, &leaf), bytes: u64::from(number) + 2 }
            })
            .collect();
        let halves: Vec<ListChild> = leaves
            .chunks(5)
            .enumerate()
            .map(|(number, half)| ListChild {
                id: nodes.put(100 + number as u8, &ListNode::Inner(1, half.to_vec())),
                bytes: half.iter().map(|child| child.bytes).sum(),
            })
            .collect();
        let size = halves.iter().map(|child| child.bytes).sum();
        let root = nodes.put(200, &ListNode::Inner(2, halves));
        let pieces: Vec<Piece> = Pieces::new(&nodes, &list(root, 2), size).map(Result::unwrap).collect();
        let expected: Vec<Piece> =
            (0..10).flat_map(|number| [Piece::Hole(number + 1), Piece::Zeros(1)]).collect();
        assert_eq!(pieces, expected);
    }

    #[test]
    fn a_node_that_is_its_own_child_is_refused() {
        let mut nodes = Nodes::default();
        let own = ChunkId([7; ChunkId::BYTES]);
        nodes.put(7, &ListNode::Inner(1, vec![ListChild { id: own, bytes: 9 }]));
        let results: Vec<_> = Pieces::new(&nodes, &list(own, 1), 9).collect();
        assert!(matches!(results[..], [Err(Error::Height { expected: 0, found: 1, .. })]));
    }

    #[test]
    fn a_child_of_another_length_than_its_parent_says_is_refused() {
        let mut nodes = Nodes::default();
        let leaf = nodes.put(1, &ListNode::Leaf(vec![Piece::Zeros(5)]));
        let root = nodes.put(2, &ListNode::Inner(1, vec![ListChild { id: leaf, bytes: 6 }]));
        let results: Vec<_> = Pieces::new(&nodes, &list(root, 1), 6).collect();
        assert!(matches!(results[..], [Err(Error::Damaged { .. })]));
    }

    #[test]
    fn a_missing_node_ends_the_list_with_its_id() {
        let nodes = Nodes::default();
        let results: Vec<_> = Pieces::new(&nodes, &list(ChunkId([3; ChunkId::BYTES]), 0), 6).collect();
        assert!(
            matches!(results[..], [Err(Error::Unreadable { id: ChunkId(id), .. })] if id == [3; ChunkId::BYTES])
        );
    }
}
