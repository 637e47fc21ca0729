//! Helpers of runs that died, and how a run shows that it lives.
//!
//! Must stay true: a helper of a live run is never removed, and whether a run lives is told by a lock that its death
//! releases, not by process numbers or host names. Of runs whose lock is not here (another machine's, or of a lost state
//! folder) nothing is known: what they left is removed when it is older than any capture takes.

use super::helper_container::{HELPER_LABEL, IMAGE_VALUE};
use super::proof::PROOF_LABEL;
use super::{Error, random_hex};
use crate::engine::views::{EngineInfo, number, text};
use crate::engine::{self, AnonymousVolumes, Engine};
use crate::recreate::carry_out::UNFINISHED;
use crate::recreate::derived;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// The folder of locks in lifeboat's state.
const FOLDER: &str = "helpers";
/// No capture takes longer.
const UNKNOWN_SECONDS_MAX: i64 = 7 * 24 * 3600;

/// Something that this process made is still on an engine.
static HAS_LEFT: AtomicBool = AtomicBool::new(false);

/// Notes what became of removing something that this process made: where it stays, `recover` has to find it.
pub(crate) fn note(removed: Result<(), engine::Error>) {
    if removed.is_err_and(|error| !error.is_not_found()) {
        HAS_LEFT.store(true, Ordering::SeqCst);
    }
}

/// A run that makes helpers.
#[derive(Debug)]
pub struct Run {
    name: String,
    // `None` where the state folder cannot be written: then nobody knows whether the run lives, and its helpers age.
    lock: Option<(PathBuf, File)>,
}

impl Run {
    /// Begins one, with a lock in the state folder.
    pub fn begin(state: &Path) -> Result<Self, Error> {
        let name = random_hex()?;
        let path = state.join(FOLDER).join(&name);
        let open = || -> std::io::Result<File> {
            std::fs::create_dir_all(state.join(FOLDER))?;
            let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
            file.lock()?;
            Ok(file)
        };
        let lock = open().ok().map(|file| (path, file));
        Ok(Self { name, lock })
    }

    /// What its helpers are labelled with.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Of a run that left something, its file says that it is over. Without it nobody could tell.
        if let Some((path, _)) = self.lock.as_ref().filter(|_| !HAS_LEFT.load(Ordering::SeqCst)) {
            // The lock goes with the file; a name that stays costs a look.
            let _ = std::fs::remove_file(path);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Lives,
    Dead,
    Unknown,
}

fn life(state: &Path, run: &str) -> Life {
    // The label is from outside.
    if run.is_empty() || !run.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Life::Unknown;
    }
    match File::open(state.join(FOLDER).join(run)) {
        Err(_) => Life::Unknown,
        Ok(file) => match file.try_lock() {
            Ok(()) => Life::Dead,
            Err(_) => Life::Lives,
        },
    }
}

/// Removes what dead runs left on an engine; gives the names of what it removed.
pub fn remove(engine: &Engine, state: &Path) -> Result<Vec<String>, Error> {
    let info = engine.info()?;
    let goes = |run: &str, age: Option<i64>| match life(state, run) {
        Life::Lives => false,
        Life::Dead => true,
        Life::Unknown => age.is_some_and(|age| age > UNKNOWN_SECONDS_MAX),
    };
    let mut removed = Vec::new();
    let mut runs = Vec::new();
    for container in engine.containers(&[HELPER_LABEL])? {
        let run = container.labels.get(HELPER_LABEL).cloned().unwrap_or_default();
        let created = i64::try_from(number(&container.raw, "/Created")).ok().filter(|seconds| *seconds > 0);
        if goes(&run, age(&info, created)) {
            engine.remove_container(&container.id, AnonymousVolumes::Remove)?;
            removed.push(container.name);
            runs.push(run);
        }
    }
    for container in engine.containers(&[])? {
        // It has the labels of what it was to become, so its name says whose it is.
        let Some(run) = container.name.strip_prefix(UNFINISHED) else { continue };
        if life(state, run) == Life::Dead {
            engine.remove_container(&container.id, AnonymousVolumes::Remove)?;
            runs.push(run.to_owned());
            removed.push(container.name);
        }
    }
    // After the containers: an engine keeps an image that one is made of.
    for image in engine.images(&[HELPER_LABEL])? {
        let run = image.labels.get(HELPER_LABEL).cloned().unwrap_or_default();
        let created = i64::try_from(number(&image.raw, "/Created")).ok().filter(|seconds| *seconds > 0);
        // The helpers' own image is no run's.
        if run != IMAGE_VALUE && goes(&run, age(&info, created)) {
            engine.remove_image(&image.id)?;
            removed.push(image.id);
            runs.push(run);
        }
    }
    removed.extend(derived::remove_unused(engine, |image, run| {
        let created = i64::try_from(number(&image.raw, "/Created")).ok();
        goes(run, age(&info, created))
    })?);
    for volume in engine.volumes(&[PROOF_LABEL])? {
        let run = volume.labels.get(PROOF_LABEL).cloned().unwrap_or_default();
        let created = text(&volume.raw, "/CreatedAt").parse::<jiff::Timestamp>().ok();
        if goes(&run, age(&info, created.map(jiff::Timestamp::as_second))) {
            engine.remove_volume(&volume.name)?;
            removed.push(volume.name);
            runs.push(run);
        }
    }
    for run in runs.iter().filter(|run| life(state, run) == Life::Dead) {
        // Nothing of it is left; the file only says that it died.
        let _ = std::fs::remove_file(state.join(FOLDER).join(run));
    }
    Ok(removed)
}

/// By the engine's own clock, which made both times.
fn age(info: &EngineInfo, created: Option<i64>) -> Option<i64> {
    let now: jiff::Timestamp = text(&info.raw, "/SystemTime").parse().ok()?;
    Some(now.as_second() - created?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_lives_as_long_as_its_lock_is_held() {
        let state = tempfile::tempdir().unwrap();
        let run = Run::begin(state.path()).unwrap();
        assert_eq!(life(state.path(), run.name()), Life::Lives);
        let path = state.path().join(FOLDER).join(run.name());
        let name = run.name().to_owned();
        drop(run);
        assert!(!path.exists());
        assert_eq!(life(state.path(), &name), Life::Unknown);
        // A killed run leaves its file, and nobody holds the lock.
        std::fs::write(&path, "").unwrap();
        assert_eq!(life(state.path(), &name), Life::Dead);
        for foreign in ["", "../x", "image"] {
            assert_eq!(life(state.path(), foreign), Life::Unknown);
        }
    }

    #[test]
    fn a_state_folder_that_cannot_be_written_keeps_nobody_from_reading_volumes() {
        let state = tempfile::tempdir().unwrap();
        std::fs::write(state.path().join(FOLDER), "a file").unwrap();
        assert_eq!(Run::begin(state.path()).unwrap().name().len(), 32);
    }
}
