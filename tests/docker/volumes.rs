//! Volumes: into a snapshot and out of it, on disk and through the engine, and what is refused.

use crate::engines::objects::Volume;
use crate::engines::{Engine, on_every_engine};
use crate::scene::tree::{assert_same, survey};
use crate::scene::{Done, Scene, noise};
use serde_json::{Value, json};
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Runs lifeboat on an engine.
#[track_caller]
fn lifeboat(scene: &Scene, engine: &Engine, arguments: &[&str]) -> Done {
    Done::of(scene.lifeboat().env("DOCKER_HOST", &engine.url).args(arguments))
}

fn source(volume: &Volume) -> String {
    format!("volume:{}", volume.name)
}

fn stored(volume: &Volume) -> String {
    format!("latest:volume:{}", volume.name)
}

/// Some of everything that a folder can hold and an engine's archive can carry.
fn fill(folder: &Path) {
    std::fs::create_dir_all(folder.join("deep/er")).unwrap();
    std::fs::write(folder.join("deep/file"), b"content").unwrap();
    std::fs::write(folder.join("deep/er/large"), noise("volumes", 3 << 20)).unwrap();
    std::fs::write(folder.join("empty"), b"").unwrap();
    std::fs::hard_link(folder.join("deep/file"), folder.join("linked")).unwrap();
    symlink("deep/nowhere", folder.join("dangling")).unwrap();
    lchown(folder.join("deep/file"), Some(1234), Some(70_000)).unwrap();
    std::fs::set_permissions(folder.join("deep"), std::fs::Permissions::from_mode(0o2750)).unwrap();
    // A database does not start on a folder that is not its own.
    lchown(folder, Some(999), Some(998)).unwrap();
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).unwrap();
    let long = "n".repeat(200);
    std::fs::write(folder.join(&long), long.as_bytes()).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        folder.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let names = ["deep/file", "deep/er/large", "deep/er", "deep", "empty", "dangling", "pipe", &long, ""];
    names.iter().for_each(|name| set_time(&folder.join(name), 1_600_000_000, 0));
}

fn set_time(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    let here = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, here).unwrap();
}

/// What only a disk can keep: attributes, holes, sockets, parts of seconds.
fn fill_more(folder: &Path) {
    let sparse = std::fs::File::create(folder.join("sparse")).unwrap();
    sparse.write_all_at(b"end", 8 << 20).unwrap();
    rustix::fs::setxattr(folder.join("empty"), "user.note", b"kept", rustix::fs::XattrFlags::empty())
        .unwrap();
    drop(UnixListener::bind(folder.join("socket")).unwrap());
    set_time(&folder.join("empty"), 1_500_000_000, 123_456_789);
}

fn detail(scene: &Scene) -> Value {
    let snapshots = scene.run(&["snapshots", "--json"]).expect(0).json();
    snapshots.last().unwrap()["sources"][0]["detail"].clone()
}

on_every_engine! {
    fn a_volume_on_disk_comes_back_exactly_and_with_its_labels(engine: &Engine) {
        let scene = Scene::with_repository();
        let volume = engine.volume_with(&["--label", "team=blue", "--label", "com.docker.compose.volume=data"]);
        fill(&volume.folder());
        fill_more(&volume.folder());
        let expected = survey(&volume.folder());
        lifeboat(&scene, engine, &["snapshot", &source(&volume)]).expect(0);
        let labels = engine.inspect("volume", &volume.name)["Labels"].clone();
        assert_eq!(detail(&scene)["read"], json!({"way": "direct", "loses": []}));
        volume.destroy();
        lifeboat(&scene, engine, &["restore", &stored(&volume), "--to", &source(&volume)]).expect(0);
        assert_same(&expected, &survey(&volume.folder()));
        assert_eq!(engine.inspect("volume", &volume.name)["Labels"], labels);
        let second = Volume::reserved(engine);
        lifeboat(&scene, engine, &["restore", &stored(&volume), "--to", &source(&second)]).expect(0);
        assert_same(&expected, &survey(&second.folder()));
    }

    fn one_file_of_a_volume_comes_out_alone(engine: &Engine) {
        let scene = Scene::with_repository();
        let volume = engine.volume();
        fill(&volume.folder());
        lifeboat(&scene, engine, &["snapshot", &source(&volume)]).expect(0);
        let out = scene.text("out");
        let file = format!("{}/deep/file", stored(&volume));
        // The engine is not asked for what is in the repository.
        scene.run(&["restore", &file, "--to", &out]).expect(0);
        assert_eq!(std::fs::read(scene.path("out/file")).unwrap(), b"content");
        assert_eq!(std::fs::read_dir(&out).unwrap().count(), 1);
    }

    fn a_volume_that_only_the_engine_can_mount_comes_back_with_its_options(engine: &Engine) {
        let scene = Scene::with_repository();
        let (device, copy) = (scene.path("device"), scene.path("copy"));
        std::fs::create_dir_all(&device).unwrap();
        std::fs::create_dir_all(&copy).unwrap();
        fill(&device);
        let options = |device: &Path| {
            ["--opt".into(), "type=none".into(), "--opt".into(), "o=bind".into(), "--opt".into(), format!("device={}", device.display())]
        };
        let words = options(&device);
        let volume = engine.volume_with(&words.each_ref().map(String::as_str));
        let expected = survey(&device);
        let said = lifeboat(&scene, engine, &["snapshot", &source(&volume)]).expect(0);
        // Before the stream, not after it.
        said.says("read through the engine");
        assert_eq!(detail(&scene)["read"]["way"], "helper");
        // Made anew with the same options, it is the same folder; so that is emptied first.
        volume.destroy();
        std::fs::remove_dir_all(&device).unwrap();
        std::fs::create_dir(&device).unwrap();
        lifeboat(&scene, engine, &["restore", &stored(&volume), "--to", &source(&volume)]).expect(0);
        assert_same(&expected, &survey(&device));
        assert_eq!(engine.inspect("volume", &volume.name)["Options"]["device"], device.to_str().unwrap());
        // Another volume, which is there already, and keeps its options.
        let words = options(&copy);
        let other = engine.volume_with(&words.each_ref().map(String::as_str));
        let said = lifeboat(&scene, engine, &["restore", &stored(&volume), "--to", &source(&other)]).expect(0);
        said.says("option `device` has another value");
        assert_same(&expected, &survey(&copy));
    }

    fn a_volume_is_restored_into_only_where_nothing_is_lost_by_it(engine: &Engine) {
        let scene = Scene::with_repository();
        let volume = engine.volume();
        fill(&volume.folder());
        lifeboat(&scene, engine, &["snapshot", &source(&volume)]).expect(0);
        let restore = |to: &Volume, more: &[&str]| {
            lifeboat(&scene, engine, &[&["restore", &stored(&volume), "--to", &source(to)], more].concat())
        };
        restore(&volume, &[]).expect(1).says("is not empty");
        let memory = engine.volume_with(&["--opt", "type=tmpfs", "--opt", "device=tmpfs"]);
        restore(&memory, &[]).expect(1).says("is a tmpfs");
        let busy = engine.volume();
        let container = engine.run("base", &["--volume", &busy.at("/data")], &[]);
        restore(&busy, &[]).expect(1).says(&format!("is in use by {}", container.name));
        container.does("pause");
        restore(&busy, &[]).expect(1).says("is in use");
        container.does("unpause");
        assert_eq!(std::fs::read_dir(busy.folder()).unwrap().count(), 0);
        // What is asked for is done.
        std::fs::write(volume.folder().join("deep/file"), b"other").unwrap();
        restore(&volume, &["--overwrite", "always"]).expect(0);
        assert_eq!(std::fs::read(volume.folder().join("deep/file")).unwrap(), b"content");
    }

    fn whoever_may_write_into_a_volume_meanwhile_is_named(engine: &Engine) {
        let scene = Scene::with_repository();
        let volume = engine.volume();
        std::fs::write(volume.folder().join("file"), "x").unwrap();
        let reader = engine.run("base", &["--volume", &format!("{}:ro", volume.at("/data"))], &[]);
        let snapshot = || lifeboat(&scene, engine, &["snapshot", &source(&volume)]).expect(0);
        snapshot().says_not(&reader.name);
        let writer = engine.run("base", &["--volume", &volume.at("/data")], &[]);
        snapshot().says(&format!("may change while it is read: {} is running", writer.name));
        writer.does("pause");
        snapshot().says_not("may change");
        writer.does("unpause");
    }

    fn nothing_of_lifeboats_stays_on_the_engine(engine: &Engine) {
        let scene = Scene::with_repository();
        let volume = engine.volume();
        fill(&volume.folder());
        lifeboat(&scene, engine, &["snapshot", &source(&volume)]).expect(0);
        // Helpers carry the run: host name and process.
        let helpers = engine.say(&["ps", "--all", "--quiet", "--filter", &format!("volume={}", volume.name)]);
        assert_eq!(helpers, "");
    }

    fn a_volume_that_is_missing_is_named_and_the_rest_is_stored(engine: &Engine) {
        let scene = Scene::with_repository();
        let volume = engine.volume();
        std::fs::write(volume.folder().join("file"), "x").unwrap();
        let missing = Volume::reserved(engine);
        let said = lifeboat(&scene, engine, &["snapshot", &source(&volume), &source(&missing)]).expect(3);
        said.says(&missing.name);
        assert_eq!(scene.snapshots().len(), 1);
        let said = lifeboat(&scene, engine, &["snapshot", &source(&missing)]).expect(1);
        said.says("none of the sources can be read");
    }

    fn a_list_of_the_engine_says_what_is_protected_and_what_is_not(engine: &Engine) {
        let scene = Scene::with_repository();
        let (kept, new) = (engine.volume(), engine.volume());
        std::fs::write(kept.folder().join("file"), vec![7; 5000]).unwrap();
        let container = engine.create("base", &["--volume", &kept.at("/data"), "--tmpfs", "/scratch"], &[]);
        lifeboat(&scene, engine, &["snapshot", &source(&kept)]).expect(0);
        let list = lifeboat(&scene, engine, &["docker", "ls", "--json"]).expect(0).json();
        let find = |kind: &str, name: &str| {
            let of = |line: &&Value| line["message_type"] == kind && line["name"] == name;
            list.iter().find(of).unwrap_or_else(|| panic!("{kind} {name} is not listed")).clone()
        };
        let line = find("volume", &kept.name);
        assert!(line["last_snapshot"]["id"].is_string(), "{line}");
        assert_eq!(line["containers"], json!([container.name]));
        assert!(line["bytes"].as_u64().unwrap() >= 5000, "{line}");
        assert_eq!(find("volume", &new.name)["last_snapshot"], Value::Null);
        let line = find("container", &container.name);
        assert_eq!(line["remarks"], json!(["/scratch: tmpfs, in no snapshot"]));
        let text = lifeboat(&scene, engine, &["docker", "ls"]).expect(0).text();
        let row = text.lines().find(|line| line.starts_with(&new.name)).unwrap();
        assert!(row.contains("never"), "{row}");
    }
}

#[test]
fn where_no_engine_answers_the_exit_code_and_the_hint_say_so() {
    let scene = Scene::with_repository();
    let missing = format!("unix://{}", scene.text("no.sock"));
    for arguments in [&["docker", "ls"][..], &["snapshot", "volume:x"]] {
        let arguments = [arguments, &["--docker-host", &missing]].concat();
        scene.run(&arguments).expect(13).says("no engine answers at").says("Hint: docker -H");
    }
    scene.run(&["docker", "ls", "--docker-host", "ssh://host"]).expect(1).says("ssh is not supported");
    assert_eq!(scene.snapshots().len(), 0);
}

#[test]
fn where_this_user_may_not_use_the_socket_that_is_what_is_said() {
    let scene = Scene::new();
    let socket = scene.path("engine.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut program = std::process::Command::new("setpriv");
    scene.dress(&mut program).args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    program
        .arg(crate::scene::binary())
        .args(["docker", "ls", "--docker-host"])
        .arg(format!("unix://{}", socket.display()));
    program.env_remove("LIFEBOAT_REPOSITORY");
    Done::of(&mut program).expect(13).says("no permission to use the engine at").says("Hint: sudo");
    drop(listener);
}
