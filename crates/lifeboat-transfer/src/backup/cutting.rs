//! One file or stream on its way from bytes to a chunk list: how it is cut, and what the parent says about it.
//!
//! Must stay true: content that did not change gets the list that it had, and the same list as a fresh cut would give,
//! but for one difference that harms nothing: a cut depends on the byte behind the chunk too, so that a chunk may be kept
//! where a fresh cut would go on. Page files are cut at multiples of their page, wherever holes and zeros lie.

use super::hint::{Earlier, Hint};
use crate::pieces::ChunkReader;
use lifeboat_chunker::Cutter;
use lifeboat_format::entry::Chunker;
use lifeboat_format::keys::Keys;
use lifeboat_format::list::Piece;
use lifeboat_format::region::ChunkKind;
use lifeboat_format::{ChunkId, Content};
use lifeboat_repo::lists::ListBuilder;
use lifeboat_repo::sink::ChunkSink;
use std::ops::Range;

/// A chunk's place is known to the repository, or has to be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// A pinned parent has it.
    Pinned,
    /// The index knows.
    Ask,
}

/// The next piece of a file.
pub(crate) struct Cut {
    pub(crate) bytes: usize,
    pub(crate) piece: Piece,
    pub(crate) known: Known,
    /// Whether its end had to be searched for.
    pub(crate) was_scanned: bool,
}

/// A file's list as it grows.
pub(crate) struct Cutting<'r> {
    list: ListBuilder,
    page: Option<usize>,
    hint: Option<Hint<'r>>,
}

impl<'r> Cutting<'r> {
    pub(crate) fn new(chunker: Chunker) -> Self {
        let page = chunker.page_bytes().map(|bytes| bytes as usize);
        Self { list: ListBuilder::new(chunker), page, hint: None }
    }

    /// Goes along with the list of `earlier`, if that was cut alike.
    pub(crate) fn with_hint(
        chunker: Chunker,
        reader: &'r dyn ChunkReader,
        earlier: Option<&Earlier>,
    ) -> Self {
        let alike = earlier.filter(|earlier| earlier.chunker(0) == Some(chunker));
        Self { hint: alike.map(|earlier| Hint::new(reader, earlier)), ..Self::new(chunker) }
    }

    /// Bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.list.bytes()
    }

    /// Lengths of the next pieces of `data`, where no parent has a say in it: pages, and content that nobody read before.
    /// What is left over is too short to cut before more is read.
    pub(crate) fn lengths(&self, cutter: &Cutter, data: &[u8], is_end: bool) -> Option<Vec<usize>> {
        if self.page.is_none() && self.hint.is_some() {
            return None;
        }
        let sight = self.page.unwrap_or(cutter.bytes_max());
        let mut lengths = Vec::new();
        let mut start = 0;
        while start < data.len() && (is_end || data.len() - start >= sight) {
            let rest = &data[start..];
            let length = match self.page {
                // Holes may begin and end inside a page, as in compressed tablespaces: the next cut is at its end again.
                Some(page) => {
                    let position = self.list.bytes() + start as u64;
                    (page - (position % page as u64) as usize).min(rest.len())
                }
                None => cutter.cut(rest),
            };
            lengths.push(length);
            start += length;
        }
        Some(lengths)
    }

    /// What the parent knows of a piece whose length it had no say in.
    pub(crate) fn known(&mut self, piece: &Piece) -> Known {
        let position = self.list.bytes();
        if let (Some(hint), Piece::Chunk(id, bytes)) = (&mut self.hint, piece)
            && hint.page_at(position) == Some((*id, *bytes as usize))
        {
            return known(hint);
        }
        Known::Ask
    }

    /// Whether [`Self::lengths`] searches for cuts.
    pub(crate) fn is_scanned(&self) -> bool {
        self.page.is_none()
    }

    /// The first piece of `data`, which is the rest or as much as the longest chunk, by the parent's list.
    pub(crate) fn next(&mut self, cutter: &Cutter, keys: &Keys, data: &[u8], is_end: bool) -> Cut {
        let bytes_max = data.len().min(cutter.bytes_max()) as u64;
        let expected = self.hint.as_mut().and_then(|hint| hint.expected(bytes_max));
        // The end of the data cut the parent's last chunk: it counts only where the data ends here too.
        let expected = expected.filter(|(_, bytes, is_last)| !is_last || (is_end && *bytes == data.len()));
        let mut named = None;
        if let (Some(hint), Some((expected_id, bytes, _))) = (&mut self.hint, expected) {
            let id = keys.chunk_id(ChunkKind::Data, &data[..bytes]);
            if id == expected_id {
                hint.confirm();
                let piece = Piece::Chunk(id, bytes as u32);
                return Cut { bytes, piece, known: known(hint), was_scanned: false };
            }
            named = Some((bytes, id));
        }
        let bytes = cutter.cut(data);
        let piece = match named {
            Some((length, id)) if length == bytes && !is_zero(&data[..bytes]) => {
                Piece::Chunk(id, bytes as u32)
            }
            _ => name(keys, &data[..bytes]),
        };
        let position = self.list.bytes();
        let is_known = self.hint.as_mut().is_some_and(|hint| hint.observe(position, &piece));
        let known = if is_known { Known::Pinned } else { Known::Ask };
        Cut { bytes, piece, known, was_scanned: true }
    }

    /// Appends a piece.
    pub(crate) fn push(
        &mut self,
        piece: Piece,
        sink: &mut ChunkSink,
        keys: &Keys,
    ) -> lifeboat_repo::Result<()> {
        let hint = &self.hint;
        self.list.push(piece, &mut |node| put(hint.as_ref(), sink, keys, &node))
    }

    /// Appends bytes that the file system never allocated.
    pub(crate) fn hole(
        &mut self,
        bytes: u64,
        sink: &mut ChunkSink,
        keys: &Keys,
    ) -> lifeboat_repo::Result<()> {
        let piece = Piece::Hole(bytes);
        let position = self.list.bytes();
        if let (None, Some(hint)) = (self.page, &mut self.hint)
            && bytes > 0
        {
            hint.observe(position, &piece);
        }
        self.push(piece, sink, keys)
    }

    /// Ends the file.
    pub(crate) fn finish(self, sink: &mut ChunkSink, keys: &Keys) -> lifeboat_repo::Result<Content> {
        let hint = self.hint;
        self.list.finish(&mut |node| put(hint.as_ref(), sink, keys, &node))
    }
}

fn known(hint: &Hint<'_>) -> Known {
    if hint.is_pinned() { Known::Pinned } else { Known::Ask }
}

/// Stores a list node, unless a pinned parent has it.
fn put(
    hint: Option<&Hint<'_>>,
    sink: &mut ChunkSink,
    keys: &Keys,
    node: &[u8],
) -> lifeboat_repo::Result<ChunkId> {
    if let Some(hint) = hint {
        let id = keys.chunk_id(ChunkKind::List, node);
        if hint.has_node(&id) {
            return Ok(id);
        }
    }
    sink.add(ChunkKind::List, node)
}

/// Pieces of `buffer`, named all together. Zeros are not stored.
pub(crate) fn names(keys: &Keys, buffer: &[u8], ranges: &[Range<usize>]) -> Vec<Piece> {
    let parts: Vec<(&[u8], bool)> = ranges
        .iter()
        .map(|range| {
            let part = &buffer[range.clone()];
            (part, is_zero(part))
        })
        .collect();
    let chunks: Vec<&[u8]> = parts.iter().filter(|(_, zeros)| !zeros).map(|(part, _)| *part).collect();
    let mut ids = keys.chunk_ids(ChunkKind::Data, &chunks).into_iter();
    parts
        .iter()
        .filter_map(|(part, zeros)| match zeros {
            true => Some(Piece::Zeros(part.len() as u64)),
            false => ids.next().map(|id| Piece::Chunk(id, part.len() as u32)),
        })
        .collect()
}

/// Zeros are not stored.
fn name(keys: &Keys, data: &[u8]) -> Piece {
    if is_zero(data) {
        Piece::Zeros(data.len() as u64)
    } else {
        Piece::Chunk(keys.chunk_id(ChunkKind::Data, data), data.len() as u32)
    }
}

pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    // Most chunks fail at their first byte; the rest is compared 16 bytes at a time.
    let (head, body, tail) = (bytes.first().copied().unwrap_or(0), bytes.as_chunks::<16>(), 0u128);
    head == 0
        && body.0.iter().all(|block| u128::from_ne_bytes(*block) == tail)
        && body.1.iter().all(|byte| *byte == 0)
}
