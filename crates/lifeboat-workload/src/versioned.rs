//! Descriptions in JSON that say which version they are of.

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Reads one, unless it is of a greater version than `newest`; else says what is wrong with it.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8], newest: u32) -> Result<T, String> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let wrong = |error: serde_json::Error| format!("cannot be used: {error}");
    let Versioned { version } = serde_json::from_slice(bytes).map_err(wrong)?;
    if version > newest {
        return Err(format!("has version {version}, and this lifeboat reads {newest}: use a newer lifeboat"));
    }
    serde_json::from_slice(bytes).map_err(wrong)
}
