//! Making a container by its plan.
//!
//! Must stay true: until it is whole it has a name by which everybody sees that it is not, and it never runs; if it does
//! not become whole, it is removed, with the volumes and networks that were made for it; a killed run's is found by that
//! name ([`crate::volume::leftovers`]).

use super::Error;
use super::plan::Plan;
use crate::engine::views::{Container, text};
use crate::engine::{AnonymousVolumes, Engine};

/// What a container is called until it is whole, before the name of the run that makes it.
pub const UNFINISHED: &str = "lifeboat-unfinished-";

/// A container that is being made.
#[derive(Debug)]
pub struct Unfinished {
    engine: Engine,
    id: Option<String>,
    networks: Vec<String>,
}

impl Unfinished {
    /// Makes networks and container, for the run of this name. It does not run.
    pub fn begin(engine: &Engine, plan: &Plan, run: &str) -> Result<Self, Error> {
        let mut made = Self { engine: engine.clone(), id: None, networks: Vec::new() };
        for body in &plan.networks {
            engine.create_network(body)?;
            made.networks.push(text(body, "/Name"));
        }
        let id = engine.create_container(Some(&format!("{UNFINISHED}{run}")), &plan.request.body)?;
        made.id = Some(id.clone());
        for (network, endpoint) in &plan.request.connect {
            engine.connect_network(network, &id, endpoint)?;
        }
        for network in &plan.request.disconnect {
            engine.disconnect_network(network, &id)?;
        }
        Ok(made)
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
        Ok(id)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(id) = &self.id {
            let _ = self.engine.remove_container(id, AnonymousVolumes::Remove);
        }
        for network in &self.networks {
            let _ = self.engine.remove_network(network);
        }
    }
}
