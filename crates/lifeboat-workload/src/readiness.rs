//! Whether a container is ready to be captured, and how long that is waited for.
//!
//! Must stay true: nobody waits without an end, and what is not ready is never called ready. The waiting itself is a
//! function of what the engine says and of the time, so that tests need no clock.
//!
//! Ready means healthy, or running without a check, or exited with 0 as a job. Who pauses a container keeps its health
//! check from answering, so a paused one counts as its last answer.

use crate::facts::{Facts, Health, State};
use std::time::Duration;

/// From one look at a container to the next.
pub const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// A check that could take longer is not waited for to its end.
const WAIT_MAX: Duration = Duration::from_secs(600);
/// What is added to a check's own times: engines are late under load.
const GRACE: Duration = Duration::from_secs(5);
/// How long a container between two starts is waited for.
const RESTARTING: Duration = Duration::from_secs(30);

/// What a look at a container says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It can be captured.
    Ready,
    /// It may become ready.
    Waiting(String),
    /// It will not become ready by waiting.
    NotReady(String),
}

/// Judges one look.
#[must_use]
pub fn look(facts: &Facts) -> Readiness {
    match facts.state {
        State::Running | State::Paused => match facts.health {
            Health::None | Health::Healthy => Readiness::Ready,
            Health::Starting => Readiness::Waiting("its health check is starting".into()),
            Health::Unhealthy => Readiness::Waiting("its health check fails".into()),
        },
        State::Exited if facts.exit_code == 0 => Readiness::Ready,
        State::Exited => Readiness::NotReady(format!("it exited with {}", facts.exit_code)),
        State::Restarting => Readiness::Waiting("it is restarting".into()),
        State::Created => Readiness::NotReady("it was never started".into()),
        State::Removing => Readiness::NotReady("it is being removed".into()),
        State::Dead => Readiness::NotReady("it is dead".into()),
    }
}

/// What to do after a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Capture it.
    Ready,
    /// Look again after [`LOOK_AGAIN`].
    Again,
    /// Capture it and mark the snapshot, or do not, for this reason.
    GiveUp(String),
}

/// One container being waited for.
#[derive(Debug, Clone)]
pub struct Wait {
    limit: Duration,
}

impl Wait {
    /// Waits as long as the container's own check may take to come to a verdict, or at most `limit` where one is given.
    #[must_use]
    pub fn new(facts: &Facts, limit: Option<Duration>) -> Self {
        let own = match facts.health_check {
            Some(check) => {
                let round = check.interval.saturating_add(check.timeout);
                check.start_period.saturating_add(round.saturating_mul(check.retries.saturating_add(1)))
            }
            None => RESTARTING,
        };
        Self { limit: limit.unwrap_or(own.saturating_add(GRACE)).min(WAIT_MAX) }
    }

    /// Judges a look that was made `waited` after the first one.
    #[must_use]
    pub fn step(&self, facts: &Facts, waited: Duration) -> Step {
        match look(facts) {
            Readiness::Ready => Step::Ready,
            Readiness::NotReady(why) => Step::GiveUp(why),
            Readiness::Waiting(why) if waited >= self.limit => {
                Step::GiveUp(format!("{why}, {} s later still", waited.as_secs()))
            }
            Readiness::Waiting(_) => Step::Again,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::HealthCheck;
    use crate::facts::tests::running;

    fn with(state: State, health: Health, exit_code: i64) -> Facts {
        Facts { state, health, exit_code, ..running("api") }
    }

    #[test]
    fn ready_is_healthy_or_running_without_a_check_or_a_job_that_ended_well() {
        for facts in [
            with(State::Running, Health::None, 0),
            with(State::Running, Health::Healthy, 0),
            with(State::Paused, Health::Healthy, 0),
            with(State::Exited, Health::None, 0),
            with(State::Exited, Health::Unhealthy, 0),
        ] {
            assert_eq!(look(&facts), Readiness::Ready, "{facts:?}");
        }
    }

    #[test]
    fn what_waiting_cannot_help_is_given_up_at_once() {
        for facts in [
            with(State::Exited, Health::None, 1),
            with(State::Created, Health::None, 0),
            with(State::Removing, Health::None, 0),
            with(State::Dead, Health::None, 0),
        ] {
            let step = Wait::new(&facts, None).step(&facts, Duration::ZERO);
            assert!(matches!(step, Step::GiveUp(_)), "{facts:?}");
        }
    }

    #[test]
    fn an_unhealthy_container_is_waited_for_through_its_start_period_and_retries() {
        let seconds = Duration::from_secs;
        let check =
            HealthCheck { start_period: seconds(20), interval: seconds(5), timeout: seconds(1), retries: 3 };
        let mut facts = with(State::Running, Health::Starting, 0);
        facts.health_check = Some(check);
        let wait = Wait::new(&facts, None);
        // 20 + (5 + 1) * 4, and the grace.
        assert_eq!(wait.step(&facts, seconds(48)), Step::Again);
        facts.health = Health::Unhealthy;
        assert_eq!(wait.step(&facts, seconds(48)), Step::Again);
        assert!(matches!(wait.step(&facts, seconds(49)), Step::GiveUp(_)));
        facts.health = Health::Healthy;
        assert_eq!(wait.step(&facts, seconds(1000)), Step::Ready);
    }

    #[test]
    fn nobody_waits_without_an_end() {
        let mut facts = with(State::Running, Health::Unhealthy, 0);
        let day = Duration::from_secs(86_400);
        facts.health_check =
            Some(HealthCheck { start_period: day, interval: day, timeout: day, retries: u32::MAX });
        for limit in [None, Some(Duration::MAX)] {
            assert!(matches!(Wait::new(&facts, limit).step(&facts, WAIT_MAX), Step::GiveUp(_)));
        }
        let short = Wait::new(&facts, Some(Duration::from_secs(1)));
        assert!(matches!(short.step(&facts, Duration::from_secs(1)), Step::GiveUp(_)));
    }
}
