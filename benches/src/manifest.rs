//! What a folder holds, compact enough to compare a kernel tree after every restore.
//!
//! Must stay true: this shares no code with lifeboat, or a restore would be judged by the program that made it. A file's
//! content counts by its BLAKE3 hash; kind, mode, owner, time and links count too.

use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, HashMap};
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Differences that are named; more say the same.
const NAMED: usize = 5;

/// Everything below a folder by its relative path, the folder itself being the empty one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    entries: BTreeMap<PathBuf, String>,
    /// Regular files.
    pub(crate) files: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
}

impl Manifest {
    /// Looks at everything below `root`, which may be a single file.
    pub(crate) fn of(root: &Path) -> Result<Self> {
        let mut manifest = Self::default();
        let mut to_hash = Vec::new();
        let mut links: HashMap<(u64, u64), PathBuf> = HashMap::new();
        for (relative, metadata) in walk(root)? {
            let path = at(root, &relative);
            let mut words = format!(
                "{:o} {}:{} {}.{:09}",
                metadata.mode(),
                metadata.uid(),
                metadata.gid(),
                metadata.mtime(),
                metadata.mtime_nsec()
            );
            if metadata.is_file() {
                manifest.files += 1;
                manifest.bytes += metadata.len();
                words += &format!(" {} bytes", metadata.len());
                to_hash.push(relative.clone());
            } else if metadata.is_symlink() {
                words += &format!(" to {}", std::fs::read_link(&path)?.display());
            } else if !metadata.is_dir() {
                words += &format!(" device {}", metadata.rdev());
            }
            if !metadata.is_dir() && metadata.nlink() > 1 {
                let first = links.entry((metadata.dev(), metadata.ino())).or_insert_with(|| relative.clone());
                words += &format!(" linked to {}", first.display());
            }
            manifest.entries.insert(relative, words);
        }
        for (relative, hash) in hash_all(root, &to_hash)? {
            if let Some(words) = manifest.entries.get_mut(&relative) {
                words.push_str(&format!(" content {hash}"));
            }
        }
        Ok(manifest)
    }

    /// Fails, and says how, unless `found` holds the same.
    pub(crate) fn expect_same(&self, found: &Self) -> Result<()> {
        let mut differences = Vec::new();
        for (path, words) in &self.entries {
            match found.entries.get(path) {
                Some(other) if other == words => {}
                Some(other) => {
                    differences.push(format!("`{}` is {other} instead of {words}", path.display()))
                }
                None => differences.push(format!("`{}` is missing", path.display())),
            }
        }
        let extra = found.entries.keys().filter(|path| !self.entries.contains_key(*path));
        differences.extend(extra.map(|path| format!("`{}` should not be there", path.display())));
        if differences.is_empty() {
            return Ok(());
        }
        let count = differences.len();
        differences.truncate(NAMED);
        bail!("{count} differences from the source: {}", differences.join("; "))
    }

    /// In words, for the report.
    pub(crate) fn describe(&self) -> String {
        format!("{} files, {:.3} GB", self.files, self.bytes as f64 / 1e9)
    }
}

fn at(root: &Path, relative: &Path) -> PathBuf {
    if relative.as_os_str().is_empty() { root.to_owned() } else { root.join(relative) }
}

/// Every entry in the order of its path.
fn walk(root: &Path) -> Result<BTreeMap<PathBuf, Metadata>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(relative) = waiting.pop() {
        let path = at(root, &relative);
        let failing = || format!("cannot look at {}", path.display());
        let metadata = path.symlink_metadata().with_context(failing)?;
        if metadata.is_dir() {
            for entry in std::fs::read_dir(&path).with_context(failing)? {
                waiting.push(relative.join(entry.with_context(failing)?.file_name()));
            }
        }
        found.insert(relative, metadata);
    }
    Ok(found)
}

/// One thread a core: reading back a restore takes longer than many a measurement.
fn hash_all(root: &Path, files: &[PathBuf]) -> Result<Vec<(PathBuf, blake3::Hash)>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let waiting = Mutex::new(files.iter());
    let next = || waiting.lock().ok().and_then(|mut files| files.next());
    let work = || -> Result<Vec<(PathBuf, blake3::Hash)>> {
        let mut hashes = Vec::new();
        while let Some(relative) = next() {
            let path = at(root, relative);
            let failing = || format!("cannot read {}", path.display());
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(File::open(&path).with_context(failing)?).with_context(failing)?;
            hashes.push((relative.clone(), hasher.finalize()));
        }
        Ok(hashes)
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut all = Vec::new();
        for worker in workers {
            match worker.join() {
                Ok(hashes) => all.extend(hashes?),
                Err(_) => bail!("a thread that read back a tree panicked"),
            }
        }
        Ok(all)
    })
}

/// Bytes of everything below a folder as `du --apparent-size` counts them, folders included.
pub(crate) fn apparent_bytes(folder: &Path) -> Result<u64> {
    Ok(walk(folder)?.values().map(Metadata::len).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn tree() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("sub")).unwrap();
        fs::write(folder.path().join("sub/file"), b"content").unwrap();
        fs::hard_link(folder.path().join("sub/file"), folder.path().join("twin")).unwrap();
        std::os::unix::fs::symlink("sub", folder.path().join("link")).unwrap();
        folder
    }

    fn copy(of: &Path) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let status = std::process::Command::new("cp").arg("-aT").arg(of).arg(folder.path()).status().unwrap();
        assert!(status.success());
        folder
    }

    fn difference(change: impl FnOnce(&Path)) -> String {
        let first = tree();
        let second = copy(first.path());
        change(second.path());
        let manifest = |folder: &Path| Manifest::of(folder).unwrap();
        format!("{:#}", manifest(first.path()).expect_same(&manifest(second.path())).unwrap_err())
    }

    #[test]
    fn a_faithful_copy_is_the_same() {
        let first = tree();
        let second = copy(first.path());
        let manifest = Manifest::of(first.path()).unwrap();
        assert_eq!((manifest.files, manifest.bytes), (2, 14));
        manifest.expect_same(&Manifest::of(second.path()).unwrap()).unwrap();
    }

    #[test]
    fn every_kind_of_difference_is_found() {
        let other_bytes = |folder: &Path| {
            let file = File::options().write(true).open(folder.join("sub/file")).unwrap();
            let time = file.metadata().unwrap().modified().unwrap();
            std::io::Write::write_all(&mut &file, b"CONTENT").unwrap();
            file.set_modified(time).unwrap();
        };
        assert!(difference(other_bytes).contains("content"));
        let time = |folder: &Path| {
            File::open(folder.join("sub/file")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        };
        assert!(difference(time).contains("instead of"));
        assert!(difference(|folder| fs::remove_file(folder.join("twin")).unwrap()).contains("is missing"));
        assert!(
            difference(|folder| fs::write(folder.join("new"), b"").unwrap()).contains("should not be there")
        );
    }
}
