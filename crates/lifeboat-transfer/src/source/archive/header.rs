//! One header block. POSIX.1-1988 (ustar), what was before, and GNU's variant.

use super::BLOCK_BYTES;

/// A header block whose checksum is right.
pub(super) struct Header<'b>(&'b [u8; BLOCK_BYTES]);

/// Why a block is no header.
pub(super) type Wrong = &'static str;

impl<'b> Header<'b> {
    pub(super) fn new(block: &'b [u8; BLOCK_BYTES]) -> Result<Self, Wrong> {
        let header = Self(block);
        let stated = number(header.field(148, 8))?.ok_or("its header has no checksum")?;
        let (unsigned, signed) = header.sums();
        // Some old programs added the bytes as signed ones.
        if stated == i128::from(unsigned) || stated == i128::from(signed) {
            Ok(header)
        } else {
            Err("its header's checksum is wrong")
        }
    }

    /// The sum of all bytes, the checksum's own counted as spaces.
    fn sums(&self) -> (i64, i64) {
        let bytes = self.0.iter().enumerate().map(
            |(place, byte)| {
                if (148..156).contains(&place) { b' ' } else { *byte }
            },
        );
        bytes.fold((0, 0), |(unsigned, signed), byte| {
            (unsigned + i64::from(byte), signed + i64::from(byte.cast_signed()))
        })
    }

    fn field(&self, start: usize, length: usize) -> &'b [u8] {
        &self.0[start..start + length]
    }

    /// Up to the first NUL.
    fn text(&self, start: usize, length: usize) -> &'b [u8] {
        let field = self.field(start, length);
        &field[..field.iter().position(|byte| *byte == 0).unwrap_or(length)]
    }

    fn is_ustar(&self) -> bool {
        self.field(257, 6) == b"ustar\0"
    }

    pub(super) fn is_gnu(&self) -> bool {
        self.field(257, 8) == b"ustar  \0"
    }

    pub(super) fn kind(&self) -> u8 {
        self.0[156]
    }

    pub(super) fn name(&self) -> Vec<u8> {
        let name = self.text(0, 100);
        let prefix = if self.is_ustar() { self.text(345, 155) } else { b"" };
        match prefix.is_empty() {
            true => name.to_vec(),
            false => [prefix, b"/", name].concat(),
        }
    }

    pub(super) fn link_name(&self) -> Vec<u8> {
        self.text(157, 100).to_vec()
    }

    pub(super) fn mode(&self) -> Result<u16, Wrong> {
        // Some programs put the file's kind into it too.
        Ok(number(self.field(100, 8))?.map_or(0, |mode| (mode & 0o7777) as u16))
    }

    pub(super) fn uid(&self) -> Result<u32, Wrong> {
        bounded(number(self.field(108, 8))?, "its owner is no number of 32 bits")
    }

    pub(super) fn gid(&self) -> Result<u32, Wrong> {
        bounded(number(self.field(116, 8))?, "its group is no number of 32 bits")
    }

    pub(super) fn size(&self) -> Result<u64, Wrong> {
        let size = number(self.field(124, 12))?.unwrap_or(0);
        size_of(size)
    }

    pub(super) fn seconds(&self) -> Result<i64, Wrong> {
        let seconds = number(self.field(136, 12))?.unwrap_or(0);
        i64::try_from(seconds).map_err(|_| "its time is too far away")
    }

    pub(super) fn device(&self) -> Result<(u32, u32), Wrong> {
        let wrong = "its device is no number of 32 bits";
        Ok((bounded(number(self.field(329, 8))?, wrong)?, bounded(number(self.field(337, 8))?, wrong)?))
    }

    /// GNU's sparse files: four stretches here, whether more follow, and the file's real length.
    pub(super) fn sparse(&self) -> (&'b [u8], bool, &'b [u8]) {
        (self.field(386, 96), self.0[482] != 0, self.field(483, 12))
    }
}

fn bounded(value: Option<i128>, wrong: Wrong) -> Result<u32, Wrong> {
    u32::try_from(value.unwrap_or(0)).map_err(|_| wrong)
}

pub(super) fn size_of(size: i128) -> Result<u64, Wrong> {
    u64::try_from(size).ok().filter(|size| *size <= i64::MAX as u64).ok_or("its size is no file's")
}

/// Octal digits between spaces or NULs, or GNU's binary form; `None` where the field is empty.
pub(super) fn number(field: &[u8]) -> Result<Option<i128>, Wrong> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => binary(field).map(Some),
        _ => octal(field),
    }
}

/// Big-endian two's complement of all bits but the first, which marks it.
fn binary(field: &[u8]) -> Result<i128, Wrong> {
    let is_negative = field[0] & 0x40 != 0;
    let first = if is_negative { i128::from(field[0] | 0x80) - 256 } else { i128::from(field[0] & 0x7f) };
    // Twelve bytes at most: 95 bits.
    Ok(field[1..].iter().fold(first, |value, byte| value * 256 + i128::from(*byte)))
}

fn octal(field: &[u8]) -> Result<Option<i128>, Wrong> {
    let text = field.trim_ascii_start();
    let end = text.iter().position(|byte| matches!(byte, 0 | b' ')).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    if rest.iter().any(|byte| !matches!(byte, 0 | b' ')) {
        return Err("a number in its header is none");
    }
    digits.iter().try_fold(None, |value: Option<i128>, digit| match digit {
        b'0'..=b'7' => Ok(Some(value.unwrap_or(0) * 8 + i128::from(digit - b'0'))),
        _ => Err("a number in its header is none"),
    })
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_are_octal_or_binary_and_nothing_else() {
        assert_eq!(number(b"0000644\0"), Ok(Some(0o644)));
        assert_eq!(number(b"   644 \0"), Ok(Some(0o644)));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Ok(None));
        assert_eq!(number(b"77777777"), Ok(Some(0o7777_7777)));
        assert_eq!(number(b"\x80\0\0\0\0\0\0\0\x02\0\0\0"), Ok(Some(1 << 25)));
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe"), Ok(Some(-2)));
        for bad in [&b"0000648\0"[..], b"12\x0034\0\0\0", b"-1\0\0\0\0\0\0", b"x"] {
            assert!(number(bad).is_err(), "{bad:?}");
        }
    }
}
