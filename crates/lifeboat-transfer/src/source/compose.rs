//! One tree out of several folders and a few files in memory, met in the order of [`TreePath`].
//!
//! Must stay true: what comes out is strictly sorted, and each entry's directory came before it. A file in memory takes
//! the place of what a folder has there, with everything below that. Directories that lead to a part and are in none of
//! them are made up.

use super::ancestors::Ancestors;
use super::exclude::Excludes;
use super::walk::{Met, Problem, Walk};
use lifeboat_format::{Metadata, TreePath};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::path::PathBuf;

/// A folder on disk that is part of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// Where in the source it is.
    pub at: TreePath,
    /// Where on disk it is: an absolute path without links in it.
    pub root: PathBuf,
    /// What is left out of it besides what is left out everywhere: gitignore's rules, relative to the folder.
    pub excludes: Vec<String>,
}

impl Folder {
    /// The folder that is the whole source.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { at: TreePath::root(), root: root.into(), excludes: Vec::new() }
    }
}

/// A regular file that exists in memory only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryFile {
    /// Where in the source it is.
    pub at: TreePath,
    /// Its content.
    pub bytes: Vec<u8>,
    /// Its metadata; equal metadata and content make an equal entry.
    pub metadata: Metadata,
}

/// What a source holds.
#[derive(Debug)]
pub enum Found {
    /// On disk.
    Met(Box<Met>),
    /// In memory.
    File(MemoryFile),
    /// A directory that only leads to others.
    Made(TreePath, Metadata),
}

impl Found {
    /// Where it is.
    pub fn path(&self) -> &TreePath {
        match self {
            Self::Met(met) => &met.path,
            Self::File(file) => &file.at,
            Self::Made(path, _) => path,
        }
    }

    fn is_directory(&self) -> bool {
        match self {
            Self::Met(met) => met.own.is_some(),
            Self::File(_) => false,
            Self::Made(..) => true,
        }
    }
}

/// Why a source could not be begun.
#[derive(Debug)]
pub enum CannotBegin {
    /// A pattern is none.
    Pattern(String),
    /// A folder cannot be opened.
    Folder(PathBuf, std::io::Error),
    /// Parts lie in each other.
    Overlap(TreePath),
}

/// Meets everything of a source.
#[derive(Default)]
pub struct Composition {
    folders: VecDeque<(TreePath, Walk)>,
    files: VecDeque<MemoryFile>,
    /// What a folder has next.
    ahead: Option<Met>,
    /// Hidden with everything below it by a file in memory.
    hidden: Option<TreePath>,
    /// The directories that lead to the last entry, that one included.
    open: Ancestors,
    last: Option<TreePath>,
    /// What was held back to make directories first.
    held: VecDeque<Found>,
}

impl Composition {
    /// Opens all folders; with `is_syncing`, their dirty pages are written back before they are read.
    pub fn begin(
        mut folders: Vec<Folder>,
        mut files: Vec<MemoryFile>,
        excludes: &Excludes,
        is_syncing: bool,
    ) -> Result<Self, CannotBegin> {
        folders.sort_by(|left, right| left.at.cmp(&right.at));
        files.sort_by(|left, right| left.at.cmp(&right.at));
        if let Some(pair) = folders.windows(2).find(|pair| pair[1].at.starts_with(&pair[0].at)) {
            return Err(CannotBegin::Overlap(pair[1].at.clone()));
        }
        if let Some(pair) = files.windows(2).find(|pair| pair[1].at.starts_with(&pair[0].at)) {
            return Err(CannotBegin::Overlap(pair[1].at.clone()));
        }
        let walks = folders.into_iter().map(|folder| {
            let mut excludes = excludes.clone();
            excludes.patterns.extend(folder.excludes);
            let rules = excludes.compile().map_err(CannotBegin::Pattern)?;
            let walk = Walk::new(&folder.root, rules)
                .map_err(|error| CannotBegin::Folder(folder.root.clone(), error))?;
            Ok((folder.at, if is_syncing { walk.syncing() } else { walk }))
        });
        Ok(Self {
            folders: walks.collect::<Result<_, _>>()?,
            files: files.into(),
            ahead: None,
            hidden: None,
            open: Ancestors::default(),
            last: None,
            held: VecDeque::new(),
        })
    }

    /// The next that a folder has, at its place in the source.
    fn next_met(&mut self) -> Option<Result<Met, Problem>> {
        loop {
            let (at, walk) = self.folders.front_mut()?;
            let Some(met) = walk.next() else {
                self.folders.pop_front();
                continue;
            };
            if at.is_root() {
                return Some(met);
            }
            return Some(match met {
                Ok(met) => match at.append(&met.path) {
                    Ok(path) => Ok(Met { path, ..met }),
                    Err(_) => Err(Problem::new(at, "its entries' paths are too long", Errno::NAMETOOLONG)),
                },
                Err(problem) => {
                    let path = at.append(&problem.path).unwrap_or_else(|_| at.clone());
                    Err(Problem { path, ..problem })
                }
            });
        }
    }

    /// The next of folders and files, whichever comes first.
    fn next_part(&mut self) -> Option<Result<Found, Problem>> {
        loop {
            if self.ahead.is_none() {
                match self.next_met() {
                    Some(Ok(met)) => self.ahead = Some(met),
                    Some(Err(problem)) => return Some(Err(problem)),
                    None => {}
                }
            }
            if let (Some(met), Some(hidden)) = (&self.ahead, &self.hidden)
                && met.path.starts_with(hidden)
            {
                self.ahead = None;
                continue;
            }
            let file_is_first = match (&self.ahead, self.files.front()) {
                (Some(met), Some(file)) => file.at <= met.path,
                (None, file) => file.is_some(),
                (Some(_), None) => false,
            };
            if file_is_first {
                let file = self.files.pop_front()?;
                self.hidden = Some(file.at.clone());
                return Some(Ok(Found::File(file)));
            }
            return self.ahead.take().map(|met| Ok(Found::Met(Box::new(met))));
        }
    }

    /// Makes up the directories that lead to what was found and were not met.
    fn lead_to(&mut self, found: Found) -> Result<Found, Problem> {
        let path = found.path().clone();
        let missing = self.open.lead_to(&path);
        // What is no directory came last, if it lies on the way.
        if self.last.as_ref().is_some_and(|last| missing.contains(last)) {
            return Err(Problem::new(&path, "lies below what is no directory", Errno::NOTDIR));
        }
        self.last = Some(path.clone());
        for directory in missing {
            self.open.enter(directory.clone());
            self.held.push_back(Found::Made(directory, Ancestors::made_up()));
        }
        if found.is_directory() {
            self.open.enter(path);
        }
        self.held.push_back(found);
        let first = self.held.pop_front();
        first.ok_or_else(|| Problem::new(&TreePath::root(), "is empty", Errno::NOENT))
    }
}

impl Iterator for Composition {
    type Item = Result<Found, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(held) = self.held.pop_front() {
            return Some(Ok(held));
        }
        match self.next_part()? {
            Ok(found) => Some(self.lead_to(found)),
            Err(problem) => Some(Err(problem)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        TreePath::from_slashes(text.as_bytes()).unwrap()
    }

    fn file(at: &str) -> MemoryFile {
        MemoryFile { at: path(at), bytes: at.into(), metadata: Metadata::default() }
    }

    fn compose(folders: Vec<Folder>, files: Vec<MemoryFile>) -> Vec<String> {
        let all = Composition::begin(folders, files, &Excludes::default(), false);
        let all = all.unwrap_or_else(|error| panic!("{error:?}"));
        let shown = all.map(|found| match found.unwrap() {
            Found::Met(met) => format!("disk {}", met.path),
            Found::File(file) => format!("file {}", file.at),
            Found::Made(path, _) => format!("made {path}"),
        });
        shown.collect()
    }

    fn folder(at: &str, names: &[&str]) -> (tempfile::TempDir, Folder) {
        let on_disk = tempfile::tempdir().unwrap();
        for name in names {
            let file = on_disk.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "").unwrap();
        }
        let root = on_disk.path().canonicalize().unwrap();
        (on_disk, Folder { at: path(at), root, excludes: vec!["/left-out".into()] })
    }

    #[test]
    fn parts_come_in_one_order_and_directories_lead_to_them() {
        let (_one, one) = folder("layer", &["b", "left-out/x"]);
        let (_two, two) = folder("deep/down", &["z"]);
        let all = compose(vec![one, two], vec![file("container.json"), file("layer/a")]);
        assert_eq!(
            all,
            [
                "made ",
                "file container.json",
                "made deep",
                "disk deep/down",
                "disk deep/down/z",
                "disk layer",
                "file layer/a",
                "disk layer/b"
            ]
        );
    }

    #[test]
    fn a_file_in_memory_takes_the_place_of_what_is_on_disk() {
        let (_folder, on_disk) = folder("", &["a/x", "a!", "b", "c"]);
        let all = compose(vec![on_disk], vec![file("a"), file("b"), file("d")]);
        assert_eq!(all, ["disk ", "file a", "disk a!", "file b", "disk c", "file d"]);
    }

    #[test]
    fn a_file_in_memory_below_a_file_on_disk_is_a_problem() {
        let (_folder, on_disk) = folder("", &["a"]);
        let all = Composition::begin(vec![on_disk], vec![file("a/x")], &Excludes::default(), false);
        let problems: Vec<_> =
            all.unwrap_or_else(|error| panic!("{error:?}")).filter_map(Result::err).collect();
        assert_eq!(problems[0].path, path("a/x"));
        assert_eq!(problems.len(), 1);
    }

    #[test]
    fn a_folder_inside_another_is_refused() {
        let (_one, one) = folder("a", &[]);
        let (_two, two) = folder("a/b", &[]);
        let error = Composition::begin(vec![two, one], vec![], &Excludes::default(), false).err().unwrap();
        assert!(matches!(error, CannotBegin::Overlap(at) if at == path("a/b")));
        let files = vec![file("x"), file("x/y")];
        let error = Composition::begin(vec![], files, &Excludes::default(), false).err().unwrap();
        assert!(matches!(error, CannotBegin::Overlap(at) if at == path("x/y")));
    }
}
