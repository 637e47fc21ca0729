//! Commands before a capture, and what they hold during it.
//!
//! Must stay true: whatever a death of this run would leave running is in the journal before it is started.

use super::group::{Group, Member};
use super::{Capture, Error, Work};
use crate::hooks::{self, Ran};
use crate::journal::entry::Running;
use crate::labels::{Command, OnError};
use crate::quiesce::holding::{Holding, Released};
use crate::quiesce::undo::chain;

/// The holding commands of a group, none of which holds yet.
pub(super) fn holding(group: &Group) -> Vec<Holding> {
    let holding = group.commands(|preparation| &preparation.pre).filter(|(_, command)| command.holds);
    let one = |(member, command): (&Member, &Command)| {
        Holding::new((&member.facts.id, &member.facts.name), command, "", &command.argv.join(" "))
    };
    holding.map(one).collect()
}

impl Capture<'_> {
    /// Runs a command of `pre` that does not hold.
    pub(super) fn run_before(
        &self,
        member: &Member,
        command: &Command,
    ) -> Result<Result<Ran, hooks::Error>, Error> {
        let word = crate::quiesce::random_word();
        let (container, name) = (&member.facts.id, &member.facts.name);
        if let Some(session) = &mut self.work().session {
            let (container, name) = (container.clone(), name.clone());
            session.running(Running {
                word: word.clone(),
                container,
                name,
                command: command.argv.join(" "),
                // It has no standard input whose end it could hear.
                grace_millis: 0,
            })?;
        }
        let ran = hooks::run_as(&self.group.engine, (container, name), command, &word);
        if let Some(session) = &mut self.work().session {
            session.ran(&word, &ran.as_ref().map_or_else(|error| chain(error), |_| "done".to_owned()));
        }
        Ok(ran)
    }

    pub(super) fn begin_holds(&self, work: &mut Work) -> Result<(), Error> {
        work.held.clear();
        for holding in &mut work.holds {
            match holding.begin(&self.group.engine, &mut work.session)? {
                Ok(()) => _ = work.held.insert(holding.running().container.clone()),
                Err(error) if holding.command().on_error == OnError::Continue => {
                    work.trouble.push(chain(&error));
                    work.prepared_badly = true;
                }
                Err(error) => return Err(Error::Hook(Box::new(error))),
            }
        }
        Ok(())
    }
}

/// Lets go of everything; who had let go before, or failed, is told of.
pub(super) fn release_holds(work: &mut Work) -> Vec<String> {
    let mut reasons = Vec::new();
    for holding in work.holds.iter_mut().rev() {
        let Some(Released { held, ran }) = holding.release(&mut work.session) else { continue };
        if !held {
            reasons.push("a hold let go before the capture was over".into());
        }
        reasons.extend(ran.err().map(|error| chain(&error)));
    }
    reasons
}
