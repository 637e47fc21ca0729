//! Snapshots and engines that are not as one would wish: names that moved, ports that are taken, engines that are older,
//! projects of which a part is there.

use crate::engines::objects::{Container, Image};
use crate::engines::{Engine, on_every_engine};
use crate::project::{Project, command};
use crate::scene::{Done, Scene};
use std::process::Stdio;

/// The same project on another engine, to which it comes.
fn arrived<'t>(project: &Project<'t>, engine: &'t Engine) -> Project<'t> {
    let image = Image::adopt(engine, &project.image.name);
    Project { scene: project.scene, engine, name: project.name.clone(), image, port: project.port }
}

#[track_caller]
fn snapshot(project: &Project<'_>) {
    project.lifeboat(&["snapshot", &format!("project:{}", project.name)]).expect(0);
}

on_every_engine! {
    fn a_container_whose_images_name_moved_on_comes_back_with_its_own_image(engine: &Engine) {
        let scene = Scene::with_repository();
        let project = Project::up_with_checks(&scene, engine);
        project.write_data();
        let own = project.image.id();
        let newer = Image::make_as(engine, &project.image.name, "newer");
        assert_ne!(newer.id(), own);
        snapshot(&project);
        project.try_wipe();
        let _ = engine.docker(&["rmi", "--force", &own]).output();
        assert!(!engine.has("image", &own) && !engine.has("image", &newer.name));
        project.lifeboat(&["restore", "latest", "--to", "project:", "--wait-healthy", "2m"]).expect(0);
        project.has_data();
        // Nothing was deleted in this one, so that it has no image of its own.
        assert_eq!(engine.inspect("container", &project.container("web"))["Image"], own.as_str());
        assert_eq!(project.exec("db", "cat /hello"), "project");
        drop(project);
        drop(Image::adopt(engine, &own));
    }
}

#[test]
fn a_project_comes_back_on_an_older_engine_and_on_another_kind_of_store() {
    for (from, to, moves) in
        [("graph", "system", false), ("containerd", "system", true), ("system", "containerd", true)]
    {
        let (from, to) = (Engine::named(from), Engine::named(to));
        let scene = Scene::with_repository();
        let project = Project::up_with_checks(&scene, from);
        project.write_data();
        // Its containers' image has no name then, and on the other store another id.
        let newer = moves.then(|| Image::make_as(from, &project.image.name, "newer"));
        snapshot(&project);
        let there = arrived(&project, to);
        there.lifeboat(&["restore", "latest", "--to", "project:", "--wait-healthy", "2m"]).expect(0);
        there.has_data();
        assert_eq!(there.exec("db", "cat /hello"), "project");
        let image =
            there.engine.inspect("container", &there.container("web"))["Image"].as_str().unwrap().to_owned();
        drop(newer);
        drop(there);
        drop(Image::adopt(to, &image));
    }
}

/// A process that listens where an engine publishes its ports.
struct Listener(std::process::Child);

impl Listener {
    fn new(engine: &Engine, port: u16) -> Self {
        let script = format!(
            "import socket, time\ns = socket.create_server(('0.0.0.0', {port}))\nprint('listens', flush=True)\ntime.sleep(600)"
        );
        let mut child =
            engine.beside().args(["python3", "-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = [0; 7];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
        Self(child)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_port_that_an_ordinary_process_has_is_told_before_anything_is_touched() {
    let engine = Engine::named("graph");
    let scene = Scene::with_repository();
    let project = Project::up_with_checks(&scene, engine);
    snapshot(&project);
    project.destroy();
    let listener = Listener::new(engine, project.port);
    // Lifeboat sees the engine's ports only from the engine's network.
    let restore = || {
        let mut inner = command(&scene, engine);
        inner.args(["restore", "latest", "--to", "project:"]);
        let mut outer = engine.beside();
        outer.arg(inner.get_program()).args(inner.get_args()).current_dir(scene.path(""));
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => outer.env(name, value),
                None => outer.env_remove(name),
            };
        }
        Done::of(&mut outer)
    };
    let refused = restore().expect(1);
    refused.says(&format!("port {}/tcp of {} is taken by a process", project.port, project.container("web")));
    assert!(!engine.has("container", &project.container("db")) && !engine.has("image", &project.image.name));
    drop(listener);
    restore().expect(0);
}

#[test]
fn a_project_of_which_a_part_is_there_is_refused_and_made_whole_in_place() {
    let engine = Engine::named("graph");
    let scene = Scene::with_repository();
    let project = Project::up_with_checks(&scene, engine);
    project.write_data();
    snapshot(&project);
    let first = scene.snapshots().last().unwrap()["short_id"].as_str().unwrap().to_owned();
    // One container, its volumes and one of two networks stay.
    for service in ["side", "web"] {
        engine.say(&["rm", "--force", &project.container(service)]);
    }
    engine.say(&["network", "rm", &format!("{}_front", project.name)]);
    project.exec("db", "echo newer > /data/orders");
    let id = Container::id_of(engine, &project.container("db"));
    let refused = project.lifeboat(&["restore", &first, "--to", "project:"]).expect(1);
    refused
        .says(&format!("there is a container {}", project.container("db")))
        .says(&format!("volume {}_data is", project.name))
        .says("nothing was touched");
    assert_eq!(
        (
            Container::id_of(engine, &project.container("db")),
            engine.has("container", &project.container("web"))
        ),
        (id, false)
    );
    project.lifeboat(&["restore", &first, "--to", "project:", "--in-place"]).expect(0);
    project.has_data();
    // Only volumes stay, as after `compose down`: there is no project that a snapshot could be taken of.
    project.exec("db", "echo newest > /data/orders");
    project.compose(&["down"]);
    let volumes = [format!("{}_data", project.name), project.explicit()];
    let refused = project.lifeboat(&["restore", &first, "--to", "project:"]).expect(1).to_string();
    for volume in &volumes {
        let way_out = format!("lifeboat snapshot volume:{volume} && docker volume rm {volume}");
        assert!(refused.contains(&way_out), "{refused}");
        project.lifeboat(&["snapshot", &format!("volume:{volume}")]).expect(0);
        engine.say(&["volume", "rm", volume]);
    }
    project.lifeboat(&["restore", &first, "--to", "project:", "--wait-healthy", "2m"]).expect(0);
    project.has_data();
}
