//! Ends a command that does not end by itself.
//!
//! Must stay true: only processes that carry this command's own random word in their environment are signalled, so no
//! mix-up of process numbers, namespaces or machines can hit anybody else.
//!
//! Where the engine runs on this machine, its processes are ours to see in `/proc`. Where it does not, or we may not, a
//! second command in the container does the same, if it has a shell.

use super::Place;
use crate::engine::{ExecRequest, NextOutput};
use rustix::process::{Pid, Signal};
use std::time::{Duration, Instant};

/// The variable with the word.
pub(super) const VARIABLE: &str = "LIFEBOAT_EXEC";

/// How long to wait after standard input was closed, after each signal.
const GRACE: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(2)];
const POLL: Duration = Duration::from_millis(50);

/// Whether it is over.
pub(super) fn end(place: &Place, exec: &str) -> bool {
    if is_over_within(place, exec, GRACE[0]) {
        return true;
    }
    for (signal, word, grace) in [(Signal::TERM, "TERM", GRACE[1]), (Signal::KILL, "KILL", GRACE[2])] {
        if signal_local(&place.token, signal) == 0 {
            signal_inside(place, word);
        }
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

/// Signals what this machine's process table shows; gives how many that were.
fn signal_local(token: &str, signal: Signal) -> usize {
    let wanted = format!("{VARIABLE}={token}");
    let Ok(processes) = std::fs::read_dir("/proc") else { return 0 };
    let mut signalled = 0;
    for process in processes.flatten() {
        let Some(number) = process.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Ok(environment) = std::fs::read(process.path().join("environ")) else { continue };
        let carries = environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes());
        let sent = |pid| rustix::process::kill_process(pid, signal).is_ok();
        if carries && Pid::from_raw(number).is_some_and(sent) {
            signalled += 1;
        }
    }
    signalled
}

/// The same, with what any shell can do by itself: `read` drops the zeros between the variables.
const SCRIPT: &str = r#"for p in /proc/[0-9]*; do
  while read -r l || [ -n "$l" ]; do
    case $l in *"$2=$3"*) kill "-$1" "${p#/proc/}"; break ;; esac
  done 2>/dev/null <"$p/environ"
done"#;

fn signal_inside(place: &Place, signal: &str) {
    let command = ["/bin/sh", "-c", SCRIPT, "sh", signal, VARIABLE, &place.token];
    let request = ExecRequest {
        command: command.map(String::from).to_vec(),
        user: Some("0".into()),
        ..ExecRequest::default()
    };
    // Without a shell in the container there is nothing to try; the verdict comes from looking again.
    let Ok(mut session) = place.engine.exec(&place.container, &request) else { return };
    let began = Instant::now();
    while began.elapsed() < GRACE[1] {
        match session.output.next(POLL) {
            Ok(NextOutput::End) | Err(_) => return,
            Ok(_) => {}
        }
    }
}
