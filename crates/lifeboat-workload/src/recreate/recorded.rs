//! What a snapshot says about a container.
//!
//! Must stay true: nothing here trusts a shape: every value is asked for by name and kind, and what the rest cannot do
//! without is an error here.

use super::Error;
use crate::engine::views::{text, words};
use crate::layer::{CONTAINER_FILE, IMAGE_FILE, LAYER_FILE, LAYER_VERSION, NETWORKS_FILE};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// No engine describes anything in more bytes.
pub const DESCRIPTION_BYTES_MAX: u64 = 8 << 20;

/// The files of a container's source, as they are stored.
#[derive(Debug, Default, Clone)]
pub struct Files {
    /// `container.json`.
    pub container: Vec<u8>,
    /// `image.json`.
    pub image: Option<Vec<u8>>,
    /// `networks.json`.
    pub networks: Option<Vec<u8>>,
    /// `layer.json`.
    pub layer: Option<Vec<u8>>,
}

/// A container as it was.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Its id then.
    pub id: String,
    /// Its name then.
    pub name: String,
    /// The image as it was asked for.
    pub image_name: String,
    /// The image's id then.
    pub image_id: String,
    /// The engine's description of it.
    pub(crate) raw: Value,
    /// The engine's description of its image.
    pub(super) image: Value,
    /// The engine's descriptions of its networks.
    pub(crate) networks: Map<String, Value>,
    /// How its layer was read; `None` where it was not.
    pub layer_way: Option<String>,
}

/// A volume that it mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mounted {
    /// By its name.
    Named(String),
    /// The engine made it for this container, to be seen at this path.
    Anonymous {
        /// Its name then.
        name: String,
        /// Where it is seen.
        destination: String,
    },
}

impl Recorded {
    /// Reads the descriptions.
    pub fn read(files: &Files) -> Result<Self, Error> {
        let raw = parse(CONTAINER_FILE, &files.container)?;
        let missing =
            |detail: &str| Error::Record { file: CONTAINER_FILE, detail: format!("has no {detail}") };
        let needed = |pointer: &str, what: &str| match text(&raw, pointer) {
            found if found.is_empty() => Err(missing(what)),
            found => Ok(found),
        };
        for (pointer, what) in [("/Config", "configuration"), ("/HostConfig", "host configuration")] {
            if !raw.pointer(pointer).is_some_and(Value::is_object) {
                return Err(missing(what));
            }
        }
        let id = needed("/Id", "id")?;
        if id.len() != 64 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Error::Record { file: CONTAINER_FILE, detail: "has an id that is none".into() });
        }
        let name = needed("/Name", "name")?.trim_start_matches('/').to_owned();
        let (image_name, image_id) = (needed("/Config/Image", "image")?, needed("/Image", "image's id")?);
        let optional = |file, bytes: &Option<Vec<u8>>| {
            bytes.as_ref().map_or(Ok(Value::Null), |bytes| parse(file, bytes))
        };
        let networks = match optional(NETWORKS_FILE, &files.networks)? {
            Value::Object(networks) => networks,
            _ => Map::new(),
        };
        let image = optional(IMAGE_FILE, &files.image)?;
        let layer_way = layer_way(&optional(LAYER_FILE, &files.layer)?)?;
        Ok(Self { id, name, image_name, image_id, raw, image, networks, layer_way })
    }

    /// The volumes that it mounted by itself, not those of other containers.
    pub fn volumes(&self) -> Vec<Mounted> {
        let named = self.named_volumes();
        let anonymous = self.anonymous_places();
        let mounts = self.raw.pointer("/Mounts").and_then(Value::as_array).into_iter().flatten();
        let mut found: Vec<Mounted> = mounts
            .filter(|mount| text(mount, "/Type") == "volume")
            .filter_map(|mount| {
                let (name, destination) = (text(mount, "/Name"), text(mount, "/Destination"));
                match named.get(&destination) {
                    Some(named) if *named == name => Some(Mounted::Named(name)),
                    _ if anonymous.contains(&destination) => Some(Mounted::Anonymous { name, destination }),
                    _ => None,
                }
            })
            .collect();
        // One that was never started may have no mounts yet.
        for name in named.into_values() {
            if !found.contains(&Mounted::Named(name.clone())) {
                found.push(Mounted::Named(name));
            }
        }
        found
    }

    /// Volumes by the path at which they are seen.
    fn named_volumes(&self) -> BTreeMap<String, String> {
        let binds = self.list("/HostConfig/Binds").filter_map(Value::as_str).filter_map(|bind| {
            let mut parts = bind.split(':');
            let (source, destination) = (parts.next()?, parts.next()?);
            (!source.starts_with(['/', '.', '~'])).then(|| (destination.to_owned(), source.to_owned()))
        });
        let mounts = self.list("/HostConfig/Mounts").filter(|mount| text(mount, "/Type") == "volume");
        let mounts = mounts.map(|mount| (text(mount, "/Target"), text(mount, "/Source")));
        binds.chain(mounts.filter(|(_, source)| !source.is_empty())).collect()
    }

    /// Where it asked for a volume without a name.
    fn anonymous_places(&self) -> Vec<String> {
        let declared = self.raw.pointer("/Config/Volumes").and_then(Value::as_object).into_iter().flatten();
        let mounts = self.list("/HostConfig/Mounts").filter(|mount| text(mount, "/Type") == "volume");
        let nameless =
            mounts.filter(|mount| text(mount, "/Source").is_empty()).map(|mount| text(mount, "/Target"));
        declared.map(|(place, _)| place.clone()).chain(nameless).collect()
    }

    /// Names of its environment's variables; their values are nobody's business.
    pub fn environment(&self) -> Vec<String> {
        let name = |word: &Value| Some(word.as_str()?.split('=').next().unwrap_or_default().to_owned());
        self.list("/Config/Env").filter_map(name).collect()
    }

    /// What it asks for besides its own files, for a person to look at.
    pub fn powers(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.raw.pointer("/HostConfig/Privileged").and_then(Value::as_bool) == Some(true) {
            found.push("all privileges".to_owned());
        }
        for (pointer, what) in [
            ("/HostConfig/NetworkMode", "network"),
            ("/HostConfig/PidMode", "processes"),
            ("/HostConfig/IpcMode", "memory"),
        ] {
            if text(&self.raw, pointer) == "host" {
                found.push(format!("the host's {what}"));
            }
        }
        found.extend(
            self.list("/HostConfig/CapAdd")
                .filter_map(Value::as_str)
                .map(|word| format!("capability {word}")),
        );
        let devices = self.list("/HostConfig/Devices").map(|device| text(device, "/PathOnHost"));
        found.extend(devices.map(|device| format!("device {device}")));
        let mounts = self.list("/Mounts").filter(|mount| text(mount, "/Type") == "bind");
        found.extend(mounts.map(|mount| format!("{} of the host", text(mount, "/Source"))));
        found
    }

    /// The engine's description of it. It holds the environment: never show it.
    pub fn raw(&self) -> &Value {
        &self.raw
    }

    /// The engine's descriptions of its networks, by name.
    pub fn networks(&self) -> &Map<String, Value> {
        &self.networks
    }

    /// Its labels.
    pub fn labels(&self) -> BTreeMap<String, String> {
        words(&self.raw, "/Config/Labels")
    }

    pub(crate) fn list(&self, pointer: &str) -> impl Iterator<Item = &Value> {
        self.raw.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
    }
}

fn layer_way(layer: &Value) -> Result<Option<String>, Error> {
    match layer.get("version").and_then(Value::as_u64) {
        Some(version) if version > LAYER_VERSION => Err(Error::NewerLayer(version)),
        _ => Ok(Some(text(layer, "/way")).filter(|way| matches!(way.as_str(), "direct" | "engine"))),
    }
}

fn parse(file: &'static str, bytes: &[u8]) -> Result<Value, Error> {
    let record = |detail: String| Error::Record { file, detail };
    if bytes.len() as u64 > DESCRIPTION_BYTES_MAX {
        return Err(record(format!("has more than {DESCRIPTION_BYTES_MAX} bytes")));
    }
    match serde_json::from_slice(bytes) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(record("is not a JSON object".into())),
        // Where it is wrong, not what stands there: that may be a secret.
        Err(error) => Err(record(format!("is not JSON: line {}, column {}", error.line(), error.column()))),
    }
}
