//! The snapshots before a writer's own: all of them in their order, and decoded as far as it asks.
//!
//! Must stay true: what is looked for is mostly the newest, so a run costs the same whether there are ten before it or a
//! thousand. Objects are listed without their lengths: one that was cut short since this machine read it may still be a
//! parent, whose roots the intent pins and whose packs are looked at; `snapshots` and `check` tell of it.

use crate::error::{Error, Result};
use crate::remembered::Remembered;
use crate::repository::Repository;
use crate::snapshots::{ListedSnapshot, decoded, session_of};
use lifeboat_format::snapshot::{Head, Snapshot};
use lifeboat_format::{HostId, ObjectKey, ObjectKind};
use std::path::PathBuf;
use std::sync::OnceLock;

/// All complete snapshots at one moment.
#[derive(Debug)]
pub struct History {
    /// Oldest first.
    entries: Vec<Entry>,
    remembered: Remembered,
    /// Objects that could not be read.
    pub damaged: Vec<(ObjectKey, Error)>,
}

#[derive(Debug)]
struct Entry {
    key: ObjectKey,
    head: Head,
    /// On the heap, as entries are moved into their order.
    snapshot: OnceLock<Option<Box<ListedSnapshot>>>,
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
        let mut entries = Vec::with_capacity(objects.len());
        for (key, _) in objects {
            match remembered.get(&session_of(&key)).map(|one| one.opened.head()) {
                Some(Ok(head)) => entries.push(Entry { key, head, snapshot: OnceLock::new() }),
                Some(Err(error)) => {
                    let error = Error::format(format!("{key} cannot be read"))(error);
                    damaged.push((key, error));
                }
                None => {}
            }
        }
        // Of several objects of one snapshot the one that counts, see `newest_of_each`.
        entries.sort_unstable_by(|one, other| {
            let order = |entry: &Entry| (entry.head.id, std::cmp::Reverse(entry.head.revision));
            order(one).cmp(&order(other)).then_with(|| other.key.cmp(&one.key))
        });
        entries.dedup_by_key(|entry| entry.head.id);
        entries.sort_unstable_by(|one, other| {
            let order = |entry: &Entry| (entry.head.started, entry.head.sequence);
            order(one).cmp(&order(other)).then_with(|| one.key.cmp(&other.key))
        });
        self.watch_chains(entries.iter().map(|entry| entry.head), damaged.is_empty());
        Ok(History { entries, remembered, damaged })
    }
}

impl History {
    /// The last snapshot of a host.
    pub fn last_of(&self, host: HostId) -> Option<Head> {
        let own = self.entries.iter().map(|entry| entry.head).filter(|head| head.host_id == host);
        own.max_by_key(|head| head.sequence)
    }

    /// The newest snapshot that is wanted. One that cannot be decoded, as only a flaw in the program that wrote it would
    /// leave it, is passed over.
    pub fn newest(&self, mut is_wanted: impl FnMut(&Snapshot) -> bool) -> Option<&ListedSnapshot> {
        let decode = |entry: &Entry| decoded(&entry.key, &self.remembered)?.ok().map(Box::new);
        let newest_first = self.entries.iter().rev();
        let mut snapshots =
            newest_first.filter_map(|entry| entry.snapshot.get_or_init(|| decode(entry)).as_deref());
        snapshots.find(|listed| is_wanted(&listed.snapshot))
    }
}
