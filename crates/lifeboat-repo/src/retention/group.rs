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
    /// The compose projects of its volumes and containers.
    pub by_project: bool,
}

impl Default for Grouping {
    fn default() -> Self {
        Self { by_host: true, by_source: true, by_tags: false, by_project: false }
    }
}

impl FromStr for Grouping {
    type Err = String;

    /// Reads `host,source,tags,project`; restic's `paths` is the same as `source`. The empty text makes one group of all.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut grouping = Self { by_host: false, by_source: false, by_tags: false, by_project: false };
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match word {
                "host" => grouping.by_host = true,
                "source" | "sources" | "path" | "paths" => grouping.by_source = true,
                "tag" | "tags" => grouping.by_tags = true,
                "project" | "projects" => grouping.by_project = true,
                _ => {
                    return Err(format!(
                        "snapshots cannot be grouped by `{word}`; try host,source,tags,project"
                    ));
                }
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
    /// The compose projects of its volumes and containers, sorted; empty where there are none.
    pub projects: Option<Vec<String>>,
}

/// What compose calls the project of what it makes.
const PROJECT: &str = "com.docker.compose.project";

/// The project of a source, as its detail says: a volume's labels, or a container's own word. A detail that is no JSON has
/// none. `docs/format/snapshot.md#details`
fn project(detail: &str) -> Option<String> {
    let detail: serde_json::Value = serde_json::from_str(detail).ok()?;
    let project = detail["project"].as_str().or_else(|| detail["labels"][PROJECT].as_str())?;
    Some(project.to_owned())
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
            projects: grouping
                .by_project
                .then(|| sorted(snapshot.sources.iter().filter_map(|source| project(&source.detail)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_told_by_a_volumes_label_or_a_containers_word() {
        let shop = Some("shop".to_owned());
        assert_eq!(project(r#"{"driver":"local","labels":{"com.docker.compose.project":"shop"}}"#), shop);
        assert_eq!(project(r#"{"image":"web","project":"shop"}"#), shop);
        for other in
            ["", "{", "[]", r#"{"labels":null}"#, r#"{"labels":{"project":"x"}}"#, r#"{"project":7}"#]
        {
            assert_eq!(project(other), None, "{other}");
        }
        assert!("host,project".parse::<Grouping>().unwrap().by_project);
    }
}
