//! Containers, volumes and networks that are gone when the test is.

use super::{Engine, OWNER, owner, unique};
use serde_json::Value;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Output;
use std::time::{Duration, Instant};

/// How long a service may take to become ready. Nothing is measured by it: a test that waits longer has failed.
const READY_MAX: Duration = Duration::from_secs(120);

fn label() -> String {
    format!("{OWNER}={}", owner())
}

/// A volume.
#[derive(Debug)]
pub struct Volume {
    engine: Engine,
    /// Its name on the engine.
    pub name: String,
}

impl Volume {
    #[track_caller]
    pub(super) fn create(engine: &Engine, options: &[&str]) -> Self {
        let name = unique();
        engine.say(&[&["volume", "create", "--label", &label()], options, &[&name]].concat());
        Self { engine: engine.clone(), name }
    }

    /// Takes over a volume that somebody else makes or made: it is removed with the test.
    pub fn adopt(engine: &Engine, name: &str) -> Self {
        Self { engine: engine.clone(), name: name.to_owned() }
    }

    /// A name that no volume has yet, removed with the test if one gets it.
    pub fn reserved(engine: &Engine) -> Self {
        Self::adopt(engine, &unique())
    }

    /// Where the engine keeps it. The tests' engines run on this machine, as root, without a mount namespace.
    #[track_caller]
    pub fn folder(&self) -> PathBuf {
        let volume = self.engine.inspect("volume", &self.name);
        let folder = PathBuf::from(volume["Mountpoint"].as_str().unwrap());
        assert!(folder.is_dir(), "{} is not here", folder.display());
        folder
    }

    /// For `--volume`.
    pub fn at(&self, place: &str) -> String {
        format!("{}:{place}", self.name)
    }

    /// Destroys it before the test ends.
    #[track_caller]
    pub fn destroy(&self) {
        self.engine.say(&["volume", "rm", &self.name]);
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = self.engine.docker(&["volume", "rm", "--force", &self.name]).output();
    }
}

/// A network.
#[derive(Debug)]
pub struct Network {
    engine: Engine,
    /// Its name on the engine.
    pub name: String,
}

impl Network {
    #[track_caller]
    pub(super) fn create(engine: &Engine, options: &[&str]) -> Self {
        let name = unique();
        engine.say(&[&["network", "create", "--label", &label()], options, &[&name]].concat());
        Self { engine: engine.clone(), name }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.engine.docker(&["network", "rm", &self.name]).output();
    }
}

/// A container. It must be made after the volumes it uses, so that it goes before them.
#[derive(Debug)]
pub struct Container {
    engine: Engine,
    /// Its name on the engine.
    pub name: String,
}

impl Container {
    #[track_caller]
    pub(super) fn make(
        engine: &Engine,
        verb: &[&str],
        image: &str,
        options: &[&str],
        words: &[&str],
    ) -> Self {
        // Made first: `docker run` may fail after it created the container.
        let container = Self { engine: engine.clone(), name: unique() };
        let image = if image.contains('/') { image.to_owned() } else { format!("lifeboat-test/{image}:1") };
        let own = ["--name", &container.name, "--label", &label()];
        engine.say(&[verb, &own, options, &[&image], words].concat());
        container
    }

    /// Takes over a container that somebody else makes or made: it is removed with the test.
    pub fn adopt(engine: &Engine, name: &str) -> Self {
        Self { engine: engine.clone(), name: name.to_owned() }
    }

    /// The id of a container of somebody else.
    #[track_caller]
    pub fn id_of(engine: &Engine, name: &str) -> String {
        engine.inspect("container", name)["Id"].as_str().unwrap().to_owned()
    }

    /// Does something to it: `container.does("pause")`.
    #[track_caller]
    pub fn does(&self, verb: &str) {
        self.engine.say(&[verb, &self.name]);
    }

    /// What a program in it prints; it must succeed.
    #[track_caller]
    pub fn exec<A: AsRef<OsStr>>(&self, words: &[A]) -> String {
        let output = self.try_exec(words);
        super::succeeded(&format!("in {} on {}", self.name, self.engine.name), &output)
    }

    /// Runs a program in it, whatever comes of it.
    pub fn try_exec<A: AsRef<OsStr>>(&self, words: &[A]) -> Output {
        let mut docker = self.engine.docker(&["exec", &self.name]);
        docker.args(words).output().unwrap()
    }

    /// Waits until a program in it succeeds.
    #[track_caller]
    pub fn wait_for(&self, words: &[&str]) {
        let mut last = None;
        self.wait_until(&format!("{words:?} succeeds"), || {
            let output = last.insert(self.try_exec(words));
            output.status.success()
        });
    }

    /// Waits until something holds; fails with the container's state and the end of its log.
    #[track_caller]
    pub fn wait_until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !holds() {
            if begun.elapsed() > READY_MAX {
                let log = self.engine.docker(&["logs", "--tail", "30", &self.name]).output().unwrap();
                let log = String::from_utf8_lossy(&[log.stdout, log.stderr].concat()).into_owned();
                panic!(
                    "on {}, it never came to this: {what}; state {}\n{log}",
                    self.engine.name,
                    self.state()
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What the engine says about it.
    #[track_caller]
    pub fn inspect(&self) -> Value {
        self.engine.inspect("container", &self.name)
    }

    /// Its id.
    #[track_caller]
    pub fn id(&self) -> String {
        self.inspect()["Id"].as_str().unwrap().to_owned()
    }

    /// `running`, `paused`, `exited`, `created`, …
    #[track_caller]
    pub fn state(&self) -> String {
        self.inspect()["State"]["Status"].as_str().unwrap().to_owned()
    }

    /// Changes when it is started again.
    #[track_caller]
    pub fn started_at(&self) -> String {
        self.inspect()["State"]["StartedAt"].as_str().unwrap().to_owned()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // With its anonymous volumes. A paused container is killed too.
        let _ = self.engine.docker(&["rm", "--force", "--volumes", &self.name]).output();
    }
}

/// An image, gone with all that was made of it.
#[derive(Debug)]
pub struct Image {
    engine: Engine,
    /// Its name on the engine, or its id.
    pub name: String,
}

impl Image {
    /// A new image on top of `lifeboat-test/base:1`, with a file `/hello` that says `word`.
    #[track_caller]
    pub fn make(engine: &Engine, word: &str) -> Self {
        Self::make_as(engine, &format!("lbt/{}:1", unique()), word)
    }

    /// The same, under a name.
    #[track_caller]
    pub fn make_as(engine: &Engine, name: &str, word: &str) -> Self {
        Self::make_of(engine, name, &[("hello", word.as_bytes())])
    }

    /// The same, with these files.
    #[track_caller]
    pub fn make_of(engine: &Engine, name: &str, files: &[(&str, &[u8])]) -> Self {
        let container = engine.create("base", &[], &[]);
        let folder = tempfile::tempdir().unwrap();
        for (file, content) in files {
            let path = folder.path().join(file);
            std::fs::write(&path, content).unwrap();
            engine.say(&["cp", path.to_str().unwrap(), &format!("{}:/{file}", container.name)]);
        }
        engine.say(&["commit", "--change", "LABEL test.word=some", &container.name, name]);
        Self::adopt(engine, name)
    }

    /// Takes over an image that somebody else makes or made: its name is removed with the test.
    pub fn adopt(engine: &Engine, name: &str) -> Self {
        Self { engine: engine.clone(), name: name.to_owned() }
    }

    /// Another name of it.
    #[track_caller]
    pub fn tag(&self) -> Self {
        let name = format!("lbt/{}:2", unique());
        self.engine.say(&["tag", &self.name, &name]);
        Self::adopt(&self.engine, &name)
    }

    /// Its id.
    #[track_caller]
    pub fn id(&self) -> String {
        self.engine.inspect("image", &self.name)["Id"].as_str().unwrap().to_owned()
    }

    /// Takes the name away; the image is gone with its last one.
    #[track_caller]
    pub fn remove(&self) {
        self.engine.say(&["rmi", &self.name]);
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = self.engine.docker(&["rmi", "--force", &self.name]).output();
    }
}
