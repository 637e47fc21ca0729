//! The commands, one module for each group.

mod browse;
mod bundle;
mod check;
mod compare;
mod containers;
mod copy;
mod docker;
mod dump;
mod forget;
mod gc;
mod images;
mod manage;
mod places;
mod policy;
mod project_restore;
mod projects;
mod recover;
mod repair;
mod restore;
mod scrub;
mod select;
mod services;
mod snapshot;
mod sources;
mod stored;
mod tag;
mod volumes;

use crate::args::{Cli, Command};
use crate::failure::DONE;
use crate::ui::Ui;
use anyhow::Result;
use lifeboat::repo::check::Depth;
use lifeboat::repo::collect::Room;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Runs a command; gives its exit code.
pub(crate) fn run(cli: Cli, interrupted: &Arc<AtomicBool>) -> Result<u8> {
    let Cli { global, command } = cli;
    let ui = Ui::new(&global);
    match command {
        Command::Init => manage::init(&global, &ui),
        Command::Snapshot(arguments) => snapshot::run(&global, &ui, arguments, interrupted),
        Command::Snapshots { host, tag, path } => {
            browse::snapshots(&global, &ui, host.as_deref(), &tag, &path)
        }
        Command::Ls { snapshot, long } => browse::ls(&global, &ui, &snapshot, long),
        Command::Find { pattern, snapshot, ignore_case } => {
            browse::find(&global, &ui, &pattern, snapshot.as_deref(), ignore_case)
        }
        Command::Diff { first, second, metadata, stat } => {
            let shown = if stat { compare::Shown::Figures } else { compare::Shown::Changes { metadata } };
            compare::diff(&global, &ui, &first, &second, shown)
        }
        Command::Stats => manage::stats(&global, &ui),
        Command::Dump { snapshot, tar } => dump::run(&global, &ui, &snapshot, tar),
        Command::Restore(arguments) => restore::run(&global, &ui, &arguments, interrupted),
        Command::Forget(arguments) => forget::run(&global, &ui, &arguments),
        Command::Export(arguments) => bundle::export(&global, &ui, &arguments, interrupted),
        Command::Import(arguments) => bundle::import(&global, &ui, &arguments, interrupted),
        Command::Copy(arguments) => copy::run(&global, &ui, &arguments, interrupted),
        Command::Tag(arguments) => tag::run(&global, &ui, &arguments),
        Command::Check { read_data, read_data_subset } => {
            let part = read_data_subset.map_or(Depth::Structure, Depth::Part);
            check::run(&global, &ui, if read_data { Depth::Data } else { part }, interrupted)
        }
        Command::Gc { dry_run, max_unused, max_repack, grace } => {
            let room =
                Room { unused_share_max: max_unused.0, moved_bytes_max: max_repack.unwrap_or(u64::MAX) };
            gc::run(&global, &ui, dry_run, room, grace, interrupted)
        }
        Command::Scrub => scrub::run(&global, &ui, interrupted),
        Command::Repair(command) => repair::run(&global, &ui, &command, interrupted),
        Command::Key(command) => manage::key(&global, &ui, &command),
        Command::Repo(command) => manage::repo(&global, &ui, &command),
        Command::Recover { dry_run, docker_host } => {
            recover::run(&global, &ui, dry_run, docker_host.as_deref(), interrupted)
        }
        Command::Supervise { journal } => recover::supervise(&journal),
        Command::Docker(command) => docker::run(&global, &ui, &command),
        Command::Cache { cleanup } => manage::cache(&global, &ui, cleanup),
        Command::Version => {
            ui.result(concat!("lifeboat ", env!("CARGO_PKG_VERSION")));
            Ok(DONE)
        }
    }
}
