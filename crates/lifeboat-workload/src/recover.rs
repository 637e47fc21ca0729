//! `lifeboat recover`: brings back what dead runs left stopped, paused or owed.
//!
//! Must stay true: what a live run is at work with is not touched. A run lives while its journal is locked, on this
//! machine; while its mark on the engine changes its name, on any. Looking without acting ([`look`]) decides the same.
//!
//! Where there is a journal it decides; a mark without one (the state was lost, or the run was on another machine) says
//! what may have been made quiet, and only what is found paused, or ended, since the same start is brought back.

use crate::engine::{self, Engine};
use crate::journal::entry::{Entry, Ledger};
use crate::journal::{self, Found, Journal, Journals, Made};
use crate::quiesce::hands::{Hands, Refusal};
use crate::quiesce::mark::{self, Mark, SILENCE};
use crate::quiesce::on_engine::OnEngine;
use crate::quiesce::remedy::{Progress, Remedy, remedy};
use crate::quiesce::undo::{Debts, Undone, chain, reopen, undo};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// How long a dead run's engine is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why nothing could be recovered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The journals.
    #[error("the journals of dead runs cannot be read")]
    Journal(#[from] journal::Error),
    /// The engine.
    #[error("the marks of dead runs cannot be read")]
    Engine(#[from] engine::Error),
}

/// A run that was found.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its word.
    pub run: String,
    /// When it began, if that is known.
    pub begun: String,
    /// Its engine.
    pub engine: String,
    /// Whether it is known by its mark alone.
    pub by_mark: bool,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a run.
#[derive(Debug, Clone)]
pub enum Fate {
    /// It lives and is left alone.
    Lives,
    /// This would be done: a container's name, or an owed command, and what about it.
    Planned(Vec<(String, String)>),
    /// This was done.
    Undone(Undone),
    /// Its engine does not answer.
    Away(String),
    /// A newer lifeboat's, which this one does not understand.
    Newer(u32),
}

/// Says what [`recover`] would do.
///
/// # Errors
///
/// Where neither journals nor marks can be read.
pub fn look(engine: Option<&Engine>, state: &Path) -> Result<Vec<Run>, Error> {
    work(engine, state, Mode::Look)
}

/// Brings back what dead runs left.
///
/// # Errors
///
/// Where neither journals nor marks can be read.
pub fn recover(engine: Option<&Engine>, state: &Path) -> Result<Vec<Run>, Error> {
    work(engine, state, Mode::Act)
}

/// The dead runs of this machine alone: what a new run does first.
///
/// # Errors
///
/// Where the journals cannot be read.
pub fn recover_journals(state: &Path) -> Result<Vec<Run>, Error> {
    work(None, state, Mode::Act)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Look,
    Act,
}

fn work(engine: Option<&Engine>, state: &Path, mode: Mode) -> Result<Vec<Run>, Error> {
    let journals = Journals::in_state(state);
    let mut runs = Vec::new();
    let mut known = BTreeSet::new();
    for found in journals.find()? {
        let (ledger, fate) = match found {
            Found::Live(ledger) => (ledger, Fate::Lives),
            Found::Dead(journal, ledger) => {
                let fate = of_journal(journal, &ledger, mode)?;
                (ledger, fate)
            }
        };
        known.insert(ledger.run.clone());
        runs.push(run(ledger, false, fate));
    }
    if let Some(engine) = engine {
        for mark in orphans(engine, &known)? {
            let ledger = mark.0.ledger();
            let fate = if mark.1 { Fate::Lives } else { of_mark(engine, &journals, &mark.0, mode)? };
            runs.push(run(ledger, true, fate));
        }
    }
    Ok(runs)
}

fn run(ledger: Ledger, by_mark: bool, fate: Fate) -> Run {
    Run { run: ledger.run, begun: ledger.begun, engine: ledger.engine, by_mark, fate }
}

/// Marks that no journal of ours belongs to, and whether somebody keeps them alive. Waits where there are any.
fn orphans(engine: &Engine, known: &BTreeSet<String>) -> Result<Vec<(Mark, bool)>, Error> {
    let of_others = |marks: Vec<Mark>| marks.into_iter().filter(|mark| !known.contains(&mark.run)).collect();
    let before: Vec<Mark> = of_others(mark::list(engine)?);
    if before.is_empty() {
        return Ok(Vec::new());
    }
    std::thread::sleep(SILENCE);
    let after: Vec<Mark> = of_others(mark::list(engine)?);
    let stood_still =
        |mark: &Mark| before.iter().any(|earlier| earlier.id == mark.id && earlier.name == mark.name);
    Ok(after.into_iter().map(|mark| (stood_still(&mark), mark)).map(|(still, mark)| (mark, !still)).collect())
}

fn of_journal(mut journal: Journal, ledger: &Ledger, mode: Mode) -> Result<Fate, Error> {
    if ledger.version > journal::entry::VERSION {
        return Ok(Fate::Newer(ledger.version));
    }
    let hands = OnEngine::at(&ledger.engine);
    if mode == Mode::Look {
        return Ok(planned(&hands, ledger));
    }
    // Its first entries never reached the disk: nothing was done after them.
    if ledger.is_settled() {
        if let Ok(engine) = hands.engine() {
            let _ = mark::remove(&engine, &ledger.run);
        }
        journal.close()?;
        return Ok(Fate::Undone(Undone::default()));
    }
    reopen(&mut journal, false)?;
    // Nobody saw whether the engine stayed up.
    journal.remember_durably(&[Entry::Away]);
    let undone = undo(&hands, &mut journal, Some(PATIENCE), Debts::Pay)?;
    if !undone.is_whole() {
        return Ok(Fate::Undone(undone));
    }
    if let Ok(engine) = hands.engine() {
        let _ = mark::remove(&engine, &ledger.run);
    }
    journal.close()?;
    Ok(Fate::Undone(undone))
}

/// A mark becomes a journal first, so that dying in the middle of this leaves one.
fn of_mark(engine: &Engine, journals: &Journals, mark: &Mark, mode: Mode) -> Result<Fate, Error> {
    let mut entries = vec![Entry::Run {
        version: journal::entry::VERSION,
        run: mark.run.clone(),
        engine: engine.address().to_string(),
        begun: mark.ledger().begun,
        process: std::process::id(),
    }];
    entries.extend(mark.entries.iter().filter(|entry| !matches!(entry, Entry::Run { .. })).cloned());
    let steps: Vec<_> = mark.ledger().steps.into_iter().map(|(step, _)| step).collect();
    // Nobody knows how far it came. As done, what runs stays as it is.
    entries.extend(
        steps.iter().map(|step| Entry::Did {
            container: step.container.clone(),
            started_at: step.started_at.clone(),
        }),
    );
    let mut ledger = Ledger::default();
    for entry in &entries {
        ledger.add(entry.clone());
    }
    if mode == Mode::Look {
        return Ok(planned(&OnEngine::with(engine.clone()), &ledger));
    }
    let containers: Vec<String> = steps.iter().map(|step| step.container.clone()).collect();
    match journals.make(&mark.run, None, &containers, &entries)? {
        Made::Taken(_) => Ok(Fate::Lives),
        Made::Journal(journal) => of_journal(journal, &ledger, mode),
    }
}

fn planned(hands: &OnEngine, ledger: &Ledger) -> Fate {
    let mut planned = Vec::new();
    let mut ledger = ledger.clone();
    ledger.lose_sight();
    for (step, progress) in ledger.steps.iter().rev() {
        if matches!(progress, Progress::Planned | Progress::Undone) {
            continue;
        }
        let now = match hands.look(&step.container) {
            Ok(now) => now,
            Err(refusal @ Refusal::Away(_)) => return Fate::Away(chain(&refusal)),
            Err(refusal) => {
                planned.push((step.name.clone(), chain(&refusal)));
                continue;
            }
        };
        let what = match remedy(step, *progress, now.as_ref()) {
            Remedy::Nothing => "runs already".into(),
            Remedy::Unpause => "would be unpaused".into(),
            Remedy::Start => "would be started".into(),
            Remedy::FinishFirst => {
                "runs; a request that may be on its way would be finished and undone".into()
            }
            Remedy::LookAgain => "is between two states".into(),
            Remedy::Leave(why) => format!("would be left alone: {why}"),
        };
        planned.push((step.name.clone(), what));
    }
    for running in &ledger.running {
        planned
            .push((running.name.clone(), format!("`{}` would be ended, if it still runs", running.command)));
    }
    for owed in &ledger.owed {
        planned.push((owed.name.clone(), format!("`{}` would be run", owed.argv.join(" "))));
    }
    Fate::Planned(planned)
}
