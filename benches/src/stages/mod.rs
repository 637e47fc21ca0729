//! The stages of a snapshot and a restore, each alone on one core.
//!
//! Must stay true: each stage runs the code that a snapshot runs, through the crates' own functions, on real data; what a
//! stage gives is looked at, so that the compiler cannot leave it out. Rates are bytes of the source per second, so that
//! their inverses add up to core-seconds per byte in [`limit`].
//! Read next: [`limit`].

pub(crate) mod data;
pub(crate) mod disk;
pub(crate) mod limit;
pub(crate) mod sample;
pub(crate) mod structure;

use crate::bench::Bench;
use crate::results::Unit;
use crate::rounds::Participant;
use anyhow::Result;
use std::time::{Duration, Instant};

/// A stage is repeated until so much time has passed, then its rate is taken.
const STAGE_TIME: Duration = Duration::from_millis(300);

/// Every stage as a participant of a row.
pub(crate) fn participants<'b>(bench: &'b Bench, sample: &'b sample::Sample) -> Result<Vec<Participant<'b>>> {
    let mut all = data::stages(sample)?;
    all.extend(structure::stages(bench)?);
    all.extend(disk::stages(bench, sample)?);
    Ok(all)
}

/// Repeats `work`, which says how many bytes or things it did, and gives their rate per second.
pub(crate) fn rate(mut work: impl FnMut() -> Result<u64>) -> Result<f64> {
    let began = Instant::now();
    let mut done = 0;
    while began.elapsed() < STAGE_TIME {
        done += work()?;
    }
    Ok(done as f64 / began.elapsed().as_secs_f64())
}

/// A stage that has a rate.
pub(crate) fn stage<'s>(
    name: impl Into<String>,
    unit: Unit,
    mut work: impl FnMut() -> Result<u64> + 's,
) -> Participant<'s> {
    Participant::new(name, move |_| {
        Ok(crate::rounds::Sample::new("in this process, one thread").with("rate", unit, rate(&mut work)?))
    })
}
