//! How much memory blocks of the databases take: filters and index stay in it, so that an absent chunk costs no read.
//!
//! Must stay true: between the bounds that the caller gave, it holds the filter and the index of every chunk that was there
//! when the index was opened. Beyond [`Options::cache_bytes_max`] look-ups become slower, and memory does not grow.

use crate::Options;
use rocksdb::Cache;

/// A chunk's share of the filters is 0.7 bytes, and of the tables' indexes 0.2.
const BYTES_PER_CHUNK: u64 = 1;

/// Shared by the databases of one index.
pub(crate) struct BlockCache {
    blocks: Cache,
    bytes_min: usize,
    bytes_max: usize,
}

impl BlockCache {
    pub(crate) fn new(options: &Options) -> Self {
        let blocks = Cache::new_hyper_clock_cache(options.cache_bytes, 0);
        Self { blocks, bytes_min: options.cache_bytes, bytes_max: options.cache_bytes_max }
    }

    pub(crate) fn blocks(&self) -> &Cache {
        &self.blocks
    }

    /// Takes the memory that looking up among `chunks` needs.
    pub(crate) fn fit(&self, chunks: u64) {
        self.blocks.clone().set_capacity(self.bytes_for(chunks));
    }

    fn bytes_for(&self, chunks: u64) -> usize {
        let wanted = usize::try_from(chunks.saturating_mul(BYTES_PER_CHUNK)).unwrap_or(usize::MAX);
        wanted.min(self.bytes_max).max(self.bytes_min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_follows_the_number_of_chunks_between_its_bounds() {
        let options = Options { cache_bytes: 1000, cache_bytes_max: 5000, ..Options::default() };
        let cache = BlockCache::new(&options);
        let sizes = [0, 1000, 3000, 5000, 6000, u64::MAX].map(|chunks| cache.bytes_for(chunks));
        assert_eq!(sizes, [1000, 1000, 3000, 5000, 5000, 5000]);
        // Whoever allows less than the least gets the least.
        let cache = BlockCache::new(&Options { cache_bytes_max: 10, ..options });
        assert_eq!([0, 3000].map(|chunks| cache.bytes_for(chunks)), [1000, 1000]);
    }
}
