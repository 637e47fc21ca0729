//! How one call is made: a path, a question, and an answer of bounded size within a limited time.
//!
//! Must stay true: a name from outside never leaves its place in a path; whoever waits, waits for a stated time; an answer
//! is never held in memory beyond [`ANSWER_MAX`].

use super::Engine;
use super::error::{Error, Result};
use super::transport::Body;
use bollard::errors::Error as BollardError;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::Value;
use std::fmt::Write as _;
use std::io::ErrorKind as IoErrorKind;
use std::time::Duration;

/// The engine answers questions at once, but for a machine under load.
pub(super) const QUICK: Duration = Duration::from_secs(60);
/// Changes that free or fill a file system: removing a container, creating one, committing.
pub(super) const SLOW: Duration = Duration::from_secs(15 * 60);
/// An answer above this is not one that an engine gives.
const ANSWER_MAX: usize = 64 << 20;
/// How an engine that speaks TLS answers a request in the clear.
const WANTS_TLS: &str = "HTTP request to an HTTPS server";
/// How much of an answer that is not understood is repeated in an error.
const EXCERPT: usize = 300;

/// A path and its query, both encoded.
#[derive(Debug, Clone)]
pub(super) struct Route(String);

impl Route {
    /// `/part/part`; a part from outside stays one part.
    pub(super) fn new(parts: &[&str]) -> Self {
        let mut path = String::new();
        for part in parts {
            path.push('/');
            // A part of dots alone would be taken for a way up.
            let dots = part.bytes().all(|byte| byte == b'.');
            encode(&mut path, part, if dots { b"" } else { b"._-~" });
        }
        Self(path)
    }

    /// As it stands in a request.
    pub(super) fn path(&self) -> &str {
        &self.0
    }

    /// The same with one more question.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.0.push(if self.0.contains('?') { '&' } else { '?' });
        self.0.push_str(name);
        self.0.push('=');
        encode(&mut self.0, value, b"._-~");
        self
    }

    /// Narrows a list to the objects with one of these values.
    pub(super) fn filtered(self, filters: &[(&str, &str)]) -> Self {
        if filters.is_empty() {
            return self;
        }
        let mut map = serde_json::Map::new();
        for (name, value) in filters {
            if let Value::Array(values) = map.entry(*name).or_insert_with(|| Value::Array(Vec::new())) {
                values.push(Value::from(*value));
            }
        }
        self.with("filters", &Value::Object(map).to_string())
    }
}

fn encode(out: &mut String, text: &str, kept: &[u8]) {
    for byte in text.bytes() {
        match byte.is_ascii_alphanumeric() || kept.contains(&byte) {
            true => out.push(byte as char),
            // Writing to a string cannot fail.
            false => _ = write!(out, "%{byte:02X}"),
        }
    }
}

/// A name as bollard will put it into a path, which does not encode it.
pub(super) fn plain_name(name: &str) -> Result<&str> {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    match plain && name.bytes().any(|byte| byte.is_ascii_alphanumeric()) {
        true => Ok(name),
        false => Err(Error::Usage(format!("`{name}` cannot be the name or id of a container"))),
    }
}

impl Engine {
    /// Waits for one of bollard's calls, for at most `limit`.
    pub(super) fn wait<T>(
        &self,
        doing: &str,
        limit: Duration,
        work: impl Future<Output = Result<T, BollardError>>,
    ) -> Result<T> {
        let runtime = self.runtime();
        let _entered = runtime.enter();
        match runtime.block_on(async { tokio::time::timeout(limit, work).await }) {
            Ok(result) => result.map_err(|error| self.explain(doing, error)),
            Err(_) => Err(Error::Timeout { doing: doing.to_owned(), after: limit }),
        }
    }

    /// What the engine answers to a question.
    pub(super) fn get(&self, doing: &str, route: Route) -> Result<Value> {
        self.ask(doing, QUICK, Method::GET, route, None)
    }

    /// What the engine answers to a question that makes it read its disk.
    pub(super) fn get_slowly(&self, doing: &str, route: Route) -> Result<Value> {
        self.ask(doing, SLOW, Method::GET, route, None)
    }

    /// What the engine answers to an order.
    pub(super) fn post(
        &self,
        doing: &str,
        limit: Duration,
        route: Route,
        body: Option<&Value>,
    ) -> Result<Value> {
        self.ask(doing, limit, Method::POST, route, body)
    }

    /// Removes something.
    pub(super) fn delete(&self, doing: &str, route: Route) -> Result<()> {
        self.ask(doing, SLOW, Method::DELETE, route, None).map(drop)
    }

    fn ask(
        &self,
        doing: &str,
        limit: Duration,
        method: Method,
        route: Route,
        body: Option<&Value>,
    ) -> Result<Value> {
        let bytes = self.wait(doing, limit, async {
            let mut request = Request::builder().method(method).uri(route.0);
            if body.is_some() {
                request = request.header(CONTENT_TYPE, "application/json");
            }
            let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
            let response = self.transport().send(request.body(bollard::body_full(body))?).await?;
            collect(accepted(response).await?).await
        })?;
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).map_err(|error| Error::Protocol {
            doing: doing.to_owned(),
            detail: format!("{error}: {}", excerpt(&bytes)),
        })
    }

    /// Sends a request and gives the answer as it comes; `limit` is for its beginning.
    pub(super) fn open(
        &self,
        doing: &str,
        limit: Duration,
        method: Method,
        route: Route,
        body: Body,
    ) -> Result<Response<Incoming>> {
        self.wait(doing, limit, async {
            let request = Request::builder().method(method).uri(route.0).body(body)?;
            accepted(self.transport().send(request).await?).await
        })
    }

    /// bollard's error in our words.
    pub(super) fn explain(&self, doing: &str, error: BollardError) -> Error {
        let doing = doing.to_owned();
        let address = || self.transport().address().to_string();
        match error {
            BollardError::DockerResponseServerError { status_code: 400, message }
                if message.contains(WANTS_TLS) =>
            {
                Error::NeedsTls { address: address() }
            }
            BollardError::DockerResponseServerError { status_code, message } => {
                Error::Refused { doing, status: status_code, message: message.trim().to_owned() }
            }
            BollardError::RequestTimeoutError => Error::Timeout { doing, after: super::HEADER_LIMIT },
            BollardError::JsonDataError { message, .. } => Error::Protocol { doing, detail: message },
            BollardError::DockerStreamError { error } => {
                Error::Refused { doing, status: 500, message: error }
            }
            error => {
                let connecting = is_connecting(&error);
                match (connecting, io_kind(&error)) {
                    (_, Some(IoErrorKind::PermissionDenied)) => {
                        Error::Permission { address: address(), source: error.into() }
                    }
                    (true, _) => Error::NoEngine { address: address(), source: error.into() },
                    (false, _) => Error::Broken { doing, source: error.into() },
                }
            }
        }
    }
}

/// The response, if its status says success; else the engine's words as an error.
pub(super) async fn accepted(response: Response<Incoming>) -> Result<Response<Incoming>, BollardError> {
    let status = response.status();
    if status.is_success() || status == StatusCode::NOT_MODIFIED {
        return Ok(response);
    }
    let bytes = collect(response).await?;
    let message = serde_json::from_slice::<Value>(&bytes)
        .ok()
        .and_then(|answer| Some(answer.get("message")?.as_str()?.to_owned()))
        .unwrap_or_else(|| excerpt(&bytes));
    Err(BollardError::DockerResponseServerError { status_code: status.as_u16(), message })
}

async fn collect(response: Response<Incoming>) -> Result<Bytes, BollardError> {
    match Limited::new(response.into_body(), ANSWER_MAX).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => Err(std::io::Error::other(error).into()),
    }
}

fn excerpt(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(EXCERPT)]).trim().to_owned()
}

/// The first operating error among the causes.
fn io_kind(error: &(dyn std::error::Error + 'static)) -> Option<IoErrorKind> {
    std::iter::successors(Some(error), |error| error.source())
        .find_map(|error| Some(error.downcast_ref::<std::io::Error>()?.kind()))
}

fn is_connecting(error: &BollardError) -> bool {
    matches!(error, BollardError::HyperLegacyError { err } if err.is_connect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_from_outside_stays_in_its_place() {
        let route = Route::new(&["volumes", "../containers/a?force=1", "..", "."]);
        assert_eq!(route.0, "/volumes/..%2Fcontainers%2Fa%3Fforce%3D1/%2E%2E/%2E");
        let route = Route::new(&["a"]).with("path", "/x y&z").with("b", "1");
        assert_eq!(route.0, "/a?path=%2Fx%20y%26z&b=1");
        for name in ["", "..", "a/b", "a?b", "ä", "a b", "a#b"] {
            assert!(plain_name(name).is_err(), "{name}");
        }
        assert!(plain_name("web-1.blue_x").is_ok());
    }
}
