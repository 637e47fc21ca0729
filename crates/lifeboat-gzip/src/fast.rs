//! What `compress/flate` of Go 1.27 would say.
//!
//! Source: `level6.go` and `deflate.go` of Go 1.27, which took them over from `github.com/klauspost/compress`; level 6. It encodes
//! pieces of 65,535 bytes, each as soon as it is complete, so how a program wrote them changes nothing. Two tables say
//! where four and seven bytes were seen last; what is found by them is nearly taken at once.
//!
//! Must stay true: as in [`crate::predict`]. A piece is planned in one go, when all of it is there, and once.
//!
//! Read next: `docs/format/gzip-recipe.md#go-127`.

use crate::symbols::{COPY_MAX, COPY_MIN, DISTANCE_MAX, Token};

/// Bytes that are encoded together.
pub(crate) const PIECE: usize = 0xffff;
/// A piece that is shorter has no copies.
const PIECE_MIN: usize = 128;
/// The last bytes of a piece are not looked at.
const MARGIN: usize = 11;
const TABLE_BITS: u32 = 15;
/// Added to positions in tables: an empty entry is farther than any copy reaches.
const BIAS: i64 = 1 << 17;
/// Bytes at the beginning of a match that one which goes on behind its end need not match.
const SKIPPED: usize = 2;
/// The longer nothing repeats, the more is passed over: one more after each 128 bytes.
const PASS_LOG: u32 = 7;

/// Tables of what was seen where, and the plan of one piece.
pub(crate) struct Fast {
    short: Box<[u32; 1 << TABLE_BITS]>,
    /// The last position and the one before.
    long: Box<[[u32; 2]; 1 << TABLE_BITS]>,
    /// For each byte of the piece a copy that begins there, or a literal.
    pub(crate) plan: Vec<Token>,
    /// Where the planned piece ends; it begins as many bytes before as it has.
    pub(crate) planned: usize,
}

/// A place where bytes repeat.
#[derive(Clone, Copy)]
struct Found {
    at: usize,
    from: usize,
    /// 0: four bytes at least, the rest was not compared.
    length: usize,
}

/// The bytes up to the end of the piece, and what turns places in them into positions in the tables.
struct Bytes<'a> {
    bytes: &'a [u8],
    base: i64,
}

impl Bytes<'_> {
    fn eight(&self, at: usize) -> u64 {
        u64::from_le_bytes(*self.bytes[at..].first_chunk().expect("the margin is longer"))
    }

    fn four(&self, at: usize) -> u32 {
        u32::from_le_bytes(*self.bytes[at..].first_chunk().expect("the margin is longer"))
    }

    fn entry(&self, at: usize) -> u32 {
        (at as i64 + self.base) as u32
    }

    /// Where an entry is, if a copy reaches it from `at`.
    fn reached(&self, entry: u32, at: usize) -> Option<usize> {
        let from = i64::from(entry) - self.base;
        (at as i64 - from < DISTANCE_MAX as i64).then_some(from as usize)
    }

    /// The same, if it has the four bytes.
    fn found(&self, entry: u32, at: usize, four: u32) -> Option<usize> {
        self.reached(entry, at).filter(|&from| self.four(from) == four)
    }

    /// How many bytes are the same.
    fn same(&self, from: usize, at: usize, longest: usize) -> usize {
        let longest = longest.min(self.bytes.len() - at);
        let (from, at) = (&self.bytes[from..from + longest], &self.bytes[at..at + longest]);
        let mut length = 0;
        for (from, at) in from.as_chunks::<8>().0.iter().zip(at.as_chunks::<8>().0) {
            let different = u64::from_le_bytes(*from) ^ u64::from_le_bytes(*at);
            if different != 0 {
                return length + (different.trailing_zeros() / 8) as usize;
            }
            length += 8;
        }
        length + from[length..].iter().zip(&at[length..]).take_while(|(from, at)| from == at).count()
    }

    /// The length of a match of four bytes, but not more than a copy has.
    fn length(&self, from: usize, at: usize) -> usize {
        4 + self.same(from + 4, at + 4, COPY_MAX - 4)
    }
}

fn hash_short(bytes: u64) -> usize {
    ((bytes as u32).wrapping_mul(2_654_435_761) >> (32 - TABLE_BITS)) as usize
}

fn hash_long(bytes: u64) -> usize {
    ((bytes << 8).wrapping_mul(58_295_818_150_454_627) >> (64 - TABLE_BITS)) as usize
}

impl Fast {
    pub(crate) fn new() -> Self {
        Self {
            short: vec![0; 1 << TABLE_BITS].into_boxed_slice().try_into().expect("as long as it says"),
            long: vec![[0; 2]; 1 << TABLE_BITS].into_boxed_slice().try_into().expect("as long as it says"),
            plan: Vec::new(),
            planned: 0,
        }
    }

    /// All positions become lower.
    pub(crate) fn lower(&mut self, moved: u32) {
        let entries = self.short.iter_mut().chain(self.long.as_flattened_mut());
        entries.for_each(|entry| *entry = entry.saturating_sub(moved));
    }

    /// Plans the piece from `self.planned` to the end of `bytes`, whose first byte is at `table_position`.
    pub(crate) fn plan(&mut self, bytes: &[u8], table_position: u32) {
        let start = self.planned;
        let length = bytes.len() - start;
        self.plan.clear();
        self.plan.resize(length, Token::literal(0));
        self.planned = bytes.len();
        if length < PIECE_MIN {
            return;
        }
        let tokens = self.encode(&Bytes { bytes, base: i64::from(table_position) + BIAS }, start);
        // Where copies save less than a sixteenth, there are none.
        if tokens > length - (length >> 4) {
            self.plan.fill(Token::literal(0));
        }
    }

    fn enter(&mut self, bytes: &Bytes<'_>, at: usize, eight: u64) {
        self.short[hash_short(eight)] = bytes.entry(at);
        self.enter_long(bytes, at, eight);
    }

    fn enter_long(&mut self, bytes: &Bytes<'_>, at: usize, eight: u64) {
        let entry = &mut self.long[hash_long(eight)];
        *entry = [bytes.entry(at), entry[0]];
    }

    /// Finds copies, and counts tokens.
    fn encode(&mut self, bytes: &Bytes<'_>, start: usize) -> usize {
        let end = bytes.bytes.len();
        let limit = end - MARGIN;
        let (mut at, mut done, mut tokens, mut distance) = (start, start, 0, 1);
        while let Some((found, next)) = self.find(bytes, [at, done, limit], distance) {
            let mut found = self.improve(bytes, found, limit);
            while found.from > 0
                && found.at > done
                && bytes.bytes[found.from - 1] == bytes.bytes[found.at - 1]
            {
                found = Found { at: found.at - 1, from: found.from - 1, length: found.length + 1 };
            }
            distance = found.at - found.from;
            tokens += found.at - done + self.add(found.at - start, found.length, distance);
            done = found.at + found.length;
            at = if next >= done { next + 1 } else { done };
            if at >= limit {
                for inside in (next + 1..end.saturating_sub(8)).step_by(2) {
                    self.enter(bytes, inside, bytes.eight(inside));
                }
                break;
            }
            for inside in (next + 1..at - 1).step_by(2) {
                let eight = bytes.eight(inside);
                self.enter(bytes, inside, eight);
                self.enter_long(bytes, inside + 1, eight >> 8);
            }
        }
        if tokens == 0 { 0 } else { tokens + end - done }
    }

    /// The next place where four bytes repeat, and the position that was to be looked at behind it.
    fn find(
        &mut self,
        bytes: &Bytes<'_>,
        [from, done, limit]: [usize; 3],
        distance: usize,
    ) -> Option<(Found, usize)> {
        let (mut at, mut eight) = (from, bytes.eight(from));
        loop {
            let next = at + 1 + ((at - done) >> PASS_LOG);
            if next > limit {
                return None;
            }
            let short = self.short[hash_short(eight)];
            let long = self.long[hash_long(eight)];
            let next_eight = bytes.eight(next);
            self.enter(bytes, at, eight);
            if let Some(found) = find_long(bytes, long, at, eight as u32) {
                self.enter(bytes, next, next_eight);
                return Some((found, next));
            }
            if let Some(from) = bytes.found(short, at, eight as u32) {
                let found = Found { at, from, length: bytes.length(from, at) };
                let long = self.long[hash_long(next_eight)];
                self.enter(bytes, next, next_eight);
                // From where the last copy came, one step later.
                let repeated = at + 1 - distance;
                if bytes.four(repeated) == (eight >> 8) as u32 {
                    let length = bytes.length(repeated, at + 1);
                    if length > found.length {
                        return Some((Found { at: at + 1, from: repeated, length }, next));
                    }
                }
                return Some((find_longer(bytes, found, long, next, next_eight as u32), next));
            }
            (at, eight) = (next, next_eight);
        }
    }

    /// Measures a match, and replaces it by one that is told by what comes at its end, if that is longer.
    fn improve(&self, bytes: &Bytes<'_>, found: Found, limit: usize) -> Found {
        let Found { at, from, mut length } = found;
        if length == 0 {
            length = 4 + bytes.same(from + 4, at + 4, usize::MAX);
        } else if length == COPY_MAX {
            length += bytes.same(from + length, at + length, usize::MAX);
        }
        let mut best = Found { length, ..found };
        if at + length >= limit {
            return best;
        }
        let at = at + SKIPPED;
        for entry in self.long[hash_long(bytes.eight(found.at + length))] {
            let from = i64::from(entry) - bytes.base - best.length as i64 + SKIPPED as i64;
            let distance = at as i64 - from;
            if distance >= DISTANCE_MAX as i64 {
                break;
            }
            if distance > 0 && from >= 0 {
                let length = bytes.same(from as usize, at, usize::MAX);
                if length > best.length {
                    best = Found { at, from: from as usize, length };
                }
            }
        }
        best
    }

    /// Plans a match, in several copies if it is longer than one; returns how many.
    fn add(&mut self, mut at: usize, mut length: usize, distance: usize) -> usize {
        let mut copies = 0;
        while length > 0 {
            // What is left must not be shorter than a copy.
            let part = match length {
                0..=COPY_MAX => length,
                _ if length > COPY_MAX + COPY_MIN => COPY_MAX,
                _ => COPY_MAX - COPY_MIN,
            };
            self.plan[at] = Token::copy(part, distance);
            at += part;
            length -= part;
            copies += 1;
        }
        copies
    }
}

/// A match by the last two positions with the same seven bytes.
fn find_long(bytes: &Bytes<'_>, [last, before]: [u32; 2], at: usize, four: u32) -> Option<Found> {
    bytes.reached(last, at)?;
    let Some(from) = bytes.found(last, at, four) else {
        return bytes.found(before, at, four).map(|from| Found { at, from, length: 0 });
    };
    let Some(other) = bytes.found(before, at, four) else {
        return Some(Found { at, from, length: 0 });
    };
    let (length, longer) = (bytes.length(from, at), bytes.length(other, at));
    Some(if longer > length { Found { at, from: other, length: longer } } else { Found { at, from, length } })
}

/// A match at the next position that is longer, if there is one.
fn find_longer(bytes: &Bytes<'_>, found: Found, long: [u32; 2], at: usize, four: u32) -> Found {
    let mut best = found;
    for entry in long {
        if bytes.reached(entry, at).is_none() {
            break;
        }
        if let Some(from) = bytes.found(entry, at, four) {
            let length = bytes.length(from, at);
            if length > best.length {
                best = Found { at, from, length };
            }
        }
    }
    best
}
