//! A pack: regions, filler, a sealed directory, a fixed trailer. `docs/format/pack.md`

use crate::keys::{Envelope, Keys};
use crate::limits::{
    DIRECTORY_BYTES_MAX, PACK_BYTES_MAX, PACK_CHUNKS_MAX, PACK_ENVELOPES_MAX, PACK_REGIONS_MAX,
};
use crate::object::{HEADER_BYTES, ObjectKind, strip_header};
use crate::region::{ChunkKind, Region};
use crate::seal::{OVERHEAD_BYTES, Purpose};
use crate::wire::{Reader, Write};
use crate::{Error, Result};

/// Directory length, random bytes, magic.
pub const TRAILER_BYTES: usize = 32;
const TRAILER_MAGIC: [u8; 8] = *b"boatlife";

/// What a pack holds, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directory {
    /// Keys of its regions.
    pub envelopes: Vec<Envelope>,
    /// Its regions, in the order in which they lie in the pack, beginning right behind the header.
    pub regions: Vec<Region>,
    /// Bytes of filler between the last region and the directory.
    pub filler_bytes: u32,
}

impl Directory {
    /// Where the regions begin, one by one.
    pub fn offsets(&self) -> impl Iterator<Item = u32> {
        self.regions.iter().scan(HEADER_BYTES as u32, |offset, region| {
            let start = *offset;
            *offset += region.head.stored_bytes;
            Some(start)
        })
    }

    /// Bytes of the regions together.
    pub fn stored_bytes(&self) -> u64 {
        self.regions.iter().map(|region| u64::from(region.head.stored_bytes)).sum()
    }

    /// Appends the directory's encoding.
    pub fn encode(&self, output: &mut Vec<u8>) {
        output.put_varint(self.envelopes.len() as u64);
        self.envelopes.iter().for_each(|envelope| envelope.encode(output));
        // Fixed width: the filler's length must not change the directory's.
        output.put_u32(self.filler_bytes);
        output.put_varint(self.regions.len() as u64);
        self.regions.iter().for_each(|region| region.encode(output));
    }

    /// Reads a directory.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let mut directory = Self::default();
        for _ in 0..reader.varint_max(PACK_ENVELOPES_MAX)? {
            directory.envelopes.push(Envelope::decode(reader)?);
        }
        directory.filler_bytes = reader.u32()?;
        if directory.filler_bytes > PACK_BYTES_MAX {
            return Err(reader.damaged("its filler is longer than a pack"));
        }
        let mut chunks = 0;
        for _ in 0..reader.varint_max(PACK_REGIONS_MAX)? {
            let kind = ChunkKind::from_byte(reader.u8()?)?;
            let region = Region::decode(kind, reader)?;
            chunks += region.chunk_bytes.len();
            if usize::from(region.head.envelope) >= directory.envelopes.len() {
                return Err(reader.damaged("a region names an envelope that is not there"));
            }
            if chunks > PACK_CHUNKS_MAX as usize {
                return Err(reader.damaged("it has too many chunks"));
            }
            directory.regions.push(region);
        }
        if directory.stored_bytes() + u64::from(directory.filler_bytes) < u64::from(PACK_BYTES_MAX) {
            Ok(directory)
        } else {
            Err(reader.damaged("its regions are longer than a pack"))
        }
    }
}

/// Seals the directory and makes the trailer: what follows the last region and the filler.
///
/// The trailer's random bytes give every writing of a pack another name.
pub fn encode_tail(keys: &Keys, directory: &Directory) -> Result<Vec<u8>> {
    let mut plain = Vec::new();
    directory.encode(&mut plain);
    if plain.len() > DIRECTORY_BYTES_MAX as usize - 64 {
        return Err(Error::limit("pack directory", format!("{} bytes", plain.len())));
    }
    // Limits hold for its parts too; reading it back finds whatever no reader would take.
    if Directory::decode(&mut Reader::new(&plain, "pack directory"))? != *directory {
        return Err(Error::limit("pack directory", "it does not read back as it was written"));
    }
    let unique = crate::seal::random_bytes::<16>();
    let mut tail = keys.seal_directory(unique, &plain);
    let directory_bytes = tail.len() as u32;
    tail.put_u32(directory_bytes);
    tail.put_u32(0);
    tail.extend_from_slice(&unique);
    tail.extend_from_slice(&TRAILER_MAGIC);
    Ok(tail)
}

/// Length of [`encode_tail`]'s result for a directory whose encoding is `directory_bytes` long.
pub fn tail_bytes(directory_bytes: usize) -> usize {
    crate::seal::BOX_HEADER_BYTES + OVERHEAD_BYTES + directory_bytes + TRAILER_BYTES
}

/// A decoded trailer: where the directory lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// Length of the sealed directory, which ends where the trailer begins.
    pub directory_bytes: u32,
    unique: [u8; 16],
}

impl Trailer {
    /// Reads the last [`TRAILER_BYTES`] of a pack of `pack_bytes`.
    pub fn decode(bytes: &[u8], pack_bytes: u64) -> Result<Self> {
        let mut reader = Reader::new(bytes, "pack");
        let directory_bytes = reader.u32()?;
        let reserved = reader.u32()?;
        let unique = reader.array()?;
        let magic: [u8; 8] = reader.array()?;
        let room = pack_bytes.saturating_sub((HEADER_BYTES + TRAILER_BYTES) as u64);
        if magic != TRAILER_MAGIC || reserved != 0 {
            return Err(reader.damaged("it does not end with a trailer"));
        }
        if u64::from(directory_bytes) > room || directory_bytes > DIRECTORY_BYTES_MAX {
            return Err(reader.damaged("its directory is longer than it can be"));
        }
        reader.finish()?;
        Ok(Self { directory_bytes, unique })
    }

    /// Opens the directory of a pack of `pack_bytes`, and checks that its regions fill exactly that pack.
    pub fn open(&self, keys: &Keys, sealed: &[u8], pack_bytes: u64) -> Result<Directory> {
        let plain = keys.open_index(Purpose::Directory, self.unique, sealed, DIRECTORY_BYTES_MAX)?;
        let mut reader = Reader::new(&plain, "pack directory");
        let directory = Directory::decode(&mut reader)?;
        reader.finish()?;
        let expected = (HEADER_BYTES + TRAILER_BYTES) as u64
            + directory.stored_bytes()
            + u64::from(directory.filler_bytes)
            + u64::from(self.directory_bytes);
        if expected == pack_bytes {
            Ok(directory)
        } else {
            Err(Error::damaged("pack", format!("{pack_bytes} bytes instead of {expected}")))
        }
    }
}

/// Opens the directory of a whole pack in memory.
pub fn decode_directory(keys: &Keys, pack: &[u8]) -> Result<Directory> {
    let pack_bytes = pack.len() as u64;
    if pack_bytes > u64::from(PACK_BYTES_MAX) {
        return Err(Error::damaged("pack", format!("{pack_bytes} bytes are too many")));
    }
    strip_header(ObjectKind::Pack, pack)?;
    let Some(trailer_start) = pack.len().checked_sub(TRAILER_BYTES) else {
        return Err(Error::damaged("pack", "it is shorter than its trailer"));
    };
    let trailer = Trailer::decode(&pack[trailer_start..], pack_bytes)?;
    let start = trailer_start - trailer.directory_bytes as usize;
    trailer.open(keys, &pack[start..trailer_start], pack_bytes)
}

/// How much filler brings a pack of `bytes` to a size that says little about its content.
///
/// PADMÉ (Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs", PETS 2019):
/// at most 12 % and typically 2 % more bytes, so that a size leaks O(log log) bits.
pub fn padme(bytes: u64) -> u64 {
    if bytes < 2 {
        return bytes;
    }
    let exponent = u64::from(bytes.ilog2());
    let kept_bits = u64::from((exponent.max(1)).ilog2()) + 1;
    let mask = (1u64 << exponent.saturating_sub(kept_bits)) - 1;
    bytes.saturating_add(mask) & !mask
}

/// Random bytes for the end of a pack: a filler cannot be told from a sealed region.
pub fn filler(bytes: u32) -> Vec<u8> {
    let mut filler = vec![0; bytes as usize];
    blake3::Hasher::new_keyed(&crate::seal::random_bytes()).finalize_xof().fill(&mut filler);
    filler
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RepositoryId;
    use crate::region::RegionSealer;
    use crate::seal::{Key, Suite};
    use proptest::prelude::*;

    fn pack(keys: &Keys) -> Vec<u8> {
        let session = keys.new_session();
        let mut sealer = RegionSealer::new(keys, &session, 3).unwrap();
        let (head, stored) = sealer.seal(ChunkKind::Data, 0, &[1; 5000]);
        let mut bytes = crate::object::header(ObjectKind::Pack).to_vec();
        let stored_bytes = stored.len();
        bytes.extend_from_slice(stored);
        bytes.extend(filler(10));
        let directory = Directory {
            envelopes: vec![session.envelope().clone()],
            regions: vec![Region { head, chunk_bytes: vec![2000, 3000] }],
            filler_bytes: 10,
        };
        bytes.extend(encode_tail(keys, &directory).unwrap());
        assert_eq!(decode_directory(keys, &bytes).unwrap(), directory);
        let mut plain = Vec::new();
        directory.encode(&mut plain);
        assert_eq!(bytes.len(), HEADER_BYTES + stored_bytes + 10 + tail_bytes(plain.len()));
        bytes
    }

    #[test]
    fn a_truncated_or_altered_directory_is_refused() {
        let keys = Keys::derive(&Key::new([3; 32]), RepositoryId([1; 16]), Suite::XChaCha20Poly1305);
        let bytes = pack(&keys);
        for end in 0..bytes.len() {
            assert!(decode_directory(&keys, &bytes[..end]).is_err(), "{end}");
        }
        let tail = bytes.len() - 200;
        for bit in tail * 8..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_directory(&keys, &bad).is_err(), "bit {bit}");
        }
        assert_ne!(pack(&keys)[bytes.len() - 32..], bytes[bytes.len() - 32..], "no two packs share a name");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = Directory::decode(&mut Reader::new(&bytes, "pack directory"));
            let _ = Trailer::decode(&bytes, 1000);
        }

        #[test]
        fn padding_never_shrinks_and_adds_at_most_an_eighth(bytes in 1u64..1 << 40) {
            let padded = padme(bytes);
            prop_assert!(padded >= bytes && padded - bytes <= bytes / 8);
            prop_assert_eq!(padme(padded), padded);
        }
    }
}
