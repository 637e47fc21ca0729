//! Makes a directory equal to a snapshot's subtree.
//!
//! One thread walks the entries, makes directories and hands everything else in batches to workers through a bounded
//! channel. Large files are cut into spans that several workers write at once.
//!
//! Must stay true:
//! - Whatever the tree contains and whatever other processes do to the target meanwhile, nothing outside of it is read,
//!   written or deleted: everything happens relative to directories held open, no symbolic link is followed, and an
//!   existing file is opened for writing only where [`patch`] says so.
//! - A file whose content is the snapshot's already is not written: only its metadata is mended.
//! - A file is either complete, with its metadata, or absent, or what it was before. Only a killed process leaves
//!   unfinished files: new ones have mode 0600, temporaries are called `.lifeboat-restore-*`, a large file that was
//!   being changed in its place is a mixture of old and new, and all of them have the time of the attempt. The same
//!   goes for a disk that fails or fills up in that moment, which is reported.
//! - Trouble with one file is reported and counted, and the rest goes on.
//! - Memory does not grow with the tree: per worker a buffer of [`content::WRITE_BYTES`] and one chunk; in the channel
//!   [`work::BATCHES_PER_WORKER`] batches per worker, each of at most [`work::BATCH_FILES`] entries; some thousand entries
//!   that wait for their neighbours in the repository ([`window`]); for the open
//!   directories a descriptor and the metadata each, and with `delete` also the names that were there before; about
//!   200 bytes and a path for each set of hard links; a bit for each piece of the file that is compared.
//!
//! Read next: [`dispatch`] for the walk, [`place`] for how names are taken, [`patch`] for files changed in their place,
//! [`metadata`] for what comes after.

mod beneath;
mod compare;
mod content;
mod directory;
mod dispatch;
mod dry_run;
mod error;
mod existing;
mod large;
mod link;
mod metadata;
mod patch;
mod place;
mod remove;
mod report;
mod run;
mod spans;
mod unfinished;
mod walk;
mod window;
mod work;
mod worker;
mod xattr;

#[cfg(test)]
mod tests;

pub use crate::pieces::{ChunkError, ChunkReader};
pub use error::{Error, ErrorKind, Result};
pub use report::{Problem, ProblemKind, Progress, Quiet, Report};

use lifeboat_format::{Entry, TreePath};
use rustix::fs::Mode;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// The next entry of a tree, or why it cannot be read.
pub type EntryResult = std::result::Result<(TreePath, Entry), ChunkError>;

/// What to do with what is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// Everything is made equal. Regular files are compared by content, and only what differs is written.
    Always,
    /// A file of the same size and time is kept, and its other metadata set.
    IfChanged,
    /// Nothing that exists is changed, not even metadata; what is missing is added.
    Never,
}

/// Decides by an entry's path in the tree (not stripped of the base) and whether it is a directory.
///
/// Excluded directories are excluded with everything below them.
pub type Filter<'f> = dyn Fn(&TreePath, bool) -> bool + Sync + 'f;

/// How to restore.
#[derive(Clone, Copy)]
pub struct Options<'o> {
    /// Workers; the calling thread walks the tree besides.
    pub threads: NonZeroUsize,
    /// What to do with what is there already.
    pub overwrite: Overwrite,
    /// Whether to delete, inside restored directories, what the snapshot does not have. Never what `filter` excludes.
    pub delete: bool,
    /// Whether only to report what would be done.
    pub dry_run: bool,
    /// Whether to read every written file again and compare it with the repository.
    pub verify: bool,
    /// Which entries to restore; `None` is all.
    pub filter: Option<&'o Filter<'o>>,
    /// Raised by the caller to stop early.
    pub interrupt: &'o AtomicBool,
}

impl<'o> Options<'o> {
    /// One worker per processor; keeps unchanged files, deletes nothing.
    pub fn new(interrupt: &'o AtomicBool) -> Self {
        Self {
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            overwrite: Overwrite::IfChanged,
            delete: false,
            dry_run: false,
            verify: false,
            filter: None,
            interrupt,
        }
    }

    fn may_overwrite(&self) -> bool {
        self.overwrite != Overwrite::Never
    }
}

/// Makes `target` equal to the subtree at `base`.
///
/// `entries` are those at and below `base`, in tree order, starting with `base` itself. A directory's entry becomes
/// `target`; any other entry becomes a file in `target` under its own name. `target` is made where it is missing.
///
/// # Guarantees
/// See the module. Nothing is synced to disk but files that are changed in their place.
///
/// # Errors
/// Only what ends the restore; look into the report for everything else.
///
/// # Cost
/// Raises the process's soft limit of open files to its hard limit. Regular files that exist are read. Each chunk
/// that they do not have is read once, twice with `verify`.
pub fn restore(
    entries: &mut dyn Iterator<Item = EntryResult>,
    base: &TreePath,
    reader: &dyn ChunkReader,
    target: &Path,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Report> {
    let ledger = report::Ledger::new(progress);
    let mut walk = walk::Walk::new(entries, base, options.filter);
    let first = walk.first()?;
    let trouble = |source: std::io::Error| Error::Target { target: target.to_owned(), source };
    if options.dry_run {
        let target = dry_run::open_target(target).map_err(trouble)?;
        dry_run::run(walk, first, &ledger, target, options, reader)?;
        return Ok(ledger.finish());
    }
    crate::descriptors::raise_limit();
    // What becomes `target` is private until it has its own permissions.
    let mode = if first.is_directory() { Mode::RWXU } else { Mode::from_raw_mode(0o777) };
    let fd = beneath::open_target(target, mode).map_err(trouble)?;
    let root = fd.try_clone().map_err(trouble)?;
    let run = run::Run { options, reader, ledger, root, user: run::User::current(), base };
    let result = dispatch::dispatch(&run, walk, first, fd);
    if run.is_interrupted() {
        return Err(Error::Interrupted);
    }
    result.map(|()| run.ledger.finish())
}
