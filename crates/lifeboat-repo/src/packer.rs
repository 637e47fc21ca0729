//! Fills packs: sealed regions go in, finished packs come out.
//!
//! Must stay true: a pack is spooled, never held in memory; its name is known only when it is complete; an unfinished
//! one leaves nothing behind.

use crate::error::{Error, Result};
use lifeboat_format::index::IndexedPack;
use lifeboat_format::keys::{Envelope, Keys};
use lifeboat_format::object::header;
use lifeboat_format::pack::{Directory, encode_tail, filler, padme, tail_bytes};
use lifeboat_format::region::Region;
use lifeboat_format::{ChunkId, ObjectKey, ObjectKind, PackName};
use lifeboat_store::{Spool, Store};

/// A pack is closed after so many regions, however little they take: they may all be zeros.
const REGIONS_MAX: usize = 2048;
/// A pack is closed after so many chunks, so that what a session must remember until then stays small: 4 MiB of ids. A pack
/// that is closed for this reason is padded like a full one, so it must be rare: database pages of 8 KiB that shrink to
/// 500 bytes are 64 Ki chunks in a pack of 32 MiB.
const CHUNKS_MAX: usize = 128 << 10;

/// A pack that is being filled.
pub(crate) struct OpenPack {
    spool: Box<dyn Spool>,
    hasher: blake3::Hasher,
    directory: Directory,
    directory_bytes: usize,
    ids: Vec<ChunkId>,
    bytes: u64,
    scratch: Vec<u8>,
}

impl OpenPack {
    /// Begins a pack whose regions are sealed under the key in `envelope`.
    pub(crate) fn begin(store: &dyn Store, envelope: &Envelope) -> Result<Self> {
        let spool = store.spool().map_err(Error::store("a new pack cannot be begun"))?;
        let directory = Directory { envelopes: vec![envelope.clone()], ..Directory::default() };
        let mut encoded = Vec::new();
        directory.encode(&mut encoded);
        let mut pack = Self {
            spool,
            hasher: blake3::Hasher::new(),
            directory,
            // The count of regions grows from one byte to two.
            directory_bytes: encoded.len() + 1,
            ids: Vec::new(),
            bytes: 0,
            scratch: Vec::new(),
        };
        pack.write(&header(ObjectKind::Pack))?;
        Ok(pack)
    }

    /// Whether a region of `stored_bytes` and `chunks` still fits into a pack of `pack_bytes`.
    pub(crate) fn fits(&self, stored_bytes: u32, chunks: usize, pack_bytes: u32) -> bool {
        // A region's head takes at most 40 bytes in the directory, a chunk's length at most 4.
        let directory_bytes = self.directory_bytes + 40 + 4 * chunks;
        let bytes = self.bytes + u64::from(stored_bytes) + tail_bytes(directory_bytes) as u64;
        bytes <= u64::from(pack_bytes)
            && self.directory.regions.len() < REGIONS_MAX
            && self.ids.len() + chunks <= CHUNKS_MAX.max(chunks)
    }

    /// Appends a sealed region.
    pub(crate) fn append(&mut self, region: Region, ids: &[ChunkId], stored: &[u8]) -> Result<()> {
        self.write(stored)?;
        self.scratch.clear();
        region.encode(&mut self.scratch);
        self.directory_bytes += self.scratch.len();
        self.directory.regions.push(region);
        self.ids.extend_from_slice(ids);
        Ok(())
    }

    /// Whether nothing was appended.
    pub(crate) fn is_empty(&self) -> bool {
        self.directory.regions.is_empty()
    }

    /// Pads, seals the directory, and makes the pack durable under its name.
    ///
    /// A full pack has exactly `pack_bytes`; the last one of a session is padded by PADMÉ.
    pub(crate) fn finish(mut self, keys: &Keys, pack_bytes: u32, is_last: bool) -> Result<IndexedPack> {
        let mut encoded = Vec::new();
        self.directory.encode(&mut encoded);
        let unpadded = self.bytes + tail_bytes(encoded.len()) as u64;
        let target = if is_last { padme(unpadded).min(u64::from(pack_bytes)) } else { u64::from(pack_bytes) };
        assert!(unpadded <= target, "a region was appended that did not fit");
        self.directory.filler_bytes = (target - unpadded) as u32;
        let filler = filler(self.directory.filler_bytes);
        self.write(&filler)?;
        let tail = encode_tail(keys, &self.directory).map_err(Error::format("a pack cannot be finished"))?;
        self.write(&tail)?;
        assert_eq!(self.bytes, target, "a pack has exactly the size it was padded to");
        let name = PackName(*self.hasher.finalize().as_bytes());
        let key = ObjectKey::new(ObjectKind::Pack, &name.0);
        self.spool.commit(&key).map_err(Error::store(format!("pack {name} cannot be stored")))?;
        Ok(IndexedPack { name, bytes: target as u32, directory: self.directory, ids: self.ids })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.spool.append(bytes).map_err(Error::store("a pack cannot be written"))
    }
}
