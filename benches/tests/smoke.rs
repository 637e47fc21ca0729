//! One tiny real run: the program prepares nothing, measures a row on a small tree, checks it and writes the report.

#![allow(clippy::unwrap_used, reason = "everything here is a test")]

use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Cargo builds no binaries of other packages for a test, so this does. When all is fresh it takes half a second.
fn lifeboat() -> PathBuf {
    let bench = Path::new(env!("CARGO_BIN_EXE_lifeboat-bench"));
    let profile = bench.parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--package", "lifeboat-cli"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    cargo.env("CARGO_TARGET_DIR", profile.parent().unwrap());
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success(), "the command cannot be built");
    profile.join("lifeboat")
}

fn run(scratch: &Path, lifeboat: &Path, rows: &[&str]) -> Output {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_lifeboat-bench"));
    bench.arg("run").args(rows).arg("--without-peers");
    bench.arg("--data").arg(scratch.join("data")).arg("--documents").arg(scratch.join("docs"));
    bench.arg("--lifeboat").arg(lifeboat).output().unwrap()
}

/// Two versions of a small source tree where the corpora are looked for.
fn scene() -> tempfile::TempDir {
    let scratch = tempfile::tempdir().unwrap();
    for version in ["old", "new"] {
        let folder = scratch.path().join("data/corpora/linux").join(version).join("kernel");
        std::fs::create_dir_all(&folder).unwrap();
        for number in 0..20 {
            let text = format!("/* {version} {} */\n", number / 15).repeat(500);
            std::fs::write(folder.join(format!("file{number}.c")), text).unwrap();
        }
    }
    scratch
}

fn results(scratch: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(scratch.join("docs/benchmarks/results.json")).unwrap()).unwrap()
}

#[test]
fn a_row_is_measured_checked_and_reported() {
    let scratch = scene();
    let output = run(scratch.path(), &lifeboat(), &["touched"]);
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    // A busy machine may be too noisy for milliseconds: then numbers are refused, and never the row.
    let row = &results(scratch.path())["rows"]["touched"];
    assert!(row["refused"].is_null(), "{}\n{text}", row["refused"]);
    assert!(row["rounds"].as_u64().unwrap() >= 5);
    let of = |who: &str, what: &str| {
        let all = row["series"].as_array().unwrap().iter();
        all.clone().find(|series| series["who"] == who && series["what"] == what).unwrap().clone()
    };
    assert!(of("lifeboat", "time")["summary"]["median"].as_f64().unwrap() > 0.0);
    assert!(of("lifeboat", "memory")["summary"]["median"].as_f64().unwrap() > 1e6);
    let added = of("lifeboat", "added")["summary"]["median"].as_f64().unwrap();
    assert!(added > 0.0 && added < 400_000.0, "the new texts are short, and {added} bytes were added");
    let page = std::fs::read_to_string(scratch.path().join("docs/benchmarks.md")).unwrap();
    assert!(page.contains("## touched") && page.contains("lifeboat snapshot WORK/tree"), "{page}");
}

#[test]
fn a_program_that_stores_nothing_is_refused_and_has_no_number() {
    let scratch = scene();
    // It succeeds at everything, remembers where the source was, and restores its names without a byte in them.
    let impostor = scratch.path().join("impostor");
    let script = r#"#!/bin/sh
mkdir -p "$LIFEBOAT_REPOSITORY"
case $1 in
snapshot) echo "$2" > "$LIFEBOAT_REPOSITORY/source" ;;
restore) read -r source < "$LIFEBOAT_REPOSITORY/source"
  mkdir -p "$4$source" && cp -a "$source/." "$4$source" && find "$4$source" -type f -exec truncate -s 0 {} + ;;
esac
"#;
    std::fs::write(&impostor, script).unwrap();
    std::fs::set_permissions(&impostor, std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = run(scratch.path(), &impostor, &["restore"]);
    assert_eq!(output.status.code(), Some(3));
    let results = results(scratch.path());
    let refused = results["rows"]["restore"]["refused"].as_str().unwrap();
    assert!(refused.contains("lifeboat: the restored tree differs"), "{refused}");
    let page = std::fs::read_to_string(scratch.path().join("docs/benchmarks.md")).unwrap();
    assert!(page.contains("**Refused**: lifeboat: the restored tree differs"), "{page}");
}
