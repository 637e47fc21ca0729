//! Which stored regions cannot be read: what chunks of snapshots are compared with.
//!
//! Must stay true: memory grows with damaged packs and regions, never with the chunks in them.

use crate::error::Result;
use crate::lookup::Lookup;
use lifeboat_format::{ChunkId, PackName};
use std::collections::{BTreeMap, BTreeSet};

/// How much of a pack is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Loss {
    /// No chunk of it: what is damaged lies beside them.
    Nothing,
    /// The chunks of one region.
    Region(u16),
    /// Everything.
    Pack,
}

#[derive(Default)]
pub(super) struct Damage {
    /// The regions of each damaged pack; `None` is all of them.
    packs: BTreeMap<PackName, Option<BTreeSet<u16>>>,
}

impl Damage {
    pub(super) fn add(&mut self, pack: PackName, loss: Loss) {
        match loss {
            Loss::Nothing => drop(self.packs.entry(pack).or_insert_with(|| Some(BTreeSet::new()))),
            Loss::Pack => drop(self.packs.insert(pack, None)),
            Loss::Region(region) => {
                if let Some(regions) = self.packs.entry(pack).or_insert_with(|| Some(BTreeSet::new())) {
                    regions.insert(region);
                }
            }
        }
    }

    /// Every pack that is not as it was stored.
    pub(super) fn packs(&self) -> impl Iterator<Item = &PackName> {
        self.packs.keys()
    }

    /// For each chunk whether every place that it is in is damaged. One that is nowhere does not count.
    pub(super) fn hits(&self, lookup: &Lookup, ids: &[ChunkId]) -> Result<Vec<bool>> {
        if self.packs.is_empty() {
            return Ok(vec![false; ids.len()]);
        }
        let is_lost = |(pack, region): &(PackName, u16)| match self.packs.get(pack) {
            None => false,
            Some(None) => true,
            Some(Some(regions)) => regions.contains(region),
        };
        let mut hits = Vec::with_capacity(ids.len());
        for (id, place) in ids.iter().zip(lookup.places(ids)?) {
            let mut is_hit = place.as_ref().is_some_and(is_lost);
            if is_hit {
                is_hit = lookup.all_places(id)?.iter().all(is_lost);
            }
            hits.push(is_hit);
        }
        Ok(hits)
    }
}
