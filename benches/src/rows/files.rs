//! Cost against the number of files, and against the number of snapshots.

use crate::bench::Bench;
use crate::manifest::Manifest;
use crate::meter::Call;
use crate::results::{RowResult, Unit};
use crate::rounds::{Participant, Sample, median_of};
use crate::tools::{Home, Tool, copy, fresh, quietly, remove};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// How many files the trees have.
pub(crate) const SIZES: [u64; 3] = [10_000, 100_000, 1_000_000];
/// Files in a folder.
const FOLDER_FILES: u64 = 100;
/// Snapshots in the repository of the row `snapshots`.
const SNAPSHOTS: u64 = 1000;
/// Calls of each kind in a round of the row `snapshots`.
const CALLS: usize = 9;

/// Small files whose contents differ; the same in every run.
fn plant(folder: &Path, files: u64) -> Result<()> {
    fresh(folder)?;
    for number in 0..files {
        let parent = folder.join(format!("{:05}", number / FOLDER_FILES));
        if number.is_multiple_of(FOLDER_FILES) {
            std::fs::create_dir(&parent)?;
        }
        let word = blake3::hash(&number.to_le_bytes()).to_hex();
        let text = format!("file {number}\n{word}\n").repeat(1 + (number % 7) as usize);
        std::fs::write(parent.join(format!("file-{number}")), text)
            .with_context(|| format!("cannot make the file {number} of {files}"))?;
    }
    Ok(())
}

pub(crate) fn files(bench: &Bench) -> Result<RowResult> {
    let trees: Vec<(u64, PathBuf)> =
        SIZES.iter().map(|size| (*size, bench.work.join(format!("tree-{size}")))).collect();
    for (size, tree) in &trees {
        plant(tree, bench.sized(*size))?;
    }
    let tool = bench.lifeboat();
    let (looked_at, backed_up) = (trees.clone(), trees);
    let participants = vec![
        Participant::new("find -printf", move |_| {
            let mut all = Sample::default();
            for (size, tree) in &looked_at {
                let line = r"find . -printf '%p %s %T@ %C@ %i %m\n' > /dev/null";
                bench.warm(tree)?;
                let sample = bench.time(&Call::shell(tree, line))?;
                all = all.and(sample.named("unchanged").sized(*size));
            }
            Ok(all)
        }),
        Participant::new("lifeboat", move |round| {
            let mut all = Sample::default();
            for (size, tree) in &backed_up {
                let sample = three_snapshots(bench, &tool, tree, round)?;
                all = all.and(sample.sized(*size));
            }
            Ok(all)
        }),
    ];
    let data = format!("small files, {FOLDER_FILES} in a folder; sizes are numbers of files");
    bench.row("files", data, participants)
}

/// The first, one without changes, and one after a single file changed.
fn three_snapshots(bench: &Bench, tool: &Tool, tree: &Path, round: usize) -> Result<Sample> {
    let home = bench.home(tool, "files");
    tool.init(&home)?;
    bench.warm(tree)?;
    let backup = || Call::new(tool.backup(&home, tree));
    let first = bench.time(&backup())?;
    let stored = home.stored_bytes()?;
    let first = first.with("stored", Unit::Bytes, stored as f64);
    let unchanged = bench.time(&backup())?;
    let before = home.stored_bytes()?;
    let unchanged = unchanged.with("added", Unit::Bytes, before.saturating_sub(stored) as f64);
    std::fs::write(tree.join("00000/file-7"), format!("changed in round {round}"))?;
    let changed = bench.time(&backup())?;
    let added = home.stored_bytes()?.saturating_sub(before);
    let changed = changed.with("added", Unit::Bytes, added as f64);
    if round == 0 {
        tool.expect_restorable(&home, tree, &Manifest::of(tree)?, &bench.work.join("restored"))?;
    }
    remove(&home.0)?;
    Ok(first.named("first").and(unchanged.named("unchanged")).and(changed.named("one changed")))
}

pub(crate) fn snapshots(bench: &Bench) -> Result<RowResult> {
    let (tool, tree) = (bench.lifeboat(), bench.work.join("tree"));
    plant(&tree, FOLDER_FILES)?;
    let many = bench.sized(SNAPSHOTS);
    let (live, full) = (bench.home(&tool, "live"), bench.home(&tool, "full"));
    tool.init(&live)?;
    for number in 0..many {
        std::fs::write(tree.join("changing"), number.to_string())?;
        quietly(&mut tool.backup(&live, &tree))?;
    }
    copy(&live.0, &full.0)?;
    let lifeboat = Participant::new("lifeboat", move |round| {
        let empty = Home(bench.work.join("empty"));
        copy(&full.0, &live.0)?;
        let (mut first, mut list, mut one_more) = (Vec::new(), Vec::new(), Vec::new());
        for call in 0..CALLS {
            std::fs::write(tree.join("changing"), format!("call {call} of round {round}"))?;
            tool.init(&empty)?;
            first.push(bench.time(&Call::new(tool.backup(&empty, &tree)))?);
            list.push(bench.time(&Call::new(tool.list(&live)))?);
            one_more.push(bench.time(&Call::new(tool.backup(&live, &tree)))?);
            remove(&empty.0)?;
        }
        if round == 0 {
            tool.expect_restorable(&live, &tree, &Manifest::of(&tree)?, &bench.work.join("restored"))?;
        }
        let [first, list, one_more] = [first, list, one_more].map(median_of);
        Ok(first.named("first").and(list.named("list")).and(one_more.named("one more")))
    });
    let data = format!(
        "{many} snapshots of {} small files, one changed in each; the median of {CALLS} calls in a round",
        FOLDER_FILES + 1
    );
    bench.row("snapshots", data, vec![lifeboat])
}
