//! Opening the cache: who writes, who spills, and what is thrown away.
//!
//! `DIR/lock` is locked by the one process that writes `DIR/db`; the kernel drops the lock with the process. RocksDB
//! has a lock of its own below it, which is only ever reached by the holder of ours.
//!
//! Must stay true: only the holder of the lock changes or removes `DIR/db`. A cache that is another repository's, has
//! another schema, or that RocksDB refuses is never read from.

use crate::blocks::BlockCache;
use crate::database::{Census, Database, SharedCensus};
use crate::index::{Bounds, Changing, Index, Recent, State};
use crate::record::{LIVE, ObjectStage, STATE, StateRecord};
use crate::spill::{self, Spill};
use crate::tables::SCRATCH_PREFIX;
use crate::{Error, ErrorKind, Result};
use lifeboat_format::RepositoryId;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

/// How often a reader tries again when the writer replaces files under its eyes.
const READER_ATTEMPTS: usize = 4;

/// What the caller may choose.
#[derive(Debug, Clone)]
pub struct Options {
    /// Memory for blocks of the database: the larger part of what the index takes.
    pub cache_bytes: usize,
    /// What that may be where an index that is opened has so many chunks that their filters need more.
    pub cache_bytes_max: usize,
    /// Where a process that cannot write the cache spills when there is no room beside the cache.
    pub fallback_directory: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self { cache_bytes: 32 << 20, cache_bytes_max: 112 << 20, fallback_directory: std::env::temp_dir() }
    }
}

/// How an [`Index`] works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// It holds the lock; what it learns is kept.
    Writer,
    /// It reads what was durable when it opened the cache; what it learns is thrown away with it.
    ReaderWithSpill,
    /// It has nothing but a throw-away database.
    Temporary,
}

/// What an index holds besides its databases, for as long as it lives.
pub(crate) enum Home {
    Cache { directory: PathBuf, _lock: Lock },
    Spill(Spill),
}

impl Home {
    /// Where changes are prepared: on the same file system as the database.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Cache { directory, .. } => directory,
            Self::Spill(spill) => spill.path(),
        }
    }
}

impl Index {
    /// Opens the cache in `directory`, which need not exist yet.
    ///
    /// Where this process cannot write it, because another one does, or the disk is full or read-only, what is there is
    /// read and the rest spilled; [`Self::opening`] and [`Self::not_writer_because`] tell.
    ///
    /// # Errors
    /// When there is no room even for a spill.
    pub fn open(directory: &Path, repository: RepositoryId, options: &Options) -> Result<Self> {
        let cache = BlockCache::new(options);
        let opened = match open_writer(directory, repository, &cache) {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                let emptied =
                    Self::discard(directory).and_then(|()| open_writer(directory, repository, &cache));
                emptied.map(|index| Self { rebuilt: true, ..index })
            }
            other => other,
        };
        opened.or_else(|reason| {
            let spills = [directory, &options.fallback_directory];
            let index = open_reader(directory, repository, &cache, &spills)?;
            Ok(Self { not_writer_because: Some(reason), ..index })
        })
    }

    /// Reads the cache in `directory` without writing it, even if nobody else does, and spills into
    /// [`Options::fallback_directory`]: what to do about [`ErrorKind::Full`], after dropping the index.
    pub fn open_spilling(directory: &Path, repository: RepositoryId, options: &Options) -> Result<Self> {
        let cache = BlockCache::new(options);
        open_reader(directory, repository, &cache, &[&options.fallback_directory])
    }

    /// Opens a throw-away index in `parent`; it is removed when dropped, or by the next one after a crash.
    pub fn open_temporary(parent: &Path, repository: RepositoryId, options: &Options) -> Result<Self> {
        let cache = BlockCache::new(options);
        open_spill(parent, repository, &cache, None)
    }

    /// Removes the cache in `directory`: what to do about [`ErrorKind::Corrupt`], after dropping the index.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] while somebody writes it: then only a temporary index helps.
    pub fn discard(directory: &Path) -> Result<()> {
        let _lock = lock(directory)?;
        remove(&directory.join("db"))
    }
}

/// The right to write a cache.
pub(crate) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a process that another thread just forked has the file open until it calls exec.
        let _ = self.0.unlock();
    }
}

fn lock(directory: &Path) -> Result<Lock> {
    // What it holds tells which chunks are where; that is nobody else's business.
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(directory).map_err(Error::io("create", directory))?;
    let path = directory.join("lock");
    let lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(Error::io("open", &path))?;
    match lock.try_lock() {
        Ok(()) => Ok(Lock(lock)),
        Err(TryLockError::WouldBlock) => Err(Error::Busy { directory: directory.to_path_buf() }),
        Err(TryLockError::Error(source)) => Err(Error::Io { action: "lock", path, source }),
    }
}

fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", directory)(error)),
        _ => Ok(()),
    }
}

fn open_writer(directory: &Path, repository: RepositoryId, cache: &BlockCache) -> Result<Index> {
    let lock = lock(directory)?;
    remove_stale_changes(directory);
    if let Ok(own) = lock.0.metadata() {
        spill::remove_stale(directory, own.uid());
    }
    let census = SharedCensus::default();
    let (top, state) = open_top(&directory.join("db"), repository, cache, &census)?;
    let home = Home::Cache { directory: directory.to_path_buf(), _lock: lock };
    let index = new_index(None, (top, state, census), home, (repository, cache)).settle()?;
    Ok(Index { opening: Opening::Writer, ..index })
}

/// Changes that a killed writer did not finish.
fn remove_stale_changes(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(SCRATCH_PREFIX)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Opens a database for writing. An empty one is anybody's: its first change says whose it is from then on.
fn open_top(
    path: &Path,
    repository: RepositoryId,
    cache: &BlockCache,
    census: &SharedCensus,
) -> Result<(Database, State)> {
    fs::create_dir_all(path).map_err(Error::io("create", path))?;
    let database = Database::open(path, cache, Arc::clone(census))?;
    if database.is_empty()? {
        return Ok((database, State::default()));
    }
    let mut state = load_state(&database, repository)?;
    state.top_has_chunks = true;
    *census.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
        Arc::new(Census { live: state.live.clone(), end: state.next_pack });
    Ok((database, state))
}

/// The state of a database with records, if it is this repository's.
fn load_state(database: &Database, repository: RepositoryId) -> Result<State> {
    let Some(bytes) = database.get(&[STATE])? else {
        return Err(database.corrupt("it does not say whose it is"));
    };
    let record = StateRecord::decode(&bytes).map_err(|error| database.corrupt(error.to_string()))?;
    if record.repository != repository {
        return Err(database.corrupt(format!("it is repository {}'s", record.repository)));
    }
    let StateRecord { next_pack, next_object, chunks, .. } = record;
    let mut state = State { next_pack, next_object, chunks, ..State::default() };
    database.scan(LIVE, &mut |key, value| {
        let block = key.get(1..).and_then(|block| block.try_into().ok()).map(u32::from_be_bytes);
        block
            .and_then(|block| state.live.load_block(block, value, next_pack))
            .ok_or_else(|| database.corrupt("its list of live packs is damaged"))
    })?;
    Ok(state)
}

/// Spills into the first of `parents` that takes it.
fn open_reader(
    directory: &Path,
    repository: RepositoryId,
    cache: &BlockCache,
    parents: &[&Path],
) -> Result<Index> {
    let spill_in = |parent: &Path| {
        let base = open_base(&directory.join("db"), repository, cache);
        match open_spill(parent, repository, cache, base) {
            // Damage that shows only behind the opening: what cannot be trusted is not read either.
            Err(error) if error.kind() == ErrorKind::Corrupt => open_spill(parent, repository, cache, None),
            other => other,
        }
    };
    let mut opened = spill_in(parents[0]);
    for parent in &parents[1..] {
        opened = opened.or_else(|_| spill_in(parent));
    }
    Ok(Index { opening: Opening::ReaderWithSpill, ..opened? })
}

/// The cache as somebody else writes it, if it is there and can be trusted.
fn open_base(path: &Path, repository: RepositoryId, cache: &BlockCache) -> Option<(Database, State)> {
    // While a table is being replaced, RocksDB may find it in the manifest but no longer on disk.
    (0..READER_ATTEMPTS).find_map(|_| {
        path.join("CURRENT").exists().then_some(())?;
        let database = Database::open_read_only(path, cache).ok()?;
        let state = load_state(&database, repository).ok()?;
        Some((database, state))
    })
}

fn open_spill(
    parent: &Path,
    repository: RepositoryId,
    cache: &BlockCache,
    base: Option<(Database, State)>,
) -> Result<Index> {
    let spill = Spill::create_in(parent)?;
    let census = SharedCensus::default();
    let (top, empty) = open_top(&spill.path().join("db"), repository, cache, &census)?;
    // Numbers go on where the base ends, so that one set of live packs covers both.
    let (base, state) = base.map_or((None, empty), |(base, state)| (Some(base), state));
    new_index(base, (top, state, census), Home::Spill(spill), (repository, cache)).settle()
}

fn new_index(
    base: Option<Database>,
    (top, state, census): (Database, State, SharedCensus),
    home: Home,
    (repository, cache): (RepositoryId, &BlockCache),
) -> Index {
    // Not again when the index grows: a process that fills a large one has compactions to find memory for.
    cache.fit(state.chunks);
    Index {
        base,
        top,
        home,
        repository,
        state: RwLock::new(state),
        changing: Mutex::new(Changing::default()),
        census,
        opening: Opening::Temporary,
        rebuilt: false,
        not_writer_because: None,
        recent: Mutex::new(Recent::default()),
        bounds: Bounds::default(),
    }
}

impl Index {
    /// Finishes what an earlier process left half-done.
    fn settle(self) -> Result<Self> {
        let retiring = self.objects(ObjectStage::Retiring)?;
        if !retiring.is_empty() {
            let mut changing = self.begin_change()?;
            self.retire_objects(&mut changing, &retiring)?;
        }
        Ok(self)
    }
}
