//! Checks that a stream of entries is a tree, and tells where each one belongs.
//!
//! Must stay true: what leaves here is strictly sorted, lies below the base, and each entry's parent is a directory
//! that left here before it. So no name occurs twice, and nothing is ever restored through what an earlier entry put
//! in a directory's place. A tree that breaks this is refused as a whole.

use super::{EntryResult, Error, Filter, Result};
use lifeboat_format::{Entry, TreePath};

/// What comes next.
pub(super) struct Step {
    /// How many directories are complete before it.
    pub(super) leave: usize,
    /// Where it is in the tree.
    pub(super) path: TreePath,
    /// The entry; `None` where the filter excludes it.
    pub(super) entry: Option<Entry>,
}

/// Why everything below a directory is passed over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    Excluded,
    Unreached,
}

/// The entries at and below the base.
pub(super) struct Walk<'w> {
    entries: &'w mut dyn Iterator<Item = EntryResult>,
    base: &'w TreePath,
    filter: Option<&'w Filter<'w>>,
    /// The last path read; sorting is strict.
    last: TreePath,
    /// Key of the directory that we are in; `None` below a base that is not a directory.
    here: Option<Vec<u8>>,
    passing: Option<(TreePath, Pass)>,
    /// Entries that the filter excludes.
    pub(super) excluded: u64,
    /// Entries below directories that could not be entered.
    pub(super) unreached: u64,
}

impl<'w> Walk<'w> {
    pub(super) fn new(
        entries: &'w mut dyn Iterator<Item = EntryResult>,
        base: &'w TreePath,
        filter: Option<&'w Filter<'w>>,
    ) -> Self {
        let last = TreePath::root();
        Self { entries, base, filter, last, here: None, passing: None, excluded: 0, unreached: 0 }
    }

    /// Where the tree is restored from.
    pub(super) fn base(&self) -> &'w TreePath {
        self.base
    }

    /// The entry of the base itself. Called once, before anything else.
    pub(super) fn first(&mut self) -> Result<Entry> {
        let (path, entry) = match self.entries.next() {
            None => return Err(Error::NotFound { base: self.base.clone() }),
            Some(Err(source)) => return Err(Error::Tree { after: self.base.clone(), source }),
            Some(Ok(first)) => first,
        };
        if path != *self.base {
            return Err(Error::Damaged { path, detail: "it comes before the base" });
        }
        self.here = entry.is_directory().then(|| path.as_key().to_vec());
        self.last = path;
        Ok(entry)
    }

    /// The path in the tree of the directory that we are in.
    pub(super) fn here(&self) -> TreePath {
        self.here.clone().and_then(|key| TreePath::from_key(key).ok()).unwrap_or_default()
    }

    /// The next entry that is restored or excluded.
    pub(super) fn next(&mut self) -> Result<Option<Step>> {
        while let Some(next) = self.entries.next() {
            let (path, entry) = next.map_err(|source| Error::Tree { after: self.last.clone(), source })?;
            if path <= self.last {
                return Err(Error::Damaged { path, detail: "its entries are not sorted" });
            }
            self.last.clone_from(&path);
            if self.is_passed(&path) {
                continue;
            }
            let leave = match self.find(&path) {
                Ok(leave) => leave,
                Err(detail) => return Err(Error::Damaged { path, detail }),
            };
            if self.filter.is_some_and(|filter| !filter(&path, entry.is_directory())) {
                self.excluded += 1;
                if entry.is_directory() {
                    self.passing = Some((path.clone(), Pass::Excluded));
                }
                return Ok(Some(Step { leave, path, entry: None }));
            }
            if entry.is_directory() {
                self.here = Some(path.as_key().to_vec());
            }
            return Ok(Some(Step { leave, path, entry: Some(entry) }));
        }
        Ok(None)
    }

    /// Passes over everything below the directory that came last, because it cannot be entered.
    pub(super) fn pass_over(&mut self) {
        if let Some(here) = &mut self.here {
            self.passing = TreePath::from_key(here.clone()).ok().map(|path| (path, Pass::Unreached));
            here.truncate(parent_of(here).len());
        }
    }

    fn is_passed(&mut self, path: &TreePath) -> bool {
        match &self.passing {
            Some((above, pass)) if path.starts_with(above) => {
                match pass {
                    Pass::Excluded => self.excluded += 1,
                    Pass::Unreached => self.unreached += 1,
                }
                true
            }
            _ => {
                self.passing = None;
                false
            }
        }
    }

    /// Leaves directories until the path's own parent is reached.
    fn find(&mut self, path: &TreePath) -> std::result::Result<usize, &'static str> {
        if !path.starts_with(self.base) {
            return Err("it lies outside of the base");
        }
        let here = self.here.as_mut().ok_or("it lies below what is not a directory")?;
        let parent = parent_of(path.as_key());
        let mut leave = 0;
        while here != parent {
            if here.len() <= self.base.as_key().len() {
                return Err("it lies below what is not a directory");
            }
            here.truncate(parent_of(here).len());
            leave += 1;
        }
        Ok(leave)
    }
}

fn parent_of(key: &[u8]) -> &[u8] {
    &key[..key.iter().rposition(|byte| *byte == 0).unwrap_or(0)]
}
