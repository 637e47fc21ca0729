//! Heads of blocks with codes of their own: as Go would write them, and as they are read.

use crate::bits::{BitReader, BitString};
use crate::huffman::{self, Decoder};
use crate::symbols::{CODE_LENGTH_ORDER, CODE_LENGTHS, DISTANCES, END_OF_BLOCK, LITERALS, Token};
use crate::symbols::{distance_symbol, length_symbol};

/// No head is longer, whatever wrote it: three counts, 19 lengths of 3 bits, and 316 symbols of at most 7 + 7 bits.
pub(crate) const HEAD_BITS_MAX: usize = 14 + 19 * 3 + (LITERALS + DISTANCES) * 14;

/// How often each symbol occurs in a block.
#[derive(Clone)]
pub(crate) struct Frequencies {
    literals: [u32; LITERALS],
    distances: [u32; DISTANCES],
}

impl Frequencies {
    /// Of no tokens, and the end.
    pub(crate) fn new() -> Self {
        let mut frequencies = Self { literals: [0; LITERALS], distances: [0; DISTANCES] };
        frequencies.literals[END_OF_BLOCK] = 1;
        frequencies
    }

    #[inline]
    pub(crate) fn add_symbol(&mut self, symbol: usize) {
        self.literals[symbol] += 1;
    }

    #[inline]
    pub(crate) fn add_distance(&mut self, symbol: usize) {
        self.distances[symbol] += 1;
    }

    #[inline]
    pub(crate) fn add(&mut self, token: Token) {
        if token.is_literal() {
            return self.add_symbol(usize::from(token.byte()));
        }
        self.add_symbol(length_symbol(token.length()).symbol);
        self.add_distance(distance_symbol(token.distance()).symbol);
    }
}

/// Lengths of the codes of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lengths {
    pub(crate) literals: Vec<u8>,
    pub(crate) distances: Vec<u8>,
}

impl Lengths {
    /// Those of blocks that do not say theirs (RFC 1951, 3.2.6).
    pub(crate) fn fixed() -> Self {
        let literals = (0..288).map(|symbol| match symbol {
            0..144 => 8,
            144..256 => 9,
            256..280 => 7,
            _ => 8,
        });
        Self { literals: literals.collect(), distances: vec![5; 32] }
    }

    /// Reads a head; `None` if it is none.
    pub(crate) fn read(reader: &mut BitReader<'_>) -> Option<Self> {
        let literals = reader.take(5)? as usize + 257;
        let distances = reader.take(5)? as usize + 1;
        let listed = reader.take(4)? as usize + 4;
        if literals > LITERALS || distances > DISTANCES {
            return None;
        }
        let mut code_lengths = [0; CODE_LENGTHS];
        for &symbol in &CODE_LENGTH_ORDER[..listed] {
            code_lengths[symbol] = reader.take(3)? as u8;
        }
        let decoder = Decoder::new(&code_lengths)?;
        let mut lengths = Vec::with_capacity(literals + distances);
        while lengths.len() < literals + distances {
            reader.refill();
            let (length, times) = match decoder.read(reader)? {
                16 => (*lengths.last()?, reader.take_ready(2)? + 3),
                17 => (0, reader.take_ready(3)? + 3),
                18 => (0, reader.take_ready(7)? + 11),
                length => (length as u8, 1),
            };
            lengths.extend(std::iter::repeat_n(length, times as usize));
        }
        if lengths.len() > literals + distances || lengths[END_OF_BLOCK] == 0 {
            return None;
        }
        let distances = lengths.split_off(literals);
        Some(Self { literals: lengths, distances })
    }
}

/// The head that Go's `huffmanBitWriter` writes for a block with these frequencies.
pub(crate) fn predict(frequencies: &Frequencies) -> (Lengths, BitString) {
    let mut distances = frequencies.distances;
    let literals_listed = listed(&frequencies.literals);
    let distances_listed = listed(&distances).max(1);
    if distances_listed == 1 {
        // A block without copies still lists one distance, and gives it a code.
        distances[0] = distances[0].max(1);
    }
    let lengths = Lengths {
        literals: huffman::code_lengths(&frequencies.literals[..literals_listed], huffman::CODE_BITS_MAX),
        distances: huffman::code_lengths(&distances[..distances_listed], huffman::CODE_BITS_MAX),
    };
    let bits = write(&lengths);
    (lengths, bits)
}

/// How many symbols there are up to the last that occurs.
fn listed(frequencies: &[u32]) -> usize {
    frequencies.iter().rposition(|&frequency| frequency > 0).map_or(0, |last| last + 1)
}

fn write(lengths: &Lengths) -> BitString {
    let all = [lengths.literals.as_slice(), &lengths.distances].concat();
    let runs = runs(&all);
    let mut frequencies = [0; CODE_LENGTHS];
    for run in &runs {
        frequencies[usize::from(run.symbol)] += 1;
    }
    let code_lengths = huffman::code_lengths(&frequencies, 7);
    let codes = huffman::codes(&code_lengths).expect("an optimal code is not too large");
    let listed = CODE_LENGTH_ORDER
        .iter()
        .rposition(|&symbol| code_lengths[symbol] > 0)
        .map_or(0, |last| last + 1)
        .max(4);
    let mut head = BitString::default();
    head.push(lengths.literals.len() as u32 - 257, 5);
    head.push(lengths.distances.len() as u32 - 1, 5);
    head.push(listed as u32 - 4, 4);
    for &symbol in &CODE_LENGTH_ORDER[..listed] {
        head.push(u32::from(code_lengths[symbol]), 3);
    }
    for Run { symbol, extra, extra_bits } in runs {
        let (code, bits) = codes[usize::from(symbol)];
        head.push(u32::from(code), u32::from(bits));
        head.push(extra, extra_bits);
    }
    head
}

/// A length, or that one is repeated.
struct Run {
    symbol: u8,
    extra: u32,
    extra_bits: u32,
}

/// Lengths of codes with their repetitions, as Go says them: greedily, and across the border between literals and distances.
fn runs(lengths: &[u8]) -> Vec<Run> {
    let mut runs = Vec::new();
    for same in lengths.chunk_by(|a, b| a == b) {
        let length = same[0];
        let mut left = same.len();
        let mut push =
            |symbol, extra: usize, extra_bits| runs.push(Run { symbol, extra: extra as u32, extra_bits });
        if length == 0 {
            while left >= 11 {
                let times = left.min(138);
                push(18, times - 11, 7);
                left -= times;
            }
            if left >= 3 {
                push(17, left - 3, 3);
                left = 0;
            }
        } else {
            push(length, 0, 0);
            left -= 1;
            while left >= 3 {
                let times = left.min(6);
                push(16, times - 3, 2);
                left -= times;
            }
        }
        for _ in 0..left {
            push(length, 0, 0);
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_predicted_head_reads_as_its_lengths(
            literals in prop::collection::vec(prop_oneof![Just(0u32), 1u32..5000], LITERALS),
            distances in prop::collection::vec(prop_oneof![3 => Just(0u32), 1 => 1u32..5000], DISTANCES),
        ) {
            let mut frequencies = Frequencies::new();
            frequencies.literals.copy_from_slice(&literals);
            frequencies.literals[END_OF_BLOCK] = 1;
            frequencies.distances.copy_from_slice(&distances);
            let (lengths, bits) = predict(&frequencies);
            prop_assert!(bits.bits <= HEAD_BITS_MAX);
            let mut reader = BitReader::new(&bits.bytes, 0);
            prop_assert_eq!(Lengths::read(&mut reader), Some(lengths));
            prop_assert_eq!(reader.position(), bits.bits);
        }
    }
}
