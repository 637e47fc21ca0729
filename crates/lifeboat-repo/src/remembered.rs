//! Snapshots that this machine has read before, in one local file, sealed with the repository's keys.
//!
//! Must stay true: this is a cache that nobody has to trust. Objects never change, an object's name is its session's, and
//! nobody without the keys can make a file that opens. So one that is damaged, foreign, half written or gone costs reading
//! the objects from the repository again, and nothing else; whether a snapshot exists is always the store's listing to say.
//! `check` does not use it: it wants to see what the repository holds.
//!
//! Read next: [`crate::snapshots`]; why this exists is `docs/decisions/0015-remembered-snapshots.md`.

use lifeboat_format::SessionId;
use lifeboat_format::keys::Keys;
use lifeboat_format::snapshot::remembered::{self, Builder, REMEMBERED_BYTES_MAX, Remembered as One};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The file is written anew when so many objects had to be read from the repository. Below that, reading them again is
/// cheaper than writing the file after every snapshot.
const UNKNOWN_MAX: usize = 16;

/// What is remembered.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    /// `None`: nothing is kept on this machine.
    folder: Option<PathBuf>,
    known: HashMap<SessionId, One>,
}

impl Remembered {
    /// Reads the file in `folder`, the repository's cache. Trouble of any sort means that less is remembered.
    pub(crate) fn open(folder: Option<&Path>, keys: &Keys) -> Self {
        let known = folder.and_then(|folder| read(&folder.join("snapshots"), keys)).unwrap_or_default();
        Self { folder: folder.map(Path::to_owned), known }
    }

    /// What is remembered of the object of `session`, whatever length that has now.
    pub(crate) fn get(&self, session: &SessionId) -> Option<&One> {
        self.known.get(session)
    }

    /// It is another object now, or none.
    pub(crate) fn forget(&mut self, session: &SessionId) {
        self.known.remove(session);
    }

    /// Remembers what was read from the repository, in the file if that is worth it, and forgets there what is not `listed`
    /// any more.
    ///
    /// The folder is not made: commands that need no index leave nothing behind.
    pub(crate) fn learn(&mut self, keys: &Keys, read: Vec<One>, is_listed: impl Fn(&SessionId) -> bool) {
        let folder = self.folder.as_ref().filter(|folder| read.len() >= UNKNOWN_MAX && folder.is_dir());
        if let Some(folder) = folder {
            let mut builder = Builder::default();
            self.known.values().filter(|one| is_listed(&one.session)).for_each(|one| _ = builder.add(one));
            // Where it is full, what is new is read again every time, and the file is not written again for nothing.
            if read.iter().filter(|one| builder.add(one)).count() >= UNKNOWN_MAX {
                // A cache that cannot be written is a cache that is not there.
                let _ = write(folder, &builder.seal(keys));
            }
        }
        self.known.extend(read.into_iter().map(|one| (one.session, one)));
    }
}

fn read(path: &Path, keys: &Keys) -> Option<HashMap<SessionId, One>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(u64::from(REMEMBERED_BYTES_MAX)).read_to_end(&mut bytes).ok()?;
    let known = remembered::open(keys, &bytes).ok()?;
    Some(known.into_iter().map(|one| (one.session, one)).collect())
}

fn write(folder: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let unfinished = folder.join("snapshots.new");
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished);
    let result = match created {
        Ok(mut file) => {
            file.write_all(bytes).and_then(|()| std::fs::rename(&unfinished, folder.join("snapshots")))
        }
        // Left by a killed process, or another one is at it: whoever comes next tries again.
        Err(error) => Err(error),
    };
    result.inspect_err(|_| drop(std::fs::remove_file(&unfinished)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_format::seal::{Key, Suite};
    use lifeboat_format::snapshot::{Opened, Snapshot};
    use lifeboat_format::{HostId, ObjectKind, RepositoryId, SnapshotId};

    fn keys() -> Keys {
        Keys::derive(&Key::new([3; 32]), RepositoryId([1; 16]), Suite::XChaCha20Poly1305)
    }

    fn session(number: usize) -> SessionId {
        SessionId([number as u8; 16])
    }

    fn opened(number: usize) -> Opened {
        let key = keys().new_session();
        let snapshot = Snapshot::new(SnapshotId([number as u8; 16]), HostId([9; 16]));
        let bytes = snapshot.encode(ObjectKind::Snapshot, &keys(), session(number), &key).unwrap();
        Snapshot::open(ObjectKind::Snapshot, &keys(), session(number), &bytes).unwrap()
    }

    fn open(folder: &Path) -> Remembered {
        Remembered::open(Some(folder), &keys())
    }

    fn learned(folder: &Path, numbers: std::ops::Range<usize>, is_listed: impl Fn(&SessionId) -> bool) {
        let one = |number| One { session: session(number), object_bytes: 100, opened: opened(number) };
        open(folder).learn(&keys(), numbers.map(one).collect(), is_listed);
    }

    #[test]
    fn what_was_learned_is_remembered_and_what_is_not_listed_any_more_is_not() {
        let folder = tempfile::tempdir().unwrap();
        learned(folder.path(), 0..UNKNOWN_MAX - 1, |_| true);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "too few for a file");
        learned(folder.path(), 0..UNKNOWN_MAX, |_| true);
        let known = open(folder.path());
        assert_eq!(known.get(&session(3)).map(|one| &one.opened), Some(&opened(3)));
        learned(folder.path(), 100..100 + UNKNOWN_MAX, |found| *found != session(3));
        assert_eq!(open(folder.path()).get(&session(3)), None);
        assert!([4, 100].iter().all(|number| open(folder.path()).get(&session(*number)).is_some()));
    }

    #[test]
    fn nothing_is_written_where_there_is_no_folder_and_a_dead_writer_stops_nobody_for_long() {
        let folder = tempfile::tempdir().unwrap();
        let absent = folder.path().join("absent");
        learned(&absent, 0..20, |_| true);
        assert!(!absent.exists());
        std::fs::write(folder.path().join("snapshots.new"), b"half").unwrap();
        learned(folder.path(), 0..20, |_| true);
        learned(folder.path(), 0..20, |_| true);
        assert!(open(folder.path()).get(&session(1)).is_some());
        assert!(!folder.path().join("snapshots.new").exists());
    }
}
