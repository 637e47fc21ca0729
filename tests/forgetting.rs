//! Forgetting removes what it was told to and nothing else, and says why.

mod scene;

use scene::Scene;
use serde_json::Value;

/// A repository with `count` snapshots of one source; their ids, oldest first.
fn with_snapshots(count: usize) -> (Scene, Vec<String>) {
    let scene = Scene::with_repository();
    let ids = (0..count).map(|number| {
        scene.write("source/file", format!("content {number}"));
        id_of(&scene.snapshot(&["source"]))
    });
    let ids = ids.collect();
    (scene, ids)
}

fn id_of(summary: &Value) -> String {
    summary["snapshot_id"].as_str().unwrap().to_owned()
}

fn listed(scene: &Scene) -> Vec<String> {
    scene.snapshots().iter().map(|snapshot| snapshot["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn rules_say_why_each_snapshot_stays_and_a_dry_run_changes_nothing() {
    let (scene, ids) = with_snapshots(4);
    let done = scene.run(&["forget", "--keep-last", "2", "--dry-run"]).expect(0);
    let done = done.prints("would forget 2 of 4 snapshots").prints(&format!("forget  {}", &ids[0][..8]));
    done.prints("no rule keeps it").prints(&format!("keep    {}", &ids[3][..8])).prints("last");
    assert_eq!(listed(&scene), ids);
    let done = scene.run(&["forget", "--keep-last", "2", "--keep-within", "1h", "--json"]).expect(0);
    let group = done.message("forget_group");
    assert_eq!(group["remove"].as_array().unwrap().len(), 0);
    assert_eq!(group["reasons"][0]["matches"], serde_json::json!(["last", "within 1h"]));
    let done = scene.run(&["forget", "-l", "2", "--json"]).expect(0);
    assert_eq!(done.message("summary")["removed"], 2);
    assert_eq!(listed(&scene), ids[2..]);
    scene.run(&["forget", "-l", "2"]).expect(0).prints("nothing to forget");
    scene.assert_restores(&scene.path("source"));
    scene.assert_sound();
}

#[test]
fn without_a_rule_nothing_is_forgotten() {
    let (scene, ids) = with_snapshots(2);
    scene.run(&["forget"]).expect(1).says("no rule");
    scene.run(&["forget", "--keep-last", "0", "--host", "web"]).expect(1).says("no rule");
    scene.run(&["forget", "--keep-daily", "many"]).expect(1).says("is no count");
    scene.run(&["forget", "--keep-within", "7"]).expect(1).says("is no age");
    scene.run(&["forget", "--keep-last", "1", &ids[0]]).expect(1).says("cannot be used with");
    assert_eq!(listed(&scene), ids);
}

#[test]
fn groups_and_filters_keep_snapshots_apart() {
    let scene = Scene::with_repository();
    scene.write("one/file", "one");
    scene.write("two/file", "two");
    let snapshot = |arguments: &[&str]| id_of(&scene.snapshot(arguments));
    let one = snapshot(&["one", "--tag", "hourly"]);
    let elsewhere = snapshot(&["one", "--host", "elsewhere"]);
    let two = snapshot(&["two", "--tag", "weekly,db"]);
    scene.run(&["forget", "-l", "1"]).expect(0).prints("nothing to forget: 3");
    let newer = snapshot(&["one", "--host", "elsewhere"]);
    scene.run(&["forget", "-l", "1", "--path", &scene.text("two")]).expect(0).prints("nothing to forget: 1");
    scene.run(&["forget", "-l", "1", "--host", "elsewhere"]).expect(0).prints("forgot 1 of 2");
    assert_eq!(listed(&scene), [one.clone(), two.clone(), newer.clone()]);
    let all = ["forget", "--group-by", "", "-l", "1", "--keep-tag", "weekly,db", "--keep-tag", "absent"];
    scene.run(&all).expect(0).prints("forgot 1 of 3").prints("tag weekly,db");
    assert_eq!(listed(&scene), [two, newer]);
    scene.run(&["forget", "--group-by", "moon", "-l", "1"]).expect(1).says("try host,source,tags");
    assert!(elsewhere != one);
}

#[test]
fn the_last_good_snapshot_of_a_group_goes_only_when_that_is_allowed() {
    let (scene, ids) = with_snapshots(2);
    let rule = ["forget", "--keep-tag", "absent"];
    scene.run(&rule).expect(0).prints("the last good one of its group").prints("forgot 1 of 2");
    assert_eq!(listed(&scene), ids[1..]);
    scene.run(&["forget", &ids[1]]).expect(1).says("the last good one of its group").says("--allow-last");
    assert_eq!(listed(&scene), ids[1..]);
    scene.run(&["forget", "--allow-last", &ids[1]]).expect(0).prints("forgot 1 of 1");
    assert_eq!(listed(&scene), [""; 0]);
    scene.run(&["snapshots"]).expect(0).prints("no snapshots yet");
}

#[test]
fn named_snapshots_go_together_or_not_at_all() {
    let (scene, ids) = with_snapshots(3);
    scene.run(&["forget", &ids[0], "ffffffffff"]).expect(1).says("no snapshot matches");
    scene.run(&["forget", &ids[0], &ids[1], "latest"]).expect(1).says("nothing was forgotten");
    assert_eq!(listed(&scene), ids);
    scene.run(&["forget", &ids[0][..8], "latest"]).expect(0).prints("forgot 2 of 3");
    assert_eq!(listed(&scene), ids[1..2]);
}

#[test]
fn where_a_snapshot_is_damaged_nothing_is_forgotten() {
    let (scene, _) = with_snapshots(3);
    let objects = scene.objects_in("snapshots");
    std::fs::write(&objects[1], b"damaged").unwrap();
    let name = objects[1].file_name().unwrap().to_str().unwrap().to_owned();
    scene.run(&["forget", "-l", "1"]).expect(1).says(&name[..16]).says("nothing is forgotten");
    assert_eq!(scene.objects_in("snapshots"), objects);
}

#[test]
fn a_snapshot_that_goes_on_from_a_forgotten_one_is_whole() {
    let (scene, ids) = with_snapshots(2);
    scene.run(&["forget", "latest"]).expect(0);
    scene.snapshot(&["source"]);
    scene.run(&["forget", &ids[0]]).expect(0);
    scene.assert_restores(&scene.path("source"));
    scene.assert_sound();
}

#[test]
fn pinned_snapshots_stay_until_they_are_unpinned_and_keep_their_ids() {
    let (scene, ids) = with_snapshots(3);
    scene
        .run(&["tag", "--pin", "--add", "release,v2", &ids[0]])
        .expect(0)
        .prints("changed 1 of 1")
        .prints("pinned");
    scene.run(&["snapshots"]).expect(0).prints("[release, v2] (pinned)").prints("3 snapshots");
    assert_eq!(listed(&scene), ids);
    scene.run(&["forget", "-l", "1"]).expect(0).prints("pinned").prints("forgot 1 of 3");
    scene.run(&["forget", &ids[0]]).expect(1).says("is pinned").says("--unpin");
    assert_eq!(listed(&scene), [ids[0].clone(), ids[2].clone()]);
    let done = scene.run(&["tag", "--unpin", "--remove", "v2", "--tag", "release", "--json"]).expect(0);
    let changed = done.message("changed");
    assert_eq!((&changed["tags"][0], changed["pinned"].as_bool()), (&"release".into(), Some(false)));
    scene.run(&["tag", "--set", "", &ids[0]]).expect(0);
    assert_eq!(scene.snapshots()[0]["tags"], serde_json::json!([]));
    scene.run(&["tag", "--add", "one"]).expect(1).says("no snapshot is named");
    scene.run(&["tag", &ids[0]]).expect(1).says("nothing is to be changed");
    scene.assert_restores(&scene.path("source"));
    scene.run(&["forget", "-l", "1"]).expect(0).prints("forgot 1 of 2");
    assert_eq!(listed(&scene), ids[2..]);
    scene.assert_sound();
}

#[test]
fn a_diff_weighs_what_is_new_shared_and_gone() {
    let scene = Scene::with_repository();
    scene.write("source/stays", scene::noise("stays", 500_000));
    scene.write("source/goes", scene::noise("goes", 300_000));
    scene.snapshot(&["source"]);
    std::fs::rename(scene.path("source/goes"), scene.path("gone")).unwrap();
    scene.write("source/comes", scene::noise("comes", 200_000));
    // A second copy of what was there is no news.
    scene.write("source/copy", scene::noise("stays", 500_000));
    scene.snapshot(&["source"]);
    let done = scene.run(&["diff", "--stat", "latest~1", "latest", "--json"]).expect(0);
    let figures = done.message("statistics");
    let bytes = |class: &str| figures["index_diff"][class]["bytes"].as_u64().unwrap();
    let nodes = 4_000;
    assert!((200_000..200_000 + nodes).contains(&bytes("new")), "{figures}");
    assert!((300_000..300_000 + nodes).contains(&bytes("gone")), "{figures}");
    assert!((500_000..500_000 + nodes).contains(&bytes("shared")), "{figures}");
    scene
        .run(&["diff", "--stat", "latest~1", "latest"])
        .expect(0)
        .prints("2 added, 1 removed")
        .prints("shared");
    scene.run(&["diff", "--stat", "latest~1:/", "latest"]).expect(1).says("whole snapshots");
}
