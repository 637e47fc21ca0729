//! Temporary files that nobody will finish: looked for and removed in two steps, and only when asked.
//!
//! A writer holds a lock on its file while it lives, so a crash is noticed without a clock. Age is asked for as well, for
//! file systems whose locks do not reach other machines. A wrong answer costs the writer an error, never an object.

use super::LocalStore;
use super::root::{TMP, is_regular, length};
use super::temporary::PREFIX;
use crate::Result;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, openat, statat, unlinkat};
use rustix::io::Errno;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A temporary file that its writer has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaleSpool {
    /// Its name in `tmp/`.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

impl LocalStore {
    /// Temporary files whose writers are gone and that were not written to for `older_than`. Deletes nothing.
    pub fn stale_spools(&self, older_than: Duration) -> Result<Vec<StaleSpool>> {
        let Some((fd, names)) = self.root.names(TMP)? else { return Ok(Vec::new()) };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut stale = Vec::new();
        for name in names.into_iter().filter(|name| is_ours(name)) {
            let stat = match statat(&fd, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                // Finished or dropped since the folder was read.
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(self.root.error("list", &format!("{TMP}/{name}"), None, errno)),
            };
            let written = Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(0));
            let old = now.checked_sub(written).is_some_and(|age| age >= older_than);
            if is_regular(&stat) && old && !self.is_being_written(&name)? {
                stale.push(StaleSpool { name, bytes: length(&stat) });
            }
        }
        stale.sort_unstable_by(|left, right| left.name.cmp(&right.name));
        Ok(stale)
    }

    /// Removes what [`Self::stale_spools`] found; what is gone already, or is being written again, is left alone.
    pub fn remove_stale_spools(&self, stale: &[StaleSpool]) -> Result<()> {
        // A name that leads elsewhere is nobody's temporary file.
        for spool in stale.iter().filter(|spool| is_ours(&spool.name)) {
            if self.is_being_written(&spool.name)? {
                continue;
            }
            let path = format!("{TMP}/{}", spool.name);
            match unlinkat(&self.root.fd, &path, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(self.root.error("delete", &path, None, errno)),
            }
        }
        Ok(())
    }

    /// Whether somebody holds the file's lock. Where locks are not known, nobody does.
    fn is_being_written(&self, name: &str) -> Result<bool> {
        let path = format!("{TMP}/{name}");
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        match openat(&self.root.fd, &path, flags, Mode::empty()) {
            Ok(fd) => Ok(matches!(flock(&fd, FlockOperation::NonBlockingLockShared), Err(Errno::WOULDBLOCK))),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.root.error("open", &path, None, errno)),
        }
    }
}

fn is_ours(name: &str) -> bool {
    let is_random =
        |random: &str| random.len() == 32 && random.bytes().all(|digit| digit.is_ascii_hexdigit());
    name.strip_prefix(PREFIX).is_some_and(is_random)
}
