//! What an engine says about its release and itself.

use super::{list, text};
use serde_json::Value;

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
    pub(in crate::engine) fn from_json(raw: Value) -> Self {
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
    pub(in crate::engine) fn from_json(raw: Value) -> Option<Self> {
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
}
