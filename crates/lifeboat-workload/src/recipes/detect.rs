//! Which database a container runs, if any.
//!
//! Must stay true: an exporter, a browser or a job that is built on a database's image is none. So what runs decides where
//! the engine can say that; the image and the command count for containers that do not run.

use super::{Kind, Patient, sqlite};
use crate::facts::{Facts, State};

/// The label's word, else what is recognised.
pub(super) fn kind(patient: &Patient<'_>) -> Option<Kind> {
    match patient.labels.recipe.as_deref() {
        Some("none") => return None,
        Some(word) => {
            if let Some(kind) = by_word(word) {
                return Some(kind);
            }
        }
        None => {}
    }
    let runs = matches!(patient.facts.state, State::Running | State::Paused);
    // Where the engine cannot list the processes, what was asked to run has to do.
    let processes = runs.then(|| patient.engine.container_processes(&patient.facts.id).ok()).flatten();
    let found = match &processes {
        // In its first seconds an entry point prepares the server that it was asked for: it cannot be asked anything yet, and that
        // is said.
        Some(processes) => {
            processes.iter().find_map(|command| by_program(command)).or_else(|| by_command(patient.facts))
        }
        None => by_image_or_command(patient.facts),
    };
    found.or_else(|| sqlite::is_in(patient).then_some(Kind::Sqlite))
}

/// Whether a label's word means a recipe, or that none is wanted.
#[must_use]
pub(crate) fn is_known(word: &str) -> bool {
    word == "none" || by_word(word).is_some()
}

fn by_word(word: &str) -> Option<Kind> {
    Some(match word {
        "postgresql" | "postgres" => Kind::Postgresql,
        "mariadb" | "mysql" => Kind::Mariadb,
        "redis" | "valkey" => Kind::Redis,
        "sqlite" => Kind::Sqlite,
        _ => return None,
    })
}

/// By a process's command line; servers may have written a title over it.
fn by_program(command: &str) -> Option<Kind> {
    let word = command.split_whitespace().next()?;
    let name = word.rsplit('/').next()?.trim_end_matches(':');
    Some(match name {
        "postgres" | "postmaster" => Kind::Postgresql,
        "mysqld" | "mariadbd" => Kind::Mariadb,
        "redis-server" | "valkey-server" => Kind::Redis,
        _ => return None,
    })
}

/// By the program that it was asked to run, which is a word of its own: `docker-entrypoint.sh postgres -c …`.
fn by_command(facts: &Facts) -> Option<Kind> {
    let words = facts.command.iter().take(3).filter(|word| !word.contains(char::is_whitespace));
    words.into_iter().find_map(|word| by_program(word))
}

fn by_image_or_command(facts: &Facts) -> Option<Kind> {
    if let Some(kind) = by_command(facts) {
        return Some(kind);
    }
    let name = facts.image.rsplit('/').next().unwrap_or_default();
    match name.split([':', '@']).next().unwrap_or_default() {
        "postgres" | "postgresql" | "postgis" | "pgvector" | "timescaledb" | "timescaledb-ha" => {
            return Some(Kind::Postgresql);
        }
        "mariadb" | "mysql" | "mysql-server" | "percona" | "percona-server" => return Some(Kind::Mariadb),
        "redis" | "redis-stack-server" | "valkey" => return Some(Kind::Redis),
        _ => {}
    }
    let has = |name: &str| facts.environment.iter().any(|one| one.split('=').next() == Some(name));
    [("PGDATA", Kind::Postgresql), ("MARIADB_VERSION", Kind::Mariadb), ("REDIS_VERSION", Kind::Redis)]
        .into_iter()
        .find_map(|(name, kind)| has(name).then_some(kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::tests::running;

    #[test]
    fn a_servers_title_is_recognised_and_a_relatives_is_not() {
        let known = |command: &str| by_program(command);
        assert_eq!(known("/usr/lib/postgresql/15/bin/postgres -D /data"), Some(Kind::Postgresql));
        assert_eq!(known("postgres: checkpointer"), Some(Kind::Postgresql));
        assert_eq!(known("mariadbd --user=mysql"), Some(Kind::Mariadb));
        assert_eq!(known("redis-server *:6379"), Some(Kind::Redis));
        for other in ["postgres_exporter --web", "postgrest", "/bin/sh -c mysqld", "redis-cli", ""] {
            assert_eq!(known(other), None, "{other}");
        }
    }

    #[test]
    fn what_an_entry_point_was_asked_for_is_recognised_before_it_runs_and_a_job_is_not() {
        let mut facts = running("db");
        let mut command = |words: &[&str]| {
            facts.command = words.iter().map(|word| (*word).to_owned()).collect();
            by_command(&facts)
        };
        assert_eq!(command(&["docker-entrypoint.sh", "mariadbd"]), Some(Kind::Mariadb));
        assert_eq!(command(&["docker-entrypoint.sh", "postgres", "-c", "fsync=off"]), Some(Kind::Postgresql));
        for job in
            [&["sh", "-c", "postgres --version; sleep 9"][..], &["docker-entrypoint.sh", "sleep", "9"], &[]]
        {
            assert_eq!(command(job), None, "{job:?}");
        }
    }

    #[test]
    fn the_image_the_command_or_the_environment_tell_of_what_does_not_run() {
        let mut facts = running("db");
        let image = |facts: &mut Facts, image: &str| {
            facts.image = image.into();
            by_image_or_command(facts)
        };
        assert_eq!(image(&mut facts, "docker.io/library/postgres:16-alpine"), Some(Kind::Postgresql));
        assert_eq!(image(&mut facts, "mysql@sha256:ab"), Some(Kind::Mariadb));
        assert_eq!(image(&mut facts, "oliver006/redis_exporter"), None);
        facts.command = ["docker-entrypoint.sh", "redis-server", "--save"].map(String::from).to_vec();
        assert_eq!(image(&mut facts, "own/thing"), Some(Kind::Redis));
        facts.command.clear();
        facts.environment = vec!["PGDATA=/data".into()];
        assert_eq!(image(&mut facts, "own/thing"), Some(Kind::Postgresql));
    }
}
