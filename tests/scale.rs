//! What a snapshot costs does not depend on how many there are, and small changes of large trees stay small. Operations
//! and bytes are counted, nothing is timed.

mod scene;

use lifeboat::backup::{SourceSpec, backup};
use lifeboat::{Repository, Secret};
use lifeboat_format::config::Parameters;
use lifeboat_format::seal::Key;
use lifeboat_format::snapshot::Snapshot;
use lifeboat_format::{ObjectKey, ObjectKind, Timestamp};
use lifeboat_repo::check::{Depth, Progress, check};
use lifeboat_store::{Count, CountingStore, MemoryStore, Operation, Store};
use scene::{Done, Scene};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A machine with a source, and a repository in memory that counts.
struct Machine {
    folder: tempfile::TempDir,
    store: CountingStore<MemoryStore>,
    key: Key,
}

type Counted = BTreeMap<(Operation, ObjectKind), Count>;

impl Machine {
    fn new(files: usize) -> Self {
        let machine = Self {
            folder: tempfile::tempdir().unwrap(),
            store: CountingStore::new(MemoryStore::new()),
            key: Key::random(),
        };
        let store = Arc::new(machine.store.clone());
        let secret = Secret::KeyFile(&machine.key);
        Repository::init(store, Parameters::default(), &secret, "first", Timestamp::default()).unwrap();
        for number in 0..files {
            let path = machine.source().join(format!("{:03}/file-{number:06}", number / 100));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("file {number}")).unwrap();
        }
        // Files that are as new as the snapshot are read again by the next one.
        std::thread::sleep(Duration::from_millis(50));
        machine
    }

    fn source(&self) -> PathBuf {
        self.folder.path().join("source")
    }

    /// Opens the repository as a new process does.
    fn open(&self) -> Repository {
        let store: Arc<dyn Store> = Arc::new(self.store.clone());
        let cache = self.folder.path().join("cache");
        Repository::open(store, &Secret::KeyFile(&self.key)).unwrap().with_cache(Some(cache))
    }

    /// Takes a snapshot in a process of its own; what it asked of the store.
    fn snapshot(&self) -> Counted {
        self.store.reset();
        let options = lifeboat::backup_options(&self.folder.path().join("state"));
        let specs = [SourceSpec::Path(self.source().canonicalize().unwrap())];
        backup(&self.open(), &specs, &options, &Default::default(), &lifeboat::Quiet).unwrap();
        self.store.counts()
    }

    fn listed(&self) -> Vec<Snapshot> {
        let list = self.open().snapshots().unwrap();
        assert!(list.damaged.is_empty(), "{:?}", list.damaged);
        list.snapshots.into_iter().map(|listed| listed.snapshot).collect()
    }

    fn remembered(&self) -> PathBuf {
        self.open().cache_directory().unwrap().join("snapshots")
    }
}

fn written(counted: &Counted) -> u64 {
    let writes = [Operation::Put, Operation::Commit];
    counted
        .iter()
        .filter(|((operation, _), _)| writes.contains(operation))
        .map(|(_, count)| count.bytes)
        .sum()
}

#[test]
fn the_hundredth_snapshot_asks_the_store_for_what_the_third_did() {
    let machine = Machine::new(30);
    let counted: Vec<Counted> = (0..100).map(|_| machine.snapshot()).collect();
    let operations = |counted: &Counted| -> BTreeMap<(Operation, ObjectKind), u64> {
        let reads = (Operation::Get, ObjectKind::Snapshot);
        counted
            .iter()
            .filter(|(key, _)| **key != reads)
            .map(|(key, count)| (*key, count.operations))
            .collect()
    };
    for later in &counted[3..] {
        assert_eq!(operations(later), operations(&counted[2]));
        // Snapshots read by earlier runs are remembered on this machine.
        let reads = later.get(&(Operation::Get, ObjectKind::Snapshot)).copied().unwrap_or_default();
        assert!(reads.operations <= 16, "{reads:?}");
    }
    assert_eq!(written(&counted[99]).abs_diff(written(&counted[2])) / 64, 0, "bytes do not grow either");
    assert_eq!(machine.listed().len(), 100);
}

#[test]
fn remembered_snapshots_never_change_what_is_listed() {
    let machine = Machine::new(1);
    (0..20).for_each(|_| drop(machine.snapshot()));
    let listed = machine.listed();
    let path = machine.remembered();
    let whole = std::fs::read(&path).unwrap();
    for position in (0..whole.len()).step_by(97) {
        let mut damaged = whole.clone();
        damaged[position] ^= 0x10;
        std::fs::write(&path, damaged).unwrap();
        assert_eq!(machine.listed(), listed, "byte {position}");
    }
    // What is remembered and gone from the store is gone.
    std::fs::write(&path, whole).unwrap();
    let objects = machine.store.list(ObjectKind::Snapshot).unwrap();
    machine.store.delete(&objects[7].key).unwrap();
    assert_eq!(machine.listed().len(), 19);
}

#[test]
fn check_sees_a_damaged_snapshot_that_this_machine_remembers_whole() {
    let machine = Machine::new(1);
    (0..20).for_each(|_| drop(machine.snapshot()));
    machine.listed();
    machine.store.reset();
    machine.listed();
    let reads = machine.store.reads_of(ObjectKind::Snapshot).operations;
    assert!(reads < 16, "{reads} objects were not remembered");
    let objects = machine.store.list(ObjectKind::Snapshot).unwrap();
    for object in &objects {
        let mut bytes = machine.store.get(&object.key).unwrap();
        bytes[60] ^= 1;
        machine.store.delete(&object.key).unwrap();
        machine.store.put(&object.key, &bytes).unwrap();
    }
    let report = check(&machine.open(), Depth::Structure, &Progress::default()).unwrap();
    assert_eq!(report.findings.len(), objects.len());
}

#[test]
fn a_snapshot_that_was_cut_short_is_not_listed_as_if_it_were_whole_but_is_a_parent_still() {
    let machine = Machine::new(1);
    (0..20).for_each(|_| drop(machine.snapshot()));
    machine.listed();
    // The newest ones are read each time.
    let oldest = machine.open().snapshots().unwrap().snapshots.remove(0);
    let key = ObjectKey::new(ObjectKind::Snapshot, &oldest.session.0);
    let bytes = machine.store.get(&key).unwrap();
    machine.store.delete(&key).unwrap();
    machine.store.put(&key, &bytes[..bytes.len() - 1]).unwrap();
    let history = machine.open().history().unwrap();
    let found = history.newest(|snapshot| snapshot.id == oldest.snapshot.id);
    assert_eq!(found.map(|listed| listed.session), Some(oldest.session));
    assert!(history.take_damaged().is_empty());
    let list = machine.open().snapshots().unwrap();
    assert_eq!((list.snapshots.len(), list.damaged.len()), (19, 1));
    assert_eq!(list.damaged[0].0, key);
}

#[test]
fn an_unchanged_tree_and_one_changed_file_add_little() {
    let machine = Machine::new(20_000);
    machine.snapshot();
    let unchanged = machine.snapshot();
    assert!(!unchanged.contains_key(&(Operation::Commit, ObjectKind::Pack)), "{unchanged:?}");
    // Intent, draft and snapshot.
    assert!(written(&unchanged) <= 2048, "{unchanged:?}");
    std::fs::write(machine.source().join("100/file-010050"), "changed").unwrap();
    let changed = machine.snapshot();
    assert!(written(&changed) <= 64 << 10, "{changed:?}");
}

fn names_below(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

#[test]
fn commands_that_need_no_index_open_none() {
    let scene = Scene::with_repository();
    scene.write("source/file", "content");
    scene.snapshot(&["source"]);
    scene::remove(&scene.path("cache"));
    let commands: [&[&str]; 6] = [
        &["snapshots"],
        &["snapshots", "--json"],
        &["key", "list"],
        &["repo", "info"],
        &["cache"],
        &["version"],
    ];
    for command in commands {
        Done::of(scene.lifeboat().args(command)).expect(0);
        assert_eq!(names_below(&scene.path("cache")), 0, "{command:?}");
    }
    // And that the place is the right one:
    Done::of(scene.lifeboat().args(["ls", "latest"])).expect(0);
    assert_eq!(names_below(&scene.path("cache")), 1);
}
