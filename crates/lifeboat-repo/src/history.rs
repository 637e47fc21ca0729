//! The snapshots before a writer's own: all of them in their order, and decoded as far as it asks.
//!
//! Must stay true: what is looked for is mostly the newest, so a run of a source that was there before costs the same whether
//! there are ten before it or a thousand. Objects are listed without their lengths: one that was cut short since this machine
//! read it may still be a parent, whose roots the intent pins and whose packs are looked at; `snapshots` and `check` tell of it.

use crate::error::{Error, Result};
use crate::remembered::Remembered;
use crate::repository::Repository;
use crate::snapshots::{ListedSnapshot, age, decoded, greatest_of_each, session_of};
use lifeboat_format::snapshot::{Head, Snapshot};
use lifeboat_format::{HostId, ObjectKey, ObjectKind, SessionId};
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

/// All complete snapshots at one moment.
#[derive(Debug)]
pub struct History {
    /// Oldest first.
    entries: Vec<Entry>,
    remembered: Remembered,
    damaged: Mutex<Vec<(ObjectKey, Error)>>,
}

#[derive(Debug)]
struct Entry {
    key: ObjectKey,
    head: Head,
    /// On the heap, as entries are moved into their order.
    snapshot: OnceLock<Option<Box<ListedSnapshot>>>,
}

impl Entry {
    fn session(&self) -> SessionId {
        session_of(&self.key)
    }
}

impl Repository {
    /// Lists all complete snapshots.
    pub fn history(&self) -> Result<History> {
        let folder = self.cache_directory().map(PathBuf::as_path);
        let mut remembered = Remembered::open(folder, self.keys());
        let names = self.store().names(ObjectKind::Snapshot);
        let names = names.map_err(Error::store("the snapshots cannot be listed"))?;
        let objects: Vec<_> = names.into_iter().map(|key| (key, None)).collect();
        let mut damaged = self.read_unknown(&objects, &mut remembered);
        let mut objects_there = Vec::with_capacity(objects.len());
        for (key, _) in objects {
            match remembered.get(&session_of(&key)).map(|one| one.opened.head()) {
                Some(Ok(head)) => objects_there.push(Entry { key, head, snapshot: OnceLock::new() }),
                Some(Err(error)) => {
                    let error = Error::format(format!("{key} cannot be read"))(error);
                    damaged.push((key, error));
                }
                None => {}
            }
        }
        let mut entries = greatest_of_each(
            objects_there,
            |entry| (entry.head, entry.session()),
            // It is lacking where any object of its revision is.
            |entry, before| {
                entry.head.lacking |= before.head.lacking && before.head.revision == entry.head.revision;
            },
        );
        entries.sort_unstable_by_key(|entry| age(&entry.head, entry.session()));
        self.watch_chains(entries.iter().map(|entry| entry.head), damaged.is_empty());
        Ok(History { entries, remembered, damaged: Mutex::new(damaged) })
    }
}

impl History {
    /// The last snapshot of a host.
    pub fn last_of(&self, host: HostId) -> Option<Head> {
        let own = self.entries.iter().map(|entry| entry.head).filter(|head| head.host_id == host);
        own.max_by_key(|head| head.sequence)
    }

    /// The newest snapshot that is wanted. Damaged ones are passed over.
    ///
    /// # Cost
    /// Decodes each one that is newer than it: all of them where none is wanted.
    pub fn newest(&self, mut is_wanted: impl FnMut(&Snapshot) -> bool) -> Option<&ListedSnapshot> {
        let newest_first = self.entries.iter().rev();
        let mut snapshots =
            newest_first.filter_map(|entry| entry.snapshot.get_or_init(|| self.decode(entry)).as_deref());
        snapshots.find(|listed| is_wanted(&listed.snapshot))
    }

    fn decode(&self, entry: &Entry) -> Option<Box<ListedSnapshot>> {
        match decoded(&entry.key, &self.remembered)? {
            Ok(mut listed) => {
                listed.snapshot.lacking = entry.head.lacking;
                Some(Box::new(listed))
            }
            Err(error) => {
                let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
                damaged.push((entry.key.clone(), error));
                None
            }
        }
    }

    /// Objects that could not be read so far; each is given once.
    pub fn take_damaged(&self) -> Vec<(ObjectKey, Error)> {
        std::mem::take(&mut *self.damaged.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
