//! How a run gets at its repository: location, secret, cache.
//!
//! Must stay true: a secret never comes from an argument, and never reaches a message.

use crate::args::{BundleKeyArgs, FromKeyArgs, Global, NewKeyArgs};
use anyhow::{Context, Result, bail};
use lifeboat::format::seal::Key;
use lifeboat::{Repository, Secret};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// A secret that was read from somewhere.
pub(crate) enum OwnedSecret {
    /// Typed, or from a file, a command or the environment.
    Passphrase(Zeroizing<Vec<u8>>),
    /// From a key file.
    KeyFile(Key),
}

impl OwnedSecret {
    /// As the library takes it.
    pub(crate) fn borrow(&self) -> Secret<'_> {
        match self {
            Self::Passphrase(passphrase) => Secret::Passphrase(passphrase),
            Self::KeyFile(key) => Secret::KeyFile(key),
        }
    }
}

/// The repository's location.
pub(crate) fn location(global: &Global) -> Result<String> {
    match (&global.repo, &global.repository_file) {
        (Some(repo), _) => Ok(repo.clone()),
        (None, Some(file)) => Ok(first_line(file)?.trim().to_owned()),
        (None, None) => bail!(crate::failure::Hinted::new(
            "no repository is named",
            "export LIFEBOAT_REPOSITORY=/path/to/repository    # or use -r",
        )),
    }
}

fn first_line(file: &Path) -> Result<Zeroizing<String>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    let text = Zeroizing::new(text);
    Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()))
}

/// The secret that opens the repository.
pub(crate) fn secret(global: &Global, is_new: bool) -> Result<OwnedSecret> {
    if let Some(file) = &global.key_file {
        return from_key_file(file, is_new);
    }
    if let Some(file) = &global.password_file {
        return passphrase(first_line(file)?);
    }
    if let Some(command) = &global.password_command {
        return passphrase(output_of(command)?);
    }
    match from_environment("LIFEBOAT_PASSWORD")? {
        Some(secret) => Ok(secret),
        None => prompt(is_new),
    }
}

fn from_environment(variable: &str) -> Result<Option<OwnedSecret>> {
    let Some(password) = std::env::var_os(variable) else { return Ok(None) };
    let password = password.into_string().ok().with_context(|| format!("{variable} is not UTF-8"))?;
    passphrase(Zeroizing::new(password)).map(Some)
}

fn from_key_file(file: &Path, is_new: bool) -> Result<OwnedSecret> {
    Ok(OwnedSecret::KeyFile(match is_new && !file.exists() {
        true => lifeboat::write_key_file(file)?,
        false => lifeboat::read_key_file(file)?,
    }))
}

/// The secret that opens a bundle.
pub(crate) fn bundle_secret(arguments: &BundleKeyArgs, is_new: bool) -> Result<OwnedSecret> {
    if let Some(file) = &arguments.bundle_key_file {
        return from_key_file(file, is_new);
    }
    if let Some(file) = &arguments.bundle_password_file {
        return passphrase(first_line(file)?);
    }
    match from_environment("LIFEBOAT_BUNDLE_PASSWORD")? {
        Some(secret) => Ok(secret),
        None => ask(
            is_new,
            "the bundle's password",
            "export LIFEBOAT_BUNDLE_PASSWORD_FILE=/path/to/file    # or LIFEBOAT_BUNDLE_PASSWORD, --bundle-key-file",
        ),
    }
}

/// Opens the repository that something is taken from.
pub(crate) fn open_from(global: &Global, from: &str, key: &FromKeyArgs) -> Result<Repository> {
    let store = lifeboat::open_store(from)?;
    let secret = match (&key.from_key_file, &key.from_password_file) {
        (Some(file), _) => from_key_file(file, false)?,
        (None, Some(file)) => passphrase(first_line(file)?)?,
        (None, None) => match from_environment("LIFEBOAT_FROM_PASSWORD")? {
            Some(secret) => secret,
            None => ask(
                false,
                "the other repository's password",
                "export LIFEBOAT_FROM_PASSWORD_FILE=/path/to/file    # or LIFEBOAT_FROM_PASSWORD, --from-key-file",
            )?,
        },
    };
    Ok(Repository::open(store, &secret.borrow())?.with_cache(cache(global)))
}

fn passphrase(text: Zeroizing<String>) -> Result<OwnedSecret> {
    if text.is_empty() {
        bail!("the password is empty");
    }
    Ok(OwnedSecret::Passphrase(Zeroizing::new(text.as_bytes().to_vec())))
}

fn output_of(command: &str) -> Result<Zeroizing<String>> {
    let output = std::process::Command::new("/bin/sh")
        .args(["-c", command])
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("the password command cannot be run")?;
    if !output.status.success() {
        bail!("the password command ended with {}", output.status);
    }
    let bytes = Zeroizing::new(output.stdout);
    let text = std::str::from_utf8(&bytes).ok().context("the password command's output is not UTF-8")?;
    Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()))
}

fn prompt(is_new: bool) -> Result<OwnedSecret> {
    let hint = "export LIFEBOAT_PASSWORD_FILE=/path/to/file    # or LIFEBOAT_PASSWORD, LIFEBOAT_PASSWORD_COMMAND, --key-file";
    ask(is_new, "password", hint)
}

fn ask(is_new: bool, what: &str, hint: &str) -> Result<OwnedSecret> {
    if !std::io::stdin().is_terminal() {
        let what = what.strip_prefix("the ").unwrap_or(what);
        bail!(crate::failure::Hinted::new(
            format!("no {what} is given, and there is no terminal to ask on"),
            hint
        ));
    }
    let ask = |text: &str| {
        rpassword::prompt_password(text).map(Zeroizing::new).context("the password cannot be read")
    };
    let mut name = what.to_owned();
    name[..1].make_ascii_uppercase();
    let first = ask(&if is_new {
        format!("New {}: ", what.strip_prefix("the ").unwrap_or(what))
    } else {
        format!("{name}: ")
    })?;
    if is_new && *first != *ask("Again: ")? {
        bail!("the two passwords differ");
    }
    passphrase(first)
}

/// A new password or key file for a slot.
pub(crate) fn new_secret(arguments: &NewKeyArgs) -> Result<OwnedSecret> {
    if let Some(file) = &arguments.new_key_file {
        let key = match file.exists() {
            true => lifeboat::read_key_file(file)?,
            false => lifeboat::write_key_file(file)?,
        };
        return Ok(OwnedSecret::KeyFile(key));
    }
    if let Some(file) = &arguments.new_password_file {
        return passphrase(first_line(file)?);
    }
    match from_environment("LIFEBOAT_NEW_PASSWORD")? {
        Some(secret) => Ok(secret),
        None => prompt(true),
    }
}

/// Where local indexes are kept.
pub(crate) fn cache(global: &Global) -> Option<PathBuf> {
    if global.no_cache {
        return None;
    }
    global.cache_dir.clone().or_else(lifeboat::cache_directory)
}

/// Opens the repository.
pub(crate) fn open(global: &Global) -> Result<Repository> {
    let location = location(global)?;
    // Before the password is asked for: somebody who mistyped the path should not type it in vain.
    let store = lifeboat::open_store(&location)?;
    let secret = secret(global, false)?;
    let repository = Repository::open(store, &secret.borrow())?;
    Ok(repository.with_cache(cache(global)).with_state(lifeboat::state_directory()))
}
