//! Promises of the scenery itself: without them the other tests here would show less than they say.

use crate::engines::killable::KillableEngine;
use crate::engines::objects::{Container, Volume};
use crate::engines::{Engine, on_every_engine};
use std::panic::{AssertUnwindSafe, catch_unwind};

#[test]
fn the_three_engines_differ_in_release_and_in_image_store() {
    let driver = |name: &str| {
        let info = Engine::named(name).say(&["info", "--format", "{{.Driver}} {{.DriverStatus}}"]);
        (Engine::named(name).version(), info)
    };
    let (system, graph, containerd) = (driver("system"), driver("graph"), driver("containerd"));
    assert_ne!(system.0, graph.0, "the current engine is the system's");
    assert_eq!(graph.0, containerd.0);
    assert!(!graph.1.contains("io.containerd.snapshotter"), "{}", graph.1);
    assert!(containerd.1.contains("io.containerd.snapshotter"), "{}", containerd.1);
}

on_every_engine! {
    fn what_a_failed_test_made_is_gone_afterwards(engine: &Engine) {
        let mut names = None;
        let failed = catch_unwind(AssertUnwindSafe(|| {
            let volume = engine.volume();
            let container = engine.run("base", &["--volume", &volume.at("/data")], &[]);
            container.does("pause");
            names = Some((volume.name.clone(), container.name.clone()));
            assert!(engine.has("volume", &volume.name) && engine.has("container", &container.name));
            panic!("on purpose");
        }));
        assert!(failed.is_err());
        let (volume, container) = names.unwrap();
        assert!(!engine.has("volume", &volume) && !engine.has("container", &container));
    }

    fn what_a_killed_test_made_is_swept_and_nothing_else(engine: &Engine) {
        // No process has this number: the kernel's limit is 2^22.
        let volume = Volume::reserved(engine);
        engine.say(&["volume", "create", "--label", "test.owner=99999999-1", &volume.name]);
        let container = Container::adopt(engine, &Volume::reserved(engine).name);
        let image = "lifeboat-test/base:1";
        engine.say(&["create", "--label", "test.owner=99999999-1", "--name", &container.name, image]);
        let ours = (engine.volume(), engine.create("base", &[], &[]));
        let foreign = Volume::reserved(engine);
        engine.say(&["volume", "create", &foreign.name]);
        engine.sweep();
        assert!(!engine.has("volume", &volume.name) && !engine.has("container", &container.name));
        assert!(engine.has("volume", &ours.0.name) && engine.has("container", &ours.1.name));
        assert!(engine.has("volume", &foreign.name), "a volume without an owner is nobody's to remove");
    }

    fn the_servers_serve_and_end_when_they_are_told(engine: &Engine) {
        let postgres = engine.run("postgres", &[], &["-c", "synchronous_commit=off"]);
        let mariadb = engine.run("mariadb", &[], &[]);
        let redis = engine.run("redis", &[], &["--appendonly", "yes"]);
        postgres.wait_for(&["psql", "-U", "postgres", "-c", "SELECT 1"]);
        assert_eq!(postgres.exec(&["psql", "-U", "postgres", "-Atc", "SHOW synchronous_commit"]), "off");
        mariadb.wait_for(&["mariadb", "-e", "SELECT 1"]);
        redis.wait_for(&["redis-cli", "ping"]);
        assert!(redis.exec(&["redis-cli", "config", "get", "appendonly"]).ends_with("yes"));
        for server in [&postgres, &mariadb, &redis] {
            server.does("stop");
            let state = &server.inspect()["State"];
            assert_eq!(state["ExitCode"], 0, "it was killed: {state}");
        }
    }
}

#[test]
fn a_killed_engine_comes_back_and_its_containers_do_not_all_run_as_before() {
    for flavour in ["system", "graph", "containerd"] {
        let engine = KillableEngine::start(flavour);
        let data = engine.volume();
        let always = engine.run("base", &["--restart", "always", "--volume", &data.at("/data")], &[]);
        let paused = engine.run("base", &[], &[]);
        paused.does("pause");
        always.exec(&["sh", "-c", "echo kept >/data/file; sync"]);
        let before = always.started_at();
        engine.kill();
        engine.restart();
        always.wait_until("it runs again", || always.state() == "running" && always.started_at() != before);
        assert_eq!(always.exec(&["cat", "/data/file"]), "kept");
        // What lifeboat must put right: an engine does not remember that it paused somebody.
        assert_eq!(paused.state(), "exited", "{flavour}");
    }
}
