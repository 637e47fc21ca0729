//! An image back into an engine.
//!
//! Must stay true: the engine's word for success is not taken. What it says it loaded is inspected, its layers are compared,
//! and a container is made of it, which never starts; what does not pass is removed, unless it was there before. Names are
//! given only after that.

use super::Error;
use super::description::Description;
use super::plan::{Plan, expected_id};
use crate::engine::views::{Image, list};
use crate::engine::{self, AnonymousVolumes, Engine, ErrorKind};
use crate::volume::helper_container::{HELPER_LABEL, never_started};
use serde_json::json;
use std::collections::HashSet;
use std::io::Read;

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// Its id on this engine.
    pub id: String,
    /// The id that it had.
    pub recorded_id: String,
    /// Whether it had been there.
    pub was_there: bool,
    /// Names that it has now.
    pub tags: Vec<String>,
    /// Names by digest that it had and has no more.
    pub lost_digests: Vec<String>,
}

/// Loads an image by its plan; `stream` makes the archive without some of its files, again where that is not enough.
pub fn load<S: Read>(
    engine: &Engine,
    run: &str,
    plan: &Plan,
    mut stream: impl FnMut(&HashSet<String>) -> S,
) -> Result<Loaded, Error> {
    let mut loaded = Loaded { recorded_id: plan.description.id.clone(), ..Loaded::default() };
    match &plan.present {
        Some(id) if probe(engine, run, id).is_ok() => {
            (loaded.id, loaded.was_there) = (id.clone(), true);
        }
        _ => {
            let first = give(engine, run, plan, stream(&plan.omitted));
            loaded.id = match first {
                // A layer that was there may be gone.
                Err(ref error) if !plan.omitted.is_empty() && may_be_for_a_layer(error) => {
                    give(engine, run, plan, stream(&HashSet::new()))?
                }
                first => first?,
            };
        }
    }
    for tag in &plan.tags {
        let (repository, word) = split_name(tag);
        engine.tag_image(&loaded.id, repository, word)?;
    }
    let image = engine.image(&loaded.id)?;
    loaded.lost_digests =
        plan.description.digests.iter().filter(|digest| !image.digests.contains(digest)).cloned().collect();
    loaded.tags = plan.tags.clone();
    Ok(loaded)
}

/// Whether an engine may have refused an image because a layer that it was not given is missing.
fn may_be_for_a_layer(error: &Error) -> bool {
    match error {
        Error::Engine(error) => error.kind() != ErrorKind::Full,
        error => matches!(error, Error::Broken(_)),
    }
}

/// Gives the engine the archive, and looks at what it made of it; gives the id.
fn give(engine: &Engine, run: &str, plan: &Plan, stream: impl Read) -> Result<String, Error> {
    let before: HashSet<String> = engine.all_images()?.into_iter().map(|image| image.id).collect();
    let said = engine.load_images(stream)?;
    let ids = said.iter().filter_map(|line| line.rsplit_once("sha256:"));
    let ids: Vec<String> = ids.map(|(_, hex)| format!("sha256:{}", hex.trim())).collect();
    let Some(id) = ids.last() else {
        return Err(Error::Broken(format!("it does not say what it loaded: {}", said.join("; "))));
    };
    let looked = look(engine, run, plan, id);
    if looked.is_err() {
        for id in ids.iter().filter(|id| !before.contains(*id)) {
            // What is told is why, not that.
            let _ = engine.remove_image(id);
        }
    }
    looked.map(|()| id.clone())
}

fn look(engine: &Engine, run: &str, plan: &Plan, id: &str) -> Result<(), Error> {
    let broken = |detail: String| Error::Broken(detail);
    let image = engine.image(id).map_err(|error| broken(error.to_string()))?;
    if !is_the_same(&image, &plan.description) {
        return Err(broken("its layers are not those of the snapshot".into()));
    }
    // On a graph store that is the digest of its configuration, whatever store it comes from.
    if let Some(expected) =
        expected_id(&plan.description, plan.store).filter(|expected| image.id != *expected)
    {
        return Err(broken(format!("it has the id {} instead of {expected}", image.id)));
    }
    probe(engine, run, id)
}

fn is_the_same(image: &Image, description: &Description) -> bool {
    let layers = list(&image.raw, "/RootFS/Layers").filter_map(|layer| layer.as_str());
    layers.eq(description.diff_ids.iter().map(String::as_str))
}

/// Makes a container of an image, looks at its root, and removes it: an engine may call an image whole that is not.
fn probe(engine: &Engine, run: &str, image: &str) -> Result<(), Error> {
    let body = never_started(image, json!({HELPER_LABEL: run}));
    let broken = |error: engine::Error| match error.kind() {
        ErrorKind::Full => error.into(),
        _ => Error::Broken(format!("no container can be made of it: {error}")),
    };
    let container = engine.create_container(None, &body).map_err(broken)?;
    let looked = engine.path_stat(&container, "/").map_err(broken);
    engine.remove_container(&container, AnonymousVolumes::Remove)?;
    looked.map(drop)
}

/// `NAME:TAG` as name and tag; without a tag, `latest`.
pub fn split_name(name: &str) -> (&str, &str) {
    match name.rsplit_once(':') {
        // A colon before a slash is a port's.
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, "latest"),
    }
}

#[cfg(test)]
mod tests {
    use super::split_name;

    #[test]
    fn a_port_is_no_tag() {
        assert_eq!(split_name("a/b:1"), ("a/b", "1"));
        assert_eq!(split_name("a"), ("a", "latest"));
        assert_eq!(split_name("host:5000/a"), ("host:5000/a", "latest"));
        assert_eq!(split_name("host:5000/a:2"), ("host:5000/a", "2"));
    }
}
