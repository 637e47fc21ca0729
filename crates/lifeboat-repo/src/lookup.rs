//! The local index of one repository, kept in step with its index objects.
//!
//! Must stay true: the index is a cache. Whatever happens to it (deleted, corrupt, another repository's, its disk full)
//! costs time and is reported once; it never fails an operation that the repository itself allows.

use crate::error::{Error, Result};
use lifeboat_format::index::IndexObject;
use lifeboat_format::keys::Keys;
use lifeboat_format::{ChunkId, IndexName, ObjectKey, ObjectKind, PackName};
use lifeboat_index::{ErrorKind, Index, Options, RegionLocation};
use lifeboat_store::{Listed, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// How often the index objects are listed again because a collection replaced one of them meanwhile.
const LISTINGS_MAX: usize = 100;

/// Where a chunk lies.
#[derive(Debug, Clone)]
pub struct Found {
    /// The region that holds it.
    pub region: RegionLocation,
    /// Where it begins in the region's plaintext.
    pub offset: u32,
    /// Its length.
    pub bytes: u32,
}

/// The local index.
pub struct Lookup {
    store: Arc<dyn Store>,
    keys: Keys,
    /// `None` uses a throw-away index.
    directory: Option<PathBuf>,
    index: RwLock<Index>,
    notices: Mutex<Vec<String>>,
    /// Index objects that cannot be read: what they name counts as absent until they are repaired.
    damaged: Mutex<BTreeSet<IndexName>>,
    /// Whether packs or index objects are gone that were there before.
    incomplete: AtomicBool,
    /// Packs that a writer found missing: whatever an index object says of them is not believed.
    dropped: Mutex<BTreeSet<PackName>>,
    /// Whether somebody relies on the index and not on what reading finds: then it is compared with the packs.
    is_compared: AtomicBool,
}

impl Lookup {
    /// Opens the index in `directory`, or a throw-away one; it may be behind until [`Self::sync`].
    pub(crate) fn open(store: Arc<dyn Store>, keys: Keys, directory: Option<PathBuf>) -> Result<Self> {
        let mut notices = Vec::new();
        let index = open_index(&keys, directory.as_ref(), &mut notices)?;
        Ok(Self {
            store,
            keys,
            directory,
            index: RwLock::new(index),
            notices: Mutex::new(notices),
            damaged: Mutex::default(),
            incomplete: AtomicBool::new(false),
            dropped: Mutex::default(),
            is_compared: AtomicBool::new(false),
        })
    }

    /// What happened to the cache that the user may want to know; each is given once.
    pub fn take_notices(&self) -> Vec<String> {
        std::mem::take(&mut *self.notices.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn notice(&self, text: String) {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    /// Runs `operation` on the index. A corrupt index is rebuilt, one whose disk is full is replaced by a throw-away
    /// one elsewhere, and the operation is tried once more.
    fn with_index<T>(&self, operation: impl Fn(&Index) -> lifeboat_index::Result<T>) -> Result<T> {
        let failed = {
            let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
            match operation(&index) {
                Ok(value) => return Ok(value),
                Err(error) => error,
            }
        };
        self.replace_index(failed)?;
        operation(&self.index.read().unwrap_or_else(PoisonError::into_inner)).map_err(Error::Index)
    }

    /// Puts another index in the place of one that failed, and brings it up to date.
    fn replace_index(&self, failed: lifeboat_index::Error) -> Result<()> {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        let repository = self.keys.repository();
        let options = Options::default();
        // The old instance must let go of its lock before another can be opened in its place.
        *index = Index::open_temporary(&std::env::temp_dir(), repository, &options).map_err(Error::Index)?;
        match (&self.directory, failed.kind()) {
            (Some(directory), ErrorKind::Corrupt) => {
                self.notice(format!("the local index was damaged and is being rebuilt ({failed})"));
                // Where another process writes the cache, it is that process's to mend; ours is rebuilt beside it.
                if Index::discard(directory).is_ok() {
                    *index = open_index(&self.keys, Some(directory), &mut Vec::new())?;
                }
            }
            (Some(directory), ErrorKind::Full) => {
                self.notice(format!(
                    "the local index has no room; what is new is kept elsewhere for now ({failed})"
                ));
                if let Ok(spilling) = Index::open_spilling(directory, repository, &options) {
                    *index = spilling;
                }
            }
            _ => self.notice(format!(
                "the local index cannot be used; a temporary one takes its place ({failed})"
            )),
        }
        self.sync_index(&index)?;
        if self.is_compared.load(Ordering::Relaxed) {
            self.drop_missing_from(&index, &stored_packs(self.store.as_ref())?)
        } else {
            Ok(())
        }
    }

    /// Takes in what other writers stored since the last time, and drops what collections removed.
    pub fn sync(&self) -> Result<()> {
        let failed = {
            let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
            match self.sync_index(&index) {
                Err(Error::Index(error)) => error,
                result => return result,
            }
        };
        self.replace_index(failed)
    }

    /// Makes the index anew from the index objects.
    pub(crate) fn rebuild(&self) -> Result<()> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let covered: Vec<IndexName> = index.covered().map_err(Error::Index)?.into_iter().collect();
        if index.retire(&covered).is_ok() {
            return self.sync_index(&index);
        }
        drop(index);
        self.sync()
    }

    /// Compares the packs that the index names with those that are stored, and forgets the chunks of packs that are
    /// missing or have another length: a writer that relied on them would acknowledge what cannot be restored.
    pub(crate) fn drop_missing_packs(&self) -> Result<()> {
        self.drop_packs_missing_in(&stored_packs(self.store.as_ref())?)
    }

    /// The same where they were listed already.
    pub(crate) fn drop_packs_missing_in(&self, stored: &StoredPacks) -> Result<()> {
        self.is_compared.store(true, Ordering::Relaxed);
        let failed = {
            let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
            match self.drop_missing_from(&index, stored) {
                Err(Error::Index(error)) => error,
                result => return result,
            }
        };
        self.replace_index(failed)
    }

    fn missing_from(index: &Index, stored: &StoredPacks) -> Result<Vec<lifeboat_index::Pack>> {
        let is_there = |name: &PackName, bytes: u32| stored.get(name) == Some(&u64::from(bytes));
        index.packs_that(|name, bytes| !is_there(name, bytes)).map_err(Error::Index)
    }

    fn drop_missing_from(&self, index: &Index, stored: &StoredPacks) -> Result<()> {
        if Self::missing_from(index, stored)?.is_empty() {
            return Ok(());
        }
        // A collection may have deleted them since the index was read: then no index object names them any more. Or
        // somebody stored them since the packs were listed.
        self.sync_index(index)?;
        let missing = Self::missing_from(index, &stored_packs(self.store.as_ref())?)?;
        if missing.is_empty() {
            return Ok(());
        }
        let hint = "what they held is stored again where the source still has it; `lifeboat check` tells what is lost";
        self.notice(format!("{} packs are missing or truncated: {hint}", missing.len()));
        self.incomplete.store(true, Ordering::Relaxed);
        let objects: BTreeSet<IndexName> =
            missing.iter().flat_map(|pack| pack.listed_by.iter().copied()).collect();
        let objects: Vec<IndexName> = objects.into_iter().collect();
        index.retire(&objects).map_err(Error::Index)?;
        let dropped = missing.iter().map(|pack| pack.name);
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner).extend(dropped);
        // What else those objects name is taken in again.
        self.sync_index(index)
    }

    /// Whether a pack is not stored, as far as that can be told.
    pub(crate) fn is_gone(&self, pack: &PackName) -> bool {
        let found = self.store.bytes(&ObjectKey::new(ObjectKind::Pack, &pack.0));
        found.is_err_and(|error| error.kind() == lifeboat_store::ErrorKind::NotFound)
    }

    /// How many packs are stored that only the index objects `gone` named. A collection leaves none: it puts another
    /// object first.
    fn unnamed_without(&self, index: &Index, gone: &[IndexName]) -> Result<usize> {
        let stored = stored_packs(self.store.as_ref())?;
        let mut unnamed = 0;
        for pack in index.packs().map_err(Error::Index)? {
            let pack = pack.map_err(Error::Index)?;
            let is_unnamed = pack.listed_by.iter().all(|object| gone.contains(object));
            unnamed += usize::from(is_unnamed && stored.contains_key(&pack.name));
        }
        Ok(unnamed)
    }

    /// Takes in one index object that was just stored; `false` when the index cannot hold it.
    pub(crate) fn add(&self, name: IndexName, object: IndexObject) -> Result<bool> {
        let failed = {
            let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
            match index.apply(&mut std::iter::once((name, object))) {
                Ok(()) => return Ok(true),
                Err(error) => error,
            }
        };
        // The object is stored: the replacement reads it from there with all others.
        Ok(self.replace_index(failed).is_ok())
    }

    /// Index objects that cannot be read.
    pub(crate) fn damaged_objects(&self) -> Vec<IndexName> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    /// Whether every index object could be read. If not, what a parent refers to may be named by none of the others.
    pub fn is_whole(&self) -> bool {
        !self.incomplete.load(Ordering::Relaxed)
            && self.damaged.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Reads the index objects that the index does not cover, one at a time.
    fn sync_index(&self, index: &Index) -> Result<()> {
        for _ in 0..LISTINGS_MAX {
            if self.sync_once(index)? {
                return Ok(());
            }
        }
        let detail = "its objects are listed, but are not there".into();
        Err(Error::Damaged { what: "the index".into(), detail })
    }

    /// The same for one listing; `false` when an object of it was replaced before it was read.
    fn sync_once(&self, index: &Index) -> Result<bool> {
        let stored: BTreeSet<IndexName> = self
            .store
            .names(ObjectKind::Index)
            .map_err(Error::store("the index objects cannot be listed"))?
            .iter()
            .filter_map(|key| key.name().try_into().ok().map(IndexName))
            .collect();
        let covered = index.covered().map_err(Error::Index)?;
        let (mut failed, mut is_complete) = (None, true);
        let mut readable = stored.difference(&covered).map_while(|name| match self.read_or_skip(name) {
            Ok(object) => Some(object.map(|object| (*name, object))),
            Err(error) if error.kind() == crate::ErrorKind::NotFound => {
                is_complete = false;
                Some(None)
            }
            Err(error) => {
                failed = Some(error);
                None
            }
        });
        index.apply(&mut readable.by_ref().flatten()).map_err(Error::Index)?;
        if let Some(error) = failed {
            return Err(error);
        }
        let gone: Vec<IndexName> = covered.difference(&stored).copied().collect();
        if gone.is_empty() || !is_complete {
            return Ok(is_complete);
        }
        // Parents are not trusted unseen for once: what was collected and what was lost look alike from here.
        self.incomplete.store(true, Ordering::Relaxed);
        if self.unnamed_without(index, &gone)? > 0 {
            self.notice(format!(
                "{} index objects are gone; `lifeboat check` tells what that touches",
                gone.len()
            ));
        }
        index.retire(&gone).map_err(Error::Index)?;
        Ok(true)
    }

    /// One damaged object must not take all others with it: its chunks count as absent, so that writers store them
    /// again and readers miss only them.
    fn read_or_skip(&self, name: &IndexName) -> Result<Option<IndexObject>> {
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        match read_index_object(self.store.as_ref(), &self.keys, name) {
            Err(error) if error.kind() == crate::ErrorKind::Damaged => {
                if damaged.insert(*name) {
                    let hint = "what it names counts as missing; `lifeboat check` tells what that touches";
                    self.notice(format!("index object {name} is damaged: {hint}"));
                }
                Ok(None)
            }
            result => {
                damaged.remove(name);
                let dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
                result.map(|mut object| {
                    object.packs.retain(|pack| !dropped.contains(&pack.name));
                    Some(object)
                })
            }
        }
    }

    /// Whether each chunk is stored.
    pub fn contains(&self, ids: &[ChunkId]) -> Result<Vec<bool>> {
        let locations = self.with_index(|index| index.locate(ids))?;
        Ok(locations.iter().map(Option::is_some).collect())
    }

    /// Whether each chunk lies in a pack that `may_use` accepts.
    pub(crate) fn contains_in(
        &self,
        ids: &[ChunkId],
        may_use: impl Fn(&PackName) -> bool,
    ) -> Result<Vec<bool>> {
        self.with_index(|index| {
            let is_usable = |location: lifeboat_index::ChunkLocation| {
                Ok(index.name_of(location.pack)?.is_some_and(|name| may_use(&name)))
            };
            let mut found = Vec::with_capacity(ids.len());
            for (id, location) in ids.iter().zip(index.locate(ids)?) {
                let mut is_found = location.map_or(Ok(false), is_usable)?;
                if location.is_some() && !is_found {
                    for copy in index.copies(id)? {
                        is_found |= is_usable(copy)?;
                    }
                }
                found.push(is_found);
            }
            Ok(found)
        })
    }

    /// In which pack and which of its regions each chunk lies; `None` when no pack has it.
    pub(crate) fn places(&self, ids: &[ChunkId]) -> Result<Vec<Option<(PackName, u16)>>> {
        self.with_index(|index| {
            let place = |location: lifeboat_index::ChunkLocation| {
                Ok(index.name_of(location.pack)?.map(|name| (name, location.region)))
            };
            let locations = index.locate(ids)?;
            locations.into_iter().map(|location| location.map_or(Ok(None), place)).collect()
        })
    }

    /// Where a chunk lies; `None` when no pack has it.
    pub fn find(&self, id: &ChunkId) -> Result<Option<Found>> {
        self.with_index(|index| {
            // A pack may be retired between the two questions, and the chunk have another copy.
            for _ in 0..3 {
                let Some(location) = index.locate_one(id)? else { return Ok(None) };
                if let Some(region) = index.region(location.pack, location.region)? {
                    return Ok(Some(Found { region, offset: location.offset, bytes: location.length }));
                }
            }
            Ok(None)
        })
    }

    /// A number for each chunk: equal in one region, near each other in one pack; 0 for those that are nowhere.
    pub(crate) fn order(&self, ids: &[ChunkId]) -> Result<Vec<u64>> {
        let number = |place: lifeboat_index::ChunkLocation| {
            u64::from(place.pack.get()) << 16 | u64::from(place.region)
        };
        let places = self.with_index(|index| index.locate(ids))?;
        Ok(places.into_iter().map(|place| place.map_or(0, number)).collect())
    }

    /// Every place where a chunk lies: for who found that one of them cannot be read.
    pub(crate) fn find_all(&self, id: &ChunkId) -> Result<Vec<Found>> {
        self.with_index(|index| {
            let mut found = Vec::new();
            for copy in index.copies(id)? {
                let region = index.region(copy.pack, copy.region)?;
                found.extend(region.map(|region| Found { region, offset: copy.offset, bytes: copy.length }));
            }
            Ok(found)
        })
    }

    /// The pack and region of every place where a chunk lies.
    pub(crate) fn all_places(&self, id: &ChunkId) -> Result<Vec<(PackName, u16)>> {
        self.with_index(|index| {
            let mut places = Vec::new();
            for copy in index.copies(id)? {
                places.extend(index.name_of(copy.pack)?.map(|name| (name, copy.region)));
            }
            Ok(places)
        })
    }

    /// Every pack that an index object names, with its length.
    pub fn packs(&self) -> Result<Vec<(PackName, u32)>> {
        self.with_index(|index| index.packs()?.map(|pack| pack.map(|pack| (pack.name, pack.bytes))).collect())
    }

    /// Sizes, for people.
    pub fn counts(&self) -> Result<lifeboat_index::Counts> {
        self.with_index(Index::counts)
    }
}

/// The packs that are stored, with their lengths.
pub(crate) type StoredPacks = BTreeMap<PackName, u64>;

/// Lists them.
pub(crate) fn stored_packs(store: &dyn Store) -> Result<StoredPacks> {
    let listed = store.list(ObjectKind::Pack).map_err(Error::store("the packs cannot be listed"))?;
    let name = |listed: &Listed| PackName(listed.key.name().try_into().expect("a pack's name has 32 bytes"));
    Ok(listed.iter().map(|listed| (name(listed), listed.bytes)).collect())
}

fn open_index(keys: &Keys, directory: Option<&PathBuf>, notices: &mut Vec<String>) -> Result<Index> {
    let options = Options::default();
    if let Some(directory) = directory {
        match Index::open(directory, keys.repository(), &options) {
            Ok(index) => {
                if let Some(error) =
                    index.not_writer_because().filter(|error| error.kind() != ErrorKind::Busy)
                {
                    notices.push(format!(
                        "the local index cannot be written and is made anew each time ({error})"
                    ));
                }
                if index.rebuilt() {
                    notices.push("the local index was damaged or foreign and is being rebuilt".to_owned());
                }
                return Ok(index);
            }
            Err(error) => {
                notices.push(format!(
                    "the local index cannot be used; a temporary one takes its place ({error})"
                ));
            }
        }
    }
    Index::open_temporary(&std::env::temp_dir(), keys.repository(), &options).map_err(Error::Index)
}

/// Reads and authenticates one index object.
pub(crate) fn read_index_object(store: &dyn Store, keys: &Keys, name: &IndexName) -> Result<IndexObject> {
    let key = ObjectKey::new(ObjectKind::Index, &name.0);
    let bytes = store.get(&key).map_err(Error::store(format!("{key} cannot be read")))?;
    if blake3::hash(&bytes).as_bytes() != &name.0 {
        return Err(Error::Damaged {
            what: key.to_string(),
            detail: "its bytes are not those it was named after".into(),
        });
    }
    IndexObject::decode(keys, &bytes).map_err(Error::format(format!("{key} cannot be read")))
}
