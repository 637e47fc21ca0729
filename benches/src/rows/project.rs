//! A compose project under load: what its snapshots cost, and how long it takes to come back on an engine that has nothing
//! of it, neither images nor volumes.
//!
//! Must stay true: orders come in all the time; what was acknowledged before the second snapshot is in what comes back, every
//! time. The other engine is the system's, and the images are made so that it has none of their layers.

use crate::bench::Bench;
use crate::docker::Engine;
use crate::meter::Call;
use crate::results::{RowResult, Unit};
use crate::rounds::{Participant, Sample};
use crate::tools::{Home, quietly};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const COMPOSE: &str = r#"services:
  db:
    image: NAME/postgres:1
    command: [postgres, -c, max_wal_size=1GB]
    shm_size: 256m
    volumes: ["data:/var/lib/postgresql/data"]
    healthcheck: {test: [CMD, psql, -U, postgres, -c, SELECT 1], interval: 1s, retries: 60}
  cache:
    image: NAME/redis:1
    volumes: ["cache:/data"]
    healthcheck: {test: [CMD, redis-cli, ping], interval: 1s, retries: 60}
  web:
    image: NAME/base:1
    init: true
    command: [perl, /site/serve.pl]
    depends_on: {db: {condition: service_healthy}, cache: {condition: service_healthy}}
    volumes: ["./site:/site"]
    healthcheck: {test: [CMD, bash, -c, 'exec 3<>/dev/tcp/localhost/80 && grep -q welcome <&3'], interval: 1s, retries: 60}
volumes: {data: {}, cache: {}}
"#;
/// A web server with one page.
const SERVER: &str = include_str!("../../../crates/xtask/src/engines/images/serve-page.pl");
/// What Redis holds, about 100 MB.
const CACHED: &str = "for i = 1, 400000 do redis.call('SET', 'key' .. i, string.rep(i, 40)) end";
const IMAGES: [&str; 3] = ["postgres", "redis", "base"];
/// Bytes of the database, about.
const BYTES: u64 = 600_000_000;

/// A project, on the engine where it was made and where it comes back.
struct Project {
    here: Engine,
    there: Engine,
    name: String,
    compose: PathBuf,
    folder: PathBuf,
}

impl Drop for Project {
    fn drop(&mut self) {
        for engine in [&self.here, &self.there] {
            if let Err(error) = self.down(engine) {
                eprintln!("{} stays on {}: {error:#}", self.name, engine.url);
            }
        }
    }
}

impl Project {
    fn image(&self, name: &str) -> String {
        format!("{}/{name}:1", self.name)
    }

    /// Compose for the project by its name alone, as where its folder is gone.
    fn by_name(&self, engine: &Engine) -> Command {
        let mut compose = Command::new(&self.compose);
        compose.env("DOCKER_HOST", &engine.url).stdin(Stdio::null()).args(["--project-name", &self.name]);
        compose
    }

    fn compose(&self, engine: &Engine, words: &[&str]) -> Command {
        let mut compose = self.by_name(engine);
        compose.arg("--file").arg(self.folder.join("compose.yml")).args(words);
        compose
    }

    fn say(&self, engine: &Engine, words: &[&str]) -> Result<String> {
        let output = self.compose(engine, words).output().context("compose cannot be started")?;
        ensure!(
            output.status.success(),
            "compose {}: {}",
            words.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn up(&self, bench: &Bench) -> Result<()> {
        std::fs::create_dir_all(self.folder.join("site"))?;
        std::fs::write(self.folder.join("site/index.html"), "welcome\n")?;
        std::fs::write(self.folder.join("site/serve.pl"), SERVER)?;
        std::fs::write(self.folder.join("compose.yml"), COMPOSE.replace("NAME", &self.name))?;
        IMAGES.iter().try_for_each(|image| self.import(image))?;
        self.say(&self.here, &["up", "--detach", "--wait"])?;
        self.say(&self.here, &["exec", "-T", "cache", "redis-cli", "EVAL", CACHED, "0"])?;
        let scale = (bench.sized(BYTES) / 15_000_000).max(1).to_string();
        let words =
            ["exec", "-T", "db", "pgbench", "--initialize", "--init-steps", "dtGvp", "--scale", &scale];
        self.say(&self.here, &[&words[..], &["-U", "postgres", "postgres"]].concat()).map(drop)
    }

    /// An image of which the other engine has nothing, not even a layer: the tests' own, flattened. A container's own files
    /// make its layer another one.
    fn import(&self, image: &str) -> Result<()> {
        let from = format!("lifeboat-test/{image}:1");
        let described = self.here.say(&["image", "inspect", "--format", "{{json .Config}}", &from])?;
        let described: Value = serde_json::from_str(&described)?;
        let container = self.here.say(&["create", &from, "true"])?;
        let archive = self.folder.join("image.tar");
        let exported = self.here.say(&["export", "--output", &archive.to_string_lossy(), &container]);
        self.here.say(&["rm", &container])?;
        exported?;
        let mut words = vec!["import".to_owned()];
        for (field, word) in [("Entrypoint", "ENTRYPOINT"), ("Cmd", "CMD")] {
            if described[field].is_array() {
                words.extend(["--change".to_owned(), format!("{word} {}", described[field])]);
            }
        }
        for variable in described["Env"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            words.extend(["--change".to_owned(), format!("ENV {variable}")]);
        }
        words.extend([archive.to_string_lossy().into_owned(), self.image(image)]);
        self.here.say(&words.iter().map(String::as_str).collect::<Vec<_>>())?;
        Ok(std::fs::remove_file(archive)?)
    }

    fn load(&self) -> Result<Load<'_>> {
        let words =
            ["exec", "-T", "db", "pgbench", "--time", "600", "--client", "4", "-U", "postgres", "postgres"];
        let mut load = self.compose(&self.here, &words);
        let client = load.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Ok(Load { project: self, client: client.context("the load cannot be started")? })
    }

    fn orders(&self, engine: &Engine) -> Result<u64> {
        let words =
            ["exec", "-T", "db", "psql", "-U", "postgres", "-Atc", "SELECT count(*) FROM pgbench_history"];
        self.say(engine, &words)?.parse().context("the database does not count")
    }

    /// Nothing of it stays on an engine. What it was made of may be gone, so compose goes by its labels.
    fn down(&self, engine: &Engine) -> Result<()> {
        quietly(self.by_name(engine).args(["down", "--volumes"]))?;
        for image in IMAGES {
            let _ = engine.say(&["rmi", "--force", &self.image(image)]);
        }
        Ok(())
    }
}

/// Orders that come in for as long as this is there.
struct Load<'p> {
    project: &'p Project,
    client: Child,
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        // The client's death ends nothing in the container.
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgbench'";
        let words = ["exec", "-T", "db", "psql", "-U", "postgres", "-c", end];
        let _ = self.project.say(&self.project.here, &words);
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

/// What a command says of itself at its end.
fn summary(mut command: Command) -> Result<Value> {
    let output = command.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = text.lines().rev().find(|line| line.contains("\"summary\"")).context("there is no summary")?;
    Ok(serde_json::from_str(last)?)
}

pub(crate) fn project(bench: &Bench) -> Result<RowResult> {
    let compose = std::env::var("LIFEBOAT_TEST_COMPOSE").context("`cargo xtask bench` names compose")?;
    let project = Project {
        here: Engine::named("graph")?,
        there: Engine::named("system")?,
        name: format!("lifeboat-bench-{}", std::process::id()),
        compose: compose.into(),
        folder: bench.work.join("shop"),
    };
    project.up(bench)?;
    let size = project.say(&project.here, &["exec", "-T", "db", "du", "-sb", "/var/lib/postgresql/data"])?;
    let size: u64 = size.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or_default();
    let data = format!(
        "PostgreSQL with {:.0} MB under pgbench's load, Redis with 100 MB, a web server; images of 570, 570 and 77 MB, of which the \
         engine that it comes back to has no layer",
        size as f64 / 1e6
    );
    let lifeboat = Participant::new("lifeboat", |_| {
        let done = round(bench, &project);
        let left = project.down(&project.there);
        let done = done?;
        left?;
        Ok(done)
    });
    bench.row("project", data, vec![lifeboat])
}

fn round(bench: &Bench, project: &Project) -> Result<Sample> {
    let (tool, home) = (bench.lifeboat(), Home(bench.work.join("home")));
    tool.init(&home)?;
    let command = |engine: &Engine, words: &[&str]| {
        let mut command = tool.command(&home);
        command.env("DOCKER_HOST", &engine.url).env("LIFEBOAT_COMPOSE", &project.compose).args(words);
        command
    };
    let source = format!("project:{}", project.name);
    let load = project.load()?;
    std::thread::sleep(Duration::from_secs(2));
    let first = Call::new(command(&project.here, &["snapshot", &source])).run()?;
    let stored = home.stored_bytes()?;
    let before = project.orders(&project.here)?;
    let begun = std::time::Instant::now();
    let second = summary(command(&project.here, &["snapshot", "--json", &source]))?;
    let seconds = begun.elapsed().as_secs_f64();
    let added = home.stored_bytes()? - stored;
    let paused = second["consistency"]["quiet_millis"].as_f64().unwrap_or_default() / 1e3;
    // Where it comes back is another machine, on which nobody orders yet.
    drop(load);
    let words =
        ["restore", "latest", "--to", "project:", "--wait-healthy", "2m", "--json", "--overwrite", "always"];
    let begun = std::time::Instant::now();
    let restored = summary(command(&project.there, &words))?;
    let healthy = begun.elapsed().as_secs_f64();
    let orders = project.orders(&project.there)?;
    ensure!(orders >= before, "{orders} transactions came back, of at least {before}");
    let mut sample = Sample::new(
        "lifeboat snapshot project:NAME; lifeboat restore latest --to project: --wait-healthy 2m",
    )
    .with("first: time", Unit::Seconds, first.seconds)
    .with("second: time", Unit::Seconds, seconds)
    .with("second: held", Unit::LongestSeconds, paused)
    .with("second: added", Unit::Bytes, added as f64)
    .with("empty engine to healthy", Unit::Seconds, healthy);
    for phase in ["images", "files", "volumes", "containers", "starting", "healthy"] {
        let time = restored["seconds"][phase].as_f64().unwrap_or_default();
        sample = sample.with(&format!("of that: {phase}"), Unit::LongestSeconds, time);
    }
    Ok(sample.with("memory", Unit::Memory, first.memory_bytes as f64))
}
