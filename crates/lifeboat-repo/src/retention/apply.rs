//! Carries a plan out.
//!
//! Must stay true: only objects of `snapshots/` are removed, and each removal is one that the plan names. Nothing is
//! removed that another object needs: what a snapshot reached stays where it is until a collection finds that nothing
//! reaches it, so there is nothing that has to be durable before, and a crash leaves some of the snapshots listed.

use super::Plan;
use crate::error::{Error, Result};
use crate::repository::Repository;
use crate::snapshots::SnapshotList;
use lifeboat_format::{ObjectKey, ObjectKind, SessionId};
use std::error::Error as _;

impl SnapshotList {
    /// Refuses to go on where a snapshot cannot be read: what is not known cannot be counted.
    pub fn demand_sound(&self) -> Result<()> {
        match &self.damaged[..] {
            [] => Ok(()),
            [(key, error), rest @ ..] => {
                let others =
                    if rest.is_empty() { String::new() } else { format!(", and {} more", rest.len()) };
                let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
                let detail = format!("{cause}{others}; nothing is forgotten before that is repaired");
                Err(Error::Damaged { what: key.to_string(), detail })
            }
        }
    }
}

/// Removes what `plan` removes, oldest first; all of it is durably gone when this returns `Ok`.
///
/// Objects that a snapshot's object replaces go before it, so that no older state of it shows again.
pub fn apply(repository: &Repository, plan: &Plan<'_>) -> Result<()> {
    let check = repository.config().check_writable();
    check.map_err(Error::format("this repository cannot be written to"))?;
    let key = |session: &SessionId| ObjectKey::new(ObjectKind::Snapshot, &session.0);
    let sessions =
        plan.removed().into_iter().flat_map(|listed| listed.replaces.iter().chain([&listed.session]));
    let keys: Vec<ObjectKey> = sessions.map(key).collect();
    repository.store().delete_many(&keys).map_err(Error::store("a snapshot cannot be forgotten"))?;
    if let Some(mut chains) = repository.chains() {
        chains.forget(plan.removed().into_iter().map(|listed| listed.snapshot.id));
    }
    Ok(())
}
