//! Decoders of bytes that are not sealed, or whose plaintext has a decoder of its own.

use super::keyring::{keys, seal_as_indexer};
use lifeboat_format::config::Config;
use lifeboat_format::list::ListNode;
use lifeboat_format::node::{Item, NodeBuilder, NodeReader};
use lifeboat_format::object::{HEADER_BYTES, frame, header, strip_header, unframe};
use lifeboat_format::pack::{Directory, TRAILER_BYTES, Trailer, decode_directory};
use lifeboat_format::seal::Purpose;
use lifeboat_format::skeleton;
use lifeboat_format::wire::{Reader, Write};
use lifeboat_format::{ChunkId, ObjectKey, ObjectKind, TreePath};

/// A part of a skeleton.
pub fn skeleton(bytes: &[u8]) -> bool {
    let Ok(records) = skeleton::records(bytes) else { return false };
    let mut total = 0;
    for record in records {
        let Ok(record) = record else { return false };
        total += record.raw.len();
    }
    assert!(total <= bytes.len(), "records are slices of their part");
    true
}

/// The body of a config, authenticated here; and the bytes as they are.
pub fn config(body: &[u8]) -> bool {
    let _ = Config::decode(body);
    let _ = Config::decode(&frame(ObjectKind::Config, body));
    let mut tagged = body.to_vec();
    tagged.extend_from_slice(&keys().config_tag(body));
    let Ok(unchecked) = Config::decode(&frame(ObjectKind::Config, &tagged)) else {
        return false;
    };
    let config = unchecked.check(keys()).expect("its tag was made with its key");
    let again = config.encode(keys()).expect("what decodes can be encoded");
    let again = Config::decode(&again).and_then(|unchecked| unchecked.check(keys()));
    assert_eq!(again.expect("what was encoded decodes"), config);
    true
}

/// A pack's directory.
pub fn directory(plain: &[u8]) -> bool {
    let mut reader = Reader::new(plain, "pack directory");
    let Ok(directory) = Directory::decode(&mut reader) else {
        return false;
    };
    assert_eq!(directory.offsets().count(), directory.regions.len());
    let mut again = Vec::new();
    directory.encode(&mut again);
    // Numbers have one spelling, so a value has one encoding.
    assert_eq!(again, plain[..plain.len() - reader.remaining()]);
    reader.finish().is_ok()
}

/// A whole pack: eight bytes for its claimed length, then its trailer, or its directory's plaintext.
pub fn trailer(bytes: &[u8]) -> bool {
    let _ = decode_directory(keys(), bytes);
    let _ = decode_directory(keys(), &[&header(ObjectKind::Pack), bytes].concat());
    let Some((pack_bytes, rest)) = bytes.split_first_chunk() else {
        return false;
    };
    let pack_bytes = u64::from_le_bytes(*pack_bytes);
    let found = Trailer::decode(rest, pack_bytes);
    if let Ok(trailer) = &found {
        let _ = trailer.open(keys(), rest, pack_bytes);
        let room = pack_bytes.saturating_sub((HEADER_BYTES + TRAILER_BYTES) as u64);
        assert!(u64::from(trailer.directory_bytes) <= room);
    }
    // A tail that authenticates: its regions need not fill the pack.
    let sealed = seal_as_indexer(Purpose::Directory, [0; 16], rest);
    let mut tail = Vec::new();
    tail.put_u32(sealed.len() as u32);
    tail.extend_from_slice(&[0; 20]);
    tail.extend_from_slice(b"boatlife");
    let opened = Trailer::decode(&tail, pack_bytes).and_then(|own| own.open(keys(), &sealed, pack_bytes));
    found.is_ok() | opened.is_ok()
}

/// A tree node.
pub fn tree_node(bytes: &[u8]) -> bool {
    let Some((height, items)) = items(bytes) else {
        return false;
    };
    let mut sum = 0u64;
    for item in &items {
        let below = if let Item::Child(child) = item { child.entries } else { 1 };
        match sum.checked_add(below) {
            Some(more) => sum = more,
            // More entries than there are numbers: no builder has to write that.
            None => return false,
        }
    }
    let mut builder = NodeBuilder::new(height);
    for item in &items {
        match item {
            Item::Entry(key, entry) => builder.push_entry(key, entry),
            Item::Child(child) => builder.push_child(child),
        }
    }
    let (again, _, entries) = builder.finish().expect("what decodes can be encoded");
    assert_eq!(entries, sum);
    assert!(self::items(&again) == Some((height, items)), "what was encoded decodes to the same items");
    true
}

/// All items of a node, `None` if it is damaged anywhere.
fn items(bytes: &[u8]) -> Option<(u8, Vec<Item>)> {
    let mut reader = NodeReader::new(bytes).ok()?;
    let mut items = Vec::new();
    loop {
        match reader.next_item() {
            Ok(Some(item)) => items.push(item),
            Ok(None) => return Some((reader.height(), items)),
            Err(_) => return None,
        }
    }
}

/// A chunk list node: eight bytes for the length that it stands for, then the node.
pub fn list_node(bytes: &[u8]) -> bool {
    let Some((expected, node)) = bytes.split_first_chunk() else {
        return false;
    };
    let expected = u64::from_le_bytes(*expected);
    match ListNode::decode(node, expected) {
        Ok(decoded) => {
            assert_eq!(decoded.encode(), node, "numbers have one spelling, so a node has one encoding");
            true
        }
        Err(_) => false,
    }
}

/// A path, as a key and as a user types it.
pub fn path(bytes: &[u8]) -> bool {
    let _ = TreePath::root().join(bytes);
    let typed = TreePath::from_slashes(bytes);
    for path in [TreePath::from_key(bytes.to_vec()), typed.clone()].into_iter().flatten() {
        assert_eq!(TreePath::from_key(path.as_key().to_vec()).as_ref(), Ok(&path));
        assert_eq!(TreePath::from_slashes(&path.to_slashes()).as_ref(), Ok(&path));
        assert_eq!(path.components().count(), path.depth());
        assert_eq!(path.is_root(), path.parent().is_none());
        if let (Some(parent), Some(name)) = (path.parent(), path.name()) {
            assert_eq!(parent.join(name).as_ref(), Ok(&path));
            assert_eq!(path.strip(&parent), TreePath::root().join(name).ok());
            assert!(parent < path && path.starts_with(&parent) && !parent.starts_with(&path));
        }
        let _ = path.to_string();
    }
    typed.is_ok()
}

/// Headers, checksums, names.
pub fn object(bytes: &[u8]) -> bool {
    let mut decoded = false;
    for kind in ObjectKind::ALL {
        decoded |= strip_header(kind, bytes).is_ok() | unframe(kind, bytes).is_ok();
        assert_eq!(unframe(kind, &frame(kind, bytes)), Ok(bytes));
        if let Ok(text) = std::str::from_utf8(bytes)
            && let Some(key) = ObjectKey::from_hex(kind, text)
        {
            assert_eq!(ObjectKey::from_hex(kind, &key.hex()), Some(key));
            decoded = true;
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(name) = text.parse::<ChunkId>()
    {
        assert_eq!(name.to_string(), text, "a name has one spelling");
    }
    decoded
}

/// Primitive values: how many, what kind each is, and then their bytes.
pub fn wire(bytes: &[u8]) -> bool {
    let Some((script, data)) =
        bytes.split_first().and_then(|(count, rest)| rest.split_at_checked(usize::from(*count)))
    else {
        return false;
    };
    let mut reader = Reader::new(data, "input");
    for instruction in script {
        let mut before = reader.clone();
        let mut again = Vec::new();
        let read = match instruction % 9 {
            0 => reader.u8().map(|value| again.push(value)),
            1 => reader.u16().map(|value| again.put_u16(value)),
            2 => reader.u32().map(|value| again.put_u32(value)),
            3 => reader.u64().map(|value| again.put_u64(value)),
            4 => reader.varint().map(|value| again.put_varint(value)),
            5 => reader.signed().map(|value| again.put_signed(value)),
            6 => reader.string(u32::MAX).map(|value| again.put_string(value)),
            7 => reader.text().map(|value| again.put_string(value.as_bytes())),
            _ => reader.array::<16>().map(|value| again.extend_from_slice(&value)),
        };
        if read.is_err() {
            return false;
        }
        assert_eq!(before.bytes(again.len()), Ok(&again[..]), "a value has one spelling");
        assert_eq!(before.remaining(), reader.remaining());
    }
    reader.finish().is_ok()
}
