//! `lifeboat recover`, and the supervisor that makes it rarely needed.

use crate::failure::{DONE, Hinted, PARTIAL};
use crate::ui::Ui;
use anyhow::{Context, Result};
use lifeboat::workload::engine::Engine;
use lifeboat::workload::project::undo;
use lifeboat::workload::quiesce::undo::{How, Undone};
use lifeboat::workload::recover::{self, Fate, Run};
use lifeboat::workload::supervisor;
use lifeboat::workload::volume::leftovers;
use serde_json::{Value, json};
use std::path::Path;

/// Watches over the run that started this process.
pub(crate) fn supervise(journal: &Path) -> Result<u8> {
    supervisor::supervise(journal)?;
    Ok(DONE)
}

/// Brings back what dead runs left.
pub(crate) fn run(ui: &Ui, dry_run: bool, docker_host: Option<&str>) -> Result<u8> {
    let state = lifeboat::state_directory();
    let engine = Engine::connect(docker_host);
    let found = match dry_run {
        true => recover::look(engine.as_ref().ok(), &state),
        false => recover::recover(engine.as_ref().ok(), &state),
    };
    let runs = found.context("what dead runs left could not be looked for")?;
    for run in &runs {
        tell(ui, run);
    }
    let restores_open = restores(ui, &state, dry_run);
    if let Ok(engine) = &engine
        && !dry_run
    {
        for name in leftovers::remove(engine, &state)? {
            ui.say(format!("Removed {name}, which a dead run had made to reach a volume"));
        }
    }
    if let Err(error) = engine {
        // Journals name their own engines, so they are recovered without this one; its marks cannot be seen.
        let hint = error.hint().unwrap_or_else(|| "lifeboat recover --docker-host URL".into());
        return Err(anyhow::Error::new(error).context(Hinted::new("the engine's marks cannot be seen", hint)));
    }
    let open = runs.iter().filter(|run| is_open(&run.fate)).count() + restores_open;
    if ui.json {
        ui.emit("summary", json!({"runs": runs.len(), "open": open, "dry_run": dry_run}));
    } else if runs.is_empty() {
        ui.say("Nothing was left stopped, paused or held");
    }
    Ok(if open == 0 { DONE } else { PARTIAL })
}

/// Takes back what dead restores of projects made; how many could not be.
fn restores(ui: &Ui, state: &Path, dry_run: bool) -> usize {
    let mut open = 0;
    for begun in undo::dead(state) {
        let short = begun.snapshot.get(..8).unwrap_or(&begun.snapshot).to_owned();
        let what = format!("Restore of project {} from snapshot {short}", begun.project);
        let done = match dry_run {
            true => {
                Ok(begun.made.iter().map(|made| format!("would be taken back: {}", made.shown())).collect())
            }
            false => Engine::connect(Some(&begun.engine))
                .map_err(anyhow::Error::new)
                .and_then(|engine| Ok(undo::undo(&engine, &begun)?)),
        };
        let (lines, is_done): (Vec<String>, bool) = match done {
            Ok(lines) => (lines, !dry_run),
            Err(error) => (vec![format!("could not be taken back: {error:#}")], false),
        };
        if is_done {
            undo::forget(state, &begun);
        } else if !dry_run {
            open += 1;
        }
        let safety = begun.safety.as_ref().filter(|_| begun.is_half_written());
        let safety = safety.and_then(|safety| safety.get(..8));
        if ui.json {
            ui.emit("restore", json!({"project": begun.project, "snapshot": begun.snapshot, "safety": begun.safety, "items": lines}));
            continue;
        }
        ui.say(format!("{what} was interrupted"));
        lines.iter().for_each(|line| ui.say(format!("  {line}")));
        if let Some(safety) = safety {
            ui.say(format!("  its volumes may be half restored; what was there before: lifeboat restore {safety} --to project: --in-place"));
        }
    }
    open
}

fn is_open(fate: &Fate) -> bool {
    match fate {
        Fate::Undone(undone) => !undone.is_whole() || undone.commands.iter().any(|ended| !ended.is_over),
        Fate::Away(_) | Fate::Newer(_) => true,
        Fate::Lives | Fate::Planned(_) => false,
    }
}

fn lines(fate: &Fate) -> Vec<(String, String)> {
    match fate {
        Fate::Planned(planned) => planned.clone(),
        Fate::Undone(undone) => done(undone),
        Fate::Lives | Fate::Away(_) | Fate::Newer(_) => Vec::new(),
    }
}

fn done(undone: &Undone) -> Vec<(String, String)> {
    let containers = undone.containers.iter().map(|outcome| (outcome.name.clone(), outcome.how.words()));
    let commands = undone.commands.iter().map(|ended| (ended.command.clone(), ended.how.clone()));
    let owed = undone.owed.iter().map(|(command, how)| (command.clone(), how.clone()));
    let open = undone.open.iter().map(|what| (what.clone(), "could not be undone".into()));
    containers.chain(commands).chain(owed).chain(open).collect()
}

fn verdict(fate: &Fate) -> (&'static str, String) {
    match fate {
        Fate::Lives => ("lives", "is at work and is left alone".into()),
        Fate::Planned(_) => ("planned", "is dead".into()),
        Fate::Undone(undone) if undone.is_whole() => ("recovered", "was dead; nothing of it is left".into()),
        Fate::Undone(undone) => {
            let down = undone.containers.iter().filter(|outcome| matches!(outcome.how, How::Down(_))).count();
            ("open", format!("was dead; {} could not be brought back", down + undone.open.len()))
        }
        Fate::Away(why) => ("away", format!("is dead, and its engine cannot be asked: {why}")),
        Fate::Newer(version) => {
            ("newer", format!("has a journal of version {version}: install a newer lifeboat"))
        }
    }
}

fn tell(ui: &Ui, run: &Run) {
    let (word, text) = verdict(&run.fate);
    let lines = lines(&run.fate);
    if ui.json {
        let items: Vec<Value> = lines.iter().map(|(name, how)| json!({"name": name, "what": how})).collect();
        let value = json!({
            "run": run.run, "begun": run.begun, "engine": run.engine, "by_mark": run.by_mark, "fate": word,
            "items": items,
        });
        ui.emit("run", value);
        return;
    }
    let short = run.run.get(..8).unwrap_or(&run.run);
    ui.say(format!("Run {short} of {} {text}", run.begun));
    for (name, how) in lines {
        ui.say(format!("  {name}: {how}"));
    }
}
