//! Rounds: everybody once, then everybody again, so that a slow minute of the machine meets all of them.
//!
//! Must stay true: the warm-up round never counts. A failure or a difference in any round, the warm-up's too, refuses
//! the whole row. Noise refuses the series it is in, and with it every ratio that needs it: bytes and memory of the same
//! commands are not noisy. A refused number is kept for the record and never reported.

use crate::results::{Series, Unit};
use crate::summary::{SPREAD_MAX, Summary};
use anyhow::Result;
use std::collections::BTreeMap;

/// The fewest rounds that are worth a report.
pub(crate) const ROUNDS_LEAST: usize = 5;
/// Rounds that are added, one by one, where the first are too far apart.
const ROUNDS_EXTRA: usize = 5;

/// One number of one round.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Value {
    pub(crate) what: String,
    pub(crate) size: Option<u64>,
    pub(crate) unit: Unit,
    pub(crate) number: f64,
}

/// What one participant did in one round.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Sample {
    /// The command as a reader could type it.
    pub(crate) command: String,
    pub(crate) values: Vec<Value>,
}

impl Sample {
    pub(crate) fn new(command: impl Into<String>) -> Self {
        Self { command: command.into(), values: Vec::new() }
    }

    /// Adds a number.
    #[must_use]
    pub(crate) fn with(mut self, what: &str, unit: Unit, number: f64) -> Self {
        self.values.push(Value { what: what.to_owned(), size: None, unit, number });
        self
    }

    /// The same numbers as those of a certain size.
    #[must_use]
    pub(crate) fn sized(mut self, size: u64) -> Self {
        self.values.iter_mut().for_each(|value| value.size = Some(size));
        self
    }

    /// The same numbers, named after what was done: `first: time`.
    #[must_use]
    pub(crate) fn named(mut self, deed: &str) -> Self {
        self.values.iter_mut().for_each(|value| value.what = format!("{deed}: {}", value.what));
        self
    }

    /// One sample of both, with both commands.
    #[must_use]
    pub(crate) fn and(mut self, other: Self) -> Self {
        if self.command.is_empty() {
            self.command = other.command;
        } else if !self.command.split("; ").any(|known| known == other.command) {
            self.command = format!("{}; {}", self.command, other.command);
        }
        self.values.extend(other.values);
        self
    }
}

/// The median of each number over several samples of the same command: calls of milliseconds are too short to be told
/// from what else the machine does in them.
pub(crate) fn median_of(samples: Vec<Sample>) -> Sample {
    let mut medians = samples.first().cloned().unwrap_or_default();
    for (number, median) in medians.values.iter_mut().enumerate() {
        let all: Vec<f64> =
            samples.iter().filter_map(|sample| sample.values.get(number)).map(|value| value.number).collect();
        median.number = Summary::of(&all).map_or(median.number, |summary| summary.median);
    }
    medians
}

/// What is done in a round; told its number, 0 being the warm-up.
pub(crate) type Round<'r> = Box<dyn FnMut(usize) -> Result<Sample> + 'r>;

/// Somebody who takes part in a row.
pub(crate) struct Participant<'r> {
    pub(crate) who: String,
    pub(crate) round: Round<'r>,
}

impl<'r> Participant<'r> {
    pub(crate) fn new(who: impl Into<String>, round: impl FnMut(usize) -> Result<Sample> + 'r) -> Self {
        Self { who: who.into(), round: Box::new(round) }
    }
}

/// What came of all rounds.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) rounds: usize,
    pub(crate) commands: BTreeMap<String, String>,
    pub(crate) series: Vec<Series>,
    pub(crate) refused: Option<String>,
}

/// Runs one warm-up and `rounds` rounds of everybody, more where the machine is noisy.
pub(crate) fn interleave(mut participants: Vec<Participant<'_>>, rounds: usize) -> Outcome {
    let mut outcome = Outcome::default();
    if let Err(why) = lap(&mut participants, 0, &mut Outcome::default()) {
        outcome.refused = Some(why);
        return outcome;
    }
    while outcome.rounds < rounds
        || (outcome.rounds < rounds + ROUNDS_EXTRA && outcome.series.iter().any(is_noisy))
    {
        if let Err(why) = lap(&mut participants, outcome.rounds + 1, &mut outcome) {
            outcome.refused = Some(why);
            return outcome;
        }
        outcome.rounds += 1;
    }
    refuse_noise(&mut outcome);
    outcome
}

/// Everybody once.
fn lap(participants: &mut [Participant<'_>], number: usize, outcome: &mut Outcome) -> Result<(), String> {
    for participant in participants {
        let who = &participant.who;
        let sample = (participant.round)(number).map_err(|error| format!("{who}: {error:#}"))?;
        let values: Vec<String> = sample
            .values
            .iter()
            .map(|value| format!("{} {}", value.what, value.unit.show(value.number)))
            .collect();
        let round = if number == 0 { "warm-up".to_owned() } else { format!("round {number}") };
        println!("  {round:>8}  {who:<24} {}", values.join(", "));
        outcome.commands.entry(who.clone()).or_insert(sample.command);
        for value in sample.values {
            add(outcome, who, value);
        }
    }
    Ok(())
}

fn add(outcome: &mut Outcome, who: &str, value: Value) {
    let known = outcome
        .series
        .iter_mut()
        .find(|series| series.who == who && series.what == value.what && series.size == value.size);
    if let Some(series) = known {
        series.samples.push(value.number);
        series.summary = Summary::of(&series.samples).unwrap_or(series.summary);
    } else if let Some(summary) = Summary::of(&[value.number]) {
        outcome.series.push(Series {
            who: who.to_owned(),
            what: value.what,
            size: value.size,
            unit: value.unit,
            samples: vec![value.number],
            summary,
            refused: None,
        });
    }
}

fn is_noisy(series: &Series) -> bool {
    series.unit.is_time() && !series.summary.is_quiet()
}

fn refuse_noise(outcome: &mut Outcome) {
    for series in outcome.series.iter_mut().filter(|series| is_noisy(series)) {
        let why = format!(
            "too noisy: the middle half of {} rounds is {:.0} % of the median apart, more than {:.0} %",
            series.samples.len(),
            series.summary.spread * 100.0,
            SPREAD_MAX * 100.0
        );
        series.refused = Some(why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;
    use std::cell::RefCell;

    fn seconds(number: f64) -> Sample {
        Sample::new("x").with("time", Unit::Seconds, number)
    }

    #[test]
    fn everybody_takes_turns_and_the_warm_up_does_not_count() {
        let order = RefCell::new(String::new());
        let participant = |name: &'static str| {
            let order = &order;
            Participant::new(name, move |round| {
                order.borrow_mut().push_str(&format!("{name}{round} "));
                Ok(seconds(if round == 0 { 100.0 } else { 1.0 }))
            })
        };
        let outcome = interleave(vec![participant("a"), participant("b")], 2);
        assert_eq!(*order.borrow(), "a0 b0 a1 b1 a2 b2 ");
        assert_eq!((outcome.rounds, outcome.refused), (2, None));
        assert_eq!(outcome.series[0].samples, [1.0, 1.0]);
    }

    #[test]
    fn a_failure_refuses_the_row_even_in_the_last_round() {
        let fails = |round| if round == 3 { bail!("it crashed") } else { Ok(seconds(1.0)) };
        let outcome = interleave(vec![Participant::new("restic", fails)], 5);
        assert_eq!(outcome.refused.as_deref(), Some("restic: it crashed"));
    }

    #[test]
    fn noise_gets_more_rounds_and_then_refuses_its_own_series_only() {
        let noisy = |round: usize| Ok(seconds(if round.is_multiple_of(2) { 1.0 } else { 2.0 }));
        let outcome = interleave(
            vec![Participant::new("lifeboat", |_| Ok(seconds(1.0))), Participant::new("dd", noisy)],
            5,
        );
        assert_eq!((outcome.rounds, outcome.refused), (10, None));
        assert_eq!(outcome.series[0].refused, None);
        assert!(outcome.series[1].refused.as_ref().unwrap().starts_with("too noisy"));
    }

    #[test]
    fn noise_refuses_times_and_leaves_the_bytes_of_the_same_command() {
        let noisy = |round: usize| {
            let sample = seconds(if round.is_multiple_of(2) { 1.0 } else { 2.0 });
            Ok(sample.with("stored", Unit::Bytes, 7.0))
        };
        let outcome = interleave(vec![Participant::new("lifeboat", noisy)], 5);
        assert!(outcome.series[0].refused.as_ref().unwrap().contains("too noisy"));
        assert_eq!((&outcome.series[1].refused, outcome.series[1].summary.median), (&None, 7.0));
    }

    #[test]
    fn a_median_of_calls_is_taken_of_each_number() {
        let sample = |time, bytes| seconds(time).with("stored", Unit::Bytes, bytes);
        let medians = median_of(vec![sample(1.0, 30.0), sample(9.0, 10.0), sample(2.0, 20.0)]);
        assert_eq!(medians.values.iter().map(|value| value.number).collect::<Vec<_>>(), [2.0, 20.0]);
        assert_eq!(median_of(Vec::new()), Sample::default());
    }

    #[test]
    fn later_quiet_rounds_save_a_series() {
        let settles = |round: usize| Ok(seconds(if round < 3 { 5.0 } else { 1.0 }));
        let outcome = interleave(vec![Participant::new("lifeboat", settles)], 5);
        assert!(outcome.rounds > 5 && outcome.refused.is_none(), "{outcome:?}");
    }

    #[test]
    fn bytes_that_differ_are_not_the_machines_noise() {
        let grows = |round: usize| Ok(Sample::new("x").with("added", Unit::Bytes, round as f64));
        let outcome = interleave(vec![Participant::new("lifeboat", grows)], 5);
        assert_eq!((outcome.rounds, outcome.refused), (5, None));
    }
}
