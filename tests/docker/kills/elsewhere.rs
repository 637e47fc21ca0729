//! Runs that know nothing of each other's journals: another user's, in a container, on another machine.
//!
//! Must stay true: what they wait for is the mark on the engine, and of a dead run's only as long as it takes to see that it
//! is dead.

use super::flavours;
use super::place::{self, Place, sigkill, signal};
use rustix::process::Signal;
use serde_json::json;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Child;
use std::sync::{Arc, Mutex};

/// A run with a state folder of its own, and what it has said so far.
struct Elsewhere {
    child: Child,
    said: Arc<Mutex<String>>,
    state: PathBuf,
}

impl Elsewhere {
    fn start(place: &Place) -> Self {
        let state = place.scene.path("elsewhere");
        let mut command = place.capture(&place.engine.url, &[]);
        let mut child = command.env("XDG_STATE_HOME", &state).spawn().unwrap();
        let (said, errors) = (Arc::<Mutex<String>>::default(), child.stderr.take().unwrap());
        let heard = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                heard.lock().unwrap().push_str(&format!("{line}\n"));
            }
        });
        Self { child, said, state: state.join("lifeboat") }
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Waits until it says that it waits.
    #[track_caller]
    fn waits(&mut self, place: &Place) {
        place.wait_until("it waits for the other run", || {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "it did not wait: {ended:?}, {}", self.said());
            self.said().contains("waiting for run")
        });
    }

    /// Its exit code, once nothing of it is left.
    #[track_caller]
    fn finish(mut self, place: &Place) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        place.wait_until("nothing is left of it", || {
            place::journals(&self.state).is_empty() && place::supervisor(&self.state).is_none()
        });
        (code, self.said())
    }
}

/// The first command before a capture is about to be started: all is ready, and nothing is quiet.
fn is_command(line: &str) -> bool {
    line.starts_with("POST") && line.contains("/containers/") && line.contains("/exec")
}

#[test]
fn two_runs_with_states_of_their_own_wait_for_each_other() {
    for flavour in flavours("graph") {
        let place = Place::new(flavour);
        let (proxy, first) = place.frozen_run();
        let mut second = Elsewhere::start(&place);
        second.waits(&place);
        signal(first.id(), Signal::CONT);
        let (code, text) = place.finish(first);
        assert_eq!(code, Some(0), "{text}");
        let (code, text) = second.finish(&place);
        assert_eq!(code, Some(0), "{text}");
        let snapshots = place.scene.snapshots();
        let moments: Vec<_> = snapshots.iter().map(|one| one["consistency"]["one_moment"].clone()).collect();
        assert_eq!(moments, [json!(true), json!(true)], "{text}");
        place.assert_as_before("two runs with states of their own");
        drop(proxy);
    }
}

#[test]
fn a_run_that_died_with_its_supervisor_is_not_waited_for_without_an_end() {
    for flavour in flavours("containerd") {
        let place = Place::new(flavour);
        let (proxy, first) = place.frozen_at(is_command);
        assert_eq!((place.marks(), place.down()), (1, Vec::new()));
        let mut second = Elsewhere::start(&place);
        second.waits(&place);
        // Both at once: stopped first, so that neither sees the other die.
        let watcher = place::supervisor(&place.state()).unwrap();
        signal(watcher, Signal::STOP);
        sigkill(watcher);
        sigkill(first.id());
        place.finish(first);
        let (code, text) = second.finish(&place);
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains("nobody watches over it: it is not waited for"), "{text}");
        assert_eq!((place.marks(), place.down()), (1, Vec::new()));
        let done = crate::scene::Done::of(
            place.scene.lifeboat().env("DOCKER_HOST", &place.engine.url).arg("recover"),
        );
        assert!(done.expect(0).text().contains("was dead"));
        place.assert_as_before("its mark is taken away");
        drop(proxy);
    }
}
