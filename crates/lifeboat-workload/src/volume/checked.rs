//! An engine's archive of a volume, checked while it passes.
//!
//! Must stay true: whoever reads to the end without an error has read a whole archive whose links are links. Engines get
//! two things wrong and call it success: an archive ends early where a file shrank while it was read, and where a volume
//! has several file systems in it, equal inode numbers make links of files that have nothing in common. So the archive
//! has to be whole, and what both names of a link lead to has to be the same, content included: times are too coarse to
//! tell two files apart that were written together. So linked files are read twice more.
//!
//! A second helper is asked about links: the one that is read from is locked until the archive ends.

use super::Error;
use super::helper_container::{Access, HelperContainer};
use crate::engine::Engine;
use crate::engine::views::Volume;
use crate::piped::Piped;
use blake3::{Hash, Hasher};
use lifeboat_transfer::source::archive::{Kind, Members};
use std::io::{self, PipeWriter, Read, Write};
use std::sync::Arc;

/// What a check needs besides the archive.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) engine: Engine,
    pub(super) run: String,
    pub(super) volume: Volume,
    pub(super) container: Arc<HelperContainer>,
}

/// An archive that is checked while it is read.
#[derive(Debug)]
pub struct CheckedArchive(Piped);

impl CheckedArchive {
    /// Opens the archive of the volume that the helper mounts in place 0.
    pub(super) fn open(source: Source) -> Result<Self, Error> {
        let archive = source.container.archive(0)?;
        Piped::begin(move |passing| check(archive, passing, &source)).map(Self).map_err(Error::Pipe)
    }
}

impl Read for CheckedArchive {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

/// Gives on what it reads.
struct Tee<R> {
    archive: R,
    passing: PipeWriter,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.archive.read(buffer)?;
        self.passing.write_all(&buffer[..length])?;
        Ok(length)
    }
}

fn check(archive: impl Read, passing: PipeWriter, source: &Source) -> Result<(), Error> {
    let mut members = Members::new(Tee { archive, passing });
    let mut links = None;
    while let Some(member) = members.next_member().map_err(Error::Unsound)? {
        let Kind::HardLink(target) = &member.kind else { continue };
        let links = match &mut links {
            Some(links) => links,
            none => none.insert(Links::new(source)?),
        };
        links.check(&member.name, target)?;
    }
    links.map_or(Ok(()), |links| links.helper.remove())
}

/// Looks at both names of links.
struct Links {
    helper: HelperContainer,
    /// Many names are links to one.
    last: Option<(Vec<u8>, Option<Hash>)>,
}

impl Links {
    fn new(source: &Source) -> Result<Self, Error> {
        let helper = HelperContainer::create(&source.engine, &source.run, &[(&source.volume, Access::Read)])?;
        Ok(Self { helper, last: None })
    }

    fn check(&mut self, name: &[u8], target: &[u8]) -> Result<(), Error> {
        let theirs = match self.last.take() {
            Some((last, hash)) if last == target => hash,
            _ => self.look_at(target)?,
        };
        let ours = self.look_at(name)?;
        self.last = Some((target.to_vec(), theirs));
        // Of a name that is gone, or is no text, nothing can be known; the archive has to be believed.
        match (ours, theirs) {
            (Some(ours), Some(theirs)) if ours != theirs => {
                let shown = |name: &[u8]| String::from_utf8_lossy(plain(name)).into_owned();
                Err(Error::FalseLink { name: shown(name), target: shown(target) })
            }
            _ => Ok(()),
        }
    }

    /// Everything that an archive shows of one file, as one number.
    fn look_at(&self, name: &[u8]) -> Result<Option<Hash>, Error> {
        let Ok(name) = std::str::from_utf8(plain(name)) else { return Ok(None) };
        let Some(stat) = self.helper.stat(0, name)? else { return Ok(None) };
        let mut members = Members::new(self.helper.part(0, name)?);
        let Some(member) = members.next_member().map_err(Error::Unsound)? else { return Ok(None) };
        let mut hasher = Hasher::new();
        let facts = (&member.kind, member.mode, member.uid, member.gid, stat.size, stat.modified);
        hasher.update(format!("{facts:?}").as_bytes());
        io::copy(&mut members, &mut hasher).map_err(Error::Pipe)?;
        Ok(Some(hasher.finalize()))
    }
}

fn plain(name: &[u8]) -> &[u8] {
    name.strip_prefix(b"./").unwrap_or(name)
}
