//! Small files wait in the read buffer, so that their chunks are named many at a time.
//!
//! Must stay true: a piece holds a *ticket*, the number of its name among [`ContentWriter::named`], from
//! [`ContentWriter::wait_for_name`] to [`ContentWriter::redeem`]. Whoever is given [`Stored::is_waiting`] keeps the entry to
//! itself until it has called [`ContentWriter::store_buffered`] and redeemed the content; only then are the tickets
//! forgotten. A list's node is never made of tickets.

use super::inputs::read_some;
use super::{ContentWriter, Failure, Stored};
use crate::backup::cutting::{Cutting, is_zero, names};
use lifeboat_format::entry::Chunker;
use lifeboat_format::list::Piece;
use lifeboat_format::region::ChunkKind;
use lifeboat_format::{ChunkId, Content};
use lifeboat_repo::lists::{INLINE_PIECES, ListBuilder};
use rustix::fd::OwnedFd;
use rustix::fs::SeekFrom;
use std::ops::Range;

impl<B> ContentWriter<'_, B> {
    /// The file is read behind those that wait in the buffer: one question to the index serves many files.
    pub(super) fn small_file(&mut self, file: &OwnedFd, size: usize) -> Result<Stored, Failure> {
        // One byte more than expected: reading it says that the file grew.
        let (start, end) = self.fill_small(size + 1, size, |room| read_some(file, room))?;
        if end - start > size {
            // It is longer than its status says, as files of pseudo file systems are: read it as a stream.
            rustix::fs::seek(file, SeekFrom::Start(0))?;
            let mut cutting = Cutting::new(Chunker::Content);
            self.stretch(&mut cutting, None, |buffer, _| read_some(file, buffer))?;
            return self.finish_cutting(cutting);
        }
        self.name_small(start, end)
    }

    /// Reads up to `size` bytes behind what waits in the buffer, and asks no further where there are `expected` of them;
    /// gives where they begin and end.
    pub(super) fn fill_small(
        &mut self,
        size: usize,
        expected: usize,
        mut read: impl FnMut(&mut [u8]) -> Result<Option<usize>, Failure>,
    ) -> Result<(usize, usize), Failure> {
        if self.filled + size > self.buffer.len() {
            self.store_buffered()?;
        }
        let start = self.filled;
        let mut end = start;
        while end - start < size {
            match read(&mut self.buffer[end..start + size])? {
                Some(0) => break,
                Some(length) => end += length,
                None => {}
            }
            if end - start == expected {
                break;
            }
        }
        Ok((start, end))
    }

    /// Cuts and names what was read last, and leaves it in the buffer.
    pub(super) fn name_small(&mut self, start: usize, end: usize) -> Result<Stored, Failure> {
        let length = end - start;
        self.filled = end;
        self.count_read(length as u64);
        let mut cuts = Vec::new();
        let mut position = start;
        while position < end {
            let cut = position..position + self.cutter.cut(&self.buffer[position..end]);
            position = cut.end;
            cuts.push(cut);
        }
        // Nodes of a list need names; chunks so short that a small file has a list are not the default.
        let is_waiting = cuts.len() <= INLINE_PIECES;
        let pieces = match is_waiting {
            true => cuts.into_iter().map(|cut| self.wait_for_name(cut)).collect(),
            false => self.name_now(cuts),
        };
        let mut list = ListBuilder::new(Chunker::Content);
        let sink = &mut self.sink;
        let mut put = |node: Vec<u8>| sink.add(ChunkKind::List, &node);
        for piece in pieces {
            list.push(piece, &mut put)?;
        }
        Ok(Stored { content: list.finish(&mut put)?, bytes: length as u64, is_waiting })
    }

    fn name_now(&mut self, cuts: Vec<Range<usize>>) -> Vec<Piece> {
        let pieces = names(self.session.repository().keys(), &self.buffer, &cuts);
        for (piece, cut) in pieces.iter().zip(cuts) {
            if let Piece::Chunk(id, _) = piece {
                self.chunks.push((*id, cut));
            }
        }
        pieces
    }

    /// A piece with a ticket in the place of its name, unless it is all zeros.
    fn wait_for_name(&mut self, range: Range<usize>) -> Piece {
        if is_zero(&self.buffer[range.clone()]) {
            return Piece::Zeros(range.len() as u64);
        }
        let ticket = (self.named.len() + self.waiting.len()) as u64;
        let mut id = [0; ChunkId::BYTES];
        id[..8].copy_from_slice(&ticket.to_le_bytes());
        let bytes = range.len() as u32;
        self.waiting.push(range);
        Piece::Chunk(ChunkId(id), bytes)
    }

    /// Puts names where the tickets are. All of what waits must be stored by then.
    pub(crate) fn redeem(&self, content: &mut Content) {
        let named = |id: &mut ChunkId| {
            if let Some(ticket) = id.0.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)) {
                *id = self.named[ticket as usize];
            }
        };
        match content {
            Content::Chunk(id) => named(id),
            Content::Pieces(_, pieces) => pieces.iter_mut().for_each(|piece| {
                if let Piece::Chunk(id, _) = piece {
                    named(id);
                }
            }),
            // A small file has too few pieces for a list.
            Content::List(_) | Content::Empty => {}
        }
    }

    /// All tickets are redeemed: the next one has number 0 again.
    pub(crate) fn forget_tickets(&mut self) {
        self.named.clear();
    }
}
