//! Makes a gzip stream of plain bytes and its recipe.
//!
//! Must stay true: a recipe from anybody ends in an error or in a stream, without a panic and with work that is bounded by
//! its length and the number of plain bytes.
//!
//! Read next: `docs/format/gzip-recipe.md`.

use crate::Error;
use crate::bits::{BitReader, BitWriter};
use crate::head::{self, Frequencies, Lengths};
use crate::huffman;
use crate::predict::Predictor;
use crate::recipe::{Kind, RecipeReader, Section};
use crate::symbols::{END_OF_BLOCK, Symbol, Token, distance_symbol, length_symbol};
use std::io::{Read, Write};

/// Recreates one gzip stream; see the [example](crate#example).
///
/// # Guarantees
///
/// With the plain bytes and the recipe of an [`Analyzer`](crate::Analyzer) the stream is the one that it saw. With others there
/// is an error or some stream: compare digests. Seldom it is the same one all the same, where the recipe says what a copy is
/// and nobody looks at the plain bytes that it stands for.
///
/// # Errors
///
/// [`ErrorKind::Damaged`](crate::ErrorKind::Damaged) where the recipe contradicts itself or the plain bytes, also by their number.
pub struct Recreator<R> {
    recipe: RecipeReader<R>,
    predictor: Predictor,
    state: State,
    tokens: Vec<Token>,
    frequencies: Frequencies,
    /// The codes of a block that goes on, its kind, and whether it is the last.
    going_on: Option<(Codes, Kind, bool)>,
    stream: BitWriter,
}

enum State {
    /// A section follows.
    Section,
    /// A stored block follows: so many bytes.
    Stored(usize),
    /// Tokens are predicted.
    Tokens(Block),
    /// Behind the last section.
    Rest,
    /// Everything was written.
    Done,
}

/// The block that is being made.
struct Block {
    section: Section,
    /// Corrections that were not read yet.
    corrections: usize,
    /// The next one: the number of its token, and the token unless it is a literal.
    correction: Option<(usize, Option<Token>)>,
}

impl<R: Read> Recreator<R> {
    /// Reads the beginning of a recipe, which must end where `recipe` ends.
    pub fn new(recipe: R) -> Result<Self, Error> {
        let (recipe, writer, head) = RecipeReader::open(recipe)?;
        let mut stream = BitWriter::default();
        stream.push_bytes(&head);
        Ok(Self {
            recipe,
            predictor: Predictor::new(writer),
            state: State::Section,
            tokens: Vec::new(),
            frequencies: Frequencies::new(),
            going_on: None,
            stream,
        })
    }

    /// Takes the next plain bytes, and writes the stream as far as it is known.
    pub fn push(&mut self, plain: &[u8], stream: &mut dyn Write) -> Result<(), Error> {
        let mut plain = plain;
        while !plain.is_empty() && !matches!(self.state, State::Done) {
            self.predictor.make_room();
            let (now, later) = plain.split_at(plain.len().min(self.predictor.room()));
            self.predictor.append(now);
            plain = later;
            self.go_on(stream)?;
        }
        Ok(())
    }

    /// There are no more plain bytes: writes the rest of the stream.
    pub fn finish(&mut self, stream: &mut dyn Write) -> Result<(), Error> {
        self.predictor.close();
        self.go_on(stream)?;
        match self.state {
            State::Done => Ok(()),
            _ => Err(Error::Damaged("there are fewer plain bytes than it tells")),
        }
    }

    /// Goes on until plain bytes are missing or everything was written.
    fn go_on(&mut self, stream: &mut dyn Write) -> Result<(), Error> {
        let mut more = true;
        while more {
            more = match &mut self.state {
                State::Section => self.begin()?,
                State::Stored(_) => self.store(),
                State::Tokens(_) => self.predict()?,
                State::Rest => self.pass()?,
                State::Done => false,
            };
            self.stream.settle(stream).map_err(Error::Stream)?;
        }
        if matches!(self.state, State::Done) {
            self.stream.flush(stream).map_err(Error::Stream)
        } else {
            Ok(())
        }
    }

    /// Reads the next section.
    fn begin(&mut self) -> Result<bool, Error> {
        let Some(section) = self.recipe.section()? else {
            self.stream.drop_partial();
            self.state = State::Rest;
            return Ok(true);
        };
        if let Some((_, kind, is_last)) = self.going_on {
            if (section.kind, section.is_last) != (kind, is_last) || section.head.is_some() {
                return Err(Error::Damaged("a block goes on as another one"));
            }
        } else {
            self.stream.push(u64::from(section.is_last), 1);
            self.stream.push(section.kind as u64, 2);
        }
        if section.kind == Kind::Stored {
            self.stream.align();
            self.stream.push(section.length as u64, 16);
            self.stream.push(!section.length as u64 & 0xffff, 16);
            self.stream.align();
            self.state = State::Stored(section.length);
        } else {
            let mut block = Block { corrections: section.corrections, section, correction: None };
            block.next_correction(0, &mut self.recipe)?;
            self.tokens.clear();
            self.frequencies = Frequencies::new();
            self.state = State::Tokens(block);
        }
        Ok(true)
    }

    /// Writes bytes of a stored block.
    fn store(&mut self) -> bool {
        let State::Stored(left) = &mut self.state else { return true };
        let bytes = self.predictor.upcoming();
        let count = bytes.len().min(*left);
        self.stream.push_bytes(&bytes[..count]);
        self.predictor.advance(count);
        *left -= count;
        if *left > 0 {
            return false;
        }
        self.state = State::Section;
        true
    }

    /// Predicts tokens of a block, and writes it when it has all.
    fn predict(&mut self) -> Result<bool, Error> {
        let State::Tokens(block) = &mut self.state else { return Ok(true) };
        while self.tokens.len() < block.section.length {
            if !self.predictor.is_ready() {
                return Ok(false);
            }
            let token = match block.correction {
                Some((at, token)) if at == self.tokens.len() => {
                    block.next_correction(at + 1, &mut self.recipe)?;
                    token.unwrap_or(Token::literal(self.predictor.byte()))
                }
                _ => self.predictor.predict(),
            };
            if token.plain() > self.predictor.ahead() {
                return Err(Error::Damaged("a copy is longer than the plain bytes"));
            }
            self.frequencies.add(token);
            self.tokens.push(token);
            self.predictor.advance(token.plain());
        }
        if block.correction.is_some() {
            return Err(Error::Damaged("a correction is behind its block"));
        }
        let codes = match self.going_on.take() {
            Some((codes, ..)) => codes,
            None => {
                let lengths = block.write_head(&self.frequencies, &mut self.stream)?;
                Codes::new(&lengths).ok_or(Error::Damaged("a block has too many codes"))?
            }
        };
        codes.write(&self.tokens, &mut self.stream).ok_or(Error::Damaged("a token has no code"))?;
        if block.section.continues {
            self.going_on = Some((codes, block.section.kind, block.section.is_last));
        } else {
            codes.write_end(&mut self.stream).ok_or(Error::Damaged("the end of a block has no code"))?;
        }
        self.state = State::Section;
        Ok(true)
    }

    /// Writes a piece of what was not predicted.
    fn pass(&mut self) -> Result<bool, Error> {
        let piece = self.recipe.rest()?;
        self.stream.push_bytes(&piece);
        if piece.is_empty() {
            self.state = State::Done;
        }
        Ok(true)
    }
}

impl Block {
    /// Reads the next correction, which is for token `from` or a later one.
    fn next_correction<R: Read>(&mut self, from: usize, recipe: &mut RecipeReader<R>) -> Result<(), Error> {
        self.correction = None;
        if self.corrections > 0 {
            self.corrections -= 1;
            let (right, token) = recipe.correction()?;
            self.correction = Some((from + right, token));
        }
        Ok(())
    }

    /// Writes what a dynamic block says of its codes, and returns these.
    fn write_head(&self, frequencies: &Frequencies, stream: &mut BitWriter) -> Result<Lengths, Error> {
        if self.section.kind == Kind::Fixed {
            return Ok(Lengths::fixed());
        }
        let Some(head) = &self.section.head else {
            let (lengths, head) = head::predict(frequencies);
            stream.push_string(&head);
            return Ok(lengths);
        };
        let mut reader = BitReader::new(&head.bytes, 0);
        let lengths = Lengths::read(&mut reader).filter(|_| reader.position() == head.bits);
        stream.push_string(head);
        lengths.ok_or(Error::Damaged("the head of a block is none"))
    }
}

/// The codes of a block: bits and their number.
struct Codes {
    literals: Vec<(u16, u8)>,
    distances: Vec<(u16, u8)>,
}

impl Codes {
    fn new(lengths: &Lengths) -> Option<Self> {
        Some(Self {
            literals: huffman::codes(&lengths.literals)?,
            distances: huffman::codes(&lengths.distances)?,
        })
    }

    /// Writes tokens; `None` if one of them has no code.
    fn write(&self, tokens: &[Token], stream: &mut BitWriter) -> Option<()> {
        for token in tokens {
            if token.is_literal() {
                let (bits, count) = code(&self.literals, usize::from(token.byte()))?;
                stream.push(bits, count);
                continue;
            }
            let (bits, count) = code_with_extra(&self.literals, length_symbol(token.length()))?;
            let (more, more_count) = code_with_extra(&self.distances, distance_symbol(token.distance()))?;
            stream.push(bits | more << count, count + more_count);
        }
        Some(())
    }

    fn write_end(&self, stream: &mut BitWriter) -> Option<()> {
        let (bits, count) = code(&self.literals, END_OF_BLOCK)?;
        stream.push(bits, count);
        Some(())
    }
}

#[inline]
fn code(codes: &[(u16, u8)], symbol: usize) -> Option<(u64, u32)> {
    let &(bits, count) = codes.get(symbol)?;
    (count > 0).then_some((u64::from(bits), u32::from(count)))
}

#[inline]
fn code_with_extra(codes: &[(u16, u8)], symbol: Symbol) -> Option<(u64, u32)> {
    let (bits, count) = code(codes, symbol.symbol)?;
    Some((bits | u64::from(symbol.extra) << count, count + symbol.extra_bits))
}
