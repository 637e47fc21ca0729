//! Reading and writing primitive values. `docs/format/README.md#primitives`
//!
//! Integers are little-endian or, where small values dominate, LEB128 varints in their shortest form.

use crate::{Error, Result};

/// Takes primitive values from the front of a byte slice; every method fails rather than panics.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// Reads `bytes`, which errors call `what`.
    pub fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// An error about the value being read.
    pub fn damaged(&self, detail: impl Into<String>) -> Error {
        Error::damaged(self.what, detail)
    }

    /// The next `length` bytes.
    pub fn bytes(&mut self, length: usize) -> Result<&'a [u8]> {
        if length <= self.rest.len() {
            let (head, tail) = self.rest.split_at(length);
            self.rest = tail;
            Ok(head)
        } else {
            Err(self.damaged(format!("it ends {} bytes early", length - self.rest.len())))
        }
    }

    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.bytes(1)?[0])
    }

    /// Two bytes, little-endian.
    pub fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// Four bytes, little-endian.
    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Eight bytes, little-endian.
    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A LEB128 varint of at most 64 bits, in its shortest form.
    pub fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(self.damaged("a number exceeds 64 bits"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return if byte == 0 && shift > 0 {
                    Err(self.damaged("a number is not in its shortest form"))
                } else {
                    Ok(value)
                };
            }
        }
        Err(self.damaged("a number exceeds 64 bits"))
    }

    /// A varint of at most `max`.
    pub fn varint_max(&mut self, max: u32) -> Result<u32> {
        let value = self.varint()?;
        u32::try_from(value).ok().filter(|value| *value <= max).ok_or_else(|| {
            self.damaged(format!("a length or count is {value}, but at most {max} is allowed"))
        })
    }

    /// A signed varint (zigzag).
    pub fn signed(&mut self) -> Result<i64> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A byte string with its length in front, at most `max` bytes.
    pub fn string(&mut self, max: u32) -> Result<&'a [u8]> {
        let length = self.varint_max(max)?;
        self.bytes(length as usize)
    }

    /// UTF-8 text with its length in front, at most [`crate::limits::TEXT_BYTES_MAX`] bytes.
    pub fn text(&mut self) -> Result<String> {
        let bytes = self.string(crate::limits::TEXT_BYTES_MAX)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| self.damaged("text is not UTF-8"))
    }

    /// Fails unless everything was read.
    pub fn finish(self) -> Result<()> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(self.damaged(format!("{left} bytes are left over"))),
        }
    }
}

/// Appends primitive values to a buffer, in the forms that [`Reader`] takes.
pub trait Write {
    /// Two bytes, little-endian.
    fn put_u16(&mut self, value: u16);
    /// Four bytes, little-endian.
    fn put_u32(&mut self, value: u32);
    /// Eight bytes, little-endian.
    fn put_u64(&mut self, value: u64);
    /// A LEB128 varint in its shortest form.
    fn put_varint(&mut self, value: u64);
    /// A signed varint (zigzag).
    fn put_signed(&mut self, value: i64);
    /// A byte string with its length in front.
    fn put_string(&mut self, value: &[u8]);
}

impl Write for Vec<u8> {
    fn put_u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_varint(&mut self, mut value: u64) {
        while value > 0x7f {
            self.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }

    fn put_signed(&mut self, value: i64) {
        self.put_varint((value << 1 ^ value >> 63) as u64);
    }

    fn put_string(&mut self, value: &[u8]) {
        self.put_varint(value.len() as u64);
        self.extend_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_read_back_as_written(value: u64, signed: i64) {
            let mut bytes = Vec::new();
            bytes.put_varint(value);
            bytes.put_signed(signed);
            let mut reader = Reader::new(&bytes, "test");
            prop_assert_eq!(reader.varint().unwrap(), value);
            prop_assert_eq!(reader.signed().unwrap(), signed);
            reader.finish().unwrap();
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes, "test");
            while reader.varint().is_ok() {}
            let _ = Reader::new(&bytes, "test").string(16);
            let _ = Reader::new(&bytes, "test").text();
        }
    }

    #[test]
    fn a_number_has_one_form_only() {
        assert!(Reader::new(&[0x80, 0x00], "test").varint().is_err());
        assert!(Reader::new(&[0xff; 10], "test").varint().is_err());
        assert_eq!(
            Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], "test").varint(),
            Ok(u64::MAX)
        );
    }
}
