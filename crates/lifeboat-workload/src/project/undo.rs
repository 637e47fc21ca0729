//! What a restore has made so far, on disk before the engine is asked for it, so that a killed one can be taken back.
//!
//! Must stay true: only what this restore made is removed, and what it moved aside comes back under its own name; while
//! a run lives nobody else touches what it notes.

use super::Error;
use crate::engine::{AnonymousVolumes, Engine};
use crate::recreate::carry_out::UNFINISHED;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

const FOLDER: &str = "restores";
/// What a container is called that was moved aside, before the name of the run.
pub const ASIDE: &str = "lifeboat-aside-";

/// One thing that was made, or moved aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Made {
    /// A volume that was not there.
    Volume(String),
    /// A network that was not there.
    Network(String),
    /// A container.
    Container(String),
    /// A container of this name that has another one now, and whether it ran.
    Aside {
        /// Its id.
        id: String,
        /// Its name before.
        name: String,
        /// Whether it ran.
        ran: bool,
    },
}

/// A restore that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// 1.
    pub version: u32,
    /// The run.
    pub run: String,
    /// The engine's address.
    pub engine: String,
    /// The project, as it is called there.
    pub project: String,
    /// The snapshot that it comes from.
    pub snapshot: String,
    /// The snapshot of what was there before, for a restore in place.
    pub safety: Option<String>,
    /// In order.
    pub made: Vec<Made>,
}

/// The note of a live run.
#[derive(Debug)]
pub struct Note {
    path: PathBuf,
    _lock: File,
    /// What it says.
    pub begun: Begun,
}

impl Note {
    /// Begins one; it is on disk when this returns.
    pub fn begin(state: &Path, begun: Begun) -> Result<Self, Error> {
        let folder = state.join(FOLDER);
        std::fs::create_dir_all(&folder).map_err(Error::Journal)?;
        let lock = folder.join(format!("{}.lock", begun.run));
        let lock =
            OpenOptions::new().write(true).create(true).truncate(false).open(lock).map_err(Error::Journal)?;
        lock.lock().map_err(Error::Journal)?;
        let note = Self { path: folder.join(format!("{}.json", begun.run)), _lock: lock, begun };
        note.write()?;
        Ok(note)
    }

    /// Notes what is made next.
    pub fn add(&mut self, made: Made) -> Result<(), Error> {
        self.begun.made.push(made);
        self.write()
    }

    fn write(&self) -> Result<(), Error> {
        let write = || -> std::io::Result<()> {
            let bytes = serde_json::to_vec(&self.begun)?;
            let part = self.path.with_extension("part");
            let mut file = File::create(&part)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            std::fs::rename(&part, &self.path)?;
            File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
        };
        write().map_err(Error::Journal)
    }

    /// Everything is whole: nothing is to be taken back.
    pub fn finish(self) {
        // What stays is a look for whoever comes next.
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_file(self.path.with_extension("lock"));
    }
}

/// Restores that died.
pub fn dead(state: &Path) -> Vec<Begun> {
    let files = std::fs::read_dir(state.join(FOLDER)).into_iter().flatten().flatten();
    let mut found: Vec<Begun> = files
        .filter(|file| file.path().extension().is_some_and(|end| end == "json"))
        .filter(|file| {
            let lock = File::open(file.path().with_extension("lock"));
            lock.map_or(true, |lock| lock.try_lock().is_ok())
        })
        .filter_map(|file| serde_json::from_slice(&std::fs::read(file.path()).ok()?).ok())
        .collect();
    found.sort_by(|one: &Begun, other| one.run.cmp(&other.run));
    found
}

/// Forgets a dead restore.
pub fn forget(state: &Path, begun: &Begun) {
    for end in ["json", "lock"] {
        let _ = std::fs::remove_file(state.join(FOLDER).join(format!("{}.{end}", begun.run)));
    }
}

/// Takes back what a restore made; gives what was done. What it moved aside comes back, and runs if it ran, unless its data
/// was written over.
pub fn undo(engine: &Engine, begun: &Begun) -> Result<Vec<String>, Error> {
    let mut done = Vec::new();
    for container in engine.containers(&[])? {
        if container.name.strip_prefix(UNFINISHED) == Some(begun.run.as_str()) {
            engine.remove_container(&container.id, AnonymousVolumes::Remove)?;
        }
    }
    for made in begun.made.iter().rev() {
        match made {
            Made::Container(name) => {
                // Another one may have the name: what was moved aside and is back.
                let is_aside = |id: &str| {
                    begun.made.iter().any(|one| matches!(one, Made::Aside { id: aside, .. } if aside == id))
                };
                match engine.container(name) {
                    Ok(there) if there.name == *name && !is_aside(&there.id) => {
                        engine.remove_container(&there.id, AnonymousVolumes::Remove)?;
                        done.push(format!("removed container {name}"));
                    }
                    Ok(_) => {}
                    Err(error) if error.is_not_found() => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Made::Volume(name) => {
                engine.remove_volume(name)?;
                done.push(format!("removed volume {name}"));
            }
            Made::Network(name) => {
                engine.remove_network(name)?;
                done.push(format!("removed network {name}"));
            }
            Made::Aside { id, name, .. } => match engine.container(id) {
                Ok(there) if there.name != *name => {
                    engine.rename_container(id, name)?;
                    done.push(format!("container {name} has its name again"));
                }
                Ok(_) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            },
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_restore_is_nobodys_and_a_dead_one_is_found() {
        let state = tempfile::tempdir().unwrap();
        let begun = Begun {
            version: 1,
            run: "feed".into(),
            engine: "unix:///x".into(),
            project: "shop".into(),
            snapshot: "0".into(),
            safety: None,
            made: Vec::new(),
        };
        let mut note = Note::begin(state.path(), begun).unwrap();
        note.add(Made::Volume("shop_data".into())).unwrap();
        assert_eq!(dead(state.path()), []);
        let Note { _lock, begun, .. } = note;
        drop(_lock);
        assert_eq!(dead(state.path()), [begun.clone()]);
        forget(state.path(), &begun);
        assert_eq!(dead(state.path()), []);
    }
}
