//! Containers that a restore in place does not have to make anew.
//!
//! Must stay true: what stays was compared with the snapshot that was just taken of it, not with a memory of it.

use super::work::{Member, Work};
use crate::commands::containers;
use anyhow::{Context, Result};
use lifeboat::format::TreePath;
use lifeboat::format::snapshot::{Snapshot, Source, SourceKind};
use lifeboat::repo::reader::ChunkReader;
use lifeboat::snapshot_source::entries_below;
use lifeboat::workload::engine::Engine;
use lifeboat::workload::layer::LAYER_FOLDER;
use lifeboat::workload::recreate::layer::Listed;
use lifeboat::workload::recreate::recorded::Recorded;
use lifeboat::workload::recreate::same::{is_asked_for_alike, is_same_layer};
use std::collections::BTreeMap;

/// Names and ids of containers that are as the snapshot has them; `safety` is the snapshot of what is there.
pub(super) fn staying(
    reader: &ChunkReader,
    safety: &Snapshot,
    work: &Work<'_>,
    engine: &Engine,
) -> Result<BTreeMap<String, String>> {
    let mut stays: BTreeMap<String, String> = BTreeMap::new();
    // What others use comes before them.
    for place in &work.order {
        let member = &work.members[place.number];
        let name = &member.recorded.name;
        let is_it = |one: &&Source| {
            one.kind == SourceKind::Container && one.name == name.as_bytes() && one.errors == 0
        };
        let Some(source) = safety.sources.iter().find(is_it).filter(|_| member.source.errors == 0) else {
            continue;
        };
        let now = Recorded::read(&containers::files(reader, source)?)?;
        let stays_too = |id: &str| stays.values().any(|stays| stays == id);
        if is_asked_for_alike(&member.recorded, &now, engine.api(), &stays_too)
            && has_same_layer(reader, member, source, &now)?
            && engine.container(name).is_ok_and(|there| there.id == now.id && there.name == *name)
        {
            stays.insert(name.clone(), now.id);
        }
    }
    Ok(stays)
}

fn has_same_layer(
    reader: &ChunkReader,
    member: &Member<'_>,
    source: &Source,
    now: &Recorded,
) -> Result<bool> {
    // What is not in the snapshot cannot be compared.
    if member.recorded.layer_way.is_none() || member.recorded.layer_way != now.layer_way {
        return Ok(false);
    }
    let base = TreePath::from_slashes(LAYER_FOLDER.as_bytes()).context("a name is a path")?;
    let listed =
        |source: &Source| -> Result<Listed<'_>> { Ok(Box::new(entries_below(reader, source.root, &base)?)) };
    Ok(is_same_layer(listed(member.source)?, listed(source)?)?)
}
