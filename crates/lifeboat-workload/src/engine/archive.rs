//! Trees as tar archives, out of a container and into one.
//!
//! Must stay true: an idle connection ends in an error, never in a shorter stream; but a stream that ends early looks to
//! this module as one that ends: the engine says success before it reads the first file, and only logs what it could not
//! read. Whoever takes an archive out must ask for its end marker and the full size of every member. Whoever puts one in
//! must look afterwards: an engine that does not recognise an archive answers success too.
//! The engine holds a container's lock for as long as an archive of it is read: never read from one that serves.

use super::Engine;
use super::call::{QUICK, Route, plain_name};
use super::error::{Error, Result};
use super::transport::Body;
use base64ct::{Base64, Encoding};
use bollard::errors::Error as BollardError;
use bollard::query_parameters::UploadToContainerOptions;
use futures_util::stream;
use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::{Bytes, Incoming};
use std::io::{self, Read};
use std::time::Duration;
use tokio::sync::mpsc;

/// A stream on which nothing moves for this long is given up. An engine that walks a large folder of nothing but
/// excluded or empty files still sends headers.
pub(super) const IDLE: Duration = Duration::from_secs(5 * 60);
/// After the last byte was sent, the engine still writes what it buffered, and syncs.
pub(super) const FINISH: Duration = Duration::from_secs(30 * 60);
/// What is read from the source at once, and how many of these wait for the connection.
const PIECE: usize = 256 << 10;
const PIECES_WAITING: usize = 4;

/// An archive on its way out of a container.
#[derive(Debug)]
pub struct ArchiveReader {
    engine: Engine,
    doing: String,
    body: Incoming,
    piece: Bytes,
    idle: Duration,
}

/// What a path in a container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathStat {
    /// The base name.
    pub name: String,
    /// In bytes.
    pub size: u64,
    /// Go's bits for kind and permissions.
    pub go_mode: u64,
    /// Where a symbolic link points to.
    pub link_target: String,
    /// Last change of its content: seconds since 1970, and nanoseconds.
    pub modified: Option<(i64, i64)>,
}

impl PathStat {
    /// Go's bit for a folder.
    pub const DIRECTORY: u64 = 1 << 31;

    /// Whether it is a folder.
    pub fn is_directory(&self) -> bool {
        self.go_mode & Self::DIRECTORY != 0
    }
}

impl ArchiveReader {
    /// The archive that is an answer.
    pub(super) fn new(engine: &Engine, doing: String, response: hyper::Response<Incoming>) -> Self {
        let (body, piece) = (response.into_body(), Bytes::new());
        Self { engine: engine.clone(), doing, body, piece, idle: IDLE }
    }
}

impl Engine {
    /// Reads what is at `path` in a container, running or not, as a tar archive. The first member is its base name.
    pub fn archive(&self, container: &str, path: &str) -> Result<ArchiveReader> {
        self.archive_with(container, path, IDLE)
    }

    /// As [`Engine::archive`], with another limit for a standing stream.
    pub fn archive_with(&self, container: &str, path: &str, idle: Duration) -> Result<ArchiveReader> {
        let doing = format!("reading {path} of container {container}");
        let route = Route::new(&["containers", container, "archive"]).with("path", path);
        let response = self.open(&doing, QUICK, Method::GET, route, bollard::body_full(Bytes::new()))?;
        Ok(ArchiveReader { idle, ..ArchiveReader::new(self, doing, response) })
    }

    /// What is at `path` in a container; `None` where nothing is.
    pub fn path_stat(&self, container: &str, path: &str) -> Result<Option<PathStat>> {
        let doing = format!("looking at {path} of container {container}");
        let route = Route::new(&["containers", container, "archive"]).with("path", path);
        let answer = self.open(&doing, QUICK, Method::HEAD, route, bollard::body_full(Bytes::new()));
        let response = match answer {
            // A missing container has the same status, and a HEAD's answer has no words to tell them apart.
            Err(error) if error.is_not_found() => return self.container(container).map(|_| None),
            answer => answer?,
        };
        let header = response.headers().get("X-Docker-Container-Path-Stat");
        let stat = header
            .and_then(|value| Base64::decode_vec(value.to_str().ok()?).ok())
            .and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok())
            .ok_or_else(|| self.shapeless(&doing))?;
        Ok(Some(PathStat {
            name: super::views::text(&stat, "/name"),
            size: super::views::number(&stat, "/size"),
            go_mode: super::views::number(&stat, "/mode"),
            link_target: super::views::text(&stat, "/linkTarget"),
            modified: modified(&super::views::text(&stat, "/mtime")),
        }))
    }

    /// Unpacks a tar archive below `path` of a container, running or not.
    ///
    /// Files that are there are replaced, others stay. Success means only that the engine said so: look afterwards.
    ///
    /// # Errors
    /// [`Error::Input`] where the source fails; the connection is then broken off, so the engine never takes what it got
    /// for all there is, but what it unpacked stays.
    pub fn put_archive(&self, container: &str, path: &str, source: impl Read) -> Result<()> {
        self.put_archive_with(container, path, source, IDLE)
    }

    /// As [`Engine::put_archive`], with another limit for a standing stream.
    pub fn put_archive_with(
        &self,
        container: &str,
        path: &str,
        source: impl Read,
        idle: Duration,
    ) -> Result<()> {
        let container = plain_name(container)?.to_owned();
        let doing = format!("unpacking into {path} of container {container}");
        let options = UploadToContainerOptions { path: path.to_owned(), ..Default::default() };
        let bollard = self.bollard().clone();
        self.send_up(&doing, source, idle, |body| async move {
            bollard.upload_to_container(&container, Some(options), body).await
        })
    }

    /// Makes a request whose body is what `source` gives, and waits for its answer.
    ///
    /// # Errors
    /// [`Error::Input`] where the source fails; the connection is then broken off.
    pub(super) fn send_up<T, F>(
        &self,
        doing: &str,
        source: impl Read,
        idle: Duration,
        request: impl FnOnce(Body) -> F,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = std::result::Result<T, BollardError>> + Send + 'static,
    {
        let (pieces, waiting) = mpsc::channel::<io::Result<Bytes>>(PIECES_WAITING);
        let body = stream::unfold(waiting, |mut waiting| async move {
            let piece = waiting.recv().await?;
            Some((piece, waiting))
        });
        let request = self.runtime().spawn(request(bollard::body_try_stream(body)));
        let fed = self.feed(doing, source, &pieces, idle);
        drop(pieces);
        if let Err(error @ Error::Timeout { .. }) = fed {
            request.abort();
            return Err(error);
        }
        let answer = self.wait(doing, FINISH, async {
            request.await.unwrap_or_else(|error| Err(io::Error::other(error).into()))
        });
        // The source's failure caused the connection's, so it is told first.
        fed?;
        answer
    }

    /// Sends all of the source, or until the engine has answered without waiting for it.
    fn feed(
        &self,
        doing: &str,
        mut source: impl Read,
        pieces: &mpsc::Sender<io::Result<Bytes>>,
        idle: Duration,
    ) -> Result<()> {
        loop {
            let mut buffer = vec![0; PIECE];
            let (piece, failure) = match source.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => {
                    buffer.truncate(length);
                    (Ok(Bytes::from(buffer)), None)
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // The caller gets the error itself, and the connection one of the same words.
                Err(error) => (Err(io::Error::new(error.kind(), error.to_string())), Some(error)),
            };
            // A send fails where the request is over; its answer says why.
            let sent =
                self.wait(doing, idle, async { Ok::<_, BollardError>(pieces.send(piece).await.is_ok()) })?;
            if let Some(source) = failure {
                return Err(Error::Input { doing: doing.to_owned(), source });
            }
            if !sent {
                return Ok(());
            }
        }
    }
}

impl Read for ArchiveReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            let Self { engine, doing, body, idle, .. } = self;
            let frame = engine
                .wait(doing, *idle, async { Ok(body.frame().await.transpose()?) })
                .map_err(io::Error::other)?;
            match frame {
                None => return Ok(0),
                Some(frame) => self.piece = frame.into_data().unwrap_or_default(),
            }
        }
        let length = buffer.len().min(self.piece.len());
        buffer[..length].copy_from_slice(&self.piece.split_to(length));
        Ok(length)
    }
}

/// Reads RFC 3339, with any offset.
fn modified(text: &str) -> Option<(i64, i64)> {
    let time: jiff::Timestamp = text.parse().ok()?;
    let nanoseconds = time.as_nanosecond();
    // Counted downwards before 1970, as the file system does.
    let (seconds, rest) = (nanoseconds.div_euclid(1_000_000_000), nanoseconds.rem_euclid(1_000_000_000));
    Some((i64::try_from(seconds).ok()?, i64::try_from(rest).ok()?))
}

#[cfg(test)]
mod tests {
    use super::modified;

    #[test]
    fn times_are_read_with_offset_and_before_1970() {
        assert_eq!(modified("2026-11-25T01:03:38.123456789+01:00"), Some((1_795_565_018, 123_456_789)));
        assert_eq!(modified("1969-12-31T23:59:59.5Z"), Some((-1, 500_000_000)));
        assert_eq!(modified("yesterday"), None);
    }
}
