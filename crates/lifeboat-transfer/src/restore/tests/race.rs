//! Somebody changes the target while it is restored.

use super::*;
use rustix::fs::{CWD, RenameFlags};
use std::os::unix::fs::symlink;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

/// Everything about a file that a restore could change; reading it changes none of it.
fn look(place: &Path) -> (Vec<u8>, u32, u32, u32, i64, i64) {
    let found = std::fs::symlink_metadata(place).unwrap();
    let content = if found.is_file() { std::fs::read(place).unwrap() } else { Vec::new() };
    (content, found.mode(), found.uid(), found.gid(), found.mtime(), found.mtime_nsec())
}

fn ctime(place: &Path) -> (i64, i64) {
    let found = std::fs::symlink_metadata(place).unwrap();
    (found.ctime(), found.ctime_nsec())
}

fn victim() -> Tree {
    let mut tree = Tree::new();
    for directory in ["sub", "sub/deep"] {
        let entry = tree.directory(directory);
        (entry.metadata.mode, entry.metadata.uid) = (0o777, 1234);
    }
    for number in 0..20 {
        let entry = tree.file(&format!("sub/f{number}"), b"from the snapshot");
        (entry.metadata.mode, entry.metadata.uid) = (0o4777, 1234);
        entry.metadata.mtime = Timestamp { seconds: 1_600_000_000, nanos: 0 };
        tree.file(&format!("sub/deep/passwd{number}"), b"from the snapshot");
    }
    let entry = tree.put("sub/pipe", Node::Fifo, 0o666);
    entry.metadata.uid = 1234;
    let entry = tree.symlink("sub/symlink", b"x");
    entry.metadata.uid = 1234;
    entry.metadata.xattrs = vec![xattr("trusted.evil", b"1")];
    tree
}

/// Swaps directories with links to the canary, and puts second names of another canary where files are expected.
fn attack(target: &Path, attic: &Path, canary: &Path, linked: &Path, stop: &AtomicBool, swaps: &AtomicU64) {
    let exchange = |one: &Path, other: &Path| {
        rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).is_ok()
    };
    let mut round = 0u64;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        let link = attic.join("link");
        if !link.is_symlink() {
            let _ = std::fs::remove_dir_all(&link);
            let _ = symlink(canary, &link);
        }
        let place = target.join(if round.is_multiple_of(3) { "sub/deep" } else { "sub" });
        // Nobody else makes links here, so what is a directory stays one: the attacker spares the canary itself.
        let is_directory = |place: &Path| place.symlink_metadata().is_ok_and(|found| found.is_dir());
        if is_directory(&target.join("sub")) && exchange(&place, &link) {
            swaps.fetch_add(1, Ordering::Relaxed);
            std::thread::yield_now();
            if round.is_multiple_of(2) {
                exchange(&place, &link);
            }
        }
        for name in ["sub/pipe", "sub/symlink", "sub/f1", "sub/f7"] {
            let place = target.join(name);
            // Through a name of ours, so that the link to the canary is not the attacker's own way in.
            let _ = std::fs::hard_link(linked, attic.join("second"));
            if is_directory(&target.join("sub")) {
                let _ = rustix::fs::renameat(CWD, attic.join("second"), CWD, &place);
            }
        }
    }
}

#[test]
fn no_swapping_makes_a_restore_touch_anything_outside() {
    let parent = temporary();
    let [target, attic, canary, linked] =
        ["target", "attic", "canary", "linked"].map(|name| parent.path().join(name));
    for directory in [&attic, &canary, &canary.join("deep")] {
        std::fs::create_dir(directory).unwrap();
    }
    let inside = ["f1", "pipe", "symlink", "deep/passwd1"].map(|name| canary.join(name));
    for place in inside.iter().chain([&linked]) {
        // As long and as old as the snapshot's, so that it looks unchanged but for its mode.
        std::fs::write(place, b"must never change").unwrap();
        let time = std::time::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
        std::fs::File::options().write(true).open(place).unwrap().set_modified(time).unwrap();
    }
    let watched: Vec<PathBuf> = inside.iter().cloned().chain([canary.clone(), canary.join("deep")]).collect();
    let before: Vec<_> = watched.iter().map(|place| (look(place), ctime(place))).collect();
    let linked_before = look(&linked);
    let (tree, stop, swaps) = (victim(), AtomicBool::new(false), AtomicU64::new(0));
    let mut restores = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| attack(&target, &attic, &canary, &linked, &stop, &swaps));
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(3) {
            let overwrite = if restores % 2 == 0 { Overwrite::Always } else { Overwrite::IfChanged };
            let with =
                Options { overwrite, delete: restores % 3 == 0, verify: restores % 5 == 0, ..options() };
            // Whatever comes out of it inside of the target.
            let _ = tree.restore(&target, &with);
            restores += 1;
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(restores > 10 && swaps.load(Ordering::Relaxed) > 10, "{restores} restores, {swaps:?} swaps");
    let after: Vec<_> = watched.iter().map(|place| (look(place), ctime(place))).collect();
    assert_eq!(before, after);
    assert_eq!(look(&linked), linked_before);
    assert_eq!(count_below(&canary), 6);
    // And when the attacker is gone, the next restore mends everything.
    tree.restore_exactly(&target, &Options { delete: true, ..options() });
}

#[test]
fn a_second_name_of_another_file_put_where_a_link_or_pipe_was_made_gets_nothing_from_us() {
    let parent = temporary();
    let elsewhere = parent.path().join("elsewhere");
    std::fs::write(&elsewhere, b"x").unwrap();
    rustix::fs::mkfifoat(CWD, parent.path().join("pipe"), Mode::RUSR).unwrap();
    let before = [look(&elsewhere), look(&parent.path().join("pipe"))];
    let (options, chunks, root) = (options(), Chunks::default(), TreePath::root());
    let open = || beneath::open_target(parent.path(), Mode::RWXU).unwrap();
    let ledger = report::Ledger::new(&Quiet);
    let run = run::Run {
        options: &options,
        reader: &chunks,
        ledger,
        root: open(),
        user: User::current(),
        base: &root,
    };
    let directory = directory::Directory::root(&run, open(), None).ok().unwrap();
    let tree = victim();
    for (wanted, name) in [("sub/pipe", "elsewhere"), ("sub/symlink", "elsewhere"), ("sub/pipe", "pipe")] {
        std::fs::hard_link(parent.path().join(name), parent.path().join("swapped")).unwrap();
        let entry = &tree.entries[&path(wanted)];
        assert!(worker::complete_special(&run, &directory, b"swapped", None, entry).is_err());
        std::fs::remove_file(parent.path().join("swapped")).unwrap();
    }
    assert_eq!(before, [look(&elsewhere), look(&parent.path().join("pipe"))]);
}
