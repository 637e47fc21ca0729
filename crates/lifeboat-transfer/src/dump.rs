//! Writes a file, or a subtree as a tar archive, to a stream.
//!
//! Archives are POSIX pax: long names, sub-second times, large ids and extended attributes are kept; holes come out as
//! zeros, and sockets, which tar cannot hold, are left out.

pub mod head;
pub mod joined;

use crate::pieces::{ChunkError, ChunkReader, Pieces};
use crate::restore::EntryResult;
use crate::source::archive::{Kind, Member};
use head::{BLOCK_BYTES, head, padding};
use lifeboat_format::list::Piece;
use lifeboat_format::region::ChunkKind;
use lifeboat_format::{Entry, LinkGroup, Node, TreePath, XattrValue};
use std::collections::HashMap;
use std::io::{Read, Write};

/// An extended attribute.
type NameAndValue = (Vec<u8>, Vec<u8>);

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

/// The content of a regular file, read as it is asked for; of anything else nothing.
pub fn content<'r>(entry: &Entry, reader: &'r dyn ChunkReader) -> impl Read + 'r {
    FileReader::new(entry, reader)
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

/// Writes the entries at and below `base` as a tar archive; names are relative to `base`. Gives how many were left out.
pub fn tar<'r>(
    entries: impl Iterator<Item = EntryResult> + 'r,
    base: &TreePath,
    reader: &'r dyn ChunkReader,
    output: &mut dyn Write,
) -> Result<u64, Error> {
    let mut archive = TarStream::new(entries, base, reader);
    let mut buffer = vec![0; 1 << 18];
    loop {
        match archive.give(&mut buffer)? {
            0 => return Ok(archive.left_out()),
            length => output.write_all(&buffer[..length])?,
        }
    }
}

/// A tar archive of a tree, made while it is read: for whoever takes a stream, as an engine does.
///
/// Must stay true: an archive that cannot be made to its end has no end mark, so nobody takes it for a whole one. After
/// an error nothing more comes.
///
/// Memory is one chunk, and each set of hard links with the name that it had first.
pub struct TarStream<'r> {
    entries: Box<dyn Iterator<Item = EntryResult> + 'r>,
    base: TreePath,
    reader: &'r dyn ChunkReader,
    links: HashMap<LinkGroup, (Vec<u8>, Node)>,
    /// Headers and padding that are still to be given.
    pending: Vec<u8>,
    position: usize,
    /// The content behind them, and how much of it is still to come.
    content: Option<(FileReader<'r>, u64)>,
    /// What follows the content, before the next header.
    padding: usize,
    state: State,
    left_out: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Entries,
    Ended,
    Failed,
}

impl<'r> TarStream<'r> {
    /// The archive of the entries at and below `base`; names are relative to it.
    pub fn new(
        entries: impl Iterator<Item = EntryResult> + 'r,
        base: &TreePath,
        reader: &'r dyn ChunkReader,
    ) -> Self {
        Self {
            entries: Box::new(entries),
            base: base.clone(),
            reader,
            links: HashMap::new(),
            pending: Vec::new(),
            position: 0,
            content: None,
            padding: 0,
            state: State::Entries,
            left_out: 0,
        }
    }

    /// Sockets so far: an archive cannot hold them.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Some of the archive; nothing at its end.
    fn give(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let given = self.try_give(buffer);
        if given.is_err() {
            self.state = State::Failed;
            (self.content, self.position) = (None, self.pending.len());
        }
        given
    }

    fn try_give(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        loop {
            if buffer.is_empty() {
                return Ok(0);
            }
            if self.position < self.pending.len() {
                let length = buffer.len().min(self.pending.len() - self.position);
                buffer[..length].copy_from_slice(&self.pending[self.position..self.position + length]);
                self.position += length;
                return Ok(length);
            }
            (self.position, self.pending) = (0, Vec::new());
            if let Some((content, left)) = &mut self.content {
                if *left > 0 {
                    let length = buffer.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    let given = content.read(&mut buffer[..length]);
                    let given = given.map_err(|error| Error::Content(Box::new(error)))?;
                    if given == 0 {
                        return Err(Error::Content("a file is shorter than its entry says".into()));
                    }
                    *left -= given as u64;
                    return Ok(given);
                }
                self.content = None;
                continue;
            }
            match self.state {
                State::Ended | State::Failed => return Ok(0),
                State::Entries => match self.entries.next() {
                    Some(entry) => {
                        let (path, entry) = entry.map_err(Error::Content)?;
                        self.begin(&path, &entry)?;
                    }
                    None => {
                        self.pad();
                        self.pending.resize(self.pending.len() + 2 * BLOCK_BYTES, 0);
                        self.state = State::Ended;
                    }
                },
            }
        }
    }

    fn begin(&mut self, path: &TreePath, entry: &Entry) -> Result<(), Error> {
        let mut name = match path.strip(&self.base) {
            Some(inner) if inner.is_root() => {
                path.name().filter(|_| !entry.is_directory()).unwrap_or(b".").to_vec()
            }
            Some(inner) => inner.to_slashes(),
            None => return Ok(()),
        };
        if entry.is_directory() {
            name.push(b'/');
        }
        // Contents within a group differ where the file changed while it was read: those are files of their own.
        let earlier = entry.link.and_then(|group| match self.links.get(&group) {
            Some((earlier, node)) => (*node == entry.node).then(|| earlier.clone()),
            None => {
                self.links.insert(group, (name.clone(), entry.node.clone()));
                None
            }
        });
        let (kind, size) = match (&entry.node, earlier) {
            (Node::Socket, _) => {
                self.left_out += 1;
                return Ok(());
            }
            (_, Some(earlier)) => (Kind::HardLink(earlier), 0),
            (Node::Directory, _) => (Kind::Directory, 0),
            (Node::File { size, .. }, _) => (Kind::File, *size),
            (Node::Symlink { target }, _) => (Kind::Symlink(target.clone()), 0),
            (Node::Fifo, _) => (Kind::Fifo, 0),
            (Node::CharDevice { major, minor }, _) => (Kind::CharDevice(*major, *minor), 0),
            (Node::BlockDevice { major, minor }, _) => (Kind::BlockDevice(*major, *minor), 0),
        };
        self.pad();
        let metadata = &entry.metadata;
        let head = head(&Member {
            name,
            kind,
            mode: metadata.mode,
            uid: metadata.uid,
            gid: metadata.gid,
            mtime: metadata.mtime,
            size,
            stored_bytes: size,
            stretches: None,
            xattrs: self.xattrs(entry)?,
        })?;
        self.pending.extend_from_slice(&head);
        if size > 0 {
            self.content = Some((FileReader::new(entry, self.reader), size));
        }
        self.padding = padding(size);
        Ok(())
    }

    /// The last member's content ends a block.
    fn pad(&mut self) {
        let padding = std::mem::take(&mut self.padding);
        self.pending.resize(self.pending.len() + padding, 0);
    }

    /// The attributes with their values.
    fn xattrs(&self, entry: &Entry) -> Result<Vec<NameAndValue>, Error> {
        let value = |value: &XattrValue| -> Result<Vec<u8>, Error> {
            match value {
                XattrValue::Inline(value) => Ok(value.clone()),
                XattrValue::Chunk(id, _) => {
                    let mut read = Vec::new();
                    self.reader.read_chunk(ChunkKind::Data, id, &mut read).map_err(Error::Content)?;
                    Ok(read)
                }
            }
        };
        let xattrs = entry.metadata.xattrs.iter();
        xattrs.map(|xattr| Ok((xattr.name.clone(), value(&xattr.value)?))).collect()
    }
}

impl Read for TarStream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.give(buffer).map_err(|error| match error {
            Error::Content(source) => std::io::Error::other(source),
            Error::Stream(error) => error,
        })
    }
}
