//! From bytes to chunks: cuts, names and stores the content of files and streams.
//!
//! Must stay true: a byte is copied once, from the read buffer into its region, and only if its chunk is new. Chunks are
//! named many at a time, which is a third to a half faster than one by one: small files wait in the buffer for that.
//!
//! Read next: [`small`], [`members`], then [`super::cutting`].

mod inputs;
mod members;
mod small;

use super::Counters;
use super::cutting::{Cutting, Known, names};
use super::hint::Earlier;
use super::queue::WorkQueue;
use inputs::{OpenFile, read_at, read_some, read_stream};
use lifeboat_chunker::Cutter;
use lifeboat_chunker::pages::recognise;
use lifeboat_format::entry::Chunker;
use lifeboat_format::list::Piece;
use lifeboat_format::region::ChunkKind;
use lifeboat_format::{ChunkId, Content, XattrValue};
use lifeboat_repo::reader::ChunkReader;
use lifeboat_repo::session::Session;
use lifeboat_repo::sink::ChunkSink;
use rustix::fd::OwnedFd;
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::io::Read;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bytes that are read and cut before the index is asked about their chunks. With a longest chunk they fit a processor's
/// second-level cache: with 1 MiB the kernel took twice the time for copying them, and a first snapshot of a PostgreSQL cluster
/// 6 % longer, of source code 5 %. With 128 KiB too few chunks of small files are named together.
const BUFFER_BYTES: usize = 256 << 10;

/// Why content could not be stored.
pub(crate) enum Failure {
    /// The file: report it and go on.
    File(std::io::Error),
    /// The repository: give up.
    Repository(lifeboat_repo::Error),
}

impl From<lifeboat_repo::Error> for Failure {
    fn from(error: lifeboat_repo::Error) -> Self {
        Self::Repository(error)
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::File(errno.into())
    }
}

/// The content of one file or stream.
pub(crate) struct Stored {
    pub(crate) content: Content,
    pub(crate) bytes: u64,
    /// Whether its pieces hold tickets.
    pub(crate) is_waiting: bool,
}

/// Takes the content of one file after the other, on one thread.
pub(crate) struct ContentWriter<'q, B> {
    session: Arc<Session>,
    sink: ChunkSink,
    cutter: Cutter,
    queue: &'q WorkQueue<B>,
    buffer: Vec<u8>,
    filled: usize,
    chunks: Vec<(ChunkId, Range<usize>)>,
    /// Chunks of small files that have no name yet.
    waiting: Vec<Range<usize>>,
    /// Names by ticket.
    named: Vec<ChunkId>,
    /// Bytes that the last file counted as read.
    counted: u64,
    reader: &'q ChunkReader,
    counters: &'q Counters,
}

impl<'q, B> ContentWriter<'q, B> {
    pub(crate) fn new(
        session: &Arc<Session>,
        cutter: &Cutter,
        queue: &'q WorkQueue<B>,
        reader: &'q ChunkReader,
        counters: &'q Counters,
    ) -> lifeboat_repo::Result<Self> {
        Ok(Self {
            session: session.clone(),
            sink: ChunkSink::new(session)?,
            cutter: cutter.clone(),
            queue,
            buffer: vec![0; BUFFER_BYTES + cutter.bytes_max()],
            filled: 0,
            chunks: Vec::new(),
            waiting: Vec::new(),
            named: Vec::new(),
            counted: 0,
            reader,
            counters,
        })
    }

    pub(crate) fn sink(&mut self) -> &mut ChunkSink {
        &mut self.sink
    }

    /// Stores the content of an open file whose length was `size` a moment ago; `earlier` is how the parent had it.
    ///
    /// The bytes differ from `size` when somebody writes.
    pub(crate) fn file(
        &mut self,
        file: &OwnedFd,
        size: u64,
        may_have_holes: bool,
        earlier: Option<&Earlier>,
    ) -> Result<Stored, Failure> {
        self.counted = 0;
        let bytes_max = self.cutter.bytes_max() as u64;
        if size < bytes_max && !may_have_holes {
            return self.small_file(file, size as usize);
        }
        // A file keeps its chunker: cut in another way, all of it would be new.
        let kept = earlier.and_then(|earlier| earlier.chunker(bytes_max));
        let chunker = match kept {
            Some(chunker) => chunker,
            None if size < bytes_max => Chunker::Content,
            None => recognise(&OpenFile(file), size),
        };
        let mut cutting = Cutting::with_hint(chunker, self.reader, earlier);
        if may_have_holes {
            self.sparse(file, size, &mut cutting)?;
        } else {
            self.stretch(&mut cutting, None, |buffer, _| read_some(file, buffer))?;
        }
        self.finish_cutting(cutting)
    }

    fn count_read(&mut self, bytes: u64) {
        self.counted += bytes;
        self.counters.add_read(bytes);
    }

    /// The last file is read again: what was counted for it is counted then.
    pub(crate) fn uncount(&mut self) {
        self.counters.take_back_read(std::mem::take(&mut self.counted));
    }

    /// Stores a stream to its end; `earlier` is how the parent had it.
    pub(crate) fn stream(
        &mut self,
        stream: &mut dyn Read,
        earlier: Option<&Earlier>,
    ) -> Result<Stored, Failure> {
        let mut cutting = Cutting::with_hint(Chunker::Content, self.reader, earlier);
        self.stretch(&mut cutting, None, |buffer, _| read_stream(stream, buffer))?;
        self.finish_cutting(cutting)
    }

    fn finish_cutting(&mut self, cutting: Cutting<'_>) -> Result<Stored, Failure> {
        let bytes = cutting.bytes();
        let content = cutting.finish(&mut self.sink, self.session.repository().keys())?;
        Ok(Stored { content, bytes, is_waiting: false })
    }

    /// Stores one attribute value as a chunk.
    pub(crate) fn xattr(&mut self, value: &[u8]) -> lifeboat_repo::Result<XattrValue> {
        Ok(XattrValue::Chunk(self.sink.add(ChunkKind::Data, value)?, value.len() as u32))
    }

    /// Reads data extents and steps over holes.
    fn sparse(&mut self, file: &OwnedFd, size: u64, cutting: &mut Cutting<'_>) -> Result<(), Failure> {
        let mut position = 0;
        while position < size {
            let data = match rustix::fs::seek(file, SeekFrom::Data(position)) {
                Ok(data) => data.min(size),
                // Nothing but a hole up to the end.
                Err(Errno::NXIO) => size,
                // The file system cannot tell: everything is data.
                Err(Errno::INVAL | Errno::OPNOTSUPP) => position,
                Err(errno) => return Err(errno.into()),
            };
            cutting.hole(data - position, &mut self.sink, self.session.repository().keys())?;
            if data == size {
                break;
            }
            let end = match rustix::fs::seek(file, SeekFrom::Hole(data)) {
                Ok(end) => end.min(size),
                Err(_) => size,
            };
            self.stretch(cutting, Some(end - data), |buffer, done| read_at(file, buffer, data + done))?;
            // A file that shrank meanwhile ends here; the caller compares the length and tries again.
            if cutting.bytes() < end {
                break;
            }
            position = end;
        }
        Ok(())
    }

    /// Cuts what `read` gives until it ends or `limit` bytes were read. `read` gives `None` to be asked again.
    fn stretch(
        &mut self,
        cutting: &mut Cutting<'_>,
        limit: Option<u64>,
        mut read: impl FnMut(&mut [u8], u64) -> Result<Option<usize>, Failure>,
    ) -> Result<(), Failure> {
        self.store_buffered()?;
        let mut done = 0;
        loop {
            if self.counters.interrupted.load(Ordering::Relaxed) {
                return Err(lifeboat_repo::Error::Interrupted.into());
            }
            let left = limit.map_or(usize::MAX as u64, |limit| limit - done);
            let room = (self.buffer.len() - self.filled).min(usize::try_from(left).unwrap_or(usize::MAX));
            let length = if room == 0 {
                Some(0)
            } else {
                read(&mut self.buffer[self.filled..self.filled + room], done)?
            };
            let Some(length) = length else { continue };
            let is_end = length == 0;
            // The signal that stopped us may have ended the stream too: its end is then not the content's.
            if is_end && self.counters.interrupted.load(Ordering::Relaxed) {
                return Err(lifeboat_repo::Error::Interrupted.into());
            }
            self.filled += length;
            done += length as u64;
            self.count_read(length as u64);
            if !is_end && self.filled < self.buffer.len() && limit != Some(done) {
                continue;
            }
            let kept = self.cut_buffer(cutting, is_end || limit == Some(done))?;
            self.store_buffered()?;
            self.buffer.copy_within(kept.clone(), 0);
            self.filled = kept.len();
            if is_end || limit == Some(done) {
                return Ok(());
            }
        }
    }

    /// Cuts the buffer; what is too short to cut before more is read is left over.
    fn cut_buffer(&mut self, cutting: &mut Cutting<'_>, is_end: bool) -> Result<Range<usize>, Failure> {
        let keys = self.session.repository().keys();
        let data = &self.buffer[..self.filled];
        let Some(lengths) = cutting.lengths(&self.cutter, data, is_end) else {
            return self.follow_buffer(cutting, is_end);
        };
        let mut end = 0;
        let ranges: Vec<Range<usize>> = lengths
            .into_iter()
            .map(|length| {
                end += length;
                end - length..end
            })
            .collect();
        for (piece, range) in names(keys, data, &ranges).into_iter().zip(ranges) {
            if let (Piece::Chunk(id, _), Known::Ask) = (piece, cutting.known(&piece)) {
                self.chunks.push((id, range));
            }
            cutting.push(piece, &mut self.sink, keys)?;
        }
        let scanned = if cutting.is_scanned() { end as u64 } else { 0 };
        self.counters.bytes_scanned.fetch_add(scanned, Ordering::Relaxed);
        Ok(end..self.filled)
    }

    /// The same along the parent's list, where each piece decides what is looked at next.
    fn follow_buffer(&mut self, cutting: &mut Cutting<'_>, is_end: bool) -> Result<Range<usize>, Failure> {
        let keys = self.session.repository().keys();
        let (mut position, mut scanned) = (0, 0);
        while position < self.filled {
            if !is_end && self.filled - position < self.cutter.bytes_max() {
                break;
            }
            let cut = cutting.next(&self.cutter, keys, &self.buffer[position..self.filled], is_end);
            let end = position + cut.bytes;
            scanned += if cut.was_scanned { cut.bytes as u64 } else { 0 };
            if let (Piece::Chunk(id, _), Known::Ask) = (cut.piece, cut.known) {
                self.chunks.push((id, position..end));
            }
            position = end;
            cutting.push(cut.piece, &mut self.sink, keys)?;
        }
        self.counters.bytes_scanned.fetch_add(scanned, Ordering::Relaxed);
        Ok(position..self.filled)
    }

    /// Stores the chunks that wait in the buffer. The buffer keeps its bytes, but nobody needs them any more.
    pub(crate) fn store_buffered(&mut self) -> lifeboat_repo::Result<()> {
        self.filled = 0;
        if !self.waiting.is_empty() {
            let parts: Vec<&[u8]> = self.waiting.iter().map(|range| &self.buffer[range.clone()]).collect();
            let ids = self.session.repository().keys().chunk_ids(ChunkKind::Data, &parts);
            self.chunks.extend(ids.iter().copied().zip(self.waiting.drain(..)));
            self.named.extend(ids);
        }
        if self.chunks.is_empty() {
            return Ok(());
        }
        let chunks: Vec<(ChunkId, &[u8])> =
            self.chunks.iter().map(|(id, range)| (*id, &self.buffer[range.clone()])).collect();
        self.counters.chunks_asked.fetch_add(chunks.len() as u64, Ordering::Relaxed);
        let added = self.sink.add_named(ChunkKind::Data, &chunks);
        // Also where it failed: who goes on all the same fills the buffer with other bytes, which have other names.
        self.chunks.clear();
        added?;
        while let Some(region) = self.sink.take_full() {
            if let Some(region) = self.queue.offer(region) {
                self.sink.seal(region)?;
            }
        }
        Ok(())
    }

    /// Stores and seals everything.
    pub(crate) fn flush(&mut self) -> lifeboat_repo::Result<()> {
        self.store_buffered()?;
        self.sink.flush()
    }
}
