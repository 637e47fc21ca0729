//! Reads chunks: finds the region, opens it once, and checks the chunk's name.
//!
//! Must stay true: bytes leave this module only after the seal held and the chunk's id was recomputed. Memory is
//! [`CACHE_BYTES`] of opened regions, and one more per reading thread.

use crate::cursor::NodeSource;
use crate::error::{Error, ErrorKind, Result};
use crate::lookup::{Found, Lookup};
use crate::repository::Repository;
use lifeboat_format::keys::{Envelope, SessionKey};
use lifeboat_format::region::{ChunkKind, RegionOpener};
use lifeboat_format::{ChunkId, EnvelopeId, ObjectKey, ObjectKind, PackName};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often the index is brought up to date because a chunk is missing.
const REFRESH_INTERVAL: Duration = Duration::from_secs(10);
/// But so often at once: collections may follow each other.
const REFRESHES_AT_ONCE: u32 = 8;

/// Opened regions that are kept: about 16 of them.
pub const CACHE_BYTES: usize = 32 << 20;
/// Buffers of regions that were let go of, for the next ones. Allocated and freed by threads in turn, buffers of this size leave
/// holes: restoring a file of 12 GB took 186 MiB so.
const SPARE_MAX: usize = 4;

/// Reads chunks of one repository; shared by threads.
pub struct ChunkReader {
    repository: Repository,
    cache: Mutex<Cache>,
    sessions: Mutex<HashMap<EnvelopeId, Arc<SessionKey>>>,
    /// With a buffer for what is stored.
    openers: Mutex<Vec<(RegionOpener, Vec<u8>)>>,
    regions_read: AtomicU64,
    bytes_read: AtomicU64,
    refreshed: Mutex<Refreshed>,
}

/// How the index was brought up to date because something was missing.
#[derive(Default)]
struct Refreshed {
    /// When the last row of refreshes began, and how many it has.
    since: Option<(Instant, u32)>,
    is_rebuilt: bool,
}

/// Which region: its pack, and where it begins there.
type RegionKey = (PackName, u32);
/// Empty until the first thread that wants the region has read it; others wait for that.
type Slot = Arc<Mutex<Option<Arc<Vec<u8>>>>>;

#[derive(Default)]
struct Cache {
    slots: HashMap<RegionKey, (Slot, u64)>,
    clock: u64,
    bytes: usize,
    spare: Vec<Vec<u8>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ChunkReader {
    /// A reader with an empty cache.
    pub fn new(repository: &Repository) -> Self {
        Self {
            repository: repository.clone(),
            cache: Mutex::default(),
            sessions: Mutex::default(),
            openers: Mutex::default(),
            regions_read: AtomicU64::new(0),
            bytes_read: AtomicU64::new(0),
            refreshed: Mutex::default(),
        }
    }

    /// Regions fetched and opened so far.
    pub fn regions_read(&self) -> u64 {
        self.regions_read.load(Ordering::Relaxed)
    }

    /// Bytes of packs fetched so far.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    /// Whether `plain` has this name. Nothing is read.
    pub fn is_named(&self, kind: ChunkKind, id: &ChunkId, plain: &[u8]) -> bool {
        self.repository.keys().chunk_id(kind, plain) == *id
    }

    /// Numbers by which chunks of one region are equal, and regions of one pack are neighbours.
    pub fn places(&self, ids: &[ChunkId]) -> Result<Vec<u64>> {
        self.repository.lookup()?.order(ids)
    }

    /// Appends a chunk's plaintext to `output`.
    pub fn read_into(&self, kind: ChunkKind, id: &ChunkId, output: &mut Vec<u8>) -> Result<()> {
        let lookup = self.repository.lookup()?;
        match self.read_found(lookup, kind, id, output) {
            // A collection may have moved the chunk: look again before calling it damage.
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound) || matches!(error, Error::MissingChunk(_)) =>
            {
                let Some(named) = self.refresh(lookup, id)? else {
                    return Err(error);
                };
                self.read_found(lookup, kind, id, output).map_err(|error| named.unwrap_or(error))
            }
            result => result,
        }
    }

    /// Brings the index up to date, and once rebuilds it: a writer may have dropped a pack that is back since. Then the
    /// chunk may have a copy beside the one in a pack that is gone; if not, that pack is given as the cause.
    ///
    /// `None` when this was done a moment ago: a repository that lacks much must not be listed for every chunk.
    fn refresh(&self, lookup: &Lookup, id: &ChunkId) -> Result<Option<Option<Error>>> {
        let mut refreshed = lock(&self.refreshed);
        let row = refreshed.since.filter(|(since, _)| since.elapsed() < REFRESH_INTERVAL);
        let (since, count) = row.unwrap_or_else(|| (Instant::now(), 0));
        if count >= REFRESHES_AT_ONCE {
            return Ok(None);
        }
        refreshed.since = Some((since, count + 1));
        if refreshed.is_rebuilt {
            lookup.sync()?;
            return Ok(Some(None));
        }
        lookup.sync()?;
        if lookup.find(id)?.is_some_and(|found| !lookup.is_gone(&found.region.pack)) {
            return Ok(Some(None));
        }
        lookup.rebuild()?;
        refreshed.is_rebuilt = true;
        let named = missing_pack(lookup, id);
        lookup.drop_missing_packs()?;
        Ok(Some(named))
    }

    /// Reads a chunk from the place that comes first, or from another one where that cannot be read.
    fn read_found(&self, lookup: &Lookup, kind: ChunkKind, id: &ChunkId, output: &mut Vec<u8>) -> Result<()> {
        let found = lookup.find(id)?.ok_or(Error::MissingChunk(*id))?;
        let error = match self.read_at(&found, kind, id, output) {
            Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound) => error,
            result => return result,
        };
        let is_other =
            |copy: &Found| copy.region.pack != found.region.pack || copy.region.offset != found.region.offset;
        for copy in lookup.find_all(id)?.into_iter().filter(is_other) {
            if self.read_at(&copy, kind, id, output).is_ok() {
                return Ok(());
            }
        }
        Err(error)
    }

    fn read_at(&self, found: &Found, kind: ChunkKind, id: &ChunkId, output: &mut Vec<u8>) -> Result<()> {
        let region = self.region(found)?;
        let end = found.offset as usize + found.bytes as usize;
        let damaged = |detail: &str| Error::Damaged { what: format!("chunk {id}"), detail: detail.into() };
        let chunk =
            region.get(found.offset as usize..end).ok_or_else(|| damaged("its region is too short"))?;
        if !self.is_named(kind, id, chunk) {
            return Err(damaged("its bytes have another name"));
        }
        output.extend_from_slice(chunk);
        Ok(())
    }

    fn region(&self, found: &Found) -> Result<Arc<Vec<u8>>> {
        let key = (found.region.pack, found.region.offset);
        let slot = lock(&self.cache).slot(key);
        let mut guard = lock(&slot);
        if let Some(region) = &*guard {
            return Ok(region.clone());
        }
        let spare = lock(&self.cache).spare_for(found.region.head.plain_bytes as usize);
        let region = Arc::new(self.open_region_into(found, spare)?);
        *guard = Some(region.clone());
        drop(guard);
        lock(&self.cache).filled(region.capacity());
        Ok(region)
    }

    /// Fetches and opens a region, without the cache.
    pub(crate) fn open_region(&self, found: &Found) -> Result<Vec<u8>> {
        self.open_region_into(found, Vec::new())
    }

    /// The same in the place of what is in `plain`.
    fn open_region_into(&self, found: &Found, mut plain: Vec<u8>) -> Result<Vec<u8>> {
        let location = &found.region;
        let key = ObjectKey::new(ObjectKind::Pack, &location.pack.0);
        let new_opener = || (RegionOpener::new(self.repository.id()), Vec::new());
        let (mut opener, mut stored) = lock(&self.openers).pop().unwrap_or_else(new_opener);
        stored.resize(location.head.stored_bytes as usize, 0);
        self.repository
            .store()
            .get_range(&key, u64::from(location.offset), &mut stored)
            .map_err(Error::store(format!("{key} cannot be read")))?;
        self.bytes_read.fetch_add(stored.len() as u64, Ordering::Relaxed);
        let session = self.session_key(&location.envelope)?;
        plain.clear();
        let result = opener.open(&location.head, &session, &mut stored, &mut plain);
        lock(&self.openers).push((opener, stored));
        result.map_err(Error::format(format!("{key} is damaged at byte {}", location.offset)))?;
        self.regions_read.fetch_add(1, Ordering::Relaxed);
        Ok(plain)
    }

    pub(crate) fn session_key(&self, envelope: &Envelope) -> Result<Arc<SessionKey>> {
        if let Some(session) = lock(&self.sessions).get(&envelope.id) {
            return Ok(session.clone());
        }
        let session = self
            .repository
            .keys()
            .open_envelope(envelope)
            .map_err(Error::format("a session key cannot be taken from its envelope"))?;
        let session = Arc::new(session);
        lock(&self.sessions).insert(envelope.id, session.clone());
        Ok(session)
    }
}

fn missing_pack(lookup: &Lookup, id: &ChunkId) -> Option<Error> {
    let found = lookup.find(id).ok().flatten()?;
    Some(Error::MissingPack(found.region.pack))
}

impl Cache {
    fn slot(&mut self, key: RegionKey) -> Slot {
        self.clock += 1;
        let clock = self.clock;
        let entry = self.slots.entry(key).or_default();
        entry.1 = clock;
        entry.0.clone()
    }

    /// A buffer for a region of `bytes`, which a small one does not take from a large one.
    fn spare_for(&mut self, bytes: usize) -> Vec<u8> {
        self.spare.pop_if(|spare| spare.capacity() <= 2 * bytes).unwrap_or_default()
    }

    /// Accounts for a region that was just opened into a buffer of `bytes`, and lets go of the ones not used for longest.
    fn filled(&mut self, bytes: usize) {
        self.bytes += bytes;
        while self.bytes > CACHE_BYTES {
            let oldest = self
                .slots
                .iter()
                .filter_map(|(key, (slot, used))| {
                    // A region that is being read is not old.
                    let bytes = slot.try_lock().ok()?.as_ref().map(|region| region.capacity())?;
                    Some((*used, *key, bytes))
                })
                .min();
            let Some((_, key, bytes)) = oldest else { return };
            let removed = self.slots.remove(&key);
            self.bytes -= bytes;
            self.spare.extend(removed.and_then(|(slot, _)| unshared(slot)));
            self.spare.truncate(SPARE_MAX);
        }
        // Slots whose reading failed hold nothing and count nothing.
        if self.slots.len() > 1024 {
            self.slots.retain(|_, (slot, _)| slot.try_lock().is_ok_and(|region| region.is_some()));
        }
    }
}

/// The region in `slot`, if nobody else has it.
fn unshared(slot: Slot) -> Option<Vec<u8>> {
    let region = Arc::into_inner(slot)?.into_inner().unwrap_or_else(PoisonError::into_inner)?;
    Arc::into_inner(region)
}

impl NodeSource for ChunkReader {
    fn read_node(&self, kind: ChunkKind, id: &ChunkId) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.read_into(kind, id, &mut bytes)?;
        Ok(bytes)
    }
}
