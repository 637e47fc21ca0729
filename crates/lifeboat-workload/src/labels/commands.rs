//! The commands that labels name: `lifeboat.pre`, `lifeboat.pre.2`, and how each is run.
//!
//! Must stay true: no shell is put between the label and the program, so a value means the same in every image.

use super::{Remarks, duration};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a command may run when no label says otherwise.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What a failing command means for the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// No snapshot is taken.
    #[default]
    Fail,
    /// The snapshot is taken and marked.
    Continue,
}

/// A command that is run inside a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Its place among its fellows; the one without a number has 0.
    pub number: u32,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Whom it runs as, if not as the container's user.
    pub user: Option<String>,
    /// How long it may run; for a holding one, how long until it is ready.
    pub timeout: Duration,
    /// What its failure means.
    pub on_error: OnError,
    /// Whether it holds: it prints a line `ready`, and then reads standard input until the end.
    pub holds: bool,
}

/// Whether a word behind `lifeboat.` belongs to a command.
pub(super) fn is_command(word: &str) -> bool {
    let mut parts = word.split('.');
    if !matches!(parts.next(), Some("pre" | "post")) {
        return false;
    }
    parts.all(|part| part.parse::<u32>().is_ok() || ATTRIBUTES.contains(&part))
}

const ATTRIBUTES: &[&str] = &["user", "timeout", "on-error", "hold"];

/// The commands of a label and its numbered relatives, in order.
pub(super) fn read(labels: &BTreeMap<String, String>, base: &str, remarks: &mut Remarks) -> Vec<Command> {
    let mut commands = Vec::new();
    for (label, value) in labels {
        let Some(rest) = label.strip_prefix(base) else { continue };
        let number = match rest.strip_prefix('.') {
            None if rest.is_empty() => 0,
            None => continue,
            Some(number) => match number.parse::<u32>() {
                Ok(number) => number,
                Err(_) => {
                    orphan(labels, base, label, number, remarks);
                    continue;
                }
            },
        };
        if let Some(argv) = argv(label, value, remarks) {
            commands.push(command(labels, label, number, argv, remarks));
        }
    }
    commands.sort_by_key(|command| command.number);
    commands
}

/// An attribute without its command does nothing; whoever wrote it should know.
fn orphan(labels: &BTreeMap<String, String>, base: &str, label: &str, rest: &str, remarks: &mut Remarks) {
    let owner = match rest.rsplit_once('.') {
        Some((number, _)) => format!("{base}.{number}"),
        None => base.to_owned(),
    };
    if !labels.contains_key(&owner) {
        remarks.push(label, format!("there is no `{owner}`"));
    }
}

fn command(
    labels: &BTreeMap<String, String>,
    label: &str,
    number: u32,
    argv: Vec<String>,
    remarks: &mut Remarks,
) -> Command {
    let attribute = |name: &str| labels.get_key_value(&format!("{label}.{name}"));
    let mut command = Command {
        number,
        argv,
        user: attribute("user").map(|(_, user)| user.clone()),
        timeout: TIMEOUT,
        on_error: OnError::Fail,
        holds: false,
    };
    if let Some((label, text)) = attribute("timeout") {
        match duration(text) {
            Some(timeout) if !timeout.is_zero() => command.timeout = timeout,
            _ => remarks.push(label, format!("`{text}` is no time; try 60s")),
        }
    }
    if let Some((label, text)) = attribute("on-error") {
        match text.trim() {
            "fail" => command.on_error = OnError::Fail,
            "continue" => command.on_error = OnError::Continue,
            _ => remarks.push(label, format!("`{text}` is neither fail nor continue")),
        }
    }
    if let Some((label, text)) = attribute("hold") {
        command.holds = super::flag(label, text, remarks) == Some(true);
    }
    command
}

/// A JSON array as it is; anything else is split at blanks, with quotes and backslashes as a shell reads them.
fn argv(label: &str, value: &str, remarks: &mut Remarks) -> Option<Vec<String>> {
    let argv = if value.trim_start().starts_with('[') {
        serde_json::from_str::<Vec<String>>(value).ok()
    } else {
        shlex::split(value)
    };
    match argv {
        Some(argv) if argv.first().is_some_and(|program| !program.is_empty()) => Some(argv),
        _ => {
            remarks.push(label, "is no command: a quote is open, or there is no program");
            None
        }
    }
}
