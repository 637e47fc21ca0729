//! Asking a large index, in a process of its own so that its memory can be measured.

use super::synthetic;
use anyhow::{Context, Result, bail, ensure};
use lifeboat_format::ChunkId;
use lifeboat_index::{Index, Options};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

/// Ids that a worker asks for at once.
const BATCH: usize = 128;
/// How long each kind is asked for.
const ASKING: Duration = Duration::from_secs(3);
/// Before it counts: the caches are cold at first.
const WARMING: Duration = Duration::from_secs(1);

/// Look-ups a second.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Rates {
    pub(crate) present: f64,
    pub(crate) absent: f64,
}

/// What the asking process wrote.
pub(crate) fn read(report: &Path) -> Result<Rates> {
    Ok(serde_json::from_slice(&std::fs::read(report)?)?)
}

/// `fill FOLDER CHUNKS` or `ask FOLDER CHUNKS REPORT`.
pub(crate) fn inner(words: &[OsString]) -> Result<()> {
    let [verb, folder, chunks, rest @ ..] = words else { bail!("too few words") };
    let chunks: u64 = chunks.to_str().and_then(|text| text.parse().ok()).context("not a number of chunks")?;
    let index = Index::open(Path::new(folder), synthetic::REPOSITORY, &Options::default())?;
    match (verb.to_str(), rest) {
        (Some("fill"), []) => synthetic::fill(&index, chunks).map(|_| ()),
        (Some("ask"), [report]) => {
            let rates = Rates { absent: ask(&index, chunks * 2, chunks)?, present: ask(&index, 0, chunks)? };
            Ok(std::fs::write(report, serde_json::to_vec(&rates)?)?)
        }
        _ => bail!("`{}` is not known", verb.display()),
    }
}

fn ask(index: &Index, first: u64, chunks: u64) -> Result<f64> {
    let mut random = synthetic::Random::new();
    let expected = if first == 0 { BATCH } else { 0 };
    let mut asked = 0u64;
    let mut began = Instant::now();
    let mut warm = false;
    while began.elapsed() < if warm { ASKING } else { WARMING } || !warm {
        if !warm && began.elapsed() >= WARMING {
            (warm, asked, began) = (true, 0, Instant::now());
        }
        let ids: Vec<ChunkId> =
            (0..BATCH).map(|_| synthetic::chunk_id(first + random.next() % chunks)).collect();
        let found = index.locate(&ids)?.iter().flatten().count();
        ensure!(found == expected, "the index found {found} of {BATCH} instead of {expected}");
        asked += BATCH as u64;
    }
    Ok(asked as f64 / began.elapsed().as_secs_f64())
}
