//! What the parent says about a file that is read again: where its chunks ended and what they were named.
//!
//! The length that the parent's list expects is hashed; if the name comes out the same, the bytes are the same, and need
//! not be scanned for a cut. Must stay true: a hint says where to look, never what is there. Every byte is hashed, and
//! only the name of these bytes decides. Chunks of a pinned parent count as stored; others are looked up.
//! `docs/decisions/0014-hints.md`
//!
//! Memory is a window of [`WINDOW`] pieces and what [`Pieces`] holds, however long the list.

use crate::pieces::{ChunkReader, Pieces};
use lifeboat_format::entry::Chunker;
use lifeboat_format::list::Piece;
use lifeboat_format::{ChunkId, Content, Entry, Node};
use std::collections::VecDeque;

/// Pieces that are looked through for one that was just cut: a hole in what is alike may be this long.
const WINDOW: usize = 128;
/// Pieces that lie so far behind the place where they were expected are given up.
const DRIFT_BYTES: u64 = 1 << 20;

/// How an earlier snapshot stored a file.
#[derive(Clone)]
pub(crate) struct Earlier {
    content: Content,
    size: u64,
    is_pinned: bool,
}

impl Earlier {
    /// `None` where it holds no list: nothing is gained for a file that is one chunk.
    pub(crate) fn of(entry: &Entry, is_pinned: bool) -> Option<Self> {
        match &entry.node {
            Node::File { content: content @ (Content::List(_) | Content::Pieces(..)), size } => {
                Some(Self { content: content.clone(), size: *size, is_pinned })
            }
            _ => None,
        }
    }

    /// How it was cut, if it was `bytes_min` long: of shorter files nobody asked what they are made of.
    pub(crate) fn chunker(&self, bytes_min: u64) -> Option<Chunker> {
        match &self.content {
            _ if self.size < bytes_min => None,
            Content::List(root) => Some(root.chunker),
            Content::Pieces(chunker, _) => Some(*chunker),
            Content::Empty | Content::Chunk(_) => None,
        }
    }
}

/// The parent's pieces, going along with a file.
pub(crate) struct Hint<'r> {
    pieces: Pieces<'r>,
    /// Pieces to come, with the place in the parent's file where each begins.
    window: VecDeque<(u64, Piece)>,
    /// Where the window ends in the parent's file.
    window_end: u64,
    /// Whether the window begins with the piece that is expected next.
    is_aligned: bool,
    /// How far this file was when it last agreed with the parent's, less how far the parent's was.
    shift: i128,
    is_pinned: bool,
}

impl<'r> Hint<'r> {
    pub(crate) fn new(reader: &'r dyn ChunkReader, earlier: &Earlier) -> Self {
        Self {
            pieces: Pieces::new(reader, &earlier.content, earlier.size),
            window: VecDeque::new(),
            window_end: 0,
            is_aligned: true,
            shift: 0,
            is_pinned: earlier.is_pinned,
        }
    }

    /// Whether what it names needs no look-up.
    pub(crate) fn is_pinned(&self) -> bool {
        self.is_pinned
    }

    /// Whether a list node is one of the parent's, and so is stored.
    pub(crate) fn has_node(&self, id: &ChunkId) -> bool {
        self.is_pinned && self.pieces.has_recent_node(id)
    }

    /// A list that cannot be read on is given up: what follows is scanned.
    fn fill(&mut self) {
        while self.window.len() < WINDOW {
            let Some(Ok(piece)) = self.pieces.next() else { break };
            self.window.push_back((self.window_end, piece));
            self.window_end += piece.bytes();
        }
    }

    fn pop(&mut self) {
        self.window.pop_front();
        if self.window.len() < WINDOW / 2 {
            self.fill();
        }
    }

    /// The chunk that the parent had here, of at most `bytes_max`, and whether its data ended with it.
    pub(crate) fn expected(&mut self, bytes_max: u64) -> Option<(ChunkId, usize, bool)> {
        if !self.is_aligned {
            return None;
        }
        if self.window.len() < 2 {
            self.fill();
        }
        match self.window.front() {
            Some((_, Piece::Chunk(id, bytes))) if u64::from(*bytes) <= bytes_max => {
                let is_last = matches!(self.window.get(1), None | Some((_, Piece::Hole(_))));
                Some((*id, *bytes as usize, is_last))
            }
            _ => None,
        }
    }

    /// What was expected is here.
    pub(crate) fn confirm(&mut self) {
        self.pop();
    }

    /// Takes note of a piece that was cut at `position` without a hint, and says whether the parent has it nearby.
    pub(crate) fn observe(&mut self, position: u64, piece: &Piece) -> bool {
        match piece {
            Piece::Chunk(id, _) => self.look_for(position, id),
            Piece::Hole(_) | Piece::Zeros(_) => {
                self.pass(position, piece);
                false
            }
        }
    }

    /// Goes over a hole or zeros, which may come in other portions than the parent's.
    fn pass(&mut self, position: u64, piece: &Piece) {
        self.fill();
        let bytes = piece.bytes();
        let is_alike = |other: &Piece| {
            matches!((piece, other), (Piece::Hole(_), Piece::Hole(_)) | (Piece::Zeros(_), Piece::Zeros(_)))
        };
        match self.window.front_mut() {
            Some((start, front)) if self.is_aligned && is_alike(front) && bytes <= front.bytes() => {
                if bytes == front.bytes() {
                    self.pop();
                    return;
                }
                *start += bytes;
                match front {
                    Piece::Hole(left) | Piece::Zeros(left) => *left -= bytes,
                    Piece::Chunk(..) => {}
                }
            }
            _ => self.lose(position),
        }
    }

    fn look_for(&mut self, position: u64, id: &ChunkId) -> bool {
        self.lose(position);
        let found =
            self.window.iter().position(|(_, piece)| matches!(piece, Piece::Chunk(other, _) if other == id));
        let Some(found) = found else { return false };
        let (start, _) = self.window[found];
        self.shift = i128::from(position) - i128::from(start);
        self.is_aligned = true;
        self.window.drain(..=found);
        self.fill();
        self.is_pinned
    }

    /// What is expected next is not here: from now on pieces are sought near the place where they were.
    fn lose(&mut self, position: u64) {
        self.is_aligned = false;
        let here = i128::from(position) - self.shift;
        loop {
            self.fill();
            match self.window.front() {
                Some((start, piece))
                    if i128::from(*start) + i128::from(piece.bytes()) + i128::from(DRIFT_BYTES) < here =>
                {
                    self.window.pop_front();
                }
                _ => return,
            }
        }
    }

    /// The chunk of a page at `position`: pages do not move.
    pub(crate) fn page_at(&mut self, position: u64) -> Option<(ChunkId, usize)> {
        loop {
            if self.window.is_empty() {
                self.fill();
            }
            let (start, piece) = self.window.front()?;
            if *start + piece.bytes() > position {
                return match piece {
                    Piece::Chunk(id, bytes) if *start == position => Some((*id, *bytes as usize)),
                    _ => None,
                };
            }
            self.window.pop_front();
        }
    }
}
