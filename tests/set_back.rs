//! A repository that was set back to an older state is noticed by a machine that saw the newer one.

mod scene;

use scene::Scene;
use std::process::Command;

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let _ = std::fs::remove_dir_all(to);
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// Two snapshots, and the repository as it was after the first one.
fn two_states() -> (Scene, std::path::PathBuf, std::path::PathBuf) {
    let scene = Scene::with_repository();
    let (repository, older) = (scene.path("repository"), scene.path("older"));
    scene.write("source/file", "one");
    scene.snapshot(&["source"]);
    copy(&repository, &older);
    scene.write("source/file", "two");
    scene.snapshot(&["source"]);
    (scene, repository, older)
}

#[test]
fn a_repository_that_was_set_back_is_noticed_until_somebody_accepts_it() {
    let (scene, repository, older) = two_states();
    let newest = scene.snapshots()[1]["id"].as_str().unwrap().to_owned();
    assert!(!scene.run(&["snapshots"]).expect(0).stderr.contains("set back"));
    copy(&older, &repository);
    for arguments in
        [&["snapshots", "--quiet"][..], &["restore", "latest", "--to", "out"], &["snapshot", "source"]]
    {
        scene.run(arguments).expect(0).says(&newest).says("set back").says("lifeboat repo accept");
    }
    // What was written to the older state has the number of what is gone, and does not hide it.
    let done = scene.run(&["snapshots", "--json"]).expect(0);
    let told: serde_json::Value = serde_json::from_str(done.stderr.lines().next().unwrap()).unwrap();
    assert_eq!((&told["message_type"], &told["seen"]["sequence"]), (&"set_back".into(), &2.into()));
    assert_eq!((told["seen"]["id"].as_str(), told["sequence"].as_u64()), (Some(&newest[..]), Some(2)));
    scene.run(&["repo", "accept"]).expect(0).prints(&newest);
    assert!(!scene.run(&["snapshots"]).expect(0).stderr.contains("set back"));
    scene.run(&["repo", "accept"]).expect(0).prints("nothing is missed");
}

#[test]
fn what_this_machine_forgets_is_not_missed() {
    let (scene, _, _) = two_states();
    scene.run(&["forget", "latest"]).expect(0);
    let done = scene.run(&["snapshots"]).expect(0).prints("1 snapshots");
    assert!(!done.stderr.contains("set back"), "{done}");
    scene.run(&["forget", "--allow-last", "latest"]).expect(0);
    assert!(!scene.run(&["snapshots"]).expect(0).stderr.contains("set back"));
}

#[test]
fn a_repository_that_lost_its_snapshots_is_noticed_by_an_empty_list() {
    let (scene, repository, _) = two_states();
    std::fs::remove_dir_all(repository.join("snapshots")).unwrap();
    std::fs::create_dir(repository.join("snapshots")).unwrap();
    scene.run(&["snapshots"]).expect(0).says("the host has none now");
}
