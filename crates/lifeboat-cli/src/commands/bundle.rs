//! `export` and `import`.

use crate::access::{self, OwnedSecret};
use crate::args::{ExportArgs, Global, ImportArgs};
use crate::failure::DONE;
use crate::ui::{self, Status, Ui, bytes, escape};
use anyhow::{Context, Result, bail};
use lifeboat::Repository;
use lifeboat::bundle::{
    self, Base, BundleFile, BundleReader, BundleWriter, Counters, Error, Imported, Plan, Since, Totals,
};
use lifeboat::format::Timestamp;
use lifeboat::format::snapshot::Snapshot;
use lifeboat::repo::session::SessionOptions;
use lifeboat::repo::snapshots::SnapshotList;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Writes a bundle.
pub(crate) fn export(
    global: &Global,
    ui: &Ui,
    arguments: &ExportArgs,
    interrupted: &Arc<AtomicBool>,
) -> Result<u8> {
    let repository = access::open(global)?;
    let list = repository.snapshots()?;
    let snapshot = &list.find(&arguments.snapshot)?.snapshot;
    let since = since(&list, arguments)?;
    let plan = Plan::new(&list.snapshots, snapshot, since)?;
    let counters = Counters { interrupted: interrupted.clone(), ..Counters::default() };
    let output = arguments.output.as_deref().filter(|_| !arguments.dry_run);
    // Where the bundle itself goes to standard output, nothing else may.
    let is_piped = output.is_some_and(is_dash);
    let telling = if is_piped { ui.beside_output() } else { ui.clone() };
    let secret = output.map(|_| access::bundle_secret(&arguments.key, true)).transpose()?;
    if since != Since::Nothing && plan.base.is_none() {
        ui.notice("the snapshot has no such base: its bundle is a full one");
    }
    let written = telling.with_progress(&|| status(&counters), || -> Result<(Totals, Option<u64>)> {
        match output.zip(secret.as_ref()) {
            None => Ok((bundle::weigh(&repository, &plan, &counters)?, None)),
            Some((output, secret)) if is_dash(output) => {
                let (totals, writer) =
                    write(&repository, &plan, &counters, secret, std::io::stdout().lock())?;
                let size = writer.bytes;
                let _ = writer.finish()?;
                Ok((totals, Some(size)))
            }
            Some((output, secret)) => {
                let file = BundleFile::create(output).with_context(|| output.display().to_string())?;
                let (totals, writer) = write(&repository, &plan, &counters, secret, file)?;
                let size = writer.bytes;
                writer.finish()?.keep().with_context(|| output.display().to_string())?;
                Ok((totals, Some(size)))
            }
        }
    });
    let (totals, size) = written?;
    let mut value = describe(&plan.snapshot, plan.base.as_ref().map(|base| base.id.to_string()), &totals);
    value["kind"] = json!(plan.kind.word());
    value["bundle_bytes"] = json!(size);
    value["dry_run"] = json!(arguments.dry_run);
    let since =
        plan.base.as_ref().map_or(String::new(), |base| format!(" since {}", &base.id.to_string()[..8]));
    let text = format!(
        "{}: snapshot {}{since}, {}{}",
        match size {
            Some(size) => format!("wrote {}", bytes(size)),
            None => "would write".to_owned(),
        },
        &plan.snapshot.id.to_string()[..8],
        plan.kind.word(),
        figures(&totals),
    );
    match (is_piped, ui.json) {
        (true, true) => {
            value["message_type"] = json!("summary");
            eprintln!("{value}");
        }
        (true, false) if !ui.quiet => eprintln!("{text}"),
        (true, false) => {}
        (false, true) => ui.emit("summary", value),
        (false, false) => ui.say(text),
    }
    Ok(DONE)
}

fn is_dash(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn since(list: &SnapshotList, arguments: &ExportArgs) -> Result<Since> {
    Ok(match &arguments.since {
        Some(base) => Since::Snapshot(list.find(base)?.snapshot.id),
        None if arguments.incremental => Since::Parent,
        None if arguments.differential => Since::LastFull,
        None => Since::Nothing,
    })
}

fn write<W: Write>(
    repository: &Repository,
    plan: &Plan,
    counters: &Counters,
    secret: &OwnedSecret,
    output: W,
) -> Result<(Totals, BundleWriter<W>)> {
    let writer = BundleWriter::new(&secret.borrow(), now(), output)?;
    Ok(bundle::export(repository, plan, counters, writer)?)
}

/// Takes a bundle in.
pub(crate) fn import(
    global: &Global,
    ui: &Ui,
    arguments: &ImportArgs,
    interrupted: &Arc<AtomicBool>,
) -> Result<u8> {
    // Whatever is wrong with the repository is said before the bundle is read.
    let repository = if arguments.check { None } else { Some(access::open(global)?) };
    let secret = access::bundle_secret(&arguments.key, false)?;
    let name = if is_dash(&arguments.input) {
        "standard input".into()
    } else {
        arguments.input.display().to_string()
    };
    let input: Box<dyn Read + Send> = match is_dash(&arguments.input) {
        true => Box::new(std::io::stdin()),
        false => {
            Box::new(std::fs::File::open(&arguments.input).with_context(|| format!("{name} cannot be read"))?)
        }
    };
    let input = std::io::BufReader::with_capacity(1 << 20, input);
    let counters = Counters { interrupted: interrupted.clone(), ..Counters::default() };
    let work = || -> Result<(Imported, bool)> {
        let reader = BundleReader::new(&secret.borrow(), input)?;
        match &repository {
            Some(repository) if !arguments.dry_run => Ok((
                bundle::import(repository, session_options(arguments.compression), &counters, reader)?,
                true,
            )),
            _ => Ok((look(repository.as_ref(), &counters, reader)?, false)),
        }
    };
    let (imported, is_real) = ui.with_progress(&|| status(&counters), work).with_context(|| name.clone())?;
    if let Some(repository) = &repository {
        repository.take_notices().iter().for_each(|text| ui.notice(text));
    }
    show(
        ui,
        &imported,
        if arguments.check {
            "sound"
        } else if is_real {
            "imported"
        } else {
            "would import"
        },
    );
    Ok(DONE)
}

/// Reads the whole bundle; where there is a repository, sees what would become of it there.
fn look<R: Read>(
    repository: Option<&Repository>,
    counters: &Counters,
    reader: BundleReader<R>,
) -> Result<Imported> {
    let (snapshot, base, totals) = bundle::check(counters, reader)?;
    let mut was_there = false;
    if let Some(repository) = repository {
        let list = repository.snapshots()?;
        let has = |id| list.snapshots.iter().any(|listed| listed.snapshot.id == id);
        was_there = has(snapshot.id);
        if let Some(Base { id, host, started, .. }) = base.clone().filter(|base| !was_there && !has(base.id))
        {
            bail!(Error::MissingBase { id, host, started });
        }
    }
    let kind = snapshot
        .sources
        .first()
        .map_or(lifeboat::format::snapshot::SnapshotKind::Full, |one| one.snapshot_kind);
    Ok(Imported { snapshot, base, kind, totals, stored_bytes: 0, was_there })
}

/// How what is received is stored.
pub(super) fn session_options(compression_level: i32) -> SessionOptions {
    let host = lifeboat::repo::host::host_id(&lifeboat::state_directory());
    SessionOptions { compression_level, host }
}

/// How far a transfer is.
pub(super) fn status(counters: &Counters) -> Status {
    Status {
        bytes_done: counters.bytes.load(Ordering::Relaxed),
        files_done: counters.entries.load(Ordering::Relaxed),
        ..Status::default()
    }
}

/// Tells what came of one snapshot.
pub(super) fn show(ui: &Ui, imported: &Imported, done: &str) {
    let snapshot = &imported.snapshot;
    let base = imported.base.as_ref().map(|base| base.id.to_string());
    if ui.json {
        let mut value = describe(snapshot, base, &imported.totals);
        value["stored_bytes"] = json!(imported.stored_bytes);
        value["was_there"] = json!(imported.was_there);
        value["done"] = json!(done);
        ui.emit("summary", value);
        return;
    }
    let id = &snapshot.id.to_string()[..8];
    if imported.was_there {
        ui.say(format!("snapshot {id} is here already; nothing was done"));
        return;
    }
    let since = base.map_or(String::new(), |base| format!(" since {}", &base[..8]));
    ui.say(format!(
        "{done}: snapshot {id} of {}, {}{since}{}",
        escape(snapshot.host.as_bytes()),
        ui::time(snapshot.started),
        figures(&imported.totals),
    ));
}

fn figures(totals: &Totals) -> String {
    let Totals { chunks, bytes: size, entries, removed } = totals;
    format!(": {entries} entries, {removed} removed, {} in {chunks} chunks", bytes(*size))
}

fn describe(snapshot: &Snapshot, base: Option<String>, totals: &Totals) -> Value {
    json!({
        "snapshot_id": snapshot.id.to_string(),
        "base": base,
        "host": snapshot.host,
        "time": ui::rfc3339(snapshot.started),
        "entries": totals.entries,
        "removed": totals.removed,
        "chunks": totals.chunks,
        "bytes": totals.bytes,
    })
}

fn now() -> Timestamp {
    let now = jiff::Timestamp::now();
    Timestamp { seconds: now.as_second(), nanos: now.subsec_nanosecond().unsigned_abs() }
}
