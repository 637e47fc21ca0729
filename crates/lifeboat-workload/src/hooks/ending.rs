//! Ends a command that does not end by itself.
//!
//! Must stay true: only processes that carry this command's own random word in their environment are signalled, so no
//! mix-up of process numbers, namespaces or machines can hit anybody else.
//!
//! Where the engine runs on this machine, its processes are ours to see in `/proc`. Where it does not, or we may not, a
//! second command in the container does the same, if it has a shell.

use super::Place;
use crate::engine::{Engine, ExecRequest, NextOutput, Output};
use rustix::process::{Pid, Signal};
use std::time::{Duration, Instant};

/// The variable with the word.
pub(super) const VARIABLE: &str = "LIFEBOAT_EXEC";

/// How long to wait after standard input was closed, after each signal.
const GRACE: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(2)];
const POLL: Duration = Duration::from_millis(50);
/// How long a command in the container may take for that. An engine tells its end seconds late while it waits for the output of
/// another one that was killed.
const INSIDE_MAX: Duration = Duration::from_secs(10);
/// Nobody starts a process as often as this in between.
const KILLS_MAX: u32 = 5;
/// A look may be a command in the container.
const POLL_MAX: Duration = Duration::from_millis(400);

/// Whether it is over.
pub(super) fn end(place: &Place, exec: &str) -> bool {
    if is_over_within(place, exec, GRACE[0]) {
        return true;
    }
    for (signal, word, grace) in [(Signal::TERM, "TERM", GRACE[1]), (Signal::KILL, "KILL", GRACE[2])] {
        // Without a shell in the container there may be nothing to try; the verdict comes from looking again.
        signal_all((&place.engine, &place.container), &place.token, (signal, word));
        if is_over_within(place, exec, grace) {
            return true;
        }
    }
    false
}

fn is_over_within(place: &Place, exec: &str, limit: Duration) -> bool {
    let began = Instant::now();
    loop {
        // An engine that does not answer does not say that it is over.
        if place.engine.exec_end(exec).is_ok_and(|end| !end.is_running) {
            return true;
        }
        if began.elapsed() >= limit {
            return false;
        }
        std::thread::sleep(POLL);
    }
}

/// What became of a command whose run is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orphan {
    /// It had ended by itself, or did so in its time.
    Gone,
    /// It was ended.
    Ended,
    /// It was signalled, and still runs.
    StillRuns,
    /// It cannot be seen: the engine is on another machine, and the container has no shell.
    Unseen,
}

impl Orphan {
    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Gone => "does not run any more",
            Self::Ended => "was ended",
            Self::StillRuns => "still runs, although it was signalled",
            Self::Unseen => "may still run: it cannot be seen, because the container has no shell",
        }
    }

    /// Whether it is over for certain.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Gone | Self::Ended)
    }
}

/// Ends the processes that carry `word`. First they have `grace` to end by themselves: who has lost its standard input may be
/// letting go.
#[must_use]
pub fn end_orphan(engine: &Engine, container: &str, word: &str, grace: Duration) -> Orphan {
    let look = || match carriers(word).len() {
        0 => inside(engine, container, word, "0"),
        count => Some(count),
    };
    match look() {
        None => return Orphan::Unseen,
        Some(0) => return Orphan::Gone,
        Some(_) if is_gone_within(&look, grace) => return Orphan::Gone,
        Some(_) => {}
    }
    for (signal, name, grace) in [(Signal::TERM, "TERM", GRACE[1]), (Signal::KILL, "KILL", GRACE[2])] {
        signal_all((engine, container), word, (signal, name));
        if is_gone_within(&look, grace) {
            return Orphan::Ended;
        }
    }
    Orphan::StillRuns
}

fn is_gone_within(look: &dyn Fn() -> Option<usize>, limit: Duration) -> bool {
    let began = Instant::now();
    let mut pause = POLL;
    loop {
        let left = limit.saturating_sub(began.elapsed());
        if left.is_zero() {
            return false;
        }
        std::thread::sleep(pause.min(left));
        if look() == Some(0) {
            return true;
        }
        pause = (pause * 2).min(POLL_MAX);
    }
}

/// Signals all that carries the word, on this machine or in the container. What is killed may have started something since
/// it was looked at, so there it is looked again.
fn signal_all((engine, container): (&Engine, &str), word: &str, (signal, name): (Signal, &str)) {
    let here = || signal_local(word, signal);
    let inside = || inside(engine, container, word, name).unwrap_or_default();
    let again = if signal == Signal::KILL { KILLS_MAX - 1 } else { 0 };
    if here() > 0 {
        repeat(again, &here);
    } else if inside() > 0 {
        repeat(again, &inside);
    }
}

fn repeat(count: u32, signal: &dyn Fn() -> usize) {
    for _ in 0..count {
        // What was killed is gone by then.
        std::thread::sleep(POLL);
        if signal() == 0 {
            return;
        }
    }
}

/// The processes that this machine's process table shows.
fn carriers(token: &str) -> Vec<Pid> {
    let wanted = format!("{VARIABLE}={token}");
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let carrier = |process: std::fs::DirEntry| {
        let number = process.file_name().to_str()?.parse::<i32>().ok()?;
        let environment = std::fs::read(process.path().join("environ")).ok()?;
        let carries = environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes());
        if carries { Pid::from_raw(number) } else { None }
    };
    processes.flatten().filter_map(carrier).collect()
}

/// Signals what this machine's process table shows; gives how many that were.
fn signal_local(token: &str, signal: Signal) -> usize {
    let signalled =
        carriers(token).into_iter().filter(|pid| rustix::process::kill_process(*pid, signal).is_ok());
    signalled.count()
}

/// The same, with what any shell can do by itself: `read` drops the zeros between the variables. A line for each.
const SCRIPT: &str = r#"for p in /proc/[0-9]*; do
  while read -r l || [ -n "$l" ]; do
    case $l in *"$2=$3"*) kill "-$1" "${p#/proc/}" && echo; break ;; esac
  done 2>/dev/null <"$p/environ"
done
exit 0"#;

/// How many a second command in the container has signalled; `None` where there cannot be one.
fn inside(engine: &Engine, container: &str, token: &str, signal: &str) -> Option<usize> {
    let command = ["/bin/sh", "-c", SCRIPT, "sh", signal, VARIABLE, token];
    let request = ExecRequest {
        command: command.map(String::from).to_vec(),
        user: Some("0".into()),
        ..ExecRequest::default()
    };
    let mut session = engine.exec(container, &request).ok()?;
    let (began, mut lines) = (Instant::now(), 0);
    while began.elapsed() < INSIDE_MAX {
        match session.output.next(POLL).ok()? {
            NextOutput::End => return (session.exit_code().ok()? == Some(0)).then_some(lines),
            NextOutput::Output(Output::Standard(bytes)) => {
                lines += bytes.iter().filter(|byte| **byte == b'\n').count();
            }
            NextOutput::Output(Output::Error(_)) | NextOutput::Quiet => {}
        }
    }
    None
}
