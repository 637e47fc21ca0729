//! One case of the vectors: which decoder reads it, and how.

use crate::describe::{self, hex};
use crate::walk::{Walk, require, walk_list};
use lifeboat_format::condemned::Sentence;
use lifeboat_format::config::Config;
use lifeboat_format::index::IndexObject;
use lifeboat_format::intent::Intent;
use lifeboat_format::keys::{Envelope, Keys};
use lifeboat_format::list::ListNode;
use lifeboat_format::node::{Child, Item, NodeReader};
use lifeboat_format::object::{self, ObjectKind};
use lifeboat_format::pack::{self, Directory};
use lifeboat_format::region::{self, ChunkKind, Region, RegionHead, RegionOpener};
use lifeboat_format::seal::{self, Binding, Codec, Key, Purpose, Suite};
use lifeboat_format::skeleton;
use lifeboat_format::slot::{Secret, Slot};
use lifeboat_format::snapshot::Snapshot;
use lifeboat_format::wire::Reader;
use lifeboat_format::{ChunkId, EnvelopeId, Error, RegionId, Result, SessionId, SlotId, TreePath};
use serde_json::{Value, json};
use std::collections::HashMap;

/// One case of a topic, with the topic's keys.
pub(crate) struct Case<'a> {
    pub(crate) case: &'a Value,
    pub(crate) keys: &'a Keys,
    pub(crate) master: &'a Key,
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

    /// What the case's decoder makes of its inputs.
    pub(crate) fn decode(&self) -> Result<Value> {
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
            "skeleton" => self.skeleton()?,
            "snapshot" => {
                let session = SessionId(self.array("session"));
                let bytes = self.bytes("bytes");
                describe::snapshot(&Snapshot::decode(self.kind(), self.keys, session, &bytes)?)
            }
            "intent" => {
                let session = SessionId(self.array("session"));
                describe::intent(&Intent::decode(self.keys, session, &self.bytes("bytes"))?)
            }
            "condemned" => {
                let sentence = match self.kind() {
                    ObjectKind::Condemned => Sentence::Condemned,
                    _ => Sentence::Verdict,
                };
                let session = SessionId(self.array("session"));
                describe::condemned(&sentence.decode(self.keys, session, &self.bytes("bytes"))?)
            }
            "bundle" => crate::bundle::decode(&self.bytes("bytes"), &Key::new(self.array("key_file")))?,
            other => panic!("no decoder {other}"),
        })
    }

    fn skeleton(&self) -> Result<Value> {
        let bytes = self.bytes("bytes");
        let records: Result<Vec<Value>> = skeleton::records(&bytes)?
            .map(|record| {
                let record = record?;
                Ok(json!({ "raw": hex(record.raw), "content_bytes": record.content_bytes }))
            })
            .collect();
        Ok(json!(records?))
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

/// Opens every region of a pack and names its chunks.
pub(crate) fn chunk_ids(keys: &Keys, directory: &Directory, pack: &[u8]) -> Result<Vec<ChunkId>> {
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
pub(crate) fn check_name(bytes: &[u8], name: &[u8]) -> Result<()> {
    if blake3::hash(bytes).as_bytes() == name {
        Ok(())
    } else {
        Err(Error::Damaged { what: "object", detail: "its name is another's".into() })
    }
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2) && text.bytes().all(|digit| b"0123456789abcdef".contains(&digit)));
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}
