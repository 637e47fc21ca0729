//! Compose projects and whole engines, as what is backed up.

use super::sources::path_word;
use super::volumes::Reach;
use crate::args::{Global, SnapshotArgs};
use crate::failure::{DONE, Hinted, PARTIAL};
use crate::ui::Ui;
use anyhow::{Context, Result};
use lifeboat::backup::SourceSpec;
use lifeboat::workload::capture::{self, group::around};
use lifeboat::workload::facts::Facts;
use lifeboat::workload::project::digests::{self, Digests};
use lifeboat::workload::project::drift::{Drift, configuration};
use lifeboat::workload::project::{self, Error, Project};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What a project is called on the command line.
pub(super) const PREFIX: &str = "project:";
/// Everything on an engine.
pub(super) const HOST: &str = "host:";
/// What a group is called that has no name of its own.
const REST: &str = "what belongs to no project";
/// Words that start compose, where it is not a part of `docker`.
const COMPOSE: &str = "LIFEBOAT_COMPOSE";

/// Projects that were named, as sources; and the names of all that belongs to them, in their place.
pub(super) struct Expanded {
    pub(super) named: Vec<OsString>,
    pub(super) specs: Vec<SourceSpec>,
    /// Files that cannot be stored.
    pub(super) missing: u64,
}

/// Puts everything that belongs to them in the place of projects.
pub(super) fn expand(named: Vec<OsString>, reach: &mut Reach<'_>, ui: &Ui) -> Result<Expanded> {
    let mut expanded = Expanded { named: Vec::new(), specs: Vec::new(), missing: 0 };
    for word in named {
        let Some(name) = word.to_str().and_then(|word| word.strip_prefix(PREFIX)).map(str::to_owned) else {
            expanded.named.push(word);
            continue;
        };
        let engine = reach.volumes()?.engine().clone();
        let mut found = match Project::find(&engine, &name) {
            Err(error @ Error::NoProject(_)) => {
                let hint = "docker ps --all --format '{{.Names}} {{.Label \"com.docker.compose.project\"}}'";
                return Err(anyhow::Error::new(error).context(Hinted::new("there is no such project", hint)));
            }
            found => found?,
        };
        let description = &mut found.description;
        let (host, program) = (engine.address().to_string(), compose());
        description.drift = Drift::ask(description, &host, &program);
        if found.containers.iter().any(digests::shares)
            && let Some(config) = configuration(description, &host, &program)
        {
            found.digests = Digests::find(&config, &found.containers);
        }
        tell_drift(ui, &name, &description.drift);
        for file in &description.files {
            if let Some(problem) = &file.problem {
                expanded.missing += 1;
                ui.trouble(
                    OsStr::new(&file.path),
                    "scan",
                    &format!("{} file of {name}: {problem}", file.what),
                );
            }
        }
        let containers = description.containers.iter().map(|member| format!("container:{}", member.name));
        let images: BTreeSet<&str> = description.images.iter().map(|image| image.name.as_str()).collect();
        expanded.named.extend(containers.map(OsString::from));
        expanded.named.extend(images.into_iter().map(|name| OsString::from(format!("image:{name}"))));
        expanded.named.extend(found.files.iter().map(|file| path_word(file)));
        expanded.specs.push(SourceSpec::Tree(found.source()));
    }
    Ok(expanded)
}

/// The words that start compose.
fn compose() -> Vec<OsString> {
    match std::env::var(COMPOSE) {
        Ok(words) if !words.is_empty() => words.split_whitespace().map(OsString::from).collect(),
        _ => ["docker", "compose"].map(OsString::from).to_vec(),
    }
}

fn tell_drift(ui: &Ui, name: &str, drift: &Drift) {
    if ui.json {
        ui.emit("project", json!({"name": name, "drift": drift}));
    } else if !drift.known {
        ui.notice(&format!(
            "{PREFIX}{name}: whether compose would change something is not known: {}",
            drift.why
        ));
    } else if !drift.changes.is_empty() {
        ui.notice(&format!(
            "{PREFIX}{name}: it is not as its files say, and after a restore compose would do what it would do now: {}",
            drift.changes.join("; ")
        ));
    }
}

/// Whether everything on an engine was named.
pub(super) fn is_host(named: &[OsString]) -> bool {
    named.iter().any(|word| word == HOST)
}

/// Takes a snapshot of each project of an engine, and one of the rest, which has what else was `named`.
pub(super) fn snapshot_host(
    global: &Global,
    ui: &Ui,
    arguments: &SnapshotArgs,
    named: &[OsString],
    interrupted: &Arc<AtomicBool>,
) -> Result<u8> {
    let mut groups = {
        let mut reach = Reach::new(&arguments.engine);
        groups(&mut reach, global, ui)?
    };
    let is_in = |word: &OsString| groups.iter().any(|(_, words)| words.contains(word));
    let others: Vec<OsString> = named.iter().filter(|word| *word != HOST && !is_in(word)).cloned().collect();
    match groups.iter_mut().find(|(name, _)| name == REST) {
        Some((_, words)) => words.extend(others),
        None if others.is_empty() => {}
        None => groups.push((REST.to_owned(), others)),
    }
    if groups.is_empty() {
        anyhow::bail!(Hinted::new("the engine has no containers and no volumes", "lifeboat docker ls"));
    }
    let mut exit = DONE;
    let mut failed = Vec::new();
    let mut is_first = true;
    for (name, words) in groups {
        ui.say(format!("Snapshot of {name}"));
        let mut one = arguments.clone();
        // It belongs to one source.
        if !words.iter().any(|word| word.as_bytes().starts_with(b"command:")) {
            one.command.clear();
        }
        one.sources = words;
        one.files_from.clear();
        one.policy.is_told |= !is_first;
        is_first = false;
        match super::snapshot::run(global, ui, one, interrupted) {
            Ok(DONE) => {}
            Ok(_) => exit = PARTIAL,
            Err(error) if interrupted.load(std::sync::atomic::Ordering::Relaxed) => return Err(error),
            // One project that cannot be captured is no reason to leave out the others.
            Err(error) => {
                ui.trouble(OsStr::new(&name), "snapshot", &format!("{error:#}"));
                failed.push(name);
            }
        }
    }
    if !failed.is_empty() {
        anyhow::bail!("there is no snapshot of {}; the others are saved", failed.join(", "));
    }
    Ok(exit)
}

/// What is captured together on an engine: each project, and all the rest.
fn groups(reach: &mut Reach<'_>, global: &Global, ui: &Ui) -> Result<Vec<(String, Vec<OsString>)>> {
    let engine = reach.volumes()?.engine().clone();
    let all = around(&engine).context("the engine's containers cannot be listed")?;
    let projects: BTreeMap<String, Vec<&Facts>> = project::projects(&all);
    let mut groups = Vec::new();
    let mut rest: Vec<OsString> = Vec::new();
    for (name, members) in &projects {
        if !name.is_empty() {
            groups.push((format!("{PREFIX}{name}"), vec![OsString::from(format!("{PREFIX}{name}"))]));
            continue;
        }
        rest.extend(members.iter().map(|facts| OsString::from(format!("container:{}", facts.name))));
        let images: BTreeSet<String> = project::images(&engine, &project::inspect(&engine, members)?)?
            .into_iter()
            .map(|image| image.name)
            .collect();
        rest.extend(images.into_iter().map(|name| OsString::from(format!("image:{name}"))));
    }
    let used: BTreeSet<&str> =
        all.iter().flat_map(|facts| &facts.mounts).filter_map(|mount| mount.name.as_deref()).collect();
    let own = super::services::own_volumes(&engine, global)?;
    let mut anonymous = Vec::new();
    for volume in engine.volumes(&[])? {
        match (used.contains(volume.name.as_str()), volume.is_anonymous()) {
            (true, _) => {}
            (false, true) => anonymous.push(volume.name),
            (false, false) if own.contains(&volume.name) => {
                ui.notice(&format!("volume {} is not captured: {}", volume.name, capture::OWN));
            }
            (false, false) => rest.push(OsString::from(format!("volume:{}", volume.name))),
        }
    }
    if !anonymous.is_empty() {
        ui.notice(&format!("anonymous volumes that nobody uses are left out: {}", anonymous.join(", ")));
    }
    if !rest.is_empty() {
        groups.push((REST.to_owned(), rest));
    }
    Ok(groups)
}
