//! `lifeboat snapshot`.

use super::projects;
use super::services::{self, Services};
use super::sources::{named, sources};
use super::volumes::Reach;
use crate::access;
use crate::args::{Global, Kind, SnapshotArgs};
use crate::failure::{DONE, PARTIAL};
use crate::ui::{Status, Ui, bytes};
use anyhow::{Context, Result};
use lifeboat::backup::{self, Counters, Options, Outcome, SourceSpec};
use lifeboat::format::snapshot::SnapshotKind;
use lifeboat::source::walk::Walk;
use serde_json::json;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// Takes a snapshot.
pub(crate) fn run(
    global: &Global,
    ui: &Ui,
    arguments: SnapshotArgs,
    interrupted: &Arc<AtomicBool>,
) -> Result<u8> {
    let began = Instant::now();
    let mut options = options(&arguments)?;
    options.excludes.folders = own_folders(global, &arguments, ui)?;
    let options = options;
    // It says that this run lives for as long as its sources may have helpers on an engine.
    let mut reach = Reach::new(&arguments.engine);
    let named = named(&arguments)?;
    if projects::is_host(&named) {
        return projects::snapshot_host(global, ui, &arguments, &named, interrupted);
    }
    let repository = access::open(global)?;
    let projects = projects::expand(named, &mut reach, ui)?;
    let named = projects.named;
    services::refuse_own(&named, &mut reach, global)?;
    let mut services = Services::find(&named, &arguments, &mut reach, global, (ui, interrupted))?;
    if let Some(services) = &mut services {
        services.wait_ready(&arguments, &mut reach, ui, interrupted)?;
    }
    let (mut specs, missing) = sources(named, &arguments, &mut reach, services.as_mut(), ui)?;
    specs.extend(projects.specs);
    let (specs, missing) = (specs, missing + projects.missing);
    let capture = match (&services, arguments.dry_run) {
        (None, _) => None,
        (Some(services), true) => {
            services.tell_plan(ui, global)?;
            None
        }
        (Some(services), false) => Some(services.begin(global, ui)?),
    };
    if !arguments.dry_run {
        // Left-overs cost room, nothing else: failing to remove them is no reason not to back up.
        match lifeboat::remove_stale(&access::location(global)?) {
            Ok(0) | Err(_) => {}
            Ok(freed) => ui.notice(&format!("removed {} that killed runs had left unfinished", bytes(freed))),
        }
    }
    let counters = Counters::new(interrupted.clone());
    let totals = Totals::default();
    let messages = Messages(ui);
    let status = || Status {
        bytes_done: counters.bytes_done.load(Ordering::Relaxed),
        bytes_total: totals.get(&totals.bytes),
        files_done: counters.files_done(),
        files_total: totals.get(&totals.files),
        errors: counters.errors(),
    };
    let outcome = std::thread::scope(|scope| {
        if totals.are_wanted(ui) {
            scope.spawn(|| totals.scan(&specs, &options));
        }
        let outcome = ui.with_progress(&status, || match (&capture, arguments.dry_run) {
            (_, true) => backup::dry_run(&repository, &specs, &options, &counters, &messages),
            (None, false) => backup::backup(&repository, &specs, &options, &counters, &messages),
            (Some(capture), false) => {
                backup::backup_quiesced(&repository, &specs, &options, &counters, &messages, capture)
            }
        });
        totals.stop.store(true, Ordering::Relaxed);
        outcome
    });
    ui.tell_set_back(&repository);
    // Whatever came of it, the services go on and get what they are owed.
    let ended = capture.map(|capture| services::end(capture, ui));
    let outcome = outcome?;
    report(ui, &outcome, began, arguments.dry_run);
    if !arguments.dry_run {
        super::images::tell_shares(ui, &repository, &outcome.snapshot.sources);
    }
    let are_services_well = ended.transpose()?.unwrap_or(true) && outcome.snapshot.unhealthy.is_empty();
    let errors = outcome.snapshot.errors() + outcome.sources_failed + missing;
    if errors == 0 {
        return Ok(if outcome.silent_changes == 0 && are_services_well { DONE } else { PARTIAL });
    }
    if !ui.json {
        let plural = if errors == 1 { "" } else { "s" };
        eprintln!("Warning: {errors} item{plural} could not be read; everything else is stored");
    }
    Ok(PARTIAL)
}

/// The repository and the cache grow by being backed up; as parts of a source they are left out.
fn own_folders(global: &Global, arguments: &SnapshotArgs, ui: &Ui) -> Result<Vec<PathBuf>> {
    let own: Vec<PathBuf> = [Some(PathBuf::from(access::location(global)?)), access::cache(global)]
        .into_iter()
        .flatten()
        .filter_map(|path| std::fs::canonicalize(path).ok())
        .collect();
    let sources: Vec<PathBuf> =
        arguments.sources.iter().filter_map(|path| std::fs::canonicalize(path).ok()).collect();
    for path in
        own.iter().filter(|path| sources.iter().any(|source| path.starts_with(source) && *path != source))
    {
        ui.notice(&format!("{} is left out: it is lifeboat's own", path.display()));
    }
    Ok(own)
}

fn options(arguments: &SnapshotArgs) -> Result<Options> {
    let mut options = lifeboat::backup_options(&lifeboat::state_directory());
    options.kind = match arguments.kind {
        Kind::Full => SnapshotKind::Full,
        Kind::Incremental => SnapshotKind::Incremental,
        Kind::Differential => SnapshotKind::Differential,
    };
    options.tags = arguments.tag.clone();
    if let Some(host) = &arguments.host {
        options.host = host.clone();
    }
    options.compression_level = arguments.compression;
    if let Some(threads) = arguments.threads {
        options.threads = threads;
    }
    options.comparison.ignore_inode = arguments.ignore_inode;
    options.comparison.ignore_ctime = arguments.ignore_ctime;
    let excludes = &mut options.excludes;
    excludes.patterns = arguments.exclude.clone();
    for file in &arguments.exclude_file {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
        excludes.patterns.extend(text.lines().map(str::to_owned));
    }
    excludes.patterns_any_case = arguments.iexclude.clone();
    excludes.caches = arguments.exclude_caches;
    excludes.if_present = arguments.exclude_if_present.clone();
    excludes.larger_than = arguments.exclude_larger_than;
    excludes.one_file_system = arguments.one_file_system;
    excludes.compile().map_err(anyhow::Error::msg)?;
    Ok(options)
}

/// Counts what there is, beside the backup, so that the remaining time can be told.
#[derive(Default)]
struct Totals {
    files: AtomicU64,
    bytes: AtomicU64,
    finished: AtomicBool,
    stop: AtomicBool,
}

impl Totals {
    fn are_wanted(&self, ui: &Ui) -> bool {
        use std::io::IsTerminal;
        std::io::stderr().is_terminal() && !ui.quiet && !ui.json
    }

    fn get(&self, count: &AtomicU64) -> Option<u64> {
        self.finished.load(Ordering::Relaxed).then(|| count.load(Ordering::Relaxed))
    }

    fn scan(&self, specs: &[SourceSpec], options: &Options) {
        for spec in specs {
            let SourceSpec::Path(path) = spec else { return };
            let Ok(excludes) = options.excludes.compile() else { return };
            let Ok(walk) = Walk::new(path, excludes) else { return };
            for met in walk.flatten() {
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
                self.files.fetch_add(1, Ordering::Relaxed);
                if met.status.kind == rustix::fs::FileType::RegularFile {
                    self.bytes.fetch_add(met.status.size, Ordering::Relaxed);
                }
            }
        }
        self.finished.store(true, Ordering::Relaxed);
    }
}

struct Messages<'u>(&'u Ui);

impl backup::Progress for Messages<'_> {
    fn unreadable(&self, path: &OsStr, detail: &str) {
        self.0.trouble(path, "archival", detail);
    }

    fn notice(&self, text: &str) {
        self.0.notice(text);
    }

    fn silent_change(&self, path: &OsStr) {
        let text = "its content changed under unchanged size and times: silent corruption, or tampering";
        self.0.trouble(path, "comparison", text);
    }
}

fn report(ui: &Ui, outcome: &Outcome, began: Instant, dry_run: bool) {
    let snapshot = &outcome.snapshot;
    let figures = &snapshot.statistics;
    let seconds = began.elapsed().as_secs_f64();
    if ui.json {
        let mut value = super::browse::figures(snapshot);
        value["total_duration"] = json!(seconds);
        value["error_count"] = json!(snapshot.errors() + outcome.sources_failed);
        value["files_vanished"] = json!(outcome.vanished);
        value["files_silently_changed"] = json!(outcome.silent_changes);
        value["files_torn"] = json!(outcome.torn);
        if !snapshot.consistency.is_empty() {
            value["consistency"] = super::browse::json_or_text(&snapshot.consistency);
            value["unhealthy"] = json!(snapshot.unhealthy);
        }
        value["dry_run"] = json!(dry_run);
        if !dry_run {
            value["snapshot_id"] = json!(snapshot.id.to_string());
        }
        ui.emit("summary", value);
        return;
    }
    let total = figures.total_files_processed;
    ui.say(format!(
        "Files:       {:>9} new, {:>9} changed, {:>9} unmodified",
        figures.files_new, figures.files_changed, figures.files_unmodified
    ));
    ui.say(format!(
        "Directories: {:>9} new, {:>9} changed, {:>9} unmodified",
        figures.dirs_new, figures.dirs_changed, figures.dirs_unmodified
    ));
    ui.say(format!("Processed {total} files, {} in {seconds:.1} s", bytes(figures.total_bytes_processed)));
    if dry_run {
        ui.say("Nothing was stored: this was a dry run");
        return;
    }
    ui.say(format!(
        "Added {} of new data, {} stored",
        bytes(figures.data_added),
        bytes(figures.data_added_packed)
    ));
    for source in &snapshot.sources {
        if source.parent.is_none() && snapshot.sources.len() == 1 && ui.verbose > 0 {
            ui.say("There was no earlier snapshot of this source: everything was read");
        }
    }
    ui.say(format!("Snapshot {} saved", &snapshot.id.to_string()[..8]));
}
