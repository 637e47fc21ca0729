//! Engines on whose disk files have other owners than in their containers: with `--userns-remap`, and without root.
//!
//! Must stay true: what is stored is what containers see. Without root, what the engine's archives say is that, and what is
//! on disk is not. With `--userns-remap` not even the archives say it, so all of it is refused by name.

use crate::engines::killable::KillableEngine;
use crate::engines::objects::{Container, Volume};
use crate::scene::{Done, Scene};
use serde_json::Value;
use std::os::unix::fs::MetadataExt;

/// Owners as containers see them, of files that they make.
const OWNER: u32 = 1234;
const GROUP: u32 = 77;

#[track_caller]
fn lifeboat(scene: &Scene, engine: &KillableEngine, arguments: &[&str]) -> Done {
    Done::of(scene.lifeboat().env("DOCKER_HOST", &engine.url).args(arguments))
}

/// Whose a file is in an archive. Large numbers stand in an extended header.
fn owner_in(archive: &[u8], name: &str) -> (u64, u64) {
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if !entry.path().unwrap().ends_with(name) {
            continue;
        }
        let extended: Vec<(String, u64)> = entry
            .pax_extensions()
            .unwrap()
            .into_iter()
            .flatten()
            .filter_map(|one| {
                let one = one.ok()?;
                Some((one.key().ok()?.to_owned(), one.value().ok()?.parse().ok()?))
            })
            .collect();
        let large = |key: &str| extended.iter().find(|(known, _)| known == key).map(|(_, number)| *number);
        let uid = large("uid").unwrap_or_else(|| entry.header().uid().unwrap());
        return (uid, large("gid").unwrap_or_else(|| entry.header().gid().unwrap()));
    }
    panic!("there is no {name} in the archive");
}

/// A service that has written into its volume, its layer and a path of the host.
struct Service {
    // Dropped in this order.
    container: Container,
    volume: Volume,
    scene: Scene,
}

impl Service {
    fn new(engine: &KillableEngine, label: &str) -> Self {
        let (scene, volume) = (Scene::with_repository(), engine.volume());
        scene.write("bound/file", "bound");
        let bind = format!("{}:/bound", scene.text("bound"));
        let options = ["--volume", &volume.at("/data"), "--volume", &bind, "--label", label];
        let container = engine.run("base", &options, &[]);
        let owner = format!("{OWNER}:{GROUP}");
        let write = format!(
            "for f in /data/file /root/file; do echo x >$f && chown {owner} $f; done; touch /data/root"
        );
        container.exec(&["sh", "-c", &write]);
        Self { container, volume, scene }
    }

    fn source(&self) -> String {
        format!("container:{}", self.container.name)
    }

    /// The disk has other owners; else these tests show nothing.
    fn assert_disk_differs(&self) {
        let file = std::fs::metadata(self.volume.folder().join("file")).unwrap();
        assert!(file.uid() > 1_000_000 && file.gid() > 1_000_000, "{} {}", file.uid(), file.gid());
    }

    /// What a snapshot has, as an archive tells it.
    fn owners(&self, source: &str, name: &str) -> (u64, u64) {
        let mut dump = self.scene.lifeboat();
        let archive = dump.args(["restore", &format!("latest:{source}"), "--to", "-"]).output().unwrap();
        owner_in(&archive.stdout, name)
    }

    fn detail(&self, source: &str) -> Value {
        let newest = self.scene.snapshots().pop().unwrap();
        let at = newest["paths"].as_array().unwrap().iter().position(|path| path == source).unwrap();
        newest["sources"][at]["detail"].clone()
    }
}

#[test]
fn where_user_ids_are_shifted_nothing_is_stored_and_nobody_is_touched() {
    let engine = KillableEngine::start("remapped");
    let service = Service::new(&engine, "lifeboat.stop=true");
    service.assert_disk_differs();
    // What the engine's archive says is what is on disk; else there is no reason to refuse.
    let archive =
        engine.docker(&["cp", &format!("{}:/data/file", service.container.name), "-"]).output().unwrap();
    let owner = owner_in(&archive.stdout, "file");
    assert!(owner.0 > 1_000_000, "{owner:?}");
    let started = service.container.started_at();
    for source in [service.source(), format!("volume:{}", service.volume.name)] {
        let said = lifeboat(&service.scene, &engine, &["snapshot", &source]).expect(1);
        said.says("the engine shifts user ids (userns-remap)");
    }
    assert!(service.scene.snapshots().is_empty());
    assert_eq!((service.container.state(), service.container.started_at()), ("running".into(), started));
    // Nor is anything restored there, where it could not be looked at.
    service.scene.write("tree/file", "x");
    let tree = service.scene.text("tree");
    service.scene.run(&["snapshot", &tree]).expect(0);
    let to = format!("volume:{}", Volume::reserved(&engine).name);
    let said =
        lifeboat(&service.scene, &engine, &["restore", &format!("latest:{tree}"), "--to", &to]).expect(1);
    said.says("the engine shifts user ids (userns-remap)");
    drop(service);
}

#[test]
fn where_the_engine_has_no_root_owners_are_those_that_containers_see() {
    let (engine, why) = (KillableEngine::start("rootless"), "the engine is rootless");
    // Without control groups there is nothing to pause by.
    let service = Service::new(&engine, "lifeboat.stop=true");
    service.assert_disk_differs();
    let (volume, started) = (format!("volume:{}", service.volume.name), service.container.started_at());
    // The path of the host is refused by name, and all else is there.
    let said = lifeboat(&service.scene, &engine, &["snapshot", &service.source()]).expect(3);
    said.says("bound of container").says(why).says("read through the engine");
    let consistency = service.scene.snapshots().pop().unwrap()["consistency"].clone();
    assert_eq!(consistency["containers"][0]["how"], "stopped", "{consistency}");
    assert_eq!(consistency["one_moment"], true, "{consistency}");
    assert_eq!(service.container.state(), "running");
    assert_ne!(service.container.started_at(), started);
    let read = service.detail(&volume)["read"].clone();
    assert_eq!(read["way"], "helper");
    assert!(read["why"].as_str().unwrap().contains(why), "{read}");
    assert_eq!(service.detail(&service.source())["layer"]["way"], "engine");
    let expected = (u64::from(OWNER), u64::from(GROUP));
    assert_eq!(service.owners(&volume, "file"), expected);
    assert_eq!(service.owners(&volume, "root"), (0, 0));
    assert_eq!(service.owners(&service.source(), "layer/root/file"), expected);

    let copy = Volume::reserved(&engine);
    let to = format!("volume:{}", copy.name);
    lifeboat(&service.scene, &engine, &["restore", &format!("latest:{volume}"), "--to", &to]).expect(0);
    let reader = engine.run("base", &["--volume", &copy.at("/data")], &[]);
    assert_eq!(
        reader.exec(&["stat", "-c", "%u %g", "/data/file", "/data/root"]),
        format!("{OWNER} {GROUP}\n0 0")
    );
    // Before their engine.
    drop((reader, copy, service));
}

#[test]
fn where_nothing_can_be_paused_that_is_said_and_nothing_is_left_down() {
    let engine = KillableEngine::start("rootless");
    let service = Service::new(&engine, "lifeboat.pause=true");
    let said = lifeboat(&service.scene, &engine, &["snapshot", &service.source()]);
    said.expect(13).says("could not be paused");
    assert!(service.scene.snapshots().is_empty());
    assert_eq!(service.container.state(), "running");
    drop(service);
}
