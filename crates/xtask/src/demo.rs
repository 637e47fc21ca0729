//! `cargo xtask demo`: lifeboat on real files, from the first snapshot to a restore that was compared byte by byte; then
//! on a database in a container.
//!
//! Must stay true: it uses the program as a user would, in a scratch folder that holds everything, repository, caches
//! and restored files; and it fails if a single byte or time of what was restored is wrong.

use crate::demo_data::{self, Changes};
use crate::demo_database;
use crate::demo_project;
use crate::failure::{Failure, Result, While};
use crate::place::Place;
use crate::step::{self, seconds};
use crate::{packages, trees};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What becomes of the scratch folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Afterwards {
    /// Everything is removed.
    Clean,
    /// Everything stays, to look around in.
    Keep,
}

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Files; everybody can.
    Files,
    /// Files, and a database in a container, which takes root.
    Everything,
}

/// The scratch folder and the program under demonstration.
pub(crate) struct Demo {
    scratch: PathBuf,
    program: PathBuf,
    afterwards: Afterwards,
}

impl Drop for Demo {
    fn drop(&mut self) {
        if self.afterwards == Afterwards::Clean {
            let _ = std::fs::remove_dir_all(&self.scratch);
        }
    }
}

/// Builds lifeboat and shows what it does.
pub(crate) fn run(place: &Place, part: Part, afterwards: Afterwards) -> Result<()> {
    packages::ensure_for_build()?;
    if part == Part::Everything {
        // Before anything is compiled: who may not start an engine learns it now.
        packages::ensure_for_engines().map_err(|failure| {
            Failure::new(format!(
                "{failure}\nHint: `cargo xtask demo --files` shows the half that takes no engine"
            ))
        })?;
    }
    println!(
        "The first build compiles RocksDB, which takes 10 to 15 minutes on two cores; later ones take seconds."
    );
    step::run("build lifeboat", &mut place.cargo("build --release --workspace --bin lifeboat"))?;
    let scratch = std::env::temp_dir().join(format!("lifeboat-demo-{}", std::process::id()));
    std::fs::create_dir(&scratch).while_doing(format_args!("make {}", scratch.display()))?;
    // The restored paths repeat this one: a link in it would lead elsewhere.
    let scratch = scratch.canonicalize().while_doing("find the scratch folder")?;
    let demo = Demo { scratch, program: place.target.join("release/lifeboat"), afterwards };
    let outcome = demo.show().and_then(|()| match part {
        Part::Files => Ok(()),
        Part::Everything => demo_database::show(place, &demo).and_then(|()| demo_project::show(place, &demo)),
    });
    if afterwards == Afterwards::Keep {
        println!("\nEverything is still in {}. To go on from here:", demo.scratch.display());
        println!("    export {}", demo.variables().map(|(name, value)| format!("{name}={value}")).join(" "));
        println!("    {} snapshots", demo.program.display());
    }
    outcome
}

impl Demo {
    fn show(&self) -> Result<()> {
        let (sources, pristine) = self.prepare()?;
        say("1. A new repository: where backups are kept, encrypted under a password.");
        self.lifeboat(&["init"])?;

        say("2. A first snapshot. Everything is read, cut into chunks, compressed, encrypted, stored once.");
        let begun = Instant::now();
        self.snapshot(&sources)?;
        let first_time = begun.elapsed();
        let first_size = self.repository_bytes()?;
        let first = self.only_snapshot_besides(None)?;

        say("3. Then life goes on: files are added, edited and removed.");
        let changes = change(&sources)?;

        say("4. A second snapshot. Files that did not change are not even read; only new chunks are stored.");
        let begun = Instant::now();
        self.snapshot(&sources)?;
        let second_time = begun.elapsed();
        let second_size = self.repository_bytes()?;
        let second = self.only_snapshot_besides(Some(&first))?;

        say("5. Both snapshots are complete. What there is, and what changed between them:");
        self.lifeboat(&["snapshots"])?;
        println!("$ lifeboat diff {first} {second}");
        print_beginning(&self.lifeboat_quietly(&["diff", &first, &second])?);

        say("6. Restore both, and compare every name, byte, permission, owner and time with the originals.");
        let begun = Instant::now();
        let (entries, bytes) =
            self.restore_and_compare(&[(&first, &pristine), (&second, &sources)], &sources)?;
        let restore_time = begun.elapsed();

        say("7. Check the repository: decrypt all of it and verify every chunk.");
        let begun = Instant::now();
        self.lifeboat(&["check", "--read-data"])?;

        println!("\nWhat happened");
        let protected: u64 = pristine.iter().map(|folder| trees::bytes_below(folder)).sum::<Result<u64>>()?;
        let row = |what: &str, bytes: Option<u64>, time: Duration| {
            let bytes = bytes.map_or(String::new(), megabytes);
            println!("  {what:<44} {bytes:>10}  {:>8}", seconds(time));
        };
        println!("  {:<44} {:>10}", "the folders that were protected", megabytes(protected));
        row("first snapshot; the repository was then", Some(first_size), first_time);
        let Changes { added, edited, removed } = changes;
        println!("  {:<44}", format!("changed: {added} added, {edited} edited, {removed} removed"));
        row(
            "second snapshot; the repository grew by",
            Some(second_size.saturating_sub(first_size)),
            second_time,
        );
        row("both restored and compared", Some(bytes), restore_time);
        row("all data read back and verified", Some(second_size), begun.elapsed());
        println!("\nAll {entries} restored files, folders and links are exactly what was protected.");
        Ok(())
    }

    /// Copies real folders twice: once to change, once to remember what they were.
    fn prepare(&self) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
        say(&format!("0. Copies of real folders to play with, in {}", self.scratch.display()));
        let copies = demo_data::copy(&self.scratch.join("source"))?;
        let pristine = self.scratch.join("pristine");
        let status = Command::new("cp")
            .args(["--archive", "--no-target-directory"])
            .arg(self.scratch.join("source"))
            .arg(&pristine)
            .status()
            .while_doing("start `cp`")?;
        if !status.success() {
            return Err(Failure::new("cannot copy the copies"));
        }
        let mut remembered = Vec::new();
        for (source, copy) in &copies {
            let files = trees::list(copy)?.len();
            println!("  {source}: {files} files and folders, {}", megabytes(trees::bytes_below(copy)?));
            remembered.push(pristine.join(copy.file_name().unwrap_or_default()));
        }
        Ok((copies.into_iter().map(|(_, copy)| copy).collect(), remembered))
    }

    fn snapshot(&self, sources: &[PathBuf]) -> Result<()> {
        let paths: Vec<String> = sources.iter().map(|source| source.display().to_string()).collect();
        let mut words = vec!["snapshot", "--tag", "demo"];
        words.extend(paths.iter().map(String::as_str));
        self.lifeboat(&words)
    }

    /// The id of the one snapshot that is listed besides `known`; the order of the listing does not matter then.
    fn only_snapshot_besides(&self, known: Option<&String>) -> Result<String> {
        let listing = self.lifeboat_quietly(&["snapshots"])?;
        match ids(&listing).iter().filter(|id| Some(*id) != known).collect::<Vec<_>>().as_slice() {
            [id] => Ok((*id).clone()),
            found => {
                Err(Failure::new(format!("one snapshot was made, but {} are listed\n{listing}", found.len())))
            }
        }
    }

    /// Restores whole snapshots and compares each source; how many entries and bytes were the same.
    fn restore_and_compare(
        &self,
        snapshots: &[(&String, &Vec<PathBuf>)],
        sources: &[PathBuf],
    ) -> Result<(u64, u64)> {
        let (mut entries, mut bytes) = (0, 0);
        for (id, originals) in snapshots {
            let to = self.scratch.join(format!("restored-{id}"));
            self.lifeboat(&["restore", id, "--to", &to.display().to_string()])?;
            for (source, original) in sources.iter().zip(*originals) {
                let restored = to.join(source.strip_prefix("/").unwrap_or(source));
                let comparison = trees::compare(original, &restored)?;
                if !comparison.differences.is_empty() {
                    return Err(differing(id, original, &restored, &comparison.differences));
                }
                entries += comparison.entries;
                bytes += comparison.bytes;
            }
        }
        Ok((entries, bytes))
    }

    fn repository_bytes(&self) -> Result<u64> {
        trees::bytes_below(&self.scratch.join("repository"))
    }

    /// Everything lifeboat keeps, it keeps in the scratch folder: nothing of the user's is read or left behind.
    fn variables(&self) -> [(&'static str, String); 5] {
        let inside = |name: &str| self.scratch.join(name).display().to_string();
        [
            ("LIFEBOAT_REPOSITORY", inside("repository")),
            ("LIFEBOAT_PASSWORD", "demo".to_owned()),
            ("XDG_CACHE_HOME", inside("cache")),
            ("XDG_STATE_HOME", inside("state")),
            ("XDG_CONFIG_HOME", inside("config")),
        ]
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        for name in ["LIFEBOAT_PASSWORD_FILE", "LIFEBOAT_PASSWORD_COMMAND", "LIFEBOAT_KEY_FILE"] {
            command.env_remove(name);
        }
        command.args(words).envs(self.variables()).stdin(Stdio::null());
        command
    }

    fn lifeboat(&self, words: &[&str]) -> Result<()> {
        self.lifeboat_with(words, &[])
    }

    /// The folder that everything lies in.
    pub(crate) fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Runs it as a user would, with more variables.
    pub(crate) fn lifeboat_with(&self, words: &[&str], variables: &[(&str, &str)]) -> Result<()> {
        println!("$ lifeboat {}", words.join(" "));
        let status =
            self.command(words).envs(variables.iter().copied()).status().while_doing("start lifeboat")?;
        if status.success() { Ok(()) } else { Err(failed(words, &status.to_string())) }
    }

    /// As [`Self::lifeboat_with`]; what it said is shown, and given.
    pub(crate) fn lifeboat_answer(&self, words: &[&str], variables: &[(&str, &str)]) -> Result<String> {
        println!("$ lifeboat {}", words.join(" "));
        let mut command = self.command(words);
        command.envs(variables.iter().copied()).stderr(Stdio::inherit());
        let output = command.output().while_doing("start lifeboat")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        print!("{text}");
        if output.status.success() { Ok(text) } else { Err(failed(words, &output.status.to_string())) }
    }

    fn lifeboat_quietly(&self, words: &[&str]) -> Result<String> {
        let output = self.command(words).stderr(Stdio::inherit()).output().while_doing("start lifeboat")?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(failed(words, &output.status.to_string()))
        }
    }
}

fn change(sources: &[PathBuf]) -> Result<Changes> {
    let mut sum = Changes { added: 0, edited: 0, removed: 0 };
    for source in sources {
        let changes = demo_data::change(source)?;
        sum.added += changes.added;
        sum.edited += changes.edited;
        sum.removed += changes.removed;
    }
    println!("  {} files added, {} edited, {} removed", sum.added, sum.edited, sum.removed);
    Ok(sum)
}

fn failed(words: &[&str], status: &str) -> Failure {
    Failure::new(format!(
        "`lifeboat {}` ended with {status}\nHint: `cargo xtask demo --keep` leaves everything in place to look at",
        words.join(" ")
    ))
}

fn differing(id: &str, original: &Path, restored: &Path, differences: &[String]) -> Failure {
    let shown: String = differences.iter().take(20).map(|difference| format!("    {difference}\n")).collect();
    Failure::new(format!(
        "{} differences between {} and what snapshot {id} restored to {}\n{shown}",
        differences.len(),
        original.display(),
        restored.display()
    ))
}

pub(crate) fn say(words: &str) {
    println!("\n{words}");
}

/// The first lines of a long answer.
fn print_beginning(text: &str) {
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().take(12).for_each(|line| println!("{line}"));
    if lines.len() > 13 {
        println!("… {} more lines, the last of them:\n{}", lines.len() - 13, lines[lines.len() - 1]);
    }
}

/// The snapshot ids in a listing: hexadecimal words at the beginning of its lines, in the order listed.
fn ids(listing: &str) -> Vec<String> {
    listing
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|word| word.len() >= 8 && word.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .map(str::to_owned)
        .collect()
}

pub(crate) fn megabytes(bytes: u64) -> String {
    if bytes < 1_000_000 {
        format!("{:.1} kB", bytes as f64 / 1e3)
    } else {
        format!("{:.1} MB", bytes as f64 / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_in_a_table_and_nothing_else_is() {
        let listing = "ID        Time        Host\n--------  ----\n0123abcd  2026-11-22  box\nfeedbeef  x\n2 snapshots\n";
        assert_eq!(ids(listing), ["0123abcd", "feedbeef"]);
    }
}
