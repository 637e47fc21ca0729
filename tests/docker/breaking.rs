//! What breaks in the middle of a capture: an engine that is restarted while it streams, helpers, containers and volumes that
//! somebody removes.
//!
//! Must stay true: it is told by name, with an exit code of the table; no snapshot claims what was not read; what lifeboat had
//! made quiet is back without anybody calling `recover`, and nothing of lifeboat's is left.

use crate::engines::killable::KillableEngine;
use crate::engines::objects::Volume;
use crate::engines::{Engine, on_every_engine};
use crate::kills::proxy::{At, Deed, Proxy, When};
use crate::scene::{Done, Scene, noise};
use serde_json::json;
use std::process::Stdio;

/// More than the pipes and sockets on the way hold.
const LARGE: usize = 24 << 20;

/// Ends at once when it is told to.
const SERVICE: &[&str] = &["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"];

fn streams(line: &str) -> bool {
    line.starts_with("GET") && line.contains("/archive")
}

fn removes(line: &str) -> bool {
    line.starts_with("DELETE")
}

/// A volume that only the engine reads.
fn streamed(scene: &Scene, engine: &Engine) -> Volume {
    scene.write("device/large", noise("breaking", LARGE));
    let device = format!("device={}", scene.text("device"));
    engine.volume_with(&["--opt", "type=none", "--opt", "o=bind", "--opt", &device])
}

#[track_caller]
fn lifeboat(scene: &Scene, engine: &Engine, words: &[&str]) -> Done {
    Done::of(scene.lifeboat().env("DOCKER_HOST", &engine.url).args(words))
}

/// A run in which something happens at a request.
#[track_caller]
fn disturbed(scene: &Scene, engine: &Engine, at: (At, When), deed: Deed, words: &[&str]) -> Done {
    let proxy = Proxy::start(&scene.path("proxy.sock"), &engine.url, at, deed);
    let done = Done::of(scene.lifeboat().env("DOCKER_HOST", proxy.host()).args(words));
    assert!(proxy.has_fired(), "nothing happened: {done}");
    done
}

/// A run whose engine is killed in the middle of its first stream, and started again.
#[track_caller]
fn restarted(scene: &Scene, engine: &KillableEngine, words: &[&str]) -> Done {
    let deed = Box::new(engine.killer());
    let at = (At::First(streams), When::Answered);
    let proxy = Proxy::start(&scene.path("proxy.sock"), &engine.url, at, deed);
    let mut command = scene.lifeboat();
    command.env("DOCKER_HOST", proxy.host()).args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut run = command.spawn().unwrap();
    while !proxy.has_fired() {
        assert!(run.try_wait().unwrap().is_none(), "it was over before the engine was ended");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    engine.restart();
    let done = Done::from_output(format!("{words:?}"), run.wait_with_output().unwrap());
    // Whoever asks next finds what the killed engine left of a helper.
    drop(proxy);
    done
}

/// No journal, no mark, and after `recover` no helper.
#[track_caller]
fn assert_nothing_is_left(scene: &Scene, engine: &Engine, volume: &Volume) {
    let journals = std::fs::read_dir(scene.path("state/lifeboat/holds"));
    let left: Vec<_> = journals.into_iter().flatten().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == "gate"), "{left:?} on {}", engine.name);
    lifeboat(scene, engine, &["recover"]).expect(0);
    let of_volume = format!("volume={}", volume.name);
    let filters = ["--filter", "label=lifeboat.helper", "--filter", &of_volume];
    assert_eq!(engine.say(&[&["ps", "--all", "--quiet"], &filters[..]].concat()), "");
}

#[test]
fn an_engine_that_is_restarted_while_it_streams_leaves_no_snapshot_of_half_a_volume() {
    let engine = KillableEngine::start("system");
    let scene = Scene::with_repository();
    let volume = streamed(&scene, &engine);
    let named = format!("volume:{}", volume.name);
    let said = restarted(&scene, &engine, &["snapshot", &named]).expect(13);
    said.says(&named).says("the connection to the engine broke");
    assert!(scene.snapshots().is_empty());
    assert_nothing_is_left(&scene, &engine, &volume);
    lifeboat(&scene, &engine, &["snapshot", &named]).expect(0);
    let large = scene.run(&["dump", &format!("latest:{named}/large")]).expect(0).stdout;
    assert!(large == noise("breaking", LARGE));
}

#[test]
fn an_engine_that_is_restarted_while_services_are_held_gets_them_back_and_the_snapshot_lacks_what_was_cut() {
    let engine = KillableEngine::start("graph");
    let scene = Scene::with_repository();
    let volume = streamed(&scene, &engine);
    let mount = volume.at("/data");
    let service = |options: &[&str]| engine.run("base", &[&["--network", "none"], options].concat(), SERVICE);
    let paused = service(&["--volume", &mount]);
    let stopped = service(&["--volume", &mount, "--label", "lifeboat.stop=true"]);
    let named = format!("container:{}", paused.name);
    let said = restarted(&scene, &engine, &["snapshot", &named]);
    assert_eq!([paused.state(), stopped.state()], ["running"; 2].map(String::from), "{said}");
    // The rest was read again, once the engine was back and the services with it.
    let said = said.expect(3);
    said.says("reading again").says(&format!("volume:{}: cannot be read", volume.name));
    let snapshot = scene.snapshots().pop().unwrap();
    assert_eq!(snapshot["paths"], json!([named]), "{snapshot}");
    lifeboat(&scene, &engine, &["snapshot", &named]).expect(0);
    let large = format!("latest:volume:{}/large", volume.name);
    let large = scene.run(&["dump", &large]).expect(0).stdout;
    assert!(large == noise("breaking", LARGE));
    assert_nothing_is_left(&scene, &engine, &volume);
    drop((paused, stopped));
}

on_every_engine! {
    fn a_helper_that_somebody_removes_is_an_error_and_the_services_are_as_before(engine: &Engine) {
        let scene = Scene::with_repository();
        let volume = streamed(&scene, engine);
        let service = engine.run("base", &["--network", "none", "--volume", &volume.at("/data")], SERVICE);
        let started = service.started_at();
        let remove = |engine: &Engine| -> Deed {
            let (engine, filter) = (engine.clone(), format!("volume={}", volume.name));
            Box::new(move || {
                let helpers = ["ps", "--all", "--quiet", "--filter", "label=lifeboat.helper", "--filter", &filter];
                for helper in engine.say(&helpers).lines() {
                    engine.say(&["rm", "--force", helper]);
                }
            })
        };
        let (alone, with) = (format!("volume:{}", volume.name), format!("container:{}", service.name));
        // Once it streams, an engine removes it only when all of it was read.
        let at = || (At::First(streams), When::Before);
        disturbed(&scene, engine, at(), remove(engine), &["snapshot", &alone]).expect(1).says(&alone).says("No such container");
        assert!(scene.snapshots().is_empty());
        disturbed(&scene, engine, at(), remove(engine), &["snapshot", &with]).expect(3).says(&alone).says("No such container");
        assert_eq!(scene.snapshots().pop().unwrap()["paths"], json!([with]));
        assert_eq!((service.state(), service.started_at()), ("running".into(), started));
        assert_nothing_is_left(&scene, engine, &volume);
    }

    fn a_volume_that_is_removed_before_it_is_read_is_missing_and_not_empty(engine: &Engine) {
        let scene = Scene::with_repository();
        let (volume, other) = (engine.volume(), engine.volume());
        std::fs::write(volume.folder().join("file"), "gone").unwrap();
        std::fs::write(other.folder().join("file"), "kept").unwrap();
        let remove = || -> Deed {
            let (engine, name) = (engine.clone(), volume.name.clone());
            // An engine refuses as long as a helper mounts it.
            Box::new(move || _ = engine.docker(&["volume", "rm", &name]).output())
        };
        let (gone, kept) = (format!("volume:{}", volume.name), format!("volume:{}", other.name));
        let at = (At::Every(removes), When::Answered);
        disturbed(&scene, engine, at, remove(), &["snapshot", &gone, &kept]).expect(3).says(&gone);
        assert!(!engine.has("volume", &volume.name));
        let snapshot = scene.snapshots().pop().unwrap();
        assert_eq!(snapshot["paths"], json!([kept]), "{snapshot}");
        assert_nothing_is_left(&scene, engine, &volume);
    }

    fn a_container_that_is_removed_while_its_volume_is_streamed_leaves_a_marked_snapshot(engine: &Engine) {
        let scene = Scene::with_repository();
        let volume = streamed(&scene, engine);
        let service = engine.run("base", &["--network", "none", "--volume", &volume.at("/data")], SERVICE);
        let (engine_too, name) = (engine.clone(), service.name.clone());
        let deed = Box::new(move || _ = engine_too.say(&["rm", "--force", &name]));
        let at = (At::First(streams), When::Answered);
        let named = format!("container:{}", service.name);
        disturbed(&scene, engine, at, deed, &["snapshot", &named]).expect(3).says("was removed meanwhile");
        let snapshot = scene.snapshots().pop().unwrap();
        assert_eq!(snapshot["consistency"]["one_moment"], json!(false), "{snapshot}");
        assert_nothing_is_left(&scene, engine, &volume);
    }
}

#[test]
fn a_restore_whose_engine_is_restarted_says_so_and_succeeds_afterwards() {
    let engine = KillableEngine::start("containerd");
    let scene = Scene::with_repository();
    let volume = streamed(&scene, &engine);
    let named = format!("volume:{}", volume.name);
    lifeboat(&scene, &engine, &["snapshot", &named]).expect(0);
    std::fs::remove_file(scene.path("device/large")).unwrap();
    // What is sent goes by PUT; the first GET reads it back.
    let words = ["restore", "latest", "--to", &named, "--overwrite", "always"];
    restarted(&scene, &engine, &words).expect(13).says("the connection to the engine broke");
    assert_nothing_is_left(&scene, &engine, &volume);
    lifeboat(&scene, &engine, &words).expect(0);
    let large = std::fs::read(scene.path("device/large")).unwrap();
    assert!(large == noise("breaking", LARGE));
}
