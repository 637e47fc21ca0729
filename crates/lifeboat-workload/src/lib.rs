//! What runs on a container engine: reading, quiescing and restoring it.
//!
//! Must stay true: only this crate knows Docker, and only this crate knows an async runtime. Its public interface blocks,
//! like the rest of lifeboat, so that callers are ordinary threads.
//! Read next: [`engine`], which everything else here is built on; [`volume`], how volumes are reached; [`quiesce`], how a
//! service is made quiet and never left so.

pub mod boundary;
pub mod capture;
pub mod engine;
pub mod facts;
pub mod hooks;
pub mod host_paths;
pub mod image;
pub mod inventory;
pub mod journal;
pub mod labels;
pub mod layer;
mod piped;
pub mod policy;
pub mod project;
pub mod quiesce;
pub mod readiness;
pub mod recipes;
pub mod recover;
pub mod recreate;
pub mod supervisor;
mod versioned;
pub mod volume;
