//! Containers, in a list and alone: what they do, what they mount, how they end.

use super::{Words, flag, list, number, text, words};
use serde_json::Value;

/// How a container's health check stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// `starting`, `healthy` or `unhealthy`.
    pub status: String,
    /// How many checks failed in a row.
    pub failing_streak: u64,
}

/// What a container is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited` or `dead`.
    pub status: String,
    /// Whether its process runs; true for a paused one too.
    pub is_running: bool,
    /// Whether its processes are frozen.
    pub is_paused: bool,
    /// Whether the engine is about to start it again.
    pub is_restarting: bool,
    /// The process's id in the engine's view; 0 without one.
    pub pid: u64,
    /// Of the last process.
    pub exit_code: i64,
    /// RFC 3339, with nanoseconds; it tells one run of a container from the next.
    pub started_at: String,
    /// RFC 3339, with nanoseconds.
    pub finished_at: String,
    /// `None` without a health check.
    pub health: Option<Health>,
}

/// One thing mounted into a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mount {
    /// `volume`, `bind`, `tmpfs`, or a word that is newer than this program.
    pub kind: String,
    /// The volume's name; empty for others.
    pub name: String,
    /// Where it is, in the engine's view.
    pub source: String,
    /// Where it is seen in the container.
    pub destination: String,
    /// The volume's driver; empty for others.
    pub driver: String,
    /// Whether the container may write.
    pub is_writable: bool,
}

impl Mount {
    fn from_json(raw: &Value) -> Self {
        Self {
            kind: text(raw, "/Type"),
            name: text(raw, "/Name"),
            source: text(raw, "/Source"),
            destination: text(raw, "/Destination"),
            driver: text(raw, "/Driver"),
            is_writable: flag(raw, "/RW"),
        }
    }
}

/// A container in a list.
#[derive(Debug, Clone, Default)]
pub struct ContainerSummary {
    /// The full id.
    pub id: String,
    /// Without the slash; empty while it is being removed.
    pub name: String,
    /// The image as it was asked for.
    pub image: String,
    /// As in [`State::status`].
    pub status: String,
    /// Sorted.
    pub labels: Words,
    /// Volumes, binds and the like.
    pub mounts: Vec<Mount>,
    /// The answer as it came.
    pub raw: Value,
}

impl ContainerSummary {
    pub(in crate::engine) fn from_json(raw: Value) -> Option<Self> {
        // A link's alias is among the names too: `/other/alias`.
        let own = list(&raw, "/Names")
            .filter_map(Value::as_str)
            .map(|name| name.trim_start_matches('/'))
            .find(|name| !name.contains('/'))
            .unwrap_or_default()
            .to_owned();
        let summary = Self {
            id: text(&raw, "/Id"),
            name: own,
            image: text(&raw, "/Image"),
            status: text(&raw, "/State"),
            labels: words(&raw, "/Labels"),
            mounts: list(&raw, "/Mounts").map(Mount::from_json).collect(),
            raw,
        };
        (!summary.id.is_empty()).then_some(summary)
    }
}

/// A container as `inspect` shows it.
#[derive(Debug, Clone, Default)]
pub struct Container {
    /// The full id.
    pub id: String,
    /// Without the slash.
    pub name: String,
    /// The image as it was asked for.
    pub image: String,
    /// The image's id.
    pub image_id: String,
    /// What it is doing.
    pub state: State,
    /// Sorted.
    pub labels: Words,
    /// Volumes, binds and the like.
    pub mounts: Vec<Mount>,
    /// Whether the engine removes it when it stops.
    pub is_auto_removed: bool,
    /// `no`, `always`, `unless-stopped`, `on-failure`.
    pub restart_policy: String,
    /// `bridge`, `host`, `container:ID` and so on.
    pub network_mode: String,
    /// What stops it; empty means `SIGTERM`.
    pub stop_signal: String,
    /// Where the writable layer is, in the engine's view; empty where the store does not say.
    pub upper_directory: String,
    /// The answer as it came.
    pub raw: Value,
}

impl Container {
    pub(in crate::engine) fn from_json(raw: Value) -> Option<Self> {
        let container = Self {
            id: text(&raw, "/Id"),
            name: text(&raw, "/Name").trim_start_matches('/').to_owned(),
            image: text(&raw, "/Config/Image"),
            image_id: text(&raw, "/Image"),
            state: state(&raw),
            labels: words(&raw, "/Config/Labels"),
            mounts: list(&raw, "/Mounts").map(Mount::from_json).collect(),
            is_auto_removed: flag(&raw, "/HostConfig/AutoRemove"),
            restart_policy: text(&raw, "/HostConfig/RestartPolicy/Name"),
            network_mode: text(&raw, "/HostConfig/NetworkMode"),
            stop_signal: text(&raw, "/Config/StopSignal"),
            upper_directory: text(&raw, "/GraphDriver/Data/UpperDir"),
            raw,
        };
        (!container.id.is_empty()).then_some(container)
    }

    /// Whether there is a health check that is not switched off.
    pub fn has_health_check(&self) -> bool {
        list(&self.raw, "/Config/Healthcheck/Test").next().is_some_and(|word| word != "NONE")
    }
}

fn state(raw: &Value) -> State {
    let health = raw.pointer("/State/Health").filter(|health| health.is_object());
    State {
        status: text(raw, "/State/Status"),
        is_running: flag(raw, "/State/Running"),
        is_paused: flag(raw, "/State/Paused"),
        is_restarting: flag(raw, "/State/Restarting"),
        pid: number(raw, "/State/Pid"),
        exit_code: raw.pointer("/State/ExitCode").and_then(Value::as_i64).unwrap_or_default(),
        started_at: text(raw, "/State/StartedAt"),
        finished_at: text(raw, "/State/FinishedAt"),
        health: health
            .map(|health| Health {
                status: text(health, "/Status"),
                failing_streak: number(health, "/FailingStreak"),
            })
            .filter(|health| health.status != "none"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_unknown_word_or_a_missing_field_loses_nothing_else() {
        let raw = json!({
            "Id": "c1", "Name": "/web", "State": {"Status": "dreaming", "Health": {"Status": "none"}},
            "Mounts": [{"Type": "hologram", "Destination": "/x"}], "HostConfig": {}, "Config": {"Labels": null},
        });
        let container = Container::from_json(raw.clone()).unwrap();
        assert_eq!((container.name.as_str(), container.state.status.as_str()), ("web", "dreaming"));
        assert_eq!(container.state.health, None);
        assert_eq!(container.mounts[0].kind, "hologram");
        assert_eq!(container.raw, raw);
        for shape in [json!(null), json!([]), json!({"Id": 4}), json!("x")] {
            assert!(Container::from_json(shape).is_none());
        }
    }

    #[test]
    fn a_links_alias_is_not_taken_for_the_containers_name() {
        let raw = json!({"Id": "c1", "Names": ["/api/db", "/pg"]});
        assert_eq!(ContainerSummary::from_json(raw).unwrap().name, "pg");
    }
}
