//! Whether a container is still the one of a snapshot, so that it can stay.
//!
//! Must stay true: what is not certainly the same is another one: a container is made anew rather than taken for what it is
//! not.

use super::Error;
use super::layer::{Listed, base};
use super::recorded::{Mounted, Recorded};
use super::request::request;
use crate::engine::ApiVersion;
use lifeboat_format::{Entry, Timestamp};

/// Whether making both would ask an engine for the same; `stays` says of other containers' ids whether they stay.
///
/// One with anonymous volumes is never the same: which of them is which only the engine knows.
pub fn is_asked_for_alike(
    then: &Recorded,
    now: &Recorded,
    api: ApiVersion,
    stays: &dyn Fn(&str) -> bool,
) -> bool {
    let others = |id: &str| stays(id).then(|| id.to_owned());
    let asked = |one: &Recorded| request(one, &one.image_name, api, &others);
    let has_nameless = |one: &Recorded| {
        let mut volumes = one.volumes().into_iter();
        volumes.any(|volume| matches!(volume, Mounted::Anonymous { .. }))
    };
    let (Ok(before), Ok(after)) = (asked(then), asked(now)) else { return false };
    then.image_id == now.image_id && before == after && !has_nameless(then) && !has_nameless(now)
}

/// Whether two writable layers hold the same: names, contents, owners, permissions, attributes and times.
///
/// # Errors
/// Where the repository cannot give one of them.
pub fn is_same_layer(then: Listed<'_>, now: Listed<'_>) -> Result<bool, Error> {
    let base = base()?;
    let mut now = now;
    for entry in then {
        let (path, entry) = entry.map_err(Error::Content)?;
        let Some(other) = now.next() else { return Ok(false) };
        let (other_path, other) = other.map_err(Error::Content)?;
        // To look into a container, an engine makes a folder in its root and removes it.
        if path != other_path || (path != base && comparable(entry) != comparable(other)) {
            return Ok(false);
        }
    }
    Ok(now.next().is_none())
}

/// Without what only says where and when it is stored.
fn comparable(mut entry: Entry) -> Entry {
    entry.metadata.ctime = Timestamp::default();
    entry.metadata.inode = 0;
    entry.link = None;
    entry
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_format::{Metadata, Node, TreePath};
    use lifeboat_transfer::restore::EntryResult;

    /// Two lists never have an inode in common.
    fn listed(names: &[(&str, u16)], first: u64) -> Listed<'static> {
        let entries: Vec<EntryResult> = names
            .iter()
            .zip(first..)
            .map(|((name, mode), inode)| {
                let path = TreePath::from_slashes(name.as_bytes()).unwrap();
                let metadata = Metadata { mode: *mode, inode, ..Metadata::default() };
                Ok((path, Entry { node: Node::Fifo, metadata, link: None, torn: false }))
            })
            .collect();
        Box::new(entries.into_iter())
    }

    #[test]
    fn layers_are_the_same_or_not() {
        let same = |one: &[_], other: &[_]| is_same_layer(listed(one, 1), listed(other, 100)).unwrap();
        assert!(same(&[], &[]));
        assert!(same(&[("layer", 1), ("layer/a", 2)], &[("layer", 3), ("layer/a", 2)]));
        assert!(!same(&[("layer", 1), ("layer/a", 2)], &[("layer", 1), ("layer/a", 3)]));
        assert!(!same(&[("layer", 1), ("layer/a", 2)], &[("layer", 1)]));
        assert!(!same(&[("layer", 1)], &[("layer", 1), ("layer/a", 2)]));
        assert!(!same(&[("layer", 1), ("layer/b", 2)], &[("layer", 1), ("layer/a", 2)]));
    }
}
