//! Which bind mounts are captured: a bind can lead anywhere on the host, so it has a boundary.
//!
//! A plan is made from what containers mount and what the host has there; nothing is read or changed by it. Recorded but
//! not captured are sockets and devices, the kernel's own file systems, single files of the host's configuration, and any
//! folder that contains what must not be in its own backup: the engine's root, the repository, the cache, or everything.
//!
//! Must stay true:
//! - A folder that contains the engine's root, the repository or the cache, or is `/`, is never captured, whoever asks.
//! - What is captured is captured once: sources that are shared, or lie in each other, become one.
//! - A path is judged by where it leads: symbolic links are resolved before.

mod bind;

pub use bind::{Bind, Nature, Wish};

use crate::policy::Policy;
use crate::quiesce::lifelines::Lifelines;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a backup must not contain, and what belongs to projects. Paths without symbolic links.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Where the engine keeps everything.
    pub engine_root: PathBuf,
    /// lifeboat's own folders: repository, cache, state.
    pub own: Vec<PathBuf>,
    /// Folders that hold a compose file.
    pub compose: Vec<PathBuf>,
    /// What lifeboat hangs on: its own folders may lie in volumes.
    pub lifelines: Lifelines,
    /// What the policy file says of containers.
    pub policy: Policy,
}

/// Why a bind is recorded and not captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// A label or the policy file says so.
    Excluded,
    /// It is a socket.
    Socket,
    /// It is a device.
    Device,
    /// It is a named pipe.
    Pipe,
    /// There is nothing.
    Missing,
    /// It is one of the kernel's or the running system's own: `/proc`, `/sys`, `/dev`, `/run`.
    System,
    /// It is a single file of the host's configuration, and not beside a compose file.
    HostFile,
    /// It contains, or lies in, what must not be in its own backup.
    Contains(PathBuf),
    /// It is the whole file system.
    Everything,
    /// What lies there on this machine is not what the engine's containers see.
    Elsewhere(String),
}

impl Reason {
    /// For messages, behind "is not captured:".
    pub fn phrase(&self) -> String {
        match self {
            Self::Excluded => "it is excluded".into(),
            Self::Socket => "it is a socket".into(),
            Self::Device => "it is a device".into(),
            Self::Pipe => "it is a named pipe".into(),
            Self::Missing => "there is nothing".into(),
            Self::System => "it belongs to the running system".into(),
            Self::HostFile => "it is a file of the host's own configuration".into(),
            Self::Contains(path) => format!("it and {} lie in each other", path.display()),
            Self::Everything => "it is the whole file system".into(),
            Self::Elsewhere(why) => format!("it cannot be read on this machine: {why}"),
        }
    }

    /// Whether asking for the bind captures it nevertheless.
    pub fn yields(&self) -> bool {
        matches!(self, Self::System | Self::HostFile)
    }

    /// Whether data is missing from the snapshot that nobody wanted to leave out.
    pub fn is_a_loss(&self) -> bool {
        matches!(self, Self::Elsewhere(_))
    }
}

/// One path to capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// Where it is: a folder or a file.
    pub path: PathBuf,
    /// The binds that it stands for.
    pub binds: Vec<Bind>,
    /// What lies in it and was excluded as a mount of its own: left out of this one too.
    pub without: Vec<PathBuf>,
}

/// One bind that is only recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The bind.
    pub bind: Bind,
    /// Why.
    pub reason: Reason,
}

/// What is captured and what is only recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// By path; none lies in another.
    pub captured: Vec<Captured>,
    /// In the order of the binds.
    pub recorded: Vec<Recorded>,
}

/// Decides about all binds of a snapshot together. `unseen` says of one that would be captured why this machine does not
/// show what the engine's containers see.
pub fn plan(binds: Vec<Bind>, surroundings: &Surroundings, unseen: &dyn Fn(&Bind) -> Option<String>) -> Plan {
    let mut plan = Plan::default();
    let mut by_path: BTreeMap<PathBuf, Vec<Bind>> = BTreeMap::new();
    for bind in binds {
        let reason = refusal(&bind, surroundings).or_else(|| unseen(&bind).map(Reason::Elsewhere));
        match reason {
            Some(reason) => plan.recorded.push(Recorded { bind, reason }),
            None => by_path.entry(bind.resolved.clone()).or_default().push(bind),
        }
    }
    // A folder sorts before what is in it, but not next to it: each path is held against the outermost one so far.
    for (path, mut binds) in by_path {
        let outer = plan.captured.iter_mut().find(|captured| path.starts_with(&captured.path));
        match outer {
            Some(outer) => outer.binds.append(&mut binds),
            None => plan.captured.push(Captured { path, binds, without: Vec::new() }),
        }
    }
    for captured in &mut plan.captured {
        let excluded = plan.recorded.iter().filter(|recorded| recorded.reason == Reason::Excluded);
        let mut inner: Vec<PathBuf> = excluded
            .map(|recorded| &recorded.bind.resolved)
            .filter(|path| path.starts_with(&captured.path))
            // Who shares it and did not exclude it still wants it.
            .filter(|path| captured.binds.iter().all(|bind| bind.resolved != **path))
            .cloned()
            .collect();
        inner.sort();
        inner.dedup();
        captured.without = inner;
    }
    plan
}

fn refusal(bind: &Bind, surroundings: &Surroundings) -> Option<Reason> {
    let reason = boundary(bind, surroundings);
    match bind.wish {
        Wish::Exclude => Some(Reason::Excluded),
        Wish::Include => reason.filter(|reason| !reason.yields()),
        Wish::None => reason,
    }
}

fn boundary(bind: &Bind, surroundings: &Surroundings) -> Option<Reason> {
    let path = &bind.resolved;
    match bind.nature {
        Nature::Socket => return Some(Reason::Socket),
        Nature::Device => return Some(Reason::Device),
        Nature::Pipe => return Some(Reason::Pipe),
        Nature::Missing => return Some(Reason::Missing),
        Nature::Folder | Nature::File => {}
    }
    if path.parent().is_none() {
        return Some(Reason::Everything);
    }
    let guarded = surroundings.own.iter().chain([&surroundings.engine_root]);
    // What lies in them is no better: a folder of the repository is the repository.
    let met = guarded
        .filter(|guarded| !guarded.as_os_str().is_empty())
        .find(|guarded| guarded.starts_with(path) || path.starts_with(guarded));
    if let Some(met) = met {
        return Some(Reason::Contains(met.clone()));
    }
    if ["/proc", "/sys", "/dev", "/run", "/var/run"].iter().any(|system| path.starts_with(system)) {
        return Some(Reason::System);
    }
    let is_beside_compose =
        path.parent().is_some_and(|parent| surroundings.compose.iter().any(|folder| folder == parent));
    (bind.nature == Nature::File && path.starts_with("/etc") && !is_beside_compose)
        .then_some(Reason::HostFile)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn bind(source: &str, nature: Nature) -> Bind {
        Bind {
            container: "api".into(),
            destination: "/in".into(),
            source: source.into(),
            resolved: source.into(),
            nature,
            wish: Wish::None,
        }
    }

    fn wishing(source: &str, nature: Nature, wish: Wish) -> Bind {
        Bind { wish, ..bind(source, nature) }
    }

    fn surroundings() -> Surroundings {
        Surroundings {
            engine_root: "/var/lib/docker".into(),
            own: vec!["/backup/repository".into(), "/root/.cache/lifeboat".into()],
            compose: vec!["/etc/app".into()],
            ..Surroundings::default()
        }
    }

    fn reasons(binds: Vec<Bind>) -> Vec<Reason> {
        plan(binds, &surroundings(), &|_| None).recorded.into_iter().map(|recorded| recorded.reason).collect()
    }

    fn paths(binds: Vec<Bind>) -> Vec<PathBuf> {
        plan(binds, &surroundings(), &|_| None).captured.into_iter().map(|captured| captured.path).collect()
    }

    #[test]
    fn what_is_no_data_is_recorded_and_not_captured() {
        let contains = |path: &str| Reason::Contains(path.into());
        for (source, nature, reason) in [
            ("/var/run/docker.sock", Nature::Socket, Reason::Socket),
            ("/dev/null", Nature::Device, Reason::Device),
            ("/srv/pipe", Nature::Pipe, Reason::Pipe),
            ("/srv/nothing", Nature::Missing, Reason::Missing),
            ("/proc", Nature::Folder, Reason::System),
            ("/sys/fs/cgroup", Nature::Folder, Reason::System),
            ("/dev/shm", Nature::Folder, Reason::System),
            ("/run/user", Nature::Folder, Reason::System),
            ("/etc/localtime", Nature::File, Reason::HostFile),
            ("/etc/ssl/host.pem", Nature::File, Reason::HostFile),
            ("/", Nature::Folder, Reason::Everything),
            ("/var", Nature::Folder, contains("/var/lib/docker")),
            ("/var/lib/docker", Nature::Folder, contains("/var/lib/docker")),
            ("/var/lib/docker/containers", Nature::Folder, contains("/var/lib/docker")),
            ("/backup", Nature::Folder, contains("/backup/repository")),
            ("/root", Nature::Folder, contains("/root/.cache/lifeboat")),
        ] {
            assert_eq!(reasons(vec![bind(source, nature)]), [reason], "{source}");
        }
    }

    #[test]
    fn data_and_a_projects_own_files_are_captured() {
        for (source, nature) in [
            ("/srv/app", Nature::Folder),
            ("/srv/app.conf", Nature::File),
            ("/etc/nginx", Nature::Folder),
            ("/etc/app/app.env", Nature::File),
            ("/backup/other", Nature::Folder),
            ("/runtime", Nature::Folder),
            ("/var/lib/docker-registry", Nature::Folder),
        ] {
            assert_eq!(paths(vec![bind(source, nature)]), [PathBuf::from(source)]);
        }
    }

    #[test]
    fn wishes_move_the_boundary_but_not_around_the_repository_and_the_engine() {
        let include = |source, nature| wishing(source, nature, Wish::Include);
        assert_eq!(paths(vec![include("/run/app", Nature::Folder)]), [PathBuf::from("/run/app")]);
        assert_eq!(paths(vec![include("/etc/hosts", Nature::File)]), [PathBuf::from("/etc/hosts")]);
        for (source, nature) in [
            ("/", Nature::Folder),
            ("/backup", Nature::Folder),
            ("/var/lib", Nature::Folder),
            ("/run/a.sock", Nature::Socket),
        ] {
            assert_eq!(paths(vec![include(source, nature)]), Vec::<PathBuf>::new(), "{source}");
        }
        assert_eq!(reasons(vec![wishing("/srv/app", Nature::Folder, Wish::Exclude)]), [Reason::Excluded]);
    }

    #[test]
    fn what_only_the_engine_sees_is_recorded_with_its_reason_and_nothing_else_is_asked_for() {
        let asked = std::cell::RefCell::new(Vec::new());
        let unseen = |bind: &Bind| {
            asked.borrow_mut().push(bind.source.clone());
            Some("another machine's".to_owned())
        };
        let binds = vec![bind("/srv/app", Nature::Folder), bind("/proc", Nature::Folder)];
        let found = plan(binds, &surroundings(), &unseen);
        let reasons: Vec<_> = found.recorded.iter().map(|recorded| recorded.reason.clone()).collect();
        assert_eq!(reasons, [Reason::Elsewhere("another machine's".into()), Reason::System]);
        assert!(found.captured.is_empty());
        assert_eq!(asked.into_inner(), [PathBuf::from("/srv/app")]);
    }

    #[test]
    fn shared_and_nested_sources_are_captured_once() {
        let found = plan(
            vec![
                bind("/srv/app/data", Nature::Folder),
                bind("/srv/app", Nature::Folder),
                bind("/srv/app-other", Nature::Folder),
                bind("/srv/app", Nature::Folder),
                wishing("/srv/app/cache", Nature::Folder, Wish::Exclude),
            ],
            &surroundings(),
            &|_| None,
        );
        let counts: Vec<(&str, usize)> = found
            .captured
            .iter()
            .map(|captured| (captured.path.to_str().unwrap(), captured.binds.len()))
            .collect();
        assert_eq!(counts, [("/srv/app", 3), ("/srv/app-other", 1)]);
        assert_eq!(found.recorded[0].reason, Reason::Excluded);
        assert_eq!(found.captured[0].without, [PathBuf::from("/srv/app/cache")]);
        assert_eq!(found.captured[1].without, Vec::<PathBuf>::new());
        // One container's exclusion does not take another one's data.
        let shared = plan(
            vec![
                bind("/srv/app", Nature::Folder),
                bind("/srv/app/data", Nature::Folder),
                wishing("/srv/app/data", Nature::Folder, Wish::Exclude),
            ],
            &surroundings(),
            &|_| None,
        );
        assert_eq!(shared.captured[0].without, Vec::<PathBuf>::new());
    }

    #[test]
    fn a_link_is_judged_by_where_it_leads() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("innocent");
        std::os::unix::fs::symlink("/", &link).unwrap();
        let whole = Bind::of("api", "/host", &link, Wish::Include);
        assert_eq!(reasons(vec![whole]), [Reason::Everything]);
        let socket = folder.path().join("socket");
        let _listening = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(Bind::of("api", "/s", &socket, Wish::None).nature, Nature::Socket);
        assert_eq!(Bind::of("api", "/n", Path::new("/dev/null"), Wish::None).nature, Nature::Device);
        assert_eq!(Bind::of("api", "/x", &folder.path().join("x"), Wish::None).nature, Nature::Missing);
    }
}
