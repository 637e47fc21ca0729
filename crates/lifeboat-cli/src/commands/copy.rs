//! `copy`: snapshots of another repository.

use super::bundle::{session_options, show, status};
use super::forget::matches;
use crate::access;
use crate::args::{CopyArgs, Global};
use crate::failure::DONE;
use crate::ui::Ui;
use anyhow::{Context, Result};
use lifeboat::bundle::{self, Counters};
use lifeboat::format::snapshot::Snapshot;
use lifeboat::repo::snapshots::SnapshotList;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Copies what is named, or what the filters leave, the oldest first.
pub(crate) fn run(
    global: &Global,
    ui: &Ui,
    arguments: &CopyArgs,
    interrupted: &Arc<AtomicBool>,
) -> Result<u8> {
    let to = access::open(global)?;
    let from = access::open_from(global, &arguments.from, &arguments.from_key)
        .context("the repository to copy from cannot be opened")?;
    let list = from.snapshots()?;
    for (key, error) in &list.damaged {
        ui.notice(&format!("{key} of the other repository cannot be read and is not copied: {error}"));
    }
    let counters = Counters { interrupted: interrupted.clone(), ..Counters::default() };
    let (mut copied, mut were_there, mut stored) = (0, 0, 0);
    for snapshot in chosen(&list, arguments)? {
        if arguments.dry_run {
            let has = to.snapshots()?.snapshots.iter().any(|listed| listed.snapshot.id == snapshot.id);
            let word = if has { "is here already" } else { "would be copied" };
            match ui.json {
                true => ui.emit("copy", json!({"snapshot_id": snapshot.id.to_string(), "was_there": has})),
                false => ui.say(format!("snapshot {} {word}", &snapshot.id.to_string()[..8])),
            }
            if has {
                were_there += 1
            } else {
                copied += 1
            }
            continue;
        }
        let options = session_options(arguments.compression);
        let work = || bundle::copy(&from, &to, snapshot, options, &counters);
        let outcome = ui
            .with_progress(&|| status(&counters), work)
            .with_context(|| format!("snapshot {} is not copied", &snapshot.id.to_string()[..8]))?;
        if outcome.was_there {
            were_there += 1
        } else {
            copied += 1
        }
        stored += outcome.stored_bytes;
        match ui.json {
            true => ui.emit(
                "copy",
                json!({"snapshot_id": snapshot.id.to_string(), "was_there": outcome.was_there, "bytes": outcome.totals.bytes}),
            ),
            false => show(ui, &outcome, "copied"),
        }
    }
    for repository in [&from, &to] {
        repository.take_notices().iter().for_each(|text| ui.notice(text));
    }
    if ui.json {
        let dry_run = arguments.dry_run;
        ui.emit(
            "summary",
            json!({"copied": copied, "were_there": were_there, "stored_bytes": stored, "dry_run": dry_run}),
        );
    } else {
        let word = if arguments.dry_run { "would copy" } else { "copied" };
        ui.say(format!("{word} {copied} snapshots; {were_there} were here already"));
    }
    Ok(DONE)
}

fn chosen<'l>(list: &'l SnapshotList, arguments: &CopyArgs) -> Result<Vec<&'l Snapshot>> {
    let mut chosen: Vec<&Snapshot> = match arguments.snapshots.is_empty() {
        true => list
            .snapshots
            .iter()
            .filter(|listed| matches(&arguments.filter, listed))
            .map(|listed| &listed.snapshot)
            .collect(),
        false => arguments
            .snapshots
            .iter()
            .map(|id| list.find(id).map(|listed| &listed.snapshot))
            .collect::<Result<_, _>>()?,
    };
    chosen.sort_by_key(|snapshot| (snapshot.started, snapshot.sequence, snapshot.id));
    chosen.dedup_by_key(|snapshot| snapshot.id);
    Ok(chosen)
}
