//! One entry of a tree: what Linux keeps about a file. `docs/format/tree.md#entries`

use crate::limits::{
    INLINE_PIECES_MAX, NAME_BYTES_MAX, NODE_DEPTH_MAX, SYMLINK_BYTES_MAX, XATTR_VALUE_BYTES_MAX, XATTRS_MAX,
};
use crate::list::{Piece, decode_pieces, encode_pieces};
use crate::wire::{Reader, Write};
use crate::{ChunkId, Result};

/// Seconds and nanoseconds since 1970 in UTC; nanoseconds are below 10^9 and count forward, before 1970 too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Timestamp {
    /// Whole seconds.
    pub seconds: i64,
    /// Nanoseconds past them.
    pub nanos: u32,
}

/// What every kind of file has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// Permissions, setuid, setgid and sticky: the lowest 12 bits of `st_mode`.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last change of the inode; compared, never restored.
    pub ctime: Timestamp,
    /// Inode number; compared, never restored.
    pub inode: u64,
    /// Extended attributes sorted by name: ACLs and file capabilities among them.
    pub xattrs: Vec<Xattr>,
}

/// One extended attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xattr {
    /// With its namespace: `user.comment`.
    pub name: Vec<u8>,
    /// Its value.
    pub value: XattrValue,
}

/// A value in place, or as a chunk where it is long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum XattrValue {
    /// The bytes.
    Inline(Vec<u8>),
    /// A data chunk and its length.
    Chunk(ChunkId, u32),
}

/// Names one set of hard links inside a source; a hash of the first member's path, so that it stays over snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkGroup(pub u64);

/// Where a regular file's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// No bytes at all.
    Empty,
    /// One chunk is the whole file.
    Chunk(ChunkId),
    /// The few pieces of a file of middling size, in order, and how it was cut.
    Pieces(Chunker, Vec<Piece>),
    /// A chunk list.
    List(ListRoot),
}

/// The top of a chunk list, and how its file was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListRoot {
    /// The top node.
    pub id: ChunkId,
    /// Its height; 0 is a leaf.
    pub height: u8,
    /// How the file was cut; later snapshots keep to it.
    pub chunker: Chunker,
}

/// How a file was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Chunker {
    /// By content, with the repository's parameters.
    Content = 0,
    /// At multiples of 8 KiB.
    Pages8K = 1,
    /// At multiples of 16 KiB.
    Pages16K = 2,
    /// At multiples of 4 KiB.
    Pages4K = 3,
}

impl Chunker {
    /// Length of a page; `None` for files that are cut by content.
    pub fn page_bytes(self) -> Option<u32> {
        match self {
            Self::Content => None,
            Self::Pages8K => Some(8 << 10),
            Self::Pages16K => Some(16 << 10),
            Self::Pages4K => Some(4 << 10),
        }
    }

    pub(crate) fn from_byte(byte: u8, reader: &Reader<'_>) -> Result<Self> {
        match byte {
            0 => Ok(Self::Content),
            1 => Ok(Self::Pages8K),
            2 => Ok(Self::Pages16K),
            3 => Ok(Self::Pages4K),
            other => Err(reader.damaged(format!("there is no chunker {other}"))),
        }
    }
}

/// What kind of file it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A directory; its entries follow it in the tree.
    Directory,
    /// A regular file.
    File {
        /// Length in bytes.
        size: u64,
        /// Its bytes.
        content: Content,
    },
    /// A symbolic link.
    Symlink {
        /// What it points to.
        target: Vec<u8>,
    },
    /// A named pipe.
    Fifo,
    /// A socket, recorded as a name: what was behind it is a process.
    Socket,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// One file, directory, link or special file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Kind and content.
    pub node: Node,
    /// What every kind has.
    pub metadata: Metadata,
    /// The set of hard links that it belongs to; never for directories.
    pub link: Option<LinkGroup>,
    /// Whether the file was still changing when it was last read: its content may mix two moments.
    pub torn: bool,
}

pub(crate) const DIRECTORY: u8 = 1;
pub(crate) const FILE: u8 = 2;
pub(crate) const SYMLINK: u8 = 3;
pub(crate) const FIFO: u8 = 4;
pub(crate) const SOCKET: u8 = 5;
pub(crate) const CHAR_DEVICE: u8 = 6;
pub(crate) const BLOCK_DEVICE: u8 = 7;
pub(crate) const FLAG_LINK: u8 = 0x08;
pub(crate) const FLAG_XATTRS: u8 = 0x10;
pub(crate) const FLAG_TORN: u8 = 0x20;

impl Entry {
    /// A directory.
    pub fn directory(metadata: Metadata) -> Self {
        Self { node: Node::Directory, metadata, link: None, torn: false }
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self.node, Node::Directory)
    }

    /// Length of a regular file; 0 for everything else.
    pub fn size(&self) -> u64 {
        match self.node {
            Node::File { size, .. } => size,
            _ => 0,
        }
    }

    /// Appends the entry's encoding.
    pub fn encode(&self, output: &mut Vec<u8>) {
        let mut first = match self.node {
            Node::Directory => DIRECTORY,
            Node::File { .. } => FILE,
            Node::Symlink { .. } => SYMLINK,
            Node::Fifo => FIFO,
            Node::Socket => SOCKET,
            Node::CharDevice { .. } => CHAR_DEVICE,
            Node::BlockDevice { .. } => BLOCK_DEVICE,
        };
        first |= if self.link.is_some() { FLAG_LINK } else { 0 };
        first |= if self.metadata.xattrs.is_empty() { 0 } else { FLAG_XATTRS };
        first |= if self.torn { FLAG_TORN } else { 0 };
        output.push(first);
        encode_metadata(&self.metadata, output);
        if let Some(link) = self.link {
            output.put_u64(link.0);
        }
        match &self.node {
            Node::File { size, content } => {
                output.put_varint(*size);
                encode_content(content, output);
            }
            Node::Symlink { target } => output.put_string(target),
            Node::CharDevice { major, minor } | Node::BlockDevice { major, minor } => {
                output.put_varint(u64::from(*major));
                output.put_varint(u64::from(*minor));
            }
            Node::Directory | Node::Fifo | Node::Socket => {}
        }
    }

    /// Reads an entry.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let first = reader.u8()?;
        if first & 0xc0 != 0 {
            return Err(reader.damaged("an entry has unknown flags"));
        }
        let metadata = decode_metadata(reader, first & FLAG_XATTRS != 0)?;
        let link = if first & FLAG_LINK != 0 { Some(LinkGroup(reader.u64()?)) } else { None };
        let node = match first & 0x07 {
            DIRECTORY => Node::Directory,
            FILE => {
                let size = reader.varint()?;
                let content = decode_content(reader, size)?;
                let consistent = matches!(content, Content::Empty) == (size == 0) && size <= i64::MAX as u64;
                if !consistent {
                    return Err(reader.damaged("a file's size and content disagree"));
                }
                Node::File { size, content }
            }
            SYMLINK => Node::Symlink { target: reader.string(SYMLINK_BYTES_MAX)?.to_vec() },
            FIFO => Node::Fifo,
            SOCKET => Node::Socket,
            CHAR_DEVICE => {
                Node::CharDevice { major: reader.varint_max(u32::MAX)?, minor: reader.varint_max(u32::MAX)? }
            }
            BLOCK_DEVICE => {
                Node::BlockDevice { major: reader.varint_max(u32::MAX)?, minor: reader.varint_max(u32::MAX)? }
            }
            _ => return Err(reader.damaged("an entry is of no known kind")),
        };
        if link.is_some() && node == Node::Directory {
            return Err(reader.damaged("a directory is hard-linked"));
        }
        Ok(Self { node, metadata, link, torn: first & FLAG_TORN != 0 })
    }
}

pub(crate) fn encode_metadata(metadata: &Metadata, output: &mut Vec<u8>) {
    output.put_varint(u64::from(metadata.mode));
    output.put_varint(u64::from(metadata.uid));
    output.put_varint(u64::from(metadata.gid));
    for time in [metadata.mtime, metadata.ctime] {
        output.put_signed(time.seconds);
        output.put_varint(u64::from(time.nanos));
    }
    output.put_varint(metadata.inode);
    if metadata.xattrs.is_empty() {
        return;
    }
    output.put_varint(metadata.xattrs.len() as u64);
    for xattr in &metadata.xattrs {
        output.put_string(&xattr.name);
        match &xattr.value {
            XattrValue::Inline(value) => {
                output.push(0);
                output.put_string(value);
            }
            XattrValue::Chunk(id, bytes) => {
                output.push(1);
                output.put_varint(u64::from(*bytes));
                output.extend_from_slice(&id.0);
            }
        }
    }
}

pub(crate) fn decode_metadata(reader: &mut Reader<'_>, with_xattrs: bool) -> Result<Metadata> {
    let mut metadata = Metadata {
        mode: reader.varint_max(0o7777)? as u16,
        uid: reader.varint_max(u32::MAX)?,
        gid: reader.varint_max(u32::MAX)?,
        mtime: decode_time(reader)?,
        ctime: decode_time(reader)?,
        inode: reader.varint()?,
        xattrs: Vec::new(),
    };
    if with_xattrs {
        for _ in 0..reader.varint_max(XATTRS_MAX)? {
            let name = reader.string(NAME_BYTES_MAX as u32)?.to_vec();
            if name.is_empty()
                || name.contains(&0)
                || metadata.xattrs.last().is_some_and(|last| last.name >= name)
            {
                return Err(reader.damaged("attribute names are not sorted"));
            }
            let value = match reader.u8()? {
                0 => XattrValue::Inline(reader.string(XATTR_VALUE_BYTES_MAX)?.to_vec()),
                1 => {
                    let bytes = reader.varint_max(XATTR_VALUE_BYTES_MAX)?;
                    XattrValue::Chunk(ChunkId(reader.array()?), bytes)
                }
                _ => return Err(reader.damaged("an attribute is of no known kind")),
            };
            metadata.xattrs.push(Xattr { name, value });
        }
        if metadata.xattrs.is_empty() {
            return Err(reader.damaged("an entry without attributes says it has some"));
        }
    }
    Ok(metadata)
}

fn decode_time(reader: &mut Reader<'_>) -> Result<Timestamp> {
    Ok(Timestamp { seconds: reader.signed()?, nanos: reader.varint_max(999_999_999)? })
}

fn encode_content(content: &Content, output: &mut Vec<u8>) {
    match content {
        Content::Empty => output.push(0),
        Content::Chunk(id) => {
            output.push(1);
            output.extend_from_slice(&id.0);
        }
        Content::Pieces(chunker, pieces) => {
            output.extend_from_slice(&[3, *chunker as u8]);
            encode_pieces(pieces, output);
        }
        Content::List(root) => {
            output.extend_from_slice(&[2, root.height, root.chunker as u8]);
            output.extend_from_slice(&root.id.0);
        }
    }
}

fn decode_content(reader: &mut Reader<'_>, size: u64) -> Result<Content> {
    match reader.u8()? {
        0 => Ok(Content::Empty),
        1 => Ok(Content::Chunk(ChunkId(reader.array()?))),
        2 => {
            let height = reader.u8()?;
            if height >= NODE_DEPTH_MAX {
                return Err(reader.damaged("a chunk list is too deep"));
            }
            let chunker = Chunker::from_byte(reader.u8()?, reader)?;
            Ok(Content::List(ListRoot { id: ChunkId(reader.array()?), height, chunker }))
        }
        3 => {
            let chunker = Chunker::from_byte(reader.u8()?, reader)?;
            Ok(Content::Pieces(chunker, decode_pieces(reader, INLINE_PIECES_MAX, size)?))
        }
        _ => Err(reader.damaged("a file's content is of no known kind")),
    }
}
