//! Compose's digests of services that share something with another container: its id is in what is digested, so that a
//! restored project, whose containers have new ids, needs new digests. `docs/format/project.md#digests`
//!
//! Must stay true: how compose writes a service down is its own affair, and changes. So a text counts only where its digest,
//! with the ids of now, is the one that compose put on the container: proven here, never assumed. Where it is not, the label
//! stays what it is, and compose makes that container anew.

use super::CONFIG_HASH;
use crate::engine::views::{Container, list, text};
use crate::facts::is_id;
use crate::versioned;
use lifeboat_format::hex;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What of a service compose leaves out of its digest.
const LEFT_OUT: &[&str] = &["build", "pull_policy", "scale", "depends_on", "profiles"];
/// Most of all texts that is kept: JSON in JSON may be twice as long.
const TEXTS_BYTES_MAX: usize = 4 << 20;

/// The texts of a project, by container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digests {
    /// 1; greater ones are refused.
    pub version: u32,
    /// Exactly what was digested, by the name of the container. Values of its environment are in it: never show it.
    pub containers: BTreeMap<String, String>,
}

impl Digests {
    /// What this program writes.
    pub const VERSION: u32 = 1;

    /// Reads one; nothing where it is none that this program knows.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        versioned::read(bytes, Self::VERSION).ok()
    }

    /// Finds them in what compose says of its files (`config --format json`), for the containers of a project.
    #[must_use]
    pub fn find(config: &str, containers: &[Container]) -> Self {
        let mut found = Self { version: Self::VERSION, ..Self::default() };
        let mut bytes = 0;
        // It doubles what begins the name of a variable.
        let compact = compact(&config.replace("$$", "$"));
        let Ok(Config { services: Members(services) }) = serde_json::from_str(&compact) else { return found };
        for container in containers.iter().filter(|container| shares(container)) {
            let (Some(service), Some(label)) =
                (container.labels.get(super::SERVICE), container.labels.get(CONFIG_HASH))
            else {
                continue;
            };
            let service = services.iter().find(|(name, _)| name == service);
            let digested = service.and_then(|(_, service)| digested(service.get(), &container.raw));
            let Some(text) = digested.filter(|text| digest(text) == *label) else { continue };
            bytes += text.len();
            if bytes <= TEXTS_BYTES_MAX {
                found.containers.insert(container.name.clone(), text);
            }
        }
        found
    }
}

/// Whether a container shares something with others by their ids.
#[must_use]
pub fn shares(container: &Container) -> bool {
    container.labels.contains_key(CONFIG_HASH) && !others(&container.raw).is_empty()
}

/// The digest that compose puts on a container.
#[must_use]
pub fn digest(text: &str) -> String {
    hex(&Sha256::digest(text))
}

/// The same text with other ids: `now` gives for each of a container's old ones the new one. `None` where one is not known.
pub fn with_ids_of_now(text: &str, raw: &Value, now: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let mut text = text.to_owned();
    for id in others(raw) {
        text = text.replace(&id, &now(&id)?);
    }
    Some(text)
}

/// The ids of containers that a container shares something with.
fn others(raw: &Value) -> BTreeSet<String> {
    let modes = ["NetworkMode", "IpcMode", "PidMode"].map(|mode| text(raw, &format!("/HostConfig/{mode}")));
    let modes = modes.into_iter().filter_map(|mode| Some(mode.strip_prefix("container:")?.to_owned()));
    let volumes = volumes_from(raw);
    modes.chain(volumes).filter(|word| is_id(word)).collect()
}

fn volumes_from(raw: &Value) -> impl Iterator<Item = String> {
    let volumes = list(raw, "/HostConfig/VolumesFrom").filter_map(Value::as_str);
    volumes.map(|word| word.split(':').next().unwrap_or_default().to_owned())
}

/// What compose digests of a service: without what is left out, and with ids for the names of services.
fn digested(service: &str, raw: &Value) -> Option<String> {
    let Members(members) = serde_json::from_str(service).ok()?;
    let mut kept = Vec::new();
    for (name, value) in &members {
        let value = match name.as_str() {
            name if LEFT_OUT.contains(&name) => continue,
            "deploy" => without_replicas(value.get())?,
            "network_mode" => mode(value, raw, "NetworkMode")?,
            "ipc" => mode(value, raw, "IpcMode")?,
            "pid" => mode(value, raw, "PidMode")?,
            "volumes_from" => serde_json::to_string(&volumes_from(raw).collect::<Vec<_>>()).ok()?,
            _ => value.get().to_owned(),
        };
        kept.push((name.as_str(), value));
    }
    Some(object(&kept))
}

/// What compose says in the place of `service:NAME`.
fn mode(value: &RawValue, raw: &Value, of: &str) -> Option<String> {
    let said: String = serde_json::from_str(value.get()).ok()?;
    match said.starts_with("service:") {
        true => serde_json::to_string(&text(raw, &format!("/HostConfig/{of}"))).ok(),
        false => Some(value.get().to_owned()),
    }
}

fn without_replicas(deploy: &str) -> Option<String> {
    let Members(members) = serde_json::from_str(deploy).ok()?;
    let kept = members.iter().filter(|(name, _)| name != "replicas");
    Some(object(&kept.map(|(name, value)| (name.as_str(), value.get().to_owned())).collect::<Vec<_>>()))
}

fn object(members: &[(&str, String)]) -> String {
    let members = members.iter().map(|(name, value)| format!("{}:{value}", Value::from(*name)));
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

/// JSON without the space between its parts; nothing else is touched.
fn compact(json: &str) -> String {
    let (mut is_text, mut is_escaped) = (false, false);
    let keep = |symbol: &char| {
        let keeps = is_text || !symbol.is_ascii_whitespace();
        if *symbol == '"' && !is_escaped {
            is_text = !is_text;
        }
        is_escaped = is_text && *symbol == '\\' && !is_escaped;
        keeps
    };
    json.chars().filter(keep).collect()
}

#[derive(Deserialize)]
struct Config<'c> {
    #[serde(borrow)]
    services: Members<'c>,
}

/// An object's members in their order, as they are written.
struct Members<'m>(Vec<(String, &'m RawValue)>);

impl<'de: 'm, 'm> Deserialize<'de> for Members<'m> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const CONFIG: &str = r#"{
      "name": "shop",
      "services": {
        "side": {
          "command": ["echo", "a \"b\\\" { c $$x"],
          "depends_on": {"db": {"condition": "service_started"}},
          "deploy": {"replicas": 1, "resources": {}},
          "image": "base",
          "network_mode": "service:db",
          "volumes_from": ["db"]
        }
      }
    }"#;

    fn side(db: &str, label: &str) -> Container {
        Container {
            name: "shop-side-1".into(),
            labels: [(super::super::SERVICE.into(), "side".into()), (CONFIG_HASH.into(), label.into())]
                .into(),
            raw: json!({"HostConfig": {"NetworkMode": format!("container:{db}"), "VolumesFrom": [format!("{db}:rw")]}}),
            ..Container::default()
        }
    }

    #[test]
    fn what_was_digested_is_found_and_follows_the_ids() {
        let (then, now) = ("a1".repeat(32), "b2".repeat(32));
        let text = |id: &str| {
            format!(
                r#"{{"command":["echo","a \"b\\\" {{ c $x"],"deploy":{{"resources":{{}}}},"image":"base","network_mode":"container:{id}","volumes_from":["{id}"]}}"#
            )
        };
        let container = side(&then, &digest(&text(&then)));
        assert!(shares(&container));
        let found = Digests::find(CONFIG, std::slice::from_ref(&container));
        assert_eq!(found.containers, [("shop-side-1".to_owned(), text(&then))].into());
        let written = serde_json::to_vec(&found).unwrap();
        assert_eq!(Digests::read(&written), Some(found));
        assert_eq!(Digests::read(br#"{"version": 2, "containers": {}}"#), None);
        let known = |id: &str| (id == then).then(|| now.clone());
        assert_eq!(with_ids_of_now(&text(&then), &container.raw, &known), Some(text(&now)));
        assert_eq!(with_ids_of_now(&text(&then), &container.raw, &|_| None), None);
    }

    #[test]
    fn what_has_another_digest_is_not_guessed_at() {
        let other = side(&"a1".repeat(32), &"00".repeat(32));
        for config in [CONFIG, "", "{}", r#"{"services": {"side": []}}"#, r#"{"services": {"side": {"#] {
            assert_eq!(Digests::find(config, std::slice::from_ref(&other)).containers, BTreeMap::new());
        }
        let alone = Container { raw: json!({"HostConfig": {"NetworkMode": "bridge"}}), ..other };
        assert!(!shares(&alone));
    }
}
