//! Cuts a large file's pieces into spans that workers share.
//!
//! Must stay true: the same list gives the same spans every time it is followed. What is remembered of a span's pieces
//! is remembered by their numbers.

use super::work::{SPAN_BYTES, SPAN_PIECES};
use crate::pieces::{Error, Pieces};
use lifeboat_format::list::Piece;

/// A stretch of a file.
pub(super) struct Span {
    pub(super) number: usize,
    pub(super) offset: u64,
    pub(super) pieces: Vec<Piece>,
}

/// The spans of one file in order. Ends after the first error.
pub(super) struct Spans<'r> {
    pieces: Pieces<'r>,
    rest: Option<Piece>,
    number: usize,
    offset: u64,
}

impl<'r> Spans<'r> {
    pub(super) fn new(pieces: Pieces<'r>) -> Self {
        Self { pieces, rest: None, number: 0, offset: 0 }
    }

    /// Pieces of about [`SPAN_BYTES`]. Long runs of zeros are cut; holes cost nothing.
    fn cut(&mut self) -> Result<Vec<Piece>, Error> {
        let (mut span, mut cost) = (Vec::new(), 0u64);
        while cost < SPAN_BYTES && span.len() < SPAN_PIECES {
            let next = self.rest.take().map(Ok).or_else(|| self.pieces.next());
            let Some(mut piece) = next.transpose()? else { break };
            if let Piece::Zeros(length) = piece
                && length > SPAN_BYTES - cost
            {
                self.rest = Some(Piece::Zeros(length - (SPAN_BYTES - cost)));
                piece = Piece::Zeros(SPAN_BYTES - cost);
            }
            cost += if matches!(piece, Piece::Hole(_)) { 0 } else { piece.bytes() };
            span.push(piece);
        }
        Ok(span)
    }
}

impl Iterator for Spans<'_> {
    type Item = Result<Span, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let pieces = match self.cut() {
            Ok(pieces) if pieces.is_empty() => return None,
            Ok(pieces) => pieces,
            Err(error) => return Some(Err(error)),
        };
        let span = Span { number: self.number, offset: self.offset, pieces };
        self.number += 1;
        self.offset =
            span.pieces.iter().fold(self.offset, |offset, piece| offset.saturating_add(piece.bytes()));
        Some(Ok(span))
    }
}
