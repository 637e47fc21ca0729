//! Runs one command, and writes its seconds, KiB of peak memory and written blocks to a file: `lifeboat-meter FILE PROGRAM ARGUMENTS…`.
//!
//! Must stay true: this stays small. A process begins with the memory of the one that started it, so whatever this takes
//! is the least that can be measured: 2 MiB, where the large program beside it would be 12.

use nix::sys::resource::{UsageWho, getrusage};
use std::process::{Command, ExitCode};
use std::time::Instant;

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let (Some(report), Some(program)) = (words.next(), words.next()) else {
        eprintln!("usage: lifeboat-meter FILE PROGRAM [ARGUMENT...]");
        return ExitCode::FAILURE;
    };
    let began = Instant::now();
    let status = match Command::new(&program).args(words).status() {
        Ok(status) => status,
        Err(error) => {
            eprintln!("cannot start {}: {error}", program.display());
            return ExitCode::FAILURE;
        }
    };
    let seconds = began.elapsed().as_secs_f64();
    // All children that were waited for, and theirs: there is only this one.
    let (kibibytes, blocks) =
        getrusage(UsageWho::RUSAGE_CHILDREN).map_or((0, 0), |usage| (usage.max_rss(), usage.block_writes()));
    if let Err(error) = std::fs::write(&report, format!("{seconds} {kibibytes} {blocks}")) {
        eprintln!("cannot write {}: {error}", report.display());
        return ExitCode::FAILURE;
    }
    match status.code() {
        Some(0) => ExitCode::SUCCESS,
        Some(code) => ExitCode::from(code.clamp(1, 255) as u8),
        None => ExitCode::from(128),
    }
}
