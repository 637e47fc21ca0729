//! How the index behaves at size: `cargo run --release -p lifeboat-index --example scale -- 5 [DIRECTORY [CACHE-MIB]]` loads five
//! million chunks and prints rates and memory. A DIRECTORY that holds them already is only asked.

use lifeboat_format::index::{IndexObject, IndexedPack};
use lifeboat_format::keys::Envelope;
use lifeboat_format::pack::Directory;
use lifeboat_format::region::{ChunkKind, Region, RegionHead};
use lifeboat_format::seal::{Codec, OVERHEAD_BYTES, Suite};
use lifeboat_format::{ChunkId, EnvelopeId, IndexName, PackName, RegionId, RepositoryId};
use lifeboat_index::{Index, Options};
use std::path::Path;
use std::time::{Duration, Instant};

const REPOSITORY: RepositoryId = RepositoryId([1; 16]);
const CHUNK_BYTES: u32 = 16 << 10;
const REGION_CHUNKS: u64 = 64;
const PACK_CHUNKS: u64 = 32 * REGION_CHUNKS;
const OBJECT_PACKS: u64 = 16;
const BATCH: usize = 128;
const LOOK_UP_TIME: Duration = Duration::from_secs(3);

/// Numbers become names that are spread as hashes are (splitmix64).
fn spread(number: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (lane, bytes) in (0u64..).zip(bytes.chunks_exact_mut(8)) {
        let mut word = (number << 2 | lane).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.copy_from_slice(&(word ^ word >> 31).to_be_bytes());
    }
    bytes
}

fn id(number: u64) -> ChunkId {
    let mut id = [0; ChunkId::BYTES];
    id.copy_from_slice(&spread(number)[..ChunkId::BYTES]);
    ChunkId(id)
}

fn pack(number: u64) -> IndexedPack {
    let region = |index: u64| Region {
        head: RegionHead {
            kind: ChunkKind::Data,
            suite: Suite::XChaCha20Poly1305,
            codec: Codec::Raw,
            envelope: 0,
            id: RegionId([index as u8; 16]),
            stored_bytes: CHUNK_BYTES * REGION_CHUNKS as u32 + OVERHEAD_BYTES as u32,
            plain_bytes: CHUNK_BYTES * REGION_CHUNKS as u32,
        },
        chunk_bytes: vec![CHUNK_BYTES; REGION_CHUNKS as usize],
    };
    let envelope = Envelope { id: EnvelopeId([1; 16]), recipient: Envelope::READ_KEY, wrapped: vec![1; 73] };
    let directory = Directory {
        envelopes: vec![envelope],
        regions: (0..PACK_CHUNKS / REGION_CHUNKS).map(region).collect(),
        filler_bytes: 0,
    };
    let ids = (0..PACK_CHUNKS).map(|chunk| id(number * PACK_CHUNKS + chunk)).collect();
    IndexedPack { name: PackName(spread(u64::MAX / 8 + number)), bytes: 32 << 20, directory, ids }
}

fn memory(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) >> 10
}

/// Waits until compactions are done: until this process does nothing for a while.
fn settle() {
    let ticks = || {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let behind_name = stat.rsplit(')').next().unwrap_or_default();
        let times = behind_name.split_whitespace().skip(11).take(2);
        times.filter_map(|number| number.parse::<u64>().ok()).sum::<u64>()
    };
    let started = Instant::now();
    loop {
        let before = ticks();
        std::thread::sleep(Duration::from_secs(2));
        if ticks() - before < 5 {
            break;
        }
    }
    println!("settled in {:.0} s", started.elapsed().as_secs_f64());
}

fn look_ups(index: &Index, chunks: u64, what: &str, first: u64) -> lifeboat_index::Result<()> {
    let (mut asked, mut found, mut random) = (0u64, 0u64, 1u64);
    let started = Instant::now();
    while started.elapsed() < LOOK_UP_TIME {
        let ids: Vec<ChunkId> = std::iter::repeat_with(|| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            id(first + (random >> 24) % chunks)
        })
        .take(BATCH)
        .collect();
        asked += BATCH as u64;
        found += index.locate(&ids)?.iter().flatten().count() as u64;
    }
    let rate = asked as f64 / started.elapsed().as_secs_f64();
    println!("{what}: {rate:.0} look-ups/s in batches of {BATCH}, {found} of {asked} found");
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let millions: u64 = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let temporary = tempfile::tempdir()?;
    let directory =
        arguments.next().map_or_else(|| temporary.path().join("index"), |path| Path::new(&path).into());
    let objects = (millions * 1_000_000).div_ceil(PACK_CHUNKS * OBJECT_PACKS);
    let chunks = objects * PACK_CHUNKS * OBJECT_PACKS;
    let options = Options::default();
    let options = match arguments.next() {
        Some(mebibytes) => Options { cache_bytes: mebibytes.parse::<usize>()? << 20, ..options },
        None => options,
    };
    let index = Index::open(&directory, REPOSITORY, &options)?;
    println!("empty: {} MiB resident", memory("VmRSS"));
    let object = |number: u64| {
        let packs = (number * OBJECT_PACKS..(number + 1) * OBJECT_PACKS).map(pack).collect();
        (IndexName(spread(u64::MAX / 4 + number)), IndexObject::new(packs))
    };
    if index.counts()?.packs == 0 {
        let started = Instant::now();
        index.apply(&mut (0..objects).map(object))?;
        let seconds = started.elapsed().as_secs_f64();
        println!("applied {chunks} chunks in {seconds:.1} s: {:.0} chunks/s", chunks as f64 / seconds);
        println!("{} MiB resident, {} MiB at most", memory("VmRSS"), memory("VmHWM"));
    }
    let started = Instant::now();
    drop(index);
    println!("closed in {:.1} ms", started.elapsed().as_secs_f64() * 1e3);
    let started = Instant::now();
    let index = Index::open(&directory, REPOSITORY, &options)?;
    println!("opened in {:.1} ms", started.elapsed().as_secs_f64() * 1e3);
    settle();
    let counts = index.counts()?;
    println!("{counts:?}, {:.1} bytes a chunk", counts.bytes_on_disk as f64 / counts.chunks_estimate as f64);
    // The second round finds what the first one brought into the page cache.
    for _ in 0..2 {
        look_ups(&index, chunks, "absent", chunks)?;
        look_ups(&index, chunks, "present", 0)?;
    }
    println!("{} MiB resident", memory("VmRSS"));
    let started = Instant::now();
    index.apply(&mut std::iter::once((
        IndexName([3; 32]),
        IndexObject::new(vec![pack(objects * OBJECT_PACKS)]),
    )))?;
    println!("one more pack of {PACK_CHUNKS} chunks in {:.1} ms", started.elapsed().as_secs_f64() * 1e3);
    let started = Instant::now();
    index.retire(&[IndexName([3; 32])])?;
    println!("retired it in {:.1} ms", started.elapsed().as_secs_f64() * 1e3);
    println!("{} MiB resident, {} MiB at most", memory("VmRSS"), memory("VmHWM"));
    Ok(())
}
