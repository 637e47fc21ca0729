//! How volumes of real engines are reached.

#![allow(clippy::unwrap_used, reason = "a test that cannot set its scene has failed")]

mod scene;

use lifeboat_workload::engine::{AnonymousVolumes, EventStream, NextEvent};
use lifeboat_workload::volume::helper_container::{Access, HELPER_LABEL, HelperContainer};
use lifeboat_workload::volume::leftovers::{self, Run};
use lifeboat_workload::volume::proof::{PROOF_LABEL, Proof};
use lifeboat_workload::volume::{Error, Volumes, Way};
use scene::{Scene, on_every_engine};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

/// Names and contents of the files in an archive; the end marker is asked for too.
fn files(mut archive: impl Read) -> BTreeMap<String, Vec<u8>> {
    let mut bytes = Vec::new();
    archive.read_to_end(&mut bytes).unwrap();
    assert!(bytes.ends_with(&[0; 1024]), "no end marker");
    let mut found = BTreeMap::new();
    for member in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
        let mut member = member.unwrap();
        let mut content = Vec::new();
        member.read_to_end(&mut content).unwrap();
        found.insert(member.path().unwrap().display().to_string(), content);
    }
    found
}

fn archive_of(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o640);
    header.set_uid(77);
    header.set_gid(88);
    header.set_mtime(1_234_567_890);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, name, content).unwrap();
    archive.into_inner().unwrap()
}

fn run_of(scene: &Scene) -> Volumes {
    Volumes::new(&scene.engine, &scene.prefix).unwrap()
}

/// Puts a file into a volume through the engine.
fn fill(scene: &Scene, volume: &str) {
    let volume = scene.engine.volume(volume).unwrap();
    let helper = HelperContainer::create(&scene.engine, &scene.prefix, &[(&volume, Access::Write)]).unwrap();
    helper.unpack(0, archive_of("note", b"kept").as_slice()).unwrap();
    helper.remove().unwrap();
}

#[test]
fn a_plain_volume_of_this_machines_engine_is_read_on_disk() {
    on_every_engine(|scene| {
        let name = scene.volume("plain", &[]);
        fill(scene, &name);
        let reached = run_of(scene).to_read(&name).unwrap();
        let Way::Direct(root) = &reached.way else { panic!("{:?}", reached.way) };
        assert_eq!(std::fs::read(root.join("note")).unwrap(), b"kept");
        assert_eq!(reached.detail()["read"], json!({"way": "direct", "loses": []}));
        assert!(reached.archive().is_none() && reached.notice().is_none());
    });
}

#[test]
fn the_proof_is_made_once_and_leaves_nothing_behind() {
    on_every_engine(|scene| {
        let volumes = run_of(scene);
        let (first, second) = (scene.volume("a", &[]), scene.volume("b", &[]));
        let events = scene.engine.events(&[("type", "container"), ("event", "create")]).unwrap();
        volumes.to_read(&first).unwrap();
        volumes.to_read(&second).unwrap();
        assert!(matches!(volumes.proof().unwrap(), Proof::Proven(_)));
        // One for the proof, and one for each volume, to see it as the engine does.
        assert_eq!(helpers_made(events, scene), 3);
        let label = format!("{PROOF_LABEL}={}", scene.prefix);
        assert_eq!(scene.engine.volumes(&[&label]).unwrap().len(), 0);
        assert_eq!(scene.helpers(), [""; 0]);
    });
}

/// How many helpers this scene's runs have made since; a container of ours marks the end.
fn helpers_made(mut events: EventStream, scene: &Scene) -> usize {
    let last = scene.container("last");
    let mut made = 0;
    while let NextEvent::Event(event) = events.next(Duration::from_secs(20)).unwrap() {
        if event.actor == last {
            return made;
        }
        made += usize::from(event.attributes.get(HELPER_LABEL) == Some(&scene.prefix));
    }
    panic!("the last container never came");
}

#[test]
fn a_volume_with_options_is_read_through_the_engine_which_mounts_it() {
    on_every_engine(|scene| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("note"), "on another disk").unwrap();
        let device = folder.path().to_str().unwrap();
        let name = scene.volume("bound", &[("type", "none"), ("o", "bind"), ("device", device)]);
        let volume = scene.engine.volume(&name).unwrap();
        // What would be found without the handling: the engine mounts the folder only while it is in use.
        assert!(!std::path::Path::new(&volume.mount_point).join("note").exists());
        let reached = run_of(scene).to_read(&name).unwrap();
        let files = files(reached.archive().unwrap().unwrap());
        assert_eq!(files["./note"], b"on another disk");
        let detail = reached.detail();
        assert_eq!(detail["options"]["device"], device);
        assert_eq!(detail["read"]["way"], "helper");
        assert!(detail["read"]["why"].as_str().unwrap().contains("type `none`"), "{detail}");
        assert!(!detail["read"]["loses"].as_array().unwrap().is_empty());
    });
}

#[test]
fn an_archive_through_a_helper_has_the_volumes_files_and_their_owners() {
    on_every_engine(|scene| {
        let name = scene.volume("plain", &[]);
        fill(scene, &name);
        let volume = scene.engine.volume(&name).unwrap();
        let helper =
            HelperContainer::create(&scene.engine, &scene.prefix, &[(&volume, Access::Read)]).unwrap();
        let mut bytes = Vec::new();
        helper.archive(0).unwrap().read_to_end(&mut bytes).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let member = archive
            .entries()
            .unwrap()
            .map(Result::unwrap)
            .find(|member| member.path().unwrap().ends_with("note"))
            .unwrap();
        let header = member.header();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (77, 88));
        assert_eq!((header.mode().unwrap() & 0o7777, header.mtime().unwrap()), (0o640, 1_234_567_890));
        // It is mounted read-only.
        assert!(helper.unpack(0, archive_of("other", b"x").as_slice()).is_err());
        helper.remove().unwrap();
    });
}

#[test]
fn a_volume_that_was_removed_is_not_made_anew_and_read_as_empty() {
    on_every_engine(|scene| {
        let name = scene.volume("gone", &[]);
        let volume = scene.engine.volume(&name).unwrap();
        scene.engine.remove_volume(&name).unwrap();
        let error =
            HelperContainer::create(&scene.engine, &scene.prefix, &[(&volume, Access::Read)]).unwrap_err();
        assert!(matches!(error, Error::Vanished { .. }), "{error:?}");
        assert!(scene.engine.volume(&name).unwrap_err().is_not_found());
        assert_eq!(scene.helpers(), [""; 0]);
    });
}

#[test]
fn a_helper_goes_with_its_value() {
    on_every_engine(|scene| {
        let name = scene.volume("plain", &[]);
        let volume = scene.engine.volume(&name).unwrap();
        let helper =
            HelperContainer::create(&scene.engine, &scene.prefix, &[(&volume, Access::Read)]).unwrap();
        assert_eq!(scene.helpers(), [helper.id()]);
        assert_eq!(scene.engine.container(helper.id()).unwrap().state.status, "created");
        drop(helper);
        assert_eq!(scene.helpers(), [""; 0]);
    });
}

#[test]
fn a_volume_whose_helper_was_removed_is_an_error_and_not_an_empty_volume() {
    on_every_engine(|scene| {
        let name = scene.volume("plain", &[]);
        let volume = scene.engine.volume(&name).unwrap();
        let helper =
            HelperContainer::create(&scene.engine, &scene.prefix, &[(&volume, Access::Write)]).unwrap();
        scene.engine.remove_container(helper.id(), AnonymousVolumes::Keep).unwrap();
        assert!(helper.archive(0).is_err());
    });
}

#[test]
fn a_tmpfs_volume_is_told_to_be_one() {
    on_every_engine(|scene| {
        let name = scene.volume("memory", &[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m")]);
        let reached = run_of(scene).to_read(&name).unwrap();
        assert!(reached.notice().unwrap().contains("only while a container uses it"));
        assert_eq!(files(reached.archive().unwrap().unwrap()).keys().filter(|name| *name != "./").count(), 0);
    });
}

#[test]
fn what_is_not_there_is_said_to_be_missing() {
    on_every_engine(|scene| {
        let Err(Error::Engine(error)) = run_of(scene).to_read("lifeboat-no-such-volume") else { panic!() };
        assert!(error.is_not_found(), "{error:?}");
        assert!(error.to_string().contains("lifeboat-no-such-volume"), "{error}");
    });
}

/// A file system in memory.
struct Memory(std::path::PathBuf);

impl Memory {
    fn mount(place: std::path::PathBuf) -> Self {
        std::fs::create_dir_all(&place).unwrap();
        let status = std::process::Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&place).status();
        assert!(status.unwrap().success(), "tests of volumes need root");
        Self(place)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// A volume that is this folder, with everything that is mounted in it.
fn bound(scene: &Scene, name: &str, folder: &std::path::Path) -> String {
    scene.volume(name, &[("type", "none"), ("o", "rbind"), ("device", folder.to_str().unwrap())])
}

#[test]
fn files_of_two_file_systems_are_not_taken_for_links_of_each_other() {
    use std::os::unix::fs::MetadataExt;
    on_every_engine(|scene| {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("1"), folder.path().join("2"));
        let _mounts = (Memory::mount(one.clone()), Memory::mount(two.clone()));
        for (place, content) in [(&one, "AAAA"), (&two, "BBBB")] {
            // Within one tick of the kernel's clock: their times are equal too.
            std::fs::write(place.join("file"), content).unwrap();
            std::fs::hard_link(place.join("file"), place.join("link")).unwrap();
        }
        let inode = |place: &std::path::Path| std::fs::metadata(place.join("file")).unwrap().ino();
        assert_eq!(inode(&one), inode(&two), "the kernel numbers files in memory in another way now");
        let name = bound(scene, "nested", folder.path());
        let reached = run_of(scene).to_read(&name).unwrap();
        let error = reached.archive().unwrap().unwrap().read_to_end(&mut Vec::new()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("2/file") && text.contains("1/file"), "{text}");
        drop(reached);
        assert_eq!(scene.helpers(), [""; 0]);
    });
}

#[test]
fn links_within_a_volume_pass() {
    on_every_engine(|scene| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "AAAA").unwrap();
        std::fs::hard_link(folder.path().join("file"), folder.path().join("link")).unwrap();
        let name = bound(scene, "linked", folder.path());
        let reached = run_of(scene).to_read(&name).unwrap();
        assert!(files(reached.archive().unwrap().unwrap()).contains_key("./link"));
        drop(reached);
        assert_eq!(scene.helpers(), [""; 0]);
    });
}

#[test]
fn what_a_killed_run_left_is_removed_and_nothing_of_a_live_one() {
    on_every_engine(|scene| {
        let state = tempfile::tempdir().unwrap();
        let volume = scene.engine.volume(&scene.volume("plain", &[])).unwrap();
        let live = Run::begin(state.path()).unwrap();
        let helper =
            |run: &str| HelperContainer::create(&scene.engine, run, &[(&volume, Access::Read)]).unwrap();
        let (living, dead, foreign) = (helper(live.name()), helper("dead0"), helper("f0re1gn"));
        let proof = format!("{}-proof", scene.prefix);
        let labels = [(PROOF_LABEL.to_owned(), "dead0".to_owned())].into();
        scene.engine.create_volume(Some(&proof), "local", &Default::default(), &labels).unwrap();
        // A killed run's lock file is there and not locked.
        std::fs::write(state.path().join("helpers/dead0"), "").unwrap();
        let removed = leftovers::remove(&scene.engine, state.path()).unwrap();
        assert_eq!(removed.len(), 2, "{removed:?}");
        let is_there = |helper: &HelperContainer| scene.engine.container(helper.id()).is_ok();
        assert!(is_there(&living) && is_there(&foreign) && !is_there(&dead));
        assert!(scene.engine.volume(&proof).unwrap_err().is_not_found());
        assert_eq!(leftovers::remove(&scene.engine, state.path()).unwrap(), [""; 0]);
    });
}
