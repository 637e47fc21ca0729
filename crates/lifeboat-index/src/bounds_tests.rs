//! What otherwise only huge repositories meet: changes that take several commits, and what compactions leave.

use crate::index::{Bounds, Changing};
use crate::record::{CHUNK, DUPLICATE, ObjectStage};
use crate::{Index, Opening, Options};
use lifeboat_format::index::{IndexObject, IndexedPack};
use lifeboat_format::keys::Envelope;
use lifeboat_format::pack::Directory;
use lifeboat_format::region::{ChunkKind, Region, RegionHead};
use lifeboat_format::seal::{Codec, Suite};
use lifeboat_format::{ChunkId, EnvelopeId, IndexName, PackName, RegionId, RepositoryId};
use rocksdb::perf::{PerfContext, PerfMetric, PerfStatsLevel, set_perf_stats};
use std::collections::BTreeSet;
use std::path::Path;

fn name(number: u32) -> [u8; 32] {
    let mut name = [0; 32];
    name[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b1).to_be_bytes());
    name[4..8].copy_from_slice(&number.to_be_bytes());
    name
}

fn id(number: u32) -> ChunkId {
    let mut id = [0; ChunkId::BYTES];
    id.copy_from_slice(&name(number)[..ChunkId::BYTES]);
    ChunkId(id)
}

fn object_name(number: u32) -> IndexName {
    IndexName(name(number))
}

fn pack(number: u32, chunks: &[u32]) -> IndexedPack {
    let head = RegionHead {
        kind: ChunkKind::Tree,
        suite: Suite::Aes256Gcm,
        codec: Codec::Zstd,
        envelope: 0,
        id: RegionId([2; 16]),
        stored_bytes: 100,
        plain_bytes: 10 * chunks.len() as u32,
    };
    let envelope = Envelope { id: EnvelopeId([number as u8; 16]), recipient: 1, wrapped: vec![1; 9] };
    let directory = Directory {
        envelopes: vec![envelope],
        regions: vec![Region { head, chunk_bytes: vec![10; chunks.len()] }],
        filler_bytes: 0,
    };
    let ids = chunks.iter().map(|chunk| id(*chunk)).collect();
    IndexedPack { name: PackName(name(number)), bytes: 500, directory, ids }
}

fn apply(index: &Index, number: u32, packs: Vec<IndexedPack>) {
    index.apply(&mut std::iter::once((object_name(number), IndexObject::new(packs)))).unwrap();
}

fn open(directory: &Path) -> Index {
    let mut index = Index::open(directory, RepositoryId([1; 16]), &Options::default()).unwrap();
    index.bounds = Bounds { chunks: 10, packs: 100 };
    index
}

fn found(index: &Index, numbers: impl Iterator<Item = u32>) -> usize {
    let ids: Vec<ChunkId> = numbers.map(id).collect();
    index.locate(&ids).unwrap().iter().flatten().count()
}

fn records(index: &Index, letter: u8) -> usize {
    let mut count = 0;
    index
        .top
        .scan(letter, &mut |_, _| {
            count += 1;
            Ok(())
        })
        .unwrap();
    count
}

#[test]
fn a_large_application_is_kept_part_by_part() {
    let directory = tempfile::tempdir().unwrap();
    let index = open(directory.path());
    let mut covered = BTreeSet::new();
    // Chunk 4 of every pack is the next one's first: copies meet across parts.
    let object = |number: u32| {
        let chunks: Vec<u32> = (number * 4..number * 4 + 5).collect();
        (object_name(number), IndexObject::new(vec![pack(number, &chunks)]))
    };
    index
        .apply(&mut (0..21).map(|number| {
            covered.insert(index.covered().unwrap().len());
            object(number)
        }))
        .unwrap();
    assert!(covered.len() > 5, "{covered:?}");
    assert_eq!(index.covered().unwrap().len(), 21);
    assert_eq!(found(&index, 0..85), 85);
    assert_eq!(records(&index, DUPLICATE), 20);
    index.retire(&(0..21).step_by(2).map(object_name).collect::<Vec<_>>()).unwrap();
    assert_eq!((found(&index, 0..85), records(&index, DUPLICATE)), (50, 0));
}

#[test]
fn all_copies_of_a_chunk_in_live_packs_are_found() {
    let directory = tempfile::tempdir().unwrap();
    let index = open(directory.path());
    for number in 1..=3 {
        apply(&index, number, vec![pack(number, &[7, 10 + number])]);
    }
    let names = |index: &Index, chunk| {
        let copies = index.copies(&id(chunk)).unwrap();
        copies.iter().map(|copy| index.name_of(copy.pack).unwrap().unwrap()).collect::<BTreeSet<_>>()
    };
    let all: BTreeSet<_> = (1..=3).map(|number| pack(number, &[]).name).collect();
    assert_eq!(names(&index, 7), all);
    assert_eq!(names(&index, 12).len(), 1);
    assert!(names(&index, 99).is_empty());
    index.retire(&[object_name(2)]).unwrap();
    assert_eq!(names(&index, 7).len(), 2);
    assert!(names(&index, 12).is_empty());
}

/// Object 1 lists all packs, object 2 the first ten of them.
fn two_objects(index: &Index) -> Vec<IndexedPack> {
    let packs: Vec<IndexedPack> = (0..3000).map(|number| pack(number, &[number])).collect();
    apply(index, 1, packs.clone());
    apply(index, 2, packs[..10].to_vec());
    packs
}

#[test]
fn retiring_more_packs_than_one_change_takes_retires_them_all() {
    let directory = tempfile::tempdir().unwrap();
    let index = open(directory.path());
    two_objects(&index);
    assert_eq!(found(&index, 0..3000), 3000);
    index.retire(&[object_name(1)]).unwrap();
    assert_eq!(found(&index, 0..3000), 10);
    assert_eq!(index.covered().unwrap(), BTreeSet::from([object_name(2)]));
    let counts = index.counts().unwrap();
    assert_eq!((counts.packs, counts.chunks_estimate), (10, 10));
    assert_eq!(index.packs().unwrap().count(), 10);
}

/// As if the process had been killed behind the first of several changes.
fn retire_halfway(index: &Index) {
    let objects = index.objects(ObjectStage::Covered).unwrap();
    let objects = objects.into_iter().filter(|(name, _)| *name == object_name(1)).collect();
    let numbers = BTreeSet::from([0]);
    let (casualties, next) = index.casualties(&numbers, 0).unwrap();
    assert!(next.is_some());
    index.bury(&mut Changing::default(), &objects, ObjectStage::Retiring, casualties).unwrap();
    assert_eq!(found(index, 0..3000), 3000 - 1014);
}

#[test]
fn whoever_opens_a_cache_finishes_a_retirement_that_was_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    let writer = open(directory.path());
    let packs = two_objects(&writer);
    retire_halfway(&writer);
    let reader = open(directory.path());
    assert_eq!((reader.opening(), found(&reader, 0..3000)), (Opening::ReaderWithSpill, 10));
    drop(writer);
    let writer = open(directory.path());
    for index in [reader, writer] {
        assert_eq!(found(&index, 0..3000), 10);
        assert_eq!(index.covered().unwrap(), BTreeSet::from([object_name(2)]));
        // Should it ever come back, it comes back whole.
        apply(&index, 1, packs.clone());
        assert_eq!(found(&index, 0..3000), 3000);
    }
}

#[test]
fn a_number_is_never_used_twice() {
    let directory = tempfile::tempdir().unwrap();
    let mut last = None;
    for round in 0..3 {
        let index = open(directory.path());
        apply(&index, round, vec![pack(1, &[round])]);
        let number = index.pack_number(&PackName(name(1))).unwrap();
        assert!(number > last);
        last = number;
        index.retire(&[object_name(round)]).unwrap();
    }
}

#[test]
fn a_compaction_drops_entries_of_dead_packs_and_no_others() {
    let directory = tempfile::tempdir().unwrap();
    let index = open(directory.path());
    apply(&index, 1, vec![pack(1, &[1, 2, 3])]);
    apply(&index, 2, vec![pack(2, &[3, 4])]);
    apply(&index, 3, vec![pack(3, &[4, 5])]);
    assert_eq!((records(&index, CHUNK), records(&index, DUPLICATE)), (5, 2));
    index.retire(&[object_name(1)]).unwrap();
    index.top.compact();
    assert_eq!((records(&index, CHUNK), records(&index, DUPLICATE)), (3, 1));
    assert_eq!((found(&index, 1..3), found(&index, 3..6)), (0, 3));
    drop(index);
    let index = open(directory.path());
    index.top.compact();
    assert_eq!((records(&index, CHUNK), found(&index, 1..6)), (3, 3));
}

/// Blocks read to look for `asked` chunks that are not there, when as many were looked for before.
fn reads_for_absent(options: &Options, chunks: u32, asked: u32) -> u64 {
    let directory = tempfile::tempdir().unwrap();
    let index = Index::open(directory.path(), RepositoryId([1; 16]), options).unwrap();
    let packs = (0..chunks / 1000).map(|number| {
        let chunks: Vec<u32> = (number * 1000..(number + 1) * 1000).collect();
        pack(number, &chunks)
    });
    apply(&index, 1, packs.collect());
    drop(index);
    let index = Index::open(directory.path(), RepositoryId([1; 16]), options).unwrap();
    let look = |numbers: std::ops::Range<u32>| {
        numbers.for_each(|number| assert_eq!(index.locate_one(&id(number)).unwrap(), None));
    };
    look(chunks..chunks + asked);
    set_perf_stats(PerfStatsLevel::EnableCount);
    let mut context = PerfContext::default();
    context.reset();
    look(chunks + asked..chunks + 2 * asked);
    let reads = context.metric(PerfMetric::BlockReadCount);
    set_perf_stats(PerfStatsLevel::Disable);
    reads
}

#[test]
fn absent_chunks_cost_next_to_no_reads_as_long_as_memory_may_follow_their_number() {
    let options = Options { cache_bytes: 32 << 10, cache_bytes_max: 8 << 20, ..Options::default() };
    let fitting = reads_for_absent(&options, 2_000_000, 2000);
    let cramped = reads_for_absent(&Options { cache_bytes_max: 0, ..options }, 2_000_000, 2000);
    // Some of them look like others that are there.
    assert!(fitting < 2000 / 10 && cramped > 2000 / 2, "{fitting} reads, {cramped} where memory is short");
}
