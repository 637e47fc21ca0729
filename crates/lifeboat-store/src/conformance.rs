//! What every store must pass: the promises of [`Store`], one function each.
//!
//! A store's own tests call [`all`] with a closure that gives a new, empty store each time. Broken promises panic.
//! Objects whose names are hashes are named by their content here: a store may check that.

use crate::{ErrorKind, Listed, Result, Store};
use lifeboat_format::{ObjectKey, ObjectKind};
use std::sync::Barrier;

/// Tries every promise on stores from `make`.
///
/// # Panics
/// When a promise is broken.
pub fn all(make: &dyn Fn() -> Box<dyn Store>) {
    an_object_of_every_kind_reads_back_whole_and_in_ranges(&*make());
    an_empty_object_is_an_object(&*make());
    ranges_past_the_end_are_damage(&*make());
    what_is_absent_is_not_found_and_deletes(&*make());
    the_same_bytes_may_be_put_again_and_others_never_replace_them(&*make());
    an_object_longer_than_its_kind_may_be_is_refused(&*make());
    a_listing_is_sorted_and_has_lengths(&*make());
    what_is_deleted_is_gone_and_its_name_is_free(&*make());
    a_large_spool_reads_back_before_and_after_its_commit(&*make());
    a_dropped_spool_leaves_nothing(&*make());
    a_spool_is_bound_by_the_promises_of_a_put(&*make());
    threads_that_put_the_same_bytes_all_succeed(&*make());
    of_threads_that_put_different_bytes_one_succeeds(&*make());
    messages_name_object_and_place(&*make());
}

/// Bytes that are the same in every run and differ between seeds.
fn content(seed: u64, bytes: usize) -> Vec<u8> {
    let mut content = vec![0; bytes];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut content);
    content
}

/// A name for `content`: its hash where the kind says so, and one made from `seed` elsewhere.
fn key(kind: ObjectKind, seed: u64, content: &[u8]) -> ObjectKey {
    let hash =
        if kind.named_by_content() { blake3::hash(content) } else { blake3::hash(&seed.to_le_bytes()) };
    ObjectKey::new(kind, &hash.as_bytes()[..kind.name_bytes()])
}

#[track_caller]
fn fails_as<T: std::fmt::Debug>(kind: ErrorKind, result: Result<T>) {
    match result {
        Err(error) => assert_eq!(error.kind(), kind, "{error}"),
        Ok(value) => panic!("{value:?} instead of an error of kind {kind:?}"),
    }
}

fn spool(store: &dyn Store, key: &ObjectKey, content: &[u8]) -> Result<()> {
    let mut spool = store.spool()?;
    spool.append(content)?;
    spool.commit(key)
}

fn an_object_of_every_kind_reads_back_whole_and_in_ranges(store: &dyn Store) {
    for (seed, kind) in (0..).zip(ObjectKind::ALL) {
        let content = content(seed, 1000);
        store.put(&key(kind, seed, &content), &content).expect("a new object is put");
    }
    for (seed, kind) in (0..).zip(ObjectKind::ALL) {
        let content = content(seed, 1000);
        let key = key(kind, seed, &content);
        assert_eq!(store.get(&key).expect("it was put"), content, "{key:?}");
        assert_eq!(store.bytes(&key).expect("it was put"), 1000);
        for (offset, bytes) in [(0, 1000), (0, 1), (999, 1), (17, 400), (1000, 0), (0, 0)] {
            let mut buffer = vec![0; bytes];
            store.get_range(&key, offset as u64, &mut buffer).expect("the range is inside");
            assert_eq!(buffer, content[offset..offset + bytes]);
        }
        let listed = store.list(kind).expect("a store lists");
        let names = store.names(kind).expect("a store lists");
        assert_eq!(names, std::slice::from_ref(&key));
        assert_eq!(listed, [Listed { key, bytes: 1000 }], "each kind lists its own");
    }
}

fn an_empty_object_is_an_object(store: &dyn Store) {
    let key = key(ObjectKind::Fence, 1, b"");
    store.put(&key, b"").expect("a new object is put");
    assert_eq!(store.get(&key).expect("it was put"), b"");
    assert_eq!(store.bytes(&key).expect("it was put"), 0);
    store.get_range(&key, 0, &mut []).expect("nothing is inside");
    fails_as(ErrorKind::Damaged, store.get_range(&key, 0, &mut [0]));
    assert_eq!(store.list(ObjectKind::Fence).expect("a store lists").len(), 1);
    store.put(&key, b"").expect("the same bytes may be put again");
    fails_as(ErrorKind::Exists, store.put(&key, b"1"));
}

fn ranges_past_the_end_are_damage(store: &dyn Store) {
    let content = content(1, 1000);
    let key = key(ObjectKind::Pack, 1, &content);
    store.put(&key, &content).expect("a new object is put");
    for (offset, bytes) in
        [(0, 1001), (999, 2), (1000, 1), (5000, 1), (u64::MAX, 1), (u64::MAX, 0), (1 << 63, 1), (1001, 0)]
    {
        fails_as(ErrorKind::Damaged, store.get_range(&key, offset, &mut vec![0; bytes]));
    }
}

fn what_is_absent_is_not_found_and_deletes(store: &dyn Store) {
    for kind in ObjectKind::ALL {
        let key = key(kind, 1, b"never put");
        fails_as(ErrorKind::NotFound, store.get(&key));
        fails_as(ErrorKind::NotFound, store.get_range(&key, 0, &mut [0]));
        fails_as(ErrorKind::NotFound, store.get_range(&key, 0, &mut []));
        fails_as(ErrorKind::NotFound, store.bytes(&key));
        store.delete(&key).expect("deleting what is absent is no error");
        store.delete_many(&[key.clone(), key]).expect("deleting what is absent is no error");
        assert_eq!(store.list(kind).expect("an empty store lists"), []);
    }
    store.delete_many(&[]).expect("deleting nothing is no error");
}

fn the_same_bytes_may_be_put_again_and_others_never_replace_them(store: &dyn Store) {
    for kind in ObjectKind::ALL {
        let key = key(kind, 1, b"first");
        store.put(&key, b"first").expect("a new object is put");
        store.put(&key, b"first").expect("the same bytes may be put again");
        spool(store, &key, b"first").expect("the same bytes may be put again");
        if !kind.named_by_content() {
            for other in [&b"other"[..], b"firs", b"first and more", b""] {
                fails_as(ErrorKind::Exists, store.put(&key, other));
                fails_as(ErrorKind::Exists, spool(store, &key, other));
            }
        }
        assert_eq!(store.get(&key).expect("it was put"), b"first");
        assert_eq!(store.list(kind).expect("a store lists").len(), 1);
    }
}

fn an_object_longer_than_its_kind_may_be_is_refused(store: &dyn Store) {
    let bytes_max = ObjectKind::Fence.bytes_max() as usize;
    let longest = content(1, bytes_max);
    let too_long = content(2, bytes_max + 1);
    fails_as(ErrorKind::Usage, store.put(&key(ObjectKind::Fence, 2, &too_long), &too_long));
    fails_as(ErrorKind::Usage, spool(store, &key(ObjectKind::Fence, 2, &too_long), &too_long));
    let key = key(ObjectKind::Fence, 1, &longest);
    store.put(&key, &longest).expect("the longest object is put");
    assert_eq!(
        store.list(ObjectKind::Fence).expect("a store lists"),
        [Listed { key, bytes: bytes_max as u64 }]
    );
}

fn a_listing_is_sorted_and_has_lengths(store: &dyn Store) {
    for kind in [ObjectKind::Pack, ObjectKind::Intent] {
        let mut expected: Vec<Listed> = (0..40)
            .map(|seed| {
                let content = content(seed, 10 + seed as usize);
                let key = key(kind, seed, &content);
                store.put(&key, &content).expect("a new object is put");
                Listed { key, bytes: content.len() as u64 }
            })
            .collect();
        expected.sort();
        assert_eq!(store.list(kind).expect("a store lists"), expected);
        let names: Vec<ObjectKey> = expected.into_iter().map(|listed| listed.key).collect();
        assert_eq!(store.names(kind).expect("a store lists"), names);
    }
}

fn what_is_deleted_is_gone_and_its_name_is_free(store: &dyn Store) {
    let keys: Vec<ObjectKey> = (0..6).map(|seed| key(ObjectKind::Snapshot, seed, b"")).collect();
    keys.iter().for_each(|key| store.put(key, b"old").expect("a new object is put"));
    store.delete(&keys[0]).expect("it was put");
    fails_as(ErrorKind::NotFound, store.get(&keys[0]));
    // One that is gone already is among them.
    store.delete_many(&keys[..3]).expect("they were put");
    let mut left: Vec<&ObjectKey> = keys[3..].iter().collect();
    left.sort();
    let listed = store.list(ObjectKind::Snapshot).expect("a store lists");
    assert_eq!(listed.iter().map(|found| &found.key).collect::<Vec<_>>(), left);
    store.put(&keys[0], b"new").expect("the name is free");
    assert_eq!(store.get(&keys[0]).expect("it was put"), b"new");
}

fn a_large_spool_reads_back_before_and_after_its_commit(store: &dyn Store) {
    let content = content(1, (20 << 20) + 12_345);
    let key = key(ObjectKind::Pack, 1, &content);
    let mut spool = store.spool().expect("a store spools");
    for piece in content.chunks(1_000_003) {
        spool.append(piece).expect("a spool grows");
    }
    assert_eq!(spool.bytes(), content.len() as u64);
    let mut buffer = vec![0; 3 << 20];
    for offset in [0, 7 << 20, content.len() - buffer.len()] {
        spool.read_at(offset as u64, &mut buffer).expect("the range is inside");
        assert!(buffer == content[offset..offset + buffer.len()]);
    }
    let end = content.len() as u64;
    spool.read_at(end, &mut []).expect("nothing is inside");
    fails_as(ErrorKind::Usage, spool.read_at(end - 1, &mut [0; 2]));
    fails_as(ErrorKind::Usage, spool.read_at(u64::MAX, &mut [0; 2]));
    assert_eq!(store.list(ObjectKind::Pack).expect("a store lists"), []);
    spool.commit(&key).expect("a new object is committed");
    assert!(store.get(&key).expect("it was committed") == content);
    store.get_range(&key, 9 << 20, &mut buffer).expect("the range is inside");
    assert!(buffer == content[9 << 20..][..buffer.len()]);
}

fn a_dropped_spool_leaves_nothing(store: &dyn Store) {
    let mut spool = store.spool().expect("a store spools");
    spool.append(&content(1, 1000)).expect("a spool grows");
    drop(spool);
    // One that is still open is not listed either.
    let _open = store.spool().expect("a store spools");
    for kind in ObjectKind::ALL {
        assert_eq!(store.list(kind).expect("a store lists"), []);
    }
}

fn a_spool_is_bound_by_the_promises_of_a_put(store: &dyn Store) {
    let key = key(ObjectKind::Draft, 1, b"");
    store.spool().expect("a store spools").commit(&key).expect("an empty object is committed");
    assert_eq!(store.get(&key).expect("it was committed"), b"");
    store.put(&key, b"").expect("the same bytes may be put again");
    fails_as(ErrorKind::Exists, store.put(&key, b"other"));
    // Two at once do not see each other.
    let (mut left, mut right) =
        (store.spool().expect("a store spools"), store.spool().expect("a store spools"));
    left.append(b"left").expect("a spool grows");
    right.append(b"right").expect("a spool grows");
    let keys = [3, 2].map(|seed| self::key(ObjectKind::Draft, seed, b""));
    left.commit(&keys[0]).expect("a new object is committed");
    right.commit(&keys[1]).expect("a new object is committed");
    assert_eq!(keys.map(|key| store.get(&key).expect("it was committed")), [&b"left"[..], b"right"]);
}

/// Puts from several threads at the same moment; their results in the order of `contents`.
fn put_at_once(store: &dyn Store, key: &ObjectKey, contents: &[Vec<u8>]) -> Vec<Result<()>> {
    let barrier = Barrier::new(contents.len());
    std::thread::scope(|scope| {
        let start = |content| {
            let barrier = &barrier;
            scope.spawn(move || {
                barrier.wait();
                store.put(key, content)
            })
        };
        let threads: Vec<_> = contents.iter().map(|content| start(content)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a put does not panic")).collect()
    })
}

fn threads_that_put_the_same_bytes_all_succeed(store: &dyn Store) {
    for round in 0..8 {
        let contents = vec![content(round, 5000); 6];
        let key = key(ObjectKind::Pack, round, &contents[0]);
        for result in put_at_once(store, &key, &contents) {
            result.expect("the same bytes may be put at once");
        }
        assert_eq!(store.get(&key).expect("it was put"), contents[0]);
    }
    assert_eq!(store.list(ObjectKind::Pack).expect("a store lists").len(), 8);
}

fn of_threads_that_put_different_bytes_one_succeeds(store: &dyn Store) {
    for round in 0..8 {
        let contents: Vec<Vec<u8>> = (0..6).map(|thread| content(100 * round + thread, 5000)).collect();
        let key = key(ObjectKind::Intent, round, b"");
        let results = put_at_once(store, &key, &contents);
        let winners: Vec<usize> = (0..results.len()).filter(|thread| results[*thread].is_ok()).collect();
        assert_eq!(winners.len(), 1, "{results:?}");
        assert_eq!(store.get(&key).expect("it was put"), contents[winners[0]]);
        results.into_iter().filter(Result::is_err).for_each(|result| fails_as(ErrorKind::Exists, result));
    }
}

fn messages_name_object_and_place(store: &dyn Store) {
    let location = store.location();
    assert!(!location.is_empty());
    let key = key(ObjectKind::Snapshot, 1, b"");
    let missing = store.get(&key).expect_err("it was never put").to_string();
    assert!(missing.contains(&key.to_string()) && missing.contains(&location), "{missing}");
    store.put(&key, b"first").expect("a new object is put");
    let taken = store.put(&key, b"other").expect_err("its name is taken").to_string();
    assert!(taken.contains(&key.to_string()) && taken.contains(&location), "{taken}");
    let short = store.get_range(&key, 1, &mut [0; 9]).expect_err("it is shorter").to_string();
    assert!(short.contains(&key.to_string()) && short.ends_with("ends after 5 of 10 bytes"), "{short}");
}
