//! Kills the run, its supervisor and the engine while databases are in backup mode, locked, or saving.
//!
//! Must stay true: what lifeboat holds in a server goes with lifeboat, without anybody calling `recover`: no session, no
//! replication slot, no lock, no file; and no snapshot claims what was not finished.

use super::place::{
    PATIENCE, clean, journals, killing, run_whose_engine_dies, sigkill, signal, supervisor,
    wake_after_its_turn,
};
use super::proxy::{At, Proxy, When};
use super::{flavours, points};
use crate::engines::killable::KillableEngine;
use crate::engines::objects::{Container, Volume};
use crate::engines::{Engine, on_every_engine};
use crate::scene::Scene;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

/// What a server holds for lifeboat.
const HELD: &str = "SELECT (SELECT count(*) FROM pg_replication_slots)
  + (SELECT count(*) FROM pg_stat_activity WHERE application_name = 'lifeboat')";

const POSTGRES_DATA: &str = "/var/lib/postgresql/data";

const POSTGRES_ANSWERS: [&str; 7] = ["psql", "-h", "127.0.0.1", "-U", "postgres", "-c", "SELECT 1"];
const MARIADB_ANSWERS: [&str; 3] = ["mariadb", "-e", "SELECT 1"];
const REDIS_ANSWERS: [&str; 3] = ["sh", "-c", "redis-cli set a b | grep -q OK"];

/// One of each: in backup mode, locked and paused, saving.
struct Databases {
    // Dropped in this order.
    servers: Vec<Container>,
    started: Vec<String>,
    _volumes: Vec<Volume>,
    engine: Engine,
    /// Where it may be killed.
    own: Option<KillableEngine>,
    scene: Scene,
}

fn postgres(engine: &Engine, volume: &Volume, restart: &str) -> Container {
    // The signal of the public images: at the usual one a server waits until its clients go.
    let options = ["--restart", restart, "--stop-signal", "SIGINT", "--volume", &volume.at(POSTGRES_DATA)];
    let server = engine.run("postgres", &options, &[]);
    server.wait_for(&POSTGRES_ANSWERS);
    server
}

impl Databases {
    fn new(flavour: &'static str) -> Self {
        Self::on(Engine::named(flavour).clone(), None, "no")
    }

    /// On an engine of their own, which brings back by itself what lifeboat does not make quiet: that is not lifeboat's to do.
    fn killable(flavour: &'static str) -> Self {
        let own = KillableEngine::with_servers(flavour);
        Self::on(own.clone(), Some(own), "always")
    }

    fn on(engine: Engine, own: Option<KillableEngine>, restart: &str) -> Self {
        let volumes: Vec<Volume> = (0..3).map(|_| engine.volume()).collect();
        let mariadb = engine.run("mariadb", &["--volume", &volumes[1].at("/var/lib/mysql")], &[]);
        let options = ["--restart", restart, "--volume", &volumes[2].at("/data")];
        let redis = engine.run("redis", &options, &["--save", ""]);
        let postgres = postgres(&engine, &volumes[0], restart);
        mariadb.wait_for(&MARIADB_ANSWERS);
        mariadb.exec(&["mariadb", "-e", "CREATE DATABASE t; CREATE TABLE t.m (n BIGINT) ENGINE=MyISAM"]);
        redis.wait_for(&REDIS_ANSWERS);
        let servers = vec![postgres, mariadb, redis];
        let started = servers.iter().map(Container::started_at).collect();
        Self { servers, started, _volumes: volumes, engine, own, scene: Scene::with_repository() }
    }

    fn state(&self) -> PathBuf {
        self.scene.path("state/lifeboat")
    }

    fn run(&self, host: &str) -> Child {
        let mut command = self.scene.lifeboat();
        command.arg("snapshot").env("DOCKER_HOST", host);
        command.args(self.servers.iter().map(|server| format!("container:{}", server.name)));
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn finish(run: Child) -> (Option<i32>, String) {
        let output = run.wait_with_output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    }

    /// What was quiet when the engine died runs again without anybody's help, and so does what the engine brings back.
    #[track_caller]
    fn assert_back(&self, touched: &[String], what: &str) {
        for server in self.servers.iter().filter(|server| touched.contains(&server.id())) {
            server.wait_until(&format!("{what}: it runs"), || server.state() == "running");
        }
        // Not lifeboat's: the engine leaves down the one that has no policy.
        let without_policy = &self.servers[1];
        if !touched.contains(&without_policy.id()) && without_policy.state() == "exited" {
            without_policy.does("start");
        }
        let mut begun = Instant::now();
        for (server, answers) in
            self.servers.iter().zip([&POSTGRES_ANSWERS[..], &MARIADB_ANSWERS, &REDIS_ANSWERS])
        {
            server.wait_until(&format!("{what}: it answers"), || {
                wake_after_its_turn(&mut begun, self.own.as_ref().unwrap(), &self.servers);
                server.state() == "running" && server.try_exec(answers).status.success()
            });
        }
        self.assert_nothing_is_held(what);
    }

    fn requests_of_a_run(&self) -> Vec<String> {
        let proxy = Proxy::listening(&self.scene.path("proxy.sock"), &self.engine.url);
        let (code, text) = Self::finish(self.run(&proxy.host()));
        assert_eq!(code, Some(0), "{text}");
        self.assert_as_before("a run that nothing happens to");
        self.assert_claims();
        proxy.lines()
    }

    /// What the newest snapshot says was done, which is what the kills have to meet.
    #[track_caller]
    fn assert_claims(&self) {
        let newest = self.scene.snapshots().pop().unwrap();
        let containers = newest["consistency"]["containers"].as_array().unwrap().clone();
        for (server, how) in self.servers.iter().zip(["backup-mode", "locked", "saved"]) {
            let one = containers.iter().find(|one| one["name"] == server.name.as_str()).unwrap();
            // One that its engine had just started again could not be asked yet.
            let starts = one["warnings"].to_string().contains("could not be asked");
            assert_eq!(one["claim"]["how"], if starts { "paused" } else { how }, "{one}");
        }
    }

    /// Nothing of lifeboat is left in the servers, and they are as they were.
    #[track_caller]
    fn assert_as_before(&self, what: &str) {
        for (server, started) in self.servers.iter().zip(&self.started) {
            server.wait_until(&format!("{what}: it runs"), || server.state() == "running");
            assert_eq!(server.started_at(), *started, "{what}: it was started again");
        }
        self.assert_nothing_is_held(what);
    }

    #[track_caller]
    fn assert_nothing_is_held(&self, what: &str) {
        let [postgres, mariadb, redis] = &self.servers[..] else { panic!("three") };
        for server in &self.servers {
            server.wait_until(&format!("{what}: no command of lifeboat runs in it"), || {
                let top = self.engine.say(&["top", &server.name, "-eo", "pid,args"]);
                !top.lines().skip(1).any(is_lifeboats)
            });
        }
        postgres.wait_until(&format!("{what}: no session and no slot"), || {
            postgres.exec(&["psql", "-X", "-A", "-t", "-U", "postgres", "-c", HELD]) == "0"
        });
        let label = format!("{POSTGRES_DATA}/backup_label");
        assert!(!postgres.try_exec(&["test", "-e", &label]).status.success(), "{what}: a label is there");
        // It waits for a lock as long as somebody has one.
        mariadb.exec(&["mariadb", "t", "-e", "SET lock_wait_timeout = 60; INSERT INTO m VALUES (1)"]);
        redis.exec(&["redis-cli", "SET", "a", "c"]);
        let begun = Instant::now();
        while !journals(&self.state()).is_empty() || supervisor(&self.state()).is_some() {
            assert!(begun.elapsed() < PATIENCE, "{what}: a journal or a supervisor is left");
            std::thread::sleep(std::time::Duration::from_millis(25));
        }
    }
}

/// Clients, and the shells that start them; servers have other names.
fn is_lifeboats(line: &str) -> bool {
    let mut words = line.split_whitespace().skip(1);
    let program = words.next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    matches!(program, "sh" | "timeout" | "psql" | "mariadb" | "mysql" | "redis-cli" | "cat")
}

#[test]
fn a_run_that_is_killed_leaves_no_backup_mode_no_lock_and_no_session() {
    for flavour in flavours("graph") {
        let place = Databases::new(flavour);
        let lines = place.requests_of_a_run();
        let count = place.scene.snapshots().len();
        let mut tried = 0;
        for (number, when) in points(&lines, (1, 12)) {
            let what = format!("{flavour}: the run was killed at {number} `{}`, {when:?}", lines[number]);
            let (target, deed) = killing();
            let at = (At::Number(number), when);
            let proxy = Proxy::start(&place.scene.path("proxy.sock"), &place.engine.url, at, deed);
            let run = place.run(&proxy.host());
            target.store(run.id(), Ordering::SeqCst);
            let (code, text) = Databases::finish(run);
            place.assert_as_before(&what);
            if proxy.has_fired() {
                tried += 1;
                assert_eq!(code, None, "{what}: {text}");
                assert_eq!(place.scene.snapshots().len(), count, "{what}: a snapshot was made");
            }
        }
        assert!(tried >= 12, "only {tried} points");
        println!("{flavour}: run killed: {tried} points, nothing left in a database");
        // And nothing is in the next one's way.
        place.requests_of_a_run();
    }
}

#[test]
fn a_supervisor_that_is_killed_costs_a_database_neither_its_backup_mode_nor_its_lock() {
    for flavour in flavours("containerd") {
        let place = Databases::new(flavour);
        let lines = place.requests_of_a_run();
        let mut killed = 0;
        for (number, when) in points(&lines, (2, 30)) {
            let what =
                format!("{flavour}: the supervisor was killed at {number} `{}`, {when:?}", lines[number]);
            let count = Arc::new(AtomicU32::new(0));
            let (counting, state) = (Arc::clone(&count), place.state());
            let deed = Box::new(move || {
                if let Some(number) = supervisor(&state) {
                    sigkill(number);
                    counting.fetch_add(1, Ordering::SeqCst);
                }
            });
            let at = (At::Number(number), when);
            let proxy = Proxy::start(&place.scene.path("proxy.sock"), &place.engine.url, at, deed);
            let (code, text) = Databases::finish(place.run(&proxy.host()));
            assert_eq!(code, Some(0), "{what}: {text}");
            place.assert_claims();
            place.assert_as_before(&what);
            killed += count.load(Ordering::SeqCst);
        }
        assert!(killed >= 3, "only {killed} points");
        println!("{flavour}: supervisor killed: {killed} points, nothing left in a database");
    }
}

#[test]
fn an_engine_that_is_killed_gets_back_the_databases_that_were_quiet_and_nothing_is_held_in_any() {
    for flavour in flavours("graph") {
        let place = Databases::killable(flavour);
        let own = place.own.as_ref().unwrap();
        // The first one makes the helpers' image.
        place.requests_of_a_run();
        let lines = place.requests_of_a_run();
        let (mut tried, mut quiet) = (0, 0);
        for (number, when) in points_around_the_pause(&lines) {
            let what = format!("{flavour}: the engine was killed at {number} `{}`, {when:?}", lines[number]);
            let count = place.scene.snapshots().len();
            let files = (&*place.scene.path("proxy.sock"), place.state());
            let at = (At::Number(number), when);
            let (run, touched) = run_whose_engine_dies(own, files, at, |proxy| place.run(&proxy.host()));
            tried += u32::from(touched.is_some());
            let touched = touched.unwrap_or_default();
            quiet += u32::from(!touched.is_empty());
            place.assert_back(&touched, &what);
            let (code, text) = Databases::finish(run);
            place.assert_back(&touched, &what);
            // What was read before it died is stored and true, or nothing is.
            match place.scene.snapshots().len() - count {
                0 => assert_ne!(code, Some(0), "{what}: {text}"),
                _ => place.assert_claims(),
            }
            clean(own);
        }
        assert!(tried >= 6 && quiet >= 3, "only {tried} points, {quiet} of them with something quiet");
        println!(
            "{flavour}: engine killed: {tried} points, in {quiet} of them with something quiet, nothing left down or held"
        );
    }
}

/// Some requests before and after, and those from the first pause to the end of the last.
fn points_around_the_pause(lines: &[String]) -> Vec<(usize, When)> {
    let first = lines.iter().position(|line| line.contains("/pause ")).unwrap();
    let last = lines.iter().rposition(|line| line.contains("/unpause ")).unwrap();
    let mut chosen = points(lines, (6, 60));
    if !super::is_thorough() {
        chosen.retain(|(number, _)| !(first..=last).contains(number));
        let within = (first..=last).step_by(((last - first) / 4).max(1));
        chosen.extend(within.zip([When::Answered, When::Sent, When::Before].into_iter().cycle()));
    }
    chosen
}

/// In the place of `timeout`, whose limit is hours: the same with one of seconds.
const SHORT: &str = r#"printf '#!/bin/sh\nshift\nexec /usr/bin/timeout 10 "$@"\n' >/usr/local/bin/timeout
chmod +x /usr/local/bin/timeout"#;

#[test]
fn a_run_that_hangs_in_backup_mode_does_not_keep_a_server_in_it_that_has_no_limit_of_its_own() {
    let (scene, engine) = (Scene::with_repository(), Engine::named("graph"));
    let volume = engine.volume();
    let server = engine.run("postgres-13", &["--volume", &volume.at(POSTGRES_DATA)], &[]);
    server.wait_for(&POSTGRES_ANSWERS);
    server.exec(&["sh", "-c", SHORT]);
    server.exec(&["pgbench", "--initialize", "--quiet", "--scale", "20", "-U", "postgres", "postgres"]);
    let held = || server.exec(&["psql", "-X", "-A", "-t", "-U", "postgres", "-c", HELD]);
    let mut command = scene.lifeboat();
    command.env("DOCKER_HOST", &engine.url).args(["snapshot", &format!("container:{}", server.name)]);
    let mut run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A session and its slot.
    server.wait_until("it is in backup mode", || held() == "2");
    signal(run.id(), rustix::process::Signal::STOP);
    assert!(run.try_wait().unwrap().is_none(), "the run was over before it could be stopped");
    server.wait_until("no session and no slot is left", || held() == "0");
    signal(run.id(), rustix::process::Signal::CONT);
    let (code, text) = Databases::finish(run);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("the database in container"), "{text}");
    assert!(scene.snapshots().is_empty());
}

on_every_engine! {
    fn a_run_killed_in_backup_mode_with_no_one_in_between_ends_it(engine: &Engine) {
        let scene = Scene::with_repository();
        let volume = engine.volume();
        let server = postgres(engine, &volume, "no");
        server.exec(&["pgbench", "--initialize", "--quiet", "--scale", "20", "-U", "postgres", "postgres"]);
        let started = server.started_at();
        let held = || server.exec(&["psql", "-X", "-A", "-t", "-U", "postgres", "-c", HELD]);
        let mut command = scene.lifeboat();
        command.env("DOCKER_HOST", &engine.url).args(["snapshot", &format!("container:{}", server.name)]);
        let mut run = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // A session and its slot.
        server.wait_until("it is in backup mode", || held() == "2");
        assert!(run.try_wait().unwrap().is_none(), "the run was over before it could be killed");
        sigkill(run.id());
        run.wait().unwrap();
        server.wait_until("no session and no slot is left", || held() == "0");
        assert_eq!((server.state().as_str(), server.started_at()), ("running", started));
        assert!(scene.snapshots().is_empty());
        // And nothing is in the next one's way.
        let mut command = scene.lifeboat();
        command.env("DOCKER_HOST", &engine.url).args(["snapshot", &format!("container:{}", server.name)]);
        crate::scene::Done::of(&mut command).expect(0).says("postgresql, backup-mode");
    }
}
