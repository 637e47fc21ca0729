//! The system calls below a local store: their order, their number, and what is left when one fails or is the last.
//!
//! `strace` watches `examples/put_one.rs` and makes calls fail where a disk would.

#![allow(clippy::unwrap_used, reason = "a test fails where it is surprised, in its own functions, too")]

use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const STRACE: &str = "/usr/bin/strace";
const WATCHED: &str = "openat,write,fsync,fdatasync,rename,renameat,renameat2,link,linkat,mkdir,mkdirat,unlink,unlinkat,fadvise64";

fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().parent().unwrap().join("examples/put_one");
    assert!(
        path.exists(),
        "`cargo test --test` builds no examples: first `cargo build --release --example put_one`"
    );
    path
}

struct Repository(TempDir);

/// What a traced run did.
struct Run {
    /// Its system calls, without the process id, paths made relative to the repository.
    calls: Vec<String>,
    /// What it printed.
    said: String,
}

impl Repository {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let repository = Self(folder);
        assert_eq!(repository.plain(&["create"]), "ok\n");
        repository
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("repository")
    }

    fn command(&self, mut command: Command, arguments: &[&str]) -> String {
        command.arg(arguments[0]).arg(self.path()).args(&arguments[1..]);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    }

    fn plain(&self, arguments: &[&str]) -> String {
        self.command(Command::new(example()), arguments)
    }

    /// Runs the example under strace; `inject` is what `-e inject=` takes.
    fn traced(&self, inject: &[&str], arguments: &[&str]) -> Run {
        assert!(Path::new(STRACE).exists(), "install strace: this test needs {STRACE}");
        let output = self.0.path().join("trace");
        let mut command = Command::new(STRACE);
        command.arg("-f").arg("-y").arg("-o").arg(&output).arg("-e").arg(format!("trace={WATCHED}"));
        command.args(inject.iter().flat_map(|inject| ["-e".to_owned(), format!("inject={inject}")]));
        command.arg(example());
        let said = self.command(command, arguments);
        let trace = std::fs::read_to_string(&output).unwrap();
        let root = format!("{}", self.path().display());
        let calls = trace
            .lines()
            .filter(|line| line.contains(&root))
            .map(|line| line.split_once(' ').unwrap().1.trim_start().replace(&root, "ROOT"))
            .collect();
        Run { calls, said }
    }

    fn temporary_files(&self) -> usize {
        std::fs::read_dir(self.path().join("tmp")).unwrap().count()
    }
}

impl Run {
    /// Position of the only call that begins with the first of these words and has the others.
    #[track_caller]
    fn position(&self, words: &[&str]) -> usize {
        let found = self.positions(words);
        assert_eq!(found.len(), 1, "{words:?} in {:#?}", self.calls);
        found[0]
    }

    fn positions(&self, words: &[&str]) -> Vec<usize> {
        let has_all = |call: &str| call.starts_with(words[0]) && words.iter().all(|word| call.contains(word));
        (0..self.calls.len()).filter(|call| has_all(&self.calls[*call])).collect()
    }

    fn fsyncs(&self) -> usize {
        self.positions(&["fsync("]).len()
    }
}

#[test]
fn a_file_is_synced_before_it_is_named_and_its_folder_after() {
    for act in ["put", "spool"] {
        let repository = Repository::new();
        let run = repository.traced(&[], &[act, "snapshots"]);
        if act == "spool" {
            // 20 MB are more than a snapshot may have; what is looked at is a pack.
            assert!(run.said.starts_with("Usage"), "{}", run.said);
        }
        let run = repository.traced(&[], &[act, "packs"]);
        assert_eq!(run.said, "ok\n");
        let written = *run.positions(&["write(", "/tmp/spool-"]).last().unwrap();
        let synced = run.position(&["fsync(", "<ROOT/tmp/spool-"]);
        let named = run.position(&["renameat2(", "RENAME_NOREPLACE", " = 0"]);
        let folder = run.position(&["fsync(", "<ROOT/packs/a>"]);
        let parent = run.position(&["fsync(", "<ROOT/packs>"]);
        assert!(written < synced && synced < named && named < folder && folder < parent, "{:#?}", run.calls);
        assert_eq!(run.fsyncs(), 3, "file, new folder, its parent: {:#?}", run.calls);
    }
}

#[test]
fn a_small_object_costs_two_fsyncs_and_a_delete_one() {
    let repository = Repository::new();
    assert_eq!(repository.traced(&[], &["put", "snapshots"]).fsyncs(), 2);
    // The name may be there by somebody who died before the sync of its folder.
    assert_eq!(repository.traced(&[], &["put", "snapshots"]).fsyncs(), 2);
    for _ in 0..2 {
        let run = repository.traced(&[], &["delete", "snapshots"]);
        assert!(run.position(&["unlinkat("]) < run.position(&["fsync(", "<ROOT/snapshots>"]));
        assert_eq!(run.fsyncs(), 1);
    }
}

#[test]
fn a_new_repository_is_durable_with_its_own_name() {
    let folder = TempDir::new().unwrap();
    let repository = Repository(folder);
    let run = repository.traced(&[], &["create"]);
    assert_eq!(run.said, "ok\n");
    let made = *run.positions(&["mkdirat("]).last().unwrap();
    let config = run.position(&["renameat2("]);
    let synced = run.positions(&["fsync(", "<ROOT>"]);
    assert!(made < synced[0] && synced[0] < config && config < synced[1], "{:#?}", run.calls);
    // The parent's path does not have the repository's in it: `calls` leaves it out.
    let trace = std::fs::read_to_string(repository.0.path().join("trace")).unwrap();
    let parent = format!("<{}>)", repository.0.path().display());
    assert!(trace.lines().any(|line| line.contains("fsync(") && line.contains(&parent)), "{trace}");
}

#[test]
fn a_spool_is_written_back_while_it_grows() {
    let run = Repository::new().traced(&[], &["spool", "packs"]);
    assert_eq!(
        run.positions(&["fadvise64(", "/tmp/spool-", "POSIX_FADV_DONTNEED"]).len(),
        2,
        "{:#?}",
        run.calls
    );
}

#[test]
fn a_put_whose_fsync_fails_writes_a_new_file_and_never_syncs_the_old_one_again() {
    let repository = Repository::new();
    let run = repository.traced(&["fsync:error=EIO:when=1"], &["put", "snapshots"]);
    assert_eq!(run.said, "ok\n");
    let synced = run.positions(&["fsync(", "<ROOT/tmp/spool-"]);
    let path = |call: usize| run.calls[call].split_once("<ROOT/").unwrap().1.split_once('>').unwrap().0;
    assert_eq!(synced.len(), 2, "{:#?}", run.calls);
    assert_ne!(path(synced[0]), path(synced[1]));
    let named = run.position(&["renameat2("]);
    assert!(run.calls[named].contains(path(synced[1])), "{:#?}", run.calls);
    assert_eq!(repository.temporary_files(), 0);
    assert!(repository.plain(&["list", "snapshots"]).contains("whole\nok"));
}

#[test]
fn a_sync_that_keeps_failing_is_an_error_and_nothing_is_listed() {
    for (act, kind, when) in [("put", "snapshots", "1+"), ("spool", "packs", "1"), ("spool", "packs", "1+")] {
        let repository = Repository::new();
        let run = repository.traced(&[&format!("fsync:error=EIO:when={when}")], &[act, kind]);
        assert!(run.said.starts_with("Unavailable: cannot sync "), "{}", run.said);
        assert!(run.said.contains("Input/output error"), "{}", run.said);
        assert!(run.positions(&["renameat2("]).is_empty());
        assert_eq!(repository.plain(&["list", kind]), "ok\n");
        assert_eq!(repository.temporary_files(), 0);
        assert_eq!(repository.plain(&[act, kind]), "ok\n", "it can be done again");
    }
}

#[test]
fn a_folder_whose_sync_fails_is_no_success() {
    for when in [2, 3] {
        let repository = Repository::new();
        let run = repository.traced(&[&format!("fsync:error=EIO:when={when}")], &["put", "packs"]);
        assert!(run.said.starts_with("Unavailable: cannot sync folder "), "{}", run.said);
        assert!(!repository.plain(&["list", "packs"]).contains("TORN"));
        assert_eq!(repository.plain(&["put", "packs"]), "ok\n", "it can be done again");
    }
}

#[test]
fn a_folder_whose_sync_failed_once_is_not_believed_when_the_next_one_succeeds() {
    let repository = Repository::new();
    let run = repository.traced(&["fsync:error=EIO:when=2"], &["twice", "snapshots"]);
    assert!(run.said.starts_with("first Unavailable\nUnavailable: cannot sync folder "), "{}", run.said);
    assert!(run.said.contains("an earlier sync of it failed"), "{}", run.said);
}

#[test]
fn where_a_rename_can_only_replace_a_link_is_made() {
    for error in ["EINVAL", "ENOSYS", "EOPNOTSUPP"] {
        let repository = Repository::new();
        let inject = format!("renameat2:error={error}");
        let run = repository.traced(&[&inject], &["put", "snapshots"]);
        assert_eq!(run.said, "ok\n");
        let synced = run.position(&["fsync(", "<ROOT/tmp/spool-"]);
        let linked = run.position(&["linkat(", " = 0"]);
        let folder = run.position(&["fsync(", "<ROOT/snapshots>"]);
        assert!(synced < linked && linked < folder, "{:#?}", run.calls);
        assert_eq!(repository.temporary_files(), 0);
        assert!(repository.plain(&["list", "snapshots"]).contains("whole\nok"));
        assert_eq!(repository.traced(&[&inject], &["put", "snapshots"]).said, "ok\n", "again, over the same");

        let repository = Repository::new();
        let run = repository.traced(&[&inject, "linkat:error=EPERM"], &["put", "snapshots"]);
        assert!(
            run.said.starts_with("Usage: ") && run.said.contains("can neither link nor rename"),
            "{}",
            run.said
        );
        assert_eq!(repository.plain(&["list", "snapshots"]), "ok\n");
    }
}

#[test]
fn killed_at_any_system_call_a_put_leaves_the_whole_object_or_none() {
    let (mut kills, mut whole) = (0, 0);
    for call in ["openat", "write", "fsync", "renameat2", "mkdirat", "fadvise64"] {
        for number in 1.. {
            let repository = Repository::new();
            let act = if call == "fadvise64" { "spool" } else { "put" };
            let run = repository.traced(&[&format!("{call}:signal=SIGKILL:when={number}")], &[act, "packs"]);
            // Past its last call of that name it is not killed any more. `write` is how it says so, and is killed, too.
            let survived = run.said == "ok\n";
            let listed = repository.plain(&["list", "packs"]);
            assert!(listed.ends_with("ok\n") && !listed.contains("TORN"), "{call} {number}: {listed}");
            assert_eq!(repository.plain(&[act, "packs"]), "ok\n", "{call} {number}: it can be done again");
            whole += usize::from(listed.contains("whole"));
            if survived {
                break;
            }
            kills += 1;
        }
    }
    assert!(kills >= 10 && whole >= 3, "{kills} kills, {whole} after the object had its name");
}
