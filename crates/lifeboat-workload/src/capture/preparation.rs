//! What is done to one container for a capture: the one place where labels, or what is known of a database, become that.
//!
//! Must stay true: what a label says counts before what is known otherwise; what is claimed here is a text about what was
//! found, and never about what is hoped.

use crate::engine::Engine;
use crate::facts::{Facts, Mount};
use crate::labels::{Command, Labels, Quiet};
use crate::recipes::{self, Kind, Patient, Recipe};
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

/// What is done to a container.
#[derive(Debug, Clone)]
pub struct Preparation {
    /// How quiet it becomes.
    pub quiet: Quiet,
    /// How long it may be paused, if something says so.
    pub max_pause: Option<Duration>,
    /// Whether it is a database, which takes its time to stop.
    pub is_database: bool,
    /// Commands before the capture, in their order; those that hold begin last, and let go once nothing is paused.
    pub pre: Vec<Command>,
    /// Commands after it, in their order; they are run whatever happens.
    pub post: Vec<Command>,
    /// What the snapshot says of this container's moment besides how it was made quiet: a JSON object, or nothing.
    pub claim: Value,
    /// What weakens the claim: shown, and kept in the snapshot.
    pub warnings: Vec<String>,
    /// What is done about its database, if it has one.
    pub recipe: Option<Recipe>,
}

impl Preparation {
    /// What is done to a container that is ready, so that its database can be asked. `folder` finds a mount on disk.
    pub(super) fn of(
        engine: &Engine,
        facts: &Facts,
        labels: &Labels,
        folder: &dyn Fn(&Mount) -> Option<PathBuf>,
    ) -> Self {
        let by_labels = Self::by_labels(facts, labels);
        let Some(recipe) = recipes::choose(&Patient { engine, facts, labels, folder }) else {
            return by_labels;
        };
        Self {
            quiet: recipe.quiet(),
            is_database: by_labels.is_database || recipe.kind != Kind::Sqlite,
            claim: recipe.record(None),
            warnings: recipe.warnings.clone(),
            recipe: Some(recipe),
            ..by_labels
        }
    }

    /// What its labels ask alone.
    #[must_use]
    pub fn by_labels(facts: &Facts, labels: &Labels) -> Self {
        Self {
            quiet: labels.quiet.unwrap_or(Quiet::Pause),
            max_pause: labels.max_pause,
            is_database: looks_like_a_database(facts),
            pre: labels.pre.clone(),
            post: labels.post.clone(),
            claim: Value::Null,
            warnings: Vec::new(),
            recipe: None,
        }
    }
}

/// Whether a stop should be given a database's time: by its program or its image.
pub(super) fn looks_like_a_database(facts: &Facts) -> bool {
    const WORDS: &[&str] =
        &["postgres", "mysqld", "mariadbd", "mariadb", "mysql", "redis", "valkey", "mongod", "mongo", "etcd"];
    let image = facts.image.rsplit('/').next().unwrap_or_default();
    let image = image.split([':', '@']).next().unwrap_or_default();
    let program = facts.command.first().map(|path| path.rsplit('/').next().unwrap_or_default());
    WORDS
        .iter()
        .any(|word| image.starts_with(word) || program.is_some_and(|program| program.starts_with(word)))
}
