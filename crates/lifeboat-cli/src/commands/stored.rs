//! What a source of a snapshot holds, for whoever makes more of it than files.

use anyhow::{Context, Result, bail};
use lifeboat::format::snapshot::Source;
use lifeboat::format::{Node, TreePath};
use lifeboat::pieces::ChunkError;
use lifeboat::repo::reader::ChunkReader;
use lifeboat::snapshot_source::entries_below;
use lifeboat::workload::image::Entries;

/// A file of a source, of limited size; `None` where there is none.
pub(super) fn small_file(
    reader: &ChunkReader,
    source: &Source,
    name: &str,
    bytes_max: u64,
) -> Result<Option<Vec<u8>>> {
    let path = TreePath::from_slashes(name.as_bytes()).context("a name is a path")?;
    let Some(entry) = entries_below(reader, source.root, &path)?.next() else { return Ok(None) };
    let (found, entry) = entry.map_err(anyhow::Error::from_boxed)?;
    let Node::File { size, .. } = entry.node else { return Ok(None) };
    if found != path {
        return Ok(None);
    }
    if size > bytes_max {
        bail!("{name} of the snapshot has more than {bytes_max} bytes");
    }
    let mut bytes = Vec::new();
    lifeboat::dump::file(&entry, reader, &mut bytes)?;
    Ok(Some(bytes))
}

/// The same for one that has to be there.
pub(super) fn description(
    reader: &ChunkReader,
    source: &Source,
    name: &str,
    bytes_max: u64,
) -> Result<Vec<u8>> {
    small_file(reader, source, name, bytes_max)?.with_context(|| {
        format!("the snapshot has no {name} for {}", String::from_utf8_lossy(&source.full_name()))
    })
}

/// The way to a source's entries at and below a path.
pub(super) fn below<'r>(
    reader: &'r ChunkReader,
    source: &Source,
) -> impl Fn(&TreePath) -> Result<Entries<'r>, ChunkError> + use<'r> {
    let root = source.root;
    move |path: &TreePath| {
        let all = entries_below(reader, root, path).map_err(|error| Box::new(error) as ChunkError)?;
        Ok(Box::new(all) as Entries<'r>)
    }
}
