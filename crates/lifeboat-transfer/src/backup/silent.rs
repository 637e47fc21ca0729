//! What a full re-read finds that nothing else can: content that differs under unchanged size and times.
//!
//! A full snapshot trusts nothing, so afterwards it can be compared with the newest one before it. A file whose status is
//! as it was, and whose bytes are not, was changed behind the file system's back: silent corruption, or somebody who
//! covers his tracks. Must stay true: only bytes decide; the same bytes cut at other places are the same. Nodes that both
//! trees have are skipped, and content is read only where the lists of chunks differ.

use super::SourceName;
use super::attempt::Job;
use super::parent::{Comparison, is_racy};
use crate::dump::FileReader;
use crate::pieces::ChunkError;
use lifeboat_format::snapshot::{Snapshot, Source, TreeRoot};
use lifeboat_format::{Entry, Node, Timestamp, TreePath};
use lifeboat_repo::diff::{Change, Diff};
use lifeboat_repo::history::History;
use lifeboat_repo::reader::ChunkReader;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;

/// Compares each source of a full snapshot with the newest of the `earlier` ones, and says what it finds; gives how many
/// files changed silently.
pub(super) fn report(job: &Job<'_>, earlier: &History, snapshot: &Snapshot) -> u64 {
    let reader = ChunkReader::new(job.repository);
    let mut count = 0;
    for source in &snapshot.sources {
        let of_source = |earlier: &Snapshot| {
            earlier.sources.iter().find(|old| same_name(old, source)).map(|old| old.root)
        };
        let before = earlier
            .newest(|earlier| earlier.host == snapshot.host && of_source(earlier).is_some())
            .and_then(|before| Some((of_source(&before.snapshot)?, before.snapshot.started)));
        let Some(before) = before else { continue };
        let name = SourceName::plain(OsStr::from_bytes(&source.full_name()));
        let result = compare(&reader, before, source.root, job.options.comparison, |path| {
            count += 1;
            job.progress.silent_change(name.full_path(path).as_os_str());
        });
        if let Err(error) = result {
            let name = name.shown.display();
            job.progress.notice(&format!("{name}: cannot be compared with the snapshot before: {error}"));
        }
    }
    count
}

fn same_name(old: &Source, new: &Source) -> bool {
    (old.kind, &old.name) == (new.kind, &new.name)
}

/// Calls `found` for each file of `now` whose bytes changed under the status that it had in `earlier`, whose walk began
/// at `started`.
fn compare(
    reader: &ChunkReader,
    (earlier, started): (TreeRoot, Timestamp),
    now: TreeRoot,
    comparison: Comparison,
    mut found: impl FnMut(&TreePath),
) -> Result<(), ChunkError> {
    for change in Diff::new(reader, earlier, now) {
        let Change::Modified(path, first, second) = change? else { continue };
        if has_same_status(&first, &second, comparison)
            && !is_racy(&first, started)
            && !has_same_bytes(reader, &first, &second)?
        {
            found(&path);
        }
    }
    Ok(())
}

fn has_same_status(first: &Entry, second: &Entry, comparison: Comparison) -> bool {
    let (old, new) = (&first.metadata, &second.metadata);
    matches!((&first.node, &second.node), (Node::File { .. }, Node::File { .. }))
        && first.size() == second.size()
        // Where the source has no such time (archives, streams), equal sizes and times say nothing.
        && old.ctime != Timestamp::default()
        && !first.torn
        && !second.torn
        && (old.mtime, old.mode, old.uid, old.gid) == (new.mtime, new.mode, new.uid, new.gid)
        && (comparison.ignore_ctime || old.ctime == new.ctime)
        && (comparison.ignore_inode || old.inode == new.inode)
}

fn has_same_bytes(reader: &ChunkReader, first: &Entry, second: &Entry) -> Result<bool, ChunkError> {
    if first.node == second.node {
        return Ok(true);
    }
    let mut first = BufReader::new(FileReader::new(first, reader));
    let mut second = BufReader::new(FileReader::new(second, reader));
    loop {
        let (old, new) = (first.fill_buf()?, second.fill_buf()?);
        let length = old.len().min(new.len());
        if old[..length] != new[..length] {
            return Ok(false);
        }
        if length == 0 {
            return Ok(old.len() == new.len());
        }
        first.consume(length);
        second.consume(length);
    }
}
