//! Snapshots and engines that are not as one would wish: names that moved, ports that are taken, engines that are older,
//! projects of which a part is there, and repositories that lost something.

use crate::engines::killable::KillableEngine;
use crate::engines::objects::{Container, Image};
use crate::engines::{Engine, on_every_engine, unique};
use crate::project::{Project, command};
use crate::scene::{Done, Scene, noise};
use std::process::{Command, Stdio};

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
    for (from, to, moves) in [
        ("graph", "system", false),
        ("containerd", "system", true),
        ("system", "containerd", true),
        ("graph", "containerd", false),
        ("containerd", "graph", false),
    ] {
        let (from, to) = (Engine::named(from), Engine::named(to));
        let scene = Scene::with_repository();
        let project = Project::up_with_checks(&scene, from);
        project.write_data();
        // Its containers' image has no name then, and on the other store another id.
        let newer = moves.then(|| Image::make_as(from, &project.image.name, "newer"));
        snapshot(&project);
        let there = arrived(&project, to);
        let restore = ["restore", "latest", "--to", "project:"];
        let plan = there.lifeboat(&[&restore[..], &["--plan", "--json"]].concat()).expect(0).message("plan");
        let is_other_kind = (from.name == "containerd") != (to.name == "containerd");
        assert_eq!(plan["remarks"].to_string().contains("its id changes"), is_other_kind, "{plan}");
        there.lifeboat(&[&restore[..], &["--wait-healthy", "2m"]].concat()).expect(0);
        there.has_data();
        assert_eq!(there.exec("db", "cat /hello"), "project");
        if !moves {
            // Compose's labels have the ids that the images have here.
            assert_eq!(there.changes(), Vec::<String>::new(), "{} to {}", from.name, to.name);
        }
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

#[test]
fn an_image_that_is_damaged_or_lost_in_the_repository_leaves_nothing_on_the_engine() {
    for flavour in ["graph", "containerd"] {
        let engine = KillableEngine::start(flavour);
        let scene = Scene::with_repository();
        let project = Project::up_with_checks(&scene, &engine);
        let large: [(&str, &[u8]); 2] = [("hello", b"project"), ("large", &noise(flavour, 8 << 20))];
        // In packs of its own.
        let image = Image::make_of(&engine, &format!("lbt/{}:1", unique()), &large);
        engine.say(&["tag", &image.name, &project.image.name]);
        project.compose(&["up", "--detach", "--wait"]);
        // The layers below are in others, and the engine has them.
        Done::of(command(&scene, &engine).args(["snapshot", "image:lifeboat-test/base:1"])).expect(0);
        let before = scene.objects_in("packs");
        Done::of(command(&scene, &engine).args(["snapshot", &format!("image:{}", project.image.name)]))
            .expect(0);
        let mut packs = scene.objects_in("packs");
        packs.retain(|pack| !before.contains(pack));
        packs.sort_by_key(|pack| std::cmp::Reverse(pack.metadata().unwrap().len()));
        snapshot(&project);
        drop(image);
        project.try_wipe();
        let before = engine.everything();
        let whole = std::fs::read(&packs[0]).unwrap();
        let mut damaged = whole.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        let write = |bytes: &[u8]| {
            crate::scene::set_mode(&packs[0], 0o600);
            std::fs::write(&packs[0], bytes).unwrap();
        };
        for what in ["damaged", "lost"] {
            match what {
                "damaged" => write(&damaged),
                _ => std::fs::remove_file(&packs[0]).unwrap(),
            }
            for words in [["restore", "latest", "--to", "project:"], ["restore", "latest", "--to", "image:"]]
            {
                let done = project.lifeboat(&words).expect(1).says("Hint: lifeboat check --read-data");
                assert_eq!(engine.everything(), before, "{flavour}: {what}: {done}");
            }
        }
        std::fs::write(&packs[0], &whole).unwrap();
        project.lifeboat(&["restore", "latest", "--to", "project:", "--start"]).expect(0);
        assert_eq!(project.exec("db", "cat /hello"), "project");
    }
}

#[test]
fn a_name_by_digest_that_is_lost_by_loading_is_told_with_the_way_out() {
    let engine = Engine::named("graph");
    let scene = Scene::with_repository();
    let image = Image::make(engine, "pinned");
    let registry = Registry::of(&scene, engine, &image);
    let pinned = Image::adopt(engine, &registry.name);
    image.remove();
    engine.say(&["pull", &pinned.name]);
    let container = Container::adopt(engine, &unique());
    let label = format!("com.docker.compose.project={}", container.name);
    let labels = [
        "--label",
        &label,
        "--label",
        "com.docker.compose.service=one",
        "--label",
        "com.docker.compose.oneoff=False",
    ];
    let words =
        [&["run", "--detach", "--name", &container.name], &labels[..], &[&pinned.name, "sleep", "infinity"]]
            .concat();
    engine.say(&words);
    let id = pinned.id();
    Done::of(command(&scene, engine).args(["snapshot", &format!("project:{}", container.name)])).expect(0);
    engine.say(&["rm", "--force", &container.name]);
    engine.say(&["rmi", "--force", &id]);
    assert!(!engine.has("image", &id) && !engine.has("image", &pinned.name));
    let way_out = format!("docker pull {}", pinned.name);
    Done::of(command(&scene, engine).args(["restore", "latest", "--to", "project:"]))
        .expect(0)
        .says(&way_out);
    assert_eq!(engine.inspect("container", &container.name)["Image"], id.as_str());
    engine.say(&["pull", &pinned.name]);
    assert_eq!(pinned.id(), id);
    engine.say(&["rm", "--force", &container.name]);
    engine.say(&["rmi", "--force", &id]);
}

/// Serves one image, as a registry does, where an engine's own address leads.
struct Registry {
    child: std::process::Child,
    /// The image's name by digest.
    name: String,
}

/// What the image was saved as: an OCI layout. Its manifest is the only one.
const REGISTRY: &str = r#"
import http.server, json, os, sys
folder = sys.argv[1]
digest = json.load(open(folder + "/index.json"))["manifests"][0]["digest"]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self): self.answer(False)
    def do_GET(self): self.answer(True)
    def log_message(self, *words): pass
    def answer(self, with_body):
        last = self.path.rstrip("/").split("/")[-1]
        path = folder + "/blobs/sha256/" + last.removeprefix("sha256:")
        if last == "v2": body = b"{}"
        elif os.path.isfile(path): body = open(path, "rb").read()
        else: return self.send_error(404)
        self.send_response(200)
        kind = json.loads(body)["mediaType"] if "/manifests/" in self.path else "application/octet-stream"
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Docker-Content-Digest", last)
        self.end_headers()
        if with_body: self.wfile.write(body)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(f"127.0.0.1:{server.server_port}/lbt/pinned@{digest}", flush=True)
server.serve_forever()
"#;

impl Registry {
    fn of(scene: &Scene, engine: &Engine, image: &Image) -> Self {
        let saved = scene.text("saved.tar");
        engine.say(&["save", "--output", &saved, &image.name]);
        std::fs::create_dir(scene.path("saved")).unwrap();
        crate::scene::tool("tar", &["-xf", &saved, "-C", &scene.text("saved")]);
        let mut python: Command = engine.beside();
        python.args(["python3", "-c", REGISTRY, &scene.text("saved")]).stdout(Stdio::piped());
        let mut child = python.spawn().unwrap();
        let mut name = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.as_mut().unwrap()), &mut name)
            .unwrap();
        Self { child, name: name.trim().to_owned() }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
