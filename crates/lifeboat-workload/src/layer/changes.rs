//! What an engine lists as changed in a container, and by which requests it is fetched.
//!
//! Must stay true: every listed path that is not left out is fetched or said to be deleted, and nothing else is; there are
//! never more than [`REQUESTS_MAX`] requests, whatever the list: where there would be, a folder is fetched whole, and what
//! is not listed is dropped on the way.

use crate::engine::{Change, ChangeKind};
use std::collections::{BTreeMap, BTreeSet};

/// Each takes an engine about 12 ms (28) or 60 ms (20.10).
pub const REQUESTS_MAX: usize = 256;

/// One request for an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetch {
    /// It, with everything below it: it is new.
    New(String),
    /// It alone: a folder's own metadata, or a file with its content.
    Alone(String),
    /// What is listed at or below it.
    Listed(String),
    /// Nothing: the image has it, and the container does not.
    Deleted(String),
}

/// Listed changes without what is left out.
#[derive(Debug, Default, Clone)]
pub struct Changes {
    left_out: Vec<String>,
    changed: BTreeSet<String>,
    /// Those that are below no other new one.
    new: BTreeSet<String>,
    deleted: BTreeSet<String>,
}

impl Changes {
    /// Reads a list. What is at or below a path of `left_out` is passed over.
    pub fn new<'p>(list: &[Change], left_out: impl Iterator<Item = &'p str>) -> Self {
        let mut changes = Self { left_out: left_out.map(canonical).collect(), ..Self::default() };
        for change in list {
            let path = canonical(&change.path);
            if path == "/" || changes.is_left_out(&path) {
                continue;
            }
            match change.kind {
                ChangeKind::Modified => _ = changes.changed.insert(path),
                ChangeKind::Added => _ = changes.new.insert(path),
                ChangeKind::Deleted => _ = changes.deleted.insert(path),
            }
        }
        let all = std::mem::take(&mut changes.new);
        changes.new =
            all.iter().filter(|path| !ancestors(path).any(|above| all.contains(above))).cloned().collect();
        let covered = |path: &String| ancestors(path).any(|above| changes.new.contains(above));
        changes.changed.retain(|path| !covered(path));
        changes.deleted.retain(|path| !covered(path));
        changes
    }

    /// Whether the engine makes it anew, or something is mounted over it.
    pub fn is_left_out(&self, path: &str) -> bool {
        self.left_out.iter().any(|out| is_at_or_below(path, out))
    }

    /// Whether a path belongs to the layer.
    pub fn is_listed(&self, path: &str) -> bool {
        !self.is_left_out(path)
            && (self.changed.contains(path)
                || self.new.contains(path)
                || ancestors(path).any(|up| self.new.contains(up)))
    }

    /// The requests that bring everything, and what is deleted, in the order in which trees are walked.
    pub fn steps(&self) -> Vec<Fetch> {
        let mut steps = self.fetches();
        steps.extend(self.deleted.iter().cloned().map(Fetch::Deleted));
        steps.sort_by(|left, right| left.path().split('/').cmp(right.path().split('/')));
        steps
    }

    fn fetches(&self) -> Vec<Fetch> {
        let new = self.new.iter().cloned().map(Fetch::New);
        let mut fetches: Vec<Fetch> = new.chain(self.changed.iter().cloned().map(Fetch::Alone)).collect();
        // A name that is no text is not in the list as it is on disk, so its folder is looked through.
        let odd: BTreeSet<String> = fetches
            .iter()
            .filter(|fetch| fetch.path().contains('\u{fffd}'))
            .map(|fetch| parent(fetch.path()))
            .collect();
        odd.iter().for_each(|folder| gather(&mut fetches, folder));
        while fetches.len() > REQUESTS_MAX {
            let Some(folder) = fullest(&fetches) else { break };
            gather(&mut fetches, &folder);
        }
        fetches
    }
}

impl Fetch {
    /// The path to ask for.
    pub fn path(&self) -> &str {
        match self {
            Self::New(path) | Self::Alone(path) | Self::Listed(path) | Self::Deleted(path) => path,
        }
    }
}

/// Puts one request in the place of all that are at or below a folder.
fn gather(fetches: &mut Vec<Fetch>, folder: &str) {
    fetches.retain(|fetch| !is_at_or_below(fetch.path(), folder));
    fetches.push(Fetch::Listed(folder.to_owned()));
}

/// The deepest folder with too many requests below it.
fn fullest(fetches: &[Fetch]) -> Option<String> {
    let mut below: BTreeMap<&str, usize> = BTreeMap::new();
    for fetch in fetches {
        for folder in ancestors(fetch.path()) {
            *below.entry(folder).or_default() += 1;
        }
    }
    let full = below.into_iter().filter(|(_, count)| *count > REQUESTS_MAX);
    full.max_by_key(|(folder, _)| depth(folder)).map(|(folder, _)| folder.to_owned())
}

fn depth(path: &str) -> usize {
    path.bytes().filter(|byte| *byte == b'/').count() + usize::from(path != "/")
}

/// The folders above an absolute path, the nearest first.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| {
        let slash = path.rfind('/').filter(|_| *path != "/")?;
        Some(if slash == 0 { "/" } else { &path[..slash] })
    })
    .skip(1)
}

fn parent(path: &str) -> String {
    ancestors(path).next().unwrap_or("/").to_owned()
}

/// With a slash before and none behind.
fn canonical(path: &str) -> String {
    format!("/{}", path.trim_matches('/'))
}

fn is_at_or_below(path: &str, folder: &str) -> bool {
    folder == "/" || path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ChangeKind::{Added, Deleted, Modified};

    fn changes(list: &[(&str, ChangeKind)]) -> Changes {
        let list: Vec<Change> =
            list.iter().map(|(path, kind)| Change { path: (*path).into(), kind: *kind }).collect();
        Changes::new(&list, ["/dev", "/data/"].into_iter())
    }

    #[test]
    fn what_is_new_is_fetched_once_and_what_is_left_out_never() {
        let changes = changes(&[
            ("/", Modified),
            ("/etc-x", Modified),
            ("/etc", Modified),
            ("/etc/passwd", Modified),
            ("/etc/group", Deleted),
            ("/new", Added),
            ("/new/a", Added),
            ("/new/a/b", Added),
            ("/newer", Added),
            ("/dev/x", Added),
            ("/data", Added),
            ("/data2", Added),
        ]);
        assert_eq!(
            changes.steps(),
            [
                Fetch::New("/data2".into()),
                Fetch::Alone("/etc".into()),
                Fetch::Deleted("/etc/group".into()),
                Fetch::Alone("/etc/passwd".into()),
                Fetch::Alone("/etc-x".into()),
                Fetch::New("/new".into()),
                Fetch::New("/newer".into()),
            ]
        );
        for (path, listed) in [
            ("/new/a/b", true),
            ("/etc/passwd", true),
            ("/etc/shadow", false),
            ("/etc/group", false),
            ("/dev/x", false),
        ] {
            assert_eq!(changes.is_listed(path), listed, "{path}");
        }
    }

    #[test]
    fn there_are_never_more_requests_than_the_limit_and_nothing_is_forgotten() {
        let mut list = Vec::new();
        for folder in ["/usr", "/usr/lib", "/var"] {
            list.push((folder.to_owned(), Modified));
        }
        for number in 0..300 {
            list.push((format!("/usr/lib/{number}"), Modified));
            list.push((format!("/usr/{number}"), Added));
            list.push((format!("/opt/{number}/x"), Added));
        }
        let list: Vec<(&str, ChangeKind)> = list.iter().map(|(path, kind)| (path.as_str(), *kind)).collect();
        let changes = changes(&list);
        let fetches = changes.fetches();
        assert!(fetches.len() <= REQUESTS_MAX, "{}", fetches.len());
        for (path, _) in list {
            let brings = |fetch: &Fetch| match fetch {
                Fetch::Alone(at) => at == path,
                Fetch::New(at) | Fetch::Listed(at) => is_at_or_below(path, at),
                Fetch::Deleted(_) => false,
            };
            assert_eq!(fetches.iter().filter(|fetch| brings(fetch)).count(), 1, "{path}");
        }
        // The folder that is too full, not everything.
        assert!(fetches.contains(&Fetch::Alone("/var".into())), "{fetches:?}");
    }

    #[test]
    fn the_folder_of_a_name_that_is_no_text_is_looked_through() {
        let changes = changes(&[("/etc", Modified), ("/etc/\u{fffd}", Added), ("/etc/x", Added)]);
        assert_eq!(changes.fetches(), [Fetch::Listed("/etc".into())]);
    }
}
