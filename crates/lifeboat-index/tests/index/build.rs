//! Packs and index objects from numbers, and the question whether an index knows them rightly.

use lifeboat_format::index::{IndexObject, IndexedPack};
use lifeboat_format::keys::Envelope;
use lifeboat_format::pack::Directory;
use lifeboat_format::region::{ChunkKind, Region, RegionHead};
use lifeboat_format::seal::{Codec, OVERHEAD_BYTES, Suite};
use lifeboat_format::{ChunkId, EnvelopeId, IndexName, PackName, RegionId, RepositoryId};
use lifeboat_index::{Index, Options, RegionLocation, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

pub(crate) const REPOSITORY: RepositoryId = RepositoryId([7; 16]);

pub(crate) fn options() -> Options {
    Options { cache_bytes: 4 << 20, ..Options::default() }
}

pub(crate) fn open(directory: &Path) -> Index {
    Index::open(directory, REPOSITORY, &options()).unwrap()
}

/// Numbers become names that are spread as hashes are.
fn spread(number: u32) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (lane, bytes) in (0u64..).zip(bytes.chunks_exact_mut(8)) {
        let mut word = (u64::from(number) << 8 | lane).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        word = (word ^ word >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bytes.copy_from_slice(&(word ^ word >> 32).to_be_bytes());
    }
    bytes
}

pub(crate) fn id(number: u32) -> ChunkId {
    let mut id = [0; ChunkId::BYTES];
    id.copy_from_slice(&spread(number)[..ChunkId::BYTES]);
    ChunkId(id)
}

pub(crate) fn index_name(number: u32) -> IndexName {
    IndexName(spread(number))
}

/// A pack of these chunks, three to a region; chunk `n` has `n % 1000 + 1` bytes.
pub(crate) fn pack(number: u32, chunks: &[u32]) -> IndexedPack {
    let envelope = |number: u32| Envelope {
        id: EnvelopeId([number as u8; 16]),
        recipient: Envelope::READ_KEY,
        wrapped: vec![number as u8; 70],
    };
    let region = |(index, chunks): (usize, &[u32])| {
        let chunk_bytes: Vec<u32> = chunks.iter().map(|chunk| chunk % 1000 + 1).collect();
        let plain_bytes = chunk_bytes.iter().sum();
        let head = RegionHead {
            kind: ChunkKind::Data,
            suite: Suite::XChaCha20Poly1305,
            codec: Codec::Raw,
            envelope: (index % 2) as u16,
            id: RegionId([index as u8; 16]),
            stored_bytes: plain_bytes + OVERHEAD_BYTES as u32,
            plain_bytes,
        };
        Region { head, chunk_bytes }
    };
    let directory = Directory {
        envelopes: vec![envelope(number % 3), envelope(3)],
        regions: chunks.chunks(3).enumerate().map(region).collect(),
        filler_bytes: 9,
    };
    let ids = chunks.iter().map(|chunk| id(*chunk)).collect();
    IndexedPack { name: PackName(spread(number)), bytes: 1000 + number, directory, ids }
}

pub(crate) fn object(packs: Vec<IndexedPack>) -> IndexObject {
    IndexObject::new(packs)
}

pub(crate) fn apply(index: &Index, name: u32, packs: Vec<IndexedPack>) -> Result<()> {
    index.apply(&mut std::iter::once((index_name(name), object(packs))))
}

type Place = (RegionLocation, u32, u32);

/// Where a pack says that its chunks are.
fn places(pack: &IndexedPack) -> Vec<(ChunkId, Place)> {
    let mut places = Vec::new();
    let mut ids = pack.ids.iter();
    for (region, offset) in pack.directory.regions.iter().zip(pack.directory.offsets()) {
        let envelope = Arc::new(pack.directory.envelopes[usize::from(region.head.envelope)].clone());
        let location = RegionLocation { pack: pack.name, offset, head: region.head, envelope };
        let mut start = 0;
        for (length, id) in region.chunk_bytes.iter().zip(&mut ids) {
            places.push((*id, (location.clone(), start, *length)));
            start += length;
        }
    }
    places
}

/// The objects that there are in a test, by number.
pub(crate) type Objects = BTreeMap<u32, Vec<IndexedPack>>;

/// Asks everything that can be asked, and compares it with what follows from the objects that the index says it
/// covers, which are returned.
pub(crate) fn check(index: &Index, objects: &Objects) -> Result<BTreeSet<u32>> {
    let covered = index.covered()?;
    let covered: BTreeSet<u32> =
        objects.keys().copied().filter(|number| covered.contains(&index_name(*number))).collect();
    assert_eq!(covered.len(), index.covered()?.len(), "it covers what never was");
    let mut live = BTreeMap::new();
    for number in &covered {
        for pack in &objects[number] {
            live.entry(pack.name).or_insert((pack, BTreeSet::new())).1.insert(index_name(*number));
        }
    }
    check_packs(index, &live)?;
    let mut expected: BTreeMap<ChunkId, Vec<Place>> = BTreeMap::new();
    for (id, place) in live.values().flat_map(|(pack, _)| places(pack)) {
        expected.entry(id).or_default().push(place);
    }
    let ids: Vec<ChunkId> = objects.values().flatten().flat_map(|pack| pack.ids.clone()).collect();
    for (asked, (id, location)) in ids.iter().zip(index.locate(&ids)?).enumerate() {
        if asked < 100 {
            assert_eq!(location, index.locate_one(id)?);
        }
        match location {
            None => assert!(!expected.contains_key(id), "{id} is missing, covered are {covered:?}"),
            Some(found) => {
                let region = index.region(found.pack, found.region)?.expect("the pack is live");
                let place = (region, found.offset, found.length);
                assert!(
                    expected.get(id).is_some_and(|places| places.contains(&place)),
                    "{id} is not at {found:?}"
                );
            }
        }
    }
    Ok(covered)
}

fn check_packs(index: &Index, live: &BTreeMap<PackName, (&IndexedPack, BTreeSet<IndexName>)>) -> Result<()> {
    let mut seen = BTreeSet::new();
    for pack in index.packs()? {
        let pack = pack?;
        let (expected, listed_by) = live.get(&pack.name).expect("only what is covered lists packs");
        assert_eq!(pack.bytes, expected.bytes);
        assert_eq!(pack.chunks as usize, expected.ids.len());
        assert_eq!(pack.regions as usize, expected.directory.regions.len());
        assert_eq!(&pack.listed_by.into_iter().collect::<BTreeSet<_>>(), listed_by);
        assert_eq!(index.pack_number(&pack.name)?, Some(pack.number));
        assert!(seen.insert(pack.name), "a pack has two numbers");
    }
    assert_eq!(seen.len(), live.len());
    let is_wanted = |name: &PackName| name.0[0] < 128;
    let mut wanted = index.packs()?.collect::<Result<Vec<_>>>()?;
    wanted.retain(|pack| is_wanted(&pack.name));
    assert_eq!(index.packs_that(|name, _| is_wanted(name))?, wanted);
    let counts = index.counts()?;
    let chunks: usize = live.values().map(|(pack, _)| pack.ids.len()).sum();
    assert_eq!((counts.packs, counts.chunks_estimate), (live.len() as u64, chunks as u64));
    Ok(())
}

/// As after a kill or a power cut: whatever is on disk at this moment.
///
/// RocksDB's own threads remove files while they are copied; a copy that missed one never was on disk at any moment, so
/// it is made again.
pub(crate) fn copy(from: &Path, to: &Path) {
    while let Err(error) = try_copy(from, to) {
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
        fs::remove_dir_all(to).unwrap();
    }
}

fn try_copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => try_copy(&entry.path(), &target)?,
            false => drop(fs::copy(entry.path(), target)?),
        }
    }
    Ok(())
}
