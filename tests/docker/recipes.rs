//! Databases under load, captured with their containers: what is restored starts by itself, finds nothing wrong with itself,
//! and has everything that a client was told is done before the moment.
//!
//! Must stay true: what counts as done is what a client has read, by the time at which it had read it.
//! Read next: [`versions`] for servers of other versions, which are tried on one engine.

mod fallbacks;
mod versions;
mod writer;

use crate::engines::objects::{Container, Volume};
use crate::engines::{Engine, on_every_engine};
use crate::scene::{Done, Scene};
use serde_json::Value;
use std::process::Command;
use writer::Writer;

const POSTGRES_DATA: &str = "/var/lib/postgresql/data";
const MARIADB_DATA: &str = "/var/lib/mysql";

/// Runs lifeboat on an engine.
#[track_caller]
fn lifeboat(scene: &Scene, engine: &Engine, arguments: &[&str]) -> Done {
    Done::of(scene.lifeboat().env("DOCKER_HOST", &engine.url).args(arguments))
}

#[track_caller]
fn snapshot(scene: &Scene, engine: &Engine, container: &Container) -> Done {
    lifeboat(scene, engine, &["snapshot", &format!("container:{}", container.name)]).expect(0)
}

/// What the newest snapshot says of its only container.
fn said(scene: &Scene) -> (Value, Value) {
    let snapshots = scene.run(&["snapshots", "--json"]).expect(0).json();
    let consistency = snapshots.last().unwrap()["consistency"].clone();
    let one = consistency["containers"][0].clone();
    (consistency, one)
}

/// Seconds since 1970 of the moment that the snapshot names for a container.
fn moment(consistency: &Value, one: &Value) -> f64 {
    let text = one["claim"]["moment"].as_str().or(consistency["moment"].as_str()).unwrap();
    let output = Command::new("date").args(["--date", text, "+%s.%N"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

/// What the newest snapshot has of a volume, in a new one.
#[track_caller]
fn restored_volume(scene: &Scene, engine: &Engine, volume: &Volume) -> Volume {
    let new = Volume::reserved(engine);
    let from = format!("latest:volume:{}", volume.name);
    lifeboat(scene, engine, &["restore", &from, "--to", &format!("volume:{}", new.name)]).expect(0);
    new
}

/// A new container on it.
#[track_caller]
fn restored(
    scene: &Scene,
    engine: &Engine,
    volume: &Volume,
    (image, data): (&str, &str),
    words: &[&str],
) -> (Container, Volume) {
    let new = restored_volume(scene, engine, volume);
    (engine.run(image, &["--volume", &new.at(data)], words), new)
}

fn psql(query: &str) -> [&str; 7] {
    ["psql", "-X", "-U", "postgres", "-v", "ON_ERROR_STOP=1", query]
}

fn postgres(engine: &Engine, options: &[&str], words: &[&str]) -> (Container, Volume) {
    postgres_of("postgres", engine, options, words)
}

fn postgres_of(image: &str, engine: &Engine, options: &[&str], words: &[&str]) -> (Container, Volume) {
    let volume = engine.volume();
    let at = volume.at(POSTGRES_DATA);
    let container = engine.run(image, &[&["--volume", &at], options].concat(), words);
    // Over TCP: the first start of an image may run the server without it.
    container.wait_for(&["psql", "-h", "127.0.0.1", "-U", "postgres", "-c", "SELECT 1"]);
    container.exec(&psql("--command=CREATE TABLE a (n bigint); CREATE TABLE b (n bigint)"));
    (container, volume)
}

fn write_postgres(container: &Container, engine: &Engine) -> Writer {
    let words = ["psql", "-X", "-q", "-A", "-t", "-U", "postgres"];
    Writer::start(container, engine, &words, |n| {
        format!("BEGIN; INSERT INTO a VALUES ({n}); INSERT INTO b VALUES ({n}); COMMIT; SELECT {n};\n")
    })
}

/// Whole transactions, none left out, and how many; and no index that differs from its table.
#[track_caller]
fn check_postgres(server: &Container) -> u64 {
    let count = count_postgres(server);
    server.exec(&["pg_amcheck", "--install-missing", "--heapallindexed", "-U", "postgres", "postgres"]);
    count
}

#[track_caller]
fn count_postgres(server: &Container) -> u64 {
    server.wait_for(&["psql", "-h", "127.0.0.1", "-U", "postgres", "-c", "SELECT 1"]);
    let query =
        "SELECT count(*), max(n), (SELECT count(*) FROM b), (SELECT count(*) FROM a JOIN b USING (n)) FROM a";
    let answer = server.exec(&["psql", "-X", "-A", "-t", "-U", "postgres", "-c", query]);
    let numbers: Vec<u64> = answer.split('|').map(|number| number.parse().unwrap()).collect();
    assert!(numbers.iter().all(|number| *number == numbers[0]), "torn or missing: {answer}");
    numbers[0]
}

/// Enough to be read for a while, with the log going round meanwhile.
fn fill_postgres(server: &Container) {
    server.exec(&["pgbench", "--initialize", "--quiet", "--scale", "3", "-U", "postgres", "postgres"]);
}

fn mariadb(engine: &Engine, words: &[&str]) -> (Container, Volume) {
    let volume = engine.volume();
    let container = engine.run("mariadb", &["--volume", &volume.at(MARIADB_DATA)], words);
    container.wait_for(&["mariadb", "-e", "SELECT 1"]);
    container.exec(&[
        "mariadb",
        "-e",
        "CREATE DATABASE t; USE t; CREATE TABLE a (n BIGINT PRIMARY KEY); CREATE TABLE b (n BIGINT PRIMARY KEY)",
    ]);
    (container, volume)
}

fn write_mariadb(container: &Container, engine: &Engine) -> Writer {
    let words = ["mariadb", "--unbuffered", "--batch", "--skip-column-names", "t"];
    Writer::start(container, engine, &words, |n| {
        format!("BEGIN; INSERT INTO a VALUES ({n}); INSERT INTO b VALUES ({n}); COMMIT; SELECT {n};\n")
    })
}

#[track_caller]
fn check_tables(server: &Container) -> String {
    server.wait_for(&["mariadb", "-e", "SELECT 1"]);
    server.exec(&["mariadb", "-N", "-B", "-e", "CHECK TABLE t.a, t.b EXTENDED"])
}

fn redis(engine: &Engine, words: &[&str]) -> (Container, Volume) {
    let volume = engine.volume();
    let container = engine.run("redis", &["--volume", &volume.at("/data")], words);
    container.wait_for(&["sh", "-c", "redis-cli ping | grep -q PONG"]);
    (container, volume)
}

fn write_redis(container: &Container, engine: &Engine) -> Writer {
    // Both keys or none.
    let line = |n| {
        format!("EVAL \"redis.call('SET', KEYS[1], ARGV[1]) return redis.call('INCR', KEYS[2])\" 2 a b {n}\n")
    };
    Writer::start(container, engine, &["redis-cli"], line)
}

#[track_caller]
fn check_redis(server: &Container) -> u64 {
    server.wait_for(&["sh", "-c", "redis-cli ping | grep -q PONG"]);
    let get = |key: &str| server.exec(&["redis-cli", "GET", key]);
    assert_eq!(get("a"), get("b"), "torn");
    get("a").parse().unwrap_or(0)
}

on_every_engine! {
    fn postgresql_is_captured_by_its_backup_mode_and_nobody_is_paused(engine: &Engine) {
        let scene = Scene::with_repository();
        let (server, volume) = postgres(engine, &[], &["-c", "synchronous_commit=off"]);
        fill_postgres(&server);
        let writer = write_postgres(&server, engine);
        snapshot(&scene, engine, &server).says("postgresql, backup-mode");
        let (consistency, one) = said(&scene);
        assert_eq!((&one["how"], &consistency["one_moment"]), (&"backup-mode".into(), &true.into()), "{consistency}");
        assert!(one["warnings"].to_string().contains("synchronous_commit is off"), "{one}");
        // Nobody is paused, and the mode lasts as long as everything is read.
        assert_eq!(consistency["quiet_millis"], 0, "{consistency}");
        assert!(one["held_millis"].as_u64().unwrap() > 0, "{one}");
        let known = writer.done_at(moment(&consistency, &one));
        assert!(known >= 20);
        assert!(server.exec(&psql("--command=SELECT 'slots: ' || count(*) FROM pg_replication_slots")).contains("slots: 0"));
        let (copy, _data) = restored(&scene, engine, &volume, ("postgres", POSTGRES_DATA), &[]);
        let count = check_postgres(&copy);
        assert!(count >= known, "{count} of {known}");
        copy.exec(&["test", "-e", &format!("{POSTGRES_DATA}/backup_label.old")]);
        drop(writer);
        // The live server has never seen the label, and a second snapshot of it is as good.
        assert!(!server.try_exec(&["test", "-e", &format!("{POSTGRES_DATA}/backup_label")]).status.success());
        snapshot(&scene, engine, &server);
        drop(copy);
        let (copy, _data) = restored(&scene, engine, &volume, ("postgres", POSTGRES_DATA), &[]);
        assert!(check_postgres(&copy) >= count);
    }

    fn postgresql_paused_or_stopped_starts_as_after_a_crash_or_a_stop(engine: &Engine) {
        for (label, how) in [("lifeboat.pause=true", "paused"), ("lifeboat.stop=true", "stopped")] {
            let scene = Scene::with_repository();
            let words = ["-c", "fsync=off", "-c", "full_page_writes=off"];
            let (server, volume) = postgres(engine, &["--label", label], &words);
            let writer = write_postgres(&server, engine);
            let last = writer.last();
            snapshot(&scene, engine, &server).says(&format!("postgresql, {how}"));
            let (consistency, one) = said(&scene);
            assert_eq!(one["how"], how, "{consistency}");
            for weak in ["fsync is off", "full_page_writes is off"] {
                assert!(one["warnings"].to_string().contains(weak), "{one}");
            }
            let known = if how == "paused" { writer.done_at(moment(&consistency, &one)) } else { last };
            let (copy, _data) = restored(&scene, engine, &volume, ("postgres", POSTGRES_DATA), &[]);
            let count = check_postgres(&copy);
            assert!(count >= known, "{count} of {known}");
        }
    }

    fn mariadb_has_every_transaction_and_tables_without_a_log_are_closed(engine: &Engine) {
        let scene = Scene::with_repository();
        let (server, volume) = mariadb(engine, &[]);
        let writer = write_mariadb(&server, engine);
        snapshot(&scene, engine, &server).says("mariadb, paused");
        let (consistency, one) = said(&scene);
        assert!(one["warnings"].is_null(), "{one}");
        let known = writer.done_at(moment(&consistency, &one));
        drop(writer);
        let (copy, _data) = restored(&scene, engine, &volume, ("mariadb", MARIADB_DATA), &[]);
        let checked = check_tables(&copy);
        assert!(checked.lines().all(|line| line.ends_with("OK")), "{checked}");
        let query = "SELECT COUNT(*), MAX(a.n), (SELECT COUNT(*) FROM t.b) FROM t.a JOIN t.b USING (n)";
        let answer = copy.exec(&["mariadb", "-N", "-B", "-e", query]);
        let numbers: Vec<u64> = answer.split_whitespace().map(|number| number.parse().unwrap()).collect();
        assert!(numbers.iter().all(|number| *number == numbers[0]) && numbers[0] >= known, "{answer}, {known}");
        drop(copy);
        // Without the lock, a MyISAM table that is written is not closed, which the server finds and says.
        server.exec(&["mariadb", "t", "-e", "ALTER TABLE a ENGINE=MyISAM; ALTER TABLE b ENGINE=MyISAM"]);
        let next = server.exec(&["mariadb", "-N", "-B", "t", "-e", "SELECT MAX(n) FROM a"]);
        assert!(next.parse::<u64>().unwrap() >= known);
        server.exec(&["mariadb", "t", "-e", "TRUNCATE a; TRUNCATE b"]);
        let writer = write_mariadb(&server, engine);
        snapshot(&scene, engine, &server).says("mariadb, locked");
        let (_, one) = said(&scene);
        assert!(one["warnings"].to_string().contains("tables without a log: myisam (2)"), "{one}");
        let (copy, _data) = restored(&scene, engine, &volume, ("mariadb", MARIADB_DATA), &[]);
        let checked = check_tables(&copy);
        assert!(checked.lines().all(|line| line.ends_with("OK")), "{checked}");
        drop((writer, copy));
    }

    fn redis_is_paused_with_an_append_only_file_and_saves_without_one(engine: &Engine) {
        let with_log = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""];
        let without = ["--save", ""];
        for (words, how, file) in [
            (&with_log[..], "paused", "redis-check-aof /data/appendonlydir/*.manifest"),
            (&without, "saved", "redis-check-rdb /data/dump.rdb"),
        ] {
            let scene = Scene::with_repository();
            let (server, volume) = redis(engine, words);
            let writer = write_redis(&server, engine);
            snapshot(&scene, engine, &server).says(&format!("redis, {how}"));
            let (consistency, one) = said(&scene);
            assert_eq!(one["how"], how, "{consistency}");
            let is_weak = one["warnings"].to_string().contains("there is no append-only file");
            assert_eq!(is_weak, how == "saved", "{one}");
            let known = writer.done_at(moment(&consistency, &one));
            assert!(known >= 20);
            drop(writer);
            let (copy, _data) = restored(&scene, engine, &volume, ("redis", "/data"), words);
            assert!(check_redis(&copy) >= known, "{} of {known}", check_redis(&copy));
            copy.exec(&["sh", "-c", file]);
        }
    }

    fn without_the_recipe_redis_has_nothing_of_what_it_acknowledged(engine: &Engine) {
        let scene = Scene::with_repository();
        let volume = engine.volume();
        let options = ["--volume", &volume.at("/data"), "--label", "lifeboat.recipe=none"];
        let server = engine.run("redis", &options, &["--save", ""]);
        server.wait_for(&["sh", "-c", "redis-cli ping | grep -q PONG"]);
        let writer = write_redis(&server, engine);
        snapshot(&scene, engine, &server).says_not("redis, ");
        drop(writer);
        let (copy, _data) = restored(&scene, engine, &volume, ("redis", "/data"), &[]);
        assert_eq!(check_redis(&copy), 0, "then the other tests show nothing");
    }

    fn sqlite_files_are_of_one_moment_with_their_logs(engine: &Engine) {
        let scene = Scene::with_repository();
        let volume = engine.volume();
        let server = engine.run("base", &["--volume", &volume.at("/data")], &[]);
        server.exec(&["sqlite3", "/data/app.db", "PRAGMA journal_mode=WAL; CREATE TABLE a (n); CREATE TABLE b (n)"]);
        let line = |n| format!("BEGIN; INSERT INTO a VALUES ({n}); INSERT INTO b VALUES ({n}); COMMIT; SELECT {n};\n");
        let writer = Writer::start(&server, engine, &["stdbuf", "-oL", "sqlite3", "/data/app.db"], line);
        snapshot(&scene, engine, &server).says("sqlite, paused");
        let (consistency, one) = said(&scene);
        assert_eq!(one["claim"]["settings"]["/data/app.db"], "write-ahead log", "{one}");
        let known = writer.done_at(moment(&consistency, &one));
        drop(writer);
        let (copy, _data) = restored(&scene, engine, &volume, ("base", "/data"), &[]);
        assert_eq!(copy.exec(&["sqlite3", "/data/app.db", "PRAGMA integrity_check"]), "ok");
        let query = "SELECT COUNT(*), MAX(n), (SELECT COUNT(*) FROM b) FROM a";
        let answer = copy.exec(&["sqlite3", "/data/app.db", query]);
        let numbers: Vec<u64> = answer.split('|').map(|number| number.parse().unwrap()).collect();
        assert!(numbers.iter().all(|number| *number == numbers[0]) && numbers[0] >= known, "{answer}, {known}");
    }

    fn weak_settings_of_mariadb_and_redis_are_reported(engine: &Engine) {
        let scene = Scene::with_repository();
        let words = ["--innodb-flush-log-at-trx-commit=0", "--log-bin", "--sync-binlog=0", "--skip-innodb-doublewrite"];
        let (server, _volume) = mariadb(engine, &words);
        let mut said = snapshot(&scene, engine, &server);
        for weak in ["innodb_flush_log_at_trx_commit is 0", "sync_binlog is 0", "innodb_doublewrite is off"] {
            said = said.says(weak);
        }
        let words = ["--appendonly", "yes", "--appendfsync", "everysec", "--requirepass", "secret"];
        let volume = engine.volume();
        let server = engine.run("redis", &["--volume", &volume.at("/data")], &words);
        server.wait_for(&["sh", "-c", "redis-cli -a secret ping 2>/dev/null | grep -q PONG"]);
        snapshot(&scene, engine, &server).says("redis, paused").says("appendfsync is everysec");
    }
}
