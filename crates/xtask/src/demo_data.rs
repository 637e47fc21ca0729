//! Real folders to try lifeboat on: copies, so that the demonstration can change them.
//!
//! Must stay true: nothing outside the scratch folder is ever written.

use crate::failure::{Failure, Result, While};
use crate::trees;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Folders that most machines have, best first; the first two that exist are taken.
const CANDIDATES: &[&str] =
    &["/usr/include", "/etc", "/usr/share/doc", "/usr/lib/python3", "/usr/share/zoneinfo"];

/// Copies two real folders into `into`; their copies, with where they come from.
pub(crate) fn copy(into: &Path) -> Result<Vec<(&'static str, PathBuf)>> {
    fs::create_dir_all(into).while_doing("make a folder for the copies")?;
    let sources = CANDIDATES
        .iter()
        .copied()
        .filter(|folder| fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()));
    let mut copies = Vec::new();
    for source in sources.take(2) {
        let copy = into.join(source.trim_start_matches('/').replace('/', "-"));
        // Somebody who is not root cannot read all of /etc: what `cp` leaves out is not part of the demonstration.
        let status = Command::new("cp")
            .args(["--archive", "--no-target-directory", source])
            .arg(&copy)
            .stderr(Stdio::null())
            .status()
            .while_doing("start `cp`")?;
        if !status.success() {
            println!("  (some files of {source} cannot be read by this user; they are left out)");
        }
        copies.push((source, copy));
    }
    if copies.is_empty() {
        return Err(Failure::new(format!("none of {} is here to copy", CANDIDATES.join(", "))));
    }
    Ok(copies)
}

/// How much was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) added: usize,
    pub(crate) edited: usize,
    pub(crate) removed: usize,
}

/// Adds, edits and removes some files below `folder`, always the same ones.
pub(crate) fn change(folder: &Path) -> Result<Changes> {
    let files: Vec<PathBuf> = trees::list(folder)?
        .into_iter()
        .filter(|(_, metadata)| {
            metadata.is_file() && metadata.len() > 0 && !metadata.permissions().readonly()
        })
        .map(|(relative, _)| folder.join(relative))
        .collect();
    let every_hundredth = |first: usize| files.iter().skip(first).step_by(100).take(20);
    let mut changes = Changes { added: 0, edited: 0, removed: 0 };
    for path in every_hundredth(0) {
        let doing = || format!("edit {}", path.display());
        let mut file = fs::File::options().append(true).open(path).while_doing(doing())?;
        file.write_all(b"\n# one more line\n").while_doing(doing())?;
        changes.edited += 1;
    }
    for path in every_hundredth(50) {
        fs::remove_file(path).while_doing(format_args!("remove {}", path.display()))?;
        changes.removed += 1;
    }
    let added = folder.join("added by the demonstration");
    fs::create_dir_all(&added).while_doing("add a folder")?;
    for number in 0..5 {
        let text = format!("file {number}\n").repeat(1000 * (number + 1));
        fs::write(added.join(format!("{number}.txt")), text).while_doing("add a file")?;
        changes.added += 1;
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_adds_edits_and_removes() {
        let folder = std::env::temp_dir().join(format!("lifeboat-change-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        (0..120).for_each(|number| fs::write(folder.join(format!("{number:03}")), b"x").unwrap());
        let changes = change(&folder);
        let left = trees::list(&folder).unwrap();
        let edited = left.values().filter(|metadata| metadata.is_file() && metadata.len() == 18).count();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(changes.unwrap(), Changes { added: 5, edited: 2, removed: 1 });
        assert_eq!((edited, left.len()), (2, 1 + 119 + 1 + 5));
    }
}
