//! `snapshots`, `ls`, `find`.

use super::select::{full_path, select};
use crate::access;
use crate::args::Global;
use crate::failure::{DONE, FAILED};
use crate::ui::{self, Ui, bytes, escape, put_path};
use anyhow::Result;
use lifeboat::Repository;
use lifeboat::format::snapshot::{Snapshot, Source, SourceKind};
use lifeboat::format::{Entry, Node, TreePath};
use lifeboat::repo::reader::ChunkReader;
use lifeboat::snapshot_source::entries_below;
use lifeboat::source::exclude::Excludes;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::path::PathBuf;

/// Lists snapshots.
pub(crate) fn snapshots(
    global: &Global,
    ui: &Ui,
    host: Option<&str>,
    tags: &[String],
    paths: &[PathBuf],
) -> Result<u8> {
    let repository = access::open(global)?;
    let list = repository.snapshots()?;
    ui.tell_set_back(&repository);
    let wanted = list.snapshots.iter().map(|listed| &listed.snapshot).filter(|snapshot| {
        host.is_none_or(|host| snapshot.host == host)
            && tags.iter().all(|tag| snapshot.tags.contains(tag))
            && paths.iter().all(|path| {
                snapshot.sources.iter().any(|source| source.name == path.as_os_str().as_encoded_bytes())
            })
    });
    let wanted: Vec<&Snapshot> = wanted.collect();
    if ui.json {
        wanted.iter().for_each(|snapshot| ui.emit("snapshot", describe(snapshot)));
    } else if !wanted.is_empty() {
        ui.result(format!(
            "{:8}  {:19}  {:16}  {:12}  {:>10}  Sources",
            "ID", "Time", "Host", "Kind", "Size"
        ));
        wanted.iter().for_each(|snapshot| ui.result(row(snapshot)));
        ui.say(format!("{} snapshots", wanted.len()));
    } else {
        ui.say(if list.snapshots.is_empty() { "no snapshots yet" } else { "no snapshot matches" });
    }
    for (key, error) in &list.damaged {
        ui.trouble(OsStr::new(&key.path()), "snapshots", &error.to_string());
    }
    Ok(if list.damaged.is_empty() { DONE } else { FAILED })
}

fn row(snapshot: &Snapshot) -> String {
    let size: u64 = snapshot.sources.iter().map(|source| source.bytes).sum();
    let mut sources: Vec<String> =
        snapshot.sources.iter().map(|source| escape(&full_path(source, &TreePath::root()))).collect();
    if !snapshot.tags.is_empty() {
        sources.push(format!("[{}]", snapshot.tags.join(", ")));
    }
    if snapshot.pinned {
        sources.push("(pinned)".into());
    }
    if snapshot.lacking {
        sources.push("(damaged)".into());
    }
    if !snapshot.unhealthy.is_empty() {
        sources.push("(unhealthy)".into());
    }
    if snapshot.errors() > 0 {
        sources.push(format!("({} items unreadable)", snapshot.errors()));
    }
    let kind = snapshot.sources.first().map_or("", |source| source.snapshot_kind.word());
    format!(
        "{:8}  {:19}  {:16}  {kind:12}  {:>10}  {}",
        &snapshot.id.to_string()[..8],
        ui::time(snapshot.started),
        escape(snapshot.host.as_bytes()),
        bytes(size),
        sources.join(" ")
    )
}

/// A snapshot in restic's field names.
pub(crate) fn describe(snapshot: &Snapshot) -> Value {
    let id = snapshot.id.to_string();
    let sources: Vec<Value> = snapshot.sources.iter().map(describe_source).collect();
    let paths = snapshot
        .sources
        .iter()
        .map(|source| String::from_utf8_lossy(&full_path(source, &TreePath::root())).into_owned());
    let mut value = json!({
        "time": ui::rfc3339(snapshot.started),
        "paths": paths.collect::<Vec<_>>(),
        "hostname": snapshot.host,
        "username": snapshot.user,
        "tags": snapshot.tags,
        "program_version": snapshot.program,
        "summary": figures(snapshot),
        "sources": sources,
        "complete": snapshot.complete,
        "sequence": snapshot.sequence,
        "id": id,
        "short_id": id[..8],
    });
    if snapshot.pinned {
        value["pinned"] = json!(true);
    }
    if snapshot.lacking {
        value["lacking"] = json!(true);
    }
    if !snapshot.unhealthy.is_empty() {
        value["unhealthy"] = json!(snapshot.unhealthy);
    }
    if !snapshot.consistency.is_empty() {
        value["consistency"] = json_or_text(&snapshot.consistency);
    }
    if let Some(source) = snapshot.sources.first() {
        value["tree"] = json!(source.root.id.to_string());
        value["parent"] = source.parent.map_or(Value::Null, |parent| json!(parent.to_string()));
    }
    value
}

/// A detail is JSON; what is not is shown as it is.
pub(super) fn json_or_text(detail: &str) -> Value {
    serde_json::from_str(detail).unwrap_or_else(|_| json!(detail))
}

/// What a run did, in restic's field names.
pub(crate) fn figures(snapshot: &Snapshot) -> Value {
    let figures = &snapshot.statistics;
    json!({
        "backup_start": ui::rfc3339(snapshot.started),
        "backup_end": ui::rfc3339(snapshot.finished),
        "files_new": figures.files_new,
        "files_changed": figures.files_changed,
        "files_unmodified": figures.files_unmodified,
        "dirs_new": figures.dirs_new,
        "dirs_changed": figures.dirs_changed,
        "dirs_unmodified": figures.dirs_unmodified,
        "data_blobs": figures.data_blobs,
        "tree_blobs": figures.tree_blobs,
        "data_added": figures.data_added,
        "data_added_packed": figures.data_added_packed,
        "total_files_processed": figures.total_files_processed,
        "total_bytes_processed": figures.total_bytes_processed,
    })
}

fn describe_source(source: &Source) -> Value {
    let mut value = json!({
        "kind": source.kind.word(),
        "snapshot_kind": source.snapshot_kind.word(),
        "entries": source.root.entries,
        "bytes": source.bytes,
        "error_count": source.errors,
        "parent": source.parent.map(|parent| parent.to_string()),
    });
    put_path(&mut value, "name", &source.name);
    if !source.detail.is_empty() {
        value["detail"] = json_or_text(&source.detail);
    }
    value
}

/// Lists the files of a snapshot.
pub(crate) fn ls(global: &Global, ui: &Ui, argument: &OsStr, long: bool) -> Result<u8> {
    let repository = access::open(global)?;
    let selected = select(&repository, argument)?;
    let reader = ChunkReader::new(&repository);
    if ui.json {
        ui.emit("snapshot", describe(&selected.snapshot));
    }
    for (source, base) in selected.sources()? {
        let mut found = false;
        for entry in entries_below(&reader, source.root, &base)? {
            let (path, entry) = entry.map_err(anyhow::Error::from_boxed)?;
            found = true;
            show(ui, source, &path, &entry, long);
        }
        if !found {
            anyhow::bail!("the snapshot has nothing at `{}`", escape(&full_path(source, &base)));
        }
    }
    Ok(DONE)
}

fn show(ui: &Ui, source: &Source, path: &TreePath, entry: &Entry, long: bool) {
    let full = full_path(source, path);
    if ui.json {
        let mut value = describe_entry(entry);
        put_path(&mut value, "path", &full);
        put_path(&mut value, "name", path.name().unwrap_or(&source.name));
        ui.emit("node", value);
        return;
    }
    let mut line = String::new();
    if long {
        let metadata = &entry.metadata;
        line = format!(
            "{} {:>6} {:>6} {:>12} {} ",
            permissions(entry),
            metadata.uid,
            metadata.gid,
            entry.size(),
            ui::time(metadata.mtime)
        );
    }
    line += &escape(&full);
    if let (true, Node::Symlink { target }) = (long, &entry.node) {
        line += &format!(" -> {}", escape(target));
    }
    ui.result(line);
}

fn word(node: &Node) -> &'static str {
    match node {
        Node::Directory => "dir",
        Node::File { .. } => "file",
        Node::Symlink { .. } => "symlink",
        Node::Fifo => "fifo",
        Node::Socket => "socket",
        Node::CharDevice { .. } => "chardev",
        Node::BlockDevice { .. } => "dev",
    }
}

fn describe_entry(entry: &Entry) -> Value {
    let metadata = &entry.metadata;
    let mut value = json!({
        "type": word(&entry.node),
        "uid": metadata.uid,
        "gid": metadata.gid,
        "mode": metadata.mode,
        "permissions": permissions(entry),
        "mtime": ui::rfc3339(metadata.mtime),
        "ctime": ui::rfc3339(metadata.ctime),
        "inode": metadata.inode,
    });
    match &entry.node {
        Node::File { size, .. } => value["size"] = json!(size),
        Node::Symlink { target } => put_path(&mut value, "linktarget", target),
        Node::CharDevice { major, minor } | Node::BlockDevice { major, minor } => {
            value["device"] = json!([major, minor])
        }
        _ => {}
    }
    if entry.torn {
        value["torn"] = json!(true);
    }
    value
}

fn permissions(entry: &Entry) -> String {
    let kind = match entry.node {
        Node::Directory => 'd',
        Node::File { .. } => '-',
        Node::Symlink { .. } => 'l',
        Node::Fifo => 'p',
        Node::Socket => 's',
        Node::CharDevice { .. } => 'c',
        Node::BlockDevice { .. } => 'b',
    };
    let mode = entry.metadata.mode;
    let mut text = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, mode & special != 0) {
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// Finds files by name.
pub(crate) fn find(
    global: &Global,
    ui: &Ui,
    pattern: &str,
    snapshot: Option<&str>,
    ignore_case: bool,
) -> Result<u8> {
    let patterns = vec![pattern.to_owned()];
    let excludes = match ignore_case {
        true => Excludes { patterns_any_case: patterns, ..Excludes::default() },
        false => Excludes { patterns, ..Excludes::default() },
    };
    let rules = excludes.compile().map_err(anyhow::Error::msg)?;
    let repository: Repository = access::open(global)?;
    let list = repository.snapshots()?;
    let wanted = match snapshot {
        Some(id) => vec![list.find(id)?],
        None => list.snapshots.iter().collect(),
    };
    let reader = ChunkReader::new(&repository);
    let mut hits = 0;
    for listed in wanted {
        let id = listed.snapshot.id.to_string();
        for source in &listed.snapshot.sources {
            for entry in entries_below(&reader, source.root, &TreePath::root())? {
                let (path, entry) = entry.map_err(anyhow::Error::from_boxed)?;
                // The source itself is asked for by its last name.
                let own = TreePath::from_slashes(&source.name)
                    .ok()
                    .and_then(|path| path.name().map(<[u8]>::to_vec));
                let asked = match (path.is_root(), own, source.kind) {
                    (true, Some(name), SourceKind::Path) => TreePath::root().join(&name).unwrap_or_default(),
                    _ => path.clone(),
                };
                if asked.is_root() || !rules.matches(&asked, entry.is_directory(), 0) {
                    continue;
                }
                hits += 1;
                let full = full_path(source, &path);
                if ui.json {
                    let mut value = describe_entry(&entry);
                    put_path(&mut value, "path", &full);
                    value["snapshot"] = json!(id);
                    ui.emit("match", value);
                } else {
                    ui.result(format!("{}  {}  {}", &id[..8], ui::time(entry.metadata.mtime), escape(&full)));
                }
            }
        }
    }
    if hits == 0 {
        ui.say(format!("nothing matches `{pattern}`"));
    }
    Ok(DONE)
}
