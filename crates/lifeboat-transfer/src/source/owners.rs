//! Names of owners and groups, as this machine knows them.

use std::collections::{BTreeSet, HashMap};

/// Collects the ids that occur in a source.
#[derive(Debug, Default)]
pub struct Owners {
    users: BTreeSet<u32>,
    groups: BTreeSet<u32>,
}

/// A source names at most so many owners; it is a convenience for people, the ids are what counts.
const NAMES_MAX: usize = 4096;

impl Owners {
    /// Notes that an entry belongs to `user` and `group`.
    pub fn add(&mut self, user: u32, group: u32) {
        if self.users.len() < NAMES_MAX {
            self.users.insert(user);
        }
        if self.groups.len() < NAMES_MAX {
            self.groups.insert(group);
        }
    }

    /// The names that this machine has for them: users, groups.
    pub fn names(&self) -> [Vec<(u32, Vec<u8>)>; 2] {
        [(&self.users, "/etc/passwd"), (&self.groups, "/etc/group")].map(|(ids, file)| {
            let known = std::fs::read(file).map(|text| parse(&text)).unwrap_or_default();
            ids.iter().filter_map(|id| Some((*id, known.get(id)?.clone()))).collect()
        })
    }
}

/// Both files have lines of `name:password:id:…`; the first line of an id wins, as in the C library.
fn parse(text: &[u8]) -> HashMap<u32, Vec<u8>> {
    let mut names = HashMap::new();
    for line in text.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next().unwrap_or_default();
        let id = fields.nth(1).and_then(|id| std::str::from_utf8(id).ok()?.parse().ok());
        if let Some(id) = id
            && !name.is_empty()
        {
            names.entry(id).or_insert_with(|| name.to_vec());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_first_name_of_an_id_wins() {
        let names = super::parse(b"root:x:0:0::/:/bin/sh\ntoor:x:0:0\nbroken\na:x:no:\nb:x:7:\n");
        assert_eq!(names.get(&0).map(Vec::as_slice), Some(&b"root"[..]));
        assert_eq!(names.get(&7).map(Vec::as_slice), Some(&b"b"[..]));
        assert_eq!(names.len(), 2);
    }
}
