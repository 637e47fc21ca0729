//! Restores a path, a source or a whole snapshot.

use lifeboat_format::TreePath;
use lifeboat_format::snapshot::{Snapshot, Source, SourceKind};
use lifeboat_repo::Repository;
use lifeboat_repo::reader::ChunkReader;
use lifeboat_repo::snapshots::pick_source;
use lifeboat_transfer::restore::{self, Options, Progress, Report};
use lifeboat_transfer::snapshot_source::entries_below;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Why a restore ended before its last entry.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The repository failed.
    #[error(transparent)]
    Repository(#[from] lifeboat_repo::Error),
    /// The restore failed.
    #[error(transparent)]
    Restore(#[from] restore::Error),
}

/// Makes `target` equal to `path` of a snapshot: `/srv/app`, `stdin:NAME`, `volume:NAME/path`.
pub fn restore_path(
    repository: &Repository,
    snapshot: &Snapshot,
    path: &[u8],
    target: &Path,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Report, RestoreError> {
    let (source, base) = pick_source(snapshot, path)?;
    restore_source(repository, source, &base, target, options, progress)
}

/// Restores several paths of a snapshot, each as [`restore_path`] does.
pub fn restore_places(
    repository: &Repository,
    snapshot: &Snapshot,
    places: &[(Vec<u8>, PathBuf)],
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Report, RestoreError> {
    let mut total = Report::default();
    for (path, target) in places {
        add(&mut total, restore_path(repository, snapshot, path, target, options, progress)?);
    }
    Ok(total)
}

/// Recreates all sources below `target` by their absolute paths; volumes and the like in folders called `volume:NAME`.
///
/// `--delete` never reaches outside the sources: the directories above them are only made where they are missing.
pub fn restore_snapshot(
    repository: &Repository,
    snapshot: &Snapshot,
    target: &Path,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Report, RestoreError> {
    let mut total = Report::default();
    for source in &snapshot.sources {
        let place = place_of(repository, source, target)?;
        let report = restore_source(repository, source, &TreePath::root(), &place, options, progress)?;
        add(&mut total, report);
    }
    Ok(total)
}

/// Where a source goes below `target`. A source that is a single file is restored into its parent directory.
fn place_of(repository: &Repository, source: &Source, target: &Path) -> Result<PathBuf, RestoreError> {
    let name = match source.kind {
        SourceKind::Path => source.name.clone(),
        SourceKind::Stdin | SourceKind::Command => Vec::new(),
        SourceKind::Volume
        | SourceKind::Container
        | SourceKind::Tar
        | SourceKind::Image
        | SourceKind::Project => source.full_name(),
    };
    // Names come from the repository: they must not climb out of the target.
    let path =
        TreePath::from_slashes(&name).map_err(lifeboat_repo::Error::format("a source's name is no path"))?;
    let reader = ChunkReader::new(repository);
    let root = entries_below(&reader, source.root, &TreePath::root())?.next();
    let is_directory = matches!(root, Some(Ok((_, ref entry))) if entry.is_directory());
    let path = if is_directory { path } else { path.parent().unwrap_or_default() };
    Ok(target.join(OsStr::from_bytes(&path.to_slashes())))
}

fn restore_source(
    repository: &Repository,
    source: &Source,
    base: &TreePath,
    target: &Path,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Report, RestoreError> {
    let reader = ChunkReader::new(repository);
    let mut entries = entries_below(&reader, source.root, base)?;
    // A source that is a file has no name in its tree: it takes its own.
    let own_name = TreePath::from_slashes(&source.name).ok().and_then(|path| path.name().map(<[u8]>::to_vec));
    let first = entries.next();
    match (first, own_name) {
        (Some(Ok((path, entry))), Some(name)) if path.is_root() && !entry.is_directory() => {
            let path = TreePath::root()
                .join(&name)
                .map_err(lifeboat_repo::Error::format("a source's name is no path"))?;
            let mut single = std::iter::once(Ok((path.clone(), entry)));
            Ok(restore::restore(&mut single, &path, &reader, target, options, progress)?)
        }
        (first, _) => {
            let mut all = first.into_iter().chain(entries);
            Ok(restore::restore(&mut all, base, &reader, target, options, progress)?)
        }
    }
}

fn add(total: &mut Report, report: Report) {
    total.files += report.files;
    total.patched += report.patched;
    total.directories += report.directories;
    total.symlinks += report.symlinks;
    total.others += report.others;
    total.links += report.links;
    total.bytes += report.bytes;
    total.unchanged += report.unchanged;
    total.kept += report.kept;
    total.excluded += report.excluded;
    total.unreached += report.unreached;
    total.failed += report.failed;
    total.deleted += report.deleted;
    total.problems.extend(report.problems);
    for (kind, count) in report.problem_counts {
        match total.problem_counts.iter_mut().find(|(found, _)| *found == kind) {
            Some((_, sum)) => *sum += count,
            None => total.problem_counts.push((kind, count)),
        }
    }
}
