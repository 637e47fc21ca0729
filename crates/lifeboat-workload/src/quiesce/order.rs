//! Makes containers quiet, one after the other, with the journal always ahead.
//!
//! Must stay true: before the engine is asked for anything, that is on disk; whatever fails, what was done so far is in
//! the journal and can be undone.

use super::hands::{Hands, Refusal};
use super::plan::{Action, Plan, Step};
use crate::facts::State;
use crate::journal::entry::Entry;
use crate::journal::{self, Journal};

/// Why containers could not be made quiet.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The journal could not be written, so nothing was done.
    #[error("nothing may be stopped or paused without a journal")]
    Journal(#[from] journal::Error),
    /// Somebody else started, stopped or removed it since the plan was made.
    #[error("container {name} changed while it was about to be made quiet")]
    Changed {
        /// Which.
        name: String,
    },
    /// The engine did not do it.
    #[error("container {name} could not be {what}")]
    Container {
        /// Which.
        name: String,
        /// What it should have become.
        what: &'static str,
        /// What the engine says.
        source: Refusal,
    },
}

/// How a container became quiet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quieted {
    /// Its name.
    pub name: String,
    /// Whether its process had to be killed, because it did not stop in time.
    pub killed: bool,
    /// Whether it ended by itself before it was asked.
    pub ended: bool,
}

/// Makes all containers of a plan quiet.
///
/// # Errors
///
/// The first container that cannot be; the caller undoes.
pub fn quieten(hands: &dyn Hands, journal: &mut Journal, plan: &Plan) -> Result<Vec<Quieted>, Error> {
    let (stops, pauses): (Vec<&Step>, Vec<&Step>) =
        plan.steps.iter().partition(|step| step.action == Action::Stop);
    let mut quieted = Vec::new();
    for stop in stops {
        quieted.extend(together(hands, journal, &[stop])?);
    }
    // Pauses are announced together: every wait for the disk between them would lengthen the first one. Undoing one that
    // was not reached pauses and unpauses it, which nobody notices.
    quieted.extend(together(hands, journal, &pauses)?);
    Ok(quieted)
}

fn together(hands: &dyn Hands, journal: &mut Journal, steps: &[&Step]) -> Result<Vec<Quieted>, Error> {
    if steps.is_empty() {
        return Ok(Vec::new());
    }
    for step in steps {
        unchanged(hands, step)?;
    }
    let doing = |step: &&Step| Entry::Doing { container: step.container.clone() };
    journal.add(&steps.iter().map(doing).collect::<Vec<_>>())?;
    let quieted = ask(hands, journal, steps);
    if matches!(&quieted, Err(Error::Container { source: Refusal::Away(_), .. })) {
        journal.remember_durably(&[Entry::Away]);
    }
    quieted
}

fn ask(hands: &dyn Hands, journal: &mut Journal, steps: &[&Step]) -> Result<Vec<Quieted>, Error> {
    let mut answers = Vec::new();
    for step in steps {
        match hands.quieten(step) {
            Err(Refusal::Away(source)) => return Err(failed(step, Refusal::Away(source))),
            answer => answers.push(answer),
        }
    }
    steps.iter().zip(answers).map(|(step, answer)| confirm(hands, journal, step, answer)).collect()
}

fn failed(step: &Step, source: Refusal) -> Error {
    let what = match step.action {
        Action::Pause => "paused",
        Action::Stop => "stopped",
    };
    Error::Container { name: step.name.clone(), what, source }
}

/// The plan was made a moment ago; what it says has to be so still, or undoing would mistake it.
fn unchanged(hands: &dyn Hands, step: &Step) -> Result<(), Error> {
    let now = hands.look(&step.container).map_err(|refusal| failed(step, refusal))?;
    match now {
        Some(now) if now.state == State::Running && now.started_at == step.started_at => Ok(()),
        _ => Err(Error::Changed { name: step.name.clone() }),
    }
}

/// Sees whether it is quiet, and writes down which start of it is.
fn confirm(
    hands: &dyn Hands,
    journal: &mut Journal,
    step: &Step,
    answer: Result<(), Refusal>,
) -> Result<Quieted, Error> {
    let now = hands.look(&step.container).map_err(|refusal| failed(step, refusal))?;
    let Some(now) = now else { return Err(Error::Changed { name: step.name.clone() }) };
    let ended = matches!(now.state, State::Exited | State::Dead);
    if !ended && (step.action == Action::Stop || now.state != State::Paused) {
        let odd = || Refusal::Refused("the engine says it did, and it is not so".into());
        return Err(failed(step, answer.err().unwrap_or_else(odd)));
    }
    let is_stop = step.action == Action::Stop;
    // What ended before its pause was not made quiet by us, and a job that is done stays so: nobody undoes it.
    if is_stop || !ended || answer.is_ok() {
        // That it is done may be lost: the engine tells as well.
        let started_at = now.started_at.clone();
        journal.remember(&[Entry::Did { container: step.container.clone(), started_at }]);
    }
    Ok(Quieted { name: step.name.clone(), killed: is_stop && now.exit_code == 137, ended: ended && !is_stop })
}
