//! From a snapshot to the parts of a bundle.
//!
//! Must stay true: every chunk that the base does not have is sent once, before the first record that uses it; every other
//! use is a number. Nothing that means something in this repository only leaves it: no ids, no hashes under its keys.
//! Memory is a part of each sort, what [`Numbers`] keeps, and one name for each group of hard links of a source.
//!
//! Read next: `docs/format/bundle.md`.

use super::error::{Error, Result};
use super::numbers::Numbers;
use super::{Counters, Plan, same_source};
use crate::pieces::{self, Pieces};
use lifeboat_format::bundle::record::{Body, Item, Numbering, PortableEntry, Record, Value};
use lifeboat_format::bundle::{Base, BaseDigest, Chunks, Manifest, Part, Totals};
use lifeboat_format::entry::Chunker;
use lifeboat_format::limits::BUNDLE_CHUNKS_MAX;
use lifeboat_format::list::Piece;
use lifeboat_format::region::ChunkKind;
use lifeboat_format::snapshot::{Snapshot, Source};
use lifeboat_format::{ChunkId, Content, Entry, LinkGroup, Metadata, Node, TreePath, XattrValue};
use lifeboat_repo::Repository;
use lifeboat_repo::cursor::TreeCursor;
use lifeboat_repo::diff::{Change, Diff};
use lifeboat_repo::reader::ChunkReader;
use std::collections::HashMap;

/// A part of chunks is sent when it is so long: as long as a region.
const CHUNKS_BYTES: usize = 2 << 20;
/// A part of records likewise.
const RECORDS_BYTES: usize = 1 << 20;
/// Items of a file in one record.
const ITEMS: usize = 4096;

/// Takes the parts of a bundle in their order.
pub(super) type Send<'s> = dyn FnMut(Part) -> Result<()> + 's;

/// Sends `plan` part by part. Without `reads_data`, chunks are counted and not sent.
pub(super) fn export(
    repository: &Repository,
    plan: &Plan,
    reads_data: bool,
    counters: &Counters,
    send: &mut Send<'_>,
) -> Result<Totals> {
    let reader = ChunkReader::new(repository);
    let mut numbers = Numbers::new();
    let base = match &plan.base {
        None => None,
        Some(base) => {
            let mut number = 0;
            let digest = walk_base(&reader, base, counters, &mut |id, _| {
                number += 1;
                numbers.insert(id, number - 1)
            })?;
            Some(Base {
                id: base.id,
                chunks: digest.chunks,
                digest: digest.finish(),
                host: base.host.clone(),
                started: base.started,
            })
        }
    };
    let base_chunks = base.as_ref().map_or(0, |base| base.chunks);
    let manifest = Manifest { snapshot: plan.snapshot.clone(), base, kind: plan.kind };
    send(Part::Manifest(Box::new(manifest)))?;
    let mut export = Export {
        repository,
        reader: &reader,
        counters,
        reads_data,
        numbers,
        numbering: Numbering::new(base_chunks),
        base_chunks,
        chunks: Chunks::default(),
        records: Vec::new(),
        links: Links::default(),
        totals: Totals::default(),
        send,
    };
    for source in &plan.snapshot.sources {
        export.source(source, plan.base.as_ref())?;
    }
    export.flush()?;
    let totals = export.totals;
    send(Part::End(totals))?;
    Ok(totals)
}

/// Meets every chunk of a snapshot in the order that gives them their numbers.
pub(super) fn walk_base(
    reader: &ChunkReader,
    base: &Snapshot,
    counters: &Counters,
    each: &mut dyn FnMut(&ChunkId, u32) -> Result<()>,
) -> Result<BaseDigest> {
    let mut digest = BaseDigest::default();
    for source in &base.sources {
        digest.source();
        let mut cursor = TreeCursor::new(reader, source.root);
        while let Some((path, entry)) = cursor.next_entry()? {
            counters.check_interrupted()?;
            digest.entry(&path);
            for xattr in &entry.metadata.xattrs {
                if let XattrValue::Chunk(id, bytes) = &xattr.value {
                    digest.chunk(*bytes);
                    each(id, *bytes)?;
                }
            }
            if let Node::File { content, size } = &entry.node {
                for piece in Pieces::new(reader, content, *size) {
                    if let Piece::Chunk(id, bytes) = piece.map_err(of_list)? {
                        digest.chunk(bytes);
                        each(&id, bytes)?;
                    }
                }
            }
        }
    }
    Ok(digest)
}

/// The repository's own error, where it is one.
fn of_list(error: pieces::Error) -> Error {
    let detail = error.to_string();
    let damaged = |detail| lifeboat_repo::Error::Damaged { what: "a chunk list".into(), detail }.into();
    match error {
        pieces::Error::Unreadable { source, .. } => match source.downcast::<lifeboat_repo::Error>() {
            Ok(error) => Error::Repository(*error),
            Err(_) => damaged(detail),
        },
        _ => damaged(detail),
    }
}

struct Export<'e, 's> {
    repository: &'e Repository,
    reader: &'e ChunkReader,
    counters: &'e Counters,
    reads_data: bool,
    numbers: Numbers,
    numbering: Numbering,
    base_chunks: u64,
    chunks: Chunks,
    records: Vec<u8>,
    links: Links,
    totals: Totals,
    send: &'e mut Send<'s>,
}

/// What groups of hard links are named after, in one source.
#[derive(Default)]
struct Links {
    names: HashMap<LinkGroup, Vec<u8>>,
    are_complete: bool,
}

impl Export<'_, '_> {
    fn source(&mut self, source: &Source, base: Option<&Snapshot>) -> Result<()> {
        self.links = Links::default();
        let partner = base.and_then(|base| {
            let number = base.sources.iter().position(|other| same_source(other, source))?;
            Some((number as u32, base.sources[number].root))
        });
        self.put(&Record::Source(partner.map(|(number, _)| number)))?;
        match partner {
            Some((_, root)) => {
                for change in Diff::new(self.reader, root, source.root) {
                    self.counters.check_interrupted()?;
                    match change? {
                        Change::Added(path, entry) | Change::Modified(path, _, entry) => {
                            self.entry(path, entry, source)?;
                        }
                        Change::Removed(path, _) => {
                            self.totals.removed += 1;
                            self.put(&Record::Removed(path))?;
                        }
                    }
                }
            }
            None => {
                let mut cursor = TreeCursor::new(self.reader, source.root);
                while let Some((path, entry)) = cursor.next_entry()? {
                    self.counters.check_interrupted()?;
                    self.entry(path, entry, source)?;
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: TreePath, entry: Entry, source: &Source) -> Result<()> {
        let mut xattrs = Vec::with_capacity(entry.metadata.xattrs.len());
        for xattr in entry.metadata.xattrs {
            let value = match xattr.value {
                XattrValue::Inline(value) => Value::Inline(value),
                XattrValue::Chunk(id, bytes) => Value::Chunk(self.number(&id, bytes)?, bytes),
            };
            xattrs.push((xattr.name, value));
        }
        let link = match entry.link {
            Some(group) => Some(self.link_name(group, &path, source)?),
            None => None,
        };
        let metadata = Metadata { xattrs: Vec::new(), ..entry.metadata };
        let portable = |body| {
            Record::Entry(Box::new(PortableEntry { path, metadata, xattrs, link, torn: entry.torn, body }))
        };
        self.totals.entries += 1;
        self.counters.add_entry();
        match entry.node {
            Node::File { size, content } => {
                let mut pieces = Pieces::new(self.reader, &content, size);
                let items = self.items(&mut pieces)?;
                self.put(&portable(Body::File(size, chunker_of(&content), items)))?;
                loop {
                    let items = self.items(&mut pieces)?;
                    if items.is_empty() {
                        return Ok(());
                    }
                    self.put(&Record::Items(items))?;
                }
            }
            other => self.put(&portable(Body::Other(other))),
        }
    }

    /// The next items of a file.
    fn items(&mut self, pieces: &mut Pieces<'_>) -> Result<Vec<Item>> {
        let mut items = Vec::new();
        while items.len() < ITEMS
            && let Some(piece) = pieces.next()
        {
            items.push(match piece.map_err(of_list)? {
                Piece::Chunk(id, bytes) => Item::Chunk(self.number(&id, bytes)?, bytes),
                Piece::Hole(bytes) => Item::Hole(bytes),
                Piece::Zeros(bytes) => Item::Zeros(bytes),
            });
            self.counters.check_interrupted()?;
        }
        Ok(items)
    }

    /// The number of a chunk; a new one is sent.
    fn number(&mut self, id: &ChunkId, bytes: u32) -> Result<u64> {
        if let Some(number) = self.numbers.get(id)? {
            return Ok(number);
        }
        let number = self.base_chunks + self.totals.chunks;
        self.numbers.insert(id, number)?;
        self.totals.chunks += 1;
        self.totals.bytes += u64::from(bytes);
        self.counters.add_bytes(u64::from(bytes));
        if self.reads_data {
            let start = self.chunks.bytes.len();
            self.reader.read_into(ChunkKind::Data, id, &mut self.chunks.bytes)?;
            if self.chunks.bytes.len() - start != bytes as usize {
                let detail = "it has another length than where it is used".into();
                return Err(lifeboat_repo::Error::Damaged { what: format!("chunk {id}"), detail }.into());
            }
            self.chunks.lengths.push(bytes);
            if self.chunks.bytes.len() >= CHUNKS_BYTES
                || self.chunks.lengths.len() >= BUNDLE_CHUNKS_MAX as usize
            {
                self.flush_chunks()?;
            }
        }
        Ok(number)
    }

    /// The bytes that give the group its number, under this repository's key and under the receiver's: those of the path
    /// that it was met at first. Where that is not in the tree, what the number was itself.
    fn link_name(&mut self, group: LinkGroup, path: &TreePath, source: &Source) -> Result<Vec<u8>> {
        let keys = self.repository.keys();
        let is_named_after = |group: LinkGroup, name: &[u8]| keys.key_hash("link group", name) == group.0;
        if is_named_after(group, path.as_key()) {
            self.links.names.insert(group, path.as_key().to_vec());
        }
        if !self.links.names.contains_key(&group) && !self.links.are_complete {
            let mut cursor = TreeCursor::new(self.reader, source.root);
            while let Some((path, entry)) = cursor.next_entry()? {
                if let Some(group) = entry.link.filter(|group| is_named_after(*group, path.as_key())) {
                    self.links.names.insert(group, path.as_key().to_vec());
                }
            }
            self.links.are_complete = true;
        }
        let opaque = || [&[0], &group.0.to_le_bytes()[..]].concat();
        Ok(self.links.names.get(&group).cloned().unwrap_or_else(opaque))
    }

    fn put(&mut self, record: &Record) -> Result<()> {
        self.numbering.encode(record, &mut self.records);
        if self.records.len() >= RECORDS_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush_chunks(&mut self) -> Result<()> {
        match self.chunks.lengths.is_empty() {
            true => Ok(()),
            false => (self.send)(Part::Chunks(std::mem::take(&mut self.chunks))),
        }
    }

    /// Chunks first: records use what was sent.
    fn flush(&mut self) -> Result<()> {
        self.flush_chunks()?;
        match self.records.is_empty() {
            true => Ok(()),
            false => (self.send)(Part::Records(std::mem::take(&mut self.records))),
        }
    }
}

fn chunker_of(content: &Content) -> Chunker {
    match content {
        Content::List(root) => root.chunker,
        Content::Pieces(chunker, _) => *chunker,
        Content::Empty | Content::Chunk(_) => Chunker::Content,
    }
}
