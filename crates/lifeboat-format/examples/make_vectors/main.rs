//! Writes the test vectors and the golden repository of `docs/format/vectors/`.
//!
//! Run it as `cargo run --release -p lifeboat-format --example make_vectors [FOLDER]`. Keys and nonces of sealed things
//! are random, so every run gives other bytes: committed vectors are kept, not made anew, because they stand for what
//! earlier versions wrote. `docs/format/vectors/README.md` says when to run it.

mod bundles;
mod describe;
mod lists;
mod objects;
mod packs;
mod repository;
mod skeletons;
mod sketch;
mod snapshots;
mod topic;
mod trees;
mod writer;

use std::error::Error;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/format/vectors"),
        PathBuf::from,
    );
    std::fs::create_dir_all(&folder)?;
    for topic in [
        objects::primitives(),
        objects::paths()?,
        objects::derivations(),
        objects::frames(),
        objects::configs()?,
        objects::slots()?,
        objects::intents(),
        objects::condemned()?,
        packs::seals()?,
        packs::regions()?,
        packs::packs()?,
        packs::indexes()?,
        trees::nodes()?,
        trees::walks()?,
        lists::lists(),
        lists::files(),
        skeletons::skeletons(),
        snapshots::snapshots()?,
        bundles::bundles()?,
    ] {
        topic.write(&folder)?;
    }
    repository::write(&folder.join("repository"))
}
