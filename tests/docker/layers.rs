//! Writable layers: the way through the engine gives what the layer's folder gives.

use crate::engines::{Engine, on_every_engine};
use crate::scene::Scene;
use lifeboat::backup::{Counters, SourceSpec, backup};
use lifeboat::format::{Entry, LinkGroup, Node};
use lifeboat::workload::engine::Engine as Client;
use lifeboat::workload::layer::frozen::Frozen;
use lifeboat::workload::layer::reach::{LayerWay, ReachedLayer, reach};
use lifeboat::workload::volume::{Volumes, leftovers};
use lifeboat::{Quiet, Repository};
use lifeboat_repo::cursor::TreeCursor;
use lifeboat_repo::reader::ChunkReader;
use std::collections::{BTreeMap, BTreeSet};

/// What somebody does in a container; everything that a layer can hold is among it.
const CHANGES: &str = r#"
set -e
mkdir -p /new/sub /new/mounted; echo a >/new/sub/file; ln /new/sub/file /new/linked; ln -s nowhere /new/link
mkfifo -m 640 /new/pipe; mknod /new/device c 1 3; chown 1234:70000 /new/sub/file; chmod 2750 /new/sub
printf end | dd of=/new/sparse bs=1 seek=8388608 conv=notrunc 2>/dev/null
echo more >>/etc/passwd; rm /etc/group; chmod 700 /home; echo added >/etc/added
rm -r /usr/share/common-licenses; mkdir /usr/share/common-licenses; echo 'hides the rest' >/usr/share/common-licenses/only
rm -r /opt; echo 'was a folder' >/opt; rm -r /srv; rm /etc/issue; mkdir /etc/issue; echo 'was a file' >/etc/issue/x
mkdir /etc/skel/new; rm -r /etc/skel/new
name=/etc/$(printf '%0150d' 7); echo long >"$name"
mkdir "/etc/odd [name]*"; echo odd >"/etc/odd [name]*/$(printf 'not-text-\377')"
echo hidden >/mounted/x
"#;

/// One entry, as the documentation says that both ways show it.
#[derive(Debug, PartialEq, Eq, Clone)]
struct Shown {
    kind: String,
    mode: u16,
    owner: (u32, u32),
    seconds: i64,
    content: Vec<u8>,
    attributes: Vec<Vec<u8>>,
    /// The first name of the same file.
    first: Option<String>,
}

fn stored(repository: &Repository, spec: SourceSpec) -> BTreeMap<String, (Entry, Shown)> {
    let scene = tempfile::tempdir().unwrap();
    let options = lifeboat::backup_options(scene.path());
    let outcome = backup(repository, &[spec], &options, &Counters::default(), &Quiet).unwrap();
    assert_eq!(outcome.sources_failed + outcome.snapshot.errors(), 0, "{:?}", outcome.snapshot.sources);
    let reader = ChunkReader::new(repository);
    let mut cursor = TreeCursor::new(&reader, outcome.snapshot.sources[0].root);
    let mut entries = BTreeMap::new();
    let mut firsts: BTreeMap<LinkGroup, String> = BTreeMap::new();
    while let Some((path, entry)) = cursor.next_entry().unwrap() {
        let path = path.to_string();
        let mut content = Vec::new();
        lifeboat::dump::file(&entry, &reader, &mut content).unwrap();
        let first = entry.link.map(|group| firsts.entry(group).or_insert_with(|| path.clone()).clone());
        let kind = match &entry.node {
            Node::File { size, .. } => format!("file of {size}"),
            other => format!("{other:?}"),
        };
        let metadata = &entry.metadata;
        let shown = Shown {
            kind,
            mode: metadata.mode,
            owner: (metadata.uid, metadata.gid),
            seconds: metadata.mtime.seconds,
            content,
            attributes: metadata.xattrs.iter().map(|xattr| xattr.name.clone()).collect(),
            first,
        };
        entries.insert(path, (entry, shown));
    }
    entries
}

fn client(engine: &Engine) -> Client {
    Client::connect(Some(&engine.url)).unwrap()
}

fn layer(volumes: &Volumes, name: &str) -> ReachedLayer {
    reach(volumes, volumes.engine().container(name).unwrap()).unwrap()
}

on_every_engine! {
    fn both_ways_to_a_layer_give_the_same_tree(engine: &Engine) {
        let scene = Scene::new();
        let repository =
            lifeboat::init(&scene.text("repository"), &lifeboat::Secret::Passphrase(b"test")).unwrap();
        let volume = engine.volume();
        let container = engine.run("base", &["--volume", &volume.at("/mounted")], &[]);
        container.exec(&["sh", "-c", CHANGES]);
        let volumes = Volumes::new(&client(engine), "feed").unwrap();

        let direct = layer(&volumes, &container.name);
        let LayerWay::Direct(upper) = &direct.way else { panic!("{:?}", direct.way) };
        rustix::fs::setxattr(upper.join("etc/added"), "user.note", b"lost", rustix::fs::XattrFlags::empty()).unwrap();
        let mut direct = stored(&repository, direct.into_source(String::new()));
        // Something was made in it and removed again: an engine does not list that its time changed.
        assert!(direct.remove("layer/etc/skel").is_some());

        let before = engine.say(&["image", "ls", "--all", "--quiet", "--filter", "label=lifeboat.helper=feed"]);
        assert_eq!(before, "");
        let mut through = layer(&volumes, &container.name);
        through.way = LayerWay::Engine("a test says so".into());
        assert!(through.notice().is_some());
        let mut through = stored(&repository, through.into_source(String::new()));
        for kind in ["image", "container"] {
            let left = engine.say(&[kind, "ls", "--all", "--quiet", "--filter", "label=lifeboat.helper=feed"]);
            assert_eq!(left, "", "a {kind} is left over");
        }
        assert_eq!(container.state(), "running");

        // A folder that hides the image's; an engine lists what it hides.
        let hiding = "layer/usr/share/common-licenses";
        let hidden = |path: &str| path.starts_with(hiding) && !path.ends_with("licenses") && !path.ends_with("/only");
        let all = through.len();
        through.retain(|path, (entry, _)| !hidden(path) || entry.node != (Node::CharDevice { major: 0, minor: 0 }));
        assert!(all - through.len() >= 5, "{} of the hidden files are deleted", all - through.len());

        let names = |entries: &BTreeMap<String, _>| entries.keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(names(&direct), names(&through));
        let mut differences = Vec::new();
        for (path, (entry, expected)) in &direct {
            let (_, mut found) = through[path].clone();
            let mut expected = expected.clone();
            if path == "layer.json" {
                assert!(found.content.windows(14).any(|part| part == b"a test says so"));
                continue;
            }
            expected.attributes.retain(|name| [&b"trusted.overlay.opaque"[..], b"security.capability"].contains(&name.as_slice()));
            if entry.node == (Node::CharDevice { major: 0, minor: 0 }) {
                // Of what is deleted only the name means something; overlayfs links them to each other.
                expected = found.clone();
            }
            if ["layer", "layer/etc"].contains(&path.as_str()) {
                // The engine makes files of its own in there.
                found.seconds = expected.seconds;
            }
            if ["layer/etc/issue", hiding].contains(&path.as_str()) {
                assert_eq!(std::mem::take(&mut expected.attributes), [b"trusted.overlay.opaque"]);
            }
            if expected != found {
                differences.push(format!("{path}: {expected:?}\n instead: {found:?}"));
            }
        }
        assert!(differences.is_empty(), "{}", differences.join("\n"));

        let is_deleted = |path: &str| direct[path].0.node == (Node::CharDevice { major: 0, minor: 0 });
        assert!(is_deleted("layer/etc/group") && is_deleted("layer/srv"));
        for absent in ["layer/mounted", "layer/dev", "layer/etc/hosts", "layer/.dockerenv"] {
            assert!(!direct.contains_key(absent), "{absent}");
        }
        assert_eq!(direct["layer/new/sub/file"].1.first.as_deref(), Some("layer/new/linked"));
        for file in ["container.json", "image.json"] {
            let value: serde_json::Value = serde_json::from_slice(&direct[file].1.content).unwrap();
            assert!(value["Id"].is_string(), "{file}");
        }
        let networks: serde_json::Value = serde_json::from_slice(&direct["networks.json"].1.content).unwrap();
        assert_eq!(networks["bridge"]["Driver"], "bridge");
    }

    fn the_layer_of_a_container_that_stands_is_read_too(engine: &Engine) {
        let scene = Scene::new();
        let repository =
            lifeboat::init(&scene.text("repository"), &lifeboat::Secret::Passphrase(b"test")).unwrap();
        let container = engine.run("base", &[], &[]);
        container.exec(&["sh", "-c", "echo kept >/etc/added; rm /etc/group"]);
        container.does("kill");
        let volumes = Volumes::new(&client(engine), "feed").unwrap();
        let reached = layer(&volumes, &container.name);
        // The containerd store does not say where a layer is, and nothing is mounted.
        assert_eq!(matches!(reached.way, LayerWay::Engine(_)), engine.name == "containerd", "{:?}", reached.way);
        let entries = stored(&repository, reached.into_source(String::new()));
        assert_eq!(entries["layer/etc/added"].1.content, b"kept\n");
        assert_eq!(entries["layer/etc/group"].0.node, Node::CharDevice { major: 0, minor: 0 });
    }

    fn what_a_killed_run_left_of_a_copy_is_removed(engine: &Engine) {
        let state = tempfile::tempdir().unwrap();
        let container = engine.run("base", &["--label", "com.docker.compose.project=shop"], &[]);
        let client = client(engine);
        // Nobody holds the lock of this run: it is dead.
        let run = format!("{:032x}", std::process::id());
        std::fs::create_dir(state.path().join("helpers")).unwrap();
        std::fs::write(state.path().join("helpers").join(&run), "").unwrap();
        std::mem::forget(Frozen::copy(&client, &run, &client.container(&container.name).unwrap()).unwrap());
        let filter = format!("label=lifeboat.helper={run}");
        let left = |kind: &str| engine.say(&[kind, "ls", "--all", "--quiet", "--filter", &filter]);
        assert_eq!((left("image").lines().count(), left("container").lines().count()), (1, 1));
        let ours = engine.say(&["ps", "--all", "--quiet", "--filter", "label=com.docker.compose.project=shop"]);
        assert!(!ours.contains(&left("container")), "a copy is taken for a service");
        leftovers::remove(&client, state.path()).unwrap();
        assert_eq!((left("image"), left("container")), (String::new(), String::new()));
    }
}
