//! What a restore did, and what it could not do.
//!
//! Must stay true: every entry of the tree is counted exactly once, as restored, kept, excluded, unreached or failed;
//! and every shortcoming is a problem in the report, so that a report without problems means an exact restore.

use lifeboat_format::TreePath;
use rustix::io::Errno;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Told what happens, from several threads at once; it should return quickly.
pub trait Progress: Sync {
    /// So many more entries are done, with so many bytes of content.
    fn advanced(&self, entries: u64, bytes: u64) {
        let _ = (entries, bytes);
    }

    /// One file is not as the snapshot has it. Also in the report, there up to a bound.
    fn problem(&self, problem: &Problem) {
        let _ = problem;
    }
}

/// Tells nobody.
#[derive(Debug, Clone, Copy)]
pub struct Quiet;

impl Progress for Quiet {}

/// What about a file is not as the snapshot has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProblemKind {
    /// Not restored: its content is damaged or cannot be read from the repository.
    Content,
    /// Not restored: the system refuses to create or write it.
    Create,
    /// Not restored: there is no room for it, or the quota is used up.
    Full,
    /// Not restored: making a device takes privileges.
    Device,
    /// Not restored: something else is in its place, and may not be removed.
    Exists,
    /// Not restored: changing it in its place failed half way. It has the time of the attempt.
    Mixed,
    /// Not restored: somebody else changed the target meanwhile.
    Raced,
    /// Restored as a copy of its own instead of a hard link.
    HardLink,
    /// The owner or group is another.
    Owner,
    /// The permissions are others.
    Mode,
    /// An extended attribute is missing, or one is left that should not be there.
    Xattr,
    /// The time of the last change is another.
    Time,
    /// Not deleted, although the snapshot does not have it.
    Delete,
}

impl ProblemKind {
    /// All kinds.
    pub const ALL: [Self; 13] = [
        Self::Content,
        Self::Create,
        Self::Full,
        Self::Device,
        Self::Exists,
        Self::Mixed,
        Self::Raced,
        Self::HardLink,
        Self::Owner,
        Self::Mode,
        Self::Xattr,
        Self::Time,
        Self::Delete,
    ];

    /// What an error means that making or writing something ended in.
    pub(super) fn of_creating(error: Errno) -> Self {
        match error {
            Errno::NOSPC | Errno::DQUOT => Self::Full,
            _ => Self::Create,
        }
    }

    /// For people: `12 files: {phrase}`.
    pub fn phrase(self) -> &'static str {
        match self {
            Self::Content => "content damaged or unreadable",
            Self::Create => "could not be created",
            Self::Full => "no room for it",
            Self::Device => "device needs privileges",
            Self::Exists => "something else is in its place",
            Self::Mixed => "only partly changed",
            Self::Raced => "changed by somebody else meanwhile",
            Self::HardLink => "copied instead of hard-linked",
            Self::Owner => "could not set owner",
            Self::Mode => "could not set mode",
            Self::Xattr => "could not set extended attribute",
            Self::Time => "could not set time",
            Self::Delete => "could not be deleted",
        }
    }
}

/// One file that is not as the snapshot has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, relative to the target. Names are raw: escape them for display.
    pub path: TreePath,
    /// What about it.
    pub kind: ProblemKind,
    /// Which attribute, and why.
    pub detail: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}: {}", self.path, self.kind.phrase(), self.detail)
    }
}

/// What a restore did; in a dry run, what it would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Regular files written, hard links to them not counted.
    pub files: u64,
    /// Of these, files that were changed in their place: only what differed was written.
    pub patched: u64,
    /// Directories created, or given their metadata.
    pub directories: u64,
    /// Symbolic links created.
    pub symlinks: u64,
    /// Named pipes, sockets and devices created.
    pub others: u64,
    /// Names made as further hard links.
    pub links: u64,
    /// Bytes of content written, zeros included, holes not.
    pub bytes: u64,
    /// Bytes of content that were compared with what was there and left, zeros included, holes not.
    pub unchanged: u64,
    /// Entries that were left as they were.
    pub kept: u64,
    /// Entries that the filter excludes, everything below excluded directories included.
    pub excluded: u64,
    /// Entries that were not tried because their directory could not be restored.
    pub unreached: u64,
    /// Entries that are not restored because of a problem of their own.
    pub failed: u64,
    /// Names deleted because the snapshot does not have them.
    pub deleted: u64,
    /// The first problems.
    pub problems: Vec<Problem>,
    /// How many problems there are of each kind; kinds without any are left out.
    pub problem_counts: Vec<(ProblemKind, u64)>,
}

impl Report {
    /// How many problems of this kind there are.
    pub fn count_of(&self, kind: ProblemKind) -> u64 {
        self.problem_counts.iter().find(|(found, _)| *found == kind).map_or(0, |(_, count)| *count)
    }

    /// Whether the target is exactly what was asked for.
    pub fn is_exact(&self) -> bool {
        self.problem_counts.is_empty() && self.unreached == 0
    }
}

/// Problems kept in a report: at most so many, and at most so many bytes of paths and details.
const PROBLEMS_MAX: usize = 1000;
const PROBLEM_BYTES_MAX: usize = 1 << 20;

/// What is counted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Count {
    Files,
    Patched,
    Directories,
    Symlinks,
    Others,
    Links,
    Bytes,
    Unchanged,
    Kept,
    Excluded,
    Unreached,
    Failed,
    Deleted,
}

/// The report in the making, written by all threads.
pub(super) struct Ledger<'r> {
    progress: &'r dyn Progress,
    counts: [AtomicU64; Count::Deleted as usize + 1],
    problem_counts: [AtomicU64; ProblemKind::ALL.len()],
    problems: Mutex<(Vec<Problem>, usize)>,
}

impl<'r> Ledger<'r> {
    pub(super) fn new(progress: &'r dyn Progress) -> Self {
        Self {
            progress,
            counts: Default::default(),
            problem_counts: Default::default(),
            problems: Mutex::default(),
        }
    }

    /// Counts one.
    pub(super) fn one(&self, what: Count) {
        self.add(what, 1);
    }

    pub(super) fn add(&self, what: Count, number: u64) {
        self.counts[what as usize].fetch_add(number, Ordering::Relaxed);
    }

    pub(super) fn advanced(&self, entries: u64, bytes: u64) {
        self.progress.advanced(entries, bytes);
    }

    /// An entry whose place is taken by something that stays.
    pub(super) fn kept(&self) {
        self.one(Count::Kept);
        self.advanced(1, 0);
    }

    pub(super) fn problem(&self, problem: Problem) {
        self.problem_counts[problem.kind as usize].fetch_add(1, Ordering::Relaxed);
        self.progress.problem(&problem);
        let mut kept = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = kept.1 + problem.path.as_key().len() + problem.detail.len();
        if kept.0.len() < PROBLEMS_MAX && bytes <= PROBLEM_BYTES_MAX {
            kept.1 = bytes;
            kept.0.push(problem);
        }
    }

    pub(super) fn finish(self) -> Report {
        let count = |what: Count| self.counts[what as usize].load(Ordering::Relaxed);
        let problem_counts = ProblemKind::ALL
            .into_iter()
            .map(|kind| (kind, self.problem_counts[kind as usize].load(Ordering::Relaxed)))
            .filter(|(_, number)| *number > 0)
            .collect();
        Report {
            files: count(Count::Files),
            patched: count(Count::Patched),
            directories: count(Count::Directories),
            symlinks: count(Count::Symlinks),
            others: count(Count::Others),
            links: count(Count::Links),
            bytes: count(Count::Bytes),
            unchanged: count(Count::Unchanged),
            kept: count(Count::Kept),
            excluded: count(Count::Excluded),
            unreached: count(Count::Unreached),
            failed: count(Count::Failed),
            deleted: count(Count::Deleted),
            problems: self.problems.into_inner().unwrap_or_else(PoisonError::into_inner).0,
            problem_counts,
        }
    }
}
