//! How the vectors state decoded values as JSON. `docs/format/vectors/README.md`
//!
//! Must stay true: byte strings are lower-case hexadecimal digits, numbers are numbers, times are `[seconds, nanos]`.
//! The generator describes what it encoded and the tests describe what they decoded, so both sides use this file.

use lifeboat_format::bundle::Manifest;
use lifeboat_format::bundle::record::{
    Body, Item as BundleItem, PortableEntry, Record, Value as BundleValue,
};
use lifeboat_format::config::Config;
use lifeboat_format::entry::{Chunker, Content, Entry, Node, Xattr, XattrValue};
use lifeboat_format::index::IndexObject;
use lifeboat_format::intent::Intent;
use lifeboat_format::keys::Envelope;
use lifeboat_format::list::{ListNode, Piece};
use lifeboat_format::node::Item;
use lifeboat_format::pack::Directory;
use lifeboat_format::region::Region;
use lifeboat_format::slot::RoleBundle;
use lifeboat_format::snapshot::{Snapshot, Source, Statistics};
use lifeboat_format::{PackName, Timestamp, TreePath};
use serde_json::{Value, json};

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hexes<T: AsRef<[u8]>>(items: impl IntoIterator<Item = T>) -> Vec<String> {
    items.into_iter().map(|item| hex(item.as_ref())).collect()
}

pub(crate) fn time(time: Timestamp) -> Value {
    json!([time.seconds, time.nanos])
}

pub(crate) fn path(path: &TreePath) -> Value {
    json!({ "components": hexes(path.components()) })
}

pub(crate) fn config(config: &Config) -> Value {
    let parameters = &config.parameters;
    json!({
        "repository": hex(&config.repository.0),
        "created": time(config.created),
        "features": {
            "read": config.features.read,
            "write": config.features.write,
            "optional": config.features.optional,
        },
        "parameters": {
            "bytes_min": parameters.cut.bytes_min,
            "bytes_mask": parameters.cut.bytes_mask,
            "bytes_max": parameters.cut.bytes_max,
            "region_bytes": parameters.region_bytes,
            "pack_bytes": parameters.pack_bytes,
            "suite": parameters.suite as u8,
        },
    })
}

pub(crate) fn bundle(bundle: &RoleBundle) -> Value {
    json!({
        "role": bundle.role as u8,
        "master": hex(bundle.master.expose()),
        "label": bundle.label,
        "created": time(bundle.created),
    })
}

fn envelope(envelope: &Envelope) -> Value {
    json!({ "id": hex(&envelope.id.0), "recipient": envelope.recipient, "wrapped": hex(&envelope.wrapped) })
}

pub(crate) fn region(region: &Region) -> Value {
    let head = &region.head;
    json!({
        "kind": head.kind as u8,
        "suite": head.suite as u8,
        "codec": head.codec as u8,
        "envelope": head.envelope,
        "id": hex(&head.id.0),
        "stored_bytes": head.stored_bytes,
        "plain_bytes": head.plain_bytes,
        "chunk_bytes": region.chunk_bytes,
    })
}

pub(crate) fn directory(directory: &Directory) -> Value {
    json!({
        "envelopes": directory.envelopes.iter().map(envelope).collect::<Vec<_>>(),
        "filler_bytes": directory.filler_bytes,
        "regions": directory.regions.iter().map(region).collect::<Vec<_>>(),
    })
}

pub(crate) fn index(index: &IndexObject) -> Value {
    let packs: Vec<Value> = index
        .packs
        .iter()
        .map(|pack| {
            json!({
                "name": hex(&pack.name.0),
                "bytes": pack.bytes,
                "directory": directory(&pack.directory),
                "ids": hexes(pack.ids.iter().map(|id| id.0)),
            })
        })
        .collect();
    json!({ "author": hex(&index.author.0), "signature": hex(&index.signature), "packs": packs })
}

fn xattr(xattr: &Xattr) -> Value {
    let name = hex(&xattr.name);
    match &xattr.value {
        XattrValue::Inline(value) => {
            json!({ "name": name, "value": hex(value), "chunk": null, "bytes": value.len() })
        }
        XattrValue::Chunk(id, bytes) => {
            json!({ "name": name, "value": null, "chunk": hex(&id.0), "bytes": bytes })
        }
    }
}

fn chunker(chunker: Chunker) -> u8 {
    chunker as u8
}

/// The word for a node's kind.
pub(crate) fn node_type(node: &Node) -> &'static str {
    match node {
        Node::Directory => "directory",
        Node::File { .. } => "file",
        Node::Symlink { .. } => "symlink",
        Node::Fifo => "fifo",
        Node::Socket => "socket",
        Node::CharDevice { .. } => "char_device",
        Node::BlockDevice { .. } => "block_device",
    }
}

pub(crate) fn entry(entry: &Entry) -> Value {
    let metadata = &entry.metadata;
    let content = match &entry.node {
        Node::File { content: Content::Chunk(id), .. } => {
            json!({ "id": hex(&id.0), "list": null, "pieces": null })
        }
        Node::File { content: Content::List(root), .. } => json!({
            "id": hex(&root.id.0),
            "list": { "height": root.height, "chunker": chunker(root.chunker) },
            "pieces": null,
        }),
        Node::File { content: Content::Pieces(cut, pieces), .. } => json!({
            "id": null,
            "list": null,
            "pieces": { "chunker": chunker(*cut), "items": pieces.iter().map(piece).collect::<Vec<_>>() },
        }),
        _ => Value::Null,
    };
    let target = match &entry.node {
        Node::Symlink { target } => json!(hex(target)),
        _ => Value::Null,
    };
    let device = match entry.node {
        Node::CharDevice { major, minor } | Node::BlockDevice { major, minor } => json!([major, minor]),
        _ => Value::Null,
    };
    json!({
        "type": node_type(&entry.node),
        "mode": metadata.mode,
        "uid": metadata.uid,
        "gid": metadata.gid,
        "mtime": time(metadata.mtime),
        "ctime": time(metadata.ctime),
        "inode": metadata.inode,
        "xattrs": metadata.xattrs.iter().map(xattr).collect::<Vec<_>>(),
        "link": entry.link.map(|link| link.0),
        "torn": entry.torn,
        "size": entry.size(),
        "content": content,
        "target": target,
        "device": device,
    })
}

/// A tree node: its height and its items.
pub(crate) fn tree_node(height: u8, items: &[Item]) -> Value {
    let items: Vec<Value> = items
        .iter()
        .map(|item| match item {
            Item::Entry(key, value) => json!({ "key": hex(key.as_key()), "entry": entry(value) }),
            Item::Child(child) => json!({
                "key": hex(child.first.as_key()),
                "id": hex(&child.id.0),
                "entries": child.entries,
            }),
        })
        .collect();
    json!({ "height": height, "items": items })
}

fn piece(piece: &Piece) -> Value {
    match piece {
        Piece::Chunk(id, bytes) => json!({ "kind": "chunk", "bytes": bytes, "id": hex(&id.0) }),
        Piece::Hole(bytes) => json!({ "kind": "hole", "bytes": bytes, "id": null }),
        Piece::Zeros(bytes) => json!({ "kind": "zeros", "bytes": bytes, "id": null }),
    }
}

pub(crate) fn list_node(node: &ListNode) -> Value {
    let items: Vec<Value> = match node {
        ListNode::Leaf(pieces) => pieces.iter().map(piece).collect(),
        ListNode::Inner(_, children) => children
            .iter()
            .map(|child| json!({ "kind": "node", "bytes": child.bytes, "id": hex(&child.id.0) }))
            .collect(),
    };
    json!({ "height": node.height(), "items": items })
}

fn owners(owners: &[(u32, Vec<u8>)]) -> Vec<Value> {
    owners.iter().map(|(id, name)| json!([id, hex(name)])).collect()
}

fn source(source: &Source) -> Value {
    json!({
        "kind": source.kind.word(),
        "name": hex(&source.name),
        "root": {
            "id": hex(&source.root.id.0),
            "height": source.root.height,
            "entries": source.root.entries,
        },
        "parent": source.parent.map(|parent| hex(&parent.0)),
        "snapshot_kind": source.snapshot_kind.word(),
        "errors": source.errors,
        "bytes": source.bytes,
        "users": owners(&source.users),
        "groups": owners(&source.groups),
        "detail": source.detail,
    })
}

fn statistics(figures: &Statistics) -> Value {
    json!([
        figures.files_new,
        figures.files_changed,
        figures.files_unmodified,
        figures.dirs_new,
        figures.dirs_changed,
        figures.dirs_unmodified,
        figures.data_blobs,
        figures.tree_blobs,
        figures.data_added,
        figures.data_added_packed,
        figures.total_files_processed,
        figures.total_bytes_processed,
    ])
}

pub(crate) fn snapshot(snapshot: &Snapshot) -> Value {
    json!({
        "id": hex(&snapshot.id.0),
        "complete": snapshot.complete,
        "host_id": hex(&snapshot.host_id.0),
        "host": snapshot.host,
        "user": snapshot.user,
        "sequence": snapshot.sequence,
        "previous": snapshot.previous.map(|previous| hex(&previous.0)),
        "started": time(snapshot.started),
        "finished": time(snapshot.finished),
        "tags": snapshot.tags,
        "program": snapshot.program,
        "sources": snapshot.sources.iter().map(source).collect::<Vec<_>>(),
        "statistics": statistics(&snapshot.statistics),
        "unhealthy": snapshot.unhealthy,
        "consistency": snapshot.consistency,
        "revision": snapshot.revision,
        "pinned": snapshot.pinned,
        "lacking": snapshot.lacking,
        "author": hex(&snapshot.author.0),
        "signature": hex(&snapshot.signature),
    })
}

pub(crate) fn intent(intent: &Intent) -> Value {
    json!({
        "session": hex(&intent.session.0),
        "counter": intent.counter,
        "host": hex(&intent.host.0),
        "parents": hexes(intent.parents.iter().map(|id| id.0)),
    })
}

pub(crate) fn condemned(packs: &[PackName]) -> Value {
    json!({ "packs": hexes(packs.iter().map(|pack| pack.0)) })
}

pub(crate) fn manifest(manifest: &Manifest) -> Value {
    let base = manifest.base.as_ref().map(|base| {
        json!({
            "id": hex(&base.id.0),
            "chunks": base.chunks,
            "digest": hex(&base.digest),
            "host": base.host,
            "started": time(base.started),
        })
    });
    json!({ "snapshot": snapshot(&manifest.snapshot), "base": base, "kind": manifest.kind.word() })
}

pub(crate) fn record(record: &Record) -> Value {
    match record {
        Record::Source(base) => json!({ "record": "source", "base": base }),
        Record::Removed(path) => json!({ "record": "removed", "key": hex(path.as_key()) }),
        Record::Entry(entry) => portable_entry(entry),
        Record::Items(items) => json!({ "record": "items", "items": bundle_items(items) }),
    }
}

fn bundle_items(items: &[BundleItem]) -> Vec<Value> {
    let item = |item: &BundleItem| match item {
        BundleItem::Chunk(number, bytes) => json!(["chunk", number, bytes]),
        BundleItem::Hole(bytes) => json!(["hole", null, bytes]),
        BundleItem::Zeros(bytes) => json!(["zeros", null, bytes]),
    };
    items.iter().map(item).collect()
}

fn portable_entry(entry: &PortableEntry) -> Value {
    let (mut target, mut device, mut size, mut chunker, mut items) = (None, None, 0, None, vec![]);
    let word = match &entry.body {
        Body::File(bytes, cut, some) => {
            (size, chunker, items) = (*bytes, Some(*cut as u8), bundle_items(some));
            "file"
        }
        Body::Other(node) => {
            match node {
                Node::Symlink { target: to } => target = Some(hex(to)),
                Node::CharDevice { major, minor } | Node::BlockDevice { major, minor } => {
                    device = Some([*major, *minor]);
                }
                _ => {}
            }
            node_type(node)
        }
    };
    let xattr = |(name, value): &(Vec<u8>, BundleValue)| match value {
        BundleValue::Inline(value) => json!({ "name": hex(name), "value": hex(value), "chunk": null }),
        BundleValue::Chunk(number, bytes) => {
            json!({ "name": hex(name), "value": null, "chunk": ["chunk", number, bytes] })
        }
    };
    let metadata = &entry.metadata;
    json!({
        "record": "entry",
        "key": hex(entry.path.as_key()),
        "type": word,
        "mode": metadata.mode,
        "uid": metadata.uid,
        "gid": metadata.gid,
        "mtime": time(metadata.mtime),
        "ctime": time(metadata.ctime),
        "inode": metadata.inode,
        "xattrs": entry.xattrs.iter().map(xattr).collect::<Vec<_>>(),
        "link": entry.link.as_ref().map(|name| hex(name)),
        "torn": entry.torn,
        "size": size,
        "chunker": chunker,
        "items": items,
        "target": target,
        "device": device,
    })
}
