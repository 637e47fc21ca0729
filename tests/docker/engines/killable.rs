//! An engine of a test's own, to be killed in the middle of things. It has the small image, and the servers' where that is asked.

use super::{Engine, objects, owner, xtask};
use crate::scene::disk::Disk;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long an engine may take to start. Nothing is measured by it.
const START_MAX: Duration = Duration::from_secs(120);

/// What may have led to a failure.
const REASONS: Duration = Duration::from_secs(300);

/// Where every engine of a machine looks for drivers.
const PLUGINS: &str = "/run/docker/plugins";

/// Used like an [`Engine`]; its containers and volumes go with it.
#[derive(Debug)]
pub struct KillableEngine {
    engine: Engine,
    flavour: &'static str,
    instance: String,
    /// Its data, where that is a disk of its own; taken down after the engine was stopped.
    disk: Option<(Disk, TempDir)>,
}

impl KillableEngine {
    /// Starts one of the three kinds, or `remapped` or `rootless`.
    pub fn start(flavour: &'static str) -> Self {
        Self::begin(flavour, None, &[])
    }

    /// Starts one that has the databases' images too.
    pub fn with_servers(flavour: &'static str) -> Self {
        Self::begin(flavour, None, &["--servers"])
    }

    /// Starts one whose data lies on a small disk.
    pub fn on_disk(flavour: &'static str, size: &str) -> Self {
        Self::begin(flavour, Some(size), &[])
    }

    /// The disk that its data lies on.
    pub fn disk(&self) -> &Disk {
        &self.disk.as_ref().expect("it was started on a disk of its own").0
    }

    fn begin(flavour: &'static str, size: Option<&str>, more: &[&str]) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let pid = owner().split('-').next().unwrap().to_owned();
        let instance = format!("{pid}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        // Made first, so that what a failed start leaves is removed.
        let engine = Engine { name: flavour.to_owned(), url: String::new() };
        let mut killable = Self { engine, flavour, instance, disk: None };
        if let Some(size) = size {
            let data = super::folder().join("data").join(format!("{flavour}-{}", killable.instance));
            let place = tempfile::tempdir().unwrap();
            killable.disk = Some((Disk::ext4_of(place.path().join("disk"), &data, size), place));
        }
        let start = ["engines", "start", flavour, "--instance", &killable.instance];
        let text = xtask(&[&start[..], more].concat());
        let url = text.split_whitespace().find(|word| word.starts_with("unix://"));
        killable.engine.url = url.unwrap_or_else(|| panic!("no URL in {text}")).to_owned();
        killable
    }

    /// The folder with its socket, its process number and its script.
    fn run(&self) -> PathBuf {
        let socket = PathBuf::from(self.engine.url.trim_start_matches("unix://"));
        socket.parent().unwrap().to_owned()
    }

    /// SIGKILL, as the kernel does it when memory is short. The containers' processes are not touched.
    #[track_caller]
    pub fn kill(&self) {
        self.killer()();
    }

    /// What kills it, for whoever must not keep it from being stopped at the test's end.
    pub fn killer(&self) -> impl Fn() + Send + 'static {
        let (engine, pid_file) = (self.engine.clone(), self.run().join("dockerd.pid"));
        move || {
            let pid = std::fs::read_to_string(&pid_file).unwrap();
            let killed = Command::new("kill").args(["-s", "KILL", pid.trim()]).status().unwrap();
            assert!(killed.success());
            let begun = Instant::now();
            while engine.docker(&["version"]).output().unwrap().status.success() {
                assert!(begun.elapsed() < START_MAX, "a killed engine answers");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// Starts it again after [`Self::kill`], and waits until it answers.
    #[track_caller]
    pub fn restart(&self) {
        self.start_again("", Command::new("bash"));
    }

    /// The same, with more options, and where `plugins` is the folder with sockets of drivers: another engine that saw one would
    /// ask it for its volumes for ever, 15 seconds long each time once it is gone.
    #[track_caller]
    pub fn restart_with(&self, options: &str, plugins: &Path) {
        // Mounts of one of the two are seen by the other only where both are.
        let containerd = std::fs::read_to_string(self.run().join("containerd.pid")).unwrap();
        let killed = Command::new("kill").args(["-s", "KILL", containerd.trim()]).status().unwrap();
        assert!(killed.success());
        std::fs::create_dir_all(PLUGINS).unwrap();
        let script = format!("mount --bind \"$1\" {PLUGINS} && exec bash \"$2\"");
        let mut unshared = Command::new("unshare");
        unshared.args(["--mount", "--propagation", "private", "bash", "-c", &script, "-"]).arg(plugins);
        self.start_again(options, unshared);
    }

    fn start_again(&self, options: &str, mut starting: Command) {
        // A killed engine leaves its number behind, and a new one would believe it.
        let _ = std::fs::remove_file(self.run().join("dockerd.pid"));
        let text = std::fs::read_to_string(self.run().join("start.sh")).unwrap();
        let place = " --shutdown-timeout ";
        assert!(text.contains(place), "{text}");
        let text = text.replace(place, &format!(" {options}{place}"));
        let path = self.run().join("start-again.sh");
        std::fs::write(&path, text).unwrap();
        starting.arg(path);
        let mut child =
            starting.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        while !self.engine.docker(&["version"]).output().unwrap().status.success() {
            let ended = child.try_wait().unwrap();
            assert!(
                ended.is_none() && begun.elapsed() < START_MAX,
                "the engine does not start again: {ended:?}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        // Waited for elsewhere, or it would be a zombie that looks alive.
        std::thread::spawn(move || child.wait());
    }
}

impl Deref for KillableEngine {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.engine
    }
}

impl KillableEngine {
    /// What it told of its containers in the last minutes, and where its log is kept: with it the reason would be gone.
    fn keep_reasons(&self) {
        eprintln!("events of {}:\n{}", self.engine.name, self.engine.told(REASONS));
        let to =
            std::env::temp_dir().join(format!("lifeboat-dockerd-{}-{}.log", self.flavour, self.instance));
        match std::fs::copy(self.run().join("dockerd.log"), &to) {
            Ok(_) => eprintln!("its log: {}", to.display()),
            Err(error) => eprintln!("its log is not kept: {error}"),
        }
    }
}

impl Drop for KillableEngine {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.engine.url.is_empty() {
            self.keep_reasons();
        }
        let stop = ["engines", "stop", self.flavour, "--instance", &self.instance];
        if let Err(panic) = std::panic::catch_unwind(|| xtask(&stop)) {
            eprintln!("the engine {} was not stopped: {panic:?}", self.engine.name);
        }
    }
}

/// Containers on it must be dropped before it is.
pub type Container = objects::Container;
