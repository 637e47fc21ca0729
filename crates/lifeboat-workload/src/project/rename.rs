//! A project under another name, or in another folder: what its descriptions say is changed before anything is made of them.
//!
//! Must stay true: every volume gets another name, also those with a name of their own, so that nothing of the first
//! project is written to; volumes and networks lose the digest of their configuration, because with a wrong one compose
//! deletes a volume with all that is in it.

use super::description::Description;
use super::{CONFIG_HASH, Error, FILES, FOLDER, PROJECT};
use crate::engine::views::{Words, text};
use crate::host_paths::PathMap;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// What the labels begin with that compose gives.
const COMPOSE_LABELS: &str = "com.docker.compose.";

/// New names by old ones.
#[derive(Debug, Clone, Default)]
pub struct Renaming {
    from: String,
    to: String,
    volumes: BTreeMap<String, String>,
    networks: BTreeMap<String, String>,
    containers: BTreeMap<String, String>,
}

impl Renaming {
    /// The project `to` instead of the described one; the same name changes nothing.
    pub fn new(description: &Description, to: &str) -> Result<Self, Error> {
        let mut bytes = to.bytes();
        let is_fit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        if !bytes.next().is_some_and(is_fit) || !bytes.all(|byte| is_fit(byte) || b"-_".contains(&byte)) {
            return Err(Error::Name(to.to_owned()));
        }
        let from = description.name.as_str();
        let mut renaming = Self { from: from.to_owned(), to: to.to_owned(), ..Self::default() };
        if from == to {
            return Ok(renaming);
        }
        let other = |name: &str, between: char| match name.strip_prefix(from) {
            Some(rest) if rest.starts_with(['-', '_', '.']) => format!("{to}{rest}"),
            _ => format!("{to}{between}{name}"),
        };
        for volume in &description.volumes {
            renaming.volumes.insert(volume.name.clone(), other(&volume.name, '_'));
        }
        for network in description.networks.iter().filter(|network| !network.external) {
            renaming.networks.insert(network.name.clone(), other(&network.name, '_'));
        }
        for member in &description.containers {
            renaming.containers.insert(member.name.clone(), other(&member.name, '-'));
        }
        Ok(renaming)
    }

    /// The project's name.
    pub fn project(&self) -> &str {
        &self.to
    }

    /// Whether anything has another name.
    pub fn is_any(&self) -> bool {
        self.from != self.to
    }

    /// What a volume is called.
    pub fn volume<'n>(&'n self, name: &'n str) -> &'n str {
        self.volumes.get(name).map_or(name, String::as_str)
    }

    /// What a container is called.
    pub fn container<'n>(&'n self, name: &'n str) -> &'n str {
        self.containers.get(name).map_or(name, String::as_str)
    }

    /// What a network is called.
    pub fn network<'n>(&'n self, name: &'n str) -> &'n str {
        self.networks.get(name).map_or(name, String::as_str)
    }

    /// Labels of a volume or network.
    pub fn labels(&self, labels: &mut Words) {
        if !self.is_any() {
            return;
        }
        labels.remove(CONFIG_HASH);
        match labels.get_mut(PROJECT) {
            Some(project) if *project == self.from => project.clone_from(&self.to),
            // The copy of another project's is not that project's, which removes what has its labels.
            Some(_) => labels.retain(|name, _| !name.starts_with(COMPOSE_LABELS)),
            None => {}
        }
    }

    /// Changes the description of a container; gives what is not as it was.
    pub fn change(&self, container: &mut Value, map: &PathMap) -> Vec<String> {
        let mut remarks = Vec::new();
        self.places(container, map);
        if !self.is_any() || !container.is_object() {
            return remarks;
        }
        let name = text(container, "/Name").trim_start_matches('/').to_owned();
        container["Name"] = Value::from(format!("/{}", self.container(&name)));
        if let Some(Value::Object(labels)) = container.pointer_mut("/Config/Labels")
            && labels.contains_key(PROJECT)
        {
            labels.insert(PROJECT.into(), Value::from(self.to.as_str()));
        }
        self.volumes_in(container);
        self.others_in(container);
        self.networks_in(container, &mut remarks);
        if let Some(Value::Object(ports)) = container.pointer_mut("/HostConfig/PortBindings") {
            for (inner, bindings) in ports {
                for binding in bindings.as_array_mut().into_iter().flatten() {
                    let port = text(binding, "/HostPort");
                    if !port.is_empty() {
                        remarks.push(format!(
                            "{name}: the engine chooses the port of the host for {inner}, which was {port}"
                        ));
                        binding["HostPort"] = Value::from("");
                    }
                }
            }
        }
        remarks
    }

    /// Paths of the host.
    fn places(&self, container: &mut Value, map: &PathMap) {
        let place = |path: &str| map.place(Path::new(path)).to_string_lossy().into_owned();
        for bind in
            container.pointer_mut("/HostConfig/Binds").and_then(Value::as_array_mut).into_iter().flatten()
        {
            let text = bind.as_str().unwrap_or_default();
            if let Some((source, rest)) = text.split_once(':').filter(|(source, _)| source.starts_with('/')) {
                *bind = Value::from(format!("{}:{rest}", place(source)));
            }
        }
        for pointer in ["/HostConfig/Mounts", "/Mounts"] {
            for mount in container.pointer_mut(pointer).and_then(Value::as_array_mut).into_iter().flatten() {
                if text(mount, "/Type") == "bind" {
                    mount["Source"] = Value::from(place(&text(mount, "/Source")));
                }
            }
        }
        if let Some(Value::Object(labels)) = container.pointer_mut("/Config/Labels") {
            for name in [FILES, FOLDER] {
                if let Some(value) = labels.get_mut(name) {
                    let all = value.as_str().unwrap_or_default().split(',').map(place).collect::<Vec<_>>();
                    *value = Value::from(all.join(","));
                }
            }
        }
    }

    fn volumes_in(&self, container: &mut Value) {
        for bind in
            container.pointer_mut("/HostConfig/Binds").and_then(Value::as_array_mut).into_iter().flatten()
        {
            let text = bind.as_str().unwrap_or_default();
            if let Some((source, rest)) = text.split_once(':') {
                *bind = Value::from(format!("{}:{rest}", self.volume(source)));
            }
        }
        for (pointer, field) in [("/HostConfig/Mounts", "Source"), ("/Mounts", "Name")] {
            for mount in container.pointer_mut(pointer).and_then(Value::as_array_mut).into_iter().flatten() {
                if text(mount, "/Type") == "volume" {
                    let name = text(mount, &format!("/{field}"));
                    if !name.is_empty() {
                        mount[field] = Value::from(self.volume(&name));
                    }
                }
            }
        }
    }

    /// Other containers that it names.
    fn others_in(&self, container: &mut Value) {
        for field in ["VolumesFrom", "Links"] {
            let list = container.pointer_mut(&format!("/HostConfig/{field}")).and_then(Value::as_array_mut);
            for one in list.into_iter().flatten() {
                let text = one.as_str().unwrap_or_default();
                let (slash, bare) = text.strip_prefix('/').map_or(("", text), |bare| ("/", bare));
                let (name, rest) = bare
                    .split_once(':')
                    .map_or((bare, String::new()), |(name, rest)| (name, format!(":{rest}")));
                *one = Value::from(format!("{slash}{}{rest}", self.container(name)));
            }
        }
    }

    fn networks_in(&self, container: &mut Value, remarks: &mut Vec<String>) {
        let own = text(container, "/Name").trim_start_matches('/').to_owned();
        let mode = text(container, "/HostConfig/NetworkMode");
        if let Some(now) = container.pointer_mut("/HostConfig/NetworkMode") {
            *now = Value::from(self.network(&mode));
        }
        let old_names: Vec<&String> = self.containers.keys().collect();
        let Some(Value::Object(networks)) = container.pointer_mut("/NetworkSettings/Networks") else {
            return;
        };
        let all = std::mem::take(networks);
        for (name, mut endpoint) in all {
            let has_static = |pointer: &str| !text(&endpoint, pointer).is_empty();
            if has_static("/IPAMConfig/IPv4Address") || has_static("/IPAMConfig/IPv6Address") {
                remarks.push(format!("{own}: its address in network {name} is the engine's to choose"));
            }
            // Also in a network of somebody else: the first project's container is there.
            if endpoint.get("IPAMConfig").is_some() {
                endpoint["IPAMConfig"] = Value::Null;
            }
            for field in ["Aliases", "DNSNames"] {
                for alias in endpoint.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten() {
                    let old = alias.as_str().unwrap_or_default().to_owned();
                    if old_names.contains(&&old) {
                        *alias = Value::from(self.container(&old));
                    }
                }
            }
            networks.insert(self.network(&name).to_owned(), endpoint);
        }
    }

    /// Changes the descriptions of networks, by name.
    pub fn change_networks(&self, networks: &mut Map<String, Value>) {
        if !self.is_any() {
            return;
        }
        for (name, mut described) in std::mem::take(networks) {
            if self.networks.contains_key(&name) && described.is_object() {
                let mut labels = crate::engine::views::words(&described, "/Labels");
                self.labels(&mut labels);
                described["Labels"] = json!(labels);
                // Its subnets are the first project's.
                if let Some(subnets) = described.pointer_mut("/IPAM/Config") {
                    *subnets = json!([]);
                }
            }
            networks.insert(self.network(&name).to_owned(), described);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::description::{External, Member};

    fn description() -> Description {
        let named = |name: &str, external| External { name: name.into(), external };
        Description {
            name: "shop".into(),
            volumes: vec![named("shop_data", false), named("explicit", false), named("theirs", true)],
            networks: vec![named("shop_back", false), named("outer", true)],
            containers: vec![
                Member { name: "shop-db-1".into(), ..Member::default() },
                Member { name: "own".into(), ..Member::default() },
            ],
            ..Description::default()
        }
    }

    #[test]
    fn everything_has_another_name_and_nothing_keeps_its_digest() {
        let renaming = Renaming::new(&description(), "copy").unwrap();
        assert_eq!(renaming.volume("shop_data"), "copy_data");
        assert_eq!(renaming.volume("explicit"), "copy_explicit");
        assert_eq!(renaming.volume("theirs"), "copy_theirs");
        assert_eq!(renaming.network("outer"), "outer");
        assert_eq!(renaming.container("own"), "copy-own");
        let mut labels: Words = [(CONFIG_HASH, "1"), (PROJECT, "shop"), ("a", "b")]
            .map(|(name, value)| (name.into(), value.into()))
            .into();
        renaming.labels(&mut labels);
        assert_eq!(
            labels,
            [(PROJECT, "copy"), ("a", "b")].map(|(name, value)| (name.into(), value.into())).into()
        );
        let mut container = json!({
            "Name": "/shop-db-1", "Config": {"Labels": {PROJECT: "shop"}},
            "HostConfig": {
                "NetworkMode": "shop_back", "Binds": ["explicit:/e:rw", "/srv/site:/site"],
                "Mounts": [{"Type": "volume", "Source": "shop_data", "Target": "/d"}], "VolumesFrom": ["own:ro"],
                "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]},
            },
            "Mounts": [{"Type": "volume", "Name": "shop_data"}, {"Type": "bind", "Source": "/srv/site"}],
            "NetworkSettings": {"Networks": {
                "shop_back": {"IPAMConfig": {"IPv4Address": "10.0.0.5"}, "Aliases": ["shop-db-1", "db"]},
                "outer": {"IPAMConfig": {"IPv6Address": "fd00::5"}},
            }},
        });
        let map = PathMap::parse(["/srv=/new"]).unwrap();
        let remarks = renaming.change(&mut container, &map);
        assert_eq!(remarks.len(), 3, "{remarks:?}");
        let expected = json!({
            "Name": "/copy-shop-db-1".replace("copy-shop", "copy"), "Config": {"Labels": {PROJECT: "copy"}},
            "HostConfig": {
                "NetworkMode": "copy_back", "Binds": ["copy_explicit:/e:rw", "/new/site:/site"],
                "Mounts": [{"Type": "volume", "Source": "copy_data", "Target": "/d"}], "VolumesFrom": ["copy-own:ro"],
                "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": ""}]},
            },
            "Mounts": [{"Type": "volume", "Name": "copy_data"}, {"Type": "bind", "Source": "/new/site"}],
            "NetworkSettings": {"Networks": {
                "copy_back": {"IPAMConfig": null, "Aliases": ["copy-db-1", "db"]}, "outer": {"IPAMConfig": null},
            }},
        });
        assert_eq!(container, expected);
    }

    #[test]
    fn descriptions_of_any_form_are_gone_through() {
        let renaming = Renaming::new(&description(), "copy").unwrap();
        let map = PathMap::parse(["/srv=/new"]).unwrap();
        let odd = [json!(null), json!([]), json!("text"), json!({}), json!({"a": 1})];
        for one in &odd {
            let whole = json!({
                "Name": one, "Config": one, "HostConfig": one, "Mounts": [one], "NetworkSettings": {"Networks": one},
            });
            let parts = json!({
                "Config": {"Labels": one}, "NetworkSettings": {"Networks": {"shop_back": one}},
                "HostConfig": {"NetworkMode": one, "Binds": [one], "Mounts": [one], "PortBindings": {"80/tcp": [one]}},
            });
            for mut container in [one.clone(), whole, parts] {
                renaming.change(&mut container, &map);
            }
            for network in [one.clone(), json!({"IPAM": one, "Labels": one})] {
                let mut networks = Map::from_iter([("shop_back".to_owned(), network)]);
                renaming.change_networks(&mut networks);
                assert!(networks.contains_key("copy_back"));
            }
        }
    }

    #[test]
    fn a_copy_of_another_projects_volume_is_not_that_projects() {
        let labels =
            [(CONFIG_HASH, "1"), (PROJECT, "infra"), ("com.docker.compose.volume", "data"), ("a", "b")];
        let mut labels: Words = labels.map(|(name, value)| (name.into(), value.into())).into();
        Renaming::new(&description(), "copy").unwrap().labels(&mut labels);
        assert_eq!(labels, [("a".to_owned(), "b".to_owned())].into());
    }

    #[test]
    fn networks_of_its_own_lose_digest_and_subnets_and_others_stay() {
        let described = |project: &str, hash: Option<&str>, subnets: Value| {
            let mut labels = json!({PROJECT: project, "com.docker.compose.network": "back"});
            hash.into_iter().for_each(|hash| labels[CONFIG_HASH] = Value::from(hash));
            json!({"Labels": labels, "IPAM": {"Config": subnets}})
        };
        let subnets = json!([{"Subnet": "10.0.0.0/24"}]);
        let outer = described("infra", Some("2"), subnets.clone());
        let before = json!({"shop_back": described("shop", Some("1"), subnets), "outer": outer});
        let change = |to: &str| {
            let mut networks = before.as_object().unwrap().clone();
            Renaming::new(&description(), to).unwrap().change_networks(&mut networks);
            Value::Object(networks)
        };
        assert_eq!(change("copy"), json!({"copy_back": described("copy", None, json!([])), "outer": outer}));
        assert_eq!(change("shop"), before);
    }

    #[test]
    fn the_same_name_changes_nothing_but_places() {
        let renaming = Renaming::new(&description(), "shop").unwrap();
        let mut container =
            json!({"Name": "/shop-db-1", "Config": {"Labels": {FOLDER: "/srv/shop", CONFIG_HASH: "1"}}});
        let map = PathMap::parse(["/srv/shop=/new"]).unwrap();
        assert!(renaming.change(&mut container, &map).is_empty());
        assert_eq!(
            container,
            json!({"Name": "/shop-db-1", "Config": {"Labels": {FOLDER: "/new", CONFIG_HASH: "1"}}})
        );
        for bad in ["", "Shop", "a b", "-a", "ä"] {
            assert!(Renaming::new(&description(), bad).is_err(), "{bad}");
        }
    }
}
