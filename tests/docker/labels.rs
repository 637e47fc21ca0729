//! Labels, from a container on an engine to what is done and what the snapshot says.

use crate::engines::objects::Container;
use crate::engines::{Engine, on_every_engine};
use crate::scene::{Done, Scene};
use serde_json::{Value, json};

/// Ends at once when it is told to.
const SERVICE: &[&str] = &["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"];

fn service(engine: &Engine, options: &[&str], labels: &[&str]) -> Container {
    let labels: Vec<&str> = labels.iter().flat_map(|label| ["--label", label]).collect();
    engine.run("base", &[&["--network", "none"], options, &labels].concat(), SERVICE)
}

#[track_caller]
fn snapshot(scene: &Scene, engine: &Engine, container: &Container, more: &[&str]) -> Done {
    let named = format!("container:{}", container.name);
    Done::of(scene.lifeboat().env("DOCKER_HOST", &engine.url).args(["snapshot", &named]).args(more))
}

#[track_caller]
fn how(scene: &Scene, container: &Container) -> Value {
    let newest = scene.snapshots().pop().unwrap();
    let all = newest["consistency"]["containers"].as_array().unwrap().clone();
    let found = all.iter().find(|one| one["name"] == container.name.as_str());
    found.unwrap_or_else(|| panic!("{} is not in {newest}", container.name)).clone()
}

#[track_caller]
fn paths(scene: &Scene) -> Value {
    scene.snapshots().pop().unwrap()["paths"].clone()
}

on_every_engine! {
    fn a_group_is_captured_together_whichever_of_it_is_named(engine: &Engine) {
        let scene = Scene::with_repository();
        let group = format!("lifeboat.group={}", scene.path("").file_name().unwrap().display());
        let (volume, data) = (engine.volume(), engine.volume());
        let named = service(engine, &["--volume", &volume.at("/data")], &[&group]);
        let other = service(engine, &["--volume", &data.at("/data")], &[&group, "lifeboat.stop=true"]);
        let stranger = service(engine, &[], &["lifeboat.group=another"]);
        snapshot(&scene, engine, &named, &[]).expect(0);
        assert_eq!(
            (&how(&scene, &named)["how"], &how(&scene, &other)["how"]),
            (&json!("paused"), &json!("stopped"))
        );
        let paths = paths(&scene).to_string();
        for name in [&named.name, &other.name, &volume.name, &data.name] {
            assert!(paths.contains(name.as_str()), "{paths}");
        }
        assert!(!paths.contains(&stranger.name), "{paths}");
    }

    fn a_policy_file_says_what_labels_would(engine: &Engine) {
        let scene = Scene::with_repository();
        let (volume, left_out) = (engine.volume(), engine.volume());
        let mounts = ["--volume", &volume.at("/data"), "--volume", &left_out.at("/cache")];
        let container = service(engine, &mounts, &["lifeboat.stop=true"]);
        let file = scene.path("policy.yml");
        let file = file.to_str().unwrap();
        let name = &container.name;
        let write = |text: String| std::fs::write(file, text).unwrap();
        write(format!("containers:\n  - name: {name}\n    exclude: [{}]\n    pause: true\n", left_out.name));
        snapshot(&scene, engine, &container, &["--policy-file", file]).expect(0);
        assert_eq!(how(&scene, &container)["how"], "paused");
        let paths = paths(&scene).to_string();
        assert!(paths.contains(&volume.name) && !paths.contains(&left_out.name), "{paths}");

        let ls = || {
            let mut program = scene.lifeboat();
            program.env("DOCKER_HOST", &engine.url).env("LIFEBOAT_POLICY_FILE", file).args(["docker", "ls"]);
            Done::of(&mut program)
        };
        ls().expect(0).prints("/cache: left out");
        write("containers:\n  - name: lbt-nobody\n    exclude: true\n".into());
        ls().expect(0).says("no container is called `lbt-nobody`");

        write(format!("containers:\n  - name: {name}\n    exlude: /cache\n"));
        let before = scene.snapshots().len();
        let refused = snapshot(&scene, engine, &container, &["--policy-file", file]).expect(1);
        refused.says(&format!("rule for `{name}`: `exlude`: is not known"));
        snapshot(&scene, engine, &container, &["--policy-file", "/nowhere/policy.yml"])
            .expect(1)
            .says("/nowhere/policy.yml");
        assert_eq!(scene.snapshots().len(), before);
    }

    fn commands_run_in_order_as_the_users_that_labels_name(engine: &Engine) {
        let scene = Scene::with_repository();
        let log = |text: &str| format!(r#"["sh","-c","echo {text} $(id -u) >>/tmp/log"]"#);
        let labels = [
            format!("lifeboat.pre.10={}", log("tenth")),
            format!("lifeboat.pre.2={}", log("second")),
            "lifeboat.pre.2.user=1234".to_owned(),
            format!("lifeboat.pre={}", log("first")),
            format!("lifeboat.post={}", log("post")),
            "lifeboat.post.user=77:88".to_owned(),
        ];
        let container = service(engine, &[], &labels.each_ref().map(String::as_str));
        container.exec(&["sh", "-c", "touch /tmp/log; chmod 666 /tmp/log"]);
        snapshot(&scene, engine, &container, &[]).expect(0);
        assert_eq!(container.exec(&["cat", "/tmp/log"]), "first 0\nsecond 1234\ntenth 0\npost 77");
    }

    fn labels_of_another_tool_are_honoured_or_reported(engine: &Engine) {
        let scene = Scene::with_repository();
        let labels = [
            "docker-volume-backup.stop-during-backup=true",
            r"docker-volume-backup.archive-pre=/bin/sh -c 'echo pre $(id -u) >>/tmp/log'",
            "docker-volume-backup.archive-pre.user=1234",
            r"docker-volume-backup.archive-post=/bin/sh -c 'echo post >>/tmp/log'",
            "docker-volume-backup.copy-post=true",
            "lifeboat.pauze=true",
        ];
        let container = service(engine, &[], &labels);
        container.exec(&["sh", "-c", "touch /tmp/log; chmod 666 /tmp/log"]);
        let started = container.started_at();
        let said = snapshot(&scene, engine, &container, &[]).expect(0);
        said.says("label `docker-volume-backup.copy-post`: is docker-volume-backup's and not honoured")
            .says("label `lifeboat.pauze`: is not known")
            .says_not("stop-during-backup");
        assert_eq!(how(&scene, &container)["how"], "stopped");
        assert_ne!(container.started_at(), started);
        assert_eq!(container.exec(&["cat", "/tmp/log"]), "pre 1234\npost");
        // One of ours says otherwise.
        let container = service(engine, &[], &["docker-volume-backup.stop-during-backup=true", "lifeboat.pause=true"]);
        snapshot(&scene, engine, &container, &[]).expect(0);
        assert_eq!(how(&scene, &container)["how"], "paused");
    }

    fn a_container_that_is_left_running_is_claimed_of_one_moment_only_while_a_command_holds_it(engine: &Engine) {
        let scene = Scene::with_repository();
        let left = service(engine, &[], &["lifeboat.pause=false"]);
        snapshot(&scene, engine, &left, &[]).expect(0);
        assert_eq!(how(&scene, &left)["how"], "ran on");
        assert_eq!(scene.snapshots().pop().unwrap()["consistency"]["one_moment"], json!(false));
        let held =
            ["lifeboat.pause=false", r#"lifeboat.pre=["sh","-c","echo ready; cat"]"#, "lifeboat.pre.hold=true"];
        let held = service(engine, &[], &held);
        snapshot(&scene, engine, &held, &[]).expect(0);
        assert_eq!(how(&scene, &held)["how"], "held");
        assert!(how(&scene, &held)["held_millis"].is_u64(), "{}", how(&scene, &held));
        assert_eq!(scene.snapshots().pop().unwrap()["consistency"]["one_moment"], json!(true));
    }

    fn mounts_are_left_out_and_let_in_by_name_and_by_place(engine: &Engine) {
        let scene = Scene::with_repository();
        let (kept, left) = (engine.volume(), engine.volume());
        // Files of the host's configuration are left out by themselves.
        let include = "lifeboat.include=/asked";
        let exclude = format!("lifeboat.exclude={}", left.name);
        let options = [
            "--volume",
            &kept.at("/kept"),
            "--volume",
            &left.at("/left"),
            "--volume",
            "/etc/hostname:/asked:ro",
            "--volume",
            "/etc/hosts:/not-asked:ro",
        ];
        let container = service(engine, &options, &[include, &exclude]);
        snapshot(&scene, engine, &container, &[]).expect(0).says("/etc/hosts of container");
        let captured = paths(&scene);
        let captured: Vec<&str> =
            captured.as_array().unwrap().iter().map(|path| path.as_str().unwrap()).collect();
        let mut expected = [
            format!("container:{}", container.name),
            format!("volume:{}", kept.name),
            "/etc/hostname".to_owned(),
        ];
        expected.sort();
        let mut sorted = captured.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, expected);
    }

    fn who_has_to_be_healthy_by_its_label_is_not_captured_and_not_touched_otherwise(engine: &Engine) {
        let scene = Scene::with_repository();
        let options = ["--health-cmd", "test -e /well", "--health-interval", "1s", "--health-retries", "1"];
        let labels = [
            "lifeboat.require-healthy=true",
            r#"lifeboat.pre=["touch","/pre"]"#,
            r#"lifeboat.post=["touch","/post"]"#,
        ];
        let container = service(engine, &options, &labels);
        container
            .wait_until("it is unhealthy", || container.inspect()["State"]["Health"]["Status"] == "unhealthy");
        snapshot(&scene, engine, &container, &["--wait-ready", "0"]).expect(4).says("captured only while it is healthy");
        assert!(!container.try_exec(&["sh", "-c", "ls /pre || ls /post"]).status.success(), "a command was run");
        assert!(scene.snapshots().is_empty() && !scene.path("state/lifeboat/holds").exists());
        container.exec(&["touch", "/well"]);
        snapshot(&scene, engine, &container, &[]).expect(0);
        container.exec(&["ls", "/pre", "/post"]);
    }

    fn a_job_that_ended_well_is_ready_and_one_that_failed_is_not(engine: &Engine) {
        let scene = Scene::with_repository();
        for (script, code) in [("exit 0", 0), ("exit 9", 3)] {
            let job = engine.run("base", &["--network", "none"], &["sh", "-c", script]);
            job.wait_until("it has ended", || job.state() == "exited");
            let said = snapshot(&scene, engine, &job, &[]).expect(code);
            let unhealthy = scene.snapshots().pop().unwrap()["unhealthy"].clone();
            match code {
                0 => assert_eq!(unhealthy, Value::Null),
                _ => {
                    assert!(unhealthy[0].as_str().unwrap().contains(&job.name), "{unhealthy}");
                    said.says("does not count as a good one");
                }
            }
            assert_eq!(job.state(), "exited");
        }
    }

    fn who_does_not_stop_in_its_own_time_is_killed_which_is_told_and_started_again(engine: &Engine) {
        let scene = Scene::with_repository();
        let options = ["--network", "none", "--stop-timeout", "1", "--label", "lifeboat.stop=true"];
        let deaf = engine.run("base", &options, &["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"]);
        let started = deaf.started_at();
        snapshot(&scene, engine, &deaf, &[]).expect(0).says(&deaf.name).says("killed");
        assert_eq!(how(&scene, &deaf)["killed"], json!(true));
        assert_eq!(deaf.state(), "running");
        assert_ne!(deaf.started_at(), started);
    }
}
