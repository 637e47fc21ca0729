//! Takes deflate blocks apart into tokens, and makes plain bytes of these.

use crate::bits::{BitReader, BitString};
use crate::fast::PIECE;
use crate::head::{Frequencies, HEAD_BITS_MAX, Lengths};
use crate::huffman::Decoder;
use crate::predict::Predictor;
use crate::recipe::{BLOCK_TOKENS_MAX, Kind};
use crate::symbols::{COPY_MAX, COPY_MIN, DISTANCE_MAX, END_OF_BLOCK, Token};
use crate::symbols::{distance_base, length_base};
use std::collections::VecDeque;

/// Tokens that wait to be predicted: more than a piece can have that has to be complete before.
const TOKENS_WAITING: usize = PIECE + (32 << 10);
/// Blocks that wait. Only where blocks say nearly nothing do so many lie within what a prediction looks ahead.
const BLOCKS_WAITING: usize = 64;

/// A block that was read or is being read.
pub(crate) struct Block {
    pub(crate) kind: Kind,
    pub(crate) is_last: bool,
    /// Its first bit in the compressed stream.
    pub(crate) start: u64,
    /// The bit behind its last one, as far as it was read.
    pub(crate) end: u64,
    /// What a dynamic block says of its codes.
    pub(crate) head: BitString,
    pub(crate) frequencies: Box<Frequencies>,
    /// Its tokens, or its bytes if they are stored, as far as they were read.
    pub(crate) length: usize,
    pub(crate) is_complete: bool,
    /// It is a part of a block that goes on from the part before: it has no head.
    pub(crate) is_continued: bool,
    /// The next one goes on with the same block.
    pub(crate) continues: bool,
}

impl Block {
    fn next_part(&self) -> Self {
        Self {
            start: self.end,
            head: BitString::default(),
            frequencies: Box::new(Frequencies::new()),
            length: 0,
            is_complete: false,
            is_continued: true,
            continues: false,
            ..*self
        }
    }
}

/// Why reading stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// More compressed bytes are needed.
    Input,
    /// What was read has to be predicted first.
    Full,
    /// The last block is complete.
    Last,
    /// These are no blocks, or none that a recipe foresees.
    Malformed,
}

/// What the open block goes on with.
enum Body {
    Stored(usize),
    Coded(Box<[Decoder; 2]>),
}

/// Reads blocks.
pub(crate) struct Inflater {
    body: Option<Body>,
    /// Tokens of the blocks in `blocks` that were not predicted yet.
    pub(crate) tokens: VecDeque<Token>,
    pub(crate) blocks: VecDeque<Block>,
}

/// Compressed bytes in memory.
pub(crate) struct Input<'a> {
    pub(crate) bytes: &'a [u8],
    /// Where they begin in the stream.
    pub(crate) origin: u64,
    /// Nothing comes behind them.
    pub(crate) whole: bool,
}

impl<'a> Input<'a> {
    fn reader(&self, at: u64) -> BitReader<'a> {
        BitReader::new(self.bytes, (at - 8 * self.origin) as usize)
    }

    fn at(&self, reader: &BitReader<'_>) -> u64 {
        8 * self.origin + reader.position() as u64
    }
}

impl Inflater {
    pub(crate) fn new() -> Self {
        Self { body: None, tokens: VecDeque::with_capacity(TOKENS_WAITING), blocks: VecDeque::new() }
    }

    /// Reads on from the bit `at`, and says where and why it stopped.
    pub(crate) fn read(&mut self, input: &Input<'_>, at: &mut u64, plain: &mut Predictor) -> Stop {
        loop {
            let mut reader = input.reader(*at);
            let step = match &mut self.body {
                None => self.open(input, &mut reader),
                Some(Body::Stored(left)) => stored(&mut self.blocks, left, input, &mut reader, plain),
                Some(Body::Coded(decoders)) => {
                    let block = self.blocks.back_mut().expect("a body has a block");
                    coded(&mut self.tokens, block, decoders, input.whole, &mut reader, plain)
                }
            };
            // A head that is none was not read: the rest begins with it.
            if step != Err(Stop::Malformed) {
                *at = input.at(&reader);
            }
            match step {
                Ok(()) => {
                    let Some(block) = self.blocks.back_mut().filter(|block| block.is_complete) else {
                        continue;
                    };
                    block.end = *at;
                    if block.continues {
                        let next = block.next_part();
                        self.blocks.push_back(next);
                        continue;
                    }
                    self.body = None;
                    if block.is_last {
                        return Stop::Last;
                    }
                }
                Err(stop) => return stop,
            }
        }
    }

    /// Reads a block's head.
    fn open(&mut self, input: &Input<'_>, reader: &mut BitReader<'_>) -> Result<(), Stop> {
        let start = input.at(reader);
        let left = 8 * input.bytes.len() - reader.position();
        if left < HEAD_BITS_MAX + 64 && !input.whole {
            return Err(Stop::Input);
        }
        if self.blocks.len() >= BLOCKS_WAITING {
            return Err(Stop::Malformed);
        }
        let mut block = Block {
            kind: Kind::Stored,
            is_last: reader.take(1) == Some(1),
            start,
            end: start,
            head: BitString::default(),
            frequencies: Box::new(Frequencies::new()),
            length: 0,
            is_complete: false,
            is_continued: false,
            continues: false,
        };
        let (kind, body) = match reader.take(2).ok_or(Stop::Malformed)? {
            0 => (Kind::Stored, Body::Stored(stored_length(reader).ok_or(Stop::Malformed)?)),
            1 => (Kind::Fixed, decoders(&Lengths::fixed()).ok_or(Stop::Malformed)?),
            2 => {
                let from = reader.position();
                let lengths = Lengths::read(reader).ok_or(Stop::Malformed)?;
                block.head =
                    BitString::between(input.bytes, from, reader.position()).ok_or(Stop::Malformed)?;
                (Kind::Dynamic, decoders(&lengths).ok_or(Stop::Malformed)?)
            }
            _ => return Err(Stop::Malformed),
        };
        block.kind = kind;
        block.is_complete = matches!(body, Body::Stored(0));
        self.body = Some(body);
        self.blocks.push_back(block);
        Ok(())
    }
}

fn decoders(lengths: &Lengths) -> Option<Body> {
    Some(Body::Coded(Box::new([Decoder::new(&lengths.literals)?, Decoder::new(&lengths.distances)?])))
}

/// How many bytes a stored block has. Its padding must be zeros, as everybody writes it.
fn stored_length(reader: &mut BitReader<'_>) -> Option<usize> {
    let padding = (8 - reader.position() % 8) % 8;
    if reader.take(padding as u32)? != 0 {
        return None;
    }
    let length = reader.take(16)?;
    (reader.take(16)? == !length & 0xffff).then_some(length as usize)
}

/// Goes on with the bytes of a stored block.
fn stored<'a>(
    blocks: &mut VecDeque<Block>,
    left: &mut usize,
    input: &Input<'a>,
    reader: &mut BitReader<'a>,
    plain: &mut Predictor,
) -> Result<(), Stop> {
    let from = reader.position() / 8;
    let available = (input.bytes.len() - from).min(*left);
    let count = available.min(plain.room());
    plain.append(&input.bytes[from..from + count]);
    *reader = BitReader::new(input.bytes, 8 * (from + count));
    *left -= count;
    let block = blocks.back_mut().expect("a body has a block");
    block.length += count;
    block.is_complete = *left == 0;
    match *left {
        0 => Ok(()),
        _ if count < available => Err(Stop::Full),
        _ if input.whole => Err(Stop::Malformed),
        _ => Err(Stop::Input),
    }
}

/// Goes on with the tokens of a coded block.
fn coded(
    tokens: &mut VecDeque<Token>,
    block: &mut Block,
    decoders: &[Decoder; 2],
    whole: bool,
    reader: &mut BitReader<'_>,
    plain: &mut Predictor,
) -> Result<(), Stop> {
    let [literals, distances] = decoders;
    loop {
        if block.length == BLOCK_TOKENS_MAX {
            (block.is_complete, block.continues) = (true, true);
            return Ok(());
        }
        if plain.room() < COPY_MAX || tokens.len() >= TOKENS_WAITING {
            return Err(Stop::Full);
        }
        // A token has at most 15 + 5 + 15 + 13 bits.
        if reader.refill() < 48 && !whole {
            return Err(Stop::Input);
        }
        let symbol = literals.read(reader).ok_or(Stop::Malformed)?;
        if symbol == END_OF_BLOCK {
            block.is_complete = true;
            return Ok(());
        }
        block.length += 1;
        if symbol < END_OF_BLOCK {
            block.frequencies.add_symbol(symbol);
            plain.append_byte(symbol as u8);
            tokens.push_back(Token::literal(symbol as u8));
            continue;
        }
        let token = copy(symbol, distances, block, reader).ok_or(Stop::Malformed)?;
        if token.distance() > plain.history() {
            return Err(Stop::Malformed);
        }
        plain.append_copy(token.length(), token.distance());
        tokens.push_back(token);
    }
}

/// The copy that begins with `symbol`.
#[inline]
fn copy(symbol: usize, distances: &Decoder, block: &mut Block, reader: &mut BitReader<'_>) -> Option<Token> {
    let (base, bits) = length_base(symbol - END_OF_BLOCK - 1)?;
    let length = base + reader.take_ready(bits)? as usize;
    // The longest copy can be said in two ways; nobody says it in the longer one, and a token does not remember it.
    if length == COPY_MAX && bits > 0 {
        return None;
    }
    let distance_symbol = distances.read(reader)?;
    let (base, bits) = distance_base(distance_symbol)?;
    let distance = base + reader.take_ready(bits)? as usize;
    block.frequencies.add_symbol(symbol);
    block.frequencies.add_distance(distance_symbol);
    debug_assert!((COPY_MIN..=COPY_MAX).contains(&length) && distance <= DISTANCE_MAX);
    Some(Token::copy(length, distance))
}
