//! Containers: one snapshot of one moment with everything that is theirs, and services that are as before.

use crate::engines::objects::{Container, Volume};
use crate::engines::{Engine, on_every_engine};
use crate::kills::proxy::{At, Proxy, When};
use crate::scene::{Done, Scene};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Runs lifeboat on an engine.
#[track_caller]
fn lifeboat(scene: &Scene, engine: &Engine, arguments: &[&str]) -> Done {
    Done::of(scene.lifeboat().env("DOCKER_HOST", &engine.url).args(arguments))
}

fn source(container: &Container) -> String {
    format!("container:{}", container.name)
}

#[track_caller]
fn latest(scene: &Scene) -> Value {
    scene.snapshots().pop().unwrap()
}

/// A source of a snapshot by what it is called.
#[track_caller]
fn find(snapshot: &Value, path: &str) -> Value {
    let at = snapshot["paths"].as_array().unwrap().iter().position(|one| one == path);
    let at = at.unwrap_or_else(|| panic!("there is no {path} in {snapshot}"));
    snapshot["sources"][at].clone()
}

/// How a container was in the moment of a snapshot.
#[track_caller]
fn how(snapshot: &Value, container: &Container) -> Value {
    let all = snapshot["consistency"]["containers"].as_array().unwrap().clone();
    let found = all.iter().find(|one| one["name"] == container.name.as_str());
    found.unwrap_or_else(|| panic!("{} is not in {all:?}", container.name))["how"].clone()
}

/// A volume that only the engine reads, which it does while services are held.
fn streamed(scene: &Scene, engine: &Engine) -> Volume {
    scene.write("device/file", "x");
    let device = format!("device={}", scene.text("device"));
    engine.volume_with(&["--opt", "type=none", "--opt", "o=bind", "--opt", &device])
}

/// A request that is made only while services are held.
fn streams(line: &str) -> bool {
    line.starts_with("GET") && line.contains("/archive")
}

/// A capture in which something happens at a request.
#[track_caller]
fn disturbed(scene: &Scene, engine: &Engine, container: &Container, at: At, deed: &[&str]) -> Done {
    let words: Vec<String> = deed.iter().map(|word| (*word).to_owned()).collect();
    let engine_too = engine.clone();
    let deed = Box::new(move || _ = engine_too.say(&words));
    let proxy = Proxy::start(&scene.path("proxy.sock"), &engine.url, (at, When::Before), deed);
    let mut command = scene.lifeboat();
    let done = Done::of(command.env("DOCKER_HOST", proxy.host()).args(["snapshot", &source(container)]));
    assert!(proxy.has_fired(), "nothing happened: {done}");
    done
}

/// Nothing of lifeboat's is on the engine for these volumes, and no journal is left.
#[track_caller]
fn assert_nothing_is_left(scene: &Scene, engine: &Engine) {
    let journals = std::fs::read_dir(scene.path("state/lifeboat/holds"));
    let left: Vec<_> = journals.into_iter().flatten().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == "gate"), "{left:?} on {}", engine.name);
}

on_every_engine! {
    fn a_container_is_captured_with_its_layer_its_volumes_and_its_paths(engine: &Engine) {
        let scene = Scene::with_repository();
        let volume = engine.volume();
        let (data, secret) = (scene.path("data"), scene.path("secret"));
        scene.write("data/file", "bound");
        scene.write("data/cache/file", "left out");
        scene.write("secret", "one file");
        let mount = |path: &Path, at: &str| format!("{}:{at}", path.display());
        let container = engine.run(
            "base",
            &[
                "--volume", &volume.at("/volume"), "--volume", "/anonymous", "--tmpfs", "/scratch",
                "--volume", &mount(&data, "/data"), "--volume", &mount(&data.join("cache"), "/cache"),
                "--volume", &mount(&secret, "/secret"), "--volume", "/proc:/host/proc:ro",
                "--label", "lifeboat.exclude=/cache", "--env", "A=B",
            ],
            &[],
        );
        container.exec(&["sh", "-c", "echo v >/volume/file; echo a >/anonymous/file; echo l >/root/new; rm /etc/issue"]);
        let described = container.inspect();
        let said = lifeboat(&scene, engine, &["snapshot", &source(&container)]).expect(0);
        let said = said.says("/proc of container").says("/scratch (tmpfs)");
        said.prints("Services were held for");
        assert_eq!(scene.snapshots().len(), 1);
        let snapshot = latest(&scene);

        let out = scene.text("out");
        let take = |what: &str| {
            let _ = std::fs::remove_dir_all(&out);
            scene.run(&["restore", &format!("latest:{what}"), "--to", &out]).expect(0);
        };
        let read = |name: &str| std::fs::read_to_string(scene.path("out").join(name));
        take(&source(&container));
        let kept: Value = serde_json::from_str(&read("container.json").unwrap()).unwrap();
        for part in ["Id", "Config", "HostConfig"] {
            assert_eq!(kept[part], described[part], "{part}");
        }
        let image: Value = serde_json::from_str(&read("image.json").unwrap()).unwrap();
        assert_eq!(image["Id"], described["Image"]);
        let layer: Value = serde_json::from_str(&read("layer.json").unwrap()).unwrap();
        assert_eq!(layer["version"], 1);
        let detail = find(&snapshot, &source(&container))["detail"].clone();
        assert_eq!(layer["way"], "direct");
        assert_eq!(detail["layer"]["way"], "direct");
        assert_eq!(read("layer/root/new").unwrap(), "l\n");
        let gone = std::fs::symlink_metadata(scene.path("out/layer/etc/issue")).unwrap();
        assert!(std::os::unix::fs::FileTypeExt::is_char_device(&gone.file_type()));
        assert!(read("layer/volume/file").is_err() && read("layer/etc/hostname").is_err());

        let named = format!("volume:{}", volume.name);
        take(&named);
        assert_eq!(read("file").unwrap(), "v\n");
        assert_eq!(find(&snapshot, &named)["detail"]["anonymous"], json!(false));
        let volumes = detail["volumes"].as_array().unwrap();
        let anonymous = volumes.iter().find(|one| one["destination"] == "/anonymous").unwrap();
        assert_eq!((&anonymous["anonymous"], &anonymous["captured"]), (&json!(true), &json!(true)));
        let anonymous = format!("volume:{}", anonymous["name"].as_str().unwrap());
        take(&anonymous);
        assert_eq!(read("file").unwrap(), "a\n");
        assert_eq!(find(&snapshot, &anonymous)["detail"]["anonymous"], json!(true));

        take(data.to_str().unwrap());
        assert_eq!(read("file").unwrap(), "bound");
        assert!(read("cache/file").is_err(), "what a label leaves out is left out of what holds it");
        let binds = detail["binds"].as_array().unwrap();
        let bind = |at: &str| binds.iter().find(|one| one["destination"] == at).unwrap().clone();
        assert_eq!(bind("/data")["captured"], json!(true));
        assert_eq!(bind("/secret")["captured"], json!(true));
        assert_eq!(bind("/cache")["excluded"], json!(true));
        assert_eq!(bind("/host/proc")["why"], "it belongs to the running system");
        let of_path = find(&snapshot, data.to_str().unwrap())["detail"].clone();
        assert_eq!(of_path["binds"][0]["destination"], "/data");
        assert_eq!(snapshot["sources"].as_array().unwrap().len(), 5);
        assert_eq!(container.state(), "running");
        assert_nothing_is_left(&scene, engine);
    }

    fn whoever_writes_is_quiet_for_the_moment_and_as_before_afterwards(engine: &Engine) {
        let scene = Scene::with_repository();
        let volume = engine.volume();
        let mount = volume.at("/data");
        let writing = |options: &[&str]| {
            let script = "trap 'exit 0' TERM; while :; do echo $((n=n+1)) >>/data/$HOSTNAME; sleep 0.01; done";
            engine.run("base", &[&["--volume", &mount], options].concat(), &["sh", "-c", script])
        };
        let named = writing(&[]);
        let stopped = writing(&["--label", "lifeboat.stop=true"]);
        let beside = engine.run("base", &["--volume", &format!("{mount}:ro")], &[]);
        let starts = [named.started_at(), stopped.started_at(), beside.started_at()];
        let said = lifeboat(&scene, engine, &["snapshot", "--json", &source(&named)]).expect(0);
        let claim = said.message("summary")["consistency"].clone();
        assert_eq!(claim["one_moment"], json!(true), "{claim}");
        assert!(claim["quiet_millis"].as_u64().unwrap() > 0 && claim["moment"].is_string());
        let snapshot = latest(&scene);
        assert_eq!(how(&snapshot, &named), "paused");
        assert_eq!(how(&snapshot, &stopped), "stopped");
        assert_eq!(snapshot["consistency"]["containers"].as_array().unwrap().len(), 2);
        assert_eq!([named.state(), stopped.state(), beside.state()], ["running"; 3].map(String::from));
        assert_eq!(named.started_at(), starts[0]);
        assert_ne!(stopped.started_at(), starts[1]);
        assert_eq!(beside.started_at(), starts[2]);
        assert_nothing_is_left(&scene, engine);
    }

    fn commands_run_around_a_capture_and_the_last_ones_always(engine: &Engine) {
        let scene = Scene::with_repository();
        let volume = engine.volume();
        let (mount, log) = (volume.at("/data"), volume.folder().join("log"));
        let container = engine.run(
            "base",
            &[
                "--volume", &mount,
                "--label", r#"lifeboat.pre=["sh","-c","echo pre >>/data/log"]"#,
                "--label", r#"lifeboat.pre.2=["sh","-c","echo held >>/data/log; echo ready; cat; echo let go >>/data/log"]"#,
                "--label", "lifeboat.pre.2.hold=true",
                "--label", r#"lifeboat.post=["sh","-c","echo post >>/data/log"]"#,
            ],
            &[],
        );
        // Services do not wait for the commit.
        let (repository, commits) = (scene.path("repository/snapshots"), Arc::new(Mutex::new(Vec::new())));
        let counts = Arc::clone(&commits);
        let deed = Box::new(move || {
            counts.lock().unwrap().push(std::fs::read_dir(&repository).map_or(0, Iterator::count));
        });
        let execs = At::Every(|line| line.starts_with("POST") && line.contains("/exec "));
        let proxy = Proxy::start(&scene.path("proxy.sock"), &engine.url, (execs, When::Answered), deed);
        let mut command = scene.lifeboat();
        command.env("DOCKER_HOST", proxy.host()).args(["snapshot", &source(&container)]);
        Done::of(&mut command).expect(0);
        assert_eq!(*commits.lock().unwrap(), [0, 0, 0]);
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "pre\nheld\nlet go\npost\n");
        let inside = scene.run(&["dump", &format!("latest:volume:{}/log", volume.name)]).expect(0).text();
        assert_eq!(inside, "pre\nheld\n");

        let failing = engine.run(
            "base",
            &[
                "--volume", &mount, "--label", "lifeboat.pre=false",
                "--label", r#"lifeboat.post=["sh","-c","echo after failure >>/data/log"]"#,
            ],
            &[],
        );
        std::fs::remove_file(&log).unwrap();
        lifeboat(&scene, engine, &["snapshot", &source(&failing)]).expect(1).says("`false` in container");
        assert!(std::fs::read_to_string(&log).unwrap().contains("after failure\n"));
        assert_eq!(scene.snapshots().len(), 1);
        assert_eq!(failing.state(), "running");
        assert_nothing_is_left(&scene, engine);
    }

    fn what_is_not_healthy_is_marked_or_not_captured_at_all(engine: &Engine) {
        let scene = Scene::with_repository();
        let volume = engine.volume();
        let mount = volume.at("/data");
        let options = [
            "--volume", &mount, "--health-cmd", "test -e /data/well", "--health-interval", "1s",
            "--health-retries", "1", "--label", r#"lifeboat.pre=["touch","/data/touched"]"#,
        ];
        let container = engine.run("base", &options, &[]);
        let run = |more: &[&str]| lifeboat(&scene, engine, &[&["snapshot", &source(&container)], more].concat());
        run(&["--require-healthy", "--wait-ready", "0"]).expect(4).says("only while it is healthy").says("Hint: docker inspect");
        assert!(scene.snapshots().is_empty() && !volume.folder().join("touched").exists());
        run(&["--wait-ready", "2"]).expect(3).says("waiting for container");
        assert!(latest(&scene)["unhealthy"][0].as_str().unwrap().contains("its health check"));
        assert!(volume.folder().join("touched").exists());
        // Not a good last one.
        let list = lifeboat(&scene, engine, &["docker", "ls", "--json"]).expect(0).json();
        let line = list.iter().find(|line| line["name"] == container.name.as_str()).unwrap();
        assert_eq!(line["last_snapshot"], Value::Null);
        std::fs::write(volume.folder().join("well"), "").unwrap();
        run(&["--require-healthy"]).expect(0);
        assert_eq!(latest(&scene)["unhealthy"], Value::Null);
    }

    fn a_dry_run_says_what_would_be_done_and_touches_nothing(engine: &Engine) {
        let scene = Scene::with_repository();
        let volume = engine.volume();
        let mount = volume.at("/data");
        let paused = engine.run(
            "base",
            &["--volume", &mount, "--label", "lifeboat.pre=touch /data/x", "--label", "lifeboat.post=touch /data/y"],
            &[],
        );
        let stopped = engine.run("base", &["--volume", &mount, "--label", "lifeboat.stop=true"], &[]);
        let start = stopped.started_at();
        let said = lifeboat(&scene, engine, &["snapshot", "--dry-run", &source(&paused)]).expect(0);
        let said = said.prints(&format!("Would pause {}, for at most 30 s", paused.name));
        let said = said.prints(&format!("Would stop {}", stopped.name));
        said.prints(&format!("Would run before, in {}: touch /data/x", paused.name)).prints("Would run afterwards");
        let plan = lifeboat(&scene, engine, &["snapshot", "--dry-run", "--json", &source(&paused)]);
        let plan = plan.expect(0).message("plan");
        assert_eq!(plan["captured"], json!([paused.name]));
        assert_eq!(plan["steps"].as_array().unwrap().len(), 2);
        assert!(scene.snapshots().is_empty());
        assert_eq!(std::fs::read_dir(volume.folder()).unwrap().count(), 0);
        assert_eq!(stopped.started_at(), start);
        assert!(!scene.path("state/lifeboat/holds").exists());
    }

    fn a_volume_that_only_the_engine_reads_is_announced_and_held_for_as_a_whole(engine: &Engine) {
        let scene = Scene::with_repository();
        let volume = streamed(&scene, engine);
        let container = engine.run("base", &["--volume", &volume.at("/data")], &[]);
        let said = lifeboat(&scene, engine, &["snapshot", &source(&container)]).expect(0);
        said.says("services are held until the last stream").says("read through the engine");
        let snapshot = latest(&scene);
        assert_eq!(find(&snapshot, &format!("volume:{}", volume.name))["detail"]["read"]["way"], "helper");
        assert_eq!(how(&snapshot, &container), "paused");
        assert_eq!(container.state(), "running");
    }

    fn a_capture_that_somebody_disturbed_is_taken_again_or_marked(engine: &Engine) {
        let scene = Scene::with_repository();
        let volume = streamed(&scene, engine);
        let container = engine.run("base", &["--volume", &volume.at("/data")], &[]);
        let restart = ["restart", "--time", "0", &container.name];
        disturbed(&scene, engine, &container, At::First(streams), &restart).expect(0).says("reading again");
        let claim = latest(&scene)["consistency"].clone();
        assert_eq!(claim["one_moment"], json!(true), "{claim}");
        assert!(claim["trouble"][0].as_str().unwrap().contains("did not stay as it was made"), "{claim}");
        disturbed(&scene, engine, &container, At::Every(streams), &restart).expect(3).says("not of one moment");
        let claim = latest(&scene)["consistency"].clone();
        assert_eq!(claim["one_moment"], json!(false), "{claim}");
        assert_eq!(container.state(), "running");
        // Somebody else begins to write.
        let other = engine.create("base", &["--volume", &volume.at("/data")], &[]);
        let said = disturbed(&scene, engine, &container, At::First(streams), &["start", &other.name]);
        said.expect(0).says(&format!("{} began to write", other.name));
        assert_eq!(how(&latest(&scene), &other), "paused");
        assert_nothing_is_left(&scene, engine);
    }

    fn what_lifeboat_hangs_on_and_what_would_not_come_back_is_not_stopped(engine: &Engine) {
        let scene = Scene::with_repository();
        let volume = engine.volume();
        let mount = volume.at("/data");
        let stop = "lifeboat.stop=true";
        let fleeting = engine.run("base", &["--volume", &mount, "--rm", "--label", stop], &[]);
        let around = format!("{}:/backup", scene.text(""));
        let carrier = engine.run("base", &["--volume", &mount, "--volume", &around, "--label", stop], &[]);
        let own = engine.run("base", &["--volume", &mount], &[]);
        own.does("pause");
        let starts = [fleeting.started_at(), carrier.started_at(), own.started_at()];
        let named = [source(&fleeting), source(&carrier), source(&own)];
        let words: Vec<&str> = ["snapshot"].into_iter().chain(named.iter().map(String::as_str)).collect();
        let said = lifeboat(&scene, engine, &words).expect(0);
        let said = said.says(&format!("container {}: it is paused, not stopped", fleeting.name));
        let said = said.says(&format!("container {}: it is left alone", carrier.name));
        said.says("is not captured: it and");
        let snapshot = latest(&scene);
        assert_eq!(how(&snapshot, &fleeting), "paused");
        assert_eq!(how(&snapshot, &carrier), "ran on");
        assert_eq!(how(&snapshot, &own), "paused by somebody else");
        // One of them may have written.
        assert_eq!(snapshot["consistency"]["one_moment"], json!(false));
        assert_eq!([fleeting.state(), carrier.state(), own.state()], ["running", "running", "paused"].map(String::from));
        assert_eq!([fleeting.started_at(), carrier.started_at(), own.started_at()], starts);
        assert_nothing_is_left(&scene, engine);
    }

    fn a_container_that_is_removed_while_it_is_captured_leaves_a_marked_snapshot(engine: &Engine) {
        let scene = Scene::with_repository();
        let volume = engine.volume();
        std::fs::write(volume.folder().join("file"), "kept").unwrap();
        let container = engine.run("base", &["--volume", &volume.at("/data")], &[]);
        let pauses = |line: &str| line.starts_with("POST") && line.contains("/pause ");
        let remove = ["rm", "--force", &container.name];
        disturbed(&scene, engine, &container, At::First(pauses), &remove).expect(3).says("was removed meanwhile");
        assert_eq!(latest(&scene)["consistency"]["one_moment"], json!(false));
        let kept = scene.run(&["dump", &format!("latest:volume:{}/file", volume.name)]).expect(0).text();
        assert_eq!(kept, "kept");
        assert_nothing_is_left(&scene, engine);
    }

    fn bound_paths_go_back_where_they_were_or_where_they_are_mapped_and_never_over_something(engine: &Engine) {
        let scene = Scene::with_repository();
        let (data, file) = (scene.path("host/data"), scene.path("host/conf"));
        scene.write("host/data/deep/file", "bound");
        scene.write("host/conf", "one file");
        let mount = |path: &Path, at: &str| format!("{}:{at}", path.display());
        let container = engine.run("base", &["--volume", &mount(&data, "/data"), "--volume", &mount(&file, "/conf")], &[]);
        lifeboat(&scene, engine, &["snapshot", &source(&container)]).expect(0);
        let restore = |more: &[&str]| scene.run(&[&["restore", "latest", "--to", "host:"], more].concat());
        restore(&[]).expect(1).says("is not empty").says("Hint: --map-path");
        let map = format!("{}={}", scene.text("host"), scene.text("new"));
        restore(&["--map-path", &map]).expect(0);
        assert_eq!(std::fs::read_to_string(scene.path("new/data/deep/file")).unwrap(), "bound");
        assert_eq!(std::fs::read_to_string(scene.path("new/conf")).unwrap(), "one file");
        assert_eq!(std::fs::read_dir(scene.path("new")).unwrap().count(), 2);
        // One of the two places is taken: neither is written.
        std::fs::remove_dir_all(scene.path("new/data")).unwrap();
        restore(&["--map-path", &map]).expect(1).says("is not empty");
        assert!(!scene.path("new/data").exists());
        container.does("kill");
        std::fs::remove_dir_all(scene.path("host")).unwrap();
        restore(&[]).expect(0);
        assert_eq!(std::fs::read_to_string(data.join("deep/file")).unwrap(), "bound");
        std::fs::write(data.join("deep/file"), "other").unwrap();
        restore(&["--overwrite", "always"]).expect(0);
        assert_eq!(std::fs::read_to_string(data.join("deep/file")).unwrap(), "bound");
        restore(&["--map-path", &format!("{}={}", file.display(), scene.text("renamed"))]).expect(1);
        let one = format!("latest:{}", data.display());
        scene.run(&["restore", &one, "--to", "host:", "--map-path", &map]).expect(0);
        scene.run(&["restore", &one, "--to", "elsewhere", "--map-path", &map]).expect(1).says("another target");
        let volume = format!("latest:{}", source(&container));
        scene.run(&["restore", &volume, "--to", "host:"]).expect(1).says("is no path of the host");
    }

    fn names_that_are_nobodys_are_told(engine: &Engine) {
        let scene = Scene::with_repository();
        let missing = Volume::reserved(engine);
        let name = format!("container:{}", missing.name);
        lifeboat(&scene, engine, &["snapshot", &name]).expect(1).says("there is no container").says("Hint: lifeboat docker ls");
        let container = engine.run("base", &[], &[]);
        let volume = format!("volume:{}", missing.name);
        lifeboat(&scene, engine, &["snapshot", &source(&container), &volume]).expect(3).says(&missing.name);
        assert_eq!(scene.snapshots().len(), 1);
    }
}
