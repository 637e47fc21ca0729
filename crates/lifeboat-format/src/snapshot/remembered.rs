//! Snapshots that one machine has read, sealed for itself. `docs/format/snapshot.md#remembered`
//!
//! Must stay true: every byte of a body is kept, also of what this version does not understand: a later one will.

use super::{Opened, Snapshot};
use crate::keys::Keys;
use crate::limits::SNAPSHOT_BYTES_MAX;
use crate::wire::{Reader, Write};
use crate::{AuthorId, Error, Result, SessionId};

/// Longest plaintext: some 100,000 snapshots of paths, some thousand of projects with many containers.
const PLAIN_BYTES_MAX: u32 = 64 << 20;
/// Longest sealed bytes: what is in front of the plaintext and behind it takes less.
pub const REMEMBERED_BYTES_MAX: u32 = PLAIN_BYTES_MAX + 128;

/// The first bytes; another layout takes another word.
const MAGIC: &[u8; 8] = b"lbsnaps2";

/// A snapshot that was read before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// The session under whose name it is stored.
    pub session: SessionId,
    /// How many bytes its object has.
    pub object_bytes: u64,
    /// What the object holds.
    pub opened: Opened,
}

/// Those that are to be remembered.
#[derive(Debug, Default)]
pub struct Builder {
    plain: Vec<u8>,
}

impl Builder {
    /// Adds one; `false` where it does not fit any more.
    pub fn add(&mut self, one: &Remembered) -> bool {
        let end = self.plain.len();
        self.plain.extend_from_slice(&one.session.0);
        self.plain.put_varint(one.object_bytes);
        self.plain.extend_from_slice(&one.opened.author.0);
        self.plain.put_string(&one.opened.signature);
        self.plain.put_string(&one.opened.body);
        let fits = self.plain.len() <= PLAIN_BYTES_MAX as usize;
        if !fits {
            self.plain.truncate(end);
        }
        fits
    }

    /// Seals them.
    pub fn seal(&self, keys: &Keys) -> Vec<u8> {
        [&MAGIC[..], &keys.seal_remembered(&self.plain)].concat()
    }
}

/// Opens what [`Builder::seal`] made with the same repository's keys.
///
/// # Errors
///
/// Anything else than that.
pub fn open(keys: &Keys, bytes: &[u8]) -> Result<Vec<Remembered>> {
    let sealed = bytes.strip_prefix(MAGIC);
    let sealed = sealed.ok_or_else(|| Error::damaged("remembered snapshots", "they begin otherwise"))?;
    let plain = keys.open_remembered(sealed, PLAIN_BYTES_MAX)?;
    let mut reader = Reader::new(&plain, "remembered snapshots");
    let mut known = Vec::new();
    while reader.remaining() > 0 {
        let (session, object_bytes) = (SessionId(reader.array()?), reader.varint()?);
        let author = AuthorId(reader.array()?);
        let signature = reader.string(Snapshot::SIGNATURE_BYTES_MAX)?.to_vec();
        let body = reader.string(SNAPSHOT_BYTES_MAX)?.to_vec();
        known.push(Remembered { session, object_bytes, opened: Opened { author, signature, body } });
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::{Key, Suite};
    use crate::{HostId, RepositoryId, SnapshotId};

    fn keys(of: u8) -> Keys {
        Keys::derive(&Key::new([of; 32]), RepositoryId([1; 16]), Suite::XChaCha20Poly1305)
    }

    fn one(number: u8, body: Vec<u8>) -> Remembered {
        Remembered {
            session: SessionId([number; 16]),
            object_bytes: u64::from(number) << 9,
            opened: Opened { author: AuthorId::NONE, signature: vec![1; 3], body },
        }
    }

    #[test]
    fn what_was_sealed_is_opened_by_the_same_keys_alone_and_any_damage_is_seen() {
        let body = |number: u8| {
            let tags = vec!["tag".into(); usize::from(number)];
            Snapshot { tags, ..Snapshot::new(SnapshotId([number; 16]), HostId([7; 16])) }.encode_body()
        };
        let mut known: Vec<Remembered> = (0..9).map(|number| one(number, body(number))).collect();
        // A field that only a later version knows.
        known[3].opened.body.extend_from_slice(&[120, 2, 7, 7]);
        let mut builder = Builder::default();
        assert!(known.iter().all(|one| builder.add(one)));
        let bytes = builder.seal(&keys(3));
        assert_eq!(open(&keys(3), &bytes).unwrap(), known);
        assert_eq!(known[3].opened.snapshot().unwrap().tags.len(), 3);
        assert!(open(&keys(4), &bytes).is_err());
        for position in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[position] ^= 1;
            assert!(open(&keys(3), &damaged).is_err(), "byte {position}");
            assert!(open(&keys(3), &bytes[..position]).is_err(), "cut at {position}");
        }
        assert_eq!(open(&keys(3), &Builder::default().seal(&keys(3))).unwrap(), []);
    }

    #[test]
    fn what_is_full_is_opened_again() {
        let mut builder = Builder::default();
        // Does not compress.
        let mut body = vec![0; 15 << 20];
        blake3::Hasher::new().finalize_xof().fill(&mut body);
        let added = (0..9).take_while(|number| builder.add(&one(*number, body.clone()))).count();
        let mut last = PLAIN_BYTES_MAX as usize - builder.plain.len() - 60;
        while builder.add(&one(9, body[..last].to_vec())) {
            last = 1;
        }
        let bytes = builder.seal(&keys(3));
        assert!(bytes.len() as u64 <= u64::from(REMEMBERED_BYTES_MAX) && bytes.len() > 64 << 20);
        assert!(open(&keys(3), &bytes).unwrap().len() > added);
    }
}
