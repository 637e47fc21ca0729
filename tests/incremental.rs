//! What did not change is not read, what changed is noticed, and runs that were cut short cost nothing but time.

mod scene;

use rustix::process::{Pid, Signal, kill_process};
use scene::{Done, Scene, noise, tool};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

fn pause(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

/// Files that are old enough to be trusted.
fn settled(scene: &Scene, files: usize, bytes: usize) {
    for number in 0..files {
        let name = format!("source/{}/watched-{number}", number % 7);
        scene.write(&name, noise(&name, bytes));
    }
    pause(50);
}

/// Runs a snapshot and gives the names of the source's files that it opened.
fn opened(scene: &Scene) -> Vec<String> {
    let trace = scene.path("trace");
    let mut strace = std::process::Command::new("strace");
    scene.dress(&mut strace);
    strace.args(["-f", "-qq", "-e", "trace=openat,openat2,open", "-o", trace.to_str().unwrap()]);
    Done::of(strace.arg(scene::binary()).args(["snapshot", "source"])).expect(0);
    let trace = std::fs::read_to_string(trace).unwrap();
    assert!(trace.contains("\"source") || trace.contains("/source"), "the trace is empty");
    let names =
        trace.lines().filter_map(|line| Some(line.split_once("\"watched-")?.1.split_once('"')?.0.to_owned()));
    names.collect()
}

#[test]
fn unchanged_files_are_not_opened_and_changed_ones_are() {
    let scene = Scene::with_repository();
    settled(&scene, 200, 100);
    assert_eq!(opened(&scene).len(), 200);
    assert_eq!(opened(&scene), [""; 0]);
    scene.write("source/3/watched-17", "changed");
    pause(50);
    assert_eq!(opened(&scene), ["17"]);
    assert_eq!(opened(&scene), [""; 0]);
    scene.assert_restores(&scene.path("source"));
}

#[test]
fn each_source_records_the_kind_of_its_snapshot_and_its_parent() {
    let scene = Scene::with_repository();
    settled(&scene, 3, 100);
    for kind in ["differential", "incremental", "full", "incremental", "differential"] {
        scene.snapshot(&["source", "--kind", kind]);
    }
    let snapshots = scene.snapshots();
    let kinds: Vec<&str> =
        snapshots.iter().map(|value| value["sources"][0]["snapshot_kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["full", "incremental", "full", "incremental", "differential"]);
    let parents: Vec<Option<usize>> = snapshots
        .iter()
        .map(|value| snapshots.iter().position(|other| other["id"] == value["sources"][0]["parent"]))
        .collect();
    assert_eq!(parents, [None, Some(0), None, Some(2), Some(2)]);
    let unmodified = |number: usize| snapshots[number]["summary"]["files_unmodified"].as_u64().unwrap();
    assert_eq!([0, 1, 2, 3, 4].map(unmodified), [0, 3, 0, 3, 3]);
}

#[test]
fn a_change_that_hides_behind_size_and_mtime_is_noticed() {
    let scene = Scene::with_repository();
    let file = scene.write("source/file", "aaaa");
    let time = "2020-01-01 00:00:00.5 UTC";
    tool("touch", &["-d", time, file.to_str().unwrap()]);
    scene.snapshot(&["source"]);
    std::fs::write(&file, "bbbb").unwrap();
    tool("touch", &["-d", time, file.to_str().unwrap()]);
    assert_eq!(scene.snapshot(&["source"])["files_changed"], 1);
    scene.assert_restores(&scene.path("source"));
}

#[test]
fn a_change_in_the_clock_tick_in_which_a_file_was_read_is_noticed() {
    let scene = Scene::with_repository();
    let path = scene.write("source/file", "00000000");
    let mtime = std::time::UNIX_EPOCH + Duration::from_millis(1_600_000_000_500);
    for round in 0..12 {
        let child = scene.lifeboat().args(["snapshot", "--quiet", "source"]).spawn().unwrap();
        let until = Instant::now() + Duration::from_millis(10 + round * 12);
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        let mut number = 0;
        while Instant::now() < until {
            file.write_all_at(format!("{round:03}{number:05}").as_bytes(), 0).unwrap();
            file.set_modified(mtime).unwrap();
            number = (number + 1) % 100_000;
        }
        assert!(finish(child).code == Some(0));
        scene.snapshot(&["source"]);
        let stored = scene.run(&["dump", &format!("latest:{}", path.display())]).expect(0);
        assert_eq!(stored.stdout, std::fs::read(&path).unwrap(), "round {round}");
    }
}

#[test]
fn ctime_and_inode_are_compared_unless_they_are_to_be_ignored() {
    let scene = Scene::with_repository();
    let path = scene.write("source/file", "content");
    let path = path.to_str().unwrap();
    pause(50);
    scene.snapshot(&["source"]);
    let changed_by = |change: &dyn Fn(), flags: &[&str]| {
        change();
        pause(50);
        scene.snapshot(&[&["source"], flags].concat())["files_changed"].as_u64().unwrap()
    };
    let chmod = || drop(tool("chmod", &["644", path]));
    let replace = || {
        tool("cp", &["-p", path, &format!("{path}.new")]);
        tool("mv", &[&format!("{path}.new"), path]);
    };
    assert_eq!(changed_by(&|| {}, &[]), 0);
    assert_eq!(changed_by(&chmod, &[]), 1);
    assert_eq!(changed_by(&chmod, &["--ignore-ctime"]), 0);
    assert_eq!(changed_by(&replace, &["--ignore-ctime"]), 1);
    assert_eq!(changed_by(&replace, &["--ignore-inode"]), 1);
    assert_eq!(changed_by(&replace, &["--ignore-ctime", "--ignore-inode"]), 0);
}

fn spawn(scene: &Scene, arguments: &[&str]) -> Child {
    scene.lifeboat().args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn finish(child: Child) -> Done {
    Done::from_output("a snapshot in the background".into(), child.wait_with_output().unwrap())
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < until, "never: {what}");
        pause(2);
    }
}

fn stored_bytes(paths: &[std::path::PathBuf]) -> u64 {
    paths.iter().filter_map(|path| path.metadata().ok()).map(|metadata| metadata.len()).sum()
}

#[test]
fn an_interrupted_run_leaves_a_checkpoint_and_the_next_one_goes_on() {
    let scene = Scene::with_repository();
    settled(&scene, 80, 4 << 20);
    let total = 80 * (4 << 20);
    let child = spawn(&scene, &["snapshot", "source", "--threads", "1"]);
    wait_until("three packs are stored", || scene.objects_in("packs").len() >= 3);
    signal(&child, Signal::INT);
    finish(child).expect(130).says("interrupted").says("Hint:");
    assert!(scene.snapshots().is_empty());
    assert_eq!(scene.objects_in("checkpoints").len(), 1, "no checkpoint was left");
    let kept = stored_bytes(&scene.objects_in("packs"));
    assert!(kept < total, "the signal came too late for this test");
    scene.assert_sound();
    let second = scene.snapshot(&["source"]);
    let added = second["data_added"].as_u64().unwrap();
    assert!(added + kept < total + (16 << 20), "{kept} bytes were stored, {added} more were read of {total}");
    assert!(
        second["files_unmodified"].as_u64().unwrap() > 0,
        "the checkpoint's files were read again: {second}"
    );
    assert_eq!(scene.objects_in("checkpoints"), [""; 0].map(Path::new));
    assert_eq!(scene.objects_in("intents"), [""; 0].map(Path::new));
    scene.assert_restores(&scene.path("source"));
    scene.assert_sound();
}

#[test]
fn runs_killed_at_any_moment_damage_nothing() {
    let scene = Scene::with_repository();
    settled(&scene, 60, 1 << 20);
    scene.snapshot(&["source/0"]);
    for round in 0..10 {
        let child = spawn(&scene, &["snapshot", "source"]);
        pause(5 + 23 * round);
        let _ = kill_process(Pid::from_child(&child), Signal::KILL);
        drop(child.wait_with_output());
        scene.run(&["check"]).expect(0);
        // Something new to store in each round.
        scene.write(&format!("source/round-{round}"), noise(&round.to_string(), 2 << 20));
    }
    scene.assert_restores(&scene.path("source/0"));
    scene.snapshot(&["source"]);
    scene.assert_restores(&scene.path("source"));
    scene.assert_sound();
}

#[test]
fn two_snapshots_at_once_share_repository_and_cache() {
    for round in 0..3 {
        let scene = Scene::with_repository();
        settled(&scene, 20, 1 << 20);
        scene.write("other/file", noise("source/0/watched-0", 5 << 20));
        if round > 0 {
            scene.snapshot(&["source/1"]);
        }
        let children = ["source", "other", "source"].map(|source| spawn(&scene, &["snapshot", source]));
        children.into_iter().for_each(|child| drop(finish(child).expect(0)));
        assert_eq!(scene.snapshots().len(), 3 + usize::from(round > 0));
        scene.assert_sound();
        for snapshot in scene.snapshots() {
            let path = Path::new(snapshot["paths"][0].as_str().unwrap());
            scene.assert_restores_as(snapshot["id"].as_str().unwrap(), path, &scene::tree::survey(path));
        }
    }
}

#[test]
fn a_file_that_keeps_changing_is_stored_and_reported() {
    let scene = Scene::with_repository();
    let path = scene.write("source/log", noise("log", 48 << 20));
    scene.write("source/quiet", "quiet");
    let stop = AtomicBool::new(false);
    let (summary, plain) = std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                file.write_all_at(b"change", number % (48 << 20)).unwrap();
                number += 1_000_003;
                pause(1);
            }
        });
        let summary = scene.snapshot(&["source"]);
        let plain = scene.run(&["snapshot", "source"]);
        stop.store(true, Ordering::Relaxed);
        (summary, plain)
    });
    assert_eq!((&summary["files_torn"], &summary["error_count"]), (&1.into(), &0.into()));
    // Three readings of a file are one file.
    assert_eq!(summary["total_bytes_processed"], (48 << 20) + "quiet".len());
    plain.expect(0).says("kept changing");
    let listed = scene.run(&["ls", "latest", "--json"]).expect(0).json();
    let torn: Vec<&serde_json::Value> = listed.iter().filter(|entry| entry["torn"] == true).collect();
    assert_eq!(torn.len(), 1);
    // A torn file is never taken for unchanged.
    scene.snapshot(&["source"]);
    scene.assert_restores(&scene.path("source"));
}

#[test]
fn files_that_vanish_meanwhile_are_no_failure() {
    let scene = Scene::with_repository();
    for round in 0..20 {
        for number in 0..3000 {
            scene.write(&format!("source/{number}"), "here");
        }
        let child = spawn(&scene, &["snapshot", "source", "--json"]);
        let intents = scene.path("repository/intents");
        wait_until("the session is announced", || std::fs::read_dir(&intents).unwrap().next().is_some());
        pause(round * 3 % 40);
        (0..3000)
            .rev()
            .for_each(|number| std::fs::remove_file(scene.path(format!("source/{number}"))).unwrap());
        let done = finish(child).expect(0);
        if done.message("summary")["files_vanished"].as_u64().unwrap() > 0 {
            scene.assert_sound();
            return;
        }
    }
    panic!("in 20 rounds no file vanished between its name and its content");
}

/// Writes other bytes of the same length into a file, and puts its time back.
fn change_silently(scene: &Scene, name: &str, at: u64, bytes: &[u8]) {
    let path = scene.path(name);
    let before = std::fs::metadata(&path).unwrap().modified().unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(bytes, at).unwrap();
    file.set_modified(before).unwrap();
}

#[test]
fn a_full_snapshot_tells_of_content_that_changed_under_unchanged_size_and_times() {
    let scene = Scene::with_repository();
    settled(&scene, 5, 100_000);
    scene.write("source/large", noise("large", 3_000_000));
    pause(50);
    scene.snapshot(&["source"]);
    // What is inserted and taken out again is cut by an earlier list, and anew by a full snapshot: the same bytes.
    scene.write("source/large", [&b"inserted"[..], &noise("large", 3_000_000)].concat());
    pause(50);
    scene.snapshot(&["source"]);
    change_silently(&scene, "source/3/watched-3", 70_000, b"x");
    pause(50);
    // The inode's own time cannot be put back: without it this is what a decayed disk looks like.
    let told = scene.snapshot(&["source", "--ignore-ctime"]);
    assert_eq!((&told["files_changed"], &told["files_silently_changed"]), (&0.into(), &0.into()));
    let full = ["snapshot", "--kind", "full", "--json", "source"];
    scene
        .run(&[&full[..], &["--ignore-ctime"]].concat())
        .expect(3)
        .says("watched-3")
        .says("unchanged size and times");
    // Once is enough: the next full snapshot has the same bytes; and with the inode's time it was an ordinary change.
    let done = scene.run(&[&full[..], &["--ignore-ctime"]].concat()).expect(0);
    assert_eq!(done.message("summary")["files_silently_changed"], 0);
    change_silently(&scene, "source/4/watched-4", 0, b"y");
    scene.run(&full).expect(0);
    scene.assert_restores(&scene.path("source"));
}
