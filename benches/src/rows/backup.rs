//! Snapshots of a kernel tree: the first, another without changes, and one where everything was touched.

use crate::bench::Bench;
use crate::manifest::Manifest;
use crate::meter::Call;
use crate::results::{RowResult, Unit};
use crate::room::Room;
use crate::rounds::{Participant, Sample};
use crate::tools::{Home, Tool, copy, fresh, quietly, remove};
use anyhow::Result;
use std::path::Path;
use std::process::Command;

/// A row about the first snapshot of a folder, with the limit `tar | zstd`.
pub(crate) fn first_of(bench: &Bench, name: &str, source: &Path) -> Result<RowResult> {
    let manifest = bench.manifest(source)?;
    let mut participants = vec![tar_zstd(bench, source)];
    for tool in bench.tools()? {
        let manifest = manifest.clone();
        participants.push(Participant::new(tool.name(), move |round| {
            let home = bench.home(&tool, "first");
            tool.init(&home)?;
            bench.warm(source)?;
            let sample = bench.time(&Call::new(tool.backup(&home, source)))?;
            if round == 0 {
                let room = Room::make(&bench.work, manifest.bytes)?;
                tool.expect_restorable(&home, source, &manifest, &room.folder())?;
            }
            let stored = home.stored_bytes()?;
            remove(&home.0)?;
            Ok(sample.with("stored", Unit::Bytes, stored as f64))
        }));
    }
    bench.row(name, manifest.describe(), participants)
}

/// What a stream compressor on all cores needs, without cutting, naming, sealing or syncing.
fn tar_zstd<'b>(bench: &'b Bench, source: &Path) -> Participant<'b> {
    let source = source.to_owned();
    Participant::new("tar | zstd", move |_| {
        let archive = bench.work.join("archive.tar.zst");
        let line = format!("tar -cf - . | zstd -q -3 -T2 > {}", archive.display());
        bench.warm(&source)?;
        let sample = bench.time(&Call::shell(&source, &line))?;
        let stored = archive.metadata()?.len();
        remove(&archive)?;
        Ok(sample.with("stored", Unit::Bytes, stored as f64))
    })
}

pub(crate) fn first(bench: &Bench) -> Result<RowResult> {
    first_of(bench, "first", &bench.corpus("linux/old")?)
}

pub(crate) fn again(bench: &Bench) -> Result<RowResult> {
    let source = bench.corpus("linux/old")?;
    let manifest = bench.manifest(&source)?;
    let mut participants = vec![find_printf(bench, &source)];
    for tool in bench.tools()? {
        let home = bench.home(&tool, "again");
        tool.init(&home)?;
        quietly(&mut tool.backup(&home, &source))?;
        let (source, manifest) = (source.clone(), manifest.clone());
        participants.push(Participant::new(tool.name(), move |round| {
            let sample = more(bench, &tool, &home, &source)?;
            if round == 0 {
                let room = Room::make(&bench.work, manifest.bytes)?;
                tool.expect_restorable(&home, &source, &manifest, &room.folder())?;
            }
            Ok(sample)
        }));
    }
    bench.row("again", manifest.describe(), participants)
}

/// What looking at every file costs, and nothing else.
pub(crate) fn find_printf<'b>(bench: &'b Bench, source: &Path) -> Participant<'b> {
    let source = source.to_owned();
    Participant::new("find -printf", move |_| {
        let line = r"find . -printf '%p %s %T@ %C@ %i %m\n' > /dev/null";
        bench.warm(&source)?;
        bench.time(&Call::shell(&source, line))
    })
}

/// One more snapshot in a repository that grows by it.
fn more(bench: &Bench, tool: &Tool, home: &Home, source: &Path) -> Result<Sample> {
    bench.warm(source)?;
    let before = home.stored_bytes()?;
    let sample = bench.time(&Call::new(tool.backup(home, source)))?;
    let after = home.stored_bytes()?;
    Ok(sample.with("added", Unit::Bytes, after.saturating_sub(before) as f64))
}

/// A row about the second snapshot of a folder that `change` has changed after the first, each round from the same
/// state: the home is put back between rounds.
pub(crate) fn changed(
    bench: &Bench,
    name: &str,
    live: &Path,
    change: impl FnOnce(&Path) -> Result<()>,
    limits: Vec<Participant<'_>>,
) -> Result<RowResult> {
    let tools = bench.tools()?;
    for tool in &tools {
        let home = bench.home(tool, "live");
        tool.init(&home)?;
        quietly(&mut tool.backup(&home, live))?;
        copy(&home.0, &bench.home(tool, "kept").0)?;
    }
    change(live)?;
    let manifest = std::rc::Rc::new(Manifest::of(live)?);
    let mut participants = limits;
    for tool in tools {
        let manifest = manifest.clone();
        participants.push(Participant::new(tool.name(), move |round| {
            let home = bench.home(&tool, "live");
            copy(&bench.home(&tool, "kept").0, &home.0)?;
            let sample = more(bench, &tool, &home, live)?;
            if round == 0 {
                let room = Room::make(&bench.work, manifest.bytes)?;
                tool.expect_restorable(&home, live, &manifest, &room.folder())?;
            }
            Ok(sample)
        }));
    }
    bench.row(name, manifest.describe(), participants)
}

pub(crate) fn touched(bench: &Bench) -> Result<RowResult> {
    let (old, new) = (bench.corpus("linux/old")?, bench.corpus("linux/new")?);
    let live = bench.work.join("tree");
    copy(&old, &live)?;
    let change = |live: &Path| {
        fresh(live)?;
        copy(&new, live)?;
        quietly(Command::new("find").arg(live).args(["-exec", "touch", "--no-dereference", "{}", "+"]))
    };
    let source = live.clone();
    let read_all = Participant::new("tar to /dev/null", move |_| {
        bench.warm(&source)?;
        // Through `cat`: tar does not read what it is told to throw away.
        bench.time(&Call::shell(&source, "tar -cf - . | cat > /dev/null"))
    });
    changed(bench, "touched", &live, change, vec![read_all])
}
