//! Clients that write all the time and remember when each write was acknowledged.
//!
//! Must stay true: a write counts when its answer was read. The clients run in the server's container, so a pause of it
//! stops them too, and the time without an answer is what an application would see.

use super::Server;
use anyhow::{Context, Result, ensure};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How the clients work.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Load {
    /// pgbench's own transactions, with its own log of them. Without its vacuum, which would empty the history.
    Pgbench { clients: u32 },
    /// A program that answers each line with one line.
    Lines { program: &'static [&'static str], line: &'static str, clients: u32 },
}

/// Clients at work.
pub(crate) enum Running<'s> {
    Pgbench(&'s Server, Child),
    Lines(Arc<AtomicBool>, Vec<JoinHandle<Result<Vec<f64>>>>),
}

/// Seconds since 1970, which is what pgbench's log counts.
pub(crate) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// When writes were acknowledged, in order.
#[derive(Debug)]
pub(crate) struct Acknowledged(Vec<f64>);

impl Load {
    /// Starts the clients.
    pub(crate) fn start(self, server: &Server) -> Result<Running<'_>> {
        match self {
            Self::Pgbench { clients } => {
                server.exec(&["sh", "-c", "rm -f /tmp/load.*"])?;
                let clients = clients.to_string();
                let words = ["exec", &server.name, "pgbench", "-U", "postgres", "--client", &clients];
                let log =
                    ["--time", "100000", "--no-vacuum", "--log", "--log-prefix", "/tmp/load", "postgres"];
                let mut pgbench = server.engine.docker(&[&words[..], &log].concat());
                let child = pgbench
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .context("cannot start docker")?;
                Ok(Running::Pgbench(server, child))
            }
            Self::Lines { program, line, clients } => {
                let stop = Arc::new(AtomicBool::new(false));
                let threads = (0..clients)
                    .map(|_| {
                        let mut docker = server
                            .engine
                            .docker(&[&["exec", "--interactive", &server.name], program].concat());
                        docker.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
                        let child = docker.spawn().context("cannot start docker")?;
                        let stop = stop.clone();
                        Ok(std::thread::spawn(move || converse(child, line, &stop)))
                    })
                    .collect::<Result<_>>()?;
                Ok(Running::Lines(stop, threads))
            }
        }
    }
}

/// One write after the other, each when the one before was answered.
fn converse(mut child: Child, line: &str, stop: &AtomicBool) -> Result<Vec<f64>> {
    let mut input = child.stdin.take().context("a client without input")?;
    let mut answers = BufReader::new(child.stdout.take().context("a client without output")?);
    let (mut times, mut answer) = (Vec::new(), String::new());
    while !stop.load(Ordering::Relaxed) {
        writeln!(input, "{line}").context("a client went away")?;
        answer.clear();
        ensure!(answers.read_line(&mut answer)? > 0, "a client ended after {} writes", times.len());
        ensure!(answer.trim().parse::<u64>().is_ok(), "a client was answered `{}`", answer.trim());
        times.push(now());
    }
    drop(input);
    child.wait().context("cannot wait for a client")?;
    Ok(times)
}

impl Running<'_> {
    /// Ends the clients, and collects when their writes were acknowledged.
    pub(crate) fn finish(self) -> Result<Acknowledged> {
        let mut times = match self {
            Self::Pgbench(server, mut child) => {
                ensure!(child.try_wait()?.is_none(), "pgbench ended before it was told to");
                // The alarm is how it learns that its time is over; it then ends in order, with its log complete.
                server.exec(&["sh", "-c", "kill -s ALRM $(pidof pgbench)"])?;
                child.wait()?;
                let log = server.exec(&["sh", "-c", "cat /tmp/load.*"])?;
                log.lines().filter_map(logged).collect()
            }
            Self::Lines(stop, threads) => {
                stop.store(true, Ordering::Relaxed);
                let mut times = Vec::new();
                for thread in threads {
                    times.extend(thread.join().map_err(|_| anyhow::anyhow!("a client's thread panicked"))??);
                }
                times
            }
        };
        ensure!(!times.is_empty(), "no write was acknowledged");
        times.sort_by(f64::total_cmp);
        Ok(Acknowledged(times))
    }
}

/// `client transaction microseconds script seconds microseconds`: when it was done.
fn logged(line: &str) -> Option<f64> {
    let mut words = line.split(' ').skip(4);
    let (seconds, micros): (f64, f64) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(seconds + micros / 1e6)
}

impl Acknowledged {
    fn within(&self, from: f64, to: f64) -> &[f64] {
        let at = |time: f64| self.0.partition_point(|acknowledged| *acknowledged < time);
        &self.0[at(from)..at(to).max(at(from))]
    }

    /// Acknowledged writes a second.
    pub(crate) fn rate(&self, from: f64, to: f64) -> f64 {
        self.within(from, to).len() as f64 / (to - from)
    }

    /// The longest time without an answer that overlaps with this span.
    pub(crate) fn stall(&self, from: f64, to: f64) -> Duration {
        let before = self.0.iter().copied().rfind(|time| *time < from);
        let after = self.0.iter().copied().find(|time| *time >= to);
        let times: Vec<f64> =
            before.into_iter().chain(self.within(from, to).iter().copied()).chain(after).collect();
        let longest = times.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
        Duration::from_secs_f64(longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_seen_whole_even_where_the_span_is_inside_of_it() {
        let acknowledged = Acknowledged(vec![1.0, 1.5, 2.0, 5.0, 5.5]);
        assert_eq!(acknowledged.stall(3.0, 4.0), Duration::from_secs(3));
        assert_eq!(acknowledged.stall(1.0, 2.0), Duration::from_millis(500));
        assert!((acknowledged.rate(1.0, 3.0) - 1.5).abs() < 1e-9);
        assert!(acknowledged.rate(3.0, 4.0).abs() < 1e-9);
    }

    #[test]
    fn a_line_of_pgbenchs_log_says_when_its_transaction_was_done() {
        assert_eq!(logged("3 12 1811 0 1764000000 250000"), Some(1_764_000_000.25));
        assert_eq!(logged("nonsense"), None);
    }
}
