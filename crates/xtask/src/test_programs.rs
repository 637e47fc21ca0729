//! The compiled tests, run in two lanes: those that need engines mostly wait for them, the others mostly calculate.
//!
//! Must stay true: each program runs as cargo runs it: in its package's folder, with its package's variables. The first that
//! fails ends its lane, and the other one after the program that it is at.

use crate::failure::{Failure, Result, While};
use crate::place::Place;
use crate::step::{pasteable, seconds};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// The packages, and the one program of another package, whose tests need engines.
const WITH_ENGINES: &[&str] = &["lifeboat-workload", "docker"];

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Program {
    executable: PathBuf,
    /// Its package's folder.
    folder: PathBuf,
    /// `docker` of `…/deps/docker-0123456789abcdef`.
    name: String,
}

/// Which of the two lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Engines,
    Others,
}

impl Program {
    /// Reads a line of cargo's `--message-format=json`; nothing where it is not about a test program.
    fn read(line: &str) -> Option<Self> {
        let executable = PathBuf::from(text(line, "executable")?);
        let folder = Path::new(&text(line, "manifest_path")?).parent()?.to_owned();
        let stem = executable.file_name()?.to_string_lossy().into_owned();
        let name = stem.rsplit_once('-').map_or(stem.as_str(), |(name, _)| name).to_owned();
        // A program that is shipped says in its target that it has tests, and in its profile that it is not one.
        let (_, profile) = line.split_once(r#""profile":{"#)?;
        let (profile, _) = profile.split_once('}')?;
        profile.contains(r#""test":true"#).then_some(Self { executable, folder, name })
    }

    fn lane(&self) -> Lane {
        let package = self.folder.file_name().unwrap_or_default().to_string_lossy();
        match WITH_ENGINES.contains(&&*package) || WITH_ENGINES.contains(&self.name.as_str()) {
            true => Lane::Engines,
            false => Lane::Others,
        }
    }
}

/// The value of a member that is a text without escapes: paths of builds have none, or are refused by being found nowhere.
fn text(line: &str, member: &str) -> Option<String> {
    let (_, rest) = line.split_once(&format!(r#""{member}":""#))?;
    let (value, _) = rest.split_once('"')?;
    (!value.contains('\\')).then(|| value.to_owned())
}

/// Compiles all tests of the workspace, and runs them; `look` sees each line that they print.
pub(crate) fn run(
    place: &Place,
    environment: &[(&str, String)],
    look: &mut (dyn FnMut(&str) + Send),
) -> Result<()> {
    let mut listing = place.cargo("test --release --workspace --no-run --message-format=json");
    let listed = listing.stderr(Stdio::null()).output().while_doing("ask cargo for the test programs")?;
    let listed = String::from_utf8_lossy(&listed.stdout);
    let programs: Vec<Program> = listed.lines().filter_map(Program::read).collect();
    for lane in [Lane::Engines, Lane::Others] {
        if !programs.iter().any(|program| program.lane() == lane) {
            return Err(Failure::new("cargo lists no test programs where there must be some"));
        }
    }
    let look = std::sync::Mutex::new(look);
    let stops = AtomicBool::new(false);
    let run = |lane: Lane| {
        for program in programs.iter().filter(|program| program.lane() == lane) {
            if stops.load(Ordering::Relaxed) {
                return Ok(());
            }
            let mut command = place.command(&program.executable);
            command.current_dir(&program.folder).env("CARGO_MANIFEST_DIR", &program.folder);
            command.envs(environment.iter().map(|(name, value)| (name, value)));
            let said = |line: &str| {
                let mut look = look.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                look(line);
            };
            if let Err(failure) = one(program, &mut command, lane, &said) {
                stops.store(true, Ordering::Relaxed);
                return Err(failure);
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let engines = scope.spawn(|| run(Lane::Engines));
        let others = run(Lane::Others);
        let engines = engines.join().unwrap_or_else(|_| Err(Failure::new("a lane of tests panicked")));
        others.and(engines)
    })
}

/// Runs one. The long lane's lines come as they are printed, the other's all at once, so that neither tears the other.
fn one(program: &Program, command: &mut Command, lane: Lane, look: &dyn Fn(&str)) -> Result<()> {
    let begun = Instant::now();
    let shown = program.name.as_str();
    let mut child =
        command.stdout(Stdio::piped()).spawn().while_doing(format_args!("start `{}`", pasteable(command)))?;
    let mut kept = Vec::new();
    if let Some(output) = child.stdout.take() {
        let mut reader = BufReader::new(output);
        let mut line = Vec::new();
        // Bytes, not text: a test may print whatever it likes.
        while reader.read_until(b'\n', &mut line).while_doing("read its output")? > 0 {
            look(&String::from_utf8_lossy(&line));
            kept.append(&mut line);
            if lane == Lane::Engines {
                std::io::stdout().write_all(&kept).while_doing("print its output")?;
                kept.clear();
            }
        }
    }
    let status = child.wait().while_doing("wait for it")?;
    let verdict = if status.success() { "passed" } else { "FAILED" };
    let mut text = kept;
    text.extend_from_slice(
        format!("--- {} {shown}: {verdict} after {}\n", folder_name(program), seconds(begun.elapsed()))
            .as_bytes(),
    );
    std::io::stdout().write_all(&text).while_doing("print its output")?;
    match status.success() {
        true => Ok(()),
        false => Err(Failure::new(format!(
            "the tests of {shown} failed\nHint: repeat them in {} with\n    {}",
            program.folder.display(),
            pasteable(command)
        ))),
    }
}

fn folder_name(program: &Program) -> String {
    program.folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_what_cargo_says_and_have_their_lane() {
        let line = |folder: &str, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/w/{folder}/Cargo.toml","target":{{"name":"x","test":true}},"profile":{{"opt_level":"3","test":true}},"executable":{executable},"fresh":true}}"#
            )
        };
        let found = Program::read(&line("tests", r#""/t/deps/docker-0a""#)).unwrap();
        assert_eq!((found.name.as_str(), found.lane()), ("docker", Lane::Engines));
        assert_eq!(found.folder, Path::new("/w/tests"));
        let lane = |folder: &str, executable: &str| Program::read(&line(folder, executable)).unwrap().lane();
        assert_eq!(lane("crates/lifeboat-workload", r#""/t/deps/engine-0a""#), Lane::Engines);
        assert_eq!(lane("tests", r#""/t/deps/a_day-0a""#), Lane::Others);
        assert_eq!(Program::read(&line("tests", "null")), None);
        let shipped = line("tests", r#""/t/lifeboat""#);
        let program = shipped.replace(r#""opt_level":"3","test":true"#, r#""opt_level":"3","test":false"#);
        assert_eq!(Program::read(&program), None);
        assert_eq!(Program::read("not JSON"), None);
    }
}
