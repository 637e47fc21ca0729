//! Compose projects, as what is restored: looked at first, then made, then started.
//!
//! Must stay true: everything that is in the way is told before anything is touched; what is made is noted first, and
//! taken back where it does not become whole; a project that is there is replaced only after a snapshot of it.

use super::containers;
use super::images;
use super::restore::Messages;
use super::select::Selected;
use super::volumes::Reach;
use crate::args::{Cli, Command, Global, RestoreArgs};
use crate::failure::{DONE, FAILED, Hinted, PARTIAL};
use crate::ui::{Ui, bytes};
use anyhow::{Context, Result, bail};
use clap::Parser;
use lifeboat::Repository;
use lifeboat::format::snapshot::{Source, SourceKind};
use lifeboat::format::{Node, TreePath};
use lifeboat::repo::reader::ChunkReader;
use lifeboat::restore::{Options, Overwrite};
use lifeboat::snapshot_source::entries_below;
use lifeboat::workload::boundary::{PathMap, may_write};
use lifeboat::workload::engine::{AnonymousVolumes, Engine, Stopping};
use lifeboat::workload::facts::Facts;
use lifeboat::workload::image;
use lifeboat::workload::project::description::{DESCRIPTION_BYTES_MAX, Description};
use lifeboat::workload::project::order::order;
use lifeboat::workload::project::plan::{Coming, Obstacle, obstacles};
use lifeboat::workload::project::rename::Renaming;
use lifeboat::workload::project::start::{Back, Outcome, settle, start};
use lifeboat::workload::project::undo::{self, ASIDE, Begun, Made, Note};
use lifeboat::workload::project::{PROJECT_FILE, SERVICE, ports};
use lifeboat::workload::recreate::carry_out::Unfinished;
use lifeboat::workload::recreate::plan::{Snapshot, Wanted, plan};
use lifeboat::workload::recreate::recorded::{Mounted, Recorded};
use lifeboat::workload::volume::target::{NotEmpty, Recorded as RecordedVolume};
use lifeboat::workload::volume::{Volumes, Way};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const PREFIX: &str = "project:";
/// How long a project that is started may take, where nothing else is asked for.
const HEALTHY_MAX: Duration = Duration::from_secs(300);

/// How long a stop waits where a container does not say: as the engine does. What it holds is in the snapshot before.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// The name that `--to` gives a project, empty for its own, if it names one.
pub(crate) fn target_name(to: &OsStr) -> Option<&str> {
    to.to_str()?.strip_prefix(PREFIX)
}

/// What a restore is given.
pub(crate) struct Call<'c> {
    pub(crate) global: &'c Global,
    pub(crate) ui: &'c Ui,
    pub(crate) repository: &'c Repository,
    pub(crate) selected: &'c Selected,
    pub(crate) arguments: &'c RestoreArgs,
    pub(crate) interrupted: &'c Arc<AtomicBool>,
}

/// One container that comes back.
struct Member<'s> {
    source: &'s Source,
    recorded: Recorded,
    facts: Facts,
    ran: bool,
}

/// Everything that is to be done, and what is in the way.
struct Work<'s> {
    description: Description,
    renaming: Renaming,
    members: Vec<Member<'s>>,
    images: Vec<(&'s Source, image::plan::Plan)>,
    /// Names now, and the sources.
    volumes: BTreeMap<String, (&'s Source, RecordedVolume)>,
    paths: Vec<Place>,
    obstacles: Vec<Obstacle>,
    remarks: Vec<String>,
    snapshot: Snapshot,
}

/// A path that goes back to the host.
struct Place {
    /// In the snapshot.
    path: Vec<u8>,
    /// What it becomes.
    target: PathBuf,
    /// The folder that is restored, or in which the file lies.
    folder: PathBuf,
    /// It is there, the same.
    is_there: bool,
}

/// Brings a project back.
pub(crate) fn restore(call: &Call<'_>, name: &str, options: &Options<'_>) -> Result<u8> {
    let Call { ui, arguments, .. } = *call;
    refuse_what_projects_cannot(arguments)?;
    let reader = ChunkReader::new(call.repository);
    let mut reach = Reach::new(&arguments.engine);
    let volumes = reach.volumes()?;
    if !arguments.dry_run {
        take_back_dead_ones(ui, volumes.engine())?;
    }
    let work = work(call, &reader, volumes, name)?;
    show(ui, &work, arguments);
    if let Some(first) = work.obstacles.first() {
        if arguments.dry_run {
            return Ok(FAILED);
        }
        let what = match work.obstacles.len() {
            1 => "something is".to_owned(),
            count => format!("{count} things are"),
        };
        bail!(Hinted::new(format!("{what} in the way; nothing was touched"), first.way_out.clone()));
    }
    if arguments.dry_run {
        return Ok(DONE);
    }
    let safety = match arguments.in_place {
        true => Some(safety_snapshot(call, &work)?),
        false => None,
    };
    let note = Note::begin(
        &lifeboat::state_directory(),
        Begun {
            version: 1,
            run: volumes.run().to_owned(),
            engine: volumes.engine().address().to_string(),
            project: work.renaming.project().to_owned(),
            snapshot: call.selected.snapshot.id.to_string(),
            safety,
            made: Vec::new(),
        },
    )?;
    let mut run = Run {
        call,
        reader: &reader,
        volumes,
        work: &work,
        note,
        phases: Vec::new(),
        is_whole: true,
        is_kept: false,
    };
    match run.carry_out(options) {
        Ok(exit) => Ok(exit),
        Err(error) => Err(run.take_back(error)),
    }
}

fn refuse_what_projects_cannot(arguments: &RestoreArgs) -> Result<()> {
    if arguments.delete || !(arguments.include.is_empty() && arguments.exclude.is_empty()) {
        bail!("a project comes back whole: --include, --exclude and --delete are for folders and volumes");
    }
    if arguments.in_place && (arguments.rename.is_some() || arguments.project_dir.is_some()) {
        bail!("--in-place replaces the project that is there; --rename and --project-dir make another one");
    }
    Ok(())
}

/// What a killed restore left is in the way of the next one.
fn take_back_dead_ones(ui: &Ui, engine: &Engine) -> Result<()> {
    let state = lifeboat::state_directory();
    for begun in undo::dead(&state).iter().filter(|begun| begun.engine == engine.address().to_string()) {
        for line in undo::undo(engine, begun)? {
            ui.notice(&format!("a dead restore of {PREFIX}{} is taken back: {line}", begun.project));
        }
        if let Some(safety) = &begun.safety {
            ui.notice(&format!(
                "before it there was: lifeboat restore {} --to project: --in-place",
                &safety[..8]
            ));
        }
        undo::forget(&state, begun);
    }
    Ok(())
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

/// One file of a source, of limited size.
fn small_file(reader: &ChunkReader, source: &Source, name: &str) -> Result<Vec<u8>> {
    let path = TreePath::from_slashes(name.as_bytes()).context("a name is a path")?;
    let entry = entries_below(reader, source.root, &path)?.next().transpose();
    let entry = entry.map_err(anyhow::Error::from_boxed)?;
    let Some((_, entry)) = entry.filter(|(found, _)| *found == path) else {
        bail!("the snapshot has no {name} for {}", String::from_utf8_lossy(&source.full_name()));
    };
    match entry.node {
        Node::File { size, .. } if size <= DESCRIPTION_BYTES_MAX => {}
        _ => bail!("{name} is no file of at most {DESCRIPTION_BYTES_MAX} bytes"),
    }
    let mut text = Vec::new();
    lifeboat::dump::file(&entry, reader, &mut text)?;
    Ok(text)
}

/// Decides everything, and looks for what is in the way.
fn work<'s>(call: &Call<'s>, reader: &ChunkReader, volumes: &Volumes, name: &str) -> Result<Work<'s>> {
    let Call { selected, arguments, .. } = *call;
    let source = project_source(selected)?;
    let description = Description::read(&small_file(reader, source, PROJECT_FILE)?)?;
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
    let stored: BTreeMap<&[u8], &Source> = selected
        .snapshot
        .sources
        .iter()
        .filter(|source| source.kind == SourceKind::Volume)
        .map(|source| (&source.name[..], source))
        .collect();
    let mut kept = BTreeMap::new();
    let named: BTreeSet<String> = members
        .iter()
        .flat_map(|member| member.recorded.volumes())
        .filter_map(|volume| if let Mounted::Named(name) = volume { Some(name) } else { None })
        .collect();
    for volume in &description.volumes {
        let now = renaming.volume(&volume.name).to_owned();
        if let (true, Some(source)) = (named.contains(&now), stored.get(volume.name.as_bytes())) {
            let mut recorded = RecordedVolume::from_detail(&source.detail);
            renaming.labels(&mut recorded.labels);
            kept.insert(now, (*source, recorded));
        }
    }
    let mut snapshot = Snapshot::default();
    snapshot.volumes.extend(stored.keys().map(|name| String::from_utf8_lossy(name).into_owned()));
    snapshot.volumes.extend(kept.keys().cloned());
    for member in &members {
        snapshot.containers.insert(member.recorded.id.clone(), member.recorded.name.clone());
    }
    let mut found = Vec::new();
    let images = image_plans(call, reader, volumes, &description, &mut found, &mut remarks)?;
    let paths = places(call, reader, &map, &mut found)?;
    let recorded: Vec<Recorded> = members.iter().map(|member| member.recorded.clone()).collect();
    let coming = Coming {
        containers: &recorded,
        volumes: &kept.iter().map(|(name, (_, recorded))| (name.clone(), recorded.clone())).collect(),
        paths: &paths.iter().map(|place| place.target.to_string_lossy().into_owned()).collect(),
        bytes: kept.values().map(|(source, _)| source.bytes).sum::<u64>()
            + images.iter().map(|(_, plan)| plan.bytes).sum::<u64>(),
        in_place: arguments.in_place,
    };
    let more = obstacles(volumes, &coming)?;
    found.extend(more);
    if description.drift.known && !description.drift.changes.is_empty() {
        remarks.push(format!("compose would have changed it then: {}", description.drift.changes.join("; ")));
    }
    Ok(Work {
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

fn path_map(arguments: &RestoreArgs, description: &Description) -> Result<PathMap> {
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
        let mut raw: Value = serde_json::from_slice(&files.container).unwrap_or_default();
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
        members.push(Member { source, recorded, facts, ran: one.ran });
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
    found: &mut Vec<Obstacle>,
) -> Result<Vec<Place>> {
    let mut places = Vec::new();
    let overwrites = call.arguments.in_place || call.arguments.overwrite.is_some();
    for source in call.selected.snapshot.sources.iter().filter(|source| source.kind == SourceKind::Path) {
        let path = PathBuf::from(OsStr::from_bytes(&source.name));
        let target = map.place(&path);
        let first = entries_below(reader, source.root, &TreePath::root())?.next().transpose();
        let first = first.map_err(anyhow::Error::from_boxed)?;
        let Some((_, entry)) = first else { continue };
        let is_there = !entry.is_directory() && is_same_file(reader, &entry, &target);
        if !is_there && !overwrites && may_write(&target, false).is_err() {
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
        places.push(Place { path: source.name.clone(), target, folder, is_there });
    }
    Ok(places)
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

/// A snapshot of what is there now.
fn safety_snapshot(call: &Call<'_>, work: &Work<'_>) -> Result<String> {
    let source = format!("{PREFIX}{}", work.renaming.project());
    let mut words = vec!["lifeboat", "snapshot", &source, "--tag", "before-restore"];
    if let Some(host) = &call.arguments.engine.docker_host {
        words.extend(["--docker-host", host]);
    }
    let Command::Snapshot(arguments) = Cli::try_parse_from(words)?.command else {
        bail!("no snapshot was made")
    };
    call.ui.say(format!("A snapshot of {source} as it is now comes first"));
    super::snapshot::run(call.global, call.ui, arguments, call.interrupted)
        .context("there is no snapshot of what is there, so nothing is replaced")?;
    let list = call.repository.snapshots()?;
    Ok(list.find("latest")?.snapshot.id.to_string())
}

/// A restore under way.
struct Run<'r> {
    call: &'r Call<'r>,
    reader: &'r ChunkReader,
    volumes: &'r Volumes,
    work: &'r Work<'r>,
    note: Note,
    phases: Vec<(&'static str, Duration)>,
    is_whole: bool,
    /// It is there, whatever becomes of it now.
    is_kept: bool,
}

impl Run<'_> {
    fn carry_out(&mut self, options: &Options<'_>) -> Result<u8> {
        let mut began = Instant::now();
        let mut phase = |run: &mut Self, name| {
            run.phases.push((name, began.elapsed()));
            began = Instant::now();
        };
        if self.call.arguments.in_place {
            self.set_aside()?;
            phase(self, "stopping");
        }
        for (source, plan) in &self.work.images {
            images::load_one(
                self.volumes.engine(),
                self.volumes.run(),
                self.reader,
                source,
                plan,
                options.interrupt,
            )?;
        }
        phase(self, "images");
        self.fill_paths(options)?;
        phase(self, "files");
        for (name, (source, recorded)) in &self.work.volumes {
            self.fill_volume(name, source, recorded, options)?;
        }
        phase(self, "volumes");
        let facts: Vec<Facts> = self.work.members.iter().map(|member| member.facts.clone()).collect();
        let places = order(&facts);
        let mut backs: Vec<Option<Back>> = vec![None; facts.len()];
        for place in &places {
            let member = &self.work.members[place.number];
            let id = self.make(member, options)?;
            backs[place.number] = Some(Back { id, name: member.recorded.name.clone(), ran: member.ran });
        }
        self.keep()?;
        phase(self, "containers");
        let backs: Vec<Back> = backs.into_iter().flatten().collect();
        let mut outcomes = Vec::new();
        if self.call.arguments.start
            || self.call.arguments.wait_healthy.is_some()
            || self.call.arguments.in_place
        {
            let limit = self.call.arguments.wait_healthy.unwrap_or(HEALTHY_MAX);
            let goes_on = |_: &str| !options.interrupt.load(Ordering::Relaxed);
            start(self.volumes.engine(), &backs, &places, limit, &goes_on)?;
            phase(self, "starting");
            outcomes = settle(self.volumes.engine(), &backs, limit, &goes_on)?;
            phase(self, "healthy");
        }
        self.write_override()?;
        let is_well = outcomes.iter().all(|outcome| outcome.trouble.is_none());
        self.report(&outcomes, &backs);
        Ok(if self.is_whole && is_well { DONE } else { PARTIAL })
    }

    fn engine(&self) -> &Engine {
        self.volumes.engine()
    }

    /// Stops what is there and gives it other names.
    fn set_aside(&mut self) -> Result<()> {
        for member in self.work.members.iter().rev() {
            let name = &member.recorded.name;
            let there = match self.engine().container(name) {
                Ok(there) if there.name == *name => there,
                Ok(_) => continue,
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error.into()),
            };
            let ran = there.state.is_running;
            self.note.add(Made::Aside { id: there.id.clone(), name: name.clone(), ran })?;
            if ran {
                self.engine().stop_container(
                    &there.id,
                    Stopping { grace: member.facts.stop_timeout.unwrap_or(STOP_GRACE) },
                )?;
            }
            let aside = format!("{ASIDE}{}-{name}", self.volumes.run());
            self.engine().rename_container(&there.id, &aside)?;
        }
        Ok(())
    }

    /// All of it is there: from here on nothing is taken back, and what was set aside goes.
    fn keep(&mut self) -> Result<()> {
        for made in &self.note.begun.made {
            if let Made::Aside { id, .. } = made {
                self.engine().remove_container(id, AnonymousVolumes::Remove)?;
            }
        }
        self.is_kept = true;
        self.note.finish();
        Ok(())
    }

    fn fill_paths(&mut self, options: &Options<'_>) -> Result<()> {
        let messages = Messages::new(self.call.ui);
        for place in self.work.paths.iter().filter(|place| !place.is_there) {
            let keeps = matches!(self.call.arguments.overwrite, Some(crate::args::OverwriteArg::Never));
            let overwrite = if keeps { Overwrite::Never } else { Overwrite::Always };
            // A folder that a container binds is replaced; a file has neighbours.
            let delete = self.call.arguments.in_place && place.folder == place.target;
            let options = Options { overwrite, delete, ..*options };
            let report = lifeboat::restore_path(
                self.call.repository,
                &self.call.selected.snapshot,
                &place.path,
                &place.folder,
                &options,
                &messages,
            )?;
            self.is_whole &= report.is_exact();
        }
        Ok(())
    }

    fn fill_volume(
        &mut self,
        name: &str,
        source: &Source,
        recorded: &RecordedVolume,
        options: &Options<'_>,
    ) -> Result<()> {
        let in_place = self.call.arguments.in_place;
        let not_empty = if in_place { NotEmpty::Write } else { NotEmpty::Refuse };
        let plan = self.volumes.plan_restore(name, recorded.clone(), not_empty)?;
        plan.notices.iter().for_each(|text| self.call.ui.notice(text));
        if plan.is_new {
            self.note.add(Made::Volume(name.to_owned()))?;
        }
        let reached = self.volumes.carry_out(&plan)?;
        let options = Options { overwrite: Overwrite::Always, delete: in_place, ..*options };
        match reached.way {
            Way::Direct(root) => {
                let messages = Messages::new(self.call.ui);
                let snapshot = &self.call.selected.snapshot;
                let path = source.full_name();
                let report = lifeboat::restore_path(
                    self.call.repository,
                    snapshot,
                    &path,
                    &root,
                    &options,
                    &messages,
                )?;
                self.is_whole &= report.is_exact();
            }
            Way::Helper { container, why } => {
                self.call.ui.notice(&format!("volume:{name} is written through the engine: {why}"));
                let base = TreePath::root();
                let (ui, repository) = (self.call.ui, self.call.repository);
                let exit =
                    super::volumes::through_engine(ui, repository, source, &base, &container, &options)?;
                self.is_whole &= exit == DONE;
            }
        }
        Ok(())
    }

    /// Makes one container; gives its id.
    fn make(&mut self, member: &Member<'_>, options: &Options<'_>) -> Result<String> {
        let engine = self.engine().clone();
        let name = member.recorded.name.clone();
        let doing = || format!("container {name} cannot be made");
        let wanted = Wanted { name: None, with_volumes: true };
        let plan = plan(&engine, &member.recorded, &self.work.snapshot, wanted).with_context(doing)?;
        plan.remarks.iter().for_each(|text| self.call.ui.notice(&format!("container {name}: {text}")));
        for network in plan.networks_made() {
            self.note.add(Made::Network(network))?;
        }
        let unfinished = Unfinished::begin(&engine, &plan, self.volumes.run()).with_context(doing)?;
        let container = unfinished.container()?;
        for (recorded, place) in &plan.anonymous {
            let now = containers::volume_at(&container, place)
                .with_context(|| format!("the engine made no volume for {place}"))?;
            let mut anew = self.call.arguments.clone();
            // It holds what the image has there.
            anew.overwrite = Some(crate::args::OverwriteArg::Always);
            let options = Options { delete: true, ..*options };
            let (ui, repository) = (self.call.ui, self.call.repository);
            let names = (recorded.as_str(), now.as_str());
            self.is_whole &=
                containers::fill_volume(ui, repository, self.call.selected, names, &anew, &options)?;
        }
        let (ui, reader) = (self.call.ui, self.reader);
        let filled = containers::fill_layer(
            ui,
            self.volumes,
            container,
            member.source,
            &member.recorded,
            reader,
            options,
        )?;
        containers::tell_layer(&filled);
        self.is_whole &= filled.is_whole();
        self.note.add(Made::Container(name.clone()))?;
        Ok(unfinished.finish(&name)?)
    }

    /// For a project of another name: what compose has to be told besides its files.
    fn write_override(&self) -> Result<()> {
        let renaming = &self.work.renaming;
        if !renaming.is_any() || self.work.description.compose_files.is_empty() {
            return Ok(());
        }
        let key = |labels: &Value, word: &str| {
            labels.get(format!("com.docker.compose.{word}")).and_then(Value::as_str).map(str::to_owned)
        };
        let (mut volumes, mut networks, mut published) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (name, (_, recorded)) in &self.work.volumes {
            if let Some(key) = recorded.labels.get("com.docker.compose.volume") {
                volumes.insert(key.clone(), name.clone());
            }
        }
        for member in &self.work.members {
            for (name, described) in member.recorded.networks() {
                if let Some(key) = key(&described["Labels"], "network") {
                    networks.insert(key, name.clone());
                }
            }
            let inner = ports::inner(member.recorded.raw());
            if let Some(service) = member.facts.label(SERVICE).filter(|_| !inner.is_empty()) {
                published.insert(service.to_owned(), inner);
            }
        }
        let first = Path::new(&self.work.description.compose_files[0]);
        let map = path_map(self.call.arguments, &self.work.description)?;
        let folder = map.place(first).parent().unwrap_or(Path::new("/")).to_owned();
        let path = folder.join(format!("lifeboat-{}.yml", renaming.project()));
        std::fs::create_dir_all(&folder)?;
        std::fs::write(&path, renaming.override_file(&volumes, &networks, &published))
            .with_context(|| format!("{} cannot be written", path.display()))?;
        let files = self
            .work
            .description
            .compose_files
            .iter()
            .map(|file| format!("-f {}", map.place(Path::new(file)).display()));
        let files: Vec<String> = files.collect();
        self.call.ui.say(format!(
            "For compose: docker compose -p {} {} -f {} up -d",
            renaming.project(),
            files.join(" "),
            path.display()
        ));
        Ok(())
    }

    fn report(&self, outcomes: &[Outcome], backs: &[Back]) {
        let ui = self.call.ui;
        let renaming = &self.work.renaming;
        if ui.json {
            let phases: serde_json::Map<String, Value> = self
                .phases
                .iter()
                .map(|(name, time)| ((*name).to_owned(), json!(time.as_secs_f64())))
                .collect();
            let containers = backs.iter().map(|back| {
                let outcome = outcomes.iter().find(|outcome| outcome.name == back.name);
                json!({
                    "name": back.name, "id": back.id, "started": outcome.is_some(),
                    "trouble": outcome.and_then(|outcome| outcome.trouble.clone()),
                })
            });
            ui.emit(
                "summary",
                json!({
                    "project": renaming.project(), "containers": containers.collect::<Vec<_>>(),
                    "volumes": self.work.volumes.keys().collect::<Vec<_>>(), "seconds": phases,
                    "safety": self.note.begun.safety, "whole": self.is_whole, "remarks": self.work.remarks,
                }),
            );
            return;
        }
        let total: Duration = self.phases.iter().map(|(_, time)| *time).sum();
        let phases: Vec<String> =
            self.phases.iter().map(|(name, time)| format!("{name} {:.1}", time.as_secs_f64())).collect();
        ui.say(format!(
            "Brought back project {}: {} containers, {} volumes, in {:.1} s ({})",
            renaming.project(),
            backs.len(),
            self.work.volumes.len(),
            total.as_secs_f64(),
            phases.join(", ")
        ));
        if let Some(safety) = &self.note.begun.safety {
            ui.say(format!(
                "What was there before: lifeboat restore {} --to project: --in-place",
                &safety[..8]
            ));
        }
        for outcome in outcomes {
            match &outcome.trouble {
                None => {}
                Some(why) => eprintln!("Warning: container {} is not well: {why}", outcome.name),
            }
        }
    }

    /// Takes back what was made; gives the error that made it necessary.
    fn take_back(self, error: anyhow::Error) -> anyhow::Error {
        let ui = self.call.ui;
        if self.is_kept {
            let name = self.work.renaming.project();
            let hint = format!("docker ps --all --filter label=com.docker.compose.project={name}");
            return error.context(Hinted::new("the project is there, and not all of it runs", hint));
        }
        let state = lifeboat::state_directory();
        let begun = self.note.begun.clone();
        match undo::undo(self.volumes.engine(), &begun) {
            Ok(done) => {
                done.iter().for_each(|line| ui.notice(&format!("taken back: {line}")));
                undo::forget(&state, &begun);
            }
            Err(undoing) => {
                ui.notice(&format!(
                    "what was made could not all be taken back: {undoing}; `lifeboat recover` tries again"
                ));
            }
        }
        match &begun.safety {
            Some(safety) => error.context(Hinted::new(
                "the project is stopped, and its volumes may be half restored",
                format!(
                    "lifeboat restore {} --to project: --in-place    # what was there before",
                    &safety[..8]
                ),
            )),
            None => error,
        }
    }
}

fn show(ui: &Ui, work: &Work<'_>, arguments: &RestoreArgs) {
    let name = work.renaming.project();
    let containers: Vec<&str> = work.members.iter().map(|member| member.recorded.name.as_str()).collect();
    let loaded: Vec<String> = work
        .images
        .iter()
        .filter(|(_, plan)| plan.present.is_none())
        .map(|(source, plan)| format!("{} ({})", String::from_utf8_lossy(&source.name), bytes(plan.bytes)))
        .collect();
    let volumes: Vec<&String> = work.volumes.keys().collect();
    let paths: Vec<String> = work
        .paths
        .iter()
        .filter(|place| !place.is_there)
        .map(|place| place.target.display().to_string())
        .collect();
    if ui.json {
        let obstacles = work.obstacles.iter().map(|one| json!({"what": one.what, "way_out": one.way_out}));
        let shown = work.members.iter().map(|member| {
            json!({
                "container": member.recorded.name, "image": member.recorded.image_name,
                "environment": member.recorded.environment(), "asks_for": member.recorded.powers(),
            })
        });
        ui.emit(
            "plan",
            json!({
                "project": name, "containers": shown.collect::<Vec<_>>(), "images": loaded, "volumes": volumes,
                "paths": paths, "obstacles": obstacles.collect::<Vec<_>>(), "remarks": work.remarks,
                "drift": work.description.drift,
            }),
        );
        return;
    }
    if arguments.dry_run {
        ui.say(format!("Would bring back project {name}"));
        for (what, list) in [
            ("images that are loaded", loaded.join(", ")),
            ("files and folders", paths.join(", ")),
            ("volumes", volumes.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")),
            ("containers, in this order", containers.join(", ")),
        ] {
            if !list.is_empty() {
                ui.say(format!("  {what}: {list}"));
            }
        }
    }
    for remark in &work.remarks {
        ui.notice(remark);
    }
    for obstacle in &work.obstacles {
        eprintln!("In the way: {}\n    {}", obstacle.what, obstacle.way_out);
    }
}
