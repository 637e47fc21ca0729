//! Copies what is needed of packs that are to go: as a writer would store it.
//!
//! Must stay true: it is a session that begins after the condemned list is there and the sessions from before are over. So
//! what it may rely on is what any writer may rely on: what an index object names, in a pack that is stored and on no
//! condemned list. Whatever else is reached is stored anew, and is durable and indexed when this ends.
//! `docs/format/session.md#collection`, steps 7 and 8.

use super::Heart;
use super::mark::Mark;
use super::objects::each_index_object;
use super::survey::{Survey, regions};
use crate::error::{Error, Result};
use crate::lookup::Found;
use crate::reader::ChunkReader;
use crate::repository::Repository;
use crate::session::{Session, SessionOptions};
use crate::sink::ChunkSink;
use lifeboat_format::index::IndexedPack;
use lifeboat_format::{ChunkId, PackName};
use lifeboat_index::RegionLocation;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Copies what `mark` reached in `packs`; how many bytes that took.
pub(super) fn copy(
    repository: &Repository,
    options: SessionOptions,
    mark: &Mark<'_>,
    survey: &Survey,
    packs: &BTreeMap<PackName, u64>,
    heart: &dyn Heart,
) -> Result<u64> {
    // `ReadLists2`, `ReadIndex2`, `ListPacks2`
    let session = Session::begin(repository, options, Vec::new())?;
    let result = copy_into(&session, mark, survey, packs, heart);
    // `PutCopy`, `PutIndexOfCopy`
    let result = result.and_then(|()| session.settle());
    let copied_bytes = session.packed_bytes();
    session.abandon();
    result.map(|()| copied_bytes)
}

fn copy_into(
    session: &Arc<Session>,
    mark: &Mark<'_>,
    survey: &Survey,
    packs: &BTreeMap<PackName, u64>,
    heart: &dyn Heart,
) -> Result<()> {
    let repository = session.repository();
    let reader = ChunkReader::new(repository);
    let mut sink = ChunkSink::new(session)?;
    let mut copied = BTreeSet::new();
    each_index_object(repository, survey.may_name(packs.keys()), |_, object| {
        for pack in object.packs.iter().filter(|pack| packs.contains_key(&pack.name)) {
            if copied.insert(pack.name) {
                copy_pack(pack, mark, &reader, &mut sink, heart)?;
            }
        }
        Ok(())
    })?;
    sink.flush()
}

fn copy_pack(
    pack: &IndexedPack,
    mark: &Mark<'_>,
    reader: &ChunkReader,
    sink: &mut ChunkSink,
    heart: &dyn Heart,
) -> Result<()> {
    let offsets: Vec<u32> = pack.directory.offsets().collect();
    for (number, ids) in regions(pack) {
        heart.beat()?;
        let mut reached = Vec::with_capacity(ids.len());
        for id in ids {
            reached.push(mark.is_reached(id)?);
        }
        if !reached.contains(&true) {
            continue;
        }
        let region = &pack.directory.regions[number];
        let envelope = Arc::new(pack.directory.envelopes[usize::from(region.head.envelope)].clone());
        let location =
            RegionLocation { pack: pack.name, offset: offsets[number], head: region.head, envelope };
        let plain = reader.open_region(&Found { region: location, offset: 0, bytes: 0 })?;
        let mut rest = &plain[..];
        let mut chunks: Vec<(ChunkId, &[u8])> = Vec::with_capacity(ids.len());
        for ((id, bytes), is_reached) in ids.iter().zip(&region.chunk_bytes).zip(reached) {
            let (chunk, others) = rest.split_at_checked(*bytes as usize).ok_or_else(|| too_short(pack))?;
            rest = others;
            if is_reached {
                if !reader.is_named(region.head.kind, id, chunk) {
                    let detail = "its bytes have another name".into();
                    return Err(Error::Damaged { what: format!("chunk {id} in pack {}", pack.name), detail });
                }
                chunks.push((*id, chunk));
            }
        }
        sink.add_named(region.head.kind, &chunks)?;
        sink.seal_full()?;
    }
    Ok(())
}

fn too_short(pack: &IndexedPack) -> Error {
    Error::Damaged { what: format!("pack {}", pack.name), detail: "one of its regions is too short".into() }
}
