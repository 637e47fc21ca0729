//! From the parts of a bundle to a snapshot of this repository.
//!
//! Must stay true: the snapshot is listed only after the bundle's end was seen to be its end; the base is pinned by the
//! session's intent and listed after it. Files keep their cuts, so that a snapshot of the same tree that is taken here
//! afterwards finds all its chunks. What was stored when an import died is not stored again.

use super::error::{Error, Result};
use super::export::walk_base;
use super::follow::{Follower, Receiver};
use super::table::ChunkTable;
use super::{Counters, Imported, Parts, next_manifest};
use lifeboat_format::bundle::record::{Body, PortableEntry};
use lifeboat_format::bundle::{Base, Chunks, Manifest};
use lifeboat_format::list::Piece;
use lifeboat_format::region::ChunkKind;
use lifeboat_format::snapshot::{Snapshot, TreeRoot};
use lifeboat_format::{ChunkId, Entry, LinkGroup, Metadata, Node, SnapshotId, TreePath, Xattr};
use lifeboat_repo::Repository;
use lifeboat_repo::cursor::TreeCursor;
use lifeboat_repo::lists::ListBuilder;
use lifeboat_repo::reader::ChunkReader;
use lifeboat_repo::session::{Session, SessionOptions};
use lifeboat_repo::sink::ChunkSink;
use lifeboat_repo::tree::TreeBuilder;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What comes of what was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// The snapshot is listed.
    List,
    /// The repository has the snapshot; what it lacks of it is stored.
    Mend,
}

/// Takes a bundle in.
pub(super) fn import(
    repository: &Repository,
    options: SessionOptions,
    goal: Goal,
    counters: &Counters,
    parts: &mut Parts<'_>,
) -> Result<Imported> {
    let manifest = next_manifest(parts)?;
    let id = manifest.snapshot.id;
    if goal == Goal::List && find(repository, id)?.is_some() {
        return Ok(Imported::there_already(manifest));
    }
    let base = match &manifest.base {
        None => None,
        Some(base) => Some(find_base(repository, base)?),
    };
    let roots = base.iter().flat_map(|base| base.sources.iter().map(|source| source.root.id)).collect();
    let session = Session::begin(repository, options, roots)?;
    let result = receive(repository, (&session, goal), &manifest, base, counters, parts);
    match result {
        Ok((snapshot, totals)) => Ok(Imported {
            snapshot,
            base: manifest.base,
            kind: manifest.kind,
            totals,
            stored_bytes: session.stored.stored_bytes.load(Ordering::Relaxed),
            was_there: false,
        }),
        Err(error) => {
            session.abandon();
            Err(error)
        }
    }
}

pub(super) fn find(repository: &Repository, id: SnapshotId) -> Result<Option<Snapshot>> {
    let list = repository.snapshots()?;
    Ok(list.snapshots.into_iter().map(|listed| listed.snapshot).find(|snapshot| snapshot.id == id))
}

fn find_base(repository: &Repository, base: &Base) -> Result<Snapshot> {
    let missing = || Error::MissingBase { id: base.id, host: base.host.clone(), started: base.started };
    find(repository, base.id)?.ok_or_else(missing)
}

fn receive(
    repository: &Repository,
    (session, goal): (&Arc<Session>, Goal),
    manifest: &Manifest,
    base: Option<Snapshot>,
    counters: &Counters,
    parts: &mut Parts<'_>,
) -> Result<(Snapshot, lifeboat_format::bundle::Totals)> {
    let reader = ChunkReader::new(repository);
    let mut table = ChunkTable::new();
    if let (Some(wanted), Some(base)) = (&manifest.base, &base) {
        // Beside a condemned list nothing is pinned.
        if !session.may_pin() {
            return Err(lifeboat_repo::Error::Collecting.into());
        }
        // The intent pins what is listed after it was put.
        if find_base(repository, wanted)?.sources != base.sources {
            return Err(Error::OtherBase { id: base.id });
        }
        let mut unsure = Unsure::new(session)?;
        let digest = walk_base(&reader, base, counters, &mut |id, bytes| {
            unsure.ask(id)?;
            table.push(id, bytes)
        })?;
        unsure.finish()?;
        if digest.finish() != wanted.digest || digest.chunks != wanted.chunks {
            return Err(Error::OtherBase { id: base.id });
        }
    }
    let mut import = Import {
        repository,
        sink: ChunkSink::new(session)?,
        reader: &reader,
        base: base.as_ref(),
        manifest,
        roots: Vec::new(),
        source: None,
        entry: None,
    };
    let mut follower = Follower::new(manifest, table, counters);
    let received = (|| {
        for part in parts {
            follower.take(part?, &mut import)?;
        }
        follower.finish()
    })();
    let totals = match received {
        Ok(totals) => totals,
        Err(error) => {
            // What came is kept for the next try, where that is possible.
            let _ = import.sink.flush().and_then(|()| session.settle());
            return Err(error);
        }
    };
    import.sink.flush()?;
    let mut snapshot = manifest.snapshot.clone();
    for (source, root) in snapshot.sources.iter_mut().zip(import.roots) {
        source.root = root;
    }
    match goal {
        Goal::List => session.commit(&snapshot)?,
        Goal::Mend => {
            session.settle()?;
            session.abandon();
        }
    }
    Ok((snapshot, totals))
}

/// Chunks of the base that the index has to be asked for.
///
/// An index that lacks objects may lack what the base needs: then nothing of it is relied on without being looked up. Its
/// nodes are, by reading them.
struct Unsure<'s> {
    session: &'s Session,
    is_asking: bool,
    ids: Vec<ChunkId>,
}

/// Chunks that are asked for at once.
const ASKED: usize = 1024;

impl<'s> Unsure<'s> {
    fn new(session: &'s Session) -> Result<Self> {
        let is_asking = !session.repository().lookup()?.is_whole();
        Ok(Self { session, is_asking, ids: Vec::new() })
    }

    fn ask(&mut self, id: &ChunkId) -> Result<()> {
        if self.is_asking {
            self.ids.push(*id);
        }
        if self.ids.len() >= ASKED { self.finish() } else { Ok(()) }
    }

    fn finish(&mut self) -> Result<()> {
        let present = self.session.has(&self.ids)?;
        match self.ids.iter().zip(present).find(|(_, present)| !present) {
            Some((id, _)) => Err(lifeboat_repo::Error::MissingChunk(*id).into()),
            None => {
                self.ids.clear();
                Ok(())
            }
        }
    }
}

struct Import<'i> {
    repository: &'i Repository,
    sink: ChunkSink,
    reader: &'i ChunkReader,
    base: Option<&'i Snapshot>,
    manifest: &'i Manifest,
    roots: Vec<TreeRoot>,
    source: Option<OpenSource<'i>>,
    entry: Option<(TreePath, Entry, Option<ListBuilder>)>,
}

/// A source on its way into the repository.
struct OpenSource<'i> {
    builder: TreeBuilder,
    /// The base's entries that are still to come.
    rest: Option<TreeCursor<'i>>,
    ahead: Option<(TreePath, Entry)>,
}

impl OpenSource<'_> {
    /// Takes over the base's entries before `end`; gives the one at `end`.
    fn carry_over(&mut self, end: Option<&TreePath>, sink: &mut ChunkSink) -> Result<Option<Entry>> {
        let Some(rest) = &mut self.rest else { return Ok(None) };
        loop {
            if self.ahead.is_none() {
                self.ahead = rest.next_entry()?;
            }
            let Some((path, entry)) = self.ahead.take() else { return Ok(None) };
            match end {
                Some(end) if path == *end => return Ok(Some(entry)),
                Some(end) if path > *end => {
                    self.ahead = Some((path, entry));
                    return Ok(None);
                }
                _ => self.builder.push(&path, &entry, &mut |node| sink.add(ChunkKind::Tree, &node))?,
            }
        }
    }
}

fn no_source() -> Error {
    Error::Damaged("an entry belongs to no source".to_owned())
}

impl Receiver for Import<'_> {
    fn chunks(&mut self, chunks: &Chunks) -> Result<Vec<ChunkId>> {
        let parts: Vec<&[u8]> = chunks.iter().collect();
        let ids = self.repository.keys().chunk_ids(ChunkKind::Data, &parts);
        let named: Vec<(ChunkId, &[u8])> = ids.iter().copied().zip(parts).collect();
        self.sink.add_named(ChunkKind::Data, &named)?;
        self.sink.seal_full()?;
        Ok(ids)
    }

    fn begin_source(&mut self, base: Option<u32>) -> Result<()> {
        let rest = match base {
            None => None,
            Some(number) => {
                let source = self.base.and_then(|base| base.sources.get(number as usize));
                let source =
                    source.ok_or_else(|| Error::Damaged("a source of the base is not there".into()))?;
                Some(TreeCursor::new(self.reader, source.root))
            }
        };
        let builder = TreeBuilder::new(self.repository.keys());
        self.source = Some(OpenSource { builder, rest, ahead: None });
        Ok(())
    }

    fn removed(&mut self, path: &TreePath) -> Result<()> {
        let source = self.source.as_mut().ok_or_else(no_source)?;
        match source.carry_over(Some(path), &mut self.sink)? {
            Some(_) => Ok(()),
            None => Err(Error::Damaged(format!("`{path}` is to go, and the base does not have it"))),
        }
    }

    fn begin_entry(&mut self, entry: PortableEntry, xattrs: Vec<Xattr>) -> Result<()> {
        let source = self.source.as_mut().ok_or_else(no_source)?;
        source.carry_over(Some(&entry.path), &mut self.sink)?;
        let keys = self.repository.keys();
        let link = entry.link.map(|name| LinkGroup(keys.key_hash("link group", &name)));
        let metadata = Metadata { xattrs, ..entry.metadata };
        let (node, list) = match entry.body {
            Body::Other(node) => (node, None),
            Body::File(size, chunker, _) => {
                let content = lifeboat_format::Content::Empty;
                (Node::File { size, content }, Some(ListBuilder::new(chunker)))
            }
        };
        self.entry = Some((entry.path, Entry { node, metadata, link, torn: entry.torn }, list));
        Ok(())
    }

    fn piece(&mut self, piece: Piece) -> Result<()> {
        let Some((_, _, Some(list))) = &mut self.entry else { return Err(no_source()) };
        let sink = &mut self.sink;
        Ok(list.push(piece, &mut |node| sink.add(ChunkKind::List, &node))?)
    }

    fn end_entry(&mut self) -> Result<()> {
        let (Some((path, mut entry, list)), Some(source)) = (self.entry.take(), &mut self.source) else {
            return Err(no_source());
        };
        let sink = &mut self.sink;
        if let (Some(list), Node::File { content, .. }) = (list, &mut entry.node) {
            *content = list.finish(&mut |node| sink.add(ChunkKind::List, &node))?;
        }
        Ok(source.builder.push(&path, &entry, &mut |node| sink.add(ChunkKind::Tree, &node))?)
    }

    fn end_source(&mut self) -> Result<()> {
        let mut source = self.source.take().ok_or_else(no_source)?;
        source.carry_over(None, &mut self.sink)?;
        let sink = &mut self.sink;
        let root = source.builder.finish(&mut |node| sink.add(ChunkKind::Tree, &node))?;
        let expected = self.manifest.snapshot.sources.get(self.roots.len()).map(|source| source.root.entries);
        if expected != Some(root.entries) {
            let text = format!("a source has {} entries instead of {}", root.entries, expected.unwrap_or(0));
            return Err(Error::Damaged(text));
        }
        self.roots.push(root);
        Ok(())
    }
}
