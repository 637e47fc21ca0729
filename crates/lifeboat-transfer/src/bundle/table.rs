//! Which chunk has a number: a file without a name that grows at its end, read through one block.
//!
//! Must stay true: memory is two blocks, however many chunks there are.

use super::error::{Error, Result};
use lifeboat_format::ChunkId;
use lifeboat_format::list::Piece;
use std::fs::File;
use std::os::unix::fs::FileExt;

const ENTRY_BYTES: usize = ChunkId::BYTES + 4;
/// Chunks of a block: 56 KiB.
const BLOCK_ENTRIES: usize = 2048;

/// Chunks by their numbers.
pub(super) struct ChunkTable {
    file: Option<File>,
    /// The last block, which is not in the file yet.
    tail: Vec<u8>,
    /// Whole blocks in the file.
    blocks: u64,
    /// A block that was read, and its number.
    block: (u64, Vec<u8>),
}

impl ChunkTable {
    pub(super) fn new() -> Self {
        Self { file: None, tail: Vec::new(), blocks: 0, block: (u64::MAX, Vec::new()) }
    }

    /// How many there are.
    pub(super) fn len(&self) -> u64 {
        self.blocks * BLOCK_ENTRIES as u64 + (self.tail.len() / ENTRY_BYTES) as u64
    }

    /// Appends the next chunk.
    pub(super) fn push(&mut self, id: &ChunkId, bytes: u32) -> Result<()> {
        self.tail.extend_from_slice(&id.0);
        self.tail.extend_from_slice(&bytes.to_le_bytes());
        if self.tail.len() < BLOCK_ENTRIES * ENTRY_BYTES {
            return Ok(());
        }
        let doing = || Error::io("a scratch file cannot be written");
        let file = match &mut self.file {
            Some(file) => file,
            empty => empty.insert(tempfile::tempfile().map_err(doing())?),
        };
        file.write_all_at(&self.tail, self.blocks * (BLOCK_ENTRIES * ENTRY_BYTES) as u64).map_err(doing())?;
        self.blocks += 1;
        self.tail.clear();
        Ok(())
    }

    /// The chunk of that number as a piece; `None` when there is none yet.
    pub(super) fn get(&mut self, number: u64) -> Result<Option<Piece>> {
        let (block, at) = (number / BLOCK_ENTRIES as u64, (number % BLOCK_ENTRIES as u64) as usize);
        if block < self.blocks && block != self.block.0 {
            let doing = || Error::io("a scratch file cannot be read");
            self.block.1.resize(BLOCK_ENTRIES * ENTRY_BYTES, 0);
            self.block.0 = u64::MAX;
            if let Some(file) = &self.file {
                let offset = block * (BLOCK_ENTRIES * ENTRY_BYTES) as u64;
                file.read_exact_at(&mut self.block.1, offset).map_err(doing())?;
                self.block.0 = block;
            }
        }
        let entries = if block < self.blocks { &self.block.1 } else { &self.tail };
        let found = (block <= self.blocks).then(|| entries.as_chunks::<ENTRY_BYTES>().0.get(at)).flatten();
        Ok(found.map(|entry| {
            let (mut id, mut bytes) = ([0; ChunkId::BYTES], [0; 4]);
            id.copy_from_slice(&entry[..ChunkId::BYTES]);
            bytes.copy_from_slice(&entry[ChunkId::BYTES..]);
            Piece::Chunk(ChunkId(id), u32::from_le_bytes(bytes))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_gives_its_chunk_in_any_order() {
        let id = |number: u64| {
            let mut id = [7; ChunkId::BYTES];
            id[..8].copy_from_slice(&number.to_le_bytes());
            ChunkId(id)
        };
        let mut table = ChunkTable::new();
        for number in 0..10_000 {
            assert_eq!(table.get(number).unwrap(), None);
            table.push(&id(number), number as u32).unwrap();
            let early = number / 3;
            assert_eq!(table.get(early).unwrap(), Some(Piece::Chunk(id(early), early as u32)));
            assert_eq!(table.get(number).unwrap(), Some(Piece::Chunk(id(number), number as u32)));
        }
        assert_eq!((table.len(), table.get(u64::MAX).unwrap()), (10_000, None));
    }
}
