//! Which nodes a check has read already: as many as fit in memory, the rest in one sorted file without a name.
//!
//! Must stay true: memory is bounded by [`RECENT_MAX`] ids and one fence for each [`PAGE_IDS`] of the others, and a
//! node is never called seen that was not inserted. The other way round is allowed to a check: where there is no room for
//! the file, what was seen is forgotten, and nodes are read once more. A collection asks with [`SeenNodes::try_contains`]
//! and [`SeenNodes::try_insert`], which forget nothing silently: it would delete what it does not remember.

use lifeboat_format::ChunkId;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Ids in memory, 9 MiB: as many as a hash table of 2^19 buckets takes.
const RECENT_MAX: usize = (1 << 19) / 8 * 7;
/// Ids in a page of the file, which is what one question reads: 4 KiB.
const PAGE_IDS: usize = 256;
const HALF_BYTES: usize = 16;

/// Half an id tells nodes apart, as long as nobody makes 2^64 of them.
type Half = [u8; HALF_BYTES];

/// A set of nodes.
pub(crate) struct SeenNodes {
    scratch: PathBuf,
    recent_max: usize,
    recent: HashSet<Half>,
    older: Option<Run>,
}

/// Ids in ascending order.
struct Run {
    file: File,
    /// The first id of each page.
    fences: Vec<Half>,
    ids: u64,
}

impl SeenNodes {
    /// An empty set; the file goes to the folder `scratch` when it is needed.
    pub(crate) fn new(scratch: PathBuf) -> Self {
        Self { scratch, recent_max: RECENT_MAX, recent: HashSet::new(), older: None }
    }

    pub(crate) fn contains(&self, id: &ChunkId) -> bool {
        self.try_contains(id).unwrap_or(false)
    }

    /// As [`Self::contains`], but fails where the file cannot be asked.
    pub(crate) fn try_contains(&self, id: &ChunkId) -> io::Result<bool> {
        let half = half(id);
        match &self.older {
            _ if self.recent.contains(&half) => Ok(true),
            Some(run) => run.contains(&half),
            None => Ok(false),
        }
    }

    pub(crate) fn insert(&mut self, id: &ChunkId) {
        if self.try_insert(id).is_err() {
            // Without room nothing is remembered but what comes next.
            self.older = None;
            self.recent.clear();
            self.recent.insert(half(id));
        }
    }

    /// As [`Self::insert`], but fails where there is no room; then nothing is forgotten.
    pub(crate) fn try_insert(&mut self, id: &ChunkId) -> io::Result<()> {
        if self.recent.len() >= self.recent_max {
            let mut ids: Vec<Half> = self.recent.iter().copied().collect();
            ids.sort_unstable();
            self.older = Some(self.merge(&ids)?);
            self.recent.clear();
        }
        self.recent.insert(half(id));
        Ok(())
    }

    /// What is in the file, and `ids`, which ascend.
    fn merge(&self, ids: &[Half]) -> io::Result<Run> {
        let mut writer = RunWriter::new(tempfile::tempfile_in(&self.scratch)?);
        let mut ids = ids.iter().copied().peekable();
        if let Some(older) = &self.older {
            let mut reader = older.read()?;
            for _ in 0..older.ids {
                let mut old = [0; HALF_BYTES];
                reader.read_exact(&mut old)?;
                while let Some(id) = ids.next_if(|id| *id < old) {
                    writer.push(id)?;
                }
                // A node of which the file could not be asked may be in both.
                ids.next_if_eq(&old);
                writer.push(old)?;
            }
        }
        ids.try_for_each(|id| writer.push(id))?;
        writer.finish()
    }
}

impl Run {
    fn contains(&self, id: &Half) -> io::Result<bool> {
        let Some(page) = self.fences.partition_point(|fence| fence <= id).checked_sub(1) else {
            return Ok(false);
        };
        let first = (page * PAGE_IDS) as u64;
        let count = (self.ids - first).min(PAGE_IDS as u64) as usize;
        let mut bytes = [0; PAGE_IDS * HALF_BYTES];
        let bytes = &mut bytes[..count * HALF_BYTES];
        self.file.read_exact_at(bytes, first * HALF_BYTES as u64)?;
        Ok(bytes.as_chunks::<HALF_BYTES>().0.binary_search(id).is_ok())
    }

    fn read(&self) -> io::Result<impl Read> {
        let mut file = &self.file;
        io::Seek::rewind(&mut file)?;
        Ok(BufReader::with_capacity(1 << 16, file))
    }
}

struct RunWriter {
    output: BufWriter<File>,
    fences: Vec<Half>,
    ids: u64,
}

impl RunWriter {
    fn new(file: File) -> Self {
        Self { output: BufWriter::with_capacity(1 << 16, file), fences: Vec::new(), ids: 0 }
    }

    fn push(&mut self, id: Half) -> io::Result<()> {
        if self.ids.is_multiple_of(PAGE_IDS as u64) {
            self.fences.push(id);
        }
        self.ids += 1;
        self.output.write_all(&id)
    }

    fn finish(self) -> io::Result<Run> {
        let file = self.output.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(Run { file, fences: self.fences, ids: self.ids })
    }
}

fn half(id: &ChunkId) -> Half {
    let mut half = [0; HALF_BYTES];
    half.copy_from_slice(&id.0[..HALF_BYTES]);
    half
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(number: u64) -> ChunkId {
        let mut id = [0; ChunkId::BYTES];
        blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut id);
        ChunkId(id)
    }

    fn seen(recent_max: usize) -> SeenNodes {
        SeenNodes { recent_max, ..SeenNodes::new(std::env::temp_dir()) }
    }

    proptest! {
        #[test]
        fn what_was_inserted_is_seen_and_nothing_else(
            numbers in proptest::collection::vec(0u64..3000, 0..2000),
            recent_max in 1usize..700,
        ) {
            let mut set = seen(recent_max);
            let mut model = HashSet::new();
            for number in numbers {
                prop_assert_eq!(set.contains(&id(number)), model.contains(&number));
                set.insert(&id(number));
                model.insert(number);
            }
            for number in 0..3000 {
                prop_assert_eq!(set.contains(&id(number)), model.contains(&number));
            }
        }
    }

    #[test]
    fn memory_holds_a_small_share_of_many_nodes() {
        let mut set = seen(10_000);
        (0..200_000).for_each(|number| set.insert(&id(number)));
        let fences = set.older.as_ref().unwrap().fences.len();
        assert!(set.recent.capacity() <= 20_000 && fences <= 200_000 / PAGE_IDS, "{fences} fences");
        assert!((0..200_000).step_by(97).all(|number| set.contains(&id(number))));
        assert!(!(200_000..300_000).step_by(97).any(|number| set.contains(&id(number))));
    }

    #[test]
    fn without_room_nodes_are_forgotten_and_never_made_up() {
        let mut set = SeenNodes { scratch: "/nonexistent".into(), ..seen(100) };
        (0..1000).for_each(|number| set.insert(&id(number)));
        assert!(set.recent.len() <= 100 && set.contains(&id(999)) && !set.contains(&id(0)));
        assert!(!(1000..2000).any(|number| set.contains(&id(number))));
    }
}
