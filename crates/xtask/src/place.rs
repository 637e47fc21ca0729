//! Where the checkout is, and where what is built from it goes.
//!
//! Must stay true: a target folder that the user chose is used as it is; without a home folder everything still works,
//! only without the cache that checkouts share.

use crate::failure::{Failure, Result, While};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folders that chores work in.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The checkout.
    pub(crate) root: PathBuf,
    /// Compiled code.
    pub(crate) target: PathBuf,
    /// Tools from crates.io, and whatever else is worth keeping between checkouts.
    pub(crate) cache: PathBuf,
}

impl Place {
    /// Finds the checkout from the manifest that cargo started, and the cache from the environment.
    pub(crate) fn find() -> Result<Self> {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest.join("../..").canonicalize().while_doing("find the checkout")?;
        if !root.join("crates/xtask").is_dir() {
            return Err(Failure::new(format!("{} is not a lifeboat checkout", root.display())));
        }
        Ok(Self::resolve(root, |name| std::env::var_os(name).filter(|value| !value.is_empty())))
    }

    fn resolve(root: PathBuf, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let cache = variable("LIFEBOAT_CACHE")
            .map(PathBuf::from)
            .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".cache/lifeboat")))
            .map_or_else(|| root.join("target/cache"), |cache| root.join(cache));
        // Without a home there is no place that checkouts share: cargo's own default then.
        let shared = variable("LIFEBOAT_CACHE").or_else(|| variable("HOME")).is_some();
        let target = variable("CARGO_TARGET_DIR").map_or_else(
            || if shared { cache.join("target") } else { root.join("target") },
            |target| root.join(target),
        );
        Self { root, target, cache }
    }

    /// A command in the checkout that builds into [`Self::target`].
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        // What cargo says of this program; packages that ask for such words (`ring`) would be compiled anew each time that
        // cargo is started by hand and from here in turn.
        let of_this_program = |name: &OsString| {
            let name = name.to_string_lossy();
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
        };
        std::env::vars_os()
            .map(|(name, _)| name)
            .filter(of_this_program)
            .for_each(|name| _ = command.env_remove(name));
        command
    }

    /// `cargo` with words that are separated by spaces.
    pub(crate) fn cargo(&self, words: &str) -> Command {
        let mut command = self.command("cargo");
        command.args(words.split(' '));
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(variables: &[(&str, &str)]) -> PathBuf {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        Place::resolve("/checkout".into(), find).target
    }

    #[test]
    fn the_users_target_folder_comes_before_the_shared_one_and_that_before_the_checkouts_own() {
        let home = ("HOME", "/home/ann");
        let cache = ("LIFEBOAT_CACHE", "/cache");
        assert_eq!(target(&[("CARGO_TARGET_DIR", "/mine"), cache, home]), Path::new("/mine"));
        assert_eq!(target(&[("CARGO_TARGET_DIR", "out"), home]), Path::new("/checkout/out"));
        assert_eq!(target(&[cache, home]), Path::new("/cache/target"));
        assert_eq!(target(&[home]), Path::new("/home/ann/.cache/lifeboat/target"));
        assert_eq!(target(&[]), Path::new("/checkout/target"));
    }
}
