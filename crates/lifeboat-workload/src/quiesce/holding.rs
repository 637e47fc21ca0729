//! A command that holds something, in the journal before it is started.
//!
//! Must stay true: whoever comes after a death of this run can find it by its word and end it, also where it does not hear
//! that its standard input has ended; it is noted as over only when it is, or when its own run has told that it is not.

use super::session::{self, Session};
use super::undo::chain;
use crate::engine::Engine;
use crate::hooks::{self, Hold, Ran};
use crate::journal::entry::Running;
use crate::labels::Command;
use std::time::{Duration, Instant};

/// So long one has at most to let go by itself once its run is dead. It may have something to put back, and whomever it
/// holds waits.
const LETTING_GO_MAX: Duration = Duration::from_secs(10);

/// A command that holds something when it is asked to, as often as that is.
#[derive(Debug)]
pub struct Holding {
    command: Command,
    told: String,
    running: Running,
    /// What holds, and since when.
    hold: Option<(Hold, Instant)>,
    lasted: Option<Duration>,
}

/// How a hold came to its end.
#[derive(Debug)]
pub struct Released {
    /// Whether it held until it was told to let go.
    pub held: bool,
    /// What came of telling it.
    pub ran: Result<Ran, hooks::Error>,
}

impl Holding {
    /// One that holds nothing yet. `container` is its id and its name; `told` is written to its standard input first; `name` is
    /// for people.
    #[must_use]
    pub fn new(container: (&str, &str), command: &Command, told: &str, name: &str) -> Self {
        let grace = command.timeout.min(LETTING_GO_MAX);
        let running = Running {
            word: super::random_word(),
            container: container.0.to_owned(),
            name: container.1.to_owned(),
            command: name.to_owned(),
            grace_millis: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX),
        };
        Self { command: command.clone(), told: told.to_owned(), running, hold: None, lasted: None }
    }

    /// What a journal says of it.
    #[must_use]
    pub fn running(&self) -> &Running {
        &self.running
    }

    /// The command.
    #[must_use]
    pub fn command(&self) -> &Command {
        &self.command
    }

    /// What holds now, if it does.
    #[must_use]
    pub fn hold(&self) -> Option<&Hold> {
        self.hold.as_ref().map(|(hold, _)| hold)
    }

    /// How long it held the last time, from its ready marker until it had let go.
    #[must_use]
    pub fn lasted(&self) -> Option<Duration> {
        self.lasted
    }

    /// Holds, once that is on disk.
    ///
    /// # Errors
    ///
    /// Without a session whose journal takes it, it is not started. The inner one is the command's own failure.
    pub fn begin(
        &mut self,
        engine: &Engine,
        session: &mut Option<Session>,
    ) -> Result<Result<(), hooks::Error>, session::Error> {
        self.lasted = None;
        let known = session.as_mut().ok_or_else(session::ended)?;
        known.running(self.running.clone())?;
        let Running { word, container, name, .. } = &self.running;
        let begun = Hold::begin(engine, (container, name), &self.command, (&self.told, word));
        if let Err(error) = &begun {
            note_failure(session, word, error);
        }
        Ok(begun.map(|hold| self.hold = Some((hold, Instant::now()))))
    }

    /// Writes to its standard input, and waits until it has said `line`; gives all it said so far, or nothing where it does not
    /// hold. One that fails holds nothing any more.
    ///
    /// # Errors
    ///
    /// It has ended, or does not say so in time.
    pub fn ask(
        &mut self,
        text: &str,
        line: &str,
        session: &mut Option<Session>,
    ) -> Result<Option<String>, hooks::Error> {
        let Some((hold, _)) = &mut self.hold else { return Ok(None) };
        let said = hold.ask(text, line);
        if let Err(error) = &said {
            self.hold = None;
            note_failure(session, &self.running.word, error);
        }
        said.map(Some)
    }

    /// Lets go, if it holds.
    pub fn release(&mut self, session: &mut Option<Session>) -> Option<Released> {
        let (hold, since) = self.hold.take()?;
        let held = hold.holds();
        let ran = hold.release();
        self.lasted = Some(since.elapsed());
        let word = &self.running.word;
        match &ran {
            Ok(_) => _ = session.as_mut().map(|session| session.ran(word, "done")),
            Err(error) => note_failure(session, word, error),
        }
        Some(Released { held, ran })
    }
}

/// Where the engine went away, nobody knows: it is looked for at the end.
fn note_failure(session: &mut Option<Session>, word: &str, error: &hooks::Error) {
    if let Some(session) = session.as_mut().filter(|_| !error.is_away()) {
        session.ran(word, &chain(error));
    }
}
