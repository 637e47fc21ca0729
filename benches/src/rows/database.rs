//! A PostgreSQL data folder, before and after 1,000 transactions.
//!
//! Must stay true: the database is changed as the server changes it, by writing into the files that are there. A file
//! that the transactions did not touch keeps its inode and times, as it does in life.

use crate::bench::Bench;
use crate::results::RowResult;
use crate::rows::backup::{changed, first_of};
use crate::tools::{copy, remove};
use anyhow::{Context, Result};
use std::fs::{File, FileTimes};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

pub(crate) fn first(bench: &Bench) -> Result<RowResult> {
    first_of(bench, "postgres-first", &bench.corpus("postgres/v1")?)
}

pub(crate) fn again(bench: &Bench) -> Result<RowResult> {
    let (before, after) = (bench.corpus("postgres/v1")?, bench.corpus("postgres/v1000")?);
    let live = bench.work.join("data");
    copy(&before, &live)?;
    changed(bench, "postgres-again", &live, |live| become_in_place(live, &after), Vec::new())
}

/// Makes `live` equal to `goal` by writing into existing files.
pub(crate) fn become_in_place(live: &Path, goal: &Path) -> Result<()> {
    for entry in std::fs::read_dir(goal).with_context(|| format!("cannot read {}", goal.display()))? {
        let entry = entry?;
        let (from, to) = (entry.path(), live.join(entry.file_name()));
        let wanted = from.symlink_metadata()?;
        match to.symlink_metadata() {
            Ok(found) if wanted.is_dir() && found.is_dir() => become_in_place(&to, &from)?,
            Ok(found) if wanted.is_file() && found.is_file() => {
                let same = |first: &std::fs::Metadata, second: &std::fs::Metadata| {
                    (first.len(), first.mtime(), first.mtime_nsec())
                        == (second.len(), second.mtime(), second.mtime_nsec())
                };
                if !same(&wanted, &found) {
                    let mut file = File::options().write(true).truncate(true).open(&to)?;
                    std::io::copy(&mut File::open(&from)?, &mut file)?;
                    file.set_times(FileTimes::new().set_modified(wanted.modified()?))?;
                }
            }
            _ => copy(&from, &to)?,
        }
    }
    for entry in std::fs::read_dir(live)? {
        let entry = entry?;
        if goal.join(entry.file_name()).symlink_metadata().is_err() {
            remove(&entry.path())?;
        }
    }
    File::open(live)?.set_times(FileTimes::new().set_modified(goal.metadata()?.modified()?))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifest;
    use std::fs;

    #[test]
    fn a_folder_becomes_another_and_what_is_equal_keeps_its_inode() {
        let scratch = tempfile::tempdir().unwrap();
        let (live, goal) = (scratch.path().join("live"), scratch.path().join("goal"));
        fs::create_dir_all(live.join("base")).unwrap();
        fs::write(live.join("base/same"), b"same").unwrap();
        fs::write(live.join("base/gone"), b"gone").unwrap();
        fs::write(live.join("base/grows"), b"a").unwrap();
        copy(&live, &goal).unwrap();
        fs::remove_file(goal.join("base/gone")).unwrap();
        fs::write(goal.join("base/grows"), b"aa").unwrap();
        fs::write(goal.join("base/new"), b"new").unwrap();
        let inode = |name: &str| live.join(name).metadata().unwrap().ino();
        let before = (inode("base/same"), inode("base/grows"));
        become_in_place(&live, &goal).unwrap();
        Manifest::of(&goal).unwrap().expect_same(&Manifest::of(&live).unwrap()).unwrap();
        assert_eq!((inode("base/same"), inode("base/grows")), before);
    }
}
