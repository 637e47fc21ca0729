//! Where objects live: named, immutable, durable bytes.
//!
//! A [`Store`] knows names and bytes, nothing of what they mean: no key, no chunk, no snapshot. Every call blocks: those
//! who move data have threads of their own, and a remote store keeps its runtime inside.
//!
//! Must stay true: what [`Store::put`] or [`Spool::commit`] returned `Ok` for survives a power cut that instant, is never
//! replaced, and is never listed half-written. Commit and collection rely on nothing else; [`conformance`] tries it on
//! every store, `tests/syscalls.rs` looks at the order of system calls below [`LocalStore`].
//!
//! Read next: [`Store`] for the promises, [`local`] for how a disk is made to keep them.

pub mod conformance;
mod counting;
mod error;
mod faulty;
pub mod local;
mod memory;
mod operation;
mod shares;
mod store;

pub use counting::{Count, CountingStore};
pub use error::{Error, ErrorKind, RepositoryProblem, Result};
pub use faulty::{Fault, FaultPlan, FaultyStore, Step};
pub use local::{LocalStore, StaleSpool};
pub use memory::MemoryStore;
pub use operation::Operation;
pub use shares::in_shares;
pub use store::{Listed, Spool, Store};
