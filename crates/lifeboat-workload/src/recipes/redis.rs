//! Redis and Valkey: with an append-only file paused; without one saved by the server itself, with nobody paused.
//!
//! Without an append-only file, files are as old as the last save, and no pause makes them younger. So the server is asked to
//! save; the file takes its name when it is complete, and does not change any more.
//!
//! Must stay true: a save counts only when the server says that it went well, and that it ended after it was asked for.

use super::{How, Kind, Patient, Recipe, Session, ask, command, shell};
use crate::labels::Quiet;
use std::collections::BTreeMap;
use std::time::Duration;

/// Large data sets take their time.
const SAVE_MAX: Duration = Duration::from_secs(1800);

/// Reads the password from standard input, if there is one, and gives `r` to talk to the server.
const CLIENT: &str = r#"port=$1
read -r password
password=${password:-${REDISCLI_AUTH:-${REDIS_PASSWORD:-$VALKEY_PASSWORD}}}
[ -z "$password" ] || export REDISCLI_AUTH="$password"
if command -v redis-cli >/dev/null 2>&1; then c=redis-cli; else c=valkey-cli; fi
r() { "$c" -p "$port" --no-auth-warning "$@" </dev/null; }
"#;

const QUESTION: &str = r#"r INFO persistence
for s in appendonly appendfsync save dir; do
  echo "config.$s:$(r CONFIG GET "$s" | tail -n +2)"
done
echo ready
cat >/dev/null"#;

/// Prints when the save began, by the server's clock, once it is done.
const SAVE: &str = r#"p() { r INFO persistence | tr -d '\r' | sed -n "s/^$1://p"; }
while :; do
  set -- $(r TIME)
  said=$(r BGSAVE 2>&1)
  case $said in
  *started*) break ;;
  *progress* | *child*) sleep 0.2 || sleep 1 ;;
  *) echo "$said" >&2; exit 3 ;;
  esac
done
while [ "$(p rdb_bgsave_in_progress)" = 1 ]; do sleep 0.1 || sleep 1; done
if [ "$(p rdb_last_bgsave_status)" != ok ] || [ "$(r LASTSAVE)" -lt "$1" ]; then
  echo "the save failed; the server's log says why" >&2
  exit 4
fi
printf 'moment=%s.%06d\nready\n' "$1" "$2"
cat >/dev/null"#;

pub(super) fn recipe(patient: &Patient<'_>) -> Recipe {
    let (password, port) = (argument(patient, "requirepass"), argument(patient, "port"));
    let told = format!("{}\n", password.unwrap_or_default());
    let port = port.filter(|port| port.parse::<u16>().is_ok_and(|port| port > 0)).unwrap_or("6379");
    let script = |body: &str| shell(&format!("{CLIENT}{body}"), &[port]);
    let said = match ask::said(patient, script(QUESTION), &told) {
        Ok(said) => ask::pairs(&said, ':'),
        Err(why) => return unasked(patient, &why),
    };
    if !said.contains_key("aof_enabled") {
        return unasked(patient, "it does not let lifeboat in");
    }
    let session = Session { command: command(script(SAVE), None, SAVE_MAX), told };
    by(patient, &said, session)
}

fn unasked(patient: &Patient<'_>, why: &str) -> Recipe {
    let at_risk = "without an append-only file the snapshot has what it saved last, which may be long ago";
    Recipe::unasked(Kind::Redis, patient, why, at_risk)
}

/// What the server was told on its command line: `--requirepass secret`.
fn argument<'p>(patient: &'p Patient<'_>, name: &str) -> Option<&'p str> {
    let words = &patient.facts.command;
    let at = words.iter().position(|word| word.strip_prefix("--") == Some(name))?;
    words.get(at + 1).map(String::as_str)
}

fn by(patient: &Patient<'_>, said: &BTreeMap<String, String>, session: Session) -> Recipe {
    let get = |name: &str| said.get(name).map(String::as_str).unwrap_or_default();
    let has_log = get("aof_enabled") == "1";
    let how = match (has_log, patient.labels.quiet) {
        (true, _) => patient.how(),
        // Stopping saves only where the server is configured to save.
        (false, Some(Quiet::Stop)) => How::Stopped,
        (false, Some(Quiet::Pause)) => How::Paused,
        (false, Some(Quiet::Leave) | None) => How::Saved,
    };
    let claim = match (has_log, how) {
        (true, How::Paused) => {
            "Holds every write that was in the append-only file in the moment, which is every acknowledged one unless said \
             otherwise. The server starts by reading it."
        }
        (false, How::Stopped) if !get("config.save").is_empty() => {
            "The server saved when it was stopped: everything that it had acknowledged is there."
        }
        (false, How::Saved | How::Paused | How::Stopped) => {
            "Holds every write that was acknowledged before the moment, which is when the server began to save."
        }
        (_, how) => how.as_a_crash(),
    };
    let mut recipe = Recipe::of(Kind::Redis, how, claim);
    recipe.warnings = weak(has_log, get("config.appendfsync"), get("config.save"), how);
    if !get("config.dir").is_empty() {
        patient.warn_of_layer(get("config.dir"), &mut recipe);
    }
    for (name, known) in
        [("appendonly", "config.appendonly"), ("appendfsync", "config.appendfsync"), ("save", "config.save")]
    {
        recipe.settings.insert(name.to_owned(), get(known).to_owned());
    }
    recipe.session = (!has_log && how != How::Unprotected).then_some(session);
    recipe
}

fn weak(has_log: bool, appendfsync: &str, save: &str, how: How) -> Vec<String> {
    let mut weak = Vec::new();
    if !has_log {
        let saves = match save {
            "" => "it saves never by itself".to_owned(),
            save => format!("it saves by `{save}`"),
        };
        weak.push(format!(
            "there is no append-only file, and {saves}: a crash of the server loses what it acknowledged since; the snapshot \
             has it up to its moment"
        ));
    } else if appendfsync == "everysec" && how == How::Paused {
        weak.push(
            "appendfsync is everysec: while its disk is slow the server acknowledges up to 2 s of writes before they are in \
             its file, and these may be missing"
                .to_owned(),
        );
    } else if appendfsync == "no" || appendfsync == "everysec" {
        weak.push(format!(
            "appendfsync is {appendfsync}: a crash of the machine loses what was acknowledged last; the snapshot has it"
        ));
    }
    weak
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_weak_setting_is_named_with_what_it_means_here() {
        assert!(weak(true, "always", "", How::Paused).is_empty());
        assert!(weak(true, "everysec", "", How::Paused)[0].contains("may be missing"));
        assert!(weak(true, "no", "", How::Paused)[0].contains("the snapshot has it"));
        assert!(weak(false, "everysec", "3600 1", How::Saved)[0].contains("`3600 1`"));
        assert!(weak(false, "everysec", "", How::Saved)[0].contains("never"));
    }
}
