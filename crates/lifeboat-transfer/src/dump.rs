//! Writes a file, or a subtree as a tar archive, to a stream.
//!
//! Archives are POSIX pax: long names, sub-second times, large ids and extended attributes are kept; holes come out as
//! zeros, and sockets, which tar cannot hold, are left out.

use crate::pieces::{ChunkError, ChunkReader, Pieces};
use crate::restore::EntryResult;
use lifeboat_format::list::Piece;
use lifeboat_format::region::ChunkKind;
use lifeboat_format::{Entry, LinkGroup, Node, TreePath, XattrValue};
use std::collections::HashMap;
use std::io::{Read, Write};

/// Why a dump ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The repository cannot give the content.
    #[error("the content cannot be read")]
    Content(#[source] ChunkError),
    /// The stream does not take it.
    #[error("the stream cannot be written")]
    Stream(#[from] std::io::Error),
}

/// The content of a regular file, read as it is asked for.
pub(crate) struct FileReader<'r> {
    reader: &'r dyn ChunkReader,
    pieces: Box<dyn Iterator<Item = Result<Piece, ChunkError>> + 'r>,
    chunk: Vec<u8>,
    position: usize,
    zeros: u64,
}

impl<'r> FileReader<'r> {
    pub(crate) fn new(entry: &Entry, reader: &'r dyn ChunkReader) -> Self {
        let pieces: Box<dyn Iterator<Item = Result<Piece, ChunkError>> + 'r> = match &entry.node {
            Node::File { content, size } => Box::new(
                Pieces::new(reader, content, *size).map(|piece| piece.map_err(|error| Box::new(error) as _)),
            ),
            _ => Box::new(std::iter::empty()),
        };
        Self { reader, pieces, chunk: Vec::new(), position: 0, zeros: 0 }
    }
}

impl Read for FileReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            if self.position < self.chunk.len() {
                let length = buffer.len().min(self.chunk.len() - self.position);
                buffer[..length].copy_from_slice(&self.chunk[self.position..self.position + length]);
                self.position += length;
                return Ok(length);
            }
            if self.zeros > 0 {
                let length = buffer.len().min(usize::try_from(self.zeros).unwrap_or(usize::MAX));
                buffer[..length].fill(0);
                self.zeros -= length as u64;
                return Ok(length);
            }
            match self.pieces.next().transpose().map_err(std::io::Error::other)? {
                None => return Ok(0),
                Some(Piece::Hole(bytes) | Piece::Zeros(bytes)) => self.zeros = bytes,
                Some(Piece::Chunk(id, bytes)) => {
                    self.chunk.clear();
                    self.position = 0;
                    self.reader
                        .read_chunk(ChunkKind::Data, &id, &mut self.chunk)
                        .map_err(std::io::Error::other)?;
                    if self.chunk.len() != bytes as usize {
                        return Err(std::io::Error::other("a chunk is not as long as its list says"));
                    }
                }
            }
        }
    }
}

/// Writes the content of a file, or the target of a link.
pub fn file(entry: &Entry, reader: &dyn ChunkReader, output: &mut dyn Write) -> Result<(), Error> {
    if let Node::Symlink { target } = &entry.node {
        output.write_all(target)?;
        return Ok(());
    }
    let mut content = FileReader::new(entry, reader);
    let mut buffer = vec![0; 1 << 18];
    loop {
        let length = content.read(&mut buffer).map_err(|error| Error::Content(Box::new(error)))?;
        if length == 0 {
            return Ok(());
        }
        output.write_all(&buffer[..length])?;
    }
}

/// Writes the entries at and below `base` as a tar archive; names are relative to `base`.
pub fn tar(
    entries: &mut dyn Iterator<Item = EntryResult>,
    base: &TreePath,
    reader: &dyn ChunkReader,
    output: &mut dyn Write,
) -> Result<(), Error> {
    let mut archive = tar::Builder::new(output);
    let mut links: HashMap<LinkGroup, Vec<u8>> = HashMap::new();
    for entry in entries {
        let (path, entry) = entry.map_err(Error::Content)?;
        let mut name = match path.strip(base) {
            Some(inner) if inner.is_root() => {
                path.name().filter(|_| !entry.is_directory()).unwrap_or(b".").to_vec()
            }
            Some(inner) => inner.to_slashes(),
            None => continue,
        };
        if entry.is_directory() {
            name.push(b'/');
        }
        append(&mut archive, &name, &entry, reader, &mut links)?;
    }
    archive.finish()?;
    Ok(())
}

fn append<W: Write>(
    archive: &mut tar::Builder<W>,
    name: &[u8],
    entry: &Entry,
    reader: &dyn ChunkReader,
    links: &mut HashMap<LinkGroup, Vec<u8>>,
) -> Result<(), Error> {
    let earlier = entry.link.and_then(|group| match links.get(&group) {
        Some(earlier) => Some(earlier.clone()),
        None => {
            links.insert(group, name.to_vec());
            None
        }
    });
    let (kind, size, target) = match (&entry.node, &earlier) {
        (Node::Socket, _) => return Ok(()),
        (_, Some(earlier)) => (tar::EntryType::Link, 0, Some(earlier.clone())),
        (Node::Directory, _) => (tar::EntryType::Directory, 0, None),
        (Node::File { size, .. }, _) => (tar::EntryType::Regular, *size, None),
        (Node::Symlink { target }, _) => (tar::EntryType::Symlink, 0, Some(target.clone())),
        (Node::Fifo, _) => (tar::EntryType::Fifo, 0, None),
        (Node::CharDevice { .. }, _) => (tar::EntryType::Char, 0, None),
        (Node::BlockDevice { .. }, _) => (tar::EntryType::Block, 0, None),
    };
    write_extensions(archive, name, target.as_deref(), entry, reader)?;
    let metadata = &entry.metadata;
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(metadata.mode.into());
    header.set_uid(metadata.uid.into());
    header.set_gid(metadata.gid.into());
    header.set_mtime(u64::try_from(metadata.mtime.seconds).unwrap_or(0));
    if let Node::CharDevice { major, minor } | Node::BlockDevice { major, minor } = entry.node {
        header.set_device_major(major)?;
        header.set_device_minor(minor)?;
    }
    // What does not fit here is in the pax header before it, which counts.
    put_truncated(&mut header.as_old_mut().name, name);
    put_truncated(&mut header.as_old_mut().linkname, target.as_deref().unwrap_or_default());
    header.set_cksum();
    archive.append(&header, FileReader::new(entry, reader).take(size)).map_err(Error::Stream)
}

fn put_truncated(field: &mut [u8], value: &[u8]) {
    let length = value.len().min(field.len());
    field[..length].copy_from_slice(&value[..length]);
}

fn write_extensions<W: Write>(
    archive: &mut tar::Builder<W>,
    name: &[u8],
    target: Option<&[u8]>,
    entry: &Entry,
    reader: &dyn ChunkReader,
) -> Result<(), Error> {
    let metadata = &entry.metadata;
    let mut extensions: Vec<(String, Vec<u8>)> = Vec::new();
    if name.len() > 100 {
        extensions.push(("path".into(), name.to_vec()));
    }
    if let Some(target) = target.filter(|target| target.len() > 100) {
        extensions.push(("linkpath".into(), target.to_vec()));
    }
    if metadata.mtime.nanos > 0 || metadata.mtime.seconds < 0 {
        extensions.push(("mtime".into(), pax_time(metadata.mtime).into_bytes()));
    }
    for (word, id) in [("uid", metadata.uid), ("gid", metadata.gid)] {
        if id > 0o7_777_777 {
            extensions.push((word.into(), id.to_string().into_bytes()));
        }
    }
    if entry.size() > 0o77_777_777_777 {
        extensions.push(("size".into(), entry.size().to_string().into_bytes()));
    }
    for xattr in &metadata.xattrs {
        let value = match &xattr.value {
            XattrValue::Inline(value) => value.clone(),
            XattrValue::Chunk(id, _) => {
                let mut value = Vec::new();
                reader.read_chunk(ChunkKind::Data, id, &mut value).map_err(Error::Content)?;
                value
            }
        };
        extensions.push((format!("SCHILY.xattr.{}", String::from_utf8_lossy(&xattr.name)), value));
    }
    if extensions.is_empty() {
        return Ok(());
    }
    let borrowed = extensions.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
    Ok(archive.append_pax_extensions(borrowed)?)
}

/// Seconds with a fraction; before 1970 both count backwards.
fn pax_time(time: lifeboat_format::Timestamp) -> String {
    let nanos = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    let sign = if nanos < 0 { "-" } else { "" };
    format!("{sign}{}.{:09}", nanos.abs() / 1_000_000_000, nanos.abs() % 1_000_000_000)
}
