//! What loading an image would do to an engine. Looks, and changes nothing.

use super::description::{Description, Store};
use super::{Error, Images};
use crate::engine::Engine;
use crate::engine::views::{EngineInfo, list, text};
use std::collections::HashSet;

/// What is wanted of an image on an engine.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The names that it gets; `None` for those that it had.
    pub tags: Option<Vec<String>>,
    /// Whether names are taken from images that have them now.
    pub takes_names: bool,
}

/// What would be done.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The image, as it was.
    pub description: Description,
    /// How the engine keeps images.
    pub store: Store,
    /// The id under which the engine has it already.
    pub present: Option<String>,
    /// Files that the engine is not given: it has the layers that they hold.
    pub omitted: HashSet<String>,
    /// Bytes that the engine is given.
    pub bytes: u64,
    /// Names that it gets.
    pub tags: Vec<String>,
    /// What is not as it was, or is noteworthy.
    pub remarks: Vec<String>,
}

/// Plans to load an image.
///
/// # Errors
/// [`Error::InTheWay`] where another image has one of its names.
pub fn plan(
    engine: &Engine,
    info: &EngineInfo,
    description: Description,
    wanted: &Wanted,
) -> Result<Plan, Error> {
    let store = Store::of(info);
    let mut remarks = Vec::new();
    let expected = expected_id(&description, store);
    if description.store != store {
        remarks.push(format!(
            "the image was kept in a {} store and this engine has a {} store: its id changes, its configuration and \
             layers do not",
            description.store.word(),
            store.word()
        ));
    } else if description.images == Images::Portable {
        remarks.push(
            "the image was stored portable: its id changes, its configuration and layers do not".into(),
        );
    }
    platform_remark(info, &description, &mut remarks);
    let tags = wanted.tags.clone().unwrap_or_else(|| description.tags.clone());
    for tag in &tags {
        let Some(other) = found(engine, tag)?.filter(|id| Some(id) != expected.as_ref()) else { continue };
        if !wanted.takes_names {
            return Err(Error::InTheWay {
                text: format!("another image has the name {tag} on this engine: {other}"),
                hint: "lifeboat restore ID:image:NAME --to image:OTHER-NAME    # or add `--overwrite always`"
                    .into(),
            });
        }
        remarks.push(format!("the name {tag} is taken from {other}, which stays without it"));
    }
    Plan { store, present: None, omitted: HashSet::new(), bytes: 0, tags, remarks, description }.again(engine)
}

impl Plan {
    /// The same with what the engine has now: an image that was loaded since has layers of this one.
    pub fn again(mut self, engine: &Engine) -> Result<Self, Error> {
        let description = &self.description;
        self.present = match expected_id(description, self.store) {
            Some(id) => found(engine, &id)?,
            None => None,
        };
        self.omitted = match (self.store, &self.present) {
            (Store::Graph, None) => omitted(engine, description)?,
            _ => HashSet::new(),
        };
        let is_given = |path: &String| self.present.is_none() && !self.omitted.contains(path);
        self.bytes =
            description.files.iter().filter(|file| is_given(&file.path)).map(|file| file.bytes).sum();
        Ok(self)
    }
}

/// The id that it will have there, where that is known before.
pub(super) fn expected_id(description: &Description, store: Store) -> Option<String> {
    match (store, description.store) {
        (Store::Graph, _) => Some(description.config.clone()),
        (Store::Containerd, Store::Containerd) if description.images != Images::Portable => {
            Some(description.id.clone())
        }
        _ => None,
    }
}

/// The id of the image of a name or id, if there is one.
fn found(engine: &Engine, name: &str) -> Result<Option<String>, Error> {
    match engine.image(name) {
        Ok(image) => Ok(Some(image.id)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The layers at the bottom that some image of the engine has: a graph store does not read them from an archive.
fn omitted(engine: &Engine, description: &Description) -> Result<HashSet<String>, Error> {
    let mut known = 0;
    for summary in engine.all_images()? {
        let image = match engine.image(&summary.id) {
            Ok(image) => image,
            // It was removed meanwhile.
            Err(error) if error.is_not_found() => continue,
            Err(error) => return Err(error.into()),
        };
        let layers = list(&image.raw, "/RootFS/Layers");
        let same = layers.zip(&description.diff_ids).take_while(|(have, want)| have.as_str() == Some(want));
        known = known.max(same.count());
    }
    let (below, above) = description.layers.split_at(known.min(description.layers.len()));
    Ok(below.iter().filter(|path| !above.contains(path)).cloned().collect())
}

fn platform_remark(info: &EngineInfo, description: &Description, remarks: &mut Vec<String>) {
    let ours = match text(&info.raw, "/Architecture").as_str() {
        "x86_64" => "amd64".to_owned(),
        "aarch64" => "arm64".to_owned(),
        other => other.to_owned(),
    };
    let theirs = description.platform.split('/').nth(1).unwrap_or_default();
    if !theirs.is_empty() && theirs != ours {
        remarks.push(format!(
            "the image is for {theirs} and this engine's machine is {ours}: it runs only where the machine knows how to \
             (docker run --privileged --rm tonistiigi/binfmt --install {theirs})"
        ));
    }
}
