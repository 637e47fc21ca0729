//! Arguments of `repair`.

use super::FromKeyArgs;
use clap::{Args, Subcommand};

/// What to mend.
#[derive(Debug, Subcommand)]
pub(crate) enum RepairCommand {
    /// Name again what no readable index object names, from the packs alone
    Index {
        /// Only say what would be done
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
    /// Replace damaged packs by what can be read of them; what cannot counts as absent, and is stored by the next snapshot
    Packs(RepairPacksArgs),
    /// Make copies of damaged snapshots without the files that are lost
    Snapshots {
        /// Only say what is lost
        #[arg(short = 'n', long)]
        dry_run: bool,
        /// Forget the damaged ones afterwards
        #[arg(long)]
        forget: bool,
    },
}

/// How to mend packs.
#[derive(Debug, Args)]
pub(crate) struct RepairPacksArgs {
    /// Only say what is damaged
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Take what is lost of snapshots from another repository that has them too
    #[arg(long, env = "LIFEBOAT_FROM_REPOSITORY", value_name = "PATH")]
    pub(crate) from: Option<String>,
    #[command(flatten)]
    pub(crate) from_key: FromKeyArgs,
    /// A running snapshot that shows no progress for so long starts over
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    pub(crate) grace: u64,
}
