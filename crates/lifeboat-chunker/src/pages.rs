//! Recognises files that are made of pages, by what is in them: database files are cut at their pages.
//!
//! A database rewrites single pages. Cut at the pages, each rewritten page is one new chunk; cut by content, it is two
//! or three longer ones. `docs/decisions/0013-page-files.md` has the numbers.
//!
//! Must stay true: any bytes may stand in a file, so nothing here panics or reads more than [`SAMPLES`] pages' heads.
//! A wrong answer costs space only, never content: a file restores the same however it was cut. Names count for nothing.

use lifeboat_format::entry::Chunker;
use std::io::Result;

/// Bytes from a page's beginning that tell what it is: longer than every header below.
const HEAD_BYTES: usize = 128;
/// Pages that are looked at: the first four, and others spread over the file.
const SAMPLES: u64 = 12;
const SAMPLES_AT_FRONT: u64 = 4;
/// So many pages that are not empty must look right. Fewer say too little.
const VALID_MIN: u32 = 2;

/// Bytes of a file, at any offset. Fewer than asked for are given at the end of the file only.
pub trait ReadAt {
    /// Fills `buffer` from `offset` on and says how many bytes there were.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize>;
}

impl ReadAt for [u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
}

/// How a file of `size` bytes is best cut. A file that cannot be read here is cut by content: who reads it next will say.
pub fn recognise<F: ReadAt + ?Sized>(file: &F, size: u64) -> Chunker {
    probe(file, size).ok().flatten().unwrap_or(Chunker::Content)
}

fn probe<F: ReadAt + ?Sized>(file: &F, size: u64) -> Result<Option<Chunker>> {
    let Some(first) = head(file, 0)? else { return Ok(None) };
    if let Some(page) = sqlite_page(&first).filter(|page| size.is_multiple_of(u64::from(*page))) {
        return Ok(chunker_of(page));
    }
    if let Some(page) = bbolt_page(&first) {
        // The other of the two meta pages is looked at too: one of them may have been half written.
        let second = head(file, u64::from(page))?;
        return Ok(second
            .and_then(|second| bbolt_page(&second))
            .filter(|other| *other == page)
            .and_then(chunker_of));
    }
    // The first page alone excludes nearly every other file, with one read.
    for page in [16 << 10, 8 << 10, 4 << 10, 32 << 10, 64 << 10] {
        if size.is_multiple_of(u64::from(page)) && size >= 2 * u64::from(page) {
            let is_postgres = |_: u64, head: &Head| is_postgres_page(head, page);
            let is_first = is_zero(&first) || is_postgres(0, &first);
            if is_first && all_samples(file, size, page, is_postgres)? {
                return Ok(chunker_of(page));
            }
            if let Some(tablespace) = Tablespace::of(&first)
                && all_samples(file, size, page, |index, head| tablespace.has(index, head))?
            {
                return Ok(chunker_of(page));
            }
        }
    }
    Ok(None)
}

type Head = [u8; HEAD_BYTES];

/// `None` where the file ends before.
fn head<F: ReadAt + ?Sized>(file: &F, offset: u64) -> Result<Option<Head>> {
    let mut head = [0; HEAD_BYTES];
    Ok((file.read_at(&mut head, offset)? == HEAD_BYTES).then_some(head))
}

fn is_zero(head: &Head) -> bool {
    *head == [0; HEAD_BYTES]
}

/// Whether no sampled page speaks against it, and enough of them for it. Pages may be empty: allocated, not yet written.
fn all_samples<F: ReadAt + ?Sized>(
    file: &F,
    size: u64,
    page: u32,
    is_valid: impl Fn(u64, &Head) -> bool,
) -> Result<bool> {
    let pages = size / u64::from(page);
    let mut valid = 0;
    for sample in 0..SAMPLES.min(pages) {
        let index = match sample.checked_sub(SAMPLES_AT_FRONT) {
            None => sample,
            Some(spread) => {
                SAMPLES_AT_FRONT + (pages - SAMPLES_AT_FRONT) / (SAMPLES - SAMPLES_AT_FRONT) * spread
            }
        };
        match head(file, index * u64::from(page))? {
            Some(head) if is_valid(index, &head) => valid += 1,
            Some(head) if is_zero(&head) => {}
            _ => return Ok(false),
        }
    }
    Ok(valid >= VALID_MIN)
}

/// How a file of such pages is cut. Chunks are at least 8 KiB, because each costs an id in three places.
fn chunker_of(page: u32) -> Option<Chunker> {
    match page {
        ..=8_192 => Some(Chunker::Pages8K),
        _ => Some(Chunker::Pages16K),
    }
}

fn u16_at(head: &Head, offset: usize) -> u16 {
    u16::from_le_bytes([head[offset], head[offset + 1]])
}

fn u32_at(head: &Head, offset: usize) -> u32 {
    u32::from_le_bytes([head[offset], head[offset + 1], head[offset + 2], head[offset + 3]])
}

fn u32_big_at(head: &Head, offset: usize) -> u32 {
    u32_at(head, offset).swap_bytes()
}

/// Heap and index pages of PostgreSQL 8.3 and later (`PageHeaderData`, layout version 4), of little-endian machines.
///
/// Write-ahead log begins otherwise and is cut by content: it is written once, in order.
fn is_postgres_page(head: &Head, page: u32) -> bool {
    const HEADER_BYTES: u32 = 24;
    const FLAGS: u16 = 0b111;
    let [flags, lower, upper, special, version] = [10, 12, 14, 16, 18].map(|offset| u16_at(head, offset));
    let [lower, upper, special] = [lower, upper, special].map(u32::from);
    // 32 KiB pages are the largest that PostgreSQL has: their size still fits its field.
    u32::from(version) == page | 4
        && flags & !FLAGS == 0
        && HEADER_BYTES <= lower
        && lower <= upper
        && upper <= special
        && special <= page
        && special.is_multiple_of(8)
}

/// An InnoDB tablespace: each page has its number and the tablespace's, also if it is compressed or encrypted.
struct Tablespace {
    first_number: u32,
    space: u32,
}

impl Tablespace {
    fn of(first: &Head) -> Option<Self> {
        /// The header of a tablespace's first file: type 8, and the space's number a second time behind the page header.
        const SPACE_HEADER: u32 = 8;
        let (first_number, space) = (u32_big_at(first, 4), u32_big_at(first, 34));
        let is_first_file =
            first_number == 0 && Self::page_type(first) == SPACE_HEADER && u32_big_at(first, 38) == space;
        // The system tablespace is number 0, and may go on in further files.
        let is_further_file = first_number > 0 && space == 0 && Self::page_type(first) > 1;
        (is_first_file || is_further_file).then_some(Self { first_number, space })
    }

    fn page_type(head: &Head) -> u32 {
        u32_big_at(head, 24) >> 16
    }

    fn has(&self, index: u64, head: &Head) -> bool {
        /// MariaDB's mark of a compressed page, in which nothing but number and type stand where they otherwise do.
        const COMPRESSED: u32 = 0x8000;
        let is_here = u64::from(u32_big_at(head, 4)) == u64::from(self.first_number) + index;
        is_here && (u32_big_at(head, 34) == self.space || Self::page_type(head) & COMPRESSED != 0)
    }
}

/// Page size of an SQLite database.
fn sqlite_page(head: &Head) -> Option<u32> {
    if &head[..16] != b"SQLite format 3\0" {
        return None;
    }
    let page = match u32_big_at(head, 16) >> 16 {
        1 => 65_536,
        page => page,
    };
    // Fixed by its format: versions 1 or 2, and the three fractions.
    let is_valid = page.is_power_of_two()
        && page >= 512
        && head[18..20].iter().all(|version| (1..=2).contains(version))
        && head[21..24] == [64, 32, 32];
    is_valid.then_some(page)
}

/// Page size of a bbolt database (etcd's, among others), from one of its two meta pages.
fn bbolt_page(head: &Head) -> Option<u32> {
    const META_FLAG: u16 = 4;
    const MAGIC: u32 = 0xed0c_daed;
    let page = u32_at(head, 24);
    let is_meta = u16_at(head, 8) == META_FLAG && u32_at(head, 16) == MAGIC && u32_at(head, 20) == 2;
    (is_meta && page.is_power_of_two() && (1024..=65_536).contains(&page)).then_some(page)
}

#[cfg(test)]
#[path = "pages_tests.rs"]
mod tests;
