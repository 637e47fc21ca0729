//! One flipped bit anywhere in a repository is found, named, and never turned into wrong bytes.

mod scene;

use lifeboat::repo::check::{Depth, Progress, check};
use lifeboat::repo::{Error, ErrorKind, Repository};
use lifeboat::store::{MemoryStore, Store};
use lifeboat::{Secret, restore};
use lifeboat_format::{ObjectKey, ObjectKind};
use scene::{Scene, noise, tree};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Bits flipped in each object; objects with fewer bytes get one in each.
const FLIPS: usize = 40;

type Objects = BTreeMap<ObjectKey, Vec<u8>>;

struct Stage {
    scene: Scene,
    source: PathBuf,
    expected: tree::Survey,
    objects: Objects,
}

/// A repository with two snapshots and content that is raw, compressed, large and small.
fn stage() -> Stage {
    let scene = Scene::with_repository();
    scene.write("source/raw", noise("raw", 300_000));
    scene.write("source/text", "words and words\n".repeat(10_000));
    scene.write("source/large", noise("large", 1 << 20));
    for number in 0..300 {
        scene.write(&format!("source/many/{number}"), number.to_string());
    }
    scene.snapshot(&["source"]);
    scene.write("source/later", "later");
    scene.snapshot(&["source"]);
    let store = lifeboat::open_store(&scene.text("repository")).unwrap();
    let mut objects = Objects::new();
    for kind in ObjectKind::ALL {
        for listed in store.list(kind).unwrap() {
            objects.insert(listed.key.clone(), store.get(&listed.key).unwrap());
        }
    }
    objects.insert(ObjectKey::config(), store.get(&ObjectKey::config()).unwrap());
    let source = scene.path("source");
    Stage { expected: tree::survey(&source), source, objects, scene }
}

fn with_flip(objects: &Objects, key: &ObjectKey, byte: usize, bit: usize) -> Arc<dyn Store> {
    let store = MemoryStore::new();
    for (name, bytes) in objects {
        let mut bytes = bytes.clone();
        if name == key {
            bytes[byte] ^= 1 << bit;
        }
        store.put(name, &bytes).unwrap();
    }
    Arc::new(store)
}

/// Message and causes.
fn chain(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|cause| format!(": {}", chain(cause))).unwrap_or_default();
    format!("{error}{cause}")
}

impl Stage {
    fn open(&self, store: Arc<dyn Store>, cache: Option<PathBuf>) -> Result<Repository, Error> {
        let key = lifeboat::read_key_file(&self.scene.path("key"))?;
        Ok(Repository::open(store, &Secret::KeyFile(&key))?.with_cache(cache))
    }

    /// The flip is found by opening or by checking, under the object's name.
    fn assert_found(
        &self,
        repository: Result<Repository, Error>,
        key: &ObjectKey,
        what: &str,
    ) -> Option<Repository> {
        let repository = match repository {
            Err(error) => {
                let is_opening = matches!(key.kind(), ObjectKind::Config | ObjectKind::Slot);
                assert!(is_opening, "{what}: opening fails: {}", chain(&error));
                let clear =
                    matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Unsupported | ErrorKind::Denied);
                assert!(clear, "{what}: {:?}: {}", error.kind(), chain(&error));
                return None;
            }
            Ok(repository) => repository,
        };
        assert!(key.kind() != ObjectKind::Config, "{what}: the config opens");
        // Messages shorten names.
        let name: String = key.hex().chars().take(16).collect();
        match check(&repository, Depth::Data, &Progress::default()) {
            Ok(report) => {
                let named = report.findings.iter().any(|finding| finding.what.contains(&name));
                assert!(named, "{what}: not named in {:?}", report.findings);
            }
            Err(error) => assert!(chain(&error).contains(&name), "{what}: {}", chain(&error)),
        }
        Some(repository)
    }

    /// Whatever is restored is right; what is not, is reported.
    fn assert_never_wrong(&self, repository: &Repository, number: usize, what: &str) {
        let out = self.scene.path(format!("out-{number}"));
        let stop = Default::default();
        let how = restore::Options::new(&stop);
        let Ok(list) = repository.snapshots() else { return };
        let Ok(latest) = list.find("latest") else { return };
        let path = self.source.to_str().unwrap().as_bytes();
        let restored =
            lifeboat::restore_path(repository, &latest.snapshot, path, &out, &how, &restore::Quiet);
        let is_whole = matches!(&restored, Ok(report) if report.is_exact()) && list.damaged.is_empty();
        if out.exists() {
            let found = tree::survey(&out);
            if is_whole {
                tree::assert_same(&self.expected, &found);
            }
            for (path, facts) in found.iter().filter(|(_, facts)| facts.content.is_some()) {
                let same = self.expected.get(path).is_some_and(|expected| expected.content == facts.content);
                assert!(same, "{what}: {} has other bytes", String::from_utf8_lossy(path));
            }
            scene::remove(&out);
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_is_named_and_never_restored() {
    let stage = stage();
    let flips: Vec<(&ObjectKey, usize)> = stage
        .objects
        .iter()
        .flat_map(|(key, bytes)| {
            let count = FLIPS.min(bytes.len());
            // The first and the last bytes too: headers and trailers are there.
            (0..count).map(move |number| (key, number * (bytes.len() - 1) / (count - 1).max(1)))
        })
        .collect();
    let kinds: std::collections::BTreeSet<_> = stage.objects.keys().map(|key| key.kind().folder()).collect();
    assert!(kinds.len() >= 5 && flips.len() > 250, "{kinds:?}, {} flips", flips.len());
    let (next, refused) = (AtomicUsize::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (stage, flips, next, refused) = (&stage, &flips, &next, &refused);
            scope.spawn(move || {
                // One cache that knows the repository as it was, beside runs that have none.
                let cache = stage.scene.path(format!("cache-{worker}"));
                scene::tool("cp", &["-a", &stage.scene.text("cache/lifeboat"), cache.to_str().unwrap()]);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some((key, byte)) = flips.get(number) else { break };
                    let what = format!("bit {} of byte {byte} of {key}", number % 8);
                    let store = with_flip(&stage.objects, key, *byte, number % 8);
                    let cache = (number % 4 != 0).then(|| cache.clone());
                    let opened = stage.open(store, cache);
                    match stage.assert_found(opened, key, &what) {
                        Some(repository) => stage.assert_never_wrong(&repository, number, &what),
                        None => drop(refused.fetch_add(1, Ordering::Relaxed)),
                    }
                }
            });
        }
    });
    assert!(refused.into_inner() >= FLIPS as u64, "a damaged config and a damaged slot open nothing");
}

#[test]
fn the_command_names_the_damaged_object_and_exits_with_1() {
    let stage = stage();
    for kind in ["config", "keys", "packs", "index", "snapshots"] {
        let path = stage.scene.objects_in(kind).remove(0);
        let sound = std::fs::read(&path).unwrap();
        let mut damaged = sound.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 0x10;
        scene::set_mode(&path, 0o600);
        std::fs::write(&path, damaged).unwrap();
        let name: String = path.file_name().unwrap().to_str().unwrap().chars().take(16).collect();
        let done = stage.scene.run(&["check", "--read-data"]);
        // A damaged slot cannot be told from one of another key in every byte of it.
        let expected = if kind == "keys" { [1, 12] } else { [1, 1] };
        assert!(expected.map(Some).contains(&done.code), "{kind}: {done}");
        assert!(done.code == Some(12) || done.stderr.contains(&name), "{kind}: {done}");
        std::fs::write(&path, sound).unwrap();
    }
    stage.scene.assert_sound();
}
