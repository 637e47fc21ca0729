//! Condemned lists and verdicts: the packs that a collector wants to delete, and those that it may.
//! `docs/format/session.md#collection`

use crate::keys::Keys;
use crate::limits::{LISTED_PACKS_MAX, SMALL_OBJECT_BYTES_MAX};
use crate::object::{ObjectKind, frame, unframe};
use crate::seal::Purpose;
use crate::wire::{Reader, Write};
use crate::{Error, ObjectKey, PackName, Result, SessionId};

/// Which of the two a list of packs is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sentence {
    /// Nobody may begin to rely on these packs.
    Condemned,
    /// They may be deleted.
    Verdict,
}

impl Sentence {
    /// The kind of object.
    pub fn object_kind(self) -> ObjectKind {
        match self {
            Self::Condemned => ObjectKind::Condemned,
            Self::Verdict => ObjectKind::Verdict,
        }
    }

    /// The object of a collector's session.
    pub fn key(self, session: SessionId) -> ObjectKey {
        ObjectKey::new(self.object_kind(), &session.0)
    }

    fn purpose(self) -> Purpose {
        match self {
            Self::Condemned => Purpose::Condemned,
            Self::Verdict => Purpose::Verdict,
        }
    }

    /// The bytes of an object that names `packs`, which ascend.
    pub fn encode(self, keys: &Keys, session: SessionId, packs: &[PackName]) -> Result<Vec<u8>> {
        let mut plain = Vec::new();
        plain.put_varint(packs.len() as u64);
        packs.iter().for_each(|pack| plain.extend_from_slice(&pack.0));
        if decode(self, &plain)? != packs {
            return Err(Error::limit(self.object_kind().noun(), "it does not read back as it was written"));
        }
        Ok(frame(self.object_kind(), &keys.seal_index(self.purpose(), session.0, &plain)))
    }

    /// Reads the object of `session`.
    pub fn decode(self, keys: &Keys, session: SessionId, bytes: &[u8]) -> Result<Vec<PackName>> {
        let sealed = unframe(self.object_kind(), bytes)?;
        decode(self, &keys.open_index(self.purpose(), session.0, sealed, SMALL_OBJECT_BYTES_MAX)?)
    }
}

fn decode(sentence: Sentence, plain: &[u8]) -> Result<Vec<PackName>> {
    let mut reader = Reader::new(plain, sentence.object_kind().noun());
    let mut packs: Vec<PackName> = Vec::new();
    for _ in 0..reader.varint_max(LISTED_PACKS_MAX)? {
        let pack = PackName(reader.array()?);
        if packs.last().is_some_and(|last| last.0 >= pack.0) {
            return Err(reader.damaged("its packs are not in order"));
        }
        packs.push(pack);
    }
    reader.finish()?;
    Ok(packs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RepositoryId;
    use crate::seal::{Key, Suite};

    fn keys() -> Keys {
        Keys::derive(&Key::new([3; 32]), RepositoryId([1; 16]), Suite::XChaCha20Poly1305)
    }

    #[test]
    fn a_list_reads_back_as_what_it_is_and_under_its_own_session_only() {
        let (session, packs) = (SessionId([4; 16]), vec![PackName([1; 32]), PackName([2; 32])]);
        let bytes = Sentence::Condemned.encode(&keys(), session, &packs).unwrap();
        assert_eq!(Sentence::Condemned.decode(&keys(), session, &bytes).unwrap(), packs);
        assert!(Sentence::Condemned.decode(&keys(), SessionId([5; 16]), &bytes).is_err());
        assert!(Sentence::Verdict.decode(&keys(), session, &bytes).is_err());
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Sentence::Condemned.decode(&keys(), session, &bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn the_longest_list_can_be_stored_and_a_longer_or_unordered_one_is_refused() {
        let names = |count: u32| -> Vec<PackName> {
            let name = |number: u32| {
                let mut name = *blake3::hash(&number.to_le_bytes()).as_bytes();
                name[..4].copy_from_slice(&number.to_be_bytes());
                PackName(name)
            };
            (0..count).map(name).collect()
        };
        let encode = |packs: &[PackName]| Sentence::Verdict.encode(&keys(), SessionId([4; 16]), packs);
        let longest = encode(&names(LISTED_PACKS_MAX)).unwrap();
        assert!(longest.len() <= ObjectKind::Verdict.bytes_max() as usize, "{} bytes", longest.len());
        assert!(encode(&names(LISTED_PACKS_MAX + 1)).is_err());
        assert!(encode(&[PackName([2; 32]), PackName([1; 32])]).is_err());
        assert!(encode(&[PackName([2; 32]), PackName([2; 32])]).is_err());
    }
}
