//! PostgreSQL: its backup mode, with nobody paused; or as after a crash, or stopped.
//!
//! The backup mode is held by a session from before the first byte is read. A temporary replication slot of the same session
//! keeps the log; when all else is read, the backup is ended, and only then `pg_wal` is read, with the `backup_label` that
//! the server gives as a file of the snapshot. So a server that starts on the restored folder replays its log from the
//! label on by itself.
//!
//! Must stay true: the label is never written into the live folder, where a crash of the server would meet it; whatever
//! ends the session ends the backup and drops the slot. Why this is the default: `docs/decisions/0024-databases.md`.

use super::{Data, How, Kind, Patient, Recipe, Session, ask, command, shell};
use crate::labels::Quiet;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

/// A checkpoint of a large server under load takes its time.
const BEGIN_MAX: Duration = Duration::from_secs(600);

/// The client, with what the official images know of the server. Where lifeboat hangs, it ends after six hours, and with it
/// its session: only servers of version 14 and later have a limit for that themselves. Where the container has no `timeout`,
/// or one of another sort, older servers have none.
const CLIENT: &str = r#"if timeout 9 true 2>/dev/null; then limit='timeout 21600'; else limit=; fi
[ -n "$PGPASSWORD" ] || PGPASSWORD=$POSTGRES_PASSWORD
if [ -z "$PGPASSWORD" ] && [ -r "$POSTGRES_PASSWORD_FILE" ]; then PGPASSWORD=$(cat "$POSTGRES_PASSWORD_FILE"); fi
if [ -n "$PGPASSWORD" ]; then export PGPASSWORD; else unset PGPASSWORD; fi
export PGCONNECT_TIMEOUT=10 PGAPPNAME=lifeboat
exec $limit psql -X -q -A -t -w -v ON_ERROR_STOP=1 -U "${POSTGRES_USER:-postgres}" -d postgres "$@""#;

const QUESTION: &str = "
SELECT name || '=' || setting FROM pg_settings WHERE name IN ('data_directory', 'fsync', 'full_page_writes',
  'server_version_num', 'synchronous_commit', 'wal_level', 'wal_writer_delay')
UNION ALL SELECT 'in_recovery=' || pg_is_in_recovery()
UNION ALL SELECT 'superuser=' || rolsuper FROM pg_roles WHERE rolname = current_user
UNION ALL SELECT 'tablespaces=' || count(*) FROM pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global')
UNION ALL SELECT 'free_slots=' || current_setting('max_replication_slots')::int - count(*) FROM pg_replication_slots
UNION ALL SELECT 'asynchronous_roles=' || count(*) FROM pg_db_role_setting WHERE 'synchronous_commit=off' = ANY (setconfig)";

/// What the session is told first.
const BEGIN: &str = r"SELECT set_config('idle_session_timeout', '6h', false)
  WHERE current_setting('server_version_num')::int >= 140000;
SELECT pg_create_physical_replication_slot('lifeboat_' || pg_backend_pid(), true, true);
SELECT current_setting('server_version_num')::int >= 150000 AS new \gset
\if :new
SELECT pg_backup_start('lifeboat', true);
\else
SELECT pg_start_backup('lifeboat', true, false);
\endif
SELECT 'ready';
";

/// What ends the backup; the session and its slot stay until the log is read.
pub(super) const END: &str = r#"\if :new
SELECT 'moment=' || to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
SELECT 'label=' || encode(convert_to(labelfile, 'UTF8'), 'hex')
  || E'\n' || 'map=' || encode(convert_to(coalesce(spcmapfile, ''), 'UTF8'), 'hex') FROM pg_backup_stop(false);
\else
SELECT 'moment=' || to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
SELECT 'label=' || encode(convert_to(labelfile, 'UTF8'), 'hex')
  || E'\n' || 'map=' || encode(convert_to(coalesce(spcmapfile, ''), 'UTF8'), 'hex') FROM pg_stop_backup(false, false);
\endif
SELECT 'stopped';
"#;
/// The line that ends the answer to [`END`].
pub(super) const ENDED: &str = "stopped";

pub(super) fn recipe(patient: &Patient<'_>) -> Recipe {
    let mut last = String::new();
    // Where the socket asks who one is (`peer`), only the server's own user is let in.
    for user in [None, Some("postgres")] {
        match ask::settings(patient, shell(CLIENT, &["-c", QUESTION]), user) {
            Ok(settings) if settings.contains_key("server_version_num") => {
                return by(patient, settings, user);
            }
            Ok(_) => last = "it gave no answer".into(),
            Err(why) => last = why,
        }
    }
    let at_risk = "with synchronous_commit off, what it acknowledged last may be missing";
    Recipe::unasked(Kind::Postgresql, patient, &last, at_risk)
}

fn by(patient: &Patient<'_>, settings: BTreeMap<String, String>, user: Option<&str>) -> Recipe {
    let (how, data, why_not) = match patient.labels.quiet {
        None | Some(Quiet::Leave) => match data(patient, &settings) {
            Ok(data) => (How::BackupMode, Some(data), None),
            Err(why) => (patient.how(), None, Some(why)),
        },
        Some(Quiet::Pause | Quiet::Stop) => (patient.how(), None, None),
    };
    let mut claim = match how {
        How::BackupMode => {
            "Holds every transaction that was acknowledged before the moment, whatever synchronous_commit says, and may hold \
             later ones. The server starts by replaying its log, and needs no help."
        }
        How::Paused | How::Stopped if is_standby(&settings) => {
            "Holds everything that the standby had received from its primary before the moment. It starts as a standby, by \
             replaying its log."
        }
        How::Paused => {
            "Holds every transaction that was acknowledged before the moment. The server starts as after a crash, by \
             replaying its log."
        }
        how => how.as_a_crash(),
    }
    .to_owned();
    if let Some(why) = why_not {
        claim.push_str(&format!(" Backup mode was not used: {why}."));
    }
    let mut recipe = Recipe::of(Kind::Postgresql, how, claim);
    recipe.warnings = weak(&settings, how);
    if let Some(folder) = settings.get("data_directory") {
        patient.warn_of_layer(folder, &mut recipe);
    }
    recipe.settings = settings;
    recipe.data = data;
    recipe.session = recipe
        .data
        .as_ref()
        .map(|_| Session { command: command(shell(CLIENT, &[]), user, BEGIN_MAX), told: BEGIN.to_owned() });
    recipe
}

fn is_standby(settings: &BTreeMap<String, String>) -> bool {
    settings.get("in_recovery").is_some_and(|value| value == "true")
}

/// The data folder, where the backup mode can be used; else why not.
fn data(patient: &Patient<'_>, settings: &BTreeMap<String, String>) -> Result<Data, String> {
    let is = |name: &str, value: &str| settings.get(name).is_some_and(|found| found == value);
    let number = |name: &str| settings.get(name).and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
    if number("server_version_num") < 100_000 {
        return Err("the server is older than version 10".into());
    }
    if !is("in_recovery", "false") {
        return Err("the server is a standby".into());
    }
    if is("wal_level", "minimal") {
        return Err("wal_level is minimal".into());
    }
    if !is("superuser", "true") {
        return Err("lifeboat is no superuser there".into());
    }
    if number("free_slots") < 1 {
        return Err("there is no free replication slot".into());
    }
    if !is("tablespaces", "0") {
        return Err("there are tablespaces in other folders".into());
    }
    let inside = settings.get("data_directory").map(String::as_str).unwrap_or_default();
    let Some(folder) = patient.folder_of(inside) else {
        return Err(format!("{inside} is not read on disk as one folder"));
    };
    let owner = std::fs::metadata(&folder).map_err(|error| error.to_string())?;
    // What is on disk has to be what the server means.
    let is_plain = |path: PathBuf| std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    if !folder.join("global/pg_control").is_file() || !is_plain(folder.join("pg_wal")) {
        return Err("pg_wal is elsewhere".into());
    }
    Ok(Data { folder, owner: (owner.uid(), owner.gid()) })
}

/// What is promised to clients, or claimed here, with less than full strength.
fn weak(settings: &BTreeMap<String, String>, how: How) -> Vec<String> {
    let is_off = |name: &str| settings.get(name).is_some_and(|value| value == "off");
    let mut weak = Vec::new();
    if is_standby(settings) {
        // It acknowledges nothing to anybody but its primary, and that only when it is written.
        weak.push(
            "the server is a standby: what its primary acknowledged without waiting for it may be missing; a primary that \
             waits for it lets its own clients wait while it is paused or stopped"
                .to_owned(),
        );
    }
    let roles = settings.get("asynchronous_roles").and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
    if !is_standby(settings) && (is_off("synchronous_commit") || roles > 0) {
        let whose = if is_off("synchronous_commit") { "" } else { " for some roles or databases" };
        let delay = settings.get("wal_writer_delay").and_then(|text| text.parse::<u64>().ok()).unwrap_or(200);
        weak.push(format!(
            "synchronous_commit is off{whose}: {}",
            match how {
                How::Paused => format!(
                    "of what was acknowledged in the last {} ms before the moment, some may be missing",
                    delay.saturating_mul(3)
                ),
                _ => "a crash of the server loses what it acknowledged last; the snapshot has it".to_owned(),
            }
        ));
    }
    if is_off("fsync") {
        weak.push(
            "fsync is off: a crash of the machine may destroy the server's data; the snapshot has what the server wrote"
                .to_owned(),
        );
    }
    if is_off("full_page_writes") {
        let here = match how {
            How::BackupMode => "in backup mode the server writes them nevertheless",
            _ => {
                "no page of the snapshot is torn by that, since nothing is written while the container holds still"
            }
        };
        weak.push(format!("full_page_writes is off: a crash of the machine may tear pages; {here}"));
    }
    weak
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_weak_setting_is_named_with_what_it_means_here() {
        let weak_of = |pairs: &[(&str, &str)], how| {
            let settings = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            weak(&settings.collect(), how)
        };
        assert!(weak_of(&[("synchronous_commit", "on"), ("fsync", "on")], How::Paused).is_empty());
        let off = [("synchronous_commit", "off"), ("wal_writer_delay", "10000")];
        assert!(weak_of(&off, How::Paused)[0].contains("30000 ms"));
        assert!(weak_of(&off, How::BackupMode)[0].contains("the snapshot has it"));
        assert!(weak_of(&[("asynchronous_roles", "1")], How::Paused)[0].contains("for some roles"));
        let standby = weak_of(&[("in_recovery", "true"), ("synchronous_commit", "off")], How::Paused);
        assert!(standby.len() == 1 && standby[0].contains("without waiting for it"), "{standby:?}");
        assert!(weak_of(&[("fsync", "off")], How::Stopped)[0].starts_with("fsync is off"));
        assert!(
            weak_of(&[("full_page_writes", "off")], How::Paused)[0].starts_with("full_page_writes is off")
        );
    }
}
