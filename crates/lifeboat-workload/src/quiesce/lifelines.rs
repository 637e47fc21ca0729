//! What lifeboat itself hangs on, and therefore never stops or pauses.
//!
//! Must stay true: while lifeboat works, nothing is made quiet that it needs in order to undo that. Where it cannot be
//! told apart, too much is spared rather than too little; `plan.rs` reports what was spared and why.

use super::socket::Served;
use crate::engine::views::Volume;
use crate::facts::{Facts, Mount, is_id};
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
    /// Who serves the engine's socket, where that is its address.
    pub socket: Served,
    /// Where the repository, the cache and the state lie, as lifeboat sees them.
    pub paths: Vec<PathBuf>,
}

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
        let paths = self.host_paths(around);
        let sockets = match &self.socket {
            Served::Unknown(sockets) => self.on_host(sockets, around),
            Served::ByNoContainer | Served::ByContainer(_) => Vec::new(),
        };
        let reason = |facts| self.reason(facts, &paths, &sockets);
        let mut spared: Vec<Option<String>> = around.iter().map(reason).collect();
        let at_work = self.servers_and_itself(around);
        for (of, what) in at_work {
            for at in beside(around, of) {
                let shares = || format!("it shares its network with `{}`, and {what}", around[of].name);
                spared[at].get_or_insert_with(shares);
            }
        }
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

    /// The paths as the engine's host calls them: inside a container they lie in its mounts.
    #[must_use]
    pub fn host_paths(&self, around: &[Facts]) -> Vec<PathBuf> {
        self.on_host(&self.paths, around)
    }

    fn on_host(&self, paths: &[PathBuf], around: &[Facts]) -> Vec<PathBuf> {
        let own = around.iter().position(|facts| self.is_own(facts));
        let own = own.map(|own| beside(around, own)).unwrap_or_default();
        let translate = |path: &PathBuf| {
            let of_one = |at: &usize| {
                let inside = around[*at].mounts.iter().filter_map(|mount| {
                    let rest = path.strip_prefix(&mount.destination).ok()?;
                    // Joined to nothing, a path would end in a slash, and a file's would then be a folder's.
                    let source = Path::new(&mount.source);
                    let whole =
                        if rest.as_os_str().is_empty() { source.to_owned() } else { source.join(rest) };
                    Some((mount.destination.len(), whole))
                });
                inside.max_by_key(|(length, _)| *length).map(|(_, path)| path)
            };
            let found: Vec<PathBuf> = own.iter().filter_map(of_one).collect();
            if found.is_empty() { vec![path.clone()] } else { found }
        };
        paths.iter().flat_map(translate).collect()
    }

    /// The volumes in which the paths lie: a snapshot of one of them would hold what it is written to.
    #[must_use]
    pub fn own_volumes(&self, volumes: &[Volume], around: &[Facts]) -> Vec<String> {
        let paths = self.host_paths(around);
        let is_own = |volume: &&Volume| {
            // A volume that is a bind has its files where its option says.
            let device = volume.options.get("device").map(PathBuf::from);
            let device = device.map(|path| std::fs::canonicalize(&path).unwrap_or(path));
            let mut folders = [Some(PathBuf::from(&volume.mount_point)), device].into_iter().flatten();
            folders.any(|folder| holds(&folder, &paths))
        };
        volumes.iter().filter(is_own).map(|volume| volume.name.clone()).collect()
    }

    fn is_own(&self, facts: &Facts) -> bool {
        self.own.as_ref().is_some_and(|own| facts.is_called(own))
    }

    /// Those whose network tells lifeboat, or what it uses, from others.
    fn servers_and_itself(&self, around: &[Facts]) -> Vec<(usize, &'static str)> {
        let what = |(at, facts): (usize, &Facts)| {
            let server =
                self.servers.iter().find(|server| serves(facts, server)).map(|_| "lifeboat uses that");
            Some((at, self.is_own(facts).then_some("lifeboat runs there").or(server)?))
        };
        around.iter().enumerate().filter_map(what).collect()
    }

    fn reason(&self, facts: &Facts, paths: &[PathBuf], sockets: &[PathBuf]) -> Option<String> {
        if self.is_own(facts) {
            return Some("lifeboat runs in it".into());
        }
        if facts.is_ours() {
            return Some("lifeboat made it".into());
        }
        if let Some(server) = self.servers.iter().find(|server| serves(facts, server)) {
            return Some(format!("it is {}", server.role));
        }
        if matches!(&self.socket, Served::ByContainer(id) if facts.is_called(id)) {
            return Some("it is the way to the engine".into());
        }
        // The socket alone, as its clients have it, is nothing that one could put it into.
        let lends = |mount: &&Mount| {
            let source = Path::new(&mount.source);
            mount.writable
                && sockets
                    .iter()
                    .any(|socket| socket != source && holds(source, std::slice::from_ref(socket)))
        };
        if let Some(mount) = facts.mounts.iter().find(lends) {
            return Some(format!(
                "`{}` in it holds the engine's socket, which it may serve",
                mount.destination
            ));
        }
        let carries = |mount: &&Mount| {
            // A reader cannot be what lifeboat's writes go through.
            mount.writable && holds(Path::new(&mount.source), paths)
        };
        let mount = facts.mounts.iter().find(carries)?;
        Some(format!("`{}` in it holds the repository, or lifeboat's cache or state", mount.destination))
    }
}

/// Whether one of the paths, as the host calls them, lies in a folder.
fn holds(folder: &Path, paths: &[PathBuf]) -> bool {
    folder.is_absolute() && paths.iter().any(|path| path.starts_with(folder))
}

/// Those in one network with a container, itself among them. They have one address and one host name, by which the kernel
/// tells lifeboat where it runs: which of them it is, and which of them answers, cannot be told.
fn beside(around: &[Facts], at: usize) -> Vec<usize> {
    let owner = network_owner(around, at);
    (0..around.len()).filter(|other| network_owner(around, *other) == owner).collect()
}

fn network_owner(around: &[Facts], at: usize) -> usize {
    let next = |at: &usize| {
        let word = around[*at].network_of.as_ref()?;
        around.iter().position(|facts| facts.is_called(word))
    };
    // As many steps as there are containers, should an engine ever show a circle.
    std::iter::successors(Some(at), next).take(around.len()).last().unwrap_or(at)
}

fn serves(facts: &Facts, server: &Server) -> bool {
    let named = |known: &String| known.eq_ignore_ascii_case(&server.host);
    facts.addresses.iter().any(named)
        || facts.aliases.iter().any(named)
        || facts.is_called(&server.host)
        || facts.label("com.docker.compose.service").is_some_and(|service| service == server.host)
        // By whatever name or address this machine is called: there are too many to know them all.
        || facts.host_ports.contains(&server.port)
}

/// Docker mounts `/etc/hostname` and its fellows from `.../containers/ID/`.
fn own_id(mountinfo: &str) -> Option<String> {
    let line = mountinfo.lines().find(|line| line.split(' ').nth(4) == Some("/etc/hostname"))?;
    let root = line.split(' ').nth(3)?;
    root.split('/').find(|part| is_id(part)).map(Into::into)
}

/// `0::/docker/ID`, `0::/system.slice/docker-ID.scope`; a container may have groups of its own within its own one.
pub(super) fn last_id(line: &str) -> Option<String> {
    let id = |name: &str| {
        let name = name.strip_suffix(".scope").unwrap_or(name);
        name.rsplit('-').next().filter(|name| is_id(name)).map(str::to_owned)
    };
    line.rsplit('/').find_map(id)
}

#[cfg(test)]
mod tests {
    use super::*;
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
        for host in ["socket-proxy", "172.20.0.2", "localhost", "proxy", "192.168.1.7", "docker.example"] {
            let servers = vec![Server { host: host.into(), port: 2375, role: "the engine's proxy" }];
            let lifelines = Lifelines { servers, ..Lifelines::default() };
            assert_eq!(spared(&lifelines, &[running("api"), proxy.clone()]), ["proxy"], "{host}");
        }
        let servers = vec![Server { host: "localhost".into(), port: 9000, role: "the engine's proxy" }];
        assert_eq!(spared(&Lifelines { servers, ..Lifelines::default() }, &[proxy]), [""; 0]);
    }

    #[test]
    fn who_serves_the_socket_is_spared_or_whoever_may_where_that_cannot_be_seen() {
        let proxy = mounting("proxy", "/srv/run", "/run/proxy", true);
        let around = [
            proxy.clone(),
            mounting("client", "/srv/run", "/run", false),
            mounting("browser", "/srv/run/engine.sock", "/var/run/docker.sock", true),
            running("api"),
        ];
        let with = |socket| Lifelines { socket, ..Lifelines::default() };
        assert_eq!(spared(&with(Served::ByContainer(proxy.id.clone())), &around), ["proxy"]);
        assert_eq!(spared(&with(Served::ByNoContainer), &around), [""; 0]);
        assert_eq!(spared(&with(Served::Unknown(vec!["/srv/run/engine.sock".into()])), &around), ["proxy"]);
        // As lifeboat sees it from its own container.
        let lifeboat = mounting("lifeboat", "/srv/run", "/engine", false);
        let own = Some(lifeboat.id.clone());
        let inside = Lifelines { own, ..with(Served::Unknown(vec!["/engine/engine.sock".into()])) };
        let around = [around.to_vec(), vec![lifeboat]].concat();
        assert_eq!(spared(&inside, &around), ["proxy", "lifeboat"]);
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
    fn volumes_that_hold_lifeboats_own_are_told_by_their_place_or_by_the_folder_that_they_bind() {
        let volume = |name: &str, device: Option<&str>| Volume {
            name: name.into(),
            mount_point: format!("/var/lib/docker/volumes/{name}/_data"),
            options: device.map(|device| ("device".to_owned(), device.to_owned())).into_iter().collect(),
            ..Volume::default()
        };
        let volumes = [
            volume("data", None),
            volume("backup", None),
            volume("disk", Some("/srv/lifeboat-test")),
            volume("share", Some("//host/share")),
            Volume { name: "far".into(), ..Volume::default() },
        ];
        let own = |path: &str| Lifelines { paths: vec![path.into()], ..Lifelines::default() };
        let inside = own("/var/lib/docker/volumes/backup/_data/main");
        assert_eq!(inside.own_volumes(&volumes, &[]), ["backup"]);
        assert_eq!(own("/srv/lifeboat-test/main").own_volumes(&volumes, &[]), ["disk"]);
        assert_eq!(own("/srv/other").own_volumes(&volumes, &[]), [""; 0]);
        let container = mounting("lifeboat", "/var/lib/docker/volumes/backup/_data", "/repository", true);
        let there = Lifelines { own: Some(container.id.clone()), ..own("/repository/main") };
        assert_eq!(there.own_volumes(&volumes, &[container]), ["backup"]);
    }

    #[test]
    fn who_shares_a_network_with_lifeboat_or_its_proxy_is_spared_and_lifeboats_paths_are_found() {
        let using = |facts: Facts, owner: &str| Facts { network_of: Some(owner.into()), ..facts };
        let lifeboat = mounting("lifeboat", "/srv/backup", "/repository", true);
        let minio = || mounting("minio", "/srv/backup", "/data", true);
        let paths = vec![PathBuf::from("/repository/main")];
        // The kernel shows the owner's host name, and lifeboat is beside it.
        let around = [
            running("pod"),
            using(lifeboat.clone(), "pod"),
            using(running("proxy"), "pod"),
            minio(),
            running("api"),
        ];
        let own = Lifelines { own: Some(around[0].id.clone()), paths, ..Lifelines::default() };
        assert_eq!(spared(&own, &around), ["pod", "lifeboat", "proxy", "minio"]);
        let mut pod = running("pod");
        pod.aliases = vec!["socket-proxy".into()];
        let servers = vec![Server { host: "socket-proxy".into(), port: 2375, role: "the engine's proxy" }];
        let around = [pod, using(running("proxy"), "pod"), running("api")];
        assert_eq!(spared(&Lifelines { servers, ..Lifelines::default() }, &around), ["pod", "proxy"]);
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
