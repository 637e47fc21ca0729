//! Vectors for snapshots, drafts and checkpoints.

use crate::describe::{self, hex};
use crate::topic::{HOST, SESSION, Topic, Wrong, binding, flip, keys};
use lifeboat_format::entry::Timestamp;
use lifeboat_format::object::{ObjectKind, frame};
use lifeboat_format::seal::{self, Key, Purpose, Suite};
use lifeboat_format::snapshot::{Snapshot, SnapshotKind, Source, SourceKind, Statistics, TreeRoot};
use lifeboat_format::wire::Write as _;
use lifeboat_format::{AuthorId, ChunkId, Result, SnapshotId};
use serde_json::json;

const X: Suite = Suite::XChaCha20Poly1305;

fn snapshot() -> Snapshot {
    let source = |kind, name: &[u8]| Source {
        kind,
        name: name.to_vec(),
        root: TreeRoot { id: ChunkId([4; ChunkId::BYTES]), height: 1, entries: 9 },
        parent: Some(SnapshotId([5; 16])),
        snapshot_kind: SnapshotKind::Differential,
        errors: 1,
        bytes: 1 << 40,
        users: vec![(0, b"root".to_vec()), (u32::MAX, b"\xff".to_vec())],
        groups: vec![],
        detail: String::new(),
    };
    let stdin =
        Source { parent: None, snapshot_kind: SnapshotKind::Full, ..source(SourceKind::Stdin, b"dump.sql") };
    let detailed = |kind, name: &[u8], detail: &str| Source { detail: detail.into(), ..source(kind, name) };
    let volume = detailed(SourceKind::Volume, b"pgdata", r#"{"driver":"local","labels":{"é":""}}"#);
    let container = detailed(SourceKind::Container, b"api", "{}");
    let tar = source(SourceKind::Tar, b"old.tar");
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
        sources: vec![source(SourceKind::Path, b"/srv/\xff"), stdin, volume, container, tar],
        statistics: Statistics { files_new: 1, total_bytes_processed: u64::MAX, ..Statistics::default() },
        unhealthy: vec!["api: unhealthy since 3 checks".into(), "db: starting".into()],
        consistency: r#"{"moment":"paused"}"#.into(),
        revision: 300,
        pinned: true,
        lacking: true,
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
        bytes.extend_from_slice(&[4; ChunkId::BYTES]);
        bytes.extend_from_slice(&[height, 1, snapshot_kind]);
        bytes.put_string(parent);
        bytes.extend_from_slice(&[0, 0, 0, 0]);
        bytes
    };
    let id = [1; 16];
    let mut with_more = source(1, 0, 1, b"");
    let without_detail = with_more.clone();
    with_more.put_string(b"");
    with_more.extend_from_slice(b"a later version's");
    let plain = body(&[(1, &id), (99, b"unknown"), (12, &with_more)]);
    let root = TreeRoot { id: ChunkId([4; ChunkId::BYTES]), height: 0, entries: 1 };
    let expected = Snapshot {
        sources: vec![Source::new(SourceKind::Path, b"/a", root)],
        ..Snapshot::new(snapshot().id, lifeboat_format::HostId([0; 16]))
    };
    let case = |plain: &[u8]| Ok(json!({ "kind": 5, "session": hex(&SESSION.0), "bytes": crafted(plain)? }));
    let about = "an unknown field and more behind a source are skipped, absent fields are empty";
    topic.good("snapshot", about, case(&plain)?, describe::snapshot(&expected));
    let plain = body(&[(1, &id), (12, &without_detail)]);
    let about = "a source that ends with its groups has no detail";
    topic.good("snapshot", about, case(&plain)?, describe::snapshot(&expected));
    let with_detail = |detail: &[u8]| {
        let mut bytes = without_detail.clone();
        bytes.put_string(detail);
        bytes
    };
    for (reason, wrong, plain) in [
        ("no id", Wrong::Damaged, body(&[(2, &[1])])),
        ("an id of 15 bytes", Wrong::Damaged, body(&[(1, &id[1..])])),
        ("a host that is not UTF-8", Wrong::Damaged, body(&[(1, &id), (4, &[0xff])])),
        ("a source of unknown kind", Wrong::Unsupported, body(&[(1, &id), (12, &source(9, 0, 1, b""))])),
        ("a tree of height 16", Wrong::Damaged, body(&[(1, &id), (12, &source(1, 16, 1, b""))])),
        ("snapshot kind 4", Wrong::Damaged, body(&[(1, &id), (12, &source(1, 0, 4, b""))])),
        ("a parent of 15 bytes", Wrong::Damaged, body(&[(1, &id), (12, &source(1, 0, 1, &id[1..]))])),
        ("65,537 tags", Wrong::Damaged, body(&[&[(1, &id[..])][..], &vec![(10, &b""[..]); 65_537]].concat())),
        (
            "a detail of 65,537 bytes",
            Wrong::Damaged,
            body(&[(1, &id), (12, &with_detail(&b" ".repeat(65_537)))]),
        ),
        ("a detail that is not UTF-8", Wrong::Damaged, body(&[(1, &id), (12, &with_detail(&[0xff]))])),
        ("a claim of 65,537 bytes", Wrong::Damaged, body(&[(1, &id), (15, &b" ".repeat(65_537))])),
        ("a claim that is not UTF-8", Wrong::Damaged, body(&[(1, &id), (15, &[0xff])])),
        ("an unhealthy service that is not UTF-8", Wrong::Damaged, body(&[(1, &id), (14, &[0xff])])),
        ("eleven figures", Wrong::Damaged, body(&[(1, &id), (13, &[0; 11])])),
        ("a revision that ends early", Wrong::Damaged, body(&[(1, &id), (16, &[0x80])])),
        ("a pin that is empty", Wrong::Damaged, body(&[(1, &id), (17, &[])])),
        ("a field that ends early", Wrong::Damaged, vec![1, 16, 0]),
        ("a billion nanoseconds", Wrong::Damaged, body(&[(1, &id), (8, &[0, 0x80, 0x94, 0xeb, 0xdc, 0x03])])),
    ] {
        topic.bad("snapshot", reason, wrong, case(&plain)?);
    }
    Ok(())
}
