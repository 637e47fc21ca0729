//! Kills the run, its supervisor and the engine in the middle of captures, on engines of the tests' own.
//!
//! Must stay true: whatever is killed, the services are as before without anybody calling `recover`, and what comes after a
//! capture has been run wherever what comes before it was. An engine that is killed leaves down what it leaves down; what
//! lifeboat had made quiet by then comes back all the same.
//!
//! By default the requests that change something are points, and some of the others, on one engine for each sort of kill;
//! with `LIFEBOAT_TEST_KILLS=some` on all three. With `LIFEBOAT_TEST_KILLS=all` every
//! request is one at three moments, on all engines, which takes many hours; with `LIFEBOAT_TEST_KILLS=graph` on one of them.
//! Where that was cut off, `LIFEBOAT_TEST_KILLS_FROM=NUMBER` goes on at a request; each point is printed when it is reached.
//! What is asserted in the end of all points together may fail then.

mod commands;
mod databases;
mod elsewhere;
pub(crate) mod place;
pub(crate) mod proxy;
mod restores;
mod unconfirmed;

use place::{Place, sigkill, signal};
use proxy::{At, Proxy, When};
use rustix::process::Signal;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A run that is killed has its services back at once. They are within two seconds, but machines are busy.
const AT_ONCE: Duration = Duration::from_secs(10);

const MOMENTS: [When; 3] = [When::Before, When::Sent, When::Answered];

const ENGINES: [&str; 3] = ["system", "graph", "containerd"];

fn wished() -> String {
    std::env::var("LIFEBOAT_TEST_KILLS").unwrap_or_default()
}

fn is_thorough() -> bool {
    !matches!(wished().as_str(), "" | "some")
}

fn flavours(one: &'static str) -> Vec<&'static str> {
    match wished().as_str() {
        "" => vec![one],
        "some" | "all" => ENGINES.to_vec(),
        named => ENGINES.into_iter().filter(|engine| *engine == named).collect(),
    }
}

/// Makes a service quiet, brings it back, or runs something in it.
fn acts(line: &str) -> bool {
    let acting = ["/pause ", "/unpause ", "/stop?", "/stop ", "/start ", "/exec "];
    line.starts_with("POST") && acting.iter().any(|word| line.contains(word))
}

fn is_last_pause(line: &str) -> bool {
    line.starts_with("POST") && line.contains("/pause ")
}

/// Every request at every moment, from the point on that an earlier run came to.
fn every_point(lines: &[String]) -> Vec<(usize, When)> {
    let from = std::env::var("LIFEBOAT_TEST_KILLS_FROM").map_or(0, |number| number.parse().unwrap());
    (from..lines.len()).flat_map(|number| MOMENTS.map(|when| (number, when))).collect()
}

/// Which requests, and when in them: of those that act, and of the others, one in so many.
fn points(lines: &[String], (acting, other): (usize, usize)) -> Vec<(usize, When)> {
    if is_thorough() {
        return every_point(lines);
    }
    let (act, rest): (Vec<usize>, Vec<usize>) = (0..lines.len()).partition(|number| acts(&lines[*number]));
    let mut chosen: Vec<usize> = act.into_iter().step_by(acting).collect();
    chosen.extend(rest.into_iter().step_by(other));
    chosen.sort_unstable();
    chosen.into_iter().enumerate().map(|(place, number)| (number, MOMENTS[place % 3])).collect()
}

#[test]
fn a_run_that_is_killed_anywhere_leaves_nothing_down() {
    for flavour in flavours("graph") {
        let place = Place::new(flavour);
        let lines = place.requests_of_a_run();
        let (mut tried, mut slowest) = (0, Duration::ZERO);
        for (number, when) in points(&lines, (1, 9)) {
            let what = format!("{flavour}: the run was killed at {number} `{}`, {when:?}", lines[number]);
            let (target, deed) = place::killing();
            let proxy = Proxy::start(&place.socket(), &place.engine.url, (At::Number(number), when), deed);
            let run = place.run(&proxy, &[]);
            target.store(run.id(), Ordering::SeqCst);
            place.finish(run);
            let took = place.assert_as_before(&what);
            assert!(took < AT_ONCE, "{what}: the services were back after {took:?}");
            slowest = slowest.max(took);
            tried += u32::from(proxy.has_fired());
            place.clean();
        }
        assert!(tried >= 15, "only {tried} points");
        println!("{flavour}: run killed: {tried} points, 0 services down, slowest undo {slowest:?}");
    }
}

#[test]
fn a_supervisor_that_is_killed_anywhere_is_replaced_and_the_run_ends_well() {
    for flavour in flavours("system") {
        let place = Place::new(flavour);
        let lines = place.requests_of_a_run();
        let mut killed = 0;
        for (number, when) in points(&lines, (1, 20)) {
            let what =
                format!("{flavour}: the supervisor was killed at {number} `{}`, {when:?}", lines[number]);
            let count = Arc::new(AtomicU32::new(0));
            let (counting, state) = (Arc::clone(&count), place.state());
            let deed = Box::new(move || {
                if let Some(number) = place::supervisor(&state) {
                    sigkill(number);
                    counting.fetch_add(1, Ordering::SeqCst);
                }
            });
            let proxy = Proxy::start(&place.socket(), &place.engine.url, (At::Number(number), when), deed);
            let (code, text) = place.finish(place.run(&proxy, &[]));
            assert_eq!(code, Some(0), "{what}: {text}");
            place.assert_as_before(&what);
            killed += count.load(Ordering::SeqCst);
        }
        assert!(killed >= 10, "only {killed} points");
        println!("{flavour}: supervisor killed: {killed} points, 0 services down");
    }
}

#[test]
fn an_engine_that_is_killed_anywhere_gets_back_what_was_made_quiet() {
    for flavour in flavours("containerd") {
        let place = Place::new(flavour);
        let lines = place.requests_of_a_run();
        let (mut tried, mut quiet, mut slowest) = (0, 0, Duration::ZERO);
        for (number, when) in points(&lines, (2, 30)) {
            let what = format!("{flavour}: the engine was killed at {number} `{}`, {when:?}", lines[number]);
            let at = (At::Number(number), when);
            let files = (&*place.socket(), place.state());
            let (run, touched) =
                place::run_whose_engine_dies(&place.engine, files, at, |proxy| place.run(proxy, &[]));
            tried += u32::from(touched.is_some());
            let touched = touched.unwrap_or_default();
            quiet += u32::from(!touched.is_empty());
            slowest = slowest.max(place.assert_back(&touched, &what));
            place.finish(run);
            place.assert_back(&touched, &what);
            place.start_what_the_engine_left_down();
            place.clean();
        }
        assert!(tried >= 6 && quiet >= 3, "only {tried} points, {quiet} of them with something quiet");
        println!(
            "{flavour}: engine killed: {tried} points, in {quiet} of them with something quiet, 0 of that down, \
             slowest undo {slowest:?}"
        );
    }
}

#[test]
fn a_pause_that_lasts_too_long_is_undone_while_the_run_hangs() {
    let place = Place::with_labels("system", &["--label", "lifeboat.max-pause=1s"]);
    let (proxy, run) = place.frozen_run();
    // Nobody but the supervisor can do it: the run is stopped.
    place.wait_until("the services are back although the run hangs", || place.down().is_empty());
    signal(run.id(), Signal::CONT);
    let (code, text) = place.finish(run);
    // Read once more, and that time it was short enough.
    assert_eq!(code, Some(0), "{text}");
    let claim = place.scene.snapshots().pop().unwrap()["consistency"].clone();
    assert!(claim["trouble"].to_string().contains("time that services may be paused was over"), "{claim}");
    assert_eq!(claim["one_moment"], json!(true), "{claim}");
    place.assert_as_before("its time was over");
    drop(proxy);
}

#[test]
fn a_run_that_is_interrupted_while_services_are_quiet_brings_them_back_first() {
    let place = Place::new("graph");
    let (proxy, run) = place.frozen_run();
    signal(run.id(), Signal::INT);
    signal(run.id(), Signal::CONT);
    let (code, text) = place.finish(run);
    assert_eq!(code, Some(130), "{text}");
    assert_eq!(place.down(), [""; 0]);
    place.assert_as_before("it was interrupted");
    assert!(place.scene.snapshots().is_empty());
    drop(proxy);
}

#[test]
fn two_runs_on_the_same_containers_wait_for_each_other() {
    let place = Place::new("graph");
    let (proxy, first) = place.frozen_run();
    let direct = Proxy::listening(&place.engine_folder().join("second.sock"), &place.engine.url);
    let mut second = place.run(&direct, &[]);
    std::thread::sleep(Duration::from_secs(2));
    assert!(second.try_wait().unwrap().is_none(), "the second run did not wait");
    signal(first.id(), Signal::CONT);
    for run in [first, second] {
        let (code, text) = place.finish(run);
        assert_eq!(code, Some(0), "{text}");
    }
    assert_eq!(place.scene.snapshots().len(), 2);
    place.assert_as_before("two runs");
    drop(proxy);
}

#[test]
fn what_a_dead_run_and_its_dead_supervisor_left_is_recovered_by_journal_or_by_mark_and_no_live_run_is_touched()
 {
    let place = Place::new("containerd");
    let recover = |state: &str| {
        let mut command = place.scene.lifeboat();
        command.env("DOCKER_HOST", &place.engine.url).env("XDG_STATE_HOME", place.scene.path(state));
        let done = crate::scene::Done::of(command.arg("recover")).expect(0);
        done.text()
    };
    for state in ["state", "another state"] {
        let (proxy, run) = place.frozen_run();
        let watcher = place::supervisor(&place.state()).unwrap();
        let down = place.down();
        assert!(!down.is_empty());
        // From another state folder only the mark can be seen.
        assert!(recover(state).contains("is at work and is left alone"));
        assert_eq!(place.down(), down);
        // Both at once: stopped first, so that neither sees the other die.
        signal(watcher, Signal::STOP);
        sigkill(watcher);
        sigkill(run.id());
        place.finish(run);
        assert_eq!(place.down(), down, "nobody was there to undo");
        assert!(recover(state).contains("was dead"));
        place.wait_until("everything is back", || place.down().is_empty());
        let _ = std::fs::remove_dir_all(place.state().join("holds"));
        assert_eq!(place.marks(), 0);
        place.clean();
        drop(proxy);
    }
}
