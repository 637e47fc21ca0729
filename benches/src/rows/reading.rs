//! Getting things back: restoring a kernel tree, and verifying all that is stored of it.

use crate::bench::Bench;
use crate::meter::Call;
use crate::results::RowResult;
use crate::room::Room;
use crate::rounds::Participant;
use crate::tools::{Home, Tool, expect_restored, fresh, quietly};
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
    let bytes = manifest.bytes;
    let mut participants = vec![copying(bench, &source, bytes)];
    for (tool, home) in filled(bench, &source)? {
        let (source, manifest) = (source.clone(), manifest.clone());
        participants.push(Participant::new(tool.name(), move |_| {
            let room = Room::make(&bench.work, bytes)?;
            let to = room.folder();
            fresh(&to)?;
            bench.warm(&home.repository())?;
            let sample = bench.time(&Call::new(tool.restore(&home, &source, &to)))?;
            expect_restored(&source, &manifest, &to)?;
            Ok(sample)
        }));
    }
    let data = format!("{}, restored into {} each time", manifest.describe(), Room::describe(bytes));
    bench.row("restore", data, participants)
}

/// What writing the files costs when nothing has to be decoded.
fn copying<'b>(bench: &'b Bench, source: &Path, bytes: u64) -> Participant<'b> {
    let source = source.to_owned();
    Participant::new("cp -a", move |_| {
        let room = Room::make(&bench.work, bytes)?;
        let to = room.folder();
        let mut command = Command::new("cp");
        command.args(["--archive", "--no-target-directory"]).arg(&source).arg(&to);
        bench.warm(&source)?;
        bench.time(&Call::new(command))
    })
}

/// Verifying all stored bytes without any key.
fn scrub<'b>(bench: &'b Bench, source: &Path) -> Result<Participant<'b>> {
    let tool = bench.lifeboat();
    let home = bench.home(&tool, "scrubbed");
    tool.init(&home)?;
    quietly(&mut tool.backup(&home, source))?;
    Ok(Participant::new("lifeboat scrub", move |_| {
        bench.warm(&home.repository())?;
        let mut command = tool.command(&home);
        command.env_remove("LIFEBOAT_KEY_FILE").arg("scrub");
        bench.time(&Call::new(command))
    }))
}

pub(crate) fn verify(bench: &Bench) -> Result<RowResult> {
    let source = bench.corpus("linux/old")?;
    let manifest = bench.manifest(&source)?;
    let mut participants = Vec::new();
    for (tool, home) in filled(bench, &source)? {
        let (source, manifest) = (source.clone(), manifest.clone());
        participants.push(Participant::new(tool.name(), move |round| {
            if round == 0 {
                let room = Room::make(&bench.work, manifest.bytes)?;
                tool.expect_restorable(&home, &source, &manifest, &room.folder())?;
            }
            bench.warm(&home.repository())?;
            bench.time(&Call::new(tool.check(&home)))
        }));
    }
    participants.push(scrub(bench, &source)?);
    bench.row("verify", manifest.describe(), participants)
}
