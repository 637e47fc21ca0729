//! The programs that are measured side by side: lifeboat, restic, borg, rustic.
//!
//! Must stay true: each gets a home of its own (repository, caches, state), is encrypted, and compresses with zstd at
//! level 3 (restic's and rustic's default; borg is told). lifeboat opens with a key file where the row does not say
//! otherwise; the others know passwords only.

use crate::machine::output;
use crate::manifest::{Manifest, apparent_bytes};
use anyhow::{Context, Result, ensure};
use lifeboat::{Repository, Secret};
use lifeboat_format::Timestamp;
use lifeboat_format::config::Parameters;
use lifeboat_store::LocalStore;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

/// A password that nothing but measurements is protected by.
const PASSWORD: &str = "measured";

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Lifeboat,
    Restic,
    Borg,
    Rustic,
}

/// An installed program.
#[derive(Debug, Clone)]
pub(crate) struct Tool {
    pub(crate) kind: Kind,
    pub(crate) program: PathBuf,
}

/// Where one program keeps everything about one repository.
#[derive(Debug, Clone)]
pub(crate) struct Home(pub(crate) PathBuf);

impl Home {
    pub(crate) fn repository(&self) -> PathBuf {
        self.0.join("repository")
    }

    pub(crate) fn key_file(&self) -> PathBuf {
        self.0.join("key")
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.0.join("cache")
    }

    /// Bytes of the repository.
    pub(crate) fn stored_bytes(&self) -> Result<u64> {
        apparent_bytes(&self.repository())
    }
}

impl Tool {
    pub(crate) fn name(&self) -> &'static str {
        match self.kind {
            Kind::Lifeboat => "lifeboat",
            Kind::Restic => "restic",
            Kind::Borg => "borg",
            Kind::Rustic => "rustic",
        }
    }

    /// As the program says it.
    pub(crate) fn version(&self) -> String {
        let word = if self.kind == Kind::Restic { "version" } else { "--version" };
        output(Command::new(&self.program).arg(word)).lines().next().unwrap_or("unknown").to_owned()
    }

    /// The program, told where its home is.
    pub(crate) fn command(&self, home: &Home) -> Command {
        let mut command = Command::new(&self.program);
        command.stdin(Stdio::null());
        let repository = home.repository();
        match self.kind {
            Kind::Lifeboat => command
                .env("LIFEBOAT_REPOSITORY", repository)
                .env("LIFEBOAT_KEY_FILE", home.key_file())
                .env("LIFEBOAT_CACHE_DIR", home.cache())
                .env("XDG_STATE_HOME", home.0.join("state")),
            Kind::Restic => command
                .env("RESTIC_REPOSITORY", repository)
                .env("RESTIC_PASSWORD", PASSWORD)
                .env("RESTIC_CACHE_DIR", home.cache()),
            Kind::Borg => command
                .env("BORG_REPO", repository)
                .env("BORG_PASSPHRASE", PASSWORD)
                .env("BORG_BASE_DIR", home.cache())
                .env("BORG_RELOCATED_REPO_ACCESS_IS_OK", "yes"),
            Kind::Rustic => command
                .env("RUSTIC_REPOSITORY", repository)
                .env("RUSTIC_PASSWORD", PASSWORD)
                .env("RUSTIC_CACHE_DIR", home.cache()),
        };
        command
    }

    /// Lifeboat with a password in the place of the key file.
    pub(crate) fn command_with_password(&self, home: &Home) -> Command {
        let mut command = self.command(home);
        command.env_remove("LIFEBOAT_KEY_FILE").env("LIFEBOAT_PASSWORD", PASSWORD);
        command
    }

    /// Makes an empty repository in a fresh home.
    pub(crate) fn init(&self, home: &Home) -> Result<()> {
        fresh(&home.0)?;
        let mut command = self.command(home);
        match self.kind {
            Kind::Lifeboat | Kind::Restic => command.arg("init"),
            Kind::Borg => command.args(["init", "--encryption", "repokey-blake2"]),
            Kind::Rustic => command.arg("init"),
        };
        quietly(&mut command)
    }

    /// Lifeboat's repository with parameters that the command line does not offer.
    pub(crate) fn init_with(&self, home: &Home, parameters: Parameters) -> Result<()> {
        fresh(&home.0)?;
        let key = lifeboat::write_key_file(&home.key_file())?;
        let store = Arc::new(LocalStore::create(home.repository())?);
        let now = jiff::Timestamp::now();
        let now = Timestamp { seconds: now.as_second(), nanos: now.subsec_nanosecond().unsigned_abs() };
        Repository::init(store, parameters, &Secret::KeyFile(&key), "measured", now)?;
        Ok(())
    }

    /// Backs up a folder or file.
    pub(crate) fn backup(&self, home: &Home, source: &Path) -> Command {
        let mut command = self.command(home);
        match self.kind {
            Kind::Lifeboat => command.arg("snapshot"),
            Kind::Restic | Kind::Rustic => command.arg("backup"),
            Kind::Borg => command.args(["create", "--compression", "zstd,3", "::{utcnow}-{pid}"]),
        };
        command.arg(source);
        command
    }

    /// Backs up standard input.
    pub(crate) fn backup_stream(&self, home: &Home) -> Command {
        let mut command = self.command(home);
        match self.kind {
            Kind::Lifeboat => command.args(["snapshot", "stdin:stream"]),
            Kind::Restic => command.args(["backup", "--stdin", "--stdin-filename", "stream"]),
            Kind::Borg => command.args(["create", "--compression", "zstd,3", "::{utcnow}-{pid}", "-"]),
            Kind::Rustic => command.args(["backup", "-"]),
        };
        command
    }

    /// Writes the newest snapshot of standard input to standard output.
    pub(crate) fn dump_stream(&self, home: &Home) -> Command {
        let mut command = self.command(home);
        match self.kind {
            Kind::Lifeboat => command.args(["dump", "latest:stdin:stream"]),
            Kind::Restic => command.args(["dump", "latest", "/stream"]),
            Kind::Borg => {
                let listing = output(self.command(home).args(["list", "--short", "--last", "1"]));
                command.args(["extract", "--stdout"]).arg(format!("::{listing}"))
            }
            Kind::Rustic => command.args(["dump", "latest:stdin"]),
        };
        command
    }

    /// Restores the newest snapshot into the empty folder `to`.
    pub(crate) fn restore(&self, home: &Home, source: &Path, to: &Path) -> Command {
        let mut command = self.command(home);
        match self.kind {
            Kind::Lifeboat => command.args(["restore", "latest", "--to"]).arg(to),
            Kind::Restic => command.args(["restore", "latest", "--target"]).arg(to),
            Kind::Borg => {
                let listing = output(self.command(home).args(["list", "--short", "--last", "1"]));
                command.arg("extract").arg(format!("::{listing}")).current_dir(to)
            }
            Kind::Rustic => {
                let inside = to.join(source.strip_prefix("/").unwrap_or(source));
                command.arg("restore").arg(format!("latest:{}", source.display())).arg(inside)
            }
        };
        command
    }

    /// Reads and verifies all that is stored.
    pub(crate) fn check(&self, home: &Home) -> Command {
        let mut command = self.command(home);
        match self.kind {
            Kind::Lifeboat | Kind::Restic | Kind::Rustic => command.args(["check", "--read-data"]),
            Kind::Borg => command.args(["check", "--verify-data"]),
        };
        command
    }

    /// Lists the snapshots.
    pub(crate) fn list(&self, home: &Home) -> Command {
        let mut command = self.command(home);
        command.arg(if self.kind == Kind::Borg { "list" } else { "snapshots" });
        command
    }

    /// Fails unless the newest snapshot of `source` restores to what `expected` says.
    pub(crate) fn expect_restorable(
        &self,
        home: &Home,
        source: &Path,
        expected: &Manifest,
        scratch: &Path,
    ) -> Result<()> {
        fresh(scratch)?;
        quietly(&mut self.restore(home, source, scratch))?;
        expect_restored(source, expected, scratch)?;
        remove(scratch)
    }
}

/// Fails unless what was restored below `to` is what `source` was.
pub(crate) fn expect_restored(source: &Path, expected: &Manifest, to: &Path) -> Result<()> {
    let restored = to.join(source.strip_prefix("/").unwrap_or(source));
    let found = Manifest::of(&restored).context("the restored tree cannot be read")?;
    expected.expect_same(&found).context("the restored tree differs")
}

/// Runs a command that is not measured.
pub(crate) fn quietly(command: &mut Command) -> Result<()> {
    let output = command
        .stdout(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{command:?}` ended with {}: {}", output.status, text.trim());
    Ok(())
}

/// An empty folder where there may have been anything.
pub(crate) fn fresh(folder: &Path) -> Result<()> {
    remove(folder)?;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

/// Removes a folder or file that may be missing.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// `cp -a`, which keeps everything that matters here.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    remove(to)?;
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent)?;
    }
    quietly(Command::new("cp").args(["--archive", "--no-target-directory"]).arg(from).arg(to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_that_differs_or_a_peer_that_fails_is_an_error_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        std::fs::create_dir(&source).unwrap();
        std::fs::write(source.join("file"), b"one").unwrap();
        let expected = Manifest::of(&source).unwrap();
        let to = folder.path().join("to");
        copy(&source, &to.join(source.strip_prefix("/").unwrap())).unwrap();
        expect_restored(&source, &expected, &to).unwrap();
        std::fs::write(to.join(source.strip_prefix("/").unwrap()).join("file"), b"two").unwrap();
        let difference = format!("{:#}", expect_restored(&source, &expected, &to).unwrap_err());
        assert!(
            difference.contains("the restored tree differs") && difference.contains("`file` is"),
            "{difference}"
        );
        let failing = Tool { kind: Kind::Restic, program: "false".into() };
        assert!(
            failing.init(&Home(folder.path().join("home"))).unwrap_err().to_string().contains("ended with")
        );
    }
}
