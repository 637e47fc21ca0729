//! What this machine remembers of itself: a random id, so that snapshots of one host form a chain.

use crate::error::{Error, Result};
use lifeboat_format::HostId;
use std::io::Write;
use std::path::Path;

/// Reads this host's id from `state`, or makes one there.
///
/// Where the folder cannot be written, the id lasts for this run only: a chain is then not kept, snapshots still are.
pub fn host_id(state: &Path) -> HostId {
    read_or_make(state).unwrap_or_else(|_| HostId::random())
}

fn read_or_make(state: &Path) -> Result<HostId> {
    let file = state.join("host-id");
    if let Some(id) = std::fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok()) {
        return Ok(id);
    }
    let doing = || Error::io(format!("{} cannot be written", file.display()));
    std::fs::create_dir_all(state).map_err(doing())?;
    let id = HostId::random();
    let mut temporary = tempfile::NamedTempFile::new_in(state).map_err(doing())?;
    writeln!(temporary, "{id}").map_err(doing())?;
    // Two first runs at once: the one that comes second takes the id of the first.
    match temporary.persist_noclobber(&file) {
        Ok(_) => Ok(id),
        Err(_) => std::fs::read_to_string(&file)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .ok_or_else(|| Error::Usage(format!("{} holds no host id", file.display()))),
    }
}
