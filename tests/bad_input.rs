//! Wrong passwords, missing pieces, full disks: each has its exit code, its message, and loses nothing else.

mod scene;

use scene::disk::Disk;
use scene::{Done, Scene, noise, set_mode, tool, tree};
use std::path::Path;
use std::process::Command;

/// What no message may ever show.
const CANARY: &str = "canary-8f3b-password";

fn with_password(scene: &Scene, password: &str, arguments: &[&str]) -> Done {
    let mut command = scene.lifeboat();
    command.env_remove("LIFEBOAT_KEY_FILE").env("LIFEBOAT_PASSWORD", password);
    Done::of(command.args(arguments))
}

/// A repository with two snapshots.
fn filled() -> Scene {
    let scene = Scene::with_repository();
    scene.write("source/large", noise("large", 3 << 20));
    scene.write("source/small", "small");
    scene.snapshot(&["source"]);
    scene.write("source/later", noise("later", 100_000));
    scene.snapshot(&["source"]);
    scene
}

#[test]
fn a_wrong_password_or_key_is_12_and_a_missing_repository_10() {
    let scene = Scene::new();
    with_password(&scene, "right", &["init"]).expect(0);
    with_password(&scene, "right", &["init"]).expect(1).says("already").says("Hint:");
    with_password(&scene, "wrong", &["snapshots"]).expect(12).says("wrong password").says("Hint:");
    scene.write("not a key", "lifeboat");
    scene.run(&["snapshots", "--key-file", "not a key"]).expect(12).says("not a lifeboat key file");
    scene.run(&["snapshots", "--key-file", "absent"]).expect(1).says("cannot be read");
    with_password(&scene, "", &["snapshots"]).expect(1).says("empty");
    with_password(&scene, "right", &["snapshots", "-r", "absent"]).expect(10).says("Hint: lifeboat init");
    std::fs::create_dir(scene.path("empty")).unwrap();
    with_password(&scene, "right", &["snapshots", "-r", "empty"]).expect(10);
    with_password(&scene, "right", &["snapshots", "-r", "s3:bucket"]).expect(1).says("not supported yet");
    scene.write("full/of", "something else");
    with_password(&scene, "right", &["init", "-r", "full"]).expect(1);
    assert!(!scene.path("full/config").exists());
}

#[test]
fn a_repository_that_was_never_finished_is_10_and_init_finishes_it() {
    let scene = Scene::with_repository();
    std::fs::remove_file(scene.path("repository/config")).unwrap();
    scene.run(&["snapshots"]).expect(10).says("never finished").says("Hint: lifeboat init");
    scene.run(&["init"]).expect(0);
    assert_eq!(scene.objects_in("keys").len(), 1);
    scene.write("source/file", "file");
    scene.snapshot(&["source"]);
    // A config that is lost later is another thing: `init` would bury what is stored.
    std::fs::remove_file(scene.path("repository/config")).unwrap();
    let refused = scene.run(&["init"]);
    assert!(refused.code != Some(0) && !scene.path("repository/config").exists(), "{refused}");
}

#[test]
fn what_lies_in_a_deleted_pack_is_named_and_the_rest_restored() {
    let scene = filled();
    let before = tree::survey(&scene.path("source"));
    let mut packs = scene.objects_in("packs");
    packs.sort_by_key(|path| std::cmp::Reverse(path.metadata().unwrap().len()));
    std::fs::remove_file(&packs[0]).unwrap();
    let name = packs[0].file_name().unwrap().to_str().unwrap();
    scene.run(&["check"]).expect(1).says(name).says("needed by");
    scene.run(&["check", "--read-data"]).expect(1).says(name);
    let latest = format!("latest:{}", scene.text("source"));
    let restored = scene.run(&["restore", &latest, "--to", "out"]).expect(3);
    assert!(restored.stderr.contains("large"), "{restored}");
    let found = tree::survey(&scene.path("out"));
    assert_eq!(found.get(&b"later"[..]), before.get(&b"later"[..]));
    assert!(!found.contains_key(&b"large"[..]), "a file without content was restored");
    scene.run(&["dump", &format!("{latest}/large")]).expect(1).says(name);
    // A full snapshot stores it again.
    scene.run(&["snapshots"]).expect(0);
}

#[test]
fn deleted_and_truncated_index_objects_are_noticed_and_never_give_wrong_bytes() {
    for truncate in [false, true] {
        let scene = filled();
        let before = tree::survey(&scene.path("source"));
        for object in scene.objects_in("index") {
            match truncate {
                true => {
                    let half = std::fs::read(&object).unwrap();
                    set_mode(&object, 0o600);
                    std::fs::write(&object, &half[..half.len() / 2]).unwrap();
                }
                false => std::fs::remove_file(&object).unwrap(),
            }
        }
        for cache in ["kept", "deleted"] {
            if cache == "deleted" {
                scene::remove(&scene.path("cache"));
            }
            let check = scene.run(&["check"]).expect(1);
            assert!(check.stderr.contains("index") || check.stderr.contains("in no pack"), "{check}");
            let target = format!("out {cache}");
            let latest = format!("latest:{}", scene.text("source"));
            let restored = scene.run(&["restore", &latest, "--to", &target]);
            if restored.code == Some(0) {
                tree::assert_same(&before, &tree::survey(&scene.path(target)));
            } else {
                assert!(
                    matches!(restored.code, Some(1 | 3)) && restored.stderr.contains("Hint:"),
                    "{restored}"
                );
            }
        }
    }
}

/// What is in the cache must not matter.
fn cache_does_not_matter(scene: &Scene, what: &str) {
    scene.write("source/another", noise(what, 50_000));
    scene.run(&["snapshot", "source"]).expect(0);
    scene.assert_restores(&scene.path("source"));
    scene.assert_sound();
}

#[test]
fn a_local_cache_that_is_gone_corrupt_or_foreign_costs_time_only() {
    let scene = filled();
    scene::remove(&scene.path("cache"));
    cache_does_not_matter(&scene, "deleted");
    for (garbage, name) in
        [(noise("garbage", 5000), "garbage"), (Vec::new(), "empty"), (vec![0; 4096], "zeros")]
    {
        let files = tree::files(&scene.path("cache"));
        assert!(files.len() > 3, "there is no cache to damage");
        files.iter().for_each(|file| std::fs::write(file, &garbage).unwrap());
        cache_does_not_matter(&scene, name);
    }
    for (number, file) in tree::files(&scene.path("cache")).iter().enumerate() {
        // The database gives its files new names while it works; what is still there goes.
        if std::fs::remove_file(file).is_ok() {
            cache_does_not_matter(&scene, &format!("file {number} removed"));
        }
    }
    let own = std::fs::read_dir(scene.path("cache/lifeboat")).unwrap().next().unwrap().unwrap().path();
    let other = filled();
    let foreign = std::fs::read_dir(other.path("cache/lifeboat")).unwrap().next().unwrap().unwrap().path();
    scene::remove(&own);
    tool("cp", &["-a", foreign.to_str().unwrap(), own.to_str().unwrap()]);
    cache_does_not_matter(&scene, "another repository's");
    // Older than the repository, and newer than it: somebody put back a copy of either.
    tool("cp", &["-a", own.to_str().unwrap(), scene.path("old cache").to_str().unwrap()]);
    cache_does_not_matter(&scene, "before");
    scene::remove(&own);
    tool("mv", &[scene.path("old cache"), own]);
    cache_does_not_matter(&scene, "after");
    std::fs::write(scene.path("file"), "").unwrap();
    scene.run(&["snapshot", "source", "--cache-dir", "file/below"]).expect(0);
    scene.run(&["snapshot", "source", "--no-cache"]).expect(0);
}

#[test]
fn a_full_disk_below_the_cache_costs_time_only() {
    let scene = filled();
    scene::remove(&scene.path("cache"));
    let disk = Disk::tmpfs(&scene.path("cache"), "4m");
    cache_does_not_matter(&scene, "small disk");
    disk.fill();
    cache_does_not_matter(&scene, "full disk");
    scene::remove(&scene.path("cache/lifeboat"));
    disk.fill();
    cache_does_not_matter(&scene, "full from the beginning");
}

#[test]
fn a_full_disk_below_the_repository_fails_the_run_and_nothing_before_it() {
    let scene = Scene::new();
    let disk = Disk::tmpfs(&scene.path("repository"), "24m");
    scene.run(&["init"]).expect(0);
    scene.write("source/file", noise("first", 4 << 20));
    scene.snapshot(&["source"]);
    let before = tree::survey(&scene.path("source"));
    scene.write("source/more", noise("more", 60 << 20));
    scene.run(&["snapshot", "source"]).expect(1).says("Hint: df -h");
    let sound = |snapshots: usize| {
        assert_eq!(scene.snapshots().len(), snapshots);
        scene.assert_restores_as("latest", &scene.path("source"), &before);
        scene.assert_sound();
    };
    sound(1);
    disk.fill();
    scene.run(&["snapshot", "source"]).expect(1);
    sound(1);
    std::fs::remove_file(scene.path("repository/ballast")).unwrap();
    std::fs::remove_file(scene.path("source/more")).unwrap();
    scene.snapshot(&["source"]);
    scene.assert_restores(&scene.path("source"));
    scene.assert_sound();
}

#[test]
fn what_cannot_be_read_is_3_and_the_rest_is_stored() {
    let scene = filled();
    scene.run(&["snapshot", "source", "absent"]).expect(3).says("absent");
    scene.run(&["snapshot", "absent", "gone"]).expect(1).says("no snapshot was made");
    scene.run(&["snapshot"]).expect(1).says("Hint:");
    assert_eq!(scene.snapshots().len(), 3);
    scene.write("source/forbidden", "file");
    scene.write("source/closed/inner", "file");
    tool("chown", &["-R", "65534", scene.path("source").to_str().unwrap()]);
    set_mode(&scene.path("source/forbidden"), 0);
    set_mode(&scene.path("source/closed"), 0);
    std::fs::copy(scene::binary(), scene.path("lifeboat")).unwrap();
    set_mode(&scene.path("lifeboat"), 0o755);
    for name in ["repository", "key", "cache", "state", "home"] {
        tool("chown", &["-R", "65534", scene.path(name).to_str().unwrap()]);
    }
    let mut command = Command::new("setpriv");
    scene.dress(&mut command).args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    let done = Done::of(command.arg(scene.path("lifeboat")).args(["snapshot", "source", "--json"])).expect(3);
    assert_eq!(done.message("summary")["error_count"], 2, "{done}");
    let done = done.says("forbidden").says("closed");
    for line in done.stderr.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(value["message_type"], "error", "{line}");
    }
    let listed = scene.run(&["ls", "latest"]).expect(0).text();
    assert!(listed.contains("later") && !listed.contains("forbidden"), "{listed}");
    scene.run(&["snapshots"]).expect(0).prints("(2 items unreadable)");
}

#[test]
fn secrets_reach_no_message_no_argument_and_no_file() {
    let scene = Scene::new();
    scene.write("source/file", "file");
    scene.write("password", format!("{CANARY}\n"));
    scene.write("other", "another\n");
    let key = format!("lifeboat-key-1 {}", "5e".repeat(32));
    scene.write("secret key", format!("{key}\n"));
    let mut shown = String::new();
    let commands: [&[&str]; 15] = [
        &["init"],
        &["snapshot", "source"],
        &["snapshot", "command:environment", "--", "true"],
        &["snapshots"],
        &["key", "add", "--new-key-file", "secret key"],
        &["key", "list"],
        &["check", "--read-data"],
        &["stats"],
        &["repo", "info"],
        &["ls", "nothing"],
        &["restore", "latest", "--to", "out"],
        &["key", "passwd", "--new-password-file", "other"],
        &["snapshots"],
        &["key", "list", "-r", "absent"],
        &["key", "rotate", "--new-password-file", "other"],
    ];
    for arguments in commands {
        for more in [&["-vvv"][..], &["-vvv", "--json"]] {
            let done = with_password(&scene, CANARY, &arguments_before_dashes(arguments, more));
            shown += &format!("{}{}", done.text(), done.stderr);
        }
    }
    assert!(shown.contains("wrong password") && shown.contains("saved"), "{shown}");
    let trace = scene.path("trace");
    let mut strace = Command::new("strace");
    scene.dress(&mut strace).env_remove("LIFEBOAT_KEY_FILE").env("LIFEBOAT_PASSWORD_COMMAND", "cat other");
    strace.args(["-f", "-e", "trace=execve,write", "-s", "4000", "-o", trace.to_str().unwrap()]);
    Done::of(strace.arg(scene::binary()).args(["snapshot", "-vvv", "source"])).expect(0);
    assert!(!shown.contains(CANARY), "the password was shown");
    assert!(!shown.contains(&"5e".repeat(32)), "a key was shown");
    let execs = std::fs::read_to_string(trace).unwrap();
    let leaked = |line: &&str| line.contains("execve(") && line.contains("\"another");
    assert_eq!(execs.lines().filter(leaked).count(), 0);
    for file in ["repository", "cache", "state"].iter().flat_map(|name| tree::files(&scene.path(name))) {
        let bytes = std::fs::read(&file).unwrap();
        let found = bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
        assert!(!found, "the password is in {}", Path::new(&file).display());
    }
}

/// Options go before `--`: behind it they belong to the command that is backed up.
fn arguments_before_dashes<'a>(arguments: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    let place = arguments.iter().position(|argument| *argument == "--").unwrap_or(arguments.len());
    [&arguments[..place], more, &arguments[place..]].concat()
}

#[test]
fn a_source_that_is_no_path_says_which_kinds_there_are() {
    let scene = filled();
    scene
        .run(&["snapshot", "source", "etcd:api"])
        .expect(1)
        .says("no sources of the kind `etcd`")
        .says("Hint: lifeboat snapshot container:NAME");
    scene.run(&["snapshot", "volum:data"]).expect(1).says("kinds of sources are path:, project:");
    scene.run(&["snapshot", "absent"]).expect(1).says("No such file or directory");
    // A file may be called so.
    scene.write("etcd:api", "a file");
    scene.run(&["snapshot", "etcd:api"]).expect(0);
    scene.run(&["snapshot", "path:etcd:api"]).expect(0);
}
