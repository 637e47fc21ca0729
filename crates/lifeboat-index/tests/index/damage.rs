//! Whatever happens to the files: the cache is rebuilt or says that it is corrupt, and never answers wrongly.

use crate::build::{Objects, REPOSITORY, apply, check, copy, index_name, open, options, pack};
use lifeboat_index::{ErrorKind, Index};
use std::fs;
use std::path::{Path, PathBuf};

/// Every state that the cache was ever in is consistent, so an older one is as good an answer as the last.
fn written_cache() -> (tempfile::TempDir, Objects) {
    let directory = tempfile::tempdir().unwrap();
    let mut objects = Objects::new();
    for name in 0..5u32 {
        let chunks: Vec<u32> = (name * 40..name * 40 + 60).collect();
        objects.insert(name, vec![pack(name, &chunks)]);
        let index = open(directory.path());
        apply(&index, name, objects[&name].clone()).unwrap();
        if name == 3 {
            index.retire(&[index_name(1)]).unwrap();
        }
    }
    (directory, objects)
}

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, found),
            false => found.push(path),
        }
    }
}

#[derive(Default, Debug)]
struct Outcomes {
    intact: usize,
    rebuilt: usize,
    refused: usize,
}

fn expose(original: &Path, file: &Path, objects: &Objects, damage: &dyn Fn(&Path), outcomes: &mut Outcomes) {
    let directory = tempfile::tempdir().unwrap();
    copy(original, directory.path());
    damage(&directory.path().join(file));
    let index = Index::open(directory.path(), REPOSITORY, &options()).unwrap();
    let checked = check(&index, objects);
    match checked {
        Ok(covered) if index.rebuilt() => {
            assert!(covered.is_empty());
            outcomes.rebuilt += 1;
        }
        Ok(_) => outcomes.intact += 1,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
            outcomes.refused += 1;
        }
    }
    // It can always be thrown away.
    drop(index);
    Index::discard(directory.path()).unwrap();
    assert!(!directory.path().join("db").exists());
}

#[test]
fn a_damaged_file_leads_to_a_rebuild_or_an_error_and_never_to_a_wrong_answer() {
    let (original, objects) = written_cache();
    let mut found = Vec::new();
    files(original.path(), &mut found);
    let mut outcomes = Outcomes::default();
    for file in &found {
        let bytes = fs::read(file).unwrap();
        let file = file.strip_prefix(original.path()).unwrap();
        let mut run = |damage: &dyn Fn(&Path)| expose(original.path(), file, &objects, damage, &mut outcomes);
        for position in (0..bytes.len()).step_by((bytes.len() / 16).max(1)) {
            run(&|path| {
                let mut bytes = bytes.clone();
                bytes[position] ^= 1 << (position % 8);
                fs::write(path, bytes).unwrap();
            });
        }
        for length in [0, bytes.len() / 3, bytes.len().saturating_sub(1)] {
            run(&|path| fs::write(path, &bytes[..length]).unwrap());
        }
        run(&|path| fs::write(path, vec![0xa5; bytes.len()]).unwrap());
        run(&|path| fs::write(path, [&bytes[..], &[0; 100]].concat()).unwrap());
        run(&|path| fs::remove_file(path).unwrap());
    }
    // If everything were intact, or nothing, this test would not have met what it is about.
    assert!(outcomes.intact > 0 && outcomes.rebuilt > 0 && outcomes.refused > 0, "{outcomes:?}");
}

#[test]
fn a_reader_never_trusts_a_damaged_cache() {
    let (original, objects) = written_cache();
    let mut found = Vec::new();
    files(original.path(), &mut found);
    for file in found.iter().filter(|file| file.extension().is_some_and(|name| name == "sst")) {
        let bytes = fs::read(file).unwrap();
        for position in (0..bytes.len()).step_by(bytes.len() / 16) {
            let directory = tempfile::tempdir().unwrap();
            copy(original.path(), directory.path());
            // As if another process had the lock.
            let lock = fs::File::open(directory.path().join("lock")).unwrap();
            lock.try_lock().unwrap();
            let mut bytes = bytes.clone();
            bytes[position] ^= 0x10;
            fs::write(directory.path().join(file.strip_prefix(original.path()).unwrap()), bytes).unwrap();
            let index = open(directory.path());
            if let Err(error) = check(&index, &objects) {
                assert_eq!(error.kind(), ErrorKind::Corrupt);
            }
        }
    }
}
