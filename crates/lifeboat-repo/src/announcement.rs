//! How a session tells collectors that it is at work: its intents.
//!
//! Must stay true: from the beginning of a session to its end, every listing shows an intent of it. Therefore the first
//! one stays, and only later ones take each other's place: a listing during an exchange may show neither of the two.
//!
//! Read next: `docs/format/session.md#intents`.

use crate::error::{Error, Result};
use lifeboat_format::intent::Intent;
use lifeboat_format::keys::Keys;
use lifeboat_format::{ChunkId, HostId, ObjectKey, SessionId};
use lifeboat_store::Store;
use std::time::{Duration, Instant};

/// How often an intent's counter goes up while the session makes progress.
const INTERVAL: Duration = Duration::from_secs(60);

/// A session's latest intent.
pub(crate) struct Announcement {
    intent: Intent,
    written: Instant,
}

impl Announcement {
    /// Announces a new session.
    pub(crate) fn begin(store: &dyn Store, keys: &Keys, host: HostId, parents: Vec<ChunkId>) -> Result<Self> {
        let intent = Intent { session: SessionId::random(), counter: 0, host, parents };
        let announcement = Self { intent, written: Instant::now() };
        announcement.put(store, keys)?;
        Ok(announcement)
    }

    /// Whose it is.
    pub(crate) fn session(&self) -> SessionId {
        self.intent.session
    }

    /// Moves the counter, unless that was done a moment ago.
    pub(crate) fn progress(&mut self, store: &dyn Store, keys: &Keys) -> Result<()> {
        if self.written.elapsed() < INTERVAL {
            return Ok(());
        }
        let old = (self.intent.counter > 0).then(|| self.intent.key());
        self.intent.counter += 1;
        self.put(store, keys)?;
        if let Some(old) = old {
            store.delete(&old).map_err(Error::store("an old announcement cannot be deleted"))?;
        }
        self.written = Instant::now();
        Ok(())
    }

    fn put(&self, store: &dyn Store, keys: &Keys) -> Result<()> {
        store
            .put(&self.intent.key(), &self.intent.encode(keys))
            .map_err(Error::store("the session cannot be announced"))
    }

    /// What is stored of it, to be deleted when the session is over; the first intent last.
    pub(crate) fn keys(&self) -> Vec<ObjectKey> {
        let first = Intent { counter: 0, ..self.intent.clone() }.key();
        if self.intent.counter == 0 { vec![first] } else { vec![self.intent.key(), first] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::keys;
    use lifeboat_format::ObjectKind;
    use lifeboat_store::MemoryStore;

    fn counters(store: &MemoryStore) -> Vec<u32> {
        let listed = store.list(ObjectKind::Intent).unwrap();
        listed.iter().map(|listed| Intent::parse_key(&listed.key).unwrap().1).collect()
    }

    #[test]
    fn the_first_intent_stays_while_later_ones_take_each_others_place() {
        let (store, keys) = (MemoryStore::new(), keys());
        let mut announcement = Announcement::begin(&store, &keys, HostId([1; 16]), vec![]).unwrap();
        announcement.progress(&store, &keys).unwrap();
        assert_eq!(counters(&store), [0], "no time has passed");
        for counter in 1..4 {
            announcement.written = Instant::now().checked_sub(INTERVAL).unwrap();
            announcement.progress(&store, &keys).unwrap();
            assert_eq!(counters(&store), [0, counter]);
        }
        assert_eq!(*announcement.keys().last().unwrap(), store.list(ObjectKind::Intent).unwrap()[0].key);
        store.delete_many(&announcement.keys()).unwrap();
        assert_eq!(counters(&store), [0; 0]);
    }
}
