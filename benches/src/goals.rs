//! What each row must reach, and what it is after.
//!
//! Must stay true: this table is the only place in the project where the numbers stand. Ratios count: seconds are one
//! machine's. MB are 10^6 bytes, MiB are 2^20.

use crate::results::{RowResult, Unit};

/// A series of the row the goal stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Which {
    pub(crate) who: &'static str,
    pub(crate) what: &'static str,
    pub(crate) size: Option<u64>,
}

/// A number made of medians.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Figure {
    /// One median.
    Median(Which, Unit),
    /// The first over the second.
    Ratio(Which, Which),
}

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    AtMost,
    AtLeast,
}

/// One claim about a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Goal {
    pub(crate) row: &'static str,
    pub(crate) figure: Figure,
    pub(crate) direction: Direction,
    /// Must be reached.
    pub(crate) floor: Option<f64>,
    /// Is aimed at.
    pub(crate) goal: Option<f64>,
}

/// How a claim came out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    Goal(f64),
    Floor(f64),
    Missed(f64),
    Refused(String),
}

const fn which(who: &'static str, what: &'static str) -> Which {
    Which { who, what, size: None }
}

const fn ratio(
    row: &'static str,
    what: &'static str,
    to: &'static str,
    floor: Option<f64>,
    goal: Option<f64>,
) -> Goal {
    let figure = Figure::Ratio(which("lifeboat", what), which(to, what));
    Goal { row, figure, direction: Direction::AtMost, floor, goal }
}

const fn at_most(row: &'static str, of: Which, unit: Unit, floor: f64, goal: f64) -> Goal {
    let figure = Figure::Median(of, unit);
    Goal { row, figure, direction: Direction::AtMost, floor: Some(floor), goal: Some(goal) }
}

const fn at_least(row: &'static str, of: Which, unit: Unit, floor: f64, goal: f64) -> Goal {
    let figure = Figure::Median(of, unit);
    Goal { row, figure, direction: Direction::AtLeast, floor: Some(floor), goal: Some(goal) }
}

const MIB: f64 = (1 << 20) as f64;
const MB: f64 = 1e6;

const MILLION: u64 = 1_000_000;

const fn sized(who: &'static str, what: &'static str, size: u64) -> Which {
    Which { who, what, size: Some(size) }
}

const fn floor_at_least(row: &'static str, of: Which, floor: f64) -> Goal {
    let figure = Figure::Median(of, Unit::BytesPerSecond);
    Goal { row, figure, direction: Direction::AtLeast, floor: Some(floor), goal: None }
}

const fn pages_against_content(what: &'static str, floor: f64) -> Goal {
    ratio("pages", what, "lifeboat, by content", Some(floor), None)
}

/// In MiB.
const fn scale_memory(row: &'static str, what: &'static str, floor: f64, goal: f64) -> Goal {
    at_most(row, which("lifeboat", what), Unit::Memory, floor * MIB, goal * MIB)
}

/// Of any command on the real corpora.
const fn memory(row: &'static str) -> Goal {
    at_most(row, which("lifeboat", "memory"), Unit::Memory, 160.0 * MIB, 128.0 * MIB)
}

const fn bytes(row: &'static str, what: &'static str, floor: f64, goal: f64) -> Goal {
    at_most(row, which("lifeboat", what), Unit::Bytes, floor, goal)
}

/// The table.
pub(crate) const GOALS: &[Goal] = &[
    ratio("first", "time", "tar | zstd", Some(0.90), Some(0.75)),
    ratio("first", "time", "restic", Some(0.32), None),
    bytes("first", "stored", 242.0 * MB, 233.0 * MB),
    memory("first"),
    ratio("again", "time", "find -printf", Some(3.0), Some(2.0)),
    memory("again"),
    ratio("touched", "time", "restic", Some(0.40), Some(0.28)),
    bytes("touched", "added", 36.0 * MB, 30.0 * MB),
    memory("touched"),
    ratio("restore", "time", "cp -a", Some(0.9), Some(0.7)),
    memory("restore"),
    ratio("postgres-first", "time", "restic", Some(0.32), Some(0.25)),
    bytes("postgres-first", "stored", 84.0 * MB, 72.0 * MB),
    memory("postgres-first"),
    at_most("postgres-again", which("lifeboat", "time"), Unit::Seconds, 1.0, 1.0),
    bytes("postgres-again", "added", 5.0 * MB, 3.0 * MB),
    memory("postgres-again"),
    pages_against_content("postgres first: time", 1.10),
    pages_against_content("sqlite first: time", 1.10),
    pages_against_content("innodb first: time", 1.10),
    pages_against_content("bbolt first: time", 1.10),
    pages_against_content("postgres again: added", 1.0),
    pages_against_content("sqlite again: added", 1.0),
    pages_against_content("innodb again: added", 1.0),
    pages_against_content("bbolt again: added", 1.0),
    ratio("verify", "time", "restic", Some(0.6), Some(0.5)),
    memory("verify"),
    floor_at_least("incompressible", which("lifeboat", "rate"), 0.85e9),
    floor_at_least("incompressible", which("lifeboat, AES-256-GCM", "rate"), 1.2e9),
    Goal {
        row: "incompressible",
        figure: Figure::Ratio(which("lifeboat", "rate"), which("dd conv=fsync", "rate")),
        direction: Direction::AtLeast,
        floor: None,
        goal: Some(0.9),
    },
    memory("incompressible"),
    at_least("stream", which("lifeboat", "rate"), Unit::BytesPerSecond, 1.5e9, 3e9),
    memory("stream"),
    ratio("in-place", "time", "restic", Some(1.0), None),
    Goal {
        row: "files",
        figure: Figure::Ratio(
            sized("lifeboat", "unchanged: time", MILLION),
            sized("find -printf", "unchanged: time", MILLION),
        ),
        direction: Direction::AtMost,
        floor: Some(3.0),
        goal: Some(2.0),
    },
    at_most("files", sized("lifeboat", "one changed: added", MILLION), Unit::Bytes, 65536.0, 65536.0),
    at_most("files", sized("lifeboat", "first: memory", MILLION), Unit::Memory, 160.0 * MIB, 128.0 * MIB),
    at_most("snapshots", which("lifeboat", "list: time"), Unit::Seconds, 0.1, 0.1),
    Goal {
        row: "snapshots",
        figure: Figure::Ratio(which("lifeboat", "one more: time"), which("lifeboat", "first: time")),
        direction: Direction::AtMost,
        floor: Some(1.15),
        goal: Some(1.0),
    },
    scale_memory("huge", "first: memory", 160.0, 128.0),
    scale_memory("huge", "restore: memory", 160.0, 128.0),
    scale_memory("huge", "check --read-data: memory", 160.0, 128.0),
    scale_memory("chunks", "snapshot: memory", 224.0, 160.0),
    scale_memory("chunks", "snapshot --kind full: memory", 224.0, 160.0),
    scale_memory("chunks", "restore: memory", 224.0, 160.0),
    scale_memory("chunks", "check: memory", 224.0, 160.0),
    scale_memory("chunks", "check --read-data: memory", 224.0, 160.0),
    scale_memory("chunks", "gc --dry-run: memory", 224.0, 160.0),
    scale_memory("index", "memory", 192.0, 128.0),
    at_least("index", which("lifeboat", "present"), Unit::PerSecond, 40e3, 60e3),
    at_least("index", which("lifeboat", "absent"), Unit::PerSecond, 400e3, 600e3),
    at_most("latency", which("lifeboat, key file", "time"), Unit::Seconds, 0.060, 0.060),
    at_most("latency", which("lifeboat, password", "time"), Unit::Seconds, 0.250, 0.250),
    ratio("images", "stored", "restic", None, Some(0.6)),
    ratio("images", "stored", "docker save", None, Some(0.6)),
    stored_from_containerd("lifeboat, containerd store"),
    stored_from_containerd("lifeboat, containerd store, portable"),
    at_most("project", which("lifeboat", "empty engine to healthy"), Unit::Seconds, 60.0, 30.0),
];

const fn stored_from_containerd(who: &'static str) -> Goal {
    Goal {
        row: "images",
        figure: Figure::Ratio(which(who, "stored"), which("restic, containerd store", "stored")),
        direction: Direction::AtMost,
        floor: None,
        goal: Some(0.6),
    }
}

impl Goal {
    /// What was reached.
    pub(crate) fn judge(&self, row: &RowResult) -> Verdict {
        match self.figure.of(row) {
            Err(why) => Verdict::Refused(why),
            Ok(number) if self.goal.is_some_and(|goal| self.holds(number, goal)) => Verdict::Goal(number),
            Ok(number) if self.floor.is_some_and(|floor| self.holds(number, floor)) => Verdict::Floor(number),
            Ok(number) => Verdict::Missed(number),
        }
    }

    fn holds(&self, number: f64, bound: f64) -> bool {
        match self.direction {
            Direction::AtMost => number <= bound,
            Direction::AtLeast => number >= bound,
        }
    }

    /// A bound in words: `≤ 0.90`, `≥ 3.00 GB/s`, or a dash where there is none.
    pub(crate) fn bound(&self, bound: Option<f64>) -> String {
        let sign = match self.direction {
            Direction::AtMost => "≤",
            Direction::AtLeast => "≥",
        };
        bound.map_or_else(|| "–".to_owned(), |bound| format!("{sign} {}", self.figure.unit().show(bound)))
    }
}

impl Figure {
    fn of(&self, row: &RowResult) -> Result<f64, String> {
        let median = |which: &Which| row.median(which.who, which.what, which.size);
        match self {
            Self::Median(which, _) => median(which),
            Self::Ratio(first, second) => Ok(median(first)? / median(second)?),
        }
    }

    /// The unit of the number; a ratio has none.
    pub(crate) fn unit(&self) -> Unit {
        match self {
            Self::Median(_, unit) => *unit,
            Self::Ratio(..) => Unit::Count,
        }
    }

    /// In words: `time of lifeboat / time of restic`.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Median(which, _) => which.words(),
            Self::Ratio(first, second) => format!("{} / {}", first.words(), second.words()),
        }
    }
}

impl Which {
    fn words(&self) -> String {
        let Self { who, what, size } = self;
        let size = size.map_or_else(String::new, |size| format!(" at {}", people(size)));
        // A bar would end the cell of a table.
        format!("{what} of {}{size}", who.replace('|', "\\|"))
    }
}

/// 10,000 and 1,000,000 as people write them.
pub(crate) fn people(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::sample_row;
    use crate::rows::ROWS;

    #[test]
    fn every_goal_stands_in_a_row_that_can_be_run() {
        for goal in GOALS {
            assert!(ROWS.iter().any(|row| row.name == goal.row), "{}", goal.row);
        }
    }

    #[test]
    fn a_goal_a_floor_a_miss_and_a_refusal_are_told_apart() {
        let judge = |seconds: f64| {
            let row = sample_row("first", &[("lifeboat", seconds), ("tar | zstd", 1.0)]);
            GOALS[0].judge(&row)
        };
        assert_eq!(judge(0.75), Verdict::Goal(0.75));
        assert_eq!(judge(0.80), Verdict::Floor(0.80));
        assert_eq!(judge(0.95), Verdict::Missed(0.95));
        let alone = sample_row("first", &[("lifeboat", 1.0)]);
        assert_eq!(GOALS[0].judge(&alone), Verdict::Refused("tar | zstd was not measured".to_owned()));
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!([people(7), people(1000), people(1_000_000)], ["7", "1,000", "1,000,000"]);
    }
}
