//! Index objects that name chunks which exist nowhere: enough to fill an index.

use anyhow::Result;
use lifeboat_format::index::{IndexObject, IndexedPack};
use lifeboat_format::keys::Envelope;
use lifeboat_format::pack::Directory;
use lifeboat_format::region::{ChunkKind, Region, RegionHead};
use lifeboat_format::seal::{Codec, OVERHEAD_BYTES, Suite};
use lifeboat_format::{ChunkId, EnvelopeId, IndexName, PackName, RegionId, RepositoryId};
use lifeboat_index::Index;

/// The repository that the chunks would be in.
pub(crate) const REPOSITORY: RepositoryId = RepositoryId([1; 16]);
const CHUNK_BYTES: u32 = 16 << 10;
const REGION_CHUNKS: u64 = 64;
const PACK_CHUNKS: u64 = 32 * REGION_CHUNKS;
const OBJECT_PACKS: u64 = 16;

/// Numbers become names that are spread as hashes are (splitmix64).
fn spread(number: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (lane, bytes) in (0u64..).zip(bytes.chunks_exact_mut(8)) {
        let mut word = (number << 2 | lane).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.copy_from_slice(&(word ^ word >> 31).to_be_bytes());
    }
    bytes
}

/// The name of a chunk; those below what [`fill`] gives are present.
pub(crate) fn chunk_id(number: u64) -> ChunkId {
    let mut id = [0; ChunkId::BYTES];
    id.copy_from_slice(&spread(number)[..ChunkId::BYTES]);
    ChunkId(id)
}

/// Numbers without a pattern, the same in every run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        Self(1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 24
    }
}

fn pack(number: u64) -> IndexedPack {
    let plain_bytes = CHUNK_BYTES * REGION_CHUNKS as u32;
    let region = |index: u64| Region {
        head: RegionHead {
            kind: ChunkKind::Data,
            suite: Suite::XChaCha20Poly1305,
            codec: Codec::Raw,
            envelope: 0,
            id: RegionId([index as u8; 16]),
            stored_bytes: plain_bytes + OVERHEAD_BYTES as u32,
            plain_bytes,
        },
        chunk_bytes: vec![CHUNK_BYTES; REGION_CHUNKS as usize],
    };
    let envelope = Envelope { id: EnvelopeId([1; 16]), recipient: Envelope::READ_KEY, wrapped: vec![1; 73] };
    let directory = Directory {
        envelopes: vec![envelope],
        regions: (0..PACK_CHUNKS / REGION_CHUNKS).map(region).collect(),
        filler_bytes: 0,
    };
    let ids = (0..PACK_CHUNKS).map(|chunk| chunk_id(number * PACK_CHUNKS + chunk)).collect();
    IndexedPack { name: PackName(spread(u64::MAX / 8 + number)), bytes: 32 << 20, directory, ids }
}

/// Applies objects with at least `chunks` chunks, and gives how many it were.
pub(crate) fn fill(index: &Index, chunks: u64) -> Result<u64> {
    let objects = chunks.div_ceil(PACK_CHUNKS * OBJECT_PACKS);
    let object = |number: u64| {
        let packs = (number * OBJECT_PACKS..(number + 1) * OBJECT_PACKS).map(pack).collect();
        (IndexName(spread(u64::MAX / 4 + number)), IndexObject::new(packs))
    };
    index.apply(&mut (0..objects).map(object))?;
    Ok(objects * PACK_CHUNKS * OBJECT_PACKS)
}
