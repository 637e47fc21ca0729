//! `forget`: what goes is planned by `lifeboat::repo::retention`, shown, then done.

use super::browse::describe;
use crate::access;
use crate::args::{Filter, ForgetArgs, Global, PolicyArgs};
use crate::failure::{DONE, Hinted};
use crate::ui::{self, Ui, escape};
use anyhow::{Result, bail};
use lifeboat::format::{SnapshotId, Timestamp};
use lifeboat::repo::retention::group::GroupKey;
use lifeboat::repo::retention::policy::Policy;
use lifeboat::repo::retention::{self, Fate, Group, Keep, Moment, Plan, is_tagged};
use lifeboat::repo::snapshots::{ListedSnapshot, SnapshotList};
use serde_json::{Value, json};
use std::collections::HashSet;

/// Forgets snapshots.
pub(crate) fn run(global: &Global, ui: &Ui, arguments: &ForgetArgs) -> Result<u8> {
    let policy = policy(&arguments.policy);
    if arguments.snapshots.is_empty() && policy.is_empty() {
        bail!(Hinted::new(
            "no rule says what to keep, so nothing is forgotten",
            "lifeboat forget --keep-daily 7 --keep-weekly 5 --keep-monthly 12 --dry-run"
        ));
    }
    let repository = access::open(global)?;
    let list = repository.snapshots()?;
    ui.tell_set_back(&repository);
    list.demand_sound()?;
    let plan = if arguments.snapshots.is_empty() {
        let chosen = list.snapshots.iter().filter(|listed| matches(&arguments.filter, listed));
        let now = jiff::Timestamp::now();
        let now = Timestamp { seconds: now.as_second(), nanos: now.subsec_nanosecond().unsigned_abs() };
        let moment = Moment { now, zone: jiff::tz::TimeZone::system() };
        retention::plan_policy(chosen, &policy, arguments.group_by, &moment, arguments.allow_last)
    } else {
        plan_named(&list, arguments)?
    };
    if !arguments.dry_run {
        retention::apply(&repository, &plan)?;
    }
    show(ui, &plan, arguments.dry_run);
    Ok(DONE)
}

/// Named snapshots go together or not at all.
fn plan_named<'l>(list: &'l SnapshotList, arguments: &ForgetArgs) -> Result<Plan<'l>> {
    let named: Result<HashSet<SnapshotId>, _> =
        arguments.snapshots.iter().map(|id| list.find(id).map(|listed| listed.snapshot.id)).collect();
    let plan = retention::plan_named(&list.snapshots, &named?, arguments.group_by, arguments.allow_last);
    for decision in plan.groups.iter().flat_map(|group| &group.decisions) {
        let id = &decision.listed.snapshot.id.to_string()[..8];
        match &decision.fate {
            Fate::Keep(reasons) if reasons.contains(&Keep::LastGood) => bail!(Hinted::new(
                format!("snapshot {id} is the last good one of its group; nothing was forgotten"),
                format!("lifeboat forget --allow-last {id}")
            )),
            Fate::Keep(reasons) if reasons.contains(&Keep::Pinned) => bail!(Hinted::new(
                format!("snapshot {id} is pinned; nothing was forgotten"),
                format!("lifeboat tag --unpin {id}")
            )),
            _ => {}
        }
    }
    Ok(plan)
}

fn policy(arguments: &PolicyArgs) -> Policy {
    Policy {
        last: arguments.keep_last,
        periods: [
            arguments.keep_hourly,
            arguments.keep_daily,
            arguments.keep_weekly,
            arguments.keep_monthly,
            arguments.keep_yearly,
        ],
        within: arguments.keep_within,
        periods_within: [
            arguments.keep_within_hourly,
            arguments.keep_within_daily,
            arguments.keep_within_weekly,
            arguments.keep_within_monthly,
            arguments.keep_within_yearly,
        ],
        tags: arguments.keep_tag.iter().map(|list| words(list)).collect(),
    }
}

/// The words of a list with commas.
fn words(list: &str) -> Vec<String> {
    list.split(',').map(str::to_owned).collect()
}

/// Whether a snapshot is one of those that are asked for.
pub(crate) fn matches(filter: &Filter, listed: &ListedSnapshot) -> bool {
    let snapshot = &listed.snapshot;
    (filter.host.is_empty() || filter.host.contains(&snapshot.host))
        && (filter.tag.is_empty() || filter.tag.iter().any(|list| is_tagged(listed, &words(list))))
        && filter.path.iter().all(|path| {
            let wanted = path.as_os_str().as_encoded_bytes();
            snapshot.sources.iter().any(|source| source.full_name() == wanted)
        })
}

fn show(ui: &Ui, plan: &Plan<'_>, is_dry_run: bool) {
    let removed = plan.removed().len();
    let total: usize = plan.groups.iter().map(|group| group.decisions.len()).sum();
    if ui.json {
        plan.groups.iter().for_each(|group| ui.emit("forget_group", describe_group(group)));
        ui.emit("summary", json!({"kept": total - removed, "removed": removed, "dry_run": is_dry_run}));
        return;
    }
    for group in &plan.groups {
        show_group(ui, group, plan.is_named);
    }
    ui.say(match (removed, is_dry_run) {
        (0, _) if total == 1 => "nothing to forget: 1 snapshot stays".to_owned(),
        (0, _) => format!("nothing to forget: {total} snapshots stay"),
        (_, true) => format!("would forget {removed} of {total} snapshots"),
        (_, false) => format!(
            "forgot {removed} of {total} snapshots; what only they held stays in the repository until `lifeboat gc` collects it"
        ),
    });
}

/// One line for each snapshot; of named ones only for those.
fn show_group(ui: &Ui, group: &Group<'_>, is_named: bool) {
    if !is_named {
        ui.say(title(&group.key));
    }
    for decision in &group.decisions {
        let (word, reason) = match &decision.fate {
            Fate::Remove if is_named => ("forget", String::new()),
            Fate::Remove => ("forget", "no rule keeps it".to_owned()),
            Fate::Keep(_) if is_named => continue,
            Fate::Keep(reasons) => {
                ("keep", reasons.iter().map(Keep::to_string).collect::<Vec<_>>().join(", "))
            }
        };
        let snapshot = &decision.listed.snapshot;
        let (id, time) = (&snapshot.id.to_string()[..8], ui::time(snapshot.started));
        ui.say(format!("  {word:6}  {id}  {time}  {}", escape(reason.as_bytes())).trim_end());
    }
}

fn title(key: &GroupKey) -> String {
    let mut parts = Vec::new();
    parts.extend(key.host.as_ref().map(|host| format!("host {}", escape(host.as_bytes()))));
    let escaped = |names: &Vec<Vec<u8>>| names.iter().map(|name| escape(name)).collect::<Vec<_>>().join(" ");
    parts.extend(key.sources.as_ref().map(escaped));
    parts.extend(key.tags.as_ref().map(|tags| format!("[{}]", escape(tags.join(", ").as_bytes()))));
    parts.extend(key.projects.as_ref().map(|projects| match projects.is_empty() {
        true => "no project".to_owned(),
        false => format!("project {}", escape(projects.join(" ").as_bytes())),
    }));
    if parts.is_empty() { "all snapshots".to_owned() } else { parts.join(", ") }
}

/// A group in restic's field names.
fn describe_group(group: &Group<'_>) -> Value {
    let lossy = |name: &Vec<u8>| String::from_utf8_lossy(name).into_owned();
    let (mut keep, mut remove, mut reasons) = (Vec::new(), Vec::new(), Vec::new());
    for decision in &group.decisions {
        let snapshot = describe(&decision.listed.snapshot);
        match &decision.fate {
            Fate::Remove => remove.push(snapshot),
            Fate::Keep(why) => {
                let matches: Vec<String> = why.iter().map(Keep::to_string).collect();
                reasons.push(json!({"snapshot": snapshot["id"], "matches": matches}));
                keep.push(snapshot);
            }
        }
    }
    json!({
        "host": group.key.host,
        "paths": group.key.sources.as_ref().map(|names| names.iter().map(lossy).collect::<Vec<_>>()),
        "tags": group.key.tags,
        "projects": group.key.projects,
        "keep": keep,
        "remove": remove,
        "reasons": reasons,
    })
}
