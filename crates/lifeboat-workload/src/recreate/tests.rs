//! What is asked of an engine, and what odd descriptions do.

use super::plan::{Snapshot, label_digest};
use super::recorded::{DESCRIPTION_BYTES_MAX, Files, Mounted, Recorded};
use super::request::{NetworkMode, Request, request};
use super::{Error, network};
use crate::engine::ApiVersion;
use crate::project::{CONFIG_HASH, digests::digest};
use serde_json::{Value, json};

const OLD: ApiVersion = ApiVersion::new(1, 41);
const NEW: ApiVersion = ApiVersion::new(1, 51);

fn id() -> String {
    "0123456789abcdef".repeat(4)
}

/// A running container of which only this is known.
fn described(change: impl FnOnce(&mut Value)) -> Value {
    let mut value = json!({
        "Id": id(), "Name": "/api", "Image": format!("sha256:{}", id()),
        "Config": {"Image": "api:1", "Hostname": "0123456789ab", "Env": ["A=secret"]},
        "HostConfig": {"NetworkMode": "one", "ContainerIDFile": "/x", "Unknown": {"kept": 1}},
        "NetworkSettings": {"Networks": {
            "one": {"IPAMConfig": {"IPv4Address": "10.0.0.2"}, "Aliases": ["a", "0123456789ab"], "NetworkID": "n1"},
            "two": {"IPAMConfig": null, "Aliases": null, "MacAddress": "02:42:00:00:00:01", "GwPriority": 7},
        }},
    });
    change(&mut value);
    value
}

fn recorded(change: impl FnOnce(&mut Value)) -> Recorded {
    let container = described(change).to_string().into_bytes();
    Recorded::read(&Files { container, ..Files::default() }).unwrap()
}

fn asked(recorded: &Recorded, api: ApiVersion) -> Request {
    let others = |other: &str| (other == "known").then(|| "new-id".to_owned());
    request(recorded, "api:1", api, &others).unwrap()
}

#[test]
fn what_the_engine_added_itself_is_taken_off_and_what_is_not_known_is_kept() {
    let request = asked(&recorded(|_| {}), NEW);
    assert_eq!(request.body.pointer("/Hostname"), None);
    assert_eq!(request.body.pointer("/HostConfig/ContainerIDFile"), None);
    assert_eq!(request.body["HostConfig"]["Unknown"]["kept"], 1);
    assert_eq!(request.body["Env"], json!(["A=secret"]));
    assert_eq!(request.body["NetworkingConfig"]["EndpointsConfig"]["one"]["Aliases"], json!(["a"]));
    let named = asked(&recorded(|value| value["Config"]["Hostname"] = json!("own")), NEW);
    assert_eq!(named.body["Hostname"], "own");
}

#[test]
fn an_older_engine_gets_one_network_at_first_and_the_others_afterwards() {
    let recorded = recorded(|_| {});
    let new = asked(&recorded, NEW);
    let endpoints = &new.body["NetworkingConfig"]["EndpointsConfig"];
    assert_eq!(endpoints.as_object().unwrap().len(), 2);
    assert_eq!(endpoints["two"]["GwPriority"], 7);
    assert!(new.connect.is_empty() && new.disconnect.is_empty());
    let old = asked(&recorded, OLD);
    assert_eq!(old.body["NetworkingConfig"]["EndpointsConfig"].as_object().unwrap().len(), 1);
    assert_eq!(
        old.body["NetworkingConfig"]["EndpointsConfig"]["one"]["IPAMConfig"]["IPv4Address"],
        "10.0.0.2"
    );
    assert_eq!(old.connect, [("two".to_owned(), json!({}))]);
}

#[test]
fn a_network_that_was_left_is_left_again() {
    for api in [OLD, NEW] {
        let request = asked(&recorded(|value| value["HostConfig"]["NetworkMode"] = json!("left")), api);
        assert_eq!(request.disconnect, ["left"]);
    }
}

#[test]
fn a_mac_address_goes_where_the_engine_looks_for_it() {
    let recorded = recorded(|value| value["Config"]["MacAddress"] = json!("02:00:00:00:00:07"));
    let new = asked(&recorded, NEW);
    assert_eq!(new.body.pointer("/MacAddress"), None);
    let endpoints = &new.body["NetworkingConfig"]["EndpointsConfig"];
    assert_eq!(endpoints["one"]["MacAddress"], "02:00:00:00:00:07");
    // It shows the engine's own there.
    assert_eq!(endpoints["two"].get("MacAddress"), None);
    assert_eq!(asked(&recorded, OLD).body["MacAddress"], "02:00:00:00:00:07");
}

#[test]
fn other_containers_are_named_by_what_they_are_now_or_refused() {
    let with = |field: &str, value: Value| {
        let field = field.to_owned();
        recorded(move |raw| raw["HostConfig"][field.as_str()] = value)
    };
    let guest = with("NetworkMode", json!("container:known"));
    assert_eq!(guest.network_mode(), NetworkMode::Of("known".into()));
    let request = asked(&guest, NEW);
    assert_eq!(request.body["HostConfig"]["NetworkMode"], "container:new-id");
    assert_eq!(request.body.pointer("/NetworkingConfig"), None);
    assert_eq!(
        asked(&with("VolumesFrom", json!(["known:ro"])), NEW).body["HostConfig"]["VolumesFrom"],
        json!(["known:ro"])
    );
    assert_eq!(
        asked(&with("Links", json!(["/db:/api/alias"])), NEW).body["HostConfig"]["Links"],
        json!(["db:alias"])
    );
    for (field, value) in [
        ("NetworkMode", json!("container:gone")),
        ("PidMode", json!("container:gone")),
        ("VolumesFrom", json!(["gone"])),
    ] {
        let error = request_error(&with(field, value));
        assert!(matches!(error, Error::NoOther { .. }), "{error}");
    }
}

fn request_error(recorded: &Recorded) -> Error {
    request(recorded, "x", NEW, &|_| None).unwrap_err()
}

#[test]
fn what_engines_hide_is_left_to_the_engine_unless_somebody_chose_it() {
    let host = |paths: Value| {
        let recorded = recorded(move |raw| raw["HostConfig"]["MaskedPaths"] = paths);
        asked(&recorded, NEW).body["HostConfig"].get("MaskedPaths").cloned()
    };
    assert_eq!(host(json!(["/proc/kcore", "/sys/firmware"])), None);
    for chosen in [json!([]), json!(null), json!(["/proc/kcore", "/mine"])] {
        assert_eq!(host(chosen.clone()), Some(chosen));
    }
}

#[test]
fn an_entrypoint_that_was_taken_away_does_not_come_back_with_the_image() {
    let container = described(|_| {}).to_string().into_bytes();
    let image = json!({"Config": {"Entrypoint": ["/init"]}}).to_string().into_bytes();
    let recorded = Recorded::read(&Files { container, image: Some(image), ..Files::default() }).unwrap();
    assert_eq!(asked(&recorded, NEW).body["Entrypoint"], json!([""]));
}

#[test]
fn volumes_are_told_by_how_they_were_asked_for() {
    let recorded = recorded(|raw| {
        raw["Config"]["Volumes"] = json!({"/anonymous": {}, "/named": {}});
        raw["HostConfig"]["Binds"] = json!(["data:/named:ro", "/srv:/srv"]);
        raw["HostConfig"]["Mounts"] = json!([{"Type": "volume", "Target": "/nameless"}, {"Type": "volume", "Source": "more", "Target": "/more"}]);
        raw["Mounts"] = json!([
            {"Type": "volume", "Name": "aa", "Destination": "/anonymous"},
            {"Type": "volume", "Name": "data", "Destination": "/named"},
            {"Type": "volume", "Name": "bb", "Destination": "/nameless"},
            {"Type": "volume", "Name": "theirs", "Destination": "/from-another"},
            {"Type": "bind", "Source": "/srv", "Destination": "/srv"},
        ]);
    });
    let anonymous = |name: &str, destination: &str| Mounted::Anonymous {
        name: name.into(),
        destination: destination.into(),
    };
    assert_eq!(
        recorded.volumes(),
        [
            anonymous("aa", "/anonymous"),
            Mounted::Named("data".into()),
            anonymous("bb", "/nameless"),
            Mounted::Named("more".into()),
        ]
    );
}

#[test]
fn a_network_is_asked_for_as_it_was_described() {
    let described = json!({
        "Name": "shop", "Driver": "bridge", "EnableIPv4": false, "EnableIPv6": true, "Internal": true,
        "IPAM": {"Driver": "default", "Options": null, "Config": [
            {"Subnet": "10.1.0.0/24", "Gateway": "10.1.0.1", "AuxiliaryAddresses": {"router": "10.1.0.9"}},
        ]},
        "Options": {"mtu": "9000"}, "Labels": {"a": "b"}, "ConfigFrom": {"Network": ""},
    });
    let body = network::request("shop", &described, NEW);
    assert_eq!(body["IPAM"]["Config"], described["IPAM"]["Config"]);
    assert_eq!(
        (&body["EnableIPv4"], &body["Options"]["mtu"], &body["Internal"]),
        (&json!(false), &json!("9000"), &json!(true))
    );
    assert_eq!(network::request("shop", &described, OLD).get("EnableIPv4"), None);
    let template = json!({"Driver": "macvlan", "ConfigFrom": {"Network": "base"}, "IPAM": {"Config": []}});
    assert_eq!(network::request("shop", &template, NEW).get("IPAM"), None);
    assert_eq!(network::differences(&described, &described), [""; 0]);
    let other =
        json!({"Driver": "bridge", "IPAM": {"Config": [{"Subnet": "10.2.0.0/24"}]}, "Labels": {"a": "c"}});
    let said = network::differences(&described, &other).join("\n");
    for part in ["subnets are 10.2.0.0/24", "Internal", "EnableIPv6", "option `mtu`", "label `a`"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn a_value_of_the_environment_is_in_no_message() {
    let recorded = recorded(|_| {});
    assert_eq!(recorded.environment(), ["A"]);
    let broken = br#"{"Config": {"Env": ["TOKEN=s3cret"], oops"#.to_vec();
    let error = Recorded::read(&Files { container: broken, ..Files::default() }).unwrap_err();
    assert!(!error.to_string().contains("s3cret"), "{error}");
}

#[test]
fn a_description_of_another_shape_is_an_error_and_no_panic() {
    let read =
        |container: &[u8]| Recorded::read(&Files { container: container.to_vec(), ..Files::default() });
    for bytes in [&b""[..], b"{", b"[]", b"null", b"\"x\"", b"{}", b"\xff\xfe"] {
        assert!(matches!(read(bytes), Err(Error::Record { .. })), "{bytes:?}");
    }
    assert!(matches!(read(&vec![b' '; DESCRIPTION_BYTES_MAX as usize + 1]), Err(Error::Record { .. })));
    assert!(read(format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000)).as_bytes()).is_err());
    // Each part in turn is something else: what is made of it is an error or a request, and nothing panics.
    let whole = described(|raw| {
        raw["Mounts"] = json!([{"Type": "volume", "Name": "v", "Destination": "/v"}]);
        raw["HostConfig"]["Binds"] = json!(["v:/v"]);
        raw["HostConfig"]["Links"] = json!(["/a:/b/c"]);
        raw["HostConfig"]["VolumesFrom"] = json!(["known"]);
    });
    let mut pointers = Vec::new();
    collect("", &whole, &mut pointers);
    assert!(pointers.len() > 20);
    for pointer in pointers {
        for odd in
            [json!(null), json!(7), json!("\u{0}/../x:"), json!([]), json!([null, {}]), json!({"": []})]
        {
            let mut value = whole.clone();
            *value.pointer_mut(&pointer).unwrap() = odd;
            let Ok(recorded) = read(value.to_string().as_bytes()) else { continue };
            for api in [OLD, NEW] {
                let _ = request(&recorded, "x", api, &|_| Some("y".into()));
            }
            let _ = (recorded.volumes(), recorded.powers(), recorded.environment(), recorded.labels());
        }
    }
}

fn collect(at: &str, value: &Value, found: &mut Vec<String>) {
    if !at.is_empty() {
        found.push(at.to_owned());
    }
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(name, value)| collect(&format!("{at}/{name}"), value, found))
        }
        Value::Array(list) => {
            list.iter()
                .enumerate()
                .for_each(|(place, value)| collect(&format!("{at}/{place}"), value, found));
        }
        _ => {}
    }
}

#[test]
fn a_layer_of_a_later_version_is_not_restored() {
    let read = |layer: Value| {
        let files = Files {
            container: described(|_| {}).to_string().into_bytes(),
            layer: Some(layer.to_string().into_bytes()),
            ..Files::default()
        };
        Recorded::read(&files)
    };
    assert!(matches!(read(json!({"version": 2, "way": "direct"})), Err(Error::NewerLayer(2))));
    assert_eq!(read(json!({"version": 1, "way": "engine"})).unwrap().layer_way.as_deref(), Some("engine"));
    assert_eq!(read(json!({"version": 1, "way": "none"})).unwrap().layer_way, None);
}

#[test]
fn composes_digest_follows_the_id_of_whom_it_shares_with_where_both_are_known() {
    let (then, now) = ("a1".repeat(32), "b2".repeat(32));
    let text = |id: &str| format!(r#"{{"image":"x","network_mode":"container:{id}"}}"#);
    let labelled = |label: String| {
        recorded(|value| {
            value["HostConfig"]["NetworkMode"] = json!(format!("container:{then}"));
            value["Config"]["Labels"] = json!({CONFIG_HASH: label});
        })
    };
    let after = |recorded: &Recorded, is_known: bool, is_there: bool| {
        let others = |id: &str| (is_there && id == then).then(|| now.clone());
        let mut request = request(recorded, "x", NEW, &|_| Some(now.clone())).unwrap();
        let mut snapshot = Snapshot::default();
        snapshot.digested.extend(is_known.then(|| (id(), text(&then))));
        label_digest(recorded, &snapshot, &others, &mut request);
        request.body["Labels"][CONFIG_HASH].as_str().unwrap().to_owned()
    };
    let proven = labelled(digest(&text(&then)));
    assert_eq!(after(&proven, true, true), digest(&text(&now)));
    assert_eq!(after(&proven, true, false), digest(&text(&then)));
    assert_eq!(after(&proven, false, true), digest(&text(&then)));
    assert_eq!(after(&labelled("another".into()), true, true), "another");
}
