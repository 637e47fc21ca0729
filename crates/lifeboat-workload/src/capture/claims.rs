//! What a snapshot says of its moment.
//!
//! Must stay true: nothing is claimed that was not seen; a container of which nobody knows that it stood still counts as
//! one that ran on.

use super::Work;
use super::group::Member;
use crate::facts::State;
use crate::quiesce::holding::Holding;
use crate::quiesce::plan::Action;
use crate::recipes::How;
use crate::recipes::at_work::AtWork;
use serde_json::{Value, json};
use std::time::Duration;

/// A snapshot takes no more: `docs/format/snapshot.md`.
const MAX: usize = 64 << 10;
/// Texts of this many are kept; their number is unbounded.
const LISTED_MAX: usize = 50;

/// Tag 15 of a snapshot.
pub(super) fn consistency(work: &Work, group: &[Member]) -> Value {
    let at = work.moment.as_ref().and_then(|moment| jiff::Timestamp::try_from(moment.at).ok());
    let report = work.report.as_ref();
    let containers: Vec<Value> = members(work, group);
    // What a database has saved is older than the others.
    let saved_before = containers.len() > 1 && containers.iter().any(|one| one["how"] == How::Saved.word());
    let ran_on = saved_before || containers.iter().any(|one| one["how"] == RAN_ON);
    let spared: Vec<Value> =
        work.plan.spared.iter().map(|spared| json!({"name": spared.name, "why": spared.why})).collect();
    let trouble: Vec<&String> = work.trouble.iter().take(LISTED_MAX).collect();
    let mut claim = json!({
        "moment": at.map(|at| at.to_string()),
        "one_moment": work.is_sound && !work.prepared_badly && !ran_on && work.moment.is_some(),
        "quiet_millis": report.map(|report| millis(report.quiet)),
        "containers": containers,
        "spared": spared,
        "trouble": trouble,
    });
    for member in ["trouble", "spared", "containers"] {
        if claim.to_string().len() > MAX {
            claim[member] = json!("more than a snapshot can say");
        }
    }
    claim
}

const RAN_ON: &str = "ran on";

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The longest that a command or a session in a container held the last time.
fn held_for(work: &Work, id: &str) -> Option<Duration> {
    let of_recipes = work.recipes.iter().flat_map(AtWork::holding);
    let all = work.holds.iter().chain(of_recipes).filter(|holding| holding.running().container == id);
    all.filter_map(Holding::lasted).max()
}

/// Whether its database needs nobody to hold still.
fn runs_on(member: Option<&Member>) -> bool {
    member.and_then(|member| member.preparation.recipe.as_ref()).is_some_and(|recipe| recipe.how.lets_run())
}

/// How each container of the group was, in that moment.
fn members(work: &Work, group: &[Member]) -> Vec<Value> {
    let state = |id: &str| work.facts.iter().find(|facts| facts.id == id).map(|facts| facts.state);
    let in_group = group.iter().map(|member| (&member.facts, Some(member)));
    // Whoever began to write since, or is stopped for the sake of another one.
    let planned =
        work.plan.steps.iter().filter(|step| !group.iter().any(|member| member.facts.id == step.container));
    let others = planned.filter_map(|step| work.facts.iter().find(|facts| facts.id == step.container));
    let all = in_group.chain(others.map(|facts| (facts, None)));
    all.map(|(facts, member)| {
        let step = work.plan.steps.iter().find(|step| step.container == facts.id);
        let quieted = work.moment.iter().flat_map(|moment| &moment.containers);
        let killed = quieted.into_iter().any(|quieted| quieted.name == facts.name && quieted.killed);
        let how = match (step.map(|step| step.action), state(&facts.id)) {
            (Some(Action::Pause), _) => "paused",
            (Some(Action::Stop), _) => "stopped",
            (None, Some(State::Running)) if runs_on(member) => member
                .and_then(|member| member.preparation.recipe.as_ref())
                .map_or(RAN_ON, |recipe| recipe.how.word()),
            (None, Some(State::Running)) if work.held.contains(&facts.id) => "held",
            (None, Some(State::Running | State::Restarting | State::Removing)) => RAN_ON,
            (None, Some(State::Paused)) => "paused by somebody else",
            (None, Some(State::Created | State::Exited | State::Dead)) => "did not run",
            (None, None) => "was removed",
        };
        let mut one = json!({"name": facts.name, "how": how, "killed": killed});
        if let Some(lasted) = held_for(work, &facts.id) {
            one["held_millis"] = json!(millis(lasted));
        }
        if let Some(member) = member {
            one["captured"] = json!(member.is_named);
            if !member.preparation.claim.is_null() {
                one["claim"] = member.preparation.claim.clone();
                if let Some(moment) = work.recipes.as_ref().and_then(|recipes| recipes.moment(&facts.id)) {
                    one["claim"]["moment"] = json!(moment);
                }
            }
            if !member.preparation.warnings.is_empty() {
                one["warnings"] = json!(member.preparation.warnings);
            }
        }
        one
    })
    .collect()
}
