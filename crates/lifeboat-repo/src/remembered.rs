//! Snapshot objects that this machine has read before, as they are stored: sealed, in one local file.
//!
//! Must stay true: this is a cache that nobody has to trust. An object's name is its session's, objects never change, and
//! every one is opened with the repository's keys under its name each time. So a file that is damaged, foreign, half
//! written or gone costs reading the objects from the repository again, and nothing else; whether a snapshot exists is
//! always the store's listing to say. `check` does not use it: it wants to see what the repository holds.
//!
//! Read next: [`crate::snapshots`]; why this exists is `docs/decisions/0015-remembered-snapshots.md`.

use lifeboat_format::SessionId;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The file is written anew when so many objects had to be read from the repository. Below that, reading them again is
/// cheaper than writing the file after every snapshot.
const UNKNOWN_MAX: usize = 16;
/// More is not remembered: some 40,000 snapshots.
const FILE_BYTES_MAX: usize = 16 << 20;
/// The first bytes of the file; another layout takes another word.
const MAGIC: &[u8; 8] = b"lbsnaps1";

/// What is remembered.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    /// `None`: nothing is kept on this machine.
    folder: Option<PathBuf>,
    objects: HashMap<SessionId, Vec<u8>>,
}

impl Remembered {
    /// Reads the file in `folder`, the repository's cache. Trouble of any sort means that less is remembered.
    pub(crate) fn open(folder: Option<&Path>) -> Self {
        let objects = folder.and_then(|folder| read(&folder.join("snapshots"))).unwrap_or_default();
        Self { folder: folder.map(Path::to_owned), objects }
    }

    /// The object of `session`, if one of that length is remembered.
    pub(crate) fn get(&self, session: &SessionId, bytes: u64) -> Option<&[u8]> {
        self.objects.get(session).map(Vec::as_slice).filter(|object| object.len() as u64 == bytes)
    }

    /// Remembers objects that were read from the repository and opened, if they are enough to be worth a file, and
    /// forgets those that are not `listed` any more.
    ///
    /// The folder is not made: commands that need no index leave nothing behind.
    pub(crate) fn learn(
        mut self,
        unknown: Vec<(SessionId, Vec<u8>)>,
        is_listed: impl Fn(&SessionId) -> bool,
    ) {
        let Some(folder) =
            self.folder.take().filter(|folder| unknown.len() >= UNKNOWN_MAX && folder.is_dir())
        else {
            return;
        };
        self.objects.retain(|session, _| is_listed(session));
        self.objects.extend(unknown);
        // A cache that cannot be written is a cache that is not there.
        let _ = write(&folder, &self.objects);
    }
}

fn read(path: &Path) -> Option<HashMap<SessionId, Vec<u8>>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(FILE_BYTES_MAX as u64).read_to_end(&mut bytes).ok()?;
    let mut rest = bytes.strip_prefix(MAGIC)?;
    let mut objects = HashMap::new();
    // Where the file ends early, what came before it still counts.
    while let Some((session, after)) = rest.split_first_chunk() {
        let Some((length, after)) = after.split_first_chunk() else { break };
        let Some((object, after)) = after.split_at_checked(u32::from_le_bytes(*length) as usize) else {
            break;
        };
        objects.insert(SessionId(*session), object.to_vec());
        rest = after;
    }
    Some(objects)
}

fn write(folder: &Path, objects: &HashMap<SessionId, Vec<u8>>) -> std::io::Result<()> {
    let mut bytes = MAGIC.to_vec();
    for (session, object) in objects {
        if bytes.len() + 20 + object.len() > FILE_BYTES_MAX {
            break;
        }
        bytes.extend_from_slice(&session.0);
        bytes.extend_from_slice(&(object.len() as u32).to_le_bytes());
        bytes.extend_from_slice(object);
    }
    let unfinished = folder.join("snapshots.new");
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished);
    let result = match created {
        Ok(mut file) => {
            file.write_all(&bytes).and_then(|()| std::fs::rename(&unfinished, folder.join("snapshots")))
        }
        // Left by a killed process, or another one is at it: whoever comes next tries again.
        Err(error) => Err(error),
    };
    result.inspect_err(|_| drop(std::fs::remove_file(&unfinished)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(number: usize) -> SessionId {
        SessionId([number as u8; 16])
    }

    fn learned(folder: &Path, numbers: std::ops::Range<usize>) {
        let unknown = numbers.map(|number| (session(number), vec![number as u8; 100 + number])).collect();
        Remembered::open(Some(folder)).learn(unknown, |_| true);
    }

    #[test]
    fn what_was_learned_is_remembered_and_what_was_forgotten_is_not() {
        let folder = tempfile::tempdir().unwrap();
        learned(folder.path(), 0..UNKNOWN_MAX - 1);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "too few for a file");
        learned(folder.path(), 0..UNKNOWN_MAX);
        let remembered = Remembered::open(Some(folder.path()));
        assert_eq!(remembered.get(&session(3), 103), Some(&[3; 103][..]));
        assert_eq!(remembered.get(&session(3), 102), None);
        let unknown = (100..100 + UNKNOWN_MAX).map(|number| (session(number), vec![1])).collect();
        remembered.learn(unknown, |found| *found != session(3));
        let remembered = Remembered::open(Some(folder.path()));
        assert_eq!(remembered.get(&session(3), 103), None);
        assert_eq!(remembered.get(&session(4), 104), Some(&[4; 104][..]));
    }

    #[test]
    fn any_file_is_read_without_a_panic_and_a_short_one_as_far_as_it_goes() {
        let folder = tempfile::tempdir().unwrap();
        learned(folder.path(), 0..20);
        let path = folder.path().join("snapshots");
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let count = Remembered::open(Some(folder.path())).objects.len();
            assert!(count < 20 && (length < 200 || count > 0), "{count} objects in {length} bytes");
        }
        std::fs::write(&path, [&MAGIC[..], &[0xff; 60]].concat()).unwrap();
        assert!(Remembered::open(Some(folder.path())).objects.is_empty());
    }

    #[test]
    fn nothing_is_written_where_there_is_no_folder_and_a_dead_writer_stops_nobody_for_long() {
        let folder = tempfile::tempdir().unwrap();
        let absent = folder.path().join("absent");
        learned(&absent, 0..20);
        assert!(!absent.exists());
        std::fs::write(folder.path().join("snapshots.new"), b"half").unwrap();
        learned(folder.path(), 0..20);
        learned(folder.path(), 0..20);
        assert!(Remembered::open(Some(folder.path())).get(&session(1), 101).is_some());
        assert!(!folder.path().join("snapshots.new").exists());
    }
}
