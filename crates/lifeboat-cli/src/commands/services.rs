//! Containers as sources of a snapshot: found, waited for, made quiet and brought back.

use super::volumes::{PREFIX as VOLUME, Reach};
use crate::access;
use crate::args::{Global, SnapshotArgs};
use crate::failure::Hinted;
use crate::ui::Ui;
use anyhow::{Context, Result, bail};
use lifeboat::backup::SourceSpec;
use lifeboat::workload::boundary::Surroundings;
use lifeboat::workload::capture::group::{Group, Member, around};
use lifeboat::workload::capture::{self, Capture, Ended};
use lifeboat::workload::engine::{Address, Engine};
use lifeboat::workload::labels::Command;
use lifeboat::workload::quiesce::lifelines::{Lifelines, Server};
use lifeboat::workload::quiesce::others::{self, Others};
use lifeboat::workload::quiesce::plan::{Action, Plan};
use lifeboat::workload::quiesce::session::Options;
use lifeboat::workload::quiesce::socket::Served;
use lifeboat::workload::recover::{self, Fate};
use serde_json::{Value, json};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const CONTAINER: &str = "container:";
/// A port of an engine that names none.
const ENGINE_PORT: u16 = 2375;

/// Whether a source is captured with containers, where there are any.
pub(super) fn is_theirs(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with(CONTAINER) || name.starts_with(VOLUME))
}

/// Refuses volumes that were named and hold the repository, or lifeboat's cache or state.
pub(super) fn refuse_own(named: &[OsString], reach: &mut Reach<'_>, global: &Global) -> Result<()> {
    let mut names = named.iter().filter_map(|name| name.to_str()?.strip_prefix(VOLUME)).peekable();
    if names.peek().is_none() {
        return Ok(());
    }
    let own = own_volumes(reach.volumes()?.engine(), global)?;
    match names.find(|name| own.iter().any(|own| own == name)) {
        None => Ok(()),
        Some(name) => bail!(Hinted::new(
            format!(
                "volume {name} holds the repository, or lifeboat's cache or state: a snapshot of it would hold what it is \
                 written to"
            ),
            "lifeboat -r ELSEWHERE copy --from REPOSITORY    # keeps its snapshots in a second repository",
        )),
    }
}

/// The volumes in which lifeboat's own folders lie.
pub(super) fn own_volumes(engine: &Engine, global: &Global) -> Result<Vec<String>> {
    let lifelines = lifelines(engine, global)?;
    // Only in a container are its paths others than the host's.
    let around = if lifelines.own.is_some() { around(engine)? } else { Vec::new() };
    Ok(lifelines.own_volumes(&engine.volumes(&[])?, &around))
}

/// The containers of a snapshot, and the volumes that are named beside them.
pub(crate) struct Services {
    engine: Engine,
    group: Group,
    has_streams: bool,
    options: Options,
}

impl Services {
    /// Finds those that are named; nothing where none is.
    pub(crate) fn find(
        named: &[OsString],
        arguments: &SnapshotArgs,
        reach: &mut Reach<'_>,
        global: &Global,
        (ui, interrupted): (&Ui, &Arc<AtomicBool>),
    ) -> Result<Option<Self>> {
        let of = |prefix| {
            let names = named.iter().filter_map(move |name| name.to_str()?.strip_prefix(prefix));
            names.map(str::to_owned).collect::<Vec<String>>()
        };
        let policy = super::policy::read(&arguments.policy)?;
        let names = of(CONTAINER);
        if names.is_empty() {
            return Ok(None);
        }
        if !arguments.dry_run {
            recover_first(ui)?;
        }
        let volumes = reach.volumes()?;
        let engine = volumes.engine().clone();
        let options = session_options(ui, interrupted);
        if !arguments.dry_run {
            others::wait(&engine, &options, &names).map_err(capture::Error::from)?;
        }
        let root = PathBuf::from(&volumes.info().root);
        let surroundings = Surroundings {
            engine_root: root,
            own: own_paths(global)?,
            compose: compose_folders(&engine)?,
            lifelines: lifelines(&engine, global)?,
            policy,
        };
        let group = Group::find(volumes, &names, &of(VOLUME), &surroundings)?;
        if !arguments.policy.is_told {
            super::policy::tell_unused(ui, &group.unused_rules);
        }
        for (name, remark) in &group.remarks {
            ui.notice(&format!("container {name}: {remark}"));
        }
        let others: Vec<&str> = group.members.iter().filter(|one| !one.is_named).map(name).collect();
        if !others.is_empty() {
            ui.notice(&format!(
                "made quiet too, because they write to what is captured: {}",
                others.join(", ")
            ));
        }
        Ok(Some(Self { engine, group, has_streams: false, options }))
    }

    /// Waits until they are ready; then what is done to each is known.
    pub(crate) fn wait_ready(
        &mut self,
        arguments: &SnapshotArgs,
        reach: &mut Reach<'_>,
        ui: &Ui,
        interrupted: &AtomicBool,
    ) -> Result<()> {
        // Who only asks what would be done does not wait for it.
        let limit = match arguments.dry_run {
            true => Some(Duration::ZERO),
            false => arguments.wait_ready.map(Duration::from_secs),
        };
        self.group.wait_ready(arguments.require_healthy, limit, &|waiting| {
            if let Some(name) = waiting {
                ui.notice(&format!("waiting for container {name} to be ready"));
            }
            !interrupted.load(Ordering::Relaxed)
        })?;
        for text in &self.group.unready {
            ui.notice(&format!("{text}; the snapshot says so and does not count as a good one"));
        }
        self.group.prepare(reach.volumes()?);
        for member in &self.group.members {
            if let Some(recipe) = &member.preparation.recipe {
                let (database, how) = (recipe.kind.word(), recipe.how.word());
                ui.notice(&format!("container {}: {database}, {how}. {}", member.facts.name, recipe.claim));
            }
            for text in &member.preparation.warnings {
                ui.notice(&format!("container {}: {text}", member.facts.name));
            }
        }
        Ok(())
    }

    /// What there is to read of them, and how much of it is missing.
    pub(crate) fn sources(&mut self, reach: &mut Reach<'_>, ui: &Ui) -> Result<(Vec<SourceSpec>, u64)> {
        let sources = self.group.sources(reach.volumes()?)?;
        sources.notices.iter().for_each(|text| ui.notice(text));
        for (what, why) in &sources.missing {
            ui.trouble(OsStr::new(what), "scan", why);
        }
        self.has_streams = sources.has_streams;
        if self.has_streams {
            ui.notice(
                "services are held until the last stream of the engine has ended, not only for what changed",
            );
        }
        Ok((sources.specs, sources.missing.len() as u64))
    }

    /// Says what would be done.
    pub(crate) fn tell_plan(&self, ui: &Ui, global: &Global) -> Result<()> {
        let plan = capture::would_do(&self.group, &lifelines(&self.engine, global)?)?;
        if ui.json {
            ui.emit("plan", self.plan_json(&plan));
            return Ok(());
        }
        for (member, command) in commands(&self.group, |one| &one.preparation.pre) {
            let verb = if command.holds { "hold" } else { "run before" };
            ui.say(format!("Would {verb}, in {}: {}", name(member), command.argv.join(" ")));
        }
        for step in &plan.steps {
            let limit = step.limit_millis.map(|millis| format!(", for at most {} s", millis as f64 / 1000.0));
            let verb = match step.action {
                Action::Pause => "pause",
                Action::Stop => "stop",
            };
            ui.say(format!("Would {verb} {}{}", step.name, limit.unwrap_or_default()));
        }
        tell_spared(ui, &plan);
        for (member, command) in commands(&self.group, |one| &one.preparation.post) {
            ui.say(format!("Would run afterwards, in {}: {}", name(member), command.argv.join(" ")));
        }
        Ok(())
    }

    fn plan_json(&self, plan: &Plan) -> Value {
        let steps = plan.steps.iter().map(
            |step| json!({"container": step.name, "action": step.action, "limit_millis": step.limit_millis}),
        );
        let list = |of: fn(&Member) -> &Vec<Command>| -> Vec<Value> {
            let all = commands(&self.group, of);
            let line = |(member, command): (&Member, &Command)| json!({"container": name(member), "command": command.argv, "holds": command.holds});
            all.map(line).collect()
        };
        let spared = plan.spared.iter().map(|one| json!({"container": one.name, "why": one.why}));
        json!({
            "captured": self.group.members.iter().filter(|one| one.is_named).map(name).collect::<Vec<_>>(),
            "before": list(|one| &one.preparation.pre),
            "steps": steps.collect::<Vec<_>>(),
            "spared": spared.collect::<Vec<_>>(),
            "after": list(|one| &one.preparation.post),
            "unready": self.group.unready,
            "held_for_whole_streams": self.has_streams,
        })
    }

    /// Gets everything ready for them to be made quiet, and runs what comes before.
    pub(crate) fn begin(&self, global: &Global, ui: &Ui) -> Result<Capture<'_>> {
        let lifelines = lifelines(&self.engine, global)?;
        let capture = Capture::begin(&self.group, lifelines, self.options.clone(), self.has_streams)?;
        tell_spared(ui, &capture.plan());
        Ok(capture)
    }
}

/// How a session is begun, and whom it tells of others that it waits for.
fn session_options(ui: &Ui, interrupted: &Arc<AtomicBool>) -> Options {
    let (ui, interrupted) = (ui.clone(), Arc::clone(interrupted));
    let tell = move |text: Option<&str>| {
        text.into_iter().for_each(|text| ui.notice(text));
        !interrupted.load(Ordering::Relaxed)
    };
    Options { others: Others::telling(tell), ..Options::new(lifeboat::state_directory()) }
}

fn name(member: &Member) -> &str {
    &member.facts.name
}

fn commands(group: &Group, of: fn(&Member) -> &Vec<Command>) -> impl Iterator<Item = (&Member, &Command)> {
    group.members.iter().flat_map(move |member| of(member).iter().map(move |command| (member, command)))
}

fn tell_spared(ui: &Ui, plan: &Plan) {
    for spared in &plan.spared {
        ui.notice(&format!("container {}: {}", spared.name, spared.why));
    }
}

/// Ends the capture; whether all is well with its services and its moment.
pub(super) fn end(capture: Capture<'_>, ui: &Ui) -> Result<bool> {
    let Ended { report, trouble, is_sound } = capture.end()?;
    if !report.quiet.is_zero() {
        ui.say(format!("Services were held for {:.2} s", report.quiet.as_secs_f64()));
    }
    for text in &trouble {
        ui.notice(text);
    }
    if !is_sound {
        eprintln!(
            "Warning: the services did not hold still as they should: the snapshot is not of one moment"
        );
    }
    let mut is_well = is_sound;
    for (command, how) in report.undone.owed.iter().filter(|(_, how)| how != "done") {
        ui.trouble(OsStr::new(command), "after the capture", how);
        is_well = false;
    }
    for ended in report.undone.commands.iter().filter(|ended| !ended.is_over) {
        ui.trouble(OsStr::new(&ended.command), "after the capture", &ended.how);
        is_well = false;
    }
    for name in report.down() {
        eprintln!("Warning: container {name} could not be brought back; `lifeboat recover` tries again");
        is_well = false;
    }
    if !report.undone.open.is_empty() {
        eprintln!(
            "Warning: the engine does not answer; a supervisor goes on trying to bring back what was held"
        );
        is_well = false;
    }
    Ok(is_well)
}

fn own_paths(global: &Global) -> Result<Vec<PathBuf>> {
    let paths =
        [Some(access::location(global)?.into()), access::cache(global), Some(lifeboat::state_directory())];
    let paths = paths.into_iter().flatten();
    Ok(paths.map(|path: PathBuf| std::fs::canonicalize(&path).unwrap_or(path)).collect())
}

/// Folders in which compose found its files, as it wrote down on the containers.
fn compose_folders(engine: &Engine) -> Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for summary in engine.containers(&["com.docker.compose.project"])? {
        let label = |word: &str| summary.labels.get(&format!("com.docker.compose.project.{word}"));
        folders.extend(label("working_dir").map(PathBuf::from));
        let files = label("config_files").into_iter().flat_map(|list| list.split(','));
        folders.extend(files.filter_map(|file| std::path::Path::new(file).parent().map(PathBuf::from)));
    }
    folders.sort();
    folders.dedup();
    Ok(folders)
}

/// What lifeboat hangs on.
fn lifelines(engine: &Engine, global: &Global) -> Result<Lifelines> {
    let servers = match engine.address() {
        Address::Unix(_) => Vec::new(),
        Address::Tcp { authority } | Address::Tls { authority, .. } => {
            let (host, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
            let host = host.trim_start_matches('[').trim_end_matches(']').into();
            vec![Server { host, port: port.parse().unwrap_or(ENGINE_PORT), role: "the way to the engine" }]
        }
    };
    let socket = Served::of(engine);
    Ok(Lifelines { own: Lifelines::own_container(), servers, socket, paths: own_paths(global)? })
}

/// What dead runs of this machine left comes back before anything new is begun.
fn recover_first(ui: &Ui) -> Result<()> {
    let runs = recover::recover_journals(&lifeboat::state_directory())
        .context("what dead runs left is in the way")?;
    for run in runs {
        if let Fate::Undone(undone) = &run.fate {
            for outcome in &undone.containers {
                let (name, how) = (&outcome.name, outcome.how.words());
                ui.notice(&format!("a dead run had left container {name} quiet: {how}"));
            }
            for ended in &undone.commands {
                ui.notice(&format!("a dead run had left `{}` running: {}", ended.command, ended.how));
            }
        }
    }
    Ok(())
}
