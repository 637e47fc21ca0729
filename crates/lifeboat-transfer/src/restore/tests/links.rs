//! Hard links.

use super::*;

#[test]
fn hard_links_of_every_kind_come_back_as_links() {
    on_each_file_system(|parent| {
        let mut tree = Tree::new();
        for directory in ["a", "a/deep", "z"] {
            tree.directory(directory);
        }
        tree.file("a/file", b"shared");
        tree.symlink("a/symlink", b"file");
        tree.put("a/pipe", Node::Fifo, 0o600);
        let pieces: Vec<Piece> = (0..80).map(|byte| tree.chunk(byte, 1 << 18)).collect();
        tree.pieces("a/large", &pieces);
        for name in ["file", "symlink", "pipe", "large"] {
            for place in ["a/deep/", "a/x-", "z/"] {
                tree.link(&format!("a/{name}"), &format!("{place}{name}"));
            }
        }
        let target = parent.join("target");
        let report = tree.restore_exactly(&target, &options());
        assert_eq!((report.files, report.symlinks, report.others, report.links), (2, 1, 1, 12));
        let report = tree.restore_exactly(&target, &options());
        assert_eq!((report.links, report.kept), (0, 16));
        let always = Options { overwrite: Overwrite::Always, ..options() };
        tree.restore_exactly(&target, &always);
    });
}

#[test]
fn many_small_sets_do_not_make_workers_wait_for_each_other_forever() {
    let parent = temporary();
    let mut tree = Tree::new();
    tree.directory("a");
    tree.directory("b");
    for number in 0..2000u32 {
        let entry = tree.file(&format!("a/{number:04}"), &number.to_le_bytes());
        entry.link = Some(LinkGroup(u64::from(number)));
        let entry = entry.clone();
        tree.entries.insert(path(&format!("b/{:04}", 1999 - number)), entry);
    }
    let report = tree.restore_exactly(&parent.path().join("target"), &options());
    assert_eq!((report.files, report.links), (2000, 2000));
}

#[test]
fn a_member_that_claims_another_content_gets_a_file_of_its_own() {
    let parent = temporary();
    let target = parent.path().join("target");
    let mut tree = Tree::new();
    tree.file("a", b"one").link = Some(LinkGroup(1));
    tree.file("b", b"two").link = Some(LinkGroup(1));
    tree.symlink("c", b"a").link = Some(LinkGroup(1));
    let report = tree.restore(&target, &options()).unwrap();
    assert_eq!(report.count_of(ProblemKind::HardLink), 2);
    assert_eq!(std::fs::read(target.join("b")).unwrap(), b"two");
    assert_eq!(std::fs::read(target.join("c")).unwrap(), b"one");
    assert_ne!(
        std::fs::metadata(target.join("a")).unwrap().ino(),
        std::fs::metadata(target.join("b")).unwrap().ino()
    );
}

#[test]
fn a_damaged_set_is_absent_under_all_its_names() {
    let parent = temporary();
    let target = parent.path().join("target");
    let mut tree = Tree::new();
    tree.file("a", b"one");
    tree.link("a", "b");
    let pieces: Vec<Piece> = (0..80).map(|byte| tree.chunk(byte, 1 << 18)).collect();
    tree.pieces("c", &pieces);
    tree.link("c", "d");
    let Piece::Chunk(id, _) = pieces[70] else { panic!("not a chunk") };
    tree.chunks.0.remove(&(ChunkKind::Data, id));
    let Node::File { content: Content::Chunk(id), .. } = tree.entries[&path("a")].node else {
        panic!("not one")
    };
    tree.chunks.0.remove(&(ChunkKind::Data, id));
    let report = tree.restore(&target, &options()).unwrap();
    assert_eq!((report.failed, report.count_of(ProblemKind::Content)), (4, 4));
    assert_eq!(count_below(&target), 1);
}

#[test]
fn an_old_file_that_is_linked_elsewhere_is_not_written_through() {
    let parent = temporary();
    let target = parent.path().join("target");
    let mut tree = Tree::new();
    tree.file("f", b"new content");
    tree.restore_exactly(&target, &options());
    for overwrite in [Overwrite::Always, Overwrite::IfChanged] {
        // Equal in size and time, so that only the second name tells.
        let elsewhere = parent.path().join("elsewhere");
        std::fs::write(&elsewhere, b"OLD CONTENT").unwrap();
        let time = std::fs::metadata(target.join("f")).unwrap().modified().unwrap();
        std::fs::File::options().write(true).open(&elsewhere).unwrap().set_modified(time).unwrap();
        std::fs::remove_file(target.join("f")).unwrap();
        std::fs::hard_link(&elsewhere, target.join("f")).unwrap();
        let before = std::fs::metadata(&elsewhere).unwrap();
        tree.restore_exactly(&target, &Options { overwrite, ..options() });
        let after = std::fs::metadata(&elsewhere).unwrap();
        assert_eq!(std::fs::read(&elsewhere).unwrap(), b"OLD CONTENT");
        assert_eq!((before.mode(), before.uid(), before.mtime()), (after.mode(), after.uid(), after.mtime()));
        std::fs::remove_file(elsewhere).unwrap();
    }
}
