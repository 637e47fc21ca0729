//! Sessions, packs, trees, snapshots, check.
