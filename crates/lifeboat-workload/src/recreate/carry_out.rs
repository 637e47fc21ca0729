//! Making a container by its plan.
//!
//! Must stay true: until it is whole it has a name by which everybody sees that it is not, and it never runs; if it does
//! not become whole, it is removed, with the volumes, networks and the image that were made for it; a killed run's is found
//! by those names ([`crate::volume::leftovers`]).

use super::Error;
use super::derived::{Derived, whiteouts};
use super::layer::Entries;
use super::plan::Plan;
use crate::engine::views::{Container, text};
use crate::engine::{AnonymousVolumes, Engine};
use crate::image::description::Store;
use crate::layer::reach::{LayerWay, ReachedLayer, reach};
use crate::volume::Volumes;
use lifeboat_transfer::pieces::ChunkReader;
use serde_json::Value;

/// What a container is called until it is whole, before the name of the run that makes it.
pub const UNFINISHED: &str = "lifeboat-unfinished-";

/// A container that is being made.
#[derive(Debug)]
pub struct Unfinished {
    engine: Engine,
    id: Option<String>,
    networks: Vec<String>,
    image: Option<Derived>,
}

/// A container's writable layer in a snapshot.
pub struct Layer<'l> {
    /// Its entries.
    pub entries: &'l Entries<'l>,
    /// What they hold.
    pub reader: &'l dyn ChunkReader,
}

impl Unfinished {
    /// Makes networks and container, for the run of this name. It does not run.
    ///
    /// Where its layer can only be given to the engine as an archive, and something was deleted in it, it is made of an image
    /// that does not have that.
    ///
    /// Gives the way to its layer too, where there is one to come.
    pub fn begin(
        volumes: &Volumes,
        plan: &Plan,
        layer: Option<&Layer<'_>>,
    ) -> Result<(Self, Option<ReachedLayer>), Error> {
        let (engine, run) = (volumes.engine(), volumes.run());
        let mut made = Self { engine: engine.clone(), id: None, networks: Vec::new(), image: None };
        for body in &plan.networks {
            engine.create_network(body)?;
            made.networks.push(text(body, "/Name"));
        }
        made.create(plan, run, None)?;
        let Some(layer) = layer else { return Ok((made, None)) };
        let mut reached = made.reach(volumes)?;
        if let LayerWay::Engine(_) = reached.way
            && let Some(whiteouts) = whiteouts(layer.entries, layer.reader)?
        {
            made.remove()?;
            let store = Store::of(volumes.info());
            let image = Derived::make(engine, (store, run), &plan.name, &plan.image, whiteouts)?;
            let name = image.name.clone();
            made.image = Some(image);
            made.create(plan, run, Some(name))?;
            reached = made.reach(volumes)?;
        }
        Ok((made, Some(reached)))
    }

    fn create(&mut self, plan: &Plan, run: &str, image: Option<String>) -> Result<(), Error> {
        let mut body = plan.request.body.clone();
        if let Some(image) = image {
            body["Image"] = Value::from(image);
        }
        let id = self.engine.create_container(Some(&format!("{UNFINISHED}{run}")), &body)?;
        self.id = Some(id.clone());
        for (network, endpoint) in &plan.request.connect {
            self.engine.connect_network(network, &id, endpoint)?;
        }
        for network in &plan.request.disconnect {
            self.engine.disconnect_network(network, &id)?;
        }
        Ok(())
    }

    fn remove(&mut self) -> Result<(), Error> {
        match self.id.take() {
            Some(id) => Ok(self.engine.remove_container(&id, AnonymousVolumes::Remove)?),
            None => Ok(()),
        }
    }

    fn reach(&self, volumes: &Volumes) -> Result<ReachedLayer, Error> {
        Ok(reach(volumes, self.container()?)?)
    }

    /// The image that was made for it, where deletions could not be made otherwise.
    pub fn derived(&self) -> Option<&str> {
        self.image.as_ref().map(|image| image.name.as_str())
    }

    /// What the engine says of it now.
    pub fn container(&self) -> Result<Container, Error> {
        Ok(self.engine.container(self.id.as_deref().unwrap_or_default())?)
    }

    /// Gives it its name: now it is there. Gives its id.
    pub fn finish(mut self, name: &str) -> Result<String, Error> {
        let id = self.id.clone().unwrap_or_default();
        self.engine.rename_container(&id, name)?;
        self.networks.clear();
        self.id = None;
        if let Some(image) = self.image.take() {
            image.keep();
        }
        Ok(id)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = self.remove();
        for network in &self.networks {
            let _ = self.engine.remove_network(network);
        }
    }
}
