//! What is read of a group: a tree for each container, a source for each volume, a path for each captured bind.
//!
//! Must stay true: everything a container mounts is in its detail, with what became of it: nobody has to guess what a
//! snapshot lacks. A detail never exceeds what a snapshot takes.

use super::group::{Group, Member};
use super::{Error, OWN};
use crate::boundary::{Captured, Reason};
use crate::engine::views::Container;
use crate::layer::{self, reach::reach};
use crate::volume::{Volumes, is_tmpfs};
use lifeboat_format::snapshot::SourceKind;
use lifeboat_transfer::backup::{SourceSpec, TreeSpec};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// What a snapshot takes of one detail: `docs/format/snapshot.md#details`.
const DETAIL_MAX: usize = 64 << 10;

/// What is read, and what there is to say of it.
#[derive(Debug, Default)]
pub struct Sources {
    /// To be read.
    pub specs: Vec<SourceSpec>,
    /// For people, before anything is held still.
    pub notices: Vec<String>,
    /// What should be read and cannot: what, and why.
    pub missing: Vec<(String, String)>,
    /// Whether something comes as a stream, for which services are held to its end.
    pub has_streams: bool,
}

impl Group {
    /// What there is to read.
    ///
    /// # Errors
    ///
    /// The engine does not answer, or a container is gone.
    pub fn sources(&self, volumes: &Volumes) -> Result<Sources, Error> {
        let mut sources = Sources::default();
        let mut anonymous = Vec::new();
        for name in &self.captured.volumes {
            match volumes.to_read(name) {
                Ok(reached) => {
                    sources.notices.extend(reached.notice());
                    if is_tmpfs(&reached.volume) {
                        sources.notices.push(format!(
                            "volume:{name} is a tmpfs: what comes back is gone at its next unmount"
                        ));
                    }
                    anonymous.extend(reached.volume.is_anonymous().then(|| name.clone()));
                    let spec = reached.into_source();
                    sources.has_streams |= matches!(spec, SourceSpec::Archive(_));
                    sources.specs.push(spec);
                }
                Err(error) if error.is_missing() => {
                    sources.missing.push((format!("volume:{name}"), error.to_string()));
                }
                Err(error) => return Err(error.into()),
            }
        }
        for name in &self.captured.own_volumes {
            sources.notices.push(format!("volume {name} is not captured: {OWN}"));
        }
        sources.specs.extend(self.captured.binds.captured.iter().map(path_source));
        for recorded in &self.captured.binds.recorded {
            let (bind, what) = (&recorded.bind, recorded.reason.phrase());
            let name = format!("{} of container {}", bind.source.display(), bind.container);
            match recorded.reason.is_a_loss() {
                true => sources.missing.push((name, what)),
                false => sources.notices.push(format!("{name} is not captured: {what}")),
            }
        }
        for member in self.members.iter().filter(|member| member.is_named) {
            self.container(member, volumes, &anonymous, &mut sources)?;
        }
        Ok(sources)
    }

    /// The tree of a container.
    fn container(
        &self,
        member: &Member,
        volumes: &Volumes,
        anonymous: &[String],
        sources: &mut Sources,
    ) -> Result<(), Error> {
        let name = &member.facts.name;
        let container = match self.engine.container(&member.facts.id) {
            Err(error) if error.is_not_found() => return Err(Error::NoContainer(name.clone())),
            answer => answer?,
        };
        let others = not_captured(&container);
        if !others.is_empty() {
            sources.notices.push(format!("container {name}: not captured: {}", others.join(", ")));
        }
        let (id, image, image_id) =
            (container.id.clone(), container.image.clone(), container.image_id.clone());
        let layer = reach(volumes, container)?;
        sources.notices.extend(layer.notice());
        sources.has_streams |= layer.is_stream();
        let detail = json!({
            "id": id,
            "image": image,
            "project": member.facts.labels.get("com.docker.compose.project"),
            "image_id": image_id,
            "layer": layer.read(),
            "volumes": self.volumes_of(member, anonymous),
            "binds": self.binds_of(member),
            "not_captured": others,
        });
        sources.specs.push(layer.into_source(fitting(detail)));
        Ok(())
    }

    fn volumes_of(&self, member: &Member, anonymous: &[String]) -> Vec<Value> {
        let volumes = member.facts.mounts.iter().filter(|mount| mount.kind == "volume");
        volumes
            .map(|mount| {
                let name = mount.name.clone().unwrap_or_default();
                json!({
                    "destination": mount.destination,
                    "anonymous": anonymous.contains(&name),
                    "captured": self.captured.volumes.contains(&name),
                    "name": name,
                })
            })
            .collect()
    }

    fn binds_of(&self, member: &Member) -> Vec<Value> {
        let plan = &self.captured.binds;
        let own = |bind: &&crate::boundary::Bind| bind.container == member.facts.name;
        let captured = plan.captured.iter().flat_map(|one| one.binds.iter().map(move |bind| (one, bind)));
        let captured = captured.filter(|(_, bind)| own(bind)).map(|(one, bind)| {
            json!({
                "source": bind.source, "destination": bind.destination, "captured": true,
                "path": bind.resolved, "within": one.path,
            })
        });
        let recorded = plan.recorded.iter().filter(|recorded| own(&&recorded.bind)).map(|recorded| {
            let bind = &recorded.bind;
            json!({
                "source": bind.source, "destination": bind.destination, "captured": false,
                "why": recorded.reason.phrase(), "excluded": recorded.reason == Reason::Excluded,
            })
        });
        captured.chain(recorded).collect()
    }
}

/// What a container mounts that is neither a volume nor a path of the host. Some engines list a tmpfs in one place only.
fn not_captured(container: &Container) -> Vec<String> {
    let other = |kind: &str| !matches!(kind, "volume" | "bind");
    let mounts = container.mounts.iter().filter(|mount| other(&mount.kind));
    let mut all: BTreeMap<&str, &str> =
        mounts.map(|mount| (mount.destination.as_str(), mount.kind.as_str())).collect();
    let tmpfs = container.raw.pointer("/HostConfig/Tmpfs").and_then(Value::as_object);
    all.extend(tmpfs.into_iter().flatten().map(|(destination, _)| (destination.as_str(), "tmpfs")));
    all.into_iter().map(|(destination, kind)| format!("{destination} ({kind})")).collect()
}

/// The detail's text; one that no snapshot takes loses its lists, and says so.
fn fitting(mut detail: Value) -> String {
    for member in ["not_captured", "binds", "volumes"] {
        let text = detail.to_string();
        if text.len() <= DETAIL_MAX {
            return text;
        }
        let count = detail.get(member).and_then(Value::as_array).map_or(0, Vec::len);
        detail[member] = json!(format!("{count}: more than a detail holds; see container.json"));
    }
    let text = detail.to_string();
    if text.len() <= DETAIL_MAX { text } else { String::new() }
}

/// A captured path, with the container paths that it stands for.
fn path_source(captured: &Captured) -> SourceSpec {
    let Some(name) = captured.path.to_str() else { return SourceSpec::Path(captured.path.clone()) };
    let binds: Vec<Value> = captured
        .binds
        .iter()
        .map(|bind| {
            json!({"container": bind.container, "destination": bind.destination, "source": bind.source})
        })
        .collect();
    let mut spec = TreeSpec::folder(SourceKind::Path, name, &captured.path);
    spec.detail = fitting(json!({"binds": binds}));
    for folder in &mut spec.folders {
        folder.excludes = captured.without.iter().filter_map(|path| rule(path, &captured.path)).collect();
    }
    SourceSpec::Tree(spec)
}

/// A gitignore rule for exactly this path below the folder.
fn rule(path: &Path, folder: &Path) -> Option<String> {
    Some(layer::pattern(path.strip_prefix(folder).ok()?.to_str()?))
}
