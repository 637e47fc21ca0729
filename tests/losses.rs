//! Each of these once lost data or would have, found by review before the first release. Every test is named after the
//! loss.

mod scene;

use scene::mapper::Mapper;
use scene::{Done, Scene, noise, tree};
use std::io::Write;
use std::process::{Command, Stdio};

#[test]
fn eighty_thousand_tiny_files_made_an_index_that_no_reader_took() {
    let scene = Scene::with_repository();
    for number in 0..80_000 {
        scene.write(&format!("source/{}/{number}", number % 100), format!("{number:06}"));
    }
    scene.snapshot(&["--threads", "1", "source"]);
    scene::remove(&scene.path("cache"));
    scene.assert_sound();
}

#[test]
fn an_interrupted_stream_was_stored_as_if_it_were_whole() {
    let scene = Scene::with_repository();
    let mut command = scene.lifeboat();
    let command = command.args(["snapshot", "stdin:dump"]).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(&noise("stream", 5 << 20)).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    scene::tool("kill", &["-INT", &child.id().to_string()]);
    std::thread::sleep(std::time::Duration::from_millis(200));
    drop(input);
    Done::from_output("an interrupted stream".into(), child.wait_with_output().unwrap()).expect(130);
    assert!(scene.snapshots().is_empty());
}

#[test]
fn chunks_of_missing_packs_were_relied_on() {
    let scene = Scene::with_repository();
    scene.write("source/file", noise("file", 3 << 20));
    scene.snapshot(&["source"]);
    for pack in scene.objects_in("packs") {
        std::fs::remove_file(pack).unwrap();
    }
    for kind in ["incremental", "full"] {
        scene.run(&["snapshot", "--kind", kind, "source"]).expect(0);
        scene.assert_restores(&scene.path("source"));
        // Another machine knows the missing packs and the new ones.
        scene::remove(&scene.path("cache"));
        scene.assert_restores(&scene.path("source"));
    }
}

#[test]
fn chunks_of_a_lost_index_object_were_carried_over() {
    let scene = Scene::with_repository();
    scene.write("source/a", noise("a", 3 << 20));
    scene.write("source/b", noise("b", 1000));
    scene.snapshot(&["source"]);
    for index in scene.objects_in("index") {
        std::fs::remove_file(index).unwrap();
    }
    scene.write("source/b", noise("changed", 1000));
    scene.snapshot(&["source"]);
    scene.assert_restores(&scene.path("source"));
}

#[test]
fn a_store_through_a_mapping_went_unnoticed() {
    let scene = Scene::with_repository();
    std::fs::create_dir(scene.path("source")).unwrap();
    let mut mapper = Mapper::start(&scene.path("source/mapped"));
    for _ in 0..2 {
        mapper.wait_for_store();
        // Past the time within which a file is read again anyway.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        scene.snapshot(&["source"]);
        let expected = tree::survey(&scene.path("source"));
        scene.assert_restores_as("latest", &scene.path("source"), &expected);
        mapper.go_on();
    }
}

#[test]
fn restore_deleted_what_the_snapshot_could_not_read() {
    let scene = Scene::with_repository();
    scene.write("source/readable", "yes");
    scene.write("source/secret", "no");
    scene::set_mode(&scene.path("source/secret"), 0);
    for name in ["", "repository", "key", "source", "cache", "state", "home"] {
        let place = scene.path(name);
        if place.exists() {
            scene::tool("chown", &["-R", "65534:65534", place.to_str().unwrap()]);
        }
    }
    let mut ordinary = Command::new("setpriv");
    ordinary.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(scene::binary());
    Done::of(scene.dress(&mut ordinary).args(["snapshot", "source"])).expect(3);
    let source = scene.path("source");
    let selected = format!("latest:{}", source.display());
    scene.run(&["restore", &selected, "--to", source.to_str().unwrap(), "--delete"]).expect(3);
    assert!(scene.path("source/secret").exists());
}
