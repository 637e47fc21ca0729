//! What is done through the file system: reading files, making files, writing packs.

use super::sample::Sample;
use super::stage;
use crate::bench::Bench;
use crate::results::Unit;
use crate::rounds::{self, Participant};
use crate::rows::streams::write_noise;
use crate::tools::{fresh, remove};
use anyhow::{Context, Result};
use lifeboat_format::{ObjectKey, ObjectKind};
use lifeboat_store::{LocalStore, Store};
use std::fs::File;
use std::io::{Read, Write};
use std::time::Instant;

/// Length of a pack.
const PACK_BYTES: usize = 32 << 20;
/// Packs of a round: a gigabyte.
const PACKS: u8 = 32;
/// What lifeboat writes at once.
const REGION_BYTES: usize = 1 << 20;

/// Stages through the file system.
pub(crate) fn stages<'b>(bench: &'b Bench, sample: &'b Sample) -> Result<Vec<Participant<'b>>> {
    Ok(vec![read(sample), create(bench, sample), pack_write(bench), dd(bench)])
}

/// Opening, looking at and reading every file of the sample, from the page cache.
fn read(sample: &Sample) -> Participant<'_> {
    let mut buffer = vec![0; 1 << 20];
    stage("read files, warm", Unit::BytesPerSecond, move || {
        let mut done = 0;
        for path in &sample.paths {
            let mut file = File::open(path)?;
            file.metadata()?;
            loop {
                let length = file.read(&mut buffer)?;
                done += length as u64;
                if length == 0 {
                    break;
                }
            }
        }
        Ok(done)
    })
}

/// Making every file of the sample with its content and time.
fn create<'b>(bench: &'b Bench, sample: &'b Sample) -> Participant<'b> {
    Participant::new("create files", move |_| {
        let folder = bench.work.join("created");
        fresh(&folder)?;
        rustix::fs::sync();
        let began = Instant::now();
        for (number, content) in sample.files().enumerate() {
            if number % 100 == 0 {
                std::fs::create_dir(folder.join((number / 100).to_string()))?;
            }
            let mut file = File::create(folder.join(format!("{}/{number}", number / 100)))?;
            file.write_all(content)?;
            file.set_modified(std::time::UNIX_EPOCH)?;
        }
        let rate = sample.bytes.len() as f64 / began.elapsed().as_secs_f64();
        remove(&folder)?;
        Ok(rounds::Sample::new("in this process, one thread").with("rate", Unit::BytesPerSecond, rate))
    })
}

/// Packs through the local store, each synced and named; the wait for the disk is part of it.
fn pack_write(bench: &Bench) -> Participant<'_> {
    Participant::new("pack write", move |_| {
        let folder = bench.work.join("packs");
        remove(&folder)?;
        let store = LocalStore::create(&folder)?;
        let mut region = vec![0; REGION_BYTES];
        getrandom::fill(&mut region).map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
        rustix::fs::sync();
        let began = Instant::now();
        for number in 0..PACKS {
            let mut spool = store.spool()?;
            for _ in 0..PACK_BYTES / REGION_BYTES {
                spool.append(&region)?;
            }
            spool.commit(&ObjectKey::new(ObjectKind::Pack, &[number; 32]))?;
        }
        let seconds = began.elapsed().as_secs_f64();
        remove(&folder)?;
        let rate = f64::from(PACKS) * PACK_BYTES as f64 / seconds;
        Ok(rounds::Sample::new("in this process, one thread").with("rate", Unit::BytesPerSecond, rate))
    })
}

/// A gigabyte to disk with one sync at the end; random bytes, because some disks are fast with zeros.
fn dd(bench: &Bench) -> Participant<'_> {
    Participant::new("dd conv=fsync", move |_| {
        let (noise, file) = (bench.work.join("noise"), bench.work.join("dd"));
        if !noise.exists() {
            write_noise(&noise, 1 << 30)?;
        }
        let line = format!("dd if={} of={} bs=1M conv=fsync", noise.display(), file.display());
        let call = crate::meter::Call::shell(&bench.work, &line);
        let metered = bench.run(&call)?;
        remove(&file).context("cannot remove what dd wrote")?;
        let rate = f64::from(1 << 30) / metered.seconds;
        Ok(rounds::Sample::new(bench.words(&call)).with("rate", Unit::BytesPerSecond, rate))
    })
}
