//! The rows of the benchmark, by the words that the command line takes.
//!
//! Must stay true: each row prepares what it needs and depends on no other row; what it measures is checked in its
//! warm-up round by restoring and comparing.

mod backup;
mod database;
mod docker;
mod files;
mod in_place;
mod latency;
mod pages;
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
}

/// All rows in the order of the report.
pub(crate) const ROWS: &[Row] = &[
    Row { name: "stages", about: "each stage alone, on one core", run: stages::stages },
    Row { name: "first", about: "first snapshot of a kernel tree", run: backup::first },
    Row { name: "again", about: "the same tree again, nothing changed", run: backup::again },
    Row {
        name: "touched",
        about: "every time changed, and ten point releases of content",
        run: backup::touched,
    },
    Row { name: "restore", about: "the kernel tree into an empty folder", run: reading::restore },
    Row { name: "postgres-first", about: "first snapshot of a PostgreSQL data folder", run: database::first },
    Row { name: "postgres-again", about: "the same after 1,000 transactions", run: database::again },
    Row { name: "pages", about: "database files cut at their pages and by content", run: pages::pages },
    Row { name: "verify", about: "reading back and verifying all that is stored", run: reading::verify },
    Row {
        name: "incompressible",
        about: "first snapshot of one file of random bytes",
        run: streams::incompressible,
    },
    Row { name: "stream", about: "reading an unchanged stream again", run: streams::stream },
    Row { name: "in-place", about: "restoring over a file that differs a little", run: in_place::in_place },
    Row { name: "files", about: "ten thousand, a hundred thousand, a million files", run: files::files },
    Row { name: "snapshots", about: "a thousand snapshots in one repository", run: files::snapshots },
    Row { name: "huge", about: "one file of 64 GB", run: scale::huge },
    Row { name: "chunks", about: "a repository of ten million chunks", run: scale::chunks },
    Row { name: "index", about: "an index of a hundred million chunks", run: scale::index },
    Row {
        name: "docker-postgres",
        about: "PostgreSQL in a container under pgbench's load",
        run: docker::postgres,
    },
    Row { name: "docker-mariadb", about: "MariaDB in a container under load", run: docker::mariadb },
    Row { name: "docker-redis", about: "Redis in a container under load", run: docker::redis },
    Row { name: "latency", about: "listing the snapshots of a small repository", run: latency::latency },
];

/// The row of that name.
pub(crate) fn find(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name)
}
