//! PostgreSQL where its backup mode cannot be used: it is paused, and why is said. What the server says of itself does not
//! depend on the engine, so one is enough.

use super::{Container, Engine, Scene, postgres, psql, said};
use crate::scene::Done;
use std::process::Command;

/// What keeps the backup mode from being used, and what the snapshot says of it.
struct Fallback {
    because: &'static str,
    /// What makes it so, told to the server one after the other, and what makes it as before.
    make: &'static [&'static str],
    unmake: &'static [&'static str],
    /// Whether the server has to start again to follow.
    restarts: bool,
}

const FALLBACKS: &[Fallback] = &[
    Fallback {
        because: "lifeboat is no superuser there",
        make: &["ALTER ROLE app NOSUPERUSER"],
        unmake: &["ALTER ROLE app SUPERUSER"],
        restarts: false,
    },
    Fallback {
        because: "there are tablespaces in other folders",
        make: &["CREATE TABLESPACE elsewhere LOCATION '/elsewhere'"],
        unmake: &["DROP TABLESPACE elsewhere"],
        restarts: false,
    },
    Fallback {
        because: "there is no free replication slot",
        make: &[
            "SELECT pg_create_physical_replication_slot('one')",
            "ALTER SYSTEM SET max_replication_slots = 1",
        ],
        unmake: &["SELECT pg_drop_replication_slot('one')", "ALTER SYSTEM RESET max_replication_slots"],
        restarts: true,
    },
    Fallback {
        because: "wal_level is minimal",
        make: &["ALTER SYSTEM SET wal_level = minimal", "ALTER SYSTEM SET max_wal_senders = 0"],
        unmake: &["ALTER SYSTEM RESET wal_level", "ALTER SYSTEM RESET max_wal_senders"],
        restarts: true,
    },
];

fn tell(server: &Container, sentences: &[&str], restarts: bool) {
    for sentence in sentences {
        server.exec(&psql(&format!("--command={sentence}")));
    }
    if restarts {
        server.does("restart");
    }
    server.wait_for(&["psql", "-h", "127.0.0.1", "-U", "postgres", "-c", "SELECT 1"]);
}

/// A snapshot by this command, of a server that is paused for it because of that.
#[track_caller]
fn assert_paused_because(scene: &Scene, lifeboat: &mut Command, because: &str) {
    let done = Done::of(lifeboat).expect(0).says("postgresql, paused");
    done.says(&format!("Backup mode was not used: {because}"));
    let (consistency, one) = said(scene);
    assert_eq!((&one["how"], &consistency["one_moment"]), (&"paused".into(), &true.into()), "{consistency}");
    let claim = one["claim"]["claim"].as_str().unwrap();
    assert!(claim.contains("acknowledged before the moment") && claim.contains(because), "{claim}");
}

#[test]
fn a_postgresql_whose_backup_mode_cannot_be_used_is_paused_and_why_is_said() {
    let (scene, engine) = (Scene::with_repository(), Engine::named("graph"));
    let (server, volume) = postgres(engine, &["--env", "POSTGRES_USER=app"], &[]);
    server.exec(&["sh", "-c", "mkdir /elsewhere && chown postgres: /elsewhere"]);
    tell(&server, &["CREATE ROLE app LOGIN SUPERUSER"], false);
    let named = format!("container:{}", server.name);
    let snapshot = || {
        let mut command = scene.lifeboat();
        command.env("DOCKER_HOST", &engine.url).args(["snapshot", &named]);
        command
    };
    let as_it_should = || {
        let done = Done::of(&mut snapshot()).expect(0).says("postgresql, backup-mode");
        done.says_not("Backup mode was not used");
    };
    as_it_should();
    for Fallback { because, make, unmake, restarts } in FALLBACKS {
        tell(&server, make, *restarts);
        assert_paused_because(&scene, &mut snapshot(), because);
        tell(&server, unmake, *restarts);
    }
    // Where the engine's disk is not to be seen.
    let unread = format!("{} is not read on disk as one folder", super::POSTGRES_DATA);
    assert_paused_because(&scene, &mut engine.hidden_from(&snapshot()), &unread);
    // It was each of these, and nothing that came to stay.
    as_it_should();
    drop((server, volume));
}
