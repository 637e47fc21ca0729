//! Copies between repositories.

use crate::place::{Place, assert_same, assert_sound, open, session};
use crate::scene::noise;
use lifeboat::bundle::{Copied, Counters, Error, copy};
use lifeboat::format::ObjectKind;
use lifeboat::format::snapshot::{Snapshot, SnapshotKind};
use lifeboat_repo::Repository;
use lifeboat_store::{CountingStore, Fault, FaultPlan, FaultyStore, Operation, Store};

/// A repository with three snapshots of a tree.
fn sender() -> (tempfile::TempDir, Place, Vec<Snapshot>) {
    let (folder, place) = (tempfile::tempdir().unwrap(), Place::new());
    let mut snapshots = Vec::new();
    for round in 0..3 {
        std::fs::write(folder.path().join("same"), noise("same", 400_000)).unwrap();
        std::fs::write(folder.path().join(format!("file {round}")), noise(&round.to_string(), 200_000))
            .unwrap();
        snapshots.push(place.snapshot(&[folder.path()], SnapshotKind::Incremental));
    }
    (folder, place, snapshots)
}

fn copy_one(from: &Repository, to: &Repository, snapshot: &Snapshot) -> Result<Copied, Error> {
    copy(from, to, snapshot, session(), &Counters::default())
}

#[test]
fn copies_are_the_same_and_read_and_store_only_what_is_new() {
    let (_folder, from, snapshots) = sender();
    let to = Place::new();
    let counting = CountingStore::new(from.store.clone());
    let reading = open(counting);
    for (number, snapshot) in snapshots.iter().enumerate() {
        let copied = copy_one(&reading, &to.repository, snapshot).unwrap();
        assert!(!copied.was_there);
        assert_eq!(copied.base.is_some(), number > 0);
        let expected = if number == 0 { 600_000 } else { 200_000 };
        assert_eq!(copied.totals.bytes, expected);
        assert!(copied.stored_bytes < expected + 20_000, "{}", copied.stored_bytes);
        assert_same(&from, &to, snapshot);
    }
    to.assert_sound();
    let again = copy_one(&reading, &to.repository, &snapshots[1]).unwrap();
    assert!(again.was_there && again.totals.bytes == 0);
}

#[test]
fn a_newest_one_alone_is_copied_whole_and_an_older_one_afterwards_as_the_difference() {
    let (_folder, from, snapshots) = sender();
    let to = Place::new();
    assert_eq!(copy_one(&from.repository, &to.repository, &snapshots[2]).unwrap().totals.bytes, 1_000_000);
    let older = copy_one(&from.repository, &to.repository, &snapshots[0]).unwrap();
    assert_eq!((older.totals.bytes, older.base.map(|base| base.id)), (0, Some(snapshots[2].id)));
    assert_same(&from, &to, &snapshots[0]);
    assert_same(&from, &to, &snapshots[2]);
    to.assert_sound();
}

#[test]
fn a_copy_changes_nothing_where_it_reads() {
    let (_folder, from, snapshots) = sender();
    let counting = std::sync::Arc::new(CountingStore::new(from.store.clone()));
    let reading =
        Repository::open(counting.clone(), &lifeboat::Secret::KeyFile(&crate::place::key())).unwrap();
    copy_one(&reading, &Place::new().repository, &snapshots[2]).unwrap();
    for operation in [Operation::Put, Operation::Commit, Operation::Delete] {
        assert_eq!(counting.count_all(operation).operations, 0, "{operation:?}");
    }
}

#[test]
fn a_copy_that_is_killed_anywhere_goes_on_from_what_it_stored() {
    let (_folder, from, snapshots) = sender();
    let counting = FaultyStore::new(Place::new().store, FaultPlan::none());
    copy_one(&from.repository, &open(counting.clone()), &snapshots[2]).unwrap();
    let operations = counting.operations();
    let mut resumed = 0;
    for operation in 0..operations {
        for fault in [Fault::CrashBefore, Fault::CrashAfter] {
            let to = Place::new();
            let faulty = FaultyStore::new(to.store.clone(), FaultPlan::none());
            let repository = open(faulty.clone());
            faulty.restart(FaultPlan::at(operation, fault));
            let result = copy_one(&from.repository, &repository, &snapshots[2]);
            let (has, indexed) =
                (!to.snapshots().is_empty(), !to.store.list(ObjectKind::Index).unwrap().is_empty());
            assert!(has || result.is_err(), "an acknowledged copy is lost at {operation}");
            let repository = open(to.store.clone());
            let again = copy_one(&from.repository, &repository, &snapshots[2]).unwrap();
            assert_eq!(again.was_there, has);
            if indexed && !has {
                assert_eq!(again.stored_bytes, 0, "what was stored at {operation} is stored twice");
                resumed += 1;
            }
            assert_same(&from, &to, &snapshots[2]);
            assert_sound(&repository);
        }
    }
    assert!(resumed > 2, "{resumed}");
}

#[test]
fn where_the_sender_fails_at_any_read_nothing_is_listed_and_the_sender_is_blamed() {
    let (_folder, from, snapshots) = sender();
    let counting = FaultyStore::new(from.store.clone(), FaultPlan::none());
    copy_one(&open(counting.clone()), &Place::new().repository, &snapshots[2]).unwrap();
    for operation in 2..counting.operations() {
        let to = Place::new();
        let faulty = FaultyStore::new(from.store.clone(), FaultPlan::none());
        let reading = open(faulty.clone());
        faulty.restart(FaultPlan::at(operation - 2, Fault::CrashBefore));
        match copy_one(&reading, &to.repository, &snapshots[2]) {
            Ok(_) => assert!(!faulty.crashed(), "a copy went through without operation {operation}"),
            Err(error) => {
                assert!(matches!(error, Error::Repository(_)), "{operation}: {error:?}");
                assert!(to.snapshots().is_empty());
            }
        }
    }
}
