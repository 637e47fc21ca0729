//! Archives, commands and events whose streams do not end as they should.

use crate::fake::{Fake, chunk, says, writes, writes_and_hangs};
use lifeboat_workload::engine::{Error, ErrorKind, ExecRequest, NextEvent, NextOutput, Output};
use serde_json::json;
use std::io::Read;
use std::time::Duration;

const CHUNKED: &[u8] =
    b"HTTP/1.1 200 X\r\nContent-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n\r\n";
const SOON: Duration = Duration::from_millis(50);
const LATER: Duration = Duration::from_secs(20);

/// Fails after its first mebibytes: enough of them that the engine has seen some.
struct Failing(usize);

impl Read for Failing {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.0 == 0 {
            return Err(std::io::Error::other("the repository lost a pack"));
        }
        let length = self.0.min(buffer.len());
        buffer[..length].fill(7);
        self.0 -= length;
        Ok(length)
    }
}

#[test]
fn an_archive_that_breaks_off_is_an_error_and_not_an_end() {
    let fake =
        Fake::usual(vec![("GET", "/containers/web/archive", writes([CHUNKED, &chunk(b"half")].concat()))]);
    let mut text = Vec::new();
    let error = fake.connect().archive("web", "/v").unwrap().read_to_end(&mut text).unwrap_err();
    assert_eq!(text, b"half");
    assert!(error.to_string().contains("reading /v of container web"), "{error}");
}

#[test]
fn an_archive_that_stands_still_is_given_up_with_an_error() {
    let hang = writes_and_hangs([CHUNKED, &chunk(b"half")].concat());
    let fake = Fake::usual(vec![("GET", "/containers/web/archive", hang)]);
    let mut archive = fake.connect().archive_with("web", "/v", SOON).unwrap();
    let mut text = Vec::new();
    assert!(archive.read_to_end(&mut text).is_err());
    assert_eq!(text, b"half");
}

#[test]
fn an_archive_is_sent_under_one_content_type_which_is_a_tars() {
    let fake = Fake::usual(vec![("PUT", "/containers/web/archive", says(200, json!({})))]);
    fake.connect().put_archive("web", "/v", &b"some bytes"[..]).unwrap();
    let put = fake.wait_for("PUT");
    assert_eq!(put.headers["content-type"], ["application/x-tar"]);
    assert!(put.path.ends_with("/containers/web/archive?path=%2Fv"), "{}", put.path);
    assert_eq!((put.body.as_slice(), put.is_complete), (&b"some bytes"[..], true));
}

#[test]
fn a_source_that_fails_breaks_the_sending_off_instead_of_ending_it() {
    let fake = Fake::usual(vec![("PUT", "/containers/web/archive", says(200, json!({})))]);
    let error = fake.connect().put_archive("web", "/v", Failing(4 << 20)).unwrap_err();
    assert!(matches!(error, Error::Input { .. }), "{error:?}");
    assert!(!fake.wait_for("PUT").is_complete, "the engine took half an archive for a whole one");
}

#[test]
fn an_engine_that_refuses_an_archive_at_once_is_understood() {
    let refuses = says(403, json!({"message": "container rootfs is marked read-only"}));
    let fake = Fake::usual(vec![("PUT", "/containers/early/archive", refuses)]);
    let error = fake.connect().put_archive("early", "/v", std::io::repeat(0)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    assert!(error.to_string().contains("marked read-only"), "{error}");
}

#[test]
fn an_engine_that_stops_taking_an_archive_is_given_up() {
    let fake = Fake::usual(vec![("PUT", "/containers/early/archive", writes_and_hangs_unread())]);
    let error = fake.connect().put_archive_with("early", "/v", std::io::repeat(0), SOON).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
}

/// Neither reads nor answers.
fn writes_and_hangs_unread() -> crate::fake::Act {
    std::sync::Arc::new(|_, _| std::thread::sleep(Duration::from_secs(3600)))
}

fn exec_fake(stream: Vec<u8>) -> Fake {
    let upgraded =
        [&b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"[..], stream.as_slice()].concat();
    Fake::usual(vec![
        ("POST", "/containers/web/exec", says(201, json!({"Id": "e1"}))),
        ("POST", "/exec/e1/start", writes(upgraded)),
        ("GET", "/exec/e1/json", says(200, json!({"Running": false, "ExitCode": 3, "Pid": 7}))),
    ])
}

fn frame(stream: u8, text: &[u8]) -> Vec<u8> {
    let mut out = vec![stream, 0, 0, 0];
    out.extend_from_slice(&(text.len() as u32).to_be_bytes());
    out.extend_from_slice(text);
    out
}

#[test]
fn the_two_outputs_of_a_command_are_told_apart() {
    let fake = exec_fake([frame(1, b"out"), frame(2, b"err")].concat());
    let engine = fake.connect();
    let mut session = engine.exec("web", &ExecRequest::default()).unwrap();
    let output = |output| NextOutput::Output(output);
    assert_eq!(session.output.next(LATER).unwrap(), output(Output::Standard(b"out".to_vec())));
    assert_eq!(session.output.next(LATER).unwrap(), output(Output::Error(b"err".to_vec())));
    assert_eq!(session.output.next(LATER).unwrap(), NextOutput::End);
    assert_eq!(session.exit_code().unwrap(), Some(3));
}

#[test]
fn output_that_was_cut_or_garbled_is_an_error() {
    for bytes in [b"\x05garbage\n".to_vec(), frame(1, b"cut")[..9].to_vec()] {
        let fake = exec_fake([frame(1, b"fine"), bytes].concat());
        let mut session = fake.connect().exec("web", &ExecRequest::default()).unwrap();
        assert!(matches!(session.output.next(LATER).unwrap(), NextOutput::Output(_)));
        assert!(matches!(session.output.next(LATER), Err(Error::Protocol { .. })));
    }
}

#[test]
fn the_end_of_events_is_not_taken_for_a_time_without_any() {
    let line = br#"{"Type":"container","Action":"die","Actor":{"ID":"c1","Attributes":{"name":"web"}},"timeNano":5}"#;
    let (first, rest) = line.split_at(30);
    let text = [CHUNKED, &chunk(first), &chunk(&[rest, b"\n"].concat())].concat();
    let over = Fake::usual(vec![("GET", "/events", writes([text.as_slice(), b"0\r\n\r\n"].concat()))]);
    let open = Fake::usual(vec![("GET", "/events", writes_and_hangs(text))]);
    for (fake, is_over) in [(over, true), (open, false)] {
        let mut events = fake.connect().events(&[("type", "container")]).unwrap();
        let NextEvent::Event(event) = events.next(LATER).unwrap() else { panic!("no event") };
        assert_eq!((event.action.as_str(), event.attributes["name"].as_str()), ("die", "web"));
        match events.next(if is_over { LATER } else { SOON }).unwrap() {
            NextEvent::End => assert!(is_over),
            NextEvent::Quiet => assert!(!is_over),
            NextEvent::Event(event) => panic!("{event:?}"),
        }
    }
}

/// An engine with a volume of another driver, whose archive is this.
fn volume_fake(archive: &[u8]) -> Fake {
    let archive = [CHUNKED, &chunk(archive), b"0\r\n\r\n"].concat();
    Fake::usual(vec![
        ("GET", "/info", says(200, json!({"ID": "engine"}))),
        ("GET", "/volumes/v", says(200, json!({"Name": "v", "Driver": "nfs", "Mountpoint": "/m"}))),
        (
            "GET",
            "/images/lifeboat-helper%3A1/json",
            says(200, json!({"Id": "i", "Config": {"Labels": {"lifeboat.helper": "image"}}})),
        ),
        ("POST", "/containers/create", says(201, json!({"Id": "h1"}))),
        ("GET", "/containers/h1/archive", writes(archive)),
        ("DELETE", "/containers/h1", writes("HTTP/1.1 204 X\r\n\r\n")),
    ])
}

#[test]
fn an_archive_that_ends_early_with_success_is_no_volume() {
    let mut header = tar::Header::new_ustar();
    header.set_size(3000);
    header.set_mode(0o644);
    header.set_path("./file").unwrap();
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, &[7; 3000][..]).unwrap();
    let whole = builder.into_inner().unwrap();
    // Inside a header, inside a file, behind a file, between the two blocks of the end.
    for end in [0, 100, 512, 1000, 512 + 3072, 512 + 3072 + 512, whole.len()] {
        let fake = volume_fake(&whole[..end]);
        let volumes = lifeboat_workload::volume::Volumes::new(&fake.connect(), "run").unwrap();
        let reached = volumes.to_read("v").unwrap();
        let mut passed = Vec::new();
        let read = reached.archive().unwrap().unwrap().read_to_end(&mut passed);
        assert_eq!(read.is_ok(), end == whole.len(), "{end}: {read:?}");
        assert_eq!(passed, whole[..end]);
        drop(reached);
        assert_eq!(fake.wait_for("DELETE").plain_path(), "/containers/h1");
    }
}
