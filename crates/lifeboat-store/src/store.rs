//! What every store promises.

use crate::{Error, Result};
use lifeboat_format::{ObjectKey, ObjectKind};
use std::fmt::Debug;
use std::sync::Arc;

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Listed {
    /// Which object.
    pub key: ObjectKey,
    /// Its length.
    pub bytes: u64,
}

/// Named, immutable, durable bytes.
///
/// # Guarantees
/// - An object is whole or absent, for readers and after a power cut.
/// - What was put is durable when the call returns `Ok`, also when the object was there before.
/// - No call replaces an object. Of several puts of one name with different bytes at most one succeeds.
/// - After an error the change may or may not have happened; repeating it is safe.
/// - A read or a listing that follows a change sees it.
///
/// # Errors
/// [`Error::kind`](crate::Error::kind) tells what to do; messages name the object and the place.
pub trait Store: Send + Sync + Debug {
    /// Stores `bytes` under `key`. Create-only: where the same bytes are already, nothing happens and it is `Ok`; where
    /// others are, it is `Exists`. More bytes than the kind may have are `Usage`.
    fn put(&self, key: &ObjectKey, bytes: &[u8]) -> Result<()>;

    /// A place to write a large object into before it is named, so that it is not held in memory.
    fn spool(&self) -> Result<Box<dyn Spool>>;

    /// All bytes of an object. One that is longer than its kind may be is `Damaged`, and is not read.
    fn get(&self, key: &ObjectKey) -> Result<Vec<u8>>;

    /// Fills `buffer` with the object's bytes from `offset` on; `Damaged` where the object ends before.
    fn get_range(&self, key: &ObjectKey, offset: u64, buffer: &mut [u8]) -> Result<()>;

    /// Length of an object.
    fn bytes(&self, key: &ObjectKey) -> Result<u64>;

    /// All objects of a kind, sorted by key. Files of other names are skipped. What cannot be listed is an error, never
    /// an empty list: collection would take it for garbage.
    fn list(&self, kind: ObjectKind) -> Result<Vec<Listed>>;

    /// The same without lengths. A local file system has to be asked for each length, and for names only once a folder.
    fn names(&self, kind: ObjectKind) -> Result<Vec<ObjectKey>> {
        Ok(self.list(kind)?.into_iter().map(|listed| listed.key).collect())
    }

    /// Deletes an object, durably. Deleting what is absent is `Ok`, and its absence is durable then, too.
    fn delete(&self, key: &ObjectKey) -> Result<()>;

    /// Deletes several objects; all are durably gone when it returns `Ok`. It stops at the first error.
    fn delete_many(&self, keys: &[ObjectKey]) -> Result<()> {
        keys.iter().try_for_each(|key| self.delete(key))
    }

    /// Where the store is, for messages.
    fn location(&self) -> String;
}

/// An object that has no name yet. Dropped without [`Spool::commit`], it leaves nothing behind.
pub trait Spool: Send + Debug {
    /// Writes `bytes` behind what is there. After an error the spool can only be dropped.
    fn append(&mut self, bytes: &[u8]) -> Result<()>;

    /// Bytes appended so far.
    fn bytes(&self) -> u64;

    /// Fills `buffer` with what was appended from `offset` on; `Usage` where the spool ends before.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()>;

    /// Makes it the object `key`, with the promises of [`Store::put`].
    fn commit(self: Box<Self>, key: &ObjectKey) -> Result<()>;
}

/// Refuses to write what no reader would accept.
pub(crate) fn check_length(key: &ObjectKey, bytes: u64) -> Result<()> {
    if bytes <= u64::from(key.kind().bytes_max()) {
        Ok(())
    } else {
        Err(Error::TooLong { object: key.clone(), bytes })
    }
}

/// Copies `source[offset..][..buffer.len()]`, or says no.
pub(crate) fn copy_range(source: &[u8], offset: u64, buffer: &mut [u8]) -> Option<()> {
    let start = usize::try_from(offset).ok()?;
    let range = source.get(start..start.checked_add(buffer.len())?)?;
    buffer.copy_from_slice(range);
    Some(())
}

macro_rules! forward {
    ($pointer:ident) => {
        impl<S: Store + ?Sized> Store for $pointer<S> {
            fn put(&self, key: &ObjectKey, bytes: &[u8]) -> Result<()> {
                (**self).put(key, bytes)
            }

            fn spool(&self) -> Result<Box<dyn Spool>> {
                (**self).spool()
            }

            fn get(&self, key: &ObjectKey) -> Result<Vec<u8>> {
                (**self).get(key)
            }

            fn get_range(&self, key: &ObjectKey, offset: u64, buffer: &mut [u8]) -> Result<()> {
                (**self).get_range(key, offset, buffer)
            }

            fn bytes(&self, key: &ObjectKey) -> Result<u64> {
                (**self).bytes(key)
            }

            fn list(&self, kind: ObjectKind) -> Result<Vec<Listed>> {
                (**self).list(kind)
            }

            fn names(&self, kind: ObjectKind) -> Result<Vec<ObjectKey>> {
                (**self).names(kind)
            }

            fn delete(&self, key: &ObjectKey) -> Result<()> {
                (**self).delete(key)
            }

            fn delete_many(&self, keys: &[ObjectKey]) -> Result<()> {
                (**self).delete_many(keys)
            }

            fn location(&self) -> String {
                (**self).location()
            }
        }
    };
}

forward!(Arc);
forward!(Box);
