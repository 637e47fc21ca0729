//! `cargo xtask bench`: builds lifeboat and the program that measures it, and starts that.
//!
//! Must stay true: everything that takes packages from crates.io is in `benches/`; here is only what has to be there
//! before it can be compiled. Corpora, peers and scratch files lie in the cache folder, the page and its numbers in
//! `docs/`.

use crate::engines::flavour::Flavour;
use crate::engines::{InUse, Wanted};
use crate::failure::{Failure, Result, While};
use crate::place::Place;
use crate::{packages, step};
use std::process::Command;

/// With the words behind `cargo xtask bench`.
pub(crate) fn run(place: &Place, words: &[&str]) -> Result<()> {
    let simple = match words {
        ["--list"] => Some("list"),
        ["--report"] => Some("report"),
        _ => None,
    };
    match simple {
        Some(_) => packages::ensure_for_build()?,
        None => packages::ensure_for_benches()?,
    }
    let build = "build --release --package lifeboat-benches --package lifeboat-cli --bin lifeboat-bench --bin lifeboat-meter --bin lifeboat";
    step::run("build lifeboat and its benches", &mut place.cargo(build))?;
    let mut bench = Command::new(place.target.join("release/lifeboat-bench"));
    bench.current_dir(&place.root).arg(simple.unwrap_or("run"));
    if simple != Some("list") {
        bench.arg("--documents").arg(place.root.join("docs"));
    }
    let mut engines = None;
    if simple.is_none() {
        if takes_an_engine(words) {
            let started = engines.insert(InUse::begin(place, &Flavour::ALL, Wanted::Servers)?);
            bench.envs(started.environment());
        }
        bench.args(words);
        bench.arg("--lifeboat").arg(place.target.join("release/lifeboat"));
        bench.arg("--data").arg(place.cache.join("bench"));
    }
    let status = bench.status().while_doing("start lifeboat-bench")?;
    drop(engines);
    match status.code() {
        Some(0) => Ok(()),
        Some(3) => Err(Failure::new("some rows were refused; they say why above and in docs/benchmarks.md")),
        _ => Err(Failure::new(format!("measuring ended with {status}"))),
    }
}

/// Rows about containers are named so. Without the name of a row all of them are measured.
fn takes_an_engine(words: &[&str]) -> bool {
    let mut rows = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if *word == "--rounds" {
            words.next();
        } else if !word.starts_with('-') {
            rows.push(*word);
        }
    }
    let takes = |row: &&str| row.starts_with("docker-") || ["images", "project"].contains(row);
    rows.is_empty() || rows.iter().any(takes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_is_started_for_rows_about_containers_and_for_all_rows() {
        assert!(
            takes_an_engine(&["first", "docker-redis"]) && takes_an_engine(&["--rounds", "5", "--small"])
        );
        assert!(
            !takes_an_engine(&["first", "--rounds", "5"]) && !takes_an_engine(&["--without-peers", "again"])
        );
    }
}
