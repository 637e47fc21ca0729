//! Tags and pins change, and whatever dies or interferes, each snapshot is listed once and stays whole.

#![allow(clippy::unwrap_used)] // Helpers of tests are not `#[test]` functions themselves.

use lifeboat_format::config::Parameters;
use lifeboat_format::region::ChunkKind;
use lifeboat_format::seal::Key;
use lifeboat_format::slot::Secret;
use lifeboat_format::snapshot::{Snapshot, Source, SourceKind, TreeRoot};
use lifeboat_format::{
    Entry, HostId, Metadata, ObjectKey, ObjectKind, SessionId, SnapshotId, Timestamp, TreePath,
};
use lifeboat_repo::amend::{Amendment, amend};
use lifeboat_repo::check::{Depth, Progress, check};
use lifeboat_repo::retention::group::Grouping;
use lifeboat_repo::retention::{apply, plan_named};
use lifeboat_repo::session::{Session, SessionOptions};
use lifeboat_repo::sink::ChunkSink;
use lifeboat_repo::tree::TreeBuilder;
use lifeboat_repo::{Error, Repository};
use lifeboat_store::{Fault, FaultPlan, FaultyStore, MemoryStore, Store};
use std::collections::HashSet;
use std::sync::{Arc, Barrier};

const HOST: HostId = HostId([7; 16]);

/// A key file costs no time, and here are many openings.
fn key() -> Key {
    Key::new([3; 32])
}

fn open(store: impl Store + 'static) -> Repository {
    Repository::open(Arc::new(store), &Secret::KeyFile(&key())).unwrap()
}

/// A store with a repository and one snapshot of an empty folder.
fn with_snapshot() -> (MemoryStore, SnapshotId) {
    let store = MemoryStore::new();
    let repository = Repository::init(
        Arc::new(store.clone()),
        Parameters::default(),
        &Secret::KeyFile(&key()),
        "",
        Timestamp::default(),
    )
    .unwrap();
    let session =
        Session::begin(&repository, SessionOptions { compression_level: 3, host: HOST }, vec![]).unwrap();
    let mut sink = ChunkSink::new(&session).unwrap();
    let mut builder = TreeBuilder::new(repository.keys());
    let mut put = |node: Vec<u8>| sink.add(ChunkKind::Tree, &node);
    builder.push(&TreePath::root(), &Entry::directory(Metadata::default()), &mut put).unwrap();
    let root = builder.finish(&mut put).unwrap();
    sink.flush().unwrap();
    let snapshot = snapshot_of(root);
    session.commit(&snapshot).unwrap();
    (store, snapshot.id)
}

fn snapshot_of(root: TreeRoot) -> Snapshot {
    Snapshot {
        complete: true,
        host: "host".into(),
        user: "user".into(),
        sequence: 1,
        started: Timestamp { seconds: 1, nanos: 0 },
        finished: Timestamp { seconds: 2, nanos: 0 },
        tags: vec!["old".into()],
        program: "test".into(),
        sources: vec![Source::new(SourceKind::Path, b"/srv", root)],
        ..Snapshot::new(SnapshotId::random(), HOST)
    }
}

fn add(tag: &str) -> Amendment {
    Amendment { add: vec![tag.to_owned()], ..Amendment::default() }
}

fn pin(pinned: bool) -> Amendment {
    Amendment { pinned: Some(pinned), ..Amendment::default() }
}

/// The only snapshot.
fn only(repository: &Repository) -> Snapshot {
    let mut list = repository.snapshots().unwrap();
    assert!(list.damaged.is_empty() && list.snapshots.len() == 1, "{list:?}");
    let listed = list.snapshots.remove(0);
    // Of several objects a writer takes the same one.
    let history = repository.history().unwrap();
    assert_eq!(history.newest(|_| true).map(|newest| newest.session), Some(listed.session));
    assert!(history.newest(|snapshot| snapshot.id != listed.snapshot.id).is_none());
    listed.snapshot
}

fn count(store: &MemoryStore, kind: ObjectKind) -> usize {
    store.list(kind).unwrap().len()
}

fn assert_sound(repository: &Repository) {
    let report = check(repository, Depth::Data, &Progress::default()).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

#[test]
fn tags_and_pin_change_and_all_else_stays() {
    let (store, id) = with_snapshot();
    let repository = open(store.clone());
    let before = only(&repository);
    let amendment = Amendment {
        add: vec!["b".into(), "a".into(), "b".into()],
        remove: vec!["old".into(), "absent".into()],
        ..pin(true)
    };
    let changed = amend(&repository, id, &amendment, HOST).unwrap().unwrap();
    assert_eq!(changed, only(&repository));
    let tags = vec!["a".into(), "b".into()];
    assert_eq!(changed, Snapshot { tags, pinned: true, revision: 1, ..before });
    let set = Amendment { set: Some(vec![]), ..Amendment::default() };
    assert_eq!(amend(&repository, id, &set, HOST).unwrap().unwrap().tags, [""; 0]);
    for kind in [ObjectKind::Draft, ObjectKind::Intent, ObjectKind::Checkpoint] {
        assert_eq!(count(&store, kind), 0, "{kind:?}");
    }
    assert_eq!(count(&store, ObjectKind::Snapshot), 1);
    assert_sound(&repository);
}

#[test]
fn what_changes_nothing_writes_nothing() {
    let (store, id) = with_snapshot();
    let store = FaultyStore::new(store, FaultPlan::none().changes_only());
    let repository = open(store.clone());
    assert_eq!(amend(&repository, id, &add("old"), HOST).unwrap(), None);
    assert_eq!(amend(&repository, id, &pin(false), HOST).unwrap(), None);
    assert_eq!(store.operations(), 0);
    let absent = amend(&repository, SnapshotId::random(), &add("new"), HOST);
    assert!(matches!(absent, Err(Error::NoSnapshot(_))));
}

#[test]
fn killed_at_any_operation_the_snapshot_is_listed_once_as_it_was_or_as_it_should_be() {
    let (store, id) = with_snapshot();
    let counting = FaultyStore::new(store, FaultPlan::none());
    amend(&open(counting.clone()), id, &pin(true), HOST).unwrap().unwrap();
    let operations = counting.operations();
    assert!(operations > 8, "{operations}");
    let mut seen = HashSet::new();
    for operation in 0..operations {
        for fault in [Fault::CrashBefore, Fault::CrashAfter] {
            let (store, id) = with_snapshot();
            let faulty = FaultyStore::new(store.clone(), FaultPlan::none());
            let repository = open(faulty.clone());
            faulty.restart(FaultPlan::at(operation, fault));
            let result = amend(&repository, id, &pin(true), HOST);
            let repository = open(store.clone());
            let after = only(&repository);
            assert_eq!(after.id, id);
            assert!(result.is_err() || after.pinned, "an acknowledged change is lost at {operation}");
            seen.insert((after.pinned, count(&store, ObjectKind::Snapshot)));
            assert_sound(&repository);
            // The next change finishes what this one began.
            amend(&repository, id, &add("new"), HOST).unwrap().unwrap();
            assert_eq!(only(&repository).pinned, after.pinned);
            assert_eq!(count(&store, ObjectKind::Snapshot), 1);
        }
    }
    assert_eq!(seen, HashSet::from([(false, 1), (true, 2), (true, 1)]));
}

#[test]
fn all_changes_that_are_made_at_once_are_there_afterwards() {
    for _ in 0..20 {
        let (store, id) = with_snapshot();
        let barrier = Barrier::new(3);
        let acknowledged: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = ["one", "two", "three"]
                .map(|tag| {
                    let (repository, barrier) = (open(store.clone()), &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        match amend(&repository, id, &add(tag), HOST) {
                            Ok(_) => Some(tag.to_owned()),
                            Err(Error::Contended(_)) => None,
                            Err(error) => panic!("{error}"),
                        }
                    })
                })
                .into_iter()
                .collect();
            threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
        });
        let snapshot = only(&open(store.clone()));
        assert!(acknowledged.iter().all(|tag| snapshot.tags.contains(tag)), "{acknowledged:?}: {snapshot:?}");
        assert_eq!(count(&store, ObjectKind::Snapshot), 1);
    }
}

/// Puts an object of `snapshot` beside those there are, as a run does that dies right after.
fn put(repository: &Repository, snapshot: &Snapshot, session: SessionId) {
    let key = repository.keys().new_session();
    let bytes = snapshot.encode(ObjectKind::Snapshot, repository.keys(), session, &key).unwrap();
    repository.store().put(&ObjectKey::new(ObjectKind::Snapshot, &session.0), &bytes).unwrap();
}

#[test]
fn several_objects_of_a_snapshot_are_one_and_go_together() {
    let (store, id) = with_snapshot();
    let repository = open(store.clone());
    let old = only(&repository);
    let of = |tag: &str, revision, pinned| Snapshot {
        tags: vec![tag.to_owned()],
        revision,
        pinned,
        ..old.clone()
    };
    // The pin of revision 0 is over; one of two rivals in revision 2 was pinned, and that counts.
    put(&repository, &of("stale", 1, true), SessionId([0xff; 16]));
    put(&repository, &of("greatest", 2, false), SessionId([9; 16]));
    assert!(!only(&repository).pinned);
    put(&repository, &of("rival", 2, true), SessionId([8; 16]));
    let tags = vec!["greatest".to_owned(), "rival".to_owned()];
    assert_eq!(only(&repository), Snapshot { tags, ..of("greatest", 2, true) });
    assert_eq!(check(&repository, Depth::Data, &Progress::default()).unwrap().snapshots, 1);
    let list = repository.snapshots().unwrap();
    let plan = plan_named(&list.snapshots, &HashSet::from([id]), Grouping::default(), true);
    assert!(plan.removed().is_empty(), "it is pinned");
    put(&repository, &of("unpinned", 3, false), SessionId([7; 16]));
    let list = repository.snapshots().unwrap();
    let plan = plan_named(&list.snapshots, &HashSet::from([id]), Grouping::default(), true);
    apply(&repository, &plan).unwrap();
    assert_eq!(count(&store, ObjectKind::Snapshot), 0);
}

/// One of two was acknowledged, the other one is about to withdraw; which is which cannot be seen.
#[test]
fn who_changes_a_snapshot_beside_two_others_loses_no_tag_of_theirs() {
    let (store, id) = with_snapshot();
    let repository = open(store.clone());
    let with = |tag: &str| Snapshot { tags: vec![tag.to_owned()], revision: 1, ..only(&repository) };
    let (first, second) = (Snapshot { lacking: true, ..with("first") }, with("second"));
    put(&repository, &first, SessionId([8; 16]));
    put(&repository, &second, SessionId([9; 16]));
    let history = repository.history().unwrap();
    assert!(history.newest(|_| true).is_some_and(|newest| newest.snapshot.lacking));
    amend(&repository, id, &add("third"), HOST).unwrap().unwrap();
    assert_eq!(only(&repository).tags, ["first", "second", "third"]);
    assert!(only(&repository).lacking);
    assert_eq!(count(&store, ObjectKind::Snapshot), 1);
}

#[test]
fn a_snapshot_that_is_forgotten_while_it_changes_is_gone_or_whole() {
    for operation in 0.. {
        let (store, id) = with_snapshot();
        // The change stops for good somewhere; then it is forgotten by somebody who saw it before.
        let faulty = FaultyStore::new(store.clone(), FaultPlan::none());
        let changing = open(faulty.clone());
        let forgetting = open(store.clone());
        let seen = forgetting.snapshots().unwrap();
        faulty.restart(FaultPlan::at(operation, Fault::CrashAfter));
        let _ = amend(&changing, id, &add("new"), HOST);
        let plan = plan_named(&seen.snapshots, &HashSet::from([id]), Grouping::default(), true);
        apply(&forgetting, &plan).unwrap();
        let left = forgetting.snapshots().unwrap();
        assert!(left.snapshots.iter().all(|listed| listed.snapshot.tags.contains(&"new".to_owned())));
        assert_sound(&forgetting);
        // And somebody who sees it now forgets it for good.
        let plan = plan_named(&left.snapshots, &HashSet::from([id]), Grouping::default(), true);
        apply(&forgetting, &plan).unwrap();
        assert_eq!(count(&store, ObjectKind::Snapshot), 0);
        if !faulty.crashed() {
            break;
        }
    }
}
