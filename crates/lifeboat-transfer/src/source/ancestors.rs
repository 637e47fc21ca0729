//! The directories that lead to what is met, where not all of them were met themselves.

use lifeboat_format::{Metadata, TreePath};

/// The directories that hold what came last, the outermost first.
#[derive(Debug, Default)]
pub(crate) struct Ancestors(Vec<TreePath>);

impl Ancestors {
    /// Leaves the directories that do not hold `path`; gives those above it that were not met, the outermost first, to be
    /// made up and entered.
    pub(crate) fn lead_to(&mut self, path: &TreePath) -> Vec<TreePath> {
        while self.0.last().is_some_and(|open| !path.starts_with(open)) {
            self.0.pop();
        }
        let mut missing = Vec::new();
        let mut above = path.parent();
        while let Some(directory) = above.filter(|above| self.0.last() != Some(above)) {
            above = directory.parent();
            missing.push(directory);
        }
        missing.reverse();
        missing
    }

    /// Enters a directory that was met or made up.
    pub(crate) fn enter(&mut self, directory: TreePath) {
        self.0.push(directory);
    }

    /// What a directory that was not met looks like.
    pub(crate) fn made_up() -> Metadata {
        Metadata { mode: 0o755, ..Metadata::default() }
    }
}
