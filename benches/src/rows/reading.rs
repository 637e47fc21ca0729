//! Getting things back: restoring a kernel tree, and verifying all that is stored of it.

use crate::bench::Bench;
use crate::meter::Call;
use crate::results::RowResult;
use crate::rounds::Participant;
use crate::tools::{Home, Tool, expect_restored, fresh, quietly, remove};
use anyhow::Result;
use std::path::Path;
use std::process::Command;

/// Each tool with a repository that holds one snapshot of `source`.
fn filled(bench: &Bench, source: &Path) -> Result<Vec<(Tool, Home)>> {
    let mut filled = Vec::new();
    for tool in bench.tools()? {
        let home = bench.home(&tool, "filled");
        tool.init(&home)?;
        quietly(&mut tool.backup(&home, source))?;
        filled.push((tool, home));
    }
    Ok(filled)
}

pub(crate) fn restore(bench: &Bench) -> Result<RowResult> {
    let source = bench.corpus("linux/old")?;
    let manifest = bench.manifest(&source)?;
    let mut participants = vec![copying(bench, &source)];
    for (tool, home) in filled(bench, &source)? {
        let (source, manifest) = (source.clone(), manifest.clone());
        participants.push(Participant::new(tool.name(), move |_| {
            let to = bench.work.join("restored");
            fresh(&to)?;
            bench.warm(&home.repository())?;
            let sample = bench.time(&Call::new(tool.restore(&home, &source, &to)))?;
            expect_restored(&source, &manifest, &to)?;
            remove(&to)?;
            Ok(sample)
        }));
    }
    bench.row("restore", manifest.describe(), participants)
}

/// What writing the files costs when nothing has to be decoded.
fn copying<'b>(bench: &'b Bench, source: &Path) -> Participant<'b> {
    let source = source.to_owned();
    Participant::new("cp -a", move |_| {
        let to = bench.work.join("copied");
        let mut command = Command::new("cp");
        command.args(["--archive", "--no-target-directory"]).arg(&source).arg(&to);
        bench.warm(&source)?;
        let sample = bench.time(&Call::new(command))?;
        remove(&to)?;
        Ok(sample)
    })
}

pub(crate) fn verify(bench: &Bench) -> Result<RowResult> {
    let source = bench.corpus("linux/old")?;
    let manifest = bench.manifest(&source)?;
    let mut participants = Vec::new();
    for (tool, home) in filled(bench, &source)? {
        let (source, manifest) = (source.clone(), manifest.clone());
        participants.push(Participant::new(tool.name(), move |round| {
            if round == 0 {
                tool.expect_restorable(&home, &source, &manifest, &bench.work.join("restored"))?;
            }
            bench.warm(&home.repository())?;
            bench.time(&Call::new(tool.check(&home)))
        }));
    }
    bench.row("verify", manifest.describe(), participants)
}
