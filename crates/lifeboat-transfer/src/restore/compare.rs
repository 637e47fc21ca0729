//! Compares what a file holds with what the snapshot says, without asking the repository for any content.
//!
//! Must stay true: a piece is equal only if its bytes were read and have the piece's name, and are allocated where the
//! snapshot has them allocated and a hole where it has a hole. Nothing is written here.
//!
//! Read next: [`super::large`], where workers compare one file together, and [`super::patch`] for what comes of it.

use super::content::{Buffer, WRITE_BYTES};
use super::spans::Span;
use crate::pieces::{self, ChunkReader};
use lifeboat_format::list::Piece;
use rustix::fs::{SeekFrom, Stat};
use rustix::io::Errno;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a comparison found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// For each span, which of its pieces differ; `None` where it was not compared to its end.
    spans: Vec<Option<Differing>>,
    /// Bytes that would have to be written; holes are none.
    pub(super) bytes_differing: u64,
    /// Bytes that are there already; holes are none.
    pub(super) bytes_equal: u64,
    /// Whether anything has to be done: pieces differ, or the length does.
    pub(super) is_different: bool,
}

/// Which pieces of a span differ: one bit each, so that a file of 64 GB costs about half a megabyte.
#[derive(Debug)]
pub(super) struct Differing(Vec<u64>);

impl Differing {
    fn contains(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|bits| bits >> (number % 64) & 1 == 1)
    }
}

impl Findings {
    /// Of a file that was not compared yet.
    pub(super) fn of_length(stat: &Stat, size: u64) -> Self {
        Self { is_different: u64::try_from(stat.st_size) != Ok(size), ..Self::default() }
    }

    /// Takes in one span.
    pub(super) fn add(&mut self, number: usize, compared: Option<Compared>) {
        if self.spans.len() <= number {
            self.spans.resize_with(number + 1, || None);
        }
        match compared {
            None => self.is_different = true,
            Some(compared) => {
                self.bytes_differing += compared.bytes_differing;
                self.bytes_equal += compared.bytes_equal;
                self.is_different |= compared.is_different;
                self.spans[number] = Some(compared.differing);
            }
        }
    }

    /// Whether every span was compared.
    pub(super) fn are_complete(&self, spans: usize) -> bool {
        self.spans.len() == spans && self.spans.iter().all(Option::is_some)
    }

    /// Whether this piece of this span has to be written.
    pub(super) fn differs(&self, span: usize, piece: usize) -> bool {
        match self.spans.get(span) {
            Some(Some(differing)) => differing.contains(piece),
            _ => true,
        }
    }
}

/// What the comparison of one span found.
pub(super) struct Compared {
    differing: Differing,
    bytes_differing: u64,
    bytes_equal: u64,
    is_different: bool,
}

/// Reads one file to compare it.
pub(super) struct Comparer<'c> {
    reader: &'c dyn ChunkReader,
    interrupt: &'c AtomicBool,
    file: BorrowedFd<'c>,
    bytes: u64,
    block: u64,
    /// A stretch without holes: most files are one, and one question serves all their pieces.
    data: Range<u64>,
}

impl<'c> Comparer<'c> {
    pub(super) fn new(
        reader: &'c dyn ChunkReader,
        interrupt: &'c AtomicBool,
        file: BorrowedFd<'c>,
        stat: &Stat,
    ) -> Self {
        let bytes = u64::try_from(stat.st_size).unwrap_or(0);
        let block = u64::try_from(stat.st_blksize).unwrap_or(1).max(1);
        Self { reader, interrupt, file, bytes, block, data: 0..0 }
    }

    /// Compares the pieces of a span; `None` when interrupted.
    pub(super) fn span(&mut self, buffer: &mut Buffer, span: &Span) -> Option<Compared> {
        let mut bits = vec![0u64; span.pieces.len().div_ceil(64)];
        let (mut bytes_differing, mut bytes_equal, mut is_different) = (0, 0, false);
        let mut offset = span.offset;
        for (number, piece) in span.pieces.iter().enumerate() {
            if self.interrupt.load(Ordering::Relaxed) {
                return None;
            }
            let cost = if matches!(piece, Piece::Hole(_)) { 0 } else { piece.bytes() };
            // What cannot be read is not equal: it is written, and the system says then what is wrong.
            if self.is_equal(buffer, offset, piece).unwrap_or(false) {
                bytes_equal += cost;
            } else {
                bits[number / 64] |= 1 << (number % 64);
                bytes_differing += cost;
                is_different = true;
            }
            offset = offset.saturating_add(piece.bytes());
        }
        Some(Compared { differing: Differing(bits), bytes_differing, bytes_equal, is_different })
    }

    /// Compares the whole file up to the first difference, and gives its bytes where there is none.
    pub(super) fn whole(
        &mut self,
        buffer: &mut Buffer,
        size: u64,
        pieces: impl Iterator<Item = Result<Piece, pieces::Error>>,
    ) -> Option<u64> {
        let (mut offset, mut bytes) = (0, 0);
        if self.bytes != size {
            return None;
        }
        for piece in pieces {
            // A list that cannot be read is reported by whoever needs its content.
            let piece = piece.ok().filter(|_| !self.interrupt.load(Ordering::Relaxed))?;
            self.is_equal(buffer, offset, &piece).ok().filter(|is_equal| *is_equal)?;
            offset += piece.bytes();
            bytes += if matches!(piece, Piece::Hole(_)) { 0 } else { piece.bytes() };
        }
        Some(bytes)
    }

    fn is_equal(&mut self, buffer: &mut Buffer, offset: u64, piece: &Piece) -> Result<bool, Errno> {
        match *piece {
            Piece::Chunk(id, bytes) => Ok(self.is_data(offset, bytes.into())
                && read(self.file, offset, bytes as usize, &mut buffer.found)?
                && self.reader.is_chunk(&id, &buffer.found)),
            Piece::Zeros(bytes) => {
                Ok(self.is_data(offset, bytes) && self.is_zero(buffer, offset..offset + bytes)?)
            }
            Piece::Hole(bytes) => self.is_hole(buffer, offset, bytes),
        }
    }

    /// Whether a stretch lies in the file and has no hole in it.
    pub(super) fn is_data(&mut self, offset: u64, bytes: u64) -> bool {
        let Some(end) = offset.checked_add(bytes).filter(|end| *end <= self.bytes) else { return false };
        if self.data.start <= offset && end <= self.data.end {
            return true;
        }
        match rustix::fs::seek(self.file, SeekFrom::Hole(offset)) {
            Ok(hole) => self.data = offset..hole,
            // The file system cannot tell: everything is data.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => self.data = 0..u64::MAX,
            Err(_) => return false,
        }
        end <= self.data.end
    }

    /// Whether a stretch is a hole, as far as this file system's blocks allow: their edges hold zeros instead.
    fn is_hole(&mut self, buffer: &mut Buffer, offset: u64, bytes: u64) -> Result<bool, Errno> {
        let Some(end) = offset.checked_add(bytes).filter(|end| *end <= self.bytes) else { return Ok(false) };
        let last = if end == self.bytes { end } else { end / self.block * self.block };
        let first = offset.next_multiple_of(self.block).min(end);
        if last <= first {
            return self.is_zero(buffer, offset..end);
        }
        let is_hole = match rustix::fs::seek(self.file, SeekFrom::Data(first)) {
            Ok(data) => data >= last,
            Err(Errno::NXIO) => true,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => self.is_zero(buffer, first..last)?,
            Err(error) => return Err(error),
        };
        Ok(is_hole && self.is_zero(buffer, offset..first)? && self.is_zero(buffer, last..end)?)
    }

    fn is_zero(&self, buffer: &mut Buffer, mut stretch: Range<u64>) -> Result<bool, Errno> {
        while !stretch.is_empty() {
            let now = (stretch.end - stretch.start).min(WRITE_BYTES as u64);
            if self.interrupt.load(Ordering::Relaxed)
                || !read(self.file, stretch.start, now as usize, &mut buffer.found)?
                || !buffer.found.iter().all(|byte| *byte == 0)
            {
                return Ok(false);
            }
            stretch.start += now;
        }
        Ok(true)
    }
}

/// Reads so many bytes; `false` where the file ends before.
pub(super) fn read(
    file: BorrowedFd<'_>,
    offset: u64,
    bytes: usize,
    found: &mut Vec<u8>,
) -> Result<bool, Errno> {
    found.resize(bytes, 0);
    let mut filled = 0;
    while filled < bytes {
        match rustix::io::pread(file, &mut found[filled..], offset + filled as u64) {
            Ok(0) => return Ok(false),
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
