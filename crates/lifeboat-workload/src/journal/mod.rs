//! Journals: what must be undone, on disk before it is done.
//!
//! Must stay true: an entry that something is done after is on disk when [`Journal::add`] returns; the owner of a journal
//! holds its lock, and so does its supervisor through the same open file, so a journal whose lock can be had is a dead
//! run's; no safety rests on process numbers, host names or clocks. A full disk keeps containers from being made quiet, and
//! never from being brought back: what an undo writes down it may also only remember.
//!
//! One folder `holds` in lifeboat's state, in it one file for each run that has something to undo, and `gate`, a lock
//! held for moments: while a journal is made, found or taken over. The lines are `entry.rs`'s, the format is
//! `docs/format/journal.md`. Read next: `quiesce/undo.rs`, which acts on them.

pub mod entry;
#[cfg(test)]
mod tests;

use entry::{Entry, Ledger};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A journal is a few lines for each container; what is larger is not one.
const BYTES_MAX: u64 = 16 << 20;
const SUFFIX: &str = "jsonl";

/// What can go wrong with a journal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder or a file in it.
    #[error("{} cannot be {doing}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// An entry that cannot be written down.
    #[error("an entry of the journal cannot be written as JSON")]
    Entry(#[from] serde_json::Error),
}

fn failed<'a>(path: &'a Path, doing: &'static str) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::File { path: path.to_owned(), doing, source }
}

/// The folder of all journals of this machine's user.
#[derive(Debug, Clone)]
pub struct Journals {
    folder: PathBuf,
}

/// Somebody's journal.
#[derive(Debug)]
pub enum Found {
    /// Its owner lives.
    Live(Ledger),
    /// Its owner is dead; whoever got this owns it now.
    Dead(Journal, Ledger),
}

/// What came out of making a journal.
#[derive(Debug)]
pub enum Made {
    /// It is there.
    Journal(Journal),
    /// A live run already works with one of the containers.
    Taken(Ledger),
}

impl Journals {
    /// Those in a state folder.
    #[must_use]
    pub fn in_state(state: &Path) -> Self {
        Self { folder: state.join("holds") }
    }

    /// Where they are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Waits for the moment in which nobody else makes or takes a journal.
    fn gate(&self) -> Result<File, Error> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(failed(&self.folder, "made"))?;
        let path = self.folder.join("gate");
        let gate = OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(&path);
        let gate = gate.map_err(failed(&path, "opened"))?;
        gate.lock().map_err(failed(&path, "locked"))?;
        Ok(gate)
    }

    /// Makes the journal of a run that will make `containers` quiet, with its first entries, unless a live run works with
    /// one of them; `before` is the run that it takes the place of.
    ///
    /// # Errors
    ///
    /// Where the folder cannot be written: then nothing may be stopped.
    pub fn make(
        &self,
        run: &str,
        before: Option<&str>,
        containers: &[String],
        entries: &[Entry],
    ) -> Result<Made, Error> {
        let _gate = self.gate()?;
        for (_, found) in self.scan()? {
            if let Found::Live(ledger) = found
                && before != Some(ledger.run.as_str())
                && ledger.touches(containers)
            {
                return Ok(Made::Taken(ledger));
            }
        }
        let path = self.folder.join(format!("{run}.{SUFFIX}"));
        let file = OpenOptions::new().create_new(true).read(true).append(true).mode(0o600).open(&path);
        let file = file.map_err(failed(&path, "made"))?;
        file.lock().map_err(failed(&path, "locked"))?;
        let mut journal = Journal::inherited(file, path);
        let written = journal.add(entries).and_then(|()| {
            // The name has to be on disk too, and so does the folder's own.
            for folder in [Some(self.folder.as_path()), self.folder.parent()].into_iter().flatten() {
                File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed(folder, "synced"))?;
            }
            Ok(())
        });
        if let Err(error) = written {
            let _ = std::fs::remove_file(&journal.path);
            return Err(error);
        }
        Ok(Made::Journal(journal))
    }

    /// All journals; those of dead owners are taken over.
    ///
    /// # Errors
    ///
    /// Where the folder cannot be read; a single journal that cannot be read is passed over as live.
    pub fn find(&self) -> Result<Vec<Found>, Error> {
        if !self.folder.exists() {
            return Ok(Vec::new());
        }
        let _gate = self.gate()?;
        Ok(self.scan()?.into_iter().map(|(_, found)| found).collect())
    }

    fn scan(&self) -> Result<Vec<(PathBuf, Found)>, Error> {
        let mut found = Vec::new();
        let entries = std::fs::read_dir(&self.folder).map_err(failed(&self.folder, "listed"))?;
        for entry in entries {
            let path = entry.map_err(failed(&self.folder, "listed"))?.path();
            if path.extension().is_none_or(|suffix| suffix != SUFFIX) {
                continue;
            }
            let file = match OpenOptions::new().read(true).append(true).open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(&path, "opened")(error)),
            };
            let dead = match file.try_lock() {
                Ok(()) => true,
                Err(TryLockError::WouldBlock) => false,
                Err(TryLockError::Error(error)) => return Err(failed(&path, "locked")(error)),
            };
            let journal = Journal::inherited(file, path.clone());
            // Its owner may have finished between the listing and the lock.
            if journal.is_removed()? {
                continue;
            }
            let ledger = journal.read()?;
            found.push((path, if dead { Found::Dead(journal, ledger) } else { Found::Live(ledger) }));
        }
        Ok(found)
    }
}

/// One run's journal, owned: its lock is held for as long as this, or a clone of its file, is open.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    /// Lines that the disk did not take. They go before anything that is written later, or their order would be lost.
    unwritten: Vec<u8>,
}

impl Journal {
    /// A journal that is open already, as a supervisor gets it.
    #[must_use]
    pub fn inherited(file: File, path: PathBuf) -> Self {
        Self { file, path, unwritten: Vec::new() }
    }

    /// The same journal once more, with the same lock.
    ///
    /// # Errors
    ///
    /// Where there are no file descriptors left.
    pub fn share(&self) -> Result<Self, Error> {
        let file = self.file.try_clone().map_err(failed(&self.path, "opened again"))?;
        Ok(Self::inherited(file, self.path.clone()))
    }

    /// The file, to be given to another process.
    #[must_use]
    pub fn into_file(self) -> File {
        self.file
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds entries; when this returns, they are on disk.
    ///
    /// # Errors
    ///
    /// A full or broken disk: then what they announce must not be done.
    pub fn add(&mut self, entries: &[Entry]) -> Result<(), Error> {
        self.note(entries)?;
        self.file.sync_data().map_err(failed(&self.path, "synced"))
    }

    /// Adds entries that may be lost: each says that something is done, which can be seen on the engine too.
    ///
    /// # Errors
    ///
    /// A full or broken disk.
    pub fn note(&mut self, entries: &[Entry]) -> Result<(), Error> {
        let mut bytes = self.unwritten.clone();
        bytes.extend(lines(entries)?);
        self.file.write_all(&bytes).map_err(failed(&self.path, "written"))?;
        self.unwritten.clear();
        Ok(())
    }

    /// Adds entries that say what was done to bring something back. That must not end because a disk is full or broken:
    /// this process then knows them all the same, and whoever comes after it looks at the engine.
    pub fn remember(&mut self, entries: &[Entry]) {
        if self.note(entries).is_err() {
            // There is no entry that cannot be written as JSON.
            self.unwritten.extend(lines(entries).unwrap_or_default());
        }
    }

    /// The same, on disk where that is possible.
    pub fn remember_durably(&mut self, entries: &[Entry]) {
        self.remember(entries);
        let _ = self.file.sync_data();
    }

    /// Adds up what is in it.
    ///
    /// # Errors
    ///
    /// Where it cannot be read.
    pub fn read(&self) -> Result<Ledger, Error> {
        let length = self.file.metadata().map_err(failed(&self.path, "looked at"))?.len().min(BYTES_MAX);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        // A supervisor reads through the same open file, so nobody may move its position.
        let mut filled = 0;
        while filled < bytes.len() {
            match self.file.read_at(&mut bytes[filled..], filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(&self.path, "read")(error)),
            }
        }
        bytes.truncate(filled);
        bytes.extend_from_slice(&self.unwritten);
        Ok(Ledger::read(&bytes))
    }

    /// Whether its owner has finished and removed it.
    ///
    /// # Errors
    ///
    /// Where the file system does not say.
    pub fn is_removed(&self) -> Result<bool, Error> {
        let status = self.file.metadata().map_err(failed(&self.path, "looked at"))?;
        Ok(status.nlink() == 0)
    }

    /// Says that nothing is left to undo, and removes it.
    ///
    /// # Errors
    ///
    /// Where it cannot be removed; who finds it again finds nothing to do in it.
    pub fn close(mut self) -> Result<(), Error> {
        // Where there is no room for it, that the file is gone says the same.
        self.remember(&[Entry::End]);
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed(&self.path, "removed")(error))
            }
            _ => Ok(()),
        }
    }
}

fn lines(entries: &[Entry]) -> serde_json::Result<Vec<u8>> {
    Ok(entries.iter().map(entry::line).collect::<serde_json::Result<Vec<_>>>()?.concat())
}
