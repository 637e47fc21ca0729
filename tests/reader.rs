//! The independent reader (`reader/`, written from the format's pages alone) restores what lifeboat stored.

mod scene;

use scene::{Done, Scene, noise, tree};
use std::process::Command;

fn read_repo(scene: &Scene, arguments: &[&str]) -> Done {
    read_at(scene, "repository", arguments)
}

fn read_at(scene: &Scene, name: &str, arguments: &[&str]) -> Done {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/reader/read-repo");
    let venv = Command::new("python3").args(["-c", "import venv, ensurepip"]).output();
    assert!(
        venv.is_ok_and(|output| output.status.success()),
        "the reader needs python3 with venv: apt-get install python3-venv"
    );
    // Its environment is made once and kept in the real home, not in the scene's.
    let mut command = Command::new(script);
    command.arg(scene.path(name)).args(arguments).current_dir(scene.path(""));
    Done::of(&mut command)
}

fn fill(scene: &Scene) {
    for (name, length) in [("empty", 0), ("small", 100), ("chunks", 400_000), ("large", 9 << 20)] {
        scene.write(&format!("source/{name}"), noise(name, length));
    }
    scene.write("source/text", "the same words again and again\n".repeat(40_000));
    scene.write("source/zeros", vec![0; 1 << 20]);
    std::fs::File::create(scene.path("source/hole")).unwrap().set_len(5 << 20).unwrap();
    for number in 0..2000 {
        scene.write(&format!("source/many/{}/file {number}", number % 40), number.to_string());
    }
    std::fs::hard_link(scene.path("source/small"), scene.path("source/second name")).unwrap();
    std::os::unix::fs::symlink("small", scene.path("source/link")).unwrap();
    let value = noise("value", 3000);
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(scene.path("source/chunks"), "user.large", &value, flags).unwrap();
    rustix::fs::setxattr(scene.path("source/chunks"), "user.short", b"value", flags).unwrap();
    scene::set_mode(&scene.path("source/small"), 0o4755);
    scene::tool("mkfifo", &[scene.path("source/fifo")]);
    scene::tool(
        "touch",
        &["-d", "1955-11-05 06:15:00.123456789 UTC", scene.path("source/many").to_str().unwrap()],
    );
}

#[test]
fn what_lifeboat_wrote_is_restored_without_lifeboat() {
    let scene = Scene::new();
    scene.write("password", "correct horse battery staple\n");
    for secret in [["--password-file", "password"], ["--key-file", "key"]] {
        scene::remove(&scene.path("repository"));
        scene::remove(&scene.path("source"));
        let mut command = scene.lifeboat();
        Done::of(command.env_remove("LIFEBOAT_KEY_FILE").arg("init").args(secret)).expect(0);
        let run = |arguments: &[&str]| {
            let mut command = scene.lifeboat();
            Done::of(command.env_remove("LIFEBOAT_KEY_FILE").args(arguments).args(secret)).expect(0)
        };
        fill(&scene);
        run(&["snapshot", "source"]);
        let first = tree::survey(&scene.path("source"));
        scene.write("source/many/0/file 0", "changed");
        let mut large = noise("large", 9 << 20);
        large.splice(1_000_000..1_000_000, noise("inserted", 500));
        scene.write("source/large", large);
        run(&["snapshot", "source", "--tag", "second"]);
        let second = tree::survey(&scene.path("source"));
        let ours = run(&["snapshots", "--json"]).json();
        let theirs = read_repo(&scene, &[secret[0], secret[1], "list"]).expect(0).text();
        let theirs: Vec<serde_json::Value> =
            theirs.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(theirs.len(), 2);
        for (our, their) in ours.iter().zip(&theirs) {
            assert_eq!(
                (&our["id"], &our["hostname"], &our["tags"]),
                (&their["id"], &their["host"], &their["tags"])
            );
            assert_eq!(our["paths"][0], their["sources"][0]["name"]);
        }
        let budget = read_repo(&scene, &[secret[0], secret[1], "budget"]).expect(0).text();
        let budget: serde_json::Value = serde_json::from_str(&budget).unwrap();
        let rest = budget["bytes"]["all else"].as_i64().unwrap();
        assert!((0..16_384).contains(&rest), "config, slots and snapshots, and nothing twice: {budget:?}");
        for (their, expected) in theirs.iter().zip([&first, &second]) {
            for from in [&[][..], &["--from-packs"]] {
                let out = scene.path("out");
                scene::remove(&out);
                let id = their["id"].as_str().unwrap();
                let restore = ["restore", id, "out"];
                read_repo(&scene, &[&secret[..], from, &restore[..]].concat()).expect(0);
                let place = out.join(scene.path("source").strip_prefix("/").unwrap());
                tree::assert_same(expected, &tree::survey(&place));
            }
        }
    }
}

#[test]
fn the_reader_agrees_with_every_test_vector() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/reader/read-repo");
    let output = Command::new(script).arg("--self-test").output().expect("the reader runs");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    // Its last line counts; none may fail, and a shortened list must be noticed.
    let last = text.lines().rfind(|line| line.starts_with("reader: ")).expect("it says how many passed");
    let passed: u32 = last.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a count");
    assert!(passed >= 650, "{last}");
}

#[test]
fn a_snapshot_whose_tags_changed_is_one_to_both_readers_while_its_older_object_is_there() {
    let scene = Scene::with_repository();
    scene.write("source/file", "content");
    let summary = scene.snapshot(&["source", "--tag", "old"]);
    let before = scene.objects_in("snapshots").remove(0);
    let bytes = std::fs::read(&before).unwrap();
    scene.run(&["tag", "--set", "new", "--pin", "latest"]).expect(0);
    // As if the run had died before it removed this.
    std::fs::write(&before, bytes).unwrap();
    assert_eq!(scene.objects_in("snapshots").len(), 2);
    let ours = scene.snapshots();
    let theirs = read_repo(&scene, &["--key-file", "key", "list"]).expect(0).text();
    let theirs: serde_json::Value = serde_json::from_str(theirs.trim()).unwrap();
    assert_eq!((ours.len(), &ours[0]["id"]), (1, &summary["snapshot_id"]));
    assert_eq!(theirs["id"], summary["snapshot_id"]);
    assert_eq!((&ours[0]["tags"][0], &theirs["tags"][0]), (&"new".into(), &"new".into()));
    assert_eq!(
        (&ours[0]["pinned"], &theirs["pinned"], &theirs["revision"]),
        (&true.into(), &true.into(), &1.into())
    );
    scene.assert_sound();
    scene.run(&["tag", "--unpin", "latest"]).expect(0);
    assert_eq!(scene.objects_in("snapshots").len(), 1);
}

#[test]
fn a_bundle_is_verified_without_lifeboat() {
    let scene = Scene::with_repository();
    fill(&scene);
    scene.snapshot(&["source"]);
    scene.write("source/many/0/file 0", "changed");
    scene.snapshot(&["source"]);
    scene.write("password", "carried by hand\n");
    let secret = ["--bundle-password-file", "password"];
    scene.run(&[&["export", "latest~1", "-o", "full"], &secret[..]].concat()).expect(0);
    scene.run(&[&["export", "latest", "--incremental", "-o", "more"], &secret[..]].concat()).expect(0);
    let read = |name: &str| -> Vec<serde_json::Value> {
        let text = read_at(&scene, name, &["--password-file", "password", "bundle"]).expect(0).text();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let full = read("full");
    assert_eq!(full.len(), 1 + tree::survey(&scene.path("source")).len());
    for line in full.iter().skip(1).filter(|line| line["type"] == "file") {
        let path = line["path"].as_str().unwrap();
        // This one changed since.
        if path != "many/0/file 0" {
            let content = std::fs::read(scene.path("source").join(path)).unwrap();
            assert_eq!(line["blake3"], blake3::hash(&content).to_string(), "{path}");
        }
    }
    let more = read("more");
    assert_eq!((more.len(), &more[0]["base"]), (2, &full[0]["id"]));
    assert_eq!(more[1]["blake3"], blake3::hash(b"changed").to_string());
    let bytes = std::fs::read(scene.path("more")).unwrap();
    scene.write("cut", &bytes[..bytes.len() - 1]);
    read_at(&scene, "cut", &["--password-file", "password", "bundle"]).expect(1).says("ends 1 bytes early");
}
