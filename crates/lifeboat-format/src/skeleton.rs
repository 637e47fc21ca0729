//! Archives without their contents. `docs/format/image.md#skeletons`
//!
//! A tar archive is bytes around files. Its *skeleton* holds the bytes around them, and how long each file is; the files
//! are stored beside it, each by itself. Put together again, they are the archive, bit by bit.
//!
//! Must stay true: whatever bytes are called an archive, taken apart and put together they are the same bytes; and a part
//! decodes to slices of itself, so that it takes no memory besides.

use crate::limits::SKELETON_PART_BYTES_MAX;
use crate::wire::{Reader, Write};
use crate::{Error, Result};

/// What a part begins with.
const MAGIC: &[u8; 4] = b"LBSK";
const VERSION: u8 = 1;
/// A part is full at this length; the record that fills it may be longer by as much.
const PART_BYTES: usize = 1 << 20;

/// One step of putting an archive together: these bytes, then so many of the next content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Bytes as they stand there.
    pub raw: &'a [u8],
    /// How long the next content is; 0 where none follows.
    pub content_bytes: u64,
}

/// Makes the parts of a skeleton, one after the other.
#[derive(Debug)]
pub struct Builder {
    part: Vec<u8>,
    raw: Vec<u8>,
}

impl Default for Builder {
    fn default() -> Self {
        Self { part: Self::head(), raw: Vec::new() }
    }
}

impl Builder {
    fn head() -> Vec<u8> {
        [&MAGIC[..], &[VERSION]].concat()
    }

    /// Bytes that stand there, at most 1 MiB of them at once; a part, if one is full.
    pub fn raw(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.raw.extend_from_slice(bytes);
        (self.raw.len() >= PART_BYTES).then(|| self.record(0)).flatten()
    }

    /// Content that stands there, at least one byte; a part, if one is full.
    pub fn content(&mut self, bytes: u64) -> Option<Vec<u8>> {
        self.record(bytes)
    }

    /// The last part.
    pub fn finish(mut self) -> Vec<u8> {
        if !self.raw.is_empty() {
            self.put(0);
        }
        self.part
    }

    fn put(&mut self, content_bytes: u64) {
        self.part.put_string(&self.raw);
        self.part.put_varint(content_bytes);
        self.raw.clear();
    }

    fn record(&mut self, content_bytes: u64) -> Option<Vec<u8>> {
        self.put(content_bytes);
        (self.part.len() >= PART_BYTES).then(|| std::mem::replace(&mut self.part, Self::head()))
    }
}

/// The records of one part.
///
/// # Errors
/// What is no part, or one of another version.
pub fn records(part: &[u8]) -> Result<impl Iterator<Item = Result<Record<'_>>>> {
    let mut reader = Reader::new(part, "skeleton");
    if part.len() > SKELETON_PART_BYTES_MAX as usize {
        return Err(reader.damaged("a part is too long"));
    }
    if reader.bytes(MAGIC.len())? != MAGIC {
        return Err(reader.damaged("it does not begin like one"));
    }
    match reader.u8()? {
        VERSION => {}
        other => {
            return Err(Error::Unsupported { what: "skeleton", feature: format!("version {other}") });
        }
    }
    let mut is_sound = true;
    Ok(std::iter::from_fn(move || {
        (is_sound && reader.remaining() > 0).then(|| {
            let record = record(&mut reader);
            is_sound = record.is_ok();
            record
        })
    }))
}

fn record<'a>(reader: &mut Reader<'a>) -> Result<Record<'a>> {
    Ok(Record { raw: reader.string(SKELETON_PART_BYTES_MAX)?, content_bytes: reader.varint()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn build(steps: &[(Vec<u8>, u64)]) -> Vec<Vec<u8>> {
        let mut builder = Builder::default();
        let mut parts = Vec::new();
        for (raw, content) in steps {
            parts.extend(builder.raw(raw));
            if *content > 0 {
                parts.extend(builder.content(*content));
            }
        }
        parts.push(builder.finish());
        parts
    }

    fn read(parts: &[Vec<u8>]) -> (Vec<u8>, Vec<(usize, u64)>) {
        let (mut raw, mut contents) = (Vec::new(), Vec::new());
        for part in parts {
            for record in records(part).expect("a part") {
                let record = record.expect("a record");
                raw.extend_from_slice(record.raw);
                if record.content_bytes > 0 {
                    contents.push((raw.len(), record.content_bytes));
                }
            }
        }
        (raw, contents)
    }

    proptest! {
        #[test]
        fn what_is_put_in_comes_out(steps in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..700), 0u64..3), 0..200)) {
            let (mut raw, mut contents) = (Vec::new(), Vec::new());
            for (bytes, content) in &steps {
                raw.extend_from_slice(bytes);
                if *content > 0 {
                    contents.push((raw.len(), *content));
                }
            }
            prop_assert_eq!(read(&build(&steps)), (raw, contents));
        }
    }

    #[test]
    fn a_long_skeleton_has_several_parts_of_bounded_length() {
        let steps = vec![(vec![7; 300_000], 5); 20];
        let parts = build(&steps);
        assert!(parts.len() > 3);
        assert!(parts.iter().all(|part| part.len() <= SKELETON_PART_BYTES_MAX as usize));
        assert_eq!(read(&parts).0.len(), 6_000_000);
    }

    #[test]
    fn another_version_is_refused_by_name() {
        let mut part = Builder::default().finish();
        assert_eq!(records(&part).expect("empty").count(), 0);
        part[4] = 2;
        assert!(matches!(records(&part).map(|_| ()), Err(Error::Unsupported { .. })));
        assert!(records(b"LBS").is_err());
        assert!(records(b"LBSK\x01\x05ab").expect("a part").next().is_some_and(|record| record.is_err()));
    }
}
