//! Compose projects: what belongs to one, and how it comes back as a whole.
//!
//! Must stay true: members come from containers, so that nothing is missed that a label does not name; a project comes
//! back from what was recorded, even where its compose file is gone; no value of an environment or a secret reaches a plan, a
//! message or a description.
//!
//! Read next: [`description`], [`files`], [`order`]; for the way back [`plan`], [`rename`], [`override_file`], [`undo`].

pub mod description;
pub mod digests;
pub mod drift;
pub mod files;
pub mod loading;
pub mod order;
pub mod override_file;
pub mod plan;
pub mod ports;
pub mod rename;
pub mod start;
pub mod undo;

use crate::capture::group::around;
use crate::engine::Engine;
use crate::engine::views::{Container, text};
use crate::facts::{Facts, State};
use crate::recreate::derived;
use description::{Description, External, ImageOf, Member};
use digests::Digests;
use lifeboat_format::snapshot::SourceKind;
use lifeboat_format::{Metadata, TreePath};
use lifeboat_transfer::backup::TreeSpec;
use lifeboat_transfer::source::compose::MemoryFile;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// On everything of a project: its name.
pub const PROJECT: &str = "com.docker.compose.project";
/// On containers: the service.
pub const SERVICE: &str = "com.docker.compose.service";
/// On containers: `True` for those of `compose run`.
pub const ONE_OFF: &str = "com.docker.compose.oneoff";
/// On containers: what they wait for, `service:condition:restart` by commas.
pub const DEPENDS_ON: &str = "com.docker.compose.depends_on";
/// On containers: the image's id.
pub const IMAGE: &str = "com.docker.compose.image";
/// On everything: a digest of how it was asked for.
pub const CONFIG_HASH: &str = "com.docker.compose.config-hash";
const FILES: &str = "com.docker.compose.project.config_files";
const FOLDER: &str = "com.docker.compose.project.working_dir";
const ENVIRONMENT: &str = "com.docker.compose.project.environment_file";

/// The description of a project, in its source.
pub const PROJECT_FILE: &str = "project.json";
/// Beside it: what compose's digests are of, where ids are in it.
pub const DIGESTS_FILE: &str = "digests.json";

/// Why a project could not be found, or brought back.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] crate::engine::Error),
    /// The engine describes a container in a way that is not understood.
    #[error(transparent)]
    Capture(#[from] crate::capture::Error),
    /// A volume failed.
    #[error(transparent)]
    Volume(#[from] crate::volume::Error),
    /// Nobody is in it.
    #[error("no container belongs to a project `{0}`")]
    NoProject(String),
    /// A description in the snapshot is not one.
    #[error("{PROJECT_FILE} of the snapshot {0}")]
    Record(String),
    /// It cannot be a project's name.
    #[error("`{0}` cannot be the name of a project: lower-case letters, digits, dashes and underscores")]
    Name(String),
    /// It does not become what another one waits for.
    #[error("container {name} is not well: {why}")]
    NotWell {
        /// Its name.
        name: String,
        /// Why not.
        why: String,
    },
    /// What a dead restore noted is not for this program.
    #[error("the note {0}")]
    Note(String),
    /// What was begun could not be written down.
    #[error("what is made cannot be written down, so that nothing is made")]
    Journal(#[source] std::io::Error),
}

/// A project as it is now.
#[derive(Debug, Clone)]
pub struct Project {
    /// What the snapshot says of it.
    pub description: Description,
    /// Files that are stored beside it.
    pub files: Vec<PathBuf>,
    /// What the engine says of its containers.
    pub containers: Vec<Container>,
    /// What compose's digests are of.
    pub digests: Digests,
}

/// A container that belongs to no project is the project of this name: nobody's.
pub fn projects(around: &[Facts]) -> BTreeMap<String, Vec<&Facts>> {
    let mut found: BTreeMap<String, Vec<&Facts>> = BTreeMap::new();
    for facts in around.iter().filter(|facts| !facts.is_ours() && !is_one_off(facts)) {
        let project = facts.label(PROJECT).unwrap_or_default().to_owned();
        found.entry(project).or_default().push(facts);
    }
    found
}

fn is_one_off(facts: &Facts) -> bool {
    facts.label(ONE_OFF).is_some_and(|word| word.eq_ignore_ascii_case("true"))
}

/// What the engine says of containers.
pub fn inspect(engine: &Engine, members: &[&Facts]) -> Result<Vec<Container>, Error> {
    Ok(members.iter().map(|facts| engine.container(&facts.id)).collect::<Result<_, _>>()?)
}

/// Where the images of containers are named: by the name that was asked for, if it still is this image, else by id.
pub fn images(engine: &Engine, containers: &[Container]) -> Result<Vec<ImageOf>, Error> {
    let mut found = Vec::new();
    for container in containers {
        let by_name = match engine.image(&container.image) {
            Ok(image) => image.id == container.image_id,
            Err(error) if error.is_not_found() => false,
            Err(error) => return Err(error.into()),
        };
        let name = if by_name { container.image.clone() } else { container.image_id.clone() };
        found.push(ImageOf { container: container.name.clone(), name, id: container.image_id.clone() });
        found.extend(below_derived(engine, container)?);
    }
    Ok(found)
}

/// The image that compose knows, where the container is made of another one for the deletions in it.
fn below_derived(engine: &Engine, container: &Container) -> Result<Option<ImageOf>, Error> {
    let known = container.labels.get(IMAGE).filter(|_| derived::run_of(&container.image).is_some());
    let Some(known) = known else { return Ok(None) };
    match engine.image(known) {
        Ok(image) => Ok(image.tags.first().map(|name| ImageOf {
            container: container.name.clone(),
            name: name.clone(),
            id: image.id.clone(),
        })),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Project {
    /// Finds a project, and what its compose files refer to on this machine.
    pub fn find(engine: &Engine, name: &str) -> Result<Self, Error> {
        let around = around(engine)?;
        let all = projects(&around);
        let members = all.get(name).filter(|_| !name.is_empty());
        let members = members.ok_or_else(|| Error::NoProject(name.to_owned()))?;
        let described = inspect(engine, members)?;
        let label =
            |word: &str| members.iter().find_map(|facts| facts.label(word)).unwrap_or_default().to_owned();
        let split = |list: &str| -> Vec<PathBuf> {
            list.split(',').filter(|part| !part.is_empty()).map(PathBuf::from).collect()
        };
        let folder = PathBuf::from(label(FOLDER));
        let (compose, environment) = (split(&label(FILES)), split(&label(ENVIRONMENT)));
        let files = files::collect(&compose, &folder, &environment);
        let owned: Vec<Facts> = members.iter().map(|facts| (*facts).clone()).collect();
        let order = order::order(&owned);
        let containers = order.iter().map(|place| {
            let facts = &owned[place.number];
            Member {
                name: facts.name.clone(),
                id: facts.id.clone(),
                service: facts.label(SERVICE).unwrap_or_default().to_owned(),
                ran: matches!(facts.state, State::Running | State::Paused | State::Restarting),
            }
        });
        let description = Description {
            version: Description::VERSION,
            name: name.to_owned(),
            folder: folder.to_string_lossy().into_owned(),
            compose_files: compose.iter().map(|path| path.to_string_lossy().into_owned()).collect(),
            environment_files: environment.iter().map(|path| path.to_string_lossy().into_owned()).collect(),
            containers: containers.collect(),
            images: images(engine, &described)?,
            volumes: volumes(engine, members, name)?,
            networks: networks(engine, &described, name)?,
            drift: drift::Drift::default(),
            files: files.clone(),
        };
        let readable =
            files.iter().filter(|file| file.problem.is_none()).map(|file| PathBuf::from(&file.path));
        let files = readable.collect();
        Ok(Self { files, description, containers: described, digests: Digests::default() })
    }

    /// Its description as a source of a snapshot.
    pub fn source(&self) -> TreeSpec {
        let file = |name: &str, bytes: Vec<u8>| {
            let at = TreePath::from_slashes(name.as_bytes()).unwrap_or_default();
            MemoryFile { at, bytes, metadata: Metadata { mode: 0o600, ..Metadata::default() } }
        };
        let mut files =
            vec![file(PROJECT_FILE, serde_json::to_vec_pretty(&self.description).unwrap_or_default())];
        if !self.digests.containers.is_empty() {
            files.push(file(DIGESTS_FILE, serde_json::to_vec_pretty(&self.digests).unwrap_or_default()));
        }
        TreeSpec {
            kind: SourceKind::Project,
            name: self.description.name.clone(),
            detail: String::new(),
            folders: Vec::new(),
            files,
        }
    }
}

/// Volumes by name, and whether somebody else made them.
fn volumes(engine: &Engine, members: &[&Facts], project: &str) -> Result<Vec<External>, Error> {
    let names: BTreeSet<&String> =
        members.iter().flat_map(|facts| &facts.mounts).filter_map(|mount| mount.name.as_ref()).collect();
    let mut found = Vec::new();
    for name in names {
        match engine.volume(name) {
            Ok(volume) => {
                let external = volume.labels.get(PROJECT).is_none_or(|owner| owner != project);
                let anonymous = volume.is_anonymous();
                found.push(External { name: name.clone(), external: external && !anonymous });
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

fn networks(engine: &Engine, containers: &[Container], project: &str) -> Result<Vec<External>, Error> {
    let mut names = BTreeSet::new();
    for container in containers {
        let all = container.raw.pointer("/NetworkSettings/Networks").and_then(serde_json::Value::as_object);
        names.extend(all.into_iter().flatten().map(|(name, _)| name.clone()));
    }
    let mut found = Vec::new();
    for name in names {
        match engine.network(&name) {
            Ok(network) => {
                let owner = text(&network.raw, &format!("/Labels/{PROJECT}"));
                found.push(External { external: owner != project, name });
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}
