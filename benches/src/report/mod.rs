//! The report: `docs/benchmarks.md` and its plots, from the results and the notes beside them.
//!
//! Must stay true: the same results and notes give the same bytes, so that what is committed can be made again; what was
//! refused is said in the place where its number would stand.
//! Read next: [`page`] for the text, [`bars`] and [`curves`] for the plots.

mod bars;
mod curves;
mod notes;
mod page;
mod svg;

use crate::results::{Results, RowResult, write_whole};
use anyhow::{Context, Result};
use std::path::Path;

/// Makes everything below `documents` again.
pub(crate) fn write(documents: &Path) -> Result<()> {
    let folder = documents.join("benchmarks");
    let results = Results::read(&folder.join("results.json"))?;
    let notes = match std::fs::read_to_string(folder.join("notes.md")) {
        Ok(text) => notes::sections(&text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Default::default(),
        Err(error) => return Err(error).context("cannot read benchmarks/notes.md"),
    };
    let mut plots = Vec::new();
    for row in results.rows.values() {
        plots.extend(bars::plot(row).map(|plot| (format!("{}.svg", row.row), plot)));
        plots.extend(curves::plot(row).map(|plot| (format!("{}-sizes.svg", row.row), plot)));
    }
    for (name, plot) in &plots {
        write_whole(&folder.join(name), plot)?;
    }
    let names: Vec<&str> = plots.iter().map(|(name, _)| name.as_str()).collect();
    write_whole(&documents.join("benchmarks.md"), &page::text(&results, &notes, &names))
}

/// A row's outcome for whoever waits at the terminal.
pub(crate) fn print(row: &RowResult) {
    page::section(row, None).iter().filter(|line| !line.is_empty()).for_each(|line| println!("{line}"));
}
