//! The third part of `cargo xtask demo`: a compose project with a database, a cache and a web server. It is snapshotted while
//! orders come in, destroyed with its images and files, brought back, and compose is asked whether it would change anything.
//!
//! Must stay true: it fails unless every order that was acknowledged before the snapshot is there, all services are healthy,
//! and compose changes nothing.

use crate::demo::{Demo, say};
use crate::demo_engine::{answer, docker, docker_shown};
use crate::engines::flavour::Flavour;
use crate::engines::programs;
use crate::engines::{InUse, Wanted};
use crate::failure::{Failure, Result, While};
use crate::place::Place;
use crate::step::seconds;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What stands in the project's folder.
const COMPOSE: &str = r#"name: NAME
services:
  db:
    image: NAME/postgres:1
    volumes: ["orders:/var/lib/postgresql/data"]
    networks: [back]
    healthcheck: {test: [CMD, psql, -U, postgres, -c, SELECT 1], interval: 1s, retries: 60}
  cache:
    image: NAME/redis:1
    volumes: ["cache:/data"]
    networks: [back]
    healthcheck: {test: [CMD, redis-cli, ping], interval: 1s, retries: 60}
  web:
    image: NAME/base:1
    init: true
    command: [perl, /site/serve.pl]
    env_file: web.env
    depends_on: {db: {condition: service_healthy}, cache: {condition: service_healthy}}
    networks: [back, front]
    ports: ["18081:80"]
    volumes: ["./site:/site"]
    secrets: [token]
    healthcheck: {test: [CMD, bash, -c, 'exec 3<>/dev/tcp/localhost/80 && grep -q welcome <&3'], interval: 1s, retries: 60}
secrets: {token: {file: token}}
volumes: {orders: {}, cache: {}}
networks: {back: {}, front: {}}
"#;
/// A web server with one page.
const SERVER: &str = include_str!("engines/images/serve-page.pl");
const IMAGES: [&str; 3] = ["postgres", "redis", "base"];
/// How long orders come in before anything is protected.
const WARM_UP: Duration = Duration::from_secs(3);

struct Project<'d> {
    demo: &'d Demo,
    url: String,
    name: String,
    compose: PathBuf,
    folder: PathBuf,
}

impl Drop for Project<'_> {
    fn drop(&mut self) {
        let quiet = |command: &mut Command| command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        let _ = quiet(&mut self.compose(&["down", "--volumes"]));
        for image in IMAGES {
            let _ = quiet(&mut docker(&self.url, &["rmi", "--force", &self.image(image)]));
        }
    }
}

/// Shows it, in the demonstration's repository.
pub(crate) fn show(place: &Place, demo: &Demo) -> Result<()> {
    let engines = InUse::begin(place, &[Flavour::Graph], Wanted::Servers)?;
    let name = format!("demo-shop-{}", std::process::id());
    let project = Project {
        demo,
        url: engines.url(Flavour::Graph),
        compose: programs::compose(&place.cache.join("engines")),
        folder: demo.scratch().join("shop"),
        name,
    };
    say(
        "13. A compose project: PostgreSQL, Redis, a web server with a secret and a folder. Orders come in all the time.",
    );
    project.build()?;
    let mut load = project.load()?;
    std::thread::sleep(WARM_UP);
    let outcome = project.protect();
    let _ = load.kill();
    let _ = load.wait();
    let (before, first) = outcome?;

    say("15. Everything is destroyed: containers, volumes, networks, images, and the folder.");
    project.compose_shown(&["down", "--volumes"])?;
    for image in IMAGES {
        docker_shown(&project.url, &["rmi", &project.image(image)])?;
    }
    std::fs::remove_dir_all(&project.folder).while_doing("remove the project's folder")?;

    say("16. A plan, and then it comes back, running.");
    let variables = project.variables();
    project.demo.lifeboat_with(&["restore", "latest", "--to", "project:", "--plan"], &variables)?;
    let begun = Instant::now();
    project
        .demo
        .lifeboat_with(&["restore", "latest", "--to", "project:", "--wait-healthy", "2m"], &variables)?;
    let restored_in = begun.elapsed();
    let orders = project.orders()?;
    let secret = project.compose_answer(&["exec", "-T", "web", "cat", "/run/secrets/token"])?;
    let ask = "exec 3<>/dev/tcp/localhost/80 && cat <&3";
    let page = project.compose_answer(&["exec", "-T", "web", "bash", "-c", ask])?;
    if !page.ends_with("welcome") {
        return Err(Failure::new(format!("the web server says `{page}`")));
    }
    if orders < before || secret != "a secret" {
        return Err(Failure::new(format!(
            "{orders} orders came back, of at least {before}; the secret is `{secret}`"
        )));
    }

    say("17. Compose is asked what it would change.");
    let said = project.compose_answer_of(&["up", "--detach", "--dry-run"])?;
    if said.lines().any(|line| line.contains("DRY-RUN") && line.contains("Recreate"))
        || said.contains("Created")
    {
        return Err(Failure::new(format!("compose would change something:\n{said}")));
    }
    println!("\nWhat happened");
    let row = |what: &str, value: String| println!("  {what:<58} {value:>12}");
    row("snapshot of the whole project", seconds(first));
    row("from nothing to a healthy project", seconds(restored_in));
    row("orders acknowledged before the command was given", before.to_string());
    row("orders in the restored project", orders.to_string());
    println!(
        "\nNo acknowledged order is missing, every service is healthy, and compose would change nothing.\nThe orders went on \
         while the snapshot was prepared: those that came in until the database was captured are in it, too."
    );
    Ok(())
}

impl Project<'_> {
    fn image(&self, name: &str) -> String {
        format!("{}/{name}:1", self.name)
    }

    fn build(&self) -> Result<()> {
        let write = |name: &str, text: &str| {
            let path = self.folder.join(name);
            let folder = path.parent().unwrap_or(&self.folder);
            std::fs::create_dir_all(folder)
                .and_then(|()| std::fs::write(&path, text))
                .while_doing("write the project's files")
        };
        write("compose.yml", &COMPOSE.replace("NAME", &self.name))?;
        write("web.env", "COLOUR=blue\n")?;
        write("token", "a secret\n")?;
        write("site/index.html", "welcome\n")?;
        write("site/serve.pl", SERVER)?;
        IMAGES.iter().try_for_each(|image| self.import(image))?;
        self.compose_shown(&["up", "--detach", "--wait"])?;
        self.sql("CREATE TABLE orders (number bigserial PRIMARY KEY, text text)").map(drop)
    }

    /// An image that shares no layer with another one, so that nothing of it is left when it is removed: the tests' own,
    /// flattened.
    fn import(&self, image: &str) -> Result<()> {
        let from = format!("lifeboat-test/{image}:1");
        let said = |words: &[&str]| Ok(answer(&mut docker(&self.url, words))?.0);
        let mut words = vec!["import".to_owned()];
        for (field, word) in [("Entrypoint", "ENTRYPOINT"), ("Cmd", "CMD")] {
            let format = format!("{{{{json .Config.{field}}}}}");
            let value = said(&["image", "inspect", "--format", &format, &from])?;
            if value != "null" {
                words.extend(["--change".to_owned(), format!("{word} {value}")]);
            }
        }
        let variables = said(&["image", "inspect", "--format", "{{join .Config.Env \"\\n\"}}", &from])?;
        for variable in variables.lines() {
            words.extend(["--change".to_owned(), format!("ENV {variable}")]);
        }
        let container = said(&["create", &from, "true"])?;
        let archive = self.folder.join("image.tar").to_string_lossy().into_owned();
        let exported = said(&["export", "--output", &archive, &container]);
        said(&["rm", "--volumes", &container])?;
        exported?;
        words.extend([archive.clone(), self.image(image)]);
        said(&words.iter().map(String::as_str).collect::<Vec<_>>())?;
        std::fs::remove_file(archive).while_doing("remove an archive")
    }

    /// Orders that come in one after the other; each is acknowledged when it is on disk.
    fn load(&self) -> Result<Child> {
        let script = "while :; do echo \"INSERT INTO orders (text) VALUES (md5(random()::text));\"; done \
                      | psql -q -U postgres";
        let mut load = self.compose(&["exec", "-T", "db", "sh", "-c", script]);
        load.stdout(Stdio::null()).stderr(Stdio::null()).spawn().while_doing("let orders come in")
    }

    fn protect(&self) -> Result<(u64, Duration)> {
        say("14. A snapshot of the whole project, at one moment, while orders come in.");
        let before = self.orders()?;
        let begun = Instant::now();
        let source = format!("project:{}", self.name);
        self.demo.lifeboat_with(&["snapshot", "--tag", "demo", &source], &self.variables())?;
        let first = begun.elapsed();
        if self.orders()? == before {
            return Err(Failure::new("no orders came in; nothing would be shown by it"));
        }
        Ok((before, first))
    }

    fn orders(&self) -> Result<u64> {
        let text = self.sql("SELECT count(*) FROM orders")?;
        text.parse().map_err(|_| Failure::new(format!("`{text}` is not a number of orders")))
    }

    fn sql(&self, text: &str) -> Result<String> {
        self.compose_answer(&["exec", "-T", "db", "psql", "-U", "postgres", "-Atc", text])
    }

    fn variables(&self) -> [(&str, &str); 2] {
        [("DOCKER_HOST", &self.url), ("LIFEBOAT_COMPOSE", self.compose.to_str().unwrap_or_default())]
    }

    fn compose(&self, words: &[&str]) -> Command {
        let mut compose = Command::new(&self.compose);
        compose.env("DOCKER_HOST", &self.url).stdin(Stdio::null());
        compose
            .args(["--project-name", &self.name])
            .arg("--file")
            .arg(self.folder.join("compose.yml"))
            .args(words);
        compose
    }

    fn compose_shown(&self, words: &[&str]) -> Result<()> {
        println!("$ docker compose {}", words.join(" "));
        answer(&mut self.compose(words)).map(drop)
    }

    fn compose_answer(&self, words: &[&str]) -> Result<String> {
        Ok(answer(&mut self.compose(words))?.0)
    }

    /// What compose says of its own doing.
    fn compose_answer_of(&self, words: &[&str]) -> Result<String> {
        println!("$ docker compose {}", words.join(" "));
        let said = answer(&mut self.compose(words))?.1;
        println!("{said}");
        Ok(said)
    }
}
