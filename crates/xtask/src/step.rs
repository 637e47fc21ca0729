//! One announced, timed step of a chore.
//!
//! Must stay true: whoever reads the output of a failed run finds the command to repeat, complete enough to paste.

use crate::failure::{Failure, Result, While};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Announces `name`, does `work`, says how long it took.
pub(crate) fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("\n=== {name}");
    let begun = Instant::now();
    let outcome = work();
    let verdict = if outcome.is_ok() { "done" } else { "FAILED" };
    println!("=== {name}: {verdict} after {}", seconds(begun.elapsed()));
    outcome
}

/// Announces and runs one command.
pub(crate) fn run(name: &str, command: &mut Command) -> Result<()> {
    step(name, || {
        announce(command);
        let status = command.status().while_doing(format_args!("start `{}`", pasteable(command)))?;
        verdict(name, command, status.success())
    })
}

/// Announces and runs one command, and hands each line of its standard output to `look` on its way to ours.
pub(crate) fn run_watching(name: &str, command: &mut Command, mut look: impl FnMut(&str)) -> Result<()> {
    step(name, || {
        announce(command);
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .while_doing(format_args!("start `{}`", pasteable(command)))?;
        if let Some(output) = child.stdout.take() {
            let mut reader = BufReader::new(output);
            let mut line = Vec::new();
            // Bytes, not text: a test may print whatever it likes.
            while reader.read_until(b'\n', &mut line).while_doing("read its output")? > 0 {
                std::io::stdout().write_all(&line).while_doing("print its output")?;
                look(&String::from_utf8_lossy(&line));
                line.clear();
            }
        }
        let status = child.wait().while_doing("wait for it")?;
        verdict(name, command, status.success())
    })
}

fn announce(command: &Command) {
    println!("    {}", pasteable(command));
}

fn verdict(name: &str, command: &Command, success: bool) -> Result<()> {
    if success {
        Ok(())
    } else {
        Err(Failure::new(format!("{name} failed\nHint: repeat it with\n    {}", pasteable(command))))
    }
}

/// The command as one could type it, with the variables that it was given.
pub(crate) fn pasteable(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| {
        Some(format!("{}={}", name.to_string_lossy(), quoted(&value?.to_string_lossy())))
    });
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    variables.chain(words.map(|word| quoted(&word.to_string_lossy()))).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=:+,@%".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// A duration as people say it.
pub(crate) fn seconds(duration: Duration) -> String {
    match duration.as_secs() {
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        short @ 10..120 => format!("{short} s"),
        long => format!("{} min {} s", long / 60, long % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_names_the_command_to_repeat() {
        let mut command = Command::new("false");
        command.args(["two words", "it's"]).env("KEY", "a b");
        let failure = run("a step that fails", &mut command).unwrap_err().to_string();
        assert!(failure.ends_with(r"KEY='a b' false 'two words' 'it'\''s'"), "{failure}");
    }

    #[test]
    fn a_watched_command_is_seen_line_by_line_and_its_failure_is_kept() {
        let mut lines = Vec::new();
        let mut command = Command::new("sh");
        command.args(["-c", "printf 'one\ntwo\n'; exit 3"]);
        assert!(run_watching("watching", &mut command, |line| lines.push(line.to_owned())).is_err());
        assert_eq!(lines, ["one\n", "two\n"]);
    }
}
