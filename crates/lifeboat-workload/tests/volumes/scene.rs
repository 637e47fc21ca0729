//! Real engines, and things on them that go away with the test.
//!
//! Must stay true: every test runs on every engine that `LIFEBOAT_TEST_ENGINES` names, and fails without any; whatever a
//! test makes carries its unique prefix and is removed when the scene ends, also by a panic.

use lifeboat_workload::engine::views::Words;
use lifeboat_workload::engine::{AnonymousVolumes, Engine};
use lifeboat_workload::volume::helper_container::{HELPER_LABEL, leftovers};
use serde_json::json;
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
    let hosts = std::env::var("LIFEBOAT_TEST_ENGINES").unwrap_or_default();
    assert!(
        !hosts.trim().is_empty(),
        "LIFEBOAT_TEST_ENGINES names no engine; `cargo xtask test` starts them, `cargo xtask engines start` too"
    );
    for host in hosts.split_whitespace() {
        let engine = Engine::connect(Some(host)).unwrap();
        eprintln!("on {host}: Engine {}", engine.version().engine);
        let number = SCENES.fetch_add(1, Ordering::Relaxed);
        test(&Scene { engine, prefix: format!("lifeboat-test-{}-{number}", std::process::id()) });
    }
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
        let all = leftovers(&self.engine).unwrap().into_iter();
        all.filter(|one| one.labels[HELPER_LABEL] == self.prefix).map(|one| one.id).collect()
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
            if volume.name.starts_with(&self.prefix) {
                let _ = self.engine.remove_volume(&volume.name);
            }
        }
    }
}
