//! Checks a repository: that every snapshot can be read back, and, on demand, that every stored byte is sound.
//!
//! Must stay true: check only reads. Every kind of damage is named with the object that has it and the snapshots that
//! it touches; trouble with one object never hides another's. Memory does not grow with the repository, except by some
//! 200 bytes a pack.

mod damage;
mod depth;
mod findings;
mod packs;
pub(crate) mod seen;

use crate::cursor::NodeSource;
use crate::error::{Error, Result};
use crate::lists::read_list_node;
use crate::lookup::read_index_object;
use crate::reader::ChunkReader;
use crate::repository::Repository;
use damage::Damage;
use depth::Chosen;
pub use depth::{Depth, Part};
pub use findings::FILES_NAMED_MAX;
use findings::Findings;
use lifeboat_format::entry::{ListRoot, XattrValue};
use lifeboat_format::index::{IndexObject, IndexedPack};
use lifeboat_format::list::{ListChild, ListNode, Piece};
use lifeboat_format::node::{Item, NodeReader};
use lifeboat_format::region::ChunkKind;
use lifeboat_format::snapshot::TreeRoot;
use lifeboat_format::{ChunkId, Content, Entry, IndexName, Node, ObjectKind, PackName, SnapshotId, TreePath};
use packs::PackChecker;
use seen::SeenNodes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The object or chunk.
    pub what: String,
    /// What is wrong with it, with its causes.
    pub detail: String,
    /// Snapshots that cannot be restored completely because of it; empty when none is known to need it.
    pub snapshots: Vec<SnapshotId>,
    /// What it touches in them, by source and path: at most [`FILES_NAMED_MAX`].
    pub files: Vec<Vec<u8>>,
}

/// What a check found.
#[derive(Debug, Default)]
pub struct Report {
    /// Everything that is wrong; beyond ten thousand objects and as many chunks, only how much more there is.
    pub findings: Vec<Finding>,
    /// Packs that no index object names: left by interrupted runs, harmless.
    pub unindexed_packs: u64,
    /// Snapshots checked.
    pub snapshots: u64,
    /// Packs checked.
    pub packs: u64,
    /// Chunks in them.
    pub chunks: u64,
    /// Bytes read from packs.
    pub bytes_read: u64,
}

/// Progress of a check, for a display.
#[derive(Debug, Default)]
pub struct Progress {
    /// Packs to check.
    pub packs_total: AtomicU64,
    /// Packs checked.
    pub packs_done: AtomicU64,
    /// Set to stop.
    pub interrupted: Arc<AtomicBool>,
}

struct Check<'r> {
    repository: &'r Repository,
    reader: ChunkReader,
    report: Report,
    findings: Findings,
    /// Nodes of trees and lists below which everything is sound.
    sound: SeenNodes,
    /// What packs should hold but do not.
    damage: Damage,
    current: Option<SnapshotId>,
    /// The source that is walked, by its full name, and the path of the file whose list is read.
    source: Vec<u8>,
    path: TreePath,
}

/// Checks `repository`.
pub fn check(repository: &Repository, depth: Depth, progress: &Progress) -> Result<Report> {
    let mut check = Check::new(repository);
    check.slots()?;
    let packs = check.index_objects()?;
    check.packs(&packs, depth, progress)?;
    check.snapshots(progress)?;
    Ok(Report { findings: check.findings.finish(), ..check.report })
}

/// Reads all packs; gives what is wrong with them, and the names of those that are damaged or missing.
pub(crate) fn damaged_packs(
    repository: &Repository,
    progress: &Progress,
) -> Result<(Vec<Finding>, BTreeSet<PackName>)> {
    let mut check = Check::new(repository);
    let packs = check.index_objects()?;
    check.packs(&packs, Depth::Data, progress)?;
    let damaged = check.damage.packs().copied().collect();
    Ok((check.findings.finish(), damaged))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl<'r> Check<'r> {
    fn new(repository: &'r Repository) -> Self {
        // The local index was opened for it, so the folder is there; without one there is still the system's.
        let scratch = repository.cache_directory().filter(|folder| folder.is_dir()).cloned();
        Self {
            repository,
            reader: ChunkReader::new(repository),
            report: Report::default(),
            findings: Findings::default(),
            sound: SeenNodes::new(scratch.unwrap_or_else(std::env::temp_dir)),
            damage: Damage::default(),
            current: None,
            source: Vec::new(),
            path: TreePath::root(),
        }
    }

    fn finding(&mut self, what: String, error: &dyn std::error::Error) {
        self.findings.object(what, chain(error));
    }

    fn slots(&mut self) -> Result<()> {
        for listed in self
            .repository
            .store()
            .list(ObjectKind::Slot)
            .map_err(Error::store("key slots cannot be listed"))?
        {
            let bytes =
                self.repository.store().get(&listed.key).map_err(Error::store("a key slot cannot be read"));
            let result = bytes.and_then(|bytes| {
                lifeboat_format::slot::Slot::decode(&bytes)
                    .map_err(Error::format("a key slot cannot be read"))
            });
            if let Err(error) = result {
                self.finding(listed.key.to_string(), &error);
            }
        }
        Ok(())
    }

    /// Reads every index object; memory holds one at a time, and which objects name which packs.
    fn index_objects(&mut self) -> Result<BTreeMap<PackName, (IndexName, u32)>> {
        let store = self.repository.store();
        let mut packs = BTreeMap::new();
        for listed in
            store.list(ObjectKind::Index).map_err(Error::store("the index objects cannot be listed"))?
        {
            let name = IndexName(listed.key.name().try_into().expect("an index object's name has 32 bytes"));
            match read_index_object(store, self.repository.keys(), &name) {
                Ok(object) => packs.extend(object.packs.iter().map(|pack| (pack.name, (name, pack.bytes)))),
                Err(error) => self.finding(listed.key.to_string(), &error),
            }
        }
        Ok(packs)
    }

    fn packs(
        &mut self,
        packs: &BTreeMap<PackName, (IndexName, u32)>,
        depth: Depth,
        progress: &Progress,
    ) -> Result<()> {
        let store = self.repository.store();
        let stored: BTreeMap<PackName, u64> = store
            .list(ObjectKind::Pack)
            .map_err(Error::store("the packs cannot be listed"))?
            .iter()
            .map(|listed| {
                (PackName(listed.key.name().try_into().expect("a pack's name has 32 bytes")), listed.bytes)
            })
            .collect();
        self.report.unindexed_packs = stored.keys().filter(|name| !packs.contains_key(name)).count() as u64;
        progress.packs_total.store(packs.len() as u64, Ordering::Relaxed);
        let mut by_object: BTreeMap<IndexName, BTreeSet<PackName>> = BTreeMap::new();
        for (pack, (object, _)) in packs {
            by_object.entry(*object).or_default().insert(*pack);
        }
        let salt = lifeboat_format::SessionId::random().0;
        let chosen = Chosen::new(depth, salt, stored.values().sum());
        for (name, wanted) in by_object {
            let object = match read_index_object(store, self.repository.keys(), &name) {
                Ok(object) => object,
                // It was readable a moment ago.
                Err(error) => {
                    self.finding(format!("index object {name}"), &error);
                    continue;
                }
            };
            self.packs_of(object, &wanted, &stored, chosen, progress)?;
        }
        Ok(())
    }

    fn packs_of(
        &mut self,
        object: IndexObject,
        wanted: &BTreeSet<PackName>,
        stored: &BTreeMap<PackName, u64>,
        chosen: Chosen,
        progress: &Progress,
    ) -> Result<()> {
        let packs: Vec<IndexedPack> =
            object.packs.into_iter().filter(|pack| wanted.contains(&pack.name)).collect();
        let queue = Mutex::new(packs.iter());
        let results = Mutex::new(Vec::new());
        let bytes_read = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
                scope.spawn(|| {
                    let mut checker = PackChecker::new(self.repository, &self.reader, chosen, &bytes_read);
                    loop {
                        let next = queue.lock().map(|mut queue| queue.next()).ok().flatten();
                        let Some(pack) = next.filter(|_| !progress.interrupted.load(Ordering::Relaxed))
                        else {
                            break;
                        };
                        let bad = checker.check(pack, stored.get(&pack.name).copied());
                        progress.packs_done.fetch_add(1, Ordering::Relaxed);
                        if !bad.is_empty()
                            && let Ok(mut results) = results.lock()
                        {
                            results.push((pack.name, bad));
                        }
                    }
                });
            }
        });
        if progress.interrupted.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        self.report.bytes_read += bytes_read.into_inner();
        self.report.packs += packs.len() as u64;
        self.report.chunks += packs.iter().map(|pack| pack.ids.len() as u64).sum::<u64>();
        for (name, bad) in results.into_inner().unwrap_or_default() {
            for (error, loss) in bad {
                self.damage.add(name, loss);
                self.finding(format!("pack {name}"), &error);
            }
        }
        Ok(())
    }

    fn snapshots(&mut self, progress: &Progress) -> Result<()> {
        let list = self.repository.stored_snapshots()?;
        for (key, error) in &list.damaged {
            self.finding(key.to_string(), error);
        }
        for listed in &list.snapshots {
            self.current = Some(listed.snapshot.id);
            for source in &listed.snapshot.sources {
                if progress.interrupted.load(Ordering::Relaxed) {
                    return Err(Error::Interrupted);
                }
                self.source = source.full_name();
                self.tree(source.root, &TreePath::root())?;
            }
        }
        let distinct: BTreeSet<SnapshotId> = list.snapshots.iter().map(|listed| listed.snapshot.id).collect();
        self.report.snapshots = distinct.len() as u64;
        Ok(())
    }

    /// Notes that something is wrong for the snapshot being walked.
    fn wrong(&mut self, what: String, detail: String, path: &TreePath) {
        let mut file = self.source.clone();
        if !path.is_root() {
            file.push(b'/');
            file.extend(path.to_slashes());
        }
        self.findings.needed(self.current, what, detail, file);
    }

    /// Checks a subtree; `false` when something below it is damaged. Each distinct node is read once, unless it is
    /// damaged: then every snapshot that needs it is named.
    fn tree(&mut self, root: TreeRoot, first: &TreePath) -> Result<bool> {
        if self.sound.contains(&root.id) {
            return Ok(true);
        }
        let mut sound = true;
        let mut chunks = Vec::new();
        // One node per level is in memory, whatever its entries unfold to.
        let mut reader = match self.open_node(&root) {
            Ok(reader) => reader,
            Err(error) => {
                self.wrong(format!("tree node {}", root.id), chain(&error), first);
                return Ok(false);
            }
        };
        loop {
            sound &= match reader.next_item() {
                Ok(None) => break,
                Ok(Some(Item::Child(child))) => {
                    let below = TreeRoot { id: child.id, height: root.height - 1, entries: child.entries };
                    self.tree(below, &child.first)?
                }
                Ok(Some(Item::Entry(path, entry))) => self.entry(&path, &entry, &mut chunks)?,
                Err(error) => {
                    self.wrong(format!("tree node {}", root.id), chain(&error), first);
                    return Ok(false);
                }
            };
        }
        let bad = self.not_stored(&chunks)?;
        sound &= bad.is_empty();
        if sound {
            self.sound.insert(&root.id);
        } else if !bad.is_empty() {
            self.name_files(&root, &bad)?;
        }
        Ok(sound)
    }

    /// Reads a node once more, to say which of its entries need what is bad.
    fn name_files(&mut self, root: &TreeRoot, bad: &BTreeMap<ChunkId, &'static str>) -> Result<()> {
        let mut reader = self.open_node(root)?;
        while let Ok(Some(item)) = reader.next_item() {
            let Item::Entry(path, entry) = item else { continue };
            let mut chunks = Vec::new();
            direct_chunks(&entry, &mut chunks);
            for (id, detail) in chunks.iter().filter_map(|id| bad.get_key_value(id)) {
                self.wrong(format!("chunk {id}"), (*detail).to_owned(), &path);
            }
        }
        Ok(())
    }

    fn open_node(&self, root: &TreeRoot) -> Result<NodeReader<'static>> {
        let bytes = self.reader.read_node(ChunkKind::Tree, &root.id)?;
        let reader = NodeReader::new(bytes).map_err(Error::format("a tree node cannot be read"))?;
        if reader.height() == root.height {
            Ok(reader)
        } else {
            Err(Error::Damaged {
                what: format!("tree node {}", root.id),
                detail: "it has another height".into(),
            })
        }
    }

    fn entry(&mut self, path: &TreePath, entry: &Entry, chunks: &mut Vec<ChunkId>) -> Result<bool> {
        direct_chunks(entry, chunks);
        match &entry.node {
            Node::File { content: Content::List(ListRoot { id, height, .. }), size } => {
                self.path.clone_from(path);
                self.list(ListChild { id: *id, bytes: *size }, *height)
            }
            _ => Ok(true),
        }
    }

    fn list(&mut self, child: ListChild, height: u8) -> Result<bool> {
        if self.sound.contains(&child.id) {
            return Ok(true);
        }
        let sound = match read_list_node(&self.reader, &child, height) {
            Err(error) => {
                let path = self.path.clone();
                self.wrong(format!("chunk list {}", child.id), chain(&error), &path);
                return Ok(false);
            }
            Ok(ListNode::Leaf(pieces)) => {
                let chunks: Vec<ChunkId> = pieces.iter().filter_map(Piece::chunk).collect();
                let (bad, path) = (self.not_stored(&chunks)?, self.path.clone());
                for (id, detail) in &bad {
                    self.wrong(format!("chunk {id}"), (*detail).to_owned(), &path);
                }
                bad.is_empty()
            }
            Ok(ListNode::Inner(_, children)) => {
                let mut sound = true;
                for child in children {
                    sound &= self.list(child, height - 1)?;
                }
                sound
            }
        };
        if sound {
            self.sound.insert(&child.id);
        }
        Ok(sound)
    }

    /// Which of these chunks are not stored or, as far as was read, not sound; and why.
    fn not_stored(&self, chunks: &[ChunkId]) -> Result<BTreeMap<ChunkId, &'static str>> {
        let lookup = self.repository.lookup()?;
        let present = lookup.contains(chunks)?;
        let lost = self.damage.hits(lookup, chunks)?;
        let mut bad = BTreeMap::new();
        for ((id, present), lost) in chunks.iter().zip(present).zip(lost) {
            if !present {
                bad.insert(*id, "it is in no pack");
            } else if lost {
                bad.insert(*id, "its pack is damaged or missing");
            }
        }
        Ok(bad)
    }
}

/// The chunks that an entry names itself.
fn direct_chunks(entry: &Entry, chunks: &mut Vec<ChunkId>) {
    for xattr in &entry.metadata.xattrs {
        if let XattrValue::Chunk(id, _) = xattr.value {
            chunks.push(id);
        }
    }
    match &entry.node {
        Node::File { content: Content::Chunk(id), .. } => chunks.push(*id),
        Node::File { content: Content::Pieces(_, pieces), .. } => {
            chunks.extend(pieces.iter().filter_map(Piece::chunk));
        }
        _ => {}
    }
}
