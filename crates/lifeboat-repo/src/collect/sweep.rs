//! Deleting what a verdict names: index objects are replaced first, then the packs go. Small index objects are merged by
//! the way.
//!
//! Must stay true: an index object is removed only after everything else that it names is in another one that is
//! durable; a pack is removed only after no index object that was there names it. Doing it twice, or beside another
//! collector who does the same, does no harm.

use super::objects::name_of;
use super::survey::Survey;
use super::{Collector, Heart};
use crate::error::{Error, ErrorKind, Result};
use crate::lookup::{read_index_object, stored_packs};
use lifeboat_format::index::{IndexObject, IndexedPack};
use lifeboat_format::{ObjectKey, ObjectKind, PackName};
use lifeboat_store::Listed;
use std::collections::BTreeMap;

/// A replacement is put when it names so many chunks: 24 bytes each, far below what an index object may have.
const CHUNKS_PER_REPLACEMENT: usize = 256 << 10;
/// Or so many packs.
const PACKS_PER_REPLACEMENT: usize = 4096;
/// Packs that are deleted by one call.
const PACKS_PER_CALL: usize = 256;
/// Below this length an index object is small: some ten thousand chunks.
const SMALL_OBJECT_BYTES: u64 = 256 << 10;
/// Small index objects are merged when there are so many: each merging leaves one that may be small again.
const SMALL_OBJECTS: usize = 16;

/// What the next replacement takes in.
#[derive(Default)]
struct Replacement {
    packs: Vec<IndexedPack>,
    chunks: usize,
    replaced: Vec<ObjectKey>,
}

impl Collector<'_> {
    /// Deletes the packs of a verdict, which may be none.
    pub(super) fn sweep(&mut self, survey: &Survey, verdict: &BTreeMap<PackName, u64>) -> Result<()> {
        self.replace_index_objects(survey, verdict)?;
        // `RemovePacks`
        let keys: Vec<ObjectKey> =
            verdict.keys().map(|pack| ObjectKey::new(ObjectKind::Pack, &pack.0)).collect();
        for keys in keys.chunks(PACKS_PER_CALL) {
            self.heart.beat()?;
            self.repository.store().delete_many(keys).map_err(Error::store("packs cannot be deleted"))?;
        }
        self.collected.packs = verdict.clone();
        Ok(())
    }

    /// `ReadIndexObjects`, `PutReplacement`, `RemoveIndexObjects`
    fn replace_index_objects(&mut self, survey: &Survey, verdict: &BTreeMap<PackName, u64>) -> Result<()> {
        let store = self.repository.store();
        let objects =
            store.list(ObjectKind::Index).map_err(Error::store("the index objects cannot be listed"))?;
        // After the objects: what they name was stored before them, or is gone for ever.
        let stored = stored_packs(self.repository.store())?;
        let stays = |pack: &IndexedPack| !verdict.contains_key(&pack.name) && stored.contains_key(&pack.name);
        let is_small = |listed: &&Listed| listed.bytes < SMALL_OBJECT_BYTES;
        let merges = objects.iter().filter(is_small).count() >= SMALL_OBJECTS;
        let may_name = survey.may_name(verdict.keys().chain(survey.missing()));
        let mut replacement = Replacement::default();
        for listed in &objects {
            let is_merged = merges && is_small(&listed);
            if !is_merged && !may_name(listed) {
                continue;
            }
            self.heart.beat()?;
            let mut object = match read_index_object(store, self.repository.keys(), &name_of(listed)) {
                // Another collector has replaced it, and it named nothing that only this one would keep.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                result => result?,
            };
            if !is_merged && object.packs.iter().all(stays) {
                continue;
            }
            object.packs.retain(stays);
            self.add_to(&mut replacement, object, listed)?;
        }
        self.put_replacement(replacement)
    }

    fn add_to(&mut self, replacement: &mut Replacement, object: IndexObject, listed: &Listed) -> Result<()> {
        let chunks: usize = object.packs.iter().map(|pack| pack.ids.len()).sum();
        let too_many = replacement.packs.len() + object.packs.len() > PACKS_PER_REPLACEMENT;
        if too_many || replacement.chunks + chunks > CHUNKS_PER_REPLACEMENT {
            self.put_replacement(std::mem::take(replacement))?;
        }
        replacement.packs.extend(object.packs);
        replacement.chunks += chunks;
        replacement.replaced.push(listed.key.clone());
        Ok(())
    }

    fn put_replacement(&mut self, replacement: Replacement) -> Result<()> {
        let Replacement { mut packs, mut replaced, .. } = replacement;
        let store = self.repository.store();
        if !packs.is_empty() {
            // Two objects may name one pack, where a collection died between putting one and removing the other.
            packs.sort_by_key(|pack| pack.name);
            packs.dedup_by_key(|pack| pack.name);
            let (name, bytes) = IndexObject::new(packs)
                .encode(self.repository.keys())
                .map_err(Error::format("an index object cannot be made"))?;
            let key = ObjectKey::new(ObjectKind::Index, &name.0);
            store.put(&key, &bytes).map_err(Error::store(format!("{key} cannot be stored")))?;
            replaced.retain(|old| *old != key);
        }
        self.collected.index_objects += replaced.len() as u64;
        store.delete_many(&replaced).map_err(Error::store("old index objects cannot be deleted"))
    }
}
