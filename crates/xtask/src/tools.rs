//! Tools from crates.io that chores need and cargo does not bring.
//!
//! Must stay true: a tool that the user has is used; otherwise it is compiled once, into the cache folder, and never
//! into the user's own `~/.cargo/bin`.

use crate::failure::Result;
use crate::place::Place;
use crate::step;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A cargo subcommand from crates.io.
pub(crate) struct Tool {
    /// Package and program.
    pub(crate) name: &'static str,
    /// How long it compiles on two cores, for those who wait.
    pub(crate) takes: &'static str,
    /// What `cargo install` is told besides the name.
    pub(crate) options: &'static [&'static str],
}

/// Checks licences, sources and advisories. Its default features link other TLS roots, which `git` and `cargo` do not need.
pub(crate) const DENY: Tool =
    Tool { name: "cargo-deny", takes: "2 minutes", options: &["--no-default-features"] };
/// Runs libFuzzer targets.
pub(crate) const FUZZ: Tool = Tool { name: "cargo-fuzz", takes: "half a minute", options: &[] };

impl Tool {
    /// The program, compiled first if it is nowhere.
    pub(crate) fn ensure(&self, place: &Place) -> Result<PathBuf> {
        let own = place.cache.join("tools/bin").join(self.name);
        for candidate in [PathBuf::from(self.name), own.clone()] {
            if answers(&candidate) {
                return Ok(candidate);
            }
        }
        println!("{} is not installed; compiling it takes about {}, once", self.name, self.takes);
        // Its own compiled parts are of no use to anybody afterwards: not into the shared target folder.
        let mut install = Command::new("cargo");
        install
            .current_dir(&place.root)
            .env_remove("CARGO_TARGET_DIR")
            .args(["install", "--locked", "--quiet", "--root"])
            .arg(place.cache.join("tools"))
            .args(self.options)
            .arg(self.name);
        step::run(&format!("install {}", self.name), &mut install)?;
        Ok(own)
    }
}

fn answers(program: &PathBuf) -> bool {
    Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
