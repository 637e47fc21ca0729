//! What the hard links of an archive name.
//!
//! A link names what came before it under that name, so the same name may mean several inodes, one after the other. Must
//! stay true: memory is each link with its target and what it names, however often the archive repeats a name.

use super::sorter::{Body, Sorted};
use lifeboat_format::{Entry, TreePath};
use std::collections::HashMap;

/// A hard link: its number in the archive, and what it names.
pub(super) struct Link {
    pub(super) number: u64,
    pub(super) target: TreePath,
}

/// An inode with several names, by one of its names and its number in the archive.
pub(super) type Inode = (TreePath, u64);

/// The inodes that links name.
#[derive(Default)]
pub(super) struct Inodes {
    of_links: HashMap<u64, Inode>,
    entries: HashMap<Inode, Entry>,
}

/// One name: the links that name it, ascending, and what stood there before each of them.
#[derive(Default)]
struct Named {
    links: Vec<u64>,
    bodies: Vec<(u64, Body)>,
}

impl Named {
    /// How many links come before `number`.
    fn links_before(&self, number: u64) -> usize {
        self.links.partition_point(|link| *link < number)
    }

    /// Takes what follows in the archive. What no link can mean any more goes.
    fn take(&mut self, number: u64, body: Body) {
        let links_before = self.links_before(number);
        if self.bodies.last().is_some_and(|(last, _)| self.links_before(*last) == links_before) {
            self.bodies.pop();
        }
        if links_before < self.links.len() {
            self.bodies.push((number, body));
        }
    }

    /// What `link` means.
    fn before(&self, link: u64) -> Option<&(u64, Body)> {
        let count = self.bodies.partition_point(|(number, _)| *number < link);
        self.bodies.get(count.checked_sub(1)?)
    }
}

impl Inodes {
    /// What `links`, in the archive's order, name in it.
    pub(super) fn of(links: &[Link], sorted: &Sorted) -> std::io::Result<Self> {
        let mut inodes = Self::default();
        if links.is_empty() {
            return Ok(inodes);
        }
        let mut named: HashMap<&TreePath, Named> = HashMap::new();
        for link in links {
            named.entry(&link.target).or_default().links.push(link.number);
        }
        for record in sorted.records()? {
            let record = record?;
            if let Some(named) = named.get_mut(&record.path) {
                named.take(record.number, record.body()?);
            }
        }
        // A link names what came before it, so its target is known by now, even if that is a link.
        for link in links {
            match named.get(&link.target).and_then(|named| named.before(link.number)) {
                Some((number, Body::Entry(entry))) if !entry.is_directory() => {
                    let inode = (link.target.clone(), *number);
                    inodes.entries.entry(inode.clone()).or_insert_with(|| (**entry).clone());
                    inodes.of_links.insert(link.number, inode);
                }
                Some((number, Body::Link(_))) => {
                    if let Some(inode) = inodes.of_links.get(number).cloned() {
                        inodes.of_links.insert(link.number, inode);
                    }
                }
                Some((_, Body::Entry(_))) | None => {}
            }
        }
        Ok(inodes)
    }

    /// Whether links name it.
    pub(super) fn has(&self, inode: &Inode) -> bool {
        self.entries.contains_key(inode)
    }

    /// What the link of this number names, and its entry.
    pub(super) fn of_link(&self, number: u64) -> Option<(&Inode, &Entry)> {
        let inode = self.of_links.get(&number)?;
        Some((inode, self.entries.get(inode)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_name_keeps_what_its_links_mean_and_no_more(is_link in proptest::collection::vec(any::<bool>(), 0..200)) {
            let numbers = |wanted: bool| {
                let all = is_link.iter().enumerate().filter(move |(_, is_link)| **is_link == wanted);
                all.map(|(number, _)| number as u64)
            };
            let mut named = Named { links: numbers(true).collect(), bodies: Vec::new() };
            numbers(false).for_each(|number| named.take(number, Body::Link(TreePath::root())));
            prop_assert!(named.bodies.len() <= named.links.len());
            for link in numbers(true) {
                let expected = numbers(false).take_while(|number| *number < link).last();
                prop_assert_eq!(named.before(link).map(|(number, _)| *number), expected);
            }
        }
    }
}
