//! An index object: which chunks lie in which packs. `docs/format/index.md`

use crate::keys::Keys;
use crate::limits::{INDEX_BYTES_MAX, INDEX_PACKS_MAX, PACK_BYTES_MAX};
use crate::object::{ObjectKind, frame, unframe};
use crate::pack::Directory;
use crate::seal::Purpose;
use crate::wire::{Reader, Write};
use crate::{AuthorId, ChunkId, Error, IndexName, PackName, Result};

/// One pack with the names of its chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexedPack {
    /// Its name.
    pub name: PackName,
    /// Its length.
    pub bytes: u32,
    /// What it holds.
    pub directory: Directory,
    /// The names of its chunks, region by region, in the order of `directory`.
    pub ids: Vec<ChunkId>,
}

/// Packs and their chunks, written by one author.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexObject {
    /// Who vouches for it; zeros in version 1.
    pub author: AuthorId,
    /// Signature by the author; empty in version 1.
    pub signature: Vec<u8>,
    /// The packs.
    pub packs: Vec<IndexedPack>,
}

impl IndexObject {
    const SIGNATURE_BYTES_MAX: u32 = 1024;

    /// An object for version 1: without author and signature.
    pub fn new(packs: Vec<IndexedPack>) -> Self {
        Self { author: AuthorId::NONE, signature: Vec::new(), packs }
    }

    /// The object's bytes and its name.
    pub fn encode(&self, keys: &Keys) -> Result<(IndexName, Vec<u8>)> {
        let mut plain = Vec::new();
        plain.put_varint(self.packs.len() as u64);
        for pack in &self.packs {
            plain.extend_from_slice(&pack.name.0);
            plain.put_u32(pack.bytes);
            pack.directory.encode(&mut plain);
            pack.ids.iter().for_each(|id| plain.extend_from_slice(&id.0));
        }
        if plain.len() > INDEX_BYTES_MAX as usize - 4096 {
            return Err(Error::limit("index object", format!("{} bytes", plain.len())));
        }
        // Some limits hold for parts of it; reading it back finds whatever no reader would take.
        if decode_packs(&plain)? != self.packs {
            return Err(Error::limit("index object", "it does not read back as it was written"));
        }
        let mut body = self.author.0.to_vec();
        body.put_string(&self.signature);
        body.append(&mut keys.seal_index(Purpose::Index, self.author.0, &plain));
        let bytes = frame(ObjectKind::Index, &body);
        Ok((IndexName(*blake3::hash(&bytes).as_bytes()), bytes))
    }

    /// Reads an object's bytes; the caller has compared its name with their hash, or does not care.
    pub fn decode(keys: &Keys, bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(unframe(ObjectKind::Index, bytes)?, "index object");
        let author = AuthorId(reader.array()?);
        let signature = reader.string(Self::SIGNATURE_BYTES_MAX)?.to_vec();
        let sealed = reader.bytes(reader.remaining())?;
        let plain = keys.open_index(Purpose::Index, author.0, sealed, INDEX_BYTES_MAX)?;
        let packs = decode_packs(&plain)?;
        Ok(Self { author, signature, packs })
    }
}

fn decode_packs(plain: &[u8]) -> Result<Vec<IndexedPack>> {
    let mut reader = Reader::new(plain, "index object");
    let mut packs = Vec::new();
    for _ in 0..reader.varint_max(INDEX_PACKS_MAX)? {
        packs.push(decode_pack(&mut reader)?);
    }
    reader.finish()?;
    Ok(packs)
}

fn decode_pack(reader: &mut Reader<'_>) -> Result<IndexedPack> {
    let name = PackName(reader.array()?);
    let bytes = reader.u32()?;
    if bytes > PACK_BYTES_MAX {
        return Err(reader.damaged("a pack is too long"));
    }
    let directory = Directory::decode(reader)?;
    if directory.stored_bytes() + u64::from(directory.filler_bytes) > u64::from(bytes) {
        return Err(reader.damaged("a pack's regions are longer than the pack"));
    }
    let chunks: usize = directory.regions.iter().map(|region| region.chunk_bytes.len()).sum();
    let ids = reader.bytes(chunks * ChunkId::BYTES)?;
    let ids = ids.as_chunks::<{ ChunkId::BYTES }>().0.iter().map(|id| ChunkId(*id)).collect();
    Ok(IndexedPack { name, bytes, directory, ids })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RepositoryId;
    use crate::seal::{Key, Suite};

    #[test]
    fn an_object_reads_back_and_every_flipped_bit_is_refused() {
        let keys = Keys::derive(&Key::new([3; 32]), RepositoryId([1; 16]), Suite::XChaCha20Poly1305);
        let directory =
            Directory { envelopes: vec![keys.new_session().envelope().clone()], ..Directory::default() };
        let pack = IndexedPack { name: PackName([5; 32]), bytes: 100, directory, ids: vec![] };
        let object = IndexObject::new(vec![pack.clone(), pack]);
        let (_, bytes) = object.encode(&keys).unwrap();
        assert_eq!(IndexObject::decode(&keys, &bytes).unwrap(), object);
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            // The signature is empty in version 1; what is flipped there changes the object's name instead.
            assert!(IndexObject::decode(&keys, &bad).is_err(), "bit {bit}");
        }
    }
}
