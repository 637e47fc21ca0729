//! Where the entries of a tree come from: a walk, or the first pass's tree and a walk of what is looked at again.
//!
//! Must stay true: what comes out is strictly sorted. What is taken from the first pass is in the second one's tree
//! whatever has become of it on disk: whoever vouches for it ([`super::Quiesce::mended`]) needs all of it, because a
//! database's log may speak of a file that is gone by now.

use super::quiesce::Remainder;
use crate::source::compose::{Composition, Found};
use crate::source::walk::Problem;
use lifeboat_format::{Entry, TreePath};
use lifeboat_repo::Result;
use lifeboat_repo::cursor::TreeCursor;

/// What a tree is made of.
pub(super) enum Entries<'r> {
    /// Everything is met on disk.
    Walked(Box<Composition>),
    /// Most of it is as the first pass read it.
    Merged(Box<Merged<'r>>),
}

/// The next of a tree.
pub(super) enum Next {
    /// Met now.
    Found(Result<Found, Problem>),
    /// As the first pass read it.
    Taken(TreePath, Entry),
}

/// The first pass's tree, and beside it what is looked at again.
pub(super) struct Merged<'r> {
    first: TreeCursor<'r>,
    /// What each of the two has next.
    taken: Option<(TreePath, Entry)>,
    found: Option<Found>,
    walk: Composition,
    /// Outside of it everything is looked at again.
    part: TreePath,
    again: Vec<TreePath>,
    /// What of the first pass is not taken: files in memory take its place, or nothing does.
    without: Vec<TreePath>,
}

impl From<Composition> for Entries<'_> {
    fn from(walk: Composition) -> Self {
        Self::Walked(Box::new(walk))
    }
}

impl<'r> Entries<'r> {
    /// What `first` has in `part`, but what `remainder` names and everything elsewhere as `walk` finds it now. The
    /// remainder's files are in the walk.
    pub(super) fn merged(
        first: TreeCursor<'r>,
        walk: Composition,
        part: TreePath,
        remainder: &Remainder,
    ) -> Self {
        let mut without = remainder.without.clone();
        without.extend(remainder.files.iter().map(|file| file.at.clone()));
        let again = remainder.again.clone();
        Self::Merged(Box::new(Merged { first, taken: None, found: None, walk, part, again, without }))
    }

    /// The next in the order of paths.
    pub(super) fn next(&mut self) -> Result<Option<Next>> {
        match self {
            Self::Walked(walk) => Ok(walk.next().map(Next::Found)),
            Self::Merged(merged) => merged.next(),
        }
    }
}

impl Merged<'_> {
    fn next(&mut self) -> Result<Option<Next>> {
        if self.taken.is_none() {
            self.taken = self.next_taken()?;
        }
        if self.found.is_none() {
            match self.next_found() {
                Some(Ok(found)) => self.found = Some(found),
                Some(Err(problem)) => return Ok(Some(Next::Found(Err(problem)))),
                None => {}
            }
        }
        let found_is_first = match (&self.found, &self.taken) {
            (Some(found), Some((path, _))) => found.path() < path,
            (found, _) => found.is_some(),
        };
        if found_is_first {
            return Ok(self.found.take().map(|found| Next::Found(Ok(found))));
        }
        Ok(self.taken.take().map(|(path, entry)| Next::Taken(path, entry)))
    }

    fn next_taken(&mut self) -> Result<Option<(TreePath, Entry)>> {
        while let Some((path, entry)) = self.first.next_entry()? {
            let mut elsewhere = self.again.iter().chain(&self.without);
            if path.starts_with(&self.part) && !elsewhere.any(|other| path.starts_with(other)) {
                // A mix of moments is what was vouched for.
                return Ok(Some((path, Entry { torn: false, ..entry })));
            }
        }
        Ok(None)
    }

    fn next_found(&mut self) -> Option<Result<Found, Problem>> {
        let Self { part, again, .. } = self;
        let is_wanted =
            |path: &TreePath| !path.starts_with(part) || again.iter().any(|other| path.starts_with(other));
        self.walk.find(|next| match next {
            Ok(Found::File(_)) => true,
            Ok(found) => is_wanted(found.path()),
            Err(problem) => is_wanted(&problem.path),
        })
    }
}
