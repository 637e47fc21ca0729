//! The committed vectors and the golden repository, read with this crate's decoders. `docs/format/vectors/README.md`
//!
//! Must stay true: what these files hold is what earlier versions wrote. A failure here means that existing
//! repositories became unreadable, or that damaged ones became acceptable; the vectors are not to be made anew for it.

#![expect(clippy::unwrap_used, reason = "a vector that cannot be read fails its test")]

#[path = "vectors/bundle.rs"]
mod bundle;
#[path = "vectors/case.rs"]
mod case;
#[path = "../examples/make_vectors/describe.rs"]
mod describe;
#[path = "vectors/walk.rs"]
mod walk;

use case::{Case, check_name, chunk_ids, unhex};
use lifeboat_format::config::Config;
use lifeboat_format::index::IndexObject;
use lifeboat_format::intent::Intent;
use lifeboat_format::keys::Keys;
use lifeboat_format::object::{self, ObjectKind};
use lifeboat_format::pack;
use lifeboat_format::seal::{Key, Suite};
use lifeboat_format::slot::{Secret, Slot};
use lifeboat_format::snapshot::Snapshot;
use lifeboat_format::{ErrorKind, ObjectKey, RepositoryId, SessionId, SlotId};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/format/vectors")
}

fn word(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Damaged => "damaged",
        ErrorKind::Denied => "denied",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::Usage => "usage",
    }
}

/// Decodes every case of a topic; returns how many were accepted and how many refused.
fn check_topic(name: &str) -> (usize, usize) {
    let text = std::fs::read(vectors().join(format!("{name}.json"))).unwrap();
    let topic: Value = serde_json::from_slice(&text).unwrap();
    let master = Key::new(unhex(topic["master"].as_str().unwrap()).try_into().unwrap());
    let repository = topic["repository"].as_str().unwrap().parse::<RepositoryId>().unwrap();
    let keys = Keys::derive(&master, repository, Suite::XChaCha20Poly1305);
    let (mut accepted, mut refused) = (0, 0);
    for (number, value) in topic["cases"].as_array().unwrap().iter().enumerate() {
        let case = Case { case: value, keys: &keys, master: &master };
        match (case.decode(), value.get("value")) {
            (Ok(found), Some(expected)) => {
                assert_eq!(&found, expected, "{name} {number}: {}", value["about"]);
                accepted += 1;
            }
            (Err(error), None) => {
                assert_eq!(
                    word(error.kind()),
                    value["error"],
                    "{name} {number}: {} {error}",
                    value["reason"]
                );
                refused += 1;
            }
            (Ok(found), None) => panic!("{name} {number} was accepted: {} {found}", value["reason"]),
            (Err(error), Some(_)) => panic!("{name} {number} was refused: {} {error}", value["about"]),
        }
    }
    (accepted, refused)
}

macro_rules! topics {
    ($($test:ident: $topic:literal, $accepted:literal, $refused:literal;)*) => {$(
        #[test]
        fn $test() {
            assert_eq!(check_topic($topic), ($accepted, $refused), "the number of cases");
        }
    )*};
}

// The counts are stated so that a shortened file does not pass.
topics! {
    primitives_decode_as_stated: "primitives", 36, 10;
    paths_decode_as_stated: "paths", 8, 9;
    keys_derive_as_stated: "keys", 19, 0;
    frames_decode_as_stated: "frames", 3, 9;
    configs_decode_as_stated: "config", 3, 13;
    slots_open_as_stated: "slots", 5, 23;
    intents_decode_as_stated: "intents", 2, 5;
    condemned_lists_and_verdicts_decode_as_stated: "condemned", 4, 10;
    seals_open_as_stated: "seals", 9, 36;
    regions_open_as_stated: "regions", 6, 34;
    packs_decode_as_stated: "packs", 4, 40;
    index_objects_decode_as_stated: "index", 4, 20;
    tree_nodes_decode_as_stated: "nodes", 5, 44;
    trees_walk_as_stated: "trees", 4, 16;
    list_nodes_decode_as_stated: "lists", 2, 12;
    chunk_lists_walk_as_stated: "files", 2, 5;
    skeletons_decode_as_stated: "skeletons", 2, 7;
    snapshots_decode_as_stated: "snapshots", 6, 27;
    bundles_decode_as_stated: "bundles", 2, 39;
}

fn golden(key: &ObjectKey) -> Vec<u8> {
    std::fs::read(vectors().join("repository").join(key.path())).unwrap()
}

fn golden_names(kind: ObjectKind) -> Vec<ObjectKey> {
    let mut keys = Vec::new();
    let mut folders = vec![vectors().join("repository").join(kind.folder())];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                keys.push(ObjectKey::from_hex(kind, entry.file_name().to_str().unwrap()).unwrap());
            }
        }
    }
    keys
}

#[test]
fn the_golden_repository_opens_with_its_passphrase_and_with_its_key_file() {
    let config = Config::decode(&golden(&ObjectKey::config())).unwrap();
    let repository = config.claimed_repository();
    let text = std::fs::read_to_string(vectors().join("repository.key")).unwrap();
    let digits = text.strip_prefix("lifeboat-key-1 ").unwrap().trim_end();
    let file = Key::new(unhex(digits).try_into().unwrap());
    for secret in [Secret::Passphrase(b"correct horse battery staple"), Secret::KeyFile(&file)] {
        let opened: Vec<Key> = golden_names(ObjectKind::Slot)
            .iter()
            .filter_map(|key| {
                let id = SlotId(key.name().try_into().unwrap());
                Slot::decode(&golden(key)).unwrap().open(repository, id, &secret).ok()
            })
            .map(|bundle| bundle.master.clone())
            .collect();
        assert_eq!(opened.len(), 1, "one slot fits one secret");
        let keys = Keys::derive(&opened[0], repository, config.claimed_suite());
        assert!(config.clone().check(&keys).is_ok());
    }
}

#[test]
fn every_object_of_the_golden_repository_decodes() {
    let config = Config::decode(&golden(&ObjectKey::config())).unwrap();
    let slot = &golden_names(ObjectKind::Slot).into_iter().find_map(|key| {
        let id = SlotId(key.name().try_into().unwrap());
        let secret = Secret::Passphrase(b"correct horse battery staple");
        Slot::decode(&golden(&key)).unwrap().open(config.claimed_repository(), id, &secret).ok()
    });
    let master = &slot.as_ref().unwrap().master;
    let keys = Keys::derive(master, config.claimed_repository(), config.claimed_suite());
    let mut packs = 0;
    for key in golden_names(ObjectKind::Index) {
        check_name(&golden(&key), key.name()).unwrap();
        for indexed in IndexObject::decode(&keys, &golden(&key)).unwrap().packs {
            let bytes = golden(&ObjectKey::new(ObjectKind::Pack, &indexed.name.0));
            check_name(&bytes, &indexed.name.0).unwrap();
            let directory = pack::decode_directory(&keys, &bytes).unwrap();
            assert_eq!((bytes.len(), &directory), (indexed.bytes as usize, &indexed.directory));
            assert_eq!(chunk_ids(&keys, &directory, &bytes).unwrap(), indexed.ids);
            packs += 1;
        }
    }
    assert_eq!(packs, golden_names(ObjectKind::Pack).len());
    let manifest = std::fs::read(vectors().join("repository.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    for stated in manifest["snapshots"].as_array().unwrap() {
        let session = stated["session"].as_str().unwrap().parse::<SessionId>().unwrap();
        let bytes = golden(&ObjectKey::new(ObjectKind::Snapshot, &session.0));
        let snapshot = Snapshot::decode(ObjectKind::Snapshot, &keys, session, &bytes).unwrap();
        assert_eq!(describe::snapshot(&snapshot), stated["snapshot"]);
    }
    let intent = &golden_names(ObjectKind::Intent)[0];
    let (session, counter) = Intent::parse_key(intent).unwrap();
    assert_eq!(Intent::decode(&keys, session, &golden(intent)).unwrap().counter, counter);
    assert!(object::unframe(ObjectKind::Fence, &golden(&golden_names(ObjectKind::Fence)[0])).is_ok());
}

#[test]
fn an_object_larger_than_its_kind_allows_is_refused() {
    // Too large for a vector.
    for (kind, bytes) in
        [(ObjectKind::Intent, 1 << 20), (ObjectKind::Snapshot, 16 << 20), (ObjectKind::Index, 64 << 20)]
    {
        let fits = object::frame(kind, &vec![0; bytes - 12 - if kind.named_by_content() { 0 } else { 32 }]);
        assert_eq!((fits.len(), object::unframe(kind, &fits).is_ok()), (bytes, true));
        let large = object::frame(kind, &vec![0; bytes - 11 - if kind.named_by_content() { 0 } else { 32 }]);
        assert!(object::unframe(kind, &large).is_err(), "{kind:?}");
    }
}
