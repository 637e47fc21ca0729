//! Changes what people say about a snapshot: its tags and its pin, and what a repair found of it.
//!
//! Must stay true: at every moment, whatever dies, `snapshots/` has an object of the snapshot, and that object's data is
//! pinned: by the intent until it is listed, by itself afterwards. A tag, a pin or a lack that was acknowledged is not lost to
//! another change; a tag that was taken away may come back when three change a snapshot at once. The steps have the numbers of
//! `docs/format/snapshot.md`, "Changes".

use crate::error::{Error, Result};
use crate::repository::Repository;
use crate::session::{Session, SessionOptions};
use crate::snapshots::ListedSnapshot;
use lifeboat_format::snapshot::Snapshot;
use lifeboat_format::{HostId, ObjectKey, ObjectKind, SessionId, SnapshotId};

/// How often a change begins anew, when others change the same snapshot or a collection ends its session.
const ATTEMPTS_MAX: u32 = 5;

/// What to change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Amendment {
    /// Takes the place of all tags, before the others are added and removed.
    pub set: Option<Vec<String>>,
    /// Tags to add.
    pub add: Vec<String>,
    /// Tags to take away.
    pub remove: Vec<String>,
    /// Whether to pin it.
    pub pinned: Option<bool>,
    /// Whether something that it needs is known to be lost.
    pub lacking: Option<bool>,
}

impl Amendment {
    /// `snapshot` as it shall be.
    fn of(&self, snapshot: &Snapshot) -> Snapshot {
        let mut changed = snapshot.clone();
        let mut tags = self.set.clone().unwrap_or(changed.tags);
        tags.extend(self.add.iter().cloned());
        tags.retain(|tag| !self.remove.contains(tag));
        tags.sort();
        tags.dedup();
        changed.tags = tags;
        changed.pinned = self.pinned.unwrap_or(changed.pinned);
        changed.lacking = self.lacking.unwrap_or(changed.lacking);
        changed
    }
}

/// What came of one try.
enum Outcome {
    Unchanged,
    Changed(Box<Snapshot>),
    /// Somebody else changed the same snapshot.
    Again,
}

/// Changes the snapshot `id`; gives it as it is then, or `None` where there was nothing to change.
///
/// # Errors
/// [`Error::NoSnapshot`] when it is not listed, or was forgotten meanwhile.
pub fn amend(
    repository: &Repository,
    id: SnapshotId,
    amendment: &Amendment,
    host: HostId,
) -> Result<Option<Snapshot>> {
    for _ in 0..ATTEMPTS_MAX {
        match attempt(repository, id, amendment, host) {
            Ok(Outcome::Unchanged) => return Ok(None),
            Ok(Outcome::Changed(snapshot)) => return Ok(Some(*snapshot)),
            Ok(Outcome::Again) | Err(Error::Fenced) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::Contended(id))
}

fn find(repository: &Repository, id: SnapshotId) -> Result<Option<ListedSnapshot>> {
    let list = repository.snapshots()?;
    Ok(list.snapshots.into_iter().find(|listed| listed.snapshot.id == id))
}

fn attempt(repository: &Repository, id: SnapshotId, amendment: &Amendment, host: HostId) -> Result<Outcome> {
    let gone = || Error::NoSnapshot(id.to_string());
    let before = find(repository, id)?.ok_or_else(gone)?;
    if amendment.of(&before.snapshot) == before.snapshot {
        return Ok(Outcome::Unchanged);
    }
    // Step 1: the intent.
    let roots = before.snapshot.sources.iter().map(|source| source.root.id).collect();
    let options = SessionOptions { compression_level: 0, host };
    let session = Session::begin(repository, options, roots)?;
    let result = find(repository, id).and_then(|known| {
        // Step 2: only what is listed now is pinned by the intent; beside a condemned list nothing is.
        if !session.may_pin() {
            return Err(Error::Collecting);
        }
        let known = known.ok_or_else(gone)?;
        if known.snapshot.sources != before.snapshot.sources {
            return Ok(None);
        }
        let mut changed = amendment.of(&known.snapshot);
        changed.revision = known.snapshot.revision.saturating_add(1);
        // Step 3: commit.
        session.commit(&changed)?;
        Ok(Some((known, changed)))
    });
    let committed = result.inspect_err(|_| session.abandon())?;
    let Some((known, changed)) = committed else {
        session.abandon();
        return Ok(Outcome::Again);
    };
    settle(repository, session.id(), &known, changed)
}

/// Steps 4 and 5: whose change it is, and what goes.
fn settle(
    repository: &Repository,
    own: SessionId,
    known: &ListedSnapshot,
    changed: Snapshot,
) -> Result<Outcome> {
    let delete = |sessions: &[SessionId]| {
        let keys: Vec<ObjectKey> =
            sessions.iter().map(|session| ObjectKey::new(ObjectKind::Snapshot, &session.0)).collect();
        repository.store().delete_many(&keys).map_err(Error::store("an older state cannot be removed"))
    };
    let known = [&known.replaces[..], &[known.session]].concat();
    let now = find(repository, changed.id)?;
    let listed: Vec<SessionId> =
        now.into_iter().flat_map(|now| now.replaces.into_iter().chain([now.session])).collect();
    if listed.iter().any(|session| *session != own && !known.contains(session)) {
        delete(&[own])?;
        return Ok(Outcome::Again);
    }
    if !listed.iter().any(|session| known.contains(session)) {
        delete(&[own])?;
        return Err(Error::NoSnapshot(changed.id.to_string()));
    }
    delete(&known)?;
    Ok(Outcome::Changed(Box::new(changed)))
}
