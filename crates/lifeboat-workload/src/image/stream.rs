//! An image of a snapshot as the archive that an engine loads.
//!
//! Must stay true: what an engine is given names no tags, so that loading it changes no name there; every file's digest is
//! computed while it is given, and where it is not the recorded one the archive has no end mark.

use super::description::{Description, FileRecord};
use super::gzip::Recreating;
use super::hashing::Hashing;
use super::{DATA_FOLDER, RECIPE_FOLDER, SKELETON_FOLDER, SPLIT_FOLDER, WHOLE_FOLDER};
use lifeboat_format::{TreePath, hex};
use lifeboat_transfer::dump;
use lifeboat_transfer::dump::head::{BLOCK_BYTES, padding, plain_head};
use lifeboat_transfer::dump::joined::Joined;
use lifeboat_transfer::pieces::{ChunkError, ChunkReader};
use lifeboat_transfer::restore::EntryResult;
use lifeboat_transfer::source::archive::Kind;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{HashSet, VecDeque};
use std::io::{Cursor, Error, ErrorKind, Read, Result};

/// The entries at and below a path of the image's source, in order.
type Below<'r> = dyn Fn(&TreePath) -> std::result::Result<Entries<'r>, ChunkError> + 'r;
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
    below: Box<Below<'r>>,
    reader: &'r dyn ChunkReader,
    files: VecDeque<FileRecord>,
    content: Option<Content<'r>>,
    /// Headers, padding and small files that are to be given.
    pending: Cursor<Vec<u8>>,
    is_ended: bool,
    names: Names,
}

/// A file being given.
struct Content<'r> {
    stream: Hashing<Box<dyn Read + 'r>>,
    left: u64,
    record: FileRecord,
}

impl<'r> LoadStream<'r> {
    /// The archive of the image that `description` describes, without the files in `omitted` and links to them.
    pub fn new(
        description: &Description,
        omitted: &HashSet<String>,
        names: Names,
        below: impl Fn(&TreePath) -> std::result::Result<Entries<'r>, ChunkError> + 'r,
        reader: &'r dyn ChunkReader,
    ) -> Self {
        let below = Box::new(below);
        let is_given = |file: &&FileRecord| {
            let leads_to = description.file(&file.path).map(|target| &target.path);
            let is_naming = file.path == NAMES_ONLY && names == Names::Dropped;
            !is_naming && leads_to.is_some_and(|path| !omitted.contains(path))
        };
        let files = description.files.iter().filter(is_given).cloned().collect();
        Self { below, reader, files, content: None, pending: Cursor::default(), is_ended: false, names }
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
            let joined = Joined::new(parts, contents, self.reader);
            let Some(bytes) = record.recipe else { return Ok(Box::new(joined)) };
            let recipe = self.at(&format!("{folder}/{RECIPE_FOLDER}"))?;
            return Ok(Box::new(Recreating::new(Box::new(joined.take(bytes)), recipe, self.reader)?));
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
        if let Some(target) = &record.link {
            let kind = Kind::Symlink(target.clone().into_bytes());
            self.pending = Cursor::new(plain_head(&record.path, kind, 0)?);
            return Ok(());
        }
        let stream = self.open(&record)?;
        if self.names == Names::Dropped && NAMING.contains(&record.path.as_str()) {
            let mut bytes = Vec::new();
            stream.take(NAMING_BYTES_MAX).read_to_end(&mut bytes)?;
            is_right(&record, &hex(&Sha256::digest(&bytes)))?;
            let bytes = without_names(&bytes)?;
            let length = bytes.len() as u64;
            let head = plain_head(&record.path, Kind::File, length)?;
            self.pending = Cursor::new([head, bytes, vec![0; padding(length)]].concat());
            return Ok(());
        }
        self.pending = Cursor::new(plain_head(&record.path, Kind::File, record.bytes)?);
        self.content = Some(Content { stream: Hashing::new(stream), left: record.bytes, record });
        Ok(())
    }

    fn give(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let length = self.pending.read(buffer)?;
            if length > 0 {
                return Ok(length);
            }
            if let Some(content) = &mut self.content {
                let length = content.read(buffer)?;
                if length > 0 {
                    return Ok(length);
                }
                self.pending = Cursor::new(vec![0; padding(content.record.bytes)]);
                self.content = None;
                continue;
            }
            match self.files.pop_front() {
                Some(record) => self.begin(record)?,
                None if self.is_ended => return Ok(0),
                None => {
                    self.is_ended = true;
                    self.pending = Cursor::new(vec![0; 2 * BLOCK_BYTES]);
                }
            }
        }
    }
}

impl Content<'_> {
    /// Some of it; nothing at its end, where all of it was what it should be.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if self.left == 0 {
            let digest = self.stream.digest();
            if self.stream.read(&mut [0])? > 0 {
                return Err(different(&self.record));
            }
            is_right(&self.record, &digest)?;
            return Ok(0);
        }
        let length = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let length = self.stream.read(&mut buffer[..length])?;
        if length == 0 {
            return Err(different(&self.record));
        }
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
            (self.content, self.is_ended, self.pending) = (None, true, Cursor::default());
            self.files.clear();
        }
        given
    }
}
