//! Containers: looking at them, and what makes them run or not.
//!
//! Must stay true: an order that is fulfilled already is no error (starting what runs, stopping what stands), so undoing
//! can be repeated; nothing here decides whether a container may be touched.
//! Read next: [`super::exec`] and [`super::archive`] for what happens inside.

use super::call::{QUICK, Route, SLOW, plain_name};
use super::error::{Error, Result};
use super::views::{Container, ContainerSummary, list, text};
use super::{ApiVersion, Engine};
use bollard::query_parameters::{KillContainerOptions, StartContainerOptions, StopContainerOptions};
use serde_json::Value;
use std::time::Duration;

/// How much longer than its own timeout a container may take to stop before the engine is given up.
const STOP_MARGIN: Duration = Duration::from_secs(60);

/// What runc says where processes began faster than they were frozen.
const NOT_FROZEN: &str = "unable to freeze";
/// How often an engine is asked to pause a container in which that happens.
const PAUSE_TRIES: u32 = 4;

/// How a container is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopping {
    /// How long its process may take after the signal, before it is killed.
    pub grace: Duration,
}

/// One path that differs between a container and its image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Absolute, in the container.
    pub path: String,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// How a path differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// Content or metadata.
    Modified,
    /// Not in the image.
    Added,
    /// In the image only.
    Deleted,
}

impl Engine {
    /// All containers, running or not, that have all the labels (`name` or `name=value`).
    pub fn containers(&self, labels: &[&str]) -> Result<Vec<ContainerSummary>> {
        let doing = "listing containers";
        let filters: Vec<_> = labels.iter().map(|label| ("label", *label)).collect();
        let route = Route::new(&["containers", "json"]).with("all", "1").filtered(&filters);
        let answer = self.get(doing, route)?;
        self.elements(doing, answer, ContainerSummary::from_json)
    }

    /// One container by name or id; [`Error::is_not_found`] where there is none.
    pub fn container(&self, name: &str) -> Result<Container> {
        let doing = format!("inspecting container {name}");
        let answer = self.get(&doing, Route::new(&["containers", name, "json"]))?;
        Container::from_json(answer).ok_or_else(|| self.shapeless(&doing))
    }

    /// What differs from the image. Volumes and binds are not looked into.
    pub fn container_changes(&self, name: &str) -> Result<Vec<Change>> {
        let doing = format!("asking what changed in container {name}");
        let route = Route::new(&["containers", name, "changes"]);
        let answer = self.get(&doing, route)?;
        let change = |value: &Value| {
            let kind = match value.get("Kind").and_then(Value::as_u64) {
                Some(0) => ChangeKind::Modified,
                Some(1) => ChangeKind::Added,
                Some(2) => ChangeKind::Deleted,
                _ => return Err(self.shapeless(&doing)),
            };
            Ok(Change { path: text(value, "/Path"), kind })
        };
        list(&answer, "").map(change).collect()
    }

    /// Makes an image of what a container's writable layer holds at this moment, without pausing it; gives its id.
    pub fn commit_container(&self, name: &str, labels: &[(&str, &str)]) -> Result<String> {
        let doing = format!("committing container {name}");
        let mut route = Route::new(&["commit"]).with("container", name).with("pause", "0");
        for (name, value) in labels {
            route = route.with("changes", &format!("LABEL {name}={value}"));
        }
        let answer = self.post(&doing, SLOW, route, Some(&serde_json::json!({})))?;
        Some(text(&answer, "/Id")).filter(|id| !id.is_empty()).ok_or_else(|| self.shapeless(&doing))
    }

    /// The command lines of what runs in a container; fails where nothing does.
    pub fn container_processes(&self, name: &str) -> Result<Vec<String>> {
        let doing = format!("listing the processes of container {name}");
        let answer = self.get(&doing, Route::new(&["containers", name, "top"]))?;
        // The last column is the command, whatever the others are.
        let command = |row: &Value| list(row, "").last().and_then(Value::as_str).map(str::to_owned);
        Ok(list(&answer, "/Processes").filter_map(command).collect())
    }

    /// Makes a container from the body of a create request; gives its id. Without a name the engine makes one up.
    pub fn create_container(&self, name: Option<&str>, body: &Value) -> Result<String> {
        let doing = format!("creating container {}", name.unwrap_or("without a name"));
        let route = Route::new(&["containers", "create"]);
        let route = match name {
            Some(name) => route.with("name", name),
            None => route,
        };
        let answer = self.post(&doing, SLOW, route, Some(body))?;
        Some(text(&answer, "/Id")).filter(|id| !id.is_empty()).ok_or_else(|| self.shapeless(&doing))
    }

    /// Starts a container; no error where it runs already.
    pub fn start_container(&self, name: &str) -> Result<()> {
        let name = plain_name(name)?;
        let work = self.bollard().start_container(name, None::<StartContainerOptions>);
        self.wait(&format!("starting container {name}"), SLOW, work)
    }

    /// Stops a container: its signal, then after the grace time a kill; no error where it stands already.
    pub fn stop_container(&self, name: &str, how: Stopping) -> Result<()> {
        let name = plain_name(name)?;
        let seconds = i32::try_from(how.grace.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptions { t: Some(seconds), signal: None };
        let work = self.bollard().stop_container(name, Some(options));
        self.wait(&format!("stopping container {name}"), how.grace.saturating_add(STOP_MARGIN), work)
    }

    /// Sends a signal to a container's process: `KILL`, `HUP` and so on.
    pub fn kill_container(&self, name: &str, signal: &str) -> Result<()> {
        let name = plain_name(name)?;
        let options = KillContainerOptions { signal: signal.to_owned() };
        let work = self.bollard().kill_container(name, Some(options));
        self.wait(&format!("sending {signal} to container {name}"), QUICK, work)
    }

    /// Freezes all processes of a container. Fails where it is not running, or frozen already. Where the engine's runtime does
    /// not catch all of them, as on a busy machine, it has let go of those that it caught, and is asked again.
    pub fn pause_container(&self, name: &str) -> Result<()> {
        let (name, mut left) = (plain_name(name)?, PAUSE_TRIES);
        loop {
            let answer =
                self.wait(&format!("pausing container {name}"), QUICK, self.bollard().pause_container(name));
            left -= 1;
            match &answer {
                Err(Error::Refused { message, .. }) if left > 0 && message.contains(NOT_FROZEN) => {}
                _ => return answer,
            }
        }
    }

    /// Lets a container go on. Fails where it is not frozen.
    pub fn unpause_container(&self, name: &str) -> Result<()> {
        let name = plain_name(name)?;
        self.wait(&format!("unpausing container {name}"), QUICK, self.bollard().unpause_container(name))
    }

    /// Gives a container another name.
    pub fn rename_container(&self, name: &str, new_name: &str) -> Result<()> {
        let route = Route::new(&["containers", name, "rename"]).with("name", new_name);
        self.post(&format!("renaming container {name} to {new_name}"), QUICK, route, None).map(drop)
    }

    /// Removes a container, running or not, and its anonymous volumes where `volumes` says so; no error where it is gone.
    pub fn remove_container(&self, name: &str, volumes: AnonymousVolumes) -> Result<()> {
        let route = Route::new(&["containers", name]).with("force", "1");
        let route = match volumes {
            AnonymousVolumes::Remove => route.with("v", "1"),
            AnonymousVolumes::Keep => route,
        };
        match self.delete(&format!("removing container {name}"), route) {
            // A removal that runs already does the same.
            Err(Error::Refused { status: 404 | 409, message, .. })
                if message.contains("o such container") || message.contains("already in progress") =>
            {
                Ok(())
            }
            result => result,
        }
    }

    /// Waits until a container does not run; gives its exit code. `None` where it still runs after `limit`.
    pub fn wait_container(&self, name: &str, limit: Duration) -> Result<Option<i64>> {
        let doing = format!("waiting for container {name} to end");
        match self.post(&doing, limit, Route::new(&["containers", name, "wait"]), None) {
            Err(Error::Timeout { .. }) => Ok(None),
            Err(error) => Err(error),
            Ok(answer) => match answer.get("StatusCode").and_then(Value::as_i64) {
                Some(code) => Ok(Some(code)),
                None => Err(self.shapeless(&doing)),
            },
        }
    }

    /// Whether payloads of this version may be sent.
    pub fn speaks(&self, major: u32, minor: u32) -> bool {
        self.api() >= ApiVersion::new(major, minor)
    }

    pub(super) fn elements<T>(
        &self,
        doing: &str,
        answer: Value,
        view: impl Fn(Value) -> Option<T>,
    ) -> Result<Vec<T>> {
        match answer {
            Value::Array(values) => {
                values.into_iter().map(|value| view(value).ok_or_else(|| self.shapeless(doing))).collect()
            }
            // Nothing at all is how Go writes an empty list.
            Value::Null => Ok(Vec::new()),
            _ => Err(self.shapeless(doing)),
        }
    }

    pub(super) fn shapeless(&self, doing: &str) -> Error {
        Error::Protocol { doing: doing.to_owned(), detail: "it does not have the usual form".to_owned() }
    }
}

/// What becomes of the volumes that the engine made for a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnonymousVolumes {
    /// They stay.
    Keep,
    /// They go with their container.
    Remove,
}
