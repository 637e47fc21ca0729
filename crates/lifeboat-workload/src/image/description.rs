//! What a snapshot says of an image: `image.json`. `docs/format/image.md#imagejson`

use super::rewrite::FILES_MAX;
use super::{Error, Images};
use crate::engine::views::EngineInfo;
use crate::versioned;
use lifeboat_format::TreePath;
use serde::{Deserialize, Serialize};

/// A description longer than this is no description.
pub const DESCRIPTION_BYTES_MAX: u64 = 16 << 20;

/// How an engine keeps images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Store {
    /// By layers of a graph driver: an image's id is the digest of its configuration.
    #[default]
    Graph,
    /// By containerd: an image's id is the digest of its manifest or index, with the layers as they were compressed.
    Containerd,
}

impl Store {
    /// The kind of store that an engine has.
    pub fn of(info: &EngineInfo) -> Self {
        if info.is_containerd_store { Self::Containerd } else { Self::Graph }
    }

    /// The word that users see.
    pub fn word(self) -> &'static str {
        match self {
            Self::Graph => "graph",
            Self::Containerd => "containerd",
        }
    }
}

/// An image, as it was, and what is stored of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// 1; greater ones are refused.
    pub version: u32,
    /// As the engine knew it.
    pub id: String,
    /// The digest of its configuration.
    pub config: String,
    /// Its names then.
    pub tags: Vec<String>,
    /// Its names by digest, in the registries that it came from.
    pub digests: Vec<String>,
    /// How the engine kept it.
    pub store: Store,
    /// How it is stored.
    pub images: Images,
    /// `linux/amd64`, or with a variant.
    pub platform: String,
    /// Version of the engine that saved it.
    pub engine: String,
    /// Digests of its layers, uncompressed, the lowest first.
    pub diff_ids: Vec<String>,
    /// Which file has each of them.
    pub layers: Vec<String>,
    /// Platforms that its index names and the engine did not have.
    pub absent_platforms: u64,
    /// What an engine is given to load it, in order.
    pub files: Vec<FileRecord>,
}

/// One file of the archive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Its name there.
    pub path: String,
    /// What it points to, if it is a symbolic link; then it has nothing of the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Its length.
    #[serde(default)]
    pub bytes: u64,
    /// Its digest, in hexadecimal.
    #[serde(default)]
    pub sha256: String,
    /// Whether it was taken apart.
    #[serde(default)]
    pub split: bool,
    /// Of a gzip stream that was taken apart as what it was made of: how many bytes of that its recipe takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<u64>,
}

impl Description {
    /// What this program writes.
    pub const VERSION: u32 = 1;

    /// Reads one; every path in it is a fit one.
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        let read: Self = versioned::read(bytes, Self::VERSION).map_err(Error::Record)?;
        if read.files.len() > FILES_MAX || read.layers.len() > FILES_MAX {
            return Err(Error::Record(format!("has more than {FILES_MAX} files")));
        }
        for file in &read.files {
            checked_path(file.path.as_bytes())
                .map_err(|wrong| Error::Record(format!("names a file: {wrong}")))?;
        }
        if read.diff_ids.len() != read.layers.len() {
            return Err(Error::Record("does not say which file has each layer".into()));
        }
        Ok(read)
    }

    /// A file by its name, following links.
    pub fn file(&self, path: &str) -> Option<&FileRecord> {
        resolve(&self.files, path)
    }
}

/// A name in an image's archive: relative, in UTF-8, without `.` and `..`.
pub(super) fn checked_path(name: &[u8]) -> Result<String, String> {
    let shown = || String::from_utf8_lossy(name).into_owned();
    let text = std::str::from_utf8(name).map_err(|_| format!("`{}` is no name for a file", shown()))?;
    let text = text.strip_suffix('/').unwrap_or(text);
    let is_fit = |path: TreePath| path.to_slashes() == text.as_bytes() && !path.is_root();
    match TreePath::from_slashes(text.as_bytes()).is_ok_and(is_fit) {
        true => Ok(text.to_owned()),
        false => Err(format!("`{}` is no name for a file", shown())),
    }
}

/// A file by its name. A link leads to one that is no link.
pub(super) fn resolve<'f>(files: &'f [FileRecord], path: &str) -> Option<&'f FileRecord> {
    let find = |path: &str| files.iter().find(|file| file.path == path);
    let found = find(path)?;
    match &found.link {
        None => Some(found),
        Some(target) => {
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            find(&beside(folder, target)?).filter(|file| file.link.is_none())
        }
    }
}

/// Where a relative link in a folder points to; `None` where that is outside.
fn beside(folder: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => _ = parts.pop()?,
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_files_and_nowhere_else() {
        let file = |path: &str, link: Option<&str>| FileRecord {
            path: path.into(),
            link: link.map(str::to_owned),
            ..FileRecord::default()
        };
        let files = [
            file("a/layer.tar", None),
            file("b/layer.tar", Some("../a/layer.tar")),
            file("c", Some("b/layer.tar")),
        ];
        let found = |path: &str| resolve(&files, path).map(|file| file.path.as_str());
        assert_eq!(found("a/layer.tar"), Some("a/layer.tar"));
        assert_eq!(found("b/layer.tar"), Some("a/layer.tar"));
        assert_eq!(found("c"), None);
        assert_eq!(beside("a", "../../x"), None);
    }

    #[test]
    fn a_path_that_leads_elsewhere_is_refused() {
        for bad in ["", "/", "/etc/passwd", "../x", "a/../b", "a//b", "./a"] {
            assert!(checked_path(bad.as_bytes()).is_err(), "{bad}");
            let text = format!(r#"{{"version":1,"files":[{{"path":"{bad}"}}]}}"#);
            assert!(Description::read(text.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(checked_path(b"blobs/sha256/"), Ok("blobs/sha256".into()));
        assert!(
            matches!(Description::read(br#"{"version":2}"#), Err(Error::Record(text)) if text.contains("newer"))
        );
    }
}
