//! Compose projects: captured as a whole, brought back on an engine that has nothing of them, and compose agrees.

use crate::engines::objects::{Container, Image, Volume};
use crate::engines::{Engine, compose, on_every_engine, unique};
use crate::scene::{Done, Scene};
use serde_json::Value;
use std::time::Instant;

/// A project in a scene's folder, gone with the test.
struct Project<'t> {
    scene: &'t Scene,
    engine: &'t Engine,
    name: String,
    /// Its image, which no other test has.
    image: Image,
    port: u16,
}

impl<'t> Project<'t> {
    /// A database, a service that waits for it, and one that does a job; a bind, a secret, a volume with a name of its own.
    #[track_caller]
    fn up(scene: &'t Scene, engine: &'t Engine) -> Self {
        let image = Image::make(engine, "project");
        let name = unique();
        let port = free_port();
        let project = Self { scene, engine, name, image, port };
        let net = format!("10.{}.{}", 100 + port % 100, port / 256);
        let text = COMPOSE
            .replace("IMAGE", &project.image.name)
            .replace("EXPLICIT", &project.explicit())
            .replace("PORT", &port.to_string())
            .replace("SUBNET", &format!("{net}.0/25"))
            // What the engine chose is another test's by the time that it is asked for again.
            .replace("FRONT", &format!("{net}.128/25"))
            .replace("ADDRESS", &format!("{net}.77"));
        scene.write("shop/compose.yml", text);
        scene.write("shop/extra/more.yml", MORE.replace("IMAGE", &project.image.name));
        scene.write("shop/web.env", "COLOUR=secret-colour\n");
        scene.write("shop/secrets/token", "secret-token\n");
        crate::scene::set_mode(&scene.path("shop/secrets/token"), 0o640);
        scene.write("shop/site/index.html", "welcome\n");
        project.compose(&["up", "--detach", "--wait"]);
        project
    }

    fn explicit(&self) -> String {
        format!("{}-own", self.name)
    }

    fn container(&self, service: &str) -> String {
        format!("{}-{service}-1", self.name)
    }

    #[track_caller]
    fn compose(&self, words: &[&str]) -> String {
        compose(self.engine, &self.scene.path("shop"), &self.name, &[], words)
    }

    #[track_caller]
    fn exec(&self, service: &str, script: &str) -> String {
        self.engine.say(&["exec", &self.container(service), "sh", "-c", script])
    }

    #[track_caller]
    fn lifeboat(&self, words: &[&str]) -> Done {
        Done::of(command(self.scene, self.engine).args(words))
    }

    /// Everything of it goes, its image and its files too.
    #[track_caller]
    fn destroy(&self) {
        self.compose(&["down", "--volumes"]);
        self.image.remove();
        crate::scene::remove(&self.scene.path("shop"));
    }

    /// What compose would change, in its own words.
    #[track_caller]
    fn changes(&self) -> Vec<String> {
        let mut dry = crate::engines::compose_command(self.engine, &self.scene.path("shop"), &self.name, &[]);
        let output = dry.args(["up", "--detach", "--dry-run"]).output().unwrap();
        assert!(output.status.success());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let calm = ["Running", "Waiting", "Healthy", "Exited"];
        let lines = said.lines().map(str::trim).filter(|line| line.contains("DRY-RUN"));
        lines.filter(|line| !calm.iter().any(|word| line.ends_with(word))).map(str::to_owned).collect()
    }

    fn write_data(&self) {
        self.exec("db", "echo ordered > /data/orders; echo own > /own/file; echo layer > /etc/changed; rm -f /etc/issue");
    }

    #[track_caller]
    fn has_data(&self) {
        let all = "cat /data/orders /own/file /etc/changed; test -e /etc/issue || echo deleted";
        assert_eq!(self.exec("db", all), "ordered\nown\nlayer\ndeleted");
        assert_eq!(
            self.exec("web", "cat /site/index.html /run/secrets/token; echo $COLOUR"),
            "welcome\nsecret-token\nsecret-colour"
        );
    }
}

impl Drop for Project<'_> {
    fn drop(&mut self) {
        let filter = format!("label=com.docker.compose.project={}", self.name);
        for (list, remove) in [
            (&["ps", "--all"][..], &["rm", "--force", "--volumes"][..]),
            (&["volume", "ls"], &["volume", "rm"]),
            (&["network", "ls"], &["network", "rm"]),
        ] {
            let ids =
                self.engine.docker(&[list, &["--quiet", "--filter", &filter]].concat()).output().unwrap();
            for id in String::from_utf8_lossy(&ids.stdout).lines() {
                let _ = self.engine.docker(&[remove, &[id]].concat()).output();
            }
        }
        drop(Volume::adopt(self.engine, &self.explicit()));
        // Made where something of an image's was deleted.
        let derived = format!("reference=lifeboat-derived:{}-*", self.name);
        let format = "{{.Repository}}:{{.Tag}}";
        for name in self.engine.say(&["images", "--filter", &derived, "--format", format]).lines() {
            let _ = self.engine.docker(&["rmi", name]).output();
        }
    }
}

const COMPOSE: &str = r#"
include: [extra/more.yml]
services:
  db:
    image: IMAGE
    command: [sleep, infinity]
    init: true
    volumes: ["data:/data", "own:/own"]
    networks: {back: {ipv4_address: ADDRESS}}
    healthcheck: {test: [CMD, test, -d, /data], interval: 1s, retries: 20}
  web:
    image: IMAGE
    command: [sleep, infinity]
    init: true
    env_file: web.env
    depends_on: {db: {condition: service_healthy}}
    networks: [back, front]
    ports: ["PORT:80"]
    volumes: ["./site:/site"]
    secrets: [token]
secrets: {token: {file: secrets/token}}
volumes: {data: {}, own: {name: EXPLICIT}}
networks: {back: {ipam: {config: [{subnet: SUBNET}]}}, front: {ipam: {config: [{subnet: FRONT}]}}}
"#;

const MORE: &str = r#"
services:
  side:
    image: IMAGE
    command: [sleep, infinity]
    init: true
    network_mode: "service:db"
"#;

/// Lifeboat on an engine, with compose.
fn command(scene: &Scene, engine: &Engine) -> std::process::Command {
    let mut command = scene.lifeboat();
    command.env("DOCKER_HOST", &engine.url).env("LIFEBOAT_COMPOSE", crate::engines::compose_program());
    command
}

/// A port that nobody has now. Each engine has a network of its own, so tests only meet on one engine.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn plan(project: &Project<'_>, words: &[&str]) -> Value {
    let done =
        project.lifeboat(&[&["restore", "latest", "--to", "project:", "--plan", "--json"], words].concat());
    done.message("plan")
}

fn obstacles(plan: &Value) -> Vec<String> {
    let all = plan["obstacles"].as_array().unwrap().iter();
    all.map(|one| one["what"].as_str().unwrap().to_owned()).collect()
}

on_every_engine! {
    fn a_project_comes_back_on_an_empty_engine_and_compose_changes_nothing(engine: &Engine) {
        let scene = Scene::with_repository();
        let project = Project::up(&scene, engine);
        project.write_data();
        assert_eq!(project.changes(), Vec::<String>::new());
        let source = format!("project:{}", project.name);
        let summary = project.lifeboat(&["snapshot", "--json", &source]).expect(0).message("project");
        assert_eq!((&summary["drift"]["known"], summary["drift"]["changes"].as_array().unwrap().len()), (&true.into(), 0));
        project.destroy();
        assert_eq!(obstacles(&plan(&project, &[])), Vec::<String>::new());
        let shown = project.lifeboat(&["restore", "latest", "--to", "project:", "--plan"]).expect(0).text();
        assert!(!shown.contains("secret-"), "{shown}");
        project.lifeboat(&["restore", "latest", "--to", "project:", "--wait-healthy", "2m"]).expect(0).prints("3 containers");
        project.has_data();
        // Compose's digest of a service that uses another one's network has that one's id in it.
        let changes = project.changes();
        assert!(changes.iter().all(|change| change.contains("-side-1")), "{changes:?}");
        let ids = |project: &Project<'_>| ["db", "web"].map(|service| Container::id_of(engine, &project.container(service)));
        let before = ids(&project);
        project.compose(&["up", "--detach", "-y"]);
        assert_eq!(ids(&project), before, "compose made containers anew");
        project.has_data();
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(scene.path("shop/secrets/token")).unwrap().permissions());
        assert_eq!(mode & 0o7777, 0o640);
        // It is whole: nobody takes it back.
        project.lifeboat(&["recover"]).expect(0);
        project.has_data();
        scene.assert_sound();
    }

    fn a_renamed_project_stands_beside_the_first_one(engine: &Engine) {
        let scene = Scene::with_repository();
        let project = Project::up(&scene, engine);
        project.write_data();
        project.lifeboat(&["snapshot", &format!("project:{}", project.name)]).expect(0);
        project.exec("db", "echo newer > /data/orders");
        let copy = Project { scene: &scene, engine, name: unique(), image: Image::adopt(engine, "no-such-image"), port: 0 };
        let folder = scene.text("copy");
        project
            .lifeboat(&["restore", "latest", "--to", "project:", "--rename", &copy.name, "--project-dir", &folder, "--wait-healthy", "2m"])
            .expect(0)
            .prints("For compose");
        copy.has_data();
        assert_eq!(project.exec("db", "cat /data/orders"), "newer", "the first one was written to");
        let side = engine.inspect("container", &copy.container("side"));
        let own = format!("container:{}", Container::id_of(engine, &copy.container("db")));
        assert_eq!(side["HostConfig"]["NetworkMode"], own.as_str(), "it uses the first one's network");
        let volumes = engine.say(&["volume", "ls", "--quiet"]);
        assert!(volumes.lines().any(|name| name == format!("{}{}", copy.name, "-own")), "{volumes}");
        let labels = engine.inspect("volume", &format!("{}_data", copy.name))["Labels"].clone();
        assert!(labels.get("com.docker.compose.config-hash").is_none(), "{labels}");
        let more = format!("lifeboat-{}.yml", copy.name);
        compose(engine, &scene.path("copy"), &copy.name, &["compose.yml", &more], &["up", "--detach", "-y", "--wait"]);
        assert_eq!(copy.exec("db", "cat /data/orders /own/file"), "ordered\nown");
        compose(engine, &scene.path("copy"), &copy.name, &["compose.yml", &more], &["down", "--volumes"]);
        assert_eq!(project.exec("db", "cat /data/orders"), "newer");
    }

    fn what_is_there_is_replaced_only_after_a_snapshot_of_it(engine: &Engine) {
        let scene = Scene::with_repository();
        let project = Project::up(&scene, engine);
        project.write_data();
        project.lifeboat(&["snapshot", &format!("project:{}", project.name), "--tag", "first"]).expect(0);
        let first = scene.snapshots().last().unwrap()["short_id"].as_str().unwrap().to_owned();
        project.exec("db", "echo newer > /data/orders; echo x > /data/extra");
        scene.write("shop/site/index.html", "changed\n");
        let refused = project.lifeboat(&["restore", "latest", "--to", "project:"]).expect(1);
        refused.says("there is a container").says("nothing was touched");
        assert_eq!(project.exec("db", "cat /data/orders"), "newer");
        project.exec("web", "echo more > /etc/more");
        let ids = || ["db", "web"].map(|service| Container::id_of(engine, &project.container(service)));
        let before = ids();
        project.lifeboat(&["restore", &first, "--to", "project:", "--in-place"]).expect(0).prints("What was there before");
        project.has_data();
        assert_eq!(project.exec("db", "ls /data"), "orders");
        assert_eq!(project.exec("web", "test -e /etc/more || echo gone"), "gone");
        let after = ids();
        assert!(before[0] == after[0] && before[1] != after[1], "what is as in the snapshot stays, and nothing else does");
        // And back again.
        let safety = scene.snapshots().last().unwrap()["short_id"].as_str().unwrap().to_owned();
        assert_ne!(safety, first);
        project.lifeboat(&["restore", &safety, "--to", "project:", "--in-place"]).expect(0);
        assert_eq!(project.exec("db", "cat /data/orders; ls /data"), "newer\nextra\norders");
        assert_eq!(project.exec("web", "cat /site/index.html"), "changed");
        assert_eq!(engine.say(&["ps", "--all", "--quiet", "--filter", "name=lifeboat-aside"]), "");
    }
}

#[test]
fn everything_that_is_in_the_way_is_told_at_once_and_nothing_is_touched() {
    let engine = Engine::named("graph");
    let scene = Scene::with_repository();
    let project = Project::up(&scene, engine);
    project.lifeboat(&["snapshot", &format!("project:{}", project.name)]).expect(0);
    let subnet =
        engine.inspect("network", &format!("{}_back", project.name))["IPAM"]["Config"][0]["Subnet"].clone();
    project.compose(&["down"]);
    scene.write("shop/site/index.html", "another\n");
    scene.write("shop/web.env", "COLOUR=other\n");
    let network = engine.network(&["--subnet", subnet.as_str().unwrap()]);
    let holder = engine.run("base", &["--publish", &format!("{}:80", project.port)], &["sleep", "infinity"]);
    let data = format!("{}_data", project.name);
    engine.say(&[
        "run",
        "--rm",
        "--volume",
        &format!("{data}:/data"),
        "lifeboat-test/base:1",
        "touch",
        "/data/file",
    ]);
    let plan = plan(&project, &[]);
    let found = obstacles(&plan).join("\n");
    for part in [
        &format!("volume {data} is there and holds something"),
        &format!("lies in network {}", network.name),
        &format!("is container {}'s", holder.name),
        "shop/site is there and holds something else",
        "shop/web.env is there and holds something else",
    ] {
        assert!(found.contains(part), "{part} is not in\n{found}");
    }
    assert!(
        plan["obstacles"].as_array().unwrap().iter().all(|one| !one["way_out"].as_str().unwrap().is_empty())
    );
    project.lifeboat(&["restore", "latest", "--to", "project:", "--start"]).expect(1);
    assert!(!engine.has("container", &project.container("db")));
    assert_eq!(std::fs::read_to_string(scene.path("shop/web.env")).unwrap(), "COLOUR=other\n");
}

#[test]
fn a_restore_that_is_killed_anywhere_is_taken_back_or_done_again() {
    let engine = Engine::named("graph");
    let scene = Scene::with_repository();
    let project = Project::up(&scene, engine);
    project.write_data();
    project.lifeboat(&["snapshot", &format!("project:{}", project.name)]).expect(0);
    project.destroy();
    let whole = Instant::now();
    project.lifeboat(&["restore", "latest", "--to", "project:"]).expect(0);
    let whole = whole.elapsed();
    project.destroy();
    let mine = |kind: &[&str]| {
        let filter = format!("label=com.docker.compose.project={}", project.name);
        engine.say(&[kind, &["--quiet", "--filter", &filter]].concat())
    };
    let mut interrupted = 0;
    for step in 1..=8u32 {
        let mut child = command(&scene, engine)
            .args(["restore", "latest", "--to", "project:"])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(whole * step / 9);
        let _ = child.kill();
        let is_done = child.wait().unwrap().success();
        if is_done {
            project.destroy();
            continue;
        }
        let said = project.lifeboat(&["recover"]).expect(0).text();
        interrupted += u32::from(said.contains("was interrupted"));
        let is_kept = !mine(&["ps", "--all"]).is_empty();
        if is_kept {
            // It was whole when it was killed.
            assert_eq!(mine(&["ps", "--all"]).lines().count(), 3, "{said}");
            project.destroy();
            continue;
        }
        for kind in [&["volume", "ls"][..], &["network", "ls"]] {
            assert_eq!(mine(kind), "", "{kind:?} after step {step}: {said}");
        }
        crate::scene::remove(&scene.path("shop"));
    }
    assert!(interrupted > 0, "no restore was killed in the middle");
    project.lifeboat(&["restore", "latest", "--to", "project:", "--wait-healthy", "60"]).expect(0);
    project.has_data();
}

#[test]
fn in_place_nothing_goes_that_the_snapshot_does_not_have_and_nothing_comes_that_is_not_the_projects() {
    let engine = Engine::named("graph");
    let scene = Scene::with_repository();
    let project = Project::up(&scene, engine);
    project.write_data();
    scene.write("other/file", "as it was\n");
    // A folder in a folder that is bound by itself and left out: the snapshot of the outer one lacks it.
    scene.write("shop/site/private/key", "not captured\n");
    let inner = engine.create(
        "base",
        &[
            "--volume",
            &format!("{}:/private", scene.path("shop/site/private").display()),
            "--label",
            "lifeboat.exclude=/private",
        ],
        &["sleep", "infinity"],
    );
    let label = format!("com.docker.compose.project={}", project.name);
    assert!(inner.inspect()["Config"]["Labels"].get("com.docker.compose.project").is_none(), "{label}");
    let source = format!("project:{}", project.name);
    project.lifeboat(&["snapshot", &source, "other"]).expect(0);
    let first = scene.snapshots().last().unwrap()["short_id"].as_str().unwrap().to_owned();
    scene.write("other/file", "mine now\n");
    scene.write("other/more", "mine too\n");
    project.lifeboat(&["restore", &first, "--to", "project:", "--in-place"]).expect(0);
    project.has_data();
    assert_eq!(std::fs::read_to_string(scene.path("other/file")).unwrap(), "mine now\n");
    assert!(scene.path("other/more").exists());
    assert!(scene.path("shop/site/private/key").exists());
    // A volume that somebody else uses is nobody's to write over.
    let user =
        engine.run("base", &["--volume", &format!("{}_data:/d", project.name)], &["sleep", "infinity"]);
    let refused = project.lifeboat(&["restore", &first, "--to", "project:", "--in-place"]).expect(1);
    refused.says(&format!("is used by {}", user.name)).says("nothing was touched");
    project.has_data();
}

#[test]
fn a_restore_in_place_that_is_killed_leaves_the_old_project_or_the_new_one() {
    let engine = Engine::named("graph");
    let scene = Scene::with_repository();
    let project = Project::up(&scene, engine);
    project.write_data();
    project.lifeboat(&["snapshot", &format!("project:{}", project.name)]).expect(0);
    let first = scene.snapshots().last().unwrap()["short_id"].as_str().unwrap().to_owned();
    let words = ["restore", &first, "--to", "project:", "--in-place"];
    let whole = Instant::now();
    project.lifeboat(&words).expect(0);
    let whole = whole.elapsed();
    for step in 2..=8u32 {
        let mut child = command(&scene, engine)
            .args(words)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(whole * step / 16);
        let _ = child.kill();
        let _ = child.wait();
        let said = project.lifeboat(&["recover"]).expect(0).text();
        for service in ["db", "web", "side"] {
            assert!(
                engine.has("container", &project.container(service)),
                "{service} after step {step}: {said}"
            );
        }
        assert_eq!(
            engine.say(&["ps", "--all", "--quiet", "--filter", "name=lifeboat-"]),
            "",
            "after step {step}: {said}"
        );
        if let Some((_, after)) = said.split_once("what was there before: lifeboat restore ") {
            let safety = after.split(' ').next().unwrap().to_owned();
            project.lifeboat(&["restore", &safety, "--to", "project:", "--in-place"]).expect(0);
        }
        project.lifeboat(&["restore", &first, "--to", "project:", "--in-place"]).expect(0);
        project.has_data();
    }
}

#[test]
fn an_engine_is_captured_as_its_projects_and_the_rest() {
    // An engine of its own: others' tests make things on the shared ones.
    let engine = crate::engines::killable::KillableEngine::start("graph");
    let scene = Scene::with_repository();
    let project = Project::up(&scene, &engine);
    project.write_data();
    let alone = engine.run("base", &[], &["sleep", "infinity"]);
    let volume = engine.volume();
    let anonymous = engine.say(&["volume", "create"]);
    let done = project.lifeboat(&["snapshot", "host:"]).expect(0);
    done.says(&anonymous);
    let snapshots = scene.snapshots();
    assert_eq!(snapshots.len(), 2);
    let names = |snapshot: &Value| snapshot["paths"].to_string();
    let (first, rest) = (names(&snapshots[0]), names(&snapshots[1]));
    assert!(first.contains(&format!("project:{}", project.name)), "{first}");
    assert!(
        rest.contains(&format!("container:{}", alone.name))
            && rest.contains(&format!("volume:{}", volume.name)),
        "{rest}"
    );
    assert!(!rest.contains(&project.name) && !rest.contains(&anonymous), "{rest}");
    engine.say(&["volume", "rm", &anonymous]);
}

#[test]
fn a_project_that_is_not_there_is_told() {
    let engine = Engine::named("graph");
    let scene = Scene::with_repository();
    let mut lifeboat = command(&scene, engine);
    Done::of(lifeboat.args(["snapshot", "project:no-such-project"]))
        .expect(1)
        .says("no container belongs to");
}
