//! Networks: the request that makes one as it was, and how one that is there differs.
//!
//! Must stay true: a network that is there is used as it is, and what differs is said; subnets are as recorded, because
//! static addresses lie in them.

use crate::engine::ApiVersion;
use crate::engine::views::{list, text, words};
use serde_json::{Map, Value, json};

/// From here on a network may have no addresses of version 4.
const IPV4_CHOICE: ApiVersion = ApiVersion::new(1, 47);
/// The engine makes these itself.
const ENGINES_OWN: [&str; 3] = ["bridge", "host", "none"];

/// Whether every engine has it.
pub fn is_engines_own(name: &str) -> bool {
    ENGINES_OWN.contains(&name)
}

/// The body of the request that makes a network as it was described.
pub fn request(name: &str, described: &Value, api: ApiVersion) -> Value {
    let flag = |field: &str| described.get(field).and_then(Value::as_bool).unwrap_or_default();
    let mut body = json!({
        "Name": name,
        "CheckDuplicate": true,
        "Driver": text(described, "/Driver"),
        "Internal": flag("Internal"),
        "Attachable": flag("Attachable"),
        "Ingress": flag("Ingress"),
        "ConfigOnly": flag("ConfigOnly"),
        "Labels": words(described, "/Labels"),
    });
    let from = text(described, "/ConfigFrom/Network");
    if !from.is_empty() {
        // Everything else comes from there, and is refused here.
        body["ConfigFrom"] = json!({"Network": from});
        return body;
    }
    body["EnableIPv6"] = Value::from(flag("EnableIPv6"));
    if api >= IPV4_CHOICE && described.get("EnableIPv4").is_some_and(Value::is_boolean) {
        body["EnableIPv4"] = Value::from(flag("EnableIPv4"));
    }
    body["Options"] = json!(words(described, "/Options"));
    body["IPAM"] = json!({
        "Driver": text(described, "/IPAM/Driver"),
        "Options": words(described, "/IPAM/Options"),
        "Config": list(described, "/IPAM/Config").map(pool).collect::<Vec<Value>>(),
    });
    body
}

fn pool(described: &Value) -> Value {
    let mut pool = Map::new();
    for field in ["Subnet", "IPRange", "Gateway"] {
        let value = text(described, &format!("/{field}"));
        if !value.is_empty() {
            pool.insert(field.into(), Value::from(value));
        }
    }
    let reserved = words(described, "/AuxiliaryAddresses");
    if !reserved.is_empty() {
        pool.insert("AuxiliaryAddresses".into(), json!(reserved));
    }
    Value::Object(pool)
}

/// How a network that is there differs from the one that was described.
pub fn differences(described: &Value, there: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let drivers = (text(described, "/Driver"), text(there, "/Driver"));
    if drivers.0 != drivers.1 {
        found.push(format!("its driver is `{}`; in the snapshot it is `{}`", drivers.1, drivers.0));
    }
    let subnets = |network: &Value| {
        let mut all: Vec<String> = list(network, "/IPAM/Config").map(|pool| text(pool, "/Subnet")).collect();
        all.sort();
        all.join(", ")
    };
    let (then, now) = (subnets(described), subnets(there));
    // None were asked for: the engine chooses.
    if then != now && !then.is_empty() {
        found.push(format!("its subnets are {now}; in the snapshot they are {then}"));
    }
    for field in ["Internal", "EnableIPv6"] {
        let flag = |network: &Value| network.get(field).and_then(Value::as_bool).unwrap_or_default();
        if flag(described) != flag(there) {
            found.push(format!("its `{field}` is {}", flag(there)));
        }
    }
    for (what, pointer) in [("option", "/Options"), ("label", "/Labels")] {
        let (then, now) = (words(described, pointer), words(there, pointer));
        let names = then.keys().chain(now.keys().filter(|name| !then.contains_key(*name)));
        found.extend(
            names.filter(|name| then.get(*name) != now.get(*name)).map(|name| format!("its {what} `{name}`")),
        );
    }
    found
}
