//! A compose project for tests: containers, volumes, networks, a folder and a secret, in a scene's folder.

use crate::engines::objects::{Image, Volume};
use crate::engines::{Engine, compose, unique};
use crate::scene::{Done, Scene};

/// A project in a scene's folder, gone with the test.
pub(crate) struct Project<'t> {
    pub(crate) scene: &'t Scene,
    pub(crate) engine: &'t Engine,
    pub(crate) name: String,
    /// Its image, which no other test has.
    pub(crate) image: Image,
    pub(crate) port: u16,
}

impl<'t> Project<'t> {
    /// A database, a service that waits for it, and one that does a job; a bind, a secret, a volume with a name of its own.
    #[track_caller]
    pub(crate) fn up(scene: &'t Scene, engine: &'t Engine) -> Self {
        Self::begin(scene, engine, "")
    }

    /// The same with a check for each: then nobody waits until they have run for a while.
    #[track_caller]
    pub(crate) fn up_with_checks(scene: &'t Scene, engine: &'t Engine) -> Self {
        Self::begin(scene, engine, "healthcheck: {test: [CMD, 'true'], interval: 1s, retries: 20}")
    }

    /// One of a test's own: `IMAGE` in the text is an image that no other test has.
    #[track_caller]
    pub(crate) fn up_from(scene: &'t Scene, engine: &'t Engine, text: &str) -> Self {
        let project = Self::new(scene, engine);
        scene.write("shop/compose.yml", project.filled(text));
        project.compose(&["up", "--detach", "--wait"]);
        project
    }

    /// The text of a compose file, with its image.
    pub(crate) fn filled(&self, text: &str) -> String {
        text.replace("IMAGE", &self.image.name)
    }

    #[track_caller]
    fn new(scene: &'t Scene, engine: &'t Engine) -> Self {
        Self { scene, engine, name: unique(), image: Image::make(engine, "project"), port: free_port() }
    }

    #[track_caller]
    fn begin(scene: &'t Scene, engine: &'t Engine, check: &str) -> Self {
        let project = Self::new(scene, engine);
        let port = project.port;
        let net = net_of(port);
        let text = project
            .filled(COMPOSE)
            .replace("EXPLICIT", &project.explicit())
            .replace("CHECK", check)
            .replace("PORT", &port.to_string())
            .replace("SUBNET", &format!("{net}.0/25"))
            // What the engine chose is another test's by the time that it is asked for again.
            .replace("FRONT", &format!("{net}.128/25"))
            .replace("ADDRESS", &format!("{net}.77"));
        scene.write("shop/compose.yml", text);
        scene.write("shop/extra/more.yml", project.filled(MORE).replace("CHECK", check));
        scene.write("shop/web.env", "COLOUR=secret-colour\n");
        scene.write("shop/secrets/token", "secret-token\n");
        crate::scene::set_mode(&scene.path("shop/secrets/token"), 0o640);
        scene.write("shop/site/index.html", "welcome\n");
        project.compose(&["up", "--detach", "--wait"]);
        project
    }

    pub(crate) fn explicit(&self) -> String {
        format!("{}-own", self.name)
    }

    pub(crate) fn container(&self, service: &str) -> String {
        format!("{}-{service}-1", self.name)
    }

    #[track_caller]
    pub(crate) fn compose(&self, words: &[&str]) -> String {
        compose(self.engine, &self.scene.path("shop"), &self.name, &[], words)
    }

    #[track_caller]
    pub(crate) fn exec(&self, service: &str, script: &str) -> String {
        self.exec_in(&self.container(service), script)
    }

    /// The same in a container of any name.
    #[track_caller]
    pub(crate) fn exec_in(&self, container: &str, script: &str) -> String {
        self.engine.say(&["exec", container, "sh", "-c", script])
    }

    /// Another name for it, under which nothing is yet; what gets it is gone with the test.
    pub(crate) fn renamed(&self) -> Self {
        let image = Image::adopt(self.engine, "no-such-image");
        Self { scene: self.scene, engine: self.engine, name: unique(), image, port: 0 }
    }

    #[track_caller]
    pub(crate) fn lifeboat(&self, words: &[&str]) -> Done {
        Done::of(command(self.scene, self.engine).args(words))
    }

    /// Everything of it goes, its image and its files too.
    #[track_caller]
    pub(crate) fn destroy(&self) {
        self.compose(&["down", "--volumes"]);
        self.image.remove();
        crate::scene::remove(&self.scene.path("shop"));
    }

    /// The same, at once and without compose.
    #[track_caller]
    pub(crate) fn wipe(&self) {
        self.remove_all(|words| _ = self.engine.say(words));
        self.image.remove();
        crate::scene::remove(&self.scene.path("shop"));
    }

    /// The same, as far as it is possible.
    pub(crate) fn try_wipe(&self) {
        self.remove_all(|words| _ = self.engine.docker(words).output());
        let _ = self.engine.docker(&["rmi", "--force", &self.image.name]).output();
        crate::scene::remove(&self.scene.path("shop"));
    }

    /// Removes its containers, volumes and networks.
    fn remove_all(&self, docker: impl Fn(&[&str])) {
        let filter = format!("label=com.docker.compose.project={}", self.name);
        for (list, remove) in [
            (&["ps", "--all"][..], &["rm", "--force", "--volumes"][..]),
            (&["volume", "ls"], &["volume", "rm"]),
            (&["network", "ls"], &["network", "rm"]),
        ] {
            let ids =
                self.engine.docker(&[list, &["--quiet", "--filter", &filter]].concat()).output().unwrap();
            let ids = String::from_utf8_lossy(&ids.stdout).into_owned();
            let ids: Vec<&str> = ids.lines().collect();
            if !ids.is_empty() {
                docker(&[remove, &ids[..]].concat());
            }
        }
        // Made where something of an image's was deleted.
        let derived = format!("reference=lifeboat-derived:{}-*", self.name);
        let format = "{{.Repository}}:{{.Tag}}";
        for name in self.engine.say(&["images", "--filter", &derived, "--format", format]).lines() {
            docker(&["rmi", name]);
        }
    }

    /// What compose would change, in its own words.
    #[track_caller]
    pub(crate) fn changes(&self) -> Vec<String> {
        let mut dry = crate::engines::compose_command(self.engine, &self.scene.path("shop"), &self.name, &[]);
        let output = dry.args(["up", "--detach", "--dry-run"]).output().unwrap();
        assert!(output.status.success());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let calm = ["Running", "Waiting", "Healthy", "Exited"];
        let lines = said.lines().map(str::trim).filter(|line| line.contains("DRY-RUN"));
        lines.filter(|line| !calm.iter().any(|word| line.ends_with(word))).map(str::to_owned).collect()
    }

    pub(crate) fn write_data(&self) {
        self.exec(
            "db",
            "echo ordered > /data/orders; echo own > /own/file; echo layer > /etc/changed; rm -f /etc/issue",
        );
    }

    #[track_caller]
    pub(crate) fn has_data(&self) {
        let all = "cat /data/orders /own/file /etc/changed; test -e /etc/issue || echo deleted";
        assert_eq!(self.exec("db", all), "ordered\nown\nlayer\ndeleted");
        assert_eq!(
            self.exec("web", "cat /site/index.html /run/secrets/token; echo $COLOUR"),
            "welcome\nsecret-token\nsecret-colour"
        );
    }
}

impl Drop for Project<'_> {
    fn drop(&mut self) {
        self.remove_all(|words| _ = self.engine.docker(words).output());
        drop(Volume::adopt(self.engine, &self.explicit()));
    }
}

const COMPOSE: &str = r#"
include: [extra/more.yml]
services:
  db:
    image: IMAGE
    command: [sleep, infinity]
    init: true
    volumes: ["data:/data", "own:/own"]
    networks: {back: {ipv4_address: ADDRESS}}
    healthcheck: {test: [CMD, test, -d, /data], interval: 1s, retries: 20}
  web:
    image: IMAGE
    command: [sleep, infinity]
    init: true
    env_file: web.env
    CHECK
    depends_on: {db: {condition: service_healthy}}
    networks: [back, front]
    ports: ["PORT:80"]
    volumes: ["./site:/site"]
    secrets: [token]
secrets: {token: {file: secrets/token}}
volumes: {data: {}, own: {name: EXPLICIT}}
networks: {back: {ipam: {config: [{subnet: SUBNET}]}}, front: {ipam: {config: [{subnet: FRONT}]}}}
"#;

const MORE: &str = r#"
services:
  side:
    image: IMAGE
    command: [sleep, infinity]
    init: true
    network_mode: "service:db"
    pid: "service:db"
    environment: {PRICE: "5 $$"}
    CHECK
"#;

/// Lifeboat on an engine, with compose.
pub(crate) fn command(scene: &Scene, engine: &Engine) -> std::process::Command {
    let mut command = scene.lifeboat();
    command.env("DOCKER_HOST", &engine.url).env("LIFEBOAT_COMPOSE", crate::engines::compose_program());
    command
}

/// The beginning of addresses that no other test has.
pub(crate) fn own_net() -> String {
    net_of(free_port())
}

fn net_of(port: u16) -> String {
    format!("10.{}.{}", 100 + port % 100, port / 256)
}

/// A port that nobody has now. Each engine has a network of its own, so tests only meet on one engine.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
