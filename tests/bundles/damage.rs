//! Whatever happened to a bundle, it is refused with a clear word and nothing of it is listed.

use crate::place::{Place, assert_sound, check_bundle, import, key, open};
use lifeboat::Secret;
use lifeboat::bundle::{BundleReader, Error, Since};
use lifeboat::format::ObjectKind;
use lifeboat::format::bundle::{FRAME_HEAD_BYTES, PREFIX_BYTES};
use lifeboat::format::seal::Key;
use lifeboat::format::snapshot::SnapshotKind;
use lifeboat_store::{Fault, FaultPlan, FaultyStore, Store};

/// A repository with two small snapshots, and the bundles of both.
struct Bundles {
    folder: tempfile::TempDir,
    place: Place,
    first: Vec<u8>,
    second: Vec<u8>,
}

fn bundles() -> Bundles {
    let (folder, place) = (tempfile::tempdir().unwrap(), Place::new());
    std::fs::write(folder.path().join("a"), "content of a").unwrap();
    std::fs::write(folder.path().join("b"), "content of b").unwrap();
    let first = place.snapshot(&[folder.path()], SnapshotKind::Full);
    std::fs::write(folder.path().join("b"), "another content of b").unwrap();
    let second = place.snapshot(&[folder.path()], SnapshotKind::Incremental);
    let (first, second) = (place.export(&first, Since::Nothing), place.export(&second, Since::Parent));
    Bundles { folder, place, first, second }
}

/// The header, and each frame.
fn split(bundle: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let number = |at: usize| u32::from_le_bytes(bundle[at..at + 4].try_into().unwrap()) as usize;
    let mut at = PREFIX_BYTES + 4 + number(PREFIX_BYTES);
    let header = bundle[..at].to_vec();
    let mut frames = Vec::new();
    while at < bundle.len() {
        let end = at + FRAME_HEAD_BYTES + number(at + 1);
        frames.push(bundle[at..end].to_vec());
        at = end;
    }
    (header, frames)
}

/// It is refused, with and without a repository, and leaves no snapshot.
#[track_caller]
fn refuse(receiver: &Place, bundle: &[u8], what: &str) -> Error {
    assert!(check_bundle(bundle).is_err(), "{what} is called sound");
    let error = receiver.import(bundle).map(drop).expect_err(what);
    assert!(receiver.snapshots().is_empty(), "{what} left a snapshot");
    for kind in [ObjectKind::Draft, ObjectKind::Intent] {
        assert!(receiver.store.list(kind).unwrap().is_empty(), "{what} left a {}", kind.noun());
    }
    error
}

#[test]
fn a_bundle_that_was_cut_off_anywhere_is_refused_as_that() {
    let (bundles, receiver) = (bundles(), Place::new());
    for length in 0..bundles.first.len() {
        let error = refuse(&receiver, &bundles.first[..length], &format!("the first {length} bytes"));
        assert!(matches!(error, Error::CutOff(_)), "{length}: {error:?}");
    }
    receiver.import(&bundles.first).unwrap();
    receiver.assert_sound();
}

#[test]
fn a_bundle_with_a_changed_byte_is_refused() {
    let (bundles, receiver) = (bundles(), Place::new());
    for at in 0..bundles.first.len() {
        for bit in [0x01, 0x80] {
            let mut bad = bundles.first.clone();
            bad[at] ^= bit;
            refuse(&receiver, &bad, &format!("a bundle with byte {at} changed"));
        }
    }
}

#[test]
fn frames_that_were_left_out_doubled_moved_or_taken_from_elsewhere_are_refused() {
    let (bundles, receiver) = (bundles(), Place::new());
    let again = bundles.place.export(&bundles.place.snapshots()[0], Since::Nothing);
    let ((header, frames), (_, others), (other_header, _)) =
        (split(&bundles.first), split(&bundles.second), split(&again));
    assert!(frames.len() >= 4);
    let (_, same) = split(&again);
    let refuse = |header: &[u8], frames: &[&Vec<u8>], what: &str| {
        let bundle = [header.to_vec(), frames.iter().flat_map(|frame| frame.to_vec()).collect()].concat();
        refuse(&receiver, &bundle, what);
    };
    let all: Vec<&Vec<u8>> = frames.iter().collect();
    for at in 0..frames.len() {
        let mut without = all.clone();
        without.remove(at);
        refuse(&header, &without, &format!("a bundle without frame {at}"));
        let mut doubled = all.clone();
        doubled.insert(at, all[at]);
        refuse(&header, &doubled, &format!("a bundle with frame {at} twice"));
        for to in 0..at {
            let mut moved = all.clone();
            moved.swap(at, to);
            refuse(&header, &moved, &format!("a bundle with frames {at} and {to} exchanged"));
        }
        // From another bundle, and even from another one of the same snapshot.
        for source in [&others, &same] {
            let mut spliced = all.clone();
            spliced[at] = &source[at.min(source.len() - 1)];
            refuse(&header, &spliced, &format!("a bundle with frame {at} of another one"));
        }
    }
    refuse(&other_header, &all, "the frames of one bundle behind the header of another");
    let mut longer = all.clone();
    let more = vec![0; 1];
    longer.push(&more);
    refuse(&header, &longer, "a bundle with a byte behind its end");
}

#[test]
fn a_bundle_of_another_version_is_refused_by_its_version_and_another_file_as_no_bundle() {
    let (bundles, receiver) = (bundles(), Place::new());
    let mut newer = bundles.first.clone();
    newer[9] = 2;
    let error = refuse(&receiver, &newer, "a newer bundle");
    let Error::Format { source, .. } = &error else { panic!("{error:?}") };
    assert!(source.to_string().contains("format version 2"), "{source}");
    let error = refuse(&receiver, &vec![b'x'; 5000], "another file");
    let Error::Format { source, .. } = &error else { panic!("{error:?}") };
    assert!(source.to_string().contains("does not begin with `lifeboat`"), "{source}");
}

#[test]
fn another_key_or_a_password_does_not_open_a_bundle() {
    let bundles = bundles();
    let other = Key::new([4; 32]);
    for secret in [Secret::KeyFile(&other), Secret::Passphrase(b"password")] {
        assert!(matches!(BundleReader::new(&secret, &bundles.first[..]).map(drop), Err(Error::WrongKey)));
    }
    assert!(BundleReader::new(&Secret::KeyFile(&key()), &bundles.first[..]).is_ok());
}

#[test]
fn an_import_that_is_killed_anywhere_lists_nothing_or_all_and_goes_through_the_second_time() {
    let bundles = bundles();
    let snapshots = bundles.place.snapshots();
    // What an import of the difference costs, from a repository that has the base.
    let prepare = || {
        let receiver = Place::new();
        receiver.import(&bundles.first).unwrap();
        receiver
    };
    let receiver = prepare();
    let counting = FaultyStore::new(receiver.store.clone(), FaultPlan::none());
    import(&open(counting.clone()), &bundles.second).unwrap();
    let operations = counting.operations();
    assert!(operations > 10, "{operations}");
    let mut resumed = 0;
    for operation in 0..operations {
        for fault in [Fault::CrashBefore, Fault::CrashAfter, Fault::CrashTorn] {
            let receiver = prepare();
            let faulty = FaultyStore::new(receiver.store.clone(), FaultPlan::none());
            let repository = open(faulty.clone());
            faulty.restart(FaultPlan::at(operation, fault));
            let result = import(&repository, &bundles.second);
            let repository = open(receiver.store.clone());
            let list = repository.snapshots().unwrap();
            // A store that cannot put at once may leave half of a snapshot's object: it is no snapshot.
            let listed = list.snapshots.iter().any(|listed| listed.snapshot.id == snapshots[1].id);
            assert!(listed || result.is_err(), "an acknowledged import is lost at {operation}");
            let indexed = receiver.store.list(ObjectKind::Index).unwrap().len() > 1;
            let again = import(&repository, &bundles.second).unwrap();
            assert_eq!(again.was_there, listed);
            if indexed && fault != Fault::CrashTorn && !listed {
                assert_eq!(again.stored_bytes, 0, "what was stored at {operation} is stored twice");
                resumed += 1;
            }
            if fault != Fault::CrashTorn {
                assert_sound(&repository);
            }
            assert_eq!(repository.snapshots().unwrap().snapshots.len(), 2);
        }
    }
    assert!(resumed > 2, "{resumed}");
    drop(bundles.folder);
}
