//! Where an engine's programs come from.
//!
//! The system's engine is whatever `dockerd` the machine has. The current one is taken from Debian's `sid`: its packages
//! are unpacked, not installed, beside the system's own. Its `runc` is the system's, because sid's wants a newer libc.
//!
//! Must stay true: packages are authenticated by apt with Debian's keys, whatever the machine's own sources say; and
//! what a killed run unpacked in part is never taken for the whole.

use super::flavour::Flavour;
use super::mounts;
use crate::failure::{Failure, Result, While};
use crate::packages::find_program;
use crate::step;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Debian's keys, by which its packages are believed.
pub(crate) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// The packages of a current engine, without what they depend on: the system has that.
const CURRENT: [&str; 4] = ["docker.io", "containerd", "docker-cli", "docker-compose"];
/// What an engine looks for in the PATH, relative to where the packages were unpacked.
const LINKED: [&str; 5] = [
    "usr/bin/containerd",
    "usr/bin/containerd-shim-runc-v2",
    "usr/bin/ctr",
    "usr/sbin/dockerd",
    "usr/sbin/docker-proxy",
];
/// The oldest release that is called current here: with OCI image layout, and both image stores to choose from.
const CURRENT_MIN: u32 = 28;

/// The programs of one engine.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) dockerd: PathBuf,
    pub(crate) containerd: PathBuf,
    /// Comes first in the engine's PATH.
    pub(crate) first: Option<PathBuf>,
}

/// The programs of an engine, fetched first when they have to be.
pub(crate) fn ensure(cache: &Path, flavour: Flavour) -> Result<Programs> {
    match flavour {
        Flavour::System => {
            let find = |name: &str| {
                find_program(name).ok_or_else(|| Failure::new(format!("there is no program `{name}`")))
            };
            Ok(Programs { dockerd: find("dockerd")?, containerd: find("containerd")?, first: None })
        }
        Flavour::Graph | Flavour::Containerd | Flavour::Remapped | Flavour::Rootless => {
            let bin = ensure_current(cache)?;
            Ok(Programs {
                dockerd: bin.join("dockerd"),
                containerd: bin.join("containerd"),
                first: Some(bin),
            })
        }
    }
}

/// The folder with the links to a current engine's programs.
fn ensure_current(cache: &Path) -> Result<PathBuf> {
    let root = cache.join("current");
    let bin = root.join("lifeboat-bin");
    if answers(&bin.join("dockerd")).is_some() && answers(&bin.join("containerd")).is_some() {
        return Ok(bin);
    }
    mounts::remove(&root)?;
    let parts = cache.join("parts");
    mounts::remove_all_in(&parts);
    // A name of its own: the children of a killed run may still be busy in theirs.
    let part = parts.join(std::process::id().to_string());
    step::step("fetch a current Docker engine (70 MB)", || unpack_suite("sid", &part, &CURRENT))?;
    let links = part.join("lifeboat-bin");
    std::fs::create_dir_all(&links).while_doing("make a folder for links")?;
    for program in LINKED {
        let name = Path::new(program).file_name().unwrap_or_default();
        std::os::unix::fs::symlink(Path::new("..").join(program), links.join(name))
            .while_doing(format_args!("link to {program}"))?;
    }
    let runc = find_program("runc").ok_or_else(|| Failure::new("there is no program `runc`"))?;
    std::os::unix::fs::symlink(runc, links.join("runc")).while_doing("link to runc")?;
    let version = answers(&links.join("dockerd"))
        .ok_or_else(|| Failure::new("the dockerd of Debian's sid does not run on this system"))?;
    if major(&version).is_none_or(|major| major < CURRENT_MIN) {
        return Err(Failure::new(format!("Debian's sid has only `{}`", version.trim())));
    }
    std::fs::rename(&part, &root).while_doing("put the current engine in place")?;
    Ok(bin)
}

/// Compose, which came with the current engine and speaks to all.
pub(crate) fn compose(cache: &Path) -> PathBuf {
    cache.join("current/usr/libexec/docker/cli-plugins/docker-compose")
}

/// What a program says about its version.
fn answers(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The first number in `Docker version 28.5.2+dfsg4, build …`.
fn major(version: &str) -> Option<u32> {
    let digits = version.trim_start_matches(|letter: char| !letter.is_ascii_digit());
    digits.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

/// Fetches packages of a suite of Debian and unpacks them below `into`.
fn unpack_suite(suite: &str, into: &Path, packages: &[&str]) -> Result<()> {
    let state = into.join("apt");
    let debs = into.join("debs");
    for folder in ["lists/partial", "cache/archives/partial"] {
        std::fs::create_dir_all(state.join(folder)).while_doing("make apt's folders")?;
    }
    std::fs::create_dir_all(&debs).while_doing("make a folder for packages")?;
    let sources =
        format!("Types: deb\nURIs: {}\nSuites: {suite}\nComponents: main\nSigned-By: {KEYRING}\n", mirror());
    std::fs::write(state.join("suite.sources"), sources).while_doing("write apt's sources")?;
    let apt = |words: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.current_dir(&debs).stdin(Stdio::null());
        for (name, value) in
            [("State::Lists", "lists"), ("Cache", "cache"), ("Etc::SourceList", "suite.sources")]
        {
            apt.arg(format!("-oDir::{name}={}", state.join(value).display()));
        }
        apt.args(["-oDir::Etc::SourceParts=/dev/null", "-oAPT::Sandbox::User=root", "-oAcquire::Retries=3"]);
        apt.args(["-oAcquire::Languages=none", "-qq"]).args(words);
        apt
    };
    step::run("read what the suite has", &mut apt(&["update"]))?;
    let mut download = apt(&["download"]);
    step::run("download the packages", download.args(packages))?;
    let files = std::fs::read_dir(&debs).while_doing("list the packages")?;
    for file in files.flatten().map(|entry| entry.path()) {
        let mut unpack = Command::new("dpkg-deb");
        step::run("unpack", unpack.arg("--extract").arg(&file).arg(into))?;
    }
    mounts::remove(&debs)?;
    mounts::remove(&state)
}

/// The Debian mirror that this machine uses, or the one that everybody can.
pub(crate) fn mirror() -> String {
    let parts = std::fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten();
    let files =
        std::iter::once(PathBuf::from("/etc/apt/sources.list")).chain(parts.map(|entry| entry.path()));
    files
        .filter_map(|file| std::fs::read_to_string(file).ok())
        .find_map(|text| debian_mirror(&text))
        .unwrap_or_else(|| "http://deb.debian.org/debian".to_owned())
}

/// The first address of a Debian archive in apt's sources, of either style.
fn debian_mirror(sources: &str) -> Option<String> {
    let lines = sources.lines().filter(|line| line.starts_with("deb ") || line.starts_with("URIs:"));
    let words = lines.flat_map(str::split_whitespace);
    words
        .map(|word| word.trim_end_matches('/'))
        .find(|word| word.contains("://") && word.ends_with("/debian"))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_is_found_in_both_styles_and_other_archives_are_not_debian() {
        let new = "Types: deb\nURIs: http://mirror.example/debian/\nSuites: bookworm\n";
        assert_eq!(debian_mirror(new).as_deref(), Some("http://mirror.example/debian"));
        let old =
            "# deb http://no.example/debian x\ndeb [arch=amd64] http://old.example/debian bookworm main\n";
        assert_eq!(debian_mirror(old).as_deref(), Some("http://old.example/debian"));
        assert_eq!(debian_mirror("deb http://archive.ubuntu.com/ubuntu noble main\n"), None);
        assert_eq!(debian_mirror("URIs: http://deb.debian.org/debian-security\n"), None);
    }

    #[test]
    fn the_release_is_the_first_number() {
        assert_eq!(major("Docker version 28.5.2+dfsg4, build 1"), Some(28));
        assert_eq!(major("unknown"), None);
    }
}
