//! `restore ID --to host:`: paths go back to where they were on the host, or to where `--map-path` says.
//!
//! Must stay true: before the first byte is written, every place is looked at; none that holds something is written over
//! unless `--overwrite` was given.

use super::select::Selected;
use crate::args::RestoreArgs;
use crate::failure::Hinted;
use anyhow::{Result, bail};
use lifeboat::Repository;
use lifeboat::format::TreePath;
use lifeboat::format::snapshot::{Source, SourceKind};
use lifeboat::repo::reader::ChunkReader;
use lifeboat::snapshot_source::entries_below;
use lifeboat::workload::host_paths::{MayNotWrite, PathMap, may_write};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The host's own paths, as a target.
const HOST: &str = "host:";

/// What goes where: a path in the snapshot, and the folder that becomes it, or in which the file lies.
pub(super) type Places = Vec<(Vec<u8>, PathBuf)>;

/// The places of a restore to the host; nothing where another target is named.
pub(super) fn of(
    repository: &Repository,
    selected: &Selected,
    arguments: &RestoreArgs,
) -> Result<Option<Places>> {
    let is_host = arguments.to.as_os_str() == HOST;
    let is_project = super::project_restore::target_name(arguments.to.as_os_str()).is_some();
    if is_project || (!is_host && arguments.map_path.is_empty()) {
        return Ok(None);
    }
    if !is_host {
        bail!(Hinted::new(
            "--map-path says where paths go on the host, and another target is named",
            format!(
                "lifeboat restore {} --to host: --map-path OLD=NEW",
                arguments.snapshot.to_string_lossy()
            )
        ));
    }
    let map = PathMap::parse(arguments.map_path.iter().map(String::as_str))?;
    let reader = ChunkReader::new(repository);
    let mut places = Places::new();
    for (source, base) in selected.sources()? {
        if source.kind != SourceKind::Path {
            if selected.path.is_some() {
                bail!("{} is no path of the host", String::from_utf8_lossy(&source.full_name()));
            }
            continue;
        }
        let path = host_path(source, &base);
        let place = map.place(&path);
        check(&place, arguments)?;
        let first = entries_below(&reader, source.root, &base)?.next();
        let is_folder = matches!(first, Some(Ok((_, ref entry))) if entry.is_directory());
        let folder = if is_folder { Some(place.as_path()) } else { folder_of(&path, &place)? };
        places.push((path.into_os_string().into_encoded_bytes(), folder.unwrap_or(&place).to_owned()));
    }
    if places.is_empty() {
        bail!(Hinted::new("the snapshot has no paths of a host", "lifeboat snapshots"));
    }
    Ok(Some(places))
}

fn host_path(source: &Source, base: &TreePath) -> PathBuf {
    let path = PathBuf::from(OsStr::from_bytes(&source.name));
    if base.is_root() { path } else { path.join(OsStr::from_bytes(&base.to_slashes())) }
}

/// A file goes into a folder, and keeps its name there.
fn folder_of<'p>(path: &Path, place: &'p Path) -> Result<Option<&'p Path>> {
    if path.file_name() != place.file_name() {
        bail!("{} is a file and keeps its name: it cannot become {}", path.display(), place.display());
    }
    Ok(place.parent())
}

fn check(place: &Path, arguments: &RestoreArgs) -> Result<()> {
    match may_write(place, arguments.overwrite.is_some()) {
        Err(error @ MayNotWrite::NotEmpty(_)) => {
            let text = error.to_string();
            bail!(Hinted::new(text, "--map-path OLD=NEW    # or --overwrite always, to write over it"))
        }
        result => Ok(result?),
    }
}
