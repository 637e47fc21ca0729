//! Promises of a collection, over a store in memory: killed at every operation, beside writers, beside others of its kind.

#![allow(clippy::unwrap_used)] // Helpers of tests are not `#[test]` functions themselves.

mod place;

use lifeboat_format::condemned::Sentence;
use lifeboat_format::region::ChunkKind;
use lifeboat_format::snapshot::Snapshot;
use lifeboat_format::{ChunkId, ObjectKey, ObjectKind, PackName, SessionId};
use lifeboat_repo::check::{Depth, Progress as CheckProgress, check};
use lifeboat_repo::collect::{Progress, Room, plan};
use lifeboat_repo::{Error, ErrorKind};
use lifeboat_store::{Fault, FaultPlan, FaultyStore, MemoryStore, Store};
use place::*;
use std::sync::atomic::{AtomicBool, Ordering};

/// A repository with one snapshot, and the packs of another one that was forgotten. One index object names packs of both.
fn with_garbage() -> (MemoryStore, Vec<ObjectKey>) {
    let (store, repository) = init();
    store_files(&repository, 0..40).unwrap();
    let kept = packs(&store);
    let forgotten = store_files(&repository, 40..80).unwrap();
    forget(&store, forgotten);
    let objects: Vec<_> = store.list(ObjectKind::Index).unwrap();
    let mut all = Vec::new();
    for listed in &objects {
        let bytes = store.get(&listed.key).unwrap();
        all.extend(lifeboat_format::index::IndexObject::decode(repository.keys(), &bytes).unwrap().packs);
    }
    let merged = lifeboat_format::index::IndexObject::new(all);
    let (name, bytes) = merged.encode(repository.keys()).unwrap();
    store.put(&ObjectKey::new(ObjectKind::Index, &name.0), &bytes).unwrap();
    objects.iter().for_each(|listed| store.delete(&listed.key).unwrap());
    (store, kept)
}

#[test]
fn space_returns_and_what_is_reached_stays() {
    let (store, kept) = with_garbage();
    let planned = plan(&open(store.clone()), &Room::default(), &Progress::default()).unwrap();
    let before = packs(&store).len();
    let collected = gc(&open(store.clone())).unwrap();
    assert_eq!(collected.packs, planned.packs);
    assert_eq!((packs(&store), collected.packs.len()), (kept.clone(), before - kept.len()));
    assert!(collected.bytes() >= 40 * FILE_BYTES as u64);
    assert_sound(&store, 1);
    assert_nothing_left_behind(&store);
    let again = gc(&open(store.clone())).unwrap();
    assert!(again.packs.is_empty());
    let other = open(store.clone());
    store_files(&other, 40..80).unwrap();
    assert_sound(&store, 2);
}

#[test]
fn a_plan_changes_nothing() {
    let (store, _) = with_garbage();
    let faulty = FaultyStore::new(store, FaultPlan::none().changes_only());
    plan(&open(faulty.clone()), &Room::default(), &Progress::default()).unwrap();
    assert_eq!(faulty.operations(), 0);
}

/// What a killed collection left: nothing is lost, writers can go on, and the next one finishes.
fn assert_recovers(store: &MemoryStore, kept: &[ObjectKey]) {
    assert_sound(store, 1);
    let writer = store_files(&open(store.clone()), 20..60).unwrap();
    assert_sound(store, 2);
    forget(store, writer);
    gc(&open(store.clone())).unwrap();
    // A list of a dead collector is put away by the first that finds its packs gone.
    gc(&open(store.clone())).unwrap();
    assert_sound(store, 1);
    assert_eq!(packs(store), kept);
    assert_nothing_left_behind(store);
}

#[test]
fn killed_at_any_change_a_collection_loses_nothing_and_the_next_one_finishes() {
    let (store, kept) = with_garbage();
    let faulty = FaultyStore::new(copy(&store), FaultPlan::none().changes_only());
    gc(&open(faulty.clone())).unwrap();
    let operations = faulty.operations();
    assert!(operations > 8, "{operations} changes");
    for operation in 0..operations {
        for fault in [Fault::CrashBefore, Fault::CrashAfter] {
            let store = copy(&store);
            let faulty = FaultyStore::new(store.clone(), FaultPlan::at(operation, fault).changes_only());
            let _ = gc(&open(faulty.clone()));
            assert!(faulty.crashed(), "{operation} {fault:?}");
            assert_recovers(&store, &kept);
        }
    }
}

#[test]
fn no_failing_operation_of_a_collection_loses_anything() {
    let (store, kept) = with_garbage();
    let faulty = FaultyStore::new(copy(&store), FaultPlan::none());
    let repository = open(faulty.clone());
    faulty.restart(FaultPlan::none());
    gc(&repository).unwrap();
    for operation in 0..faulty.operations() {
        for fault in [Fault::Before, Fault::After] {
            let store = copy(&store);
            let faulty = FaultyStore::new(store.clone(), FaultPlan::none());
            let repository = open(faulty.clone());
            faulty.restart(FaultPlan::at(operation, fault));
            let _ = gc(&repository);
            assert_recovers(&store, &kept);
        }
    }
}

#[test]
fn backups_go_on_while_collections_run() {
    let (store, repository) = init();
    store_files(&repository, 0..10).unwrap();
    let done = AtomicBool::new(false);
    let collections = std::thread::scope(|scope| {
        let collector = scope.spawn(|| {
            let mut collections = 0;
            while !done.load(Ordering::Relaxed) {
                // A grace of zero ends whatever runs: the hardest case for writers.
                collections += u64::from(gc(&open(store.clone())).is_ok());
            }
            collections
        });
        for round in 1..30 {
            let mut last = None;
            while last.is_none() {
                match store_files(&open(store.clone()), round..round + 10) {
                    Ok(session) => last = Some(session),
                    Err(Error::Fenced) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            if round % 3 > 0 {
                forget(&store, last.unwrap());
            }
        }
        done.store(true, Ordering::Relaxed);
        collector.join().unwrap()
    });
    assert!(collections > 0);
    gc(&open(store.clone())).unwrap();
    assert_sound(&store, 10);
    assert_nothing_left_behind(&store);
}

#[test]
fn a_writer_beside_a_condemned_list_relies_on_nothing_that_it_names() {
    let (store, _) = with_garbage();
    let repository = open(store.clone());
    let condemned: Vec<PackName> =
        plan(&repository, &Room::default(), &Progress::default()).unwrap().packs.keys().copied().collect();
    let collector = SessionId([9; 16]);
    let bytes = Sentence::Condemned.encode(repository.keys(), collector, &condemned).unwrap();
    store.put(&Sentence::Condemned.key(collector), &bytes).unwrap();
    let session = begin(&repository).unwrap();
    assert!(!session.may_pin());
    let id = |number| repository.keys().chunk_id(ChunkKind::Data, &noise(&repository, number));
    let ids: Vec<ChunkId> = vec![id(0), id(50)];
    assert_eq!(session.has(&ids).unwrap(), [true, false]);
    session.commit(&feed(&session, 30..60).unwrap()).unwrap();
    // As the collector would: no index object names them any more when they go.
    for listed in store.list(ObjectKind::Index).unwrap() {
        let bytes = store.get(&listed.key).unwrap();
        let mut packs = lifeboat_format::index::IndexObject::decode(repository.keys(), &bytes).unwrap().packs;
        packs.retain(|pack| !condemned.contains(&pack.name));
        let (name, bytes) =
            lifeboat_format::index::IndexObject::new(packs).encode(repository.keys()).unwrap();
        store.put(&ObjectKey::new(ObjectKind::Index, &name.0), &bytes).unwrap();
        store.delete(&listed.key).unwrap();
    }
    for pack in &condemned {
        store.delete(&ObjectKey::new(ObjectKind::Pack, &pack.0)).unwrap();
    }
    let report = check(&open(store), Depth::Data, &CheckProgress::default()).unwrap();
    assert!(report.findings.iter().all(|finding| finding.snapshots.is_empty()), "{:?}", report.findings);
}

#[test]
fn a_list_that_cannot_be_read_is_no_reason_to_ignore_it() {
    let (store, repository) = init();
    store.put(&Sentence::Condemned.key(SessionId([9; 16])), b"list").unwrap();
    assert!(begin(&repository).is_err());
    assert!(store.list(ObjectKind::Intent).unwrap().is_empty(), "a refused session leaves no intent");
}

#[test]
fn a_session_that_stands_still_is_ended_and_starts_over() {
    let (store, _) = with_garbage();
    let repository = open(store.clone());
    let session = begin(&repository).unwrap();
    let snapshot = feed(&session, 30..60).unwrap();
    let collected = gc(&open(store.clone())).unwrap();
    assert_eq!(collected.sessions_ended, 1);
    assert!(matches!(session.commit(&snapshot), Err(Error::Fenced)));
    assert_sound(&store, 1);
    store_files(&open(store.clone()), 30..60).unwrap();
    assert_sound(&store, 2);
}

#[test]
fn what_a_checkpoint_needs_stays() {
    let (store, repository) = init();
    let session = begin(&repository).unwrap();
    let snapshot = feed(&session, 0..30).unwrap();
    session.settle().unwrap();
    session.checkpoint(&snapshot).unwrap();
    assert!(gc(&open(store.clone())).unwrap().packs.is_empty());
    store.delete(&ObjectKey::new(ObjectKind::Checkpoint, &session.id().0)).unwrap();
    assert!(!gc(&open(store)).unwrap().packs.is_empty());
}

#[test]
fn what_the_draft_of_a_session_needs_stays_although_the_session_was_ended() {
    let (empty, _) = init();
    // Killed when the draft is there and the snapshot is not.
    let store = (0..)
        .map(|operation| {
            let store = copy(&empty);
            let plan = FaultPlan::at(operation, Fault::CrashAfter).changes_only();
            let killed = store_files(&open(FaultyStore::new(store.clone(), plan)), 0..30);
            assert!(killed.is_err(), "no draft was left");
            store
        })
        .find(|store| !store.list(ObjectKind::Draft).unwrap().is_empty())
        .unwrap();
    let before = packs(&store);
    let collected = gc(&open(store.clone())).unwrap();
    let gone: Vec<ObjectKey> =
        collected.packs.keys().map(|pack| ObjectKey::new(ObjectKind::Pack, &pack.0)).collect();
    assert!(before.iter().any(|pack| !gone.contains(pack)));
    let draft = store.list(ObjectKind::Draft).unwrap()[0].key.clone();
    let session = SessionId(draft.name().try_into().unwrap());
    let repository = open(store.clone());
    let bytes = store.get(&draft).unwrap();
    let snapshot = Snapshot::decode(ObjectKind::Draft, repository.keys(), session, &bytes).unwrap();
    let listed = begin(&repository).unwrap();
    listed.commit(&snapshot).unwrap();
    assert_sound(&store, 1);
}

#[test]
fn a_damaged_repository_is_not_collected_and_the_damage_is_named() {
    let (store, kept) = with_garbage();
    for object in kept.into_iter().chain(store.list(ObjectKind::Index).unwrap().into_iter().map(|l| l.key)) {
        let damaged = copy(&store);
        damaged.delete(&object).unwrap();
        let before = packs(&damaged);
        let error = gc(&open(damaged.clone())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{object:?}: {error}");
        assert_eq!(packs(&damaged), before);
        assert_nothing_left_behind(&damaged);
    }
}

/// A snapshot of every fourth file of another one that was forgotten: most of each pack is unused.
fn with_sparse_packs() -> (MemoryStore, u64) {
    let (store, repository) = init();
    let first = store_files(&repository, 0..80).unwrap();
    let session = begin(&repository).unwrap();
    let snapshot = feed_numbers(&session, (0..80).step_by(4)).unwrap();
    session.commit(&snapshot).unwrap();
    forget(&store, first);
    let bytes = store.list(ObjectKind::Pack).unwrap().iter().map(|listed| listed.bytes).sum();
    (store, bytes)
}

fn pack_bytes(store: &MemoryStore) -> u64 {
    store.list(ObjectKind::Pack).unwrap().iter().map(|listed| listed.bytes).sum()
}

#[test]
fn packs_of_which_little_is_needed_are_rewritten() {
    let (store, before) = with_sparse_packs();
    let none = Room { moved_bytes_max: 0, ..Room::default() };
    gc_with(&open(store.clone()), none).unwrap();
    assert!(pack_bytes(&store) > before / 2, "nothing may be moved");
    let collected = gc(&open(store.clone())).unwrap();
    assert!(collected.packs_moved > 0 && collected.moved_bytes > 0);
    assert!(pack_bytes(&store) < before * 2 / 5, "{} of {before}", pack_bytes(&store));
    assert_sound(&store, 1);
    assert_nothing_left_behind(&store);
    let again = gc(&open(store.clone())).unwrap();
    assert_eq!((again.packs.len(), again.packs_moved), (0, 0));
}

#[test]
fn killed_at_any_change_a_rewriting_loses_nothing_and_the_next_one_finishes() {
    let (store, before) = with_sparse_packs();
    let faulty = FaultyStore::new(copy(&store), FaultPlan::none().changes_only());
    gc(&open(faulty.clone())).unwrap();
    for operation in 0..faulty.operations() {
        for fault in [Fault::CrashBefore, Fault::CrashAfter] {
            let store = copy(&store);
            let faulty = FaultyStore::new(store.clone(), FaultPlan::at(operation, fault).changes_only());
            let _ = gc(&open(faulty.clone()));
            assert_sound(&store, 1);
            store_files(&open(store.clone()), 40..60).map(|session| forget(&store, session)).unwrap();
            gc(&open(store.clone())).unwrap();
            gc(&open(store.clone())).unwrap();
            assert_sound(&store, 1);
            assert_nothing_left_behind(&store);
            assert!(pack_bytes(&store) < before / 2, "{operation} {fault:?}: {}", pack_bytes(&store));
        }
    }
}

#[test]
fn many_small_packs_and_index_objects_are_merged() {
    let (store, repository) = init();
    for number in 0..20 {
        store_files(&repository, number..number + 1).unwrap();
    }
    assert!(packs(&store).len() >= 20 && store.list(ObjectKind::Index).unwrap().len() >= 20);
    gc(&open(store.clone())).unwrap();
    assert!(packs(&store).len() <= 5, "{}", packs(&store).len());
    assert!(store.list(ObjectKind::Index).unwrap().len() <= 4);
    assert_sound(&store, 20);
    assert_nothing_left_behind(&store);
}
