//! Real engines, and things on them that go away with the test.
//!
//! Must stay true: every test runs on every engine that the project brings, and fails without one; whatever a test makes
//! carries its unique prefix and is removed when the scene ends, also by a panic.

use lifeboat_workload::engine::views::Words;
use lifeboat_workload::engine::{AnonymousVolumes, Engine};
use lifeboat_workload::volume::helper_container::HELPER_LABEL;
use serde_json::json;
use std::fs::File;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

const TEST_LABEL: &str = "lifeboat.test";
static SCENES: AtomicU32 = AtomicU32::new(0);

/// An engine, and a prefix for names.
pub(crate) struct Scene {
    pub(crate) engine: Engine,
    pub(crate) prefix: String,
}

/// Runs a test on every engine.
pub(crate) fn on_every_engine(test: impl Fn(&Scene)) {
    for host in &engines().hosts {
        let engine = Engine::connect(Some(host)).unwrap();
        eprintln!("on {host}: Engine {}", engine.version().engine);
        let number = SCENES.fetch_add(1, Ordering::Relaxed);
        test(&Scene { engine, prefix: format!("lifeboat-test-{}-{number}", std::process::id()) });
    }
}

struct Engines {
    hosts: Vec<String>,
    /// Nobody's test run stops the engines while this is held.
    _in_use: File,
}

/// The engines that the tests are run with, started where they are not.
fn engines() -> &'static Engines {
    static ENGINES: OnceLock<Engines> = OnceLock::new();
    ENGINES.get_or_init(|| {
        let said = |name: &str| std::env::var(name).ok();
        let (urls, lock) =
            said("LIFEBOAT_TEST_ENGINES").zip(said("LIFEBOAT_TEST_ENGINES_LOCK")).unwrap_or_else(|| {
                xtask(&["engines", "start"]);
                let text = xtask(&["engines", "env"]);
                let value = |name: &str| {
                    let (_, after) = text.split_once(&format!("{name}='")).unwrap();
                    after.split_once('\'').unwrap().0.to_owned()
                };
                (value("LIFEBOAT_TEST_ENGINES"), value("LIFEBOAT_TEST_ENGINES_LOCK"))
            });
        let in_use = File::options().create(true).truncate(false).write(true).open(lock).unwrap();
        in_use.lock_shared().unwrap();
        let hosts = urls.split_whitespace().map(str::to_owned).collect();
        Engines { hosts, _in_use: in_use }
    })
}

/// A chore of the checkout; it must succeed.
fn xtask(words: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO"));
    command.args(["run", "--quiet", "--package", "xtask", "--"]).args(words);
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "start the engines as root with `cargo xtask engines start`: {said}");
    String::from_utf8(output.stdout).unwrap()
}

impl Scene {
    /// A volume of this name behind the prefix.
    pub(crate) fn volume(&self, name: &str, options: &[(&str, &str)]) -> String {
        let name = format!("{}-{name}", self.prefix);
        let options: Words = options.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        self.engine.create_volume(Some(&name), "local", &options, &Words::new()).unwrap();
        name
    }

    /// The helpers that runs of this scene have left.
    pub(crate) fn helpers(&self) -> Vec<String> {
        let label = format!("{HELPER_LABEL}={}", self.prefix);
        self.engine.containers(&[&label]).unwrap().into_iter().map(|one| one.id).collect()
    }

    /// A container that is never started, of the helpers' image, which has to be there.
    pub(crate) fn container(&self, name: &str) -> String {
        let name = format!("{}-{name}", self.prefix);
        let body = json!({"Image": "lifeboat-helper:1", "Cmd": ["x"], "Labels": {TEST_LABEL: self.prefix}});
        self.engine.create_container(Some(&name), &body).unwrap()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for label in [HELPER_LABEL, TEST_LABEL] {
            let label = format!("{label}={}", self.prefix);
            for container in self.engine.containers(&[&label]).unwrap_or_default() {
                let _ = self.engine.remove_container(&container.id, AnonymousVolumes::Remove);
            }
        }
        for volume in self.engine.volumes(&[]).unwrap_or_default() {
            if volume.name.starts_with(&format!("{}-", self.prefix)) {
                let _ = self.engine.remove_volume(&volume.name);
            }
        }
    }
}
