//! Small files in the order in which the repository holds them.
//!
//! After many increments neighbours in the tree lie far apart in the packs: every hundredth file in the region of another
//! day. Read in the tree's order, each file opens a region that was closed a moment ago; thirty increments made a
//! restore of the kernel tree eleven times slower. So some thousand files wait for each other, and go by region.
//!
//! Must stay true: memory and descriptors are bounded by [`WINDOW_FILES`] and by [`Window::folders_max`]; a hard link goes after
//! whatever it may be a link to.

use super::work::{Item, Link};
use crate::pieces::ChunkReader;
use lifeboat_format::list::Piece;
use lifeboat_format::{ChunkId, Content, Entry, Node};
use std::sync::Arc;

/// Files that wait for each other.
pub(super) const WINDOW_FILES: usize = 4096;
/// Folders that are held open by them, where the process may open that many files.
const WINDOW_FOLDERS: usize = 256;
/// The share of the process's descriptors that they may take.
const DESCRIPTORS_SHARE: u64 = 4;

/// Files that wait.
pub(super) struct Window {
    items: Vec<Item>,
    /// How often a file was in another folder than the one before.
    folders: usize,
    folders_max: usize,
}

impl Window {
    pub(super) fn new() -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
        let folders_max = (limit / DESCRIPTORS_SHARE).clamp(1, WINDOW_FOLDERS as u64) as usize;
        Self { items: Vec::new(), folders: 0, folders_max }
    }

    /// Takes a file; whether it is time to let them go.
    pub(super) fn push(&mut self, item: Item) -> bool {
        let is_other = |last: &Item| !Arc::ptr_eq(&last.directory, &item.directory);
        self.folders += usize::from(self.items.last().is_none_or(is_other));
        self.items.push(item);
        self.items.len() >= WINDOW_FILES || self.folders >= self.folders_max
    }

    /// Gives all files, those of one region together.
    pub(super) fn take(&mut self, reader: &dyn ChunkReader) -> impl Iterator<Item = Item> + use<> {
        self.folders = 0;
        let items = std::mem::take(&mut self.items);
        let first: Vec<Option<ChunkId>> = items.iter().map(|item| first_chunk(&item.entry)).collect();
        let ids: Vec<ChunkId> = first.iter().flatten().copied().collect();
        let mut places = reader.places(&ids).into_iter();
        let mut last = 0;
        let mut keyed: Vec<(u64, Item)> = Vec::with_capacity(items.len());
        for (item, first) in items.into_iter().zip(first) {
            // What has no chunk of its own to go by stays with its neighbour.
            last = first.and_then(|_| places.next()).unwrap_or(last);
            let key = if matches!(item.link, Link::Later(_)) { u64::MAX } else { last };
            keyed.push((key, item));
        }
        keyed.sort_by_key(|(key, _)| *key);
        keyed.into_iter().map(|(_, item)| item)
    }
}

fn first_chunk(entry: &Entry) -> Option<ChunkId> {
    match &entry.node {
        Node::File { content: Content::Chunk(id), .. } => Some(*id),
        Node::File { content: Content::Pieces(_, pieces), .. } => pieces.iter().find_map(Piece::chunk),
        _ => None,
    }
}
