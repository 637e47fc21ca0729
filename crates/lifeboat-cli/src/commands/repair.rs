//! `repair`: plans by `lifeboat::repo::repair`, shown, then done.

use super::bundle::{session_options, status};
use super::check::show_findings;
use crate::access;
use crate::args::{Global, RepairCommand, RepairPacksArgs};
use crate::failure::{DONE, PARTIAL};
use crate::ui::{Status, Ui, bytes, escape, put_path};
use anyhow::{Context, Result};
use lifeboat::Repository;
use lifeboat::bundle::{self, Counters};
use lifeboat::repo::check::Progress;
use lifeboat::repo::collect::{CollectOptions, Room};
use lifeboat::repo::host::host_id;
use lifeboat::repo::repair::{self, Lost, SnapshotRepaired};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// zstd level of what is copied.
const LEVEL: i32 = 3;

/// Mends one layer of the repository.
pub(crate) fn run(
    global: &Global,
    ui: &Ui,
    command: &RepairCommand,
    interrupted: &Arc<AtomicBool>,
) -> Result<u8> {
    let repository = access::open(global)?;
    let result = match command {
        RepairCommand::Index { dry_run } => index(&repository, ui, *dry_run, interrupted),
        RepairCommand::Packs(arguments) => packs(global, &repository, ui, arguments, interrupted),
        RepairCommand::Snapshots { dry_run, forget } => {
            snapshots(&repository, ui, *dry_run, *forget, interrupted)
        }
    };
    repository.take_notices().iter().for_each(|text| ui.notice(text));
    result
}

/// Whether something is lost for good decides the exit code.
fn exit_code(is_whole: bool) -> u8 {
    if is_whole { DONE } else { PARTIAL }
}

fn index(repository: &Repository, ui: &Ui, dry_run: bool, interrupted: &AtomicBool) -> Result<u8> {
    let done = match dry_run {
        true => repair::plan_index(repository)?,
        false => repair::repair_index(repository, session_options(LEVEL), interrupted)?,
    };
    show_findings(ui, &done.findings);
    let damaged = done.damaged_objects.len();
    if ui.json {
        ui.emit(
            "summary",
            json!({
                "dry_run": dry_run,
                "damaged_index_objects": damaged,
                "unnamed_packs": done.unnamed_packs,
                "unnamed_bytes": done.unnamed_bytes,
                "packs_named": done.packs_named,
                "chunks_named": done.chunks,
                "bytes_copied": done.copied_bytes,
                "packs_unreadable": done.findings.len(),
            }),
        );
        return Ok(exit_code(done.findings.is_empty()));
    }
    let (packs, size) = (done.unnamed_packs, bytes(done.unnamed_bytes));
    if dry_run {
        ui.say(format!("{damaged} index objects cannot be read and would be removed"));
        ui.say(format!("{packs} packs ({size}) are named by no other one and would be read"));
        return Ok(DONE);
    }
    ui.say(format!("{damaged} index objects could not be read and were removed"));
    let (named, chunks) = (done.packs_named, done.chunks);
    ui.say(format!("{named} of {packs} unnamed packs ({size}) are named again, with {chunks} chunks"));
    if !done.findings.is_empty() {
        ui.say(format!("{} were copied out of packs that are damaged", bytes(done.copied_bytes)));
    }
    ui.say("lifeboat repair packs    # goes on, and says whether anything is lost");
    Ok(exit_code(done.findings.is_empty()))
}

fn packs(
    global: &Global,
    repository: &Repository,
    ui: &Ui,
    arguments: &RepairPacksArgs,
    interrupted: &Arc<AtomicBool>,
) -> Result<u8> {
    // Before anything is read: somebody who mistyped the path should not wait in vain.
    let from = match &arguments.from {
        None => None,
        Some(from) => Some(
            access::open_from(global, from, &arguments.from_key)
                .context("the repository to take from cannot be opened")?,
        ),
    };
    let progress = Progress { interrupted: interrupted.clone(), ..Progress::default() };
    let reading = || Status {
        files_done: progress.packs_done.load(Ordering::Relaxed),
        files_total: Some(progress.packs_total.load(Ordering::Relaxed)),
        ..Status::default()
    };
    let host = host_id(&lifeboat::state_directory());
    let options = CollectOptions {
        host,
        grace: Duration::from_secs(arguments.grace),
        room: Room::default(),
        compression_level: LEVEL,
    };
    let done = ui.with_progress(&reading, || match arguments.dry_run {
        true => repair::plan_packs(repository, &progress),
        false => repair::repair_packs(repository, &options, &progress),
    })?;
    show_findings(ui, &done.findings);
    let mended = match (&from, arguments.dry_run) {
        (Some(from), false) => mend(from, repository, ui, interrupted)?,
        _ => 0,
    };
    let damaged = match arguments.dry_run {
        true => Vec::new(),
        false => repair::mark_snapshots(repository, host, interrupted)?,
    };
    let lost: u64 = damaged.iter().map(|one| one.entries_lost).sum();
    if ui.json {
        ui.emit(
            "summary",
            json!({
                "dry_run": arguments.dry_run,
                "packs_damaged": done.packs,
                "bytes_copied": done.copied_bytes,
                "bytes_taken": mended,
                "sessions_ended": done.sessions_ended,
                "snapshots_damaged": damaged.len(),
                "entries_lost": lost,
            }),
        );
        return Ok(exit_code(damaged.is_empty()));
    }
    if arguments.dry_run {
        ui.say(format!(
            "{} packs are damaged or missing and would be replaced by what can be read",
            done.packs
        ));
        return Ok(DONE);
    }
    ui.say(format!("{} damaged packs were replaced: {} could be read", done.packs, bytes(done.copied_bytes)));
    if from.is_some() {
        ui.say(format!("{} were taken from the other repository", bytes(mended)));
    }
    match damaged.len() {
        0 => ui.say("nothing that a snapshot needs is lost"),
        count => {
            ui.say(format!(
                "{count} snapshots lack {lost} entries; what the next snapshot meets again comes back"
            ));
            ui.say("lifeboat repair snapshots --dry-run    # names them");
        }
    }
    Ok(exit_code(damaged.is_empty()))
}

/// Takes what snapshots lack from a repository that has them too; how many bytes were stored.
fn mend(from: &Repository, to: &Repository, ui: &Ui, interrupted: &Arc<AtomicBool>) -> Result<u64> {
    let damaged = repair::plan_snapshots(to, interrupted)?;
    if damaged.is_empty() {
        return Ok(0);
    }
    let theirs: HashMap<_, _> =
        from.snapshots()?.snapshots.into_iter().map(|listed| (listed.snapshot.id, listed.snapshot)).collect();
    let counters = Counters { interrupted: interrupted.clone(), ..Counters::default() };
    let mut stored = 0;
    for one in damaged {
        let short = one.snapshot.id.to_string()[..8].to_owned();
        let Some(snapshot) = theirs.get(&one.snapshot.id) else {
            ui.notice(&format!("the other repository does not have snapshot {short}"));
            continue;
        };
        let work = || bundle::mend(from, to, snapshot, session_options(LEVEL), &counters);
        match ui.with_progress(&|| status(&counters), work) {
            Ok(mended) => stored += mended.stored_bytes,
            Err(error) if interrupted.load(Ordering::Relaxed) => return Err(error.into()),
            // Its other snapshots may still help.
            Err(error) => ui.notice(&format!("snapshot {short} cannot be taken whole from there: {error}")),
        }
    }
    from.take_notices().iter().for_each(|text| ui.notice(text));
    Ok(stored)
}

fn snapshots(
    repository: &Repository,
    ui: &Ui,
    dry_run: bool,
    forget: bool,
    interrupted: &AtomicBool,
) -> Result<u8> {
    let damaged = match dry_run {
        true => repair::plan_snapshots(repository, interrupted)?,
        false => repair::repair_snapshots(repository, &session_options(LEVEL), forget, interrupted)?,
    };
    damaged.iter().for_each(|one| show_damaged(ui, one, dry_run));
    let lost: u64 = damaged.iter().map(|one| one.entries_lost).sum();
    if ui.json {
        let forgotten = damaged.iter().filter(|one| one.is_forgotten).count();
        let value = json!({"dry_run": dry_run, "snapshots_damaged": damaged.len(), "entries_lost": lost, "forgotten": forgotten});
        ui.emit("summary", value);
    } else {
        ui.say(match damaged.len() {
            0 => "no snapshot lacks anything that the index does not have".to_owned(),
            count => format!("{count} snapshots lack {lost} entries"),
        });
    }
    Ok(exit_code(damaged.is_empty() || dry_run))
}

fn show_damaged(ui: &Ui, one: &SnapshotRepaired, dry_run: bool) {
    let id = one.snapshot.id.to_string();
    for lost in &one.lost {
        if ui.json {
            let mut value = json!({"snapshot_id": id, "entries": lost.entries});
            put_path(&mut value, "path", &place(lost));
            ui.emit("lost", value);
        } else {
            let more = match lost.entries {
                1 => String::new(),
                count => format!(" and what follows: {count} entries whose names are lost"),
            };
            ui.say(format!("{}  lost  {}{more}", &id[..8], escape(&place(lost))));
        }
    }
    if ui.json {
        let copy = one.copy.map(|copy| copy.to_string());
        let value = json!({"snapshot_id": id, "copy": copy, "entries_lost": one.entries_lost, "forgotten": one.is_forgotten});
        ui.emit("snapshot", value);
    } else if let (Some(copy), false) = (one.copy, dry_run) {
        let forgotten = if one.is_forgotten { "; it was forgotten" } else { "" };
        ui.say(format!("{} has a copy without them: {copy}{forgotten}", &id[..8]));
    }
}

/// A lost entry as a user would name it.
fn place(lost: &Lost) -> Vec<u8> {
    let mut name = lost.source.clone();
    if !lost.path.is_root() {
        name.push(b'/');
        name.extend(lost.path.to_slashes());
    }
    name
}
