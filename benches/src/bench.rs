//! What every row works with: programs, data, a scratch folder, and how often to measure.
//!
//! Must stay true: everything is written below one data folder: `corpora/` and `peers/` are kept, `work/` is emptied
//! before and after each row. Before each timed command all that was written before is synced, so that nobody pays for
//! the one before.

use crate::machine::{Machine, output};
use crate::manifest::Manifest;
use crate::meter::{Call, Metered};
use crate::results::{RowResult, Unit};
use crate::rounds::{Outcome, Participant, Sample, interleave};
use crate::tools::{Home, Kind, Tool, fresh};
use anyhow::{Context, Result, bail};
use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;

/// The script beside this package; it is part of the program, so that the program can stand alone.
const PREPARE: &str = include_str!("../prepare.sh");

/// What the caller chose.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    /// Where corpora, peers and scratch files are.
    pub(crate) data: PathBuf,
    /// The program under measurement.
    pub(crate) lifeboat: PathBuf,
    /// Rounds without the warm-up.
    pub(crate) rounds: usize,
    /// Synthetic data of a hundredth of its size: for trials.
    pub(crate) small: bool,
    /// Only lifeboat and the limits of the machine.
    pub(crate) without_peers: bool,
}

/// See the module.
pub(crate) struct Bench {
    choice: Choice,
    pub(crate) work: PathBuf,
    tools: OnceCell<Vec<Tool>>,
    manifests: RefCell<HashMap<PathBuf, Rc<Manifest>>>,
}

impl Bench {
    pub(crate) fn new(choice: Choice) -> Result<Self> {
        std::fs::create_dir_all(&choice.data)
            .with_context(|| format!("cannot make {}", choice.data.display()))?;
        let data = choice.data.canonicalize()?;
        let work = data.join("work");
        fresh(&work)?;
        // Commands run in other folders.
        let lifeboat = choice
            .lifeboat
            .canonicalize()
            .with_context(|| format!("there is no program at {}", choice.lifeboat.display()))?;
        let choice = Choice { data, lifeboat, ..choice };
        Ok(Self { choice, work, tools: OnceCell::new(), manifests: RefCell::default() })
    }

    /// Lifeboat.
    pub(crate) fn lifeboat(&self) -> Tool {
        Tool { kind: Kind::Lifeboat, program: self.choice.lifeboat.clone() }
    }

    /// Lifeboat and the peers that are there. restic and borg are fetched; rustic compiles for ten minutes, so it takes
    /// part where somebody has prepared it.
    pub(crate) fn tools(&self) -> Result<Vec<Tool>> {
        if let Some(tools) = self.tools.get() {
            return Ok(tools.clone());
        }
        let mut tools = vec![self.lifeboat()];
        if !self.choice.without_peers {
            for (kind, name) in [(Kind::Restic, "restic"), (Kind::Borg, "borg"), (Kind::Rustic, "rustic")] {
                let program = self.choice.data.join("peers/bin").join(name);
                if kind != Kind::Rustic && !program.exists() {
                    self.prepare(name)?;
                }
                if program.exists() {
                    tools.push(Tool { kind, program });
                }
            }
        }
        Ok(self.tools.get_or_init(|| tools).clone())
    }

    /// A size of synthetic data, smaller in a trial.
    pub(crate) fn sized(&self, size: u64) -> u64 {
        if self.choice.small { size / 100 } else { size }
    }

    /// The tools among `kinds`.
    pub(crate) fn tools_of(&self, kinds: &[Kind]) -> Result<Vec<Tool>> {
        Ok(self.tools()?.into_iter().filter(|tool| kinds.contains(&tool.kind)).collect())
    }

    /// A folder of real data, made first if it is missing: `linux/old`, `postgres/v1`.
    pub(crate) fn corpus(&self, name: &str) -> Result<PathBuf> {
        let path = self.choice.data.join("corpora").join(name);
        if !path.exists() {
            self.prepare(name.split('/').next().unwrap_or(name))?;
        }
        path.canonicalize().with_context(|| format!("there is no corpus at {}", path.display()))
    }

    fn prepare(&self, what: &str) -> Result<()> {
        println!("preparing {what} in {}", self.choice.data.display());
        let mut bash = Command::new("bash");
        bash.args(["-c", PREPARE, "prepare.sh"]).arg(&self.choice.data).arg(what).stdin(Stdio::null());
        if bash.status().context("cannot start bash")?.success() {
            return Ok(());
        }
        bail!("`{what}` cannot be prepared; `cargo xtask bench` says which packages that takes")
    }

    /// Content and metadata of a folder that does not change; looked at once.
    pub(crate) fn manifest(&self, folder: &Path) -> Result<Rc<Manifest>> {
        if let Some(known) = self.manifests.borrow().get(folder) {
            return Ok(known.clone());
        }
        let manifest = Rc::new(Manifest::of(folder)?);
        self.manifests.borrow_mut().insert(folder.to_owned(), manifest.clone());
        Ok(manifest)
    }

    /// Where a tool keeps a repository in this row.
    pub(crate) fn home(&self, tool: &Tool, name: &str) -> Home {
        Home(self.work.join(format!("{}-{name}", tool.name())))
    }

    /// Reads a file or everything below a folder, so that it is in the page cache. Before each command, because what
    /// other participants and their checks read since may have taken its place: without this, `tar | zstd` took 3.7 s in
    /// one round and 10.4 s in the next.
    pub(crate) fn warm(&self, path: &Path) -> Result<()> {
        Manifest::of(path).map(drop)
    }

    /// Runs a command after everything before it was written back.
    pub(crate) fn run(&self, call: &Call) -> Result<Metered> {
        rustix::fs::sync();
        call.run()
    }

    /// Time as a rate over `bytes`, and memory.
    pub(crate) fn rate(&self, call: &Call, bytes: u64) -> Result<Sample> {
        let metered = self.run(call)?;
        Ok(Sample::new(self.words(call))
            .with("rate", Unit::BytesPerSecond, bytes as f64 / metered.seconds)
            .with("memory", Unit::Memory, metered.memory_bytes as f64))
    }

    /// The same as a sample of time and memory.
    pub(crate) fn time(&self, call: &Call) -> Result<Sample> {
        let metered = self.run(call)?;
        Ok(Sample::new(self.words(call)).with("time", Unit::Seconds, metered.seconds).with(
            "memory",
            Unit::Memory,
            metered.memory_bytes as f64,
        ))
    }

    /// A command with our folders called DATA and WORK.
    pub(crate) fn words(&self, call: &Call) -> String {
        let peers = self.choice.data.join("peers/bin");
        let ours = self.choice.lifeboat.parent().map(|folder| folder.join(""));
        let mut shorten: Vec<(&Path, &str)> = vec![(&self.work, "WORK")];
        let peers = peers.join("");
        shorten.push((&peers, ""));
        shorten.extend(ours.as_deref().map(|folder| (folder, "")));
        shorten.push((&self.choice.data, "DATA"));
        call.words(&shorten)
    }

    /// Runs a row's participants, and clears up behind them. What failed in preparing refuses the row as a failed round
    /// does.
    pub(crate) fn row(
        &self,
        name: &str,
        data: impl Into<String>,
        participants: Vec<Participant<'_>>,
    ) -> Result<RowResult> {
        let outcome = interleave(participants, self.choice.rounds);
        let result = self.result(name, data.into(), outcome)?;
        fresh(&self.work)?;
        Ok(result)
    }

    /// The same without clearing up, for a row that has something mounted, and with one round, for a row without times.
    pub(crate) fn quiet_row(
        &self,
        name: &str,
        data: impl Into<String>,
        participants: Vec<Participant<'_>>,
    ) -> Result<RowResult> {
        let mut outcome = interleave(participants, 1);
        outcome.series.retain(|series| !series.unit.is_time());
        self.result(name, data.into(), outcome)
    }

    pub(crate) fn refused(&self, name: &str, why: String) -> Result<RowResult> {
        fresh(&self.work)?;
        self.result(name, String::new(), Outcome { refused: Some(why), ..Outcome::default() })
    }

    fn result(&self, name: &str, data: String, outcome: Outcome) -> Result<RowResult> {
        let mut versions: BTreeMap<String, String> =
            self.tools()?.iter().map(|tool| (tool.name().to_owned(), tool.version())).collect();
        let zstd = output(Command::new("zstd").arg("--version"));
        versions.insert("zstd".to_owned(), zstd.trim_matches('*').trim().to_owned());
        Ok(RowResult {
            row: name.to_owned(),
            date: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
            commit: commit(),
            machine: Machine::here(&self.choice.data),
            versions,
            data,
            cache: "warm".to_owned(),
            rounds: outcome.rounds,
            commands: outcome.commands,
            series: outcome.series,
            refused: outcome.refused,
        })
    }
}

/// The checkout's commit, marked where it has changes that are not committed.
fn commit() -> String {
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let found = output(&mut git);
    if found.is_empty() { "unknown".to_owned() } else { found }
}
