//! The walking thread: directories, deletions, and everything else to the workers.
//!
//! Must stay true: what is deleted was listed before we created anything in that directory, and only names that the
//! whole walk through it did not meet; a walk that ends early deletes nothing more.

use super::directory::Directory;
use super::link::Group;
use super::remove::{Listing, Remover};
use super::report::{Count, Problem, ProblemKind};
use super::run::Run;
use super::walk::Walk;
use super::window::Window;
use super::work::{Gone, Item, Link, Queue, SPAN_BYTES};
use super::{Error, Result, large, worker};
use lifeboat_format::{Entry, LinkGroup, TreePath};
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};

/// Restores all entries into the directory held by `target`.
pub(super) fn dispatch(run: &Run<'_>, mut walk: Walk<'_>, first: Entry, target: OwnedFd) -> Result<()> {
    let workers = run.options.threads.get();
    std::thread::scope(|scope| {
        let (queue, jobs) = Queue::new(workers);
        let jobs = Arc::new(Mutex::new(jobs));
        for number in 0..workers {
            let jobs = Arc::clone(&jobs);
            std::thread::Builder::new()
                .name(format!("restore-{number}"))
                .spawn_scoped(scope, move || worker::work(run, &jobs))
                .map_err(|source| Error::Thread { source })?;
        }
        // Only the workers hold the receiver now: when they are gone, sending fails instead of waiting for ever.
        drop(jobs);
        let result = Dispatcher::start(run, queue, walk.base(), first, target)
            .and_then(|dispatcher| dispatcher.run(&mut walk));
        run.ledger.add(Count::Excluded, walk.excluded);
        run.ledger.add(Count::Unreached, walk.unreached);
        result
    })
}

struct Dispatcher<'d, 'r> {
    run: &'d Run<'r>,
    queue: Queue,
    window: Window,
    here: Arc<Directory>,
    /// What was in the directories that we are in, where deleting is asked for and they were there before.
    listings: Vec<Option<Listing>>,
    groups: HashMap<LinkGroup, Arc<Group>>,
}

impl<'d, 'r> Dispatcher<'d, 'r> {
    fn start(run: &'d Run<'r>, queue: Queue, base: &TreePath, first: Entry, target: OwnedFd) -> Result<Self> {
        let is_directory = first.is_directory();
        let metadata = (is_directory && run.options.may_overwrite()).then(|| first.metadata.clone());
        let here = Directory::root(run, target, metadata)
            .map_err(|error| Error::Target { target: std::path::PathBuf::from("."), source: error.into() })?;
        let (window, groups) = (Window::new(), HashMap::new());
        let mut dispatcher = Self { run, queue, window, here, listings: Vec::new(), groups };
        if is_directory {
            if !run.options.may_overwrite() {
                run.ledger.kept();
            }
            dispatcher.list(true);
        } else if let Some(name) = base.name() {
            dispatcher.listings.push(None);
            // The queue only fails when all workers panicked; the scope passes that on.
            let _ = dispatcher.other(name.to_vec(), first);
        }
        Ok(dispatcher)
    }

    fn run(mut self, walk: &mut Walk<'_>) -> Result<()> {
        let mut here = walk.here();
        let result = self.walk(walk, &mut here);
        // It only fails when all workers panicked, which the scope passes on.
        let _ = self.let_go().and_then(|()| self.queue.flush());
        loop {
            if result.is_ok() {
                self.delete(&here, None);
            }
            if self.here.parent().is_none() {
                break;
            }
            self.leave(&mut here);
        }
        let Self { here, queue, .. } = self;
        drop(queue);
        self.run.release(here);
        result
    }

    /// `here` is the path in the tree of the directory that we are in.
    fn walk(&mut self, walk: &mut Walk<'_>, here: &mut TreePath) -> Result<()> {
        while let Some(step) = walk.next()? {
            if self.run.is_interrupted() {
                return Err(Error::Interrupted);
            }
            for _ in 0..step.leave {
                self.delete(here, None);
                self.leave(here);
            }
            let Some(name) = step.path.name() else { continue };
            self.delete(here, Some(name));
            match step.entry {
                None => {}
                Some(entry) if entry.is_directory() => {
                    if self.enter(name, entry) {
                        *here = step.path;
                    } else {
                        walk.pass_over();
                    }
                }
                // Without workers nothing is walked to its end, so that nothing is deleted either.
                Some(entry) => self.other(name.to_vec(), entry).map_err(|Gone| Error::Interrupted)?,
            }
        }
        Ok(())
    }

    fn enter(&mut self, name: &[u8], entry: Entry) -> bool {
        match self.run.enter(&self.here, name, entry.metadata) {
            Ok(directory) => {
                let existed = directory.existed;
                let left = std::mem::replace(&mut self.here, directory);
                // Not the last one: the new directory holds its parent.
                self.run.release(left);
                self.list(existed);
                true
            }
            Err(refused) => {
                self.run.failed(self.here.path_of(name), refused.kind, refused.detail);
                false
            }
        }
    }

    fn leave(&mut self, here: &mut TreePath) {
        *here = here.parent().unwrap_or_default();
        self.listings.pop();
        if let Some(parent) = self.here.parent().cloned() {
            let left = std::mem::replace(&mut self.here, parent);
            self.run.release(left);
        }
    }

    fn list(&mut self, existed: bool) {
        let listing = if existed && self.run.options.delete {
            Listing::read(&*self.here)
                .inspect_err(|error| {
                    let (path, detail) = (self.here.path(), error.to_string());
                    self.run.ledger.problem(Problem { path, kind: ProblemKind::Delete, detail });
                })
                .ok()
        } else {
            None
        };
        self.listings.push(listing);
    }

    /// Deletes what was in this directory and comes before the name, or all that is left.
    fn delete(&mut self, here: &TreePath, limit: Option<&[u8]>) {
        let Some(Some(listing)) = self.listings.last_mut() else { return };
        let (options, ledger) = (self.run.options, &self.run.ledger);
        Remover { options, ledger, base: self.run.base }.sweep(listing, self.here.as_fd(), here, limit);
    }

    /// Anything but a directory.
    fn other(&mut self, name: Vec<u8>, entry: Entry) -> std::result::Result<(), Gone> {
        let link = match entry.link {
            None => Link::None,
            Some(number) => match self.groups.get(&number) {
                Some(group) => Link::Later(Arc::clone(group)),
                None => {
                    let (group, duty) = Group::new(entry.node.clone());
                    self.groups.insert(number, group);
                    Link::First(duty)
                }
            },
        };
        let directory = Arc::clone(&self.here);
        match link {
            Link::None if entry.size() > SPAN_BYTES => {
                large::restore(self.run, &self.queue, directory, name, entry, None)
            }
            Link::First(duty) if entry.size() > SPAN_BYTES => {
                large::restore(self.run, &self.queue, directory, name, entry, Some(duty))
            }
            link => match self.window.push(Item { directory, name, entry, link }) {
                true => self.let_go(),
                false => Ok(()),
            },
        }
    }

    /// Hands over the files that wait for their neighbours.
    fn let_go(&mut self) -> std::result::Result<(), Gone> {
        self.window.take(self.run.reader).try_for_each(|item| self.queue.push(item))
    }
}
