//! Takes an archive apart: the bytes around its files, and its files.
//!
//! Must stay true: what comes out, one behind the other, is what went in, whatever it was. Nothing is believed but where a
//! file's bytes begin and end, and where that is believed wrongly nothing is lost: only the same file elsewhere is not
//! recognised. From the first block on that is no header, the rest comes in pieces of [`PIECE_BYTES`].
//!
//! Memory is one piece, or one extended header of at most [`EXTENDED_BYTES_MAX`].

use super::header::Header;
use super::members::padding_of;
use super::pax::{self, Extended};
use super::{BLOCK_BYTES, EXTENDED_BYTES_MAX, STRETCHES_MAX};
use std::io::{ErrorKind, Read, Result};

/// The rest of what is no archive is stored in pieces of this length.
pub const PIECE_BYTES: usize = 4 << 20;
/// Bytes around files come in pieces of at most this length.
const RAW_BYTES: usize = 64 << 10;

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Part {
    /// Bytes around files, at most an extended header and its content.
    Raw(Vec<u8>),
    /// A file of this length, at least one byte, which is to be read from the [`Split`] before the next part.
    File(u64),
    /// A piece of what is no archive.
    Piece(Vec<u8>),
}

/// Whether bytes begin as an archive does: with a header whose checksum is right.
pub fn is_archive(front: &[u8]) -> bool {
    front.first_chunk().is_some_and(|block| Header::new(block).is_ok())
}

/// An archive being taken apart.
pub struct Split<R> {
    stream: R,
    /// What is left of the stream, where that is known.
    left: Option<u64>,
    /// How long the file is whose header came last, and what is left of the file that came last.
    file_next: u64,
    file_left: u64,
    /// Bytes that are no file's although a header stands before them: padding, or an extended header's content.
    raw_left: u64,
    padding: u64,
    size: Option<u64>,
    global_size: Option<u64>,
    is_archive: bool,
    /// Zeros that may still be given for what is missing of a file.
    zeros_left: u64,
}

impl<R: Read> Split<R> {
    /// Takes apart what `stream` gives; `bytes` is its length, where that is known.
    pub fn new(stream: R, bytes: Option<u64>) -> Self {
        Self {
            stream,
            left: bytes,
            file_next: 0,
            file_left: 0,
            raw_left: 0,
            padding: 0,
            size: None,
            global_size: None,
            is_archive: true,
            zeros_left: 0,
        }
    }

    /// Fills a file up with at most so many zeros where the stream ends in it, for whoever knows how much of it counts.
    pub fn filling(self, zeros_max: u64) -> Self {
        Self { zeros_left: zeros_max, ..self }
    }

    /// Where the bytes come from.
    pub fn stream(&mut self) -> &mut R {
        &mut self.stream
    }

    /// The next part; `None` at the end of the stream. What is left of a file is passed over and lost.
    ///
    /// # Errors
    /// Those of the stream, and a stream of unknown length that ends inside a file, unless that is [filled](Self::filling).
    pub fn next_part(&mut self) -> Result<Option<Part>> {
        std::io::copy(&mut *self, &mut std::io::sink())?;
        if self.file_next > 0 {
            self.file_left = std::mem::take(&mut self.file_next);
            return Ok(Some(Part::File(self.file_left)));
        }
        if self.raw_left == 0 {
            self.raw_left = std::mem::take(&mut self.padding);
        }
        if self.raw_left > 0 {
            let wanted = usize::try_from(self.raw_left).unwrap_or(RAW_BYTES).min(RAW_BYTES);
            let bytes = self.some(wanted)?;
            // A stream that ends here has no more of anything.
            self.raw_left = if bytes.len() < wanted { 0 } else { self.raw_left - wanted as u64 };
            return Ok((!bytes.is_empty()).then_some(Part::Raw(bytes)));
        }
        if !self.is_archive {
            let bytes = self.some(PIECE_BYTES)?;
            return Ok((!bytes.is_empty()).then_some(Part::Piece(bytes)));
        }
        let block = self.some(BLOCK_BYTES)?;
        if block.is_empty() {
            return Ok(None);
        }
        match block.first_chunk::<BLOCK_BYTES>() {
            Some(whole) if whole.iter().any(|byte| *byte != 0) => self.header(whole),
            _ => Ok(Some(Part::Raw(block))),
        }
    }

    /// A header, which is raw itself, or the beginning of what is no archive.
    fn header(&mut self, block: &[u8; BLOCK_BYTES]) -> Result<Option<Part>> {
        let Ok(header) = Header::new(block) else {
            self.is_archive = false;
            let rest = self.some(PIECE_BYTES - BLOCK_BYTES)?;
            return Ok(Some(Part::Piece([&block[..], &rest].concat())));
        };
        let mut raw = block.to_vec();
        let stated = header.size().ok();
        match header.kind() {
            b'x' | b'X' | b'g' | b'L' | b'K' => match stated {
                Some(size) if size <= EXTENDED_BYTES_MAX => self.extended(&header, size, &mut raw)?,
                _ => self.is_archive = false,
            },
            // They have no content, whatever their size says: how Go reads it, and Go writes the layers.
            b'1'..=b'6' => self.size = None,
            // What follows the header is more than its size says.
            b'S' => self.is_archive = false,
            _ => match self.size.take().or(self.global_size).or(stated) {
                Some(size) if self.left.is_none_or(|left| size <= left) => {
                    (self.file_next, self.padding) = (size, padding_of(size));
                }
                _ => self.is_archive = false,
            },
        }
        Ok(Some(Part::Raw(raw)))
    }

    /// Reads what an extended header says, of which only the size of the next file matters.
    fn extended(&mut self, header: &Header<'_>, size: u64, raw: &mut Vec<u8>) -> Result<()> {
        let whole = size + padding_of(size);
        if !matches!(header.kind(), b'x' | b'X' | b'g') {
            self.raw_left = whole;
            return Ok(());
        }
        let content = self.some(size as usize)?;
        raw.extend_from_slice(&content);
        if content.len() as u64 == size {
            self.padding = whole - size;
        }
        let mut extended = Extended::default();
        // What cannot be read says nothing.
        if pax::read_into(&mut extended, &content, STRETCHES_MAX).is_ok() {
            match header.kind() {
                b'g' => self.global_size = extended.size.or(self.global_size),
                _ => self.size = extended.size,
            }
            // Where its bytes are is not told by its size alone.
            self.is_archive &= !extended.sparse.is_any();
        }
        Ok(())
    }

    /// Zeros for what is missing of a file; gives how many.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let Some(zeros_left) = self.zeros_left.checked_sub(buffer.len() as u64) else {
            return Err(std::io::Error::new(ErrorKind::UnexpectedEof, "an archive ends inside a file"));
        };
        self.zeros_left = zeros_left;
        buffer.fill(0);
        Ok(buffer.len())
    }

    /// So many bytes, or what is left.
    fn some(&mut self, wanted: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        (&mut self.stream).take(wanted as u64).read_to_end(&mut bytes)?;
        self.left = self.left.map(|left| left.saturating_sub(bytes.len() as u64));
        Ok(bytes)
    }
}

/// The content of the file that came last.
impl<R: Read> Read for Split<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let length = buffer.len().min(usize::try_from(self.file_left).unwrap_or(usize::MAX));
        if length == 0 {
            return Ok(0);
        }
        let length = match self.stream.read(&mut buffer[..length])? {
            0 => self.fill(&mut buffer[..length])?,
            length => length,
        };
        self.file_left -= length as u64;
        self.left = self.left.map(|left| left.saturating_sub(length as u64));
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_file_that_is_not_all_there_is_filled_up_where_that_is_wanted_and_to_a_limit() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(10_000);
        builder.append_data(&mut header, "file", &[7; 10_000][..]).unwrap();
        let archive = builder.into_inner().unwrap();
        let all = |split: &mut Split<&[u8]>| -> Result<Vec<u8>> {
            let mut bytes = Vec::new();
            while let Some(part) = split.next_part()? {
                match part {
                    Part::Raw(raw) | Part::Piece(raw) => bytes.extend(raw),
                    Part::File(_) => _ = split.read_to_end(&mut bytes)?,
                }
            }
            Ok(bytes)
        };
        let cut = &archive[..2000];
        assert!(all(&mut Split::new(cut, None)).is_err());
        let filled = all(&mut Split::new(cut, None).filling(10_000)).unwrap();
        assert_eq!((&filled[..2000], &filled[2000..]), (cut, &[0; 512 + 10_000 - 2000][..]));
        assert!(all(&mut Split::new(cut, None).filling(1000)).is_err());
        assert_eq!(all(&mut Split::new(&archive[..], None).filling(1000)).unwrap(), archive);
    }

    /// What comes of an archive: all of it put together, and the lengths of its files.
    fn split(bytes: &[u8], is_length_known: bool) -> (Vec<u8>, Vec<u64>) {
        let mut split = Split::new(bytes, is_length_known.then_some(bytes.len() as u64));
        let (mut joined, mut files) = (Vec::new(), Vec::new());
        while let Some(part) = split.next_part().expect("a slice does not fail") {
            match part {
                Part::Raw(bytes) | Part::Piece(bytes) => joined.extend_from_slice(&bytes),
                Part::File(size) => {
                    files.push(size);
                    let copied = std::io::copy(&mut split, &mut joined).expect("a file");
                    assert_eq!(copied, size);
                }
            }
        }
        (joined, files)
    }

    fn archive(files: &[(String, Vec<u8>)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_entry_type(tar::EntryType::Regular);
            builder.append_data(&mut header, name, &content[..]).expect("it fits");
        }
        builder.into_inner().expect("an archive")
    }

    fn some_archive() -> impl Strategy<Value = Vec<u8>> {
        // Long names take headers of their own.
        let file = ("[a-z]{1,150}", prop::collection::vec(any::<u8>(), 0..2000));
        prop::collection::vec(file, 0..6).prop_map(|files| archive(&files))
    }

    proptest! {
        #[test]
        fn an_archive_comes_out_as_it_went_in(bytes in some_archive(), is_known in any::<bool>()) {
            prop_assert_eq!(split(&bytes, is_known).0, bytes);
        }

        #[test]
        fn so_does_a_damaged_one(
            bytes in some_archive(), damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            end in any::<prop::sample::Index>(),
        ) {
            let mut bytes = bytes;
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.truncate(end.index(bytes.len() + 1));
            prop_assert_eq!(split(&bytes, true).0, bytes);
        }

        #[test]
        fn so_does_anything_else(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            prop_assert_eq!(split(&bytes, true).0, bytes);
        }
    }

    #[test]
    fn every_file_comes_by_itself() {
        let long = "n".repeat(140);
        let files: Vec<(String, Vec<u8>)> = [("a", 3), ("empty", 0), (&long[..], 700), ("z", 512)]
            .map(|(name, size)| (name.to_owned(), vec![7; size]))
            .into();
        let bytes = archive(&files);
        assert!(is_archive(&bytes));
        assert_eq!(split(&bytes, true).1, [3, 700, 512]);
        assert_eq!(split(&bytes, false), (bytes, vec![3, 700, 512]));
    }

    #[test]
    fn a_size_in_an_extended_header_counts() {
        let records = b"12 size=600\n".to_vec();
        let mut bytes = archive(&[("pax".into(), records)]);
        bytes.truncate(1024);
        bytes[156] = b'x';
        let sum: u32 = bytes[..512]
            .iter()
            .enumerate()
            .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
            .sum();
        bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let mut file = archive(&[("f".into(), vec![9; 600])]);
        // The header itself says nothing of use.
        file[124..136].copy_from_slice(b"00000000000\0");
        let sum: u32 = file[..512]
            .iter()
            .enumerate()
            .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
            .sum();
        file[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes.extend_from_slice(&file);
        assert_eq!(split(&bytes, true), (bytes, vec![600]));
    }

    #[test]
    fn a_file_that_is_longer_than_the_stream_is_none() {
        let bytes = archive(&[("a".into(), vec![1; 100_000])]);
        let short = &bytes[..50_000];
        assert_eq!(split(short, true), (short.to_vec(), vec![]));
        let mut unknown = Split::new(short, None);
        assert!(matches!(unknown.next_part(), Ok(Some(Part::Raw(_)))));
        assert!(matches!(unknown.next_part(), Ok(Some(Part::File(100_000)))));
        assert!(unknown.next_part().is_err());
    }
}
