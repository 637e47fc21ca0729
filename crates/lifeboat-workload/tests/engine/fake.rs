//! An engine that does what no real one can be made to do: a few bytes on a unix socket.
//!
//! Must stay true: it answers exactly what a test says and remembers exactly what it was sent; a request that a test says
//! nothing about gets a 404, as from an engine that has no such object.

use lifeboat_workload::engine::{Address, Engine};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// What the engine was asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    /// Names in lower case; every value that was sent.
    pub(crate) headers: BTreeMap<String, Vec<String>>,
    pub(crate) body: Vec<u8>,
    /// Whether the body's end was seen, or the connection's.
    pub(crate) is_complete: bool,
}

impl Request {
    /// The path without version and query.
    pub(crate) fn plain_path(&self) -> &str {
        let path = self.path.split('?').next().unwrap();
        match path.strip_prefix("/v1.").and_then(|rest| rest.find('/').map(|at| &rest[at..])) {
            Some(plain) => plain,
            None => path,
        }
    }
}

/// What it does with the connection of one request.
pub(crate) type Act = Arc<dyn Fn(&Request, &mut UnixStream) + Send + Sync>;

/// An engine made up for one test.
pub(crate) struct Fake {
    folder: TempDir,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Fake {
    /// An engine that speaks `version` and acts as `routes` say: method, path, act.
    pub(crate) fn new(version: Value, routes: Vec<(&'static str, &'static str, Act)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("engine.sock")).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let remembered = Arc::clone(&seen);
        let routes = Arc::new(routes);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (version, routes) = (version.clone(), Arc::clone(&routes));
                let (mut stream, remembered) = (stream.unwrap(), Arc::clone(&remembered));
                std::thread::spawn(move || {
                    let Some(mut request) = read_head(&mut stream) else { return };
                    let plain = request.plain_path().to_owned();
                    let route =
                        routes.iter().find(|(method, path, _)| *method == request.method && *path == plain);
                    // A route that wants to answer before the body says so by its name.
                    if !plain.starts_with("/containers/early") {
                        read_body(&mut request, &mut stream);
                    }
                    remembered.lock().unwrap().push(request.clone());
                    match (route, plain.as_str()) {
                        (Some((_, _, act)), _) => act(&request, &mut stream),
                        (None, "/version") => answer(&mut stream, 200, version.to_string().as_bytes()),
                        (None, _) => answer(&mut stream, 404, br#"{"message":"No such object"}"#),
                    }
                });
            }
        });
        Self { folder, seen }
    }

    /// An engine that speaks 1.41.
    pub(crate) fn usual(routes: Vec<(&'static str, &'static str, Act)>) -> Self {
        Self::new(usual_version(), routes)
    }

    pub(crate) fn address(&self) -> Address {
        Address::Unix(self.folder.path().join("engine.sock"))
    }

    pub(crate) fn connect(&self) -> Engine {
        Engine::connect_to(self.address()).unwrap()
    }

    /// What was asked so far.
    pub(crate) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until a request of this method was read to its end, whatever that was.
    pub(crate) fn wait_for(&self, method: &str) -> Request {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            if let Some(request) = self.seen().into_iter().find(|request| request.method == method) {
                return request;
            }
            assert!(std::time::Instant::now() < deadline, "no {method} came");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

pub(crate) fn usual_version() -> Value {
    json!({"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12", "Os": "linux", "Arch": "amd64"})
}

/// An act that answers with a status and a JSON body.
pub(crate) fn says(status: u16, body: Value) -> Act {
    Arc::new(move |_, stream| answer(stream, status, body.to_string().as_bytes()))
}

/// An act that writes these bytes and closes the connection.
pub(crate) fn writes(bytes: impl Into<Vec<u8>>) -> Act {
    let bytes = bytes.into();
    Arc::new(move |_, stream| {
        // The other side may have left already; that is what some tests are about.
        let _ = stream.write_all(&bytes);
    })
}

/// An act that writes these bytes and then says nothing until the other side leaves.
pub(crate) fn writes_and_hangs(bytes: impl Into<Vec<u8>>) -> Act {
    let bytes = bytes.into();
    Arc::new(move |_, stream| {
        stream.write_all(&bytes).unwrap();
        let _ = stream.read(&mut [0; 1]);
    })
}

/// One chunk of a chunked body.
pub(crate) fn chunk(bytes: &[u8]) -> Vec<u8> {
    let mut out = format!("{:x}\r\n", bytes.len()).into_bytes();
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
    out
}

pub(crate) fn answer(stream: &mut UnixStream, status: u16, body: &[u8]) {
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(body);
}

fn read_head(stream: &mut UnixStream) -> Option<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let mut first = lines.next().unwrap().split(' ');
    let mut request = Request {
        method: first.next().unwrap().to_owned(),
        path: first.next().unwrap().to_owned(),
        ..Request::default()
    };
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap();
        request.headers.entry(name.to_lowercase()).or_default().push(value.trim().to_owned());
    }
    Some(request)
}

fn read_body(request: &mut Request, stream: &mut UnixStream) {
    let header = |name: &str| request.headers.get(name).map(|values| values[0].clone());
    if header("transfer-encoding").as_deref() == Some("chunked") {
        let mut reader = BufReader::new(stream);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let length = usize::from_str_radix(line.trim(), 16).unwrap();
            let mut piece = vec![0; length + 2];
            if reader.read_exact(&mut piece).is_err() {
                return;
            }
            request.body.extend_from_slice(&piece[..length]);
            if length == 0 {
                request.is_complete = true;
                return;
            }
        }
    }
    let length = header("content-length").map_or(0, |text| text.parse().unwrap());
    request.body = vec![0; length];
    request.is_complete = stream.read_exact(&mut request.body).is_ok();
}
