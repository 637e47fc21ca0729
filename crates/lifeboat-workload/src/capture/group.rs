//! Who belongs to one capture: the named containers, their groups, and whoever writes to what is captured.
//!
//! Must stay true: whoever may write to something captured is made quiet with it, whatever it is called; waiting for
//! readiness does nothing to anybody.

use super::Error;
use super::preparation::Preparation;
use crate::boundary::{self, Bind, Surroundings, Wish};
use crate::engine::Engine;
use crate::facts::{Facts, Mount, State};
use crate::journal::entry::Owed;
use crate::labels::{Command, Labels, Mounts, Remark};
use crate::policy::Policy;
use crate::quiesce::plan;
use crate::readiness::{self, Step, Wait};
use crate::recipes::Recipe;
use crate::volume::{Volumes, Way};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// One container of a group.
#[derive(Debug, Clone)]
pub struct Member {
    /// What the engine says of it.
    pub facts: Facts,
    /// What its labels ask, and the policy file.
    pub labels: Labels,
    /// Whether it was named, or is in a named one's group, and is not here only because it writes to what is captured.
    pub is_named: bool,
    /// What is done to it.
    pub preparation: Preparation,
}

impl Member {
    pub(super) fn wish(&self) -> plan::Wish {
        plan::Wish {
            container: self.facts.id.clone(),
            quiet: self.preparation.quiet,
            max_pause: self.preparation.max_pause,
            is_database: self.preparation.is_database,
        }
    }
}

/// What is captured, as far as somebody may write to it.
#[derive(Debug, Clone, Default)]
pub(super) struct Captured {
    pub(super) volumes: Vec<String>,
    /// What holds the repository, or lifeboat's cache or state, and must not be in its own backup.
    pub(super) own_volumes: Vec<String>,
    pub(super) binds: boundary::Plan,
}

impl Captured {
    fn is_written_by(&self, facts: &Facts) -> bool {
        let binds = &self.binds.captured;
        facts.mounts.iter().filter(|mount| mount.writable).any(|mount| match &mount.name {
            Some(name) => self.volumes.contains(name),
            None => {
                let source =
                    std::fs::canonicalize(&mount.source).unwrap_or_else(|_| mount.source.clone().into());
                binds.iter().any(|one| source.starts_with(&one.path) || one.path.starts_with(&source))
            }
        })
    }
}

/// The containers that are captured, or made quiet, together.
#[derive(Debug)]
pub struct Group {
    pub(super) engine: Engine,
    /// All of them.
    pub members: Vec<Member>,
    /// Labels that are not followed, by container.
    pub remarks: Vec<(String, Remark)>,
    /// Who was not ready, and why.
    pub unready: Vec<String>,
    pub(super) names: Vec<String>,
    /// Rules of the policy file for containers that are not there.
    pub unused_rules: Vec<String>,
    pub(super) captured: Captured,
    policy: Policy,
}

/// All containers of an engine.
///
/// # Errors
///
/// The engine does not answer, or not like one.
pub fn around(engine: &Engine) -> Result<Vec<Facts>, Error> {
    let mut around = Vec::new();
    for summary in engine.containers(&[])? {
        match engine.container(&summary.id) {
            Ok(container) => around.push(Facts::read(&container.raw)?),
            // It was removed since the list was made.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(around)
}

impl Group {
    /// Finds the named containers, those of the same `lifeboat.group`, and those that write to what is captured of them, or
    /// to one of `volumes`.
    ///
    /// # Errors
    ///
    /// The engine does not answer, or a name is nobody's.
    pub fn find(
        reached: &Volumes,
        names: &[String],
        volumes: &[String],
        surroundings: &Surroundings,
    ) -> Result<Self, Error> {
        let around = around(reached.engine())?;
        if let Some(name) = names.iter().find(|name| !around.iter().any(|facts| facts.is_called(name))) {
            return Err(Error::NoContainer(name.clone()));
        }
        let policy = &surroundings.policy;
        let named = choose(&around, names, &Captured::default(), policy).0;
        let mut captured = Captured { volumes: volumes.to_vec(), ..Captured::default() };
        let own = surroundings.lifelines.own_volumes(&reached.engine().volumes(&[])?, &around);
        for member in &named {
            captured.volumes.extend(wanted_volumes(member).into_iter().filter(|name| !own.contains(name)));
            captured.own_volumes.extend(volumes_of(member).filter(|name| own.contains(name)));
        }
        captured.own_volumes.sort();
        captured.own_volumes.dedup();
        captured.volumes.sort();
        captured.volumes.dedup();
        let binds = named.iter().flat_map(wanted_binds).collect();
        captured.binds = super::binds::plan(reached, &named, binds, surroundings)?;
        let (members, remarks) = choose(&around, names, &captured, policy);
        let engine = reached.engine().clone();
        Ok(Self {
            engine,
            members,
            remarks,
            unready: Vec::new(),
            names: names.to_vec(),
            unused_rules: policy.unused(around.iter().map(|facts| facts.name.as_str())),
            captured,
            policy: policy.clone(),
        })
    }

    /// Waits until all named ones are ready; those that do not become so are noted. `waiting` is told of whom is waited
    /// for, once for each, and ends it by `false`.
    ///
    /// # Errors
    ///
    /// One that has to be healthy is not: nothing was done to any of them.
    pub fn wait_ready(
        &mut self,
        require_healthy: bool,
        limit: Option<Duration>,
        waiting: &dyn Fn(Option<&str>) -> bool,
    ) -> Result<(), Error> {
        for member in self.members.iter_mut().filter(|member| member.is_named) {
            let name = member.facts.name.clone();
            let began = Instant::now();
            let wait = Wait::new(&member.facts, limit);
            let mut is_told = false;
            let why = loop {
                match wait.step(&member.facts, began.elapsed()) {
                    Step::Ready => break None,
                    Step::GiveUp(why) => break Some(why),
                    Step::Again => {
                        if !waiting((!is_told).then_some(name.as_str())) {
                            return Err(Error::Interrupted);
                        }
                        is_told = true;
                        std::thread::sleep(readiness::LOOK_AGAIN);
                        member.facts = match self.engine.container(&member.facts.id) {
                            Err(error) if error.is_not_found() => return Err(Error::NoContainer(name)),
                            answer => Facts::read(&answer?.raw)?,
                        };
                    }
                }
            };
            let Some(why) = why else { continue };
            if require_healthy || member.labels.require_healthy {
                return Err(Error::NotHealthy { name, why });
            }
            self.unready.push(format!("container {name}: {why}"));
        }
        Ok(())
    }

    /// Decides what is done to each; only what is ready can be asked.
    pub fn prepare(&mut self, volumes: &Volumes) {
        let captured = &self.captured;
        // Each way to a volume takes the engine some work.
        let known = RefCell::new(BTreeMap::new());
        let root = |name: &String| match volumes.to_read(name).map(|reached| reached.way) {
            Ok(Way::Direct(root)) => Some(root),
            // What cannot be read at all is told when it is read.
            Ok(Way::Helper { .. }) | Err(_) => None,
        };
        let folder = |mount: &Mount| match &mount.name {
            Some(name) if captured.volumes.contains(name) => {
                known.borrow_mut().entry(name.clone()).or_insert_with(|| root(name)).clone()
            }
            Some(_) => None,
            None => {
                let source = std::fs::canonicalize(&mount.source).ok()?;
                let holds = |one: &boundary::Captured| source.starts_with(&one.path);
                captured.binds.captured.iter().any(holds).then_some(source)
            }
        };
        for member in &mut self.members {
            member.preparation = Preparation::of(&self.engine, &member.facts, &member.labels, &folder);
        }
    }

    /// The recipes of those that run.
    pub(super) fn recipes(&self) -> impl Iterator<Item = (&str, &str, &Recipe)> {
        let running = self.members.iter().filter(|member| member.facts.state == State::Running);
        running.filter_map(|member| {
            let facts = &member.facts;
            Some((facts.id.as_str(), facts.name.as_str(), member.preparation.recipe.as_ref()?))
        })
    }

    /// What is wished for everybody who belongs to the group now: since it was found, others may have begun to write.
    pub(super) fn wishes(&self, around: &[Facts]) -> Vec<plan::Wish> {
        let now = choose(around, &self.names, &self.captured, &self.policy).0;
        let is_new = |one: &Member| !self.members.iter().any(|member| member.facts.id == one.facts.id);
        let new = now.iter().filter(|one| is_new(one)).map(Member::wish);
        self.members.iter().map(Member::wish).chain(new).collect()
    }

    /// Who may write to what is captured, each with its start: these are compared.
    pub(super) fn writers(&self, around: &[Facts]) -> Vec<(String, String)> {
        let writing = around.iter().filter(|facts| facts.state == State::Running && !facts.is_ours());
        let writing = writing.filter(|facts| self.captured.is_written_by(facts));
        writing.map(|facts| (facts.name.clone(), facts.started_at.clone())).collect()
    }

    pub(super) fn commands(
        &self,
        which: fn(&Preparation) -> &Vec<Command>,
    ) -> impl Iterator<Item = (&Member, &Command)> {
        let running = self.members.iter().filter(|member| member.facts.state == State::Running);
        running
            .flat_map(move |member| which(&member.preparation).iter().map(move |command| (member, command)))
    }

    /// What has to be run once everything is over.
    pub(super) fn owed(&self) -> Vec<Owed> {
        let owed = self.commands(|preparation| &preparation.post).zip(0u32..);
        owed.map(|((member, command), number)| Owed {
            number,
            container: member.facts.id.clone(),
            name: member.facts.name.clone(),
            argv: command.argv.clone(),
            user: command.user.clone(),
            timeout_millis: u64::try_from(command.timeout.as_millis()).unwrap_or(u64::MAX),
        })
        .collect()
    }
}

/// Who belongs together.
pub(super) fn choose(
    around: &[Facts],
    names: &[String],
    captured: &Captured,
    policy: &Policy,
) -> (Vec<Member>, Vec<(String, Remark)>) {
    let mut remarks = Vec::new();
    let mut all: Vec<Member> = around
        .iter()
        .filter(|facts| !facts.is_ours())
        .map(|facts| {
            let (labels, said) = Labels::read(&policy.labels(&facts.name, &facts.labels));
            let is_named = names.iter().any(|name| facts.is_called(name));
            remarks.extend(said.into_iter().map(|remark| (facts.name.clone(), remark)));
            let preparation = Preparation::by_labels(facts, &labels);
            Member { facts: facts.clone(), labels, is_named, preparation }
        })
        .collect();
    let named = all.iter().filter(|member| member.is_named);
    let groups: Vec<String> = named.filter_map(|member| member.labels.group.clone()).collect();
    for member in &mut all {
        member.is_named |= member.labels.group.as_ref().is_some_and(|group| groups.contains(group));
    }
    all.retain(|member| {
        member.is_named || (member.facts.state == State::Running && captured.is_written_by(&member.facts))
    });
    remarks.retain(|(name, _)| all.iter().any(|member| member.facts.name == *name));
    (all, remarks)
}

/// The volumes of a container that its labels do not leave out.
pub(super) fn wanted_volumes(member: &Member) -> Vec<String> {
    let volumes = member.facts.mounts.iter().filter(|mount| mount.kind == "volume");
    let wanted =
        volumes.filter(|mount| !member.labels.exclude.name(mount.name.as_deref(), &mount.destination));
    wanted.filter_map(|mount| mount.name.clone()).collect()
}

/// All of them.
fn volumes_of(member: &Member) -> impl Iterator<Item = String> {
    let volumes = member.facts.mounts.iter().filter(|mount| mount.kind == "volume");
    volumes.filter_map(|mount| mount.name.clone())
}

fn wanted_binds(member: &Member) -> Vec<Bind> {
    let binds = member.facts.mounts.iter().filter(|mount| mount.kind == "bind");
    let says = |mounts: &Mounts, mount: &Mount| mounts.name(Some(mount.source.as_str()), &mount.destination);
    binds
        .map(|mount| {
            let wish = match (says(&member.labels.exclude, mount), says(&member.labels.include, mount)) {
                (true, _) => Wish::Exclude,
                (false, true) => Wish::Include,
                (false, false) => Wish::None,
            };
            Bind::of(&member.facts.name, &mount.destination, Path::new(&mount.source), wish)
        })
        .collect()
}
