//! Images: out of an engine and back into it, and into one that keeps them differently; and what is not believed.

use crate::engines::objects::Image;
use crate::engines::{Engine, on_every_engine};
use crate::scene::{Done, Scene, tool};
use lifeboat::pieces::ChunkError;
use lifeboat::repo::reader::ChunkReader;
use lifeboat::snapshot_source::entries_below;
use lifeboat::workload::engine::Engine as Client;
use lifeboat::workload::image::description::{Description, Store};
use lifeboat::workload::image::load::load;
use lifeboat::workload::image::plan::{Wanted, plan};
use lifeboat::workload::image::{LoadStream, Names};
use lifeboat_format::TreePath;
use serde_json::Value;
use std::collections::HashSet;

/// Runs lifeboat on an engine.
#[track_caller]
fn lifeboat(scene: &Scene, engine: &Engine, arguments: &[&str]) -> Done {
    Done::of(scene.lifeboat().env("DOCKER_HOST", &engine.url).args(arguments))
}

/// What `image inspect` says that is the same wherever an image is.
fn kernel(engine: &Engine, name: &str) -> Value {
    let image = engine.inspect("image", name);
    let mut config = image["Config"].clone();
    // Engines differ in what they say of what is not set.
    if let Some(map) = config.as_object_mut() {
        map.retain(|name, _| ["Env", "Cmd", "Labels", "WorkingDir"].contains(&name.as_str()));
    }
    serde_json::json!({"layers": image["RootFS"]["Layers"], "config": config})
}

/// The digest of an image's configuration, in hexadecimal; only on a graph store is it the image's id.
#[track_caller]
fn config(scene: &Scene, engine: &Engine, name: &str) -> String {
    let saved = scene.text("config.tar");
    engine.say(&["save", "--output", &saved, name]);
    let manifest: Value = serde_json::from_slice(&tool("tar", &["-xOf", &saved, "manifest.json"])).unwrap();
    let path = manifest[0]["Config"].as_str().unwrap();
    // `HEX.json`, or `blobs/sha256/HEX`.
    path.rsplit('/').next().unwrap().trim_end_matches(".json").to_owned()
}

#[track_caller]
fn says_hello(engine: &Engine, name: &str, word: &str) {
    assert_eq!(engine.say(&["run", "--rm", name, "cat", "/hello"]), word);
}

fn snapshot(scene: &Scene, engine: &Engine, image: &Image, more: &[&str]) -> Value {
    let source = format!("image:{}", image.name);
    lifeboat(scene, engine, &[&["snapshot", "--json", &source], more].concat()).expect(0).message("summary")
}

on_every_engine! {
    fn an_image_comes_back_with_its_id_and_all_its_names(engine: &Engine) {
        let scene = Scene::with_repository();
        let image = Image::make(engine, "first");
        let second = image.tag();
        let (id, kernel_before) = (image.id(), kernel(engine, &image.name));
        snapshot(&scene, engine, &image, &[]);
        let again = snapshot(&scene, engine, &image, &[]);
        assert_eq!(again["data_added"], 0);
        assert_eq!(again["files_new"], 0, "it was read again: {again}");
        image.remove();
        second.remove();
        lifeboat(&scene, engine, &["restore", "latest", "--to", "image:", "--plan"]).expect(0).prints("Would load");
        assert!(!engine.has("image", &image.name));
        lifeboat(&scene, engine, &["restore", "latest", "--to", "image:"]).expect(0);
        assert_eq!(image.id(), id);
        assert_eq!(second.id(), id);
        assert_eq!(kernel(engine, &image.name), kernel_before);
        says_hello(engine, &image.name, "first");
        // What is there is not sent again.
        lifeboat(&scene, engine, &["restore", "latest", "--to", "image:"]).expect(0).prints("already");
        scene.assert_sound();
    }

    fn a_file_in_layers_of_two_images_is_stored_once(engine: &Engine) {
        let scene = Scene::with_repository();
        let large = crate::scene::noise("in two layers", 8 << 20);
        let of = |word: &str| {
            // Longer than one piece of a file in a layer with a recipe.
            let files = [("hello", word.as_bytes()), ("large", &large[..]), ("long", &vec![7; 65 << 20])];
            Image::make_of(engine, &format!("lbt/{}:1", crate::engines::unique()), &files)
        };
        let (first, second) = (of("first"), of("second"));
        let added = snapshot(&scene, engine, &first, &[])["data_added"].as_u64().unwrap();
        assert!(added > 8 << 20, "{added}");
        let added = snapshot(&scene, engine, &second, &[])["data_added"].as_u64().unwrap();
        assert!(added < 1 << 20, "{added}");
        let id = second.id();
        second.remove();
        lifeboat(&scene, engine, &["restore", "latest", "--to", "image:"]).expect(0);
        assert_eq!(second.id(), id);
        says_hello(engine, &second.name, "second");
    }

    fn a_graph_store_is_given_only_layers_that_it_does_not_have(engine: &Engine) {
        let scene = Scene::with_repository();
        let image = Image::make(engine, "on top");
        let below = engine.inspect("image", "lifeboat-test/base:1");
        let below = (below["RootFS"]["Layers"].as_array().unwrap().len(), below["Size"].as_u64().unwrap());
        assert!(below.0 > 0 && below.1 > 16 << 20, "{below:?}");
        let id = image.id();
        snapshot(&scene, engine, &image, &[]);
        image.remove();
        let restore = |more: &[&str]| {
            let words = [&["restore", "latest", "--to", "image:", "--json"], more].concat();
            lifeboat(&scene, engine, &words).expect(0).message("summary")
        };
        for said in [restore(&["--plan"])["plan"].clone(), restore(&[])] {
            let (there, bytes) = (said["layers_there"].as_u64().unwrap(), said["bytes"].as_u64().unwrap());
            match engine.name.as_str() {
                "containerd" => assert!(there == 0 && bytes > 16 << 20, "{said}"),
                _ => assert!(there == below.0 as u64 && bytes < 1 << 20, "{said}"),
            }
        }
        assert_eq!(image.id(), id);
        says_hello(engine, &image.name, "on top");
    }

    fn an_image_without_a_name_comes_back_by_its_id(engine: &Engine) {
        let scene = Scene::with_repository();
        let image = Image::make(engine, "nameless");
        let id = image.id();
        let nameless = Image::adopt(engine, &id);
        // Only its id keeps it: a container does.
        let keeper = engine.create("base", &[], &[]);
        lifeboat(&scene, engine, &["snapshot", &format!("image:{id}")]).expect(0);
        drop(keeper);
        image.remove();
        lifeboat(&scene, engine, &["restore", "latest", "--to", &format!("image:{}", image.name)]).expect(0);
        assert_eq!(image.id(), id);
        drop(nameless);
    }

    fn a_name_that_another_image_has_is_not_taken_without_being_asked(engine: &Engine) {
        let scene = Scene::with_repository();
        let image = Image::make(engine, "mine");
        snapshot(&scene, engine, &image, &[]);
        image.remove();
        let other = Image::make_as(engine, &image.name, "other");
        let refused = lifeboat(&scene, engine, &["restore", "latest", "--to", "image:"]).expect(1);
        refused.says("another image has the name");
        says_hello(engine, &other.name, "other");
        lifeboat(&scene, engine, &["restore", "latest", "--to", "image:", "--overwrite", "always"]).expect(0);
        says_hello(engine, &image.name, "mine");
    }

    fn what_is_written_for_docker_load_is_loaded_by_it(engine: &Engine) {
        let scene = Scene::with_repository();
        let image = Image::make(engine, "by hand");
        let id = image.id();
        snapshot(&scene, engine, &image, &[]);
        image.remove();
        let output = scene.lifeboat().args(["restore", "latest", "--to", "-"]).output().unwrap();
        assert!(output.status.success());
        let file = scene.write("image.tar", &output.stdout);
        engine.say(&["load", "--quiet", "--input", file.to_str().unwrap()]);
        assert_eq!(engine.inspect("image", &id)["Id"], id.as_str());
        drop(Image::adopt(engine, &id));
    }

    fn an_image_whose_layers_did_not_arrive_is_no_image(engine: &Engine) {
        let scene = Scene::with_repository();
        let image = Image::make(engine, "hollow");
        snapshot(&scene, engine, &image, &[]);
        let id = image.id();
        image.remove();
        let key = lifeboat::read_key_file(&scene.path("key")).unwrap();
        let repository = lifeboat::open(&scene.text("repository"), &lifeboat::Secret::KeyFile(&key), None).unwrap();
        let snapshot = repository.snapshots().unwrap().snapshots[0].snapshot.clone();
        let reader = ChunkReader::new(&repository);
        let root = snapshot.sources[0].root;
        let below = |path: &TreePath| {
            let all = entries_below(&reader, root, path).map_err(|error| Box::new(error) as ChunkError)?;
            Ok(Box::new(all) as Box<dyn Iterator<Item = _>>)
        };
        let text = scene.run(&["dump", &format!("latest:image:{}/image.json", image.name)]).expect(0).text();
        let description = Description::read(text.as_bytes()).unwrap();
        let client = Client::connect(Some(&engine.url)).unwrap();
        let planned = plan(&client, &client.info().unwrap(), description, &Wanted::default()).unwrap();
        let top: HashSet<String> = planned.description.layers.last().cloned().into_iter().collect();
        let stream = |_: &HashSet<String>| LoadStream::new(&planned.description, &top, Names::Dropped, below, &reader);
        let result = load(&client, "feed", &planned, stream);
        assert!(result.is_err(), "{result:?}");
        assert!(!engine.has("image", &image.name) && !engine.has("image", &id));
        // A layer that is gone since it was planned without it: all of it is sent.
        let mut wrong = planned.clone();
        wrong.omitted = top.clone();
        let stream = |omitted: &HashSet<String>| LoadStream::new(&wrong.description, omitted, Names::Dropped, below, &reader);
        assert_eq!(load(&client, "feed", &wrong, stream).unwrap().id, id);
        says_hello(engine, &image.name, "hollow");
        if engine.name != "containerd" {
            // The same layers with another configuration are another image, whatever kind of store they come from.
            image.remove();
            for store in [Store::Graph, Store::Containerd] {
                let mut other = planned.clone();
                other.description.config = format!("sha256:{}", "0".repeat(64));
                other.description.store = store;
                let stream = |omitted: &HashSet<String>| LoadStream::new(&other.description, omitted, Names::Dropped, below, &reader);
                let error = load(&client, "feed", &other, stream).unwrap_err().to_string();
                assert!(error.contains("instead of"), "{error}");
                assert!(!engine.has("image", &image.name) && !engine.has("image", &id));
            }
        }
        assert_eq!(engine.say(&["ps", "--all", "--quiet", "--filter", "label=lifeboat.helper=feed"]), "");
    }
}

#[test]
fn between_kinds_of_store_the_layers_and_the_configuration_stay() {
    for (from, to) in
        [("system", "containerd"), ("graph", "containerd"), ("containerd", "system"), ("containerd", "graph")]
    {
        let (from, to) = (Engine::named(from), Engine::named(to));
        let scene = Scene::with_repository();
        let image = Image::make(from, "travelling");
        let arrived = Image::adopt(to, &image.name);
        snapshot(&scene, from, &image, &[]);
        lifeboat(&scene, to, &["restore", "latest", "--to", "image:"]).expect(0).says("its id changes");
        assert_eq!(kernel(to, &arrived.name), kernel(from, &image.name));
        assert_ne!(arrived.id(), image.id());
        assert_eq!(config(&scene, to, &arrived.name), config(&scene, from, &image.name));
        says_hello(to, &arrived.name, "travelling");
    }
}

#[test]
fn a_portable_image_shares_its_files_and_gives_up_its_id() {
    let engine = Engine::named("containerd");
    let scene = Scene::with_repository();
    let (first, second) = (Image::make(engine, "one"), Image::make(engine, "two"));
    let exact = lifeboat(&scene, engine, &["snapshot", &format!("image:{}", first.name)]).expect(0);
    // What Go compressed has a recipe.
    exact.says_not("as the engine compressed them");
    snapshot(&scene, engine, &first, &["--images", "portable"]);
    let added = snapshot(&scene, engine, &second, &["--images", "portable"])["data_added"].as_u64().unwrap();
    assert!(added < 64 << 10, "{added} bytes are new");
    let before = kernel(engine, &second.name);
    second.remove();
    lifeboat(&scene, engine, &["restore", "latest", "--to", "image:"]).expect(0);
    assert_eq!(kernel(engine, &second.name), before);
    says_hello(engine, &second.name, "two");
}

/// Compresses the topmost layer of a saved image in another way than Go does; says how long it is then.
const OTHER_GZIP: &str = r#"
import gzip, hashlib, json, os, sys
folder = sys.argv[1]
blobs = folder + "/blobs/sha256/"
def put(entry, content):
    digest = hashlib.sha256(content).hexdigest()
    open(blobs + digest, "wb").write(content)
    entry.update(digest="sha256:" + digest, size=len(content))
index = json.load(open(folder + "/index.json"))
manifest = json.load(open(blobs + index["manifests"][0]["digest"][7:]))
layer = manifest["layers"][-1]
plain = gzip.decompress(open(blobs + layer["digest"][7:], "rb").read())
put(layer, gzip.compress(plain, 9))
put(index["manifests"][0], json.dumps(manifest).encode())
json.dump(index, open(folder + "/index.json", "w"))
os.remove(folder + "/manifest.json")
print(layer["size"])
"#;

#[test]
fn how_much_of_an_image_is_stored_as_it_was_compressed_is_told() {
    let engine = Engine::named("containerd");
    let scene = Scene::with_repository();
    let text: Vec<u8> = (0..100_000_u32).flat_map(|number| format!("{number} ").into_bytes()).collect();
    let image = Image::make_of(
        engine,
        &format!("lbt/{}:1", crate::engines::unique()),
        &[("hello", b"other"), ("text", &text)],
    );
    let saved = scene.text("saved.tar");
    engine.say(&["save", "--output", &saved, &image.name]);
    image.remove();
    std::fs::create_dir(scene.path("saved")).unwrap();
    tool("tar", &["-xf", &saved, "-C", &scene.text("saved")]);
    let length = tool("python3", &["-c", OTHER_GZIP, &scene.text("saved")]);
    let length: u64 = String::from_utf8(length).unwrap().trim().parse().unwrap();
    tool("tar", &["-cf", &saved, "-C", &scene.text("saved"), "."]);
    engine.say(&["load", "--input", &saved]);
    let id = image.id();
    let source = format!("image:{}", image.name);
    let done = lifeboat(&scene, engine, &["snapshot", &source]).expect(0);
    done.says("of layers are stored as the engine compressed them").says("--images portable");
    let told = lifeboat(&scene, engine, &["snapshot", "--json", &source]).expect(0).message("image");
    assert_eq!(told["layer_bytes_as_they_are"], length, "{told}");
    assert!(told["layer_bytes_by_file"].as_u64().unwrap() > 1 << 20, "{told}");
    image.remove();
    lifeboat(&scene, engine, &["restore", "latest", "--to", "image:"]).expect(0);
    assert_eq!(image.id(), id);
    says_hello(engine, &image.name, "other");
}

/// Takes the last layer of an image out of a containerd store, as a fault would.
pub(crate) fn lose_a_layer(scene: &Scene, engine: &Engine, image: &Image) {
    let manifest = scene.path("manifest.tar");
    engine.say(&["save", "--output", manifest.to_str().unwrap(), &image.name]);
    let text = tool("tar", &["-xOf", manifest.to_str().unwrap(), "manifest.json"]);
    let layers: Value = serde_json::from_slice(&text).unwrap();
    let layer = layers[0]["Layers"].as_array().unwrap().last().unwrap().as_str().unwrap().to_owned();
    let digest = format!("sha256:{}", layer.rsplit('/').next().unwrap());
    // containerd's own command, on the containerd that the engine keeps images in.
    let program = std::path::PathBuf::from(crate::engines::compose_program());
    let bin = program.ancestors().nth(4).unwrap().join("bin/ctr");
    let socket = engine.url.strip_prefix("unix://").unwrap().replace("docker.sock", "containerd.sock");
    let words = ["--address", &socket, "--namespace", "moby", "content", "rm", &digest];
    tool(bin.to_str().unwrap(), &words);
}

#[test]
fn an_image_of_which_the_engine_lost_a_layer_is_incomplete_and_not_stored() {
    let engine = Engine::named("containerd");
    let scene = Scene::with_repository();
    let image = Image::make(engine, "loses a layer");
    lose_a_layer(&scene, engine, &image);
    let source = format!("image:{}", image.name);
    let done = lifeboat(&scene, engine, &["snapshot", &source]).expect(3);
    done.says("image incomplete").says(&format!("docker pull {}", image.name));
    assert_eq!(scene.snapshots().len(), 0);
    scene.write("folder/file", "content");
    lifeboat(&scene, engine, &["snapshot", "folder", &source]).expect(3).says("image incomplete");
    assert_eq!(scene.snapshots()[0]["sources"].as_array().unwrap().len(), 1);
}

#[test]
fn an_image_that_is_not_there_is_told() {
    let engine = Engine::named("graph");
    let scene = Scene::with_repository();
    lifeboat(&scene, engine, &["snapshot", "image:no-such-image:1"]).expect(1).says("no-such-image");
    scene.write("folder/file", "content");
    lifeboat(&scene, engine, &["snapshot", "folder", "image:no-such-image:1"]).expect(3);
}

/// Makes of a saved image one of an index that lists another platform too, of which nothing is there.
const TWO_PLATFORMS: &str = r#"
import hashlib, json, os, sys
folder, name, architecture = sys.argv[1:]
index = json.load(open(folder + "/index.json"))
ours = index["manifests"][0]
ours.pop("annotations", None)
ours["platform"] = {"os": "linux", "architecture": architecture}
theirs = dict(ours, digest="sha256:" + hashlib.sha256(b"nowhere").hexdigest(), platform={"os": "linux", "architecture": "s390x"})
kind = "application/vnd.oci.image.index.v1+json"
blob = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": [theirs, ours]}).encode()
digest = hashlib.sha256(blob).hexdigest()
open(folder + "/blobs/sha256/" + digest, "wb").write(blob)
os.remove(folder + "/manifest.json")
top = {"mediaType": kind, "digest": "sha256:" + digest, "size": len(blob),
       "annotations": {"io.containerd.image.name": "docker.io/" + name, "org.opencontainers.image.ref.name": name.split(":")[1]}}
json.dump({"schemaVersion": 2, "mediaType": kind, "manifests": [top]}, open(folder + "/index.json", "w"))
print("sha256:" + digest)
"#;

#[test]
fn an_image_of_several_platforms_of_which_one_is_there_comes_back_with_its_id() {
    let engine = Engine::named("containerd");
    let scene = Scene::with_repository();
    let image = Image::make(engine, "one of two");
    let architecture = engine.inspect("image", &image.name)["Architecture"].as_str().unwrap().to_owned();
    let saved = scene.text("saved.tar");
    engine.say(&["save", "--output", &saved, &image.name]);
    image.remove();
    std::fs::create_dir(scene.path("saved")).unwrap();
    tool("tar", &["-xf", &saved, "-C", &scene.text("saved")]);
    let made = tool("python3", &["-c", TWO_PLATFORMS, &scene.text("saved"), &image.name, &architecture]);
    let id = String::from_utf8(made).unwrap().trim().to_owned();
    tool("tar", &["-cf", &saved, "-C", &scene.text("saved"), "."]);
    engine.say(&["load", "--input", &saved]);
    assert_eq!(image.id(), id);
    says_hello(engine, &image.name, "one of two");
    snapshot(&scene, engine, &image, &[]);
    image.remove();
    assert!(!engine.has("image", &id));
    lifeboat(&scene, engine, &["restore", "latest", "--to", "image:"]).expect(0);
    assert_eq!(image.id(), id);
    says_hello(engine, &image.name, "one of two");
    // On a graph store there is only the one platform, with its own id.
    let graph = Engine::named("graph");
    lifeboat(&scene, graph, &["restore", "latest", "--to", "image:"]).expect(0);
    let there = Image::adopt(graph, &image.name);
    says_hello(graph, &there.name, "one of two");
    scene.assert_sound();
}
