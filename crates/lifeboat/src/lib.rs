//! Backup store for container workloads: content-addressed, deduplicating, encrypted.
//!
//! This crate is what other programs embed; the `lifeboat` command is built on it alone. Four steps make a day with it:
//!
//! ```no_run
//! use lifeboat::{Secret, backup, restore};
//! use std::path::Path;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let secret = Secret::Passphrase(b"correct horse battery staple");
//! // Once: lifeboat::init("/backup/repository", &secret)?
//! let repository = lifeboat::open("/backup/repository", &secret, None)?;
//! let options = lifeboat::backup_options(&lifeboat::state_directory());
//! let sources = [backup::SourceSpec::Path("/srv/app".into())];
//! let outcome = backup::backup(&repository, &sources, &options, &Default::default(), &lifeboat::Quiet)?;
//! println!("{}", outcome.snapshot.id);
//!
//! let list = repository.snapshots()?;
//! let snapshot = &list.find("latest")?.snapshot;
//! let stop = Default::default();
//! let how = restore::Options::new(&stop);
//! lifeboat::restore_path(&repository, snapshot, b"/srv/app", Path::new("out"), &how, &restore::Quiet)?;
//! # Ok(())
//! # }
//! ```
//!
//! # Guarantees
//! When [`backup::backup`] returns `Ok`, power may go that instant: the snapshot lists and restores. Everything that
//! could not be read is counted in it. Nothing leaves a repository unverified.

mod connect;
mod host;
mod restoring;

pub use connect::{init, open, open_store, read_key_file, remove_stale, write_key_file};
pub use host::{backup_options, cache_directory, host_name, state_directory, user_name};
pub use lifeboat_format as format;
pub use lifeboat_format::slot::Secret;
pub use lifeboat_repo as repo;
pub use lifeboat_repo::Repository;
pub use lifeboat_store as store;
pub use lifeboat_transfer::{Error, Result, backup, bundle, dump, pieces, restore, snapshot_source, source};
pub use lifeboat_workload as workload;
pub use restoring::{RestoreError, restore_path, restore_places, restore_snapshot};

/// Tells nobody what happens during a backup.
#[derive(Debug, Clone, Copy)]
pub struct Quiet;

impl backup::Progress for Quiet {
    fn unreadable(&self, _: &std::ffi::OsStr, _: &str) {}

    fn notice(&self, _: &str) {}
}
