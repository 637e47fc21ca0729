//! Sets of hard links.
//!
//! The first member in the walk's order makes the file; later ones wait until it is complete and link to it. Nobody
//! waits in a circle: the first stands earlier in the channel than those that wait for it, and itself waits for nobody.
//!
//! Must stay true: a link is only ever made to the very inode that the first member made or found equal. Where that
//! cannot be had, a member becomes a file of its own: its entry carries the whole content.

use super::directory::Directory;
use lifeboat_format::{Node, TreePath};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};

/// A file's identity while it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Inode {
    pub(super) device: u64,
    pub(super) number: u64,
}

impl Inode {
    pub(super) fn of(stat: &rustix::fs::Stat) -> Self {
        Self { device: stat.st_dev, number: stat.st_ino }
    }
}

/// A complete file to link to.
pub(super) struct Source {
    /// Its directory, as long as it is held open for other reasons.
    pub(super) directory: Weak<Directory>,
    pub(super) directory_path: TreePath,
    pub(super) name: Vec<u8>,
    pub(super) inode: Inode,
}

enum State {
    Unfinished,
    Complete(Arc<Source>),
    Failed,
}

/// One set of hard links.
pub(super) struct Group {
    /// What the first member is; others have to be the same to become links.
    pub(super) node: Node,
    state: Mutex<State>,
    changed: Condvar,
}

impl Group {
    /// The set, and the first member's duty to make the file.
    pub(super) fn new(node: Node) -> (Arc<Self>, Duty) {
        let group = Arc::new(Self { node, state: Mutex::new(State::Unfinished), changed: Condvar::new() });
        let duty = Duty(Some(Arc::clone(&group)));
        (group, duty)
    }

    /// Waits for the first member. `None` where there is nothing to link to.
    pub(super) fn wait(&self) -> Option<Arc<Source>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match &*state {
                State::Complete(source) => return Some(Arc::clone(source)),
                State::Failed => return None,
                State::Unfinished => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    fn settle(&self, settled: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = settled;
        self.changed.notify_all();
    }
}

/// The first member's: given up, by an early return or a panic, those that wait learn that there is nothing.
pub(super) struct Duty(Option<Arc<Group>>);

impl Duty {
    /// The file is complete.
    pub(super) fn fulfil(mut self, directory: &Arc<Directory>, name: &[u8], inode: Inode) {
        if let Some(group) = self.0.take() {
            group.settle(State::Complete(Arc::new(Source {
                directory: Arc::downgrade(directory),
                directory_path: directory.path(),
                name: name.to_vec(),
                inode,
            })));
        }
    }
}

impl Drop for Duty {
    fn drop(&mut self) {
        if let Some(group) = self.0.take() {
            group.settle(State::Failed);
        }
    }
}
