//! `init`, `key`, `repo`, `stats`, `cache`.

use crate::access;
use crate::args::{Global, KeyCommand, RepoCommand};
use crate::failure::{DONE, Hinted};
use crate::ui::{self, Ui, bytes};
use anyhow::{Context, Result, bail};
use lifeboat::format::{ObjectKind, SlotId, Timestamp};
use lifeboat::repo::SlotInfo;
use lifeboat::repo::chains::SetBack;
use serde_json::json;

/// Makes a repository.
pub(crate) fn init(global: &Global, ui: &Ui) -> Result<u8> {
    let location = access::location(global)?;
    // Before a new key file is made: it should not be left behind by a refusal.
    if lifeboat::open_store(&location).is_ok() {
        bail!(Hinted::new(
            format!("there is a repository at {location} already"),
            format!("lifeboat snapshots -r {location}")
        ));
    }
    let secret = access::secret(global, true)?;
    let repository = lifeboat::init(&location, &secret.borrow())?;
    if ui.json {
        ui.emit("initialized", json!({"id": repository.id().to_string(), "repository": location}));
        return Ok(DONE);
    }
    ui.say(format!("Created repository {} at {location}", &repository.id().to_string()[..8]));
    ui.say("Without its password or key file nobody can read it, you included: keep a copy somewhere else.");
    Ok(DONE)
}

/// Passwords and key files.
pub(crate) fn key(global: &Global, ui: &Ui, command: &KeyCommand) -> Result<u8> {
    let location = access::location(global)?;
    let store = lifeboat::open_store(&location)?;
    let secret = access::secret(global, false)?;
    let repository = lifeboat::Repository::open(store, &secret.borrow())?;
    match command {
        KeyCommand::List => {
            for slot in repository.slots(Some(&secret.borrow()))? {
                show_slot(ui, &slot);
            }
        }
        KeyCommand::Add(arguments) => {
            let added =
                repository.add_slot(&access::new_secret(arguments)?.borrow(), &arguments.label, now())?;
            tell_added(ui, "Added key", added);
        }
        KeyCommand::Passwd(arguments) => {
            let added =
                repository.replace_slot(&access::new_secret(arguments)?.borrow(), &arguments.label, now())?;
            tell_added(ui, "Replaced the key in use by key", added);
        }
        KeyCommand::Rotate(arguments) => {
            let (added, removed) =
                repository.rotate_slots(&access::new_secret(arguments)?.borrow(), &arguments.label, now())?;
            if ui.json {
                let removed: Vec<String> = removed.iter().map(SlotId::to_string).collect();
                ui.emit("keys_rotated", json!({"id": added.to_string(), "removed": removed}));
            }
            ui.say(format!("Key {added} is the only one now; {} removed", removed.len()));
        }
        KeyCommand::Remove { id } => {
            let slots = repository.slots(None)?;
            let mut matching = slots.iter().filter(|slot| slot.id.to_string().starts_with(id.as_str()));
            let slot = match (matching.next(), matching.next()) {
                (Some(slot), None) => slot,
                (None, _) => bail!(Hinted::new(format!("there is no key `{id}`"), "lifeboat key list")),
                (Some(_), Some(_)) => {
                    bail!(Hinted::new(format!("`{id}` is not unique"), "lifeboat key list"))
                }
            };
            if slot.is_current {
                bail!(Hinted::new("this key is in use right now", "lifeboat key passwd    # replaces it"));
            }
            let id: SlotId = slot.id;
            repository.remove_slot(id)?;
            ui.say(format!("Removed key {id}"));
        }
    }
    Ok(DONE)
}

fn tell_added(ui: &Ui, what: &str, id: SlotId) {
    if ui.json {
        ui.emit("key_added", json!({"id": id.to_string()}));
    } else {
        ui.say(format!("{what} {id}"));
    }
}

fn show_slot(ui: &Ui, slot: &SlotInfo) {
    let kind = if slot.is_passphrase { "password" } else { "key file" };
    if ui.json {
        let value =
            json!({"id": slot.id.to_string(), "kind": kind, "current": slot.is_current, "label": slot.label});
        ui.emit("key", value);
    } else {
        let mark = if slot.is_current { "*" } else { " " };
        ui.result(format!("{mark}{}  {kind:8}  {}", slot.id, slot.label.as_deref().unwrap_or("")));
    }
}

/// The repository itself.
pub(crate) fn repo(global: &Global, ui: &Ui, command: &RepoCommand) -> Result<u8> {
    let repository = access::open(global)?;
    if let RepoCommand::Accept = command {
        let accepted = repository.accept_set_back()?;
        let one = |set_back: &SetBack| set_back.seen.1.to_string();
        if ui.json {
            ui.emit("accepted", json!({"snapshots": accepted.iter().map(one).collect::<Vec<_>>()}));
        }
        accepted.iter().for_each(|set_back| ui.say(format!("{} is not missed any more", one(set_back))));
        if accepted.is_empty() {
            ui.say("nothing is missed: the repository is no older than this machine saw it");
        }
        return Ok(DONE);
    }
    let config = repository.config();
    let parameters = &config.parameters;
    if ui.json {
        ui.emit(
            "repository",
            json!({
                "id": repository.id().to_string(),
                "version": 1,
                "location": repository.store().location(),
                "created": ui::rfc3339(config.created),
                "features": {"read": config.features.read, "write": config.features.write, "optional": config.features.optional},
                "cipher": format!("{:?}", parameters.suite),
                "chunk_bytes": [parameters.cut.bytes_min, parameters.cut.bytes_mask, parameters.cut.bytes_max],
                "region_bytes": parameters.region_bytes,
                "pack_bytes": parameters.pack_bytes,
                "cache": repository.cache_directory(),
            }),
        );
        return Ok(DONE);
    }
    let lines = [
        ("Repository", repository.id().to_string()),
        ("Location", repository.store().location()),
        ("Format", "version 1".to_owned()),
        ("Created", ui::time(config.created)),
        ("Cipher", format!("{:?}", parameters.suite)),
        (
            "Chunks",
            format!(
                "{} to {}",
                bytes(parameters.cut.bytes_min.into()),
                bytes(parameters.cut.bytes_max.into())
            ),
        ),
        ("Regions", bytes(parameters.region_bytes.into())),
        ("Packs", bytes(parameters.pack_bytes.into())),
        ("Cache", repository.cache_directory().map_or("none".to_owned(), |path| path.display().to_string())),
    ];
    lines.iter().for_each(|(name, value)| ui.result(format!("{name:11} {value}")));
    Ok(DONE)
}

/// How much is stored.
pub(crate) fn stats(global: &Global, ui: &Ui) -> Result<u8> {
    let repository = access::open(global)?;
    let list = repository.snapshots()?;
    let mut stored = Vec::new();
    for kind in ObjectKind::ALL.into_iter().filter(|kind| *kind != ObjectKind::Config) {
        let objects = repository.store().list(kind).context("the repository cannot be listed")?;
        stored.push((kind, objects.len() as u64, objects.iter().map(|object| object.bytes).sum::<u64>()));
    }
    let restore_size: u64 =
        list.snapshots.iter().flat_map(|listed| &listed.snapshot.sources).map(|source| source.bytes).sum();
    let files: u64 = list
        .snapshots
        .iter()
        .flat_map(|listed| &listed.snapshot.sources)
        .map(|source| source.root.entries)
        .sum();
    let total: u64 = stored.iter().map(|(_, _, bytes)| bytes).sum();
    let chunks = repository.lookup()?.counts()?.chunks_estimate;
    if ui.json {
        let objects: serde_json::Map<String, serde_json::Value> = stored
            .iter()
            .map(|(kind, count, bytes)| (kind.folder().to_owned(), json!({"count": count, "bytes": bytes})))
            .collect();
        ui.emit(
            "stats",
            json!({
                "snapshots_count": list.snapshots.len(),
                "total_size": total,
                "total_file_count": files,
                "total_uncompressed_size": restore_size,
                "total_blob_count": chunks,
                "objects": objects,
            }),
        );
        return Ok(DONE);
    }
    ui.result(format!("{:12} {:>10}", "Snapshots", list.snapshots.len()));
    ui.result(format!("{:12} {:>10}  (all snapshots, restored)", "Content", bytes(restore_size)));
    ui.result(format!("{:12} {:>10}  (in {chunks} chunks)", "Repository", bytes(total)));
    for (kind, count, size) in stored.iter().filter(|(_, count, _)| *count > 0) {
        ui.result(format!("  {:10} {:>10}  ({count} objects)", kind.folder(), bytes(*size)));
    }
    Ok(DONE)
}

/// What this machine caches.
pub(crate) fn cache(global: &Global, ui: &Ui, cleanup: bool) -> Result<u8> {
    let Some(root) = access::cache(global) else {
        bail!("there is no cache: neither --cache-dir nor a home directory is set");
    };
    let entries = match std::fs::read_dir(&root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            ui.say("nothing is cached");
            return Ok(DONE);
        }
        Err(error) => return Err(error).with_context(|| format!("{} cannot be listed", root.display())),
    };
    for entry in entries {
        let entry = entry.with_context(|| format!("{} cannot be listed", root.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // Only what looks like one of ours: the folder may be shared.
        if name.len() != 32 || !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            continue;
        }
        let size = size_of(&entry.path());
        if cleanup {
            std::fs::remove_dir_all(entry.path())
                .with_context(|| format!("{} cannot be removed", entry.path().display()))?;
        }
        if ui.json {
            ui.emit("cache", json!({"repository": name, "bytes": size, "removed": cleanup}));
        } else {
            ui.result(format!("{name}  {:>10}{}", bytes(size), if cleanup { "  removed" } else { "" }));
        }
    }
    Ok(DONE)
}

fn size_of(path: &std::path::Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size_of(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp { seconds: since.as_secs() as i64, nanos: since.subsec_nanos() }
}
