//! Bind mounts of captured containers: those that are read on this machine's disk are the ones that the containers see.
//!
//! Must stay true: a path that an engine names is read here only where the engine's disk is proven to be this machine's
//! ([`crate::volume::proof`]) and the path's root looks the same from both sides.

use super::Error;
use super::group::Member;
use crate::boundary::{self, Bind, Plan, Surroundings};
use crate::engine::{Engine, PathStat};
use crate::quiesce::lifelines::Lifelines;
use crate::volume::Volumes;
use crate::volume::proof::Proof;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Whoever writes there changes its root between two looks at it.
const LOOKS_MAX: u32 = 5;

/// Decides about the binds of all members.
pub(super) fn plan(
    volumes: &Volumes,
    members: &[Member],
    binds: Vec<Bind>,
    surroundings: &Surroundings,
) -> Result<Plan, Error> {
    // Without binds nothing has to be proven for them.
    let refused = match binds.is_empty() {
        true => None,
        false => match volumes.proof()? {
            Proof::Proven(_) => None,
            Proof::Refused(why) => Some(why),
        },
    };
    let unseen = |bind: &Bind| {
        if let Some(why) = &refused {
            return Some(why.clone());
        }
        let id = members.iter().find(|member| member.facts.name == bind.container)?.facts.id.clone();
        differs(volumes.engine(), &id, bind)
    };
    Ok(boundary::plan(binds, surroundings, &unseen))
}

/// Why what is here is not what the container sees.
fn differs(engine: &Engine, container: &str, bind: &Bind) -> Option<String> {
    let mut before = None;
    for _ in 0..LOOKS_MAX {
        let here = match std::fs::symlink_metadata(&bind.resolved) {
            Ok(here) => here,
            Err(error) => return Some(error.to_string()),
        };
        let theirs = match engine.path_stat(container, &bind.destination) {
            Ok(theirs) => theirs,
            Err(error) => return Some(crate::quiesce::undo::chain(&error)),
        };
        let is_same = theirs.as_ref().is_some_and(|theirs| {
            theirs.modified == Some((here.mtime(), here.mtime_nsec()))
                && theirs.is_directory() == here.is_dir()
                && (here.is_dir() || theirs.size == here.size())
        });
        if is_same {
            return None;
        }
        let after = theirs.as_ref().and_then(|theirs: &PathStat| theirs.modified);
        if before == Some(after) {
            break;
        }
        before = Some(after);
    }
    let own = if Lifelines::own_container().is_some() { ", which is a container" } else { "" };
    Some(format!("the engine sees another {} there than this machine{own}", kind(&bind.resolved)))
}

fn kind(path: &Path) -> &'static str {
    if path.is_dir() { "folder" } else { "file" }
}
