//! The life of snapshots: forgetting and collecting among many, and restoring after many.

use crate::bench::Bench;
use crate::manifest::Manifest;
use crate::meter::Call;
use crate::results::{RowResult, Unit};
use crate::room::Room;
use crate::rounds::{Participant, Sample};
use crate::tools::{Home, Tool, copy, expect_restored, fresh, quietly};
use anyhow::{Context, Result, ensure};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Snapshots of the tree, with one file in a hundred changed before each.
const SNAPSHOTS: u64 = 200;
const FILES_PER_CHANGED: u64 = 100;
/// Snapshots that are kept.
const KEPT: u64 = 20;
/// Increments before the restore.
const INCREMENTS: u64 = 30;

/// Regular files below `folder`, sorted.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            found.extend(files(&entry.path())?);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Appends a line to every hundredth file, others each time.
fn change(files: &[PathBuf], number: u64) -> Result<()> {
    for path in files.iter().skip((number % FILES_PER_CHANGED) as usize).step_by(FILES_PER_CHANGED as usize) {
        let mut file = std::fs::OpenOptions::new().append(true).open(path)?;
        writeln!(file, "/* change {number} */")?;
    }
    Ok(())
}

/// Takes `count` snapshots of `tree`, which changes between them.
fn fill(tool: &Tool, home: &Home, tree: &Path, count: u64) -> Result<()> {
    tool.init(home)?;
    let files = files(tree)?;
    for number in 0..count {
        change(&files, number)?;
        quietly(&mut tool.backup(home, tree))?;
    }
    Ok(())
}

/// The number of that name in the summary that `command` prints.
fn number_in_summary(command: &mut Command, name: &str) -> Result<f64> {
    let output = command.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let summary: serde_json::Value = serde_json::from_str(text.lines().last().context("no summary")?)?;
    summary[name].as_f64().with_context(|| format!("the summary has no {name}"))
}

pub(crate) fn collect(bench: &Bench) -> Result<RowResult> {
    let (tool, tree) = (bench.lifeboat(), bench.work.join("tree"));
    copy(&bench.corpus("linux/old")?, &tree)?;
    let (full, live) = (bench.home(&tool, "full"), bench.home(&tool, "live"));
    let count = bench.sized(SNAPSHOTS);
    fill(&tool, &full, &tree, count)?;
    let manifest = bench.manifest(&tree)?;
    let data = format!(
        "{}; {count} snapshots, one file in {FILES_PER_CHANGED} changed before each; {KEPT} are kept",
        manifest.describe()
    );
    let lifeboat = Participant::new("lifeboat", move |round| {
        copy(&full.0, &live.0)?;
        bench.warm(&live.repository())?;
        let command = |words: &[&str]| {
            let mut command = tool.command(&live);
            command.args(words);
            command
        };
        let kept = KEPT.to_string();
        let forgotten = bench.time(&Call::new(command(&["forget", "--keep-last", &kept])))?;
        let marked = bench.time(&Call::new(command(&["gc", "--dry-run"])))?;
        let planned = |name| number_in_summary(&mut command(&["gc", "--dry-run", "--json"]), name);
        let marked = marked.with("bytes read", Unit::Bytes, planned("bytes_read")?);
        let rewritten = planned("bytes_rewritten")?;
        let before = live.stored_bytes()?;
        let collected = bench.time(&Call::new(command(&["gc"])))?;
        let given_back = before.saturating_sub(live.stored_bytes()?);
        if round == 0 {
            tool.expect_restorable(&live, &tree, &manifest, &bench.work.join("restored"))?;
        }
        let collected = collected.with("rewritten, about", Unit::Bytes, rewritten);
        let collected = collected.with("given back", Unit::Bytes, given_back as f64);
        Ok(forgotten.named("forget").and(marked.named("mark")).and(collected.named("gc")))
    });
    bench.row("collect", data, vec![lifeboat])
}

pub(crate) fn increments(bench: &Bench) -> Result<RowResult> {
    let (tool, tree) = (bench.lifeboat(), bench.work.join("tree"));
    copy(&bench.corpus("linux/old")?, &tree)?;
    let (many, one) = (bench.home(&tool, "many"), bench.home(&tool, "one"));
    fill(&tool, &many, &tree, INCREMENTS + 1)?;
    tool.init(&one)?;
    quietly(&mut tool.backup(&one, &tree))?;
    let manifest = bench.manifest(&tree)?;
    let data = format!(
        "{}; the newest of {INCREMENTS} increments, and a snapshot without any; restored into {} each time",
        manifest.describe(),
        Room::describe(manifest.bytes)
    );
    let lifeboat = Participant::new("lifeboat", move |_| {
        let mut all = Sample::default();
        for (home, what) in [(&one, "fresh"), (&many, "after increments")] {
            let room = Room::make(&bench.work, manifest.bytes)?;
            let to = room.folder();
            fresh(&to)?;
            bench.warm(&home.repository())?;
            let sample = bench.time(&Call::new(tool.restore(home, &tree, &to)))?;
            expect_restored(&tree, &Manifest::of(&tree)?, &to)?;
            all = all.and(sample.named(what));
        }
        Ok(all)
    });
    bench.row("increments", data, vec![lifeboat])
}
