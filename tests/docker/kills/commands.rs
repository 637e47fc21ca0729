//! A command that runs in a container before a capture does not outlive a run that is killed.
//!
//! Must stay true: it is over before what comes after a capture is run, also one that does not listen, and nobody else's
//! process is touched.

use super::ENGINES;
use super::place::{PATIENCE, journals, sigkill, signal, supervisor};
use crate::engines::Engine;
use crate::engines::objects::Container;
use crate::scene::{Done, Scene};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Instant;

/// What nobody else's process is called.
const OURS: &str = "sleep 300.25";
const OTHERS: &str = "sleep 300.75";

struct Commands {
    service: Container,
    engine: &'static Engine,
    scene: Scene,
}

impl Commands {
    /// A service with a command before its capture that takes minutes.
    fn new(flavour: &str, before: &str) -> Self {
        let engine = Engine::named(flavour);
        let before = format!(r#"lifeboat.pre=["sh","-c","{before}"]"#);
        let after = r#"lifeboat.post=["sh","-c","echo after >>/log"]"#;
        let service = engine.run(
            "base",
            &["--network", "none", "--label", &before, "--label", after],
            &["sh", "-c", &format!("while :; do {OTHERS}; done")],
        );
        Self { service, engine, scene: Scene::with_repository() }
    }

    fn state(&self) -> PathBuf {
        self.scene.path("state/lifeboat")
    }

    /// A run whose command before the capture has begun.
    fn run(&self) -> Child {
        let mut command = self.scene.lifeboat();
        command.arg("snapshot").arg(format!("container:{}", self.service.name));
        command.env("DOCKER_HOST", &self.engine.url).stdout(Stdio::piped()).stderr(Stdio::piped());
        let run = command.spawn().unwrap();
        self.wait_until("the command has begun", || self.runs(OURS) && self.log().contains("before"));
        run
    }

    fn runs(&self, command: &str) -> bool {
        self.engine.say(&["top", &self.service.name, "-eo", "pid,args"]).contains(command)
    }

    fn log(&self) -> String {
        let log = self.service.try_exec(&["cat", "/log"]).stdout;
        String::from_utf8(log).unwrap()
    }

    fn recover(&self, more: &[&str]) -> Done {
        let mut command = self.scene.lifeboat();
        Done::of(command.arg("recover").args(more).env("DOCKER_HOST", &self.engine.url))
    }

    #[track_caller]
    fn wait_until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < PATIENCE, "it never came to this: {what}; log: {:?}", self.log());
            std::thread::sleep(std::time::Duration::from_millis(25));
        }
    }

    #[track_caller]
    fn assert_over(&self, what: &str) {
        self.wait_until(what, || journals(&self.state()).is_empty() && supervisor(&self.state()).is_none());
        assert!(!self.runs(OURS), "{what}: it still runs");
        assert!(self.runs(OTHERS), "{what}: somebody else's command was ended");
        assert_eq!(self.log(), "before\nafter\n", "{what}");
        assert_eq!(self.service.state(), "running", "{what}");
    }
}

fn kill(mut run: Child) {
    run.kill().unwrap();
    run.wait().unwrap();
}

#[test]
fn a_command_does_not_outlive_a_run_that_is_killed() {
    let stubborn = format!("echo before >>/log; trap '' TERM; while :; do {OURS}; done");
    let plain = format!("echo before >>/log; {OURS}");
    for flavour in ENGINES {
        for before in [&plain, &stubborn] {
            let commands = Commands::new(flavour, before);
            kill(commands.run());
            commands.assert_over(&format!("{flavour}: `{before}`"));
        }
    }
}

#[test]
fn recover_ends_what_a_run_and_its_supervisor_left_running() {
    for flavour in ENGINES {
        let commands = Commands::new(flavour, &format!("echo before >>/log; {OURS}"));
        let run = commands.run();
        // A run that goes on would start another supervisor at once.
        signal(run.id(), rustix::process::Signal::STOP);
        sigkill(supervisor(&commands.state()).unwrap());
        commands.wait_until("the supervisor is dead", || supervisor(&commands.state()).is_none());
        kill(run);
        assert!(commands.runs(OURS), "{flavour}: nobody is there to end it");
        commands.recover(&["--dry-run"]).expect(0).prints("would be ended, if it still runs");
        assert!(commands.runs(OURS), "{flavour}: it was only looked at");
        commands.recover(&[]).expect(0).prints("was ended");
        commands.assert_over(flavour);
    }
}
