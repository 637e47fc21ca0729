//! A store that fails on purpose, at the same operation each time.
//!
//! To kill a program at every store operation: run it once under [`FaultPlan::none`], take [`FaultyStore::operations`],
//! and run it once more for each number below that, with a crash planned there. [`FaultyStore::inner`] is what a restart
//! finds.

use crate::{Error, ErrorKind, Listed, Operation, Result, Spool, Store};
use lifeboat_format::{ObjectKey, ObjectKind};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// An error; nothing happened.
    Before,
    /// An error, although it took effect: the answer was lost.
    After,
    /// An error, and the first half of the bytes is there under the name: stores that cannot put atomically do this.
    /// Operations that write no object fail as with [`Self::Before`].
    Torn,
    /// As [`Self::Before`], and all later operations fail.
    CrashBefore,
    /// As [`Self::After`], and all later operations fail.
    CrashAfter,
    /// As [`Self::Torn`], and all later operations fail.
    CrashTorn,
    /// Success, but this bit of the bytes that are read (modulo their number) is flipped. Writes are not touched.
    FlipBit(u64),
}

impl Fault {
    fn is_crash(self) -> bool {
        matches!(self, Self::CrashBefore | Self::CrashAfter | Self::CrashTorn)
    }

    fn takes_effect(self) -> bool {
        matches!(self, Self::After | Self::CrashAfter | Self::FlipBit(_))
    }

    fn tears(self) -> bool {
        matches!(self, Self::Torn | Self::CrashTorn)
    }
}

/// Which operations fail, by number from 0.
#[derive(Debug, Clone, Default)]
pub struct FaultPlan {
    faults: BTreeMap<u64, Fault>,
    changes_only: bool,
}

impl FaultPlan {
    /// Nothing fails; operations are counted.
    pub fn none() -> Self {
        Self::default()
    }

    /// One operation fails.
    pub fn at(operation: u64, fault: Fault) -> Self {
        Self::none().and(operation, fault)
    }

    /// One more operation fails.
    pub fn and(mut self, operation: u64, fault: Fault) -> Self {
        self.faults.insert(operation, fault);
        self
    }

    /// Numbers count puts, commits and deletes only: states between other operations look the same to a restart.
    pub fn changes_only(mut self) -> Self {
        self.changes_only = true;
        self
    }
}

/// An operation that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Which.
    pub operation: Operation,
    /// The object, for those that name one.
    pub key: Option<ObjectKey>,
}

#[derive(Debug)]
struct State {
    plan: FaultPlan,
    steps: Vec<Step>,
    crashed: bool,
}

/// A store that fails according to a [`FaultPlan`]; clones share the count.
#[derive(Debug)]
pub struct FaultyStore<S> {
    store: Arc<S>,
    state: Arc<Mutex<State>>,
}

impl<S> Clone for FaultyStore<S> {
    fn clone(&self) -> Self {
        Self { store: Arc::clone(&self.store), state: Arc::clone(&self.state) }
    }
}

impl<S: Store> FaultyStore<S> {
    /// Starts to count at operation 0.
    pub fn new(store: S, plan: FaultPlan) -> Self {
        let state = State { plan, steps: Vec::new(), crashed: false };
        Self { store: Arc::new(store), state: Arc::new(Mutex::new(state)) }
    }

    /// The store itself, which never fails on purpose: what a restart finds.
    pub fn inner(&self) -> &S {
        &self.store
    }

    /// Operations so far that the plan counts.
    pub fn operations(&self) -> u64 {
        lock(&self.state).steps.len() as u64
    }

    /// The operations so far that the plan counts, in order: failed ones included, refused ones after a crash not.
    pub fn steps(&self) -> Vec<Step> {
        lock(&self.state).steps.clone()
    }

    /// Whether a planned crash happened.
    pub fn crashed(&self) -> bool {
        lock(&self.state).crashed
    }

    /// Forgets the count, the steps and a crash, and goes on with another plan.
    pub fn restart(&self, plan: FaultPlan) {
        *lock(&self.state) = State { plan, steps: Vec::new(), crashed: false };
    }

    fn change(
        &self,
        operation: Operation,
        key: &ObjectKey,
        bytes: &[u8],
        act: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        run(&self.state, operation, Some(key), act, || self.store.put(key, &bytes[..bytes.len() / 2]))
    }

    fn read<T>(
        &self,
        operation: Operation,
        key: Option<&ObjectKey>,
        act: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        run(&self.state, operation, key, act, || Ok(()))
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes the operation and gives what is planned for it, or the error of a store that has crashed.
fn next(state: &Mutex<State>, operation: Operation, key: Option<&ObjectKey>) -> Result<Option<Fault>> {
    let mut state = lock(state);
    if state.crashed {
        return Err(Error::plain(ErrorKind::Unavailable, "the store has crashed, as planned"));
    }
    if state.plan.changes_only && !operation.is_change() {
        return Ok(None);
    }
    let number = state.steps.len() as u64;
    state.steps.push(Step { operation, key: key.cloned() });
    let fault = state.plan.faults.get(&number).copied();
    state.crashed = fault.is_some_and(Fault::is_crash);
    Ok(fault)
}

fn planned(operation: Operation, key: Option<&ObjectKey>) -> Error {
    let object = key.map(|key| format!(" of {key}")).unwrap_or_default();
    Error::plain(ErrorKind::Unavailable, format!("{operation:?}{object} failed, as planned"))
}

fn run<T>(
    state: &Mutex<State>,
    operation: Operation,
    key: Option<&ObjectKey>,
    act: impl FnOnce() -> Result<T>,
    tear: impl FnOnce() -> Result<()>,
) -> Result<T> {
    match next(state, operation, key)? {
        None | Some(Fault::FlipBit(_)) => act(),
        Some(fault) => {
            if fault.takes_effect() {
                act()?;
            } else if fault.tears() {
                tear()?;
            }
            Err(planned(operation, key))
        }
    }
}

/// As [`run`], for operations that read bytes.
fn run_read<T>(
    state: &Mutex<State>,
    operation: Operation,
    key: Option<&ObjectKey>,
    act: impl FnOnce() -> Result<T>,
    flip: impl FnOnce(&mut T, u64),
) -> Result<T> {
    match next(state, operation, key)? {
        None => act(),
        Some(Fault::FlipBit(bit)) => {
            let mut read = act()?;
            flip(&mut read, bit);
            Ok(read)
        }
        Some(_) => Err(planned(operation, key)),
    }
}

fn flip_bit(bytes: &mut [u8], bit: u64) {
    if !bytes.is_empty() {
        let bit = bit % (bytes.len() as u64 * 8);
        bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
    }
}

impl<S: Store + 'static> Store for FaultyStore<S> {
    fn put(&self, key: &ObjectKey, bytes: &[u8]) -> Result<()> {
        self.change(Operation::Put, key, bytes, || self.store.put(key, bytes))
    }

    fn spool(&self) -> Result<Box<dyn Spool>> {
        let spool = self.read(Operation::Spool, None, || self.store.spool())?;
        let store: Arc<dyn Store> = self.store.clone();
        Ok(Box::new(FaultySpool { spool, store, state: Arc::clone(&self.state) }))
    }

    fn get(&self, key: &ObjectKey) -> Result<Vec<u8>> {
        let flip = |bytes: &mut Vec<u8>, bit| flip_bit(bytes, bit);
        run_read(&self.state, Operation::Get, Some(key), || self.store.get(key), flip)
    }

    fn get_range(&self, key: &ObjectKey, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let act = || self.store.get_range(key, offset, buffer).map(|()| buffer);
        run_read(&self.state, Operation::GetRange, Some(key), act, |bytes, bit| flip_bit(bytes, bit))?;
        Ok(())
    }

    fn bytes(&self, key: &ObjectKey) -> Result<u64> {
        self.read(Operation::Bytes, Some(key), || self.store.bytes(key))
    }

    fn list(&self, kind: ObjectKind) -> Result<Vec<Listed>> {
        self.read(Operation::List, None, || self.store.list(kind))
    }

    fn delete(&self, key: &ObjectKey) -> Result<()> {
        run(&self.state, Operation::Delete, Some(key), || self.store.delete(key), || Ok(()))
    }

    // `delete_many` stays the loop over `delete`: a crash may come between any two.

    fn location(&self) -> String {
        self.store.location()
    }
}

#[derive(Debug)]
struct FaultySpool {
    spool: Box<dyn Spool>,
    store: Arc<dyn Store>,
    state: Arc<Mutex<State>>,
}

impl Spool for FaultySpool {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        run(&self.state, Operation::Append, None, || self.spool.append(bytes), || Ok(()))
    }

    fn bytes(&self) -> u64 {
        self.spool.bytes()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let act = || self.spool.read_at(offset, buffer).map(|()| buffer);
        run_read(&self.state, Operation::ReadSpool, None, act, |bytes, bit| flip_bit(bytes, bit))?;
        Ok(())
    }

    fn commit(self: Box<Self>, key: &ObjectKey) -> Result<()> {
        let Self { spool, store, state } = *self;
        match next(&state, Operation::Commit, Some(key))? {
            None | Some(Fault::FlipBit(_)) => spool.commit(key),
            Some(fault) => {
                if fault.takes_effect() {
                    spool.commit(key)?;
                } else if fault.tears() {
                    // `try_from` cannot fail: no spool is larger than memory in a test that tears one.
                    let mut half = vec![0; usize::try_from(spool.bytes() / 2).unwrap_or(0)];
                    spool.read_at(0, &mut half)?;
                    store.put(key, &half)?;
                }
                Err(planned(Operation::Commit, Some(key)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStore;

    fn key(name: u8) -> ObjectKey {
        ObjectKey::new(ObjectKind::Snapshot, &[name; 16])
    }

    /// Three changes and a read: what a session does, in small.
    fn session(store: &dyn Store) -> Result<()> {
        let mut spool = store.spool()?;
        spool.append(b"first")?;
        spool.commit(&key(1))?;
        store.put(&key(2), b"second")?;
        assert_eq!(store.get(&key(2))?, b"second");
        store.delete_many(&[key(1)])
    }

    fn left(store: &MemoryStore) -> Vec<(u8, Vec<u8>)> {
        let listed = store.list(ObjectKind::Snapshot).unwrap();
        listed.iter().map(|found| (found.key.name()[0], store.get(&found.key).unwrap())).collect()
    }

    #[test]
    fn a_crash_at_every_change_leaves_every_prefix_of_the_changes() {
        let whole = FaultyStore::new(MemoryStore::new(), FaultPlan::none().changes_only());
        session(&whole).unwrap();
        assert_eq!(whole.operations(), 3);
        let states: Vec<_> = (0..3)
            .map(|number| {
                let plan = FaultPlan::at(number, Fault::CrashBefore).changes_only();
                let store = FaultyStore::new(MemoryStore::new(), plan);
                assert_eq!(session(&store).unwrap_err().kind(), ErrorKind::Unavailable);
                assert!(store.crashed() && store.list(ObjectKind::Snapshot).is_err());
                left(store.inner())
            })
            .collect();
        let (first, second) = ((1, b"first".to_vec()), (2, b"second".to_vec()));
        assert_eq!(states, [vec![], vec![first.clone()], vec![first, second]]);
    }

    #[test]
    fn an_error_after_the_effect_is_an_error_and_an_object() {
        let store = FaultyStore::new(MemoryStore::new(), FaultPlan::at(0, Fault::After));
        assert!(store.put(&key(1), b"bytes").is_err());
        assert_eq!(store.get(&key(1)).unwrap(), b"bytes");
    }

    #[test]
    fn a_torn_put_and_a_torn_commit_leave_the_first_half() {
        let plan = FaultPlan::at(0, Fault::Torn).and(3, Fault::CrashTorn);
        let store = FaultyStore::new(MemoryStore::new(), plan);
        assert!(store.put(&key(1), b"123456").is_err());
        let mut spool = store.spool().unwrap();
        spool.append(b"abcdef").unwrap();
        assert!(spool.commit(&key(2)).is_err());
        assert_eq!(left(store.inner()), [(1, b"123".to_vec()), (2, b"abc".to_vec())]);
    }

    #[test]
    fn a_flipped_bit_is_seen_by_one_read() {
        let store = FaultyStore::new(MemoryStore::new(), FaultPlan::at(1, Fault::FlipBit(9)));
        store.put(&key(1), &[0; 4]).unwrap();
        assert_eq!(store.get(&key(1)).unwrap(), [0, 2, 0, 0]);
        assert_eq!(store.get(&key(1)).unwrap(), [0; 4]);
        store.restart(FaultPlan::at(0, Fault::FlipBit(0)));
        let mut buffer = [0; 2];
        store.get_range(&key(1), 1, &mut buffer).unwrap();
        assert_eq!(buffer, [1, 0]);
    }
}
