//! What speaks against bringing a project back, all of it, before anything is touched.
//!
//! Must stay true: this asks and changes nothing; each obstacle says what solves it.

use super::Error;
use super::ports;
use crate::engine::Engine;
use crate::engine::views::{EngineInfo, Network, list, text};
use crate::recreate::network::is_engines_own;
use crate::recreate::recorded::{Mounted, Recorded};
use crate::volume::proof::Proof;
use crate::volume::target::{NotEmpty, Recorded as RecordedVolume};
use crate::volume::{Error as VolumeError, Volumes, Way};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What NVIDIA's driver makes for whoever uses a GPU.
const GPU: &str = "/dev/nvidiactl";

/// Something that is in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// What.
    pub what: String,
    /// A flag or a command that solves it.
    pub way_out: String,
}

fn obstacle(what: impl Into<String>, way_out: impl Into<String>) -> Obstacle {
    Obstacle { what: what.into(), way_out: way_out.into() }
}

/// What comes back.
#[derive(Debug)]
pub struct Coming<'c> {
    /// Its containers.
    pub containers: &'c [Recorded],
    /// Volumes that the snapshot has, by their names now.
    pub volumes: &'c BTreeMap<String, RecordedVolume>,
    /// Paths that it has, where they go to, and the bytes that they take there.
    pub paths: &'c BTreeMap<PathBuf, u64>,
    /// Bytes that come below the engine's root.
    pub bytes: u64,
    /// Whether the project that is there is replaced.
    pub in_place: bool,
}

/// Everything that is in the way on an engine.
pub fn obstacles(volumes: &Volumes, coming: &Coming<'_>) -> Result<Vec<Obstacle>, Error> {
    let engine = volumes.engine();
    let info = volumes.info();
    let mut found = Vec::new();
    let own: BTreeSet<&str> = coming.containers.iter().map(|one| one.name.as_str()).collect();
    if !coming.in_place {
        names(engine, &own, &mut found)?;
    }
    volumes_there(volumes, coming, &own, &mut found)?;
    missing_volumes(engine, coming, &mut found)?;
    networks(engine, coming, &mut found)?;
    host_ports(engine, coming, &own, &mut found)?;
    parts(info, coming, &mut found);
    // What is on this machine says something only where it is the engine's.
    if matches!(volumes.proof()?, Proof::Proven(_)) {
        host(info, coming, &mut found);
    }
    Ok(found)
}

fn names(engine: &Engine, own: &BTreeSet<&str>, found: &mut Vec<Obstacle>) -> Result<(), Error> {
    for name in own {
        match engine.container(name) {
            Ok(there) if there.name == **name => found.push(obstacle(
                format!("there is a container {name}"),
                "--in-place replaces the project that is there; --rename NAME makes another one",
            )),
            Ok(_) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn volumes_there(
    volumes: &Volumes,
    coming: &Coming<'_>,
    own: &BTreeSet<&str>,
    found: &mut Vec<Obstacle>,
) -> Result<(), Error> {
    let not_empty = if coming.in_place { NotEmpty::Write } else { NotEmpty::Refuse };
    let is_there = volumes.engine().containers(&[])?.iter().any(|one| own.contains(one.name.as_str()));
    for (name, recorded) in coming.volumes {
        let plan = match volumes.plan_restore(name, recorded.clone(), not_empty) {
            Ok(plan) => Some(plan),
            Err(VolumeError::Fleeting { .. }) => None,
            Err(VolumeError::NotEmpty { .. }) => {
                // In place needs a project whose snapshot can be taken.
                let way_out = match is_there {
                    true => "--in-place replaces what is in it; --rename NAME makes others".to_owned(),
                    false => format!(
                        "lifeboat snapshot volume:{name} && docker volume rm {name}    # or --rename NAME makes others"
                    ),
                };
                found.push(obstacle(format!("volume {name} is there and holds something"), way_out));
                None
            }
            Err(VolumeError::InUse { containers, .. }) => {
                // In place its own containers are stopped.
                let is_other = |one: &&String| !coming.in_place || !own.contains(one.as_str());
                let others: Vec<&str> = containers.iter().filter(is_other).map(String::as_str).collect();
                if !others.is_empty() {
                    found.push(obstacle(
                        format!("volume {name} is used by {}", others.join(", ")),
                        format!("docker stop {}    # or --rename NAME", others.join(" ")),
                    ));
                }
                None
            }
            Err(error) => return Err(error.into()),
        };
        let has_volume = match plan {
            Some(plan) => !plan.is_new,
            None => volumes.engine().volume(name).is_ok(),
        };
        if coming.in_place
            && has_volume
            && let Way::Helper { why, .. } = volumes.to_read(name)?.way
        {
            found.push(obstacle(
                format!("volume {name} can only be written through the engine, which deletes nothing: {why}"),
                "--rename NAME makes others",
            ));
        }
    }
    Ok(())
}

fn missing_volumes(engine: &Engine, coming: &Coming<'_>, found: &mut Vec<Obstacle>) -> Result<(), Error> {
    let named = coming.containers.iter().flat_map(Recorded::volumes).filter_map(|mounted| match mounted {
        Mounted::Named(name) => Some(name),
        Mounted::Anonymous { .. } => None,
    });
    for name in named.collect::<BTreeSet<String>>() {
        if coming.volumes.contains_key(&name) {
            continue;
        }
        match engine.volume(&name) {
            Ok(_) => {}
            Err(error) if error.is_not_found() => found.push(obstacle(
                format!("volume {name} is neither in the snapshot nor on the engine"),
                format!("docker volume create {name}    # if it may be empty"),
            )),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn networks(engine: &Engine, coming: &Coming<'_>, found: &mut Vec<Obstacle>) -> Result<(), Error> {
    let there = engine.networks(&[])?;
    let mut seen = BTreeSet::new();
    for recorded in coming.containers {
        for (name, _) in recorded.endpoints().filter(|(name, _)| !is_engines_own(name)) {
            if !seen.insert(name.clone()) || there.iter().any(|network| network.name == *name) {
                continue;
            }
            let Some(described) = recorded.networks.get(name).filter(|described| described.is_object())
            else {
                found.push(obstacle(
                    format!("network {name} is neither in the snapshot nor on the engine"),
                    format!("docker network create {name}"),
                ));
                continue;
            };
            for subnet in subnets(described) {
                if let Some(other) = there.iter().find(|other| overlaps(other, &subnet)) {
                    found.push(obstacle(
                        format!("subnet {subnet} of network {name} lies in network {}", other.name),
                        format!(
                            "docker network rm {}    # or --rename NAME: the engine chooses subnets then",
                            other.name
                        ),
                    ));
                }
            }
        }
    }
    Ok(())
}

fn subnets(network: &Value) -> Vec<String> {
    list(network, "/IPAM/Config")
        .map(|pool| text(pool, "/Subnet"))
        .filter(|subnet| !subnet.is_empty())
        .collect()
}

fn overlaps(network: &Network, subnet: &str) -> bool {
    subnets(&network.raw).iter().any(|other| do_overlap(other, subnet))
}

/// Whether two subnets have an address in common.
fn do_overlap(one: &str, other: &str) -> bool {
    let parse = |text: &str| -> Option<(IpAddr, u32)> {
        let (address, length) = text.split_once('/')?;
        Some((address.parse().ok()?, length.parse().ok()?))
    };
    let (Some((one, one_bits)), Some((other, other_bits))) = (parse(one), parse(other)) else { return false };
    let bits = one_bits.min(other_bits);
    let is_same = |one: u128, other: u128, width: u32| {
        let shift = width.saturating_sub(bits);
        shift >= width || one >> shift == other >> shift
    };
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => is_same(one.to_bits().into(), other.to_bits().into(), 32),
        (IpAddr::V6(one), IpAddr::V6(other)) => is_same(one.to_bits(), other.to_bits(), 128),
        _ => false,
    }
}

fn host_ports(
    engine: &Engine,
    coming: &Coming<'_>,
    own: &BTreeSet<&str>,
    found: &mut Vec<Obstacle>,
) -> Result<(), Error> {
    let taken = ports::taken(engine)?;
    let are_ours = ports::are_ours(engine);
    let mut wanted: Vec<(ports::Port, &str)> = Vec::new();
    for recorded in coming.containers {
        wanted.extend(ports::wanted(&recorded.raw).into_iter().map(|port| (port, recorded.name.as_str())));
    }
    wanted.sort();
    wanted.dedup();
    for (port, name) in wanted {
        let way_out = "--rename NAME: the engine chooses ports then";
        match taken.get(&(port.protocol.clone(), port.number)) {
            // It goes, or is refused by its name.
            Some(holder) if own.contains(holder.as_str()) => {}
            Some(holder) => found.push(obstacle(
                format!("port {port} of {name} is container {holder}'s"),
                format!("docker stop {holder}    # or {way_out}"),
            )),
            None if are_ours && ports::is_busy(&port) => found.push(obstacle(
                format!("port {port} of {name} is taken by a process of this machine"),
                format!("ss -lntup 'sport = :{}'    # shows which; or {way_out}", port.number),
            )),
            None => {}
        }
    }
    Ok(())
}

/// Runtimes and drivers that an engine has to have.
fn parts(info: &EngineInfo, coming: &Coming<'_>, found: &mut Vec<Obstacle>) {
    let mut wanted: BTreeSet<(&str, String, bool)> = BTreeSet::new();
    let has = |pointer: &str, name: &str| list(&info.raw, pointer).any(|one| one.as_str() == Some(name));
    for recorded in coming.containers {
        let runtime = text(&recorded.raw, "/HostConfig/Runtime");
        let is_listed = info.raw.pointer("/Runtimes").and_then(|all| all.get(&runtime)).is_some();
        // Of shims that are asked for by their full names, an engine lists its own only.
        let is_shim = runtime.starts_with("io.containerd.");
        wanted.insert(("runtime", runtime.clone(), runtime.is_empty() || is_listed || is_shim));
        let log = text(&recorded.raw, "/HostConfig/LogConfig/Type");
        // An engine does not list the driver that does nothing.
        let is_there = log.is_empty() || log == "none" || has("/Plugins/Log", &log);
        wanted.insert(("log driver", log, is_there));
        for described in recorded.networks.values() {
            let driver = text(described, "/Driver");
            wanted.insert((
                "network driver",
                driver.clone(),
                driver.is_empty() || has("/Plugins/Network", &driver),
            ));
        }
    }
    for volume in coming.volumes.values() {
        wanted.insert(("volume driver", volume.driver.clone(), has("/Plugins/Volume", &volume.driver)));
    }
    for (what, name, _) in wanted.into_iter().filter(|(_, _, is_there)| !is_there) {
        found.push(obstacle(
            format!("the engine has no {what} `{name}`"),
            format!("install the {what} `{name}`"),
        ));
    }
}

/// What has to be on the engine's machine, which is this one.
fn host(info: &EngineInfo, coming: &Coming<'_>, found: &mut Vec<Obstacle>) {
    let mut seen = BTreeSet::new();
    for recorded in coming.containers {
        for device in recorded.list("/HostConfig/Devices").map(|device| text(device, "/PathOnHost")) {
            if !device.is_empty() && !Path::new(&device).exists() {
                found
                    .push(obstacle(format!("device {device} of {} is not here", recorded.name), "attach it"));
            }
        }
        let asks_for_gpus = recorded.list("/HostConfig/DeviceRequests").any(|request| {
            let mut capabilities = list(request, "/Capabilities").filter_map(Value::as_array).flatten();
            capabilities.any(|one| one.as_str() == Some("gpu"))
        });
        if asks_for_gpus && !Path::new(GPU).exists() {
            let what = format!("{} asks for a GPU, and {GPU} is not here", recorded.name);
            found.push(obstacle(what, "install the GPU's driver and container toolkit"));
        }
        for mount in recorded.list("/Mounts").filter(|mount| text(mount, "/Type") == "bind") {
            let source = text(mount, "/Source");
            let comes = coming.paths.keys().any(|path| Path::new(&source).starts_with(path));
            if !comes && !Path::new(&source).exists() && seen.insert(source.clone()) {
                found.push(obstacle(
                    format!("{source}, which {} mounts, is neither in the snapshot nor here", recorded.name),
                    format!("mkdir -p {source}    # if it may be empty; or --map-path {source}=OTHER"),
                ));
            }
        }
    }
    let root = Path::new(&info.root);
    room(
        std::iter::once((root, coming.bytes))
            .chain(coming.paths.iter().map(|(path, bytes)| (&**path, *bytes))),
        found,
    );
}

/// Whether each file system has room for what comes there.
fn room<'p>(places: impl Iterator<Item = (&'p Path, u64)>, found: &mut Vec<Obstacle>) {
    let mut wanted: BTreeMap<u64, (&Path, u64)> = BTreeMap::new();
    for (place, bytes) in places {
        // What is not there yet will be where its folder is.
        let there = place.ancestors().find_map(|folder| Some((folder, folder.metadata().ok()?.dev())));
        if let Some((folder, device)) = there {
            wanted.entry(device).or_insert((folder, 0)).1 += bytes;
        }
    }
    for (folder, bytes) in wanted.into_values() {
        let Ok(disk) = rustix::fs::statvfs(folder) else { continue };
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < bytes {
            found.push(obstacle(
                format!("{bytes} bytes come back, and {free} are free below {}", folder.display()),
                "docker system prune    # frees what nobody uses; or --map-path FOLDER=ELSEWHERE for folders",
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{do_overlap, room};
    use std::path::Path;

    #[test]
    fn what_comes_to_one_file_system_has_to_have_room_there_together() {
        let folder = tempfile::tempdir().unwrap();
        let disk = rustix::fs::statvfs(folder.path()).unwrap();
        let half = disk.f_blocks * disk.f_frsize / 2 + 1;
        let (one, two) = (folder.path().join("not/there"), folder.path().join("nor/there"));
        let found = |places: &[(&Path, u64)]| {
            let mut found = Vec::new();
            room(places.iter().copied(), &mut found);
            found
        };
        assert_eq!(found(&[(&one, 0), (&two, 1)]), []);
        let together = found(&[(&one, half), (&two, half)]);
        assert_eq!(together.len(), 1, "{together:?}");
        assert!(together[0].what.contains(&format!("{} bytes come back", 2 * half)), "{together:?}");
        assert_eq!(found(&[(Path::new("/proc/nothing/such"), 1)]).len(), 1);
    }

    #[test]
    fn subnets_overlap_where_one_lies_in_the_other() {
        assert!(do_overlap("10.0.0.0/8", "10.77.3.0/24"));
        assert!(do_overlap("10.77.3.0/24", "10.77.3.128/25"));
        assert!(do_overlap("0.0.0.0/0", "10.0.0.0/8"));
        assert!(!do_overlap("10.77.3.0/25", "10.77.3.128/25"));
        assert!(do_overlap("fd00::/8", "fd00:1::/64"));
        assert!(!do_overlap("fd00:1::/64", "10.0.0.0/8"));
        assert!(!do_overlap("none", "10.0.0.0/8"));
    }
}
