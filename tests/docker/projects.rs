//! Compose projects: captured as a whole, brought back on an engine that has nothing of them, and compose agrees.

use crate::engines::objects::{Container, Image};
use crate::engines::{Engine, compose, on_every_engine};
use crate::project::{Project, command};
use crate::scene::{Done, Scene};
use serde_json::Value;

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
        let shown = plan(&project, &[]).to_string();
        assert!(!shown.contains("secret-") && shown.contains("COLOUR"), "{shown}");
        let done = project.lifeboat(&["restore", "latest", "--to", "project:", "--wait-healthy", "2m", "--json"]).expect(0);
        assert_eq!(done.message("summary")["containers"].as_array().unwrap().len(), 3);
        assert!(!done.text().contains("secret-"), "{done}");
        done.says_not("secret-");
        project.has_data();
        // One of them uses another one's network: compose's digest of it has that one's id in it.
        assert_eq!(project.changes(), Vec::<String>::new());
        let ids = |project: &Project<'_>| ["db", "web", "side"].map(|service| Container::id_of(engine, &project.container(service)));
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
        let copy = project.renamed();
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
        // The address, the subnet and the port that the first one has are the first one's.
        let at = |name: &str| engine.inspect("container", name)["NetworkSettings"].clone();
        let address = |name: &str, network: &str| at(name)["Networks"][network]["IPAddress"].clone();
        let fixed = address(&project.container("db"), &format!("{}_back", project.name));
        let chosen = address(&copy.container("db"), &format!("{}_back", copy.name));
        assert!(fixed != chosen && !chosen.as_str().unwrap().is_empty(), "{fixed} {chosen}");
        let port = at(&copy.container("web"))["Ports"]["80/tcp"][0]["HostPort"].clone();
        assert!(port != project.port.to_string().as_str() && port.is_string(), "{port}");
        let volumes = engine.say(&["volume", "ls", "--quiet"]);
        assert!(volumes.lines().any(|name| name == format!("{}{}", copy.name, "-own")), "{volumes}");
        for (kind, key) in [("volume", "data"), ("network", "back"), ("network", "front")] {
            let labels = |project: &Project<'_>| engine.inspect(kind, &format!("{}_{key}", project.name))["Labels"].clone();
            let (first, labels) = (labels(&project), labels(&copy));
            assert_eq!(labels["com.docker.compose.project"], copy.name.as_str(), "{labels}");
            let hash = "com.docker.compose.config-hash";
            assert!(first.get(hash).is_some() && labels.get(hash).is_none(), "{first} {labels}");
        }
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
        let of_this = format!("label=com.docker.compose.project={}", project.name);
        let aside = ["ps", "--all", "--quiet", "--filter", "name=lifeboat-aside", "--filter", &of_this];
        assert_eq!(engine.say(&aside), "");
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
    let name = Container::adopt(engine, &project.container("db"));
    engine.say(&["create", "--name", &name.name, "lifeboat-test/base:1"]);
    let own = project.image.id();
    let other = Image::make_as(engine, &project.image.name, "other");
    let plan = plan(&project, &[]);
    let found = obstacles(&plan).join("\n");
    for part in [
        &format!("there is a container {}", name.name),
        &format!("another image has the name {}", other.name),
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
    drop(Image::adopt(engine, &own));
    project.lifeboat(&["restore", "latest", "--to", "project:", "--start"]).expect(1);
    assert!(!engine.has("container", &project.container("web")) && !engine.has("image", &own));
    assert_eq!(std::fs::read_to_string(scene.path("shop/web.env")).unwrap(), "COLOUR=other\n");
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
fn an_engine_is_captured_as_its_projects_and_the_rest() {
    // An engine of its own: others' tests make things on the shared ones.
    let engine = crate::engines::killable::KillableEngine::start("graph");
    let scene = Scene::with_repository();
    let project = Project::up(&scene, &engine);
    project.write_data();
    let alone = engine.run("base", &[], &["sleep", "infinity"]);
    let volume = engine.volume();
    let anonymous = engine.say(&["volume", "create"]);
    let idle = Image::make(&engine, "idle");
    scene.write("beside/file", "named beside it");
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
    let images = |names: &str| names.matches("image:").count();
    assert!(images(&first) == 1 && images(&rest) == 1 && !rest.contains(&idle.name), "{first} {rest}");
    // What is named beside it is in the rest, and nothing is captured twice.
    let (image, own) = (format!("image:{}", idle.name), format!("project:{}", project.name));
    let words = ["snapshot", "host:", "beside", &own, &image, "command:words", "--", "echo", "said"];
    project.lifeboat(&words).expect(0);
    let snapshots = scene.snapshots();
    assert_eq!(snapshots.len(), 4);
    assert_eq!(names(&snapshots[2]), first);
    let rest = names(&snapshots[3]);
    for word in [&image, &scene.text("beside"), "command:words", &format!("container:{}", alone.name)] {
        assert!(rest.contains(word), "{word} is not in {rest}");
    }
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
