//! Projects of which something is missing, or does not stay up: told by name, and before anything is touched where that can be
//! known then.

use crate::engines::Engine;
use crate::images::lose_a_layer;
use crate::project::Project;
use crate::scene::Scene;
use serde_json::Value;

const ONE: &str = "
services:
  one:
    image: IMAGE
    command: [sleep, infinity]
    init: true
    network_mode: \"MODE\"
    volumes: ['data:/data']
volumes: {data: {}}
";

#[track_caller]
fn refused(project: &Project<'_>, what: &[&str]) {
    let plan =
        project.lifeboat(&["restore", "latest", "--to", "project:", "--plan", "--json"]).message("plan");
    let obstacles: Vec<&Value> = plan["obstacles"].as_array().unwrap().iter().collect();
    let told = |one: &&&Value| what.iter().all(|word| one["what"].as_str().unwrap().contains(word));
    let one = obstacles.iter().find(told).unwrap_or_else(|| panic!("{what:?} is not in {obstacles:?}"));
    assert!(!one["way_out"].as_str().unwrap().is_empty(), "{one}");
    let done = project.lifeboat(&["restore", "latest", "--to", "project:", "--start"]).expect(1);
    done.says("nothing was touched");
    let data = format!("{}_data", project.name);
    assert!(!project.engine.has("volume", &data) && !project.scene.path("shop").exists());
}

#[test]
fn a_project_without_its_image_is_not_begun() {
    let engine = Engine::named("containerd");
    let scene = Scene::with_repository();
    let project = Project::up_from(&scene, engine, &ONE.replace("MODE", "none"));
    lose_a_layer(&scene, engine, &project.image);
    project.lifeboat(&["snapshot", &format!("project:{}", project.name)]).expect(3).says("image incomplete");
    project.wipe();
    refused(&project, &[&project.container("one"), &project.image.name, "is not on the engine"]);
}

#[test]
fn a_project_that_needs_a_container_that_is_not_its_own_is_not_begun_without_it() {
    let engine = Engine::named("graph");
    let scene = Scene::with_repository();
    let outer = engine.run("base", &["--network", "none"], &["sleep", "infinity"]);
    let text = ONE.replace("MODE", &format!("container:{}", outer.name));
    let project = Project::up_from(&scene, engine, &text);
    project.lifeboat(&["snapshot", &format!("project:{}", project.name)]).expect(0);
    project.wipe();
    drop(outer);
    refused(&project, &[&project.container("one"), "uses the network of container"]);
}

/// The second one ends after three seconds, unless it was told to go on: in memory, which no snapshot has.
const UNSTEADY: &str = "
services:
  first:
    image: IMAGE
    command: [sleep, infinity]
    init: true
  second:
    image: IMAGE
    command: [sh, -c, 'for i in 1 2 3; do sleep 1; done; test -e /told/on && exec sleep infinity; exit 1']
    depends_on: [first]
    init: true
    restart: always
    tmpfs: [/told]
";

#[test]
fn a_container_that_ends_again_and_again_is_not_well_whoever_else_was_waited_for() {
    let engine = Engine::named("graph");
    let scene = Scene::with_repository();
    let project = Project::up_from(&scene, engine, UNSTEADY);
    project.exec("second", "touch /told/on");
    project.lifeboat(&["snapshot", &format!("project:{}", project.name)]).expect(0);
    project.destroy();
    let done = project.lifeboat(&["restore", "latest", "--to", "project:", "--wait-healthy", "1m"]).expect(3);
    done.says(&format!("container {} is not well: it was started again", project.container("second")));
    let first = engine.inspect("container", &project.container("first"));
    assert_eq!(first["State"]["Status"], "running");
}
