//! A path inside a source, ordered as the walk meets it. `docs/format/tree.md#keys`

use crate::limits::{NAME_BYTES_MAX, PATH_BYTES_MAX, PATH_COMPONENTS_MAX};
use crate::{Error, Result};
use std::fmt;

/// A path relative to a source's root: its components joined by NUL, which no name can contain.
///
/// Comparing the bytes compares component by component, so the order is that of a depth-first walk with sorted names: a
/// directory is followed at once by everything below it. The root is the empty path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TreePath(Vec<u8>);

impl TreePath {
    /// The source's root itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// Checks bytes from outside: every component is a name that a directory can hold.
    pub fn from_key(key: Vec<u8>) -> Result<Self> {
        check_key(&key)?;
        Ok(Self(key))
    }

    /// From a relative path with slashes; empty components and `.` are skipped, `..` is refused.
    pub fn from_slashes(path: &[u8]) -> Result<Self> {
        let mut tree_path = Self::root();
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".") {
            tree_path = tree_path.join(name)?;
        }
        Ok(tree_path)
    }

    /// The entry called `name` in this directory.
    pub fn join(&self, name: &[u8]) -> Result<Self> {
        check_name(name)?;
        let mut key = Vec::with_capacity(self.0.len() + 1 + name.len());
        key.extend_from_slice(&self.0);
        if !self.is_root() {
            key.push(0);
        }
        key.extend_from_slice(name);
        if key.len() > PATH_BYTES_MAX as usize {
            return Err(Error::limit("path", format!("{} bytes, at most {PATH_BYTES_MAX}", key.len())));
        }
        let path = Self(key);
        match path.depth() {
            0..=PATH_COMPONENTS_MAX => Ok(path),
            depth => Err(Error::limit("path", format!("{depth} components, at most {PATH_COMPONENTS_MAX}"))),
        }
    }

    /// `rest` below this path.
    pub fn append(&self, rest: &Self) -> Result<Self> {
        match (self.is_root(), rest.is_root()) {
            (true, _) => Ok(rest.clone()),
            (_, true) => Ok(self.clone()),
            _ => Self::from_key([&self.0[..], &[0], &rest.0[..]].concat()),
        }
    }

    /// The bytes by which paths are ordered and stored.
    pub fn as_key(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the source itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The names from the root down.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|byte| *byte == 0).filter(|name| !name.is_empty())
    }

    /// How many names there are; 0 for the root.
    pub fn depth(&self) -> usize {
        if self.is_root() { 0 } else { 1 + self.0.iter().filter(|byte| **byte == 0).count() }
    }

    /// The last name; `None` for the root.
    pub fn name(&self) -> Option<&[u8]> {
        self.components().next_back()
    }

    /// The directory that holds this entry; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|byte| *byte == 0).unwrap_or(0);
        Some(Self(self.0[..end].to_vec()))
    }

    /// Whether this is `ancestor` or lies below it.
    pub fn starts_with(&self, ancestor: &Self) -> bool {
        ancestor.is_root()
            || self
                .0
                .strip_prefix(ancestor.as_key())
                .is_some_and(|rest| rest.first().is_none_or(|byte| *byte == 0))
    }

    /// What is left of this path below `ancestor`; `None` where it does not lie there.
    pub fn strip(&self, ancestor: &Self) -> Option<Self> {
        self.starts_with(ancestor).then(|| {
            let rest = &self.0[ancestor.0.len()..];
            Self(rest.strip_prefix(&[0]).unwrap_or(rest).to_vec())
        })
    }

    /// With slashes, relative: `usr/bin/env`.
    pub fn to_slashes(&self) -> Vec<u8> {
        self.0.iter().map(|byte| if *byte == 0 { b'/' } else { *byte }).collect()
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&String::from_utf8_lossy(&self.to_slashes()))
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TreePath({:?})", self.to_string())
    }
}

/// Refuses what no directory can hold: restore creates exactly these names.
fn check_name(name: &[u8]) -> Result<()> {
    let fits = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name != b"."
        && name != b".."
        && !name.iter().any(|byte| *byte == b'/' || *byte == 0);
    if fits {
        Ok(())
    } else {
        Err(Error::damaged("path", "a name is empty, too long, `.`, `..` or contains a slash"))
    }
}

/// Checks a whole key without copying it.
fn check_key(key: &[u8]) -> Result<()> {
    if key.len() > PATH_BYTES_MAX as usize {
        return Err(Error::damaged("path", format!("{} bytes are more than {PATH_BYTES_MAX}", key.len())));
    }
    if key.is_empty() {
        return Ok(());
    }
    let mut components = 0;
    for name in key.split(|byte| *byte == 0) {
        check_name(name)?;
        components += 1;
    }
    if components <= PATH_COMPONENTS_MAX {
        Ok(())
    } else {
        Err(Error::damaged("path", "it has too many components"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::from_slashes(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_order_is_that_of_a_walk() {
        let walk = ["", "a", "a/b", "a/b/c", "a/z", "a!", "a!/x", "ab"];
        assert!(walk.windows(2).all(|pair| path(pair[0]) < path(pair[1])));
    }

    #[test]
    fn names_that_leave_their_directory_are_refused() {
        for bad in [&b".."[..], b"a\0..", b"a\0\0b", b"\0a", b"a\0", b"a/b", b"."] {
            assert!(TreePath::from_key(bad.to_vec()).is_err(), "{bad:?}");
        }
        assert!(TreePath::from_slashes(b"a/../b").is_err());
        assert!(TreePath::root().join(&[b'x'; 256]).is_err());
    }

    #[test]
    fn a_path_lies_below_its_ancestors_only() {
        assert_eq!(path("a/b/c").strip(&path("a")), Some(path("b/c")));
        assert_eq!(path("a").strip(&path("a")), Some(TreePath::root()));
        assert_eq!(path("ab").strip(&path("a")), None);
        assert_eq!(path("a/b").parent(), Some(path("a")));
        assert_eq!(path("a").parent(), Some(TreePath::root()));
        assert_eq!(path("a/b").depth(), 2);
        assert_eq!(path("a").append(&path("b/c")).unwrap(), path("a/b/c"));
        assert_eq!(path("").append(&path("b")).unwrap(), path("b"));
        assert_eq!(path("b").append(&path("")).unwrap(), path("b"));
        let long = path(&"x/".repeat(3000));
        assert!(long.append(&long).is_err());
    }
}
