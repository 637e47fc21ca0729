//! What comes back is what was there.

use super::*;
use rustix::fs::{Mode, OFlags, SeekFrom};

/// `user::rwx, user:1234:rw-, group::r-x, mask::rwx, other::r--` as the kernel stores it.
fn acl() -> Vec<u8> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in
        [(1u16, 7u16, u32::MAX), (2, 6, 1234), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 4, u32::MAX)]
    {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&permissions.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

/// `cap_net_raw=ep` as the kernel stores it.
fn capability() -> Vec<u8> {
    [0x0200_0001u32, 1 << 13, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[test]
fn names_that_are_not_utf8_and_empty_directories_come_back() {
    on_each_file_system(|parent| {
        let mut tree = Tree::new();
        tree.directory("empty");
        tree.directory("d");
        let odd: &[&[u8]] =
            &[b"\xff\xfe", b"-rf", b" ", b"a\nb", b"\x1b[31m", b"...", "ü".as_bytes(), &[b'n'; 255]];
        for name in odd {
            let entry = tree.file("template", name).clone();
            tree.entries.insert(path("d").join(name).unwrap(), entry);
        }
        tree.restore_exactly(&parent.join("target"), &options());
    });
}

#[test]
fn modes_owners_and_times_to_the_nanosecond_come_back() {
    on_each_file_system(|parent| {
        let mut tree = Tree::new();
        for (number, mode) in [0, 0o4755, 0o2755, 0o6711, 0o1777, 0o600, 0o644, 0o777].into_iter().enumerate()
        {
            let entry = tree.file(&format!("f{number}"), b"x");
            entry.metadata.mode = mode;
            (entry.metadata.uid, entry.metadata.gid) = (1000 + number as u32, 2_000_000_000);
            let entry = tree.directory(&format!("d{number}"));
            entry.metadata.mode = mode;
            (entry.metadata.uid, entry.metadata.gid) = (u32::MAX - 1, number as u32);
            tree.file(&format!("d{number}/inside"), b"y");
        }
        let old = tree.file("before-1970", b"x");
        old.metadata.mtime = Timestamp { seconds: -1, nanos: 999_999_999 };
        let new = tree.file("after-2038", b"x");
        new.metadata.mtime = Timestamp { seconds: 1 << 33, nanos: 1 };
        tree.restore_exactly(&parent.join("target"), &options());
    });
}

#[test]
fn a_time_that_the_file_system_cannot_hold_is_reported() {
    let parent = temporary();
    let mut tree = Tree::new();
    tree.file("f", b"x").metadata.mtime = Timestamp { seconds: i64::MIN, nanos: 0 };
    let report = tree.restore(&parent.path().join("target"), &options()).unwrap();
    assert_eq!(report.count_of(ProblemKind::Time), 1);
}

#[test]
fn attributes_acls_and_capabilities_come_back() {
    on_each_file_system(|parent| {
        let mut tree = Tree::new();
        let long = tree.chunks.put(ChunkKind::Data, vec![7; 3000]);
        let long = Xattr { name: b"trusted.long".to_vec(), value: XattrValue::Chunk(long, 3000) };
        let entry = tree.file("f", b"x");
        entry.metadata.uid = 1000;
        entry.metadata.mode = 0o4774;
        entry.metadata.xattrs = vec![
            xattr("security.capability", &capability()),
            xattr("system.posix_acl_access", &acl()),
            xattr("trusted.empty", b""),
            long,
        ];
        let entry = tree.directory("d");
        entry.metadata.mode = 0o774;
        entry.metadata.xattrs = vec![
            xattr("system.posix_acl_access", &acl()),
            xattr("system.posix_acl_default", &acl()),
            xattr("trusted.binary", &[0, 255, 10]),
        ];
        // The default ACL must not reach what is restored below it.
        tree.file("d/f", b"x");
        tree.directory("d/d");
        tree.symlink("s", b"nowhere").metadata.xattrs = vec![xattr("trusted.link", b"1")];
        tree.put("p", Node::Fifo, 0o640).metadata.xattrs = vec![xattr("trusted.pipe", b"2")];
        tree.restore_exactly(&parent.join("target"), &options());
        tree.restore_exactly(&parent.join("target"), &options());
    });
}

#[test]
fn attributes_that_the_snapshot_lacks_are_removed_from_new_and_old_files() {
    let parent = temporary();
    let target = parent.path().join("target");
    let mut tree = Tree::new();
    tree.file("kept", b"1");
    tree.directory("old");
    tree.restore_exactly(&target, &options());
    let flags = rustix::fs::XattrFlags::empty();
    for place in [target.clone(), target.join("old")] {
        rustix::fs::setxattr(&place, "system.posix_acl_default", &acl(), flags).unwrap();
        rustix::fs::setxattr(&place, "user.extra", b"1", flags).unwrap();
    }
    rustix::fs::setxattr(target.join("kept"), "user.extra", b"1", flags).unwrap();
    tree.file("old/new", b"2");
    tree.directory("old/newer");
    tree.file("old/newer/f", b"3");
    tree.restore_exactly(&target, &options());
}

#[test]
fn links_pipes_sockets_and_devices_come_back() {
    on_each_file_system(|parent| {
        let mut tree = Tree::new();
        tree.symlink("absolute", b"/etc/passwd").metadata.uid = 77;
        tree.symlink("long", &[b'x'; 4095]);
        tree.symlink("odd", b"../\xff\n");
        tree.put("pipe", Node::Fifo, 0o622).metadata.gid = 55;
        tree.put("socket", Node::Socket, 0o4755);
        tree.put("null", Node::CharDevice { major: 1, minor: 3 }, 0o666);
        tree.put("disk", Node::BlockDevice { major: 300, minor: 70_000 }, 0o660).metadata.gid = 6;
        let target = parent.join("target");
        let report = tree.restore(&target, &options()).unwrap();
        if report.count_of(ProblemKind::Device) > 0 {
            eprintln!("devices not tried: the system forbids them");
            return;
        }
        assert!(report.is_exact(), "{:?}", report.problems);
        tree.assert_restored(&target);
        assert_eq!((report.symlinks, report.others), (3, 4));
    });
}

/// Stretches of a file that SEEK_DATA and SEEK_HOLE call data.
fn data_of(place: &Path) -> Vec<(u64, u64)> {
    let file = std::fs::File::open(place).unwrap();
    let mut stretches = Vec::new();
    let mut end = 0;
    while let Ok(start) = rustix::fs::seek(&file, SeekFrom::Data(end)) {
        end = rustix::fs::seek(&file, SeekFrom::Hole(start)).unwrap();
        stretches.push((start, end));
    }
    stretches
}

#[test]
fn holes_stay_holes_and_zeros_stay_allocated() {
    const K64: u64 = 65536;
    on_each_file_system(|parent| {
        let mut tree = Tree::new();
        let data = |tree: &mut Tree| tree.chunk(7, K64 as usize);
        let pieces = [
            Piece::Hole(2 * K64),
            data(&mut tree),
            Piece::Zeros(K64),
            Piece::Hole(K64),
            Piece::Zeros(K64),
            Piece::Hole(K64),
            data(&mut tree),
            Piece::Hole(3 * K64),
        ];
        tree.pieces("mixed", &pieces);
        tree.pieces("hole", &[Piece::Hole(5 * K64)]);
        tree.pieces("zeros", &[Piece::Zeros(40 * K64)]);
        let large: Vec<Piece> = (0..500)
            .flat_map(|_| [data(&mut tree), Piece::Hole(K64), Piece::Zeros(K64 / 2), Piece::Hole(K64 / 2)])
            .collect();
        tree.pieces("large", &large);
        let target = parent.join("target");
        let report = tree.restore_exactly(&target, &Options { verify: true, ..options() });
        assert_eq!(report.bytes, 4 * K64 + 40 * K64 + 500 * (K64 + K64 / 2));
        let expected: Vec<_> = [(2, 4), (5, 6), (7, 8)].map(|(from, to)| (from * K64, to * K64)).into();
        assert_eq!(data_of(&target.join("mixed")), expected);
        assert_eq!(data_of(&target.join("hole")), []);
        assert_eq!(data_of(&target.join("zeros")), [(0, 40 * K64)]);
        assert_eq!(data_of(&target.join("large")).len(), 1000);
    });
}

#[test]
fn a_large_file_written_by_several_workers_comes_back() {
    let parent = temporary();
    let mut tree = Tree::new();
    let pieces: Vec<Piece> =
        (0..200u32).map(|number| tree.chunk(number as u8, 250_000 + number as usize)).collect();
    tree.pieces("large", &pieces);
    tree.pieces("zeros", &[Piece::Zeros(30 << 20), Piece::Hole(1)]);
    let report = tree.restore_exactly(&parent.path().join("target"), &options());
    assert_eq!((report.files, report.kept), (2, 0));
}

#[test]
fn a_tree_of_4096_levels_comes_back() {
    let parent = temporary();
    let target = parent.path().join("target");
    let mut tree = Tree::new();
    let mut here = TreePath::root();
    let template = tree.directory("template").clone();
    tree.entries.remove(&path("template"));
    for _ in 0..4095 {
        here = here.join(b"directory").unwrap();
        tree.entries.insert(here.clone(), template.clone());
    }
    let bottom = tree.file("bottom", b"deep").clone();
    let bottom_path = here.join(b"bottom").unwrap();
    tree.entries.insert(bottom_path, bottom.clone());
    for _ in 0..2 {
        let report = tree.restore(&target, &Options { delete: true, ..options() }).unwrap();
        assert!(report.is_exact(), "{:?}", report.problems.first().map(|problem| problem.kind));
        assert_eq!(report.directories, 4096);
        let mut here = std::fs::File::open(&target).unwrap().into();
        for _ in 0..4095 {
            here = rustix::fs::openat(&here, "directory", OFlags::RDONLY, Mode::empty()).unwrap();
            let stat = rustix::fs::fstat(&here).unwrap();
            assert_eq!(stat.st_mtime, template.metadata.mtime.seconds);
        }
        let stat = rustix::fs::statat(&here, "bottom", rustix::fs::AtFlags::empty()).unwrap();
        assert_eq!((stat.st_mtime, stat.st_size), (bottom.metadata.mtime.seconds, 4));
    }
    // Deleting it takes the same care.
    let mut empty = Tree::new();
    empty.file("f", b"");
    let report = empty.restore_exactly(&target, &Options { delete: true, ..options() });
    assert_eq!(report.deleted, 4097);
}

#[test]
fn a_directory_of_20000_files_comes_back_and_is_kept_the_second_time() {
    let parent = temporary();
    let mut tree = Tree::new();
    for number in 0..20_000 {
        tree.file(&format!("wide/{number}"), format!("{number}").as_bytes());
    }
    tree.directory("wide");
    let target = parent.path().join("target");
    let with_delete = Options { delete: true, ..options() };
    assert_eq!(tree.restore_exactly(&target, &with_delete).files, 20_000);
    let report = tree.restore_exactly(&target, &with_delete);
    assert_eq!((report.files, report.kept, report.deleted), (0, 20_000, 0));
}

#[test]
fn a_path_below_the_root_becomes_the_target() {
    let parent = temporary();
    let mut tree = Tree::new();
    tree.directory("etc").metadata.mode = 0o700;
    tree.file("etc/passwd", b"root");
    tree.directory("etc/ssh");
    tree.file("etc/ssh/config", b"x");
    tree.file("etc.bak", b"not this");
    let target = parent.path().join("some/where");
    let report = tree.restore_from("etc", &target, &options()).unwrap();
    assert!(report.is_exact());
    assert_eq!(count_below(&target), 4);
    assert_eq!(std::fs::metadata(&target).unwrap().mode() & 0o7777, 0o700);
    assert_eq!(std::fs::read(target.join("ssh/config")).unwrap(), b"x");
}

#[test]
fn a_single_file_or_link_is_restored_under_its_own_name() {
    let parent = temporary();
    let mut tree = Tree::new();
    tree.directory("etc");
    tree.file("etc/passwd", b"root");
    tree.symlink("etc/link", b"passwd");
    let target = parent.path().join("out");
    assert!(tree.restore_from("etc/passwd", &target, &options()).unwrap().is_exact());
    assert!(
        tree.restore_from("etc/link", &target, &Options { delete: true, ..options() }).unwrap().is_exact()
    );
    assert_eq!(std::fs::read(target.join("link")).unwrap(), b"root");
    let missing = tree.restore_from("etc/shadow", &target, &options());
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
}
