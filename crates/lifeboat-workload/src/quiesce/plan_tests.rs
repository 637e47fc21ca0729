//! Plans for containers of all kinds: examples, and properties over random engines.
//!
//! Must stay true: what `plan.rs` promises at its top, each promise in a test of its own.

use super::lifelines::Lifelines;
use super::plan::{Action, Plan, Step, Wish};
use crate::facts::tests::running;
use crate::facts::{Facts, State};
use crate::labels::Quiet;
use proptest::prelude::*;
use std::time::Duration;

fn wish(name: &str, quiet: Quiet) -> Wish {
    Wish { container: running(name).id, quiet, max_pause: None, is_database: false }
}

fn order(plan: &Plan) -> Vec<(&str, Action)> {
    plan.steps.iter().map(|step| (step.name.as_str(), step.action)).collect()
}

fn labelled(name: &str, pairs: &[(&str, &str)]) -> Facts {
    let mut facts = running(name);
    facts.labels = pairs.iter().map(|(label, value)| ((*label).into(), (*value).into())).collect();
    facts
}

#[test]
fn who_uses_the_network_of_a_stopped_container_stops_before_it() {
    let mut sidecar = running("sidecar");
    sidecar.network_of = Some(running("app").id);
    let mut second = running("a-second");
    second.network_of = Some("sidecar".into());
    let around = [running("app"), sidecar, second, running("other")];
    let plan = Plan::make(&around, &[wish("app", Quiet::Stop)], &Lifelines::default());
    use Action::Stop;
    assert_eq!(order(&plan), [("a-second", Stop), ("sidecar", Stop), ("app", Stop)]);
    // A pause leaves the network as it is.
    let plan = Plan::make(&around, &[wish("app", Quiet::Pause)], &Lifelines::default());
    assert_eq!(order(&plan), [("app", Action::Pause)]);
}

#[test]
fn an_owner_is_paused_where_a_user_of_its_network_must_not_stop() {
    let mut sidecar = running("sidecar");
    sidecar.network_of = Some("app".into());
    sidecar.auto_remove = true;
    let plan = Plan::make(&[running("app"), sidecar], &[wish("app", Quiet::Stop)], &Lifelines::default());
    assert_eq!(order(&plan), [("app", Action::Pause)]);
    assert_eq!(plan.spared.len(), 1, "{:?}", plan.spared);
}

#[test]
fn containers_that_end_for_good_are_paused_and_not_stopped() {
    let mut once = running("once");
    once.auto_remove = true;
    let swarm = labelled("swarm", &[("com.docker.swarm.task.id", "x")]);
    let wishes = [wish("once", Quiet::Stop), wish("swarm", Quiet::Stop)];
    let plan = Plan::make(&[once, swarm], &wishes, &Lifelines::default());
    assert_eq!(order(&plan), [("once", Action::Pause), ("swarm", Action::Pause)]);
    assert_eq!(plan.spared.len(), 2);
    assert!(plan.steps.iter().all(|step| step.comes_back_by_itself));
}

#[test]
fn what_somebody_else_paused_stays_as_it_is() {
    let mut paused = running("paused");
    paused.state = State::Paused;
    for quiet in [Quiet::Pause, Quiet::Stop] {
        let plan = Plan::make(std::slice::from_ref(&paused), &[wish("paused", quiet)], &Lifelines::default());
        assert!(plan.is_empty());
        assert_eq!(plan.spared.len(), 1);
    }
}

#[test]
fn clients_become_quiet_before_what_they_depend_on() {
    let compose = |name: &str, depends: &str| {
        labelled(
            name,
            &[
                ("com.docker.compose.project", "shop"),
                ("com.docker.compose.service", name),
                ("com.docker.compose.depends_on", depends),
            ],
        )
    };
    let around =
        [compose("db", ""), compose("api", "db:service_healthy:true"), compose("web", "api:x:y,db:x:y")];
    let wishes: Vec<Wish> = around.iter().map(|facts| wish(&facts.name, Quiet::Pause)).collect();
    let plan = Plan::make(&around, &wishes, &Lifelines::default());
    let names: Vec<_> = plan.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["web", "api", "db"]);
}

#[test]
fn a_database_gets_a_minute_and_a_longer_time_of_its_own_is_kept() {
    let timeout = |own: Option<u64>, is_database: bool| {
        let mut facts = running("db");
        facts.stop_timeout = own.map(Duration::from_secs);
        let wish = Wish { is_database, ..wish("db", Quiet::Stop) };
        Plan::make(&[facts], &[wish], &Lifelines::default()).steps[0].stop_seconds
    };
    assert_eq!(timeout(None, false), 10);
    assert_eq!(timeout(Some(3), false), 3);
    assert_eq!(timeout(Some(3), true), 60);
    assert_eq!(timeout(Some(300), true), 300);
}

#[test]
fn a_pause_has_a_limit_and_a_stop_only_where_a_label_gives_one() {
    let limit = |quiet, max_pause| {
        let wish = Wish { max_pause, ..wish("db", quiet) };
        Plan::make(&[running("db")], &[wish], &Lifelines::default()).limit()
    };
    let five = Some(Duration::from_secs(5));
    assert_eq!(limit(Quiet::Pause, None), Some(Duration::from_secs(30)));
    assert_eq!(limit(Quiet::Pause, five), five);
    assert_eq!(limit(Quiet::Stop, None), None);
    assert_eq!(limit(Quiet::Stop, five), five);
}

/// Up to eight containers with all that matters, each using another's network or needing another.
fn engines() -> impl Strategy<Value = (Vec<Facts>, Vec<Wish>, Lifelines)> {
    let states = prop_oneof![
        8 => Just(State::Running),
        1 => Just(State::Paused),
        1 => Just(State::Exited),
        1 => Just(State::Restarting),
    ];
    let one = (states, any::<[bool; 2]>(), 0usize..16, 0usize..16, 0u8..4);
    (proptest::collection::vec(one, 1..8), 0usize..12).prop_map(|(rows, own)| {
        let count = rows.len();
        let name = |at: usize| format!("c{at}");
        let mut around = Vec::new();
        let mut wishes = Vec::new();
        for (at, (state, [auto_remove, swarm], network, needs, quiet)) in rows.into_iter().enumerate() {
            let mut facts = running(&name(at));
            facts.state = state;
            // One in four each, so that whole engines of such containers are rare.
            facts.auto_remove = auto_remove && needs % 2 == 0;
            if swarm && network % 2 == 0 {
                facts.labels.insert("com.docker.swarm.task.id".into(), "x".into());
            }
            // An engine starts the owner first, so networks make no circle; needs may.
            facts.network_of = (network < at).then(|| name(network));
            facts.needs = if needs < count && needs != at { vec![name(needs)] } else { Vec::new() };
            let quiet = [Quiet::Leave, Quiet::Pause, Quiet::Stop, Quiet::Stop][usize::from(quiet)];
            wishes.push(Wish { container: facts.id.clone(), quiet, max_pause: None, is_database: false });
            around.push(facts);
        }
        let own = around.get(own).map(|facts| facts.id.clone());
        (around, wishes, Lifelines { own, ..Lifelines::default() })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn no_plan_ever_touches_what_must_not_be_touched((around, wishes, lifelines) in engines()) {
        let plan = Plan::make(&around, &wishes, &lifelines);
        let spared = lifelines.spare(&around);
        let place = |step: &Step| around.iter().position(|facts| facts.id == step.container).unwrap();
        for (number, step) in plan.steps.iter().enumerate() {
            let facts = &around[place(step)];
            prop_assert_eq!(facts.state, State::Running);
            prop_assert_eq!(&spared[place(step)], &None);
            prop_assert!(!plan.steps[..number].iter().any(|earlier| earlier.container == step.container));
            if step.action == Action::Stop {
                prop_assert!(!facts.auto_remove && !facts.is_swarm());
            } else {
                // Pauses come last, so they are undone first.
                prop_assert!(plan.steps[number..].iter().all(|later| later.action == Action::Pause));
            }
        }
    }

    #[test]
    fn no_plan_ever_cuts_a_live_container_from_its_network((around, wishes, lifelines) in engines()) {
        let plan = Plan::make(&around, &wishes, &lifelines);
        let stopped = |word: &str| plan.steps.iter().position(|step| {
            step.action == Action::Stop && around.iter().any(|facts| facts.is_called(word) && facts.id == step.container)
        });
        for facts in &around {
            let Some(owner) = facts.network_of.as_ref().and_then(|word| stopped(word)) else { continue };
            if facts.state == State::Exited {
                continue;
            }
            let own = stopped(&facts.id);
            prop_assert!(own.is_some_and(|own| own < owner), "{} loses its network", facts.name);
        }
    }

    #[test]
    fn every_wish_is_followed_or_explained((around, wishes, lifelines) in engines()) {
        let plan = Plan::make(&around, &wishes, &lifelines);
        for (facts, wish) in around.iter().zip(&wishes) {
            let step = plan.steps.iter().find(|step| step.container == facts.id);
            let explained = plan.spared.iter().any(|spared| spared.name == facts.name);
            let followed = match wish.quiet {
                Quiet::Leave => true,
                Quiet::Pause => step.is_some(),
                Quiet::Stop => step.is_some_and(|step| step.action == Action::Stop),
            };
            prop_assert!(followed || explained || facts.state == State::Exited, "{}", facts.name);
        }
    }
}
