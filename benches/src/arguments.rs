//! What the program is asked to do.

use crate::rounds::ROUNDS_LEAST;
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::path::PathBuf;

pub(crate) const USAGE: &str = "\
usage: lifeboat-bench run [ROW...] --data DIR --lifeboat PROGRAM --documents DIR [--rounds N] [--without-peers] [--small]
       lifeboat-bench report --documents DIR
       lifeboat-bench list";

/// One way of starting the program.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Run(RunRequest),
    /// Make the report again from the results.
    Report(PathBuf),
    List,
    /// Inner: BLAKE3 over standard input.
    Hash,
    /// Inner: something about an index, told by its own words.
    Index(Vec<OsString>),
}

/// Measure rows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RunRequest {
    /// All of them where none is named.
    pub(crate) rows: Vec<String>,
    pub(crate) data: PathBuf,
    pub(crate) lifeboat: PathBuf,
    /// The folder of `benchmarks.md`.
    pub(crate) documents: PathBuf,
    pub(crate) rounds: usize,
    pub(crate) without_peers: bool,
    pub(crate) small: bool,
}

pub(crate) fn parse(words: impl Iterator<Item = OsString>) -> Result<Request> {
    let mut words = words;
    let verb = words.next().unwrap_or_default();
    match verb.to_str() {
        Some("hash") => Ok(Request::Hash),
        Some("index") => Ok(Request::Index(words.collect())),
        Some("list") => Ok(Request::List),
        Some("report") => match (words.next().as_deref().and_then(|word| word.to_str()), words.next()) {
            (Some("--documents"), Some(folder)) => Ok(Request::Report(folder.into())),
            _ => bail!(USAGE),
        },
        Some("run") => run(words),
        _ => bail!(USAGE),
    }
}

fn run(mut words: impl Iterator<Item = OsString>) -> Result<Request> {
    let (mut rows, mut data, mut lifeboat, mut documents) = (Vec::new(), None, None, None);
    let (mut rounds, mut without_peers, mut small) = (ROUNDS_LEAST, false, false);
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("`{}` needs a value", word.display()));
        match word.to_str() {
            Some("--data") => data = Some(value()?.into()),
            Some("--lifeboat") => lifeboat = Some(value()?.into()),
            Some("--documents") => documents = Some(value()?.into()),
            Some("--rounds") => {
                rounds = value()?
                    .to_str()
                    .and_then(|text| text.parse().ok())
                    .context("--rounds takes a number")?;
            }
            Some("--small") => small = true,
            Some("--without-peers") => without_peers = true,
            Some(row) if !row.starts_with('-') => rows.push(row.to_owned()),
            _ => bail!("`{}` is not known\n{USAGE}", word.display()),
        }
    }
    Ok(Request::Run(RunRequest {
        rows,
        data: data.context(USAGE)?,
        lifeboat: lifeboat.context(USAGE)?,
        documents: documents.context(USAGE)?,
        rounds: rounds.max(1),
        without_peers,
        small,
    }))
}
