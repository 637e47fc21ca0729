//! Where paths of a snapshot go on this host, and whether something is there already.
//!
//! Must stay true: restoring never writes over what is there unless that was asked for; a mapping sends whole names, and a
//! path to one place.
//! Read next: [`crate::boundary`], which of a host's paths are captured.

use std::path::{Path, PathBuf};

/// Where paths of a snapshot go on this host: `--map-path OLD=NEW`, the longest OLD first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathMap(Vec<(PathBuf, PathBuf)>);

/// Why a mapping makes no sense.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MapError {
    /// It is not of the form.
    #[error("`{0}` maps nothing: it has to be OLD=NEW, both absolute paths")]
    Form(String),
    /// The same path is mapped to two places.
    #[error("{} is mapped twice", .0.display())]
    Twice(PathBuf),
}

impl PathMap {
    /// Reads `OLD=NEW`, as often as it was given.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, MapError> {
        let mut map: Vec<(PathBuf, PathBuf)> = Vec::new();
        for word in words {
            let pair = word.split_once('=').filter(|(old, new)| is_plain(old) && is_plain(new));
            let (old, new) = pair.ok_or_else(|| MapError::Form(word.to_owned()))?;
            let (old, new): (PathBuf, PathBuf) = (Path::new(old).components().collect(), new.into());
            if map.iter().any(|(other, _)| *other == old) {
                return Err(MapError::Twice(old));
            }
            map.push((old, new));
        }
        map.sort_by_key(|(old, _)| std::cmp::Reverse(old.components().count()));
        Ok(Self(map))
    }

    /// Where a path goes.
    pub fn place(&self, path: &Path) -> PathBuf {
        let found = self.0.iter().find_map(|(old, new)| Some((path.strip_prefix(old).ok()?, new)));
        match found {
            Some((rest, new)) if rest.as_os_str().is_empty() => new.clone(),
            Some((rest, new)) => new.join(rest),
            None => path.to_owned(),
        }
    }
}

/// An absolute path without `..`: a mapping says where something goes, and not how to get there.
fn is_plain(path: &str) -> bool {
    path.starts_with('/') && !Path::new(path).components().any(|part| part == std::path::Component::ParentDir)
}

/// Why a path is not restored.
#[derive(Debug, thiserror::Error)]
pub enum MayNotWrite {
    /// Something is there.
    #[error("{} is not empty; restoring over it takes --overwrite", .0.display())]
    NotEmpty(PathBuf),
    /// Nobody knows what is there.
    #[error("{} cannot be looked at", path.display())]
    Unknown {
        /// The path.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// Whether a bind may be restored to `path`: only where nothing is, or an empty folder, unless `overwrite` was given.
pub fn may_write(path: &Path, overwrite: bool) -> Result<(), MayNotWrite> {
    if overwrite {
        return Ok(());
    }
    let unknown = |source| MayNotWrite::Unknown { path: path.to_owned(), source };
    let is_free = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => return Err(unknown(error)),
        Ok(status) if status.is_dir() => std::fs::read_dir(path).map_err(unknown)?.next().is_none(),
        Ok(_) => false,
    };
    if is_free { Ok(()) } else { Err(MayNotWrite::NotEmpty(path.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_mapping_counts_and_whole_names_only() {
        let map = PathMap::parse(["/srv=/mnt", "/srv/app=/new/app"]).unwrap();
        assert_eq!(map.place(Path::new("/srv/app/a")), Path::new("/new/app/a"));
        assert_eq!(map.place(Path::new("/srv/app")), Path::new("/new/app"));
        assert_eq!(map.place(Path::new("/srv/apple")), Path::new("/mnt/apple"));
        assert_eq!(map.place(Path::new("/srvx")), Path::new("/srvx"));
        for bad in ["/srv", "srv=/mnt", "/srv=mnt", "/a/../b=/c", "=/c", "/a="] {
            assert!(matches!(PathMap::parse([bad]), Err(MapError::Form(_))), "{bad}");
        }
        assert_eq!(PathMap::parse(["/a=/b", "/a/=/c"]), Err(MapError::Twice("/a".into())));
    }

    #[test]
    fn nothing_is_written_over_what_is_there_unless_asked() {
        let folder = tempfile::tempdir().unwrap();
        assert!(may_write(&folder.path().join("missing"), false).is_ok());
        assert!(may_write(folder.path(), false).is_ok());
        std::fs::write(folder.path().join("file"), "").unwrap();
        assert!(matches!(may_write(folder.path(), false), Err(MayNotWrite::NotEmpty(_))));
        assert!(matches!(may_write(&folder.path().join("file"), false), Err(MayNotWrite::NotEmpty(_))));
        assert!(may_write(folder.path(), true).is_ok());
        let dangling = folder.path().join("dangling");
        std::os::unix::fs::symlink("/nowhere", &dangling).unwrap();
        assert!(may_write(&dangling, false).is_err());
    }
}
