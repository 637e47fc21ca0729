//! Ten images that share a base, two versions of each: what storing them takes.
//!
//! Must stay true: every participant gets the same images, first all first versions, then all second ones; after the
//! warm-up an image comes back from lifeboat's repository under its id.
//!
//! An image is the tests' base, a layer of files of this machine (dependencies, of which three sets are shared among the ten),
//! and a layer of its own. The second version is built anew: all of its files have new times, one in fifty of the
//! dependencies and one in ten of its own have other content.

use crate::bench::Bench;
use crate::docker::Engine;
use crate::meter::Call;
use crate::results::{RowResult, Unit};
use crate::rounds::{Participant, Sample};
use crate::tools::{Home, Kind, Tool, copy, fresh};
use anyhow::{Context, Result, ensure};
use std::io::Write;
use std::path::{Path, PathBuf};

/// How many images.
const IMAGES: usize = 10;
/// Different sets of dependencies.
const SETS: usize = 3;
/// Files of an image's own, and how long each is.
const OWN_FILES: usize = 40;
const OWN_BYTES: usize = 50_000;
/// What is taken for dependencies.
const DEPENDENCIES: &str = "/usr/include";
/// A line that a person could type for each image.
const SNAPSHOT: &str = "lifeboat snapshot image:NAME";

/// Images on one engine, gone with the row.
struct Images {
    engine: Engine,
    /// By version.
    names: [Vec<String>; 2],
}

impl Drop for Images {
    fn drop(&mut self) {
        for name in self.names.iter().flatten() {
            let _ = self.engine.say(&["rmi", "--force", name]);
        }
    }
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()? {
            kind if kind.is_dir() => found.extend(files(&entry.path())?),
            kind if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found.sort();
    Ok(found)
}

fn append(path: &Path) -> Result<()> {
    let mut file = std::fs::OpenOptions::new().append(true).open(path)?;
    Ok(writeln!(file, "/* changed */")?)
}

/// Copies a set's folders, with new times.
fn dependencies(to: &Path, set: usize, version: usize) -> Result<()> {
    fresh(to)?;
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(DEPENDENCIES)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    folders.retain(|path| path.is_dir());
    folders.sort();
    for folder in folders.iter().skip(set).step_by(SETS) {
        copy(folder, &to.join(folder.file_name().context("a folder has a name")?))?;
    }
    let all = files(to)?;
    ensure!(!all.is_empty(), "{DEPENDENCIES} has no folders: install libc6-dev");
    let now = std::time::SystemTime::now();
    for path in &all {
        std::fs::File::options().write(true).open(path)?.set_modified(now)?;
    }
    if version > 0 {
        all.iter().step_by(50).try_for_each(|path| append(path))?;
    }
    Ok(())
}

fn own(to: &Path, image: usize, version: usize) -> Result<()> {
    fresh(to)?;
    for number in 0..OWN_FILES {
        let changed = version > 0 && number % 10 == 0;
        let seed = format!("image {image} file {number} {changed}");
        let mut bytes = vec![0; OWN_BYTES];
        blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
        std::fs::write(to.join(format!("file-{number}")), bytes)?;
    }
    Ok(())
}

impl Images {
    fn build(bench: &Bench, engine: Engine) -> Result<Self> {
        let mut images = Self { engine, names: [Vec::new(), Vec::new()] };
        let (shared, own_folder) = (bench.work.join("shared"), bench.work.join("own"));
        let count = if bench.sized(100) < 100 { SETS } else { IMAGES };
        for version in 0..2 {
            for image in 0..count {
                // Whoever builds an image anew copies its dependencies anew.
                dependencies(&shared, image % SETS, version)?;
                own(&own_folder, image, version)?;
                let name = format!("lifeboat-bench-{}/image-{image}:{}", std::process::id(), version + 1);
                let below = format!("{name}-below");
                images.layer("lifeboat-test/base:1", &shared, &below)?;
                images.layer(&below, &own_folder, &name)?;
                images.engine.say(&["rmi", "--no-prune", &below])?;
                images.names[version].push(name);
            }
        }
        Ok(images)
    }

    /// An image with one layer more.
    fn layer(&self, from: &str, folder: &Path, name: &str) -> Result<()> {
        let container = self.engine.say(&["create", from, "true"])?;
        let source = format!("{}/.", folder.display());
        let place = format!("{container}:/srv");
        let made = self
            .engine
            .say(&["cp", &source, &place])
            .and_then(|_| self.engine.say(&["commit", &container, name]));
        self.engine.say(&["rm", &container])?;
        made.map(drop)
    }

    /// The archive of one of them.
    fn save(&self, name: &str, to: &Path) -> Result<u64> {
        self.engine.say(&["save", "--output", &to.to_string_lossy(), name])?;
        Ok(std::fs::metadata(to)?.len())
    }
}

/// Runs `store` for each image of each version, and says what the repository then takes.
fn sample(
    home: &Home,
    images: &Images,
    command: &str,
    store: impl Fn(&str) -> Result<(f64, u64)>,
) -> Result<Sample> {
    let mut sample = Sample::new(command);
    let mut memory = 0;
    let mut before = 0;
    for (names, what) in images.names.iter().zip(["first versions", "second versions"]) {
        let mut seconds = 0.0;
        for name in names {
            let (time, most) = store(name)?;
            seconds += time;
            memory = memory.max(most);
        }
        let stored = home.stored_bytes()?;
        sample = sample.with(&format!("{what}: time"), Unit::Seconds, seconds).with(
            &format!("{what}: added"),
            Unit::Bytes,
            (stored - before) as f64,
        );
        before = stored;
    }
    Ok(sample.with("stored", Unit::Bytes, before as f64).with("memory", Unit::Memory, memory as f64))
}

fn lifeboat<'r>(
    bench: &'r Bench,
    who: &str,
    images: &'r Images,
    words: &'static [&'static str],
) -> Participant<'r> {
    let name = who.to_owned();
    Participant::new(who, move |round| {
        let (tool, home) = (bench.lifeboat(), Home(bench.work.join(name.replace(", ", "-"))));
        tool.init(&home)?;
        let command = |arguments: &[&str]| {
            let mut command = tool.command(&home);
            command.env("DOCKER_HOST", &images.engine.url).args(arguments);
            command
        };
        let all = [SNAPSHOT, &words.join(" ")].join(" ");
        let sample = sample(&home, images, all.trim(), |name| {
            let source = format!("image:{name}");
            let cost = Call::new(command(&[&["snapshot", &source], words].concat())).run()?;
            Ok((cost.seconds, cost.memory_bytes))
        })?;
        if round == 0 {
            comes_back(images, &command, !words.contains(&"portable"))?;
        }
        Ok(sample)
    })
}

/// The last image goes and comes back, with its layers, and under its id where that is kept.
fn comes_back(
    images: &Images,
    command: &dyn Fn(&[&str]) -> std::process::Command,
    keeps_id: bool,
) -> Result<()> {
    let name = images.names[1].last().context("there are images")?;
    let format = if keeps_id { "{{.Id}} {{.RootFS.Layers}}" } else { "{{.RootFS.Layers}}" };
    let described = || images.engine.say(&["image", "inspect", "--format", format, name]);
    let before = described()?;
    images.engine.say(&["rmi", name])?;
    crate::tools::quietly(&mut command(&["restore", "latest", "--to", "image:"]))?;
    let after = described()?;
    ensure!(after == before, "{name} came back as another image: {after}, and not {before}");
    Ok(())
}

/// What restic makes of the archives, one behind the other.
fn restic<'r>(bench: &'r Bench, who: &str, tool: Tool, images: &'r Images) -> Participant<'r> {
    let archive = bench.work.join("image.tar");
    Participant::new(who, move |_| {
        let home = Home(bench.work.join("restic"));
        tool.init(&home)?;
        sample(&home, images, "docker save NAME | restic backup --stdin", |name| {
            images.save(name, &archive)?;
            // Without saving, which is the engine's time.
            let mut call = Call::new(tool.backup_stream(&home));
            call.input = Some(archive.clone());
            let cost = call.run()?;
            Ok((cost.seconds, cost.memory_bytes))
        })
    })
}

pub(crate) fn images(bench: &Bench) -> Result<RowResult> {
    let graph = Images::build(bench, Engine::named("graph")?)?;
    let containerd = Images::build(bench, Engine::named("containerd")?)?;
    let archive = bench.work.join("image.tar");
    let tars = |images: &Images| -> Result<u64> {
        images.names.iter().flatten().map(|name| images.save(name, &archive)).sum()
    };
    let (graph_tars, containerd_tars): (u64, u64) = (
        tars(&graph).context("an image cannot be saved")?,
        tars(&containerd).context("an image cannot be saved")?,
    );
    let data = format!(
        "{} images on one base of 77 MB, two versions of each; their archives together {:.0} MB, of the containerd store {:.0} MB",
        graph.names[0].len(),
        graph_tars as f64 / 1e6,
        containerd_tars as f64 / 1e6
    );
    let mut participants = vec![
        lifeboat(bench, "lifeboat", &graph, &[]),
        lifeboat(bench, "lifeboat, containerd store", &containerd, &[]),
        lifeboat(bench, "lifeboat, containerd store, portable", &containerd, &["--images", "portable"]),
    ];
    for (who, images) in [("restic", &graph), ("restic, containerd store", &containerd)] {
        let tool = bench.tools_of(&[Kind::Restic])?.into_iter().next();
        participants.extend(tool.map(|tool| restic(bench, who, tool, images)));
    }
    for (who, bytes) in [("docker save", graph_tars), ("docker save, containerd store", containerd_tars)] {
        participants.push(Participant::new(who, move |_| {
            Ok(Sample::new("docker save NAME, for each").with("stored", Unit::Bytes, bytes as f64))
        }));
    }
    bench.row("images", data, participants)
}
