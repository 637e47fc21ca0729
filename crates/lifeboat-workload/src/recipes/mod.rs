//! Databases in containers: how each is captured so that it starts on what was captured, and what is then in it.
//!
//! Must stay true: a recipe claims only what the server was asked or what was seen on disk; where a server cannot be asked
//! its container is paused, and the snapshot says that nobody could ask. A label counts before a guess.
//! Read next: [`at_work`], what is done about it; `docs/docker.md`, the table for users.

mod ask;
pub mod at_work;
mod detect;
mod mariadb;
mod postgresql;
mod redis;
pub mod sqlite;
#[cfg(test)]
mod tests;

pub(crate) use detect::is_known;

use crate::engine::Engine;
use crate::facts::{Facts, Mount, State};
use crate::labels::{Command, Labels, OnError, Quiet};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// PostgreSQL and what is made of it.
    Postgresql,
    /// MariaDB, and MySQL.
    Mariadb,
    /// Redis, and Valkey.
    Redis,
    /// Files of SQLite in a volume or bind.
    Sqlite,
}

impl Kind {
    /// As the label `lifeboat.recipe` says it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Postgresql => "postgresql",
            Self::Mariadb => "mariadb",
            Self::Redis => "redis",
            Self::Sqlite => "sqlite",
        }
    }
}

/// How a database is captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It runs on, and its log mends what was read meanwhile.
    BackupMode,
    /// It runs on, and writes a file of its own that does not change any more.
    Saved,
    /// It is frozen.
    Paused,
    /// It is frozen, and its tables that have no log are closed.
    Locked,
    /// It is stopped.
    Stopped,
    /// It did not run.
    AtRest,
    /// It runs on, and nothing is done about it: a label asks for that.
    Unprotected,
}

impl How {
    /// For the snapshot.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::BackupMode => "backup-mode",
            Self::Saved => "saved",
            Self::Paused => "paused",
            Self::Locked => "locked",
            Self::Stopped => "stopped",
            Self::AtRest => "at-rest",
            Self::Unprotected => "unprotected",
        }
    }

    /// Whether the container may run on while the rest is read for the last time.
    #[must_use]
    pub fn lets_run(self) -> bool {
        matches!(self, Self::BackupMode | Self::Saved)
    }
}

/// What is done about one database.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Which.
    pub kind: Kind,
    /// How.
    pub how: How,
    /// What the snapshot then has of it.
    pub claim: String,
    /// The settings on which that rests, as the server said them.
    pub settings: BTreeMap<String, String>,
    /// What weakens the claim, or the server's own promises to its clients.
    pub warnings: Vec<String>,
    session: Option<Session>,
    /// Where the data lies, for the backup mode.
    data: Option<Data>,
}

/// A command that holds something, and what it is told first.
#[derive(Debug, Clone)]
struct Session {
    command: Command,
    told: String,
}

/// A data folder on this machine's disk.
#[derive(Debug, Clone)]
struct Data {
    folder: PathBuf,
    /// Its owner and group.
    owner: (u32, u32),
}

/// What a recipe is chosen by.
#[derive(Clone, Copy)]
pub struct Patient<'p> {
    /// Where it runs.
    pub engine: &'p Engine,
    /// What the engine says of it.
    pub facts: &'p Facts,
    /// What its labels ask.
    pub labels: &'p Labels,
    /// The folder of a mount on this machine's disk, where that is read as part of the snapshot, and can be read twice.
    pub folder: &'p dyn Fn(&Mount) -> Option<PathBuf>,
}

impl std::fmt::Debug for Patient<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Patient({})", self.facts.name)
    }
}

/// What is to be done about the database in a container; nothing where there is none, or a label says `none`.
#[must_use]
pub fn choose(patient: &Patient<'_>) -> Option<Recipe> {
    let kind = detect::kind(patient)?;
    if kind == Kind::Sqlite {
        return Some(sqlite::recipe(patient));
    }
    if matches!(patient.facts.state, State::Created | State::Exited | State::Dead) {
        let claim = match patient.facts.exit_code {
            0 => "The server did not run: it had ended in good order.",
            _ => "The server did not run: it had ended as in a crash, and starts by recovering from it.",
        };
        return Some(Recipe::of(kind, How::AtRest, claim));
    }
    Some(match kind {
        Kind::Postgresql => postgresql::recipe(patient),
        Kind::Mariadb => mariadb::recipe(patient),
        Kind::Redis => redis::recipe(patient),
        Kind::Sqlite => sqlite::recipe(patient),
    })
}

impl Recipe {
    fn of(kind: Kind, how: How, claim: impl Into<String>) -> Self {
        Self {
            kind,
            how,
            claim: claim.into(),
            settings: BTreeMap::new(),
            warnings: Vec::new(),
            session: None,
            data: None,
        }
    }

    /// For a server that cannot be asked.
    fn unasked(kind: Kind, patient: &Patient<'_>, why: &str, at_risk: &str) -> Self {
        let how = patient.how();
        let mut recipe = Self::of(kind, how, how.as_a_crash());
        recipe
            .warnings
            .push(format!("{} could not be asked for its settings ({why}): {at_risk}", kind.word()));
        recipe
    }

    /// How quiet its container should become.
    #[must_use]
    pub fn quiet(&self) -> Quiet {
        match self.how {
            How::Paused | How::Locked => Quiet::Pause,
            How::Stopped => Quiet::Stop,
            How::BackupMode | How::Saved | How::AtRest | How::Unprotected => Quiet::Leave,
        }
    }

    /// For the snapshot. `moment` is the recipe's own, where it is not that of the container.
    #[must_use]
    pub fn record(&self, moment: Option<&str>) -> Value {
        let mut record = json!({
            "recipe": self.kind.word(),
            "how": self.how.word(),
            "claim": self.claim,
            "settings": self.settings,
        });
        if let Some(moment) = moment {
            record["moment"] = json!(moment);
        }
        record
    }
}

impl How {
    /// What a server finds that knows nothing of the capture.
    fn as_a_crash(self) -> &'static str {
        match self {
            Self::Stopped => {
                "The server was stopped in good order: everything that it had acknowledged is there."
            }
            Self::AtRest => "The server did not run.",
            Self::Unprotected => "The server ran on while its files were read: they may mix several moments.",
            _ => "As after a crash of the server in the moment: it starts by recovering.",
        }
    }
}

impl Patient<'_> {
    /// What a label says of how quiet it becomes; else it is paused.
    fn how(&self) -> How {
        match self.labels.quiet {
            Some(Quiet::Stop) => How::Stopped,
            Some(Quiet::Leave) => How::Unprotected,
            Some(Quiet::Pause) | None => How::Paused,
        }
    }

    fn place(&self) -> (&str, &str) {
        (&self.facts.id, &self.facts.name)
    }

    /// The folder on disk of a path in the container, where the mount that holds it is captured, and nothing else is mounted
    /// below it.
    fn folder_of(&self, inside: &str) -> Option<PathBuf> {
        let inside = Path::new(inside);
        let mounts = &self.facts.mounts;
        let mount = mounts
            .iter()
            .filter(|mount| inside.starts_with(&mount.destination))
            .max_by_key(|mount| mount.destination.len())?;
        let is_below = |other: &Mount| Path::new(&other.destination).starts_with(inside);
        if mounts.iter().any(|other| other != mount && is_below(other)) {
            return None;
        }
        let below = inside.strip_prefix(&mount.destination).ok()?;
        let folder = std::fs::canonicalize((self.folder)(mount)?.join(below)).ok()?;
        folder.is_dir().then_some(folder)
    }

    /// Says so where a server's data is in no mount: then it is part of the container's own layer.
    fn warn_of_layer(&self, inside: &str, recipe: &mut Recipe) {
        let is_mounted = |mount: &Mount| Path::new(inside).starts_with(&mount.destination);
        if !self.facts.mounts.iter().any(is_mounted) {
            recipe.warnings.push(format!(
                "{inside} is in no volume: the data is part of the container, and goes when the container is removed"
            ));
        }
    }
}

/// A command of a recipe.
fn command(argv: Vec<String>, user: Option<&str>, timeout: Duration) -> Command {
    Command { number: 0, argv, user: user.map(Into::into), timeout, on_error: OnError::Fail, holds: true }
}

/// A script for the container's own shell, which finds the words in `$1`, `$2` ….
fn shell(script: &str, words: &[&str]) -> Vec<String> {
    ["sh", "-c", script, "sh"].iter().chain(words).map(|word| (*word).to_owned()).collect()
}
