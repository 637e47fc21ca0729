//! Runs one command and measures its time and its peak memory.
//!
//! Peak memory is `ru_maxrss` of the processes that were waited for. A process that waits for many children only learns
//! the greatest of all, so each command gets a process of its own to be waited for by: `lifeboat-meter`, which lies
//! beside this program.
//!
//! Must stay true: whatever does not exit with 0 is a failure that carries the end of its error output; no number comes
//! of it. Of a pipeline in a shell the memory is that of its largest process.

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a command cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Metered {
    pub(crate) seconds: f64,
    pub(crate) memory_bytes: u64,
    /// Bytes of files that it made dirty.
    pub(crate) written_bytes: u64,
}

/// A command and where its streams go.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) command: Command,
    /// Standard input; nothing without it.
    pub(crate) input: Option<PathBuf>,
}

impl Call {
    pub(crate) fn new(command: Command) -> Self {
        Self { command, input: None }
    }

    /// A shell's command line, run in a folder.
    pub(crate) fn shell(folder: &Path, line: &str) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(folder);
        Self::new(command)
    }

    /// The command as a reader of the report could type it, with folders shortened by `shorten`.
    pub(crate) fn words(&self, shorten: &[(&Path, &str)]) -> String {
        let mut words: Vec<String> = vec![name_of(self.command.get_program())];
        words.extend(self.command.get_args().map(|word| word.to_string_lossy().into_owned()));
        if words.len() == 3 && words[0] == "sh" {
            words.drain(..2);
        }
        let mut line = words.join(" ");
        if let Some(input) = &self.input {
            line = format!("{line} < {}", input.display());
        }
        for (folder, name) in shorten {
            line = line.replace(&*folder.to_string_lossy(), name);
        }
        line
    }

    /// Runs it, and measures.
    pub(crate) fn run(&self) -> Result<Metered> {
        let files = tempfile::tempdir().context("cannot make a folder for a measurement")?;
        let (report, errors) = (files.path().join("report"), files.path().join("errors"));
        let own = std::env::current_exe().context("cannot find this program")?;
        let mut meter = Command::new(own.with_file_name("lifeboat-meter"));
        meter.arg(&report).arg(self.command.get_program()).args(self.command.get_args());
        if let Some(folder) = self.command.get_current_dir() {
            meter.current_dir(folder);
        }
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => meter.env(name, value),
                None => meter.env_remove(name),
            };
        }
        let input = match &self.input {
            Some(path) => File::open(path).with_context(|| format!("cannot open {}", path.display()))?.into(),
            None => Stdio::null(),
        };
        meter.stdin(input).stdout(Stdio::null()).stderr(File::create(&errors)?);
        let status = meter.status().context("cannot start the meter")?;
        let words = self.words(&[]);
        if !status.success() {
            let text = std::fs::read(&errors).unwrap_or_default();
            let text = String::from_utf8_lossy(&text[text.len().saturating_sub(600)..]).trim().to_owned();
            bail!("`{words}` ended with {status}: {text}");
        }
        let report =
            std::fs::read_to_string(&report).with_context(|| format!("`{words}` was not measured"))?;
        let mut numbers = report.split(' ');
        let mut parsed = || {
            Some(Metered {
                seconds: numbers.next()?.parse().ok()?,
                memory_bytes: numbers.next()?.parse::<u64>().ok()? << 10,
                written_bytes: numbers.next()?.parse::<u64>().ok()? << 9,
            })
        };
        parsed().with_context(|| format!("the measurement of `{words}` cannot be understood: {report}"))
    }
}

fn name_of(program: &OsStr) -> String {
    Path::new(program).file_name().unwrap_or(program).to_string_lossy().into_owned()
}
