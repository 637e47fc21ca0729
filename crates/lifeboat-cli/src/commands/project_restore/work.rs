//! What bringing a project back will do, and what is in the way of it. Looks, and changes nothing.

use super::Call;
use crate::args::RestoreArgs;
use crate::commands::select::Selected;
use crate::commands::{containers, images, stored};
use crate::failure::Hinted;
use anyhow::{Context, Result, bail};
use lifeboat::format::TreePath;
use lifeboat::format::snapshot::{Source, SourceKind};
use lifeboat::repo::reader::ChunkReader;
use lifeboat::restore::{Options, Quiet};
use lifeboat::snapshot_source::entries_below;
use lifeboat::workload::engine::Engine;
use lifeboat::workload::facts::Facts;
use lifeboat::workload::host_paths::{PathMap, may_write};
use lifeboat::workload::image;
use lifeboat::workload::project::description::{DESCRIPTION_BYTES_MAX, Description};
use lifeboat::workload::project::digests::Digests;
use lifeboat::workload::project::plan::{Coming, Obstacle, obstacles};
use lifeboat::workload::project::ports::Port;
use lifeboat::workload::project::rename::Renaming;
use lifeboat::workload::project::{DIGESTS_FILE, PROJECT_FILE, order, ports};
use lifeboat::workload::recreate;
use lifeboat::workload::recreate::plan::Snapshot;
use lifeboat::workload::recreate::recorded::{Mounted, Recorded};
use lifeboat::workload::volume::Volumes;
use lifeboat::workload::volume::target::Recorded as RecordedVolume;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// One container that comes back.
pub(super) struct Member<'s> {
    pub(super) source: &'s Source,
    /// As it is described, before names and places were changed.
    pub(super) then: Value,
    pub(super) recorded: Recorded,
    pub(super) facts: Facts,
    pub(super) ran: bool,
}

/// Everything that is to be done, and what is in the way.
pub(super) struct Work<'s> {
    pub(super) description: Description,
    pub(super) renaming: Renaming,
    pub(super) members: Vec<Member<'s>>,
    pub(super) images: Vec<(&'s Source, image::plan::Plan)>,
    /// Names now, and the sources.
    pub(super) volumes: BTreeMap<String, (&'s Source, RecordedVolume)>,
    pub(super) paths: Vec<Place>,
    pub(super) obstacles: Vec<Obstacle>,
    pub(super) remarks: Vec<String>,
    pub(super) snapshot: Snapshot,
    /// What needs what: in this order the members are made and started.
    pub(super) order: Vec<order::Place>,
}

/// A path that goes back to the host.
pub(super) struct Place {
    /// In the snapshot.
    pub(super) path: Vec<u8>,
    /// What it becomes.
    pub(super) target: PathBuf,
    /// The folder that is restored, or in which the file lies.
    pub(super) folder: PathBuf,
    /// It is there, the same.
    pub(super) is_there: bool,
    /// Bytes of its content.
    pub(super) bytes: u64,
    /// Whether what is there and not in the snapshot goes: in place, where the snapshot has all of the folder.
    pub(super) deletes: bool,
}

/// The project that is named, or the only one of the snapshot.
fn project_source(selected: &Selected) -> Result<&Source> {
    let wanted = selected.path.as_deref();
    let is_it = |source: &&Source| {
        source.kind == SourceKind::Project && wanted.is_none_or(|wanted| source.full_name() == wanted)
    };
    let mut all = selected.snapshot.sources.iter().filter(is_it);
    let (first, second) = (all.next(), all.next());
    let hint =
        format!("lifeboat restore {}:project:NAME --to project:", &selected.snapshot.id.to_string()[..8]);
    match (first, second) {
        (Some(one), None) => Ok(one),
        (None, _) => bail!(Hinted::new("the snapshot has no such project", hint)),
        _ => bail!(Hinted::new("the snapshot has several projects: say which", hint)),
    }
}

/// Decides everything, and looks for what is in the way.
pub(super) fn work<'s>(
    call: &Call<'s>,
    reader: &ChunkReader,
    volumes: &Volumes,
    name: &str,
) -> Result<Work<'s>> {
    let Call { selected, arguments, .. } = *call;
    let source = project_source(selected)?;
    let description =
        Description::read(&stored::description(reader, source, PROJECT_FILE, DESCRIPTION_BYTES_MAX)?)?;
    let to = match (name, &arguments.rename) {
        ("", None) => description.name.clone(),
        ("", Some(to)) => to.clone(),
        (name, None) => name.to_owned(),
        _ => bail!("--rename and a name behind `project:` say the same thing: give one of them"),
    };
    let renaming = Renaming::new(&description, &to)?;
    let map = path_map(arguments, &description)?;
    let mut remarks = Vec::new();
    let members = members(call, reader, &description, &renaming, &map, &mut remarks)?;
    let stored = stored_volumes(selected);
    let kept = kept_volumes(&description, &renaming, &members, &stored);
    let mut snapshot = Snapshot { comes_anew: true, ..Snapshot::default() };
    snapshot.volumes.extend(stored.keys().map(|name| String::from_utf8_lossy(name).into_owned()));
    snapshot.volumes.extend(kept.keys().cloned());
    let digests = stored::small_file(reader, source, DIGESTS_FILE, DESCRIPTION_BYTES_MAX)?;
    let is_there = digests.is_some();
    let digests = digests.and_then(|bytes| Digests::read(&bytes));
    if is_there && digests.is_none() {
        remarks.push(format!("{DIGESTS_FILE} cannot be used: compose may make containers anew"));
    }
    let digests = digests.unwrap_or_default();
    for member in &members {
        let then = String::from_utf8_lossy(&member.source.name);
        if let Some(text) = digests.containers.get(&*then) {
            snapshot.digested.insert(member.recorded.id.clone(), text.clone());
        }
        snapshot.containers.insert(member.recorded.id.clone(), member.recorded.name.clone());
    }
    let mut found = Vec::new();
    let images = image_plans(call, reader, volumes, &description, &mut found, &mut remarks)?;
    found.extend(missing(volumes.engine(), &description, &members, &images, &snapshot)?);
    let paths = places(call, reader, &map, &description, &members, &mut found)?;
    if arguments.in_place {
        remarks.extend(not_deleted(&paths, &kept));
    }
    let recorded: Vec<Recorded> = members.iter().map(|member| member.recorded.clone()).collect();
    let coming = Coming {
        containers: &recorded,
        volumes: &kept.iter().map(|(name, (_, recorded))| (name.clone(), recorded.clone())).collect(),
        paths: &paths.iter().map(|place| (place.target.clone(), room_for(place))).collect(),
        bytes: room(volumes.engine(), &members, &stored, &kept, arguments.in_place)
            + images.iter().map(|(_, plan)| plan.bytes).sum::<u64>(),
        in_place: arguments.in_place,
    };
    found.extend(obstacles(volumes, &coming)?);
    remarks.extend(unseen_ports(volumes.engine(), &recorded));
    if description.drift.known && !description.drift.changes.is_empty() {
        remarks.push(format!("compose would have changed it then: {}", description.drift.changes.join("; ")));
    }
    let facts: Vec<Facts> = members.iter().map(|member| member.facts.clone()).collect();
    Ok(Work {
        order: order::order(&facts),
        description,
        renaming,
        members,
        images,
        volumes: kept,
        paths,
        obstacles: found,
        remarks,
        snapshot,
    })
}

/// Which ports may be taken by a process that is none of the engine's and cannot be seen from here.
fn unseen_ports(engine: &Engine, containers: &[Recorded]) -> Option<String> {
    let wanted: BTreeSet<Port> = containers.iter().flat_map(|one| ports::wanted(one.raw())).collect();
    if wanted.is_empty() || ports::are_ours(engine) {
        return None;
    }
    let shown: Vec<String> = wanted.iter().map(Port::to_string).collect();
    let shown = shown.join(", ");
    Some(format!(
        "the engine's network is not this process's: a process outside of containers that has {shown} there is not \
         seen; `ss -ltunp` on the engine's machine shows it"
    ))
}

/// The volumes of the snapshot, by name.
fn stored_volumes(selected: &Selected) -> BTreeMap<&[u8], &Source> {
    let volumes = selected.snapshot.sources.iter().filter(|source| source.kind == SourceKind::Volume);
    volumes.map(|source| (&source.name[..], source)).collect()
}

/// What containers need and neither comes back nor is there.
fn missing(
    engine: &Engine,
    description: &Description,
    members: &[Member<'_>],
    images: &[(&Source, image::plan::Plan)],
    snapshot: &Snapshot,
) -> Result<Vec<Obstacle>> {
    let comes = |name: &str| images.iter().any(|(source, _)| source.name == name.as_bytes());
    let mut found = Vec::new();
    for member in members {
        let has_image = description.images.iter().any(|one| {
            one.container.as_bytes() == member.source.name
                && one.id == member.recorded.image_id
                && comes(&one.name)
        });
        for error in recreate::plan::missing(engine, &member.recorded, snapshot, has_image)? {
            let way_out = error.hint().unwrap_or_default();
            found.push(Obstacle { what: format!("{}: {error}", member.recorded.name), way_out });
        }
    }
    Ok(found)
}

/// Bytes that come below the engine's root besides images: volumes and layers. In place, what is there makes room.
fn room(
    engine: &Engine,
    members: &[Member<'_>],
    stored: &BTreeMap<&[u8], &Source>,
    kept: &BTreeMap<String, (&Source, RecordedVolume)>,
    in_place: bool,
) -> u64 {
    let is_new = |name: &str| !(in_place && engine.volume(name).is_ok());
    let named = kept.iter().filter(|(name, _)| is_new(name)).map(|(_, (source, _))| source.bytes);
    let anonymous =
        members.iter().flat_map(|member| member.recorded.volumes()).filter_map(|mounted| match mounted {
            Mounted::Anonymous { name, .. } => stored.get(name.as_bytes()).map(|source| source.bytes),
            Mounted::Named(_) => None,
        });
    let layers = members.iter().map(|member| member.source.bytes);
    named.chain(anonymous).chain(layers).sum()
}

/// Bytes that a path needs: what is there makes room.
fn room_for(place: &Place) -> u64 {
    if place.target.exists() { 0 } else { place.bytes }
}

/// Volumes that come back by their names; anonymous ones come with their containers.
fn kept_volumes<'s>(
    description: &Description,
    renaming: &Renaming,
    members: &[Member<'_>],
    stored: &BTreeMap<&[u8], &'s Source>,
) -> BTreeMap<String, (&'s Source, RecordedVolume)> {
    let named: BTreeSet<String> = members
        .iter()
        .flat_map(|member| member.recorded.volumes())
        .filter_map(|volume| if let Mounted::Named(name) = volume { Some(name) } else { None })
        .collect();
    let mut kept = BTreeMap::new();
    for volume in &description.volumes {
        let now = renaming.volume(&volume.name).to_owned();
        if let (true, Some(source)) = (named.contains(&now), stored.get(volume.name.as_bytes())) {
            let mut recorded = RecordedVolume::from_detail(&source.detail);
            renaming.labels(&mut recorded.labels);
            kept.insert(now, (*source, recorded));
        }
    }
    kept
}

/// Where more may be left than the snapshot has.
fn not_deleted(paths: &[Place], volumes: &BTreeMap<String, (&Source, RecordedVolume)>) -> Vec<String> {
    let folders = paths.iter().filter(|place| place.folder == place.target && !place.deletes);
    let folders = folders.map(|place| place.target.display().to_string());
    let volumes = volumes.iter().filter(|(_, (source, _))| source.errors > 0);
    let volumes = volumes.map(|(name, _)| format!("volume {name}"));
    folders
        .chain(volumes)
        .map(|what| format!("nothing is deleted in {what}: the snapshot does not have all of it"))
        .collect()
}

/// Whether a path of the snapshot is of the project: compose read it, or one of its containers binds it.
fn belongs(source: &Source, description: &Description) -> bool {
    let detail: Value = serde_json::from_str(&source.detail).unwrap_or_default();
    let binds = detail.get("binds").and_then(Value::as_array).into_iter().flatten();
    let mut binders = binds.filter_map(|bind| bind.get("container")?.as_str());
    description.files.iter().any(|file| file.path.as_bytes() == source.name)
        || binders.any(|name| description.containers.iter().any(|member| member.name == name))
}

/// Whether something else is bound from inside a folder: it may have been left out of the folder's source.
fn has_binds_inside(folder: &Path, members: &[Member<'_>]) -> bool {
    let mounts = members.iter().flat_map(|member| {
        member.recorded.raw().get("Mounts").and_then(Value::as_array).into_iter().flatten()
    });
    let sources = mounts.filter(|mount| mount["Type"] == "bind").filter_map(|mount| mount["Source"].as_str());
    sources.map(Path::new).any(|source| source != folder && source.starts_with(folder))
}

pub(super) fn path_map(arguments: &RestoreArgs, description: &Description) -> Result<PathMap> {
    let mut words = arguments.map_path.clone();
    if let Some(folder) = &arguments.project_dir {
        let folder = std::path::absolute(folder)?;
        words.push(format!("{}={}", description.folder, folder.to_string_lossy()));
    }
    Ok(PathMap::parse(words.iter().map(String::as_str))?)
}

/// The containers as they are described, under the names that they will have.
fn members<'s>(
    call: &Call<'s>,
    reader: &ChunkReader,
    description: &Description,
    renaming: &Renaming,
    map: &PathMap,
    remarks: &mut Vec<String>,
) -> Result<Vec<Member<'s>>> {
    let sources = &call.selected.snapshot.sources;
    let mut members = Vec::new();
    for one in &description.containers {
        let is_it =
            |source: &&Source| source.kind == SourceKind::Container && source.name == one.name.as_bytes();
        let Some(source) = sources.iter().find(is_it) else {
            remarks.push(format!("container {} is not in the snapshot", one.name));
            continue;
        };
        let mut files = containers::files(reader, source)?;
        let then: Value = serde_json::from_slice(&files.container).unwrap_or_default();
        let mut raw = then.clone();
        remarks.extend(renaming.change(&mut raw, map));
        files.container = serde_json::to_vec(&raw)?;
        if let Some(text) = &files.networks
            && let Ok(Value::Object(mut networks)) = serde_json::from_slice(text)
        {
            renaming.change_networks(&mut networks);
            files.networks = Some(serde_json::to_vec(&networks)?);
        }
        let recorded = Recorded::read(&files)?;
        let facts = Facts::read(&raw).context("the snapshot's description of a container cannot be used")?;
        members.push(Member { source, then, recorded, facts, ran: one.ran });
    }
    Ok(members)
}

fn image_plans<'s>(
    call: &Call<'s>,
    reader: &ChunkReader,
    volumes: &Volumes,
    description: &Description,
    found: &mut Vec<Obstacle>,
    remarks: &mut Vec<String>,
) -> Result<Vec<(&'s Source, image::plan::Plan)>> {
    let names: BTreeSet<&str> = description.images.iter().map(|image| image.name.as_str()).collect();
    let mut plans = Vec::new();
    for name in names {
        let is_it = |source: &&Source| source.kind == SourceKind::Image && source.name == name.as_bytes();
        let Some(source) = call.selected.snapshot.sources.iter().find(is_it) else {
            remarks.push(format!("image {name} is not in the snapshot"));
            continue;
        };
        let described = images::description(reader, source)?;
        let wanted = image::plan::Wanted {
            // Other names of it are nobody's here.
            tags: Some(if described.tags.iter().any(|tag| tag == name) {
                vec![name.to_owned()]
            } else {
                Vec::new()
            }),
            takes_names: call.arguments.overwrite.is_some(),
        };
        match image::plan::plan(volumes.engine(), volumes.info(), described, &wanted) {
            Ok(plan) => {
                remarks.extend(plan.remarks.iter().map(|remark| format!("image {name}: {remark}")));
                plans.push((source, plan));
            }
            Err(image::Error::InTheWay { text, .. }) => {
                let way_out = "--overwrite always takes the name".to_owned();
                found.push(Obstacle { what: text, way_out });
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(plans)
}

/// Where the paths of the snapshot go, and which of them are there already.
fn places(
    call: &Call<'_>,
    reader: &ChunkReader,
    map: &PathMap,
    description: &Description,
    members: &[Member<'_>],
    found: &mut Vec<Obstacle>,
) -> Result<Vec<Place>> {
    let mut places = Vec::new();
    let in_place = call.arguments.in_place;
    let overwrites = in_place || call.arguments.overwrite.is_some();
    let paths = call.selected.snapshot.sources.iter().filter(|source| source.kind == SourceKind::Path);
    for source in paths.filter(|source| belongs(source, description)) {
        let path = PathBuf::from(OsStr::from_bytes(&source.name));
        let target = map.place(&path);
        let first = entries_below(reader, source.root, &TreePath::root())?.next().transpose();
        let first = first.map_err(anyhow::Error::from_boxed)?;
        let Some((_, entry)) = first else { continue };
        let is_there = !entry.is_directory() && is_same_file(reader, &entry, &target);
        let is_in_the_way = !is_there && !overwrites && may_write(&target, false).is_err();
        // What a restore that did not end well had filled is no reason against the next one.
        if is_in_the_way && !(entry.is_directory() && is_same_folder(call, source, &target)?) {
            found.push(Obstacle {
                what: format!("{} is there and holds something else", target.display()),
                way_out: format!(
                    "--map-path {}=OTHER    # or --overwrite always, to write over it",
                    path.display()
                ),
            });
        }
        let folder = match entry.is_directory() {
            true => target.clone(),
            false => target.parent().unwrap_or(Path::new("/")).to_owned(),
        };
        if !entry.is_directory() && path.file_name() != target.file_name() {
            bail!("{} is a file and keeps its name: it cannot become {}", path.display(), target.display());
        }
        // A file has neighbours that are nobody's business.
        let is_whole = entry.is_directory() && source.errors == 0 && !has_binds_inside(&target, members);
        let deletes = in_place && is_whole;
        let (path, bytes) = (source.name.clone(), source.bytes);
        places.push(Place { path, target, folder, is_there, bytes, deletes });
    }
    Ok(places)
}

/// Whether a folder holds what the snapshot has, and nothing else.
fn is_same_folder(call: &Call<'_>, source: &Source, folder: &Path) -> Result<bool> {
    let options = Options { dry_run: true, delete: true, ..Options::new(call.interrupted) };
    let (snapshot, path) = (&call.selected.snapshot, source.full_name());
    let report = lifeboat::restore_path(call.repository, snapshot, &path, folder, &options, &Quiet)?;
    let differing = report.files + report.symlinks + report.others + report.links + report.deleted;
    Ok(differing == 0 && report.is_exact())
}

fn is_same_file(reader: &ChunkReader, entry: &lifeboat::format::Entry, path: &Path) -> bool {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return false };
    if !metadata.is_file() || metadata.len() != entry.size() || metadata.len() > DESCRIPTION_BYTES_MAX {
        return false;
    }
    let mut stored = Vec::new();
    lifeboat::dump::file(entry, reader, &mut stored).is_ok()
        && std::fs::read(path).is_ok_and(|now| now == stored)
}
