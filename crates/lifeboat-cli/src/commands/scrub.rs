//! `scrub`.

use super::check::show_findings;
use crate::access;
use crate::args::Global;
use crate::failure::{DONE, FAILED};
use crate::ui::{Status, Ui, bytes};
use anyhow::Result;
use lifeboat::repo::scrub::{self, Progress};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Verifies all stored bytes; asks for no password.
pub(crate) fn run(global: &Global, ui: &Ui, interrupted: &Arc<AtomicBool>) -> Result<u8> {
    let store = lifeboat::open_store(&access::location(global)?)?;
    let progress = Progress { interrupted: interrupted.clone(), ..Progress::default() };
    let status = || Status {
        bytes_done: progress.bytes_done.load(Ordering::Relaxed),
        files_done: progress.objects_done.load(Ordering::Relaxed),
        files_total: Some(progress.objects_total.load(Ordering::Relaxed)),
        ..Status::default()
    };
    let scrubbed = ui.with_progress(&status, || scrub::scrub(store.as_ref(), &progress))?;
    show_findings(ui, &scrubbed.findings);
    let count = scrubbed.findings.len();
    if ui.json {
        ui.emit(
            "summary",
            json!({"num_errors": count, "objects": scrubbed.objects, "bytes_read": scrubbed.bytes}),
        );
    } else {
        ui.say(format!("{} objects, {} read", scrubbed.objects, bytes(scrubbed.bytes)));
        match count {
            0 => ui.say(
                "No errors: every object has the bytes that were stored; whether one is missing, check tells",
            ),
            _ => eprintln!(
                "Error: {count} objects are damaged\nHint: lifeboat check --read-data    # says what that touches"
            ),
        }
    }
    Ok(if count == 0 { DONE } else { FAILED })
}
