//! Intents and fences: how sessions tell each other that they are at work, or over. `docs/format/session.md`

use crate::keys::Keys;
use crate::limits::{NAMES_MAX, SMALL_OBJECT_BYTES_MAX};
use crate::object::{ObjectKind, frame, unframe};
use crate::seal::Purpose;
use crate::wire::{Reader, Write};
use crate::{ChunkId, Error, HostId, ObjectKey, Result, SessionId};

/// A running session. Its name is the session and a counter; a later counter replaces an earlier one and shows progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// The session.
    pub session: SessionId,
    /// Counts up while the session makes progress.
    pub counter: u32,
    /// Whose session it is.
    pub host: HostId,
    /// Tree roots of the parents that it carries entries over from: pinned while it runs.
    pub parents: Vec<ChunkId>,
}

impl Intent {
    /// The object's key.
    pub fn key(&self) -> ObjectKey {
        let mut name = self.session.0.to_vec();
        name.extend_from_slice(&self.counter.to_be_bytes());
        ObjectKey::new(ObjectKind::Intent, &name)
    }

    /// The session and counter in an intent's key.
    pub fn parse_key(key: &ObjectKey) -> Option<(SessionId, u32)> {
        let (session, counter) = key.name().split_at_checked(16)?;
        Some((SessionId(session.try_into().ok()?), u32::from_be_bytes(counter.try_into().ok()?)))
    }

    /// The object's bytes.
    pub fn encode(&self, keys: &Keys) -> Vec<u8> {
        let mut plain = self.host.0.to_vec();
        plain.put_u32(self.counter);
        plain.put_varint(self.parents.len() as u64);
        self.parents.iter().for_each(|root| plain.extend_from_slice(&root.0));
        frame(ObjectKind::Intent, &keys.seal_index(Purpose::Intent, self.session.0, &plain))
    }

    /// Reads the intent that is stored under `key`; storage cannot rename it to feign progress.
    pub fn decode_stored(keys: &Keys, key: &ObjectKey, bytes: &[u8]) -> Result<Self> {
        let damaged = |detail| Error::damaged("intent", detail);
        let (session, counter) = Self::parse_key(key).ok_or_else(|| damaged("its name is no intent's"))?;
        let intent = Self::decode(keys, session, bytes)?;
        if intent.counter == counter {
            Ok(intent)
        } else {
            Err(damaged("its counter is not the one in its name"))
        }
    }

    /// Reads the intent of `session`, whatever its counter.
    pub fn decode(keys: &Keys, session: SessionId, bytes: &[u8]) -> Result<Self> {
        let sealed = unframe(ObjectKind::Intent, bytes)?;
        let plain = keys.open_index(Purpose::Intent, session.0, sealed, SMALL_OBJECT_BYTES_MAX)?;
        let mut reader = Reader::new(&plain, "intent");
        let host = HostId(reader.array()?);
        let counter = reader.u32()?;
        let mut parents = Vec::new();
        for _ in 0..reader.varint_max(NAMES_MAX)? {
            parents.push(ChunkId(reader.array()?));
        }
        reader.finish()?;
        Ok(Self { session, counter, host, parents })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RepositoryId;
    use crate::seal::{Key, Suite};

    #[test]
    fn an_intent_reads_back_under_its_own_session_only() {
        let keys = Keys::derive(&Key::new([3; 32]), RepositoryId([1; 16]), Suite::XChaCha20Poly1305);
        let intent = Intent {
            session: SessionId([4; 16]),
            counter: 7,
            host: HostId([5; 16]),
            parents: vec![ChunkId([6; ChunkId::BYTES])],
        };
        let bytes = intent.encode(&keys);
        assert_eq!(Intent::decode_stored(&keys, &intent.key(), &bytes).unwrap(), intent);
        assert!(Intent::decode(&keys, SessionId([0; 16]), &bytes).is_err());
        let later = Intent { counter: 8, ..intent.clone() };
        assert!(Intent::decode_stored(&keys, &later.key(), &bytes).is_err());
        assert_eq!(Intent::parse_key(&intent.key()), Some((intent.session, 7)));
    }
}
