//! A large file is changed in its place, and the process, the disk's room or the power goes away in the middle.
//!
//! Must stay true: a file whose size and time are the snapshot's has the snapshot's bytes, whatever was cut off. Before
//! the first byte changes it is what it was; from then on each byte is the old or the new one, and the time is that of
//! the attempt; and the next restore needs no help. `--overwrite if-changed` is what comes after, because it believes
//! size and time.

mod scene;

use scene::disk::Disk;
use scene::{Done, Scene, noise, tree};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

const MIB: usize = 1 << 20;

/// Every call by which a restore changes anything, in its target or elsewhere.
const CHANGES: [&str; 16] = [
    "openat",
    "openat2",
    "pwrite64",
    "write",
    "ftruncate",
    "fallocate",
    "utimensat",
    "fsync",
    "fdatasync",
    "fchmod",
    "fchown",
    "fsetxattr",
    "fremovexattr",
    "renameat",
    "renameat2",
    "unlinkat",
];

/// Makes a disk at a place.
type Make<'m> = &'m dyn Fn(&Path) -> Disk;

/// A snapshot of one large file, and a target that has an older state of it.
struct Stage {
    /// Before the scene: what is mounted in it goes first.
    disk: Option<Disk>,
    scene: Scene,
    source: PathBuf,
    target: PathBuf,
    old: Vec<u8>,
    new: Vec<u8>,
    expected: tree::Survey,
}

/// What a file is, by content and by what a later restore believes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Old,
    Between,
    /// All bytes are there, and the time is still that of the attempt.
    Unstamped,
    New,
}

impl Stage {
    /// `disk` makes the disk that the target lies on; without it, it is the scene's.
    fn set(disk: Option<Make<'_>>) -> Self {
        let scene = Scene::with_repository();
        let disk = disk.map(|make| make(&scene.path("disk")));
        let mut new = noise("large", 10 * MIB);
        new[3 * MIB..4 * MIB].fill(0);
        let file = scene.write("source/large", &new);
        // A hole, and zeros that are none.
        punch(&file, 5 * MIB..6 * MIB);
        new[5 * MIB..6 * MIB].fill(0);
        scene.write("source/small", "small");
        for name in ["source/large", "source"] {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
            File::open(scene.path(name)).unwrap().set_modified(time).unwrap();
        }
        let source = scene.path("source");
        scene.snapshot(&["source"]);
        let target = scene.path("disk/target");
        let expected = tree::survey(&source);
        let mut stage = Self { disk, scene, source, target, old: Vec::new(), new, expected };
        stage.restore(&[]).expect(0);
        stage.spoil();
        stage.old = std::fs::read(stage.large()).unwrap();
        stage
    }

    fn large(&self) -> PathBuf {
        self.target.join("large")
    }

    /// Makes the target's file an older one: bytes, zeros, the hole and the length are others.
    fn spoil(&self) {
        let file = File::options().write(true).open(self.large()).unwrap();
        for at in [0, MIB + 5, 3 * MIB + 70_000, 5 * MIB + 300_000, 8 * MIB] {
            file.write_all_at(&noise(&at.to_string(), 9000), at as u64).unwrap();
        }
        file.set_len(self.new.len() as u64 - 150_000).unwrap();
        punch(&self.large(), 7 * MIB..7 * MIB + 40_960);
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_000)).unwrap();
        drop(file);
        // The next power cut must not take this along.
        scene::tool("sync", &["-f", self.target.to_str().unwrap()]);
        if !self.old.is_empty() {
            assert!(
                std::fs::read(self.large()).unwrap() == self.old,
                "each attempt begins with the same file"
            );
        }
    }

    fn arguments(&self) -> [String; 6] {
        let selected = format!("latest:{}", self.source.display());
        let target = self.target.to_str().unwrap();
        ["restore", &selected, "--to", target, "--overwrite", "if-changed"].map(str::to_owned)
    }

    fn restore(&self, more: &[&str]) -> Done {
        Done::of(self.scene.lifeboat().args(self.arguments()).args(more))
    }

    /// Restores under strace; `options` say what is injected.
    fn restore_traced(&self, options: &[&str]) -> std::process::Output {
        let mut strace = Command::new("strace");
        self.scene.dress(&mut strace).args(["-f", "-qq"]).args(options).arg("--");
        strace.arg(scene::binary()).args(self.arguments());
        strace.output().expect("this test needs the program `strace`")
    }

    /// What the large file is now. Panics where it is nothing that was promised.
    #[track_caller]
    fn state(&self, began: SystemTime, what: &str) -> State {
        let found = std::fs::metadata(self.large()).unwrap_or_else(|error| panic!("{what}: {error}"));
        let bytes = std::fs::read(self.large()).unwrap();
        let stamp = self.expected[&b"large"[..]].mtime;
        let is_new = bytes == self.new;
        if (found.mtime(), found.mtime_nsec()) == stamp {
            assert!(is_new, "{what}: a mixture looks like the snapshot's file");
            return State::New;
        }
        if bytes == self.old {
            return State::Old;
        }
        // The system's clock for files is up to a tick behind.
        let modified = found.modified().unwrap() + Duration::from_millis(20);
        assert!(modified >= began, "{what}: a mixture has a time from before the attempt");
        let byte = |bytes: &[u8], at: usize| bytes.get(at).copied().unwrap_or(0);
        let stranger = (0..bytes.len())
            .find(|at| bytes[*at] != byte(&self.old, *at) && bytes[*at] != byte(&self.new, *at));
        assert_eq!(stranger, None, "{what}: a byte is neither the old nor the new one");
        if is_new { State::Unstamped } else { State::Between }
    }

    /// The next restore makes all equal, and nothing is left over.
    #[track_caller]
    fn assert_mended(&self, what: &str) {
        let done = self.restore(&[]);
        assert_eq!(done.code, Some(0), "{what}: {done}");
        tree::assert_same(&self.expected, &tree::survey(&self.target));
    }

    /// Kills a restore at the first, second, third … call of each kind that fits `options`, as often as there are such
    /// calls, and lets `after` do what it likes before anybody looks. Gives the states that were found.
    fn kill_everywhere(&self, calls: &[&str], options: &[&str], mut after: impl FnMut()) -> Vec<State> {
        let mut found = Vec::new();
        for call in calls {
            for number in 1.. {
                let what = format!("killed at {call} {number}");
                let began = SystemTime::now();
                let kill = format!("inject={call}:signal=KILL:when={number}");
                let output = self.restore_traced(&[options, &["-e", &kill]].concat());
                if output.status.success() {
                    after();
                    let state = self.state(began, &what);
                    assert!(state >= State::Unstamped, "exit code 0, and then {state:?}");
                    self.spoil();
                    break;
                }
                let stderr = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.signal() == Some(9), "{what}: {:?}: {stderr}", output.status);
                after();
                found.push(self.state(began, &what));
                self.assert_mended(&what);
                self.spoil();
            }
        }
        found
    }
}

fn punch(file: &Path, stretch: std::ops::Range<usize>) {
    use rustix::fs::{FallocateFlags, fallocate};
    let file = File::options().write(true).open(file).unwrap();
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(&file, flags, stretch.start as u64, (stretch.end - stretch.start) as u64).unwrap();
}

fn count(found: &[State], state: State) -> usize {
    found.iter().filter(|one| **one == state).count()
}

#[test]
fn a_kill_at_any_change_leaves_the_old_the_new_or_a_dated_mixture_and_the_next_restore_mends_it() {
    let stage = Stage::set(None);
    // One of each kind, wherever it is: fetching, the local index, folders and the small file are among them.
    let anywhere = stage.kill_everywhere(&CHANGES, &[], || ());
    // Every call that changes the large file itself.
    let file = stage.large();
    let path = ["-P", file.to_str().unwrap()];
    let itself = stage.kill_everywhere(&CHANGES, &path, || ());
    println!(
        "{} points, of these {} at the file itself: {itself:?}",
        anywhere.len() + itself.len(),
        itself.len()
    );
    assert!(anywhere.len() >= 20, "{} points", anywhere.len());
    // Reserving, time, sync, length, six stretches and a hole, sync, owner, permissions, time.
    assert!(itself.len() >= 14, "{} points", itself.len());
    for state in [State::Old, State::Between, State::Unstamped] {
        assert!(count(&itself, state) > 0, "no kill leaves {state:?}: {itself:?}");
    }
}

#[test]
fn a_power_cut_at_any_change_of_the_file_leaves_no_mixture_that_looks_like_the_snapshots_file() {
    let mut stage = Stage::set(Some(&|place| Disk::ext4(place, "64M")));
    let disk = std::cell::RefCell::new(stage.disk.take().unwrap());
    let file = stage.large();
    // Once with whatever reached the disk, and once with all bytes on disk, but not the time where that was not synced.
    for bytes_first in [false, true] {
        let found = stage.kill_everywhere(&CHANGES, &["-P", file.to_str().unwrap()], || {
            if bytes_first {
                scene::tool("sync", &["-d", file.to_str().unwrap()]);
            }
            disk.borrow().cut_power();
            disk.borrow_mut().power_on();
        });
        println!("{} points, bytes first {bytes_first}: {found:?}", found.len());
        assert!(found.len() >= 14, "{} points", found.len());
        assert!(count(&found, State::Unstamped) > 0, "all bytes are on disk before the time is: {found:?}");
        assert_eq!(count(&found, State::Between) > 0, bytes_first, "{found:?}");
    }
}

/// Restores with more and more room on a full disk. Gives how often that failed and how often it did not.
fn with_more_and_more_room(stage: &Stage, disk: &Disk) -> (usize, usize) {
    let (mut failures, mut successes) = (0, 0);
    let ballast = disk.place().join("ballast");
    let free = || rustix::fs::statvfs(disk.place()).unwrap().f_bfree;
    for room in (0..40).map(|step| step * 65_536) {
        disk.fill();
        let file = File::options().write(true).open(&ballast).unwrap();
        file.set_len(file.metadata().unwrap().len().saturating_sub(room)).unwrap();
        drop(file);
        scene::tool("sync", &["-f", stage.target.to_str().unwrap()]);
        let (began, before) = (SystemTime::now(), free());
        let done = stage.restore(&[]);
        let what = format!("with {room} bytes of room: {done}");
        scene::tool("sync", &["-f", stage.target.to_str().unwrap()]);
        if done.code == Some(0) {
            assert_eq!(stage.state(began, &what), State::New);
            successes += 1;
        } else {
            assert_eq!(done.code, Some(3), "{what}");
            assert!(done.stderr.contains("large") && done.stderr.contains("No space left"), "{what}");
            assert_eq!(stage.state(began, &what), State::Old, "{what}");
            let kept = before.saturating_sub(free());
            assert!(kept <= 8, "{what}: {kept} blocks are not free any more");
            failures += 1;
        }
        std::fs::remove_file(&ballast).unwrap();
        stage.assert_mended(&what);
        stage.spoil();
    }
    (failures, successes)
}

#[test]
fn a_full_disk_leaves_a_large_file_as_it_was_and_says_so_and_room_is_all_it_takes() {
    let disks: [(&str, Make<'_>); 2] =
        [("ext4", &|place| Disk::ext4(place, "32M")), ("tmpfs", &|place| Disk::tmpfs(place, "24m"))];
    for (name, disk) in disks {
        let stage = Stage::set(Some(disk));
        let (failures, successes) = with_more_and_more_room(&stage, stage.disk.as_ref().unwrap());
        println!("{name}: {failures} failures, {successes} successes");
        assert!(failures > 4 && successes > 4, "{name}: {failures} failures, {successes} successes");
    }
}

#[test]
fn a_target_that_is_read_only_is_left_alone_and_named() {
    let stage = Stage::set(Some(&|place| Disk::tmpfs(place, "32m")));
    let remount = |how: &str| scene::tool("mount", &["-o", how, stage.scene.path("disk").to_str().unwrap()]);
    let began = SystemTime::now();
    remount("remount,ro");
    stage.restore(&[]).expect(3).says("large").says("Read-only file system");
    assert_eq!(stage.state(began, "read-only"), State::Old);
    remount("remount,rw");
    stage.assert_mended("writable again");
}

#[test]
fn who_has_the_file_open_for_reading_sees_it_become_the_snapshots() {
    let stage = Stage::set(None);
    let reader = File::open(stage.large()).unwrap();
    let summary = stage.restore(&["--json"]).expect(0).message("summary");
    assert_eq!(summary["files_patched"], 1, "{summary}");
    let mut found = vec![0; stage.new.len()];
    reader.read_exact_at(&mut found, 0).unwrap();
    assert!(found == stage.new);
    assert_eq!(reader.metadata().unwrap().ino(), std::fs::metadata(stage.large()).unwrap().ino());
}

#[test]
fn who_writes_to_the_file_all_the_time_gets_it_replaced_or_mixed_and_the_next_restore_mends_it() {
    let stage = Stage::set(None);
    for round in 0..10 {
        let stop = AtomicBool::new(false);
        let writer = File::options().write(true).open(stage.large()).unwrap();
        let done = std::thread::scope(|scope| {
            scope.spawn(|| {
                for turn in 0u64.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    writer.write_all_at(b"somebody else's", turn * 4099 % (9 * MIB as u64)).unwrap();
                }
            });
            let done = stage.restore(&["--json"]);
            stop.store(true, Ordering::Relaxed);
            done
        });
        assert_eq!(done.code, Some(0), "round {round}: {done}");
        let found = std::fs::metadata(stage.large()).unwrap();
        if found.ino() != writer.metadata().unwrap().ino() {
            // What was put in its place is nobody's but ours.
            tree::assert_same(&stage.expected, &tree::survey(&stage.target));
        }
        // Times prove nothing where somebody writes beside us; bytes do.
        let selected = &stage.arguments()[1];
        stage.scene.run(&["restore", selected, "--to", stage.target.to_str().unwrap()]).expect(0);
        tree::assert_same(&stage.expected, &tree::survey(&stage.target));
        assert!(std::fs::read(stage.large()).unwrap() == stage.new);
        std::fs::write(stage.large(), &stage.old).unwrap();
    }
}
