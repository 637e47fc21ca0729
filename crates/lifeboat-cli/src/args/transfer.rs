//! Arguments of `export`, `import` and `copy`.

use super::Filter;
use clap::Args;
use std::path::PathBuf;

/// What opens a bundle.
#[derive(Debug, Args)]
pub(crate) struct BundleKeyArgs {
    /// Read the bundle's password from the first line of a file [default: LIFEBOAT_BUNDLE_PASSWORD, or ask]
    #[arg(long, env = "LIFEBOAT_BUNDLE_PASSWORD_FILE", value_name = "FILE")]
    pub(crate) bundle_password_file: Option<PathBuf>,
    /// Use a key file instead of a password; `export` makes it where it is missing
    #[arg(long, env = "LIFEBOAT_BUNDLE_KEY_FILE", value_name = "FILE")]
    pub(crate) bundle_key_file: Option<PathBuf>,
}

/// How to write a bundle.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// ID, latest, latest~N
    #[arg(value_name = "ID")]
    pub(crate) snapshot: String,
    /// Where to; - is standard output. A file that exists is not replaced
    #[arg(short, long, value_name = "FILE|-", required_unless_present = "dry_run")]
    pub(crate) output: Option<PathBuf>,
    /// Only what this snapshot does not have, which the receiver needs
    #[arg(long, value_name = "BASE", group = "since_what")]
    pub(crate) since: Option<String>,
    /// Everything: the receiver needs nothing else [default]
    #[arg(long, group = "since_what")]
    pub(crate) full: bool,
    /// Only what its parent does not have
    #[arg(long, group = "since_what")]
    pub(crate) incremental: bool,
    /// Only what the last full snapshot of the same sources does not have
    #[arg(long, group = "since_what")]
    pub(crate) differential: bool,
    /// Only say what the bundle would hold
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) key: BundleKeyArgs,
}

/// How to take a bundle in.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// A bundle; - is standard input
    #[arg(value_name = "FILE|-")]
    pub(crate) input: PathBuf,
    /// Only see whether the bundle is whole and sound; needs no repository
    #[arg(long)]
    pub(crate) check: bool,
    /// Only say what would be imported, and whether its base is there
    #[arg(short = 'n', long, conflicts_with = "check")]
    pub(crate) dry_run: bool,
    /// zstd level: 0 stores raw, 1 is fast, 19 is small
    #[arg(long, env = "LIFEBOAT_COMPRESSION", default_value_t = 3, value_parser = clap::value_parser!(i32).range(0..=19))]
    pub(crate) compression: i32,
    #[command(flatten)]
    pub(crate) key: BundleKeyArgs,
}

/// What opens another repository.
#[derive(Debug, Args)]
pub(crate) struct FromKeyArgs {
    /// Read its password from the first line of a file [default: LIFEBOAT_FROM_PASSWORD, or ask]
    #[arg(long, env = "LIFEBOAT_FROM_PASSWORD_FILE", value_name = "FILE")]
    pub(crate) from_password_file: Option<PathBuf>,
    /// Open it with a key file
    #[arg(long, env = "LIFEBOAT_FROM_KEY_FILE", value_name = "FILE")]
    pub(crate) from_key_file: Option<PathBuf>,
}

/// What to copy.
#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    /// ID, latest, latest~N of the other repository [default: all that the filters leave]
    #[arg(value_name = "ID")]
    pub(crate) snapshots: Vec<String>,
    /// The repository to copy from
    #[arg(long, env = "LIFEBOAT_FROM_REPOSITORY", value_name = "PATH")]
    pub(crate) from: String,
    #[command(flatten)]
    pub(crate) from_key: FromKeyArgs,
    #[command(flatten)]
    pub(crate) filter: Filter,
    /// Only say what would be copied
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// zstd level: 0 stores raw, 1 is fast, 19 is small
    #[arg(long, env = "LIFEBOAT_COMPRESSION", default_value_t = 3, value_parser = clap::value_parser!(i32).range(0..=19))]
    pub(crate) compression: i32,
}
