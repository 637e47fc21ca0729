//! Layers that the engine keeps as gzip streams: taken apart as if they were not, with a recipe that makes the same stream
//! again. `docs/format/image.md#recipes`
//!
//! Must stay true: what is given on is what the recipe takes, and zeros behind it where the stream stopped being
//! predictable in the middle of a file; the stream that is made again is compared by whoever reads it.

use lifeboat_gzip::{Analyzer, Fit, Recreator};
use lifeboat_transfer::dump;
use lifeboat_transfer::pieces::ChunkReader;
use lifeboat_transfer::restore::EntryResult;
use std::io::{Cursor, Error, Read, Result};

/// Compressed bytes that are read at once, and plain bytes that are compressed at once.
const STEP_BYTES: usize = 64 << 10;
/// Checksum and length behind a gzip stream.
const TRAILER_BYTES: usize = 8;
/// A part of a recipe is closed when it has so many bytes.
const RECIPE_PART_BYTES: usize = 1 << 20;
/// A file in a layer with a recipe is stored in pieces of so many bytes: what its recipe takes is held in memory until the
/// piece is written.
pub(super) const PIECE_BYTES: u64 = 64 << 20;
/// Zeros that may stand behind what a recipe takes: a file in an archive says how long it is, and need not tell the truth.
pub(super) const FILLED_MAX: u64 = 1 << 30;

/// A stream that can be made again, or what was read of one that cannot.
pub(super) enum Begun<R> {
    Plain(Box<Unpacking<R>>),
    AsItIs(Vec<u8>, R),
}

/// The plain bytes of a gzip stream, and its recipe.
pub(super) struct Unpacking<R> {
    stream: R,
    buffer: Vec<u8>,
    analyzer: Analyzer,
    plain: Cursor<Vec<u8>>,
    recipe: Vec<u8>,
    /// Plain bytes that were given on, and their checksum as gzip has it.
    taken: u64,
    crc: flate2::Crc,
    /// The end of the stream, as far as it was read.
    last: Vec<u8>,
    is_ended: bool,
}

impl<R: Read> Unpacking<R> {
    /// Reads as much as it takes to see whether it can be made again.
    pub(super) fn begin(stream: R) -> Result<Begun<R>> {
        let mut begun = Box::new(Self {
            stream,
            buffer: vec![0; STEP_BYTES],
            analyzer: Analyzer::new(),
            plain: Cursor::default(),
            recipe: Vec::new(),
            taken: 0,
            crc: flate2::Crc::new(),
            last: Vec::new(),
            is_ended: false,
        });
        loop {
            match begun.step()? {
                Fit::Undecided => {}
                Fit::NotPredictable => return Ok(Begun::AsItIs(begun.analyzer.into_pushed(), begun.stream)),
                Fit::Predictable => return Ok(Begun::Plain(begun)),
            }
        }
    }

    /// Reads on in the stream.
    fn step(&mut self) -> Result<Fit> {
        let length = self.stream.read(&mut self.buffer)?;
        self.last.extend_from_slice(&self.buffer[..length]);
        self.last.drain(..self.last.len().saturating_sub(TRAILER_BYTES));
        let mut plain = std::mem::take(&mut self.plain).into_inner();
        plain.clear();
        self.is_ended = length == 0;
        let fit = match self.is_ended {
            true => self.analyzer.finish(&mut plain, &mut self.recipe)?,
            false => self.analyzer.push(&self.buffer[..length], &mut plain, &mut self.recipe)?,
        };
        self.plain = Cursor::new(plain);
        Ok(fit)
    }

    /// The next part of the recipe, if there is a whole one.
    pub(super) fn recipe_part(&mut self) -> Option<Vec<u8>> {
        (self.recipe.len() >= RECIPE_PART_BYTES).then(|| std::mem::take(&mut self.recipe))
    }

    /// What follows when all plain bytes were read: part by part, the rest of the recipe.
    pub(super) fn rest_part(&mut self) -> Result<Option<Vec<u8>>> {
        while !self.is_ended && self.recipe.len() < RECIPE_PART_BYTES {
            self.step()?;
        }
        let part = std::mem::take(&mut self.recipe);
        Ok((!part.is_empty()).then_some(part))
    }

    /// Plain bytes that the recipe takes.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Whether these are all there are in the stream, by what stands at its end: not of one that is damaged, or several.
    pub(super) fn is_whole(&self) -> bool {
        let length = self.taken as u32;
        self.last == [self.crc.sum().to_le_bytes(), length.to_le_bytes()].concat()
    }
}

impl<R: Read> Read for Unpacking<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            let length = self.plain.read(buffer)?;
            // Behind the last plain byte only the recipe goes on, however long: that is for `rest_part`.
            if length > 0 || buffer.is_empty() || self.is_ended || self.analyzer.is_rest() {
                self.taken += length as u64;
                self.crc.update(&buffer[..length]);
                return Ok(length);
            }
            self.step()?;
        }
    }
}

/// A gzip stream, made while it is read.
pub(super) struct Recreating<'r> {
    plain: Box<dyn Read + 'r>,
    buffer: Vec<u8>,
    recreator: Recreator<Box<dyn Read + 'r>>,
    stream: Cursor<Vec<u8>>,
    is_ended: bool,
}

impl<'r> Recreating<'r> {
    /// Of plain bytes, and of the entries with the parts of the recipe, in order.
    pub(super) fn new(
        plain: Box<dyn Read + 'r>,
        parts: impl Iterator<Item = EntryResult> + 'r,
        reader: &'r dyn ChunkReader,
    ) -> Result<Self> {
        let parts: Box<dyn Read + 'r> = Box::new(Parts { parts: Box::new(parts), part: None, reader });
        let recreator = Recreator::new(parts).map_err(Error::other)?;
        let buffer = vec![0; STEP_BYTES];
        Ok(Self { plain, buffer, recreator, stream: Cursor::default(), is_ended: false })
    }
}

impl Read for Recreating<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            let length = self.stream.read(buffer)?;
            if length > 0 || buffer.is_empty() || self.is_ended {
                return Ok(length);
            }
            let length = self.plain.read(&mut self.buffer)?;
            let mut stream = std::mem::take(&mut self.stream).into_inner();
            stream.clear();
            self.is_ended = length == 0;
            match self.is_ended {
                true => self.recreator.finish(&mut stream),
                false => self.recreator.push(&self.buffer[..length], &mut stream),
            }
            .map_err(Error::other)?;
            self.stream = Cursor::new(stream);
        }
    }
}

/// Files one behind the other.
struct Parts<'r> {
    parts: Box<dyn Iterator<Item = EntryResult> + 'r>,
    part: Option<Box<dyn Read + 'r>>,
    reader: &'r dyn ChunkReader,
}

impl Read for Parts<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            if let Some(part) = &mut self.part {
                let length = part.read(buffer)?;
                if length > 0 || buffer.is_empty() {
                    return Ok(length);
                }
            }
            let Some(entry) = self.parts.next() else { return Ok(0) };
            let (_, entry) = entry.map_err(Error::other)?;
            self.part = (!entry.is_directory()).then(|| Box::new(dump::content(&entry, self.reader)) as _);
        }
    }
}
