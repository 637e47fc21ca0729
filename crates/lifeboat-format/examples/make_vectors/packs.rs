//! Vectors for seals, envelopes, regions, pack directories, packs and index objects.

use crate::describe::{self, hex};
use crate::topic::{MASTER, REPOSITORY, Topic, Wrong, binding, crafted_box, derived, flip, keys};
use lifeboat_format::index::{IndexObject, IndexedPack};
use lifeboat_format::keys::{Envelope, Keys, SessionKey};
use lifeboat_format::object::{ObjectKind, frame, header};
use lifeboat_format::pack::{self, Directory};
use lifeboat_format::region::{ChunkKind, Region, RegionHead, RegionSealer};
use lifeboat_format::seal::{self, Binding, Codec, Key, Purpose, Suite};
use lifeboat_format::wire::Write as _;
use lifeboat_format::{ChunkId, EnvelopeId, PackName, RegionId, Result};
use serde_json::{Value, json};

const X: Suite = Suite::XChaCha20Poly1305;
const SUITES: [Suite; 2] = [X, Suite::Aes256Gcm];

/// A zstd frame of `bytes` zeros that does not state its content's length.
fn unsized_frame(bytes: usize) -> std::io::Result<Vec<u8>> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 19)?;
    encoder.include_contentsize(false)?;
    std::io::Write::write_all(&mut encoder, &vec![0; bytes])?;
    encoder.finish()
}

pub(crate) fn seals() -> std::io::Result<Topic> {
    let mut topic = Topic::new(
        "seals",
        "Sealed boxes: suite, codec, length, nonce, ciphertext, tag; at most `max` bytes of plaintext. \
         Envelopes are sealed under the read key of `master`.",
    );
    let key = Key::new([0x42; 32]);
    let bound = binding(Purpose::Snapshot, [3; 16], [4; 16]);
    let case = |bytes: &[u8], max: u32, purpose: u8, unique: u8| {
        json!({
            "key": hex(key.expose()), "purpose": purpose, "envelope": hex(&[3; 16]),
            "unique": hex(&[unique; 16]), "max": max, "bytes": hex(bytes),
        })
    };
    for suite in SUITES {
        for (about, plain) in
            [("nothing", &b""[..]), ("raw", b"short"), ("zstd", &b"plain text, ".repeat(20))]
        {
            let sealed = seal::seal_box(suite, &key, bound, plain);
            topic.good("box", about, case(&sealed, 1000, 6, 4), json!(hex(plain)));
        }
        let sealed = seal::seal_box(suite, &key, bound, &b"plain text, ".repeat(20));
        topic.bad("box", "of another purpose", Wrong::Damaged, case(&sealed, 1000, 10, 4));
        topic.bad("box", "of another object", Wrong::Damaged, case(&sealed, 1000, 6, 5));
        topic.bad("box", "longer than allowed", Wrong::Damaged, case(&sealed, 239, 6, 4));
        for (reason, at) in [("codec", 1), ("length", 2), ("nonce", 6), ("ciphertext", 30), ("tag", -1)] {
            let reason = format!("a flipped bit in its {reason}");
            topic.bad("box", &reason, Wrong::Damaged, case(&flip(&sealed, at), 1000, 6, 4));
        }
        let short = &sealed[..sealed.len() - 1];
        topic.bad("box", "it ends early", Wrong::Damaged, case(short, 1000, 6, 4));
        topic.bad("box", "shorter than nonce and tag", Wrong::Damaged, case(&sealed[..45], 1000, 6, 4));
        topic.bad("box", "shorter than its head", Wrong::Damaged, case(&sealed[..5], 1000, 6, 4));
    }
    let sealed = seal::seal_box(X, &key, bound, b"plain");
    for (reason, at) in [("an unknown suite", 0), ("an unknown codec", 1)] {
        let mut bad = sealed.clone();
        bad[at] = 9;
        topic.bad("box", reason, Wrong::Unsupported, case(&bad, 1000, 6, 4));
    }
    let zstd = |plain_bytes| Binding { codec: Codec::Zstd, plain_bytes, ..bound };
    let sized = zstd::bulk::compress(&vec![0; 16 << 20], 19)?;
    let unsized_ = unsized_frame(16 << 20)?;
    let small = zstd::bulk::compress(&[0; 500], 3)?;
    for (reason, binding, inside) in [
        ("a zstd frame of 16 MiB that says so", zstd(1000), &sized[..]),
        ("a zstd frame of 16 MiB that does not say so", zstd(1000), &unsized_),
        ("a zstd frame of 500 bytes instead of 501", zstd(501), &small),
        ("a zstd frame of 500 bytes instead of 499", zstd(499), &small),
        ("a zstd frame that ends early", zstd(500), &small[..small.len() - 1]),
        ("not a zstd frame", zstd(500), b"not a zstd frame"),
        ("raw, and shorter than it states", Binding { plain_bytes: 6, ..bound }, b"short"),
    ] {
        let bytes = crafted_box(X, &key, binding, inside);
        topic.bad("box", reason, Wrong::Damaged, case(&bytes, 1000, 6, 4));
    }
    let fits = crafted_box(X, &key, zstd(500), &unsized_frame(500)?);
    topic.good("box", "zstd, its length not stated", case(&fits, 500, 6, 4), json!(hex(&[0; 500])));
    envelopes(&mut topic);
    Ok(topic)
}

/// The session key in an envelope, which [`SessionKey`] does not tell.
pub(crate) fn session_key(envelope: &Envelope) -> Result<Vec<u8>> {
    let bound = binding(Purpose::Envelope, [0; 16], envelope.id.0);
    seal::open_box(&derived("lifeboat v1 read"), bound, &envelope.wrapped, 32)
}

fn encoded(envelope: &Envelope) -> Vec<u8> {
    let mut bytes = Vec::new();
    envelope.encode(&mut bytes);
    bytes
}

fn envelopes(topic: &mut Topic) {
    for suite in SUITES {
        let envelope = keys(suite).new_session().envelope().clone();
        let key = session_key(&envelope).expect("the envelope is this repository's");
        let value = json!({ "id": hex(&envelope.id.0), "key": hex(&key) });
        topic.good("envelope", "a session key", json!({ "bytes": hex(&encoded(&envelope)) }), value);
    }
    let envelope = keys(X).new_session().envelope().clone();
    let recipient = Envelope { recipient: 2, ..envelope.clone() };
    let renamed = Envelope { id: EnvelopeId([0; 16]), ..envelope.clone() };
    let foreign = Keys::derive(&Key::new([1; 32]), REPOSITORY, X).new_session().envelope().clone();
    let bound = binding(Purpose::Envelope, [0; 16], envelope.id.0);
    let wrapped = seal::seal_box(X, &derived("lifeboat v1 read"), bound, &[7; 31]);
    let short = Envelope { wrapped, ..envelope.clone() };
    let long = Envelope { wrapped: vec![1; 4097], ..envelope };
    for (reason, wrong, envelope) in [
        ("an unknown recipient", Wrong::Unsupported, recipient),
        ("another name", Wrong::Damaged, renamed),
        ("another repository's", Wrong::Damaged, foreign),
        ("a key of 31 bytes", Wrong::Damaged, short),
        ("longer than 4,096 bytes", Wrong::Damaged, long),
    ] {
        topic.bad("envelope", reason, wrong, json!({ "bytes": hex(&encoded(&envelope)) }));
    }
}

/// A pack on its way: regions so far and what the directory will say of them.
pub(crate) struct Packer<'a> {
    keys: &'a Keys,
    session: &'a SessionKey,
    bytes: Vec<u8>,
    directory: Directory,
    ids: Vec<ChunkId>,
}

/// A finished pack.
pub(crate) struct Packed {
    pub(crate) bytes: Vec<u8>,
    pub(crate) indexed: IndexedPack,
}

impl<'a> Packer<'a> {
    pub(crate) fn new(keys: &'a Keys, session: &'a SessionKey) -> Self {
        let directory = Directory { envelopes: vec![session.envelope().clone()], ..Directory::default() };
        Self { keys, session, bytes: header(ObjectKind::Pack).to_vec(), directory, ids: vec![] }
    }

    pub(crate) fn region(&mut self, kind: ChunkKind, level: i32, chunks: &[Vec<u8>]) -> Result<()> {
        let mut sealer = RegionSealer::new(self.keys, self.session, level)?;
        let (head, stored) = sealer.seal(kind, 0, &chunks.concat());
        self.bytes.append(stored);
        let chunk_bytes = chunks.iter().map(|chunk| chunk.len() as u32).collect();
        self.directory.regions.push(Region { head, chunk_bytes });
        self.ids.extend(chunks.iter().map(|chunk| self.keys.chunk_id(kind, chunk)));
        Ok(())
    }

    /// Pads by PADMÉ.
    pub(crate) fn finish(mut self) -> Result<Packed> {
        let tail_bytes = pack::encode_tail(self.keys, &self.directory)?.len();
        let bare = (self.bytes.len() + tail_bytes) as u64;
        self.directory.filler_bytes = (pack::padme(bare) - bare) as u32;
        self.bytes.extend(pack::filler(self.directory.filler_bytes));
        self.bytes.extend(pack::encode_tail(self.keys, &self.directory)?);
        let name = PackName(*blake3::hash(&self.bytes).as_bytes());
        let bytes = self.bytes.len() as u32;
        let indexed = IndexedPack { name, bytes, directory: self.directory, ids: self.ids };
        Ok(Packed { bytes: self.bytes, indexed })
    }
}

pub(crate) fn regions() -> Result<Topic> {
    let mut topic = Topic::new(
        "regions",
        "One region: what the directory says of it, its pack's envelope, the ids of its chunks, its stored bytes.",
    );
    let chunks = [b"first chunk, ".repeat(9), b"second chunk".to_vec(), vec![0; 100]];
    for suite in SUITES {
        let keys = keys(suite);
        let session = keys.new_session();
        let case = |head: RegionHead, chunk_bytes: Vec<u32>, ids: &[ChunkId], stored: &[u8]| {
            let ids: Vec<String> = ids.iter().map(|id| hex(&id.0)).collect();
            json!({
                "region": describe::region(&Region { head, chunk_bytes }), "ids": ids,
                "envelope": hex(&encoded(session.envelope())), "bytes": hex(stored),
            })
        };
        let lengths: Vec<u32> = chunks.iter().map(|chunk| chunk.len() as u32).collect();
        for kind in ChunkKind::ALL {
            let level = if kind == ChunkKind::List { 0 } else { 3 };
            let mut sealer = RegionSealer::new(&keys, &session, level)?;
            let (head, stored) = sealer.seal(kind, 0, &chunks.concat());
            let mut ids: Vec<ChunkId> = chunks.iter().map(|chunk| keys.chunk_id(kind, chunk)).collect();
            let value: Vec<String> = chunks.iter().map(|chunk| hex(chunk)).collect();
            topic.good("region", "three chunks", case(head, lengths.clone(), &ids, stored), json!(value));
            let other = RegionHead { kind: ChunkKind::Tree, ..head };
            let other_id = RegionHead { id: RegionId([0; 16]), ..head };
            for (reason, head, stored) in [
                ("another kind", RegionHead { kind: ChunkKind::Data, ..other }, &stored[..]),
                ("another region's id", other_id, stored),
                ("a flipped bit", head, &flip(stored, 40)),
                ("a byte is missing", head, &stored[..stored.len() - 1]),
            ] {
                if reason == "another kind" && kind == ChunkKind::Data {
                    continue;
                }
                let input = case(head, lengths.clone(), &ids, stored);
                topic.bad("region", reason, Wrong::Damaged, input);
            }
            ids.swap(0, 1);
            let input = case(head, lengths.clone(), &ids, stored);
            topic.bad("region", "two ids in each other's place", Wrong::Damaged, input);
            ids.swap(0, 1);
            ids.pop();
            let input = case(head, lengths.clone(), &ids, stored);
            topic.bad("region", "an id is missing", Wrong::Damaged, input);
        }
    }
    Ok(topic)
}

/// A directory's region as bytes, with every field free.
struct RawRegion {
    kind: u8,
    suite: u8,
    codec: u8,
    envelope: u64,
    stored_bytes: u64,
    plain_bytes: u64,
    chunk_bytes: Vec<u64>,
}

impl RawRegion {
    fn new() -> Self {
        let chunk_bytes = vec![100, 200];
        Self { kind: 1, suite: 1, codec: 0, envelope: 0, stored_bytes: 340, plain_bytes: 300, chunk_bytes }
    }

    /// A directory with one envelope and this region.
    fn directory(&self) -> Vec<u8> {
        let mut bytes = vec![1];
        bytes.extend(encoded(&Envelope { id: EnvelopeId([1; 16]), recipient: 1, wrapped: vec![5; 10] }));
        bytes.put_u32(0);
        bytes.put_varint(1);
        bytes.extend_from_slice(&[self.kind, self.suite, self.codec]);
        bytes.put_varint(self.envelope);
        bytes.extend_from_slice(&[2; 16]);
        bytes.put_varint(self.stored_bytes);
        bytes.put_varint(self.plain_bytes);
        bytes.put_varint(self.chunk_bytes.len() as u64);
        self.chunk_bytes.iter().for_each(|length| bytes.put_varint(*length));
        bytes
    }
}

fn directories(topic: &mut Topic) {
    let raw = RawRegion::new;
    let case = |bytes: &[u8]| json!({ "bytes": hex(bytes) });
    let region = Region {
        head: RegionHead {
            kind: ChunkKind::Data,
            suite: X,
            codec: Codec::Raw,
            envelope: 0,
            id: RegionId([2; 16]),
            stored_bytes: 340,
            plain_bytes: 300,
        },
        chunk_bytes: vec![100, 200],
    };
    let envelopes = vec![Envelope { id: EnvelopeId([1; 16]), recipient: 1, wrapped: vec![5; 10] }];
    let directory = Directory { envelopes, regions: vec![region], filler_bytes: 0 };
    topic.good("directory", "one region", case(&raw().directory()), describe::directory(&directory));
    topic.good("directory", "nothing", case(&[0; 6]), describe::directory(&Directory::default()));
    let many = |count: u64| {
        let mut bytes = vec![0; 5];
        bytes.put_varint(count);
        bytes
    };
    let filler = |filler_bytes: u32| {
        let mut bytes = vec![0];
        bytes.put_u32(filler_bytes);
        bytes.push(0);
        bytes
    };
    let mut left_over = raw().directory();
    left_over.push(0);
    let none =
        |stored_bytes, plain_bytes| RawRegion { stored_bytes, plain_bytes, chunk_bytes: vec![], ..raw() };
    let whole = raw().directory();
    for (reason, wrong, bytes) in [
        ("an unknown kind of chunk", Wrong::Unsupported, RawRegion { kind: 4, ..raw() }.directory()),
        ("an unknown suite", Wrong::Unsupported, RawRegion { suite: 3, ..raw() }.directory()),
        ("an unknown codec", Wrong::Unsupported, RawRegion { codec: 2, ..raw() }.directory()),
        ("an envelope that is not there", Wrong::Damaged, RawRegion { envelope: 1, ..raw() }.directory()),
        ("an envelope above 65,535", Wrong::Damaged, RawRegion { envelope: 65_536, ..raw() }.directory()),
        ("a raw region of two lengths", Wrong::Damaged, RawRegion { stored_bytes: 341, ..raw() }.directory()),
        ("shorter than nonce and tag", Wrong::Damaged, none(39, 0).directory()),
        ("stored in more than 4 MiB", Wrong::Damaged, none((4 << 20) + 41, (4 << 20) + 1).directory()),
        (
            "chunks that do not add up",
            Wrong::Damaged,
            RawRegion { chunk_bytes: vec![100, 199], ..raw() }.directory(),
        ),
        ("an empty chunk", Wrong::Damaged, RawRegion { chunk_bytes: vec![100, 0, 200], ..raw() }.directory()),
        ("4,097 regions", Wrong::Damaged, many(4097)),
        ("1,025 envelopes", Wrong::Damaged, vec![0x81, 0x08]),
        ("as long as a pack may be without anything else", Wrong::Damaged, filler(256 << 20)),
        ("a filler longer than a pack", Wrong::Damaged, filler(u32::MAX)),
        ("it ends early", Wrong::Damaged, whole[..whole.len() - 1].to_vec()),
        ("a byte is left over", Wrong::Damaged, left_over),
    ] {
        topic.bad("directory", reason, wrong, case(&bytes));
    }
}

fn small_pack(suite: Suite) -> Result<Packed> {
    let keys = keys(suite);
    let session = keys.new_session();
    let mut packer = Packer::new(&keys, &session);
    packer.region(ChunkKind::Data, 3, &[b"one chunk, ".repeat(10), vec![1; 50]])?;
    packer.region(ChunkKind::Data, 3, &[b"another region".to_vec()])?;
    packer.finish()
}

fn pack_value(packed: &Packed) -> Value {
    let ids: Vec<String> = packed.indexed.ids.iter().map(|id| hex(&id.0)).collect();
    json!({ "directory": describe::directory(&packed.indexed.directory), "ids": ids })
}

pub(crate) fn packs() -> Result<Topic> {
    let mut topic = Topic::new(
        "packs",
        "Directories before sealing, and whole packs: `name` is the pack's name, `ids` come from opening all regions.",
    );
    directories(&mut topic);
    for suite in SUITES {
        let packed = small_pack(suite)?;
        let bytes = &packed.bytes;
        let case = |bytes: &[u8], name: &PackName| json!({ "name": hex(&name.0), "bytes": hex(bytes) });
        let honest = |bytes: &[u8]| case(bytes, &PackName(*blake3::hash(bytes).as_bytes()));
        let name = &packed.indexed.name;
        topic.good("pack", "two regions", case(bytes, name), pack_value(&packed));
        let length = bytes.len() as isize;
        let trailer = bytes.len() - 32;
        let mut longer = bytes.clone();
        longer.splice(trailer..trailer + 4, (bytes.len() as u32).to_le_bytes());
        let directory_at = trailer - packed_directory_bytes(bytes);
        let mut shifted = bytes.clone();
        shifted.insert(directory_at, 0);
        let mut version = bytes.clone();
        version[9] = 2;
        let filler_at = directory_at as isize - 1;
        topic.bad("pack", "another name", Wrong::Damaged, case(bytes, &PackName([0; 32])));
        topic.bad(
            "pack",
            "flipped filler: only its name tells",
            Wrong::Damaged,
            case(&flip(bytes, filler_at), name),
        );
        for (reason, wrong, bad) in [
            ("a flipped bit in a region", Wrong::Damaged, flip(bytes, 60)),
            ("a flipped bit in the directory", Wrong::Damaged, flip(bytes, length - 60)),
            ("a flipped bit in the trailer's random bytes", Wrong::Damaged, flip(bytes, -20)),
            ("a flipped bit in the trailer's reserved bytes", Wrong::Damaged, flip(bytes, -28)),
            ("a flipped bit in the trailer's magic", Wrong::Damaged, flip(bytes, -1)),
            ("a directory longer than the pack", Wrong::Damaged, longer),
            ("a byte more than regions, filler and directory", Wrong::Damaged, shifted),
            ("it ends early", Wrong::Damaged, bytes[..bytes.len() - 1].to_vec()),
            ("shorter than a trailer", Wrong::Damaged, bytes[..30].to_vec()),
            ("a newer version", Wrong::Unsupported, version),
        ] {
            topic.bad("pack", reason, wrong, honest(&bad));
        }
    }
    Ok(topic)
}

fn packed_directory_bytes(pack: &[u8]) -> usize {
    let trailer = pack.len() - 32;
    pack[trailer..trailer + 4].iter().rev().fold(0, |value, byte| value << 8 | usize::from(*byte))
}

pub(crate) fn indexes() -> Result<Topic> {
    let mut topic = Topic::new("index", "Index objects; `name` is the object's name.");
    let case = |bytes: &[u8]| json!({ "name": blake3::hash(bytes).to_string(), "bytes": hex(bytes) });
    for suite in SUITES {
        let keys = keys(suite);
        for packs in [vec![], vec![small_pack(X)?.indexed, small_pack(Suite::Aes256Gcm)?.indexed]] {
            let index = IndexObject::new(packs);
            let (_, bytes) = index.encode(&keys)?;
            topic.good("index", "an index object", case(&bytes), describe::index(&index));
            topic.bad("index", "a flipped bit in its author", Wrong::Damaged, case(&flip(&bytes, 12)));
            topic.bad("index", "a flipped bit in its seal", Wrong::Damaged, case(&flip(&bytes, -1)));
            let other = json!({ "name": "00".repeat(32), "bytes": hex(&bytes) });
            topic.bad("index", "another name", Wrong::Damaged, other);
            topic.bad("index", "it ends early", Wrong::Damaged, case(&bytes[..bytes.len() - 1]));
        }
    }
    let crafted = |plain: &[u8]| {
        let bound = binding(Purpose::Index, [0; 16], [0; 16]);
        let mut body = vec![0; 17];
        body.extend(seal::seal_box(X, &Key::new(MASTER).derive("lifeboat v1 index"), bound, plain));
        frame(ObjectKind::Index, &body)
    };
    let pack = |bytes: u32, ids: usize| {
        let mut plain = vec![1];
        plain.extend_from_slice(&[7; 32]);
        plain.put_u32(bytes);
        plain.extend(RawRegion::new().directory());
        plain.extend(vec![8; ids]);
        plain
    };
    let mut many = Vec::new();
    many.put_varint(65_537);
    for (reason, plain) in [
        ("a pack above 256 MiB", pack((256 << 20) + 1, 48)),
        ("half an id is missing", pack(1000, 36)),
        ("a byte is left over", pack(1000, 49)),
        ("65,537 packs", many),
    ] {
        topic.bad("index", reason, Wrong::Damaged, case(&crafted(&plain)));
    }
    Ok(topic)
}
