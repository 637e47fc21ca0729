//! A session: one run of a writer, from its intent to its snapshot.
//!
//! Must stay true: the order is packs, index objects, draft, fence check, snapshot, each durable before the next. Chunks
//! that this session wrote count as present for it at once; for everybody else when an index object names them.
//!
//! Read next: `docs/format/session.md`, [`crate::sink`].

use crate::announcement::Announcement;
use crate::claimed::Claimed;
use crate::collect::Condemned;
use crate::error::{Error, ErrorKind, Result};
use crate::lookup::stored_packs;
use crate::packer::OpenPack;
use crate::repository::Repository;
use crate::sink::PlainRegion;
use lifeboat_format::index::{IndexObject, IndexedPack};
use lifeboat_format::keys::{Keys, SessionKey};
use lifeboat_format::region::{ChunkKind, Region};
use lifeboat_format::snapshot::Snapshot;
use lifeboat_format::{ChunkId, HostId, IndexName, ObjectKey, ObjectKind, SessionId};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// An index object is written after so many new chunks: until then they are remembered in memory, 40 bytes each.
const CHUNKS_PER_INDEX: usize = 64 << 10;
/// And after so much time at the latest: a run that is killed loses no more than that.
const INDEX_INTERVAL: Duration = Duration::from_secs(60);
/// Packs that wait for their fsync; more would only move the wait.
const FINISHING_PACKS: usize = 2;
/// A region of trees or lists that takes less than this part of a full one lies beside the data: a session that stores little
/// writes one pack, which costs a store half the calls, and every later session half the looking.
const BESIDE_DATA_DIVISOR: u32 = 8;
/// Empty region buffers that are kept for reuse.
const SPARE_REGIONS: usize = 8;

/// What a session may be told.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// zstd level; 0 stores everything raw.
    pub compression_level: i32,
    /// Whose session it is.
    pub host: HostId,
}

/// Counts of what a session stored.
#[derive(Debug, Default)]
pub struct Stored {
    /// New chunks, by kind: data, tree, list.
    pub chunks: [AtomicU64; 3],
    /// Their plaintext bytes.
    pub plain_bytes: AtomicU64,
    /// Their bytes in packs.
    pub stored_bytes: AtomicU64,
}

/// A running session.
pub struct Session {
    repository: Repository,
    id: SessionId,
    key: SessionKey,
    options: SessionOptions,
    claimed: Claimed,
    /// Data packs, with trees in small regions, and tree packs.
    packs: [Mutex<Option<OpenPack>>; 2],
    finisher: Mutex<Option<Finisher>>,
    failure: Mutex<Option<Error>>,
    /// Whether a pack was lost. Never reset.
    torn: AtomicBool,
    unindexed: Mutex<Unindexed>,
    spare: Mutex<Vec<PlainRegion>>,
    announcement: Mutex<Announcement>,
    /// What collections wanted to delete when this session began.
    condemned: Condemned,
    /// What was stored so far.
    pub stored: Stored,
}

/// Packs that no index object names yet.
struct Unindexed {
    packs: Vec<IndexedPack>,
    since: Instant,
}

impl Unindexed {
    fn new() -> Self {
        Self { packs: Vec::new(), since: Instant::now() }
    }

    fn is_due(&self) -> bool {
        let chunks: usize = self.packs.iter().map(|pack| pack.ids.len()).sum();
        chunks >= CHUNKS_PER_INDEX || self.since.elapsed() >= INDEX_INTERVAL
    }

    fn take(&mut self) -> Vec<IndexedPack> {
        std::mem::replace(self, Self::new()).packs
    }
}

struct Finisher {
    packs: SyncSender<OpenPack>,
    thread: JoinHandle<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panicking worker takes the session down anyway; its lock must not hide the first panic behind others.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    /// Announces a session that will carry over entries from `parents`, and brings the index up to date.
    pub fn begin(
        repository: &Repository,
        options: SessionOptions,
        parents: Vec<ChunkId>,
    ) -> Result<Arc<Self>> {
        repository
            .config()
            .check_writable()
            .map_err(Error::format("this repository cannot be written to"))?;
        let announcement = Announcement::begin(repository.store(), repository.keys(), options.host, parents)?;
        // The order matters: what a collection removes is out of the index before it is off its list.
        let condemned = match Condemned::read(repository) {
            Ok(condemned) => condemned,
            Err(error) => {
                let _ = repository.store().delete_many(&announcement.keys());
                return Err(error);
            }
        };
        // Each pack may be looked at before the index is read or after it, but not before the condemned lists.
        let (lookup, packs) = std::thread::scope(|scope| {
            let packs = scope.spawn(|| stored_packs(repository.store()));
            (repository.synced_lookup(), packs.join().expect("listing does not panic"))
        });
        lookup?.drop_packs_missing_in(&packs?)?;
        let key = repository.keys().new_session();
        let session = Arc::new(Self {
            repository: repository.clone(),
            id: announcement.session(),
            key,
            options,
            claimed: Claimed::default(),
            packs: Default::default(),
            finisher: Mutex::default(),
            failure: Mutex::default(),
            torn: AtomicBool::new(false),
            unindexed: Mutex::new(Unindexed::new()),
            spare: Mutex::default(),
            announcement: Mutex::new(announcement),
            condemned,
            stored: Stored::default(),
        });
        *lock(&session.finisher) = Some(session.start_finisher());
        Ok(session)
    }

    /// The session's id, which becomes the snapshot object's name.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    pub(crate) fn keys(&self) -> &Keys {
        self.repository.keys()
    }

    pub(crate) fn key(&self) -> &SessionKey {
        &self.key
    }

    /// Bytes that this session packed so far.
    pub(crate) fn packed_bytes(&self) -> u64 {
        self.stored.stored_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn compression_level(&self) -> i32 {
        self.options.compression_level
    }

    pub(crate) fn region_bytes(&self) -> usize {
        self.repository.config().parameters.region_bytes as usize
    }

    /// For each chunk, whether the caller must store it: nobody has it, and nobody else was told so.
    pub(crate) fn claim(&self, ids: &[ChunkId]) -> Result<Vec<bool>> {
        let mut is_new: Vec<bool> = ids.iter().map(|id| !self.claimed.has(id)).collect();
        let asked: Vec<ChunkId> =
            ids.iter().zip(&is_new).filter(|(_, is_new)| **is_new).map(|(id, _)| *id).collect();
        if asked.is_empty() {
            return Ok(is_new);
        }
        let mut present = self.has(&asked)?.into_iter();
        for (id, is_new) in ids.iter().zip(&mut is_new).filter(|(_, is_new)| **is_new) {
            let present = present.next().expect("the index answers for every id");
            *is_new = !present && self.claimed.claim(id);
        }
        Ok(is_new)
    }

    /// Whether each chunk can be relied on without being stored by this session.
    pub fn has(&self, ids: &[ChunkId]) -> Result<Vec<bool>> {
        let lookup = self.repository.lookup()?;
        if self.condemned.is_empty() {
            return lookup.contains(ids);
        }
        lookup.contains_in(ids, |pack| !self.condemned.contains(pack))
    }

    /// Whether entries of a parent that is still listed may be carried over without asking for their chunks. Beside a
    /// condemned list they may not: nobody waits for this session any more, and the parent may be forgotten meanwhile.
    pub fn may_pin(&self) -> bool {
        !self.condemned.is_list_there()
    }

    pub(crate) fn spare_region(&self) -> PlainRegion {
        lock(&self.spare).pop().unwrap_or_default()
    }

    pub(crate) fn recycle(&self, region: PlainRegion) {
        let mut spare = lock(&self.spare);
        if spare.len() < SPARE_REGIONS {
            spare.push(region);
        }
    }

    /// Puts a sealed region into the open pack of its sort.
    pub(crate) fn append(&self, region: Region, ids: &[ChunkId], stored: &[u8]) -> Result<()> {
        self.check_failure()?;
        let kind = region.head.kind;
        self.stored.chunks[kind as usize - 1].fetch_add(ids.len() as u64, Ordering::Relaxed);
        self.stored.plain_bytes.fetch_add(u64::from(region.head.plain_bytes), Ordering::Relaxed);
        self.stored.stored_bytes.fetch_add(stored.len() as u64, Ordering::Relaxed);
        let parameters = &self.repository.config().parameters;
        let is_beside_data = kind == ChunkKind::Data
            || region.head.stored_bytes < parameters.region_bytes / BESIDE_DATA_DIVISOR;
        let mut slot = lock(&self.packs[usize::from(!is_beside_data)]);
        let full =
            slot.take_if(|pack| !pack.fits(region.head.stored_bytes, ids.len(), parameters.pack_bytes));
        let pack = match &mut *slot {
            Some(pack) => pack,
            None => match OpenPack::begin(self.repository.store(), self.key.envelope()) {
                Ok(pack) => slot.insert(pack),
                Err(error) => {
                    self.tear();
                    return Err(error);
                }
            },
        };
        if let Err(error) = pack.append(region, ids, stored) {
            // What the pack held is lost with it: the session can never commit, and nobody appends to a torn pack.
            slot.take();
            self.tear();
            return Err(error);
        }
        drop(slot);
        match full {
            Some(full) => self.finish_in_background(full),
            None => Ok(()),
        }
    }

    fn start_finisher(self: &Arc<Self>) -> Finisher {
        let (packs, queue) = sync_channel::<OpenPack>(FINISHING_PACKS);
        // Weak, or the thread would keep the session alive that waits for it.
        let session = Arc::downgrade(self);
        let thread = std::thread::spawn(move || {
            for pack in queue {
                let Some(session) = session.upgrade() else { break };
                if let Err(error) = session.finish_pack(pack, false) {
                    session.tear();
                    lock(&session.failure).get_or_insert(error);
                }
            }
        });
        Finisher { packs, thread }
    }

    fn finish_in_background(&self, pack: OpenPack) -> Result<()> {
        let sender = lock(&self.finisher).as_ref().map(|finisher| finisher.packs.clone());
        match sender {
            Some(sender) => sender.send(pack).map_err(|_| Error::Interrupted),
            None => self.finish_pack(pack, false),
        }
    }

    fn finish_pack(&self, pack: OpenPack, is_last: bool) -> Result<()> {
        let pack_bytes = self.repository.config().parameters.pack_bytes;
        let indexed = pack.finish(self.keys(), pack_bytes, is_last)?;
        let mut unindexed = lock(&self.unindexed);
        unindexed.packs.push(indexed);
        // The last ones are named together, by who waits for them.
        if !is_last && unindexed.is_due() {
            let packs = unindexed.take();
            drop(unindexed);
            self.write_index(packs)?;
        }
        self.show_progress()
    }

    /// Makes packs known: durable first, then in the local index, then forgotten here.
    fn write_index(&self, packs: Vec<IndexedPack>) -> Result<()> {
        let (name, object) = self.put_index(packs)?;
        self.hand_over(name, object)
    }

    fn put_index(&self, packs: Vec<IndexedPack>) -> Result<(IndexName, IndexObject)> {
        let object = IndexObject::new(packs);
        let (name, bytes) =
            object.encode(self.keys()).map_err(Error::format("an index object cannot be made"))?;
        let key = ObjectKey::new(ObjectKind::Index, &name.0);
        self.repository.store().put(&key, &bytes).map_err(Error::store(format!("{key} cannot be stored")))?;
        Ok((name, object))
    }

    fn hand_over(&self, name: IndexName, object: IndexObject) -> Result<()> {
        let ids: Vec<ChunkId> = object.packs.iter().flat_map(|pack| pack.ids.iter().copied()).collect();
        // Where the local index cannot take them, they stay in memory: a full cache disk never fails a backup.
        if self.repository.lookup()?.add(name, object)? {
            ids.iter().for_each(|id| self.claimed.forget(id));
        }
        Ok(())
    }

    /// Moves the intent's counter, so that a collector sees that this session is alive.
    fn show_progress(&self) -> Result<()> {
        lock(&self.announcement).progress(self.repository.store(), self.keys())
    }

    /// Something that was claimed is lost: this session can never commit.
    pub(crate) fn tear(&self) {
        self.torn.store(true, Ordering::Relaxed);
    }

    fn check_failure(&self) -> Result<()> {
        match lock(&self.failure).take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Makes everything durable that was appended, and names it in the index.
    ///
    /// The caller has flushed its sinks. Afterwards the session can go on.
    pub fn settle(self: &Arc<Self>) -> Result<()> {
        if let Some((name, object)) = self.settle_store()? {
            self.hand_over(name, object)?;
        }
        Ok(())
    }

    /// [`Self::settle`] but for the local index, which lacks what is given back.
    fn settle_store(self: &Arc<Self>) -> Result<Option<(IndexName, IndexObject)>> {
        let finisher = lock(&self.finisher).take();
        if let Some(Finisher { packs, thread }) = finisher {
            drop(packs);
            thread.join().expect("the finisher does not panic");
        }
        self.check_failure()?;
        if self.torn.load(Ordering::Relaxed) {
            return Err(Error::Damaged {
                what: "this session".into(),
                detail: "an earlier write failed".into(),
            });
        }
        // Most of the time of a last pack is waiting for the disk: the two wait together.
        let last = self.packs.each_ref().map(|slot| lock(slot).take().filter(|pack| !pack.is_empty()));
        let finished = std::thread::scope(|scope| {
            last.map(|pack| pack.map(|pack| scope.spawn(|| self.finish_pack(pack, true))))
                .map(|thread| thread.map_or(Ok(()), |thread| thread.join().expect("no pack panics")))
        });
        for result in finished {
            result.inspect_err(|_| self.tear())?;
        }
        let packs = lock(&self.unindexed).take();
        let added = if packs.is_empty() { None } else { Some(self.put_index(packs)?) };
        *lock(&self.finisher) = Some(self.start_finisher());
        Ok(added)
    }

    /// Leaves an incomplete snapshot, which makes the next run cheap. Call [`Self::settle`] first.
    pub fn checkpoint(&self, snapshot: &Snapshot) -> Result<()> {
        let key = ObjectKey::new(ObjectKind::Checkpoint, &self.id.0);
        let bytes = snapshot
            .encode(ObjectKind::Checkpoint, self.keys(), self.id, &self.key)
            .map_err(Error::format("a checkpoint cannot be made"))?;
        let store = self.repository.store();
        // Replaced, not updated: objects never change. A crash between the two costs the checkpoint, nothing else.
        store.delete(&key).map_err(Error::store("the last checkpoint cannot be replaced"))?;
        store.put(&key, &bytes).map_err(Error::store("the checkpoint cannot be stored"))
    }

    /// Lists the snapshot: after this returns, power may go.
    ///
    /// # Errors
    /// [`Error::Fenced`] when a collector ended the session: start over, only what is missing is uploaded again.
    pub fn commit(self: &Arc<Self>, snapshot: &Snapshot) -> Result<()> {
        let Some((name, object)) = self.settle_store()? else {
            return self.list(snapshot);
        };
        // The local index takes its time, and nothing durable waits for it. If it fails, the next session reads the
        // object again: the snapshot is listed by then, and no failure of a cache may say otherwise.
        std::thread::scope(|scope| {
            scope.spawn(|| self.repository.lookup().and_then(|lookup| lookup.add(name, object)));
            self.list(snapshot)
        })
    }

    /// Everything that `snapshot` needs is durable and indexed: puts its draft, and lists it unless a collector objects.
    fn list(&self, snapshot: &Snapshot) -> Result<()> {
        let store = self.repository.store();
        let object = |kind| snapshot.encode(kind, self.keys(), self.id, &self.key);
        let draft = object(ObjectKind::Draft).map_err(Error::format("the snapshot cannot be made"))?;
        let listed = object(ObjectKind::Snapshot).map_err(Error::format("the snapshot cannot be made"))?;
        let key = |kind| ObjectKey::new(kind, &self.id.0);
        store.put(&key(ObjectKind::Draft), &draft).map_err(Error::store("the draft cannot be stored"))?;
        match store.bytes(&key(ObjectKind::Fence)).map_err(Error::store("the fence cannot be looked for")) {
            Ok(_) => {
                // The draft never becomes a snapshot; left behind, it would keep its packs for ever.
                self.clean_up(&[ObjectKind::Draft]);
                return Err(Error::Fenced);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        store
            .put(&key(ObjectKind::Snapshot), &listed)
            .map_err(Error::store("the snapshot cannot be listed"))?;
        if let Some(mut chains) = self.repository.chains() {
            chains.learn(std::iter::once(snapshot.head()));
        }
        self.clean_up(&[ObjectKind::Draft, ObjectKind::Checkpoint]);
        Ok(())
    }

    /// Removes what only a running session needs. A failure is no loss: a later session or collection does it again.
    fn clean_up(&self, kinds: &[ObjectKind]) {
        let mut keys: Vec<ObjectKey> = kinds.iter().map(|kind| ObjectKey::new(*kind, &self.id.0)).collect();
        // Last, so that no collector takes the session for ended while its draft is there.
        keys.extend(lock(&self.announcement).keys());
        let _ = self.repository.store().delete_many(&keys);
    }

    /// Ends a session that stores no snapshot; its packs stay for the next one.
    pub fn abandon(self: &Arc<Self>) {
        let finisher = lock(&self.finisher).take();
        if let Some(Finisher { packs, thread }) = finisher {
            drop(packs);
            let _ = thread.join();
        }
        // What is packed already makes the next run cheap, if it is named; failing at that is no further harm.
        let packs = lock(&self.unindexed).take();
        if !packs.is_empty() {
            let _ = self.write_index(packs);
        }
        self.clean_up(&[]);
    }
}
