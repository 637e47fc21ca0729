//! What compose has to be told besides its files, where a project has another name: a file that goes behind them.
//!
//! Must stay true: with it `up` makes nothing of the first project's: no volume, folder, address, port or name of it. What
//! compose made itself has the key of its files on it; everything else is told by the place where a container sees it, so
//! that no file of compose has to be understood for it.

use super::description::Description;
use super::rename::Renaming;
use super::{SERVICE, ports};
use crate::engine::views::{Words, list, text, words};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// On volumes: their key in compose's files.
const VOLUME: &str = "com.docker.compose.volume";
/// On networks: the same.
const NETWORK: &str = "com.docker.compose.network";

/// A container of the project.
#[derive(Debug)]
pub struct Made<'m> {
    /// The engine's description of the first one.
    pub then: &'m Value,
    /// The same, as it was changed.
    pub now: &'m Value,
    /// What it is in, by the names of now.
    pub networks: &'m Map<String, Value>,
}

/// The file; `volumes` are the labels of those that were made, by their names.
pub fn override_file(
    description: &Description,
    renaming: &Renaming,
    volumes: &BTreeMap<String, Words>,
    members: &[Made<'_>],
) -> String {
    let mut file = File::default();
    for volume in description.volumes.iter().filter(|volume| !volume.external) {
        let name = renaming.volume(&volume.name);
        if let Some(key) = volumes.get(name).and_then(|labels| labels.get(VOLUME)) {
            file.volumes.insert(name.to_owned(), (key.clone(), Whose::Own));
        }
    }
    let own = description.networks.iter().filter(|network| !network.external);
    let own: BTreeSet<&str> = own.map(|network| renaming.network(&network.name)).collect();
    for (name, described) in members.iter().flat_map(|member| member.networks) {
        let key = words(described, "/Labels").remove(NETWORK).filter(|_| own.contains(name.as_str()));
        if let Some(key) = key {
            file.networks.insert(name.clone(), (key, Whose::Own));
        }
    }
    let mut services: BTreeMap<String, Vec<&Made<'_>>> = BTreeMap::new();
    for member in members {
        let service = words(member.now, "/Config/Labels").remove(SERVICE);
        services.entry(service.unwrap_or_default()).or_default().push(member);
    }
    services.remove("");
    let mut told = BTreeMap::new();
    for (service, all) in &services {
        let lines = file.service(description, service, all);
        if !lines.is_empty() {
            told.insert(service.as_str(), lines);
        }
    }
    file.text(description, renaming, &told)
}

/// Whose a volume or network is, to compose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Own,
    External,
}

/// Volumes and networks: their keys, by their names.
#[derive(Debug, Default)]
struct File {
    volumes: BTreeMap<String, (String, Whose)>,
    networks: BTreeMap<String, (String, Whose)>,
}

impl File {
    /// What is said of a service.
    fn service(&mut self, description: &Description, service: &str, all: &[&Made<'_>]) -> Vec<String> {
        let mut lines = Vec::new();
        // Several have no name of their own.
        if let [one] = all {
            let default = format!("{}-{service}-", description.name);
            let name = text(one.then, "/Name");
            let number = name.trim_start_matches('/').strip_prefix(&default);
            if !number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit())) {
                let now = text(one.now, "/Name");
                lines.push(format!("container_name: {}", Value::from(now.trim_start_matches('/'))));
            }
        }
        let Some(one) = all.first() else { return lines };
        let inner = ports::inner(one.now);
        if !inner.is_empty() {
            lines.push(format!("ports: !override {}", json!(inner)));
        }
        if has_static_address(one.then) {
            lines.push(format!("networks: !override {}", self.networks_of(service, one)));
        }
        let places = self.places(description, one);
        if !places.is_empty() {
            lines.push(format!("volumes: {}", Value::from(places)));
        }
        lines
    }

    /// The networks of a service, without addresses.
    fn networks_of(&mut self, service: &str, one: &Made<'_>) -> Value {
        let endpoints = one.now.pointer("/NetworkSettings/Networks").and_then(Value::as_object);
        let id = text(one.then, "/Id");
        let own_words =
            [text(one.now, "/Name").trim_start_matches('/'), service, id.get(..12).unwrap_or_default()]
                .map(str::to_owned);
        let first = text(one.now, "/HostConfig/NetworkMode");
        let mut told = Map::new();
        for (name, endpoint) in endpoints.into_iter().flatten() {
            let mut said = Map::new();
            let aliases = list(endpoint, "/Aliases").filter_map(Value::as_str);
            let aliases: Vec<&str> =
                aliases.filter(|alias| !own_words.iter().any(|word| word == alias)).collect();
            if !aliases.is_empty() {
                said.insert("aliases".into(), json!(aliases));
            }
            let options = words(endpoint, "/DriverOpts");
            if !options.is_empty() {
                said.insert("driver_opts".into(), json!(options));
            }
            let gateway = endpoint.get("GwPriority").filter(|priority| priority.as_i64().unwrap_or(0) != 0);
            said.extend(gateway.map(|priority| ("gw_priority".to_owned(), priority.clone())));
            if *name == first {
                said.insert("priority".into(), json!(1));
            }
            let (key, _) =
                self.networks.entry(name.clone()).or_insert_with(|| (name.clone(), Whose::External));
            told.insert(key.clone(), Value::Object(said));
        }
        Value::Object(told)
    }

    /// What a service mounts that compose's files have somewhere else, each by where it is seen.
    fn places(&mut self, description: &Description, one: &Made<'_>) -> Vec<Value> {
        let mut told = Vec::new();
        let changed = |pointer| list(one.then, pointer).zip(list(one.now, pointer));
        for (_, now) in changed("/HostConfig/Binds").filter(|(then, now)| then != now) {
            let mut parts = now.as_str().unwrap_or_default().splitn(3, ':');
            let [source, target, options] = std::array::from_fn(|_| parts.next().unwrap_or_default());
            if source.starts_with('/') || self.is_told_by_place(source) {
                told.push(of_bind(source, target, options));
            }
        }
        for (then, now) in changed("/HostConfig/Mounts").filter(|(then, now)| then != now) {
            let (kind, source) = (text(now, "/Type"), text(now, "/Source"));
            let is_told = match kind.as_str() {
                "volume" => self.is_told_by_place(&source),
                // Compose finds these beside its files.
                _ => !is_secret_or_config(description, &text(then, "/Source")),
            };
            if is_told {
                told.push(of_mount(now));
            }
        }
        told
    }

    /// Whether a volume has no key in compose's files that is known; then it gets one here.
    fn is_told_by_place(&mut self, name: &str) -> bool {
        let own_key = || (name.to_owned(), Whose::External);
        self.volumes.entry(name.to_owned()).or_insert_with(own_key).1 == Whose::External
    }

    fn text(
        &self,
        description: &Description,
        renaming: &Renaming,
        services: &BTreeMap<&str, Vec<String>>,
    ) -> String {
        let (from, to) = (&description.name, renaming.project());
        let mut out = format!(
            "# What lifeboat made as `{to}` of the project `{from}`; it goes behind its files.\nname: {to}\n"
        );
        // Writing to a string cannot fail.
        for (top, all) in [("volumes", &self.volumes), ("networks", &self.networks)] {
            if !all.is_empty() {
                let _ = writeln!(out, "{top}:");
            }
            for (name, (key, whose)) in all {
                let _ = writeln!(out, "  {}:\n    name: {}", Value::from(&**key), Value::from(&**name));
                match whose {
                    Whose::External => _ = writeln!(out, "    external: true"),
                    Whose::Own if top == "networks" => _ = writeln!(out, "    ipam: !reset null"),
                    Whose::Own => {}
                }
            }
        }
        if !services.is_empty() {
            let _ = writeln!(out, "services:");
        }
        for (service, lines) in services {
            let _ = writeln!(out, "  {}:", Value::from(*service));
            lines.iter().for_each(|line| _ = writeln!(out, "    {line}"));
        }
        // Compose would put the value of a variable there.
        out.replace('$', "$$")
    }
}

fn has_static_address(container: &Value) -> bool {
    let endpoints = container.pointer("/NetworkSettings/Networks").and_then(Value::as_object);
    let is_static =
        |endpoint: &Value, field: &str| !text(endpoint, &format!("/IPAMConfig/{field}")).is_empty();
    endpoints
        .into_iter()
        .flatten()
        .any(|(_, endpoint)| is_static(endpoint, "IPv4Address") || is_static(endpoint, "IPv6Address"))
}

fn is_secret_or_config(description: &Description, path: &str) -> bool {
    let is_it = |what: &str| what == "secret" || what == "config";
    description.files.iter().any(|file| is_it(&file.what) && file.path == path)
}

/// `SOURCE:TARGET:OPTIONS` of the engine's, as compose writes it in full: only there is the target taken letter by letter.
fn of_bind(source: &str, target: &str, options: &str) -> Value {
    let mut said = match source.starts_with('/') {
        true => {
            json!({"type": "bind", "source": source, "target": target, "bind": {"create_host_path": true}})
        }
        false => json!({"type": "volume", "source": source, "target": target}),
    };
    for option in options.split(',') {
        match option {
            "ro" => said["read_only"] = Value::from(true),
            "nocopy" => said["volume"] = json!({"nocopy": true}),
            "z" | "Z" => said["bind"]["selinux"] = Value::from(option),
            "" | "rw" => {}
            propagation => said["bind"]["propagation"] = Value::from(propagation),
        }
    }
    said
}

/// A mount of the engine's, as compose writes it.
fn of_mount(mount: &Value) -> Value {
    let mut said = json!({});
    for (pointer, part, name) in [
        ("/Type", "", "type"),
        ("/Source", "", "source"),
        ("/Target", "", "target"),
        ("/ReadOnly", "", "read_only"),
        ("/BindOptions/Propagation", "bind", "propagation"),
        ("/BindOptions/CreateMountpoint", "bind", "create_host_path"),
        ("/VolumeOptions/NoCopy", "volume", "nocopy"),
        ("/VolumeOptions/Subpath", "volume", "subpath"),
    ] {
        let Some(value) = mount.pointer(pointer).cloned() else { continue };
        match part {
            "" => said[name] = value,
            part => said[part][name] = value,
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_paths::PathMap;
    use crate::project::PROJECT;
    use crate::project::description::{External, Member};
    use crate::project::files::FileRecord;

    fn description() -> Description {
        let named = |name: &str, external| External { name: name.into(), external };
        let file =
            |path: &str, what: &str| FileRecord { path: path.into(), what: what.into(), problem: None };
        Description {
            name: "shop".into(),
            volumes: vec![named("shop_data", false), named("infra_data", true), named("parts", true)],
            networks: vec![named("shop_back", false), named("infra_default", true)],
            containers: ["own", "shop-web-1", "shop-web-2"]
                .map(|name| Member { name: name.into(), ..Member::default() })
                .into(),
            files: vec![file("/srv/shop/token", "secret")],
            ..Description::default()
        }
    }

    #[test]
    fn whatever_compose_would_take_from_the_first_project_is_told() {
        let description = description();
        let renaming = Renaming::new(&description, "copy").unwrap();
        let map = PathMap::parse(["/srv=/$new"]).unwrap();
        let db = json!({
            "Id": "0123456789abcdef", "Name": "/own", "Config": {"Labels": {PROJECT: "shop", SERVICE: "db"}},
            "HostConfig": {
                "NetworkMode": "shop_back",
                "Binds": ["shop_data:/data:rw", "infra_data:/theirs:ro", "/srv/site:/site", "/etc/x:/x"],
                "Mounts": [
                    {"Type": "volume", "Source": "parts", "Target": "/part", "VolumeOptions": {"Subpath": "a"}},
                    {"Type": "bind", "Source": "/srv/shop/token", "Target": "/run/secrets/token"},
                    {"Type": "bind", "Source": "/srv/strict", "Target": "/strict", "ReadOnly": true},
                ],
                "PortBindings": {"80/tcp": [{"HostPort": "8080"}]},
            },
            "NetworkSettings": {"Networks": {
                "shop_back": {
                    "IPAMConfig": {"IPv4Address": "10.0.0.5"}, "Aliases": ["own", "db", "0123456789ab", "orders"],
                },
                "infra_default": {"IPAMConfig": {"IPv4Address": "10.1.0.5"}, "GwPriority": 2},
            }},
        });
        let web = |number: u32| {
            json!({
                "Name": format!("/shop-web-{number}"), "Config": {"Labels": {SERVICE: "web"}},
                "HostConfig": {"Binds": ["shop_data:/data"]}, "NetworkSettings": {"Networks": {"shop_back": {}}},
            })
        };
        let then = [db, web(1), web(2)];
        let mut now = then.clone();
        now.iter_mut().for_each(|one| _ = renaming.change(one, &map));
        // A network and a volume of another project have keys of that project's files.
        let networks = json!({
            "copy_back": {"Labels": {NETWORK: "back"}}, "infra_default": {"Labels": {NETWORK: "default"}},
        });
        let networks = networks.as_object().unwrap();
        let members: Vec<Made<'_>> =
            then.iter().zip(&now).map(|(then, now)| Made { then, now, networks }).collect();
        let key = |key: &str| Words::from([(VOLUME.to_owned(), key.to_owned())]);
        let volumes = [("copy_data".to_owned(), key("data")), ("copy_infra_data".to_owned(), key("data"))];
        let expected = r#"# What lifeboat made as `copy` of the project `shop`; it goes behind its files.
name: copy
volumes:
  "data":
    name: "copy_data"
  "copy_infra_data":
    name: "copy_infra_data"
    external: true
  "copy_parts":
    name: "copy_parts"
    external: true
networks:
  "back":
    name: "copy_back"
    ipam: !reset null
  "infra_default":
    name: "infra_default"
    external: true
services:
  "db":
    container_name: "copy-own"
    ports: !override ["80/tcp"]
    networks: !override {"back":{"aliases":["orders"],"priority":1},"infra_default":{"gw_priority":2}}
    volumes: [{"read_only":true,"source":"copy_infra_data","target":"/theirs","type":"volume"},{"bind":{"create_host_path":true},"source":"/$$new/site","target":"/site","type":"bind"},{"source":"copy_parts","target":"/part","type":"volume","volume":{"subpath":"a"}},{"read_only":true,"source":"/$$new/strict","target":"/strict","type":"bind"}]
"#;
        assert_eq!(override_file(&description, &renaming, &volumes.into(), &members), expected);
    }
}
