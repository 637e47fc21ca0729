//! The files of the golden repository, before they are cut and sealed.

use crate::describe::{self, hex};
use lifeboat_format::entry::{Chunker, LinkGroup, Node};
use lifeboat_format::{Metadata, Timestamp};
use serde_json::{Value, json};

/// A stretch of a file: one chunk, a hole, or zeros.
#[derive(Clone)]
pub(crate) enum Part {
    Bytes(Vec<u8>),
    Hole(u64),
    Zeros(u64),
}

/// What a sketched file is.
#[derive(Clone)]
pub(crate) enum Kind {
    File(Vec<Part>),
    Other(Node),
}

/// One file of a source; the root's path is empty.
#[derive(Clone)]
pub(crate) struct Sketch {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) metadata: Metadata,
    pub(crate) xattrs: Vec<(&'static str, Vec<u8>)>,
    pub(crate) link: Option<LinkGroup>,
    pub(crate) chunker: Chunker,
}

impl Sketch {
    fn new(path: &[u8], kind: Kind, mode: u16) -> Self {
        let mtime = Timestamp { seconds: 1_759_000_000, nanos: 123_456_789 };
        let metadata =
            Metadata { mode, uid: 1000, gid: 0, mtime, ctime: mtime, inode: 7, ..Metadata::default() };
        Self { path: path.to_vec(), kind, metadata, xattrs: vec![], link: None, chunker: Chunker::Content }
    }

    pub(crate) fn file(path: &str, parts: &[Part]) -> Self {
        Self::new(path.as_bytes(), Kind::File(parts.to_vec()), 0o640)
    }

    fn other(path: &str, node: Node, mode: u16) -> Self {
        Self::new(path.as_bytes(), Kind::Other(node), mode)
    }

    /// Length of a regular file.
    pub(crate) fn bytes(&self) -> u64 {
        let Kind::File(parts) = &self.kind else { return 0 };
        parts
            .iter()
            .map(|part| match part {
                Part::Bytes(bytes) => bytes.len() as u64,
                Part::Hole(bytes) | Part::Zeros(bytes) => *bytes,
            })
            .sum()
    }

    /// What the manifest says of it when its source is restored to `place`.
    pub(crate) fn manifest(&self, place: &str) -> Value {
        let mut path = place.as_bytes().to_vec();
        if !self.path.is_empty() {
            path.push(b'/');
            path.extend_from_slice(&self.path);
        }
        let mut holes = 0;
        let mut hasher = blake3::Hasher::new();
        let (kind, target) = match &self.kind {
            Kind::File(parts) => {
                for part in parts {
                    match part {
                        Part::Bytes(bytes) => hasher.update(bytes),
                        Part::Hole(bytes) | Part::Zeros(bytes) => hasher.update(&vec![0; *bytes as usize]),
                    };
                    holes += if let Part::Hole(bytes) = part { *bytes } else { 0 };
                }
                ("file", Value::Null)
            }
            Kind::Other(Node::Symlink { target }) => ("symlink", json!(hex(target))),
            Kind::Other(node) => (describe::node_type(node), Value::Null),
        };
        let xattrs: serde_json::Map<String, Value> =
            self.xattrs.iter().map(|(name, value)| ((*name).to_owned(), json!(hex(value)))).collect();
        json!({
            "path": hex(&path),
            "type": kind,
            "mode": self.metadata.mode,
            "uid": self.metadata.uid,
            "gid": self.metadata.gid,
            "mtime": describe::time(self.metadata.mtime),
            "size": self.bytes(),
            "blake3": if kind == "file" { json!(hasher.finalize().to_string()) } else { Value::Null },
            "hole_bytes": holes,
            "target": target,
            "xattrs": xattrs,
            "link": self.link.map(|link| link.0),
        })
    }
}

/// Bytes that neither compress nor repeat.
fn noise(seed: u8, bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    blake3::Hasher::new_derive_key("lifeboat golden repository")
        .update(&[seed])
        .finalize_xof()
        .fill(&mut noise);
    noise
}

fn text(line: &str, bytes: usize) -> Vec<u8> {
    line.bytes().cycle().take(bytes).collect()
}

/// `/srv/data` as the first snapshot sees it.
pub(crate) fn data_v1() -> Vec<Sketch> {
    let link = Some(LinkGroup(0x1122_3344_5566_7788));
    let hard =
        |path| Sketch { link, ..Sketch::file(path, &[Part::Bytes(b"one inode, two names\n".to_vec())]) };
    let big = [
        Part::Bytes(noise(1, 9000)),
        Part::Hole(1 << 20),
        Part::Bytes(noise(2, 12_000)),
        Part::Bytes(text("the same chunk twice, ", 10_000)),
        Part::Zeros(65_536),
        Part::Bytes(text("the same chunk twice, ", 10_000)),
        Part::Bytes(noise(3, 300)),
        Part::Hole(123_456),
    ];
    let pages = [
        Part::Bytes(text("page 0 ", 8192)),
        Part::Hole(8192),
        Part::Bytes(text("page 2 ", 8192)),
        Part::Zeros(8192),
        Part::Bytes(text("page 4 ", 4096)),
    ];
    let plain = |path, text: &str| Sketch::file(path, &[Part::Bytes(text.as_bytes().to_vec())]);
    let mut attributes = plain("attributes", "look at my attributes\n");
    attributes.xattrs =
        vec![("user.long", text("0123456789abcdef", 3000)), ("user.short", b"value\0".to_vec())];
    let mut before_1970 = plain("before 1970", "old\n");
    before_1970.metadata.mtime = Timestamp { seconds: -12_345_678, nanos: 999_999_999 };
    let mut setuid = plain("dir/setuid", "#!/bin/sh\n");
    setuid.metadata.mode = 0o4755;
    let odd = Sketch { path: b"dir/\xff\xfe\n odd".to_vec(), ..plain("", "a name that is not UTF-8\n") };
    vec![
        Sketch::other("", Node::Directory, 0o755),
        attributes,
        before_1970,
        Sketch::file("big", &big),
        Sketch::other("dir", Node::Directory, 0o2750),
        Sketch::other("dir/deeper", Node::Directory, 0o500),
        hard("dir/deeper/hard link"),
        plain("dir/nested.txt", "nested\n"),
        setuid,
        odd,
        Sketch::other("dir!", Node::Directory, 0o700),
        plain("dir!/after dir", "its name sorts behind everything in dir\n"),
        Sketch::file("empty", &[]),
        Sketch::other("fifo", Node::Fifo, 0o622),
        hard("hard"),
        plain("hello.txt", "hello\n"),
        Sketch::file("hole only", &[Part::Hole(1 << 20)]),
        Sketch::other("link", Node::Symlink { target: b"dir/../hello.txt".to_vec() }, 0o777),
        Sketch::other("link to nowhere", Node::Symlink { target: b"/nonexistent/\xff".to_vec() }, 0o777),
        Sketch::other("null", Node::CharDevice { major: 1, minor: 3 }, 0o666),
        Sketch { chunker: Chunker::Pages8K, ..Sketch::file("pages", &pages) },
        Sketch::other("socket", Node::Socket, 0o755),
    ]
}

/// `/srv/data` as the second snapshot sees it: one file changed, one gone, one new.
pub(crate) fn data_v2() -> Vec<Sketch> {
    let mut sketches = data_v1();
    sketches.retain(|sketch| sketch.path != b"dir/nested.txt");
    for sketch in sketches.iter_mut().filter(|sketch| sketch.path == b"hello.txt") {
        sketch.kind = Kind::File(vec![Part::Bytes(b"hello again\n".to_vec())]);
        sketch.metadata.mtime.seconds += 60;
    }
    sketches.push(Sketch::file("zoo", &[Part::Bytes(b"new\n".to_vec())]));
    sketches
}

/// A volume.
pub(crate) fn volume() -> Vec<Sketch> {
    vec![
        Sketch::other("", Node::Directory, 0o700),
        Sketch::file("PG_VERSION", &[Part::Bytes(b"15\n".to_vec())]),
    ]
}

/// A source that is a single file.
pub(crate) fn motd() -> Vec<Sketch> {
    vec![Sketch::file("", &[Part::Bytes(b"welcome aboard\n".to_vec())])]
}
