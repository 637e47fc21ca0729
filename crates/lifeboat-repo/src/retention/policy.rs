//! The rules of a policy, with the meaning that restic gave them.
//!
//! Must stay true: what a rule keeps depends on the snapshots of one group and on the time zone only. Ages are counted
//! from the group's newest snapshot, so a host that is not backed up any more loses nothing by waiting.

use super::{Keep, is_tagged};
use crate::snapshots::ListedSnapshot;
use jiff::tz::TimeZone;
use jiff::{Span, Zoned};
use std::fmt;
use std::str::FromStr;

/// A span of the calendar of which one snapshot is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// An hour.
    Hourly,
    /// A day, from midnight to midnight.
    Daily,
    /// A week, from Monday to Sunday.
    Weekly,
    /// A month.
    Monthly,
    /// A year.
    Yearly,
}

impl Period {
    /// All of them, the shortest first.
    pub const ALL: [Self; 5] = [Self::Hourly, Self::Daily, Self::Weekly, Self::Monthly, Self::Yearly];

    /// The word that users see and type.
    pub fn word(self) -> &'static str {
        match self {
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
        }
    }

    /// Equal for two times exactly when they lie in the same period.
    fn of(self, time: &Zoned) -> [i16; 3] {
        let date = time.date();
        let day = i16::from(date.month()) * 32 + i16::from(date.day());
        match self {
            Self::Hourly => [date.year(), day, i16::from(time.hour())],
            Self::Daily => [date.year(), day, 0],
            Self::Weekly => {
                let week = date.iso_week_date();
                [week.year(), i16::from(week.week()), 0]
            }
            Self::Monthly => [date.year(), i16::from(date.month()), 0],
            Self::Yearly => [date.year(), 0, 0],
        }
    }
}

/// How old: `1y6m2w3d12h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Age {
    years: u16,
    months: u16,
    weeks: u16,
    days: u16,
    hours: u16,
}

impl Age {
    fn parts(self) -> [(u16, char); 5] {
        [(self.years, 'y'), (self.months, 'm'), (self.weeks, 'w'), (self.days, 'd'), (self.hours, 'h')]
    }

    /// The time so long before `time`; `None` where the calendar does not reach.
    fn before(self, time: &Zoned) -> Option<Zoned> {
        let span = Span::new()
            .try_years(self.years)
            .and_then(|span| span.try_months(self.months))
            .and_then(|span| span.try_weeks(self.weeks))
            .and_then(|span| span.try_days(self.days))
            .and_then(|span| span.try_hours(self.hours));
        time.checked_sub(span.ok()?).ok()
    }
}

impl fmt::Display for Age {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = self.parts().into_iter().filter(|(number, _)| *number > 0);
        parts.try_for_each(|(number, unit)| write!(formatter, "{number}{unit}"))
    }
}

impl FromStr for Age {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no age; try 2y, 6m, 14d or 1y6m2w3d12h");
        let (mut age, mut rest) = (Self::default(), text);
        while !rest.is_empty() {
            let end = rest.find(|symbol: char| !symbol.is_ascii_digit()).ok_or_else(wrong)?;
            let number: u16 = rest[..end].parse().map_err(|_| wrong())?;
            let part = match rest.as_bytes()[end] {
                b'y' => &mut age.years,
                b'm' => &mut age.months,
                b'w' => &mut age.weeks,
                b'd' => &mut age.days,
                b'h' => &mut age.hours,
                _ => return Err(wrong()),
            };
            *part = part.checked_add(number).ok_or_else(wrong)?;
            rest = &rest[end + 1..];
        }
        if age == Self::default() { Err(wrong()) } else { Ok(age) }
    }
}

/// As many as there are.
pub const UNLIMITED: u32 = u32::MAX;

/// Which snapshots of a group stay: those that at least one rule keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// So many of the newest.
    pub last: u32,
    /// For so many periods the newest of each, in the order of [`Period::ALL`].
    pub periods: [u32; 5],
    /// All that are not older than the newest by more.
    pub within: Option<Age>,
    /// Of those the newest of each period, in the order of [`Period::ALL`].
    pub periods_within: [Option<Age>; 5],
    /// Those that have all the tags of at least one list.
    pub tags: Vec<Vec<String>>,
}

impl Policy {
    /// Whether there is no rule at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds to `reasons` why each of `members`, newest first, stays.
    pub(super) fn judge(&self, members: &[&ListedSnapshot], reasons: &mut [Vec<Keep>], zone: &TimeZone) {
        for reasons in reasons.iter_mut().take(self.last as usize) {
            reasons.push(Keep::Last);
        }
        // A time that no calendar has cannot be judged: such a snapshot is kept by what it is, not by when.
        let times: Vec<Zoned> = members.iter().map(|listed| local(listed, zone)).collect();
        let since = |age: Age| times.first().and_then(|newest| age.before(newest));
        let young = |age: Age| match since(age) {
            Some(since) => times.iter().take_while(|time| **time >= since).count(),
            None => times.len(),
        };
        for (period, count) in Period::ALL.into_iter().zip(self.periods) {
            keep_periods(period, &times, count, reasons, || Keep::Period(period));
        }
        if let Some(age) = self.within {
            let count = young(age);
            reasons[..count].iter_mut().for_each(|reasons| reasons.push(Keep::Within(age)));
        }
        for (period, age) in Period::ALL.into_iter().zip(self.periods_within) {
            if let Some(age) = age {
                keep_newest(period, &times[..young(age)], reasons, || Keep::PeriodWithin(period, age));
            }
        }
        for (listed, reasons) in members.iter().zip(reasons) {
            let hit = self.tags.iter().find(|tags| is_tagged(listed, tags));
            reasons.extend(hit.map(|tags| Keep::Tags(tags.clone())));
        }
    }
}

/// The newest of each of `count` periods stays. The oldest of all stays too, while there are not so many periods: what
/// is kept shall reach back as far as it can.
fn keep_periods(
    period: Period,
    times: &[Zoned],
    count: u32,
    reasons: &mut [Vec<Keep>],
    reason: impl Fn() -> Keep,
) {
    let newest = newest_of(period, times).take(count as usize);
    let numbers: Vec<usize> = newest.collect();
    let reaches_back = numbers.len() < count as usize;
    let oldest = times.len().checked_sub(1).filter(|oldest| reaches_back && !numbers.contains(oldest));
    numbers.into_iter().chain(oldest).for_each(|number| reasons[number].push(reason()));
}

/// The newest of each period stays. The oldest does not by itself: which that is would depend on what a killed run
/// removed.
fn keep_newest(period: Period, times: &[Zoned], reasons: &mut [Vec<Keep>], reason: impl Fn() -> Keep) {
    newest_of(period, times).for_each(|number| reasons[number].push(reason()));
}

/// Where in `times`, newest first, each period begins.
fn newest_of(period: Period, times: &[Zoned]) -> impl Iterator<Item = usize> {
    let mut last = None;
    times.iter().enumerate().filter_map(move |(number, time)| {
        let bucket = Some(period.of(time));
        (std::mem::replace(&mut last, bucket) != bucket).then_some(number)
    })
}

fn local(listed: &ListedSnapshot, zone: &TimeZone) -> Zoned {
    let started = listed.snapshot.started;
    let edge = if started.seconds < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
    // Cannot fail for nanoseconds below 10^9, which the format demands.
    let nanos = i32::try_from(started.nanos).unwrap_or_default();
    jiff::Timestamp::new(started.seconds, nanos).unwrap_or(edge).to_zoned(zone.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_read_and_shown_and_nonsense_is_refused() {
        let age: Age = "1y6m2w3d12h".parse().unwrap();
        assert_eq!(age.to_string(), "1y6m2w3d12h");
        assert_eq!("7d".parse::<Age>().unwrap(), Age { days: 7, ..Age::default() });
        for wrong in ["", "0d", "7", "d", "7x", "-1d", "99999d", "1y 2d", "7ä"] {
            assert!(wrong.parse::<Age>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_week_of_new_year_is_one_week() {
        let zone = TimeZone::UTC;
        let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap().to_zoned(zone.clone());
        let (before, after) = (at("2026-12-31T23:00:00Z"), at("2027-01-01T01:00:00Z"));
        assert_eq!(Period::Weekly.of(&before), Period::Weekly.of(&after));
        for period in [Period::Hourly, Period::Daily, Period::Monthly, Period::Yearly] {
            assert_ne!(period.of(&before), period.of(&after), "{period:?}");
        }
    }
}
