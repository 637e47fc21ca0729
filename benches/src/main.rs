//! Measures lifeboat: its stages alone, and whole runs beside other programs. `cargo xtask bench` starts it.
//!
//! Must stay true: nothing is reported that was not checked, and what was refused says why. Results are kept in
//! `docs/benchmarks/results.json`; `docs/benchmarks.md` and its plots are made from that file and from
//! `docs/benchmarks/notes.md`, never by hand.
//! Read next: [`rounds`] for how a row is measured, [`rows`] for what there is, [`goals`] for what is hoped for.

mod arguments;
mod bench;
mod docker;
mod goals;
mod machine;
mod manifest;
mod meter;
mod report;
mod results;
mod room;
mod rounds;
mod rows;
mod scale;
mod stages;
mod summary;
mod tools;

use anyhow::{Result, bail};
use arguments::{Request, RunRequest};
use bench::{Bench, Choice};
use results::Results;
use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = arguments::parse(std::env::args_os().skip(1)).and_then(|request| match request {
        Request::Hash => {
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(std::io::stdin().lock())?;
            println!("{}", hasher.finalize());
            Ok(ExitCode::SUCCESS)
        }
        Request::Index(words) => scale::look_up::inner(&words).map(|()| ExitCode::SUCCESS),
        Request::List => {
            rows::ROWS.iter().for_each(|row| println!("{:<18} {}", row.name, row.about));
            Ok(ExitCode::SUCCESS)
        }
        Request::Report(documents) => report::write(&documents).map(|()| ExitCode::SUCCESS),
        Request::Run(request) => run(&request),
    });
    outcome.unwrap_or_else(|error| {
        eprintln!("Error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(request: &RunRequest) -> Result<ExitCode> {
    let mut chosen = Vec::new();
    for name in &request.rows {
        match rows::find(name) {
            Some(row) => chosen.push(row),
            None => bail!("there is no row `{name}`\nHint: `cargo xtask bench --list`"),
        }
    }
    if chosen.is_empty() {
        chosen.extend(rows::ROWS);
    }
    let bench = Bench::new(Choice {
        data: request.data.clone(),
        lifeboat: request.lifeboat.clone(),
        rounds: request.rounds,
        without_peers: request.without_peers,
        small: request.small,
    })?;
    let path = request.documents.join("benchmarks/results.json");
    let mut refused = 0;
    for row in chosen {
        println!("\n=== {}: {}", row.name, row.about);
        let result = match (row.run)(&bench) {
            Ok(result) => result,
            Err(error) => bench.refused(row.name, format!("preparing it failed: {error:#}"))?,
        };
        report::print(&result);
        refused += usize::from(result.refused.is_some());
        let is_trial = !row.is_quiet && request.rounds < rounds::ROUNDS_LEAST;
        if is_trial || request.small {
            println!("(a trial: small data or fewer than {} rounds are not kept)", rounds::ROUNDS_LEAST);
            continue;
        }
        // After each row, and from the file: a later row that is interrupted takes nothing along.
        let mut results = Results::read(&path)?;
        results.replace(result);
        results.write(&path)?;
        report::write(&request.documents)?;
    }
    if refused > 0 {
        println!("\n{refused} rows were refused");
    }
    Ok(if refused == 0 { ExitCode::SUCCESS } else { ExitCode::from(3) })
}
