//! What one snapshot holds: its sources, each with the root of its tree. `docs/format/snapshot.md#sources`

use crate::limits::{DETAIL_BYTES_MAX, NAMES_MAX, NODE_DEPTH_MAX, PATH_BYTES_MAX};
use crate::wire::{Reader, Write};
use crate::{ChunkId, Error, Result, SnapshotId};

/// How a snapshot was taken; every kind is complete on restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SnapshotKind {
    /// Everything was read.
    Full = 1,
    /// What the newest snapshot of the same source had unchanged was not read.
    Incremental = 2,
    /// What the newest full snapshot of the same source had unchanged was not read.
    Differential = 3,
}

impl SnapshotKind {
    /// The word that users see and type.
    pub fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Incremental => "incremental",
            Self::Differential => "differential",
        }
    }

    pub(crate) fn from_byte(byte: u8, reader: &Reader<'_>) -> Result<Self> {
        match byte {
            1 => Ok(Self::Full),
            2 => Ok(Self::Incremental),
            3 => Ok(Self::Differential),
            other => Err(reader.damaged(format!("there is no kind {other}"))),
        }
    }
}

/// What sort of thing a source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SourceKind {
    /// A directory tree or file; the name is its path.
    Path = 1,
    /// Standard input; the tree's root is the file itself.
    Stdin = 2,
    /// A command's output; the tree's root is the file itself.
    Command = 3,
    /// A Docker volume.
    Volume = 4,
    /// A Docker container: `container.json`, and its writable layer below `layer`.
    Container = 5,
    /// What a tar archive holds.
    Tar = 6,
    /// An image of a container engine. `docs/format/image.md`
    Image = 7,
    /// A compose project: `project.json`. `docs/format/project.md`
    Project = 8,
}

impl SourceKind {
    /// The word before the colon; empty for paths.
    pub fn word(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Stdin => "stdin",
            Self::Command => "command",
            Self::Volume => "volume",
            Self::Container => "container",
            Self::Tar => "tar",
            Self::Image => "image",
            Self::Project => "project",
        }
    }

    fn from_byte(byte: u8) -> Result<Self> {
        match byte {
            1 => Ok(Self::Path),
            2 => Ok(Self::Stdin),
            3 => Ok(Self::Command),
            4 => Ok(Self::Volume),
            5 => Ok(Self::Container),
            6 => Ok(Self::Tar),
            7 => Ok(Self::Image),
            8 => Ok(Self::Project),
            other => Err(Error::Unsupported { what: "snapshot", feature: format!("source kind {other}") }),
        }
    }
}

/// The top of a tree of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TreeRoot {
    /// The top node.
    pub id: ChunkId,
    /// Its height; 0 is a leaf.
    pub height: u8,
    /// Entries in the tree.
    pub entries: u64,
}

/// One source of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// What sort of thing it is.
    pub kind: SourceKind,
    /// Its name: for paths the canonical absolute path.
    pub name: Vec<u8>,
    /// Its content.
    pub root: TreeRoot,
    /// The snapshot whose unchanged entries were trusted.
    pub parent: Option<SnapshotId>,
    /// How this source was read: a source without a parent is full, whatever was asked for.
    pub snapshot_kind: SnapshotKind,
    /// Files and directories that could not be read; 0 when the source is complete.
    pub errors: u64,
    /// Bytes of its regular files.
    pub bytes: u64,
    /// Names of the owners that occur in it, sorted by id.
    pub users: Vec<(u32, Vec<u8>)>,
    /// Names of the groups that occur in it, sorted by id.
    pub groups: Vec<(u32, Vec<u8>)>,
    /// What else must come back, and how it was read: a JSON object for volumes and containers, empty for others.
    pub detail: String,
}

impl Source {
    /// A complete source read as `full`, of which nothing more is said.
    pub fn new(kind: SourceKind, name: impl Into<Vec<u8>>, root: TreeRoot) -> Self {
        Self {
            kind,
            name: name.into(),
            root,
            parent: None,
            snapshot_kind: SnapshotKind::Full,
            errors: 0,
            bytes: 0,
            users: Vec::new(),
            groups: Vec::new(),
            detail: String::new(),
        }
    }
}

impl Source {
    /// What people call it: a path, or a word and a name: `volume:pgdata`.
    pub fn full_name(&self) -> Vec<u8> {
        let mut full = Vec::new();
        if self.kind != SourceKind::Path {
            full.extend_from_slice(self.kind.word().as_bytes());
            full.push(b':');
        }
        full.extend_from_slice(&self.name);
        full
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![self.kind as u8];
        bytes.put_string(&self.name);
        bytes.extend_from_slice(&self.root.id.0);
        bytes.push(self.root.height);
        bytes.put_varint(self.root.entries);
        bytes.push(self.snapshot_kind as u8);
        bytes.put_string(self.parent.as_ref().map_or(&[][..], |parent| &parent.0));
        bytes.put_varint(self.errors);
        bytes.put_varint(self.bytes);
        for owners in [&self.users, &self.groups] {
            bytes.put_varint(owners.len() as u64);
            for (id, name) in owners {
                bytes.put_varint(u64::from(*id));
                bytes.put_string(name);
            }
        }
        bytes.put_string(self.detail.as_bytes());
        bytes
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let kind = SourceKind::from_byte(reader.u8()?)?;
        let name = reader.string(PATH_BYTES_MAX)?.to_vec();
        let root = TreeRoot { id: ChunkId(reader.array()?), height: reader.u8()?, entries: reader.varint()? };
        if root.height >= NODE_DEPTH_MAX {
            return Err(reader.damaged("a tree is too high"));
        }
        let snapshot_kind = SnapshotKind::from_byte(reader.u8()?, reader)?;
        let parent = reader.string(16)?;
        let parent = match parent.len() {
            0 => None,
            _ => {
                Some(SnapshotId(parent.try_into().map_err(|_| reader.damaged("a parent's id is too short"))?))
            }
        };
        Ok(Self {
            kind,
            name,
            root,
            parent,
            snapshot_kind,
            errors: reader.varint()?,
            bytes: reader.varint()?,
            users: decode_owners(reader)?,
            groups: decode_owners(reader)?,
            detail: decode_detail(reader)?,
        })
    }
}

fn decode_owners(reader: &mut Reader<'_>) -> Result<Vec<(u32, Vec<u8>)>> {
    let count = reader.varint_max(NAMES_MAX)?;
    (0..count).map(|_| Ok((reader.varint_max(u32::MAX)?, reader.string(1024)?.to_vec()))).collect()
}

/// Sources that were written before there were details end with their groups.
fn decode_detail(reader: &mut Reader<'_>) -> Result<String> {
    if reader.remaining() == 0 {
        return Ok(String::new());
    }
    let detail = reader.string(DETAIL_BYTES_MAX)?.to_vec();
    String::from_utf8(detail).map_err(|_| reader.damaged("a source's detail is not UTF-8"))
}
