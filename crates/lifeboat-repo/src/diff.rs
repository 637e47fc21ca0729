//! What differs between two trees, found by skipping the nodes they share.
//!
//! Must stay true: the work is proportional to the change, not to the trees; a test counts the nodes that are read.

use crate::cursor::{Next, NodeSource, TreeCursor};
use crate::error::Result;
use lifeboat_format::snapshot::TreeRoot;
use lifeboat_format::{Entry, TreePath};

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Only the second tree has it.
    Added(TreePath, Entry),
    /// Only the first tree has it.
    Removed(TreePath, Entry),
    /// Both have it, with different entries: first, second.
    Modified(TreePath, Entry, Entry),
}

/// Walks the differences of two trees in the order of their paths.
pub struct Diff<'s> {
    first: TreeCursor<'s>,
    second: TreeCursor<'s>,
}

enum Step {
    Entries,
    First,
    Second,
    Both,
    SkipBoth,
}

impl<'s> Diff<'s> {
    /// Compares `first` with `second`.
    pub fn new(source: &'s dyn NodeSource, first: TreeRoot, second: TreeRoot) -> Self {
        Self { first: TreeCursor::new(source, first), second: TreeCursor::new(source, second) }
    }

    /// Where to read on: a node whose entries may have to be compared is read, an equal pair of nodes never.
    fn step(&self) -> Step {
        match (self.first.peek(), self.second.peek()) {
            (Some(Next::Child(first, first_height)), Some(Next::Child(second, second_height))) => {
                if first.id == second.id {
                    Step::SkipBoth
                } else if first_height == second_height && first.first == second.first {
                    Step::Both
                } else if first_height > second_height
                    || (first_height == second_height && first.first < second.first)
                {
                    Step::First
                } else {
                    Step::Second
                }
            }
            (Some(Next::Child(child, _)), Some(Next::Entry(key, _))) if child.first <= *key => Step::First,
            (Some(Next::Entry(key, _)), Some(Next::Child(child, _))) if child.first <= *key => Step::Second,
            (Some(Next::Child(..)), None) => Step::First,
            (None, Some(Next::Child(..))) => Step::Second,
            _ => Step::Entries,
        }
    }

    fn next_change(&mut self) -> Result<Option<Change>> {
        loop {
            match self.step() {
                Step::SkipBoth => {
                    self.first.step_over()?;
                    self.second.step_over()?;
                }
                Step::Both => {
                    self.first.descend()?;
                    self.second.descend()?;
                }
                Step::First => self.first.descend()?,
                Step::Second => self.second.descend()?,
                Step::Entries => {
                    let order = match (self.first.peek(), self.second.peek()) {
                        (None, None) => return Ok(None),
                        (Some(_), None) => std::cmp::Ordering::Less,
                        (None, Some(_)) => std::cmp::Ordering::Greater,
                        (Some(first), Some(second)) => first.key().cmp(second.key()),
                    };
                    if let Some(change) = self.compare(order)? {
                        return Ok(Some(change));
                    }
                }
            }
        }
    }

    fn compare(&mut self, order: std::cmp::Ordering) -> Result<Option<Change>> {
        let first = if order.is_le() { self.first.next_entry()? } else { None };
        let second = if order.is_ge() { self.second.next_entry()? } else { None };
        Ok(match (first, second) {
            (Some((path, first)), Some((_, second))) if first != second => {
                Some(Change::Modified(path, first, second))
            }
            (Some((path, entry)), None) => Some(Change::Removed(path, entry)),
            (None, Some((path, entry))) => Some(Change::Added(path, entry)),
            _ => None,
        })
    }
}

impl Iterator for Diff<'_> {
    type Item = Result<Change>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_change().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::{Nodes, build, entry, wide};
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::sync::atomic::Ordering;

    #[test]
    fn one_change_among_many_entries_reads_one_path_of_nodes() {
        let nodes = Nodes::default();
        let mut entries = wide(50_000);
        let first = build(&nodes, &entries);
        let path = entries.keys().nth(31_234).unwrap().clone();
        entries.insert(path.clone(), entry(1 << 40));
        let second = build(&nodes, &entries);
        nodes.reads.store(0, Ordering::Relaxed);
        let changes: Result<Vec<Change>> = Diff::new(&nodes, first, second).collect();
        assert!(matches!(&changes.unwrap()[..], [Change::Modified(found, _, _)] if *found == path));
        let reads = nodes.reads.load(Ordering::Relaxed);
        assert!(reads <= 2 * (u64::from(first.height) + 1), "{reads} nodes were read");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn the_difference_of_any_two_trees_is_that_of_their_entries(
            count in 0u64..4000,
            removed in proptest::collection::btree_set(0u64..4000, 0..30),
            changed in proptest::collection::btree_set(0u64..4000, 0..30),
            added in proptest::collection::btree_set(4000u64..9000, 0..300),
        ) {
            let nodes = Nodes::default();
            let first = wide(count);
            let all: Vec<TreePath> = wide(9000).into_keys().collect();
            let mut second = first.clone();
            removed.iter().for_each(|number| drop(second.remove(&all[*number as usize])));
            added.iter().for_each(|number| drop(second.insert(all[*number as usize].clone(), entry(*number))));
            for number in &changed {
                if let Some(found) = second.get_mut(&all[*number as usize]) {
                    *found = entry(1 << 50 | number);
                }
            }
            let expected: BTreeMap<TreePath, (Option<Entry>, Option<Entry>)> = first
                .keys()
                .chain(second.keys())
                .map(|key| (key.clone(), (first.get(key).cloned(), second.get(key).cloned())))
                .filter(|(_, (first, second))| first != second)
                .collect();
            let found: BTreeMap<_, _> = Diff::new(&nodes, build(&nodes, &first), build(&nodes, &second))
                .map(|change| match change.unwrap() {
                    Change::Added(path, entry) => (path, (None, Some(entry))),
                    Change::Removed(path, entry) => (path, (Some(entry), None)),
                    Change::Modified(path, first, second) => (path, (Some(first), Some(second))),
                })
                .collect();
            prop_assert_eq!(found, expected);
        }
    }
}
