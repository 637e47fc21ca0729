//! Trees that no backup writes.

use super::*;

fn entry_of(tree: &Tree, at: &str) -> EntryResult {
    Ok((path(at), tree.entries[&path(at)].clone()))
}

/// Restores entries as they come into a directory beside a canary that must not change.
fn try_entries(tree: &Tree, entries: Vec<EntryResult>) -> Result<Report> {
    let parent = temporary();
    let canary = parent.path().join("canary");
    std::fs::create_dir(&canary).unwrap();
    std::fs::write(canary.join("passwd"), b"canary").unwrap();
    let target = parent.path().join("target");
    let root = TreePath::root();
    let result = restore(&mut entries.into_iter(), &root, &tree.chunks, &target, &options(), &Quiet);
    assert_eq!(std::fs::read(canary.join("passwd")).unwrap(), b"canary");
    assert_eq!(count_below(&canary), 2);
    result
}

#[test]
fn trees_that_are_not_trees_are_refused() {
    let mut tree = Tree::new();
    tree.directory("d");
    tree.file("d/f", b"x");
    tree.symlink("s", b"../canary");
    tree.file("s/passwd", b"overwritten");
    tree.file("plain", b"x");
    tree.file("plain/below", b"x");
    let broken: &[&[&str]] = &[
        &["d"],
        &["", "d/f"],
        &["", "d", "d/f", "d"],
        &["", "d", "d"],
        &["", "d/f", "d"],
        &["", "s", "s/passwd"],
        &["", "plain", "plain/below"],
        &["", "s", "d"],
        &["", ""],
    ];
    for paths in broken {
        let entries = paths.iter().map(|at| entry_of(&tree, at)).collect();
        let result = try_entries(&tree, entries);
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Damaged, "{paths:?}");
    }
    // The same name as a link and then as a directory.
    let link = Ok((path("d"), tree.entries[&path("s")].clone()));
    let entries = vec![entry_of(&tree, ""), link, entry_of(&tree, "d"), entry_of(&tree, "d/f")];
    assert_eq!(try_entries(&tree, entries).unwrap_err().kind(), ErrorKind::Damaged);
}

#[test]
fn entries_outside_of_the_base_are_refused() {
    let mut tree = Tree::new();
    tree.directory("d");
    tree.file("e", b"x");
    let parent = temporary();
    let mut entries = vec![entry_of(&tree, "d"), entry_of(&tree, "e")].into_iter();
    let target = parent.path().join("target");
    let result = restore(&mut entries, &path("d"), &tree.chunks, &target, &options(), &Quiet);
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Damaged);
    assert_eq!(count_below(&target), 1);
}

#[test]
fn a_tree_that_breaks_off_deletes_nothing_behind_the_break() {
    let parent = temporary();
    let target = parent.path().join("target");
    let mut tree = Tree::new();
    tree.file("a", b"1");
    tree.file("b", b"2");
    tree.restore_exactly(&target, &options());
    let mut entries = vec![entry_of(&tree, ""), entry_of(&tree, "a"), Err("node is gone".into())].into_iter();
    let with_delete = Options { delete: true, ..options() };
    let result = restore(&mut entries, &TreePath::root(), &tree.chunks, &target, &with_delete, &Quiet);
    assert!(matches!(result, Err(Error::Tree { after, .. }) if after == path("a")));
    tree.assert_restored(&target);
}

#[test]
fn sizes_owners_and_attributes_beyond_reason_are_problems_of_one_file() {
    let parent = temporary();
    let target = parent.path().join("target");
    let mut tree = Tree::new();
    tree.pieces("1-hole", &[Piece::Hole(1 << 61), Piece::Hole(1 << 61)]);
    tree.pieces("1-more-hole", &[Piece::Zeros(1), Piece::Hole(1 << 61)]);
    tree.file("2-owner", b"x").metadata.uid = u32::MAX;
    tree.directory("3-capability").metadata.xattrs = vec![xattr("security.capability", &[2; 20])];
    tree.symlink("4-acl", b"x").metadata.xattrs = vec![xattr("system.posix_acl_access", &[2; 20])];
    tree.file("5-name", b"x").metadata.xattrs = vec![xattr("nonsense", b"")];
    tree.file("6-short", b"x").node =
        Node::File { size: 9, content: Content::Chunk(ChunkId([1; ChunkId::BYTES])) };
    tree.chunks.0.insert((ChunkKind::Data, ChunkId([1; ChunkId::BYTES])), vec![1; 8]);
    tree.symlink("7-empty", b"");
    tree.symlink("8-nul", b"a\0b");
    tree.file("9-fine", b"x");
    let report = tree.restore(&target, &options()).unwrap();
    let counts: Vec<_> = [ProblemKind::Create, ProblemKind::Owner, ProblemKind::Xattr, ProblemKind::Content]
        .map(|kind| report.count_of(kind))
        .into();
    assert_eq!(counts, [4, 1, 3, 1], "{:?}", report.problems);
    assert_eq!((report.failed, report.files), (5, 3));
    assert_eq!(count_below(&target), 6);
    assert!(target.join("9-fine").exists());
}
