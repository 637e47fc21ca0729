//! SQLite: files that whoever runs in the container opens. Paused, a database, its log (`-wal`) and its index of the log
//! (`-shm`) are of one moment.
//!
//! Must stay true: looking for such files is bounded, and reads no more than the first bytes of those that may be one.

use super::{How, Kind, Patient, Recipe};
use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// What every database begins with.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// What begins it, up to the bytes that say whether there is a log.
const HEADER: usize = 20;
/// So many names are looked at in a mount, and so many files opened.
const NAMES_MAX: usize = 20_000;
const OPENED_MAX: usize = 2_000;
/// So many are named in a snapshot.
const LISTED_MAX: usize = 20;
const ENDINGS: [&str; 5] = ["db", "db3", "sqlite", "sqlite3", "s3db"];

/// A database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Below the folder that was searched.
    pub path: PathBuf,
    /// Whether it writes a log, and not into itself.
    pub has_log: bool,
}

/// The databases below a folder, as far as the names tell: they end like one, or have a log or journal beside them.
#[must_use]
pub fn find(folder: &Path) -> Vec<Found> {
    let (mut found, mut names, mut opened) = (Vec::new(), 0, 0);
    let mut folders = VecDeque::from([folder.to_owned()]);
    while let Some(next) = folders.pop_front() {
        // What cannot be listed is reported by who reads it.
        let Ok(entries) = std::fs::read_dir(&next) else { continue };
        for entry in entries.flatten() {
            names += 1;
            if names > NAMES_MAX || opened >= OPENED_MAX {
                return found;
            }
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                folders.push_back(entry.path());
            } else if kind.is_file() && may_be_one(&entry.path()) {
                opened += 1;
                if let Some(has_log) = header(&entry.path()) {
                    let path = entry.path().strip_prefix(folder).map(Path::to_owned).unwrap_or_default();
                    found.push(Found { path, has_log });
                }
            }
        }
    }
    found
}

fn may_be_one(path: &Path) -> bool {
    let ends =
        path.extension().and_then(|ending| ending.to_str()).is_some_and(|ending| ENDINGS.contains(&ending));
    let beside = |ending: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        Path::new(&name).exists()
    };
    ends || beside("-wal") || beside("-journal")
}

/// Whether a database has a log; nothing where it is none.
fn header(path: &Path) -> Option<bool> {
    let mut bytes = [0; HEADER];
    File::open(path).and_then(|mut file| file.read_exact(&mut bytes)).ok()?;
    // The version for reading: 2 with a log.
    (bytes[..16] == *MAGIC).then_some(bytes[19] == 2)
}

fn all(patient: &Patient<'_>) -> Vec<(String, Found)> {
    let mounts = patient.facts.mounts.iter().filter(|mount| mount.writable);
    let folders = mounts.filter_map(|mount| Some((mount.destination.clone(), (patient.folder)(mount)?)));
    folders.flat_map(|(at, folder)| find(&folder).into_iter().map(move |found| (at.clone(), found))).collect()
}

/// Whether there are any in what is captured of a container.
pub(super) fn is_in(patient: &Patient<'_>) -> bool {
    let mounts = patient.facts.mounts.iter().filter(|mount| mount.writable);
    mounts.into_iter().any(|mount| (patient.folder)(mount).is_some_and(|folder| !find(&folder).is_empty()))
}

pub(super) fn recipe(patient: &Patient<'_>) -> Recipe {
    let how = match patient.facts.state {
        crate::facts::State::Running => patient.how(),
        _ => How::AtRest,
    };
    let found = all(patient);
    let claim = match how {
        How::Paused => {
            "Holds every transaction that was committed before the moment: the databases, their logs and journals are of one \
             moment. The next one to open them recovers what was under way."
        }
        How::AtRest => "Nobody had the databases open who runs in this container.",
        How::Stopped => "The program that writes them was stopped.",
        how => how.as_a_crash(),
    };
    let mut recipe = Recipe::of(Kind::Sqlite, how, claim);
    let listed = found.iter().take(LISTED_MAX);
    recipe.settings = listed
        .map(|(at, found)| {
            let mode = if found.has_log { "write-ahead log" } else { "rollback journal" };
            (Path::new(at).join(&found.path).to_string_lossy().into_owned(), mode.to_owned())
        })
        .collect();
    match how {
        How::Unprotected => recipe.warnings.push(
            "SQLite databases are written while they are read: the label `lifeboat.pause=false` asks for that".to_owned(),
        ),
        How::Paused if found.iter().any(|(_, found)| !found.has_log) => recipe.warnings.push(
            "a SQLite database has a rollback journal: a program that keeps it in memory (journal_mode MEMORY or OFF) leaves a \
             database that cannot be mended if it is paused in a transaction"
                .to_owned(),
        ),
        _ => {}
    }
    recipe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_are_found_by_their_names_and_first_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, log: u8, magic: &[u8]| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let mut bytes = magic.to_vec();
            bytes.resize(HEADER + 80, 0);
            bytes[19] = log;
            std::fs::write(path, bytes).unwrap();
        };
        write("a.db", 1, MAGIC);
        write("deep/er/state", 2, MAGIC);
        write("deep/er/state-wal", 0, b"log");
        write("plain.db", 1, b"not a database..");
        write("unnamed", 1, MAGIC);
        std::fs::write(folder.path().join("short.db"), b"SQLite").unwrap();
        let mut found = find(folder.path());
        found.sort_by(|one, other| one.path.cmp(&other.path));
        let expected = [("a.db", false), ("deep/er/state", true)]
            .map(|(path, has_log)| Found { path: path.into(), has_log });
        assert_eq!(found, expected);
    }
}
