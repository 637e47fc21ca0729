//! `tag`: what people say about snapshots.

use super::forget::matches;
use crate::access;
use crate::args::{Global, TagArgs};
use crate::failure::{DONE, Hinted};
use crate::ui::{Ui, escape};
use anyhow::{Result, bail};
use lifeboat::format::SnapshotId;
use lifeboat::repo::amend::{Amendment, amend};
use serde_json::json;

/// Changes tags and pins.
pub(crate) fn run(global: &Global, ui: &Ui, arguments: &TagArgs) -> Result<u8> {
    let amendment = amendment(arguments);
    if amendment == Amendment::default() {
        bail!(Hinted::new(
            "nothing is to be changed",
            "lifeboat tag --add release latest    # or --pin, --remove"
        ));
    }
    let filter = &arguments.filter;
    let has_filter = !(filter.host.is_empty() && filter.tag.is_empty() && filter.path.is_empty());
    if arguments.snapshots.is_empty() && !has_filter {
        bail!(Hinted::new(
            "no snapshot is named",
            "lifeboat tag --add release latest    # or --host, --tag, --path"
        ));
    }
    let repository = access::open(global)?;
    let list = repository.snapshots()?;
    let chosen: Vec<SnapshotId> = if arguments.snapshots.is_empty() {
        let chosen = list.snapshots.iter().filter(|listed| matches(filter, listed));
        chosen.map(|listed| listed.snapshot.id).collect()
    } else {
        let found: Result<_, _> =
            arguments.snapshots.iter().map(|id| list.find(id).map(|listed| listed.snapshot.id)).collect();
        found?
    };
    let host = lifeboat::repo::host::host_id(&lifeboat::state_directory());
    let mut changed = 0;
    for id in &chosen {
        let Some(snapshot) = amend(&repository, *id, &amendment, host)? else { continue };
        changed += 1;
        if ui.json {
            let value =
                json!({"snapshot_id": id.to_string(), "tags": snapshot.tags, "pinned": snapshot.pinned});
            ui.emit("changed", value);
        } else {
            let pinned = if snapshot.pinned { "  (pinned)" } else { "" };
            let tags = escape(snapshot.tags.join(", ").as_bytes());
            ui.say(format!("{}  [{tags}]{pinned}", &id.to_string()[..8]));
        }
    }
    if ui.json {
        ui.emit("summary", json!({"changed_snapshots": changed, "snapshots": chosen.len()}));
    } else {
        ui.say(format!("changed {changed} of {} snapshots", chosen.len()));
    }
    Ok(DONE)
}

fn amendment(arguments: &TagArgs) -> Amendment {
    // An empty text is no tag.
    let words = |list: &[String]| list.iter().filter(|word| !word.is_empty()).cloned().collect::<Vec<_>>();
    Amendment {
        set: arguments.set.as_deref().map(words),
        add: words(&arguments.add),
        remove: words(&arguments.remove),
        pinned: (arguments.pin || arguments.unpin).then_some(arguments.pin),
        lacking: None,
    }
}
