//! Records: what the entries of a bundle are, in an order that both sides can follow. `docs/format/bundle.md#records`
//!
//! Must stay true: chunks have numbers, not names, because names are another repository's. The base's come first, in the
//! order of its walk, then the bundle's own, in the order of their first use. Writer and reader keep the same count.

use crate::entry::{
    BLOCK_DEVICE, CHAR_DEVICE, Chunker, DIRECTORY, FIFO, FILE, FLAG_LINK, FLAG_TORN, FLAG_XATTRS, SOCKET,
    SYMLINK, decode_metadata, encode_metadata,
};
use crate::limits::{
    BUNDLE_ITEMS_MAX, CHUNK_BYTES_MAX, LINK_NAME_BYTES_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX, PIECE_BYTES_MAX,
    SYMLINK_BYTES_MAX, XATTR_VALUE_BYTES_MAX, XATTRS_MAX,
};
use crate::wire::{Reader, Write};
use crate::{Metadata, Node, Result, TreePath};

/// A stretch of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// The chunk of that number, and its length.
    Chunk(u64, u32),
    /// Bytes that the file system never allocated.
    Hole(u64),
    /// Zero bytes that were allocated.
    Zeros(u64),
}

impl Item {
    /// Length in bytes.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Chunk(_, bytes) => u64::from(*bytes),
            Self::Hole(bytes) | Self::Zeros(bytes) => *bytes,
        }
    }
}

/// A value in place, or the number of a chunk and its length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// The bytes.
    Inline(Vec<u8>),
    /// A chunk.
    Chunk(u64, u32),
}

/// What kind of file it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A regular file: its length, how it was cut, and its first items. What they lack follows in [`Record::Items`].
    File(u64, Chunker, Vec<Item>),
    /// Anything else; never [`Node::File`].
    Other(Node),
}

/// An entry without anything that means something in one repository only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortableEntry {
    /// Where it is.
    pub path: TreePath,
    /// Everything but extended attributes.
    pub metadata: Metadata,
    /// Names and values of extended attributes, sorted by name.
    pub xattrs: Vec<(Vec<u8>, Value)>,
    /// What its group of hard links is named after: the group's number is `key_hash("link group", …)` of it.
    pub link: Option<Vec<u8>>,
    /// Whether it was changing when it was read.
    pub torn: bool,
    /// What it is.
    pub body: Body,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// The following belongs to the next source of the snapshot: all of it, or what differs from a source of the base.
    Source(Option<u32>),
    /// The base has it, the snapshot not.
    Removed(TreePath),
    /// The snapshot has it so.
    Entry(Box<PortableEntry>),
    /// More of the file of the entry before.
    Items(Vec<Item>),
}

const SOURCE: u8 = 1;
const REMOVED: u8 = 2;
const ENTRY: u8 = 3;
const ITEMS: u8 = 4;

const NEXT: u64 = 0;
const HOLE: u64 = 1;
const ZEROS: u64 = 2;
const KNOWN: u64 = 3;

/// What writer and reader count alike.
#[derive(Debug, Clone, Default)]
pub struct Numbering {
    base_chunks: u64,
    /// Chunks of the bundle that were used so far.
    used: u64,
    /// The number after the one that was used last.
    follows: u64,
    /// Key of the last path.
    path: Vec<u8>,
}

impl Numbering {
    /// Before the first record, with so many chunks in the base.
    pub fn new(base_chunks: u64) -> Self {
        Self { base_chunks, ..Self::default() }
    }

    /// Chunks of the bundle that were used so far.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Appends a record.
    ///
    /// # Panics
    /// When a chunk's number is beyond the next new one, or an item longer than a piece can be.
    pub fn encode(&mut self, record: &Record, output: &mut Vec<u8>) {
        match record {
            Record::Source(base) => {
                output.push(SOURCE);
                output.put_varint(base.map_or(0, |base| u64::from(base) + 1));
                self.path.clear();
            }
            Record::Removed(path) => {
                output.push(REMOVED);
                self.encode_path(path, output);
            }
            Record::Entry(entry) => {
                output.push(ENTRY);
                self.encode_entry(entry, output);
            }
            Record::Items(items) => {
                output.push(ITEMS);
                self.encode_items(items, output);
            }
        }
    }

    /// Reads a record.
    pub fn decode(&mut self, reader: &mut Reader<'_>) -> Result<Record> {
        Ok(match reader.u8()? {
            SOURCE => {
                self.path.clear();
                Record::Source(reader.varint_max(u32::MAX)?.checked_sub(1))
            }
            REMOVED => Record::Removed(self.decode_path(reader)?),
            ENTRY => Record::Entry(Box::new(self.decode_entry(reader)?)),
            ITEMS => Record::Items(self.decode_items(reader)?),
            other => return Err(reader.damaged(format!("there is no record {other}"))),
        })
    }

    fn encode_path(&mut self, path: &TreePath, output: &mut Vec<u8>) {
        let key = path.as_key();
        let shared = key.iter().zip(&self.path).take_while(|(one, other)| one == other).count();
        output.put_varint(shared as u64);
        output.put_string(&key[shared..]);
        self.path.truncate(shared);
        self.path.extend_from_slice(&key[shared..]);
    }

    fn decode_path(&mut self, reader: &mut Reader<'_>) -> Result<TreePath> {
        let shared = reader.varint_max(PATH_BYTES_MAX)? as usize;
        if shared > self.path.len() {
            return Err(reader.damaged("a path shares more than the last one has"));
        }
        let rest = reader.string(PATH_BYTES_MAX)?;
        self.path.truncate(shared);
        self.path.extend_from_slice(rest);
        TreePath::from_key(self.path.clone())
    }

    fn encode_entry(&mut self, entry: &PortableEntry, output: &mut Vec<u8>) {
        self.encode_path(&entry.path, output);
        let mut first = match &entry.body {
            Body::File(..) | Body::Other(Node::File { .. }) => FILE,
            Body::Other(Node::Directory) => DIRECTORY,
            Body::Other(Node::Symlink { .. }) => SYMLINK,
            Body::Other(Node::Fifo) => FIFO,
            Body::Other(Node::Socket) => SOCKET,
            Body::Other(Node::CharDevice { .. }) => CHAR_DEVICE,
            Body::Other(Node::BlockDevice { .. }) => BLOCK_DEVICE,
        };
        first |= if entry.link.is_some() { FLAG_LINK } else { 0 };
        first |= if entry.xattrs.is_empty() { 0 } else { FLAG_XATTRS };
        first |= if entry.torn { FLAG_TORN } else { 0 };
        output.push(first);
        encode_metadata(&Metadata { xattrs: Vec::new(), ..entry.metadata.clone() }, output);
        if !entry.xattrs.is_empty() {
            output.put_varint(entry.xattrs.len() as u64);
        }
        for (name, value) in &entry.xattrs {
            output.put_string(name);
            match value {
                Value::Inline(value) => {
                    output.push(0);
                    output.put_string(value);
                }
                Value::Chunk(number, bytes) => {
                    output.push(1);
                    self.encode_item(Item::Chunk(*number, *bytes), output);
                }
            }
        }
        if let Some(link) = &entry.link {
            output.put_string(link);
        }
        match &entry.body {
            Body::File(size, chunker, items) => {
                output.put_varint(*size);
                output.push(*chunker as u8);
                self.encode_items(items, output);
            }
            Body::Other(Node::Symlink { target }) => output.put_string(target),
            Body::Other(Node::CharDevice { major, minor } | Node::BlockDevice { major, minor }) => {
                output.put_varint(u64::from(*major));
                output.put_varint(u64::from(*minor));
            }
            Body::Other(_) => {}
        }
    }

    fn decode_entry(&mut self, reader: &mut Reader<'_>) -> Result<PortableEntry> {
        let path = self.decode_path(reader)?;
        let first = reader.u8()?;
        if first & 0xc0 != 0 {
            return Err(reader.damaged("an entry has unknown flags"));
        }
        let metadata = decode_metadata(reader, false)?;
        let xattrs = if first & FLAG_XATTRS != 0 { self.decode_xattrs(reader)? } else { Vec::new() };
        let link = match first & FLAG_LINK {
            0 => None,
            _ => Some(reader.string(LINK_NAME_BYTES_MAX)?.to_vec()),
        };
        let body = match first & 0x07 {
            FILE => {
                let size = reader.varint()?;
                if size > i64::MAX as u64 {
                    return Err(reader.damaged("a file is too long"));
                }
                let chunker = Chunker::from_byte(reader.u8()?, reader)?;
                Body::File(size, chunker, self.decode_items(reader)?)
            }
            DIRECTORY if link.is_some() => return Err(reader.damaged("a directory is hard-linked")),
            DIRECTORY => Body::Other(Node::Directory),
            SYMLINK => Body::Other(Node::Symlink { target: reader.string(SYMLINK_BYTES_MAX)?.to_vec() }),
            FIFO => Body::Other(Node::Fifo),
            SOCKET => Body::Other(Node::Socket),
            kind @ (CHAR_DEVICE | BLOCK_DEVICE) => {
                let (major, minor) = (reader.varint_max(u32::MAX)?, reader.varint_max(u32::MAX)?);
                Body::Other(match kind {
                    CHAR_DEVICE => Node::CharDevice { major, minor },
                    _ => Node::BlockDevice { major, minor },
                })
            }
            _ => return Err(reader.damaged("an entry is of no known kind")),
        };
        Ok(PortableEntry { path, metadata, xattrs, link, torn: first & FLAG_TORN != 0, body })
    }

    fn decode_xattrs(&mut self, reader: &mut Reader<'_>) -> Result<Vec<(Vec<u8>, Value)>> {
        let mut xattrs: Vec<(Vec<u8>, Value)> = Vec::new();
        for _ in 0..reader.varint_max(XATTRS_MAX)? {
            let name = reader.string(NAME_BYTES_MAX as u32)?.to_vec();
            let ascends = xattrs.last().is_none_or(|(last, _)| *last < name);
            if name.is_empty() || name.contains(&0) || !ascends {
                return Err(reader.damaged("attribute names are not sorted"));
            }
            let value = match reader.u8()? {
                0 => Value::Inline(reader.string(XATTR_VALUE_BYTES_MAX)?.to_vec()),
                1 => match self.decode_item(reader)? {
                    Item::Chunk(number, bytes) if bytes <= XATTR_VALUE_BYTES_MAX => {
                        Value::Chunk(number, bytes)
                    }
                    _ => return Err(reader.damaged("an attribute's value is no chunk, or too long")),
                },
                _ => return Err(reader.damaged("an attribute is of no known kind")),
            };
            xattrs.push((name, value));
        }
        match xattrs.is_empty() {
            true => Err(reader.damaged("an entry without attributes says it has some")),
            false => Ok(xattrs),
        }
    }

    fn encode_items(&mut self, items: &[Item], output: &mut Vec<u8>) {
        output.put_varint(items.len() as u64);
        items.iter().for_each(|item| self.encode_item(*item, output));
    }

    fn decode_items(&mut self, reader: &mut Reader<'_>) -> Result<Vec<Item>> {
        (0..reader.varint_max(BUNDLE_ITEMS_MAX)?).map(|_| self.decode_item(reader)).collect()
    }

    fn next_new(&self) -> u64 {
        self.base_chunks + self.used
    }

    fn encode_item(&mut self, item: Item, output: &mut Vec<u8>) {
        assert!(item.bytes() <= PIECE_BYTES_MAX, "longer pieces are split by the writer");
        let mut head = |sort: u64| output.put_varint(item.bytes() << 2 | sort);
        match item {
            Item::Hole(_) => head(HOLE),
            Item::Zeros(_) => head(ZEROS),
            Item::Chunk(number, _) if number == self.next_new() => {
                head(NEXT);
                self.used += 1;
            }
            Item::Chunk(number, _) => {
                assert!(number < self.next_new(), "new chunks are numbered in the order of their first use");
                head(KNOWN);
                output.put_signed(number as i64 - self.follows as i64);
                self.follows = number + 1;
            }
        }
    }

    fn decode_item(&mut self, reader: &mut Reader<'_>) -> Result<Item> {
        let head = reader.varint()?;
        let bytes = head >> 2;
        if bytes == 0 {
            return Err(reader.damaged("an item is empty"));
        }
        let number = match head & 3 {
            HOLE => return Ok(Item::Hole(bytes)),
            ZEROS => return Ok(Item::Zeros(bytes)),
            NEXT => {
                self.used += 1;
                self.next_new() - 1
            }
            _ => {
                let number = i128::from(self.follows) + i128::from(reader.signed()?);
                let number = u64::try_from(number).ok().filter(|number| *number < self.next_new());
                let number = number.ok_or_else(|| reader.damaged("there is no chunk of that number yet"))?;
                self.follows = number + 1;
                number
            }
        };
        match u32::try_from(bytes) {
            Ok(bytes) if bytes <= CHUNK_BYTES_MAX => Ok(Item::Chunk(number, bytes)),
            _ => Err(reader.damaged("a chunk is too long")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn item() -> impl Strategy<Value = (u8, u32)> {
        (0u8..4, 1u32..CHUNK_BYTES_MAX)
    }

    /// Items with numbers that a writer may use: the next new one, or one that was used.
    fn items(sorts: &[(u8, u32)], base: u64, used: &mut u64) -> Vec<Item> {
        let number =
            |bytes: u32, used: u64| (base + used).checked_sub(1).map(|most| u64::from(bytes) % (most + 1));
        sorts
            .iter()
            .map(|(sort, bytes)| match (sort, number(*bytes, *used)) {
                (1, _) => Item::Hole(u64::from(*bytes) << 20),
                (2, _) => Item::Zeros(u64::from(*bytes)),
                (3, Some(number)) => Item::Chunk(number, *bytes),
                _ => {
                    *used += 1;
                    Item::Chunk(base + *used - 1, *bytes)
                }
            })
            .collect()
    }

    proptest! {
        #[test]
        fn records_read_back_as_written(
            sorts in proptest::collection::vec(proptest::collection::vec(item(), 0..20), 0..20),
            base in 0u64..1000,
        ) {
            let (mut writer, mut reading) = (Numbering::new(base), Numbering::new(base));
            let (mut bytes, mut records, mut used) = (Vec::new(), vec![Record::Source(Some(3))], 0);
            for (number, sorts) in sorts.iter().enumerate() {
                let path = TreePath::from_slashes(format!("a/{number:05}").as_bytes()).unwrap();
                let mut items = items(sorts, base, &mut used);
                // The value stands in front of the content, so its chunk is used first.
                let value = match items.first().copied() {
                    Some(Item::Chunk(number, bytes)) => {
                        items.remove(0);
                        Value::Chunk(number, bytes % XATTR_VALUE_BYTES_MAX + 1)
                    }
                    _ => Value::Inline(vec![1, 2]),
                };
                let entry = PortableEntry {
                    path: path.clone(),
                    metadata: Metadata { mode: 0o644, ..Metadata::default() },
                    xattrs: vec![(b"user.x".to_vec(), value)],
                    link: (number % 3 == 0).then(|| path.as_key().to_vec()),
                    torn: number % 2 == 0,
                    body: Body::File(5, Chunker::Pages8K, items),
                };
                records.push(Record::Entry(Box::new(entry)));
                records.push(Record::Removed(path.join(b"x").unwrap()));
                records.push(Record::Items(vec![Item::Zeros(1)]));
            }
            records.push(Record::Source(None));
            records.iter().for_each(|record| writer.encode(record, &mut bytes));
            let mut reader = Reader::new(&bytes, "test");
            for record in &records {
                prop_assert_eq!(&reading.decode(&mut reader).unwrap(), record);
            }
            prop_assert_eq!(reading.used(), writer.used());
            reader.finish().unwrap();
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, base: u32) {
            let mut numbering = Numbering::new(u64::from(base));
            let mut reader = Reader::new(&bytes, "test");
            while numbering.decode(&mut reader).is_ok() {}
        }
    }
}
