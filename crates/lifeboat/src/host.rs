//! What this machine is called, and where it keeps things.

use lifeboat_format::snapshot::SnapshotKind;
use lifeboat_transfer::backup::{Comparison, Options};
use std::path::{Path, PathBuf};

/// The host's name.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The user's name, or number.
pub fn user_name() -> String {
    let id = rustix::process::getuid().as_raw();
    let mut owners = lifeboat_transfer::source::owners::Owners::default();
    owners.add(id, id);
    let [users, _] = owners.names();
    users.first().map_or_else(|| id.to_string(), |(_, name)| String::from_utf8_lossy(name).into_owned())
}

fn below_home(variable: &str, fallback: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(fallback));
    named.or_else(home).map(|path| path.join("lifeboat"))
}

/// Where local indexes are kept: `$XDG_CACHE_HOME/lifeboat` or `~/.cache/lifeboat`; `None` without a home.
pub fn cache_directory() -> Option<PathBuf> {
    below_home("XDG_CACHE_HOME", ".cache")
}

/// Where this host's identity is kept: `$XDG_STATE_HOME/lifeboat` or `~/.local/state/lifeboat`.
pub fn state_directory() -> PathBuf {
    below_home("XDG_STATE_HOME", ".local/state").unwrap_or_else(|| PathBuf::from("/var/lib/lifeboat"))
}

/// An incremental backup of this host: zstd level 3, one thread per processor.
pub fn backup_options(state: &Path) -> Options {
    Options {
        kind: SnapshotKind::Incremental,
        tags: Vec::new(),
        host: host_name(),
        host_id: lifeboat_repo::host::host_id(state),
        user: user_name(),
        excludes: Default::default(),
        comparison: Comparison::default(),
        compression_level: 3,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        program: concat!("lifeboat ", env!("CARGO_PKG_VERSION")).to_owned(),
        checkpoint_interval: None,
    }
}
