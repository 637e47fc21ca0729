//! A region: consecutive chunks, one zstd frame, one seal. `docs/format/pack.md#regions`

use crate::compress::Compressor;
use crate::keys::{Keys, SessionKey};
use crate::limits::{
    CHUNK_BYTES_MAX, NODE_BYTES_MAX, REGION_CHUNKS_MAX, REGION_PLAIN_BYTES_MAX, REGION_STORED_BYTES_MAX,
};
use crate::seal::{self, Binding, Codec, NONCE_BYTES, OVERHEAD_BYTES, Purpose, Suite};
use crate::wire::{Reader, Write};
use crate::{ChunkId, Error, RegionId, RepositoryId, Result};

/// What a chunk is part of; each kind names its chunks with a key of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ChunkKind {
    /// File contents, long attributes.
    Data = 1,
    /// Tree nodes.
    Tree = 2,
    /// Chunk list nodes.
    List = 3,
}

impl ChunkKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Data, Self::Tree, Self::List];

    /// From its byte on disk.
    pub fn from_byte(byte: u8) -> Result<Self> {
        match byte {
            1 => Ok(Self::Data),
            2 => Ok(Self::Tree),
            3 => Ok(Self::List),
            other => Err(Error::Unsupported { what: "region", feature: format!("chunk kind {other}") }),
        }
    }

    /// Longest chunk of this kind.
    pub fn chunk_bytes_max(self) -> u32 {
        match self {
            Self::Data => CHUNK_BYTES_MAX,
            Self::Tree | Self::List => NODE_BYTES_MAX,
        }
    }

    fn purpose(self) -> Purpose {
        match self {
            Self::Data => Purpose::Data,
            Self::Tree => Purpose::Tree,
            Self::List => Purpose::List,
        }
    }
}

/// How a region is sealed and how long it is: what opening it needs besides its bytes and its session key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegionHead {
    /// What its chunks are.
    pub kind: ChunkKind,
    /// The cipher.
    pub suite: Suite,
    /// The compression.
    pub codec: Codec,
    /// Which of the pack's envelopes holds its key.
    pub envelope: u16,
    /// Random, bound into the seal.
    pub id: RegionId,
    /// Length in the pack, nonce and tag included.
    pub stored_bytes: u32,
    /// Length of its chunks together.
    pub plain_bytes: u32,
}

/// A region as a directory describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// How to open it.
    pub head: RegionHead,
    /// Lengths of its chunks, in order; they sum up to `head.plain_bytes`.
    pub chunk_bytes: Vec<u32>,
}

impl RegionHead {
    fn encode(&self, output: &mut Vec<u8>) {
        output.extend_from_slice(&[self.kind as u8, self.suite as u8, self.codec as u8]);
        output.put_varint(u64::from(self.envelope));
        output.extend_from_slice(&self.id.0);
        output.put_varint(u64::from(self.stored_bytes));
        output.put_varint(u64::from(self.plain_bytes));
    }

    fn decode(kind: ChunkKind, reader: &mut Reader<'_>) -> Result<Self> {
        let head = Self {
            kind,
            suite: Suite::from_byte(reader.u8()?)?,
            codec: Codec::from_byte(reader.u8()?)?,
            envelope: reader.varint_max(u32::from(u16::MAX))? as u16,
            id: RegionId(reader.array()?),
            stored_bytes: reader.varint_max(REGION_STORED_BYTES_MAX)?,
            plain_bytes: reader.varint_max(REGION_PLAIN_BYTES_MAX)?,
        };
        let sealed_bytes = head.stored_bytes.checked_sub(OVERHEAD_BYTES as u32);
        match (head.codec, sealed_bytes) {
            (_, None) => Err(reader.damaged("a region is shorter than its nonce and tag")),
            (Codec::Raw, Some(bytes)) if bytes != head.plain_bytes => {
                Err(reader.damaged("a raw region's two lengths differ"))
            }
            _ => Ok(head),
        }
    }

    fn binding(&self, repository: RepositoryId, session: &SessionKey) -> Binding {
        Binding {
            repository,
            purpose: self.kind.purpose(),
            codec: self.codec,
            envelope: session.envelope().id,
            unique: self.id.0,
            plain_bytes: self.plain_bytes,
        }
    }
}

impl Region {
    /// Appends what a directory says of this region.
    pub fn encode(&self, output: &mut Vec<u8>) {
        self.head.encode(output);
        output.put_varint(self.chunk_bytes.len() as u64);
        self.chunk_bytes.iter().for_each(|bytes| output.put_varint(u64::from(*bytes)));
    }

    pub(crate) fn decode(kind: ChunkKind, reader: &mut Reader<'_>) -> Result<Self> {
        let head = RegionHead::decode(kind, reader)?;
        let count = reader.varint_max(REGION_CHUNKS_MAX)? as usize;
        if count > reader.remaining() {
            return Err(reader.damaged("it has fewer chunks than it states"));
        }
        let mut chunk_bytes = Vec::with_capacity(count);
        let mut sum = 0u64;
        for _ in 0..count {
            let bytes = reader.varint_max(kind.chunk_bytes_max())?;
            if bytes == 0 {
                return Err(reader.damaged("a chunk is empty"));
            }
            sum += u64::from(bytes);
            chunk_bytes.push(bytes);
        }
        if sum == u64::from(head.plain_bytes) {
            Ok(Self { head, chunk_bytes })
        } else {
            Err(reader.damaged("its chunks do not add up to its length"))
        }
    }
}

/// Compresses and seals regions; holds the buffers and the zstd context that this takes (about 2 MiB).
pub struct RegionSealer {
    repository: RepositoryId,
    suite: Suite,
    session: SessionKey,
    compressor: Option<Compressor>,
    buffer: Vec<u8>,
}

impl RegionSealer {
    /// Seals under a session's key with zstd `level`; level 0 stores everything raw.
    pub fn new(keys: &Keys, session: &SessionKey, level: i32) -> Result<Self> {
        let compressor = match level {
            0 => None,
            level => Some(Compressor::new(level)?),
        };
        Ok(Self {
            repository: keys.repository(),
            suite: keys.suite(),
            session: session.clone(),
            compressor,
            buffer: Vec::new(),
        })
    }

    /// Seals `plain`; the stored bytes stay in an inner buffer until the next call.
    ///
    /// # Panics
    /// When `plain` is longer than [`REGION_PLAIN_BYTES_MAX`].
    pub fn seal(&mut self, kind: ChunkKind, envelope: u16, plain: &[u8]) -> (RegionHead, &mut Vec<u8>) {
        assert!(plain.len() <= REGION_PLAIN_BYTES_MAX as usize, "a region is closed at its target size");
        let codec = self.fill(plain);
        let mut head = RegionHead {
            kind,
            suite: self.suite,
            codec,
            envelope,
            id: RegionId::random(),
            stored_bytes: 0,
            plain_bytes: plain.len() as u32,
        };
        let binding = head.binding(self.repository, &self.session);
        seal::seal_in_place(self.suite, &self.session.key, &binding, &mut self.buffer);
        head.stored_bytes = self.buffer.len() as u32;
        (head, &mut self.buffer)
    }

    /// Puts the compressed or raw bytes behind the nonce's room. A region that saves less than 1/64 is stored raw:
    /// reading it back costs less than the bytes are worth.
    fn fill(&mut self, plain: &[u8]) -> Codec {
        self.buffer.clear();
        self.buffer.resize(NONCE_BYTES, 0);
        if let Some(compressor) = &mut self.compressor {
            let worthwhile = plain.len() - plain.len() / 64;
            if compressor.append(plain, &mut self.buffer).is_some_and(|length| length < worthwhile) {
                return Codec::Zstd;
            }
            self.buffer.truncate(NONCE_BYTES);
        }
        self.buffer.extend_from_slice(plain);
        Codec::Raw
    }
}

/// Opens regions; holds a zstd context.
pub struct RegionOpener {
    repository: RepositoryId,
    decompressor: zstd::bulk::Decompressor<'static>,
}

impl RegionOpener {
    /// Opens regions of one repository.
    pub fn new(repository: RepositoryId) -> Self {
        let decompressor = zstd::bulk::Decompressor::new().expect("a zstd context is only memory");
        Self { repository, decompressor }
    }

    /// Opens `stored` into `plain`. `stored` is decrypted in place.
    pub fn open(
        &mut self,
        head: &RegionHead,
        session: &SessionKey,
        stored: &mut Vec<u8>,
        plain: &mut Vec<u8>,
    ) -> Result<()> {
        if stored.len() != head.stored_bytes as usize {
            let detail = format!("{} bytes instead of {}", stored.len(), head.stored_bytes);
            return Err(Error::damaged("region", detail));
        }
        seal::open_in_place(head.suite, &session.key, &head.binding(self.repository, session), stored)?;
        let opened = &stored[NONCE_BYTES..];
        plain.clear();
        match head.codec {
            Codec::Raw => plain.extend_from_slice(opened),
            Codec::Zstd => {
                // A frame that unfolds to more than the room that was made is refused; to less, below.
                plain.reserve(head.plain_bytes as usize);
                self.decompressor
                    .decompress_to_buffer(opened, plain)
                    .map_err(|error| Error::damaged("region", error.to_string()))?;
            }
        }
        if plain.len() == head.plain_bytes as usize {
            Ok(())
        } else {
            Err(Error::damaged("region", "its length differs from the one its directory states"))
        }
    }
}

/// Checks that an opened region holds exactly the chunks called `ids`.
pub fn verify_chunks(keys: &Keys, region: &Region, ids: &[ChunkId], plain: &[u8]) -> Result<()> {
    let mut chunks = Vec::with_capacity(ids.len());
    let mut rest = plain;
    for bytes in &region.chunk_bytes {
        let (chunk, behind) = rest
            .split_at_checked(*bytes as usize)
            .ok_or_else(|| Error::damaged("region", "it ends inside a chunk"))?;
        chunks.push(chunk);
        rest = behind;
    }
    if !rest.is_empty() || ids.len() != chunks.len() {
        return Err(Error::damaged("region", "its chunks are not those of its directory"));
    }
    let found = keys.chunk_ids(region.head.kind, &chunks);
    match found.iter().zip(ids).position(|(found, id)| found != id) {
        None => Ok(()),
        Some(number) => Err(Error::damaged("region", format!("its chunk {number} is not {}", ids[number]))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::Key;
    use proptest::prelude::*;

    fn keys(suite: Suite) -> Keys {
        Keys::derive(&Key::new([3; 32]), RepositoryId([1; 16]), suite)
    }

    proptest! {
        #[test]
        fn a_region_opens_to_what_was_sealed(plain in proptest::collection::vec(0u8..4, 0..20_000), level in 0..4i32) {
            for suite in [Suite::XChaCha20Poly1305, Suite::Aes256Gcm] {
                let keys = keys(suite);
                let session = keys.new_session();
                let mut sealer = RegionSealer::new(&keys, &session, level).unwrap();
                let (head, stored) = sealer.seal(ChunkKind::Data, 0, &plain);
                let mut opened = Vec::new();
                RegionOpener::new(keys.repository()).open(&head, &session, &mut stored.clone(), &mut opened).unwrap();
                prop_assert_eq!(&opened, &plain);
            }
        }
    }

    #[test]
    fn a_flipped_bit_and_another_kind_are_refused() {
        let keys = keys(Suite::XChaCha20Poly1305);
        let session = keys.new_session();
        let mut sealer = RegionSealer::new(&keys, &session, 3).unwrap();
        let (head, stored) = sealer.seal(ChunkKind::Data, 0, &[5; 3000]);
        let stored = stored.clone();
        let mut opener = RegionOpener::new(keys.repository());
        for bit in 0..stored.len() * 8 {
            let mut bad = stored.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(opener.open(&head, &session, &mut bad, &mut Vec::new()).is_err());
        }
        let as_tree = RegionHead { kind: ChunkKind::Tree, ..head };
        assert!(opener.open(&as_tree, &session, &mut stored.clone(), &mut Vec::new()).is_err());
        let longer = RegionHead { plain_bytes: 3001, ..head };
        assert!(opener.open(&longer, &session, &mut stored.clone(), &mut Vec::new()).is_err());
    }

    #[test]
    fn what_does_not_shrink_is_stored_raw() {
        let keys = keys(Suite::XChaCha20Poly1305);
        let session = keys.new_session();
        let mut noise = vec![0; 100_000];
        keys.cut_bytes("noise", &mut noise);
        let mut sealer = RegionSealer::new(&keys, &session, 3).unwrap();
        let (head, stored) = sealer.seal(ChunkKind::Data, 0, &noise);
        assert_eq!((head.codec, stored.len()), (Codec::Raw, noise.len() + OVERHEAD_BYTES));
    }
}
