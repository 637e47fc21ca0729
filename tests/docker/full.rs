//! Engines whose disk becomes full in the middle of a restore: they and what they have are as before, and the same restore
//! succeeds once there is room.

use crate::engines::killable::KillableEngine;
use crate::engines::objects::Image;
use crate::engines::{Engine, unique};
use crate::kills::proxy::{At, Proxy, When};
use crate::project::{Project, command};
use crate::scene::{Done, Scene, noise};

/// More than what is left of the disk when it is needed.
const LARGE: usize = 48 << 20;
const LEFT: u64 = 16 << 20;

/// Runs lifeboat on an engine that is full from the first request on that fits.
fn with_full_disk(
    scene: &Scene,
    engine: &KillableEngine,
    at: (fn(&str) -> bool, When),
    words: &[&str],
) -> Done {
    let mut lifeboat = command(scene, engine);
    filling(scene, engine, at, lifeboat.args(words))
}

fn filling(
    scene: &Scene,
    engine: &KillableEngine,
    (fits, when): (fn(&str) -> bool, When),
    lifeboat: &mut std::process::Command,
) -> Done {
    let fill = engine.disk().filler(LEFT);
    let proxy = Proxy::start(&scene.path("proxy.sock"), &engine.url, (At::First(fits), when), Box::new(fill));
    let done = Done::of(lifeboat.env("DOCKER_HOST", proxy.host()));
    assert!(proxy.has_fired(), "the disk was never filled: {done}");
    done
}

/// What lifeboat itself needs is there, so that nothing else is new later.
fn prepare(scene: &Scene, engine: &KillableEngine) {
    let volume = engine.volume();
    Done::of(command(scene, engine).args(["snapshot", &format!("volume:{}", volume.name)])).expect(0);
}

#[test]
fn an_engine_that_is_full_in_the_middle_of_an_image_has_nothing_of_it() {
    for flavour in ["graph", "containerd"] {
        let from = Engine::named(flavour);
        let scene = Scene::with_repository();
        let files: [(&str, &[u8]); 2] = [("hello", b"large"), ("ballast", &noise(flavour, LARGE))];
        let image = Image::make_of(from, &format!("lbt/{}:1", unique()), &files);
        Done::of(command(&scene, from).args(["snapshot", &format!("image:{}", image.name)])).expect(0);
        let snapshot = scene.snapshots()[0]["short_id"].as_str().unwrap().to_owned();
        let engine = KillableEngine::on_disk(flavour, "3G");
        prepare(&scene, &engine);
        let before = engine.everything();
        let words = ["restore", &snapshot, "--to", "image:"];
        let is_load: fn(&str) -> bool = |line| line.contains("/images/load");
        let full = with_full_disk(&scene, &engine, (is_load, When::Before), &words).expect(1);
        full.says("no space left on device").says("Hint: docker system df");
        assert_eq!(engine.everything(), before, "{flavour}");
        engine.disk().empty();
        let again = engine.run("base", &[], &["sleep", "infinity"]);
        again.exec(&["true"]);
        drop(again);
        Done::of(command(&scene, &engine).args(words)).expect(0);
        assert_eq!(engine.say(&["run", "--rm", &image.name, "cat", "/hello"]), "large");
    }
}

#[test]
fn an_engine_that_is_full_in_the_middle_of_a_project_has_nothing_of_it() {
    for flavour in ["graph", "containerd"] {
        let engine = KillableEngine::on_disk(flavour, "3G");
        let scene = Scene::with_repository();
        let project = Project::up_with_checks(&scene, &engine);
        project.write_data();
        let volume = format!("{}_data", project.name);
        let folder = engine.inspect("volume", &volume)["Mountpoint"].as_str().unwrap().to_owned();
        std::fs::write(format!("{folder}/large"), noise(flavour, LARGE)).unwrap();
        project.lifeboat(&["snapshot", &format!("project:{}", project.name)]).expect(0);
        project.wipe();
        let before = engine.everything();
        let words = ["restore", "latest", "--to", "project:"];
        // An image that has its name is there; volumes come next.
        let is_tag: fn(&str) -> bool = |line| line.contains("/tag?");
        let full = with_full_disk(&scene, &engine, (is_tag, When::Answered), &words).expect(1);
        full.says(&format!("no room for all of volume {volume}")).says("Hint: df -h");
        assert_eq!(engine.everything(), before, "{flavour}");
        // What is told before anything is touched, where it is full already.
        let refused = project.lifeboat(&words).expect(1);
        refused.says("bytes come back, and").says("nothing was touched");
        assert_eq!(engine.everything(), before, "{flavour}");
        engine.disk().empty();
        project.lifeboat(&["restore", "latest", "--to", "project:", "--wait-healthy", "2m"]).expect(0);
        project.has_data();
        let large = std::fs::read(format!("{folder}/large")).unwrap();
        assert!(large == noise(flavour, LARGE), "{flavour}: the large file is another one");
    }
}

#[test]
fn an_engine_that_is_full_while_something_is_written_through_it_says_so_and_takes_it_with_room() {
    let engine = KillableEngine::on_disk("graph", "3G");
    let scene = Scene::with_repository();
    let large = scene.write("large", noise("graph", LARGE));
    let volume = engine.volume();
    let container = engine.run("base", &["--volume", &volume.at("/data")], &["sleep", "infinity"]);
    for place in ["/data", "/srv"] {
        engine.say(&["cp", large.to_str().unwrap(), &format!("{}:{place}/large", container.name)]);
    }
    let source = format!("container:{}", container.name);
    Done::of(command(&scene, &engine).args(["snapshot", &source])).expect(0);
    engine.say(&["rm", "--force", &container.name]);
    volume.destroy();
    let is_written: fn(&str) -> bool = |line| line.starts_with("PUT ") && line.contains("/archive?");
    let of_volume = format!("latest:volume:{}", volume.name);
    let to_volume = format!("volume:{}", volume.name);
    let of_container = format!("latest:{source}");
    for (what, words) in [
        ("volume", ["restore", &of_volume, "--to", &to_volume]),
        ("layer", ["restore", &of_container, "--to", "container:"]),
    ] {
        let restore = || {
            let mut plain = command(&scene, &engine);
            plain.args(words);
            engine.hidden_from(&plain)
        };
        let full = filling(&scene, &engine, (is_written, When::Before), &mut restore()).expect(1);
        full.says("no space left on device").says("Hint: docker system df");
        engine.disk().empty();
        if what == "volume" {
            // As a folder would, it keeps what was written.
            Done::of(&mut restore()).expect(1).says("--overwrite");
            let mut again = command(&scene, &engine);
            again.args(words).args(["--overwrite", "always"]);
            Done::of(&mut engine.hidden_from(&again)).expect(0);
        } else {
            assert!(!engine.has("container", &container.name), "{:?}", engine.everything());
            Done::of(&mut restore()).expect(0);
            assert_eq!(engine.say(&["start", &container.name]), container.name);
            container.exec(&["cmp", "/data/large", "/srv/large"]);
        }
    }
}
