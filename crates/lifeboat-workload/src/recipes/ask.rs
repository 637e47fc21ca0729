//! Asking a server for its settings, through a client in its own container.
//!
//! Must stay true: passwords reach clients through the container's environment or standard input, never as arguments.

use super::{Patient, command};
use crate::hooks::{self, Hold};
use std::collections::BTreeMap;
use std::time::Duration;

/// A server that does not answer by then is not asked any more.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(20);

/// Lines `name=value` of what a command prints.
pub(super) fn settings(
    patient: &Patient<'_>,
    argv: Vec<String>,
    user: Option<&str>,
) -> Result<BTreeMap<String, String>, String> {
    let command = command(argv, user, ANSWER_MAX);
    let ran = hooks::run(patient.engine, patient.place(), &command).map_err(|error| why(&error))?;
    Ok(pairs(&String::from_utf8_lossy(&ran.output), '='))
}

/// What a holding command says until it is ready; it is let go at once.
pub(super) fn said(patient: &Patient<'_>, argv: Vec<String>, told: &str) -> Result<String, String> {
    let command = command(argv, None, ANSWER_MAX);
    let word = crate::quiesce::random_word();
    let hold = Hold::begin(patient.engine, patient.place(), &command, (told, &word));
    let ran = hold.and_then(Hold::release).map_err(|error| why(&error))?;
    Ok(String::from_utf8_lossy(&ran.output).into_owned())
}

/// The pairs of a text, one a line.
pub(super) fn pairs(text: &str, between: char) -> BTreeMap<String, String> {
    let lines = text.lines().filter_map(|line| line.trim_end().split_once(between));
    lines.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect()
}

/// The last line of what went wrong: the rest is a client's chatter.
fn why(error: &hooks::Error) -> String {
    match error {
        hooks::Error::Failed { code, errors, .. } => {
            errors.lines().next_back().map_or_else(|| format!("its client ended with {code}"), str::to_owned)
        }
        error => crate::quiesce::undo::chain(error),
    }
}
