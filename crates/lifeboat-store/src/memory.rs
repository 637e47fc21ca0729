//! A store in memory, for tests and for callers that only pass through.

use crate::store::{check_length, copy_range};
use crate::{Error, ErrorKind, Listed, Result, Spool, Store};
use lifeboat_format::{ObjectKey, ObjectKind};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Objects in memory. Clones share them; they last as long as the last clone.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    objects: Arc<Mutex<BTreeMap<ObjectKey, Arc<[u8]>>>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<ObjectKey, Arc<[u8]>>> {
        // Every change is one call on the map: a thread that panicked left nothing half done.
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, key: &ObjectKey) -> Result<Arc<[u8]>> {
        let found = self.objects().get(key).cloned();
        found.ok_or_else(|| Error::NotFound { object: key.clone(), location: self.location() })
    }
}

impl Store for MemoryStore {
    fn put(&self, key: &ObjectKey, bytes: &[u8]) -> Result<()> {
        check_length(key, bytes.len() as u64)?;
        match self.objects().entry(key.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(bytes.into());
                Ok(())
            }
            Entry::Occupied(entry) if **entry.get() == *bytes => Ok(()),
            Entry::Occupied(_) => Err(Error::Exists { object: key.clone(), location: self.location() }),
        }
    }

    fn spool(&self) -> Result<Box<dyn Spool>> {
        Ok(Box::new(MemorySpool { store: self.clone(), content: Vec::new() }))
    }

    fn get(&self, key: &ObjectKey) -> Result<Vec<u8>> {
        self.find(key).map(|bytes| bytes.to_vec())
    }

    fn get_range(&self, key: &ObjectKey, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let bytes = self.find(key)?;
        copy_range(&bytes, offset, buffer).ok_or_else(|| {
            let expected = u128::from(offset) + buffer.len() as u128;
            Error::short(key, self.location(), bytes.len() as u64, expected)
        })
    }

    fn bytes(&self, key: &ObjectKey) -> Result<u64> {
        self.find(key).map(|bytes| bytes.len() as u64)
    }

    fn list(&self, kind: ObjectKind) -> Result<Vec<Listed>> {
        let objects = self.objects();
        let of_kind = objects.iter().filter(|(key, _)| key.kind() == kind);
        Ok(of_kind.map(|(key, bytes)| Listed { key: key.clone(), bytes: bytes.len() as u64 }).collect())
    }

    fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.objects().remove(key);
        Ok(())
    }

    fn location(&self) -> String {
        "memory".to_owned()
    }
}

#[derive(Debug)]
struct MemorySpool {
    store: MemoryStore,
    content: Vec<u8>,
}

impl Spool for MemorySpool {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.content.extend_from_slice(bytes);
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.content.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        copy_range(&self.content, offset, buffer)
            .ok_or_else(|| past_the_end(self.bytes(), offset, buffer.len()))
    }

    fn commit(self: Box<Self>, key: &ObjectKey) -> Result<()> {
        self.store.put(key, &self.content)
    }
}

/// Somebody asked a spool for what was not written yet.
pub(crate) fn past_the_end(bytes: u64, offset: u64, length: usize) -> Error {
    let message = format!("a spool of {bytes} bytes does not have {length} bytes at {offset}");
    Error::plain(ErrorKind::Usage, message)
}
