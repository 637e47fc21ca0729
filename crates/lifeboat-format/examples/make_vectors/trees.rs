//! Vectors for tree nodes and whole trees.

use crate::describe::{self, hex};
use crate::topic::{Topic, Wrong, keys};
use lifeboat_format::entry::{
    Chunker, Content, Entry, LinkGroup, ListRoot, Metadata, Node, Timestamp, Xattr, XattrValue,
};
use lifeboat_format::list::Piece;
use lifeboat_format::node::{Child, Item, NodeBuilder};
use lifeboat_format::region::ChunkKind;
use lifeboat_format::seal::Suite;
use lifeboat_format::wire::Write as _;
use lifeboat_format::{ChunkId, Result, TreePath};
use serde_json::json;

const X: Suite = Suite::XChaCha20Poly1305;

fn metadata() -> Metadata {
    Metadata {
        mode: 0o4755,
        uid: 1000,
        gid: u32::MAX,
        mtime: Timestamp { seconds: 1_700_000_000, nanos: 123_456_789 },
        ctime: Timestamp { seconds: -1, nanos: 999_999_999 },
        inode: 1 << 40,
        xattrs: vec![
            Xattr { name: b"security.capability".to_vec(), value: XattrValue::Inline(vec![1, 0, 0, 2]) },
            Xattr {
                name: b"user.long".to_vec(),
                value: XattrValue::Chunk(ChunkId([0xcc; ChunkId::BYTES]), 60_000),
            },
        ],
    }
}

/// One entry of every kind, in the order of their keys.
fn entries() -> Result<Vec<(TreePath, Entry)>> {
    let bare = |node| Entry { node, metadata: Metadata::default(), link: None, torn: false };
    let list = ListRoot { id: ChunkId([0xdd; ChunkId::BYTES]), height: 2, chunker: Chunker::Pages8K };
    let full = |node| Entry { node, metadata: metadata(), link: Some(LinkGroup(u64::MAX)), torn: true };
    let chunk = Content::Chunk(ChunkId([0xee; ChunkId::BYTES]));
    let few = vec![Piece::Chunk(ChunkId([0xef; ChunkId::BYTES]), 9), Piece::Hole(1 << 30), Piece::Zeros(1)];
    [
        ("", Entry { link: None, ..full(Node::Directory) }),
        ("a", bare(Node::Directory)),
        ("a/empty", bare(Node::File { size: 0, content: Content::Empty })),
        ("a/few", bare(Node::File { size: (1 << 30) + 10, content: Content::Pieces(Chunker::Pages4K, few) })),
        ("a/one", full(Node::File { size: 42, content: chunk })),
        ("a/zwei", full(Node::File { size: 1 << 40, content: Content::List(list) })),
        ("ab", bare(Node::Symlink { target: b"../\xff".to_vec() })),
        ("fifo", bare(Node::Fifo)),
        ("null", bare(Node::CharDevice { major: 1, minor: 3 })),
        ("sda", full(Node::BlockDevice { major: u32::MAX, minor: u32::MAX })),
        ("socket", bare(Node::Socket)),
    ]
    .into_iter()
    .map(|(path, entry)| Ok((TreePath::from_slashes(path.as_bytes())?, entry)))
    .collect()
}

pub(crate) fn nodes() -> Result<Topic> {
    let mut topic = Topic::new("nodes", "Tree nodes.");
    let items: Vec<Item> = entries()?.into_iter().map(|(key, entry)| Item::Entry(key, entry)).collect();
    let children: Vec<Item> = ["", "a/b", "a/c/d", "b"]
        .iter()
        .zip(1u8..)
        .map(|(path, seed)| {
            let first = TreePath::from_slashes(path.as_bytes())?;
            Ok(Item::Child(Child {
                first,
                id: ChunkId([seed; ChunkId::BYTES]),
                entries: u64::from(seed) << 20,
            }))
        })
        .collect::<Result<_>>()?;
    for (height, items) in [(0, &items[..]), (1, &children), (15, &children[..1]), (0, &[])] {
        let mut builder = NodeBuilder::new(height);
        for item in items {
            match item {
                Item::Entry(key, entry) => builder.push_entry(key, entry),
                Item::Child(child) => builder.push_child(child),
            }
        }
        let (bytes, ..) = builder.finish()?;
        let value = describe::tree_node(height, items);
        topic.good("tree_node", "a node", json!({ "bytes": hex(&bytes) }), value);
    }
    bad_keys(&mut topic);
    bad_entries(&mut topic);
    Ok(topic)
}

fn plain_entry() -> Vec<u8> {
    let mut bytes = Vec::new();
    Entry::directory(Metadata::default()).encode(&mut bytes);
    bytes
}

fn bad_keys(topic: &mut Topic) {
    let node = |items: &[(u64, &[u8])]| {
        let mut bytes = vec![0];
        bytes.put_varint(items.len() as u64);
        for (shared, suffix) in items {
            bytes.put_varint(*shared);
            bytes.put_string(suffix);
            bytes.extend(plain_entry());
        }
        bytes
    };
    let good = node(&[(0, b"ab"), (0, b"b")]);
    let items = ["ab", "b"].iter().filter_map(|path| {
        let key = TreePath::from_slashes(path.as_bytes()).ok()?;
        Some(Item::Entry(key, Entry::directory(Metadata::default())))
    });
    let value = describe::tree_node(0, &items.collect::<Vec<_>>());
    topic.good("tree_node", "two bare directories", json!({ "bytes": hex(&good) }), value);
    let mut left_over = good.clone();
    left_over.push(0);
    let mut too_high = vec![16, 1, 0, 1, b'a'];
    too_high.extend_from_slice(&[3; ChunkId::BYTES]);
    too_high.push(1);
    let long = vec![b'x'; 256];
    for (reason, bytes) in [
        ("keys in the wrong order", node(&[(0, b"b"), (0, b"a")])),
        ("the same key twice", node(&[(0, b"b"), (0, b"b")])),
        ("the same key twice, shared", node(&[(0, b"b"), (1, b"")])),
        ("a key that is a prefix of the one before", node(&[(0, b"bc"), (0, b"b")])),
        ("more shared bytes than the last key has", node(&[(0, b"b"), (2, b"c")])),
        ("shared bytes in the first key", node(&[(1, b"b")])),
        ("a name `..`", node(&[(0, b"..")])),
        ("a name `..` behind shared bytes", node(&[(0, b"a"), (1, b"\0..")])),
        ("a slash in a name", node(&[(0, b"a/b")])),
        ("an empty name", node(&[(0, b"a\0")])),
        ("a name of 256 bytes", node(&[(0, &long)])),
        ("height 16", too_high),
        ("a byte is left over", left_over),
        ("it ends early", good[..good.len() - 1].to_vec()),
        ("fewer entries than it states", vec![0, 1]),
        ("no bytes", vec![]),
    ] {
        topic.bad("tree_node", reason, Wrong::Damaged, json!({ "bytes": hex(&bytes) }));
    }
    let mut inner = vec![1, 1, 0, 1, b'a'];
    inner.extend_from_slice(&[3; ChunkId::BYTES]);
    topic.bad("tree_node", "a child without its count", Wrong::Damaged, json!({ "bytes": hex(&inner) }));
}

fn bad_entries(topic: &mut Topic) {
    // Mode, owner, group, two times of two bytes each, inode: all zero.
    const BARE: [u8; 8] = [0; 8];
    let entry = |first: u8, rest: &[&[u8]]| {
        let mut bytes = vec![0, 1, 0, 1, b'a', first];
        rest.iter().for_each(|part| bytes.extend_from_slice(part));
        json!({ "bytes": hex(&bytes) })
    };
    let id = [9; ChunkId::BYTES];
    let mut size_max = Vec::new();
    size_max.put_varint(1 << 63);
    let mut long_target = Vec::new();
    long_target.put_string(&[b'x'; 4097]);
    let mut long_value = vec![1, 1, b'a', 0];
    long_value.put_string(&vec![0; 65_537]);
    let mut nanos = vec![0, 0, 0, 0];
    nanos.put_varint(1_000_000_000);
    nanos.extend_from_slice(&[0, 0, 0]);
    let mut device = Vec::new();
    device.put_varint(1 << 32);
    device.push(0);
    for (reason, case) in [
        ("entry kind 0", entry(0, &[&BARE])),
        ("an unknown flag 0x40", entry(0x41, &[&BARE])),
        ("an unknown flag 0x80", entry(0x81, &[&BARE])),
        ("a hard-linked directory", entry(0x09, &[&BARE, &[0; 8]])),
        ("mode 0o10000", entry(1, &[&[0x80, 0x20], &BARE[1..]])),
        ("a billion nanoseconds", entry(1, &[&nanos])),
        ("size 0 with a chunk", entry(2, &[&BARE, &[0, 1], &id])),
        ("size 1 without content", entry(2, &[&BARE, &[1, 0]])),
        ("size 2^63", entry(2, &[&BARE, &size_max, &[1], &id])),
        ("content kind 4", entry(2, &[&BARE, &[1, 4], &id])),
        ("pieces that are longer than the file", entry(2, &[&BARE, &[5, 3, 0, 1, 6 << 2], &id])),
        ("pieces that are shorter than the file", entry(2, &[&BARE, &[5, 3, 0, 1, 4 << 2], &id])),
        ("an empty piece", entry(2, &[&BARE, &[5, 3, 0, 2, 5 << 2 | 1, 1]])),
        ("a piece of kind 3 in an entry", entry(2, &[&BARE, &[5, 3, 0, 1, 5 << 2 | 3]])),
        ("pieces with an unknown chunker", entry(2, &[&BARE, &[5, 3, 4, 1, 5 << 2 | 1]])),
        ("257 pieces", entry(2, &[&BARE, &[0x81, 2, 3, 0, 0x81, 2], &[1 << 2 | 1; 257]])),
        ("a chunk list of height 16", entry(2, &[&BARE, &[1, 2, 16, 0], &id])),
        ("an unknown chunker", entry(2, &[&BARE, &[1, 2, 0, 4], &id])),
        ("a link target of 4,097 bytes", entry(3, &[&BARE, &long_target])),
        ("a device number above 32 bits", entry(6, &[&BARE, &device])),
        ("no attributes, though it says so", entry(0x11, &[&BARE, &[0]])),
        ("attributes in the wrong order", entry(0x11, &[&BARE, &[2, 1, b'b', 0, 0, 1, b'a', 0, 0]])),
        ("the same attribute twice", entry(0x11, &[&BARE, &[2, 1, b'a', 0, 0, 1, b'a', 0, 0]])),
        ("an attribute without a name", entry(0x11, &[&BARE, &[1, 0, 0, 0]])),
        ("a NUL in an attribute's name", entry(0x11, &[&BARE, &[1, 1, 0, 0, 0]])),
        ("an attribute of unknown kind", entry(0x11, &[&BARE, &[2, 1, b'a', 0, 0, 1, b'b', 2]])),
        ("an attribute above 64 KiB", entry(0x11, &[&BARE, &long_value])),
    ] {
        topic.bad("tree_node", reason, Wrong::Damaged, case);
    }
}

/// A tree by hand: each node may say something else of its children than is true.
struct Nodes {
    nodes: Vec<String>,
}

impl Nodes {
    fn put(&mut self, builder: &mut NodeBuilder) -> Result<Child> {
        let (bytes, first, entries) = builder.finish()?;
        self.nodes.push(hex(&bytes));
        Ok(Child { first, id: keys(X).chunk_id(ChunkKind::Tree, &bytes), entries })
    }

    /// A leaf of entries; a path that ends in a slash is a directory.
    fn leaf(&mut self, paths: &[&str]) -> Result<Child> {
        let mut builder = NodeBuilder::new(0);
        for path in paths {
            let node = if path.ends_with('/') { Node::Directory } else { Node::Fifo };
            let entry = Entry { node, metadata: Metadata::default(), link: None, torn: false };
            builder.push_entry(&TreePath::from_slashes(path.as_bytes())?, &entry);
        }
        self.put(&mut builder)
    }

    fn inner(&mut self, height: u8, children: &[Child]) -> Result<Child> {
        let mut builder = NodeBuilder::new(height);
        children.iter().for_each(|child| builder.push_child(child));
        self.put(&mut builder)
    }

    fn case(self, root: &Child, height: u8) -> serde_json::Value {
        let root = json!({ "id": hex(&root.id.0), "height": height, "entries": root.entries });
        json!({ "nodes": self.nodes, "root": root })
    }
}

fn tree_of(leaves: &[&[&str]], alter: impl FnOnce(&mut Vec<Child>)) -> Result<serde_json::Value> {
    let mut nodes = Nodes { nodes: Vec::new() };
    let mut children = leaves.iter().map(|paths| nodes.leaf(paths)).collect::<Result<Vec<_>>>()?;
    if let [root] = &children[..] {
        let root = root.clone();
        return Ok(nodes.case(&root, 0));
    }
    alter(&mut children);
    let root = nodes.inner(1, &children)?;
    Ok(nodes.case(&root, 1))
}

pub(crate) fn walks() -> Result<Topic> {
    let mut topic = Topic::new(
        "trees",
        "Whole trees: the plaintexts of all nodes, and what a snapshot says of the root. \
         Values are the keys of all entries in order.",
    );
    let key_of = |path: &&str| Ok(hex(TreePath::from_slashes(path.as_bytes())?.as_key()));
    let whole: &[&[&str]] = &[&["/", "a/", "a/b", "a/c/"], &["a/c/d", "a!/", "b"]];
    for (about, leaves) in [
        ("a directory alone", &[&["/"][..]][..]),
        ("a file alone", &[&[""][..]]),
        ("one leaf", &[&["/", "a/", "a/b", "c"][..]]),
        ("two leaves", whole),
    ] {
        let expected = leaves.iter().flat_map(|leaf| leaf.iter()).map(key_of).collect::<Result<Vec<_>>>()?;
        topic.good("tree", about, tree_of(leaves, |_| {})?, json!(expected));
    }
    for (reason, leaves) in [
        ("no root entry", &[&["a/", "a/b"][..]][..]),
        ("nothing at all", &[&[][..]]),
        ("entries below a file that is the source", &[&["", "a"][..]]),
        ("a directory is missing", &[&["/", "a/b"][..]]),
        ("a directory is missing in the middle", &[&["/", "a/", "a/b/c"][..]]),
        ("an entry below a file", &[&["/", "a", "a/b"][..]]),
        ("an entry below a directory that was left", &[&["/", "a/", "ab/", "ab/a/", "b/a"][..]]),
        ("keys that ascend in each node only", &[&["/", "b"][..], &["a"]]),
        ("a key in two nodes", &[&["/", "a"][..], &["a"]]),
    ] {
        topic.bad("tree", reason, Wrong::Damaged, tree_of(leaves, |_| {})?);
    }
    let z = TreePath::root().join(b"a")?.join(b"c")?.join(b"e")?;
    for (reason, alter) in [
        (
            "a child with more entries than stated",
            &mut (|children: &mut Vec<Child>| children[1].entries -= 1) as &mut dyn FnMut(&mut Vec<Child>),
        ),
        ("a child whose first key is another", &mut |children| children[1].first = z.clone()),
        ("a child that is missing", &mut |children| children[1].id = ChunkId([0; ChunkId::BYTES])),
    ] {
        topic.bad("tree", reason, Wrong::Damaged, tree_of(whole, |children| alter(children))?);
    }
    for (reason, height, change) in [("a root of another height", 0u8, 0u64), ("a root of other count", 1, 1)]
    {
        let mut case = tree_of(whole, |_| {})?;
        case["root"]["height"] = json!(height);
        case["root"]["entries"] = json!(7 + change);
        topic.bad("tree", reason, Wrong::Damaged, case);
    }
    let mut nodes = Nodes { nodes: Vec::new() };
    let leaf = nodes.leaf(&["/"])?;
    let root = nodes.inner(2, &[leaf])?;
    topic.bad("tree", "a leaf two levels below", Wrong::Damaged, nodes.case(&root, 2));
    let mut nodes = Nodes { nodes: Vec::new() };
    let (leaf, empty) = (nodes.leaf(&["/"])?, nodes.leaf(&[])?);
    let empty = Child { first: TreePath::root().join(b"a")?, ..empty };
    let root = nodes.inner(1, &[leaf, empty])?;
    topic.bad("tree", "a child without entries", Wrong::Damaged, nodes.case(&root, 1));
    Ok(topic)
}
