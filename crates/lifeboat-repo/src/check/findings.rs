//! What a check has found, as much of it as people can use.
//!
//! Must stay true: memory is bounded, however much is wrong: [`FINDINGS_MAX`] things are named, with
//! [`SNAPSHOTS_NAMED_MAX`] snapshots altogether. What is beyond that is counted, and shows as one more finding, so
//! that no damage ever looks like none.

use super::Finding;
use lifeboat_format::SnapshotId;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// Things that are named.
pub(super) const FINDINGS_MAX: usize = 10_000;
/// Files that are named with one thing.
pub const FILES_NAMED_MAX: usize = 100;
/// Files that are named altogether.
const FILES_MAX: usize = 20_000;
/// Snapshots that are named with things that snapshots need, each as often as it is.
pub(super) const SNAPSHOTS_NAMED_MAX: usize = 100_000;

/// What is wrong with something, which snapshots need it, and what it touches in them.
#[derive(Default)]
struct Needed {
    detail: String,
    snapshots: BTreeSet<SnapshotId>,
    files: BTreeSet<Vec<u8>>,
}

#[derive(Default)]
pub(super) struct Findings {
    objects: Vec<Finding>,
    /// What snapshots need and do not have.
    needed: BTreeMap<String, Needed>,
    snapshots_named: usize,
    files_named: usize,
    /// How often something was found that is not named any more, and which snapshots it touches.
    further: (u64, BTreeSet<SnapshotId>),
}

impl Findings {
    /// Something is wrong with an object, whoever needs it.
    pub(super) fn object(&mut self, what: String, detail: String) {
        if self.objects.len() < FINDINGS_MAX {
            self.objects.push(Finding { what, detail, snapshots: Vec::new(), files: Vec::new() });
        } else {
            self.further.0 += 1;
        }
    }

    /// Something is wrong that `snapshot` needs.
    pub(super) fn needed(
        &mut self,
        snapshot: Option<SnapshotId>,
        what: String,
        detail: String,
        file: Vec<u8>,
    ) {
        let is_named = self.needed.contains_key(&what);
        let has_room =
            self.snapshots_named < SNAPSHOTS_NAMED_MAX && (is_named || self.needed.len() < FINDINGS_MAX);
        if has_room {
            let needed = self.needed.entry(what).or_default();
            needed.detail = detail;
            let is_new = |snapshot| usize::from(needed.snapshots.insert(snapshot));
            self.snapshots_named += snapshot.map_or(0, is_new);
            if needed.files.len() < FILES_NAMED_MAX && self.files_named < FILES_MAX {
                self.files_named += usize::from(needed.files.insert(file));
            }
        } else {
            self.further.0 += 1;
            self.further.1.extend(snapshot);
        }
    }

    pub(super) fn finish(self) -> Vec<Finding> {
        let mut findings = self.objects;
        for (what, Needed { detail, snapshots, files }) in self.needed {
            let (snapshots, files) = (snapshots.into_iter().collect(), files.into_iter().collect());
            findings.push(Finding { what, detail, snapshots, files });
        }
        if let (further @ 1.., snapshots) = self.further {
            findings.push(Finding {
                what: "more".to_owned(),
                detail: format!("{further} further times something was wrong that is not named here"),
                snapshots: snapshots.into_iter().collect(),
                files: Vec::new(),
            });
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_much_is_wrong_the_list_is_bounded_and_no_snapshot_is_left_out() {
        let mut findings = Findings::default();
        let snapshot = |number: u32| {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&number.to_be_bytes());
            SnapshotId(id)
        };
        for number in 0..30_000 {
            findings.object(format!("pack {number}"), "gone".into());
        }
        for number in 0..20 {
            for chunk in 0..15_000 {
                let file = format!("/file {number}").into_bytes();
                findings.needed(Some(snapshot(number)), format!("chunk {chunk:05}"), "gone".into(), file);
            }
        }
        assert_eq!(findings.snapshots_named, SNAPSHOTS_NAMED_MAX);
        let findings = findings.finish();
        assert_eq!(findings.len(), 2 * FINDINGS_MAX + 1);
        let touched: BTreeSet<SnapshotId> =
            findings.iter().flat_map(|finding| finding.snapshots.iter().copied()).collect();
        assert_eq!(touched.len(), 20);
        assert!(findings[2 * FINDINGS_MAX].detail.starts_with("220000 further"), "{:?}", findings.last());
    }
}
