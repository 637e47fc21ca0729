//! When the command says that a snapshot is stored, power may go.
//!
//! Must stay true: the file system is a real ext4 on a loop device, and the cut is the kernel's shutdown ioctl without a
//! flush of the journal, so what was not synced is gone.

mod scene;

use scene::disk::Disk;
use scene::{Scene, noise, tree};
use std::process::Stdio;
use std::time::Duration;

const ROUNDS: u64 = 20;

fn change(scene: &Scene, round: u64) -> tree::Survey {
    scene.write("source/file", format!("round {round}"));
    scene.write(&format!("source/{}/noise", round % 3), noise(&round.to_string(), 200_000));
    tree::survey(&scene.path("source"))
}

#[test]
fn the_cut_loses_what_was_not_synced() {
    let scene = Scene::new();
    let mut disk = Disk::ext4(&scene.path("disk"), "32M");
    let synced = scene.write("disk/synced", "here");
    std::fs::File::open(&synced).unwrap().sync_all().unwrap();
    let lost = scene.write("disk/lost", "gone");
    disk.cut_power();
    disk.power_on();
    assert!(synced.exists() && std::fs::read(lost).unwrap_or_default().is_empty());
}

#[test]
fn a_snapshot_survives_a_power_cut_right_after_exit_0() {
    let scene = Scene::new();
    let mut disk = Disk::ext4(&scene.path("disk"), "96M");
    for round in 0..ROUNDS {
        let repository = scene.text(&format!("disk/below/repository-{}", round / 4));
        let run = |arguments: &[&str]| scene.run(&[arguments, &["-r", &repository]].concat());
        if round % 4 == 0 {
            // A new repository's own folders must be durable, too; every other time it is cut off by itself.
            run(&["init"]).expect(0);
            if round % 8 == 0 {
                disk.cut_power();
                disk.power_on();
            }
        }
        let expected = change(&scene, round);
        let saved = run(&["snapshot", "--json", "source"]).expect(0).message("summary");
        disk.cut_power();
        disk.power_on();
        let id = saved["snapshot_id"].as_str().unwrap();
        assert_eq!(run(&["snapshots", "--json"]).expect(0).json().last().unwrap()["id"], id, "round {round}");
        let out = format!("out-{round}");
        run(&["restore", &format!("{id}:{}", scene.text("source")), "--to", &out]).expect(0);
        tree::assert_same(&expected, &tree::survey(&scene.path(&out)));
        run(&["check", "--read-data"]).expect(0);
    }
}

#[test]
fn a_power_cut_during_a_run_costs_that_run_only() {
    let scene = Scene::new();
    let mut disk = Disk::ext4(&scene.path("disk"), "384M");
    let repository = scene.text("disk/repository");
    let run = |arguments: &[&str]| scene.run(&[arguments, &["-r", &repository]].concat());
    run(&["init"]).expect(0);
    let latest = format!("latest:{}", scene.text("source"));
    let mut expected = change(&scene, 1000);
    run(&["snapshot", "source"]).expect(0);
    for round in 0..10 {
        let next = {
            scene.write("source/large", noise(&format!("large {round}"), 8 << 20));
            change(&scene, round)
        };
        let mut command = scene.lifeboat();
        command.args(["snapshot", "source", "-r", &repository]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(10 + 17 * round));
        disk.cut_power();
        let acknowledged = child.wait().unwrap().success();
        disk.power_on();
        run(&["check", "--read-data"]).expect(0);
        let out = format!("out-{round}");
        run(&["restore", &latest, "--to", &out]).expect(0);
        let found = tree::survey(&scene.path(&out));
        // Listed means complete; whether an unacknowledged run is listed is open.
        let listed_new = found == next;
        assert!(listed_new || !acknowledged, "round {round}: an acknowledged snapshot is gone");
        if !listed_new {
            tree::assert_same(&expected, &found);
        }
        run(&["snapshot", "source"]).expect(0);
        expected = next;
        scene::remove(&scene.path(&out));
    }
}
