//! A copy of a container's files that nobody writes to: an image of it, and a container of that which never starts.
//!
//! The engine holds a container's lock for as long as an archive of it is read, and whoever pauses, stops or looks at it
//! waits. So the one that serves is committed, which takes its layer once and no lock, and the copy is read.
//!
//! Must stay true: container and image go away with their value; what a killed run leaves is found by the label
//! ([`crate::volume::leftovers`]); the copy carries none of the labels by which others know the original.

use crate::engine::views::Container;
use crate::engine::{AnonymousVolumes, ArchiveReader, Engine, Error};
use crate::volume::helper_container::{HELPER_LABEL, never_started};
use serde_json::Value;

/// A container that is never started, and its image where that was made for it.
#[derive(Debug)]
pub struct Frozen {
    engine: Engine,
    container: Option<String>,
    image: Option<String>,
}

impl Frozen {
    /// Commits a container, whatever it is doing.
    pub fn copy(engine: &Engine, run: &str, container: &Container) -> Result<Self, Error> {
        let image = engine.commit_container(&container.id, &[(HELPER_LABEL, run)])?;
        let frozen = Self { engine: engine.clone(), container: None, image: Some(image.clone()) };
        frozen.with_container(run, &image, container)
    }

    fn with_container(mut self, run: &str, image: &str, original: &Container) -> Result<Self, Error> {
        // Labels of an image are its containers' too, but for those that they have themselves.
        let mut labels: serde_json::Map<String, Value> =
            original.labels.keys().map(|name| (name.clone(), Value::from(""))).collect();
        labels.insert(HELPER_LABEL.to_owned(), Value::from(run));
        let body = never_started(image, Value::Object(labels));
        self.container = Some(self.engine.create_container(None, &body)?);
        Ok(self)
    }

    /// Reads a path as a tar archive; `None` where nothing is.
    pub fn archive(&self, path: &str) -> Result<Option<ArchiveReader>, Error> {
        match self.engine.archive(self.id(), path) {
            Ok(archive) => Ok(Some(archive)),
            // The container is there for as long as this value is.
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn id(&self) -> &str {
        self.container.as_deref().unwrap_or_default()
    }

    /// Removes both; the value's end would do so too, but could not tell a failure.
    pub fn remove(mut self) -> Result<(), Error> {
        self.clear()
    }

    fn clear(&mut self) -> Result<(), Error> {
        if let Some(container) = self.container.take() {
            self.engine.remove_container(&container, AnonymousVolumes::Remove)?;
        }
        match self.image.take() {
            Some(image) => self.engine.remove_image(&image),
            None => Ok(()),
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // `recover` finds by its label what cannot be removed now.
        let _ = self.clear();
    }
}
