//! Disks of lifeboat's own that become full while services are held: the repository's, the cache's, the state's.
//!
//! Must stay true: a full disk keeps services from being held, and never from being let go; it is told with a way out, and the
//! same command succeeds once there is room. The cache is nobody's loss.

use crate::engines::Engine;
use crate::engines::objects::{Container, Volume};
use crate::kills::proxy::{At, Proxy, When};
use crate::scene::disk::{Disk, stuff};
use crate::scene::{Done, Scene, noise};
use serde_json::json;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Ends at once when it is told to.
const SERVICE: &[&str] = &["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"];
/// So many are paused that what is noted of them takes more than what is left of a block of the journal's.
const PAUSED: usize = 7;

fn is_pause(line: &str) -> bool {
    line.starts_with("POST") && line.contains("/pause ")
}

/// A machine of which one folder lies on a small disk, and services on an engine.
struct Small {
    // Dropped in this order.
    services: Vec<Container>,
    volume: Volume,
    disk: Disk,
    scene: Scene,
    /// The variable that names the folder.
    variable: &'static str,
    engine: &'static Engine,
}

impl Small {
    /// `repository`, `cache` or `state`.
    fn new(folder: &str, labels: &[&str]) -> Self {
        let engine = Engine::named("graph");
        let scene = Scene::new();
        let disk = Disk::ext4(&scene.path("small"), "48M");
        let variable = match folder {
            "repository" => "LIFEBOAT_REPOSITORY",
            "cache" => "XDG_CACHE_HOME",
            _ => "XDG_STATE_HOME",
        };
        let volume = engine.volume();
        std::fs::write(volume.folder().join("large"), noise(folder, 4 << 20)).unwrap();
        let mount = volume.at("/data");
        let labels: Vec<&str> = labels.iter().flat_map(|label| ["--label", label]).collect();
        let service = |options: &[&str]| {
            let options = [&["--network", "none", "--volume", &mount], &labels[..], options].concat();
            engine.run("base", &options, SERVICE)
        };
        let mut services = vec![service(&[
            "--label",
            "lifeboat.stop=true",
            "--label",
            r#"lifeboat.pre=["sh","-c","echo before >>/log"]"#,
            "--label",
            r#"lifeboat.post=["sh","-c","echo after >>/log"]"#,
        ])];
        services.extend((0..PAUSED).map(|_| service(&[])));
        let small = Self { services, volume, disk, scene, variable, engine };
        small.run(&["init"]).expect(0);
        small
    }

    fn command(&self, host: &str, words: &[&str]) -> Command {
        let mut command = self.scene.lifeboat();
        command.env("DOCKER_HOST", host).env(self.variable, self.folder()).args(words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn folder(&self) -> PathBuf {
        self.disk.place().join("own")
    }

    #[track_caller]
    fn run(&self, words: &[&str]) -> Done {
        Done::of(&mut self.command(&self.engine.url, words))
    }

    fn words(&self) -> [String; 2] {
        ["snapshot".to_owned(), format!("container:{}", self.services[0].name)]
    }

    #[track_caller]
    fn snapshot(&self) -> Done {
        self.run(&self.words().each_ref().map(String::as_str))
    }

    /// A capture during which the disk becomes full once everybody is quiet.
    #[track_caller]
    fn snapshot_that_fills(&self) -> Done {
        let place = self.disk.place().to_owned();
        let at = (At::First(is_pause), When::Answered);
        let proxy = Proxy::start(
            &self.scene.path("proxy.sock"),
            &self.engine.url,
            at,
            Box::new(move || stuff(&place)),
        );
        let done = Done::of(&mut self.command(&proxy.host(), &self.words().each_ref().map(String::as_str)));
        assert!(proxy.has_fired(), "the disk was never filled: {done}");
        done
    }

    fn snapshots(&self) -> usize {
        self.run(&["snapshots", "--json"]).expect(0).json().len()
    }

    fn down(&self) -> Vec<&str> {
        let is_down = |service: &&Container| service.state() != "running";
        self.services.iter().filter(is_down).map(|service| service.name.as_str()).collect()
    }

    /// Everybody runs, what is owed was run as often as what comes before it, and there is no journal and no mark.
    #[track_caller]
    fn assert_as_before(&self, runs: usize) {
        assert_eq!(self.down(), [""; 0]);
        let log = self.services[0].try_exec(&["cat", "/log"]).stdout;
        assert_eq!(String::from_utf8(log).unwrap(), "before\nafter\n".repeat(runs));
        let state = match self.variable {
            "XDG_STATE_HOME" => self.folder(),
            _ => self.scene.path("state"),
        };
        let journals = std::fs::read_dir(state.join("lifeboat/holds")).into_iter().flatten();
        let left: Vec<_> =
            journals.map(|entry| entry.unwrap().file_name()).filter(|name| name != "gate").collect();
        assert!(left.is_empty(), "{left:?}");
        let format = r#"{{.Label "lifeboat.hold.entries"}}"#;
        let marks = self.engine.say(&["ps", "--all", "--filter", "label=lifeboat.hold", "--format", format]);
        assert!(!marks.contains(&self.services[0].id()), "a mark is left");
    }

    /// The same command succeeds.
    #[track_caller]
    fn assert_succeeds_with_room(&self, runs: usize) {
        let before = self.snapshots();
        self.disk.empty();
        self.snapshot().expect(0);
        self.assert_as_before(runs);
        assert_eq!(self.snapshots(), before + 1);
        self.run(&["check", "--read-data"]).expect(0);
        let large =
            self.run(&["dump", &format!("latest:volume:{}/large", self.volume.name)]).expect(0).stdout;
        assert!(large == std::fs::read(self.volume.folder().join("large")).unwrap());
    }
}

#[test]
fn a_repository_that_is_full_while_services_are_held_costs_the_snapshot_and_nothing_else() {
    let small = Small::new("repository", &[]);
    small.snapshot_that_fills().expect(1).says("no room left").says("Hint: df -h");
    small.assert_as_before(1);
    assert_eq!(small.snapshots(), 0);
    // Nor is it begun where it is full already, as far as that can be known: services are let go in any case.
    small.snapshot().expect(1).says("no room left").says("Hint: df -h");
    small.assert_as_before(2);
    small.assert_succeeds_with_room(3);
}

#[test]
fn a_cache_that_is_full_while_services_are_held_costs_nothing() {
    let small = Small::new("cache", &[]);
    small.snapshot_that_fills().expect(0);
    small.assert_as_before(1);
    small.snapshot().expect(0);
    small.assert_as_before(2);
    small.assert_succeeds_with_room(3);
}

#[test]
fn where_no_journal_can_be_written_nothing_is_touched() {
    let small = Small::new("state", &[]);
    small.snapshot().expect(0);
    let started: Vec<String> = small.services.iter().map(Container::started_at).collect();
    small.disk.fill();
    small.snapshot().expect(1).says("without a journal").says("No space left").says("Hint: df -h");
    small.assert_as_before(1);
    assert_eq!(small.services.iter().map(Container::started_at).collect::<Vec<_>>(), started);
    assert_eq!(small.snapshots(), 1);
    small.assert_succeeds_with_room(2);
}

#[test]
fn a_state_folder_that_is_full_while_services_are_held_keeps_none_of_them_down() {
    let small = Small::new("state", &[]);
    small.snapshot_that_fills().expect(0);
    small.assert_as_before(1);
    small.assert_succeeds_with_room(2);
}

#[test]
fn a_pause_that_lasts_too_long_is_undone_although_the_state_folder_is_full_and_the_run_hangs() {
    let small = Small::new("state", &["lifeboat.max-pause=1s"]);
    let target = Arc::new(AtomicU32::new(0));
    let (victim, place) = (Arc::clone(&target), small.disk.place().to_owned());
    let deed = Box::new(move || {
        stuff(&place);
        while victim.load(Ordering::SeqCst) == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        send("STOP", victim.load(Ordering::SeqCst));
    });
    let at = (At::First(is_pause), When::Answered);
    let proxy = Proxy::start(&small.scene.path("proxy.sock"), &small.engine.url, at, deed);
    let words = small.words();
    let run = small.command(&proxy.host(), &words.each_ref().map(String::as_str)).spawn().unwrap();
    target.store(run.id(), Ordering::SeqCst);
    let begun = Instant::now();
    while !proxy.has_fired() || !small.down().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "still down: {:?}", small.down());
        std::thread::sleep(Duration::from_millis(50));
    }
    send("CONT", run.id());
    let done = Done::from_output("a run that hung".into(), run.wait_with_output().unwrap());
    // It would be taken again, for which there is no room.
    done.expect(1).says("without a journal").says("Hint: df -h");
    small.assert_as_before(1);
    assert_eq!(small.snapshots(), 0);
    small.assert_succeeds_with_room(2);
}

fn send(signal: &str, process: u32) {
    crate::scene::tool("kill", &["-s", signal, &process.to_string()]);
}

#[test]
fn a_repository_that_is_full_while_a_database_is_in_backup_mode_ends_that_mode() {
    const DATA: &str = "/var/lib/postgresql/data";
    const HELD: &str = "SELECT (SELECT count(*) FROM pg_replication_slots)
      + (SELECT count(*) FROM pg_stat_activity WHERE application_name = 'lifeboat')";
    let engine = Engine::named("graph");
    let scene = Scene::new();
    let disk = Disk::ext4(&scene.path("small"), "192M");
    let volume = engine.volume();
    let server = engine.run("postgres", &["--volume", &volume.at(DATA)], &["-c", "log_statement=all"]);
    server.wait_for(&["psql", "-h", "127.0.0.1", "-U", "postgres", "-c", "SELECT 1"]);
    let (started, named) = (server.started_at(), format!("container:{}", server.name));
    let run = |words: &[&str]| {
        let mut command = scene.lifeboat();
        command.env("DOCKER_HOST", &engine.url).env("LIFEBOAT_REPOSITORY", disk.place().join("repository"));
        Done::of(command.args(words))
    };
    run(&["init"]).expect(0);
    disk.fill();
    // Room to begin, and not for all of it.
    let ballast = std::fs::File::options().write(true).open(disk.place().join("ballast")).unwrap();
    ballast.set_len(ballast.metadata().unwrap().len() - (1 << 20)).unwrap();
    // A file that is open keeps its room.
    drop(ballast);
    run(&["snapshot", &named]).expect(1).says("no room left").says("Hint: df -h");
    let log = engine.docker(&["logs", &server.name]).output().unwrap();
    let log = String::from_utf8_lossy(&[log.stdout, log.stderr].concat()).into_owned();
    assert!(
        log.contains("pg_backup_start") || log.contains("pg_start_backup"),
        "it never was in backup mode: {log}"
    );
    assert_eq!(server.exec(&["psql", "-X", "-A", "-t", "-U", "postgres", "-c", HELD]), "0");
    assert!(!server.try_exec(&["test", "-e", &format!("{DATA}/backup_label")]).status.success());
    assert_eq!((server.state(), server.started_at()), ("running".into(), started));
    assert_eq!(run(&["snapshots", "--json"]).expect(0).json().len(), 0);
    disk.empty();
    run(&["snapshot", &named]).expect(0).says("postgresql, backup-mode");
    let snapshot = run(&["snapshots", "--json"]).expect(0).json().pop().unwrap();
    assert_eq!(snapshot["consistency"]["one_moment"], json!(true), "{snapshot}");
}
