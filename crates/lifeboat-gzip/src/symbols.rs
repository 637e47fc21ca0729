//! The alphabet of deflate (RFC 1951, 3.2.5): tokens, and the symbols that stand for them.

/// Shortest copy that deflate can say.
pub(crate) const COPY_MIN: usize = 3;
/// Longest copy.
pub(crate) const COPY_MAX: usize = 258;
/// Farthest copy.
pub(crate) const DISTANCE_MAX: usize = 1 << 15;
/// Ends a block.
pub(crate) const END_OF_BLOCK: usize = 256;
/// Symbols for literals, the end and lengths.
pub(crate) const LITERALS: usize = 286;
/// Symbols for distances.
pub(crate) const DISTANCES: usize = 30;
/// Symbols for the lengths of codes.
pub(crate) const CODE_LENGTHS: usize = 19;
/// The order in which a block's head lists the lengths of the code for lengths of codes.
pub(crate) const CODE_LENGTH_ORDER: [usize; CODE_LENGTHS] =
    [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

const LENGTH_BASE: [u16; 29] = [
    3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195,
    227, 258,
];
const LENGTH_EXTRA: [u8; 29] =
    [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const DISTANCE_BASE: [u16; DISTANCES] = [
    1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073,
    4097, 6145, 8193, 12289, 16385, 24577,
];

/// For each length less [`COPY_MIN`], its symbol less 257.
const LENGTH_SYMBOL: [u8; COPY_MAX - COPY_MIN + 1] = length_symbols();

const fn length_symbols() -> [u8; COPY_MAX - COPY_MIN + 1] {
    let mut symbols = [0; COPY_MAX - COPY_MIN + 1];
    let mut symbol = 0;
    while symbol < LENGTH_BASE.len() {
        // The last symbol begins inside what the one before could say too: the later one counts.
        let mut length = LENGTH_BASE[symbol] as usize;
        while length <= COPY_MAX {
            symbols[length - COPY_MIN] = symbol as u8;
            length += 1;
        }
        symbol += 1;
    }
    symbols
}

/// A literal or a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token(u32);

impl Token {
    pub(crate) fn literal(byte: u8) -> Self {
        Self(u32::from(byte))
    }

    /// A copy of at most [`COPY_MAX`] bytes from at most [`DISTANCE_MAX`] bytes ago.
    pub(crate) fn copy(length: usize, distance: usize) -> Self {
        debug_assert!((COPY_MIN..=COPY_MAX).contains(&length) && (1..=DISTANCE_MAX).contains(&distance));
        Self((length << 16 | distance) as u32)
    }

    pub(crate) fn is_literal(self) -> bool {
        self.length() == 0
    }

    /// What a literal stands for.
    pub(crate) fn byte(self) -> u8 {
        self.0 as u8
    }

    /// Length of a copy; 0 for a literal.
    pub(crate) fn length(self) -> usize {
        (self.0 >> 16) as usize
    }

    pub(crate) fn distance(self) -> usize {
        (self.0 & 0xffff) as usize
    }

    /// How many plain bytes it stands for.
    pub(crate) fn plain(self) -> usize {
        self.length().max(1)
    }
}

/// A symbol and the bits that follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Symbol {
    pub(crate) symbol: usize,
    pub(crate) extra: u32,
    pub(crate) extra_bits: u32,
}

/// The symbol for a length: the shortest way to say it, which is the only one that is foreseen.
#[inline]
pub(crate) fn length_symbol(length: usize) -> Symbol {
    let index = usize::from(LENGTH_SYMBOL[length - COPY_MIN]);
    Symbol {
        symbol: END_OF_BLOCK + 1 + index,
        extra: length as u32 - u32::from(LENGTH_BASE[index]),
        extra_bits: u32::from(LENGTH_EXTRA[index]),
    }
}

/// The symbol for a distance.
#[inline]
pub(crate) fn distance_symbol(distance: usize) -> Symbol {
    let less = (distance - 1) as u32;
    if less < 4 {
        return Symbol { symbol: less as usize, extra: 0, extra_bits: 0 };
    }
    let extra_bits = less.ilog2() - 1;
    let symbol = (2 * extra_bits + (less >> extra_bits)) as usize;
    Symbol { symbol, extra: less & ((1 << extra_bits) - 1), extra_bits }
}

/// First length and number of further bits of a symbol above [`END_OF_BLOCK`], less 257.
#[inline]
pub(crate) fn length_base(index: usize) -> Option<(usize, u32)> {
    Some((usize::from(*LENGTH_BASE.get(index)?), u32::from(*LENGTH_EXTRA.get(index)?)))
}

/// First distance and number of further bits of a distance's symbol.
#[inline]
pub(crate) fn distance_base(symbol: usize) -> Option<(usize, u32)> {
    Some((usize::from(*DISTANCE_BASE.get(symbol)?), (symbol as u32 / 2).saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_and_distance_comes_back_from_its_symbol() {
        for length in COPY_MIN..=COPY_MAX {
            let Symbol { symbol, extra, extra_bits } = length_symbol(length);
            let (base, bits) = length_base(symbol - 257).unwrap();
            assert_eq!((base + extra as usize, bits), (length, extra_bits));
            assert!(extra < 1 << extra_bits);
        }
        for distance in 1..=DISTANCE_MAX {
            let Symbol { symbol, extra, extra_bits } = distance_symbol(distance);
            let (base, bits) = distance_base(symbol).unwrap();
            assert_eq!((base + extra as usize, bits), (distance, extra_bits));
        }
        assert_eq!(length_symbol(258).symbol, 285);
        assert_eq!(length_base(29), None);
        assert_eq!(distance_base(30), None);
    }
}
