//! Builds trees of nodes: a content-defined B-tree over the entries of a source.
//!
//! Must stay true: the same entries give the same nodes under the same keys, whatever was there before. That is what
//! makes snapshots share nodes and [`crate::diff`] fast.
//!
//! Read next: `docs/format/tree.md#nodes`, [`crate::cursor`].

use crate::error::{Error, Result};
use lifeboat_format::keys::Keys;
use lifeboat_format::node::{Child, NodeBuilder};
use lifeboat_format::snapshot::TreeRoot;
use lifeboat_format::{ChunkId, Entry, TreePath};

/// No node is cut before it is this long, except the last of a level.
const NODE_BYTES_MIN: usize = 4 << 10;
/// A node is cut once it is this long.
const NODE_BYTES_CUT: usize = 64 << 10;
/// Past the least length, one key in so many ends its node: with entries of about 70 bytes, nodes of about 12 KiB.
const KEYS_PER_CUT: u64 = 128;

/// Stores a serialized node and gives its name.
pub type PutNode<'p> = dyn FnMut(Vec<u8>) -> Result<ChunkId> + 'p;

/// Takes entries in order, and gives nodes.
#[derive(Clone)]
pub struct TreeBuilder {
    keys: Keys,
    levels: Vec<Level>,
}

#[derive(Clone)]
struct Level {
    node: NodeBuilder,
    /// The only node of this level so far: if the tree ends now, it is the root.
    closed: Option<Child>,
    closed_count: u64,
}

impl Level {
    fn new(height: usize) -> Self {
        Self { node: NodeBuilder::new(height as u8), closed: None, closed_count: 0 }
    }
}

impl TreeBuilder {
    /// An empty tree.
    pub fn new(keys: &Keys) -> Self {
        Self { keys: keys.clone(), levels: vec![Level::new(0)] }
    }

    /// Appends an entry, whose key follows the last one.
    pub fn push(&mut self, key: &TreePath, entry: &Entry, put: &mut PutNode<'_>) -> Result<()> {
        self.levels[0].node.push_entry(key, entry);
        self.cut_after(0, key, put)
    }

    /// Ends the tree.
    pub fn finish(mut self, put: &mut PutNode<'_>) -> Result<TreeRoot> {
        let mut height = 0;
        loop {
            let is_top = height + 1 == self.levels.len();
            let level = &mut self.levels[height];
            if level.node.count() > 0 || level.closed_count == 0 {
                self.close(height, put)?;
            }
            let level = &self.levels[height];
            // Only one node on the highest level: that is the root, and the level above it was never needed.
            let above_is_empty = self.levels[height + 1..]
                .iter()
                .all(|above| above.closed_count == 0 && above.node.count() <= 1);
            if let Some(root) =
                level.closed.clone().filter(|_| level.closed_count == 1 && (is_top || above_is_empty))
            {
                return Ok(TreeRoot { id: root.id, height: height as u8, entries: root.entries });
            }
            height += 1;
        }
    }

    fn cut_after(&mut self, height: usize, key: &TreePath, put: &mut PutNode<'_>) -> Result<()> {
        let node = &self.levels[height].node;
        let ends_here = || {
            let purpose = if height == 0 { "tree leaf" } else { "tree inner" };
            self.keys.key_hash(purpose, key.as_key()).is_multiple_of(KEYS_PER_CUT)
        };
        // Paths can be longer than a node: without a least count, inner nodes of one child would pile up for ever.
        let (enough, plenty) = if height == 0 { (1, 1) } else { (8, 2) };
        let cut = (node.bytes() >= NODE_BYTES_MIN && node.count() >= enough && ends_here())
            || (node.bytes() >= NODE_BYTES_CUT && node.count() >= plenty);
        if cut {
            self.close(height, put)?;
        }
        Ok(())
    }

    /// Stores the open node of a level, and tells the level above.
    fn close(&mut self, height: usize, put: &mut PutNode<'_>) -> Result<()> {
        let level = &mut self.levels[height];
        let (bytes, first, entries) =
            level.node.finish().map_err(Error::format("a tree node cannot be stored"))?;
        let child = Child { first, id: put(bytes)?, entries };
        level.closed_count += 1;
        level.closed = (level.closed_count == 1).then(|| child.clone());
        if self.levels.len() == height + 1 {
            self.levels.push(Level::new(height + 1));
        }
        self.levels[height + 1].node.push_child(&child);
        self.cut_after(height + 1, &child.first, put)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::cursor::{NodeSource, TreeCursor};
    use lifeboat_format::region::ChunkKind;
    use lifeboat_format::seal::{Key, Suite};
    use lifeboat_format::{Metadata, RepositoryId};
    use proptest::prelude::*;
    use std::collections::{BTreeMap, HashMap};
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Nodes in memory, with a count of reads.
    #[derive(Default)]
    pub(crate) struct Nodes {
        nodes: Mutex<HashMap<ChunkId, Vec<u8>>>,
        pub(crate) reads: AtomicU64,
    }

    impl NodeSource for Nodes {
        fn read_node(&self, _: ChunkKind, id: &ChunkId) -> Result<Vec<u8>> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            self.nodes.lock().unwrap().get(id).cloned().ok_or(Error::MissingChunk(*id))
        }
    }

    pub(crate) fn keys() -> Keys {
        Keys::derive(&Key::new([3; 32]), RepositoryId([1; 16]), Suite::XChaCha20Poly1305)
    }

    pub(crate) fn entry(inode: u64) -> Entry {
        Entry::directory(Metadata { inode, ..Metadata::default() })
    }

    pub(crate) fn build(nodes: &Nodes, entries: &BTreeMap<TreePath, Entry>) -> TreeRoot {
        let keys = keys();
        let mut put = |bytes: Vec<u8>| {
            let id = keys.chunk_id(ChunkKind::Tree, &bytes);
            nodes.nodes.lock().unwrap().insert(id, bytes);
            Ok(id)
        };
        let mut builder = TreeBuilder::new(&keys);
        for (key, entry) in entries {
            builder.push(key, entry, &mut put).unwrap();
        }
        builder.finish(&mut put).unwrap()
    }

    pub(crate) fn wide(count: u64) -> BTreeMap<TreePath, Entry> {
        let path = |number: u64| {
            TreePath::from_slashes(format!("d{}/file{number}", number / 100).as_bytes()).unwrap()
        };
        (0..count).map(|number| (path(number), entry(number))).collect()
    }

    #[test]
    fn one_changed_entry_changes_one_node_of_each_level() {
        let nodes = Nodes::default();
        let mut entries = wide(20_000);
        let before = build(&nodes, &entries);
        let stored = nodes.nodes.lock().unwrap().len();
        *entries.iter_mut().nth(7_777).unwrap().1 = entry(1 << 40);
        let after = build(&nodes, &entries);
        let new = nodes.nodes.lock().unwrap().len() - stored;
        assert!(before.height >= 1 && before != after);
        assert!(new <= usize::from(after.height) + 1, "{new} new nodes in a tree of height {}", after.height);
    }

    #[test]
    fn an_empty_tree_and_a_single_entry_have_a_leaf_as_root() {
        for count in [0, 1] {
            let root = build(&Nodes::default(), &wide(count));
            assert_eq!((root.height, root.entries), (0, count));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(30))]
        #[test]
        fn a_tree_reads_back_from_the_start_and_from_any_key(count in 0u64..5000, seek in 0u64..5000) {
            let nodes = Nodes::default();
            let entries = wide(count);
            let root = build(&nodes, &entries);
            prop_assert_eq!(root.entries, count);
            let read: Result<BTreeMap<_, _>> = TreeCursor::new(&nodes, root).collect();
            prop_assert_eq!(&read.unwrap(), &entries);
            let from = TreePath::from_slashes(format!("d{}/file{seek}", seek / 100).as_bytes()).unwrap();
            let mut cursor = TreeCursor::new(&nodes, root);
            cursor.seek(&from).unwrap();
            let rest: Result<BTreeMap<_, _>> = cursor.collect();
            let expected: BTreeMap<_, _> = entries.range(from..).map(|(key, entry)| (key.clone(), entry.clone())).collect();
            prop_assert_eq!(rest.unwrap(), expected);
        }
    }
}
