//! Restoring over a file that differs in one page of a hundred.

use crate::bench::Bench;
use crate::meter::{Call, Metered};
use crate::results::{RowResult, Unit};
use crate::rounds::{Participant, Sample};
use crate::tools::{Kind, copy, expect_restored, fresh, quietly};
use anyhow::{Context, Result};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

const PAGE_BYTES: u64 = 8192;
/// One page in so many is changed.
const PAGES_PER_CHANGE: u64 = 100;

/// The largest file below a folder.
pub(crate) fn largest(folder: &Path) -> Result<PathBuf> {
    let mut largest = None;
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                waiting.push(entry.path());
            } else if metadata.is_file() && largest.as_ref().is_none_or(|(bytes, _)| *bytes < metadata.size())
            {
                largest = Some((metadata.size(), entry.path()));
            }
        }
    }
    largest.map(|(_, path)| path).context("there is no file in the database")
}

/// Overwrites the beginning of every hundredth page.
fn disturb(file: &Path) -> Result<u64> {
    let handle = File::options().write(true).open(file)?;
    let pages = handle.metadata()?.len() / PAGE_BYTES;
    let mut changed = 0;
    for page in (0..pages).step_by(PAGES_PER_CHANGE as usize) {
        handle.write_all_at(b"disturbed", page * PAGE_BYTES + 100)?;
        changed += 1;
    }
    Ok(changed)
}

fn sample(bench: &Bench, call: &Call, metered: Metered) -> Sample {
    Sample::new(bench.words(call))
        .with("time", Unit::Seconds, metered.seconds)
        .with("written", Unit::Bytes, metered.written_bytes as f64)
        .with("memory", Unit::Memory, metered.memory_bytes as f64)
}

pub(crate) fn in_place(bench: &Bench) -> Result<RowResult> {
    let source = bench.work.join("source");
    fresh(&source)?;
    let file = source.join("table");
    copy(&largest(&bench.corpus("postgres/v1")?)?, &file)?;
    let manifest = bench.manifest(&source)?;
    let whole = file.clone();
    let mut participants = vec![Participant::new("cp", move |_| {
        let mut command = Command::new("cp");
        command.arg(&whole).arg(bench.work.join("copy"));
        let call = Call::new(command);
        bench.warm(&whole)?;
        let metered = bench.run(&call)?;
        Ok(sample(bench, &call, metered))
    })];
    for tool in bench.tools_of(&[Kind::Lifeboat, Kind::Restic])? {
        let home = bench.home(&tool, "filled");
        tool.init(&home)?;
        quietly(&mut tool.backup(&home, &source))?;
        let (source, manifest) = (source.clone(), manifest.clone());
        participants.push(Participant::new(tool.name(), move |_| {
            let to = bench.work.join("target");
            let target = to.join(source.strip_prefix("/").unwrap_or(&source));
            copy(&source, &target)?;
            disturb(&target.join("table"))?;
            bench.warm(&home.repository())?;
            let call = Call::new(tool.restore(&home, &source, &to));
            let metered = bench.run(&call)?;
            expect_restored(&source, &manifest, &to)?;
            Ok(sample(bench, &call, metered))
        }));
    }
    let data = format!("{}; one 8 KiB page in {PAGES_PER_CHANGE} of the target differs", manifest.describe());
    bench.row("in-place", data, participants)
}
