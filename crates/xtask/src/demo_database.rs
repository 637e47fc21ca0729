//! The second half of `cargo xtask demo`: PostgreSQL in a container, its data in a volume, under load; the container is
//! snapshotted, its volume destroyed and restored, and the database is asked whether anything is missing.
//!
//! Must stay true: the engine is one of our own, so nothing that the machine's owner runs is touched; and it fails unless
//! every transaction that was acknowledged before the snapshot is there, and the sums over the tables agree.

use crate::demo::{Demo, megabytes, say};
use crate::demo_engine;
use crate::engines::flavour::Flavour;
use crate::engines::{InUse, Wanted};
use crate::failure::{Failure, Result, While};
use crate::place::Place;
use crate::step::seconds;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// pgbench's size: 100,000 accounts each, 15 MB.
const SCALE: u32 = 20;
/// Clients that write at once.
const CLIENTS: u32 = 4;
/// How long the load runs before anything is protected.
const WARM_UP: Duration = Duration::from_secs(3);
/// How long the server may take to become ready; nothing is measured by it.
const READY_MAX: Duration = Duration::from_secs(120);
/// What the load keeps equal, whenever it is looked at: each transaction adds the same to all four.
const SUMS: &str = "SELECT count(*), \
    (SELECT sum(abalance) FROM pgbench_accounts) = coalesce(sum(delta), 0) \
    AND (SELECT sum(tbalance) FROM pgbench_tellers) = coalesce(sum(delta), 0) \
    AND (SELECT sum(bbalance) FROM pgbench_branches) = coalesce(sum(delta), 0) FROM pgbench_history";

/// The database's container and volume.
struct Database<'d> {
    demo: &'d Demo,
    url: String,
    name: String,
}

impl Drop for Database<'_> {
    fn drop(&mut self) {
        for words in
            [["rm", "--force", "--volumes", &self.name].as_slice(), &["volume", "rm", "--force", &self.name]]
        {
            let _ = self.docker(words).stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
    }
}

/// Shows it, in the demonstration's repository.
pub(crate) fn show(place: &Place, demo: &Demo) -> Result<()> {
    let engines = InUse::begin(place, &[Flavour::Graph], Wanted::Servers)?;
    let database = Database {
        demo,
        url: engines.url(Flavour::Graph),
        name: format!("lifeboat-demo-{}", std::process::id()),
    };
    say("8. PostgreSQL in a container, its data in a volume, and clients that write into it all the time.");
    database.start()?;
    database.docker_shown(&[
        "exec",
        &database.name,
        "pgbench",
        "--initialize",
        "--quiet",
        "--scale",
        &SCALE.to_string(),
        "-U",
        "postgres",
        "postgres",
    ])?;
    let mut load = database.load()?;
    std::thread::sleep(WARM_UP);
    let outcome = database.protect(&mut load);
    let _ = load.kill();
    let _ = load.wait();
    let protected = outcome?;

    say("11. The container is removed, and then its volume: the data is gone.");
    database.docker_shown(&["rm", "--force", &database.name])?;
    database.docker_shown(&["volume", "rm", &database.name])?;

    say("12. The volume is restored, and the server started on it. It recovers as after a power cut.");
    let begun = Instant::now();
    let volume = format!("volume:{}", database.name);
    database.lifeboat(&["restore", &format!("latest:{volume}"), "--to", &volume])?;
    let restored_in = begun.elapsed();
    database.start()?;
    let (rows, consistent) = database.sums()?;
    if rows < protected.before || rows > protected.after || !consistent {
        return Err(Failure::new(format!(
            "the restored database has {rows} transactions, and between {} and {} were expected; its sums agree: {consistent}",
            protected.before, protected.after
        )));
    }
    println!("\nWhat happened");
    let row = |what: &str, value: String| println!("  {what:<58} {value:>12}");
    row("the volume", megabytes(protected.bytes));
    row("first snapshot", seconds(protected.first));
    row("second snapshot", seconds(protected.second));
    row("the server stood still for", format!("{:.2} s", protected.held.as_secs_f64()));
    row("restored into a new volume", seconds(restored_in));
    row("transactions acknowledged before the command was given", protected.before.to_string());
    row("transactions in the restored database", rows.to_string());
    println!("\nNo acknowledged transaction is missing, and the sums over all tables agree.");
    Ok(())
}

/// What was seen while the database was protected.
struct Protected {
    bytes: u64,
    first: Duration,
    second: Duration,
    held: Duration,
    /// Transactions that were acknowledged before, and those that could have been made until after.
    before: u64,
    after: u64,
}

impl Database<'_> {
    /// Snapshots the container twice. Each time everything is read while the server runs on, and then, while it stands
    /// still, what changed since.
    fn protect(&self, load: &mut Child) -> Result<Protected> {
        let container = format!("container:{}", self.name);
        let snapshot =
            || self.demo.lifeboat_answer(&["snapshot", "--tag", "demo", &container], &self.variables());
        say(
            "9. A first snapshot of the container. The server is put into its backup mode: it runs on, and nobody waits.",
        );
        let begun = Instant::now();
        snapshot()?;
        let first = begun.elapsed();

        say("10. A second one: only what changed since the first is read at all.");
        let before = self.transactions()?;
        let begun = Instant::now();
        let said = snapshot()?;
        let second = begun.elapsed();
        let held = held(&said)?;
        let after = self.transactions()?;
        if load.try_wait().while_doing("look at the load")?.is_some() || after == before {
            return Err(Failure::new("the load ended before the snapshot did; nothing would be shown by it"));
        }
        let size =
            self.answer(&["exec", &self.name, "du", "--summarize", "--bytes", "/var/lib/postgresql/data"])?;
        let bytes = size.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0);
        Ok(Protected { bytes, first, second, held, before, after })
    }

    fn variables(&self) -> [(&str, &str); 1] {
        [("DOCKER_HOST", &self.url)]
    }

    /// The server on its volume; an engine makes a volume that is not there.
    fn start(&self) -> Result<()> {
        let mount = format!("{}:/var/lib/postgresql/data", self.name);
        let _ =
            self.docker(&["rm", "--force", &self.name]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        self.docker_shown(&[
            "run",
            "--detach",
            "--name",
            &self.name,
            "--volume",
            &mount,
            "lifeboat-test/postgres:1",
        ])?;
        let begun = Instant::now();
        while self.query("SELECT 1").is_err() {
            if begun.elapsed() > READY_MAX {
                let log = self
                    .docker(&["logs", "--tail", "20", &self.name])
                    .output()
                    .while_doing("start `docker`")?;
                let log = String::from_utf8_lossy(&[log.stdout, log.stderr].concat()).into_owned();
                return Err(Failure::new(format!("PostgreSQL does not become ready:\n{log}")));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    fn load(&self) -> Result<Child> {
        let clients = CLIENTS.to_string();
        let mut pgbench = self.docker(&[
            "exec", &self.name, "pgbench", "--time", "3600", "--client", &clients, "-U", "postgres",
            "postgres",
        ]);
        pgbench.stdout(Stdio::null()).stderr(Stdio::null()).spawn().while_doing("start the load")
    }

    fn transactions(&self) -> Result<u64> {
        let text = self.query("SELECT count(*) FROM pgbench_history")?;
        text.parse().map_err(|_| Failure::new(format!("`{text}` is not a number of rows")))
    }

    /// How many transactions there are, and whether all tables agree about what they did.
    fn sums(&self) -> Result<(u64, bool)> {
        let text = self.query(SUMS)?;
        match text.split_once('|').map(|(count, agree)| (count.parse(), agree)) {
            Some((Ok(count), agree)) => Ok((count, agree == "t")),
            _ => Err(Failure::new(format!("PostgreSQL answers `{text}`"))),
        }
    }

    fn query(&self, sql: &str) -> Result<String> {
        self.answer(&["exec", &self.name, "psql", "-U", "postgres", "-At", "-c", sql])
    }

    fn docker(&self, words: &[&str]) -> Command {
        demo_engine::docker(&self.url, words)
    }

    fn docker_shown(&self, words: &[&str]) -> Result<()> {
        demo_engine::docker_shown(&self.url, words)
    }

    fn answer(&self, words: &[&str]) -> Result<String> {
        Ok(demo_engine::answer(&mut self.docker(words))?.0)
    }

    fn lifeboat(&self, words: &[&str]) -> Result<()> {
        self.demo.lifeboat_with(words, &self.variables())
    }
}

/// How long services were held, as a snapshot says it: `Services were held for 0.52 s`. It says nothing where nobody was:
/// PostgreSQL is captured in its backup mode.
fn held(said: &str) -> Result<Duration> {
    let Some(line) = said.lines().find_map(|line| line.strip_prefix("Services were held for ")) else {
        return Ok(Duration::ZERO);
    };
    let seconds = line.strip_suffix(" s").and_then(|seconds| seconds.parse().ok());
    let held = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    held.ok_or_else(|| Failure::new(format!("the snapshot says that services were held for `{line}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_services_were_held_is_found_among_what_a_snapshot_says() {
        let said = "Added 1 B\nServices were held for 0.52 s\nSnapshot 1 saved\n";
        assert_eq!(held(said).unwrap_or_default(), Duration::from_millis(520));
        assert_eq!(held("Snapshot 1 saved\n").unwrap_or(Duration::MAX), Duration::ZERO);
        assert!(held("Services were held for ever\n").is_err());
    }
}
