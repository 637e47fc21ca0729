//! What is left out of a snapshot: gitignore rules, cache folders, marked folders.
//!
//! Patterns are relative to each source, and a source that was named is never excluded itself.

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use lifeboat_format::TreePath;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The first bytes of a `CACHEDIR.TAG` that counts (<https://bford.info/cachedir/>).
const CACHE_TAG: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// What to leave out.
#[derive(Debug, Clone, Default)]
pub struct Excludes {
    /// Patterns with gitignore's rules.
    pub patterns: Vec<String>,
    /// Patterns with gitignore's rules that ignore case.
    pub patterns_any_case: Vec<String>,
    /// Leave out the content of directories with a valid `CACHEDIR.TAG`.
    pub caches: bool,
    /// Leave out the content of directories that hold one of these names.
    pub if_present: Vec<OsString>,
    /// Leave out regular files above this size.
    pub larger_than: Option<u64>,
    /// Stay on the file system of each source.
    pub one_file_system: bool,
    /// Folders that are left out wherever they are met, by identity: the repository itself.
    pub folders: Vec<PathBuf>,
}

/// Excludes made ready for one source.
pub struct ExcludeSet {
    rules: Vec<Gitignore>,
    folders: Vec<((u32, u32), u64)>,
    excludes: Excludes,
}

impl Excludes {
    /// Compiles the patterns.
    ///
    /// # Errors
    /// A pattern that is no glob, by its text.
    pub fn compile(&self) -> Result<ExcludeSet, String> {
        let mut rules = Vec::new();
        for (patterns, any_case) in [(&self.patterns, false), (&self.patterns_any_case, true)] {
            let mut builder = GitignoreBuilder::new("");
            builder.case_insensitive(any_case).map_err(|error| error.to_string())?;
            for pattern in patterns {
                builder
                    .add_line(None, pattern)
                    .map_err(|error| format!("exclude pattern `{pattern}`: {error}"))?;
            }
            rules.push(builder.build().map_err(|error| error.to_string())?);
        }
        let identity = |path: &PathBuf| {
            let status = rustix::fs::stat(path).ok()?;
            Some(((rustix::fs::major(status.st_dev), rustix::fs::minor(status.st_dev)), status.st_ino))
        };
        let folders = self.folders.iter().filter_map(identity).collect();
        Ok(ExcludeSet { rules, folders, excludes: self.clone() })
    }
}

impl ExcludeSet {
    /// Whether an entry is left out, with everything below it.
    pub fn matches(&self, path: &TreePath, is_directory: bool, size: u64) -> bool {
        if !is_directory && self.excludes.larger_than.is_some_and(|limit| size > limit) {
            return true;
        }
        if self.rules.iter().all(Gitignore::is_empty) {
            return false;
        }
        let slashes = path.to_slashes();
        let path = Path::new(OsStr::from_bytes(&slashes));
        self.rules.iter().any(|rules| rules.matched(path, is_directory).is_ignore())
    }

    /// Whether a folder is one of those that are always left out.
    pub fn is_left_out(&self, device: (u32, u32), inode: u64) -> bool {
        self.folders.contains(&(device, inode))
    }

    /// Whether to stay on one file system.
    pub fn one_file_system(&self) -> bool {
        self.excludes.one_file_system
    }

    /// Whether the content of a directory is left out because of what lies in it. `read_start` reads a file's beginning.
    pub fn skips_content<'n>(
        &self,
        mut names: impl Iterator<Item = &'n [u8]>,
        read_start: impl Fn(&[u8]) -> Option<Vec<u8>>,
    ) -> bool {
        if !self.excludes.caches && self.excludes.if_present.is_empty() {
            return false;
        }
        names.any(|name| {
            self.excludes.if_present.iter().any(|marker| marker.as_bytes() == name)
                || (self.excludes.caches
                    && name == b"CACHEDIR.TAG"
                    && read_start(name).is_some_and(|start| start.starts_with(CACHE_TAG)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excluded(patterns: &[&str], path: &str, is_directory: bool) -> bool {
        let patterns = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        let set = Excludes { patterns, ..Excludes::default() }.compile().unwrap();
        set.matches(&TreePath::from_slashes(path.as_bytes()).unwrap(), is_directory, 0)
    }

    #[test]
    fn patterns_follow_gitignore() {
        assert!(excluded(&["*.log"], "a/b.log", false));
        assert!(excluded(&["/top"], "top", true) && !excluded(&["/top"], "a/top", true));
        assert!(excluded(&["cache/"], "a/cache", true) && !excluded(&["cache/"], "a/cache", false));
        assert!(!excluded(&["*.log", "!keep.log"], "keep.log", false));
        assert!(excluded(&["a/**/z"], "a/b/c/z", false));
        assert!(!excluded(&["# comment", ""], "# comment", false));
    }

    #[test]
    fn a_cache_tag_counts_with_its_signature_only() {
        let set = Excludes { caches: true, ..Excludes::default() }.compile().unwrap();
        let names = [&b"CACHEDIR.TAG"[..]];
        assert!(set.skips_content(names.into_iter(), |_| Some(CACHE_TAG.to_vec())));
        assert!(!set.skips_content(names.into_iter(), |_| Some(b"something".to_vec())));
    }
}
