//! Snapshots copied from one repository to another.
//!
//! Must stay true: what the receiver has in a snapshot that both have is not read again, and nothing is written but
//! objects of the receiving repository.

use super::error::Result;
use super::import::Goal;
use super::{Counters, Imported, Plan, export, import, is_full, piped, same_source};
use lifeboat_format::snapshot::{Snapshot, SnapshotKind};
use lifeboat_repo::Repository;
use lifeboat_repo::session::SessionOptions;
use lifeboat_repo::snapshots::ListedSnapshot;

/// What came of copying one snapshot.
pub type Copied = Imported;

/// Copies `snapshot` of `from` into `to`, as the difference to the best snapshot that both have.
///
/// # Errors
/// After any error the same snapshot may be copied again; what was stored until then is not stored twice.
pub fn copy(
    from: &Repository,
    to: &Repository,
    snapshot: &Snapshot,
    options: SessionOptions,
    counters: &Counters,
) -> Result<Copied> {
    let (ours, theirs) = (to.snapshots()?.snapshots, from.snapshots()?.snapshots);
    let base = common_base(&ours, &theirs, snapshot);
    let kind = if is_full(snapshot) { SnapshotKind::Full } else { SnapshotKind::Incremental };
    let plan = Plan { snapshot: snapshot.clone(), base: base.cloned(), kind };
    if ours.iter().any(|listed| listed.snapshot.id == snapshot.id) {
        return Ok(Imported::there_already(lifeboat_format::bundle::Manifest {
            snapshot: snapshot.clone(),
            base: None,
            kind,
        }));
    }
    // Entries and bytes are counted where they are read.
    let other = Counters { interrupted: counters.interrupted.clone(), ..Counters::default() };
    let (_, imported) = piped(
        |send| export::export(from, &plan, true, counters, send),
        |parts| import::import(to, options, Goal::List, &other, parts),
    )?;
    Ok(imported)
}

/// Stores what `to` lacks of a snapshot that both have: chunks and nodes that were lost. Nothing new is listed.
///
/// All of it is read from `from`; what `to` has is not stored again.
pub fn mend(
    from: &Repository,
    to: &Repository,
    snapshot: &Snapshot,
    options: SessionOptions,
    counters: &Counters,
) -> Result<Copied> {
    let plan = Plan { snapshot: snapshot.clone(), base: None, kind: SnapshotKind::Full };
    let other = Counters { interrupted: counters.interrupted.clone(), ..Counters::default() };
    let (_, imported) = piped(
        |send| export::export(from, &plan, true, counters, send),
        |parts| import::import(to, options, Goal::Mend, &other, parts),
    )?;
    Ok(imported)
}

/// Of the snapshots that both have and that share a source: a parent, or else the one that was taken nearest before, or
/// the first after.
fn common_base<'l>(
    ours: &[ListedSnapshot],
    theirs: &'l [ListedSnapshot],
    snapshot: &Snapshot,
) -> Option<&'l Snapshot> {
    let is_common = |other: &&Snapshot| {
        other.id != snapshot.id
            && ours.iter().any(|listed| listed.snapshot.id == other.id)
            && other.sources.iter().any(|one| snapshot.sources.iter().any(|other| same_source(one, other)))
    };
    let common: Vec<&Snapshot> = theirs.iter().map(|listed| &listed.snapshot).filter(is_common).collect();
    let is_parent = |other: &Snapshot| snapshot.sources.iter().any(|source| source.parent == Some(other.id));
    let newest = |chosen: &dyn Fn(&Snapshot) -> bool| {
        common.iter().copied().filter(|other| chosen(other)).max_by_key(|other| other.started)
    };
    newest(&is_parent)
        .or_else(|| newest(&|other| other.host == snapshot.host && other.started <= snapshot.started))
        .or_else(|| common.iter().copied().min_by_key(|other| other.started))
}
