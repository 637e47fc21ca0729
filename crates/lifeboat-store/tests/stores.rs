//! Every store of this crate passes the conformance suite, wrapped and unwrapped.

#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised, in its own functions, too")]

use lifeboat_format::{ObjectKey, ObjectKind};
use lifeboat_store::{CountingStore, FaultPlan, FaultyStore, LocalStore, MemoryStore, Store, conformance};
use proptest::prelude::*;
use std::cell::Cell;
use std::sync::Arc;
use tempfile::TempDir;

#[test]
fn memory_keeps_the_promises_of_a_store() {
    conformance::all(&|| Box::new(MemoryStore::new()));
}

#[test]
fn a_local_folder_keeps_the_promises_of_a_store() {
    let folder = TempDir::new().unwrap();
    let stores = Cell::new(0);
    conformance::all(&|| {
        stores.set(stores.get() + 1);
        Box::new(LocalStore::create(folder.path().join(stores.get().to_string())).unwrap())
    });
    let left = |store: u32| std::fs::read_dir(folder.path().join(format!("{store}/tmp"))).unwrap().count();
    assert!((1..=stores.get()).all(|store| left(store) == 0), "a temporary file was left behind");
}

#[test]
fn counting_and_faults_that_are_not_planned_change_nothing() {
    conformance::all(&|| Box::new(CountingStore::new(MemoryStore::new())));
    conformance::all(&|| Box::new(FaultyStore::new(MemoryStore::new(), FaultPlan::none())));
    conformance::all(&|| Box::new(Arc::new(MemoryStore::new()) as Arc<dyn Store>));
}

/// What an operation gave: bytes, a listing, or the kind of its error.
fn outcome(store: &dyn Store, operation: (u8, u8, u8, u16)) -> String {
    let (operation, kind, name, length) = operation;
    let kind = [ObjectKind::Config, ObjectKind::Pack, ObjectKind::Intent][usize::from(kind)];
    let key = ObjectKey::new(kind, &vec![name; kind.name_bytes()]);
    let bytes = vec![name; usize::from(length)];
    let result = match operation {
        0 => store.put(&key, &bytes).map(|()| String::new()),
        1 => store.spool().and_then(|mut spool| {
            spool.append(&bytes)?;
            spool.commit(&key).map(|()| String::new())
        }),
        2 => store.delete(&key).map(|()| String::new()),
        3 => store.get(&key).map(|bytes| format!("{bytes:?}")),
        4 => store.bytes(&key).map(|bytes| bytes.to_string()),
        5 => {
            let mut buffer = vec![0; 2];
            store.get_range(&key, u64::from(length), &mut buffer).map(|()| format!("{buffer:?}"))
        }
        _ => store.list(kind).map(|listed| format!("{listed:?}")),
    };
    result.unwrap_or_else(|error| format!("{:?}", error.kind()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_local_folder_and_memory_cannot_be_told_apart(
        operations in proptest::collection::vec((0u8..7, 0u8..3, 0u8..3, 0u16..5), 1..60),
    ) {
        let folder = TempDir::new().unwrap();
        let local = LocalStore::create(folder.path()).unwrap();
        let memory = MemoryStore::new();
        for operation in operations {
            prop_assert_eq!(outcome(&local, operation), outcome(&memory, operation), "{:?}", operation);
        }
    }
}
