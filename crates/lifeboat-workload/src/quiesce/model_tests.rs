//! Runs against the model of an engine, and dies at every request.
//!
//! Must stay true: whatever dies, and however often, an undo that comes to its end leaves nothing down.

use super::hands::{Hands, Refusal};
use super::lifelines::Lifelines;
use super::model::{Death, Model};
use super::order::quieten;
use super::plan::{Plan, Step, Wish};
use super::remedy::Progress;
use super::undo::{Debts, reopen, undo};
use crate::facts::tests::running;
use crate::facts::{Facts, State};
use crate::journal::entry::{Entry, Ledger, Owed, Running, VERSION};
use crate::journal::{Found, Journal, Journals, Made};
use crate::labels::Quiet;
use std::cell::{Cell, RefCell};
use std::path::Path;
use std::time::Duration;

/// A service of four: one paused, one stopped with a user of its network, one that is left alone.
fn service() -> (Vec<Facts>, Plan) {
    let mut sidecar = running("sidecar");
    sidecar.network_of = Some(running("app").id);
    let mut web = running("web");
    web.restart_policy = "unless-stopped".into();
    let mut around = vec![running("app"), sidecar, web, running("other")];
    around[0].restart_policy = "always".into();
    let wish =
        |name: &str, quiet| Wish { container: running(name).id, quiet, max_pause: None, is_database: false };
    let plan =
        Plan::make(&around, &[wish("app", Quiet::Stop), wish("web", Quiet::Pause)], &Lifelines::default());
    assert_eq!(plan.steps.len(), 3);
    (around, plan)
}

fn begin(state: &Path, plan: &Plan) -> Journal {
    let word = || String::from("x");
    let mut entries =
        vec![Entry::Run { version: VERSION, run: word(), engine: word(), begun: word(), process: 1 }];
    entries.extend(plan.steps.iter().cloned().map(Entry::Step));
    entries.push(Entry::Owed(Owed {
        number: 0,
        container: plan.steps[0].container.clone(),
        name: word(),
        argv: vec!["thaw".into()],
        user: None,
        timeout_millis: 1_000,
    }));
    let container = plan.steps[0].container.clone();
    let (dump, name, command) = ("dump".into(), word(), word());
    entries.push(Entry::Running(Running { word: dump, container, name, command, grace_millis: 0 }));
    let containers: Vec<String> = plan.steps.iter().map(|step| step.container.clone()).collect();
    match Journals::in_state(state).make("x", None, &containers, &entries).unwrap() {
        Made::Journal(journal) => journal,
        Made::Taken(_) => panic!("nobody else is there"),
    }
}

/// A whole run: quiet, captured, brought back. Whether it came to its end.
fn run(model: &Model, journal: &mut Journal, plan: &Plan) -> bool {
    quieten(model, journal, plan).is_ok()
        && undo(model, journal, Some(Duration::ZERO), Debts::Pay).unwrap().is_whole()
}

fn down(model: &Model) -> Vec<String> {
    let world = model.0.borrow();
    world
        .containers
        .values()
        .filter(|facts| facts.state != State::Running)
        .map(|facts| facts.name.clone())
        .collect()
}

fn dead(state: &Path) -> (Journal, Ledger) {
    // A process that another test is starting has the journal open, and so its lock, until it becomes its own program.
    for _ in 0..1000 {
        match Journals::in_state(state).find().unwrap().pop().unwrap() {
            Found::Dead(journal, ledger) => return (journal, ledger),
            Found::Live(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    panic!("its owner is dead");
}

fn requests_of_a_run() -> u32 {
    let (around, plan) = service();
    let state = tempfile::tempdir().unwrap();
    let model = Model::with(around);
    let mut journal = begin(state.path(), &plan);
    assert!(run(&model, &mut journal, &plan));
    assert_eq!(down(&model), [""; 0]);
    assert_eq!(model.0.borrow().paid, [0]);
    model.0.into_inner().requests
}

#[test]
fn a_run_that_dies_at_any_request_leaves_nothing_down() {
    let requests = requests_of_a_run();
    let mut points = 0;
    let deaths = [Death::Before, Death::After, Death::OnItsWay];
    for (death, lags) in deaths.map(|death| [(death, false), (death, true)]).concat() {
        for at in 1..=requests {
            let (around, plan) = service();
            let state = tempfile::tempdir().unwrap();
            let model = Model::with(around);
            let mut journal = begin(state.path(), &plan);
            model.0.borrow_mut().fuel = Some((at, death));
            model.0.borrow_mut().lags = lags;
            assert!(!run(&model, &mut journal, &plan) || at == requests, "{death:?} at {at} changed nothing");
            drop(journal);
            // Its supervisor, or `recover`.
            model.0.borrow_mut().fuel = None;
            let (mut journal, _) = dead(state.path());
            let undone = undo(&model, &mut journal, Some(Duration::ZERO), Debts::Pay).unwrap();
            assert!(undone.is_whole(), "{death:?} at {at}: {undone:?}");
            assert_eq!(down(&model), [""; 0], "{death:?} at {at}: {undone:?}");
            assert!(journal.read().unwrap().is_settled(), "{death:?} at {at}");
            assert!(!model.0.borrow().paid.is_empty(), "{death:?} at {at}: what was owed was not paid");
            assert!(!model.0.borrow().ended.is_empty(), "{death:?} at {at}: a command was left running");
            points += 1;
        }
    }
    assert!(points >= 30, "only {points} points were tried");
}

#[test]
fn an_undo_that_dies_at_any_request_is_finished_by_the_next_one() {
    let requests = requests_of_a_run();
    for at in 1..=requests {
        for death in [Death::Before, Death::After] {
            for second in 1..=requests {
                let (around, plan) = service();
                let state = tempfile::tempdir().unwrap();
                let model = Model::with(around);
                model.0.borrow_mut().lags = second % 2 == 0;
                let mut journal = begin(state.path(), &plan);
                model.0.borrow_mut().fuel = Some((at, death));
                run(&model, &mut journal, &plan);
                model.0.borrow_mut().fuel = Some((second, death));
                undo(&model, &mut journal, Some(Duration::ZERO), Debts::Pay).unwrap();
                model.0.borrow_mut().fuel = None;
                let undone = undo(&model, &mut journal, Some(Duration::ZERO), Debts::Pay).unwrap();
                assert_eq!(down(&model), [""; 0], "{death:?} at {at}, then at {second}: {undone:?}");
            }
        }
    }
}

#[test]
fn an_engine_that_is_killed_at_any_request_is_waited_for_and_nothing_is_left_down() {
    let requests = requests_of_a_run();
    for at in 0..requests {
        for away in [1, 3] {
            let (mut around, plan) = service();
            // What is back, or was never touched, is brought back by its own policy; what we stopped is not.
            for facts in &mut around {
                facts.restart_policy = "unless-stopped".into();
            }
            let state = tempfile::tempdir().unwrap();
            let model = Model::with(around);
            let mut journal = begin(state.path(), &plan);
            model.0.borrow_mut().engine = Some((at, away));
            let _ = quieten(&model, &mut journal, &plan);
            let undone = undo(&model, &mut journal, None, Debts::Pay).unwrap();
            assert_eq!(down(&model), [""; 0], "at {at}, away {away}: {undone:?}");
        }
    }
}

/// Every step that was begun, by what the journal says.
fn begun(journal: &Journal) -> Vec<String> {
    let steps = journal.read().unwrap().steps;
    let begun = steps.into_iter().filter(|(_, progress)| *progress != Progress::Planned);
    begun.map(|(step, _)| step.name).collect()
}

#[test]
fn a_service_that_ends_well_with_its_engine_before_its_pause_is_known_is_no_job_that_is_done() {
    let requests = requests_of_a_run();
    let mut unconfirmed = 0;
    for at in 0..requests {
        // Without one of them: somebody else finds the journal.
        for run_dies in [false, true] {
            let (mut around, plan) = service();
            around.iter_mut().for_each(|facts| facts.restart_policy = "no".into());
            let state = tempfile::tempdir().unwrap();
            let model = Model::with(around);
            let mut journal = begin(state.path(), &plan);
            model.0.borrow_mut().engine = Some((at, 2));
            model.0.borrow_mut().is_polite = true;
            if run_dies {
                model.0.borrow_mut().fuel = Some((at, Death::After));
            }
            if quieten(&model, &mut journal, &plan).is_ok() {
                // All were quiet by then; what dies with the engine once it is back is not ours any more.
                continue;
            }
            let left = begun(&journal);
            unconfirmed += u32::from(left.contains(&"web".to_owned()));
            model.0.borrow_mut().fuel = None;
            if run_dies {
                journal.remember_durably(&[Entry::Away]);
            }
            let undone = undo(&model, &mut journal, None, Debts::Pay).unwrap();
            let down = down(&model);
            assert!(
                !left.iter().any(|name| down.contains(name)),
                "at {at}: {down:?} of {left:?}, {undone:?}"
            );
        }
    }
    assert!(unconfirmed >= 4, "it was about to be paused {unconfirmed} times only");
}

#[test]
fn a_job_that_ends_well_just_before_its_pause_stays_done() {
    let (around, plan) = service();
    let state = tempfile::tempdir().unwrap();
    let mut job = around;
    job.iter_mut().for_each(|facts| facts.restart_policy = "no".into());
    let model = Model::with(job);
    let ending = Ending { model: &model, name: "web" };
    let mut journal = begin(state.path(), &plan);
    let quieted = quieten(&ending, &mut journal, &plan).unwrap();
    assert!(quieted.iter().any(|one| one.name == "web" && one.ended));
    let undone = undo(&model, &mut journal, None, Debts::Pay).unwrap();
    assert!(undone.is_whole() && journal.read().unwrap().is_settled());
    assert_eq!(down(&model), ["web"], "{undone:?}");
}

/// An engine on which one container ends well in the moment in which it is to become quiet.
struct Ending<'m> {
    model: &'m Model,
    name: &'static str,
}

impl Hands for Ending<'_> {
    fn look(&self, container: &str) -> Result<Option<Facts>, Refusal> {
        self.model.look(container)
    }
    fn quieten(&self, step: &Step) -> Result<(), Refusal> {
        if step.name == self.name {
            self.model.0.borrow_mut().containers.get_mut(&step.container).unwrap().state = State::Exited;
        }
        self.model.quieten(step)
    }
    fn unpause(&self, container: &str) -> Result<(), Refusal> {
        self.model.unpause(container)
    }
    fn start(&self, container: &str) -> Result<(), Refusal> {
        self.model.start(container)
    }
    fn pay(&self, owed: &Owed) -> Result<String, Refusal> {
        self.model.pay(owed)
    }
    fn end_command(&self, running: &Running) -> Result<(String, bool), Refusal> {
        self.model.end_command(running)
    }
    fn pass(&self, time: Duration) {
        self.model.pass(time);
    }
}

#[test]
fn a_container_that_will_not_start_is_reported_and_stays_open() {
    let (mut around, plan) = service();
    // The owner is gone, so its sidecar cannot start.
    let state = tempfile::tempdir().unwrap();
    let app = around.remove(0);
    let model = Model::with(around);
    model.0.borrow_mut().containers.insert(app.id.clone(), app.clone());
    let mut journal = begin(state.path(), &plan);
    quieten(&model, &mut journal, &plan).unwrap();
    model.0.borrow_mut().containers.remove(&app.id);
    let undone = undo(&model, &mut journal, None, Debts::Pay).unwrap();
    assert!(!undone.is_whole());
    assert!(!journal.read().unwrap().is_settled());
    assert_eq!(down(&model), ["sidecar"]);
}

#[test]
fn an_owner_that_was_planned_only_and_went_with_the_engine_is_started_for_who_uses_its_network() {
    let (mut around, plan) = service();
    around.iter_mut().for_each(|facts| facts.restart_policy = "no".into());
    let state = tempfile::tempdir().unwrap();
    let model = Model::with(around);
    let mut journal = begin(state.path(), &plan);
    let sidecar = plan.steps.iter().find(|step| step.name == "sidecar").unwrap().container.clone();
    journal.add(&[Entry::Doing { container: sidecar.clone() }]).unwrap();
    model.0.borrow_mut().engine = Some((0, 1));
    let undone = undo(&model, &mut journal, None, Debts::Pay).unwrap();
    assert!(undone.is_whole(), "{undone:?}");
    // What lifeboat had not touched is as the engine left it, but for what the other one needs.
    assert!(down(&model).iter().all(|name| name == "web" || name == "other"), "{:?}", down(&model));
}

#[test]
fn what_was_not_reached_is_not_touched() {
    let (around, plan) = service();
    let state = tempfile::tempdir().unwrap();
    let model = Model::with(around);
    let mut journal = begin(state.path(), &plan);
    undo(&model, &mut journal, None, Debts::Pay).unwrap();
    // Only what ran, and what was owed.
    assert_eq!(model.0.borrow().requests, 2);
}

/// An engine whose run hangs before one of its requests, until its supervisor has undone everything because of the time.
struct Hanging<'m> {
    model: &'m Model,
    journal: RefCell<Journal>,
    left: Cell<Option<u32>>,
}

impl Hanging<'_> {
    fn pass_by(&self) {
        match self.left.get() {
            Some(0) => {
                self.left.set(None);
                let mut journal = self.journal.borrow_mut();
                journal.add(&[Entry::Expired]).unwrap();
                undo(self.model, &mut journal, Some(Duration::ZERO), Debts::Keep).unwrap();
            }
            left => self.left.set(left.map(|left| left - 1)),
        }
    }
}

impl Hands for Hanging<'_> {
    fn look(&self, container: &str) -> Result<Option<Facts>, Refusal> {
        self.pass_by();
        self.model.look(container)
    }
    fn quieten(&self, step: &Step) -> Result<(), Refusal> {
        self.pass_by();
        self.model.quieten(step)
    }
    fn unpause(&self, container: &str) -> Result<(), Refusal> {
        self.pass_by();
        self.model.unpause(container)
    }
    fn start(&self, container: &str) -> Result<(), Refusal> {
        self.pass_by();
        self.model.start(container)
    }
    fn pay(&self, owed: &Owed) -> Result<String, Refusal> {
        self.pass_by();
        self.model.pay(owed)
    }
    fn end_command(&self, running: &Running) -> Result<(String, bool), Refusal> {
        self.pass_by();
        self.model.end_command(running)
    }
    fn pass(&self, time: Duration) {
        self.model.pass(time);
    }
}

#[test]
fn a_run_that_hangs_until_its_time_is_over_leaves_nothing_down_whether_it_goes_on_or_dies() {
    let requests = requests_of_a_run();
    let mut late = 0;
    for at in 0..requests {
        for death in [None, Some(Death::After), Some(Death::OnItsWay)] {
            for lives_for in 1..=requests {
                let (around, plan) = service();
                let state = tempfile::tempdir().unwrap();
                let model = Model::with(around);
                let mut journal = begin(state.path(), &plan);
                let shared = RefCell::new(journal.share().unwrap());
                let hanging = Hanging { model: &model, journal: shared, left: Cell::new(Some(at)) };
                if let Some(death) = death {
                    // Its supervisor's requests count too, and it dies of none of them: it is not the one that dies.
                    model.0.borrow_mut().fuel = Some((requests + lives_for, death));
                }
                let answered = quieten(&hanging, &mut journal, &plan).is_ok();
                late += u32::from(!answered);
                if death.is_none() {
                    reopen(&mut journal, answered).unwrap();
                    undo(&hanging, &mut journal, Some(Duration::ZERO), Debts::Pay).unwrap();
                }
                model.0.borrow_mut().fuel = None;
                // Its supervisor, or `recover`, once it is dead.
                reopen(&mut journal, false).unwrap();
                let undone = undo(&model, &mut journal, Some(Duration::ZERO), Debts::Pay).unwrap();
                assert_eq!(down(&model), [""; 0], "at {at}, {death:?} after {lives_for}: {undone:?}");
                assert!(journal.read().unwrap().is_settled());
            }
        }
    }
    assert!(late > 10, "it made no difference but {late} times");
}
