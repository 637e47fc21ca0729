//! Commands in containers: run to their end, or holding something until they are told to let go.
//!
//! Must stay true: nothing waits without an end, and no output is held in memory beyond [`OUTPUT_MAX`]; a hold lets go
//! when its standard input ends, which it does when this process dies, however it dies. A command that does not end in
//! time is closed, signalled and looked at again, and whoever still runs is reported: an engine cannot kill an exec.
//! Read next: `hooks/ending.rs`.

mod ending;
mod kept;
#[cfg(test)]
mod tests;

use crate::engine::{Engine, ExecInput, ExecOutput, ExecRequest, ExecSession, NextOutput};
use crate::labels::Command;
pub use ending::{Orphan, end_orphan};
use kept::{Kept, last_line};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What is kept of a command's output; the rest is read and counted.
pub const OUTPUT_MAX: usize = 256 << 10;
/// The line that a holding command prints once it holds.
pub const READY: &str = "ready";
/// One look at whether an answer has come.
const ANSWER_POLL: Duration = Duration::from_millis(10);
/// One look at the output.
const POLL: Duration = Duration::from_millis(200);

/// Why a command did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be started, or the engine went away.
    #[error("`{command}` in container {container} could not be run")]
    Engine {
        /// Which command.
        command: String,
        /// Where.
        container: String,
        /// Why.
        source: Box<crate::engine::Error>,
    },
    /// It ended with a failure.
    #[error("`{command}` in container {container} ended with {code}{}", said(errors))]
    Failed {
        /// Which command.
        command: String,
        /// Where.
        container: String,
        /// Its exit code.
        code: i64,
        /// The end of what it said on standard error.
        errors: String,
    },
    /// It did not end, or not become ready, in time.
    #[error("`{command}` in container {container} {} after {} s{}", if *holds { "was not ready" } else { "had not ended" },
        after.as_secs_f32(), if *still_runs { "; it still runs, although it was signalled" } else { "" })]
    Late {
        /// Which command.
        command: String,
        /// Where.
        container: String,
        /// How long was waited.
        after: Duration,
        /// Whether it should have held.
        holds: bool,
        /// Whether it could not be ended.
        still_runs: bool,
    },
}

impl Error {
    /// Whether the engine went away, so that nobody knows whether the command runs.
    #[must_use]
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Engine { source, .. } if source.is_away())
    }
}

fn said(errors: &str) -> String {
    match errors.trim() {
        "" => String::new(),
        errors => format!(": {errors}"),
    }
}

/// What a command said and how it ended.
#[derive(Debug, Clone, Default)]
pub struct Ran {
    /// The beginning of its standard output.
    pub output: Vec<u8>,
    /// The end of its standard error.
    pub errors: String,
    /// Bytes of output that were not kept.
    pub dropped: u64,
    /// Its exit code.
    pub code: i64,
}

/// A command on a container, ready to be named in errors.
#[derive(Debug, Clone)]
struct Place {
    engine: Engine,
    container: String,
    name: String,
    command: String,
    /// Every process that comes from it has this in its environment.
    token: String,
}

impl Place {
    fn failed(&self) -> impl Fn(crate::engine::Error) -> Error + '_ {
        |source| Error::Engine {
            command: self.command.clone(),
            container: self.name.clone(),
            source: source.into(),
        }
    }

    fn judge(&self, ran: Ran) -> Result<Ran, Error> {
        if ran.code == 0 {
            return Ok(ran);
        }
        let (command, container) = (self.command.clone(), self.name.clone());
        // Engines say on standard output that there is no such program.
        let errors = if ran.errors.is_empty() { last_line(&ran.output) } else { ran.errors };
        Err(Error::Failed { command, container, code: ran.code, errors })
    }

    fn late(&self, after: Duration, holds: bool, still_runs: bool) -> Error {
        let (command, container) = (self.command.clone(), self.name.clone());
        Error::Late { command, container, after, holds, still_runs }
    }
}

fn start(
    engine: &Engine,
    (container, name): (&str, &str),
    command: &Command,
    token: &str,
) -> Result<(Place, ExecSession), Error> {
    let place = Place {
        engine: engine.clone(),
        container: container.into(),
        name: name.into(),
        command: command.argv.join(" "),
        token: token.to_owned(),
    };
    let request = ExecRequest {
        command: command.argv.clone(),
        user: command.user.clone(),
        environment: vec![format!("{}={}", ending::VARIABLE, place.token)],
        directory: None,
        with_input: command.holds,
    };
    let session = engine.exec(container, &request).map_err(place.failed())?;
    Ok((place, session))
}

/// Ends a command whose output nobody reads any more; whether it is over. Both go first: its standard input, by whose end it may
/// let go, and its output. To an engine no command is over as long as some of its output waits for a reader.
fn end_unread(place: &Place, session: ExecSession) -> bool {
    let ExecSession { id, output, input, .. } = session;
    drop((input, output));
    ending::end(place, &id)
}

/// Runs a command to its end. `container` is its id and its name.
///
/// # Errors
///
/// It cannot be started, fails, or does not end in time.
pub fn run(engine: &Engine, container: (&str, &str), command: &Command) -> Result<Ran, Error> {
    run_as(engine, container, command, &crate::quiesce::random_word())
}

/// The same, with processes that carry `word`, so that somebody else can find and end them: [`end_orphan`].
///
/// # Errors
///
/// As [`run`].
pub fn run_as(engine: &Engine, container: (&str, &str), command: &Command, word: &str) -> Result<Ran, Error> {
    let once = Command { holds: false, ..command.clone() };
    let (place, mut session) = start(engine, container, &once, word)?;
    let began = Instant::now();
    let mut kept = Kept::default();
    loop {
        let left = command.timeout.saturating_sub(began.elapsed());
        if left.is_zero() {
            let still_runs = !end_unread(&place, session);
            return Err(place.late(command.timeout, false, still_runs));
        }
        match session.output.next(left.min(POLL)).map_err(place.failed())? {
            NextOutput::Output(piece) => kept.add(piece),
            NextOutput::Quiet => {}
            NextOutput::End => break,
        }
    }
    let code = session.exit_code().map_err(place.failed())?;
    match code {
        Some(code) => place.judge(kept.ran(code)),
        // It closed its output and runs on.
        None => {
            let still_runs = !ending::end(&place, &session.id);
            Err(place.late(began.elapsed(), false, still_runs))
        }
    }
}

/// A command that holds something for as long as this lives.
#[derive(Debug)]
pub struct Hold {
    place: Place,
    session: String,
    input: Option<ExecInput>,
    kept: Arc<Mutex<Kept>>,
    reader: Option<JoinHandle<()>>,
    ended: Receiver<()>,
    timeout: Duration,
}

impl Hold {
    /// Starts a holding command and waits until it holds. Where it has to be `told` first what to hold, that is written to
    /// its standard input. Its processes carry `word`, as those of [`run_as`].
    ///
    /// # Errors
    ///
    /// It cannot be started, ends, or is not ready in time.
    pub fn begin(
        engine: &Engine,
        container: (&str, &str),
        command: &Command,
        (told, word): (&str, &str),
    ) -> Result<Self, Error> {
        let holding = Command { holds: true, ..command.clone() };
        let (place, mut session) = start(engine, container, &holding, word)?;
        let began = Instant::now();
        let mut kept = Kept::default();
        if let (Some(input), false) = (&mut session.input, told.is_empty()) {
            input.write(told.as_bytes(), command.timeout).map_err(place.failed())?;
        }
        while !kept.is_ready {
            let left = command.timeout.saturating_sub(began.elapsed());
            if left.is_zero() {
                let still_runs = !end_unread(&place, session);
                return Err(place.late(command.timeout, true, still_runs));
            }
            match session.output.next(left.min(POLL)).map_err(place.failed())? {
                NextOutput::Output(piece) => kept.add(piece),
                NextOutput::Quiet => {}
                NextOutput::End => {
                    let code = session.exit_code().map_err(place.failed())?;
                    // One that ends well without holding has not held.
                    let ran = kept.ran(code.filter(|code| *code != 0).unwrap_or(-1));
                    return place.judge(ran).and(Err(place.late(began.elapsed(), true, false)));
                }
            }
        }
        let ExecSession { id, output, input, .. } = session;
        let (tell, ended) = channel();
        let kept = Arc::new(Mutex::new(kept));
        let shared = kept.clone();
        let reader = Some(std::thread::spawn(move || drain(output, &shared, &tell)));
        Ok(Self { place, session: id, input, kept, reader, ended, timeout: command.timeout })
    }

    /// Whether it still holds; one that has ended let go too early.
    #[must_use]
    pub fn holds(&self) -> bool {
        matches!(self.ended.try_recv(), Err(std::sync::mpsc::TryRecvError::Empty))
    }

    /// Writes to its standard input.
    ///
    /// # Errors
    ///
    /// Where it has ended, or the engine went away.
    pub fn tell(&mut self, text: &str) -> Result<(), Error> {
        let Some(input) = &mut self.input else { return Ok(()) };
        input.write(text.as_bytes(), self.timeout).map_err(self.place.failed())
    }

    /// Writes to its standard input, and waits until it has said `line` on a line of its own. Gives all it said so far. One
    /// that does not say so in time is ended.
    ///
    /// # Errors
    ///
    /// It has ended, or does not say so in time.
    pub fn ask(&mut self, text: &str, line: &str) -> Result<String, Error> {
        self.tell(text)?;
        let began = Instant::now();
        loop {
            // In this order: what it said before it ended counts.
            let is_over = !self.holds();
            let kept = self.kept().clone();
            if kept.has_line(line) {
                return Ok(String::from_utf8_lossy(&kept.output).into_owned());
            }
            if is_over {
                let end = self.place.engine.exec_end(&self.session).map_err(self.place.failed())?;
                let ran = kept.ran(end.exit_code.filter(|code| *code != 0).unwrap_or(-1));
                return self.place.judge(ran).and(Err(self.place.late(began.elapsed(), true, false)));
            }
            if began.elapsed() >= self.timeout {
                drop(self.input.take());
                let still_runs = !ending::end(&self.place, &self.session);
                return Err(self.place.late(self.timeout, true, still_runs));
            }
            std::thread::sleep(ANSWER_POLL);
        }
    }

    /// What it has said so far on standard output.
    #[must_use]
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.kept().output).into_owned()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go, and gives what it said.
    ///
    /// # Errors
    ///
    /// It does not end in time, or with a failure.
    pub fn release(mut self) -> Result<Ran, Error> {
        drop(self.input.take());
        match self.ended.recv_timeout(self.timeout) {
            Err(RecvTimeoutError::Timeout) => {
                let still_runs = !ending::end(&self.place, &self.session);
                return Err(self.place.late(self.timeout, false, still_runs));
            }
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {}
        }
        // Its end was told by the reader's last act.
        let _ = self.reader.take().map(JoinHandle::join);
        let kept = self.kept().clone();
        let end = self.place.engine.exec_end(&self.session).map_err(self.place.failed())?;
        self.place.judge(kept.ran(end.exit_code.unwrap_or(-1)))
    }
}

/// Reads an output to its end, so that whoever floods it is never held up by us.
fn drain(mut output: ExecOutput, kept: &Mutex<Kept>, ended: &std::sync::mpsc::Sender<()>) {
    loop {
        match output.next(Duration::from_secs(3600)) {
            Ok(NextOutput::Output(piece)) => kept.lock().unwrap_or_else(PoisonError::into_inner).add(piece),
            Ok(NextOutput::Quiet) => {}
            Ok(NextOutput::End) | Err(_) => break,
        }
    }
    // Nobody listens any more where the hold was dropped.
    let _ = ended.send(());
}
