//! Counts what is asked of a store: tests count operations instead of measuring time.

use crate::{Listed, Operation, Result, Spool, Store};
use lifeboat_format::{ObjectKey, ObjectKind};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How often, and how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Calls, failed ones included.
    pub operations: u64,
    /// Bytes written or read by the calls that succeeded; 0 for those that move none.
    pub bytes: u64,
}

type Counts = Mutex<BTreeMap<(Operation, ObjectKind), Count>>;

/// A store that counts; clones count together. Calls on a spool count when it is committed, as one operation.
#[derive(Debug, Clone)]
pub struct CountingStore<S> {
    store: S,
    counts: Arc<Counts>,
}

impl<S: Store> CountingStore<S> {
    /// Counts what is asked of `store` from now on.
    pub fn new(store: S) -> Self {
        Self { store, counts: Arc::default() }
    }

    /// The store itself: what is asked of it directly is not counted.
    pub fn inner(&self) -> &S {
        &self.store
    }

    /// Calls of one operation on one kind.
    pub fn count(&self, operation: Operation, kind: ObjectKind) -> Count {
        lock(&self.counts).get(&(operation, kind)).copied().unwrap_or_default()
    }

    /// Calls of one operation on all kinds.
    pub fn count_all(&self, operation: Operation) -> Count {
        sum(lock(&self.counts).iter().filter(|((found, _), _)| *found == operation))
    }

    /// Puts and commits of one kind.
    pub fn writes_of(&self, kind: ObjectKind) -> Count {
        let writes = [Operation::Put, Operation::Commit];
        sum(lock(&self.counts)
            .iter()
            .filter(|((operation, found), _)| *found == kind && writes.contains(operation)))
    }

    /// Whole and partial reads of one kind.
    pub fn reads_of(&self, kind: ObjectKind) -> Count {
        let reads = [Operation::Get, Operation::GetRange];
        sum(lock(&self.counts)
            .iter()
            .filter(|((operation, found), _)| *found == kind && reads.contains(operation)))
    }

    /// Everything that was counted, in a fixed order.
    pub fn counts(&self) -> BTreeMap<(Operation, ObjectKind), Count> {
        lock(&self.counts).clone()
    }

    /// Starts from zero.
    pub fn reset(&self) {
        lock(&self.counts).clear();
    }
}

fn sum<'a>(counts: impl Iterator<Item = (&'a (Operation, ObjectKind), &'a Count)>) -> Count {
    counts.fold(Count::default(), |sum, (_, count)| Count {
        operations: sum.operations + count.operations,
        bytes: sum.bytes + count.bytes,
    })
}

fn lock(counts: &Counts) -> MutexGuard<'_, BTreeMap<(Operation, ObjectKind), Count>> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

fn note<T>(
    counts: &Counts,
    operation: Operation,
    kind: ObjectKind,
    bytes: u64,
    result: Result<T>,
) -> Result<T> {
    let mut counts = lock(counts);
    let count = counts.entry((operation, kind)).or_default();
    count.operations += 1;
    count.bytes += if result.is_ok() { bytes } else { 0 };
    drop(counts);
    result
}

impl<S: Store> Store for CountingStore<S> {
    fn put(&self, key: &ObjectKey, bytes: &[u8]) -> Result<()> {
        let result = self.store.put(key, bytes);
        note(&self.counts, Operation::Put, key.kind(), bytes.len() as u64, result)
    }

    fn spool(&self) -> Result<Box<dyn Spool>> {
        let spool = self.store.spool()?;
        Ok(Box::new(CountingSpool { spool, counts: Arc::clone(&self.counts) }))
    }

    fn get(&self, key: &ObjectKey) -> Result<Vec<u8>> {
        let result = self.store.get(key);
        let bytes = result.as_ref().map_or(0, |bytes| bytes.len() as u64);
        note(&self.counts, Operation::Get, key.kind(), bytes, result)
    }

    fn get_range(&self, key: &ObjectKey, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let result = self.store.get_range(key, offset, buffer);
        note(&self.counts, Operation::GetRange, key.kind(), buffer.len() as u64, result)
    }

    fn bytes(&self, key: &ObjectKey) -> Result<u64> {
        note(&self.counts, Operation::Bytes, key.kind(), 0, self.store.bytes(key))
    }

    fn list(&self, kind: ObjectKind) -> Result<Vec<Listed>> {
        note(&self.counts, Operation::List, kind, 0, self.store.list(kind))
    }

    fn names(&self, kind: ObjectKind) -> Result<Vec<ObjectKey>> {
        note(&self.counts, Operation::List, kind, 0, self.store.names(kind))
    }

    fn delete(&self, key: &ObjectKey) -> Result<()> {
        note(&self.counts, Operation::Delete, key.kind(), 0, self.store.delete(key))
    }

    fn delete_many(&self, keys: &[ObjectKey]) -> Result<()> {
        let result = self.store.delete_many(keys);
        keys.iter().try_for_each(|key| note(&self.counts, Operation::Delete, key.kind(), 0, Ok(())))?;
        result
    }

    fn location(&self) -> String {
        self.store.location()
    }
}

#[derive(Debug)]
struct CountingSpool {
    spool: Box<dyn Spool>,
    counts: Arc<Counts>,
}

impl Spool for CountingSpool {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.spool.append(bytes)
    }

    fn bytes(&self) -> u64 {
        self.spool.bytes()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.spool.read_at(offset, buffer)
    }

    fn commit(self: Box<Self>, key: &ObjectKey) -> Result<()> {
        let bytes = self.spool.bytes();
        note(&self.counts, Operation::Commit, key.kind(), bytes, self.spool.commit(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStore;

    #[test]
    fn operations_and_bytes_are_counted_by_kind() {
        let store = CountingStore::new(MemoryStore::new());
        let fence = ObjectKey::new(ObjectKind::Fence, &[1; 16]);
        let pack = ObjectKey::new(ObjectKind::Pack, &[2; 32]);
        store.put(&fence, b"12345").unwrap();
        assert!(store.put(&fence, b"other").is_err());
        let mut spool = store.spool().unwrap();
        spool.append(b"123").unwrap();
        assert_eq!(store.writes_of(ObjectKind::Pack), Count::default());
        spool.commit(&pack).unwrap();
        store.get_range(&pack, 1, &mut [0; 2]).unwrap();
        store.delete_many(&[pack, fence]).unwrap();
        assert_eq!(store.writes_of(ObjectKind::Fence), Count { operations: 2, bytes: 5 });
        assert_eq!(store.count(Operation::Commit, ObjectKind::Pack), Count { operations: 1, bytes: 3 });
        assert_eq!(store.reads_of(ObjectKind::Pack), Count { operations: 1, bytes: 2 });
        assert_eq!(store.count_all(Operation::Delete).operations, 2);
        store.reset();
        assert!(store.counts().is_empty());
    }
}
