//! Which packs a collection wants to be rid of: a pure choice, from what each pack holds.
//!
//! Must stay true: what is chosen depends on nothing but what is given, so that a dry run shows what a run would do.

use lifeboat_format::PackName;
use lifeboat_format::limits::LISTED_PACKS_MAX;
use std::collections::{BTreeMap, BTreeSet};

/// Small packs of one sort are merged when there are so many: each merging rewrites them, and leaves one that may be small
/// again.
const SMALL_PACKS: usize = 16;
/// A pack below this share of a full one is small.
const SMALL_PACK_DIVISOR: u64 = 4;

/// What a collection may leave unused, and rewrite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Room {
    /// Unused bytes that may stay in packs, as a share of what stays: from 0 to 1. `None`: whatever there is.
    pub unused_share_max: Option<f64>,
    /// Bytes that are copied from packs that are partly used, or small.
    pub moved_bytes_max: u64,
}

impl Default for Room {
    fn default() -> Self {
        Self { unused_share_max: Some(0.05), moved_bytes_max: u64::MAX }
    }
}

/// What one stored pack holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PackUse {
    /// Its length.
    pub(super) bytes: u64,
    /// Bytes of its regions that snapshots need. Of a region's, the share of its plaintext.
    pub(super) used_bytes: u64,
    /// Bytes of its regions that nobody needs.
    pub(super) unused_bytes: u64,
    /// Whether anything in it is needed.
    pub(super) is_live: bool,
    /// Whether it holds trees and lists alone, no data.
    pub(super) is_tree: bool,
}

/// Packs to be rid of, with their lengths.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    /// Nothing in them is needed.
    pub(super) dead: BTreeMap<PackName, u64>,
    /// What is needed of them is copied first.
    pub(super) moved: BTreeMap<PackName, u64>,
    /// Bytes that are copied.
    pub(super) moved_bytes: u64,
    /// Bytes that nobody needs and that stay in packs.
    pub(super) unused_bytes: u64,
}

impl Choice {
    /// All of them.
    pub(super) fn packs(&self) -> BTreeMap<PackName, u64> {
        self.dead.iter().chain(&self.moved).map(|(name, bytes)| (*name, *bytes)).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.dead.is_empty() && self.moved.is_empty()
    }

    fn has_room(&self) -> bool {
        self.dead.len() + self.moved.len() < LISTED_PACKS_MAX as usize
    }

    /// Takes a live pack, if there is room.
    fn take(&mut self, name: PackName, pack: &PackUse, moved_bytes_max: u64) {
        let moved_bytes = self.moved_bytes + pack.used_bytes;
        if self.has_room() && moved_bytes <= moved_bytes_max && !self.moved.contains_key(&name) {
            self.moved.insert(name, pack.bytes);
            self.moved_bytes = moved_bytes;
            self.unused_bytes -= pack.unused_bytes;
        }
    }
}

/// Chooses among `packs`; `forced` ones must go, whatever the room.
pub(super) fn choose(
    packs: &BTreeMap<PackName, PackUse>,
    forced: &BTreeSet<PackName>,
    room: &Room,
    pack_bytes: u64,
) -> Choice {
    let live = || packs.iter().filter(|(_, pack)| pack.is_live);
    let mut choice =
        Choice { unused_bytes: live().map(|(_, pack)| pack.unused_bytes).sum(), ..Choice::default() };
    for (name, pack) in live().filter(|(name, _)| forced.contains(name)) {
        choice.take(*name, pack, u64::MAX);
    }
    for (name, pack) in packs.iter().filter(|(_, pack)| !pack.is_live) {
        if choice.has_room() {
            choice.dead.insert(*name, pack.bytes);
        }
    }
    if let Some(share) = room.unused_share_max {
        let used: u64 = live().map(|(_, pack)| pack.used_bytes).sum();
        let mut wasteful: Vec<_> = live().filter(|(_, pack)| pack.unused_bytes > 0).collect();
        // Most is gained first where least has to be copied.
        wasteful.sort_by(|(_, one), (_, other)| {
            let (one, other) = (waste(one), waste(other));
            other.total_cmp(&one)
        });
        for (name, pack) in wasteful {
            let unused_max = share * (used + choice.unused_bytes) as f64;
            if choice.unused_bytes as f64 <= unused_max {
                break;
            }
            choice.take(*name, pack, room.moved_bytes_max);
        }
    }
    for is_tree in [false, true] {
        let is_small =
            |pack: &PackUse| pack.is_tree == is_tree && pack.bytes < pack_bytes / SMALL_PACK_DIVISOR;
        let small: Vec<_> =
            live().filter(|(name, pack)| is_small(pack) && !choice.moved.contains_key(name)).collect();
        if small.len() >= SMALL_PACKS {
            small.iter().for_each(|(name, pack)| choice.take(**name, pack, room.moved_bytes_max));
        }
    }
    choice
}

/// The unused share of a pack's regions.
fn waste(pack: &PackUse) -> f64 {
    pack.unused_bytes as f64 / (pack.used_bytes + pack.unused_bytes).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u8) -> PackName {
        PackName([number; 32])
    }

    fn pack(used_bytes: u64, unused_bytes: u64) -> PackUse {
        let bytes = used_bytes + unused_bytes;
        PackUse { bytes, used_bytes, unused_bytes, is_live: used_bytes > 0, is_tree: false }
    }

    fn chosen(packs: &[PackUse], room: Room) -> (Vec<u8>, Vec<u8>) {
        let packs: BTreeMap<_, _> = (0..).map(name).zip(packs.iter().cloned()).collect();
        let choice = choose(&packs, &BTreeSet::new(), &room, 1000);
        let left: u64 = packs
            .iter()
            .filter(|(name, pack)| pack.is_live && !choice.moved.contains_key(name))
            .map(|(_, pack)| pack.unused_bytes)
            .sum();
        assert_eq!(choice.unused_bytes, left);
        let numbers = |packs: BTreeMap<PackName, u64>| packs.keys().map(|name| name.0[0]).collect();
        (numbers(choice.dead), numbers(choice.moved))
    }

    #[test]
    fn what_nobody_needs_goes_and_most_unused_is_moved_first() {
        let packs = [pack(1000, 0), pack(0, 1000), pack(900, 100), pack(100, 900), pack(500, 500)];
        let room = |share| Room { unused_share_max: share, ..Room::default() };
        assert_eq!(chosen(&packs, room(None)), (vec![1], vec![]));
        assert_eq!(chosen(&packs, room(Some(0.2))), (vec![1], vec![3]));
        assert_eq!(chosen(&packs, room(Some(0.05))), (vec![1], vec![3, 4]));
        assert_eq!(chosen(&packs, room(Some(0.0))), (vec![1], vec![2, 3, 4]));
    }

    #[test]
    fn no_more_is_moved_than_may_be() {
        let packs = [pack(900, 100), pack(100, 900), pack(500, 500)];
        let room = |bytes| Room { unused_share_max: Some(0.0), moved_bytes_max: bytes };
        assert_eq!(chosen(&packs, room(0)), (vec![], vec![]));
        assert_eq!(chosen(&packs, room(599)), (vec![], vec![1]));
        assert_eq!(chosen(&packs, room(600)), (vec![], vec![1, 2]));
    }

    #[test]
    fn small_packs_are_moved_when_there_are_many_of_one_sort() {
        let small = |count, is_tree| vec![PackUse { is_tree, ..pack(200, 0) }; count];
        let few = [small(SMALL_PACKS - 1, false), small(SMALL_PACKS - 1, true)].concat();
        assert_eq!(chosen(&few, Room::default()).1.len(), 0);
        let many = [small(SMALL_PACKS - 1, false), small(SMALL_PACKS, true), vec![pack(900, 0)]].concat();
        assert_eq!(chosen(&many, Room::default()).1.len(), SMALL_PACKS);
    }

    #[test]
    fn forced_packs_go_whatever_the_room() {
        let packs = BTreeMap::from([(name(0), pack(900, 0)), (name(1), pack(900, 0))]);
        let room = Room { unused_share_max: None, moved_bytes_max: 0 };
        let choice = choose(&packs, &BTreeSet::from([name(1), name(2)]), &room, 1000);
        assert_eq!((choice.moved, choice.moved_bytes), (BTreeMap::from([(name(1), 900)]), 900));
    }
}
