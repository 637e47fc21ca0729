//! `lifeboat snapshot`.

use super::services::{self, Services};
use super::volumes::Reach;
use crate::access;
use crate::args::{Global, Kind, SnapshotArgs};
use crate::failure::{DONE, Hinted, PARTIAL};
use crate::ui::{Status, Ui, bytes};
use anyhow::{Context, Result, bail};
use lifeboat::backup::{self, ArchiveSpec, Counters, Options, Outcome, SourceSpec};
use lifeboat::format::snapshot::{SnapshotKind, SourceKind};
use lifeboat::source::walk::Walk;
use serde_json::json;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
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
    let repository = access::open(global)?;
    let mut services = Services::find(&named, &arguments, &mut reach, global, ui)?;
    if let Some(services) = &mut services {
        services.wait_ready(&arguments, ui, interrupted)?;
    }
    let (specs, missing) = sources(named, &arguments, &mut reach, services.as_mut(), ui)?;
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
    // Whatever came of it, the services go on and get what they are owed.
    let ended = capture.map(|capture| services::end(capture, ui));
    let outcome = outcome?;
    report(ui, &outcome, began, arguments.dry_run);
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

/// What was named.
fn named(arguments: &SnapshotArgs) -> Result<Vec<OsString>> {
    let mut named: Vec<OsString> = arguments.sources.clone();
    for file in &arguments.files_from {
        let text = match file.as_os_str() == "-" {
            true => std::io::read_to_string(std::io::stdin()).map(String::into_bytes),
            false => std::fs::read(file),
        };
        let text = text.with_context(|| format!("{} cannot be read", file.display()))?;
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && line[0] != b'#');
        named.extend(lines.map(|line| OsString::from_vec(line.to_vec())));
    }
    if named.is_empty() {
        bail!(Hinted::new(
            "there is nothing to back up",
            "lifeboat snapshot /srv/app    # or container:NAME, volume:NAME, stdin:NAME, tar:FILE, command:NAME -- COMMAND"
        ));
    }
    Ok(named)
}

/// What to back up, and how many of the named things are not there.
fn sources(
    named: Vec<OsString>,
    arguments: &SnapshotArgs,
    reach: &mut Reach<'_>,
    services: Option<&mut Services>,
    ui: &Ui,
) -> Result<(Vec<SourceSpec>, u64)> {
    let mut specs: Vec<SourceSpec> = Vec::new();
    let mut missing = 0;
    let has_services = services.is_some();
    if let Some(services) = services {
        (specs, missing) = services.sources(reach, ui)?;
    }
    for name in named {
        if has_services && services::is_theirs(&name) {
            continue;
        }
        let found = match reach.source(&name.to_string_lossy(), ui)? {
            Some(volume) => volume.map_err(anyhow::Error::new),
            None => source(&name, arguments)?.map_err(anyhow::Error::new),
        };
        match found {
            Ok(spec) if specs.contains(&spec) => {}
            Ok(spec) => specs.push(spec),
            Err(error) => {
                missing += 1;
                ui.trouble(&name, "scan", &error.to_string());
            }
        }
    }
    let takes_command = specs.iter().any(|spec| matches!(spec, SourceSpec::Command(..)));
    if !arguments.command.is_empty() && !takes_command {
        bail!(Hinted::new(
            "there is a command behind `--`, but no source takes it",
            "lifeboat snapshot command:NAME -- COMMAND"
        ));
    }
    if specs.is_empty() {
        let text = "none of the sources can be read; no snapshot was made";
        if arguments.sources.iter().any(|name| name.as_bytes().starts_with(b"volume:")) {
            bail!(Hinted::new(text, "lifeboat docker ls    # the volumes that this engine has"));
        }
        bail!(text);
    }
    Ok((without_nested(specs, ui), missing))
}

fn source(name: &OsStr, arguments: &SnapshotArgs) -> Result<std::io::Result<SourceSpec>> {
    let text = name.to_string_lossy();
    if let Some(name) = text.strip_prefix("stdin:") {
        return Ok(Ok(SourceSpec::Stdin(checked_name(name)?)));
    }
    if let Some(name) = text.strip_prefix("command:") {
        if arguments.command.is_empty() {
            bail!(Hinted::new(
                format!("command:{name} has no command"),
                format!("lifeboat snapshot command:{name} -- pg_dump app")
            ));
        }
        return Ok(Ok(SourceSpec::Command(checked_name(name)?, arguments.command.clone())));
    }
    if let Some(file) = name.as_bytes().strip_prefix(b"tar:") {
        return Ok(archive(OsStr::from_bytes(file)));
    }
    let stated = name.as_bytes().strip_prefix(b"path:").map(OsStr::from_bytes);
    match std::fs::canonicalize(stated.unwrap_or(name)) {
        Err(error) if error.kind() == ErrorKind::NotFound && stated.is_none() => no_path(&text, error),
        found => Ok(found.map(SourceSpec::Path)),
    }
}

/// What was meant by a name that is no path: perhaps a kind of source.
fn no_path(name: &str, error: std::io::Error) -> Result<std::io::Result<SourceSpec>> {
    match name.split_once(':') {
        Some((kind @ ("image" | "project" | "host" | "etcd"), _)) => bail!(Hinted::new(
            format!("{name}: this version has no sources of the kind `{kind}`, and no file has that name"),
            "lifeboat snapshot container:NAME    # for each container that `lifeboat docker ls` shows"
        )),
        Some((kind, _)) if !kind.contains('/') => Ok(Err(std::io::Error::new(
            error.kind(),
            format!("{error}; kinds of sources are path:, container:, volume:, tar:, stdin: and command:"),
        ))),
        _ => Ok(Err(error)),
    }
}

/// A tar archive is known by its file's name; `-` is standard input.
fn archive(file: &OsStr) -> std::io::Result<SourceSpec> {
    let open = |path: PathBuf| {
        move || -> std::io::Result<Box<dyn Read + Send>> {
            match path.as_os_str() == "-" {
                true => Ok(Box::new(std::io::stdin())),
                false => Ok(Box::new(File::open(&path)?)),
            }
        }
    };
    let path = if file == "-" { PathBuf::from(file) } else { std::fs::canonicalize(file)? };
    let name = path.file_name().unwrap_or(file).to_string_lossy().into_owned();
    Ok(SourceSpec::Archive(ArchiveSpec::new(SourceKind::Tar, name, open(path))))
}

fn checked_name(name: &str) -> Result<String> {
    if name.is_empty() || name.contains(['/', '\0', '\n']) {
        bail!("`{name}` is no name for a stream: use letters, digits, dots and dashes");
    }
    Ok(name.to_owned())
}

/// A path as a source, and whether parts of it are left out for its own reasons.
fn path_of(spec: &SourceSpec) -> Option<(&Path, bool)> {
    match spec {
        SourceSpec::Path(path) => Some((path, false)),
        SourceSpec::Tree(tree) if tree.kind == SourceKind::Path => {
            tree.folders.first().map(|folder| (folder.root.as_path(), !folder.excludes.is_empty()))
        }
        _ => None,
    }
}

/// A source inside another one is in the snapshot already.
fn without_nested(specs: Vec<SourceSpec>, ui: &Ui) -> Vec<SourceSpec> {
    let paths: Vec<(PathBuf, bool, bool)> = specs
        .iter()
        .filter_map(|spec| {
            let (path, has_gaps) = path_of(spec)?;
            Some((path.to_owned(), has_gaps, matches!(spec, SourceSpec::Tree(_))))
        })
        .collect();
    let is_left_out = |spec: &SourceSpec| {
        let Some((path, _)) = path_of(spec) else { return false };
        // What containers say of a path is kept.
        let is_twice = matches!(spec, SourceSpec::Path(_))
            && paths.iter().any(|(other, has_gaps, is_tree)| other == path && *is_tree && !has_gaps);
        let outer =
            paths.iter().find(|(other, has_gaps, _)| other != path && path.starts_with(other) && !has_gaps);
        if let Some((outer, ..)) = outer {
            ui.notice(&format!("{} is part of {}", path.display(), outer.display()));
        }
        is_twice || outer.is_some()
    };
    let left_out: Vec<bool> = specs.iter().map(is_left_out).collect();
    specs.into_iter().zip(left_out).filter_map(|(spec, left_out)| (!left_out).then_some(spec)).collect()
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
