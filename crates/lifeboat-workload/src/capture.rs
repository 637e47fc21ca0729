//! A group of containers as one capture: made quiet, brought back, and what is claimed of the moment.
//!
//! Must stay true: commands of `post` are owed before any of `pre` runs; holds begin before anything is paused, because
//! nothing can be run in a paused container, and let go after everything is unpaused; what the snapshot claims is what
//! was seen, never what was intended.
//!
//! The order: [`Group::find`] → [`Group::wait_ready`] → [`Group::prepare`] → [`Capture::begin`] (journal, supervisor, mark,
//! `pre`) → pass one → [`Quiesce::hold`] → pass two → [`Quiesce::release`] (and `post`, after the last round) → commit →
//! [`Capture::end`].
//! Read next: [`preparation`], where labels become what is done; [`sources`], what is read; [`crate::quiesce::session`].

mod binds;
mod claims;
mod commands;
mod error;
pub mod group;
pub mod preparation;
pub mod sources;
#[cfg(test)]
mod tests;

use crate::facts::{Facts, State};
use crate::labels::OnError;
use crate::quiesce::holding::Holding;
use crate::quiesce::lifelines::Lifelines;
use crate::quiesce::plan::Plan;
use crate::quiesce::session::{Moment, Options, Promises, Report, Session};
use crate::quiesce::undo::chain;
use crate::recipes::at_work::AtWork;
use claims::consistency;
use commands::{holding, release_holds};
pub use error::Error;
use group::{Group, around};
use lifeboat_format::TreePath;
use lifeboat_transfer::backup::{Claims, Quiesce, ROUNDS_MAX, Remainder, SourceSpec, Verdict};
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Why a volume must not be in a snapshot.
pub const OWN: &str = "the repository, or lifeboat's cache or state, is in it";

/// How often the plan is made anew because a container changed between the plan and its turn.
const PLANS_MAX: u32 = 3;

/// What of a capture changes while it is made.
#[derive(Debug, Default)]
struct Work {
    // Dropped first: whoever holds lets go before anything else.
    holds: Vec<Holding>,
    recipes: Option<AtWork>,
    session: Option<Session>,
    /// Who may write, each with its start, before anything was made quiet.
    writers: Vec<(String, String)>,
    moment: Option<Moment>,
    /// Of the last round: who ran, who was held by a command, and how that was.
    facts: Vec<Facts>,
    held: BTreeSet<String>,
    plan: Plan,
    report: Option<Report>,
    round: u32,
    /// Everything is back, and what was owed has been run.
    ended: Option<Report>,
    /// What has to be said, in the order in which it happened.
    trouble: Vec<String>,
    /// Nothing went wrong before the last round, and nothing in it.
    is_sound: bool,
    prepared_badly: bool,
}

type LettingGo = fn(&mut AtWork, &mut Option<Session>) -> Vec<String>;

impl Work {
    /// Does something with the recipes, whose sessions go into the journal.
    fn with_recipes<T>(&mut self, none: T, act: fn(&mut AtWork, &mut Option<Session>) -> T) -> T {
        match &mut self.recipes {
            Some(recipes) => act(recipes, &mut self.session),
            None => none,
        }
    }
}

/// What came of a capture, once everything is back.
#[derive(Debug, Clone, Default)]
pub struct Ended {
    /// How long services were held in the last round, and what became of each.
    pub report: Report,
    /// What went wrong, in the order in which it happened.
    pub trouble: Vec<String>,
    /// Whether the capture is as sound as it was meant to be.
    pub is_sound: bool,
}

/// A capture under way.
#[derive(Debug)]
pub struct Capture<'g> {
    group: &'g Group,
    lifelines: Lifelines,
    options: Options,
    /// Something is read as a stream, which takes as long again each time.
    has_streams: bool,
    work: Mutex<Work>,
}

impl<'g> Capture<'g> {
    /// Makes everything ready to undo what will be done, and runs the commands before the capture.
    ///
    /// # Errors
    ///
    /// A command fails that must not, or there can be no journal, supervisor or mark. What `post` owes is run.
    pub fn begin(
        group: &'g Group,
        lifelines: Lifelines,
        options: Options,
        has_streams: bool,
    ) -> Result<Self, Error> {
        let plan = plan(group, &lifelines, &around(&group.engine)?);
        let (holds, recipes) = (holding(group), AtWork::new(&group.engine, group.recipes()));
        let all = holds.iter().chain(recipes.holding()).map(|one| one.running().clone()).collect();
        let promises = Promises { owed: group.owed(), holds: all };
        let has_commands = group.commands(|preparation| &preparation.pre).next().is_some();
        let is_idle =
            plan.is_empty() && promises.owed.is_empty() && promises.holds.is_empty() && !has_commands;
        let session = match is_idle {
            true => None,
            false => Some(Session::begin(&group.engine, plan.clone(), promises, &options)?),
        };
        let recipes = Some(recipes);
        let work = Work { session, plan, holds, recipes, is_sound: true, ..Work::default() };
        let capture = Self { group, lifelines, options, has_streams, work: Mutex::new(work) };
        for (member, command) in group.commands(|preparation| &preparation.pre) {
            if command.holds {
                continue;
            }
            match capture.run_before(member, command)? {
                Ok(_) => {}
                Err(error) if command.on_error == OnError::Continue => {
                    let mut work = capture.work();
                    work.trouble.push(chain(&error));
                    work.prepared_badly = true;
                }
                Err(error) => return Err(Error::Hook(Box::new(error))),
            }
        }
        Ok(capture)
    }

    /// What will be done, and to whom, as far as that is known before.
    #[must_use]
    pub fn plan(&self) -> Plan {
        self.work().plan.clone()
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds, plans by what is there now, and makes quiet.
    fn make_quiet(&self, work: &mut Work, is_first: bool) -> Result<(), Error> {
        self.begin_holds(work)?;
        work.with_recipes(Ok(()), AtWork::hold)?;
        let facts = around(&self.group.engine)?;
        let plan = plan(self.group, &self.lifelines, &facts);
        match &mut work.session {
            Some(session) if is_first && *session.plan() == plan => {}
            Some(session) => session.plan_anew(plan.clone(), &self.options)?,
            None if plan.is_empty() => {}
            none => {
                let (engine, promises) = (&self.group.engine, Promises::default());
                *none = Some(Session::begin(engine, plan.clone(), promises, &self.options)?);
            }
        }
        work.writers = self.group.writers(&facts);
        (work.facts, work.plan) = (facts, plan);
        work.moment = match &mut work.session {
            Some(session) => Some(session.quiet()?),
            None => Some(Moment { at: std::time::SystemTime::now(), containers: Vec::new() }),
        };
        let quieted = work.moment.iter().flat_map(|moment| &moment.containers);
        let killed = quieted.filter(|one| one.killed).map(|one| one.name.clone()).collect::<Vec<_>>();
        work.trouble.extend(
            killed.iter().map(|name| format!("container {name} did not stop in its time, and was killed")),
        );
        Ok(work.with_recipes(Ok(()), AtWork::when_quiet)?)
    }

    /// Whether it is worth while to do it again.
    fn judge(&self, work: &Work, reason: String) -> Verdict {
        let report = work.report.as_ref();
        let is_back = report.is_none_or(|report| report.undone.is_whole());
        // A stream that took too long takes as long again.
        let is_hopeless = self.has_streams && report.is_some_and(|report| report.expired);
        if is_back && !is_hopeless { Verdict::Again(reason) } else { Verdict::Kept }
    }

    /// Brings everything back and lets go of everything; gives what went wrong with the moment.
    fn bring_back(&self, work: &mut Work, letting_go: LettingGo) -> Vec<String> {
        let mut reasons = Vec::new();
        match work.session.as_mut().map(Session::resume) {
            Some(Ok(report)) => {
                if report.expired {
                    reasons.push("the time that services may be paused was over".to_owned());
                }
                let changed = report.changed.iter();
                reasons.extend(changed.map(|name| format!("container {name} did not stay as it was made")));
                work.report = Some(report);
            }
            Some(Err(error)) => reasons.push(chain(&error)),
            None => {}
        }
        reasons.extend(release_holds(work));
        reasons.extend(work.with_recipes(Vec::new(), letting_go));
        reasons
    }

    /// Who was not there before and may have written meanwhile.
    fn intruders(&self, work: &Work) -> Result<Vec<String>, Error> {
        let quieted: BTreeSet<&str> = work.plan.steps.iter().map(|step| step.name.as_str()).collect();
        let now = self.group.writers(&around(&self.group.engine)?);
        // Who was made quiet has another start now, if it was stopped; it was looked at before.
        let is_new = |writer: &(String, String)| {
            !quieted.contains(writer.0.as_str()) && !work.writers.contains(writer)
        };
        Ok(now.into_iter().filter(is_new).map(|(name, _)| name).collect())
    }

    /// Says what came of it; brings everything back and runs what is owed, where that was not done by the last release.
    ///
    /// # Errors
    ///
    /// Where the journal cannot be read or removed.
    pub fn end(self) -> Result<Ended, Error> {
        let mut work = self.work();
        let report = match work.ended.take() {
            Some(report) => report,
            None => finish(&mut work)?,
        };
        let quiet = work.report.as_ref().map(|report| (report.quiet, report.expired));
        let (quiet, expired) = quiet.unwrap_or((report.quiet, report.expired));
        let report = Report { quiet, expired, ..report };
        let is_sound = work.is_sound && !work.prepared_badly;
        Ok(Ended { report, trouble: std::mem::take(&mut work.trouble), is_sound })
    }
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        let work = self.work.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = finish(work);
    }
}

/// In this order: everything is back, whoever holds lets go, what is owed is run.
fn finish(work: &mut Work) -> Result<Report, Error> {
    let resumed = work.session.as_mut().map(Session::resume);
    let reasons = release_holds(work);
    work.trouble.extend(reasons);
    let reasons = work.with_recipes(Vec::new(), AtWork::release);
    work.trouble.extend(reasons);
    let (Some(session), Some(resumed)) = (work.session.take(), resumed) else { return Ok(Report::default()) };
    let before = resumed?;
    let mut report = session.end()?;
    report.undone.containers.extend(before.undone.containers);
    Ok(report)
}

fn plan(group: &Group, lifelines: &Lifelines, around: &[Facts]) -> Plan {
    Plan::make(around, &group.wishes(around), lifelines)
}

/// What would be done to whom; nothing is.
///
/// # Errors
///
/// The engine does not answer.
pub fn would_do(group: &Group, lifelines: &Lifelines) -> Result<Plan, Error> {
    Ok(plan(group, lifelines, &around(&group.engine)?))
}

impl Quiesce for Capture<'_> {
    fn prepare(&self, _: u32) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.work().with_recipes(Ok(()), AtWork::prepare)?)
    }

    fn mended(&self, source: &SourceSpec) -> Option<TreePath> {
        self.work().recipes.as_ref()?.mended(source)
    }

    fn remainder(&self, source: &SourceSpec) -> Remainder {
        self.work().recipes.as_ref().map(|recipes| recipes.remainder(source)).unwrap_or_default()
    }

    fn hold(&self, round: u32) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut work = self.work();
        work.round = round;
        for attempt in 1.. {
            let Err(error) = self.make_quiet(&mut work, round == 1 && attempt == 1) else { break };
            let reasons = self.bring_back(&mut work, AtWork::release_holds);
            work.trouble.extend(reasons);
            // Whoever hangs finds what he made quiet running again.
            let is_late = work.report.as_ref().is_some_and(|report| report.expired);
            if attempt >= PLANS_MAX || !(error.is_stale_plan() || is_late) {
                return Err(error.into());
            }
        }
        Ok(())
    }

    fn release(&self) -> Verdict {
        let mut work = self.work();
        let mut reasons = self.bring_back(&mut work, AtWork::release);
        match self.intruders(&work) {
            Ok(names) => {
                reasons.extend(
                    names.into_iter().map(|name| format!("container {name} began to write meanwhile")),
                );
            }
            Err(error) => reasons.push(chain(&error)),
        }
        reasons.extend(gone(self.group, &work));
        work.is_sound = reasons.is_empty();
        let verdict = match reasons.is_empty() {
            true => Verdict::Kept,
            false => {
                let reason = reasons.join("; ");
                work.trouble.push(reason.clone());
                self.judge(&work, reason)
            }
        };
        // Services do not wait for the commit.
        if verdict == Verdict::Kept || work.round >= ROUNDS_MAX {
            match finish(&mut work) {
                Ok(report) => work.ended = Some(report),
                Err(error) => work.trouble.push(chain(&error)),
            }
        }
        verdict
    }

    fn claims(&self) -> Claims {
        let work = self.work();
        let consistency = consistency(&work, &self.group.members).to_string();
        Claims { unhealthy: self.group.unready.clone(), consistency, details: Vec::new() }
    }
}

/// Named containers that were gone when it was their turn: what came in their place, if anything, was not made quiet.
fn gone(group: &Group, work: &Work) -> Vec<String> {
    let named = group.members.iter().filter(|member| member.is_named);
    let is_gone = |id: &str| !work.facts.iter().any(|facts| facts.id == id && facts.state != State::Removing);
    let gone = named.filter(|member| is_gone(&member.facts.id));
    gone.map(|member| format!("container {} was removed meanwhile", member.facts.name)).collect()
}
