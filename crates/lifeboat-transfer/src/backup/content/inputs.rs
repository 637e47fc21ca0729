//! Where bytes come from. A call that a signal interrupted gives `None`: whoever reads looks whether it shall stop.

use super::Failure;
use lifeboat_chunker::pages::ReadAt;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use std::io::Read;

pub(super) fn read_some(file: impl AsFd, buffer: &mut [u8]) -> Result<Option<usize>, Failure> {
    match rustix::io::read(file, buffer) {
        Ok(length) => Ok(Some(length)),
        Err(Errno::INTR) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

pub(super) fn read_stream(
    stream: &mut (impl Read + ?Sized),
    buffer: &mut [u8],
) -> Result<Option<usize>, Failure> {
    match stream.read(buffer) {
        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Ok(None),
        result => result.map(Some).map_err(Failure::File),
    }
}

pub(super) fn read_at(file: impl AsFd, buffer: &mut [u8], offset: u64) -> Result<Option<usize>, Failure> {
    match rustix::io::pread(file, buffer, offset) {
        Ok(length) => Ok(Some(length)),
        Err(Errno::INTR) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// What recognises page files reads through this.
pub(super) struct OpenFile<'f>(pub(super) &'f OwnedFd);

impl ReadAt for OpenFile<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match rustix::io::pread(self.0, &mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(length) => filled += length,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(filled)
    }
}
