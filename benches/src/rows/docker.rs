//! Databases in containers: how long a snapshot takes, how long their clients wait, what a second one adds.
//!
//! Must stay true: the clients write all the time, before, during and after; in the warm-up round the snapshot is
//! restored into a new volume, a server started on it, and what clients were told is done must be there.
//!
//! The first snapshot is taken while the server runs on, for its time and its effect on the clients alone: nobody should
//! restore it. The second is taken while the container is paused.

use crate::bench::Bench;
use crate::docker::load::{Acknowledged, Load, now};
use crate::docker::{Engine, Kind, Server};
use crate::meter::{Call, Metered};
use crate::results::{RowResult, Unit};
use crate::rounds::{Participant, Sample};
use crate::tools::{Home, Tool, quietly};
use anyhow::{Result, ensure};
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

pub(crate) fn postgres(bench: &Bench) -> Result<RowResult> {
    let engine = Engine::find()?;
    let mut servers = Vec::new();
    for bytes in [1_000_000_000, 4_000_000_000] {
        let server = Server::start(&engine, POSTGRES)?;
        // What pgbench makes for each step of its scale.
        let scale = (bench.sized(bytes) / 15_000_000).max(1).to_string();
        server.exec(&[
            "pgbench",
            "--initialize",
            "--quiet",
            "--scale",
            &scale,
            "-U",
            "postgres",
            "postgres",
        ])?;
        servers.push((server, Some(bytes)));
    }
    row(bench, "docker-postgres", &servers, Load::Pgbench { clients: 4 })
}

pub(crate) fn mariadb(bench: &Bench) -> Result<RowResult> {
    let server = Server::start(&Engine::find()?, MARIADB)?;
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
    row(bench, "docker-mariadb", &[(server, None)], load)
}

pub(crate) fn redis(bench: &Bench) -> Result<RowResult> {
    let server = Server::start(&Engine::find()?, REDIS)?;
    let keys = bench.sized(200_000).max(2_000);
    let fill = format!(
        "for i = 1, {keys} do redis.call('SET', 'key:' .. i, string.rep(redis.sha1hex(i), 25)) end return {keys}"
    );
    server.exec(&["redis-cli", "EVAL", &fill, "0"])?;
    let load = Load::Lines { program: &["redis-cli"], line: "INCR written", clients: 4 };
    row(bench, "docker-redis", &[(server, None)], load)
}

fn row(bench: &Bench, name: &str, servers: &[(Server, Option<u64>)], load: Load) -> Result<RowResult> {
    let mut data = Vec::new();
    let mut participants = Vec::new();
    for (server, size) in servers {
        data.push(format!("{:.0} MB", server.bytes()? as f64 / 1e6));
        participants.push(Participant::new("lifeboat", move |round| {
            let sample = Round { bench, tool: bench.lifeboat(), server, home: Home(bench.work.join("home")) }
                .run(round, load)?;
            Ok(size.iter().fold(sample, |sample, size| sample.sized(*size)))
        }));
    }
    bench.row(name, format!("{} in a volume, 4 clients writing", data.join(" and ")), participants)
}

/// One round of one server.
struct Round<'r> {
    bench: &'r Bench,
    tool: Tool,
    server: &'r Server,
    home: Home,
}

/// What was done while the clients wrote. Times are seconds since 1970.
struct Done {
    quiet: (f64, f64),
    first: (f64, f64),
    held: (f64, f64),
    first_cost: Metered,
    second_cost: Metered,
    added: u64,
    /// Writes that the server had kept before it was paused, and after.
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
        let quiet = (begun, now());
        let begun = now();
        let first_cost = self.bench.run(&self.snapshot())?;
        let first = (begun, now());
        let before = self.home.stored_bytes()?;
        rustix::fs::sync();
        let kept = self.server.count()?;
        let begun = now();
        self.server.does("pause")?;
        let second_cost = self.snapshot().run();
        self.server.does("unpause")?;
        let held = (begun, now());
        let kept = (kept, self.server.count()?);
        // So that the last stall has an end.
        std::thread::sleep(Duration::from_secs(1));
        let added = self.home.stored_bytes()?.saturating_sub(before);
        Ok(Done { quiet, first, held, first_cost, second_cost: second_cost?, added, kept })
    }

    fn command(&self) -> Command {
        let mut command = self.tool.command(&self.home);
        command.env("DOCKER_HOST", &self.server.engine.url);
        command
    }

    fn snapshot(&self) -> Call {
        let mut command = self.command();
        command.arg("snapshot").arg(self.server.volume());
        Call::new(command)
    }

    fn sample(&self, done: &Done, acknowledged: &Acknowledged) -> Sample {
        let (held_from, held_to) = done.held;
        let memory = done.first_cost.memory_bytes.max(done.second_cost.memory_bytes);
        Sample::new("lifeboat snapshot volume:NAME")
            .with("first: time", Unit::Seconds, done.first_cost.seconds)
            .with("second: time", Unit::Seconds, done.second_cost.seconds)
            .with("second: paused", Unit::Seconds, held_to - held_from)
            .with(
                "second: longest wait of a client",
                Unit::Seconds,
                acknowledged.stall(held_from, held_to).as_secs_f64(),
            )
            .with("second: added", Unit::Bytes, done.added as f64)
            .with("writes, undisturbed", Unit::PerSecond, acknowledged.rate(done.quiet.0, done.quiet.1))
            .with("writes, during the first", Unit::PerSecond, acknowledged.rate(done.first.0, done.first.1))
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
