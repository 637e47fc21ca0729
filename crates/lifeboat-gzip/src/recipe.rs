//! The bytes of a recipe: `docs/format/gzip-recipe.md`.

use crate::Error;
use crate::bits::BitString;
use crate::head::HEAD_BITS_MAX;
use crate::predict::Writer;
use crate::symbols::{COPY_MAX, COPY_MIN, DISTANCE_MAX, Token};
use std::io::{BufReader, Read};

/// The version of recipes.
pub(crate) const VERSION: u8 = 1;
/// Longest head of a gzip stream: what stands before the first block.
pub(crate) const GZIP_HEAD_MAX: usize = 16 << 10;
/// Most tokens of a section. Go 1.27 keeps codes that fit for as many pieces as it likes.
pub(crate) const BLOCK_TOKENS_MAX: usize = 1 << 18;
/// Most bytes of a stored block.
pub(crate) const STORED_MAX: usize = 0xffff;
/// Tokens of a block that says nothing else.
pub(crate) const BLOCK_TOKENS: usize = 1 << 14;
/// Most bytes of a piece of the rest.
pub(crate) const RAW_MAX: usize = 1 << 16;

/// First byte of a section: the lowest two bits are the kind of block, or this.
pub(crate) const REST: u8 = 3;
const LAST: u8 = 1 << 2;
const COUNTED: u8 = 1 << 3;
const HEAD: u8 = 1 << 4;
const CORRECTED: u8 = 1 << 5;
const CONTINUES: u8 = 1 << 6;

/// How a block says its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Stored = 0,
    Fixed = 1,
    Dynamic = 2,
}

/// What a section says of a block before its corrections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) kind: Kind,
    pub(crate) is_last: bool,
    /// The next section goes on with the same block.
    pub(crate) continues: bool,
    /// Its tokens, or its bytes if they are stored.
    pub(crate) length: usize,
    /// Its head, if it is dynamic and has another one than predicted.
    pub(crate) head: Option<BitString>,
    pub(crate) corrections: usize,
}

impl Section {
    pub(crate) fn write(&self, recipe: &mut Vec<u8>) {
        let counted = self.kind == Kind::Stored || self.length != BLOCK_TOKENS;
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        recipe.push(
            self.kind as u8
                | flag(self.is_last, LAST)
                | flag(self.continues, CONTINUES)
                | flag(counted, COUNTED)
                | flag(self.head.is_some(), HEAD)
                | flag(self.corrections > 0, CORRECTED),
        );
        if counted {
            write_varint(recipe, self.length);
        }
        if let Some(head) = &self.head {
            write_varint(recipe, head.bits);
            recipe.extend_from_slice(&head.bytes);
        }
        if self.corrections > 0 {
            write_varint(recipe, self.corrections);
        }
    }
}

/// Appends a correction: `right` tokens were as predicted, then comes `token`.
pub(crate) fn write_correction(recipe: &mut Vec<u8>, right: usize, token: Token) {
    write_varint(recipe, right);
    if token.is_literal() {
        write_varint(recipe, 0);
    } else {
        write_varint(recipe, token.length() + 1 - COPY_MIN);
        write_varint(recipe, token.distance());
    }
}

/// Appends a number.
pub(crate) fn write_varint(recipe: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        recipe.push(value as u8 | 0x80);
        value >>= 7;
    }
    recipe.push(value as u8);
}

/// Reads a recipe.
pub(crate) struct RecipeReader<R> {
    input: BufReader<R>,
}

impl<R: Read> RecipeReader<R> {
    /// Reads the beginning, and returns who wrote the gzip stream, and its head.
    pub(crate) fn open(recipe: R) -> Result<(Self, Writer, Vec<u8>), Error> {
        let mut reader = Self { input: BufReader::new(recipe) };
        let version = reader.byte()?;
        if version != VERSION {
            return Err(Error::Unsupported { what: "version", number: version });
        }
        let writer = match reader.byte()? {
            1 => Writer::Go,
            2 => Writer::Go127,
            number => return Err(Error::Unsupported { what: "predictor", number }),
        };
        let length = reader.number(GZIP_HEAD_MAX, "the gzip head is too long")?;
        let head = reader.bytes(length)?;
        Ok((reader, writer, head))
    }

    /// The next block, or `None` if the rest follows.
    pub(crate) fn section(&mut self) -> Result<Option<Section>, Error> {
        let first = self.byte()?;
        let kind = match first & 3 {
            0 => Kind::Stored,
            1 => Kind::Fixed,
            2 => Kind::Dynamic,
            _ if first == REST => return Ok(None),
            _ => return Err(Error::Damaged("the rest has flags")),
        };
        let has = |flag: u8| first & flag != 0;
        let allowed = match kind {
            Kind::Stored => has(COUNTED) && !has(HEAD | CORRECTED | CONTINUES),
            Kind::Fixed => !has(HEAD),
            Kind::Dynamic => true,
        };
        if !allowed || first >> 7 != 0 {
            return Err(Error::Damaged("a section has flags that its block cannot have"));
        }
        let longest = if kind == Kind::Stored { STORED_MAX } else { BLOCK_TOKENS_MAX };
        let length = if has(COUNTED) { self.number(longest, "a block is too long")? } else { BLOCK_TOKENS };
        let head = if has(HEAD) { Some(self.head()?) } else { None };
        let corrections =
            if has(CORRECTED) { self.number(length, "more corrections than tokens")? } else { 0 };
        Ok(Some(Section { kind, is_last: has(LAST), continues: has(CONTINUES), length, head, corrections }))
    }

    fn head(&mut self) -> Result<BitString, Error> {
        let bits = self.number(HEAD_BITS_MAX, "a block's head is too long")?;
        Ok(BitString { bytes: self.bytes(bits.div_ceil(8))?, bits })
    }

    /// A correction: how many tokens before it were right, and the token unless it is a literal.
    pub(crate) fn correction(&mut self) -> Result<(usize, Option<Token>), Error> {
        let right = self.number(BLOCK_TOKENS_MAX, "a correction is too far away")?;
        let length = self.number(COPY_MAX + 1 - COPY_MIN, "a copy is too long")?;
        if length == 0 {
            return Ok((right, None));
        }
        let distance = self.number(DISTANCE_MAX, "a copy is from too far")?;
        if distance == 0 {
            return Err(Error::Damaged("a copy is of itself"));
        }
        Ok((right, Some(Token::copy(length + COPY_MIN - 1, distance))))
    }

    /// A piece of the rest; an empty one is the end, behind which nothing may follow.
    pub(crate) fn rest(&mut self) -> Result<Vec<u8>, Error> {
        let length = self.number(RAW_MAX, "a piece of the rest is too long")?;
        if length == 0 {
            match self.byte() {
                Ok(_) => return Err(Error::Damaged("bytes follow its end")),
                Err(Error::Damaged(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.bytes(length)
    }

    fn byte(&mut self) -> Result<u8, Error> {
        let mut byte = [0];
        self.exact(&mut byte)?;
        Ok(byte[0])
    }

    fn bytes(&mut self, length: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; length];
        self.exact(&mut bytes)?;
        Ok(bytes)
    }

    fn exact(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.input.read_exact(bytes).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Error::Damaged("it ends early"),
            _ => Error::Recipe(error),
        })
    }

    /// A varint up to `largest`, which is below 2^21, in its shortest form.
    fn number(&mut self, largest: usize, problem: &'static str) -> Result<usize, Error> {
        let mut value = 0;
        for shift in [0, 7, 14] {
            let byte = self.byte()?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                if byte == 0 && shift > 0 {
                    return Err(Error::Damaged("a number is not in its shortest form"));
                }
                return if value <= largest { Ok(value) } else { Err(Error::Damaged(problem)) };
            }
        }
        Err(Error::Damaged(problem))
    }
}
