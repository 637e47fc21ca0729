//! Takes a gzip stream apart.
//!
//! Blocks are read ahead of the prediction, which needs to see some bytes behind its position. Three places matter: up to
//! where compressed bytes were read (`at`), up to where plain bytes were given out, and up to where tokens were predicted.
//!
//! Must stay true: once plain bytes were given out, everything that was pushed and will be comes back. `begin_rest` is the
//! way out wherever prediction ends; the compressed bytes of blocks that have no section yet are kept for it.
//!
//! Read next: `docs/format/gzip-recipe.md`.

use crate::head;
use crate::inflate::{Block, Inflater, Input, Stop};
use crate::predict::{Predictor, Writer};
use crate::recipe::{GZIP_HEAD_MAX, Kind, RAW_MAX, REST, Section, VERSION};
use crate::recipe::{write_correction, write_varint};
use std::io::{self, Write};

/// Compressed bytes that are collected before they are read: enough for any head, of the stream or of a block.
const STEP_BYTES: usize = 2 * GZIP_HEAD_MAX;
/// The decision falls when this many compressed bytes were pushed.
const TRIAL_COMPRESSED: usize = 256 << 10;
/// Or this many plain bytes were made of them.
const TRIAL_PLAIN: usize = 512 << 10;
/// A stream is predictable if its trial costs at most this part of it.
const TRIAL_PART: usize = 16;
/// What any stream may cost: the smallest have sections and nothing to save.
const TRIAL_FREE: usize = 64;
/// Later the cost is looked at after this many compressed bytes, and prediction ends where it is more than half of them.
const RUN_COMPRESSED: usize = 256 << 10;

/// Whether a stream can be predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// More bytes are needed; nothing was given out yet.
    Undecided,
    /// The stream is being taken apart; this is final.
    Predictable,
    /// The stream is to be stored as it is; nothing was given out, and this is final.
    NotPredictable,
}

/// Takes one gzip stream apart; see the [example](crate#example).
///
/// # Guarantees
///
/// Nothing is given out before the stream is found to be predictable, which takes at most 256 KiB of it and the push that
/// brings them. After that nothing fails but writing. The plain bytes of a stream that is predictable to its end are those that
/// any decompressor makes; of one that is not, some of the first.
///
/// # Errors
///
/// Only those of the two writers.
pub struct Analyzer {
    state: State,
    writer: Writer,
    /// Compressed bytes that are still needed: all of them while nothing is decided.
    input: Vec<u8>,
    input_origin: u64,
    /// The compressed bit that is read next.
    at: u64,
    inflater: Inflater,
    predictor: Predictor,
    current: Current,
    /// Plain bytes at the predictor's end that were not given out.
    plain_new: usize,
    plain_held: Vec<u8>,
    /// Recipe that was not given out.
    recipe_held: Vec<u8>,
    blocks: u64,
    run_cost: usize,
    run_size: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing was read.
    Start,
    /// Blocks are read, but nothing is given out.
    Trial,
    Blocks,
    /// What comes goes into the recipe as it is.
    Rest,
    NotPredictable,
}

/// What was predicted of the first waiting block.
#[derive(Default)]
struct Current {
    /// Tokens or stored bytes.
    done: usize,
    /// Tokens that were right since the last correction.
    right: usize,
    corrections: usize,
    /// The corrections.
    bytes: Vec<u8>,
}

struct Outputs<'a> {
    plain: &'a mut dyn Write,
    recipe: &'a mut dyn Write,
}

impl Default for Analyzer {
    fn default() -> Self {
        Self::new()
    }
}

impl Analyzer {
    /// For a stream of which nothing was seen yet.
    pub fn new() -> Self {
        Self {
            state: State::Start,
            writer: Writer::Go,
            input: Vec::new(),
            input_origin: 0,
            at: 0,
            inflater: Inflater::new(),
            predictor: Predictor::new(Writer::Go),
            current: Current::default(),
            plain_new: 0,
            plain_held: Vec::new(),
            recipe_held: Vec::new(),
            blocks: 0,
            run_cost: 0,
            run_size: 0,
        }
    }

    /// Takes the next bytes of the stream, and writes plain bytes and recipe as far as they are known.
    ///
    /// Stop pushing at [`Fit::NotPredictable`]: what is pushed then is only collected.
    pub fn push(
        &mut self,
        compressed: &[u8],
        plain: &mut dyn Write,
        recipe: &mut dyn Write,
    ) -> io::Result<Fit> {
        let mut out = Outputs { plain, recipe };
        for part in compressed.chunks(STEP_BYTES) {
            self.input.extend_from_slice(part);
            if self.unread() >= STEP_BYTES {
                self.go_on(false, &mut out)?;
            }
        }
        Ok(self.fit())
    }

    /// The stream ended: writes what is left. Not [`Fit::Undecided`].
    pub fn finish(&mut self, plain: &mut dyn Write, recipe: &mut dyn Write) -> io::Result<Fit> {
        let mut out = Outputs { plain, recipe };
        self.go_on(true, &mut out)?;
        if self.state == State::Rest {
            write_varint(&mut self.recipe_held, 0);
            self.give(&mut out)?;
        }
        Ok(self.fit())
    }

    /// Whether there are no more plain bytes: what comes is part of the recipe.
    pub fn is_rest(&self) -> bool {
        self.state == State::Rest
    }

    /// What was pushed, all of it, if the stream is not predictable or nothing is decided yet.
    pub fn into_pushed(self) -> Vec<u8> {
        self.input
    }

    fn fit(&self) -> Fit {
        match self.state {
            State::Start | State::Trial => Fit::Undecided,
            State::Blocks | State::Rest => Fit::Predictable,
            State::NotPredictable => Fit::NotPredictable,
        }
    }

    /// Compressed bytes that were not read.
    fn unread(&self) -> usize {
        (self.input_origin + self.input.len() as u64 - self.at / 8) as usize
    }

    fn go_on(&mut self, whole: bool, out: &mut Outputs<'_>) -> io::Result<()> {
        if self.state == State::Start {
            self.start();
        }
        match self.state {
            State::Trial | State::Blocks => self.read_blocks(whole, out),
            State::Rest => self.pass(out),
            State::Start | State::NotPredictable => Ok(()),
        }
    }

    fn start(&mut self) {
        match gzip_head(&self.input) {
            Some(length) => self.try_writer(Writer::Go, length),
            None => self.state = State::NotPredictable,
        }
    }

    /// Begins a trial behind the head, with everything forgotten but what was pushed.
    fn try_writer(&mut self, writer: Writer, head: usize) {
        let input = std::mem::take(&mut self.input);
        *self = Self { writer, input, predictor: Predictor::new(writer), ..Self::new() };
        self.recipe_held.extend_from_slice(&[VERSION, writer as u8]);
        write_varint(&mut self.recipe_held, head);
        self.recipe_held.extend_from_slice(&self.input[..head]);
        self.at = 8 * head as u64;
        self.state = State::Trial;
    }

    fn read_blocks(&mut self, whole: bool, out: &mut Outputs<'_>) -> io::Result<()> {
        loop {
            let before = self.predictor.total();
            let input = Input { bytes: &self.input, origin: self.input_origin, whole };
            let stop = self.inflater.read(&input, &mut self.at, &mut self.predictor);
            self.plain_new += (self.predictor.total() - before) as usize;
            let mut end = match stop {
                Stop::Input | Stop::Full => None,
                Stop::Last => Some(self.at),
                Stop::Malformed => Some(self.drop_incomplete()),
            };
            if end.is_some() {
                self.predictor.close();
            }
            end = self.predict_waiting().or(end);
            if self.state == State::Trial {
                self.decide(end.is_some());
            }
            if self.state == State::NotPredictable && self.writer == Writer::Go {
                self.try_writer(Writer::Go127, gzip_head(&self.input).expect("it was read before"));
                continue;
            }
            self.give(out)?;
            if self.state == State::NotPredictable {
                return Ok(());
            }
            if let Some(end) = end {
                return self.begin_rest(end, out);
            }
            self.predictor.make_room();
            if stop == Stop::Input {
                self.forget_input();
                return Ok(());
            }
        }
    }

    /// Forgets a block that cannot be read to its end, and returns where it begins.
    fn drop_incomplete(&mut self) -> u64 {
        match self.inflater.blocks.pop_back() {
            Some(block) if !block.is_complete => block.start,
            complete => {
                self.inflater.blocks.extend(complete);
                self.at
            }
        }
    }

    /// Predicts as far as enough is known; returns where prediction shall end if it costs too much.
    fn predict_waiting(&mut self) -> Option<u64> {
        while let Some(block) = self.inflater.blocks.front() {
            if block.kind == Kind::Stored {
                self.predictor.advance(block.length - self.current.done);
                self.current.done = block.length;
            }
            while self.current.done < block.length && self.predictor.is_ready() {
                let token = self.inflater.tokens.pop_front().expect("a token for each that was counted");
                self.current.compare(&mut self.predictor, token);
            }
            if !block.is_complete || self.current.done < block.length {
                break;
            }
            let block = self.inflater.blocks.pop_front().expect("the same block");
            let end = block.end;
            if self.finish_block(block) {
                return Some(end);
            }
        }
        None
    }

    /// Writes the section of a block; whether the last ones cost too much.
    fn finish_block(&mut self, block: Block) -> bool {
        let current = std::mem::take(&mut self.current);
        let before = self.recipe_held.len();
        let foreseen = block.kind != Kind::Dynamic
            || block.is_continued
            || head::predict(&block.frequencies).1 == block.head;
        let section = Section {
            kind: block.kind,
            is_last: block.is_last,
            continues: block.continues,
            length: block.length,
            head: (!foreseen).then_some(block.head),
            corrections: current.corrections,
        };
        section.write(&mut self.recipe_held);
        self.recipe_held.extend_from_slice(&current.bytes);
        self.blocks += 1;
        self.run_cost += self.recipe_held.len() - before;
        self.run_size += ((block.end - block.start) / 8) as usize;
        if self.run_size < RUN_COMPRESSED {
            return false;
        }
        let (cost, size) = (std::mem::take(&mut self.run_cost), std::mem::take(&mut self.run_size));
        2 * cost > size
    }

    /// Ends the trial if enough was seen.
    fn decide(&mut self, is_end: bool) {
        let plain = self.plain_held.len() + self.plain_new;
        if !is_end && self.input.len() < TRIAL_COMPRESSED && plain < TRIAL_PLAIN {
            return;
        }
        let cost = self.recipe_held.len() + self.current.bytes.len();
        let fits = TRIAL_PART * cost.saturating_sub(TRIAL_FREE) <= (self.at / 8) as usize;
        let is_something = !is_end || self.blocks > 0;
        self.state = if fits && is_something { State::Blocks } else { State::NotPredictable };
    }

    /// Gives out what is known, or holds it while nothing is decided.
    fn give(&mut self, out: &mut Outputs<'_>) -> io::Result<()> {
        let plain = self.predictor.last(self.plain_new);
        match self.state {
            State::Start | State::Trial => self.plain_held.extend_from_slice(plain),
            State::NotPredictable => {}
            State::Blocks | State::Rest => {
                out.plain.write_all(&std::mem::take(&mut self.plain_held))?;
                out.plain.write_all(plain)?;
                out.recipe.write_all(&self.recipe_held)?;
                self.recipe_held.clear();
            }
        }
        self.plain_new = 0;
        Ok(())
    }

    /// Forgets compressed bytes of which there are sections.
    fn forget_input(&mut self) {
        if self.state == State::Trial {
            return;
        }
        let needed = self.inflater.blocks.front().map_or(self.at, |block| block.start) / 8;
        self.input.drain(..(needed - self.input_origin) as usize);
        self.input_origin = needed;
    }

    /// Ends prediction before the bit `end`. A byte that is begun there goes into the rest whole.
    fn begin_rest(&mut self, end: u64, out: &mut Outputs<'_>) -> io::Result<()> {
        self.input.drain(..(end / 8 - self.input_origin) as usize);
        self.recipe_held.push(REST);
        self.state = State::Rest;
        self.pass(out)
    }

    /// Passes compressed bytes on as they are.
    fn pass(&mut self, out: &mut Outputs<'_>) -> io::Result<()> {
        for piece in self.input.chunks(RAW_MAX) {
            write_varint(&mut self.recipe_held, piece.len());
            self.recipe_held.extend_from_slice(piece);
            out.recipe.write_all(&self.recipe_held)?;
            self.recipe_held.clear();
        }
        self.input_origin += self.input.len() as u64;
        self.at = 8 * self.input_origin;
        self.input.clear();
        Ok(())
    }
}

impl Current {
    fn compare(&mut self, predictor: &mut Predictor, token: crate::symbols::Token) {
        if predictor.predict() == token {
            self.right += 1;
        } else {
            write_correction(&mut self.bytes, std::mem::take(&mut self.right), token);
            self.corrections += 1;
        }
        predictor.advance(token.plain());
        self.done += 1;
    }
}

/// Length of what stands before the first block (RFC 1952, 2.3); `None` if this is no gzip stream, or one with a longer head
/// than recipes hold.
fn gzip_head(bytes: &[u8]) -> Option<usize> {
    const RESERVED: u8 = 0xe0;
    const CHECKSUM: u8 = 2;
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    let bytes = &bytes[..bytes.len().min(GZIP_HEAD_MAX)];
    let (&[0x1f, 0x8b, 8, flags], _) = bytes.split_first_chunk()? else { return None };
    if flags & RESERVED != 0 {
        return None;
    }
    let mut length = 10;
    if flags & EXTRA != 0 {
        let size = bytes.get(length..)?.first_chunk()?;
        length += 2 + usize::from(u16::from_le_bytes(*size));
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            length += bytes.get(length..)?.iter().position(|&byte| byte == 0)? + 1;
        }
    }
    if flags & CHECKSUM != 0 {
        length += 2;
    }
    (length <= bytes.len()).then_some(length)
}
