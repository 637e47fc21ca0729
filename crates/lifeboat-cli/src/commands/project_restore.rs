//! Compose projects, as what is restored: looked at first, then made, then started.
//!
//! Must stay true: everything that is in the way is told before anything is touched; what is made is noted first, and
//! taken back where it does not become whole; a project that is there is replaced only after a snapshot of it.
//!
//! Read next: [`work`], what would be done; [`run`], doing it; [`shown`].

mod run;
mod shown;
mod staying;
mod work;

use super::select::Selected;
use super::sources::path_word;
use super::volumes::Reach;
use crate::args::{Cli, Command, Global, RestoreArgs};
use crate::failure::{DONE, FAILED, Hinted};
use crate::ui::Ui;
use anyhow::{Context, Result, bail};
use clap::Parser;
use lifeboat::Repository;
use lifeboat::format::snapshot::{Snapshot, Source, SourceKind};
use lifeboat::repo::reader::ChunkReader;
use lifeboat::restore::Options;
use lifeboat::workload::engine::Engine;
use lifeboat::workload::project::undo::{self, Begun, Made, Note};
use lifeboat::workload::volume::leftovers;
use run::Run;
use shown::show;
use staying::staying;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use work::{Work, work};

const PREFIX: &str = "project:";
/// On the snapshot of what an `--in-place` restore replaces.
const SAFETY_TAG: &str = "before-restore";

/// The name that `--to` gives a project, empty for its own, if it names one.
pub(crate) fn target_name(to: &OsStr) -> Option<&str> {
    to.to_str()?.strip_prefix(PREFIX)
}

/// What a restore is given.
pub(crate) struct Call<'c> {
    pub(crate) global: &'c Global,
    pub(crate) ui: &'c Ui,
    pub(crate) repository: &'c Repository,
    pub(crate) selected: &'c Selected,
    pub(crate) arguments: &'c RestoreArgs,
    pub(crate) interrupted: &'c Arc<AtomicBool>,
}

/// Brings a project back.
pub(crate) fn restore(call: &Call<'_>, name: &str, options: &Options<'_>) -> Result<u8> {
    let Call { ui, arguments, .. } = *call;
    refuse_what_projects_cannot(arguments)?;
    let reader = ChunkReader::new(call.repository);
    let mut reach = Reach::new(&arguments.engine);
    let volumes = reach.volumes()?;
    let mut dead = match arguments.dry_run {
        true => Vec::new(),
        false => take_back_dead_ones(ui, volumes.engine())?,
    };
    let work = work(call, &reader, volumes, name)?;
    show(ui, &work, arguments);
    if let Some(first) = work.obstacles.first() {
        if arguments.dry_run {
            return Ok(FAILED);
        }
        let what = match work.obstacles.len() {
            1 => "something is".to_owned(),
            count => format!("{count} things are"),
        };
        bail!(Hinted::new(format!("{what} in the way; nothing was touched"), first.way_out.clone()));
    }
    if arguments.dry_run {
        return Ok(DONE);
    }
    let safety = match arguments.in_place {
        true => Some(safety_snapshot(call, &work, volumes.engine())?),
        false => None,
    };
    let stays = match &safety {
        Some(safety) => staying(&reader, safety, &work, volumes.engine())?,
        None => BTreeMap::new(),
    };
    for name in stays.keys() {
        call.ui.notice(&format!("container {name} is as in the snapshot and stays"));
    }
    // What is there now may be half of something: the way back is that of the restore that died.
    dead.retain(|begun| begun.project == work.renaming.project());
    let before = dead.first().and_then(|begun| begun.safety.clone());
    let is_half_written = before.is_some() && safety.is_some();
    let safety = safety.map(|safety| before.unwrap_or_else(|| safety.id.to_string()));
    let state = lifeboat::state_directory();
    let note = Note::begin(
        &state,
        Begun {
            version: undo::VERSION,
            run: volumes.run().to_owned(),
            engine: volumes.engine().address().to_string(),
            project: work.renaming.project().to_owned(),
            snapshot: call.selected.snapshot.id.to_string(),
            safety,
            made: if is_half_written { vec![Made::Overwriting] } else { Vec::new() },
            whole: false,
            starting: Vec::new(),
        },
    )?;
    dead.iter().for_each(|begun| undo::forget(&state, begun));
    let mut run = Run {
        call,
        reader: &reader,
        volumes,
        work: &work,
        snapshot: work.snapshot.clone(),
        stays,
        note,
        phases: Vec::new(),
        is_whole: true,
        is_tidy: false,
    };
    match run.carry_out(options) {
        Ok(exit) => Ok(exit),
        Err(error) => Err(run.take_back(error)),
    }
}

fn refuse_what_projects_cannot(arguments: &RestoreArgs) -> Result<()> {
    if arguments.delete || !(arguments.include.is_empty() && arguments.exclude.is_empty()) {
        bail!("a project comes back whole: --include, --exclude and --delete are for folders and volumes");
    }
    if arguments.in_place && (arguments.rename.is_some() || arguments.project_dir.is_some()) {
        bail!("--in-place replaces the project that is there; --rename and --project-dir make another one");
    }
    Ok(())
}

/// Goes the way back of a restore that died after it had begun to write over a project.
pub(crate) fn go_back(global: &Global, ui: &Ui, begun: &Begun, interrupted: &Arc<AtomicBool>) -> Result<u8> {
    let words = begun.words_back().context("there is no way back")?;
    let engine = ["--docker-host", &begun.engine];
    let all = ["lifeboat"].into_iter().chain(words.iter().map(String::as_str)).chain(engine);
    let Command::Restore(arguments) = Cli::try_parse_from(all)?.command else {
        bail!("nothing was restored")
    };
    super::restore::run(global, ui, &arguments, interrupted)
}

/// What a killed restore left is in the way of the next one. Gives those that had begun to write over something: their
/// notes stay.
fn take_back_dead_ones(ui: &Ui, engine: &Engine) -> Result<Vec<Begun>> {
    let state = lifeboat::state_directory();
    for name in leftovers::remove(engine, &state)? {
        ui.notice(&format!("removed {name}, which a dead run had made"));
    }
    let mut dead = undo::dead(&state).restores;
    dead.retain(|begun| begun.engine == engine.address().to_string());
    for begun in &dead {
        for line in undo::undo(engine, begun)? {
            ui.notice(&format!("a dead restore of {PREFIX}{} is taken back: {line}", begun.project));
        }
        undo::settle(&state, begun)?;
        if let Some(words) = begun.words_back() {
            ui.notice(&format!(
                "project {} as it was before a restore that died: lifeboat {}",
                begun.project,
                words.join(" ")
            ));
        }
    }
    dead.retain(|begun| begun.way_back().is_some());
    Ok(dead)
}

/// A snapshot of what is there now, which has to hold all that is written over.
fn safety_snapshot(call: &Call<'_>, work: &Work<'_>, engine: &Engine) -> Result<Snapshot> {
    let source = format!("{PREFIX}{}", work.renaming.project());
    let mut there = Vec::new();
    for name in work.volumes.keys() {
        match engine.volume(name) {
            Ok(_) => there.push(format!("volume:{name}")),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut words: Vec<OsString> =
        ["lifeboat", "snapshot", &source, "--tag", SAFETY_TAG].map(OsString::from).into();
    words.extend(there.iter().map(OsString::from));
    // Also what no container of now binds, or what its labels leave out.
    let paths: Vec<&Path> = work.paths.iter().map(|place| place.target.as_path()).collect();
    let paths: Vec<&Path> = paths.into_iter().filter(|path| path.symlink_metadata().is_ok()).collect();
    words.extend(paths.iter().map(|path| path_word(path)));
    if let Some(host) = &call.arguments.engine.docker_host {
        words.extend(["--docker-host", host].map(OsString::from));
    }
    if let Some(file) = &call.arguments.policy.policy_file {
        words.extend([OsString::from("--policy-file"), file.into()]);
    }
    let Command::Snapshot(arguments) = Cli::try_parse_from(words)?.command else {
        bail!("no snapshot was made")
    };
    call.ui.say(format!("A snapshot of {source} as it is now comes first"));
    super::snapshot::run(call.global, call.ui, arguments, call.interrupted)
        .context("there is no snapshot of what is there, so nothing is replaced")?;
    let list = call.repository.snapshots()?;
    // Others may take snapshots at the same time.
    let has = |snapshot: &Snapshot, name: &str| {
        let is_it = |one: &Source| one.full_name() == name.as_bytes() && one.errors == 0;
        snapshot.sources.iter().any(is_it)
    };
    let is_it =
        |snapshot: &&Snapshot| snapshot.tags.iter().any(|tag| tag == SAFETY_TAG) && has(snapshot, &source);
    let found = list.snapshots.iter().rev().map(|listed| &listed.snapshot).find(is_it);
    let found = found.context("the snapshot of what is there is not listed")?;
    let holds = |path: &&&Path| {
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let is_it = |one: &&Source| one.kind == SourceKind::Path && one.errors == 0;
        let mut sources = found.sources.iter().filter(is_it);
        sources.any(|one| path.starts_with(OsStr::from_bytes(&one.name)))
    };
    let missing = there.iter().find(|name| !has(found, name)).map(OsString::from);
    let missing = missing.or_else(|| paths.iter().find(|path| !holds(path)).map(|path| path_word(path)));
    if let Some(missing) = missing {
        let shown = missing.display();
        bail!(Hinted::new(
            format!("the snapshot of what is there does not hold all of {shown}, so nothing is replaced"),
            format!("lifeboat snapshot {shown}    # says what cannot be read"),
        ));
    }
    Ok(found.clone())
}
