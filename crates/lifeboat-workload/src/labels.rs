//! What the labels of a container ask for.
//!
//! Must stay true: a label that cannot be understood is reported and never guessed at; a label of another tool is
//! honoured or reported, never passed over. The table for users is in `docs/docker.md`.
//! Read next: `quiesce/plan.rs`, which decides what is done about `stop` and `pause`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

mod commands;
#[cfg(test)]
mod tests;

pub use commands::{Command, OnError};

/// What all of our labels begin with.
pub const PREFIX: &str = "lifeboat.";
/// Marks what lifeboat itself made on an engine; these containers are nobody's service.
pub const OURS: &[&str] = &["lifeboat.hold", "lifeboat.helper"];
/// docker-volume-backup's labels.
const FOREIGN: &str = "docker-volume-backup.";

/// How long a pause may last when no label says otherwise.
pub const MAX_PAUSE: Duration = Duration::from_secs(30);
/// A longer pause is a mistake in a label rather than a wish.
const MAX_PAUSE_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// How a container is made quiet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quiet {
    /// It runs on.
    Leave,
    /// Its processes are frozen.
    Pause,
    /// It is stopped and started again.
    Stop,
}

/// Which mounts of a container a label names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Mounts {
    /// None: the label is not there.
    #[default]
    Unsaid,
    /// All of them: `true`.
    All,
    /// None of them: `false`.
    Nothing,
    /// Those with one of these destinations, volume names or paths on the host.
    These(BTreeSet<String>),
}

impl Mounts {
    /// Whether a mount is named, which is known to the engine as `name` and is seen at `destination`.
    #[must_use]
    pub fn name(&self, name: Option<&str>, destination: &str) -> bool {
        match self {
            Self::Unsaid | Self::Nothing => false,
            Self::All => true,
            Self::These(names) => {
                names.contains(destination) || name.is_some_and(|name| names.contains(name))
            }
        }
    }
}

/// What the labels of one container say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels {
    /// What is left out.
    pub exclude: Mounts,
    /// What is captured although the boundary rules would leave it out.
    pub include: Mounts,
    /// How it is to be made quiet, if a label says so.
    pub quiet: Option<Quiet>,
    /// Commands before the capture, in their order.
    pub pre: Vec<Command>,
    /// Commands after the capture, in their order.
    pub post: Vec<Command>,
    /// The recipe of its database: `postgresql`, `mariadb`, `redis`, `sqlite`, `none`.
    pub recipe: Option<String>,
    /// Containers with the same word are captured at one moment.
    pub group: Option<String>,
    /// How long it may be paused.
    pub max_pause: Option<Duration>,
    /// Whether it is captured only while it is healthy.
    pub require_healthy: bool,
}

/// A label that was not followed, or not to the letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// The label.
    pub label: String,
    /// What there is to say about it.
    pub what: String,
}

impl fmt::Display for Remark {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "label `{}`: {}", self.label, self.what)
    }
}

/// Collects what there is to say.
#[derive(Debug, Default)]
struct Remarks(Vec<Remark>);

impl Remarks {
    fn push(&mut self, label: &str, what: impl Into<String>) {
        self.0.push(Remark { label: label.into(), what: what.into() });
    }
}

impl Labels {
    /// Reads the labels of a container, and says which of them are not followed.
    #[must_use]
    pub fn read(labels: &BTreeMap<String, String>) -> (Self, Vec<Remark>) {
        let mut read = Self::default();
        let mut remarks = Remarks::default();
        // Our own words come first; those of the other tool fill what they leave open.
        for (label, value) in labels {
            if let Some(word) = label.strip_prefix(PREFIX) {
                read.own(word, label, value, &mut remarks);
            }
        }
        for (label, value) in labels {
            if let Some(word) = label.strip_prefix(FOREIGN) {
                read.foreign(word, label, value, &mut remarks);
            }
        }
        read.pre = commands::read(labels, "lifeboat.pre", &mut remarks);
        read.post = commands::read(labels, "lifeboat.post", &mut remarks);
        if read.pre.is_empty() {
            read.pre = commands::read(labels, "docker-volume-backup.archive-pre", &mut remarks);
        }
        if read.post.is_empty() {
            read.post = commands::read(labels, "docker-volume-backup.archive-post", &mut remarks);
        }
        for command in &mut read.post {
            if command.holds {
                command.holds = false;
                remarks.push("lifeboat.post", "only `pre` commands can hold; it is run once");
            }
        }
        (read, remarks.0)
    }

    fn own(&mut self, word: &str, label: &str, value: &str, remarks: &mut Remarks) {
        match word {
            "exclude" => self.exclude = mounts(value),
            "include" => self.include = mounts(value),
            "stop" => self.want(Quiet::Stop, flag(label, value, remarks)),
            "pause" => self.want(Quiet::Pause, flag(label, value, remarks)),
            "recipe" => {
                let recipe = value.trim().to_ascii_lowercase();
                match crate::recipes::is_known(&recipe) {
                    true => self.recipe = Some(recipe),
                    false => {
                        let known = "postgresql, mariadb, redis, sqlite or none";
                        remarks.push(label, format!("`{value}` is no recipe; try {known}"));
                    }
                }
            }
            "group" if value.trim().is_empty() => remarks.push(label, "a group needs a name"),
            "group" => self.group = Some(value.trim().into()),
            "max-pause" => match duration(value) {
                Some(limit) if limit <= MAX_PAUSE_LIMIT && !limit.is_zero() => self.max_pause = Some(limit),
                _ => remarks.push(label, format!("`{value}` is no time from 1s to 24h; try 30s")),
            },
            "require-healthy" => self.require_healthy = flag(label, value, remarks) == Some(true),
            _ if OURS.iter().any(|ours| label.starts_with(ours)) => {}
            _ if commands::is_command(word) => {}
            _ => remarks.push(label, "is not known"),
        }
    }

    /// The stronger wish wins; `false` for both asks to leave it running.
    fn want(&mut self, quiet: Quiet, wanted: Option<bool>) {
        let wish = match wanted {
            Some(true) => quiet,
            Some(false) => Quiet::Leave,
            None => return,
        };
        self.quiet = Some(self.quiet.map_or(wish, |known| known.max(wish)));
    }

    fn foreign(&mut self, word: &str, label: &str, value: &str, remarks: &mut Remarks) {
        match word {
            "stop-during-backup" => match value.trim() {
                "" | "false" => {}
                "true" => self.quiet = Some(self.quiet.unwrap_or(Quiet::Stop)),
                group => {
                    self.quiet = Some(self.quiet.unwrap_or(Quiet::Stop));
                    self.group.get_or_insert_with(|| group.into());
                }
            },
            _ if word.starts_with("archive-pre") || word.starts_with("archive-post") => {}
            _ => remarks.push(label, "is docker-volume-backup's and not honoured"),
        }
    }
}

fn mounts(value: &str) -> Mounts {
    match value.trim() {
        "true" | "" => Mounts::All,
        "false" => Mounts::Nothing,
        list => Mounts::These(
            list.split(',').map(|name| name.trim().into()).filter(|name: &String| !name.is_empty()).collect(),
        ),
    }
}

fn flag(label: &str, value: &str, remarks: &mut Remarks) -> Option<bool> {
    match value.trim() {
        "true" | "" | "yes" | "1" => Some(true),
        "false" | "no" | "0" => Some(false),
        _ => {
            remarks.push(label, format!("`{value}` is neither true nor false"));
            None
        }
    }
}

/// Reads `30s`, `5m`, `2h`, `500ms`; a number alone is seconds.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let split = text.find(|symbol: char| !symbol.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().ok()?;
    let millis = match unit.trim() {
        "" | "s" => 1_000,
        "ms" => 1,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}
