//! Whether what an engine saved is the image that was asked for, and all of it.
//!
//! Must stay true: every digest that is stated anywhere is compared with what was read; whatever is named and not there is
//! told, unless it belongs to a platform that the engine does not have.

use super::Error;
use super::description::{Description, FileRecord, Store, resolve};
use crate::engine::views::{list, text};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Where blobs lie in an OCI layout.
const BLOBS: &str = "blobs/sha256/";
const MANIFEST: &str = "manifest.json";
const INDEX: &str = "index.json";
/// An index in an index is as deep as it gets.
const DEPTH_MAX: u32 = 4;

/// What was read of an image's archive.
#[derive(Default)]
pub(super) struct Saved {
    /// In the order in which they came.
    pub(super) files: Vec<FileRecord>,
    /// Contents of the small ones.
    pub(super) small: BTreeMap<String, Vec<u8>>,
    /// Compressed ones: under which name they are stored uncompressed, and the digest that they had.
    pub(super) unpacked: BTreeMap<String, (String, String)>,
    /// Of those that were taken apart with a recipe: the digests of their plain bytes.
    pub(super) plain: BTreeMap<String, String>,
}

/// What is stored of a portable image.
pub(super) struct Portable {
    pub(super) files: Vec<FileRecord>,
    /// Small files with their content.
    pub(super) made: Vec<(String, Vec<u8>)>,
}

/// Where the blob of a digest lies.
fn blob(digest: &str) -> String {
    digest.replace("sha256:", BLOBS)
}

fn incomplete<T>(detail: impl Into<String>) -> Result<T, Error> {
    Err(Error::Incomplete(detail.into()))
}

impl Saved {
    /// The file of a name, under whatever name it is stored.
    fn file(&self, path: &str) -> Option<&FileRecord> {
        let stored = self.unpacked.get(path).map_or(path, |(stored, _)| stored.as_str());
        resolve(&self.files, stored)
    }

    /// The digest of a file as it was saved.
    fn digest(&self, path: &str) -> Option<&str> {
        match self.unpacked.get(path) {
            Some((_, digest)) => Some(digest),
            None => self.file(path).map(|file| file.sha256.as_str()),
        }
    }

    fn json(&self, path: &str) -> Option<Value> {
        serde_json::from_slice(self.small.get(path)?).ok()
    }

    /// Completes the description of the image.
    pub(super) fn verify(&self, mut about: Description) -> Result<Description, Error> {
        let names = self.files.iter().map(|file| &file.path).chain(self.unpacked.keys());
        for name in names.filter(|name| name.starts_with(BLOBS)) {
            if self.digest(name) != name.strip_prefix(BLOBS) {
                return incomplete(format!("{name} is not what its name says"));
            }
        }
        let (config, layers, diff_ids) = self.manifest(&about)?;
        about.config = format!("sha256:{}", self.digest(&config).unwrap_or_default());
        let stem = config.rsplit('/').next().unwrap_or_default();
        let stem = stem.strip_suffix(".json").unwrap_or(stem);
        if about.config != format!("sha256:{stem}") {
            return incomplete(format!("its configuration {config} is not what its name says"));
        }
        if diff_ids.len() != layers.len() {
            return incomplete(format!("it has {} layers, and {} are there", diff_ids.len(), layers.len()));
        }
        about.layers.clear();
        for (layer, diff_id) in layers.iter().zip(&diff_ids) {
            let Some(file) = self.file(layer) else {
                return incomplete(format!("its layer {layer} is missing"));
            };
            let is_plain = (file.split && file.recipe.is_none()) || about.store == Store::Graph;
            let plain = if is_plain { Some(&file.sha256) } else { self.plain.get(&file.path) };
            if plain.is_some_and(|plain| format!("sha256:{plain}") != *diff_id) {
                return incomplete(format!("its layer {layer} is not the one with the digest {diff_id}"));
            }
            about.layers.push(file.path.clone());
        }
        about.diff_ids = diff_ids;
        let mut absent = 0;
        let top = self.index(&about, &mut absent)?;
        match about.store {
            Store::Graph if about.id != about.config => {
                return incomplete(format!("the engine saved {} instead of {}", about.config, about.id));
            }
            Store::Containerd if !top.contains(&about.id) => {
                return incomplete(format!("the engine did not save {}", about.id));
            }
            _ => {}
        }
        about.absent_platforms = absent;
        about.files.clone_from(&self.files);
        Ok(about)
    }

    /// The configuration's name, the layers' names, and the digests that the configuration gives the layers.
    fn manifest(&self, about: &Description) -> Result<(String, Vec<String>, Vec<String>), Error> {
        let Some(manifest) = self.json(MANIFEST) else {
            return incomplete("its archive has no manifest.json that can be read");
        };
        let texts = |value: &Value, pointer: &str| -> Vec<String> {
            list(value, pointer).filter_map(|item| Some(item.as_str()?.to_owned())).collect()
        };
        let mut missing = None;
        for entry in list(&manifest, "") {
            let config = text(entry, "/Config");
            let Some(read) = self.json(&config) else {
                missing = Some(config);
                continue;
            };
            let diff_ids = texts(&read, "/rootfs/diff_ids");
            // An index has an entry for each platform; the engine's inspection tells which one is meant.
            if about.diff_ids.is_empty() || about.diff_ids == diff_ids {
                return Ok((config, texts(entry, "/Layers"), diff_ids));
            }
        }
        match missing {
            Some(config) => incomplete(format!("its configuration {config} is missing")),
            None => incomplete("none of its configurations has the layers that the engine names"),
        }
    }

    /// Goes through the index, if there is one; gives the digests at its top, and counts platforms that are not there.
    fn index(&self, about: &Description, absent: &mut u64) -> Result<Vec<String>, Error> {
        let Some(index) = self.json(INDEX) else { return Ok(Vec::new()) };
        let top: Vec<String> = list(&index, "/manifests").map(|one| text(one, "/digest")).collect();
        for digest in &top {
            if !self.small.contains_key(&blob(digest)) {
                return incomplete(format!("its manifest {digest} is missing"));
            }
            self.descriptor(digest, about, DEPTH_MAX, absent)?;
        }
        Ok(top)
    }

    fn descriptor(
        &self,
        digest: &str,
        about: &Description,
        depth: u32,
        absent: &mut u64,
    ) -> Result<(), Error> {
        let Some(manifest) = self.json(&blob(digest)).filter(|_| depth > 0) else {
            *absent += 1;
            return Ok(());
        };
        for nested in list(&manifest, "/manifests") {
            self.descriptor(&text(nested, "/digest"), about, depth - 1, absent)?;
        }
        let config = text(&manifest, "/config/digest");
        let layers = list(&manifest, "/layers").map(|layer| text(layer, "/digest"));
        let missing: Vec<String> = layers.filter(|digest| self.digest(&blob(digest)).is_none()).collect();
        match missing.first() {
            Some(layer) if config == about.config => incomplete(format!("its layer {layer} is missing")),
            Some(_) => {
                *absent += 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// What is stored of a portable image: the configuration, the layers, and a manifest that names them.
    pub(super) fn portable(&self, description: &Description) -> Result<Portable, Error> {
        let hex = description.config.trim_start_matches("sha256:");
        let config = format!("{hex}.json");
        let bytes = self.small.iter().find(|(path, _)| self.digest(path) == Some(hex));
        let Some((_, bytes)) = bytes else { return incomplete("its configuration is missing") };
        let manifest = json!([{"Config": config, "RepoTags": null, "Layers": description.layers}]);
        let mut made =
            vec![(config, bytes.clone()), (MANIFEST.to_owned(), manifest.to_string().into_bytes())];
        let mut files: Vec<FileRecord> = Vec::new();
        for path in &description.layers {
            let Some(layer) = self.file(path) else {
                return incomplete(format!("its layer {path} is missing"));
            };
            if files.contains(layer) {
                continue;
            }
            if !layer.split {
                let bytes = self.small.get(&layer.path).cloned().unwrap_or_default();
                made.push((layer.path.clone(), bytes));
            }
            files.push(layer.clone());
        }
        for (path, bytes) in &made[..2] {
            use sha2::Digest;
            let sha256 = lifeboat_format::hex(&sha2::Sha256::digest(bytes));
            let bytes = bytes.len() as u64;
            files.push(FileRecord { path: path.clone(), bytes, sha256, ..FileRecord::default() });
        }
        Ok(Portable { files, made })
    }
}
