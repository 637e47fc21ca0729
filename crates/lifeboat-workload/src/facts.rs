//! What an engine says about one container, as far as quiescing it matters.
//!
//! Must stay true: this reads what `inspect` answered and asks nothing itself, so that whatever is decided from it can
//! be decided again in a test.
//! Read next: `readiness.rs`, `quiesce/plan.rs`.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// What a container is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Made, never started.
    Created,
    /// At work.
    Running,
    /// Frozen.
    Paused,
    /// Between two starts.
    Restarting,
    /// Ended.
    Exited,
    /// Being removed.
    Removing,
    /// Could not be removed.
    Dead,
}

impl State {
    fn read(text: &str) -> Option<Self> {
        serde_json::from_value(Value::String(text.into())).ok()
    }
}

/// What a health check last said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// There is no check.
    None,
    /// The start period is not over.
    Starting,
    /// It answers.
    Healthy,
    /// It failed too often.
    Unhealthy,
}

/// How a health check is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthCheck {
    /// Failures do not count before.
    pub start_period: Duration,
    /// From one check to the next.
    pub interval: Duration,
    /// What one check may take.
    pub timeout: Duration,
    /// So many failures in a row make it unhealthy.
    pub retries: u32,
}

/// A mount of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// `volume`, `bind`, `tmpfs` or what else the engine has.
    pub kind: String,
    /// The volume's name.
    pub name: Option<String>,
    /// The path on the engine's host.
    pub source: String,
    /// The path in the container.
    pub destination: String,
    /// Whether the container may write there.
    pub writable: bool,
}

/// One container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its id, 64 hexadecimal digits.
    pub id: String,
    /// Its name without the slash.
    pub name: String,
    /// The name of its image, as it was asked for.
    pub image: String,
    /// All of its labels.
    pub labels: BTreeMap<String, String>,
    /// What it is doing.
    pub state: State,
    /// When it was last started, in the engine's own words: compared, never calculated with.
    pub started_at: String,
    /// What it ended with.
    pub exit_code: i64,
    /// What its health check last said.
    pub health: Health,
    /// How that is made.
    pub health_check: Option<HealthCheck>,
    /// Whether the engine removes it when it ends.
    pub auto_remove: bool,
    /// `no`, `always`, `unless-stopped` or `on-failure`.
    pub restart_policy: String,
    /// The container whose network it uses, by id or name.
    pub network_of: Option<String>,
    /// Containers that it names otherwise: links, volumes, other namespaces.
    pub needs: Vec<String>,
    /// How long a stop waits, if it says so itself.
    pub stop_timeout: Option<Duration>,
    /// Its mounts.
    pub mounts: Vec<Mount>,
    /// Its addresses on the engine's networks.
    pub addresses: Vec<String>,
    /// The names it has there.
    pub aliases: Vec<String>,
    /// The ports of the host that lead to it.
    pub host_ports: Vec<u16>,
    /// The program and the arguments that it runs.
    pub command: Vec<String>,
    /// Its environment, `NAME=value`.
    pub environment: Vec<String>,
}

/// An answer that is not a container's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the engine describes a container without {0}")]
pub struct NotAContainer(pub &'static str);

impl Facts {
    /// Reads an answer of `inspect`.
    ///
    /// # Errors
    ///
    /// [`NotAContainer`] where what everything else rests on is missing; the rest may be missing.
    pub fn read(inspected: &Value) -> Result<Self, NotAContainer> {
        let text =
            |pointer: &str| inspected.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let needed = |pointer: &str, what| {
            Some(text(pointer)).filter(|text| !text.is_empty()).ok_or(NotAContainer(what))
        };
        let network_mode = text("/HostConfig/NetworkMode");
        let (addresses, aliases) = networks(inspected);
        Ok(Self {
            id: needed("/Id", "an id")?,
            name: needed("/Name", "a name")?.trim_start_matches('/').into(),
            image: text("/Config/Image"),
            labels: string_map(inspected.pointer("/Config/Labels")),
            state: State::read(&text("/State/Status")).ok_or(NotAContainer("a state"))?,
            started_at: text("/State/StartedAt"),
            exit_code: inspected.pointer("/State/ExitCode").and_then(Value::as_i64).unwrap_or_default(),
            health: match text("/State/Health/Status").as_str() {
                "starting" => Health::Starting,
                "healthy" => Health::Healthy,
                "unhealthy" => Health::Unhealthy,
                _ => Health::None,
            },
            health_check: health_check(inspected),
            auto_remove: inspected.pointer("/HostConfig/AutoRemove").and_then(Value::as_bool) == Some(true),
            restart_policy: text("/HostConfig/RestartPolicy/Name"),
            network_of: network_mode.strip_prefix("container:").map(Into::into),
            needs: needs(inspected),
            stop_timeout: inspected
                .pointer("/Config/StopTimeout")
                .and_then(Value::as_i64)
                // A negative one waits for ever; a day is as good, and ends.
                .map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(24 * 3600))),
            mounts: mounts(inspected),
            addresses,
            aliases,
            host_ports: host_ports(inspected),
            command: [text("/Path")].into_iter().chain(strings(inspected.pointer("/Args"))).collect(),
            environment: strings(inspected.pointer("/Config/Env")),
        })
    }

    /// The value of a label.
    #[must_use]
    pub fn label(&self, label: &str) -> Option<&str> {
        self.labels.get(label).map(String::as_str)
    }

    /// Whether a swarm made it, and would make another in its place.
    #[must_use]
    pub fn is_swarm(&self) -> bool {
        self.labels.contains_key("com.docker.swarm.task.id")
    }

    /// Whether lifeboat itself made it.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        crate::labels::OURS.iter().any(|label| self.labels.contains_key(*label))
    }

    /// Whether `word` means this container: an id, a beginning of one as the engine shortens it, or a name.
    #[must_use]
    pub fn is_called(&self, word: &str) -> bool {
        let word = word.trim_start_matches('/');
        self.name == word || self.id == word || (word.len() >= 12 && self.id.starts_with(word))
    }
}

/// Whether a text has the form of a container's id.
pub(crate) fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn strings(value: Option<&Value>) -> Vec<String> {
    let values = value.and_then(Value::as_array).into_iter().flatten();
    values.filter_map(Value::as_str).map(Into::into).collect()
}

fn string_map(value: Option<&Value>) -> BTreeMap<String, String> {
    let pairs = value.and_then(Value::as_object).into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

fn health_check(inspected: &Value) -> Option<HealthCheck> {
    let check = inspected.pointer("/Config/Healthcheck").filter(|check| check.is_object())?;
    let disabled = check.pointer("/Test/0").and_then(Value::as_str).is_none_or(|word| word == "NONE");
    let nanos = |name: &str, standard: u64| {
        let nanos = check.get(name).and_then(Value::as_u64).filter(|nanos| *nanos > 0);
        nanos.map_or(Duration::from_secs(standard), Duration::from_nanos)
    };
    (!disabled).then(|| HealthCheck {
        start_period: nanos("StartPeriod", 0),
        interval: nanos("Interval", 30),
        timeout: nanos("Timeout", 30),
        retries: check
            .get("Retries")
            .and_then(Value::as_u64)
            .filter(|retries| *retries > 0)
            .and_then(|retries| u32::try_from(retries).ok())
            .unwrap_or(3),
    })
}

/// Links are `/other:/this/alias`, volumes `other:ro`; namespaces `container:other`.
fn needs(inspected: &Value) -> Vec<String> {
    let before_colon =
        |text: String| text.split(':').next().unwrap_or_default().trim_start_matches('/').to_owned();
    let mut needs: Vec<String> =
        strings(inspected.pointer("/HostConfig/Links")).into_iter().map(before_colon).collect();
    needs.extend(strings(inspected.pointer("/HostConfig/VolumesFrom")).into_iter().map(before_colon));
    for mode in ["/HostConfig/PidMode", "/HostConfig/IpcMode"] {
        let mode = inspected.pointer(mode).and_then(Value::as_str).unwrap_or_default();
        needs.extend(mode.strip_prefix("container:").map(Into::into));
    }
    needs
}

fn mounts(inspected: &Value) -> Vec<Mount> {
    let mounts = inspected.pointer("/Mounts").and_then(Value::as_array).into_iter().flatten();
    mounts
        .map(|mount| {
            let text = |name: &str| mount.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            Mount {
                kind: text("Type"),
                name: Some(text("Name")).filter(|name| !name.is_empty()),
                source: text("Source"),
                destination: text("Destination"),
                writable: mount.get("RW").and_then(Value::as_bool).unwrap_or(true),
            }
        })
        .collect()
}

fn networks(inspected: &Value) -> (Vec<String>, Vec<String>) {
    let networks = inspected.pointer("/NetworkSettings/Networks").and_then(Value::as_object);
    let (mut addresses, mut aliases) = (Vec::new(), Vec::new());
    for endpoint in networks.into_iter().flatten().map(|(_, endpoint)| endpoint) {
        for name in ["IPAddress", "GlobalIPv6Address"] {
            let address = endpoint.get(name).and_then(Value::as_str).unwrap_or_default();
            if !address.is_empty() {
                addresses.push(address.to_owned());
            }
        }
        for name in ["Aliases", "DNSNames"] {
            aliases.extend(strings(endpoint.get(name)));
        }
    }
    (addresses, aliases)
}

fn host_ports(inspected: &Value) -> Vec<u16> {
    let ports = inspected.pointer("/NetworkSettings/Ports").and_then(Value::as_object);
    let bindings = ports.into_iter().flatten().filter_map(|(_, bindings)| bindings.as_array()).flatten();
    let ports = bindings.filter_map(|binding| binding.get("HostPort").and_then(Value::as_str));
    // In the host's own network nothing is published: what its image says that it listens at is all that is known.
    let in_host = inspected.pointer("/HostConfig/NetworkMode").and_then(Value::as_str) == Some("host");
    let exposed = inspected.pointer("/Config/ExposedPorts").and_then(Value::as_object).filter(|_| in_host);
    let exposed = exposed.into_iter().flatten().filter_map(|(port, _)| port.split('/').next());
    ports.chain(exposed).filter_map(|port| port.parse().ok()).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    /// A running container of which nothing else is known.
    pub(crate) fn running(name: &str) -> Facts {
        let id = blake(name);
        Facts::read(&json!({
            "Id": id, "Name": format!("/{name}"),
            "State": {"Status": "running", "StartedAt": "2026-01-01T00:00:00.5Z"},
        }))
        .unwrap()
    }

    /// 64 hexadecimal digits that belong to a name.
    fn blake(name: &str) -> String {
        let mut id: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
        id.push_str(&"0".repeat(64));
        id.truncate(64);
        id
    }

    #[test]
    fn what_inspect_says_is_read() {
        let facts = Facts::read(&json!({
            "Id": "ab12", "Name": "/api", "Path": "/bin/sh", "Args": ["-c", "true"],
            "State": {"Status": "paused", "StartedAt": "then", "ExitCode": 3, "Health": {"Status": "unhealthy"}},
            "Config": {"Image": "api:1", "Labels": {"a": "b"}, "StopTimeout": 20, "Env": ["A=B"],
                "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1_000_000_000u64, "Retries": 5}},
            "HostConfig": {"AutoRemove": true, "NetworkMode": "container:ffee", "PidMode": "container:aa",
                "RestartPolicy": {"Name": "always"}, "Links": ["/db:/api/db"], "VolumesFrom": ["data:ro"]},
            "Mounts": [{"Type": "volume", "Name": "v", "Source": "/s", "Destination": "/d", "RW": false}],
            "NetworkSettings": {"Networks": {"n": {"IPAddress": "172.17.0.2", "Aliases": ["api"]}},
                "Ports": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}], "81/tcp": null}},
        }))
        .unwrap();
        assert_eq!(facts.name, "api");
        assert_eq!((facts.state, facts.health, facts.exit_code), (State::Paused, Health::Unhealthy, 3));
        let check = facts.health_check.unwrap();
        assert_eq!(
            (check.interval, check.timeout, check.retries),
            (Duration::from_secs(1), Duration::from_secs(30), 5)
        );
        assert_eq!(facts.network_of.as_deref(), Some("ffee"));
        assert_eq!(facts.needs, ["db", "data", "aa"]);
        assert_eq!(facts.stop_timeout, Some(Duration::from_secs(20)));
        assert!(facts.auto_remove && !facts.mounts[0].writable);
        assert_eq!((facts.addresses, facts.host_ports), (vec!["172.17.0.2".to_owned()], vec![8080]));
        assert_eq!(facts.command, ["/bin/sh", "-c", "true"]);
    }

    #[test]
    fn what_listens_in_the_hosts_own_network_has_the_ports_that_it_exposes() {
        let with = |mode: &str| {
            let config = json!({"ExposedPorts": {"2375/tcp": {}}});
            host_ports(&json!({"Config": config, "HostConfig": {"NetworkMode": mode}}))
        };
        assert_eq!((with("host"), with("bridge")), (vec![2375], Vec::new()));
    }

    #[test]
    fn a_missing_id_name_or_state_is_no_container() {
        let whole = json!({"Id": "ab", "Name": "/a", "State": {"Status": "running"}});
        assert!(Facts::read(&whole).is_ok());
        for pointer in ["/Id", "/Name", "/State/Status"] {
            let mut part = whole.clone();
            *part.pointer_mut(pointer).unwrap() = json!(null);
            assert!(Facts::read(&part).is_err(), "{pointer}");
        }
        let mut odd = whole;
        *odd.pointer_mut("/State/Status").unwrap() = json!("dancing");
        assert_eq!(Facts::read(&odd), Err(NotAContainer("a state")));
    }

    #[test]
    fn a_disabled_check_is_none() {
        for test in [json!(["NONE"]), json!([]), json!(null)] {
            let check = json!({"Config": {"Healthcheck": {"Test": test}}});
            assert_eq!(health_check(&check), None);
        }
    }
}
