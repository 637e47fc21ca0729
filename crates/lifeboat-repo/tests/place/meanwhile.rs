//! A store that lets something happen in the middle of what is asked of it: whoever asks sleeps that long.

use lifeboat_format::{ObjectKey, ObjectKind};
use lifeboat_store::{Listed, Result, Spool, Store};
use std::fmt;
use std::sync::{Arc, Mutex};

type Deed = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    operations: u64,
    deed: Option<(u64, Deed)>,
}

/// A store with one deed before one of its operations; clones share it.
pub(crate) struct Meanwhile<S> {
    store: S,
    state: Arc<Mutex<State>>,
}

impl<S: Clone> Clone for Meanwhile<S> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), state: self.state.clone() }
    }
}

impl<S> fmt::Debug for Meanwhile<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Meanwhile")
    }
}

impl<S> Meanwhile<S> {
    /// Nothing happens; operations are counted.
    pub(crate) fn counting(store: S) -> Self {
        Self { store, state: Arc::default() }
    }

    /// `deed` happens before the operation of that number, from 0.
    pub(crate) fn at(store: S, operation: u64, deed: impl FnOnce() + Send + 'static) -> Self {
        let state = State { operations: 0, deed: Some((operation, Box::new(deed))) };
        Self { store, state: Arc::new(Mutex::new(state)) }
    }

    pub(crate) fn operations(&self) -> u64 {
        self.state.lock().unwrap().operations
    }

    fn step(&self) {
        let mut state = self.state.lock().unwrap();
        let number = state.operations;
        state.operations += 1;
        let deed = state.deed.take_if(|(at, _)| *at == number);
        drop(state);
        if let Some((_, deed)) = deed {
            deed();
        }
    }
}

impl<S: Store> Store for Meanwhile<S> {
    fn put(&self, key: &ObjectKey, bytes: &[u8]) -> Result<()> {
        self.step();
        self.store.put(key, bytes)
    }

    fn spool(&self) -> Result<Box<dyn Spool>> {
        self.step();
        self.store.spool()
    }

    fn get(&self, key: &ObjectKey) -> Result<Vec<u8>> {
        self.step();
        self.store.get(key)
    }

    fn get_range(&self, key: &ObjectKey, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.step();
        self.store.get_range(key, offset, buffer)
    }

    fn bytes(&self, key: &ObjectKey) -> Result<u64> {
        self.step();
        self.store.bytes(key)
    }

    fn list(&self, kind: ObjectKind) -> Result<Vec<Listed>> {
        self.step();
        self.store.list(kind)
    }

    fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.step();
        self.store.delete(key)
    }

    fn location(&self) -> String {
        self.store.location()
    }
}
