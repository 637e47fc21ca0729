//! `repair index`: names again what no readable index object names, from the packs alone.
//!
//! Must stay true: an index object is removed only when it cannot be read and everything that is stored is named by others.
//! A pack is named only after every region of it was opened, because the names of chunks are computed from them; what
//! can be read of a pack that is damaged is stored anew, as any writer would. Naming a pack twice, or one that a
//! collection is about to delete, does no harm: writers list the packs themselves, after the condemned lists.

use crate::check::Finding;
use crate::collect::name_of;
use crate::error::{Error, ErrorKind, Result};
use crate::lookup::read_index_object;
use crate::reader::ChunkReader;
use crate::repository::Repository;
use crate::session::{Session, SessionOptions};
use crate::sink::ChunkSink;
use lifeboat_format::index::{IndexObject, IndexedPack};
use lifeboat_format::limits::PACK_BYTES_MAX;
use lifeboat_format::pack::{Directory, TRAILER_BYTES, Trailer};
use lifeboat_format::region::{Region, RegionOpener};
use lifeboat_format::{ChunkId, IndexName, ObjectKey, ObjectKind, PackName};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// An index object is put when it names so many chunks.
const CHUNKS_PER_OBJECT: usize = 256 << 10;
/// Or so many packs.
const PACKS_PER_OBJECT: usize = 4096;

/// What is wrong with the index, and what was done about it.
#[derive(Debug, Default)]
pub struct IndexRepaired {
    /// Index objects that cannot be read.
    pub damaged_objects: Vec<IndexName>,
    /// Packs that no readable index object names.
    pub unnamed_packs: u64,
    /// Their bytes.
    pub unnamed_bytes: u64,
    /// Packs among them that are named now; 0 of a plan.
    pub packs_named: u64,
    /// Chunks in those.
    pub chunks: u64,
    /// Packs among them that cannot be read as they are, and what is wrong with them.
    pub findings: Vec<Finding>,
    /// Bytes that were copied out of those.
    pub copied_bytes: u64,
}

/// What the index lacks.
struct Plan {
    damaged: Vec<IndexName>,
    unnamed: BTreeMap<PackName, u64>,
}

impl Plan {
    fn new(repository: &Repository) -> Result<Self> {
        let store = repository.store();
        // Listed first: a pack that comes later is named by its session.
        let packs = store.list(ObjectKind::Pack).map_err(Error::store("the packs cannot be listed"))?;
        let name = |key: &ObjectKey| PackName(key.name().try_into().expect("a pack's name has 32 bytes"));
        let mut unnamed: BTreeMap<PackName, u64> =
            packs.iter().map(|listed| (name(&listed.key), listed.bytes)).collect();
        let (mut damaged, mut read) = (Vec::new(), BTreeSet::new());
        // Twice: an object that took the place of others meanwhile is in the second listing.
        for _ in 0..2 {
            let objects =
                store.list(ObjectKind::Index).map_err(Error::store("the index objects cannot be listed"))?;
            for listed in &objects {
                let name = name_of(listed);
                if !read.insert(name) {
                    continue;
                }
                match read_index_object(store, repository.keys(), &name) {
                    Ok(object) => {
                        object.packs.iter().for_each(|pack| {
                            unnamed.remove(&pack.name);
                        });
                    }
                    Err(error) if error.kind() == ErrorKind::Damaged => damaged.push(name),
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(Self { damaged, unnamed })
    }

    fn report(&self) -> IndexRepaired {
        IndexRepaired {
            damaged_objects: self.damaged.clone(),
            unnamed_packs: self.unnamed.len() as u64,
            unnamed_bytes: self.unnamed.values().sum(),
            ..IndexRepaired::default()
        }
    }
}

/// Says what the index lacks. Packs of running sessions count as unnamed until those are through.
pub fn plan_index(repository: &Repository) -> Result<IndexRepaired> {
    Plan::new(repository).map(|plan| plan.report())
}

/// Names what is not named, and removes what cannot be read.
pub fn repair_index(
    repository: &Repository,
    options: SessionOptions,
    interrupted: &AtomicBool,
) -> Result<IndexRepaired> {
    repository.config().check_writable().map_err(Error::format("this repository cannot be written to"))?;
    let plan = Plan::new(repository)?;
    let mut repair = Repair {
        repository,
        reader: ChunkReader::new(repository),
        opener: RegionOpener::new(repository.id()),
        options,
        salvage: None,
        report: plan.report(),
    };
    let result = repair.name_all(&plan, interrupted).and_then(|()| repair.settle());
    if let Some((session, _)) = repair.salvage.take() {
        repair.report.copied_bytes = session.packed_bytes();
        session.abandon();
    }
    result?;
    let keys: Vec<ObjectKey> =
        plan.damaged.iter().map(|name| ObjectKey::new(ObjectKind::Index, &name.0)).collect();
    let removed = repository.store().delete_many(&keys);
    removed.map_err(Error::store("damaged index objects cannot be removed"))?;
    Ok(repair.report)
}

struct Repair<'r> {
    repository: &'r Repository,
    reader: ChunkReader,
    opener: RegionOpener,
    options: SessionOptions,
    /// Takes what can be read of packs that cannot be named.
    salvage: Option<(Arc<Session>, ChunkSink)>,
    report: IndexRepaired,
}

/// A region's plaintext with the names of its chunks.
struct Opened {
    plain: Vec<u8>,
    ids: Vec<ChunkId>,
}

impl Repair<'_> {
    fn name_all(&mut self, plan: &Plan, interrupted: &AtomicBool) -> Result<()> {
        let (mut packs, mut chunks, mut broken) = (Vec::new(), 0, Vec::new());
        for (name, bytes) in &plan.unnamed {
            if interrupted.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            match self.describe(*name, *bytes) {
                Ok(pack) => {
                    chunks += pack.ids.len();
                    packs.push(pack);
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if error.kind() == ErrorKind::Damaged => {
                    self.found(name, &error);
                    broken.push((*name, *bytes));
                }
                Err(error) => return Err(error),
            }
            if chunks >= CHUNKS_PER_OBJECT || packs.len() >= PACKS_PER_OBJECT {
                self.put(std::mem::take(&mut packs))?;
                chunks = 0;
            }
        }
        self.put(packs)?;
        // Afterwards, so that what other packs hold is known and not stored twice.
        broken.into_iter().try_for_each(|(name, bytes)| self.copy_readable(name, bytes))
    }

    fn found(&mut self, name: &PackName, error: &Error) {
        let cause = std::error::Error::source(error).map_or_else(String::new, |cause| format!(": {cause}"));
        let what = format!("pack {name}");
        self.report.findings.push(Finding {
            what,
            detail: format!("{error}{cause}"),
            snapshots: Vec::new(),
            files: Vec::new(),
        });
    }

    fn put(&mut self, packs: Vec<IndexedPack>) -> Result<()> {
        if packs.is_empty() {
            return Ok(());
        }
        self.report.packs_named += packs.len() as u64;
        self.report.chunks += packs.iter().map(|pack| pack.ids.len() as u64).sum::<u64>();
        let (name, bytes) = IndexObject::new(packs)
            .encode(self.repository.keys())
            .map_err(Error::format("an index object cannot be made"))?;
        let key = ObjectKey::new(ObjectKind::Index, &name.0);
        self.repository.store().put(&key, &bytes).map_err(Error::store(format!("{key} cannot be stored")))
    }

    fn read(&self, name: &PackName, offset: u64, length: usize) -> Result<Vec<u8>> {
        let key = ObjectKey::new(ObjectKind::Pack, &name.0);
        let mut bytes = vec![0; length];
        let read = self.repository.store().get_range(&key, offset, &mut bytes);
        read.map_err(Error::store(format!("{key} cannot be read")))?;
        Ok(bytes)
    }

    fn directory(&self, name: &PackName, bytes: u64) -> Result<Directory> {
        let damaged = || Error::format(format!("pack {name} has no sound directory"));
        let too_long = bytes > u64::from(PACK_BYTES_MAX) || bytes < TRAILER_BYTES as u64;
        if too_long {
            let detail = format!("it cannot have {bytes} bytes");
            return Err(Error::Damaged { what: format!("pack {name}"), detail });
        }
        let tail = self.read(name, bytes - TRAILER_BYTES as u64, TRAILER_BYTES)?;
        let trailer = Trailer::decode(&tail, bytes).map_err(damaged())?;
        let length = trailer.directory_bytes as usize;
        let sealed = self.read(name, bytes - (TRAILER_BYTES + length) as u64, length)?;
        trailer.open(self.repository.keys(), &sealed, bytes).map_err(damaged())
    }

    fn open(
        &mut self,
        name: &PackName,
        directory: &Directory,
        region: &Region,
        offset: u32,
    ) -> Result<Opened> {
        let mut stored = self.read(name, u64::from(offset), region.head.stored_bytes as usize)?;
        let session = self.reader.session_key(&directory.envelopes[usize::from(region.head.envelope)])?;
        let mut plain = Vec::new();
        self.opener
            .open(&region.head, &session, &mut stored, &mut plain)
            .map_err(Error::format(format!("pack {name} is damaged at byte {offset}")))?;
        let chunks = split(&plain, &region.chunk_bytes);
        let ids = self.repository.keys().chunk_ids(region.head.kind, &chunks);
        Ok(Opened { ids, plain })
    }

    /// What an index object says of a pack.
    fn describe(&mut self, name: PackName, bytes: u64) -> Result<IndexedPack> {
        let directory = self.directory(&name, bytes)?;
        let offsets: Vec<u32> = directory.offsets().collect();
        let mut ids = Vec::new();
        for (region, offset) in directory.regions.iter().zip(offsets) {
            ids.extend(self.open(&name, &directory, region, offset)?.ids);
        }
        Ok(IndexedPack { name, bytes: bytes as u32, directory, ids })
    }

    /// Stores the chunks of the regions that can be opened. The pack itself stays unnamed, for a collection to delete.
    fn copy_readable(&mut self, name: PackName, bytes: u64) -> Result<()> {
        let directory = match self.directory(&name, bytes) {
            Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound) => return Ok(()),
            result => result?,
        };
        let offsets: Vec<u32> = directory.offsets().collect();
        for (region, offset) in directory.regions.iter().zip(offsets) {
            let opened = match self.open(&name, &directory, region, offset) {
                Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound) => continue,
                result => result?,
            };
            let plain = split(&opened.plain, &region.chunk_bytes);
            let chunks: Vec<(ChunkId, &[u8])> = opened.ids.into_iter().zip(plain).collect();
            let sink = self.sink()?;
            sink.add_named(region.head.kind, &chunks)?;
            sink.seal_full()?;
        }
        Ok(())
    }

    fn sink(&mut self) -> Result<&mut ChunkSink> {
        let salvage = match self.salvage.take() {
            Some(salvage) => salvage,
            None => {
                let session = Session::begin(self.repository, self.options.clone(), Vec::new())?;
                let sink = ChunkSink::new(&session)?;
                (session, sink)
            }
        };
        Ok(&mut self.salvage.insert(salvage).1)
    }

    fn settle(&mut self) -> Result<()> {
        let Some((session, sink)) = &mut self.salvage else { return Ok(()) };
        sink.flush()?;
        session.settle()
    }
}

/// The chunks of a region; its directory was checked to fill it exactly.
fn split<'p>(plain: &'p [u8], lengths: &[u32]) -> Vec<&'p [u8]> {
    let mut rest = plain;
    lengths
        .iter()
        .map_while(|bytes| {
            let (chunk, behind) = rest.split_at_checked(*bytes as usize)?;
            rest = behind;
            Some(chunk)
        })
        .collect()
}
