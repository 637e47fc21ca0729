//! A container's writable layer through the engine, as the archive of a whole source.
//!
//! Must stay true: what comes out is the tree that the layer's folder would give, but for what
//! [`super::reach`] says is lost; a path that went between the list and the copy is as if it had never been listed; an
//! archive that could not be made to its end is an error for whoever reads it.
//!
//! An engine makes the list by comparing whole trees, whatever the storage driver: where a folder hides the image's, all
//! that went with that is listed as deleted, one by one. That a folder's time alone changed is not listed.

use super::changes::{Changes, Fetch};
use super::frozen::Frozen;
use super::{LAYER_FOLDER, LayerError, left_out};
use crate::engine::views::Container;
use crate::engine::{ArchiveReader, Engine};
use crate::piped::Piped;
use lifeboat_format::Timestamp;
use lifeboat_transfer::backup::MemoryFile;
use lifeboat_transfer::dump::head::{BLOCK_BYTES, head, padding};
use lifeboat_transfer::source::archive::{Kind, Member, Members};
use std::io::{self, Read, Write};

/// What an archive is made of.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) engine: Engine,
    pub(super) run: String,
    pub(super) container: Container,
    pub(super) files: Vec<MemoryFile>,
}

/// The archive, made while it is read.
#[derive(Debug)]
pub(super) struct LayerArchive(Piped);

impl LayerArchive {
    pub(super) fn open(source: Source) -> io::Result<Self> {
        Piped::begin(move |passing| {
            Making::new(source, io::BufWriter::with_capacity(1 << 16, passing)).and_then(Making::whole)
        })
        .map(Self)
    }
}

impl Read for LayerArchive {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

struct Making<W> {
    source: Source,
    copy: Frozen,
    changes: Changes,
    out: W,
}

impl<W: Write> Making<W> {
    fn new(source: Source, out: W) -> Result<Self, LayerError> {
        let copy = Frozen::copy(&source.engine, &source.run, &source.container)?;
        let list = source.engine.container_changes(&source.container.id)?;
        let changes = Changes::new(&list, left_out(&source.container));
        Ok(Self { source, copy, changes, out })
    }

    fn whole(mut self) -> Result<(), LayerError> {
        for file in &self.source.files {
            let mut member = empty(file.at.to_slashes(), Kind::File);
            member.mode = file.metadata.mode;
            member.mtime = file.metadata.mtime;
            (member.size, member.stored_bytes) = (file.bytes.len() as u64, file.bytes.len() as u64);
            self.out.write_all(&head(&member)?)?;
            self.out.write_all(&file.bytes)?;
            self.out.write_all(&ZEROS[..padding(member.size)])?;
        }
        self.folder_alone("/")?;
        for fetch in self.changes.steps() {
            self.fetch(&fetch)?;
        }
        self.copy.remove()?;
        self.out.write_all(&ZEROS)?;
        Ok(self.out.flush()?)
    }

    /// Only the root's own metadata.
    fn folder_alone(&mut self, path: &str) -> Result<(), LayerError> {
        let Some(archive) = self.copy.archive(path)? else { return Ok(()) };
        if let Some(member) = next(&mut Members::new(archive), path)? {
            self.out.write_all(&head(&Member { name: place(path.as_bytes()), ..member })?)?;
        }
        Ok(())
    }

    fn fetch(&mut self, fetch: &Fetch) -> Result<(), LayerError> {
        let asked = fetch.path().to_owned();
        if matches!(fetch, Fetch::Deleted(_)) {
            let whiteout = empty(place(asked.as_bytes()), Kind::CharDevice(0, 0));
            return Ok(self.out.write_all(&head(&whiteout)?)?);
        }
        let Some(archive) = self.copy.archive(&asked)? else { return Ok(()) };
        let mut members = Members::new(archive);
        while let Some(mut member) = next(&mut members, &asked)? {
            let path = path_of(&asked, &member.name);
            let text = String::from_utf8_lossy(&path).into_owned();
            let is_wanted = match fetch {
                Fetch::New(_) => !self.changes.is_left_out(&text),
                Fetch::Alone(_) | Fetch::Deleted(_) => true,
                Fetch::Listed(_) => self.changes.is_listed(&text),
            };
            let is_folder = member.kind == Kind::Directory;
            if is_wanted {
                member.name = place(&path);
                if let Kind::HardLink(target) = &mut member.kind {
                    *target = place(&path_of(&asked, target));
                }
                self.pass(&member, &mut members, &asked)?;
            }
            if is_folder && matches!(fetch, Fetch::Alone(_)) {
                // The rest of the stream is what the image has in there: the connection is dropped.
                break;
            }
        }
        Ok(())
    }

    fn pass(
        &mut self,
        member: &Member,
        members: &mut Members<ArchiveReader>,
        asked: &str,
    ) -> Result<(), LayerError> {
        let unsound = |source| LayerError::Unsound { path: asked.to_owned(), source };
        self.out.write_all(&head(member)?)?;
        let copied = io::copy(&mut members.take(member.size), &mut self.out)?;
        if copied != member.size {
            let within = "a file is shorter than its header says";
            return Err(unsound(lifeboat_transfer::source::archive::ArchiveError::Short {
                at: copied,
                within,
            }));
        }
        Ok(self.out.write_all(&ZEROS[..padding(member.size)])?)
    }
}

const ZEROS: [u8; 2 * BLOCK_BYTES] = [0; 2 * BLOCK_BYTES];

fn next(members: &mut Members<ArchiveReader>, asked: &str) -> Result<Option<Member>, LayerError> {
    members.next_member().map_err(|source| LayerError::Unsound { path: asked.to_owned(), source })
}

fn empty(name: Vec<u8>, kind: Kind) -> Member {
    Member {
        name,
        kind,
        mode: 0,
        uid: 0,
        gid: 0,
        mtime: Timestamp::default(),
        size: 0,
        stored_bytes: 0,
        stretches: None,
        xattrs: Vec::new(),
    }
}

/// The path in the container of a member of the archive of `asked`: its names begin with the last part of that.
fn path_of(asked: &str, name: &[u8]) -> Vec<u8> {
    let name = name.strip_prefix(b"./").unwrap_or(name);
    let name = name.strip_suffix(b"/").unwrap_or(name);
    let mut path = asked.trim_end_matches('/').as_bytes().to_vec();
    if let Some(slash) = name.iter().position(|byte| *byte == b'/') {
        path.extend_from_slice(&name[slash..]);
    }
    if path.is_empty() { b"/".to_vec() } else { path }
}

/// Where a path of the container is in the source.
fn place(path: &[u8]) -> Vec<u8> {
    let mut place = LAYER_FOLDER.as_bytes().to_vec();
    if path != b"/" {
        place.extend_from_slice(path);
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_named_from_the_last_part_of_what_was_asked_for() {
        let path = |asked, name: &[u8]| String::from_utf8(path_of(asked, name)).unwrap();
        assert_eq!(path("/etc/passwd", b"passwd"), "/etc/passwd");
        assert_eq!(path("/a/new", b"new/"), "/a/new");
        assert_eq!(path("/a/new", b"new/sub/f"), "/a/new/sub/f");
        assert_eq!(path("/", b"/"), "/");
        assert_eq!(path("/", b"/etc/x"), "/etc/x");
        assert_eq!(place(b"/"), b"layer");
        assert_eq!(place(b"/etc/x"), b"layer/etc/x");
    }
}
