//! Work for the threads of a backup: batches of entries, and regions that one thread cut and another may seal.
//!
//! Must stay true: memory is bounded. At most [`BATCHES_MAX`] batches are out at once. A region changes hands when somebody is
//! idle, or will be soon: when nothing is left to read, [`REGIONS_PER_THREAD`] wait for each of the others, so that nobody waits
//! for who reads a large file while that one seals. Otherwise who cut it seals it. A queue that defers lets
//! [`DEFERRED_REGIONS`] wait whatever is left.

use lifeboat_repo::sink::PlainRegion;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Batches between the walk and the tree: enough that one large file does not starve the other threads.
pub(crate) const BATCHES_MAX: usize = 32;

/// Regions that wait while services are held still, so that all threads read: 48 MiB of what changed.
const DEFERRED_REGIONS: usize = 24;

/// Regions that wait for each thread but one. None at all makes a first snapshot of a PostgreSQL cluster 4 % slower on two
/// cores; four are as good as two.
const REGIONS_PER_THREAD: usize = 2;

/// What a thread does next.
pub(crate) enum Work<B> {
    /// Read these entries.
    Batch(B),
    /// Compress and seal this region.
    Region(PlainRegion),
}

/// Shared by the threads of one backup.
pub(crate) struct WorkQueue<B> {
    state: Mutex<State<B>>,
    changed: Condvar,
    /// Regions that may wait when no batch does.
    room: usize,
}

struct State<B> {
    batches: VecDeque<B>,
    regions: VecDeque<PlainRegion>,
    idle: usize,
    closed: bool,
    /// Reading goes first, and sealing later.
    is_deferring: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<B> WorkQueue<B> {
    /// A queue for so many threads, of which one may be who fills it.
    pub(crate) fn new(threads: usize) -> Self {
        let state = State {
            batches: VecDeque::new(),
            regions: VecDeque::new(),
            idle: 0,
            closed: false,
            is_deferring: false,
        };
        let room = REGIONS_PER_THREAD * threads.saturating_sub(1);
        Self { state: Mutex::new(state), changed: Condvar::new(), room }
    }

    /// A queue for reading fast: regions wait until [`Self::defer_no_more`], as long as there is room for them.
    pub(crate) fn deferring(threads: usize) -> Self {
        let queue = Self::new(threads);
        lock(&queue.state).is_deferring = true;
        queue
    }

    /// Everything is read: now the regions are sealed.
    pub(crate) fn defer_no_more(&self) {
        lock(&self.state).is_deferring = false;
        self.changed.notify_all();
    }

    /// Adds a batch; the caller counts how many are out. A closed queue drops it: nobody would ever take it.
    pub(crate) fn submit(&self, batch: B) {
        let mut state = lock(&self.state);
        if state.closed {
            drop(state);
            drop(batch);
            return;
        }
        state.batches.push_back(batch);
        drop(state);
        self.changed.notify_one();
    }

    /// Gives a region to an idle thread or the waiting room, or back. Nobody comes any more to what is closed.
    pub(crate) fn offer(&self, region: PlainRegion) -> Option<PlainRegion> {
        let mut state = lock(&self.state);
        let room = match (state.is_deferring, state.batches.is_empty()) {
            (true, _) => DEFERRED_REGIONS,
            (false, true) => self.room,
            (false, false) => 0,
        };
        let has_room = state.regions.len() < room;
        if state.closed || (!has_room && state.idle <= state.regions.len() + state.batches.len()) {
            return Some(region);
        }
        state.regions.push_back(region);
        self.changed.notify_one();
        None
    }

    /// The next work; `None` when the queue is closed and empty.
    pub(crate) fn take(&self) -> Option<Work<B>> {
        let mut state = lock(&self.state);
        loop {
            // Regions first: they hold memory, and somebody is ahead of us. Not while somebody is held for our reading.
            let reading_is_first = state.is_deferring && !state.batches.is_empty();
            if !reading_is_first && let Some(region) = state.regions.pop_front() {
                return Some(Work::Region(region));
            }
            if let Some(batch) = state.batches.pop_front() {
                return Some(Work::Batch(batch));
            }
            if state.closed {
                return None;
            }
            state.idle += 1;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    /// No more work will come.
    pub(crate) fn close(&self) {
        lock(&self.state).closed = true;
        self.changed.notify_all();
    }

    /// Drops the batches that nobody began. Regions stay: finished batches rely on them.
    pub(crate) fn cancel(&self) {
        let mut state = lock(&self.state);
        let dropped = std::mem::take(&mut state.batches);
        state.closed = true;
        drop(state);
        self.changed.notify_all();
        // Outside the lock: dropping a batch answers whoever waits for it.
        drop(dropped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_batch_is_dropped_when_nobody_will_take_it() {
        let queue = WorkQueue::new(2);
        let (early, late) = (Arc::new(()), Arc::new(()));
        queue.submit(early.clone());
        queue.cancel();
        queue.submit(late.clone());
        assert_eq!((Arc::strong_count(&early), Arc::strong_count(&late)), (1, 1));
        assert!(queue.take().is_none());
    }

    #[test]
    fn reading_goes_before_sealing_while_regions_are_deferred() {
        let queue = WorkQueue::deferring(1);
        for _ in 0..DEFERRED_REGIONS {
            assert!(queue.offer(PlainRegion::default()).is_none());
        }
        assert!(queue.offer(PlainRegion::default()).is_some(), "the waiting room is full");
        queue.submit(());
        queue.submit(());
        assert!(matches!(queue.take(), Some(Work::Batch(()))));
        queue.defer_no_more();
        assert!(matches!(queue.take(), Some(Work::Region(_))));
        assert!(queue.offer(PlainRegion::default()).is_some(), "nobody is idle");
    }

    #[test]
    fn regions_wait_where_nothing_is_left_to_read_and_somebody_will_come() {
        let queue = WorkQueue::new(2);
        for _ in 0..REGIONS_PER_THREAD {
            assert!(queue.offer(PlainRegion::default()).is_none());
        }
        assert!(queue.offer(PlainRegion::default()).is_some(), "the waiting room is full");
        assert!(matches!(queue.take(), Some(Work::Region(_))));
        queue.submit(());
        assert!(queue.offer(PlainRegion::default()).is_some(), "there is something to read");
        queue.cancel();
        assert!(queue.offer(PlainRegion::default()).is_some(), "nobody will come");
        assert!(matches!(queue.take(), Some(Work::Region(_))), "what waits already is sealed");
        assert!(queue.take().is_none());
    }

    #[test]
    fn of_a_single_thread_a_region_changes_hands_only_when_it_is_idle() {
        let queue = Arc::new(WorkQueue::<()>::new(1));
        assert!(queue.offer(PlainRegion::default()).is_some());
        let taker = std::thread::spawn({
            let queue = queue.clone();
            move || matches!(queue.take(), Some(Work::Region(_)))
        });
        while queue.offer(PlainRegion::default()).is_some() {
            std::thread::yield_now();
        }
        assert!(taker.join().unwrap());
    }
}
