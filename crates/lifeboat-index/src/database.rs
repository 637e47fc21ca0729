//! RocksDB as the cache uses it: tables are written by us and taken in whole, nothing ever goes through a memtable.
//!
//! Must stay true: one [`Database::ingest`] is one edit of RocksDB's manifest, so all of a change is there or none of
//! it, after a kill and after a power cut; and every block read is compared with its checksum.

use crate::blocks::BlockCache;
use crate::live::LiveSet;
use crate::record::{CHUNK, DUPLICATE};
use crate::{Error, Result};
use rocksdb::compaction_filter::CompactionFilter;
use rocksdb::compaction_filter_factory::{CompactionFilterContext, CompactionFilterFactory};
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, ColumnFamily, ColumnFamilyDescriptor, CompactionDecision, DB,
    DBCompressionType, IngestExternalFileOptions, LogLevel, Options, PrefixRange, ReadOptions,
};
use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

const COLUMN_FAMILY: &str = "default";
/// Length at which a table is closed.
pub(crate) const TABLE_BYTES: u64 = 64 << 20;
/// Tables that a writer keeps open: 16 GiB of them. Each costs some kilobytes besides the block cache.
const OPEN_FILES_MAX: i32 = 256;
/// Open tables are kept in 2 to this many parts, each with its own share of them. RocksDB's 64 parts would hold four each,
/// and throw tables out, with their blocks of index and filter, long before there are 256.
const OPEN_FILES_PARTS_LOG2: i32 = 0;

/// What compactions may drop: entries of packs below `end` that are not live.
#[derive(Debug, Default)]
pub(crate) struct Census {
    pub(crate) live: LiveSet,
    pub(crate) end: u32,
}

/// The census, shared with compactions.
///
/// It is not behind the lock of the index's state: that one is held while tables are taken in, which may wait for a
/// compaction, which would then wait for the lock.
pub(crate) type SharedCensus = Arc<Mutex<Arc<Census>>>;

/// Length of a part of a filter or of an index: what is read at once where it is not in memory.
const METADATA_BYTES: usize = 256 << 10;

/// Takes the key and the value of a record.
type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<()> + 'a;

/// An open RocksDB instance.
pub(crate) struct Database {
    directory: PathBuf,
    options: Options,
    db: DB,
}

impl Database {
    /// Opens for reading and writing; makes what is missing.
    pub(crate) fn open(directory: &Path, cache: &BlockCache, census: SharedCensus) -> Result<Self> {
        let mut options = options(cache);
        options.create_if_missing(true);
        options.set_max_open_files(OPEN_FILES_MAX);
        options.set_table_cache_num_shard_bits(OPEN_FILES_PARTS_LOG2);
        options.set_compaction_filter_factory(DeadEntries { census });
        let column_family = ColumnFamilyDescriptor::new(COLUMN_FAMILY, options.clone());
        let db = DB::open_cf_descriptors(&options, directory, [column_family])
            .map_err(|error| Error::database(directory, error))?;
        Ok(Self { directory: directory.to_path_buf(), options, db })
    }

    /// Opens what another process writes, as it is now.
    ///
    /// All tables are opened at once and stay open: the writer may delete them any time.
    pub(crate) fn open_read_only(directory: &Path, cache: &BlockCache) -> Result<Self> {
        let mut options = options(cache);
        options.set_max_open_files(-1);
        let column_family = ColumnFamilyDescriptor::new(COLUMN_FAMILY, options.clone());
        let db = DB::open_cf_descriptors_read_only(&options, directory, [column_family], false)
            .map_err(|error| Error::database(directory, error))?;
        Ok(Self { directory: directory.to_path_buf(), options, db })
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The options that tables for this instance are written with.
    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) fn error(&self, error: rocksdb::Error) -> Error {
        Error::database(&self.directory, error)
    }

    pub(crate) fn corrupt(&self, detail: impl Into<String>) -> Error {
        Error::corrupt(&self.directory, detail)
    }

    fn column_family(&self) -> &ColumnFamily {
        self.db.cf_handle(COLUMN_FAMILY).expect("both ways of opening name this column family")
    }

    /// Visits the value of every key that is there, with the key's place in `keys`, which must be ascending.
    pub(crate) fn get_many<K: AsRef<[u8]>>(
        &self,
        keys: &[K],
        visit: &mut dyn FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let keys = keys.iter().map(AsRef::as_ref);
        let values =
            self.db.batched_multi_get_cf_opt(self.column_family(), keys, true, &ReadOptions::default());
        for (index, value) in values.into_iter().enumerate() {
            if let Some(value) = value.map_err(|error| self.error(error))? {
                visit(index, &value)?;
            }
        }
        Ok(())
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.db.get(key).map_err(|error| self.error(error))
    }

    /// Visits all records of one kind in the order of their keys; the letter is part of the key.
    pub(crate) fn scan(&self, letter: u8, visit: &mut Visit<'_>) -> Result<()> {
        let mut options = ReadOptions::default();
        // Whole scans are rare, and would push out what look-ups need.
        options.fill_cache(false);
        options.set_iterate_range(PrefixRange([letter]));
        self.scan_with(options, visit)
    }

    /// Visits the few records whose keys begin with `prefix`.
    pub(crate) fn scan_few(&self, prefix: &[u8], visit: &mut Visit<'_>) -> Result<()> {
        let mut options = ReadOptions::default();
        options.set_iterate_range(PrefixRange(prefix));
        self.scan_with(options, visit)
    }

    /// Visits the records from key `first` to key `last`, both included.
    pub(crate) fn scan_from_to(&self, first: &[u8], last: &[u8], visit: &mut Visit<'_>) -> Result<()> {
        let mut options = ReadOptions::default();
        // The end is not in RocksDB's range: no key comes between `last` and this.
        options.set_iterate_range(first..&[last, &[0]].concat());
        self.scan_with(options, visit)
    }

    fn scan_with(&self, options: ReadOptions, visit: &mut Visit<'_>) -> Result<()> {
        let mut iterator = self.db.raw_iterator_opt(options);
        iterator.seek_to_first();
        while let Some((key, value)) = iterator.item() {
            visit(key, value)?;
            iterator.next();
        }
        iterator.status().map_err(|error| self.error(error))
    }

    /// Whether there is no record at all.
    pub(crate) fn is_empty(&self) -> Result<bool> {
        let mut iterator = self.db.raw_iterator();
        iterator.seek_to_first();
        iterator.status().map_err(|error| self.error(error))?;
        Ok(!iterator.valid())
    }

    /// Takes in finished tables, which are moved, as one durable change.
    pub(crate) fn ingest(&self, tables: Vec<PathBuf>) -> Result<()> {
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        self.db.ingest_external_file_opts(&options, tables).map_err(|error| self.error(error))
    }

    /// Merges all tables now, which otherwise happens when there are enough of them.
    #[cfg(test)]
    pub(crate) fn compact(&self) {
        let mut options = rocksdb::CompactOptions::default();
        options.set_bottommost_level_compaction(rocksdb::BottommostLevelCompaction::Force);
        self.db.compact_range_opt(None::<&[u8]>, None::<&[u8]>, &options);
    }

    /// Bytes of the tables.
    pub(crate) fn bytes(&self) -> Result<u64> {
        let bytes = self.db.property_int_value(rocksdb::properties::TOTAL_SST_FILES_SIZE);
        Ok(bytes.map_err(|error| self.error(error))?.unwrap_or(0))
    }
}

fn options(cache: &BlockCache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache.blocks());
    table.set_block_size(4 << 10);
    table.set_format_version(6);
    // 5.8 bits a chunk, and 2 in 100 absent chunks cost a read. With 1 in 100 (7 bits), the filters of 100 million chunks
    // and what is asked of them beside do not fit the memory that they may take.
    table.set_ribbon_filter(8.0);
    table.set_whole_key_filtering(true);
    // Index and filters are cut into blocks that live in the cache, so that memory does not grow with the number of
    // chunks; only their top levels are pinned.
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    // Finding a part costs more than asking it: with parts of 4 KiB, absent chunks take 1.6 times as long.
    table.set_metadata_block_size(METADATA_BYTES);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_top_level_index_and_filter(true);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    // Ids do not compress.
    options.set_compression_type(DBCompressionType::None);
    options.set_target_file_size_base(TABLE_BYTES);
    options.set_max_background_jobs(2);
    // Nothing is ever put into the memtable; RocksDB wants one all the same.
    options.set_write_buffer_size(64 << 10);
    options.set_max_write_buffer_number(2);
    // RocksDB's own choice is 16 threads, started even for one table; they take longer than opening a few.
    options.set_max_file_opening_threads(1);
    options.set_paranoid_checks(true);
    options.set_skip_stats_update_on_db_open(true);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_log_level(LogLevel::Error);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    options.set_max_manifest_file_size(4 << 20);
    // RocksDB's own choice is 4 MiB, taken from the disk whenever the cache is opened.
    options.set_manifest_preallocation_size(16 << 10);
    options
}

/// Drops entries of dead packs when tables are compacted anyway.
struct DeadEntries {
    census: SharedCensus,
}

impl CompactionFilterFactory for DeadEntries {
    type Filter = DeadEntriesFilter;

    fn create(&mut self, _context: CompactionFilterContext) -> Self::Filter {
        DeadEntriesFilter { census: Arc::clone(&self.census.lock().unwrap_or_else(PoisonError::into_inner)) }
    }

    fn name(&self) -> &CStr {
        c"lifeboat.dead-entries"
    }
}

struct DeadEntriesFilter {
    census: Arc<Census>,
}

impl CompactionFilter for DeadEntriesFilter {
    fn filter(&mut self, _level: u32, key: &[u8], value: &[u8]) -> CompactionDecision {
        let pack = match key.first() {
            Some(&CHUNK) => value.first_chunk(),
            Some(&DUPLICATE) => key.last_chunk(),
            _ => None,
        };
        match pack.map(|bytes| u32::from_be_bytes(*bytes)) {
            Some(pack) if pack < self.census.end && !self.census.live.contains(pack) => {
                CompactionDecision::Remove
            }
            _ => CompactionDecision::Keep,
        }
    }

    fn name(&self) -> &CStr {
        c"lifeboat.dead-entries"
    }
}
