//! Services on an engine that may be killed, a machine that captures them, and what they are like afterwards.

use super::proxy::{At, Deed, Proxy, When};
use crate::engines::killable::{Container, KillableEngine};
use crate::engines::objects::Volume;
use crate::scene::Scene;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long anything may take. Nothing is measured by it: a test that waits longer has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// Ends at once when it is told to.
const SERVICE: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

pub(crate) fn signal(number: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(number).unwrap()).unwrap();
    let _ = rustix::process::kill_process(pid, signal);
}

pub(crate) fn sigkill(number: u32) {
    signal(number, rustix::process::Signal::KILL);
}

/// A deed that kills the process whose number is put into the first of these; it waits for that.
pub(super) fn killing() -> (Arc<AtomicU32>, Deed) {
    let target = Arc::new(AtomicU32::new(0));
    let victim = Arc::clone(&target);
    let deed = move || {
        while victim.load(Ordering::SeqCst) == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        sigkill(victim.load(Ordering::SeqCst));
    };
    (target, Box::new(deed))
}

/// The supervisor of this state, found by the journal it was given.
pub(crate) fn supervisor(state: &Path) -> Option<u32> {
    let wanted = state.to_str().unwrap().as_bytes();
    std::fs::read_dir("/proc").unwrap().flatten().find_map(|process| {
        let number = process.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(process.path().join("cmdline")).ok()?;
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        (words.get(1) == Some(&&b"supervise"[..]) && words.get(2)?.starts_with(wanted)).then_some(number)
    })
}

pub(crate) fn journals(state: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(state.join("holds")) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|suffix| suffix == "jsonl")).collect()
}

/// The containers that journals call quiet, or about to become so, and not undone, by id.
pub(super) fn made_quiet(state: &Path) -> Vec<String> {
    let mut last: BTreeMap<String, bool> = BTreeMap::new();
    for path in journals(state) {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        for line in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let Some(container) = line["container"].as_str() else { continue };
            match line["entry"].as_str() {
                Some("doing" | "did" | "starting") => _ = last.insert(container.into(), true),
                Some("undone") => _ = last.insert(container.into(), false),
                _ => {}
            }
        }
    }
    last.into_iter().filter(|(_, is_quiet)| *is_quiet).map(|(container, _)| container).collect()
}

/// So long an engine has to start by itself what its policy starts.
const ENGINES_TURN: Duration = Duration::from_secs(20);

/// What an engine says, on standard output, of a container that runs without its files.
const EXEC_FAILED: &str = "OCI runtime exec failed";

/// A run whose engine is killed at a request and started again, and what was quiet then, if it came to that.
pub(super) fn run_whose_engine_dies(
    engine: &KillableEngine,
    (socket, state): (&Path, PathBuf),
    at: (At, When),
    run: impl FnOnce(&Proxy) -> Child,
) -> (Child, Option<Vec<String>>) {
    let kill = engine.killer();
    let when = at.1;
    let touched = Arc::new(Mutex::new(Vec::new()));
    let (seen, watched) = (Arc::clone(&touched), state.clone());
    let deed = Box::new(move || {
        kill();
        *seen.lock().unwrap() = made_quiet(&watched);
    });
    let proxy = Proxy::start(socket, &engine.url, at, deed);
    let mut run = run(&proxy);
    let begun = Instant::now();
    while !proxy.has_fired() && run.try_wait().unwrap().is_none() && begun.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
    }
    if !proxy.has_fired() {
        return (run, None);
    }
    let mut touched = touched.lock().unwrap().clone();
    if when == When::Answered {
        // It reads the answer first. What it knows by that to be back, it leaves alone.
        while !proxy.has_gone_on() && run.try_wait().unwrap().is_none() && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
        touched = made_quiet(&state);
    }
    engine.restart();
    (run, Some(touched))
}

/// One service is stopped, with a user of its network; three are paused. What runs before and after a capture leaves a line
/// in a volume.
pub(super) struct Place {
    // Dropped in this order.
    services: Vec<Container>,
    volume: Volume,
    pub(super) engine: KillableEngine,
    pub(super) scene: Scene,
}

impl Place {
    pub(super) fn new(flavour: &'static str) -> Self {
        Self::with_labels(flavour, &[])
    }

    pub(super) fn with_labels(flavour: &'static str, labels: &[&str]) -> Self {
        let engine = KillableEngine::start(flavour);
        let volume = engine.volume();
        let service =
            |options: &[&str]| engine.run("base", &[options, labels].concat(), &["sh", "-c", SERVICE]);
        let app = service(&["--network", "none", "--label", "lifeboat.stop=true"]);
        let sidecar = service(&["--network", &format!("container:{}", app.name)]);
        // The engine itself brings this one back.
        let web = service(&["--network", "none", "--restart", "always"]);
        // After its death it does not bring back this one, nor the first two.
        let db = service(&[
            "--network",
            "none",
            "--restart",
            "unless-stopped",
            "--volume",
            &volume.at("/data"),
            "--label",
            r#"lifeboat.pre=["sh","-c","echo before >>/data/log"]"#,
            "--label",
            r#"lifeboat.post=["sh","-c","echo after >>/data/log"]"#,
        ]);
        // Nor this one, which nothing tells from a job.
        let plain = service(&["--network", "none"]);
        let services = vec![app, sidecar, web, db, plain];
        Self { services, volume, engine, scene: Scene::with_repository() }
    }

    /// The service that is paused and has no restart policy.
    pub(super) fn without_policy(&self) -> &Container {
        &self.services[4]
    }

    pub(super) fn state(&self) -> PathBuf {
        self.scene.path("state/lifeboat")
    }

    pub(super) fn engine_folder(&self) -> PathBuf {
        self.scene.path("")
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.scene.path("proxy.sock")
    }

    /// A capture of all services, through a proxy.
    pub(super) fn run(&self, proxy: &Proxy, more: &[&str]) -> Child {
        self.capture(&proxy.host(), more).spawn().unwrap()
    }

    /// The command for a capture of all services.
    pub(super) fn capture(&self, host: &str, more: &[&str]) -> Command {
        let mut command = self.scene.lifeboat();
        command.arg("snapshot").args(more).env("DOCKER_HOST", host);
        command.args(self.services.iter().map(|service| format!("container:{}", service.name)));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(super) fn finish(&self, run: Child) -> (Option<i32>, String) {
        let output = run.wait_with_output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    }

    /// The requests of a run that nothing happens to.
    pub(super) fn requests_of_a_run(&self) -> Vec<String> {
        // The first one makes the helpers' image.
        for _ in 0..2 {
            let proxy = Proxy::listening(&self.socket(), &self.engine.url);
            let (code, text) = self.finish(self.run(&proxy, &[]));
            assert_eq!(code, Some(0), "{text}");
            self.assert_as_before("a run that nothing happens to");
            if proxy.lines().iter().all(|line| !line.contains("fromSrc")) {
                return proxy.lines();
            }
        }
        panic!("the helpers' image is made each time");
    }

    /// A run that hangs while its services are quiet.
    pub(super) fn frozen_run(&self) -> (Proxy, Child) {
        self.frozen_at(super::is_last_pause)
    }

    /// A run that hangs once the engine has answered the first of the requests that fit.
    pub(super) fn frozen_at(&self, fits: fn(&str) -> bool) -> (Proxy, Child) {
        let target = Arc::new(AtomicU32::new(0));
        let victim = Arc::clone(&target);
        let deed = Box::new(move || {
            let number = || victim.load(Ordering::SeqCst);
            while number() == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
            signal(number(), rustix::process::Signal::STOP);
        });
        let at = (At::First(fits), When::Answered);
        let proxy = Proxy::start(&self.socket(), &self.engine.url, at, deed);
        let run = self.run(&proxy, &[]);
        target.store(run.id(), Ordering::SeqCst);
        self.wait_until("the run hangs", || proxy.has_fired());
        (proxy, run)
    }

    /// Services that do not run, paused ones among them.
    pub(super) fn down(&self) -> Vec<String> {
        let names: Vec<&str> = self.services.iter().map(|service| service.name.as_str()).collect();
        let format = "{{.Name}} {{.Id}} {{.State.Status}}";
        let listed = self.engine.say(&[&["inspect", "--format", format], &names[..]].concat());
        listed.lines().filter(|line| !line.ends_with(" running")).map(str::to_owned).collect()
    }

    /// What freezes the processes of the services: an engine may be wrong about that. What it tells itself is printed when it is
    /// dropped.
    fn freezers(&self) -> String {
        let frozen = self.services.iter().map(|service| {
            let process = self.engine.say(&["inspect", "--format", "{{.State.Pid}}", &service.name]);
            let groups = std::fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap_or_default();
            let paths = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
            let files = ["/sys/fs/cgroup/freezer", "/sys/fs/cgroup"]
                .into_iter()
                .zip(["freezer.state", "cgroup.freeze"]);
            let mut states =
                paths.flat_map(|path| files.clone().map(move |(root, file)| format!("{root}{path}/{file}")));
            let state = states.find_map(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
            format!("{} {process} {}", service.name, state.trim())
        });
        frozen.collect::<Vec<_>>().join("\n")
    }

    pub(super) fn marks(&self) -> usize {
        self.engine.say(&["ps", "--all", "--quiet", "--filter", "label=lifeboat.hold"]).lines().count()
    }

    #[track_caller]
    pub(super) fn wait_until(&self, what: &str, mut holds: impl FnMut() -> bool) -> Duration {
        let begun = Instant::now();
        while !holds() {
            if begun.elapsed() > PATIENCE {
                let left = journals(&self.state());
                let left: Vec<_> = left.iter().map(std::fs::read_to_string).collect();
                let freezers = self.freezers();
                panic!(
                    "it never came to this: {what}; down: {:?}; journals: {left:?}; freezers:\n{freezers}",
                    self.down()
                );
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        begun.elapsed()
    }

    /// Waits until nothing is down and nothing is left, and what comes before was followed by what comes after; how long
    /// the services took.
    #[track_caller]
    pub(super) fn assert_as_before(&self, what: &str) -> Duration {
        let took = self.wait_until(what, || self.down().is_empty());
        self.wait_until(&format!("{what}, and nothing is left"), || {
            journals(&self.state()).is_empty() && supervisor(&self.state()).is_none()
        });
        // Marks go before journals do.
        assert_eq!(self.marks(), 0, "{what}");
        self.assert_debts_are_paid(what);
        took
    }

    /// As [`Self::assert_as_before`], for these containers alone, and for what the engine brings back by itself.
    #[track_caller]
    pub(super) fn assert_back(&self, touched: &[String], what: &str) -> Duration {
        let must = |line: &String| {
            touched.iter().any(|id| line.contains(id.as_str())) || line.contains(&self.services[2].name)
        };
        let took = self.wait_until(what, || !self.down().iter().any(must));
        self.wait_until(&format!("{what}, and nothing is left"), || {
            journals(&self.state()).is_empty() && supervisor(&self.state()).is_none()
        });
        took
    }

    #[track_caller]
    fn assert_debts_are_paid(&self, what: &str) {
        let log = std::fs::read_to_string(self.volume.folder().join("log")).unwrap_or_default();
        let last_before = log.lines().rev().position(|line| line == "before");
        let last_after = log.lines().rev().position(|line| line == "after");
        assert!(last_before.is_none() || last_after < last_before, "{what}: nothing came after: {log}");
    }

    pub(super) fn start_what_the_engine_left_down(&self) {
        // In this order: one uses the network of another.
        for service in &self.services {
            service.does("start");
        }
        let mut begun = Instant::now();
        self.wait_until("all services run for the next point", || {
            let is_well = self.down().is_empty();
            if !is_well {
                wake_after_its_turn(&mut begun, &self.engine, &self.services);
            }
            is_well
        });
    }

    pub(super) fn clean(&self) {
        clean(&self.engine);
    }
}

/// An engine that is killed while a container is frozen, or while it starts one again, may lose its way with it: it takes an old
/// task's end for the new one's, starts it every few seconds, says `restarting` for ever, or takes away the files of one that
/// runs. `docker restart` gets no exit event then, and another death of the engine alone does not help either: its containerd
/// keeps the task. Where there is such a container once the engine had its turn, it is taken from it, everything is started,
/// and the engine has another turn.
pub(super) fn wake_after_its_turn(begun: &mut Instant, engine: &KillableEngine, services: &[Container]) {
    if begun.elapsed() < ENGINES_TURN {
        return;
    }
    let is_lost = |service: &&Container| {
        let exec = service.try_exec(&["true"]);
        service.state() == "restarting" || String::from_utf8_lossy(&exec.stdout).contains(EXEC_FAILED)
    };
    let lost: Vec<&Container> = services.iter().filter(is_lost).collect();
    for service in &lost {
        let shim = format!("containerd-shim.* -id {}", service.id());
        println!("{}: the engine lost its way with {}", engine.url, service.name);
        // It may have none just now.
        let _ = Command::new("pkill").args(["-KILL", "-f", &shim]).status().unwrap();
    }
    if !lost.is_empty() {
        engine.kill();
        engine.restart();
        services.iter().for_each(|service| service.does("start"));
        *begun = Instant::now();
    }
}

/// Removes helpers of killed runs, so that all runs make the same requests.
pub(super) fn clean(engine: &KillableEngine) {
    for (list, remove) in [
        (&["ps", "--all", "--quiet", "--filter", "label=lifeboat.helper"][..], &["rm", "--force"][..]),
        (&["volume", "ls", "--quiet", "--filter", "label=lifeboat.proof"], &["volume", "rm"]),
    ] {
        let found = engine.say(list);
        let found: Vec<&str> = found.lines().collect();
        if !found.is_empty() {
            engine.say(&[remove, &found[..]].concat());
        }
    }
}
