//! Images without an engine: what one saves is stored by file and comes back bit by bit, or it is not stored at all.

mod scene;

use lifeboat::backup::{ArchiveSpec, Counters, SourceSpec, backup};
use lifeboat::format::snapshot::{Source, SourceKind};
use lifeboat::format::{TreePath, hex};
use lifeboat::pieces::ChunkError;
use lifeboat::repo::reader::ChunkReader;
use lifeboat::snapshot_source::entries_below;
use lifeboat::workload::image::description::{Description, Store};
use lifeboat::workload::image::{Error, Images, LoadStream, Names, rewrite};
use lifeboat::{Quiet, Repository};
use scene::{Scene, noise};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashSet};
use std::io::{Cursor, Read};

/// A member of an archive: its content, or what it points to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Member {
    File(Vec<u8>),
    Link(String),
}

type Members = Vec<(String, Member)>;

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn pack(members: &Members) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, member) in members {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        match member {
            Member::File(bytes) => {
                header.set_size(bytes.len() as u64);
                header.set_entry_type(tar::EntryType::Regular);
                builder.append_data(&mut header, name, &bytes[..]).unwrap();
            }
            Member::Link(target) => {
                header.set_size(0);
                header.set_entry_type(tar::EntryType::Symlink);
                builder.append_link(&mut header, name, target).unwrap();
            }
        }
    }
    builder.into_inner().unwrap()
}

fn unpack(bytes: &[u8]) -> BTreeMap<String, Member> {
    let mut archive = tar::Archive::new(bytes);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        let link = entry.link_name().unwrap().map(|link| link.to_str().unwrap().to_owned());
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (name, link.map_or(Member::File(content), Member::Link))
    });
    entries.collect()
}

fn layer(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    pack(&files.iter().map(|(name, bytes)| ((*name).to_owned(), Member::File(bytes.clone()))).collect())
}

fn file(name: impl Into<String>, value: &Value) -> (String, Member) {
    (name.into(), Member::File(value.to_string().into_bytes()))
}

fn config(layers: &[Vec<u8>]) -> Value {
    let diff_ids: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", sha256(layer))).collect();
    json!({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}})
}

/// An image as an engine saves it, and what it says of itself.
struct Saved {
    members: Members,
    about: Description,
}

/// The OCI layout; `wrap` is how the store keeps a layer.
fn oci(layers: &[Vec<u8>], store: Store, wrap: impl Fn(&[u8]) -> Vec<u8>) -> Saved {
    let mut members: Members = Vec::new();
    let mut blob = |bytes: Vec<u8>| {
        let digest = sha256(&bytes);
        let described = json!({"digest": format!("sha256:{digest}"), "size": bytes.len()});
        let name = format!("blobs/sha256/{digest}");
        if members.iter().all(|(other, _)| *other != name) {
            members.push((name.clone(), Member::File(bytes)));
        }
        (name, described)
    };
    let (names, described): (Vec<String>, Vec<Value>) = layers.iter().map(|layer| blob(wrap(layer))).unzip();
    let (config_name, config) = blob(config(layers).to_string().into_bytes());
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": described});
    let (_, manifest) = blob(manifest.to_string().into_bytes());
    let id = if store == Store::Graph { &config } else { &manifest }["digest"].as_str().unwrap().to_owned();
    members.push(file("index.json", &json!({"schemaVersion": 2, "manifests": [manifest]})));
    members.push(file(
        "manifest.json",
        &json!([{"Config": config_name, "RepoTags": ["some/image:1"], "Layers": names}]),
    ));
    members.push(file("oci-layout", &json!({"imageLayoutVersion": "1.0.0"})));
    Saved { members, about: Description { version: 1, id, store, ..Description::default() } }
}

/// What engines before 25 write; a layer that occurs again is a link.
fn legacy(layers: &[Vec<u8>]) -> Saved {
    let (mut members, mut names): (Members, Vec<String>) = (Vec::new(), Vec::new());
    for (number, layer) in layers.iter().enumerate() {
        let name = format!("{number:064}/layer.tar");
        let first = layers.iter().position(|other| other == layer).unwrap();
        members.push(match first == number {
            true => (name.clone(), Member::File(layer.clone())),
            false => (name.clone(), Member::Link(format!("../{first:064}/layer.tar"))),
        });
        names.push(name);
    }
    let config = config(layers);
    let id = sha256(config.to_string().as_bytes());
    members.push(file(format!("{id}.json"), &config));
    members.push(file(
        "manifest.json",
        &json!([{"Config": format!("{id}.json"), "RepoTags": ["some/image:1"], "Layers": names}]),
    ));
    let about = Description { version: 1, id: format!("sha256:{id}"), ..Description::default() };
    Saved { members, about }
}

fn rewritten(saved: &[u8], about: &Description, images: Images) -> Result<(Vec<u8>, Description), Error> {
    let mut output = Vec::new();
    let description = rewrite(saved, &mut output, Description { images, ..about.clone() })?;
    Ok((output, description))
}

fn open(scene: &Scene) -> Repository {
    let key = lifeboat::read_key_file(&scene.path("key")).unwrap();
    lifeboat::open(&scene.text("repository"), &lifeboat::Secret::KeyFile(&key), None).unwrap()
}

/// Stores an image under a name; gives its source, its description, and how many bytes were new.
fn store(scene: &Scene, name: &str, saved: &Saved, images: Images) -> (Source, Description, u64) {
    let (archive, description) = rewritten(&pack(&saved.members), &saved.about, images).unwrap();
    let spec = ArchiveSpec::new(SourceKind::Image, name, move || Ok(Box::new(Cursor::new(archive.clone()))));
    let repository = open(scene);
    let options = lifeboat::backup_options(&scene.path("state"));
    let specs = [SourceSpec::Archive(spec)];
    let outcome = backup(&repository, &specs, &options, &Counters::default(), &Quiet).unwrap();
    assert_eq!(outcome.snapshot.errors(), 0);
    (outcome.snapshot.sources[0].clone(), description, outcome.snapshot.statistics.data_added)
}

/// The archive that an engine would be given.
fn loaded(scene: &Scene, source: &Source, description: &Description) -> std::io::Result<Vec<u8>> {
    let repository = open(scene);
    let reader = ChunkReader::new(&repository);
    let below = |path: &TreePath| {
        let all = entries_below(&reader, source.root, path).map_err(|error| Box::new(error) as ChunkError)?;
        Ok(Box::new(all) as Box<dyn Iterator<Item = _>>)
    };
    let mut bytes = Vec::new();
    LoadStream::new(description, &HashSet::new(), Names::Kept, below, &reader).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn layers() -> Vec<Vec<u8>> {
    let base = layer(&[
        ("bin/tool", noise("tool", 700_000)),
        ("etc/empty", Vec::new()),
        ("etc/conf", b"a=b".to_vec()),
    ]);
    let long = "deep/".repeat(40);
    let app = layer(&[(&format!("{long}app"), noise("app", 90_000)), ("etc/conf", b"a=c".to_vec())]);
    // What Go writes where nothing changed, and an archive that is none.
    vec![base.clone(), app, vec![0; 1024], noise("no archive", 5_000), base]
}

#[test]
fn an_image_comes_back_bit_by_bit_from_either_layout() {
    let scene = Scene::with_repository();
    let images = [oci(&layers(), Store::Graph, <[u8]>::to_vec), legacy(&layers())];
    for (number, saved) in images.iter().enumerate() {
        let (source, description, _) = store(&scene, &format!("image-{number}"), saved, Images::Exact);
        let bytes = loaded(&scene, &source, &description).unwrap();
        assert_eq!(unpack(&bytes), saved.members.iter().cloned().collect());
        assert_eq!(description.config, saved.about.id);
        assert_eq!(description.diff_ids.len(), 5);
        assert!(description.file(&description.layers[0]).unwrap().split);
    }
    scene.assert_sound();
}

#[test]
fn the_independent_reader_puts_the_same_archive_together() {
    let scene = Scene::with_repository();
    let gzipped = oci(&[unzipped(OF_GO)], Store::Containerd, |_| OF_GO.to_vec());
    let plain = oci(&layers(), Store::Graph, <[u8]>::to_vec);
    for (name, saved) in [("oci", plain), ("gzip", gzipped), ("legacy:1", legacy(&layers()))] {
        store(&scene, name, &saved, Images::Exact);
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/reader/read-repo");
        let out = scene.text(&format!("out-{name}"));
        let key = scene.text("key");
        let mut reader = std::process::Command::new(script);
        reader.arg(scene.path("repository")).args(["--key-file", &key, "image", "latest", name, &out]);
        scene::Done::of(&mut reader).expect(0);
        let archive = std::fs::read(scene.path(format!("out-{name}/image.tar"))).unwrap();
        assert_eq!(unpack(&archive), saved.members.iter().cloned().collect());
    }
}

#[test]
fn a_file_in_several_layers_images_and_folders_is_stored_once() {
    let scene = Scene::with_repository();
    let shared = noise("shared", 3 << 20);
    let first = layer(&[("usr/lib/shared", shared.clone()), ("first", noise("first", 1000))]);
    let (_, _, added) = store(&scene, "first", &oci(&[first], Store::Graph, <[u8]>::to_vec), Images::Exact);
    assert!(added > 3 << 20);
    // Elsewhere in another layer of another image, saved by another engine.
    let second = layer(&[("another/name/of/it", noise("second", 1000)), ("moved/shared", shared.clone())]);
    let (_, _, added) = store(&scene, "second", &legacy(std::slice::from_ref(&second)), Images::Exact);
    assert!(added < 64 << 10, "{added} bytes are new");
    // And compressed, by an engine that keeps it so.
    let wrap = |layer: &[u8]| zstd::encode_all(layer, 3).unwrap();
    let compressed = oci(&[second], Store::Containerd, wrap);
    let (_, _, added) = store(&scene, "third", &compressed, Images::Portable);
    assert!(added < 64 << 10, "{added} bytes are new");
    scene.write("folder/shared", &shared);
    let added = scene.snapshot(&["folder"])["data_added"].as_u64().unwrap();
    assert!(added < 64 << 10, "{added} bytes are new");
}

#[test]
fn a_compressed_image_is_kept_exactly_or_made_portable() {
    let scene = Scene::with_repository();
    let plain = layers();
    let saved = oci(&plain, Store::Containerd, |layer| zstd::encode_all(layer, 3).unwrap());
    let (source, description, _) = store(&scene, "exact", &saved, Images::Exact);
    let bytes = loaded(&scene, &source, &description).unwrap();
    assert_eq!(unpack(&bytes), saved.members.iter().cloned().collect());
    let (source, description, _) = store(&scene, "portable", &saved, Images::Portable);
    let members = unpack(&loaded(&scene, &source, &description).unwrap());
    let json = |name: &str| match &members[name] {
        Member::File(bytes) => serde_json::from_slice::<Value>(bytes).unwrap(),
        Member::Link(_) => panic!("{name} is a link"),
    };
    let manifest = json("manifest.json")[0].clone();
    let found: Vec<&Member> =
        manifest["Layers"].as_array().unwrap().iter().map(|name| &members[name.as_str().unwrap()]).collect();
    assert_eq!(found, plain.iter().cloned().map(Member::File).collect::<Vec<_>>().iter().collect::<Vec<_>>());
    let config = manifest["Config"].as_str().unwrap();
    assert_eq!(format!("sha256:{}", config.trim_end_matches(".json")), description.config);
    assert_eq!(json(config), config_of(&plain));
    assert!(!members.contains_key("index.json"));
}

/// A layer as Go's compressor writes it: made by a program of Go's, which is beside it.
const OF_GO: &[u8] = include_bytes!("../crates/lifeboat-gzip/tests/vectors/tar.gz");

fn unzipped(stream: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(stream).read_to_end(&mut plain).unwrap();
    plain
}

#[test]
fn a_layer_that_go_compressed_is_stored_by_file_and_comes_back_as_it_was() {
    let scene = Scene::with_repository();
    let plain = unzipped(OF_GO);
    // One that stops being predictable in the middle of a file, too.
    let mut broken = OF_GO.to_vec();
    let middle = broken.len() / 2;
    broken[middle..][..64].fill(0x55);
    for (stream, is_whole) in [(OF_GO, true), (&broken, false)] {
        let saved = oci(std::slice::from_ref(&plain), Store::Containerd, |_| stream.to_vec());
        let (source, description, _) = store(&scene, "one", &saved, Images::Exact);
        let record = description.file(&description.layers[0]).unwrap();
        assert_eq!((record.split, record.bytes), (true, stream.len() as u64));
        assert!(!is_whole || record.recipe == Some(plain.len() as u64), "{:?}", record.recipe);
        let archive = unpack(&loaded(&scene, &source, &description).unwrap());
        assert!(archive[&record.path] == Member::File(stream.to_vec()), "{is_whole}");
    }
    // What is in it is compared with what the configuration says.
    let other = oci(&[layer(&[("other", noise("other", 999))])], Store::Containerd, |_| OF_GO.to_vec());
    let error = rewritten(&pack(&other.members), &other.about, Images::Exact).unwrap_err();
    assert!(
        matches!(&error, Error::Incomplete(text) if text.contains("is not the one with the digest")),
        "{error}"
    );
}

fn config_of(layers: &[Vec<u8>]) -> Value {
    config(layers)
}

#[test]
fn what_is_missing_changed_or_hostile_is_told_and_never_stored() {
    for saved in [oci(&layers(), Store::Graph, <[u8]>::to_vec), legacy(&layers())] {
        let refused = |members: &Members, what: &str| {
            let result = rewritten(&pack(members), &saved.about, Images::Exact);
            assert!(matches!(result, Err(Error::Incomplete(_))), "{what}: {:?}", result.map(|_| ()));
        };
        for (number, (name, member)) in saved.members.iter().enumerate() {
            if name == "oci-layout" || name == "index.json" {
                continue;
            }
            let mut without = saved.members.clone();
            without.remove(number);
            refused(&without, &format!("without {name}"));
            if let Member::File(bytes) = member
                && name != "manifest.json"
            {
                let mut changed = bytes.clone();
                changed[bytes.len() / 2] ^= 1;
                let mut members = saved.members.clone();
                members[number].1 = Member::File(changed);
                refused(&members, &format!("{name} changed"));
                members[number].1 = Member::File(bytes[..bytes.len() - 1].to_vec());
                refused(&members, &format!("{name} short"));
            }
        }
        let twice = [&saved.members[..], &saved.members[..1]].concat();
        refused(&twice, "a name twice");
        let mut other = saved.about.clone();
        other.id = format!("sha256:{}", "0".repeat(64));
        let result = rewritten(&pack(&saved.members), &other, Images::Exact);
        assert!(matches!(result, Err(Error::Incomplete(text)) if text.contains("saved")));
        // An engine that dies, or calls a short archive a whole one.
        let whole = pack(&saved.members);
        for end in (0..whole.len() - 512).step_by(77 * 512 + 13) {
            let result = rewritten(&whole[..end], &saved.about, Images::Exact);
            assert!(result.is_err(), "it ends at {end} of {}", whole.len());
        }
    }
}

#[test]
fn of_several_platforms_those_that_are_there_are_stored_and_the_others_counted() {
    let scene = Scene::with_repository();
    let mut saved = oci(&layers(), Store::Containerd, <[u8]>::to_vec);
    let index = json!({"schemaVersion": 2, "manifests": [
        {"digest": saved.about.id, "platform": {"architecture": "amd64", "os": "linux"}},
        {"digest": format!("sha256:{}", "1".repeat(64)), "platform": {"architecture": "arm64", "os": "linux"}},
    ]});
    let digest = sha256(index.to_string().as_bytes());
    saved.members.retain(|(name, _)| name != "index.json");
    saved.members.push(file(format!("blobs/sha256/{digest}"), &index));
    let top = json!({"schemaVersion": 2, "manifests": [{"digest": format!("sha256:{digest}")}]});
    saved.members.push(file("index.json", &top));
    saved.about.id = format!("sha256:{digest}");
    let (source, description, _) = store(&scene, "several", &saved, Images::Exact);
    assert_eq!((description.absent_platforms, description.diff_ids.len()), (1, 5));
    let bytes = loaded(&scene, &source, &description).unwrap();
    assert_eq!(unpack(&bytes), saved.members.iter().cloned().collect());
    // The platform that is meant has to be whole, however deep it is named.
    let layer = description.layers[1].clone();
    let without: Members = saved.members.iter().filter(|(name, _)| *name != layer).cloned().collect();
    assert!(matches!(rewritten(&pack(&without), &saved.about, Images::Exact), Err(Error::Incomplete(_))));
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for name in ["../escape", "/absolute", "a/../../b", "./dot"] {
        let mut saved = legacy(&layers());
        // The `tar` crate would not write such a name.
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(0);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o644);
        header.set_cksum();
        saved.members.truncate(1);
        let archive = [header.as_bytes().as_slice(), &pack(&saved.members)].concat();
        let result = rewritten(&archive, &saved.about, Images::Exact);
        assert!(matches!(result, Err(Error::Incomplete(_))), "{name}");
    }
}

#[test]
fn an_image_that_is_not_what_it_was_has_no_end_mark() {
    let scene = Scene::with_repository();
    let saved = oci(&layers(), Store::Graph, <[u8]>::to_vec);
    let (source, description, _) = store(&scene, "image", &saved, Images::Exact);
    for number in 0..description.files.len() {
        let mut other = description.clone();
        other.files[number].sha256 = "0".repeat(64);
        assert!(loaded(&scene, &source, &other).is_err(), "{}", other.files[number].path);
        other.files[number] = description.files[number].clone();
        other.files[number].bytes += 1;
        assert!(loaded(&scene, &source, &other).is_err(), "{}", other.files[number].path);
    }
}
