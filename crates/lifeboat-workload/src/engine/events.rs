//! What happens on an engine, as it happens.
//!
//! Must stay true: an end of the stream is told from a time without events; a line is never larger than [`LINE_MAX`].
//! Whoever relies on events lists again after an end: the engine remembers only its last 256.

use super::Engine;
use super::call::{QUICK, Route};
use super::error::{Error, Result};
use super::views::{Words, text, words};
use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::{Bytes, Incoming};
use serde_json::Value;
use std::time::Duration;

/// An event is a few kilobytes: names and labels.
const LINE_MAX: usize = 1 << 20;

/// Something that happened on an engine.
#[derive(Debug, Clone)]
pub struct Event {
    /// `container`, `volume`, `image`, `network` and so on.
    pub kind: String,
    /// `start`, `die`, `health_status: healthy` and so on.
    pub action: String,
    /// Whom it happened to.
    pub actor: String,
    /// The name, the image, labels.
    pub attributes: Words,
    /// Nanoseconds since 1970, by the engine's clock.
    pub nanoseconds: i64,
    /// As it came.
    pub raw: Value,
}

/// What came out of waiting for an event.
#[derive(Debug)]
pub enum NextEvent {
    /// This happened.
    Event(Box<Event>),
    /// Nothing, for as long as was waited.
    Quiet,
    /// The stream is over, and so may be the engine: connect again and list.
    End,
}

/// Events of an engine.
#[derive(Debug)]
pub struct EventStream {
    lines: Lines,
}

impl Engine {
    /// Events from now on, of all kinds that the filters name (`("type", "container")`, `("event", "die")`,
    /// `("label", "a=b")`).
    pub fn events(&self, filters: &[(&str, &str)]) -> Result<EventStream> {
        let doing = "listening for events";
        let route = Route::new(&["events"]).filtered(filters);
        let response = self.open(doing, QUICK, Method::GET, route, bollard::body_full(Bytes::new()))?;
        Ok(EventStream { lines: Lines::new(self.clone(), response.into_body(), doing) })
    }
}

impl EventStream {
    /// Waits for the next event, for at most `limit`.
    pub fn next(&mut self, limit: Duration) -> Result<NextEvent> {
        match self.lines.next_within(limit) {
            Ok(Some(raw)) => Ok(NextEvent::Event(Box::new(event(raw)))),
            Ok(None) => Ok(NextEvent::End),
            Err(Error::Timeout { .. }) => Ok(NextEvent::Quiet),
            Err(error) => Err(error),
        }
    }
}

fn event(raw: Value) -> Event {
    Event {
        kind: text(&raw, "/Type"),
        action: text(&raw, "/Action"),
        actor: text(&raw, "/Actor/ID"),
        attributes: words(&raw, "/Actor/Attributes"),
        nanoseconds: raw.get("timeNano").and_then(Value::as_i64).unwrap_or_default(),
        raw,
    }
}

/// An answer of one JSON value after another.
#[derive(Debug)]
pub(super) struct Lines {
    engine: Engine,
    body: Incoming,
    doing: String,
    buffer: Vec<u8>,
}

impl Lines {
    pub(super) fn new(engine: Engine, body: Incoming, doing: &str) -> Self {
        Self { engine, body, doing: doing.to_owned(), buffer: Vec::new() }
    }

    /// The next value; `None` at the end; a time-out leaves everything as it was.
    pub(super) fn next_within(&mut self, limit: Duration) -> Result<Option<Value>> {
        loop {
            if let Some(line) = self.take_line()? {
                return Ok(Some(line));
            }
            let Self { engine, body, doing, .. } = self;
            let data = engine.wait(doing, limit, async {
                loop {
                    match body.frame().await {
                        None => return Ok(None),
                        Some(frame) => {
                            if let Ok(data) = frame?.into_data() {
                                return Ok(Some(data));
                            }
                        }
                    }
                }
            })?;
            match data {
                Some(data) => self.buffer.extend_from_slice(&data),
                None if self.buffer.iter().all(u8::is_ascii_whitespace) => return Ok(None),
                // The last line may come without its end.
                None => self.buffer.push(b'\n'),
            }
        }
    }

    fn take_line(&mut self) -> Result<Option<Value>> {
        loop {
            let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') else {
                return match self.buffer.len() > LINE_MAX {
                    true => Err(self.engine.shapeless(&self.doing)),
                    false => Ok(None),
                };
            };
            let line: Vec<u8> = self.buffer.drain(..=end).collect();
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            return serde_json::from_slice(&line)
                .map(Some)
                .map_err(|error| Error::Protocol { doing: self.doing.clone(), detail: error.to_string() });
        }
    }
}
