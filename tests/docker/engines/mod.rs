//! The engines that `cargo xtask engines` starts, as a test sees them: by the `docker` command, so that what lifeboat's
//! own client believes is compared with what somebody else's says.
//!
//! Must stay true: whatever a test makes has a name of its own, and is removed when the test ends, even when it fails;
//! what a killed test left is removed by the next one. The engines stay up while a test program runs.
//! Read next: [`objects`] for containers and volumes, [`killable`] for an engine that a test may kill.

#![allow(dead_code, reason = "each file of tests uses its own part of the engines")]

pub mod killable;
pub mod objects;

use objects::{Container, Network, Volume};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// On everything that tests make: who made it.
const OWNER: &str = "test.owner";

/// The variables by which the engines are found.
const URLS: &str = "LIFEBOAT_TEST_ENGINES";
const LOCK: &str = "LIFEBOAT_TEST_ENGINES_LOCK";

/// Makes three tests of one promise: `NAME::on_system`, `on_graph`, `on_containerd`.
macro_rules! on_every_engine {
    ($($(#[$note:meta])* fn $name:ident($engine:ident: &Engine) $body:block)+) => {$(
        $(#[$note])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            fn promise($engine: &crate::engines::Engine) $body
            #[test]
            fn on_system() {
                promise(crate::engines::Engine::named("system"));
            }
            #[test]
            fn on_graph() {
                promise(crate::engines::Engine::named("graph"));
            }
            #[test]
            fn on_containerd() {
                promise(crate::engines::Engine::named("containerd"));
            }
        }
    )+};
}
pub(crate) use on_every_engine;

/// One engine.
#[derive(Debug, Clone)]
pub struct Engine {
    /// `system`, `graph` or `containerd`.
    pub name: String,
    /// For `DOCKER_HOST`.
    pub url: String,
}

/// All engines, for as long as this program runs.
struct Started {
    engines: BTreeMap<String, Engine>,
    /// Nobody's test run stops the engines while this is held.
    _in_use: File,
}

impl Engine {
    /// One of the shared engines.
    pub fn named(name: &str) -> &'static Self {
        static STARTED: OnceLock<Started> = OnceLock::new();
        let started = STARTED.get_or_init(start);
        started.engines.get(name).unwrap_or_else(|| panic!("there is no engine {name}"))
    }

    /// The `docker` command on this engine, without the settings of the person who runs the tests.
    pub fn docker<A: AsRef<OsStr>>(&self, words: &[A]) -> Command {
        let mut docker = Command::new("docker");
        for name in ["DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_API_VERSION"] {
            docker.env_remove(name);
        }
        docker.env("DOCKER_HOST", &self.url).env("DOCKER_CONFIG", "/nonexistent");
        docker.args(words).stdin(Stdio::null());
        docker
    }

    /// What runs a program in the network that this engine publishes its ports in; the program's words follow.
    #[track_caller]
    pub fn beside(&self) -> Command {
        let socket = Path::new(self.url.trim_start_matches("unix://"));
        let pid = std::fs::read_to_string(socket.with_file_name("dockerd.pid")).unwrap();
        let mut nsenter = Command::new("nsenter");
        nsenter.arg(format!("--net=/proc/{}/ns/net", pid.trim())).arg("--").stdin(Stdio::null());
        nsenter
    }

    /// The same command where the engine's disk is not to be seen, as on another machine.
    pub fn hidden_from(&self, plain: &Command) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c"]);
        command.args([r#"mount -t tmpfs none "$1" && shift && exec "$@""#, "sh"]);
        command.arg(self.say(&["info", "--format", "{{.DockerRootDir}}"]));
        command.arg(plain.get_program()).args(plain.get_args());
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.current_dir(plain.get_current_dir().unwrap_or(Path::new(".")));
        command
    }

    /// What `docker` says; it must succeed.
    #[track_caller]
    pub fn say<A: AsRef<OsStr>>(&self, words: &[A]) -> String {
        let mut docker = self.docker(words);
        let output = docker.output().unwrap();
        succeeded(&format!("{}: {docker:?}", self.name), &output)
    }

    /// What became of its containers in the last so long, as it tells it, oldest first.
    pub fn told(&self, last: Duration) -> String {
        let format = "{{.TimeNano}} {{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.exitCode}}";
        let now = std::time::UNIX_EPOCH.elapsed().unwrap();
        let (since, until) = (now.saturating_sub(last).as_secs().to_string(), now.as_secs().to_string());
        let times = ["--since", &since, "--until", &until];
        let words = [&["events"], &times[..], &["--filter", "type=container", "--format", format]].concat();
        let output = self.docker(&words).output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    /// What `docker … inspect` says of one thing.
    #[track_caller]
    pub fn inspect(&self, kind: &str, name: &str) -> Value {
        let list: Value = serde_json::from_str(&self.say(&[kind, "inspect", name])).unwrap();
        list[0].clone()
    }

    /// Whether there is a container, volume, network or image of that name.
    pub fn has(&self, kind: &str, name: &str) -> bool {
        self.docker(&[kind, "inspect", name]).output().unwrap().status.success()
    }

    /// Everything that is on it, a line for each thing, sorted.
    #[track_caller]
    pub fn everything(&self) -> Vec<String> {
        let lists: [&[&str]; 4] = [
            &["ps", "--all", "--no-trunc", "--format", "{{.Names}} {{.ID}} {{.State}}"],
            &["volume", "ls", "--format", "volume {{.Name}}"],
            &["network", "ls", "--no-trunc", "--format", "network {{.Name}} {{.ID}}"],
            &["images", "--all", "--no-trunc", "--format", "image {{.Repository}}:{{.Tag}} {{.ID}}"],
        ];
        let mut all = Vec::new();
        for words in lists {
            all.extend(self.say(words).lines().map(str::to_owned));
        }
        all.sort();
        all
    }

    /// The engine's release.
    pub fn version(&self) -> String {
        self.say(&["version", "--format", "{{.Server.Version}}"])
    }

    /// A new, empty, ordinary volume.
    pub fn volume(&self) -> Volume {
        self.volume_with(&[])
    }

    /// A new volume, with more words for `docker volume create`.
    #[track_caller]
    pub fn volume_with(&self, options: &[&str]) -> Volume {
        Volume::create(self, options)
    }

    /// A new network, with more words for `docker network create`.
    #[track_caller]
    pub fn network(&self, options: &[&str]) -> Network {
        Network::create(self, options)
    }

    /// A started container of `lifeboat-test/IMAGE:1`, with options of `docker run` and words for the program in it.
    #[track_caller]
    pub fn run(&self, image: &str, options: &[&str], words: &[&str]) -> Container {
        Container::make(self, &["run", "--detach"], image, options, words)
    }

    /// The same, but not started.
    #[track_caller]
    pub fn create(&self, image: &str, options: &[&str], words: &[&str]) -> Container {
        Container::make(self, &["create"], image, options, words)
    }

    /// Removes what tests made that no longer run.
    pub fn sweep(&self) {
        for (kind, list, remove) in [
            ("container", &["ps", "--all"][..], &["rm", "--force", "--volumes"][..]),
            ("volume", &["volume", "ls"], &["volume", "rm"]),
            ("network", &["network", "ls"], &["network", "rm"]),
        ] {
            let filter = format!("label={OWNER}");
            for id in self.say(&[list, &["--quiet", "--filter", &filter]].concat()).lines() {
                // Another program's sweep may be ahead of us: what is gone is gone.
                let format = if kind == "container" { ".Config.Labels" } else { ".Labels" };
                let format = format!("{{{{index {format} \"{OWNER}\"}}}}");
                let owner = self.docker(&[kind, "inspect", "--format", &format, id]).output().unwrap();
                if owner.status.success() && !lives(String::from_utf8_lossy(&owner.stdout).trim()) {
                    let _ = self.docker(&[remove, &[id]].concat()).output();
                }
            }
        }
    }
}

/// Finds the engines, and starts them if nobody did.
fn start() -> Started {
    if [URLS, LOCK].iter().any(|name| std::env::var(name).is_err()) {
        xtask(&["engines", "start"]);
    }
    let (urls, lock) = (variable(URLS), variable(LOCK));
    let in_use = File::options().create(true).truncate(false).write(true).open(&lock).unwrap();
    in_use.lock_shared().unwrap();
    let engines: BTreeMap<String, Engine> = urls
        .split_whitespace()
        .map(|url| {
            // `…/graph/docker.sock`
            let name = url.rsplit('/').nth(1).unwrap_or_else(|| panic!("{url} is not one of our engines"));
            (name.to_owned(), Engine { name: name.to_owned(), url: url.to_owned() })
        })
        .collect();
    for engine in engines.values() {
        let answer = engine.docker(&["version"]).output().expect("these tests need the program `docker`");
        assert!(
            answer.status.success(),
            "engine {} does not answer; start it as root with `cargo xtask engines start`: {}",
            engine.name,
            String::from_utf8_lossy(&answer.stderr)
        );
        engine.sweep();
    }
    Started { engines, _in_use: in_use }
}

/// Where the engines have their data, programs and images.
fn folder() -> PathBuf {
    PathBuf::from(variable(LOCK)).parent().unwrap().to_owned()
}

/// What the environment says, or else xtask.
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        let text = xtask(&["engines", "env"]);
        let (_, after) =
            text.split_once(&format!("{name}='")).unwrap_or_else(|| panic!("no {name} in {text}"));
        after.split_once('\'').unwrap().0.to_owned()
    })
}

/// A chore of the checkout; it must succeed.
#[track_caller]
fn xtask(words: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO"));
    // Its own profile and folder: the one that people run it with.
    command.args(["run", "--quiet", "--package", "xtask", "--"]).args(words);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).stdin(Stdio::null());
    let output = command.output().unwrap();
    succeeded(&format!("cargo xtask {}", words.join(" ")), &output)
}

#[track_caller]
fn succeeded(what: &str, output: &Output) -> String {
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{what} ended with {}\n{text}\n{errors}", output.status);
    text.trim_end().to_owned()
}

/// The words that start compose: the current engine's, which speaks to all.
pub fn compose_program() -> String {
    static PROGRAM: OnceLock<String> = OnceLock::new();
    PROGRAM.get_or_init(|| variable("LIFEBOAT_TEST_COMPOSE")).clone()
}

/// Compose for a project in a folder; without files, those that it finds there.
pub fn compose_command(engine: &Engine, folder: &Path, name: &str, files: &[&str]) -> Command {
    let mut command = Command::new(compose_program());
    command.env("DOCKER_HOST", &engine.url).current_dir(folder).stdin(Stdio::null());
    command.args(["--project-name", name]);
    files.iter().for_each(|file| _ = command.args(["--file", file]));
    command
}

/// Runs compose; it must succeed.
#[track_caller]
pub fn compose(engine: &Engine, folder: &Path, name: &str, files: &[&str], words: &[&str]) -> String {
    let output = compose_command(engine, folder, name, files).args(words).output().unwrap();
    succeeded(&format!("compose {} on {}", words.join(" "), engine.name), &output)
}

/// A name that nothing else has.
pub fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("lbt-{}-{}", owner(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// This program, by number and start time: numbers are given out again.
fn owner() -> String {
    let pid = std::process::id();
    format!("{pid}-{}", start_time(pid).unwrap())
}

fn lives(owner: &str) -> bool {
    owner
        .split_once('-')
        .and_then(|(pid, started)| Some(start_time(pid.parse().ok()?)? == started))
        .unwrap_or(false)
}

fn start_time(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name is in brackets and may hold anything; the time is the 20th word behind it.
    stat.rsplit_once(") ")?.1.split(' ').nth(19).map(str::to_owned)
}
