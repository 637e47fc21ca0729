//! Several processes at once, and processes that die.

use crate::build::{Objects, apply, check, index_name, open, pack};
use lifeboat_index::Opening;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

const DIRECTORY: &str = "LIFEBOAT_INDEX_TEST_DIRECTORY";
const WORK: &str = "LIFEBOAT_INDEX_TEST_WORK";

/// Not a promise but the body of a child process; nothing happens without its variables.
#[test]
fn child() {
    let (Ok(directory), Ok(work)) = (std::env::var(DIRECTORY), std::env::var(WORK)) else { return };
    let index = open(Path::new(&directory));
    match work.as_str() {
        "hold" => {
            apply(&index, 1, objects()[&1].clone()).unwrap();
            apply(&index, 2, objects()[&2].clone()).unwrap();
            println!("\nready {:?}", index.opening());
            // Until the parent closes its end or kills us.
            let _ = std::io::stdin().read(&mut [0]);
        }
        "churn" => {
            println!("\nready {:?}", index.opening());
            for round in 0.. {
                for name in 0..6 {
                    apply(&index, name, churned()[&name].clone()).unwrap();
                }
                index.retire(&[index_name(round % 6), index_name((round + 2) % 6)]).unwrap();
            }
        }
        other => panic!("there is no work {other}"),
    }
}

fn objects() -> Objects {
    Objects::from([
        (1, vec![pack(1, &[1, 2, 3])]),
        (2, vec![pack(2, &[3, 4, 5])]),
        (3, vec![pack(3, &[2, 5, 6])]),
        (4, vec![pack(1, &[1, 2, 3]), pack(3, &[2, 5, 6])]),
    ])
}

fn churned() -> Objects {
    let chunks = |name: u32| (name * 20..name * 20 + 50).collect::<Vec<_>>();
    (0..6).map(|name| (name, vec![pack(name, &chunks(name)), pack(name + 10, &chunks(name + 3))])).collect()
}

/// The child, and its opening as it says.
fn spawn(directory: &Path, work: &str) -> (Child, String, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "processes::child", "--nocapture"])
        .env(DIRECTORY, directory)
        .env(WORK, work)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("ready ") {
        line.clear();
        assert!(output.read_line(&mut line).unwrap() > 0, "the child died");
    }
    let opening = line.trim().trim_start_matches("ready ").to_owned();
    (child, opening, output)
}

#[test]
fn while_one_process_writes_others_read_and_keep_what_is_new_to_themselves() {
    let directory = tempfile::tempdir().unwrap();
    let (mut writer, opening, _output) = spawn(directory.path(), "hold");
    assert_eq!(opening, "Writer");
    let reader = open(directory.path());
    assert_eq!(reader.opening(), Opening::ReaderWithSpill);
    assert_eq!(check(&reader, &objects()).unwrap(), BTreeSet::from([1, 2]));
    apply(&reader, 3, objects()[&3].clone()).unwrap();
    apply(&reader, 4, objects()[&4].clone()).unwrap();
    assert_eq!(check(&reader, &objects()).unwrap(), BTreeSet::from([1, 2, 3, 4]));
    // What it retires is the writer's, too, and goes for the reader alone.
    reader.retire(&[index_name(1), index_name(2), index_name(3)]).unwrap();
    assert_eq!(check(&reader, &objects()).unwrap(), BTreeSet::from([4]));
    let second = open(directory.path());
    assert_eq!(check(&second, &objects()).unwrap(), BTreeSet::from([1, 2]));
    drop(writer.stdin.take());
    assert!(writer.wait().unwrap().success());
    let next = open(directory.path());
    assert_eq!(next.opening(), Opening::Writer);
    assert_eq!(check(&next, &objects()).unwrap(), BTreeSet::from([1, 2]));
    assert_eq!(check(&reader, &objects()).unwrap(), BTreeSet::from([4]), "the reader reads on");
}

#[test]
fn a_reader_reads_on_while_the_writer_replaces_every_file() {
    let directory = tempfile::tempdir().unwrap();
    let writer = open(directory.path());
    apply(&writer, 1, objects()[&1].clone()).unwrap();
    let reader = open(directory.path());
    for name in 10..40 {
        apply(&writer, name, vec![pack(name, &(0..50).collect::<Vec<_>>())]).unwrap();
        writer.retire(&[index_name(name - 1), index_name(1)]).unwrap();
    }
    drop(writer);
    assert_eq!(check(&reader, &objects()).unwrap(), BTreeSet::from([1]));
}

#[test]
fn a_killed_process_leaves_no_lock_and_no_half_truth() {
    let directory = tempfile::tempdir().unwrap();
    for milliseconds in [1, 7, 15, 30, 60, 90, 140, 200] {
        let (mut child, opening, _output) = spawn(directory.path(), "churn");
        assert_eq!(opening, "Writer");
        std::thread::sleep(Duration::from_millis(milliseconds));
        child.kill().unwrap();
        child.wait().unwrap();
        let index = open(directory.path());
        assert!(index.opening() == Opening::Writer && !index.rebuilt());
        check(&index, &churned()).unwrap();
    }
    let left: Vec<_> =
        fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "db and lock only: {left:?}");
}

#[test]
fn what_a_killed_reader_spilled_is_removed_by_the_next_process() {
    let directory = tempfile::tempdir().unwrap();
    let writer = open(directory.path());
    let (mut child, opening, _output) = spawn(directory.path(), "hold");
    assert_eq!(opening, "ReaderWithSpill");
    let spills = || fs::read_dir(directory.path()).unwrap().count() - 2;
    assert_eq!(spills(), 2, "a folder and its lock");
    let reader = open(directory.path());
    assert_eq!(spills(), 4, "nobody removes what is in use");
    child.kill().unwrap();
    child.wait().unwrap();
    drop(reader);
    assert_eq!(spills(), 2);
    drop(writer);
    drop(open(directory.path()));
    assert_eq!(spills(), 0);
}
