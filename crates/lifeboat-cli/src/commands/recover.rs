//! `lifeboat recover`, and the supervisor that makes it rarely needed.

use super::project_restore::go_back;
use crate::args::Global;
use crate::failure::{DONE, Hinted, PARTIAL};
use crate::ui::Ui;
use anyhow::{Context, Result};
use lifeboat::workload::engine::Engine;
use lifeboat::workload::project::undo::{self, Begun, Dead, Made};
use lifeboat::workload::quiesce::undo::{How, Undone};
use lifeboat::workload::recover::{self, Fate, Run};
use lifeboat::workload::supervisor;
use lifeboat::workload::volume::leftovers;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Watches over the run that started this process.
pub(crate) fn supervise(journal: &Path) -> Result<u8> {
    supervisor::supervise(journal)?;
    Ok(DONE)
}

/// Brings back what dead runs left.
pub(crate) fn run(
    global: &Global,
    ui: &Ui,
    dry_run: bool,
    docker_host: Option<&str>,
    interrupted: &Arc<AtomicBool>,
) -> Result<u8> {
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
    let dead = undo::dead(&state);
    let left = dead.restores.len() + dead.unreadable.len();
    let restores_open =
        restores(&dead, &state, ui, dry_run, &|begun| go_back(global, ui, begun, interrupted));
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
        let summary = json!({"runs": runs.len(), "restores": left, "open": open, "dry_run": dry_run});
        ui.emit("summary", summary);
    } else if runs.is_empty() && left == 0 {
        ui.say("Nothing was left stopped, paused or held");
    }
    Ok(if open == 0 { DONE } else { PARTIAL })
}

/// Takes back what dead restores of projects made, and where they had begun to write over a project, goes the way back; how
/// many are left.
fn restores(
    dead: &Dead,
    state: &Path,
    ui: &Ui,
    dry_run: bool,
    go_back: &dyn Fn(&Begun) -> Result<u8>,
) -> usize {
    for path in &dead.unreadable {
        let text = "it is not a note of this lifeboat's: a newer one may have written it; it is left alone";
        ui.trouble(path.as_os_str(), "recover", text);
    }
    let mut open = dead.unreadable.len();
    for begun in &dead.restores {
        let short = begun.snapshot.get(..8).unwrap_or(&begun.snapshot).to_owned();
        if !ui.json {
            ui.say(format!("Restore of project {} from snapshot {short} was interrupted", begun.project));
        }
        let done = match dry_run {
            true => Ok(planned(begun)),
            false => take_back(state, begun, ui),
        };
        let is_taken_back = done.is_ok();
        let lines = done.unwrap_or_else(|error| vec![format!("could not be taken back: {error:#}")]);
        if ui.json {
            ui.emit("restore", json!({"project": begun.project, "snapshot": begun.snapshot, "safety": begun.safety, "items": lines}));
        } else {
            lines.iter().for_each(|line| ui.say(format!("  {line}")));
        }
        if dry_run {
            continue;
        }
        let words = begun.words_back().filter(|_| is_taken_back);
        let outcome = words.as_ref().map_or(Ok(DONE), |_| go_back(begun));
        if let (Err(error), Some(words)) = (&outcome, words) {
            eprintln!(
                "Warning: project {} is stopped, and its volumes may be half restored: {error:#}",
                begun.project
            );
            eprintln!("Hint: lifeboat -r REPOSITORY recover    # or: lifeboat {}", words.join(" "));
        }
        open += usize::from(!is_taken_back || !matches!(outcome, Ok(DONE)));
    }
    open
}

fn planned(begun: &Begun) -> Vec<String> {
    let made = begun.made.iter().filter(|made| !matches!(made, Made::Overwriting));
    let mut lines: Vec<String> = made.map(|made| format!("would be taken back: {}", made.shown())).collect();
    lines.extend(begun.words_back().map(|words| format!("would follow: lifeboat {}", words.join(" "))));
    lines
}

fn take_back(state: &Path, begun: &Begun, ui: &Ui) -> Result<Vec<String>> {
    let engine = Engine::connect(Some(&begun.engine))?;
    if let Some((_, name)) = begun.last_stop() {
        ui.notice(&format!(
            "the stop of container {name} may be under way: waiting for as long as that may take"
        ));
    }
    let lines = undo::undo(&engine, begun)?;
    undo::settle(state, begun)?;
    Ok(lines)
}

fn is_open(fate: &Fate) -> bool {
    match fate {
        Fate::Undone(undone) => !undone.is_whole() || !undone.is_quiet(),
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
        Fate::Undone(undone) if undone.is_whole() && undone.is_quiet() => {
            ("recovered", "was dead; nothing of it is left".into())
        }
        Fate::Undone(undone) => {
            let down = undone.containers.iter().filter(|outcome| matches!(outcome.how, How::Down(_))).count();
            let left = undone.commands.iter().filter(|ended| !ended.is_over).count();
            let open = down + undone.open.len() + left;
            ("open", format!("was dead; {open} could not be brought back or ended"))
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
