//! Plain archives: nothing of them but names, lengths and contents means anything.

use lifeboat_transfer::dump::head::{BLOCK_BYTES, padding, plain_head};
use lifeboat_transfer::source::archive::Kind;
use std::io::{self, BufWriter, Read, Write};

/// What is read from an engine or given to one comes in pieces of this length.
pub(crate) const BUFFER_BYTES: usize = 256 << 10;

/// Writes one.
pub(crate) struct Packer<W: Write>(BufWriter<W>);

impl<W: Write> Packer<W> {
    pub(crate) fn new(output: W) -> Self {
        Self(BufWriter::with_capacity(BUFFER_BYTES, output))
    }

    fn head(&mut self, name: &str, bytes: u64) -> io::Result<()> {
        self.0.write_all(&plain_head(name, Kind::File, bytes)?)
    }

    pub(crate) fn file(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.head(name, bytes.len() as u64)?;
        self.0.write_all(bytes)?;
        self.pad(bytes.len() as u64)
    }

    pub(crate) fn stream(&mut self, name: &str, bytes: u64, content: &mut dyn Read) -> io::Result<()> {
        self.head(name, bytes)?;
        if io::copy(content, &mut self.0)? != bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.pad(bytes)
    }

    fn pad(&mut self, bytes: u64) -> io::Result<()> {
        self.0.write_all(&[0; BLOCK_BYTES][..padding(bytes)])
    }

    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.0.write_all(&[0; 2 * BLOCK_BYTES])?;
        self.0.flush()
    }
}
