//! Images as archives, out of an engine and into one, and their names.
//!
//! Must stay true: what an engine says about loading is only passed on. It answers success before it reads the first byte,
//! says in lines what came of it, and may call an image loaded whose layers are missing: look afterwards.

use super::Engine;
use super::archive::{ArchiveReader, FINISH, IDLE};
use super::call::{QUICK, Route, SLOW, accepted};
use super::error::{Error, Result};
use super::events::Lines;
use super::views::text;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request};
use serde_json::Value;
use std::io::Read;

impl Engine {
    /// An image as the archive that `docker save` gives. An engine may end it early, or leave out what it does not have.
    pub fn save_image(&self, name: &str) -> Result<ArchiveReader> {
        let doing = format!("saving image {name}");
        let route = Route::new(&["images", name, "get"]);
        // Engines that assemble the whole archive on disk first answer late.
        let response = self.open(&doing, SLOW, Method::GET, route, bollard::body_full(Bytes::new()))?;
        Ok(ArchiveReader::new(self, doing, response))
    }

    /// Gives an engine an archive of images; gives the lines in which it says what it loaded.
    ///
    /// # Errors
    /// [`Error::Input`] where the source fails; the connection is then broken off, so the engine never takes what it got
    /// for a whole archive.
    pub fn load_images(&self, source: impl Read) -> Result<Vec<String>> {
        let doing = "loading an image";
        let route = Route::new(&["images", "load"]).with("quiet", "1");
        let transport = self.transport().clone();
        let answer = self.send_up(doing, source, IDLE, |body| async move {
            let kind = HeaderValue::from_static("application/x-tar");
            let request =
                Request::builder().method(Method::POST).uri(route.path()).header(CONTENT_TYPE, kind);
            accepted(transport.send(request.body(body)?).await?).await
        })?;
        let mut lines = Lines::new(self.clone(), answer.into_body(), doing);
        let mut said = Vec::new();
        while let Some(line) = lines.next_within(FINISH)? {
            if let Some(message) = line.get("error").and_then(Value::as_str) {
                return Err(Error::Refused {
                    doing: doing.to_owned(),
                    status: 500,
                    message: message.to_owned(),
                });
            }
            said.push(text(&line, "/stream").trim().to_owned());
        }
        Ok(said)
    }

    /// Gives an image a name; whatever had that name loses it.
    pub fn tag_image(&self, id: &str, repository: &str, tag: &str) -> Result<()> {
        let route = Route::new(&["images", id, "tag"]).with("repo", repository).with("tag", tag);
        self.post(&format!("tagging {id} as {repository}:{tag}"), QUICK, route, None).map(drop)
    }

    /// All images, also those that are only the lower part of others.
    pub fn all_images(&self) -> Result<Vec<super::views::Image>> {
        let doing = "listing images";
        let answer = self.get(doing, Route::new(&["images", "json"]).with("all", "1"))?;
        self.elements(doing, answer, super::views::Image::from_json)
    }
}
