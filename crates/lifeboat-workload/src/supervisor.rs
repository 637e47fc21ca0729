//! A process that outlives its run and undoes what the run left.
//!
//! Must stay true: before a run makes anything quiet, its supervisor has said that it watches; it holds the journal's lock
//! through the same open file, so nobody takes the run for dead while it is being undone; it acts only on what the
//! journal says. When the run dies, the kernel closes their socket, and that is all the supervisor waits for.
//!
//! Between the two goes a socket, on the supervisor's standard input, with lines of text. To it: `mark ID`, the mark to
//! keep alive; `limit MILLISECONDS`, undo then, whatever the run does; `unlimited`. From it: `ready`, and `expired` when
//! it has undone because of a limit. The journal is its standard output. Read next: `link.rs`, the run's end of it.

pub mod link;

use crate::journal::entry::Entry;
use crate::journal::{self, Journal};
use crate::quiesce::mark::{self, BEAT};
use crate::quiesce::on_engine::OnEngine;
use crate::quiesce::undo::{Debts, Undone, reopen, undo};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the undo of a limit may hold up the next look at the run.
const EXPIRED_PATIENCE: Duration = Duration::from_secs(5);

/// Why a supervisor could not watch.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What it needs from its run is not there.
    #[error("the supervisor was not started by a run of lifeboat")]
    Alone(#[source] io::Error),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] journal::Error),
}

/// What a line from the run asks.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Order {
    Mark(String),
    Limit(Option<Duration>),
    Unknown,
}

fn order(line: &str) -> Order {
    let (word, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
    match (word, rest.parse::<u64>()) {
        ("mark", _) => Order::Mark(rest.into()),
        ("limit", Ok(millis)) => Order::Limit(Some(Duration::from_millis(millis))),
        ("unlimited", _) => Order::Limit(None),
        _ => Order::Unknown,
    }
}

/// Watches over the run that started this process, until that has ended and nothing is left to undo.
///
/// # Errors
///
/// Only where it cannot begin; an engine that does not answer is waited for.
pub fn supervise(path: &Path) -> Result<(), Error> {
    // Whoever ends the run's terminal or its process group does not mean us. A leader of its own group already is one.
    let _ = rustix::process::setsid();
    let socket =
        rustix::stdio::stdin().as_fd().try_clone_to_owned().map(UnixStream::from).map_err(Error::Alone)?;
    let file = rustix::stdio::stdout().as_fd().try_clone_to_owned().map(File::from).map_err(Error::Alone)?;
    let journal = Journal::inherited(file, path.into());
    let ledger = journal.read()?;
    let hands = OnEngine::at(&ledger.engine);
    let mut watch = Watch { journal, hands, run: ledger.run, mark: None, beats: 0, limit: None };
    watch.until_the_end(&socket)?;
    watch.clean_up()
}

struct Watch {
    journal: Journal,
    hands: OnEngine,
    run: String,
    mark: Option<String>,
    beats: u64,
    limit: Option<Instant>,
}

impl Watch {
    fn until_the_end(&mut self, socket: &UnixStream) -> Result<(), Error> {
        let mut lines = BufReader::new(socket.try_clone().map_err(Error::Alone)?);
        let mut line = String::new();
        say(socket, "ready");
        let mut next_beat = Instant::now() + BEAT;
        loop {
            let now = Instant::now();
            if self.limit.is_some_and(|limit| limit <= now) {
                self.limit = None;
                self.expire()?;
                say(socket, "expired");
            }
            if next_beat <= now {
                self.beat();
                next_beat = Instant::now() + BEAT;
            }
            let until = self.limit.map_or(next_beat, |limit| limit.min(next_beat));
            let wait = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            socket.set_read_timeout(Some(wait)).map_err(Error::Alone)?;
            match lines.read_line(&mut line) {
                Ok(0) => return Ok(()),
                Ok(_) => {
                    self.follow(&order(&line));
                    line.clear();
                }
                // A line that came in part stays in `line`.
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Ok(()),
            }
        }
    }

    fn follow(&mut self, order: &Order) {
        match order {
            Order::Mark(id) => self.mark = Some(id.clone()),
            Order::Limit(limit) => self.limit = limit.map(|limit| Instant::now() + limit),
            Order::Unknown => {}
        }
    }

    /// Shows on the engine that the run is watched over; who cannot reach the engine cannot recover through it either.
    fn beat(&mut self) {
        let Some(mark) = &self.mark else { return };
        self.beats += 1;
        if let Ok(engine) = self.hands.engine() {
            let _ = mark::beat(&engine, mark, &self.run, self.beats);
        }
    }

    fn expire(&mut self) -> Result<Undone, Error> {
        // A run that hangs in a request does not see whether the engine stays up.
        self.journal.remember_durably(&[Entry::Expired, Entry::Away]);
        Ok(undo(&self.hands, &mut self.journal, Some(EXPIRED_PATIENCE), Debts::Keep)?)
    }

    /// The run is over: in order, or not.
    fn clean_up(mut self) -> Result<(), Error> {
        if self.journal.is_removed()? || self.journal.read()?.ended {
            return Ok(());
        }
        reopen(&mut self.journal, false)?;
        // Nobody saw whether the engine stayed up when the run died.
        self.journal.remember_durably(&[Entry::Away]);
        let undone = undo(&self.hands, &mut self.journal, None, Debts::Pay)?;
        if !undone.is_whole() {
            // It stays for `recover`, with the mark: starting what ends at once for ever helps nobody.
            return Ok(());
        }
        // The mark goes first: while it is there, the journal says what it means.
        if let Ok(engine) = self.hands.engine() {
            let _ = mark::remove(&engine, &self.run);
        }
        if !undone.is_quiet() {
            // Nobody hears us: the next run, or `recover`, tries again, and tells.
            return Ok(());
        }
        Ok(self.journal.close()?)
    }
}

/// Says something to a run that may be dead, which the next read tells.
fn say(mut socket: &UnixStream, line: &str) {
    let _ = socket.write_all(format!("{line}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_and_others_passed_over() {
        assert_eq!(order("mark abc\n"), Order::Mark("abc".into()));
        assert_eq!(order("limit 1500\n"), Order::Limit(Some(Duration::from_millis(1500))));
        assert_eq!(order("unlimited\n"), Order::Limit(None));
        for odd in ["", "limit", "limit -1", "sing 3"] {
            assert_eq!(order(odd), Order::Unknown, "{odd}");
        }
    }
}
