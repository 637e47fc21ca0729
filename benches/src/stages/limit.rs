//! What this machine could reach if a snapshot or a restore were nothing but its stages, on all cores at once.
//!
//! The model: each byte of the source costs the sum of the inverse rates of the stages it goes through, in core-seconds;
//! the cores share them evenly; stored bytes go to disk at the rate of `dd conv=fsync` at the same time, so the slower of
//! the two is the limit.
//!
//! Must stay true: nothing is in the model that a correct program could leave out. Reading each region back before it is
//! packed is in: it is a promise.

use crate::results::RowResult;

/// Seconds that a run on `bytes` could not go below.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Limit {
    /// All cores busy all the time.
    pub(crate) processor_seconds: f64,
    /// The disk busy all the time.
    pub(crate) disk_seconds: f64,
}

impl Limit {
    /// The slower of the two.
    pub(crate) fn seconds(&self) -> f64 {
        self.processor_seconds.max(self.disk_seconds)
    }
}

struct Rates<'r>(&'r RowResult);

impl Rates<'_> {
    /// Seconds a byte.
    fn cost(&self, stage: &str) -> Result<f64, String> {
        Ok(1.0 / self.0.median(stage, "rate", None)?)
    }

    fn ratio(&self) -> Result<f64, String> {
        self.0.median("compress and seal, zstd 3", "ratio", None)
    }

    fn limit(&self, bytes: f64, core_seconds_per_byte: f64, stored_bytes: f64) -> Result<Limit, String> {
        let cores = self.0.machine.cores.max(1) as f64;
        Ok(Limit {
            processor_seconds: bytes * core_seconds_per_byte / cores,
            disk_seconds: stored_bytes * self.cost("dd conv=fsync")?,
        })
    }
}

/// A first snapshot of `bytes` of files like the sample's.
pub(crate) fn snapshot(stages: &RowResult, bytes: f64) -> Result<Limit, String> {
    let rates = Rates(stages);
    let ratio = rates.ratio()?;
    let per_byte = rates.cost("read files, warm")?
        + rates.cost("hash, 16 KiB")?
        + rates.cost("compress and seal, zstd 3")?
        // Verification before a region is packed.
        + rates.cost("decode")?;
    rates.limit(bytes, per_byte, bytes / ratio)
}

/// A restore of `bytes` of files like the sample's into an empty folder. It is not synced, so no disk is waited for.
pub(crate) fn restore(stages: &RowResult, bytes: f64) -> Result<Limit, String> {
    let rates = Rates(stages);
    let per_byte = rates.cost("decode")? + rates.cost("create files")?;
    rates.limit(bytes, per_byte, 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::sample_row;
    use crate::results::{Series, Unit};
    use crate::summary::Summary;

    fn stages() -> RowResult {
        let mut row = sample_row("stages", &[]);
        row.machine.cores = 2;
        let mut add = |who: &str, what: &str, number: f64| {
            row.series.push(Series {
                who: who.to_owned(),
                what: what.to_owned(),
                size: None,
                unit: Unit::BytesPerSecond,
                samples: vec![number],
                summary: Summary::of(&[number]).unwrap(),
                refused: None,
            });
        };
        for stage in ["read files, warm", "hash, 16 KiB", "decode", "create files"] {
            add(stage, "rate", 1e9);
        }
        add("compress and seal, zstd 3", "rate", 0.5e9);
        add("compress and seal, zstd 3", "ratio", 4.0);
        add("dd conv=fsync", "rate", 0.1e9);
        row
    }

    #[test]
    fn core_seconds_add_up_and_are_shared_by_the_cores() {
        let limit = snapshot(&stages(), 1e9).unwrap();
        // read 1, hash 1, compress 2, decode 1: 5 core-seconds on two cores.
        assert!((limit.processor_seconds - 2.5).abs() < 1e-9);
        // A quarter of a gigabyte at 0.1 GB/s takes as long.
        assert!((limit.disk_seconds - 2.5).abs() < 1e-9);
        assert!((limit.seconds() - 2.5).abs() < 1e-9);
        assert!((restore(&stages(), 1e9).unwrap().seconds() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn without_a_stage_there_is_no_limit() {
        let mut row = stages();
        row.series.retain(|series| series.who != "decode");
        assert_eq!(restore(&row, 1e9), Err("decode was not measured".to_owned()));
    }
}
