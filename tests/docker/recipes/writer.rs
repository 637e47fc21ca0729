//! A client that writes, and knows what it was told is done.

use crate::engines::Engine;
use crate::engines::objects::Container;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A client that writes one transaction after the other, and reads after each that it is done.
pub(super) struct Writer {
    client: Child,
    input: Option<ChildStdin>,
    /// The number of each, and when it was read.
    done: Arc<Mutex<Vec<(u64, f64)>>>,
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

impl Writer {
    /// `line` makes of a number what the client is told; it has to print the number when that is done.
    pub(super) fn start(
        container: &Container,
        engine: &Engine,
        words: &[&str],
        line: fn(u64) -> String,
    ) -> Self {
        let mut command = engine.docker(&[&["exec", "--interactive", &container.name], words].concat());
        let mut client = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut input = client.stdin.take().unwrap();
        let output = BufReader::new(client.stdout.take().unwrap());
        let done = Arc::new(Mutex::new(Vec::new()));
        let shared = done.clone();
        input.write_all(line(1).as_bytes()).unwrap();
        let (send, lines) = std::sync::mpsc::channel::<String>();
        let mut writing = input;
        std::thread::spawn(move || {
            // The next is told when the last is done.
            for text in lines {
                if writing.write_all(text.as_bytes()).is_err() {
                    break;
                }
            }
        });
        std::thread::spawn(move || {
            for answer in output.lines().map_while(Result::ok) {
                let Ok(number) = answer.trim().parse::<u64>() else { continue };
                shared.lock().unwrap().push((number, now()));
                if send.send(line(number + 1)).is_err() {
                    break;
                }
            }
        });
        let writer = Self { client, input: None, done };
        writer.wait_for(20);
        writer
    }

    pub(super) fn last(&self) -> u64 {
        self.done.lock().unwrap().last().map_or(0, |(number, _)| *number)
    }

    fn wait_for(&self, count: u64) {
        let begun = now();
        while self.last() < count {
            assert!(now() - begun < 60.0, "the client got no further than {}", self.last());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What the client knew to be done at a time; and it has gone on since.
    pub(super) fn done_at(&self, time: f64) -> u64 {
        self.wait_for(self.last() + 20);
        let done = self.done.lock().unwrap();
        done.iter().rev().find(|(_, read)| *read < time).map_or(0, |(number, _)| *number)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}
