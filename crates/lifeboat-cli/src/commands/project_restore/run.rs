//! Bringing a project back: what is there is set aside, everything is made, then started.

use super::Call;
use super::work::{Member, Work};
use crate::args::OverwriteArg;
use crate::commands::containers::making::Making;
use crate::commands::restore::{Messages, is_exact};
use crate::commands::{images, volumes};
use crate::failure::{DONE, Hinted, PARTIAL};
use anyhow::{Context, Result};
use lifeboat::format::TreePath;
use lifeboat::format::snapshot::Source;
use lifeboat::repo::reader::ChunkReader;
use lifeboat::restore::{Options, Overwrite};
use lifeboat::workload::engine::{Engine, Stopping};
use lifeboat::workload::project::loading::Loading;
use lifeboat::workload::project::start::{Back, settle, start};
use lifeboat::workload::project::undo::{self, ASIDE, Made, Note};
use lifeboat::workload::recreate::plan::{Snapshot, Wanted, plan};
use lifeboat::workload::volume::target::{NotEmpty, Recorded as RecordedVolume};
use lifeboat::workload::volume::{Volumes, Way};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a project that is started may take, where nothing else is asked for.
const HEALTHY_MAX: Duration = Duration::from_secs(300);

/// A restore under way.
pub(super) struct Run<'r> {
    pub(super) call: &'r Call<'r>,
    pub(super) reader: &'r ChunkReader,
    pub(super) volumes: &'r Volumes,
    pub(super) work: &'r Work<'r>,
    /// What is in the snapshot, and what its images are here.
    pub(super) snapshot: Snapshot,
    /// Containers that are as in the snapshot, by name: their ids.
    pub(super) stays: BTreeMap<String, String>,
    pub(super) note: Note,
    pub(super) phases: Vec<(&'static str, Duration)>,
    pub(super) is_whole: bool,
    /// Nothing is left of what was there before.
    pub(super) is_tidy: bool,
}

impl Run<'_> {
    pub(super) fn carry_out(&mut self, options: &Options<'_>) -> Result<u8> {
        let mut began = Instant::now();
        let mut phase = |run: &mut Self, name| {
            run.phases.push((name, began.elapsed()));
            began = Instant::now();
        };
        if self.call.arguments.in_place {
            self.set_aside()?;
            phase(self, "stopping");
        }
        if let Some(loading) = Loading::of(self.engine(), self.work.images.iter().map(|(_, plan)| plan))? {
            self.note.add(Made::Images(loading))?;
        }
        let (engine, run) = (self.volumes.engine(), self.volumes.run());
        for loaded in images::load_all(engine, run, self.reader, &self.work.images, options.interrupt)? {
            images::tell_lost_names(self.call.ui, &loaded);
            self.snapshot.images.insert(loaded.recorded_id, loaded.id);
        }
        phase(self, "images");
        if self.call.arguments.in_place {
            self.note.add(Made::Overwriting)?;
        }
        self.fill_paths(options)?;
        phase(self, "files");
        for (name, (source, recorded)) in &self.work.volumes {
            self.fill_volume(name, source, recorded, options)?;
        }
        phase(self, "volumes");
        let places = &self.work.order;
        let mut backs: Vec<Option<Back>> = vec![None; places.len()];
        for place in places {
            let member = &self.work.members[place.number];
            let id = match self.stays.get(&member.recorded.name) {
                Some(id) => id.clone(),
                None => self.make(member, options)?,
            };
            backs[place.number] = Some(Back { id, name: member.recorded.name.clone(), ran: member.ran });
        }
        let backs: Vec<Back> = backs.into_iter().flatten().collect();
        let arguments = self.call.arguments;
        let starts = arguments.start || arguments.wait_healthy.is_some() || arguments.in_place;
        let starting = places.iter().map(|place| &backs[place.number]).filter(|back| starts && back.ran);
        self.keep(starting.map(|back| back.id.clone()).collect())?;
        phase(self, "containers");
        let mut outcomes = Vec::new();
        if starts {
            let limit = self.call.arguments.wait_healthy.unwrap_or(HEALTHY_MAX);
            let goes_on = |_: &str| !options.interrupt.load(Ordering::Relaxed);
            start(self.volumes.engine(), &backs, places, limit, &goes_on)?;
            self.forget();
            phase(self, "starting");
            outcomes = settle(self.volumes.engine(), &backs, limit, &goes_on)?;
            phase(self, "healthy");
        }
        self.forget();
        self.write_override()?;
        let is_well = outcomes.iter().all(|outcome| outcome.trouble.is_none());
        self.report(&outcomes, &backs);
        Ok(if self.is_whole && is_well { DONE } else { PARTIAL })
    }

    fn engine(&self) -> &Engine {
        self.volumes.engine()
    }

    /// Stops what is there, and gives other names to what is made anew.
    fn set_aside(&mut self) -> Result<()> {
        for member in self.work.members.iter().rev() {
            let name = &member.recorded.name;
            let there = match self.engine().container(name) {
                Ok(there) if there.name == *name => there,
                Ok(_) => continue,
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error.into()),
            };
            let (ran, id) = (there.state.is_running, there.id.clone());
            let stays = self.stays.get(name) == Some(&id);
            self.note.add(match stays {
                true => Made::Stopped { id, name: name.clone(), ran },
                false => Made::Aside { id, name: name.clone(), ran },
            })?;
            if ran {
                let grace = undo::stop_grace(&there);
                self.engine().stop_container(&there.id, Stopping { grace })?;
            }
            if !stays {
                let aside = format!("{ASIDE}{}-{name}", self.volumes.run());
                self.engine().rename_container(&there.id, &aside)?;
            }
        }
        Ok(())
    }

    /// All of it is there: from here on nothing is taken back, what was set aside goes, and these are started.
    fn keep(&mut self, starting: Vec<String>) -> Result<()> {
        self.note.is_whole(starting)?;
        match undo::remove_aside(self.engine(), &self.note.begun, &mut Vec::new()) {
            Ok(()) => self.is_tidy = true,
            Err(error) => self.call.ui.notice(&format!(
                "what was there before could not be removed: {error}; `lifeboat recover` tries again"
            )),
        }
        Ok(())
    }

    /// Nobody has to go on with it.
    fn forget(&self) {
        if self.is_tidy {
            self.note.finish();
        }
    }

    fn fill_paths(&mut self, options: &Options<'_>) -> Result<()> {
        let messages = Messages::new(self.call.ui);
        for place in self.work.paths.iter().filter(|place| !place.is_there) {
            let keeps = matches!(self.call.arguments.overwrite, Some(OverwriteArg::Never));
            let overwrite = if keeps { Overwrite::Never } else { Overwrite::Always };
            let options = Options { overwrite, delete: place.deletes, ..*options };
            let report = lifeboat::restore_path(
                self.call.repository,
                &self.call.selected.snapshot,
                &place.path,
                &place.folder,
                &options,
                &messages,
            )?;
            self.is_whole &= is_exact(&report, &place.target.display().to_string())?;
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
        // What could not be read then may well be what is there now.
        let delete = in_place && source.errors == 0;
        let options = Options { overwrite: Overwrite::Always, delete, ..*options };
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
                self.is_whole &= is_exact(&report, &format!("volume {name}"))?;
            }
            Way::Helper { container, why } => {
                self.call.ui.notice(&format!("volume:{name} is written through the engine: {why}"));
                let base = TreePath::root();
                let (ui, repository) = (self.call.ui, self.call.repository);
                let exit = volumes::through_engine(ui, repository, source, &base, &container, &options)?;
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
        let plan = plan(&engine, &member.recorded, &self.snapshot, wanted).with_context(doing)?;
        plan.remarks.iter().for_each(|text| self.call.ui.notice(&format!("container {name}: {text}")));
        for network in plan.networks_made() {
            self.note.add(Made::Network(network))?;
        }
        let making = Making {
            ui: self.call.ui,
            repository: self.call.repository,
            selected: self.call.selected,
            arguments: self.call.arguments,
            volumes: self.volumes,
            reader: self.reader,
            source: member.source,
            recorded: &member.recorded,
            options,
        };
        let note = &mut self.note;
        let is_named = || Ok(note.add(Made::Container(name.clone()))?);
        let made = making.make(&plan, is_named).with_context(doing)?;
        made.tell(self.call.ui, &name);
        self.is_whole &= made.is_whole && made.filled.is_whole();
        Ok(made.id)
    }

    /// Takes back what was made; gives the error that made it necessary.
    pub(super) fn take_back(self, error: anyhow::Error) -> anyhow::Error {
        let ui = self.call.ui;
        // Whatever becomes of it now, it is there.
        if self.note.begun.whole {
            self.forget();
            let name = self.work.renaming.project();
            let hint = format!("docker ps --all --filter label=com.docker.compose.project={name}");
            return error.context(Hinted::new("the project is there, and not all of it runs", hint));
        }
        let state = lifeboat::state_directory();
        let begun = self.note.begun.clone();
        match undo::undo(self.volumes.engine(), &begun) {
            Ok(done) => {
                done.iter().for_each(|line| ui.notice(&format!("taken back: {line}")));
                if let Err(error) = undo::settle(&state, &begun) {
                    ui.notice(&format!("{error}"));
                }
            }
            Err(undoing) => {
                ui.notice(&format!(
                    "what was made could not all be taken back: {undoing}; `lifeboat recover` tries again"
                ));
            }
        }
        match begun.way_back() {
            Some(_) => error.context(Hinted::new(
                "the project is stopped, and its volumes may be half restored",
                "lifeboat recover    # brings back what was there before",
            )),
            None => error,
        }
    }
}
