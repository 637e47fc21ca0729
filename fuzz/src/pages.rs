//! Recognising a database file by its content. No decoder, but it reads bytes that anybody may have written.
//!
//! Must stay true: a file may end before its size and fail at any read, because it changes while it is looked at.

use lifeboat_chunker::pages::{ReadAt, recognise};
use lifeboat_format::entry::Chunker;
use std::cell::Cell;
use std::io::{Error, Result};

/// Heads of pages that one file is looked at for, at most: the first, bbolt's second, and twelve for each of five page
/// sizes and two programs.
const READS_MAX: u32 = 2 + 12 * 5 * 2;

/// A file that counts what is read of it, and fails at one read.
struct Probed<'b> {
    bytes: &'b [u8],
    reads: Cell<u32>,
    fails_at: u32,
}

impl ReadAt for Probed<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.reads.set(self.reads.get() + 1);
        assert!(buffer.len() <= 128, "no more than the heads of pages is read");
        if self.reads.get() == self.fails_at {
            return Err(Error::other("the disk is gone"));
        }
        self.bytes.read_at(buffer, offset)
    }
}

/// Eight bytes for the size that the file was said to have, then the file.
pub fn pages(bytes: &[u8]) -> bool {
    let Some((size, bytes)) = bytes.split_first_chunk() else {
        return false;
    };
    let size = u64::from_le_bytes(*size);
    let with_failure = |fails_at| {
        let file = Probed { bytes, reads: Cell::new(0), fails_at };
        (recognise(&file, size), file.reads.get())
    };
    let (found, reads) = with_failure(0);
    assert!(reads <= READS_MAX, "{reads} reads");
    assert_eq!(with_failure(0), (found, reads), "the same file is cut the same way");
    for fails_at in 1..=reads {
        assert_eq!(with_failure(fails_at).0, Chunker::Content, "what cannot be read is cut by content");
    }
    found != Chunker::Content
}
