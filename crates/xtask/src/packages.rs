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

/// What compiling needs: RocksDB is C++, and its bindings are made by bindgen.
const BUILD: &[Requirement] = &[
    Requirement { package: "g++", purpose: "compiles RocksDB", probe: Probe::Program("c++") },
    Requirement { package: "libclang-dev", purpose: "reads RocksDB's header", probe: Probe::Libclang },
];

/// What the tests use to make and to look at real files.
const TEST: &[Requirement] = &[
    Requirement { package: "strace", purpose: "counts system calls", probe: Probe::Program("strace") },
    Requirement { package: "acl", purpose: "makes files with ACLs", probe: Probe::Program("setfacl") },
    Requirement {
        package: "attr",
        purpose: "makes files with attributes",
        probe: Probe::Program("setfattr"),
    },
    Requirement { package: "e2fsprogs", purpose: "makes file systems", probe: Probe::Program("mkfs.ext4") },
    Requirement {
        package: "libcap2-bin",
        purpose: "makes file capabilities",
        probe: Probe::Program("setcap"),
    },
    Requirement { package: "util-linux", purpose: "runs as another user", probe: Probe::Program("setpriv") },
    Requirement { package: "mount", purpose: "mounts file systems", probe: Probe::Program("mount") },
    Requirement {
        package: "python3-venv",
        purpose: "runs the independent reader of the format",
        probe: Probe::Python("venv, ensurepip"),
    },
    Requirement {
        package: "postgresql",
        purpose: "makes database files",
        probe: Probe::Program("pg_ctlcluster"),
    },
    Requirement {
        package: "mariadb-server",
        purpose: "makes database files",
        probe: Probe::Program("mariadbd"),
    },
    Requirement { package: "sqlite3", purpose: "makes database files", probe: Probe::Program("sqlite3") },
    Requirement { package: "etcd-server", purpose: "makes database files", probe: Probe::Program("etcd") },
];

/// What Docker engines of our own take: see `engines`.
const ENGINES: &[Requirement] = &[
    Requirement { package: "docker.io", purpose: "is the system's engine", probe: Probe::Program("dockerd") },
    Requirement { package: "docker.io", purpose: "talks to engines", probe: Probe::Program("docker") },
    Requirement { package: "containerd", purpose: "runs containers", probe: Probe::Program("containerd") },
    Requirement { package: "runc", purpose: "runs containers", probe: Probe::Program("runc") },
    Requirement { package: "iptables", purpose: "engines want it", probe: Probe::Program("iptables") },
    Requirement { package: "iproute2", purpose: "makes network namespaces", probe: Probe::Program("ip") },
    Requirement { package: "util-linux", purpose: "enters them", probe: Probe::Program("nsenter") },
    Requirement { package: "debootstrap", purpose: "makes images", probe: Probe::Program("debootstrap") },
    Requirement {
        package: "debian-archive-keyring",
        purpose: "says which packages are Debian's",
        probe: Probe::File("/usr/share/keyrings/debian-archive-keyring.gpg"),
    },
    Requirement { package: "apt", purpose: "fetches a current engine", probe: Probe::Program("apt-get") },
];

/// What measuring takes: other programs, real data, and a disk that compresses.
const BENCH: &[Requirement] = &[
    Requirement { package: "zstd", purpose: "the limit to compare with", probe: Probe::Program("zstd") },
    Requirement { package: "xz-utils", purpose: "unpacks the kernel's sources", probe: Probe::Program("xz") },
    Requirement { package: "util-linux", purpose: "runs as another user", probe: Probe::Program("setpriv") },
    Requirement { package: "mount", purpose: "mounts file systems", probe: Probe::Program("mount") },
    Requirement {
        package: "btrfs-progs",
        purpose: "makes room for a huge file",
        probe: Probe::Program("mkfs.btrfs"),
    },
    Requirement { package: "sqlite3", purpose: "makes a database", probe: Probe::Program("sqlite3") },
    Requirement { package: "postgresql", purpose: "makes a database, with pgbench", probe: Probe::Postgres },
    Requirement {
        package: "mariadb-server-core",
        purpose: "makes a database",
        probe: Probe::Program("mariadbd"),
    },
    Requirement { package: "mariadb-client", purpose: "fills it", probe: Probe::Program("mariadb-admin") },
    Requirement { package: "etcd-server", purpose: "makes a bbolt file", probe: Probe::Program("etcd") },
    Requirement { package: "etcd-client", purpose: "fills it", probe: Probe::Program("etcdctl") },
    Requirement {
        package: "python3-venv",
        purpose: "installs borg",
        probe: Probe::Python("venv, ensurepip"),
    },
    Requirement { package: "libacl1-dev", purpose: "compiles borg", probe: Probe::Header("sys/acl.h") },
    Requirement { package: "libssl-dev", purpose: "compiles borg", probe: Probe::Header("openssl/ssl.h") },
    Requirement { package: "liblz4-dev", purpose: "compiles borg", probe: Probe::Header("lz4.h") },
    Requirement { package: "libzstd-dev", purpose: "compiles borg", probe: Probe::Header("zstd.h") },
    Requirement { package: "libxxhash-dev", purpose: "compiles borg", probe: Probe::Header("xxhash.h") },
    Requirement { package: "pkg-config", purpose: "compiles borg", probe: Probe::Program("pkg-config") },
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
        Requirement { package: "first-dev", purpose: "first", probe: Probe::Program("lifeboat-no-such-1") },
        Requirement { package: "shell", purpose: "is there", probe: Probe::Program("sh") },
        Requirement { package: "second", purpose: "second", probe: Probe::Python("lifeboat_no_such") },
    ];

    #[test]
    fn only_what_is_missing_is_asked_for_in_one_line_to_paste() {
        let message = manual(&missing(&[ABSENT]));
        assert_eq!(message.lines().last(), Some("    sudo apt-get install first-dev second"));
        assert!(message.contains("second (second)") && !message.contains("is there"), "{message}");
    }
}
