//! Connecting, agreeing on a version, and answers that are none.

use crate::fake::{Act, Fake, answer, chunk, says, usual_version, writes, writes_and_hangs};
use lifeboat_workload::engine::{Address, Engine, Error, ErrorKind};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

#[test]
fn where_no_engine_answers_the_address_and_a_command_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none.sock");
    let error = Engine::connect_to(Address::Unix(missing.clone())).unwrap_err();
    assert!(matches!(error, Error::NoEngine { .. }), "{error:?}");
    assert!(error.to_string().contains(missing.to_str().unwrap()), "{error}");
    assert!(error.hint().unwrap().starts_with("docker -H unix://"), "{:?}", error.hint());
    // A socket whose engine is gone: the file is there, nobody listens.
    drop(std::os::unix::net::UnixListener::bind(&missing).unwrap());
    let error = Engine::connect_to(Address::Unix(missing)).unwrap_err();
    assert!(matches!(error, Error::NoEngine { .. }), "{error:?}");
    let error = Engine::connect_to(Address::Tcp { authority: "127.0.0.1:1".into() }).unwrap_err();
    assert!(matches!(error, Error::NoEngine { .. }), "{error:?}");
}

#[test]
fn an_engine_that_is_too_old_or_too_new_is_refused_before_anything_is_asked() {
    for (least, newest) in [("1.12", "1.38"), ("1.90", "1.95")] {
        let version = json!({"ApiVersion": newest, "MinAPIVersion": least, "Os": "linux"});
        let fake = Fake::new(version, vec![]);
        let error = Engine::connect_to(fake.address()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
        assert!(error.to_string().contains(newest), "{error}");
        assert_eq!(fake.seen().len(), 1);
    }
}

#[test]
fn whatever_answers_but_is_no_engine_is_refused() {
    for act in [says(200, json!({"hello": "world"})), says(200, json!([])), writes("SSH-2.0-OpenSSH_9.2\r\n")]
    {
        let fake = Fake::new(usual_version(), vec![("GET", "/version", act)]);
        let error = Engine::connect_to(fake.address()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Protocol | ErrorKind::Unavailable), "{error:?}");
    }
}

#[test]
fn a_container_that_cannot_be_frozen_yet_is_tried_again_and_not_for_ever() {
    for (refusals, is_paused) in [(0, true), (3, true), (4, false)] {
        let left = AtomicI32::new(refusals);
        let act: Act = Arc::new(move |_, stream| match left.fetch_sub(1, Ordering::SeqCst) {
            1.. => {
                answer(stream, 500, br#"{"message":"OCI runtime pause failed: unable to freeze: unknown"}"#)
            }
            _ => answer(stream, 204, b""),
        });
        let fake = Fake::usual(vec![("POST", "/containers/web/pause", act)]);
        let paused = fake.connect().pause_container("web");
        assert_eq!(paused.is_ok(), is_paused, "{refusals} refusals: {paused:?}");
        // Beside the one for the version.
        assert_eq!(fake.seen().len(), 1 + (refusals as usize + 1).min(4));
    }
    // Any other refusal is one.
    let fake =
        Fake::usual(vec![("POST", "/containers/web/pause", says(409, json!({"message": "is not running"})))]);
    fake.connect().pause_container("web").unwrap_err();
    assert_eq!(fake.seen().len(), 2);
}

#[test]
fn every_request_but_the_first_names_the_version_that_was_agreed_on() {
    let newer = json!({"ApiVersion": "1.60", "MinAPIVersion": "1.44", "Os": "linux"});
    for (version, expected) in [(usual_version(), "/v1.41/"), (newer, "/v1.53/")] {
        let fake = Fake::new(version, vec![("GET", "/containers/json", says(200, json!([])))]);
        let engine = fake.connect();
        engine.containers(&[]).unwrap();
        // One of bollard's own calls, which would go without a version.
        engine.pause_container("web").unwrap_err();
        let paths: Vec<String> = fake.seen().into_iter().map(|request| request.path).collect();
        assert_eq!(paths[0], "/version");
        assert_eq!(paths.len(), 3);
        assert!(paths[1..].iter().all(|path| path.starts_with(expected)), "{paths:?}");
    }
}

#[test]
fn a_failure_keeps_the_engines_words_and_says_what_was_being_done() {
    let fake = Fake::usual(vec![
        ("GET", "/containers/web/json", says(500, json!({"message": "disk on fire"}))),
        ("GET", "/volumes/v", writes("HTTP/1.1 502 X\r\nContent-Length: 9\r\n\r\nbad proxy")),
    ]);
    let engine = fake.connect();
    let error = engine.container("web").unwrap_err().to_string();
    assert_eq!(error, "inspecting container web: the engine answered 500: disk on fire");
    let error = engine.volume("v").unwrap_err().to_string();
    assert_eq!(error, "inspecting volume v: the engine answered 502: bad proxy");
    let error = engine.container("nobody").unwrap_err();
    assert!(error.is_not_found(), "{error:?}");
}

#[test]
fn an_answer_that_breaks_off_is_an_error_and_not_a_short_list() {
    let fake = Fake::usual(vec![
        ("GET", "/containers/json", writes("HTTP/1.1 200 X\r\nContent-Length: 4000\r\n\r\n[]")),
        ("GET", "/volumes", writes("HTTP/1.1 200 X\r\nContent-Length: 12\r\n\r\n{\"Volumes\": ")),
        ("GET", "/networks", says(200, json!({"a": "list was expected"}))),
    ]);
    let engine = fake.connect();
    assert!(matches!(engine.containers(&[]), Err(Error::Broken { .. })));
    assert!(matches!(engine.volumes(&[]), Err(Error::Protocol { .. })));
    assert!(matches!(engine.networks(&[]), Err(Error::Protocol { .. })));
}

#[test]
fn an_endless_answer_is_broken_off() {
    let mebibyte = chunk(&vec![b' '; 1 << 20]);
    let endless = Arc::new(move |_: &crate::fake::Request, stream: &mut std::os::unix::net::UnixStream| {
        use std::io::Write;
        stream.write_all(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        while stream.write_all(&mebibyte).is_ok() {}
    });
    let fake = Fake::usual(vec![("GET", "/containers/json", endless)]);
    assert!(fake.connect().containers(&[]).is_err());
}

#[test]
fn whoever_waits_waits_no_longer_than_asked() {
    let fake = Fake::usual(vec![("POST", "/containers/web/wait", writes_and_hangs(""))]);
    let engine = fake.connect();
    assert_eq!(engine.wait_container("web", Duration::from_millis(50)).unwrap(), None);
}

#[test]
fn a_name_cannot_lead_to_another_object() {
    let fake = Fake::usual(vec![]);
    let engine = fake.connect();
    assert!(engine.volume("../containers/web").unwrap_err().is_not_found());
    assert_eq!(engine.pause_container("../images/x").unwrap_err().kind(), ErrorKind::Usage);
    let paths: Vec<String> = fake.seen().into_iter().map(|request| request.path).collect();
    assert_eq!(paths[1..], ["/v1.41/volumes/..%2Fcontainers%2Fweb"]);
}

#[test]
fn what_is_fulfilled_already_is_no_error() {
    let fake = Fake::usual(vec![
        ("POST", "/containers/web/start", writes("HTTP/1.1 304 X\r\n\r\n")),
        ("POST", "/containers/web/stop", writes("HTTP/1.1 304 X\r\n\r\n")),
        ("DELETE", "/containers/web", says(404, json!({"message": "No such container: web"}))),
    ]);
    let engine = fake.connect();
    engine.start_container("web").unwrap();
    engine.stop_container("web", lifeboat_workload::engine::Stopping { grace: Duration::ZERO }).unwrap();
    engine.remove_container("web", lifeboat_workload::engine::AnonymousVolumes::Keep).unwrap();
    engine.remove_volume("gone").unwrap();
}

#[test]
fn an_import_that_fails_after_it_was_accepted_is_a_failure() {
    let fake =
        Fake::usual(vec![("POST", "/images/create", says(200, json!({"error": "no space left on device"})))]);
    let error = fake.connect().import_empty_image("lifeboat-helper", "1", &[]).unwrap_err();
    assert!(error.to_string().contains("no space left on device"), "{error}");
}
