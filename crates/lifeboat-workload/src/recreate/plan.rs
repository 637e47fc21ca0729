//! What making a container anew will do, decided before anything is done.
//!
//! Must stay true: this asks the engine and changes nothing; whatever is missing is an error that says what to type.

use super::Error;
use super::network::{self, is_engines_own};
use super::recorded::{Mounted, Recorded};
use super::request::{NetworkMode, Others, Request, request};
use crate::engine::Engine;
use crate::engine::views::{Image, text};
use crate::project::{CONFIG_HASH, digests};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What a snapshot has besides the container.
#[derive(Debug, Default, Clone)]
pub struct Snapshot {
    /// Names of its volumes.
    pub volumes: BTreeSet<String>,
    /// Its containers: their ids then, and their names now.
    pub containers: BTreeMap<String, String>,
    /// What compose's digests of its containers are of, by their ids then. Values of environments are in it.
    pub digested: BTreeMap<String, String>,
    /// Ids of its images on this engine, by those that they had.
    pub images: BTreeMap<String, String>,
    /// Whether all of these are made anew: an id then means the new one of its name, also where the old one still is.
    pub comes_anew: bool,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'w> {
    /// Another name than its own.
    pub name: Option<&'w str>,
    /// Whether its volumes are restored too.
    pub with_volumes: bool,
}

/// What making a container anew will do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What it will be called.
    pub name: String,
    /// The image, as the engine is asked for it.
    pub image: String,
    pub(super) request: Request,
    /// Networks that are made, by the bodies of their requests.
    pub(super) networks: Vec<Value>,
    /// Volumes that are restored before it is made.
    pub volumes: Vec<String>,
    /// Volumes that come with it and are filled afterwards: the name in the snapshot, and where it is seen.
    pub anonymous: Vec<(String, String)>,
    /// What is not as it was.
    pub remarks: Vec<String>,
}

/// Decides how a container is made anew.
pub fn plan(
    engine: &Engine,
    recorded: &Recorded,
    snapshot: &Snapshot,
    wanted: Wanted<'_>,
) -> Result<Plan, Error> {
    let name = wanted.name.unwrap_or(&recorded.name).to_owned();
    if !is_name(&name) {
        return Err(Error::Name(name));
    }
    match engine.container(&name) {
        // An id, or the beginning of one, finds a container of another name.
        Ok(found) if found.name == name => return Err(Error::Exists { name }),
        Ok(_) => {}
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error.into()),
    }
    let mut remarks = Vec::new();
    let image = image(engine, recorded, snapshot, &mut remarks)?;
    let others = |other: &str| now(engine, snapshot, other);
    let request = request(recorded, &image, engine.api(), &others).map_err(|error| named(error, snapshot))?;
    let mut request = request;
    label_image(engine, recorded, &image, &mut request)?;
    label_digest(recorded, snapshot, &others, &mut request);
    let networks = networks(engine, recorded, &mut remarks)?;
    let (volumes, anonymous) = volumes(engine, recorded, snapshot, wanted.with_volumes, &mut remarks)?;
    let is_compose = |label: &String| label.starts_with("com.docker.compose.");
    if name != recorded.name && recorded.labels().keys().any(is_compose) {
        remarks
            .push("its labels say that it is a service's container: compose will take it for its own".into());
    }
    if recorded.layer_way.is_none() {
        remarks.push("the snapshot does not have its writable layer".into());
    }
    Ok(Plan { name, image, request, networks, volumes, anonymous, remarks })
}

/// What a container needs that is neither here nor comes with it: its image, unless that comes, and containers of which it
/// uses something.
pub fn missing(
    engine: &Engine,
    recorded: &Recorded,
    snapshot: &Snapshot,
    has_image: bool,
) -> Result<Vec<Error>, Error> {
    let comes = |other: &str| {
        snapshot.containers.iter().any(|(id, name)| id == other || name == other).then(|| other.to_owned())
    };
    let others = |other: &str| comes(other).or_else(|| now(engine, snapshot, other));
    let image = if has_image { Ok(()) } else { image(engine, recorded, snapshot, &mut Vec::new()).map(drop) };
    let request = request(recorded, "", engine.api(), &others).map(drop);
    let mut found = Vec::new();
    for looked in [image, request.map_err(|error| named(error, snapshot))] {
        match looked {
            Err(error @ (Error::NoImage { .. } | Error::NoOther { .. })) => found.push(error),
            looked => looked?,
        }
    }
    Ok(found)
}

/// Compose makes a container anew whose label has another id than its image.
fn label_image(
    engine: &Engine,
    recorded: &Recorded,
    image: &str,
    request: &mut Request,
) -> Result<(), Error> {
    let label = request.body.pointer_mut("/Labels").and_then(|labels| labels.get_mut(crate::project::IMAGE));
    if let Some(label) = label.filter(|label| label.as_str() == Some(&recorded.image_id)) {
        *label = Value::from(engine.image(image)?.id);
    }
    Ok(())
}

/// Compose makes a container anew whose label has another digest than its files have now, with the ids of now.
pub(super) fn label_digest(
    recorded: &Recorded,
    snapshot: &Snapshot,
    others: &Others<'_>,
    request: &mut Request,
) {
    let Some(text) = snapshot.digested.get(&recorded.id) else { return };
    let label = request.body.pointer_mut("/Labels").and_then(|labels| labels.get_mut(CONFIG_HASH));
    let label = label.filter(|label| label.as_str() == Some(&digests::digest(text)));
    if let (Some(label), Some(now)) = (label, digests::with_ids_of_now(text, recorded.raw(), others)) {
        *label = Value::from(digests::digest(&now));
    }
}

/// What an engine accepts.
fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && name.len() > 1
        && name.len() <= 255
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// The id of another container: the same one, or the one of the name that the snapshot knows.
fn now(engine: &Engine, snapshot: &Snapshot, other: &str) -> Option<String> {
    let by_name = snapshot.containers.get(other);
    let found = |name: &str| engine.container(name).ok().map(|container| container.id);
    match by_name {
        Some(name) if snapshot.comes_anew => found(name),
        _ => found(other).or_else(|| found(by_name?)),
    }
}

fn named(error: Error, snapshot: &Snapshot) -> Error {
    match error {
        Error::NoOther { what, other } => {
            Error::NoOther { what, other: snapshot.containers.get(&other).cloned().unwrap_or(other) }
        }
        error => error,
    }
}

/// How the engine is asked for the image: by the name that it was asked for then, if that is still this image.
fn image(
    engine: &Engine,
    recorded: &Recorded,
    snapshot: &Snapshot,
    remarks: &mut Vec<String>,
) -> Result<String, Error> {
    let look = |name: &str| match engine.image(name) {
        Ok(image) => Ok(Some(image)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    };
    let of_name = look(&recorded.image_name)?;
    let is_other = of_name.is_some();
    if let Some(image) = of_name.filter(|image| is_same(recorded, image)) {
        if image.id != recorded.image_id {
            remarks.push(format!("its image has the id {} here: another kind of store", image.id));
        }
        return Ok(recorded.image_name.clone());
    }
    let digests: Vec<String> = list_of(&recorded.image, "/RepoDigests")
        .into_iter()
        .filter(|digest| !digest.starts_with("<none>"))
        .collect();
    let loaded = snapshot.images.get(&recorded.image_id);
    for name in std::iter::once(&recorded.image_id).chain(loaded).chain(&digests) {
        if let Some(image) = look(name)?.filter(|image| is_same(recorded, image)) {
            let what = if is_other { "is another image" } else { "is no image" };
            remarks
                .push(format!("{} {what} here; the one that it had is taken by its id", recorded.image_name));
            return Ok(image.id);
        }
    }
    let (name, id) = (recorded.image_name.clone(), recorded.image_id.clone());
    Err(Error::NoImage { name, id, digests, is_other })
}

/// The same image: of the same id, or, in another kind of store, of the same layers and the same configuration.
fn is_same(recorded: &Recorded, image: &Image) -> bool {
    if image.id == recorded.image_id {
        return true;
    }
    let layers = list_of(&recorded.image, "/RootFS/Layers");
    let equal = |pointer: &str| {
        let part = |raw: &Value| raw.pointer(pointer).cloned().unwrap_or_default();
        part(&recorded.image) == part(&image.raw)
    };
    // Both stores leave out what is empty, but not alike.
    let settings = ["Env", "Cmd", "Entrypoint", "User", "WorkingDir", "Volumes", "ExposedPorts", "Labels"];
    let is_equal = |field: &&str| {
        let part = |raw: &Value| {
            raw.pointer(&format!("/Config/{field}")).filter(|value| !is_nothing(value)).cloned()
        };
        part(&recorded.image) == part(&image.raw)
    };
    !layers.is_empty()
        && layers == list_of(&image.raw, "/RootFS/Layers")
        && equal("/Architecture")
        && equal("/Os")
        && settings.iter().all(is_equal)
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

fn list_of(value: &Value, pointer: &str) -> Vec<String> {
    let list = value.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Networks that have to be made.
fn networks(engine: &Engine, recorded: &Recorded, remarks: &mut Vec<String>) -> Result<Vec<Value>, Error> {
    let NetworkMode::Networks(first) = recorded.network_mode() else { return Ok(Vec::new()) };
    let mut names: BTreeSet<&str> = recorded.endpoints().map(|(name, _)| name.as_str()).collect();
    names.insert(&first);
    let mut made = Vec::new();
    for name in names.into_iter().filter(|name| !is_engines_own(name)) {
        let described = recorded.networks.get(name).filter(|described| described.is_object());
        match engine.network(name) {
            Ok(there) if there.name == name => {
                let said = described
                    .map(|described| network::differences(described, &there.raw))
                    .unwrap_or_default();
                remarks.extend(
                    said.into_iter().map(|what| format!("network {name} stays as it is: {what} differs")),
                );
            }
            // It was found by the beginning of its id, and has another name.
            Ok(_) => return Err(Error::NoNetwork { name: name.to_owned() }),
            Err(error) if error.is_not_found() => match described {
                Some(described) => made.push(network::request(name, described, engine.api())),
                None => return Err(Error::NoNetwork { name: name.to_owned() }),
            },
            Err(error) => return Err(error.into()),
        }
    }
    Ok(made)
}

type Named = Vec<String>;
type Anonymous = Vec<(String, String)>;

fn volumes(
    engine: &Engine,
    recorded: &Recorded,
    snapshot: &Snapshot,
    with_volumes: bool,
    remarks: &mut Vec<String>,
) -> Result<(Named, Anonymous), Error> {
    let (mut restored, mut anonymous) = (Vec::new(), Vec::new());
    for volume in recorded.volumes() {
        match volume {
            Mounted::Named(name) => {
                let is_in_snapshot = snapshot.volumes.contains(&name);
                if with_volumes && is_in_snapshot {
                    restored.push(name);
                    continue;
                }
                match engine.volume(&name) {
                    Ok(_) => {}
                    Err(error) if error.is_not_found() => {
                        return Err(Error::NoVolume { name, is_in_snapshot });
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            Mounted::Anonymous { name, destination } => {
                if with_volumes && snapshot.volumes.contains(&name) {
                    anonymous.push((name, destination));
                } else {
                    remarks.push(format!(
                        "{destination}: an anonymous volume, which begins as the image has it"
                    ));
                }
            }
        }
    }
    Ok((restored, anonymous))
}

impl Plan {
    /// Names of the networks that are made.
    pub fn networks_made(&self) -> Vec<String> {
        self.networks.iter().map(|body| text(body, "/Name")).collect()
    }

    /// What will be made, for people and programs; without values of the environment.
    pub fn shown(&self, recorded: &Recorded) -> Value {
        json!({
            "container": self.name,
            "image": self.image,
            "environment": recorded.environment(),
            "asks_for": recorded.powers(),
            "networks_made": self.networks_made(),
            "volumes_restored": self.volumes,
            "anonymous_volumes_restored": self.anonymous.iter().map(|(_, place)| place).collect::<Vec<_>>(),
            "layer": recorded.layer_way,
            "remarks": self.remarks,
        })
    }
}
