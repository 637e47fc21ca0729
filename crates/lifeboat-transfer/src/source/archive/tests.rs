//! What a sound archive gives, and that no other one is taken for one.

use super::*;
use proptest::prelude::*;
use std::io::Read;
use std::process::Command;

/// Everything of an archive, contents included.
fn read(bytes: &[u8]) -> Result<Vec<(Member, Vec<u8>)>, ArchiveError> {
    let mut members = Members::new(bytes);
    let mut all = Vec::new();
    while let Some(member) = members.next_member()? {
        let mut content = Vec::new();
        members.read_to_end(&mut content).map_err(ArchiveError::Stream)?;
        all.push((member, content));
    }
    Ok(all)
}

fn header(name: &str, kind: u8, size: u64) -> ::tar::Header {
    let mut header = ::tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(::tar::EntryType::new(kind));
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(7);
    header.set_gid(8);
    header.set_mtime(1_700_000_000);
    header.set_cksum();
    header
}

fn block(header: &::tar::Header) -> &[u8] {
    header.as_bytes()
}

fn padded(content: &[u8]) -> Vec<u8> {
    let mut bytes = content.to_vec();
    bytes.resize(content.len().next_multiple_of(512), 0);
    bytes
}

/// Members and an end mark.
fn archive(members: &[(::tar::Header, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (header, content) in members {
        bytes.extend_from_slice(block(header));
        bytes.extend(padded(content));
    }
    bytes.extend([0; 1024]);
    bytes
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

/// Extended records before a file `f` of these bytes.
fn with_records(records: &[(&str, &[u8])], content: &[u8]) -> Vec<u8> {
    let records: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
    archive(&[
        (header("x", b'x', records.len() as u64), &records),
        (header("f", b'0', content.len() as u64), content),
    ])
}

/// An archive that has everything: long names, attributes, links, devices, and a second file behind them.
fn rich() -> Vec<u8> {
    let long = "long/".repeat(40);
    let records = [
        record("path", long.as_bytes()),
        record("mtime", b"1700000000.5"),
        record("SCHILY.xattr.user.note", b"a\nb"),
    ]
    .concat();
    let mut link = header("link", b'2', 0);
    link.as_old_mut().linkname[..6].copy_from_slice(b"target");
    link.set_cksum();
    archive(&[
        (header("./", b'5', 0), b""),
        (header("x", b'x', records.len() as u64), &records),
        (header("short", b'0', 700), &[b'a'; 700]),
        (link, b""),
        (header("empty", b'0', 0), b""),
        (header("last", b'0', 512), &[b'z'; 512]),
    ])
}

#[test]
fn a_sound_archive_gives_its_members() {
    let all = read(&rich()).unwrap();
    let names: Vec<String> =
        all.iter().map(|(member, _)| String::from_utf8_lossy(&member.name).into_owned()).collect();
    assert_eq!(names, ["./", &"long/".repeat(40), "link", "empty", "last"]);
    let (long, content) = &all[1];
    // The long name ends with a slash, as a directory's did before there was a kind for directories.
    assert_eq!((long.kind.clone(), content.len()), (Kind::Directory, 700));
    assert_eq!(long.mtime, Timestamp { seconds: 1_700_000_000, nanos: 500_000_000 });
    assert_eq!(long.xattrs, [(b"user.note".to_vec(), b"a\nb".to_vec())]);
    assert_eq!(all[2].0.kind, Kind::Symlink(b"target".to_vec()));
    assert_eq!((all[4].0.uid, all[4].0.gid, all[4].0.mode), (7, 8, 0o644));
    assert_eq!(all[4].1, [b'z'; 512]);
}

#[test]
fn an_archive_that_ends_early_is_an_error_wherever_it_ends() {
    let whole = rich();
    for end in 0..whole.len() {
        let error = read(&whole[..end]).expect_err("a part was taken for the whole");
        assert!(
            matches!(error, ArchiveError::Short { .. }) || matches!(error, ArchiveError::Stream(_)),
            "{end}: {error}"
        );
    }
    assert!(read(&whole).is_ok());
}

#[test]
fn nothing_may_follow_the_end_mark_but_zeros() {
    let whole = rich();
    assert!(read(&[&whole[..], &[0; 9000]].concat()).is_ok());
    assert!(read(&[&whole[..], &[0; 9000], b"x"].concat()).is_err());
    assert!(read(&[&whole[..], &whole[..]].concat()).is_err(), "a second archive would be lost");
    let mut odd = whole.clone();
    let last = odd.len() - 1;
    odd[last] = 1;
    assert!(read(&odd).is_err());
}

#[test]
fn a_flipped_bit_in_a_header_is_an_error() {
    let whole = archive(&[(header("name", b'0', 3), b"abc")]);
    for bit in 0..512 * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        // The digits of the checksum itself may be written in more than one way.
        let is_same = read(&flipped).is_ok_and(|all| all == read(&whole).unwrap());
        assert!(read(&flipped).is_err() || (is_same && (148..156).contains(&(bit / 8))), "bit {bit}");
    }
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    for kind in [b'M', b'Z', b'S', b'9', 0x80] {
        let error = read(&archive(&[(header("f", kind, 0), b"")])).unwrap_err();
        assert!(matches!(error, ArchiveError::Unsupported { at: 0, .. }), "{kind}: {error}");
    }
    let error =
        read(&with_records(&[("GNU.sparse.major", b"2"), ("GNU.sparse.size", b"1")], b"")).unwrap_err();
    assert!(matches!(error, ArchiveError::Unsupported { .. }), "{error}");
}

#[test]
fn an_extended_header_counts_and_a_bad_one_is_an_error() {
    let all =
        read(&with_records(&[("size", b"3"), ("uid", b"4294967295"), ("mtime", b"-0.25")], b"abc")).unwrap();
    assert_eq!((all[0].0.size, all[0].0.uid, &all[0].1[..]), (3, u32::MAX, &b"abc"[..]));
    assert_eq!(all[0].0.mtime, Timestamp { seconds: -1, nanos: 750_000_000 });
    for bad in [
        &[("size", &b"x"[..])][..],
        &[("size", b"18446744073709551615")],
        &[("uid", b"4294967296")],
        &[("mtime", b"soon")],
        &[("SCHILY.xattr.", b"no name")],
        &[("GNU.sparse.numbytes", b"1")],
    ] {
        assert!(matches!(read(&with_records(bad, b"abc")), Err(ArchiveError::Damaged { .. })), "{bad:?}");
    }
    let dangling = archive(&[(header("x", b'x', 0), b"")]);
    assert!(read(&dangling).is_err(), "an extended header of nothing");
    // What a header promises is not allocated.
    let mut huge = header("x", b'x', EXTENDED_BYTES_MAX + 1);
    huge.set_cksum();
    assert!(matches!(read(&archive(&[(huge, b"")])), Err(ArchiveError::Damaged { .. })));
    let promised = [block(&header("x", b'x', EXTENDED_BYTES_MAX)), &[0; 512]].concat();
    assert!(matches!(read(&promised), Err(ArchiveError::Short { .. })));
}

#[test]
fn maps_of_holes_lie_in_the_file_and_name_what_is_stored() {
    let map = |map: &str, size: &str, content: &[u8]| {
        read(&with_records(
            &[("GNU.sparse.size", size.as_bytes()), ("GNU.sparse.map", map.as_bytes())],
            content,
        ))
    };
    let all = map("10,3,20,0", "20", b"abc").unwrap();
    assert_eq!((all[0].0.size, all[0].0.stretches.clone()), (20, Some(vec![(10, 3)])));
    for (bad, size) in [
        ("10,3,11,0", "20"),
        ("10,3", "12"),
        ("10,2", "20"),
        ("10,4", "20"),
        ("10", "20"),
        ("9,9,9", "20"),
        ("18446744073709551615,3", "20"),
    ] {
        assert!(matches!(map(bad, size, b"abc"), Err(ArchiveError::Damaged { .. })), "{bad}");
    }
}

/// GNU tar's archives, in all of its formats, of a tree with everything.
#[test]
fn archives_of_gnu_tar_are_read_in_all_its_formats() {
    let folder = tempfile::tempdir().unwrap();
    let long = "n".repeat(200);
    let tree = folder.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    std::fs::write(tree.join("a"), "content").unwrap();
    std::fs::hard_link(tree.join("a"), tree.join("b")).unwrap();
    std::os::unix::fs::symlink("a", tree.join("c")).unwrap();
    let sparse = std::fs::File::create(tree.join("sparse")).unwrap();
    sparse.set_len(3 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"middle", 1 << 20).unwrap();
    for (format, options, has_long, has_holes) in [
        ("v7", &[][..], false, false),
        ("ustar", &[], false, false),
        ("oldgnu", &["-S"], true, true),
        ("gnu", &["-S"], true, true),
        ("posix", &["-S", "--sparse-version=0.0"], true, true),
        ("posix", &["-S", "--sparse-version=0.1"], true, true),
        ("posix", &["-S", "--sparse-version=1.0"], true, true),
    ] {
        let file = tree.join(&long);
        if has_long {
            std::fs::write(&file, "long").unwrap();
        } else if file.exists() {
            std::fs::remove_file(&file).unwrap();
        }
        let output = Command::new("tar")
            .args(["--sort=name", "-C", folder.path().to_str().unwrap(), "-c", "-H", format])
            .args(options)
            .arg("tree")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let all = read(&output.stdout).unwrap_or_else(|error| panic!("{format} {options:?}: {error}"));
        assert_eq!(all.len(), if has_long { 6 } else { 5 }, "{format}");
        let find =
            |name: &str| all.iter().find(|(member, _)| member.name == format!("tree/{name}").as_bytes());
        assert_eq!(find("a").unwrap().1, b"content");
        assert_eq!(find("b").unwrap().0.kind, Kind::HardLink(b"tree/a".to_vec()));
        assert_eq!(find("c").unwrap().0.kind, Kind::Symlink(b"a".to_vec()));
        assert_eq!(find(&long).is_some(), has_long);
        let (sparse, content) = find("sparse").unwrap();
        assert_eq!(sparse.size, 3 << 20);
        assert_eq!(sparse.stretches.is_some(), has_holes, "{format} {options:?}");
        if let Some(stretches) = &sparse.stretches {
            assert!(content.len() < 100_000, "{}", content.len());
            let mut whole = vec![0; 3 << 20];
            let mut position = 0;
            for (offset, length) in stretches {
                let (start, length) = (*offset as usize, *length as usize);
                whole[start..start + length].copy_from_slice(&content[position..position + length]);
                position += length;
            }
            assert_eq!(&whole[1 << 20..(1 << 20) + 7], b"middle\0");
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..4000)) {
        let _ = read(&bytes);
    }

    #[test]
    fn a_changed_archive_is_read_without_a_panic(
        place in 0usize..6000, value: u8, other in 0usize..6000, other_value: u8,
    ) {
        let mut bytes = rich();
        let length = bytes.len();
        bytes[place % length] = value;
        bytes[other % length] = other_value;
        let _ = read(&bytes);
    }

    #[test]
    fn any_extended_header_is_read_without_a_panic(records in "\\PC{0,200}", number in 0usize..300) {
        let text = format!("{number} {records}\n");
        let _ = read(&archive(&[
            (header("x", b'x', text.len() as u64), text.as_bytes()),
            (header("f", b'0', 0), b""),
        ]));
    }

    #[test]
    fn any_split_of_the_stream_gives_the_same(size in 1usize..700) {
        struct Slow<'b>(&'b [u8], usize);
        impl Read for Slow<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                let length = buffer.len().min(self.1).min(self.0.len());
                buffer[..length].copy_from_slice(&self.0[..length]);
                self.0 = &self.0[length..];
                Ok(length)
            }
        }
        let bytes = rich();
        let mut members = Members::new(Slow(&bytes, size));
        let mut all = Vec::new();
        while let Some(member) = members.next_member().unwrap() {
            let mut content = Vec::new();
            members.read_to_end(&mut content).unwrap();
            all.push((member, content));
        }
        prop_assert_eq!(all, read(&bytes).unwrap());
    }
}
