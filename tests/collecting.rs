//! Collecting gives back space, beside those who write, and takes nothing that a snapshot needs.

mod scene;

use scene::disk::Disk;
use scene::{Done, Scene, noise};
use std::process::{Child, Stdio};

const FILE_BYTES: usize = 300_000;

/// Bytes of all packs.
fn pack_bytes(scene: &Scene) -> u64 {
    scene.objects_in("packs").iter().map(|pack| pack.metadata().unwrap().len()).sum()
}

/// Three snapshots of files that share nothing but a common one; the first two are forgotten.
fn with_garbage() -> Scene {
    let scene = Scene::with_repository();
    scene.write("source/common", noise("common", FILE_BYTES));
    for number in 0..3 {
        scene.write("source/own", noise(&format!("own {number}"), 4 * FILE_BYTES));
        scene.snapshot(&["source"]);
    }
    scene.run(&["forget", "--keep-last", "1"]).expect(0);
    scene
}

#[test]
fn what_was_forgotten_gives_back_its_space_and_a_dry_run_says_how_much() {
    let scene = with_garbage();
    let before = pack_bytes(&scene);
    let planned = scene.run(&["gc", "--dry-run", "--json"]).expect(0).message("summary");
    assert_eq!(pack_bytes(&scene), before);
    scene.run(&["gc", "--dry-run"]).expect(0).prints("would be deleted");
    let done = scene.run(&["gc", "--json"]).expect(0).message("summary");
    let given_back = before - pack_bytes(&scene);
    assert!(given_back >= 8 * FILE_BYTES as u64, "{given_back} of {before} bytes");
    // The common file shared a pack with what was forgotten: it was copied.
    assert!(pack_bytes(&scene) < 6 * FILE_BYTES as u64, "{} bytes are left", pack_bytes(&scene));
    assert_eq!(done["packs_deleted"], planned["packs_deleted"]);
    assert_eq!(done["snapshots"], 1);
    for folder in ["intents", "condemned", "verdicts", "drafts"] {
        assert!(scene.objects_in(folder).is_empty(), "{folder}");
    }
    scene.assert_sound();
    scene.assert_restores(&scene.path("source"));
    scene.run(&["gc"]).expect(0).prints("0 packs deleted");
    scene.snapshot(&["source"]);
    scene.assert_sound();
}

#[test]
fn nothing_is_rewritten_that_may_not_be() {
    let scene = with_garbage();
    let done = scene.run(&["gc", "--max-repack", "0", "--json"]).expect(0).message("summary");
    assert_eq!(done["packs_rewritten"], 0);
    assert!(done["bytes_unused"].as_u64().unwrap() > 0);
    let done = scene.run(&["gc", "--max-unused", "unlimited", "--json"]).expect(0).message("summary");
    assert_eq!(done["packs_rewritten"], 0);
    scene.run(&["gc", "--max-unused", "many"]).expect(1).says("is no percentage");
    scene.assert_sound();
}

/// A snapshot that has stored something and waits for more of its input.
fn half_done(scene: &Scene) -> (Child, std::process::ChildStdin) {
    let mut command = scene.lifeboat();
    command.args(["snapshot", "stdin:slow"]).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let input = child.stdin.take().unwrap();
    while scene.objects_in("intents").is_empty() {
        assert!(child.try_wait().unwrap().is_none(), "it ended early");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    (child, input)
}

#[test]
fn a_collection_waits_for_a_snapshot_that_runs() {
    use std::io::Write;
    let scene = with_garbage();
    let (child, mut input) = half_done(&scene);
    let mut command = scene.lifeboat();
    command.arg("gc").stdout(Stdio::piped()).stderr(Stdio::piped());
    let collector = command.spawn().unwrap();
    while scene.objects_in("condemned").is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let content = noise("slow", FILE_BYTES);
    input.write_all(&content).unwrap();
    drop(input);
    Done::from_output("snapshot".into(), child.wait_with_output().unwrap()).expect(0);
    let done = Done::from_output("gc".into(), collector.wait_with_output().unwrap()).expect(0);
    done.says("waiting until 1 running snapshots");
    assert_eq!(scene.snapshots().len(), 2);
    scene.assert_sound();
    assert!(scene.run(&["dump", "latest:stdin:slow"]).expect(0).stdout == content);
}

#[test]
fn a_killed_snapshot_holds_a_collection_back_no_longer_than_the_grace() {
    let scene = with_garbage();
    let (mut child, input) = half_done(&scene);
    child.kill().unwrap();
    child.wait().unwrap();
    drop(input);
    assert_eq!(scene.objects_in("intents").len(), 1);
    scene.run(&["gc", "--grace", "0"]).expect(0).prints("1 sessions stood still and were ended");
    assert!(scene.objects_in("intents").is_empty());
    scene.assert_sound();
    scene.assert_restores(&scene.path("source"));
}

#[test]
fn a_full_disk_costs_a_collection_and_nothing_else() {
    let scene = Scene::new();
    let disk = Disk::tmpfs(&scene.path("repository"), "40m");
    scene.run(&["init"]).expect(0);
    for number in 0..30 {
        scene.write(&format!("source/{number}"), noise(&format!("{number}"), 600_000));
    }
    scene.snapshot(&["source"]);
    for number in (0..30).filter(|number| number % 3 > 0) {
        std::fs::remove_file(scene.path(format!("source/{number}"))).unwrap();
    }
    scene.snapshot(&["source"]);
    scene.run(&["forget", "--keep-last", "1"]).expect(0);
    let before = pack_bytes(&scene);
    disk.fill();
    // What is needed of the packs has to be copied, and there is no room for it.
    scene.run(&["gc"]).expect(1).says("Hint: df -h");
    assert_eq!(pack_bytes(&scene), before);
    std::fs::remove_file(scene.path("repository/ballast")).unwrap();
    scene.assert_sound();
    scene.assert_restores(&scene.path("source"));
    let done = scene.run(&["gc", "--grace", "0", "--json"]).expect(0).message("summary");
    assert!(done["packs_rewritten"].as_u64().unwrap() > 0, "{done}");
    assert!(pack_bytes(&scene) < before / 2, "{} of {before}", pack_bytes(&scene));
    scene.assert_sound();
    scene.assert_restores(&scene.path("source"));
}
