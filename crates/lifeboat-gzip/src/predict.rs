//! What Go's `compress/flate` would say next.
//!
//! Source: `deflate.go` of Go 1.7 to 1.26, level 6; [`crate::fast`] has what Go 1.27 does. Here, a compressor walks over a
//! window of 64 KiB and decides late ("lazily") whether it takes a match. What comes of it depends on the plain bytes and the
//! position alone, not on how the decision before was made: every position is entered into the chains, whether or not it lies
//! inside a copy, and a search never looks at what it has to beat. So the token at a position is a function, and a token that
//! was predicted wrongly needs nothing to be undone.
//!
//! Must stay true: a prediction depends on plain bytes and nothing else, so that both directions make the same. Recipes
//! rely on every detail here, for ever.
//!
//! Read next: `docs/format/gzip-recipe.md#prediction`.

use crate::fast::{Fast, PIECE};
use crate::symbols::{COPY_MAX, DISTANCE_MAX, Token};

/// Shorter matches Go does not take.
const MATCH_MIN: usize = 4;
/// Matches of this length are not taken from farther than [`NEAR`].
const MATCH_SHORT: usize = 4;
const NEAR: usize = 4096;
/// A match of at least this length ends a search.
const NICE: usize = 128;
/// A match of at least this length is taken without a look at the next position.
const LAZY: usize = 16;
/// Matches that a search looks at.
const TRIES: usize = 128;

const HASH_BITS: u32 = 17;
/// Bytes that Go has in its window before it moves it on by half.
const WINDOW: u64 = 1 << 15;
/// Where in its window Go stands, at least, when it moves it: less than 4 + 258 bytes are left of 64 KiB.
const MOVES_AT: u64 = 2 * WINDOW - (4 + 258) + 1;

/// A prediction looks at most this far ahead: at two matches and at whether the window moves.
pub(crate) const LOOKAHEAD: usize = COPY_MAX + 5;

/// Plain bytes in memory: what copies can reach, and some to work on.
const CAPACITY: usize = HISTORY + (128 << 10);
/// Bytes before the position that are kept: a token may have gone a little into the next piece before it is planned.
const HISTORY: usize = DISTANCE_MAX + 2 * COPY_MAX;
/// Behind the last byte, so that eight can be read at once everywhere.
const PADDING: usize = 8;
/// Positions that are entered into the chains in one go. They may be ahead of a search, as the ring of `previous` is twice
/// as long as a copy can reach.
const ENTER_AHEAD: usize = 4096;
/// Positions in the table of newest ones are moved down when they reach this.
const TABLE_MAX: u32 = 1 << 26;

/// A length, and a distance; length 0: nothing.
#[derive(Clone, Copy, Default)]
struct Match {
    length: usize,
    distance: usize,
}

/// The plain bytes around one position, and the prediction there.
pub(crate) struct Predictor {
    /// The last plain bytes.
    bytes: Box<[u8]>,
    /// Where in the stream they begin.
    origin: u64,
    end: usize,
    /// Nothing comes behind `end`.
    whole: bool,
    /// The position of the next prediction.
    next: usize,
    /// Positions before this one are in the chains.
    entered: usize,
    /// A match that was searched already, and where.
    searched: Option<(usize, Match)>,
    /// For each hash, the newest position that has it, + 1, counted as in `table_position`.
    newest: Box<[u32]>,
    /// For each position, how far before it the one with the same hash is; 0: nowhere.
    previous: Box<[u16; 1 << 16]>,
    /// What `bytes[0]` is in the tables.
    table_position: u32,
    /// Predicts in the place of what is here.
    fast: Option<Box<Fast>>,
}

/// Whose decisions are predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writer {
    /// Go's standard library up to 1.26 at level 6, its default.
    Go = 1,
    /// The same of Go 1.27.
    Go127 = 2,
}

impl Predictor {
    pub(crate) fn new(writer: Writer) -> Self {
        Self {
            bytes: vec![0; CAPACITY + PADDING].into_boxed_slice(),
            origin: 0,
            end: 0,
            whole: false,
            next: 0,
            entered: 0,
            searched: None,
            newest: vec![0; 1 << HASH_BITS].into_boxed_slice(),
            previous: vec![0; 1 << 16].into_boxed_slice().try_into().expect("as long as it says"),
            table_position: 0,
            fast: (writer == Writer::Go127).then(|| Box::new(Fast::new())),
        }
    }

    /// Bytes that fit.
    pub(crate) fn room(&self) -> usize {
        CAPACITY - self.end
    }

    /// Bytes that lie before the end.
    pub(crate) fn history(&self) -> usize {
        self.end
    }

    /// All bytes that were ever appended.
    pub(crate) fn total(&self) -> u64 {
        self.origin + self.end as u64
    }

    /// The last `count` bytes that were appended.
    pub(crate) fn last(&self, count: usize) -> &[u8] {
        &self.bytes[self.end - count..self.end]
    }

    /// Bytes between the position and the end.
    pub(crate) fn ahead(&self) -> usize {
        self.end - self.next
    }

    /// The byte at the position.
    pub(crate) fn byte(&self) -> u8 {
        self.bytes[self.next]
    }

    /// The bytes from the position on.
    pub(crate) fn upcoming(&self) -> &[u8] {
        &self.bytes[self.next..self.end]
    }

    /// Appends bytes that fit.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.bytes[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// Appends one byte that fits.
    #[inline]
    pub(crate) fn append_byte(&mut self, byte: u8) {
        self.bytes[self.end] = byte;
        self.end += 1;
    }

    /// Appends a copy that fits of what is there.
    #[inline]
    pub(crate) fn append_copy(&mut self, length: usize, distance: usize) {
        let from = self.end - distance;
        if distance >= length {
            self.bytes.copy_within(from..from + length, self.end);
        } else {
            for at in 0..length {
                self.bytes[self.end + at] = self.bytes[from + at];
            }
        }
        self.end += length;
    }

    /// Nothing more will be appended.
    pub(crate) fn close(&mut self) {
        self.whole = true;
        self.searched = None;
    }

    /// Whether enough is known for a prediction, and for any other token that was said in its place.
    #[inline]
    pub(crate) fn is_ready(&mut self) -> bool {
        self.plan();
        let ahead = self.ahead();
        let is_planned = self.fast.as_ref().is_none_or(|fast| self.next < fast.planned);
        is_planned && (ahead >= LOOKAHEAD || (self.whole && ahead > 0))
    }

    /// Goes on by bytes that are there.
    #[inline]
    pub(crate) fn advance(&mut self, count: usize) {
        self.next += count;
        debug_assert!(self.next <= self.end);
    }

    /// Plans pieces up to the one at the position, each when it is complete: the tables have to see all.
    #[inline]
    fn plan(&mut self) {
        let Some(fast) = &mut self.fast else { return };
        while fast.planned <= self.next {
            let end = (fast.planned + PIECE).min(self.end);
            if end == fast.planned || (end < fast.planned + PIECE && !self.whole) {
                return;
            }
            fast.plan(&self.bytes[..end], self.table_position);
        }
    }

    /// Makes room: forgets what no copy can reach any more.
    pub(crate) fn make_room(&mut self) {
        self.plan();
        let needed = self.fast.as_ref().map_or(self.next, |fast| fast.planned.min(self.next));
        let forgotten = needed.saturating_sub(HISTORY);
        if forgotten == 0 {
            return;
        }
        match &mut self.fast {
            Some(fast) => fast.planned -= forgotten,
            None => self.enter_until(self.next),
        }
        self.bytes.copy_within(forgotten..self.end, 0);
        self.end -= forgotten;
        self.next -= forgotten;
        self.entered = self.entered.saturating_sub(forgotten);
        self.searched = None;
        self.origin += forgotten as u64;
        self.table_position += forgotten as u32;
        if self.table_position >= TABLE_MAX {
            // By whole turns of the ring, so that `previous` stays as it is.
            let moved = self.table_position & !0xffff;
            self.newest.iter_mut().for_each(|newest| *newest = newest.saturating_sub(moved));
            if let Some(fast) = &mut self.fast {
                fast.lower(moved);
            }
            self.table_position -= moved;
        }
    }

    /// The token that Go would say at the position; only if [`Self::is_ready`].
    pub(crate) fn predict(&mut self) -> Token {
        let at = self.next;
        if let Some(fast) = &self.fast {
            let token = fast.plan[fast.plan.len() + at - fast.planned];
            return if token.is_literal() { Token::literal(self.bytes[at]) } else { token };
        }
        if self.entered < at + 2 {
            self.enter_until(at + ENTER_AHEAD);
        }
        let found = match self.searched.take() {
            Some((position, found)) if position == at => found,
            _ => self.search(at),
        };
        if found.length < MATCH_MIN {
            return Token::literal(self.bytes[at]);
        }
        if found.length < LAZY {
            let later = self.search(at + 1);
            if later.length > found.length {
                self.searched = Some((at + 1, later));
                return Token::literal(self.bytes[at]);
            }
        }
        Token::copy(found.length, found.distance)
    }

    /// Enters positions before `until` into the chains, as far as the four bytes are there that make their hashes.
    fn enter_until(&mut self, until: usize) {
        let until = until.min((self.end + 1).saturating_sub(MATCH_MIN));
        if until <= self.entered {
            return;
        }
        let bytes = &self.bytes[self.entered..until + MATCH_MIN - 1];
        let mut position = self.table_position.wrapping_add(self.entered as u32);
        for four in bytes.windows(4) {
            let hash = u32::from_be_bytes([four[0], four[1], four[2], four[3]]).wrapping_mul(0x1e35_a7bd)
                >> (32 - HASH_BITS);
            let newest = &mut self.newest[hash as usize];
            let distance = position.wrapping_add(1).wrapping_sub(*newest);
            let reachable = *newest != 0 && distance <= DISTANCE_MAX as u32;
            self.previous[usize::from(position as u16)] = if reachable { distance as u16 } else { 0 };
            position = position.wrapping_add(1);
            *newest = position;
        }
        self.entered = until;
    }

    /// The match that Go finds at a position: the first of the longest.
    fn search(&self, at: usize) -> Match {
        let mut best = Match::default();
        let longest = (self.end - at).min(COPY_MAX);
        let table_at = self.table_position.wrapping_add(at as u32);
        let mut distance = usize::from(self.previous[usize::from(table_at as u16)]);
        if longest < MATCH_MIN || distance == 0 {
            return best;
        }
        let reach = self.reach(at);
        let nice = longest.min(NICE);
        let bytes = &self.bytes[..];
        let mut length = MATCH_MIN - 1;
        let mut wanted = four(bytes, at);
        for _ in 0..TRIES {
            if distance > reach {
                break;
            }
            let from = at - distance;
            // The four bytes that end with the one by which a match would be longer than the best: most fail here.
            if four(bytes, from + length - 3) == wanted {
                let found = same(bytes, from, at, longest);
                if found > length && (found > MATCH_SHORT || distance <= NEAR) {
                    length = found;
                    best = Match { length, distance };
                    if found >= nice {
                        break;
                    }
                    wanted = four(bytes, at + length - 3);
                }
            }
            let step =
                usize::from(self.previous[usize::from((table_at as u16).wrapping_sub(distance as u16))]);
            if step == 0 {
                break;
            }
            distance += step;
        }
        best
    }

    /// How far back Go can look: as far as a copy can say, but not before the beginning of its window.
    #[inline]
    fn reach(&self, at: usize) -> usize {
        let position = self.origin + at as u64;
        let Some(since) = position.checked_sub(MOVES_AT) else {
            return position.min(WINDOW) as usize;
        };
        let reach = since % WINDOW + (MOVES_AT - WINDOW);
        if reach >= WINDOW {
            return WINDOW as usize;
        }
        // What is behind the end of the window makes Go move it. Where nothing is, it stays.
        let stays = self.whole && self.origin + self.end as u64 <= position - reach + WINDOW;
        if stays { WINDOW as usize } else { reach as usize }
    }
}

#[inline]
fn four(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("padded behind the end"))
}

/// How many bytes are the same at two places, `longest` at most.
#[inline]
fn same(bytes: &[u8], from: usize, at: usize, longest: usize) -> usize {
    let eight = |at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().expect("padded behind the end"));
    let mut length = 0;
    while length < longest {
        let different = eight(from + length) ^ eight(at + length);
        if different != 0 {
            return (length + (different.trailing_zeros() / 8) as usize).min(longest);
        }
        length += 8;
    }
    longest
}
