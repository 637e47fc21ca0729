//! The way through the rooms: which crate may import which.
//!
//! Must stay true: imports point down only. The table is the one in `docs/architecture.md`; a new edge is a decision,
//! made by changing the table here and there in the same commit.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// A crate and what it may use directly.
const ALLOWED: &[(&str, &[&str])] = &[
    ("lifeboat-format", &[]),
    ("lifeboat-chunker", &["lifeboat-format"]),
    ("lifeboat-gzip", &[]),
    ("lifeboat-index", &["lifeboat-format"]),
    ("lifeboat-store", &["lifeboat-format"]),
    ("lifeboat-repo", &["lifeboat-format", "lifeboat-chunker", "lifeboat-index", "lifeboat-store"]),
    ("lifeboat-transfer", &["lifeboat-format", "lifeboat-repo", "lifeboat-chunker"]),
    ("lifeboat-workload", &["lifeboat-format", "lifeboat-gzip", "lifeboat-repo", "lifeboat-transfer"]),
    (
        "lifeboat",
        &["lifeboat-format", "lifeboat-repo", "lifeboat-transfer", "lifeboat-workload", "lifeboat-store"],
    ),
    ("lifeboat-cli", &["lifeboat"]),
    ("xtask", &[]),
];

/// These stand outside and may look at everything.
const OUTSIDE: &[&str] = &["lifeboat-tests", "lifeboat-benches"];

/// One crate that names another in its manifest.
#[derive(Debug)]
struct Edge {
    from: String,
    to: String,
    kind: EdgeKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EdgeKind {
    /// Shipped.
    Normal,
    /// For the crate's own tests and examples.
    Dev,
}

fn metadata() -> Value {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline", "--manifest-path", manifest])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The crates of the workspace, and the edges between them.
fn workspace(metadata: &Value) -> (BTreeSet<String>, Vec<Edge>) {
    let packages = metadata["packages"].as_array().unwrap();
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    let members: BTreeSet<String> = packages.iter().map(name).collect();
    let mut edges = Vec::new();
    for package in packages {
        for dependency in package["dependencies"].as_array().unwrap() {
            let kind =
                if dependency["kind"].as_str() == Some("dev") { EdgeKind::Dev } else { EdgeKind::Normal };
            if members.contains(&name(dependency)) {
                edges.push(Edge { from: name(package), to: name(dependency), kind });
            }
        }
    }
    (members, edges)
}

/// Everything that lies below a crate, directly or not.
fn below(from: &str) -> BTreeSet<&'static str> {
    let table: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    let mut found = BTreeSet::new();
    let mut waiting: Vec<&str> = table.get(from).into_iter().copied().flatten().copied().collect();
    while let Some(name) = waiting.pop() {
        if found.insert(name) {
            waiting.extend(table.get(name).into_iter().copied().flatten());
        }
    }
    // The set is rebuilt with the table's own names, which live as long as the program.
    ALLOWED.iter().map(|(name, _)| *name).filter(|name| found.contains(name)).collect()
}

/// Edges that the table does not allow, in words.
fn violations(edges: &[Edge]) -> Vec<String> {
    let table: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    edges
        .iter()
        .filter(|edge| !OUTSIDE.contains(&edge.from.as_str()))
        .filter(|edge| match edge.kind {
            EdgeKind::Normal => {
                !table.get(edge.from.as_str()).is_some_and(|allowed| allowed.contains(&edge.to.as_str()))
            }
            EdgeKind::Dev => !below(&edge.from).contains(edge.to.as_str()),
        })
        .map(|edge| format!("{} must not use {} ({:?})", edge.from, edge.to, edge.kind))
        .collect()
}

fn edge(from: &str, to: &str, kind: EdgeKind) -> Edge {
    Edge { from: from.into(), to: to.into(), kind }
}

#[test]
fn crates_import_only_what_lies_below_them() {
    let (members, edges) = workspace(&metadata());
    assert_eq!(violations(&edges), [""; 0]);
    // A crate that is in neither list would be judged by nobody.
    let known: BTreeSet<&str> =
        ALLOWED.iter().map(|(name, _)| *name).chain(OUTSIDE.iter().copied()).collect();
    let unknown: Vec<&String> = members.iter().filter(|name| !known.contains(name.as_str())).collect();
    assert!(unknown.is_empty(), "{unknown:?} are not in the table of allowed imports");
    // Without edges the first assertion would hold for nothing.
    assert!(edges.iter().any(|edge| edge.from == "lifeboat-repo" && edge.to == "lifeboat-store"));
}

#[test]
fn an_import_that_points_up_or_sideways_is_noticed() {
    use EdgeKind::{Dev, Normal};
    for (from, to, kind) in [
        ("lifeboat-format", "lifeboat-store", Normal),
        ("lifeboat-index", "lifeboat-store", Normal),
        ("lifeboat-cli", "lifeboat-repo", Normal),
        ("lifeboat-store", "lifeboat-tests", Dev),
        ("lifeboat-repo", "lifeboat-transfer", Dev),
        ("newcomer", "lifeboat-format", Normal),
    ] {
        assert_eq!(violations(&[edge(from, to, kind)]).len(), 1, "{from} -> {to}");
    }
    for (from, to, kind) in [
        ("lifeboat-repo", "lifeboat-store", Normal),
        ("lifeboat-cli", "lifeboat-format", Dev),
        ("lifeboat-tests", "lifeboat-cli", Dev),
    ] {
        assert!(violations(&[edge(from, to, kind)]).is_empty(), "{from} -> {to}");
    }
}

#[test]
fn xtask_has_no_dependency_at_all() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let xtask = packages.iter().find(|package| package["name"] == "xtask").unwrap();
    assert_eq!(xtask["dependencies"].as_array().unwrap().len(), 0);
}
