//! A container's image without what was deleted of it: for engines that are given a writable layer as an archive.
//!
//! What is unpacked into a container adds and replaces, and takes nothing away. So deletions become a layer of whiteouts on
//! the same image, with the same configuration, and the container is made of that. Source:
//! <https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts>.
//!
//! A folder that hides the image's is deleted as well: what is in it then comes with the additions.
//!
//! Must stay true: the image has a name that says whose it is, so that nothing of a dead run stays unnoticed; a graph store is
//! given nothing but the one layer; what the engine took is looked at before a container is made of it.

use super::Error;
use super::layer::{Entries, base, is_deletion, is_opaque};
use crate::engine::views::{Image, list, text};
use crate::engine::{self, ArchiveReader, Engine};
use crate::image;
use crate::image::description::Store;
use crate::image::packer::{BUFFER_BYTES, Packer};
use crate::piped::Piped;
use lifeboat_format::entry::Content;
use lifeboat_format::{Entry, Node, TreePath, hex};
use lifeboat_transfer::dump::TarStream;
use lifeboat_transfer::pieces::ChunkReader;
use lifeboat_transfer::source::archive::{Kind, Members};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::io::{BufReader, Read, Write};

/// What such images are called; the tag is the container's name and the run that made it.
pub const REPOSITORY: &str = "lifeboat-derived";
/// More deletions than fit into this make no layer: they are only named.
const LAYER_BYTES_MAX: u64 = 64 << 20;
/// A tag has 128 characters, and 33 of them are the run's.
const NAME_MAX: usize = 90;
/// What a layer calls a file that is deleted.
const WHITEOUT: &[u8] = b".wh.";
const MANIFEST: &str = "manifest.json";
const MANIFEST_BYTES_MAX: u64 = 4 << 20;
/// Of a saved image: what would name the old one again.
const NOT_PASSED_ON: [&str; 4] = [MANIFEST, "index.json", "oci-layout", "repositories"];

/// An image that was made for a container, and goes with this value unless it is kept.
#[derive(Debug)]
pub struct Derived {
    engine: Engine,
    /// What the engine is asked for.
    pub name: String,
    is_kept: bool,
}

/// The whiteouts of a layer, as an archive; `None` where nothing was deleted, or too much.
pub fn whiteouts(entries: &Entries<'_>, reader: &dyn ChunkReader) -> Result<Option<Vec<u8>>, Error> {
    let base = base()?;
    let mut above = BTreeSet::new();
    let mut hidden: Option<TreePath> = None;
    for entry in entries()? {
        let (path, entry) = entry.map_err(Error::Content)?;
        if is_gone(&base, &path, &entry) && !hidden.as_ref().is_some_and(|hidden| path.starts_with(hidden)) {
            let mut parent = path.parent();
            while let Some(folder) = parent.filter(|folder| *folder != base && folder.starts_with(&base)) {
                parent = folder.parent();
                if !above.insert(folder) {
                    break;
                }
            }
            hidden = Some(path);
        }
    }
    if hidden.is_none() {
        return Ok(None);
    }
    let mut hidden: Option<TreePath> = None;
    let chosen = entries()?.filter_map(|entry| match entry {
        Ok((path, _)) if hidden.as_ref().is_some_and(|hidden| path.starts_with(hidden)) => None,
        Ok((path, entry)) if is_gone(&base, &path, &entry) => {
            hidden = Some(path.clone());
            Some(whiteout(&path, entry))
        }
        Ok((path, mut entry)) if above.contains(&path) => {
            entry.metadata.xattrs.clear();
            Some(Ok((path, entry)))
        }
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    });
    let mut layer = Vec::new();
    let archive = TarStream::new(chosen, &base, reader);
    archive
        .take(LAYER_BYTES_MAX + 1)
        .read_to_end(&mut layer)
        .map_err(|error| Error::Content(error.into()))?;
    Ok((layer.len() as u64 <= LAYER_BYTES_MAX).then_some(layer))
}

/// The root of a layer hides nothing, whatever its attributes say.
fn is_gone(base: &TreePath, path: &TreePath, entry: &Entry) -> bool {
    path != base && (is_deletion(entry) || is_opaque(entry))
}

fn whiteout(path: &TreePath, mut entry: Entry) -> lifeboat_transfer::restore::EntryResult {
    let (parent, name) = (path.parent().unwrap_or_default(), path.name().unwrap_or_default());
    entry.node = Node::File { size: 0, content: Content::Empty };
    entry.link = None;
    entry.metadata.xattrs.clear();
    entry.metadata.mode = 0;
    let path = parent.join(&[WHITEOUT, name].concat()).map_err(Box::new)?;
    Ok((path, entry))
}

impl Derived {
    /// Puts a layer on an image, for a container of this name.
    pub fn make(
        engine: &Engine,
        (store, run): (Store, &str),
        container: &str,
        image: &str,
        layer: Vec<u8>,
    ) -> Result<Self, Error> {
        let below = engine.image(image)?;
        let tag: String = container.chars().take(NAME_MAX).collect();
        let name = format!("{REPOSITORY}:{tag}-{run}");
        let diff_id = format!("sha256:{}", hex(&Sha256::digest(&layer)));
        let made = Self { engine: engine.clone(), name: name.clone(), is_kept: false };
        let parts = Parts { config: config(&below, &diff_id, container), layer, name: name.clone() };
        let count = list(&below.raw, "/RootFS/Layers").count();
        let (saving, id) = (engine.clone(), below.id.clone());
        let archive = Piped::begin(move |output| match store {
            // Layers that it has are not looked for.
            Store::Graph => {
                let names = (0..count).map(|number| format!("below/{number}.tar")).collect();
                parts.finish(Packer::new(output), names)
            }
            Store::Containerd => parts.on_top(saving.save_image(&id)?, count, output),
        })
        .map_err(image::Error::Stream)?;
        engine.load_images(BufReader::with_capacity(BUFFER_BYTES, archive))?;
        // It says so in words, and has been wrong.
        let taken = engine.image(&name)?;
        let layers = |image: &Image| -> Vec<Value> { list(&image.raw, "/RootFS/Layers").cloned().collect() };
        let expected = [layers(&below), vec![Value::from(diff_id)]].concat();
        if layers(&taken) != expected {
            return Err(image::Error::Broken(format!("{name} has other layers than it was given")).into());
        }
        Ok(made)
    }

    /// It stays: a container is made of it.
    pub fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Derived {
    fn drop(&mut self) {
        if !self.is_kept {
            // `recover` finds by its name what cannot be removed now.
            let _ = self.engine.remove_image(&self.name);
        }
    }
}

/// The configuration of an image with one layer more. The engine describes it by the words of the configuration itself.
fn config(below: &Image, diff_id: &str, container: &str) -> Vec<u8> {
    let mut diff_ids: Vec<Value> = list(&below.raw, "/RootFS/Layers").cloned().collect();
    diff_ids.push(Value::from(diff_id));
    // Of a run that nobody knows it is told by its age whether it lives.
    let created = jiff::Timestamp::now().to_string();
    let mut config = json!({
        "architecture": text(&below.raw, "/Architecture"),
        "os": text(&below.raw, "/Os"),
        "created": created,
        "config": below.raw.pointer("/Config").cloned().unwrap_or_else(|| json!({})),
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{
            "created": created,
            "created_by": "lifeboat",
            "comment": format!("{} without what container {container} had deleted", below.id),
        }],
    });
    let variant = text(&below.raw, "/Variant");
    if !variant.is_empty() {
        config["variant"] = Value::from(variant);
    }
    config.to_string().into_bytes()
}

/// What is new of it.
struct Parts {
    config: Vec<u8>,
    layer: Vec<u8>,
    name: String,
}

impl Parts {
    /// Passes a saved image on with them behind it.
    fn on_top(self, saved: ArchiveReader, layers: usize, output: impl Write) -> Result<(), image::Error> {
        let mut packer = Packer::new(output);
        let mut members = Members::new(BufReader::with_capacity(BUFFER_BYTES, saved));
        let mut manifest = Vec::new();
        while let Some(member) = members.next_member()? {
            let name = String::from_utf8_lossy(&member.name).into_owned();
            match &member.kind {
                Kind::File if name == MANIFEST => {
                    (&mut members).take(MANIFEST_BYTES_MAX).read_to_end(&mut manifest)?;
                }
                Kind::File if NOT_PASSED_ON.contains(&name.as_str()) => {}
                Kind::File => packer.stream(&name, member.size, &mut members)?,
                Kind::Directory => {}
                _ => {
                    return Err(image::Error::Unsupported(format!(
                        "its archive has `{name}`, which is no file"
                    )));
                }
            }
        }
        let manifest: Value = serde_json::from_slice(&manifest).unwrap_or_default();
        // An index has an entry for each platform; that the layers are the right ones is seen afterwards.
        let names = list(&manifest, "").map(|entry| -> Vec<String> {
            list(entry, "/Layers").filter_map(|name| Some(name.as_str()?.to_owned())).collect()
        });
        let names = names.into_iter().find(|names| names.len() == layers);
        let names =
            names.ok_or_else(|| image::Error::Incomplete("its archive does not name its layers".into()))?;
        self.finish(packer, names)
    }

    fn finish<W: Write>(self, mut packer: Packer<W>, mut below: Vec<String>) -> Result<(), image::Error> {
        let stem = hex(&Sha256::digest(&self.config));
        let (config, layer) = (format!("{stem}.json"), format!("{stem}/layer.tar"));
        packer.file(&config, &self.config)?;
        packer.file(&layer, &self.layer)?;
        below.push(layer);
        let manifest = json!([{"Config": config, "RepoTags": [self.name], "Layers": below}]);
        packer.file(MANIFEST, manifest.to_string().as_bytes())?;
        Ok(packer.finish()?)
    }
}

/// The run that made such an image, by a name of it.
pub fn run_of(name: &str) -> Option<&str> {
    let (repository, tag) = name.rsplit_once(':')?;
    let (_, run) = tag.rsplit_once('-')?;
    (repository == REPOSITORY).then_some(run)
}

/// Removes those of a run that no container is made of; gives their names.
pub fn remove_unused(engine: &Engine, goes: impl Fn(&Image, &str) -> bool) -> engine::Result<Vec<String>> {
    let mut removed = Vec::new();
    for image in engine.images(&[])? {
        for name in image.tags.iter().filter(|name| run_of(name).is_some_and(|run| goes(&image, run))) {
            match engine.remove_image(name) {
                Ok(()) => removed.push(name.clone()),
                // A container is made of it.
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::run_of;

    #[test]
    fn a_name_says_whose_it_is() {
        assert_eq!(run_of("lifeboat-derived:shop-api-1-0a1b"), Some("0a1b"));
        assert_eq!(run_of("lifeboat-derived:api"), None);
        assert_eq!(run_of("other/lifeboat-derived:api-1"), None);
        assert_eq!(run_of("shop/api:1"), None);
    }
}
