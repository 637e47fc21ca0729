//! A bundle: one snapshot, or what differs from another one, with the chunks that it needs. `docs/format/bundle.md`
//!
//! A bundle is a stream of frames, each sealed under the bundle's own key and bound to its number, so that none can be
//! changed, moved, left out, doubled or taken from another bundle. Must stay true: a frame is decoded alone, within
//! limits, and only the last one says that all were there.
//!
//! Read next: [`record`], what the frames of records hold.

pub mod record;

use crate::limits::{
    BUNDLE_CHUNKS_MAX, BUNDLE_FRAME_BYTES_MAX, BUNDLE_SLOT_BYTES_MAX, CHUNK_BYTES_MAX, SNAPSHOT_BYTES_MAX,
    TEXT_BYTES_MAX,
};
use crate::object::{HEADER_BYTES, MAGIC};
use crate::seal::{
    self, BOX_HEADER_BYTES, Binding, Codec, FORMAT_VERSION, Key, OVERHEAD_BYTES, Purpose, Suite,
};
use crate::slot::{Argon2Cost, Role, RoleBundle, Secret, Slot};
use crate::snapshot::{Snapshot, SnapshotKind, TreeRoot};
use crate::wire::{Reader, Write};
use crate::{
    BundleId, ChunkId, EnvelopeId, Error, RepositoryId, Result, SlotId, SnapshotId, Timestamp, TreePath,
};

/// The kind's byte in a bundle's header; objects of repositories have lower ones.
pub const KIND: u8 = 32;
/// Bytes before the key slot's length: header and id.
pub const PREFIX_BYTES: usize = HEADER_BYTES + BundleId::BYTES;
/// Bytes in front of a frame's box: its sort and the box's length.
pub const FRAME_HEAD_BYTES: usize = 5;

const WHAT: &str = "bundle";

/// What the snapshot is the difference to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// Which snapshot.
    pub id: SnapshotId,
    /// How many chunks its walk meets.
    pub chunks: u64,
    /// What its walk meets, by [`BaseDigest`].
    pub digest: [u8; 32],
    /// Its host's name, for people who look for it.
    pub host: String,
    /// When it was taken, for the same.
    pub started: Timestamp,
}

/// What a bundle is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The snapshot; the roots of its sources are empty, but for the number of their entries.
    pub snapshot: Snapshot,
    /// What it needs; nothing where all is in the bundle.
    pub base: Option<Base>,
    /// What was asked for: full, the difference to the parent, or to the last full one.
    pub kind: SnapshotKind,
}

const TAG_SNAPSHOT: u64 = 1;
const TAG_BASE: u64 = 2;
const TAG_BASE_CHUNKS: u64 = 3;
const TAG_BASE_DIGEST: u64 = 4;
const TAG_BASE_HOST: u64 = 5;
const TAG_BASE_STARTED: u64 = 6;
const TAG_KIND: u64 = 7;

fn put_field(output: &mut Vec<u8>, tag: u64, value: &[u8]) {
    output.put_varint(tag);
    output.put_string(value);
}

/// All of a snapshot but the names of chunks, which mean something in one repository only.
fn portable(snapshot: &Snapshot) -> Result<Vec<u8>> {
    let mut portable = snapshot.clone();
    for source in &mut portable.sources {
        source.root = TreeRoot { id: ChunkId([0; ChunkId::BYTES]), height: 0, ..source.root };
    }
    let plain = portable.encode_body();
    match plain.len() > SNAPSHOT_BYTES_MAX as usize - 8192 {
        true => Err(Error::limit("snapshot", format!("{} bytes", plain.len()))),
        false => Ok(plain),
    }
}

impl Manifest {
    /// The plaintext of its frame.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut plain = Vec::new();
        put_field(&mut plain, TAG_SNAPSHOT, &portable(&self.snapshot)?);
        if let Some(base) = &self.base {
            put_field(&mut plain, TAG_BASE, &base.id.0);
            let mut number = Vec::new();
            number.put_varint(base.chunks);
            put_field(&mut plain, TAG_BASE_CHUNKS, &number);
            put_field(&mut plain, TAG_BASE_DIGEST, &base.digest);
            put_field(&mut plain, TAG_BASE_HOST, base.host.as_bytes());
            let mut time = Vec::new();
            time.put_signed(base.started.seconds);
            time.put_varint(u64::from(base.started.nanos));
            put_field(&mut plain, TAG_BASE_STARTED, &time);
        }
        put_field(&mut plain, TAG_KIND, &[self.kind as u8]);
        Ok(plain)
    }

    /// Reads the plaintext of its frame.
    pub fn decode(plain: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(plain, WHAT);
        let (mut snapshot, mut base, mut kind) = (None, None, SnapshotKind::Full);
        let (mut chunks, mut digest) = (0, [0; 32]);
        let (mut host, mut started) = (String::new(), Timestamp::default());
        while reader.remaining() > 0 {
            let tag = reader.varint()?;
            let value = reader.string(SNAPSHOT_BYTES_MAX)?;
            let mut field = Reader::new(value, WHAT);
            match tag {
                TAG_SNAPSHOT => snapshot = Some(Snapshot::decode_body(value)?),
                TAG_BASE => base = Some(SnapshotId(field.array()?)),
                TAG_BASE_CHUNKS => chunks = field.varint()?,
                TAG_BASE_DIGEST => digest = field.array()?,
                TAG_BASE_HOST if value.len() <= TEXT_BYTES_MAX as usize => {
                    host = String::from_utf8_lossy(value).into_owned();
                }
                TAG_BASE_STARTED => {
                    started = Timestamp { seconds: field.signed()?, nanos: field.varint_max(999_999_999)? };
                }
                TAG_KIND => kind = SnapshotKind::from_byte(field.u8()?, &reader)?,
                // As in snapshots: later versions add fields.
                _ => {}
            }
        }
        if chunks > i64::MAX as u64 / 2 {
            return Err(reader.damaged("its base has too many chunks"));
        }
        Ok(Self {
            snapshot: snapshot.ok_or_else(|| reader.damaged("it names no snapshot"))?,
            base: base.map(|id| Base { id, chunks, digest, host, started }),
            kind,
        })
    }
}

/// Chunks, one behind the other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chunks {
    /// Their lengths.
    pub lengths: Vec<u32>,
    /// Their bytes.
    pub bytes: Vec<u8>,
}

impl Chunks {
    /// Each chunk.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.bytes[..];
        self.lengths.iter().map_while(move |length| {
            let (chunk, others) = rest.split_at_checked(*length as usize)?;
            rest = others;
            Some(chunk)
        })
    }

    /// The plaintext of their frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut plain = Vec::with_capacity(self.bytes.len() + self.lengths.len() * 3 + 4);
        plain.put_varint(self.lengths.len() as u64);
        self.lengths.iter().for_each(|length| plain.put_varint(u64::from(*length)));
        plain.extend_from_slice(&self.bytes);
        plain
    }

    /// Reads the plaintext of their frame.
    pub fn decode(plain: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(plain, WHAT);
        let count = reader.varint_max(BUNDLE_CHUNKS_MAX)?;
        let lengths: Vec<u32> =
            (0..count).map(|_| reader.varint_max(CHUNK_BYTES_MAX)).collect::<Result<_>>()?;
        let total: u64 = lengths.iter().map(|length| u64::from(*length)).sum();
        if lengths.contains(&0) || total != reader.remaining() as u64 {
            return Err(reader.damaged("its chunks are empty or do not add up"));
        }
        Ok(Self { lengths, bytes: reader.bytes(reader.remaining())?.to_vec() })
    }
}

/// What a whole bundle holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Chunks in it.
    pub chunks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Entries in it.
    pub entries: u64,
    /// Entries that the snapshot lacks and the base has.
    pub removed: u64,
}

/// What a frame holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The first one.
    Manifest(Box<Manifest>),
    /// Chunks that later records use.
    Chunks(Chunks),
    /// Whole records; see [`record::Numbering::decode`].
    Records(Vec<u8>),
    /// The last one.
    End(Totals),
}

const SORT_MANIFEST: u8 = 1;
const SORT_CHUNKS: u8 = 2;
const SORT_RECORDS: u8 = 3;
const SORT_END: u8 = 4;

impl Part {
    fn sort(&self) -> u8 {
        match self {
            Self::Manifest(_) => SORT_MANIFEST,
            Self::Chunks(_) => SORT_CHUNKS,
            Self::Records(_) => SORT_RECORDS,
            Self::End(_) => SORT_END,
        }
    }
}

/// Seals and opens the frames of one bundle.
#[derive(Debug, Clone)]
pub struct BundleKey {
    id: BundleId,
    key: Key,
}

/// What stands in front of a frame's box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHead {
    sort: u8,
    /// Length of the box that follows.
    pub box_bytes: u32,
}

impl FrameHead {
    /// Checks the bytes before a box.
    pub fn decode(bytes: &[u8; FRAME_HEAD_BYTES]) -> Result<Self> {
        let mut reader = Reader::new(bytes, WHAT);
        let (sort, box_bytes) = (reader.u8()?, reader.u32()?);
        if plain_bytes_max(sort).is_none_or(|most| box_bytes > box_bytes_max(most)) {
            return Err(reader.damaged("a frame is of no known sort, or too long"));
        }
        Ok(Self { sort, box_bytes })
    }
}

fn plain_bytes_max(sort: u8) -> Option<u32> {
    match sort {
        SORT_MANIFEST => Some(SNAPSHOT_BYTES_MAX),
        SORT_CHUNKS | SORT_RECORDS => Some(BUNDLE_FRAME_BYTES_MAX),
        SORT_END => Some(1024),
        _ => None,
    }
}

fn box_bytes_max(plain_bytes: u32) -> u32 {
    plain_bytes + (BOX_HEADER_BYTES + OVERHEAD_BYTES) as u32
}

impl BundleKey {
    /// A new bundle that `secret` opens, and the bytes that it begins with.
    pub fn create(secret: &Secret<'_>, now: Timestamp) -> Result<(Self, Vec<u8>)> {
        let (id, master) = (BundleId::random(), Key::random());
        let role = RoleBundle { role: Role::Full, master, label: String::new(), created: now };
        let suite = Suite::XChaCha20Poly1305;
        let slot = Slot::seal(RepositoryId(id.0), SlotId(id.0), suite, secret, Argon2Cost::default(), &role)?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&[KIND, FORMAT_VERSION, 0, 0]);
        bytes.extend_from_slice(&id.0);
        let slot = slot.encode();
        bytes.put_u32(slot.len() as u32);
        bytes.extend_from_slice(&slot);
        Ok((Self { id, key: role.master.derive("lifeboat v1 bundle") }, bytes))
    }

    /// Checks the first [`PREFIX_BYTES`] and four bytes of a bundle; gives its id, and the length of the slot that follows.
    pub fn decode_prefix(bytes: &[u8]) -> Result<(BundleId, u32)> {
        let mut reader = Reader::new(bytes, WHAT);
        if reader.array::<8>()? != MAGIC {
            return Err(reader.damaged("it does not begin with `lifeboat`"));
        }
        let (kind, version) = (reader.u8()?, reader.u8()?);
        if version != FORMAT_VERSION {
            return Err(Error::Unsupported { what: WHAT, feature: format!("format version {version}") });
        }
        if kind != KIND || reader.u16()? != 0 {
            return Err(reader.damaged("it is something else, or its reserved bytes are not zero"));
        }
        let (id, length) = (BundleId(reader.array()?), reader.u32()?);
        match length {
            1..=BUNDLE_SLOT_BYTES_MAX => Ok((id, length)),
            _ => Err(reader.damaged("its key slot is empty or too long")),
        }
    }

    /// Opens the bundle `id` by its slot.
    pub fn open(id: BundleId, slot: &[u8], secret: &Secret<'_>) -> Result<Self> {
        let bundle = Slot::decode(slot)?.open(RepositoryId(id.0), SlotId(id.0), secret)?;
        Ok(Self { id, key: bundle.master.derive("lifeboat v1 bundle") })
    }

    /// The bundle's identity.
    pub fn id(&self) -> BundleId {
        self.id
    }

    fn binding(&self, number: u64, sort: u8) -> Binding {
        let mut unique = [0; 16];
        unique[..8].copy_from_slice(&number.to_le_bytes());
        unique[8] = sort;
        Binding {
            repository: RepositoryId(self.id.0),
            purpose: Purpose::Bundle,
            codec: Codec::Raw,
            envelope: EnvelopeId([0; 16]),
            unique,
            plain_bytes: 0,
        }
    }

    /// The bytes of frame `number`, counted from 0.
    pub fn seal(&self, number: u64, part: &Part) -> Result<Vec<u8>> {
        let plain = match part {
            Part::Manifest(manifest) => manifest.encode()?,
            Part::Chunks(chunks) => chunks.encode(),
            Part::Records(records) => records.clone(),
            Part::End(totals) => {
                let mut plain = Vec::new();
                [totals.chunks, totals.bytes, totals.entries, totals.removed]
                    .iter()
                    .for_each(|value| plain.put_varint(*value));
                plain
            }
        };
        let sort = part.sort();
        if plain_bytes_max(sort).is_none_or(|most| plain.len() > most as usize) {
            return Err(Error::limit("a frame of a bundle", format!("{} bytes", plain.len())));
        }
        let sealed = seal::seal_box(Suite::XChaCha20Poly1305, &self.key, self.binding(number, sort), &plain);
        let mut frame = vec![sort];
        frame.put_u32(sealed.len() as u32);
        frame.extend_from_slice(&sealed);
        Ok(frame)
    }

    /// Opens the box of frame `number`.
    pub fn open_frame(&self, number: u64, head: FrameHead, sealed: &[u8]) -> Result<Part> {
        let most = plain_bytes_max(head.sort).unwrap_or(0);
        let plain = seal::open_box(&self.key, self.binding(number, head.sort), sealed, most)?;
        if (number == 0) != (head.sort == SORT_MANIFEST) {
            return Err(Error::damaged(WHAT, "it does not begin with its manifest"));
        }
        Ok(match head.sort {
            SORT_MANIFEST => Part::Manifest(Box::new(Manifest::decode(&plain)?)),
            SORT_CHUNKS => Part::Chunks(Chunks::decode(&plain)?),
            SORT_RECORDS => Part::Records(plain),
            _ => {
                let mut reader = Reader::new(&plain, WHAT);
                let [chunks, bytes, entries, removed] =
                    [reader.varint()?, reader.varint()?, reader.varint()?, reader.varint()?];
                Part::End(Totals { chunks, bytes, entries, removed })
            }
        })
    }
}

/// What the walk of a base meets: both sides take it, so that numbers mean the same chunks to them.
#[derive(Debug, Clone)]
pub struct BaseDigest {
    hasher: blake3::Hasher,
    /// Chunks met so far.
    pub chunks: u64,
}

impl Default for BaseDigest {
    fn default() -> Self {
        Self { hasher: blake3::Hasher::new_derive_key("lifeboat v1 bundle base"), chunks: 0 }
    }
}

impl BaseDigest {
    /// The next source begins.
    pub fn source(&mut self) {
        self.hasher.update(&[1]);
    }

    /// An entry of it.
    pub fn entry(&mut self, path: &TreePath) {
        let key = path.as_key();
        self.hasher.update(&[2]).update(&(key.len() as u32).to_le_bytes()).update(key);
    }

    /// A chunk of it: first those of attributes, then those of the content.
    pub fn chunk(&mut self, bytes: u32) {
        self.hasher.update(&[3]).update(&bytes.to_le_bytes());
        self.chunks += 1;
    }

    /// The digest.
    pub fn finish(&self) -> [u8; 32] {
        *self.hasher.finalize().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HostId;

    fn parts() -> Vec<Part> {
        let base = Base {
            id: SnapshotId([1; 16]),
            chunks: 7,
            digest: [2; 32],
            host: "host".into(),
            started: Timestamp { seconds: -1, nanos: 5 },
        };
        let snapshot = Snapshot { complete: true, ..Snapshot::new(SnapshotId([3; 16]), HostId([4; 16])) };
        let manifest = Manifest { snapshot, base: Some(base), kind: SnapshotKind::Incremental };
        vec![
            Part::Manifest(Box::new(manifest)),
            Part::Chunks(Chunks { lengths: vec![2, 3], bytes: b"12345".to_vec() }),
            Part::Records(vec![1, 0]),
            Part::End(Totals { chunks: 2, bytes: 5, entries: 0, removed: 0 }),
        ]
    }

    fn open(key: &BundleKey, number: u64, frame: &[u8]) -> Result<Part> {
        let (head, sealed) = frame.split_at(FRAME_HEAD_BYTES);
        key.open_frame(number, FrameHead::decode(head.try_into().unwrap())?, sealed)
    }

    #[test]
    fn frames_open_at_their_place_in_their_bundle_only() {
        let secret = Key::new([5; 32]);
        let (key, header) = BundleKey::create(&Secret::KeyFile(&secret), Timestamp::default()).unwrap();
        let (other, _) = BundleKey::create(&Secret::KeyFile(&secret), Timestamp::default()).unwrap();
        let (id, length) = BundleKey::decode_prefix(&header[..PREFIX_BYTES + 4]).unwrap();
        let slot = &header[PREFIX_BYTES + 4..];
        assert_eq!((id, length as usize), (key.id(), slot.len()));
        let opened = BundleKey::open(id, slot, &Secret::KeyFile(&secret)).unwrap();
        assert!(BundleKey::open(other.id(), slot, &Secret::KeyFile(&secret)).is_err());
        for (number, part) in parts().iter().enumerate() {
            let frame = key.seal(number as u64, part).unwrap();
            assert_eq!(&open(&opened, number as u64, &frame).unwrap(), part);
            assert!(open(&other, number as u64, &frame).is_err());
            assert!(open(&opened, number as u64 + 1, &frame).is_err());
            for bit in 0..frame.len() * 8 {
                let mut bad = frame.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                // Another length is noticed by whoever reads so many bytes.
                assert!((8..40).contains(&bit) || open(&opened, number as u64, &bad).is_err(), "bit {bit}");
            }
        }
    }

    #[test]
    fn a_manifest_stands_first_and_nowhere_else() {
        let secret = Key::new([5; 32]);
        let (key, _) = BundleKey::create(&Secret::KeyFile(&secret), Timestamp::default()).unwrap();
        let parts = parts();
        assert!(open(&key, 1, &key.seal(1, &parts[0]).unwrap()).is_err());
        assert!(open(&key, 0, &key.seal(0, &parts[1]).unwrap()).is_err());
    }
}
