//! Everything that CI checks, in the order that fails soonest.
//!
//! Must stay true: CI runs this and nothing else (`.ci/run`), so what passes here passes there. The first step that fails stops
//! the run. The last line counts the tests in the form `N passed, N failed, N skipped`.

use crate::failure::{Failure, Result};
use crate::place::Place;
use crate::{engines, packages, step, tidy, tools};
use std::process::Stdio;
use std::time::Instant;

/// `cargo xtask test`.
pub(crate) fn test(place: &Place) -> Result<()> {
    let begun = Instant::now();
    println!("checkout {}, built in {}", place.root.display(), place.target.display());
    step::step("system packages", packages::ensure_for_tests)?;
    step::run("formatting", &mut place.cargo("fmt --all --check"))?;
    step::run(
        "formatting of the fuzz targets",
        &mut place.cargo("fmt --manifest-path fuzz/Cargo.toml --check"),
    )?;
    step::step("tidiness", || tidy::run(place))?;
    let counts = std::thread::scope(|scope| {
        // Making them is mostly waiting for Debian's servers, and compiling is not.
        let engines = scope
            .spawn(|| engines::InUse::begin(place, &engines::flavour::Flavour::ALL, engines::Wanted::All));
        let clippy = "clippy --release --workspace --all-targets -- -D warnings";
        step::run("lints", &mut place.cargo(clippy))?;
        // Programs with them, so that no test compiles the command: for one package alone cargo chooses other features of
        // what it depends on, and would compile all of that a second time.
        step::run(
            "programs and tests, compiled",
            &mut place.cargo("build --release --workspace --all-targets"),
        )?;
        let panicked = |_| Err(Failure::new("the thread that prepares the engines panicked"));
        run_tests(place, &engines.join().unwrap_or_else(panicked)?)
    })?;
    documentation(place)?;
    dependencies(place)?;
    println!("\nEverything that CI checks passed in {}.", step::seconds(begun.elapsed()));
    println!("{}", counts.line());
    Ok(())
}

/// Unit, integration and documentation tests, those of Docker on all the engines. One program after the other: a container
/// begins with a copy of all mounts, and a disk that another program cuts off the power of is then not gone. A program that
/// fails does not keep the others from running: compiling took longer than they do, and all that fails is worth knowing.
fn run_tests(place: &Place, engines: &engines::InUse) -> Result<Counts> {
    let mut counts = Counts::default();
    let mut command = place.cargo("test --release --workspace --no-fail-fast");
    command.envs(engines.environment());
    if std::env::var_os("RUST_TEST_THREADS").is_none() {
        command.env("RUST_TEST_THREADS", threads().to_string());
    }
    command.env("LIFEBOAT_TEST_BINARY", place.target.join("release/lifeboat"));
    step::run_watching("tests", &mut command, |line| counts.add(line))?;
    Ok(counts)
}

/// Tests of containers wait for engines: one more than there are processors.
fn threads() -> usize {
    1 + std::thread::available_parallelism().map_or(1, usize::from)
}

/// Broken links in documentation are errors. `--lib`, because the program and the library share the name `lifeboat` and
/// would overwrite each other's pages.
fn documentation(place: &Place) -> Result<()> {
    let mut command = place.cargo("doc --release --workspace --no-deps --lib");
    step::run("documentation", command.env("RUSTDOCFLAGS", "-D warnings"))
}

/// Licences, bans and sources always; advisories where their database can be fetched.
fn dependencies(place: &Place) -> Result<()> {
    let deny = tools::DENY.ensure(place)?;
    step::run("dependencies", place.command(&deny).args(["check", "licenses", "bans", "sources"]))?;
    let fetched = place
        .command(&deny)
        .args(["fetch", "db"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if fetched {
        step::run("advisories", place.command(&deny).args(["check", "--disable-fetch", "advisories"]))
    } else {
        println!("\n!!! ADVISORIES WERE NOT CHECKED: the RustSec database cannot be fetched from here.");
        println!("!!! Licences, bans and sources were. On a machine with access to GitHub, run");
        println!("!!!     cargo deny check advisories");
        Ok(())
    }
}

/// How many tests ran, summed over the test programs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Counts {
    /// Adds a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; …`; other lines are nothing to it.
    fn add(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for count in counts.split(';') {
            match count.trim().split_once(' ') {
                Some((number, "passed")) => self.passed += number.parse().unwrap_or(0),
                Some((number, "failed")) => self.failed += number.parse().unwrap_or(0),
                Some((number, "ignored")) => self.ignored += number.parse().unwrap_or(0),
                _ => {}
            }
        }
    }

    fn line(&self) -> String {
        format!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.ignored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_of_all_test_programs_are_summed() {
        let mut counts = Counts::default();
        for line in [
            "running 4 tests\n",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n",
            "test a::b ... ok\n",
            "test result: FAILED. 20 passed; 2 failed; 0 ignored; 0 measured; 9 filtered out; finished in 1s\n",
        ] {
            counts.add(line);
        }
        assert_eq!(counts.line(), "23 passed, 2 failed, 1 skipped");
    }
}
