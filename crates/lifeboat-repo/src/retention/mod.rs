//! Retention: which snapshots stay, which go, and why.
//!
//! [`plan_policy`] and [`plan_named`] are pure: snapshots, a policy and a moment go in, a [`Plan`] that people can read
//! comes out. [`apply`] carries a plan out. Must stay true:
//! - An empty policy removes nothing, and no plan removes a pinned snapshot.
//! - Groups do not influence each other. A rule that is added to a policy, or raised, never makes it remove more.
//! - Applying a plan twice, or once after a run that was killed anywhere in it, ends with the same snapshots.
//! - Unless that is allowed in so many words, no group loses its newest good snapshot by a policy, nor its last one by
//!   name.
//! - A snapshot from the future is kept and counts for nothing: who can add snapshots, or set a host's clock, must not
//!   push the others out by that.
//!
//! Read next: [`policy`], [`group`], [`apply`].

mod apply;
pub mod group;
pub mod policy;
#[cfg(test)]
mod tests;

use crate::snapshots::ListedSnapshot;
use group::{GroupKey, Grouping};
use jiff::tz::TimeZone;
use lifeboat_format::{SnapshotId, Timestamp};
use policy::{Age, Period, Policy};
use std::collections::{BTreeMap, HashSet};
use std::fmt;

pub use apply::apply;

/// When a plan is made: days and weeks begin where the clock on the wall says so.
#[derive(Debug, Clone)]
pub struct Moment {
    /// The time.
    pub now: Timestamp,
    /// The time zone.
    pub zone: TimeZone,
}

/// Why a snapshot stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keep {
    /// There is no rule at all.
    NoPolicy,
    /// Only named snapshots go, and this is none.
    NotNamed,
    /// It is pinned.
    Pinned,
    /// It claims to be younger than now.
    Future,
    /// It is among the newest.
    Last,
    /// It is the newest of its hour, day, week, month or year; or the oldest, while such are wanted.
    Period(Period),
    /// It is young enough.
    Within(Age),
    /// It is the newest of its period, and young enough.
    PeriodWithin(Period, Age),
    /// It has these tags.
    Tags(Vec<String>),
    /// It is the last good one of its group; where none is good, the last one.
    LastGood,
}

impl fmt::Display for Keep {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPolicy => formatter.write_str("no policy"),
            Self::NotNamed => formatter.write_str("not named"),
            Self::Pinned => formatter.write_str("pinned"),
            Self::Future => formatter.write_str("its time is in the future"),
            Self::Last => formatter.write_str("last"),
            Self::Period(period) => formatter.write_str(period.word()),
            Self::Within(age) => write!(formatter, "within {age}"),
            Self::PeriodWithin(period, age) => write!(formatter, "{} within {age}", period.word()),
            Self::Tags(tags) => write!(formatter, "tag {}", tags.join(",")),
            Self::LastGood => formatter.write_str("the last good one of its group"),
        }
    }
}

/// What happens to a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It stays, for at least one reason.
    Keep(Vec<Keep>),
    /// It goes: no rule keeps it, or the user named it.
    Remove,
}

/// A snapshot and what happens to it.
#[derive(Debug, Clone)]
pub struct Decision<'s> {
    /// The snapshot.
    pub listed: &'s ListedSnapshot,
    /// Its fate.
    pub fate: Fate,
}

/// Snapshots that are counted together.
#[derive(Debug, Clone)]
pub struct Group<'s> {
    /// What they have in common.
    pub key: GroupKey,
    /// Newest first.
    pub decisions: Vec<Decision<'s>>,
}

/// What happens to every snapshot that was looked at.
#[derive(Debug, Clone)]
pub struct Plan<'s> {
    /// In the order of their keys.
    pub groups: Vec<Group<'s>>,
    /// Whether named snapshots go, not what a policy leaves over.
    pub is_named: bool,
}

impl<'s> Plan<'s> {
    /// What goes, oldest first.
    pub fn removed(&self) -> Vec<&'s ListedSnapshot> {
        let decisions = self.groups.iter().flat_map(|group| &group.decisions);
        let mut removed: Vec<&ListedSnapshot> = decisions
            .filter(|decision| decision.fate == Fate::Remove)
            .map(|decision| decision.listed)
            .collect();
        removed.sort_by_key(|listed| age_key(listed));
        removed
    }
}

fn age_key(listed: &ListedSnapshot) -> impl Ord + use<> {
    (listed.snapshot.started, listed.snapshot.sequence, listed.session)
}

/// Whether a snapshot counts as a good one: its session finished, no service was unhealthy, and nothing of it was lost.
fn is_good(listed: &ListedSnapshot) -> bool {
    listed.snapshot.complete && listed.snapshot.unhealthy.is_empty() && !listed.snapshot.lacking
}

/// Whether a snapshot has all of `tags`.
pub fn is_tagged(listed: &ListedSnapshot, tags: &[String]) -> bool {
    tags.iter().all(|tag| listed.snapshot.tags.contains(tag))
}

fn is_pinned(listed: &ListedSnapshot) -> bool {
    listed.snapshot.pinned
}

fn grouped<'s>(
    snapshots: impl IntoIterator<Item = &'s ListedSnapshot>,
    grouping: Grouping,
) -> BTreeMap<GroupKey, Vec<&'s ListedSnapshot>> {
    let mut groups: BTreeMap<GroupKey, Vec<&ListedSnapshot>> = BTreeMap::new();
    for listed in snapshots {
        groups.entry(GroupKey::of(&listed.snapshot, grouping)).or_default().push(listed);
    }
    groups.values_mut().for_each(|members| members.sort_by_key(|listed| std::cmp::Reverse(age_key(listed))));
    groups
}

/// Applies `policy` to each group of `snapshots`.
pub fn plan_policy<'s>(
    snapshots: impl IntoIterator<Item = &'s ListedSnapshot>,
    policy: &Policy,
    grouping: Grouping,
    moment: &Moment,
    may_drop_last: bool,
) -> Plan<'s> {
    let groups = grouped(snapshots, grouping).into_iter().map(|(key, members)| {
        let mut reasons = vec![Vec::new(); members.len()];
        if policy.is_empty() {
            reasons.iter_mut().for_each(|reasons| reasons.push(Keep::NoPolicy));
        } else {
            let future = members.iter().take_while(|listed| listed.snapshot.started > moment.now).count();
            for (listed, reasons) in members.iter().zip(&mut reasons) {
                reasons.extend(is_pinned(listed).then_some(Keep::Pinned));
            }
            reasons[..future].iter_mut().for_each(|reasons| reasons.push(Keep::Future));
            policy.judge(&members[future..], &mut reasons[future..], &moment.zone);
            if !may_drop_last {
                keep_last_good(&members[future..], &mut reasons[future..]);
            }
        }
        let fate = |reasons: Vec<Keep>| if reasons.is_empty() { Fate::Remove } else { Fate::Keep(reasons) };
        let decisions = members
            .into_iter()
            .zip(reasons)
            .map(|(listed, reasons)| Decision { listed, fate: fate(reasons) });
        Group { key, decisions: decisions.collect() }
    });
    Plan { groups: groups.collect(), is_named: false }
}

/// The newest good one stays whatever the rules say; where none is good, the newest. A reason is added only where it
/// is the only one.
fn keep_last_good(members: &[&ListedSnapshot], reasons: &mut [Vec<Keep>]) {
    let good = members.iter().position(|listed| is_good(listed));
    let Some(reasons) = reasons.get_mut(good.unwrap_or(0)) else { return };
    if reasons.is_empty() {
        reasons.push(Keep::LastGood);
    }
}

/// Removes the snapshots called `named` from all `snapshots`, except what must stay: the decisions tell what that is.
///
/// What is not pinned goes, as long as a good one stays in its group, or `may_drop_last`.
pub fn plan_named<'s>(
    snapshots: impl IntoIterator<Item = &'s ListedSnapshot>,
    named: &HashSet<SnapshotId>,
    grouping: Grouping,
    may_drop_last: bool,
) -> Plan<'s> {
    let groups = grouped(snapshots, grouping).into_iter().map(|(key, members)| {
        let fate = |listed: &ListedSnapshot| match (named.contains(&listed.snapshot.id), is_pinned(listed)) {
            (false, _) => Fate::Keep(vec![Keep::NotNamed]),
            (true, true) => Fate::Keep(vec![Keep::Pinned]),
            (true, false) => Fate::Remove,
        };
        let mut decisions: Vec<Decision<'_>> =
            members.into_iter().map(|listed| Decision { listed, fate: fate(listed) }).collect();
        let has_good = decisions.iter().any(|decision| is_good(decision.listed));
        let counts = |decision: &Decision<'_>| is_good(decision.listed) || !has_good;
        let stays = decisions.iter().any(|decision| counts(decision) && decision.fate != Fate::Remove);
        if !stays && !may_drop_last {
            let newest = decisions.iter().position(counts);
            if let Some(decision) = newest.and_then(|newest| decisions.get_mut(newest)) {
                decision.fate = Fate::Keep(vec![Keep::LastGood]);
            }
        }
        Group { key, decisions }
    });
    Plan { groups: groups.collect(), is_named: true }
}
