//! One container, from its plan to its name: its anonymous volumes and its writable layer on the way.

use crate::args::{OverwriteArg, RestoreArgs};
use crate::commands::restore::{Messages, is_exact};
use crate::commands::select::Selected;
use crate::commands::volumes::{self, Into};
use crate::failure::DONE;
use crate::ui::Ui;
use anyhow::{Context, Result};
use lifeboat::Repository;
use lifeboat::format::TreePath;
use lifeboat::format::snapshot::Source;
use lifeboat::repo::reader::ChunkReader;
use lifeboat::restore::Options;
use lifeboat::snapshot_source::entries_below;
use lifeboat::workload::engine::views::Container;
use lifeboat::workload::layer::LAYER_FOLDER;
use lifeboat::workload::recreate::Error;
use lifeboat::workload::recreate::carry_out::{Layer, Unfinished};
use lifeboat::workload::recreate::layer::{Filled, Listed, fill};
use lifeboat::workload::recreate::plan::Plan;
use lifeboat::workload::recreate::recorded::Recorded;
use lifeboat::workload::volume::Volumes;

/// What it takes to make a container of a snapshot.
pub(in crate::commands) struct Making<'m> {
    pub(in crate::commands) ui: &'m Ui,
    pub(in crate::commands) repository: &'m Repository,
    pub(in crate::commands) selected: &'m Selected,
    pub(in crate::commands) arguments: &'m RestoreArgs,
    pub(in crate::commands) volumes: &'m Volumes,
    pub(in crate::commands) reader: &'m ChunkReader,
    pub(in crate::commands) source: &'m Source,
    pub(in crate::commands) recorded: &'m Recorded,
    pub(in crate::commands) options: &'m Options<'m>,
}

/// One that was made.
pub(in crate::commands) struct Made {
    pub(in crate::commands) id: String,
    /// The image that was made for it, where something of its own had been deleted.
    pub(in crate::commands) image: Option<String>,
    pub(in crate::commands) filled: Filled,
    /// Whether all of its volumes came back.
    pub(in crate::commands) is_whole: bool,
}

impl Making<'_> {
    /// Makes it; `is_named` is called before it gets its name.
    pub(in crate::commands) fn make(
        &self,
        plan: &Plan,
        is_named: impl FnOnce() -> Result<()>,
    ) -> Result<Made> {
        let base = TreePath::from_slashes(LAYER_FOLDER.as_bytes()).context("a name is a path")?;
        let entries = || self.entries(&base);
        let is_there = entries_below(self.reader, self.source.root, &base)?.next().is_some();
        let layer = Layer { entries: &entries, reader: self.reader };
        let layer = (self.recorded.layer_way.is_some() && is_there).then_some(&layer);
        let (unfinished, reached) = Unfinished::begin(self.volumes, plan, layer)?;
        let is_whole = self.fill_anonymous(plan, &unfinished.container()?)?;
        let filled = match reached {
            Some(reached) => fill(
                self.volumes.engine(),
                reached,
                &entries,
                self.reader,
                self.options,
                &Messages::new(self.ui),
            )?,
            None => Filled::default(),
        };
        let image = unfinished.derived().map(str::to_owned);
        is_named()?;
        Ok(Made { id: unfinished.finish(&plan.name)?, image, filled, is_whole })
    }

    fn entries(&self, base: &TreePath) -> Result<Listed<'_>, Error> {
        let all = entries_below(self.reader, self.source.root, base);
        Ok(Box::new(all.map_err(|error| Error::Content(Box::new(error)))?))
    }

    fn fill_anonymous(&self, plan: &Plan, container: &Container) -> Result<bool> {
        let mut is_whole = true;
        for (recorded, place) in &plan.anonymous {
            let now = volume_at(container, place)
                .with_context(|| format!("the engine made no volume for {place}"))?;
            let mut anew = self.arguments.clone();
            // It holds what the image has there.
            anew.overwrite = Some(OverwriteArg::Always);
            let options = Options { delete: true, ..*self.options };
            let names = (recorded.as_str(), now.as_str());
            is_whole &= fill_volume(self.ui, self.repository, self.selected, names, &anew, &options)?;
        }
        Ok(is_whole)
    }
}

impl Made {
    /// Says what of the writable layer of the container of this name did not come back, and what it took.
    pub(in crate::commands) fn tell(&self, ui: &Ui, name: &str) {
        let filled = &self.filled;
        if let Some(image) = &self.image {
            ui.notice(&format!(
                "container {name}: it is made of {image}: its image without what had been deleted of it"
            ));
        }
        filled.described.iter().for_each(|text| eprintln!("Warning: container {name}: {text}"));
        if filled.not_deleted > 0 {
            let count = filled.not_deleted;
            eprintln!(
                "Warning: container {name}: {count} deletions could not be made: the image's files are there again"
            );
        }
        if filled.failed > 0 {
            let count = filled.failed;
            eprintln!(
                "Warning: container {name}: {count} entries of the writable layer are missing or different"
            );
        }
        if filled.sockets > 0 {
            let count = filled.sockets;
            eprintln!(
                "Warning: container {name}: {count} sockets could not be restored: an engine takes none"
            );
        }
    }
}

/// Restores a volume of the snapshot into one of the engine; whether all of it is there.
pub(in crate::commands) fn fill_volume(
    ui: &Ui,
    repository: &Repository,
    selected: &Selected,
    (recorded, now): (&str, &str),
    arguments: &RestoreArgs,
    options: &Options<'_>,
) -> Result<bool> {
    let path = format!("volume:{recorded}").into_bytes();
    let mut one = Selected { snapshot: selected.snapshot.clone(), path: Some(path.clone()) };
    match volumes::restore(ui, repository, &mut one, now, arguments, options)? {
        Into::Done(exit) => Ok(exit == DONE),
        Into::Folder(folder) => {
            let messages = Messages::new(ui);
            let report =
                lifeboat::restore_path(repository, &one.snapshot, &path, &folder, options, &messages)?;
            ui.say(format!("Restored volume {now}"));
            is_exact(&report, &format!("volume {now}"))
        }
    }
}

/// The volume that a container mounts at a path.
fn volume_at(container: &Container, place: &str) -> Option<String> {
    let mut volumes = container.mounts.iter().filter(|mount| mount.kind == "volume");
    volumes.find(|mount| mount.destination == place).map(|mount| mount.name.clone())
}
