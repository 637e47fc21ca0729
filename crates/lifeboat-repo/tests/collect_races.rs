//! The races of a collection, in the code: whoever sleeps at any operation wakes in another world, and nothing is lost.
//!
//! The model in `collection_model/` explores every order of the steps; this sees that the code takes the steps of the model.

#![allow(clippy::unwrap_used)] // Helpers of tests are not `#[test]` functions themselves.

mod place;

use lifeboat_format::ObjectKind;
use lifeboat_format::snapshot::Snapshot;
use lifeboat_repo::check::{Depth, Progress as CheckProgress, check};
use lifeboat_repo::session::{Session, SessionOptions};
use lifeboat_repo::{Error, Repository};
use lifeboat_store::{CountingStore, Fault, FaultPlan, FaultyStore, MemoryStore, Operation, Store};
use place::meanwhile::Meanwhile;
use place::*;

/// Snapshots of forgotten files, in packs of their own and in sparse ones: there is something to delete and to rewrite.
fn scene() -> MemoryStore {
    let (store, repository) = init();
    let first = store_files(&repository, 0..30).unwrap();
    let session = begin(&repository).unwrap();
    session.commit(&feed_numbers(&session, (0..30).step_by(4)).unwrap()).unwrap();
    let second = store_files(&repository, 30..40).unwrap();
    forget(&store, first);
    forget(&store, second);
    store
}

/// Everything that is listed reads back.
#[track_caller]
fn assert_whole(store: &MemoryStore, what: &str) {
    let report = check(&open(store.clone()), Depth::Data, &CheckProgress::default()).unwrap();
    let touched: Vec<_> = report.findings.iter().filter(|finding| !finding.snapshots.is_empty()).collect();
    assert!(touched.is_empty(), "{what}: {touched:?}");
}

/// Two collections finish whatever was left, and then everything is sound.
#[track_caller]
fn assert_settles(store: &MemoryStore, what: &str) {
    assert_whole(store, what);
    gc(&open(store.clone())).unwrap();
    gc(&open(store.clone())).unwrap();
    let report = check(&open(store.clone()), Depth::Data, &CheckProgress::default()).unwrap();
    assert!(report.findings.is_empty(), "{what}: {:?}", report.findings);
    for kind in [ObjectKind::Condemned, ObjectKind::Verdict, ObjectKind::Intent] {
        assert!(store.list(kind).unwrap().is_empty(), "{what}: {kind:?}");
    }
}

/// What happens while somebody sleeps.
type Deed = fn(&MemoryStore);

fn another_collection(store: &MemoryStore) {
    let _ = gc(&open(store.clone()));
}

/// Somebody stores what was garbage a moment ago.
fn a_writer(store: &MemoryStore) {
    store_files(&open(store.clone()), 10..35).unwrap();
}

/// A week: writers, collections, and the oldest snapshot goes.
fn a_week(store: &MemoryStore) {
    let repository = open(store.clone());
    store_files(&repository, 25..45).unwrap();
    let _ = gc(&open(store.clone()));
    let oldest = repository.snapshots().unwrap().snapshots.remove(0).session;
    forget(store, oldest);
    let _ = gc(&open(store.clone()));
    store_files(&open(store.clone()), 0..12).unwrap();
}

const DEEDS: [(&str, Deed); 3] =
    [("another collection", another_collection), ("a writer", a_writer), ("a week", a_week)];

#[test]
fn a_collector_that_sleeps_at_any_operation_wakes_to_no_harm() {
    let store = scene();
    let counting = Meanwhile::counting(copy(&store));
    let repository = open(counting.clone());
    let before = counting.operations();
    gc(&repository).unwrap();
    let operations = counting.operations();
    assert!(operations > 40, "{operations}");
    for operation in before..operations {
        for (name, deed) in DEEDS {
            let store = copy(&store);
            let shared = store.clone();
            let sleepy = Meanwhile::at(store.clone(), operation, move || deed(&shared));
            // Ended by the other one, or not.
            let _ = gc(&open(sleepy));
            assert_settles(&store, &format!("{name} at operation {operation}"));
        }
    }
}

#[test]
fn a_writer_that_sleeps_at_any_operation_lists_what_is_whole_or_starts_over() {
    let store = scene();
    let write = |repository: &Repository| store_files(repository, 5..45);
    let counting = Meanwhile::counting(copy(&store));
    let repository = open(counting.clone());
    let before = counting.operations();
    write(&repository).unwrap();
    let mut fenced = 0;
    for operation in before..counting.operations() {
        for (name, deed) in DEEDS {
            let store = copy(&store);
            let shared = store.clone();
            let sleepy = Meanwhile::at(store.clone(), operation, move || deed(&shared));
            match write(&open(sleepy)) {
                Ok(_) => {}
                Err(Error::Fenced) => fenced += 1,
                Err(error) => panic!("{name} at operation {operation}: {error}"),
            }
            assert_settles(&store, &format!("{name} at operation {operation}"));
        }
    }
    assert!(fenced > 0, "nobody was ever ended");
}

/// Carries everything over from the newest snapshot, unseen, as an incremental one does.
fn carry_over(repository: &Repository) -> Result<(), Error> {
    let Some(parent) = repository.snapshots()?.snapshots.pop() else { return Ok(()) };
    let roots = parent.snapshot.sources.iter().map(|source| source.root.id).collect();
    let session = Session::begin(repository, SessionOptions { compression_level: 3, host: HOST }, roots)?;
    let snapshot: Snapshot = snapshot_of(parent.snapshot.sources[0].root);
    // What is not pinned would be looked up; here it is given up.
    if session.may_pin() && repository.is_listed(parent.session)? && repository.lookup()?.is_whole() {
        session.commit(&snapshot)
    } else {
        session.abandon();
        Ok(())
    }
}

/// Its parent is forgotten, and its packs collected.
fn the_parent_is_forgotten(store: &MemoryStore) {
    if let Some(parent) = open(store.clone()).snapshots().unwrap().snapshots.pop() {
        forget(store, parent.session);
    }
    let _ = gc(&open(store.clone()));
}

#[test]
fn a_writer_whose_parent_is_forgotten_meanwhile_lists_what_is_whole_or_nothing() {
    let store = scene();
    let counting = Meanwhile::counting(copy(&store));
    let repository = open(counting.clone());
    let before = counting.operations();
    carry_over(&repository).unwrap();
    for operation in before..counting.operations() {
        let store = copy(&store);
        let shared = store.clone();
        let sleepy = Meanwhile::at(store.clone(), operation, move || the_parent_is_forgotten(&shared));
        match carry_over(&open(sleepy)) {
            Ok(()) | Err(Error::Fenced) => {}
            Err(error) => panic!("operation {operation}: {error}"),
        }
        assert_settles(&store, &format!("operation {operation}"));
    }
}

#[test]
fn a_restore_that_sleeps_while_packs_are_rewritten_reads_on() {
    let store = scene();
    let read = |repository: &Repository| {
        let snapshot = repository.snapshots().unwrap().snapshots.remove(0).snapshot;
        let reader = lifeboat_repo::reader::ChunkReader::new(repository);
        for entry in lifeboat_repo::cursor::TreeCursor::new(&reader, snapshot.sources[0].root) {
            let (_, entry) = entry.unwrap();
            if let lifeboat_format::Node::File { content: lifeboat_format::Content::Chunk(id), .. } =
                entry.node
            {
                reader.read_into(lifeboat_format::region::ChunkKind::Data, &id, &mut Vec::new()).unwrap();
            }
        }
    };
    let counting = Meanwhile::counting(copy(&store));
    let repository = open(counting.clone());
    let before = counting.operations();
    read(&repository);
    for operation in before..counting.operations() {
        let store = copy(&store);
        let shared = store.clone();
        let sleepy = Meanwhile::at(store.clone(), operation, move || another_collection(&shared));
        read(&open(sleepy));
    }
}

#[test]
fn an_index_cache_from_before_a_collection_names_nothing_that_is_gone() {
    let store = scene();
    let cache = tempfile::tempdir().unwrap();
    let cached = || open(store.clone()).with_cache(Some(cache.path().to_path_buf()));
    cached().lookup().unwrap();
    gc(&open(store.clone())).unwrap();
    store_files(&cached(), 0..40).unwrap();
    assert_settles(&store, "an old cache");
}

#[test]
fn no_failing_operation_of_a_rewriting_loses_anything() {
    let store = scene();
    let faulty = FaultyStore::new(copy(&store), FaultPlan::none());
    let repository = open(faulty.clone());
    faulty.restart(FaultPlan::none());
    gc(&repository).unwrap();
    for operation in 0..faulty.operations() {
        for fault in [Fault::Before, Fault::After, Fault::Torn] {
            let store = copy(&store);
            let faulty = FaultyStore::new(store.clone(), FaultPlan::none());
            let repository = open(faulty.clone());
            faulty.restart(FaultPlan::at(operation, fault));
            let _ = gc(&repository);
            assert_whole(&store, &format!("{fault:?} at operation {operation}"));
        }
    }
}

/// Objects of a kind.
fn count(store: &MemoryStore, kind: ObjectKind) -> u64 {
    store.list(kind).unwrap().len() as u64
}

#[test]
fn a_collection_reads_each_node_once_and_writes_little_more_than_what_it_moves() {
    let store = scene();
    let counted = CountingStore::new(store.clone());
    let repository = open(counted.clone());
    let indexes = count(&store, ObjectKind::Index);
    counted.reset();
    let collected = gc(&repository).unwrap();
    assert!(collected.packs_moved > 0);
    // Tree regions once, though everything is marked twice; data regions only of packs that are rewritten.
    let read = counted.reads_of(ObjectKind::Pack);
    assert_eq!(read.bytes, collected.read_bytes);
    let moved = collected.moved_bytes;
    assert!(read.bytes < 2 * moved + (512 << 10), "{} bytes read to move {moved}", read.bytes);
    // Each index object: to bring the index up to date, to survey, to copy, to replace.
    assert!(
        counted.reads_of(ObjectKind::Index).operations <= 5 * indexes + 4,
        "{indexes}: {:?}",
        counted.counts()
    );
    let written = counted.writes_of(ObjectKind::Pack);
    assert!(written.bytes <= moved + (64 << 10), "{} bytes written to move {moved}", written.bytes);
    let written = |kind| counted.writes_of(kind).operations;
    assert_eq!((written(ObjectKind::Condemned), written(ObjectKind::Verdict)), (1, 1));
    assert!(counted.count_all(Operation::List).operations < 60, "{:?}", counted.counts());
    // Nothing to do costs no write but the intent's.
    counted.reset();
    gc(&open(counted.clone())).unwrap();
    let packs =
        counted.writes_of(ObjectKind::Pack).operations + counted.writes_of(ObjectKind::Index).operations;
    assert_eq!(packs, 0);
}
