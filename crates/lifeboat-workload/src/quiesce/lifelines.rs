//! What lifeboat itself hangs on, and therefore never stops or pauses.
//!
//! Must stay true: while lifeboat works, nothing is made quiet that it needs in order to undo that. Where it cannot be
//! told apart, too much is spared rather than too little; `plan.rs` reports what was spared and why.

use crate::facts::Facts;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A server by the name or address that lifeboat uses for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// A name or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What it is to lifeboat, in words.
    pub role: &'static str,
}

/// What lifeboat hangs on.
#[derive(Debug, Clone, Default)]
pub struct Lifelines {
    /// The container that lifeboat runs in, by id.
    pub own: Option<String>,
    /// The engine's own address where it is not a local socket, and the repository's where it is a server.
    pub servers: Vec<Server>,
    /// Where the repository, the cache and the state lie, as lifeboat sees them.
    pub paths: Vec<PathBuf>,
}

/// Names of this machine itself: a port published there is a container's.
const LOCAL: &[&str] = &["localhost", "127.0.0.1", "::1", "0.0.0.0", "host.docker.internal"];

impl Lifelines {
    /// The container lifeboat runs in, from what the kernel says about this process, if it is in one.
    #[must_use]
    pub fn own_container() -> Option<String> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        // On the host itself, other containers' mounts are listed too; only our root tells.
        own_id(&mounts).or_else(|| groups.lines().find_map(last_id))
    }

    /// For each container, why it must not be touched.
    #[must_use]
    pub fn spare(&self, around: &[Facts]) -> Vec<Option<String>> {
        let own = around.iter().position(|facts| self.own.as_ref().is_some_and(|own| facts.is_called(own)));
        let paths = self.host_paths(own.map(|own| &around[own]));
        let mut spared: Vec<Option<String>> = around
            .iter()
            .enumerate()
            .map(|(at, facts)| self.reason(facts, own == Some(at), &paths))
            .collect();
        // Whoever gives one of these its network, or another namespace, is needed as well.
        let mut waiting: Vec<usize> = (0..around.len()).filter(|at| spared[*at].is_some()).collect();
        let mut seen: BTreeSet<usize> = waiting.iter().copied().collect();
        while let Some(at) = waiting.pop() {
            let needs = around[at].network_of.iter().chain(&around[at].needs);
            for word in needs {
                let Some(found) = around.iter().position(|facts| facts.is_called(word)) else { continue };
                if seen.insert(found) {
                    spared[found] = Some(format!("`{}` needs it, which lifeboat needs", around[at].name));
                    waiting.push(found);
                }
            }
        }
        spared
    }

    fn reason(&self, facts: &Facts, own: bool, paths: &[PathBuf]) -> Option<String> {
        if own {
            return Some("lifeboat runs in it".into());
        }
        if facts.is_ours() {
            return Some("lifeboat made it".into());
        }
        if let Some(server) = self.servers.iter().find(|server| serves(facts, server)) {
            return Some(format!("it is {}", server.role));
        }
        let carries = |mount: &crate::facts::Mount| {
            let source = Path::new(&mount.source);
            // A reader cannot be what lifeboat's writes go through.
            mount.writable && source.is_absolute() && paths.iter().any(|path| path.starts_with(source))
        };
        let mount = facts.mounts.iter().find(|mount| carries(mount))?;
        Some(format!("`{}` in it holds the repository, or lifeboat's cache or state", mount.destination))
    }

    /// The paths as the engine's host calls them: inside a container they lie in its mounts.
    fn host_paths(&self, own: Option<&Facts>) -> Vec<PathBuf> {
        let translate = |path: &PathBuf| {
            let mounts = own.into_iter().flat_map(|own| &own.mounts);
            let inside = mounts.filter_map(|mount| {
                let rest = path.strip_prefix(&mount.destination).ok()?;
                Some((mount.destination.len(), Path::new(&mount.source).join(rest)))
            });
            inside.max_by_key(|(length, _)| *length).map_or_else(|| path.clone(), |(_, path)| path)
        };
        self.paths.iter().map(translate).collect()
    }
}

fn serves(facts: &Facts, server: &Server) -> bool {
    let named = |known: &String| known.eq_ignore_ascii_case(&server.host);
    facts.addresses.iter().any(named)
        || facts.aliases.iter().any(named)
        || facts.is_called(&server.host)
        || facts.label("com.docker.compose.service").is_some_and(|service| service == server.host)
        || (LOCAL.contains(&server.host.as_str()) && facts.host_ports.contains(&server.port))
}

/// Docker mounts `/etc/hostname` and its fellows from `.../containers/ID/`.
fn own_id(mountinfo: &str) -> Option<String> {
    let line = mountinfo.lines().find(|line| line.split(' ').nth(4) == Some("/etc/hostname"))?;
    let root = line.split(' ').nth(3)?;
    root.split('/').find(|part| is_id(part)).map(Into::into)
}

/// `0::/docker/ID`, `0::/system.slice/docker-ID.scope`.
fn last_id(line: &str) -> Option<String> {
    let name = line.rsplit('/').next()?;
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let name = name.rsplit('-').next()?;
    is_id(name).then(|| name.to_owned())
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Mount;
    use crate::facts::tests::running;

    fn mounting(name: &str, source: &str, destination: &str, writable: bool) -> Facts {
        let mount = Mount {
            kind: "bind".into(),
            name: None,
            source: source.into(),
            destination: destination.into(),
            writable,
        };
        Facts { mounts: vec![mount], ..running(name) }
    }

    fn spared(lifelines: &Lifelines, around: &[Facts]) -> Vec<String> {
        let spared = lifelines.spare(around);
        around
            .iter()
            .zip(spared)
            .filter(|(_, why)| why.is_some())
            .map(|(facts, _)| facts.name.clone())
            .collect()
    }

    #[test]
    fn the_own_container_and_what_gives_it_its_network_are_spared() {
        let mut own = running("lifeboat");
        own.network_of = Some("vpn".into());
        let mut vpn = running("vpn");
        vpn.needs = vec!["gateway".into()];
        let around = [running("api"), own.clone(), vpn, running("gateway")];
        let lifelines = Lifelines { own: Some(own.id[..12].into()), ..Lifelines::default() };
        assert_eq!(spared(&lifelines, &around), ["lifeboat", "vpn", "gateway"]);
    }

    #[test]
    fn the_proxy_of_the_socket_is_found_by_its_name_its_address_or_its_port() {
        let mut proxy = running("proxy");
        proxy.addresses = vec!["172.20.0.2".into()];
        proxy.aliases = vec!["socket-proxy".into()];
        proxy.host_ports = vec![2375];
        for host in ["socket-proxy", "172.20.0.2", "localhost", "proxy"] {
            let servers = vec![Server { host: host.into(), port: 2375, role: "the engine's proxy" }];
            let lifelines = Lifelines { servers, ..Lifelines::default() };
            assert_eq!(spared(&lifelines, &[running("api"), proxy.clone()]), ["proxy"], "{host}");
        }
        let servers = vec![Server { host: "localhost".into(), port: 9000, role: "the engine's proxy" }];
        assert_eq!(spared(&Lifelines { servers, ..Lifelines::default() }, &[proxy]), [""; 0]);
    }

    #[test]
    fn who_carries_the_repository_is_spared_and_who_only_reads_near_it_is_not() {
        let lifelines = Lifelines { paths: vec!["/srv/backup/repo".into()], ..Lifelines::default() };
        let around = [
            mounting("server", "/srv/backup", "/data", true),
            mounting("reader", "/srv", "/data", false),
            mounting("neighbour", "/srv/back", "/data", true),
        ];
        assert_eq!(spared(&lifelines, &around), ["server"]);
    }

    #[test]
    fn paths_inside_the_own_container_are_the_hosts_through_its_mounts() {
        let own = mounting("lifeboat", "/srv/backup", "/repository", true);
        let lifelines = Lifelines {
            own: Some(own.id.clone()),
            paths: vec!["/repository/main".into()],
            ..Lifelines::default()
        };
        let around = [
            own,
            mounting("minio", "/srv/backup/main", "/x", true),
            mounting("api", "/repository", "/y", true),
        ];
        assert_eq!(spared(&lifelines, &around), ["lifeboat", "minio"]);
    }

    #[test]
    fn the_kernel_says_which_container_this_is() {
        let id = "0123456789abcdef".repeat(4);
        let line = format!(
            "512 500 8:1 /var/lib/docker/containers/{id}/hostname /etc/hostname rw - ext4 /dev/sda1 rw"
        );
        assert_eq!(own_id(&line), Some(id.clone()));
        let other =
            format!("512 500 8:1 /var/lib/docker/containers/{id}/mounts/shm /dev/shm rw - tmpfs shm rw");
        assert_eq!(own_id(&other), None);
        assert_eq!(last_id(&format!("12:cpu:/docker/{id}")), Some(id.clone()));
        assert_eq!(last_id(&format!("0::/system.slice/docker-{id}.scope")), Some(id));
        assert_eq!(last_id("0::/user.slice/session-1.scope"), None);
    }
}
