//! Vectors for bundles.

use crate::describe::{self, hex};
use crate::topic::{HOST, Topic, Wrong, flip};
use lifeboat_format::bundle::record::{Body, Item, Numbering, PortableEntry, Record, Value};
use lifeboat_format::bundle::{Base, BundleKey, Chunks, Manifest, Part, Totals};
use lifeboat_format::entry::Chunker;
use lifeboat_format::seal::Key;
use lifeboat_format::slot::Secret;
use lifeboat_format::snapshot::{Snapshot, SnapshotKind, Source, SourceKind, TreeRoot};
use lifeboat_format::{ChunkId, Metadata, Node, Result, SnapshotId, Timestamp, TreePath};
use serde_json::json;

const KEY_FILE: [u8; 32] = [0x6b; 32];
const TIME: Timestamp = Timestamp { seconds: 1_700_000_000, nanos: 5 };

fn manifest(base: Option<Base>) -> Manifest {
    let root = TreeRoot { id: ChunkId([0; ChunkId::BYTES]), height: 0, entries: 5 };
    let snapshot = Snapshot {
        complete: true,
        host: "hôte".into(),
        sources: vec![Source::new(SourceKind::Path, b"/srv", root)],
        ..Snapshot::new(SnapshotId([1; 16]), HOST)
    };
    let kind = if base.is_some() { SnapshotKind::Incremental } else { SnapshotKind::Full };
    Manifest { snapshot, base, kind }
}

fn entry(path: &[u8], body: Body) -> Result<PortableEntry> {
    let metadata =
        Metadata { mode: 0o4755, uid: 1000, gid: 100, mtime: TIME, ctime: TIME, inode: 300, xattrs: vec![] };
    let path = TreePath::from_slashes(path)?;
    Ok(PortableEntry { path, metadata, xattrs: vec![], link: None, torn: false, body })
}

/// Every sort of record; the base has `base_chunks` chunks.
fn records(base: Option<u32>, base_chunks: u64) -> Result<Vec<Record>> {
    let first = base_chunks;
    let file = entry(
        b"a/file",
        Body::File(
            19,
            Chunker::Pages8K,
            vec![Item::Chunk(first + 1, 5), Item::Hole(3), Item::Zeros(2), Item::Chunk(first, 4)],
        ),
    )?;
    let file = PortableEntry {
        xattrs: vec![
            (b"user.long".to_vec(), Value::Chunk(first, 4)),
            (b"user.short".to_vec(), Value::Inline(b"value".to_vec())),
        ],
        link: Some(b"a\0file".to_vec()),
        torn: true,
        ..file
    };
    let mut records = vec![
        Record::Source(base),
        Record::Entry(Box::new(entry(b"", Body::Other(Node::Directory))?)),
        Record::Entry(Box::new(entry(b"a", Body::Other(Node::Directory))?)),
        Record::Entry(Box::new(file)),
        Record::Items(vec![Item::Chunk(first + 1, 5)]),
        Record::Entry(Box::new(entry(b"a/link", Body::Other(Node::Symlink { target: b"file".to_vec() }))?)),
        Record::Entry(Box::new(entry(b"tty", Body::Other(Node::CharDevice { major: 4, minor: 300 }))?)),
    ];
    if base.is_some() {
        records.insert(3, Record::Removed(TreePath::from_slashes(b"a/b")?));
    }
    Ok(records)
}

struct Made {
    key: BundleKey,
    header: Vec<u8>,
    frames: Vec<Vec<u8>>,
}

impl Made {
    fn new(parts: &[Part]) -> Result<Self> {
        let (key, header) = BundleKey::create(&Secret::KeyFile(&Key::new(KEY_FILE)), TIME)?;
        let frames: Result<_> =
            parts.iter().enumerate().map(|(number, part)| key.seal(number as u64, part)).collect();
        Ok(Self { key, header, frames: frames? })
    }

    fn bytes(&self, frames: &[usize]) -> Vec<u8> {
        let mut bytes = self.header.clone();
        frames.iter().for_each(|number| bytes.extend_from_slice(&self.frames[*number]));
        bytes
    }
}

fn parts(base: Option<Base>) -> Result<(Vec<Part>, Vec<Record>)> {
    let base_chunks = base.as_ref().map_or(0, |base| base.chunks);
    let records = records(base.as_ref().map(|_| 0), base_chunks)?;
    let mut plain = Vec::new();
    let mut numbering = Numbering::new(base_chunks);
    records.iter().for_each(|record| numbering.encode(record, &mut plain));
    let removed = u64::from(base.is_some());
    let parts = vec![
        Part::Manifest(Box::new(manifest(base))),
        Part::Chunks(Chunks { lengths: vec![4, 5], bytes: b"123456789".to_vec() }),
        Part::Records(plain),
        Part::End(Totals { chunks: 2, bytes: 9, entries: 5, removed }),
    ];
    Ok((parts, records))
}

pub(crate) fn bundles() -> Result<Topic> {
    let mut topic = Topic::new("bundles", "Whole bundles, opened with the key file `key_file`.");
    let case = |bytes: &[u8]| json!({ "bytes": hex(bytes), "key_file": hex(&KEY_FILE) });
    let base =
        Base { id: SnapshotId([2; 16]), chunks: 7, digest: [3; 32], host: "hôte".into(), started: TIME };
    for (about, base) in [("a full one", None), ("a difference", Some(base))] {
        let (parts, records) = parts(base.clone())?;
        let value = json!({
            "manifest": describe::manifest(&manifest(base)),
            "chunks": ["31323334", "3536373839"],
            "records": records.iter().map(describe::record).collect::<Vec<_>>(),
            "end": [2, 9, 5, u64::from(about != "a full one")],
        });
        topic.good("bundle", about, case(&Made::new(&parts)?.bytes(&[0, 1, 2, 3])), value);
    }
    let (good, _) = parts(None)?;
    bad_bundles(&mut topic, &good)?;
    bad_records(&mut topic, &good)?;
    Ok(topic)
}

fn bad_bundles(topic: &mut Topic, good: &[Part]) -> Result<()> {
    let (made, other) = (Made::new(good)?, Made::new(good)?);
    let whole = made.bytes(&[0, 1, 2, 3]);
    let with = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        bytes
    };
    let spliced = [made.bytes(&[0, 1]), other.frames[2].clone(), made.frames[3].clone()].concat();
    let foreign = [&other.header[..], &whole[made.header.len()..]].concat();
    let twice = [whole.clone(), made.key.seal(4, &good[3])?].concat();
    let early = [made.header.clone(), made.key.seal(0, &good[1])?].concat();
    for (reason, wrong, bytes) in [
        ("another magic", Wrong::Damaged, with(0, b'x')),
        ("an object of a repository", Wrong::Damaged, with(8, 5)),
        ("format version 2", Wrong::Unsupported, with(9, 2)),
        ("reserved bytes", Wrong::Damaged, with(10, 1)),
        ("another id", Wrong::Denied, with(12, whole[12] ^ 1)),
        ("no key slot", Wrong::Damaged, [&whole[..28], &[0; 4]].concat()),
        ("it ends in its header", Wrong::Damaged, whole[..20].to_vec()),
        ("it ends before its manifest", Wrong::Damaged, made.bytes(&[])),
        ("it ends before its end", Wrong::Damaged, made.bytes(&[0, 1, 2])),
        ("it ends inside its end", Wrong::Damaged, whole[..whole.len() - 1].to_vec()),
        ("something follows its end", Wrong::Damaged, [&whole[..], &[0]].concat()),
        ("two ends", Wrong::Damaged, twice),
        ("a frame left out", Wrong::Damaged, made.bytes(&[0, 2, 3])),
        ("a frame twice", Wrong::Damaged, made.bytes(&[0, 1, 1, 2, 3])),
        ("frames exchanged", Wrong::Damaged, made.bytes(&[0, 2, 1, 3])),
        ("a frame of another bundle", Wrong::Damaged, spliced),
        ("another bundle's header", Wrong::Damaged, foreign),
        ("a flipped bit", Wrong::Damaged, flip(&whole, -30)),
        ("a frame of no known sort", Wrong::Damaged, [&made.header[..], &[9, 0, 0, 0, 0]].concat()),
        ("a frame of 64 MiB", Wrong::Damaged, [&made.header[..], &[2, 0, 0, 0, 4]].concat()),
        ("chunks before the manifest", Wrong::Damaged, early),
    ] {
        topic.bad("bundle", reason, wrong, json!({ "bytes": hex(&bytes), "key_file": hex(&KEY_FILE) }));
    }
    let input = json!({ "bytes": hex(&whole), "key_file": hex(&[0; 32]) });
    topic.bad("bundle", "another key file", Wrong::Denied, input);
    Ok(())
}

fn bad_records(topic: &mut Topic, good: &[Part]) -> Result<()> {
    // Record 3: shared, rest, type and flags, mode, uid, gid, mtime, ctime, inode.
    let head = |first: u8| vec![3, 0, 1, b'x', first, 0, 0, 0, 0, 0, 0, 0, 0];
    let file = |rest: &[u8]| [&head(2)[..], rest].concat();
    for (reason, records) in [
        ("an unknown record", vec![9]),
        ("a record that ends early", vec![2, 0]),
        ("a path that shares more than there is", vec![2, 1, 0]),
        ("a path with `..`", vec![2, 0, 2, b'.', b'.']),
        ("an entry of no type", head(0)),
        ("an entry with unknown flags", head(0x41)),
        ("a hard-linked directory", [&head(0x09)[..], &[1, b'x']].concat()),
        ("attributes that are none", [&head(0x11)[..], &[0]].concat()),
        ("a value that is a hole", [&head(0x11)[..], &[1, 1, b'n', 1, 5]].concat()),
        ("chunker 4", file(&[1, 4, 0])),
        ("an empty item", file(&[1, 0, 1, 0])),
        ("a chunk that was not used yet", file(&[1, 0, 1, 7, 0])),
        ("a chunk before the first", file(&[1, 0, 2, 4, 7, 3])),
        ("a chunk of more than 1 MiB", file(&[1, 0, 1, 0x84, 0x80, 0x80, 2])),
        ("more than 65,536 items", vec![4, 0x81, 0x80, 4]),
    ] {
        let parts = [good[0].clone(), good[1].clone(), Part::Records(records), good[3].clone()];
        let bytes = Made::new(&parts)?.bytes(&[0, 1, 2, 3]);
        let input = json!({ "bytes": hex(&bytes), "key_file": hex(&KEY_FILE) });
        topic.bad("bundle", reason, Wrong::Damaged, input);
    }
    for (reason, chunks) in [
        ("an empty chunk", Chunks { lengths: vec![0, 9], bytes: vec![0; 9] }),
        ("chunks that do not add up", Chunks { lengths: vec![4, 4], bytes: vec![0; 9] }),
    ] {
        let parts = [good[0].clone(), Part::Chunks(chunks), good[2].clone(), good[3].clone()];
        let bytes = Made::new(&parts)?.bytes(&[0, 1, 2, 3]);
        let input = json!({ "bytes": hex(&bytes), "key_file": hex(&KEY_FILE) });
        topic.bad("bundle", reason, Wrong::Damaged, input);
    }
    Ok(())
}
