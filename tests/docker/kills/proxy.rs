//! Stands between lifeboat and its engine, and does something at one of the requests.
//!
//! Every request comes on a connection of its own. Connections on which nothing is asked only look for who listens.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Where in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// Before the engine has it.
    Before,
    /// The engine has it, and has not answered.
    Sent,
    /// The engine has answered, and nobody has read that.
    Answered,
}

/// At which request: its number, counted from 0, or by what it says.
pub(crate) enum At {
    Never,
    Number(usize),
    First(fn(&str) -> bool),
    /// All that fit.
    Every(fn(&str) -> bool),
}

/// What is done then.
pub(crate) type Deed = Box<dyn FnMut() + Send>;

struct Shared {
    engine: PathBuf,
    /// The first lines of all requests, in their order.
    lines: Mutex<Vec<String>>,
    fired: AtomicBool,
    /// How many requests there were by then.
    asked: AtomicUsize,
    at: At,
    when: When,
    deed: Mutex<Deed>,
    /// Words in answers, and words of the same length that are put in their place.
    lie: Option<(String, String)>,
}

pub(crate) struct Proxy {
    shared: Arc<Shared>,
    path: PathBuf,
}

impl Proxy {
    pub(crate) fn start(path: &Path, engine: &str, at: (At, When), deed: Deed) -> Self {
        if let (At::Number(number), when, true) = (&at.0, at.1, super::is_thorough()) {
            println!("{engine}: request {number}, {when:?}");
        }
        Self::begin(path, engine, at, deed, None)
    }

    /// One in whose answers to the requests that fit other words are put in the place of some.
    pub(crate) fn lying(path: &Path, engine: &str, fits: fn(&str) -> bool, lie: (&str, &str)) -> Self {
        assert_eq!(lie.0.len(), lie.1.len(), "the length of an answer stays");
        let lie = Some((lie.0.to_owned(), lie.1.to_owned()));
        Self::begin(path, engine, (At::Every(fits), When::Answered), Box::new(|| {}), lie)
    }

    fn begin(
        path: &Path,
        engine: &str,
        (at, when): (At, When),
        deed: Deed,
        lie: Option<(String, String)>,
    ) -> Self {
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path).unwrap();
        let shared = Arc::new(Shared {
            engine: engine.trim_start_matches("unix://").into(),
            lines: Mutex::default(),
            fired: AtomicBool::new(false),
            asked: AtomicUsize::new(0),
            at,
            when,
            deed: Mutex::new(deed),
            lie,
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let Ok(connection) = connection else { return };
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || serve(&shared, connection));
            }
        });
        Self { shared, path: path.to_owned() }
    }

    /// One that only listens.
    pub(crate) fn listening(path: &Path, engine: &str) -> Self {
        Self::start(path, engine, (At::Never, When::Before), Box::new(|| {}))
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.shared.lines.lock().unwrap().clone()
    }

    pub(crate) fn has_fired(&self) -> bool {
        self.shared.fired.load(Ordering::SeqCst)
    }

    /// Whether there was a request since.
    pub(crate) fn has_gone_on(&self) -> bool {
        self.has_fired() && self.lines().len() > self.shared.asked.load(Ordering::SeqCst)
    }

    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.path.display())
    }
}

impl Shared {
    /// Notes a request; whether it is the one.
    fn note(&self, line: &str) -> bool {
        let mut lines = self.lines.lock().unwrap();
        lines.push(line.to_owned());
        match self.at {
            At::Never => false,
            At::Number(number) => number + 1 == lines.len(),
            At::Every(fits) => fits(line),
            At::First(fits) => fits(line) && lines.iter().filter(|one| fits(one)).count() == 1,
        }
    }

    fn fire(&self, is_the_one: bool, when: When) {
        if is_the_one && self.when == when {
            self.asked.store(self.lines.lock().unwrap().len(), Ordering::SeqCst);
            (self.deed.lock().unwrap())();
            self.fired.store(true, Ordering::SeqCst);
        }
    }
}

fn serve(shared: &Shared, mut client: UnixStream) {
    let mut buffer = vec![0; 64 << 10];
    let Ok(count @ 1..) = client.read(&mut buffer) else { return };
    let line = buffer[..count].split(|byte| *byte == b'\r').next().unwrap_or_default();
    let is_the_one = shared.note(&String::from_utf8_lossy(line));
    shared.fire(is_the_one, When::Before);
    let mut sent = buffer[..count].to_vec();
    // A command that begins once its run is dead is nobody's to know of; anything else may well arrive so late.
    if is_the_one && shared.when == When::Before && sent.starts_with(b"POST") && has(&sent, b"/exec") {
        let _ = client.set_read_timeout(Some(std::time::Duration::from_millis(300)));
        match client.read(&mut buffer) {
            Ok(0) => return,
            Ok(more) => sent.extend_from_slice(&buffer[..more]),
            Err(_) => {}
        }
        let _ = client.set_read_timeout(None);
    }
    let Ok(mut engine) = UnixStream::connect(&shared.engine) else { return };
    if engine.write_all(&sent).is_err() {
        return;
    }
    let (Ok(mut from_client), Ok(mut to_engine)) = (client.try_clone(), engine.try_clone()) else { return };
    let forward = std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_engine);
        let _ = to_engine.shutdown(Shutdown::Write);
    });
    if is_the_one && shared.when == When::Sent {
        // Long enough for the engine to begin, and for most to have done nothing yet.
        std::thread::sleep(std::time::Duration::from_millis(1));
        shared.fire(is_the_one, When::Sent);
        // An engine that died of it has not answered, also where its answer was on its way by then.
        if UnixStream::connect(&shared.engine).is_err() {
            let _ = client.shutdown(Shutdown::Both);
            let _ = forward.join();
            return;
        }
    }
    let mut is_first = true;
    while let Ok(count) = engine.read(&mut buffer) {
        shared.fire(is_the_one && is_first, When::Answered);
        is_first = false;
        if let Some((truth, lie)) = shared.lie.as_ref().filter(|_| is_the_one) {
            replace(&mut buffer[..count], truth.as_bytes(), lie.as_bytes());
        }
        if count == 0 || client.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = engine.shutdown(Shutdown::Both);
    let _ = forward.join();
}

fn replace(bytes: &mut [u8], old: &[u8], new: &[u8]) {
    for at in 0..bytes.len().saturating_sub(old.len() - 1) {
        if bytes[at..].starts_with(old) {
            bytes[at..at + new.len()].copy_from_slice(new);
        }
    }
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
