//! A command that runs in a container before a capture, or holds something during it, does not outlive a run that is killed.
//!
//! Must stay true: it is over before what comes after a capture is run, also one that does not listen, and nobody else's
//! process is touched; one that lets go by itself has its time for that. Where nobody can see to it, that is told.

use super::ENGINES;
use super::place::{PATIENCE, journals, sigkill, signal, supervisor};
use crate::engines::Engine;
use crate::engines::killable::KillableEngine;
use crate::engines::objects::Container;
use crate::scene::{Done, Scene, binary};
use rustix::process::Signal;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// What nobody else's process is called.
const OURS: &str = "sleep 300.25";
const OTHERS: &str = "sleep 300.75";

struct Commands {
    // Dropped in this order.
    service: Container,
    engine: Engine,
    /// Where nobody else may see to it.
    _own: Option<KillableEngine>,
    scene: Scene,
}

impl Commands {
    /// A service with a command before its capture that takes minutes.
    fn new(flavour: &str, before: &str) -> Self {
        Self::with_labels(flavour, before, &["lifeboat.post=[\"sh\",\"-c\",\"echo after >>/log\"]"])
    }

    /// A service that is not made quiet, and that a command holds.
    fn holding(flavour: &str, hold: &str, more: &[&str]) -> Self {
        let labels = [&["lifeboat.pause=false", "lifeboat.pre.hold=true"], more].concat();
        Self::with_labels(flavour, hold, &labels)
    }

    fn with_labels(flavour: &str, before: &str, labels: &[&str]) -> Self {
        Self::on(Engine::named(flavour).clone(), None, before, labels)
    }

    fn on(engine: Engine, own: Option<KillableEngine>, before: &str, labels: &[&str]) -> Self {
        let before = format!(r#"lifeboat.pre=["sh","-c","{before}"]"#);
        let mut options = vec!["--network", "none", "--label", &before];
        options.extend(labels.iter().flat_map(|label| ["--label", label]));
        let service = engine.run("base", &options, &["sh", "-c", &format!("while :; do {OTHERS}; done")]);
        Self { service, engine, _own: own, scene: Scene::with_repository() }
    }

    fn state(&self) -> PathBuf {
        self.scene.path("state/lifeboat")
    }

    /// A run whose command before the capture has begun.
    fn run(&self) -> Child {
        let mut command = self.scene.lifeboat();
        command.arg("snapshot").arg(format!("container:{}", self.service.name));
        let run = self.spawn(&mut command);
        self.wait_until("the command has begun", || self.runs(OURS) && self.log().contains("before"));
        run
    }

    fn spawn(&self, command: &mut Command) -> Child {
        command.env("DOCKER_HOST", &self.engine.url).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// lifeboat where it cannot see the processes of containers, as where the engine is on another machine.
    fn lifeboat_elsewhere(&self, script: &str) -> Command {
        let mut command = Command::new("unshare");
        self.scene.dress(&mut command).args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
        command.args(["sh", "-c", script, "sh"]).arg(binary());
        command
    }

    fn recover_elsewhere(&self) -> Done {
        Done::of(self.lifeboat_elsewhere(r#""$@""#).arg("recover").env("DOCKER_HOST", &self.engine.url))
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
        assert_eq!(self.service.state(), "running", "{what}");
        let marks = self.engine.say(&["ps", "--all", "--filter", "label=lifeboat.hold", "--format", ENTRIES]);
        assert!(!marks.contains(&self.service.id()), "{what}: a mark is left");
    }

    #[track_caller]
    fn assert_log(&self, log: &str, what: &str) {
        assert_eq!(self.log(), log, "{what}");
    }

    /// The run, and whoever watches over it.
    fn kill_both(&self, run: Child) {
        // A run that goes on would start another supervisor at once.
        signal(run.id(), Signal::STOP);
        sigkill(supervisor(&self.state()).unwrap());
        self.wait_until("the supervisor is dead", || supervisor(&self.state()).is_none());
        kill(run);
    }
}

const ENTRIES: &str = r#"{{.Label "lifeboat.hold.entries"}}"#;

/// The process of lifeboat itself, whoever started it.
fn lifeboat_with(word: &str) -> Option<u32> {
    std::fs::read_dir("/proc").unwrap().flatten().find_map(|process| {
        let number = process.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(process.path().join("cmdline")).ok()?;
        let mut words = line.split(|byte| *byte == 0);
        let is_ours = words.next() == Some(binary().as_os_str().as_bytes());
        (is_ours && words.any(|other| other == word.as_bytes())).then_some(number)
    })
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
            let what = format!("{flavour}: `{before}`");
            commands.assert_over(&what);
            commands.assert_log("before\nafter\n", &what);
        }
    }
}

/// Hears neither that its standard input ends nor that it is asked to end.
fn deaf_hold() -> String {
    format!("echo before >>/log; trap '' TERM HUP; echo ready; while :; do {OURS}; done")
}

#[test]
fn a_hold_that_does_not_hear_its_end_does_not_outlive_a_run_that_is_killed() {
    for flavour in ENGINES {
        let commands = Commands::holding(flavour, &deaf_hold(), &[]);
        kill(commands.run());
        commands.assert_over(flavour);
        commands.assert_log("before\n", flavour);
    }
}

#[test]
fn a_hold_that_takes_its_time_to_let_go_has_it_when_its_run_is_killed() {
    let after = r#"lifeboat.post=["sh","-c","echo after >>/log"]"#;
    let hold = format!("echo before >>/log; {OURS} & echo ready; cat; sleep 2; kill $!; echo let go >>/log");
    let commands = Commands::holding("graph", &hold, &[after]);
    kill(commands.run());
    commands.assert_over("a slow hold");
    commands.assert_log("before\nlet go\nafter\n", "a slow hold");
}

#[test]
fn a_hold_is_found_by_the_mark_alone_and_from_another_machine() {
    // Whoever recovers on a shared engine finds its mark too.
    let own = KillableEngine::start("graph");
    let labels = ["lifeboat.pause=false", "lifeboat.pre.hold=true", "lifeboat.pre.timeout=5s"];
    let commands = Commands::on(own.clone(), Some(own), &deaf_hold(), &labels);
    commands.kill_both(commands.run());
    std::fs::remove_dir_all(commands.state().join("holds")).unwrap();
    assert!(commands.runs(OURS), "nobody is there to end it");
    commands.recover_elsewhere().expect(0).prints("was ended");
    commands.assert_over("by the mark");
}

#[test]
fn a_command_that_nobody_can_see_or_end_is_told_of_by_who_comes_next() {
    // Without a shell in its container it cannot be seen from elsewhere.
    let hold =
        format!("echo before >>/log; rm /bin/sh; trap '' TERM HUP; echo ready; while :; do {OURS}; done");
    let commands = Commands::holding("graph", &hold, &["lifeboat.pre.timeout=5s"]);
    let source = format!("container:{}", commands.service.name);
    // The shell stays: the end of the first process would be everybody's.
    let mut lifeboat = commands.lifeboat_elsewhere(r#""$@"; sleep 600"#);
    let mut shell = commands.spawn(lifeboat.args(["snapshot", &source]));
    commands.wait_until("the command has begun", || commands.runs(OURS));
    sigkill(lifeboat_with(&source).unwrap());
    commands.wait_until("its supervisor has given up", || supervisor(&commands.state()).is_none());
    assert_eq!(journals(&commands.state()).len(), 1);
    let told = commands.recover_elsewhere().expect(3).prints("1 could not be brought back or ended");
    told.prints("may still run: it cannot be seen");
    assert!(journals(&commands.state()).is_empty() && commands.runs(OURS));
    shell.kill().unwrap();
    shell.wait().unwrap();
}

#[test]
fn recover_ends_what_a_run_and_its_supervisor_left_running() {
    for flavour in ENGINES {
        let commands = Commands::new(flavour, &format!("echo before >>/log; {OURS}"));
        commands.kill_both(commands.run());
        assert!(commands.runs(OURS), "{flavour}: nobody is there to end it");
        commands.recover(&["--dry-run"]).expect(0).prints("would be ended, if it still runs");
        assert!(commands.runs(OURS), "{flavour}: it was only looked at");
        commands.recover(&[]).expect(0).prints("was ended");
        commands.assert_over(flavour);
        commands.assert_log("before\nafter\n", flavour);
    }
}
