//! What can be typed.

mod repair;
mod retention;
mod transfer;

pub(crate) use repair::{RepairCommand, RepairPacksArgs};
pub(crate) use retention::{Filter, ForgetArgs, PolicyArgs, TagArgs};
pub(crate) use transfer::{BundleKeyArgs, CopyArgs, ExportArgs, FromKeyArgs, ImportArgs};

use clap::{Args, Parser, Subcommand, ValueEnum};
use lifeboat::repo::check::Part;
use std::ffi::OsString;
use std::path::PathBuf;

/// Backup store: content-addressed, deduplicating, encrypted.
#[derive(Debug, Parser)]
#[command(
    name = "lifeboat",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
#[command(
    after_help = "Exit codes: 0 done; 1 failed; 3 done, but some files could not be read or restored, or a service was not \
    ready, did not hold still or is not back; 4 a service that has to be healthy is not; 10 no repository; 11 busy; 12 wrong password or key; 13 no container engine; 130 interrupted. Treat any other code as failure."
)]
pub(crate) struct Cli {
    /// What applies to every command.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What applies to every command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Where the repository is
    #[arg(
        short,
        long,
        global = true,
        env = "LIFEBOAT_REPOSITORY",
        value_name = "PATH",
        alias = "repository"
    )]
    pub(crate) repo: Option<String>,
    /// Read the repository's location from a file
    #[arg(long, global = true, env = "LIFEBOAT_REPOSITORY_FILE", value_name = "FILE")]
    pub(crate) repository_file: Option<PathBuf>,
    /// Read the password from the first line of a file
    #[arg(long, global = true, env = "LIFEBOAT_PASSWORD_FILE", value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// Read the password from the first line that a shell command prints
    #[arg(long, global = true, env = "LIFEBOAT_PASSWORD_COMMAND", value_name = "COMMAND")]
    pub(crate) password_command: Option<String>,
    /// Use a key file instead of a password; `init` makes it where it is missing
    #[arg(long, global = true, env = "LIFEBOAT_KEY_FILE", value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Where local indexes are kept [default: ~/.cache/lifeboat]
    #[arg(long, global = true, env = "LIFEBOAT_CACHE_DIR", value_name = "DIR")]
    pub(crate) cache_dir: Option<PathBuf>,
    /// Keep no local index: slower, leaves nothing on this machine
    #[arg(long, global = true)]
    pub(crate) no_cache: bool,
    /// Print JSON lines with a `message_type`
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print errors only
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Print more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a repository
    Init,
    /// Back up files, containers, volumes, tar archives, standard input or a command's output
    #[command(alias = "backup")]
    Snapshot(SnapshotArgs),
    /// List snapshots
    Snapshots {
        /// Only those of this host
        #[arg(long)]
        host: Option<String>,
        /// Only those with all of these tags
        #[arg(long, value_delimiter = ',')]
        tag: Vec<String>,
        /// Only those that hold this path
        #[arg(long)]
        path: Vec<PathBuf>,
    },
    /// List the files of a snapshot
    Ls {
        /// ID, latest, latest~N, and a path behind a colon: latest:/srv/app, latest:tar:FILE/etc
        #[arg(value_name = "ID[:PATH]")]
        snapshot: OsString,
        /// Show permissions, owner, size and time
        #[arg(short, long)]
        long: bool,
    },
    /// Show what differs between two snapshots
    Diff {
        /// The older one
        #[arg(value_name = "ID[:PATH]")]
        first: OsString,
        /// The newer one
        #[arg(value_name = "ID[:PATH]")]
        second: OsString,
        /// Show changes of metadata too
        #[arg(long)]
        metadata: bool,
        /// Show figures only, and what the difference weighs: chunks and bytes new, shared, gone
        #[arg(long, conflicts_with = "metadata")]
        stat: bool,
    },
    /// Find files by name in all snapshots
    Find {
        /// A name or path with gitignore's wildcards
        pattern: String,
        /// Only in this snapshot
        #[arg(long, value_name = "ID")]
        snapshot: Option<String>,
        /// Ignore case
        #[arg(short, long)]
        ignore_case: bool,
    },
    /// Show how much is stored
    Stats,
    /// Write one file, or a tree as tar, to standard output
    Dump {
        /// ID:PATH
        #[arg(value_name = "ID:PATH")]
        snapshot: OsString,
        /// Write a tar archive
        #[arg(long)]
        tar: bool,
    },
    /// Write files back
    Restore(RestoreArgs),
    /// Forget snapshots, by rules or by name
    Forget(ForgetArgs),
    /// Change the tags of snapshots, pin or unpin them
    Tag(TagArgs),
    /// Write a snapshot, or what differs from another one, into a file or pipe
    Export(ExportArgs),
    /// Take in what export wrote, also into a repository with other keys
    Import(ImportArgs),
    /// Copy snapshots from another repository
    Copy(CopyArgs),
    /// See whether everything can be read back
    Check {
        /// Read and verify all data too
        #[arg(long)]
        read_data: bool,
        /// Read and verify some of the data: a slice (1/10), a share (5%) or about so much (500M)
        #[arg(long, value_name = "PART", conflicts_with = "read_data", value_parser = parse_part)]
        read_data_subset: Option<Part>,
    },
    /// Delete what no snapshot needs
    Gc {
        /// Only say what would be deleted
        #[arg(long)]
        dry_run: bool,
        /// Leave so much unused in packs that are partly needed, of all that stays: a percentage, or unlimited
        #[arg(long, value_name = "PERCENT", default_value = "5", value_parser = parse_share)]
        max_unused: Share,
        /// Rewrite no more than this of packs that are partly needed
        #[arg(long, value_name = "SIZE", value_parser = parse_size)]
        max_repack: Option<u64>,
        /// A running snapshot that shows no progress for so long starts over
        #[arg(long, value_name = "SECONDS", default_value_t = 900)]
        grace: u64,
    },
    /// Verify all stored bytes without any key
    Scrub,
    /// Mend what check or scrub found: the index, then packs, then snapshots
    #[command(subcommand)]
    Repair(RepairCommand),
    /// Manage passwords and key files
    #[command(subcommand)]
    Key(KeyCommand),
    /// Show the repository itself
    #[command(subcommand)]
    Repo(RepoCommand),
    /// Bring back what a dead run left stopped, paused or held
    Recover {
        /// Only say what would be done
        #[arg(short = 'n', long)]
        dry_run: bool,
        /// The engine [default: DOCKER_HOST, else unix:///var/run/docker.sock]
        #[arg(long, value_name = "URL")]
        docker_host: Option<String>,
    },
    /// Watch over a run; lifeboat starts this itself
    #[command(hide = true)]
    Supervise {
        /// The run's journal
        journal: PathBuf,
    },
    /// Look at a container engine
    #[command(subcommand)]
    Docker(DockerCommand),
    /// Show or remove what this machine caches
    Cache {
        /// Remove the caches of all repositories
        #[arg(long)]
        cleanup: bool,
    },
    /// Print a completion script for a shell
    #[command(hide = true)]
    Version,
}

/// Which container engine.
#[derive(Debug, Clone, Args)]
pub(crate) struct EngineArgs {
    /// The container engine [default: DOCKER_HOST, else unix:///var/run/docker.sock]
    #[arg(long, value_name = "URL")]
    pub(crate) docker_host: Option<String>,
}

/// A container engine.
#[derive(Debug, Subcommand)]
pub(crate) enum DockerCommand {
    /// List volumes and containers, their last snapshots, and what no snapshot would hold
    Ls {
        #[command(flatten)]
        policy: PolicyFileArgs,
        #[command(flatten)]
        engine: EngineArgs,
    },
}

/// What is asked of containers that cannot be given labels.
#[derive(Debug, Clone, Args)]
pub(crate) struct PolicyFileArgs {
    /// A YAML file with labels for containers, by name; restore: for the snapshot before --in-place
    #[arg(long, env = "LIFEBOAT_POLICY_FILE", value_name = "FILE")]
    pub(crate) policy_file: Option<PathBuf>,
    /// Whether it was told which rules are for nobody.
    #[arg(skip)]
    pub(crate) is_told: bool,
}

/// How to back up.
#[derive(Debug, Clone, Args)]
pub(crate) struct SnapshotArgs {
    /// Paths, project:NAME (of compose), host: (everything on an engine), container:NAME, volume:NAME, image:NAME, stdin:NAME, tar:FILE, or command:NAME with the command behind --
    #[arg(value_name = "SOURCE")]
    pub(crate) sources: Vec<OsString>,
    /// The command of command:NAME
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
    /// full reads everything; incremental what the newest snapshot does not have; differential what the newest full one
    /// does not have
    #[arg(long, value_enum, default_value = "incremental")]
    pub(crate) kind: Kind,
    /// Words to find the snapshot by
    #[arg(long, value_delimiter = ',')]
    pub(crate) tag: Vec<String>,
    /// Name of the host [default: this machine's]
    #[arg(long, env = "LIFEBOAT_HOST")]
    pub(crate) host: Option<String>,
    /// Only say what would be read
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Read sources from a file, one per line; - is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) files_from: Vec<PathBuf>,
    /// Leave out what matches (gitignore rules, relative to each source)
    #[arg(short, long, value_name = "PATTERN")]
    pub(crate) exclude: Vec<String>,
    /// The same, ignoring case
    #[arg(long, value_name = "PATTERN")]
    pub(crate) iexclude: Vec<String>,
    /// Read patterns from a file
    #[arg(long, value_name = "FILE")]
    pub(crate) exclude_file: Vec<PathBuf>,
    /// Leave out directories with a CACHEDIR.TAG
    #[arg(long)]
    pub(crate) exclude_caches: bool,
    /// Leave out the content of directories that hold this name
    #[arg(long, value_name = "NAME")]
    pub(crate) exclude_if_present: Vec<OsString>,
    /// Leave out larger files: 500M, 2G
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) exclude_larger_than: Option<u64>,
    /// Do not enter other file systems
    #[arg(short = 'x', long)]
    pub(crate) one_file_system: bool,
    /// Do not compare inode numbers
    #[arg(long)]
    pub(crate) ignore_inode: bool,
    /// Do not compare the times of inode changes
    #[arg(long)]
    pub(crate) ignore_ctime: bool,
    /// zstd level: 0 stores raw, 1 is fast, 19 is small
    #[arg(long, env = "LIFEBOAT_COMPRESSION", default_value_t = 3, value_parser = clap::value_parser!(i32).range(0..=19))]
    pub(crate) compression: i32,
    /// Threads that read and compress [default: one per processor]
    #[arg(long, value_name = "COUNT")]
    pub(crate) threads: Option<usize>,
    /// Capture containers only while they are healthy
    #[arg(long)]
    pub(crate) require_healthy: bool,
    /// How long to wait for containers to be ready, in seconds [default: as long as their own checks take]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) wait_ready: Option<u64>,
    /// How images are stored: exact keeps the engine's own id; portable stores by file also what a containerd store keeps
    /// compressed, and gives that id up
    #[arg(long, value_enum, default_value = "exact")]
    pub(crate) images: ImagesArg,
    #[command(flatten)]
    pub(crate) policy: PolicyFileArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

/// How images are stored.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ImagesArg {
    /// With the engine's own id.
    Exact,
    /// By file, whatever the engine keeps.
    Portable,
}

/// How a snapshot is taken.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Kind {
    /// Read everything.
    Full,
    /// Trust the newest snapshot.
    Incremental,
    /// Trust the newest full snapshot.
    Differential,
}

/// How to restore.
#[derive(Debug, Clone, Args)]
pub(crate) struct RestoreArgs {
    /// ID, latest, latest~N, and a path behind a colon: latest:/srv/app
    #[arg(value_name = "ID[:PATH]")]
    pub(crate) snapshot: OsString,
    /// Directory that becomes equal to PATH; without a PATH, absolute paths are recreated below it. volume:NAME is a
    /// volume of a container engine, which is made where it is missing; container:NAME makes a container, and image:NAME
    /// loads an image, under its own name where none is given; project: brings back a whole compose project; host: puts paths back where they were; - writes a tar archive to standard output
    #[arg(long, value_name = "DIR|project:[NAME]|container:[NAME]|volume:NAME|image:[NAME]|host:|-")]
    pub(crate) to: PathBuf,
    /// With --to host:, paths below OLD go below NEW; both are absolute
    #[arg(long, value_name = "OLD=NEW")]
    pub(crate) map_path: Vec<String>,
    /// Only what matches (gitignore rules, relative to the source)
    #[arg(short, long, value_name = "PATTERN")]
    pub(crate) include: Vec<String>,
    /// All but what matches
    #[arg(short, long, value_name = "PATTERN")]
    pub(crate) exclude: Vec<String>,
    /// What to do with files that exist [default: always; a volume that is not empty is refused without this]
    #[arg(long, value_enum)]
    pub(crate) overwrite: Option<OverwriteArg>,
    /// Delete what the snapshot does not have
    #[arg(long)]
    pub(crate) delete: bool,
    /// Only say what would be done
    #[arg(short = 'n', long, visible_alias = "plan")]
    pub(crate) dry_run: bool,
    /// container: also restore the volumes that it mounts; those that are there and hold something are refused
    #[arg(long)]
    pub(crate) with_volumes: bool,
    /// container, project: start it when it is whole
    #[arg(long)]
    pub(crate) start: bool,
    /// project: under another name; the engine chooses ports, subnets and addresses
    #[arg(long, value_name = "NAME")]
    pub(crate) rename: Option<String>,
    /// project: replace the one that is there, after a snapshot of it
    #[arg(long)]
    pub(crate) in_place: bool,
    /// project: the folder of its compose files, instead of the one where they were
    #[arg(long, value_name = "DIR")]
    pub(crate) project_dir: Option<PathBuf>,
    /// project: start it, and wait so long until it is healthy: 120, 2m, 1h
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) wait_healthy: Option<std::time::Duration>,
    /// Read every written file again and compare it with the repository
    #[arg(long)]
    pub(crate) verify: bool,
    #[command(flatten)]
    pub(crate) policy: PolicyFileArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

/// What to do with files that exist.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum OverwriteArg {
    /// Write all of them.
    Always,
    /// Keep those of the same size and time.
    IfChanged,
    /// Keep all of them.
    Never,
}

/// Passwords and key files.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Let another password or key file open the repository
    Add(NewKeyArgs),
    /// List what opens the repository
    List,
    /// Take one away
    Remove {
        /// Its id, or a unique beginning of it
        id: String,
    },
    /// Replace the password or key file that is in use
    Passwd(NewKeyArgs),
    /// Replace all of them by a new one
    Rotate(NewKeyArgs),
}

/// A new password or key file.
#[derive(Debug, Args)]
pub(crate) struct NewKeyArgs {
    /// Read the new password from the first line of a file
    #[arg(long, env = "LIFEBOAT_NEW_PASSWORD_FILE", value_name = "FILE")]
    pub(crate) new_password_file: Option<PathBuf>,
    /// Use a key file, made where it is missing
    #[arg(long, value_name = "FILE")]
    pub(crate) new_key_file: Option<PathBuf>,
    /// What to call it
    #[arg(long, default_value = "")]
    pub(crate) label: String,
}

/// The repository itself.
#[derive(Debug, Subcommand)]
pub(crate) enum RepoCommand {
    /// Show its identity, features and parameters
    Info,
    /// Take it as it is, where this machine saw newer snapshots in it before
    Accept,
}

/// Reads `1/10`, `5%`, `500M`.
fn parse_part(text: &str) -> Result<Part, String> {
    match parse_size(text) {
        Ok(bytes) => Ok(Part::Bytes(bytes)),
        Err(_) => text.parse(),
    }
}

/// A share of a whole; `None` has no bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Share(pub(crate) Option<f64>);

fn parse_share(text: &str) -> Result<Share, String> {
    if text == "unlimited" {
        return Ok(Share(None));
    }
    let percent: Option<f64> = text.strip_suffix('%').unwrap_or(text).parse().ok();
    let percent = percent.filter(|percent| (0.0..=100.0).contains(percent));
    percent
        .map(|percent| Share(Some(percent / 100.0)))
        .ok_or_else(|| format!("`{text}` is no percentage; try 5, 12.5% or unlimited"))
}

fn parse_size(text: &str) -> Result<u64, String> {
    let split = text.find(|symbol: char| !symbol.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let shift = match unit.trim_end_matches("iB").trim_end_matches('B').to_ascii_uppercase().as_str() {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(format!("`{text}` is no size; try 500M or 2G")),
    };
    let number: u64 = number.parse().map_err(|_| format!("`{text}` is no size; try 500M or 2G"))?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("`{text}` is too large"))
}

/// `120`, `90s`, `2m`, `1h`.
fn parse_time(text: &str) -> Result<std::time::Duration, String> {
    let wrong = || format!("`{text}` is no time; try 90s or 2m");
    let split = text.find(|symbol: char| !symbol.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).map(std::time::Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(super::parse_size("2G"), Ok(2 << 30));
        assert_eq!(super::parse_size("500MiB"), Ok(500 << 20));
        assert!(super::parse_size("x").is_err() && super::parse_size("99999999999T").is_err());
    }
}
