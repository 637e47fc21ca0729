//! A crash or an error at every single change that a run makes to its store.
//!
//! Must stay true: after any crash a restart finds the earlier snapshots whole, `check` has nothing to say, and the next
//! run works without anybody's help. The local cache is kept across the crash, so it may know more than the store.

mod scene;

use lifeboat::backup::{Counters, SourceSpec, backup};
use lifeboat::repo::check::{Depth, Finding, Progress, check};
use lifeboat::store::{Fault, FaultPlan, FaultyStore, MemoryStore, Operation, Store};
use lifeboat::{Repository, Secret, restore};
use lifeboat_format::config::Parameters;
use lifeboat_format::seal::Key;
use lifeboat_format::{ObjectKind, Timestamp};
use scene::{Scene, noise, tree};
use std::path::Path;
use std::sync::Arc;

const CRASHES: [Fault; 2] = [Fault::CrashBefore, Fault::CrashAfter];
const ERRORS: [Fault; 2] = [Fault::Before, Fault::After];
/// What a store without atomic puts leaves: it breaks its promise, and even that must cost one object only.
const TORN: [Fault; 2] = [Fault::CrashTorn, Fault::Torn];

fn key() -> Key {
    Key::new([7; 32])
}

fn init(store: Arc<dyn Store>) -> lifeboat::repo::Result<Repository> {
    let now = Timestamp { seconds: 1_700_000_000, nanos: 0 };
    Repository::init(store, Parameters::default(), &Secret::KeyFile(&key()), "first", now)
}

fn open(store: impl Store + 'static, cache: &Path) -> lifeboat::repo::Result<Repository> {
    let repository = Repository::open(Arc::new(store), &Secret::KeyFile(&key()))?;
    Ok(repository.with_cache(Some(cache.to_owned())))
}

fn snapshot(repository: &Repository, source: &Path, state: &Path) -> lifeboat::Result<()> {
    let options = lifeboat::backup_options(state);
    let sources = [SourceSpec::Path(source.to_owned())];
    backup(repository, &sources, &options, &Counters::default(), &lifeboat::Quiet).map(drop)
}

fn copy(store: &MemoryStore) -> MemoryStore {
    let copied = MemoryStore::new();
    for kind in ObjectKind::ALL {
        for listed in store.list(kind).unwrap() {
            copied.put(&listed.key, &store.get(&listed.key).unwrap()).unwrap();
        }
    }
    copied
}

fn findings(repository: &Repository) -> Vec<Finding> {
    check(repository, Depth::Data, &Progress::default()).unwrap().findings
}

/// A repository with one snapshot, whose source then changes.
struct Stage {
    scene: Scene,
    store: MemoryStore,
    source: std::path::PathBuf,
    before: tree::Survey,
    after: tree::Survey,
}

impl Stage {
    fn set() -> Self {
        let scene = Scene::new();
        scene.write("source/kept", noise("kept", 200_000));
        scene.write("source/changed", "one");
        let source = scene.path("source");
        let store = MemoryStore::new();
        init(Arc::new(store.clone())).unwrap();
        let repository = open(store.clone(), &scene.path("cache")).unwrap();
        snapshot(&repository, &source, &scene.path("state")).unwrap();
        let before = tree::survey(&source);
        scene.write("source/changed", "two");
        scene.write("source/new", noise("new", 300_000));
        let after = tree::survey(&source);
        Self { scene, store, source, before, after }
    }

    /// The second snapshot, on a copy of the repository and of the cache.
    fn run(&self, plan: FaultPlan) -> (FaultyStore<MemoryStore>, lifeboat::Result<()>) {
        let cache = self.scene.path("cache copy");
        scene::remove(&cache);
        scene::tool("cp", &["-a", self.scene.path("cache").to_str().unwrap(), cache.to_str().unwrap()]);
        let faulty = FaultyStore::new(copy(&self.store), plan.changes_only());
        let result = open(faulty.clone(), &cache)
            .map_err(Into::into)
            .and_then(|repository| snapshot(&repository, &self.source, &self.scene.path("state")));
        (faulty, result)
    }

    /// Restores the snapshot `name` and compares.
    fn assert_restores(&self, repository: &Repository, name: &str, expected: &tree::Survey, what: &str) {
        let out = self.scene.path("out");
        scene::remove(&out);
        let list = repository.snapshots().unwrap();
        let stop = Default::default();
        let how = restore::Options::new(&stop);
        let wanted = &list.find(name).unwrap().snapshot;
        let path = self.source.to_str().unwrap().as_bytes();
        let restored = lifeboat::restore_path(repository, wanted, path, &out, &how, &restore::Quiet);
        let report = restored.unwrap_or_else(|error| panic!("{what}: {name} does not restore: {error:?}"));
        assert!(report.is_exact(), "{what}: {report:?}");
        tree::assert_same(expected, &tree::survey(&out));
    }

    /// What must hold after anything that happened to the second snapshot.
    fn assert_unharmed(&self, store: &MemoryStore, acknowledged: bool, torn: Option<String>, what: &str) {
        let repository = open(store.clone(), &self.scene.path("cache copy")).unwrap();
        let count = repository.snapshots().unwrap().snapshots.len();
        assert!(count == 2 || count == 1 && !acknowledged, "{what}: {count} snapshots are listed");
        let first = format!("latest~{}", count - 1);
        self.assert_restores(&repository, &first, &self.before, what);
        // A store that tears what it puts breaks its promise: check may name that object, and nothing else.
        for finding in findings(&repository) {
            let named = torn.as_ref().is_some_and(|torn| finding.what.contains(torn.as_str()));
            assert!(named, "{what}: {finding:?}");
        }
    }

    fn assert_goes_on(&self, store: &MemoryStore, what: &str) {
        let repository = open(store.clone(), &self.scene.path("cache copy")).unwrap();
        snapshot(&repository, &self.source, &self.scene.path("state"))
            .unwrap_or_else(|error| panic!("{what}: the next snapshot fails: {error:?}"));
        self.assert_restores(&repository, "latest", &self.after, what);
    }
}

/// The name of the object that was torn by operation `number`, if it is there.
fn torn_object(store: &FaultyStore<MemoryStore>, number: u64, fault: Fault) -> Option<String> {
    let tears = matches!(fault, Fault::Torn | Fault::CrashTorn);
    let step = store.steps().into_iter().nth(number as usize).filter(|_| tears)?;
    // Messages shorten names.
    let key = step.key.filter(|key| store.inner().bytes(key).is_ok())?;
    Some(key.hex()[..16].to_owned())
}

#[test]
fn init_can_be_repeated_after_a_crash_at_any_change() {
    let whole = FaultyStore::new(MemoryStore::new(), FaultPlan::none().changes_only());
    init(Arc::new(whole.clone())).unwrap();
    assert!(whole.operations() >= 2, "a slot and a config");
    for number in 0..whole.operations() {
        for fault in CRASHES.into_iter().chain(ERRORS).chain(TORN) {
            let what = format!("{fault:?} at {:?}", whole.steps()[number as usize]);
            let store = FaultyStore::new(MemoryStore::new(), FaultPlan::at(number, fault).changes_only());
            assert!(init(Arc::new(store.clone())).is_err(), "{what}: init says that all is well");
            let left = store.inner().clone();
            let secret = key();
            match Repository::open(Arc::new(left.clone()), &Secret::KeyFile(&secret)) {
                Ok(_) => continue,
                // A torn config is damage, and is called that.
                Err(error) if what.contains("Torn") && what.contains("config") => {
                    assert_eq!(error.kind(), lifeboat::repo::ErrorKind::Damaged, "{what}: {error:?}");
                }
                Err(error) => {
                    assert_eq!(error.kind(), lifeboat::repo::ErrorKind::NotFound, "{what}: {error:?}");
                    init(Arc::new(left.clone())).unwrap_or_else(|error| panic!("{what}: {error:?}"));
                    Repository::open(Arc::new(left), &Secret::KeyFile(&secret)).unwrap();
                }
            }
        }
    }
}

#[test]
fn a_crash_at_any_change_of_a_snapshot_harms_nothing() {
    let stage = Stage::set();
    let (whole, result) = stage.run(FaultPlan::none());
    result.unwrap();
    let puts = whole.steps().iter().filter(|step| step.operation != Operation::Delete).count();
    assert!(puts >= 5, "intent, pack, index, draft, snapshot: {:?}", whole.steps());
    for number in 0..whole.operations() {
        for fault in CRASHES {
            let (store, result) = stage.run(FaultPlan::at(number, fault));
            assert!(store.crashed(), "operation {number} was never reached");
            let what = format!("{fault:?} at {:?}", store.steps()[number as usize]);
            let left = store.inner().clone();
            stage.assert_unharmed(&left, result.is_ok(), None, &what);
            stage.assert_goes_on(&left, &what);
        }
    }
}

#[test]
fn an_error_at_any_change_of_a_snapshot_is_an_error_and_harms_nothing() {
    let stage = Stage::set();
    let (whole, result) = stage.run(FaultPlan::none());
    result.unwrap();
    for number in 0..whole.operations() {
        for fault in ERRORS {
            let (store, result) = stage.run(FaultPlan::at(number, fault));
            let step = store.steps()[number as usize].clone();
            let what = format!("{fault:?} at {step:?}");
            // What is only tidying up may fail silently; nothing else may.
            assert!(
                result.is_err() || step.operation == Operation::Delete,
                "{what}: the run says that all is well"
            );
            if let Err(error) = &result {
                assert!(
                    error.to_string().len() > 5 && !error.to_string().contains("interrupted"),
                    "{what}: {error:?}"
                );
            }
            let left = store.inner().clone();
            stage.assert_unharmed(&left, result.is_ok(), None, &what);
            stage.assert_goes_on(&left, &what);
        }
    }
}

#[test]
fn an_object_that_a_store_tore_costs_itself_only() {
    let stage = Stage::set();
    let (whole, result) = stage.run(FaultPlan::none());
    result.unwrap();
    for (number, step) in
        whole.steps().iter().enumerate().filter(|(_, step)| step.operation != Operation::Delete)
    {
        for fault in TORN {
            let (store, result) = stage.run(FaultPlan::at(number as u64, fault));
            let what = format!("{fault:?} at {step:?}");
            assert!(result.is_err(), "{what}: the run says that all is well");
            let left = store.inner().clone();
            let torn = torn_object(&store, number as u64, fault);
            assert!(torn.is_some(), "{what}: nothing is torn");
            stage.assert_unharmed(&left, false, torn, &what);
            stage.assert_goes_on(&left, &what);
        }
    }
}
