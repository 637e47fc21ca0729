//! What an engine says about itself and its objects, as plain values.
//!
//! Must stay true: nothing is lost, because each view keeps what it was made of in `raw`; nothing is guessed, a missing
//! word is empty; an answer of another shape never panics.
//! Read next: `containers`, the largest; here are volumes, images and networks, and how values are read.

mod containers;
mod engine;

pub use containers::{Container, ContainerSummary, Health, Mount, State};
pub use engine::{EngineInfo, EngineVersion};

use serde_json::Value;
use std::collections::BTreeMap;

/// Labels and options: sorted, so that equal ones look equal.
pub type Words = BTreeMap<String, String>;

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
