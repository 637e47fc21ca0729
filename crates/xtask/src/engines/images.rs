//! Images without a registry: a small Debian, and the same with the servers that the tests protect.
//!
//! They are made with debootstrap into tars in the cache, once, and imported into each engine. Of the servers there is
//! one file system with three names, each with the configuration that the official image of that server has: its
//! entry point, its data folder as an anonymous volume, its port. Servers that this release does not have are in [`others`].
//!
//! Must stay true: the names of the tars and a label of the images carry a fingerprint of the recipe below, so a change
//! here makes new ones everywhere; a tar under its name is complete.

mod others;

use super::engine::Engine;
use super::programs::{KEYRING, mirror};
use super::{fingerprint, mounts};
use crate::failure::{Failure, Result, While};
use crate::step;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The release of Debian in the images. It decides the servers' versions: PostgreSQL 15, MariaDB 10.11, Redis 7.0.
const SUITE: &str = "bookworm";
/// What the small image has besides the minimum.
const BASE_PACKAGES: &str = "sqlite3";
/// What the servers' image has besides the small one.
const SERVER_PACKAGES: [&str; 3] = ["postgresql-15", "mariadb-server", "redis-server"];
/// Nobody reads these in an image, and the databases that the packages made are in nobody's way then.
const REMOVED: [&str; 8] = [
    "var/cache/apt",
    "var/lib/apt/lists",
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "var/lib/postgresql",
    "var/lib/mysql",
    "etc/postgresql",
];
/// Where releases go that nobody maintains any more.
const ARCHIVE: &str = "http://archive.debian.org/debian";
/// The label by which an engine's images are known to be these.
const LABEL: &str = "test.images.recipe";

/// Programs of the images: name and text.
const SCRIPTS: [(&str, &str); 4] = [
    ("idle", include_str!("images/idle.sh")),
    ("serve-postgres", include_str!("images/serve-postgres.sh")),
    ("serve-mariadb", include_str!("images/serve-mariadb.sh")),
    ("serve-redis", include_str!("images/serve-redis.sh")),
];

/// A server's image: its name, the signal that stops it in an orderly way, and how else it differs from the others.
const SERVERS: [(&str, &str, &[&str]); 3] = [
    (
        "postgres",
        "SIGINT",
        &[
            "ENTRYPOINT [\"serve-postgres\"]",
            "CMD [\"postgres\"]",
            "ENV PATH=/usr/lib/postgresql/15/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "ENV PGDATA=/var/lib/postgresql/data",
            "VOLUME /var/lib/postgresql/data",
            "EXPOSE 5432",
        ],
    ),
    (
        "mariadb",
        "SIGTERM",
        &["ENTRYPOINT [\"serve-mariadb\"]", "CMD [\"mariadbd\"]", "VOLUME /var/lib/mysql", "EXPOSE 3306"],
    ),
    (
        "redis",
        "SIGTERM",
        &[
            "ENTRYPOINT [\"serve-redis\"]",
            "CMD [\"redis-server\"]",
            "VOLUME /data",
            "WORKDIR /data",
            "EXPOSE 6379",
        ],
    ),
];

/// Which images an engine should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The small one, in a second or two.
    Base,
    /// The servers too.
    Servers,
    /// Those of other releases too, on the engine that has them.
    All,
}

/// Complete images as files.
#[derive(Debug)]
pub(crate) struct Tars {
    base: PathBuf,
    servers: Option<PathBuf>,
    /// The cache, where those of other releases are in it and wanted.
    others: Option<PathBuf>,
}

/// Changes whenever anything that decides what is in the images changes.
fn recipe() -> String {
    let parts = format!("{SUITE} {BASE_PACKAGES} {SERVER_PACKAGES:?} {REMOVED:?} {SCRIPTS:?} {SERVERS:?}");
    format!("{:016x}", fingerprint(parts.as_bytes()))
}

fn image(name: &str) -> String {
    format!("lifeboat-test/{name}:1")
}

/// The tars of the images that these engines should have, made first if they are not there.
pub(crate) fn ensure_tars(cache: &Path, engines: &[Engine], wanted: Wanted) -> Result<Tars> {
    let folder = cache.join("images");
    let named = |name: &str| folder.join(format!("{name}-{}.tar", recipe()));
    let (base, servers) = (named("base"), named("servers"));
    if !base.exists() || !servers.exists() {
        std::fs::create_dir_all(&folder).while_doing("make a folder for images")?;
        mounts::remove_all_in(&folder);
        // A name of its own: the children of a killed run may still be busy in theirs.
        let root = folder.join(format!("root-{}", std::process::id()));
        step::step("make the tests' images", || make(&root, &base, &servers))?;
    }
    let with_others = wanted == Wanted::All && others::are_for(engines);
    if with_others {
        others::ensure_tars(cache)?;
    }
    Ok(Tars {
        base,
        servers: (wanted != Wanted::Base).then_some(servers),
        others: with_others.then(|| cache.to_owned()),
    })
}

fn make(root: &Path, base: &Path, servers: &Path) -> Result<()> {
    bootstrap("a minimal Debian (half a minute)", root, (SUITE, BASE_PACKAGES), &mirror())?;
    for (name, text) in SCRIPTS {
        write_program(&root.join("usr/local/bin").join(name), text)?;
    }
    pack(root, base)?;
    chroot(root, "the package lists", &["apt-get", "update", "-qq"])?;
    let mut install = vec!["apt-get", "install", "-qq", "--yes", "--no-install-recommends"];
    install.extend(SERVER_PACKAGES);
    chroot(root, "the servers (half a minute)", &install)?;
    pack(root, servers)?;
    mounts::remove(root)
}

/// A minimal release of Debian in a new folder, with packages besides.
fn bootstrap(name: &str, root: &Path, (suite, packages): (&str, &str), mirror: &str) -> Result<()> {
    let mut bootstrap = Command::new("debootstrap");
    bootstrap.args([
        "--variant=minbase",
        &format!("--include={packages}"),
        &format!("--keyring={KEYRING}"),
        suite,
    ]);
    installing(name, root, bootstrap.arg(root).arg(mirror))
}

fn chroot(root: &Path, name: &str, words: &[&str]) -> Result<()> {
    let mut chroot = Command::new("chroot");
    chroot.arg(root).args(words);
    installing(name, root, &mut chroot)
}

/// Runs what installs packages below `root`. None of their services starts, and nothing waits for the disk: what is half made
/// is never used.
fn installing(name: &str, root: &Path, command: &mut Command) -> Result<()> {
    let (policy, settings) = (root.join("usr/sbin/policy-rc.d"), root.join("etc/dpkg/dpkg.cfg.d/unsafe"));
    for folder in [&policy, &settings].map(|file| file.parent().unwrap_or(root)) {
        std::fs::create_dir_all(folder).while_doing("make a root's folders")?;
    }
    write_program(&policy, "#!/bin/sh\nexit 101\n")?;
    std::fs::write(&settings, "force-unsafe-io\n").while_doing("write dpkg's settings")?;
    logged(
        name,
        command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C"),
        &root.with_extension("log"),
    )?;
    // Without asking whether they are there: debootstrap has a policy of its own of that name, and has removed it.
    for file in [policy, settings] {
        let _ = std::fs::remove_file(file);
    }
    Ok(())
}

/// Runs a command that says much; it is shown only when the command fails.
fn logged(name: &str, command: &mut Command, log: &Path) -> Result<()> {
    let file = std::fs::File::create(log).while_doing("make a log")?;
    let errors = file.try_clone().while_doing("open the log twice")?;
    command.stdin(Stdio::null()).stdout(file).stderr(errors);
    step::run(name, command).inspect_err(|_| {
        let text = std::fs::read(log).unwrap_or_default();
        println!("{}", String::from_utf8_lossy(&text));
    })
}

fn write_program(path: &Path, text: &str) -> Result<()> {
    let doing = || format!("write {}", path.display());
    std::fs::write(path, text).while_doing(doing())?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).while_doing(doing())
}

/// Packs all of `root` but what an image does without.
fn pack(root: &Path, tar: &Path) -> Result<()> {
    mounts::unmount_below(root)?;
    let part = tar.with_extension("part");
    let mut pack = Command::new("tar");
    pack.args(["--one-file-system", "--numeric-owner"]);
    // The folders stay, their content goes: the programs expect them.
    pack.args(REMOVED.map(|folder| format!("--exclude=./{folder}/*")));
    pack.arg("-C").arg(root).arg("-cf").arg(&part).arg(".");
    step::run("pack it", &mut pack)?;
    std::fs::File::open(&part).and_then(|file| file.sync_all()).while_doing("write it to disk")?;
    std::fs::rename(&part, tar).while_doing("name it")
}

/// Gives the engine the images that it does not have.
pub(crate) fn import(engine: &Engine, tars: &Tars) -> Result<()> {
    let recipe = recipe();
    if !has(engine, &["base"], &recipe) {
        import_tar(engine, &tars.base, ("base", &recipe), &["CMD [\"idle\"]"])?;
    }
    if let Some(servers) = &tars.servers
        && !has(engine, &SERVERS.map(|(name, _, _)| name), &recipe)
    {
        import_tar(engine, servers, ("servers", &recipe), &["CMD [\"idle\"]"])?;
        SERVERS.iter().try_for_each(|(name, stop, changes)| configure(engine, name, stop, changes))?;
        prune(engine)?;
    }
    tars.others.as_ref().map_or(Ok(()), |cache| others::import(engine, cache))
}

/// Removes images of an earlier recipe: they have lost their names to newer ones.
fn prune(engine: &Engine) -> Result<()> {
    answer(&mut engine.docker(&["image", "prune", "--force", "--filter", &format!("label={LABEL}")]))
        .map(drop)
}

/// Whether the engine has all these images, made by this recipe.
fn has(engine: &Engine, names: &[&str], recipe: &str) -> bool {
    let format = format!("{{{{index .Config.Labels \"{LABEL}\"}}}}");
    let mut inspect = engine.docker(&["image", "inspect", "--format", &format]);
    let output = inspect.args(names.iter().map(|name| image(name))).stderr(Stdio::null()).output();
    output.is_ok_and(|output| {
        let text = String::from_utf8_lossy(&output.stdout);
        output.status.success()
            && text.lines().count() == names.len()
            && text.lines().all(|line| line == recipe)
    })
}

fn import_tar(engine: &Engine, tar: &Path, (name, recipe): (&str, &str), changes: &[&str]) -> Result<()> {
    let mut import = engine.docker(&["import", "--change", &format!("LABEL {LABEL}={recipe}")]);
    import.args(changes.iter().flat_map(|change| ["--change", change])).arg(tar).arg(image(name));
    answer(&mut import).map(drop)
}

/// The servers' file system under another name, with another configuration: a commit of a container that never ran.
fn configure(engine: &Engine, name: &str, stop: &str, changes: &[&str]) -> Result<()> {
    let container = answer(&mut engine.docker(&["create", "--stop-signal", stop, &image("servers")]))?;
    let mut commit = engine.docker(&["commit"]);
    commit.args(changes.iter().flat_map(|change| ["--change", change])).args([&container, &image(name)]);
    let committed = answer(&mut commit);
    answer(&mut engine.docker(&["rm", "--force", &container]))?;
    committed.map(drop)
}

/// What a command says, without the blanks around it.
fn answer(command: &mut Command) -> Result<String> {
    let output = command.output().while_doing("start `docker`")?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!("`{}` failed: {}", step::pasteable(command), why.trim())))
}
