//! Engines on whose disk files have other owners than in their containers: `--userns-remap`, and without root.
//!
//! Both take a range of user ids that `/etc/subuid` gives to somebody. Nobody is added to the machine for that: the engine
//! gets a mount namespace in which `/etc/passwd` and its fellows are copies with one more line.
//!
//! Must stay true: the machine's own files are not changed, and no mount of these engines is seen outside of them. The
//! containerd is the engine's child, so that both are in that namespace.

use super::engine::{Engine, quoted};
use super::flavour::Flavour;
use super::programs::Programs;
use crate::failure::{Result, While};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The user and group that the engines belong to, or whose range they use. There is none of that number on the machine.
const OWNER: u32 = 48_204;
const NAME: &str = "lifeboat-engine";
/// The first id of the range, beyond what distributions give to people.
const FIRST_ID: u32 = 1_000_000_000;
/// Of these it has its own copy.
const FILES: [&str; 4] = ["passwd", "group", "subuid", "subgid"];
/// What is started in the mount namespace, beside the engine's socket.
const SCRIPT: &str = "shifted.sh";

/// What such an engine is told besides.
pub(super) fn options(flavour: Flavour) -> &'static [&'static str] {
    match flavour {
        Flavour::Remapped => &["--userns-remap", NAME, "--feature", "containerd-snapshotter=false"],
        Flavour::Rootless => &["--rootless", "--feature", "containerd-snapshotter=false"],
        Flavour::System | Flavour::Graph | Flavour::Containerd => &[],
    }
}

/// Where the engine sees its programs: who is not root does not get at a cache below root's home.
pub(super) fn programs(run: &Path) -> PathBuf {
    run.join("programs").join("lifeboat-bin")
}

/// Writes the copies and gives the engine's folders to whom they belong.
pub(super) fn prepare(engine: &Engine) -> Result<()> {
    let etc = engine.run.join("etc");
    for folder in [&etc, &engine.run.join("programs")] {
        std::fs::create_dir_all(folder).while_doing("make a folder for the engine")?;
    }
    for file in FILES {
        let mut text = match file {
            "passwd" | "group" => std::fs::read_to_string(Path::new("/etc").join(file)),
            _ => Ok(String::new()),
        }
        .while_doing(format_args!("read /etc/{file}"))?;
        text.push_str(&match file {
            "passwd" => format!("{NAME}:x:{OWNER}:{OWNER}::/nonexistent:/bin/sh\n"),
            "group" => format!("{NAME}:x:{OWNER}:\n"),
            _ => format!("{NAME}:{FIRST_ID}:65536\n"),
        });
        std::fs::write(etc.join(file), text).while_doing(format_args!("write a copy of {file}"))?;
    }
    std::fs::write(engine.run.join(SCRIPT), include_str!("shifted.sh")).while_doing("write a script")?;
    if engine.flavour == Flavour::Rootless {
        let mut give = Command::new("chown");
        let status = give.arg(format!("{OWNER}:{OWNER}")).args([&engine.run, &engine.data]).status();
        status.while_doing("start `chown`")?;
    }
    Ok(())
}

/// The end of the engine's script.
pub(super) fn start(run: &Path, flavour: Flavour, programs: &Programs, dockerd: &str) -> String {
    let unpacked = programs.first.as_deref().and_then(Path::parent).unwrap_or(Path::new("/"));
    let user = if flavour == Flavour::Rootless { OWNER.to_string() } else { "root".to_owned() };
    format!(
        "exec setsid nsenter --net=\"$space\" unshare --mount --propagation private bash {script} {run} {unpacked} {user} \\\n\
         \x20 {dockerd}",
        script = quoted(&run.join(SCRIPT)),
        run = quoted(run),
        unpacked = quoted(unpacked),
    )
}
