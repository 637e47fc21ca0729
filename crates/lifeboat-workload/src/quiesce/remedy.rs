//! What undoing means for one container, when the world may have moved on.
//!
//! Must stay true: the undo brings back what was there before, a running container, and is not the inverse call: after
//! an engine's restart a paused container has ended, and unpausing it would help nobody. What somebody else did
//! meanwhile is theirs and stays.
//!
//! Everything here is a table from what was recorded and what is there now to what to do; `undo.rs` does it.

use super::plan::{Action, Step};
use crate::facts::{Facts, State};
use serde::{Deserialize, Serialize};

/// How far an action had come, as the journal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Progress {
    /// It is in the plan only.
    Planned,
    /// The engine may have been asked; the request may even still be on its way.
    Doing,
    /// The same, and the engine was away meanwhile, or nobody saw that it was not.
    Unseen,
    /// The engine had answered.
    Did,
    /// It is being started again: a new start of it is ours.
    Starting,
    /// It was undone and seen to be back.
    Undone,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// It is as it was.
    Nothing,
    /// Unfreeze it.
    Unpause,
    /// Start it.
    Start,
    /// A request may still be on its way: ask for the same once more, so that it is behind us, and then undo it.
    FinishFirst,
    /// Look again: it is between two states.
    LookAgain,
    /// It is somebody else's now, or gone; it is reported.
    Leave(String),
}

/// Decides. `now` is what the engine says, or nothing where it does not know the container any more.
#[must_use]
pub fn remedy(step: &Step, progress: Progress, now: Option<&Facts>) -> Remedy {
    if matches!(progress, Progress::Planned | Progress::Undone) {
        return Remedy::Nothing;
    }
    let Some(now) = now else {
        return if step.comes_back_by_itself {
            Remedy::Leave("it ended, and the engine or its swarm has removed it".into())
        } else {
            Remedy::Leave("it was removed meanwhile".into())
        };
    };
    // Until it was seen which start of it became quiet, a quiet one is taken for ours: nobody may be left down.
    let restarted = !step.started_at.is_empty() && now.started_at != step.started_at;
    let others = restarted && progress == Progress::Did;
    match now.state {
        // Running with another time: somebody, or its restart policy, brought it back.
        State::Running if restarted || !matches!(progress, Progress::Doing | Progress::Unseen) => {
            Remedy::Nothing
        }
        State::Running => Remedy::FinishFirst,
        State::Paused if step.action == Action::Pause && !others => Remedy::Unpause,
        State::Paused => Remedy::Leave("somebody else paused it meanwhile".into()),
        State::Restarting => Remedy::LookAgain,
        State::Removing => Remedy::Leave("it is being removed".into()),
        State::Exited | State::Created | State::Dead => ended(step, progress, now, others),
    }
}

fn ended(step: &Step, progress: Progress, now: &Facts, others: bool) -> Remedy {
    if now.is_swarm() {
        return Remedy::Leave("it ended, and its swarm starts another".into());
    }
    if others {
        return Remedy::Leave("somebody else started it meanwhile, and it has ended again".into());
    }
    // A frozen process does not end by itself, and nobody was known to be frozen yet: where the engine was there all the
    // time, a job that ended well is done. Where it was not, this may be a service that it ended when it came back, and nobody
    // may be left down. What an engine would have started again by its policy, or what is a database, is no job anyway.
    let is_job = !step.is_service && !matches!(now.restart_policy.as_str(), "always" | "unless-stopped");
    if is_job
        && step.action == Action::Pause
        && progress == Progress::Doing
        && now.exit_code == 0
        && now.state == State::Exited
    {
        return Remedy::Leave("it ended by itself before it was paused".into());
    }
    Remedy::Start
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::tests::running;

    fn step(action: Action) -> Step {
        let facts = running("api");
        Step {
            container: facts.id,
            name: facts.name,
            action,
            started_at: facts.started_at,
            stop_seconds: 10,
            limit_millis: None,
            comes_back_by_itself: false,
            is_service: false,
        }
    }

    fn now(state: State) -> Facts {
        Facts { state, ..running("api") }
    }

    fn is_left(remedy: &Remedy) -> bool {
        matches!(remedy, Remedy::Leave(_))
    }

    const BOTH: [Action; 2] = [Action::Pause, Action::Stop];
    const STATES: [State; 7] = [
        State::Created,
        State::Running,
        State::Paused,
        State::Restarting,
        State::Exited,
        State::Removing,
        State::Dead,
    ];

    #[test]
    fn what_was_never_begun_or_is_undone_already_is_not_touched() {
        for action in BOTH {
            for state in STATES {
                for progress in [Progress::Planned, Progress::Undone] {
                    assert_eq!(remedy(&step(action), progress, Some(&now(state))), Remedy::Nothing);
                }
            }
        }
    }

    #[test]
    fn a_paused_container_is_unpaused_and_one_that_an_engine_ended_is_started() {
        let step = step(Action::Pause);
        for progress in [Progress::Doing, Progress::Did] {
            assert_eq!(remedy(&step, progress, Some(&now(State::Paused))), Remedy::Unpause);
            let mut ended = now(State::Exited);
            ended.exit_code = 137;
            assert_eq!(remedy(&step, progress, Some(&ended)), Remedy::Start);
        }
        assert_eq!(remedy(&step, Progress::Did, Some(&now(State::Exited))), Remedy::Start);
    }

    #[test]
    fn a_stopped_container_is_started_whatever_it_ended_with() {
        for exit_code in [0, 1, 137, 143] {
            for progress in [Progress::Doing, Progress::Did] {
                let ended = Facts { exit_code, ..now(State::Exited) };
                assert_eq!(remedy(&step(Action::Stop), progress, Some(&ended)), Remedy::Start);
            }
        }
    }

    #[test]
    fn a_request_that_may_be_on_its_way_is_finished_before_it_is_undone() {
        for action in BOTH {
            assert_eq!(
                remedy(&step(action), Progress::Doing, Some(&now(State::Running))),
                Remedy::FinishFirst
            );
            assert_eq!(remedy(&step(action), Progress::Did, Some(&now(State::Running))), Remedy::Nothing);
        }
    }

    #[test]
    fn a_job_that_ended_before_its_pause_is_not_run_again() {
        assert!(is_left(&remedy(&step(Action::Pause), Progress::Doing, Some(&now(State::Exited)))));
        let service = Facts { restart_policy: "unless-stopped".into(), ..now(State::Exited) };
        assert_eq!(remedy(&step(Action::Pause), Progress::Doing, Some(&service)), Remedy::Start);
        let database = Step { is_service: true, ..step(Action::Pause) };
        assert_eq!(remedy(&database, Progress::Doing, Some(&now(State::Exited))), Remedy::Start);
    }

    #[test]
    fn where_the_engine_was_away_what_ended_well_is_no_job() {
        let step = step(Action::Pause);
        assert_eq!(remedy(&step, Progress::Unseen, Some(&now(State::Exited))), Remedy::Start);
        assert_eq!(remedy(&step, Progress::Unseen, Some(&now(State::Running))), Remedy::FinishFirst);
        assert_eq!(remedy(&step, Progress::Unseen, Some(&now(State::Paused))), Remedy::Unpause);
    }

    #[test]
    fn what_somebody_else_started_meanwhile_is_theirs() {
        for action in BOTH {
            for state in [State::Paused, State::Exited, State::Dead] {
                let other = Facts { started_at: "later".into(), ..now(state) };
                assert!(is_left(&remedy(&step(action), Progress::Did, Some(&other))), "{action:?} {state:?}");
            }
            for progress in [Progress::Doing, Progress::Did] {
                let other = Facts { started_at: "later".into(), ..now(State::Running) };
                assert_eq!(remedy(&step(action), progress, Some(&other)), Remedy::Nothing);
            }
        }
    }

    #[test]
    fn a_container_that_was_restarted_just_before_its_pause_is_not_left_paused() {
        let other = Facts { started_at: "later".into(), ..now(State::Paused) };
        assert_eq!(remedy(&step(Action::Pause), Progress::Doing, Some(&other)), Remedy::Unpause);
    }

    #[test]
    fn where_nobody_knows_which_start_was_made_quiet_whatever_is_down_comes_back() {
        for action in BOTH {
            let step = Step { started_at: String::new(), ..step(action) };
            assert_eq!(remedy(&step, Progress::Did, Some(&now(State::Running))), Remedy::Nothing);
            assert_eq!(remedy(&step, Progress::Doing, Some(&now(State::Running))), Remedy::FinishFirst);
            for progress in [Progress::Doing, Progress::Did] {
                let ended = Facts { exit_code: 137, ..now(State::Exited) };
                assert_eq!(remedy(&step, progress, Some(&ended)), Remedy::Start);
            }
        }
        let step = Step { started_at: String::new(), ..step(Action::Pause) };
        assert_eq!(remedy(&step, Progress::Did, Some(&now(State::Paused))), Remedy::Unpause);
    }

    #[test]
    fn a_user_who_pauses_what_we_were_about_to_stop_keeps_it_paused() {
        assert!(is_left(&remedy(&step(Action::Stop), Progress::Doing, Some(&now(State::Paused)))));
    }

    #[test]
    fn a_swarms_container_is_never_started_and_a_removed_one_is_reported() {
        let mut swarm = now(State::Exited);
        swarm.exit_code = 137;
        swarm.labels.insert("com.docker.swarm.task.id".into(), "x".into());
        assert!(is_left(&remedy(&step(Action::Pause), Progress::Did, Some(&swarm))));
        for action in BOTH {
            assert!(is_left(&remedy(&step(action), Progress::Did, None)));
        }
    }

    #[test]
    fn nothing_is_left_down_that_we_put_down() {
        for action in BOTH {
            for state in [State::Exited, State::Dead, State::Created, State::Paused] {
                let down = now(state);
                let remedy = remedy(&step(action), Progress::Did, Some(&down));
                let by_user = action == Action::Stop && state == State::Paused;
                assert!(
                    by_user || matches!(remedy, Remedy::Start | Remedy::Unpause),
                    "{action:?} {state:?} {remedy:?}"
                );
            }
        }
    }
}
