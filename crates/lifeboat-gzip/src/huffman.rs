//! Huffman codes: as Go builds them, as deflate numbers them, and reading them.

use crate::bits::BitReader;

/// Longest code in deflate.
pub(crate) const CODE_BITS_MAX: usize = 15;

/// The lengths that Go's `compress/flate` gives the symbols (`huffman_code.go`): an optimal code of at most `limit` bits, by
/// package-merge.
///
/// There are many optimal codes. Which one Go takes follows from three rules: symbols of one frequency stand in their order; of
/// a package and a symbol of one weight the package goes first; and one or two symbols have one bit each.
pub(crate) fn code_lengths(frequencies: &[u32], limit: usize) -> Vec<u8> {
    let mut lengths = vec![0; frequencies.len()];
    let mut leaves: Vec<(u64, usize)> = (frequencies.iter().enumerate())
        .filter(|&(_, &frequency)| frequency > 0)
        .map(|(symbol, &frequency)| (u64::from(frequency), symbol))
        .collect();
    if leaves.len() <= 2 {
        for (_, symbol) in leaves {
            lengths[symbol] = 1;
        }
        return lengths;
    }
    leaves.sort_unstable();
    let wanted = 2 * leaves.len() - 2;
    let mut rows: Vec<Vec<bool>> = Vec::new();
    let mut weights: Vec<u64> = Vec::new();
    for _ in 0..limit.min(leaves.len() - 1) {
        let (row, merged) = merge(&leaves, &weights, wanted);
        rows.push(row);
        weights = merged;
    }
    let mut taken = wanted;
    for row in rows.iter().rev() {
        let symbols = row[..taken].iter().filter(|&&leaf| leaf).count();
        for &(_, symbol) in &leaves[..symbols] {
            lengths[symbol] += 1;
        }
        taken = 2 * (taken - symbols);
    }
    lengths
}

/// Symbols and pairs of the row below by weight, at most `wanted` of them: which ones are symbols, and all weights.
fn merge(leaves: &[(u64, usize)], below: &[u64], wanted: usize) -> (Vec<bool>, Vec<u64>) {
    let mut row = Vec::with_capacity(wanted);
    let mut weights = Vec::with_capacity(wanted);
    let mut leaves = leaves.iter().map(|&(weight, _)| weight).peekable();
    let mut packages = below.as_chunks::<2>().0.iter().map(|pair| pair[0] + pair[1]).peekable();
    while row.len() < wanted {
        let leaf = match (leaves.peek(), packages.peek()) {
            (Some(leaf), Some(package)) => leaf < package,
            (leaf, None) if leaf.is_none() => break,
            (leaf, _) => leaf.is_some(),
        };
        row.push(leaf);
        weights.extend(if leaf { leaves.next() } else { packages.next() });
    }
    (row, weights)
}

/// How many codes there are of each length; `None` if more than there can be.
fn counts(lengths: &[u8]) -> Option<[u16; CODE_BITS_MAX + 1]> {
    let mut counts = [0; CODE_BITS_MAX + 1];
    for &length in lengths {
        counts[usize::from(length)] += 1;
    }
    counts[0] = 0;
    let taken: u32 = (1..).zip(&counts[1..]).map(|(bits, &count)| u32::from(count) << (15 - bits)).sum();
    (taken <= 1 << 15).then_some(counts)
}

/// The code of each symbol, its bits in the order in which they are written, and their number; `None` if there are more codes
/// than there can be.
pub(crate) fn codes(lengths: &[u8]) -> Option<Vec<(u16, u8)>> {
    let counts = counts(lengths)?;
    let mut next = [0u16; CODE_BITS_MAX + 1];
    for bits in 1..=CODE_BITS_MAX {
        // The last code of a full set is followed by one that has no room; it is not used.
        next[bits] = (next[bits - 1].wrapping_add(counts[bits - 1])).wrapping_shl(1);
    }
    let code = |&length: &u8| {
        if length == 0 {
            return (0, 0);
        }
        let code = &mut next[usize::from(length)];
        let reversed = code.reverse_bits() >> (16 - length);
        *code = code.wrapping_add(1);
        (reversed, length)
    };
    Some(lengths.iter().map(code).collect())
}

/// Codes of at most this many bits are read with one look.
const TABLE_BITS: u32 = 10;

/// Reads one code.
pub(crate) struct Decoder {
    /// For the next bits: symbol << 4 | length of its code; 0 if that is longer or nothing.
    table: Box<[u16; 1 << TABLE_BITS]>,
    counts: [u16; CODE_BITS_MAX + 1],
    /// Symbols by their codes.
    symbols: Vec<u16>,
}

impl Decoder {
    /// `None` if there are more codes than there can be. A code that has too few is fine until a missing one is met.
    pub(crate) fn new(lengths: &[u8]) -> Option<Self> {
        let counts = counts(lengths)?;
        let mut table = Box::new([0; 1 << TABLE_BITS]);
        for (symbol, (code, length)) in codes(lengths)?.into_iter().enumerate() {
            if (1..=TABLE_BITS).contains(&u32::from(length)) {
                for entry in table[usize::from(code)..].iter_mut().step_by(1 << length) {
                    *entry = (symbol as u16) << 4 | u16::from(length);
                }
            }
        }
        let mut symbols: Vec<u16> =
            (0..lengths.len() as u16).filter(|&symbol| lengths[usize::from(symbol)] > 0).collect();
        symbols.sort_by_key(|&symbol| lengths[usize::from(symbol)]);
        Some(Self { table, counts, symbols })
    }

    /// The next symbol of those bits that the reader has ready: `None` if there is no such code or the bits end.
    #[inline]
    pub(crate) fn read(&self, reader: &mut BitReader<'_>) -> Option<usize> {
        let entry = self.table[(reader.peek() & ((1 << TABLE_BITS) - 1)) as usize];
        if entry == 0 {
            return self.read_long(reader);
        }
        reader.consume(u32::from(entry & 15))?;
        Some(usize::from(entry >> 4))
    }

    #[cold]
    fn read_long(&self, reader: &mut BitReader<'_>) -> Option<usize> {
        let (mut code, mut first, mut index) = (0usize, 0usize, 0usize);
        for bits in 1..=CODE_BITS_MAX {
            code = code << 1 | (reader.peek() >> (bits - 1) & 1) as usize;
            let count = usize::from(self.counts[bits]);
            if code < first + count {
                reader.consume(bits as u32)?;
                return Some(usize::from(self.symbols[index + code - first]));
            }
            index += count;
            first = (first + count) << 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bits::BitWriter;
    use proptest::prelude::*;

    #[test]
    fn ties_are_decided_as_go_does() {
        // Seen from Go 1.19: `huffmanEncoder.generate`, limit 7.
        assert_eq!(code_lengths(&[0, 0, 0], 15), [0, 0, 0]);
        assert_eq!(code_lengths(&[0, 9, 0], 15), [0, 1, 0]);
        assert_eq!(code_lengths(&[1, 9, 0], 15), [1, 1, 0]);
        assert_eq!(code_lengths(&[1, 1, 1], 15), [2, 2, 1]);
    }

    fn cost(frequencies: &[u32], lengths: &[u8]) -> u64 {
        frequencies
            .iter()
            .zip(lengths)
            .map(|(&frequency, &bits)| u64::from(frequency) * u64::from(bits))
            .sum()
    }

    /// Cost of an optimal code without a limit: the sum of what Huffman's merging makes.
    fn huffman_cost(frequencies: &[u32]) -> u64 {
        let mut heap: std::collections::BinaryHeap<_> =
            frequencies.iter().filter(|&&f| f > 0).map(|&f| std::cmp::Reverse(u64::from(f))).collect();
        let mut cost = 0;
        while heap.len() > 1 {
            let sum = heap.pop().unwrap().0 + heap.pop().unwrap().0;
            cost += sum;
            heap.push(std::cmp::Reverse(sum));
        }
        cost
    }

    proptest! {
        #[test]
        fn a_code_is_complete_and_optimal(frequencies in prop::collection::vec(0u32..2000, 3..286)) {
            prop_assume!(frequencies.iter().filter(|&&f| f > 0).count() > 2);
            let lengths = code_lengths(&frequencies, 15);
            let taken: u32 = lengths.iter().filter(|&&bits| bits > 0).map(|&bits| 1 << (15 - bits)).sum();
            prop_assert_eq!(taken, 1 << 15);
            // Only a limit that matters makes it cost more.
            let limited = lengths.iter().max() == Some(&15);
            let (cost, least) = (cost(&frequencies, &lengths), huffman_cost(&frequencies));
            prop_assert!(cost == least || (limited && cost > least), "{} {}", cost, least);
        }

        #[test]
        fn what_is_coded_is_read(weights in prop::collection::vec(0u32..30, 1..286), picks in prop::collection::vec(any::<prop::sample::Index>(), 0..200)) {
            let frequencies: Vec<u32> = weights.iter().map(|&weight| 1 << weight >> 1).collect();
            let lengths = code_lengths(&frequencies, 15);
            let codes = codes(&lengths).unwrap();
            let decoder = Decoder::new(&lengths).unwrap();
            let used: Vec<usize> = (0..lengths.len()).filter(|&symbol| lengths[symbol] > 0).collect();
            prop_assume!(!used.is_empty());
            let mut writer = BitWriter::default();
            for pick in &picks {
                let (code, bits) = codes[*pick.get(&used)];
                writer.push(u64::from(code), u32::from(bits));
            }
            writer.align();
            let mut bytes = Vec::new();
            writer.flush(&mut bytes).unwrap();
            let mut reader = BitReader::new(&bytes, 0);
            for pick in &picks {
                reader.refill();
                prop_assert_eq!(decoder.read(&mut reader), Some(*pick.get(&used)));
            }
        }
    }

    #[test]
    fn too_many_codes_are_refused() {
        assert!(Decoder::new(&[1, 1, 1]).is_none());
        assert!(codes(&[1, 2, 2, 2]).is_none());
        assert!(Decoder::new(&[1, 0, 0]).is_some());
    }
}
