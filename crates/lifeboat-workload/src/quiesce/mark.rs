//! The mark of a run on the engine itself: a container that is never started.
//!
//! Must stay true: it is there before the first container is made quiet and says all that undoing takes, so that whoever
//! reaches the engine can bring things back though this machine's state is lost. Its name changes every [`BEAT`] while
//! somebody watches over the run; one whose name stands still for [`SILENCE`] is a dead run's, on whatever machine.

use crate::engine::{AnonymousVolumes, Engine, Result};
use crate::journal::entry::{Entry, Ledger, VERSION};
use serde_json::json;
use std::time::Duration;

/// How often a watched mark changes its name.
pub const BEAT: Duration = Duration::from_secs(2);
/// A mark whose name did not change for so long is nobody's any more.
pub const SILENCE: Duration = Duration::from_secs(7);

const LABEL: &str = "lifeboat.hold";
const LABEL_VERSION: &str = "lifeboat.hold.version";
const LABEL_ENTRIES: &str = "lifeboat.hold.entries";

/// An image of nothing, for containers that are never started.
const IMAGE: (&str, &str) = ("lifeboat/empty", "1");

/// A mark on an engine.
#[derive(Debug, Clone)]
pub struct Mark {
    /// Its container's id.
    pub id: String,
    /// Its container's name, which changes.
    pub name: String,
    /// The run.
    pub run: String,
    /// What the run may have made quiet, as its journal would say it.
    pub entries: Vec<Entry>,
}

/// Puts the mark of a run; gives its id.
///
/// # Errors
///
/// Where the engine does not let lifeboat make a container: then nothing may be stopped.
pub fn put(engine: &Engine, run: &str, entries: &[Entry]) -> Result<String> {
    let image = image(engine)?;
    let lines: Vec<String> = entries.iter().filter_map(|entry| serde_json::to_string(entry).ok()).collect();
    let body = json!({
        "Image": image,
        // It is never started; an engine wants a command all the same.
        "Cmd": ["never"],
        "Labels": {LABEL: run, LABEL_VERSION: VERSION.to_string(), LABEL_ENTRIES: lines.join("\n")},
        "NetworkDisabled": true,
        "HostConfig": {"NetworkMode": "none"},
    });
    engine.create_container(Some(&name(run, 0)), &body)
}

/// Shows that somebody watches over the run.
///
/// # Errors
///
/// Where the engine does not answer; then nobody can recover through it either.
pub fn beat(engine: &Engine, id: &str, run: &str, count: u64) -> Result<()> {
    engine.rename_container(id, &name(run, count))
}

/// Takes the marks of a run away.
///
/// # Errors
///
/// Where the engine does not answer; `recover` takes them away later.
pub fn remove(engine: &Engine, run: &str) -> Result<()> {
    for mark in engine.containers(&[&format!("{LABEL}={run}")])? {
        engine.remove_container(&mark.id, AnonymousVolumes::Remove)?;
    }
    Ok(())
}

/// All marks on an engine.
///
/// # Errors
///
/// Where the engine does not answer.
pub fn list(engine: &Engine) -> Result<Vec<Mark>> {
    let marks = engine.containers(&[LABEL])?;
    let read = |summary: crate::engine::views::ContainerSummary| {
        let label = |label: &str| summary.labels.get(label).cloned().unwrap_or_default();
        let entries = label(LABEL_ENTRIES);
        Mark {
            run: label(LABEL),
            entries: entries.lines().filter_map(|line| serde_json::from_str(line).ok()).collect(),
            name: summary.name.clone(),
            id: summary.id.clone(),
        }
    };
    Ok(marks.into_iter().map(read).collect())
}

impl Mark {
    /// What its entries add up to.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        let mut ledger = Ledger { run: self.run.clone(), version: VERSION, ..Ledger::default() };
        for entry in &self.entries {
            ledger.add(entry.clone());
        }
        ledger
    }
}

fn name(run: &str, count: u64) -> String {
    format!("lifeboat-hold-{run}-{count}")
}

/// The image of nothing, made where it is missing.
fn image(engine: &Engine) -> Result<String> {
    let (repository, tag) = IMAGE;
    let name = format!("{repository}:{tag}");
    match engine.image(&name) {
        Err(error) if error.is_not_found() => {
            engine.import_empty_image(repository, tag, &[("lifeboat.helper", "image")])?;
            Ok(name)
        }
        found => found.map(|_| name),
    }
}
