//! A volume that is to be restored into.
//!
//! Must stay true: everything that speaks against it is said before anything is changed; a volume that a running
//! container uses is never written to, nor one that holds something unless that was asked for; driver, options and
//! labels come back with a volume that is made, and where one is there already, what differs is said.

use super::helper_container::HelperContainer;
use super::{Error, ReachedVolume, Volumes, Way, is_tmpfs};
use crate::engine::views::{ContainerSummary, Mount, Volume, Words, words};
use lifeboat_transfer::source::archive::Members;
use serde_json::Value;

/// What a snapshot says about a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// `local`, or a plugin's name.
    pub driver: String,
    /// The driver's options.
    pub options: Words,
    /// Its labels.
    pub labels: Words,
}

impl Default for Recorded {
    /// A plain volume, as for a source that never was one.
    fn default() -> Self {
        Self { driver: "local".into(), options: Words::new(), labels: Words::new() }
    }
}

impl Recorded {
    /// Reads a source's detail; what it does not say is as in a plain volume.
    pub fn from_detail(detail: &str) -> Self {
        let value: Value = serde_json::from_str(detail).unwrap_or_default();
        let driver = value.get("driver").and_then(Value::as_str).unwrap_or("local").to_owned();
        Self { driver, options: words(&value, "/options"), labels: words(&value, "/labels") }
    }

    /// How a volume differs from it, in words that show no option's value.
    fn differences(&self, volume: &Volume) -> Vec<String> {
        let mut found = Vec::new();
        if volume.driver != self.driver {
            found.push(format!("its driver is `{}`; in the snapshot it is `{}`", volume.driver, self.driver));
        }
        for (what, here, there) in
            [("option", &volume.options, &self.options), ("label", &volume.labels, &self.labels)]
        {
            let names = here.keys().chain(there.keys().filter(|name| !here.contains_key(*name)));
            for name in names.filter(|name| here.get(*name) != there.get(*name)) {
                let how = match (here.get(name), there.get(name)) {
                    (Some(_), None) => "is not in the snapshot",
                    (None, _) => "is in the snapshot only",
                    _ => "has another value in the snapshot",
                };
                found.push(format!("its {what} `{name}` {how}"));
            }
        }
        found
    }
}

/// What to do with a volume that holds something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotEmpty {
    /// Nothing.
    Refuse,
    /// Write into it.
    Write,
}

/// What restoring into a volume will do.
#[derive(Debug)]
pub struct Plan {
    name: String,
    recorded: Recorded,
    /// Whether it has to be made.
    pub is_new: bool,
    /// What will not be as in the snapshot.
    pub notices: Vec<String>,
}

impl Volumes {
    /// Decides how to restore into a volume; changes nothing.
    pub fn plan_restore(&self, name: &str, recorded: Recorded, not_empty: NotEmpty) -> Result<Plan, Error> {
        let existing = match self.engine.volume(name) {
            Ok(volume) => Some(volume),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        };
        let fleeting = match &existing {
            Some(volume) => is_tmpfs(volume),
            None => is_tmpfs(&Volume {
                driver: recorded.driver.clone(),
                options: recorded.options.clone(),
                ..Volume::default()
            }),
        };
        if fleeting {
            return Err(Error::Fleeting { name: name.to_owned() });
        }
        let mut notices = Vec::new();
        if let Some(volume) = &existing {
            let users = self.running_users(name)?;
            if !users.is_empty() {
                return Err(Error::InUse { name: name.to_owned(), containers: users });
            }
            if not_empty == NotEmpty::Refuse && !self.is_empty(name)? {
                return Err(Error::NotEmpty { name: name.to_owned() });
            }
            let said = recorded.differences(volume);
            notices.extend(said.into_iter().map(|what| format!("volume:{name} stays as it is: {what}")));
        }
        Ok(Plan { name: name.to_owned(), recorded, is_new: existing.is_none(), notices })
    }

    /// Makes the volume where it is missing, and finds the way to write it.
    pub fn carry_out(&self, plan: &Plan) -> Result<ReachedVolume, Error> {
        if plan.is_new {
            let Recorded { driver, options, labels } = &plan.recorded;
            self.engine.create_volume(Some(&plan.name), driver, options, labels)?;
        }
        self.to_write(&plan.name)
    }

    /// Names of the containers that may write into the volume at this moment.
    pub fn writers(&self, name: &str) -> Result<Vec<String>, Error> {
        self.users(name, |container, mount| container.status == "running" && mount.is_writable)
    }

    fn running_users(&self, name: &str) -> Result<Vec<String>, Error> {
        let runs = |status: &str| matches!(status, "running" | "paused" | "restarting" | "removing");
        self.users(name, |container, _| runs(&container.status))
    }

    fn users(
        &self,
        name: &str,
        counts: impl Fn(&ContainerSummary, &Mount) -> bool,
    ) -> Result<Vec<String>, Error> {
        let is_used = |one: &ContainerSummary| {
            let mut mounts = one.mounts.iter().filter(|mount| mount.kind == "volume" && mount.name == name);
            mounts.any(|mount| counts(one, mount))
        };
        let all = self.engine.containers(&[])?;
        Ok(all.into_iter().filter(is_used).map(|one| one.name).collect())
    }

    fn is_empty(&self, name: &str) -> Result<bool, Error> {
        let reached = self.to_read(name)?;
        match &reached.way {
            Way::Direct(root) => match std::fs::read_dir(root).and_then(|mut list| list.next().transpose()) {
                Ok(first) => Ok(first.is_none()),
                Err(source) => Err(Error::Disk { path: root.clone(), source }),
            },
            Way::Helper { container, .. } => has_no_members(container),
        }
    }
}

fn has_no_members(container: &HelperContainer) -> Result<bool, Error> {
    let mut members = Members::new(container.archive(0)?);
    while let Some(member) = members.next_member().map_err(Error::Unsound)? {
        let name = member.name.strip_prefix(b"./").unwrap_or(&member.name);
        if !matches!(name, b"" | b".") {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn driver_options_and_labels_are_read_back_from_the_detail() {
        let detail = json!({"driver": "nfs", "options": {"device": ":/x"}, "labels": {"a": "b"}, "read": {}});
        let recorded = Recorded::from_detail(&detail.to_string());
        assert_eq!(recorded.driver, "nfs");
        assert_eq!(recorded.options["device"], ":/x");
        assert_eq!(recorded.labels["a"], "b");
        for nothing in ["", "{", "[]", "null", r#"{"driver": 5, "options": "x"}"#] {
            assert_eq!(Recorded::from_detail(nothing), Recorded::default());
        }
    }

    #[test]
    fn what_differs_from_the_snapshot_is_named_without_its_value() {
        let words = |pairs: &[(&str, &str)]| -> Words {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let recorded = Recorded {
            driver: "local".into(),
            options: words(&[("o", "password=s3cret"), ("x", "1")]),
            labels: words(&[("same", "1")]),
        };
        let volume = Volume {
            driver: "other".into(),
            options: words(&[("o", "password=0ther")]),
            labels: words(&[("same", "1"), ("new", "2")]),
            ..Volume::default()
        };
        let said = recorded.differences(&volume).join("\n");
        for part in [
            "driver is `other`",
            "option `o` has another",
            "option `x` is in the snapshot only",
            "label `new` is not in",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(!said.contains("s3cret") && !said.contains("0ther") && !said.contains("same"), "{said}");
    }
}
