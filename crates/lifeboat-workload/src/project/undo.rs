//! What a restore has made so far, on disk before the engine is asked for it, so that a killed one can be taken back.
//!
//! Must stay true: only what this restore made is removed, and what it moved aside comes back under its own name; while
//! a run lives nobody else touches what it notes; where data was written over, the note goes only when the whole project is
//! there, the new one or the one before.

use super::Error;
use super::loading::Loading;
use crate::engine::views::Container;
use crate::engine::{AnonymousVolumes, Engine};
use crate::facts::Facts;
use crate::quiesce::plan::STOP_TIMEOUT;
use crate::recreate::carry_out::UNFINISHED;
use crate::recreate::derived;
use crate::volume::helper_container::HELPER_LABEL;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const FOLDER: &str = "restores";
/// Digits of a snapshot's id that people are shown.
const SHORT: usize = 8;
/// What this program writes.
pub const VERSION: u32 = 1;
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
    /// Images that are loaded.
    Images(Loading),
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
    /// A container that is as in the snapshot, and is only stopped meanwhile.
    Stopped {
        /// Its id.
        id: String,
        /// Its name.
        name: String,
        /// Whether it ran.
        ran: bool,
    },
    /// From here on data is written over that the containers set aside or stopped need.
    Overwriting,
}

impl Made {
    /// What it is, for people.
    pub fn shown(&self) -> String {
        match self {
            Self::Volume(name) => format!("volume {name}"),
            Self::Network(name) => format!("network {name}"),
            Self::Images(loading) if loading.names.is_empty() => "images without names".to_owned(),
            Self::Images(loading) => format!("images {}", loading.names.join(", ")),
            Self::Container(name) => format!("container {name}"),
            Self::Aside { name, .. } => format!("the other name of container {name}"),
            Self::Stopped { name, .. } => format!("the stop of container {name}"),
            Self::Overwriting => "what is in volumes and folders".to_owned(),
        }
    }
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
    /// Whether all of it is there: then what was set aside goes, and nothing else.
    #[serde(default)]
    pub whole: bool,
    /// Once it is whole, the ids of the containers that are started then, in order.
    #[serde(default)]
    pub starting: Vec<String>,
}

/// The note of a live run.
#[derive(Debug)]
pub struct Note {
    path: PathBuf,
    _lock: Lock,
    /// What it says.
    pub begun: Begun,
}

/// Shows that the run is alive.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a process that another thread just forked has the file open until it calls exec.
        let _ = self.0.unlock();
    }
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
        let note = Self { path: folder.join(format!("{}.json", begun.run)), _lock: Lock(lock), begun };
        note.write()?;
        Ok(note)
    }

    /// Notes that all of it is there: from here on nothing is taken back, and these containers are started.
    pub fn is_whole(&mut self, starting: Vec<String>) -> Result<(), Error> {
        self.begun.whole = true;
        self.begun.starting = starting;
        self.write()
    }

    /// Notes what is made next.
    pub fn add(&mut self, made: Made) -> Result<(), Error> {
        self.begun.made.push(made);
        self.write()
    }

    fn write(&self) -> Result<(), Error> {
        write(&self.path, &self.begun)
    }

    /// Everything is whole: nothing is to be taken back.
    pub fn finish(&self) {
        // What stays is a look for whoever comes next.
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_file(self.path.with_extension("lock"));
    }
}

fn write(path: &Path, begun: &Begun) -> Result<(), Error> {
    let write = || -> std::io::Result<()> {
        let bytes = serde_json::to_vec(begun)?;
        let part = path.with_extension("part");
        let mut file = File::create(&part)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&part, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(Error::Journal)
}

/// What dead restores left.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Dead {
    /// Their notes, by run.
    pub restores: Vec<Begun>,
    /// Files that are no notes, or those of a newer lifeboat.
    pub unreadable: Vec<PathBuf>,
}

/// Restores that died.
pub fn dead(state: &Path) -> Dead {
    let files = std::fs::read_dir(state.join(FOLDER)).into_iter().flatten().flatten();
    let paths =
        files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|end| end == "json"));
    let mut dead = Dead::default();
    for path in paths {
        let lock = File::open(path.with_extension("lock"));
        if lock.is_ok_and(|lock| lock.try_lock().is_err()) {
            continue;
        }
        match std::fs::read(&path).map(|bytes| serde_json::from_slice(&bytes)) {
            Ok(Ok(begun)) => dead.restores.push(begun),
            // It ended meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Ok(Err(_)) | Err(_) => dead.unreadable.push(path),
        }
    }
    dead.restores.sort_by(|one, other| one.run.cmp(&other.run));
    dead.unreadable.sort();
    dead
}

/// After everything else was taken back: forgets the restore, unless data was written over. Then the way back is kept until
/// somebody has gone it.
pub fn settle(state: &Path, begun: &Begun) -> Result<(), Error> {
    match begun.way_back() {
        None => forget(state, begun),
        Some(_) => {
            // What has these names later is not this restore's.
            let rest = Begun { made: vec![Made::Overwriting], ..begun.clone() };
            write(&state.join(FOLDER).join(format!("{}.json", begun.run)), &rest)?;
        }
    }
    Ok(())
}

/// Forgets a dead restore.
pub fn forget(state: &Path, begun: &Begun) {
    for end in ["json", "lock"] {
        let _ = std::fs::remove_file(state.join(FOLDER).join(format!("{}.{end}", begun.run)));
    }
}

/// How long a request that a dead run had sent may still be at work in the engine.
const IN_FLIGHT: Duration = Duration::from_secs(3);
/// How often it is looked whether a stop that was asked for has come.
const STOP_LOOKS: Duration = Duration::from_millis(200);
/// How often everything is looked at, where not all of it could be removed.
const LOOKS: u32 = 3;

/// Takes back what a restore made; gives what was done. What it moved aside has its name again, and runs again if it ran,
/// unless its data may have been written over. Of one that is whole only what was set aside goes, and the rest is started.
pub fn undo(engine: &Engine, begun: &Begun) -> Result<Vec<String>, Error> {
    if begun.version > VERSION {
        let text = format!("of a restore has version {}: use a newer lifeboat", begun.version);
        return Err(Error::Note(text));
    }
    let mut done = Vec::new();
    if begun.whole {
        remove_aside(engine, begun, &mut done)?;
        start_all(engine, begun, &mut done)?;
        return Ok(done);
    }
    await_stop(engine, begun)?;
    for look in 1..LOOKS {
        match take_back(engine, begun, &mut done) {
            Ok(is_missing) if !is_missing || look > 1 => return Ok(done),
            // What was noted and is not there may come yet, and what is there may still be used by what is being made: the
            // engine goes on with what it was asked for.
            Ok(_) | Err(_) => std::thread::sleep(IN_FLIGHT),
        }
    }
    take_back(engine, begun, &mut done)?;
    Ok(done)
}

/// How long a container that a restore stops may take, before it is killed. What it holds is in the snapshot before.
pub fn stop_grace(container: &Container) -> Duration {
    Facts::read(&container.raw).ok().and_then(|facts| facts.stop_timeout).unwrap_or(STOP_TIMEOUT)
}

/// The stop that was noted last may be on its way, or at work for as long as its container may take: what still runs would be
/// found well, and be down a moment later. All stops before it were answered.
fn await_stop(engine: &Engine, begun: &Begun) -> Result<(), Error> {
    let Some((id, _)) = begun.last_stop() else { return Ok(()) };
    let began = Instant::now();
    while let Some(there) = found(engine.container(id))?
        && there.state.is_running
        && began.elapsed() < stop_grace(&there) + IN_FLIGHT
    {
        std::thread::sleep(STOP_LOOKS);
    }
    Ok(())
}

/// Removes what was set aside; what took its place is there.
pub fn remove_aside(engine: &Engine, begun: &Begun, done: &mut Vec<String>) -> Result<(), Error> {
    for made in &begun.made {
        let Made::Aside { id, name, .. } = made else { continue };
        if let Some(there) = found(engine.container(id))?
            && there.name.starts_with(ASIDE)
        {
            engine.remove_container(id, AnonymousVolumes::Remove)?;
            done.push(format!("removed the old container {name}"));
        }
    }
    Ok(())
}

/// Starts what a restore that is whole had not started yet. Nobody waits between them: what does not start again by itself
/// when what it needs is missing is named.
fn start_all(engine: &Engine, begun: &Begun, done: &mut Vec<String>) -> Result<(), Error> {
    for id in &begun.starting {
        let Some(there) = found(engine.container(id))? else { continue };
        // One that ended already may have done what it is for.
        if there.state.status == "created" || (!there.state.is_running && begun.has_aside(id)) {
            engine.start_container(id)?;
            done.push(format!("started container {}", there.name));
        }
    }
    Ok(())
}

/// One look at everything; whether something that was noted is not there.
fn take_back(engine: &Engine, begun: &Begun, done: &mut Vec<String>) -> Result<bool, Error> {
    for container in engine.containers(&[])? {
        // Its helpers hold the volumes that they fill.
        let is_helper = container.labels.get(HELPER_LABEL) == Some(&begun.run);
        if is_helper || container.name.strip_prefix(UNFINISHED) == Some(begun.run.as_str()) {
            engine.remove_container(&container.id, AnonymousVolumes::Remove)?;
        }
    }
    let mut is_missing = false;
    for made in begun.made.iter().rev() {
        let is_removed = match made {
            Made::Container(name) => match found(engine.container(name))? {
                // What was moved aside may be back under the name.
                Some(there) if there.name == *name && !begun.has_aside(&there.id) => {
                    engine.remove_container(&there.id, AnonymousVolumes::Remove)?;
                    true
                }
                _ => false,
            },
            Made::Volume(name) => match found(engine.volume(name))? {
                Some(_) => {
                    engine.remove_volume(name)?;
                    true
                }
                None => false,
            },
            Made::Network(name) => match found(engine.network(name))? {
                Some(there) if there.name == *name => {
                    engine.remove_network(&there.id)?;
                    true
                }
                _ => false,
            },
            Made::Aside { id, name, ran } | Made::Stopped { id, name, ran } => {
                let Some(there) = found(engine.container(id))? else { continue };
                if there.name != *name {
                    engine.rename_container(id, name)?;
                    done.push(format!("container {name} has its name again"));
                }
                if *ran && !there.state.is_running && !begun.made.contains(&Made::Overwriting) {
                    engine.start_container(id)?;
                    done.push(format!("container {name} runs again"));
                }
                continue;
            }
            Made::Images(_) | Made::Overwriting => continue,
        };
        match is_removed {
            true => done.push(format!("removed {}", made.shown())),
            false => is_missing = true,
        }
    }
    derived::remove_unused(engine, |_, run| run == begun.run)?;
    // After whatever was made of them.
    for made in &begun.made {
        if let Made::Images(loading) = made {
            is_missing |= loading.remove(engine, done)? < loading.layers.len();
        }
    }
    Ok(is_missing)
}

impl Begun {
    /// The snapshot of what was there before, where what is in volumes and folders may be neither that nor what should come.
    pub fn way_back(&self) -> Option<&str> {
        self.safety.as_deref().filter(|_| !self.whole && self.made.contains(&Made::Overwriting))
    }

    /// The words behind `lifeboat` that go the way back.
    pub fn words_back(&self) -> Option<Vec<String>> {
        let source = format!("{}:project:{}", self.way_back()?.get(..SHORT)?, self.project);
        let words = ["restore", &source, "--to", "project:", "--in-place"];
        Some(words.map(str::to_owned).into())
    }

    /// The container, by id and name, whose stop may still be under way: of a restore that died right after it was noted.
    pub fn last_stop(&self) -> Option<(&str, &str)> {
        match self.made.last().filter(|_| !self.whole)? {
            Made::Aside { id, name, ran: true } | Made::Stopped { id, name, ran: true } => Some((id, name)),
            _ => None,
        }
    }

    fn has_aside(&self, wanted: &str) -> bool {
        self.made
            .iter()
            .any(|one| matches!(one, Made::Aside { id, .. } | Made::Stopped { id, .. } if id == wanted))
    }
}

pub(super) fn found<T>(answer: crate::engine::Result<T>) -> Result<Option<T>, Error> {
    match answer {
        Ok(there) => Ok(Some(there)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun() -> Begun {
        Begun {
            version: 1,
            run: "feed".into(),
            engine: "unix:///x".into(),
            project: "shop".into(),
            snapshot: "0".into(),
            safety: None,
            made: Vec::new(),
            whole: false,
            starting: Vec::new(),
        }
    }

    #[test]
    fn a_live_restore_is_nobodys_and_a_dead_one_is_found() {
        let state = tempfile::tempdir().unwrap();
        let mut note = Note::begin(state.path(), begun()).unwrap();
        note.add(Made::Volume("shop_data".into())).unwrap();
        assert_eq!(dead(state.path()), Dead::default());
        let Note { _lock, begun, .. } = note;
        drop(_lock);
        assert_eq!(dead(state.path()).restores, std::slice::from_ref(&begun));
        settle(state.path(), &begun).unwrap();
        assert_eq!(dead(state.path()), Dead::default());
    }

    #[test]
    fn a_note_that_is_not_understood_is_named() {
        let state = tempfile::tempdir().unwrap();
        drop(Note::begin(state.path(), begun()).unwrap());
        let path = state.path().join(FOLDER).join("beef.json");
        std::fs::write(&path, r#"{"version": 2, "made": [{"dream": 1}]}"#).unwrap();
        assert_eq!(dead(state.path()), Dead { restores: vec![begun()], unreadable: vec![path] });
    }

    #[test]
    fn where_data_was_written_over_the_way_back_stays_and_nothing_else() {
        let state = tempfile::tempdir().unwrap();
        let made = vec![Made::Volume("shop_data".into()), Made::Overwriting];
        let begun = Begun { safety: Some("0123456789".into()), made, ..begun() };
        drop(Note::begin(state.path(), begun.clone()).unwrap());
        settle(state.path(), &begun).unwrap();
        let left = dead(state.path()).restores.pop().unwrap();
        assert_eq!(left.made, [Made::Overwriting]);
        assert_eq!(left.words_back().unwrap()[1], "01234567:project:shop");
        // Of one that is whole, nothing.
        settle(state.path(), &Begun { whole: true, ..begun }).unwrap();
        assert_eq!(dead(state.path()), Dead::default());
    }
}
