//! Goes through an archive, member by member.

use super::header::{Header, Wrong};
use super::pax::{self, Extended, Sparse};
use super::sparse::{self, MapReader};
use super::{ArchiveError, BLOCK_BYTES, EXTENDED_BYTES_MAX, Kind, Member, STRETCHES_MAX};
use lifeboat_format::Timestamp;
use std::io::Read;

type Result<T> = std::result::Result<T, ArchiveError>;

/// The members of an archive in its order. Between two of them, [`Read`] gives the content of the first.
pub struct Members<R> {
    stream: R,
    /// Bytes of the archive read so far.
    at: u64,
    /// Where the last header began.
    header_at: u64,
    /// Bytes of the current member that are still to come, and the padding behind them.
    left: u64,
    padding: u64,
    global: Extended,
    is_finished: bool,
}

/// What stood before a member's own header.
#[derive(Default)]
struct Before {
    extended: Option<Extended>,
    name: Option<Vec<u8>>,
    link_name: Option<Vec<u8>>,
}

impl<R: Read> Members<R> {
    /// The members of what `stream` gives.
    pub fn new(stream: R) -> Self {
        Self {
            stream,
            at: 0,
            header_at: 0,
            left: 0,
            padding: 0,
            global: Extended::default(),
            is_finished: false,
        }
    }

    /// The next member; what is left of the last one is passed over. `None` after the end of a whole archive.
    ///
    /// # Errors
    /// Anything but a sound archive, from its first byte to its last. After an error nothing more comes.
    pub fn next_member(&mut self) -> Result<Option<Member>> {
        if self.is_finished {
            return Ok(None);
        }
        self.is_finished = true;
        let member = self.step()?;
        self.is_finished = member.is_none();
        Ok(member)
    }

    fn step(&mut self) -> Result<Option<Member>> {
        self.pass_over()?;
        let mut before = Before::default();
        loop {
            self.header_at = self.at;
            let mut block = [0; BLOCK_BYTES];
            self.fill(&mut block, "there is no end mark")?;
            if block.iter().all(|byte| *byte == 0) {
                if before.extended.is_some() || before.name.is_some() || before.link_name.is_some() {
                    return Err(self.damaged("an extended header is followed by nothing"));
                }
                self.end()?;
                return Ok(None);
            }
            let header = Header::new(&block).map_err(|wrong| self.damaged(wrong))?;
            match header.kind() {
                b'L' => before.name = Some(self.long_name(&header)?),
                b'K' => before.link_name = Some(self.long_name(&header)?),
                b'x' | b'X' => {
                    let mut extended = before.extended.take().unwrap_or_else(|| self.global.clone());
                    self.read_extended(&header, &mut extended)?;
                    before.extended = Some(extended);
                }
                b'g' => {
                    let mut global = std::mem::take(&mut self.global);
                    self.read_extended(&header, &mut global)?;
                    self.global = global;
                }
                // A label on a volume: it has no content, and nothing of the tree is in it.
                b'V' => {
                    self.left = header.size().map_err(|wrong| self.damaged(wrong))?;
                    self.padding = padding_of(self.left);
                    self.pass_over()?;
                }
                _ => return self.member(&header, before).map(Some),
            }
        }
    }

    fn member(&mut self, header: &Header<'_>, before: Before) -> Result<Member> {
        let damaged = |wrong: Wrong| ArchiveError::Damaged { at: self.header_at, detail: wrong };
        let extended = before.extended.unwrap_or_else(|| self.global.clone());
        let name = extended.path.or(before.name).unwrap_or_else(|| header.name());
        let link = extended.link_path.or(before.link_name).unwrap_or_else(|| header.link_name());
        let stored = match extended.size {
            Some(size) => size,
            None => header.size().map_err(damaged)?,
        };
        let mtime = match extended.mtime {
            Some(time) => time,
            None => Timestamp { seconds: header.seconds().map_err(damaged)?, nanos: 0 },
        };
        let kind = self.kind(header, &name, link)?;
        let mut member = Member {
            kind,
            mode: header.mode().map_err(damaged)?,
            uid: extended.uid.map_or_else(|| header.uid(), Ok).map_err(damaged)?,
            gid: extended.gid.map_or_else(|| header.gid(), Ok).map_err(damaged)?,
            mtime,
            size: stored,
            stored_bytes: stored,
            stretches: None,
            xattrs: extended.xattrs.all,
            name,
        };
        (self.left, self.padding) = (stored, padding_of(stored));
        if member.kind != Kind::File {
            // What stands behind a directory or link is not its content; it is passed over with it.
            (member.size, member.stored_bytes) = (0, 0);
        } else if header.kind() == b'S' {
            self.read_gnu_map(header, &mut member)?;
        } else if extended.sparse.is_any() {
            self.read_pax_map(extended.sparse, &mut member)?;
        }
        Ok(member)
    }

    fn kind(&self, header: &Header<'_>, name: &[u8], link: Vec<u8>) -> Result<Kind> {
        let device = || header.device().map_err(|wrong| self.damaged(wrong));
        Ok(match header.kind() {
            // Before there was a kind for directories, a slash marked them.
            b'0' | 0 if name.ends_with(b"/") => Kind::Directory,
            b'0' | 0 | b'7' => Kind::File,
            b'S' if header.is_gnu() => Kind::File,
            b'1' => Kind::HardLink(link),
            b'2' => Kind::Symlink(link),
            b'3' => device().map(|(major, minor)| Kind::CharDevice(major, minor))?,
            b'4' => device().map(|(major, minor)| Kind::BlockDevice(major, minor))?,
            b'5' | b'D' => Kind::Directory,
            b'6' => Kind::Fifo,
            b'M' => return Err(self.unsupported("the continuation of a file from another volume".into())),
            other => return Err(self.unsupported(format!("kind {:?}", char::from(other)))),
        })
    }

    /// GNU's own sparse files: the map is in the header and in blocks behind it.
    fn read_gnu_map(&mut self, header: &Header<'_>, member: &mut Member) -> Result<()> {
        let (pairs, mut has_more, size) = header.sparse();
        let mut map = Vec::new();
        sparse::add_pairs(&mut map, pairs).map_err(|wrong| self.damaged(wrong))?;
        while has_more {
            let mut block = [0; BLOCK_BYTES];
            self.fill(&mut block, "a map of holes")?;
            sparse::add_pairs(&mut map, &block[..504]).map_err(|wrong| self.damaged(wrong))?;
            has_more = block[504] != 0;
        }
        let size = super::header::number(size).map_err(|wrong| self.damaged(wrong))?.unwrap_or(0);
        member.size = super::header::size_of(size).map_err(|wrong| self.damaged(wrong))?;
        self.set_map(map, member)
    }

    fn read_pax_map(&mut self, sparse: Sparse, member: &mut Member) -> Result<()> {
        member.size = sparse.size.ok_or_else(|| self.damaged("a file with holes has no size"))?;
        if member.size > i64::MAX as u64 {
            return Err(self.damaged("its size is no file's"));
        }
        if let Some(name) = sparse.name {
            member.name = name;
        }
        let map = match (sparse.major, sparse.minor) {
            (None | Some(0), _) => {
                if sparse.map.len() > 2 * STRETCHES_MAX || !sparse.map.len().is_multiple_of(2) {
                    return Err(self.damaged("its map of holes is none"));
                }
                sparse::pairs(&sparse.map)
            }
            (Some(1), Some(0)) => {
                let mut reader = MapReader::new();
                loop {
                    if self.left < BLOCK_BYTES as u64 {
                        return Err(self.damaged("its map of holes does not end"));
                    }
                    let mut block = [0; BLOCK_BYTES];
                    self.fill(&mut block, "a map of holes")?;
                    self.left -= BLOCK_BYTES as u64;
                    if reader.take(&block).map_err(|wrong| self.damaged(wrong))? {
                        break;
                    }
                }
                reader.pairs()
            }
            (Some(major), _) => return Err(self.unsupported(format!("holes of GNU's version {major}"))),
        };
        member.stored_bytes = self.left;
        self.set_map(map, member)
    }

    fn set_map(&self, map: Vec<(u64, u64)>, member: &mut Member) -> Result<()> {
        let map =
            sparse::checked(map, member.size, member.stored_bytes).map_err(|wrong| self.damaged(wrong))?;
        member.stretches = Some(map);
        Ok(())
    }

    fn read_extended(&mut self, header: &Header<'_>, extended: &mut Extended) -> Result<()> {
        let bytes = self.content_of(header)?;
        pax::read_into(extended, &bytes, STRETCHES_MAX).map_err(|wrong| self.damaged(wrong))
    }

    fn long_name(&mut self, header: &Header<'_>) -> Result<Vec<u8>> {
        let mut name = self.content_of(header)?;
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        name.truncate(end);
        Ok(name)
    }

    /// The content of a header that is about another one.
    fn content_of(&mut self, header: &Header<'_>) -> Result<Vec<u8>> {
        let size = header.size().map_err(|wrong| self.damaged(wrong))?;
        if size > EXTENDED_BYTES_MAX {
            return Err(self.damaged("an extended header is too long"));
        }
        (self.left, self.padding) = (size, padding_of(size));
        let mut bytes = Vec::new();
        let mut piece = [0; BLOCK_BYTES];
        while self.left > 0 {
            // Grows with what is there, not with what a header promises.
            let length = self.content(&mut piece)?;
            bytes.extend_from_slice(&piece[..length]);
        }
        self.pass_over()?;
        Ok(bytes)
    }

    /// Some of the current member's content; nothing at its end.
    fn content(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let length = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let length = self.some(&mut buffer[..length])?;
        if length == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(ArchiveError::Short { at: self.at, within: "a member's content" });
        }
        self.left -= length as u64;
        Ok(length)
    }

    fn pass_over(&mut self) -> Result<()> {
        let mut piece = [0; 8 << 10];
        while self.left > 0 {
            self.content(&mut piece)?;
        }
        let padding = std::mem::take(&mut self.padding) as usize;
        self.fill(&mut piece[..padding], "the padding behind a member")
    }

    /// A second block of zeros, and then nothing else: what follows would be lost without a word.
    fn end(&mut self) -> Result<()> {
        let mut block = [0; BLOCK_BYTES];
        self.fill(&mut block, "its end mark has one block instead of two")?;
        loop {
            if block.iter().any(|byte| *byte != 0) {
                return Err(self.damaged("something follows its end mark"));
            }
            match self.some(&mut block)? {
                0 => return Ok(()),
                length => block[length..].fill(0),
            }
        }
    }

    fn fill(&mut self, buffer: &mut [u8], within: &'static str) -> Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.some(&mut buffer[filled..])? {
                0 => return Err(ArchiveError::Short { at: self.at, within }),
                length => filled += length,
            }
        }
        Ok(())
    }

    fn some(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match self.stream.read(buffer) {
                Ok(length) => {
                    self.at += length as u64;
                    return Ok(length);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ArchiveError::Stream(error)),
            }
        }
    }

    fn damaged(&self, detail: Wrong) -> ArchiveError {
        ArchiveError::Damaged { at: self.header_at, detail }
    }

    fn unsupported(&self, what: String) -> ArchiveError {
        ArchiveError::Unsupported { at: self.header_at, what }
    }
}

/// The content of the current member: its stored bytes, stretch behind stretch.
impl<R: Read> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        Ok(self.content(buffer)?)
    }
}

pub(super) fn padding_of(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK_BYTES as u64) - bytes
}
