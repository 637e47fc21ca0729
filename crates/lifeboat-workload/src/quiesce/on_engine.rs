//! The engine's hands.

use super::hands::{Hands, Refusal};
use super::plan::{Action, Step};
use super::undo::chain;
use crate::engine::{Engine, Error, Stopping};
use crate::facts::{Facts, State};
use crate::hooks;
use crate::journal::entry::{Owed, Running};
use crate::labels::{Command, OnError};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// An engine that is connected to when it is first needed, and again when that failed.
#[derive(Debug)]
pub struct OnEngine {
    address: Option<String>,
    engine: Mutex<Option<Engine>>,
}

impl OnEngine {
    /// The engine at an address, whether it answers now or later.
    #[must_use]
    pub fn at(address: &str) -> Self {
        Self { address: Some(address.into()), engine: Mutex::new(None) }
    }

    /// An engine that is connected already.
    #[must_use]
    pub fn with(engine: Engine) -> Self {
        Self { address: None, engine: Mutex::new(Some(engine)) }
    }

    /// The engine, connected.
    ///
    /// # Errors
    ///
    /// [`Refusal::Away`] where it does not answer.
    pub fn engine(&self) -> Result<Engine, Refusal> {
        let mut known = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some(engine) => Ok(engine.clone()),
            None => {
                let engine =
                    Engine::connect(self.address.as_deref()).map_err(|error| Refusal::Away(error.into()))?;
                Ok(known.insert(engine).clone())
            }
        }
    }
}

fn refusal(error: Error) -> Refusal {
    match error {
        Error::Refused { .. } | Error::Usage(_) | Error::Unsupported(_) | Error::Protocol { .. } => {
            Refusal::Refused(error.into())
        }
        _ => Refusal::Away(error.into()),
    }
}

impl Hands for OnEngine {
    fn look(&self, container: &str) -> Result<Option<Facts>, Refusal> {
        match self.engine()?.container(container) {
            Ok(found) => Facts::read(&found.raw).map(Some).map_err(|error| Refusal::Refused(error.into())),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(refusal(error)),
        }
    }

    fn quieten(&self, step: &Step) -> Result<(), Refusal> {
        let engine = self.engine()?;
        match step.action {
            Action::Pause => engine.pause_container(&step.container),
            Action::Stop => {
                let grace = Duration::from_secs(step.stop_seconds);
                engine.stop_container(&step.container, Stopping { grace })
            }
        }
        .map_err(refusal)
    }

    fn unpause(&self, container: &str) -> Result<(), Refusal> {
        self.engine()?.unpause_container(container).map_err(refusal)
    }

    fn start(&self, container: &str) -> Result<(), Refusal> {
        self.engine()?.start_container(container).map_err(refusal)
    }

    fn pay(&self, owed: &Owed) -> Result<String, Refusal> {
        let command = Command {
            number: owed.number,
            argv: owed.argv.clone(),
            user: owed.user.clone(),
            timeout: Duration::from_millis(owed.timeout_millis),
            on_error: OnError::Continue,
            holds: false,
        };
        match hooks::run(&self.engine()?, (&owed.container, &owed.name), &command) {
            Ok(_) => Ok("done".into()),
            Err(hooks::Error::Engine { source, .. }) if source.is_away() => Err(Refusal::Away(source)),
            // Its own failure is its end: a command that fails is not run for ever.
            Err(error) => Ok(chain(&error)),
        }
    }

    fn end_command(&self, running: &Running) -> Result<(String, bool), Refusal> {
        let now = self.look(&running.container)?;
        // No process outlives its container.
        if !now.is_some_and(|now| matches!(now.state, State::Running | State::Paused)) {
            return Ok(("ended with its container".into(), true));
        }
        let grace = Duration::from_millis(running.grace_millis);
        let orphan = hooks::end_orphan(&self.engine()?, &running.container, &running.word, grace);
        Ok((orphan.words().into(), orphan.is_over()))
    }

    fn pass(&self, time: Duration) {
        std::thread::sleep(time);
    }
}
