//! MariaDB and MySQL: paused; with a lock besides where tables have no log of their own.
//!
//! InnoDB writes its files while commits are locked, so a lock alone makes no copy that can be trusted; frozen, the files
//! are what a crash would leave, and InnoDB's log mends that. A MyISAM table has no log: it is closed by the lock, which is a
//! session: it ends with its client.
//!
//! Must stay true: the lock is asked for before the pause, because nothing answers in a paused container.

use super::{How, Kind, Patient, Recipe, Session, ask, command, shell};
use std::collections::BTreeMap;
use std::time::Duration;

/// Statements that run have to end first.
const LOCK_MAX: Duration = Duration::from_secs(90);

/// The client, with what the official images know of the server.
const CLIENT: &str = r#"p=${MARIADB_ROOT_PASSWORD:-$MYSQL_ROOT_PASSWORD}
f=${MARIADB_ROOT_PASSWORD_FILE:-$MYSQL_ROOT_PASSWORD_FILE}
if [ -z "$p" ] && [ -r "$f" ]; then p=$(cat "$f"); fi
[ -z "$p" ] || export MYSQL_PWD="$p"
if command -v mariadb >/dev/null 2>&1; then c=mariadb; else c=mysql; fi
exec $c --user=root --connect-timeout=10 --unbuffered --batch --skip-column-names "$@""#;

const QUESTION: &str = "SELECT CONCAT(LOWER(VARIABLE), '=', VALUE) FROM (
  SELECT 'version' AS VARIABLE, @@version AS VALUE
  UNION ALL SELECT 'datadir', @@datadir
  UNION ALL SELECT 'innodb_flush_log_at_trx_commit', @@innodb_flush_log_at_trx_commit
  UNION ALL SELECT 'innodb_doublewrite', @@innodb_doublewrite
  UNION ALL SELECT 'log_bin', @@log_bin
  UNION ALL SELECT 'sync_binlog', @@sync_binlog
  UNION ALL SELECT CONCAT('tables.', ENGINE), COUNT(*) FROM information_schema.TABLES
    WHERE TABLE_SCHEMA NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys')
      AND TABLE_TYPE = 'BASE TABLE' AND ENGINE IS NOT NULL GROUP BY ENGINE) AS settings";

/// Engines whose tables come right by a log, or hold nothing.
const LOGGED: [&str; 6] = ["innodb", "memory", "blackhole", "performance_schema", "rocksdb", "sequence"];

/// MariaDB's lock for backups waits for nothing that only InnoDB is asked; a server that has hung up after ten minutes has
/// let go.
const STAGES: &str = "SET SESSION lock_wait_timeout = 60, wait_timeout = 600;
BACKUP STAGE START;
BACKUP STAGE FLUSH;
BACKUP STAGE BLOCK_DDL;
BACKUP STAGE BLOCK_COMMIT;
SELECT 'ready';
";
const READ_LOCK: &str = "SET SESSION lock_wait_timeout = 60, wait_timeout = 600;
FLUSH TABLES WITH READ LOCK;
SELECT 'ready';
";

pub(super) fn recipe(patient: &Patient<'_>) -> Recipe {
    match ask::settings(patient, shell(CLIENT, &["-e", QUESTION]), None) {
        Ok(settings) if settings.contains_key("version") => by(patient, settings),
        Ok(_) => unasked(patient, "it gave no answer"),
        Err(why) => unasked(patient, &why),
    }
}

fn unasked(patient: &Patient<'_>, why: &str) -> Recipe {
    let at_risk = "tables without a log (MyISAM) may have to be repaired, and with innodb_flush_log_at_trx_commit = 0 the \
                   last second may be missing";
    Recipe::unasked(Kind::Mariadb, patient, why, at_risk)
}

fn by(patient: &Patient<'_>, settings: BTreeMap<String, String>) -> Recipe {
    let unlogged = unlogged(&settings);
    let how = match patient.how() {
        How::Paused if !unlogged.is_empty() => How::Locked,
        how => how,
    };
    let claim = match how {
        How::Paused => {
            "Holds every transaction that was acknowledged before the moment. The server starts as after a crash, by \
             replaying InnoDB's log."
        }
        How::Locked => {
            "Holds every transaction that was acknowledged before the moment, and every statement on tables without a log, \
             which were closed. The server starts as after a crash, by replaying InnoDB's log."
        }
        how => how.as_a_crash(),
    };
    let mut recipe = Recipe::of(Kind::Mariadb, how, claim);
    recipe.warnings = weak(&settings, &unlogged, how);
    if let Some(folder) = settings.get("datadir") {
        patient.warn_of_layer(folder, &mut recipe);
    }
    if how == How::Locked {
        let told = if has_stages(&settings) { STAGES } else { READ_LOCK };
        recipe.session =
            Some(Session { command: command(shell(CLIENT, &[]), None, LOCK_MAX), told: told.into() });
    }
    recipe.settings = settings;
    recipe
}

/// `MyISAM (3)`, for each engine without a log that has tables.
fn unlogged(settings: &BTreeMap<String, String>) -> Vec<String> {
    let engines = settings.iter().filter_map(|(name, count)| Some((name.strip_prefix("tables.")?, count)));
    let unlogged = engines.filter(|(engine, _)| !LOGGED.contains(engine));
    unlogged.map(|(engine, count)| format!("{engine} ({count})")).collect()
}

/// Since MariaDB 10.4; MySQL has none.
fn has_stages(settings: &BTreeMap<String, String>) -> bool {
    let version = settings.get("version").map(String::as_str).unwrap_or_default();
    let mut numbers = version.split(|symbol: char| !symbol.is_ascii_digit()).map(|part| part.parse::<u32>());
    let number = (numbers.next(), numbers.next());
    let (Some(Ok(major)), Some(Ok(minor))) = number else { return false };
    version.contains("MariaDB") && (major, minor) >= (10, 4)
}

fn weak(settings: &BTreeMap<String, String>, unlogged: &[String], how: How) -> Vec<String> {
    let get = |name: &str| settings.get(name).map(String::as_str).unwrap_or_default();
    let is_frozen = matches!(how, How::Paused | How::Locked);
    let mut weak = Vec::new();
    match get("innodb_flush_log_at_trx_commit") {
        "0" if is_frozen => weak.push(
            "innodb_flush_log_at_trx_commit is 0: of what was acknowledged in the last second before the moment, some may be \
             missing"
                .to_owned(),
        ),
        value @ ("0" | "2") => weak.push(format!(
            "innodb_flush_log_at_trx_commit is {value}: a crash of the machine loses what was acknowledged in its last second; \
             the snapshot has it"
        )),
        _ => {}
    }
    if get("log_bin") == "1" && get("sync_binlog") != "1" {
        weak.push(format!(
            "sync_binlog is {}: after a crash of the machine the binary log may lack transactions that the tables have; in \
             the snapshot it does not",
            get("sync_binlog")
        ));
    }
    if get("innodb_doublewrite").eq_ignore_ascii_case("off") || get("innodb_doublewrite") == "0" {
        weak.push(
            "innodb_doublewrite is off: a page that the kernel was still writing in the moment may be torn"
                .to_owned(),
        );
    }
    if !unlogged.is_empty() {
        let here = match how {
            How::Locked => "they were locked and closed for the moment",
            How::Stopped => "they were closed with the server",
            _ => "they may have to be repaired",
        };
        weak.push(format!("tables without a log: {}; a crash may damage them, {here}", unlogged.join(", ")));
    }
    weak
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn tables_without_a_log_are_told_from_the_others() {
        let of = settings(&[("tables.innodb", "7"), ("tables.myisam", "2"), ("tables.aria", "1")]);
        assert_eq!(unlogged(&of), ["aria (1)", "myisam (2)"]);
        assert!(weak(&of, &unlogged(&of), How::Locked)[0].contains("aria (1), myisam (2)"));
    }

    #[test]
    fn each_weak_setting_is_named_with_what_it_means_here() {
        let weak_of = |pairs: &[(&str, &str)], how| weak(&settings(pairs), &[], how);
        let log = "innodb_flush_log_at_trx_commit";
        assert!(weak_of(&[(log, "1"), ("log_bin", "0"), ("sync_binlog", "0")], How::Paused).is_empty());
        assert!(weak_of(&[(log, "0")], How::Paused)[0].contains("missing"));
        assert!(weak_of(&[(log, "0")], How::Stopped)[0].contains("the snapshot has it"));
        assert!(weak_of(&[(log, "2")], How::Paused)[0].contains("the snapshot has it"));
        assert!(weak_of(&[("log_bin", "1"), ("sync_binlog", "0")], How::Paused)[0].contains("sync_binlog"));
        assert!(weak_of(&[("innodb_doublewrite", "OFF")], How::Paused)[0].contains("torn"));
    }

    #[test]
    fn only_mariadb_has_backup_stages() {
        let has = |version: &str| has_stages(&settings(&[("version", version)]));
        assert!(has("10.11.18-MariaDB-0+deb12u1") && has("11.4.2-MariaDB") && has("10.4.0-MariaDB"));
        assert!(!has("10.3.39-MariaDB") && !has("8.4.0") && !has(""));
    }
}
