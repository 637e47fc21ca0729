//! Volumes of a container engine, as what is backed up and as what is restored into.

use super::select::Selected;
use crate::args::{EngineArgs, OverwriteArg, RestoreArgs};
use crate::failure::{DONE, Hinted, PARTIAL};
use crate::ui::{Ui, bytes};
use anyhow::{Context, Result, bail};
use lifeboat::Repository;
use lifeboat::backup::SourceSpec;
use lifeboat::format::TreePath;
use lifeboat::format::snapshot::{Source, SourceKind};
use lifeboat::repo::reader::ChunkReader;
use lifeboat::repo::snapshots::pick_source;
use lifeboat::restore::{EntryResult, Options};
use lifeboat::snapshot_source::entries_below;
use lifeboat::workload::engine::Engine;
use lifeboat::workload::volume::helper_container::HelperContainer;
use lifeboat::workload::volume::leftovers::Run;
use lifeboat::workload::volume::target::{NotEmpty, Recorded};
use lifeboat::workload::volume::{Error, ReachedVolume, Volumes, Way, sending};
use serde_json::json;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

/// What a volume is called on the command line.
pub(super) const PREFIX: &str = "volume:";

/// The volumes of the engine that the arguments name, asked for when the first is needed.
pub(crate) struct Reach<'a> {
    arguments: &'a EngineArgs,
    volumes: Option<(Volumes, Run)>,
}

impl<'a> Reach<'a> {
    pub(crate) fn new(arguments: &'a EngineArgs) -> Self {
        Self { arguments, volumes: None }
    }

    /// The engine's volumes.
    pub(super) fn volumes(&mut self) -> Result<&Volumes> {
        if self.volumes.is_none() {
            let engine = Engine::connect(self.arguments.docker_host.as_deref())?;
            let run = Run::begin(&lifeboat::state_directory())?;
            self.volumes = Some((Volumes::new(&engine, run.name())?, run));
        }
        self.volumes.as_ref().map(|(volumes, _)| volumes).context("an engine was just connected")
    }

    /// A source by its name, if it is a volume's; a volume that is not there is the inner error.
    pub(crate) fn source(&mut self, name: &str, ui: &Ui) -> Result<Option<Result<SourceSpec, Error>>> {
        let Some(volume) = name.strip_prefix(PREFIX) else { return Ok(None) };
        let volumes = self.volumes()?;
        match volumes.to_read(volume) {
            Ok(reached) => {
                reached.notice().iter().for_each(|text| ui.notice(text));
                let writers = volumes.writers(volume)?;
                if !writers.is_empty() {
                    ui.notice(&format!(
                        "{name} may change while it is read: {} is running; for one moment of all files, `docker pause` \
                         or `docker stop` it meanwhile",
                        writers.join(", ")
                    ));
                }
                Ok(Some(Ok(reached.into_source())))
            }
            Err(error) if error.is_missing() => Ok(Some(Err(error))),
            Err(error) => Err(error.into()),
        }
    }
}

/// The name of the volume that `--to` names, if it names one.
pub(crate) fn target_name(to: &OsStr) -> Option<&str> {
    to.to_str()?.strip_prefix(PREFIX)
}

/// Where a restore into a volume goes on.
pub(crate) enum Into {
    /// As a restore into this folder.
    Folder(PathBuf),
    /// It is done.
    Done(u8),
}

/// Restores into a volume, or makes it ready to be restored into on disk.
pub(crate) fn restore(
    ui: &Ui,
    repository: &Repository,
    selected: &mut Selected,
    name: &str,
    arguments: &RestoreArgs,
    options: &Options<'_>,
) -> Result<Into> {
    let path = only_source(selected)?;
    selected.path = Some(path.clone());
    let (source, base) = pick_source(&selected.snapshot, &path)?;
    let recorded = match source.kind {
        SourceKind::Volume => Recorded::from_detail(&source.detail),
        _ => Recorded::default(),
    };
    let mut reach = Reach::new(&arguments.engine);
    let volumes = reach.volumes()?;
    let not_empty = if arguments.overwrite.is_some() { NotEmpty::Write } else { NotEmpty::Refuse };
    let plan = volumes.plan_restore(name, recorded, not_empty)?;
    plan.notices.iter().for_each(|text| ui.notice(text));
    if plan.is_new && arguments.dry_run {
        ui.say(format!("Would make volume {name} and restore {} entries into it", source.root.entries));
        return Ok(Into::Done(DONE));
    }
    let ReachedVolume { way, .. } = volumes.carry_out(&plan)?;
    if plan.is_new {
        ui.say(format!("Made volume {name}"));
    }
    match way {
        Way::Direct(root) => Ok(Into::Folder(root)),
        Way::Helper { container, why } => {
            ui.notice(&format!("volume:{name} is written through the engine: {why}"));
            refuse_what_engines_cannot(arguments)?;
            let exit = through_engine(ui, repository, source, &base, &container, options)?;
            Ok(Into::Done(exit))
        }
    }
}

/// The source that is meant where none is named: the only one.
fn only_source(selected: &Selected) -> Result<Vec<u8>> {
    match (&selected.path, &selected.snapshot.sources[..]) {
        (Some(path), _) => Ok(path.clone()),
        (None, [source]) => Ok(source.full_name()),
        (None, _) => bail!(Hinted::new(
            "the snapshot has several sources: say which of them goes into the volume",
            format!(
                "lifeboat restore {}:volume:NAME --to volume:NAME",
                &selected.snapshot.id.to_string()[..8]
            ),
        )),
    }
}

fn refuse_what_engines_cannot(arguments: &RestoreArgs) -> Result<()> {
    if arguments.delete {
        bail!("--delete needs a volume on this machine's disk: an engine cannot delete files in a volume");
    }
    if arguments.dry_run {
        bail!("--dry-run needs a volume on this machine's disk: an engine cannot say what it would write");
    }
    if let Some(OverwriteArg::IfChanged | OverwriteArg::Never) = arguments.overwrite {
        bail!("an engine overwrites whatever is there: only `--overwrite always` is possible");
    }
    Ok(())
}

pub(super) fn through_engine(
    ui: &Ui,
    repository: &Repository,
    source: &Source,
    base: &TreePath,
    container: &HelperContainer,
    options: &Options<'_>,
) -> Result<u8> {
    let reader = ChunkReader::new(repository);
    let entries = || -> Result<_> {
        let all = entries_below(&reader, source.root, base)?;
        Ok(all.filter(|entry| is_wanted(entry, options)).map(|entry| {
            match options.interrupt.load(Ordering::Relaxed) {
                true => Err(Box::new(lifeboat::repo::Error::Interrupted) as _),
                false => entry,
            }
        }))
    };
    sending::send(container, entries()?, base, &reader)?;
    let look = sending::look(container.archive(0)?, &mut entries()?, base, &reader)?;
    look.described.iter().for_each(|text| eprintln!("Warning: {text}"));
    let is_whole = look.different == 0 && look.sockets == 0;
    if ui.json {
        ui.emit(
            "summary",
            json!({
                "files_restored": look.equal, "bytes_restored": look.bytes, "files_failed": look.different,
                "sockets": look.sockets, "files_verified": look.equal, "through_engine": true,
            }),
        );
    } else {
        ui.say(format!(
            "Restored {} entries, {}; all were read back and compared",
            look.equal,
            bytes(look.bytes)
        ));
        if look.sockets > 0 {
            eprintln!("Warning: {} sockets could not be restored: an engine takes none", look.sockets);
        }
        if look.different > 0 {
            eprintln!("Warning: {} entries are missing or different in the volume", look.different);
        }
    }
    Ok(if is_whole { DONE } else { PARTIAL })
}

fn is_wanted(entry: &EntryResult, options: &Options<'_>) -> bool {
    match (entry, options.filter) {
        (Ok((path, entry)), Some(filter)) => path.is_root() || filter(path, entry.is_directory()),
        _ => true,
    }
}
