//! Chunks that a session's threads store or have stored, and that the local index does not know yet.
//!
//! Must stay true: of all threads that claim a chunk, one is told to store it.

use lifeboat_format::ChunkId;
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

const SHARDS: usize = 16;

/// Names are keyed hashes: whoever does not hold the keys cannot choose them, so a part of one is as good as a hash of it.
#[derive(Default)]
struct Part(u64);

impl Hasher for Part {
    /// The second eight bytes: the first one has chosen the shard. What is shorter is the length that goes before.
    fn write(&mut self, bytes: &[u8]) {
        if let Some(part) = bytes.get(8..16).and_then(<[u8]>::first_chunk) {
            self.0 = u64::from_le_bytes(*part);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

type Ids = HashSet<ChunkId, BuildHasherDefault<Part>>;

/// A set that many threads share.
#[derive(Default)]
pub(crate) struct Claimed([Mutex<Ids>; SHARDS]);

impl Claimed {
    fn shard(&self, id: &ChunkId) -> MutexGuard<'_, Ids> {
        // A panicking worker takes the session down anyway; its lock must not hide the first panic behind others.
        self.0[usize::from(id.0[0]) % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody claimed it.
    pub(crate) fn has(&self, id: &ChunkId) -> bool {
        self.shard(id).contains(id)
    }

    /// Whether the caller is the first to claim it.
    pub(crate) fn claim(&self, id: &ChunkId) -> bool {
        self.shard(id).insert(*id)
    }

    /// The local index knows it now.
    pub(crate) fn forget(&self, id: &ChunkId) {
        self.shard(id).remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_claimed_once_and_anew_when_it_was_forgotten() {
        let claimed = Claimed::default();
        let name = |number: u32| {
            let mut id = ChunkId([0; ChunkId::BYTES]);
            blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut id.0);
            id
        };
        let ids: Vec<ChunkId> = (0..5_000).map(name).collect();
        assert!(ids.iter().all(|id| !claimed.has(id) && claimed.claim(id)));
        assert!(ids.iter().all(|id| claimed.has(id) && !claimed.claim(id)));
        claimed.forget(&ids[7]);
        assert!(!claimed.has(&ids[7]) && claimed.has(&ids[8]));
        assert!(claimed.claim(&ids[7]));
    }

    /// Names that differ only where nothing is looked at are told apart all the same.
    #[test]
    fn names_of_one_part_are_different_names() {
        let claimed = Claimed::default();
        let name = |last| {
            let mut id = [5; ChunkId::BYTES];
            id[ChunkId::BYTES - 1] = last;
            ChunkId(id)
        };
        assert!((0..=255).all(|last| claimed.claim(&name(last))));
    }
}
