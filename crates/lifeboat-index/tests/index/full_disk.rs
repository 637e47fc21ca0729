//! A full disk in the cache never fails a backup: it is reported, in time, and what was known stays known.
//!
//! Needs root, for a small file system of its own; without, it fails rather than passing untested.

use crate::build::{Objects, REPOSITORY, apply, check, open, options, pack};
use lifeboat_index::{ErrorKind, Index, Opening};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"])
            .arg(directory.path())
            .status();
        assert!(mounted.is_ok_and(|status| status.success()), "this test must be root to mount a small disk");
        Self(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Leaves that much room.
    fn fill_up_to(&self, room: u64) -> PathBuf {
        let path = self.path().join("ballast");
        let mut ballast = File::create(&path).unwrap();
        let mut length = 0;
        while ballast.write_all(&[0; 4096]).is_ok() {
            length += 4096;
        }
        ballast.set_len(length - room).unwrap();
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--lazy"]).arg(self.path()).status();
    }
}

fn objects(count: u32) -> Objects {
    let chunks = |name: u32| (name * 1000..name * 1000 + 2000).collect::<Vec<_>>();
    (0..count).map(|name| (name, vec![pack(name, &chunks(name))])).collect()
}

#[test]
fn a_full_disk_is_reported_and_what_was_known_stays_known() {
    let disk = SmallDisk::mount();
    let started = Instant::now();
    let directory = disk.path().join("cache");
    let objects = objects(80);
    let index = open(&directory);
    let failed = objects.iter().find_map(|(name, packs)| apply(&index, *name, packs.clone()).err());
    let failed = failed.expect("80 objects of 110 KB do not fit 8 MB");
    assert_eq!(failed.kind(), ErrorKind::Full, "{failed:?}");
    let covered = check(&index, &objects).unwrap();
    // A compaction needs the room of its input once more.
    assert!(covered.len() > 10, "{}", covered.len());
    let again = apply(&index, 79, objects[&79].clone());
    assert!(again.is_ok() || again.unwrap_err().kind() == ErrorKind::Full);
    drop(index);
    // There may be room enough for opening, and none for what is new: the caller then spills elsewhere.
    let index = Index::open_spilling(&directory, REPOSITORY, &options()).unwrap();
    apply(&index, 79, objects[&79].clone()).unwrap();
    let spilled = check(&index, &objects).unwrap();
    assert!(spilled.contains(&79) && covered.is_subset(&spilled));
    drop(index);
    // Not a byte is left: the cache can no longer be written, but still be read.
    let ballast = disk.fill_up_to(0);
    let index = open(&directory);
    assert_eq!(index.opening(), Opening::ReaderWithSpill);
    assert_eq!(index.not_writer_because().unwrap().kind(), ErrorKind::Full);
    assert!(covered.is_subset(&check(&index, &objects).unwrap()));
    apply(&index, 79, objects[&79].clone()).unwrap();
    assert!(check(&index, &objects).unwrap().contains(&79));
    drop(index);
    fs::remove_file(ballast).unwrap();
    let index = open(&directory);
    assert!(index.opening() == Opening::Writer && !index.rebuilt());
    assert!(covered.is_subset(&check(&index, &objects).unwrap()));
    assert!(started.elapsed() < Duration::from_secs(30), "nothing waits for room");
}

#[test]
fn whatever_room_is_left_a_change_succeeds_or_reports_the_full_disk() {
    let disk = SmallDisk::mount();
    let objects = objects(2);
    for room in (0u64..600).step_by(24) {
        let directory = disk.path().join("cache");
        {
            let index = open(&directory);
            apply(&index, 0, objects[&0].clone()).unwrap();
            let ballast = disk.fill_up_to(room << 10);
            let result = apply(&index, 1, objects[&1].clone());
            let kept = check(&index, &objects).unwrap();
            assert!(kept.contains(&0));
            match result {
                Ok(()) => assert!(kept.contains(&1)),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Full, "{room} KiB: {error:?}"),
            }
            drop(index);
            fs::remove_file(ballast).unwrap();
        }
        let index = open(&directory);
        assert!(!index.rebuilt() && check(&index, &objects).unwrap().contains(&0));
        drop(index);
        Index::discard(&directory).unwrap();
    }
}

#[test]
fn a_temporary_index_on_a_full_disk_reports_it_too() {
    let disk = SmallDisk::mount();
    disk.fill_up_to(0);
    let error = Index::open_temporary(disk.path(), REPOSITORY, &options()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Full, "{error:?}");
}
