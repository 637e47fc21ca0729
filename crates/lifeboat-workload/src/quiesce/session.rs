//! One run's quiet time, from the journal's first line to its removal.
//!
//! Must stay true: nothing is made quiet before its journal is on disk, its supervisor watches and its mark is on the
//! engine; and however this is left, by `end`, by an error, by a panic or by death, everything comes back.

use super::hands::Hands;
use super::mark;
use super::on_engine::OnEngine;
use super::order::{self, Quieted};
use super::others::{self, Claim, Others};
use super::plan::Plan;
use super::undo::{Debts, How, Undone, reopen, undo};
use crate::engine::Engine;
use crate::journal::entry::{Entry, Ledger, Owed, Running, VERSION};
use crate::journal::{self, Journal};
use crate::quiesce::remedy::Progress;
use crate::supervisor::link::{self, Link, Program};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

/// How long a run itself waits for its engine before it leaves the rest to its supervisor.
const PATIENCE: Duration = Duration::from_secs(120);

/// How a run does this.
#[derive(Debug, Clone)]
pub struct Options {
    /// lifeboat's state folder.
    pub state: PathBuf,
    /// Who supervises.
    pub supervisor: Program,
    /// How long to wait for another run that works with the same containers.
    pub wait: Duration,
    /// What is known of others, and who is told.
    pub others: Others,
}

impl Options {
    /// With this program as its own supervisor, and a quarter of an hour for others to finish.
    #[must_use]
    pub fn new(state: PathBuf) -> Self {
        let (supervisor, wait) = (Program::default(), Duration::from_secs(15 * 60));
        Self { state, supervisor, wait, others: Others::default() }
    }
}

/// Why nothing was made quiet, or not all; what was is back.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The journal.
    #[error("nothing may be stopped, paused or held without a journal")]
    Journal(#[from] journal::Error),
    /// The supervisor.
    #[error("nothing may be stopped, paused or held without a supervisor")]
    Supervisor(#[from] link::Error),
    /// The mark.
    #[error("nothing may be stopped, paused or held without a mark on the engine")]
    Mark(#[source] crate::engine::Error),
    /// Another run works with the same containers, and did not finish in time.
    #[error("run {run}, which began at {begun}, still works with the same containers")]
    Busy {
        /// The other run.
        run: String,
        /// When it began.
        begun: String,
    },
    /// The user wants to wait no longer.
    #[error("interrupted")]
    Interrupted,
    /// One of the containers.
    #[error(transparent)]
    Order(#[from] order::Error),
    /// What was made quiet before is not back, so it cannot be made quiet anew.
    #[error("not everything is back that was made quiet before")]
    NotBack,
}

/// What a session sees to besides containers.
#[derive(Debug, Clone, Default)]
pub struct Promises {
    /// Commands that are run in their containers at the end, whatever happens.
    pub owed: Vec<Owed>,
    /// Commands that will hold something. The mark names them from the beginning, because it cannot change; the journal when
    /// they are started: [`Session::running`].
    pub holds: Vec<Running>,
}

/// The session that another one takes the place of, and what runs for it.
struct Before<'s> {
    run: &'s str,
    running: Vec<Running>,
}

/// When everything was quiet.
#[derive(Debug, Clone)]
pub struct Moment {
    /// The machine's time once the last container had become quiet: nothing in the capture is newer.
    pub at: SystemTime,
    /// How each became so.
    pub containers: Vec<Quieted>,
}

/// What came of a quiet time.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What became of each container.
    pub undone: Undone,
    /// From the first container that became quiet to the last that was back.
    pub quiet: Duration,
    /// Whether the time was over before the capture was: then it is not of one moment.
    pub expired: bool,
    /// Containers that somebody else changed meanwhile: then the capture is not of one moment either.
    pub changed: Vec<String>,
}

/// A run that may make containers quiet.
#[derive(Debug)]
pub struct Session {
    plan: Plan,
    holds: Vec<Running>,
    run: String,
    journal: Option<Journal>,
    link: Option<Link>,
    hands: OnEngine,
    engine: Engine,
    since: Option<Instant>,
    /// A request to make something quiet failed: it may still be on its way.
    is_unsure: bool,
    /// What the supervisor undid because the time was over has been looked at again.
    has_reopened: bool,
}

impl Session {
    /// Gets everything ready to make the containers of a plan quiet, and touches none yet.
    ///
    /// # Errors
    ///
    /// Without a journal, a supervisor and a mark there is no session.
    pub fn begin(engine: &Engine, plan: Plan, promises: Promises, options: &Options) -> Result<Self, Error> {
        Self::begin_after(engine, plan, promises, options, None)
    }

    /// Goes on with another plan and the same debts: as a session of its own, so that whoever still undoes something of
    /// the old one can not mistake it.
    ///
    /// # Errors
    ///
    /// As [`Session::begin`], and where something is not back; then this session is as it was.
    pub fn plan_anew(&mut self, plan: Plan, options: &Options) -> Result<(), Error> {
        let ledger = self.journal.as_ref().ok_or_else(ended)?.read()?;
        let is_back = |progress: &Progress| matches!(progress, Progress::Planned | Progress::Undone);
        if !ledger.steps.iter().all(|(_, progress)| is_back(progress)) {
            return Err(Error::NotBack);
        }
        // Whoever dies from here on until the old journal is gone leaves the debts in both: they may be paid twice.
        let promises = Promises { owed: ledger.owed, holds: self.holds.clone() };
        let before = Before { run: &self.run, running: ledger.running };
        let next = Self::begin_after(&self.engine, plan, promises, options, Some(before))?;
        std::mem::replace(self, next).close_as_it_is()
    }

    fn begin_after(
        engine: &Engine,
        plan: Plan,
        promises: Promises,
        options: &Options,
        before: Option<Before<'_>>,
    ) -> Result<Self, Error> {
        let Promises { owed, holds } = promises;
        let run = super::random_word();
        let mut entries = vec![Entry::Run {
            version: VERSION,
            run: run.clone(),
            engine: engine.address().to_string(),
            begun: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            process: std::process::id(),
        }];
        entries.extend(plan.steps.iter().cloned().map(Entry::Step));
        entries.extend(owed.into_iter().map(Entry::Owed));
        let mut containers: Vec<String> = plan.steps.iter().map(|step| step.container.clone()).collect();
        containers.sort();
        let (before, running) = before.map(|before| (before.run, before.running)).unzip();
        let known = |running: &Running| Entry::Running(running.clone());
        let marked: Vec<Entry> = entries.iter().cloned().chain(holds.iter().map(known)).collect();
        entries.extend(running.into_iter().flatten().map(Entry::Running));
        let claim = Claim { run: &run, before, containers: &containers, entries: &entries };
        let journal = others::own_journal(options, claim)?;
        let mut session = Self {
            plan,
            holds,
            run: run.clone(),
            journal: Some(journal),
            link: None,
            hands: OnEngine::with(engine.clone()),
            engine: engine.clone(),
            since: None,
            is_unsure: false,
            has_reopened: false,
        };
        match session.be_watched(options, Claim { entries: &marked, ..claim }) {
            Ok(()) => Ok(session),
            Err(error) => {
                // What is owed, and what holds, is still the other one's; or somebody else is at work there, which is no time
                // for what is owed, and nothing was done.
                if before.is_some() || matches!(error, Error::Busy { .. } | Error::Interrupted) {
                    session.close_as_it_is()?;
                }
                Err(error)
            }
        }
    }

    /// With a supervisor, and a mark that has what the claim says.
    fn be_watched(&mut self, options: &Options, claim: Claim<'_>) -> Result<(), Error> {
        let Some(journal) = &self.journal else { return Err(ended()) };
        let link = self.link.insert(Link::start(options.supervisor.clone(), journal)?);
        let mark = others::own_mark(&self.engine, options, claim)?;
        link.mark(&mark);
        Ok(())
    }

    /// The run's own word.
    #[must_use]
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Notes that a command is about to run that would outlive this run's death.
    ///
    /// # Errors
    ///
    /// Where the journal cannot be written: then it must not run.
    pub fn running(&mut self, running: Running) -> Result<(), Error> {
        let journal = self.journal.as_mut().ok_or_else(ended)?;
        Ok(journal.add(&[Entry::Running(running)])?)
    }

    /// Notes that it is over.
    pub fn ran(&mut self, word: &str, how: &str) {
        // Where this cannot be written, whoever undoes finds it gone.
        if let Some(journal) = &mut self.journal {
            journal.remember_durably(&[Entry::Ran { word: word.into(), how: how.into() }]);
        }
    }

    /// What is made quiet, and how.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Who watches, for people and tests.
    #[must_use]
    pub fn supervisor(&self) -> Option<u32> {
        self.link.as_ref().and_then(Link::process)
    }

    /// Makes everything quiet that the plan names. From here on it is undone after the plan's limit, whatever happens.
    ///
    /// # Errors
    ///
    /// Something cannot be made quiet; what was is brought back when this is ended or dropped.
    pub fn quiet(&mut self) -> Result<Moment, Error> {
        let Some(journal) = &mut self.journal else { return Err(ended()) };
        if let Some(link) = &self.link {
            if link.is_lost() {
                return Err(Error::Supervisor(link::Error::Start(std::io::ErrorKind::NotFound.into())));
            }
            link.limit(self.plan.limit());
        }
        // Where nobody is made quiet, nobody waits.
        self.since = (!self.plan.is_empty()).then(Instant::now);
        self.is_unsure = true;
        let containers = order::quieten(&self.hands, journal, &self.plan)?;
        self.is_unsure = false;
        Ok(Moment { at: SystemTime::now(), containers })
    }

    /// Whether the time was over and everything is back: what is read now is not of one moment.
    #[must_use]
    pub fn has_expired(&self) -> bool {
        self.link.as_ref().is_some_and(Link::has_expired)
    }

    /// Brings everything back; what is owed is run by [`Session::end`], once the caller has let go of its holds.
    ///
    /// # Errors
    ///
    /// Where the journal cannot be read; the supervisor goes on then.
    pub fn resume(&mut self) -> Result<Report, Error> {
        let Some(journal) = &mut self.journal else { return Err(ended()) };
        if let Some(link) = &self.link {
            link.limit(None);
        }
        let ledger = journal.read()?;
        let expired = ledger.expired || self.link.as_ref().is_some_and(Link::has_expired);
        let changed = if expired { Vec::new() } else { changed(&self.hands, &ledger) };
        if expired && !ledger.expired && !self.has_reopened {
            // The supervisor said so, and had no room to write it down.
            journal.remember(&[Entry::Expired]);
        }
        self.has_reopened |= expired;
        reopen(journal, !self.is_unsure)?;
        let undone = undo(&self.hands, journal, Some(PATIENCE), Debts::Keep)?;
        let quiet = self.since.take().map_or(Duration::ZERO, |since| since.elapsed());
        Ok(Report { undone, quiet, expired, changed })
    }

    /// Ends the session: everything is back, its journal and its mark are gone. What is left open stays in the journal,
    /// and the supervisor goes on with it.
    ///
    /// # Errors
    ///
    /// Where the journal cannot be read or removed.
    pub fn end(mut self) -> Result<Report, Error> {
        let mut report = self.resume()?;
        self.close(&mut report)?;
        Ok(report)
    }

    fn close(&mut self, report: &mut Report) -> Result<(), Error> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        let paid = undo(&self.hands, journal, Some(PATIENCE), Debts::Pay)?;
        report.undone.owed.extend(paid.owed);
        report.undone.open = paid.open;
        if !report.undone.is_whole() {
            self.journal = None;
            return Ok(());
        }
        self.close_as_it_is()
    }

    /// Closes what has nothing left to undo.
    fn close_as_it_is(&mut self) -> Result<(), Error> {
        let Some(journal) = self.journal.take() else { return Ok(()) };
        // A mark that cannot be taken away harms nobody: the next `recover` finds nothing to do for it.
        let _ = mark::remove(&self.engine, &self.run);
        journal.close()?;
        if let Some(link) = self.link.take() {
            link.end();
        }
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Ok(mut report) = self.resume() {
            let _ = self.close(&mut report);
        }
    }
}

pub(super) fn ended() -> Error {
    let source = std::io::Error::other("the session has ended");
    Error::Journal(journal::Error::File { path: PathBuf::new(), doing: "used", source })
}

/// Containers that are not as quiet as they were made, before anything is undone.
fn changed(hands: &dyn Hands, ledger: &Ledger) -> Vec<String> {
    use super::plan::Action;
    use crate::facts::State;
    // What ended by itself before its pause is none of ours, and has to stay as it is all the same.
    let made_quiet =
        ledger.steps.iter().filter(|(_, progress)| matches!(progress, Progress::Did | Progress::Doing));
    let differs = |step: &super::plan::Step| match hands.look(&step.container) {
        Ok(Some(now)) => {
            let quiet = match step.action {
                Action::Pause => matches!(now.state, State::Paused | State::Exited),
                Action::Stop => now.state == State::Exited,
            };
            !quiet || now.started_at != step.started_at
        }
        // An engine that is away has taken them all along.
        Ok(None) | Err(_) => true,
    };
    made_quiet.filter(|(step, _)| differs(step)).map(|(step, _)| step.name.clone()).collect()
}

impl Report {
    /// Whether what was captured in between is of one moment.
    #[must_use]
    pub fn is_one_moment(&self) -> bool {
        !self.expired && self.changed.is_empty()
    }

    /// The containers that are not back.
    pub fn down(&self) -> impl Iterator<Item = &str> {
        let down = self.undone.containers.iter().filter(|outcome| matches!(outcome.how, How::Down(_)));
        down.map(|outcome| outcome.name.as_str())
    }
}
