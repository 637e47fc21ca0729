//! Which version of the interface is spoken with an engine.
//!
//! Must stay true: the version that is agreed on is one that both know; an engine outside our range is refused with its
//! numbers, before anything is asked of it.

use super::error::{Error, Result};
use super::views::EngineVersion;
use std::fmt;

/// A version of the engine's interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    /// 1, so far.
    pub major: u32,
    /// The part that counts.
    pub minor: u32,
}

/// A range of versions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    pub(super) least: ApiVersion,
    pub(super) newest: ApiVersion,
}

/// What this lifeboat speaks: from Engine 19.03 to what bollard's types describe.
pub(super) const OURS: Range = Range { least: ApiVersion::new(1, 40), newest: ApiVersion::new(1, 53) };

impl ApiVersion {
    /// A version by its numbers.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// Reads `1.41`.
    pub fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

/// The newest version that the engine and we both speak.
pub(super) fn agree(address: &str, engine: &EngineVersion) -> Result<ApiVersion> {
    let doing = || "asking the engine for its version".to_owned();
    let newest = ApiVersion::parse(&engine.api_newest).ok_or_else(|| Error::Protocol {
        doing: doing(),
        detail: format!("`{}` is not a version; is there an engine at {address}?", engine.api_newest),
    })?;
    // Engines before 17.03 do not say what they speak at least.
    let least = ApiVersion::parse(&engine.api_least).unwrap_or(ApiVersion::new(1, 0));
    if newest < OURS.least || least > OURS.newest {
        return Err(Error::ApiVersion {
            address: address.to_owned(),
            least: least.to_string(),
            newest: newest.to_string(),
            ours: format!("{} to {}", OURS.least, OURS.newest),
        });
    }
    if engine.os != "linux" {
        return Err(Error::Unsupported(format!(
            "the engine at {address} runs containers of `{}`; lifeboat knows Linux only",
            engine.os
        )));
    }
    Ok(newest.min(OURS.newest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(least: &str, newest: &str) -> EngineVersion {
        EngineVersion {
            api_least: least.into(),
            api_newest: newest.into(),
            os: "linux".into(),
            ..EngineVersion::default()
        }
    }

    #[test]
    fn the_newest_that_both_know_is_agreed_on() {
        assert_eq!(agree("a", &engine("1.12", "1.41")).unwrap(), ApiVersion::new(1, 41));
        assert_eq!(agree("a", &engine("1.44", "1.99")).unwrap(), OURS.newest);
        assert_eq!(agree("a", &engine("", "1.40")).unwrap(), ApiVersion::new(1, 40));
    }

    #[test]
    fn an_engine_outside_our_range_is_refused_with_its_numbers() {
        for (least, newest) in [("1.12", "1.39"), ("1.60", "1.70"), ("2.0", "2.1")] {
            let error = agree("a", &engine(least, newest)).unwrap_err();
            assert!(matches!(error, Error::ApiVersion { .. }), "{error}");
            assert!(error.to_string().contains(newest) && error.to_string().contains(least), "{error}");
        }
        assert!(matches!(agree("a", &engine("", "pong")), Err(Error::Protocol { .. })));
        let windows = EngineVersion { os: "windows".into(), ..engine("1.24", "1.44") };
        assert!(matches!(agree("a", &windows), Err(Error::Unsupported(_))));
    }
}
