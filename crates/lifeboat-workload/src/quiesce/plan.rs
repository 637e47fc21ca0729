//! Which containers are stopped or paused, in which order, and which never.
//!
//! Must stay true, for any containers and any wishes (the property tests in `plan_tests.rs` try them):
//! - only running containers are touched, and none that somebody else paused or that lifeboat hangs on;
//! - what the engine or a swarm would remove or replace when it ends is never stopped;
//! - who uses a stopped container's network is stopped before it and started after it;
//! - the undo is the order backwards, so what others need comes back first, and unpausing comes before starting.
//!
//! Read next: `quiesce/remedy.rs`, what undoing means when the world has moved on.

use super::lifelines::Lifelines;
use crate::facts::{Facts, State};
use crate::labels::{MAX_PAUSE, Quiet};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// What the engine does for a container that names no time of its own.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// A database is not killed in the middle of its shutdown.
const STOP_TIMEOUT_DATABASE: Duration = Duration::from_secs(60);

/// What is done to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Its processes are frozen.
    Pause,
    /// It is stopped.
    Stop,
}

/// What is wished for one container.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Its id.
    pub container: String,
    /// How quiet it should become.
    pub quiet: Quiet,
    /// How long it may be paused, if its label says so.
    pub max_pause: Option<Duration>,
    /// Whether it is a database, which takes its time to stop.
    pub is_database: bool,
}

/// One container and what is done to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its id.
    pub container: String,
    /// Its name.
    pub name: String,
    /// What is done.
    pub action: Action,
    /// When it was started: a container with another time was started by somebody else meanwhile.
    pub started_at: String,
    /// How long a stop waits before it kills.
    pub stop_seconds: u64,
    /// After so long it is undone, whatever the capture is doing.
    pub limit_millis: Option<u64>,
    /// Whether an ended one must be left to a swarm, or is gone by the engine's own rule.
    pub comes_back_by_itself: bool,
    /// Whether it is none that is done when it ended well: a database, or what has a health check.
    #[serde(default)]
    pub is_service: bool,
}

/// A container that is not made as quiet as was wished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spared {
    /// Its name.
    pub name: String,
    /// Why, and what is done instead.
    pub why: String,
}

/// The whole order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// In this order.
    pub steps: Vec<Step>,
    /// What differs from the wishes.
    pub spared: Vec<Spared>,
}

impl Plan {
    /// Decides. `around` are all containers of the engine, each with what `inspect` says.
    #[must_use]
    pub fn make(around: &[Facts], wishes: &[Wish], lifelines: &Lifelines) -> Self {
        Planner {
            around,
            hands_off: hands_off(around, lifelines),
            actions: BTreeMap::new(),
            spared: Vec::new(),
        }
        .plan(wishes)
    }

    /// Whether nothing is stopped or paused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The shortest time that any of them may be quiet.
    #[must_use]
    pub fn limit(&self) -> Option<Duration> {
        self.steps.iter().filter_map(|step| step.limit_millis).min().map(Duration::from_millis)
    }
}

/// Why a container is not touched at all.
fn hands_off(around: &[Facts], lifelines: &Lifelines) -> Vec<Option<String>> {
    let mut reasons = lifelines.spare(around);
    for (facts, reason) in around.iter().zip(&mut reasons) {
        let state = match facts.state {
            State::Running => continue,
            State::Paused => "somebody else paused it",
            State::Restarting => "it is restarting",
            State::Removing => "it is being removed",
            State::Created | State::Exited | State::Dead => "it does not run",
        };
        reason.get_or_insert_with(|| state.into());
    }
    reasons
}

struct Planner<'a> {
    around: &'a [Facts],
    hands_off: Vec<Option<String>>,
    /// By place in `around`.
    actions: BTreeMap<usize, Action>,
    spared: Vec<Spared>,
}

impl Planner<'_> {
    fn plan(mut self, wishes: &[Wish]) -> Plan {
        for wish in wishes {
            self.follow(wish);
        }
        self.stop_dependants();
        let order = self.order();
        let steps = order.into_iter().filter_map(|at| self.step(at, wishes)).collect();
        Plan { steps, spared: self.spared }
    }

    fn find(&self, word: &str) -> Option<usize> {
        self.around.iter().position(|facts| facts.is_called(word))
    }

    fn spare(&mut self, at: usize, why: impl Into<String>) {
        self.spared.push(Spared { name: self.around[at].name.clone(), why: why.into() });
    }

    /// Takes a wish as far as its own container allows.
    fn follow(&mut self, wish: &Wish) {
        let Some(at) = self.find(&wish.container) else { return };
        let action = match wish.quiet {
            Quiet::Leave => return,
            Quiet::Pause => Action::Pause,
            Quiet::Stop => Action::Stop,
        };
        if let Some(why) = self.hands_off[at].clone() {
            // What does not run is as quiet as anybody can wish.
            if !matches!(self.around[at].state, State::Created | State::Exited | State::Dead) {
                self.spare(at, format!("it is left alone: {why}"));
            }
            return;
        }
        let action = match (action, never_stopped(&self.around[at])) {
            (Action::Stop, Some(why)) => {
                self.spare(at, format!("it is paused, not stopped: {why}"));
                Action::Pause
            }
            (action, _) => action,
        };
        let known = self.actions.entry(at).or_insert(action);
        if action == Action::Stop {
            *known = Action::Stop;
        }
    }

    /// Who uses the network of a stopped container is cut off and must stop with it; where one must not be stopped, the
    /// owner is paused instead.
    fn stop_dependants(&mut self) {
        let owners: Vec<usize> = self.actions.keys().copied().collect();
        for owner in owners {
            if self.actions.get(&owner) != Some(&Action::Stop) {
                continue;
            }
            let cut_off = self.users_of_network(owner);
            let refuses = cut_off.iter().find_map(|at| {
                let why = self.hands_off[*at].clone().or_else(|| never_stopped(&self.around[*at]))?;
                Some(format!("`{}` uses its network, and {why}", self.around[*at].name))
            });
            match refuses {
                Some(why) => {
                    self.actions.insert(owner, Action::Pause);
                    self.spare(owner, format!("it is paused, not stopped: {why}"));
                }
                None => self.actions.extend(cut_off.into_iter().map(|at| (at, Action::Stop))),
            }
        }
    }

    /// Live containers that use the network of this one, or of one that does.
    fn users_of_network(&self, owner: usize) -> Vec<usize> {
        let mut found = vec![owner];
        let mut next = 0;
        while let Some(owner) = found.get(next).copied() {
            for (at, facts) in self.around.iter().enumerate() {
                let live = matches!(facts.state, State::Running | State::Paused | State::Restarting);
                if live && !found.contains(&at) && self.uses_network(at, owner) {
                    found.push(at);
                }
            }
            next += 1;
        }
        found.split_off(1)
    }

    /// Stops first, since they take long, and then pauses; each with those first that need others.
    fn order(&self) -> Vec<usize> {
        let of = |action: Action| {
            self.actions.iter().filter(move |(_, known)| **known == action).map(|(at, _)| *at)
        };
        let mut order = self.needing_first(of(Action::Stop).collect());
        order.extend(self.needing_first(of(Action::Pause).collect()));
        order
    }

    fn needing_first(&self, mut waiting: Vec<usize>) -> Vec<usize> {
        waiting.sort_by(|one, other| self.around[*one].name.cmp(&self.around[*other].name));
        let mut order = Vec::with_capacity(waiting.len());
        while !waiting.is_empty() {
            let needed = |at: usize, by: fn(&Self, usize, usize) -> bool| {
                waiting.iter().any(|other| *other != at && by(self, *other, at))
            };
            let free = |by| waiting.iter().position(|at| !needed(*at, by));
            // A circle of wishes is broken at the first name; one of networks cannot be made on an engine.
            let next = free(Self::needs).or_else(|| free(Self::uses_network)).unwrap_or(0);
            order.push(waiting.remove(next));
        }
        order
    }

    fn uses_network(&self, one: usize, other: usize) -> bool {
        self.around[one].network_of.as_ref().is_some_and(|word| self.find(word) == Some(other))
    }

    fn needs(&self, one: usize, other: usize) -> bool {
        let (facts, needed) = (&self.around[one], &self.around[other]);
        self.uses_network(one, other)
            || facts.needs.iter().any(|word| needed.is_called(word))
            || needs_service(facts, needed)
    }

    fn step(&self, at: usize, wishes: &[Wish]) -> Option<Step> {
        let facts = &self.around[at];
        let action = *self.actions.get(&at)?;
        let wish = wishes.iter().find(|wish| facts.is_called(&wish.container));
        let label = wish.and_then(|wish| wish.max_pause);
        let limit = match action {
            Action::Pause => Some(label.unwrap_or(MAX_PAUSE)),
            // Who asks for a stop has accepted that it lasts as long as it must.
            Action::Stop => label,
        };
        let is_database = wish.is_some_and(|wish| wish.is_database);
        let least = if is_database { STOP_TIMEOUT_DATABASE } else { Duration::ZERO };
        Some(Step {
            container: facts.id.clone(),
            name: facts.name.clone(),
            action,
            started_at: facts.started_at.clone(),
            stop_seconds: facts.stop_timeout.unwrap_or(STOP_TIMEOUT).max(least).as_secs(),
            limit_millis: limit.map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)),
            comes_back_by_itself: facts.is_swarm() || facts.auto_remove,
            is_service: is_database || facts.health_check.is_some(),
        })
    }
}

/// Why a container is paused at most.
fn never_stopped(facts: &Facts) -> Option<String> {
    if facts.auto_remove {
        return Some("the engine removes it when it ends".into());
    }
    facts.is_swarm().then(|| "a swarm would start another in its place".into())
}

/// Compose writes `db:service_healthy:true,cache:service_started:false`.
fn needs_service(facts: &Facts, needed: &Facts) -> bool {
    let label =
        |facts: &Facts, word: &str| facts.label(&format!("com.docker.compose.{word}")).map(str::to_owned);
    let Some(service) = label(needed, "service") else { return false };
    if label(facts, "project") != label(needed, "project") {
        return false;
    }
    let depends = label(facts, "depends_on").unwrap_or_default();
    depends.split(',').any(|one| one.split(':').next() == Some(service.as_str()))
}
