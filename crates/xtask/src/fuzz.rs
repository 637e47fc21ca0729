//! Runs the fuzz targets of `fuzz/`.
//!
//! Not part of `cargo xtask test`: it needs a nightly toolchain. There every target's body runs as an ordinary test
//! over the same seeds instead (`tests/decoders.rs`), so that a target never rots.

use crate::failure::{Failure, Result, While};
use crate::place::Place;
use crate::{step, tools};
use std::path::Path;
use std::process::{Command, Stdio};

/// How long each target runs unless somebody says otherwise: long enough to notice a decoder that broke.
pub(crate) const SECONDS_DEFAULT: u32 = 15;

/// `cargo xtask fuzz`.
pub(crate) fn run(place: &Place, seconds: u32, only: Option<&str>) -> Result<()> {
    let nightly = Command::new("cargo")
        .args(["+nightly", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !nightly {
        return Err(Failure::new(
            "fuzzing needs a nightly toolchain\nHint:\n    rustup toolchain install nightly",
        ));
    }
    let program = tools::FUZZ.ensure(place)?;
    let targets = targets(place)?;
    let chosen: Vec<&String> = targets.iter().filter(|name| only.is_none_or(|only| *name == only)).collect();
    if chosen.is_empty() {
        return Err(Failure::new(format!("the fuzz targets are {}", targets.join(", "))));
    }
    step::run(
        "seeds",
        &mut place.cargo("run --quiet --release --manifest-path fuzz/Cargo.toml --example seeds"),
    )?;
    for target in chosen {
        step::run(&format!("fuzz {target}"), &mut fuzz(place, &program, target, seconds))?;
    }
    Ok(())
}

fn fuzz(place: &Place, program: &Path, target: &str, seconds: u32) -> Command {
    // cargo-fuzz starts `cargo` by name for the instrumented build: this decides which one that is.
    let mut command = place.command(program);
    command.env_remove("CARGO_TARGET_DIR").env("RUSTUP_TOOLCHAIN", "nightly").env_remove("CARGO");
    command.args(["run", "--fuzz-dir", "fuzz", "--target-dir"]);
    command.arg(place.cache.join("fuzz-target")).arg(target).arg("--");
    command.args([format!("-max_total_time={seconds}"), "-print_final_stats=1".into(), "-timeout=10".into()]);
    command
}

fn targets(place: &Place) -> Result<Vec<String>> {
    let folder = place.root.join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).while_doing(format_args!("read {}", folder.display()))? {
        let path = entry.while_doing("read the fuzz targets")?.path();
        if let (Some(stem), Some("rs")) = (path.file_stem(), path.extension().and_then(|ext| ext.to_str())) {
            names.push(stem.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}
