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

const BLOCK_BYTES: usize = 512;

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
        let (kind, size, target) = match (&entry.node, earlier) {
            (Node::Socket, _) => {
                self.left_out += 1;
                return Ok(());
            }
            (_, Some(earlier)) => (::tar::EntryType::Link, 0, Some(earlier)),
            (Node::Directory, _) => (::tar::EntryType::Directory, 0, None),
            (Node::File { size, .. }, _) => (::tar::EntryType::Regular, *size, None),
            (Node::Symlink { target }, _) => (::tar::EntryType::Symlink, 0, Some(target.clone())),
            (Node::Fifo, _) => (::tar::EntryType::Fifo, 0, None),
            (Node::CharDevice { .. }, _) => (::tar::EntryType::Char, 0, None),
            (Node::BlockDevice { .. }, _) => (::tar::EntryType::Block, 0, None),
        };
        self.pad();
        let records = self.records(&name, target.as_deref(), size, entry)?;
        if !records.is_empty() {
            let header = header(::tar::EntryType::XHeader, b"pax", records.len() as u64);
            self.pending.extend_from_slice(header.as_bytes());
            self.pending.extend_from_slice(&records);
            self.padding = records.len().next_multiple_of(BLOCK_BYTES) - records.len();
            self.pad();
        }
        let metadata = &entry.metadata;
        let mut header = header(kind, &name, size);
        header.set_mode(metadata.mode.into());
        header.set_uid(metadata.uid.into());
        header.set_gid(metadata.gid.into());
        header.set_mtime(u64::try_from(metadata.mtime.seconds).unwrap_or(0));
        if let Node::CharDevice { major, minor } | Node::BlockDevice { major, minor } = entry.node {
            header.set_device_major(major)?;
            header.set_device_minor(minor)?;
        }
        put_truncated(&mut header.as_old_mut().linkname, target.as_deref().unwrap_or_default());
        header.set_cksum();
        self.pending.extend_from_slice(header.as_bytes());
        if size > 0 {
            self.content = Some((FileReader::new(entry, self.reader), size));
        }
        self.padding = (size.next_multiple_of(BLOCK_BYTES as u64) - size) as usize;
        Ok(())
    }

    /// The last member's content ends a block.
    fn pad(&mut self) {
        let padding = std::mem::take(&mut self.padding);
        self.pending.resize(self.pending.len() + padding, 0);
    }

    /// What does not fit a header, for an extended one.
    fn records(
        &self,
        name: &[u8],
        target: Option<&[u8]>,
        size: u64,
        entry: &Entry,
    ) -> Result<Vec<u8>, Error> {
        let metadata = &entry.metadata;
        let mut records = Vec::new();
        if name.len() > 100 {
            put_record(&mut records, b"path", name);
        }
        if let Some(target) = target.filter(|target| target.len() > 100) {
            put_record(&mut records, b"linkpath", target);
        }
        if metadata.mtime.nanos > 0 || metadata.mtime.seconds < 0 {
            put_record(&mut records, b"mtime", pax_time(metadata.mtime).as_bytes());
        }
        for (word, id) in [("uid", metadata.uid), ("gid", metadata.gid)] {
            if id > 0o7_777_777 {
                put_record(&mut records, word.as_bytes(), id.to_string().as_bytes());
            }
        }
        if size > 0o77_777_777_777 {
            put_record(&mut records, b"size", size.to_string().as_bytes());
        }
        for xattr in &metadata.xattrs {
            let mut read = Vec::new();
            let value = match &xattr.value {
                XattrValue::Inline(value) => value,
                XattrValue::Chunk(id, _) => {
                    self.reader.read_chunk(ChunkKind::Data, id, &mut read).map_err(Error::Content)?;
                    &read
                }
            };
            let mut key = b"SCHILY.xattr.".to_vec();
            for byte in &xattr.name {
                // A key ends at the first `=`: GNU tar's way around it.
                match byte {
                    b'=' => key.extend_from_slice(b"%3D"),
                    b'%' => key.extend_from_slice(b"%25"),
                    byte => key.push(*byte),
                }
            }
            put_record(&mut records, &key, value);
        }
        Ok(records)
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

/// A header of which the rest is set later; a name that does not fit is in the extended header before it, which counts.
fn header(kind: ::tar::EntryType, name: &[u8], size: u64) -> ::tar::Header {
    let mut header = ::tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    put_truncated(&mut header.as_old_mut().name, name);
    header.set_cksum();
    header
}

fn put_truncated(field: &mut [u8], value: &[u8]) {
    let length = value.len().min(field.len());
    field[..length].copy_from_slice(&value[..length]);
}

/// `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn put_record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} ").as_bytes());
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// Seconds with a fraction; before 1970 both count backwards.
fn pax_time(time: lifeboat_format::Timestamp) -> String {
    let nanos = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    let sign = if nanos < 0 { "-" } else { "" };
    format!("{sign}{}.{:09}", nanos.abs() / 1_000_000_000, nanos.abs() % 1_000_000_000)
}
