//! The promises of retention, over any snapshots and policies.

use super::policy::UNLIMITED;
use super::*;
use lifeboat_format::snapshot::{Snapshot, Source, SourceKind, TreeRoot};
use lifeboat_format::{ChunkId, HostId, SessionId};
use proptest::collection::vec;
use proptest::prelude::*;

const NOW: i64 = 1_790_000_000;
const HOURS: i64 = 3600;

/// What tells the snapshots of these tests apart.
#[derive(Debug, Clone, Copy)]
struct Sort {
    hours_ago: i64,
    host: u8,
    is_tagged: bool,
    is_good: bool,
    is_pinned: bool,
}

fn listed((number, sort): (usize, &Sort)) -> ListedSnapshot {
    let started = Timestamp { seconds: NOW - sort.hours_ago * HOURS, nanos: 0 };
    let id = (number as u128).to_be_bytes();
    let root = TreeRoot { id: ChunkId([0; ChunkId::BYTES]), height: 0, entries: 0 };
    let snapshot = Snapshot {
        complete: true,
        host: format!("host {}", sort.host),
        sequence: 1,
        started,
        finished: started,
        tags: if sort.is_tagged { vec!["monthly".into()] } else { vec![] },
        sources: vec![Source::new(SourceKind::Path, b"/srv", root)],
        unhealthy: if sort.is_good { vec![] } else { vec!["db: unhealthy".into()] },
        pinned: sort.is_pinned,
        ..Snapshot::new(SnapshotId(id), HostId([sort.host; 16]))
    };
    ListedSnapshot { session: SessionId(id), replaces: vec![], snapshot }
}

fn all(sorts: &[Sort]) -> Vec<ListedSnapshot> {
    sorts.iter().enumerate().map(listed).collect()
}

fn moment() -> Moment {
    Moment { now: Timestamp { seconds: NOW, nanos: 0 }, zone: TimeZone::UTC }
}

fn some_sort() -> impl Strategy<Value = Sort> {
    (-50i64..20_000, 0u8..3, any::<[bool; 4]>()).prop_map(
        |(hours_ago, host, [tagged, good, more, pinned])| Sort {
            hours_ago,
            host,
            is_tagged: tagged,
            is_good: good || more,
            is_pinned: pinned && !more && !good,
        },
    )
}

fn some_age() -> impl Strategy<Value = Option<Age>> {
    proptest::option::weighted(0.2, (1u16..900).prop_map(|days| format!("{days}d").parse().unwrap()))
}

fn some_policy() -> impl Strategy<Value = Policy> {
    let count = || prop_oneof![3 => Just(0u32), 3 => 1u32..8, 1 => Just(UNLIMITED)];
    let counts = [count(), count(), count(), count(), count()];
    let ages = [some_age(), some_age(), some_age(), some_age(), some_age()];
    (count(), counts, some_age(), ages, any::<bool>()).prop_map(|(last, periods, within, ages, by_tag)| {
        Policy {
            last,
            periods,
            within,
            periods_within: ages,
            tags: if by_tag { vec![vec!["monthly".into()]] } else { vec![] },
        }
    })
}

/// What stays of `snapshots`.
fn kept(snapshots: &[ListedSnapshot], policy: &Policy) -> Vec<ListedSnapshot> {
    let plan = plan_policy(snapshots, policy, Grouping::default(), &moment(), false);
    left(snapshots, &plan)
}

fn left(snapshots: &[ListedSnapshot], plan: &Plan<'_>) -> Vec<ListedSnapshot> {
    let gone: HashSet<SnapshotId> = plan.removed().iter().map(|listed| listed.snapshot.id).collect();
    snapshots.iter().filter(|listed| !gone.contains(&listed.snapshot.id)).cloned().collect()
}

fn ids(snapshots: &[ListedSnapshot]) -> HashSet<SnapshotId> {
    snapshots.iter().map(|listed| listed.snapshot.id).collect()
}

proptest! {
    #[test]
    fn keep_last_keeps_the_newest_so_many_of_each_group(sorts in vec(some_sort(), 0..40), last in 1u32..10) {
        let mut sorts = sorts;
        for sort in &mut sorts {
            (sort.is_good, sort.is_pinned, sort.hours_ago) = (true, false, sort.hours_ago.abs());
        }
        let snapshots = all(&sorts);
        let plan = plan_policy(&snapshots, &Policy { last, ..Policy::default() }, Grouping::default(), &moment(), false);
        for group in &plan.groups {
            let stays: Vec<bool> = group.decisions.iter().map(|decision| decision.fate != Fate::Remove).collect();
            let count = stays.len().min(last as usize);
            prop_assert!(stays[..count].iter().all(|stays| *stays) && !stays[count..].contains(&true));
            prop_assert!(group.decisions.is_sorted_by_key(|decision| -decision.listed.snapshot.started.seconds));
        }
    }

    #[test]
    fn an_empty_policy_removes_nothing(sorts in vec(some_sort(), 0..40)) {
        let snapshots = all(&sorts);
        let plan = plan_policy(&snapshots, &Policy::default(), Grouping::default(), &moment(), true);
        prop_assert!(plan.removed().is_empty());
    }

    #[test]
    fn twice_is_once_and_every_snapshot_has_one_decision(sorts in vec(some_sort(), 0..60), policy in some_policy()) {
        let snapshots = all(&sorts);
        let once = kept(&snapshots, &policy);
        prop_assert_eq!(ids(&kept(&once, &policy)), ids(&once));
        let plan = plan_policy(&snapshots, &policy, Grouping::default(), &moment(), false);
        prop_assert_eq!(plan.groups.iter().map(|group| group.decisions.len()).sum::<usize>(), snapshots.len());
    }

    #[test]
    fn a_run_that_is_killed_anywhere_and_repeated_ends_like_one_that_is_not(
        sorts in vec(some_sort(), 0..60),
        policy in some_policy(),
        gone in vec(any::<bool>(), 60),
    ) {
        let snapshots = all(&sorts);
        let whole = kept(&snapshots, &policy);
        let plan = plan_policy(&snapshots, &policy, Grouping::default(), &moment(), false);
        let removed: HashSet<SnapshotId> = plan.removed().iter().zip(&gone)
            .filter(|(_, gone)| **gone).map(|(listed, _)| listed.snapshot.id).collect();
        let rest: Vec<ListedSnapshot> =
            snapshots.iter().filter(|listed| !removed.contains(&listed.snapshot.id)).cloned().collect();
        prop_assert_eq!(ids(&kept(&rest, &policy)), ids(&whole));
    }

    #[test]
    fn more_rules_never_remove_more(sorts in vec(some_sort(), 0..60), policy in some_policy(), more in some_policy()) {
        prop_assume!(!policy.is_empty());
        let mut larger = policy.clone();
        larger.last = larger.last.max(more.last);
        larger.periods.iter_mut().zip(more.periods).for_each(|(larger, more)| *larger = (*larger).max(more));
        larger.within = larger.within.or(more.within);
        larger.periods_within.iter_mut().zip(more.periods_within).for_each(|(larger, more)| *larger = larger.or(more));
        larger.tags.extend(more.tags);
        let snapshots = all(&sorts);
        prop_assert!(ids(&kept(&snapshots, &policy)).is_subset(&ids(&kept(&snapshots, &larger))));
    }

    #[test]
    fn a_longer_age_never_removes_more(sorts in vec(some_sort(), 0..60), days in 1u16..800, more in 1u16..300) {
        let policy = |days: u16| {
            let age = Some(format!("{days}d").parse().unwrap());
            Policy { periods_within: [age, None, None, None, None], ..Policy::default() }
        };
        let snapshots = all(&sorts);
        prop_assert!(ids(&kept(&snapshots, &policy(days))).is_subset(&ids(&kept(&snapshots, &policy(days + more)))));
    }

    #[test]
    fn a_group_is_judged_as_if_it_were_alone(sorts in vec(some_sort(), 0..60), policy in some_policy()) {
        let snapshots = all(&sorts);
        let together = ids(&kept(&snapshots, &policy));
        let mut apart = HashSet::new();
        for host in 0..3 {
            let host = HostId([host; 16]);
            let own: Vec<ListedSnapshot> =
                snapshots.iter().filter(|listed| listed.snapshot.host_id == host).cloned().collect();
            apart.extend(ids(&kept(&own, &policy)));
        }
        prop_assert_eq!(together, apart);
    }

    #[test]
    fn pinned_and_future_ones_stay_and_so_does_the_newest_good_one(
        sorts in vec(some_sort(), 1..40),
        policy in some_policy(),
    ) {
        let snapshots = all(&sorts);
        let kept = ids(&kept(&snapshots, &policy));
        for listed in &snapshots {
            if is_pinned(listed) || listed.snapshot.started > moment().now {
                prop_assert!(kept.contains(&listed.snapshot.id));
            }
        }
        for host in 0..3 {
            let past = |listed: &&ListedSnapshot| {
                listed.snapshot.host_id == HostId([host; 16]) && listed.snapshot.started <= moment().now
            };
            let good = snapshots.iter().filter(past).filter(|listed| is_good(listed));
            if let Some(newest) = good.max_by_key(|listed| age_key(listed)) {
                prop_assert!(kept.contains(&newest.snapshot.id));
            }
        }
    }

    #[test]
    fn snapshots_from_the_future_push_nothing_out(
        sorts in vec(some_sort(), 0..40),
        future in vec(some_sort(), 0..10),
        policy in some_policy(),
    ) {
        let mut together = sorts.clone();
        together.extend(future.iter().map(|sort| Sort { hours_ago: -1 - sort.hours_ago.abs(), ..*sort }));
        let snapshots = all(&together);
        let alone = ids(&kept(&snapshots[..sorts.len()], &policy));
        prop_assert!(alone.is_subset(&ids(&kept(&snapshots, &policy))));
    }

    #[test]
    fn named_ones_go_but_for_pinned_ones_and_the_last_good_one(
        sorts in vec(some_sort(), 0..20),
        chosen in vec(any::<bool>(), 20),
        may_drop_last: bool,
    ) {
        let snapshots = all(&sorts);
        let named: HashSet<SnapshotId> =
            snapshots.iter().zip(&chosen).filter(|(_, chosen)| **chosen).map(|(listed, _)| listed.snapshot.id).collect();
        let plan = plan_named(&snapshots, &named, Grouping::default(), may_drop_last);
        for group in &plan.groups {
            let removed = |decision: &&Decision<'_>| decision.fate == Fate::Remove;
            for decision in group.decisions.iter().filter(removed) {
                prop_assert!(named.contains(&decision.listed.snapshot.id) && !is_pinned(decision.listed));
            }
            let has_good = |mut decisions: Box<dyn Iterator<Item = &Decision<'_>> + '_>| {
                decisions.any(|decision| is_good(decision.listed))
            };
            let had = has_good(Box::new(group.decisions.iter()));
            let has = has_good(Box::new(group.decisions.iter().filter(|decision| !removed(decision))));
            prop_assert!(may_drop_last || had == has);
            prop_assert!(may_drop_last || group.decisions.iter().any(|decision| !removed(&decision)));
            let stays = group.decisions.iter().filter(|decision| named.contains(&decision.listed.snapshot.id)
                && decision.fate == Fate::Keep(vec![Keep::LastGood]));
            prop_assert!(stays.count() <= usize::from(!may_drop_last));
        }
    }
}

/// A snapshot a day at noon for two years, the newest first.
fn daily() -> Vec<ListedSnapshot> {
    let sort =
        |day: i64| Sort { hours_ago: day * 24, host: 0, is_tagged: false, is_good: true, is_pinned: false };
    all(&(0..730).map(sort).collect::<Vec<_>>())
}

#[test]
fn a_usual_policy_keeps_what_restic_keeps_of_two_years() {
    let policy = Policy { last: 2, periods: [0, 7, 4, 12, 75], ..Policy::default() };
    // 2 of the 7 days are the last ones, too; 3 further weeks; 11 further months, of which one ends a year; and of the
    // three calendar years the newest of each, with the oldest of all.
    let snapshots = daily();
    let plan = plan_policy(&snapshots, &policy, Grouping::default(), &moment(), false);
    let reason = |wanted: Keep| {
        let has =
            |decision: &&Decision<'_>| matches!(&decision.fate, Fate::Keep(all) if all.contains(&wanted));
        plan.groups[0].decisions.iter().filter(has).count()
    };
    let counts = [
        reason(Keep::Last),
        reason(Keep::Period(Period::Daily)),
        reason(Keep::Period(Period::Weekly)),
        reason(Keep::Period(Period::Monthly)),
        reason(Keep::Period(Period::Yearly)),
    ];
    assert_eq!(counts, [2, 7, 4, 12, 4]);
    let oldest = plan.groups[0].decisions.last().unwrap();
    assert_eq!(oldest.fate, Fate::Keep(vec![Keep::Period(Period::Yearly)]));
}

#[test]
fn ages_count_from_the_newest_snapshot_not_from_now() {
    let policy = Policy { within: Some("7d".parse().unwrap()), ..Policy::default() };
    let snapshots = daily();
    assert_eq!(kept(&snapshots, &policy).len(), 8);
    assert_eq!(kept(&snapshots[300..], &policy).len(), 8);
}

#[test]
fn days_begin_where_the_time_zone_says() {
    let sort = Sort { hours_ago: 0, host: 0, is_tagged: false, is_good: true, is_pinned: false };
    let mut snapshots = all(&[sort, sort]);
    // 22:30 and 21:30 of one day in UTC; half past midnight and before, two hours further east.
    let midnight = 20_717 * 24 * HOURS;
    for (listed, minutes) in snapshots.iter_mut().zip([90, 150]) {
        listed.snapshot.started.seconds = midnight - minutes * 60;
    }
    let week = Some("7d".parse().unwrap());
    let policy = Policy { periods_within: [None, week, None, None, None], ..Policy::default() };
    let stays = |zone: TimeZone| {
        let moment = Moment { zone, ..moment() };
        snapshots.len()
            - plan_policy(&snapshots, &policy, Grouping::default(), &moment, false).removed().len()
    };
    assert_eq!((stays(TimeZone::UTC), stays(TimeZone::fixed(jiff::tz::offset(2)))), (1, 2));
}
