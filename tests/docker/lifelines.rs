//! lifeboat in a container of the engine that it captures: it never stops or pauses what it hangs on, itself first of all.
//!
//! Must stay true: everybody here asks to be stopped, so whoever is not spared is; what is stopped beside them shows that
//! stopping was not merely forgotten.

use crate::engines::killable::KillableEngine;
use crate::engines::objects::{Container, Network, Volume};
use crate::engines::{Engine, on_every_engine};
use crate::scene::{Done, Scene, binary};
use serde_json::Value;
use std::process::Command;

const STOP: [&str; 2] = ["--label", "lifeboat.stop=true"];

/// Forwards a port, or the socket that it is given, to the engine's socket.
const PROXY: &str = r#"
use IO::Socket::INET; use IO::Socket::UNIX;
$SIG{CHLD} = "IGNORE"; $SIG{TERM} = sub { exit };
my $port = @ARGV ? IO::Socket::UNIX->new(Local => $ARGV[0], Listen => 64)
    : IO::Socket::INET->new(LocalPort => 2375, Listen => 64, ReuseAddr => 1);
$port or die;
while (1) {
    my $client = $port->accept or next;
    next if fork;
    my $engine = IO::Socket::UNIX->new(Peer => "/engine.sock") or exit;
    my ($from, $to) = fork ? ($client, $engine) : ($engine, $client);
    while (sysread($from, my $data, 65536)) {
        while (length $data) { my $count = syswrite($to, $data) or exit; substr($data, 0, $count) = ""; }
    }
    shutdown($to, 1);
    exit;
}
"#;

/// lifeboat with all that is its own in volumes, and a way to the engine over a network.
struct Inside {
    // Dropped in this order.
    lifeboat: Container,
    proxy: Container,
    repository: Volume,
    own: Volume,
    _network: Network,
}

fn proxy(engine: &Engine, options: &[&str]) -> Container {
    proxy_at(engine, options, &[])
}

/// One that listens at a socket, where one is named.
fn proxy_at(engine: &Engine, options: &[&str], socket: &[&str]) -> Container {
    let engines = format!("{}:/engine.sock", engine.url.trim_start_matches("unix://"));
    let options = [&["--volume", &engines], &STOP[..], options].concat();
    engine.run("base", &options, &[&["perl", "-e", PROXY], socket].concat())
}

fn lifeboat(engine: &Engine, (repository, own): (&Volume, &Volume), options: &[&str]) -> Container {
    let program = format!("{}:/usr/local/bin/lifeboat:ro", binary().display());
    let (repository, own) = (repository.at("/repository"), own.at("/own"));
    let volumes = ["--volume", &program, "--volume", &repository, "--volume", &own];
    let settings = [
        "--env",
        "HOME=/own",
        "--env",
        "XDG_CACHE_HOME=/own/cache",
        "--env",
        "XDG_STATE_HOME=/own/state",
        "--env",
        "LIFEBOAT_REPOSITORY=/repository/main",
        "--env",
        "LIFEBOAT_KEY_FILE=/own/key",
    ];
    engine.run("base", &[&volumes, &settings[..], &STOP, options].concat(), &[])
}

impl Inside {
    /// The proxy has a name in a network.
    fn by_name(engine: &Engine) -> Self {
        let (network, repository, own) = (engine.network(&[]), engine.volume(), engine.volume());
        let proxy = proxy(engine, &["--network", &network.name, "--network-alias", "socket-proxy"]);
        let options = ["--network", &network.name, "--env", "DOCKER_HOST=tcp://socket-proxy:2375"];
        let lifeboat = lifeboat(engine, (&repository, &own), &options);
        Self { lifeboat, proxy, repository, own, _network: network }.ready()
    }

    /// The two share a network: one uses the other's.
    fn side_by_side(engine: &Engine, owner_is_proxy: bool) -> Self {
        let (network, repository, own) = (engine.network(&[]), engine.volume(), engine.volume());
        let host = ["--env", "DOCKER_HOST=tcp://localhost:2375"];
        let owner = ["--network", &network.name];
        let user = |owner: &Container| format!("container:{}", owner.name);
        let (lifeboat, proxy) = if owner_is_proxy {
            let proxy = proxy(engine, &owner);
            let network = user(&proxy);
            (lifeboat(engine, (&repository, &own), &[&host[..], &["--network", &network]].concat()), proxy)
        } else {
            let lifeboat = lifeboat(engine, (&repository, &own), &[&host[..], &owner].concat());
            let network = user(&lifeboat);
            let proxy = proxy(engine, &["--network", &network]);
            (lifeboat, proxy)
        };
        Self { lifeboat, proxy, repository, own, _network: network }.ready()
    }

    /// The proxy has a socket in a folder that both have; processes of one are not seen in the other.
    fn by_socket(engine: &Engine, shared: &Volume) -> Self {
        let (network, repository, own) = (engine.network(&[]), engine.volume(), engine.volume());
        let proxy = proxy_at(engine, &["--volume", &shared.at("/run/proxy")], &["/run/proxy/proxy.sock"]);
        let read = format!("{}:ro", shared.at("/engine"));
        let host = "DOCKER_HOST=unix:///engine/proxy.sock";
        let options = ["--network", &network.name, "--volume", &read, "--env", host];
        let lifeboat = lifeboat(engine, (&repository, &own), &options);
        Self { lifeboat, proxy, repository, own, _network: network }.ready()
    }

    fn ready(self) -> Self {
        self.lifeboat.exec(&["lifeboat", "init"]);
        self.lifeboat.wait_for(&["lifeboat", "docker", "ls"]);
        self
    }

    #[track_caller]
    fn run(&self, engine: &Engine, words: &[&str]) -> Done {
        Done::of(&mut engine.docker(&[&["exec", &self.lifeboat.name, "lifeboat"], words].concat()))
    }

    /// How each was in the newest snapshot's moment.
    #[track_caller]
    fn how(&self, engine: &Engine, container: &Container) -> String {
        let newest = self.run(engine, &["snapshots", "--json"]).expect(0).json().pop().unwrap();
        let all = newest["consistency"]["containers"].as_array().unwrap().clone();
        let found = all.iter().find(|one| one["name"] == container.name.as_str());
        found.unwrap_or_else(|| panic!("{} is not in {all:?}", container.name))["how"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Captures everybody, each of whom asks to be stopped.
    #[track_caller]
    fn assert_only_others_are_stopped(&self, engine: &Engine) {
        let carrier =
            engine.run("base", &[&["--volume", &self.repository.at("/data")], &STOP[..]].concat(), &[]);
        let stateful = engine.run("base", &[&["--volume", &self.own.at("/data")], &STOP[..]].concat(), &[]);
        let other = engine.run("base", &STOP, &[]);
        let spared = [&self.lifeboat, &self.proxy, &carrier, &stateful];
        let before: Vec<String> = spared.iter().map(|one| one.started_at()).collect();
        let start = other.started_at();
        let names: Vec<String> =
            spared.iter().chain([&&other]).map(|one| format!("container:{}", one.name)).collect();
        let words: Vec<&str> = ["snapshot"].into_iter().chain(names.iter().map(String::as_str)).collect();
        let mut said = self.run(engine, &words).expect(0);
        for one in spared {
            said = said.says(&format!("container {}: it is left alone", one.name));
            assert_eq!(self.how(engine, one), "ran on");
        }
        assert_eq!(spared.map(Container::started_at).to_vec(), before);
        assert_eq!(self.how(engine, &other), "stopped");
        assert_ne!(other.started_at(), start);
        assert_eq!(other.state(), "running");
    }
}

/// Captures the way to the engine and somebody else, both of whom ask to be stopped.
#[track_caller]
fn assert_the_way_is_left_alone(scene: &Scene, engine: &Engine, way: &Container, lifeboat: &mut Command) {
    let other = engine.run("base", &STOP, &[]);
    let (start, others) = (way.started_at(), other.started_at());
    let names = [way, &other].map(|one| format!("container:{}", one.name));
    let said = Done::of(lifeboat.arg("snapshot").args(&names)).expect(0);
    said.says(&format!("container {}: it is left alone: it is the way to the engine", way.name));
    assert_eq!((way.state(), way.started_at()), ("running".into(), start));
    let consistency = scene.snapshots().pop().unwrap()["consistency"].clone();
    let how = |container: &Container| {
        let all = consistency["containers"].as_array().unwrap();
        all.iter().find(|one| one["name"] == container.name.as_str()).unwrap()["how"].clone()
    };
    assert_eq!((how(way), how(&other)), ("ran on".into(), "stopped".into()), "{consistency}");
    assert_ne!(other.started_at(), others);
    assert_eq!(other.state(), "running");
}

on_every_engine! {
    fn lifeboat_its_proxy_and_who_carries_its_repository_are_left_alone(engine: &Engine) {
        Inside::by_name(engine).assert_only_others_are_stopped(engine);
    }

    fn who_shares_a_network_with_lifeboat_may_be_its_proxy_or_itself(engine: &Engine) {
        for owner_is_proxy in [true, false] {
            Inside::side_by_side(engine, owner_is_proxy).assert_only_others_are_stopped(engine);
        }
    }

    fn who_serves_the_engines_socket_to_another_container_is_left_alone(engine: &Engine) {
        let shared = engine.volume();
        Inside::by_socket(engine, &shared).assert_only_others_are_stopped(engine);
    }

    fn who_serves_the_engines_socket_to_the_host_is_left_alone(engine: &Engine) {
        let scene = Scene::with_repository();
        let folder = scene.path("run");
        std::fs::create_dir(&folder).unwrap();
        let volume = format!("{}:/run/proxy", folder.display());
        let proxy = proxy_at(engine, &["--volume", &volume], &["/run/proxy/proxy.sock"]);
        let socket = folder.join("proxy.sock");
        proxy.wait_until("it listens", || socket.exists());
        let host = format!("unix://{}", socket.display());
        assert_the_way_is_left_alone(&scene, engine, &proxy, scene.lifeboat().env("DOCKER_HOST", host));
    }

    fn who_publishes_the_engines_port_is_left_alone_by_whatever_address_it_is_reached(engine: &Engine) {
        let scene = Scene::with_repository();
        let proxy = proxy(engine, &["--publish", "2375"]);
        let found = proxy.inspect();
        let port = found["NetworkSettings"]["Ports"]["2375/tcp"][0]["HostPort"].as_str().unwrap().to_owned();
        // The engine's machine has this address in its own network, as it has others.
        let address = found["NetworkSettings"]["Networks"]["bridge"]["Gateway"].as_str().unwrap();
        let inner = scene.lifeboat();
        let mut command = engine.beside();
        command.arg(inner.get_program()).envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("DOCKER_HOST", format!("tcp://{address}:{port}")).current_dir(scene.path(""));
        proxy.wait_for(&["perl", "-e", "use IO::Socket::INET; exit !IO::Socket::INET->new('127.0.0.1:2375')"]);
        assert_the_way_is_left_alone(&scene, engine, &proxy, &mut command);
    }

    fn a_volume_that_holds_the_repository_is_in_no_snapshot_of_it(engine: &Engine) {
        let inside = Inside::by_name(engine);
        let named = format!("container:{}", inside.lifeboat.name);
        let said = inside.run(engine, &["snapshot", &named]).expect(0);
        said.says(&format!("volume {} is not captured", inside.repository.name));
        let newest = inside.run(engine, &["snapshots", "--json"]).expect(0).json().pop().unwrap();
        let paths: Vec<&Value> = newest["paths"].as_array().unwrap().iter().collect();
        assert_eq!(paths, [named.as_str()], "{newest}");
    }
}

/// A service of a swarm of one, which ends with its engine.
struct Swarm {
    service: String,
    task: Container,
    volume: Volume,
    engine: KillableEngine,
}

impl Swarm {
    fn new(flavour: &'static str) -> Self {
        let engine = KillableEngine::start(flavour);
        engine.say(&["swarm", "init", "--advertise-addr", "127.0.0.1"]);
        let volume = engine.volume();
        let service = volume.name.replace("lbt-", "lbs-");
        let mount = format!("type=volume,source={},target=/data", volume.name);
        engine.say(&[
            "service",
            "create",
            "--detach",
            "--name",
            &service,
            "--mount",
            &mount,
            "--container-label",
            STOP[1],
            "--no-resolve-image",
            "lifeboat-test/base:1",
        ]);
        let task = Container::adopt(&engine, &Self::only_task(&engine, &service));
        Self { service, task, volume, engine }
    }

    /// The name of the service's container, as soon as it runs.
    fn only_task(engine: &Engine, service: &str) -> String {
        let filter = format!("label=com.docker.swarm.service.name={service}");
        let begun = std::time::Instant::now();
        loop {
            let names = engine.say(&["ps", "--filter", &filter, "--format", "{{.Names}}"]);
            match names.lines().collect::<Vec<_>>()[..] {
                [name] => return name.to_owned(),
                ref found => assert!(begun.elapsed().as_secs() < 60, "{found:?}"),
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }
}

#[test]
fn a_swarms_container_is_paused_where_it_asks_to_be_stopped_and_the_swarm_starts_no_other() {
    let swarm = Swarm::new("graph");
    let scene = Scene::with_repository();
    let start = swarm.task.started_at();
    let named = format!("container:{}", swarm.task.name);
    let said =
        Done::of(scene.lifeboat().env("DOCKER_HOST", &swarm.engine.url).args(["snapshot", &named])).expect(0);
    said.says("it is paused, not stopped: a swarm would start another in its place");
    let consistency = scene.snapshots().pop().unwrap()["consistency"].clone();
    assert_eq!(consistency["containers"][0]["how"], "paused", "{consistency}");
    assert_eq!((swarm.task.state(), swarm.task.started_at()), ("running".into(), start));
    let tasks = swarm.engine.say(&["service", "ps", "--quiet", &swarm.service]);
    assert_eq!(tasks.lines().count(), 1, "{tasks}");
    swarm.engine.say(&["service", "rm", &swarm.service]);
    let Swarm { task, volume, engine, .. } = swarm;
    drop((task, volume));
    drop(engine);
}
