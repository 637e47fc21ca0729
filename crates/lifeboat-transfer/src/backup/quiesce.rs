//! How services are made to hold still while their files are read for the second time.
//!
//! With a [`Quiesce`], a backup takes two passes in one session. The first one reads everything while the services run,
//! and everything it stored is made durable. Then [`Quiesce::hold`] is called, and the second pass looks at every file
//! again and reads those whose status differs or whose times lie at or after the begin of the first pass. As soon as the
//! last byte is read, [`Quiesce::release`] is called: before compressing, packing and committing what was read.
//!
//! So the services are held for as long as it takes to look at all files and to read those that changed meanwhile,
//! whatever the size of the rest. Before the first pass the file systems' dirty pages are written back (`syncfs`):
//! without that, a store through a memory mapping into a page that is dirty already changes content and no time.
//!
//! What cannot be read twice is read once: standard input and commands before the hold, because a command may need the
//! services; archives ([`super::ArchiveSpec`]) in it, because they are read in place of the files of the services.

//!
//! A database that mends by its log what was read of it while it wrote (PostgreSQL in backup mode) need not hold still:
//! [`Quiesce::mended`] says where that is. There the second pass takes everything over as the first one read it, and
//! looks only at what [`Quiesce::remainder`] names: the log, and files that exist in memory only.

use super::SourceSpec;
use super::{MemoryFile, TreePath};
use std::error::Error;

/// A release that could not keep its promise is tried so often in all.
pub const ROUNDS_MAX: u32 = 3;

/// Makes services hold still. All calls come from the thread that called the backup.
pub trait Quiesce {
    /// Called before each first pass. `round` counts from 1; it does so again where a collection ended the session and
    /// everything is read anew.
    ///
    /// # Errors
    /// End the backup: there is no snapshot.
    fn prepare(&self, round: u32) -> Result<(), Box<dyn Error + Send + Sync>> {
        let _ = round;
        Ok(())
    }

    /// The part of a source of which what the first pass reads while services write will do. Asked after `prepare`.
    fn mended(&self, source: &SourceSpec) -> Option<TreePath> {
        let _ = source;
        None
    }

    /// What the second pass looks at in the part of a source that is mended. Asked while holding.
    fn remainder(&self, source: &SourceSpec) -> Remainder {
        let _ = source;
        Remainder::default()
    }

    /// Makes them hold still; returns when they do. `round` counts from 1.
    ///
    /// # Errors
    /// End the backup: there is no snapshot. What was done until then is for the implementation to undo; `release` is
    /// not called.
    fn hold(&self, round: u32) -> Result<(), Box<dyn Error + Send + Sync>>;

    /// Lets them go on, at once. Called exactly once for each `hold` that succeeded, also where reading failed, was
    /// interrupted or panicked.
    fn release(&self) -> Verdict;

    /// What is said of the moment; asked for once, before the snapshot is committed.
    fn claims(&self) -> Claims;
}

/// What the second pass looks at, where it takes over the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remainder {
    /// Folders and files that are looked at again, with everything below them. Where they are written on meanwhile, or
    /// something in them goes, nobody is told: what is needed of them has to stay as it is until `release`.
    pub again: Vec<TreePath>,
    /// Files that are added, or take the place of what is there.
    pub files: Vec<MemoryFile>,
    /// What is left out.
    pub without: Vec<TreePath>,
}

/// Whether what was read while holding can be relied on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Everything held still.
    Kept,
    /// Something did not, for this reason: it is tried again, at most [`ROUNDS_MAX`] times in all. After that the snapshot
    /// is taken as it is, and the claims have to say so.
    Again(String),
}

/// What a snapshot says about the moment it shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// Services that were unhealthy, one text each.
    pub unhealthy: Vec<String>,
    /// A JSON object of at most 64 KiB, or empty.
    pub consistency: String,
    /// Details of sources that became known late, by their place among the sources of the backup.
    pub details: Vec<(usize, String)>,
}

/// Services that hold still; they are released when this goes.
pub(super) struct Holding<'q> {
    quiesce: &'q dyn Quiesce,
    verdict: Option<Verdict>,
}

impl<'q> Holding<'q> {
    pub(super) fn begin(quiesce: &'q dyn Quiesce, round: u32) -> Result<Self, Box<dyn Error + Send + Sync>> {
        quiesce.hold(round)?;
        Ok(Self { quiesce, verdict: None })
    }

    /// The first call releases.
    pub(super) fn release(&mut self) -> Verdict {
        self.verdict.get_or_insert_with(|| self.quiesce.release()).clone()
    }
}

impl Drop for Holding<'_> {
    fn drop(&mut self) {
        self.release();
    }
}
