//! Servers of other versions than the images' own release has, and a standby. A server's version does not depend on the
//! engine, so one engine is enough.

use super::{
    Container, Engine, MARIADB_DATA, POSTGRES_DATA, Scene, Volume, Writer, check_postgres, count_postgres,
    fill_postgres, moment, postgres, postgres_of, psql, restored, restored_volume, said, snapshot,
    write_postgres,
};

/// The engine that has the images of other releases, and the cheapest.
fn engine() -> &'static Engine {
    Engine::named("graph")
}

/// Every index and its table are the same, and everything can be read: `pg_amcheck` came with version 14.
#[track_caller]
fn check_old_postgres(server: &Container) {
    let query = "CREATE EXTENSION amcheck; SELECT count(bt_index_check(indexrelid, true)) FROM pg_index
        JOIN pg_class ON pg_class.oid = indexrelid JOIN pg_am ON pg_am.oid = relam
        WHERE amname = 'btree' AND relpersistence = 'p' AND indisvalid";
    server.exec(&psql(&format!("--command={query}")));
    server.exec(&["sh", "-c", "pg_dumpall -U postgres >/dev/null"]);
}

#[test]
fn a_postgresql_before_15_is_captured_by_the_backup_mode_of_its_time() {
    let (scene, engine) = (Scene::with_repository(), engine());
    let (server, volume) = postgres_of("postgres-13", engine, &[], &["-c", "synchronous_commit=off"]);
    fill_postgres(&server);
    let writer = write_postgres(&server, engine);
    snapshot(&scene, engine, &server).says("postgresql, backup-mode");
    let (consistency, one) = said(&scene);
    assert_eq!(one["how"], "backup-mode", "{consistency}");
    let version = one["claim"]["settings"]["server_version_num"].as_str().unwrap();
    assert!(version.starts_with("13"), "{version} has the functions of today");
    let known = writer.done_at(moment(&consistency, &one));
    assert!(known >= 20);
    // Its label never was in the live folder, as it would be in the exclusive mode of that time, and nothing is left.
    assert!(!server.try_exec(&["test", "-e", &format!("{POSTGRES_DATA}/backup_label")]).status.success());
    let left = "--command=SELECT 'left: ' || count(*) || pg_is_in_backup() FROM pg_replication_slots";
    assert!(server.exec(&psql(left)).contains("left: 0false"));
    let (copy, _data) = restored(&scene, engine, &volume, ("postgres-13", POSTGRES_DATA), &[]);
    let count = count_postgres(&copy);
    assert!(count >= known, "{count} of {known}");
    check_old_postgres(&copy);
    copy.exec(&["test", "-e", &format!("{POSTGRES_DATA}/backup_label.old")]);
    drop(writer);
}

/// A server that follows another one, which waits for it with every commit.
fn standby(engine: &Engine, primary: &Container, network: &str) -> (Container, Volume) {
    let allowed = format!("echo host replication all all trust >>{POSTGRES_DATA}/pg_hba.conf");
    primary.exec(&["sh", "-c", &allowed]);
    primary.exec(&psql("--command=SELECT pg_reload_conf()"));
    let found = primary.inspect();
    let address = found["NetworkSettings"]["Networks"][network]["IPAddress"].as_str().unwrap();
    let begin = format!(
        "mkdir -p $PGDATA && chown postgres: $PGDATA && setpriv --reuid=postgres --regid=postgres --init-groups \
         pg_basebackup --host={address} --username=postgres --pgdata=$PGDATA --write-recovery-conf --checkpoint=fast && \
         exec serve-postgres postgres"
    );
    let volume = engine.volume();
    let options = ["--network", network, "--volume", &volume.at(POSTGRES_DATA)];
    let standby = engine.run("postgres", &options, &["sh", "-c", &begin]);
    standby.wait_for(&["psql", "-h", "127.0.0.1", "-U", "postgres", "-c", "SELECT 1"]);
    // Only now: nobody was there to wait for, and the standby has not copied that it should wait for another.
    primary.exec(&psql("--command=ALTER SYSTEM SET synchronous_standby_names = '*'"));
    primary.exec(&psql("--command=SELECT pg_reload_conf()"));
    standby.wait_until("its primary waits for it", || {
        let query = "--command=SELECT 'it is ' || sync_state FROM pg_stat_replication";
        primary.exec(&psql(query)).contains("it is sync")
    });
    (standby, volume)
}

#[test]
fn a_postgresql_standby_is_paused_and_has_what_its_primary_had_waited_for() {
    let (scene, engine) = (Scene::with_repository(), engine());
    let network = engine.network(&[]);
    let (primary, _its_data) = postgres(engine, &["--network", &network.name], &[]);
    fill_postgres(&primary);
    let (server, volume) = standby(engine, &primary, &network.name);
    let started = server.started_at();
    let writer = write_postgres(&primary, engine);
    snapshot(&scene, engine, &server).says("postgresql, paused").says("the server is a standby");
    let (consistency, one) = said(&scene);
    assert_eq!((&one["how"], &consistency["one_moment"]), (&"paused".into(), &true.into()), "{consistency}");
    assert!(one["claim"]["claim"].to_string().contains("had received from its primary"), "{one}");
    assert!(one["warnings"].to_string().contains("without waiting for it may be missing"), "{one}");
    let known = writer.done_at(moment(&consistency, &one));
    assert!(known >= 20);
    assert_eq!((server.state().as_str(), server.started_at()), ("running", started));
    // Where it cannot reach its primary, which has more by now.
    let data = restored_volume(&scene, engine, &volume);
    let copy = engine.run("postgres", &["--network", "none", "--volume", &data.at(POSTGRES_DATA)], &[]);
    copy.wait_for(&["psql", "-h", "127.0.0.1", "-U", "postgres", "-c", "SELECT 1"]);
    let is_standby = copy.exec(&psql("--command=SELECT 'a standby: ' || pg_is_in_recovery()"));
    assert!(is_standby.contains("a standby: true"), "{is_standby}");
    copy.exec(&psql("--command=SELECT pg_promote()"));
    let count = check_postgres(&copy);
    assert!(count >= known, "{count} of {known}");
    // It went on following.
    let now = writer.done_at(f64::MAX);
    server.wait_until("the standby has what was written since", || count_postgres(&server) >= now);
    drop(writer);
}

/// MySQL's own client.
fn mysql(rest: &[&'static str]) -> Vec<&'static str> {
    [&["env", "MYSQL_PWD=secret", "mysql", "--user=root"], rest].concat()
}

fn write_mysql(server: &Container, engine: &Engine) -> Writer {
    let words = mysql(&["--unbuffered", "--batch", "--skip-column-names", "t"]);
    Writer::start(server, engine, &words, |n| {
        format!("BEGIN; INSERT INTO a VALUES ({n}); INSERT INTO b VALUES ({n}); COMMIT; SELECT {n};\n")
    })
}

/// Whole transactions, none left out, and how many; and tables that the server finds nothing wrong with.
#[track_caller]
fn check_mysql(server: &Container) -> u64 {
    server.wait_for(&mysql(&["-e", "SELECT 1"]));
    let checked = server.exec(&mysql(&["-N", "-B", "-e", "CHECK TABLE t.a, t.b EXTENDED"]));
    assert!(checked.lines().count() == 2 && checked.lines().all(|line| line.ends_with("OK")), "{checked}");
    let query = "SELECT COUNT(*), MAX(a.n), (SELECT COUNT(*) FROM t.b) FROM t.a JOIN t.b USING (n)";
    let answer = server.exec(&mysql(&["-N", "-B", "-e", query]));
    let numbers: Vec<u64> = answer.split_whitespace().map(|number| number.parse().unwrap()).collect();
    assert!(numbers.iter().all(|number| *number == numbers[0]), "torn or missing: {answer}");
    numbers[0]
}

#[test]
fn mysql_has_every_transaction_and_tables_without_a_log_are_closed() {
    let (scene, engine) = (Scene::with_repository(), engine());
    let volume = engine.volume();
    // The client of the recipe has to find the password, as the official image is told it.
    let options = ["--volume", &volume.at(MARIADB_DATA), "--env", "MYSQL_ROOT_PASSWORD=secret"];
    let server = engine.run("mysql", &options, &[]);
    server.wait_for(&mysql(&["-e", "SELECT 1"]));
    let tables = "CREATE DATABASE t; USE t; CREATE TABLE a (n BIGINT PRIMARY KEY); CREATE TABLE b (n BIGINT PRIMARY KEY)";
    server.exec(&mysql(&["-e", tables]));
    let writer = write_mysql(&server, engine);
    snapshot(&scene, engine, &server).says("mariadb, paused");
    let (consistency, one) = said(&scene);
    let version = one["claim"]["settings"]["version"].as_str().unwrap();
    assert!(!version.contains("MariaDB"), "{version}");
    assert!(one["warnings"].is_null(), "{one}");
    let known = writer.done_at(moment(&consistency, &one));
    assert!(known >= 20);
    drop(writer);
    let (copy, _data) = restored(&scene, engine, &volume, ("mysql", MARIADB_DATA), &[]);
    let count = check_mysql(&copy);
    assert!(count >= known, "{count} of {known}");
    drop(copy);
    // MySQL has no lock for backups that a client may hold, so here it is the one that stops everybody's writes.
    server.exec(&mysql(&["t", "-e", "ALTER TABLE a ENGINE=MyISAM; ALTER TABLE b ENGINE=MyISAM"]));
    server.exec(&mysql(&["t", "-e", "TRUNCATE a; TRUNCATE b"]));
    server.exec(&mysql(&["-e", "SET GLOBAL innodb_flush_log_at_trx_commit = 0, GLOBAL sync_binlog = 0"]));
    let writer = write_mysql(&server, engine);
    snapshot(&scene, engine, &server).says("mariadb, locked");
    let (consistency, one) = said(&scene);
    for weak in
        ["tables without a log: myisam (2)", "innodb_flush_log_at_trx_commit is 0", "sync_binlog is 0"]
    {
        assert!(one["warnings"].to_string().contains(weak), "{one}");
    }
    let known = writer.done_at(moment(&consistency, &one));
    assert!(known >= 20);
    let (copy, _data) = restored(&scene, engine, &volume, ("mysql", MARIADB_DATA), &[]);
    let count = check_mysql(&copy);
    assert!(count >= known, "{count} of {known}");
    drop((writer, copy));
}

const VALKEY: [&str; 4] = ["valkey-cli", "--no-auth-warning", "-a", "secret"];

fn valkey_answers(server: &Container) {
    server.wait_for(&["sh", "-c", &format!("{} ping | grep -q PONG", VALKEY.join(" "))]);
}

#[test]
fn valkey_is_paused_with_an_append_only_file_and_saves_without_one() {
    let engine = engine();
    for (words, how, check) in [
        (
            &["--requirepass", "secret", "--save", "", "--appendonly", "yes", "--appendfsync", "always"][..],
            "paused",
            "valkey-check-aof /data/appendonlydir/*.manifest",
        ),
        (&["--requirepass", "secret", "--save", ""], "saved", "valkey-check-rdb /data/dump.rdb"),
    ] {
        let (scene, volume) = (Scene::with_repository(), engine.volume());
        let server = engine.run("valkey", &["--volume", &volume.at("/data")], words);
        valkey_answers(&server);
        let writer = Writer::start(&server, engine, &VALKEY, |n| {
            format!(
                "EVAL \"redis.call('SET', KEYS[1], ARGV[1]) return redis.call('INCR', KEYS[2])\" 2 a b {n}\n"
            )
        });
        snapshot(&scene, engine, &server).says(&format!("redis, {how}"));
        let (consistency, one) = said(&scene);
        assert_eq!(one["how"], how, "{consistency}");
        assert_eq!(one["warnings"].to_string().contains("no append-only file"), how == "saved", "{one}");
        let known = writer.done_at(moment(&consistency, &one));
        assert!(known >= 20);
        drop(writer);
        let (copy, _data) = restored(&scene, engine, &volume, ("valkey", "/data"), words);
        valkey_answers(&copy);
        let get = |key: &str| copy.exec(&[&VALKEY[..], &["GET", key]].concat());
        assert_eq!(get("a"), get("b"), "torn");
        let count: u64 = get("a").parse().unwrap();
        assert!(count >= known, "{count} of {known}");
        copy.exec(&["sh", "-c", check]);
    }
}
