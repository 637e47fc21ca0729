//! What a tar archive holds is protected like a tree; an archive that is not whole is not protected at all.

mod scene;

use lifeboat::backup::{
    ArchiveSpec, Claims, Counters, Quiesce, SourceSpec, TreeSpec, Verdict, backup, backup_quiesced,
};
use lifeboat::format::TreePath;
use lifeboat::format::snapshot::SourceKind;
use lifeboat::{Quiet, Repository};
use scene::{Scene, noise, tool, tree};
use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};

/// An archive by GNU tar of everything in a folder, attributes and holes included.
fn archive_of(folder: &Path, sort: &str) -> Vec<u8> {
    let folder = folder.to_str().unwrap();
    let attributes = ["--xattrs", "--xattrs-include=*"];
    let how = ["-S", "-H", "posix", "--numeric-owner", sort, "-C", folder, "-c", "."];
    tool("tar", &[&attributes[..], &how].concat())
}

/// A tree of what an archive can hold.
fn plant(scene: &Scene) {
    scene.write("source/dir/file", noise("file", 300_000));
    scene.write("source/dir!", "sorts behind what is in dir");
    scene.write("source/empty", "");
    scene.write("source/small", "small");
    scene.write(&format!("source/{}/{}", "d".repeat(150), "f".repeat(150)), "long names");
    let source = scene.path("source");
    std::fs::hard_link(source.join("dir/file"), source.join("a link to it")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", source.join("dir/symlink")).unwrap();
    tool("mkfifo", &[source.join("fifo")]);
    tool("setfattr", &["-n", "user.note", "-v", "kept", source.join("small").to_str().unwrap()]);
    tool("touch", &["-d", "1960-01-02 03:04:05.678", source.join("small").to_str().unwrap()]);
    scene::set_mode(&source.join("small"), 0o4711);
    let sparse = std::fs::File::create(source.join("sparse")).unwrap();
    sparse.set_len(9 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, &noise("data", 100_000), 4 << 20).unwrap();
}

#[test]
fn an_archive_restores_as_the_tree_that_it_was_made_from() {
    let scene = Scene::with_repository();
    plant(&scene);
    let expected = tree::survey(&scene.path("source"));
    for sort in ["--sort=name", "--sort=none", "--sort=inode"] {
        scene.write("old.tar", archive_of(&scene.path("source"), sort));
        scene.snapshot(&[&format!("tar:{}", scene.text("old.tar"))]);
        scene::remove(&scene.path("out"));
        scene.run(&["restore", "latest:tar:old.tar", "--to", &scene.text("out")]).expect(0);
        tree::assert_same(&expected, &tree::survey(&scene.path("out")));
    }
    scene.run(&["ls", "latest:tar:old.tar/dir"]).expect(0).prints("tar:old.tar/dir/symlink");
    assert_eq!(scene.run(&["dump", "latest:tar:old.tar/small"]).expect(0).text(), "small");
    scene.run(&["find", "symlink"]).expect(0).prints("tar:old.tar/dir/symlink");
    scene.run(&["diff", "latest~1:tar:old.tar/dir", "latest:tar:old.tar/dir"]).expect(0).prints("0 added");
    scene.run(&["restore", "latest", "--to", &scene.text("all")]).expect(0);
    tree::assert_same(&expected, &tree::survey(&scene.path("all/tar:old.tar")));
    scene.assert_sound();
}

#[test]
fn what_is_written_as_an_archive_reads_back_as_the_same_tree() {
    let scene = Scene::with_repository();
    plant(&scene);
    tool(
        "setfattr",
        &["-n", "user.with=equals%", "-v", "kept", scene.path("source/small").to_str().unwrap()],
    );
    tool("mknod", &[scene.path("source/device").to_str().unwrap(), "c", "300", "70000"]);
    tool("chown", &["-h", "3000000000:3000000001", scene.path("source/dir/symlink").to_str().unwrap()]);
    let source = scene.path("source").canonicalize().unwrap();
    let snapshot = scene.snapshot(&["source"]);
    let selected = format!("{}:{}", snapshot["snapshot_id"].as_str().unwrap(), source.display());
    let write = |arguments: &[&str]| {
        let mut command = scene.lifeboat();
        let output =
            command.args([&["restore", &selected, "--to", "-"], arguments].concat()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    // Through our own reader, which is as strict as it can be.
    scene.write("ours.tar", write(&[]));
    scene.snapshot(&[&format!("tar:{}", scene.text("ours.tar"))]);
    scene.run(&["restore", "latest:tar:ours.tar", "--to", &scene.text("back")]).expect(0);
    let without_holes = |root: &Path| {
        // An archive has zeros for holes.
        std::fs::remove_file(root.join("sparse")).unwrap();
        tree::survey(root)
    };
    let sparse = std::fs::read(source.join("sparse")).unwrap();
    assert!(std::fs::read(scene.path("back/sparse")).unwrap() == sparse);
    // And through GNU tar.
    let other = scene.path("other");
    std::fs::create_dir(&other).unwrap();
    let extract = [
        "--xattrs",
        "--xattrs-include=*",
        "--numeric-owner",
        "-p",
        "-x",
        "-C",
        other.to_str().unwrap(),
        "-f",
    ];
    tool("tar", &[&extract[..], &[&scene.text("ours.tar")]].concat());
    assert!(std::fs::read(other.join("sparse")).unwrap() == sparse);
    std::fs::remove_file(source.join("sparse")).unwrap();
    tool("touch", &["-r", scene.path("back").to_str().unwrap(), source.to_str().unwrap()]);
    let expected = tree::survey(&source);
    for root in [scene.path("back"), other] {
        let time = scene.text("time");
        tool("touch", &["-r", root.to_str().unwrap(), &time]);
        without_holes(&root);
        tool("touch", &["-r", &time, root.to_str().unwrap()]);
        tree::assert_same(&expected, &tree::survey(&root));
    }
    // What is filtered leaves with everything below it.
    scene.write("some.tar", write(&["--exclude", "dir", "--include", "dir*", "--include", "/small"]));
    let listed = String::from_utf8(tool("tar", &["-tf", &scene.text("some.tar")])).unwrap();
    let mut listed: Vec<&str> = listed.lines().collect();
    listed.sort();
    assert_eq!(listed, ["./", "dir!", "small"]);
    let refused = scene.run(&["restore", &selected, "--to", "-", "--delete"]);
    refused.expect(1).says("have no meaning for a stream");
}

#[test]
fn an_archive_that_cannot_be_made_to_its_end_has_no_end_mark() {
    let scene = Scene::with_repository();
    scene.write("source/a", noise("a", 3 << 20));
    scene.write("source/b", noise("b", 3 << 20));
    scene.snapshot(&["source"]);
    let largest =
        scene.objects_in("packs").into_iter().max_by_key(|pack| pack.metadata().unwrap().len()).unwrap();
    let mut bytes = std::fs::read(&largest).unwrap();
    bytes[4 << 20] ^= 1;
    std::fs::write(&largest, bytes).unwrap();
    let selected = format!("latest:{}", scene.path("source").canonicalize().unwrap().display());
    let output = scene.lifeboat().args(["restore", &selected, "--to", "-"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    scene.write("part.tar", &output.stdout);
    scene.run(&["snapshot", &format!("tar:{}", scene.text("part.tar"))]).expect(1).says("ends early");
}

#[test]
fn an_archive_and_its_folder_share_their_chunks_and_an_unchanged_one_adds_nothing() {
    let scene = Scene::with_repository();
    for number in 0..40 {
        scene.write(&format!("source/{number}"), noise(&format!("{number}"), 10_000 * number));
    }
    scene.snapshot(&["source"]);
    scene.write("old.tar", archive_of(&scene.path("source"), "--sort=none"));
    let name = format!("tar:{}", scene.text("old.tar"));
    let first = scene.snapshot(&[&name]);
    assert!(first["data_blobs"].as_u64().unwrap() <= 1, "{first}");
    assert_eq!(first["files_new"], 40);
    let second = scene.snapshot(&[&name]);
    assert_eq!((&second["data_blobs"], &second["tree_blobs"]), (&0.into(), &0.into()));
    assert_eq!((&second["files_unmodified"], &second["files_new"]), (&40.into(), &0.into()));
}

#[test]
fn an_archive_that_ends_early_makes_no_snapshot() {
    let scene = Scene::with_repository();
    scene.write("source/a", noise("a", 3000));
    scene.write("source/b", noise("b", 100));
    let whole = archive_of(&scene.path("source"), "--sort=name");
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap().next_multiple_of(512);
    for length in [0, 1, 511, 512, 1024, 2000, end - 1, end, end + 512, end + 1023] {
        scene.write("part.tar", &whole[..length]);
        let done = scene.run(&["snapshot", &format!("tar:{}", scene.text("part.tar"))]);
        done.expect(1).says("cannot be read as a tar archive").says("it ends early");
        assert!(scene.snapshots().is_empty(), "{length} of {} bytes", whole.len());
    }
    // Beside another source it is left out, and that is said.
    scene.write("part.tar", &whole[..2000]);
    let name = format!("tar:{}", scene.text("part.tar"));
    scene.run(&["snapshot", &name, "source"]).expect(3).says("ends early");
    assert_eq!(scene.snapshots()[0]["paths"].as_array().unwrap().len(), 1);
    // A compressed one is refused, not guessed at.
    scene.write("part.tar", &whole);
    tool("gzip", &[scene.path("part.tar")]);
    scene
        .run(&["snapshot", &format!("tar:{}", scene.text("part.tar.gz"))])
        .expect(1)
        .says("no sound tar archive");
}

fn member(name: &str, kind: tar::EntryType, target: &str, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(1);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

#[test]
fn hostile_names_and_links_are_left_out_and_reported() {
    use tar::EntryType::{Directory, Link, Regular, Symlink};
    let scene = Scene::with_repository();
    let members = [
        member("../outside", Regular, "", b"1"),
        member("a/../../outside", Regular, "", b"2"),
        member("/absolute", Regular, "", b"3"),
        member("door", Symlink, "/", b""),
        member("door/etc/passwd", Regular, "", b"4"),
        member("hard", Link, "../../etc/shadow", b""),
        member("harder", Link, "/etc/shadow", b""),
        member("to later", Link, "later", b""),
        member("later", Regular, "", b"5"),
        member("dir/", Directory, "", b""),
        member("to dir", Link, "dir", b""),
        member("to link", Link, "good link", b""),
        member("good link", Link, "absolute", b""),
        member("twice", Regular, "", b"first"),
        member("to the first", Link, "twice", b""),
        member("twice", Regular, "", b"second"),
    ];
    let mut bytes = members.concat();
    bytes.extend([0; 1024]);
    scene.write("hostile.tar", &bytes);
    let name = format!("tar:{}", scene.text("hostile.tar"));
    scene
        .run(&["snapshot", &name])
        .expect(3)
        .says("8 items could not be read")
        .says("hard link to what is not in the archive");
    scene.run(&["restore", "latest:tar:hostile.tar", "--to", &scene.text("out")]).expect(0);
    let found: Vec<String> = std::fs::read_dir(scene.path("out"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let mut found = found;
    found.sort();
    assert_eq!(found, ["absolute", "dir", "door", "good link", "later", "to the first", "twice"]);
    let text = |name: &str| std::fs::read_to_string(scene.path("out").join(name)).unwrap();
    assert_eq!((text("twice"), text("to the first")), ("second".into(), "first".into()));
    assert_eq!(text("good link"), "3");
    scene.assert_sound();
}

/// Services that only say whether they are held.
struct Services(Arc<AtomicBool>);

impl Quiesce for Services {
    fn hold(&self, _: u32) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.0.store(true, Relaxed);
        Ok(())
    }

    fn release(&self) -> Verdict {
        self.0.store(false, Relaxed);
        Verdict::Kept
    }

    fn claims(&self) -> Claims {
        Claims::default()
    }
}

/// Asserts with each read that the services are held.
struct Watched(Cursor<Vec<u8>>, Arc<AtomicBool>);

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        assert!(self.1.load(Relaxed), "an archive is read while the services are held");
        self.0.read(buffer)
    }
}

fn repository(scene: &Scene) -> Repository {
    lifeboat::init(&scene.text("library"), &lifeboat::Secret::Passphrase(b"test")).unwrap()
}

#[test]
fn an_archive_is_read_once_and_while_services_are_held() {
    let scene = Scene::new();
    plant(&scene);
    let bytes = archive_of(&scene.path("source"), "--sort=name");
    let (held, opened) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let spec = {
        let (bytes, held, opened) = (bytes.clone(), held.clone(), opened.clone());
        ArchiveSpec::new(SourceKind::Volume, "piped", move || {
            opened.fetch_add(1, Relaxed);
            Ok(Box::new(Watched(Cursor::new(bytes.clone()), held.clone())))
        })
    };
    let folder = TreeSpec::folder(SourceKind::Volume, "read", scene.path("source").canonicalize().unwrap());
    let specs = [SourceSpec::Archive(spec), SourceSpec::Tree(folder)];
    let options = lifeboat::backup_options(&scene.path("state"));
    let repository = repository(&scene);
    let counters = Counters::default();
    let outcome = backup_quiesced(&repository, &specs, &options, &counters, &Quiet, &Services(held)).unwrap();
    assert_eq!(opened.load(Relaxed), 1);
    let names: Vec<&[u8]> = outcome.snapshot.sources.iter().map(|source| &source.name[..]).collect();
    assert_eq!(names, [b"piped", &b"read"[..]], "in the order that was asked for");
    assert_eq!(outcome.snapshot.errors(), 0);
    assert_eq!(outcome.snapshot.sources[0].root.entries, outcome.snapshot.sources[1].root.entries);
}

#[test]
fn what_lies_outside_of_the_stripped_prefix_is_reported() {
    let scene = Scene::new();
    let mut bytes = [
        member("data/", tar::EntryType::Directory, "", b""),
        member("data/in", tar::EntryType::Regular, "", b"in"),
        member("database", tar::EntryType::Regular, "", b"out"),
        member("data/link", tar::EntryType::Link, "data/in", b""),
    ]
    .concat();
    bytes.extend([0; 1024]);
    let mut spec =
        ArchiveSpec::new(SourceKind::Volume, "v", move || Ok(Box::new(Cursor::new(bytes.clone()))));
    spec.strip = TreePath::from_slashes(b"data").unwrap();
    let options = lifeboat::backup_options(&scene.path("state"));
    let repository = repository(&scene);
    let specs = [SourceSpec::Archive(spec)];
    let outcome = backup(&repository, &specs, &options, &Counters::default(), &Quiet).unwrap();
    let source = &outcome.snapshot.sources[0];
    assert_eq!((source.errors, source.root.entries), (1, 3));
}
