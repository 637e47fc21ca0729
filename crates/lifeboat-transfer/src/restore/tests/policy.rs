//! Overwriting, deleting, excluding, and dry runs.

use super::*;

/// A tree restored once, and then changed by somebody.
fn changed() -> (TempDir, PathBuf, Tree) {
    let parent = temporary();
    let target = parent.path().join("target");
    let mut tree = Tree::new();
    tree.directory("d");
    tree.file("d/changed", b"original");
    tree.file("d/same", b"same");
    tree.file("missing", b"missing");
    tree.restore_exactly(&target, &options());
    std::fs::write(target.join("d/changed"), b"something else").unwrap();
    std::fs::remove_file(target.join("missing")).unwrap();
    std::fs::write(target.join("d/extra"), b"extra").unwrap();
    std::fs::create_dir_all(target.join("z/y")).unwrap();
    std::fs::write(target.join("z/y/extra"), b"extra").unwrap();
    (parent, target, tree)
}

fn inode(place: &Path) -> u64 {
    std::fs::symlink_metadata(place).unwrap().ino()
}

#[test]
fn what_is_unchanged_is_kept_and_what_differs_is_restored() {
    let (_parent, target, tree) = changed();
    let before = inode(&target.join("d/same"));
    let report = tree.restore_exactly(&target, &Options { delete: true, ..options() });
    assert_eq!((report.files, report.kept, report.deleted), (2, 1, 4));
    assert_eq!(inode(&target.join("d/same")), before);
}

#[test]
fn always_looks_into_every_file_and_writes_only_those_that_differ() {
    let (_parent, target, tree) = changed();
    let before = inode(&target.join("d/same"));
    let always = Options { overwrite: Overwrite::Always, delete: true, ..options() };
    let report = tree.restore_exactly(&target, &always);
    assert_eq!((report.files, report.kept, report.bytes, report.unchanged), (2, 1, 15, 4));
    assert_eq!(inode(&target.join("d/same")), before);
}

#[test]
fn never_changes_nothing_that_exists_and_adds_what_is_missing() {
    let (_parent, target, mut tree) = changed();
    std::fs::remove_file(target.join("d/same")).unwrap();
    std::fs::create_dir(target.join("d/same")).unwrap();
    // What is in the way of a directory stays too, and is told.
    std::os::unix::fs::symlink("/", target.join("e")).unwrap();
    tree.directory("e");
    tree.file("e/unreached", b"x");
    let mode = std::fs::Permissions::from_mode(0o711);
    std::fs::set_permissions(target.join("d"), mode).unwrap();
    let report = tree.restore(&target, &Options { overwrite: Overwrite::Never, ..options() }).unwrap();
    assert_eq!((report.files, report.kept, report.directories), (1, 4, 0));
    assert_eq!((report.failed, report.count_of(ProblemKind::Exists), report.unreached), (1, 1, 1));
    assert!(target.join("e").is_symlink());
    assert_eq!(std::fs::read(target.join("d/changed")).unwrap(), b"something else");
    assert_eq!(std::fs::read(target.join("missing")).unwrap(), b"missing");
    assert!(target.join("d/same").is_dir());
    assert_eq!(std::fs::metadata(target.join("d")).unwrap().mode() & 0o7777, 0o711);
}

#[test]
fn nothing_is_deleted_unless_asked() {
    let (_parent, target, tree) = changed();
    let report = tree.restore(&target, &options()).unwrap();
    assert!(report.is_exact());
    assert!(target.join("d/extra").exists() && target.join("z/y/extra").exists());
}

#[test]
fn other_metadata_of_a_kept_file_is_mended_in_place() {
    let (_parent, target, tree) = changed();
    let place = target.join("d/same");
    let before = inode(&place);
    std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o000)).unwrap();
    std::os::unix::fs::chown(&place, Some(5), Some(6)).unwrap();
    let report = tree.restore_exactly(&target, &Options { delete: true, ..options() });
    assert_eq!((report.kept, inode(&place)), (1, before));
}

#[test]
fn kinds_that_changed_are_replaced() {
    let parent = temporary();
    let target = parent.path().join("target");
    let outside = parent.path().join("outside");
    std::fs::create_dir_all(outside.join("inside")).unwrap();
    std::fs::create_dir_all(target.join("was-directory/with")).unwrap();
    std::fs::create_dir_all(target.join("was-empty-directory")).unwrap();
    std::fs::write(target.join("was-file"), b"").unwrap();
    for name in ["was-link", "was-link-to-directory"] {
        std::os::unix::fs::symlink(&outside, target.join(name)).unwrap();
    }
    let mut tree = Tree::new();
    tree.file("was-directory", b"x");
    tree.symlink("was-empty-directory", b"x");
    tree.directory("was-file");
    tree.file("was-link", b"x");
    tree.directory("was-link-to-directory");
    tree.directory("was-link-to-directory/inside");
    tree.file("was-link-to-directory/inside/f", b"x");
    // A directory with something in it goes only when deleting is allowed.
    let report = tree.restore(&target, &options()).unwrap();
    assert_eq!((report.failed, report.count_of(ProblemKind::Exists)), (1, 1));
    tree.restore_exactly(&target, &Options { delete: true, ..options() });
    assert_eq!(count_below(&outside), 2);
}

#[test]
fn what_the_filter_excludes_is_neither_restored_nor_deleted() {
    let (_parent, target, mut tree) = changed();
    tree.directory("cache");
    tree.file("cache/f", b"x");
    tree.file("cache/g", b"x");
    std::fs::write(target.join("z/keep"), b"").unwrap();
    let excluded = ["cache", "d/changed", "d/extra", "z/keep"];
    let filter = |at: &TreePath, is_directory: bool| {
        assert_eq!(is_directory, ["", "d", "cache", "z", "z/y"].contains(&at.to_string().as_str()), "{at}");
        !excluded.contains(&at.to_string().as_str())
    };
    let report =
        tree.restore(&target, &Options { delete: true, filter: Some(&filter), ..options() }).unwrap();
    assert!(report.is_exact(), "{:?}", report.problems);
    assert_eq!((report.excluded, report.deleted), (4, 2));
    assert!(!target.join("cache").exists() && !target.join("z/y").exists());
    assert!(target.join("z/keep").exists() && target.join("d/extra").exists());
    assert_eq!(std::fs::read(target.join("d/changed")).unwrap(), b"something else");
}

#[test]
fn the_filter_sees_paths_of_the_tree_also_below_a_base() {
    let parent = temporary();
    let mut tree = Tree::new();
    tree.directory("etc");
    tree.file("etc/a", b"x");
    tree.file("etc/b", b"x");
    let target = parent.path().join("target");
    std::fs::create_dir(&target).unwrap();
    std::fs::write(target.join("c"), b"").unwrap();
    std::fs::write(target.join("d"), b"").unwrap();
    let filter = |at: &TreePath, _: bool| at != &path("etc/b") && at != &path("etc/c");
    let with_filter = Options { delete: true, filter: Some(&filter), ..options() };
    tree.restore_from("etc", &target, &with_filter).unwrap();
    let mut names: Vec<_> =
        std::fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a", "c"]);
}

fn listing(place: &Path, seen: &mut Vec<(PathBuf, i64, i64, u64)>) {
    let found = std::fs::symlink_metadata(place).unwrap();
    seen.push((place.to_owned(), found.ctime(), found.ctime_nsec(), found.ino()));
    if found.is_dir() {
        for entry in std::fs::read_dir(place).unwrap() {
            listing(&entry.unwrap().path(), seen);
        }
    }
}

#[test]
fn a_dry_run_changes_nothing_and_foretells_the_report() {
    for overwrite in [Overwrite::Always, Overwrite::IfChanged, Overwrite::Never] {
        let (_parent, target, mut tree) = changed();
        tree.link("missing", "missing-too");
        tree.symlink("z", b"in the way");
        let with = Options { overwrite, delete: overwrite != Overwrite::Never, ..options() };
        let mut before = Vec::new();
        listing(&target, &mut before);
        let foretold = tree.restore(&target, &Options { dry_run: true, ..with }).unwrap();
        let mut after = Vec::new();
        listing(&target, &mut after);
        assert_eq!(before, after);
        let done = tree.restore(&target, &with).unwrap();
        let of = |report: &Report| {
            let counts = (report.files, report.directories, report.symlinks, report.links, report.kept);
            (counts, report.deleted, report.bytes)
        };
        assert_eq!(of(&foretold), of(&done), "{overwrite:?}");
    }
    let nowhere = temporary();
    let (_parent, _, tree) = changed();
    let report = tree.restore(&nowhere.path().join("x"), &Options { dry_run: true, ..options() }).unwrap();
    assert_eq!((report.files, report.directories), (3, 2));
    assert_eq!(count_below(nowhere.path()), 1);
}

use std::os::unix::fs::PermissionsExt;
