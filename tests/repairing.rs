//! What is damaged is found, named and mended, by the commands a user would type.

mod scene;

use scene::{Scene, noise, tree};
use std::path::PathBuf;

/// A machine with a snapshot of some files, one of them large.
fn with_a_snapshot() -> Scene {
    let scene = Scene::with_repository();
    scene.write("app/large", noise("large", 3_000_000));
    for number in 0..20 {
        scene.write(&format!("app/file-{number}"), noise(&format!("file {number}"), 400_000));
    }
    scene.snapshot(&["app"]);
    scene
}

fn largest_pack(scene: &Scene) -> PathBuf {
    let packs = scene.objects_in("packs").into_iter();
    packs.max_by_key(|pack| pack.metadata().unwrap().len()).unwrap()
}

fn flip(path: &PathBuf, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_pack_is_healed_by_the_next_snapshot() {
    let scene = with_a_snapshot();
    scene.run(&["scrub"]).expect(0).prints("No errors");
    flip(&largest_pack(&scene), 5000);
    let mut without_key = scene.lifeboat();
    without_key.env_remove("LIFEBOAT_KEY_FILE").arg("scrub");
    scene::Done::of(&mut without_key)
        .expect(1)
        .says("1 objects are damaged")
        .says("Hint: lifeboat check --read-data");
    let touched = format!("touches {}/", scene.path("app").display());
    scene
        .run(&["check", "--read-data"])
        .expect(1)
        .says("needed by")
        .says(&touched)
        .says("Hint: lifeboat repair packs");
    // One of the two halves has it, and all of it has it.
    let halves = ["1/2", "2/2"].map(|part| scene.run(&["check", "--read-data-subset", part]).code);
    assert!(halves == [Some(0), Some(1)] || halves == [Some(1), Some(0)], "{halves:?}");
    scene.run(&["check", "--read-data-subset", "100%"]).expect(1);
    scene.run(&["check", "--read-data-subset", "1000G"]).expect(1);
    scene.run(&["check", "--read-data-subset", "3/2"]).expect(1).says("is no part of the data");
    scene.run(&["repair", "packs", "--dry-run"]).expect(0).prints("1 packs are damaged");
    scene.run(&["check", "--read-data"]).expect(1);
    scene
        .run(&["repair", "packs"])
        .expect(3)
        .prints("1 damaged packs were replaced")
        .prints("snapshots lack");
    scene.run(&["scrub"]).expect(0);
    scene.run(&["repair", "snapshots", "--dry-run"]).expect(0).prints("lost");
    // Nothing was touched, and yet what is lost is stored again.
    let summary = scene.snapshot(&["app"]);
    assert!(summary["data_added"].as_u64().unwrap() > 0, "{summary}");
    scene.assert_sound();
    scene.run(&["snapshots"]).expect(0).prints("(damaged)");
    scene.run(&["repair", "snapshots"]).expect(0).prints("no snapshot lacks anything");
    assert!(!scene.run(&["snapshots"]).text().contains("(damaged)"));
    scene.run(&["restore", "latest~1", "--to", "old"]).expect(0);
    scene.assert_restores(&scene.path("app"));
}

#[test]
fn a_lost_index_is_made_again() {
    let scene = with_a_snapshot();
    for index in scene.objects_in("index") {
        std::fs::remove_file(index).unwrap();
    }
    scene.run(&["check"]).expect(1).says("Hint: lifeboat repair index");
    scene.run(&["repair", "index", "--dry-run"]).expect(0).prints("would be read");
    scene.run(&["repair", "index"]).expect(0).prints("are named again");
    scene.assert_sound();
    scene.assert_restores(&scene.path("app"));
    assert_eq!(scene.snapshot(&["app"])["data_added"], 0);
}

#[test]
fn what_is_lost_comes_from_another_repository() {
    let scene = with_a_snapshot();
    let survey = tree::survey(&scene.path("app"));
    let key = std::fs::read(scene.path("key")).unwrap();
    scene.write("other-key", key);
    let there = |arguments: &[&str]| {
        let mut command = scene.lifeboat();
        command.env("LIFEBOAT_REPOSITORY", scene.path("there")).env("LIFEBOAT_PASSWORD", "another");
        command.env_remove("LIFEBOAT_KEY_FILE").env("LIFEBOAT_FROM_KEY_FILE", scene.path("key"));
        scene::Done::of(command.args(arguments))
    };
    there(&["init"]).expect(0);
    there(&["copy", "--from", scene.path("repository").to_str().unwrap()]).expect(0);
    // The machine that had the files is gone, and every pack has a damage.
    std::fs::remove_dir_all(scene.path("app")).unwrap();
    scene.objects_in("packs").iter().for_each(|pack| flip(pack, 300));
    scene.run(&["check", "--read-data"]).expect(1);
    let mut command = scene.lifeboat();
    command.env("LIFEBOAT_FROM_PASSWORD", "another").args(["repair", "packs", "--json", "--from"]);
    let done = scene::Done::of(command.arg(scene.path("there"))).expect(0);
    let summary = done.message("summary");
    assert!(summary["bytes_taken"].as_u64().unwrap() > 0, "{summary}");
    assert_eq!(summary["snapshots_damaged"], 0);
    scene.assert_sound();
    let place = format!("latest:{}", scene.path("app").display());
    scene.run(&["restore", &place, "--to", "back"]).expect(0);
    tree::assert_same(&survey, &tree::survey(&scene.path("back")));
}

#[test]
fn files_that_are_lost_for_good_are_named_and_the_others_saved() {
    let scene = with_a_snapshot();
    flip(&largest_pack(&scene), 5000);
    std::fs::remove_dir_all(scene.path("app")).unwrap();
    scene.run(&["repair", "packs"]).expect(3);
    scene.run(&["gc"]).expect(1).says("Hint: lifeboat check --read-data");
    let done = scene.run(&["repair", "snapshots", "--forget", "--json"]).expect(3);
    let lost: Vec<_> = done.json().into_iter().filter(|line| line["message_type"] == "lost").collect();
    assert!(!lost.is_empty() && lost.len() < 21, "{lost:?}");
    scene.run(&["snapshots"]).expect(0).prints("repaired").prints("1 snapshots");
    scene.assert_sound();
    scene.run(&["gc"]).expect(0);
    scene.run(&["restore", "latest", "--to", "out"]).expect(0);
    let restored = tree::files(&scene.path("out")).len();
    assert_eq!(restored + lost.len(), 21);
}
