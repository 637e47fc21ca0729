//! Names of many chunks at once.
//!
//! BLAKE3 is fast because a processor hashes 8 or 16 of its 1,024-byte blocks side by side. One chunk of a few KiB does
//! not fill those lanes; many chunks do, when the n-th blocks of all of them are hashed together. The result is the same
//! as one hash after the other ([the paper](https://github.com/BLAKE3-team/BLAKE3-specs), section 2.1 and 5.1.2).
//!
//! Must stay true: every name equals `blake3::keyed_hash`. This stands on `blake3::platform`, which that crate
//! does not promise to keep: the workspace pins its minor version, and the test below compares all lengths.

use blake3::IncrementCounter;
use blake3::hazmat::HasherExt;
use blake3::platform::Platform;

const BLOCK_BYTES: usize = 1024;
const LANES_MAX: usize = 16;
/// No processor has fewer lanes and more than one.
const LANES_LEAST: usize = 4;
/// Domain flags of the compression function.
const CHUNK_START: u8 = 1;
const CHUNK_END: u8 = 2;
const PARENT: u8 = 4;
const ROOT: u8 = 8;
const KEYED_HASH: u8 = 16;

type Value = [u8; 32];

/// Where an input's chaining values stand, and how many there are; none where the input is one block.
struct Span {
    start: usize,
    count: usize,
}

/// The keyed hashes of `inputs`, in their order.
pub(crate) fn keyed_hashes(key: &Value, inputs: &[&[u8]]) -> Vec<Value> {
    let mut lanes = Lanes::new(key);
    let mut spans = Vec::with_capacity(inputs.len());
    let mut total = 0;
    for input in inputs {
        let count = if input.len() > BLOCK_BYTES { input.len().div_ceil(BLOCK_BYTES) } else { 0 };
        spans.push(Span { start: total, count });
        total += count;
    }
    let mut values = vec![[0; 32]; total];
    leaves(&mut lanes, inputs, &spans, &mut values);
    while parents(&mut lanes, &mut spans, &mut values) {}
    let whole = |input: &[u8]| *blake3::keyed_hash(key, input).as_bytes();
    inputs
        .iter()
        .zip(&spans)
        .map(|(input, span)| if span.count == 0 { whole(input) } else { values[span.start] })
        .collect()
}

/// Chaining values of all blocks. Where an input has enough of them to fill all lanes they are hashed in their order, which is
/// kind to caches; what is left of each input goes with what is left of the others: the n-th blocks of all of them together.
fn leaves(lanes: &mut Lanes, inputs: &[&[u8]], spans: &[Span], values: &mut [Value]) {
    let begun: Vec<(&[u8], &Span, usize)> = inputs
        .iter()
        .zip(spans)
        .map(|(input, span)| (*input, span, lanes.run(input, span, values)))
        .collect();
    let most = spans.iter().map(|span| span.count).max().unwrap_or(0);
    for number in 0..most {
        let start = number * BLOCK_BYTES;
        let mut group = Group::<BLOCK_BYTES>::new([&[0; BLOCK_BYTES]; LANES_MAX], number as u64, KEYED_HASH);
        for (input, span, _) in begun.iter().filter(|(_, span, done)| (*done..span.count).contains(&number)) {
            match input[start..].first_chunk() {
                Some(block) => {
                    group.push(block, span.start + number);
                    if group.is_full() {
                        lanes.blocks(&mut group, values);
                    }
                }
                None => values[span.start + number] = lanes.last_block(&input[start..], start as u64),
            }
        }
        lanes.blocks(&mut group, values);
    }
}

/// Joins neighbouring values of every input; what has no neighbour goes up as it is. False when all are roots.
fn parents(lanes: &mut Lanes, spans: &mut [Span], values: &mut [Value]) -> bool {
    let (mut inner, mut roots) = (Pairs::new(PARENT | KEYED_HASH), Pairs::new(PARENT | KEYED_HASH | ROOT));
    let mut is_any = false;
    for span in spans.iter_mut().filter(|span| span.count > 1) {
        is_any = true;
        let pairs = if span.count == 2 { &mut roots } else { &mut inner };
        for pair in 0..span.count / 2 {
            pairs.push(span.start + 2 * pair, span.start + pair, lanes, values);
        }
        if span.count % 2 == 1 {
            values[span.start + span.count / 2] = values[span.start + span.count - 1];
        }
        span.count = span.count.div_ceil(2);
    }
    inner.flush(lanes, values);
    roots.flush(lanes, values);
    is_any
}

/// Up to [`LANES_MAX`] inputs of the compression function and the places of their results.
struct Group<'i, const N: usize> {
    inputs: [&'i [u8; N]; LANES_MAX],
    places: [usize; LANES_MAX],
    filled: usize,
    counter: u64,
    flags: u8,
}

impl<'i, const N: usize> Group<'i, N> {
    fn new(inputs: [&'i [u8; N]; LANES_MAX], counter: u64, flags: u8) -> Self {
        Self { inputs, places: [0; LANES_MAX], filled: 0, counter, flags }
    }

    fn push(&mut self, input: &'i [u8; N], place: usize) {
        self.inputs[self.filled] = input;
        self.places[self.filled] = place;
        self.filled += 1;
    }

    fn is_full(&self) -> bool {
        self.filled == LANES_MAX
    }
}

/// Pairs of values that wait for their parents.
struct Pairs {
    blocks: [[u8; 64]; LANES_MAX],
    places: [usize; LANES_MAX],
    filled: usize,
    flags: u8,
}

impl Pairs {
    fn new(flags: u8) -> Self {
        Self { blocks: [[0; 64]; LANES_MAX], places: [0; LANES_MAX], filled: 0, flags }
    }

    fn push(&mut self, from: usize, to: usize, lanes: &mut Lanes, values: &mut [Value]) {
        let (left, right) = self.blocks[self.filled].split_at_mut(32);
        left.copy_from_slice(&values[from]);
        right.copy_from_slice(&values[from + 1]);
        self.places[self.filled] = to;
        self.filled += 1;
        if self.filled == LANES_MAX {
            self.flush(lanes, values);
        }
    }

    fn flush(&mut self, lanes: &mut Lanes, values: &mut [Value]) {
        let mut group = Group::new(self.blocks.each_ref(), 0, self.flags);
        group.places = self.places;
        group.filled = self.filled;
        lanes.group(&mut group, 0, 0, values);
        self.filled = 0;
    }
}

/// The compression function under one key.
struct Lanes {
    platform: Platform,
    key: Value,
    words: [u32; 8],
}

impl Lanes {
    fn new(key: &Value) -> Self {
        let mut words = [0; 8];
        for (word, bytes) in words.iter_mut().zip(key.as_chunks().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        Self { platform: Platform::detect(), key: *key, words }
    }

    /// Hashes the first blocks of one input, as many as fill all lanes once or more; gives how many.
    fn run(&self, input: &[u8], span: &Span, values: &mut [Value]) -> usize {
        let blocks: Vec<&[u8; BLOCK_BYTES]> = input.as_chunks().0.iter().take(span.count).collect();
        let count = blocks.len() - blocks.len() % self.platform.simd_degree();
        self.platform.hash_many(
            &blocks[..count],
            &self.words,
            0,
            IncrementCounter::Yes,
            KEYED_HASH,
            CHUNK_START,
            CHUNK_END,
            values[span.start..][..count].as_flattened_mut(),
        );
        count
    }

    fn blocks(&mut self, group: &mut Group<'_, BLOCK_BYTES>, values: &mut [Value]) {
        self.group(group, CHUNK_START, CHUNK_END, values);
    }

    fn group<const N: usize>(&mut self, group: &mut Group<'_, N>, first: u8, last: u8, values: &mut [Value]) {
        let filled = std::mem::take(&mut group.filled);
        if filled == 0 {
            return;
        }
        let mut output = [0; 32 * LANES_MAX];
        let hashed = self.padded(filled);
        self.platform.hash_many(
            &group.inputs[..hashed],
            &self.words,
            group.counter,
            IncrementCounter::No,
            group.flags,
            first,
            last,
            &mut output[..32 * hashed],
        );
        for (place, value) in group.places[..filled].iter().zip(output.as_chunks().0) {
            values[*place] = *value;
        }
    }

    /// How many inputs are hashed for so many. Those that do not fill all lanes go half as many at a time, and those below
    /// [`LANES_LEAST`] one by one, so that hashing another one for nothing is sooner done. All places hold some input.
    fn padded(&self, filled: usize) -> usize {
        let rest = filled % self.platform.simd_degree();
        match rest {
            0 | 1 => filled,
            _ => filled - rest + rest.next_power_of_two().max(LANES_LEAST),
        }
    }

    /// The value of a shorter block at the end of an input of several blocks.
    fn last_block(&self, block: &[u8], offset: u64) -> Value {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.set_input_offset(offset);
        hasher.update(block);
        hasher.finalize_non_root()
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.key);
        zeroize::Zeroize::zeroize(&mut self.words);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: Value = [7; 32];

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|number| (number.wrapping_mul(0x9e37_79b1) >> 11) as u8).collect()
    }

    fn assert_same(inputs: &[&[u8]]) {
        let one_by_one: Vec<Value> =
            inputs.iter().map(|input| *blake3::keyed_hash(&KEY, input).as_bytes()).collect();
        assert_eq!(keyed_hashes(&KEY, inputs), one_by_one);
    }

    #[test]
    fn every_length_up_to_five_blocks_hashes_as_alone() {
        let data = bytes(5 * BLOCK_BYTES + 2);
        let inputs: Vec<&[u8]> = (0..data.len()).map(|length| &data[..length]).collect();
        assert_same(&inputs);
        inputs.iter().for_each(|input| assert_same(&[input]));
    }

    #[test]
    fn every_number_of_blocks_hashes_as_alone() {
        let data = bytes(140 * BLOCK_BYTES);
        for blocks in 0..139 {
            let start = blocks * BLOCK_BYTES;
            assert_same(&[&data[..start + 1], &data[7..start + 7], &data[..start + BLOCK_BYTES - 1]]);
        }
    }

    proptest! {
        #[test]
        fn any_chunks_together_hash_as_alone(lengths in proptest::collection::vec(0usize..70_000, 0..60)) {
            let data = bytes(70_000);
            let inputs: Vec<&[u8]> = lengths.iter().map(|length| &data[..*length]).collect();
            assert_same(&inputs);
        }
    }
}
