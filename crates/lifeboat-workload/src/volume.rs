//! How a volume is reached: on disk, or through the engine; and what has to come back with it.
//!
//! Must stay true: a volume is read on disk only after a proof that this is the engine's own disk, and only if it is
//! plain; everything else goes through a container that never starts. The way that was taken, why, and what it loses
//! are part of the source's detail. Secrets in a driver's options are stored with the volume, because they must come
//! back, and are never shown.
//!
//! Read next: [`proof`], [`helper_container`], [`checked`], [`leftovers`]; for restoring [`target`], [`sending`].

pub mod checked;
pub mod helper_container;
pub mod leftovers;
pub mod proof;
pub mod sending;
pub mod target;

use crate::engine::views::{EngineInfo, Volume};
use crate::engine::{self, Engine};
use checked::{CheckedArchive, Source};
use helper_container::{Access, HelperContainer};
use lifeboat_format::snapshot::SourceKind;
use lifeboat_transfer::backup::{ArchiveSpec, SourceSpec, TreeSpec};
use proof::{Proof, prove};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// What the engine leaves out of an archive.
const LOST_THROUGH_ENGINE: [&str; 5] = [
    "extended attributes other than security.capability, and with them access control lists",
    "times below a second, and times of access",
    "which parts of a sparse file are holes",
    "sockets",
    "files that the engine could not read, unless they end the archive: it only logs them",
];

/// Why a volume could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// The engine's archives say other owners than its containers see.
    #[error(
        "the engine shifts user ids (userns-remap), and its archives have the shifted owners: what lifeboat stored would \
         belong to others when it comes back, so nothing of its volumes and containers is stored or restored"
    )]
    ShiftedOwners,
    /// It was removed while it was about to be read.
    #[error("volume {name} was removed while lifeboat was about to use it")]
    Vanished {
        /// Its name.
        name: String,
    },
    /// Somebody else's image has the helpers' name.
    #[error("image {name} is not lifeboat's: it has no label `lifeboat.helper`")]
    ImageName {
        /// The name.
        name: String,
    },
    /// No random numbers.
    #[error("no random numbers can be had")]
    Random(#[source] std::io::Error),
    /// An archive could not be made.
    #[error("a tar archive could not be made")]
    Archive(#[source] std::io::Error),
    /// It is to be restored into, and containers write to it.
    #[error("volume {name} is in use by {}", containers.join(", "))]
    InUse {
        /// Its name.
        name: String,
        /// Those that run, or may go on.
        containers: Vec<String>,
    },
    /// It is to be restored into, and holds something.
    #[error("volume {name} is not empty")]
    NotEmpty {
        /// Its name.
        name: String,
    },
    /// It is to be restored into, and forgets everything.
    #[error("volume {name} is a tmpfs: what is restored into it is gone before a container can use it")]
    Fleeting {
        /// Its name.
        name: String,
    },
    /// Its folder on disk failed.
    #[error("{} cannot be read", path.display())]
    Disk {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The engine's archive is not whole.
    #[error("the engine's archive of the volume is not whole")]
    Unsound(#[source] lifeboat_transfer::source::archive::ArchiveError),
    /// The engine takes two files for one.
    #[error(
        "{name} comes from the engine as a link to {target}, which is another file: the volume has several file systems \
         in it, and the engine confuses their files"
    )]
    FalseLink {
        /// The name that is no link.
        name: String,
        /// What it is said to be a link to.
        target: String,
    },
    /// The engine's archive has a member whose name is no path.
    #[error("the engine's archive of the volume has a name that is none")]
    Name(#[source] lifeboat_format::Error),
    /// The repository cannot give what is to be compared.
    #[error("what was restored cannot be compared: the repository does not give its content")]
    Content(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The stream between the repository and the engine failed.
    #[error("what goes through the engine cannot be streamed")]
    Pipe(#[source] std::io::Error),
}

impl Error {
    /// Whether there is no such volume, or not any more.
    pub fn is_missing(&self) -> bool {
        match self {
            Self::Engine(error) => error.is_not_found(),
            Self::Vanished { .. } => true,
            _ => false,
        }
    }

    /// What to type next, where that can be said.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Engine(error) => return error.hint(),
            Self::InUse { containers, .. } => format!("docker stop {}", containers.join(" ")),
            Self::NotEmpty { name } => {
                format!("--to volume:{name}-restored    # or --overwrite always, to write into it")
            }
            Self::Fleeting { .. } => "--to DIR    # or --to volume:ANOTHER".to_owned(),
            Self::ImageName { name } => format!("docker image rm {name}    # lifeboat makes its own"),
            _ => return None,
        })
    }
}

/// The volumes of one engine, for one run: the proof is made once.
#[derive(Debug)]
pub struct Volumes {
    engine: Engine,
    info: EngineInfo,
    run: String,
    proof: Mutex<Option<Proof>>,
}

/// A volume and the way to its files.
#[derive(Debug)]
pub struct ReachedVolume {
    engine: Engine,
    run: String,
    /// What the engine says of it.
    pub volume: Volume,
    /// The way to its files.
    pub way: Way,
}

/// The way to a volume's files.
#[derive(Debug)]
pub enum Way {
    /// They are in this folder.
    Direct(PathBuf),
    /// The engine reads them.
    Helper {
        /// Mounts the volume in place 0.
        container: Arc<HelperContainer>,
        /// Why not directly.
        why: String,
    },
}

impl Volumes {
    /// The volumes of an engine, for the run of this name.
    ///
    /// # Errors
    /// The engine does not answer, or shifts user ids: what goes into a container is shifted back, what comes out is not.
    pub fn new(engine: &Engine, run: &str) -> Result<Self, Error> {
        let info = engine.info()?;
        if info.is_userns_remapped {
            return Err(Error::ShiftedOwners);
        }
        Ok(Self { engine: engine.clone(), info, run: run.to_owned(), proof: Mutex::new(None) })
    }

    /// What the engine said about itself.
    pub fn info(&self) -> &EngineInfo {
        &self.info
    }

    /// Finds the way to read a volume.
    pub fn to_read(&self, name: &str) -> Result<ReachedVolume, Error> {
        self.reach(name, Access::Read)
    }

    /// Finds the way to write a volume.
    pub fn to_write(&self, name: &str) -> Result<ReachedVolume, Error> {
        self.reach(name, Access::Write)
    }

    /// The engine that they are on.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What helpers of this run are labelled with.
    pub fn run(&self) -> &str {
        &self.run
    }

    fn reach(&self, name: &str, access: Access) -> Result<ReachedVolume, Error> {
        let volume = self.engine.volume(name)?;
        let plain = not_plain(&volume);
        let proof = match &plain {
            Some(why) => Proof::Refused(why.clone()),
            None => self.proof()?,
        };
        let container = HelperContainer::create(&self.engine, &self.run, &[(&volume, access)])?;
        let why = match proof {
            Proof::Refused(why) => why,
            Proof::Proven(proven) => match proven.root_of(&volume, || container.stat(0, ""))? {
                Ok(root) => {
                    container.remove()?;
                    return Ok(self.reached(volume, Way::Direct(root)));
                }
                Err(why) => why,
            },
        };
        Ok(self.reached(volume, Way::Helper { container: Arc::new(container), why }))
    }

    fn reached(&self, volume: Volume, way: Way) -> ReachedVolume {
        ReachedVolume { engine: self.engine.clone(), run: self.run.clone(), volume, way }
    }

    /// Whether volumes can be read on disk, shown at the first call.
    pub fn proof(&self) -> Result<Proof, Error> {
        let mut held = self.proof.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(proof) = &*held {
            return Ok(proof.clone());
        }
        let proof = prove(&self.engine, &self.info, &self.run)?;
        Ok(held.insert(proof).clone())
    }
}

impl ReachedVolume {
    /// What goes into the source's detail: what must come back, how it was read, what that loses.
    pub fn detail(&self) -> Value {
        let (way, why, loses): (_, _, &[&str]) = match &self.way {
            Way::Direct(_) => ("direct", None, &[]),
            Way::Helper { why, .. } => ("helper", Some(why), &LOST_THROUGH_ENGINE),
        };
        let mut read = json!({"way": way, "loses": loses});
        if let Some(why) = why {
            read["why"] = Value::from(why.as_str());
        }
        json!({
            "driver": self.volume.driver,
            "options": self.volume.options,
            "labels": self.volume.labels,
            "scope": self.volume.scope,
            "anonymous": self.volume.is_anonymous(),
            "read": read,
        })
    }

    /// One sentence for people where something is lost or slow; none for a direct way.
    pub fn notice(&self) -> Option<String> {
        let Way::Helper { why, .. } = &self.way else { return None };
        let name = &self.volume.name;
        let held = "what is paused or stopped for it stays so for the whole stream";
        Some(match is_tmpfs(&self.volume) {
            true => format!(
                "volume:{name} is read through the engine: {why}; it holds something only while a container uses it"
            ),
            false => format!(
                "volume:{name} is read through the engine: {why}; extended attributes, access control lists, parts of \
                 seconds and holes are lost, and {held}"
            ),
        })
    }

    /// The files as a tar archive, where they are not read directly.
    pub fn archive(&self) -> Option<Result<CheckedArchive, Error>> {
        Some(CheckedArchive::open(self.checked_source()?))
    }

    fn checked_source(&self) -> Option<Source> {
        let Way::Helper { container, .. } = &self.way else { return None };
        Some(Source {
            engine: self.engine.clone(),
            run: self.run.clone(),
            volume: self.volume.clone(),
            container: Arc::clone(container),
        })
    }

    /// What a backup is to read. A helper container goes away with it.
    pub fn into_source(self) -> SourceSpec {
        let detail = self.detail().to_string();
        let name = self.volume.name.clone();
        match self.way {
            Way::Direct(root) => {
                SourceSpec::Tree(TreeSpec { detail, ..TreeSpec::folder(SourceKind::Volume, name, root) })
            }
            Way::Helper { container, .. } => {
                let Self { engine, run, volume, .. } = self;
                let source = Source { engine, run, volume, container };
                let open = move || -> std::io::Result<Box<dyn Read + Send>> {
                    Ok(Box::new(CheckedArchive::open(source.clone()).map_err(std::io::Error::other)?))
                };
                SourceSpec::Archive(ArchiveSpec {
                    detail,
                    ..ArchiveSpec::new(SourceKind::Volume, name, open)
                })
            }
        }
    }
}

fn random_hex() -> Result<String, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Error::Random(std::io::Error::other(error.to_string())))?;
    let mut text = String::with_capacity(32);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

/// Why a volume is not a plain folder of the engine's, if it is not.
pub fn not_plain(volume: &Volume) -> Option<String> {
    if volume.driver != "local" {
        return Some(format!("its driver is `{}`", volume.driver));
    }
    if !volume.options.is_empty() {
        // Only the names: the values of `o` may hold passwords.
        let names: Vec<&str> = volume.options.keys().map(String::as_str).collect();
        let of = volume.options.get("type").map(|kind| format!(" of type `{kind}`")).unwrap_or_default();
        return Some(format!("it is a mount{of}, with the options {}", names.join(", ")));
    }
    None
}

/// Whether a volume's files are gone when no container uses it.
pub fn is_tmpfs(volume: &Volume) -> bool {
    volume.driver == "local"
        && volume.options.get("type").is_some_and(|kind| kind == "tmpfs" || kind == "ramfs")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::views::Words;

    fn volume(driver: &str, options: &[(&str, &str)]) -> Volume {
        let options =
            options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<Words>();
        Volume { name: "v".into(), driver: driver.into(), options, ..Volume::default() }
    }

    #[test]
    fn only_a_local_volume_without_options_is_plain() {
        assert_eq!(not_plain(&volume("local", &[])), None);
        assert!(not_plain(&volume("rexray/ebs", &[])).unwrap().contains("rexray/ebs"));
        let bind = volume("local", &[("type", "none"), ("o", "bind"), ("device", "/mnt/disk")]);
        assert!(not_plain(&bind).unwrap().contains("device"));
    }

    #[test]
    fn a_password_in_a_volumes_options_is_stored_and_never_shown() {
        let share =
            volume("local", &[("type", "cifs"), ("o", "username=u,password=s3cret"), ("device", "//h/s")]);
        let why = not_plain(&share).unwrap();
        assert!(why.contains("cifs") && !why.contains("s3cret"), "{why}");
    }
}
