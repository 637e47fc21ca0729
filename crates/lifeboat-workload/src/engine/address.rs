//! Where an engine is: `unix://`, `tcp://` in the clear, or `tcp://` with TLS.
//!
//! Must stay true: the same variables mean the same as for the `docker` command (`DOCKER_HOST`, `DOCKER_TLS_VERIFY`,
//! `DOCKER_CERT_PATH`), and what lifeboat cannot do (ssh, contexts) is refused by name and never taken for something else.

use super::error::{Error, Result};
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// Where the engine listens when nothing else is said.
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// Where an engine is and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A socket on this machine's file system; the engine may still be elsewhere, behind a forwarded socket.
    Unix(PathBuf),
    /// A TCP port in the clear.
    Tcp {
        /// Host and port.
        authority: String,
    },
    /// A TCP port with TLS; both sides show a certificate.
    Tls {
        /// Host and port.
        authority: String,
        /// The folder of `ca.pem`, `cert.pem` and `key.pem`.
        certificates: PathBuf,
    },
}

impl Address {
    /// The address that `host` names, or the environment, or the default; the first that is there.
    pub fn choose(host: Option<&str>, environment: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let filled = |name: &str| environment(name).filter(|value| !value.is_empty());
        let text = |name: &str| filled(name).map(|value| value.to_string_lossy().into_owned());
        let certificates = || {
            filled("DOCKER_CERT_PATH")
                .map(PathBuf::from)
                .or_else(|| filled("HOME").map(|home| PathBuf::from(home).join(".docker")))
        };
        let tls = filled("DOCKER_TLS_VERIFY").is_some();
        let host = host.map(str::to_owned).or_else(|| text("DOCKER_HOST"));
        let Some(host) = host else { return Ok(Self::Unix(DEFAULT_SOCKET.into())) };
        Self::parse(&host, tls.then(certificates))
    }

    /// `certificates` is `None` without TLS, and `Some(None)` where TLS is wanted and no folder is known.
    fn parse(host: &str, certificates: Option<Option<PathBuf>>) -> Result<Self> {
        let wrong = |detail: &str| Error::Address { address: host.to_owned(), detail: detail.to_owned() };
        let Some((scheme, rest)) = host.split_once("://") else {
            return match host.starts_with('/') {
                true => Ok(Self::Unix(host.into())),
                false => Err(wrong("it has to begin with unix:// or tcp://")),
            };
        };
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Self::Unix(rest.into())),
            "unix" => Err(wrong("the socket's path has to be absolute")),
            "tcp" | "http" | "https" => {
                let tls = certificates.is_some() || scheme == "https";
                let authority = authority(rest, if tls { 2376 } else { 2375 }).map_err(wrong)?;
                match (tls, certificates.flatten()) {
                    (false, _) => Ok(Self::Tcp { authority }),
                    (true, Some(certificates)) => Ok(Self::Tls { authority, certificates }),
                    (true, None) => Err(wrong("TLS needs DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH")),
                }
            }
            "ssh" => Err(wrong(
                "ssh is not supported; forward the socket with `ssh -nNT -L /tmp/engine.sock:/var/run/docker.sock HOST`",
            )),
            "npipe" | "fd" => Err(wrong("only unix sockets and TCP are supported")),
            _ => Err(wrong("it has to begin with unix:// or tcp://")),
        }
    }
}

/// Host and port; a port is put where none is said, as the `docker` command does.
fn authority(rest: &str, port: u16) -> Result<String, &'static str> {
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let bad = |byte: u8| !(byte.is_ascii_alphanumeric() || b".-_:[]%".contains(&byte));
    if rest.is_empty() || rest.bytes().any(bad) {
        return Err("after the scheme it has to be HOST:PORT and nothing else");
    }
    let after_host = rest.rsplit_once(']').map_or(rest, |(_, after)| after);
    match after_host.rsplit_once(':') {
        None => Ok(format!("{rest}:{port}")),
        Some((_, digits)) if digits.parse::<u16>().is_ok() => Ok(rest.to_owned()),
        Some(_) => Err("the port is not a number"),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(formatter, "unix://{}", path.display()),
            Self::Tcp { authority } | Self::Tls { authority, .. } => write!(formatter, "tcp://{authority}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(host: Option<&str>, variables: &[(&str, &str)]) -> Result<Address> {
        Address::choose(host, |name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn the_option_wins_over_the_variable_and_the_variable_over_the_default() {
        let variable = [("DOCKER_HOST", "unix:///run/b.sock")];
        assert_eq!(
            choose(Some("unix:///run/a.sock"), &variable).unwrap(),
            Address::Unix("/run/a.sock".into())
        );
        assert_eq!(choose(None, &variable).unwrap(), Address::Unix("/run/b.sock".into()));
        assert_eq!(choose(None, &[("DOCKER_HOST", "")]).unwrap(), Address::Unix(DEFAULT_SOCKET.into()));
    }

    #[test]
    fn tcp_uses_tls_exactly_when_the_environment_asks_for_it() {
        assert_eq!(
            choose(Some("tcp://10.0.0.1"), &[]).unwrap(),
            Address::Tcp { authority: "10.0.0.1:2375".into() }
        );
        let verify = [("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", "/certificates")];
        let expected = Address::Tls { authority: "[::1]:2376".into(), certificates: "/certificates".into() };
        assert_eq!(choose(Some("tcp://[::1]"), &verify).unwrap(), expected);
        let home = [("DOCKER_TLS_VERIFY", "1"), ("HOME", "/root")];
        let expected = Address::Tls { authority: "host:1".into(), certificates: "/root/.docker".into() };
        assert_eq!(choose(Some("tcp://host:1"), &home).unwrap(), expected);
    }

    #[test]
    fn what_cannot_be_reached_is_refused_by_name() {
        for (host, word) in [
            ("ssh://host", "ssh is not supported"),
            ("npipe:////./pipe/docker", "only unix sockets"),
            ("unix://relative", "absolute"),
            ("tcp://", "HOST:PORT"),
            ("tcp://user@host", "HOST:PORT"),
            ("tcp://host:port", "not a number"),
            ("https://host", "DOCKER_CERT_PATH"),
            ("engine", "unix:// or tcp://"),
            ("gopher://host", "unix:// or tcp://"),
        ] {
            let error = choose(Some(host), &[]).unwrap_err();
            assert!(error.to_string().contains(word), "{host}: {error}");
            assert!(error.to_string().contains(host), "{host}: {error}");
        }
    }
}
