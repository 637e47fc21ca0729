//! Which number a chunk has: as many as fit in memory, the rest in one sorted file without a name.
//!
//! Must stay true: memory is bounded by [`RECENT_MAX`] chunks and one fence for each [`PAGE_ENTRIES`] of the others. The
//! first number of a chunk stays its number.

use super::error::{Error, Result};
use lifeboat_format::ChunkId;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::os::unix::fs::FileExt;

/// Chunks in memory: 14 MiB of hash table.
const RECENT_MAX: usize = (1 << 19) / 8 * 7;
/// Chunks in a page of the file, which is what one question reads: 4 KiB.
const PAGE_ENTRIES: usize = 170;
const HALF_BYTES: usize = 16;
const ENTRY_BYTES: usize = HALF_BYTES + 8;

/// Half an id and the number: chunks are told apart as long as nobody makes 2^64 of them.
type Half = [u8; HALF_BYTES];
type Entry = [u8; ENTRY_BYTES];

/// Numbers of chunks.
pub(super) struct Numbers {
    recent_max: usize,
    recent: HashMap<Half, u64>,
    older: Option<Run>,
}

/// Entries in ascending order.
struct Run {
    file: File,
    /// The first half id of each page.
    fences: Vec<Half>,
    entries: u64,
}

impl Numbers {
    pub(super) fn new() -> Self {
        Self { recent_max: RECENT_MAX, recent: HashMap::new(), older: None }
    }

    pub(super) fn get(&self, id: &ChunkId) -> Result<Option<u64>> {
        let half = half(id);
        match (self.recent.get(&half), &self.older) {
            (Some(number), _) => Ok(Some(*number)),
            (None, Some(run)) => run.get(&half).map_err(Error::io("a scratch file cannot be read")),
            (None, None) => Ok(None),
        }
    }

    /// Gives a chunk its number, unless it has one.
    pub(super) fn insert(&mut self, id: &ChunkId, number: u64) -> Result<()> {
        if self.get(id)?.is_some() {
            return Ok(());
        }
        if self.recent.len() >= self.recent_max {
            let mut entries: Vec<(Half, u64)> = self.recent.drain().collect();
            entries.sort_unstable();
            self.older = Some(self.merge(&entries).map_err(Error::io("a scratch file cannot be written"))?);
        }
        self.recent.insert(half(id), number);
        Ok(())
    }

    /// What is in the file, and `entries`, which ascend and are not in it.
    fn merge(&self, entries: &[(Half, u64)]) -> io::Result<Run> {
        let mut writer = RunWriter::new()?;
        let mut entries = entries.iter().map(|(half, number)| entry(half, *number)).peekable();
        if let Some(older) = &self.older {
            let mut reader = older.read()?;
            for _ in 0..older.entries {
                let mut old = [0; ENTRY_BYTES];
                reader.read_exact(&mut old)?;
                while let Some(new) = entries.next_if(|new| new[..HALF_BYTES] < old[..HALF_BYTES]) {
                    writer.push(new)?;
                }
                writer.push(old)?;
            }
        }
        entries.try_for_each(|entry| writer.push(entry))?;
        writer.finish()
    }
}

impl Run {
    fn get(&self, half: &Half) -> io::Result<Option<u64>> {
        let Some(page) = self.fences.partition_point(|fence| fence <= half).checked_sub(1) else {
            return Ok(None);
        };
        let first = (page * PAGE_ENTRIES) as u64;
        let count = (self.entries - first).min(PAGE_ENTRIES as u64) as usize;
        let mut bytes = [0; PAGE_ENTRIES * ENTRY_BYTES];
        let bytes = &mut bytes[..count * ENTRY_BYTES];
        self.file.read_exact_at(bytes, first * ENTRY_BYTES as u64)?;
        let entries = bytes.as_chunks::<ENTRY_BYTES>().0;
        let found = entries.binary_search_by(|entry| entry[..HALF_BYTES].cmp(half));
        Ok(found.ok().map(|found| number_of(&entries[found])))
    }

    fn read(&self) -> io::Result<impl Read> {
        let mut file = &self.file;
        file.rewind()?;
        Ok(BufReader::with_capacity(1 << 16, file))
    }
}

struct RunWriter {
    output: BufWriter<File>,
    fences: Vec<Half>,
    entries: u64,
}

impl RunWriter {
    fn new() -> io::Result<Self> {
        let output = BufWriter::with_capacity(1 << 16, tempfile::tempfile()?);
        Ok(Self { output, fences: Vec::new(), entries: 0 })
    }

    fn push(&mut self, entry: Entry) -> io::Result<()> {
        if self.entries.is_multiple_of(PAGE_ENTRIES as u64) {
            let mut fence = [0; HALF_BYTES];
            fence.copy_from_slice(&entry[..HALF_BYTES]);
            self.fences.push(fence);
        }
        self.entries += 1;
        self.output.write_all(&entry)
    }

    fn finish(self) -> io::Result<Run> {
        let file = self.output.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(Run { file, fences: self.fences, entries: self.entries })
    }
}

fn half(id: &ChunkId) -> Half {
    let mut half = [0; HALF_BYTES];
    half.copy_from_slice(&id.0[..HALF_BYTES]);
    half
}

fn entry(half: &Half, number: u64) -> Entry {
    let mut entry = [0; ENTRY_BYTES];
    entry[..HALF_BYTES].copy_from_slice(half);
    entry[HALF_BYTES..].copy_from_slice(&number.to_le_bytes());
    entry
}

fn number_of(entry: &Entry) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&entry[HALF_BYTES..]);
    u64::from_le_bytes(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Ids that are spread as keyed hashes are.
    fn id(number: u64) -> ChunkId {
        let mut id = [0; ChunkId::BYTES];
        let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        id[..8].copy_from_slice(&spread.to_le_bytes());
        ChunkId(id)
    }

    proptest! {
        #[test]
        fn a_chunk_keeps_its_first_number(
            chunks in proptest::collection::vec(0u64..2000, 0..2000),
            recent_max in 1usize..700,
        ) {
            let mut numbers = Numbers { recent_max, ..Numbers::new() };
            let mut model = HashMap::new();
            for (number, chunk) in chunks.iter().enumerate() {
                prop_assert_eq!(numbers.get(&id(*chunk)).unwrap(), model.get(chunk).copied());
                numbers.insert(&id(*chunk), number as u64).unwrap();
                model.entry(*chunk).or_insert(number as u64);
            }
            for chunk in 0..2000 {
                prop_assert_eq!(numbers.get(&id(chunk)).unwrap(), model.get(&chunk).copied());
            }
        }
    }

    #[test]
    fn memory_holds_a_small_share_of_many_chunks() {
        let mut numbers = Numbers { recent_max: 10_000, ..Numbers::new() };
        (0..200_000).for_each(|number| numbers.insert(&id(number), number).unwrap());
        let fences = numbers.older.as_ref().unwrap().fences.len();
        assert!(numbers.recent.capacity() <= 20_000 && fences <= 200_000 / PAGE_ENTRIES, "{fences} fences");
        assert!((0..200_000).step_by(97).all(|number| numbers.get(&id(number)).unwrap() == Some(number)));
    }
}
