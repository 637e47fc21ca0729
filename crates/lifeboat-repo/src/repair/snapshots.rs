//! `repair snapshots`: a snapshot that lacks something gets a copy without what is lost.
//!
//! Must stay true: the damaged one stays until somebody forgets it, because what it lacks may come back: from the next
//! snapshot of the same data, or from another repository. A file of which anything is missing is left out whole. The copy
//! claims nothing about consistency any more, counts as unhealthy, and so never as the last good one.
//!
//! Read next: `salvage.rs` for one tree.

use super::salvage::{Losses, Output, Salvager};
use crate::amend::{Amendment, amend};
use crate::error::{Error, Result};
use crate::reader::ChunkReader;
use crate::repository::Repository;
use crate::retention::group::Grouping;
use crate::retention::{apply, plan_named};
use crate::session::{Session, SessionOptions};
use crate::sink::ChunkSink;
use crate::snapshots::ListedSnapshot;
use lifeboat_format::snapshot::Snapshot;
use lifeboat_format::{HostId, SnapshotId};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

pub use super::salvage::Lost;

/// The tag of a copy without what is lost.
pub const REPAIRED: &str = "repaired";

/// A snapshot that lacks something.
#[derive(Debug, Clone)]
pub struct SnapshotRepaired {
    /// The damaged one.
    pub snapshot: Snapshot,
    /// Its copy without what is lost: made now, or before. `None` of a plan.
    pub copy: Option<SnapshotId>,
    /// What is lost: at most ten thousand of each snapshot are named.
    pub lost: Vec<Lost>,
    /// How many entries are lost.
    pub entries_lost: u64,
    /// Whether it was forgotten.
    pub is_forgotten: bool,
}

/// Finds what snapshots lack. What cannot be read but is in the index is found by `check --read-data` only, and
/// replaced by `repair packs`.
pub fn plan_snapshots(repository: &Repository, interrupted: &AtomicBool) -> Result<Vec<SnapshotRepaired>> {
    let list = demand_sound(repository)?;
    let reader = ChunkReader::new(repository);
    let mut damaged = Vec::new();
    for listed in &list {
        let mut losses = Losses::default();
        for source in &listed.snapshot.sources {
            stop_if(interrupted)?;
            let mut salvager = Salvager::new(repository, &reader, source.full_name(), &mut losses);
            salvager.run(source.root, &mut Output::Nowhere)?;
        }
        if losses.entries > 0 {
            damaged.push(report(&listed.snapshot, losses, copy_of(&list, listed)));
        }
    }
    Ok(damaged)
}

/// Finds what snapshots lack, and marks those that lack something, so that nothing of them is carried over unseen by the
/// next snapshot; takes the mark off those that lack nothing any more.
pub fn mark_snapshots(
    repository: &Repository,
    host: HostId,
    interrupted: &AtomicBool,
) -> Result<Vec<SnapshotRepaired>> {
    let damaged = plan_snapshots(repository, interrupted)?;
    let lacking: HashSet<SnapshotId> = damaged.iter().map(|one| one.snapshot.id).collect();
    for listed in repository.snapshots()?.snapshots {
        let (id, is_lacking) = (listed.snapshot.id, lacking.contains(&listed.snapshot.id));
        if listed.snapshot.lacking != is_lacking {
            let amendment = Amendment { lacking: Some(is_lacking), ..Amendment::default() };
            match amend(repository, id, &amendment, host) {
                // It was forgotten meanwhile.
                Err(Error::NoSnapshot(_)) => {}
                result => drop(result?),
            }
        }
    }
    Ok(damaged)
}

/// Makes copies of damaged snapshots without what is lost; then forgets those, if `forget`. Pinned ones stay.
///
/// # Errors
/// [`Error::Fenced`] or [`Error::Collecting`] when a collection is in the way: run it again.
pub fn repair_snapshots(
    repository: &Repository,
    options: &SessionOptions,
    forget: bool,
    interrupted: &AtomicBool,
) -> Result<Vec<SnapshotRepaired>> {
    repository.config().check_writable().map_err(Error::format("this repository cannot be written to"))?;
    let mut damaged = mark_snapshots(repository, options.host, interrupted)?;
    for one in damaged.iter_mut().filter(|one| one.copy.is_none()) {
        stop_if(interrupted)?;
        one.copy = Some(copy(repository, options, &one.snapshot, one.entries_lost)?);
    }
    if forget && !damaged.is_empty() {
        let named: HashSet<SnapshotId> = damaged.iter().map(|one| one.snapshot.id).collect();
        let list = demand_sound(repository)?;
        let plan = plan_named(&list, &named, Grouping::default(), true);
        apply(repository, &plan)?;
        let removed: HashSet<SnapshotId> =
            plan.removed().into_iter().map(|listed| listed.snapshot.id).collect();
        damaged.iter_mut().for_each(|one| one.is_forgotten = removed.contains(&one.snapshot.id));
    }
    Ok(damaged)
}

fn demand_sound(repository: &Repository) -> Result<Vec<ListedSnapshot>> {
    repository.synced_lookup()?.drop_missing_packs()?;
    let list = repository.snapshots()?;
    list.demand_sound()?;
    Ok(list.snapshots)
}

fn stop_if(interrupted: &AtomicBool) -> Result<()> {
    if interrupted.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
}

/// The copy that an earlier run made.
fn copy_of(list: &[ListedSnapshot], of: &ListedSnapshot) -> Option<SnapshotId> {
    let is_copy = |listed: &&ListedSnapshot| {
        let snapshot = &listed.snapshot;
        snapshot.tags.iter().any(|tag| tag == REPAIRED)
            && snapshot.sources.iter().any(|source| source.parent == Some(of.snapshot.id))
    };
    list.iter().find(is_copy).map(|listed| listed.snapshot.id)
}

fn report(snapshot: &Snapshot, losses: Losses, copy: Option<SnapshotId>) -> SnapshotRepaired {
    SnapshotRepaired {
        snapshot: snapshot.clone(),
        copy,
        lost: losses.named,
        entries_lost: losses.entries,
        is_forgotten: false,
    }
}

/// Lists a copy of `snapshot` without what is lost.
fn copy(
    repository: &Repository,
    options: &SessionOptions,
    snapshot: &Snapshot,
    entries_lost: u64,
) -> Result<SnapshotId> {
    let roots = snapshot.sources.iter().map(|source| source.root.id).collect();
    let session = Session::begin(repository, options.clone(), roots)?;
    let copied = (|| {
        if !session.may_pin() {
            return Err(Error::Collecting);
        }
        let (reader, mut sink) = (ChunkReader::new(repository), ChunkSink::new(&session)?);
        let mut copy = snapshot.clone();
        copy.id = SnapshotId::random();
        for source in &mut copy.sources {
            let mut losses = Losses::default();
            let mut output = Output::tree(repository.keys(), &mut sink);
            let mut salvager = Salvager::new(repository, &reader, source.full_name(), &mut losses);
            salvager.run(source.root, &mut output)?;
            source.root = output.finish()?;
            source.parent = Some(snapshot.id);
            source.errors += losses.entries;
            source.bytes = source.bytes.saturating_sub(losses.bytes);
        }
        sink.flush()?;
        copy.tags.push(REPAIRED.to_owned());
        copy.tags.sort();
        copy.tags.dedup();
        copy.consistency.clear();
        copy.unhealthy.push(format!("{entries_lost} entries of snapshot {} were lost", snapshot.id));
        (copy.pinned, copy.lacking, copy.revision) = (false, false, 0);
        session.commit(&copy)?;
        Ok(copy.id)
    })();
    copied.inspect_err(|_| session.abandon())
}
