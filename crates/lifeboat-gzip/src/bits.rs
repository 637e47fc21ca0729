//! Bits in deflate's order: from the lowest of the first byte on.

use std::io::{self, Write};

/// Reads bits out of bytes.
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    next: usize,
    buffer: u64,
    have: u32,
}

impl<'a> BitReader<'a> {
    /// Begins at a bit that lies in `bytes` or at their end.
    pub(crate) fn new(bytes: &'a [u8], position: usize) -> Self {
        let mut reader = Self { bytes, next: position / 8, buffer: 0, have: 0 };
        reader.refill();
        let skipped = (position % 8) as u32;
        reader.buffer >>= skipped;
        reader.have = reader.have.saturating_sub(skipped);
        reader
    }

    /// The bit that is read next.
    pub(crate) fn position(&self) -> usize {
        self.next * 8 - self.have as usize
    }

    /// Gets ready to give at least 56 bits, or all that are left; returns how many.
    #[inline]
    pub(crate) fn refill(&mut self) -> u32 {
        if let Some(bytes) = self.bytes.get(self.next..).and_then(|rest| rest.first_chunk::<8>()) {
            self.buffer |= u64::from_le_bytes(*bytes) << self.have;
            self.next += ((63 - self.have) >> 3) as usize;
            self.have |= 56;
        } else {
            while self.have < 56
                && let Some(byte) = self.bytes.get(self.next)
            {
                self.buffer |= u64::from(*byte) << self.have;
                self.next += 1;
                self.have += 8;
            }
        }
        self.have
    }

    /// The next bits, with zeros behind the last one.
    #[inline]
    pub(crate) fn peek(&self) -> u64 {
        self.buffer
    }

    /// Goes on by at most 56 bits that were seen; `None` if there are not as many.
    #[inline]
    pub(crate) fn consume(&mut self, bits: u32) -> Option<()> {
        self.have = self.have.checked_sub(bits)?;
        self.buffer >>= bits;
        Some(())
    }

    /// The next `bits` as a number, of those that [`Self::refill`] got ready.
    #[inline]
    pub(crate) fn take_ready(&mut self, bits: u32) -> Option<u32> {
        let value = (self.buffer & ((1 << bits) - 1)) as u32;
        self.consume(bits)?;
        Some(value)
    }

    /// The next `bits` (at most 32) as a number.
    pub(crate) fn take(&mut self, bits: u32) -> Option<u32> {
        self.refill();
        self.take_ready(bits)
    }
}

/// A few bits that are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BitString {
    pub(crate) bytes: Vec<u8>,
    pub(crate) bits: usize,
}

impl BitString {
    /// The bits from one position to another; `None` if they end before.
    pub(crate) fn between(bytes: &[u8], from: usize, to: usize) -> Option<Self> {
        let mut reader = BitReader::new(bytes, from);
        let mut copy = Self::default();
        for _ in 0..(to - from) / 8 {
            copy.push(reader.take(8)?, 8);
        }
        let rest = ((to - from) % 8) as u32;
        copy.push(reader.take(rest)?, rest);
        Some(copy)
    }

    /// Appends the lowest `count` bits of `value`, which has no others.
    pub(crate) fn push(&mut self, value: u32, count: u32) {
        for at in 0..count {
            if self.bits.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let bit = (value >> at & 1) as u8;
            self.bytes[self.bits / 8] |= bit << (self.bits % 8);
            self.bits += 1;
        }
    }
}

/// Writes bits into bytes.
#[derive(Default)]
pub(crate) struct BitWriter {
    bytes: Vec<u8>,
    buffer: u64,
    have: u32,
}

/// Bytes that are collected before they are written out.
const WRITE_BYTES: usize = 32 << 10;

impl BitWriter {
    /// Appends at most 48 bits; `value` has no others.
    #[inline]
    pub(crate) fn push(&mut self, value: u64, count: u32) {
        debug_assert!(count <= 48 && value >> count == 0);
        self.buffer |= value << self.have;
        self.have += count;
        if self.have >= 16 {
            let whole = self.have / 8;
            self.bytes.extend_from_slice(&self.buffer.to_le_bytes()[..whole as usize]);
            self.buffer >>= 8 * whole;
            self.have -= 8 * whole;
        }
    }

    pub(crate) fn push_string(&mut self, string: &BitString) {
        for (at, byte) in string.bytes.iter().enumerate() {
            self.push(u64::from(*byte), (string.bits - 8 * at).min(8) as u32);
        }
    }

    /// Goes to the next whole byte, with zeros.
    pub(crate) fn align(&mut self) {
        self.push(0, (8 - self.have % 8) % 8);
        while self.have > 0 {
            self.bytes.push(self.buffer as u8);
            self.buffer >>= 8;
            self.have -= 8;
        }
    }

    /// Appends whole bytes behind a whole byte.
    pub(crate) fn push_bytes(&mut self, bytes: &[u8]) {
        assert_eq!(self.have, 0, "bytes follow bits only after `align`");
        self.bytes.extend_from_slice(bytes);
    }

    /// Forgets the bits of a byte that is not whole.
    pub(crate) fn drop_partial(&mut self) {
        while self.have >= 8 {
            self.bytes.push(self.buffer as u8);
            self.buffer >>= 8;
            self.have -= 8;
        }
        (self.buffer, self.have) = (0, 0);
    }

    /// Writes out whole bytes if there are many.
    pub(crate) fn settle(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.bytes.len() >= WRITE_BYTES { self.flush(out) } else { Ok(()) }
    }

    /// Writes out all whole bytes.
    pub(crate) fn flush(&mut self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&self.bytes)?;
        self.bytes.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(parts in prop::collection::vec((any::<u32>(), 0u32..=32), 0..100)) {
            let mut writer = BitWriter::default();
            let mut string = BitString::default();
            let mask = |value: u32, bits: u32| (u64::from(value) & ((1 << bits) - 1)) as u32;
            for &(value, bits) in &parts {
                writer.push(u64::from(mask(value, bits)), bits);
                string.push(mask(value, bits), bits);
            }
            writer.align();
            let mut bytes = Vec::new();
            writer.flush(&mut bytes).unwrap();
            prop_assert_eq!(&bytes, &string.bytes);
            let mut reader = BitReader::new(&bytes, 0);
            let mut at = 0;
            for &(value, bits) in &parts {
                prop_assert_eq!(reader.take(bits), Some(mask(value, bits)));
                at += bits as usize;
                prop_assert_eq!(reader.position(), at);
                prop_assert_eq!(BitReader::new(&bytes, at).position(), at);
            }
            prop_assert!(reader.take(8).is_none());
        }
    }
}
