//! The repository as restore and dump see it.

use crate::pieces::{ChunkError, ChunkReader};
use crate::restore::EntryResult;
use lifeboat_format::region::ChunkKind;
use lifeboat_format::snapshot::TreeRoot;
use lifeboat_format::{ChunkId, TreePath};
use lifeboat_repo::cursor::TreeCursor;
use lifeboat_repo::reader;

impl ChunkReader for reader::ChunkReader {
    fn read_chunk(&self, kind: ChunkKind, id: &ChunkId, output: &mut Vec<u8>) -> Result<(), ChunkError> {
        Ok(self.read_into(kind, id, output)?)
    }

    fn is_chunk(&self, id: &ChunkId, bytes: &[u8]) -> bool {
        self.is_named(ChunkKind::Data, id, bytes)
    }

    fn places(&self, ids: &[ChunkId]) -> Vec<u64> {
        // What cannot be found here is told when it is read.
        reader::ChunkReader::places(self, ids).unwrap_or_else(|_| vec![0; ids.len()])
    }
}

/// The entries at and below `base` in a tree, in order.
///
/// # Errors
/// When the way to `base` cannot be read; later damage comes through the iterator.
pub fn entries_below<'r>(
    reader: &'r reader::ChunkReader,
    root: TreeRoot,
    base: &TreePath,
) -> lifeboat_repo::Result<impl Iterator<Item = EntryResult> + 'r> {
    let mut cursor = TreeCursor::new(reader, root);
    cursor.seek(base)?;
    let base = base.clone();
    Ok(cursor
        .map(|entry| entry.map_err(|error| Box::new(error) as ChunkError))
        .take_while(move |entry| entry.as_ref().map_or(true, |(path, _)| path.starts_with(&base))))
}
