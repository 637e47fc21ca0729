//! Bars of one row: everybody's number beside lifeboat's.

use super::svg::{Anchor, Drawing};
use crate::results::{RowResult, Series, Unit};

const OURS: &str = "#1f6f8b";
const THEIRS: &str = "#b8bfc6";
const LINE: &str = "#d8dce0";
const WIDTH: f64 = 720.0;
const LABELS: f64 = 170.0;
const NUMBERS: f64 = 150.0;
const BAR: f64 = 20.0;
const STEP: f64 = 26.0;

/// `None` where nothing may be reported, or where the row's point is how cost grows with size.
pub(super) fn plot(row: &RowResult) -> Option<String> {
    if row.refused.is_some() {
        return None;
    }
    let reported: Vec<&Series> =
        row.series.iter().filter(|series| series.refused.is_none() && series.size.is_none()).collect();
    let mut whats: Vec<(&str, Unit)> = Vec::new();
    for series in &reported {
        if series.unit != Unit::Count && !whats.contains(&(&series.what, series.unit)) {
            whats.push((&series.what, series.unit));
        }
    }
    let panels: Vec<(String, Vec<&Series>)> = whats
        .into_iter()
        .map(|(what, unit)| {
            let bars = reported.iter().copied().filter(|series| series.what == what && series.unit == unit);
            (format!("{what} ({})", better(unit)), bars.collect::<Vec<_>>())
        })
        .filter(|(_, bars)| bars.len() > 1)
        .collect();
    if panels.is_empty() {
        return None;
    }
    let height: f64 = panels.iter().map(|(_, bars)| 40.0 + STEP * bars.len() as f64 + 12.0).sum();
    let mut drawing = Drawing::new(WIDTH, height + 10.0);
    let mut top = 10.0;
    for (title, bars) in &panels {
        top = panel(&mut drawing, top, &format!("{}: {title}", row.row), bars);
    }
    Some(drawing.finish())
}

/// Which way is better; each bar says its number and unit itself.
fn better(unit: Unit) -> &'static str {
    match unit {
        Unit::BytesPerSecond | Unit::PerSecond => "more is better; × lifeboat",
        _ => "less is better; × lifeboat",
    }
}

fn panel(drawing: &mut Drawing, top: f64, title: &str, bars: &[&Series]) -> f64 {
    drawing.text((LABELS, top + 16.0), Anchor::Start, title);
    let most = bars.iter().map(|series| series.summary.median).fold(f64::MIN_POSITIVE, f64::max);
    let scale = (WIDTH - LABELS - NUMBERS) / most;
    let ours = bars.iter().find(|series| series.who == "lifeboat").map(|series| series.summary.median);
    let mut y = top + 28.0;
    drawing.line([LABELS, y - 2.0, LABELS, y + STEP * bars.len() as f64], LINE);
    for series in bars {
        let fill = if series.who.starts_with("lifeboat") { OURS } else { THEIRS };
        let length = series.summary.median * scale;
        drawing.rectangle([LABELS, y, length.max(1.0), BAR], fill);
        drawing.text((LABELS - 8.0, y + 15.0), Anchor::End, &series.who);
        let mut number = series.unit.show(series.summary.median);
        if let Some(ours) = ours.filter(|ours| *ours > 0.0 && series.who != "lifeboat") {
            number += &format!("  × {:.2}", series.summary.median / ours);
        }
        drawing.text((LABELS + length + 6.0, y + 15.0), Anchor::Start, &number);
        y += STEP;
    }
    y + 24.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::sample_row;

    #[test]
    fn the_longest_bar_is_the_greatest_number_and_names_are_escaped() {
        let row = sample_row("first", &[("lifeboat", 1.0), ("a < b & c", 4.0)]);
        let svg = plot(&row).unwrap();
        assert!(
            svg.contains("a &lt; b &amp; c") && svg.contains("first: time (less is better; × lifeboat)"),
            "{svg}"
        );
        let widths: Vec<f64> = svg
            .lines()
            .filter(|line| line.contains(OURS) || line.contains(THEIRS))
            .filter_map(|line| line.split("width=\"").nth(1)?.split('"').next()?.parse().ok())
            .collect();
        assert_eq!(widths, [100.0, 400.0]);
        assert!(svg.contains("4.00 s  × 4.00") && svg.contains(">1.00 s<"), "{svg}");
    }

    #[test]
    fn a_refused_row_has_no_plot_and_a_refused_series_no_bar() {
        let mut row = sample_row("first", &[("lifeboat", 1.0), ("restic", 4.0), ("borg", 5.0)]);
        row.series[2].refused = Some("too noisy".to_owned());
        assert!(!plot(&row).unwrap().contains("borg"));
        row.refused = Some("restic failed".to_owned());
        assert_eq!(plot(&row), None);
    }
}
