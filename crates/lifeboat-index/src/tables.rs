//! Writing the tables of one change, in the order of their keys.

use crate::database::{Database, TABLE_BYTES};
use crate::{Error, Result};
use rocksdb::SstFileWriter;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A table this long ends where the kind of record changes: chunks alone, and not the whole range of keys, then fit
/// into RocksDB's lowest level without being merged.
const TABLE_BYTES_SPLIT: u64 = 4 << 20;

/// A folder beside the database for what a change needs until it is taken in; gone when dropped.
pub(crate) struct Scratch(TempDir);

/// How its folders' names begin; the holder of the cache's lock removes those of dead processes.
pub(crate) const SCRATCH_PREFIX: &str = "change-";

impl Scratch {
    pub(crate) fn create_in(parent: &Path) -> Result<Self> {
        tempfile::Builder::new()
            .prefix(SCRATCH_PREFIX)
            .tempdir_in(parent)
            .map(Self)
            .map_err(Error::io("create a temporary folder in", parent))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Tables being written; keys must ascend.
pub(crate) struct Tables<'a> {
    database: &'a Database,
    scratch: PathBuf,
    current: Option<Current<'a>>,
    finished: Vec<PathBuf>,
}

struct Current<'a> {
    writer: SstFileWriter<'a>,
    bytes: u64,
    letter: u8,
}

impl<'a> Tables<'a> {
    pub(crate) fn new(database: &'a Database, scratch: &Scratch) -> Self {
        Self { database, scratch: scratch.path().to_path_buf(), current: None, finished: Vec::new() }
    }

    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let database = self.database;
        self.table_for(key, value.len())?.put(key, value).map_err(|error| database.error(error))
    }

    pub(crate) fn delete(&mut self, key: &[u8]) -> Result<()> {
        let database = self.database;
        self.table_for(key, 0)?.delete(key).map_err(|error| database.error(error))
    }

    fn table_for(&mut self, key: &[u8], value_bytes: usize) -> Result<&mut SstFileWriter<'a>> {
        let letter = key.first().copied().unwrap_or_default();
        let full = self.current.as_ref().is_some_and(|current| {
            current.bytes >= TABLE_BYTES || (current.bytes >= TABLE_BYTES_SPLIT && current.letter != letter)
        });
        if full {
            self.finish_table()?;
        }
        let current = match &mut self.current {
            Some(current) => current,
            empty => {
                let writer = SstFileWriter::create(self.database.options());
                let path = self.scratch.join(format!("{}.sst", self.finished.len()));
                writer.open(&path).map_err(|error| self.database.error(error))?;
                self.finished.push(path);
                empty.insert(Current { writer, bytes: 0, letter })
            }
        };
        // What RocksDB adds to a record: sequence number, lengths, its share of index and filter.
        current.bytes += (key.len() + value_bytes + 12) as u64;
        current.letter = letter;
        Ok(&mut current.writer)
    }

    fn finish_table(&mut self) -> Result<()> {
        match self.current.take() {
            Some(mut current) => current.writer.finish().map_err(|error| self.database.error(error)),
            None => Ok(()),
        }
    }

    /// The finished tables, durable.
    pub(crate) fn finish(mut self) -> Result<Vec<PathBuf>> {
        self.finish_table()?;
        Ok(self.finished)
    }
}
