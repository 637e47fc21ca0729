//! Whatever a file system can hold comes back as it was.

mod scene;

use rustix::fs::{AtFlags, CWD, XattrFlags, linkat, lsetxattr};
use scene::{Done, Scene, noise, set_mode, tool, tree};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

const MIB: u64 = 1 << 20;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn touch(path: &Path, time: &str) {
    tool("touch", &[OsStr::new("-h"), OsStr::new("-d"), OsStr::new(time), path.as_os_str()]);
}

/// Content and holes.
fn put_contents(root: &Path) {
    for (name, length) in
        [("empty", 0), ("byte", 1), ("small", 5000), ("chunks", 900_000), ("regions", 5_000_000)]
    {
        std::fs::write(root.join(name), noise(name, length)).unwrap();
    }
    std::fs::write(root.join("zeros written"), vec![0; 3 << 20]).unwrap();
    let mut mixed = noise("mixed", 6 << 20);
    mixed[(1 << 20)..(3 << 20)].fill(0);
    std::fs::write(root.join("zeros within"), mixed).unwrap();
    File::create(root.join("hole only")).unwrap().set_len(7 * MIB + 123).unwrap();
    let sparse = File::create(root.join("holes between")).unwrap();
    sparse.write_all_at(&noise("sparse", 70_000), 2 * MIB).unwrap();
    sparse.write_all_at(&[0; 1 << 16], 3 * MIB).unwrap();
    sparse.set_len(9 * MIB).unwrap();
    let huge = File::create(root.join("huge hole")).unwrap();
    huge.write_all_at(b"end", 1 << 40).unwrap();
}

/// Names, links and things that are no files.
fn put_kinds(root: &Path) {
    let odd: [&[u8]; 5] = [b"\xff\xfe not text", b"new\nline", b"\x1b[31m", b"-rf", &[b'n'; 255]];
    for name in odd {
        std::fs::write(root.join(OsStr::from_bytes(name)), name).unwrap();
    }
    std::fs::create_dir_all(root.join(OsString::from_vec(b"dir \x80".to_vec())).join("empty")).unwrap();
    symlink("small", root.join("link")).unwrap();
    symlink("/nowhere/\u{1F6F6}", root.join("dangling")).unwrap();
    symlink(OsStr::from_bytes(&[b'l'; 4000]), root.join("long link")).unwrap();
    tool("mkfifo", &[root.join("fifo")]);
    tool("mknod", &[text(&root.join("char")), "c", "1", "3"]);
    tool("mknod", &[text(&root.join("block")), "b", "259", "70000"]);
    drop(UnixListener::bind(root.join("socket")).unwrap());
    std::fs::create_dir(root.join("linked")).unwrap();
    for name in ["small", "regions", "link", "fifo", "char", "socket", "empty"] {
        let other = root.join("linked").join(name);
        linkat(CWD, root.join(name), CWD, &other, AtFlags::empty()).unwrap();
    }
}

/// Owners, permissions, attributes; times last.
fn put_metadata(root: &Path) {
    std::fs::write(root.join("setuid"), "#!").unwrap();
    std::os::unix::fs::chown(root.join("setuid"), Some(12_345), Some(4_000_000_000)).unwrap();
    set_mode(&root.join("setuid"), 0o6755);
    std::os::unix::fs::lchown(root.join("dangling"), Some(7), Some(8)).unwrap();
    std::fs::create_dir(root.join("sticky")).unwrap();
    set_mode(&root.join("sticky"), 0o3777);
    std::fs::write(root.join("forbidden"), "secret").unwrap();
    set_mode(&root.join("forbidden"), 0);
    let set = |name: &str, attribute: &str, value: &[u8]| {
        lsetxattr(root.join(name), attribute, value, XattrFlags::empty()).unwrap();
    };
    set("small", "user.short", b"value");
    set("small", "user.empty", b"");
    set("chunks", "user.large", &noise("xattr", 3000));
    set("sticky", "user.on a directory", b"\0\xff");
    set("dangling", "trusted.on a link", b"link");
    set("fifo", "trusted.on a pipe", b"pipe");
    tool("setfacl", &["-m", "u:1234:rwx,g:55:r", text(&root.join("byte"))]);
    tool("setfacl", &["-d", "-m", "u:77:rx", text(&root.join("sticky"))]);
    tool("setcap", &["cap_net_raw,cap_chown+ep", text(&root.join("setuid"))]);
    touch(&root.join("byte"), "1901-12-31 23:59:59.999999999 UTC");
    touch(&root.join("small"), "1969-12-31 23:59:59.000000001 UTC");
    touch(&root.join("link"), "2200-01-01 00:00:00.123456789 UTC");
    touch(&root.join("fifo"), "1970-01-01 00:00:00 UTC");
    touch(&root.join("sticky"), "2001-02-03 04:05:06.789012345 UTC");
    touch(root, "1980-01-01 00:00:00.987654321 UTC");
}

fn everything(scene: &Scene) -> PathBuf {
    let root = scene.path("everything");
    std::fs::create_dir(&root).unwrap();
    put_contents(&root);
    put_kinds(&root);
    put_metadata(&root);
    root
}

#[test]
fn a_tree_with_everything_comes_back_exactly() {
    let scene = Scene::with_repository();
    let root = everything(&scene);
    let before = tree::survey(&root);
    // The test looks at what it says it looks at.
    let holes = &before[&b"holes between"[..]].data;
    assert_eq!(holes.len(), 2, "the file system keeps no holes: {holes:?}");
    assert!(before[&b"linked/fifo"[..]].link.is_some() && before[&b"small"[..]].mtime == (-1, 1));
    assert!(before[&b"setuid"[..]].xattrs.contains_key(&b"security.capability"[..]));
    scene.snapshot(&["everything"]);
    scene.assert_restores_as("latest", &root, &before);
    scene.snapshot(&["everything", "--kind", "full"]);
    scene.assert_restores_as("latest", &root, &before);
    // Over an older state of itself: what is there already must not shine through.
    scene.run(&["restore", &format!("latest:{}", root.display()), "--to", "out"]).expect(0);
    for name in ["zeros within", "holes between", "hole only"] {
        std::fs::write(scene.path("out").join(name), noise("other", 10 << 20)).unwrap();
    }
    tool("setfacl", &["-m", "u:4321:rwx", text(&scene.path("out/small"))]);
    scene.run(&["restore", &format!("latest:{}", root.display()), "--to", "out"]).expect(0);
    tree::assert_same(&before, &tree::survey(&scene.path("out")));
    scene.assert_sound();
}

#[test]
fn an_ordinary_user_gets_all_contents_and_a_count_of_what_is_missing() {
    let scene = Scene::with_repository();
    let root = everything(&scene);
    scene.snapshot(&["everything"]);
    // A copy that everybody may read, and a place where nobody may write.
    std::fs::copy(scene::binary(), scene.path("lifeboat")).unwrap();
    set_mode(&scene.path("lifeboat"), 0o755);
    tool("chmod", &["-R", "a+rX", text(&scene.path("repository")), text(&scene.path("key"))]);
    std::fs::create_dir_all(scene.path("nobody/out")).unwrap();
    tool("chown", &["-R", "65534:65534", text(&scene.path("nobody"))]);
    let mut command = std::process::Command::new("setpriv");
    scene.dress(&mut command);
    command.env("HOME", scene.path("nobody")).env_remove("XDG_CACHE_HOME").env_remove("XDG_STATE_HOME");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(scene.path("lifeboat"));
    command.args(["restore", "--json", &format!("latest:{}", root.display()), "--to", "nobody/out"]);
    let done = Done::of(&mut command).expect(3);
    let summary = done.message("summary");
    let problems = &summary["problems"];
    for kind in ["Owner", "Device", "Xattr"] {
        assert!(problems[kind].as_u64().unwrap_or(0) > 0, "no count for {kind}: {summary}");
    }
    // Devices, and their hard links, are all that cannot be made.
    let mut expected = tree::survey(&root);
    expected.retain(|_, facts| facts.device.is_none());
    let found = tree::survey(&scene.path("nobody/out"));
    assert!(expected.keys().eq(found.keys()), "{:?} instead of {:?}", found.keys(), expected.keys());
    for (path, facts) in &expected {
        let other = &found[path];
        let both =
            [facts, other].map(|facts| (&facts.content, &facts.data, &facts.target, facts.size, facts.mtime));
        assert_eq!(both[0], both[1], "{}", String::from_utf8_lossy(path));
        assert_eq!(other.owner, (65534, 65534));
        assert_eq!(
            other.mode & 0o6000,
            if facts.mode & 0o170_000 == 0o040_000 { other.mode & 0o6000 } else { 0 }
        );
    }
}

/// Directories `d/d/d/…` below `name`, and a file in the last one. Such paths are longer than the system takes.
fn dig(scene: &Scene, name: &str, depth: usize) {
    let script = "import os, sys\nos.mkdir(sys.argv[1]); os.chdir(sys.argv[1])\n\
        for _ in range(int(sys.argv[2])): os.mkdir('d'); os.chdir('d')\nopen('leaf', 'w').write('deep')\n";
    tool("python3", &["-c", script, text(&scene.path(name)), &depth.to_string()]);
}

#[test]
fn a_path_of_4096_names_comes_back_and_a_longer_one_is_reported() {
    let scene = Scene::with_repository();
    dig(&scene, "deep", 4095);
    scene.snapshot(&["deep"]);
    scene.assert_restores(&scene.path("deep"));
    std::thread::sleep(std::time::Duration::from_millis(50));
    scene.snapshot(&["deep"]);
    assert_eq!(scene.snapshot(&["deep"])["files_unmodified"], 1);
    scene.assert_sound();
    dig(&scene, "deeper", 4096);
    scene.run(&["snapshot", "deeper"]).expect(3).says("too long");
}

#[test]
fn a_directory_of_many_entries_comes_back_and_costs_one_node_when_one_changes() {
    let count = if std::env::var_os("LIFEBOAT_TEST_LARGE").is_some() { 200_000 } else { 20_000 };
    let scene = Scene::with_repository();
    std::fs::create_dir(scene.path("many")).unwrap();
    for number in 0..count {
        std::fs::write(scene.path(format!("many/file {number}")), number.to_string()).unwrap();
    }
    std::thread::sleep(std::time::Duration::from_millis(50));
    let first = scene.snapshot(&["many"]);
    assert_eq!(first["files_new"], count);
    scene.assert_restores(&scene.path("many"));
    scene.write("many/file 77", "changed");
    let second = scene.snapshot(&["many"]);
    assert_eq!((&second["files_changed"], &second["files_unmodified"]), (&1.into(), &(count - 1).into()));
    // One leaf, the nodes above it, and the first leaf, which holds the directory itself.
    let nodes = second["tree_blobs"].as_u64().unwrap();
    assert!(nodes <= 8, "{nodes} of {} nodes are new", first["tree_blobs"]);
    scene.assert_restores(&scene.path("many"));
}

#[test]
fn insertions_into_a_large_file_cost_little() {
    let scene = Scene::with_repository();
    let mut content = noise("large", 40 << 20);
    scene.write("large/file", &content);
    scene.snapshot(&["large"]);
    for (place, length) in [(17, 1), (9 << 20, 1000), (31 << 20, 70_000)] {
        content.splice(place..place, noise("inserted", length));
    }
    content.drain((20 << 20)..(20 << 20) + 12_345);
    File::create(scene.path("large/file")).unwrap().write_all(&content).unwrap();
    let second = scene.snapshot(&["large"]);
    let added = second["data_added"].as_u64().unwrap();
    assert!(added < 2 * MIB, "{added} bytes are new after four small changes");
    scene.assert_restores(&scene.path("large"));
    scene.assert_sound();
}
