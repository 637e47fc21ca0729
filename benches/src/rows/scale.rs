//! Memory where there is much: one huge file, ten million chunks, an index of a hundred million.

use crate::bench::Bench;
use crate::meter::Call;
use crate::results::{RowResult, Unit};
use crate::rounds::{Participant, Sample};
use crate::rows::streams::write_noise;
use crate::scale::{huge, look_up};
use crate::tools::{expect_restored, fresh, remove};
use anyhow::{Context, Result};
use lifeboat_format::config::{CutParameters, Parameters};
use std::process::Command;

const HUGE_BYTES: u64 = 64_000_000_000;
const INDEX_CHUNKS: u64 = 100_000_000;
/// Cut parameters so small that ten million chunks are a few gigabytes.
const SMALL_CUT: CutParameters = CutParameters { bytes_min: 64, bytes_mask: 256, bytes_max: 1024 };
/// Mean length of a chunk under them.
const SMALL_CHUNK_BYTES: u64 = 315;
const MANY_CHUNKS: u64 = 10_000_000;
/// Files that the chunks are in.
const MANY_FILES: u64 = 16;

pub(crate) fn huge(bench: &Bench) -> Result<RowResult> {
    let bytes = bench.sized(HUGE_BYTES);
    let disk = huge::Disk::mount(&bench.work, bytes)?;
    let folder = disk.path().join("source");
    fresh(&folder)?;
    huge::write(&folder.join("huge"), bytes)?;
    let manifest = bench.manifest(&folder)?;
    let (tool, to) = (bench.lifeboat(), disk.path().join("restored"));
    let data = manifest.describe();
    let lifeboat = Participant::new("lifeboat", move |round| {
        let home = bench.home(&tool, "huge");
        tool.init(&home)?;
        let first = bench.time(&Call::new(tool.backup(&home, &folder)))?;
        fresh(&to)?;
        let restored = bench.time(&Call::new(tool.restore(&home, &folder, &to)))?;
        if round == 0 {
            expect_restored(&folder, &manifest, &to)?;
        }
        remove(&to)?;
        let checked = bench.time(&Call::new(tool.check(&home)))?;
        remove(&home.0)?;
        Ok(first.named("first").and(restored.named("restore")).and(checked.named("check --read-data")))
    });
    let mut result = bench.quiet_row("huge", data, vec![lifeboat])?;
    drop(disk);
    fresh(&bench.work)?;
    "file larger than the page".clone_into(&mut result.cache);
    Ok(result)
}

pub(crate) fn chunks(bench: &Bench) -> Result<RowResult> {
    let folder = bench.work.join("source");
    fresh(&folder)?;
    let chunks = bench.sized(MANY_CHUNKS);
    for number in 0..MANY_FILES {
        write_noise(&folder.join(format!("file-{number}")), chunks * SMALL_CHUNK_BYTES / MANY_FILES)?;
    }
    let (tool, to) = (bench.lifeboat(), bench.work.join("restored"));
    let home = bench.home(&tool, "chunks");
    tool.init_with(&home, Parameters { cut: SMALL_CUT, ..Parameters::default() })?;
    let filled = bench.run(&Call::new(tool.backup(&home, &folder)))?;
    let data = format!(
        "about {chunks} chunks in {MANY_FILES} files; filling the repository took {:.0} s and {:.0} MiB",
        filled.seconds,
        filled.memory_bytes as f64 / f64::from(1 << 20)
    );
    let lifeboat = Participant::new("lifeboat", move |round| {
        write_noise(&folder.join("new"), 32_000_000)?;
        let snapshot = bench.time(&Call::new(tool.backup(&home, &folder)))?;
        let mut full = tool.backup(&home, &folder);
        full.args(["--kind", "full"]);
        let full = bench.time(&Call::new(full))?;
        fresh(&to)?;
        let restored = bench.time(&Call::new(tool.restore(&home, &folder, &to)))?;
        if round == 0 {
            expect_restored(&folder, &crate::manifest::Manifest::of(&folder)?, &to)?;
        }
        remove(&to)?;
        let mut check = tool.command(&home);
        check.arg("check");
        let checked = bench.time(&Call::new(check))?;
        let verified = bench.time(&Call::new(tool.check(&home)))?;
        let mut collect = tool.command(&home);
        collect.args(["gc", "--dry-run"]);
        let marked = bench.time(&Call::new(collect))?;
        Ok(snapshot
            .named("snapshot")
            .and(full.named("snapshot --kind full"))
            .and(restored.named("restore"))
            .and(checked.named("check"))
            .and(verified.named("check --read-data"))
            .and(marked.named("gc --dry-run")))
    });
    let result = bench.quiet_row("chunks", data, vec![lifeboat])?;
    fresh(&bench.work)?;
    Ok(result)
}

pub(crate) fn index(bench: &Bench) -> Result<RowResult> {
    let (folder, report) = (bench.work.join("index"), bench.work.join("rates"));
    let chunks = bench.sized(INDEX_CHUNKS);
    let own = std::env::current_exe().context("cannot find this program")?;
    let mut fill = Command::new(&own);
    fill.args(["index", "fill"]).arg(&folder).arg(chunks.to_string());
    let filled = bench.run(&Call::new(fill))?;
    let data = format!(
        "{chunks} chunks, {:.2} GB of disk; filling took {:.0} s and {:.0} MiB",
        crate::manifest::apparent_bytes(&folder)? as f64 / 1e9,
        filled.seconds,
        filled.memory_bytes as f64 / f64::from(1 << 20)
    );
    let lifeboat = Participant::new("lifeboat", move |_| {
        let mut ask = Command::new(&own);
        ask.args(["index", "ask"]).arg(&folder).arg(chunks.to_string()).arg(&report);
        bench.warm(&folder)?;
        let call = Call::new(ask);
        let metered = bench.run(&call)?;
        let rates = look_up::read(&report)?;
        Ok(Sample::new(bench.words(&call))
            .with("present", Unit::PerSecond, rates.present)
            .with("absent", Unit::PerSecond, rates.absent)
            .with("memory", Unit::Memory, metered.memory_bytes as f64))
    });
    bench.row("index", data, vec![lifeboat])
}
