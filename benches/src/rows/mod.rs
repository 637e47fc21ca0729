//! The rows of the benchmark, by the words that the command line takes.
//!
//! Must stay true: each row prepares what it needs and depends on no other row; what it measures is checked in its
//! warm-up round by restoring and comparing.

mod backup;
mod collecting;
mod database;
mod docker;
mod files;
mod images;
mod in_place;
mod latency;
mod pages;
mod project;
mod reading;
mod scale;
mod stages;
pub(crate) mod streams;

use crate::bench::Bench;
use crate::results::RowResult;
use anyhow::Result;

/// One row.
pub(crate) struct Row {
    /// What the command line calls it.
    pub(crate) name: &'static str,
    /// What it measures, in a line.
    pub(crate) about: &'static str,
    pub(crate) run: fn(&Bench) -> Result<RowResult>,
    /// It states memory and bytes alone, which are the same however busy the machine is: after the warm-up one round is
    /// enough.
    pub(crate) is_quiet: bool,
}

const fn row(name: &'static str, about: &'static str, run: fn(&Bench) -> Result<RowResult>) -> Row {
    Row { name, about, run, is_quiet: false }
}

const fn quiet_row(name: &'static str, about: &'static str, run: fn(&Bench) -> Result<RowResult>) -> Row {
    Row { name, about, run, is_quiet: true }
}

/// All rows in the order of the report.
pub(crate) const ROWS: &[Row] = &[
    row("stages", "each stage alone, on one core", stages::stages),
    row("first", "first snapshot of a kernel tree", backup::first),
    row("again", "the same tree again, nothing changed", backup::again),
    row("touched", "every time changed, and ten point releases of content", backup::touched),
    row("restore", "the kernel tree into an empty folder", reading::restore),
    row("postgres-first", "first snapshot of a PostgreSQL data folder", database::first),
    row("postgres-again", "the same after 1,000 transactions", database::again),
    row("pages", "database files cut at their pages and by content", pages::pages),
    row("verify", "reading back and verifying all that is stored", reading::verify),
    row("collect", "forgetting and collecting among two hundred snapshots", collecting::collect),
    row("increments", "restoring after thirty increments", collecting::increments),
    row("incompressible", "first snapshot of one file of random bytes", streams::incompressible),
    row("stream", "reading an unchanged stream again", streams::stream),
    row("in-place", "restoring over a file that differs a little", in_place::in_place),
    row("files", "ten thousand, a hundred thousand, a million files", files::files),
    row("snapshots", "a thousand snapshots in one repository", files::snapshots),
    quiet_row("huge", "one file of 64 GB", scale::huge),
    quiet_row("chunks", "a repository of ten million chunks", scale::chunks),
    row("index", "an index of a hundred million chunks", scale::index),
    row("docker-postgres", "PostgreSQL in a container under pgbench's load", docker::postgres),
    row("docker-postgres-4gb", "the same with 4 GB, in backup mode", docker::postgres_large),
    row("docker-postgres-4gb-paused", "the same with 4 GB, paused", docker::postgres_large_paused),
    row("docker-mariadb", "MariaDB in a container under load", docker::mariadb),
    row("docker-redis", "Redis in a container under load", docker::redis),
    row("images", "ten images that share a base, two versions of each", images::images),
    row(
        "project",
        "a compose project under load, brought back on an engine that has nothing of it",
        project::project,
    ),
    row("latency", "listing the snapshots of a small repository", latency::latency),
];

/// The row of that name.
pub(crate) fn find(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name)
}
