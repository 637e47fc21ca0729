//! Which way a container's writable layer is read, and what that loses.
//!
//! Must stay true: a layer is read from its folder only after the proof that volumes are read by, where that folder looks
//! as the container's root does through the engine, and where it holds all of the difference. Everything else goes
//! through the engine. The way, why, and what it loses are in the source.

use super::stream::{LayerArchive, Source};
use super::{LAYER_VERSION, LayerError, check, files, left_out};
use crate::engine::Engine;
use crate::engine::views::{Container, Image, text};
use crate::facts::is_id;
use crate::volume::Volumes;
use crate::volume::proof::Proof;
use lifeboat_format::snapshot::SourceKind;
use lifeboat_transfer::backup::{ArchiveSpec, SourceSpec};
use serde_json::{Value, json};
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A container whose root changes between two looks is looked at again.
const LOOKS_MAX: u32 = 5;

/// What the engine leaves out of archives of a layer.
const LOST_THROUGH_ENGINE: [&str; 7] = [
    "extended attributes other than security.capability, and with them access control lists",
    "times below a second, times of access, and the times of folders that hold files of the engine's own",
    "folders of which only the time changed",
    "which parts of a sparse file are holes",
    "sockets",
    "that files outside of new folders are hard links of each other",
    "files that the engine could not read, unless they end the archive: it only logs them",
];

/// A container's writable layer and the way to it.
#[derive(Debug)]
pub struct ReachedLayer {
    engine: Engine,
    run: String,
    container: Container,
    image: Option<Image>,
    networks: Value,
    /// The way to it.
    pub way: LayerWay,
}

/// The way to a writable layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerWay {
    /// It is this folder.
    Direct(PathBuf),
    /// The engine reads it, for this reason.
    Engine(String),
}

/// Finds the best way to read a container's writable layer. Nothing of it is read but what the choice needs.
pub fn reach(volumes: &Volumes, container: Container) -> Result<ReachedLayer, LayerError> {
    let engine = volumes.engine();
    let way = match volumes.proof()? {
        Proof::Refused(why) => LayerWay::Engine(why),
        Proof::Proven(_) => on_disk(engine, &container)?,
    };
    let image = match engine.image(&container.image_id) {
        Ok(image) => Some(image),
        // Some stores let an image go while a container of it is there.
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error.into()),
    };
    let networks = networks(engine, &container)?;
    Ok(ReachedLayer {
        engine: engine.clone(),
        run: volumes.run().to_owned(),
        container,
        image,
        networks,
        way,
    })
}

/// The engine's descriptions of the networks that a container is in, by their names there.
fn networks(engine: &Engine, container: &Container) -> Result<Value, LayerError> {
    let mut found = serde_json::Map::new();
    let endpoints = container.raw.pointer("/NetworkSettings/Networks").and_then(Value::as_object);
    for (name, endpoint) in endpoints.into_iter().flatten() {
        let id = Some(text(endpoint, "/NetworkID")).filter(|id| !id.is_empty());
        match engine.network(id.as_deref().unwrap_or(name)) {
            Ok(mut network) => {
                // Who else is in it changes all the time, and is no part of the network.
                if let Some(raw) = network.raw.as_object_mut() {
                    raw.remove("Containers");
                    raw.remove("Peers");
                    raw.remove("Services");
                }
                found.insert(name.clone(), network.raw);
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Value::Object(found))
}

fn on_disk(engine: &Engine, container: &Container) -> Result<LayerWay, LayerError> {
    let stated = Some(&container.upper_directory).filter(|path| !path.is_empty()).map(PathBuf::from);
    let Some(upper) = stated.or_else(|| mounted(&container.id)) else {
        let why = "the engine does not say where the writable layer is, and it is not mounted";
        return Ok(LayerWay::Engine(why.into()));
    };
    if !is_the_containers(engine, container, &upper)? {
        let why = format!("{} does not look as the container's root does", upper.display());
        return Ok(LayerWay::Engine(why));
    }
    Ok(match check(&upper) {
        Ok(()) => LayerWay::Direct(upper),
        Err(error) => LayerWay::Engine(error.to_string()),
    })
}

/// Whether the folder's own time is the one that the container's root has. The engine is asked first each time: to look
/// into a container, Engine 28 makes a folder in its root and removes it.
fn is_the_containers(engine: &Engine, container: &Container, upper: &Path) -> Result<bool, LayerError> {
    for _ in 0..LOOKS_MAX {
        let there = engine.path_stat(&container.id, "/")?.and_then(|stat| stat.modified);
        let Ok(here) = std::fs::symlink_metadata(upper) else { return Ok(false) };
        if there == Some((here.mtime(), here.mtime_nsec())) && here.is_dir() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The upper folder of the overlay that is mounted for a container, in this process's view.
fn mounted(container: &str) -> Option<PathBuf> {
    let table = std::fs::read("/proc/self/mountinfo").ok()?;
    upper_in(&table, container)
}

/// `36 35 98:0 / /mnt rw shared:1 - overlay overlay rw,lowerdir=…,upperdir=…`
fn upper_in(table: &[u8], container: &str) -> Option<PathBuf> {
    if !is_id(container) {
        return None;
    }
    table.split(|byte| *byte == b'\n').find_map(|line| {
        let mut words = line.split(|byte| *byte == b' ');
        let place = unescaped(words.nth(4)?);
        let place = place.split(|byte| *byte == b'/').next_back()?;
        let mut words = words.skip_while(|word| *word != b"-").skip(1);
        let kind = words.next()?;
        let options = words.nth(1)?;
        let upper = options.split(|byte| *byte == b',').find_map(|word| word.strip_prefix(b"upperdir="))?;
        (kind == b"overlay" && place == container.as_bytes())
            .then(|| PathBuf::from(std::ffi::OsString::from_vec(unescaped(upper))))
            .filter(|path| path.is_absolute())
    })
}

/// The kernel writes blanks and backslashes as `\ooo`.
fn unescaped(word: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let [first, after @ ..] = rest {
        let digits =
            after.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &after[3..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

impl ReachedLayer {
    /// The container.
    pub fn container(&self) -> &Container {
        &self.container
    }

    /// The layer alone as an archive, through the engine, whatever the way is: its members are in the order of trees.
    pub fn archive(&self) -> std::io::Result<impl Read + use<>> {
        let Self { engine, run, container, .. } = self;
        LayerArchive::open(Source {
            engine: engine.clone(),
            run: run.clone(),
            container: container.clone(),
            files: Vec::new(),
        })
    }

    /// Whether it comes as a stream, which is read while services are held and takes as long again each time.
    pub fn is_stream(&self) -> bool {
        matches!(self.way, LayerWay::Engine(_))
    }

    /// How the layer is read, for `layer.json` and the source's detail.
    pub fn read(&self) -> Value {
        match &self.way {
            LayerWay::Direct(_) => json!({"way": "direct", "loses": []}),
            LayerWay::Engine(why) => json!({"way": "engine", "why": why, "loses": LOST_THROUGH_ENGINE}),
        }
    }

    /// One sentence for people where something is lost or slow; none for a direct way.
    pub fn notice(&self) -> Option<String> {
        let LayerWay::Engine(why) = &self.way else { return None };
        let name = &self.container.name;
        Some(format!(
            "container:{name}: its writable layer is committed and read through the engine: {why}; extended attributes, \
             access control lists, parts of seconds and holes are lost, and what is paused or stopped for it stays so for \
             the whole stream"
        ))
    }

    /// What a backup is to read: `container.json`, `image.json`, `networks.json`, `layer.json` and
    /// `layer`. What is paused or stopped for
    /// it may go on when it was read; the way through the engine makes its copy when reading begins.
    pub fn into_source(self, detail: String) -> SourceSpec {
        let mut read = self.read();
        read["version"] = Value::from(LAYER_VERSION);
        read["left_out"] = left_out(&self.container).collect();
        let files = files(&self.container, self.image.as_ref(), &self.networks, &read);
        if let LayerWay::Direct(upper) = &self.way
            && let Some(spec) = super::source(&self.container, upper)
        {
            return SourceSpec::Tree(lifeboat_transfer::backup::TreeSpec { detail, files, ..spec });
        }
        let Self { engine, run, container, .. } = self;
        let name = container.name.clone();
        let source = Source { engine, run, container, files };
        let open = move || -> std::io::Result<Box<dyn Read + Send>> {
            Ok(Box::new(LayerArchive::open(source.clone())?))
        };
        SourceSpec::Archive(ArchiveSpec { detail, ..ArchiveSpec::new(SourceKind::Container, name, open) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upper_folder_is_found_by_the_containers_id_alone() {
        let id = "0123456789abcdef".repeat(4);
        let table = format!(
            "1 0 8:1 / / rw - ext4 /dev/x rw\n\
             2 1 0:5 / /data/rootfs/overlayfs/{other} rw shared:9 - overlay overlay rw,lowerdir=/l,upperdir=/no,workdir=/w\n\
             3 1 0:6 / /data/a\\040b/{id} rw - overlay overlay rw,lowerdir=/l,upperdir=/up\\040per/fs,workdir=/w\n\
             garbage\n",
            other = "f".repeat(64)
        );
        assert_eq!(upper_in(table.as_bytes(), &id), Some(PathBuf::from("/up per/fs")));
        for none in ["", "0123456789ab", &"0".repeat(64), "../x"] {
            assert_eq!(upper_in(table.as_bytes(), none), None, "{none}");
        }
        let tmpfs = format!("3 1 0:6 / /x/{id} rw - tmpfs tmpfs rw,upperdir=/x\n");
        assert_eq!(upper_in(tmpfs.as_bytes(), &id), None);
    }
}
