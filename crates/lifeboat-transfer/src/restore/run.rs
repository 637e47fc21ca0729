//! What all threads of one restore share.

use super::Options;
use super::report::{Count, Ledger, Problem, ProblemKind};
use crate::pieces::ChunkReader;
use lifeboat_format::TreePath;
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

/// Who we are: what we create is theirs.
#[derive(Debug, Clone, Copy)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl User {
    pub(super) fn current() -> Self {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        Self { uid: uid.as_raw(), gid: gid.as_raw() }
    }
}

/// One restore.
pub(super) struct Run<'r> {
    pub(super) options: &'r Options<'r>,
    pub(super) reader: &'r dyn ChunkReader,
    pub(super) ledger: Ledger<'r>,
    /// The target, for finding files again by their path.
    pub(super) root: OwnedFd,
    pub(super) user: User,
    /// What is restored; the filter knows paths by it.
    pub(super) base: &'r TreePath,
}

impl Run<'_> {
    pub(super) fn is_interrupted(&self) -> bool {
        self.options.interrupt.load(Ordering::Relaxed)
    }

    /// An entry that is not restored.
    pub(super) fn failed(&self, path: TreePath, kind: ProblemKind, detail: impl ToString) {
        self.ledger.one(Count::Failed);
        self.ledger.advanced(1, 0);
        self.ledger.problem(Problem { path, kind, detail: detail.to_string() });
    }
}

/// A random name that nobody else can foresee, so that nobody waits there with a file of theirs.
pub(super) fn temporary_name() -> Result<Vec<u8>, Errno> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|_| Errno::IO)?;
    Ok(format!(".lifeboat-restore-{:016x}", u64::from_le_bytes(random)).into_bytes())
}
