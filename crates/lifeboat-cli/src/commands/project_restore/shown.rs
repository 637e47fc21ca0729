//! What is said of a project that comes back: the plan before, the figures after, and what compose has to be told.

use super::run::Run;
use super::work::{Work, path_map};
use crate::args::RestoreArgs;
use crate::ui::{Ui, bytes};
use anyhow::{Context, Result};
use lifeboat::workload::project::override_file::{Made, override_file};
use lifeboat::workload::project::start::{Back, Outcome};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

impl Run<'_> {
    /// For a project of another name: what compose has to be told besides its files.
    pub(super) fn write_override(&self) -> Result<()> {
        let (renaming, description) = (&self.work.renaming, &self.work.description);
        if !renaming.is_any() || description.compose_files.is_empty() {
            return Ok(());
        }
        let volumes = self.work.volumes.iter();
        let volumes = volumes.map(|(name, (_, recorded))| (name.clone(), recorded.labels.clone())).collect();
        let made = self.work.members.iter().map(|member| Made {
            then: &member.then,
            now: member.recorded.raw(),
            networks: member.recorded.networks(),
        });
        let made: Vec<Made<'_>> = made.collect();
        let map = path_map(self.call.arguments, description)?;
        let place = |path: &str| map.place(Path::new(path)).display().to_string();
        let first = map.place(Path::new(&description.compose_files[0]));
        let folder = first.parent().unwrap_or(Path::new("/")).to_owned();
        let path = folder.join(format!("lifeboat-{}.yml", renaming.project()));
        std::fs::create_dir_all(&folder)?;
        std::fs::write(&path, override_file(description, renaming, &volumes, &made))
            .with_context(|| format!("{} cannot be written", path.display()))?;
        let mut words = vec![format!("docker compose -p {}", renaming.project())];
        // Relative paths in its files begin there.
        let project_folder = place(&description.folder);
        if Path::new(&project_folder) != folder {
            words.push(format!("--project-directory {project_folder}"));
        }
        words.extend(description.environment_files.iter().map(|file| format!("--env-file {}", place(file))));
        words.extend(description.compose_files.iter().map(|file| format!("-f {}", place(file))));
        self.call.ui.say(format!("For compose: {} -f {} up -d", words.join(" "), path.display()));
        Ok(())
    }

    pub(super) fn report(&self, outcomes: &[Outcome], backs: &[Back]) {
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
                safety.get(..8).unwrap_or(safety)
            ));
        }
        for outcome in outcomes {
            match &outcome.trouble {
                None => {}
                Some(why) => eprintln!("Warning: container {} is not well: {why}", outcome.name),
            }
        }
    }
}

pub(super) fn show(ui: &Ui, work: &Work<'_>, arguments: &RestoreArgs) {
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
