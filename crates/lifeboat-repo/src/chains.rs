//! What this machine saw of each host's chain of snapshots, so that a repository that was set back is noticed.
//!
//! Must stay true: nothing fails because of this, and nothing is decided by it: a chain that is shorter than it was is
//! said, and whoever reads that knows whether somebody forgot snapshots elsewhere. The file is a cache: `docs/format/snapshot.md`
//! says what its lines are.

use lifeboat_format::snapshot::Head;
use lifeboat_format::{HostId, RepositoryId, SnapshotId};
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The newest snapshot of a host.
type Newest = (u64, SnapshotId);

/// A host whose chain of snapshots is shorter than it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetBack {
    /// The host.
    pub host: HostId,
    /// Number and id of the newest that was seen.
    pub seen: (u64, SnapshotId),
    /// Number of the newest that is there; 0 when there is none.
    pub found: u64,
}

impl fmt::Display for SetBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, (number, id), found) = (self.host.to_string(), self.seen, self.found);
        write!(f, "snapshot {id}, number {number} of host {}, was here and is gone; ", &host[..8])?;
        match found {
            0 => write!(f, "the host has none now"),
            _ => write!(f, "the host's newest is number {found} now"),
        }?;
        write!(f, ": the repository was set back to an older state, or the snapshot was forgotten elsewhere")
    }
}

/// What was seen of one repository.
#[derive(Debug)]
pub struct Chains {
    file: PathBuf,
    seen: BTreeMap<HostId, Newest>,
}

fn newest_of_each(heads: impl Iterator<Item = Head>) -> BTreeMap<HostId, Newest> {
    let mut newest = BTreeMap::new();
    for head in heads {
        let own = (head.sequence, head.id);
        let last = newest.entry(head.host_id).or_insert(own);
        *last = own.max(*last);
    }
    newest
}

impl Chains {
    /// What is remembered below `state`; nothing where that cannot be read.
    pub fn open(state: &Path, repository: RepositoryId) -> Self {
        let file = state.join("chains").join(repository.to_string());
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let read = |line: &str| {
            let mut words = line.split(' ');
            let host: HostId = words.next()?.parse().ok()?;
            let sequence = words.next()?.parse().ok()?;
            Some((host, (sequence, words.next()?.parse().ok()?)))
        };
        Self { file, seen: text.lines().filter_map(read).collect() }
    }

    /// The hosts whose newest snapshot that was seen is not in a whole listing, without a newer one.
    pub fn set_back(&self, listed: impl Iterator<Item = Head> + Clone) -> Vec<SetBack> {
        let newest = newest_of_each(listed.clone());
        let is_behind = |(host, seen): (&HostId, &Newest)| {
            let last = newest.get(host);
            let found = last.map_or(0, |(number, _)| *number);
            let is_gone =
                found <= seen.0 && last != Some(seen) && !listed.clone().any(|head| head.id == seen.1);
            is_gone.then_some(SetBack { host: *host, seen: *seen, found })
        };
        self.seen.iter().filter_map(is_behind).collect()
    }

    /// Remembers what is listed where it is newer than what was seen.
    pub fn learn(&mut self, listed: impl Iterator<Item = Head>) {
        let before = self.seen.clone();
        for (host, newest) in newest_of_each(listed) {
            let last = self.seen.entry(host).or_insert(newest);
            if newest.0 > last.0 {
                *last = newest;
            }
        }
        if self.seen != before {
            self.save();
        }
    }

    /// Takes what is listed for all there is: what is gone went on purpose.
    pub fn accept(&mut self, listed: impl Iterator<Item = Head>) {
        self.seen = newest_of_each(listed);
        self.save();
    }

    /// These are not missed: they go on purpose. What a host's newest is then, the next listing tells.
    pub fn forget(&mut self, removed: impl Iterator<Item = SnapshotId>) {
        let removed: HashSet<SnapshotId> = removed.collect();
        let before = self.seen.len();
        self.seen.retain(|_, (_, seen)| !removed.contains(seen));
        if self.seen.len() != before {
            self.save();
        }
    }

    /// Where it cannot be written, the next run knows less; that is all.
    fn save(&self) {
        let Some(folder) = self.file.parent() else { return };
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(folder)?;
            let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
            for (host, (sequence, snapshot)) in &self.seen {
                writeln!(temporary, "{host} {sequence} {snapshot}")?;
            }
            temporary.persist(&self.file)?;
            Ok(())
        };
        let _ = write();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_format::snapshot::Snapshot;

    fn list(chain: &[(u8, u64)]) -> std::vec::IntoIter<Head> {
        let head = |(host, sequence): &(u8, u64)| {
            let id = SnapshotId([*host, *sequence as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            Head { sequence: *sequence, ..Snapshot::new(id, HostId([*host; 16])).head() }
        };
        chain.iter().map(head).collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn a_shorter_chain_is_noticed_by_whoever_saw_the_longer_one() {
        let (state, repository) = (tempfile::tempdir().unwrap(), RepositoryId([1; 16]));
        let open = || Chains::open(state.path(), repository);
        open().learn(list(&[(1, 1), (1, 2), (2, 7)]));
        assert_eq!(open().set_back(list(&[(1, 2), (2, 7)])), []);
        assert_eq!(open().set_back(list(&[(1, 3), (2, 9)])), []);
        let back = open().set_back(list(&[(1, 1)]));
        assert_eq!(back.iter().map(|back| (back.seen.0, back.found)).collect::<Vec<_>>(), [(2, 1), (7, 0)]);
        // Seeing the old state does not make it the newest that was seen.
        open().learn(list(&[(1, 1)]));
        assert_eq!(open().set_back(list(&[(1, 1)])).len(), 2);
        // Going on from the old state does not make up for what is gone.
        let mut forked: Vec<Head> = list(&[(1, 1), (1, 2), (2, 7)]).collect();
        forked[1].id = SnapshotId([77; 16]);
        assert_eq!(open().set_back(forked.into_iter())[0].to_string().split(" was here").count(), 2);
        assert_eq!(open().set_back(list(&[(1, 1), (1, 3), (2, 7)])), []);
        // Somebody who did not see the newer state, and another repository, have nothing to say.
        assert_eq!(Chains::open(state.path(), RepositoryId([2; 16])).set_back(list(&[])), []);
    }

    #[test]
    fn what_was_forgotten_on_purpose_is_not_missed() {
        let state = tempfile::tempdir().unwrap();
        let mut chains = Chains::open(state.path(), RepositoryId([1; 16]));
        chains.learn(list(&[(1, 1), (1, 2)]));
        chains.learn(list(&[(2, 5)]));
        let newest = chains.seen[&HostId([1; 16])].1;
        chains.forget([newest].into_iter());
        assert_eq!(Chains::open(state.path(), RepositoryId([1; 16])).set_back(list(&[(1, 1), (2, 5)])), []);
        chains.learn(list(&[(1, 1)]));
        assert_eq!(chains.set_back(list(&[])).len(), 2);
        chains.accept(list(&[(1, 1)]));
        assert_eq!(Chains::open(state.path(), RepositoryId([1; 16])).set_back(list(&[(1, 1)])), []);
    }

    #[test]
    fn a_file_that_is_nonsense_is_nothing_remembered() {
        let state = tempfile::tempdir().unwrap();
        let repository = RepositoryId([1; 16]);
        std::fs::create_dir(state.path().join("chains")).unwrap();
        std::fs::write(state.path().join("chains").join(repository.to_string()), b"\xff nonsense\n1 2 3\n")
            .unwrap();
        assert_eq!(Chains::open(state.path(), repository).set_back(list(&[])), []);
    }
}
