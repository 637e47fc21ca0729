//! Inputs that decode: what a fuzzer begins with, and what the ordinary test mutates.
//!
//! Must stay true: each is made by the encoders, never typed in, so that a change of the format changes the seeds too. Only
//! pages of databases are typed in: their formats are not ours.

use super::keyring::{REPOSITORY, SESSION, keys, session_key};
use super::sealed::{KEY_FILE, SLOT};
use lifeboat_format::config::{Config, Features, Parameters};
use lifeboat_format::entry::{Chunker, ListRoot};
use lifeboat_format::list::{ListChild, ListNode, Piece};
use lifeboat_format::node::{Child, NodeBuilder};
use lifeboat_format::object::{frame, header, unframe};
use lifeboat_format::pack::{Directory, TRAILER_BYTES, encode_tail};
use lifeboat_format::region::{ChunkKind, Region, RegionSealer};
use lifeboat_format::seal::{Key, Suite};
use lifeboat_format::skeleton;
use lifeboat_format::slot::{Argon2Cost, Role, RoleBundle, Secret, Slot};
use lifeboat_format::wire::Write;
use lifeboat_format::{
    ChunkId, Content, Entry, LinkGroup, Metadata, Node, ObjectKind, Timestamp, TreePath, Xattr, XattrValue,
};

const TIME: Timestamp = Timestamp { seconds: 1_700_000_000, nanos: 5 };

/// Bodies of configs, without checksum and tag.
pub fn configs() -> Vec<Vec<u8>> {
    let features =
        Features { optional: vec!["hint".into()], write: vec!["quota".into()], ..Features::default() };
    let configs = [Features::default(), features].map(|features| Config {
        repository: REPOSITORY,
        created: TIME,
        features,
        parameters: Parameters::default(),
    });
    let body = |config: &Config| {
        let bytes = config.encode(keys()).expect("default parameters are valid");
        let body = unframe(ObjectKind::Config, &bytes).expect("it was framed just now");
        body[..body.len() - 32].to_vec()
    };
    configs.iter().map(body).collect()
}

fn directory() -> Directory {
    let mut sealer = RegionSealer::new(keys(), session_key(), 3).expect("level 3 exists");
    let mut region =
        |kind, plain: &[u8], chunk_bytes| Region { head: sealer.seal(kind, 0, plain).0, chunk_bytes };
    let regions = vec![
        region(ChunkKind::Data, &[1; 5000], vec![2000, 3000]),
        region(ChunkKind::Tree, b"short", vec![5]),
    ];
    Directory { envelopes: vec![session_key().envelope().clone()], regions, filler_bytes: 10 }
}

fn encoded(directory: &Directory) -> Vec<u8> {
    let mut bytes = Vec::new();
    directory.encode(&mut bytes);
    bytes
}

/// Directories' plaintext.
pub fn directories() -> Vec<Vec<u8>> {
    vec![encoded(&directory()), encoded(&Directory::default())]
}

/// A pack's length and its directory's plaintext; and its length and its trailer.
pub fn trailers() -> Vec<Vec<u8>> {
    let directory = directory();
    let tail = encode_tail(keys(), &directory).expect("two regions fit");
    let pack_bytes =
        header(ObjectKind::Pack).len() as u64 + directory.stored_bytes() + 10 + tail.len() as u64;
    let length = pack_bytes.to_le_bytes();
    vec![
        [&length[..], &encoded(&directory)].concat(),
        [&length[..], &tail[tail.len() - TRAILER_BYTES..]].concat(),
    ]
}

/// Index objects' plaintext: the packs.
pub fn indexes() -> Vec<Vec<u8>> {
    let directory = directory();
    let mut plain = Vec::new();
    plain.put_varint(2);
    for pack in 0..2 {
        plain.extend_from_slice(&[pack; 32]);
        plain.put_u32(1 << 20);
        directory.encode(&mut plain);
        plain.extend_from_slice(&[pack; 3 * ChunkId::BYTES]);
    }
    vec![plain, vec![0]]
}

/// Intents' plaintext: host, counter, parents.
pub fn intents() -> Vec<Vec<u8>> {
    let mut plain = vec![6; 16];
    plain.put_u32(3);
    plain.put_varint(2);
    plain.extend_from_slice(&[7; 2 * ChunkId::BYTES]);
    vec![plain]
}

/// List nodes behind the length that they stand for.
pub fn list_nodes() -> Vec<Vec<u8>> {
    let pieces =
        vec![Piece::Chunk(ChunkId([1; ChunkId::BYTES]), 8192), Piece::Hole(1 << 30), Piece::Zeros(4096)];
    let children = vec![ListChild { id: ChunkId([2; ChunkId::BYTES]), bytes: 1 << 20 }; 3];
    let lists = [(8192 + (1 << 30) + 4096, ListNode::Leaf(pieces)), (3 << 20, ListNode::Inner(1, children))];
    lists.iter().map(|(bytes, node)| [&u64::to_le_bytes(*bytes)[..], &node.encode()].concat()).collect()
}

/// Parts of skeletons.
pub fn skeletons() -> Vec<Vec<u8>> {
    let mut builder = skeleton::Builder::default();
    // Nothing is full yet.
    let _ = (builder.raw(&[7; 600]), builder.content(5), builder.raw(b"end"));
    vec![builder.finish(), skeleton::Builder::default().finish()]
}

/// Framed objects and names of objects.
pub fn objects() -> Vec<Vec<u8>> {
    let framed = [ObjectKind::Config, ObjectKind::Fence].map(|kind| frame(kind, b"body"));
    let named = [64, 32, 40].map(|digits| "0a".repeat(digits / 2).into_bytes());
    framed.into_iter().chain(named).chain([header(ObjectKind::Pack).to_vec()]).collect()
}

/// A file's size and its pages, of every program whose files are recognised. What is not in a header is never looked at.
pub fn page_files() -> Vec<Vec<u8>> {
    const PAGE: u16 = 4096;
    let page = |bytes: u16, fields: &[(usize, &[u8])]| {
        let mut page = vec![0; usize::from(bytes)];
        fields.iter().for_each(|(at, field)| page[*at..at + field.len()].copy_from_slice(field));
        page
    };
    // Flags, lower, upper and special of an index page, and its size with the version of the layout.
    let postgres = [0, 28, 4000, 4080, PAGE | 4].map(u16::to_le_bytes).concat();
    let postgres = page(PAGE, &[(10, &postgres)]).repeat(3);
    let tablespace = |number: u8, kind: u8| {
        page(PAGE, &[(7, &[number]), (25, &[kind]), (34, &7u32.to_be_bytes()), (38, &7u32.to_be_bytes())])
    };
    let innodb = [tablespace(0, 8), tablespace(1, 5), tablespace(2, 3)].concat();
    let sqlite = page(512, &[(0, b"SQLite format 3\0\x02\0\x01\x01\0\x40\x20\x20")]).repeat(2);
    let bbolt = [0xed0c_daed, 2, 1024].map(u32::to_le_bytes).concat();
    let bbolt = page(1024, &[(8, &[4]), (16, &bbolt)]).repeat(2);
    let with_size = |file: Vec<u8>| [&(file.len() as u64).to_le_bytes()[..], &file].concat();
    [postgres, innodb, sqlite, bbolt].map(with_size).into()
}

/// Paths with slashes.
pub fn paths() -> Vec<Vec<u8>> {
    [&b""[..], b"usr/bin/env", b"./a//b", b"\xff\xfe"].map(<[u8]>::to_vec).into()
}

/// Regions: claimed length and zstd frame.
pub fn regions() -> Vec<Vec<u8>> {
    let texts = [b"lifeboat ".repeat(1000), b"short".to_vec(), Vec::new()];
    let frame = |text: &Vec<u8>| zstd::bulk::compress(text, 3).expect("memory is enough");
    texts.iter().map(|text| [&(text.len() as u32).to_le_bytes()[..], &frame(text)].concat()).collect()
}

/// A slot's body, and a role bundle's plaintext.
pub fn slots() -> Vec<Vec<u8>> {
    let bundle =
        RoleBundle { role: Role::Full, master: Key::new([7; 32]), label: "first".into(), created: TIME };
    let key_file = Key::new(KEY_FILE);
    let suite = Suite::Aes256Gcm;
    let cost = Argon2Cost::default();
    let slot = Slot::seal(REPOSITORY, SLOT, suite, &Secret::KeyFile(&key_file), cost, &bundle);
    let slot = slot.expect("a key file costs nothing").encode();
    let mut plain = vec![Role::Full as u8];
    plain.put_varint(1);
    plain.put_string(&[7; 32]);
    plain.put_varint(2);
    plain.put_string(b"label");
    vec![unframe(ObjectKind::Slot, &slot).expect("it was framed just now").to_vec(), plain]
}

/// Snapshots' plaintext: tagged fields.
pub fn snapshots() -> Vec<Vec<u8>> {
    let mut source = vec![4];
    source.put_string(b"pgdata");
    source.extend_from_slice(&[3; ChunkId::BYTES]);
    source.push(1);
    source.put_varint(1000);
    source.push(2);
    source.put_string(&[9; 16]);
    [0, 5000, 1].iter().for_each(|number| source.put_varint(*number));
    source.put_varint(0);
    source.put_string(b"root");
    source.put_varint(0);
    source.put_string(br#"{"driver":"local"}"#);
    let mut statistics = Vec::new();
    (0..12).for_each(|number| statistics.put_varint(number * 100));
    let mut time = Vec::new();
    time.put_signed(TIME.seconds);
    time.put_varint(u64::from(TIME.nanos));
    let fields: [(u64, &[u8]); 15] = [
        (1, &SESSION.0),
        (2, &[1]),
        (3, &[5; 16]),
        (4, b"host"),
        (5, b"user"),
        (6, &[7]),
        (7, &[8; 16]),
        (8, &time),
        (9, &time),
        (10, b"tag"),
        (11, b"lifeboat 0.1.0"),
        (12, &source),
        (13, &statistics),
        (14, b"api: unhealthy"),
        (15, b"{}"),
    ];
    let mut plain = Vec::new();
    for (tag, value) in fields {
        plain.put_varint(tag);
        plain.put_string(value);
    }
    vec![plain]
}

/// Tree nodes: a leaf with every kind of entry, an inner node.
pub fn tree_nodes() -> Vec<Vec<u8>> {
    let xattrs = vec![
        Xattr {
            name: b"security.capability".to_vec(),
            value: XattrValue::Chunk(ChunkId([4; ChunkId::BYTES]), 600),
        },
        Xattr { name: b"user.a".to_vec(), value: XattrValue::Inline(b"value".to_vec()) },
    ];
    let metadata =
        Metadata { mode: 0o4755, uid: 1000, gid: 100, mtime: TIME, inode: 77, xattrs, ..Metadata::default() };
    let list = ListRoot { id: ChunkId([5; ChunkId::BYTES]), height: 1, chunker: Chunker::Pages8K };
    let nodes = [
        Node::Directory,
        Node::File { size: 0, content: Content::Empty },
        Node::File { size: 9, content: Content::Chunk(ChunkId([6; ChunkId::BYTES])) },
        Node::File { size: 9 << 20, content: Content::List(list) },
        Node::File {
            size: 13,
            content: Content::Pieces(
                Chunker::Content,
                vec![Piece::Hole(4), Piece::Chunk(ChunkId([7; ChunkId::BYTES]), 9)],
            ),
        },
        Node::Symlink { target: b"../x".to_vec() },
        Node::Fifo,
        Node::Socket,
        Node::CharDevice { major: 1, minor: 3 },
        Node::BlockDevice { major: 8, minor: 0 },
    ];
    let mut leaf = NodeBuilder::new(0);
    for (number, node) in nodes.into_iter().enumerate() {
        let link = matches!(node, Node::Fifo).then_some(LinkGroup(3));
        let path = TreePath::from_slashes(format!("folder/file {number}").as_bytes());
        let entry = Entry { node, metadata: metadata.clone(), link, torn: number == 2 };
        leaf.push_entry(&path.expect("a plain name is a path"), &entry);
    }
    let mut inner = NodeBuilder::new(2);
    for (first, entries) in [("a", 10), ("folder/b", 5)] {
        let first = TreePath::from_slashes(first.as_bytes()).expect("a plain name is a path");
        inner.push_child(&Child { first, id: ChunkId([9; ChunkId::BYTES]), entries });
    }
    [leaf, inner].map(|mut builder| builder.finish().expect("a small node fits").0).into()
}

/// How many values, their kinds, their bytes.
pub fn wires() -> Vec<Vec<u8>> {
    let mut values = vec![7];
    values.put_u16(600);
    values.put_u32(70_000);
    values.put_u64(1 << 40);
    values.put_varint(300);
    values.put_signed(-5);
    values.put_string(&[0xff, 0xfe]);
    values.put_string("füllt".as_bytes());
    values.extend_from_slice(&[1; 16]);
    vec![[&[9, 0, 1, 2, 3, 4, 5, 6, 7, 8][..], &values].concat(), vec![0]]
}
