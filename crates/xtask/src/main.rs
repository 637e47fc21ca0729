//! The chores of this repository: `cargo xtask test` is what CI runs, `cargo xtask demo` is the first thing to try.
//!
//! Must stay true: no dependencies at all, so that a fresh machine has an answer in seconds, before anything large is
//! compiled; and a chore either does its whole job or says which command to repeat.
//! Read next: [`ci`] for the order of the checks, [`place`] for where things are built.

mod bench;
mod ci;
mod demo;
mod demo_data;
mod demo_database;
mod demo_engine;
mod demo_project;
mod engines;
mod failure;
mod fuzz;
mod packages;
mod place;
mod step;
mod tidy;
mod tools;
mod trees;

use failure::{Failure, Result};
use place::Place;
use std::process::ExitCode;

const USAGE: &str = "\
Chores of the lifeboat repository.

  cargo xtask test              everything that CI checks; installs missing system packages when it is root
  cargo xtask demo [--files] [--keep]
                                back up real folders, change them, restore them, compare; then a database in a container
                                under load and a compose project that is destroyed and brought back,
                                which take root and are left out with --files; --keep leaves the files
  cargo xtask tidy              file lengths, forbidden names, left-over marks, module docs
  cargo xtask bench [ROW...] [--rounds N] [--without-peers] [--small]
                                measure lifeboat beside other programs, and write docs/benchmarks.md
  cargo xtask bench --list | --report
                                the rows; the page made again from the results
  cargo xtask engines start|stop [system|graph|containerd]... [--instance NAME [--servers]]
                                Docker engines of our own with test images, by themselves in the cache; root only
  cargo xtask engines status|env|clean
                                which run; the variables that tests find them by; remove them and their data
  cargo xtask fuzz [SECONDS] [TARGET]
                                run the fuzz targets, 15 seconds each by default (needs a nightly toolchain)

CARGO_TARGET_DIR decides where things are built; without it that is ${LIFEBOAT_CACHE:-~/.cache/lifeboat}/target,
shared by all checkouts, so that RocksDB is compiled once.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match dispatch(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\nError: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(words: &[&str]) -> Result<()> {
    match words {
        ["test"] => ci::test(&Place::find()?),
        ["demo", options @ ..] if options.iter().all(|option| ["--files", "--keep"].contains(option)) => {
            let (files, keep) = (options.contains(&"--files"), options.contains(&"--keep"));
            let part = if files { demo::Part::Files } else { demo::Part::Everything };
            demo::run(
                &Place::find()?,
                part,
                if keep { demo::Afterwards::Keep } else { demo::Afterwards::Clean },
            )
        }
        ["bench", rest @ ..] => bench::run(&Place::find()?, rest),
        ["engines", rest @ ..] => engines::run(&Place::find()?, rest),
        ["tidy"] => tidy::run(&Place::find()?),
        ["fuzz"] => fuzz::run(&Place::find()?, fuzz::SECONDS_DEFAULT, None),
        ["fuzz", seconds] => fuzz::run(&Place::find()?, parse_seconds(seconds)?, None),
        ["fuzz", seconds, target] => fuzz::run(&Place::find()?, parse_seconds(seconds)?, Some(target)),
        [] | ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(())
        }
        _ => Err(Failure::new(format!("there is no chore `{}`\n\n{USAGE}", words.join(" ")))),
    }
}

fn parse_seconds(word: &str) -> Result<u32> {
    word.parse().map_err(|_| Failure::new(format!("`{word}` is not a number of seconds")))
}
