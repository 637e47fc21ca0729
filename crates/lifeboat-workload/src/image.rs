//! Images: out of an engine into a tree, and back. `docs/format/image.md`
//!
//! What an engine saves is a tar archive with one archive for each layer, and a few small files. The outer one is taken
//! apart here: layers become a skeleton and their files, so that the same file in two layers, two images or a volume is
//! stored once; everything else is stored as it is. Nothing is ever unpacked on disk.
//!
//! Must stay true: an image whose archive is hollow, short or not what its digests say is never stored as a whole one; one
//! that an engine took is believed only after it was looked at and a container could be made of it; and what cannot be
//! used then is removed again.
//!
//! Read next: [`rewrite`], [`description`]; then [`plan`] and [`load`] for the way back.

pub mod description;
mod gzip;
mod hashing;
pub mod load;
pub(crate) mod packer;
pub mod plan;
mod rewrite;
mod stream;
mod verify;

pub use rewrite::rewrite;
pub use stream::{Entries, LoadStream, Names};

use crate::engine::views::{EngineInfo, Image, list, text};
use crate::engine::{self, Engine};
use crate::piped::Piped;
use description::{Description, Store};
use lifeboat_format::snapshot::SourceKind;
use lifeboat_transfer::backup::ArchiveSpec;
use lifeboat_transfer::source::archive::ArchiveError;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The description of an image, in its source.
pub const DESCRIPTION_FILE: &str = "image.json";
/// The folder with what is stored as it is.
pub const WHOLE_FOLDER: &str = "archive";
/// The folder with what was taken apart: a folder for each file, with these two in it.
pub const SPLIT_FOLDER: &str = "split";
/// The parts of a skeleton, in order.
pub const SKELETON_FOLDER: &str = "skeleton";
/// The contents, in order.
pub const DATA_FOLDER: &str = "data";
/// The parts of a recipe, in order: only of gzip streams.
pub const RECIPE_FOLDER: &str = "recipe";

/// How images are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Images {
    /// So that the engine's own id comes back, wherever the kind of store is the same.
    #[default]
    Exact,
    /// By file also where the engine keeps compressed layers: the id of the manifest is given up, the configuration's
    /// digest and those of the layers stay.
    Portable,
}

/// Why an image could not be stored or restored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine did not do what it was asked.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// What the engine saved is no sound archive.
    #[error("the engine's archive of it is damaged")]
    Archive(#[from] ArchiveError),
    /// What was made of it could not be passed on.
    #[error("it cannot be passed on")]
    Stream(#[from] std::io::Error),
    /// Something is missing, or is not what its digest says.
    #[error("image incomplete: {0}")]
    Incomplete(String),
    /// Nothing that this program knows.
    #[error("{0}")]
    Unsupported(String),
    /// The snapshot's description of it cannot be used.
    #[error("{DESCRIPTION_FILE} of the snapshot {0}")]
    Record(String),
    /// The engine took it and it cannot be used.
    #[error("the engine took the image, but it cannot be used: {0}; it was removed again")]
    Broken(String),
    /// Something is in the way.
    #[error("{text}")]
    InTheWay {
        /// What.
        text: String,
        /// What to do about it, to be pasted.
        hint: String,
    },
}

/// An image that is to be stored.
#[derive(Debug, Clone)]
pub struct Found {
    /// What the engine says of it.
    pub image: Image,
    /// Where it is kept.
    pub store: Store,
    /// How it is stored.
    pub images: Images,
}

impl Error {
    /// What to type next, where that can be said.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Engine(error) => error.hint(),
            Self::InTheWay { hint, .. } => Some(hint.clone()),
            _ => None,
        }
    }
}

impl Found {
    /// The image of a name or id.
    pub fn find(engine: &Engine, info: &EngineInfo, name: &str, images: Images) -> engine::Result<Self> {
        let image = engine.image(name)?;
        let store = Store::of(info);
        // A graph store saves layers as they are, so nothing has to be given up.
        let images = if store == Store::Graph { Images::Exact } else { images };
        Ok(Self { image, store, images })
    }

    /// What is known of it before it is read.
    pub fn about(&self, engine: &Engine) -> Description {
        let raw = &self.image.raw;
        let platform = [text(raw, "/Os"), text(raw, "/Architecture"), text(raw, "/Variant")];
        let platform: Vec<&str> =
            platform.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        Description {
            version: Description::VERSION,
            id: self.image.id.clone(),
            tags: self.image.tags.clone(),
            digests: self.image.digests.clone(),
            store: self.store,
            images: self.images,
            platform: platform.join("/"),
            engine: engine.version().engine.clone(),
            diff_ids: list(raw, "/RootFS/Layers").filter_map(|id| Some(id.as_str()?.to_owned())).collect(),
            ..Description::default()
        }
    }

    /// It as a source of a snapshot, under a name of its own.
    pub fn source(&self, engine: &Engine, name: &str) -> ArchiveSpec {
        let about = self.about(engine);
        let engine = engine.clone();
        let detail = json!({
            "id": about.id, "tags": about.tags, "digests": about.digests, "store": about.store, "images": about.images,
        });
        let mut spec = ArchiveSpec::new(SourceKind::Image, name, move || {
            let (engine, about) = (engine.clone(), about.clone());
            let made = Piped::begin(move |output| {
                let saved = engine.save_image(&about.id)?;
                rewrite(saved, output, about).map(drop)
            })?;
            Ok(Box::new(made))
        });
        spec.detail = detail.to_string();
        // An id is a digest of all that it stands for.
        spec.is_told_by_detail = true;
        spec
    }
}
