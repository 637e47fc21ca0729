//! What the demonstrations ask of an engine, as a person would.

use crate::failure::{Failure, Result, While};
use std::process::{Command, Stdio};

/// The `docker` command on an engine, without the user's settings.
pub(crate) fn docker(url: &str, words: &[&str]) -> Command {
    let mut docker = Command::new("docker");
    docker.env_remove("DOCKER_CONTEXT").env_remove("DOCKER_API_VERSION").env("DOCKER_HOST", url);
    docker.args(words).stdin(Stdio::null());
    docker
}

/// Runs `docker`, and says so first.
pub(crate) fn docker_shown(url: &str, words: &[&str]) -> Result<()> {
    println!("$ docker {}", words.join(" "));
    answer(&mut docker(url, words)).map(drop)
}

/// What a program prints, and what it says besides.
pub(crate) fn answer(command: &mut Command) -> Result<(String, String)> {
    let output = command.output().while_doing("start a program")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match output.status.success() {
        true => Ok((text(&output.stdout), text(&output.stderr))),
        false => {
            let words = command.get_args().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
            let name = command.get_program().to_string_lossy().into_owned();
            Err(Failure::new(format!("`{name} {words}` failed: {}", text(&output.stderr))))
        }
    }
}
