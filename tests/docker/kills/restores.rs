//! Kills restores of a project at their requests, on engines of the tests' own.
//!
//! Must stay true: whatever request a restore dies at, `recover` or the next restore leaves the engine as it was, or with
//! the whole project; what is not the project's is never touched; and the same restore, run again, finishes. In place, the old
//! project is there as it was, or `recover` brings it back from the snapshot that was taken of it, however often that dies too.
//!
//! By default the first and the last of each kind of request that changes something are points, and some of the others; with
//! `LIFEBOAT_TEST_KILLS` as in [`super`].

use super::place::{PATIENCE, journals, killing, supervisor};
use super::proxy::{At, Proxy, When};
use super::{MOMENTS, every_point, flavours, is_thorough};
use crate::engines::killable::{Container, KillableEngine};
use crate::engines::objects::{Network, Volume};
use crate::project::{Project, command};
use crate::scene::{Done, Scene, remove, tree};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Of the requests that change nothing, one in so many is a point.
const LOOKS: usize = 12;

/// What a request does, to whatever.
fn kind(line: &str) -> String {
    let mut words = line.split(' ');
    let (verb, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = path.split('?').next().unwrap_or_default();
    let is_name = |part: &str| part.bytes().any(|byte| byte.is_ascii_digit() || byte == b':');
    let parts = path.split('/').map(|part| if is_name(part) { "*" } else { part });
    format!("{verb} {}", parts.collect::<Vec<_>>().join("/"))
}

/// Which requests, and when in them.
fn points(lines: &[String]) -> Vec<(usize, When)> {
    if is_thorough() {
        return every_point(lines);
    }
    let mut kinds: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut chosen: Vec<usize> = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        match line.starts_with("GET") || line.starts_with("HEAD") {
            true if number % LOOKS == 0 => chosen.push(number),
            true => {}
            false => kinds.entry(kind(line)).or_default().push(number),
        }
    }
    for of_a_kind in kinds.values() {
        chosen.extend([of_a_kind[0], of_a_kind[of_a_kind.len() - 1]]);
    }
    chosen.sort_unstable();
    chosen.dedup();
    chosen.into_iter().enumerate().map(|(place, number)| (number, MOMENTS[place % 3])).collect()
}

/// Things that are nobody's to touch, beside a project.
struct Others {
    // Dropped in this order.
    _container: Container,
    _network: Network,
    volume: Volume,
}

impl Others {
    fn new(engine: &KillableEngine) -> Self {
        let volume = engine.volume();
        let network = engine.network(&[]);
        let mounted = volume.at("/data");
        let options = ["--volume", &mounted, "--network", &network.name];
        let container = engine.run("base", &options, &["sleep", "infinity"]);
        container.exec(&["sh", "-c", "echo mine > /data/file"]);
        Self { _container: container, _network: network, volume }
    }

    #[track_caller]
    fn assert_untouched(&self, what: &str) {
        let file = std::fs::read_to_string(self.volume.folder().join("file"));
        assert_eq!(file.unwrap(), "mine\n", "{what}");
    }
}

/// A project with data, of which there is a snapshot.
#[track_caller]
fn captured<'t>(scene: &'t Scene, engine: &'t KillableEngine) -> Project<'t> {
    let project = Project::up_with_checks(scene, engine);
    project.write_data();
    project.lifeboat(&["snapshot", &format!("project:{}", project.name)]).expect(0);
    project
}

/// A restore that is killed at one point; the proxy goes on, so that the engine is found at the same address.
struct Killed {
    proxy: Proxy,
    code: Option<i32>,
    text: String,
}

fn socket(scene: &Scene) -> PathBuf {
    scene.path("proxy.sock")
}

fn killed(project: &Project<'_>, words: &[&str], (number, when): (usize, When)) -> Killed {
    killed_at(project, words, (At::Number(number), when))
}

fn killed_at(project: &Project<'_>, words: &[&str], at: (At, When)) -> Killed {
    let (target, deed) = killing();
    let proxy = Proxy::start(&socket(project.scene), &project.engine.url, at, deed);
    let mut restore = command(project.scene, project.engine);
    restore.env("DOCKER_HOST", proxy.host()).args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = restore.spawn().unwrap();
    target.store(child.id(), Ordering::SeqCst);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    Killed { proxy, code: output.status.code(), text }
}

/// A run of lifeboat through a proxy that only listens.
fn through(project: &Project<'_>, proxy: &Proxy, words: &[&str]) -> Done {
    Done::of(command(project.scene, project.engine).env("DOCKER_HOST", proxy.host()).args(words))
}

/// The requests of a restore that nothing happens to.
fn requests(project: &Project<'_>, words: &[&str]) -> Vec<String> {
    let proxy = Proxy::listening(&socket(project.scene), &project.engine.url);
    through(project, &proxy, words).expect(0);
    proxy.lines()
}

/// What a killed snapshot left quiet is brought back by its supervisor.
#[track_caller]
fn wait_for_supervisor(scene: &Scene, what: &str) {
    let state = scene.path("state/lifeboat");
    let begun = Instant::now();
    while !journals(&state).is_empty() || supervisor(&state).is_some() {
        assert!(begun.elapsed() < PATIENCE, "{what}: a journal or a supervisor is left");
        std::thread::sleep(Duration::from_millis(25));
    }
}

/// The project's containers by name, with ids and states.
fn containers(project: &Project<'_>) -> Vec<String> {
    let filter = format!("label=com.docker.compose.project={}", project.name);
    let format = "{{.Names}} {{.ID}} {{.State}}";
    let listed = project.engine.say(&["ps", "--all", "--filter", &filter, "--format", format]);
    let mut lines: Vec<String> = listed.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[track_caller]
fn assert_whole(project: &Project<'_>, what: &str) {
    let names: Vec<String> = containers(project);
    let expected = ["db", "side", "web"].map(|service| project.container(service));
    assert!(
        names.len() == 3
            && names.iter().zip(&expected).all(|(one, name)| one.starts_with(&format!("{name} "))),
        "{what}: {names:?}"
    );
    for service in ["db", "side", "web"] {
        project.engine.say(&["start", &project.container(service)]);
    }
    project.has_data();
}

/// What is back of the project's folder is as it was.
#[track_caller]
fn assert_no_half_files(project: &Project<'_>, what: &str) {
    let folder = project.scene.path("shop");
    if !folder.exists() {
        return;
    }
    for path in tree::files(&folder) {
        let name = path.strip_prefix(&folder).unwrap();
        let original = project.scene.path("original").join(name);
        assert_eq!(
            std::fs::read(&path).unwrap(),
            std::fs::read(original).unwrap(),
            "{what}: {}",
            path.display()
        );
    }
}

#[test]
fn a_restore_that_is_killed_at_any_request_leaves_nothing_or_the_whole_project() {
    for flavour in flavours("graph") {
        let engine = KillableEngine::start(flavour);
        let others = Others::new(&engine);
        let scene = Scene::with_repository();
        let project = captured(&scene, &engine);
        crate::scene::tool("cp", &["-a", &scene.text("shop"), &scene.text("original")]);
        project.wipe();
        let before = engine.everything();
        let words = ["restore", "latest", "--to", "project:"];
        let lines = requests(&project, &words);
        assert_whole(&project, "a restore that nothing happens to");
        project.wipe();
        assert_eq!(engine.everything(), before, "the test does not remove all of the project");
        let (mut tried, mut listed, mut nothing, mut whole, mut neither) = (0, 0, 0, 0, Vec::new());
        for (place, (number, when)) in points(&lines).into_iter().enumerate() {
            let what = format!("{flavour}: the restore was killed at {number} `{}`, {when:?}", lines[number]);
            let killed = killed(&project, &words, (number, when));
            tried += u32::from(killed.proxy.has_fired() && killed.code.is_none());
            let said = through(&project, &killed.proxy, &["recover", "--dry-run"]).text();
            listed += u32::from(said.contains(&format!("Restore of project {}", project.name)));
            let is_next = place % 3 == 2;
            let after = if is_next { &words[..] } else { &["recover"] };
            let done = through(&project, &killed.proxy, after);
            let found = catch_unwind(AssertUnwindSafe(|| {
                assert_no_half_files(&project, &what);
                others.assert_untouched(&what);
                let is_nothing = containers(&project).is_empty();
                if !is_nothing {
                    assert_whole(&project, &what);
                    project.wipe();
                }
                assert!(!(is_nothing && is_next), "{what}: the next restore did not finish: {done}");
                assert_eq!(engine.everything(), before, "{what}: {}\n{done}", killed.text);
                is_nothing
            }));
            match found {
                Ok(true) => nothing += 1,
                Ok(false) => whole += 1,
                Err(_) => {
                    neither.push(what);
                    through(&project, &killed.proxy, &["recover"]);
                    project.try_wipe();
                }
            }
            remove(&scene.path("shop"));
        }
        println!(
            "{flavour}: restore killed: {tried} points, {nothing} with nothing, {whole} with all, {} in between",
            neither.len()
        );
        assert_eq!(neither, Vec::<String>::new());
        assert!(tried >= 15 && nothing > 0 && whole > 0, "{tried} points, {nothing} and {whole}");
        assert!(listed > 5, "{listed} restores were listed before they were taken back");
    }
}

/// Where a restore in place can be killed: at its own requests, and at a few of those of the snapshot before it.
fn points_in_place(lines: &[String]) -> Vec<(usize, When)> {
    if is_thorough() {
        return points(lines);
    }
    // The first thing that it does is to stop what is there; a capture only pauses.
    let own = lines.iter().position(|line| line.contains("/stop?") || line.contains("/stop ")).unwrap();
    let before = (0..own).step_by((own / 3).max(1)).map(|number| (number, When::Answered));
    // A stop is at work in the engine for a while, whoever asked for it.
    let mut all: Vec<(usize, When)> = before.chain(MOMENTS.map(|when| (own, when))).collect();
    all.extend(
        points(lines).into_iter().filter(|(number, _)| *number > own && !lines[*number].starts_with("GET")),
    );
    all
}

#[test]
fn a_restore_in_place_that_is_killed_at_any_request_leaves_the_old_project_or_the_way_back_to_it() {
    for flavour in flavours("graph") {
        let engine = KillableEngine::start(flavour);
        let others = Others::new(&engine);
        let scene = Scene::with_repository();
        let project = captured(&scene, &engine);
        let first = scene.snapshots().last().unwrap()["short_id"].as_str().unwrap().to_owned();
        let words = ["restore", &first, "--to", "project:", "--in-place"];
        let change = || {
            project.exec("db", "echo newer > /data/orders; echo x > /data/extra; echo newer > /etc/changed");
            scene.write("shop/site/index.html", "changed\n");
        };
        let is_newer = || {
            project.exec("db", "cat /data/orders /data/extra /etc/changed") == "newer\nx\nnewer"
                && project.exec("web", "cat /site/index.html") == "changed"
        };
        change();
        let lines = requests(&project, &words);
        let beside = || -> Vec<String> {
            engine.everything().into_iter().filter(|line| !line.contains(&project.name)).collect()
        };
        let before = beside();
        let (mut tried, mut neither) = (0, Vec::new());
        let mut found: BTreeMap<&str, u32> = BTreeMap::new();
        for (number, when) in points_in_place(&lines) {
            change();
            let what = format!("{flavour}: the restore was killed at {number} `{}`, {when:?}", lines[number]);
            let there = containers(&project);
            let killed = killed(&project, &words, (number, when));
            tried += u32::from(killed.proxy.has_fired() && killed.code.is_none());
            let state = catch_unwind(AssertUnwindSafe(|| {
                let said = through(&project, &killed.proxy, &["recover"]).expect(0).text();
                wait_for_supervisor(&scene, &what);
                let state = match said.contains("Brought back project") {
                    true => {
                        assert!(is_newer(), "{what}: {said}");
                        "the way back"
                    }
                    false if containers(&project) == there => {
                        assert!(is_newer(), "{what}: {said}");
                        "the old project"
                    }
                    false => {
                        // It runs, without anybody's help.
                        project.has_data();
                        "the new project"
                    }
                };
                through(&project, &killed.proxy, &words).expect(0);
                project.has_data();
                assert_eq!(project.exec("db", "ls /data"), "orders", "{what}");
                assert_eq!(beside(), before, "{what}");
                others.assert_untouched(&what);
                state
            }));
            match state {
                Ok(state) => *found.entry(state).or_default() += 1,
                Err(_) => neither.push(what),
            }
        }
        println!(
            "{flavour}: restore in place killed: {tried} points, {found:?}, {} with neither",
            neither.len()
        );
        assert_eq!(neither, Vec::<String>::new());
        assert!(tried >= 10 && found.contains_key("the old project") && found.contains_key("the way back"));
    }
}

#[test]
fn what_was_there_before_comes_back_also_when_the_way_back_is_killed() {
    let engine = KillableEngine::start("graph");
    let scene = Scene::with_repository();
    let project = captured(&scene, &engine);
    let words = ["restore", "latest", "--to", "project:", "--in-place"];
    project.exec("db", "echo newer > /data/orders; echo newer > /etc/changed");
    project.exec("web", "echo newer > /etc/changed");
    scene.write("shop/site/index.html", "changed\n");
    let is_making: fn(&str) -> bool = |line| line.contains("/containers/create?name=lifeboat-unfinished");
    let is_renaming: fn(&str) -> bool = |line| line.contains("/rename?");
    let die = |words: &[&str], fits| {
        let killed = killed_at(&project, words, (At::First(fits), When::Before));
        assert!(killed.proxy.has_fired() && killed.code.is_none(), "{words:?} lived: {}", killed.text);
        killed.proxy
    };
    drop(die(&words, is_making));
    assert_eq!(std::fs::read_to_string(scene.path("shop/site/index.html")).unwrap(), "welcome\n");
    let proxy = Proxy::listening(&socket(&scene), &engine.url);
    let mut without = command(&scene, &engine);
    without.env("DOCKER_HOST", proxy.host()).env_remove("LIFEBOAT_REPOSITORY").arg("recover");
    Done::of(&mut without).expect(3).says("its volumes may be half restored: no repository is named");
    drop(proxy);
    // What is as it was then is not made anew, so one has to be missing.
    engine.say(&["rm", "--force", &project.container("web")]);
    // Before it writes anything, and in the middle of it.
    drop(die(&["recover"], is_renaming));
    let proxy = die(&["recover"], is_making);
    through(&project, &proxy, &["recover"]).expect(0).prints("Brought back project");
    assert_eq!(project.exec("db", "cat /data/orders /etc/changed"), "newer\nnewer");
    assert_eq!(project.exec("web", "cat /site/index.html /etc/changed"), "changed\nnewer");
    through(&project, &proxy, &["recover"]).expect(0).says_not("interrupted");
}
