//! A day with the command: what the manual shows works, in text and in JSON.

mod scene;

use scene::{Done, Scene, tool, tree};
use serde_json::Value;
use std::io::Write;
use std::process::Stdio;

/// A small application.
fn app() -> Scene {
    let scene = Scene::with_repository();
    scene.write("srv/app/config.toml", "port = 80\n");
    scene.write("srv/app/data/one", scene::noise("one", 300_000));
    scene.write("srv/app/data/two", "two");
    std::os::unix::fs::symlink("data/two", scene.path("srv/app/link")).unwrap();
    scene
}

fn id_of(summary: &Value) -> String {
    summary["snapshot_id"].as_str().unwrap().to_owned()
}

#[test]
fn a_day_goes_from_init_to_restore() {
    let scene = app();
    let source = scene.text("srv/app");
    scene.run(&["snapshot", "srv/app", "--tag", "nightly,db"]).expect(0).prints("saved");
    let first = tree::survey(&scene.path("srv/app"));
    scene.write("srv/app/data/two", "two, changed");
    scene.write("srv/app/new", "new");
    std::fs::remove_file(scene.path("srv/app/config.toml")).unwrap();
    scene.run(&["snapshot", "srv/app"]).expect(0);
    scene.run(&["snapshots"]).expect(0).prints("[db, nightly]").prints(&source).prints("2 snapshots");
    assert_eq!(scene.run(&["snapshots", "--json", "--tag", "db"]).expect(0).json().len(), 1);
    scene
        .run(&["ls", "latest"])
        .expect(0)
        .prints(&format!("{source}/data/two"))
        .prints(&format!("{source}/new"));
    scene
        .run(&["ls", "-l", &format!("latest:{source}/data")])
        .expect(0)
        .prints("-rw-r--r--")
        .prints("300000");
    let diff = scene.run(&["diff", "latest~1", "latest"]).expect(0);
    let diff = diff.prints(&format!("+    {source}/new")).prints(&format!("-    {source}/config.toml"));
    diff.prints(&format!("M    {source}/data/two"));
    scene.run(&["find", "two"]).expect(0).prints(&format!("{source}/data/two"));
    scene.run(&["find", "TWO"]).expect(0).prints("nothing matches");
    scene.run(&["find", "-i", "TWO"]).expect(0).prints("data/two");
    scene.run(&["stats"]).expect(0).prints("Snapshots").prints("packs");
    scene.run(&["repo", "info"]).expect(0).prints("version 1");
    scene.run(&["cache"]).expect(0).prints("iB");
    scene.run(&["check", "--read-data"]).expect(0).prints("every stored byte was read");
    scene.assert_restores(&scene.path("srv/app"));
    scene.assert_restores_as("latest~1", &scene.path("srv/app"), &first);
    scene.run(&["cache", "--cleanup"]).expect(0).prints("removed");
    scene.assert_restores(&scene.path("srv/app"));
}

#[test]
fn a_file_and_a_tree_are_dumped() {
    let scene = app();
    scene.snapshot(&["srv/app"]);
    let source = scene.text("srv/app");
    let file = scene.run(&["dump", &format!("latest:{source}/data/one")]).expect(0);
    assert_eq!(file.stdout, scene::noise("one", 300_000));
    scene.run(&["dump", &format!("latest:{source}/data")]).expect(1).says("--tar");
    let archive = scene.run(&["dump", "--tar", &format!("latest:{source}")]).expect(0);
    let path = scene.write("app.tar", archive.stdout);
    let listed = String::from_utf8(tool("tar", &["-tf", path.to_str().unwrap()])).unwrap();
    assert!(
        ["config.toml", "data/one", "data/two", "link"].iter().all(|name| listed.contains(name)),
        "{listed}"
    );
    std::fs::create_dir(scene.path("untarred")).unwrap();
    tool("tar", &["-C", scene.path("untarred").to_str().unwrap(), "-xpf", path.to_str().unwrap()]);
    let hashes = |survey: tree::Survey| -> Vec<_> {
        survey.into_iter().filter_map(|(path, facts)| Some((path, facts.content?))).collect()
    };
    let expected = hashes(tree::survey(&scene.path("srv/app")));
    let found = hashes(tree::survey(&scene.path("untarred")));
    assert_eq!(expected.len(), found.len(), "{listed}");
    assert!(expected.iter().zip(&found).all(|(one, other)| other.0.ends_with(&one.0) && one.1 == other.1));
}

#[test]
fn a_restore_makes_the_directory_equal_or_recreates_absolute_paths() {
    let scene = app();
    let app = scene.path("srv/app");
    scene.snapshot(&["srv/app", "srv/app/data"]);
    let before = tree::survey(&app);
    let latest = format!("latest:{}", app.display());
    scene.run(&["restore", &latest, "--to", "out", "--verify"]).expect(0).prints("read again and compared");
    tree::assert_same(&before, &tree::survey(&scene.path("out")));
    // A second time: what is there and equal is no obstacle, what is too much goes with --delete only.
    scene.write("out/extra", "extra");
    scene.write("out/data/two", "damaged");
    scene.run(&["restore", &latest, "--to", "out"]).expect(0);
    assert!(scene.path("out/extra").exists());
    scene
        .run(&["restore", &latest, "--to", "out", "--delete", "--dry-run"])
        .expect(0)
        .prints("Would restore");
    assert!(scene.path("out/extra").exists());
    scene.run(&["restore", &latest, "--to", "out", "--delete"]).expect(0);
    tree::assert_same(&before, &tree::survey(&scene.path("out")));
    scene.run(&["restore", "latest", "--to", "whole"]).expect(0);
    let recreated = scene.path("whole").join(app.strip_prefix("/").unwrap());
    tree::assert_same(&before, &tree::survey(&recreated));
    // One file comes under its own name; --include and --exclude choose.
    scene.run(&["restore", &format!("{latest}/config.toml"), "--to", "one"]).expect(0);
    assert_eq!(std::fs::read_to_string(scene.path("one/config.toml")).unwrap(), "port = 80\n");
    scene.run(&["restore", &latest, "--to", "some", "--include", "data", "--exclude", "one"]).expect(0);
    assert!(scene.path("some/data/two").exists() && !scene.path("some/data/one").exists());
    assert!(!scene.path("some/config.toml").exists());
    scene.run(&["restore", &format!("{latest}/absent"), "--to", "none"]).expect(1);
}

#[test]
fn every_command_speaks_json_line_by_line() {
    let scene = app();
    let summary = scene.snapshot(&["srv/app"]);
    let fields = [
        "files_new",
        "files_changed",
        "files_unmodified",
        "dirs_new",
        "dirs_changed",
        "dirs_unmodified",
        "data_blobs",
        "tree_blobs",
        "data_added",
        "data_added_packed",
        "total_files_processed",
        "total_bytes_processed",
        "total_duration",
        "backup_start",
        "backup_end",
        "snapshot_id",
    ];
    for field in fields {
        assert!(!summary[field].is_null(), "the summary lacks restic's field {field}: {summary}");
    }
    assert_eq!(summary["files_new"], 3);
    assert_eq!(summary["total_bytes_processed"], 300_000 + 10 + 3);
    let latest = format!("latest:{}", scene.text("srv/app"));
    let commands: [&[&str]; 11] = [
        &["snapshots"],
        &["ls", &latest],
        &["find", "two"],
        &["diff", "latest", "latest"],
        &["stats"],
        &["check"],
        &["key", "list"],
        &["repo", "info"],
        &["cache"],
        &["restore", &latest, "--to", "out"],
        &["snapshot", "srv/app"],
    ];
    for arguments in commands {
        let done = scene.run(&[arguments, &["--json"]].concat()).expect(0);
        assert!(!done.json().is_empty(), "no message: {done}");
    }
    let restored = scene.run(&["restore", &latest, "--to", "out", "--json"]).expect(0).message("summary");
    for field in ["total_files", "files_restored", "total_bytes", "bytes_restored"] {
        assert!(restored[field].is_number(), "the summary lacks {field}: {restored}");
    }
    let failed = scene.run(&["ls", "abcdef", "--json"]).expect(1);
    let last: Value = serde_json::from_str(failed.stderr.lines().last().unwrap()).unwrap();
    assert_eq!((&last["message_type"], &last["code"]), (&"exit_error".into(), &1.into()));
}

#[test]
fn a_snapshot_is_named_by_its_age_or_a_unique_prefix() {
    let scene = app();
    let ids: Vec<String> = (0..17).map(|_| id_of(&scene.snapshot(&["srv/app/data/two"]))).collect();
    let listed = |name: &str| {
        id_of(&{
            let mut value = scene.run(&["ls", name, "--json"]).expect(0).message("snapshot");
            value["snapshot_id"] = value["id"].clone();
            value
        })
    };
    assert_eq!(listed("latest"), ids[16]);
    assert_eq!(listed("latest~1"), ids[15]);
    assert_eq!(listed("latest~16"), ids[0]);
    assert_eq!(listed(&ids[3][..12]), ids[3]);
    assert_eq!(listed(&ids[3]), ids[3]);
    scene.run(&["ls", "latest~17"]).expect(1).says("no snapshot matches");
    // Of 17 ids two begin with the same digit.
    let shared =
        ('0'..='9').chain('a'..='f').find(|digit| ids.iter().filter(|id| id.starts_with(*digit)).count() > 1);
    scene
        .run(&["ls", &shared.unwrap().to_string()])
        .expect(1)
        .says("is not unique")
        .says("Hint: lifeboat snapshots");
    scene.run(&["ls", "nonsense"]).expect(1).says("no snapshot matches");
}

#[test]
fn keys_are_added_replaced_and_removed() {
    let scene = app();
    scene.snapshot(&["srv/app"]);
    scene.write("password", "correct horse\n");
    let added = scene.run(&["key", "add", "--new-password-file", "password", "--label", "people"]).expect(0);
    let added = added.text().trim().rsplit(' ').next().unwrap().to_owned();
    let with_password = |arguments: &[&str]| {
        let mut command = scene.lifeboat();
        command.env_remove("LIFEBOAT_KEY_FILE").env("LIFEBOAT_PASSWORD", "correct horse");
        Done::of(command.args(arguments))
    };
    with_password(&["snapshots"]).expect(0).prints("1 snapshots");
    with_password(&["key", "list"])
        .expect(0)
        .prints(&format!("*{added}"))
        .prints("people")
        .prints("key file");
    scene.run(&["key", "passwd", "--new-key-file", "key2"]).expect(0);
    scene.run(&["snapshots"]).expect(12).says("wrong password or key").says("Hint:");
    scene.run(&["snapshots", "--key-file", "key2"]).expect(0);
    with_password(&["key", "remove", &added]).expect(1).says("in use");
    scene.run(&["key", "remove", &added[..8], "--key-file", "key2"]).expect(0);
    with_password(&["snapshots"]).expect(12);
    let left = scene.run(&["key", "list", "--json", "--key-file", "key2"]).expect(0).json();
    assert_eq!((left.len(), &left[0]["kind"], &left[0]["current"]), (1, &"key file".into(), &true.into()));
    scene.run(&["key", "remove", left[0]["id"].as_str().unwrap(), "--key-file", "key2"]).expect(1);
    // All that may be known to somebody goes at once.
    scene.run(&["key", "add", "--key-file", "key2", "--new-key-file", "key3"]).expect(0);
    let rotated = ["key", "rotate", "--key-file", "key2", "--new-key-file", "key4", "--label", "new"];
    scene.run(&rotated).expect(0).prints("2 removed");
    for old in ["key2", "key3"] {
        scene.run(&["snapshots", "--key-file", old]).expect(12);
    }
    let left = scene.run(&["key", "list", "--json", "--key-file", "key4"]).expect(0).json();
    assert_eq!((left.len(), &left[0]["label"]), (1, &"new".into()));
}

#[test]
fn streams_are_stored_under_their_names_and_failed_commands_not_at_all() {
    let scene = Scene::with_repository();
    scene.run(&["snapshot", "command:db", "--", "sh", "-c", "echo dump; echo more"]).expect(0);
    let db = scene.run(&["dump", "latest:command:db"]).expect(0);
    assert_eq!(db.text(), "dump\nmore\n");
    let failed = scene.run(&["snapshot", "command:db", "--", "sh", "-c", "echo half; exit 3"]);
    assert!(failed.code != Some(0) && failed.stderr.contains('3'), "{failed}");
    scene.run(&["snapshot", "command:db", "--", "/no/such/program"]).expect(1);
    assert_eq!(scene.snapshots().len(), 1);
    let content = scene::noise("stream", 3_000_000);
    let mut child = scene
        .lifeboat()
        .args(["snapshot", "--quiet", "stdin:dump.sql"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&content).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(scene.run(&["dump", "latest:stdin:dump.sql"]).expect(0).stdout == content);
    scene.run(&["restore", "latest:stdin:dump.sql", "--to", "out"]).expect(0);
    assert!(std::fs::read(scene.path("out/dump.sql")).unwrap() == content);
    scene.run(&["snapshot", "stdin:a/b"]).expect(1);
    scene.run(&["snapshot", "command:x"]).expect(1).says("has no command").says("Hint:");
}

#[test]
fn sources_come_from_files_and_excludes_leave_out() {
    let scene = app();
    scene.write("srv/other", "other");
    scene.write("list", format!("{}\n# a comment\n{}\n", scene.text("srv/app"), scene.text("srv/other")));
    scene.snapshot(&["--files-from", "list"]);
    assert_eq!(scene.snapshots()[0]["paths"].as_array().unwrap().len(), 2);
    for name in ["keep.log", "drop.log", "tmp/x", "deep/tmp/y", "Thumbs.DB", "large"] {
        scene.write(&format!("tree/{name}"), "content");
    }
    scene.write("tree/large", vec![1; 3000]);
    scene.write("tree/cache/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n");
    scene.write("tree/cache/data", "data");
    scene.write("tree/marked/.nobackup", "");
    scene.write("tree/marked/data", "data");
    scene.write("rules", "*.log\n!keep.log\n/tmp/\n");
    let arguments = [
        "tree",
        "--exclude-file",
        "rules",
        "--iexclude",
        "thumbs.db",
        "--exclude-caches",
        "--exclude-if-present",
        ".nobackup",
        "--exclude-larger-than",
        "2K",
    ];
    scene.snapshot(&arguments);
    let listed = scene.run(&["ls", "latest"]).expect(0).text();
    let base = format!("{}/", scene.text("tree"));
    let names: Vec<&str> = listed.lines().filter_map(|line| line.strip_prefix(&base)).collect();
    assert_eq!(names, ["cache", "deep", "deep/tmp", "deep/tmp/y", "keep.log", "marked"]);
}

#[test]
fn a_dry_run_stores_nothing() {
    let scene = app();
    let before = scene.objects();
    let summary = scene.snapshot(&["srv/app", "--dry-run"]);
    assert_eq!((&summary["files_new"], &summary["dry_run"]), (&3.into(), &true.into()));
    assert!(summary["snapshot_id"].is_null());
    assert_eq!(scene.objects(), before);
    assert!(scene.snapshots().is_empty());
}
