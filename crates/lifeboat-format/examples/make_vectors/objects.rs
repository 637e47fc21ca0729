//! Vectors for primitives, paths, keys, framing, the config and key slots.

use crate::describe::{self, hex};
use crate::topic::{HOST, MASTER, REPOSITORY, SESSION, Topic, Wrong, binding, derived, flip, keys};
use lifeboat_format::condemned::Sentence;
use lifeboat_format::config::{Config, CutParameters, Features, Parameters};
use lifeboat_format::intent::Intent;
use lifeboat_format::object::{ObjectKind, frame};
use lifeboat_format::pack::padme;
use lifeboat_format::region::ChunkKind;
use lifeboat_format::seal::{self, Binding, Key, Purpose, Suite};
use lifeboat_format::slot::{Argon2Cost, Role, RoleBundle, Secret, Slot};
use lifeboat_format::wire::Write as _;
use lifeboat_format::{ChunkId, PackName, Result, SlotId, Timestamp, TreePath};
use serde_json::json;

const X: Suite = Suite::XChaCha20Poly1305;

pub(crate) fn primitives() -> Topic {
    let mut topic = Topic::new("primitives", "Each decoder reads one value, which takes all bytes.");
    for value in [0, 1, 127, 128, 300, 16_383, 16_384, u64::from(u32::MAX), 1 << 63, u64::MAX] {
        let mut bytes = Vec::new();
        bytes.put_varint(value);
        topic.good("varint", "shortest form", json!({ "bytes": hex(&bytes) }), json!(value));
    }
    for (reason, bytes) in [
        ("no bytes", &[][..]),
        ("it ends inside the number", &[0x80]),
        ("not the shortest form of 0", &[0x80, 0x00]),
        ("not the shortest form of 127", &[0xff, 0x00]),
        ("more than 64 bits", &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]),
        ("eleven bytes", &[0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01]),
        ("a byte is left over", &[0x01, 0x01]),
    ] {
        topic.bad("varint", reason, Wrong::Damaged, json!({ "bytes": hex(bytes) }));
    }
    for value in [0, -1, 1, -2, 2, 63, -64, 64, i64::MAX, i64::MIN] {
        let mut bytes = Vec::new();
        bytes.put_signed(value);
        topic.good("signed", "zigzag", json!({ "bytes": hex(&bytes) }), json!(value));
    }
    for value in [&b""[..], b"a", &[0xff; 16]] {
        let mut bytes = Vec::new();
        bytes.put_string(value);
        topic.good(
            "string",
            "at most 16 bytes",
            json!({ "bytes": hex(&bytes), "max": 16 }),
            json!(hex(value)),
        );
    }
    let mut long = vec![17];
    long.extend_from_slice(&[0; 17]);
    topic.bad("string", "longer than 16 bytes", Wrong::Damaged, json!({ "bytes": hex(&long), "max": 16 }));
    topic.bad("string", "it ends early", Wrong::Damaged, json!({ "bytes": "0361", "max": 16 }));
    topic.good("text", "UTF-8", json!({ "bytes": "05c3a461c3a4" }), json!("äaä"));
    topic.bad("text", "not UTF-8", Wrong::Damaged, json!({ "bytes": "02c328" }));
    for bytes in [0u64, 1, 2, 9, 10, 100, 1000, 4097, 65_537, 1_000_003, 33_554_431, 33_554_433] {
        topic.good("padme", "padded size", json!({ "size": bytes }), json!(padme(bytes)));
    }
    topic
}

pub(crate) fn paths() -> Result<Topic> {
    let mut topic = Topic::new("paths", "Keys of tree entries: components joined by NUL, compared as bytes.");
    let deepest = vec![[b'd']; 4096].join(&0);
    let longest = [b'n'; 255];
    for key in [&b""[..], b"a", b"a\0b", b"a\nb\0 ", b"\xff\xfe\0...", &longest, &deepest] {
        let mut path = TreePath::root();
        for name in key.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            path = path.join(name)?;
        }
        topic.good("tree_path", "a path", json!({ "bytes": hex(key) }), describe::path(&path));
    }
    let too_deep = vec![[b'd']; 4097].join(&0);
    let too_long_name = [b'n'; 256];
    for (reason, key) in [
        ("the name `..`", &b".."[..]),
        ("the name `..` below a directory", b"a\0.."),
        ("the name `.`", b"a\0.\0b"),
        ("an empty name inside", b"a\0\0b"),
        ("an empty name in front", b"\0a"),
        ("an empty name at the end", b"a\0"),
        ("a slash", b"a/b"),
        ("a name of 256 bytes", &too_long_name),
        ("4,097 components", &too_deep),
    ] {
        topic.bad("tree_path", reason, Wrong::Damaged, json!({ "bytes": hex(key) }));
    }
    let order = ["", "a", "a/b", "a/b/c", "a/z", "a!", "a!/x", "ab", "b", "ü"];
    let order: Vec<String> = order
        .iter()
        .filter_map(|text| TreePath::from_slashes(text.as_bytes()).ok())
        .map(|path| hex(path.as_key()))
        .collect();
    topic.good("path_order", "the order of a walk", json!({ "keys": order }), json!("ascending"));
    Ok(topic)
}

pub(crate) fn derivations() -> Topic {
    let mut topic = Topic::new("keys", "Keys derived from the master key, and names made with them.");
    for context in [
        "lifeboat v1 chunk id data",
        "lifeboat v1 chunk id tree",
        "lifeboat v1 chunk id list",
        "lifeboat v1 cut",
        "lifeboat v1 index",
        "lifeboat v1 read",
        "lifeboat v1 config",
    ] {
        let key = derived(context);
        topic.good("derive", "of the master key", json!({ "context": context }), json!(hex(key.expose())));
    }
    let keys = keys(X);
    for kind in ChunkKind::ALL {
        for plain in [&b""[..], b"lifeboat", &[7; 1500]] {
            let input = json!({ "kind": kind as u8, "plain": hex(plain) });
            topic.good("chunk_id", "a chunk's name", input, json!(hex(&keys.chunk_id(kind, plain).0)));
        }
    }
    let mut stream = [0; 80];
    keys.cut_bytes("vector", &mut stream);
    let input = json!({ "purpose": "vector", "length": 80 });
    topic.good("cut_bytes", "an extendable output under the cut key", input, json!(hex(&stream)));
    for key in [&b""[..], b"etc\0passwd"] {
        let input = json!({ "purpose": "vector", "key": hex(key) });
        topic.good("key_hash", "keyed 64-bit hash", input, json!(keys.key_hash("vector", key)));
    }
    topic
}

pub(crate) fn frames() -> Topic {
    let mut topic = Topic::new("frames", "Header and checksum of objects; `kind` is the kind's byte.");
    let bytes = frame(ObjectKind::Fence, b"");
    topic.good("frame", "a fence", json!({ "kind": 9, "bytes": hex(&bytes) }), json!(""));
    let bytes = frame(ObjectKind::Intent, b"body");
    topic.good("frame", "with checksum", json!({ "kind": 8, "bytes": hex(&bytes) }), json!(hex(b"body")));
    let index = frame(ObjectKind::Index, b"body");
    topic.good("frame", "named by content", json!({ "kind": 4, "bytes": hex(&index) }), json!(hex(b"body")));
    let mut other_version = bytes.clone();
    other_version[9] = 2;
    let altered = |at: usize, value: u8| {
        let mut altered = bytes[..bytes.len() - 32].to_vec();
        altered[at] = value;
        let checksum = *blake3::hash(&altered).as_bytes();
        altered.extend_from_slice(&checksum);
        altered
    };
    for (reason, wrong, bytes) in [
        ("a newer version, looked at before the checksum", Wrong::Unsupported, other_version),
        ("another magic", Wrong::Damaged, altered(0, b'L')),
        ("another kind", Wrong::Damaged, frame(ObjectKind::Fence, b"body")),
        ("reserved bytes that are not zero", Wrong::Damaged, altered(10, 1)),
        ("a flipped bit in the body", Wrong::Damaged, flip(&bytes, 12)),
        ("a flipped bit in the checksum", Wrong::Damaged, flip(&bytes, -1)),
        ("it ends one byte early", Wrong::Damaged, bytes[..bytes.len() - 1].to_vec()),
        ("shorter than a header", Wrong::Damaged, bytes[..11].to_vec()),
        ("no bytes", Wrong::Damaged, vec![]),
    ] {
        topic.bad("frame", reason, wrong, json!({ "kind": 8, "bytes": hex(&bytes) }));
    }
    topic
}

fn config(features: Features) -> Config {
    let created = Timestamp { seconds: 1_700_000_000, nanos: 123_456_789 };
    Config { repository: REPOSITORY, created, features, parameters: Parameters::default() }
}

/// A config around any body, authenticated.
fn crafted_config(body: &[u8]) -> Vec<u8> {
    let mut framed = body.to_vec();
    framed.extend_from_slice(&keys(X).config_tag(body));
    frame(ObjectKind::Config, &framed)
}

pub(crate) fn configs() -> Result<Topic> {
    let mut topic = Topic::new("config", "The config, authenticated with the key derived from `master`.");
    let plain = config(Features::default());
    let hints = config(Features { write: vec!["quota".into()], optional: vec!["ä".into()], read: vec![] });
    let mut other = plain.clone();
    other.parameters = Parameters {
        cut: CutParameters { bytes_min: 64, bytes_mask: 256, bytes_max: 1024 },
        region_bytes: 4096,
        pack_bytes: 1 << 20,
        suite: Suite::Aes256Gcm,
    };
    for (about, config) in [
        ("defaults", &plain),
        ("features that a reader need not know", &hints),
        ("smallest parameters and the second suite", &other),
    ] {
        let bytes = config.encode(&keys(X))?;
        topic.good("config", about, json!({ "bytes": hex(&bytes) }), describe::config(config));
    }
    let bytes = plain.encode(&keys(X))?;
    let body = &bytes[12..bytes.len() - 64];
    let with = |at: usize, value: &[u8]| {
        let mut body = body.to_vec();
        body.splice(at..at + value.len(), value.iter().copied());
        crafted_config(&body)
    };
    let parameters = body.len() - 21;
    let needs = config(Features { read: vec!["shards".into()], ..Features::default() });
    let mut long = body.to_vec();
    long.push(0);
    let mut other_tag = bytes[12..bytes.len() - 32].to_vec();
    other_tag[body.len()] ^= 1;
    for (reason, wrong, bytes) in [
        ("it needs the unknown feature `shards` for reading", Wrong::Unsupported, needs.encode(&keys(X))?),
        ("an unknown cipher suite", Wrong::Unsupported, with(parameters + 20, &[3])),
        ("another tag", Wrong::Damaged, frame(ObjectKind::Config, &other_tag)),
        ("a byte is left over", Wrong::Damaged, crafted_config(&long)),
        ("the least chunk is not even", Wrong::Damaged, with(parameters, &8193u32.to_le_bytes())),
        ("the mask is not a power of two", Wrong::Damaged, with(parameters + 4, &8193u32.to_le_bytes())),
        (
            "the greatest chunk exceeds 1 MiB",
            Wrong::Damaged,
            with(parameters + 8, &(2u32 << 20).to_le_bytes()),
        ),
        ("a region of 8 MiB", Wrong::Damaged, with(parameters + 12, &(8u32 << 20).to_le_bytes())),
        ("a pack of 1 GiB", Wrong::Damaged, with(parameters + 16, &(1u32 << 30).to_le_bytes())),
        ("a region as long as a pack", Wrong::Damaged, with(parameters + 16, &(1u32 << 20).to_le_bytes())),
        ("a body that ends early", Wrong::Damaged, crafted_config(&body[..body.len() - 1])),
        ("a body shorter than the tag", Wrong::Damaged, frame(ObjectKind::Config, &[0; 31])),
        ("a flipped bit", Wrong::Damaged, flip(&bytes, 20)),
    ] {
        topic.bad("config", reason, wrong, json!({ "bytes": hex(&bytes) }));
    }
    Ok(topic)
}

const SLOT: SlotId = SlotId([0x51; 16]);
const PASSPHRASE: &str = "correct horse battery staple";
const KEY_FILE: [u8; 32] = [0x6b; 32];

/// A key file slot around any bundle plaintext.
fn crafted_slot(plain: &[u8]) -> Vec<u8> {
    slot_of_suite(X as u8, plain)
}

fn slot_of_suite(suite: u8, plain: &[u8]) -> Vec<u8> {
    let salt = [0x5a; 32];
    let mut hasher = blake3::Hasher::new_derive_key("lifeboat v1 key file");
    hasher.update(&KEY_FILE).update(&salt);
    let key = Key::new(*hasher.finalize().as_bytes());
    let mut buffer = vec![0; seal::NONCE_BYTES];
    buffer.extend_from_slice(plain);
    let bound = Binding { plain_bytes: plain.len() as u32, ..binding(Purpose::Slot, [0; 16], SLOT.0) };
    seal::seal_in_place(X, &key, &bound, &mut buffer);
    let mut sealed = vec![suite];
    sealed.append(&mut buffer);
    let mut body = vec![2];
    body.extend_from_slice(&salt);
    body.put_string(&sealed);
    frame(ObjectKind::Slot, &body)
}

/// A passphrase slot with any costs; nothing may be computed from it.
fn costly_slot(memory_kib: u32, passes: u32, lanes: u32) -> Vec<u8> {
    let mut body = vec![1];
    [memory_kib, passes, lanes].iter().for_each(|cost| body.put_u32(*cost));
    body.extend_from_slice(&[0; 32]);
    body.put_string(&[0; 100]);
    frame(ObjectKind::Slot, &body)
}

pub(crate) fn slots() -> Result<Topic> {
    let mut topic = Topic::new(
        "slots",
        "Key slots: `id` is the slot's name, `passphrase` (text) or `key_file` (32 bytes) the secret.",
    );
    let bundle = RoleBundle {
        role: Role::Full,
        master: Key::new(MASTER),
        label: "vector".into(),
        created: Timestamp { seconds: -1, nanos: 999_999_999 },
    };
    let id = hex(&SLOT.0);
    let passphrase = |bytes: &[u8], id: &str, passphrase: &str| json!({ "bytes": hex(bytes), "id": id, "passphrase": passphrase });
    let file = |bytes: &[u8]| json!({ "bytes": hex(bytes), "id": id, "key_file": hex(&KEY_FILE) });
    for suite in [X, Suite::Aes256Gcm] {
        let cost = Argon2Cost::default();
        let secret = Secret::Passphrase(PASSPHRASE.as_bytes());
        let bytes = Slot::seal(REPOSITORY, SLOT, suite, &secret, cost, &bundle)?.encode();
        topic.good(
            "slot",
            "Argon2id, 64 MiB",
            passphrase(&bytes, &id, PASSPHRASE),
            describe::bundle(&bundle),
        );
        topic.bad("slot", "another passphrase", Wrong::Denied, passphrase(&bytes, &id, "incorrect horse"));
        topic.bad("slot", "another name", Wrong::Denied, passphrase(&bytes, &"00".repeat(16), PASSPHRASE));
        topic.bad("slot", "a key file instead of the passphrase", Wrong::Denied, file(&bytes));
        let secret = Secret::KeyFile(&Key::new(KEY_FILE));
        let bytes = Slot::seal(REPOSITORY, SLOT, suite, &secret, cost, &bundle)?.encode();
        topic.good("slot", "key file", file(&bytes), describe::bundle(&bundle));
        let other = json!({ "bytes": hex(&bytes), "id": id, "key_file": hex(&[1; 32]) });
        topic.bad("slot", "another key file", Wrong::Denied, other);
        topic.bad("slot", "a flipped bit", Wrong::Damaged, file(&flip(&bytes, 60)));
    }
    let mut fields = vec![1];
    for (tag, value) in [(99, &b"unknown"[..]), (1, &MASTER)] {
        fields.put_varint(tag);
        fields.put_string(value);
    }
    let bare = RoleBundle { label: String::new(), created: Timestamp::default(), ..bundle };
    let bytes = crafted_slot(&fields);
    topic.good("slot", "an unknown field is skipped", file(&bytes), describe::bundle(&bare));
    let mut role = fields.clone();
    role[0] = 2;
    topic.bad("slot", "an unknown role", Wrong::Unsupported, file(&crafted_slot(&role)));
    topic.bad("slot", "no master key", Wrong::Damaged, file(&crafted_slot(&[1])));
    topic.bad("slot", "its fields end early", Wrong::Damaged, file(&crafted_slot(&fields[..40])));
    topic.bad("slot", "a short master key", Wrong::Damaged, file(&crafted_slot(&[1, 1, 1, 0])));
    for (reason, bytes) in [
        ("1 TiB of memory", costly_slot(1 << 30, 3, 1)),
        ("more than 16 passes", costly_slot(65_536, 17, 1)),
        ("no pass", costly_slot(65_536, 0, 1)),
        ("more than 8 lanes", costly_slot(65_536, 3, 9)),
        ("lanes that overflow when counted in KiB", costly_slot(65_536, 3, u32::MAX)),
        ("no lane", costly_slot(65_536, 3, 0)),
        ("less than 8 KiB a lane", costly_slot(31, 3, 4)),
    ] {
        topic.bad("slot", reason, Wrong::Damaged, passphrase(&bytes, &id, PASSPHRASE));
    }
    let unknown = frame(ObjectKind::Slot, &[3; 100]);
    topic.bad("slot", "an unknown suite", Wrong::Unsupported, file(&slot_of_suite(3, &fields)));
    topic.bad("slot", "an unknown derivation", Wrong::Unsupported, file(&unknown));
    Ok(topic)
}

pub(crate) fn intents() -> Topic {
    let mut topic = Topic::new("intents", "Intents; `session` is the session in the object's name.");
    let session = hex(&SESSION.0);
    for parents in [vec![], vec![ChunkId([1; ChunkId::BYTES]), ChunkId([2; ChunkId::BYTES])]] {
        let intent = Intent { session: SESSION, counter: 258, host: HOST, parents };
        let bytes = intent.encode(&keys(X));
        let input = json!({ "session": session, "bytes": hex(&bytes) });
        topic.good("intent", "an intent", input, describe::intent(&intent));
        let input = json!({ "session": hex(&[0; 16]), "bytes": hex(&bytes) });
        topic.bad("intent", "another session", Wrong::Damaged, input);
    }
    let crafted = |plain: &[u8]| {
        let bound = binding(Purpose::Intent, [0; 16], SESSION.0);
        frame(ObjectKind::Intent, &seal::seal_box(X, &derived("lifeboat v1 index"), bound, plain))
    };
    let mut plain = HOST.0.to_vec();
    plain.put_u32(1);
    let mut many = plain.clone();
    many.put_varint(65_537);
    plain.put_varint(1);
    let mut left_over = plain.clone();
    left_over.extend_from_slice(&[0; 33]);
    for (reason, plain) in [
        ("a parent is missing", &plain),
        ("a byte is left over", &left_over),
        ("more than 65,536 parents", &many),
    ] {
        let input = json!({ "session": session, "bytes": hex(&crafted(plain)) });
        topic.bad("intent", reason, Wrong::Damaged, input);
    }
    topic
}

pub(crate) fn condemned() -> Result<Topic> {
    let mut topic =
        Topic::new("condemned", "Condemned lists and verdicts; `session` is that in the object's name.");
    let session = hex(&SESSION.0);
    let kind = |sentence: Sentence| sentence.object_kind() as u8;
    let packs = vec![PackName([1; 32]), PackName([2; 32])];
    for sentence in [Sentence::Condemned, Sentence::Verdict] {
        for packs in [&packs[..0], &packs] {
            let bytes = hex(&sentence.encode(&keys(X), SESSION, packs)?);
            let input = json!({ "kind": kind(sentence), "session": session, "bytes": bytes });
            topic.good("condemned", sentence.object_kind().noun(), input, describe::condemned(packs));
            let input = json!({ "kind": kind(sentence), "session": hex(&[0; 16]), "bytes": bytes });
            topic.bad("condemned", "another session", Wrong::Damaged, input);
        }
    }
    let crafted = |purpose: Purpose, plain: &[u8]| {
        let bound = binding(purpose, [0; 16], SESSION.0);
        frame(ObjectKind::Verdict, &seal::seal_box(X, &derived("lifeboat v1 index"), bound, plain))
    };
    let list = |count: u64, packs: &[u8]| {
        let mut plain = Vec::new();
        plain.put_varint(count);
        packs.iter().for_each(|pack| plain.extend_from_slice(&[*pack; 32]));
        plain
    };
    for (reason, purpose, plain) in [
        ("a condemned list as a verdict", Purpose::Condemned, list(1, &[1])),
        ("a pack is missing", Purpose::Verdict, list(2, &[1])),
        ("a pack is left over", Purpose::Verdict, list(1, &[1, 2])),
        ("a pack twice", Purpose::Verdict, list(2, &[1, 1])),
        ("packs out of order", Purpose::Verdict, list(2, &[2, 1])),
        ("more than 32,000 packs", Purpose::Verdict, list(32_001, &[])),
    ] {
        let bytes = hex(&crafted(purpose, &plain));
        let input = json!({ "kind": kind(Sentence::Verdict), "session": session, "bytes": bytes });
        topic.bad("condemned", reason, Wrong::Damaged, input);
    }
    Ok(topic)
}
