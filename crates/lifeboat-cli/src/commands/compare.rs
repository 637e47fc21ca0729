//! `diff`.

use super::select::{full_path, select};
use crate::access;
use crate::args::Global;
use crate::failure::DONE;
use crate::ui::{Ui, bytes, escape, put_path};
use anyhow::{Result, bail};
use lifeboat::Repository;
use lifeboat::format::snapshot::{Snapshot, Source, TreeRoot};
use lifeboat::format::{Entry, Node, TreePath};
use lifeboat::repo::diff::{Change, Diff};
use lifeboat::repo::reader::ChunkReader;
use lifeboat::repo::weigh::{IndexDiff, Weight, weigh};
use serde_json::json;
use std::ffi::OsStr;

#[derive(Default)]
struct Counts {
    added: u64,
    removed: u64,
    changed: u64,
    bytes_added: u64,
    bytes_removed: u64,
}

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Every change, on demand those of metadata too.
    Changes {
        /// Whether they are asked for.
        metadata: bool,
    },
    /// How many there are, and what they weigh.
    Figures,
}

struct View<'u> {
    ui: &'u Ui,
    shown: Shown,
}

/// Shows what differs between two snapshots.
pub(crate) fn diff(global: &Global, ui: &Ui, first: &OsStr, second: &OsStr, shown: Shown) -> Result<u8> {
    let repository = access::open(global)?;
    let (first, second) = (select(&repository, first)?, select(&repository, second)?);
    if shown == Shown::Figures && (first.path.is_some() || second.path.is_some()) {
        bail!("--stat weighs whole snapshots; leave the paths away");
    }
    let reader = ChunkReader::new(&repository);
    let mut counts = Counts::default();
    let old_sources = first.sources()?;
    let new_sources = second.sources()?;
    let same = |left: &Source, right: &Source| (left.kind, &left.name) == (right.kind, &right.name);
    let view = View { ui, shown };
    let paths_were_given = first.path.is_some() && second.path.is_some();
    for (number, (old, base)) in old_sources.iter().enumerate() {
        let partner = match paths_were_given {
            true => new_sources.get(number),
            false => new_sources.iter().find(|(new, _)| same(old, new)),
        };
        match partner {
            Some((new, new_base)) if base != new_base || !same(old, new) => {
                bail!("the two paths lie at different places; compare the same path in both snapshots")
            }
            Some((new, _)) => {
                if !is_in(&reader, old, base)? && !is_in(&reader, new, base)? {
                    bail!("neither snapshot has anything at `{}`", escape(&full_path(old, base)));
                }
                compare(&view, &reader, (old, old.root), (new, new.root), base, &mut counts)?
            }
            None => whole(&view, &reader, old, false, &mut counts)?,
        }
    }
    if !paths_were_given {
        for (new, _) in
            new_sources.iter().filter(|(new, _)| !old_sources.iter().any(|(old, _)| same(old, new)))
        {
            whole(&view, &reader, new, true, &mut counts)?;
        }
    }
    let weight = match shown {
        Shown::Changes { .. } => None,
        Shown::Figures => Some(weigh_snapshots(&repository, &reader, &first.snapshot, &second.snapshot)?),
    };
    if ui.json {
        let mut value = json!({
            "source_snapshot": first.snapshot.id.to_string(),
            "target_snapshot": second.snapshot.id.to_string(),
            "changed_files": counts.changed,
            "added": {"files": counts.added, "bytes": counts.bytes_added},
            "removed": {"files": counts.removed, "bytes": counts.bytes_removed},
        });
        if let Some(weight) = weight {
            let of = |weight: Weight| json!({"chunks": weight.chunks, "bytes": weight.bytes});
            value["index_diff"] =
                json!({"new": of(weight.new), "shared": of(weight.shared), "gone": of(weight.gone)});
        }
        ui.emit("statistics", value);
        return Ok(DONE);
    }
    ui.say(format!("{} added, {} removed, {} changed", counts.added, counts.removed, counts.changed));
    if let Some(weight) = weight {
        for (word, weight) in [("new", weight.new), ("shared", weight.shared), ("gone", weight.gone)] {
            ui.result(format!("{word:6}  {:>10} chunks  {:>10}", weight.chunks, bytes(weight.bytes)));
        }
    }
    Ok(DONE)
}

fn weigh_snapshots(
    repository: &Repository,
    reader: &ChunkReader,
    first: &Snapshot,
    second: &Snapshot,
) -> Result<IndexDiff> {
    let roots = |snapshot: &Snapshot| snapshot.sources.iter().map(|source| source.root).collect::<Vec<_>>();
    let scratch = repository.cache_directory().filter(|folder| folder.is_dir()).cloned();
    let scratch = scratch.unwrap_or_else(std::env::temp_dir);
    Ok(weigh(reader, &scratch, &roots(first), &roots(second))?)
}

fn is_in(reader: &ChunkReader, source: &Source, base: &TreePath) -> Result<bool> {
    let mut entries = lifeboat::snapshot_source::entries_below(reader, source.root, base)?;
    entries.next().transpose().map(|entry| entry.is_some()).map_err(anyhow::Error::from_boxed)
}

fn compare(
    view: &View<'_>,
    reader: &ChunkReader,
    old: (&Source, TreeRoot),
    new: (&Source, TreeRoot),
    base: &TreePath,
    counts: &mut Counts,
) -> Result<()> {
    let metadata = view.shown == Shown::Changes { metadata: true };
    for change in Diff::new(reader, old.1, new.1) {
        let change = change?;
        let path = match &change {
            Change::Added(path, _) | Change::Removed(path, _) | Change::Modified(path, ..) => path,
        };
        if !path.starts_with(base) {
            continue;
        }
        let (modifier, path) = match &change {
            Change::Added(path, entry) => {
                counts.added += 1;
                counts.bytes_added += entry.size();
                ("+", path)
            }
            Change::Removed(path, entry) => {
                counts.removed += 1;
                counts.bytes_removed += entry.size();
                ("-", path)
            }
            Change::Modified(path, old, new) => match modifier(old, new, metadata) {
                Some(modifier) => {
                    counts.changed += 1;
                    (modifier, path)
                }
                None => continue,
            },
        };
        view.show(modifier, &full_path(new.0, path));
    }
    Ok(())
}

/// restic's letters: M content, T type, U metadata.
fn modifier(old: &Entry, new: &Entry, metadata: bool) -> Option<&'static str> {
    if std::mem::discriminant(&old.node) != std::mem::discriminant(&new.node) {
        return Some("T");
    }
    if old.node != new.node {
        return Some("M");
    }
    let shown = |entry: &Entry| {
        let metadata = &entry.metadata;
        (metadata.mode, metadata.uid, metadata.gid, metadata.xattrs.clone())
    };
    let times = metadata && old.metadata.mtime != new.metadata.mtime;
    (shown(old) != shown(new) || times || old.link != new.link).then_some("U")
}

fn whole(
    view: &View<'_>,
    reader: &ChunkReader,
    source: &Source,
    is_added: bool,
    counts: &mut Counts,
) -> Result<()> {
    let entries = lifeboat::snapshot_source::entries_below(reader, source.root, &TreePath::root())?;
    for entry in entries {
        let (path, entry) = entry.map_err(anyhow::Error::from_boxed)?;
        let bytes = if matches!(entry.node, Node::File { .. }) { entry.size() } else { 0 };
        if is_added {
            counts.added += 1;
            counts.bytes_added += bytes;
        } else {
            counts.removed += 1;
            counts.bytes_removed += bytes;
        }
        view.show(if is_added { "+" } else { "-" }, &full_path(source, &path));
    }
    Ok(())
}

impl View<'_> {
    fn show(&self, modifier: &str, path: &[u8]) {
        if self.shown == Shown::Figures {
            return;
        }
        if self.ui.json {
            let mut value = json!({"modifier": modifier});
            put_path(&mut value, "path", path);
            self.ui.emit("change", value);
        } else {
            self.ui.result(format!("{modifier:4} {}", escape(path)));
        }
    }
}
