//! Containers that are made and never started: the engine reads and writes volumes through them.
//!
//! Must stay true: nothing ever runs in one; its image is an empty layer that no registry gave; it has no network; a
//! volume that is to be read is mounted read-only; and it goes away with its value, whatever happens. What a killed run
//! leaves behind is found by its label ([`super::leftovers`]). A volume that is not there is never made by being mounted.
//!
//! Application containers are never used for this: the engine holds a container's lock for as long as an archive of it
//! is read, and whoever pauses, stops or looks at it waits.

use super::Error;
use crate::engine::views::Volume;
use crate::engine::{AnonymousVolumes, ArchiveReader, Engine, PathStat};
use serde_json::{Value, json};
use std::io::Read;

/// Says of a container or an image that it is a helper; the value is the run that made it.
pub const HELPER_LABEL: &str = "lifeboat.helper";
const IMAGE_REPOSITORY: &str = "lifeboat-helper";
const IMAGE_TAG: &str = "1";
/// The value of that label on the helpers' own image.
pub(crate) const IMAGE_VALUE: &str = "image";
/// The label of a volume that mounting has made by mistake.
const MISTAKE_LABEL: &str = "lifeboat.mistake";
/// The engine asks for a command before it makes a container. This one says what became of it.
pub(crate) const COMMAND: &str = "/this-container-is-never-started";

/// The folder in which all volumes are mounted.
const PLACES: &str = "/volumes";

/// The request for a container that is never started, of an image and with these labels.
pub(crate) fn never_started(image: &str, labels: Value) -> Value {
    json!({
        "Image": image,
        "Entrypoint": [],
        "Cmd": [COMMAND],
        "Labels": labels,
        "NetworkDisabled": true,
        "HostConfig": {"NetworkMode": "none", "RestartPolicy": {"Name": "no"}},
    })
}

/// What may be done with a volume through a helper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading and unpacking.
    Write,
}

/// A container that was made and will not be started.
#[derive(Debug)]
pub struct HelperContainer {
    engine: Engine,
    id: String,
    is_removed: bool,
}

impl HelperContainer {
    /// Makes one with these volumes, for the run of this name.
    ///
    /// # Errors
    /// [`Error::Vanished`] where a volume is not there any more; nothing is made in its place.
    pub fn create(engine: &Engine, run: &str, volumes: &[(&Volume, Access)]) -> Result<Self, Error> {
        let image = image(engine)?;
        let mounts: Vec<Value> = volumes
            .iter()
            .enumerate()
            .map(|(place, (volume, access))| mount(place, volume, *access))
            .collect();
        let mut body = never_started(&image, json!({HELPER_LABEL: run}));
        body["HostConfig"]["Mounts"] = Value::Array(mounts);
        let id = engine.create_container(None, &body)?;
        let helper = Self { engine: engine.clone(), id, is_removed: false };
        for (volume, _) in volumes {
            helper.check_not_made(&volume.name)?;
        }
        Ok(helper)
    }

    /// Mounting a volume that was removed in between makes a new one, which is then read as empty.
    fn check_not_made(&self, name: &str) -> Result<(), Error> {
        let volume = self.engine.volume(name)?;
        if !volume.labels.contains_key(MISTAKE_LABEL) {
            return Ok(());
        }
        self.engine.remove_container(&self.id, AnonymousVolumes::Keep)?;
        self.engine.remove_volume(name)?;
        Err(Error::Vanished { name: name.to_owned() })
    }

    /// Reads the volume in this place as a tar archive whose members are named from `./` on.
    pub fn archive(&self, place: usize) -> Result<ArchiveReader, Error> {
        Ok(self.engine.archive(&self.id, &format!("{}/.", target(place)))?)
    }

    /// Reads one path of the volume in this place as a tar archive of it alone.
    pub fn part(&self, place: usize, path: &str) -> Result<ArchiveReader, Error> {
        Ok(self.engine.archive(&self.id, &format!("{}/{path}", target(place)))?)
    }

    /// Unpacks a tar archive of whole volumes: its members are named from [`Self::name_of`] on. Unlike in
    /// [`Self::unpack`], a volume's own owner, permissions and time are set; an engine passes over a member `./`.
    pub fn unpack_volumes(&self, archive: impl Read) -> Result<(), Error> {
        Ok(self.engine.put_archive(&self.id, PLACES, archive)?)
    }

    /// What the volume in this place is called in an archive of volumes.
    pub fn name_of(place: usize) -> String {
        place.to_string()
    }

    /// Unpacks a tar archive into the volume in this place. Success means only that the engine said so.
    pub fn unpack(&self, place: usize, archive: impl Read) -> Result<(), Error> {
        Ok(self.engine.put_archive(&self.id, &target(place), archive)?)
    }

    /// What is at a path of the volume in this place.
    pub fn stat(&self, place: usize, path: &str) -> Result<Option<PathStat>, Error> {
        let path = match path.is_empty() {
            true => target(place),
            false => format!("{}/{path}", target(place)),
        };
        Ok(self.engine.path_stat(&self.id, &path)?)
    }

    /// Removes it; its value's end would do so too, but could not tell a failure.
    pub fn remove(mut self) -> Result<(), Error> {
        self.is_removed = true;
        Ok(self.engine.remove_container(&self.id, AnonymousVolumes::Remove)?)
    }

    /// The engine's id of it.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl Drop for HelperContainer {
    fn drop(&mut self) {
        if !self.is_removed {
            // `recover` finds by its label what cannot be removed now.
            super::leftovers::note(self.engine.remove_container(&self.id, AnonymousVolumes::Remove));
        }
    }
}

/// Where the volume in a place is mounted.
fn target(place: usize) -> String {
    format!("{PLACES}/{}", HelperContainer::name_of(place))
}

fn mount(place: usize, volume: &Volume, access: Access) -> Value {
    json!({
        "Type": "volume",
        "Source": volume.name,
        "Target": target(place),
        "ReadOnly": access == Access::Read,
        // The labels are given to a volume that this makes; one that is there keeps its own.
        "VolumeOptions": {"NoCopy": true, "Labels": {MISTAKE_LABEL: "made by mounting"}},
    })
}

/// The id of the helpers' image, which is made where it is missing.
fn image(engine: &Engine) -> Result<String, Error> {
    match engine.image(&format!("{IMAGE_REPOSITORY}:{IMAGE_TAG}")) {
        Ok(image) if image.labels.contains_key(HELPER_LABEL) => Ok(image.id),
        Ok(_) => Err(Error::ImageName { name: format!("{IMAGE_REPOSITORY}:{IMAGE_TAG}") }),
        Err(error) if error.is_not_found() => {
            Ok(engine.import_empty_image(IMAGE_REPOSITORY, IMAGE_TAG, &[(HELPER_LABEL, IMAGE_VALUE)])?)
        }
        Err(error) => Err(error.into()),
    }
}
