//! Sorting more entries than memory holds: sorted runs in one unlinked file, then one merge.
//!
//! Must stay true: memory is bounded by [`RUN_ENTRIES`] and [`MERGE_BYTES`], whatever is pushed.

use crate::record::{ENTRY_BYTES, Entry};
use crate::{Error, Result};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Entries sorted in memory at once: 16 MiB.
const RUN_ENTRIES: usize = (16 << 20) / ENTRY_BYTES;
/// Memory of all runs' read buffers together.
const MERGE_BYTES: usize = 16 << 20;

/// Takes entries in any order.
pub(crate) struct EntrySorter {
    scratch: PathBuf,
    run_entries: usize,
    buffer: Vec<[u8; ENTRY_BYTES]>,
    file: Option<File>,
    run_ends: Vec<u64>,
}

impl EntrySorter {
    /// Runs go to a file without a name in `scratch`, if memory does not suffice.
    pub(crate) fn new(scratch: &Path) -> Self {
        Self {
            scratch: scratch.to_path_buf(),
            run_entries: RUN_ENTRIES,
            buffer: Vec::new(),
            file: None,
            run_ends: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, entry: Entry) -> Result<()> {
        if self.buffer.len() == self.run_entries {
            self.write_run()?;
        }
        self.buffer.push(entry.0);
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.run_ends.is_empty()
    }

    fn write_run(&mut self) -> Result<()> {
        sort(&mut self.buffer);
        let file = match &mut self.file {
            Some(file) => file,
            empty => empty.insert(
                tempfile::tempfile_in(&self.scratch)
                    .map_err(Error::io("create a temporary file in", &self.scratch))?,
            ),
        };
        let bytes = self.buffer.as_flattened();
        file.write_all(bytes).map_err(Error::io("write a temporary file in", &self.scratch))?;
        self.run_ends.push(self.run_ends.last().copied().unwrap_or(0) + bytes.len() as u64);
        self.buffer.clear();
        Ok(())
    }

    /// All entries in ascending order.
    pub(crate) fn finish(mut self) -> Result<Sorted> {
        if self.file.is_some() {
            self.write_run()?;
        }
        sort(&mut self.buffer);
        let Some(file) = self.file else { return Ok(Sorted::Memory(self.buffer.into_iter())) };
        drop(self.buffer);
        let share = MERGE_BYTES / self.run_ends.len() / ENTRY_BYTES * ENTRY_BYTES;
        let buffer_bytes = share.clamp(16 * ENTRY_BYTES, 8192 * ENTRY_BYTES);
        let mut merge = Merge { file, scratch: self.scratch, runs: Vec::new(), heap: BinaryHeap::new() };
        let mut position = 0;
        for (index, end) in self.run_ends.into_iter().enumerate() {
            merge.runs.push(Run { position, end, buffer: Vec::new(), taken: 0, buffer_bytes });
            position = end;
            if let Some(entry) = merge.next_of(index)? {
                merge.heap.push(Reverse((entry, index)));
            }
        }
        Ok(Sorted::Merged(merge))
    }
}

fn sort(entries: &mut [[u8; ENTRY_BYTES]]) {
    // Ids are hashes: the first eight bytes decide almost always, and as an integer they compare without a call.
    let leading = |entry: &[u8; ENTRY_BYTES]| {
        u64::from_be_bytes([entry[0], entry[1], entry[2], entry[3], entry[4], entry[5], entry[6], entry[7]])
    };
    entries.sort_unstable_by(|one, other| leading(one).cmp(&leading(other)).then_with(|| one.cmp(other)));
}

/// Entries in ascending order.
pub(crate) enum Sorted {
    Memory(std::vec::IntoIter<[u8; ENTRY_BYTES]>),
    Merged(Merge),
}

impl Iterator for Sorted {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Memory(entries) => entries.next().map(|entry| Ok(Entry(entry))),
            Self::Merged(merge) => merge.next().transpose(),
        }
    }
}

pub(crate) struct Merge {
    file: File,
    scratch: PathBuf,
    runs: Vec<Run>,
    heap: BinaryHeap<Reverse<(Entry, usize)>>,
}

struct Run {
    position: u64,
    end: u64,
    buffer: Vec<u8>,
    taken: usize,
    buffer_bytes: usize,
}

impl Merge {
    fn next_of(&mut self, run: usize) -> Result<Option<Entry>> {
        let run = &mut self.runs[run];
        run.next(&self.file).map_err(Error::io("read a temporary file in", &self.scratch))
    }

    fn next(&mut self) -> Result<Option<Entry>> {
        let Some(Reverse((entry, run))) = self.heap.peek().copied() else { return Ok(None) };
        let following = self.next_of(run)?;
        if let Some(mut top) = self.heap.peek_mut() {
            match following {
                Some(following) => *top = Reverse((following, run)),
                None => drop(PeekMut::pop(top)),
            }
        }
        Ok(Some(entry))
    }
}

impl Run {
    fn next(&mut self, file: &File) -> std::io::Result<Option<Entry>> {
        if self.taken == self.buffer.len() {
            let length = (self.end - self.position).min(self.buffer_bytes as u64) as usize;
            if length == 0 {
                self.buffer = Vec::new();
                self.taken = 0;
                return Ok(None);
            }
            self.buffer.resize(length, 0);
            file.read_exact_at(&mut self.buffer, self.position)?;
            self.position += length as u64;
            self.taken = 0;
        }
        let mut entry = [0; ENTRY_BYTES];
        entry.copy_from_slice(&self.buffer[self.taken..self.taken + ENTRY_BYTES]);
        self.taken += ENTRY_BYTES;
        Ok(Some(Entry(entry)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn entries_come_out_sorted_whether_or_not_they_fit_memory(
            mut seeds: Vec<(u8, u16)>,
            run_entries in 1usize..40,
        ) {
            let mut sorter = EntrySorter::new(&std::env::temp_dir());
            sorter.run_entries = run_entries;
            let entry = |(first, last): &(u8, u16)| {
                let mut bytes = [0; ENTRY_BYTES];
                bytes[0] = *first;
                bytes[ENTRY_BYTES - 6..ENTRY_BYTES - 4].copy_from_slice(&last.to_be_bytes());
                Entry(bytes)
            };
            seeds.iter().for_each(|seed| sorter.push(entry(seed)).unwrap());
            let sorted: Vec<Entry> = sorter.finish().unwrap().map(|entry| entry.unwrap()).collect();
            seeds.sort_unstable();
            prop_assert_eq!(sorted, seeds.iter().map(entry).collect::<Vec<_>>());
        }
    }
}
