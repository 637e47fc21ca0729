//! What a single process sees.

use crate::build::{Objects, REPOSITORY, apply, check, copy, id, index_name, object, open, options, pack};
use lifeboat_format::{PackName, RepositoryId};
use lifeboat_index::{ErrorKind, Index, Opening};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn is_empty(index: &Index) -> bool {
    index.covered().unwrap().is_empty()
        && index.counts().unwrap().packs == 0
        && index.locate(&[id(1), id(2)]).unwrap() == [None, None]
}

#[test]
fn what_was_applied_is_found_now_and_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let objects = Objects::from([
        (1, vec![pack(1, &[1, 2, 3, 4, 5]), pack(2, &[6, 7])]),
        (2, vec![pack(3, &[8]), pack(4, &[])]),
    ]);
    let index = open(directory.path());
    assert!(index.opening() == Opening::Writer && !index.rebuilt() && is_empty(&index));
    for (name, packs) in &objects {
        apply(&index, *name, packs.clone()).unwrap();
    }
    assert_eq!(check(&index, &objects).unwrap(), BTreeSet::from([1, 2]));
    drop(index);
    let index = open(directory.path());
    assert!(index.opening() == Opening::Writer && !index.rebuilt());
    assert_eq!(check(&index, &objects).unwrap(), BTreeSet::from([1, 2]));
}

#[test]
fn answers_come_in_the_order_of_the_question_however_long_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let index = open(directory.path());
    let chunks: Vec<u32> = (0..3000).collect();
    apply(&index, 1, vec![pack(1, &chunks)]).unwrap();
    let ids: Vec<_> = (0..6000).rev().chain(0..6000).map(id).collect();
    let found = index.locate(&ids).unwrap();
    for (number, location) in (0..6000).rev().chain(0..6000).zip(found) {
        assert_eq!(location.map(|found| found.length), (number < 3000).then_some(number % 1000 + 1));
    }
    assert_eq!(index.locate(&[]).unwrap(), []);
}

#[test]
fn a_crash_at_any_moment_leaves_what_was_applied_before() {
    let directory = tempfile::tempdir().unwrap();
    let mut objects = Objects::new();
    let index = open(directory.path());
    for name in 0..12 {
        let packs = vec![pack(name, &[name, name + 1, name + 2])];
        objects.insert(name, packs.clone());
        apply(&index, name, packs).unwrap();
        if name % 3 == 2 {
            index.retire(&[index_name(name - 2)]).unwrap();
        }
        let crashed = tempfile::tempdir().unwrap();
        copy(directory.path(), crashed.path());
        let copied = open(crashed.path());
        assert!(!copied.rebuilt());
        assert_eq!(check(&copied, &objects).unwrap(), check(&index, &objects).unwrap());
    }
}

#[test]
fn another_repositorys_cache_is_wiped_and_never_read() {
    let directory = tempfile::tempdir().unwrap();
    apply(&open(directory.path()), 1, vec![pack(1, &[1])]).unwrap();
    let other = Index::open(directory.path(), RepositoryId([8; 16]), &options()).unwrap();
    assert!(other.opening() == Opening::Writer && other.rebuilt() && is_empty(&other));
    apply(&other, 1, vec![pack(1, &[1])]).unwrap();
    // Its writer is at work, so it cannot be wiped; read from it is not either.
    let ours = open(directory.path());
    assert!(ours.opening() == Opening::ReaderWithSpill && is_empty(&ours));
}

#[test]
fn a_pack_dies_with_the_last_object_that_lists_it() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (pack(1, &[1, 2]), pack(2, &[3]));
    let objects =
        Objects::from([(1, vec![one.clone()]), (2, vec![two.clone()]), (3, vec![one.clone(), two.clone()])]);
    // Whichever came first, the merged object or those that it replaces.
    for order in [[1, 2, 3], [3, 2, 1]] {
        let directory = tempfile::tempdir_in(directory.path()).unwrap();
        let index = open(directory.path());
        for name in order {
            apply(&index, name, objects[&name].clone()).unwrap();
        }
        let number = index.pack_number(&one.name).unwrap();
        index.retire(&[index_name(1), index_name(2), index_name(99)]).unwrap();
        assert_eq!(check(&index, &objects).unwrap(), BTreeSet::from([3]));
        assert_eq!(index.pack_number(&one.name).unwrap(), number);
        index.retire(&[index_name(3)]).unwrap();
        assert!(check(&index, &objects).unwrap().is_empty() && is_empty(&index));
        let gone = index.region(number.unwrap(), 0).unwrap();
        assert_eq!(gone, None);
    }
}

#[test]
fn a_copy_takes_over_when_the_pack_of_the_entry_dies() {
    let objects = Objects::from([
        (1, vec![pack(1, &[1, 2, 3])]),
        (2, vec![pack(2, &[2, 3, 4])]),
        (3, vec![pack(3, &[3, 4, 5])]),
    ]);
    let orders = [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]];
    let directory = tempfile::tempdir().unwrap();
    let index = open(directory.path());
    for applied in orders {
        for retired in orders {
            for name in applied {
                apply(&index, name, objects[&name].clone()).unwrap();
            }
            for name in retired {
                index.retire(&[index_name(name)]).unwrap();
                assert!(!check(&index, &objects).unwrap().contains(&name));
            }
        }
    }
}

#[test]
fn copies_inside_one_application_are_kept_too() {
    let directory = tempfile::tempdir().unwrap();
    let index = open(directory.path());
    let objects = Objects::from([
        (1, vec![pack(1, &[1, 1, 2]), pack(2, &[1, 2])]),
        (2, vec![pack(3, &[2, 1]), pack(2, &[1, 2]), pack(2, &[1, 2])]),
    ]);
    let mut both = objects.iter().map(|(name, packs)| (index_name(*name), object(packs.clone())));
    index.apply(&mut both).unwrap();
    check(&index, &objects).unwrap();
    index.retire(&[index_name(1)]).unwrap();
    assert_eq!(check(&index, &objects).unwrap(), BTreeSet::from([2]));
    apply(&index, 1, objects[&1].clone()).unwrap();
    index.retire(&[index_name(2)]).unwrap();
    assert_eq!(check(&index, &objects).unwrap(), BTreeSet::from([1]));
}

#[test]
fn an_object_that_contradicts_itself_is_refused_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let index = open(directory.path());
    let mut short = pack(1, &[1, 2]);
    short.ids.pop();
    let mut keyless = pack(2, &[3]);
    keyless.directory.envelopes.clear();
    for bad in [short, keyless] {
        let error = apply(&index, 1, vec![pack(3, &[4]), bad]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(is_empty(&index) && index.locate_one(&id(4)).unwrap().is_none());
    }
    apply(&index, 1, vec![pack(3, &[4])]).unwrap();
    assert!(index.locate_one(&id(4)).unwrap().is_some());
}

#[test]
fn a_temporary_index_leaves_nothing_behind() {
    let parent = tempfile::tempdir().unwrap();
    let index = Index::open_temporary(parent.path(), REPOSITORY, &options()).unwrap();
    let objects = Objects::from([(1, vec![pack(1, &[1, 2])])]);
    apply(&index, 1, objects[&1].clone()).unwrap();
    assert_eq!(check(&index, &objects).unwrap(), BTreeSet::from([1]));
    assert_eq!(index.opening(), Opening::Temporary);
    drop(index);
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
}

#[test]
fn a_discarded_cache_is_empty_and_a_written_one_is_busy() {
    let directory = tempfile::tempdir().unwrap();
    let index = open(directory.path());
    apply(&index, 1, vec![pack(1, &[1])]).unwrap();
    assert_eq!(Index::discard(directory.path()).unwrap_err().kind(), ErrorKind::Busy);
    drop(index);
    Index::discard(directory.path()).unwrap();
    let index = open(directory.path());
    assert!(is_empty(&index) && !index.rebuilt());
}

#[test]
fn where_no_cache_can_be_made_it_spills() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let index = open(&file.path().join("cache"));
    assert_eq!(index.opening(), Opening::ReaderWithSpill);
    assert_eq!(index.not_writer_because().unwrap().kind(), ErrorKind::Unavailable);
    apply(&index, 1, vec![pack(1, &[1])]).unwrap();
    assert!(index.locate_one(&id(1)).unwrap().is_some());
    let lost = Path::new("/dev/null/nowhere").to_path_buf();
    let options = lifeboat_index::Options { fallback_directory: lost.clone(), ..options() };
    assert_eq!(Index::open(&lost, REPOSITORY, &options).err().unwrap().kind(), ErrorKind::Unavailable);
}

#[test]
fn an_unknown_pack_has_no_number() {
    let directory = tempfile::tempdir().unwrap();
    let index = open(directory.path());
    assert_eq!(index.pack_number(&PackName([1; 32])).unwrap(), None);
}

#[test]
fn threads_that_look_up_never_miss_a_chunk_that_changes_packs() {
    let directory = tempfile::tempdir().unwrap();
    let index = open(directory.path());
    let chunks: Vec<u32> = (0..50).collect();
    apply(&index, 0, vec![pack(0, &chunks)]).unwrap();
    let ids: Vec<_> = chunks.iter().map(|chunk| id(*chunk)).collect();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                assert!(index.locate(&ids).unwrap().iter().all(Option::is_some));
            }
        });
        // Repacking, over and over.
        for number in 1..30 {
            apply(&index, number, vec![pack(number, &chunks)]).unwrap();
            index.retire(&[index_name(number - 1)]).unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn an_index_is_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Index>();
}
