//! The run's end: starts its supervisor, and another one when that dies.
//!
//! Must stay true: a supervisor that was killed is replaced at once, with what the first one knew; while a run has
//! something quiet, either its supervisor watches or the run knows that nobody does.

use super::order;
use crate::journal::{self, Journal};
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a supervisor may take to say that it is there.
const READY_WAIT: Duration = Duration::from_secs(20);
/// So many are started for one run.
const REPLACEMENTS_MAX: u32 = 20;
/// How long one may take to end after its run has.
const END_WAIT: Duration = Duration::from_secs(2);

/// The program that supervises: itself with its arguments, to which the journal's path is added.
#[derive(Debug, Clone)]
pub struct Program(pub Vec<OsString>);

impl Default for Program {
    fn default() -> Self {
        // This very program, even after an update has put another one in its place.
        Self(vec!["/proc/self/exe".into(), "supervise".into()])
    }
}

/// A supervisor could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process.
    #[error("the supervisor could not be started")]
    Start(#[source] io::Error),
    /// It says nothing.
    #[error("the supervisor does not answer")]
    Silent(#[source] io::Error),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] journal::Error),
}

#[derive(Debug, Default)]
struct State {
    socket: Option<UnixStream>,
    child: Option<Child>,
    mark: Option<String>,
    limit: Option<Instant>,
    expired: bool,
    finishing: bool,
    /// Nobody watches any more.
    lost: bool,
    replaced: u32,
}

/// A supervisor at work.
#[derive(Debug)]
pub struct Link {
    state: Arc<Mutex<State>>,
    monitor: Option<JoinHandle<()>>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    /// Starts the supervisor of a journal's run; when this returns, it watches.
    ///
    /// # Errors
    ///
    /// It cannot be started; then nothing may be made quiet.
    pub fn start(program: Program, journal: &Journal) -> Result<Self, Error> {
        let journal = journal.share()?;
        let Watching { socket, reader, child } = spawn(&program, &journal)?;
        let first = State { socket: Some(socket), child: Some(child), ..State::default() };
        let state = Arc::new(Mutex::new(first));
        let shared = Arc::clone(&state);
        let monitor = std::thread::spawn(move || monitor(&shared, reader, &program, &journal));
        Ok(Self { state, monitor: Some(monitor) })
    }

    /// Says which mark to keep alive.
    pub fn mark(&self, id: &str) {
        let mut state = lock(&self.state);
        state.mark = Some(id.into());
        state.tell(&format!("mark {id}"));
    }

    /// Says after which time everything is to be undone.
    pub fn limit(&self, limit: Option<Duration>) {
        let mut state = lock(&self.state);
        state.limit = limit.map(|limit| Instant::now() + limit);
        state.tell_limit();
    }

    /// Whether the time was over, and everything is undone.
    #[must_use]
    pub fn has_expired(&self) -> bool {
        lock(&self.state).expired
    }

    /// Whether nobody watches any more, because no supervisor can be started.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        lock(&self.state).lost
    }

    /// The process that watches now, for people and tests.
    #[must_use]
    pub fn process(&self) -> Option<u32> {
        lock(&self.state).child.as_ref().map(Child::id)
    }

    /// Lets the supervisor end; its journal is closed already, or it will undo what is open.
    pub fn end(mut self) {
        self.finish();
    }

    fn finish(&mut self) {
        let child = {
            let mut state = lock(&self.state);
            state.finishing = true;
            if let Some(socket) = &state.socket {
                let _ = socket.shutdown(std::net::Shutdown::Write);
            }
            state.child.take()
        };
        let Some(mut child) = child else { return };
        let began = Instant::now();
        while began.elapsed() < END_WAIT {
            match child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(2)),
                _ => {
                    if let Some(monitor) = self.monitor.take() {
                        let _ = monitor.join();
                    }
                    return;
                }
            }
        }
        // It still has to undo something, or waits for the engine; it does not need us for that.
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.finish();
    }
}

impl State {
    fn tell(&mut self, line: &str) {
        debug_assert!(order(line) != super::Order::Unknown);
        if let Some(socket) = &mut self.socket {
            // One that is dead is replaced, and its successor told.
            let _ = socket.write_all(format!("{line}\n").as_bytes());
        }
    }

    fn tell_limit(&mut self) {
        match self.limit {
            None => self.tell("unlimited"),
            Some(limit) => {
                let left = limit.saturating_duration_since(Instant::now()).as_millis();
                self.tell(&format!("limit {left}"));
            }
        }
    }
}

/// Listens to the supervisor, and replaces it when it dies.
fn monitor(state: &Mutex<State>, reader: UnixStream, program: &Program, journal: &Journal) {
    let mut lines = BufReader::new(reader);
    let mut line = String::new();
    loop {
        line.clear();
        match lines.read_line(&mut line) {
            Ok(count) if count > 0 => {
                if line.trim() == "expired" {
                    let mut state = lock(state);
                    (state.expired, state.limit) = (true, None);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => match replace(state, program, journal) {
                Some(reader) => lines = BufReader::new(reader),
                None => return,
            },
        }
    }
}

fn replace(state: &Mutex<State>, program: &Program, journal: &Journal) -> Option<UnixStream> {
    let mut state = lock(state);
    if state.finishing {
        return None;
    }
    if let Some(mut dead) = state.child.take() {
        let _ = dead.wait();
    }
    state.socket = None;
    while state.replaced < REPLACEMENTS_MAX {
        state.replaced += 1;
        let Ok(Watching { socket, reader, child }) = spawn(program, journal) else { continue };
        (state.socket, state.child) = (Some(socket), Some(child));
        if let Some(mark) = state.mark.clone() {
            state.tell(&format!("mark {mark}"));
        }
        if state.limit.is_some() {
            state.tell_limit();
        }
        return Some(reader);
    }
    state.lost = true;
    None
}

/// A supervisor that said that it watches.
struct Watching {
    socket: UnixStream,
    /// The same socket, for whoever listens.
    reader: UnixStream,
    child: Child,
}

fn spawn(program: &Program, journal: &Journal) -> Result<Watching, Error> {
    let (socket, theirs) = UnixStream::pair().map_err(Error::Start)?;
    let mut words = program.0.iter();
    let first = words.next().ok_or_else(|| Error::Start(io::ErrorKind::InvalidInput.into()))?;
    let mut child = Command::new(first)
        .args(words)
        .arg(journal.path())
        // It outlives us and must not keep a file system from being unmounted.
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::from(journal.share()?.into_file()))
        .stderr(Stdio::null())
        .spawn()
        .map_err(Error::Start)?;
    match wait_ready(&socket).and_then(|()| socket.try_clone().map_err(Error::Start)) {
        Ok(reader) => Ok(Watching { socket, reader, child }),
        Err(error) => {
            // It holds the journal. Coming to itself later, it would find its run gone, and undo a live one's quiet time.
            let _ = child.kill();
            let _ = child.wait();
            Err(error)
        }
    }
}

fn wait_ready(socket: &UnixStream) -> Result<(), Error> {
    socket.set_read_timeout(Some(READY_WAIT)).map_err(Error::Start)?;
    let mut ready = String::new();
    // It says nothing more until it is told something, so nothing is lost in this buffer.
    match BufReader::new(socket).read_line(&mut ready) {
        Ok(_) if ready.trim() == "ready" => {}
        Ok(_) => return Err(Error::Silent(io::ErrorKind::UnexpectedEof.into())),
        Err(error) => return Err(Error::Silent(error)),
    }
    socket.set_read_timeout(None).map_err(Error::Start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Journals, Made};

    fn journal(state: &std::path::Path) -> Journal {
        match Journals::in_state(state).make("ab", None, &[], &[]).unwrap() {
            Made::Journal(journal) => journal,
            Made::Taken(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_supervisor_that_does_not_say_that_it_watches_is_ended_with_the_attempt() {
        let state = tempfile::tempdir().unwrap();
        let number = state.path().join("number");
        // It says something else, and would hold the journal, and its run's end of the socket, for a day.
        let script = format!("echo $$ >{}; echo what >&0; exec sleep 86400", number.display());
        let program = Program(["/bin/sh", "-c", &script].map(OsString::from).to_vec());
        let journal = journal(state.path());
        assert!(matches!(Link::start(program, &journal), Err(Error::Silent(_))));
        let number = std::fs::read_to_string(number).unwrap();
        // Killed and waited for: not even a zombie is left.
        assert!(!std::path::Path::new("/proc").join(number.trim()).exists(), "{number} is still there");
    }
}
