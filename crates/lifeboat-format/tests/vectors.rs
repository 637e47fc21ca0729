//! The committed vectors and the golden repository, read with this crate's decoders. `docs/format/vectors/README.md`
//!
//! Must stay true: what these files hold is what earlier versions wrote. A failure here means that existing
//! repositories became unreadable, or that damaged ones became acceptable; the vectors are not to be made anew for it.

#[path = "../examples/make_vectors/describe.rs"]
mod describe;

use describe::hex;
use lifeboat_format::config::Config;
use lifeboat_format::index::IndexObject;
use lifeboat_format::intent::Intent;
use lifeboat_format::keys::{Envelope, Keys};
use lifeboat_format::list::{ListNode, Piece};
use lifeboat_format::node::{Child, Item, NodeReader};
use lifeboat_format::object::{self, ObjectKind};
use lifeboat_format::pack::{self, Directory};
use lifeboat_format::region::{self, ChunkKind, Region, RegionHead, RegionOpener};
use lifeboat_format::seal::{self, Binding, Codec, Key, Purpose, Suite};
use lifeboat_format::slot::{Secret, Slot};
use lifeboat_format::snapshot::Snapshot;
use lifeboat_format::wire::Reader;
use lifeboat_format::{
    ChunkId, EnvelopeId, Error, ErrorKind, ObjectKey, RegionId, RepositoryId, Result, SessionId, SlotId,
    TreePath,
};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/format/vectors")
}

/// One case of a topic, with the topic's keys.
struct Case<'a> {
    case: &'a Value,
    keys: &'a Keys,
    master: &'a Key,
}

impl Case<'_> {
    fn text(&self, name: &str) -> &str {
        self.case[name].as_str().unwrap_or_else(|| panic!("{name} of {}", self.case))
    }

    fn number(&self, name: &str) -> u64 {
        self.case[name].as_u64().unwrap_or_else(|| panic!("{name} of {}", self.case))
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        unhex(self.text(name))
    }

    fn array<const N: usize>(&self, name: &str) -> [u8; N] {
        self.bytes(name).try_into().unwrap()
    }

    fn whole<T>(&self, read: impl FnOnce(&mut Reader<'_>) -> Result<T>) -> Result<T> {
        let bytes = self.bytes("bytes");
        let mut reader = Reader::new(&bytes, "vector");
        let value = read(&mut reader)?;
        reader.finish()?;
        Ok(value)
    }

    fn decode(&self) -> Result<Value> {
        Ok(match self.text("decoder") {
            "varint" => json!(self.whole(|reader| reader.varint())?),
            "signed" => json!(self.whole(|reader| reader.signed())?),
            "string" => {
                json!(self.whole(|reader| Ok(hex(reader.string(self.number("max") as u32)?)))?)
            }
            "text" => json!(self.whole(|reader| reader.text())?),
            "padme" => json!(pack::padme(self.number("size"))),
            "tree_path" => describe::path(&TreePath::from_key(self.bytes("bytes"))?),
            "path_order" => self.path_order()?,
            "derive" => json!(hex(self.master.derive(self.text("context")).expose())),
            "chunk_id" => {
                let kind = ChunkKind::from_byte(self.number("kind") as u8)?;
                json!(self.keys.chunk_id(kind, &self.bytes("plain")).to_string())
            }
            "cut_bytes" => {
                let mut output = vec![0; self.number("length") as usize];
                self.keys.cut_bytes(self.text("purpose"), &mut output);
                json!(hex(&output))
            }
            "key_hash" => json!(self.keys.key_hash(self.text("purpose"), &self.bytes("key"))),
            "frame" => json!(hex(object::unframe(self.kind(), &self.bytes("bytes"))?)),
            "config" => describe::config(&Config::decode(&self.bytes("bytes"))?.check(self.keys)?),
            "slot" => self.slot()?,
            "box" => self.sealed_box()?,
            "envelope" => self.envelope()?,
            "region" => self.region()?,
            "directory" => describe::directory(&self.whole(Directory::decode)?),
            "pack" => self.pack()?,
            "index" => {
                check_name(&self.bytes("bytes"), &self.bytes("name"))?;
                describe::index(&IndexObject::decode(self.keys, &self.bytes("bytes"))?)
            }
            "tree_node" => self.tree_node()?,
            "tree" => self.tree()?,
            "file" => self.file()?,
            "list_node" => {
                describe::list_node(&ListNode::decode(&self.bytes("bytes"), self.number("expected"))?)
            }
            "snapshot" => {
                let session = SessionId(self.array("session"));
                let bytes = self.bytes("bytes");
                describe::snapshot(&Snapshot::decode(self.kind(), self.keys, session, &bytes)?)
            }
            "intent" => {
                let session = SessionId(self.array("session"));
                describe::intent(&Intent::decode(self.keys, session, &self.bytes("bytes"))?)
            }
            other => panic!("no decoder {other}"),
        })
    }

    fn kind(&self) -> ObjectKind {
        let number = self.number("kind");
        *ObjectKind::ALL.iter().find(|kind| **kind as u64 == number).unwrap()
    }

    fn path_order(&self) -> Result<Value> {
        let keys = self.case["keys"].as_array().unwrap();
        let paths: Result<Vec<TreePath>> =
            keys.iter().map(|key| TreePath::from_key(unhex(key.as_str().unwrap()))).collect();
        let ascending = paths?.windows(2).all(|pair| pair[0] < pair[1]);
        Ok(json!(if ascending { "ascending" } else { "not ascending" }))
    }

    fn slot(&self) -> Result<Value> {
        let slot = Slot::decode(&self.bytes("bytes"))?;
        let (repository, id) = (self.keys.repository(), SlotId(self.array("id")));
        let bundle = match self.case.get("passphrase") {
            Some(passphrase) => {
                slot.open(repository, id, &Secret::Passphrase(passphrase.as_str().unwrap().as_bytes()))?
            }
            None => slot.open(repository, id, &Secret::KeyFile(&Key::new(self.array("key_file"))))?,
        };
        Ok(describe::bundle(&bundle))
    }

    fn sealed_box(&self) -> Result<Value> {
        let purpose = match self.number("purpose") {
            6 => Purpose::Snapshot,
            10 => Purpose::Draft,
            other => panic!("no vector is sealed for purpose {other}"),
        };
        let binding = Binding {
            repository: self.keys.repository(),
            purpose,
            codec: Codec::Raw,
            envelope: EnvelopeId(self.array("envelope")),
            unique: self.array("unique"),
            plain_bytes: 0,
        };
        let key = Key::new(self.array("key"));
        Ok(json!(hex(&seal::open_box(&key, binding, &self.bytes("bytes"), self.number("max") as u32)?)))
    }

    fn envelope(&self) -> Result<Value> {
        let envelope = self.whole(Envelope::decode)?;
        self.keys.open_envelope(&envelope)?;
        // A session key is not told by its type, so the vector's is compared by opening it once more.
        let binding = Binding {
            repository: self.keys.repository(),
            purpose: Purpose::Envelope,
            codec: Codec::Raw,
            envelope: EnvelopeId([0; 16]),
            unique: envelope.id.0,
            plain_bytes: 0,
        };
        let key = seal::open_box(&self.master.derive("lifeboat v1 read"), binding, &envelope.wrapped, 32)?;
        Ok(json!({ "id": envelope.id.to_string(), "key": hex(&key) }))
    }

    fn region(&self) -> Result<Value> {
        let session = self
            .keys
            .open_envelope(&Envelope::decode(&mut Reader::new(&self.bytes("envelope"), "envelope"))?)?;
        let stated = &self.case["region"];
        let number = |name: &str| stated[name].as_u64().unwrap();
        let region = Region {
            head: RegionHead {
                kind: ChunkKind::from_byte(number("kind") as u8)?,
                suite: Suite::from_byte(number("suite") as u8)?,
                codec: Codec::from_byte(number("codec") as u8)?,
                envelope: number("envelope") as u16,
                id: stated["id"].as_str().unwrap().parse::<RegionId>()?,
                stored_bytes: number("stored_bytes") as u32,
                plain_bytes: number("plain_bytes") as u32,
            },
            chunk_bytes: serde_json::from_value(stated["chunk_bytes"].clone()).unwrap(),
        };
        let ids: Vec<String> = serde_json::from_value(self.case["ids"].clone()).unwrap();
        let ids: Vec<ChunkId> = ids.iter().map(|id| id.parse().unwrap()).collect();
        let mut plain = Vec::new();
        let mut opener = RegionOpener::new(self.keys.repository());
        opener.open(&region.head, &session, &mut self.bytes("bytes"), &mut plain)?;
        region::verify_chunks(self.keys, &region, &ids, &plain)?;
        let mut rest = plain.as_slice();
        let mut chunks = Vec::new();
        for bytes in &region.chunk_bytes {
            let (chunk, tail) = rest.split_at(*bytes as usize);
            chunks.push(hex(chunk));
            rest = tail;
        }
        Ok(json!(chunks))
    }

    fn pack(&self) -> Result<Value> {
        let bytes = self.bytes("bytes");
        check_name(&bytes, &self.bytes("name"))?;
        let directory = pack::decode_directory(self.keys, &bytes)?;
        let ids: Vec<String> =
            chunk_ids(self.keys, &directory, &bytes)?.iter().map(ChunkId::to_string).collect();
        Ok(json!({ "directory": describe::directory(&directory), "ids": ids }))
    }

    fn nodes(&self, kind: ChunkKind) -> HashMap<ChunkId, Vec<u8>> {
        let nodes: Vec<String> = serde_json::from_value(self.case["nodes"].clone()).unwrap();
        nodes.iter().map(|node| (self.keys.chunk_id(kind, &unhex(node)), unhex(node))).collect()
    }

    fn file(&self) -> Result<Value> {
        let root = &self.case["root"];
        let (id, height) = (root["id"].as_str().unwrap().parse()?, root["height"].as_u64().unwrap() as u8);
        let mut pieces = Vec::new();
        walk_list(&self.nodes(ChunkKind::List), &id, height, self.number("size"), &mut pieces)?;
        Ok(describe::list_node(&ListNode::Leaf(pieces))["items"].clone())
    }

    fn tree(&self) -> Result<Value> {
        let mut walk = Walk { nodes: self.nodes(ChunkKind::Tree), keys: vec![], directories: vec![] };
        let root = &self.case["root"];
        let child = Child {
            first: TreePath::root(),
            id: root["id"].as_str().unwrap().parse()?,
            entries: root["entries"].as_u64().unwrap(),
        };
        walk.node(&child, root["height"].as_u64().unwrap() as u8, true)?;
        require(walk.keys.first().is_some_and(TreePath::is_root), "a root entry")?;
        Ok(json!(walk.keys.iter().map(|key| hex(key.as_key())).collect::<Vec<_>>()))
    }

    fn tree_node(&self) -> Result<Value> {
        let bytes = self.bytes("bytes");
        let mut reader = NodeReader::new(&bytes)?;
        let mut items: Vec<Item> = Vec::new();
        while let Some(item) = reader.next_item()? {
            items.push(item);
        }
        Ok(describe::tree_node(reader.height(), &items))
    }
}

/// Walks a whole tree as `tree.md#walking` says. Walking is the next crate's; this shows that the vectors are right.
struct Walk {
    nodes: HashMap<ChunkId, Vec<u8>>,
    keys: Vec<TreePath>,
    directories: Vec<TreePath>,
}

impl Walk {
    fn node(&mut self, child: &Child, height: u8, is_root: bool) -> Result<()> {
        let bytes = self.nodes.get(&child.id).cloned().ok_or_else(|| wrong("a node is missing"))?;
        let mut reader = NodeReader::new(&bytes)?;
        require(reader.height() == height, "a height")?;
        let (mut count, mut first) = (0, None);
        while let Some(item) = reader.next_item()? {
            let key = match item {
                Item::Entry(key, entry) => {
                    self.entry(&key, entry.is_directory())?;
                    count += 1;
                    key
                }
                Item::Child(child) => {
                    self.node(&child, height - 1, false)?;
                    count += child.entries;
                    child.first
                }
            };
            first.get_or_insert(key);
        }
        require(is_root || first.as_ref() == Some(&child.first), "a first key")?;
        require(count == child.entries, "a count")
    }

    fn entry(&mut self, key: &TreePath, is_directory: bool) -> Result<()> {
        require(self.keys.last().is_none_or(|last| last < key), "the order")?;
        match key.parent() {
            None => {}
            Some(parent) => require(self.directories.contains(&parent), "a parent directory")?,
        }
        if is_directory {
            self.directories.push(key.clone());
        }
        self.keys.push(key.clone());
        Ok(())
    }
}

fn walk_list(
    nodes: &HashMap<ChunkId, Vec<u8>>,
    id: &ChunkId,
    height: u8,
    expected: u64,
    pieces: &mut Vec<Piece>,
) -> Result<()> {
    let bytes = nodes.get(id).ok_or_else(|| wrong("a node is missing"))?;
    let node = ListNode::decode(bytes, expected)?;
    require(node.height() == height, "a height")?;
    match node {
        ListNode::Leaf(leaf) => pieces.extend(leaf),
        ListNode::Inner(_, children) => {
            for child in children {
                walk_list(nodes, &child.id, height - 1, child.bytes, pieces)?;
            }
        }
    }
    Ok(())
}

fn wrong(detail: &str) -> Error {
    Error::Damaged { what: "tree", detail: detail.into() }
}

fn require(holds: bool, detail: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(wrong(detail)) }
}

/// Opens every region of a pack and names its chunks.
fn chunk_ids(keys: &Keys, directory: &Directory, pack: &[u8]) -> Result<Vec<ChunkId>> {
    let mut opener = RegionOpener::new(keys.repository());
    let mut ids = Vec::new();
    for (region, start) in directory.regions.iter().zip(directory.offsets()) {
        let session = keys.open_envelope(&directory.envelopes[usize::from(region.head.envelope)])?;
        let end = start as usize + region.head.stored_bytes as usize;
        let mut plain = Vec::new();
        opener.open(&region.head, &session, &mut pack[start as usize..end].to_vec(), &mut plain)?;
        let mut rest = plain.as_slice();
        for bytes in &region.chunk_bytes {
            let (chunk, tail) = rest.split_at(*bytes as usize);
            ids.push(keys.chunk_id(region.head.kind, chunk));
            rest = tail;
        }
    }
    Ok(ids)
}

/// Packs and index objects are named by content; comparing is their reader's part.
fn check_name(bytes: &[u8], name: &[u8]) -> Result<()> {
    if blake3::hash(bytes).as_bytes() == name {
        Ok(())
    } else {
        Err(Error::Damaged { what: "object", detail: "its name is another's".into() })
    }
}

fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2) && text.bytes().all(|digit| b"0123456789abcdef".contains(&digit)));
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn word(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Damaged => "damaged",
        ErrorKind::Denied => "denied",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::Usage => "usage",
    }
}

/// Decodes every case of a topic; returns how many were accepted and how many refused.
fn check_topic(name: &str) -> (usize, usize) {
    let text = std::fs::read(vectors().join(format!("{name}.json"))).unwrap();
    let topic: Value = serde_json::from_slice(&text).unwrap();
    let master = Key::new(unhex(topic["master"].as_str().unwrap()).try_into().unwrap());
    let repository = topic["repository"].as_str().unwrap().parse::<RepositoryId>().unwrap();
    let keys = Keys::derive(&master, repository, Suite::XChaCha20Poly1305);
    let (mut accepted, mut refused) = (0, 0);
    for (number, value) in topic["cases"].as_array().unwrap().iter().enumerate() {
        let case = Case { case: value, keys: &keys, master: &master };
        match (case.decode(), value.get("value")) {
            (Ok(found), Some(expected)) => {
                assert_eq!(&found, expected, "{name} {number}: {}", value["about"]);
                accepted += 1;
            }
            (Err(error), None) => {
                assert_eq!(
                    word(error.kind()),
                    value["error"],
                    "{name} {number}: {} {error}",
                    value["reason"]
                );
                refused += 1;
            }
            (Ok(found), None) => panic!("{name} {number} was accepted: {} {found}", value["reason"]),
            (Err(error), Some(_)) => panic!("{name} {number} was refused: {} {error}", value["about"]),
        }
    }
    (accepted, refused)
}

macro_rules! topics {
    ($($test:ident: $topic:literal, $accepted:literal, $refused:literal;)*) => {$(
        #[test]
        fn $test() {
            assert_eq!(check_topic($topic), ($accepted, $refused), "the number of cases");
        }
    )*};
}

// The counts are stated so that a shortened file does not pass.
topics! {
    primitives_decode_as_stated: "primitives", 36, 10;
    paths_decode_as_stated: "paths", 8, 9;
    keys_derive_as_stated: "keys", 19, 0;
    frames_decode_as_stated: "frames", 3, 9;
    configs_decode_as_stated: "config", 3, 13;
    slots_open_as_stated: "slots", 5, 22;
    intents_decode_as_stated: "intents", 2, 5;
    seals_open_as_stated: "seals", 9, 36;
    regions_open_as_stated: "regions", 6, 34;
    packs_decode_as_stated: "packs", 4, 40;
    index_objects_decode_as_stated: "index", 4, 20;
    tree_nodes_decode_as_stated: "nodes", 5, 38;
    trees_walk_as_stated: "trees", 4, 16;
    list_nodes_decode_as_stated: "lists", 2, 12;
    chunk_lists_walk_as_stated: "files", 2, 5;
    snapshots_decode_as_stated: "snapshots", 5, 20;
}

fn golden(key: &ObjectKey) -> Vec<u8> {
    std::fs::read(vectors().join("repository").join(key.path())).unwrap()
}

fn golden_names(kind: ObjectKind) -> Vec<ObjectKey> {
    let mut keys = Vec::new();
    let mut folders = vec![vectors().join("repository").join(kind.folder())];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                keys.push(ObjectKey::from_hex(kind, entry.file_name().to_str().unwrap()).unwrap());
            }
        }
    }
    keys
}

#[test]
fn the_golden_repository_opens_with_its_passphrase_and_with_its_key_file() {
    let config = Config::decode(&golden(&ObjectKey::config())).unwrap();
    let repository = config.claimed_repository();
    let text = std::fs::read_to_string(vectors().join("repository.key")).unwrap();
    let digits = text.strip_prefix("lifeboat-key-1 ").unwrap().trim_end();
    let file = Key::new(unhex(digits).try_into().unwrap());
    for secret in [Secret::Passphrase(b"correct horse battery staple"), Secret::KeyFile(&file)] {
        let opened: Vec<Key> = golden_names(ObjectKind::Slot)
            .iter()
            .filter_map(|key| {
                let id = SlotId(key.name().try_into().unwrap());
                Slot::decode(&golden(key)).unwrap().open(repository, id, &secret).ok()
            })
            .map(|bundle| bundle.master.clone())
            .collect();
        assert_eq!(opened.len(), 1, "one slot fits one secret");
        let keys = Keys::derive(&opened[0], repository, config.claimed_suite());
        assert!(config.clone().check(&keys).is_ok());
    }
}

#[test]
fn every_object_of_the_golden_repository_decodes() {
    let config = Config::decode(&golden(&ObjectKey::config())).unwrap();
    let slot = &golden_names(ObjectKind::Slot).into_iter().find_map(|key| {
        let id = SlotId(key.name().try_into().unwrap());
        let secret = Secret::Passphrase(b"correct horse battery staple");
        Slot::decode(&golden(&key)).unwrap().open(config.claimed_repository(), id, &secret).ok()
    });
    let master = &slot.as_ref().unwrap().master;
    let keys = Keys::derive(master, config.claimed_repository(), config.claimed_suite());
    let mut packs = 0;
    for key in golden_names(ObjectKind::Index) {
        check_name(&golden(&key), key.name()).unwrap();
        for indexed in IndexObject::decode(&keys, &golden(&key)).unwrap().packs {
            let bytes = golden(&ObjectKey::new(ObjectKind::Pack, &indexed.name.0));
            check_name(&bytes, &indexed.name.0).unwrap();
            let directory = pack::decode_directory(&keys, &bytes).unwrap();
            assert_eq!((bytes.len(), &directory), (indexed.bytes as usize, &indexed.directory));
            assert_eq!(chunk_ids(&keys, &directory, &bytes).unwrap(), indexed.ids);
            packs += 1;
        }
    }
    assert_eq!(packs, golden_names(ObjectKind::Pack).len());
    let manifest = std::fs::read(vectors().join("repository.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    for stated in manifest["snapshots"].as_array().unwrap() {
        let session = stated["session"].as_str().unwrap().parse::<SessionId>().unwrap();
        let bytes = golden(&ObjectKey::new(ObjectKind::Snapshot, &session.0));
        let snapshot = Snapshot::decode(ObjectKind::Snapshot, &keys, session, &bytes).unwrap();
        assert_eq!(describe::snapshot(&snapshot), stated["snapshot"]);
    }
    let intent = &golden_names(ObjectKind::Intent)[0];
    let (session, counter) = Intent::parse_key(intent).unwrap();
    assert_eq!(Intent::decode(&keys, session, &golden(intent)).unwrap().counter, counter);
    assert!(object::unframe(ObjectKind::Fence, &golden(&golden_names(ObjectKind::Fence)[0])).is_ok());
}

#[test]
fn an_object_larger_than_its_kind_allows_is_refused() {
    // Too large for a vector.
    for (kind, bytes) in
        [(ObjectKind::Intent, 1 << 20), (ObjectKind::Snapshot, 16 << 20), (ObjectKind::Index, 64 << 20)]
    {
        let fits = object::frame(kind, &vec![0; bytes - 12 - if kind.named_by_content() { 0 } else { 32 }]);
        assert_eq!((fits.len(), object::unframe(kind, &fits).is_ok()), (bytes, true));
        let large = object::frame(kind, &vec![0; bytes - 11 - if kind.named_by_content() { 0 } else { 32 }]);
        assert!(object::unframe(kind, &large).is_err(), "{kind:?}");
    }
}
