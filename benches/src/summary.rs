//! What several rounds come to: the median, and how far they are apart.
//!
//! Must stay true: the spread is the middle half of the rounds over their median, `(q3 - q1) / median`. The middle half,
//! because on a virtual machine one round in ten meets somebody else's work; the least and the greatest are printed
//! beside it, so that nothing is hidden.

use serde::{Deserialize, Serialize};

/// A machine whose rounds are further apart than this is too noisy to say anything.
pub(crate) const SPREAD_MAX: f64 = 0.15;

/// The rounds of one series.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) greatest: f64,
    /// The middle half over the median.
    pub(crate) spread: f64,
}

impl Summary {
    /// `None` without rounds.
    pub(crate) fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (least, greatest) = (*sorted.first()?, *sorted.last()?);
        let median = quantile(&sorted, 0.5);
        let middle_half = quantile(&sorted, 0.75) - quantile(&sorted, 0.25);
        let spread = if median == 0.0 { 0.0 } else { middle_half / median };
        Some(Self { median, least, greatest, spread })
    }

    /// Whether the rounds agree well enough to be reported.
    pub(crate) fn is_quiet(&self) -> bool {
        self.spread <= SPREAD_MAX
    }
}

/// Between the two nearest ranks in proportion; `sorted` is not empty.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let rank = part * (sorted.len() - 1) as f64;
    let (below, above) = (rank.floor() as usize, rank.ceil() as usize);
    sorted[below] + (sorted[above] - sorted[below]) * rank.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_the_middle_half_over_the_median() {
        let summary = Summary::of(&[5.0, 1.0, 4.0, 2.0, 3.0]).unwrap();
        assert_eq!((summary.least, summary.median, summary.greatest), (1.0, 3.0, 5.0));
        assert!((summary.spread - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(Summary::of(&[1.0, 2.0]).unwrap().median, 1.5);
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn one_disturbed_round_of_five_is_tolerated_and_two_are_not() {
        assert!(Summary::of(&[1.0, 1.01, 1.02, 1.03, 9.0]).unwrap().is_quiet());
        assert!(!Summary::of(&[1.0, 1.01, 1.02, 5.0, 9.0]).unwrap().is_quiet());
        assert!(Summary::of(&[0.0, 0.0, 0.0]).unwrap().is_quiet());
    }
}
