//! Snapshots that one machine has read, sealed for itself. `docs/format/snapshot.md#remembered`

use super::Snapshot;
use crate::keys::Keys;
use crate::limits::SNAPSHOT_BYTES_MAX;
use crate::wire::{Reader, Write};
use crate::{AuthorId, Error, Result, SessionId};

/// Longest sealed bytes, before and after decompression: some 100,000 snapshots.
pub const REMEMBERED_BYTES_MAX: u32 = 64 << 20;

/// The first bytes; another layout takes another word.
const MAGIC: &[u8; 8] = b"lbsnaps2";

/// A snapshot that was read before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// The session under whose name it is stored.
    pub session: SessionId,
    /// How many bytes its object has.
    pub object_bytes: u64,
    /// Its content.
    pub snapshot: Snapshot,
}

/// Seals snapshots, each with its session and its object's length, as many of them as [`REMEMBERED_BYTES_MAX`] holds.
pub fn seal<'s>(keys: &Keys, known: impl Iterator<Item = (SessionId, u64, &'s Snapshot)>) -> Vec<u8> {
    let mut plain = Vec::new();
    for (session, object_bytes, snapshot) in known {
        let end = plain.len();
        plain.extend_from_slice(&session.0);
        plain.put_varint(object_bytes);
        plain.extend_from_slice(&snapshot.author.0);
        plain.put_string(&snapshot.signature);
        plain.put_string(&snapshot.encode_body());
        if plain.len() > REMEMBERED_BYTES_MAX as usize {
            plain.truncate(end);
            break;
        }
    }
    [&MAGIC[..], &keys.seal_remembered(&plain)].concat()
}

/// Opens what [`seal`] made with the same repository's keys.
///
/// # Errors
///
/// Anything else than that.
pub fn open(keys: &Keys, bytes: &[u8]) -> Result<Vec<Remembered>> {
    let sealed = bytes.strip_prefix(MAGIC);
    let sealed = sealed.ok_or_else(|| Error::damaged("remembered snapshots", "they begin otherwise"))?;
    let plain = keys.open_remembered(sealed, REMEMBERED_BYTES_MAX)?;
    let mut reader = Reader::new(&plain, "remembered snapshots");
    let mut known = Vec::new();
    while reader.remaining() > 0 {
        let (session, object_bytes) = (SessionId(reader.array()?), reader.varint()?);
        let author = AuthorId(reader.array()?);
        let signature = reader.string(Snapshot::SIGNATURE_BYTES_MAX)?.to_vec();
        let body = Snapshot::decode_body(reader.string(SNAPSHOT_BYTES_MAX)?)?;
        known.push(Remembered { session, object_bytes, snapshot: Snapshot { author, signature, ..body } });
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

    #[test]
    fn what_was_sealed_is_opened_by_the_same_keys_alone_and_any_damage_is_seen() {
        let snapshot = |number: u8| {
            let tags = vec!["tag".into(); usize::from(number)];
            Snapshot { tags, ..Snapshot::new(SnapshotId([number; 16]), HostId([7; 16])) }
        };
        let known: Vec<Remembered> = (0..9)
            .map(|number| Remembered {
                session: SessionId([number; 16]),
                object_bytes: u64::from(number) << 9,
                snapshot: Snapshot { signature: vec![1; 3], ..snapshot(number) },
            })
            .collect();
        let borrowed = known.iter().map(|one| (one.session, one.object_bytes, &one.snapshot));
        let bytes = seal(&keys(3), borrowed);
        assert_eq!(open(&keys(3), &bytes).unwrap(), known);
        assert!(open(&keys(4), &bytes).is_err());
        for position in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[position] ^= 1;
            assert!(open(&keys(3), &damaged).is_err(), "byte {position}");
            assert!(open(&keys(3), &bytes[..position]).is_err(), "cut at {position}");
        }
        assert_eq!(open(&keys(3), &seal(&keys(3), std::iter::empty())).unwrap(), []);
    }
}
