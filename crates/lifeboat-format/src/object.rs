//! How objects are named and framed. `docs/format/README.md#objects`

use crate::id::{hex, push_hex, read_hex};
use crate::limits::SMALL_OBJECT_BYTES_MAX;
use crate::wire::Reader;
use crate::{Error, Result};
use std::fmt;

/// The first bytes of every object.
pub const MAGIC: [u8; 8] = *b"lifeboat";
/// Magic, kind, version, two zero bytes.
pub const HEADER_BYTES: usize = 12;
/// BLAKE3 of everything before it, at the end of objects that are not named by their content.
pub const CHECKSUM_BYTES: usize = 32;
/// The longest of [`ObjectKind::name_bytes`].
const NAME_BYTES_MAX: usize = 32;

/// What an object is. The number is its byte on disk, the name its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ObjectKind {
    /// Parameters and features of the repository; there is one.
    Config = 1,
    /// A wrapped role bundle.
    Slot = 2,
    /// Sealed regions.
    Pack = 3,
    /// Which chunk lies where, for many packs.
    Index = 4,
    /// A complete snapshot.
    Snapshot = 5,
    /// A snapshot about to be listed.
    Draft = 6,
    /// An incomplete snapshot of an interrupted or running session.
    Checkpoint = 7,
    /// A running session.
    Intent = 8,
    /// The end of a session, put by a collector.
    Fence = 9,
    /// Packs that a collector wants to delete.
    Condemned = 10,
    /// Packs that may be deleted.
    Verdict = 11,
}

impl ObjectKind {
    /// All kinds.
    pub const ALL: [Self; 11] = [
        Self::Config,
        Self::Slot,
        Self::Pack,
        Self::Index,
        Self::Snapshot,
        Self::Draft,
        Self::Checkpoint,
        Self::Intent,
        Self::Fence,
        Self::Condemned,
        Self::Verdict,
    ];

    /// The folder that holds such objects; the config is a file of that name.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Slot => "keys",
            Self::Pack => "packs",
            Self::Index => "index",
            Self::Snapshot => "snapshots",
            Self::Draft => "drafts",
            Self::Checkpoint => "checkpoints",
            Self::Intent => "intents",
            Self::Fence => "fences",
            Self::Condemned => "condemned",
            Self::Verdict => "verdicts",
        }
    }

    /// What messages call it.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Slot => "key slot",
            Self::Pack => "pack",
            Self::Index => "index object",
            Self::Snapshot => "snapshot",
            Self::Draft => "draft",
            Self::Checkpoint => "checkpoint",
            Self::Intent => "intent",
            Self::Fence => "fence",
            Self::Condemned => "condemned list",
            Self::Verdict => "verdict",
        }
    }

    /// Bytes of a name: packs and index objects are named by BLAKE3, intents by session and counter.
    pub fn name_bytes(self) -> usize {
        match self {
            Self::Config => 0,
            Self::Pack | Self::Index => 32,
            Self::Intent => 20,
            _ => 16,
        }
    }

    /// Whether the name is the BLAKE3 of the content, so that no checksum is needed inside.
    pub fn named_by_content(self) -> bool {
        matches!(self, Self::Pack | Self::Index)
    }

    /// Largest object of this kind that a reader accepts.
    pub fn bytes_max(self) -> u32 {
        match self {
            Self::Pack => crate::limits::PACK_BYTES_MAX,
            Self::Index => crate::limits::INDEX_BYTES_MAX,
            Self::Snapshot | Self::Draft | Self::Checkpoint => crate::limits::SNAPSHOT_BYTES_MAX,
            _ => SMALL_OBJECT_BYTES_MAX,
        }
    }
}

/// Which object: its kind and name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    kind: ObjectKind,
    /// Zeros behind the bytes that the kind's names have. Not on the heap: listings hold thousands.
    name: [u8; NAME_BYTES_MAX],
}

impl ObjectKey {
    /// The object of `kind` called `name`.
    ///
    /// # Panics
    /// When the name has another length than the kind's names have.
    pub fn new(kind: ObjectKind, name: &[u8]) -> Self {
        assert_eq!(name.len(), kind.name_bytes(), "a {} has names of one length", kind.noun());
        let mut key = Self { kind, name: [0; NAME_BYTES_MAX] };
        key.name[..name.len()].copy_from_slice(name);
        key
    }

    /// The repository's config.
    pub fn config() -> Self {
        Self::new(ObjectKind::Config, &[])
    }

    /// What it is.
    pub fn kind(&self) -> ObjectKind {
        self.kind
    }

    /// Its raw name.
    pub fn name(&self) -> &[u8] {
        &self.name[..self.kind.name_bytes()]
    }

    /// Its name as hexadecimal digits: the last component of [`Self::path`].
    pub fn hex(&self) -> String {
        hex(self.name())
    }

    /// The same into `text`, in the place of what was there.
    pub fn write_hex(&self, text: &mut String) {
        text.clear();
        push_hex(self.name(), text);
    }

    /// Where it lies below the repository's root: `packs/4/4f1c…`, `snapshots/9ae0…`, `config`.
    pub fn path(&self) -> String {
        let folder = self.kind.folder();
        match self.kind {
            ObjectKind::Config => folder.to_owned(),
            ObjectKind::Pack => {
                let hex = self.hex();
                format!("{folder}/{}/{hex}", &hex[..1])
            }
            _ => format!("{folder}/{}", self.hex()),
        }
    }

    /// Reads a name in hexadecimal; `None` when it is not one of this kind (a stray file).
    pub fn from_hex(kind: ObjectKind, hex: &str) -> Option<Self> {
        let mut name = [0; NAME_BYTES_MAX];
        read_hex(hex, &mut name[..kind.name_bytes()]).then_some(Self { kind, name })
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ObjectKind::Config => formatter.write_str("config"),
            kind => write!(formatter, "{} {}", kind.noun(), &self.hex()[..16]),
        }
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.path())
    }
}

/// The header of an object of this kind.
pub fn header(kind: ObjectKind) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8] = kind as u8;
    header[9] = crate::seal::FORMAT_VERSION;
    header
}

/// Checks the header and gives what follows it.
pub fn strip_header(kind: ObjectKind, bytes: &[u8]) -> Result<&[u8]> {
    let mut reader = Reader::new(bytes, kind.noun());
    if reader.array::<8>()? != MAGIC {
        return Err(reader.damaged("it does not begin with `lifeboat`"));
    }
    let found = reader.u8()?;
    let version = reader.u8()?;
    if version != crate::seal::FORMAT_VERSION {
        return Err(Error::Unsupported { what: kind.noun(), feature: format!("format version {version}") });
    }
    if found != kind as u8 {
        return Err(reader.damaged(format!("it is an object of kind {found}")));
    }
    if reader.u16()? != 0 {
        return Err(reader.damaged("reserved bytes are not zero"));
    }
    reader.bytes(reader.remaining())
}

/// Frames a body: header in front, checksum behind.
pub fn frame(kind: ObjectKind, body: &[u8]) -> Vec<u8> {
    let mut bytes = header(kind).to_vec();
    bytes.extend_from_slice(body);
    if !kind.named_by_content() {
        let checksum = blake3::hash(&bytes);
        bytes.extend_from_slice(checksum.as_bytes());
    }
    bytes
}

/// Checks size, header and checksum, and gives the body.
pub fn unframe(kind: ObjectKind, bytes: &[u8]) -> Result<&[u8]> {
    if bytes.len() > kind.bytes_max() as usize {
        return Err(Error::damaged(kind.noun(), format!("{} bytes are too many", bytes.len())));
    }
    if kind.named_by_content() {
        return strip_header(kind, bytes);
    }
    let Some(end) = bytes.len().checked_sub(CHECKSUM_BYTES) else {
        return Err(Error::damaged(kind.noun(), "it is shorter than its checksum"));
    };
    let (framed, checksum) = bytes.split_at(end);
    // The header is looked at first: an object of a newer version is refused by name, not called damaged.
    let body = strip_header(kind, framed)?;
    if blake3::hash(framed).as_bytes() == checksum {
        Ok(body)
    } else {
        Err(Error::damaged(kind.noun(), "its checksum differs"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_truncation_of_a_framed_object_is_noticed() {
        let bytes = frame(ObjectKind::Fence, b"body");
        assert_eq!(unframe(ObjectKind::Fence, &bytes), Ok(&b"body"[..]));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(unframe(ObjectKind::Fence, &bad).is_err(), "bit {bit}");
        }
        for end in 0..bytes.len() {
            assert!(unframe(ObjectKind::Fence, &bytes[..end]).is_err());
        }
        assert!(unframe(ObjectKind::Intent, &bytes).is_err());
    }

    #[test]
    fn a_newer_version_is_named() {
        let mut bytes = frame(ObjectKind::Fence, b"");
        bytes[9] = 2;
        let error = unframe(ObjectKind::Fence, &bytes).unwrap_err();
        assert_eq!(error.to_string(), "fence needs format version 2, which this lifeboat does not know");
    }

    #[test]
    fn a_key_reads_back_from_its_path() {
        let key = ObjectKey::new(ObjectKind::Pack, &[0xab; 32]);
        assert_eq!(key.path(), format!("packs/a/{}", "ab".repeat(32)));
        assert_eq!(ObjectKey::from_hex(ObjectKind::Pack, &key.hex()), Some(key));
        assert_eq!(ObjectKey::from_hex(ObjectKind::Pack, "tmp-1"), None);
        let digits = "0123456789abcdef";
        for (place, other) in
            (0..64).flat_map(|place| (0..=0x7f).map(move |other| (place, char::from(other))))
        {
            let mut hex = digits.repeat(4);
            hex.replace_range(place..=place, &other.to_string());
            let read = ObjectKey::from_hex(ObjectKind::Pack, &hex);
            assert_eq!(
                read.map(|key| key.hex()),
                digits.contains(other).then_some(hex),
                "{other:?} at {place}"
            );
        }
    }
}
