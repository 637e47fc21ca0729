//! Sorts the entries of an archive by path, in bounded memory: what does not fit goes to a file without a name.
//!
//! Must stay true: records come out by path, and those of one path in the order in which they went in. Memory is
//! [`MEMORY_BYTES`], and a buffer for each time it was full.

use lifeboat_format::wire::{Reader as WireReader, Write as _};
use lifeboat_format::{Entry, TreePath};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Error, ErrorKind, Read, Result, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Records in memory before they are written out.
const MEMORY_BYTES: usize = 16 << 20;
/// What a record takes besides its bytes.
const RECORD_BYTES: usize = 96;
const BUFFER_BYTES: usize = 64 << 10;

/// What an archive has at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Body {
    /// An entry.
    Entry(Box<Entry>),
    /// Another name of what this path was then.
    Link(TreePath),
}

/// One record: ordered by path, then by its number in the archive.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Record {
    pub(super) path: TreePath,
    pub(super) number: u64,
    body: Vec<u8>,
}

impl Record {
    fn new(path: TreePath, number: u64, body: &Body) -> Self {
        let mut bytes = Vec::new();
        match body {
            Body::Entry(entry) => {
                bytes.push(0);
                entry.encode(&mut bytes);
            }
            Body::Link(target) => {
                bytes.push(1);
                bytes.extend_from_slice(target.as_key());
            }
        }
        Self { path, number, body: bytes }
    }

    pub(super) fn body(&self) -> Result<Body> {
        let damaged = |_| Error::new(ErrorKind::InvalidData, "a sorted entry does not read back");
        match self.body.split_first() {
            Some((0, entry)) => {
                let entry = Entry::decode(&mut WireReader::new(entry, "entry")).map_err(damaged)?;
                Ok(Body::Entry(Box::new(entry)))
            }
            Some((_, target)) => TreePath::from_key(target.to_vec()).map(Body::Link).map_err(damaged),
            None => Err(ErrorKind::UnexpectedEof.into()),
        }
    }

    fn bytes(&self) -> usize {
        self.path.as_key().len() + self.body.len() + RECORD_BYTES
    }

    fn write(&self, output: &mut impl Write) -> Result<u64> {
        let mut bytes = Vec::new();
        bytes.put_string(self.path.as_key());
        bytes.put_varint(self.number);
        bytes.put_string(&self.body);
        let mut head = Vec::new();
        head.put_u32(u32::try_from(bytes.len()).map_err(Error::other)?);
        output.write_all(&head)?;
        output.write_all(&bytes)?;
        Ok((head.len() + bytes.len()) as u64)
    }

    fn read(input: &mut impl Read) -> Result<Self> {
        let damaged = |_| Error::new(ErrorKind::InvalidData, "a sorted entry does not read back");
        let mut head = [0; 4];
        input.read_exact(&mut head)?;
        let mut bytes = vec![0; u32::from_le_bytes(head) as usize];
        input.read_exact(&mut bytes)?;
        let mut reader = WireReader::new(&bytes, "entry");
        let path = reader.string(u32::MAX).map_err(damaged)?.to_vec();
        let path = TreePath::from_key(path).map_err(damaged)?;
        let number = reader.varint().map_err(damaged)?;
        let body = reader.string(u32::MAX).map_err(damaged)?.to_vec();
        Ok(Self { path, number, body })
    }
}

/// Takes records in any order.
pub(super) struct Sorter {
    folder: Option<PathBuf>,
    memory_bytes: usize,
    records: Vec<Record>,
    bytes: usize,
    spilled: Option<File>,
    /// Where each sorted run begins and ends in the file.
    runs: Vec<(u64, u64)>,
    count: u64,
}

impl Sorter {
    /// What does not fit in memory goes to `folder`, or where temporary files go.
    pub(super) fn new(folder: Option<PathBuf>) -> Self {
        Self::with_memory(folder, MEMORY_BYTES)
    }

    fn with_memory(folder: Option<PathBuf>, memory_bytes: usize) -> Self {
        Self {
            folder,
            memory_bytes,
            records: Vec::new(),
            bytes: 0,
            spilled: None,
            runs: Vec::new(),
            count: 0,
        }
    }

    /// Adds a record, and gives its number.
    pub(super) fn push(&mut self, path: TreePath, body: &Body) -> Result<u64> {
        let record = Record::new(path, self.count, body);
        self.count += 1;
        self.bytes += record.bytes();
        let number = record.number;
        self.records.push(record);
        if self.bytes >= self.memory_bytes {
            self.spill()?;
        }
        Ok(number)
    }

    /// How many records went in.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    fn spill(&mut self) -> Result<()> {
        let file = match &self.spilled {
            Some(file) => file,
            None => {
                let file = match &self.folder {
                    Some(folder) => tempfile::tempfile_in(folder)?,
                    None => tempfile::tempfile()?,
                };
                self.spilled.insert(file)
            }
        };
        self.records.sort_unstable();
        let start = self.runs.last().map_or(0, |(_, end)| *end);
        let mut output = BufWriter::with_capacity(BUFFER_BYTES, file);
        let mut end = start;
        for record in &self.records {
            end += record.write(&mut output)?;
        }
        output.flush()?;
        self.runs.push((start, end));
        self.records.clear();
        self.bytes = 0;
        Ok(())
    }

    /// No more will come.
    pub(super) fn finish(mut self) -> Result<Sorted> {
        self.records.sort_unstable();
        Ok(Sorted { records: self.records, spilled: self.spilled, runs: self.runs })
    }
}

/// All records, to be gone through as often as wanted.
pub(super) struct Sorted {
    records: Vec<Record>,
    spilled: Option<File>,
    runs: Vec<(u64, u64)>,
}

impl Sorted {
    /// The records in order.
    pub(super) fn records(&self) -> Result<impl Iterator<Item = Result<Record>> + '_> {
        let mut merge = Merge { runs: Vec::new(), memory: self.records.iter(), heads: BinaryHeap::new() };
        for (start, end) in &self.runs {
            let Some(file) = &self.spilled else { break };
            let run = Run { file, position: *start, end: *end };
            merge.runs.push(BufReader::with_capacity(BUFFER_BYTES, run));
        }
        (0..=merge.runs.len()).try_for_each(|place| merge.advance(place))?;
        Ok(merge)
    }
}

/// A stretch of the file.
struct Run<'f> {
    file: &'f File,
    position: u64,
    end: u64,
}

impl Read for Run<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        let length = self.file.read_at(&mut buffer[..length], self.position)?;
        self.position += length as u64;
        Ok(length)
    }
}

struct Merge<'s> {
    runs: Vec<BufReader<Run<'s>>>,
    memory: std::slice::Iter<'s, Record>,
    heads: BinaryHeap<Reverse<(Record, usize)>>,
}

impl Merge<'_> {
    /// Brings the next of a run; the last of them is what stayed in memory.
    fn advance(&mut self, place: usize) -> Result<()> {
        let record = match self.runs.get_mut(place) {
            None => self.memory.next().cloned(),
            Some(run) => match std::io::BufRead::fill_buf(run)?.is_empty() {
                true => None,
                false => Some(Record::read(run)?),
            },
        };
        self.heads.extend(record.map(|record| Reverse((record, place))));
        Ok(())
    }
}

impl Iterator for Merge<'_> {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((record, place)) = self.heads.pop()?;
        Some(self.advance(place).map(|()| record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_format::Metadata;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_come_out_by_path_and_then_as_they_came(
            names in proptest::collection::vec("[ab!]{1,2}(/[ab]{1,2})?", 0..200),
            memory_bytes in prop_oneof![Just(1usize), Just(1000), Just(1 << 20)],
        ) {
            let mut sorter = Sorter::with_memory(None, memory_bytes);
            let mut expected = Vec::new();
            for (number, name) in names.iter().enumerate() {
                let path = TreePath::from_slashes(name.as_bytes()).unwrap();
                let body = match number % 3 {
                    0 => Body::Link(path.clone()),
                    _ => {
                        let metadata = Metadata { inode: number as u64, ..Metadata::default() };
                        Body::Entry(Box::new(Entry::directory(metadata)))
                    }
                };
                prop_assert_eq!(sorter.push(path.clone(), &body).unwrap(), number as u64);
                expected.push((path, number as u64, body));
            }
            expected.sort_by(|left, right| (&left.0, left.1).cmp(&(&right.0, right.1)));
            let sorted = sorter.finish().unwrap();
            for _ in 0..2 {
                let found: Vec<_> = sorted
                    .records()
                    .unwrap()
                    .map(|record| record.unwrap())
                    .map(|record| (record.path.clone(), record.number, record.body().unwrap()))
                    .collect();
                prop_assert_eq!(&found, &expected);
            }
        }
    }
}
