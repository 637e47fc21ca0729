//! Backs up what a tar archive holds: contents as they come, then the tree in order.
//!
//! An archive's members come in any order, and may name each other; a tree is built in order. So contents are stored while
//! the archive is read, entries are sorted, and the tree is built when the archive has ended as a whole one should.
//!
//! Must stay true:
//! - An archive that is not sound to its last byte makes no tree.
//! - Every entry lies in a directory, whatever the members' names are; what would not is reported and left out. Nothing
//!   on this machine is looked at for it: names are only names.
//! - The last member of a name counts, as when an archive is extracted.
//!
//! Memory is the sorter's, and each hard link with its target. Read next: [`crate::source::archive`], [`super::sorter`],
//! [`super::hard_links`].

use super::content::{ContentWriter, Failure};
use super::crew::Batch;
use super::hard_links::{Inode, Inodes, Link};
use super::hint::Earlier;
use super::parent::{Parent, ParentCursor};
use super::queue::WorkQueue;
use super::reading::store_xattrs;
use super::sorter::{Body, Sorter};
use super::tree_source::TreeOutcome;
use super::{Run, SourceName};
use crate::source::ancestors::Ancestors;
use crate::source::archive::{Kind, Member, Members};
use crate::source::owners::Owners;
use crate::source::walk::Problem;
use lifeboat_format::limits::SYMLINK_BYTES_MAX;
use lifeboat_format::region::ChunkKind;
use lifeboat_format::{Entry, LinkGroup, Metadata, Node, Timestamp, TreePath};
use lifeboat_repo::cursor::TreeCursor;
use lifeboat_repo::sink::ChunkSink;
use lifeboat_repo::tree::TreeBuilder;
use std::io::{BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Files of at least this size are read along the parent's list: a shorter one is a chunk or two.
const HINT_BYTES_MIN: u64 = 256 << 10;

/// Entries that are held back so that the chunks of small files are named together.
const PENDING_MAX: usize = 256;

/// Headers, padding and short contents of so many bytes are read at once.
const STREAM_BUFFER_BYTES: usize = 64 << 10;

fn cannot_sort(error: std::io::Error) -> lifeboat_repo::Error {
    lifeboat_repo::Error::io("the entries of an archive cannot be sorted")(error)
}

/// One archive being backed up.
pub(super) struct ArchiveSource<'r, 'q> {
    run: &'r Run<'r>,
    name: Arc<SourceName>,
    /// What all names begin with.
    strip: TreePath,
    parent: Option<Parent>,
    writer: ContentWriter<'q, Batch>,
    /// Entries of which some wait for their chunks' names.
    pending: Vec<(TreePath, Body, bool)>,
    sorter: Sorter,
    links: Vec<Link>,
}

impl<'r, 'q> ArchiveSource<'r, 'q>
where
    'r: 'q,
{
    pub(super) fn new(
        run: &'r Run<'r>,
        queue: &'q WorkQueue<Batch>,
        name: &Arc<SourceName>,
        strip: &TreePath,
        parent: Option<Parent>,
    ) -> lifeboat_repo::Result<Self> {
        let folder = run.session.repository().cache_directory().filter(|folder| folder.is_dir()).cloned();
        Ok(Self {
            run,
            name: name.clone(),
            strip: strip.clone(),
            parent,
            writer: ContentWriter::new(&run.session, &run.cutter, queue, run.reader, run.counters)?,
            pending: Vec::new(),
            sorter: Sorter::new(folder),
            links: Vec::new(),
        })
    }

    /// Reads the archive to its end and stores its contents.
    pub(super) fn feed(&mut self, stream: &mut dyn Read) -> Result<(), Failure> {
        // A header at a time would be a call to the system at a time; contents are read past it.
        let mut members = Members::new(BufReader::with_capacity(STREAM_BUFFER_BYTES, stream));
        while let Some(member) = members.next_member().map_err(|error| Failure::File(error.into()))? {
            if self.run.counters.interrupted.load(Ordering::Relaxed) {
                return Err(lifeboat_repo::Error::Interrupted.into());
            }
            match self.place(&member.name) {
                Ok(Some(path)) => self.take(path, member, &mut members)?,
                Ok(None) => {}
                Err(detail) => self.refuse(&TreePath::root(), &member.name, detail),
            }
        }
        Ok(())
    }

    /// Seals what is left of the contents. Called however [`Self::feed`] ended: others rely on what was claimed.
    pub(super) fn flush(&mut self) -> lifeboat_repo::Result<()> {
        self.settle()?;
        self.writer.flush()
    }

    /// Keeps an entry, and gives its number in the archive.
    fn keep(&mut self, path: TreePath, body: Body, is_waiting: bool) -> Result<u64, Failure> {
        let number = self.sorter.count() + self.pending.len() as u64;
        self.pending.push((path, body, is_waiting));
        if self.pending.len() >= PENDING_MAX {
            self.settle()?;
        }
        Ok(number)
    }

    /// Names the chunks of small files, many at a time, and lets their entries go on.
    fn settle(&mut self) -> lifeboat_repo::Result<()> {
        self.writer.store_buffered()?;
        for (path, mut body, is_waiting) in self.pending.drain(..) {
            if let Body::Entry(entry) = &mut body
                && let (true, Node::File { content, .. }) = (is_waiting, &mut entry.node)
            {
                self.writer.redeem(content);
            }
            self.sorter.push(path, &body).map_err(cannot_sort)?;
        }
        self.writer.forget_tickets();
        Ok(())
    }

    /// Where a member belongs; `None` for what only leads to the archive's root.
    fn place(&self, name: &[u8]) -> Result<Option<TreePath>, &'static str> {
        let path = TreePath::from_slashes(name).map_err(|_| "its name is none that a tree can hold")?;
        match path.strip(&self.strip) {
            Some(inner) => Ok(Some(inner)),
            None if self.strip.starts_with(&path) => Ok(None),
            None => Err("it lies outside of what was asked for"),
        }
    }

    fn refuse(&self, path: &TreePath, name: &[u8], doing: &'static str) {
        let error = std::io::Error::other(format!("`{}`", String::from_utf8_lossy(name)));
        self.run.problem(&self.name, &Problem { path: path.clone(), doing, error, vanished: false });
    }

    fn take<R: Read>(
        &mut self,
        path: TreePath,
        member: Member,
        content: &mut Members<R>,
    ) -> Result<(), Failure> {
        let mut is_waiting = false;
        let node = match &member.kind {
            Kind::Directory => Node::Directory,
            Kind::Fifo => Node::Fifo,
            Kind::CharDevice(major, minor) => Node::CharDevice { major: *major, minor: *minor },
            Kind::BlockDevice(major, minor) => Node::BlockDevice { major: *major, minor: *minor },
            Kind::Symlink(target) if target.is_empty() || target.len() > SYMLINK_BYTES_MAX as usize => {
                self.refuse(&path, target, "its target is empty or too long");
                return Ok(());
            }
            Kind::Symlink(target) => Node::Symlink { target: target.clone() },
            Kind::HardLink(target) => return self.take_link(path, target),
            Kind::File => {
                let earlier = self.earlier(&path, member.size);
                let stored = self.writer.member(content, &member, earlier.as_ref())?;
                is_waiting = stored.is_waiting;
                Node::File { size: stored.bytes, content: stored.content }
            }
        };
        let metadata = Metadata {
            mode: member.mode,
            uid: member.uid,
            gid: member.gid,
            mtime: member.mtime,
            // An archive has no such time: nothing may be concluded from it.
            ctime: Timestamp::default(),
            inode: 0,
            xattrs: store_xattrs(&mut self.writer, member.xattrs)?,
        };
        let entry = Entry { node, metadata, link: None, torn: false };
        self.keep(path, Body::Entry(Box::new(entry)), is_waiting)?;
        Ok(())
    }

    fn take_link(&mut self, path: TreePath, name: &[u8]) -> Result<(), Failure> {
        match self.place(name) {
            Ok(Some(target)) => {
                let body = Body::Link(target.clone());
                let number = self.keep(path, body, false)?;
                self.links.push(Link { number, target });
            }
            Ok(None) | Err(_) => self.refuse(&path, name, "it is a hard link to what is not in the archive"),
        }
        Ok(())
    }

    /// How the parent had a large file.
    fn earlier(&self, path: &TreePath, size: u64) -> Option<Earlier> {
        let parent = self.parent.as_ref().filter(|_| size >= HINT_BYTES_MIN)?;
        let mut cursor = TreeCursor::new(self.run.reader, parent.source.root);
        cursor.seek(path).ok()?;
        let (found, entry) = cursor.next_entry().ok()??;
        (found == *path).then(|| Earlier::of(&entry, parent.is_pinned)).flatten()
    }

    /// Builds the tree. The caller flushes `sink`.
    pub(super) fn finish(mut self, sink: &mut ChunkSink) -> lifeboat_repo::Result<TreeOutcome> {
        self.flush()?;
        let sorted = std::mem::replace(&mut self.sorter, Sorter::new(None)).finish().map_err(cannot_sort)?;
        let inodes = Inodes::of(&self.links, &sorted).map_err(cannot_sort)?;
        let mut tree = Tree::new(&self);
        let mut last: Option<(TreePath, u64, Body)> = None;
        for record in sorted.records().map_err(cannot_sort)? {
            let record = record.map_err(cannot_sort)?;
            let body = record.body().map_err(cannot_sort)?;
            if let Some((path, number, body)) = last.take_if(|(path, ..)| *path != record.path) {
                tree.push(path, number, body, &inodes, sink)?;
            }
            last = Some((record.path, record.number, body));
        }
        if let Some((path, number, body)) = last {
            tree.push(path, number, body, &inodes, sink)?;
        }
        tree.finish(sink)
    }
}

/// The tree being built from entries in order.
struct Tree<'a, 'r, 'q> {
    source: &'a ArchiveSource<'r, 'q>,
    parent: Option<ParentCursor<'a>>,
    builder: TreeBuilder,
    owners: Owners,
    bytes: u64,
    /// The directories that lead to the last entry.
    open: Ancestors,
    /// The last entry that was no directory.
    leaf: Option<TreePath>,
}

impl<'a, 'r, 'q> Tree<'a, 'r, 'q> {
    fn new(source: &'a ArchiveSource<'r, 'q>) -> Self {
        Self {
            source,
            parent: source.parent.as_ref().map(|parent| ParentCursor::new(source.run.reader, parent)),
            builder: TreeBuilder::new(source.run.session.repository().keys()),
            owners: Owners::default(),
            bytes: 0,
            open: Ancestors::default(),
            leaf: None,
        }
    }

    fn push(
        &mut self,
        path: TreePath,
        number: u64,
        body: Body,
        inodes: &Inodes,
        sink: &mut ChunkSink,
    ) -> lifeboat_repo::Result<()> {
        if self.leaf.as_ref().is_some_and(|leaf| path.starts_with(leaf)) {
            self.source.refuse(&path, &path.to_slashes(), "it lies below what is no directory");
            return Ok(());
        }
        let (entry, inode) = match body {
            Body::Entry(entry) => {
                let inode = (path.clone(), number);
                let is_linked = inodes.has(&inode);
                (*entry, is_linked.then_some(inode))
            }
            Body::Link(target) => match inodes.of_link(number) {
                Some((inode, entry)) => (entry.clone(), Some(inode.clone())),
                None => {
                    let detail = "it is a hard link to what is not in the archive";
                    self.source.refuse(&path, &target.to_slashes(), detail);
                    return Ok(());
                }
            },
        };
        let link = inode.map(|inode| self.group(&inode));
        self.lead_to(&path, sink)?;
        if entry.is_directory() {
            self.open.enter(path.clone());
        } else {
            self.leaf = Some(path.clone());
        }
        self.add(&path, &Entry { link, ..entry }, sink)
    }

    /// The group of an inode: by the path of its first name, and by its number where that name was taken again.
    fn group(&self, (path, number): &Inode) -> LinkGroup {
        let keys = self.source.run.session.repository().keys();
        let mut key = path.as_key().to_vec();
        key.extend_from_slice(b"\0\0");
        key.extend_from_slice(&number.to_le_bytes());
        LinkGroup(keys.key_hash("link group", &key))
    }

    /// Makes up the directories that the archive does not have.
    fn lead_to(&mut self, path: &TreePath, sink: &mut ChunkSink) -> lifeboat_repo::Result<()> {
        for directory in self.open.lead_to(path) {
            self.add(&directory, &Entry::directory(Ancestors::made_up()), sink)?;
            self.open.enter(directory);
        }
        Ok(())
    }

    fn add(&mut self, path: &TreePath, entry: &Entry, sink: &mut ChunkSink) -> lifeboat_repo::Result<()> {
        let found = self.parent.as_mut().and_then(|parent| parent.at(path));
        let is_alike = found.as_ref().is_some_and(|found| found.node == entry.node);
        self.source.run.counters.classify_entry(entry, found.is_some(), is_alike);
        self.owners.add(entry.metadata.uid, entry.metadata.gid);
        self.bytes = self.bytes.saturating_add(entry.size());
        self.builder.push(path, entry, &mut |node| sink.add(ChunkKind::Tree, &node))
    }

    fn finish(self, sink: &mut ChunkSink) -> lifeboat_repo::Result<TreeOutcome> {
        let root = self.builder.finish(&mut |node| sink.add(ChunkKind::Tree, &node))?;
        Ok(TreeOutcome { root, owners: self.owners, bytes: self.bytes })
    }
}
