//! The index: where chunks, regions and packs are.
//!
//! Must stay true: who looks up holds the state's lock while it reads the database, and who changes something holds it
//! while tables and state are exchanged. Otherwise an entry could be compared with live packs of another moment, and a
//! chunk that moved from a dying pack to its duplicate would be missed in between.

use crate::database::{Census, Database, SharedCensus};
use crate::live::LiveSet;
use crate::open::{Home, Opening};
use crate::record::{
    ChunkLocation, Entry, OBJECT, ObjectRecord, ObjectStage, PackNumber, RegionRecord, StateRecord,
    chunk_key, decode_envelope, duplicate_prefix, envelope_key, pack_key, region_key,
};
use crate::{Error, ErrorKind, Result};
use lifeboat_format::keys::Envelope;
use lifeboat_format::region::RegionHead;
use lifeboat_format::{ChunkId, EnvelopeId, IndexName, PackName, RepositoryId};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

/// Keys that are looked up in one go; bounds memory, far above what batching gains from.
pub(crate) const BATCH_KEYS: usize = 1024;
/// Envelopes and pack names that are remembered, so that reading a region costs one look-up.
const RECENT_MAX: usize = 256;

/// A cache of which chunk lies where.
///
/// # Guarantees
/// Answers are those of the index objects that were applied and not retired, or there is an error. What
/// [`Self::apply`] and [`Self::retire`] did is durable when they return, unless this instance spills.
///
/// # Cost
/// Memory as stated in the crate's documentation. A look-up reads at most two blocks of 4 KiB that are not cached; a
/// chunk that is absent usually none.
pub struct Index {
    // In the order of dropping: databases are closed before their folders and locks go.
    pub(crate) base: Option<Database>,
    pub(crate) top: Database,
    pub(crate) home: Home,
    pub(crate) repository: RepositoryId,
    pub(crate) state: RwLock<State>,
    pub(crate) changing: Mutex<Changing>,
    pub(crate) census: SharedCensus,
    pub(crate) opening: Opening,
    pub(crate) rebuilt: bool,
    pub(crate) not_writer_because: Option<Error>,
    pub(crate) recent: Mutex<Recent>,
    pub(crate) bounds: Bounds,
}

/// How much one change takes in. More is done in several, each of which leaves the cache consistent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Chunks that are applied together: what an interruption may cost, and the size of a temporary file.
    pub(crate) chunks: u64,
    /// Packs, objects or envelopes that are held in memory until they are written, about 16 MiB.
    pub(crate) packs: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { chunks: 1 << 26, packs: 1 << 16 }
    }
}

/// What is held in memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub(crate) live: LiveSet,
    pub(crate) next_pack: u32,
    pub(crate) next_object: u32,
    /// Chunks that live packs list, each as often as it is listed.
    pub(crate) chunks: u64,
    /// Whether `top` has entries of chunks; a spill usually has none.
    pub(crate) top_has_chunks: bool,
}

impl State {
    pub(crate) fn record(&self, repository: RepositoryId) -> StateRecord {
        let Self { next_pack, next_object, chunks, .. } = *self;
        StateRecord { repository, next_pack, next_object, chunks }
    }
}

/// The right to change: one change at a time.
#[derive(Debug, Default)]
pub(crate) struct Changing {
    /// How an earlier change failed where it cannot be known whether it took place.
    pub(crate) failed: Option<ErrorKind>,
}

#[derive(Default)]
pub(crate) struct Recent {
    envelopes: HashMap<EnvelopeId, Arc<Envelope>>,
    packs: HashMap<u32, PackName>,
}

/// Where a region's bytes lie, and what opening them takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionLocation {
    /// In which pack.
    pub pack: PackName,
    /// Where in the pack it begins; `head.stored_bytes` is how long it is.
    pub offset: u32,
    /// How it is sealed.
    pub head: RegionHead,
    /// The key that it is sealed with.
    pub envelope: Arc<Envelope>,
}

/// How much is in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Live packs.
    pub packs: u64,
    /// Chunks that live packs list; one with several copies counts several times.
    pub chunks_estimate: u64,
    /// Bytes of the database on disk.
    pub bytes_on_disk: u64,
}

impl Index {
    /// How this instance works.
    pub fn opening(&self) -> Opening {
        self.opening
    }

    /// Whether there was a cache that could not be trusted and was thrown away.
    pub fn rebuilt(&self) -> bool {
        self.rebuilt
    }

    /// Why this instance spills instead of writing: another process does, the disk is full, it is read-only.
    pub fn not_writer_because(&self) -> Option<&Error> {
        self.not_writer_because.as_ref()
    }

    /// The index objects whose content is in here.
    pub fn covered(&self) -> Result<BTreeSet<IndexName>> {
        Ok(self.objects(ObjectStage::Covered)?.into_keys().collect())
    }

    /// Where chunks lie, in the order in which they are asked for. `None`: no live pack holds the chunk.
    pub fn locate(&self, ids: &[ChunkId]) -> Result<Vec<Option<ChunkLocation>>> {
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_unstable_by_key(|index| &ids[*index]);
        let sorted: Vec<ChunkId> = order.iter().map(|index| ids[*index]).collect();
        let state = self.state();
        let mut found = vec![None; ids.len()];
        for (order, ids) in order.chunks(BATCH_KEYS).zip(sorted.chunks(BATCH_KEYS)) {
            for (index, location) in order.iter().zip(self.resolve(&state, ids)?) {
                found[*index] = location;
            }
        }
        Ok(found)
    }

    /// Where one chunk lies. Ask for many at once where possible: [`Self::locate`] is several times faster a chunk.
    pub fn locate_one(&self, id: &ChunkId) -> Result<Option<ChunkLocation>> {
        Ok(self.resolve(&self.state(), &[*id])?.pop().flatten())
    }

    /// All places where a chunk lies in live packs: for who may not use every one of them.
    pub fn copies(&self, id: &ChunkId) -> Result<Vec<ChunkLocation>> {
        let state = self.state();
        let mut copies = Vec::new();
        for database in self.layers() {
            let wrong = || database.corrupt("the record of a copy has another length");
            let mut add = |location: Option<ChunkLocation>| {
                let location = location.ok_or_else(wrong)?;
                if state.live.contains(location.pack.0) && !copies.contains(&location) {
                    copies.push(location);
                }
                Ok(())
            };
            if let Some(value) = database.get(&chunk_key(id))? {
                add(ChunkLocation::decode(&value))?;
            }
            database.scan_few(&duplicate_prefix(id), &mut |key, value| {
                add(Entry::from_duplicate(key, value).and_then(|entry| entry.location()))
            })?;
        }
        Ok(copies)
    }

    /// The name of a live pack. `None`: it was retired since something was located in it.
    pub fn name_of(&self, pack: PackNumber) -> Result<Option<PackName>> {
        let state = self.state();
        state.live.contains(pack.0).then(|| self.pack_name(pack)).transpose()
    }

    /// Where a region lies. `None`: its pack was retired since it was located.
    pub fn region(&self, pack: PackNumber, region: u16) -> Result<Option<RegionLocation>> {
        let state = self.state();
        if !state.live.contains(pack.0) {
            return Ok(None);
        }
        let Some(bytes) = self.look_up(&region_key(pack.0, region))? else {
            return Err(self.corrupt(format!("it has no region {region} of pack {}", pack.0)));
        };
        let record = RegionRecord::decode(&bytes).map_err(|error| self.corrupt(error.to_string()))?;
        let name = self.pack_name(pack)?;
        let envelope = self.envelope(&record.envelope)?;
        Ok(Some(RegionLocation { pack: name, offset: record.offset, head: record.head, envelope }))
    }

    /// How much is in here.
    pub fn counts(&self) -> Result<Counts> {
        let state = self.state();
        let mut bytes_on_disk = self.top.bytes()?;
        if let Some(base) = &self.base {
            bytes_on_disk += base.bytes()?;
        }
        Ok(Counts { packs: state.live.count(), chunks_estimate: state.chunks, bytes_on_disk })
    }

    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        // Nobody panics halfway through changing the state: it is exchanged as a whole.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Databases to ask, the one that overrides first.
    pub(crate) fn layers(&self) -> impl Iterator<Item = &Database> {
        std::iter::once(&self.top).chain(&self.base)
    }

    pub(crate) fn corrupt(&self, detail: impl Into<String>) -> Error {
        self.base.as_ref().unwrap_or(&self.top).corrupt(detail)
    }

    /// Where chunks lie according to `state`; `ids` must ascend.
    pub(crate) fn resolve(&self, state: &State, ids: &[ChunkId]) -> Result<Vec<Option<ChunkLocation>>> {
        let mut found = vec![None; ids.len()];
        for (layer, database) in self.layers().enumerate() {
            if layer == 0 && !state.top_has_chunks {
                continue;
            }
            let missing: Vec<usize> = (0..ids.len()).filter(|index| found[*index].is_none()).collect();
            let keys: Vec<_> = missing.iter().map(|index| chunk_key(&ids[*index])).collect();
            database.get_many(&keys, &mut |index, value| {
                let location = ChunkLocation::decode(value)
                    .ok_or_else(|| database.corrupt("the entry of a chunk has another length"))?;
                if state.live.contains(location.pack.0) {
                    found[missing[index]] = Some(location);
                }
                Ok(())
            })?;
        }
        Ok(found)
    }

    pub(crate) fn look_up(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        for database in self.layers() {
            if let Some(value) = database.get(key)? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// The values of `keys`, in their order, whatever it is.
    pub(crate) fn look_up_many<K: AsRef<[u8]> + Ord + Clone>(
        &self,
        keys: &[K],
    ) -> Result<Vec<Option<Vec<u8>>>> {
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_unstable_by_key(|index| &keys[*index]);
        let mut values = vec![None; keys.len()];
        for order in order.chunks(BATCH_KEYS) {
            for database in self.layers() {
                let missing: Vec<usize> =
                    order.iter().copied().filter(|index| values[*index].is_none()).collect();
                let keys: Vec<&[u8]> = missing.iter().map(|index| keys[*index].as_ref()).collect();
                database.get_many(&keys, &mut |index, value| {
                    values[missing[index]] = Some(value.to_vec());
                    Ok(())
                })?;
            }
        }
        Ok(values)
    }

    /// The index objects in a stage.
    pub(crate) fn objects(&self, stage: ObjectStage) -> Result<BTreeMap<IndexName, ObjectRecord>> {
        let mut objects = Vec::new();
        for database in self.base.iter().chain([&self.top]) {
            database.scan(OBJECT, &mut |key, value| {
                let name = key.get(1..).and_then(|name| name.try_into().ok()).map(IndexName);
                let record = ObjectRecord::decode(value).ok();
                let (Some(name), Some(record)) = (name, record) else {
                    return Err(database.corrupt("the record of an index object is damaged"));
                };
                objects.push((name, record));
                Ok(())
            })?;
        }
        keep_latest(&mut objects);
        Ok(objects.into_iter().filter(|(_, record)| record.stage == stage).collect())
    }

    pub(crate) fn decode_number(&self, bytes: &[u8]) -> Result<u32> {
        let bytes = bytes.try_into().map_err(|_| self.corrupt("the number of a pack has another length"))?;
        Ok(u32::from_be_bytes(bytes))
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pack_name(&self, pack: PackNumber) -> Result<PackName> {
        if let Some(name) = self.recent().packs.get(&pack.0) {
            return Ok(*name);
        }
        let (_, record) = self.decode_pack(pack.0, self.look_up(&pack_key(pack.0))?)?;
        let mut recent = self.recent();
        if recent.packs.len() >= RECENT_MAX {
            recent.packs.clear();
        }
        recent.packs.insert(pack.0, record.name);
        Ok(record.name)
    }

    fn envelope(&self, id: &EnvelopeId) -> Result<Arc<Envelope>> {
        if let Some(envelope) = self.recent().envelopes.get(id) {
            return Ok(Arc::clone(envelope));
        }
        let bytes = self.look_up(&envelope_key(id))?;
        let bytes = bytes.ok_or_else(|| self.corrupt(format!("it has no envelope {id}")))?;
        let envelope = Arc::new(decode_envelope(&bytes).map_err(|error| self.corrupt(error.to_string()))?);
        let mut recent = self.recent();
        if recent.envelopes.len() >= RECENT_MAX {
            recent.envelopes.clear();
        }
        recent.envelopes.insert(*id, Arc::clone(&envelope));
        Ok(envelope)
    }

    /// The right to change, unless an earlier change failed halfway.
    pub(crate) fn begin_change(&self) -> Result<MutexGuard<'_, Changing>> {
        let changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        match changing.failed {
            None => Ok(changing),
            Some(kind) => Err(Error::Stopped { directory: self.top.directory().to_path_buf(), kind }),
        }
    }

    /// Takes in the tables of a change together with the state that goes with them.
    pub(crate) fn commit(&self, changing: &mut Changing, tables: Vec<PathBuf>, state: State) -> Result<()> {
        let census = Arc::new(Census { live: state.live.clone(), end: state.next_pack });
        let mut current = self.state.write().unwrap_or_else(PoisonError::into_inner);
        // After a failure in here it is RocksDB's next opening that decides whether the change took place.
        self.top.ingest(tables).inspect_err(|error| changing.failed = Some(error.kind()))?;
        *current = state;
        drop(current);
        *self.census.lock().unwrap_or_else(PoisonError::into_inner) = census;
        Ok(())
    }
}

/// Sorts records by key; of those of one key the last counts: what a reader wrote over its base comes after it. Each layer
/// was read in order, so this is mostly a look at them.
pub(crate) fn keep_latest<K: Ord, R>(records: &mut Vec<(K, R)>) {
    records.sort_by(|one, other| one.0.cmp(&other.0));
    records.dedup_by(|later, kept| {
        let is_same = later.0 == kept.0;
        if is_same {
            std::mem::swap(later, kept);
        }
        is_same
    });
}
