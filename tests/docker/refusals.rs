//! Engines that cannot be used, and things that must not be captured: told at once, with an exit code and a way out, and
//! nothing is made, stopped or stored.

use crate::engines::Engine;
use crate::engines::objects::{Container, Volume};
use crate::kills::proxy::Proxy;
use crate::scene::{Done, Scene, binary, tool};
use serde_json::json;
use std::process::Command;

#[track_caller]
fn lifeboat(scene: &Scene, host: &str, arguments: &[&str]) -> Done {
    Done::of(scene.lifeboat().env("DOCKER_HOST", host).args(arguments))
}

/// All commands that begin with an engine.
fn each(thing: &str) -> [Vec<String>; 4] {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    [
        words(&["docker", "ls"]),
        words(&["snapshot", &format!("volume:{thing}")]),
        words(&["snapshot", &format!("container:{thing}")]),
        words(&["snapshot", &format!("project:{thing}")]),
    ]
}

#[test]
fn where_no_engine_listens_every_command_says_so_with_one_exit_code() {
    let scene = Scene::with_repository();
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let stale = scene.path("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    for host in [format!("tcp://127.0.0.1:{port}"), format!("unix://{}", stale.display())] {
        for words in each("x") {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let said = lifeboat(&scene, &host, &words).expect(13);
            said.says(&format!("no engine answers at {host}")).says("Hint: docker -H");
        }
        lifeboat(&scene, &host, &["recover"]).expect(13).says("no engine answers at");
    }
    assert!(scene.snapshots().is_empty() && !scene.path("state/lifeboat/holds").exists());
}

#[test]
fn a_user_who_may_not_use_an_engines_socket_is_told_and_gets_nothing_done() {
    let engine = Engine::named("system");
    let scene = Scene::with_repository();
    let volume = engine.volume();
    let container = engine.run("base", &["--volume", &volume.at("/data")], &[]);
    let started = container.started_at();
    // The repository is the user's; the engine is not.
    tool("chown", &["-R", "65534:65534", &scene.text("")]);
    for words in each(&container.name) {
        let mut program = Command::new("setpriv");
        scene.dress(&mut program).args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        program.arg(binary()).args(&words).env("DOCKER_HOST", &engine.url);
        Done::of(&mut program).expect(13).says("no permission to use the engine at").says("Hint: sudo");
    }
    assert_eq!((container.state(), container.started_at()), ("running".into(), started));
}

fn is_version(line: &str) -> bool {
    line.starts_with("GET /version ")
}

#[test]
fn an_engine_that_is_too_old_or_too_new_is_refused_with_its_numbers() {
    let engine = Engine::named("graph");
    let scene = Scene::with_repository();
    let container = engine.run("base", &[], &[]);
    let format = "{{.Server.APIVersion}} {{.Server.MinAPIVersion}}";
    let versions = engine.say(&["version", "--format", format]);
    let (newest, least) = versions.split_once(' ').unwrap();
    // No engine that can be had is so old, or so new.
    for (truth, lie) in [
        (format!(r#""ApiVersion":"{newest}""#), r#""ApiVersion":"1.39""#),
        (format!(r#""MinAPIVersion":"{least}""#), r#""MinAPIVersion":"1.88""#),
    ] {
        let proxy = Proxy::lying(&scene.path("proxy.sock"), &engine.url, is_version, (&truth, lie));
        for words in each(&container.name) {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let said = lifeboat(&scene, &proxy.host(), &words).expect(13);
            said.says(lie.split('"').nth(3).unwrap())
                .says("this lifeboat speaks 1.40 to")
                .says("Hint: docker version");
        }
        // Nothing else was asked of it.
        assert!(proxy.lines().iter().all(|line| is_version(line)), "{:?}", proxy.lines());
    }
    assert!(scene.snapshots().is_empty());
}

#[test]
fn the_oldest_interface_is_enough_for_a_capture_and_its_restore() {
    let engine = Engine::named("graph");
    let scene = Scene::with_repository();
    let volume = engine.volume();
    std::fs::write(volume.folder().join("file"), "kept").unwrap();
    let labels = ["--label", r#"lifeboat.pre=["touch","/data/before"]"#, "--label", "lifeboat.stop=true"];
    let mount = volume.at("/data");
    let options = [&["--volume", &mount], &labels[..]].concat();
    let container =
        engine.run("base", &options, &["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]);
    container.exec(&["sh", "-c", "echo l >/root/new"]);
    let newest = engine.say(&["version", "--format", "{{.Server.APIVersion}}"]);
    let truth = format!(r#""ApiVersion":"{newest}""#);
    let lie = (truth.as_str(), r#""ApiVersion":"1.40""#);
    let proxy = Proxy::lying(&scene.path("proxy.sock"), &engine.url, is_version, lie);
    let run = |words: &[&str]| {
        // What the `docker` command is pinned to does not pin lifeboat, which asks the engine.
        let mut command = scene.lifeboat();
        Done::of(command.env("DOCKER_HOST", proxy.host()).env("DOCKER_API_VERSION", "1.12").args(words))
            .expect(0)
    };
    run(&["snapshot", &format!("container:{}", container.name)]);
    let claim = scene.snapshots().pop().unwrap()["consistency"].clone();
    assert_eq!(claim["one_moment"], json!(true), "{claim}");
    let (copy, data) =
        (Container::adopt(engine, &format!("{}-copy", container.name)), Volume::reserved(engine));
    run(&["restore", &format!("latest:volume:{}", volume.name), "--to", &format!("volume:{}", data.name)]);
    assert_eq!(std::fs::read_to_string(data.folder().join("file")).unwrap(), "kept");
    let from = format!("latest:container:{}", container.name);
    container.does("stop");
    run(&["restore", &from, "--to", &format!("container:{}", copy.name)]);
    copy.does("start");
    assert_eq!(copy.exec(&["cat", "/root/new", "/data/file"]), "l\nkept");
    let asked = proxy.lines();
    let is_pinned = |line: &&String| !is_version(line) && !line.contains(" /v1.40/");
    assert_eq!(asked.iter().find(is_pinned), None);
    drop((container, copy));
}

#[test]
fn a_volume_that_holds_the_repository_is_refused_where_it_is_named_and_left_out_of_the_rest() {
    let engine = Engine::named("containerd");
    let scene = Scene::new();
    let (own, other) = (engine.volume(), engine.volume());
    std::fs::write(other.folder().join("file"), "x").unwrap();
    // Another name of the same folder.
    let device = format!("device={}", own.folder().display());
    let bound = engine.volume_with(&["--opt", "type=none", "--opt", "o=bind", "--opt", &device]);
    let container = engine.run("base", &["--volume", &bound.at("/data")], &[]);
    let run = |words: &[&str]| {
        let mut command = scene.lifeboat();
        command.env("DOCKER_HOST", &engine.url).env("LIFEBOAT_REPOSITORY", own.folder().join("main"));
        Done::of(command.args(words))
    };
    run(&["init"]).expect(0);
    let (own_name, other_name) = (format!("volume:{}", own.name), format!("volume:{}", other.name));
    let (bound_name, container_name) =
        (format!("volume:{}", bound.name), format!("container:{}", container.name));
    for words in [
        &["snapshot", &own_name][..],
        &["snapshot", &other_name, &own_name],
        &["snapshot", &bound_name],
        &["snapshot", &container_name, &own_name],
        &["snapshot", "--dry-run", &own_name],
    ] {
        let said = run(words).expect(1);
        said.says("holds the repository, or lifeboat's cache or state")
            .says("Hint: lifeboat -r ELSEWHERE copy --from");
    }
    run(&["snapshot", &other_name]).expect(0);
    let said = run(&["snapshot", &container_name]).expect(0);
    said.says(&format!("volume {} is not captured", bound.name));
    let snapshots = run(&["snapshots", "--json"]).expect(0).json();
    assert_eq!(snapshots.len(), 2, "{snapshots:?}");
    assert_eq!(snapshots[1]["paths"], json!([container_name]));
}
