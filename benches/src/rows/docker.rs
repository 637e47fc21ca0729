//! Databases in containers: how long a snapshot takes, how long their clients wait, what a second one adds.
//!
//! Must stay true: the clients write all the time, before, during and after; in the warm-up round the snapshot is
//! restored into a new volume, a server started on it, and what clients were told is done must be there.
//!
//! Each participant is a server of its own, captured by its recipe, or paused where a label says so. The second snapshot is
//! taken at once after the first: it adds what was written meanwhile.

use crate::bench::Bench;
use crate::docker::load::{Acknowledged, Load, now};
use crate::docker::{Engine, Kind, Server};
use crate::meter::{Call, Metered};
use crate::results::{RowResult, Unit};
use crate::rounds::{Participant, Sample};
use crate::tools::{Home, Tool, quietly};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::process::Command;
use std::time::Duration;

/// How long the clients are watched while nothing else happens.
const QUIET: Duration = Duration::from_secs(5);

const POSTGRES: Kind = Kind {
    image: "postgres",
    words: &["postgres", "-c", "shared_buffers=256MB", "-c", "max_wal_size=1GB"],
    data: "/var/lib/postgresql/data",
    ready: &["psql", "-U", "postgres", "-c", "SELECT 1"],
    count: &["psql", "-U", "postgres", "-Atc", "SELECT count(*) FROM pgbench_history"],
    check: &[
        "psql",
        "-U",
        "postgres",
        "-v",
        "ON_ERROR_STOP=1",
        "-Atc",
        "DO $$ BEGIN IF (SELECT sum(abalance) FROM pgbench_accounts) <> (SELECT coalesce(sum(delta), 0) FROM pgbench_history) \
         THEN RAISE 'the sums differ'; END IF; END $$",
    ],
};

const MARIADB: Kind = Kind {
    image: "mariadb",
    words: &["mariadbd", "--innodb-flush-log-at-trx-commit=1"],
    data: "/var/lib/mysql",
    ready: &["mariadb", "-e", "SELECT 1"],
    count: &["mariadb", "-Ne", "SELECT count(*) FROM bench.written"],
    check: &[
        "sh",
        "-c",
        "mariadb-check --extended bench | grep -q OK && ! mariadb-check --extended bench | grep -v OK",
    ],
};

const REDIS: Kind = Kind {
    image: "redis",
    words: &["redis-server", "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""],
    data: "/data",
    ready: &["sh", "-c", "redis-cli ping | grep -q PONG"],
    count: &["redis-cli", "GET", "written"],
    check: &[
        "sh",
        "-c",
        "redis-check-aof /data/appendonlydir/*.manifest && test $(redis-cli DBSIZE) -gt 1000",
    ],
};

const REDIS_WITHOUT_LOG: Kind = Kind {
    words: &["redis-server", "--save", ""],
    check: &["sh", "-c", "redis-check-rdb /data/dump.rdb && test $(redis-cli DBSIZE) -gt 1000"],
    ..REDIS
};

const PAUSED: &[&str] = &["lifeboat.pause=true"];

/// Who takes part, and a server to capture.
type Captured = (&'static str, Server);

fn pgbench(bench: &Bench, bytes: u64, labels: &'static [&'static str]) -> Result<Server> {
    let server = Server::start(&Engine::find()?, POSTGRES, labels)?;
    // What pgbench makes for each step of its scale.
    let scale = (bench.sized(bytes) / 15_000_000).max(1).to_string();
    // Made by the server itself (G), which is faster.
    let words =
        ["pgbench", "--initialize", "--init-steps", "dtGvp", "--scale", &scale, "-U", "postgres", "postgres"];
    server.exec(&words)?;
    Ok(server)
}

pub(crate) fn postgres(bench: &Bench) -> Result<RowResult> {
    let servers = [
        ("lifeboat", pgbench(bench, 1_000_000_000, &[])?),
        ("lifeboat, paused", pgbench(bench, 1_000_000_000, PAUSED)?),
    ];
    row(bench, "docker-postgres", &servers, Load::Pgbench { clients: 4 })
}

/// Two rows, because a machine that others share cannot be had for so long.
pub(crate) fn postgres_large(bench: &Bench) -> Result<RowResult> {
    let servers = [("lifeboat", pgbench(bench, 4_000_000_000, &[])?)];
    row(bench, "docker-postgres-4gb", &servers, Load::Pgbench { clients: 4 })
}

pub(crate) fn postgres_large_paused(bench: &Bench) -> Result<RowResult> {
    let servers = [("lifeboat, paused", pgbench(bench, 4_000_000_000, PAUSED)?)];
    row(bench, "docker-postgres-4gb-paused", &servers, Load::Pgbench { clients: 4 })
}

pub(crate) fn mariadb(bench: &Bench) -> Result<RowResult> {
    let server = Server::start(&Engine::find()?, MARIADB, &[])?;
    let rows = bench.sized(200_000);
    let fill = format!(
        "CREATE DATABASE bench; USE bench; \
         CREATE TABLE bench.filled (id INT PRIMARY KEY, text VARCHAR(1100)); \
         CREATE TABLE bench.written (id BIGINT AUTO_INCREMENT PRIMARY KEY, text VARCHAR(1100)); \
         INSERT INTO bench.filled SELECT seq, REPEAT(MD5(RAND(seq)), 32) FROM seq_1_to_{rows};"
    );
    server.exec(&["mariadb", "-e", &fill])?;
    let load = Load::Lines {
        program: &["mariadb", "--batch", "--unbuffered", "--skip-column-names", "bench"],
        line: "INSERT INTO written (text) VALUES (REPEAT(MD5(RAND()), 32)); SELECT LAST_INSERT_ID();",
        clients: 4,
    };
    row(bench, "docker-mariadb", &[("lifeboat", server)], load)
}

pub(crate) fn redis(bench: &Bench) -> Result<RowResult> {
    let engine = Engine::find()?;
    let keys = bench.sized(200_000).max(2_000);
    let fill = format!(
        "for i = 1, {keys} do redis.call('SET', 'key:' .. i, string.rep(redis.sha1hex(i), 25)) end return {keys}"
    );
    let filled = |kind| -> Result<Server> {
        let server = Server::start(&engine, kind, &[])?;
        server.exec(&["redis-cli", "EVAL", &fill, "0"])?;
        Ok(server)
    };
    let servers = [
        ("lifeboat, append-only file", filled(REDIS)?),
        ("lifeboat, without one", filled(REDIS_WITHOUT_LOG)?),
    ];
    let load = Load::Lines { program: &["redis-cli"], line: "INCR written", clients: 4 };
    row(bench, "docker-redis", &servers, load)
}

fn row(bench: &Bench, name: &str, servers: &[Captured], load: Load) -> Result<RowResult> {
    let size = servers.iter().map(|(_, server)| server.bytes()).collect::<Result<Vec<u64>>>()?;
    let size = size.into_iter().max().unwrap_or_default();
    let participants = servers.iter().map(|(who, server)| {
        Participant::new(*who, move |round| {
            let home = Home(bench.work.join("home"));
            Round { bench, tool: bench.lifeboat(), server, home }.run(round, load)
        })
    });
    let data = format!("{:.0} MB in the database's volume, 4 clients writing", size as f64 / 1e6);
    bench.row(name, data, participants.collect())
}

/// One round of one server.
struct Round<'r> {
    bench: &'r Bench,
    tool: Tool,
    server: &'r Server,
    home: Home,
}

/// Seconds for which a snapshot kept its services still.
struct Still {
    /// Stopped or paused.
    paused: f64,
    /// In a mode of their own, or by a command.
    held: Option<f64>,
}

/// What was done while the clients wrote. Times are seconds since 1970.
struct Done {
    undisturbed: (f64, f64),
    first: (f64, f64),
    second: (f64, f64),
    first_cost: Metered,
    second_cost: Metered,
    /// How long each kept services still, as its snapshot says.
    still: (Still, Still),
    added: u64,
    /// Writes that the server had kept before the second, and after.
    kept: (u64, u64),
}

impl Round<'_> {
    fn run(&self, round: usize, load: Load) -> Result<Sample> {
        self.tool.init(&self.home)?;
        let running = load.start(self.server)?;
        let done = self.act();
        // The clients end even when the act failed.
        let acknowledged = running.finish();
        let (done, acknowledged) = (done?, acknowledged?);
        if round == 0 {
            self.expect_restorable(done.kept)?;
        }
        Ok(self.sample(&done, &acknowledged))
    }

    fn act(&self) -> Result<Done> {
        // The first second is that of connections.
        std::thread::sleep(Duration::from_secs(1));
        let begun = now();
        std::thread::sleep(QUIET);
        let undisturbed = (begun, now());
        let begun = now();
        let first_cost = self.bench.run(&self.snapshot())?;
        let first = (begun, now());
        let still = self.still()?;
        let before = self.home.stored_bytes()?;
        rustix::fs::sync();
        let kept = self.server.count()?;
        let begun = now();
        let second_cost = self.snapshot().run()?;
        let second = (begun, now());
        let kept = (kept, self.server.count()?);
        // So that the last stall has an end.
        std::thread::sleep(Duration::from_secs(1));
        let added = self.home.stored_bytes()?.saturating_sub(before);
        let still = (still, self.still()?);
        Ok(Done { undisturbed, first, second, first_cost, second_cost, still, added, kept })
    }

    /// What the newest snapshot says of its quiet time. Where it is not of one moment, nothing counts.
    fn still(&self) -> Result<Still> {
        let output =
            self.command().args(["snapshots", "--json"]).output().context("cannot list snapshots")?;
        let newest =
            String::from_utf8_lossy(&output.stdout).lines().next_back().unwrap_or_default().to_owned();
        let newest: Value = serde_json::from_str(&newest).context("the newest snapshot cannot be read")?;
        let consistency = &newest["consistency"];
        let is_kept = consistency["one_moment"] == Value::Bool(true);
        ensure!(is_kept, "the snapshot is not of one moment: {consistency}");
        let paused = consistency["quiet_millis"].as_f64().unwrap_or(0.0) / 1e3;
        let held = consistency["containers"][0]["held_millis"].as_f64().map(|millis| millis / 1e3);
        Ok(Still { paused, held })
    }

    fn command(&self) -> Command {
        let mut command = self.tool.command(&self.home);
        command.env("DOCKER_HOST", &self.server.engine.url);
        command
    }

    fn snapshot(&self) -> Call {
        let mut command = self.command();
        command.arg("snapshot").arg(self.server.container());
        Call::new(command)
    }

    fn sample(&self, done: &Done, acknowledged: &Acknowledged) -> Sample {
        let rate = |(from, to): (f64, f64)| acknowledged.rate(from, to);
        let wait = |(from, to): (f64, f64)| acknowledged.stall(from, to).as_secs_f64();
        let memory = done.first_cost.memory_bytes.max(done.second_cost.memory_bytes);
        let mut sample = Sample::new("lifeboat snapshot container:NAME");
        let both = [("first", &done.first_cost, &done.still.0), ("second", &done.second_cost, &done.still.1)];
        for (what, cost, still) in both {
            sample = sample.with(&format!("{what}: time"), Unit::Seconds, cost.seconds).with(
                &format!("{what}: paused"),
                Unit::LongestSeconds,
                still.paused,
            );
            if let Some(held) = still.held {
                sample = sample.with(&format!("{what}: held"), Unit::LongestSeconds, held);
            }
        }
        sample
            .with("second: longest wait of a client", Unit::LongestSeconds, wait(done.second))
            .with("second: added", Unit::Bytes, done.added as f64)
            .with("undisturbed: longest wait of a client", Unit::LongestSeconds, wait(done.undisturbed))
            .with("undisturbed: writes", Unit::PerSecond, rate(done.undisturbed))
            .with("first: writes", Unit::PerSecond, rate(done.first))
            .with("second: writes", Unit::PerSecond, rate(done.second))
            .with("memory", Unit::Memory, memory as f64)
    }

    /// The newest snapshot, in a new volume, under a new server.
    fn expect_restorable(&self, kept: (u64, u64)) -> Result<()> {
        let restored = Server::named_after(self.server);
        let from = format!("latest:{}", self.server.volume());
        quietly(self.command().args(["restore", &from, "--to", &restored.volume()]))?;
        restored.run()?;
        restored.check()?;
        let count = restored.count()?;
        ensure!(
            kept.0 <= count && count <= kept.1,
            "the restored server has {count} writes; it should have between {} and {}",
            kept.0,
            kept.1
        );
        Ok(())
    }
}
