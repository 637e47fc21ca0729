//! Containers of a container engine, as what is restored into.

pub(super) mod making;

use super::select::Selected;
use super::stored::small_file;
use super::volumes::Reach;
use crate::args::RestoreArgs;
use crate::failure::{DONE, Hinted, PARTIAL};
use crate::ui::Ui;
use anyhow::{Context, Result, bail};
use lifeboat::Repository;
use lifeboat::format::snapshot::{Source, SourceKind};
use lifeboat::repo::reader::ChunkReader;
use lifeboat::repo::snapshots::pick_source;
use lifeboat::restore::Options;
use lifeboat::workload::layer::{CONTAINER_FILE, IMAGE_FILE, LAYER_FILE, NETWORKS_FILE};
use lifeboat::workload::recreate::plan::{Plan, Snapshot, Wanted, plan};
use lifeboat::workload::recreate::recorded::{DESCRIPTION_BYTES_MAX, Files, Recorded};
use making::{Made, Making, fill_volume};
use serde_json::{Value, json};
use std::ffi::OsStr;

/// What a container is called on the command line.
const PREFIX: &str = "container:";

/// The name that `--to` gives a container, empty for its own, if it names one.
pub(crate) fn target_name(to: &OsStr) -> Option<&str> {
    to.to_str()?.strip_prefix(PREFIX)
}

/// Makes a container as it was.
pub(crate) fn restore(
    ui: &Ui,
    repository: &Repository,
    selected: &Selected,
    name: &str,
    arguments: &RestoreArgs,
    options: &Options<'_>,
) -> Result<u8> {
    refuse_what_containers_cannot(arguments)?;
    let source = container_source(selected)?;
    let reader = ChunkReader::new(repository);
    let recorded = Recorded::read(&files(&reader, source)?)?;
    let mut reach = Reach::new(&arguments.engine);
    let volumes = reach.volumes()?;
    let engine = volumes.engine().clone();
    let wanted =
        Wanted { name: Some(name).filter(|name| !name.is_empty()), with_volumes: arguments.with_volumes };
    let plan = plan(&engine, &recorded, &snapshot(&reader, selected), wanted)?;
    if arguments.dry_run {
        show(ui, &plan, &recorded, source);
        return Ok(DONE);
    }
    plan.remarks.iter().for_each(|text| ui.notice(text));
    let mut is_whole = true;
    for volume in &plan.volumes {
        is_whole &= fill_volume(ui, repository, selected, (volume, volume), arguments, options)?;
    }
    let making = Making {
        ui,
        repository,
        selected,
        arguments,
        volumes,
        reader: &reader,
        source,
        recorded: &recorded,
        options,
    };
    let made = making.make(&plan, || Ok(()))?;
    is_whole &= made.is_whole;
    if arguments.start {
        let hint = format!("docker start {}    # when what keeps it from starting is gone", plan.name);
        engine
            .start_container(&made.id)
            .context(Hinted::new("the container is there, and does not start", hint))?;
    }
    report(ui, &plan, &made, arguments.start);
    Ok(if is_whole && made.filled.is_whole() { DONE } else { PARTIAL })
}

fn refuse_what_containers_cannot(arguments: &RestoreArgs) -> Result<()> {
    if arguments.delete || arguments.overwrite.is_some() {
        bail!("--delete and --overwrite have no meaning for a container: it is made anew, never changed");
    }
    if !(arguments.include.is_empty() && arguments.exclude.is_empty()) {
        bail!("a container is made whole: --include and --exclude are for folders and volumes");
    }
    Ok(())
}

/// The source that is named, or the only container of the snapshot.
fn container_source(selected: &Selected) -> Result<&Source> {
    let snapshot = &selected.snapshot;
    let id = &snapshot.id.to_string()[..8];
    let hint = format!("lifeboat restore {id}:container:NAME --to container:");
    let source = match &selected.path {
        Some(path) => {
            let (source, inner) = pick_source(snapshot, path)?;
            (source.kind == SourceKind::Container && inner.is_root()).then_some(source)
        }
        None => {
            let mut all = snapshot.sources.iter().filter(|source| source.kind == SourceKind::Container);
            let first = all.next();
            if all.next().is_some() {
                bail!(Hinted::new("the snapshot has several containers: say which", hint));
            }
            first
        }
    };
    source.with_context(|| Hinted::new("that is no container of the snapshot", hint))
}

/// The descriptions in a container's source.
pub(super) fn files(reader: &ChunkReader, source: &Source) -> Result<Files> {
    let container = file(reader, source, CONTAINER_FILE)?.unwrap_or_default();
    Ok(Files {
        container,
        image: file(reader, source, IMAGE_FILE)?,
        networks: file(reader, source, NETWORKS_FILE)?,
        layer: file(reader, source, LAYER_FILE)?,
    })
}

fn file(reader: &ChunkReader, source: &Source, name: &str) -> Result<Option<Vec<u8>>> {
    small_file(reader, source, name, DESCRIPTION_BYTES_MAX)
}

/// What else the snapshot has. What cannot be read of another container is nobody's loss here.
fn snapshot(reader: &ChunkReader, selected: &Selected) -> Snapshot {
    let mut found = Snapshot::default();
    for source in &selected.snapshot.sources {
        let name = String::from_utf8_lossy(&source.name).into_owned();
        match source.kind {
            SourceKind::Volume => _ = found.volumes.insert(name),
            SourceKind::Container => {
                let bytes = file(reader, source, CONTAINER_FILE).ok().flatten().unwrap_or_default();
                let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
                if let Some(id) = value.get("Id").and_then(Value::as_str) {
                    found.containers.insert(id.to_owned(), name);
                }
            }
            _ => {}
        }
    }
    found
}

fn show(ui: &Ui, plan: &Plan, recorded: &Recorded, source: &Source) {
    let shown = plan.shown(recorded);
    if ui.json {
        ui.emit("summary", json!({"dry_run": true, "plan": shown}));
        return;
    }
    ui.say(format!("Would make container {} from {}", plan.name, plan.image));
    let names = |field: &str| {
        let list = shown[field].as_array().into_iter().flatten().filter_map(Value::as_str);
        list.collect::<Vec<_>>().join(", ")
    };
    for (field, what) in [
        ("environment", "environment, values not shown"),
        ("asks_for", "asks for"),
        ("networks_made", "networks that are made"),
        ("volumes_restored", "volumes that are restored"),
        ("anonymous_volumes_restored", "anonymous volumes that are restored"),
    ] {
        let names = names(field);
        if !names.is_empty() {
            ui.say(format!("  {what}: {names}"));
        }
    }
    if recorded.layer_way.is_some() {
        ui.say(format!("  its writable layer, of at most {} entries", source.root.entries));
    }
    plan.remarks.iter().for_each(|remark| ui.say(format!("  note: {remark}")));
}

fn report(ui: &Ui, plan: &Plan, made: &Made, is_started: bool) {
    let filled = &made.filled;
    if ui.json {
        ui.emit(
            "summary",
            json!({
                "container": plan.name, "id": made.id, "image": made.image, "started": is_started, "remarks": plan.remarks,
                "networks_made": plan.networks_made(), "files_restored": filled.restored,
                "files_failed": filled.failed, "sockets": filled.sockets,
                "files_deleted": filled.deleted, "files_not_deleted": filled.not_deleted,
            }),
        );
    } else {
        let verb = if is_started { "Made and started" } else { "Made" };
        ui.say(format!("{verb} container {}, {} entries of its writable layer", plan.name, filled.restored));
    }
    made.tell(ui, &plan.name);
}
