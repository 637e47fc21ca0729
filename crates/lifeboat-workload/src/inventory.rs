//! What is on an engine, and what of it a snapshot would hold.
//!
//! Must stay true: nothing on the engine is changed or made to look at it; whatever would be lost is said beside what
//! would lose it. What a snapshot holds already is for the caller to add, who knows a repository.

use crate::engine::views::{Container, EngineInfo, Mount, Volume};
use crate::engine::{Engine, Error};
use crate::labels::{Labels, OURS};
use crate::policy::Policy;
use crate::volume::{is_tmpfs, not_plain};

/// What the engine writes on the containers of its swarm.
const SWARM_TASK_LABEL: &str = "com.docker.swarm.task.id";

/// What is on an engine.
#[derive(Debug)]
pub struct Inventory {
    /// The engine.
    pub info: EngineInfo,
    /// Sorted by name.
    pub volumes: Vec<VolumeItem>,
    /// Sorted by name; without lifeboat's own.
    pub containers: Vec<ContainerItem>,
}

/// A volume, and what there is to say about it.
#[derive(Debug)]
pub struct VolumeItem {
    /// The volume.
    pub volume: Volume,
    /// How much it holds; `None` where the engine does not know.
    pub bytes: Option<u64>,
    /// The containers that mount it, running or not.
    pub users: Vec<String>,
    /// What would be lost or slow.
    pub remarks: Vec<String>,
}

/// A container, and what there is to say about it.
#[derive(Debug)]
pub struct ContainerItem {
    /// The container.
    pub container: Container,
    /// What would be lost or left alone.
    pub remarks: Vec<String>,
}

impl Inventory {
    /// Looks at an engine, with what a policy file says of its containers.
    pub fn take(engine: &Engine, policy: &Policy) -> Result<Self, Error> {
        let info = engine.info()?;
        let mut containers = Vec::new();
        for summary in engine.containers(&[])? {
            if OURS.iter().any(|label| summary.labels.contains_key(*label)) {
                continue;
            }
            match engine.container(&summary.id) {
                Ok(container) => {
                    containers.push(ContainerItem { remarks: of_container(&container, policy), container })
                }
                // It went while we looked.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        containers.sort_by(|left, right| left.container.name.cmp(&right.container.name));
        let sizes = engine.volume_bytes()?;
        let mut volumes: Vec<VolumeItem> = engine
            .volumes(&[])?
            .into_iter()
            .map(|volume| VolumeItem {
                bytes: sizes.get(&volume.name).copied(),
                users: users_of(&volume, &containers),
                remarks: of_volume(&volume),
                volume,
            })
            .collect();
        volumes.sort_by(|left, right| left.volume.name.cmp(&right.volume.name));
        Ok(Self { info, volumes, containers })
    }
}

fn users_of(volume: &Volume, containers: &[ContainerItem]) -> Vec<String> {
    let mounts_it = |item: &&ContainerItem| {
        item.container.mounts.iter().any(|mount| mount.kind == "volume" && mount.name == volume.name)
    };
    containers.iter().filter(mounts_it).map(|item| item.container.name.clone()).collect()
}

fn of_volume(volume: &Volume) -> Vec<String> {
    if is_tmpfs(volume) {
        return vec!["tmpfs: it holds something only while a container uses it".to_owned()];
    }
    not_plain(volume).map(|why| format!("read through the engine: {why}")).into_iter().collect()
}

fn of_container(container: &Container, policy: &Policy) -> Vec<String> {
    let (labels, remarks) = Labels::read(&policy.labels(&container.name, &container.labels));
    let mut found: Vec<String> =
        container.mounts.iter().filter_map(|mount| of_mount(mount, &labels)).collect();
    // tmpfs of `--tmpfs` is not among the mounts.
    let tmpfs = container.raw.pointer("/HostConfig/Tmpfs").and_then(serde_json::Value::as_object);
    found.extend(tmpfs.into_iter().flatten().map(|(place, _)| format!("{place}: tmpfs, in no snapshot")));
    if container.is_auto_removed {
        found.push("removed when it stops: never stopped by lifeboat".to_owned());
    }
    if container.labels.contains_key(SWARM_TASK_LABEL) {
        found.push("a task of a swarm: never stopped by lifeboat".to_owned());
    }
    found.extend(remarks.iter().map(ToString::to_string));
    found
}

fn of_mount(mount: &Mount, labels: &Labels) -> Option<String> {
    let name = Some(if mount.name.is_empty() { mount.source.as_str() } else { mount.name.as_str() });
    let place = &mount.destination;
    if labels.exclude.name(name, place) {
        return Some(format!("{place}: left out by its label, or the policy file"));
    }
    match mount.kind.as_str() {
        "volume" => None,
        "bind" => Some(format!("{place}: bound from {}", mount.source)),
        "tmpfs" => Some(format!("{place}: tmpfs, in no snapshot")),
        kind => Some(format!("{place}: a mount of kind `{kind}`, in no snapshot")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::views::Words;
    use serde_json::json;

    fn mount(kind: &str, name: &str, source: &str, destination: &str) -> Mount {
        Mount {
            kind: kind.into(),
            name: name.into(),
            source: source.into(),
            destination: destination.into(),
            ..Mount::default()
        }
    }

    #[test]
    fn what_would_be_lost_is_said_beside_what_would_lose_it() {
        let container = Container {
            mounts: vec![
                mount("volume", "data", "", "/data"),
                mount("volume", "cache", "", "/cache"),
                mount("bind", "", "/srv/x", "/x"),
                mount("tmpfs", "", "", "/run"),
                mount("cluster", "", "", "/c"),
            ],
            labels: Words::from([("lifeboat.exclude".into(), "/cache".into())]),
            is_auto_removed: true,
            raw: json!({"HostConfig": {"Tmpfs": {"/scratch": ""}}}),
            ..Container::default()
        };
        let remarks = of_container(&container, &Policy::default());
        let says = |word: &str| remarks.iter().filter(|remark| remark.contains(word)).count();
        assert_eq!(says("/data"), 0, "{remarks:?}");
        for word in
            ["/cache: left out", "/x: bound from /srv/x", "/run: tmpfs", "/scratch: tmpfs", "`cluster`"]
        {
            assert_eq!(says(word), 1, "{word} {remarks:?}");
        }
        assert_eq!(says("removed when it stops"), 1);
    }
}
