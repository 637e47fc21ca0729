//! The text of `docs/benchmarks.md`.

use crate::goals::{GOALS, Verdict, people};
use crate::results::{Results, RowResult, Series};
use crate::rows::ROWS;
use crate::stages::limit;
use crate::summary::SPREAD_MAX;
use std::collections::BTreeMap;

const BEGINNING: &str = "\
# Benchmarks

Made by `cargo xtask bench` from [results.json](benchmarks/results.json) and [notes.md](benchmarks/notes.md): change
those, not this page. `cargo xtask bench ROW` measures one row again and leaves the others; `cargo xtask bench --list`
says which there are. Corpora and peers are made below `~/.cache/lifeboat/bench`.

How it is measured:

- All programs of a row take turns: A B C, A B C, …; one round of each to warm up, then at least five that count. Numbers
  are medians. Before each command, outside of its time, what it reads is read once, so that the page cache is warm, and
  what was written before is synced.
- *Spread* is the middle half of the rounds over their median. Where it is over 15 %, up to five more rounds are run;
  where it still is, the number is refused, and every ratio with it. Bytes are not noisy.
- Memory is the largest resident set of the command (`ru_maxrss`); of a pipeline, that of its largest process. Rows that take
  many minutes and state nothing else (`huge`, `chunks`) have one round after the warm-up, and no times.
- *Stored* and *added* are bytes of the whole repository, as `du --apparent-size` counts them. MB are 10^6 bytes.
- In the warm-up round of what backs up, each program's snapshot is restored and compared with its source: names, bytes, permissions,
  owners, times, links. In the row `restore` every round is. A difference, or a program that fails, refuses the row.
- Every program encrypts, and compresses with zstd at level 3. lifeboat opens with a key file, the others with a
  password, which they stretch on every command: that is part of their time.
";

/// The whole page.
pub(crate) fn text(results: &Results, notes: &BTreeMap<String, String>, plots: &[&str]) -> String {
    let mut lines: Vec<String> = BEGINNING.lines().map(str::to_owned).collect();
    lines.extend(machines(results));
    lines.extend(verdicts(results));
    lines.extend(limits(results));
    for row in ROWS {
        match results.rows.get(row.name) {
            None => lines.extend([
                "".into(),
                format!("## {}", row.name),
                "".into(),
                format!("{}. Not measured yet.", upper(row.about)),
            ]),
            Some(result) => {
                lines.extend(section(result, notes.get(row.name).map(String::as_str)));
                for plot in plots.iter().filter(|plot| belongs(plot, row.name)) {
                    lines.extend(["".into(), format!("![{}](benchmarks/{plot})", row.about)]);
                }
            }
        }
    }
    lines.join("\n") + "\n"
}

fn belongs(plot: &str, row: &str) -> bool {
    plot.strip_prefix(row).is_some_and(|rest| rest == ".svg" || rest == "-sizes.svg")
}

fn upper(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn machines(results: &Results) -> Vec<String> {
    let mut lines = vec!["".into(), "## Machine".into(), "".into()];
    let mut known: Vec<(String, Vec<&str>)> = Vec::new();
    for row in results.rows.values() {
        let machine = &row.machine;
        let text = format!(
            "{}, {} cores, {:.0} GiB of memory; {}; {}",
            machine.processor,
            machine.cores,
            machine.memory_bytes as f64 / f64::from(1 << 30),
            machine.kernel,
            machine.file_system
        );
        match known.iter_mut().find(|(other, _)| *other == text) {
            Some((_, rows)) => rows.push(&row.row),
            None => known.push((text, vec![&row.row])),
        }
    }
    for (text, rows) in &known {
        let rows = if known.len() == 1 { "all rows".to_owned() } else { rows.join(", ") };
        lines.push(format!("- {rows}: {text}"));
    }
    lines
}

/// One line for each goal of each row that was measured.
fn verdicts(results: &Results) -> Vec<String> {
    let mut lines = vec!["".into(), "## Reached and not reached".into(), "".into()];
    lines.push("| row | figure | reached | floor | goal | verdict |".into());
    lines.push("| --- | --- | --- | --- | --- | --- |".into());
    for goal in GOALS {
        let (reached, verdict) = match results.rows.get(goal.row).map(|row| goal.judge(row)) {
            None => ("–".to_owned(), "not measured yet".to_owned()),
            Some(Verdict::Goal(number)) => (goal.figure.unit().show(number), "goal reached".to_owned()),
            Some(Verdict::Floor(number)) if goal.goal.is_none() => {
                (goal.figure.unit().show(number), "floor reached".to_owned())
            }
            Some(Verdict::Floor(number)) => {
                (goal.figure.unit().show(number), "floor reached, goal **not reached**".to_owned())
            }
            Some(Verdict::Missed(number)) if goal.floor.is_none() => {
                (goal.figure.unit().show(number), "goal **not reached**".to_owned())
            }
            Some(Verdict::Missed(number)) => {
                (goal.figure.unit().show(number), "floor **not reached**".to_owned())
            }
            Some(Verdict::Refused(why)) => ("–".to_owned(), format!("refused: {}", cell(&why))),
        };
        lines.push(format!(
            "| [{row}](#{row}) | {} | {reached} | {} | {} | {verdict} |",
            goal.figure.words(),
            goal.bound(goal.floor),
            goal.bound(goal.goal),
            row = goal.row,
        ));
    }
    lines
}

/// What the stages say could be reached, beside what was.
fn limits(results: &Results) -> Vec<String> {
    let mut lines = vec!["".into(), "## The limit of this machine".into(), "".into()];
    let Some(stages) = results.rows.get("stages") else {
        lines.push("The stages were not measured yet.".into());
        return lines;
    };
    lines.push(
        "Computed from the stages below: each byte costs the core-seconds of the stages it goes through, all cores work \
         all the time, and the disk writes beside them. For a snapshot: read, hash, compress, seal, and decode again to \
         verify. For a restore: decode and create files."
            .into(),
    );
    lines.extend(["".into(), "| row | processor | disk | limit | reached | limit / reached |".into()]);
    lines.push("| --- | --- | --- | --- | --- | --- |".into());
    type Model = fn(&RowResult, f64) -> Result<limit::Limit, String>;
    for (name, model) in [("first", limit::snapshot as Model), ("restore", limit::restore)] {
        let line = results.rows.get(name).ok_or_else(|| "not measured yet".to_owned()).and_then(|row| {
            let bytes = data_bytes(&row.data).ok_or("the size of its data is not known")?;
            let (limit, reached) = (model(stages, bytes)?, row.median("lifeboat", "time", None)?);
            Ok(format!(
                "| {name} | {:.2} s | {:.2} s | {:.2} s | {reached:.2} s | {:.2} |",
                limit.processor_seconds,
                limit.disk_seconds,
                limit.seconds(),
                limit.seconds() / reached
            ))
        });
        lines
            .push(line.unwrap_or_else(|why| format!("| {name} | – | – | – | refused: {} | – |", cell(&why))));
    }
    lines
}

/// Out of `86583 files, 1.480 GB`.
fn data_bytes(data: &str) -> Option<f64> {
    let number = data.split(", ").find_map(|part| part.strip_suffix(" GB"))?;
    number.parse::<f64>().ok().map(|gigabytes| gigabytes * 1e9)
}

/// One row: numbers, commands, versions, notes.
pub(crate) fn section(row: &RowResult, notes: Option<&str>) -> Vec<String> {
    let about = ROWS.iter().find(|known| known.name == row.row).map_or("", |known| known.about);
    let mut lines = vec!["".into(), format!("## {}", row.row), "".into()];
    let data = if row.data.is_empty() { String::new() } else { format!(" Data: {}.", row.data) };
    lines.push(format!("{}.{data}", upper(about)));
    lines.push("".into());
    if let Some(why) = &row.refused {
        lines.push(format!("**Refused**: {why}"));
    } else {
        lines.push("| who | what | median | spread | least – greatest |".into());
        lines.push("| --- | --- | --- | --- | --- |".into());
        lines.extend(row.series.iter().map(line));
    }
    lines.push("".into());
    let versions: Vec<String> = row.versions.values().cloned().collect();
    lines.push(format!(
        "{} round{}, {} cache, {}, commit {}. {}.",
        row.rounds,
        if row.rounds == 1 { "" } else { "s" },
        row.cache,
        row.date,
        row.commit,
        versions.join("; ")
    ));
    // The stages are no commands.
    if !row.commands.is_empty() && row.row != "stages" {
        lines.extend(["".into(), "```sh".into()]);
        lines.extend(row.commands.iter().map(|(who, command)| format!("{command}    # {who}")));
        lines.push("```".into());
    }
    if let Some(notes) = notes {
        lines.extend(["".into(), notes.to_owned()]);
    }
    lines
}

fn line(series: &Series) -> String {
    let size = series.size.map_or_else(String::new, |size| format!(", {}", people(size)));
    let (who, what) = (cell(&series.who), cell(&series.what));
    if let Some(why) = &series.refused {
        return format!("| {who} | {what}{size} | refused: {} | – | – |", cell(why));
    }
    let (unit, summary) = (series.unit, &series.summary);
    let loud = if summary.spread > SPREAD_MAX && unit.is_time() { " (!)" } else { "" };
    format!(
        "| {who} | {what}{size} | {} | {:.1} %{loud} | {} – {} |",
        unit.show(summary.median),
        summary.spread * 100.0,
        unit.show(summary.least),
        unit.show(summary.greatest)
    )
}

/// Text that stays in its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::sample_row;

    fn page(results: &Results) -> String {
        let notes = BTreeMap::from([("first".to_owned(), "Most of it is zstd.".to_owned())]);
        text(results, &notes, &["first.svg"])
    }

    #[test]
    fn the_page_has_numbers_verdicts_commands_plots_and_notes() {
        let mut results = Results::default();
        results.replace(sample_row("first", &[("lifeboat", 4.0), ("restic", 10.0), ("tar | zstd", 5.0)]));
        let page = page(&results);
        for expected in [
            "| lifeboat | time | 4.00 s | 0.0 % | 4.00 s – 4.00 s |",
            r"| [first](#first) | time of lifeboat / time of tar \| zstd | 0.80 | ≤ 0.90 | ≤ 0.75 | floor reached, goal **not reached** |",
            "| 0.40 | ≤ 0.32 | – | floor **not reached** |",
            "lifeboat snapshot x    # lifeboat",
            "![first snapshot of a kernel tree](benchmarks/first.svg)",
            "Most of it is zstd.",
            "5 rounds, warm cache, 2026-01-02, commit abc. 0.1.0.",
            "Reading back and verifying all that is stored. Not measured yet.",
        ] {
            assert!(page.contains(expected), "{expected}\n---\n{page}");
        }
    }

    #[test]
    fn a_refused_row_shows_its_reason_and_no_number() {
        let mut row = sample_row("first", &[("lifeboat", 4.0), ("restic", 10.0)]);
        row.refused = Some("restic: the restored tree differs".to_owned());
        let mut results = Results::default();
        results.replace(row);
        let page = page(&results);
        assert!(page.contains("**Refused**: restic: the restored tree differs"), "{page}");
        assert!(page.contains("refused: restic: the restored tree differs |"), "{page}");
        assert!(!page.contains("4.00 s") && !page.contains("10.00 s"), "{page}");
    }

    #[test]
    fn the_size_of_the_data_is_read_back_for_the_limit() {
        assert_eq!(data_bytes("86583 files, 1.480 GB"), Some(1.48e9));
        assert_eq!(data_bytes("three files"), None);
    }
}
