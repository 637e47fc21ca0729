//! Chunk lists: where a large file's bytes are, as a tree of nodes. `docs/format/tree.md#chunk-lists`

use crate::limits::{CHUNK_BYTES_MAX, NODE_DEPTH_MAX, PIECE_BYTES_MAX};
use crate::wire::{Reader, Write};
use crate::{ChunkId, Result};

/// A stretch of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// A chunk of that many bytes.
    Chunk(ChunkId, u32),
    /// Bytes that the file system never allocated.
    Hole(u64),
    /// Zero bytes that were allocated.
    Zeros(u64),
}

impl Piece {
    /// Length in bytes.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Chunk(_, bytes) => u64::from(*bytes),
            Self::Hole(bytes) | Self::Zeros(bytes) => *bytes,
        }
    }

    /// The chunk that it needs.
    pub fn chunk(&self) -> Option<ChunkId> {
        match self {
            Self::Chunk(id, _) => Some(*id),
            Self::Hole(_) | Self::Zeros(_) => None,
        }
    }
}

/// A child of an inner list node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListChild {
    /// The child node.
    pub id: ChunkId,
    /// Bytes of the file below it.
    pub bytes: u64,
}

/// A decoded list node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListNode {
    /// Height 0.
    Leaf(Vec<Piece>),
    /// Its height, and its children.
    Inner(u8, Vec<ListChild>),
}

const CHUNK: u64 = 0;
const HOLE: u64 = 1;
const ZEROS: u64 = 2;

impl ListNode {
    /// Most items of one node; writers stay far below.
    pub const ITEMS_MAX: u32 = 1 << 16;

    /// The node's bytes.
    ///
    /// # Panics
    /// When a hole or run of zeros is longer than [`PIECE_BYTES_MAX`].
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Self::Leaf(pieces) => {
                bytes.push(0);
                encode_pieces(pieces, &mut bytes);
            }
            Self::Inner(height, children) => {
                bytes.push(*height);
                bytes.put_varint(children.len() as u64);
                for child in children {
                    bytes.put_varint(child.bytes);
                    bytes.extend_from_slice(&child.id.0);
                }
            }
        }
        bytes
    }

    /// Reads a node that stands for `expected` bytes of the file.
    pub fn decode(bytes: &[u8], expected: u64) -> Result<Self> {
        let mut reader = Reader::new(bytes, "chunk list");
        let height = reader.u8()?;
        if height >= NODE_DEPTH_MAX {
            return Err(reader.damaged("it is too high"));
        }
        let node = if height == 0 {
            Self::Leaf(decode_pieces(&mut reader, Self::ITEMS_MAX, expected)?)
        } else {
            let mut left = Left(expected);
            let mut children = Vec::new();
            for _ in 0..reader.varint_max(Self::ITEMS_MAX)? {
                let bytes = reader.varint()?;
                left.take(&reader, bytes)?;
                children.push(ListChild { bytes, id: ChunkId(reader.array()?) });
            }
            left.finish(&reader)?;
            Self::Inner(height, children)
        };
        reader.finish()?;
        Ok(node)
    }

    /// Height above the leaves.
    pub fn height(&self) -> u8 {
        match self {
            Self::Leaf(_) => 0,
            Self::Inner(height, _) => *height,
        }
    }
}

/// Appends the number of pieces, and the pieces.
///
/// # Panics
/// When a hole or run of zeros is longer than [`PIECE_BYTES_MAX`]: its length would lose bits.
pub(crate) fn encode_pieces(pieces: &[Piece], output: &mut Vec<u8>) {
    let head = |length: u64, kind: u64| {
        assert!(length <= PIECE_BYTES_MAX, "longer pieces are split by the writer");
        length << 2 | kind
    };
    output.put_varint(pieces.len() as u64);
    for piece in pieces {
        match piece {
            Piece::Chunk(id, length) => {
                output.put_varint(head(u64::from(*length), CHUNK));
                output.extend_from_slice(&id.0);
            }
            Piece::Hole(length) => output.put_varint(head(*length, HOLE)),
            Piece::Zeros(length) => output.put_varint(head(*length, ZEROS)),
        }
    }
}

/// Reads what [`encode_pieces`] wrote: at most `count_max` pieces that are `expected` bytes together.
pub(crate) fn decode_pieces(reader: &mut Reader<'_>, count_max: u32, expected: u64) -> Result<Vec<Piece>> {
    let mut left = Left(expected);
    let mut pieces = Vec::new();
    for _ in 0..reader.varint_max(count_max)? {
        let piece = decode_piece(reader)?;
        left.take(reader, piece.bytes())?;
        pieces.push(piece);
    }
    left.finish(reader)?;
    Ok(pieces)
}

/// Bytes of the file that no item accounts for yet.
struct Left(u64);

impl Left {
    fn take(&mut self, reader: &Reader<'_>, bytes: u64) -> Result<()> {
        let left = self.0.checked_sub(bytes).filter(|_| bytes > 0);
        self.0 =
            left.ok_or_else(|| reader.damaged("a piece is empty, or longer than what is left of the file"))?;
        Ok(())
    }

    fn finish(&self, reader: &Reader<'_>) -> Result<()> {
        match self.0 {
            0 => Ok(()),
            left => Err(reader.damaged(format!("its pieces lack {left} bytes of the file"))),
        }
    }
}

fn decode_piece(reader: &mut Reader<'_>) -> Result<Piece> {
    let head = reader.varint()?;
    let length = head >> 2;
    match head & 3 {
        CHUNK if length <= u64::from(CHUNK_BYTES_MAX) => {
            Ok(Piece::Chunk(ChunkId(reader.array()?), length as u32))
        }
        CHUNK => Err(reader.damaged("a chunk is too long")),
        HOLE => Ok(Piece::Hole(length)),
        ZEROS => Ok(Piece::Zeros(length)),
        _ => Err(reader.damaged("a piece is of no known kind")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_node_reads_back(lengths in proptest::collection::vec((0u8..3, 1u32..CHUNK_BYTES_MAX), 0..50)) {
            let pieces: Vec<Piece> = lengths
                .iter()
                .map(|(kind, bytes)| match kind {
                    0 => Piece::Chunk(ChunkId([1; ChunkId::BYTES]), *bytes),
                    1 => Piece::Hole(u64::from(*bytes) << 20),
                    _ => Piece::Zeros(u64::from(*bytes)),
                })
                .collect();
            let total = pieces.iter().map(Piece::bytes).sum();
            let node = ListNode::Leaf(pieces);
            prop_assert_eq!(ListNode::decode(&node.encode(), total).unwrap(), node.clone());
            prop_assert!(ListNode::decode(&node.encode(), total + 1).is_err());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, expected: u64) {
            let _ = ListNode::decode(&bytes, expected);
        }
    }

    #[test]
    fn lengths_that_overflow_and_empty_pieces_are_refused() {
        let inner = |bytes| {
            ListNode::Inner(1, vec![ListChild { id: ChunkId([0; ChunkId::BYTES]), bytes }; 2]).encode()
        };
        assert!(ListNode::decode(&inner(u64::MAX), u64::MAX).is_err());
        assert!(ListNode::decode(&inner(0), 0).is_err());
        assert!(ListNode::decode(&inner(5), 10).is_ok());
    }
}
