//! Images that a restore brings, as they are noted before the engine is given them.
//!
//! Must stay true: what was there before, what has another name by then and what somebody uses is not removed.

use super::Error;
use super::undo::found;
use crate::engine::Engine;
use crate::engine::views::{Image, list};
use crate::image::plan::Plan;
use serde::{Deserialize, Serialize};

/// Images that a restore loads. An engine may give them ids that nobody knows before, so they are told by their layers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loading {
    /// The layers (`diff_ids`) of each.
    pub layers: Vec<Vec<String>>,
    /// The names that they get. An image that has others too is somebody's.
    pub names: Vec<String>,
    /// Ids of images with the same layers that were there before.
    pub there: Vec<String>,
}

impl Loading {
    /// What is noted before images are loaded by their plans; `None` where the engine has all of them.
    pub fn of<'p>(engine: &Engine, plans: impl Iterator<Item = &'p Plan>) -> Result<Option<Self>, Error> {
        let mut loading = Self::default();
        for plan in plans.filter(|plan| plan.present.is_none()) {
            loading.layers.push(plan.description.diff_ids.clone());
            loading.names.extend(plan.tags.iter().cloned());
        }
        if loading.layers.is_empty() {
            return Ok(None);
        }
        loading.there = loading.alike(engine)?.into_iter().map(|image| image.id).collect();
        Ok(Some(loading))
    }

    /// The images of an engine that have the layers of one of these.
    fn alike(&self, engine: &Engine) -> Result<Vec<Image>, Error> {
        let mut alike = Vec::new();
        for listed in engine.all_images()? {
            // Another one may have gone since the list was made.
            let Some(image) = found(engine.image(&listed.id))? else { continue };
            let is_it = |layers: &Vec<String>| {
                list(&image.raw, "/RootFS/Layers").filter_map(|layer| layer.as_str()).eq(layers)
            };
            if self.layers.iter().any(is_it) {
                alike.push(image);
            }
        }
        Ok(alike)
    }

    /// Removes those that were not there before and that nobody uses or calls something else; how many of all are gone.
    pub(super) fn remove(&self, engine: &Engine, done: &mut Vec<String>) -> Result<usize, Error> {
        let is_ours = |image: &Image| {
            !self.there.contains(&image.id) && image.tags.iter().all(|name| self.names.contains(name))
        };
        let mut gone = 0;
        for image in self.alike(engine)?.into_iter().filter(is_ours) {
            // By its names: an image with several is not removed by its id.
            let names = if image.tags.is_empty() { std::slice::from_ref(&image.id) } else { &image.tags[..] };
            for name in names {
                match engine.remove_image(name) {
                    Ok(()) => done.push(format!("removed image {name}")),
                    // A container of somebody else's is made of it by now.
                    Err(error) if error.is_conflict() => {}
                    Err(error) => return Err(error.into()),
                }
            }
            gone += 1;
        }
        Ok(gone)
    }
}
