//! The machine that was measured.

use serde::{Deserialize, Serialize};
use std::path::Path;
use std::process::Command;

/// What a reader needs to know to compare.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) kernel: String,
    /// Of the folder that everything is measured in.
    pub(crate) file_system: String,
}

impl Machine {
    /// This machine, working in `folder`.
    pub(crate) fn here(folder: &Path) -> Self {
        let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kibibytes =
            field(&memory, "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        let mut find = Command::new("findmnt");
        find.args(["--noheadings", "--output", "FSTYPE,SOURCE,OPTIONS", "--target"]).arg(folder);
        Self {
            processor: field(&processors, "model name").unwrap_or("unknown").to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: kibibytes.unwrap_or(0) << 10,
            kernel: output(Command::new("uname").arg("-sr")),
            file_system: output(&mut find).split_whitespace().collect::<Vec<_>>().join(" "),
        }
    }
}

fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim())
}

/// What a command prints, or nothing: a machine without `findmnt` is measured all the same.
pub(crate) fn output(command: &mut Command) -> String {
    command
        .output()
        .ok()
        .filter(|output| output.status.success())
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default()
}
