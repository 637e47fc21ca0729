//! What is carried from one repository to another is the same there.

use crate::place::{Place, assert_same, portable};
use crate::scene::noise;
use lifeboat::bundle::{Error, Since};
use lifeboat::format::SessionId;
use lifeboat::format::condemned::Sentence;
use lifeboat::format::snapshot::{Snapshot, SnapshotKind};
use lifeboat_store::Store;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A tree that changes, and all its snapshots.
struct Story {
    folder: tempfile::TempDir,
    place: Place,
    snapshots: Vec<Snapshot>,
}

fn page_file(pages: u32, seed: &str) -> Vec<u8> {
    // A header as SQLite's: 8 KiB pages.
    let mut bytes = noise(seed, pages as usize * 8192);
    bytes[..16].copy_from_slice(b"SQLite format 3\0");
    bytes[16..24].copy_from_slice(&[0x20, 0, 1, 1, 0, 64, 32, 32]);
    bytes[28..32].copy_from_slice(&pages.to_be_bytes());
    bytes[44..48].copy_from_slice(&4u32.to_be_bytes());
    bytes
}

impl Story {
    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.root().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn save(&mut self, kind: SnapshotKind) {
        let (root, other) = (self.root(), self.folder.path().join("other"));
        let roots: Vec<&Path> =
            [&root, &other].into_iter().filter(|path| path.exists()).map(|path| path.as_path()).collect();
        self.snapshots.push(self.place.snapshot(&roots, kind));
    }

    /// Everything that a tree can hold, and everything that can happen to it.
    fn tell() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut story = Self { folder, place: Place::new(), snapshots: Vec::new() };
        for number in 0..300 {
            story.write(&format!("many/{}/file {number}", number % 7), format!("content {number}"));
        }
        story.write("large", noise("large", 3 << 20));
        story.write("db", page_file(200, "db"));
        story.write("empty", "");
        story.write("zeros", vec![0; 300_000]);
        story.write("m", noise("linked", 100_000));
        let root = story.root();
        std::fs::hard_link(root.join("m"), root.join("p")).unwrap();
        std::os::unix::fs::symlink("m", root.join("link")).unwrap();
        let value = noise("value", 3000);
        rustix::fs::setxattr(root.join("large"), "user.long", &value, rustix::fs::XattrFlags::empty())
            .unwrap();
        rustix::fs::setxattr(root.join("large"), "user.short", b"s", rustix::fs::XattrFlags::empty())
            .unwrap();
        let sparse = File::create(root.join("sparse")).unwrap();
        sparse.set_len(9 << 20).unwrap();
        sparse.write_all_at(&noise("island", 50_000), 4 << 20).unwrap();
        story.save(SnapshotKind::Full);
        // Insertions, pages, a new name before the first of a group, renames, removals.
        let mut large = noise("large", 3 << 20);
        large.splice(1_000_000..1_000_000, noise("inserted", 500));
        story.write("large", large);
        let db = File::options().write(true).open(root.join("db")).unwrap();
        db.write_all_at(&noise("page", 8192), 77 * 8192).unwrap();
        std::fs::hard_link(root.join("m"), root.join("a")).unwrap();
        std::fs::rename(root.join("many/3"), root.join("moved")).unwrap();
        std::fs::remove_dir_all(root.join("many/4")).unwrap();
        story.save(SnapshotKind::Incremental);
        // Nothing at all.
        story.save(SnapshotKind::Incremental);
        // A group loses its first name, a file becomes a folder, an attribute goes.
        std::fs::remove_file(root.join("a")).unwrap();
        std::fs::remove_file(root.join("m")).unwrap();
        std::fs::hard_link(root.join("p"), root.join("q")).unwrap();
        std::fs::remove_file(root.join("empty")).unwrap();
        story.write("empty/now a folder", "x");
        rustix::fs::removexattr(root.join("large"), "user.long").unwrap();
        sparse.write_all_at(&noise("island", 50_000), 1 << 20).unwrap();
        story.save(SnapshotKind::Incremental);
        // Another source, with a copy of what the first has.
        std::fs::create_dir(story.folder.path().join("other")).unwrap();
        std::fs::copy(root.join("large"), story.folder.path().join("other/copy")).unwrap();
        story.save(SnapshotKind::Differential);
        std::fs::remove_dir_all(root.join("moved")).unwrap();
        story.save(SnapshotKind::Incremental);
        story
    }
}

#[test]
fn a_chain_of_bundles_reproduces_every_snapshot_identically() {
    let story = Story::tell();
    let receiver = Place::new();
    for snapshot in &story.snapshots {
        let imported = receiver.import(&story.place.export(snapshot, Since::Parent)).unwrap();
        assert!(!imported.was_there);
        assert_same(&story.place, &receiver, snapshot);
    }
    assert_eq!(receiver.snapshots().len(), story.snapshots.len());
    receiver.assert_sound();
    // And on from there: the receiver is as good a sender.
    let third = Place::new();
    for snapshot in &story.snapshots {
        third.import(&receiver.export(&receiver.find(snapshot), Since::Parent)).unwrap();
        assert_same(&story.place, &third, snapshot);
    }
    third.assert_sound();
}

#[test]
fn differences_to_the_last_full_one_and_whole_bundles_give_the_same_in_any_order() {
    let story = Story::tell();
    let receiver = Place::new();
    receiver.import(&story.place.export(&story.snapshots[0], Since::Nothing)).unwrap();
    for snapshot in story.snapshots[1..].iter().rev() {
        let plan = story.place.plan(snapshot, Since::LastFull);
        assert_eq!(plan.base.as_ref().unwrap().id, story.snapshots[0].id);
        receiver.import(&story.place.export_plan(&plan)).unwrap();
        assert_same(&story.place, &receiver, snapshot);
    }
    // An older one as the difference to a newer one.
    let other = Place::new();
    let last = story.snapshots.last().unwrap();
    other.import(&story.place.export(last, Since::Nothing)).unwrap();
    other.import(&story.place.export(&story.snapshots[1], Since::Snapshot(last.id))).unwrap();
    assert_same(&story.place, &other, last);
    assert_same(&story.place, &other, &story.snapshots[1]);
    receiver.assert_sound();
    other.assert_sound();
}

#[test]
fn a_receiver_that_takes_a_snapshot_of_the_same_tree_stores_nothing_new() {
    let story = Story::tell();
    let receiver = Place::new();
    for snapshot in &story.snapshots {
        receiver.import(&story.place.export(snapshot, Since::Parent)).unwrap();
    }
    let (root, other) = (story.root(), story.folder.path().join("other"));
    let own = receiver.snapshot(&[&root, &other], SnapshotKind::Incremental);
    let figures = own.statistics;
    assert_eq!((figures.data_blobs, figures.tree_blobs, figures.data_added), (0, 0, 0), "{figures:?}");
    // Files that are read again because their times changed are cut as they came.
    let touched = rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec { tv_sec: 5, tv_nsec: 5 },
        last_modification: rustix::fs::Timespec { tv_sec: 5, tv_nsec: 5 },
    };
    for name in ["large", "db", "sparse"] {
        let flags = rustix::fs::AtFlags::empty();
        rustix::fs::utimensat(rustix::fs::CWD, root.join(name), &touched, flags).unwrap();
    }
    let again = receiver.snapshot(&[&root, &other], SnapshotKind::Incremental);
    assert_eq!(
        (again.statistics.files_changed, again.statistics.data_blobs),
        (3, 0),
        "{:?}",
        again.statistics
    );
}

#[test]
fn a_bundle_is_as_small_as_a_packing_of_the_chunks_that_are_not_in_its_base() {
    let story = Story::tell();
    let receiver = Place::new();
    for snapshot in &story.snapshots {
        let bundle = story.place.export(snapshot, Since::Parent);
        let packed = receiver.import(&bundle).unwrap().stored_bytes;
        let most = packed + packed / 20 + (64 << 10);
        assert!(bundle.len() as u64 <= most, "{} bytes for {packed}", bundle.len());
    }
    // What only moved weighs next to nothing.
    let quiet = story.place.export(&story.snapshots[2], Since::Parent);
    assert!(quiet.len() < 4096, "{} bytes", quiet.len());
}

#[test]
fn a_difference_without_its_base_is_refused_by_the_name_of_what_is_missing() {
    let story = Story::tell();
    let receiver = Place::new();
    let bundle = story.place.export(&story.snapshots[1], Since::Parent);
    let error = receiver.import(&bundle).unwrap_err();
    assert!(matches!(&error, Error::MissingBase { id, .. } if *id == story.snapshots[0].id), "{error:?}");
    assert!(error.to_string().contains(&story.snapshots[0].id.to_string()), "{error}");
    assert!(receiver.snapshots().is_empty());
}

#[test]
fn a_base_that_is_another_one_under_the_same_id_is_refused() {
    let story = Story::tell();
    let receiver = Place::new();
    receiver.import(&story.place.export(&story.snapshots[0], Since::Nothing)).unwrap();
    // Somebody made the snapshot of that id from another one.
    let mut other = receiver.find(&story.snapshots[0]);
    let forged = receiver.snapshot(&[&story.root()], SnapshotKind::Full);
    other.sources[0].root = forged.sources[0].root;
    other.revision += 1;
    let session =
        lifeboat_repo::session::Session::begin(&receiver.repository, crate::place::session(), vec![])
            .unwrap();
    session.commit(&other).unwrap();
    let error = receiver.import(&story.place.export(&story.snapshots[1], Since::Parent)).unwrap_err();
    assert!(matches!(error, Error::OtherBase { .. }), "{error:?}");
}

#[test]
fn a_bundle_that_comes_again_changes_nothing() {
    let story = Story::tell();
    let receiver = Place::new();
    let bundle = story.place.export(&story.snapshots[0], Since::Nothing);
    receiver.import(&bundle).unwrap();
    let before = receiver.store.clone();
    let objects = |store: &lifeboat_store::MemoryStore| {
        lifeboat::format::ObjectKind::ALL.map(|kind| store.list(kind).unwrap())
    };
    let before = objects(&before);
    assert!(receiver.import(&bundle).unwrap().was_there);
    assert_eq!(before, objects(&receiver.store));
}

#[test]
fn a_snapshot_without_a_parent_is_a_full_bundle_and_a_parent_that_is_gone_is_named() {
    let story = Story::tell();
    let plan = story.place.plan(&story.snapshots[0], Since::Parent);
    assert!(plan.base.is_none() && plan.kind == SnapshotKind::Full);
    let mut list = story.place.repository.snapshots().unwrap().snapshots;
    list.retain(|listed| listed.snapshot.id != story.snapshots[0].id);
    let error = lifeboat::bundle::Plan::new(&list, &story.snapshots[1], Since::Parent).unwrap_err();
    assert!(
        matches!(error, Error::ParentGone { parent, .. } if parent == story.snapshots[0].id),
        "{error:?}"
    );
    assert_eq!(portable(&plan.snapshot), portable(&story.snapshots[0]));
}

#[test]
fn a_base_is_not_relied_on_beside_a_collection() {
    let story = Story::tell();
    let receiver = Place::new();
    receiver.import(&story.place.export(&story.snapshots[0], Since::Nothing)).unwrap();
    let collector = SessionId([9; 16]);
    let list = Sentence::Condemned.encode(receiver.repository.keys(), collector, &[]).unwrap();
    receiver.store.put(&Sentence::Condemned.key(collector), &list).unwrap();
    let difference = story.place.export(&story.snapshots[1], Since::Parent);
    let error = receiver.import(&difference).unwrap_err();
    assert!(matches!(error, Error::Repository(lifeboat_repo::Error::Collecting)), "{error:?}");
    assert_eq!(receiver.snapshots().len(), 1);
    // What needs no base waits for nobody.
    receiver.import(&story.place.export(&story.snapshots[2], Since::Nothing)).unwrap();
    receiver.store.delete(&Sentence::Condemned.key(collector)).unwrap();
    receiver.import(&difference).unwrap();
    story.snapshots[..3].iter().for_each(|snapshot| assert_same(&story.place, &receiver, snapshot));
}
