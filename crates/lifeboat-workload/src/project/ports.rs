//! Ports of the host: those that containers want, and who has them.

use crate::engine::views::text;
use crate::engine::{Engine, Error};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};

/// A port of the host, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// The address, or all.
    pub address: Option<IpAddr>,
    /// Its number.
    pub number: u16,
}

impl std::fmt::Display for Port {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.address {
            Some(address) => write!(formatter, "{address}:{}/{}", self.number, self.protocol),
            None => write!(formatter, "{}/{}", self.number, self.protocol),
        }
    }
}

/// The ports that a container asked for by number.
pub fn wanted(container: &Value) -> Vec<Port> {
    let all = container.pointer("/HostConfig/PortBindings").and_then(Value::as_object);
    let mut found = Vec::new();
    for (inner, bindings) in all.into_iter().flatten() {
        let protocol = inner.split('/').nth(1).unwrap_or("tcp").to_owned();
        for binding in bindings.as_array().into_iter().flatten() {
            let Ok(number) = text(binding, "/HostPort").parse::<u16>() else { continue };
            let address =
                text(binding, "/HostIp").parse().ok().filter(|address: &IpAddr| !address.is_unspecified());
            if number > 0 {
                found.push(Port { protocol: protocol.clone(), address, number });
            }
        }
    }
    found
}

/// The ports of a container that are published, without those of the host.
pub fn inner(container: &Value) -> Vec<String> {
    let all = container.pointer("/HostConfig/PortBindings").and_then(Value::as_object);
    all.into_iter()
        .flatten()
        .filter(|(_, bindings)| bindings.is_array())
        .map(|(inner, _)| inner.clone())
        .collect()
}

/// Ports that running containers have, and whose they are.
pub fn taken(engine: &Engine) -> Result<BTreeMap<(String, u16), String>, Error> {
    let mut found = BTreeMap::new();
    for summary in engine.containers(&[])? {
        for port in summary.raw.get("Ports").and_then(Value::as_array).into_iter().flatten() {
            let number =
                port.get("PublicPort").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
            if let Some(number) = number {
                found.insert((text(port, "/Type"), number), summary.name.clone());
            }
        }
    }
    Ok(found)
}

/// Whether an engine's ports are those that this process sees: the same network, on this machine.
pub fn are_ours(engine: &Engine) -> bool {
    let namespace = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net")).ok();
    let theirs = engine.listener().and_then(|process| namespace(&process.to_string()));
    theirs.is_some_and(|theirs| namespace("self") == Some(theirs))
}

/// Whether a process of this machine listens there. It is tried, and let go at once.
pub fn is_busy(port: &Port) -> bool {
    let address = (port.address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), port.number);
    let tried = match port.protocol.as_str() {
        "tcp" => TcpListener::bind(address).map(drop),
        "udp" => UdpSocket::bind(address).map(drop),
        _ => return false,
    };
    tried.is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_ports_that_were_asked_for_by_number_are_wanted() {
        let container = json!({"HostConfig": {"PortBindings": {
            "80/tcp": [{"HostIp": "", "HostPort": "8080"}, {"HostIp": "127.0.0.1", "HostPort": "81"}],
            "53/udp": [{"HostIp": "0.0.0.0", "HostPort": "53"}],
            "99/tcp": [{"HostIp": "", "HostPort": ""}], "98/tcp": null,
        }}});
        let shown: Vec<String> = wanted(&container).iter().map(Port::to_string).collect();
        assert_eq!(shown, ["53/udp", "8080/tcp", "127.0.0.1:81/tcp"]);
    }

    #[test]
    fn a_port_on_which_somebody_listens_is_busy() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = listener.local_addr().unwrap().port();
        let port = Port { protocol: "tcp".into(), address: Some("127.0.0.1".parse().unwrap()), number };
        assert!(is_busy(&port));
        drop(listener);
        assert!(!is_busy(&port));
    }
}
