//! Starting what came back, in order, and waiting until it is well.
//!
//! Must stay true: whoever waits, waits for a limited time; well means healthy, or, without a check, running for
//! [`STEADY`] without a restart.

use super::Error;
use super::order::{Condition, Place};
use crate::engine::Engine;
use crate::facts::{Facts, Health, State};
use std::time::{Duration, Instant};

/// How long a container without a check has to run.
pub const STEADY: Duration = Duration::from_secs(10);
/// From one look to the next.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// One container that came back.
#[derive(Debug, Clone)]
pub struct Back {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether it ran.
    pub ran: bool,
}

/// What became of one that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its name.
    pub name: String,
    /// Why it is not well; `None` where it is.
    pub trouble: Option<String>,
}

/// What is waited for; `false` ends it.
pub type Waiting<'w> = dyn Fn(&str) -> bool + 'w;

/// Starts those that ran, each after what it needs. Gives when the last one was started.
pub fn start(
    engine: &Engine,
    all: &[Back],
    places: &[Place],
    limit: Duration,
    waiting: &Waiting<'_>,
) -> Result<(), Error> {
    let deadline = Instant::now() + limit;
    for place in places {
        let one = &all[place.number];
        if !one.ran {
            continue;
        }
        for (other, condition) in &place.needs {
            let other = &all[*other];
            // What did not run then is not waited for now.
            if other.ran && *condition != Condition::Started {
                let is_met = |facts: &Facts| meets(facts, *condition);
                wait(engine, other, deadline, waiting, &is_met)?;
            }
        }
        engine.start_container(&one.id)?;
    }
    Ok(())
}

/// What a look at a container says of a condition: whether it is met, or why it will not be.
fn meets(facts: &Facts, condition: Condition) -> Result<bool, String> {
    match (condition, facts.state) {
        (Condition::Completed, State::Exited) if facts.exit_code == 0 => Ok(true),
        (_, State::Exited | State::Dead) => Err(format!("it ended with {}", facts.exit_code)),
        (Condition::Completed, _) => Ok(false),
        (Condition::Healthy, _) => Ok(matches!(facts.health, Health::Healthy | Health::None)),
        (Condition::Started, state) => Ok(state == State::Running),
    }
}

/// Waits until all that were started are well.
pub fn settle(
    engine: &Engine,
    all: &[Back],
    limit: Duration,
    waiting: &Waiting<'_>,
) -> Result<Vec<Outcome>, Error> {
    let began = Instant::now();
    // All of them now: each has to run on while the others are waited for.
    let started = all.iter().filter(|one| one.ran);
    let started = started.map(|one| Ok((one, look(engine, one)?))).collect::<Result<Vec<_>, Error>>()?;
    let mut outcomes = Vec::new();
    for (one, first) in started {
        let is_well = |facts: &Facts| match (facts.state, facts.health) {
            (State::Exited | State::Dead, _) => Err(format!("it ended with {}", facts.exit_code)),
            (State::Running, Health::Healthy) => Ok(true),
            (State::Running, Health::None) => {
                if facts.started_at != first.started_at {
                    return Err("it was started again".into());
                }
                Ok(began.elapsed() >= STEADY)
            }
            _ => Ok(false),
        };
        let trouble = wait(engine, one, began + limit.max(STEADY + LOOK_AGAIN), waiting, &is_well);
        outcomes.push(Outcome {
            name: one.name.clone(),
            trouble: match trouble {
                Ok(()) => None,
                Err(Error::NotWell { why, .. }) => Some(why),
                Err(error) => return Err(error),
            },
        });
    }
    Ok(outcomes)
}

fn look(engine: &Engine, one: &Back) -> Result<Facts, Error> {
    let container = engine.container(&one.id)?;
    Facts::read(&container.raw).map_err(|error| Error::Capture(error.into()))
}

fn wait(
    engine: &Engine,
    one: &Back,
    deadline: Instant,
    waiting: &Waiting<'_>,
    is_met: &dyn Fn(&Facts) -> Result<bool, String>,
) -> Result<(), Error> {
    let not_well = |why: String| Error::NotWell { name: one.name.clone(), why };
    loop {
        let facts = look(engine, one)?;
        if is_met(&facts).map_err(not_well)? {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let health = match facts.health {
                Health::None => String::new(),
                health => format!(", its check says {health:?}").to_lowercase(),
            };
            return Err(not_well(format!("it is {:?}{health}", facts.state).to_lowercase()));
        }
        if !waiting(&one.name) {
            return Err(not_well("nobody waited for it any more".into()));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::tests::running;

    #[test]
    fn a_condition_is_met_or_will_not_be() {
        let with = |state, health, exit_code| Facts { state, health, exit_code, ..running("one") };
        assert_eq!(meets(&with(State::Exited, Health::None, 0), Condition::Completed), Ok(true));
        assert!(meets(&with(State::Exited, Health::None, 2), Condition::Completed).is_err());
        assert_eq!(meets(&with(State::Running, Health::None, 0), Condition::Completed), Ok(false));
        assert_eq!(meets(&with(State::Running, Health::Starting, 0), Condition::Healthy), Ok(false));
        assert_eq!(meets(&with(State::Running, Health::Healthy, 0), Condition::Healthy), Ok(true));
        assert!(meets(&with(State::Exited, Health::Healthy, 0), Condition::Healthy).is_err());
    }
}
