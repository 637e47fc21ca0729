//! Lists and finds snapshots.
//!
//! Must stay true: what exists is what the store lists now. Objects are opened under their session's name, or remembered
//! from an earlier listing that did; so a listing costs the store one operation and a bounded number of reads, however many
//! snapshots there are. Read next: [`crate::remembered`], [`crate::history`].

use crate::chains::SetBack;
use crate::error::{Error, Result};
use crate::remembered::Remembered;
use crate::repository::Repository;
use lifeboat_format::snapshot::remembered::Remembered as One;
use lifeboat_format::snapshot::{Head, Snapshot, Source, SourceKind};
use lifeboat_format::{ObjectKey, ObjectKind, SessionId, Timestamp, TreePath};
use lifeboat_store::in_shares;
use std::collections::HashSet;
use std::path::PathBuf;

/// A snapshot, and the session whose object holds it.
#[derive(Debug, Clone)]
pub struct ListedSnapshot {
    /// The object's name.
    pub session: SessionId,
    /// Other objects of the same snapshot, which this one replaces. Whoever removes the snapshot removes them first.
    pub replaces: Vec<SessionId>,
    /// Its content.
    pub snapshot: Snapshot,
}

/// All snapshots, and the objects that could not be read.
#[derive(Debug, Default)]
pub struct SnapshotList {
    /// Oldest first.
    pub snapshots: Vec<ListedSnapshot>,
    /// Damaged ones, by object.
    pub damaged: Vec<(ObjectKey, Error)>,
}

/// Objects that one thread reads: fewer are not worth starting another one.
const READ_PER_THREAD: usize = 8;
/// Threads that read: where a store is far away, they wait together.
const THREADS_MAX: usize = 8;
/// Objects that one thread decodes, and threads that do: it is no waiting, so each more costs more than it takes off.
const DECODED_PER_THREAD: usize = 64;
const DECODING_THREADS: usize = 2;

pub(crate) fn session_of(key: &ObjectKey) -> SessionId {
    SessionId(key.name().try_into().expect("a snapshot's name has 16 bytes"))
}

impl Repository {
    /// Reads all complete snapshots, oldest first. A damaged one is reported beside the others.
    pub fn snapshots(&self) -> Result<SnapshotList> {
        let folder = self.cache_directory().map(PathBuf::as_path);
        let mut list = self.read_snapshots(ObjectKind::Snapshot, Remembered::open(folder, self.keys()))?;
        list.snapshots = newest_of_each(list.snapshots);
        list.sort();
        self.watch_chains(list.heads(), list.damaged.is_empty());
        Ok(list)
    }

    /// Looks whether a chain of snapshots became shorter. A listing with damaged objects says nothing: one of them may be
    /// what seems to be gone.
    pub(crate) fn watch_chains(&self, heads: impl Iterator<Item = Head> + Clone, is_whole: bool) {
        if let Some(mut chains) = self.chains() {
            self.note_set_back(if is_whole { chains.set_back(heads.clone()) } else { Vec::new() });
            chains.learn(heads);
        }
    }

    /// Takes what is listed now for all there is: what this machine saw before and is gone is not missed any more.
    pub fn accept_set_back(&self) -> Result<Vec<SetBack>> {
        let list = self.snapshots()?;
        list.demand_sound()?;
        if let Some(mut chains) = self.chains() {
            chains.accept(list.heads());
        }
        Ok(self.take_set_back())
    }

    /// Every object of `snapshots/` by itself, also those that another one of the same snapshot replaces, read from the
    /// repository alone: for who marks what is in use, or checks what is there. What this machine remembers may be
    /// sound where the repository is not.
    pub(crate) fn stored_snapshots(&self) -> Result<SnapshotList> {
        self.read_snapshots(ObjectKind::Snapshot, Remembered::default())
    }

    /// Reads the drafts or the checkpoints.
    pub(crate) fn unfinished(&self, kind: ObjectKind) -> Result<SnapshotList> {
        self.read_snapshots(kind, Remembered::default())
    }

    /// Reads what interrupted or running sessions left.
    pub fn checkpoints(&self) -> Result<SnapshotList> {
        self.read_snapshots(ObjectKind::Checkpoint, Remembered::default())
    }

    fn read_snapshots(&self, kind: ObjectKind, mut remembered: Remembered) -> Result<SnapshotList> {
        let listed = self.store().list(kind).map_err(Error::store("the snapshots cannot be listed"))?;
        let objects: Vec<_> = listed.into_iter().map(|listed| (listed.key, Some(listed.bytes))).collect();
        let mut list =
            SnapshotList { snapshots: Vec::new(), damaged: self.read_unknown(&objects, &mut remembered) };
        let decode = |objects: &[(ObjectKey, Option<u64>)]| -> Vec<Option<Result<ListedSnapshot>>> {
            objects.iter().map(|(key, _)| decoded(key, &remembered)).collect()
        };
        let decoded = in_shares(&objects, DECODED_PER_THREAD, || DECODING_THREADS, decode);
        for ((key, _), decoded) in objects.iter().zip(decoded) {
            match decoded {
                Some(Ok(listed)) => list.snapshots.push(listed),
                Some(Err(error)) => list.damaged.push((key.clone(), error)),
                None => {}
            }
        }
        list.sort();
        Ok(list)
    }

    /// Reads those of `objects` that are not remembered, or remembered with another length than is given; says which are
    /// damaged, and remembers the others.
    pub(crate) fn read_unknown(
        &self,
        objects: &[(ObjectKey, Option<u64>)],
        remembered: &mut Remembered,
    ) -> Vec<(ObjectKey, Error)> {
        let is_unknown = |(key, bytes): &&(ObjectKey, Option<u64>)| {
            remembered
                .get(&session_of(key))
                .is_none_or(|one| bytes.is_some_and(|bytes| one.object_bytes != bytes))
        };
        let unknown: Vec<&ObjectKey> = objects.iter().filter(is_unknown).map(|(key, _)| key).collect();
        let read = |keys: &[&ObjectKey]| keys.iter().map(|key| self.read_object(key)).collect();
        let read = in_shares(&unknown, READ_PER_THREAD, || THREADS_MAX, read);
        let (mut learnt, mut damaged) = (Vec::new(), Vec::new());
        for (key, read) in unknown.into_iter().zip(read) {
            match read {
                Ok(one) => learnt.push(one),
                // It may have been forgotten between the listing and the reading.
                Err(error) if error.kind() == crate::ErrorKind::NotFound => {}
                Err(error) => damaged.push((key.clone(), error)),
            }
            // What was remembered under its name is another object.
            remembered.forget(&session_of(key));
        }
        if !learnt.is_empty() {
            let sessions: HashSet<SessionId> = objects.iter().map(|(key, _)| session_of(key)).collect();
            remembered.learn(self.keys(), learnt, |session| sessions.contains(session));
        }
        damaged
    }

    fn read_object(&self, key: &ObjectKey) -> Result<One> {
        let session = session_of(key);
        let bytes = self.store().get(key).map_err(Error::store(format!("{key} cannot be read")))?;
        let opened = Snapshot::open(key.kind(), self.keys(), session, &bytes)
            .map_err(Error::format(format!("{key} cannot be read")))?;
        Ok(One { session, object_bytes: bytes.len() as u64, opened })
    }

    /// Whether a snapshot is still listed.
    pub fn is_listed(&self, session: SessionId) -> Result<bool> {
        match self.store().bytes(&ObjectKey::new(ObjectKind::Snapshot, &session.0)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == lifeboat_store::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(Error::Store { doing: "the snapshots cannot be listed".into(), source }),
        }
    }
}

/// A snapshot that was read or remembered; `None` for one that is neither.
pub(crate) fn decoded(key: &ObjectKey, remembered: &Remembered) -> Option<Result<ListedSnapshot>> {
    let session = session_of(key);
    let snapshot = remembered.get(&session)?.opened.snapshot();
    let listed = snapshot.map(|snapshot| ListedSnapshot { session, replaces: Vec::new(), snapshot });
    Some(listed.map_err(Error::format(format!("{key} cannot be read"))))
}

/// Of several objects of one snapshot the greatest; `merge` takes the one before into each.
pub(crate) fn greatest_of_each<T>(
    mut objects: Vec<T>,
    head: impl Fn(&T) -> (Head, SessionId),
    merge: impl Fn(&mut T, T),
) -> Vec<T> {
    objects.sort_by_cached_key(|object| {
        let (head, session) = head(object);
        (head.id, head.revision, session)
    });
    let mut greatest: Vec<T> = Vec::with_capacity(objects.len());
    for mut object in objects {
        let id = head(&object).0.id;
        if let Some(before) = greatest.pop_if(|before| head(before).0.id == id) {
            merge(&mut object, before);
        }
        greatest.push(object);
    }
    greatest
}

/// The order of a listing, oldest first.
pub(crate) fn age(head: &Head, session: SessionId) -> (Timestamp, u64, SessionId) {
    (head.started, head.sequence, session)
}

/// Of several objects of one snapshot the one that counts. It is pinned or lacking where any of that revision is, and has the
/// tags of them all: what protects, and was acknowledged, is not lost to a run that died, or that is about to withdraw because
/// somebody else was at it. A tag that was taken away meanwhile may come back.
fn newest_of_each(objects: Vec<ListedSnapshot>) -> Vec<ListedSnapshot> {
    let head = |listed: &ListedSnapshot| (listed.snapshot.head(), listed.session);
    greatest_of_each(objects, head, |listed, before| {
        if before.snapshot.revision == listed.snapshot.revision {
            listed.snapshot.pinned |= before.snapshot.pinned;
            listed.snapshot.lacking |= before.snapshot.lacking;
            listed.snapshot.tags.extend(before.snapshot.tags);
            listed.snapshot.tags.sort();
            listed.snapshot.tags.dedup();
        }
        listed.replaces = before.replaces;
        listed.replaces.push(before.session);
    })
}

impl SnapshotList {
    /// What tells the snapshots from each other, oldest first.
    fn heads(&self) -> impl Iterator<Item = Head> + Clone {
        self.snapshots.iter().map(|listed| listed.snapshot.head())
    }

    fn sort(&mut self) {
        // Cached: snapshots are large to move, and are moved once so.
        self.snapshots.sort_by_cached_key(|listed| age(&listed.snapshot.head(), listed.session));
    }

    /// Finds a snapshot: `latest`, `latest~N`, or a unique prefix of an id.
    pub fn find(&self, selector: &str) -> Result<&ListedSnapshot> {
        let none = || Error::NoSnapshot(selector.to_owned());
        if let Some(rest) = selector.strip_prefix("latest") {
            let back: usize = match rest.strip_prefix('~') {
                Some(number) => number.parse().map_err(|_| none())?,
                None if rest.is_empty() => 0,
                None => return Err(none()),
            };
            return self.snapshots.iter().rev().nth(back).ok_or_else(none);
        }
        let is_prefix = !selector.is_empty() && selector.bytes().all(|byte| byte.is_ascii_hexdigit());
        let wanted = selector.to_ascii_lowercase();
        let mut matches = self
            .snapshots
            .iter()
            .filter(|listed| is_prefix && listed.snapshot.id.to_string().starts_with(&wanted));
        match (matches.next(), matches.next()) {
            (Some(found), None) => Ok(found),
            (None, _) => Err(none()),
            (Some(first), Some(second)) => Err(Error::AmbiguousSnapshot {
                prefix: selector.to_owned(),
                matches: format!("{} and {}", first.snapshot.id, second.snapshot.id),
            }),
        }
    }
}

/// Picks the source that `path` names, and what is left of the path below it.
///
/// `/abs/path` is matched with the path sources, the longest first; what begins with a word (`volume:NAME/sub`) with the
/// sources of that kind, the longest name first.
pub fn pick_source<'s>(snapshot: &'s Snapshot, path: &[u8]) -> Result<(&'s Source, TreePath)> {
    let none = || {
        let shown = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        let sources: Vec<String> = snapshot.sources.iter().map(|source| shown(&source.full_name())).collect();
        let id = &snapshot.id.to_string()[..8];
        let (path, sources) = (shown(path), sources.join(", "));
        Error::Usage(format!("snapshot {id} has no source that holds `{path}`; its sources are: {sources}"))
    };
    let words = snapshot.sources.iter().filter(|source| source.kind != SourceKind::Path);
    let named = words.filter_map(|source| {
        let name = source.full_name();
        let rest = path.strip_prefix(&name[..])?;
        let inner = TreePath::from_slashes(rest).ok()?;
        (rest.is_empty() || rest[0] == b'/').then_some((source, inner, name.len()))
    });
    if let Some((source, inner, _)) = named.max_by_key(|(_, _, length)| *length) {
        return Ok((source, inner));
    }
    let wanted = TreePath::from_slashes(path).map_err(|_| none())?;
    snapshot
        .sources
        .iter()
        .filter(|source| source.kind == SourceKind::Path)
        .filter_map(|source| {
            let base = TreePath::from_slashes(&source.name).ok()?;
            Some((source, wanted.strip(&base)?, base.depth()))
        })
        .max_by_key(|(_, _, depth)| *depth)
        .map(|(source, rest, _)| (source, rest))
        .ok_or_else(none)
}
