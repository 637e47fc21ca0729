//! What the cache promises, on a real RocksDB.

#![expect(clippy::unwrap_used, reason = "clippy takes the helpers of tests for something else")]

mod behaviour;
mod build;
mod damage;
mod full_disk;
mod model;
mod processes;
