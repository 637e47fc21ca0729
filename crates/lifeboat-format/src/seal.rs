//! Authenticated encryption, and nothing else that touches a cipher. `docs/format/keys.md#sealing`
//!
//! Must stay true: no caller ever passes a nonce. Tarsnap lost years of data to a refactoring that stopped incrementing
//! one; here there is nothing to forget.

use crate::{EnvelopeId, Error, RepositoryId, Result};
use aes_gcm::Aes256Gcm;
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use std::cell::RefCell;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Bytes of a nonce, for every suite.
pub const NONCE_BYTES: usize = 24;
/// Bytes of an authentication tag.
pub const TAG_BYTES: usize = 16;
/// What sealing adds to a plaintext.
pub const OVERHEAD_BYTES: usize = NONCE_BYTES + TAG_BYTES;
/// Version of the layouts in `docs/format/`, bound into every seal.
pub const FORMAT_VERSION: u8 = 1;

/// Random bytes from the operating system.
///
/// # Panics
/// When the kernel has no random numbers: a backup without them would not be one.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel gives random numbers");
    bytes
}

/// A 32-byte secret. It is wiped when dropped and never printed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Key([u8; 32]);

impl Key {
    /// Wraps secret bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A new random key.
    pub fn random() -> Self {
        Self(random_bytes())
    }

    /// The secret bytes.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key for one purpose, by BLAKE3 key derivation with a fixed context string.
    pub fn derive(&self, context: &str) -> Self {
        Self(blake3::derive_key(context, &self.0))
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Key(…)")
    }
}

/// Which cipher seals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Suite {
    /// XChaCha20-Poly1305 with a random 24-byte nonce.
    XChaCha20Poly1305 = 1,
    /// AES-256-GCM; the first 12 nonce bytes derive a key of its own, the last 12 are GCM's nonce.
    Aes256Gcm = 2,
}

impl Suite {
    /// From its byte on disk.
    pub fn from_byte(byte: u8) -> Result<Self> {
        match byte {
            1 => Ok(Self::XChaCha20Poly1305),
            2 => Ok(Self::Aes256Gcm),
            other => Err(Error::Unsupported { what: "seal", feature: format!("cipher suite {other}") }),
        }
    }
}

/// What a sealed thing is; a seal made for one kind never opens as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Purpose {
    /// Padding at the end of a pack.
    Filler = 0,
    /// A region of file contents.
    Data = 1,
    /// A region of tree nodes.
    Tree = 2,
    /// A region of chunk list nodes.
    List = 3,
    /// A pack's directory.
    Directory = 4,
    /// An index object.
    Index = 5,
    /// A snapshot's body.
    Snapshot = 6,
    /// A session key in its envelope.
    Envelope = 7,
    /// A role bundle in its key slot.
    Slot = 8,
    /// An intent.
    Intent = 9,
    /// A draft's body: storage cannot pass it off as a snapshot.
    Draft = 10,
    /// A checkpoint's body.
    Checkpoint = 11,
    /// A condemned list.
    Condemned = 12,
    /// A verdict.
    Verdict = 13,
    /// A frame of a bundle.
    Bundle = 14,
    /// Snapshots that a machine remembers.
    Remembered = 15,
}

/// How the plaintext was transformed before sealing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Codec {
    /// As it is.
    Raw = 0,
    /// One zstd frame.
    Zstd = 1,
}

impl Codec {
    /// From its byte on disk.
    pub fn from_byte(byte: u8) -> Result<Self> {
        match byte {
            0 => Ok(Self::Raw),
            1 => Ok(Self::Zstd),
            other => Err(Error::Unsupported { what: "region", feature: format!("codec {other}") }),
        }
    }
}

/// What a seal is bound to besides its bytes: 64 bytes of associated data.
#[derive(Debug, Clone, Copy)]
pub struct Binding {
    /// The repository that the sealed bytes belong to.
    pub repository: RepositoryId,
    /// What they are.
    pub purpose: Purpose,
    /// How they were compressed.
    pub codec: Codec,
    /// The envelope of the key, or zeros for keys of the master key.
    pub envelope: EnvelopeId,
    /// The region's id, or the object's own name where it has a random one, else zeros.
    pub unique: [u8; 16],
    /// Length before compression.
    pub plain_bytes: u32,
}

impl Binding {
    fn associated_data(&self, suite: Suite) -> [u8; 64] {
        let mut data = [0; 64];
        data[..8].copy_from_slice(b"lifeboat");
        data[8] = FORMAT_VERSION;
        data[9] = self.purpose as u8;
        data[10] = suite as u8;
        data[11] = self.codec as u8;
        data[12..16].copy_from_slice(&self.plain_bytes.to_le_bytes());
        data[16..32].copy_from_slice(&self.repository.0);
        data[32..48].copy_from_slice(&self.envelope.0);
        data[48..].copy_from_slice(&self.unique);
        data
    }
}

/// Seals in place: `buffer` begins with [`NONCE_BYTES`] of room, then the plaintext; afterwards it holds nonce,
/// ciphertext and tag.
///
/// # Panics
/// When the room is missing.
pub fn seal_in_place(suite: Suite, key: &Key, binding: &Binding, buffer: &mut Vec<u8>) {
    let nonce = random_bytes::<NONCE_BYTES>();
    let data = binding.associated_data(suite);
    let (room, plain) = buffer.split_at_mut(NONCE_BYTES);
    room.copy_from_slice(&nonce);
    let sealed = "a plaintext is far below the cipher's limit of 64 GiB";
    let tag: [u8; TAG_BYTES] = match suite {
        Suite::XChaCha20Poly1305 => XChaCha20Poly1305::new(key.expose().into())
            .encrypt_inout_detached(&nonce.into(), &data, plain.into())
            .expect(sealed)
            .into(),
        Suite::Aes256Gcm => {
            let (key, nonce) = aes_key_and_nonce(key, &nonce);
            Aes256Gcm::new(key.expose().into())
                .encrypt_inout_detached(&nonce.into(), &data, plain.into())
                .expect(sealed)
                .into()
        }
    };
    buffer.extend_from_slice(&tag);
}

/// Opens in place; the plaintext is `buffer[NONCE_BYTES..buffer.len()]` afterwards, the tag being cut off.
///
/// # Errors
/// [`Error::Unauthentic`] when a byte, the key or the binding differs; the buffer's contents are then unspecified.
pub fn open_in_place(suite: Suite, key: &Key, binding: &Binding, buffer: &mut Vec<u8>) -> Result<()> {
    let unauthentic = || Error::Unauthentic { what: purpose_name(binding.purpose) };
    if buffer.len() < OVERHEAD_BYTES {
        return Err(unauthentic());
    }
    let data = binding.associated_data(suite);
    let mut tag = [0; TAG_BYTES];
    tag.copy_from_slice(&buffer[buffer.len() - TAG_BYTES..]);
    buffer.truncate(buffer.len() - TAG_BYTES);
    let (room, sealed) = buffer.split_at_mut(NONCE_BYTES);
    let mut nonce = [0; NONCE_BYTES];
    nonce.copy_from_slice(room);
    match suite {
        Suite::XChaCha20Poly1305 => XChaCha20Poly1305::new(key.expose().into()).decrypt_inout_detached(
            &nonce.into(),
            &data,
            sealed.into(),
            &tag.into(),
        ),
        Suite::Aes256Gcm => {
            let (key, nonce) = aes_key_and_nonce(key, &nonce);
            Aes256Gcm::new(key.expose().into()).decrypt_inout_detached(
                &nonce.into(),
                &data,
                sealed.into(),
                &tag.into(),
            )
        }
    }
    .map_err(|_| unauthentic())
}

/// GCM's 12-byte nonce is too short to be random for long under one key, so half of ours picks a key.
fn aes_key_and_nonce(key: &Key, nonce: &[u8; NONCE_BYTES]) -> (Key, [u8; 12]) {
    let mut hasher = blake3::Hasher::new_keyed(key.expose());
    hasher.update(b"lifeboat v1 aes-256-gcm nonce");
    hasher.update(&nonce[..12]);
    let mut tail = [0; 12];
    tail.copy_from_slice(&nonce[12..]);
    (Key::new(*hasher.finalize().as_bytes()), tail)
}

fn purpose_name(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Filler | Purpose::Data | Purpose::Tree | Purpose::List => "region",
        Purpose::Directory => "pack directory",
        Purpose::Index => "index object",
        Purpose::Snapshot | Purpose::Draft | Purpose::Checkpoint => "snapshot",
        Purpose::Envelope => "envelope",
        Purpose::Slot => "key slot",
        Purpose::Intent => "intent",
        Purpose::Condemned => "condemned list",
        Purpose::Verdict => "verdict",
        Purpose::Bundle => "bundle",
        Purpose::Remembered => "remembered snapshots",
    }
}

/// Bytes in front of a box: suite, codec, plain length.
pub const BOX_HEADER_BYTES: usize = 6;

/// Seals a small object with all that opening it needs: suite, codec, length, then the sealed bytes.
pub fn seal_box(suite: Suite, key: &Key, binding: Binding, plain: &[u8]) -> Vec<u8> {
    match zstd::bulk::compress(plain, 3) {
        Ok(packed) if packed.len() < plain.len() => {
            seal_packed(Codec::Zstd, suite, key, binding, plain.len(), &packed)
        }
        _ => seal_box_raw(suite, key, binding, plain),
    }
}

/// Seals bytes that are stored as they are.
pub(crate) fn seal_box_raw(suite: Suite, key: &Key, binding: Binding, plain: &[u8]) -> Vec<u8> {
    seal_packed(Codec::Raw, suite, key, binding, plain.len(), plain)
}

fn seal_packed(
    codec: Codec,
    suite: Suite,
    key: &Key,
    binding: Binding,
    plain_bytes: usize,
    packed: &[u8],
) -> Vec<u8> {
    let binding = Binding { codec, plain_bytes: plain_bytes as u32, ..binding };
    let mut buffer = vec![0; NONCE_BYTES];
    buffer.extend_from_slice(packed);
    seal_in_place(suite, key, &binding, &mut buffer);
    let mut sealed = vec![suite as u8, codec as u8];
    sealed.extend_from_slice(&binding.plain_bytes.to_le_bytes());
    sealed.append(&mut buffer);
    sealed
}

thread_local! {
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Opens what [`seal_box`] made, up to `plain_bytes_max` bytes of plaintext.
pub fn open_box(key: &Key, binding: Binding, sealed: &[u8], plain_bytes_max: u32) -> Result<Vec<u8>> {
    let what = purpose_name(binding.purpose);
    let mut reader = crate::wire::Reader::new(sealed, what);
    let suite = Suite::from_byte(reader.u8()?)?;
    let codec = Codec::from_byte(reader.u8()?)?;
    let plain_bytes = reader.u32()?;
    if plain_bytes > plain_bytes_max {
        return Err(reader.damaged(format!("{plain_bytes} bytes are more than {plain_bytes_max}")));
    }
    let mut buffer = reader.bytes(reader.remaining())?.to_vec();
    open_in_place(suite, key, &Binding { codec, plain_bytes, ..binding }, &mut buffer)?;
    let opened = &buffer[NONCE_BYTES..];
    let plain = match codec {
        Codec::Raw => opened.to_vec(),
        Codec::Zstd => {
            // Making a context costs more than opening a small object, and a listing opens thousands.
            let decompress = |kept: &RefCell<Option<zstd::bulk::Decompressor<'static>>>| {
                let mut kept = kept.borrow_mut();
                let decompressor = match &mut *kept {
                    Some(decompressor) => decompressor,
                    empty => empty.insert(zstd::bulk::Decompressor::new()?),
                };
                decompressor.decompress(opened, plain_bytes as usize)
            };
            DECOMPRESSOR.with(decompress).map_err(|error| Error::damaged(what, error.to_string()))?
        }
    };
    if plain.len() == plain_bytes as usize {
        Ok(plain)
    } else {
        Err(Error::damaged(what, "its length differs from the one it states"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding() -> Binding {
        Binding {
            repository: RepositoryId([7; 16]),
            purpose: Purpose::Snapshot,
            codec: Codec::Raw,
            envelope: EnvelopeId([0; 16]),
            unique: [9; 16],
            plain_bytes: 0,
        }
    }

    #[test]
    fn every_flipped_bit_and_every_other_binding_is_refused() {
        for suite in [Suite::XChaCha20Poly1305, Suite::Aes256Gcm] {
            let key = Key::random();
            let sealed = seal_box(suite, &key, binding(), b"plain text, plain text, plain text, plain text");
            assert!(open_box(&key, binding(), &sealed, 100).is_ok());
            for bit in 0..sealed.len() * 8 {
                let mut bad = sealed.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(open_box(&key, binding(), &bad, 100).is_err(), "bit {bit}");
            }
            for end in 0..sealed.len() {
                assert!(open_box(&key, binding(), &sealed[..end], 100).is_err());
            }
            let other = Binding { purpose: Purpose::Index, ..binding() };
            assert!(open_box(&key, other, &sealed, 100).is_err());
            assert!(open_box(&Key::random(), binding(), &sealed, 100).is_err());
            assert!(open_box(&key, binding(), &sealed, 10).is_err());
        }
    }

    #[test]
    fn no_nonce_is_used_twice() {
        let key = Key::random();
        let nonces: std::collections::HashSet<Vec<u8>> = (0..1000)
            .map(|_| {
                seal_box(Suite::XChaCha20Poly1305, &key, binding(), b"same")[6..6 + NONCE_BYTES].to_vec()
            })
            .collect();
        assert_eq!(nonces.len(), 1000);
    }

    #[test]
    fn a_key_is_never_printed() {
        assert_eq!(format!("{:?}", Key::new([1; 32])), "Key(…)");
    }
}
