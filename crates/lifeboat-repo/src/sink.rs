//! Takes chunks, keeps what is new, and seals it region by region.
//!
//! Each worker has a sink of its own; what they share is in [`crate::session::Session`]. Must stay true: every region is
//! opened again and its chunk ids recomputed before it goes into a pack, so that a flaw in compression, encryption or
//! memory is found while the source is still there.

use crate::error::{Error, Result};
use crate::session::Session;
use lifeboat_format::ChunkId;
use lifeboat_format::limits::REGION_CHUNKS_MAX;
use lifeboat_format::region::{ChunkKind, Region, RegionOpener, RegionSealer, verify_chunks};
use std::sync::Arc;

/// A region is closed after so many chunks, however short: decoders refuse four times as many.
const REGION_CHUNKS: usize = REGION_CHUNKS_MAX as usize / 4;

/// Chunks that wait to be compressed and sealed together.
#[derive(Default)]
pub struct PlainRegion {
    kind: Option<ChunkKind>,
    plain: Vec<u8>,
    ids: Vec<ChunkId>,
    chunk_bytes: Vec<u32>,
}

impl PlainRegion {
    fn clear(&mut self) {
        self.plain.clear();
        self.ids.clear();
        self.chunk_bytes.clear();
    }
}

/// Takes chunks from one thread.
pub struct ChunkSink {
    session: Arc<Session>,
    open: [PlainRegion; 3],
    full: Vec<PlainRegion>,
    sealer: RegionSealer,
    reader: BackReader,
}

/// Reads back what was sealed.
struct BackReader {
    opener: RegionOpener,
    stored: Vec<u8>,
    plain: Vec<u8>,
}

impl BackReader {
    /// Whether `sealed` opens to the chunks called `ids`.
    fn read(&mut self, session: &Session, region: &Region, ids: &[ChunkId], sealed: &[u8]) -> Result<()> {
        self.stored.clear();
        self.stored.extend_from_slice(sealed);
        self.opener
            .open(&region.head, session.key(), &mut self.stored, &mut self.plain)
            .and_then(|()| verify_chunks(session.keys(), region, ids, &self.plain))
            .map_err(Error::format(
                "a region that was just sealed does not read back: this machine's memory may be bad",
            ))
    }
}

impl ChunkSink {
    /// A sink into `session`.
    pub fn new(session: &Arc<Session>) -> Result<Self> {
        let keys = session.keys();
        let sealer = RegionSealer::new(keys, session.key(), session.compression_level())
            .map_err(Error::format("the compression level cannot be used"))?;
        let opener = RegionOpener::new(keys.repository());
        Ok(Self {
            session: session.clone(),
            open: Default::default(),
            full: Vec::new(),
            sealer,
            reader: BackReader { opener, stored: Vec::new(), plain: Vec::new() },
        })
    }

    /// Adds one chunk, if the repository does not have it.
    pub fn add(&mut self, kind: ChunkKind, plain: &[u8]) -> Result<ChunkId> {
        let id = self.session.keys().chunk_id(kind, plain);
        self.add_named(kind, &[(id, plain)])?;
        self.seal_full()?;
        Ok(id)
    }

    /// Adds chunks whose names are known already; the index is asked once for all of them.
    ///
    /// Full regions pile up until [`Self::take_full`] or [`Self::seal_full`].
    pub fn add_named(&mut self, kind: ChunkKind, chunks: &[(ChunkId, &[u8])]) -> Result<()> {
        let ids: Vec<ChunkId> = chunks.iter().map(|(id, _)| *id).collect();
        let is_new = self.session.claim(&ids)?;
        for ((id, plain), is_new) in chunks.iter().zip(is_new) {
            if is_new {
                self.append(kind, *id, plain);
            }
        }
        Ok(())
    }

    fn append(&mut self, kind: ChunkKind, id: ChunkId, plain: &[u8]) {
        let region = &mut self.open[kind as usize - 1];
        region.kind = Some(kind);
        region.plain.extend_from_slice(plain);
        region.ids.push(id);
        region.chunk_bytes.push(plain.len() as u32);
        if region.plain.len() >= self.session.region_bytes() || region.ids.len() >= REGION_CHUNKS {
            let empty = self.session.spare_region();
            self.full.push(std::mem::replace(&mut self.open[kind as usize - 1], empty));
        }
    }

    /// A full region that somebody else may seal.
    pub fn take_full(&mut self) -> Option<PlainRegion> {
        self.full.pop()
    }

    /// Seals the full regions here.
    pub fn seal_full(&mut self) -> Result<()> {
        while let Some(region) = self.full.pop() {
            self.seal(region)?;
        }
        Ok(())
    }

    /// Compresses, seals, verifies and packs one region.
    pub fn seal(&mut self, mut region: PlainRegion) -> Result<()> {
        let Some(kind) = region.kind.filter(|_| !region.ids.is_empty()) else {
            return Ok(());
        };
        let (head, sealed) = self.sealer.seal(kind, 0, &region.plain);
        let sealed_region = Region { head, chunk_bytes: std::mem::take(&mut region.chunk_bytes) };
        let session = &self.session;
        self.reader.read(session, &sealed_region, &region.ids, sealed)?;
        session.append(sealed_region, &region.ids, sealed)?;
        region.clear();
        session.recycle(region);
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.full.is_empty() && self.open.iter().all(|region| region.ids.is_empty())
    }

    /// Seals everything that is still open.
    pub fn flush(&mut self) -> Result<()> {
        self.seal_full()?;
        for kind in ChunkKind::ALL {
            let region = std::mem::take(&mut self.open[kind as usize - 1]);
            self.seal(region)?;
        }
        Ok(())
    }
}

impl Drop for ChunkSink {
    /// Other threads rely on the chunks that this one claimed: a session that loses some can never commit.
    fn drop(&mut self) {
        if !self.is_empty() {
            self.session.tear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Repository;
    use crate::session::SessionOptions;
    use lifeboat_format::config::Parameters;
    use lifeboat_format::seal::Key;
    use lifeboat_format::slot::Secret;
    use lifeboat_format::{HostId, ObjectKind, Timestamp};
    use lifeboat_store::{MemoryStore, Store};
    use proptest::prelude::*;

    fn begin(store: &MemoryStore) -> Arc<Session> {
        let store = Arc::new(store.clone());
        let key = Key::new([5; 32]);
        let repository = Repository::init(
            store,
            Parameters::default(),
            &Secret::KeyFile(&key),
            "key",
            Timestamp::default(),
        )
        .unwrap();
        let options = SessionOptions { compression_level: 3, host: HostId([7; 16]) };
        Session::begin(&repository, options, vec![]).unwrap()
    }

    /// Chunks of text and of noise, in a region that is still open.
    fn fill(sink: &mut ChunkSink) {
        let mut noise = vec![0; 3_000];
        sink.session.keys().cut_bytes("noise", &mut noise);
        for plain in [b"some text, ".repeat(300), noise, vec![b'x'; 70]] {
            sink.add(ChunkKind::Data, &plain).unwrap();
        }
    }

    const FILLED: usize = 3_300 + 3_000 + 70;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        /// Memory that changes after a chunk was named: nothing of its region is packed, and the session never commits.
        #[test]
        fn a_bit_that_flips_before_compression_is_found(at in 0..FILLED, bit in 0u8..8) {
            let store = MemoryStore::new();
            let session = begin(&store);
            let mut sink = ChunkSink::new(&session).unwrap();
            fill(&mut sink);
            sink.open[ChunkKind::Data as usize - 1].plain[at] ^= 1 << bit;
            let error = sink.flush().unwrap_err();
            prop_assert!(error.to_string().contains("does not read back"), "{error}");
            drop(sink);
            prop_assert!(store.list(ObjectKind::Pack).unwrap().is_empty());
        }

        /// Memory that changes after a region was sealed, or a sealer that errs.
        #[test]
        fn a_bit_that_flips_after_sealing_is_found(at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let session = begin(&MemoryStore::new());
            let mut sink = ChunkSink::new(&session).unwrap();
            fill(&mut sink);
            let region = std::mem::take(&mut sink.open[ChunkKind::Data as usize - 1]);
            let (head, sealed) = sink.sealer.seal(ChunkKind::Data, 0, &region.plain);
            let sealed_region = Region { head, chunk_bytes: region.chunk_bytes };
            sink.reader.read(&session, &sealed_region, &region.ids, sealed).unwrap();
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            let read = sink.reader.read(&session, &sealed_region, &region.ids, sealed);
            prop_assert!(read.is_err());
        }
    }
}
