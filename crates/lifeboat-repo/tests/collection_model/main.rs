//! Every order in which writers, collectors and a forget can take their steps, tried: no listed snapshot ever loses a pack.
//!
//! Must stay true: each way to get the protocol wrong in [`Mutation`] is refuted here; a checker that finds nothing has
//! otherwise shown nothing. Read next: `docs/format/session.md`, `examples/collection_model.rs` for larger bounds.

mod model;

use model::{Collection, KEPT, Mutation, TWIN, UNUSED};
use stateright::{Checker, Model};

fn collection(writers: &[bool], collectors: usize) -> Collection {
    let writers = writers.to_vec();
    let (forgets_child, copies, twin) = (false, false, false);
    Collection { writers, collectors, forgets_child, copies, twin, dead_collector: None, mutation: None }
}

/// The same with collectors that move what is reached, where they find it twice.
fn moving(writers: &[bool], collectors: usize) -> Collection {
    Collection { copies: true, twin: true, ..collection(writers, collectors) }
}

/// Explores everything; the number of states is checked so that a model that stops early is noticed.
fn holds(model: Collection, states_min: usize) {
    let checker = model.checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    println!("{:?}: {} states", checker.model(), checker.unique_state_count());
    assert!(checker.unique_state_count() >= states_min, "{} states", checker.unique_state_count());
}

fn is_refuted(model: Collection, mutation: Mutation) {
    let model = Collection { mutation: Some(mutation), ..model };
    let checker = model.checker().threads(2).spawn_bfs().join();
    let discovery =
        checker.discovery("every snapshot that is listed has its chunks, in packs that the index names");
    assert!(discovery.is_some(), "{mutation:?} was not refuted in {} states", checker.unique_state_count());
}

#[test]
fn a_parent_forgotten_meanwhile_keeps_what_its_child_carries_over() {
    holds(collection(&[true], 1), 2_000);
}

#[test]
fn a_fenced_live_writer_never_completes_and_others_lose_nothing() {
    holds(collection(&[true, false], 1), 80_000);
}

#[test]
fn children_that_are_forgotten_in_turn_keep_what_their_own_children_carry_over() {
    holds(Collection { forgets_child: true, ..collection(&[true, false], 1) }, 100_000);
}

#[test]
fn an_index_cache_from_before_does_not_bring_back_what_is_gone() {
    holds(collection(&[false], 2), 500_000);
}

#[test]
fn a_collector_asleep_for_a_week_deletes_nothing_that_was_relied_on_since() {
    holds(collection(&[true], 2), 600_000);
}

#[test]
fn what_a_dead_collector_left_is_put_away() {
    for dead in [(KEPT | UNUSED, false), (UNUSED, true)] {
        holds(Collection { dead_collector: Some(dead), ..collection(&[true, false], 1) }, 70_000);
    }
}

#[test]
fn what_is_moved_stays_although_writers_rely_on_it() {
    holds(moving(&[false], 1), 6_000);
    holds(moving(&[true], 1), 7_000);
    holds(Collection { twin: false, ..moving(&[true, false], 1) }, 250_000);
}

#[test]
fn of_two_copies_one_stays_whoever_moves_them() {
    holds(moving(&[], 2), 100_000);
    holds(Collection { twin: false, ..moving(&[false], 2) }, 3_000_000);
}

#[test]
fn what_a_dead_collector_was_moving_stays() {
    for dead in [(KEPT | UNUSED, false), (TWIN | UNUSED, true)] {
        holds(Collection { dead_collector: Some(dead), ..moving(&[false], 1) }, 8_000);
    }
}

#[test]
fn the_protocol_with_one_thing_wrong_is_refuted() {
    let one = || collection(&[false], 1);
    for mutation in [
        Mutation::WriterIgnoresFence,
        Mutation::WriterIgnoresLists,
        Mutation::WriterReadsListsLast,
        Mutation::WriterTrustsAnOldIndex,
        Mutation::CollectorDoesNotWait,
        Mutation::CollectorMarksOnce,
        Mutation::CollectorIgnoresDrafts,
        Mutation::CollectorListsSnapshotsFirst,
        Mutation::IndexGoesBeforeItsReplacement,
    ] {
        is_refuted(one(), mutation);
    }
    is_refuted(collection(&[true], 1), Mutation::WriterDoesNotConfirmItsParent);
    for mutation in [Mutation::WriterKeepsItsPinBesideLists, Mutation::WriterConfirmsItsParentBeforeLists] {
        let chain = Collection { forgets_child: true, ..collection(&[true, false], 1) };
        is_refuted(chain, mutation);
    }
    for mutation in [
        Mutation::WriterDoesNotListPacks,
        Mutation::WriterListsPacksBeforeLists,
        Mutation::CollectorIgnoresItsFence,
        Mutation::CollectorRemovesListsOfTheDead,
    ] {
        is_refuted(collection(&[false], 2), mutation);
    }
    is_refuted(moving(&[], 1), Mutation::CopiesAreIndexedLast);
    is_refuted(moving(&[], 2), Mutation::CollectorReliesOnCondemnedCopies);
}
