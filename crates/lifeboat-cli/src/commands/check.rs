//! `check`.

use crate::access;
use crate::args::Global;
use crate::failure::{DONE, FAILED};
use crate::ui::{Status, Ui, bytes, escape};
use anyhow::Result;
use lifeboat::repo::check::{self, Depth, FILES_NAMED_MAX, Finding, Progress, Report};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Files that are shown with one finding.
const FILES_SHOWN: usize = 10;

/// Checks the repository.
pub(crate) fn run(global: &Global, ui: &Ui, depth: Depth, interrupted: &Arc<AtomicBool>) -> Result<u8> {
    let repository = access::open(global)?;
    let progress = Progress { interrupted: interrupted.clone(), ..Progress::default() };
    let status = || Status {
        files_done: progress.packs_done.load(Ordering::Relaxed),
        files_total: Some(progress.packs_total.load(Ordering::Relaxed)),
        ..Status::default()
    };
    let read_data = depth == Depth::Data;
    let report = ui.with_progress(&status, || check::check(&repository, depth, &progress))?;
    repository.take_notices().iter().for_each(|text| ui.notice(text));
    show_findings(ui, &report.findings);
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
            (0, false) if depth != Depth::Structure => {
                ui.say("No errors in what was read; --read-data reads the rest too");
            }
            (0, false) => ui.say("No errors; --read-data would also read and verify the stored data"),
            (count, _) => {
                eprintln!("Error: {count} problems were found\nHint: {}", next_step(&report, read_data));
            }
        }
    }
    Ok(if report.findings.is_empty() { DONE } else { FAILED })
}

/// What to type next. What is mended first decides what is wrong with the rest.
fn next_step(report: &Report, read_data: bool) -> &'static str {
    let is_wrong = |what: &str| report.findings.iter().any(|finding| finding.what.starts_with(what));
    let is_lacking = is_wrong("chunk") || is_wrong("tree");
    let is_index = is_wrong("index object") || (is_lacking && report.unindexed_packs > 0);
    match (is_index, is_lacking || is_wrong("pack"), read_data) {
        (true, _, _) => "lifeboat repair index --dry-run    # then without it",
        (false, true, _) => {
            "lifeboat repair packs --dry-run    # then without it, and snapshot the same data again"
        }
        (false, false, false) => "lifeboat check --read-data    # reads everything",
        _ => "lifeboat repair snapshots --dry-run",
    }
}

/// Prints what is wrong, one thing after the other.
pub(super) fn show_findings(ui: &Ui, findings: &[Finding]) {
    for finding in findings {
        let snapshots: Vec<String> = finding.snapshots.iter().map(ToString::to_string).collect();
        if ui.json {
            let files: Vec<_> = finding.files.iter().map(|file| String::from_utf8_lossy(file)).collect();
            let mut value = json!({"message": finding.detail, "item": finding.what, "snapshots": snapshots});
            value["files"] = json!(files);
            ui.emit("error", value);
        } else {
            eprintln!("{}: {}", finding.what, escape(finding.detail.as_bytes()));
            if !snapshots.is_empty() {
                let short: Vec<&str> = snapshots.iter().map(|id| &id[..8]).collect();
                eprintln!("    needed by {}", short.join(", "));
            }
            for file in finding.files.iter().take(FILES_SHOWN) {
                eprintln!("    touches {}", escape(file));
            }
            if finding.files.len() > FILES_SHOWN {
                eprintln!("    and others; --json names up to {FILES_NAMED_MAX}");
            }
        }
    }
}
