//! What can be typed behind `forget` and `tag`.

use clap::Args;
use lifeboat::repo::retention::group::Grouping;
use lifeboat::repo::retention::policy::{Age, UNLIMITED};
use std::path::PathBuf;

/// Which snapshots.
#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// Only those of this host
    #[arg(long)]
    pub(crate) host: Vec<String>,
    /// Only those with all of these tags; several times: with all of one of the lists
    #[arg(long, value_name = "TAG[,TAG]")]
    pub(crate) tag: Vec<String>,
    /// Only those with all of these sources
    #[arg(long)]
    pub(crate) path: Vec<PathBuf>,
}

/// What to forget.
#[derive(Debug, Args)]
#[command(
    after_help = "Every snapshot that at least one rule keeps stays. COUNT is a number or unlimited; AGE is as \
    2y, 6m, 2w, 14d, 12h or 1y6m, counted from the newest snapshot of the group. Of a group, the newest good snapshot \
    (complete, with healthy services) stays in any case, unless --allow-last is given. Data stays in the repository \
    until it is collected."
)]
pub(crate) struct ForgetArgs {
    /// Forget these, whatever the rules
    #[arg(value_name = "ID", conflicts_with_all = ["host", "tag", "path"])]
    pub(crate) snapshots: Vec<String>,
    #[command(flatten)]
    pub(crate) filter: Filter,
    #[command(flatten)]
    pub(crate) policy: PolicyArgs,
    /// Count snapshots together that have these in common: host, source, tags, project; empty for all together
    #[arg(short, long, value_name = "host,source,tags,project", default_value = "host,source")]
    pub(crate) group_by: Grouping,
    /// Let a group lose its last good snapshot
    #[arg(long)]
    pub(crate) allow_last: bool,
    /// Only say what would be forgotten
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
}

/// What to say about snapshots.
#[derive(Debug, Args)]
#[command(after_help = "A pinned snapshot is never forgotten. The snapshot keeps its id.")]
pub(crate) struct TagArgs {
    /// Which ones
    #[arg(value_name = "ID", conflicts_with_all = ["host", "tag", "path"])]
    pub(crate) snapshots: Vec<String>,
    #[command(flatten)]
    pub(crate) filter: Filter,
    /// Add these
    #[arg(long, value_delimiter = ',', value_name = "TAG[,TAG]")]
    pub(crate) add: Vec<String>,
    /// Take these away
    #[arg(long, value_delimiter = ',', value_name = "TAG[,TAG]")]
    pub(crate) remove: Vec<String>,
    /// Put these in the place of all; the empty text takes all away
    #[arg(long, value_delimiter = ',', value_name = "TAG[,TAG]", conflicts_with_all = ["add", "remove"])]
    pub(crate) set: Option<Vec<String>>,
    /// Keep them whatever the rules say
    #[arg(long)]
    pub(crate) pin: bool,
    /// Let the rules decide again
    #[arg(long, conflicts_with = "pin")]
    pub(crate) unpin: bool,
}

/// The rules.
#[derive(Debug, Args)]
#[group(id = "policy", multiple = true, conflicts_with = "snapshots")]
pub(crate) struct PolicyArgs {
    /// Keep the newest
    #[arg(short = 'l', long, value_name = "COUNT", default_value = "0", value_parser = parse_count, allow_negative_numbers = true)]
    pub(crate) keep_last: u32,
    /// Keep the newest of each of so many hours
    #[arg(short = 'H', long, value_name = "COUNT", default_value = "0", value_parser = parse_count, allow_negative_numbers = true)]
    pub(crate) keep_hourly: u32,
    /// Keep the newest of each of so many days
    #[arg(short = 'd', long, value_name = "COUNT", default_value = "0", value_parser = parse_count, allow_negative_numbers = true)]
    pub(crate) keep_daily: u32,
    /// Keep the newest of each of so many weeks
    #[arg(short = 'w', long, value_name = "COUNT", default_value = "0", value_parser = parse_count, allow_negative_numbers = true)]
    pub(crate) keep_weekly: u32,
    /// Keep the newest of each of so many months
    #[arg(short = 'm', long, value_name = "COUNT", default_value = "0", value_parser = parse_count, allow_negative_numbers = true)]
    pub(crate) keep_monthly: u32,
    /// Keep the newest of each of so many years
    #[arg(short = 'y', long, value_name = "COUNT", default_value = "0", value_parser = parse_count, allow_negative_numbers = true)]
    pub(crate) keep_yearly: u32,
    /// Keep all that are not older
    #[arg(long, value_name = "AGE")]
    pub(crate) keep_within: Option<Age>,
    /// Keep the newest of each hour, if not older
    #[arg(long, value_name = "AGE")]
    pub(crate) keep_within_hourly: Option<Age>,
    /// Keep the newest of each day, if not older
    #[arg(long, value_name = "AGE")]
    pub(crate) keep_within_daily: Option<Age>,
    /// Keep the newest of each week, if not older
    #[arg(long, value_name = "AGE")]
    pub(crate) keep_within_weekly: Option<Age>,
    /// Keep the newest of each month, if not older
    #[arg(long, value_name = "AGE")]
    pub(crate) keep_within_monthly: Option<Age>,
    /// Keep the newest of each year, if not older
    #[arg(long, value_name = "AGE")]
    pub(crate) keep_within_yearly: Option<Age>,
    /// Keep those with all of these tags; several times: with all of one of the lists
    #[arg(long, value_name = "TAG[,TAG]")]
    pub(crate) keep_tag: Vec<String>,
}

/// Reads a number, or `unlimited`.
fn parse_count(text: &str) -> Result<u32, String> {
    match text {
        "unlimited" | "-1" => Ok(UNLIMITED),
        _ => text.parse().map_err(|_| format!("`{text}` is no count; try a number or unlimited")),
    }
}
