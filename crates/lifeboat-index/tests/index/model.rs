//! Any sequence of changes, against a map.

use crate::build::{Objects, apply, check, index_name, open, pack};
use lifeboat_format::index::IndexedPack;
use lifeboat_index::Opening;
use proptest::prelude::*;
use std::collections::BTreeSet;

const OBJECTS: u32 = 6;

#[derive(Debug, Clone)]
enum Step {
    Apply(Vec<u32>),
    Retire(Vec<u32>),
    Reopen,
    /// Goes on with a second handle, which cannot have the lock while the first is open.
    Read,
}

fn step() -> impl Strategy<Value = Step> {
    let names = || prop::collection::vec(0..OBJECTS, 1..3);
    prop_oneof![
        5 => names().prop_map(Step::Apply),
        4 => names().prop_map(Step::Retire),
        1 => Just(Step::Reopen),
        1 => Just(Step::Read),
    ]
}

/// Packs whose chunks overlap, in objects whose packs overlap.
fn objects() -> impl Strategy<Value = Objects> {
    let packs = prop::collection::vec(prop::collection::vec(0u32..14, 0..8), 7);
    let listings = prop::collection::vec(prop::collection::vec(0usize..7, 0..4), OBJECTS as usize);
    (packs, listings).prop_map(|(packs, listings)| {
        let packs: Vec<IndexedPack> =
            (0u32..).zip(packs).map(|(number, chunks)| pack(number, &chunks)).collect();
        let listed = |listing: Vec<usize>| listing.into_iter().map(|index| packs[index].clone()).collect();
        (0u32..).zip(listings).map(|(name, listing)| (name, listed(listing))).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_index_answers_as_a_map_of_its_objects_would(
        objects in objects(),
        steps in prop::collection::vec(step(), 1..16),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let mut covered = BTreeSet::new();
        let mut index = open(directory.path());
        let mut writer = None;
        for step in steps {
            match step {
                Step::Apply(names) => {
                    for name in names {
                        apply(&index, name, objects[&name].clone()).unwrap();
                        covered.insert(name);
                    }
                }
                Step::Retire(names) => {
                    let retired: Vec<_> = names.iter().map(|name| index_name(*name)).collect();
                    index.retire(&retired).unwrap();
                    covered.retain(|name| !names.contains(name));
                }
                Step::Reopen if writer.is_none() => {
                    drop(index);
                    index = open(directory.path());
                    prop_assert!(!index.rebuilt());
                }
                Step::Read if writer.is_none() => {
                    let reader = open(directory.path());
                    prop_assert_eq!(reader.opening(), Opening::ReaderWithSpill);
                    writer = Some(std::mem::replace(&mut index, reader));
                }
                // What a reader learned is gone when it closes.
                Step::Reopen | Step::Read => {}
            }
            prop_assert_eq!(&check(&index, &objects).unwrap(), &covered);
        }
    }
}
