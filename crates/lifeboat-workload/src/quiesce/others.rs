//! Other runs that make the same containers quiet, and waiting for them.
//!
//! Must stay true: no two live runs work with the same container, wherever they run. Those of one state folder see each
//! other's journals, which are made one at a time; all others see each other's marks on the engine. An engine has nothing
//! that makes two of them one at a time, so each puts its own mark before it looks for others, and takes it back where it
//! finds one: of any two, the later at least sees the earlier.
//!
//! Nobody is waited for without an end. Whether the owner of a mark lives cannot be asked on another machine; it is known
//! by its name, which changes while somebody watches over the run (`mark.rs`). One that stands still is told of, and not
//! waited for: what its run left down is `recover`'s.

use super::mark::{self, Mark, SILENCE};
use super::session::{Error, Options};
use crate::engine::views::ContainerSummary;
use crate::engine::{self, Engine};
use crate::journal::entry::{Entry, Ledger};
use crate::journal::{Found, Journal, Journals, Made};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// From one look at a run that works with the same containers to the next.
const BUSY_POLL: Duration = Duration::from_millis(250);

/// Who is told of others: gets a text where there is something new to say, and says whether to go on waiting.
type Tell = dyn Fn(Option<&str>) -> bool + Send + Sync;

/// What a run knows of others.
#[derive(Clone)]
pub struct Others {
    tell: Arc<Tell>,
    marks: Arc<Mutex<BTreeMap<String, Seen>>>,
}

/// A mark of somebody else.
struct Seen {
    name: String,
    /// When it was first seen with this name.
    since: Instant,
    is_told: bool,
}

impl Default for Others {
    fn default() -> Self {
        Self::telling(|_| true)
    }
}

impl fmt::Debug for Others {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Others").finish_non_exhaustive()
    }
}

impl Others {
    /// With somebody to be told of whom it waits for, who says whether to go on with that.
    pub fn telling(tell: impl Fn(Option<&str>) -> bool + Send + Sync + 'static) -> Self {
        Self { tell: Arc::new(tell), marks: Arc::default() }
    }

    /// Somebody who may be alive and whose mark names one of the containers; `own` are runs of ours.
    fn marked(&self, engine: &Engine, own: &[&str], containers: &[String]) -> engine::Result<Option<Ledger>> {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut alive = None;
        for mark in mark::list(engine)? {
            let ledger = mark.ledger();
            if own.contains(&mark.run.as_str()) || !ledger.touches(containers) {
                continue;
            }
            if self.is_watched(&mut marks, mark) {
                alive.get_or_insert(ledger);
            }
        }
        Ok(alive)
    }

    fn is_watched(&self, marks: &mut BTreeMap<String, Seen>, mark: Mark) -> bool {
        let now = |name: String| Seen { name, since: Instant::now(), is_told: false };
        let seen = marks.entry(mark.id).or_insert_with(|| now(mark.name.clone()));
        if seen.name != mark.name {
            *seen = now(mark.name);
        }
        let is_watched = seen.since.elapsed() < SILENCE;
        if !is_watched && !seen.is_told {
            seen.is_told = true;
            (self.tell)(Some(&format!(
                "run {} left its mark on the engine and nobody watches over it: it is not waited for; `lifeboat recover` \
                 brings back what it may have left down",
                mark.run
            )));
        }
        is_watched
    }
}

/// Waits for others with one end to all of it.
struct Waiting<'o> {
    options: &'o Options,
    began: Instant,
    told: Option<String>,
}

impl<'o> Waiting<'o> {
    fn new(options: &'o Options) -> Self {
        Self { options, began: Instant::now(), told: None }
    }

    fn wait(&mut self, other: Ledger) -> Result<(), Error> {
        let Ledger { run, begun, .. } = other;
        if self.began.elapsed() >= self.options.wait {
            return Err(Error::Busy { run, begun });
        }
        let is_new = self.told.as_ref() != Some(&run);
        let text = is_new.then(|| {
            format!("waiting for run {run}, which began at {begun} and works with the same containers")
        });
        if !(self.options.others.tell)(text.as_deref()) {
            return Err(Error::Interrupted);
        }
        self.told = Some(run);
        std::thread::sleep(BUSY_POLL);
        Ok(())
    }
}

/// Waits until nobody works with the containers of these names. That says nothing of the next moment, but what is looked up
/// after it is not what another run has made of them.
///
/// # Errors
///
/// Somebody did not finish in time, or the user wants to wait no longer; the journals or the marks cannot be read.
pub fn wait(engine: &Engine, options: &Options, names: &[String]) -> Result<(), Error> {
    let is_named = |one: &ContainerSummary| {
        names.iter().any(|name| one.name == *name || (name.len() >= 12 && one.id.starts_with(name.as_str())))
    };
    let all = engine.containers(&[]).map_err(Error::Mark)?.into_iter();
    let containers: Vec<String> = all.filter(is_named).map(|one| one.id).collect();
    let journals = Journals::in_state(&options.state);
    let mut waiting = Waiting::new(options);
    loop {
        let live = journals.find()?.into_iter().find_map(|found| match found {
            Found::Live(ledger) if ledger.touches(&containers) => Some(ledger),
            Found::Live(_) | Found::Dead(..) => None,
        });
        let other = match live {
            Some(ledger) => Some(ledger),
            None => options.others.marked(engine, &[], &containers).map_err(Error::Mark)?,
        };
        match other {
            Some(ledger) => waiting.wait(ledger)?,
            None => return Ok(()),
        }
    }
}

/// A run that wants containers for itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim<'c> {
    /// Its word.
    pub(super) run: &'c str,
    /// Its own earlier one, whose place it takes.
    pub(super) before: Option<&'c str>,
    /// Whom it makes quiet.
    pub(super) containers: &'c [String],
    /// What its journal and its mark begin with.
    pub(super) entries: &'c [Entry],
}

/// Makes the run's journal once nobody else of this state folder works with these containers.
pub(super) fn own_journal(options: &Options, claim: Claim<'_>) -> Result<Journal, Error> {
    let journals = Journals::in_state(&options.state);
    let mut waiting = Waiting::new(options);
    loop {
        match journals.make(claim.run, claim.before, claim.containers, claim.entries)? {
            Made::Journal(journal) => return Ok(journal),
            Made::Taken(ledger) => waiting.wait(ledger)?,
        }
    }
}

/// Puts the run's mark once nobody else at all works with these containers; gives its id.
pub(super) fn own_mark(engine: &Engine, options: &Options, claim: Claim<'_>) -> Result<String, Error> {
    let own: Vec<&str> = claim.before.into_iter().chain([claim.run]).collect();
    let other = || options.others.marked(engine, &own, claim.containers).map_err(Error::Mark);
    let mut waiting = Waiting::new(options);
    loop {
        let mark = mark::put(engine, claim.run, claim.entries).map_err(Error::Mark)?;
        let Some(mut ledger) = other()? else { return Ok(mark) };
        mark::remove(engine, claim.run).map_err(Error::Mark)?;
        loop {
            waiting.wait(ledger)?;
            match other()? {
                Some(next) => ledger = next,
                None => break,
            }
        }
        // Two that saw each other's, and took theirs back, do not meet again and again.
        let byte = u64::from_str_radix(&super::random_word()[..2], 16).unwrap_or_default();
        std::thread::sleep(Duration::from_millis(byte));
    }
}
