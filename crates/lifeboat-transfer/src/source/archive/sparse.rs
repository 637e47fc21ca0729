//! Maps of holes: which stretches of a file are in the archive.

use super::header::{Wrong, number, size_of};
use super::pax::decimal;
use super::{BLOCK_BYTES, STRETCHES_MAX};

/// Adds GNU's pairs of offset and length; a pair of empty fields ends the map.
pub(super) fn add_pairs(map: &mut Vec<(u64, u64)>, pairs: &[u8]) -> Result<(), Wrong> {
    for pair in pairs.chunks_exact(24) {
        let (Some(offset), Some(length)) = (number(&pair[..12])?, number(&pair[12..])?) else { break };
        if map.len() >= STRETCHES_MAX {
            return Err("its map of holes is too long");
        }
        map.push((size_of(offset)?, size_of(length)?));
    }
    Ok(())
}

/// Stretches ascend, do not overlap, lie in the file, and have as many bytes as are stored.
pub(super) fn checked(map: Vec<(u64, u64)>, size: u64, stored_bytes: u64) -> Result<Vec<(u64, u64)>, Wrong> {
    let wrong = "its map of holes is none";
    let (mut end, mut total) = (0, 0_u64);
    for (offset, length) in &map {
        let stretch_end = offset.checked_add(*length).filter(|end| *end <= size).ok_or(wrong)?;
        if *offset < end {
            return Err(wrong);
        }
        (end, total) = (stretch_end, total + length);
    }
    if total == stored_bytes {
        Ok(map.into_iter().filter(|(_, length)| *length > 0).collect())
    } else {
        Err(wrong)
    }
}

/// The map of version 1.0: decimal numbers on lines of their own, padded to a block: a count, then pairs.
pub(super) struct MapReader {
    numbers: Vec<u64>,
    count: Option<usize>,
    digits: Vec<u8>,
}

impl MapReader {
    pub(super) fn new() -> Self {
        Self { numbers: Vec::new(), count: None, digits: Vec::new() }
    }

    /// Takes a block in; whether the map is complete with it.
    pub(super) fn take(&mut self, block: &[u8; BLOCK_BYTES]) -> Result<bool, Wrong> {
        for byte in block {
            if *byte != b'\n' {
                if self.digits.len() >= 20 {
                    return Err("its map of holes is none");
                }
                self.digits.push(*byte);
                continue;
            }
            let number = decimal(&std::mem::take(&mut self.digits))?;
            match self.count {
                None => {
                    let count = usize::try_from(number).ok().filter(|count| *count <= STRETCHES_MAX);
                    self.count = Some(count.ok_or("its map of holes is too long")?);
                }
                Some(_) => self.numbers.push(number),
            }
            if self.is_complete() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_complete(&self) -> bool {
        self.count.is_some_and(|count| self.numbers.len() == 2 * count)
    }

    pub(super) fn pairs(self) -> Vec<(u64, u64)> {
        pairs(&self.numbers)
    }
}

pub(super) fn pairs(numbers: &[u64]) -> Vec<(u64, u64)> {
    numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
}
