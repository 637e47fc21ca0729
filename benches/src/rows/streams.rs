//! One long stream of bytes: incompressible data, and a stream that was backed up before.

use crate::bench::Bench;
use crate::meter::Call;
use crate::results::RowResult;
use crate::rounds::Participant;
use crate::tools::{Home, Kind, Tool, quietly, remove};
use anyhow::{Context, Result, ensure};
use lifeboat_format::config::Parameters;
use lifeboat_format::seal::Suite;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;

const INCOMPRESSIBLE_BYTES: u64 = 8_000_000_000;
/// Times that both kernel trees are in the stream.
const STREAM_COPIES: u64 = 1;

/// Random bytes, which neither deduplicate nor compress.
pub(crate) fn write_noise(path: &Path, bytes: u64) -> Result<()> {
    let failing = || format!("cannot write {}", path.display());
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
    // An extendable output is faster than the kernel's generator.
    let mut noise = blake3::Hasher::new_keyed(&seed).finalize_xof();
    let mut file = File::create(path).with_context(failing)?;
    let mut buffer = vec![0; 1 << 20];
    let mut left = bytes;
    while left > 0 {
        let length = left.min(buffer.len() as u64) as usize;
        noise.fill(&mut buffer[..length]);
        file.write_all(&buffer[..length]).with_context(failing)?;
        left -= length as u64;
    }
    Ok(())
}

pub(crate) fn incompressible(bench: &Bench) -> Result<RowResult> {
    let folder = bench.work.join("noise");
    std::fs::create_dir_all(&folder)?;
    let (file, bytes) = (folder.join("random"), bench.sized(INCOMPRESSIBLE_BYTES));
    write_noise(&file, bytes)?;
    let mut participants = vec![dd(bench, file, bytes)];
    let manifest = bench.manifest(&folder)?;
    let plain = |tool: &Tool, home: &Home| tool.init(home);
    let sealed_by_aes = |tool: &Tool, home: &Home| {
        tool.init_with(home, Parameters { suite: Suite::Aes256Gcm, ..Parameters::default() })
    };
    type Make = fn(&Tool, &Home) -> Result<()>;
    let mut takers: Vec<(String, Tool, Make)> =
        vec![("lifeboat, AES-256-GCM".to_owned(), bench.lifeboat(), sealed_by_aes)];
    takers.extend(bench.tools()?.into_iter().map(|tool| (tool.name().to_owned(), tool, plain as Make)));
    for (who, tool, make) in takers {
        let (folder, manifest) = (folder.clone(), manifest.clone());
        participants.push(Participant::new(who, move |round| {
            let home = bench.home(&tool, "noise");
            make(&tool, &home)?;
            bench.warm(&folder)?;
            let sample = bench.rate(&Call::new(tool.backup(&home, &folder)), bytes)?;
            if round == 0 {
                tool.expect_restorable(&home, &folder, &manifest, &bench.work.join("restored"))?;
            }
            remove(&home.0)?;
            Ok(sample)
        }));
    }
    bench.row("incompressible", manifest.describe(), participants)
}

/// The same file written as it is, with one sync at the end.
fn dd(bench: &Bench, file: PathBuf, bytes: u64) -> Participant<'_> {
    Participant::new("dd conv=fsync", move |_| {
        let copy = bench.work.join("copy");
        let line = format!("dd if={} of={} bs=1M conv=fsync", file.display(), copy.display());
        bench.warm(&file)?;
        let sample = bench.rate(&Call::shell(&bench.work, &line), bytes)?;
        remove(&copy)?;
        Ok(sample)
    })
}

pub(crate) fn stream(bench: &Bench) -> Result<RowResult> {
    let (old, new) = (bench.corpus("linux/old")?, bench.corpus("linux/new")?);
    let file = bench.work.join("stream.tar");
    let line = format!(
        "for n in $(seq {STREAM_COPIES}); do tar -cf - {} {}; done > {}",
        old.display(),
        new.display(),
        file.display()
    );
    quietly(Command::new("sh").args(["-c", &line]))?;
    let bytes = file.metadata()?.len();
    let hash = hash_of(Stdio::from(File::open(&file)?))?;
    let hash = Rc::new(hash);
    let own = std::env::current_exe()?;
    let mut participants = vec![{
        let line = format!("cat {} | {} hash", file.display(), own.display());
        let source = file.clone();
        Participant::new("BLAKE3", move |_| {
            bench.warm(&source)?;
            bench.rate(&Call::shell(&bench.work, &line), bytes)
        })
    }];
    for tool in bench.tools_of(&[Kind::Lifeboat, Kind::Restic, Kind::Borg])? {
        let home = bench.home(&tool, "stream");
        tool.init(&home)?;
        let call = piped(&bench.work, &file, &tool.backup_stream(&home));
        quietly(&mut piped(&bench.work, &file, &tool.backup_stream(&home)).command)?;
        let (hash, source) = (hash.clone(), file.clone());
        participants.push(Participant::new(tool.name(), move |round| {
            bench.warm(&source)?;
            let sample = bench.rate(&call, bytes)?;
            if round == 0 {
                let mut dump = tool.dump_stream(&home).stdout(Stdio::piped()).spawn()?;
                let found = hash_of(dump.stdout.take().context("a pipe was asked for")?.into())?;
                ensure!(dump.wait()?.success() && found == *hash, "the stream that comes back differs");
            }
            Ok(sample)
        }));
    }
    let data =
        format!("a tar of both kernel trees, {:.3} GB, through a pipe, backed up before", bytes as f64 / 1e9);
    bench.row("stream", data, participants)
}

/// A command that reads a file through a pipe, as a stream comes.
fn piped(folder: &Path, file: &Path, command: &Command) -> Call {
    let words: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let mut call = Call::shell(folder, &format!("cat {} | {}", file.display(), words.join(" ")));
    call.command.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    call
}

fn hash_of(input: Stdio) -> Result<String> {
    let output = Command::new(std::env::current_exe()?).arg("hash").stdin(input).output()?;
    ensure!(output.status.success(), "hashing failed");
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
