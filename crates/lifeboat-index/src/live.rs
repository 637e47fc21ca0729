//! Which packs are live: one bit a pack, the only part of the index that is held in memory.
//!
//! Must stay true: a number that lost its bit never gets it back. Entries of dead packs stay in the database until a
//! compaction drops them, and a reused number would bring them back to life, with somebody else's bytes.

/// Packs whose bits share one record.
const BLOCK_PACKS: u32 = 4096;
const BLOCK_WORDS: usize = BLOCK_PACKS as usize / 64;
/// Bytes of such a record.
pub(crate) const BLOCK_BYTES: usize = BLOCK_PACKS as usize / 8;

/// The numbers of the live packs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LiveSet {
    words: Vec<u64>,
    count: u64,
}

impl LiveSet {
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn contains(&self, number: u32) -> bool {
        self.words.get(number as usize / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    pub(crate) fn insert(&mut self, number: u32) {
        let end = (number / BLOCK_PACKS + 1) as usize * BLOCK_WORDS;
        if self.words.len() < end {
            self.words.resize(end, 0);
        }
        self.count += u64::from(!self.contains(number));
        self.words[number as usize / 64] |= 1 << (number % 64);
    }

    pub(crate) fn remove(&mut self, number: u32) {
        if self.contains(number) {
            self.count -= 1;
            self.words[number as usize / 64] &= !(1 << (number % 64));
        }
    }

    /// The first live number that is not below `number`.
    pub(crate) fn next_from(&self, number: u32) -> Option<u32> {
        let first = number as usize / 64;
        let words = self.words.get(first..)?;
        words.iter().enumerate().find_map(|(index, word)| {
            let kept = if index == 0 { word & (u64::MAX << (number % 64)) } else { *word };
            (kept != 0).then(|| (first + index) as u32 * 64 + kept.trailing_zeros())
        })
    }

    /// The numbers of the blocks in which the two sets differ.
    pub(crate) fn changed_blocks(&self, before: &Self) -> Vec<u32> {
        let blocks = self.words.len().max(before.words.len()) / BLOCK_WORDS;
        (0..blocks as u32).filter(|block| self.block(*block) != before.block(*block)).collect()
    }

    pub(crate) fn block(&self, block: u32) -> [u8; BLOCK_BYTES] {
        let mut bytes = [0; BLOCK_BYTES];
        let words = self.words.get(block as usize * BLOCK_WORDS..).unwrap_or_default();
        for (bytes, word) in bytes.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Takes in a block from disk; fails where it names a pack at or above `end`.
    pub(crate) fn load_block(&mut self, block: u32, bytes: &[u8], end: u32) -> Option<()> {
        let words = bytes.as_chunks::<8>().0;
        let start = block.checked_mul(BLOCK_PACKS)?;
        (bytes.len() == BLOCK_BYTES).then_some(())?;
        for (index, word) in words.iter().enumerate() {
            let mut word = u64::from_le_bytes(*word);
            while word != 0 {
                let number = start.checked_add(index as u32 * 64 + word.trailing_zeros())?;
                (number < end).then_some(())?;
                self.insert(number);
                word &= word - 1;
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_reads_back_from_its_blocks() {
        let mut set = LiveSet::default();
        let numbers = [0, 63, 64, 4095, 4096, 9000];
        numbers.iter().for_each(|number| set.insert(*number));
        set.insert(70);
        set.remove(70);
        set.remove(71);
        assert_eq!(set.count(), 6);
        assert_eq!(set.changed_blocks(&LiveSet::default()), [0, 1, 2]);
        let mut read = LiveSet::default();
        for block in 0..3 {
            read.load_block(block, &set.block(block), 9001).unwrap();
        }
        assert_eq!(read, set);
        let mut found = vec![];
        let mut next = 0;
        while let Some(number) = read.next_from(next) {
            found.push(number);
            next = number + 1;
        }
        assert_eq!(found, numbers);
        assert!(LiveSet::default().load_block(2, &set.block(2), 9000).is_none(), "beyond the end");
        assert!(LiveSet::default().load_block(0, &[0; 8], 9000).is_none(), "too short");
    }
}
