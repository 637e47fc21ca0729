//! The records of the cache: one letter for the kind, then the key. Nothing here outlives the cache, so nothing here
//! is format; whoever changes a layout raises [`SCHEMA`], and caches of other schemas are thrown away.
//!
//! The letters order the kinds as a commit produces them: regions while index objects are read, then chunks and
//! duplicates in the order of their ids, then the small rest. A commit thus writes its tables in one pass.

use lifeboat_format::keys::Envelope;
use lifeboat_format::region::{ChunkKind, RegionHead};
use lifeboat_format::seal::{Codec, Suite};
use lifeboat_format::wire::{Reader, Write};
use lifeboat_format::{ChunkId, EnvelopeId, Error, IndexName, PackName, RegionId, RepositoryId};

/// Version of the layouts below.
pub(crate) const SCHEMA: u32 = 2;

/// Area of a pack, that is, a region: pack number and region number → [`RegionRecord`].
pub(crate) const REGION: u8 = b'A';
/// Chunk id → where one live copy lies.
pub(crate) const CHUNK: u8 = b'C';
/// Chunk id and pack number → where another copy lies.
pub(crate) const DUPLICATE: u8 = b'D';
/// Envelope id → envelope.
pub(crate) const ENVELOPE: u8 = b'E';
/// Block number → the bits of [`crate::live::LiveSet`].
pub(crate) const LIVE: u8 = b'L';
/// → [`StateRecord`].
pub(crate) const STATE: u8 = b'M';
/// Pack name → pack number.
pub(crate) const NAME: u8 = b'N';
/// Index object's name → [`ObjectRecord`].
pub(crate) const OBJECT: u8 = b'O';
/// Pack number → [`PackRecord`].
pub(crate) const PACK: u8 = b'P';

/// A pack, as this cache numbers it. Another cache, or this one rebuilt, gives it another number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackNumber(pub(crate) u32);

impl PackNumber {
    /// The number: packs that were taken in together are near each other.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

/// Where a chunk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkLocation {
    /// In which pack.
    pub pack: PackNumber,
    /// In which of its regions.
    pub region: u16,
    /// Where in the region's plaintext it begins.
    pub offset: u32,
    /// How long it is.
    pub length: u32,
}

impl ChunkLocation {
    /// From the end of an [`Entry`].
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; ENTRY_BYTES - ChunkId::BYTES] = bytes.try_into().ok()?;
        let [p0, p1, p2, p3, r0, r1, o0, o1, o2, o3, l0, l1, l2, l3] = *bytes;
        Some(Self {
            pack: PackNumber(u32::from_be_bytes([p0, p1, p2, p3])),
            region: u16::from_be_bytes([r0, r1]),
            offset: u32::from_be_bytes([o0, o1, o2, o3]),
            length: u32::from_be_bytes([l0, l1, l2, l3]),
        })
    }
}

/// Bytes of an [`Entry`].
pub(crate) const ENTRY_BYTES: usize = PACK_END + 10;

/// Where the pack's number ends in an [`Entry`]; it stands behind the id.
const PACK_END: usize = ChunkId::BYTES + 4;

/// A chunk and where it lies, as bytes that sort by id and then by pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry(pub(crate) [u8; ENTRY_BYTES]);

impl Entry {
    pub(crate) fn new(id: &ChunkId, location: &ChunkLocation) -> Self {
        let mut bytes = [0; ENTRY_BYTES];
        let (key, rest) = bytes.split_at_mut(PACK_END);
        key[..ChunkId::BYTES].copy_from_slice(&id.0);
        key[ChunkId::BYTES..].copy_from_slice(&location.pack.0.to_be_bytes());
        rest[..2].copy_from_slice(&location.region.to_be_bytes());
        rest[2..6].copy_from_slice(&location.offset.to_be_bytes());
        rest[6..].copy_from_slice(&location.length.to_be_bytes());
        Self(bytes)
    }

    /// From a [`DUPLICATE`] record.
    pub(crate) fn from_duplicate(key: &[u8], value: &[u8]) -> Option<Self> {
        let mut bytes = [0; ENTRY_BYTES];
        (key.len() == 1 + PACK_END && value.len() == ENTRY_BYTES - PACK_END).then_some(())?;
        bytes[..PACK_END].copy_from_slice(&key[1..]);
        bytes[PACK_END..].copy_from_slice(value);
        Some(Self(bytes))
    }

    /// Where the chunk lies.
    pub(crate) fn location(&self) -> Option<ChunkLocation> {
        ChunkLocation::decode(&self.0[ChunkId::BYTES..])
    }

    pub(crate) fn id(&self) -> ChunkId {
        let mut id = [0; ChunkId::BYTES];
        id.copy_from_slice(&self.0[..ChunkId::BYTES]);
        ChunkId(id)
    }

    pub(crate) fn pack(&self) -> u32 {
        let mut number = [0; 4];
        number.copy_from_slice(&self.0[ChunkId::BYTES..PACK_END]);
        u32::from_be_bytes(number)
    }

    /// Key and value of its [`CHUNK`] record.
    pub(crate) fn chunk_record(&self) -> ([u8; 1 + ChunkId::BYTES], &[u8]) {
        (chunk_key(&self.id()), &self.0[ChunkId::BYTES..])
    }

    /// Key and value of its [`DUPLICATE`] record.
    pub(crate) fn duplicate_record(&self) -> ([u8; 1 + PACK_END], &[u8]) {
        let mut key = [DUPLICATE; 1 + PACK_END];
        key[1..].copy_from_slice(&self.0[..PACK_END]);
        (key, &self.0[PACK_END..])
    }
}

fn key<const N: usize>(letter: u8, rest: &[u8]) -> [u8; N] {
    let mut key = [letter; N];
    key[1..].copy_from_slice(rest);
    key
}

pub(crate) fn chunk_key(id: &ChunkId) -> [u8; 1 + ChunkId::BYTES] {
    key(CHUNK, &id.0)
}

/// How the keys of all duplicates of a chunk begin.
pub(crate) fn duplicate_prefix(id: &ChunkId) -> [u8; 1 + ChunkId::BYTES] {
    key(DUPLICATE, &id.0)
}

pub(crate) fn region_key(pack: u32, region: u16) -> [u8; 7] {
    let [p0, p1, p2, p3] = pack.to_be_bytes();
    let [r0, r1] = region.to_be_bytes();
    [REGION, p0, p1, p2, p3, r0, r1]
}

pub(crate) fn envelope_key(id: &EnvelopeId) -> [u8; 17] {
    key(ENVELOPE, &id.0)
}

pub(crate) fn live_key(block: u32) -> [u8; 5] {
    key(LIVE, &block.to_be_bytes())
}

pub(crate) fn name_key(name: &PackName) -> [u8; 33] {
    key(NAME, &name.0)
}

pub(crate) fn object_key(name: &IndexName) -> [u8; 33] {
    key(OBJECT, &name.0)
}

pub(crate) fn pack_key(pack: u32) -> [u8; 5] {
    key(PACK, &pack.to_be_bytes())
}

type Decoded<T> = Result<T, Error>;

/// A region and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RegionRecord {
    pub(crate) offset: u32,
    pub(crate) head: RegionHead,
    pub(crate) envelope: EnvelopeId,
}

impl RegionRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let head = &self.head;
        let mut bytes = vec![head.kind as u8, head.suite as u8, head.codec as u8];
        bytes.put_u16(head.envelope);
        bytes.put_u32(head.stored_bytes);
        bytes.put_u32(head.plain_bytes);
        bytes.put_u32(self.offset);
        bytes.extend_from_slice(&head.id.0);
        bytes.extend_from_slice(&self.envelope.0);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Decoded<Self> {
        let mut reader = Reader::new(bytes, "region record");
        let kind = ChunkKind::from_byte(reader.u8()?)?;
        let suite = Suite::from_byte(reader.u8()?)?;
        let codec = Codec::from_byte(reader.u8()?)?;
        let envelope = reader.u16()?;
        let (stored_bytes, plain_bytes, offset) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let id = RegionId(reader.array()?);
        let head = RegionHead { kind, suite, codec, envelope, id, stored_bytes, plain_bytes };
        let record = Self { offset, head, envelope: EnvelopeId(reader.array()?) };
        reader.finish()?;
        Ok(record)
    }
}

/// A live pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackRecord {
    pub(crate) name: PackName,
    pub(crate) bytes: u32,
    pub(crate) regions: u32,
    pub(crate) chunks: u32,
    /// Numbers of the index objects that list it; a pack without any is dead.
    pub(crate) listed_by: Vec<u32>,
}

impl PackRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.name.0.to_vec();
        bytes.put_u32(self.bytes);
        bytes.put_u32(self.regions);
        bytes.put_u32(self.chunks);
        self.listed_by.iter().for_each(|object| bytes.put_u32(*object));
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Decoded<Self> {
        let mut reader = Reader::new(bytes, "pack record");
        let name = PackName(reader.array()?);
        let (bytes, regions, chunks) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let mut listed_by = Vec::new();
        while reader.remaining() > 0 {
            listed_by.push(reader.u32()?);
        }
        Ok(Self { name, bytes, regions, chunks, listed_by })
    }
}

/// How far an index object is in here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ObjectStage {
    /// It was retired. Only a reader writes this, over a record of the cache that it cannot change.
    Retired = 0,
    /// Everything that it lists is in here.
    Covered = 1,
    /// Some of its packs are dead already; whoever opens the cache finishes that first.
    Retiring = 2,
}

/// An index object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ObjectRecord {
    pub(crate) number: u32,
    pub(crate) stage: ObjectStage,
}

impl ObjectRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![self.stage as u8];
        bytes.put_u32(self.number);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Decoded<Self> {
        let mut reader = Reader::new(bytes, "object record");
        let stage = match reader.u8()? {
            0 => ObjectStage::Retired,
            1 => ObjectStage::Covered,
            2 => ObjectStage::Retiring,
            other => return Err(reader.damaged(format!("there is no stage {other}"))),
        };
        let record = Self { number: reader.u32()?, stage };
        reader.finish()?;
        Ok(record)
    }
}

/// Whose cache this is, and its counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StateRecord {
    pub(crate) repository: RepositoryId,
    pub(crate) next_pack: u32,
    pub(crate) next_object: u32,
    pub(crate) chunks: u64,
}

impl StateRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = SCHEMA.to_le_bytes().to_vec();
        bytes.extend_from_slice(&self.repository.0);
        bytes.put_u32(self.next_pack);
        bytes.put_u32(self.next_object);
        bytes.put_u64(self.chunks);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Decoded<Self> {
        let mut reader = Reader::new(bytes, "state record");
        let schema = reader.u32()?;
        if schema != SCHEMA {
            return Err(reader.damaged(format!("it has schema {schema}")));
        }
        let repository = RepositoryId(reader.array()?);
        let record =
            Self { repository, next_pack: reader.u32()?, next_object: reader.u32()?, chunks: reader.u64()? };
        reader.finish()?;
        Ok(record)
    }
}

pub(crate) fn encode_envelope(envelope: &Envelope) -> Vec<u8> {
    let mut bytes = Vec::new();
    envelope.encode(&mut bytes);
    bytes
}

pub(crate) fn decode_envelope(bytes: &[u8]) -> Decoded<Envelope> {
    let mut reader = Reader::new(bytes, "envelope record");
    let envelope = Envelope::decode(&mut reader)?;
    reader.finish()?;
    Ok(envelope)
}
