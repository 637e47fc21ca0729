//! Follows the parts of a bundle and sees that they make sense; what becomes of them is the [`Receiver`]'s.
//!
//! Must stay true: whatever the parts hold, a receiver is called in an order that makes a snapshot: sources in theirs,
//! paths ascending, pieces that are exactly as long as their file. Only [`Follower::finish`] says that all was there.

use super::Counters;
use super::error::{Error, Result};
use super::table::ChunkTable;
use lifeboat_format::bundle::record::{Body, Item, Numbering, PortableEntry, Record, Value};
use lifeboat_format::bundle::{Chunks, Manifest, Part, Totals};
use lifeboat_format::list::Piece;
use lifeboat_format::wire::Reader;
use lifeboat_format::{ChunkId, TreePath, Xattr, XattrValue};

/// Takes what a bundle holds.
pub(super) trait Receiver {
    /// Takes chunks, and names them.
    fn chunks(&mut self, chunks: &Chunks) -> Result<Vec<ChunkId>>;
    /// The next source begins: all of it, or the difference to a source of the base.
    fn begin_source(&mut self, base: Option<u32>) -> Result<()>;
    /// The base's entry goes.
    fn removed(&mut self, path: &TreePath) -> Result<()>;
    /// An entry begins; its file has no items here.
    fn begin_entry(&mut self, entry: PortableEntry, xattrs: Vec<Xattr>) -> Result<()>;
    /// The next piece of its file.
    fn piece(&mut self, piece: Piece) -> Result<()>;
    /// It is whole.
    fn end_entry(&mut self) -> Result<()>;
    /// The source is whole.
    fn end_source(&mut self) -> Result<()>;
}

/// What was seen so far.
pub(super) struct Follower<'f> {
    manifest: &'f Manifest,
    counters: &'f Counters,
    numbering: Numbering,
    base_chunks: u64,
    /// The base's chunks, where it is there, then the bundle's.
    table: ChunkTable,
    has_base: bool,
    /// Sources begun.
    sources: usize,
    /// The last path of the source that is open.
    last: Option<TreePath>,
    /// Bytes that the open file lacks.
    lacks: Option<u64>,
    totals: Totals,
    is_ended: bool,
}

fn damaged(detail: &str) -> Error {
    Error::Damaged(detail.to_owned())
}

impl<'f> Follower<'f> {
    /// `table` holds the base's chunks, or nothing where nobody asks for them.
    pub(super) fn new(manifest: &'f Manifest, table: ChunkTable, counters: &'f Counters) -> Self {
        let base_chunks = manifest.base.as_ref().map_or(0, |base| base.chunks);
        Self {
            manifest,
            counters,
            numbering: Numbering::new(base_chunks),
            base_chunks,
            has_base: table.len() == base_chunks,
            table,
            sources: 0,
            last: None,
            lacks: None,
            totals: Totals::default(),
            is_ended: false,
        }
    }

    /// Takes the next part.
    pub(super) fn take(&mut self, part: Part, receiver: &mut dyn Receiver) -> Result<()> {
        self.counters.check_interrupted()?;
        match part {
            _ if self.is_ended => Err(damaged("something follows its end")),
            Part::Manifest(_) => Err(damaged("it has two manifests")),
            Part::Chunks(chunks) => self.chunks(&chunks, receiver),
            Part::Records(records) => {
                let mut reader = Reader::new(&records, "bundle");
                while reader.remaining() > 0 {
                    let record = self.numbering.decode(&mut reader);
                    self.record(record.map_err(Error::format("a record cannot be read"))?, receiver)?;
                }
                Ok(())
            }
            Part::End(totals) => {
                self.end_source(receiver)?;
                self.is_ended = true;
                let complete = self.sources == self.manifest.snapshot.sources.len()
                    && totals == self.totals
                    && self.numbering.used() == totals.chunks;
                if complete { Ok(()) } else { Err(damaged("it does not hold what its end says")) }
            }
        }
    }

    /// Everything was there.
    pub(super) fn finish(self) -> Result<Totals> {
        if self.is_ended { Ok(self.totals) } else { Err(damaged("it has no end")) }
    }

    fn chunks(&mut self, chunks: &Chunks, receiver: &mut dyn Receiver) -> Result<()> {
        let ids = receiver.chunks(chunks)?;
        for (id, bytes) in ids.iter().zip(&chunks.lengths) {
            self.table.push(id, *bytes)?;
        }
        self.totals.chunks += chunks.lengths.len() as u64;
        self.totals.bytes += chunks.bytes.len() as u64;
        self.counters.add_bytes(chunks.bytes.len() as u64);
        Ok(())
    }

    fn record(&mut self, record: Record, receiver: &mut dyn Receiver) -> Result<()> {
        if self.lacks.is_some() != matches!(record, Record::Items(_)) {
            return Err(damaged("a file's items end early, or belong to no file"));
        }
        if self.sources == 0 && !matches!(record, Record::Source(_)) {
            return Err(damaged("an entry belongs to no source"));
        }
        match record {
            Record::Source(base) => {
                self.end_source(receiver)?;
                self.sources += 1;
                self.last = None;
                if self.sources > self.manifest.snapshot.sources.len() {
                    return Err(damaged("it has more sources than its snapshot"));
                }
                if base.is_some() && self.manifest.base.is_none() {
                    return Err(damaged("a source needs a base, and none is named"));
                }
                receiver.begin_source(base)
            }
            Record::Removed(path) => {
                self.ascend(&path)?;
                self.totals.removed += 1;
                receiver.removed(&path)
            }
            Record::Entry(entry) => {
                self.ascend(&entry.path)?;
                self.totals.entries += 1;
                self.counters.add_entry();
                self.entry(*entry, receiver)
            }
            Record::Items(items) => self.items(&items, receiver),
        }
    }

    fn ascend(&mut self, path: &TreePath) -> Result<()> {
        if self.last.as_ref().is_some_and(|last| last >= path) {
            return Err(damaged("its paths do not ascend"));
        }
        self.last = Some(path.clone());
        Ok(())
    }

    fn end_source(&mut self, receiver: &mut dyn Receiver) -> Result<()> {
        match self.sources {
            _ if self.lacks.is_some() => Err(damaged("a file's items end early")),
            0 => Ok(()),
            _ => receiver.end_source(),
        }
    }

    fn entry(&mut self, mut entry: PortableEntry, receiver: &mut dyn Receiver) -> Result<()> {
        let mut xattrs = Vec::with_capacity(entry.xattrs.len());
        for (name, value) in std::mem::take(&mut entry.xattrs) {
            let value = match value {
                Value::Inline(value) => XattrValue::Inline(value),
                Value::Chunk(number, bytes) => XattrValue::Chunk(self.chunk(number, bytes)?, bytes),
            };
            xattrs.push(Xattr { name, value });
        }
        let Body::File(size, _, items) = &mut entry.body else {
            receiver.begin_entry(entry, xattrs)?;
            return receiver.end_entry();
        };
        let (size, items) = (*size, std::mem::take(items));
        receiver.begin_entry(entry, xattrs)?;
        self.lacks = Some(size);
        self.items(&items, receiver)
    }

    fn items(&mut self, items: &[Item], receiver: &mut dyn Receiver) -> Result<()> {
        let mut lacks = self.lacks.unwrap_or(0);
        for item in items {
            lacks =
                lacks.checked_sub(item.bytes()).ok_or_else(|| damaged("a file is longer than it says"))?;
            receiver.piece(match *item {
                Item::Chunk(number, bytes) => Piece::Chunk(self.chunk(number, bytes)?, bytes),
                Item::Hole(bytes) => Piece::Hole(bytes),
                Item::Zeros(bytes) => Piece::Zeros(bytes),
            })?;
        }
        self.lacks = Some(lacks).filter(|lacks| *lacks > 0);
        if self.lacks.is_none() { receiver.end_entry() } else { Ok(()) }
    }

    fn chunk(&mut self, number: u64, bytes: u32) -> Result<ChunkId> {
        let in_table = match (self.has_base, number.checked_sub(self.base_chunks)) {
            (true, _) => number,
            (false, Some(number)) => number,
            // Nobody has the base here, so nothing can be said of its chunks.
            (false, None) => return Ok(ChunkId([0; ChunkId::BYTES])),
        };
        match self.table.get(in_table)? {
            Some(Piece::Chunk(id, found)) if found == bytes => Ok(id),
            _ => Err(damaged("a chunk is used that is not there, or has another length")),
        }
    }
}

/// Sees that a bundle is whole; keeps nothing.
pub(super) struct Checker;

impl Receiver for Checker {
    fn chunks(&mut self, chunks: &Chunks) -> Result<Vec<ChunkId>> {
        Ok(vec![ChunkId([0; ChunkId::BYTES]); chunks.lengths.len()])
    }

    fn begin_source(&mut self, _: Option<u32>) -> Result<()> {
        Ok(())
    }

    fn removed(&mut self, _: &TreePath) -> Result<()> {
        Ok(())
    }

    fn begin_entry(&mut self, _: PortableEntry, _: Vec<Xattr>) -> Result<()> {
        Ok(())
    }

    fn piece(&mut self, _: Piece) -> Result<()> {
        Ok(())
    }

    fn end_entry(&mut self) -> Result<()> {
        Ok(())
    }

    fn end_source(&mut self) -> Result<()> {
        Ok(())
    }
}
