//! What each stored pack holds, as the index objects say, and which of them say something of a given pack.
//!
//! Must stay true: a pack counts as dead only if no index object that is there names anything reached in it. One that no
//! object names is dead: who is still writing it is waited for, and then it is looked at again.

use super::choose::PackUse;
use super::mark::Reached;
use super::objects::{each_index_object, name_of};
use crate::error::Result;
use crate::lookup::stored_packs;
use crate::repository::Repository;
use lifeboat_format::index::IndexedPack;
use lifeboat_format::region::ChunkKind;
use lifeboat_format::{ChunkId, IndexName, PackName};
use lifeboat_store::Listed;
use std::collections::{BTreeMap, BTreeSet};

/// All packs and index objects at one moment.
pub(super) struct Survey {
    pub(super) packs: BTreeMap<PackName, PackUse>,
    /// The index objects that were read, with numbers.
    objects: BTreeMap<IndexName, u32>,
    /// The objects that name each pack; also packs that are not stored.
    named_by: BTreeMap<PackName, Vec<u32>>,
}

/// The chunks of each region of a pack: the region's number, and its part of `pack.ids`.
pub(super) fn regions(pack: &IndexedPack) -> impl Iterator<Item = (usize, &[ChunkId])> {
    let mut rest = &pack.ids[..];
    pack.directory.regions.iter().enumerate().map(move |(number, region)| {
        let (ids, others) = rest.split_at(region.chunk_bytes.len());
        rest = others;
        (number, ids)
    })
}

/// Whether anything in a pack is reached.
fn holds_reached(reached: &dyn Reached, pack: &IndexedPack) -> Result<bool> {
    for id in &pack.ids {
        if reached.is_reached(id)? {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Survey {
    /// Reads every index object.
    pub(super) fn new(repository: &Repository, reached: &dyn Reached) -> Result<Self> {
        // Listed first: a pack that comes later is no candidate.
        let stored = stored_packs(repository.store())?;
        let empty = |bytes| PackUse { bytes, ..PackUse::default() };
        let mut survey = Self {
            packs: stored.into_iter().map(|(name, bytes)| (name, empty(bytes))).collect(),
            objects: BTreeMap::new(),
            named_by: BTreeMap::new(),
        };
        each_index_object(
            repository,
            |_| true,
            |name, object| {
                let number = survey.objects.len() as u32;
                survey.objects.insert(name, number);
                for pack in &object.packs {
                    let named_by = survey.named_by.entry(pack.name).or_default();
                    named_by.push(number);
                    // What another object says of the same pack is the same.
                    if let (1, Some(found)) = (named_by.len(), survey.packs.get_mut(&pack.name)) {
                        use_of(reached, pack, found)?;
                    }
                }
                Ok(())
            },
        )?;
        Ok(survey)
    }

    /// Bytes of the packs that hold something reached.
    pub(super) fn live_bytes(&self) -> u64 {
        self.packs.values().filter(|pack| pack.is_live).map(|pack| pack.bytes).sum()
    }

    /// Whether an index object may name one of `packs`: it does, or was not there when this was made.
    pub(super) fn may_name<'s>(
        &'s self,
        packs: impl Iterator<Item = &'s PackName>,
    ) -> impl Fn(&Listed) -> bool + 's {
        let naming: BTreeSet<u32> =
            packs.filter_map(|pack| self.named_by.get(pack)).flatten().copied().collect();
        move |listed| self.objects.get(&name_of(listed)).is_none_or(|number| naming.contains(number))
    }

    /// Packs that are named but were not stored.
    pub(super) fn missing(&self) -> impl Iterator<Item = &PackName> {
        self.named_by.keys().filter(|name| !self.packs.contains_key(name))
    }

    /// Those of the packs `dead` in which nothing is reached after another marking.
    pub(super) fn still_dead(
        &self,
        repository: &Repository,
        reached: &dyn Reached,
        dead: &BTreeMap<PackName, u64>,
    ) -> Result<BTreeMap<PackName, u64>> {
        let mut still = dead.clone();
        each_index_object(repository, self.may_name(dead.keys()), |_, object| {
            for pack in &object.packs {
                if still.contains_key(&pack.name) && holds_reached(reached, pack)? {
                    still.remove(&pack.name);
                }
            }
            Ok(())
        })?;
        Ok(still)
    }
}

/// Says what of a pack is reached.
fn use_of(reached: &dyn Reached, pack: &IndexedPack, found: &mut PackUse) -> Result<()> {
    found.is_tree = pack.directory.regions.iter().all(|region| region.head.kind != ChunkKind::Data);
    for (number, ids) in regions(pack) {
        let region = &pack.directory.regions[number];
        let mut reached_bytes = 0;
        for (id, bytes) in ids.iter().zip(&region.chunk_bytes) {
            if reached.is_reached(id)? {
                found.is_live = true;
                reached_bytes += u64::from(*bytes);
            }
        }
        let stored_bytes = u64::from(region.head.stored_bytes);
        let used_bytes = stored_bytes * reached_bytes / u64::from(region.head.plain_bytes).max(1);
        found.used_bytes += used_bytes;
        found.unused_bytes += stored_bytes - used_bytes;
    }
    Ok(())
}
