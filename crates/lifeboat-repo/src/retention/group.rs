//! Which snapshots are counted together.

use lifeboat_format::snapshot::Snapshot;
use std::str::FromStr;

/// What snapshots must have in common to be counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grouping {
    /// The name of the host.
    pub by_host: bool,
    /// All sources, by kind and name.
    pub by_source: bool,
    /// All tags.
    pub by_tags: bool,
}

impl Default for Grouping {
    fn default() -> Self {
        Self { by_host: true, by_source: true, by_tags: false }
    }
}

impl FromStr for Grouping {
    type Err = String;

    /// Reads `host,source,tags`; restic's `paths` is the same as `source`. The empty text makes one group of all.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut grouping = Self { by_host: false, by_source: false, by_tags: false };
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match word {
                "host" => grouping.by_host = true,
                "source" | "sources" | "path" | "paths" => grouping.by_source = true,
                "tag" | "tags" => grouping.by_tags = true,
                _ => return Err(format!("snapshots cannot be grouped by `{word}`; try host,source,tags")),
            }
        }
        Ok(grouping)
    }
}

/// What the snapshots of a group have in common; what is not grouped by is absent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey {
    /// Name of the host.
    pub host: Option<String>,
    /// Full names of the sources, sorted.
    pub sources: Option<Vec<Vec<u8>>>,
    /// The tags, sorted.
    pub tags: Option<Vec<String>>,
}

impl GroupKey {
    /// The group that a snapshot belongs to.
    pub fn of(snapshot: &Snapshot, grouping: Grouping) -> Self {
        fn sorted<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
            let mut items: Vec<T> = items.collect();
            items.sort();
            items.dedup();
            items
        }
        let sources = || sorted(snapshot.sources.iter().map(|source| source.full_name()));
        Self {
            host: grouping.by_host.then(|| snapshot.host.clone()),
            sources: grouping.by_source.then(sources),
            tags: grouping.by_tags.then(|| sorted(snapshot.tags.iter().cloned())),
        }
    }
}
