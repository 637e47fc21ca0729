//! Servers in containers, on an engine that `cargo xtask bench` started.
//!
//! Must stay true: a server and its volumes are gone when it is dropped; what is counted as done is what a client was
//! told is done, never what was asked for.
//! Read next: [`load`] for the clients.

pub(crate) mod load;

use anyhow::{Context, Result, bail, ensure};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long a server may take to become ready; nothing is measured by it.
const READY_MAX: Duration = Duration::from_secs(300);

/// The engine.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    /// For `DOCKER_HOST`.
    pub(crate) url: String,
}

impl Engine {
    /// The current engine with the graph driver's store: the most usual one.
    pub(crate) fn find() -> Result<Self> {
        Self::named("graph")
    }

    /// `system`, `graph` or `containerd`.
    pub(crate) fn named(name: &str) -> Result<Self> {
        let engines = std::env::var("LIFEBOAT_TEST_ENGINES").unwrap_or_default();
        let end = format!("/{name}/docker.sock");
        let url = engines.split_whitespace().find(|url| url.ends_with(&end));
        let url = url.context("no engine is started; `cargo xtask bench` starts one, as root")?;
        Ok(Self { url: url.to_owned() })
    }

    /// The `docker` command, without the user's settings.
    pub(crate) fn docker(&self, words: &[&str]) -> Command {
        let mut docker = Command::new("docker");
        docker.env_remove("DOCKER_CONTEXT").env_remove("DOCKER_API_VERSION").env("DOCKER_HOST", &self.url);
        docker.args(words).stdin(Stdio::null());
        docker
    }

    /// What it says; it must succeed.
    pub(crate) fn say(&self, words: &[&str]) -> Result<String> {
        let output = self.docker(words).output().context("cannot start docker")?;
        let why = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "`docker {}` ended with {}: {}",
            words.join(" "),
            output.status,
            why.trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

/// A kind of server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    /// Of the tests' images.
    pub(crate) image: &'static str,
    /// What the server is told.
    pub(crate) words: &'static [&'static str],
    /// Where it keeps its data.
    pub(crate) data: &'static str,
    /// Succeeds when it is ready.
    pub(crate) ready: &'static [&'static str],
    /// Prints how many writes it has kept: what clients were told is done is never more.
    pub(crate) count: &'static [&'static str],
    /// Succeeds when the server finds nothing wrong with its data.
    pub(crate) check: &'static [&'static str],
}

/// A server with its data in a volume.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) engine: Engine,
    kind: Kind,
    /// Its labels.
    labels: &'static [&'static str],
    /// Of the container and of the volume.
    pub(crate) name: String,
}

impl Server {
    /// Starts one on a new volume.
    pub(crate) fn start(engine: &Engine, kind: Kind, labels: &'static [&'static str]) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("lifeboat-bench-{}-{number}", std::process::id());
        let server = Self { engine: engine.clone(), kind, labels, name };
        server.run()?;
        Ok(server)
    }

    /// Restores nothing and starts nothing: a name for a volume that somebody else makes.
    pub(crate) fn named_after(other: &Self) -> Self {
        let name = format!("{}-restored", other.name);
        Self { engine: other.engine.clone(), kind: other.kind, labels: &[], name }
    }

    /// Starts the server on its volume, and waits until it is ready.
    pub(crate) fn run(&self) -> Result<()> {
        let mount = format!("{}:{}", self.name, self.kind.data);
        let image = format!("lifeboat-test/{}:1", self.kind.image);
        let mut run = vec!["run", "--detach", "--name", &self.name, "--shm-size", "256m", "--volume", &mount];
        run.extend(self.labels.iter().flat_map(|label| ["--label", *label]));
        run.push(&image);
        run.extend(self.kind.words);
        self.engine.say(&run)?;
        let begun = Instant::now();
        while self.exec(self.kind.ready).is_err() {
            if begun.elapsed() > READY_MAX {
                bail!(
                    "{} does not become ready: {}",
                    self.kind.image,
                    self.engine.say(&["logs", "--tail", "20", &self.name])?
                );
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// What a program in the container prints.
    pub(crate) fn exec(&self, words: &[&str]) -> Result<String> {
        self.engine.say(&[&["exec", &self.name], words].concat())
    }

    /// Writes that it has kept.
    pub(crate) fn count(&self) -> Result<u64> {
        let text = self.exec(self.kind.count)?;
        text.parse().with_context(|| format!("`{text}` is not a count"))
    }

    /// Fails where the server finds something wrong.
    pub(crate) fn check(&self) -> Result<()> {
        self.exec(self.kind.check).map(drop)
    }

    /// Bytes of its data.
    pub(crate) fn bytes(&self) -> Result<u64> {
        let text = self.exec(&["du", "--summarize", "--bytes", self.kind.data])?;
        text.split_whitespace().next().and_then(|word| word.parse().ok()).with_context(|| format!("`{text}`"))
    }

    /// As a source of lifeboat.
    pub(crate) fn container(&self) -> String {
        format!("container:{}", self.name)
    }

    /// Its volume as a source and as a target.
    pub(crate) fn volume(&self) -> String {
        format!("volume:{}", self.name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.engine.say(&["rm", "--force", "--volumes", &self.name]);
        let _ = self.engine.say(&["volume", "rm", "--force", &self.name]);
    }
}
