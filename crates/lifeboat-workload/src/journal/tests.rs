//! Owners of journals, living and dead.
//!
//! Must stay true: a live owner's journal is nobody else's, and a dead one's is the first finder's.

use super::entry::tests::step;
use super::entry::{Entry, VERSION};
use super::*;
use crate::quiesce::remedy::Progress;

fn first(run: &str) -> Entry {
    let word = || String::from("x");
    Entry::Run { version: VERSION, run: run.into(), engine: word(), begun: word(), process: 1 }
}

fn make(journals: &Journals, run: &str, container: &str) -> Made {
    journals.make(run, None, &[container.into()], &[first(run), Entry::Step(step(container))]).unwrap()
}

fn journal(made: Made) -> Journal {
    match made {
        Made::Journal(journal) => journal,
        Made::Taken(ledger) => panic!("{} has it", ledger.run),
    }
}

fn dead(journals: &Journals) -> Vec<String> {
    let found = journals.find().unwrap();
    found
        .into_iter()
        .filter_map(|found| match found {
            Found::Dead(_, ledger) => Some(ledger.run),
            Found::Live(_) => None,
        })
        .collect()
}

#[test]
fn a_live_owners_journal_is_not_taken_and_a_dead_ones_is() {
    let state = tempfile::tempdir().unwrap();
    let journals = Journals::in_state(state.path());
    let mut owned = journal(make(&journals, "a", "one"));
    owned.add(&[Entry::Doing { container: "one".into() }]).unwrap();
    assert!(
        matches!(&journals.find().unwrap()[..], [Found::Live(ledger)] if ledger.steps[0].1 == Progress::Doing)
    );
    drop(owned);
    let found = journals.find().unwrap();
    assert!(matches!(&found[..], [Found::Dead(_, ledger)] if ledger.steps[0].1 == Progress::Doing));
    // Whoever found it owns it now.
    assert!(matches!(&journals.find().unwrap()[..], [Found::Live(_)]));
}

#[test]
fn a_supervisor_that_shares_the_file_keeps_it_alive() {
    let state = tempfile::tempdir().unwrap();
    let journals = Journals::in_state(state.path());
    let owned = journal(make(&journals, "a", "one"));
    let shared = owned.share().unwrap();
    drop(owned);
    assert_eq!(dead(&journals), [""; 0]);
    drop(shared);
    assert_eq!(dead(&journals), ["a"]);
}

#[test]
fn two_live_runs_never_work_with_the_same_container() {
    let state = tempfile::tempdir().unwrap();
    let journals = Journals::in_state(state.path());
    let one = journal(make(&journals, "a", "one"));
    assert!(matches!(make(&journals, "b", "one"), Made::Taken(ledger) if ledger.run == "a"));
    let _two = journal(make(&journals, "b", "two"));
    one.close().unwrap();
    let _again = journal(make(&journals, "c", "one"));
}

#[test]
fn a_closed_journal_is_gone_for_everybody_who_still_has_it() {
    let state = tempfile::tempdir().unwrap();
    let journals = Journals::in_state(state.path());
    let owned = journal(make(&journals, "a", "one"));
    let shared = owned.share().unwrap();
    assert!(!shared.is_removed().unwrap());
    owned.close().unwrap();
    assert!(shared.is_removed().unwrap());
    assert!(shared.read().unwrap().ended);
    assert!(journals.find().unwrap().is_empty());
}

#[test]
fn no_journal_is_made_where_nothing_can_be_written() {
    let state = tempfile::tempdir().unwrap();
    std::fs::write(state.path().join("holds"), "a file").unwrap();
    let journals = Journals::in_state(state.path());
    assert!(journals.make("a", None, &[], &[first("a")]).is_err());
}

#[test]
fn a_full_disk_refuses_what_is_to_be_done_and_nothing_that_was_undone() {
    let state = tempfile::tempdir().unwrap();
    let journals = Journals::in_state(state.path());
    let mut owned = journal(make(&journals, "a", "one"));
    let container = || String::from("one");
    let full = || File::options().read(true).write(true).open("/dev/full").unwrap();
    let file = std::mem::replace(&mut owned.file, full());
    assert!(owned.add(&[Entry::Doing { container: container() }]).is_err());
    owned.remember(&[Entry::Undone { container: container(), how: String::new() }]);
    owned.remember_durably(&[Entry::Expired]);
    assert!(owned.read().unwrap().expired);
    // Once there is room, all of it is written, in its order.
    owned.file = file;
    owned.note(&[Entry::Reopened { answered: true }]).unwrap();
    for ledger in [owned.read().unwrap(), owned.share().unwrap().read().unwrap()] {
        assert!(!ledger.expired && ledger.steps[0].1 == Progress::Did, "{ledger:?}");
    }
    let file = std::mem::replace(&mut owned.file, full());
    owned.close().unwrap();
    drop(file);
    assert!(journals.find().unwrap().is_empty());
}

#[test]
fn looking_for_journals_makes_no_folder() {
    let state = tempfile::tempdir().unwrap();
    assert!(Journals::in_state(state.path()).find().unwrap().is_empty());
    assert!(!state.path().join("holds").exists());
}
