//! What belongs to a project besides its own containers: files that its files name, networks and volumes that are not its own,
//! and other projects of its group.

use crate::engines::objects::{Container, Network, Volume};
use crate::engines::{Engine, compose, on_every_engine, unique};
use crate::project::{Project, own_net};
use crate::scene::{Scene, remove, set_mode};
use std::os::unix::fs::MetadataExt;

const EXTENDING: &str = "
services:
  one:
    extends: {file: base/base.yml, service: one}
    image: IMAGE
    configs: [site]
configs: {site: {file: conf/site.conf}}
";

const EXTENDED: &str = "
services:
  one:
    command: [sleep, infinity]
    init: true
    env_file: beside.env
";

#[test]
fn files_that_compose_files_name_come_back_and_those_that_cannot_be_read_are_told() {
    let scene = Scene::with_repository();
    let engine = Engine::named("graph");
    scene.write("shop/base/base.yml", EXTENDED);
    scene.write("shop/base/beside.env", "COLOUR=secret-green\n");
    scene.write("shop/conf/site.conf", "secret-site\n");
    let base = scene.path("shop/base/base.yml");
    set_mode(&base, 0o640);
    std::os::unix::fs::chown(&base, Some(1234), Some(4321)).unwrap();
    let project = Project::up_from(&scene, engine, EXTENDING);
    let source = format!("project:{}", project.name);
    project.lifeboat(&["snapshot", &source]).expect(0);
    project.wipe();
    project.lifeboat(&["restore", "latest", "--to", "project:", "--start"]).expect(0);
    let metadata = std::fs::metadata(&base).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (1234, 4321, 0o640));
    assert_eq!(std::fs::read_to_string(scene.path("shop/base/beside.env")).unwrap(), "COLOUR=secret-green\n");
    assert_eq!(project.exec("one", "cat /site; echo $COLOUR"), "secret-site\nsecret-green");
    assert_eq!(project.changes(), Vec::<String>::new());
    // What is missing is told by name, also a name of which a part is not known any more, and nothing of what it says.
    remove(&base.with_file_name("beside.env"));
    scene.write(
        "shop/compose.yml",
        format!("{}secrets: {{lost: {{file: \"${{LBT_LOST}}/x\"}}}}\n", project.filled(EXTENDING)),
    );
    let done = project.lifeboat(&["snapshot", &source]).expect(3);
    let done = done.says("beside.env").says("LBT_LOST");
    assert!(!done.to_string().contains("secret-"), "{done}");
    // It comes back nevertheless.
    project.wipe();
    project.lifeboat(&["restore", "latest", "--to", "project:", "--start"]).expect(0);
    assert_eq!(project.exec("one", "cat /site; echo $COLOUR"), "secret-site\nsecret-green");
}

const OUTER: &str = "
services:
  one:
    image: IMAGE
    command: [sleep, infinity]
    init: true
    networks: [default, outer]
    volumes: ['outer:/outer', 'own:/own']
networks: {outer: {external: true, name: NETWORK}}
volumes: {outer: {external: true, name: VOLUME}, own: {}}
";

#[test]
fn networks_and_volumes_that_are_not_the_projects_are_made_only_where_they_are_missing() {
    let scene = Scene::with_repository();
    let engine = Engine::named("graph");
    let (network, volume) = (engine.network(&["--label", "test.word=outer"]), engine.volume());
    let text = OUTER.replace("NETWORK", &network.name).replace("VOLUME", &volume.name);
    let project = Project::up_from(&scene, engine, &text);
    project.exec("one", "echo outer > /outer/file; echo own > /own/file");
    project.compose(&[
        "run",
        "--detach",
        "--name",
        &format!("{}-once", project.name),
        "one",
        "sleep",
        "infinity",
    ]);
    project.lifeboat(&["snapshot", &format!("project:{}", project.name)]).expect(0);
    let paths = scene.snapshots()[0]["paths"].to_string();
    assert!(!paths.contains("-once") && paths.contains(&format!("volume:{}", volume.name)), "{paths}");
    let labels = |network: &Network| engine.inspect("network", &network.name)["Labels"]["test.word"].clone();
    let restore = || project.lifeboat(&["restore", "latest", "--to", "project:", "--start"]);
    let is_back = |what: &str| {
        assert_eq!(project.exec("one", "cat /outer/file /own/file"), "outer\nown", "{what}");
        assert_eq!(labels(&network), "outer", "{what}");
        assert_eq!(project.changes(), Vec::<String>::new(), "{what}");
        project.compose(&["up", "--detach", "-y"]);
        assert_eq!(project.exec("one", "cat /outer/file /own/file"), "outer\nown", "{what}");
    };
    project.wipe();
    volume.destroy();
    engine.say(&["network", "rm", &network.name]);
    restore().expect(0);
    is_back("both were missing");
    assert!(!engine.has("container", &format!("{}-once", project.name)));
    project.wipe();
    // Both are there, as somebody else made them; the volume is empty.
    volume.destroy();
    engine.say(&["volume", "create", "--label", "test.word=theirs", &volume.name]);
    let id = engine.inspect("network", &network.name)["Id"].clone();
    restore().expect(0);
    is_back("both were there");
    assert_eq!(engine.inspect("network", &network.name)["Id"], id);
    assert_eq!(engine.inspect("volume", &volume.name)["Labels"]["test.word"], "theirs");
    // What it holds is not written over unasked.
    project.exec("one", "echo newer > /outer/file");
    project.wipe();
    restore().expect(1).says(&format!("volume {} is there and holds something", volume.name));
    assert_eq!(std::fs::read_to_string(volume.folder().join("file")).unwrap(), "newer\n");
    // While it is used by somebody else, it stays so.
    let user = engine.run("base", &["--volume", &volume.at("/data")], &["sleep", "infinity"]);
    restore().expect(1).says(&format!("volume {} is used by {}", volume.name, user.name));
}

const NAMED: &str = "
services:
  one:
    image: IMAGE
    container_name: OWN-NAME
    command: [sleep, infinity]
    init: true
    networks: {back: {ipv4_address: NET.5, aliases: [orders]}, outer: {ipv4_address: NET.133}}
    volumes: ['outer:/outer', 'own:/own', 'FOLDER:/folder']
networks: {back: {ipam: {config: [{subnet: NET.0/25}]}}, outer: {external: true, name: NETWORK}}
volumes: {outer: {external: true, name: VOLUME}, own: {}}
";

on_every_engine! {
    fn with_the_file_that_is_written_compose_makes_nothing_of_the_first_project_in_its_copy(engine: &Engine) {
        let scene = Scene::with_repository();
        let net = own_net();
        let (network, volume) = (engine.network(&["--subnet", &format!("{net}.128/25")]), engine.volume());
        let (own_name, folder) = (unique(), scene.text("folder"));
        scene.write("folder/file", "first\n");
        let words = [("NETWORK", &network.name), ("VOLUME", &volume.name), ("OWN-NAME", &own_name), ("FOLDER", &folder), ("NET", &net)];
        let text = words.iter().fold(NAMED.to_owned(), |text, (word, value)| text.replace(word, value));
        let project = Project::up_from(&scene, engine, &text);
        let all = "cat /outer/file /own/file /folder/file";
        project.exec_in(&own_name, "echo first > /outer/file; echo first > /own/file");
        project.lifeboat(&["snapshot", &format!("project:{}", project.name)]).expect(0);
        project.exec_in(&own_name, "for place in outer own folder; do echo newer > /$place/file; done");
        let is_untouched = || {
            let first = engine.inspect("container", &own_name);
            let volumes = [format!("{}_own", project.name), volume.name.clone()];
            let volumes = volumes.map(|name| engine.inspect("volume", &name)["CreatedAt"].clone());
            (project.exec_in(&own_name, all), first["Id"].clone(), first["State"]["StartedAt"].clone(), volumes)
        };
        let before = is_untouched();
        assert_eq!(before.0, "newer\nnewer\nnewer");
        let copy = project.renamed();
        let outer = Volume::adopt(engine, &format!("{}_{}", copy.name, volume.name));
        let (project_dir, folder_of_copy) = (scene.text("copy"), scene.text("folder-of-copy"));
        let map = format!("{folder}={folder_of_copy}");
        project
            .lifeboat(&["restore", "latest", "--to", "project:", "--rename", &copy.name, "--project-dir", &project_dir, "--map-path", &map, "--start"])
            .expect(0)
            .says("its address in network");
        let name = format!("{}-{own_name}", copy.name);
        let is_the_copy = |what: &str| {
            assert_eq!(copy.exec_in(&name, all), "first\nfirst\nfirst", "{what}");
            let there = engine.inspect("container", &name);
            let mut mounts: Vec<String> = there["Mounts"].as_array().unwrap().iter()
                .map(|mount| mount.get("Name").unwrap_or(&mount["Source"]).as_str().unwrap().to_owned())
                .collect();
            mounts.sort();
            let mut expected = [folder_of_copy.clone(), outer.name.clone(), format!("{}_own", copy.name)];
            expected.sort();
            assert_eq!(mounts, expected, "{what}");
            for (network, own) in [(format!("{}_back", copy.name), true), (network.name.clone(), false)] {
                let endpoint = &there["NetworkSettings"]["Networks"][&network];
                let address = endpoint["IPAddress"].as_str().unwrap();
                assert!(!address.is_empty() && ![format!("{net}.5"), format!("{net}.133")].contains(&address.to_owned()), "{what}: {endpoint}");
                let aliases = endpoint["Aliases"].as_array().unwrap();
                assert_eq!(aliases.contains(&"orders".into()), own, "{what}: {endpoint}");
            }
            assert_eq!(is_untouched(), before, "{what}");
        };
        is_the_copy("restored");
        let id = || Container::id_of(engine, &name);
        let more = format!("lifeboat-{}.yml", copy.name);
        for words in [&["up", "--detach", "-y", "--wait"][..], &["up", "--detach", "--force-recreate", "--wait"], &["down"], &["up", "--detach", "--wait"]] {
            let old = (words[0] == "up" && engine.has("container", &name)).then(id);
            compose(engine, &scene.path("copy"), &copy.name, &["compose.yml", &more], words);
            if words[0] == "up" {
                assert_ne!(old, Some(id()), "{words:?} made nothing");
                is_the_copy(&words.join(" "));
            }
        }
        // What is the copy's goes, and only that.
        compose(engine, &scene.path("copy"), &copy.name, &["compose.yml", &more], &["down", "--volumes"]);
        assert_eq!(is_untouched(), before);
        assert!(!engine.has("volume", &format!("{}_own", copy.name)) && engine.has("volume", &outer.name));
    }
}

const CHANGED: &str = "
services:
  one:
    image: IMAGE
    command: [sleep, infinity]
    init: true
    volumes: ['./site:/site']
";

#[test]
fn what_compose_would_have_changed_is_recorded_and_told_at_the_restore() {
    let scene = Scene::with_repository();
    let engine = Engine::named("graph");
    scene.write("shop/site/index.html", "welcome\n");
    let project = Project::up_from(&scene, engine, CHANGED);
    // Since then nobody ran compose.
    scene.write("shop/compose.yml", format!("{}    environment: {{A: secret-b}}\n", project.filled(CHANGED)));
    let source = format!("project:{}", project.name);
    let done = project.lifeboat(&["snapshot", &source]).expect(0).says("it is not as its files say");
    let change = format!("Container {} Recreate", project.container("one"));
    assert!(done.to_string().contains(&change) && !done.to_string().contains("secret-"), "{done}");
    let done = project.lifeboat(&["snapshot", "--json", &source]).expect(0);
    let drift = done.message("project")["drift"].clone();
    assert_eq!(drift["known"], true);
    let has_change =
        |drift: &serde_json::Value| drift["changes"].as_array().unwrap().contains(&change.as_str().into());
    assert!(has_change(&drift), "{drift}");
    project.wipe();
    // The site comes to another place.
    let map = format!("{}={}", scene.text("shop/site"), scene.text("elsewhere"));
    let words = ["restore", "latest", "--to", "project:", "--map-path", &map];
    let plan = project.lifeboat(&[&words[..], &["--plan", "--json"]].concat()).expect(0).message("plan");
    assert!(has_change(&plan["drift"]), "{plan}");
    project
        .lifeboat(&[&words[..], &["--start"]].concat())
        .expect(0)
        .says("compose would have changed it then")
        .says(&change);
    // What compose says is so: it changes the same.
    assert!(project.changes().join("\n").contains("Recreate"), "{:?}", project.changes());
    assert_eq!(project.exec("one", "cat /site/index.html; echo $A"), "welcome");
    let mounts = engine.inspect("container", &project.container("one"))["Mounts"].clone();
    assert_eq!(mounts[0]["Source"], scene.text("elsewhere").as_str(), "{mounts}");
    assert!(scene.path("elsewhere/index.html").exists() && !scene.path("shop/site").exists());
}

const GROUPED: &str = "
services:
  one:
    image: IMAGE
    command: [sleep, infinity]
    init: true
    labels: {lifeboat.group: GROUP}
    volumes: ['data:/data']
volumes: {data: {}}
";

#[test]
fn a_group_over_several_projects_has_one_moment() {
    let (first_scene, second_scene) = (Scene::with_repository(), Scene::with_repository());
    let engine = Engine::named("graph");
    let text = GROUPED.replace("GROUP", &unique());
    let first = Project::up_from(&first_scene, engine, &text);
    let second = Project::up_from(&second_scene, engine, &text);
    let alone = Project::up_from(&second_scene, engine, &GROUPED.replace("GROUP", &unique()));
    for project in [&first, &second, &alone] {
        project.exec("one", "echo first > /data/file");
    }
    first.lifeboat(&["snapshot", &format!("project:{}", first.name)]).expect(0);
    let snapshot = first_scene.snapshots().pop().unwrap();
    let consistency = &snapshot["consistency"];
    assert_eq!(consistency["one_moment"], true, "{consistency}");
    let mut names: Vec<&str> = consistency["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    names.sort_unstable();
    let mut expected = [first.container("one"), second.container("one")];
    expected.sort();
    assert_eq!(names, expected, "{consistency}");
    // The other one's data is in it, of the same moment, and comes back on demand.
    let paths = snapshot["paths"].to_string();
    let data = format!("volume:{}_data", second.name);
    assert!(paths.contains(&data) && !paths.contains(&alone.name), "{paths}");
    let copy = Volume::reserved(engine);
    first
        .lifeboat(&["restore", &format!("latest:{data}"), "--to", &format!("volume:{}", copy.name)])
        .expect(0);
    assert_eq!(std::fs::read_to_string(copy.folder().join("file")).unwrap(), "first\n");
    // Of the project that was named only itself comes back.
    let there = Container::id_of(engine, &second.container("one"));
    first.wipe();
    first.lifeboat(&["restore", "latest", "--to", "project:", "--start"]).expect(0);
    assert_eq!(first.exec("one", "cat /data/file"), "first");
    assert_eq!(Container::id_of(engine, &second.container("one")), there);
}
