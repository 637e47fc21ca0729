//! A model of an engine that dies, and of a run that dies while it talks to one.
//!
//! Must stay true: it is at least as unkind as an engine: requests take effect late, answers are lost, what it says of a pause
//! may be what was before, and what ran with the engine dies with it.

use super::hands::{Hands, Refusal};
use super::plan::{Action, Step};
use crate::facts::{Facts, State};
use crate::journal::entry::{Owed, Running};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How the process that talks to the engine dies at one of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Death {
    /// The request is never sent.
    Before,
    /// It has its effect, and the answer is never read.
    After,
    /// It is on its way, and has its effect once somebody else has looked.
    OnItsWay,
}

/// The engine's whole world.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) containers: BTreeMap<String, Facts>,
    /// Requests until the process dies.
    pub(super) fuel: Option<(u32, Death)>,
    /// Requests until the engine is killed, and how many of them find it away.
    pub(super) engine: Option<(u32, u32)>,
    /// What runs when the engine is killed ends well once it starts again, because it is asked to.
    pub(super) is_polite: bool,
    /// Its runtime's messages come late: what was paused right after it was unpaused looks as if it ran, until time passes.
    pub(super) lags: bool,
    unpaused: BTreeSet<String>,
    looks_running: BTreeSet<String>,
    /// A request that has not arrived yet.
    late: Option<Step>,
    starts: u32,
    pub(super) requests: u32,
    pub(super) paid: Vec<u32>,
    /// Commands that were ended, each before anything was paid.
    pub(super) ended: Vec<String>,
}

/// Shared between the processes that use it.
#[derive(Debug, Default)]
pub(super) struct Model(pub(super) RefCell<World>);

enum Request<'a> {
    Look,
    Quieten(&'a Step),
    Unpause(&'a str),
    Start(&'a str),
    Pay(u32),
    EndCommand(&'a str),
}

impl Model {
    pub(super) fn with(facts: impl IntoIterator<Item = Facts>) -> Self {
        let containers = facts.into_iter().map(|facts| (facts.id.clone(), facts)).collect();
        Self(RefCell::new(World { containers, ..World::default() }))
    }

    fn request(&self, request: &Request<'_>) -> Result<(), Refusal> {
        let mut world = self.0.borrow_mut();
        world.requests += 1;
        if let Some((until, away)) = &mut world.engine {
            if *until > 0 {
                *until -= 1;
            } else if *away > 0 {
                *away -= 1;
                world.kill_engine();
                return Err(Refusal::Away("the engine is down".into()));
            } else {
                world.engine = None;
                world.engine_starts();
            }
        }
        let (left, death) = world.fuel.unwrap_or((u32::MAX, Death::Before));
        if left == 0 {
            return Err(Refusal::Away("this process is dead".into()));
        }
        world.fuel = world.fuel.map(|(left, death)| (left - 1, death));
        let dying = left == 1;
        if dying && death == Death::Before {
            return Err(Refusal::Away("this process died before".into()));
        }
        if dying && death == Death::OnItsWay {
            if let Request::Quieten(step) = request {
                world.late = Some((*step).clone());
            }
            return Err(Refusal::Away("this process died, its request lives".into()));
        }
        let done = world.apply(request);
        if !dying && let Some(late) = world.late.take() {
            let _ = world.apply(&Request::Quieten(&late));
        }
        if dying {
            return Err(Refusal::Away("this process died after".into()));
        }
        done
    }
}

impl World {
    fn refuse(why: &str) -> Result<(), Refusal> {
        Err(Refusal::Refused(why.into()))
    }

    fn apply(&mut self, request: &Request<'_>) -> Result<(), Refusal> {
        let starts = self.starts;
        let missing = || Refusal::Refused("no such container".into());
        match request {
            Request::Look => Ok(()),
            Request::Pay(number) => {
                self.paid.push(*number);
                Ok(())
            }
            Request::EndCommand(word) => {
                // What runs ends with the engine as well; ending it twice does no harm.
                self.ended.push((*word).to_owned());
                Ok(())
            }
            Request::Quieten(step) => {
                let facts = self.containers.get_mut(&step.container).ok_or_else(missing)?;
                match (step.action, facts.state) {
                    (Action::Pause, State::Running) => {
                        facts.state = State::Paused;
                        if self.lags && self.unpaused.contains(&step.container) {
                            self.looks_running.insert(step.container.clone());
                        }
                    }
                    (Action::Pause, _) => return Self::refuse("it cannot be paused"),
                    (Action::Stop, State::Running | State::Paused) => facts.state = State::Exited,
                    (Action::Stop, _) => {}
                }
                Ok(())
            }
            Request::Unpause(id) => {
                let facts = self.containers.get_mut(*id).ok_or_else(missing)?;
                if facts.state != State::Paused || self.looks_running.contains(*id) {
                    return Self::refuse("it is not paused");
                }
                facts.state = State::Running;
                self.unpaused.insert((*id).to_owned());
                Ok(())
            }
            Request::Start(id) => {
                let owner = self.containers.get(*id).and_then(|facts| facts.network_of.clone());
                let runs =
                    |id: &String| self.containers.get(id).is_some_and(|facts| facts.state == State::Running);
                if owner.is_some_and(|owner| !runs(&owner)) {
                    return Self::refuse("the owner of its network does not run");
                }
                let facts = self.containers.get_mut(*id).ok_or_else(missing)?;
                if facts.state == State::Paused {
                    return Self::refuse("it is paused");
                }
                if facts.state != State::Running {
                    facts.state = State::Running;
                    facts.exit_code = 0;
                    facts.started_at = format!("start {starts}");
                    self.starts += 1;
                }
                Ok(())
            }
        }
    }

    /// Everything that runs dies with it, and what was frozen too.
    fn kill_engine(&mut self) {
        for facts in self.containers.values_mut() {
            if matches!(facts.state, State::Running | State::Paused) {
                facts.exit_code = if self.is_polite && facts.state == State::Running { 0 } else { 255 };
                facts.state = State::Exited;
            }
        }
    }

    /// A restart policy brings back what it did not know to be stopped by hand.
    fn engine_starts(&mut self) {
        for facts in self.containers.values_mut() {
            let killed = facts.exit_code == 255;
            if facts.state == State::Exited
                && (facts.restart_policy == "always" || killed && facts.restart_policy == "unless-stopped")
            {
                facts.state = State::Running;
                facts.started_at = format!("start {}", self.starts);
                self.starts += 1;
            }
        }
    }
}

impl Hands for Model {
    fn look(&self, container: &str) -> Result<Option<Facts>, Refusal> {
        self.request(&Request::Look)?;
        let world = self.0.borrow();
        let mut found = world.containers.get(container).cloned();
        if let Some(facts) = found.as_mut().filter(|_| world.looks_running.contains(container)) {
            facts.state = State::Running;
        }
        Ok(found)
    }

    fn quieten(&self, step: &Step) -> Result<(), Refusal> {
        self.request(&Request::Quieten(step))
    }

    fn unpause(&self, container: &str) -> Result<(), Refusal> {
        self.request(&Request::Unpause(container))
    }

    fn start(&self, container: &str) -> Result<(), Refusal> {
        self.request(&Request::Start(container))
    }

    fn pay(&self, owed: &Owed) -> Result<String, Refusal> {
        self.request(&Request::Pay(owed.number)).map(|()| "0".into())
    }

    fn end_command(&self, running: &Running) -> Result<(String, bool), Refusal> {
        self.request(&Request::EndCommand(&running.word)).map(|()| ("ended".into(), true))
    }

    fn pass(&self, _: Duration) {
        let mut world = self.0.borrow_mut();
        world.unpaused.clear();
        world.looks_running.clear();
    }
}
