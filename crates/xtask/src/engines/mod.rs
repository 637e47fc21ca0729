//! `cargo xtask engines`: Docker engines of our own for the tests, the demonstration and the measurements.
//!
//! Three of them, so that nothing is true on one engine only: the one of the system's release, and a current one with each
//! of its two image stores. They have their own data, sockets, containerd and network namespaces; an engine that the
//! machine's owner runs is neither used nor seen.
//!
//! Must stay true: everything is made under one lock, so that two runs at once make it once; what was half made by a
//! killed run is made again; an engine that somebody uses is not stopped by somebody else's test run; and no engine
//! inherits a descriptor, or it would keep the locks of those who started it.
//! Read next: [`engine`] for one engine's life, [`programs`] for where they come from, [`images`] for what they run.

pub(crate) mod engine;
pub(crate) mod flavour;
mod images;
mod mounts;
mod process;
pub(crate) mod programs;
mod shifted;

use crate::failure::{Failure, Result, While};
use crate::packages;
use crate::place::Place;
use crate::step;
use engine::Engine;
use flavour::Flavour;
pub(crate) use images::Wanted;
use std::fs::{File, TryLockError};
use std::path::PathBuf;

/// Where the engines keep what lasts, and what does not.
#[derive(Debug, Clone)]
pub(crate) struct Folders {
    /// Programs, images, data; below the cache.
    pub(crate) cache: PathBuf,
    /// Sockets, process ids, logs; here paths are short enough for a socket's name.
    pub(crate) run: PathBuf,
    /// Tells the engines of one cache from those of another.
    pub(crate) word: String,
}

impl Folders {
    pub(crate) fn of(place: &Place) -> Self {
        let cache = place.cache.join("engines");
        let word = format!("{:08x}", fingerprint(cache.as_os_str().as_encoded_bytes()) as u32);
        Self { run: PathBuf::from("/run/lifeboat-engines").join(&word), cache, word }
    }

    /// Whoever needs the engines to go on running holds this lock shared.
    pub(crate) fn users_lock(&self) -> PathBuf {
        self.cache.join("users.lock")
    }

    /// There while the engines run only because a test run needed them.
    fn borrowed(&self) -> PathBuf {
        self.cache.join("started-by-a-test-run")
    }

    /// Makes the folders and waits for whoever else is at work in them.
    fn lock(&self) -> Result<File> {
        for folder in [&self.cache, &self.run] {
            std::fs::create_dir_all(folder).while_doing(format_args!("make {}", folder.display()))?;
        }
        let path = self.cache.join("lock");
        let file = open_lock(&path)?;
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                println!("    waiting for another run that prepares the engines")
            }
            Err(TryLockError::Error(_)) => {}
        }
        file.lock().while_doing(format_args!("lock {}", path.display()))?;
        Ok(file)
    }
}

fn open_lock(path: &std::path::Path) -> Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .while_doing(format_args!("open {}", path.display()))
}

/// FNV-1a: the same on every machine and in every release, and nobody is kept out by it.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// What `cargo xtask engines` was asked.
pub(crate) fn run(place: &Place, words: &[&str]) -> Result<()> {
    let folders = Folders::of(place);
    match words {
        ["start", rest @ ..] => {
            let (engines, wanted) = selected(&folders, rest)?;
            let urls = start(&folders, &engines, wanted)?;
            // Somebody asked for them by hand: they stay until somebody says otherwise. A test asks for one of its own, which
            // says nothing of the others.
            if engines.iter().any(Engine::is_shared) {
                let _ = std::fs::remove_file(folders.borrowed());
            }
            urls.iter().for_each(|line| println!("{line}"));
            Ok(())
        }
        ["stop", rest @ ..] => {
            let (engines, _) = selected(&folders, rest)?;
            let _lock = folders.lock()?;
            engines.iter().try_for_each(Engine::stop)
        }
        ["clean"] => {
            let _lock = folders.lock()?;
            every(&folders)?.iter().try_for_each(|engine| engine.stop().and_then(|()| engine.wipe()))
        }
        ["status"] => {
            for engine in every(&folders)? {
                let state =
                    engine.version().map_or("stopped".to_owned(), |version| format!("engine {version}"));
                println!("{:<24} {:<20} {}", engine.name, state, engine.url());
            }
            Ok(())
        }
        ["env"] => {
            println!(
                "export {}",
                environment(&folders).map(|(name, value)| format!("{name}='{value}'")).join(" ")
            );
            Ok(())
        }
        _ => Err(Failure::new(
            "say `engines start|stop|status|env|clean [system|graph|containerd]... [--instance NAME [--servers]]; instances may be remapped or rootless too`",
        )),
    }
}

/// The variables by which the tests find the engines: their URLs, the lock to hold shared, and compose. The folder that a socket
/// lies in is named after the engine.
fn environment(folders: &Folders) -> [(&'static str, String); 3] {
    let urls = Flavour::ALL.map(|flavour| Engine::shared(folders, flavour).url());
    [
        ("LIFEBOAT_TEST_ENGINES", urls.join(" ")),
        ("LIFEBOAT_TEST_ENGINES_LOCK", folders.users_lock().display().to_string()),
        ("LIFEBOAT_TEST_COMPOSE", programs::compose(&folders.cache).display().to_string()),
    ]
}

/// The engines that the words name; all three when they name none.
fn selected(folders: &Folders, words: &[&str]) -> Result<(Vec<Engine>, Wanted)> {
    let (names, instance, wanted) = match words {
        [names @ .., "--instance", instance] => (names, Some(*instance), Wanted::Base),
        [names @ .., "--instance", instance, "--servers"] => (names, Some(*instance), Wanted::Servers),
        names => (names, None, Wanted::All),
    };
    let flavours = match names {
        [] => Flavour::ALL.to_vec(),
        names => names.iter().map(|name| Flavour::parse(name)).collect::<Result<_>>()?,
    };
    let engines = flavours.into_iter().map(|flavour| match instance {
        Some(instance) => Engine::private(folders, flavour, instance),
        None => Ok(Engine::shared(folders, flavour)),
    });
    Ok((engines.collect::<Result<_>>()?, wanted))
}

/// Every engine that has run here, and the three shared ones.
fn every(folders: &Folders) -> Result<Vec<Engine>> {
    let mut engines = Flavour::ALL.map(|flavour| Engine::shared(folders, flavour)).to_vec();
    let names = std::fs::read_dir(folders.cache.join("data")).into_iter().flatten().flatten();
    for name in names.filter_map(|entry| entry.file_name().into_string().ok()) {
        if let Some((flavour, instance)) = name.split_once('-') {
            engines.push(Engine::private(folders, Flavour::parse(flavour)?, instance)?);
        }
    }
    Ok(engines)
}

/// Fetches, makes and starts whatever is not there yet; a line for each engine that then answers.
fn start(folders: &Folders, engines: &[Engine], wanted: Wanted) -> Result<Vec<String>> {
    packages::ensure_for_engines()?;
    let _lock = folders.lock()?;
    mounts::ensure_control_groups()?;
    let tars = images::ensure_tars(&folders.cache, engines, wanted)?;
    let programs: Vec<_> = engines
        .iter()
        .map(|engine| programs::ensure(&folders.cache, engine.flavour))
        .collect::<Result<_>>()?;
    // Starting is mostly waiting, and importing is as much the disk's work as the processor's.
    std::thread::scope(|scope| {
        let running: Vec<_> = engines
            .iter()
            .zip(programs)
            .map(|(engine, programs)| {
                let tars = &tars;
                scope.spawn(move || {
                    let version = engine.start(&programs)?;
                    images::import(engine, tars)?;
                    Ok(format!("{:<24} engine {version:<20} {}", engine.name, engine.url()))
                })
            })
            .collect();
        running
            .into_iter()
            .map(|thread| {
                thread.join().unwrap_or_else(|_| Err(Failure::new("a thread that starts engines panicked")))
            })
            .collect()
    })
}

/// Engines that a test run uses. Dropping it stops them, unless they were there before or somebody else uses them too.
pub(crate) struct InUse {
    folders: Folders,
    lock: Option<File>,
}

impl InUse {
    /// Starts what does not run yet.
    pub(crate) fn begin(place: &Place, flavours: &[Flavour], wanted: Wanted) -> Result<Self> {
        let folders = Folders::of(place);
        step::step("Docker engines", || {
            let shared = |flavour: &Flavour| Engine::shared(&folders, *flavour);
            let engines: Vec<Engine> = flavours.iter().map(shared).collect();
            let ran = Flavour::ALL.iter().map(shared).any(|engine| engine.version().is_some());
            for line in start(&folders, &engines, wanted)? {
                println!("    {line}");
            }
            if !ran {
                std::fs::write(folders.borrowed(), [])
                    .while_doing("note that this run started the engines")?;
            }
            let lock = open_lock(&folders.users_lock())?;
            lock.lock_shared().while_doing("say that the engines are in use")?;
            Ok(Self { folders: folders.clone(), lock: Some(lock) })
        })
    }

    /// Where one of them answers.
    pub(crate) fn url(&self, flavour: Flavour) -> String {
        Engine::shared(&self.folders, flavour).url()
    }

    /// For the tests' environment.
    pub(crate) fn environment(&self) -> [(&'static str, String); 3] {
        environment(&self.folders)
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        drop(self.lock.take());
        let Ok(_making) = self.folders.lock() else { return };
        let alone = open_lock(&self.folders.users_lock()).is_ok_and(|users| users.try_lock().is_ok());
        if alone && self.folders.borrowed().exists() {
            for flavour in Flavour::ALL {
                if let Err(failure) = Engine::shared(&self.folders, flavour).stop() {
                    eprintln!("Warning: {failure}");
                }
            }
            let _ = std::fs::remove_file(self.folders.borrowed());
        }
    }
}
