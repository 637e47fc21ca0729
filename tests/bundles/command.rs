//! The commands `export`, `import` and `copy`.

use crate::scene::{Done, Scene, noise, tree};
use serde_json::Value;
use std::process::Stdio;

/// The sender's machine, with two snapshots, and the receiver's repository beside it.
struct Two {
    scene: Scene,
    first: tree::Survey,
    ids: [String; 2],
}

impl Two {
    fn new() -> Self {
        let scene = Scene::with_repository();
        scene.write("app/a", noise("a", 300_000));
        scene.write("app/b", "b");
        let id = |summary: Value| summary["snapshot_id"].as_str().unwrap().to_owned();
        let first = id(scene.snapshot(&["app", "--tag", "first"]));
        let survey = tree::survey(&scene.path("app"));
        scene.write("app/c", noise("c", 100_000));
        let second = id(scene.snapshot(&["app"]));
        let two = Self { scene, first: survey, ids: [first, second] };
        two.there(&["init"]).expect(0);
        two
    }

    fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = self.scene.lifeboat();
        command.env("LIFEBOAT_BUNDLE_PASSWORD", "carried by hand").args(arguments);
        command
    }

    /// Runs in the sender's repository.
    fn here(&self, arguments: &[&str]) -> Done {
        Done::of(&mut self.command(arguments))
    }

    /// Runs in the receiver's, which has a password.
    fn there(&self, arguments: &[&str]) -> Done {
        Done::of(&mut self.dress(self.command(arguments)))
    }

    fn dress(&self, mut command: std::process::Command) -> std::process::Command {
        command.env("LIFEBOAT_REPOSITORY", self.scene.path("there")).env_remove("LIFEBOAT_KEY_FILE");
        command.env("LIFEBOAT_PASSWORD", "another password");
        command
    }
}

#[test]
fn bundles_are_carried_by_hand() {
    let two = Two::new();
    two.here(&["export", "latest~1", "-n"]).expect(0).prints("would write").prints("full");
    two.here(&["export", "latest~1", "-o", "full.bundle"]).expect(0).prints("wrote").prints("full");
    two.here(&["export", "latest", "--incremental", "-o", "more.bundle"]).expect(0).prints("incremental");
    // A file that is there stays.
    let before = std::fs::read(two.scene.path("more.bundle")).unwrap();
    two.here(&["export", "latest", "-o", "more.bundle"]).expect(1).says("there is a file of that name");
    assert_eq!(std::fs::read(two.scene.path("more.bundle")).unwrap(), before);
    assert!(before.len() < 110_000, "{}", before.len());
    // Sound on its own, without any repository.
    let mut check = two.command(&["import", "--check", "more.bundle"]);
    Done::of(check.env_remove("LIFEBOAT_REPOSITORY")).expect(0).prints("sound").prints("since");
    let missing = two.there(&["import", "more.bundle"]).expect(1);
    missing.says(&two.ids[0]).says("this repository does not have").says("Hint:");
    two.there(&["import", "more.bundle", "-n"]).expect(1).says(&two.ids[0]);
    two.there(&["import", "full.bundle", "-n"]).expect(0).prints("would import");
    two.there(&["import", "full.bundle"]).expect(0).prints("imported");
    let summary = two.there(&["import", "more.bundle", "--json"]).expect(0).message("summary");
    assert_eq!(
        (&summary["snapshot_id"], &summary["base"]),
        (&two.ids[1].as_str().into(), &two.ids[0].as_str().into())
    );
    assert_eq!((&summary["was_there"], &summary["bytes"]), (&false.into(), &100_000.into()));
    two.there(&["import", "full.bundle"]).expect(0).prints("is here already");
    two.there(&["check", "--read-data"]).expect(0);
    let listed = two.there(&["snapshots", "--json"]).expect(0).json();
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[0]["tags"], serde_json::json!(["first"]));
    let source = format!("{}:{}", two.ids[0], two.scene.path("app").display());
    two.there(&["restore", &source, "--to", "out"]).expect(0);
    tree::assert_same(&two.first, &tree::survey(&two.scene.path("out")));
}

#[test]
fn a_bundle_goes_through_a_pipe_and_messages_beside_it() {
    let two = Two::new();
    for json in [&[][..], &["--json"]] {
        let mut export = two.command(&[&["export", "latest", "-o", "-"], json].concat());
        let mut export = export.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut import = two.dress(two.command(&["import", "-"]));
        Done::of(import.stdin(export.stdout.take().unwrap())).expect(0);
        let export = Done::from_output("export".into(), export.wait_with_output().unwrap()).expect(0);
        export.says(if json.is_empty() { "wrote" } else { "\"message_type\":\"summary\"" });
    }
    two.there(&["check", "--read-data"]).expect(0);
}

#[test]
fn secrets_that_do_not_fit_and_requests_that_make_no_sense_are_told() {
    let two = Two::new();
    two.here(&["export", "latest", "-o", "b"]).expect(0);
    let mut wrong = two.dress(two.command(&["import", "b"]));
    Done::of(wrong.env("LIFEBOAT_BUNDLE_PASSWORD", "wrong")).expect(12).says("LIFEBOAT_BUNDLE_PASSWORD");
    let mut none = two.dress(two.command(&["import", "b"]));
    Done::of(none.env_remove("LIFEBOAT_BUNDLE_PASSWORD")).expect(1).says("--bundle-key-file");
    let cut = std::fs::read(two.scene.path("b")).unwrap();
    two.scene.write("cut", &cut[..cut.len() - 1]);
    two.there(&["import", "cut"]).expect(1).says("cut off");
    two.here(&["export", "latest", "-o", "k", "--bundle-key-file", "bundle.key"]).expect(0);
    two.there(&["import", "k"]).expect(12);
    two.there(&["import", "k", "--bundle-key-file", "bundle.key"]).expect(0);
    two.here(&["export", "latest", "-o", "x", "--full", "--incremental"]).expect(1);
    two.here(&["export", "latest"]).expect(1).says("--output");
    two.here(&["export", "latest", "--since", "eeee", "-o", "x"]).expect(1).says("eeee");
    two.there(&["import", "absent"]).expect(1).says("cannot be read");
    assert!(!two.scene.path("x").exists());
}

#[test]
fn snapshots_are_copied_from_another_repository() {
    let two = Two::new();
    let from = two.scene.text("repository");
    let key = two.scene.text("key");
    let copy =
        |more: &[&str]| two.there(&[&["copy", "--from", &from, "--from-key-file", &key], more].concat());
    copy(&["--dry-run"]).expect(0).prints("would copy 2 snapshots");
    copy(&["--tag", "first"]).expect(0).prints("copied 1 snapshots");
    let summary = copy(&["--json"]).expect(0).message("summary");
    assert_eq!((&summary["copied"], &summary["were_there"]), (&1.into(), &1.into()));
    copy(&["latest"]).expect(0).prints("copied 0 snapshots; 1 were here already");
    two.there(&["check", "--read-data"]).expect(0);
    assert_eq!(two.there(&["snapshots", "--json"]).expect(0).json().len(), 2);
    two.there(&["copy", "--from", "nowhere"]).expect(10).says("there is no repository");
    let mut wrong = two.dress(two.command(&["copy", "--from", &from]));
    Done::of(wrong.env("LIFEBOAT_FROM_PASSWORD", "wrong")).expect(12);
}
