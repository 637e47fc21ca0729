//! A disk that is really full, and one that is really read-only: a tmpfs of 1 MiB.

#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised, in its own functions, too")]

use lifeboat_format::{ObjectKey, ObjectKind};
use lifeboat_store::{ErrorKind, LocalStore, Store};
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tempfile::TempDir;

/// One test at a time: a program that another test starts holds copies of this one's open files until it is executed,
/// and with them the room of unlinked files, and the mount.
static ONE_TEST: Mutex<()> = Mutex::new(());

/// A mounted tmpfs, unmounted when dropped.
struct Disk(TempDir, #[expect(dead_code, reason = "held")] MutexGuard<'static, ()>);

fn run(program: &str, arguments: &[&str]) {
    let output =
        Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "`{program} {}` failed: this test mounts a tmpfs, so run it as root where mounting is permitted: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
}

impl Disk {
    fn mount() -> Self {
        let one_test = ONE_TEST.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = TempDir::new().unwrap();
        run(
            "mount",
            &["-t", "tmpfs", "-o", "size=1m,mode=0700", "lifeboat-test", folder.path().to_str().unwrap()],
        );
        Self(folder, one_test)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).output();
    }
}

fn pack(name: u8) -> ObjectKey {
    ObjectKey::new(ObjectKind::Pack, &[name; 32])
}

fn temporary_files(disk: &Disk) -> usize {
    std::fs::read_dir(disk.path().join("tmp")).unwrap().count()
}

#[test]
fn a_full_disk_is_said_to_be_full_and_loses_and_leaves_nothing() {
    let disk = Disk::mount();
    let store = LocalStore::create(disk.path()).unwrap();
    store.put(&ObjectKey::config(), b"config").unwrap();
    store.put(&pack(1), &vec![1; 300_000]).unwrap();

    let full = store.put(&pack(2), &vec![2; 2_000_000]).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::Full, "{full}");
    let message = full.to_string();
    assert!(message.starts_with(&format!("there is no room left to write {} at ", pack(2))), "{message}");
    assert!(message.contains(disk.path().to_str().unwrap()), "{message}");

    let mut spool = store.spool().unwrap();
    let failed = (0..20).find_map(|_| spool.append(&vec![3; 100_000]).err()).expect("2 MB do not fit");
    assert_eq!(failed.kind(), ErrorKind::Full, "{failed}");
    assert_eq!(spool.append(b"more").unwrap_err().kind(), ErrorKind::Usage, "its bytes are incomplete");
    assert_eq!(spool.commit(&pack(3)).unwrap_err().kind(), ErrorKind::Usage, "its bytes are incomplete");

    assert_eq!(temporary_files(&disk), 0);
    let listed = store.list(ObjectKind::Pack).unwrap();
    assert_eq!(listed.iter().map(|found| &found.key).collect::<Vec<_>>(), [&pack(1)]);
    assert_eq!(store.get(&pack(1)).unwrap(), vec![1; 300_000]);
    store.put(&pack(4), &vec![4; 500_000]).expect("what failed takes no room");
    // Deleting must work on a full disk: it is the way out.
    let rest = vec![0; 10_000];
    let fill = (5..).find(|name| store.put(&pack(*name), &rest).is_err()).unwrap();
    store.delete_many(&[pack(1), pack(4)]).unwrap();
    store.put(&pack(fill), &rest).unwrap();
}

#[test]
fn a_read_only_disk_is_read_and_refuses_changes() {
    let disk = Disk::mount();
    let store = LocalStore::create(disk.path()).unwrap();
    store.put(&ObjectKey::config(), b"config").unwrap();
    store.put(&pack(1), b"bytes").unwrap();
    drop(store);
    run("mount", &["-o", "remount,ro", disk.path().to_str().unwrap()]);
    let store = LocalStore::open(disk.path()).unwrap();
    assert_eq!(store.get(&pack(1)).unwrap(), b"bytes");
    assert_eq!(store.list(ObjectKind::Pack).unwrap().len(), 1);
    let denied = [
        store.put(&pack(2), b"bytes"),
        store.spool().map(drop),
        store.delete(&pack(1)),
        store.put(&pack(1), b"bytes"),
    ];
    for error in denied.map(Result::unwrap_err) {
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    }
    assert_eq!(store.get(&pack(1)).unwrap(), b"bytes");
}
