//! Repair: what is damaged is replaced by what can still be read, and nothing that can be read is given up.
//!
//! Must stay true: every repair is a plan first, changes nothing in a dry run, puts what replaces before it removes what is
//! replaced, and goes on where an interrupted one stopped when it is run again. It works beside sessions, readers and
//! collections. The order is `index`, `packs`, `snapshots`: each relies on what the one before has mended.
//! `docs/decisions/0028-repair.md`
//!
//! Read next: `index.rs`, `packs.rs`, `snapshots.rs`.

mod index;
mod packs;
mod salvage;
mod snapshots;

pub use index::{IndexRepaired, plan_index, repair_index};
pub use packs::{PacksRepaired, plan_packs, repair_packs};
pub use snapshots::{Lost, REPAIRED, SnapshotRepaired, mark_snapshots, plan_snapshots, repair_snapshots};
