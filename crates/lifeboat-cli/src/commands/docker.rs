//! `lifeboat docker ls`.

use crate::access;
use crate::args::{DockerCommand, Global};
use crate::failure::DONE;
use crate::ui::{self, Ui, bytes, escape};
use anyhow::Result;
use lifeboat::format::Timestamp;
use lifeboat::format::snapshot::SourceKind;
use lifeboat::workload::engine::Engine;
use lifeboat::workload::engine::views::State;
use lifeboat::workload::inventory::{ContainerItem, Inventory, VolumeItem};
use serde_json::{Value, json};
use std::collections::HashMap;

/// Looks at an engine.
pub(crate) fn run(global: &Global, ui: &Ui, command: &DockerCommand) -> Result<u8> {
    let DockerCommand::Ls { policy, engine } = command;
    let policy = super::policy::read(policy)?;
    let engine = Engine::connect(engine.docker_host.as_deref())?;
    let inventory = Inventory::take(&engine, &policy)?;
    let names = inventory.containers.iter().map(|item| item.container.name.as_str());
    super::policy::tell_unused(ui, &policy.unused(names));
    let last = last_snapshots(global)?;
    match ui.json {
        true => emit(ui, &engine, &inventory, &last),
        false => print(ui, &engine, &inventory, &last),
    }
    Ok(DONE)
}

/// The newest snapshot of each volume and container. Without a repository there is none to know.
struct LastSnapshots(Option<HashMap<SourceKey, (Timestamp, String)>>);

/// Kind and name.
type SourceKey = (SourceKind, Vec<u8>);

fn last_snapshots(global: &Global) -> Result<LastSnapshots> {
    if global.repo.is_none() && global.repository_file.is_none() {
        return Ok(LastSnapshots(None));
    }
    let mut found: HashMap<_, (Timestamp, String)> = HashMap::new();
    for listed in access::open(global)?.snapshots()?.snapshots {
        let snapshot = &listed.snapshot;
        // What was taken while a service was unhealthy is not a good last one.
        for source in snapshot.sources.iter().filter(|_| snapshot.unhealthy.is_empty()) {
            let entry = (snapshot.started, snapshot.id.to_string());
            let place = found.entry((source.kind, source.name.clone())).or_insert_with(|| entry.clone());
            if place.0 < entry.0 {
                *place = entry;
            }
        }
    }
    Ok(LastSnapshots(Some(found)))
}

impl LastSnapshots {
    fn of(&self, kind: SourceKind, name: &str) -> Option<&(Timestamp, String)> {
        self.0.as_ref()?.get(&(kind, name.as_bytes().to_vec()))
    }

    fn words(&self, kind: SourceKind, name: &str) -> String {
        match (&self.0, self.of(kind, name)) {
            (None, _) => "?".to_owned(),
            (Some(_), None) => "never".to_owned(),
            (Some(_), Some((time, _))) => ui::time(*time),
        }
    }

    fn json(&self, kind: SourceKind, name: &str) -> Value {
        match self.of(kind, name) {
            None => Value::Null,
            Some((time, id)) => json!({"id": id, "time": ui::rfc3339(*time)}),
        }
    }
}

fn emit(ui: &Ui, engine: &Engine, inventory: &Inventory, last: &LastSnapshots) {
    let info = &inventory.info;
    let value = json!({
        "address": engine.address().to_string(), "id": info.id, "name": info.name,
        "version": engine.version().engine, "api": engine.api().to_string(), "driver": info.driver,
    });
    ui.emit("engine", value);
    for item in &inventory.volumes {
        let volume = &item.volume;
        let value = json!({
            "name": volume.name, "driver": volume.driver, "labels": volume.labels, "bytes": item.bytes,
            "containers": item.users, "anonymous": volume.is_anonymous(), "remarks": item.remarks,
            "last_snapshot": last.json(SourceKind::Volume, &volume.name),
        });
        ui.emit("volume", value);
    }
    for item in &inventory.containers {
        let container = &item.container;
        let value = json!({
            "id": container.id, "name": container.name, "image": container.image,
            "status": container.state.status,
            "health": container.state.health.as_ref().map(|health| health.status.as_str()),
            "remarks": item.remarks,
            "last_snapshot": last.json(SourceKind::Container, &container.name),
        });
        ui.emit("container", value);
    }
}

fn print(ui: &Ui, engine: &Engine, inventory: &Inventory, last: &LastSnapshots) {
    ui.say(format!(
        "Engine {} (API {}, {}) at {}",
        engine.version().engine,
        engine.api(),
        inventory.info.driver,
        engine.address()
    ));
    let volumes = inventory.volumes.iter().map(|item| volume_row(item, last));
    table(ui, ["Volume", "Driver", "Size", "Last snapshot", "Used by"], volumes);
    let containers = inventory.containers.iter().map(|item| container_row(item, last));
    table(ui, ["Container", "State", "", "Last snapshot", "Image"], containers);
    if last.0.is_none() {
        ui.notice("no repository is named, so last snapshots are not known; use -r");
    }
}

/// Cells, and what to say below them.
type Row<'i> = ([String; 5], &'i [String]);

fn volume_row<'i>(item: &'i VolumeItem, last: &LastSnapshots) -> Row<'i> {
    let volume = &item.volume;
    let users = if item.users.is_empty() { "-".to_owned() } else { item.users.join(", ") };
    let cells = [
        volume.name.clone(),
        volume.driver.clone(),
        item.bytes.map_or_else(|| "?".to_owned(), bytes),
        last.words(SourceKind::Volume, &volume.name),
        users,
    ];
    (cells, &item.remarks)
}

fn container_row<'i>(item: &'i ContainerItem, last: &LastSnapshots) -> Row<'i> {
    let container = &item.container;
    let cells = [
        container.name.clone(),
        state_words(&container.state),
        String::new(),
        last.words(SourceKind::Container, &container.name),
        container.image.clone(),
    ];
    (cells, &item.remarks)
}

fn state_words(state: &State) -> String {
    match &state.health {
        Some(health) => format!("{}, {}", state.status, health.status),
        None => state.status.clone(),
    }
}

/// Columns as wide as their widest cell; below each row what there is to say about it.
fn table<'i>(ui: &Ui, heads: [&str; 5], rows: impl Iterator<Item = Row<'i>>) {
    let rows: Vec<_> =
        rows.map(|(cells, remarks)| (cells.map(|cell| escape(cell.as_bytes())), remarks)).collect();
    if rows.is_empty() {
        ui.say(format!("No {}s", heads[0].to_lowercase()));
        return;
    }
    let width = |column: usize| {
        let cells = rows.iter().map(|(cells, _)| cells[column].chars().count());
        cells.chain([heads[column].len()]).max().unwrap_or_default()
    };
    let widths = [width(0), width(1), width(2), width(3)];
    let line = |cells: [&str; 5]| {
        let mut text = String::new();
        for (cell, width) in cells.iter().zip(widths).filter(|(_, width)| *width > 0) {
            text.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(cells[4]);
        text.trim_end().to_owned()
    };
    ui.result(line(heads));
    for (cells, remarks) in &rows {
        ui.result(line(cells.each_ref().map(String::as_str)));
        remarks.iter().for_each(|remark| ui.result(format!("  {}", escape(remark.as_bytes()))));
    }
}
