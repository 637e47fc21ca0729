//! Reads index objects while others replace them.

use crate::error::{Error, ErrorKind, Result};
use crate::lookup::read_index_object;
use crate::repository::Repository;
use lifeboat_format::index::IndexObject;
use lifeboat_format::{IndexName, ObjectKind};
use lifeboat_store::Listed;
use std::collections::BTreeSet;

/// How often the index objects are listed again because one of them was replaced meanwhile.
const LISTINGS_MAX: usize = 100;

/// The index object in a listing.
pub(crate) fn name_of(listed: &Listed) -> IndexName {
    IndexName(listed.key.name().try_into().expect("an index object's name has 32 bytes"))
}

/// Gives every index object that `wants` accepts to `visit`, also those that took the place of others meanwhile. One
/// object is in memory at a time.
pub(super) fn each_index_object(
    repository: &Repository,
    wants: impl Fn(&Listed) -> bool,
    mut visit: impl FnMut(IndexName, IndexObject) -> Result<()>,
) -> Result<()> {
    let store = repository.store();
    let mut read = BTreeSet::new();
    for _ in 0..LISTINGS_MAX {
        let listed =
            store.list(ObjectKind::Index).map_err(Error::store("the index objects cannot be listed"))?;
        let mut is_complete = true;
        for listed in listed.iter().filter(|listed| wants(listed)) {
            let name = name_of(listed);
            if !read.insert(name) {
                continue;
            }
            match read_index_object(store, repository.keys(), &name) {
                Ok(object) => visit(name, object)?,
                // Another collector replaced it: the other object is in the next listing.
                Err(error) if error.kind() == ErrorKind::NotFound => is_complete = false,
                Err(error) => return Err(error),
            }
        }
        if is_complete {
            return Ok(());
        }
    }
    let detail = "its objects are listed, but are not there".into();
    Err(Error::Damaged { what: "the index".into(), detail })
}
