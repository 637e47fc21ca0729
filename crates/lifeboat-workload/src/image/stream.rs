//! An image of a snapshot as the archive that an engine loads.
//!
//! Must stay true: what an engine is given names no tags, so that loading it changes no name there; every file's digest is
//! computed while it is given, and where it is not the recorded one the archive has no end mark.

use super::description::{Description, FileRecord};
use super::{DATA_FOLDER, SKELETON_FOLDER, SPLIT_FOLDER, WHOLE_FOLDER};
use lifeboat_format::{Timestamp, TreePath, hex};
use lifeboat_transfer::dump;
use lifeboat_transfer::dump::head::{BLOCK_BYTES, head, padding};
use lifeboat_transfer::dump::joined::Joined;
use lifeboat_transfer::pieces::{ChunkError, ChunkReader};
use lifeboat_transfer::restore::EntryResult;
use lifeboat_transfer::source::archive::{Kind, Member};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{HashSet, VecDeque};
use std::io::{Error, ErrorKind, Read, Result};

/// The entries at and below a path of the image's source, in order.
pub type Below<'r> = dyn Fn(&TreePath) -> std::result::Result<Entries<'r>, ChunkError> + 'r;
/// Entries in order.
pub type Entries<'r> = Box<dyn Iterator<Item = EntryResult> + 'r>;

/// Which files are read whole and changed: they have the tags in them, and no more than that.
const NAMING: [&str; 2] = ["manifest.json", "index.json"];
/// Left out: nothing but names.
const NAMES_ONLY: &str = "repositories";
const NAMING_BYTES_MAX: u64 = 4 << 20;

/// Whether an archive names tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// As it was saved, for whoever loads it by hand.
    Kept,
    /// They are given after loading.
    Dropped,
}

/// An archive for an engine, made while it is read.
pub struct LoadStream<'r> {
    below: &'r Below<'r>,
    reader: &'r dyn ChunkReader,
    files: VecDeque<FileRecord>,
    content: Option<Content<'r>>,
    pending: Vec<u8>,
    position: usize,
    is_ended: bool,
    names: Names,
}

/// A file being given.
struct Content<'r> {
    stream: Box<dyn Read + 'r>,
    left: u64,
    hasher: Sha256,
    record: FileRecord,
}

impl<'r> LoadStream<'r> {
    /// The archive of the image that `description` describes, without the files in `omitted` and links to them.
    pub fn new(
        description: &Description,
        omitted: &HashSet<String>,
        names: Names,
        below: &'r Below<'r>,
        reader: &'r dyn ChunkReader,
    ) -> Self {
        let is_given = |file: &&FileRecord| {
            let leads_to = description.file(&file.path).map(|target| &target.path);
            let is_naming = file.path == NAMES_ONLY && names == Names::Dropped;
            !is_naming && leads_to.is_some_and(|path| !omitted.contains(path))
        };
        let files = description.files.iter().filter(is_given).cloned().collect();
        Self { below, reader, files, content: None, pending: Vec::new(), position: 0, is_ended: false, names }
    }

    fn at(&self, path: &str) -> Result<Entries<'r>> {
        let path = TreePath::from_slashes(path.as_bytes()).map_err(Error::other)?;
        (self.below)(&path).map_err(Error::other)
    }

    /// Opens a file as it was saved.
    fn open(&self, record: &FileRecord) -> Result<Box<dyn Read + 'r>> {
        let path = &record.path;
        if record.split {
            let folder = format!("{SPLIT_FOLDER}/{path}");
            let parts = self.at(&format!("{folder}/{SKELETON_FOLDER}"))?;
            let contents = self.at(&format!("{folder}/{DATA_FOLDER}"))?;
            return Ok(Box::new(Joined::new(parts, contents, self.reader)));
        }
        let found = self.at(&format!("{WHOLE_FOLDER}/{path}"))?.next();
        let missing = || Error::new(ErrorKind::NotFound, format!("the snapshot does not have {path}"));
        let (_, entry) = found.ok_or_else(missing)?.map_err(Error::other)?;
        match entry.is_directory() {
            true => Err(missing()),
            false => Ok(Box::new(dump::content(&entry, self.reader))),
        }
    }

    fn begin(&mut self, record: FileRecord) -> Result<()> {
        let kind = match &record.link {
            Some(target) => Kind::Symlink(target.clone().into_bytes()),
            None => Kind::File,
        };
        if record.link.is_some() {
            self.pending.extend(named(&record.path, kind, 0)?);
            return Ok(());
        }
        let stream = self.open(&record)?;
        if self.names == Names::Dropped && NAMING.contains(&record.path.as_str()) {
            let mut bytes = Vec::new();
            stream.take(NAMING_BYTES_MAX).read_to_end(&mut bytes)?;
            is_right(&record, &hex(&Sha256::digest(&bytes)))?;
            let bytes = without_names(&bytes)?;
            self.pending.extend(named(&record.path, kind, bytes.len() as u64)?);
            self.pending.extend_from_slice(&bytes);
            self.pending.resize(self.pending.len() + padding(bytes.len() as u64), 0);
            return Ok(());
        }
        self.pending.extend(named(&record.path, kind, record.bytes)?);
        self.content = Some(Content { stream, left: record.bytes, hasher: Sha256::new(), record });
        Ok(())
    }

    fn give(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if self.position < self.pending.len() {
                let length = buffer.len().min(self.pending.len() - self.position);
                buffer[..length].copy_from_slice(&self.pending[self.position..self.position + length]);
                self.position += length;
                return Ok(length);
            }
            (self.position, self.pending) = (0, Vec::new());
            if let Some(content) = &mut self.content {
                let length = content.read(buffer)?;
                if length > 0 {
                    return Ok(length);
                }
                self.pending = vec![0; padding(content.record.bytes)];
                self.content = None;
                continue;
            }
            match self.files.pop_front() {
                Some(record) => self.begin(record)?,
                None if self.is_ended => return Ok(0),
                None => {
                    self.is_ended = true;
                    self.pending = vec![0; 2 * BLOCK_BYTES];
                }
            }
        }
    }
}

impl Content<'_> {
    /// Some of it; nothing at its end, where all of it was what it should be.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if self.left == 0 {
            let more = self.stream.read(&mut [0])?;
            if more > 0 {
                return Err(different(&self.record));
            }
            is_right(&self.record, &hex(&std::mem::take(&mut self.hasher).finalize()))?;
            return Ok(0);
        }
        let length = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let length = self.stream.read(&mut buffer[..length])?;
        if length == 0 {
            return Err(different(&self.record));
        }
        self.hasher.update(&buffer[..length]);
        self.left -= length as u64;
        Ok(length)
    }
}

fn different(record: &FileRecord) -> Error {
    let text = format!("{} is not what it was when the snapshot was taken", record.path);
    Error::new(ErrorKind::InvalidData, text)
}

fn is_right(record: &FileRecord, sha256: &str) -> Result<()> {
    if record.sha256 == sha256 { Ok(()) } else { Err(different(record)) }
}

fn named(path: &str, kind: Kind, bytes: u64) -> Result<Vec<u8>> {
    head(&Member {
        name: path.as_bytes().to_vec(),
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Timestamp::default(),
        size: bytes,
        stored_bytes: bytes,
        stretches: None,
        xattrs: Vec::new(),
    })
}

/// Manifest or index without the names that it gives images: those are given afterwards, one by one.
fn without_names(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut value: Value = serde_json::from_slice(bytes)?;
    for entry in value.as_array_mut().into_iter().flatten() {
        if let Some(tags) = entry.get_mut("RepoTags") {
            *tags = Value::Null;
        }
    }
    for entry in value.get_mut("manifests").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(annotations) = entry.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove("io.containerd.image.name");
            annotations.remove("org.opencontainers.image.ref.name");
        }
    }
    Ok(serde_json::to_vec(&value)?)
}

impl Read for LoadStream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let given = self.give(buffer);
        if given.is_err() {
            // Nothing more comes, above all no end mark.
            (self.content, self.is_ended, self.position) = (None, true, self.pending.len());
            self.files.clear();
        }
        given
    }
}
