//! Tree nodes: sorted entries with prefix-compressed keys. `docs/format/tree.md#nodes`

use crate::limits::{NODE_BYTES_MAX, NODE_DEPTH_MAX, PATH_BYTES_MAX};
use crate::wire::{Reader, Write};
use crate::{ChunkId, Entry, Error, Result, TreePath};
use std::borrow::Cow;

/// What an inner node says of one child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// Key of the first entry below the child.
    pub first: TreePath,
    /// The child.
    pub id: ChunkId,
    /// Entries below it.
    pub entries: u64,
}

/// Builds one node; entries or children are appended in the order of their keys.
#[derive(Debug, Clone)]
pub struct NodeBuilder {
    height: u8,
    count: u64,
    body: Vec<u8>,
    first: Option<TreePath>,
    last: TreePath,
    entries: u64,
}

impl NodeBuilder {
    /// An empty node; leaves have height 0.
    pub fn new(height: u8) -> Self {
        Self { height, count: 0, body: Vec::new(), first: None, last: TreePath::root(), entries: 0 }
    }

    /// Bytes so far.
    pub fn bytes(&self) -> usize {
        self.body.len()
    }

    /// Items so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Appends an entry to a leaf.
    ///
    /// # Panics
    /// When the key does not follow the last one: the tree would be unreadable.
    pub fn push_entry(&mut self, key: &TreePath, entry: &Entry) {
        assert_eq!(self.height, 0, "entries are in leaves");
        self.push_key(key);
        entry.encode(&mut self.body);
        self.entries += 1;
    }

    /// Appends a child to an inner node.
    ///
    /// # Panics
    /// When the key does not follow the last one.
    pub fn push_child(&mut self, child: &Child) {
        assert!(self.height > 0, "children are in inner nodes");
        self.push_key(&child.first);
        self.body.extend_from_slice(&child.id.0);
        self.body.put_varint(child.entries);
        self.entries = self.entries.saturating_add(child.entries);
    }

    fn push_key(&mut self, key: &TreePath) {
        assert!(self.count == 0 || *key > self.last, "keys are pushed in their order");
        let (key_bytes, last) = (key.as_key(), self.last.as_key());
        let shared = if self.count == 0 {
            0
        } else {
            key_bytes.iter().zip(last).take_while(|(new, old)| new == old).count()
        };
        self.body.put_varint(shared as u64);
        self.body.put_string(&key_bytes[shared..]);
        self.last = key.clone();
        self.first.get_or_insert_with(|| key.clone());
        self.count += 1;
    }

    /// The node's bytes and, without its id, what its parent says of it. The builder is empty afterwards.
    pub fn finish(&mut self) -> Result<(Vec<u8>, TreePath, u64)> {
        let mut bytes = vec![self.height];
        bytes.put_varint(self.count);
        bytes.append(&mut self.body);
        if bytes.len() > NODE_BYTES_MAX as usize {
            return Err(Error::limit("tree node", format!("{} bytes", bytes.len())));
        }
        let first = self.first.take().unwrap_or_default();
        let entries = self.entries;
        *self = Self::new(self.height);
        Ok((bytes, first, entries))
    }
}

/// Reads a node item by item; never holds more than one key, whatever the prefix compression unfolds to.
pub struct NodeReader<'a> {
    bytes: Cow<'a, [u8]>,
    position: usize,
    height: u8,
    left: u64,
    started: bool,
    key: Vec<u8>,
}

/// One item of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// In a leaf.
    Entry(TreePath, Entry),
    /// In an inner node.
    Child(Child),
}

impl<'a> NodeReader<'a> {
    /// Reads a node's header.
    pub fn new(bytes: impl Into<Cow<'a, [u8]>>) -> Result<Self> {
        let bytes = bytes.into();
        let mut reader = Reader::new(&bytes, WHAT);
        let height = reader.u8()?;
        if height >= NODE_DEPTH_MAX {
            return Err(reader.damaged("it is too high"));
        }
        let left = reader.varint()?;
        let position = bytes.len() - reader.remaining();
        Ok(Self { bytes, position, height, left, started: false, key: Vec::new() })
    }

    /// Height above the leaves.
    pub fn height(&self) -> u8 {
        self.height
    }

    /// The next item; `None` at the end.
    pub fn next_item(&mut self) -> Result<Option<Item>> {
        let mut reader = Reader::new(&self.bytes[self.position..], WHAT);
        if self.left == 0 {
            return reader.finish().map(|()| None);
        }
        self.left -= 1;
        read_key(&mut reader, &mut self.key, self.started)?;
        self.started = true;
        let key = TreePath::from_key(self.key.clone())?;
        let item = if self.height == 0 {
            Item::Entry(key, Entry::decode(&mut reader)?)
        } else {
            let id = ChunkId(reader.array()?);
            Item::Child(Child { first: key, id, entries: reader.varint()? })
        };
        self.position = self.bytes.len() - reader.remaining();
        Ok(Some(item))
    }
}

const WHAT: &str = "tree node";

/// Replaces `key` by the next one.
fn read_key(reader: &mut Reader<'_>, key: &mut Vec<u8>, started: bool) -> Result<()> {
    let shared = reader.varint_max(PATH_BYTES_MAX)? as usize;
    let suffix = reader.string(PATH_BYTES_MAX)?;
    if shared > key.len() || shared + suffix.len() > PATH_BYTES_MAX as usize {
        return Err(reader.damaged("a key shares more bytes than there are"));
    }
    // Sorted and unique: whatever follows the shared bytes is greater than what it replaces.
    if started && suffix <= &key[shared..] {
        return Err(reader.damaged("keys are not in order"));
    }
    key.truncate(shared);
    key.extend_from_slice(suffix);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Content, LinkGroup, Metadata, Node, Timestamp, Xattr, XattrValue};
    use proptest::prelude::*;

    fn entry(seed: u64) -> Entry {
        let node = match seed % 6 {
            0 => Node::Directory,
            1 => {
                Node::File { size: seed + 1, content: Content::Chunk(ChunkId([seed as u8; ChunkId::BYTES])) }
            }
            2 => Node::Symlink { target: vec![b'x'; seed as usize % 100] },
            3 => Node::Fifo,
            4 => Node::BlockDevice { major: seed as u32, minor: 1 },
            _ => Node::File { size: 0, content: Content::Empty },
        };
        let xattrs =
            vec![Xattr { name: b"user.a".to_vec(), value: XattrValue::Inline(vec![1; seed as usize % 9]) }];
        let mtime = Timestamp { seconds: -(seed as i64), nanos: (seed % 1_000_000_000) as u32 };
        let metadata =
            Metadata { mode: 0o4755, uid: u32::MAX, mtime, inode: seed, xattrs, ..Metadata::default() };
        let link = (!seed.is_multiple_of(6) && seed.is_multiple_of(5)).then_some(LinkGroup(seed));
        Entry { node, metadata, link, torn: seed.is_multiple_of(7) }
    }

    proptest! {
        #[test]
        fn a_leaf_reads_back(names in proptest::collection::btree_set("[a-c/]{1,12}", 0..40)) {
            let items: std::collections::BTreeMap<TreePath, Entry> = names
                .iter()
                .enumerate()
                .map(|(seed, name)| (TreePath::from_slashes(name.as_bytes()).unwrap(), entry(seed as u64 * 37)))
                .collect();
            let mut builder = NodeBuilder::new(0);
            items.iter().for_each(|(key, entry)| builder.push_entry(key, entry));
            let (bytes, first, entries) = builder.finish().unwrap();
            prop_assert_eq!(entries, items.len() as u64);
            prop_assert_eq!(first, items.keys().next().cloned().unwrap_or_default());
            let mut reader = NodeReader::new(&bytes).unwrap();
            for (key, entry) in &items {
                prop_assert_eq!(reader.next_item().unwrap(), Some(Item::Entry(key.clone(), entry.clone())));
            }
            prop_assert_eq!(reader.next_item().unwrap(), None);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(mut bytes: Vec<u8>, height in 0u8..3) {
            bytes.insert(0, height);
            if let Ok(mut reader) = NodeReader::new(&bytes) {
                while let Ok(Some(_)) = reader.next_item() {}
            }
        }
    }

    #[test]
    fn keys_out_of_order_and_doubled_are_refused() {
        let two = |second_shared: u8, second: &[u8]| {
            let mut bytes = vec![0, 2, 0];
            bytes.put_string(b"b");
            Entry::directory(Metadata::default()).encode(&mut bytes);
            bytes.push(second_shared);
            bytes.put_string(second);
            Entry::directory(Metadata::default()).encode(&mut bytes);
            let mut reader = NodeReader::new(&bytes).unwrap();
            reader.next_item().unwrap();
            reader.next_item()
        };
        assert!(two(0, b"c").is_ok());
        for (shared, suffix) in [(0, &b"b"[..]), (0, b"a"), (1, b""), (2, b"c"), (1, b"/x"), (1, b"\0..")] {
            assert!(two(shared, suffix).is_err(), "{shared} {suffix:?}");
        }
    }
}
