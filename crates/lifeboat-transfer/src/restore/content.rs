//! Writes a regular file's bytes, and reads them back to compare.
//!
//! Must stay true: bytes reach the file only after the repository vouched for their chunk and the length fits the
//! list. Holes stay holes, and zeros are written as zeros: `fallocate` would leave what SEEK_HOLE calls a hole, and the
//! next backup would find another file than the one that was restored.

use super::compare;
use super::existing::Old;
use super::run::Run;
use crate::pieces;
use crate::pieces::ChunkReader;
use lifeboat_format::ChunkId;
use lifeboat_format::limits::CHUNK_BYTES_MAX;
use lifeboat_format::list::Piece;
use lifeboat_format::region::ChunkKind;
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

/// Bytes gathered for one write: small files take one system call, large ones keep within the processor's cache.
pub(super) const WRITE_BYTES: usize = 1 << 20;

/// Why a file has not got its content.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The repository cannot give it.
    Content(String),
    /// The file system does not take it.
    Write(Errno),
    /// A file that was being changed in its place is neither what it was nor what it should be.
    Mixed(String),
    /// The caller wants to stop.
    Interrupted,
}

impl From<Errno> for Trouble {
    fn from(error: Errno) -> Self {
        Self::Write(error)
    }
}

impl From<pieces::Error> for Trouble {
    fn from(error: pieces::Error) -> Self {
        Self::Content(with_causes(&error))
    }
}

/// An error and what is behind it, in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// The buffer of one worker.
pub(super) struct Buffer {
    gathered: Vec<u8>,
    /// What is read from a file; empty until that is needed.
    pub(super) found: Vec<u8>,
}

impl Buffer {
    pub(super) fn new() -> Self {
        // Pages that are never touched cost nothing.
        Self { gathered: Vec::with_capacity(WRITE_BYTES + CHUNK_BYTES_MAX as usize), found: Vec::new() }
    }
}

/// What has been written.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Written {
    /// Bytes; holes are not counted.
    pub(super) bytes: u64,
    /// Whether the last piece is a hole, so that the file is still too short.
    pub(super) ends_in_hole: bool,
}

/// Writes the pieces from `offset` on; holes are passed over. Chunks that `old` has at the same place are taken from there,
/// once their bytes turn out to have the right name.
pub(super) fn write(
    run: &Run<'_>,
    buffer: &mut Buffer,
    file: impl AsFd,
    mut offset: u64,
    pieces: impl Iterator<Item = Result<Piece, pieces::Error>>,
    old: Option<&Old>,
) -> Result<Written, Trouble> {
    let mut written = 0;
    let mut ends_in_hole = false;
    let Buffer { gathered, found } = buffer;
    gathered.clear();
    for piece in pieces {
        let piece = piece?;
        ends_in_hole = matches!(piece, Piece::Hole(_));
        match piece {
            Piece::Chunk(id, bytes) => {
                let at = offset + gathered.len() as u64;
                let has_old = old.is_some_and(|old| {
                    compare::read(old.fd.as_fd(), at, bytes as usize, found) == Ok(true)
                        && run.reader.is_chunk(&id, found)
                });
                if has_old {
                    gathered.extend_from_slice(found);
                } else {
                    read_chunk(run.reader, &id, bytes, gathered)?;
                }
            }
            Piece::Zeros(mut bytes) => {
                while bytes > 0 {
                    let now = bytes.min(WRITE_BYTES as u64);
                    gathered.resize(gathered.len() + now as usize, 0);
                    bytes -= now;
                    if gathered.len() >= WRITE_BYTES {
                        written += flush(run, &file, &mut offset, gathered)?;
                    }
                }
            }
            Piece::Hole(bytes) => {
                written += flush(run, &file, &mut offset, gathered)?;
                offset = offset.checked_add(bytes).ok_or(Errno::FBIG)?;
            }
        }
        if gathered.len() >= WRITE_BYTES {
            written += flush(run, &file, &mut offset, gathered)?;
        }
    }
    written += flush(run, &file, &mut offset, gathered)?;
    Ok(Written { bytes: written, ends_in_hole })
}

fn read_chunk(
    reader: &dyn ChunkReader,
    id: &ChunkId,
    bytes: u32,
    output: &mut Vec<u8>,
) -> Result<(), Trouble> {
    let before = output.len();
    reader
        .read_chunk(ChunkKind::Data, id, output)
        .map_err(|error| Trouble::Content(format!("chunk {id}: {}", with_causes(&*error))))?;
    let found = output.len().saturating_sub(before) as u64;
    if found == u64::from(bytes) {
        Ok(())
    } else {
        Err(Trouble::Content(format!("chunk {id} is {found} bytes long instead of {bytes}")))
    }
}

fn flush(run: &Run<'_>, file: impl AsFd, offset: &mut u64, gathered: &mut Vec<u8>) -> Result<u64, Trouble> {
    if run.is_interrupted() {
        return Err(Trouble::Interrupted);
    }
    let bytes = gathered.len() as u64;
    write_all(file, offset, gathered)?;
    gathered.clear();
    Ok(bytes)
}

/// Writes all bytes at `offset`, which ends up behind them.
pub(super) fn write_all(file: impl AsFd, offset: &mut u64, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(&file, bytes, *offset) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => {
                bytes = &bytes[count..];
                *offset += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Compares a file with the repository, byte by byte.
pub(super) fn compare(
    run: &Run<'_>,
    buffer: &mut Buffer,
    file: BorrowedFd<'_>,
    size: u64,
    pieces: impl Iterator<Item = Result<Piece, pieces::Error>>,
) -> Result<(), Trouble> {
    let stat = rustix::fs::fstat(file)?;
    if u64::try_from(stat.st_size) != Ok(size) {
        return Err(differs(0));
    }
    let Buffer { gathered: wanted, found } = buffer;
    let mut offset = 0u64;
    for piece in pieces {
        if run.is_interrupted() {
            return Err(Trouble::Interrupted);
        }
        let piece = piece?;
        wanted.clear();
        if let Piece::Chunk(id, bytes) = piece {
            read_chunk(run.reader, &id, bytes, wanted)?;
            compare_bytes(file, offset, wanted, found)?;
        } else if !is_hole(file, offset, piece.bytes()) {
            wanted.resize(WRITE_BYTES, 0);
            let mut done = 0;
            while done < piece.bytes() {
                let now = (piece.bytes() - done).min(WRITE_BYTES as u64);
                compare_bytes(file, offset + done, &wanted[..now as usize], found)?;
                done += now;
            }
        }
        offset += piece.bytes();
    }
    Ok(())
}

/// A stretch without any data reads as zeros; reading terabytes of them would prove no more.
fn is_hole(file: BorrowedFd<'_>, offset: u64, bytes: u64) -> bool {
    match rustix::fs::seek(file, SeekFrom::Data(offset)) {
        Ok(data) => data >= offset + bytes,
        Err(error) => error == Errno::NXIO,
    }
}

fn compare_bytes(
    file: BorrowedFd<'_>,
    offset: u64,
    wanted: &[u8],
    found: &mut Vec<u8>,
) -> Result<(), Trouble> {
    let is_there = compare::read(file, offset, wanted.len(), found)?;
    if is_there && *found == wanted { Ok(()) } else { Err(differs(offset)) }
}

fn differs(offset: u64) -> Trouble {
    Trouble::Content(format!("what was written reads back otherwise at byte {offset} or soon after"))
}

impl fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Content(detail) => formatter.write_str(detail),
            Self::Write(error) => write!(formatter, "{error}"),
            Self::Mixed(detail) => write!(formatter, "{detail}; it is partly what it was before"),
            Self::Interrupted => formatter.write_str("interrupted"),
        }
    }
}
