//! Engines that cannot be used, and things that must not be captured: told at once, with an exit code and a way out, and
//! nothing is made, stopped or stored.

use crate::engines::Engine;
use crate::engines::objects::{Container, Volume};
use crate::kills::proxy::Proxy;
use crate::scene::{Done, Scene, binary, tool};
use serde_json::json;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

#[track_caller]
fn lifeboat(scene: &Scene, host: &str, arguments: &[&str]) -> Done {
    Done::of(scene.lifeboat().env("DOCKER_HOST", host).args(arguments))
}

/// All commands that begin with an engine.
fn each(thing: &str) -> [Vec<String>; 4] {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    [
        words(&["docker", "ls"]),
        words(&["snapshot", &format!("volume:{thing}")]),
        words(&["snapshot", &format!("container:{thing}")]),
        words(&["snapshot", &format!("project:{thing}")]),
    ]
}

#[test]
fn where_no_engine_listens_every_command_says_so_with_one_exit_code() {
    let scene = Scene::with_repository();
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let stale = scene.path("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    for host in [format!("tcp://127.0.0.1:{port}"), format!("unix://{}", stale.display())] {
        for words in each("x") {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let said = lifeboat(&scene, &host, &words).expect(13);
            said.says(&format!("no engine answers at {host}")).says("Hint: docker -H");
        }
        lifeboat(&scene, &host, &["recover"]).expect(13).says("no engine answers at");
    }
    assert!(scene.snapshots().is_empty() && !scene.path("state/lifeboat/holds").exists());
}

#[test]
fn a_user_who_may_not_use_an_engines_socket_is_told_and_gets_nothing_done() {
    let engine = Engine::named("system");
    let scene = Scene::with_repository();
    let volume = engine.volume();
    let container = engine.run("base", &["--volume", &volume.at("/data")], &[]);
    let started = container.started_at();
    // The repository is the user's; the engine is not.
    tool("chown", &["-R", "65534:65534", &scene.text("")]);
    for words in each(&container.name) {
        let mut program = Command::new("setpriv");
        scene.dress(&mut program).args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        program.arg(binary()).args(&words).env("DOCKER_HOST", &engine.url);
        Done::of(&mut program).expect(13).says("no permission to use the engine at").says("Hint: sudo");
    }
    assert_eq!((container.state(), container.started_at()), ("running".into(), started));
}

fn is_version(line: &str) -> bool {
    line.starts_with("GET /version ")
}

#[test]
fn an_engine_that_is_too_old_or_too_new_is_refused_with_its_numbers() {
    let engine = Engine::named("graph");
    let scene = Scene::with_repository();
    let container = engine.run("base", &[], &[]);
    let format = "{{.Server.APIVersion}} {{.Server.MinAPIVersion}}";
    let versions = engine.say(&["version", "--format", format]);
    let (newest, least) = versions.split_once(' ').unwrap();
    // No engine that can be had is so old, or so new.
    for (truth, lie) in [
        (format!(r#""ApiVersion":"{newest}""#), r#""ApiVersion":"1.39""#),
        (format!(r#""MinAPIVersion":"{least}""#), r#""MinAPIVersion":"1.88""#),
    ] {
        let proxy = Proxy::lying(&scene.path("proxy.sock"), &engine.url, is_version, (&truth, lie));
        for words in each(&container.name) {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let said = lifeboat(&scene, &proxy.host(), &words).expect(13);
            said.says(lie.split('"').nth(3).unwrap())
                .says("this lifeboat speaks 1.40 to")
                .says("Hint: docker version");
        }
        // Nothing else was asked of it.
        assert!(proxy.lines().iter().all(|line| is_version(line)), "{:?}", proxy.lines());
    }
    assert!(scene.snapshots().is_empty());
}

#[test]
fn the_oldest_interface_is_enough_for_a_capture_and_its_restore() {
    let engine = Engine::named("graph");
    let scene = Scene::with_repository();
    let volume = engine.volume();
    std::fs::write(volume.folder().join("file"), "kept").unwrap();
    let labels = ["--label", r#"lifeboat.pre=["touch","/data/before"]"#, "--label", "lifeboat.stop=true"];
    let mount = volume.at("/data");
    let options = [&["--volume", &mount], &labels[..]].concat();
    let container =
        engine.run("base", &options, &["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]);
    container.exec(&["sh", "-c", "echo l >/root/new"]);
    let newest = engine.say(&["version", "--format", "{{.Server.APIVersion}}"]);
    let truth = format!(r#""ApiVersion":"{newest}""#);
    let lie = (truth.as_str(), r#""ApiVersion":"1.40""#);
    let proxy = Proxy::lying(&scene.path("proxy.sock"), &engine.url, is_version, lie);
    let run = |words: &[&str]| {
        // What the `docker` command is pinned to does not pin lifeboat, which asks the engine.
        let mut command = scene.lifeboat();
        Done::of(command.env("DOCKER_HOST", proxy.host()).env("DOCKER_API_VERSION", "1.12").args(words))
            .expect(0)
    };
    run(&["snapshot", &format!("container:{}", container.name)]);
    let claim = scene.snapshots().pop().unwrap()["consistency"].clone();
    assert_eq!(claim["one_moment"], json!(true), "{claim}");
    let (copy, data) =
        (Container::adopt(engine, &format!("{}-copy", container.name)), Volume::reserved(engine));
    run(&["restore", &format!("latest:volume:{}", volume.name), "--to", &format!("volume:{}", data.name)]);
    assert_eq!(std::fs::read_to_string(data.folder().join("file")).unwrap(), "kept");
    let from = format!("latest:container:{}", container.name);
    container.does("stop");
    run(&["restore", &from, "--to", &format!("container:{}", copy.name)]);
    copy.does("start");
    assert_eq!(copy.exec(&["cat", "/root/new", "/data/file"]), "l\nkept");
    let asked = proxy.lines();
    let is_pinned = |line: &&String| !is_version(line) && !line.contains(" /v1.40/");
    assert_eq!(asked.iter().find(is_pinned), None);
    drop((container, copy));
}

/// A Docker engine that listens with TLS only, and serves nothing but answers about itself.
struct TlsEngine {
    child: Child,
    host: String,
    _folder: tempfile::TempDir,
    certificates: std::path::PathBuf,
}

/// An authority, an engine's and a user's certificate, in a folder as `DOCKER_CERT_PATH` names one.
const CERTIFICATES: &str = r#"
set -e
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }
key ca-key.pem
openssl req -x509 -new -key ca-key.pem -subj /CN=authority -days 2 -out ca.pem
for one in server client; do
    key $one-key.pem
    openssl req -new -key $one-key.pem -subj /CN=$one -out $one.csr
    printf 'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=%sAuth' $one >$one.ext
    openssl x509 -req -in $one.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 2 -extfile $one.ext -out $one.pem
done
mv client.pem cert.pem
mv client-key.pem key.pem
"#;

fn certificates(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let made = Command::new("sh").args(["-c", CERTIFICATES]).current_dir(folder).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

impl TlsEngine {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pki = folder.path().join("pki");
        certificates(&pki);
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let at = |name: &str| folder.path().join(name).display().to_string();
        let mut dockerd = Command::new("dockerd");
        dockerd.args(["--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("pid")]);
        dockerd.args(["--bridge", "none", "--iptables=false", "--ip6tables=false"]);
        dockerd.args([
            "--host",
            &format!("tcp://{address}"),
            "--host",
            &format!("unix://{}", at("engine.sock")),
        ]);
        dockerd.args(["--tlsverify", "--tlscacert", &at("pki/ca.pem"), "--tlscert", &at("pki/server.pem")]);
        dockerd.args(["--tlskey", &at("pki/server-key.pem")]);
        let log = std::fs::File::create(at("log")).unwrap();
        dockerd.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = dockerd.spawn().expect("this test needs dockerd");
        let engine = Self { child, host: format!("tcp://{address}"), certificates: pki, _folder: folder };
        let local = Engine { name: "tls".into(), url: format!("unix://{}", engine.at("engine.sock")) };
        let begun = Instant::now();
        while !local.docker(&["version"]).output().unwrap().status.success() {
            let log = std::fs::read_to_string(engine.at("log")).unwrap();
            assert!(begun.elapsed() < Duration::from_secs(60), "the engine does not start: {log}");
            std::thread::sleep(Duration::from_millis(50));
        }
        engine
    }

    fn at(&self, name: &str) -> String {
        self.certificates.with_file_name(name).display().to_string()
    }
}

impl Drop for TlsEngine {
    fn drop(&mut self) {
        // It ends its containerd with itself, which takes a moment; then its folder can go.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

#[test]
fn an_engine_with_tls_is_told_from_one_without_and_strangers_are_refused() {
    let engine = TlsEngine::start();
    let scene = Scene::with_repository();
    let run = |certificates: Option<&Path>, words: &[&str]| {
        let mut command = scene.lifeboat();
        command.env("DOCKER_HOST", &engine.host).args(words);
        if let Some(folder) = certificates {
            command.env("DOCKER_TLS_VERIFY", "1").env("DOCKER_CERT_PATH", folder);
        }
        Done::of(&mut command)
    };
    run(Some(&engine.certificates), &["docker", "ls"]).expect(0).prints(&engine.host);
    for words in [&["docker", "ls"][..], &["snapshot", "volume:x"]] {
        // Without TLS, and with an authority that is not the engine's.
        run(None, words).expect(13).says("speaks TLS").says("Hint: DOCKER_TLS_VERIFY=1");
        let strangers = scene.path("strangers");
        certificates(&strangers);
        run(Some(&strangers), words).expect(13).says("no engine answers at").says("ertificate");
    }
    // And TLS with an engine that speaks none.
    let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", plain.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in plain.incoming() {
            let _ = std::io::Write::write_all(&mut stream.unwrap(), b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let mut command = scene.lifeboat();
    command
        .env("DOCKER_HOST", address)
        .env("DOCKER_TLS_VERIFY", "1")
        .env("DOCKER_CERT_PATH", &engine.certificates);
    Done::of(command.args(["docker", "ls"])).expect(13).says("no engine answers at");
}

#[test]
fn a_volume_that_holds_the_repository_is_refused_where_it_is_named_and_left_out_of_the_rest() {
    let engine = Engine::named("containerd");
    let scene = Scene::new();
    let (own, other) = (engine.volume(), engine.volume());
    std::fs::write(other.folder().join("file"), "x").unwrap();
    // Another name of the same folder.
    let device = format!("device={}", own.folder().display());
    let bound = engine.volume_with(&["--opt", "type=none", "--opt", "o=bind", "--opt", &device]);
    let container = engine.run("base", &["--volume", &bound.at("/data")], &[]);
    let run = |words: &[&str]| {
        let mut command = scene.lifeboat();
        command.env("DOCKER_HOST", &engine.url).env("LIFEBOAT_REPOSITORY", own.folder().join("main"));
        Done::of(command.args(words))
    };
    run(&["init"]).expect(0);
    let (own_name, other_name) = (format!("volume:{}", own.name), format!("volume:{}", other.name));
    let (bound_name, container_name) =
        (format!("volume:{}", bound.name), format!("container:{}", container.name));
    for words in [
        &["snapshot", &own_name][..],
        &["snapshot", &other_name, &own_name],
        &["snapshot", &bound_name],
        &["snapshot", &container_name, &own_name],
        &["snapshot", "--dry-run", &own_name],
    ] {
        let said = run(words).expect(1);
        said.says("holds the repository, or lifeboat's cache or state")
            .says("Hint: lifeboat -r ELSEWHERE copy --from");
    }
    run(&["snapshot", &other_name]).expect(0);
    let said = run(&["snapshot", &container_name]).expect(0);
    said.says(&format!("volume {} is not captured", bound.name));
    let snapshots = run(&["snapshots", "--json"]).expect(0).json();
    assert_eq!(snapshots.len(), 2, "{snapshots:?}");
    assert_eq!(snapshots[1]["paths"], json!([container_name]));
}
