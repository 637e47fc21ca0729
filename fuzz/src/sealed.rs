//! Decoders of plaintext that only comes sealed: the input is sealed here first.

use super::keyring::{
    REPOSITORY, SESSION, SUITE, bind, keys, seal_as_indexer, seal_as_session, session_key, session_secret,
};
use lifeboat_format::index::IndexObject;
use lifeboat_format::intent::Intent;
use lifeboat_format::limits::REGION_PLAIN_BYTES_MAX;
use lifeboat_format::object::frame;
use lifeboat_format::region::{ChunkKind, Region, RegionHead, RegionOpener, verify_chunks};
use lifeboat_format::seal::{Binding, Codec, Key, NONCE_BYTES, Purpose, seal_in_place};
use lifeboat_format::slot::{Secret, Slot};
use lifeboat_format::snapshot::Snapshot;
use lifeboat_format::wire::Write;
use lifeboat_format::{ChunkId, EnvelopeId, ObjectKind, RegionId, SlotId};

pub const SLOT: SlotId = SlotId([4; 16]);
pub const KEY_FILE: [u8; 32] = [5; 32];
const SALT: [u8; 32] = [6; 32];

/// An index object.
pub fn index(plain: &[u8]) -> bool {
    let _ = IndexObject::decode(keys(), plain);
    let _ = IndexObject::decode(keys(), &frame(ObjectKind::Index, plain));
    // Author, empty signature, sealed packs.
    let mut body = vec![0; 16];
    body.put_string(b"");
    body.extend_from_slice(&seal_as_indexer(Purpose::Index, [0; 16], plain));
    let Ok(index) = IndexObject::decode(keys(), &frame(ObjectKind::Index, &body)) else {
        return false;
    };
    if let Ok((_, again)) = index.encode(keys()) {
        assert_eq!(IndexObject::decode(keys(), &again).as_ref(), Ok(&index));
    }
    true
}

/// An intent.
pub fn intent(plain: &[u8]) -> bool {
    let _ = Intent::decode(keys(), SESSION, plain);
    let sealed = seal_as_indexer(Purpose::Intent, SESSION.0, plain);
    let Ok(intent) = Intent::decode(keys(), SESSION, &frame(ObjectKind::Intent, &sealed)) else {
        return false;
    };
    assert_eq!(Intent::decode(keys(), SESSION, &intent.encode(keys())).as_ref(), Ok(&intent));
    assert_eq!(Intent::parse_key(&intent.key()), Some((SESSION, intent.counter)));
    true
}

/// A snapshot, draft or checkpoint.
pub fn snapshot(plain: &[u8]) -> bool {
    let _ = Snapshot::decode(ObjectKind::Snapshot, keys(), SESSION, plain);
    let _ = Snapshot::decode(ObjectKind::Snapshot, keys(), SESSION, &frame(ObjectKind::Snapshot, plain));
    let mut body = Vec::new();
    session_key().envelope().encode(&mut body);
    body.extend_from_slice(&[0; 16]);
    body.put_string(b"");
    body.extend_from_slice(&seal_as_session(Purpose::Snapshot, plain));
    let object = frame(ObjectKind::Snapshot, &body);
    assert!(Snapshot::decode(ObjectKind::Draft, keys(), SESSION, &object).is_err());
    let Ok(snapshot) = Snapshot::decode(ObjectKind::Snapshot, keys(), SESSION, &object) else {
        return false;
    };
    if let Ok(again) = snapshot.encode(ObjectKind::Draft, keys(), SESSION, session_key()) {
        assert_eq!(Snapshot::decode(ObjectKind::Draft, keys(), SESSION, &again).as_ref(), Ok(&snapshot));
    }
    true
}

/// A key slot as stored; and a role bundle inside one that a key file opens. Passphrases are left out: a derivation
/// costs 64 MiB, and what follows it is the same.
pub fn slot(bytes: &[u8]) -> bool {
    let key_file = Key::new(KEY_FILE);
    let mut decoded = false;
    for object in [bytes.to_vec(), frame(ObjectKind::Slot, bytes), sealed_slot(bytes)] {
        if let Ok(slot) = Slot::decode(&object) {
            assert_eq!(Slot::decode(&slot.encode()).as_ref(), Ok(&slot));
            decoded |= slot.open(REPOSITORY, SLOT, &Secret::KeyFile(&key_file)).is_ok();
        }
    }
    decoded
}

/// A slot around the plaintext of a role bundle.
fn sealed_slot(bundle: &[u8]) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new_derive_key("lifeboat v1 key file");
    hasher.update(&KEY_FILE).update(&SALT);
    let key = Key::new(*hasher.finalize().as_bytes());
    let binding =
        Binding { plain_bytes: bundle.len() as u32, ..bind(Purpose::Slot, EnvelopeId([0; 16]), SLOT.0) };
    let mut sealed = vec![0; NONCE_BYTES];
    sealed.extend_from_slice(bundle);
    seal_in_place(SUITE, &key, &binding, &mut sealed);
    let mut body = vec![2];
    body.extend_from_slice(&SALT);
    body.put_varint(sealed.len() as u64 + 1);
    body.push(SUITE as u8);
    body.extend_from_slice(&sealed);
    frame(ObjectKind::Slot, &body)
}

/// A region whose author holds the key but not the truth: four bytes for its claimed length, then its zstd frame.
pub fn region(bytes: &[u8]) -> bool {
    let Some((claimed, compressed)) = bytes.split_first_chunk() else {
        return false;
    };
    let plain_bytes = u32::from_le_bytes(*claimed) % (REGION_PLAIN_BYTES_MAX + 1);
    let (key, envelope) = session_secret();
    let id = RegionId([8; 16]);
    let binding = Binding { codec: Codec::Zstd, plain_bytes, ..bind(Purpose::Data, envelope, id.0) };
    let mut stored = vec![0; NONCE_BYTES];
    stored.extend_from_slice(compressed);
    seal_in_place(SUITE, key, &binding, &mut stored);
    let head = RegionHead {
        kind: ChunkKind::Data,
        suite: SUITE,
        codec: Codec::Zstd,
        envelope: 0,
        id,
        stored_bytes: stored.len() as u32,
        plain_bytes,
    };
    let mut plain = Vec::new();
    let opened = RegionOpener::new(REPOSITORY).open(&head, session_key(), &mut stored, &mut plain);
    let half = plain_bytes / 2;
    let claims = Region { head, chunk_bytes: vec![half, plain_bytes - half] };
    assert!(verify_chunks(keys(), &claims, &[ChunkId([0; ChunkId::BYTES]); 2], &plain).is_err());
    if opened.is_ok() {
        assert_eq!(plain.len(), plain_bytes as usize);
    }
    opened.is_ok()
}
