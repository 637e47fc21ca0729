//! What is done to names and entries: asking the index, building a tree, comparing two.

use super::data::keys;
use super::stage;
use crate::bench::Bench;
use crate::results::Unit;
use crate::rounds::Participant;
use crate::scale::synthetic;
use anyhow::{Context, Result, ensure};
use lifeboat_format::keys::Keys;
use lifeboat_format::region::ChunkKind;
use lifeboat_format::seal::Suite;
use lifeboat_format::snapshot::TreeRoot;
use lifeboat_format::{ChunkId, Entry, Metadata, TreePath};
use lifeboat_index::{Index, Options};
use lifeboat_repo::cursor::NodeSource;
use lifeboat_repo::diff::Diff;
use lifeboat_repo::tree::TreeBuilder;
use std::cell::Cell;
use std::collections::HashMap;

/// Chunks in the index: 16 GB of them at 16 KiB.
const CHUNKS: u64 = 1_000_000;
/// Ids that a worker asks for at once.
const BATCH: u64 = 128;
/// Entries of the trees, 100 in a folder.
const ENTRIES: u64 = 100_000;

/// Stages over names and entries.
pub(crate) fn stages(bench: &Bench) -> Result<Vec<Participant<'_>>> {
    let folder = bench.work.join("index");
    let index = Index::open(&folder, synthetic::REPOSITORY, &Options::default())?;
    let chunks = synthetic::fill(&index, CHUNKS)?;
    let index = std::rc::Rc::new(index);
    Ok(vec![
        look_up("index, present", index.clone(), 0, chunks),
        look_up("index, absent", index, chunks, chunks),
        build(),
        diff()?,
    ])
}

fn look_up<'s>(name: &str, index: std::rc::Rc<Index>, first: u64, count: u64) -> Participant<'s> {
    let present = first == 0;
    let mut random = synthetic::Random::new();
    stage(name, Unit::PerSecond, move || {
        let ids: Vec<ChunkId> =
            (0..BATCH).map(|_| synthetic::chunk_id(first + random.next() % count)).collect();
        let found = index.locate(&ids)?.iter().flatten().count() as u64;
        ensure!(found == if present { BATCH } else { 0 }, "the index found {found} of {BATCH} chunks");
        Ok(BATCH)
    })
}

fn entries(changed: Option<u64>) -> Result<Vec<(TreePath, Entry)>> {
    let entry = |number: u64| {
        let inode = if changed == Some(number) { 1 << 40 } else { number };
        let path = format!("d{:06}/file{number:06}", number / 100);
        let path = TreePath::from_slashes(path.as_bytes()).context("a path of a tree")?;
        Ok((path, Entry::directory(Metadata { inode, mode: 0o644, ..Metadata::default() })))
    };
    (0..ENTRIES).map(entry).collect()
}

fn build<'s>() -> Participant<'s> {
    let keys = keys(Suite::XChaCha20Poly1305);
    let mut known = None;
    stage("tree, build", Unit::PerSecond, move || {
        if known.is_none() {
            known = Some(entries(None)?);
        }
        let entries = known.as_deref().unwrap_or_default();
        ensure!(grow(&keys, entries, &mut |_, _| ())?.entries == ENTRIES, "the tree lost entries");
        Ok(ENTRIES)
    })
}

fn grow(
    keys: &Keys,
    entries: &[(TreePath, Entry)],
    keep: &mut dyn FnMut(ChunkId, Vec<u8>),
) -> Result<TreeRoot> {
    let mut put = |bytes: Vec<u8>| {
        let id = keys.chunk_id(ChunkKind::Tree, &bytes);
        keep(id, bytes);
        Ok(id)
    };
    let mut builder = TreeBuilder::new(keys);
    for (path, entry) in entries {
        builder.push(path, entry, &mut put)?;
    }
    Ok(builder.finish(&mut put)?)
}

/// Tree nodes in memory.
#[derive(Default)]
struct Nodes(HashMap<ChunkId, Vec<u8>>);

impl NodeSource for Nodes {
    fn read_node(&self, _: ChunkKind, id: &ChunkId) -> lifeboat_repo::Result<Vec<u8>> {
        self.0.get(id).cloned().ok_or(lifeboat_repo::Error::MissingChunk(*id))
    }
}

/// Two trees of a hundred thousand entries that share none, so that every entry is compared.
fn diff<'s>() -> Result<Participant<'s>> {
    let mut nodes = Nodes::default();
    let mut root = |shift: u64| {
        let mut moved = entries(None)?;
        moved.iter_mut().for_each(|(_, entry)| entry.metadata.uid = shift as u32);
        let keys = Keys::derive(
            &lifeboat_format::seal::Key::new([7; 32]),
            synthetic::REPOSITORY,
            Suite::XChaCha20Poly1305,
        );
        grow(&keys, &moved, &mut |id, bytes| drop(nodes.0.insert(id, bytes)))
    };
    let (first, second) = (root(1)?, root(2)?);
    let differences = Cell::new(0);
    Ok(stage("tree, diff", Unit::PerSecond, move || {
        differences.set(Diff::new(&nodes, first, second).filter(Result::is_ok).count() as u64);
        ensure!(differences.get() == ENTRIES, "{} of {ENTRIES} differences", differences.get());
        Ok(ENTRIES)
    }))
}
