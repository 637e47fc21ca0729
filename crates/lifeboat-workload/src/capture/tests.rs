//! Who belongs to a capture, and what is claimed of it.
//!
//! Must stay true: whoever writes to a captured volume or path is made quiet with it.

use super::group::{Captured, Member, choose, wanted_volumes};
use super::preparation::looks_like_a_database;
use super::*;
use crate::boundary;
use crate::facts::Mount;
use crate::facts::tests::running;
use crate::policy::Policy;
use serde_json::json;
use std::path::PathBuf;

fn with_mount(name: &str, kind: &str, what: &str, writable: bool) -> Facts {
    let mount = Mount {
        kind: kind.into(),
        name: (kind == "volume").then(|| what.into()),
        source: if kind == "volume" { format!("/volumes/{what}/_data") } else { what.into() },
        destination: "/data".into(),
        writable,
    };
    Facts { mounts: vec![mount], ..running(name) }
}

fn with_volume(name: &str, volume: &str, writable: bool) -> Facts {
    with_mount(name, "volume", volume, writable)
}

fn labelled(mut facts: Facts, label: &str, value: &str) -> Facts {
    facts.labels.insert(label.into(), value.into());
    facts
}

fn volumes(names: &[&str]) -> Captured {
    Captured { volumes: names.iter().map(|name| (*name).to_owned()).collect(), ..Captured::default() }
}

fn names(members: &[Member]) -> Vec<(&str, bool)> {
    members.iter().map(|member| (member.facts.name.as_str(), member.is_named)).collect()
}

#[test]
fn whoever_writes_to_a_captured_volume_belongs_to_the_group() {
    let around = [
        with_volume("db", "data", true),
        with_volume("writer", "data", true),
        with_volume("reader", "data", false),
        with_volume("other", "else", true),
        Facts { state: State::Exited, ..with_volume("ended", "data", true) },
    ];
    let (members, _) = choose(&around, &["db".into()], &volumes(&["data"]), &Policy::default());
    assert_eq!(names(&members), [("db", true), ("writer", false)]);
    let (members, _) = choose(&around, &[], &volumes(&["else"]), &Policy::default());
    assert_eq!(names(&members), [("other", false)]);
}

#[test]
fn whoever_writes_into_or_around_a_captured_path_belongs_to_the_group() {
    let around = [
        with_mount("db", "bind", "/srv/app", true),
        with_mount("inside", "bind", "/srv/app/deep", true),
        with_mount("around", "bind", "/srv", true),
        with_mount("reader", "bind", "/srv/app", false),
        with_mount("beside", "bind", "/srv/apple", true),
    ];
    let path = PathBuf::from("/srv/app");
    let captured = boundary::Captured { path, binds: Vec::new(), without: Vec::new() };
    let binds = boundary::Plan { captured: vec![captured], recorded: Vec::new() };
    let (members, _) =
        choose(&around, &["db".into()], &Captured { binds, ..Captured::default() }, &Policy::default());
    assert_eq!(names(&members), [("db", true), ("inside", false), ("around", false)]);
}

#[test]
fn a_group_is_captured_whole_and_only_it() {
    let around = [
        labelled(running("one"), "lifeboat.group", "shop"),
        labelled(running("two"), "lifeboat.group", "shop"),
        labelled(running("three"), "lifeboat.group", "bank"),
        running("four"),
    ];
    let (members, _) = choose(&around, &["one".into()], &Captured::default(), &Policy::default());
    assert_eq!(names(&members), [("one", true), ("two", true)]);
}

#[test]
fn what_lifeboat_made_is_nobodys_service() {
    let mark = labelled(with_volume("mark", "data", true), "lifeboat.hold", "x");
    let helper = labelled(with_volume("helper", "data", true), "lifeboat.helper", "x");
    let around = [mark, helper, with_volume("db", "data", true)];
    let (members, _) = choose(&around, &["db".into()], &volumes(&["data"]), &Policy::default());
    assert_eq!(names(&members), [("db", true)]);
}

#[test]
fn excluded_volumes_are_left_out_by_name_and_by_place() {
    for value in ["data", "/data", "true"] {
        let db = labelled(with_volume("db", "data", true), "lifeboat.exclude", value);
        let (members, _) = choose(&[db], &["db".into()], &Captured::default(), &Policy::default());
        assert_eq!(wanted_volumes(&members[0]), [""; 0], "{value}");
    }
}

#[test]
fn databases_are_known_by_their_image_or_their_program() {
    let by_image = Facts { image: "registry.local/library/postgres:15@sha256:x".into(), ..running("a") };
    let by_program = Facts { command: vec!["/usr/sbin/mariadbd".into()], ..running("b") };
    let neither = Facts { image: "nginx:postgres".into(), command: vec!["/bin/sh".into()], ..running("c") };
    assert!(looks_like_a_database(&by_image) && looks_like_a_database(&by_program));
    assert!(!looks_like_a_database(&neither));
}

#[test]
fn nothing_is_claimed_that_was_not_seen() {
    let members = choose(&[running("db")], &["db".into()], &Captured::default(), &Policy::default()).0;
    let pausing = |facts: &[Facts]| Plan::make(facts, &[members[0].wish()], &Lifelines::default());
    let facts = vec![running("db")];
    let mut work = Work { is_sound: true, plan: pausing(&facts), facts, ..Work::default() };
    let claim = |work: &Work| consistency(work, &members);
    // Nobody was quiet yet.
    assert_eq!(claim(&work)["one_moment"], json!(false));
    work.moment = Some(Moment { at: std::time::UNIX_EPOCH, containers: Vec::new() });
    assert_eq!(claim(&work)["one_moment"], json!(true));
    assert_eq!(claim(&work)["moment"], json!("1970-01-01T00:00:00Z"));
    assert_eq!(claim(&work)["containers"][0]["how"], json!("paused"));
    for spoil in [
        |work: &mut Work| work.is_sound = false,
        |work: &mut Work| work.prepared_badly = true,
        // It was to run on, and nobody holds it.
        |work: &mut Work| work.plan = Plan::default(),
    ] {
        let mut worse = Work { plan: work.plan.clone(), facts: work.facts.clone(), ..Work::default() };
        (worse.is_sound, worse.moment) = (true, work.moment.clone());
        assert_eq!(claim(&worse)["one_moment"], json!(true));
        spoil(&mut worse);
        assert_eq!(claim(&worse)["one_moment"], json!(false));
    }
    work.plan = Plan::default();
    work.held.insert(work.facts[0].id.clone());
    assert_eq!(claim(&work)["containers"][0]["how"], json!("held"));
    assert_eq!(claim(&work)["one_moment"], json!(true));
}
