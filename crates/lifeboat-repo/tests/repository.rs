//! Promises of a repository over a store in memory: operations are counted, faults are made.

#![allow(clippy::unwrap_used)] // Helpers of tests are not `#[test]` functions themselves.

use lifeboat_format::config::Parameters;
use lifeboat_format::region::ChunkKind;
use lifeboat_format::seal::Suite;
use lifeboat_format::slot::Secret;
use lifeboat_format::snapshot::{Snapshot, Source, SourceKind, TreeRoot};
use lifeboat_format::{
    Content, Entry, HostId, Metadata, Node, ObjectKey, ObjectKind, SnapshotId, Timestamp, TreePath,
};
use lifeboat_repo::check::{Depth, Progress, check};
use lifeboat_repo::reader::ChunkReader;
use lifeboat_repo::session::{Session, SessionOptions};
use lifeboat_repo::sink::ChunkSink;
use lifeboat_repo::tree::TreeBuilder;
use lifeboat_repo::{Error, Repository};
use lifeboat_store::{CountingStore, MemoryStore, Operation, Store};
use std::sync::Arc;

const PASSWORD: Secret<'static> = Secret::Passphrase(b"secret");
const HOST: HostId = HostId([7; 16]);

fn small() -> Parameters {
    Parameters { region_bytes: 64 << 10, pack_bytes: 1 << 20, ..Parameters::default() }
}

fn init(store: &MemoryStore) -> Repository {
    Repository::init(Arc::new(store.clone()), small(), &PASSWORD, "first", Timestamp::default()).unwrap()
}

fn reopen(store: &MemoryStore) -> Repository {
    Repository::open(Arc::new(store.clone()), &PASSWORD).unwrap()
}

fn begin(repository: &Repository) -> Arc<Session> {
    Session::begin(repository, SessionOptions { compression_level: 3, host: HOST }, vec![]).unwrap()
}

/// Bytes that do not compress and differ from number to number.
fn noise(repository: &Repository, number: u64, bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    repository.keys().cut_bytes(&format!("noise {number}"), &mut noise);
    noise
}

fn snapshot_of(root: TreeRoot) -> Snapshot {
    Snapshot {
        complete: true,
        host: "host".into(),
        user: "user".into(),
        sequence: 1,
        started: Timestamp { seconds: 1, nanos: 0 },
        finished: Timestamp { seconds: 2, nanos: 0 },
        program: "test".into(),
        sources: vec![Source::new(SourceKind::Path, b"/srv", root)],
        ..Snapshot::new(SnapshotId::random(), HOST)
    }
}

/// Stores files of 20 kB with these numbers, and lists a snapshot of them.
fn store_files(repository: &Repository, numbers: std::ops::Range<u64>) -> Snapshot {
    let session = begin(repository);
    let mut sink = ChunkSink::new(&session).unwrap();
    let mut builder = TreeBuilder::new(repository.keys());
    let put = |sink: &mut ChunkSink, node: Vec<u8>| sink.add(ChunkKind::Tree, &node);
    builder
        .push(&TreePath::root(), &Entry::directory(Metadata::default()), &mut |node| put(&mut sink, node))
        .unwrap();
    for number in numbers {
        let id = sink.add(ChunkKind::Data, &noise(repository, number, 20_000)).unwrap();
        let node = Node::File { size: 20_000, content: Content::Chunk(id) };
        let entry = Entry { node, metadata: Metadata::default(), link: None, torn: false };
        let path = TreePath::from_slashes(format!("{number:08}").as_bytes()).unwrap();
        builder.push(&path, &entry, &mut |node| put(&mut sink, node)).unwrap();
    }
    let root = builder.finish(&mut |node| put(&mut sink, node)).unwrap();
    sink.flush().unwrap();
    let snapshot = snapshot_of(root);
    session.commit(&snapshot).unwrap();
    snapshot
}

fn findings(repository: &Repository) -> Vec<String> {
    let report = check(repository, Depth::Data, &Progress::default()).unwrap();
    report.findings.into_iter().map(|finding| format!("{}: {}", finding.what, finding.detail)).collect()
}

#[test]
fn what_was_committed_reads_back_and_checks_clean() {
    let store = MemoryStore::new();
    let repository = init(&store);
    let snapshot = store_files(&repository, 0..200);
    let repository = reopen(&store);
    let list = repository.snapshots().unwrap();
    assert_eq!(list.find("latest").unwrap().snapshot, snapshot);
    let reader = ChunkReader::new(&repository);
    for number in [0, 77, 199] {
        let plain = noise(&repository, number, 20_000);
        let mut read = Vec::new();
        reader
            .read_into(ChunkKind::Data, &repository.keys().chunk_id(ChunkKind::Data, &plain), &mut read)
            .unwrap();
        assert_eq!(read, plain);
    }
    assert_eq!(findings(&repository), Vec::<String>::new());
}

#[test]
fn full_packs_have_exactly_their_size_and_no_two_packs_share_a_name() {
    let store = MemoryStore::new();
    let repository = init(&store);
    store_files(&repository, 0..200);
    let packs = store.list(ObjectKind::Pack).unwrap();
    let full = packs.iter().filter(|pack| pack.bytes == 1 << 20).count();
    assert!(full >= 3, "{packs:?}");
    assert!(packs.iter().all(|pack| pack.bytes <= 1 << 20));
}

#[test]
fn small_trees_lie_beside_the_data_and_large_ones_in_packs_of_their_own() {
    for (tree_bytes, packs) in [(5_000, 1), (50_000, 2)] {
        let store = MemoryStore::new();
        let repository = init(&store);
        let session = begin(&repository);
        let mut sink = ChunkSink::new(&session).unwrap();
        sink.add(ChunkKind::Tree, &noise(&repository, 1, tree_bytes)).unwrap();
        sink.add(ChunkKind::Data, &noise(&repository, 2, 10_000)).unwrap();
        sink.flush().unwrap();
        session.settle().unwrap();
        assert_eq!(store.list(ObjectKind::Pack).unwrap().len(), packs, "{tree_bytes} bytes of trees");
    }
}

#[test]
fn the_same_data_again_stores_no_pack() {
    let store = CountingStore::new(MemoryStore::new());
    let store = Arc::new(store);
    let repository = Repository::init(store.clone(), small(), &PASSWORD, "", Timestamp::default()).unwrap();
    store_files(&repository, 0..50);
    store.reset();
    store_files(&repository, 0..50);
    assert_eq!(store.count(Operation::Commit, ObjectKind::Pack).operations, 0);
    assert_eq!(store.writes_of(ObjectKind::Index).operations, 0);
    assert_eq!(store.writes_of(ObjectKind::Snapshot).operations, 1);
}

#[test]
fn a_finished_session_leaves_a_snapshot_and_nothing_else() {
    let store = MemoryStore::new();
    store_files(&init(&store), 0..5);
    for kind in [ObjectKind::Draft, ObjectKind::Intent, ObjectKind::Checkpoint] {
        assert!(store.list(kind).unwrap().is_empty(), "{kind:?}");
    }
}

#[test]
fn a_fenced_session_does_not_list_its_snapshot() {
    let store = MemoryStore::new();
    let repository = init(&store);
    let session = begin(&repository);
    store.put(&ObjectKey::new(ObjectKind::Fence, &session.id().0), b"fence").unwrap();
    let mut sink = ChunkSink::new(&session).unwrap();
    let root =
        TreeBuilder::new(repository.keys()).finish(&mut |node| sink.add(ChunkKind::Tree, &node)).unwrap();
    sink.flush().unwrap();
    assert!(matches!(session.commit(&snapshot_of(root)), Err(Error::Fenced)));
    assert!(repository.snapshots().unwrap().snapshots.is_empty());
    for kind in [ObjectKind::Draft, ObjectKind::Intent] {
        assert!(store.list(kind).unwrap().is_empty(), "{kind:?}");
    }
}

#[test]
fn a_wrong_password_and_a_missing_or_half_made_repository_are_told_apart() {
    let store = MemoryStore::new();
    let open = |store: &MemoryStore, secret: &Secret<'_>| {
        Repository::open(Arc::new(store.clone()), secret).err().unwrap()
    };
    assert!(matches!(open(&store, &PASSWORD), Error::NoRepository { .. }));
    init(&store);
    assert!(matches!(open(&store, &Secret::Passphrase(b"wrong")), Error::WrongKey { slots: 1 }));
    let again = Repository::init(Arc::new(store.clone()), small(), &PASSWORD, "", Timestamp::default());
    assert!(matches!(again.err().unwrap(), Error::RepositoryExists { .. }));
    store.delete(&ObjectKey::config()).unwrap();
    assert!(matches!(open(&store, &PASSWORD), Error::HalfCreated { .. }));
    init(&store);
    assert_eq!(store.list(ObjectKind::Slot).unwrap().len(), 1, "the stale slot is gone");
    reopen(&store);
}

#[test]
fn a_replaced_password_opens_and_the_old_one_does_not() {
    let store = MemoryStore::new();
    let repository = init(&store);
    let new = Secret::Passphrase(b"new");
    repository.replace_slot(&new, "second", Timestamp::default()).unwrap();
    Repository::open(Arc::new(store.clone()), &new).unwrap();
    assert!(matches!(Repository::open(Arc::new(store.clone()), &PASSWORD), Err(Error::WrongKey { .. })));
    let last = store.list(ObjectKind::Slot).unwrap()[0].key.name().try_into().unwrap();
    let reopened = Repository::open(Arc::new(store), &new).unwrap();
    assert!(reopened.remove_slot(lifeboat_format::SlotId(last)).is_err(), "the last slot stays");
}

#[test]
fn every_missing_or_damaged_object_is_named_with_the_snapshot_that_needs_it() {
    let store = MemoryStore::new();
    let repository = init(&store);
    let snapshot = store_files(&repository, 0..60);
    for pack in store.list(ObjectKind::Pack).unwrap() {
        let bytes = store.get(&pack.key).unwrap();
        store.delete(&pack.key).unwrap();
        let report = check(&reopen(&store), Depth::Structure, &Progress::default()).unwrap();
        let texts: Vec<String> = report.findings.iter().map(|finding| finding.what.clone()).collect();
        assert!(texts.iter().any(|text| text.contains(&pack.key.hex())), "{texts:?}");
        assert!(
            report.findings.iter().any(|finding| finding.snapshots == [snapshot.id]),
            "{:?}",
            report.findings
        );
        let mut bad = bytes.clone();
        bad[bytes.len() / 3] ^= 1;
        store.put(&pack.key, &bad).unwrap();
        assert!(!findings(&reopen(&store)).is_empty());
        store.delete(&pack.key).unwrap();
        store.put(&pack.key, &bytes).unwrap();
    }
    assert_eq!(findings(&reopen(&store)), Vec::<String>::new());
    for index in store.list(ObjectKind::Index).unwrap() {
        let bytes = store.get(&index.key).unwrap();
        store.delete(&index.key).unwrap();
        assert!(!findings(&reopen(&store)).is_empty(), "a lost index object is noticed");
        store.put(&index.key, &bytes).unwrap();
    }
}

#[test]
fn both_cipher_suites_work() {
    for suite in [Suite::XChaCha20Poly1305, Suite::Aes256Gcm] {
        let store = MemoryStore::new();
        let parameters = Parameters { suite, ..small() };
        let made = Repository::init(Arc::new(store.clone()), parameters, &PASSWORD, "", Timestamp::default())
            .unwrap();
        store_files(&made, 0..10);
        assert_eq!(findings(&reopen(&store)), Vec::<String>::new());
    }
}

#[test]
fn snapshots_are_found_by_age_and_by_unique_prefix() {
    let store = MemoryStore::new();
    let repository = init(&store);
    let ids: Vec<SnapshotId> = (0..3).map(|number| store_files(&repository, number..number + 1).id).collect();
    let list = repository.snapshots().unwrap();
    let found = |selector: &str| list.find(selector).map(|listed| listed.snapshot.id);
    assert_eq!(found(&ids[1].to_string()[..12]).unwrap(), ids[1]);
    assert!(matches!(found("latest~3"), Err(Error::NoSnapshot(_))));
    assert!(matches!(found(""), Err(Error::NoSnapshot(_))));
    assert!(matches!(found("latestx"), Err(Error::NoSnapshot(_))));
    assert!(ids.contains(&found("latest~2").unwrap()));
    // A writer, which decodes no more than it asks for, sees them in the same order.
    let history = repository.history().unwrap();
    let mut seen = Vec::new();
    history.newest(|snapshot| {
        seen.push(snapshot.id);
        false
    });
    assert_eq!(seen, list.snapshots.iter().rev().map(|listed| listed.snapshot.id).collect::<Vec<_>>());
    assert_eq!(history.last_of(HOST).map(|head| head.sequence), Some(1));
    assert_eq!(history.last_of(HostId([8; 16])), None);
}

#[test]
fn a_listing_with_a_damaged_snapshot_does_not_say_that_one_is_gone() {
    let (store, state) = (MemoryStore::new(), tempfile::tempdir().unwrap());
    store_files(&init(&store), 0..1);
    let set_back = |list: fn(&Repository)| {
        let repository = reopen(&store).with_state(state.path().to_owned());
        list(&repository);
        repository.take_set_back().len()
    };
    let ways: [fn(&Repository); 2] = [|one| drop(one.snapshots()), |one| drop(one.history())];
    assert_eq!(ways.map(set_back), [0, 0]);
    let key = store.list(ObjectKind::Snapshot).unwrap().remove(0).key;
    store.delete(&key).unwrap();
    store.put(&key, b"damaged").unwrap();
    assert_eq!(ways.map(set_back), [0, 0]);
    store.delete(&key).unwrap();
    assert_eq!(ways.map(set_back), [1, 1]);
}

#[test]
fn a_session_that_lost_claimed_chunks_never_commits() {
    let store = MemoryStore::new();
    let repository = init(&store);
    let session = begin(&repository);
    let mut failed = ChunkSink::new(&session).unwrap();
    failed.add(ChunkKind::Data, b"claimed, and never sealed").unwrap();
    drop(failed);
    let mut sink = ChunkSink::new(&session).unwrap();
    let root =
        TreeBuilder::new(repository.keys()).finish(&mut |node| sink.add(ChunkKind::Tree, &node)).unwrap();
    sink.flush().unwrap();
    assert!(session.commit(&snapshot_of(root)).is_err());
    assert!(repository.snapshots().unwrap().snapshots.is_empty());
}
