//! What an engine says about itself and its objects, as plain values.
//!
//! Must stay true: nothing is lost, because each view keeps what it was made of in `raw`; nothing is guessed, a missing
//! word is empty; an answer of another shape never panics.

use serde_json::Value;
use std::collections::BTreeMap;

/// Labels and options: sorted, so that equal ones look equal.
pub type Words = BTreeMap<String, String>;

/// What an engine says about its versions.
#[derive(Debug, Clone, Default)]
pub struct EngineVersion {
    /// Of the engine: `28.5.2`.
    pub engine: String,
    /// The newest interface it speaks: `1.51`.
    pub api_newest: String,
    /// The oldest interface it speaks; empty where it does not say.
    pub api_least: String,
    /// `linux`.
    pub os: String,
    /// `amd64`.
    pub architecture: String,
    /// Whether podman pretends to be an engine.
    pub is_podman: bool,
    /// The answer as it came.
    pub raw: Value,
}

impl EngineVersion {
    pub(super) fn from_json(raw: Value) -> Self {
        let is_podman = list(&raw, "/Components").any(|part| text(part, "/Name").starts_with("Podman"));
        Self {
            engine: text(&raw, "/Version"),
            api_newest: text(&raw, "/ApiVersion"),
            api_least: text(&raw, "/MinAPIVersion"),
            os: text(&raw, "/Os"),
            architecture: text(&raw, "/Arch"),
            is_podman,
            raw,
        }
    }
}

/// What an engine says about itself.
#[derive(Debug, Clone, Default)]
pub struct EngineInfo {
    /// The engine's own identity.
    pub id: String,
    /// The machine's name.
    pub name: String,
    /// Where the engine keeps everything, in its own view of the file system.
    pub root: String,
    /// The storage driver: `overlay2`, or a snapshotter's name.
    pub driver: String,
    /// Whether images are kept by containerd's snapshotter.
    pub is_containerd_store: bool,
    /// Whether the engine runs without root.
    pub is_rootless: bool,
    /// Whether user ids of containers are shifted.
    pub is_userns_remapped: bool,
    /// `inactive`, `active` and so on.
    pub swarm: String,
    /// The answer as it came.
    pub raw: Value,
}

impl EngineInfo {
    pub(super) fn from_json(raw: Value) -> Option<Self> {
        let security = |name: &str| {
            list(&raw, "/SecurityOptions")
                .filter_map(Value::as_str)
                .any(|option| option.split(',').any(|part| part == format!("name={name}")))
        };
        let snapshotter = list(&raw, "/DriverStatus")
            .any(|pair| list(pair, "").filter_map(Value::as_str).any(|word| word.contains("snapshotter")));
        let info = Self {
            id: text(&raw, "/ID"),
            name: text(&raw, "/Name"),
            root: text(&raw, "/DockerRootDir"),
            driver: text(&raw, "/Driver"),
            is_containerd_store: snapshotter,
            is_rootless: security("rootless"),
            is_userns_remapped: security("userns"),
            swarm: text(&raw, "/Swarm/LocalNodeState"),
            raw,
        };
        (!info.id.is_empty()).then_some(info)
    }
}

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
    pub(super) fn from_json(raw: Value) -> Option<Self> {
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
    /// How long it may take to stop; `None` means the engine's default.
    pub stop_timeout_seconds: Option<i64>,
    /// Where the writable layer is, in the engine's view; empty where the store does not say.
    pub upper_directory: String,
    /// The answer as it came.
    pub raw: Value,
}

impl Container {
    pub(super) fn from_json(raw: Value) -> Option<Self> {
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
            stop_timeout_seconds: raw.pointer("/Config/StopTimeout").and_then(Value::as_i64),
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

/// A volume.
#[derive(Debug, Clone, Default)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// `local`, or a plugin's name.
    pub driver: String,
    /// Where it is, in the engine's view; empty where the driver does not say.
    pub mount_point: String,
    /// `local` or `global`.
    pub scope: String,
    /// Sorted.
    pub labels: Words,
    /// The driver's options; sorted.
    pub options: Words,
    /// The answer as it came.
    pub raw: Value,
}

impl Volume {
    pub(super) fn from_json(raw: Value) -> Option<Self> {
        let volume = Self {
            name: text(&raw, "/Name"),
            driver: text(&raw, "/Driver"),
            mount_point: text(&raw, "/Mountpoint"),
            scope: text(&raw, "/Scope"),
            labels: words(&raw, "/Labels"),
            options: words(&raw, "/Options"),
            raw,
        };
        (!volume.name.is_empty()).then_some(volume)
    }

    /// Whether the engine made the name: 64 hexadecimal digits.
    pub fn is_anonymous(&self) -> bool {
        self.labels.contains_key("com.docker.volume.anonymous")
            || (self.name.len() == 64 && self.name.bytes().all(|byte| byte.is_ascii_hexdigit()))
    }
}

/// An image.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// `sha256:` and 64 digits.
    pub id: String,
    /// `NAME:TAG`, without those of nobody.
    pub tags: Vec<String>,
    /// `NAME@sha256:…`.
    pub digests: Vec<String>,
    /// In bytes, as the engine counts.
    pub bytes: u64,
    /// Sorted.
    pub labels: Words,
    /// The answer as it came.
    pub raw: Value,
}

impl Image {
    pub(super) fn from_json(raw: Value) -> Option<Self> {
        let names = |pointer: &str| {
            list(&raw, pointer)
                .filter_map(Value::as_str)
                .filter(|name| !name.starts_with("<none>"))
                .map(str::to_owned)
                .collect()
        };
        // A list has the labels on top, `inspect` in the configuration.
        let place = if raw.get("Config").is_some() { "/Config/Labels" } else { "/Labels" };
        let image = Self {
            id: text(&raw, "/Id"),
            tags: names("/RepoTags"),
            digests: names("/RepoDigests"),
            bytes: number(&raw, "/Size"),
            labels: words(&raw, place),
            raw,
        };
        (!image.id.is_empty()).then_some(image)
    }
}

/// A network.
#[derive(Debug, Clone, Default)]
pub struct Network {
    /// The full id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `bridge`, `overlay` and so on.
    pub driver: String,
    /// Sorted.
    pub labels: Words,
    /// The answer as it came.
    pub raw: Value,
}

impl Network {
    pub(super) fn from_json(raw: Value) -> Option<Self> {
        let network = Self {
            id: text(&raw, "/Id"),
            name: text(&raw, "/Name"),
            driver: text(&raw, "/Driver"),
            labels: words(&raw, "/Labels"),
            raw,
        };
        (!network.id.is_empty()).then_some(network)
    }
}

pub(crate) fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn flag(value: &Value, pointer: &str) -> bool {
    value.pointer(pointer).and_then(Value::as_bool).unwrap_or_default()
}

pub(crate) fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}

pub(crate) fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

pub(crate) fn words(value: &Value, pointer: &str) -> Words {
    let map = value.pointer(pointer).and_then(Value::as_object);
    map.into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rootless_and_shifted_user_ids_are_read_from_the_security_options() {
        let info =
            |options: Value| EngineInfo::from_json(json!({"ID": "x", "SecurityOptions": options})).unwrap();
        let plain = info(json!(["name=apparmor", "name=seccomp,profile=default", "name=cgroupns"]));
        assert!(!plain.is_rootless && !plain.is_userns_remapped);
        assert!(info(json!(["name=seccomp,profile=default", "name=rootless"])).is_rootless);
        assert!(info(json!(["name=userns"])).is_userns_remapped);
        assert!(!info(Value::Null).is_rootless);
    }

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
