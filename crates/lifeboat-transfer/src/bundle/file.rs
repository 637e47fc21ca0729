//! Bundles as streams of bytes.
//!
//! Must stay true: one frame is in memory, and a stream that ends before the last frame, or goes on behind it, is an
//! error. What the stream is, a file or a pipe, makes no difference.

use super::error::{Error, Result};
use lifeboat_format::Timestamp;
use lifeboat_format::bundle::{BundleKey, FRAME_HEAD_BYTES, FrameHead, PREFIX_BYTES, Part};
use lifeboat_format::slot::Secret;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Writes a bundle.
pub struct BundleWriter<W> {
    key: BundleKey,
    frames: u64,
    output: W,
    /// Bytes written.
    pub bytes: u64,
}

impl<W: Write> BundleWriter<W> {
    /// Begins a bundle that `secret` opens.
    pub fn new(secret: &Secret<'_>, now: Timestamp, output: W) -> Result<Self> {
        let (key, header) =
            BundleKey::create(secret, now).map_err(Error::format("the bundle cannot be sealed"))?;
        let mut writer = Self { key, frames: 0, output, bytes: 0 };
        writer.put(&header)?;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes += bytes.len() as u64;
        self.output.write_all(bytes).map_err(Error::io("the bundle cannot be written"))
    }

    /// Appends a part.
    pub fn write(&mut self, part: &Part) -> Result<()> {
        let frame = self.key.seal(self.frames, part).map_err(Error::format("the bundle cannot be sealed"))?;
        self.frames += 1;
        self.put(&frame)
    }

    /// Hands the stream back, flushed.
    pub fn finish(mut self) -> Result<W> {
        self.output.flush().map_err(Error::io("the bundle cannot be written"))?;
        Ok(self.output)
    }
}

/// Reads a bundle, part by part; ends after the first error.
pub struct BundleReader<R> {
    key: BundleKey,
    frames: u64,
    input: R,
    is_ended: bool,
}

impl<R: Read> BundleReader<R> {
    /// Reads the beginning of a bundle and opens it.
    pub fn new(secret: &Secret<'_>, mut input: R) -> Result<Self> {
        let doing = || Error::format("the bundle cannot be opened");
        let mut prefix = [0; PREFIX_BYTES + 4];
        read_whole(&mut input, &mut prefix, 0)?;
        let (id, slot_bytes) = BundleKey::decode_prefix(&prefix).map_err(doing())?;
        let mut slot = vec![0; slot_bytes as usize];
        read_whole(&mut input, &mut slot, 0)?;
        let key = BundleKey::open(id, &slot, secret).map_err(doing())?;
        Ok(Self { key, frames: 0, input, is_ended: false })
    }

    fn read(&mut self) -> Result<Option<Part>> {
        if self.is_ended {
            return Ok(None);
        }
        let mut head = [0; FRAME_HEAD_BYTES];
        read_whole(&mut self.input, &mut head, self.frames)?;
        let doing = || Error::format("a frame of the bundle cannot be opened");
        let head = FrameHead::decode(&head).map_err(doing())?;
        let mut sealed = vec![0; head.box_bytes as usize];
        read_whole(&mut self.input, &mut sealed, self.frames)?;
        let part = self.key.open_frame(self.frames, head, &sealed).map_err(doing())?;
        self.frames += 1;
        if matches!(part, Part::End(_)) {
            self.is_ended = true;
            match self.input.read(&mut [0; 1]) {
                Ok(0) => {}
                Ok(_) => return Err(Error::Damaged("something follows its end".to_owned())),
                Err(source) => return Err(Error::io("the bundle cannot be read")(source)),
            }
        }
        Ok(Some(part))
    }
}

impl<R: Read> Iterator for BundleReader<R> {
    type Item = Result<Part>;

    fn next(&mut self) -> Option<Self::Item> {
        let result = self.read();
        self.is_ended |= result.is_err();
        result.transpose()
    }
}

fn read_whole(input: &mut impl Read, buffer: &mut [u8], frames: u64) -> Result<()> {
    input.read_exact(buffer).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::CutOff(frames),
        _ => Error::io("the bundle cannot be read")(error),
    })
}

/// A bundle's file while it is written: without its name until all of it is on disk.
pub struct BundleFile {
    file: BufWriter<NamedTempFile>,
    path: PathBuf,
}

impl BundleFile {
    /// Begins a file that will be called `path`; an existing one is never replaced.
    pub fn create(path: &Path) -> Result<Self> {
        let doing = || Error::io("the bundle's file cannot be made");
        if path.symlink_metadata().is_ok() {
            return Err(doing()(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "there is a file of that name",
            )));
        }
        let file = NamedTempFile::new_in(folder_of(path)).map_err(doing())?;
        Ok(Self { file: BufWriter::with_capacity(1 << 20, file), path: path.to_owned() })
    }

    /// Gives it its name. After this returns, power may go.
    pub fn keep(self) -> Result<()> {
        let doing = || Error::io("the bundle's file cannot be written");
        let file = self.file.into_inner().map_err(|error| doing()(error.into_error()))?;
        file.as_file().sync_all().map_err(doing())?;
        file.persist_noclobber(&self.path).map_err(|error| doing()(error.error))?;
        std::fs::File::open(folder_of(&self.path)).and_then(|folder| folder.sync_all()).map_err(doing())
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

impl Write for BundleFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
