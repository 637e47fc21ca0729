//! Brings everything back that a journal says was made quiet.
//!
//! Must stay true: it can be stopped anywhere and run again, by its own run, by its supervisor, by a later `recover`, and
//! by several of them at once; an engine that does not answer is waited for; nothing is called undone that was not seen.
//! `model_tests.rs` tries it against a model of an engine that dies at every step.

use super::hands::{Hands, Refusal};
use super::plan::{Action, Step};
use super::remedy::{Progress, Remedy, remedy};
use crate::facts::{Facts, State};
use crate::journal::entry::{Entry, Ledger};
use crate::journal::{self, Journal};
use std::time::{Duration, Instant};

/// One container is looked at so often before the others get their turn.
const ROUNDS: u32 = 60;
/// How long to wait for a container between two states before the next look.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// An engine tells of a pause what its runtime's messages say, and these come late: one that tells of an unpausing before can make a
/// frozen container look as if it ran, until the next message. So often one that was just frozen has to be seen running.
const LOOKS_FROZEN: u32 = 3;
/// How often a container that ends again is started before that is reported.
const STARTS: u32 = 3;
/// So many rounds a container is tried that the engine refuses to bring back.
const ROUNDS_DOWN: u32 = 5;
/// From one attempt on an engine that does not answer to the next; doubled up to the second.
const RETRY: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];

/// What became of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its name.
    pub name: String,
    /// What was done, or why it was left.
    pub how: How,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// It was back already.
    Back,
    /// It was unpaused.
    Unpaused,
    /// It was started.
    Started,
    /// It is somebody else's now, or gone.
    Left(String),
    /// It could not be brought back.
    Down(String),
}

impl How {
    /// In words.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Back => "runs".into(),
            Self::Unpaused => "unpaused".into(),
            Self::Started => "started".into(),
            Self::Left(why) => format!("left alone: {why}"),
            Self::Down(why) => format!("still down: {why}"),
        }
    }
}

/// A command that was left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Where and what.
    pub command: String,
    /// What became of it, in words.
    pub how: String,
    /// Whether it is over for certain.
    pub is_over: bool,
}

/// What came of an undo.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Undone {
    /// The containers, in the order in which they came back.
    pub containers: Vec<Outcome>,
    /// The owed commands and how they went.
    pub owed: Vec<(String, String)>,
    /// Commands that a dead run left behind, and what became of them.
    pub commands: Vec<Ended>,
    /// What is still to be done, because the engine did not answer in time.
    pub open: Vec<String>,
}

impl Undone {
    /// Whether no command is left that still runs, or may.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.commands.iter().all(|ended| ended.is_over)
    }

    /// Whether everything was brought back or is somebody else's.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.open.is_empty() && !self.containers.iter().any(|outcome| matches!(outcome.how, How::Down(_)))
    }
}

/// What to do about owed commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Debts {
    /// Their run lives and lets go of something first.
    Keep,
    /// Run them once the containers are back.
    Pay,
}

/// Opens again what was undone because its time was over. Its run may not have known yet, and may have asked for more:
/// whoever acts last, the run itself or whoever comes after it, has to look once more. `answered`: no request of the run
/// can still be on its way.
///
/// # Errors
///
/// Where the journal cannot be read.
pub fn reopen(journal: &mut Journal, answered: bool) -> Result<(), journal::Error> {
    let ledger = journal.read()?;
    if ledger.expired && !ledger.ended {
        journal.remember_durably(&[Entry::Reopened { answered }]);
    }
    Ok(())
}

/// Undoes all that is open in a journal, and goes on trying for as long as `patience` says, or until it is done.
///
/// # Errors
///
/// Where the journal cannot be read.
pub fn undo(
    hands: &dyn Hands,
    journal: &mut Journal,
    patience: Option<Duration>,
    debts: Debts,
) -> Result<Undone, journal::Error> {
    let began = Instant::now();
    let mut undone = Undone::default();
    let mut pause = RETRY[0];
    let mut rounds_down = 0;
    loop {
        let ledger = journal.read()?;
        undone.open.clear();
        undone.containers.retain(|outcome| !matches!(outcome.how, How::Down(_)));
        undone.commands.retain(|ended| ended.is_over);
        round(hands, journal, &ledger, debts, &mut undone);
        let down = undone.containers.iter().any(|outcome| matches!(outcome.how, How::Down(_)));
        rounds_down += u32::from(down);
        let done = undone.open.is_empty() && (!down || rounds_down >= ROUNDS_DOWN);
        if done || patience.is_some_and(|patience| began.elapsed() >= patience) {
            return Ok(undone);
        }
        hands.pass(pause);
        pause = (pause * 2).min(RETRY[1]);
    }
}

fn round(hands: &dyn Hands, journal: &mut Journal, ledger: &Ledger, debts: Debts, undone: &mut Undone) {
    // Backwards: what others need comes back first.
    for (step, progress) in ledger.steps.iter().rev() {
        if matches!(progress, Progress::Planned | Progress::Undone) {
            continue;
        }
        match mend(hands, journal, ledger, step, *progress) {
            // It stays open in the journal, for whoever tries again.
            Ok(how @ How::Down(_)) => undone.containers.push(Outcome { name: step.name.clone(), how }),
            Ok(how) => {
                // Where this cannot be written, the next one finds the container back and has nothing to do.
                journal.remember(&[Entry::Undone { container: step.container.clone(), how: how.words() }]);
                undone.containers.push(Outcome { name: step.name.clone(), how });
            }
            Err(refusal) => {
                if *progress == Progress::Doing && matches!(refusal, Refusal::Away(_)) {
                    journal.remember(&[Entry::Away]);
                }
                undone.open.push(format!("{}: {}", step.name, chain(&refusal)));
            }
        }
    }
    if debts == Debts::Keep || !undone.open.is_empty() {
        return;
    }
    // What runs before a capture, or holds something, is over before what runs after it, also where a container is down.
    for running in &ledger.running {
        match hands.end_command(running) {
            Ok((how, is_over)) => {
                // One that is not over stays open in the journal, for whoever can tell somebody.
                if is_over {
                    journal.remember_durably(&[Entry::Ran { word: running.word.clone(), how: how.clone() }]);
                }
                let command = format!("{}: {}", running.name, running.command);
                undone.commands.push(Ended { command, how, is_over });
            }
            Err(refusal) => undone.open.push(format!("{}: {}", running.name, chain(&refusal))),
        }
    }
    // What is owed is owed to running containers.
    if !undone.is_whole() {
        return;
    }
    for owed in &ledger.owed {
        match hands.pay(owed) {
            Ok(how) => {
                journal.remember_durably(&[Entry::Paid { number: owed.number, how: how.clone() }]);
                undone.owed.push((format!("{}: {}", owed.name, owed.argv.join(" ")), how));
            }
            Err(refusal) => undone.open.push(format!("{}: {}", owed.name, chain(&refusal))),
        }
    }
}

/// Brings one container back.
fn mend(
    hands: &dyn Hands,
    journal: &mut Journal,
    ledger: &Ledger,
    step: &Step,
    progress: Progress,
) -> Result<How, Refusal> {
    let mut progress = progress;
    let mut how = How::Back;
    let mut starts = 0;
    let mut last = None;
    let mut doubtful = 0;
    for _ in 0..ROUNDS {
        let now = hands.look(&step.container)?;
        let mut wanted = remedy(step, progress, now.as_ref());
        if starts > 0 {
            wanted = after_start(now.as_ref(), starts, wanted, last.as_ref());
        }
        let tried = match wanted {
            Remedy::Nothing if doubtful == 0 => return Ok(how),
            Remedy::Nothing => {
                doubtful -= 1;
                hands.pass(LOOK_AGAIN);
                Ok(())
            }
            Remedy::Leave(why) if starts == 0 => return Ok(How::Left(why)),
            Remedy::Leave(why) => return Ok(How::Down(why)),
            Remedy::LookAgain => {
                hands.pass(LOOK_AGAIN);
                Ok(())
            }
            Remedy::FinishFirst => {
                progress = Progress::Did;
                doubtful = if step.action == Action::Pause { LOOKS_FROZEN } else { 0 };
                hands.quieten(step)
            }
            Remedy::Unpause => {
                how = How::Unpaused;
                let unpaused = hands.unpause(&step.container);
                if unpaused.is_ok() {
                    doubtful = 0;
                }
                unpaused
            }
            Remedy::Start => {
                how = How::Started;
                starts += 1;
                // Should we die now, or the engine, its next start is still known to be ours.
                journal.remember(&[Entry::Starting { container: step.container.clone() }]);
                progress = Progress::Starting;
                start_owner(hands, ledger, now.as_ref())?;
                hands.start(&step.container)
            }
        };
        match tried {
            Ok(()) => last = None,
            Err(Refusal::Refused(error)) => {
                // It may be on its way to where we want it; the next look tells.
                last = Some(Refusal::Refused(error));
                hands.pass(LOOK_AGAIN);
            }
            Err(away) => return Err(away),
        }
    }
    Err(last.unwrap_or_else(|| Refusal::Refused("it does not settle".into())))
}

/// One that uses another's network cannot start without it. The owner may have been planned only, and gone with an engine.
fn start_owner(hands: &dyn Hands, ledger: &Ledger, now: Option<&Facts>) -> Result<(), Refusal> {
    let Some(word) = now.and_then(|now| now.network_of.as_ref()) else { return Ok(()) };
    let Some(owner) = hands.look(word)? else { return Ok(()) };
    let is_ours = ledger.steps.iter().any(|(step, _)| step.container == owner.id);
    match is_ours && matches!(owner.state, State::Exited | State::Dead) {
        // Whether it worked shows when its user starts.
        true => hands.start(&owner.id).or_else(|refusal| match refusal {
            Refusal::Refused(_) => Ok(()),
            away => Err(away),
        }),
        false => Ok(()),
    }
}

/// What a look means after we started it ourselves: its time is another one now, by our own doing.
fn after_start(now: Option<&Facts>, starts: u32, wanted: Remedy, last: Option<&Refusal>) -> Remedy {
    match now.map(|now| (now.state, now.exit_code)) {
        Some((State::Running, _)) => Remedy::Nothing,
        Some((State::Exited | State::Created | State::Dead, _)) if starts < STARTS => Remedy::Start,
        Some((State::Exited | State::Created | State::Dead, code)) => Remedy::Leave(match last {
            Some(refusal) => format!("it was started {starts} times: {}", chain(refusal)),
            None => format!("it was started {starts} times and ends with {code}"),
        }),
        _ => wanted,
    }
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    text
}
