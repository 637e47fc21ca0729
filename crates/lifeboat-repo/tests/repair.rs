//! Promises of repair and of scrubbing, over a store in memory: nothing that can be read is given up, killed at any operation
//! another run finishes, and what is lost comes back with the next snapshot of the same data.

#![allow(clippy::unwrap_used)] // Helpers of tests are not `#[test]` functions themselves.

mod place;

use lifeboat_format::index::IndexObject;
use lifeboat_format::object::HEADER_BYTES;
use lifeboat_format::region::ChunkKind;
use lifeboat_format::{Entry, Metadata, Node, ObjectKey, ObjectKind, SnapshotId, TreePath};
use lifeboat_repo::check::{Depth, Finding, Progress as CheckProgress, check};
use lifeboat_repo::collect::{CollectOptions, Room};
use lifeboat_repo::cursor::TreeCursor;
use lifeboat_repo::reader::ChunkReader;
use lifeboat_repo::repair::{
    PacksRepaired, REPAIRED, SnapshotRepaired, plan_index, plan_packs, plan_snapshots, repair_index,
    repair_packs, repair_snapshots,
};
use lifeboat_repo::scrub::{Progress as ScrubProgress, scrub};
use lifeboat_repo::session::SessionOptions;
use lifeboat_repo::sink::ChunkSink;
use lifeboat_repo::tree::TreeBuilder;
use lifeboat_repo::{Error, ErrorKind, Repository, Result};
use lifeboat_store::{Fault, FaultPlan, FaultyStore, MemoryStore, Store};
use place::*;
use std::collections::HashSet;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

static GO_ON: AtomicBool = AtomicBool::new(false);

fn session_options() -> SessionOptions {
    SessionOptions { compression_level: 3, host: HOST }
}

fn mend_packs(repository: &Repository) -> Result<PacksRepaired> {
    let room = Room::default();
    let options = CollectOptions { host: HOST, grace: Duration::ZERO, room, compression_level: 1 };
    repair_packs(repository, &options, &CheckProgress::default())
}

fn mend_index(repository: &Repository) -> Result<lifeboat_repo::repair::IndexRepaired> {
    repair_index(repository, session_options(), &GO_ON)
}

fn lost(repository: &Repository) -> Vec<SnapshotRepaired> {
    plan_snapshots(repository, &GO_ON).unwrap()
}

fn keys(store: &MemoryStore, kind: ObjectKind) -> Vec<ObjectKey> {
    store.list(kind).unwrap().into_iter().map(|listed| listed.key).collect()
}

fn replace(store: &MemoryStore, key: &ObjectKey, bytes: &[u8]) {
    store.delete(key).unwrap();
    store.put(key, bytes).unwrap();
}

fn flip(store: &MemoryStore, key: &ObjectKey, at: usize) {
    let mut bytes = store.get(key).unwrap();
    bytes[at] ^= 4;
    replace(store, key, &bytes);
}

fn findings(store: &MemoryStore) -> Vec<Finding> {
    check(&open(store.clone()), Depth::Data, &CheckProgress::default()).unwrap().findings
}

/// A repository with one snapshot of forty files: some packs, the last one with the trees.
fn forty_files() -> MemoryStore {
    let (store, repository) = init();
    store_files(&repository, 0..40).unwrap();
    store
}

/// The ways in which a pack can be damaged.
const DAMAGES: [&str; 6] = ["region", "last region", "trailer", "truncated", "longer", "missing"];

fn damage(store: &MemoryStore, pack: &ObjectKey, how: &str) {
    let bytes = store.get(pack).unwrap();
    match how {
        "region" => flip(store, pack, 1000),
        "last region" => flip(store, pack, bytes.len() * 3 / 4),
        "trailer" => flip(store, pack, bytes.len() - 3),
        "truncated" => replace(store, pack, &bytes[..bytes.len() / 2]),
        "longer" => replace(store, pack, &[&bytes[..], b"x"].concat()),
        _ => store.delete(pack).unwrap(),
    }
}

#[test]
fn a_chunk_with_two_places_is_read_from_the_one_that_is_sound() {
    let (store, repository) = init();
    // Two who begin before either has stored anything store everything twice.
    let sessions = [begin(&repository).unwrap(), begin(&open(store.clone())).unwrap()];
    for session in &sessions {
        session.commit(&feed(session, 0..40).unwrap()).unwrap();
    }
    for pack in packs(&store) {
        let damaged = copy(&store);
        flip(&damaged, &pack, 1000);
        let found = findings(&damaged);
        assert!(found.iter().any(|finding| finding.what.contains(&pack.hex()[..16])), "{found:?}");
        assert!(found.iter().all(|finding| finding.snapshots.is_empty()), "{found:?}");
        let repository = open(damaged.clone());
        let reader = ChunkReader::new(&repository);
        for number in 0..40 {
            let id = repository.keys().chunk_id(ChunkKind::Data, &noise(&repository, number));
            reader.read_into(ChunkKind::Data, &id, &mut Vec::new()).unwrap();
        }
        for listed in repository.snapshots().unwrap().snapshots {
            assert_eq!(
                TreeCursor::new(&reader, listed.snapshot.sources[0].root).filter(Result::is_ok).count(),
                41
            );
        }
        mend_packs(&repository).unwrap();
        assert_sound(&damaged, 2);
    }
}

#[test]
fn scrubbing_finds_every_changed_object_without_a_key() {
    let (store, repository) = init();
    store_files(&repository, 0..40).unwrap();
    store_files(&repository, 40..50).unwrap();
    // Objects of every kind that a running session and a collector have.
    let running = begin(&repository).unwrap();
    let collector = lifeboat_format::SessionId([9; 16]);
    for sentence in
        [lifeboat_format::condemned::Sentence::Condemned, lifeboat_format::condemned::Sentence::Verdict]
    {
        let list = sentence.encode(repository.keys(), collector, &[]).unwrap();
        store.put(&sentence.key(collector), &list).unwrap();
    }
    let found = scrub(&store, &ScrubProgress::default()).unwrap();
    assert!(found.findings.is_empty(), "{:?}", found.findings);
    let mut objects: Vec<ObjectKey> =
        ObjectKind::ALL[1..].iter().flat_map(|kind| keys(&store, *kind)).collect();
    objects.push(ObjectKey::config());
    assert_eq!(found.objects, objects.len() as u64);
    let assert_named = |store: &MemoryStore, key: &ObjectKey, how: &str| {
        let found = scrub(store, &ScrubProgress::default()).unwrap().findings;
        assert_eq!(found.len(), 1, "{key} {how}: {found:?}");
        assert_eq!(found[0].what, key.to_string(), "{how}");
    };
    let of_kind = |kind: ObjectKind| objects.iter().filter(move |key| key.kind() == kind);
    for key in &objects {
        let bytes = store.get(key).unwrap();
        for at in [0, 9, bytes.len() / 2, bytes.len() - 1] {
            let damaged = copy(&store);
            flip(&damaged, key, at);
            assert_named(&damaged, key, &format!("flipped at {at}"));
        }
        for (how, changed) in [
            ("cut off", bytes[..bytes.len() - 1].to_vec()),
            ("empty", vec![]),
            ("longer", [&bytes[..], b"x"].concat()),
        ] {
            let damaged = copy(&store);
            replace(&damaged, key, &changed);
            assert_named(&damaged, key, how);
        }
    }
    for kind in [ObjectKind::Pack, ObjectKind::Index] {
        let two: Vec<&ObjectKey> = of_kind(kind).take(2).collect();
        let exchanged = copy(&store);
        replace(&exchanged, two[0], &store.get(two[1]).unwrap());
        assert_named(&exchanged, two[0], "another one's bytes");
    }
    running.abandon();
}

#[test]
fn an_index_is_made_again_from_the_packs_alone() {
    let store = forty_files();
    let indexes = keys(&store, ObjectKind::Index);
    assert!(!indexes.is_empty());
    for how in ["gone", "damaged"] {
        let damaged = copy(&store);
        for key in &indexes {
            if how == "gone" { damaged.delete(key).unwrap() } else { flip(&damaged, key, 40) }
        }
        assert!(!findings(&damaged).is_empty());
        let planned = plan_index(&open(damaged.clone())).unwrap();
        assert_eq!(planned.unnamed_packs, packs(&store).len() as u64);
        assert_eq!(planned.damaged_objects.len(), if how == "gone" { 0 } else { indexes.len() });
        let done = mend_index(&open(damaged.clone())).unwrap();
        assert_eq!((done.packs_named, done.findings.len()), (planned.unnamed_packs, 0));
        assert_sound(&damaged, 1);
        assert_eq!(packs(&damaged), packs(&store));
        // There is nothing to be done any more.
        let again = mend_index(&open(damaged.clone())).unwrap();
        assert_eq!((again.unnamed_packs, again.damaged_objects.len()), (0, 0));
        // Nothing is stored twice by who does not know of the repair.
        store_files(&open(damaged.clone()), 0..40).unwrap();
        assert_eq!(packs(&damaged), packs(&store));
    }
}

#[test]
fn an_index_object_of_several_that_is_lost_costs_only_its_own_packs() {
    let (store, repository) = init();
    for number in 0..5 {
        store_files(&repository, number * 10..number * 10 + 10).unwrap();
    }
    for key in keys(&store, ObjectKind::Index) {
        let damaged = copy(&store);
        flip(&damaged, &key, 100);
        let reads = FaultyStore::new(damaged.clone(), FaultPlan::none());
        let done = mend_index(&open(reads)).unwrap();
        assert_eq!((done.damaged_objects.len(), done.unnamed_packs), (1, 1));
        assert_sound(&damaged, 5);
    }
}

#[test]
fn what_can_be_read_of_a_damaged_pack_without_an_index_is_kept() {
    let store = forty_files();
    for pack in packs(&store) {
        for how in DAMAGES {
            let damaged = copy(&store);
            keys(&damaged, ObjectKind::Index).iter().for_each(|key| damaged.delete(key).unwrap());
            damage(&damaged, &pack, how);
            mend_index(&open(damaged.clone())).unwrap();
            let bad = findings(&damaged);
            // A flipped bit costs a region of 64 KiB: one or two files, or one or two nodes.
            if matches!(how, "region" | "last region") {
                let chunks = bad.iter().filter(|finding| !finding.snapshots.is_empty()).count();
                assert!((1..=2).contains(&chunks), "{how}: {bad:?}");
            }
            assert!(bad.iter().all(|finding| !finding.what.starts_with("pack")), "{how}: {bad:?}");
            // The same data again makes it whole.
            store_files(&open(damaged.clone()), 0..40).unwrap();
            assert_sound(&damaged, 2);
        }
    }
}

#[test]
fn a_damaged_pack_is_replaced_by_what_can_be_read_and_the_rest_comes_back_with_the_next_snapshot() {
    let store = forty_files();
    for pack in packs(&store) {
        for how in DAMAGES {
            let damaged = copy(&store);
            damage(&damaged, &pack, how);
            let planned = plan_packs(&open(damaged.clone()), &CheckProgress::default()).unwrap();
            assert_eq!(planned.packs, 1, "{how}");
            assert!(
                planned.findings.iter().all(|finding| finding.what.contains(&pack.hex()[..16])),
                "{planned:?}"
            );
            let done = mend_packs(&open(damaged.clone())).unwrap();
            assert_eq!(done.packs, 1, "{how}");
            let left = findings(&damaged);
            assert!(left.iter().all(|finding| !finding.what.starts_with("pack")), "{how}: {left:?}");
            assert!(!packs(&damaged).contains(&pack), "{how}");
            match how {
                // All regions are sound.
                "trailer" => assert_sound(&damaged, 1),
                "longer" => assert!(left.is_empty(), "{left:?}"),
                "region" | "last region" => assert!((1..=2).contains(&left.len()), "{how}: {left:?}"),
                _ => assert!(!left.is_empty(), "{how}"),
            }
            assert_nothing_left_behind(&damaged);
            store_files(&open(damaged.clone()), 0..40).unwrap();
            assert_sound(&damaged, 2);
            gc(&open(damaged.clone())).unwrap();
            assert_sound(&damaged, 2);
            assert_eq!(mend_packs(&open(damaged)).unwrap().packs, 0);
        }
    }
}

#[test]
fn packs_are_not_repaired_before_the_index_is() {
    let store = forty_files();
    flip(&store, &keys(&store, ObjectKind::Index)[0], 100);
    let before = packs(&store);
    let error = mend_packs(&open(store.clone())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
    assert!(error.to_string().contains("repair the index first"), "{error}");
    assert_eq!(packs(&store), before);
}

/// Snapshots that can be read whole.
fn sound_snapshots(store: &MemoryStore) -> Vec<SnapshotId> {
    let repository = open(store.clone());
    let bad = lost(&repository);
    let ids = repository.snapshots().unwrap().snapshots.into_iter().map(|listed| listed.snapshot.id);
    ids.filter(|id| bad.iter().all(|bad| bad.snapshot.id != *id)).collect()
}

/// Kills `work` at each change it makes to a copy of `store`; then `check` looks at what it left.
fn kill_everywhere(
    store: &MemoryStore,
    work: impl Fn(&Repository) -> Result<()>,
    check: impl Fn(&MemoryStore),
) -> u64 {
    let faulty = FaultyStore::new(copy(store), FaultPlan::none().changes_only());
    work(&open(faulty.clone())).unwrap();
    let operations = faulty.operations();
    for operation in 0..operations {
        for fault in [Fault::CrashBefore, Fault::CrashAfter] {
            let store = copy(store);
            let faulty = FaultyStore::new(store.clone(), FaultPlan::at(operation, fault).changes_only());
            let _ = work(&open(faulty.clone()));
            assert!(faulty.crashed(), "{operation} {fault:?}");
            check(&store);
        }
    }
    operations
}

#[test]
fn killed_at_any_change_a_repair_loses_nothing_and_the_next_one_finishes() {
    let (store, repository) = init();
    store_files(&repository, 0..40).unwrap();
    store_files(&repository, 40..45).unwrap();
    let whole = sound_snapshots(&store);
    let pack = packs(&store).into_iter().max_by_key(|pack| store.get(pack).unwrap().len()).unwrap();
    flip(&store, &pack, 1000);
    let lost_before = findings(&store).iter().filter(|finding| !finding.snapshots.is_empty()).count();
    let operations = kill_everywhere(
        &store,
        |repository| mend_packs(repository).map(drop),
        |store| {
            // What was lost is lost, and nothing else.
            let lost_now = findings(store).iter().filter(|finding| !finding.snapshots.is_empty()).count();
            assert!(lost_now <= lost_before, "{lost_now} instead of {lost_before}");
            mend_packs(&open(store.clone())).unwrap();
            store_files(&open(store.clone()), 0..45).unwrap();
            assert_eq!(findings(store), []);
            assert_eq!(sound_snapshots(store).len(), whole.len() + 1);
        },
    );
    assert!(operations > 6, "{operations}");
    // The same for an index that is partly lost, with a pack that is damaged.
    let index = keys(&store, ObjectKind::Index);
    index.iter().for_each(|key| flip(&store, key, 100));
    let operations = kill_everywhere(
        &store,
        |repository| mend_index(repository).map(drop),
        |store| {
            mend_index(&open(store.clone())).unwrap();
            let lost_now = findings(store).iter().filter(|finding| !finding.snapshots.is_empty()).count();
            assert!(lost_now <= lost_before, "{lost_now} instead of {lost_before}");
            store_files(&open(store.clone()), 0..45).unwrap();
            assert_eq!(findings(store), []);
        },
    );
    assert!(operations > 3, "{operations}");
}

#[test]
fn a_writer_that_relied_on_a_damaged_pack_starts_over() {
    let store = forty_files();
    let pack = packs(&store)[0].clone();
    let writer = open(store.clone());
    let session = begin(&writer).unwrap();
    let snapshot = feed(&session, 0..40).unwrap();
    flip(&store, &pack, 1000);
    let done = mend_packs(&open(store.clone())).unwrap();
    assert_eq!(done.sessions_ended, 1);
    assert!(matches!(session.commit(&snapshot), Err(Error::Fenced)));
    store_files(&open(store.clone()), 0..40).unwrap();
    assert_sound(&store, 2);
}

/// A repository whose only snapshot lacks something, after its packs were repaired.
fn with_losses(of: ChunkKind) -> MemoryStore {
    let (store, repository) = init();
    store_files(&repository, 0..40).unwrap();
    let (pack, begin) = first_region(&store, &repository, of);
    flip(&store, &pack, begin + 100);
    mend_packs(&open(store.clone())).unwrap();
    store
}

/// The pack and place of a region of such chunks.
fn first_region(store: &MemoryStore, repository: &Repository, of: ChunkKind) -> (ObjectKey, usize) {
    let index = keys(store, ObjectKind::Index).remove(0);
    let object = IndexObject::decode(repository.keys(), &store.get(&index).unwrap()).unwrap();
    let found = object.packs.iter().find_map(|pack| {
        let regions = &pack.directory.regions;
        let number = regions.iter().position(|region| region.head.kind == of)?;
        let before: usize = regions[..number].iter().map(|region| region.head.stored_bytes as usize).sum();
        Some((ObjectKey::new(ObjectKind::Pack, &pack.name.0), HEADER_BYTES + before))
    });
    found.unwrap()
}

#[test]
fn a_snapshot_that_lacks_something_gets_a_copy_without_it() {
    let store = with_losses(ChunkKind::Data);
    let planned = lost(&open(store.clone()));
    assert_eq!(planned.len(), 1);
    assert!((1..=2).contains(&planned[0].entries_lost), "{planned:?}");
    assert_eq!(planned[0].lost.len() as u64, planned[0].entries_lost);
    assert_eq!(gc(&open(store.clone())).unwrap_err().kind(), ErrorKind::Damaged);
    let repaired = repair_snapshots(&open(store.clone()), &session_options(), false, &GO_ON).unwrap();
    let copy = repaired[0].copy.unwrap();
    let repository = open(store.clone());
    let list = repository.snapshots().unwrap();
    let copied = &list.find(&copy.to_string()).unwrap().snapshot;
    assert_eq!(copied.tags, [REPAIRED]);
    assert!(!copied.unhealthy.is_empty() && copied.sources[0].errors == repaired[0].entries_lost);
    assert_eq!(copied.sources[0].root.entries, 41 - repaired[0].entries_lost);
    // The damaged one stays, and is not copied again.
    let again = repair_snapshots(&repository, &session_options(), false, &GO_ON).unwrap();
    assert_eq!((again.len(), again[0].copy), (1, Some(copy)));
    assert_eq!(repository.snapshots().unwrap().snapshots.len(), 2);
    let forgotten = repair_snapshots(&repository, &session_options(), true, &GO_ON).unwrap();
    assert!(forgotten[0].is_forgotten);
    assert_sound(&store, 1);
    gc(&open(store.clone())).unwrap();
    assert_sound(&store, 1);
}

/// Entries of the only snapshot.
fn entries(store: &MemoryStore) -> Vec<(TreePath, Entry)> {
    let repository = open(store.clone());
    let snapshot = repository.snapshots().unwrap().snapshots.remove(0).snapshot;
    let reader = ChunkReader::new(&repository);
    TreeCursor::new(&reader, snapshot.sources[0].root).map(Result::unwrap).collect()
}

#[test]
fn of_a_tree_that_is_lost_whole_a_folder_is_left() {
    let store = with_losses(ChunkKind::Tree);
    let repaired = repair_snapshots(&open(store.clone()), &session_options(), true, &GO_ON).unwrap();
    assert!(repaired[0].entries_lost == 41 && repaired[0].is_forgotten);
    assert_sound(&store, 1);
    let left = entries(&store);
    assert!(left.len() == 1 && left[0].0.is_root() && left[0].1.is_directory(), "{left:?}");
}

#[test]
fn a_lost_tree_node_costs_its_entries_and_a_folder_takes_the_place_of_one_whose_entry_is_lost() {
    let (store, repository) = init();
    let session = begin(&repository).unwrap();
    // Folders in folders, with entries that do not compress.
    let mut sink = ChunkSink::new(&session).unwrap();
    let mut builder = TreeBuilder::new(repository.keys());
    let mut paths = vec![TreePath::root()];
    for number in 0..20_000 {
        let folder = format!("{:02}/{:03}", number / 2000, number / 100);
        let parts = [format!("{:02}", number / 2000), folder.clone(), format!("{folder}/{number:05}")];
        paths.extend(parts.iter().map(|path| TreePath::from_slashes(path.as_bytes()).unwrap()));
    }
    paths.sort();
    paths.dedup();
    for (path, inode) in paths.iter().zip(0u64..) {
        let inode = repository.keys().key_hash("inode", &inode.to_le_bytes()) >> 1 | 1;
        let metadata = Metadata { inode, ..Metadata::default() };
        let entry = match path.depth() {
            3 => Entry { node: Node::Fifo, metadata, link: None, torn: false },
            _ => Entry::directory(metadata),
        };
        builder.push(path, &entry, &mut |node| sink.add(ChunkKind::Tree, &node)).unwrap();
    }
    let root = builder.finish(&mut |node| sink.add(ChunkKind::Tree, &node)).unwrap();
    sink.flush().unwrap();
    session.commit(&snapshot_of(root)).unwrap();
    let pack = &packs(&store)[0];
    let (bytes, mut partial) = (store.get(pack).unwrap().len(), 0);
    for at in (1000..bytes).step_by(bytes / 7) {
        let damaged = copy(&store);
        flip(&damaged, pack, at);
        mend_packs(&open(damaged.clone())).unwrap();
        let repaired = repair_snapshots(&open(damaged.clone()), &session_options(), true, &GO_ON).unwrap();
        let Some(repaired) = repaired.first() else { continue };
        assert_sound(&damaged, 1);
        let left = entries(&damaged);
        let known: HashSet<&TreePath> = left.iter().map(|(path, _)| path).collect();
        assert!(left.iter().all(|(path, _)| path.parent().is_none_or(|parent| known.contains(&parent))));
        let made = left.iter().filter(|(_, entry)| entry.metadata.inode == 0).count() as u64;
        assert_eq!(left.len() as u64 - made + repaired.entries_lost, paths.len() as u64, "at {at}");
        partial += u64::from(left.len() > 100);
    }
    assert!(partial > 0, "no damage left more than the root");
}

#[test]
fn killed_at_any_change_a_repair_of_snapshots_keeps_the_damaged_ones_or_their_copies() {
    let store = with_losses(ChunkKind::Data);
    let repair =
        |repository: &Repository| repair_snapshots(repository, &session_options(), true, &GO_ON).map(drop);
    kill_everywhere(&store, repair, |store| {
        assert!(!open(store.clone()).snapshots().unwrap().snapshots.is_empty());
        repair(&open(store.clone())).unwrap();
        assert_sound(store, 1);
    });
}
