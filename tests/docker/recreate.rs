//! Containers that are made anew: the same to `docker inspect`, but for what the documentation says.

use crate::engines::objects::{Container, Image, Volume};
use crate::engines::{Engine, on_every_engine};
use crate::scene::{Done, Scene};
use lifeboat::Quiet;
use lifeboat::backup::{Counters, SourceSpec, backup};
use lifeboat::workload::engine::Engine as Client;
use lifeboat::workload::layer::reach::{LayerWay, reach};
use lifeboat::workload::volume::Volumes;
use serde_json::Value;
use std::path::Path;

/// What the documentation says is not as it was.
const DOCUMENTED: &str = include_str!("../../docs/containers.md");

/// Runs lifeboat on an engine.
#[track_caller]
fn lifeboat(scene: &Scene, engine: &Engine, arguments: &[&str]) -> Done {
    Done::of(scene.lifeboat().env("DOCKER_HOST", &engine.url).args(arguments))
}

/// The same with nothing of the engine's on this machine's disk, as when it is elsewhere.
#[track_caller]
fn lifeboat_elsewhere(scene: &Scene, engine: &Engine, arguments: &[&str]) -> Done {
    let mut plain = scene.lifeboat();
    plain.args(arguments).env("DOCKER_HOST", &engine.url);
    Done::of(&mut engine.hidden_from(&plain))
}

/// Takes a snapshot of containers and volumes; `change` is for the way to a layer.
fn snapshot(
    scene: &Scene,
    engine: &Engine,
    containers: &[&str],
    volumes: &[&str],
    change: impl Fn(&mut LayerWay),
) {
    let client = Client::connect(Some(&engine.url)).unwrap();
    let run = Volumes::new(&client, "feed").unwrap();
    let containers = containers.iter().map(|name| {
        let mut reached = reach(&run, client.container(name).unwrap()).unwrap();
        change(&mut reached.way);
        reached.into_source(String::new())
    });
    let volumes = volumes.iter().map(|name| run.to_read(name).unwrap().into_source());
    let specs: Vec<SourceSpec> = containers.chain(volumes).collect();
    let key = lifeboat::read_key_file(&scene.path("key")).unwrap();
    let repository =
        lifeboat::open(&scene.text("repository"), &lifeboat::Secret::KeyFile(&key), None).unwrap();
    let options = lifeboat::backup_options(&scene.path("state"));
    let outcome = backup(&repository, &specs, &options, &Counters::default(), &Quiet).unwrap();
    assert_eq!(outcome.sources_failed + outcome.snapshot.errors(), 0);
}

/// The patterns of the documentation's table.
fn documented() -> Vec<Vec<String>> {
    let rows = DOCUMENTED.lines().filter_map(|line| line.strip_prefix("| `/"));
    let cells = rows.map(|row| row.split(" | ").next().unwrap());
    let found: Vec<Vec<String>> = cells
        .flat_map(|cell| cell.split('`').filter(|part| !part.trim_matches([',', ' ']).is_empty()))
        .map(|pattern| pattern.trim_start_matches('/').split('/').map(str::to_owned).collect())
        .collect();
    assert!(found.len() > 1, "the table is not understood");
    found
}

/// Takes out what a pattern means; `*` is every member.
fn take_out(value: &mut Value, pattern: &[String]) {
    let [name, rest @ ..] = pattern else { return };
    match value {
        Value::Object(map) if rest.is_empty() && name == "*" => map.clear(),
        Value::Object(map) if rest.is_empty() => _ = map.remove(name),
        Value::Object(map) if name == "*" => map.values_mut().for_each(|value| take_out(value, rest)),
        Value::Object(map) => map.get_mut(name).into_iter().for_each(|value| take_out(value, rest)),
        // The table says this of anonymous volumes only.
        Value::Array(list) if name == "*" => {
            list.iter_mut().filter(|one| is_anonymous(one)).for_each(|value| take_out(value, rest));
        }
        _ => {}
    }
}

/// Whether it is a mount of a volume whose name the engine made.
fn is_anonymous(mount: &Value) -> bool {
    mount["Name"].as_str().is_none_or(|name| name.len() == 64)
}

/// Where two values differ.
fn differences(at: &str, before: &Value, after: &Value, found: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(left), Value::Object(right)) => {
            for name in left.keys().chain(right.keys().filter(|name| !left.contains_key(*name))) {
                let (left, right) = (left.get(name), right.get(name));
                let nothing = Value::String("(absent)".into());
                differences(
                    &format!("{at}/{name}"),
                    left.unwrap_or(&nothing),
                    right.unwrap_or(&nothing),
                    found,
                );
            }
        }
        _ if before != after => found.push(format!("{at}: {before} became {after}")),
        _ => {}
    }
}

/// Mounts have no order.
fn sorted(mut inspected: Value) -> Value {
    if let Some(mounts) = inspected["Mounts"].as_array_mut() {
        mounts.sort_by_key(|mount| mount["Destination"].as_str().unwrap().to_owned());
    }
    inspected
}

#[track_caller]
fn assert_same(engine: &Engine, before: Value, after: Value) {
    let (mut before, mut after) = (sorted(before), sorted(after));
    for pattern in documented() {
        take_out(&mut before, &pattern);
        take_out(&mut after, &pattern);
    }
    let mut found = Vec::new();
    differences("", &before, &after, &mut found);
    assert!(found.is_empty(), "on {}:\n{}", engine.name, found.join("\n"));
}

/// A name of an image, which goes with the test.
struct Tagged<'e> {
    engine: &'e Engine,
    name: String,
}

impl<'e> Tagged<'e> {
    fn new(engine: &'e Engine) -> Self {
        Self { engine, name: Volume::reserved(engine).name.clone() }
    }
}

impl Drop for Tagged<'_> {
    fn drop(&mut self) {
        let _ = self.engine.docker(&["rmi", "--force", &self.name]).output();
    }
}

fn has_several_networks(engine: &Engine) -> bool {
    engine.name != "system"
}

/// A number for subnets that no two tests share.
fn net(engine: &Engine, number: u8) -> u8 {
    let engine = ["system", "graph", "containerd"].iter().position(|name| *name == engine.name).unwrap();
    u8::try_from(engine).unwrap() * 20 + number
}

on_every_engine! {
    fn a_container_with_everything_comes_back_as_it_was(engine: &Engine) {
        let scene = Scene::with_repository();
        let (a, b) = (net(engine, 0), net(engine, 1));
        let bridge = format!("com.docker.network.bridge.name=lbt{b}");
        let first = engine.network(&["--subnet", &format!("10.211.{a}.0/24"), "--label", "kept=yes"]);
        let second = engine.network(&[
            "--subnet", &format!("10.211.{b}.0/24"), "--gateway", &format!("10.211.{b}.9"), "--opt", &bridge, "--internal",
        ]);
        let named = engine.volume_with(&["--label", "volume=kept"]);
        let other = engine.volume();
        let bound = scene.path("bound");
        std::fs::create_dir(&bound).unwrap();
        let ip = format!("10.211.{a}.77");
        let mut options = vec![
            "--network", &first.name, "--ip", &ip, "--network-alias", "alias-one", "--network-alias", "alias-two",
        ];
        if has_several_networks(engine) {
            options.extend(["--mac-address", "02:11:22:33:44:55"]);
        }
        let (at_named, at_other) = (named.at("/named"), format!("{}:/other:ro", other.name));
        let at_bound = format!("{}:/bound:ro", bound.display());
        let mounted = format!("type=bind,source={},target=/bound2,readonly", bound.display());
        options.extend([
            "--volume", &at_named, "--volume", &at_other, "--volume", "/anonymous", "--volume", &at_bound,
            "--mount", "type=volume,target=/anonymous2", "--mount", "type=tmpfs,target=/scratch,tmpfs-size=1000000",
            "--mount", &mounted, "--tmpfs", "/run:size=1m",
            "--publish", "127.0.0.1::80", "--publish", "127.0.0.1::81/udp", "--expose", "99",
            "--health-cmd", "true", "--health-interval", "7s", "--health-retries", "4",
            "--label", "team=blue", "--restart", "on-failure:3", "--ulimit", "nofile=100:200",
            "--device", "/dev/null:/dev/nothing:r", "--log-opt", "max-size=1m", "--log-opt", "max-file=2",
            "--cap-add", "NET_ADMIN", "--cap-drop", "MKNOD", "--env", "SECRET=do-not-show", "--env", "EMPTY=",
            "--memory", "64m", "--cpus", "0.5", "--pids-limit", "99", "--hostname", "host-of-it", "--add-host", "foo:1.2.3.4",
            "--dns", "9.9.9.9", "--dns-search", "example.org", "--sysctl", "net.core.somaxconn=99", "--init",
            "--shm-size", "8m", "--stop-signal", "SIGINT", "--stop-timeout", "3", "--user", "0:7", "--workdir", "/tmp",
            "--group-add", "8", "--ipc", "private", "--oom-score-adj", "5", "--security-opt", "no-new-privileges", "--tty",
        ]);
        let container = engine.run("base", &options, &["sleep", "1000"]);
        engine.say(&["network", "connect", "--ip", &format!("10.211.{b}.88"), "--alias", "in-second", &second.name, &container.name]);
        container.exec(&["sh", "-c", "echo data >/named/file; echo in >/anonymous/file; echo two >/anonymous2/file; echo layer >/etc/added; rm /etc/issue; echo more >>/etc/passwd"]);
        let before = container.inspect();
        let networks = [&first, &second].map(|network| engine.inspect("network", &network.name));
        let anonymous: Vec<String> = before["Mounts"].as_array().unwrap().iter()
            .filter(|mount| mount["Destination"].as_str().unwrap().starts_with("/anonymous"))
            .map(|mount| mount["Name"].as_str().unwrap().to_owned()).collect();
        let volumes = [&[named.name.as_str()][..], &anonymous.iter().map(String::as_str).collect::<Vec<_>>()].concat();
        snapshot(&scene, engine, &[&container.name], &volumes, |_| {});
        let password = container.exec(&["cat", "/etc/passwd"]);

        engine.say(&["rm", "--force", "--volumes", &container.name]);
        for network in [&first, &second] {
            engine.say(&["network", "rm", &network.name]);
        }
        engine.say(&["volume", "rm", &named.name]);
        let wanted = format!("latest:container:{}", container.name);
        let planned = lifeboat(&scene, engine, &["restore", &wanted, "--to", "container:", "--with-volumes", "--plan"]);
        let planned = String::from_utf8(planned.expect(0).stdout).unwrap();
        assert!(planned.contains("SECRET") && !planned.contains("do-not-show"), "{planned}");
        assert!(planned.contains(&first.name) && planned.contains(&named.name), "{planned}");
        assert!(!engine.has("container", &container.name) && !engine.has("network", &first.name), "a plan does nothing");
        let done = lifeboat(&scene, engine, &["restore", &wanted, "--to", "container:", "--with-volumes", "--start", "--json"]);
        let done = done.expect(0);
        assert!(!String::from_utf8_lossy(&done.stdout).contains("do-not-show") && !done.stderr.contains("do-not-show"));
        assert_eq!((&done.message("summary")["files_deleted"], &done.message("summary")["files_not_deleted"]), (&1.into(), &0.into()));

        // Through the engine a deletion is made by an image of its own.
        let is_derived = engine.name == "containerd";
        let of_image = |mut inspected: Value| {
            if is_derived {
                inspected["Config"]["Image"].take();
                inspected["Image"].take();
                inspected["ImageManifestDescriptor"].take();
            }
            inspected
        };
        let made_of = container.inspect()["Config"]["Image"].as_str().unwrap().to_owned();
        assert_eq!(made_of.starts_with("lifeboat-derived:"), is_derived, "{made_of}");
        assert_same(engine, of_image(before.clone()), of_image(container.inspect()));
        for (network, before) in [&first, &second].into_iter().zip(networks) {
            let after = engine.inspect("network", &network.name);
            for field in ["Name", "Driver", "IPAM", "Options", "Labels", "Internal", "EnableIPv6", "Attachable"] {
                assert_eq!(before[field], after[field], "{field}");
            }
        }
        let aliases = |inspected: &Value, network: &str| {
            let short = inspected["Id"].as_str().unwrap()[..12].to_owned();
            let list = inspected["NetworkSettings"]["Networks"][network]["Aliases"].as_array().unwrap();
            list.iter().map(|alias| alias.as_str().unwrap().replace(&short, "ID")).collect::<Vec<_>>()
        };
        let after = container.inspect();
        let in_first = |inspected: &Value, field: &str| inspected["NetworkSettings"]["Networks"][&first.name][field].clone();
        assert_eq!(in_first(&after, "IPAddress"), ip);
        if has_several_networks(engine) {
            assert_eq!(in_first(&after, "MacAddress"), "02:11:22:33:44:55");
        }
        for network in [&first, &second] {
            assert_eq!(aliases(&before, &network.name), aliases(&after, &network.name));
        }
        assert_eq!(container.exec(&["cat", "/named/file", "/anonymous/file", "/anonymous2/file", "/etc/added"]), "data\nin\ntwo\nlayer");
        assert_eq!(container.exec(&["cat", "/etc/passwd"]), password);
        assert!(!container.try_exec(&["test", "-e", "/etc/issue"]).status.success());
        assert_eq!(engine.inspect("volume", &named.name)["Labels"]["volume"], "kept");
        // What the engine made for a container goes with it.
        let mounts = after["Mounts"].as_array().unwrap().clone();
        let anonymous = mounts.iter().find(|mount| mount["Destination"] == "/anonymous").unwrap()["Name"].as_str().unwrap().to_owned();
        engine.say(&["rm", "--force", "--volumes", &container.name]);
        assert!(!engine.has("volume", &anonymous) && engine.has("volume", &named.name));
        if is_derived {
            engine.say(&["rmi", &made_of]);
        }
        assert!(Path::new(&bound).exists());
    }

    fn deletions_and_changes_of_kind_come_back_through_the_engine_too(engine: &Engine) {
        let scene = Scene::with_repository();
        let image = Image::adopt(engine, &format!("lbt/{}:1", Volume::reserved(engine).name));
        let setup = engine.run("base", &[], &["sleep", "1000"]);
        setup.exec(&["sh", "-c", "mkdir -p /t/folder/sub /t/hidden /t/gone/deep /t/kept /t/back; for f in folder/sub/f hidden/old gone/deep/f kept/a kept/b file back/f; do echo image >/t/$f; done; ln -s kept /t/link; chmod 710 /t/kept; chown 7:9 /t/kept"]);
        engine.say(&["commit", "--change", "LABEL of=image", "--change", "ENV A=b", &setup.name, &image.name]);
        let container = engine.run(&image.name, &["--label", "mine=1"], &["sleep", "1000"]);
        container.exec(&["sh", "-c", "cd /t; rm -r gone kept/a; rm -r folder && echo now-file >folder; rm -r hidden && mkdir hidden && echo new >hidden/new; rm file && mkdir file && echo in >file/in; rm link && mkdir link; rm -r back && mkdir back && echo image >back/f; rm /etc/issue"]);
        let listed = |container: &Container| container.exec(&["sh", "-c", "cd /t; find . | sort | while read f; do stat -c '%n %F %a %u:%g' $f; test -f $f && cat $f; done; test -e /etc/issue || echo no issue"]);
        let (before, labels) = (listed(&container), container.inspect()["Config"]["Labels"].clone());
        let (id, environment) = (container.inspect()["Image"].clone(), container.inspect()["Config"]["Env"].clone());
        snapshot(&scene, engine, &[&container.name], &[], |way| *way = LayerWay::Engine("a test says so".into()));
        engine.say(&["rm", "--force", &container.name]);
        let source = format!("latest:container:{}", container.name);
        let restore = ["restore", &source, "--to", "container:", "--start", "--json"];
        let done = lifeboat_elsewhere(&scene, engine, &restore).expect(0);
        assert_eq!(listed(&container), before, "{}", done.stderr);
        let after = container.inspect();
        assert_eq!((&after["Config"]["Labels"], &after["Config"]["Env"]), (&labels, &environment));
        let made_of = after["Config"]["Image"].as_str().unwrap().to_owned();
        assert!(after["Image"] != id && made_of.starts_with("lifeboat-derived:"), "{made_of}");
        // What is deleted later comes on top of it.
        container.exec(&["sh", "-c", "rm /t/kept/b"]);
        snapshot(&scene, engine, &[&container.name], &[], |way| *way = LayerWay::Engine("a test says so".into()));
        engine.say(&["rm", "--force", &container.name]);
        lifeboat_elsewhere(&scene, engine, &restore).expect(0);
        let twice = container.inspect()["Config"]["Image"].as_str().unwrap().to_owned();
        assert!(twice != made_of && container.try_exec(&["test", "-e", "/t/kept/b"]).status.code() == Some(1));
        assert_eq!(container.exec(&["cat", "/t/hidden/new"]), "new");
        // Nobody's goes with `recover`, and one that a container is made of stays.
        let recover = || Done::of(scene.lifeboat().env("DOCKER_HOST", &engine.url).arg("recover")).expect(0);
        recover();
        assert!(engine.has("image", &twice));
        engine.say(&["rm", "--force", &container.name]);
        engine.say(&["rmi", &twice, &made_of]);
    }

    fn containers_that_need_each_other_come_back_with_each_other(engine: &Engine) {
        let scene = Scene::with_repository();
        let owner = engine.run("base", &["--publish", "127.0.0.1::80", "--ipc", "shareable"], &["sleep", "1000"]);
        let network = format!("container:{}", owner.name);
        let guest = engine.run("base", &["--network", &network, "--ipc", &network, "--pid", &network], &["sleep", "1000"]);
        let link = format!("{}:alias", owner.name);
        let linked = engine.run("base", &["--link", &link, "--volumes-from", &format!("{}:ro", owner.name)], &["sleep", "1000"]);
        let host = engine.run("base", &["--network", "host", "--pid", "host", "--uts", "host"], &["sleep", "1000"]);
        let none = engine.run("base", &["--network", "none", "--read-only", "--entrypoint", "sleep"], &["1000"]);
        let all = [&owner, &guest, &linked, &host, &none];
        let before = all.map(Container::inspect);
        snapshot(&scene, engine, &all.map(|container| container.name.as_str()), &[], |_| {});
        for container in all.iter().rev() {
            engine.say(&["rm", "--force", "--volumes", &container.name]);
        }
        let restore = |container: &Container| {
            let source = format!("latest:container:{}", container.name);
            lifeboat(&scene, engine, &["restore", &source, "--to", "container:", "--start"])
        };
        let refused = restore(&guest).expect(1);
        assert!(refused.stderr.contains(&owner.name), "{}", refused.stderr);
        for container in all {
            restore(container).expect(0);
        }
        let after = all.map(Container::inspect);
        for (mut before, mut after) in before.into_iter().zip(after) {
            // Of whom it is: the id of another container that is new as well.
            for field in ["NetworkMode", "IpcMode", "PidMode"] {
                let of = after["HostConfig"][field].as_str().unwrap().to_owned();
                if let Some(id) = of.strip_prefix("container:") {
                    assert_eq!(id, owner.id());
                    before["HostConfig"][field] = Value::Null;
                    after["HostConfig"][field] = Value::Null;
                }
            }
            assert_same(engine, before, after);
        }
    }

    fn what_speaks_against_it_is_said_before_anything_is_made(engine: &Engine) {
        let scene = Scene::with_repository();
        let volume = engine.volume();
        let network = engine.network(&[]);
        let container = engine.run("base", &["--network", &network.name, "--volume", &volume.at("/data")], &["sleep", "1000"]);
        snapshot(&scene, engine, &[&container.name], &[&volume.name], |_| {});
        let source = format!("latest:container:{}", container.name);
        let restore = |more: &[&str]| {
            lifeboat(&scene, engine, &[&["restore", &source, "--to"], more].concat())
        };
        let refused = restore(&["container:"]).expect(1);
        assert!(refused.stderr.contains("already") && refused.stderr.contains("Hint"), "{}", refused.stderr);
        for name in ["container:bad/name", "container:-x", "container:a b"] {
            assert!(restore(&[name]).expect(1).stderr.contains("cannot be the name"), "{name}");
        }
        // Under another name it is made beside the first.
        let second = Container::adopt(engine, &Volume::reserved(engine).name);
        let to_second = format!("container:{}", second.name);
        restore(&[&to_second]).expect(0);
        assert_eq!(second.state(), "created");
        engine.say(&["rm", "--volumes", &second.name]);
        engine.say(&["rm", "--force", "--volumes", &container.name]);
        std::fs::write(volume.folder().join("held"), "").unwrap();
        let refused = restore(&["container:", "--with-volumes"]).expect(1);
        assert!(refused.stderr.contains("not empty"), "{}", refused.stderr);
        engine.say(&["volume", "rm", &volume.name]);
        let refused = restore(&["container:"]).expect(1);
        assert!(refused.stderr.contains(&volume.name) && refused.stderr.contains("--with-volumes"), "{}", refused.stderr);
        // Others' may be there at this moment; what is made of this one is in its network.
        let of_this = format!("network={}", network.name);
        let made = engine.say(&["ps", "--all", "--quiet", "--filter", "name=lifeboat-unfinished-", "--filter", &of_this]);
        assert_eq!(made, "");
        assert!(!engine.has("volume", &volume.name) && !engine.has("container", &container.name));
    }

    fn an_image_that_is_not_there_is_named_with_what_to_type(engine: &Engine) {
        let scene = Scene::with_repository();
        let container = engine.run("base", &[], &["sleep", "1000"]);
        container.exec(&["sh", "-c", "echo other >/other"]);
        let image = Tagged::new(engine);
        let image = &image.name;
        engine.say(&["commit", &container.name, image]);
        let own = Container::adopt(engine, &Volume::reserved(engine).name);
        engine.say(&["create", "--name", &own.name, image, "sleep", "1000"]);
        snapshot(&scene, engine, &[&own.name], &[], |way| *way = LayerWay::Engine("a test says so".into()));
        engine.say(&["rm", &own.name]);
        let source = format!("latest:container:{}", own.name);
        let restore = || lifeboat(&scene, engine, &["restore", &source, "--to", "container:"]);
        // The name means another image now; the container's own is still there by its id.
        let id = engine.inspect("image", image)["Id"].as_str().unwrap().to_owned();
        engine.say(&["tag", "lifeboat-test/base:1", image]);
        let is_kept = engine.has("image", &id);
        engine.say(&["rmi", image]);
        if is_kept && engine.has("image", &id) {
            engine.say(&["rmi", &id]);
        }
        let refused = restore().expect(1);
        assert!(refused.stderr.contains(image.as_str()) && refused.stderr.contains(&id) && refused.stderr.contains("Hint"), "{}", refused.stderr);
        assert!(!engine.has("container", &own.name));
    }
}
