//! Bundles: what stands before the seals, and the plaintext inside them.

use super::keyring::SESSION;
use lifeboat_format::bundle::record::{Body, Item, Numbering, PortableEntry, Record, Value};
use lifeboat_format::bundle::{Base, BundleKey, Chunks, FRAME_HEAD_BYTES, FrameHead, Manifest};
use lifeboat_format::entry::Chunker;
use lifeboat_format::snapshot::{Snapshot, SnapshotKind};
use lifeboat_format::wire::Reader;
use lifeboat_format::{HostId, Metadata, Node, SnapshotId, Timestamp, TreePath};

/// Chunks of the base that the records refer to.
const BASE_CHUNKS: u64 = 9;

/// The first byte says what follows: a manifest, chunks, records, or a header.
pub fn bundle(bytes: &[u8]) -> bool {
    let Some((first, rest)) = bytes.split_first() else {
        return false;
    };
    match first {
        1 => Manifest::decode(rest).is_ok_and(|manifest| {
            let again = manifest.encode().expect("what fits a frame can be encoded");
            assert_eq!(Manifest::decode(&again).as_ref(), Ok(&manifest));
            true
        }),
        2 => Chunks::decode(rest).is_ok_and(|chunks| {
            assert_eq!(Chunks::decode(&chunks.encode()).as_ref(), Ok(&chunks));
            assert_eq!(chunks.iter().map(<[u8]>::len).sum::<usize>(), chunks.bytes.len());
            true
        }),
        3 => records(rest),
        _ => {
            let head = rest.first_chunk::<FRAME_HEAD_BYTES>().map(FrameHead::decode);
            BundleKey::decode_prefix(rest).is_ok() || head.is_some_and(|head| head.is_ok())
        }
    }
}

fn read(bytes: &[u8]) -> Option<Vec<Record>> {
    let (mut numbering, mut reader) = (Numbering::new(BASE_CHUNKS), Reader::new(bytes, "records"));
    let mut records = Vec::new();
    while reader.remaining() > 0 {
        records.push(numbering.decode(&mut reader).ok()?);
    }
    Some(records)
}

fn write(records: &[Record]) -> Vec<u8> {
    let (mut numbering, mut bytes) = (Numbering::new(BASE_CHUNKS), Vec::new());
    records.iter().for_each(|record| numbering.encode(record, &mut bytes));
    bytes
}

fn records(bytes: &[u8]) -> bool {
    let Some(records) = read(bytes) else {
        return false;
    };
    assert!(read(&write(&records)) == Some(records), "what was encoded decodes to the same records");
    true
}

/// Inputs that decode.
pub fn seeds() -> Vec<Vec<u8>> {
    let base = Base {
        id: SnapshotId(SESSION.0),
        chunks: BASE_CHUNKS,
        digest: [1; 32],
        host: "host".into(),
        started: Timestamp::default(),
    };
    let snapshot = Snapshot::new(SnapshotId([7; 16]), HostId([8; 16]));
    let manifest = Manifest { snapshot, base: Some(base), kind: SnapshotKind::Differential };
    let entry = |name: &[u8], xattrs, body| {
        let path = TreePath::from_slashes(name).expect("a good name");
        let (link, metadata) = (Some(name.to_vec()), Metadata::default());
        Record::Entry(Box::new(PortableEntry { path, metadata, xattrs, link, torn: true, body }))
    };
    let items = vec![Item::Chunk(BASE_CHUNKS + 1, 70_000), Item::Hole(1 << 40), Item::Chunk(3, 9)];
    let xattrs = vec![(b"user.x".to_vec(), Value::Chunk(BASE_CHUNKS, 5))];
    let records = [
        Record::Source(Some(1)),
        entry(b"dir/file", xattrs, Body::File(1 << 41, Chunker::Pages4K, items)),
        Record::Items(vec![Item::Zeros(5), Item::Chunk(4, 8)]),
        Record::Removed(TreePath::from_slashes(b"dir/gone").expect("a good name")),
        entry(b"dir/link", vec![], Body::Other(Node::Symlink { target: b"x".to_vec() })),
    ];
    let header = [b"lifeboat\x20\x01\0\0".to_vec(), vec![5; 16], vec![100, 0, 0, 0]].concat();
    let chunks = Chunks { lengths: vec![1, 300], bytes: vec![2; 301] };
    [
        (1, manifest.encode().expect("it is small")),
        (2, chunks.encode()),
        (3, write(&records)),
        (4, header),
        (5, vec![2, 100, 0, 0, 0]),
    ]
    .map(|(first, rest)| [vec![first], rest].concat())
    .to_vec()
}
