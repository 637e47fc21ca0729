//! Whether compose would change something: what a restore can be measured by.
//!
//! Must stay true: compose is only asked what it would do; where it cannot be asked, that is what is recorded.

use super::description::Description;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Compose waits for nobody when it only says what it would do.
const LIMIT: Duration = Duration::from_secs(60);
/// Most of what it says that is listened to.
const SAID_BYTES_MAX: u64 = 16 << 20;

/// What compose would change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// Whether compose could be asked.
    pub known: bool,
    /// What it would change; nothing where everything is as its files say.
    pub changes: Vec<String>,
    /// Why it could not be asked.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

impl Drift {
    /// Asks compose, on the engine at `host`; `program` are the words that start it.
    pub fn ask(description: &Description, host: &str, program: &[OsString]) -> Self {
        let unknown = |why: String| Self { why, ..Self::default() };
        let command = match compose(description, host, program, &["up", "--detach", "--dry-run"]) {
            Ok(command) => command,
            Err(why) => return unknown(why.into()),
        };
        match run(command) {
            Ok(Said { is_well: true, errors, .. }) => {
                Self { known: true, changes: changes(&errors), why: String::new() }
            }
            Ok(_) => unknown(refusal(description, program)),
            Err(error) => unknown(format!("compose cannot be asked: {error}")),
        }
    }
}

/// Why compose did not answer what it would do; what it says itself may quote its files.
fn refusal(description: &Description, program: &[OsString]) -> String {
    let words: Vec<_> = program.iter().map(|word| word.to_string_lossy()).collect();
    let words = words.join(" ");
    match answers(program) {
        true => {
            format!("`{words} up --detach --dry-run` fails in {}, and tells why there", description.folder)
        }
        false => format!("`{words} version` fails: is it installed?"),
    }
}

/// Whether it is there at all: `docker` without compose takes the first word for an unknown command.
fn answers(program: &[OsString]) -> bool {
    begin(program).is_some_and(|mut command| {
        command.arg("version");
        run(command).is_ok_and(|said| said.is_well)
    })
}

/// What compose makes of a project's files, as JSON: with the values of environments. `None` where it cannot be asked.
pub fn configuration(description: &Description, host: &str, program: &[OsString]) -> Option<String> {
    let said = run(compose(description, host, program, &["config", "--format", "json"]).ok()?).ok()?;
    said.is_well.then_some(said.output)
}

fn begin(program: &[OsString]) -> Option<Command> {
    let (program, first) = program.split_first()?;
    let mut command = Command::new(program);
    command.args(first);
    Some(command)
}

/// Compose, for a project's files; `program` are the words that start it. Or why it cannot be asked.
fn compose(
    description: &Description,
    host: &str,
    program: &[OsString],
    words: &[&str],
) -> Result<Command, &'static str> {
    let mut command = begin(program).ok_or("no program")?;
    if description.compose_files.is_empty() {
        return Err("it is not known from which files it was made");
    }
    command.env("DOCKER_HOST", host);
    command.args(["--project-name", &description.name, "--project-directory", &description.folder]);
    description.compose_files.iter().for_each(|file| _ = command.args(["--file", file]));
    description.environment_files.iter().for_each(|file| _ = command.args(["--env-file", file]));
    command.args(words);
    Ok(command)
}

/// What a program answered.
struct Said {
    is_well: bool,
    output: String,
    errors: String,
}

fn read_all(from: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut said = String::new();
        let _ = from.map(|from| from.take(SAID_BYTES_MAX).read_to_string(&mut said));
        said
    })
}

fn run(mut command: Command) -> std::io::Result<Said> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (output, errors) = (read_all(child.stdout.take()), read_all(child.stderr.take()));
    let began = Instant::now();
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if began.elapsed() > LIMIT => {
                child.kill()?;
                child.wait()?;
                return Err(std::io::ErrorKind::TimedOut.into());
            }
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    let text = |reading: std::thread::JoinHandle<String>| reading.join().unwrap_or_default();
    Ok(Said { is_well: status.success(), output: text(output), errors: text(errors) })
}

/// The lines that speak of a change.
fn changes(said: &str) -> Vec<String> {
    let steps = said.lines().filter_map(|line| line.split_once("DRY-RUN MODE -")?.1.trim().into());
    let is_change = |step: &&str| {
        let last = step.rsplit(' ').next().unwrap_or_default();
        !matches!(last, "Running" | "Waiting" | "Healthy" | "Exited" | "Exists" | "")
    };
    let words = |step: &str| step.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut found: Vec<String> = steps.filter(is_change).map(words).collect();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::{Description, Drift, changes};
    use std::ffi::OsString;

    fn why(script: &str) -> std::io::Result<String> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("compose");
        std::fs::write(&path, script)?;
        let program = ["sh".into(), path.into_os_string()];
        let description = Description {
            folder: "/srv/shop".into(),
            compose_files: vec!["/srv/shop/compose.yaml".into()],
            ..Description::default()
        };
        Ok(Drift::ask(&description, "unix:///nowhere", &program).why)
    }

    #[test]
    fn a_compose_that_is_not_there_is_told_from_one_that_fails() -> std::io::Result<()> {
        assert!(why("exit 1")?.contains(" version` fails: is it installed?"));
        let why = why("case $* in *version) exit 0;; *) echo a secret >&2; exit 15;; esac")?;
        assert!(why.contains(" up --detach --dry-run` fails in /srv/shop"), "{why}");
        assert!(!why.contains("secret"), "{why}");
        let nobody = [OsString::from("/nonexistent/docker"), "compose".into()];
        let description = Description { compose_files: vec!["x".into()], ..Description::default() };
        assert!(Drift::ask(&description, "", &nobody).why.starts_with("compose cannot be asked"));
        Ok(())
    }

    #[test]
    fn what_runs_on_is_no_change() {
        let calm = " DRY-RUN MODE -  Container shop-db-1  Running \n DRY-RUN MODE -  Container shop-db-1  Healthy \n";
        assert_eq!(changes(calm), Vec::<String>::new());
        let other =
            " DRY-RUN MODE -  Container shop-db-1  Recreate \n DRY-RUN MODE -  Volume \"x\"  Created\n";
        assert_eq!(changes(other), ["Container shop-db-1 Recreate", "Volume \"x\" Created"]);
    }
}
