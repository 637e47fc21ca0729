//! Archives put together again from their skeleton and their contents. `docs/format/image.md#skeletons`
//!
//! Must stay true: what is given is only what the skeleton says; content that is missing, too short or too long is an
//! error, never a shorter archive. Memory is one part of a skeleton, twice for a moment, and one chunk.

use super::FileReader;
use crate::pieces::ChunkReader;
use crate::restore::EntryResult;
use lifeboat_format::limits::SKELETON_PART_BYTES_MAX;
use lifeboat_format::{Entry, Node, TreePath, skeleton};
use std::collections::VecDeque;
use std::io::{Cursor, Error, ErrorKind, Read, Result};

/// Entries of a tree, in order.
type Entries<'r> = Box<dyn Iterator<Item = EntryResult> + 'r>;

/// An archive being put together.
pub struct Joined<'r> {
    reader: &'r dyn ChunkReader,
    parts: Entries<'r>,
    contents: Entries<'r>,
    /// Of the part that was read last: bytes, and how much content follows them.
    records: VecDeque<(Vec<u8>, u64)>,
    raw: Cursor<Vec<u8>>,
    content: Option<(FileReader<'r>, u64)>,
}

impl<'r> Joined<'r> {
    /// The archive whose skeleton's parts and whose contents these entries are, each in order. Directories are passed over.
    pub fn new(
        parts: impl Iterator<Item = EntryResult> + 'r,
        contents: impl Iterator<Item = EntryResult> + 'r,
        reader: &'r dyn ChunkReader,
    ) -> Self {
        Self {
            reader,
            parts: Box::new(parts),
            contents: Box::new(contents),
            records: VecDeque::new(),
            raw: Cursor::default(),
            content: None,
        }
    }

    /// The next part of the skeleton; whether there is one.
    fn next_part(&mut self) -> Result<bool> {
        let Some(entry) = next_file(&mut self.parts)? else {
            return match next_file(&mut self.contents)? {
                None => Ok(false),
                Some(_) => Err(wrong("there is content that no skeleton names")),
            };
        };
        if entry.size() > u64::from(SKELETON_PART_BYTES_MAX) {
            return Err(wrong("a part of a skeleton is too long"));
        }
        let mut part = Vec::new();
        FileReader::new(&entry, self.reader).read_to_end(&mut part)?;
        for record in skeleton::records(&part).map_err(Error::other)? {
            let record = record.map_err(Error::other)?;
            self.records.push_back((record.raw.to_vec(), record.content_bytes));
        }
        Ok(true)
    }

    fn begin_content(&mut self, bytes: u64) -> Result<()> {
        let entry = next_file(&mut self.contents)?.ok_or_else(|| wrong("content is missing"))?;
        if entry.size() != bytes {
            return Err(wrong("content is not as long as its skeleton says"));
        }
        self.content = Some((FileReader::new(&entry, self.reader), bytes));
        Ok(())
    }
}

fn wrong(detail: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, detail)
}

/// The next entry that is a file.
fn next_file(entries: &mut Entries<'_>) -> Result<Option<Entry>> {
    for entry in entries {
        let (_, entry): (TreePath, Entry) = entry.map_err(Error::other)?;
        match entry.node {
            Node::Directory => {}
            Node::File { .. } => return Ok(Some(entry)),
            _ => return Err(wrong("something is there that is no file")),
        }
    }
    Ok(None)
}

impl Read for Joined<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let length = self.raw.read(buffer)?;
            if length > 0 {
                return Ok(length);
            }
            if let Some((content, left)) = &mut self.content {
                if *left > 0 {
                    let length = buffer.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    let length = content.read(&mut buffer[..length])?;
                    if length == 0 {
                        return Err(wrong("content is shorter than its entry says"));
                    }
                    *left -= length as u64;
                    return Ok(length);
                }
                self.content = None;
            }
            match self.records.pop_front() {
                Some((raw, content)) => {
                    self.raw = Cursor::new(raw);
                    if content > 0 {
                        self.begin_content(content)?;
                    }
                }
                None if self.next_part()? => {}
                None => return Ok(0),
            }
        }
    }
}
