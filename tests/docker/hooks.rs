//! Commands before and after a capture that do what they should not: hang, fail, flood, end early, hear nothing.
//!
//! Must stay true: each is over in its time and told by name, what comes after a capture is run, and the service is as before,
//! without a process of lifeboat's in it.

use crate::engines::Engine;
use crate::engines::objects::Container;
use crate::scene::{Done, Scene, binary};
use lifeboat::workload::hooks::{Error, Hold};
use lifeboat::workload::labels::{Command, OnError};
use serde_json::Value;

/// What a command of these tests is known by in a list of processes: nobody else sleeps so long.
const MARK: &str = "300.125";
/// So many at once: they wait most of the time.
const AT_ONCE: usize = 4;

/// One bad command, and what comes of it.
struct Bad {
    what: &'static str,
    /// `pre`, `post`, or `hold`.
    kind: &'static str,
    /// For a shell.
    script: &'static str,
    /// Besides those of its kind.
    labels: &'static [&'static str],
    code: i32,
    says: &'static [&'static str],
}

const QUICK: &[&str] = &["timeout=1s"];

const BAD: &[Bad] = &[
    Bad {
        what: "a command that hangs",
        kind: "pre",
        script: "sleep 300.125",
        labels: QUICK,
        code: 1,
        says: &["had not ended after 1 s"],
    },
    Bad {
        what: "a command that hangs and does not listen",
        kind: "pre",
        script: "trap '' TERM; while :; do sleep 300.125; done",
        labels: QUICK,
        code: 1,
        says: &["had not ended after 1 s"],
    },
    Bad {
        what: "a command that hangs without an output",
        kind: "pre",
        script: "exec >&- 2>&-; sleep 300.125",
        labels: QUICK,
        code: 1,
        says: &["had not ended after"],
    },
    Bad {
        what: "a command that may fail and does not listen",
        kind: "pre",
        script: "trap '' TERM; while :; do sleep 300.125; done",
        labels: &["timeout=1s", "on-error=continue"],
        code: 3,
        says: &["had not ended after 1 s"],
    },
    Bad {
        what: "a flood that has no end",
        kind: "pre",
        script: "yes 300.125",
        labels: QUICK,
        code: 1,
        says: &["had not ended after 1 s"],
    },
    Bad {
        what: "a flood of errors that has no end",
        kind: "pre",
        script: "yes 300.125 >&2",
        labels: QUICK,
        code: 1,
        says: &["had not ended after 1 s"],
    },
    Bad {
        what: "a flood, and a failure that says why",
        kind: "pre",
        script: "yes no | head -c 30000000; yes no | head -c 3000000 >&2; echo the reason >&2; exit 7",
        labels: &[],
        code: 1,
        says: &["ended with 7", "the reason"],
    },
    Bad {
        what: "a holding command that never holds",
        kind: "hold",
        script: "sleep 300.125",
        labels: QUICK,
        code: 1,
        says: &["was not ready after 1 s"],
    },
    Bad {
        what: "a holding command that never holds and does not listen",
        kind: "hold",
        script: "trap '' TERM; while :; do sleep 300.125; done",
        labels: QUICK,
        code: 1,
        says: &["was not ready after 1 s"],
    },
    Bad {
        what: "a holding command that floods and never holds",
        kind: "hold",
        script: "yes 300.125 already",
        labels: QUICK,
        code: 1,
        says: &["was not ready after 1 s"],
    },
    Bad {
        what: "a holding command that dies before it holds",
        kind: "hold",
        script: "echo no lock >&2; exit 5",
        labels: &[],
        code: 1,
        says: &["ended with 5: no lock"],
    },
    Bad {
        what: "a holding command that ends well and has not held",
        kind: "hold",
        script: "exit 0",
        labels: &[],
        code: 1,
        says: &["ended with -1"],
    },
    Bad {
        what: "a holding command that lets go before it is told",
        kind: "hold",
        script: "echo ready; exit 0",
        labels: &[],
        code: 3,
        says: &["let go before the capture was over", "not of one moment"],
    },
    Bad {
        what: "a holding command that does not let go",
        kind: "hold",
        script: "trap '' TERM; echo ready; while :; do sleep 300.125; done",
        labels: QUICK,
        code: 3,
        says: &["had not ended after 1 s", "not of one moment"],
    },
    Bad {
        what: "a holding command that floods before and while it holds",
        kind: "hold",
        script: "yes no | head -c 3000000; echo ready; yes no | head -c 3000000; yes no | head -c 3000000 >&2; cat",
        labels: &[],
        code: 0,
        says: &[],
    },
    Bad {
        what: "a command afterwards that hangs and does not listen",
        kind: "post",
        script: "trap '' TERM; while :; do sleep 300.125; done",
        labels: QUICK,
        code: 3,
        says: &["had not ended after 1 s"],
    },
    Bad {
        what: "a command afterwards that floods and has no end",
        kind: "post",
        script: "yes 300.125",
        labels: QUICK,
        code: 3,
        says: &["had not ended after 1 s"],
    },
    Bad {
        what: "a command afterwards that fails",
        kind: "post",
        script: "echo the reason >&2; exit 7",
        labels: &[],
        code: 3,
        says: &["ended with 7: the reason"],
    },
];

impl Bad {
    fn service(&self, engine: &Engine) -> Container {
        let base = if self.kind == "post" { "lifeboat.post" } else { "lifeboat.pre" };
        let command = serde_json::to_string(&["sh", "-c", self.script]).unwrap();
        let mut labels = vec![
            format!("{base}={command}"),
            // What is owed in any case, after the one that is bad.
            r#"lifeboat.post.2=["sh","-c","echo after >>/log"]"#.to_owned(),
        ];
        if self.kind == "hold" {
            labels.push("lifeboat.pre.hold=true".to_owned());
        }
        labels.extend(self.labels.iter().map(|label| format!("{base}.{label}")));
        let options: Vec<&str> = labels.iter().flat_map(|label| ["--label", label.as_str()]).collect();
        engine.run("base", &options, &[])
    }

    fn check(&self, engine: &Engine, snapshot: Snapshot) {
        let what = self.what;
        let scene = Scene::with_repository();
        let service = self.service(engine);
        let started = service.started_at();
        let mut done = snapshot(&scene, engine, &service).expect(self.code);
        for text in self.says {
            done = done.says(text);
        }
        // What was ended does not run on, and is not said to.
        done.says_not("still runs");
        let top = engine.say(&["top", &service.name, "-eo", "pid,args"]);
        assert!(!top.contains(MARK), "{what}: it still runs: {top}");
        assert_eq!((service.state(), service.started_at()), ("running".into(), started), "{what}");
        assert_eq!(service.exec(&["cat", "/log"]), "after", "{what}");
        let snapshots = scene.snapshots();
        assert_eq!(snapshots.len(), usize::from(self.code != 1), "{what}");
        if self.kind != "post" {
            let is_one = |snapshot: &Value| snapshot["consistency"]["one_moment"] == Value::Bool(true);
            assert!(snapshots.iter().all(|one| is_one(one) == (self.code == 0)), "{what}: {snapshots:?}");
        }
        assert_nothing_is_left(&scene, engine, &service, what);
    }
}

type Snapshot = fn(&Scene, &Engine, &Container) -> Done;

#[track_caller]
fn snapshot(scene: &Scene, engine: &Engine, service: &Container) -> Done {
    let named = format!("container:{}", service.name);
    Done::of(scene.lifeboat().env("DOCKER_HOST", &engine.url).args(["snapshot", &named]))
}

/// As [`snapshot`], where the processes of containers cannot be seen, as from another machine.
#[track_caller]
fn snapshot_elsewhere(scene: &Scene, engine: &Engine, service: &Container) -> Done {
    let mut program = std::process::Command::new("unshare");
    scene.dress(&mut program).args(["--pid", "--fork", "--mount-proc", "--kill-child"]).arg(binary());
    program.args(["snapshot", &format!("container:{}", service.name)]).env("DOCKER_HOST", &engine.url);
    Done::of(&mut program)
}

#[track_caller]
fn assert_nothing_is_left(scene: &Scene, engine: &Engine, service: &Container, what: &str) {
    let journals = std::fs::read_dir(scene.path("state/lifeboat/holds")).unwrap();
    let left: Vec<_> =
        journals.map(|entry| entry.unwrap().file_name()).filter(|name| name != "gate").collect();
    assert!(left.is_empty(), "{what}: {left:?}");
    let format = r#"{{.Label "lifeboat.hold.entries"}}"#;
    let marks = engine.say(&["ps", "--all", "--filter", "label=lifeboat.hold", "--format", format]);
    assert!(!marks.contains(&service.id()), "{what}: a mark is left");
}

#[test]
fn whatever_does_not_listen_is_ended_from_inside_its_container_where_its_processes_cannot_be_seen() {
    let engine = Engine::named("graph");
    let deaf = |bad: &&Bad| bad.script.starts_with("trap '' TERM");
    let deaf: Vec<&Bad> = BAD.iter().filter(deaf).collect();
    assert!(deaf.len() >= 4);
    for some in deaf.chunks(AT_ONCE) {
        std::thread::scope(|scope| {
            some.iter().for_each(|bad| _ = scope.spawn(|| bad.check(engine, snapshot_elsewhere)));
        });
    }
}

#[test]
fn a_holding_command_that_never_answers_is_ended_and_not_said_to_run_on() {
    let engine = Engine::named("graph");
    let service = engine.run("base", &[], &[]);
    let connected = lifeboat::workload::engine::Engine::connect(Some(&engine.url)).unwrap();
    let script = format!("trap '' TERM; echo ready; while :; do sleep {MARK}; done");
    let command = Command {
        number: 0,
        argv: ["sh", "-c", &script].map(String::from).to_vec(),
        user: None,
        timeout: std::time::Duration::from_secs(1),
        on_error: OnError::Fail,
        holds: true,
    };
    let id = service.id();
    let mut hold = Hold::begin(&connected, (&id, &service.name), &command, ("", "0123abcd")).unwrap();
    let Err(error) = hold.ask("an answer\n", "answer") else { panic!("it has answered") };
    assert!(matches!(error, Error::Late { still_runs: false, .. }), "{error:?}");
    let top = engine.say(&["top", &service.name, "-eo", "pid,args"]);
    assert!(!top.contains(MARK), "it still runs: {top}");
}

crate::engines::on_every_engine! {
    fn whatever_a_command_does_it_is_over_in_its_time_and_the_service_is_as_before(engine: &Engine) {
        for some in BAD.chunks(AT_ONCE) {
            std::thread::scope(|scope| {
                some.iter().for_each(|bad| _ = scope.spawn(|| bad.check(engine, snapshot)));
            });
        }
    }

    fn a_command_that_is_not_there_is_a_failure_of_the_command_and_not_of_the_engine(engine: &Engine) {
        let scene = Scene::with_repository();
        let options = ["--label", "lifeboat.pre=no-such-program", "--label", "lifeboat.post=true"];
        let service = engine.run("base", &options, &[]);
        snapshot(&scene, engine, &service).expect(1).says("no-such-program").says("not found");
        assert_eq!(service.state(), "running");
        assert_nothing_is_left(&scene, engine, &service, "a command that is not there");
    }

    fn a_command_that_takes_its_container_down_is_a_failure_and_nothing_is_started_for_it(engine: &Engine) {
        let scene = Scene::with_repository();
        // The command ends the container it runs in.
        let options = ["--label", r#"lifeboat.pre=["sh","-c","kill 1; sleep 300.125"]"#];
        let service = engine.run("base", &options, &["sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done"]);
        snapshot(&scene, engine, &service).expect(1).says("`sh -c kill 1; sleep 300.125` in container");
        assert_eq!(service.state(), "exited");
        assert_nothing_is_left(&scene, engine, &service, "a command that ends its container");
    }
}
