//! One tree without what is lost.
//!
//! Must stay true: what can be read is kept as it is, with every folder above it; a folder whose own entry is lost gets
//! one that only its owner may read. Names of at most [`NAMED_MAX`] lost entries are kept; the rest is counted.

use crate::cursor::{Next, TreeCursor};
use crate::error::{Error, ErrorKind, Result};
use crate::lists::read_list_node;
use crate::reader::ChunkReader;
use crate::repository::Repository;
use crate::sink::ChunkSink;
use crate::tree::TreeBuilder;
use lifeboat_format::entry::{ListRoot, XattrValue};
use lifeboat_format::keys::Keys;
use lifeboat_format::list::{ListChild, ListNode, Piece};
use lifeboat_format::region::ChunkKind;
use lifeboat_format::snapshot::TreeRoot;
use lifeboat_format::{ChunkId, Content, Entry, Metadata, Node, TreePath};

/// Lost entries that are named.
const NAMED_MAX: usize = 10_000;

/// Something that is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The source's full name.
    pub source: Vec<u8>,
    /// The path in it: of an entry, or of the first of several whose names are lost too.
    pub path: TreePath,
    /// How many entries; more than one where their names are lost.
    pub entries: u64,
}

/// What was lost of a snapshot.
#[derive(Debug, Default)]
pub(super) struct Losses {
    pub(super) named: Vec<Lost>,
    pub(super) entries: u64,
    /// Lengths of lost files, as far as they are known.
    pub(super) bytes: u64,
}

/// Where the rest goes.
pub(super) enum Output<'s> {
    /// It is only looked at.
    Nowhere,
    /// Into a new tree.
    Tree { builder: Box<TreeBuilder>, sink: &'s mut ChunkSink },
}

impl<'s> Output<'s> {
    pub(super) fn tree(keys: &Keys, sink: &'s mut ChunkSink) -> Self {
        Self::Tree { builder: Box::new(TreeBuilder::new(keys)), sink }
    }

    fn push(&mut self, path: &TreePath, entry: &Entry) -> Result<()> {
        match self {
            Self::Nowhere => Ok(()),
            Self::Tree { builder, sink } => {
                builder.push(path, entry, &mut |node| sink.add(ChunkKind::Tree, &node))
            }
        }
    }

    /// The new tree.
    pub(super) fn finish(self) -> Result<TreeRoot> {
        match self {
            Self::Nowhere => Err(Error::Usage("nothing was built".into())),
            Self::Tree { builder, sink } => builder.finish(&mut |node| sink.add(ChunkKind::Tree, &node)),
        }
    }
}

/// Goes through one tree.
pub(super) struct Salvager<'r> {
    repository: &'r Repository,
    reader: &'r ChunkReader,
    source: Vec<u8>,
    losses: &'r mut Losses,
    /// The folders above the entry that was kept last.
    folders: Vec<TreePath>,
    is_empty: bool,
}

fn is_loss(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound)
}

impl<'r> Salvager<'r> {
    pub(super) fn new(
        repository: &'r Repository,
        reader: &'r ChunkReader,
        source: Vec<u8>,
        losses: &'r mut Losses,
    ) -> Self {
        Self { repository, reader, source, losses, folders: Vec::new(), is_empty: true }
    }

    /// Gives what is left of the tree to `output`.
    pub(super) fn run(&mut self, root: TreeRoot, output: &mut Output<'_>) -> Result<()> {
        let mut cursor = TreeCursor::new(self.reader, root);
        while let Some(next) = cursor.peek().cloned() {
            match next {
                Next::Child(child, _) => match cursor.descend() {
                    Err(error) if is_loss(&error) => {
                        self.lost(child.first, child.entries);
                        cursor.step_over()?;
                    }
                    result => result?,
                },
                Next::Entry(path, entry) => {
                    self.entry(path, entry, output)?;
                    cursor.step_over()?;
                }
            }
        }
        // A source is something, even where nothing of it is left.
        if self.is_empty { self.folder(TreePath::root(), output) } else { Ok(()) }
    }

    /// Makes an entry for a folder whose own was lost.
    fn folder(&mut self, path: TreePath, output: &mut Output<'_>) -> Result<()> {
        let metadata = Metadata { mode: 0o700, ..Metadata::default() };
        output.push(&path, &Entry::directory(metadata))?;
        self.is_empty = false;
        self.folders.push(path);
        Ok(())
    }

    fn lost(&mut self, path: TreePath, entries: u64) {
        self.losses.entries += entries;
        if self.losses.named.len() < NAMED_MAX {
            self.losses.named.push(Lost { source: self.source.clone(), path, entries });
        }
    }

    fn entry(&mut self, path: TreePath, mut entry: Entry, output: &mut Output<'_>) -> Result<()> {
        if !self.has_content(&entry)? {
            if let Node::File { size, .. } = entry.node {
                self.losses.bytes += size;
            }
            self.lost(path, 1);
            return Ok(());
        }
        let before = entry.metadata.xattrs.len();
        let mut kept = Vec::with_capacity(before);
        for xattr in std::mem::take(&mut entry.metadata.xattrs) {
            let is_there = match xattr.value {
                XattrValue::Chunk(id, _) => self.are_stored(&[id])?,
                XattrValue::Inline(_) => true,
            };
            kept.extend(is_there.then_some(xattr));
        }
        if kept.len() < before {
            self.lost(path.clone(), 1);
        }
        entry.metadata.xattrs = kept;
        self.folders_above(&path, output)?;
        output.push(&path, &entry)?;
        self.is_empty = false;
        if matches!(entry.node, Node::Directory) {
            self.folders.push(path);
        }
        Ok(())
    }

    /// Makes entries for the folders above `path` that were lost.
    fn folders_above(&mut self, path: &TreePath, output: &mut Output<'_>) -> Result<()> {
        while self.folders.last().is_some_and(|folder| !path.starts_with(folder)) {
            self.folders.pop();
        }
        let mut missing = Vec::new();
        let mut above = path.parent();
        while let Some(folder) = above.take_if(|folder| self.folders.last() != Some(folder)) {
            above = folder.parent();
            missing.push(folder);
        }
        missing.into_iter().rev().try_for_each(|folder| self.folder(folder, output))
    }

    fn has_content(&self, entry: &Entry) -> Result<bool> {
        match &entry.node {
            Node::File { content: Content::Chunk(id), .. } => self.are_stored(&[*id]),
            Node::File { content: Content::Pieces(_, pieces), .. } => {
                let chunks: Vec<ChunkId> = pieces.iter().filter_map(Piece::chunk).collect();
                self.are_stored(&chunks)
            }
            Node::File { content: Content::List(ListRoot { id, height, .. }), size } => {
                self.has_list(ListChild { id: *id, bytes: *size }, *height)
            }
            _ => Ok(true),
        }
    }

    fn has_list(&self, child: ListChild, height: u8) -> Result<bool> {
        match read_list_node(self.reader, &child, height) {
            Err(error) if is_loss(&error) => Ok(false),
            Err(error) => Err(error),
            Ok(ListNode::Leaf(pieces)) => {
                let chunks: Vec<ChunkId> = pieces.iter().filter_map(Piece::chunk).collect();
                self.are_stored(&chunks)
            }
            Ok(ListNode::Inner(_, children)) => {
                for child in children {
                    if !self.has_list(child, height - 1)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }

    fn are_stored(&self, chunks: &[ChunkId]) -> Result<bool> {
        Ok(self.repository.lookup()?.contains(chunks)?.into_iter().all(|is_there| is_there))
    }
}
