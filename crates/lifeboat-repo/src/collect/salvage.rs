//! Replacing packs that are damaged: what can be read of them is copied, whatever needs it, and they go.
//!
//! Must stay true: these are the steps of a collection, with everything that can be read counting as reached; no marking is
//! needed, because nothing that could be read is given up. What cannot be read is then named by no index object: it
//! counts as absent, so that the next writer who has it stores it again.

use super::copies::Unreadable;
use super::mark::Everything;
use super::survey::Survey;
use super::{CollectOptions, Collected, Collector, Progress, as_collector};
use crate::error::{Error, Result};
use crate::repository::Repository;
use lifeboat_format::PackName;
use lifeboat_format::condemned::Sentence;
use lifeboat_format::limits::LISTED_PACKS_MAX;
use std::collections::{BTreeMap, BTreeSet};

/// Replaces `damaged` packs by what can be read of them, and takes those that are missing out of the index.
pub(crate) fn salvage(
    repository: &Repository,
    damaged: &BTreeSet<PackName>,
    options: &CollectOptions,
    progress: &Progress,
) -> Result<Collected> {
    as_collector(repository, options, progress, |collector| collector.salvage(damaged))
}

impl Collector<'_> {
    fn salvage(&mut self, damaged: &BTreeSet<PackName>) -> Result<()> {
        self.end_collectors()?;
        let survey = Survey::new(self.repository, &Everything)?;
        // Those that are not stored have nothing to be copied. What does not fit the list is the next run's.
        let stored: BTreeMap<PackName, u64> = survey
            .packs
            .iter()
            .filter(|(name, _)| damaged.contains(name))
            .map(|(name, pack)| (*name, pack.bytes))
            .take(LISTED_PACKS_MAX as usize)
            .collect();
        if stored.is_empty() {
            self.sweep(&survey, &stored)?;
            return self.put_away_the_ended();
        }
        let verdict = self.judge_damaged(&survey, stored);
        self.execute(&survey, verdict)
    }

    fn judge_damaged(
        &mut self,
        survey: &Survey,
        damaged: BTreeMap<PackName, u64>,
    ) -> Result<BTreeMap<PackName, u64>> {
        // `PutCondemned`
        self.put_list(Sentence::Condemned, &damaged)?;
        // `ListIntents`, `WaitOrFence`
        self.wait_for_sessions()?;
        self.collected.moved_bytes = self.copy((&Everything, Unreadable::IsLeftOut), survey, &damaged)?;
        self.collected.packs_moved = damaged.len() as u64;
        // `PutVerdict`
        self.put_list(Sentence::Verdict, &damaged)?;
        // `ReadFence`
        if self.is_fenced(self.id)? { Err(Error::Fenced) } else { Ok(damaged) }
    }
}
