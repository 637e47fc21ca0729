//! Without privileges: what cannot be done is reported, the rest is there.

use super::*;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

const TARGET: &str = "LIFEBOAT_TEST_TARGET";

#[test]
fn an_ordinary_user_gets_the_content_and_a_list_of_what_was_not_possible() {
    let parent = temporary();
    std::fs::set_permissions(parent.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    // The kernel's own link: the binary may lie in a directory that others cannot enter.
    let output = std::process::Command::new("/proc/self/exe")
        .args(["--exact", "restore::tests::ordinary::as_ordinary_user", "--ignored", "--nocapture"])
        .env(TARGET, parent.path().join("target"))
        .current_dir("/")
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let trouble = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{trouble}");
}

#[test]
#[ignore = "started by the test above under another user"]
fn as_ordinary_user() {
    let target = PathBuf::from(std::env::var_os(TARGET).unwrap());
    let own = User::current();
    assert_ne!(own.uid, 0);
    let mut tree = Tree::new();
    tree.directory("d").metadata.mode = 0o555;
    tree.file("d/own", b"mine").metadata.mode = 0o4755;
    tree.file("d/closed", b"mine").metadata.mode = 0;
    tree.directory("d/none").metadata.mode = 0;
    tree.file("d/none/f", b"mine");
    let xattrs = vec![xattr("trusted.t", b"1"), xattr("user.u", b"1")];
    tree.file("d/xattrs", b"mine").metadata.xattrs = xattrs;
    let foreign = tree.file("foreign", b"theirs");
    (foreign.metadata.uid, foreign.metadata.gid, foreign.metadata.mode) = (0, own.gid, 0o6755);
    tree.put("null", Node::CharDevice { major: 1, minor: 3 }, 0o666);
    tree.put("pipe", Node::Fifo, 0o640);
    for round in 0..3 {
        let overwrite = if round == 1 { Overwrite::IfChanged } else { Overwrite::Always };
        let with = Options { overwrite, delete: true, verify: round == 0, ..options() };
        let report = tree.restore(&target, &with).unwrap();
        assert_eq!((report.failed, report.count_of(ProblemKind::Device)), (1, 1), "{:?}", report.problems);
        assert_eq!(report.count_of(ProblemKind::Owner), 1, "{:?}", report.problems);
        assert_eq!(report.count_of(ProblemKind::Xattr), 1, "{:?}", report.problems);
        let mode = |name: &str| std::fs::metadata(target.join(name)).unwrap().mode() & 0o7777;
        assert_eq!(std::fs::read(target.join("foreign")).unwrap(), b"theirs");
        assert_eq!(mode("foreign"), 0o755, "setuid without its owner is somebody else's right");
        assert_eq!((mode("d"), mode("d/own"), mode("d/closed"), mode("d/none")), (0o555, 0o4755, 0, 0));
        assert_eq!(xattrs_of(&target.join("d/xattrs")), [(b"user.u".to_vec(), b"1".to_vec())]);
    }
    // So that the parent can clean up as anybody.
    let mut empty = Tree::new();
    empty.file("f", b"");
    empty.restore(&target, &Options { delete: true, ..options() }).unwrap();
}
