//! `lifeboat restore`.

use super::containers;
use super::images;
use super::places;
use super::project_restore;
use super::select::{Selected, full_path, select};
use super::volumes::{self, Into};
use crate::access;
use crate::args::{Global, OverwriteArg, RestoreArgs};
use crate::failure::{DONE, Hinted, PARTIAL};
use crate::ui::{Status, Ui, bytes};
use anyhow::{Context, Result, bail};
use lifeboat::Repository;
use lifeboat::format::TreePath;
use lifeboat::format::snapshot::SourceKind;
use lifeboat::repo::reader::ChunkReader;
use lifeboat::restore::{self, Options, Overwrite, Problem, ProblemKind, Report};
use lifeboat::source::exclude::{ExcludeSet, Excludes};
use serde_json::json;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// Restores.
pub(crate) fn run(
    global: &Global,
    ui: &Ui,
    arguments: &RestoreArgs,
    interrupted: &Arc<AtomicBool>,
) -> Result<u8> {
    let began = Instant::now();
    let rules = |patterns: &[String]| -> Result<ExcludeSet> {
        Excludes { patterns: patterns.to_vec(), ..Excludes::default() }.compile().map_err(anyhow::Error::msg)
    };
    let (include, exclude) = (rules(&arguments.include)?, rules(&arguments.exclude)?);
    let repository = access::open(global)?;
    let mut selected = select(&repository, &arguments.snapshot)?;
    let ways = match arguments.include.is_empty() {
        true => HashSet::new(),
        false => ways_to(&repository, &selected, &include)?,
    };
    let takes = |path: &TreePath, is_directory: bool| {
        let included =
            arguments.include.is_empty() || ways.contains(path) || includes(&include, path, is_directory);
        included && !exclude.matches(path, is_directory, 0)
    };
    if arguments.to.as_os_str() == "-" {
        return to_stdout(ui, &repository, &selected, arguments, &takes);
    }
    let mut options = Options::new(interrupted);
    options.overwrite = match arguments.overwrite {
        None | Some(OverwriteArg::Always) => Overwrite::Always,
        Some(OverwriteArg::IfChanged) => Overwrite::IfChanged,
        Some(OverwriteArg::Never) => Overwrite::Never,
    };
    (options.delete, options.dry_run, options.verify) =
        (arguments.delete, arguments.dry_run, arguments.verify);
    if !(arguments.include.is_empty() && arguments.exclude.is_empty()) {
        options.filter = Some(&takes);
    }
    let unread: u64 = selected.sources()?.iter().map(|(source, _)| source.errors).sum();
    if options.delete && unread > 0 {
        // What could not be read then may well be what is there now.
        options.delete = false;
        ui.notice(&format!(
            "nothing is deleted: {unread} items could not be read when the snapshot was taken"
        ));
    }
    let places = places::of(&repository, &selected, arguments)?;
    if let Some(name) = containers::target_name(arguments.to.as_os_str()) {
        return containers::restore(ui, &repository, &selected, name, arguments, &options);
    }
    if let Some(name) = project_restore::target_name(arguments.to.as_os_str()) {
        let call = project_restore::Call {
            global,
            ui,
            repository: &repository,
            selected: &selected,
            arguments,
            interrupted,
        };
        return project_restore::restore(&call, name, &options);
    }
    if arguments.rename.is_some()
        || arguments.in_place
        || arguments.project_dir.is_some()
        || arguments.wait_healthy.is_some()
    {
        bail!("--rename, --in-place, --project-dir and --wait-healthy are for projects: `--to project:`");
    }
    if let Some(name) = images::target_name(arguments.to.as_os_str()) {
        return images::restore(ui, &repository, &selected, name, arguments, &options);
    }
    if arguments.with_volumes || arguments.start {
        bail!("--with-volumes and --start are for containers: `--to container:`");
    }
    let target = match volumes::target_name(arguments.to.as_os_str()) {
        None => arguments.to.clone(),
        Some(name) => match volumes::restore(ui, &repository, &mut selected, name, arguments, &options)? {
            Into::Folder(folder) => folder,
            Into::Done(exit) => return Ok(exit),
        },
    };
    let selected = selected;
    let messages = Messages::new(ui);
    let sources = selected.sources()?;
    let status = || Status {
        bytes_done: messages.bytes.load(Ordering::Relaxed),
        bytes_total: selected.path.is_none().then(|| sources.iter().map(|(source, _)| source.bytes).sum()),
        files_done: messages.entries.load(Ordering::Relaxed),
        files_total: selected
            .path
            .is_none()
            .then(|| sources.iter().map(|(source, _)| source.root.entries).sum()),
        errors: messages.problems.load(Ordering::Relaxed),
    };
    let report = ui.with_progress(&status, || match (&selected.path, &places) {
        (_, Some(places)) => {
            lifeboat::restore_places(&repository, &selected.snapshot, places, &options, &messages)
        }
        (Some(path), None) => {
            lifeboat::restore_path(&repository, &selected.snapshot, path, &target, &options, &messages)
        }
        (None, None) => {
            lifeboat::restore_snapshot(&repository, &selected.snapshot, &target, &options, &messages)
        }
    })?;
    repository.take_notices().iter().for_each(|text| ui.notice(text));
    ui.tell_set_back(&repository);
    print(ui, &report, arguments, began);
    let kept_back = arguments.delete && unread > 0;
    Ok(if report.is_exact() && !kept_back { DONE } else { PARTIAL })
}

/// Writes what is restored to standard output, as a tar archive.
fn to_stdout(
    ui: &Ui,
    repository: &Repository,
    selected: &Selected,
    arguments: &RestoreArgs,
    takes: &dyn Fn(&TreePath, bool) -> bool,
) -> Result<u8> {
    if arguments.delete || arguments.dry_run || arguments.verify {
        bail!("--delete, --dry-run and --verify have no meaning for a stream (`--to -`)");
    }
    let sources = selected.sources()?;
    let [(source, base)] = &sources[..] else {
        bail!(Hinted::new(
            "the snapshot has several sources, and a stream takes one",
            format!("lifeboat restore {}:PATH --to - | tar -x", arguments.snapshot.to_string_lossy())
        ));
    };
    if source.kind == SourceKind::Image && base.is_root() {
        images::to_stdout(repository, source)?;
        return Ok(DONE);
    }
    let reader = ChunkReader::new(repository);
    let mut passed: Option<TreePath> = None;
    let entries = lifeboat::snapshot_source::entries_below(&reader, source.root, base)?;
    let mut entries = entries
        .filter(|entry| {
            let Ok((path, entry)) = entry else { return true };
            if passed.as_ref().is_some_and(|passed| path.starts_with(passed)) {
                return false;
            }
            let is_taken = path == base || takes(path, entry.is_directory());
            passed = (!is_taken && entry.is_directory()).then(|| path.clone());
            is_taken
        })
        .peekable();
    if entries.peek().is_none() {
        bail!("the snapshot has nothing at `{}`", crate::ui::escape(&full_path(source, base)));
    }
    let mut output = BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
    let left_out = lifeboat::dump::tar(entries, base, &reader, &mut output)
        .and_then(|left_out| Ok(output.flush().map(|()| left_out)?))
        .context("the archive cannot be written")?;
    repository.take_notices().iter().for_each(|text| ui.notice(text));
    if left_out > 0 {
        eprintln!("Warning: {left_out} sockets are left out: an archive cannot hold them");
        return Ok(PARTIAL);
    }
    Ok(DONE)
}

/// An entry is included by its own name or by any directory above it.
fn includes(rules: &ExcludeSet, path: &TreePath, is_directory: bool) -> bool {
    let mut ancestor = path.parent();
    let mut found = rules.matches(path, is_directory, 0);
    while let Some(directory) = ancestor.filter(|_| !found) {
        found = !directory.is_root() && rules.matches(&directory, true, 0);
        ancestor = directory.parent();
    }
    found
}

/// The directories that lead to what is included: no others are touched.
fn ways_to(repository: &Repository, selected: &Selected, rules: &ExcludeSet) -> Result<HashSet<TreePath>> {
    let reader = ChunkReader::new(repository);
    let mut ways = HashSet::new();
    for (source, base) in selected.sources()? {
        for entry in lifeboat::snapshot_source::entries_below(&reader, source.root, &base)? {
            let (path, entry) = entry.map_err(anyhow::Error::from_boxed)?;
            if !path.is_root() && includes(rules, &path, entry.is_directory()) {
                let mut ancestor = path.parent();
                while let Some(directory) = ancestor {
                    ancestor = directory.parent();
                    if !ways.insert(directory) {
                        break;
                    }
                }
            }
        }
    }
    if ways.is_empty() {
        bail!(Hinted::new(
            "nothing in the snapshot matches --include",
            "lifeboat find PATTERN    # relative to the source"
        ));
    }
    Ok(ways)
}

pub(super) struct Messages<'u> {
    ui: &'u Ui,
    entries: AtomicU64,
    bytes: AtomicU64,
    problems: AtomicU64,
}

impl<'u> Messages<'u> {
    pub(super) fn new(ui: &'u Ui) -> Self {
        Self { ui, entries: AtomicU64::new(0), bytes: AtomicU64::new(0), problems: AtomicU64::new(0) }
    }
}

impl restore::Progress for Messages<'_> {
    fn advanced(&self, entries: u64, bytes: u64) {
        self.entries.fetch_add(entries, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn problem(&self, problem: &Problem) {
        /// A whole tree restored by an ordinary user has one for every file; the summary counts them all.
        const SHOWN_MAX: u64 = 20;
        let number = self.problems.fetch_add(1, Ordering::Relaxed);
        if number < SHOWN_MAX || self.ui.verbose > 0 || self.ui.json {
            let path = if problem.path.is_root() { b".".to_vec() } else { problem.path.to_slashes() };
            let detail = format!("{}: {}", problem.kind.phrase(), problem.detail);
            self.ui.trouble(OsStr::from_bytes(&path), "restore", &detail);
        } else if number == SHOWN_MAX {
            self.ui.notice("further problems are only counted; use -v to see them all");
        }
    }
}

/// Whether all of something is there. Where there was no room for all of it, it is not to be used, which is an error.
pub(super) fn is_exact(report: &Report, what: &str) -> Result<bool> {
    if report.count_of(ProblemKind::Full) > 0 {
        let hint = "df -h    # make room and run the same command again";
        bail!(Hinted::new(format!("there is no room for all of {what}"), hint));
    }
    Ok(report.is_exact())
}

fn print(ui: &Ui, report: &Report, arguments: &RestoreArgs, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    let restored = report.files + report.directories + report.symlinks + report.others + report.links;
    if ui.json {
        let problems: serde_json::Map<String, serde_json::Value> =
            report.problem_counts.iter().map(|(kind, count)| (format!("{kind:?}"), json!(count))).collect();
        ui.emit(
            "summary",
            json!({
                "seconds_elapsed": seconds,
                "total_files": restored + report.kept + report.failed,
                "files_restored": restored,
                "files_skipped": report.kept,
                "files_deleted": report.deleted,
                "total_bytes": report.bytes,
                "bytes_restored": report.bytes,
                "bytes_written": report.bytes,
                "bytes_unchanged": report.unchanged,
                "files_patched": report.patched,
                "files_failed": report.failed + report.unreached,
                "files_verified": if arguments.verify { report.files } else { 0 },
                "problems": problems,
                "dry_run": arguments.dry_run,
            }),
        );
        return;
    }
    let verb = if arguments.dry_run { "Would restore" } else { "Restored" };
    ui.say(format!(
        "{verb} {} files, {} directories, {} links and others, {} in {seconds:.1} s",
        report.files,
        report.directories,
        report.symlinks + report.others + report.links,
        bytes(report.bytes)
    ));
    if report.kept + report.deleted > 0 {
        ui.say(format!("{} kept, {} deleted", report.kept, report.deleted));
    }
    if report.unchanged > 0 {
        ui.say(format!("{} were there already and compared equal", bytes(report.unchanged)));
    }
    if arguments.verify && !arguments.dry_run {
        ui.say("Every written file was read again and compared");
    }
    for (kind, count) in &report.problem_counts {
        eprintln!("Warning: {count} × {}", kind.phrase());
    }
    if report.unreached > 0 {
        eprintln!("Warning: {} entries lie in directories that could not be restored", report.unreached);
    }
}
