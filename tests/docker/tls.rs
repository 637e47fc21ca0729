//! An engine that is reached over TCP with TLS, and by nobody without.

use crate::engines::Engine;
use crate::kills::place::{journals, sigkill, signal, supervisor};
use crate::scene::{Done, Scene};
use rustix::process::Signal;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A Docker engine that listens with TLS only; and on a socket, for the test.
struct TlsEngine {
    child: Child,
    host: String,
    local: Engine,
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
        let local = Engine { name: "tls".into(), url: format!("unix://{}", at("engine.sock")) };
        let host = format!("tcp://{address}");
        let engine = Self { child, host, local, certificates: pki, _folder: folder };
        let begun = Instant::now();
        while !engine.local.docker(&["version"]).output().unwrap().status.success() {
            let log = std::fs::read_to_string(engine.at("log")).unwrap();
            assert!(begun.elapsed() < Duration::from_secs(60), "the engine does not start: {log}");
            std::thread::sleep(Duration::from_millis(50));
        }
        engine
    }

    /// It has the small image then.
    fn load_base(&self) {
        let mut saving = Engine::named("system").docker(&["save", "lifeboat-test/base:1"]);
        let mut saved = saving.stdout(Stdio::piped()).spawn().unwrap();
        let loaded = self.local.docker(&["load"]).stdin(saved.stdout.take().unwrap()).output().unwrap();
        assert!(saved.wait().unwrap().success() && loaded.status.success(), "{loaded:?}");
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

/// What is changed all the time, and takes a while to be read again in the pause.
const WRITER: &str = "head -c 300000000 /dev/zero >/data/big; touch /data/ready; trap 'exit 0' TERM
    while :; do echo more >>/data/big; sleep 0.05; done";

#[test]
fn a_run_over_tls_that_is_killed_in_its_pause_is_undone_by_its_supervisor_over_tls() {
    let engine = TlsEngine::start();
    engine.load_base();
    let scene = Scene::with_repository();
    let volume = engine.local.volume();
    let options = ["--network", "none", "--volume", &volume.at("/data")];
    let service = engine.local.run("base", &options, &["sh", "-c", WRITER]);
    service.wait_for(&["test", "-e", "/data/ready"]);
    let started = service.started_at();
    let state = scene.path("state/lifeboat");
    // Whoever is seen too late runs to its end, and the next one is tried.
    let killed = (0..10).any(|_| {
        let mut events = engine.local.docker(&["events", "--filter", "event=pause"]);
        let mut events = events.stdout(Stdio::piped()).spawn().unwrap();
        let mut command = scene.lifeboat();
        command.env("DOCKER_HOST", &engine.host).env("DOCKER_TLS_VERIFY", "1");
        command.env("DOCKER_CERT_PATH", &engine.certificates);
        let mut run = command.args(["snapshot", &format!("container:{}", service.name)]).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(events.stdout.take().unwrap()).read_line(&mut line).unwrap();
        signal(run.id(), Signal::STOP);
        let is_paused = service.state() == "paused";
        if is_paused {
            sigkill(run.id());
        }
        signal(run.id(), Signal::CONT);
        assert_eq!(run.wait().unwrap().success(), !is_paused);
        events.kill().unwrap();
        events.wait().unwrap();
        is_paused
    });
    assert!(killed, "no run was seen in its pause");
    service.wait_until("its supervisor has brought it back", || service.state() == "running");
    service.wait_until("nothing is left", || journals(&state).is_empty() && supervisor(&state).is_none());
    assert_eq!(service.started_at(), started);
    assert_eq!(engine.local.say(&["ps", "--all", "--quiet", "--filter", "label=lifeboat.hold"]), "");
}
