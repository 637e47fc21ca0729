//! What the cache promises, on a real RocksDB.

mod behaviour;
mod build;
mod damage;
mod full_disk;
mod model;
mod processes;
