//! What was measured, as it is kept in `docs/benchmarks/results.json`.
//!
//! Must stay true: every sample is kept, those of refused series too, so that anybody can judge the noise; running one
//! row replaces that row only.

use crate::machine::Machine;
use crate::summary::Summary;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Unit {
    Seconds,
    /// The longest time of many, which is never the same twice: no noise of the machine.
    LongestSeconds,
    /// Bytes of disk, shown as MB of 10^6.
    Bytes,
    /// Bytes of memory, shown as MiB.
    Memory,
    BytesPerSecond,
    /// Things per second.
    PerSecond,
    /// A number without a unit.
    Count,
}

impl Unit {
    /// Whether noise of the machine shows in it: bytes are the same however busy it is.
    pub(crate) fn is_time(self) -> bool {
        matches!(self, Self::Seconds | Self::BytesPerSecond | Self::PerSecond)
    }

    /// A number as people read it.
    pub(crate) fn show(self, number: f64) -> String {
        match self {
            Self::Seconds | Self::LongestSeconds if number < 1.0 => format!("{:.1} ms", number * 1e3),
            Self::Seconds | Self::LongestSeconds => format!("{number:.2} s"),
            Self::Bytes if number < 1e6 => format!("{:.1} kB", number / 1e3),
            Self::Bytes => format!("{:.1} MB", number / 1e6),
            Self::Memory => format!("{:.0} MiB", number / f64::from(1 << 20)),
            Self::BytesPerSecond => format!("{:.2} GB/s", number / 1e9),
            Self::PerSecond if number >= 1e6 => format!("{:.2} M/s", number / 1e6),
            Self::PerSecond if number >= 1e4 => format!("{:.0} k/s", number / 1e3),
            Self::PerSecond => format!("{number:.0} /s"),
            Self::Count => format!("{number:.2}"),
        }
    }
}

/// One quantity of one participant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Series {
    /// Who: `lifeboat`, `restic`, `tar | zstd`.
    pub(crate) who: String,
    /// What: `time`, `stored`, `memory`.
    pub(crate) what: String,
    /// Where the row has several sizes: which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) size: Option<u64>,
    pub(crate) unit: Unit,
    pub(crate) samples: Vec<f64>,
    pub(crate) summary: Summary,
    /// Why its number is not reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<String>,
}

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RowResult {
    pub(crate) row: String,
    pub(crate) date: String,
    pub(crate) commit: String,
    pub(crate) machine: Machine,
    pub(crate) versions: BTreeMap<String, String>,
    /// The data, in words, with its measured size.
    pub(crate) data: String,
    /// State of the page cache.
    pub(crate) cache: String,
    /// Rounds that count, without the warm-up.
    pub(crate) rounds: usize,
    /// Who ran what.
    pub(crate) commands: BTreeMap<String, String>,
    pub(crate) series: Vec<Series>,
    /// Why nothing of this row is reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<String>,
}

impl RowResult {
    /// The median of a series that may be reported.
    pub(crate) fn median(&self, who: &str, what: &str, size: Option<u64>) -> Result<f64, String> {
        if let Some(why) = &self.refused {
            return Err(why.clone());
        }
        let series = self
            .series
            .iter()
            .find(|series| series.who == who && series.what == what && series.size == size)
            .ok_or_else(|| format!("{who} was not measured"))?;
        match &series.refused {
            Some(why) => Err(why.clone()),
            None => Ok(series.summary.median),
        }
    }
}

/// All rows by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) rows: BTreeMap<String, RowResult>,
}

impl Results {
    /// Reads a file; one that is missing has no rows.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .with_context(|| format!("cannot understand {}", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Puts a row in the place of the one with its name, and leaves the others.
    pub(crate) fn replace(&mut self, row: RowResult) {
        self.rows.insert(row.row.clone(), row);
    }

    /// Writes the file, whole or not at all.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        write_whole(path, &text)
    }
}

/// Replaces a file in one step.
pub(crate) fn write_whole(path: &Path, text: &str) -> Result<()> {
    let failing = || format!("cannot write {}", path.display());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(failing)?;
    }
    let unfinished = path.with_extension("unfinished");
    std::fs::write(&unfinished, text).with_context(failing)?;
    std::fs::rename(&unfinished, path).with_context(failing)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A row with the given medians of `time`.
    pub(crate) fn sample_row(row: &str, times: &[(&str, f64)]) -> RowResult {
        let series = |(who, seconds): &(&str, f64)| Series {
            who: (*who).to_owned(),
            what: "time".to_owned(),
            size: None,
            unit: Unit::Seconds,
            samples: vec![*seconds; 5],
            summary: Summary::of(&[*seconds; 5]).unwrap(),
            refused: None,
        };
        RowResult {
            row: row.to_owned(),
            date: "2026-01-02".to_owned(),
            commit: "abc".to_owned(),
            machine: Machine::default(),
            versions: BTreeMap::from([("lifeboat".to_owned(), "0.1.0".to_owned())]),
            data: "3 files".to_owned(),
            cache: "warm".to_owned(),
            rounds: 5,
            commands: BTreeMap::from([("lifeboat".to_owned(), "lifeboat snapshot x".to_owned())]),
            series: times.iter().map(series).collect(),
            refused: None,
        }
    }

    #[test]
    fn running_one_row_again_replaces_that_row_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/results.json");
        let mut results = Results::read(&path).unwrap();
        results.replace(sample_row("first", &[("lifeboat", 1.0)]));
        results.replace(sample_row("again", &[("lifeboat", 2.0)]));
        results.write(&path).unwrap();
        let mut results = Results::read(&path).unwrap();
        results.replace(sample_row("again", &[("lifeboat", 3.0)]));
        results.write(&path).unwrap();
        let results = Results::read(&path).unwrap();
        assert_eq!(results.rows["first"].median("lifeboat", "time", None), Ok(1.0));
        assert_eq!(results.rows["again"].median("lifeboat", "time", None), Ok(3.0));
    }

    #[test]
    fn a_refused_row_or_series_has_no_number() {
        let mut row = sample_row("first", &[("lifeboat", 1.0), ("restic", 2.0)]);
        row.series[1].refused = Some("too noisy".to_owned());
        assert_eq!(row.median("restic", "time", None), Err("too noisy".to_owned()));
        row.refused = Some("restic failed".to_owned());
        assert_eq!(row.median("lifeboat", "time", None), Err("restic failed".to_owned()));
        assert!(row.median("borg", "time", None).is_err());
    }
}
