//! Copies what is needed of packs that are to go: as a writer would store it.
//!
//! Must stay true: it is a session that begins after the condemned list is there and the sessions from before are over. So
//! what it may rely on is what any writer may rely on: what an index object names, in a pack that is stored and on no
//! condemned list. Whatever else is reached is stored anew, and is durable and indexed when this ends.
//! `docs/format/session.md#collection`, steps 7 and 8.

use super::Heart;
use super::mark::Reached;
use super::objects::each_index_object;
use super::survey::{Survey, regions};
use crate::error::{Error, ErrorKind, Result};
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

/// What to do about a region that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It ends the collection: what it held would be lost with its pack.
    Stops,
    /// It is lost already, and left out.
    IsLeftOut,
}

/// What copying took.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Copied {
    /// Bytes of new packs.
    pub(super) bytes: u64,
    /// Bytes of old ones that were read.
    pub(super) bytes_read: u64,
}

/// Copies what is `reached` in `packs`.
pub(super) fn copy(
    repository: &Repository,
    options: SessionOptions,
    (reached, unreadable): (&dyn Reached, Unreadable),
    survey: &Survey,
    packs: &BTreeMap<PackName, u64>,
    heart: &dyn Heart,
) -> Result<Copied> {
    // `ReadLists2`, `ReadIndex2`, `ListPacks2`
    let session = Session::begin(repository, options, Vec::new())?;
    let result = copy_into(&session, (reached, unreadable), survey, packs, heart);
    // `PutCopy`, `PutIndexOfCopy`
    let result = result.and_then(|bytes_read| session.settle().map(|()| bytes_read));
    let bytes = session.packed_bytes();
    session.abandon();
    result.map(|bytes_read| Copied { bytes, bytes_read })
}

fn copy_into(
    session: &Arc<Session>,
    (reached, unreadable): (&dyn Reached, Unreadable),
    survey: &Survey,
    packs: &BTreeMap<PackName, u64>,
    heart: &dyn Heart,
) -> Result<u64> {
    let repository = session.repository();
    let reader = ChunkReader::new(repository);
    let mut copier = Copier { reached, unreadable, reader, sink: ChunkSink::new(session)?, heart };
    let mut copied = BTreeSet::new();
    each_index_object(repository, survey.may_name(packs.keys()), |_, object| {
        for pack in object.packs.iter().filter(|pack| packs.contains_key(&pack.name)) {
            if copied.insert(pack.name) {
                copier.pack(pack)?;
            }
        }
        Ok(())
    })?;
    copier.sink.flush()?;
    Ok(copier.reader.bytes_read())
}

struct Copier<'c> {
    reached: &'c dyn Reached,
    unreadable: Unreadable,
    reader: ChunkReader,
    sink: ChunkSink,
    heart: &'c dyn Heart,
}

impl Copier<'_> {
    fn pack(&mut self, pack: &IndexedPack) -> Result<()> {
        let offsets: Vec<u32> = pack.directory.offsets().collect();
        for (number, ids) in regions(pack) {
            self.heart.beat()?;
            match self.region(pack, number, offsets[number], ids) {
                Err(error) if self.unreadable == Unreadable::IsLeftOut && is_damage(&error) => {}
                result => result?,
            }
        }
        Ok(())
    }

    fn region(&mut self, pack: &IndexedPack, number: usize, offset: u32, ids: &[ChunkId]) -> Result<()> {
        let mut reached = Vec::with_capacity(ids.len());
        for id in ids {
            reached.push(self.reached.is_reached(id)?);
        }
        if !reached.contains(&true) {
            return Ok(());
        }
        let region = &pack.directory.regions[number];
        let envelope = Arc::new(pack.directory.envelopes[usize::from(region.head.envelope)].clone());
        let location = RegionLocation { pack: pack.name, offset, head: region.head, envelope };
        let plain = self.reader.open_region(&Found { region: location, offset: 0, bytes: 0 })?;
        let mut rest = &plain[..];
        let mut chunks: Vec<(ChunkId, &[u8])> = Vec::with_capacity(ids.len());
        for ((id, bytes), is_reached) in ids.iter().zip(&region.chunk_bytes).zip(reached) {
            let (chunk, others) = rest.split_at_checked(*bytes as usize).ok_or_else(|| too_short(pack))?;
            rest = others;
            if !is_reached {
                continue;
            }
            if self.reader.is_named(region.head.kind, id, chunk) {
                chunks.push((*id, chunk));
            } else if self.unreadable == Unreadable::Stops {
                let detail = "its bytes have another name".into();
                return Err(Error::Damaged { what: format!("chunk {id} in pack {}", pack.name), detail });
            }
        }
        self.sink.add_named(region.head.kind, &chunks)?;
        self.sink.seal_full()
    }
}

/// Whether an error says that something stored is not as it was; a truncated pack ends before its regions.
fn is_damage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound)
}

fn too_short(pack: &IndexedPack) -> Error {
    Error::Damaged { what: format!("pack {}", pack.name), detail: "one of its regions is too short".into() }
}
