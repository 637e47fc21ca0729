//! What only a local store does: opening, making, strays, and what an operator or an attacker leaves in its folders.

#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised, in its own functions, too")]

use lifeboat_format::{ObjectKey, ObjectKind};
use lifeboat_store::{Error, ErrorKind, LocalStore, RepositoryProblem, Store};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

fn snapshot(name: u8) -> ObjectKey {
    ObjectKey::new(ObjectKind::Snapshot, &[name; 16])
}

fn pack(name: u8) -> ObjectKey {
    ObjectKey::new(ObjectKind::Pack, &[name; 32])
}

/// A repository with nothing but a config.
fn repository() -> (TempDir, LocalStore) {
    let folder = TempDir::new().unwrap();
    let store = LocalStore::create(folder.path()).unwrap();
    store.put(&ObjectKey::config(), b"config").unwrap();
    (folder, store)
}

#[track_caller]
fn problem<T: std::fmt::Debug>(result: Result<T, Error>) -> RepositoryProblem {
    match result.unwrap_err() {
        Error::Repository { problem, .. } => problem,
        other => panic!("{other:?}"),
    }
}

fn everything_below(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        found.extend(if path.is_dir() { everything_below(&path) } else { Vec::new() });
        found.push(path);
    }
    found
}

#[test]
fn opening_says_whether_nothing_something_else_or_an_unfinished_repository_is_there() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("repository");
    assert_eq!(problem(LocalStore::open(&path)), RepositoryProblem::Missing);
    fs::write(&path, b"a file").unwrap();
    assert_eq!(problem(LocalStore::open(&path)), RepositoryProblem::NotDirectory);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(problem(LocalStore::open(&path)), RepositoryProblem::NotRepository);
    let store = LocalStore::create(&path).unwrap();
    assert_eq!(problem(LocalStore::open(&path)), RepositoryProblem::HalfCreated);
    store.put(&ObjectKey::new(ObjectKind::Slot, &[1; 16]), b"slot").unwrap();
    assert_eq!(problem(LocalStore::open(&path)), RepositoryProblem::HalfCreated);
    store.put(&ObjectKey::config(), b"config").unwrap();
    assert_eq!(LocalStore::open(&path).unwrap().get(&ObjectKey::config()).unwrap(), b"config");
    let kinds =
        [RepositoryProblem::Missing, RepositoryProblem::NotRepository, RepositoryProblem::HalfCreated]
            .map(|problem| Error::Repository { path: path.clone(), problem }.kind());
    assert_eq!(kinds, [ErrorKind::NotFound, ErrorKind::Usage, ErrorKind::Damaged]);
}

#[test]
fn a_repository_is_made_in_empty_and_half_made_folders_and_nowhere_else() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    fs::create_dir(path.join("lost+found")).unwrap();
    LocalStore::create(path).unwrap();
    fs::remove_dir(path.join("verdicts")).unwrap();
    let again = LocalStore::create(path).unwrap();
    assert!(path.join("verdicts").is_dir(), "a half-created one is completed");
    again.put(&ObjectKey::config(), b"config").unwrap();
    assert_eq!(problem(LocalStore::create(path)), RepositoryProblem::Repository);

    let missing_parent = LocalStore::create(path.join("no/such")).unwrap_err();
    assert_eq!(missing_parent.kind(), ErrorKind::NotFound);
    for entry in ["documents", "keys/letter.txt", "index"] {
        let foreign = TempDir::new().unwrap();
        fs::create_dir_all(foreign.path().join(entry).parent().unwrap()).unwrap();
        fs::write(foreign.path().join(entry), b"mine").unwrap();
        let before = everything_below(foreign.path());
        let found = problem(LocalStore::create(foreign.path()));
        assert_eq!(found, RepositoryProblem::NotEmpty { entry: entry.to_owned() });
        assert_eq!(everything_below(foreign.path()), before, "a refused folder is left as it was");
    }
}

#[test]
fn a_repository_that_lost_its_config_is_never_made_anew() {
    for key in [pack(0xab), snapshot(1)] {
        let (folder, store) = repository();
        store.put(&key, b"bytes").unwrap();
        fs::remove_file(folder.path().join("config")).unwrap();
        let lost = RepositoryProblem::ConfigLost { folder: key.kind().folder() };
        assert_eq!(problem(LocalStore::open(folder.path())), lost);
        assert_eq!(problem(LocalStore::create(folder.path())), lost);
    }
}

#[test]
fn opening_and_reading_create_nothing() {
    let (folder, store) = repository();
    store.put(&pack(1), b"bytes").unwrap();
    // A copy that left empty folders out.
    for name in ["tmp", "keys", "index", "snapshots", "intents"] {
        fs::remove_dir(folder.path().join(name)).unwrap();
    }
    let before = everything_below(folder.path());
    let store = LocalStore::open(folder.path()).unwrap();
    assert_eq!(store.get(&pack(1)).unwrap(), b"bytes");
    for kind in ObjectKind::ALL {
        store.list(kind).unwrap();
    }
    assert!(store.stale_spools(Duration::ZERO).unwrap().is_empty());
    store.delete(&snapshot(1)).unwrap();
    assert_eq!(everything_below(folder.path()), before);
    store.put(&snapshot(1), b"bytes").unwrap();
    assert_eq!(store.list(ObjectKind::Snapshot).unwrap().len(), 1, "a missing folder is made by who writes");
}

#[test]
fn strays_are_not_listed() {
    let (folder, store) = repository();
    store.put(&snapshot(0xab), b"bytes").unwrap();
    store.put(&pack(0xab), b"bytes").unwrap();
    let hex = snapshot(0xab).hex();
    for stray in [format!("{hex}.tmp"), hex.to_uppercase(), hex[2..].to_owned(), ".nfs0001".to_owned()] {
        fs::write(folder.path().join("snapshots").join(stray), b"stray").unwrap();
    }
    fs::create_dir(folder.path().join("snapshots/folder")).unwrap();
    fs::create_dir(folder.path().join("packs/A")).unwrap();
    fs::create_dir(folder.path().join("packs/ab")).unwrap();
    fs::create_dir(folder.path().join("packs/c")).unwrap();
    fs::write(folder.path().join("packs/README"), b"stray").unwrap();
    // Under a name that its key does not lead to.
    fs::write(folder.path().join("packs/c").join(pack(0xab).hex()), b"stray").unwrap();
    fs::write(folder.path().join("packs/A").join(pack(0xab).hex()), b"stray").unwrap();
    fs::write(folder.path().join("packs/ab").join(pack(0xab).hex()), b"stray").unwrap();
    let keys = |kind| store.list(kind).unwrap().into_iter().map(|found| found.key).collect::<Vec<_>>();
    assert_eq!(keys(ObjectKind::Snapshot), [snapshot(0xab)]);
    assert_eq!(keys(ObjectKind::Pack), [pack(0xab)]);
    // Nor do they disturb who writes beside them.
    let store = LocalStore::open(folder.path()).unwrap();
    store.put(&pack(0xcd), b"bytes").unwrap();
    assert_eq!(store.list(ObjectKind::Pack).unwrap().len(), 2);
}

#[test]
fn a_listing_that_fails_is_never_an_empty_one() {
    let (folder, store) = repository();
    store.put(&snapshot(1), b"bytes").unwrap();
    // A folder that cannot be read as one.
    fs::remove_dir(folder.path().join("index")).unwrap();
    fs::write(folder.path().join("index"), b"").unwrap();
    assert!(store.list(ObjectKind::Index).is_err());
    assert!(store.names(ObjectKind::Index).is_err());
    // An object that was moved away and linked: skipping it would make it garbage.
    fs::rename(folder.path().join(snapshot(1).path()), folder.path().join("elsewhere")).unwrap();
    symlink(folder.path().join("elsewhere"), folder.path().join(snapshot(1).path())).unwrap();
    assert_eq!(store.list(ObjectKind::Snapshot).unwrap_err().kind(), ErrorKind::Damaged);
    assert_eq!(store.names(ObjectKind::Snapshot).unwrap_err().kind(), ErrorKind::Damaged);
    // A repository that was removed while it was open.
    fs::remove_dir_all(folder.path()).unwrap();
    for kind in ObjectKind::ALL {
        assert_eq!(problem(store.list(kind)), RepositoryProblem::Missing, "{kind:?}");
        assert_eq!(problem(store.names(kind)), RepositoryProblem::Missing, "{kind:?}");
    }
}

#[test]
fn what_is_no_regular_file_is_damage_and_is_not_followed_or_waited_for() {
    let (folder, store) = repository();
    fs::write(folder.path().join("secret"), b"secret").unwrap();
    symlink("../secret", folder.path().join(snapshot(1).path())).unwrap();
    fs::create_dir(folder.path().join(snapshot(2).path())).unwrap();
    let pipe = folder.path().join(snapshot(3).path());
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
    for key in [1, 2, 3].map(snapshot) {
        assert_eq!(store.get(&key).unwrap_err().kind(), ErrorKind::Damaged, "{key:?}");
        assert_eq!(store.bytes(&key).unwrap_err().kind(), ErrorKind::Damaged, "{key:?}");
        assert_eq!(store.get_range(&key, 0, &mut [0]).unwrap_err().kind(), ErrorKind::Damaged, "{key:?}");
        assert!(store.put(&key, b"secret").is_err(), "{key:?}");
    }
    store.delete(&snapshot(1)).unwrap();
    assert_eq!(fs::read(folder.path().join("secret")).unwrap(), b"secret");
}

#[test]
fn an_object_that_is_too_long_is_not_read() {
    let (folder, store) = repository();
    let fence = ObjectKey::new(ObjectKind::Fence, &[1; 16]);
    // 1 TiB of hole: reading it would end the test another way.
    fs::File::create(folder.path().join(fence.path())).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(store.get(&fence).unwrap_err().kind(), ErrorKind::Damaged);
    assert_eq!(store.bytes(&fence).unwrap(), 1 << 40);
}

#[test]
fn only_the_owner_can_read_and_nobody_can_write_an_object() {
    let (folder, store) = repository();
    store.put(&pack(1), b"bytes").unwrap();
    let mut spool = store.spool().unwrap();
    spool.append(b"bytes").unwrap();
    spool.commit(&pack(2)).unwrap();
    for path in everything_below(folder.path()) {
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o400 }, "{}", path.display());
    }
}

#[test]
fn an_object_that_is_put_again_stays_the_same_file() {
    let (folder, store) = repository();
    store.put(&snapshot(1), b"bytes").unwrap();
    let inode = || fs::metadata(folder.path().join(snapshot(1).path())).unwrap().ino();
    let before = inode();
    store.put(&snapshot(1), b"bytes").unwrap();
    assert!(store.put(&snapshot(1), b"other").is_err());
    assert_eq!(inode(), before);
    assert_eq!(fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0);
}

#[test]
fn stale_spools_are_those_whose_writer_is_gone_and_only_they_are_removed() {
    let (folder, store) = repository();
    let mut open = store.spool().unwrap();
    open.append(b"in progress").unwrap();
    let tmp = folder.path().join("tmp");
    let left = format!("spool-{}", "0a".repeat(16));
    fs::write(tmp.join(&left), b"left by a crash").unwrap();
    fs::write(tmp.join("notes.txt"), b"not ours").unwrap();
    assert!(store.stale_spools(Duration::from_secs(3600)).unwrap().is_empty(), "it is young");
    // Opening, here by another process, leaves all of them alone.
    let store = LocalStore::open(folder.path()).unwrap();
    let stale = store.stale_spools(Duration::ZERO).unwrap();
    assert_eq!(
        stale.iter().map(|spool| (spool.name.as_str(), spool.bytes)).collect::<Vec<_>>(),
        [(&*left, 15)]
    );
    store.remove_stale_spools(&stale).unwrap();
    store.remove_stale_spools(&stale).unwrap();
    let traversal = lifeboat_store::StaleSpool { name: "../config".to_owned(), bytes: 0 };
    store.remove_stale_spools(&[traversal]).unwrap();
    assert_eq!(store.list(ObjectKind::Config).unwrap().len(), 1);
    assert!(!tmp.join(&left).exists() && tmp.join("notes.txt").exists());
    open.commit(&snapshot(1)).unwrap();
    assert_eq!(store.get(&snapshot(1)).unwrap(), b"in progress");
}

#[test]
fn a_spool_whose_file_was_removed_fails_and_names_it() {
    let (folder, store) = repository();
    let mut spool = store.spool().unwrap();
    spool.append(b"bytes").unwrap();
    let tmp = folder.path().join("tmp");
    let file = fs::read_dir(&tmp).unwrap().next().unwrap().unwrap().path();
    fs::remove_file(&file).unwrap();
    let error = spool.commit(&snapshot(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "it is not the object that was not found");
    let error = error.to_string();
    assert!(error.contains(file.to_str().unwrap()) && error.contains(&snapshot(1).to_string()), "{error}");
    assert!(store.list(ObjectKind::Snapshot).unwrap().is_empty());
}
