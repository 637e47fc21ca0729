//! Vectors for tree nodes, trees, list nodes and snapshots.

use crate::describe::{self, hex};
use crate::topic::{HOST, SESSION, Topic, Wrong, binding, flip, keys};
use lifeboat_format::entry::{
    Chunker, Content, Entry, LinkGroup, ListRoot, Metadata, Node, Timestamp, Xattr, XattrValue,
};
use lifeboat_format::list::{ListChild, ListNode, Piece};
use lifeboat_format::node::{Child, Item, NodeBuilder};
use lifeboat_format::object::{ObjectKind, frame};
use lifeboat_format::region::ChunkKind;
use lifeboat_format::seal::{self, Key, Purpose, Suite};
use lifeboat_format::snapshot::{Snapshot, SnapshotKind, Source, SourceKind, Statistics, TreeRoot};
use lifeboat_format::wire::Write as _;
use lifeboat_format::{AuthorId, ChunkId, Result, SnapshotId, TreePath};
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
            Xattr { name: b"user.long".to_vec(), value: XattrValue::Chunk(ChunkId([0xcc; 32]), 60_000) },
        ],
    }
}

/// One entry of every kind, in the order of their keys.
fn entries() -> Result<Vec<(TreePath, Entry)>> {
    let bare = |node| Entry { node, metadata: Metadata::default(), link: None, torn: false };
    let list = ListRoot { id: ChunkId([0xdd; 32]), height: 2, chunker: Chunker::Pages8K };
    let full = |node| Entry { node, metadata: metadata(), link: Some(LinkGroup(u64::MAX)), torn: true };
    let chunk = Content::Chunk(ChunkId([0xee; 32]));
    [
        ("", Entry { link: None, ..full(Node::Directory) }),
        ("a", bare(Node::Directory)),
        ("a/empty", bare(Node::File { size: 0, content: Content::Empty })),
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
            Ok(Item::Child(Child { first, id: ChunkId([seed; 32]), entries: u64::from(seed) << 20 }))
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
    too_high.extend_from_slice(&[3; 32]);
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
    inner.extend_from_slice(&[3; 32]);
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
    let id = [9; 32];
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
        ("content kind 3", entry(2, &[&BARE, &[1, 3], &id])),
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
        ("a child that is missing", &mut |children| children[1].id = ChunkId([0; 32])),
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

pub(crate) fn lists() -> Topic {
    let mut topic = Topic::new("lists", "List nodes that stand for `expected` bytes of a file.");
    let id = ChunkId([6; 32]);
    let case = |bytes: &[u8], expected: u64| json!({ "bytes": hex(bytes), "expected": expected });
    let pieces = vec![
        Piece::Chunk(id, 1),
        Piece::Hole(1 << 50),
        Piece::Zeros(4096),
        Piece::Chunk(ChunkId([7; 32]), 1 << 20),
    ];
    let leaf = ListNode::Leaf(pieces);
    let total = 1 + (1 << 50) + 4096 + (1 << 20);
    topic.good("list_node", "a leaf", case(&leaf.encode(), total), describe::list_node(&leaf));
    let children = vec![ListChild { id, bytes: 1 << 40 }, ListChild { id: ChunkId([8; 32]), bytes: 5 }];
    let inner = ListNode::Inner(15, children);
    topic.good(
        "list_node",
        "an inner node",
        case(&inner.encode(), (1 << 40) + 5),
        describe::list_node(&inner),
    );
    let one = |piece| ListNode::Leaf(vec![piece]).encode();
    let mut many = vec![0];
    many.put_varint(65_537);
    let mut left_over = leaf.encode();
    left_over.push(0);
    let inner_of = |height, bytes| ListNode::Inner(height, vec![ListChild { id, bytes }; 2]).encode();
    let cut = &leaf.encode()[..40];
    for (reason, bytes, expected) in [
        ("one byte too long", leaf.encode(), total - 1),
        ("one byte too short", leaf.encode(), total + 1),
        ("an empty chunk", one(Piece::Chunk(id, 0)), 0),
        ("an empty hole", one(Piece::Hole(0)), 0),
        ("an empty child", inner_of(1, 0), 0),
        ("a chunk of 1 MiB and a byte", one(Piece::Chunk(id, (1 << 20) + 1)), (1 << 20) + 1),
        ("a piece of kind 3", vec![0, 1, 7], 1),
        ("lengths that overflow", inner_of(1, u64::MAX), u64::MAX),
        ("height 16", inner_of(16, 5), 10),
        ("65,537 items", many, 1),
        ("a byte is left over", left_over, total),
        ("it ends early", cut.to_vec(), total),
    ] {
        topic.bad("list_node", reason, Wrong::Damaged, case(&bytes, expected));
    }
    topic
}

/// Whole chunk lists: three leaves below two inner nodes, and what may not be right between them.
pub(crate) fn files() -> Topic {
    let mut topic = Topic::new(
        "files",
        "Whole chunk lists: the plaintexts of all nodes, and what an entry says of the root. Values are all pieces.",
    );
    let id_of = |node: &ListNode| keys(X).chunk_id(ChunkKind::List, &node.encode());
    let child = |node: &ListNode, bytes| ListChild { id: id_of(node), bytes };
    let case = |nodes: &[&ListNode], root: &ListNode, height: u8, size: u64| {
        let nodes: Vec<String> = nodes.iter().map(|node| hex(&node.encode())).collect();
        json!({ "nodes": nodes, "root": { "id": hex(&id_of(root).0), "height": height }, "size": size })
    };
    let pieces = [Piece::Chunk(ChunkId([1; 32]), 10), Piece::Hole(20), Piece::Zeros(30)];
    let leaves = pieces.map(|piece| ListNode::Leaf(vec![piece, piece]));
    let [one, two, three] = &leaves;
    let below = ListNode::Inner(1, vec![child(one, 20), child(two, 40)]);
    let beside = ListNode::Inner(1, vec![child(three, 60)]);
    let root = ListNode::Inner(2, vec![child(&below, 60), child(&beside, 60)]);
    let nodes = [one, two, three, &below, &beside, &root];
    let all: Vec<Piece> = pieces.iter().flat_map(|piece| [*piece, *piece]).collect();
    let value = describe::list_node(&ListNode::Leaf(all))["items"].clone();
    topic.good("file", "two levels of inner nodes", case(&nodes, &root, 2, 120), value);
    let one_value = describe::list_node(one)["items"].clone();
    topic.good("file", "a leaf alone", case(&[one], one, 0, 20), one_value);
    let skipping = ListNode::Inner(2, vec![child(one, 20)]);
    let lying = ListNode::Inner(1, vec![child(one, 19), child(two, 41)]);
    for (reason, case) in [
        ("a root of another height", case(&nodes, &root, 1, 120)),
        ("a leaf two levels below", case(&[one, &skipping], &skipping, 2, 20)),
        ("a file of another size", case(&nodes, &root, 2, 121)),
        ("a child of another length", case(&[one, two, &lying], &lying, 1, 60)),
        ("a node is missing", case(&nodes[1..], &root, 2, 120)),
    ] {
        topic.bad("file", reason, Wrong::Damaged, case);
    }
    topic
}

fn snapshot() -> Snapshot {
    let source = |kind, name: &[u8]| Source {
        kind,
        name: name.to_vec(),
        root: TreeRoot { id: ChunkId([4; 32]), height: 1, entries: 9 },
        parent: Some(SnapshotId([5; 16])),
        snapshot_kind: SnapshotKind::Differential,
        errors: 1,
        bytes: 1 << 40,
        users: vec![(0, b"root".to_vec()), (u32::MAX, b"\xff".to_vec())],
        groups: vec![],
    };
    let stdin =
        Source { parent: None, snapshot_kind: SnapshotKind::Full, ..source(SourceKind::Stdin, b"dump.sql") };
    Snapshot {
        id: SnapshotId([1; 16]),
        complete: true,
        host_id: HOST,
        host: "hôte".into(),
        user: "root".into(),
        sequence: 300,
        previous: Some(SnapshotId([3; 16])),
        started: Timestamp { seconds: 1_700_000_000, nanos: 5 },
        finished: Timestamp { seconds: 1_700_000_060, nanos: 6 },
        tags: vec!["a".into(), "b".into()],
        program: "lifeboat 0.1.0".into(),
        sources: vec![source(SourceKind::Path, b"/srv/\xff"), stdin],
        statistics: Statistics { files_new: 1, total_bytes_processed: u64::MAX, ..Statistics::default() },
        author: AuthorId::NONE,
        signature: vec![],
    }
}

pub(crate) fn snapshots() -> Result<Topic> {
    let mut topic = Topic::new(
        "snapshots",
        "Snapshots (kind 5), drafts (6) and checkpoints (7); `session` is the object's name.",
    );
    let case = |kind: u8, session: [u8; 16], bytes: &[u8]| json!({ "kind": kind, "session": hex(&session), "bytes": hex(bytes) });
    for (suite, kind) in [
        (X, ObjectKind::Snapshot),
        (Suite::Aes256Gcm, ObjectKind::Snapshot),
        (X, ObjectKind::Draft),
        (X, ObjectKind::Checkpoint),
    ] {
        let keys = keys(suite);
        let key = keys.new_session();
        let mut snapshot = snapshot();
        snapshot.complete = kind != ObjectKind::Checkpoint;
        let bytes = snapshot.encode(kind, &keys, SESSION, &key)?;
        let value = describe::snapshot(&snapshot);
        topic.good("snapshot", "a snapshot", case(kind as u8, SESSION.0, &bytes), value);
        if kind == ObjectKind::Draft {
            let body = &bytes[12..bytes.len() - 32];
            let renamed = frame(ObjectKind::Snapshot, body);
            let input = case(5, SESSION.0, &renamed);
            topic.bad("snapshot", "a draft passed off as a snapshot", Wrong::Damaged, input);
        }
        let input = case(kind as u8, [0; 16], &bytes);
        topic.bad("snapshot", "another session's name", Wrong::Damaged, input);
        let input = case(kind as u8, SESSION.0, &flip(&bytes, 80));
        topic.bad("snapshot", "a flipped bit", Wrong::Damaged, input);
    }
    bad_bodies(&mut topic)?;
    Ok(topic)
}

/// A snapshot object around any body.
fn crafted(plain: &[u8]) -> Result<String> {
    let session = keys(X).new_session();
    let envelope = session.envelope();
    let key = <[u8; 32]>::try_from(crate::packs::session_key(envelope)?.as_slice())
        .expect("a session key has 32 bytes");
    let mut body = Vec::new();
    envelope.encode(&mut body);
    body.extend_from_slice(&[0; 17]);
    let bound = binding(Purpose::Snapshot, envelope.id.0, SESSION.0);
    body.extend(seal::seal_box(X, &Key::new(key), bound, plain));
    Ok(hex(&frame(ObjectKind::Snapshot, &body)))
}

fn bad_bodies(topic: &mut Topic) -> Result<()> {
    let body = |fields: &[(u64, &[u8])]| {
        let mut plain = Vec::new();
        for (tag, value) in fields {
            plain.put_varint(*tag);
            plain.put_string(value);
        }
        plain
    };
    // Kind, name, root id, root height, entries, snapshot kind, parent, errors, bytes, users, groups.
    let source = |kind: u8, height: u8, snapshot_kind: u8, parent: &[u8]| {
        let mut bytes = vec![kind, 2, b'/', b'a'];
        bytes.extend_from_slice(&[4; 32]);
        bytes.extend_from_slice(&[height, 1, snapshot_kind]);
        bytes.put_string(parent);
        bytes.extend_from_slice(&[0, 0, 0, 0]);
        bytes
    };
    let id = [1; 16];
    let mut with_more = source(1, 0, 1, b"");
    with_more.extend_from_slice(b"a later version's");
    let plain = body(&[(1, &id), (99, b"unknown"), (12, &with_more)]);
    let expected = Snapshot {
        complete: false,
        host_id: lifeboat_format::HostId([0; 16]),
        host: String::new(),
        user: String::new(),
        sequence: 0,
        previous: None,
        started: Timestamp::default(),
        finished: Timestamp::default(),
        tags: vec![],
        program: String::new(),
        statistics: Statistics::default(),
        sources: vec![Source {
            kind: SourceKind::Path,
            name: b"/a".to_vec(),
            root: TreeRoot { id: ChunkId([4; 32]), height: 0, entries: 1 },
            parent: None,
            snapshot_kind: SnapshotKind::Full,
            errors: 0,
            bytes: 0,
            users: vec![],
            groups: vec![],
        }],
        ..snapshot()
    };
    let case = |plain: &[u8]| Ok(json!({ "kind": 5, "session": hex(&SESSION.0), "bytes": crafted(plain)? }));
    let about = "an unknown field and more behind a source are skipped, absent fields are empty";
    topic.good("snapshot", about, case(&plain)?, describe::snapshot(&expected));
    for (reason, wrong, plain) in [
        ("no id", Wrong::Damaged, body(&[(2, &[1])])),
        ("an id of 15 bytes", Wrong::Damaged, body(&[(1, &id[1..])])),
        ("a host that is not UTF-8", Wrong::Damaged, body(&[(1, &id), (4, &[0xff])])),
        ("a source of unknown kind", Wrong::Unsupported, body(&[(1, &id), (12, &source(9, 0, 1, b""))])),
        ("a tree of height 16", Wrong::Damaged, body(&[(1, &id), (12, &source(1, 16, 1, b""))])),
        ("snapshot kind 4", Wrong::Damaged, body(&[(1, &id), (12, &source(1, 0, 4, b""))])),
        ("a parent of 15 bytes", Wrong::Damaged, body(&[(1, &id), (12, &source(1, 0, 1, &id[1..]))])),
        ("65,537 tags", Wrong::Damaged, body(&[&[(1, &id[..])][..], &vec![(10, &b""[..]); 65_537]].concat())),
        ("eleven figures", Wrong::Damaged, body(&[(1, &id), (13, &[0; 11])])),
        ("a field that ends early", Wrong::Damaged, vec![1, 16, 0]),
        ("a billion nanoseconds", Wrong::Damaged, body(&[(1, &id), (8, &[0, 0x80, 0x94, 0xeb, 0xdc, 0x03])])),
    ] {
        topic.bad("snapshot", reason, wrong, case(&plain)?);
    }
    Ok(())
}
