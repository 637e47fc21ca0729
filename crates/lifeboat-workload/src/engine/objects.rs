//! Volumes, images and networks: looking at them, making and removing them.
//!
//! Must stay true: making a volume never changes one that is there; whoever needs a new one checks first, because the
//! engine answers success for a name that exists, whatever its options are.

use super::Engine;
use super::call::{QUICK, Route, SLOW};
use super::error::{Error, Result};
use super::views::{Image, Network, Volume, Words, list, text};
use hyper::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A tar archive of nothing: two blocks of zeros.
pub fn empty_tar() -> [u8; 1024] {
    [0; 1024]
}

impl Engine {
    /// All volumes that have all the labels (`name` or `name=value`).
    pub fn volumes(&self, labels: &[&str]) -> Result<Vec<Volume>> {
        let doing = "listing volumes";
        let filters: Vec<_> = labels.iter().map(|label| ("label", *label)).collect();
        let mut answer = self.get(doing, Route::new(&["volumes"]).filtered(&filters))?;
        let volumes = answer.get_mut("Volumes").map(Value::take).unwrap_or_default();
        self.elements(doing, volumes, Volume::from_json)
    }

    /// One volume; [`Error::is_not_found`] where there is none.
    pub fn volume(&self, name: &str) -> Result<Volume> {
        let doing = format!("inspecting volume {name}");
        let answer = self.get(&doing, Route::new(&["volumes", name]))?;
        Volume::from_json(answer).ok_or_else(|| self.shapeless(&doing))
    }

    /// How many bytes each volume holds. The engine counts them file by file; what it does not know is left out.
    pub fn volume_bytes(&self) -> Result<BTreeMap<String, u64>> {
        let route = Route::new(&["system", "df"]);
        // Without it the engine counts images and containers too.
        let route = if self.speaks(1, 42) { route.with("type", "volume") } else { route };
        let answer = self.get_slowly("asking how large volumes are", route)?;
        let size = |volume: &Value| {
            let size = volume.pointer("/UsageData/Size").and_then(Value::as_u64)?;
            Some((text(volume, "/Name"), size))
        };
        Ok(list(&answer, "/Volumes").filter_map(size).collect())
    }

    /// Makes a volume, or gives the one of that name as it is. Without a name the engine makes one up.
    pub fn create_volume(
        &self,
        name: Option<&str>,
        driver: &str,
        options: &Words,
        labels: &Words,
    ) -> Result<Volume> {
        let doing = format!("creating volume {}", name.unwrap_or("without a name"));
        let body = json!({
            "Name": name.unwrap_or_default(), "Driver": driver, "DriverOpts": options, "Labels": labels,
        });
        let answer = self.post(&doing, SLOW, Route::new(&["volumes", "create"]), Some(&body))?;
        Volume::from_json(answer).ok_or_else(|| self.shapeless(&doing))
    }

    /// Removes a volume and everything in it; no error where it is gone.
    pub fn remove_volume(&self, name: &str) -> Result<()> {
        match self.delete(&format!("removing volume {name}"), Route::new(&["volumes", name])) {
            Err(error) if error.is_not_found() => Ok(()),
            result => result,
        }
    }

    /// All images that have a name or are nobody's layer.
    pub fn images(&self, labels: &[&str]) -> Result<Vec<Image>> {
        let doing = "listing images";
        let filters: Vec<_> = labels.iter().map(|label| ("label", *label)).collect();
        let answer = self.get(doing, Route::new(&["images", "json"]).filtered(&filters))?;
        self.elements(doing, answer, Image::from_json)
    }

    /// One image by name or id; [`Error::is_not_found`] where there is none.
    pub fn image(&self, name: &str) -> Result<Image> {
        let doing = format!("inspecting image {name}");
        let answer = self.get(&doing, Route::new(&["images", name, "json"]))?;
        Image::from_json(answer).ok_or_else(|| self.shapeless(&doing))
    }

    /// Makes an image of a single, empty layer, with labels; gives its id. No registry is asked.
    pub fn import_empty_image(&self, repository: &str, tag: &str, labels: &[(&str, &str)]) -> Result<String> {
        let doing = format!("importing the empty image {repository}:{tag}");
        let mut route =
            Route::new(&["images", "create"]).with("fromSrc", "-").with("repo", repository).with("tag", tag);
        for (name, value) in labels {
            route = route.with("changes", &format!("LABEL {name}={value}"));
        }
        let body = bollard::body_full(empty_tar().to_vec().into());
        let response = self.open(&doing, SLOW, Method::POST, route, body)?;
        let mut id = None;
        let mut lines = super::events::Lines::new(self.clone(), response.into_body(), &doing);
        // The status is success before the import begins: what it came to is said in the lines.
        while let Some(line) = lines.next_within(SLOW)? {
            if let Some(message) = line.get("error").and_then(Value::as_str) {
                return Err(Error::Refused { doing, status: 500, message: message.to_owned() });
            }
            id = Some(text(&line, "/status")).filter(|status| status.starts_with("sha256:")).or(id);
        }
        id.ok_or_else(|| self.shapeless(&doing))
    }

    /// Removes an image, or one of its names; no error where it is gone.
    pub fn remove_image(&self, name: &str) -> Result<()> {
        match self.delete(&format!("removing image {name}"), Route::new(&["images", name])) {
            Err(error) if error.is_not_found() => Ok(()),
            result => result,
        }
    }

    /// All networks that have all the labels (`name` or `name=value`).
    pub fn networks(&self, labels: &[&str]) -> Result<Vec<Network>> {
        let doing = "listing networks";
        let filters: Vec<_> = labels.iter().map(|label| ("label", *label)).collect();
        let answer = self.get(doing, Route::new(&["networks"]).filtered(&filters))?;
        self.elements(doing, answer, Network::from_json)
    }

    /// One network by name or id; [`Error::is_not_found`] where there is none.
    pub fn network(&self, name: &str) -> Result<Network> {
        let doing = format!("inspecting network {name}");
        let answer = self.get(&doing, Route::new(&["networks", name]))?;
        Network::from_json(answer).ok_or_else(|| self.shapeless(&doing))
    }

    /// Makes a network from the body of a create request; gives its id.
    pub fn create_network(&self, body: &Value) -> Result<String> {
        let doing = format!("creating network {}", text(body, "/Name"));
        let answer = self.post(&doing, QUICK, Route::new(&["networks", "create"]), Some(body))?;
        Some(text(&answer, "/Id")).filter(|id| !id.is_empty()).ok_or_else(|| self.shapeless(&doing))
    }

    /// Connects a container to a network; the body is a connect request without the container.
    pub fn connect_network(&self, network: &str, container: &str, endpoint: &Value) -> Result<()> {
        let body = json!({"Container": container, "EndpointConfig": endpoint});
        let route = Route::new(&["networks", network, "connect"]);
        self.post(&format!("connecting {container} to network {network}"), QUICK, route, Some(&body))
            .map(drop)
    }

    /// Takes a container out of a network.
    pub fn disconnect_network(&self, network: &str, container: &str) -> Result<()> {
        let body = json!({"Container": container, "Force": true});
        let route = Route::new(&["networks", network, "disconnect"]);
        let doing = format!("disconnecting {container} from network {network}");
        self.post(&doing, QUICK, route, Some(&body)).map(drop)
    }

    /// Removes a network; no error where it is gone.
    pub fn remove_network(&self, name: &str) -> Result<()> {
        match self.delete(&format!("removing network {name}"), Route::new(&["networks", name])) {
            Err(error) if error.is_not_found() => Ok(()),
            result => result,
        }
    }
}
