//! `gc`.

use crate::access;
use crate::args::Global;
use crate::failure::DONE;
use crate::ui::{Status, Ui, bytes};
use anyhow::Result;
use lifeboat::repo::collect::{self, CollectOptions, Progress, Room};
use lifeboat::repo::host::host_id;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Deletes what no snapshot needs, or says how much that is.
pub(crate) fn run(
    global: &Global,
    ui: &Ui,
    dry_run: bool,
    room: Room,
    grace_seconds: u64,
    interrupted: &Arc<AtomicBool>,
) -> Result<u8> {
    let repository = access::open(global)?;
    let progress = Progress { interrupted: interrupted.clone(), ..Progress::default() };
    let status =
        || Status { files_done: progress.snapshots_done.load(Ordering::Relaxed), ..Status::default() };
    let host = host_id(&lifeboat::state_directory());
    let options =
        CollectOptions { host, grace: Duration::from_secs(grace_seconds), room, compression_level: 3 };
    let is_over = AtomicBool::new(false);
    let collected = std::thread::scope(|scope| {
        scope.spawn(|| tell_of_waiting(ui, &progress, grace_seconds, &is_over));
        let collected = ui.with_progress(&status, || match dry_run {
            true => collect::plan(&repository, &room, &progress),
            false => collect::collect(&repository, &options, &progress),
        });
        is_over.store(true, Ordering::Relaxed);
        collected
    });
    repository.take_notices().iter().for_each(|text| ui.notice(text));
    let collected = collected?;
    if ui.json {
        ui.emit(
            "summary",
            json!({
                "dry_run": dry_run,
                "packs_deleted": collected.packs.len(),
                "bytes_deleted": collected.bytes(),
                "packs_rewritten": collected.packs_moved,
                "bytes_rewritten": collected.moved_bytes,
                "bytes_read": collected.read_bytes,
                "bytes_unused": collected.unused_bytes,
                "bytes_kept": collected.live_bytes,
                "snapshots": collected.snapshots,
                "sessions_ended": collected.sessions_ended,
                "index_objects_replaced": collected.index_objects,
            }),
        );
        return Ok(DONE);
    }
    let verb = if dry_run { "would be deleted" } else { "deleted" };
    ui.say(format!("{} packs {verb}: {}", collected.packs.len(), bytes(collected.bytes())));
    if collected.packs_moved > 0 {
        let (packs, moved) = (collected.packs_moved, bytes(collected.moved_bytes));
        let verb = if dry_run { "would be" } else { "was" };
        ui.say(format!("what is needed of {packs} of them {verb} rewritten: {moved}"));
    }
    ui.say(format!("{} stay, for {} snapshots", bytes(collected.live_bytes), collected.snapshots));
    if collected.sessions_ended > 0 {
        ui.say(format!("{} sessions stood still and were ended", collected.sessions_ended));
    }
    Ok(DONE)
}

/// Says once that running snapshots are waited for: that may take long, and looks like standing still.
fn tell_of_waiting(ui: &Ui, progress: &Progress, grace_seconds: u64, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        let sessions = progress.sessions_waited_for.load(Ordering::Relaxed);
        if sessions > 0 {
            ui.notice(&format!(
                "waiting until {sessions} running snapshots or collections are through; one that shows no progress for \
                 {grace_seconds} s is ended, and starts over if it lives"
            ));
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
