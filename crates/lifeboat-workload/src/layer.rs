//! A container as a source: its description, its image's, and what its writable layer holds.
//!
//! The tree has `container.json`, `image.json` and `networks.json`, the engine's descriptions, `layer`, the difference to the image, and
//! `layer.json`, which says how that was read. A deleted file is a character device 0, 0 in `layer`, and a folder that
//! hides the image's has the attribute `trusted.overlay.opaque`: what overlayfs itself writes, so that a layer read from
//! its folder needs no translation. `docs/format/snapshot.md#a-container`
//!
//! Must stay true: what the engine puts into a layer for its own purposes is left out (it makes it anew); a layer that
//! does not hold all of its difference is never read from its folder ([`check`]); both ways give the same tree, but for
//! what the way through the engine says that it loses.
//!
//! Read next: [`reach`] chooses the way; [`changes`], [`frozen`] and [`stream`] are the one through the engine.

pub mod changes;
pub mod frozen;
pub mod reach;
pub mod stream;

use crate::engine::views::{Container, Image};
use crate::{engine, volume};
use lifeboat_format::snapshot::SourceKind;
use lifeboat_format::{Metadata, Timestamp, TreePath};
use lifeboat_transfer::backup::{Folder, MemoryFile, TreeSpec};
use lifeboat_transfer::source::archive::ArchiveError;
use lifeboat_transfer::source::exclude::Excludes;
use lifeboat_transfer::source::file::{read_xattrs, read_xattrs_at};
use lifeboat_transfer::source::walk::Walk;
use serde_json::Value;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// The engine's description of the container, in its source.
pub const CONTAINER_FILE: &str = "container.json";
/// The engine's description of its image.
pub const IMAGE_FILE: &str = "image.json";
/// The engine's descriptions of the networks that the container is in, by name.
pub const NETWORKS_FILE: &str = "networks.json";
/// How the layer was read.
pub const LAYER_FILE: &str = "layer.json";
/// The writable layer.
pub const LAYER_FOLDER: &str = "layer";
/// Of [`LAYER_FILE`].
pub const LAYER_VERSION: u64 = 1;
/// By this attribute a folder says that nothing of the image's shows through.
pub const OPAQUE: &[u8] = b"trusted.overlay.opaque";

/// Files and folders that the engine makes in every container.
const ARTEFACTS: [&str; 9] = [
    "/.dockerenv",
    "/dev",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/mtab",
    "/etc/resolv.conf",
    "/proc",
    "/run/secrets",
    "/sys",
];

/// Attributes by which a layer says that content is elsewhere.
const ELSEWHERE: [&[u8]; 2] = [b"trusted.overlay.redirect", b"trusted.overlay.metacopy"];

/// Why a layer cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// It refers to files of the image.
    #[error("{path}: overlayfs keeps part of it elsewhere (`{attribute}`)")]
    Elsewhere {
        /// What.
        path: TreePath,
        /// By which attribute.
        attribute: String,
    },
    /// It could not be looked through.
    #[error("{} {doing}", path.display())]
    Unreadable {
        /// The layer or a part of it.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// It could not be found out whether the engine's disk is this machine's.
    #[error(transparent)]
    Volume(#[from] volume::Error),
    /// An archive of the engine's is not whole.
    #[error("the engine's archive of {path} is not whole")]
    Unsound {
        /// Of which path in the container.
        path: String,
        /// What is wrong with it.
        source: ArchiveError,
    },
    /// What the engine gives cannot be passed on.
    #[error("the container's layer cannot be streamed")]
    Stream(#[from] std::io::Error),
}

/// The source of a container whose layer is in the folder `upper` on this machine.
///
/// The caller has proved that the engine's disk is this machine's, and called [`check`].
pub fn source(container: &Container, upper: &Path) -> Option<TreeSpec> {
    let folder = Folder { at: at(LAYER_FOLDER)?, root: upper.to_owned(), excludes: patterns(container) };
    let mut spec = without_layer(container);
    spec.folders.push(folder);
    Some(spec)
}

/// The source of a container of which only the description is kept.
pub fn without_layer(container: &Container) -> TreeSpec {
    TreeSpec {
        kind: SourceKind::Container,
        name: container.name.clone(),
        detail: String::new(),
        folders: Vec::new(),
        files: described(container, CONTAINER_FILE, &container.raw).into_iter().collect(),
    }
}

/// What is known of the container besides its layer, as files.
fn files(container: &Container, image: Option<&Image>, networks: &Value, read: &Value) -> Vec<MemoryFile> {
    let image = image.and_then(|image| described(container, IMAGE_FILE, &image.raw));
    let files = [
        described(container, CONTAINER_FILE, &container.raw),
        image,
        described(container, NETWORKS_FILE, networks),
        described(container, LAYER_FILE, read),
    ];
    files.into_iter().flatten().collect()
}

/// A file whose bytes and metadata depend on the value and the container's age alone.
fn described(container: &Container, name: &str, value: &Value) -> Option<MemoryFile> {
    let created = container.raw.pointer("/Created").and_then(|created| created.as_str());
    let mtime = created.and_then(|created| created.parse::<jiff::Timestamp>().ok()).map_or_else(
        Timestamp::default,
        |time| {
            let nanos = time.as_nanosecond();
            let second = 1_000_000_000;
            Timestamp {
                seconds: i64::try_from(nanos.div_euclid(second)).unwrap_or(0),
                nanos: u32::try_from(nanos.rem_euclid(second)).unwrap_or(0),
            }
        },
    );
    let metadata = Metadata { mode: 0o600, mtime, ctime: mtime, ..Metadata::default() };
    // Members are sorted, so equal descriptions are equal bytes.
    let bytes = format!("{value:#}\n").into_bytes();
    at(name).map(|at| MemoryFile { at, bytes, metadata })
}

fn at(name: &str) -> Option<TreePath> {
    TreePath::from_slashes(name.as_bytes()).ok()
}

/// What the engine makes, and where other things are mounted: below that the layer is hidden from the container.
fn left_out(container: &Container) -> impl Iterator<Item = &str> {
    let mounts = container.mounts.iter().map(|mount| mount.destination.as_str());
    ARTEFACTS.into_iter().chain(mounts).filter(|path| !path.trim_matches('/').is_empty())
}

fn patterns(container: &Container) -> Vec<String> {
    left_out(container).map(pattern).collect()
}

/// A gitignore rule for exactly this absolute path.
pub(crate) fn pattern(path: &str) -> String {
    let mut pattern = String::from("/");
    for symbol in path.trim_matches('/').chars() {
        if matches!(symbol, '\\' | '*' | '?' | '[' | ']' | '{' | '}' | '!' | '#' | ' ') {
            pattern.push('\\');
        }
        pattern.push(symbol);
    }
    pattern
}

/// Looks through a layer for what is not all there.
///
/// # Cost
/// A walk of the layer, with the attributes of everything in it. Reading `trusted` attributes takes `CAP_SYS_ADMIN`: without
/// it a layer looks sound that is not, so its opaque folders could not be told either; the caller has it where it could
/// read the engine's root.
pub fn check(upper: &Path) -> Result<(), LayerError> {
    let unreadable = |path: &Path, doing, source: std::io::Error| LayerError::Unreadable {
        path: path.to_owned(),
        doing,
        source,
    };
    let rules = Excludes::default()
        .compile()
        .map_err(|error| unreadable(upper, "cannot be looked through", std::io::Error::other(error)))?;
    let walk = Walk::new(upper, rules).map_err(|error| unreadable(upper, "cannot be opened", error))?;
    for met in walk {
        let met = met.map_err(|problem| unreadable(upper, problem.doing, problem.error))?;
        let attributes = match &met.own {
            Some(own) => read_xattrs(own.0.as_fd()),
            None => read_xattrs_at(&met.directory, &met.name),
        };
        let attributes = attributes
            .map_err(|errno| unreadable(upper, "has attributes that cannot be read", errno.into()))?;
        if let Some((name, _)) = attributes.iter().find(|(name, _)| ELSEWHERE.contains(&name.as_slice())) {
            let attribute = String::from_utf8_lossy(name).into_owned();
            return Err(LayerError::Elsewhere { path: met.path, attribute });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::views::Mount;
    use serde_json::json;

    fn container() -> Container {
        let mount = |destination: &str| Mount { destination: destination.into(), ..Mount::default() };
        Container {
            name: "api".into(),
            mounts: vec![mount("/data"), mount("/odd [name]*"), mount("/")],
            raw: json!({"Name": "/api", "Created": "2026-01-02T03:04:05.000000678Z", "Id": "1"}),
            ..Container::default()
        }
    }

    #[test]
    fn the_description_is_a_file_whose_bytes_depend_on_nothing_else() {
        let spec = without_layer(&container());
        let file = &spec.files[0];
        assert_eq!(file.at.to_string(), "container.json");
        let read: Value = serde_json::from_slice(&file.bytes).unwrap();
        assert_eq!(read, container().raw);
        assert_eq!(file.metadata.mtime, Timestamp { seconds: 1_767_323_045, nanos: 678 });
        assert_eq!(spec, without_layer(&container()));
    }

    #[test]
    fn mounts_and_the_engines_own_files_are_left_out_by_their_exact_names() {
        let upper = tempfile::tempdir().unwrap();
        for name in [
            "data/x",
            "data2/x",
            "sub/data/x",
            "odd [name]*/x",
            "odd n/x",
            "etc/hosts",
            "etc/hosts2",
            ".dockerenv",
            "dev/null2",
            "var/dev/x",
        ] {
            let path = upper.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let spec = source(&container(), upper.path()).unwrap();
        let rules = Excludes { patterns: spec.folders[0].excludes.clone(), ..Excludes::default() };
        let mut left: Vec<String> = Walk::new(upper.path(), rules.compile().unwrap())
            .unwrap()
            .map(|met| met.unwrap())
            .filter(|met| met.own.is_none())
            .map(|met| met.path.to_string())
            .collect();
        left.sort();
        assert_eq!(left, ["data2/x", "etc/hosts2", "odd n/x", "sub/data/x", "var/dev/x"]);
    }

    #[test]
    fn a_layer_that_keeps_content_elsewhere_is_refused_by_name() {
        let upper = tempfile::tempdir().unwrap();
        std::fs::create_dir(upper.path().join("moved")).unwrap();
        assert!(check(upper.path()).is_ok());
        let moved = std::fs::File::open(upper.path().join("moved")).unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::fsetxattr(&moved, c"trusted.overlay.redirect", b"/old", flags)
            .expect("this test needs root");
        let error = check(upper.path()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "moved: overlayfs keeps part of it elsewhere (`trusted.overlay.redirect`)"
        );
    }
}
