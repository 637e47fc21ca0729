//! `check`.

use crate::access;
use crate::args::Global;
use crate::failure::{DONE, FAILED};
use crate::ui::{Status, Ui, bytes, escape};
use anyhow::Result;
use lifeboat::repo::check::{self, Depth, Progress};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Checks the repository.
pub(crate) fn run(global: &Global, ui: &Ui, read_data: bool, interrupted: &Arc<AtomicBool>) -> Result<u8> {
    let repository = access::open(global)?;
    let progress = Progress { interrupted: interrupted.clone(), ..Progress::default() };
    let status = || Status {
        files_done: progress.packs_done.load(Ordering::Relaxed),
        files_total: Some(progress.packs_total.load(Ordering::Relaxed)),
        ..Status::default()
    };
    let depth = if read_data { Depth::Data } else { Depth::Structure };
    let report = ui.with_progress(&status, || check::check(&repository, depth, &progress))?;
    repository.take_notices().iter().for_each(|text| ui.notice(text));
    for finding in &report.findings {
        let snapshots: Vec<String> = finding.snapshots.iter().map(ToString::to_string).collect();
        if ui.json {
            ui.emit(
                "error",
                json!({"message": finding.detail, "item": finding.what, "snapshots": snapshots}),
            );
        } else {
            eprintln!("{}: {}", finding.what, escape(finding.detail.as_bytes()));
            if !snapshots.is_empty() {
                let short: Vec<&str> = snapshots.iter().map(|id| &id[..8]).collect();
                eprintln!("    needed by {}", short.join(", "));
            }
        }
    }
    if ui.json {
        ui.emit(
            "summary",
            json!({
                "num_errors": report.findings.len(),
                "snapshots": report.snapshots,
                "packs": report.packs,
                "chunks": report.chunks,
                "bytes_read": report.bytes_read,
                "unindexed_packs": report.unindexed_packs,
                "read_data": read_data,
            }),
        );
    } else {
        ui.say(format!(
            "{} snapshots, {} packs, {} chunks, {} read",
            report.snapshots,
            report.packs,
            report.chunks,
            bytes(report.bytes_read)
        ));
        if report.unindexed_packs > 0 {
            ui.say(format!(
                "{} packs of interrupted runs are named by no index object: harmless",
                report.unindexed_packs
            ));
        }
        match (report.findings.len(), read_data) {
            (0, true) => ui.say("No errors: every stored byte was read and verified"),
            (0, false) => ui.say("No errors; --read-data would also read and verify the stored data"),
            (count, _) => eprintln!("Error: {count} problems were found"),
        }
    }
    Ok(if report.findings.is_empty() { DONE } else { FAILED })
}
