//! Waiting until the sessions from before the condemned list are over.
//!
//! Must stay true: a session counts as over when no intent of it is listed, or when it has a fence. How long is waited
//! decides only how polite a collection is, never what it deletes.

use super::{Collector, Heart};
use crate::error::{Error, Result};
use lifeboat_format::intent::Intent;
use lifeboat_format::{ObjectKind, SessionId};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often the sessions are looked at.
const POLL: Duration = Duration::from_millis(500);

/// A session that is waited for.
struct Awaited {
    counter: u32,
    since: Instant,
}

impl Collector<'_> {
    /// The sessions that are announced, with the greatest counter of each.
    fn sessions(&self) -> Result<BTreeMap<SessionId, u32>> {
        let store = self.repository.store();
        let listed = store.list(ObjectKind::Intent).map_err(Error::store("the sessions cannot be listed"))?;
        let mut sessions = BTreeMap::new();
        for (session, counter) in listed.iter().filter_map(|listed| Intent::parse_key(&listed.key)) {
            let greatest = sessions.entry(session).or_insert(counter);
            *greatest = counter.max(*greatest);
        }
        Ok(sessions)
    }

    /// `ListIntents`, then `WaitOrFence` for each of them.
    pub(super) fn wait_for_sessions(&mut self) -> Result<()> {
        let mut awaited = BTreeMap::new();
        for (session, counter) in self.sessions()? {
            if session == self.id {
                continue;
            }
            if self.is_fenced(session)? {
                self.fenced.insert(session);
            } else {
                awaited.insert(session, Awaited { counter, since: Instant::now() });
            }
        }
        while !awaited.is_empty() {
            self.progress.check_interrupted()?;
            let now = self.sessions()?;
            awaited.retain(|session, _| now.contains_key(session));
            for (session, awaited) in &mut awaited {
                let counter = now.get(session).copied().unwrap_or(awaited.counter);
                if counter != awaited.counter {
                    *awaited = Awaited { counter, since: Instant::now() };
                }
            }
            self.fence_the_still(&mut awaited)?;
            self.progress.sessions_waited_for.store(awaited.len() as u64, Ordering::Relaxed);
            if !awaited.is_empty() {
                // Another collection may end this one while it waits, perhaps for that one.
                if self.is_fenced(self.id)? {
                    return Err(Error::Fenced);
                }
                std::thread::sleep(POLL.min(self.options.grace));
                self.heart.beat()?;
            }
        }
        Ok(())
    }

    fn fence_the_still(&mut self, awaited: &mut BTreeMap<SessionId, Awaited>) -> Result<()> {
        let is_still = |awaited: &Awaited| awaited.since.elapsed() >= self.options.grace;
        let still: Vec<SessionId> =
            awaited.iter().filter(|(_, awaited)| is_still(awaited)).map(|(session, _)| *session).collect();
        for session in still {
            self.put_fence(session)?;
            awaited.remove(&session);
            self.fenced.insert(session);
            self.collected.sessions_ended += 1;
        }
        Ok(())
    }
}
