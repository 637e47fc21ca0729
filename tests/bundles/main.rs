//! Snapshots go from one repository to another, as bundles or copied, and arrive as they were or not at all.

#[path = "../scene/mod.rs"]
mod scene;

mod command;
mod copies;
mod damage;
mod place;
mod transfers;
