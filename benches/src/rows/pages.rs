//! Cutting database files at their pages, against cutting them by content.
//!
//! Must stay true: both get the same bytes. The program has no switch that forbids pages, so the other side gets each
//! file behind a line of text: no recogniser takes that for pages, and cutting by content does not care what stands
//! before.

use crate::bench::Bench;
use crate::manifest::Manifest;
use crate::meter::Call;
use crate::results::{RowResult, Unit};
use crate::rounds::{Participant, Sample, median_of};
use crate::rows::database::become_in_place;
use crate::tools::{Tool, copy, remove};
use anyhow::Result;
use std::fs::{File, FileTimes};
use std::io::Write;
use std::path::{Path, PathBuf};

/// What stands before a file that is to be cut by content; its length is no multiple of anything.
const LINE: &[u8] =
    b"The file behind this line is cut by content, because a file that begins with a line is text.\n";
/// Databases, and whether they are there only where their server is installed.
const DATABASES: [(&str, Option<&str>); 4] =
    [("postgres", None), ("sqlite", None), ("innodb", Some("mariadbd")), ("bbolt", Some("etcd"))];

/// How often each is measured in a round: some are too small to be told from what else the machine does meanwhile.
fn calls_of(database: &str) -> usize {
    if database == "postgres" { 1 } else { 5 }
}

/// Whether a program can be found.
fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .any(|folder| folder.join(program).is_file())
}

/// Puts the line before each file.
fn disguise(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let (entry, path) = entry.map(|entry| (entry.file_type(), entry.path()))?;
        let kind = entry?;
        if kind.is_dir() {
            disguise(&path)?;
        } else if kind.is_file() {
            let modified = path.metadata()?.modified()?;
            let new = path.with_extension("disguised");
            let mut file = File::create(&new)?;
            file.write_all(LINE)?;
            std::io::copy(&mut File::open(&path)?, &mut file)?;
            file.set_times(FileTimes::new().set_modified(modified))?;
            std::fs::rename(&new, &path)?;
        }
    }
    Ok(())
}

/// One database on one side: before and after its transactions.
struct Versions {
    name: &'static str,
    before: PathBuf,
    after: PathBuf,
}

pub(crate) fn pages(bench: &Bench) -> Result<RowResult> {
    let (mut as_it_is, mut disguised, mut data) = (Vec::new(), Vec::new(), Vec::new());
    for (name, server) in DATABASES {
        if server.is_some_and(|server| !is_installed(server)) {
            data.push(format!("{name} not measured: no server is installed"));
            continue;
        }
        let corpora = [bench.corpus(&format!("{name}/v1"))?, bench.corpus(&format!("{name}/v1000"))?];
        let [before, after] = corpora.clone();
        data.push(format!("{name}: {}", bench.manifest(&before)?.describe()));
        as_it_is.push(Versions { name, before, after });
        let [before, after] = ["v1", "v1000"].map(|version| bench.work.join(format!("{name}-{version}")));
        for (corpus, copied) in corpora.iter().zip([&before, &after]) {
            copy(corpus, copied)?;
            disguise(copied)?;
        }
        disguised.push(Versions { name, before, after });
    }
    let side = |who: &'static str, all: Vec<Versions>| {
        let tool = bench.lifeboat();
        Participant::new(who, move |round| {
            let mut sum = Sample::default();
            for versions in &all {
                let calls =
                    (0..calls_of(versions.name)).map(|_| two_snapshots(bench, &tool, versions, round));
                sum = sum.and(median_of(calls.collect::<Result<_>>()?));
            }
            Ok(sum)
        })
    };
    let participants = vec![side("lifeboat", as_it_is), side("lifeboat, by content", disguised)];
    bench.row("pages", data.join("; "), participants)
}

/// Before, and after the transactions, at the same path.
fn two_snapshots(bench: &Bench, tool: &Tool, versions: &Versions, round: usize) -> Result<Sample> {
    let (live, home) = (bench.work.join("live"), bench.home(tool, "pages"));
    copy(&versions.before, &live)?;
    tool.init(&home)?;
    bench.warm(&live)?;
    let first = bench.time(&Call::new(tool.backup(&home, &live)))?;
    let stored = home.stored_bytes()?;
    become_in_place(&live, &versions.after)?;
    bench.warm(&live)?;
    let again = bench.time(&Call::new(tool.backup(&home, &live)))?;
    let added = home.stored_bytes()?.saturating_sub(stored);
    if round == 0 {
        tool.expect_restorable(&home, &live, &Manifest::of(&live)?, &bench.work.join("restored"))?;
    }
    remove(&home.0)?;
    let first = first.with("stored", Unit::Bytes, stored as f64).named(&format!("{} first", versions.name));
    let again = again.with("added", Unit::Bytes, added as f64).named(&format!("{} again", versions.name));
    Ok(first.and(again))
}
