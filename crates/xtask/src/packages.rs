//! System packages: what building and testing need beyond Rust and a C compiler.
//!
//! Must stay true: nothing is installed that is there already, and nothing without being root; everybody else gets the
//! one line to paste. What is asked is whether the tool answers, not whether a package of that name is installed, so
//! other distributions work too.

use crate::failure::{Failure, Result};
use crate::step;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// One thing from the system.
struct Requirement {
    /// Debian's package.
    package: &'static str,
    /// What it is for, in the message to those who must install it themselves.
    purpose: &'static str,
    probe: Probe,
}

enum Probe {
    /// A program of that name can be found.
    Program(&'static str),
    /// Python can import these.
    Python(&'static str),
    /// A C header is where compilers look.
    Header(&'static str),
    /// A PostgreSQL server with pgbench, which Debian keeps out of the PATH.
    Postgres,
    /// A file is there.
    File(&'static str),
    /// A libclang with its headers, where bindgen looks.
    Libclang,
}

const fn needs(package: &'static str, purpose: &'static str, probe: Probe) -> Requirement {
    Requirement { package, purpose, probe }
}

/// A package that has a program.
const fn program(package: &'static str, purpose: &'static str, name: &'static str) -> Requirement {
    needs(package, purpose, Probe::Program(name))
}

/// What compiling needs: RocksDB is C++, and its bindings are made by bindgen.
const BUILD: &[Requirement] = &[
    program("clang", "compiles RocksDB", "clang++"),
    needs("libclang-dev", "reads RocksDB's header", Probe::Libclang),
];

/// What the tests use to make and to look at real files.
const TEST: &[Requirement] = &[
    program("strace", "counts system calls", "strace"),
    program("acl", "makes files with ACLs", "setfacl"),
    program("attr", "makes files with attributes", "setfattr"),
    program("e2fsprogs", "makes file systems", "mkfs.ext4"),
    program("libcap2-bin", "makes file capabilities", "setcap"),
    program("util-linux", "runs as another user", "setpriv"),
    program("mount", "mounts file systems", "mount"),
    needs("python3-venv", "runs the independent reader of the format", Probe::Python("venv, ensurepip")),
    program("postgresql", "makes database files", "pg_ctlcluster"),
    program("mariadb-server", "makes database files", "mariadbd"),
    program("sqlite3", "makes database files", "sqlite3"),
    program("etcd-server", "makes database files", "etcd"),
];

/// What Docker engines of our own take: see `engines`.
const ENGINES: &[Requirement] = &[
    program("docker.io", "is the system's engine", "dockerd"),
    program("docker.io", "talks to engines", "docker"),
    program("containerd", "runs containers", "containerd"),
    program("runc", "runs containers", "runc"),
    program("iptables", "engines want it", "iptables"),
    program("iproute2", "makes network namespaces", "ip"),
    program("util-linux", "enters them", "nsenter"),
    program("rootlesskit", "starts an engine without root", "rootlesskit"),
    program("slirp4netns", "gives it a network", "slirp4netns"),
    program("uidmap", "starts an engine without root", "newuidmap"),
    program("debootstrap", "makes images", "debootstrap"),
    needs(
        "debian-archive-keyring",
        "says which packages are Debian's",
        Probe::File("/usr/share/keyrings/debian-archive-keyring.gpg"),
    ),
    program("apt", "fetches a current engine", "apt-get"),
];

/// What measuring takes: other programs, real data, and a disk that compresses.
const BENCH: &[Requirement] = &[
    program("zstd", "the limit to compare with", "zstd"),
    program("xz-utils", "unpacks the kernel's sources", "xz"),
    program("util-linux", "runs as another user", "setpriv"),
    program("mount", "mounts file systems", "mount"),
    program("btrfs-progs", "makes room for a huge file", "mkfs.btrfs"),
    program("sqlite3", "makes a database", "sqlite3"),
    needs("postgresql", "makes a database, with pgbench", Probe::Postgres),
    program("mariadb-server-core", "makes a database", "mariadbd"),
    program("mariadb-client", "fills it", "mariadb-admin"),
    program("etcd-server", "makes a bbolt file", "etcd"),
    program("etcd-client", "fills it", "etcdctl"),
    needs("python3-venv", "installs borg", Probe::Python("venv, ensurepip")),
    needs("libacl1-dev", "compiles borg", Probe::Header("sys/acl.h")),
    needs("libssl-dev", "compiles borg", Probe::Header("openssl/ssl.h")),
    needs("liblz4-dev", "compiles borg", Probe::Header("lz4.h")),
    needs("libzstd-dev", "compiles borg", Probe::Header("zstd.h")),
    needs("libxxhash-dev", "compiles borg", Probe::Header("xxhash.h")),
    program("pkg-config", "compiles borg", "pkg-config"),
];

/// Makes sure that the workspace compiles.
pub(crate) fn ensure_for_build() -> Result<()> {
    ensure(&[BUILD])
}

/// Makes sure that the workspace compiles and that its tests run.
pub(crate) fn ensure_for_tests() -> Result<()> {
    ensure(&[BUILD, TEST])
}

/// Makes sure that Docker engines can be made and started, which takes root as well.
pub(crate) fn ensure_for_engines() -> Result<()> {
    ensure(&[ENGINES])?;
    if is_root() {
        return Ok(());
    }
    Err(Failure::new(
        "the Docker engines of the tests are started by root, and nothing else will do\nHint: run it as root, for example with\n    sudo --preserve-env=HOME,PATH cargo xtask test",
    ))
}

/// Makes sure that the workspace compiles and can be measured.
pub(crate) fn ensure_for_benches() -> Result<()> {
    ensure(&[BUILD, BENCH])
}

fn ensure(groups: &[&[Requirement]]) -> Result<()> {
    let missing = missing(groups);
    if missing.is_empty() {
        return Ok(());
    }
    if !is_root() || !has_program("apt-get") {
        return Err(Failure::new(manual(&missing)));
    }
    install(&missing)?;
    let still = self::missing(groups);
    if still.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(format!("apt-get succeeded, but these do not work yet\n{}", listed(&still))))
    }
}

fn missing<'a>(groups: &[&'a [Requirement]]) -> Vec<&'a Requirement> {
    groups.iter().copied().flatten().filter(|requirement| !requirement.probe.holds()).collect()
}

fn listed(missing: &[&Requirement]) -> String {
    missing.iter().map(|one| format!("    {} ({})\n", one.package, one.purpose)).collect()
}

fn manual(missing: &[&Requirement]) -> String {
    let packages: Vec<&str> = missing.iter().map(|one| one.package).collect();
    format!(
        "the system lacks\n{}Hint: on Debian and its relatives\n    sudo apt-get install {}",
        listed(missing),
        packages.join(" ")
    )
}

fn install(missing: &[&Requirement]) -> Result<()> {
    let mut install = apt("install");
    install.args(["--yes", "--no-install-recommends"]).args(missing.iter().map(|one| one.package));
    // The lists of a fresh machine are empty or old, those of a used one are good: update only when it takes that.
    if step::run("install system packages", &mut install).is_err() {
        step::run("update the package lists", &mut apt("update"))?;
        step::run("install system packages again", &mut install)?;
    }
    Ok(())
}

fn apt(verb: &str) -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").arg(verb).stdin(Stdio::null());
    command
}

/// The owner of our own folder in /proc is the user we act as.
fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

impl Probe {
    fn holds(&self) -> bool {
        match self {
            Self::Program(name) => has_program(name),
            Self::Python(modules) => Command::new("python3")
                .args(["-c", &format!("import {modules}")])
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success()),
            Self::Header(name) => {
                let machine = format!("/usr/include/{}-linux-gnu", std::env::consts::ARCH);
                ["/usr/include", "/usr/local/include", &machine]
                    .iter()
                    .any(|folder| Path::new(folder).join(name).is_file())
            }
            Self::Postgres => entries(Path::new("/usr/lib/postgresql")).iter().any(|version| {
                ["initdb", "pgbench"].iter().all(|program| version.join("bin").join(program).is_file())
            }),
            Self::File(path) => Path::new(path).is_file(),
            Self::Libclang => has_libclang(),
        }
    }
}

/// Debian keeps some of the tools where only root's PATH looks.
fn has_program(name: &str) -> bool {
    find_program(name).is_some()
}

/// Where a program is, in the PATH or where root has its own.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let root_only = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(root_only).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// The library without its built-in headers is of no use: bindgen would not find `stddef.h`. Debian's libclang-dev has
/// both; anywhere else the compiler itself stands for both.
fn has_libclang() -> bool {
    if std::env::var_os("LIBCLANG_PATH").is_some() || has_program("clang") {
        return true;
    }
    entries(Path::new("/usr/lib")).iter().filter(|folder| named(folder, "llvm-")).any(|llvm| {
        let library = entries(&llvm.join("lib")).iter().any(|file| named(file, "libclang.so"));
        let headers =
            entries(&llvm.join("lib/clang")).iter().any(|version| version.join("include/stddef.h").is_file());
        library && headers
    })
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default()
}

fn named(path: &Path, prefix: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABSENT: &[Requirement] = &[
        program("first-dev", "first", "lifeboat-no-such-1"),
        program("shell", "is there", "sh"),
        needs("second", "second", Probe::Python("lifeboat_no_such")),
    ];

    #[test]
    fn only_what_is_missing_is_asked_for_in_one_line_to_paste() {
        let message = manual(&missing(&[ABSENT]));
        assert_eq!(message.lines().last(), Some("    sudo apt-get install first-dev second"));
        assert!(message.contains("second (second)") && !message.contains("is there"), "{message}");
    }
}
