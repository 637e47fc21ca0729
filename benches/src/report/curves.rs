//! Curves of cost against size, for rows that measure several sizes. Both axes are logarithmic: a straight line of slope
//! one means that twice the size costs twice as much.

use super::svg::{Anchor, Drawing};
use crate::goals::people;
use crate::results::{RowResult, Series, Unit};

const COLOURS: [&str; 6] = ["#1f6f8b", "#c0562f", "#5b8c3a", "#7a4fa3", "#a88412", "#555b61"];
const GRID: &str = "#d8dce0";
const LEFT: f64 = 90.0;
const RIGHT: f64 = 490.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 264.0;
const WIDTH: f64 = 760.0;
const PANEL: f64 = 316.0;

/// `None` for rows of one size, and where nothing may be reported.
pub(super) fn plot(row: &RowResult) -> Option<String> {
    if row.refused.is_some() {
        return None;
    }
    let sized: Vec<&Series> = row
        .series
        .iter()
        .filter(|series| series.refused.is_none() && series.size.is_some() && series.summary.median > 0.0)
        .collect();
    let units: Vec<Unit> = [Unit::Seconds, Unit::Bytes, Unit::Memory, Unit::BytesPerSecond]
        .into_iter()
        .filter(|unit| sized.iter().any(|series| series.unit == *unit))
        .collect();
    if units.is_empty() {
        return None;
    }
    let mut drawing = Drawing::new(WIDTH, PANEL * units.len() as f64);
    for (number, unit) in units.into_iter().enumerate() {
        let series: Vec<&Series> = sized.iter().copied().filter(|series| series.unit == unit).collect();
        panel(&mut drawing, PANEL * number as f64, &row.row, unit, &series);
    }
    Some(drawing.finish())
}

/// A logarithmic axis over whole powers of ten.
struct Axis {
    first: i32,
    last: i32,
    from: f64,
    to: f64,
}

impl Axis {
    fn over(numbers: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Self {
        let first = numbers.clone().fold(f64::MAX, f64::min).log10().floor() as i32;
        let last = numbers.fold(f64::MIN_POSITIVE, f64::max).log10().ceil() as i32;
        Self { first, last: last.max(first + 1), from, to }
    }

    fn at(&self, number: f64) -> f64 {
        let part = (number.log10() - f64::from(self.first)) / f64::from(self.last - self.first);
        self.from + part * (self.to - self.from)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        (self.first..=self.last).map(|power| 10f64.powi(power))
    }
}

fn panel(drawing: &mut Drawing, top: f64, row: &str, unit: Unit, all: &[&Series]) {
    let points =
        |series: &&Series| (series.size.unwrap_or(1).max(1) as f64, shown(unit, series.summary.median));
    let x = Axis::over(all.iter().map(|series| points(series).0), LEFT, RIGHT);
    let y = Axis::over(all.iter().map(|series| points(series).1), top + BOTTOM, top + TOP);
    drawing.text((LEFT, top + 20.0), Anchor::Start, &format!("{row}: {}", axis(unit)));
    for tick in x.ticks() {
        drawing.line([x.at(tick), top + TOP, x.at(tick), top + BOTTOM], GRID);
        drawing.text((x.at(tick), top + BOTTOM + 18.0), Anchor::Middle, &people(tick as u64));
    }
    for tick in y.ticks() {
        drawing.line([LEFT, y.at(tick), RIGHT, y.at(tick)], GRID);
        drawing.text((LEFT - 8.0, y.at(tick) + 4.0), Anchor::End, &tick.to_string());
    }
    drawing.text(((LEFT + RIGHT) / 2.0, top + BOTTOM + 36.0), Anchor::Middle, "number of files");
    let mut curves: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
    for series in all {
        let (name, point) = (format!("{}: {}", series.who, series.what), points(series));
        match curves.iter_mut().find(|(known, _)| *known == name) {
            Some((_, points)) => points.push(point),
            None => curves.push((name, vec![point])),
        }
    }
    for (number, (name, mut points)) in curves.into_iter().enumerate() {
        points.sort_by(|first, second| first.0.total_cmp(&second.0));
        let colour = COLOURS[number % COLOURS.len()];
        let placed: Vec<(f64, f64)> = points.iter().map(|point| (x.at(point.0), y.at(point.1))).collect();
        drawing.path(&placed, colour);
        placed.iter().for_each(|point| drawing.dot(*point, colour));
        let legend = top + TOP + 12.0 + 20.0 * number as f64;
        drawing.rectangle([RIGHT + 20.0, legend - 9.0, 12.0, 12.0], colour);
        drawing.text((RIGHT + 38.0, legend + 2.0), Anchor::Start, &name);
    }
}

/// What the axis is labelled with.
fn axis(unit: Unit) -> &'static str {
    match unit {
        Unit::Seconds | Unit::LongestSeconds => "seconds (less is better)",
        Unit::Bytes => "MB (less is better)",
        Unit::Memory => "MiB (less is better)",
        Unit::BytesPerSecond => "GB/s (more is better)",
        Unit::PerSecond => "a second (more is better)",
        Unit::Count => "ratio",
    }
}

/// In the unit that the axis names.
fn shown(unit: Unit, number: f64) -> f64 {
    match unit {
        Unit::Bytes => number / 1e6,
        Unit::Memory => number / f64::from(1 << 20),
        Unit::BytesPerSecond => number / 1e9,
        _ => number,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::sample_row;

    #[test]
    fn points_of_one_series_become_one_curve_in_the_order_of_their_sizes() {
        let mut row = sample_row("files", &[("lifeboat", 10.0), ("lifeboat", 0.1), ("lifeboat", 1.0)]);
        for (series, size) in row.series.iter_mut().zip([1_000_000, 10_000, 100_000]) {
            series.size = Some(size);
        }
        let svg = plot(&row).unwrap();
        assert!(svg.contains(r#"points="90.0,264.0 290.0,149.0 490.0,34.0""#), "{svg}");
        assert!(svg.contains(">1,000,000<") && svg.contains("files: seconds"), "{svg}");
        row.series.iter_mut().for_each(|series| series.size = None);
        assert_eq!(plot(&row), None);
    }
}
