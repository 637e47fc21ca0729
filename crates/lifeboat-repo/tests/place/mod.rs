//! A repository over a store in memory, with small packs, and what the tests of collections and repairs do with it.

// Each test file uses some of it.
#![allow(dead_code, clippy::unwrap_used)]

pub(crate) mod meanwhile;

use lifeboat_format::config::Parameters;
use lifeboat_format::region::ChunkKind;
use lifeboat_format::seal::Key;
use lifeboat_format::slot::Secret;
use lifeboat_format::snapshot::{Snapshot, SnapshotKind, Source, SourceKind, Statistics, TreeRoot};
use lifeboat_format::{
    AuthorId, Content, Entry, HostId, Metadata, Node, ObjectKey, ObjectKind, SessionId, SnapshotId,
    Timestamp, TreePath,
};
use lifeboat_repo::check::{Depth, Progress as CheckProgress, check};
use lifeboat_repo::collect::{CollectOptions, Collected, Progress, Room, collect};
use lifeboat_repo::session::{Session, SessionOptions};
use lifeboat_repo::sink::ChunkSink;
use lifeboat_repo::tree::TreeBuilder;
use lifeboat_repo::{Repository, Result};
use lifeboat_store::{MemoryStore, Store};
use std::ops::Range;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// Costs nothing to open with: the tests open a repository some thousand times.
pub(crate) static KEY: LazyLock<Key> = LazyLock::new(|| Key::new([5; 32]));
pub(crate) const HOST: HostId = HostId([7; 16]);
pub(crate) const FILE_BYTES: usize = 60_000;

pub(crate) fn init() -> (MemoryStore, Repository) {
    let store = MemoryStore::new();
    let small = Parameters { region_bytes: 64 << 10, pack_bytes: 1 << 20, ..Parameters::default() };
    let made =
        Repository::init(Arc::new(store.clone()), small, &Secret::KeyFile(&KEY), "", Timestamp::default());
    (store, made.unwrap())
}

pub(crate) fn open(store: impl Store + 'static) -> Repository {
    Repository::open(Arc::new(store), &Secret::KeyFile(&KEY)).unwrap()
}

/// A store with the same objects, to be damaged by itself.
pub(crate) fn copy(store: &MemoryStore) -> MemoryStore {
    let copy = MemoryStore::new();
    for kind in ObjectKind::ALL {
        for listed in store.list(kind).unwrap() {
            copy.put(&listed.key, &store.get(&listed.key).unwrap()).unwrap();
        }
    }
    copy
}

pub(crate) fn begin(repository: &Repository) -> Result<Arc<Session>> {
    Session::begin(repository, SessionOptions { compression_level: 3, host: HOST }, vec![])
}

/// Bytes that do not compress and differ from number to number.
pub(crate) fn noise(repository: &Repository, number: u64) -> Vec<u8> {
    let mut noise = vec![0; FILE_BYTES];
    repository.keys().cut_bytes(&format!("noise {number}"), &mut noise);
    noise
}

pub(crate) fn snapshot_of(root: TreeRoot) -> Snapshot {
    let source = Source {
        kind: SourceKind::Path,
        name: b"/srv".to_vec(),
        root,
        parent: None,
        snapshot_kind: SnapshotKind::Full,
        errors: 0,
        bytes: 0,
        users: vec![],
        groups: vec![],
        detail: String::new(),
    };
    Snapshot {
        id: SnapshotId::random(),
        complete: true,
        host_id: HOST,
        host: "host".into(),
        user: "user".into(),
        sequence: 1,
        previous: None,
        started: Timestamp { seconds: 1, nanos: 0 },
        finished: Timestamp { seconds: 2, nanos: 0 },
        tags: vec![],
        program: "test".into(),
        sources: vec![source],
        statistics: Statistics::default(),
        unhealthy: vec![],
        revision: 0,
        pinned: false,
        lacking: false,
        consistency: String::new(),
        author: AuthorId::NONE,
        signature: vec![],
    }
}

/// Feeds files with these numbers to a session.
pub(crate) fn feed(session: &Arc<Session>, numbers: Range<u64>) -> Result<Snapshot> {
    feed_numbers(session, numbers)
}

pub(crate) fn feed_numbers(session: &Arc<Session>, numbers: impl Iterator<Item = u64>) -> Result<Snapshot> {
    let repository = session.repository();
    let mut sink = ChunkSink::new(session)?;
    let mut builder = TreeBuilder::new(repository.keys());
    let put = |sink: &mut ChunkSink, node: Vec<u8>| sink.add(ChunkKind::Tree, &node);
    let folder = Entry::directory(Metadata::default());
    builder.push(&TreePath::root(), &folder, &mut |node| put(&mut sink, node))?;
    for number in numbers {
        let id = sink.add(ChunkKind::Data, &noise(repository, number))?;
        let node = Node::File { size: FILE_BYTES as u64, content: Content::Chunk(id) };
        let entry = Entry { node, metadata: Metadata::default(), link: None, torn: false };
        let path = TreePath::from_slashes(format!("{number:08}").as_bytes()).unwrap();
        builder.push(&path, &entry, &mut |node| put(&mut sink, node))?;
    }
    let root = builder.finish(&mut |node| put(&mut sink, node))?;
    sink.flush()?;
    Ok(snapshot_of(root))
}

/// Stores a snapshot of files with these numbers.
pub(crate) fn store_files(repository: &Repository, numbers: Range<u64>) -> Result<SessionId> {
    let session = begin(repository)?;
    session.commit(&feed(&session, numbers)?)?;
    Ok(session.id())
}

pub(crate) fn forget(store: &MemoryStore, session: SessionId) {
    store.delete(&ObjectKey::new(ObjectKind::Snapshot, &session.0)).unwrap();
}

pub(crate) fn gc(repository: &Repository) -> Result<Collected> {
    gc_with(repository, Room::default())
}

pub(crate) fn gc_with(repository: &Repository, room: Room) -> Result<Collected> {
    let options = CollectOptions { host: HOST, grace: Duration::ZERO, room, compression_level: 1 };
    collect(repository, &options, &Progress::default())
}

pub(crate) fn packs(store: &MemoryStore) -> Vec<ObjectKey> {
    store.list(ObjectKind::Pack).unwrap().into_iter().map(|listed| listed.key).collect()
}

pub(crate) fn assert_sound(store: &MemoryStore, snapshots: u64) {
    let report = check(&open(store.clone()), Depth::Data, &CheckProgress::default()).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!(report.snapshots, snapshots);
}

pub(crate) fn assert_nothing_left_behind(store: &MemoryStore) {
    for kind in [ObjectKind::Condemned, ObjectKind::Verdict, ObjectKind::Intent, ObjectKind::Draft] {
        assert!(store.list(kind).unwrap().is_empty(), "{kind:?}");
    }
}
