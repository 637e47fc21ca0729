//! `repair packs`: packs that are damaged are replaced by what can be read of them, and missing ones leave the index.
//!
//! Must stay true: see `collect/salvage.rs`, which does it; here is what is damaged, and what was lost.

use crate::check::{self, Finding, damaged_packs};
use crate::collect::{self, CollectOptions, salvage};
use crate::error::{Error, Result};
use crate::repository::Repository;
use lifeboat_format::PackName;
use std::collections::BTreeSet;

/// What is wrong with packs, and what was done about it.
#[derive(Debug, Default)]
pub struct PacksRepaired {
    /// What is wrong, by pack.
    pub findings: Vec<Finding>,
    /// Packs that are damaged or missing.
    pub packs: u64,
    /// Bytes that were copied out of them; 0 of a plan.
    pub copied_bytes: u64,
    /// Sessions that were ended because they stood still.
    pub sessions_ended: u64,
}

fn find(repository: &Repository, progress: &check::Progress) -> Result<(PacksRepaired, BTreeSet<PackName>)> {
    let lookup = repository.synced_lookup()?;
    if let Some(name) = lookup.damaged_objects().first() {
        let detail = "repair the index first".into();
        return Err(Error::Damaged { what: format!("index object {name}"), detail });
    }
    let (findings, damaged) = damaged_packs(repository, progress)?;
    let packs = damaged.len() as u64;
    Ok((PacksRepaired { findings, packs, ..PacksRepaired::default() }, damaged))
}

/// Reads every pack, and says what is wrong.
pub fn plan_packs(repository: &Repository, progress: &check::Progress) -> Result<PacksRepaired> {
    find(repository, progress).map(|(found, _)| found)
}

/// Replaces packs that are damaged. What could not be read of them counts as absent afterwards: the next snapshot of the
/// same data stores it again.
///
/// # Errors
/// [`Error::Fenced`] when a collection ended this: run it again.
pub fn repair_packs(
    repository: &Repository,
    options: &CollectOptions,
    progress: &check::Progress,
) -> Result<PacksRepaired> {
    let (mut repaired, damaged) = find(repository, progress)?;
    if damaged.is_empty() {
        return Ok(repaired);
    }
    let working =
        collect::Progress { interrupted: progress.interrupted.clone(), ..collect::Progress::default() };
    let collected = salvage(repository, &damaged, options, &working)?;
    repaired.copied_bytes = collected.moved_bytes;
    repaired.sessions_ended = collected.sessions_ended;
    Ok(repaired)
}
