//! The row of the stages: each alone on one core, and what a machine with this one's cores could reach with them.

use crate::bench::Bench;
use crate::results::RowResult;
use crate::stages;
use anyhow::Result;

pub(crate) fn stages(bench: &Bench) -> Result<RowResult> {
    let source = bench.corpus("linux/old")?;
    let sample = stages::sample::Sample::read(&source)?;
    let participants = stages::participants(bench, &sample)?;
    let result = bench.row("stages", sample.describe(), participants)?;
    Ok(result)
}
