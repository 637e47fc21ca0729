//! Builds chunk lists: where the bytes of a large file are.
//!
//! Must stay true: an insertion early in a file changes the leaf it falls into and the nodes above it, not the rest.
//! Nodes of files cut by content end at an id that says so. Nodes of page files begin at fixed places of the file, so that
//! a page that is written where zeros were, or where nothing was, moves no other page to another node.

use crate::error::{Error, Result};
use lifeboat_format::entry::{Chunker, ListRoot};
use lifeboat_format::limits::PIECE_BYTES_MAX;
use lifeboat_format::list::{ListChild, ListNode, Piece};
use lifeboat_format::region::ChunkKind;
use lifeboat_format::{ChunkId, Content};

use crate::cursor::NodeSource;

/// One chunk in so many ends a leaf or an inner node of a file that is cut by content.
const IDS_PER_CUT: u8 = 64;
/// A node ends after so many items at the latest.
const ITEMS_MAX: usize = 256;
/// Pages in a leaf of a page file: few, because random page updates touch many leaves.
const PAGES_PER_LEAF: u64 = 16;
/// Nodes in a node above, in a page file.
const NODES_PER_NODE: u64 = 32;

/// So few pieces stand in the entry itself. A node of their own would cost its name twice, in the entry and in the
/// index; in the entry they cost their ids again whenever a neighbour in the tree node changes.
pub const INLINE_PIECES: usize = 16;

/// Takes the pieces of one file in order.
pub struct ListBuilder {
    chunker: Chunker,
    /// Bytes of the file in a leaf of a page file; `None` if it is cut by content.
    leaf_bytes: Option<u64>,
    /// The first pieces, as long as they may be all there are.
    few: Option<Vec<Piece>>,
    leaf: Vec<Piece>,
    leaf_start: u64,
    /// Bytes of the file in this leaf and all before it.
    placed: u64,
    inner: Vec<Open>,
    bytes: u64,
}

/// An inner node that takes children.
#[derive(Default)]
struct Open {
    children: Vec<ListChild>,
    start: u64,
}

impl ListBuilder {
    /// An empty list of a file that is cut by `chunker`.
    pub fn new(chunker: Chunker) -> Self {
        Self {
            chunker,
            leaf_bytes: chunker.page_bytes().map(|page| u64::from(page) * PAGES_PER_LEAF),
            few: Some(Vec::new()),
            leaf: Vec::new(),
            leaf_start: 0,
            placed: 0,
            inner: Vec::new(),
            bytes: 0,
        }
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends a piece; neighbouring holes and runs of zeros become one.
    pub fn push(&mut self, piece: Piece, put: &mut dyn FnMut(Vec<u8>) -> Result<ChunkId>) -> Result<()> {
        // A file can be longer than one piece can say.
        let (piece, rest) = split_long(piece);
        if let Some(rest) = rest {
            self.push(piece, put)?;
            return self.push(rest, put);
        }
        self.bytes += piece.bytes();
        let last = self.few.as_mut().unwrap_or(&mut self.leaf).last_mut();
        match (last, piece) {
            (_, Piece::Chunk(_, 0) | Piece::Hole(0) | Piece::Zeros(0)) => return Ok(()),
            (Some(Piece::Hole(last)), Piece::Hole(more)) | (Some(Piece::Zeros(last)), Piece::Zeros(more))
                if *last + more <= PIECE_BYTES_MAX =>
            {
                *last += more;
                self.placed += if self.few.is_none() { more } else { 0 };
                return Ok(());
            }
            _ => {}
        }
        match &mut self.few {
            Some(few) if few.len() < INLINE_PIECES => {
                few.push(piece);
                return Ok(());
            }
            few => {
                for early in few.take().unwrap_or_default() {
                    self.push_to_leaf(early, put)?;
                }
            }
        }
        self.push_to_leaf(piece, put)
    }

    fn push_to_leaf(&mut self, piece: Piece, put: &mut dyn FnMut(Vec<u8>) -> Result<ChunkId>) -> Result<()> {
        // Holes and zeros go on in the leaf where they began: however long they are, they are one piece.
        if let (Some(leaf_bytes), Piece::Chunk(..)) = (self.leaf_bytes, piece)
            && !self.leaf.is_empty()
            && self.leaf_start / leaf_bytes != self.placed / leaf_bytes
        {
            self.close_leaf(put)?;
        }
        if self.leaf.is_empty() {
            self.leaf_start = self.placed;
        }
        self.placed += piece.bytes();
        let ends_leaf = match (self.chunker, piece) {
            (Chunker::Content, Piece::Chunk(id, _)) => ends_node(&id),
            _ => false,
        };
        self.leaf.push(piece);
        if ends_leaf || self.leaf.len() >= ITEMS_MAX { self.close_leaf(put) } else { Ok(()) }
    }

    /// Ends the file. A few pieces need no nodes.
    pub fn finish(mut self, put: &mut dyn FnMut(Vec<u8>) -> Result<ChunkId>) -> Result<Content> {
        if let Some(few) = self.few {
            return Ok(match few[..] {
                [] => Content::Empty,
                [Piece::Chunk(id, _)] => Content::Chunk(id),
                _ => Content::Pieces(self.chunker, few),
            });
        }
        if !self.leaf.is_empty() {
            self.close_leaf(put)?;
        }
        let mut level = 0;
        loop {
            let is_top = level + 1 == self.inner.len();
            if is_top && self.inner[level].children.len() == 1 {
                let root = self.inner[level].children[0];
                let list = ListRoot { id: root.id, height: level as u8, chunker: self.chunker };
                return Ok(Content::List(list));
            }
            if !self.inner[level].children.is_empty() {
                self.close_inner(level, put)?;
            }
            level += 1;
        }
    }

    fn close_leaf(&mut self, put: &mut dyn FnMut(Vec<u8>) -> Result<ChunkId>) -> Result<()> {
        let pieces = std::mem::take(&mut self.leaf);
        let bytes = pieces.iter().map(Piece::bytes).sum();
        let id = put(ListNode::Leaf(pieces).encode())?;
        self.push_child(0, ListChild { id, bytes }, self.leaf_start, put)
    }

    /// `inner[level]` holds the children of the open node of height `level + 1`. `start` is where the child begins.
    fn push_child(
        &mut self,
        level: usize,
        child: ListChild,
        start: u64,
        put: &mut dyn FnMut(Vec<u8>) -> Result<ChunkId>,
    ) -> Result<()> {
        if self.inner.len() == level {
            self.inner.push(Open::default());
        }
        if let Some(leaf_bytes) = self.leaf_bytes {
            let node_bytes = leaf_bytes.saturating_mul(NODES_PER_NODE.saturating_pow(level as u32 + 1));
            let open = &self.inner[level];
            if !open.children.is_empty() && open.start / node_bytes != start / node_bytes {
                self.close_inner(level, put)?;
            }
        }
        let open = &mut self.inner[level];
        if open.children.is_empty() {
            open.start = start;
        }
        open.children.push(child);
        let count = open.children.len();
        let ends_here = self.leaf_bytes.is_none() && count > 1 && ends_node(&child.id);
        if count >= ITEMS_MAX || ends_here { self.close_inner(level, put) } else { Ok(()) }
    }

    fn close_inner(&mut self, level: usize, put: &mut dyn FnMut(Vec<u8>) -> Result<ChunkId>) -> Result<()> {
        let Open { children, start } = std::mem::take(&mut self.inner[level]);
        let bytes = children.iter().map(|child| child.bytes).sum();
        let id = put(ListNode::Inner(level as u8 + 1, children).encode())?;
        self.push_child(level + 1, ListChild { id, bytes }, start, put)
    }
}

fn split_long(piece: Piece) -> (Piece, Option<Piece>) {
    match piece {
        Piece::Hole(bytes) if bytes > PIECE_BYTES_MAX => {
            (Piece::Hole(PIECE_BYTES_MAX), Some(Piece::Hole(bytes - PIECE_BYTES_MAX)))
        }
        Piece::Zeros(bytes) if bytes > PIECE_BYTES_MAX => {
            (Piece::Zeros(PIECE_BYTES_MAX), Some(Piece::Zeros(bytes - PIECE_BYTES_MAX)))
        }
        piece => (piece, None),
    }
}

fn ends_node(id: &ChunkId) -> bool {
    id.0[ChunkId::BYTES - 1].is_multiple_of(IDS_PER_CUT)
}

/// Reads a node that stands for `child.bytes` bytes and must have the given height.
pub fn read_list_node(source: &dyn NodeSource, child: &ListChild, height: u8) -> Result<ListNode> {
    let bytes = source.read_node(ChunkKind::List, &child.id)?;
    let node = ListNode::decode(&bytes, child.bytes)
        .map_err(Error::format(format!("chunk list {} cannot be read", child.id)))?;
    if node.height() == height {
        Ok(node)
    } else {
        let detail = format!("a node of height {} stands where {height} is expected", node.height());
        Err(Error::Damaged { what: format!("chunk list {}", child.id), detail })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::keys;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[derive(Default)]
    struct Lists(HashMap<ChunkId, Vec<u8>>);

    impl NodeSource for Lists {
        fn read_node(&self, _: ChunkKind, id: &ChunkId) -> Result<Vec<u8>> {
            self.0.get(id).cloned().ok_or(Error::MissingChunk(*id))
        }
    }

    fn build(lists: &mut Lists, pieces: &[Piece], chunker: Chunker) -> Content {
        let mut put = |bytes: Vec<u8>| {
            let id = keys().chunk_id(ChunkKind::List, &bytes);
            lists.0.insert(id, bytes);
            Ok(id)
        };
        let mut builder = ListBuilder::new(chunker);
        pieces.iter().for_each(|piece| builder.push(*piece, &mut put).unwrap());
        builder.finish(&mut put).unwrap()
    }

    /// All pieces below a root.
    fn read(lists: &Lists, root: ListRoot, size: u64) -> Result<Vec<Piece>> {
        let children = match read_list_node(lists, &ListChild { id: root.id, bytes: size }, root.height)? {
            ListNode::Leaf(pieces) => return Ok(pieces),
            ListNode::Inner(_, children) => children,
        };
        let below = |child: ListChild| {
            read(lists, ListRoot { id: child.id, height: root.height - 1, ..root }, child.bytes)
        };
        Ok(children.into_iter().map(below).collect::<Result<Vec<_>>>()?.concat())
    }

    fn piece(number: u32) -> Piece {
        Piece::Chunk(keys().chunk_id(ChunkKind::Data, &number.to_le_bytes()), 1000)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn a_list_reads_back(count in prop_oneof![2u32..40, 2u32..20_000], pages: bool) {
            let chunker = if pages { Chunker::Pages8K } else { Chunker::Content };
            let pieces: Vec<Piece> = (0..count).map(piece).collect();
            let mut lists = Lists::default();
            let found = match build(&mut lists, &pieces, chunker) {
                Content::List(root) => read(&lists, root, u64::from(count) * 1000).unwrap(),
                Content::Pieces(found, few) if found == chunker && few.len() <= INLINE_PIECES => few,
                other => panic!("{other:?} of {count} pieces"),
            };
            prop_assert_eq!(found, pieces);
        }
    }

    #[test]
    fn one_changed_chunk_changes_one_node_of_each_level() {
        let mut lists = Lists::default();
        let mut pieces: Vec<Piece> = (0..50_000).map(piece).collect();
        build(&mut lists, &pieces, Chunker::Content);
        let before = lists.0.len();
        pieces.insert(20, piece(1_000_000));
        build(&mut lists, &pieces, Chunker::Content);
        assert!(lists.0.len() - before <= 6, "{} new nodes", lists.0.len() - before);
    }

    #[test]
    fn holes_and_zeros_stay_apart_and_join_their_like() {
        let mut lists = Lists::default();
        let pieces = [Piece::Hole(5), Piece::Hole(6), Piece::Zeros(1), Piece::Zeros(2), piece(1)];
        let joined = [Piece::Hole(11), Piece::Zeros(3), piece(1)];
        let few = build(&mut lists, &pieces, Chunker::Content);
        assert_eq!(few, Content::Pieces(Chunker::Content, joined.to_vec()));
        let many = pieces.repeat(6);
        let Content::List(root) = build(&mut lists, &many, Chunker::Content) else { panic!("a list") };
        assert_eq!(read(&lists, root, 6 * 1014).unwrap(), joined.repeat(6));
        assert!(read(&lists, root, 6 * 1014 + 1).is_err());
        let whole = [Piece::Hole(i64::MAX as u64)];
        let Content::Pieces(_, pieces) = build(&mut lists, &whole, Chunker::Content) else { panic!("few") };
        let sum: u64 = pieces.iter().map(Piece::bytes).sum();
        assert_eq!(sum, i64::MAX as u64);
        assert_eq!(build(&mut lists, &[], Chunker::Content), Content::Empty);
        assert!(matches!(build(&mut lists, &[piece(1)], Chunker::Content), Content::Chunk(_)));
    }
}
