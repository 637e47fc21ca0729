//! From a description to the request that makes the same container.
//!
//! Must stay true: what an engine describes is what it was asked for, with what it added itself; only that is taken off
//! again, and only where keeping it would be refused or would mean something else. What is not known is passed on as it is.

use super::Error;
use super::recorded::Recorded;
use crate::engine::ApiVersion;
use crate::engine::views::{list, text};
use crate::facts::is_id;
use serde_json::{Map, Value, json};

/// From here on a container is put into several networks when it is made, and has a MAC address in each.
pub(super) const SEVERAL_NETWORKS: ApiVersion = ApiVersion::new(1, 44);
/// From here on a network can be preferred for the way out.
const GATEWAY_PRIORITY: ApiVersion = ApiVersion::new(1, 48);
/// What engines hide from containers that ask for nothing else. A list of only these is the engine's own, and a newer
/// engine's is longer.
const HIDDEN_BY_ENGINES: [&str; 17] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/bus",
    "/proc/fs",
    "/proc/interrupts",
    "/proc/irq",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/sys",
    "/proc/sysrq-trigger",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// A container whose network, memory, processes or volumes another one uses: its id now, by its id or name then.
pub type Others<'o> = dyn Fn(&str) -> Option<String> + 'o;

/// What an engine is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The body of the request that makes it. It holds the environment: never show it.
    pub body: Value,
    /// Networks to put it into afterwards, and how.
    pub connect: Vec<(String, Value)>,
    /// Networks to take it out of again: it had left them.
    pub disconnect: Vec<String>,
}

/// How a container is in the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkMode {
    /// The engine's own: nothing has to be there.
    Host,
    /// None at all.
    None,
    /// Another container's.
    Of(String),
    /// In networks; the first by this name.
    Networks(String),
}

impl Recorded {
    /// How it is in the network.
    pub fn network_mode(&self) -> NetworkMode {
        let mode = text(&self.raw, "/HostConfig/NetworkMode");
        match mode.as_str() {
            "host" => NetworkMode::Host,
            "none" => NetworkMode::None,
            "" | "default" | "bridge" => NetworkMode::Networks("bridge".into()),
            mode => match mode.strip_prefix("container:") {
                Some(other) => NetworkMode::Of(other.to_owned()),
                None => NetworkMode::Networks(self.network_of_id(mode).unwrap_or_else(|| mode.to_owned())),
            },
        }
    }

    /// The name of a network that is given by its id.
    fn network_of_id(&self, id: &str) -> Option<String> {
        let mut endpoints = self.endpoints();
        endpoints.find(|(_, endpoint)| text(endpoint, "/NetworkID") == id).map(|(name, _)| name.clone())
    }

    /// Its networks, by name.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.raw.pointer("/NetworkSettings/Networks").and_then(Value::as_object).into_iter().flatten()
    }
}

/// The request for a container as it was, made from the image that `image` names.
pub fn request(
    recorded: &Recorded,
    image: &str,
    api: ApiVersion,
    others: &Others<'_>,
) -> Result<Request, Error> {
    let mode = recorded.network_mode();
    let mut body = configuration(recorded, image, &mode, api);
    body.insert("HostConfig".into(), Value::Object(host_configuration(recorded, &mode, others)?));
    let NetworkMode::Networks(first) = mode else {
        return Ok(Request { body: Value::Object(body), connect: Vec::new(), disconnect: Vec::new() });
    };
    let endpoints: Vec<(String, Value)> = recorded
        .endpoints()
        .map(|(name, endpoint)| (name.clone(), endpoint_request(recorded, endpoint, *name == first, api)))
        .collect();
    let has_left = !endpoints.is_empty() && !endpoints.iter().any(|(name, _)| *name == first);
    let (endpoints, later): (Vec<_>, Vec<_>) =
        endpoints.into_iter().partition(|(name, _)| api >= SEVERAL_NETWORKS || *name == first);
    let at_once: Map<String, Value> = endpoints.into_iter().collect();
    body.insert("NetworkingConfig".into(), json!({"EndpointsConfig": at_once}));
    let disconnect = if has_left { vec![first] } else { Vec::new() };
    Ok(Request { body: Value::Object(body), connect: later, disconnect })
}

fn object(value: &Value, pointer: &str) -> Map<String, Value> {
    value.pointer(pointer).and_then(Value::as_object).cloned().unwrap_or_default()
}

fn configuration(
    recorded: &Recorded,
    image: &str,
    mode: &NetworkMode,
    api: ApiVersion,
) -> Map<String, Value> {
    let mut config = object(&recorded.raw, "/Config");
    config.insert("Image".into(), Value::from(image));
    let is_of_other = matches!(mode, NetworkMode::Of(_));
    let hostname = config.get("Hostname").and_then(Value::as_str).unwrap_or_default();
    let is_hosts = text(&recorded.raw, "/HostConfig/UTSMode") == "host";
    if is_of_other || is_hosts || recorded.id.get(..12) == Some(hostname) {
        // The engine gives the beginning of the id; with another's network it gives the other's, with the host's name that.
        config.remove("Hostname");
    }
    if is_of_other {
        // Refused there; what the image exposes is added again.
        config.remove("Domainname");
        config.remove("ExposedPorts");
    }
    if api >= SEVERAL_NETWORKS {
        // It stands in the endpoint.
        config.remove("MacAddress");
    }
    let is_empty = |value: Option<&Value>| value.and_then(Value::as_array).is_none_or(Vec::is_empty);
    if is_empty(config.get("Entrypoint")) && !is_empty(recorded.image.pointer("/Config/Entrypoint")) {
        // None at all would mean the image's.
        config.insert("Entrypoint".into(), json!([""]));
    }
    config
}

fn host_configuration(
    recorded: &Recorded,
    mode: &NetworkMode,
    others: &Others<'_>,
) -> Result<Map<String, Value>, Error> {
    let mut host = object(&recorded.raw, "/HostConfig");
    host.remove("ContainerIDFile");
    for (field, what) in [("NetworkMode", "network"), ("IpcMode", "memory"), ("PidMode", "processes")] {
        let value = host.get(field).and_then(Value::as_str).unwrap_or_default();
        if let Some(other) = value.strip_prefix("container:") {
            let now = others(other).ok_or_else(|| Error::NoOther { what, other: other.to_owned() })?;
            host.insert(field.into(), Value::from(format!("container:{now}")));
        }
    }
    if let NetworkMode::Networks(first) = mode
        && first != "bridge"
    {
        // A network made anew has another id.
        host.insert("NetworkMode".into(), Value::from(first.as_str()));
    }
    if let Some(Value::Array(links)) = host.get_mut("Links") {
        links.iter_mut().for_each(|link| *link = Value::from(asked_link(link.as_str().unwrap_or_default())));
    }
    if let Some(Value::Array(from)) = host.get_mut("VolumesFrom") {
        for one in from {
            let text = one.as_str().unwrap_or_default();
            let (other, mode) =
                text.split_once(':').map_or((text, None), |(other, mode)| (other, Some(mode)));
            let now =
                others(other).ok_or_else(|| Error::NoOther { what: "volumes", other: other.to_owned() })?;
            // A name is as good as before; an id is another container's now.
            let now = if is_id(other) { now } else { other.to_owned() };
            *one = Value::from(mode.map_or(now.clone(), |mode| format!("{now}:{mode}")));
        }
    }
    for field in ["MaskedPaths", "ReadonlyPaths"] {
        let paths = host.get(field).and_then(Value::as_array);
        let is_engines = |path: &Value| path.as_str().is_some_and(|path| HIDDEN_BY_ENGINES.contains(&path));
        if paths.is_some_and(|paths| !paths.is_empty() && paths.iter().all(is_engines)) {
            host.remove(field);
        }
    }
    Ok(host)
}

/// `/other:/this/alias` was asked for as `other:alias`.
fn asked_link(described: &str) -> String {
    let (other, alias) = described.split_once(':').unwrap_or((described, described));
    let alias = alias.rsplit('/').next().unwrap_or(alias);
    format!("{}:{alias}", other.trim_start_matches('/'))
}

fn endpoint_request(recorded: &Recorded, endpoint: &Value, is_first: bool, api: ApiVersion) -> Value {
    let mut asked = Map::new();
    for field in ["IPAMConfig", "Links", "DriverOpts"] {
        let value = endpoint.get(field).filter(|value| match value {
            Value::Object(_) => true,
            Value::Array(list) => !list.is_empty(),
            _ => false,
        });
        if let Some(value) = value {
            asked.insert(field.into(), value.clone());
        }
    }
    let aliases: Vec<&str> = list(endpoint, "/Aliases").filter_map(Value::as_str).collect();
    // Older engines add the beginning of the id, and with it the host's name.
    let short = recorded.id.get(..12).unwrap_or_default();
    let hostname = Some(text(&recorded.raw, "/Config/Hostname")).filter(|_| aliases.contains(&short));
    let is_own = |alias: &&str| *alias != short && hostname.as_deref() != Some(*alias);
    let aliases: Vec<Value> = aliases.into_iter().filter(is_own).map(Value::from).collect();
    if !aliases.is_empty() {
        asked.insert("Aliases".into(), Value::Array(aliases));
    }
    let priority = endpoint.get("GwPriority").and_then(Value::as_i64).unwrap_or_default();
    if priority != 0 && api >= GATEWAY_PRIORITY {
        asked.insert("GwPriority".into(), Value::from(priority));
    }
    // An endpoint's own shows the engine's too; only this one was asked for.
    let mac = text(&recorded.raw, "/Config/MacAddress");
    if is_first && api >= SEVERAL_NETWORKS && !mac.is_empty() {
        asked.insert("MacAddress".into(), Value::from(mac));
    }
    Value::Object(asked)
}
