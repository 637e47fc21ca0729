//! `ID[:PATH]`: which snapshot, and what in it.

use anyhow::{Context, Result};
use lifeboat::Repository;
use lifeboat::format::TreePath;
use lifeboat::format::snapshot::{Snapshot, Source};
use lifeboat::repo::snapshots::pick_source;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// A snapshot, and a path in it.
pub(crate) struct Selected {
    /// The snapshot.
    pub(crate) snapshot: Snapshot,
    /// What stood behind the colon.
    pub(crate) path: Option<Vec<u8>>,
}

/// Finds what an argument names.
pub(crate) fn select(repository: &Repository, argument: &OsStr) -> Result<Selected> {
    let bytes = argument.as_bytes();
    let (id, path) = match bytes.iter().position(|byte| *byte == b':') {
        Some(colon) => (&bytes[..colon], Some(bytes[colon + 1..].to_vec())),
        None => (bytes, None),
    };
    let id = std::str::from_utf8(id).ok().context("a snapshot's id is text")?;
    let list = repository.snapshots()?;
    let snapshot = list.find(id)?.snapshot.clone();
    Ok(Selected { snapshot, path: path.filter(|path| !path.is_empty()) })
}

impl Selected {
    /// The sources that are meant, each with the path to begin at.
    pub(crate) fn sources(&self) -> Result<Vec<(&Source, TreePath)>> {
        match &self.path {
            None => Ok(self.snapshot.sources.iter().map(|source| (source, TreePath::root())).collect()),
            Some(path) => Ok(vec![pick_source(&self.snapshot, path)?]),
        }
    }
}

/// What people call an entry: its absolute path, `stdin:NAME` or `volume:NAME/path`.
pub(crate) fn full_path(source: &Source, path: &TreePath) -> Vec<u8> {
    let mut full = source.full_name();
    if !path.is_root() {
        if full.last() != Some(&b'/') {
            full.push(b'/');
        }
        full.extend_from_slice(&path.to_slashes());
    }
    full
}
