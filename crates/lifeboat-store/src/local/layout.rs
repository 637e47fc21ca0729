//! Which folders a repository has, and what a path holds that may be one.

use super::root::{Root, TMP, folder_mode, io_error, read_fan};
use crate::{Error, ErrorKind, RepositoryProblem, Result};
use lifeboat_format::{ObjectKey, ObjectKind};
use rustix::io::Errno;
use std::path::Path;

/// What is at a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A config.
    Repository,
    /// A folder for keys, no config, and no other object.
    HalfCreated,
    /// No config, but objects in this folder.
    ConfigLost(&'static str),
    /// Nothing, or empty folders that a repository could have.
    Empty,
    /// This, which no repository has.
    Foreign(String),
}

/// Made by `mkfs`, so that it is there in an empty file system.
const LOST_AND_FOUND: &str = "lost+found";

/// Kinds that have a folder; keys come first, as a half-created repository is known by them.
fn kinds_with_folder() -> impl Iterator<Item = ObjectKind> {
    let others =
        ObjectKind::ALL.into_iter().filter(|kind| !matches!(kind, ObjectKind::Config | ObjectKind::Slot));
    std::iter::once(ObjectKind::Slot).chain(others)
}

pub(super) fn inspect(root: &Root) -> Result<Found> {
    if root.has(ObjectKind::Config.folder())? {
        return Ok(Found::Repository);
    }
    let names = root.names("")?.map(|(_, names)| names).unwrap_or_default();
    let mut foreign = None;
    for name in &names {
        match kinds_with_folder().find(|kind| kind.folder() == name) {
            Some(kind) => match content(root, kind)? {
                // Slots are put before the config; anything else came after it.
                Content::Objects if kind != ObjectKind::Slot => return Ok(Found::ConfigLost(kind.folder())),
                Content::Objects | Content::Nothing => {}
                Content::Stray(entry) => foreign = Some(entry),
            },
            None if [TMP, LOST_AND_FOUND].contains(&name.as_str()) => {}
            None => foreign = Some(name.clone()),
        }
    }
    let has_keys = names.iter().any(|name| name == ObjectKind::Slot.folder());
    Ok(match foreign {
        Some(entry) => Found::Foreign(entry),
        None if has_keys => Found::HalfCreated,
        None => Found::Empty,
    })
}

enum Content {
    Nothing,
    Objects,
    Stray(String),
}

/// What is in the folder of a kind; objects count before strays.
fn content(root: &Root, kind: ObjectKind) -> Result<Content> {
    let folder = kind.folder();
    let names = match root.names(folder) {
        Ok(names) => names.map(|(_, names)| names).unwrap_or_default(),
        // A file of that name.
        Err(Error::Io { source, .. }) if Errno::from_io_error(&source) == Some(Errno::NOTDIR) => {
            return Ok(Content::Stray(folder.to_owned()));
        }
        Err(error) => return Err(error),
    };
    // The folders below `packs/` are made with the first pack in each.
    let is_object = |name: &String| {
        ObjectKey::from_hex(kind, name).is_some() || (kind == ObjectKind::Pack && read_fan(name).is_some())
    };
    Ok(match names.first() {
        _ if names.iter().any(is_object) => Content::Objects,
        Some(name) => Content::Stray(format!("{folder}/{name}")),
        None => Content::Nothing,
    })
}

pub(super) fn create(path: &Path) -> Result<Root> {
    let made = match rustix::fs::mkdir(path, folder_mode()) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(errno) => return Err(io_error("make folder", path.to_owned(), None, errno)),
    };
    let root = Root::open(path)?;
    match inspect(&root)? {
        Found::Empty | Found::HalfCreated => {}
        Found::Repository => return Err(root.problem(RepositoryProblem::Repository)),
        Found::ConfigLost(folder) => return Err(root.problem(RepositoryProblem::ConfigLost { folder })),
        Found::Foreign(entry) => return Err(root.problem(RepositoryProblem::NotEmpty { entry })),
    }
    for kind in kinds_with_folder() {
        root.make_folder(kind.folder())?;
    }
    root.make_folder(TMP)?;
    root.sync_folder("")?;
    // The folder's own name: always, for whoever made it may have died before this.
    match root.sync_folder("..") {
        // Somebody else's folder that we may not read; its owner made ours.
        Err(error) if !made && error.kind() == ErrorKind::Denied => {}
        other => other?,
    }
    Ok(root)
}
