//! The story that `docs/projects.md` tells, as it stands there: every command is run, in its order, on an engine of its own.

use crate::engines::compose_program;
use crate::engines::killable::KillableEngine;
use crate::scene::{Done, Scene, binary};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

const COMPOSE: &str = r#"
services:
  db:
    image: shop-image:1
    command: [sleep, infinity]
    init: true
    volumes: ["data:/data"]
    healthcheck: {test: [CMD, test, -d, /data], interval: 1s, retries: 20}
  web:
    image: shop-image:1
    command: [sleep, infinity]
    init: true
    env_file: web.env
    depends_on: {db: {condition: service_healthy}}
    ports: ["8080:80"]
    volumes: ["./site:/site"]
    secrets: [token]
secrets: {token: {file: token}}
volumes: {data: {}}
"#;

#[test]
fn every_command_of_the_page_does_what_it_says() {
    let engine = KillableEngine::start("graph");
    let scene = Scene::new();
    scene.write("shop/compose.yml", COMPOSE);
    scene.write("shop/web.env", "COLOUR=blue\n");
    scene.write("shop/token", "secret\n");
    scene.write("shop/site/index.html", "welcome\n");
    // Of an image of its own nothing is left when it is removed.
    let container = engine.say(&["create", "lifeboat-test/base:1", "true"]);
    let archive = scene.text("image.tar");
    engine.say(&["export", "--output", &archive, &container]);
    engine.say(&["import", &archive, "shop-image:1"]);
    engine.say(&["rm", &container]);
    // The docker command of the system knows nothing of compose; this one does.
    let docker = scene.write(
        "bin/docker",
        format!(
            "#!/bin/sh\nif [ \"$1\" = compose ]; then shift; exec {} \"$@\"; fi\nPATH=${{PATH#*:}} exec docker \"$@\"\n",
            compose_program()
        ),
    );
    std::fs::set_permissions(&docker, std::fs::Permissions::from_mode(0o755)).unwrap();
    let lines: Vec<&str> =
        include_str!("../../docs/projects.md").lines().filter_map(|line| line.strip_prefix("$ ")).collect();
    assert!(lines.len() > 20, "{} commands", lines.len());
    let (mut exports, mut dry_runs) = (String::new(), 0);
    for text in lines {
        if text.starts_with("export ") {
            exports += &format!("{text}\n");
            continue;
        }
        let code = text.split_once("# exit code ").map_or(0, |(_, code)| code.trim().parse().unwrap());
        let mut shell = Command::new("sh");
        scene.dress(&mut shell).env_remove("LIFEBOAT_KEY_FILE").env_remove("LIFEBOAT_REPOSITORY");
        shell.env("DOCKER_HOST", &engine.url);
        let folders =
            format!("{}:{}", docker.parent().unwrap().display(), binary().parent().unwrap().display());
        // An `exec` without a terminal.
        let text = text.replace(" exec ", " exec -T ");
        let done = Done::of(shell.args(["-c", &format!("PATH={folders}:$PATH\n{exports}{text}")]));
        assert_eq!(done.code, Some(code), "{text}: {done}");
        if text.contains(" --dry-run") && text.contains("compose") {
            dry_runs += 1;
            let changes = done.stderr.lines().filter(|line| line.contains("DRY-RUN"));
            let calm = ["Running", "Waiting", "Healthy"];
            let changes: Vec<&str> = changes
                .filter(|line| !calm.contains(&line.split(' ').rfind(|word| !word.is_empty()).unwrap()))
                .collect();
            assert!(changes.is_empty(), "{text}: {changes:?}");
        }
    }
    assert!(dry_runs > 0, "compose was never asked");
}
